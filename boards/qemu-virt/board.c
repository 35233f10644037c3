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
#include "base/crc.h"
#include "base/log.h"
#include "boards/qemu-virt/endpoint.h"
#include "boards/qemu-virt/ethernet.h"
#include "boards/qemu-virt/machine.h"
#include "boot/boot.h"
#include "boot/crash_record.h"
#include "boot/image_head.h"
#include "hal/cpu.h"
#include "hal/drivers/i6300esb.h"

#define PAGE           4096u
#define LARGE_PAGE     (2u << 20)
#define MEMORY_BANKS   4u
#define CONFIG_BYTES   2048u
#define RNG_SEED_BYTES 64u

static struct cfi_flash flashes[MACHINE_FLASH_BANKS];
static char config[CONFIG_BYTES];
static uint8_t rng_seed[RNG_SEED_BYTES];

extern char __image_end[];

extern const struct boot_image_head image_head;
BOOT_IMAGE_HEAD(image_head, "qemu-virt");

/* --- device tree -------------------------------------------------------------------------------
 */

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
    if (dt_find_path(&machine_dt, "/chosen", &chosen) != STATUS_OK) {
        return;
    }
    enum status status = dt_string(&machine_dt, chosen, "bootargs", &bootargs);
    if (status != STATUS_NOT_FOUND) {
        machine_need(status);
        if (strlen(bootargs) >= sizeof(config)) {
            machine_need(dt_fail(&machine_dt, chosen, "bootargs", "is too long", STATUS_BAD_DATA));
        }
        snprintf(config, sizeof(config), "%s", bootargs);
    }
    if (dt_bytes(&machine_dt, chosen, "rng-seed", &seed, &seed_bytes) == STATUS_OK) {
        board->rng_seed_bytes = min_u32(seed_bytes, sizeof(rng_seed));
        memcpy(rng_seed, seed, board->rng_seed_bytes);
        board->rng_seed = board->rng_seed_bytes > 0 ? rng_seed : NULL;
    }
    read_config();
}

/* --- memory and cores --------------------------------------------------------------------------
 */

#define CONFIG_TREE_WAS 0x65657274u

/* A loader puts the tree there before the first start. Without one the place is part of the pool: a
 * host may have written anything to it before a warm reset, so it counts only at power-on. */
static bool has_config_tree(uint64_t base, uint64_t end)
{
    static const uint8_t magic[] = {0xd0, 0x0d, 0xfe, 0xed};
    struct machine_warm_end *warm = machine_warm_end();
    bool is_there =
        base <= MACHINE_CONFIG_TREE_BASE &&
        end >= MACHINE_CONFIG_TREE_BASE + MACHINE_CONFIG_TREE_BYTES &&
        memcmp((const void *)(uintptr_t)MACHINE_CONFIG_TREE_BASE, magic, sizeof(magic)) == 0;

    if (crash_record_start_count() == 1 && is_there) {
        warm->config_tree_note = CONFIG_TREE_WAS;
        arch_cache_clean(warm, sizeof(*warm));
    }
    return is_there && warm->config_tree_note == CONFIG_TREE_WAS;
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
        machine_warm_end()->config_tree_note = 0;
    }
    machine_need(dt_memory(&machine_dt, banks, MEMORY_BANKS, &bank_count));
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
            board->config_tree = (const void *)(uintptr_t)MACHINE_CONFIG_TREE_BASE;
            board->config_tree_bytes = MACHINE_CONFIG_TREE_BYTES;
            add_pool(board, base, MACHINE_CONFIG_TREE_BASE);
            base = align_up(MACHINE_CONFIG_TREE_BASE + MACHINE_CONFIG_TREE_BYTES, LARGE_PAGE);
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

    machine_need(dt_cores(&machine_dt, ids, LIMIT_CORES, &count));
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
    machine_psci();
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

/* --- flash and bootloader ----------------------------------------------------------------------
 */

/* The second bank is ours; the bootloader is in the first. */
static void init_flash(struct board *board)
{
    struct cfi_flash *slots = &flashes[MACHINE_FLASH_BANKS - 1];

    machine_flash(flashes);
    board->flash = slots->base.ops != NULL ? &slots->base : NULL;
}

static void init_watchdog(struct board *board)
{
    static struct i6300esb watchdog;

    if (i6300esb_find(&watchdog) == STATUS_OK) {
        board->watchdog = &watchdog.base;
        LOG_INFO("board: a watchdog%s", watchdog.has_fired ? ", which has reset the board" : "");
    }
}

/* What the bootloader told, if it was it that started us: told once. */
static void take_handoff(struct board *board)
{
    struct machine_warm_end *warm = machine_warm_end();
    struct boot_handoff *handoff = &warm->handoff;
    uint32_t crc = crc32_update(0, handoff, offsetof(struct boot_handoff, crc));

    if (handoff->magic != BOOT_HANDOFF_MAGIC || handoff->crc != crc) {
        return;
    }
    board->handoff = *handoff;
    handoff->magic = 0;
    arch_cache_clean(warm, sizeof(*warm));
    if (board->handoff.is_trial != 0) {
        panic_set_action(BOOT_PANIC_RESET_ALWAYS);
    }
}

void board_init(const struct arch_start *start, struct board *board)
{
    board->name = "qemu-virt";
    board->version = image_head.version;
    take_handoff(board);
    machine_open(start->dtb);
    int uart_node = machine_console();
    init_chosen(board);
    init_memory(board);
    init_cores(board);
    boot_stage("device tree read, %u cores", (unsigned)board->core_count);
    machine_interrupts(uart_node);
    boot_stage("interrupts");
    init_flash(board);
    boot_stage("flash");
    machine_pcie(map_bar);
    init_watchdog(board);
    boot_stage("PCIe");
    qemu_virt_endpoint_init(board);
    boot_stage("endpoint");
    qemu_virt_ethernet_init(board);
    boot_stage("Ethernet");
}
