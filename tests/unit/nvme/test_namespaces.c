/* Namespaces that come, go and change: NVM Express 1.4, section 6.1, and our contract of nvme.h. */
#include "tests/unit/nvme/rig.h"

static void detach(uint32_t nsid)
{
    assert_int_equal(nvme_ns_detach(rig.ctrl, nsid, rig_detached, &rig), STATUS_OK);
}

static nvme_status_t read_status(uint32_t nsid)
{
    struct rig_cmd *cmd = rig_io(rig_rw(NVME_IO_READ, nsid, 0, 1));
    assert_int_equal(cmd->completions, 1);
    return (nvme_status_t)NVME_STATUS_CODE(cmd->nvme.blk.status);
}

static void pass_ms(uint32_t ms)
{
    native_clock_advance(ms * NS_PER_MS);
    rig_turns(4);
}

/* --- attach --------------------------------------------------------------------------------- */

static void attach_takes_every_nsid_once(void **state)
{
    (void)state;
    rig_attach(0, 1);
    rig_attach(1, LIMIT_NAMESPACES);
    rig_dev_init(&rig.devs[2], 0);
    assert_int_equal(nvme_ns_attach(rig.ctrl, 1, &rig.devs[2].dev), STATUS_EXISTS);
    assert_int_equal(nvme_ns_attach(rig.ctrl, 0, &rig.devs[2].dev), STATUS_INVALID);
    assert_int_equal(nvme_ns_attach(rig.ctrl, LIMIT_NAMESPACES + 1, &rig.devs[2].dev),
                     STATUS_INVALID);
    assert_non_null(nvme_ns_find(rig.ctrl, 1));
    assert_int_equal(nvme_ns_find(rig.ctrl, LIMIT_NAMESPACES)->nsid, LIMIT_NAMESPACES);
    assert_null(nvme_ns_find(rig.ctrl, 0));
    assert_null(nvme_ns_find(rig.ctrl, 2));
    assert_null(nvme_ns_find(rig.ctrl, NVME_NSID_ALL));
}

static void attach_refuses_a_geometry_that_does_not_fit(void **state)
{
    (void)state;
    struct blk_geometry *geometry = &rig.devs[0].dev.geometry;
    rig_dev_init(&rig.devs[0], 0);
    geometry->lba_shift = 10;
    assert_int_equal(nvme_ns_attach(rig.ctrl, 1, &rig.devs[0].dev), STATUS_INVALID);
    rig_dev_init(&rig.devs[0], 0);
    geometry->lba_count = 0;
    assert_int_equal(nvme_ns_attach(rig.ctrl, 1, &rig.devs[0].dev), STATUS_INVALID);
    rig_dev_init(&rig.devs[0], 0);
    geometry->lba_count = UINT64_MAX;
    assert_int_equal(nvme_ns_attach(rig.ctrl, 1, &rig.devs[0].dev), STATUS_INVALID);
    rig_dev_init(&rig.devs[0], 0);
    geometry->max_transfer_bytes = 4096 << 4; /* MDTS is 5 */
    assert_int_equal(nvme_ns_attach(rig.ctrl, 1, &rig.devs[0].dev), STATUS_INVALID);
    geometry->max_transfer_bytes = 4096 << 5;
    assert_int_equal(nvme_ns_attach(rig.ctrl, 1, &rig.devs[0].dev), STATUS_OK);
}

static void attach_of_unknown_geometry_becomes_active_when_known(void **state)
{
    (void)state;
    struct rig_dev *dev = &rig.devs[0];
    rig_dev_init(dev, 0);
    dev->dev.geometry.known = false;
    assert_int_equal(nvme_ns_attach(rig.ctrl, 1, &dev->dev), STATUS_OK);
    assert_int_equal(read_status(1), NVME_SC_INVALID_FIELD);
    dev->dev.changed(&dev->dev, dev->dev.changed_ctx); /* still not */
    assert_int_equal(read_status(1), NVME_SC_INVALID_FIELD);
    dev->dev.geometry.known = true;
    dev->dev.geometry.lba_shift = 11; /* does not fit: stays inactive */
    dev->dev.changed(&dev->dev, dev->dev.changed_ctx);
    assert_int_equal(read_status(1), NVME_SC_INVALID_FIELD);
    dev->dev.geometry.lba_shift = 9;
    dev->dev.changed(&dev->dev, dev->dev.changed_ctx);
    assert_int_equal(read_status(1), NVME_SC_SUCCESS);
}

/* --- detach --------------------------------------------------------------------------------- */

static void detach_of_an_idle_namespace_ends_in_a_later_turn(void **state)
{
    (void)state;
    rig_attach(0, 1);
    detach(1);
    assert_int_equal(rig.detached_count, 0);
    assert_int_equal(read_status(1), NVME_SC_INVALID_FIELD);
    rig_turns(4);
    assert_int_equal(rig.detached_count, 1);
    assert_null(rig.devs[0].dev.changed);
    rig_attach(1, 1);
    assert_int_equal(read_status(1), NVME_SC_SUCCESS);
    assert_int_equal(rig.devs[1].request_count, 1);
}

static uint32_t first_allocated(void)
{
    assert_ended(rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_IDENTIFY,
                                             .cdw10 = NVME_CNS_ALLOCATED_NS_LIST}),
                 NVME_SC_SUCCESS);
    uint32_t nsid;
    memcpy(&nsid, rig.data, sizeof(nsid));
    return nsid;
}

static void detach_takes_it_off_the_lists_at_once(void **state)
{
    (void)state;
    rig_attach(0, 1);
    assert_int_equal(first_allocated(), 1);
    detach(1);
    assert_int_equal(first_allocated(), 0);
    rig_turns(4);
    assert_int_equal(first_allocated(), 0);
}

static void detach_waits_for_commands_under_way(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach(0, 1);
    dev->hold = true;
    struct rig_cmd *cmd = rig_io(rig_rw(NVME_IO_READ, 1, 0, 1));
    detach(1);
    pass_ms(2);
    pass_ms(1000);
    assert_int_equal(rig.detached_count, 0);
    assert_int_equal(read_status(1), NVME_SC_INVALID_FIELD);
    assert_int_equal(dev->request_count, 1);
    rig_dev_release(dev, NVME_SC_SUCCESS);
    assert_ended(cmd, NVME_SC_SUCCESS);
    pass_ms(2);
    assert_int_equal(rig.detached_count, 1);
}

static void detach_twice_is_refused(void **state)
{
    (void)state;
    assert_int_equal(nvme_ns_detach(rig.ctrl, 1, NULL, NULL), STATUS_NOT_FOUND);
    assert_int_equal(nvme_ns_detach(rig.ctrl, 0, NULL, NULL), STATUS_NOT_FOUND);
    assert_int_equal(nvme_ns_detach(rig.ctrl, NVME_NSID_ALL, NULL, NULL), STATUS_NOT_FOUND);
    rig_attach(0, 1);
    detach(1);
    assert_int_equal(nvme_ns_detach(rig.ctrl, 1, NULL, NULL), STATUS_EXISTS);
    rig_dev_init(&rig.devs[1], 0);
    assert_int_equal(nvme_ns_attach(rig.ctrl, 1, &rig.devs[1].dev), STATUS_EXISTS);
    rig_turns(4);
    assert_int_equal(nvme_ns_detach(rig.ctrl, 1, NULL, NULL), STATUS_NOT_FOUND);
}

static void detach_of_several_at_once_ends_for_each(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        rig_attach(i, i + 1);
    }
    rig.devs[1].hold = true;
    struct rig_cmd *cmd = rig_io(rig_rw(NVME_IO_READ, 2, 0, 1));
    detach(1);
    detach(2);
    sched_turn();
    detach(3);
    pass_ms(2);
    assert_int_equal(rig.detached_count, 2);
    rig_dev_release(&rig.devs[1], NVME_SC_SUCCESS);
    assert_ended(cmd, NVME_SC_SUCCESS);
    pass_ms(2);
    assert_int_equal(rig.detached_count, 3);
}

/* No core may still be between seeing the namespace open and counting its command. */
static void detach_waits_for_every_core(void **state)
{
    (void)state;
    native_cpu_set_count(2);
    sched_init(2, SCHED_IDLE_POLL);
    struct rig_dev *dev = rig_attach(0, 1);
    detach(1);
    pass_ms(2);
    assert_int_equal(rig.detached_count, 0); /* core 1 has not turned yet */
    native_cpu_become(1);
    sched_turn();
    native_cpu_become(0);
    pass_ms(2);
    assert_int_equal(rig.detached_count, 1);

    dev = rig_attach(1, 1);
    dev->hold = true;
    struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, 0, 1);
    struct rig_cmd *cmd = rig_cmd_new(&sqe);
    cmd->nvme.sq_id = 2;
    cmd->nvme.blk.owner_core = 1;
    nvme_submit_io(&cmd->nvme);
    detach(1);
    native_cpu_become(1);
    sched_turn();
    native_cpu_become(0);
    pass_ms(2);
    assert_int_equal(rig.detached_count, 1); /* that core has one in flight */
    rig_dev_release(dev, NVME_SC_SUCCESS);
    pass_ms(2);
    assert_int_equal(rig.detached_count, 2);
}

/* --- geometry that changes under way -------------------------------------------------------- */

/* Another block size: nothing may be checked by the old and executed by the new one. */
static void geometry_change_drains_then_opens_again(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach(0, 1);
    dev->hold = true;
    struct rig_cmd *cmd = rig_io(rig_rw(NVME_IO_READ, 1, 0, 1));
    dev->dev.geometry.lba_shift = 12;
    dev->dev.geometry.lba_count = 10;
    dev->dev.changed(&dev->dev, dev->dev.changed_ctx);
    struct rig_cmd *refused = rig_io(rig_rw(NVME_IO_READ, 1, 0, 1));
    assert_ended(refused, NVME_SC_NS_NOT_READY);
    assert_int_equal(refused->nvme.blk.status & NVME_STATUS_DNR, 0); /* try again */
    pass_ms(2);
    assert_int_equal(read_status(1), NVME_SC_NS_NOT_READY);
    rig_dev_release(dev, NVME_SC_SUCCESS);
    assert_ended(cmd, NVME_SC_SUCCESS);
    pass_ms(2);
    dev->hold = false;
    assert_int_equal(read_status(1), NVME_SC_SUCCESS);
    assert_int_equal(rig.map_len_bytes, 4096);
}

static void geometry_lost_makes_it_inactive(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach(0, 1);
    dev->dev.geometry.known = false;
    dev->dev.changed(&dev->dev, dev->dev.changed_ctx);
    pass_ms(2);
    assert_int_equal(read_status(1), NVME_SC_INVALID_FIELD);
    detach(1);
    pass_ms(2);
    assert_int_equal(rig.detached_count, 1);
}

static void detach_while_the_geometry_changes_wins(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach(0, 1);
    dev->dev.geometry.features = 0;
    dev->dev.changed(&dev->dev, dev->dev.changed_ctx);
    dev->dev.changed(&dev->dev, dev->dev.changed_ctx);
    detach(1);
    dev->dev.changed(&dev->dev, dev->dev.changed_ctx);
    pass_ms(2);
    assert_int_equal(rig.detached_count, 1);
    assert_int_equal(read_status(1), NVME_SC_INVALID_FIELD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(attach_takes_every_nsid_once),
        TEST(attach_refuses_a_geometry_that_does_not_fit),
        TEST(attach_of_unknown_geometry_becomes_active_when_known),
        TEST(detach_of_an_idle_namespace_ends_in_a_later_turn),
        TEST(detach_takes_it_off_the_lists_at_once),
        TEST(detach_waits_for_commands_under_way),
        TEST(detach_twice_is_refused),
        TEST(detach_of_several_at_once_ends_for_each),
        TEST(detach_waits_for_every_core),
        TEST(geometry_change_drains_then_opens_again),
        TEST(geometry_lost_makes_it_inactive),
        TEST(detach_while_the_geometry_changes_wins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
