/* A turn is bounded in what it copies, and no queue is left out for that. */
#include "tests/unit/nvme_ep/rig_test.h"

#define QUEUES 16u
#define DEPTH  17u /* entries: 16 commands */
#define BYTES  (1u << 20)

static struct rig_queue queues[QUEUES];

static int setup(void **state)
{
    (void)state;
    rig_start(NULL);
    rig_enable();
    for (uint32_t i = 0; i < QUEUES; i++) {
        rig_create_pair(&queues[i], (uint16_t)(i + 1), DEPTH);
    }
    return 0;
}

static uint64_t bytes_to_host(void)
{
    return nvme_ep_stats(rig.ep, NVME_EP_ALL_CORES).data_to_host.bytes;
}

/* One SGL data block is enough for each. */
static struct nvme_sqe large_read(uint64_t addr)
{
    struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, 0, BYTES / 512, 0, 0);

    sqe.flags = NVME_PSDT_SGL_MPTR << NVME_SQE_PSDT_SHIFT;
    sqe.sgl1 = (struct nvme_sgl_desc){.addr = addr, .len_bytes = BYTES};
    return sqe;
}

static void turn_with_large_reads_in_all_queues_is_bounded(void **state)
{
    (void)state;
    struct nvme_sqe read = large_read(rig_alloc(BYTES));
    struct nvme_cqe cqe;

    for (uint32_t i = 0; i < QUEUES; i++) {
        for (uint32_t n = 0; n < DEPTH - 1; n++) {
            rig_push(&queues[i], &read);
        }
        rig_ring(&queues[i]);
    }
    for (uint32_t turn = 0; turn < 2; turn++) {
        uint64_t before = bytes_to_host();
        rig_turn(1);
        assert_int_equal(bytes_to_host() - before, (uint64_t)NVME_EP_ROUND * BYTES);
    }
    for (uint32_t i = 0; i < QUEUES; i++) {
        for (uint32_t n = 0; n < DEPTH - 1; n++) {
            assert_true(rig_pop(&queues[i], &cqe));
            assert_int_equal(rig_status(&cqe), 0);
        }
    }
}

static void turn_with_small_reads_serves_every_queue(void **state)
{
    (void)state;
    struct nvme_sqe read = rig_rw(NVME_IO_READ, 1, 0, 8, rig_alloc(4096), 0);
    struct nvme_cqe cqe;

    for (uint32_t i = 0; i < QUEUES; i++) {
        rig_push(&queues[i], &read);
        rig_ring(&queues[i]);
    }
    rig_turn(1);
    for (uint32_t i = 0; i < QUEUES; i++) {
        assert_true(rig_pop(&queues[i], &cqe));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)
        T(turn_with_large_reads_in_all_queues_is_bounded),
        T(turn_with_small_reads_serves_every_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
