/*
 * What is recorded of an I/O: every stage, under one name.
 */
#include "base/trace.h"
#include "tests/unit/nvme_ep/rig_test.h"

static struct trace_record records[32];
static uint32_t count;
static uint64_t next;

static int teardown(void **state)
{
    (void)state;
    trace_enable(TRACE_CLASS_CONTROL | TRACE_CLASS_FAULT);
    rig_stop();
    return 0;
}

static void record(uint32_t classes)
{
    static struct trace_record old;

    while (trace_read(0, &next, &old, 1, NULL) != 0) {
    }
    trace_enable(classes);
}

static void expect(const uint16_t *events, uint32_t event_count)
{
    count = trace_read(0, &next, records, ARRAY_SIZE(records), NULL);
    assert_int_equal(count, event_count);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(records[i].event, events[i]);
        assert_int_equal(records[i].fn, rig.pcie.fn);
    }
}

static void trace_of_an_io_has_every_stage(void **state)
{
    static const uint16_t stages[] = {TRACE_IO_FETCH, TRACE_IO_SUBMIT, TRACE_IO_DONE, TRACE_IO_POST,
                                      TRACE_IRQ_RAISE};
    (void)state;
    struct rig_queue queue;
    struct nvme_cqe cqe;

    rig_create_pair(&queue, 3, 16);
    struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, 40, 8, rig_alloc(4096), 0);
    record(TRACE_CLASS_IO);
    queue.next_cid = 0x1234;
    assert_int_equal(rig_do(&queue, &sqe, &cqe), 0);
    expect(stages, ARRAY_SIZE(stages));
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(records[i].id, 3 << 16 | rig_cid(&cqe));
    }
    assert_int_equal(records[0].a, (uint64_t)NVME_IO_READ << 32 | 1);
    assert_int_equal(records[0].b, 40);
    assert_int_equal(records[1].a, 4096); /* bytes, segments */
    assert_int_equal(records[1].b, 1);
    assert_int_equal(records[2].a, 0);
    assert_int_equal(records[3].a, 3); /* queue, vector */
    assert_int_equal(records[3].b, 3);
    assert_int_equal(records[4].id, 3);
}

/* Read and Write take the short way; what others are is told, too. */
static void trace_of_other_commands_names_them(void **state)
{
    static const uint16_t flushed[] = {TRACE_IO_FETCH, TRACE_IO_SUBMIT};
    static const uint16_t ended[] = {TRACE_IO_DONE, TRACE_IO_POST, TRACE_IRQ_RAISE};
    static const uint16_t refused[] = {TRACE_IO_FETCH, TRACE_BAD_COMMAND, TRACE_IO_DONE,
                                       TRACE_IO_POST, TRACE_IRQ_RAISE};
    (void)state;
    struct rig_queue queue;
    struct nvme_cqe cqe;

    rig_create_pair(&queue, 1, 16);
    record(TRACE_CLASS_IO | TRACE_CLASS_FAULT);
    struct nvme_sqe flush = {.opcode = NVME_IO_FLUSH, .nsid = 2};
    rig_push(&queue, &flush);
    rig_ring(&queue);
    rig_turn(2);
    expect(flushed, 2);
    rig_slow_release_all(&rig.slow);
    rig_turn(2);
    expect(ended, 3);
    assert_true(rig_pop(&queue, &cqe));
    rig_ring_head(&queue);

    struct nvme_sqe bad = {.opcode = 0x7f, .nsid = 1};
    assert_int_equal(rig_do(&queue, &bad, &cqe) & 0x7ff, NVME_SC_INVALID_OPCODE);
    expect(refused, 5);
    assert_int_equal(records[1].id, 1 << 16 | rig_cid(&cqe));
    assert_int_equal(records[1].a, 0x7f);
}

/* The CQ is full: the end and the entry are apart. */
static void trace_of_a_held_completion_tells_when_it_was_posted(void **state)
{
    static const uint16_t held[] = {TRACE_IO_FETCH, TRACE_IO_SUBMIT, TRACE_IO_DONE};
    static const uint16_t posted[] = {TRACE_IO_POST, TRACE_IRQ_RAISE};
    (void)state;
    uint64_t cq = rig_alloc(4096);
    uint64_t sq = rig_alloc(4096);
    struct nvme_cqe cqe;

    assert_int_equal(rig_create_cq(2, 2, cq, NVME_CREATE_CQ_PC | NVME_CREATE_CQ_IEN | 2u << 16), 0);
    assert_int_equal(rig_create_sq(2, 8, sq, NVME_CREATE_SQ_PC | 2u << 16), 0);
    struct rig_queue queue = {
        .id = 2, .sq_size = 8, .cq_size = 2, .sq_addr = sq, .cq_addr = cq, .phase = 1};
    struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, 0, 1, rig_alloc(4096), 0);
    rig_push(&queue, &sqe); /* takes the one place that there is */
    rig_ring(&queue);
    rig_turn(2);
    record(TRACE_CLASS_IO);
    rig_push(&queue, &sqe);
    rig_ring(&queue);
    rig_turn(2);
    expect(held, 3);
    assert_true(rig_pop(&queue, &cqe));
    rig_ring_head(&queue);
    rig_turn(2);
    expect(posted, 2);
    assert_true(rig_pop(&queue, &cqe));
    rig_ring_head(&queue);
}

static void trace_of_admin_commands_is_on_by_default(void **state)
{
    static const uint16_t events[] = {TRACE_ADMIN_FETCH, TRACE_ADMIN_DONE};
    (void)state;
    struct nvme_sqe get = {.opcode = NVME_ADMIN_GET_FEATURES, .cdw10 = NVME_FEATURE_QUEUES};
    uint32_t value;

    record(TRACE_CLASS_CONTROL);
    assert_int_equal(rig_admin(&get, &value), 0);
    expect(events, 2);
    assert_int_equal(records[0].a, NVME_ADMIN_GET_FEATURES);
    assert_int_equal(records[0].b, NVME_FEATURE_QUEUES);
    assert_int_equal(records[1].id, records[0].id);
    assert_int_equal(records[1].a, 0);
    assert_int_equal(records[1].b, value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, teardown)
        T(trace_of_an_io_has_every_stage),
        T(trace_of_other_commands_names_them),
        T(trace_of_a_held_completion_tells_when_it_was_posted),
        T(trace_of_admin_commands_is_on_by_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
