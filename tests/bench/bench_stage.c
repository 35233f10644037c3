#include "tests/bench/bench_stage.h"

#ifdef STAGE_MARKS
#include <string.h>
#include "tests/bench/bench_counter.h"

static uint64_t sums[STAGE_COUNT];
static uint64_t start;
static uint64_t cost; /* of one mark */
static enum stage current = STAGE_OTHER;

enum stage stage_enter(enum stage stage)
{
    enum stage before = current;
    uint64_t now = bench_count();
    uint64_t spent = now - start;

    sums[before] += spent > cost ? spent - cost : 0;
    current = stage;
    start = bench_count();
    return before;
}

void bench_stages_start(void)
{
    cost = 0;
    stage_enter(STAGE_OTHER);
    sums[STAGE_OTHER] = 0;
    stage_enter(STAGE_OTHER);
    cost = sums[STAGE_OTHER];
    memset(sums, 0, sizeof(sums));
}

uint64_t bench_stage_sum(enum stage stage)
{
    return sums[stage];
}

const char *bench_stage_name(enum stage stage)
{
    static const char *const names[] = {
#define STAGE_NAME(name, text) #name,
        STAGE_LIST(STAGE_NAME)
#undef STAGE_NAME
    };
    return names[stage];
}
#endif
