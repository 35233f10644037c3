/* Which path a request takes, and waiting when there is none. */
#include "tests/unit/vol/rig.h"

static void paths_are_taken_in_order(void **state)
{
    (void)state;
    rig_make(3);
    rig_submit(NVME_IO_READ, 0, 1);
    assert_non_null(rig_held(0));
    rig_finish(0);
    rig_set_usable(0, false);
    rig_submit(NVME_IO_READ, 0, 1);
    assert_non_null(rig_held(1));
    rig_finish(1);
    rig_set_usable(1, false);
    rig_submit(NVME_IO_READ, 0, 1);
    assert_non_null(rig_held(2));
    rig_finish(2);
    rig_set_usable(0, true);
    rig_submit(NVME_IO_READ, 0, 1);
    assert_non_null(rig_held(0));
    rig_finish(0);
    assert_int_equal(rig_info().paths[0].requests, 2);
    assert_int_equal(rig_info().paths[1].state, VOL_PATH_DOWN);
    assert_string_equal(vol_path_state_name(VOL_PATH_DOWN), "down");
}

static void request_without_path_waits_and_goes_when_one_comes(void **state)
{
    (void)state;
    rig.models[0].is_usable = false;
    rig_make(1);
    assert_false(rig_info().is_ready);
    struct blk_req *a = rig_submit_on(0, NVME_IO_WRITE, 0, 1);
    struct blk_req *b = rig_submit_on(1, NVME_IO_FLUSH, 0, 1);
    rig_advance_ms(RIG_WAIT_MS / 2);
    assert_int_equal(rig_info().waiting, 2);
    assert_int_equal(rig_info().stats.held, 2);
    rig_set_usable(0, true);
    rig_settle(); /* no time passes: core 0 wakes both */
    assert_int_equal(rig.models[0].held_count, 2);
    rig_finish(0);
    rig_finish(0);
    assert_int_equal(a->status, 0);
    assert_int_equal(b->status, 0);
    assert_true(rig_info().is_ready);
}

static void requests_that_waited_go_in_their_order(void **state)
{
    (void)state;
    rig.models[0].is_usable = false;
    rig_make(1);
    struct blk_req *reqs[5];
    for (uint32_t i = 0; i < 5; i++) {
        reqs[i] = rig_submit(NVME_IO_READ, i, 1);
    }
    rig_advance_ms(20); /* the looks in between change nothing */
    rig_set_usable(0, true);
    rig_settle();
    for (uint32_t i = 0; i < 5; i++) {
        assert_ptr_equal(rig_held(0), reqs[i]);
        rig_finish(0);
    }
}

static void request_that_waits_too_long_ends_not_ready_without_dnr(void **state)
{
    (void)state;
    rig.models[0].is_usable = false;
    rig_make(1);
    struct blk_req *req = rig_submit(NVME_IO_READ, 0, 1);
    rig_advance_ms(RIG_WAIT_MS - 1);
    assert_false(rig_is_done(req));
    rig_advance_ms(8);
    assert_true(rig_is_done(req));
    assert_int_equal(req->status, NVME_SC_NS_NOT_READY);
    assert_int_equal(rig_info().stats.expired, 1);
}

static void volume_without_path_for_long_fails_at_once_until_one_comes(void **state)
{
    (void)state;
    rig.models[0].is_usable = false;
    rig_make(1);
    rig_submit(NVME_IO_READ, 0, 1);
    rig_advance_ms(RIG_WAIT_MS + 8);
    for (uint32_t core = 0; core < RIG_CORES; core++) {
        struct blk_req *req = rig_submit_on(core, NVME_IO_READ, 0, 1);
        assert_true(rig_is_done(req));
        assert_int_equal(req->status, NVME_SC_NS_NOT_READY);
    }
    rig_set_usable(0, true);
    struct blk_req *good = rig_submit(NVME_IO_READ, 0, 1);
    rig_finish(0);
    assert_int_equal(good->status, 0);
    /* and it waits again afterwards */
    rig_set_usable(0, false);
    struct blk_req *waits = rig_submit(NVME_IO_READ, 0, 1);
    assert_false(rig_is_done(waits));
    rig_set_usable(0, true);
    rig_settle();
    rig_finish(0);
}

static void wait_0_ends_at_once(void **state)
{
    (void)state;
    rig.models[0].is_usable = false;
    rig.config.wait_ms = 0;
    rig_make(1);
    struct blk_req *req = rig_submit(NVME_IO_WRITE, 0, 1);
    assert_true(rig_is_done(req));
    assert_int_equal(req->status, NVME_SC_NS_NOT_READY);
}

static void deadline_of_the_submitter_ends_waiting_earlier(void **state)
{
    (void)state;
    rig.models[0].is_usable = false;
    rig_make(1);
    struct blk_req *req = rig_prepare(0, NVME_IO_READ, 0, 1);
    req->deadline_ns = RIG_START_NS + 50 * MS;
    rig_send(req);
    rig_advance_ms(58);
    assert_true(rig_is_done(req));
}

static void cancel_of_a_waiting_request_ends_it_at_once(void **state)
{
    (void)state;
    rig.models[0].is_usable = false;
    rig_make(1);
    struct blk_req *a = rig_submit_on(1, NVME_IO_READ, 0, 1);
    struct blk_req *b = rig_submit_on(1, NVME_IO_READ, 1, 1);
    rig_cancel(a);
    assert_true(rig_is_done(a));
    assert_int_equal(a->status, NVME_SC_ABORT_REQUESTED);
    rig_cancel(b);
    assert_int_equal(rig_info().waiting, 0);
    assert_int_equal(rig.models[0].submits, 0);
}

static void vol_paths_changed_asks_anew(void **state)
{
    (void)state;
    rig.models[0].is_usable = false;
    rig_make(1);
    rig.models[0].is_usable = true;
    vol_paths_changed(rig.vol);
    assert_true(rig_info().is_ready);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(paths_are_taken_in_order),
        TEST(request_without_path_waits_and_goes_when_one_comes),
        TEST(requests_that_waited_go_in_their_order),
        TEST(request_that_waits_too_long_ends_not_ready_without_dnr),
        TEST(volume_without_path_for_long_fails_at_once_until_one_comes),
        TEST(wait_0_ends_at_once),
        TEST(deadline_of_the_submitter_ends_waiting_earlier),
        TEST(cancel_of_a_waiting_request_ends_it_at_once),
        TEST(vol_paths_changed_asks_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
