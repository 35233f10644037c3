/*
 * What a run counts: what seeds together must have had of everything, or the simulation has lost
 * what it is for.
 */
#include "tests/sim/path/path.h"

#define SUM_LIST(X)                                        \
    X(OK, "commands succeeded")                            \
    X(ERROR, "commands failed")                            \
    X(ABORT, "aborts of the host")                         \
    X(RESET, "resets by the host")                         \
    X(LOST, "frames the wire lost")                        \
    X(CORRUPTED, "frames it corrupted")                    \
    X(AGAIN, "associations made anew")                     \
    X(LATE, "commands executed after their association")   \
    X(RETRIED, "requests sent again by a volume")          \
    X(QUIETED, "requests that waited for quiescence")      \
    X(INTERRUPTED, "requests that must not be sent twice") \
    X(EXPIRED, "requests for which no path came in time")

enum sum {
#define SUM_ENUM(name, text) SUM_##name,
    SUM_LIST(SUM_ENUM)
#undef SUM_ENUM
    SUM_COUNT,
};
_Static_assert(SUM_COUNT <= SIM_SUMS, "sim_main.h");

const char *const sim_sum_names[] = {
#define SUM_NAME(name, text) text,
    SUM_LIST(SUM_NAME)
#undef SUM_NAME
        NULL,
};

void path_sums_add(void)
{
    sim_sum(SUM_OK, path.ok_count);
    sim_sum(SUM_ERROR, path.error_count);
    sim_sum(SUM_ABORT, path.abort_count);
    sim_sum(SUM_RESET, path.reset_count);
    sim_sum(SUM_LOST, wire_counts(path.wire)->lost);
    sim_sum(SUM_CORRUPTED, wire_counts(path.wire)->corrupted);
    sim_sum(SUM_LATE, target_stats(path.target)->late);
    for (uint32_t i = 0; i < path.plan.ctrl_count; i++) {
        struct nvmf_ctrl_info info;
        nvmf_ctrl_info(path.ctrls[i], &info);
        sim_sum(SUM_AGAIN, info.connect_count > 0 ? info.connect_count - 1 : 0);
    }
    for (uint32_t i = 0; i < path.plan.volume_count; i++) {
        struct vol_info info;
        vol_info(path.volumes[i].vol, &info);
        sim_sum(SUM_RETRIED, info.stats.retries);
        sim_sum(SUM_QUIETED, info.stats.quieted);
        sim_sum(SUM_INTERRUPTED, info.stats.interrupted);
        sim_sum(SUM_EXPIRED, info.stats.expired);
    }
}
