/*
 * QEMU's aarch64 `virt` machine, as its device tree describes it.
 *
 * Must be there: memory, cores, PSCI, timer, GICv2, PL011, PCIe host bridge. May be there: v2m
 * frame (MSI-X), CFI flash, /chosen with bootargs and rng-seed. What is missing or broken stops the
 * start with node and property named.
 */
#include <stdio.h>
#include <string.h>
#include "base/bits.h"
#include "base/log.h"
#include "boards/qemu-virt/endpoint.h"
#include "boards/qemu-virt/ethernet.h"
#include "boot/boot.h"
#include "boot/crash_record.h"
#include "hal/clock.h"
#include "hal/console.h"
#include "hal/cpu.h"
#include "hal/drivers/cfi_flash.h"
#include "hal/drivers/dt.h"
#include "hal/drivers/gicv2.h"
#include "hal/drivers/pcie_ecam.h"
#include "hal/drivers/pl011.h"
#include "hal/irq.h"

/* Where QEMU has had the first PL011 since virt exists: for messages before the device tree is
 * read. */
#define EARLY_UART_BASE 0x09000000u

/* Where whoever starts the machine may put the configuration's device tree (docs/spec/config.md):
 * -device loader,file=X.dtb,addr=0x4f000000,force-raw=on */
#define CONFIG_TREE_BASE  0x4f000000u
#define CONFIG_TREE_BYTES (1u << 20)

#define DTB_MAX_BYTES  (2u << 20)
#define PAGE           4096u
#define LARGE_PAGE     (2u << 20)
#define MEMORY_BANKS   4u
#define CONFIG_BYTES   2048u
#define RNG_SEED_BYTES 64u
#define FLASH_BANKS    2u

static struct dt dt;
static struct pl011 uart;
static bool uart_ready;
static struct cfi_flash flashes[FLASH_BANKS];
static char config[CONFIG_BYTES];
static uint8_t rng_seed[RNG_SEED_BYTES];

extern char __image_end[];
extern char __warm_end[];

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
        pl011_write(&uart, bytes, part_bytes);
        if (newline == NULL) {
            return;
        }
        pl011_write(&uart, "\r\n", 2);
        bytes += part_bytes + 1;
        len_bytes -= part_bytes + 1;
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

bool board_has_console(void)
{
    return uart_ready;
}

void board_early_console(void)
{
    if (arch_map(EARLY_UART_BASE, PAGE, ARCH_MAP_DEVICE) == STATUS_OK) {
        pl011_init(&uart, EARLY_UART_BASE);
        uart_ready = true;
    }
}

uint64_t board_clock_hz(const void *dtb)
{
    int node;
    uint32_t hz;
    if (dt_open(&dt, dtb, DTB_MAX_BYTES) != STATUS_OK ||
        dt_find(&dt, -1, "arm,armv8-timer", &node) != STATUS_OK ||
        dt_u32(&dt, node, "clock-frequency", &hz) != STATUS_OK) {
        return 0;
    }
    return hz;
}

/* --- device tree -------------------------------------------------------------------------------
 */

/* Stops with what dt says is wrong, unless `status` is OK. */
static void need(enum status status)
{
    if (status != STATUS_OK) {
        boot_stop("device tree: %s%s%s%s: %s", dt.error.node,
                  dt.error.property != NULL ? ": property '" : "",
                  dt.error.property != NULL ? dt.error.property : "",
                  dt.error.property != NULL ? "'" : "", dt.error.problem);
    }
}

static int need_node(const char *compatible)
{
    int node;
    need(dt_find(&dt, -1, compatible, &node));
    return node;
}

/* Maps the `index`-th register range of `node`; returns its base. */
static uintptr_t map_registers(int node, uint32_t index)
{
    struct dt_range range;
    need(dt_reg(&dt, node, index, &range));
    uint64_t base = align_down(range.base, PAGE);
    uint64_t end = align_up(range.base + range.len_bytes, PAGE);
    enum status status = arch_map(base, end - base, ARCH_MAP_DEVICE);
    if (status != STATUS_OK) {
        need(dt_fail(&dt, node, "reg", "overlaps memory or another device, or cannot be mapped",
                     status));
    }
    return (uintptr_t)range.base;
}

/* As map_registers(), elsewhere: QEMU has its first flash bank at address 0. */
static uintptr_t map_flash(int node, const struct dt_range *range)
{
    uintptr_t alias;
    if (arch_map_alias(range->base, range->len_bytes, ARCH_MAP_DEVICE, &alias) != STATUS_OK) {
        need(dt_fail(&dt, node, "reg", "cannot be mapped", STATUS_BAD_DATA));
    }
    return alias;
}

/* The words that the start-up itself understands are taken out: app sees only its own. */
static void read_config(void)
{
    char value[16];

    if (!boot_take_word(config, "panic", value, sizeof(value))) {
        return;
    }
    if (strcmp(value, "reset") == 0) {
        panic_set_action(BOOT_PANIC_RESET);
    } else if (strcmp(value, "halt") == 0) {
        panic_set_action(BOOT_PANIC_HALT);
    } else if (strcmp(value, "exit") == 0) {
        panic_set_action(BOOT_PANIC_EXIT);
    } else {
        boot_stop("configuration: panic: expected reset, halt or exit, not '%s'", value);
    }
}

/* Copies out what must outlive the device tree, whose memory becomes free. */
static void init_chosen(struct board *board)
{
    int chosen;
    const char *bootargs;
    const void *seed;
    uint32_t seed_bytes;

    board->config = config;
    if (dt_find_path(&dt, "/chosen", &chosen) != STATUS_OK) {
        return;
    }
    enum status status = dt_string(&dt, chosen, "bootargs", &bootargs);
    if (status != STATUS_NOT_FOUND) {
        need(status);
        if (strlen(bootargs) >= sizeof(config)) {
            need(dt_fail(&dt, chosen, "bootargs", "is too long", STATUS_BAD_DATA));
        }
        snprintf(config, sizeof(config), "%s", bootargs);
    }
    if (dt_bytes(&dt, chosen, "rng-seed", &seed, &seed_bytes) == STATUS_OK) {
        board->rng_seed_bytes = min_u32(seed_bytes, sizeof(rng_seed));
        memcpy(rng_seed, seed, board->rng_seed_bytes);
        board->rng_seed = board->rng_seed_bytes > 0 ? rng_seed : NULL;
    }
    read_config();
}

/* --- memory and cores --------------------------------------------------------------------------
 */

/* At the end of the memory that a warm reset keeps: whether there was a tree at power-on. */
#define CONFIG_TREE_NOTE (*(uint32_t *)((uintptr_t)__warm_end - sizeof(uint32_t)))
#define CONFIG_TREE_WAS  0x65657274u

/* A loader puts the tree there before the first start. Without one the place is part of the pool: a
 * host may have written anything to it before a warm reset, so it counts only at power-on. */
static bool has_config_tree(uint64_t base, uint64_t end)
{
    static const uint8_t magic[] = {0xd0, 0x0d, 0xfe, 0xed};
    bool is_there = base <= CONFIG_TREE_BASE && end >= CONFIG_TREE_BASE + CONFIG_TREE_BYTES &&
                    memcmp((const void *)(uintptr_t)CONFIG_TREE_BASE, magic, sizeof(magic)) == 0;

    if (crash_record_start_count() == 1 && is_there) {
        CONFIG_TREE_NOTE = CONFIG_TREE_WAS;
        arch_cache_clean(&CONFIG_TREE_NOTE, sizeof(CONFIG_TREE_NOTE));
    }
    return is_there && CONFIG_TREE_NOTE == CONFIG_TREE_WAS;
}

static void add_pool(struct board *board, uint64_t base, uint64_t end)
{
    if (end > base && end - base > board->pool_bytes) {
        board->pool_base = (void *)(uintptr_t)base;
        board->pool_bytes = end - base;
    }
}

/* RAM above the image goes to the backends; what lies below is device tree and crash record. The
 * configuration's tree, if there is one, divides it. */
static void init_memory(struct board *board)
{
    struct dt_range banks[MEMORY_BANKS];
    uint32_t bank_count;
    uint64_t image_end = align_up((uint64_t)(uintptr_t)__image_end, LARGE_PAGE);
    bool found = false;

    if (crash_record_start_count() == 1) {
        CONFIG_TREE_NOTE = 0;
    }
    need(dt_memory(&dt, banks, MEMORY_BANKS, &bank_count));
    for (uint32_t i = 0; i < bank_count; i++) {
        uint64_t base = align_up(banks[i].base, PAGE);
        uint64_t end = align_down(banks[i].base + banks[i].len_bytes, PAGE);
        if (end > base && arch_map_rest(base, end - base) != STATUS_OK) {
            boot_stop("memory at 0x%llx cannot be mapped", (unsigned long long)base);
        }
        if (base < image_end && image_end <= end) {
            found = true;
            base = image_end;
        }
        if (has_config_tree(base, end)) {
            board->config_tree = (const void *)(uintptr_t)CONFIG_TREE_BASE;
            board->config_tree_bytes = CONFIG_TREE_BYTES;
            add_pool(board, base, CONFIG_TREE_BASE);
            base = align_up(CONFIG_TREE_BASE + CONFIG_TREE_BYTES, LARGE_PAGE);
        }
        add_pool(board, base, end);
    }
    if (!found) {
        boot_stop("the image ends at 0x%llx, outside of the memory that the device tree names",
                  (unsigned long long)(uintptr_t)__image_end);
    }
}

static void init_cores(struct board *board)
{
    uint64_t ids[LIMIT_CORES];
    uint32_t count;
    int node;
    const char *method;

    need(dt_cores(&dt, ids, LIMIT_CORES, &count));
    if (count > LIMIT_CORES) {
        LOG_WARN("board: %u of %u cores are used", LIMIT_CORES, (unsigned)count);
        count = LIMIT_CORES;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (arch_core_add(ids[i]) != STATUS_OK) {
            boot_stop("device tree: /cpus: the core that runs is not among them");
        }
    }
    board->core_count = cpu_count();

    if (dt_find(&dt, -1, "arm,psci-0.2", &node) != STATUS_OK) {
        need(dt_find(&dt, -1, "arm,psci-1.0", &node));
    }
    need(dt_string(&dt, node, "method", &method));
    if (strcmp(method, "hvc") == 0) {
        arch_psci_set(ARCH_PSCI_HVC);
    } else if (strcmp(method, "smc") == 0) {
        arch_psci_set(ARCH_PSCI_SMC);
    } else {
        need(dt_fail(&dt, node, "method", "is neither hvc nor smc", STATUS_BAD_DATA));
    }
}

/* --- devices -----------------------------------------------------------------------------------
 */

/* The early console becomes the real one: stays where it is, or moves to what the tree says. */
static int init_console(void)
{
    int node = need_node("arm,pl011");
    struct dt_range range;

    need(dt_reg(&dt, node, 0, &range));
    if (!uart_ready || range.base != EARLY_UART_BASE) {
        pl011_init(&uart, map_registers(node, 0));
        uart_ready = true;
    }
    return node;
}

static void init_interrupts(int uart_node)
{
    struct gicv2_params params = {0};
    struct dt_irq irq;
    int node;
    int frame;

    if (dt_find(&dt, -1, "arm,cortex-a15-gic", &node) != STATUS_OK) {
        need(dt_find(&dt, -1, "arm,gic-400", &node));
    }
    params.distributor = map_registers(node, 0);
    params.interface = map_registers(node, 1);
    if (dt_find_child(&dt, node, "arm,gic-v2m-frame", &frame) == STATUS_OK) {
        params.msi_frame = map_registers(frame, 0);
    } else {
        LOG_WARN("board: no v2m frame: devices behind PCIe cannot interrupt");
    }
    enum status status = gicv2_init(&params);
    if (status != STATUS_OK) {
        need(dt_fail(&dt, node, "reg", "does not hold a GIC of version 2", status));
    }
    node = need_node("arm,armv8-timer");
    need(dt_interrupt(&dt, node, 2, &irq)); /* third: the virtual timer */
    status = arch_timer_attach(irq.irq);
    if (status != STATUS_OK) {
        need(dt_fail(&dt, node, "interrupts", "cannot be used", status));
    }
    need(dt_interrupt(&dt, uart_node, 0, &irq));
    status = irq_attach(irq.irq, irq.is_edge ? IRQ_TRIGGER_EDGE : IRQ_TRIGGER_LEVEL, 0,
                        pl011_interrupt, &uart);
    if (status != STATUS_OK) {
        need(dt_fail(&dt, uart_node, "interrupts", "cannot be used", status));
    }
    status = arch_irq_start();
    if (status != STATUS_OK) {
        boot_stop("interrupts between cores cannot be used: %s", status_text(status));
    }
    pl011_rx_enable(&uart);
}

static void probe_flash(void)
{
    int node;
    uint32_t width;
    struct dt_range range;

    if (dt_find(&dt, -1, "cfi-flash", &node) != STATUS_OK) {
        LOG_INFO("board: no flash");
        return;
    }
    need(dt_u32(&dt, node, "bank-width", &width));
    for (uint32_t i = 0; i < FLASH_BANKS && dt_reg(&dt, node, i, &range) == STATUS_OK; i++) {
        enum status status = cfi_flash_probe(&flashes[i], map_flash(node, &range), width);
        if (status == STATUS_OK) {
            LOG_INFO("board: flash %u: %llu MiB in blocks of %u KiB", (unsigned)i,
                     (unsigned long long)(flashes[i].len_bytes >> 20),
                     (unsigned)(flashes[i].block_bytes >> 10));
        } else {
            LOG_WARN("board: flash %u at 0x%llx: %s", (unsigned)i, (unsigned long long)range.base,
                     status_text(status));
        }
    }
}

/* --- PCIe --------------------------------------------------------------------------------------
 */

#define IVSHMEM_VENDOR     0x1af4u
#define IVSHMEM_DEVICE     0x1110u
#define IVSHMEM_MEMORY_BAR 2u

/* Shared memory is memory: host RAM and the link block are read and written with plain, cached,
 * possibly unaligned accesses. Everything else behind a BAR is registers. */
static enum status map_bar(uint64_t base, uint64_t len_bytes, uint16_t vendor_id,
                           uint16_t device_id, uint32_t bar)
{
    bool is_memory =
        vendor_id == IVSHMEM_VENDOR && device_id == IVSHMEM_DEVICE && bar == IVSHMEM_MEMORY_BAR;
    return arch_map(base, len_bytes, is_memory ? ARCH_MAP_MEMORY : ARCH_MAP_DEVICE);
}

static void init_pcie(void)
{
    int node = need_node("pci-host-ecam-generic");
    struct dt_pcie pcie;

    need(dt_pcie(&dt, node, &pcie));
    struct pcie_ecam_params params = {
        .ecam = map_registers(node, 0),
        .ecam_bytes = pcie.ecam.len_bytes,
        .bus = pcie.first_bus,
        .memory32 = {pcie.memory32.base, pcie.memory32.len_bytes},
        .memory64 = {pcie.memory64.base, pcie.memory64.len_bytes},
        .map = map_bar,
    };
    enum status status = pcie_ecam_init(&params);
    if (status == STATUS_INVALID) {
        need(dt_fail(&dt, node, "reg", "is too small for a bus", status));
    }
}

void board_init(const struct arch_start *start, struct board *board)
{
    board->name = "qemu-virt";
    need(dt_open(&dt, start->dtb, DTB_MAX_BYTES));
    int uart_node = init_console();
    init_chosen(board);
    init_memory(board);
    init_cores(board);
    boot_stage("device tree read, %u cores", (unsigned)board->core_count);
    init_interrupts(uart_node);
    boot_stage("interrupts");
    probe_flash();
    boot_stage("flash");
    init_pcie();
    boot_stage("PCIe");
    qemu_virt_endpoint_init(board);
    boot_stage("endpoint");
    qemu_virt_ethernet_init(board);
    boot_stage("Ethernet");
}
