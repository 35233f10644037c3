#include "app/update.h"

#include <string.h>
#include "app/console_priv.h"
#include "app/handover.h"
#include "app/mgmt_priv.h"
#include "base/log.h"
#include "hal/clock.h"
#include "mgmt/mgmt_images.h"
#include "update/boot_state.h"

#define CONFIRM_LOOK_NS (100 * NS_PER_MS)
#define CONFIRM_NS      (30 * NS_PER_S)
#define FEED_NS         (1 * NS_PER_S)
#define RESTART_LOOK_NS NS_PER_MS
#define RESTART_NS      (60 * NS_PER_S) /* who keeps writing the flash does not keep the board */

/* A core says that its reactor turns. */
struct sign {
    struct msg msg;
    _Atomic bool is_due;
};

static struct {
    const struct board *board;
    struct store store;
    bool has_store;
    struct update *update; /* NULL: none */
    struct poller poller;
    struct timer confirm_timer;
    uint64_t confirm_deadline_ns;
    bool is_serving;
    struct timer feed_timer;
    struct timer restart_timer;
    uint64_t restart_deadline_ns; /* 0: not asked for */
    struct sign signs[LIMIT_CORES];
} images;

struct update *app_update_get(void)
{
    return images.update;
}

struct store *app_update_store(void)
{
    return images.has_store ? &images.store : NULL;
}

bool app_update_is_writing(void)
{
    return app_mgmt_config_is_busy() || (images.update != NULL && update_is_busy(images.update));
}

/* --- start ------------------------------------------------------------------------------------ */

static const struct boot_handoff *handoff(void)
{
    const struct boot_handoff *told = &images.board->handoff;
    return told->magic == BOOT_HANDOFF_MAGIC ? told : NULL;
}

void app_update_open(const struct board *board)
{
    memset(&images, 0, sizeof(images));
    images.board = board;
    if (handoff() != NULL) {
        LOG_INFO("app: the bootloader started slot %s%s, after %u us",
                 boot_slot_name(handoff()->slot), handoff()->is_trial != 0 ? " on trial" : "",
                 (unsigned)handoff()->start_us);
    }
    if (board->flash == NULL) {
        return;
    }
    enum status status = store_open(&images.store, board->flash);
    if (status != STATUS_OK) {
        LOG_WARN("app: the flash holds no slots: %s", status_text(status));
    }
    images.has_store = status == STATUS_OK;
    if (images.has_store) {
        app_mgmt_config_open(&images.store);
    }
}

const void *app_update_config_tree(uint32_t *tree_bytes)
{
    uint32_t bytes;

    if (!images.has_store ||
        store_read_config(&images.store, NULL, 0, &bytes) == STATUS_NOT_FOUND) {
        return NULL;
    }
    void *tree = app_pool_take(images.board->flash->block_bytes, 8);
    if (tree == NULL || store_read_config(&images.store, tree, images.board->flash->block_bytes,
                                          tree_bytes) != STATUS_OK) {
        LOG_ERROR("app: no memory for the configuration in flash");
        return NULL;
    }
    return tree;
}

/* --- watchdog --------------------------------------------------------------------------------- */

static void sign_turns(struct msg *msg)
{
    struct sign *sign = CONTAINER_OF(msg, struct sign, msg);
    atomic_store_explicit(&sign->is_due, false, memory_order_release);
}

/* Fed while every core answers. One that hangs starves it, and the board is reset. */
static void feed(struct timer *timer)
{
    bool all_turn = true;

    timer_arm(timer, sched_now_ns() + FEED_NS);
    for (uint32_t core = 1; core < sched_core_count(); core++) {
        if (atomic_load_explicit(&images.signs[core].is_due, memory_order_acquire)) {
            LOG_LIMITED(ERROR, "app: core %u does not turn: the watchdog is not fed",
                        (unsigned)core);
            all_turn = false;
        }
    }
    if (!all_turn) {
        return;
    }
    images.board->watchdog->ops->feed(images.board->watchdog);
    for (uint32_t core = 1; core < sched_core_count(); core++) {
        struct sign *sign = &images.signs[core];
        atomic_store_explicit(&sign->is_due, true, memory_order_relaxed);
        sign->msg.fn = sign_turns;
        msg_send(core, &sign->msg);
    }
}

static void start_feeding(void)
{
    if (handoff() == NULL || handoff()->watchdog == 0) {
        return;
    }
    if (images.board->watchdog == NULL) {
        LOG_ERROR("app: the bootloader started a watchdog that is not found");
        return;
    }
    timer_init(&images.feed_timer, feed);
    timer_arm(&images.feed_timer, sched_now_ns());
}

/* --- update ----------------------------------------------------------------------------------- */

static uint32_t run(void *ctx)
{
    (void)ctx;
    return app_mgmt_config_poll() + (images.update != NULL ? update_poll(images.update) : 0);
}

static uint64_t arm(void *ctx, bool armed)
{
    (void)ctx;
    (void)armed;
    /* The flash has no interrupt. */
    return app_update_is_writing() ? 0 : UINT64_MAX;
}

static void confirm(struct timer *timer)
{
    bool is_due = sched_now_ns() >= images.confirm_deadline_ns ||
                  (images.is_serving && app_tree_volumes_ready());

    if (!is_due || !app_update_may_begin()) {
        timer_arm(timer, sched_now_ns() + CONFIRM_LOOK_NS);
        return;
    }
    if (!images.is_serving) {
        LOG_ERROR("app: this image does not serve, and is not confirmed");
        return;
    }
    if (handoff() != NULL && handoff()->is_trial != 0) {
        LOG_INFO("app: this image works: it is confirmed");
    }
    update_confirm(images.update);
}

void app_update_start(void)
{
    start_feeding();
    if (!images.has_store) {
        return;
    }
    images.poller = (struct poller){.name = "update", .run = run, .arm = arm};
    sched_poller_add(&images.poller);
    struct update *update = app_pool_take(update_bytes(), 64);
    void *buffer = app_pool_take(images.store.slot_bytes, 64);
    if (update == NULL || buffer == NULL) {
        LOG_WARN("app: no memory for updates");
        return;
    }
    const struct update_config config = {
        .now_ns = clock_now_ns,
        .store = &images.store,
        .rules = {.key = &image_build_key,
                  .board = images.board->name,
                  .min_security_version = images.store.record.min_security_version},
        .running = handoff() != NULL ? handoff()->slot : BOOT_SLOT_NONE,
        .is_trial = handoff() != NULL && handoff()->is_trial != 0,
        .buffer = buffer,
        .buffer_bytes = images.store.slot_bytes,
    };
    update_init(update, &config);
    images.update = update;
    mgmt_images_set(update, &images.store);
    images.confirm_deadline_ns = clock_now_ns() + CONFIRM_NS;
    timer_init(&images.confirm_timer, confirm);
    timer_arm(&images.confirm_timer, sched_now_ns() + CONFIRM_LOOK_NS);
}

void app_update_serving(void)
{
    images.is_serving = true;
}

/* --- restart ---------------------------------------------------------------------------------- */

/* Something of ours may still read or write memory of its host. */
static bool may_touch_host(const struct app_function *function)
{
    switch (nvme_ep_snapshot(function->ep).state) {
    case NVME_EP_STATE_DISABLED:
    case NVME_EP_STATE_ENABLING:
    case NVME_EP_STATE_SHUT_DOWN:
    case NVME_EP_STATE_FATAL:
    case NVME_EP_STATE_HANDED:
        return false;
    case NVME_EP_STATE_READY:
    case NVME_EP_STATE_QUIESCING:
    case NVME_EP_STATE_FLUSHING:
    case NVME_EP_STATE_RELEASING:
    case NVME_EP_STATE_DRAINING:
    case NVME_EP_STATE_FAILING:
    case NVME_EP_STATE_HANDING:
    case NVME_EP_STATE_RESUMING:
        break;
    }
    return true;
}

static void restart(struct timer *timer)
{
    if (app_update_is_writing() && sched_now_ns() < images.restart_deadline_ns) {
        timer_arm(timer, sched_now_ns() + RESTART_LOOK_NS);
        return;
    }
    LOG_INFO("app: the board restarts");
    for (uint32_t i = 0; i < app.function_count; i++) {
        if (!may_touch_host(&app.functions[i])) {
            pcie_ep_leave(app.functions[i].pcie);
        }
    }
    board_reset();
}

bool app_is_restarting(void)
{
    return images.restart_deadline_ns != 0;
}

bool app_update_may_begin(void)
{
    return !app_is_restarting() && !app_is_handing_over();
}

void app_restart(uint64_t delay_ns)
{
    uint64_t now_ns = clock_now_ns();

    if (images.restart_deadline_ns != 0) {
        return;
    }
    images.restart_deadline_ns = now_ns + RESTART_NS;
    timer_init(&images.restart_timer, restart);
    timer_arm(&images.restart_timer, now_ns + delay_ns);
}

/* --- console ---------------------------------------------------------------------------------- */

void console_update(void)
{
    struct update_report report;

    if (images.update == NULL) {
        console_say("no flash for updates\n");
        return;
    }
    update_report(images.update, &report);
    console_say("update: %s, %u bytes received, %u of %u written, the last image %s\n",
                update_state_text(report.state), (unsigned)report.received_bytes,
                (unsigned)report.done_bytes, (unsigned)report.image_bytes,
                image_fault_text(report.last_fault));
    console_say(
        "running: %s%s, active: %s, trial: %s with %u attempts, least security version %u\n",
        boot_slot_name(report.running), report.is_trial ? " (on trial)" : "",
        boot_slot_name(report.active), boot_slot_name(report.trial),
        (unsigned)report.record.attempts_left, (unsigned)report.record.min_security_version);
    for (uint8_t slot = 0; slot < BOOT_SLOT_COUNT; slot++) {
        const struct boot_record_slot *entry = &report.record.slots[slot];
        console_say("slot %s: ", boot_slot_name(slot));
        if (entry->image_bytes == 0) {
            console_say("%s\n", entry->failed != 0 ? "rejected" : "empty");
        } else {
            console_say("version %.15s, security version %u, %u bytes%s\n", entry->version,
                        (unsigned)entry->security_version, (unsigned)entry->image_bytes,
                        entry->failed != 0 ? ", failed its trial" : "");
        }
    }
}
