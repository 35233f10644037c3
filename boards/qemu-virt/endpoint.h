/*
 * PCIe functions towards a host, through pcielink.
 */
#ifndef BOARDS_QEMU_VIRT_ENDPOINT_H
#define BOARDS_QEMU_VIRT_ENDPOINT_H

#include "hal/board.h"

/* Finds the link and adds its functions to board->eps; without one there are none. Core 0, at
 * start, when PCIe devices are enumerated and interrupts work. */
void qemu_virt_endpoint_init(struct board *board);

#endif
