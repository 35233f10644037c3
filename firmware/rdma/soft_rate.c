/*
 * How fast a QP may send: not limited until the peer notifies congestion, then DCQCN (Zhu et al.,
 * SIGCOMM 2015): a cut by half of alpha, which tells how congested the way has been; then half the
 * distance back to the old rate, five times; then a step beyond it, each time, until the limit no
 * longer limits. IBA A17.9 says what notifications are, not what follows from them.
 */
#include "rdma/soft_priv.h"

#include "hal/clock.h"

#define LINE_MBPS       100000u
#define MIN_MBPS        10u
#define STEP_MBPS       40u
#define CUT_INTERVAL_NS (50 * NS_PER_US)
#define RAISE_NS        (300 * NS_PER_US)
#define EPOCH_NS        NS_PER_MS
#define FAST_ROUNDS     5u
#define ALPHA_ONE       1024u
#define ALPHA_SHIFT     4 /* g = 1/16 */
#define ROUNDS_AT_ONCE  64u
/* A QP that waited is woken by a timer up to a tick (66 us) late: it may make up for so much. */
#define BURST_NS (100 * NS_PER_US)

void soft_rate_reset(struct soft_qp *qp)
{
    memset(&qp->rate, 0, sizeof(qp->rate));
    qp->rate_waits = false;
}

/* What it has been sending lately: a limit above that would limit nothing. */
static uint32_t measured_mbps(const struct soft_rate *rate, uint64_t now_ns)
{
    uint64_t span_ns = max_u64(now_ns - rate->epoch_ns, NS_PER_US);
    uint64_t mbps = rate->epoch_bytes * 8 * 1000 / span_ns;

    return (uint32_t)min_u64(max_u64(mbps, MIN_MBPS), LINE_MBPS);
}

void soft_rate_notified(struct soft_qp *qp)
{
    struct soft_rate *rate = &qp->rate;
    uint64_t now_ns = sched_now_ns();

    qp->stats.cnp_rx++;
    if (!qp->dev->ecn || (rate->cut_ns != 0 && now_ns - rate->cut_ns < CUT_INTERVAL_NS)) {
        return;
    }
    if (rate->current_mbps == 0) {
        rate->current_mbps = measured_mbps(rate, now_ns);
        rate->alpha_1024 = ALPHA_ONE;
        rate->next_tx_ns = now_ns;
    }
    rate->target_mbps = rate->current_mbps;
    uint32_t cut = (uint32_t)((uint64_t)rate->current_mbps * rate->alpha_1024 / (2 * ALPHA_ONE));
    rate->current_mbps = (uint32_t)max_u64(rate->current_mbps - cut, MIN_MBPS);
    rate->alpha_1024 += (ALPHA_ONE - rate->alpha_1024) >> ALPHA_SHIFT;
    rate->rounds = 0;
    rate->cut_ns = now_ns;
    rate->raise_ns = now_ns + RAISE_NS;
}

static void raise(struct soft_rate *rate)
{
    rate->alpha_1024 -= rate->alpha_1024 >> ALPHA_SHIFT;
    if (++rate->rounds > FAST_ROUNDS) {
        /* The longer it has been quiet, the larger the step (the hyper increase). */
        rate->target_mbps += STEP_MBPS * (rate->rounds - FAST_ROUNDS);
    }
    rate->current_mbps += (rate->target_mbps - rate->current_mbps + 1) / 2;
}

bool soft_rate_allows(struct soft_qp *qp)
{
    struct soft_rate *rate = &qp->rate;

    if (LIKELY(rate->current_mbps == 0)) {
        return true;
    }
    uint64_t now_ns = sched_now_ns();
    for (uint32_t i = 0; i < ROUNDS_AT_ONCE && now_ns >= rate->raise_ns; i++) {
        raise(rate);
        rate->raise_ns += RAISE_NS;
    }
    if (rate->current_mbps >= LINE_MBPS) {
        rate->current_mbps = 0;
        rate->epoch_ns = now_ns;
        rate->epoch_bytes = 0;
        return true;
    }
    if (now_ns < rate->next_tx_ns) {
        qp->rate_waits = true;
        soft_timer_update(qp);
        return false;
    }
    return true;
}

void soft_rate_count(struct soft_qp *qp, uint32_t frame_bytes)
{
    struct soft_rate *rate = &qp->rate;
    uint64_t now_ns = sched_now_ns();

    if (LIKELY(rate->current_mbps == 0)) {
        if (now_ns - rate->epoch_ns > EPOCH_NS) {
            rate->epoch_ns = now_ns;
            rate->epoch_bytes = 0;
        }
        rate->epoch_bytes += frame_bytes;
        return;
    }
    rate->next_tx_ns = max_u64(rate->next_tx_ns, now_ns - min_u64(now_ns, BURST_NS)) +
                       (uint64_t)frame_bytes * 8 * 1000 / rate->current_mbps;
}
