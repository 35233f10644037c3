/*
 * Arm PrimeCell UART PL011 (DDI 0183): polled transmit, receive by interrupt into a ring.
 * Leaves out: baud rate (the platform's firmware or QEMU has set it), modem lines, DMA.
 */
#ifndef DRIVERS_PL011_H
#define DRIVERS_PL011_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "hal/mmio.h"

#define PL011_RX_BYTES 256 /* power of two */

struct pl011 {
    struct mmio regs;
    uint8_t rx[PL011_RX_BYTES];
    _Atomic uint32_t rx_head; /* written by the interrupt handler */
    _Atomic uint32_t rx_tail; /* written by the reader, core 0 */
    bool (*rx_take)(
        uint8_t byte);      /* NULL, or sees bytes first; true: it does not go into the ring */
    uint32_t rx_lost_count; /* bytes that came while the ring was full, or with line errors */
};

/* Enables the transmitter. The registers at `base` are mapped as a device. */
void pl011_init(struct pl011 *uart, uintptr_t base);

/* From now on pl011_interrupt() is to be called on the UART's interrupt. */
void pl011_rx_enable(struct pl011 *uart);
void pl011_interrupt(void *uart);

/* Waits for room at most PL011_BYTE_TIMEOUT_NS per byte; when the line is stuck, drops the rest of
 * the call. Any core, any context. */
#define PL011_BYTE_TIMEOUT_NS UINT64_C(10000000)
void pl011_write(struct pl011 *uart, const char *bytes, size_t len_bytes);

/* A received byte, or -1. Core 0. */
int pl011_read(struct pl011 *uart);

#endif
