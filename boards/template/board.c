/*
 * A board to copy. The machine is invented: four cores started by PSCI, a GICv2, a PL011, fixed
 * addresses, no device tree, no root complex, one endpoint function.
 *
 * "Port:" marks what a new board must decide. docs/PORTING.md goes through it in the same order.
 */
#include "base/bits.h"
#include "boot/boot.h"
#include "boards/template/template_ep.h"
#include "hal/console.h"
#include "hal/cpu.h"
#include "hal/drivers/gicv2.h"
#include "hal/drivers/pl011.h"
#include "hal/irq.h"
#include "hal/pcie_rc.h"

/* Port: the memory map, with the name of the manual and the chapter that it comes from. */
#define RAM_BASE      UINT64_C(0x80000000)
#define RAM_BYTES     (UINT64_C(1) << 30)
#define UART_BASE     0x01000000u
#define GIC_DIST_BASE 0x02000000u
#define GIC_CPU_BASE  0x02010000u
#define GIC_BYTES     0x10000u
#define EP_BASE       0x03000000u
#define EP_BYTES      0x10000u
#define IRQ_UART      40u
#define IRQ_TIMER     27u /* virtual timer, a private interrupt */
#define CORE_COUNT    4u
#define LARGE_PAGE    (UINT64_C(2) << 20)

static struct pl011 uart;
static bool uart_ready;
static struct template_ep endpoint;

extern char __image_end[];

/* --- console, before everything else: a port without one is written in the dark --------------- */

/* Port: from here on boot_stop() and panics can be read. */
void board_early_console(void)
{
    if (arch_map(UART_BASE, 4096, ARCH_MAP_DEVICE) == STATUS_OK) {
        pl011_init(&uart, UART_BASE);
        uart_ready = true;
    }
}

bool board_has_console(void)
{
    return uart_ready;
}

void console_write(const char *bytes, size_t len_bytes)
{
    if (uart_ready) {
        pl011_write(&uart, bytes, len_bytes);
    }
}

int console_read(void)
{
    return pl011_read(&uart);
}

void console_set_take(bool (*take)(uint8_t byte))
{
    uint64_t state = cpu_irq_save();
    uart.rx_take = take;
    cpu_irq_restore(state);
}

/* Port: only if the platform's firmware leaves CNTFRQ_EL0 at 0. */
uint64_t board_clock_hz(const void *dtb)
{
    (void)dtb;
    return 0;
}

/* --- everything else ---------------------------------------------------------------------------
 */

static void need(enum status status, const char *what)
{
    if (status != STATUS_OK) {
        boot_stop("%s: %s", what, status_text(status));
    }
}

/* Port: say what RAM there is; what neither image nor anybody else uses goes to the backends. */
static void init_memory(struct board *board)
{
    uint64_t pool = align_up((uint64_t)(uintptr_t)__image_end, LARGE_PAGE);

    need(arch_map_rest(RAM_BASE, RAM_BYTES), "RAM");
    board->pool_base = (void *)(uintptr_t)pool;
    board->pool_bytes = RAM_BASE + RAM_BYTES - pool;
}

/* Port: the hardware ids (MPIDR affinity) of the cores; the one that runs may be among them. */
static void init_cores(struct board *board)
{
    for (uint64_t id = 0; id < CORE_COUNT; id++) {
        need(arch_core_add(id), "cores");
    }
    arch_psci_set(ARCH_PSCI_SMC);
    board->core_count = cpu_count();
}

/* Port: another interrupt controller is another file that supplies hal/irq.h. */
static void init_interrupts(void)
{
    const struct gicv2_params params = {.distributor = GIC_DIST_BASE, .interface = GIC_CPU_BASE};

    need(arch_map(GIC_DIST_BASE, GIC_BYTES, ARCH_MAP_DEVICE), "GIC distributor");
    need(arch_map(GIC_CPU_BASE, GIC_BYTES, ARCH_MAP_DEVICE), "GIC interface");
    need(gicv2_init(&params), "GIC");
    need(arch_timer_attach(IRQ_TIMER), "timer");
    need(irq_attach(IRQ_UART, IRQ_TRIGGER_LEVEL, 0, pl011_interrupt, &uart), "UART interrupt");
    need(arch_irq_start(), "interrupts between cores");
    pl011_rx_enable(&uart);
}

/* Port: one for each PCIe function that a host will see. Without any, ep_count stays 0. */
static void init_endpoint(struct board *board)
{
    need(arch_map(EP_BASE, EP_BYTES, ARCH_MAP_DEVICE), "endpoint registers");
    need(template_ep_init(&endpoint, EP_BASE), "endpoint");
    board->eps[board->ep_count++] = &endpoint.ep;
}

void board_init(const struct arch_start *start, struct board *board)
{
    (void)start; /* Port: start->dtb, where there is a device tree; see boards/qemu-virt */
    board->name = "template";
    board->config = ""; /* Port: from flash, straps or the bootloader */
    init_memory(board);
    init_cores(board);
    boot_stage("memory and cores");
    init_interrupts();
    boot_stage("interrupts");
    init_endpoint(board);
    boot_stage("endpoint");
}

/* --- hal/pcie_rc.h: no drives behind this board ------------------------------------------------
 */

/* Port: with a generic ECAM root complex, link hal/drivers/pcie_ecam.c instead of these. */
const struct pcie_rc_device *pcie_rc_device(uint32_t index)
{
    (void)index;
    return NULL;
}

uint32_t pcie_rc_read32(const struct pcie_rc_device *device, uint16_t offset)
{
    (void)device, (void)offset;
    return UINT32_MAX;
}

void pcie_rc_write32(const struct pcie_rc_device *device, uint16_t offset, uint32_t value)
{
    (void)device, (void)offset, (void)value;
}

void pcie_rc_enable(const struct pcie_rc_device *device, bool memory, bool bus_master)
{
    (void)device, (void)memory, (void)bus_master;
}

enum status pcie_rc_msix(const struct pcie_rc_device *device, uint16_t vector, uint32_t core,
                         void (*handler)(void *arg), void *arg)
{
    (void)device, (void)vector, (void)core, (void)handler, (void)arg;
    return STATUS_UNSUPPORTED;
}
