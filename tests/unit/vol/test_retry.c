/* "Retry must not corrupt": what is sent again, what never is. */
#include "base/trace.h"
#include "tests/unit/vol/rig.h"

static void lost_read_goes_to_the_next_path(void **state)
{
    (void)state;
    rig_make(2);
    struct blk_req *req = rig_submit(NVME_IO_READ, 3, 1);
    req->dw0 = 99;
    rig_lose(0, true, 0);
    assert_false(rig_is_done(req));
    assert_null(rig_held(1)); /* not from inside of the end */
    rig_settle();
    assert_ptr_equal(rig_held(1), req);
    assert_int_equal(req->dw0, 0);
    rig_finish(1);
    assert_int_equal(req->status, 0);
    assert_false(req->is_path_error);
    assert_int_equal(rig_info().stats.retries, 1);
}

static void lost_request_goes_again_on_its_only_path(void **state)
{
    (void)state;
    rig_make(1);
    struct blk_req *req = rig_prepare(0, NVME_IO_READ, 3, 1);
    struct trace_record record;
    uint64_t next = UINT64_MAX;
    req->trace_id = 0x10042;
    (void)trace_read(0, &next, &record, 0, NULL); /* from now on */
    trace_enable(TRACE_CLASS_IO);
    rig_send(req);
    rig_lose(0, false, 0);
    trace_enable(TRACE_CLASS_CONTROL | TRACE_CLASS_FAULT);
    assert_int_equal(trace_read(0, &next, &record, 1, NULL), 1);
    assert_int_equal(record.event, TRACE_VOL_WAIT);
    assert_int_equal(record.id, 0x10042);
    rig_settle();
    assert_null(rig_held(0)); /* a path that fails at once is not asked in every turn */
    rig_advance_ms(8);
    assert_ptr_equal(rig_held(0), req);
    rig_finish(0);
    assert_int_equal(req->status, 0);
}

static void all_repeatable_opcodes_go_again_when_quiet(void **state)
{
    (void)state;
    static const uint8_t opcodes[] = {
        NVME_IO_FLUSH, NVME_IO_WRITE,  NVME_IO_READ, NVME_IO_WRITE_ZEROES,
        NVME_IO_DSM,   NVME_IO_VERIFY, 0x0e /* Reservation Report */};
    rig_make(2);
    for (uint32_t i = 0; i < sizeof(opcodes); i++) {
        struct blk_req *req = rig_submit(opcodes[i], 0, 1);
        rig_lose(0, true, 0); /* seen, and the old controller was disabled in order */
        rig_settle();
        assert_ptr_equal(rig_held(1), req);
        rig_finish(1);
        assert_int_equal(req->status, 0);
    }
}

static const uint8_t once_only[] = {NVME_IO_COMPARE,
                                    NVME_IO_WRITE_UNCORRECTABLE,
                                    0x0d /* Reservation Register */,
                                    0x11 /* Acquire */,
                                    0x15 /* Release */,
                                    0x19 /* Copy, of later versions */,
                                    0xff};

static void once_only_that_was_seen_is_interrupted(void **state)
{
    (void)state;
    rig_make(2);
    for (uint32_t i = 0; i < sizeof(once_only); i++) {
        struct blk_req *req = rig_submit(once_only[i], 0, 1);
        rig_lose(0, true, 0);
        assert_true(rig_is_done(req));
        assert_int_equal(req->status, NVME_SC_COMMAND_INTERRUPTED); /* without DNR */
    }
    assert_int_equal(rig_info().stats.interrupted, sizeof(once_only));
    assert_int_equal(rig.models[1].submits, 0);
}

static void once_only_that_nobody_saw_goes_again(void **state)
{
    (void)state;
    rig_make(2);
    for (uint32_t i = 0; i < sizeof(once_only); i++) {
        struct blk_req *req = rig_submit(once_only[i], 0, 1);
        rig_lose(0, false, 0);
        rig_settle();
        assert_ptr_equal(rig_held(1), req);
        rig_finish(1);
        assert_int_equal(req->status, 0);
    }
}

/* A device that tells a quiet time has sent it, whatever else it says. */
static void once_only_with_a_quiet_time_is_interrupted(void **state)
{
    (void)state;
    rig_make(2);
    struct blk_req *req = rig_submit(0x11, 0, 1);
    rig_lose(0, false, RIG_START_NS + 100 * MS);
    assert_int_equal(req->status, NVME_SC_COMMAND_INTERRUPTED);
    assert_true(rig_info().quiet_ns != 0); /* it may still take effect */
}

static void limit_counts_from_the_first_wait_over_all_attempts(void **state)
{
    (void)state;
    rig_make(1);
    struct blk_req *req = rig_submit(NVME_IO_READ, 0, 1);
    for (uint32_t i = 0; i < 4; i++) {
        rig_lose(0, true, 0);
        rig_advance_ms(8);
        if (i < 3) {
            assert_non_null(rig_held(0));
            rig_advance_ms(RIG_WAIT_MS * 3 / 10);
        }
    }
    /* 3 * 308 ms are over: still in time */
    assert_non_null(rig_held(0));
    rig_advance_ms(100);
    rig_lose(0, true, 0);
    assert_true(rig_is_done(req));
    assert_int_equal(req->status, NVME_SC_NS_NOT_READY);
}

static void two_failing_paths_are_not_asked_in_every_turn(void **state)
{
    (void)state;
    rig_make(2);
    struct blk_req *req = rig_submit(NVME_IO_READ, 0, 1);
    rig_lose(0, true, 0);
    rig_settle();
    rig_lose(1, true, 0);
    rig_settle();
    assert_null(rig_held(0));
    assert_null(rig_held(1));
    rig_advance_ms(8);
    assert_non_null(rig_held(0));
    rig_finish(0);
    assert_int_equal(req->status, 0);
}

static void lost_request_without_wait_still_goes_to_another_path(void **state)
{
    (void)state;
    rig.config.wait_ms = 0;
    rig_make(2);
    struct blk_req *a = rig_submit(NVME_IO_READ, 0, 1);
    rig_lose(0, true, 0);
    rig_settle();
    rig_finish(1);
    assert_int_equal(a->status, 0);
    rig_set_usable(1, false);
    struct blk_req *b = rig_submit(NVME_IO_READ, 0, 1);
    rig_lose(0, true, 0);
    assert_int_equal(b->status, NVME_SC_NS_NOT_READY);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lost_read_goes_to_the_next_path),
        TEST(lost_request_goes_again_on_its_only_path),
        TEST(all_repeatable_opcodes_go_again_when_quiet),
        TEST(once_only_that_was_seen_is_interrupted),
        TEST(once_only_that_nobody_saw_goes_again),
        TEST(once_only_with_a_quiet_time_is_interrupted),
        TEST(limit_counts_from_the_first_wait_over_all_attempts),
        TEST(two_failing_paths_are_not_asked_in_every_turn),
        TEST(lost_request_without_wait_still_goes_to_another_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
