/*
 * Management frames on the console (docs/spec/mgmt.md), and the look at a core 0 that hangs.
 *
 * The console's receive interrupt shows each byte to take(). A frame that is complete waits for the
 * console's poller. When core 0 has not begun another turn for MGMT_FRAME_HANG_MS, the start of the
 * next frame makes the handler answer the one that waits: on its own stack, with what is hang safe.
 *
 * A request that does not come back hangs its core, too: so there are two boxes, and the poller
 * gives the handler the other one before it serves.
 *
 * Poller and handler are on the same core: the handler sees what the poller wrote before, and is
 * never interrupted by it. `state` says whose the open box is.
 */
#include "app/mgmt_priv.h"

#include <stdatomic.h>
#include "base/log.h"
#include "hal/clock.h"
#include "hal/console.h"
#include "mgmt/frame.h"

enum frame_state {
    FRAME_FREE,    /* the handler's: it puts bytes into its frame */
    FRAME_WAITING, /* complete */
    FRAME_TAKEN,   /* for a moment, by who answers it */
};

/* A request and its answer. */
struct box {
    struct mgmt_frame frame;
    char text[MGMT_FRAME_TEXT_BYTES];
    _Alignas(8) uint8_t response[MGMT_FRAME_BYTES];
};

static struct {
    _Atomic uint32_t state;  /* enum frame_state */
    bool is_open;            /* between the start of a frame and its end */
    _Atomic bool is_writing; /* an answer is on its way out */
    bool is_dropped;         /* that one came before the answer to the last */
    uint64_t turn;           /* of core 0, when it was seen last */
    uint64_t turn_seen_ns;   /* and first seen */
    uint32_t open;           /* box that `state` is about; the poller may serve the other one */
    struct box boxes[2];
} frames;

/* False: somebody else has it, or there is none. */
static bool take_waiting(void)
{
    uint32_t waiting = FRAME_WAITING;

    return atomic_compare_exchange_strong_explicit(&frames.state, &waiting, FRAME_TAKEN,
                                                   memory_order_acquire, memory_order_relaxed);
}

static uint32_t serve(struct box *box, bool is_hung)
{
    const struct mgmt_from from = {.origin = MGMT_ORIGIN_CONSOLE,
                                   .may_see_all = true,
                                   .may_change = true,
                                   .is_hung = is_hung,
                                   .message_max = MGMT_FRAME_BYTES};

    uint32_t len_bytes =
        mgmt_serve(&app_mgmt_tables, &from, box->frame.bytes, box->frame.len_bytes, box->response);
    return mgmt_frame_make(box->response, len_bytes, box->text);
}

static void give_back(void)
{
    atomic_store_explicit(&frames.state, FRAME_FREE, memory_order_release);
}

static void say(const struct box *box, uint32_t len_bytes)
{
    frames.is_writing = true;
    bool was_locked = log_lock();
    console_write(box->text, len_bytes);
    log_unlock(was_locked);
    frames.is_writing = false;
}

/* In the handler: the box stays its own. */
static void answer_for_hung_core(void)
{
    struct box *box = &frames.boxes[frames.open];

    uint32_t len_bytes = serve(box, true);
    give_back();
    say(box, len_bytes);
}

uint32_t app_mgmt_frames_poll(void)
{
    if (LIKELY(atomic_load_explicit(&frames.state, memory_order_relaxed) != FRAME_WAITING) ||
        !take_waiting()) {
        return 0;
    }
    struct box *box = &frames.boxes[frames.open];
    frames.open ^= 1u;
    give_back();
    say(box, serve(box, false));
    return 1;
}

/* Core 0 has begun no turn since it was looked at, long ago. */
static bool is_hung(void)
{
    struct sched_stats stats = sched_stats(0);
    uint64_t now_ns = clock_now_ns();

    if (stats.turn_count != frames.turn || stats.is_asleep) {
        frames.turn = stats.turn_count;
        frames.turn_seen_ns = now_ns;
        return false;
    }
    return now_ns - frames.turn_seen_ns >= MGMT_FRAME_HANG_MS * NS_PER_MS;
}

static bool take(uint8_t byte)
{
    uint32_t state = atomic_load_explicit(&frames.state, memory_order_acquire);

    if (byte == MGMT_FRAME_START) {
        if (is_hung() && !frames.is_writing && take_waiting()) {
            answer_for_hung_core();
            state = FRAME_FREE;
        }
        frames.is_open = true;
        frames.is_dropped = state != FRAME_FREE;
    }
    if (!frames.is_open) {
        return false;
    }
    frames.is_open = byte != '\n';
    if (!frames.is_dropped &&
        mgmt_frame_byte(&frames.boxes[frames.open].frame, byte) == MGMT_FRAME_END) {
        atomic_store_explicit(&frames.state, FRAME_WAITING, memory_order_release);
    }
    return true;
}

void app_mgmt_frames_start(void)
{
    console_set_take(take);
}
