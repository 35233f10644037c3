/*
 * The order of a handover: the functions rest (nothing is fetched, commands under way end), then
 * the associations with targets end, so that these keep nothing of us; then the state is written to
 * memory that a reset keeps, and the board is reset: its devices, and whatever they still do, too.
 * Memory of hosts is not touched by a reset, and the link to them is taken over (spec/link.h).
 *
 * A new image that dies before it has read what was left is followed by the old one, which goes on
 * from it; one that dies later, by one with a link that says hello: then the hosts see a reset.
 */
#include "app/handover.h"

#include <stddef.h>
#include "app/update.h"
#include "base/crc.h"
#include "base/log.h"
#include "hal/clock.h"
#include "spec/handover.h"

/* What an association may take to end; a target that does not answer is left. */
#define CLOSE_NS (300 * NS_PER_MS)
#define LOOK_NS  NS_PER_MS

static struct {
    enum {
        IDLE,
        RESTING,
        CLOSING
    } step;
    uint32_t left; /* functions, then associations */
    uint64_t start_ns;
    uint64_t deadline_ns;
    struct timer timer;
} handover;

/* --- leaving ------------------------------------------------------------------------------- */

NORETURN static void leave(void)
{
    struct handover *to = app.board->handover;

    for (uint32_t i = 0; i < app.function_count; i++) {
        nvme_ep_save(app.functions[i].ep, &to->functions[i]);
    }
    to->version = HANDOVER_VERSION;
    to->size_bytes = sizeof(*to);
    to->function_count = app.function_count;
    to->reserved = 0;
    to->reserved1 = 0;
    to->crc = crc32_update(0, &to->function_count,
                           sizeof(*to) - offsetof(struct handover, function_count));
    to->magic = HANDOVER_MAGIC;
    board_keep(to, sizeof(*to));
    LOG_INFO("app: %u functions rest after %u ms: the board restarts for the next image",
             (unsigned)app.function_count,
             (unsigned)((sched_now_ns() - handover.start_ns) / NS_PER_MS));
    board_reset();
}

static void closed(void *arg)
{
    (void)arg;
    handover.left--;
}

static void close_associations(void)
{
    handover.step = CLOSING;
    handover.left = 0;
    handover.deadline_ns = sched_now_ns() + CLOSE_NS;
    for (uint32_t i = 0; i < app.ctrl_count; i++) {
        if (app.ctrls[i].ctrl != NULL) {
            handover.left++;
            nvmf_ctrl_close(app.ctrls[i].ctrl, closed, NULL);
        }
    }
}

static void serve_on(void)
{
    LOG_WARN("app: not all functions come to rest: the next image waits for a reset");
    for (uint32_t i = 0; i < app.function_count; i++) {
        nvme_ep_hand_over_cancel(app.functions[i].ep);
    }
    handover.step = IDLE;
}

/* What a host does has a deadline (hal/pcie_ep.h): as long as others are waited for, one that rests
 * answers it. */
static void answer_hosts(void)
{
    for (uint32_t i = 0; i < app.function_count; i++) {
        handover.left += nvme_ep_hand_over_again(app.functions[i].ep) ? 1 : 0;
    }
}

static void look(struct timer *timer)
{
    bool is_late = sched_now_ns() >= handover.deadline_ns;
    bool can_go = !app_update_is_writing(); /* what has begun meanwhile, too */

    if (handover.step == RESTING) {
        answer_hosts();
        if (handover.left == 0 && can_go) {
            close_associations();
        } else if (is_late) {
            serve_on();
            return;
        }
    } else if (handover.step == CLOSING && (handover.left == 0 || is_late) && can_go) {
        leave();
    }
    timer_arm(timer, sched_now_ns() + LOOK_NS);
}

static void rests(void *ctx)
{
    (void)ctx;
    handover.left--;
}

static void begin(struct timer *timer)
{
    timer_init(timer, look);
    handover.start_ns = sched_now_ns();
    handover.left = app.function_count;
    handover.deadline_ns = handover.start_ns + APP_HAND_OVER_MS * NS_PER_MS;
    for (uint32_t i = 0; i < app.function_count; i++) {
        nvme_ep_hand_over(app.functions[i].ep, rests, NULL);
    }
    timer_arm(timer, handover.start_ns);
}

bool app_can_hand_over(void *ctx)
{
    (void)ctx;
    return app.board->handover != NULL && app_update_get() != NULL && !app.has_ram_disk;
}

bool app_is_handing_over(void)
{
    return handover.step != IDLE;
}

enum status app_hand_over(uint64_t delay_ns)
{
    if (handover.step != IDLE || app_is_restarting()) {
        return STATUS_AGAIN;
    }
    if (!app_can_hand_over(NULL) || app.function_count == 0) {
        return STATUS_UNSUPPORTED;
    }
    for (uint32_t i = 0; i < app.function_count; i++) {
        if (!nvme_ep_can_hand_over(app.functions[i].ep)) {
            LOG_WARN("app: function %u cannot be handed over: the next image waits for a reset",
                     (unsigned)app.functions[i].pcie->fn);
            return STATUS_UNSUPPORTED;
        }
    }
    handover.step = RESTING;
    timer_init(&handover.timer, begin);
    timer_arm(&handover.timer, sched_now_ns() + delay_ns);
    return STATUS_OK;
}

/* --- coming -------------------------------------------------------------------------------- */

void app_take_over(struct app_function *function)
{
    if (!app.board->is_handed_over) {
        return;
    }
    const struct handover *from = app.board->handover;
    for (uint32_t i = 0; i < LIMIT_FUNCTIONS; i++) {
        if (i < from->function_count && from->functions[i].fn == function->pcie->fn &&
            nvme_ep_restore(function->ep, &from->functions[i]) == STATUS_OK) {
            return;
        }
    }
    LOG_ERROR("app: function %u cannot go on where the image before ended: a reset",
              (unsigned)function->pcie->fn);
    board_reset(); /* void now: the next start says hello */
}
