/* Fetching, completing, arbitration: sections 4.1, 4.6, 4.13. */
#include <string.h>
#include "tests/unit/nvme_ep/rig_test.h"

static void push_slow(struct rig_queue *queue, uint32_t count, uint64_t buffer)
{
    for (uint32_t i = 0; i < count; i++) {
        struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 2, i, 1, buffer, 0);
        rig_push(queue, &sqe);
    }
}

/* --- data ---------------------------------------------------------------------------------- */

static void io_write_then_read_brings_the_data_back(void **state)
{
    (void)state;
    struct rig_queue queue;
    struct nvme_cqe cqe;
    uint64_t from = rig_alloc(4096);
    uint64_t to = rig_alloc(4096);

    rig_create_pair(&queue, 1, 16);
    for (uint32_t i = 0; i < 4096; i++) {
        ((uint8_t *)rig_ptr(from))[i] = (uint8_t)(i * 31 + 7);
    }
    struct nvme_sqe write = rig_rw(NVME_IO_WRITE, 1, 100, 8, from, 0);
    struct nvme_sqe read = rig_rw(NVME_IO_READ, 1, 100, 8, to, 0);
    assert_int_equal(rig_do(&queue, &write, &cqe), 0);
    assert_int_equal(rig_do(&queue, &read, &cqe), 0);
    assert_memory_equal(rig_ptr(from), rig_ptr(to), 4096);

    struct nvme_ep_stats stats = nvme_ep_stats(rig.ep, NVME_EP_ALL_CORES);
    assert_int_equal(stats.data_to_host.bytes, 4096);
    assert_int_equal(stats.data_from_host.bytes, 4096);
    assert_int_equal(stats.staged_bytes, 0);
    assert_int_equal(stats.list_reads.count, 0);
    assert_int_equal(stats.sqe_reads.bytes, stats.sqe_count * 64);
    assert_int_equal(stats.sqe_count, stats.cqe_count);
}

static void io_wraps_for_every_small_size(void **state)
{
    (void)state;
    uint64_t buffer = rig_alloc(4096);

    for (uint16_t size = 2; size <= 9; size++) {
        struct rig_queue queue;
        struct nvme_cqe cqe;
        rig_create_pair(&queue, 1, size);
        for (uint32_t i = 0; i < 4u * size + 1; i++) { /* phases of four laps */
            struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, i, 1, buffer, 0);
            assert_int_equal(rig_do(&queue, &sqe, &cqe), 0);
            assert_int_equal(cqe.sq_head, queue.sq_tail);
        }
        assert_int_equal(rig_delete_sq(1), 0);
        assert_int_equal(rig_delete_cq(1), 0);
    }
}

static void io_bursts_of_any_length_complete_in_order(void **state)
{
    (void)state;
    struct rig_queue queue;
    uint64_t buffer = rig_alloc(4096);
    uint64_t seed = 5;
    uint16_t expected = 0;

    rig_create_pair(&queue, 1, 33);
    for (uint32_t round = 0; round < 200; round++) {
        uint32_t count = rig_random(&seed) % 33;
        struct nvme_cqe cqe;
        for (uint32_t i = 0; i < count; i++) {
            struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, i, 1, buffer, 0);
            rig_push(&queue, &sqe);
        }
        rig_ring(&queue);
        rig_turn(4);
        for (uint32_t i = 0; i < count; i++) {
            assert_true(rig_pop(&queue, &cqe));
            assert_int_equal(rig_cid(&cqe), expected++);
        }
        assert_false(rig_pop(&queue, &cqe));
        rig_ring_head(&queue);
    }
}

static void io_interrupts_come_once_per_batch_and_only_with_ien(void **state)
{
    (void)state;
    struct rig_queue queue;
    uint64_t buffer = rig_alloc(4096);

    rig_create_pair(&queue, 1, 64);
    for (uint32_t i = 0; i < 10; i++) {
        struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, i, 1, buffer, 0);
        rig_push(&queue, &sqe);
    }
    rig_ring(&queue);
    rig_turn(1);
    assert_int_equal(rig_pop_all(&queue), 10);
    assert_int_equal(rig.irq_count[1], 1);

    assert_int_equal(rig_create_cq(2, 16, rig_alloc(4096), 2u << 16 | NVME_CREATE_CQ_PC), 0);
    uint64_t sq_addr = rig_alloc(4096);
    assert_int_equal(rig_create_sq(2, 16, sq_addr, 2u << 16 | 1), 0);
    struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, 0, 1, buffer, 0);
    memcpy(rig_ptr(sq_addr), &sqe, sizeof(sqe));
    *rig_sq_doorbell(2) = 1;
    rig_turn(2);
    assert_int_equal(nvme_ep_queue_info(rig.ep, 2).cq_tail, 1);
    assert_int_equal(rig.irq_count[2], 0);
}

/* --- backpressure -------------------------------------------------------------------------- */

/* A pair whose CQ has 4 entries. */
static void create_small_cq(struct rig_queue *queue)
{
    rig_create_pair(queue, 1, 64);
    assert_int_equal(rig_delete_sq(1), 0);
    assert_int_equal(rig_delete_cq(1), 0);
    assert_int_equal(rig_create_cq(1, 4, queue->cq_addr, 1u << 16 | 3), 0);
    assert_int_equal(rig_create_sq(1, 64, queue->sq_addr, 1u << 16 | 1), 0);
    queue->cq_size = 4;
}

static void cq_full_holds_until_the_head_moves(void **state)
{
    (void)state;
    struct rig_queue queue;
    uint64_t buffer = rig_alloc(4096);
    uint32_t got = 0;

    create_small_cq(&queue);
    for (uint32_t i = 0; i < 50; i++) {
        struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, i, 1, buffer, 0);
        rig_push(&queue, &sqe);
    }
    rig_ring(&queue);
    rig_turn(5);
    uint64_t fetched = nvme_ep_queue_info(rig.ep, 1).sqe_count;
    rig_turn(5);
    assert_int_equal(nvme_ep_queue_info(rig.ep, 1).sqe_count, fetched); /* it has stopped */
    assert_true(fetched < 50);
    while (got < 50) {
        uint32_t count = rig_pop_all(&queue);
        assert_true(count >= 1 && count <= 3);
        got += count;
        rig_ring_head(&queue);
        rig_turn(2);
    }
    assert_int_equal(got, 50);
    assert_int_equal(nvme_ep_queue_info(rig.ep, 1).cqe_count, 50);
    assert_true(nvme_ep_stats(rig.ep, 0).cq_full_count > 0);
}

static void cq_full_keeps_the_order_of_completion(void **state)
{
    (void)state;
    struct rig_queue queue;
    struct nvme_cqe cqe;
    uint64_t buffer = rig_alloc(4096);
    uint16_t expected = 0;

    create_small_cq(&queue);
    push_slow(&queue, 12, buffer);
    rig_ring(&queue);
    rig_turn(2);
    for (uint32_t i = 0; i < 6; i++) {
        rig_slow_release(&rig.slow, 0);
    }
    rig_turn(1);
    while (expected < 12) {
        while (rig_pop(&queue, &cqe)) {
            assert_int_equal(rig_cid(&cqe), expected++);
        }
        rig_ring_head(&queue);
        rig_slow_release(&rig.slow, 0); /* ends before the held ones had their turn */
        rig_turn(1);
    }
}

static void cq_full_then_disable_leaves_nothing_behind(void **state)
{
    (void)state;
    struct rig_queue queue;

    create_small_cq(&queue);
    push_slow(&queue, 12, rig_alloc(4096));
    rig_ring(&queue);
    rig_turn(2);
    rig_slow_release_all(&rig.slow);
    rig_turn(2);
    assert_int_equal(nvme_ep_queue_info(rig.ep, 1).cq_held, 9);
    rig_disable();
    assert_int_equal(rig_csts(), 0);
    assert_true(rig_pools_are_full());
}

static void cq_full_on_admin_queue_recovers(void **state)
{
    (void)state;
    struct nvme_cqe cqe;
    uint32_t got = 0;

    rig_disable();
    rig_enable_sized(16, 2, RIG_CC);
    struct nvme_sqe sqe = rig_identify(rig_alloc(4096));
    for (uint32_t i = 0; i < 15; i++) {
        rig_push(&rig_admin_queue, &sqe);
    }
    rig_ring(&rig_admin_queue);
    for (uint32_t i = 0; i < 40 && got < 15; i++) {
        rig_turn(1);
        while (rig_pop(&rig_admin_queue, &cqe)) {
            got++;
            rig_ring_head(&rig_admin_queue);
        }
    }
    assert_int_equal(got, 15);
}

static void sqs_that_share_a_cq_all_get_their_turn(void **state)
{
    (void)state;
    struct rig_queue queues[3];
    struct nvme_cqe cqe;
    uint64_t buffer = rig_alloc(4096);
    uint32_t got[4] = {0};

    rig_create_pair(&queues[0], 1, 128);
    for (uint16_t i = 1; i < 3; i++) {
        queues[i] = queues[0];
        queues[i].id = (uint16_t)(i + 1);
        queues[i].sq_size = 32;
        queues[i].sq_addr = rig_alloc(4096);
        assert_int_equal(rig_create_sq(queues[i].id, 32, queues[i].sq_addr, 1u << 16 | 1), 0);
    }
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t n = 0; n < 20; n++) {
            struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, n, 1, buffer, 0);
            rig_push(&queues[i], &sqe);
        }
        rig_ring(&queues[i]);
    }
    rig_turn(6);
    while (rig_pop(&queues[0], &cqe)) {
        assert_int_equal(rig_cid(&cqe), got[cqe.sq_id]++);
    }
    assert_int_equal(got[1], 20);
    assert_int_equal(got[2], 20);
    assert_int_equal(got[3], 20);
}

static void pool_empty_stops_fetching_and_goes_on(void **state)
{
    (void)state;
    struct rig_queue queues[3];
    uint64_t buffer = rig_alloc(4096);
    uint32_t done = 0;

    for (uint16_t i = 0; i < 3; i++) {
        rig_create_pair(&queues[i], (uint16_t)(i + 1), 512);
        push_slow(&queues[i], 511, buffer);
        rig_ring(&queues[i]);
    }
    rig_turn(100);
    assert_int_equal(rig.slow.held_count, LIMIT_COMMANDS_PER_CORE);
    assert_int_equal(nvme_ep_snapshot(rig.ep).pool_low_water[0], 0);
    assert_true(nvme_ep_stats(rig.ep, 0).pool_empty_count > 0);

    /* The admin queue has commands of its own. */
    struct nvme_sqe sqe = rig_identify(rig_alloc(4096));
    assert_int_equal(rig_admin(&sqe, NULL), 0);

    while (rig_slow_release(&rig.slow, 0)) {
        rig_turn(1);
        done++;
    }
    assert_int_equal(done, 3 * 511);
    assert_int_equal(rig_pop_all(&queues[0]) + rig_pop_all(&queues[1]) + rig_pop_all(&queues[2]),
                     3 * 511);
}

static void pool_empty_starves_no_queue(void **state)
{
    (void)state;
    struct rig_queue queues[3];
    uint64_t buffer = rig_alloc(4096);

    for (uint16_t i = 0; i < 3; i++) {
        rig_create_pair(&queues[i], (uint16_t)(i + 1), 1024);
        push_slow(&queues[i], 1023, buffer);
    }
    for (uint16_t i = 0; i < 3; i++) {
        rig_ring(&queues[i]);
    }
    rig_turn(100);
    for (uint32_t i = 0; i < 600; i++) {
        rig_slow_release(&rig.slow, 0);
        rig_turn(1);
    }
    for (uint16_t i = 0; i < 3; i++) {
        assert_true(nvme_ep_queue_info(rig.ep, (uint16_t)(i + 1)).sqe_count > 500);
    }
}

static void big_lists_used_up_stop_fetching_and_go_on(void **state)
{
    (void)state;
    struct rig_queue queue;
    uint64_t list = rig_alloc(4096);
    uint64_t page = rig_alloc(4096);
    uint32_t done = 0;

    for (uint32_t i = 0; i < 64; i++) {
        /* Not contiguous: each page is a segment of its own. */
        ((uint64_t *)rig_ptr(list))[i] = page;
    }
    rig_create_pair(&queue, 1, 512);
    for (uint32_t i = 0; i < 200; i++) {
        struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 2, i, 50, page, list);
        rig_push(&queue, &sqe);
    }
    rig_ring(&queue);
    rig_turn(50);
    assert_int_equal(rig.slow.held_count, LIMIT_BIG_COMMANDS_PER_CORE);
    while (rig_slow_release(&rig.slow, 0)) {
        rig_turn(1);
        done++;
    }
    assert_int_equal(done, 200);
    assert_int_equal(rig_pop_all(&queue), 200);
}

/* --- arbitration --------------------------------------------------------------------------- */

/* The order in which the slow device got commands: queue by queue, as (nsid unused) cid tells. */
static uint32_t order_of(uint16_t *sq_ids, uint32_t max)
{
    uint32_t count = 0;

    LIST_FOR_EACH(link, next, &rig.slow.held)
    {
        struct blk_req *req = LIST_ENTRY(link, struct blk_req, link);
        if (count < max) {
            sq_ids[count++] = CONTAINER_OF(req, struct nvme_cmd, blk)->sq_id;
        }
    }
    return count;
}

static void arbitration_round_robin_takes_a_burst_of_each(void **state)
{
    (void)state;
    struct rig_queue queues[2];
    uint16_t order[64];
    uint64_t buffer = rig_alloc(4096);

    assert_int_equal(rig_set_feature(NVME_FEATURE_ARBITRATION, 1), 0); /* 2 commands */
    for (uint16_t i = 0; i < 2; i++) {
        rig_create_pair(&queues[i], (uint16_t)(i + 1), 32);
        push_slow(&queues[i], 6, buffer);
    }
    rig_ring(&queues[0]);
    rig_ring(&queues[1]);
    rig_turn(8);
    assert_int_equal(order_of(order, 64), 12);
    for (uint32_t i = 0; i < 12; i++) {
        assert_int_equal(order[i], 1 + i / 2 % 2);
    }
}

static void create_weighted(struct rig_queue *queue, uint16_t id, uint32_t priority)
{
    rig_create_pair(queue, id, 128);
    assert_int_equal(rig_delete_sq(id), 0);
    assert_int_equal(rig_create_sq(id, 128, queue->sq_addr,
                                   (uint32_t)id << 16 | priority << 1 | NVME_CREATE_SQ_PC),
                     0);
}

static void arbitration_weighted_serves_urgent_first_then_by_weight(void **state)
{
    (void)state;
    struct rig_queue queues[4];
    uint16_t order[256];
    uint64_t buffer;
    uint32_t counts[5] = {0};

    rig_stop();
    rig_start(&(struct rig_config){.weighted_round_robin = true, .io_queue_count = 8});
    rig_enable_sized(32, 32, RIG_CC | NVME_CC_AMS_WRR << NVME_CC_AMS_SHIFT);
    assert_int_equal(rig_csts(), NVME_CSTS_RDY);
    buffer = rig_alloc(4096);
    /* Weights 4, 2, 1 for high, medium, low; bursts of 4. */
    assert_int_equal(rig_set_feature(NVME_FEATURE_ARBITRATION, 0x03010002), 0);
    for (uint16_t i = 0; i < 4; i++) { /* created low first: the class decides, not the age */
        create_weighted(&queues[i], (uint16_t)(i + 1), 3u - i);
        push_slow(&queues[i], 100, buffer);
    }
    for (uint16_t i = 0; i < 4; i++) {
        rig_ring(&queues[i]);
    }
    rig_turn(60);
    assert_int_equal(order_of(order, 256), 256);
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(order[i], 4);
    }
    for (uint32_t i = 100; i < 170; i++) { /* ten rounds */
        counts[order[i]]++;
    }
    assert_int_equal(counts[3], 40);
    assert_int_equal(counts[2], 20);
    assert_int_equal(counts[1], 10);
}

/* --- several cores ------------------------------------------------------------------------- */

static void cores_share_the_queues(void **state)
{
    (void)state;
    struct rig_queue queues[6];
    struct nvme_cqe cqe;
    uint32_t on_core[4] = {0};

    rig_stop();
    rig_start(&(struct rig_config){.core_count = 3, .core_mask = 6});
    rig_enable();
    uint64_t buffer = rig_alloc(4096);
    for (uint16_t i = 0; i < 6; i++) {
        rig_create_pair(&queues[i], (uint16_t)(i + 1), 16);
        on_core[nvme_ep_queue_info(rig.ep, (uint16_t)(i + 1)).core]++;
    }
    assert_int_equal(on_core[0], 0);
    assert_int_equal(on_core[1], 3);
    assert_int_equal(on_core[2], 3);
    for (uint32_t n = 0; n < 40; n++) {
        struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, n, 1, buffer, 0);
        assert_int_equal(rig_do(&queues[n % 6], &sqe, &cqe), 0);
    }
    assert_int_equal(nvme_ep_stats(rig.ep, 1).sqe_count, 20);
    assert_int_equal(nvme_ep_stats(rig.ep, 2).sqe_count, 20);
    for (uint16_t i = 1; i <= 6; i++) {
        assert_int_equal(rig_delete_sq(i), 0);
        assert_int_equal(rig_delete_cq(i), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
        T(io_write_then_read_brings_the_data_back),
        T(io_wraps_for_every_small_size),
        T(io_bursts_of_any_length_complete_in_order),
        T(io_interrupts_come_once_per_batch_and_only_with_ien),
        T(cq_full_holds_until_the_head_moves),
        T(cq_full_keeps_the_order_of_completion),
        T(cq_full_then_disable_leaves_nothing_behind),
        T(cq_full_on_admin_queue_recovers),
        T(sqs_that_share_a_cq_all_get_their_turn),
        T(pool_empty_stops_fetching_and_goes_on),
        T(pool_empty_starves_no_queue),
        T(big_lists_used_up_stop_fetching_and_go_on),
        T(arbitration_round_robin_takes_a_burst_of_each),
        T(arbitration_weighted_serves_urgent_first_then_by_weight),
        T(cores_share_the_queues),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
