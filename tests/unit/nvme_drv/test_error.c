/* Drives that hang, lie, break or go away: every request ends exactly once, and nothing touches its
 * memory afterwards (each buffer is freed when its request ends, so that ASan sees a late access).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "nvme_drv/nvme_drv_priv.h"
#include "rig.h"
#include "sched/sched.h"

#define COUNT 64

static struct rig rig;
static struct rig_req reqs[COUNT];

/* COUNT reads and writes of mixed shapes on both cores, each with memory of its own. */
static void submit_all(void)
{
    for (uint32_t i = 0; i < COUNT; i++) {
        struct rig_req *r = &reqs[i];
        uint32_t lba_count = i % 8 == 7 ? 256 : 1 + i % 20;
        uint8_t *buffer = malloc(lba_count * 512 + 64);
        memset(buffer, 1, lba_count * 512 + 64);
        rig_req_init(&rig, r, i % 2 == 0 ? NVME_IO_READ : NVME_IO_WRITE, i * 100, lba_count);
        r->req.owner_core = (uint8_t)(i / 2 % rig.core_count);
        if (i % 5 == 0 && lba_count > 1) {
            rig_req_seg(r, buffer, 300);
            rig_req_seg(r, buffer + 364, lba_count * 512 - 300); /* a gap: no PRP goes across */
        } else {
            rig_req_seg(r, buffer, lba_count * 512);
        }
        rig_submit(&rig, r);
    }
}

static void free_done(void)
{
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_in_range(reqs[i].done_count, 0, 1);
        if (reqs[i].done_count == 1 && reqs[i].segs[0].bus_addr != 0) {
            free(mem_seg_ptr(&reqs[i].segs[0]));
            reqs[i].segs[0].bus_addr = 0;
        }
    }
}

/* Turns until all are done, freeing as they end. */
static bool wait_all(uint64_t limit_ns)
{
    uint64_t ns = 0;
    while (!rig_wait(&rig, reqs, COUNT, 1) && ns < limit_ns) {
        free_done();
        ns += rig.step_ns;
    }
    free_done();
    return ns < limit_ns;
}

/* Each ended well or may be tried again. */
static uint32_t check_retryable(void)
{
    uint32_t failed_count = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(reqs[i].done_count, 1);
        assert_int_equal(reqs[i].req.status & NVME_STATUS_DNR, 0);
        failed_count += reqs[i].req.status != 0;
    }
    return failed_count;
}

static void start(uint32_t core_count)
{
    rig_init(&rig, core_count, 9);
    rig.model.shuffles = true;
    rig.model.mdts = 4;
    rig_bring_up(&rig);
}

/* The drive serves again as if nothing had been. */
static void check_serves(void)
{
    assert_true(rig_run_to(&rig, NVME_DRV_READY, 30 * RIG_S));
    submit_all();
    assert_true(wait_all(30 * RIG_S));
    assert_int_equal(check_retryable(), 0);
}

/* --- late commands
 * -------------------------------------------------------------------------------- */

static void timeout_of_one_command_is_aborted_without_reset(void **state)
{
    (void)state;
    start(2);
    rig.step_ns = RIG_MS / 4;
    rig.model.io_fault = MODEL_FAULT_STALL;
    rig.model.io_fault_number = rig.model.io_count + 10;
    rig.model.fault_repeats = 1;
    submit_all();
    assert_true(wait_all(9 * RIG_S));
    assert_int_equal(check_retryable(), 1);
    struct nvme_drv_stats stats = nvme_drv_stats(rig.drv);
    assert_int_equal(stats.timeout_count, 1);
    assert_int_equal(stats.abort_count, 1);
    assert_int_equal(stats.reset_count, 0);
    assert_int_equal(rig.model.abort_count, 1);
    for (uint32_t i = 0; i < COUNT; i++) {
        if (reqs[i].req.status != 0) { /* the drive said Abort Requested; nobody above did */
            assert_int_equal(reqs[i].req.status, NVME_SC_COMMAND_INTERRUPTED);
        }
    }
    rig_end(&rig);
}

static void timeout_at_the_requests_own_deadline(void **state)
{
    static struct rig_req r;
    static uint8_t data[512];
    (void)state;
    start(1);
    rig.model.is_frozen = true;
    rig_req_init(&rig, &r, NVME_IO_READ, 0, 1);
    rig_req_seg(&r, data, sizeof(data));
    r.req.deadline_ns = sched_now_ns() + 300 * RIG_MS;
    rig_submit(&rig, &r);
    rig_run(&rig, 250 * RIG_MS);
    assert_int_equal(rig.model.abort_count, 0);
    rig_run(&rig, 150 * RIG_MS);
    assert_int_equal(rig.model.abort_count, 1);
    assert_int_equal(r.done_count, 1);
    assert_int_equal(r.req.status, NVME_SC_COMMAND_INTERRUPTED);
    rig_end(&rig);
}

static void timeout_and_ignored_abort_resets_the_drive(void **state)
{
    (void)state;
    start(2);
    rig.step_ns = RIG_MS / 4;
    rig.model.is_frozen = true;
    rig.model.ignores_aborts = true;
    submit_all();
    rig_run(&rig, 8 * RIG_S);
    assert_false(rig_wait(&rig, reqs, COUNT, 1));
    assert_true(wait_all(RIG_S)); /* 500 ms for the aborts, then the reset */
    assert_int_equal(check_retryable(), COUNT);
    assert_int_equal(nvme_drv_stats(rig.drv).reset_count, 1);
    rig.model.is_frozen = false;
    check_serves();
    rig_end(&rig);
}

static void lost_completion_ends_by_reset(void **state)
{
    (void)state;
    start(2);
    rig.step_ns = RIG_MS / 4;
    rig.model.io_fault = MODEL_FAULT_LOSE;
    rig.model.io_fault_number = rig.model.io_count + 1;
    rig.model.fault_repeats = 1;
    submit_all();
    assert_true(wait_all(10 * RIG_S));
    assert_int_equal(check_retryable(), 1);
    assert_int_equal(nvme_drv_stats(rig.drv).reset_count, 1);
    rig.model.io_fault = MODEL_FAULT_NONE;
    check_serves();
    rig_end(&rig);
}

/* --- cancel
 * ----------------------------------------------------------------------------------------- */

static void cancel_ends_requests_by_abort(void **state)
{
    (void)state;
    start(2);
    rig.model.is_frozen = true;
    submit_all();
    rig_run(&rig, RIG_MS);
    for (uint32_t i = 0; i < COUNT; i++) {
        rig_become(reqs[i].req.owner_core);
        blk_cancel(rig.dev, &reqs[i].req);
    }
    assert_true(wait_all(200 * RIG_MS));
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(reqs[i].req.status, NVME_SC_ABORT_REQUESTED);
    }
    assert_true(rig.model.abort_count >= COUNT);
    assert_int_equal(nvme_drv_stats(rig.drv).reset_count, 0);
    rig_end(&rig);
}

static void cancel_of_a_drive_that_does_not_listen_ends_within_a_second(void **state)
{
    (void)state;
    start(2);
    rig.step_ns = RIG_MS / 4;
    rig.model.is_frozen = true;
    rig.model.ignores_aborts = true;
    rig.model.never_idle = true; /* and RDY stays 1 */
    submit_all();
    rig_run(&rig, 10 * RIG_MS);
    for (uint32_t i = 0; i < COUNT; i++) {
        rig_become(reqs[i].req.owner_core);
        blk_cancel(rig.dev, &reqs[i].req);
    }
    assert_true(wait_all(900 * RIG_MS));
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(reqs[i].req.status, NVME_SC_ABORT_REQUESTED);
    }
    assert_false(rig.model.bus_master);
    rig.model.is_frozen = false;
    rig.model.never_idle = false;
    check_serves();
    rig_end(&rig);
}

/* A request that was under way before, in another slot: only the command of now is aborted, once.
 */
static void cancel_aborts_the_present_command_alone(void **state)
{
    static struct rig_req r[2];
    static uint8_t data[2][512];
    (void)state;
    rig_init(&rig, 1, 9);
    rig_bring_up(&rig);
    for (uint32_t i = 0; i < 2; i++) {
        rig_req_init(&rig, &r[i], NVME_IO_READ, 0, 1);
        rig_req_seg(&r[i], data[i], sizeof(data[i]));
        rig_submit(&rig, &r[i]);
    }
    assert_true(rig_wait(&rig, r, 2, RIG_S)); /* r[0] in slot 0, r[1] in slot 1, freed last */
    rig.model.is_frozen = true;
    r[0].done_count = 0;
    rig_submit(&rig, &r[0]); /* slot 1 */
    rig_run(&rig, RIG_MS);
    rig.model.ignores_aborts = true;
    blk_cancel(rig.dev, &r[0].req);
    blk_cancel(rig.dev, &r[0].req);
    rig_run(&rig, 100 * RIG_MS);
    assert_int_equal(rig.model.abort_count, 1);
    assert_int_equal(nvme_drv_stats(rig.drv).abort_count, 1);
    rig.model.is_frozen = false;
    assert_true(rig_wait(&rig, r, 1, RIG_S));
    assert_int_equal(r[0].req.status, 0); /* it ended before the abort could do harm */
    rig_run(&rig, RIG_S);
    assert_int_equal(nvme_drv_stats(rig.drv).reset_count, 0);
    rig_end(&rig);
}

/* One slot, the rest waits: of three requests the second and the third never reach the drive. */
static void cancel_of_a_waiting_request_ends_it_at_once(void **state)
{
    static struct rig_req r[3];
    static uint8_t data[3][4096];
    (void)state;
    rig_init(&rig, 1, 9);
    rig.model.mqes = 1;
    rig.model.is_frozen = true;
    rig_bring_up(&rig);
    for (uint32_t i = 0; i < 3; i++) {
        rig_req_init(&rig, &r[i], NVME_IO_READ, 0, 8);
        rig_req_seg(&r[i], data[i], sizeof(data[i]));
        rig_submit(&rig, &r[i]);
    }
    blk_cancel(rig.dev, &r[1].req);
    assert_int_equal(r[1].done_count, 1);
    assert_int_equal(r[1].req.status, NVME_SC_ABORT_REQUESTED);
    rig.model.is_frozen = false;
    assert_true(rig_wait(&rig, r, 3, RIG_S));
    assert_int_equal(r[2].req.status, 0);
    assert_int_equal(rig.model.io_count, 2);
    rig_end(&rig);
}

static void cancel_of_a_half_submitted_split_ends_after_its_commands(void **state)
{
    static struct rig_req r;
    static uint8_t data[65536];
    (void)state;
    rig_init(&rig, 1, 9);
    rig.model.mqes = 3;
    rig.model.mdts = 1;
    rig.model.is_frozen = true;
    rig_bring_up(&rig);
    rig_req_init(&rig, &r, NVME_IO_READ, 0, 128);
    rig_req_seg(&r, data, sizeof(data));
    rig_submit(&rig, &r);
    rig_run(&rig, RIG_MS);
    blk_cancel(rig.dev, &r.req);
    assert_int_equal(r.done_count, 0);
    rig.model.is_frozen = false;
    assert_true(rig_wait(&rig, &r, 1, RIG_S));
    assert_int_equal(r.req.status, NVME_SC_ABORT_REQUESTED);
    assert_int_equal(rig.model.io_count, 3);
    rig_end(&rig);
}

/* --- completions that cannot be
 * ---------------------------------------------------------------------- */

static void bad_completion_is_counted_and_resets(void **state)
{
    static const enum model_fault faults[] = {MODEL_FAULT_UNKNOWN_CID, MODEL_FAULT_DUPLICATE,
                                              MODEL_FAULT_WRONG_SQ};
    (void)state;
    for (uint32_t f = 0; f < ARRAY_SIZE(faults); f++) {
        start(2);
        rig.step_ns = RIG_MS / 4;
        rig.model.io_fault = faults[f];
        rig.model.io_fault_number = rig.model.io_count + 20;
        rig.model.fault_repeats = 1;
        submit_all();
        assert_true(wait_all(2 * RIG_S));
        check_retryable();
        struct nvme_drv_stats stats = nvme_drv_stats(rig.drv);
        assert_int_equal(stats.bad_completion_count, 1);
        assert_int_equal(stats.reset_count, 1);
        rig.model.io_fault = MODEL_FAULT_NONE;
        check_serves();
        rig_end(&rig);
    }
}

/* A CQE of a command that ended long ago, replayed after its slot was used again. */
static void bad_completion_of_an_earlier_use_of_the_slot_is_found_out(void **state)
{
    static struct rig_req r;
    static uint8_t data[512];
    (void)state;
    start(1);
    for (uint32_t i = 0; i < 2; i++) {
        rig_req_init(&rig, &r, NVME_IO_READ, 0, 1);
        rig_req_seg(&r, data, sizeof(data));
        assert_int_equal(rig_do(&rig, &r), 0);
    }
    rig.model.is_frozen = true;
    rig_req_init(&rig, &r, NVME_IO_READ, 0, 1);
    rig_req_seg(&r, data, sizeof(data));
    rig_submit(&rig, &r);
    rig_turn(&rig);
    struct nvme_cqe *cqe = rig.drv->queues[0].cq.entries;
    cqe[2] = cqe[1]; /* same slot, older generation; the phase is still that of the first pass */
    assert_true(rig_wait(&rig, &r, 1, RIG_S));
    assert_int_equal(r.req.status, NVME_SC_COMMAND_INTERRUPTED);
    assert_int_equal(nvme_drv_stats(rig.drv).bad_completion_count, 1);
    rig_end(&rig);
}

/* --- breakdown, reset, removal
 * ------------------------------------------------------------------------ */

/* The n-th command breaks the drive, for every n: whatever was under way may be retried, and is. */
static void fault_at_every_command_loses_nothing(void **state)
{
    static const enum model_fault faults[] = {MODEL_FAULT_CFS, MODEL_FAULT_UNKNOWN_CID};
    (void)state;
    for (uint32_t f = 0; f < ARRAY_SIZE(faults); f++) {
        for (uint32_t n = 1; n <= COUNT + 8; n += 3) {
            start(2);
            rig.model.io_fault = faults[f];
            rig.model.io_fault_number = n;
            rig.model.fault_repeats = 1;
            rig.step_ns = RIG_MS / 4;
            submit_all();
            for (uint32_t i = 0; i < COUNT; i++) {
                reqs[i].resubmits = true; /* waits for the drive, then succeeds */
            }
            assert_true(wait_all(5 * RIG_S));
            assert_int_equal(check_retryable(), 0);
            rig_end(&rig);
        }
    }
}

/* A reset that is asked for after t, for many t: in the middle of I/O, of another reset, of
 * bring-up. */
static void reset_at_every_moment_comes_back(void **state)
{
    (void)state;
    for (uint32_t turns = 0; turns < 80; turns++) {
        start(2);
        rig.step_ns = RIG_MS / 5; /* bring-up takes about 40 of these */
        rig.model.delay_ns = 10 * rig.step_ns;
        rig.model.ready_delay_ns = 3 * rig.step_ns;
        submit_all();
        nvme_drv_reset(rig.drv);
        for (uint32_t i = 0; i < turns; i++) {
            rig_turn(&rig);
        }
        nvme_drv_reset(rig.drv);
        rig.step_ns = RIG_MS / 4;
        assert_true(wait_all(10 * RIG_S));
        check_retryable();
        rig_run(&rig, 5 * RIG_S);
        check_serves();
        assert_in_range(nvme_drv_stats(rig.drv).reset_count, 1, 2);
        rig_end(&rig);
    }
}

static void reset_holds_new_requests_until_the_drive_is_back(void **state)
{
    (void)state;
    start(2);
    rig.model.ready_delay_ns = 500 * RIG_MS;
    nvme_drv_reset(rig.drv);
    rig_run(&rig, 50 * RIG_MS);
    assert_int_equal(nvme_drv_state(rig.drv), NVME_DRV_ENABLING);
    submit_all();
    rig_run(&rig, 100 * RIG_MS);
    assert_int_equal(reqs[0].done_count, 0);
    assert_true(wait_all(RIG_S));
    assert_int_equal(check_retryable(), 0);
    assert_int_equal(rig.changed_count, 1); /* the namespace was never away */
    rig_end(&rig);
}

static void reset_of_a_drive_that_stays_away_ends_requests_at_their_deadline(void **state)
{
    (void)state;
    start(2);
    rig.step_ns = RIG_MS / 2;
    rig.model.to_units = 255; /* 127 s */
    nvme_drv_reset(rig.drv);
    rig_run(&rig, 2 * RIG_MS);
    rig.model.never_ready = true;
    submit_all();
    rig_run(&rig, 7 * RIG_S);
    assert_int_equal(reqs[0].done_count, 0);
    assert_true(wait_all(2 * RIG_S));
    assert_int_equal(check_retryable(), COUNT);
    rig_end(&rig);
}

static void reset_that_fails_ends_waiting_requests(void **state)
{
    (void)state;
    start(2);
    rig.step_ns = RIG_MS / 2;
    rig.model.to_units = 1;
    nvme_drv_reset(rig.drv);
    rig_run(&rig, 2 * RIG_MS);
    rig.model.never_ready = true;
    submit_all();
    assert_true(wait_all(2 * RIG_S));
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(reqs[i].req.status, NVME_SC_NS_NOT_READY);
    }
    rig.model.never_ready = false;
    check_serves();
    rig_end(&rig);
}

/* Ready, then dead after one second, again and again: the pauses grow. */
static void reset_again_and_again_backs_off(void **state)
{
    (void)state;
    start(1);
    rig.step_ns = RIG_MS;
    for (uint32_t i = 0; i < 7; i++) {
        assert_true(rig_run_to(&rig, NVME_DRV_READY, 30 * RIG_S));
        rig_run(&rig, RIG_S);
        nvme_drv_reset(rig.drv);
        rig_run(&rig, 5 * RIG_MS);
    }
    assert_false(rig_run_to(&rig, NVME_DRV_READY, 2 * RIG_S));
    assert_true(rig_run_to(&rig, NVME_DRV_READY, 2 * RIG_S));
    rig_end(&rig);
}

static void removal_under_load_ends_everything(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= COUNT; n += 7) {
        start(2);
        rig.step_ns = RIG_MS / 2;
        rig.model.io_fault = MODEL_FAULT_REMOVE;
        rig.model.io_fault_number = n;
        submit_all();
        assert_true(wait_all(2 * RIG_S));
        assert_true(check_retryable() > 0);
        assert_true(rig_run_to(&rig, NVME_DRV_REMOVED, RIG_S));
        assert_false(rig.dev->geometry.known);
        assert_false(rig.model.bus_master);
        submit_all();
        assert_true(wait_all(RIG_MS));
        assert_int_equal(reqs[0].req.status, NVME_SC_NS_NOT_READY);
        rig_end(&rig);
    }
}

/* --- resources run out
 * -------------------------------------------------------------------------------- */

/* With only n lists, buffers and split objects, for n = 1, 2, ...: slower, but all ends well. */
static void empty_pools_make_requests_wait(void **state)
{
    (void)state;
    for (uint32_t n = 1; n < 6; n++) {
        void *kept[4][NVME_DRV_SMALL_LISTS];
        uint32_t kept_count[4] = {0};
        rig_init(&rig, 1, 9);
        rig.model.sgls = 0;
        rig.model.mdts = 5;
        rig_bring_up(&rig);
        struct pool *pools[4] = {&nvme_drv_pools[0].small_lists, &nvme_drv_pools[0].big_lists,
                                 &nvme_drv_pools[0].bounces, &nvme_drv_pools[0].splits};
        for (uint32_t p = 0; p < 4; p++) {
            while (pools[p]->free_count > n) {
                kept[p][kept_count[p]++] = pool_get(pools[p]);
            }
        }
        submit_all();
        assert_true(wait_all(20 * RIG_S));
        assert_int_equal(check_retryable(), 0);
        for (uint32_t p = 0; p < 4; p++) {
            if (n == 1 && p != 1) { /* what is 128 KiB or less needs no big list */
                assert_int_equal(pools[p]->low_water, 0);
            }
            while (kept_count[p] != 0) {
                pool_put(pools[p], kept[p][--kept_count[p]]);
            }
        }
        rig_end(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timeout_of_one_command_is_aborted_without_reset),
        cmocka_unit_test(timeout_at_the_requests_own_deadline),
        cmocka_unit_test(timeout_and_ignored_abort_resets_the_drive),
        cmocka_unit_test(lost_completion_ends_by_reset),
        cmocka_unit_test(cancel_ends_requests_by_abort),
        cmocka_unit_test(cancel_of_a_drive_that_does_not_listen_ends_within_a_second),
        cmocka_unit_test(cancel_aborts_the_present_command_alone),
        cmocka_unit_test(cancel_of_a_waiting_request_ends_it_at_once),
        cmocka_unit_test(cancel_of_a_half_submitted_split_ends_after_its_commands),
        cmocka_unit_test(bad_completion_is_counted_and_resets),
        cmocka_unit_test(bad_completion_of_an_earlier_use_of_the_slot_is_found_out),
        cmocka_unit_test(fault_at_every_command_loses_nothing),
        cmocka_unit_test(reset_at_every_moment_comes_back),
        cmocka_unit_test(reset_holds_new_requests_until_the_drive_is_back),
        cmocka_unit_test(reset_of_a_drive_that_stays_away_ends_requests_at_their_deadline),
        cmocka_unit_test(reset_that_fails_ends_waiting_requests),
        cmocka_unit_test(reset_again_and_again_backs_off),
        cmocka_unit_test(removal_under_load_ends_everything),
        cmocka_unit_test(empty_pools_make_requests_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
