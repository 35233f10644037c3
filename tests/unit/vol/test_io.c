/* What passes through a volume as it is, and how requests end. */
#include "tests/unit/vol/rig.h"

static void read_on_one_path_passes_and_returns_data(void **state)
{
    (void)state;
    rig_make(1);
    memset(rig.medium + 5 * 512, 0x5a, 512);
    struct blk_req *req = rig_submit(NVME_IO_READ, 5, 1);
    assert_int_equal(rig.models[0].held_count, 1);
    assert_ptr_equal(rig_held(0), req); /* the request itself, its data where they lie */
    rig_finish(0);
    assert_true(rig_is_done(req));
    assert_int_equal(req->status, 0);
    assert_int_equal(rig.data[511], 0x5a);
}

static void request_that_ends_inside_of_submit_is_done(void **state)
{
    (void)state;
    rig.models[0].is_prompt = true;
    rig_make(1);
    struct blk_req *req = rig_submit(NVME_IO_WRITE, 1, 2);
    assert_true(rig_is_done(req));
    assert_memory_equal(rig.medium + 512, rig.data, 1024);
}

static void every_opcode_passes(void **state)
{
    (void)state;
    static const uint8_t opcodes[] = {0x00, 0x01, 0x02, 0x04, 0x05, 0x08,
                                      0x09, 0x0c, 0x0d, 0x0e, 0x11, 0x15};
    rig_make(1);
    for (uint32_t i = 0; i < sizeof(opcodes); i++) {
        struct blk_req *req = rig_submit(opcodes[i], 0, 1);
        assert_int_equal(rig_held(0)->cmd.opcode, opcodes[i]);
        rig_finish(0);
        assert_int_equal(req->status, 0);
    }
}

/* Status, DNR, dw0 and dw1 are the device's. */
static void device_status_is_handed_up_unchanged(void **state)
{
    (void)state;
    rig_make(2);
    struct blk_req *req = rig_submit(NVME_IO_READ, 0, 1);
    req->dw0 = 0x1234;
    rig_refuse(0, NVME_SC_UNRECOVERED_READ | NVME_STATUS_DNR);
    assert_int_equal(req->status, NVME_SC_UNRECOVERED_READ | NVME_STATUS_DNR);
    assert_int_equal(req->dw0, 0x1234);
    assert_int_equal(rig.models[1].submits, 0); /* the command failed, not the path */
}

static void requests_of_two_cores_stay_on_their_cores(void **state)
{
    (void)state;
    rig_make(1);
    struct blk_req *a = rig_submit_on(0, NVME_IO_WRITE, 0, 1);
    struct blk_req *b = rig_submit_on(1, NVME_IO_WRITE, 1, 1);
    rig_finish(0);
    rig_finish(0);
    assert_true(rig_is_done(a) && rig_is_done(b));
    assert_int_equal(rig_info().paths[0].requests, 2);
}

static void cancel_on_a_path_is_handed_down(void **state)
{
    (void)state;
    rig_make(1);
    struct blk_req *req = rig_submit(NVME_IO_READ, 0, 1);
    rig_cancel(req);
    assert_int_equal(rig.models[0].cancels, 1);
    assert_false(rig_is_done(req));
    rig_refuse(0, NVME_SC_ABORT_REQUESTED);
    assert_int_equal(req->status, NVME_SC_ABORT_REQUESTED);
}

/* A cancelled request whose path is lost is not sent again. */
static void cancelled_request_that_loses_its_path_ends_aborted(void **state)
{
    (void)state;
    rig_make(2);
    struct blk_req *req = rig_submit(NVME_IO_READ, 0, 1);
    rig_cancel(req);
    rig_lose(0, true, 0);
    assert_true(rig_is_done(req));
    assert_int_equal(req->status, NVME_SC_ABORT_REQUESTED);
    assert_int_equal(rig.models[1].submits, 0);
}

static void create_refuses_what_makes_no_sense(void **state)
{
    (void)state;
    struct vol *vol;
    struct vol_config config = rig.config;
    config.path_count = 0;
    assert_int_equal(vol_create(rig.vol_memory, &config, &vol), STATUS_INVALID);
    config.path_count = LIMIT_VOLUME_PATHS + 1;
    assert_int_equal(vol_create(rig.vol_memory, &config, &vol), STATUS_INVALID);
    config = rig.config;
    config.path_count = 1;
    config.lba_count = 8;
    config.lba_shift = 10;
    assert_int_equal(vol_create(rig.vol_memory, &config, &vol), STATUS_INVALID);
    config.lba_shift = 9;
    config.paths[0].dev = NULL;
    assert_int_equal(vol_create(rig.vol_memory, &config, &vol), STATUS_INVALID);
    config = rig.config;
    config.path_count = 2;
    config.paths[1] = config.paths[0]; /* one device, twice */
    assert_int_equal(vol_create(rig.vol_memory, &config, &vol), STATUS_INVALID);
    rig_make(1);
    struct vol *second;
    assert_int_equal(vol_create(rig.vol_memory, &rig.config, &second), STATUS_INVALID);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(read_on_one_path_passes_and_returns_data),
        TEST(request_that_ends_inside_of_submit_is_done),
        TEST(every_opcode_passes),
        TEST(device_status_is_handed_up_unchanged),
        TEST(requests_of_two_cores_stay_on_their_cores),
        TEST(cancel_on_a_path_is_handed_down),
        TEST(cancelled_request_that_loses_its_path_ends_aborted),
        TEST(create_refuses_what_makes_no_sense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
