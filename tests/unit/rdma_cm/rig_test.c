#include "tests/unit/rdma_cm/rig_test.h"

struct rig rig;

int rig_setup(void **state)
{
    (void)state;
    rig_start();
    rig_init(&rig, RIG_US, NULL);
    return 0;
}

int rig_teardown(void **state)
{
    (void)state;
    rig_end(&rig);
    return 0;
}
