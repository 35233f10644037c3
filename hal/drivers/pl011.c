#include "hal/drivers/pl011.h"

#include "base/bits.h"
#include "hal/clock.h"
#include "hal/cpu.h"

/* DDI 0183, chapter 3 */
#define REG_DR   0x000u
#define REG_FR   0x018u
#define REG_LCRH 0x02cu
#define REG_CR   0x030u
#define REG_IMSC 0x038u

#define DR_ERRORS   0xf00u
#define FR_RXFE     BIT32(4)
#define FR_TXFF     BIT32(5)
#define LCRH_8_BITS (3u << 5)
#define LCRH_FIFOS  BIT32(4)
#define CR_UARTEN   BIT32(0)
#define CR_TXE      BIT32(8)
#define CR_RXE      BIT32(9)
#define RX_BURST    4096u
#define INT_RX      BIT32(4)
#define INT_RT      BIT32(6) /* receive timeout: fewer bytes than the FIFO's trigger */

void pl011_init(struct pl011 *uart, uintptr_t base)
{
    uart->regs.base = base;
    atomic_store(&uart->rx_head, 0);
    atomic_store(&uart->rx_tail, 0);
    mmio_write32(uart->regs, REG_IMSC, 0);
    mmio_write32(uart->regs, REG_LCRH, LCRH_8_BITS | LCRH_FIFOS);
    mmio_write32(uart->regs, REG_CR, CR_UARTEN | CR_TXE | CR_RXE);
}

void pl011_rx_enable(struct pl011 *uart)
{
    mmio_write32(uart->regs, REG_IMSC, INT_RX | INT_RT);
}

void pl011_interrupt(void *arg)
{
    struct pl011 *uart = arg;

    /* Bounded; an emulator refills the FIFO while it is read, so that a whole management frame may
     * come at once. Both causes stay until the FIFO is read: ICR would take them away, and nobody
     * would tell of what is left. Where that does not interrupt again all the same (QEMU: only
     * the byte that finds the FIFO empty does), pl011_read() takes it. */
    for (uint32_t i = 0; i < RX_BURST && (mmio_read32(uart->regs, REG_FR) & FR_RXFE) == 0; i++) {
        uint32_t data = mmio_read32(uart->regs, REG_DR);
        uint32_t head = atomic_load_explicit(&uart->rx_head, memory_order_relaxed);
        uint32_t tail = atomic_load_explicit(&uart->rx_tail, memory_order_acquire);
        if ((data & DR_ERRORS) == 0 && uart->rx_take != NULL && uart->rx_take((uint8_t)data)) {
            continue;
        }
        if ((data & DR_ERRORS) != 0 || head - tail == PL011_RX_BYTES) {
            uart->rx_lost_count++;
            continue;
        }
        uart->rx[head % PL011_RX_BYTES] = (uint8_t)data;
        /* Pairs with the acquire in pl011_read(). */
        atomic_store_explicit(&uart->rx_head, head + 1, memory_order_release);
    }
}

static bool wait_for_room(struct pl011 *uart)
{
    if ((mmio_read32(uart->regs, REG_FR) & FR_TXFF) == 0) {
        return true;
    }
    uint64_t start_ns = clock_now_ns();
    while ((mmio_read32(uart->regs, REG_FR) & FR_TXFF) != 0) {
        if (clock_now_ns() - start_ns > PL011_BYTE_TIMEOUT_NS) {
            return false;
        }
        cpu_relax();
    }
    return true;
}

void pl011_write(struct pl011 *uart, const char *bytes, size_t len_bytes)
{
    for (size_t i = 0; i < len_bytes && wait_for_room(uart); i++) {
        mmio_write32(uart->regs, REG_DR, (uint8_t)bytes[i]);
    }
}

int pl011_read(struct pl011 *uart)
{
    uint32_t tail = atomic_load_explicit(&uart->rx_tail, memory_order_relaxed);
    if (tail == atomic_load_explicit(&uart->rx_head, memory_order_acquire)) {
        if ((mmio_read32(uart->regs, REG_FR) & FR_RXFE) != 0) {
            return -1;
        }
        uint64_t irq = cpu_irq_save(); /* as the interrupt would */
        pl011_interrupt(uart);
        cpu_irq_restore(irq);
        if (tail == atomic_load_explicit(&uart->rx_head, memory_order_acquire)) {
            return -1;
        }
    }
    int byte = uart->rx[tail % PL011_RX_BYTES];
    atomic_store_explicit(&uart->rx_tail, tail + 1, memory_order_release);
    return byte;
}
