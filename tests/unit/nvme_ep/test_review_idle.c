/* What keeps a core awake and what wakes it, and which doorbell values are reported. */
#include "tests/unit/nvme_ep/rig_test.h"

static struct rig_queue io;

static int setup(void **state)
{
    (void)state;
    rig_start_pair(&(struct rig_config){.trapped = true}, &io, 4);
    return 0;
}

static uint64_t sleep_of_core_0(void)
{
    uint64_t limit_ns = nvme_ep_arm(&rig.ep->cores[0], true);

    nvme_ep_arm(&rig.ep->cores[0], false);
    return limit_ns;
}

/* Five commands for a CQ that has room for three: the fourth completion is held, the fifth command
 * is not fetched. */
static void fill_cq(void)
{
    struct nvme_sqe sqe = {.opcode = NVME_IO_FLUSH, .nsid = 1};

    for (uint32_t i = 0; i < 5; i++) {
        rig_push(&io, &sqe);
        rig_ring(&io);
        rig_turn(2);
    }
    assert_int_equal(nvme_ep_queue_info(rig.ep, 1).cq_held, 1);
}

static void full_cq_lets_the_core_sleep(void **state)
{
    (void)state;
    fill_cq();
    assert_int_equal(sleep_of_core_0(), UINT64_MAX);
    io.cq_head = 1;
    rig_ring_head(&io); /* between the last look and arming */
    assert_int_equal(sleep_of_core_0(), 0);
}

static void invalid_head_of_a_full_cq_lets_the_core_sleep(void **state)
{
    (void)state;
    fill_cq();
    shm_store32(rig_cq_doorbell(1), 77);
    rig_turn(4);
    assert_int_equal(sleep_of_core_0(), UINT64_MAX);
    shm_store32(rig_cq_doorbell(1), 78);
    assert_int_equal(sleep_of_core_0(), 0); /* not known yet to be invalid */
}

static void head_rung_after_shutdown_is_seen_before_sleep(void **state)
{
    (void)state;
    fill_cq();
    rig.slow.is_open = true;
    rig_write32(NVME_REG_CC, RIG_CC | 1u << NVME_CC_SHN_SHIFT);
    rig_turn(10);
    io.cq_head = 1;
    rig_ring_head(&io);
    assert_int_equal(sleep_of_core_0(), 0);
}

static void doorbell_of_all_ones_is_reported(void **state)
{
    (void)state;
    shm_store32(rig_sq_doorbell(1), UINT32_MAX);
    rig_turn(4);
    assert_int_equal(nvme_ep_stats(rig.ep, NVME_EP_ALL_CORES).doorbell_error_count, 1);
    shm_store32(rig_sq_doorbell(1), 0);
    fill_cq();
    shm_store32(rig_cq_doorbell(1), UINT32_MAX);
    rig_turn(4);
    assert_int_equal(nvme_ep_stats(rig.ep, NVME_EP_ALL_CORES).doorbell_error_count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)
        T(full_cq_lets_the_core_sleep),
        T(invalid_head_of_a_full_cq_lets_the_core_sleep),
        T(head_rung_after_shutdown_is_seen_before_sleep),
        T(doorbell_of_all_ones_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
