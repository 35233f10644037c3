/*
 * Ends: lost connections, close with commands under way, cancels, deadlines.
 */
#include "rig.h"

#define QUIET_NS (123 * NS_PER_S)

static struct rig_req reqs[40];

static void fault(enum target_fault_kind kind, int opcode, uint32_t count)
{
    struct target_fault f = {.kind = kind,
                             .qid = TARGET_IO,
                             .opcode = opcode,
                             .cid = TARGET_ANY,
                             .count = count,
                             .delay_ns = 50 * NS_PER_MS};
    target_fault_add(rig.target, &f);
}

static void submit_kinds(void)
{
    static const uint8_t opcodes[] = {NVME_IO_READ, NVME_IO_WRITE, NVME_IO_FLUSH,
                                      NVME_IO_WRITE_ZEROES, NVME_IO_COMPARE};
    for (uint32_t i = 0; i < 40; i++) {
        rig_req(&reqs[i], opcodes[i % 5], i * 8, 8, i * 4096);
        rig_submit(&reqs[i]);
    }
}

/* 31 were sent, the others wait: entries of the queue less one. */
static void check_kinds(void)
{
    for (uint32_t i = 0; i < 40; i++) {
        bool changes = reqs[i].req.cmd.opcode == NVME_IO_WRITE ||
                       reqs[i].req.cmd.opcode == NVME_IO_WRITE_ZEROES;
        assert_int_equal(reqs[i].done_count, 1);
        assert_int_equal(reqs[i].req.status, NVME_SC_HOST_PATH_ERROR);
        assert_true(reqs[i].req.is_path_error);
        assert_int_equal(reqs[i].req.is_sent, i < 31);
        assert_int_equal(reqs[i].req.quiet_ns, i < 31 && changes ? QUIET_NS : 0);
    }
}

static void close_ends_what_is_under_way_with_a_path_error(void **state)
{
    (void)state;
    fault(TARGET_FAULT_DROP, TARGET_ANY, 0);
    submit_kinds();
    rig_run(NS_PER_MS);
    assert_int_equal(rig.io.queue.in_flight, 31);
    nvmf_queue_close(&rig.io.queue, QUIET_NS);
    assert_int_equal(reqs[0].done_count, 0); /* not from inside */
    rig_queue_close(&rig.io, QUIET_NS);
    check_kinds();
    assert_int_equal(rig.io.lost_count, 0);
}

static void close_of_a_lost_connection_is_the_same(void **state)
{
    (void)state;
    for (uint32_t in_order = 0; in_order < 2; in_order++) {
        target_faults_clear(rig.target);
        fault(TARGET_FAULT_DROP, TARGET_ANY, 0);
        submit_kinds();
        rig_run(NS_PER_MS);
        target_drop_queues(rig.target, TARGET_ANY, 1, in_order != 0);
        rig_run(in_order != 0 ? NS_PER_MS : 20 * NS_PER_S);
        assert_int_equal(rig.io.lost_count, 1);
        assert_int_equal(rig.io.fail, NVMF_FAIL_DISCONNECTED);
        assert_int_equal(rig.io.queue.state, NVMF_QUEUE_BROKEN);
        for (uint32_t i = 0; i < 31; i++) {
            assert_int_equal(reqs[i].done_count, 0); /* when they can have no effect, ctrl says */
        }
        assert_int_equal(reqs[39].done_count, 1); /* waited in vain */
        struct rig_req late;
        rig_req(&late, NVME_IO_WRITE, 0, 8, 0);
        rig_submit(&late);
        assert_int_equal(late.done_count, 1);
        assert_true(late.req.is_path_error);
        assert_int_equal(late.req.quiet_ns, 0);
        rig_queue_close(&rig.io, QUIET_NS);
        check_kinds();
        if (in_order == 0) {
            rig_queue_close(&rig.admin, 0);
            target_faults_clear(rig.target);
            rig_connect();
        }
    }
}

static void close_of_a_link_that_was_cut_is_the_same(void **state)
{
    (void)state;
    wire_cut(rig.wire, 1, true);
    submit_kinds();
    rig_run(20 * NS_PER_S);
    assert_int_equal(rig.io.lost_count, 1);
    assert_int_equal(rig.io.fail, NVMF_FAIL_TRANSPORT);
    assert_int_equal(rig.io.code, RDMA_WC_RETRY_EXC_ERR);
    rig_queue_close(&rig.io, QUIET_NS);
    check_kinds();
    wire_cut(rig.wire, 1, false);
}

/* "From inside a completion": the submitter tries again at once. */
static void close_bears_requests_from_completions(void **state)
{
    (void)state;
    fault(TARGET_FAULT_DROP, TARGET_ANY, 0);
    for (uint32_t i = 0; i < 20; i++) {
        rig_req(&reqs[i], NVME_IO_READ, i, 1, i * 4096);
        rig_req(&reqs[i + 20], NVME_IO_READ, i, 1, i * 4096);
        reqs[i].next = &reqs[i + 20];
        rig_submit(&reqs[i]);
    }
    rig_run(NS_PER_MS);
    rig_queue_close(&rig.io, QUIET_NS);
    for (uint32_t i = 0; i < 40; i++) {
        assert_int_equal(reqs[i].done_count, 1);
    }
}

/* A frame still points at the data: the request must not end. */
static void close_waits_until_the_device_has_let_go(void **state)
{
    struct rig_req w;

    (void)state;
    wire_hold_reap(rig.wire, true);
    rig_req(&w, NVME_IO_WRITE, 0, 2, 0); /* in the capsule */
    rig_submit(&w);
    rig_run(NS_PER_MS);
    assert_int_equal(w.done_count, 0);
    nvmf_queue_close(&rig.io.queue, QUIET_NS);
    rig_run(10 * NS_PER_MS);
    assert_int_equal(w.done_count, 0);
    assert_int_equal(rig.io.closed_count, 0);
    wire_hold_reap(rig.wire, false);
    rig_run(10 * NS_PER_MS);
    assert_int_equal(w.done_count, 1);
    assert_int_equal(rig.io.closed_count, 1);
}

static void read_ends_late_when_a_frame_points_at_its_data(void **state)
{
    struct rig_req w;

    (void)state;
    rig_req(&w, NVME_IO_WRITE, 0, 16, 0); /* fetched by RDMA READ: our responses hold the data */
    wire_hold_reap(rig.wire, true);
    rig_submit(&w);
    rig_run(10 * NS_PER_MS);
    assert_int_equal(w.done_count, 0);
    wire_hold_reap(rig.wire, false);
    rig_run(10 * NS_PER_MS);
    assert_int_equal(w.done_count, 1);
    assert_int_equal(w.req.status, 0);
}

/* After close nothing of the old connection reaches memory, whatever the target still does. */
static void close_leaves_no_late_write(void **state)
{
    struct rig_req r;

    (void)state;
    fault(TARGET_FAULT_HOLD, NVME_IO_READ, 0);
    rig_req(&r, NVME_IO_READ, 0, 16, 0);
    rig_submit(&r);
    rig_run(NS_PER_MS);
    rig_queue_close(&rig.io, QUIET_NS);
    assert_int_equal(r.done_count, 1);
    rig_fill(0, 8192, 5);
    memcpy(rig.data + 16384, rig.data, 8192);
    rig_run(200 * NS_PER_MS);
    assert_memory_equal(rig.data, rig.data + 16384, 8192);
}

/* --- cancel ---------------------------------------------------------------------------------- */

static void cancel_before_the_send_ends_at_once(void **state)
{
    (void)state;
    fault(TARGET_FAULT_DROP, TARGET_ANY, 0);
    submit_kinds();
    blk_cancel(&rig.ns.dev, &reqs[35].req);
    assert_int_equal(reqs[35].done_count, 1);
    assert_int_equal(reqs[35].req.status, NVME_SC_ABORT_REQUESTED);
    assert_false(reqs[35].req.is_path_error);
    assert_int_equal(reqs[35].req.quiet_ns, 0);
    rig_queue_close(&rig.io, QUIET_NS);
    assert_int_equal(reqs[35].done_count, 1);
}

static nvme_status_t send_abort(void)
{
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_ABORT,
                           .cdw10 = (uint32_t)rig.io.abort_cid << NVME_ABORT_CID_SHIFT | 1};
    return rig_admin(sqe, NULL);
}

static void cancel_after_the_send_asks_for_one_abort(void **state)
{
    struct rig_req w;

    (void)state;
    fault(TARGET_FAULT_HOLD, TARGET_ANY, 1);
    rig_req(&w, NVME_IO_WRITE, 0, 16, 0);
    rig_submit(&w);
    rig_run(NS_PER_MS);
    blk_cancel(&rig.ns.dev, &w.req);
    assert_int_equal(w.done_count, 0);
    assert_int_equal(rig.io.abort_count, 0); /* not from inside */
    blk_cancel(&rig.ns.dev, &w.req);
    rig_run(NS_PER_MS);
    assert_int_equal(rig.io.abort_count, 1);
    assert_int_equal(send_abort(), 0);
    nvmf_queue_abort_done(&rig.io.queue, rig.io.abort_cid, true);
    rig_run(NS_PER_MS);
    assert_int_equal(w.done_count, 1);
    assert_int_equal(w.req.status, NVME_SC_ABORT_REQUESTED);
    assert_int_equal(w.req.quiet_ns, 0);
    nvmf_queue_abort_done(&rig.io.queue, rig.io.abort_cid, true); /* of a CID that is gone */
    assert_int_equal(rig.io.stuck_count, 0);
}

static void cancel_that_does_not_help_is_ended_by_close(void **state)
{
    struct rig_req w;
    struct rig_req r;

    (void)state;
    fault(TARGET_FAULT_DROP, TARGET_ANY, 0);
    rig_req(&w, NVME_IO_WRITE, 0, 16, 0);
    rig_req(&r, NVME_IO_READ, 0, 16, 16384);
    rig_submit(&w);
    rig_submit(&r);
    rig_run(NS_PER_MS);
    blk_cancel(&rig.ns.dev, &w.req);
    blk_cancel(&rig.ns.dev, &r.req);
    rig_run(NVMF_CANCEL_NS / 2);
    assert_int_equal(rig.io.abort_count, 2);
    assert_int_equal(rig.io.stuck_count, 0);
    nvmf_queue_abort_done(&rig.io.queue, rig.io.abort_cid, false);
    rig_run(NVMF_CANCEL_NS + NVMF_SCAN_NS);
    assert_int_equal(rig.io.stuck_count, 1);
    assert_int_equal(rig.io.fail, NVMF_FAIL_COMMAND_TIMEOUT);
    rig_run(NS_PER_S);
    assert_int_equal(rig.io.stuck_count, 1); /* told once */
    rig_queue_close(&rig.io, QUIET_NS);
    assert_int_equal(w.req.status, NVME_SC_ABORT_REQUESTED);
    assert_int_equal(w.req.quiet_ns, QUIET_NS);
    assert_int_equal(r.req.status, NVME_SC_ABORT_REQUESTED);
    assert_int_equal(r.req.quiet_ns, 0);
}

static void cancel_on_another_core_reaches_the_queue(void **state)
{
    struct rig_req *w = &reqs[39];

    (void)state;
    fault(TARGET_FAULT_HOLD, NVME_IO_WRITE, 1);
    native_cpu_become(1);
    rig_req(w, NVME_IO_WRITE, 0, 16, 0);
    w->req.owner_core = 1;
    rig_submit(w);
    native_cpu_become(0);
    rig_run(NS_PER_MS);
    native_cpu_become(1);
    blk_cancel(&rig.ns.dev, &w->req);
    native_cpu_become(0);
    rig_run(NS_PER_MS);
    assert_int_equal(rig.io.abort_count, 1);
    assert_int_equal(send_abort(), 0);
    rig_run(NS_PER_MS);
    assert_int_equal(w->done_count, 1);
    assert_int_equal(w->req.status, NVME_SC_ABORT_REQUESTED);
    /* Under way to the queue's core. */
    native_cpu_become(1);
    rig_submit(w);
    blk_cancel(&rig.ns.dev, &w->req);
    native_cpu_become(0);
    rig_run(NS_PER_MS);
    assert_int_equal(w->done_count, 1);
    assert_int_equal(w->req.status, NVME_SC_ABORT_REQUESTED);
    /* Waiting there. */
    fault(TARGET_FAULT_DROP, TARGET_ANY, 0);
    for (uint32_t i = 0; i < 31; i++) {
        rig_req(&reqs[i], NVME_IO_READ, i, 1, i * 4096);
        rig_submit(&reqs[i]);
    }
    native_cpu_become(1);
    rig_submit(w);
    native_cpu_become(0);
    rig_run(NS_PER_MS);
    native_cpu_become(1);
    blk_cancel(&rig.ns.dev, &w->req);
    native_cpu_become(0);
    rig_run(NS_PER_MS);
    assert_int_equal(w->done_count, 1);
    assert_int_equal(rig.io.abort_count, 1);
    /* And one that ends by the close of the queue. */
    rig_req(w, NVME_IO_WRITE, 0, 16, 0);
    w->req.owner_core = 1;
    native_cpu_become(1);
    rig_submit(w);
    native_cpu_become(0);
    rig_run(NS_PER_MS);
    rig_queue_close(&rig.io, QUIET_NS);
    rig_run(NS_PER_MS);
    assert_int_equal(w->done_count, 1);
    assert_true(w->req.is_path_error);
}

/* Who hears of an end may cancel its neighbours in the list. */
static void cancel_from_a_completion_is_safe(void **state)
{
    (void)state;
    fault(TARGET_FAULT_DROP, TARGET_ANY, 0);
    for (uint32_t i = 0; i < 40; i++) {
        rig_req(&reqs[i], NVME_IO_READ, i, 1, i * 4096);
        reqs[i].req.deadline_ns = i < 31 ? 0 : clock_now_ns() + 10 * NS_PER_MS;
        reqs[i].kills = i >= 31 && i < 39 ? &reqs[i + 1] : NULL;
        rig_submit(&reqs[i]);
    }
    rig_run(100 * NS_PER_MS);
    for (uint32_t i = 31; i < 40; i++) {
        assert_int_equal(reqs[i].done_count, 1);
    }
    assert_int_equal(rig.io.queue.in_flight, 31);
    rig_queue_close(&rig.io, 0);
}

/* --- deadlines ------------------------------------------------------------------------------- */

static void deadline_asks_for_an_abort_then_for_a_reset(void **state)
{
    struct rig_req w;

    (void)state;
    fault(TARGET_FAULT_DROP, TARGET_ANY, 0);
    rig_req(&w, NVME_IO_WRITE, 0, 16, 0);
    w.req.deadline_ns = clock_now_ns() + 50 * NS_PER_MS;
    rig_submit(&w);
    rig_run(49 * NS_PER_MS);
    assert_int_equal(rig.io.abort_count, 0);
    rig_run(25 * NS_PER_MS);
    assert_int_equal(rig.io.abort_count, 1);
    assert_int_equal(w.done_count, 0);
    rig_run(NVMF_ABORT_NS + 25 * NS_PER_MS);
    assert_int_equal(rig.io.abort_count, 1);
    assert_int_equal(rig.io.stuck_count, 1);
    assert_int_equal(rig.io.fail, NVMF_FAIL_COMMAND_TIMEOUT);
    assert_int_equal(rig.io.queue.state, NVMF_QUEUE_OPEN);
    const struct nvmf_ctrl_shared *shared = nvmf_ctrl_shared(rig.ns.ctrl);
    assert_int_equal(rig_count(&shared->core[0].timeouts), 1);
    rig_queue_close(&rig.io, QUIET_NS);
    assert_int_equal(w.req.status, NVME_SC_HOST_PATH_ERROR);
    assert_int_equal(w.req.quiet_ns, QUIET_NS);
}

static void deadline_that_the_abort_helps_is_a_path_error_that_is_over(void **state)
{
    struct rig_req w;

    (void)state;
    struct target_fault hold = {.kind = TARGET_FAULT_HOLD,
                                .qid = TARGET_IO,
                                .opcode = TARGET_ANY,
                                .cid = TARGET_ANY,
                                .delay_ns = 60 * NS_PER_S};
    target_fault_add(rig.target, &hold);
    rig_req(&w, NVME_IO_WRITE, 0, 16, 0);
    rig_submit(&w);
    rig_run(7900 * NS_PER_MS);
    assert_int_equal(rig.io.abort_count, 0);
    rig_run(200 * NS_PER_MS); /* the queue's own limit: 8 s */
    assert_int_equal(rig.io.abort_count, 1);
    assert_int_equal(send_abort(), 0);
    rig_run(NS_PER_MS);
    assert_int_equal(w.done_count, 1);
    assert_int_equal(w.req.status, NVME_SC_HOST_PATH_ERROR);
    assert_true(w.req.is_path_error);
    assert_true(w.req.is_sent);
    assert_int_equal(w.req.quiet_ns, 0);
}

static void deadline_before_the_send_is_a_path_error(void **state)
{
    (void)state;
    fault(TARGET_FAULT_DROP, TARGET_ANY, 0);
    submit_kinds();
    struct rig_req w;
    rig_req(&w, NVME_IO_WRITE, 0, 16, 0);
    w.req.deadline_ns = clock_now_ns() + 50 * NS_PER_MS;
    rig_submit(&w);
    rig_run(80 * NS_PER_MS);
    assert_int_equal(w.done_count, 1);
    assert_int_equal(w.req.status, NVME_SC_HOST_PATH_ERROR);
    assert_true(w.req.is_path_error);
    assert_int_equal(w.req.quiet_ns, 0);
    assert_int_equal(rig.io.abort_count, 0);
    rig_queue_close(&rig.io, 0);
}

static int setup(void **state)
{
    (void)state;
    rig_open(&(struct rig_config){.in_capsule_bytes = 1024});
    rig_connect();
    return 0;
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(close_ends_what_is_under_way_with_a_path_error),
        T(close_of_a_lost_connection_is_the_same),
        T(close_of_a_link_that_was_cut_is_the_same),
        T(close_bears_requests_from_completions),
        T(close_waits_until_the_device_has_let_go),
        T(read_ends_late_when_a_frame_points_at_its_data),
        T(close_leaves_no_late_write),
        T(cancel_before_the_send_ends_at_once),
        T(cancel_after_the_send_asks_for_one_abort),
        T(cancel_that_does_not_help_is_ended_by_close),
        T(cancel_on_another_core_reaches_the_queue),
        T(cancel_from_a_completion_is_safe),
        T(deadline_asks_for_an_abort_then_for_a_reset),
        T(deadline_that_the_abort_helps_is_a_path_error_that_is_over),
        T(deadline_before_the_send_is_a_path_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
