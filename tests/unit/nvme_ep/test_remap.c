/*
 * A host that changes its memory map while the controller is enabled: QEMU takes the window away
 * and gives it back in pieces, and the queues lie outside of all windows meanwhile.
 */
#include "tests/unit/nvme_ep/rig_test.h"

static struct rig_queue io;

static int setup(void **state)
{
    (void)state;
    rig_start_pair(NULL, &io, 16);
    return 0;
}

/* One page at the end of RAM, where no queue is. */
static const struct pcie_ep_window *without_queues(void)
{
    static struct pcie_ep_window window;
    window = rig.windows[0];
    window.host_addr += RIG_RAM_BYTES - 4096;
    window.bus_addr += RIG_RAM_BYTES - 4096;
    window.len_bytes = 4096;
    return &window;
}

static void remap_queues_away_and_back_go_on(void **state)
{
    (void)state;
    struct pcie_ep_window whole = rig.windows[0];
    struct nvme_sqe read = rig_rw(NVME_IO_READ, 1, 0, 8, rig_alloc(4096), 0);
    struct nvme_cqe cqe;

    assert_int_equal(rig_do(&io, &read, &cqe), 0);
    rig_windows_set(without_queues(), 1, true);
    rig_turn(10);
    assert_int_equal(rig_csts(), NVME_CSTS_RDY);
    rig_push(&io, &read); /* nobody may look at it now */
    rig_ring(&io);
    rig_advance_ms(500);
    assert_false(rig_pop(&io, &cqe));

    rig_windows_set(&whole, 1, false);
    rig_turn(10);
    assert_int_equal(rig_csts(), NVME_CSTS_RDY);
    assert_true(rig_pop(&io, &cqe));
    assert_int_equal(rig_status(&cqe), 0);
    rig_advance_ms(5000);
    assert_int_equal(rig_csts(), NVME_CSTS_RDY);
}

static void remap_queues_away_for_good_is_fatal(void **state)
{
    (void)state;
    struct pcie_ep_window whole = rig.windows[0];

    rig_windows_set(without_queues(), 1, true);
    rig_advance_ms(3000);
    assert_int_equal(rig_csts() & NVME_CSTS_CFS, NVME_CSTS_CFS);
    rig_windows_set(&whole, 1, false);
    rig_turn(10);
    rig_disable();
    assert_int_equal(rig_csts(), 0);
    rig_enable();
}

static void remap_completion_that_ends_meanwhile_is_kept(void **state)
{
    (void)state;
    struct pcie_ep_window whole = rig.windows[0];
    struct nvme_sqe flush = {.opcode = NVME_IO_FLUSH, .nsid = 2};
    struct nvme_cqe cqe;

    rig_push(&io, &flush); /* refers to no memory: no reason to wait for it */
    rig_ring(&io);
    rig_turn(3);
    assert_int_equal(rig.slow.held_count, 1);
    uint32_t acks = rig.ack_count;
    rig_windows_set(without_queues(), 1, true);
    rig_turn(10);
    assert_int_equal(rig.ack_count, acks + 1);
    rig_slow_release_all(&rig.slow);
    rig_turn(10);
    assert_false(rig_pop(&io, &cqe));

    rig_windows_set(&whole, 1, false);
    rig_turn(10);
    assert_true(rig_pop(&io, &cqe));
    assert_int_equal(rig_status(&cqe), 0);
}

static int setup_two_cores(void **state)
{
    (void)state;
    rig_start(&(struct rig_config){.core_count = 2, .core_mask = 2});
    rig_enable();
    rig_alloc(1 << 20); /* what stays */
    rig_create_pair(&io, 1, 16);
    return 0;
}

/* Only core 1 has a queue out of reach, so the host's Delete is seen. */
static void remap_lost_queue_deleted_in_time_goes_on(void **state)
{
    (void)state;
    struct pcie_ep_window part = rig.windows[0];
    struct rig_queue other;
    struct nvme_cqe cqe;

    part.len_bytes = io.sq_addr - RIG_HOST_BASE;
    rig_windows_set(&part, 1, true);
    rig_turn(10);
    rig_advance_ms(1000);
    assert_int_equal(rig_delete_sq(1), 0);
    assert_int_equal(rig_delete_cq(1), 0);
    rig_advance_ms(3000);
    assert_int_equal(rig_csts(), NVME_CSTS_RDY);

    rig.alloc_next = 256 << 10;
    rig_create_pair(&other, 1, 16);
    struct nvme_sqe read = rig_rw(NVME_IO_READ, 1, 0, 8, rig_alloc(4096), 0);
    assert_int_equal(rig_do(&other, &read, &cqe), 0);
}

static void remap_one_of_two_lost_queues_deleted_is_fatal(void **state)
{
    (void)state;
    struct pcie_ep_window part = rig.windows[0];
    struct rig_queue second;

    rig_create_pair(&second, 2, 16);
    part.len_bytes = io.sq_addr - RIG_HOST_BASE;
    rig_windows_set(&part, 1, true);
    rig_turn(10);
    assert_int_equal(rig_delete_sq(1), 0);
    assert_int_equal(rig_delete_cq(1), 0);
    rig_advance_ms(3000);
    assert_int_equal(rig_csts() & NVME_CSTS_CFS, NVME_CSTS_CFS);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        T(remap_queues_away_and_back_go_on),
        T(remap_queues_away_for_good_is_fatal),
        T(remap_completion_that_ends_meanwhile_is_kept),
        cmocka_unit_test_setup_teardown(remap_lost_queue_deleted_in_time_goes_on, setup_two_cores,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(remap_one_of_two_lost_queues_deleted_is_fatal,
                                        setup_two_cores, rig_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
