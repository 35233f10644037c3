#include "tests/unit/diag/rig.h"

#include "hal/clock.h"
#include "hal/native/native.h"
#include "sched/sched.h"

struct rdma_device *rig_device;

void rig_start(void)
{
    native_clock_set(NS_PER_S);
    sched_init(1, SCHED_IDLE_POLL);
    rig_device = fake_rdma_start();
}

void rig_turns(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        sched_turn();
        native_clock_advance(1000);
    }
}
