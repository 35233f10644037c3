#include "bootloader/recovery.h"

#include <stdatomic.h>
#include <stdio.h>
#include "base/assert.h"
#include "base/log.h"
#include "base/version.h"
#include "boot/boot.h"
#include "hal/board.h"
#include "hal/clock.h"
#include "hal/console.h"
#include "hal/cpu.h"
#include "mgmt/frame.h"
#include "mgmt/mgmt_images.h"

/* Somebody may look later. */
#define SAY_NS (UINT64_C(10) * NS_PER_S)
/* Between the answer to RESET and the reset. */
#define RESET_NS (100 * NS_PER_MS)

#define UPDATE_BYTES 1024u

/* Longest sleep: the update has no interrupt. */
#define SLEEP_NS (1 * NS_PER_MS)

static struct {
    const struct bootloader *board;
    uint64_t reset_ns;        /* 0: not asked for */
    _Atomic bool has_request; /* in `frame`; until it is answered, what arrives is dropped */
    struct mgmt_frame frame;
    char text[MGMT_FRAME_TEXT_BYTES];
    _Alignas(8) uint8_t response[MGMT_FRAME_BYTES];
    _Alignas(8) uint8_t update[UPDATE_BYTES];
} recovery;

static void hello(struct mgmt_hello *out)
{
    out->core_count = 1;
    out->uptime_ns = clock_now_ns();
    out->boot_slot = BOOT_SLOT_NONE;
    snprintf(out->board, sizeof(out->board), "%s", recovery.board->board);
    snprintf(out->firmware, sizeof(out->firmware), "recovery %s", SNIC_VERSION);
    snprintf(out->reset_cause, sizeof(out->reset_cause), "no image that may start");
}

static enum mgmt_status reset(const struct mgmt_from *from, const uint8_t *arguments,
                              uint32_t len_bytes, uint8_t *answer, uint32_t *answer_bytes)
{
    (void)from;
    (void)arguments;
    (void)len_bytes;
    (void)answer;
    *answer_bytes = 0;
    recovery.reset_ns = clock_now_ns() + RESET_NS;
    return MGMT_OK;
}

static const struct mgmt_class_table classes[] = {
    {MGMT_CLASS_SLOT, sizeof(struct mgmt_slot), false, false, mgmt_slot_count, mgmt_slot_fill, NULL,
     NULL},
    {MGMT_CLASS_UPDATE, sizeof(struct mgmt_update), false, false, mgmt_update_count,
     mgmt_update_fill, NULL, NULL},
};
static const struct mgmt_object_table objects[] = {
    {MGMT_OBJECT_IMAGE, false, NULL, mgmt_image_write},
};
static const struct mgmt_action_table actions[] = {
    {MGMT_ACTION_RESET, reset},
    {MGMT_ACTION_COMMIT_IMAGE, mgmt_image_commit},
};
static const struct mgmt_tables tables = {
    .hello = hello,
    .classes = classes,
    .objects = objects,
    .actions = actions,
    .class_count = ARRAY_SIZE(classes),
    .object_count = ARRAY_SIZE(objects),
    .action_count = ARRAY_SIZE(actions),
};

/* In the interrupt handler of the console. */
static bool take(uint8_t byte)
{
    if (!atomic_load_explicit(&recovery.has_request, memory_order_acquire) &&
        mgmt_frame_byte(&recovery.frame, byte) == MGMT_FRAME_END) {
        atomic_store_explicit(&recovery.has_request, true, memory_order_release);
        cpu_wake(cpu_self());
    }
    return true;
}

static void answer(void)
{
    const struct mgmt_from from = {.origin = MGMT_ORIGIN_CONSOLE,
                                   .may_see_all = true,
                                   .may_change = true,
                                   .message_max = MGMT_FRAME_BYTES};
    uint32_t len_bytes = mgmt_serve(&tables, &from, recovery.frame.bytes, recovery.frame.len_bytes,
                                    recovery.response);
    /* The next request may come right behind the answer's last byte. */
    atomic_store_explicit(&recovery.has_request, false, memory_order_release);
    console_write(recovery.text, mgmt_frame_make(recovery.response, len_bytes, recovery.text));
}

static struct update *start_update(struct store *store)
{
    const struct update_config config = {
        .now_ns = clock_now_ns,
        .store = store,
        .rules = {.key = &image_build_key,
                  .board = recovery.board->board,
                  .min_security_version = store->record.min_security_version},
        .running = BOOT_SLOT_NONE,
        .buffer = recovery.board->staging,
        .buffer_bytes = recovery.board->staging_bytes,
    };
    struct update *update = (struct update *)(void *)recovery.update;

    ASSERT(update_bytes() <= sizeof(recovery.update));
    update_init(update, &config);
    mgmt_images_set(update, store);
    return update;
}

void recovery_run(const struct bootloader *bootloader, struct store *store)
{
    uint64_t say_ns = 0;

    recovery.board = bootloader;
    struct update *update = store != NULL ? start_update(store) : NULL;
    console_set_take(take);
    bootloader->interrupts();
    for (;;) {
        uint64_t now_ns = clock_now_ns();
        /* take() has it all; but what an interrupt has left behind waits for somebody who looks. */
        (void)console_read();
        if (now_ns >= say_ns) {
            say_ns = now_ns + SAY_NS;
            LOG_WARN("bootloader: recovery: %s",
                     update != NULL ? "waits for an image, by management messages on this line"
                                    : "there is no flash to put an image into");
        }
        if (atomic_load_explicit(&recovery.has_request, memory_order_acquire)) {
            answer();
        }
        if (update == NULL || update_poll(update) == 0) {
            cpu_idle(now_ns + SLEEP_NS);
        }
        if (recovery.reset_ns != 0 && now_ns >= recovery.reset_ns &&
            (update == NULL || !update_is_busy(update))) {
            LOG_INFO("bootloader: recovery: reset");
            board_reset();
        }
    }
}
