/*
 * One side and what plays its peer, for programs whose tests need no more: made anew for each test.
 */
#ifndef TESTS_UNIT_RDMA_CM_RIG_TEST_H
#define TESTS_UNIT_RDMA_CM_RIG_TEST_H

#include "tests/unit/rdma_cm/rig.h"

extern struct rig rig;

/* Of CMocka. */
int rig_setup(void **state);
int rig_teardown(void **state);

#endif
