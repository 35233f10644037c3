/*
 * What the bootloader needs to know of QEMU's `virt` machine: RAM, flash, watchdog.
 */
#include "base/bits.h"
#include "base/log.h"
#include "boards/qemu-virt/machine.h"
#include "boot/boot.h"
#include "bootloader/bootloader.h"
#include "hal/drivers/i6300esb.h"

/* Where a FIT is checked: below the bootloader, above what firmware takes for itself. */
#define STAGING_BASE UINT64_C(0x4c000000)

/* The device tree that QEMU makes has so much room (and is rarely 10 KiB). */
#define DTB_BYTES (UINT64_C(1) << 20)

#define MEMORY_BANKS 4u
#define PAGE         4096u

extern char _start[], __image_end[], __warm_start[], __warm_end[];

static struct cfi_flash flashes[MACHINE_FLASH_BANKS];
static struct i6300esb watchdog;
static int uart_node;

static uint64_t address(const void *symbol)
{
    return (uint64_t)(uintptr_t)symbol;
}

/* The others are the firmware's business, which gives them addresses anew. */
static enum status map_watchdog(uint64_t base, uint64_t len_bytes, uint16_t vendor_id,
                                uint16_t device_id, uint32_t bar)
{
    (void)bar;
    if (vendor_id != I6300ESB_VENDOR || device_id != I6300ESB_DEVICE) {
        return STATUS_OK;
    }
    return arch_map(base, len_bytes, ARCH_MAP_DEVICE);
}

static struct watchdog *find_watchdog(void)
{
    log_set_level(LOG_LEVEL_WARN); /* the firmware lists the devices */
    machine_pcie(map_watchdog);
    log_set_level(LOG_LEVEL_INFO);
    if (i6300esb_find(&watchdog) != STATUS_OK) {
        return NULL;
    }
    if (watchdog.has_fired) {
        LOG_WARN("board: the watchdog has reset the board");
    }
    return &watchdog.base;
}

static void start_interrupts(void)
{
    machine_interrupts(uart_node);
}

static void init_memory(struct place *place)
{
    struct dt_range banks[MEMORY_BANKS];
    uint32_t bank_count;

    machine_need(dt_memory(&machine_dt, banks, MEMORY_BANKS, &bank_count));
    for (uint32_t i = 0; i < bank_count; i++) {
        uint64_t base = align_up(banks[i].base, PAGE);
        uint64_t end = align_down(banks[i].base + banks[i].len_bytes, PAGE);
        if (end > base && arch_map_rest(base, end - base) != STATUS_OK) {
            boot_stop("memory at 0x%llx cannot be mapped", (unsigned long long)base);
        }
        if (end > base) {
            place_add_ram(place, base, end - base);
        }
    }
    if (!place_is_free(place, STAGING_BASE, BOOT_SLOT_MAX_BYTES) ||
        !place_is_free(place, address(_start), address(__image_end) - address(_start))) {
        boot_stop("RAM is too small: the bootloader wants 256 MiB");
    }
}

void bootloader_board_init(const struct arch_start *start, struct bootloader *bootloader)
{
    struct place *place = &bootloader->place;

    machine_open(start->dtb);
    uart_node = machine_console();
    machine_psci();
    init_memory(place);
    place_take(place, address(start->dtb), DTB_BYTES);
    place_take(place, address(__warm_start), address(__warm_end) - address(__warm_start));
    place_take(place, address(_start), address(__image_end) - address(_start));
    place_take(place, STAGING_BASE, BOOT_SLOT_MAX_BYTES);
    place_take(place, MACHINE_CONFIG_TREE_BASE, MACHINE_CONFIG_TREE_BYTES);
    machine_flash(flashes);

    struct cfi_flash *slots = &flashes[MACHINE_FLASH_BANKS - 1];
    bootloader->board = "qemu-virt";
    bootloader->flash = slots->base.ops != NULL ? &slots->base : NULL;
    bootloader->staging = (void *)(uintptr_t)STAGING_BASE;
    bootloader->staging_bytes = BOOT_SLOT_MAX_BYTES;
    bootloader->handoff = &machine_warm_end()->handoff;
    bootloader->dtb = start->dtb;
    bootloader->watchdog = find_watchdog;
    bootloader->interrupts = start_interrupts;
}
