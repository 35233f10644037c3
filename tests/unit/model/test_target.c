/*
 * The model target's controller: connections, its registers, admin commands, discovery. NVMe-oF
 * 1.1; numbers are its sections. I/O and faults: test_target_io.c.
 */
#include <string.h>
#include "spec/nvme_feature.h"
#include "spec/nvme_log.h"
#include "tests/unit/model/rig.h"

/* --- connections ---------------------------------------------------------------------------- */

/* 7.3.6.4: private data of request, reply and rejection */
static void request_with_bad_fields_is_rejected_with_its_status(void **state)
{
    (void)state;
    rig_queue_open(&rig.admin, 100, 1);
    assert_false(rig.admin.is_up);
    assert_int_equal(rig.admin.reason, RDMA_CM_REJ_CONSUMER);
    assert_int_equal(rig.admin.rej.sts, NVMF_RDMA_INVALID_QID);
    rig_queue_close(&rig.admin);
    rig_queue_open(&rig.admin, 1, 77);
    assert_int_equal(rig.admin.rej.sts, NVMF_RDMA_INVALID_CNTLID);
    rig_queue_close(&rig.admin);
    target_knobs(rig.target)->reject_status = NVMF_RDMA_NO_RESOURCES;
    target_knobs(rig.target)->reject_count = 1;
    rig_queue_open(&rig.admin, 0, NVMF_CNTLID_DYNAMIC);
    assert_int_equal(rig.admin.rej.sts, NVMF_RDMA_NO_RESOURCES);
    rig_queue_close(&rig.admin);
    rig_queue_open(&rig.admin, 0, NVMF_CNTLID_DYNAMIC);
    assert_true(rig.admin.is_up);
    assert_int_equal(rig.admin.rep.crqsize, RIG_ENTRIES);
}

/* 3.3: Connect */
static void connect_names_the_field_that_is_wrong(void **state)
{
    (void)state;
    rig_queue_open(&rig.admin, 0, NVMF_CNTLID_DYNAMIC);
    struct nvme_cqe cqe = rig_send_connect(&rig.admin, "nqn.none", 0, 0);
    assert_int_equal(NVME_STATUS_CODE(rig_status(&cqe)), NVMF_SC_CONNECT_INVALID_PARAMETERS);
    assert_int_equal(cqe.dw0, offsetof(struct nvmf_connect_data, subnqn) | NVMF_CONNECT_IATTR_DATA);
    cqe = rig_send_connect(&rig.admin, "nqn.2024-01.test:closed", 0, 0);
    assert_int_equal(NVME_STATUS_CODE(rig_status(&cqe)), NVMF_SC_CONNECT_INVALID_HOST);
    rig.admin.cntlid = 5;
    cqe = rig_send_connect(&rig.admin, RIG_NQN, 0, 0);
    assert_int_equal(cqe.dw0, offsetof(struct nvmf_connect_data, cntlid) | NVMF_CONNECT_IATTR_DATA);
    rig.admin.cntlid = NVMF_CNTLID_DYNAMIC;
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_KEEP_ALIVE};
    cqe = rig_run(&rig.admin, &sqe, 0);
    assert_int_equal(NVME_STATUS_CODE(rig_status(&cqe)), NVME_SC_COMMAND_SEQUENCE_ERROR);
    cqe = rig_send_connect(&rig.admin, RIG_NQN, 0, 0);
    assert_int_equal(rig_status(&cqe), NVME_SC_SUCCESS);
    assert_int_equal(target_ctrl_count(rig.target), 1);
    assert_int_equal(cqe.sq_head, 1);
}

/* 3.5, and 3.1.5 of the base specification */
static void controller_follows_cc(void **state)
{
    (void)state;
    rig_admin_up(RIG_NQN, 0);
    assert_int_equal(FIELD_GET(NVME_CAP_MQES, rig_property(NVME_REG_CAP)), 127);
    assert_int_equal(rig_property(NVME_REG_VS), NVME_VERSION_1_4);
    rig_cc_set(RIG_CC_ON | 1u << NVME_CC_SHN_SHIFT);
    assert_int_equal(FIELD_GET(NVME_CSTS_SHST, rig_property(NVME_REG_CSTS)), NVME_SHST_COMPLETE);
    rig_cc_set(0);
    assert_int_equal(rig_property(NVME_REG_CSTS), 0);
    target_knobs(rig.target)->fatal_at_enable = true;
    rig_cc_set(RIG_CC_ON);
    assert_int_equal(rig_property(NVME_REG_CSTS), NVME_CSTS_CFS);
}

/* 7.11 of the base specification */
static void keep_alive_that_stays_away_kills_the_controller(void **state)
{
    (void)state;
    rig_admin_up(RIG_NQN, 1500); /* rounded up to 2 s */
    rig_advance(1900 * NS_PER_MS);
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_KEEP_ALIVE};
    rig_run(&rig.admin, &sqe, 0);
    rig_advance(1900 * NS_PER_MS);
    assert_false(rig.admin.is_down);
    rig_advance(200 * NS_PER_MS);
    assert_true(rig.admin.is_down);
    assert_int_equal(target_ctrl_count(rig.target), 0);
    assert_int_equal(target_stats(rig.target)->keep_alive_expired, 1);
}

/* --- admin commands ------------------------------------------------------------------------- */

static void identify_tells_controller_and_namespaces(void **state)
{
    const struct nvme_identify_ctrl *ctrl = (void *)(rig.data + RIG_AT_DATA);
    const struct nvme_identify_ns *ns = (void *)(rig.data + RIG_AT_DATA);
    const struct nvmf_identify_ctrl *nvmf = (const void *)ctrl->reserved1792_fabrics;
    const uint32_t *list = (void *)(rig.data + RIG_AT_DATA);

    (void)state;
    rig_admin_up(RIG_NQN, 0);
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_IDENTIFY, .cdw10 = NVME_CNS_CTRL};
    rig_run(&rig.admin, &sqe, NVME_IDENTIFY_BYTES);
    assert_int_equal(ctrl->nn, 3);
    assert_int_equal(ctrl->sgls, NVME_SGLS_SUPPORTED | NVMF_SGLS_KEYED | NVMF_SGLS_OFFSETS);
    assert_int_equal(nvmf->ioccsz, (64 + RIG_IN_CAPSULE_BYTES) / 16);
    assert_string_equal((const char *)ctrl->subnqn, RIG_NQN);
    sqe = (struct nvme_sqe){.opcode = NVME_ADMIN_IDENTIFY, .nsid = 1, .cdw10 = NVME_CNS_NS};
    rig_run(&rig.admin, &sqe, NVME_IDENTIFY_BYTES);
    assert_int_equal(ns->nsze, 1024);
    sqe = (struct nvme_sqe){.opcode = NVME_ADMIN_IDENTIFY, .cdw10 = NVME_CNS_ACTIVE_NS_LIST};
    rig_run(&rig.admin, &sqe, NVME_IDENTIFY_BYTES);
    assert_int_equal(list[0], 1);
    assert_int_equal(list[1], 3);
    assert_int_equal(list[2], 0);
    sqe = (struct nvme_sqe){
        .opcode = NVME_ADMIN_IDENTIFY, .nsid = 1, .cdw10 = NVME_CNS_NS_DESCRIPTORS};
    rig_run(&rig.admin, &sqe, NVME_IDENTIFY_BYTES);
    assert_int_equal(rig.data[RIG_AT_DATA], NVME_NIDT_UUID);
    assert_int_equal(rig.data[RIG_AT_DATA + 20], NVME_NIDT_NGUID);
    struct nvme_cqe cqe = rig_run(&rig.admin, &sqe, 512);
    assert_int_equal(NVME_STATUS_CODE(rig_status(&cqe)), NVME_SC_DATA_SGL_LENGTH_INVALID);
}

static void namespace_change_is_told_once_until_the_log_is_read(void **state)
{
    struct nvme_sqe aer = {.opcode = NVME_ADMIN_ASYNC_EVENT, .cid = 900};
    struct nvme_cqe cqe;

    (void)state;
    rig_admin_up(RIG_NQN, 0);
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_SET_FEATURES,
                           .cdw10 = NVME_FEATURE_ASYNC_EVENT,
                           .cdw11 = NVME_AEC_NS_ATTRIBUTE};
    rig_run(&rig.admin, &sqe, 0);
    rig_keyed(&aer, 0);
    rig_send(&rig.admin, &aer, 0);
    assert_true(target_ns_resize(rig.target, 0, 3, 128));
    assert_false(target_ns_resize(rig.target, 0, 3, 129));
    assert_true(rig_take(&rig.admin, 900, &cqe, RIG_PATIENCE_NS));
    assert_int_equal(cqe.dw0, NVME_EVENT_NOTICE | NVME_LOG_CHANGED_NS << NVME_EVENT_LOG_SHIFT);
    aer.cid = 901;
    rig_send(&rig.admin, &aer, 0);
    target_ns_resize(rig.target, 0, 1, 0);
    assert_false(rig_take(&rig.admin, 901, &cqe, 10 * NS_PER_MS));
    sqe = (struct nvme_sqe){.opcode = NVME_ADMIN_GET_LOG_PAGE,
                            .cdw10 = NVME_LOG_CHANGED_NS | 1023u << NVME_LOG_NUMDL_SHIFT};
    rig_run(&rig.admin, &sqe, 4096);
    uint32_t list[3];
    memcpy(list, rig.data + RIG_AT_DATA, sizeof(list));
    assert_int_equal(list[0], 3);
    assert_int_equal(list[1], 1);
    assert_int_equal(list[2], 0);
    assert_true(rig_take(&rig.admin, 901, &cqe, RIG_PATIENCE_NS));
}

/* 5: discovery */
static void discovery_lists_subsystems_and_referrals(void **state)
{
    struct nvmf_discovery_header header;
    struct nvmf_discovery_entry entries[3];

    (void)state;
    rig_admin_up(NVMF_DISCOVERY_NQN, 0);
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_GET_LOG_PAGE,
                           .cdw10 = NVMF_LOG_DISCOVERY | 1023u << NVME_LOG_NUMDL_SHIFT};
    rig_run(&rig.admin, &sqe, 4096);
    memcpy(&header, rig.data + RIG_AT_DATA, sizeof(header));
    memcpy(entries, rig.data + RIG_AT_DATA + sizeof(header), sizeof(entries));
    assert_int_equal(header.numrec, 3);
    assert_int_equal(entries[0].subtype, NVMF_SUBTYPE_NVME);
    assert_string_equal(entries[0].subnqn, RIG_NQN);
    assert_memory_equal(entries[0].traddr, "192.0.2.2 ", 10);
    assert_memory_equal(entries[0].trsvcid, "4420 ", 5);
    assert_int_equal(entries[2].subtype, NVMF_SUBTYPE_REFERRAL);
    sqe.cdw12 = 2048; /* a part of it */
    rig_run(&rig.admin, &sqe, 4096);
    assert_memory_equal(rig.data + RIG_AT_DATA, &entries[1], sizeof(entries[1]));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(request_with_bad_fields_is_rejected_with_its_status),
        TEST(connect_names_the_field_that_is_wrong),
        TEST(controller_follows_cc),
        TEST(keep_alive_that_stays_away_kills_the_controller),
        TEST(identify_tells_controller_and_namespaces),
        TEST(namespace_change_is_told_once_until_the_log_is_read),
        TEST(discovery_lists_subsystems_and_referrals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
