/* One device under several namespaces, as when two functions name the same drive. */
#include "tests/unit/nvme/rig.h"

static nvme_status_t read_status(uint32_t nsid)
{
    struct rig_cmd *cmd = rig_io(rig_rw(NVME_IO_READ, nsid, 0, 1));

    assert_int_equal(cmd->completions, 1);
    return (nvme_status_t)NVME_STATUS_CODE(cmd->nvme.blk.status);
}

static struct blk_dev *attach_three_times(void)
{
    struct blk_dev *dev = &rig.devs[0].dev;

    rig_dev_init(&rig.devs[0], 0);
    dev->geometry.known = false;
    for (uint32_t nsid = 1; nsid <= 3; nsid++) {
        assert_int_equal(nvme_ns_attach(rig.ctrl, nsid, dev), STATUS_OK);
    }
    return dev;
}

static void change(struct blk_dev *dev)
{
    dev->changed(dev, dev->changed_ctx);
}

static void shared_device_that_becomes_known_opens_each_namespace(void **state)
{
    (void)state;
    struct blk_dev *dev = attach_three_times();

    dev->geometry.known = true;
    change(dev);
    for (uint32_t nsid = 1; nsid <= 3; nsid++) {
        assert_int_equal(read_status(nsid), NVME_SC_SUCCESS);
    }
}

/* `gone` leaves; the other two still hear of the device. */
static void check_detach(uint32_t gone)
{
    struct blk_dev *dev = attach_three_times();

    assert_int_equal(nvme_ns_detach(rig.ctrl, gone, NULL, NULL), STATUS_OK);
    rig_turns(4);
    dev->geometry.known = true;
    change(dev);
    for (uint32_t nsid = 1; nsid <= 3; nsid++) {
        assert_int_equal(read_status(nsid), nsid == gone ? NVME_SC_INVALID_FIELD : NVME_SC_SUCCESS);
        if (nsid != gone) {
            assert_int_equal(nvme_ns_detach(rig.ctrl, nsid, NULL, NULL), STATUS_OK);
        }
    }
    rig_turns(4);
    assert_null(dev->changed);
}

static void shared_device_loses_its_first_namespace_and_tells_the_others(void **state)
{
    (void)state;
    check_detach(1);
}

static void shared_device_loses_its_middle_namespace_and_tells_the_others(void **state)
{
    (void)state;
    check_detach(2);
}

static void shared_device_loses_its_last_namespace_and_tells_the_others(void **state)
{
    (void)state;
    check_detach(3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(shared_device_that_becomes_known_opens_each_namespace),
        TEST(shared_device_loses_its_first_namespace_and_tells_the_others),
        TEST(shared_device_loses_its_middle_namespace_and_tells_the_others),
        TEST(shared_device_loses_its_last_namespace_and_tells_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
