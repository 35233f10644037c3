/* From nothing to LIVE: what is asked of the target, and what is made of its answers. */
#include "tests/unit/nvmf_ctrl/rig.h"

static struct nvmf_queue *route(uint32_t core)
{
    return atomic_load(&nvmf_ctrl_shared(rig.ctrl)->route[core]);
}

static void bring_up_healthy_is_live(void **state)
{
    (void)state;
    rig_init(1);
    (void)fake_ns_add(rig.target, 1, 7, 1000);
    rig_start();
    struct rig_user *user = rig_use(0, 7, 1);
    assert_int_equal(rig_info(rig.ctrl).state, NVMF_CTRL_IDLE);
    assert_false(rig_is_usable(0));
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
    rig_turn();
    assert_true(rig_is_usable(0));
    assert_int_equal(atomic_load(&user->ns.nsid), 1);
    assert_true(user->ns.dev.geometry.known);
    assert_int_equal(user->ns.dev.geometry.lba_count, 1000);
    assert_int_equal(user->ns.dev.geometry.max_transfer_bytes, 4096u << 5);
    assert_true(user->changed_count >= 1);

    struct nvmf_ctrl_info info = rig_info(rig.ctrl);
    assert_string_equal(info.name, "remote");
    assert_string_equal(info.model, "Model");
    assert_string_equal(info.serial, "S1");
    assert_string_equal(info.firmware, "1.0");
    assert_int_equal(info.cntlid, rig.target->cntlid);
    assert_int_equal(info.queue_count, 1);
    assert_int_equal(info.queue_entries, 128);
    assert_int_equal(info.connect_count, 1);
    assert_int_equal(info.attempt_count, 0);
    assert_int_equal(info.fail, NVMF_FAIL_NONE);
    assert_int_equal(info.in_capsule_bytes, 4096);
    assert_int_equal(info.keep_alive_ms, 5000);
    assert_int_equal(info.quiesce_ms, 1000);
    assert_int_equal(info.ns_count, 1);
    assert_false(info.sq_flow_control);
    rig_end();
}

/* Fabrics 1.1, 3.3: what the queues are asked to connect with. */
static void bring_up_queues_have_their_parameters(void **state)
{
    (void)state;
    rig_init(2);
    rig.config.queue_entries = 64;
    rig.config.keep_alive_ms = 3000;
    rig.config.sq_flow_control = true;
    rig_up();
    const struct nvmf_queue_params *admin = &rig.target->params[0];
    assert_int_equal(admin->entries, 32);
    assert_int_equal(admin->cntlid, NVMF_CNTLID_DYNAMIC);
    assert_int_equal(admin->kato_ms, 3000);
    assert_false(admin->sq_flow_off);
    assert_int_equal(admin->icd_bytes, 0);
    for (uint32_t qid = 1; qid <= 2; qid++) {
        const struct nvmf_queue_params *io = &rig.target->params[qid];
        assert_int_equal(io->entries, 64);
        assert_int_equal(io->cntlid, rig.target->cntlid);
        assert_int_equal(io->icd_bytes, 4096);
        assert_int_equal(io->command_timeout_ns, 8 * NS_PER_S);
        assert_true(io->sgl_offsets);
    }
    assert_string_equal(rig.target->nqn, rig.config.subnqn);
    assert_int_equal(rig.target->cc, NVMF_CC_ENABLED);
    rig_end();
}

static void bring_up_entries_are_the_least_of_three(void **state)
{
    (void)state;
    rig_init(1);
    rig.target->id.maxcmd = 40;
    rig_up();
    assert_int_equal(rig.target->params[1].entries, 40);
    rig_end();

    rig_init(1);
    rig.target->id.maxcmd = 1;
    rig_up();
    assert_int_equal(rig.target->params[1].entries, 2);
    rig_end();

    rig_init(1);
    rig.target->cap = (rig.target->cap & ~UINT64_C(0xffff)) | 31; /* MQES, zeroes based */
    rig_up();
    assert_int_equal(rig.target->params[1].entries, 32);
    rig_end();
}

static void bring_up_each_core_goes_to_its_queue(void **state)
{
    (void)state;
    rig_init(4);
    rig_up();
    assert_int_equal(rig_info(rig.ctrl).queue_count, 4);
    for (uint32_t core = 0; core < 4; core++) {
        assert_int_equal(nvmf_core_id(route(core)->core), core);
    }
    rig_end();
}

static void bring_up_cores_without_device_are_spread(void **state)
{
    (void)state;
    rig_init(4);
    fake.has_device[1] = false;
    fake.has_device[3] = false;
    rig_up();
    assert_int_equal(rig_info(rig.ctrl).queue_count, 2);
    assert_int_equal(nvmf_core_id(route(0)->core), 0);
    assert_int_equal(nvmf_core_id(route(2)->core), 2);
    assert_int_equal(nvmf_core_id(route(1)->core) + nvmf_core_id(route(3)->core), 2);
    rig_end();
}

/* 5.21.1.7: fewer queues than asked for are as good. */
static void bring_up_fewer_queues_granted_goes_on(void **state)
{
    (void)state;
    rig_init(4);
    rig.target->queues_granted = 5 << 16 | 1;
    rig_up();
    assert_int_equal(rig_info(rig.ctrl).queue_count, 2);
    assert_int_equal(fake_queue_state(rig.target, 3), NVMF_QUEUE_CLOSED);
    assert_non_null(route(3));
    rig_end();
}

static void bring_up_one_queue_fails_goes_on(void **state)
{
    (void)state;
    rig_init(3);
    rig.target->open_fail[1] = NVMF_FAIL_RDMA_REJECTED;
    rig.target->open_fail[3] = NVMF_FAIL_CTRL_FULL;
    rig_up();
    rig_turn();
    assert_int_equal(rig_info(rig.ctrl).queue_count, 1);
    for (uint32_t core = 0; core < 3; core++) {
        assert_int_equal(nvmf_core_id(route(core)->core), 1);
    }
    rig_end();
}

static void bring_up_slow_ready_is_waited_for(void **state)
{
    (void)state;
    rig_init(1);
    rig.target->ready_delay_ns = 900 * NS_PER_MS; /* of 1 s */
    rig_start();
    rig_run(800 * NS_PER_MS);
    assert_int_equal(rig_info(rig.ctrl).state, NVMF_CTRL_ENABLE);
    rig.target->ready_delay_ns = 0;
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
    assert_int_equal(rig_info(rig.ctrl).connect_count, 1);
    rig_end();
}

static void bring_up_refused_event_configuration_goes_on(void **state)
{
    (void)state;
    rig_init(1);
    rig.target->fault_opcode = NVME_ADMIN_SET_FEATURES;
    rig.target->fault_cdw10 = NVME_FEATURE_ASYNC_EVENT;
    rig.target->fault = FAKE_STATUS;
    rig.target->fault_status = NVME_SC_INVALID_FIELD;
    rig_up();
    rig_end();
}

static void bring_up_in_capsule_data_need_all_of_it(void **state)
{
    (void)state;
    rig_init(1);
    rig.config.no_in_capsule = true;
    rig_up();
    assert_int_equal(rig.target->params[1].icd_bytes, 0);
    rig_end();

    rig_init(1);
    rig.target->id.sgls &= ~NVMF_SGLS_OFFSETS;
    rig_up();
    assert_int_equal(rig.target->params[1].icd_bytes, 0);
    rig_end();

    rig_init(1);
    rig.target->id_fabrics.icdoff = 4; /* 64 bytes */
    rig_up();
    assert_int_equal(rig.target->params[1].icd_bytes, 4096 - 64);
    assert_int_equal(rig.target->params[1].icd_offset_bytes, 64);
    rig_end();

    rig_init(1);
    rig.target->id_fabrics.icdoff = 0xffff;
    rig_up();
    assert_int_equal(rig.target->params[1].icd_bytes, 0);
    rig_end();

    rig_init(1);
    rig.target->id_fabrics.ioccsz = 0xffffffff;
    rig_up();
    assert_int_equal(rig.target->params[1].icd_bytes, LIMIT_TRANSFER_BYTES);
    rig_end();
}

/* 5.21.1.15: KATO is rounded up to KAS; and CQT is there from revision 2.1 on. */
static void bring_up_times_are_the_controllers(void **state)
{
    (void)state;
    rig_init(1);
    rig.target->id.kas = 100;
    rig.target->id.cqt_ms = 77; /* reserved in 1.3 */
    rig_up();
    assert_int_equal(rig_info(rig.ctrl).keep_alive_ms, 10000);
    assert_int_equal(rig_info(rig.ctrl).quiesce_ms, 1000);
    rig_end();

    rig_init(1);
    rig.target->vs = 0x20100;
    rig.target->id.cqt_ms = 77;
    rig.config.quiesce_ms = 300;
    rig_up();
    assert_int_equal(rig_info(rig.ctrl).quiesce_ms, 77);
    rig_end();
}

static void bring_up_transfer_size_follows_mdts(void **state)
{
    static const struct {
        uint8_t mdts;
        uint32_t mpsmin;
        uint32_t want;
    } cases[] = {
        {0, 0, LIMIT_TRANSFER_BYTES},
        {1, 0, 8192},
        {1, 1, 16384},
        {8, 0, LIMIT_TRANSFER_BYTES},
        {255, 15, LIMIT_TRANSFER_BYTES},
        {7, 15, LIMIT_TRANSFER_BYTES},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        rig_init(1);
        rig.target->id.mdts = cases[i].mdts;
        rig.target->cap |= (uint64_t)cases[i].mpsmin << NVME_CAP_MPSMIN_SHIFT;
        rig_up();
        assert_int_equal(rig_info(rig.ctrl).max_transfer_bytes, cases[i].want);
        rig_end();
    }
}

static void create_bad_configuration_is_invalid(void **state)
{
    struct nvmf_ctrl *ctrl;
    char long_nqn[NVMF_NQN_MAX_CHARS + 2];
    static _Alignas(4096) uint8_t memory[4096];
    (void)state;

    memset(long_nqn, 'n', sizeof(long_nqn));
    long_nqn[sizeof(long_nqn) - 1] = '\0';
    rig_init(1);
    for (uint32_t i = 0; i < 9; i++) {
        struct nvmf_ctrl_config config = rig.config;
        switch (i) {
        case 0:
            config.name = NULL;
            break;
        case 1:
            config.name = "a name of thirty-two characters!";
            break;
        case 2:
            config.fn = LIMIT_FUNCTIONS;
            break;
        case 3:
            config.addr = (struct net_addr){{0}};
            break;
        case 4:
            config.subnqn = "";
            break;
        case 5:
            config.hostnqn = long_nqn;
            break;
        case 6:
            config.queue_entries = LIMIT_NVMF_QUEUE_ENTRIES + 1;
            break;
        case 7:
            config.backoff_low_ms = 6000;
            break;
        default:
            config.queue_entries = 1;
            break;
        }
        assert_int_equal(nvmf_ctrl_create(memory, &config, &ctrl), STATUS_INVALID);
    }
    fake.has_device[0] = false;
    assert_int_equal(nvmf_ctrl_create(memory, &rig.config, &ctrl), STATUS_INVALID);
    rig_end();
}

static void create_no_scratch_memory_is_no_space(void **state)
{
    struct nvmf_ctrl *ctrl;
    (void)state;
    rig_init(1);
    void *memory = test_malloc(nvmf_ctrl_memory_bytes(&rig.config) + 4096);
    uint8_t *aligned = (uint8_t *)(((uintptr_t)memory + 4095) & ~(uintptr_t)4095);
    memset(aligned, 0, nvmf_ctrl_memory_bytes(&rig.config));
    fake.scratch_status = STATUS_NO_SPACE;
    assert_int_equal(nvmf_ctrl_create(aligned, &rig.config, &ctrl), STATUS_NO_SPACE);
    test_free(memory);
    rig_end();
}

static void create_one_too_many_is_no_space(void **state)
{
    struct nvmf_ctrl *ctrls[LIMIT_NVMF_CTRLS];
    struct nvmf_ctrl *ctrl;
    uint64_t bytes = 0;
    (void)state;

    rig_init(1);
    rig.target->opens_never[0] = true;
    for (uint32_t i = 0; i < LIMIT_NVMF_CTRLS; i++) {
        ctrls[i] = rig_create(&rig.config);
        bytes += rig_info(ctrls[i]).memory_bytes - 2 * fake.queue_bytes;
    }
    static _Alignas(4096) uint8_t memory[4096];
    assert_int_equal(nvmf_ctrl_create(memory, &rig.config, &ctrl), STATUS_NO_SPACE);
    assert_true(bytes <= 4 << 20); /* what is not of the queues; the budget is 64 MiB in all */
    for (uint32_t i = 0; i < LIMIT_NVMF_CTRLS; i++) {
        rig_close(ctrls[i]);
    }
    rig_end();
}

static void two_associations_live_side_by_side(void **state)
{
    (void)state;
    rig_init(2);
    struct fake_target *other = fake_target_add(4421);
    (void)fake_ns_add(rig.target, 1, 1, 100);
    rig_up();
    struct nvmf_ctrl_config config = rig.config;
    config.port = 4421;
    config.name = "other";
    struct nvmf_ctrl *second = rig_create(&config);
    (void)rig_use(0, 1, 1);
    assert_true(rig_run_to(second, NVMF_CTRL_LIVE, NS_PER_S));
    rig_run(200 * NS_PER_MS);
    assert_true(rig_is_usable(0));

    fake_lose(other, 1, NVMF_FAIL_TRANSPORT);
    rig_run(50 * NS_PER_MS);
    assert_int_not_equal(rig_info(second).state, NVMF_CTRL_LIVE);
    assert_int_equal(rig_info(rig.ctrl).state, NVMF_CTRL_LIVE);
    assert_true(rig_is_usable(0));
    assert_true(rig_run_to(second, NVMF_CTRL_LIVE, 5 * NS_PER_S));
    assert_int_equal(rig_info(rig.ctrl).connect_count, 1);
    assert_int_equal(rig_info(second).connect_count, 2);
    rig_close(second);
    assert_int_equal(rig_info(rig.ctrl).state, NVMF_CTRL_LIVE);
    rig_end();
}

static void names_cover_all_values(void **state)
{
    (void)state;
    assert_string_equal(nvmf_ctrl_state_name(NVMF_CTRL_LIVE), "LIVE");
    assert_string_equal(nvmf_ctrl_state_name((enum nvmf_ctrl_state)99), "?");
    assert_string_equal(nvmf_fail_text(NVMF_FAIL_NONE), "nothing failed");
    assert_string_equal(nvmf_fail_text((enum nvmf_fail)99), "?");
    assert_string_equal(nvmf_path_name(NVMF_PATH_ZERO_COPY), "zero-copy");
    assert_string_equal(nvmf_path_name(NVMF_PATH_COUNT), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bring_up_healthy_is_live),
        cmocka_unit_test(bring_up_queues_have_their_parameters),
        cmocka_unit_test(bring_up_entries_are_the_least_of_three),
        cmocka_unit_test(bring_up_each_core_goes_to_its_queue),
        cmocka_unit_test(bring_up_cores_without_device_are_spread),
        cmocka_unit_test(bring_up_fewer_queues_granted_goes_on),
        cmocka_unit_test(bring_up_one_queue_fails_goes_on),
        cmocka_unit_test(bring_up_slow_ready_is_waited_for),
        cmocka_unit_test(bring_up_refused_event_configuration_goes_on),
        cmocka_unit_test(bring_up_in_capsule_data_need_all_of_it),
        cmocka_unit_test(bring_up_times_are_the_controllers),
        cmocka_unit_test(bring_up_transfer_size_follows_mdts),
        cmocka_unit_test(create_bad_configuration_is_invalid),
        cmocka_unit_test(create_no_scratch_memory_is_no_space),
        cmocka_unit_test(create_one_too_many_is_no_space),
        cmocka_unit_test(two_associations_live_side_by_side),
        cmocka_unit_test(names_cover_all_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
