/* Nothing that changes state overtakes what may still take effect: on all paths, on all cores. */
#include "tests/unit/vol/rig.h"

#define QUIET_MS 200

static const uint64_t quiet_ns = RIG_START_NS + QUIET_MS * MS;

static void lost_write_goes_again_only_when_quiet(void **state)
{
    (void)state;
    rig_make(2);
    struct blk_req *req = rig_submit(NVME_IO_WRITE, 0, 1);
    rig_lose(0, true, quiet_ns);
    rig_advance_ms(QUIET_MS - 1);
    assert_null(rig_held(0));
    assert_null(rig_held(1));
    rig_advance_ms(8);
    assert_ptr_equal(rig_held(1), req);
    rig_finish(1);
    assert_int_equal(req->status, 0);
    assert_int_equal(rig_info().quiet_ns, 0);
    assert_int_equal(rig_info().stats.quieted, 1);
}

/* Also what is new, on the other core, on the other path. */
static void new_writes_of_all_cores_wait_behind_a_lost_one(void **state)
{
    (void)state;
    rig_make(2);
    struct blk_req *lost = rig_submit_on(0, NVME_IO_WRITE, 0, 1);
    rig_lose(0, true, quiet_ns);
    rig_set_usable(0, false);
    static const uint8_t changing[] = {
        NVME_IO_WRITE, NVME_IO_WRITE_ZEROES, NVME_IO_DSM, 0x0d, 0x11, 0x15, 0x04, 0xff};
    struct blk_req *reqs[sizeof(changing)];
    for (uint32_t i = 0; i < sizeof(changing); i++) {
        reqs[i] = rig_submit_on(i % 2, changing[i], 0, 1);
    }
    rig_advance_ms(QUIET_MS - 1);
    assert_int_equal(rig.models[1].submits, 0);
    assert_int_equal(rig_info().waiting, sizeof(changing) + 1);
    rig_advance_ms(8);
    assert_int_equal(rig.models[1].held_count, sizeof(changing) + 1);
    while (rig_held(1) != NULL) {
        rig_finish(1);
    }
    assert_int_equal(lost->status, 0);
    assert_int_equal(reqs[0]->status, 0);
}

/* Flush too: what it promises are writes that have completed. */
static void what_changes_nothing_passes_meanwhile(void **state)
{
    (void)state;
    static const uint8_t harmless[] = {NVME_IO_READ, NVME_IO_COMPARE, NVME_IO_VERIFY, NVME_IO_FLUSH,
                                       0x0e /* Reservation Report */};
    rig_make(2);
    rig_submit(NVME_IO_WRITE, 0, 1);
    rig_lose(0, true, quiet_ns);
    for (uint32_t i = 0; i < sizeof(harmless); i++) {
        struct blk_req *req = rig_submit_on(i % 2, harmless[i], 0, 1);
        assert_ptr_equal(rig_held(0), req);
        rig_finish(0);
    }
    rig_advance_ms(QUIET_MS + 8);
    rig_finish(1);
}

static void lost_read_makes_nobody_wait(void **state)
{
    (void)state;
    rig_make(2);
    struct blk_req *req = rig_submit(NVME_IO_READ, 0, 1);
    rig_lose(0, true, quiet_ns);
    rig_settle();
    rig_finish(1);
    assert_int_equal(req->status, 0);
    rig_submit(NVME_IO_WRITE, 0, 1);
    rig_finish(0);
}

/* A cancelled write may still take effect: the next one waits, on any core. */
static void cancelled_write_makes_the_next_one_wait(void **state)
{
    (void)state;
    rig_make(1);
    struct blk_req *cancelled = rig_submit_on(0, NVME_IO_WRITE, 0, 1);
    rig_cancel(cancelled);
    rig_held(0)->quiet_ns = quiet_ns;
    rig_refuse(0, NVME_SC_ABORT_REQUESTED);
    assert_int_equal(cancelled->status, NVME_SC_ABORT_REQUESTED);
    struct blk_req *next = rig_submit_on(1, NVME_IO_WRITE, 0, 1);
    assert_null(rig_held(0));
    rig_advance_ms(QUIET_MS + 8);
    rig_finish(0);
    assert_int_equal(next->status, 0);
}

static void cancelled_write_that_lost_its_path_makes_the_next_one_wait(void **state)
{
    (void)state;
    rig_make(1);
    struct blk_req *cancelled = rig_submit(NVME_IO_WRITE, 0, 1);
    rig_cancel(cancelled);
    rig_lose(0, true, quiet_ns);
    assert_int_equal(cancelled->status, NVME_SC_ABORT_REQUESTED);
    rig_submit(NVME_IO_WRITE, 0, 1);
    assert_null(rig_held(0));
    rig_advance_ms(QUIET_MS + 8);
    rig_finish(0);
}

static void latest_quiet_time_counts(void **state)
{
    (void)state;
    rig_make(2);
    rig_submit_on(0, NVME_IO_WRITE, 0, 1);
    rig_submit_on(1, NVME_IO_WRITE, 1, 1);
    rig_lose(0, true, quiet_ns + 50 * MS);
    rig_lose(0, true, quiet_ns); /* does not shorten it */
    rig_advance_ms(QUIET_MS + 40);
    assert_null(rig_held(1));
    rig_advance_ms(18);
    assert_int_equal(rig.models[0].held_count + rig.models[1].held_count, 2);
    while (rig_held(1) != NULL) {
        rig_finish(1);
    }
}

static void quiet_time_beyond_the_limit_ends_requests_not_ready(void **state)
{
    (void)state;
    rig_make(1);
    struct blk_req *lost = rig_submit(NVME_IO_WRITE, 0, 1);
    rig_lose(0, true, UINT64_MAX); /* nobody can tell */
    struct blk_req *next = rig_submit(NVME_IO_WRITE, 0, 1);
    struct blk_req *read = rig_submit(NVME_IO_READ, 0, 1);
    rig_finish(0);
    assert_int_equal(read->status, 0);
    rig_advance_ms(RIG_WAIT_MS + 8);
    assert_int_equal(lost->status, NVME_SC_NS_NOT_READY);
    assert_int_equal(next->status, NVME_SC_NS_NOT_READY);
    assert_int_equal(rig_info().quiet_ns, UINT64_MAX);
}

static void quiet_time_that_is_over_is_none(void **state)
{
    (void)state;
    rig_make(1);
    rig_submit(NVME_IO_WRITE, 0, 1);
    rig_lose(0, true, RIG_START_NS - 1);
    assert_int_equal(rig_info().quiet_ns, 0);
    rig_advance_ms(8);
    rig_finish(0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lost_write_goes_again_only_when_quiet),
        TEST(new_writes_of_all_cores_wait_behind_a_lost_one),
        TEST(what_changes_nothing_passes_meanwhile),
        TEST(lost_read_makes_nobody_wait),
        TEST(cancelled_write_makes_the_next_one_wait),
        TEST(cancelled_write_that_lost_its_path_makes_the_next_one_wait),
        TEST(latest_quiet_time_counts),
        TEST(quiet_time_beyond_the_limit_ends_requests_not_ready),
        TEST(quiet_time_that_is_over_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
