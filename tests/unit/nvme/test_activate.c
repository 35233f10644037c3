/* Firmware Commit, action 3: an image that starts without a reset, or says that it needs one. */
#include "tests/unit/nvme/rig.h"

#include <string.h>

static struct {
    bool can_activate;
    enum status activate_status;
    uint32_t activate_count;
} fake;

static enum status fake_receive(void *ctx, uint32_t offset_bytes, const struct mem_ref *data)
{
    (void)ctx;
    (void)offset_bytes;
    (void)data;
    return STATUS_OK;
}

static enum status fake_commit(void *ctx, uint32_t what, uint8_t slot,
                               void (*done)(void *arg, enum status status), void *arg)
{
    (void)ctx;
    (void)what;
    (void)slot;
    done(arg, STATUS_OK);
    return STATUS_OK;
}

static void fake_report(void *ctx, struct nvme_firmware_report *report)
{
    (void)ctx;
    memset(report, 0, sizeof(*report));
}

static enum status fake_activate(void *ctx)
{
    assert_ptr_equal(ctx, &fake);
    fake.activate_count++;
    return fake.activate_status;
}

static bool fake_can_activate(void *ctx)
{
    assert_ptr_equal(ctx, &fake);
    return fake.can_activate;
}

static void fake_disabled(void *ctx)
{
    (void)ctx;
}

static struct nvme_firmware_ops ops = {
    .slot_count = 2,
    .receive = fake_receive,
    .commit = fake_commit,
    .report = fake_report,
    .activate = fake_activate,
    .disabled = fake_disabled,
};

static int setup(void **state)
{
    rig_setup(state);
    memset(&fake, 0, sizeof(fake));
    ops.can_activate = fake_can_activate;
    rig.config.firmware_ops = &ops;
    rig.config.firmware_ctx = &fake;
    rig_restart();
    return 0;
}

static uint8_t identified_frmw(void)
{
    const struct nvme_identify_ctrl *id = (const void *)rig.data;

    assert_ended(
        rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_IDENTIFY, .cdw10 = NVME_CNS_CTRL}),
        NVME_SC_SUCCESS);
    return id->frmw;
}

static void activation_without_reset_is_claimed_only_where_it_is_possible(void **state)
{
    (void)state;
    assert_int_equal(identified_frmw() & NVME_FRMW_WITHOUT_RESET, 0);
    fake.can_activate = true;
    assert_int_equal(identified_frmw() & NVME_FRMW_WITHOUT_RESET, NVME_FRMW_WITHOUT_RESET);
    ops.can_activate = NULL;
    assert_int_equal(identified_frmw() & NVME_FRMW_WITHOUT_RESET, NVME_FRMW_WITHOUT_RESET);
}

static void activation_tells_the_host_when_a_reset_is_needed(void **state)
{
    (void)state;
    struct nvme_sqe commit = {.opcode = NVME_ADMIN_FIRMWARE_COMMIT,
                              .cdw10 = 1 | NVME_FIRMWARE_ACTIVATE_NOW
                                               << NVME_FIRMWARE_ACTION_SHIFT};

    assert_ended(rig_admin(commit), NVME_SC_SUCCESS);
    fake.activate_status = STATUS_UNSUPPORTED;
    assert_ended(rig_admin(commit), NVME_SC_FIRMWARE_NEEDS_RESET);
    assert_int_equal(fake.activate_count, 2);
}

#undef TEST
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(activation_without_reset_is_claimed_only_where_it_is_possible),
        TEST(activation_tells_the_host_when_a_reset_is_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
