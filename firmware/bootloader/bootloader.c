/*
 * See bootloader.h. The order: console, board, flash, choice, watchdog, jump.
 */
#include "bootloader/bootloader.h"

#include "base/crc.h"
#include "base/log.h"
#include "base/version.h"
#include "boot/boot.h"
#include "bootloader/choose.h"
#include "bootloader/load.h"
#include "bootloader/recovery.h"
#include "hal/clock.h"
#include "hal/console.h"
#include "hal/cpu.h"
#include "update/boot_state.h"

static struct {
    struct bootloader board;
    struct store store;
    uintptr_t entry;
} loader;

/* choose_load_fn */
static enum image_fault load(void *ctx, uint8_t slot, uint32_t min_security_version,
                             struct choose_image *image)
{
    (void)ctx;
    uint8_t *staging = loader.board.staging;
    const uint32_t head_bytes = 2 * sizeof(uint32_t);
    struct image_info info;

    store_read_slot(&loader.store, slot, 0, staging, head_bytes);
    uint32_t fit_bytes = image_fit_bytes(staging);
    if (fit_bytes == 0) {
        return IMAGE_NO_FIT;
    }
    if (fit_bytes > loader.store.slot_bytes || fit_bytes > loader.board.staging_bytes) {
        return IMAGE_CUT;
    }
    store_read_slot(&loader.store, slot, head_bytes, staging + head_bytes, fit_bytes - head_bytes);
    enum image_fault fault =
        load_staged(&loader.board, fit_bytes, min_security_version, &info, &loader.entry);
    if (fault == IMAGE_OK) {
        image->head = info.head;
        image->fit_bytes = fit_bytes;
        LOG_INFO("bootloader: slot %s: version %s, %u KiB, is good", boot_slot_name(slot),
                 info.head.version, (unsigned)(fit_bytes >> 10));
    }
    return fault;
}

/* True: a trial that hangs will be reset. */
static bool start_watchdog(const struct bootloader *bootloader)
{
    struct watchdog *watchdog = bootloader->watchdog();

    if (watchdog == NULL) {
        LOG_WARN("bootloader: no watchdog: a trial that hangs stays");
        return false;
    }
    enum status status = watchdog->ops->start(watchdog, BOOTLOADER_WATCHDOG_MS);
    if (status != STATUS_OK) {
        LOG_ERROR("bootloader: the watchdog does not start: %s", status_text(status));
    }
    return status == STATUS_OK;
}

/* The image is good, and lies where it runs. */
NORETURN static void start_image(const struct bootloader *bootloader, struct boot_handoff handoff)
{
    uintptr_t entry = loader.entry;

    handoff.magic = BOOT_HANDOFF_MAGIC;
    if (handoff.is_trial != 0) {
        handoff.watchdog = start_watchdog(bootloader) ? 1 : 0;
    }
    handoff.start_us = (uint32_t)(clock_now_ns() / NS_PER_US);
    handoff.crc = crc32_update(0, &handoff, offsetof(struct boot_handoff, crc));
    LOG_INFO("bootloader: starts the image at 0x%llx after %u us", (unsigned long long)entry,
             (unsigned)handoff.start_us);
    *bootloader->handoff = handoff;
    arch_cache_clean(bootloader->handoff, sizeof(handoff));
    arch_jump(entry, (uintptr_t)bootloader->dtb);
}

/* Returns when nothing can be started: the store for the recovery, or NULL. */
static struct store *try_flash(void)
{
    if (loader.board.flash == NULL) {
        LOG_ERROR("bootloader: no flash");
        return NULL;
    }
    enum status status = store_open(&loader.store, loader.board.flash);
    if (status != STATUS_OK) {
        LOG_ERROR("bootloader: the flash cannot be used: %s", status_text(status));
        return NULL;
    }
    struct choice choice = choose_slot(&loader.store, load, NULL);
    if (choice.slot == BOOT_SLOT_NONE) {
        LOG_ERROR("bootloader: no slot holds an image that may start");
        return &loader.store;
    }
    if (choice.is_trial) {
        LOG_INFO("bootloader: slot %s is on trial, %u attempts more", boot_slot_name(choice.slot),
                 (unsigned)choice.attempts_left);
    }
    const struct boot_handoff handoff = {
        .slot = choice.slot,
        .is_trial = choice.is_trial ? 1 : 0,
        .attempts_left = choice.attempts_left,
    };
    start_image(&loader.board, handoff);
}

void board_exit(int code)
{
    boot_end(code);
}

void boot_cold(const struct arch_start *start)
{
    static const struct log_sink sink = {
        .write = console_write, .now_ns = clock_now_ns, .core = cpu_self};
    bool clock_runs = arch_clock_init(start->entry_ticks, 0) ||
                      arch_clock_init(start->entry_ticks, board_clock_hz(start->dtb));

    board_early_console();
    log_set_sink(&sink);
    LOG_INFO("bootloader: snic " SNIC_VERSION "%s",
             image_build_key.is_development ? ", trusts the DEVELOPMENT key" : "");
    if (!clock_runs) {
        boot_stop("neither CNTFRQ_EL0 nor the board says how fast the counter runs");
    }
    bootloader_board_init(start, &loader.board);
    recovery_run(&loader.board, try_flash());
}
