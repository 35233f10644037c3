/*
 * What reports say of queues, as they are looked at when something hangs.
 */
#include "tests/unit/nvme_ep/rig_test.h"

static void report_queue_tells_commands_and_the_oldest(void **state)
{
    (void)state;
    struct rig_queue queue;
    uint64_t buffer = rig_alloc(4096);
    uint64_t oldest_ns;

    rig_create_pair(&queue, 1, 64);
    assert_int_equal(nvme_ep_queue_commands(rig.ep, 1, &oldest_ns), 0);
    assert_int_equal(oldest_ns, 0);
    uint64_t before_ns = clock_now_ns();
    for (uint32_t i = 0; i < 3; i++) {
        struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 2, i, 1, buffer, 0);
        rig_push(&queue, &sqe);
        rig_ring(&queue);
        rig_turn(1);
        rig_advance_ms(1);
    }
    assert_int_equal(nvme_ep_queue_commands(rig.ep, 1, &oldest_ns), 3);
    assert_true(oldest_ns >= before_ns && oldest_ns <= before_ns);
    rig_slow_release(&rig.slow, 0);
    rig_turn(1);
    assert_int_equal(nvme_ep_queue_commands(rig.ep, 1, &oldest_ns), 2);
    assert_true(oldest_ns >= before_ns + NS_PER_MS);
    assert_int_equal(nvme_ep_queue_commands(rig.ep, 2, &oldest_ns), 0);
    assert_int_equal(nvme_ep_queue_commands(rig.ep, UINT16_MAX, &oldest_ns), 0);
    rig_slow_release_all(&rig.slow);
    rig_turn(2);
}

static void report_queue_tells_where_it_lies_and_stands(void **state)
{
    (void)state;
    struct rig_queue queue;
    uint64_t buffer = rig_alloc(4096);

    rig_create_pair(&queue, 1, 4);
    for (uint32_t i = 0; i < 6; i++) {
        struct nvme_ep_queue_info info = nvme_ep_queue_info(rig.ep, 1);
        struct nvme_cqe cqe;
        assert_int_equal(info.sq_host_addr, queue.sq_addr);
        assert_int_equal(info.cq_host_addr, queue.cq_addr);
        assert_int_equal(info.sq_doorbell, i % 4);
        assert_int_equal(info.cq_doorbell, i % 4);
        assert_int_equal(info.phase, i / 4 % 2 == 0);
        assert_int_equal(info.irq_count, i);
        assert_false(info.is_far);
        assert_false(info.is_deleting);
        assert_false(info.is_shadowed);
        struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, i, 1, buffer, 0);
        rig_push(&queue, &sqe);
        rig_ring(&queue);
        rig_turn(1);
        assert_true(rig_pop(&queue, &cqe));
        rig_ring_head(&queue);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
        T(report_queue_tells_commands_and_the_oldest),
        T(report_queue_tells_where_it_lies_and_stands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
