/*
 * What firmware and bootloader both know of QEMU's `virt` machine: console, device tree, PSCI,
 * flash, PCIe. What is missing or broken stops the start with node and property named.
 */
#include "boards/qemu-virt/machine.h"

#include <string.h>
#include "base/bits.h"
#include "base/log.h"
#include "boot/boot.h"
#include "hal/console.h"
#include "hal/cpu.h"
#include "hal/drivers/gicv2.h"
#include "hal/drivers/pl011.h"
#include "hal/irq.h"

/* Where QEMU has had the first PL011 since virt exists: for messages before the device tree is
 * read. */
#define EARLY_UART_BASE 0x09000000u

#define DTB_MAX_BYTES (2u << 20)
#define PAGE          4096u

struct dt machine_dt;
struct pl011 machine_uart;
static bool uart_ready;

extern char __warm_end[];

struct machine_warm_end *machine_warm_end(void)
{
    return (struct machine_warm_end *)((uintptr_t)__warm_end - sizeof(struct machine_warm_end));
}

/* --- console -----------------------------------------------------------------------------------
 */

void console_write(const char *bytes, size_t len_bytes)
{
    if (!uart_ready) {
        return;
    }
    /* Terminals want a carriage return before each newline. */
    while (len_bytes > 0) {
        const char *newline = memchr(bytes, '\n', len_bytes);
        size_t part_bytes = newline == NULL ? len_bytes : (size_t)(newline - bytes);
        pl011_write(&machine_uart, bytes, part_bytes);
        if (newline == NULL) {
            return;
        }
        pl011_write(&machine_uart, "\r\n", 2);
        bytes += part_bytes + 1;
        len_bytes -= part_bytes + 1;
    }
}

int console_read(void)
{
    return pl011_read(&machine_uart);
}

void console_set_take(bool (*take)(uint8_t byte))
{
    uint64_t state = cpu_irq_save();
    machine_uart.rx_take = take;
    cpu_irq_restore(state);
}

bool board_has_console(void)
{
    return uart_ready;
}

void board_early_console(void)
{
    if (arch_map(EARLY_UART_BASE, PAGE, ARCH_MAP_DEVICE) == STATUS_OK) {
        pl011_init(&machine_uart, EARLY_UART_BASE);
        uart_ready = true;
    }
}

uint64_t board_clock_hz(const void *dtb)
{
    int node;
    uint32_t hz;
    if (dt_open(&machine_dt, dtb, DTB_MAX_BYTES) != STATUS_OK ||
        dt_find(&machine_dt, -1, "arm,armv8-timer", &node) != STATUS_OK ||
        dt_u32(&machine_dt, node, "clock-frequency", &hz) != STATUS_OK) {
        return 0;
    }
    return hz;
}

/* --- device tree -------------------------------------------------------------------------------
 */

void machine_need(enum status status)
{
    if (status != STATUS_OK) {
        boot_stop("device tree: %s%s%s%s: %s", machine_dt.error.node,
                  machine_dt.error.property != NULL ? ": property '" : "",
                  machine_dt.error.property != NULL ? machine_dt.error.property : "",
                  machine_dt.error.property != NULL ? "'" : "", machine_dt.error.problem);
    }
}

int machine_need_node(const char *compatible)
{
    int node;
    machine_need(dt_find(&machine_dt, -1, compatible, &node));
    return node;
}

uintptr_t machine_map_registers(int node, uint32_t index)
{
    struct dt_range range;
    machine_need(dt_reg(&machine_dt, node, index, &range));
    uint64_t base = align_down(range.base, PAGE);
    uint64_t end = align_up(range.base + range.len_bytes, PAGE);
    enum status status = arch_map(base, end - base, ARCH_MAP_DEVICE);
    if (status != STATUS_OK) {
        machine_need(dt_fail(&machine_dt, node, "reg",
                             "overlaps memory or another device, or cannot be mapped", status));
    }
    return (uintptr_t)range.base;
}

/* As machine_map_registers(), elsewhere: QEMU has its first flash bank at address 0. */
static uintptr_t map_flash(int node, const struct dt_range *range)
{
    uintptr_t alias;
    if (arch_map_alias(range->base, range->len_bytes, ARCH_MAP_DEVICE, &alias) != STATUS_OK) {
        machine_need(dt_fail(&machine_dt, node, "reg", "cannot be mapped", STATUS_BAD_DATA));
    }
    return alias;
}

void machine_open(const void *dtb)
{
    machine_need(dt_open(&machine_dt, dtb, DTB_MAX_BYTES));
}

int machine_console(void)
{
    int node = machine_need_node("arm,pl011");
    struct dt_range range;

    machine_need(dt_reg(&machine_dt, node, 0, &range));
    if (!uart_ready || range.base != EARLY_UART_BASE) {
        pl011_init(&machine_uart, machine_map_registers(node, 0));
        uart_ready = true;
    }
    return node;
}

void machine_psci(void)
{
    int node;
    const char *method;

    if (dt_find(&machine_dt, -1, "arm,psci-0.2", &node) != STATUS_OK) {
        machine_need(dt_find(&machine_dt, -1, "arm,psci-1.0", &node));
    }
    machine_need(dt_string(&machine_dt, node, "method", &method));
    if (strcmp(method, "hvc") == 0) {
        arch_psci_set(ARCH_PSCI_HVC);
    } else if (strcmp(method, "smc") == 0) {
        arch_psci_set(ARCH_PSCI_SMC);
    } else {
        machine_need(
            dt_fail(&machine_dt, node, "method", "is neither hvc nor smc", STATUS_BAD_DATA));
    }
}

void machine_interrupts(int uart_node)
{
    struct gicv2_params params = {0};
    struct dt_irq irq;
    int node;
    int frame;

    if (dt_find(&machine_dt, -1, "arm,cortex-a15-gic", &node) != STATUS_OK) {
        machine_need(dt_find(&machine_dt, -1, "arm,gic-400", &node));
    }
    params.distributor = machine_map_registers(node, 0);
    params.interface = machine_map_registers(node, 1);
    if (dt_find_child(&machine_dt, node, "arm,gic-v2m-frame", &frame) == STATUS_OK) {
        params.msi_frame = machine_map_registers(frame, 0);
    } else {
        LOG_WARN("board: no v2m frame: devices behind PCIe cannot interrupt");
    }
    enum status status = gicv2_init(&params);
    if (status != STATUS_OK) {
        machine_need(dt_fail(&machine_dt, node, "reg", "does not hold a GIC of version 2", status));
    }
    node = machine_need_node("arm,armv8-timer");
    machine_need(dt_interrupt(&machine_dt, node, 2, &irq)); /* third: the virtual timer */
    status = arch_timer_attach(irq.irq);
    if (status != STATUS_OK) {
        machine_need(dt_fail(&machine_dt, node, "interrupts", "cannot be used", status));
    }
    machine_need(dt_interrupt(&machine_dt, uart_node, 0, &irq));
    status = irq_attach(irq.irq, irq.is_edge ? IRQ_TRIGGER_EDGE : IRQ_TRIGGER_LEVEL, 0,
                        pl011_interrupt, &machine_uart);
    if (status != STATUS_OK) {
        machine_need(dt_fail(&machine_dt, uart_node, "interrupts", "cannot be used", status));
    }
    status = arch_irq_start();
    if (status != STATUS_OK) {
        boot_stop("interrupts between cores cannot be used: %s", status_text(status));
    }
    pl011_rx_enable(&machine_uart);
}

void machine_flash(struct cfi_flash flashes[MACHINE_FLASH_BANKS])
{
    int node;
    uint32_t width;
    struct dt_range range;

    if (dt_find(&machine_dt, -1, "cfi-flash", &node) != STATUS_OK) {
        LOG_INFO("board: no flash");
        return;
    }
    machine_need(dt_u32(&machine_dt, node, "bank-width", &width));
    for (uint32_t i = 0;
         i < MACHINE_FLASH_BANKS && dt_reg(&machine_dt, node, i, &range) == STATUS_OK; i++) {
        enum status status =
            cfi_flash_probe(&flashes[i], map_flash(node, &range), range.len_bytes, width);
        if (status == STATUS_OK) {
            LOG_INFO("board: flash %u: %llu MiB in blocks of %u KiB", (unsigned)i,
                     (unsigned long long)(flashes[i].base.len_bytes >> 20),
                     (unsigned)(flashes[i].base.block_bytes >> 10));
        } else {
            LOG_WARN("board: flash %u at 0x%llx: %s", (unsigned)i, (unsigned long long)range.base,
                     status_text(status));
        }
    }
}

void machine_pcie(pcie_ecam_map_fn *map)
{
    int node = machine_need_node("pci-host-ecam-generic");
    struct dt_pcie pcie;

    machine_need(dt_pcie(&machine_dt, node, &pcie));
    struct pcie_ecam_params params = {
        .ecam = machine_map_registers(node, 0),
        .ecam_bytes = pcie.ecam.len_bytes,
        .bus = pcie.first_bus,
        .memory32 = {pcie.memory32.base, pcie.memory32.len_bytes},
        .memory64 = {pcie.memory64.base, pcie.memory64.len_bytes},
        .map = map,
    };
    enum status status = pcie_ecam_init(&params);
    if (status == STATUS_INVALID) {
        machine_need(dt_fail(&machine_dt, node, "reg", "is too small for a bus", status));
    }
}
