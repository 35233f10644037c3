/*
 * Ethernet ports: virtio network devices behind the root complex.
 */
#ifndef BOARDS_QEMU_VIRT_ETHERNET_H
#define BOARDS_QEMU_VIRT_ETHERNET_H

#include "hal/board.h"

/* Adds each virtio network device to board->eths, up to LIMIT_ETH_PORTS; without one there are
 * none. Takes the rings and buffers from the end of the pool. Core 0, at start, when PCIe devices
 * are enumerated and interrupts work. */
void qemu_virt_ethernet_init(struct board *board);

#endif
