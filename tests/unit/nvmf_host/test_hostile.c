/*
 * A target that breaks the protocol: by the model's faults, and by a peer that says whatever a test
 * wants. The connection ends, the owner hears why, nothing is lost or touched.
 */
#include "rig.h"

#include <stdlib.h>

static int setup(void **state)
{
    (void)state;
    rig_open(&(struct rig_config){.sq_flow = true});
    target_knobs(rig.target)->keep_sq_flow = true;
    rig_connect();
    return 0;
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)

static struct rig_req reqs[8];

/* The third read meets the fault; all end by the close, or before. */
static void meets(enum target_fault_kind kind, uint32_t value, uint8_t opcode)
{
    struct target_fault fault = {.kind = kind,
                                 .qid = TARGET_IO,
                                 .opcode = opcode,
                                 .cid = TARGET_ANY,
                                 .skip = 2,
                                 .count = 1,
                                 .value = value};
    target_fault_add(rig.target, &fault);
    rig.io.closes = true;
    rig.io.quiet_ns = 5;
    for (uint32_t i = 0; i < 8; i++) {
        rig_req(&reqs[i], opcode, i * 8, 8, i * 8192);
        rig_submit(&reqs[i]);
    }
    rig_run(100 * NS_PER_MS);
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(reqs[i].done_count, 1);
        assert_true(i > 1 || reqs[i].req.status == 0);
        assert_true(reqs[i].req.status == 0 || reqs[i].req.is_path_error);
    }
    assert_int_equal(rig.io.closed_count, 1);
    assert_int_equal(rig.io.queue.state, NVMF_QUEUE_CLOSED);
}

static void is_protocol(uint32_t code)
{
    assert_int_equal(rig.io.stuck_count, 1);
    assert_int_equal(rig.io.lost_count, 0);
    assert_int_equal(rig.io.fail, NVMF_FAIL_PROTOCOL);
    assert_int_equal(rig.io.code, code);
}

static void response_that_comes_twice_is_found_out(void **state)
{
    (void)state;
    meets(TARGET_FAULT_TWICE, 0, NVME_IO_FLUSH);
    is_protocol(2);
}

static void response_of_another_command_is_found_out(void **state)
{
    (void)state;
    meets(TARGET_FAULT_WRONG_CID, 0x100, NVME_IO_READ); /* another generation */
    is_protocol(2);
}

static void response_of_a_free_tag_is_found_out(void **state)
{
    (void)state;
    meets(TARGET_FAULT_WRONG_CID, 0x10, NVME_IO_READ); /* within the queue, not under way */
    is_protocol(2);
}

static void response_with_a_bad_sq_head_is_found_out(void **state)
{
    (void)state;
    meets(TARGET_FAULT_BAD_SQHD, 32, NVME_IO_READ);
    is_protocol(3);
}

static void response_that_is_short_is_found_out(void **state)
{
    (void)state;
    meets(TARGET_FAULT_SHORT, 15, NVME_IO_READ);
    is_protocol(1);
}

static void response_that_is_empty_is_found_out(void **state)
{
    (void)state;
    meets(TARGET_FAULT_SHORT, 0, NVME_IO_READ);
    is_protocol(1);
}

/* One that is nobody's: the device refuses it, the queue pair dies (IBA 9.9.6.3). */
static void response_that_invalidates_an_unknown_key_is_found_out(void **state)
{
    (void)state;
    meets(TARGET_FAULT_WRONG_KEY, 0x55550000, NVME_IO_READ);
    assert_int_equal(rig.io.lost_count + rig.io.stuck_count, 1);
}

static void write_beyond_the_data_is_refused(void **state)
{
    (void)state;
    memset(rig.data, 0xa5, 8 * 8192);
    meets(TARGET_FAULT_OVERRUN, 64, NVME_IO_READ);
    assert_int_equal(rig.io.lost_count, 1);
    for (uint32_t i = 0; i < 8; i++) {
        for (uint32_t k = 4096; k < 8192; k++) {
            assert_int_equal(rig.data[i * 8192 + k], 0xa5);
        }
    }
}

/* --- a peer that says anything ------------------------------------------------------------------
 */

#define IMP_PORT  4999
#define IMP_SLOTS 64

struct imp {
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id;
    struct rdma_pd *pd;
    struct rdma_cq *cq;
    struct rdma_mr *mr;
    struct rdma_qp *qp;
    void *cq_memory;
    void *qp_memory;
    struct nvme_sqe capsules[IMP_SLOTS];
    struct nvme_cqe responses[IMP_SLOTS];
    uint32_t response_count;
    uint8_t rep[64];
    uint32_t rep_bytes;
    bool is_mute;
    uint32_t count;          /* capsules seen */
    struct nvme_cqe connect; /* the answer, but for its CID */
    struct nvme_sqe last;
};
static struct imp imp;

static void imp_recv(uint32_t index)
{
    struct rdma_sge sge = {.addr = (uintptr_t)&imp.capsules[index],
                           .len_bytes = sizeof(struct nvme_sqe),
                           .lkey = imp.mr->lkey};
    struct rdma_recv_wr wr = {.wr_id = index, .sges = &sge, .sge_count = 1};

    assert_int_equal(rdma_post_recv(imp.qp, &wr, NULL), STATUS_OK);
}

/* `key`: invalidated with it; 0: none. */
static void imp_say(const struct nvme_cqe *cqe, uint32_t len_bytes, uint32_t key)
{
    struct nvme_cqe *slot = &imp.responses[imp.response_count++ % IMP_SLOTS];
    struct rdma_sge sge = {.addr = (uintptr_t)slot, .len_bytes = len_bytes, .lkey = imp.mr->lkey};
    struct rdma_send_wr wr = {.sges = &sge,
                              .sge_count = 1,
                              .opcode = key != 0 ? RDMA_WR_SEND_WITH_INV : RDMA_WR_SEND,
                              .imm = key};

    *slot = *cqe;
    assert_int_equal(rdma_post_send(imp.qp, &wr, NULL), STATUS_OK);
}

static uint32_t key_of(const struct nvme_sqe *sqe)
{
    return (uint32_t)(sqe->prp2 >> 24);
}

static void imp_event(struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    if (event->type != RDMA_CM_EVENT_REQUEST) {
        return;
    }
    struct rdma_qp_init_attr attr = {.type = RDMA_QP_RC,
                                     .pd = imp.pd,
                                     .send_cq = imp.cq,
                                     .recv_cq = imp.cq,
                                     .send_wr_count = IMP_SLOTS * 16,
                                     .recv_wr_count = IMP_SLOTS,
                                     .send_sge_count = 1,
                                     .recv_sge_count = 1};
    imp.qp_memory = model_memory(rdma_qp_memory_bytes(&attr));
    attr.memory = imp.qp_memory;
    imp.id = id;
    assert_int_equal(rdma_qp_create(&attr, &imp.qp), STATUS_OK);
    assert_int_equal(rdma_cm_qp_init(id, imp.qp, 0), STATUS_OK);
    for (uint32_t i = 0; i < IMP_SLOTS; i++) {
        imp_recv(i);
    }
    struct rdma_cm_param param = {.qp = imp.qp,
                                  .private_data = imp.rep,
                                  .private_bytes = imp.rep_bytes,
                                  .initiator_depth = 4,
                                  .retry_count = 7,
                                  .rnr_retry_count = 7};
    assert_int_equal(rdma_cm_accept(id, &param), STATUS_OK);
}

static void imp_open(void)
{
    struct rdma_device *device = rig.peer.device;
    struct net_addr any = {{0}};

    memset(&imp, 0, sizeof(imp));
    struct nvmf_rdma_rep rep = {.crqsize = 32};
    memcpy(imp.rep, &rep, sizeof(rep));
    imp.rep_bytes = sizeof(rep);
    imp.connect = (struct nvme_cqe){.dw0 = 1, .sq_head = 1};
    struct rdma_mr_attr mr = {.kind = RDMA_MR_NIC,
                              .access = RDMA_ACCESS_LOCAL_WRITE,
                              .memory = &imp,
                              .len_bytes = sizeof(imp)};
    imp.cq_memory = model_memory(rdma_cq_memory_bytes(device, 4096));
    struct rdma_cq_attr cq = {.entry_count = 4096, .memory = imp.cq_memory};
    assert_int_equal(rdma_pd_alloc(device, 0, &imp.pd), STATUS_OK);
    assert_int_equal(rdma_mr_reg(imp.pd, &mr, &imp.mr), STATUS_OK);
    assert_int_equal(rdma_cq_create(device, &cq, &imp.cq), STATUS_OK);
    assert_int_equal(rdma_cm_listen(device, &any, IMP_PORT, 4, imp_event, NULL, &imp.listener),
                     STATUS_OK);
    rig.where.port = IMP_PORT;
}

static void imp_hang_up(void)
{
    if (imp.id != NULL) {
        rdma_cm_destroy(imp.id);
        while (rdma_qp_destroy(imp.qp) == STATUS_AGAIN) {
            rig_run(RIG_STEP_NS);
        }
        free(imp.qp_memory);
        imp.id = NULL;
    }
}

static void imp_close(void)
{
    imp_hang_up();
    rig_run(NS_PER_MS);
    rdma_cm_destroy(imp.listener);
    assert_int_equal(rdma_cq_destroy(imp.cq), STATUS_OK);
    assert_int_equal(rdma_mr_dereg(imp.mr), STATUS_OK);
    assert_int_equal(rdma_pd_free(imp.pd), STATUS_OK);
    free(imp.cq_memory);
}

/* Answers Connect, keeps what else comes. */
static void imp_run(uint64_t duration_ns)
{
    struct rdma_wc wc;

    for (uint64_t ns = 0; ns < duration_ns; ns += RIG_STEP_NS) {
        rig_run(RIG_STEP_NS);
        while (imp.id != NULL && rdma_cq_poll(imp.cq, &wc, 1) == 1) {
            if (wc.status != RDMA_WC_SUCCESS || wc.opcode < RDMA_WC_RECV) {
                continue;
            }
            imp.last = imp.capsules[wc.wr_id];
            imp.count++;
            imp_recv((uint32_t)wc.wr_id);
            if (imp.last.opcode == NVMF_OPCODE && !imp.is_mute) {
                struct nvme_cqe cqe = imp.connect;
                cqe.dw3 |= imp.last.cid;
                imp_say(&cqe, sizeof(cqe), 0);
            }
        }
    }
}

static void imp_try(bool flow_off)
{
    struct rig_queue *q = &rig.admin;

    q->opened_count = 0;
    q->lost_count = 0;
    q->stuck_count = 0;
    q->closed_count = 0;
    q->fail = NVMF_FAIL_NONE;
    q->queue.params = (struct nvmf_queue_params){.entries = 32,
                                                 .cntlid = NVMF_CNTLID_DYNAMIC,
                                                 .sq_flow_off = flow_off,
                                                 .step_timeout_ns = NS_PER_S,
                                                 .command_timeout_ns = NS_PER_S};
    nvmf_queue_open(&q->queue);
    imp_run(5 * NS_PER_MS);
}

static int setup_imp(void **state)
{
    (void)state;
    rig_open(NULL);
    imp_open();
    return 0;
}

static int teardown_imp(void **state)
{
    (void)state;
    rig_queue_close(&rig.admin, 0);
    imp_close();
    rig_close();
    return 0;
}

static void answer_that_makes_no_sense_is_a_bad_reply(void **state)
{
    static const struct {
        uint16_t recfmt;
        uint16_t crqsize;
        uint32_t code;
    } replies[] = {{1, 32, 2}, {0xffff, 32, 2}, {0, 0, 3}};

    (void)state;
    for (uint32_t i = 0; i < ARRAY_SIZE(replies); i++) {
        struct nvmf_rdma_rep rep = {.recfmt = replies[i].recfmt, .crqsize = replies[i].crqsize};
        memcpy(imp.rep, &rep, sizeof(rep));
        imp_try(false);
        assert_int_equal(rig.admin.opened_count, 1);
        assert_int_equal(rig.admin.fail, NVMF_FAIL_BAD_REPLY);
        assert_int_equal(rig.admin.code, replies[i].code);
        rig_queue_close(&rig.admin, 0);
        imp_hang_up();
        imp_run(NS_PER_MS);
    }
}

static void connect_answer_is_checked(void **state)
{
    static const struct {
        uint32_t dw0;
        uint16_t sq_head;
        uint16_t status;
        bool flow_off;
        enum nvmf_fail fail;
        uint32_t code;
    } answers[] = {
        {0xfff0, 1, 0, false, NVMF_FAIL_BAD_REPLY, 4},
        {0xffff, 1, 0, false, NVMF_FAIL_BAD_REPLY, 4},
        {0x10001, 1, 0, false, NVMF_FAIL_AUTHENTICATION, 0},
        {1, 0xffff, 0, false, NVMF_FAIL_BAD_REPLY, 5}, /* nobody asked for it */
        {1, 32, 0, false, NVMF_FAIL_BAD_REPLY, 5},
        {1, 0xfffe, 0, true, NVMF_FAIL_BAD_REPLY, 5},
        {0x10100, 1, 0x182, true, NVMF_FAIL_BAD_SUBNQN, 0x182},
        {0x10200, 1, 0x182, true, NVMF_FAIL_BAD_HOSTNQN, 0x182},
        {0x0100, 1, 0x182, true, NVMF_FAIL_CONNECT_REFUSED, 0x182},
        {0, 1, 0x4184, true, NVMF_FAIL_BAD_HOSTNQN, 0x4184},
        {0x0003, 0xffff, 0, true, NVMF_FAIL_NONE, 0},
        {0xffef, 31, 0, true, NVMF_FAIL_NONE, 0},
    };

    (void)state;
    for (uint32_t i = 0; i < ARRAY_SIZE(answers); i++) {
        imp.connect = (struct nvme_cqe){.dw0 = answers[i].dw0,
                                        .sq_head = answers[i].sq_head,
                                        .dw3 = (uint32_t)answers[i].status << 17};
        imp_try(answers[i].flow_off);
        assert_int_equal(rig.admin.opened_count, 1);
        assert_int_equal(rig.admin.fail, answers[i].fail);
        assert_int_equal(rig.admin.code, answers[i].code);
        rig_queue_close(&rig.admin, 0);
        imp_hang_up();
        imp_run(NS_PER_MS);
    }
}

static void connect_that_is_never_answered_ends_in_time(void **state)
{
    (void)state;
    imp.is_mute = true;
    imp_try(false);
    assert_int_equal(rig.admin.opened_count, 0);
    imp_run(900 * NS_PER_MS);
    assert_int_equal(rig.admin.opened_count, 0);
    imp_run(200 * NS_PER_MS);
    assert_int_equal(rig.admin.opened_count, 1);
    assert_int_equal(rig.admin.fail, NVMF_FAIL_NO_ANSWER);
}

/* More than all receives of the tenant, before and after anything is under way. */
static void flood_of_responses_ends_the_connection_and_nothing_else(void **state)
{
    struct nvme_cqe cqe = {.dw3 = 0x1234};

    (void)state;
    imp_try(false);
    assert_int_equal(rig.admin.queue.state, NVMF_QUEUE_OPEN);
    for (uint32_t i = 0; i < 500; i++) {
        imp_say(&cqe, sizeof(cqe), 0);
    }
    imp_run(10 * NS_PER_MS);
    assert_int_equal(rig.admin.stuck_count, 1);
    assert_int_equal(rig.admin.lost_count, 0);
    assert_int_equal(rig.admin.fail, NVMF_FAIL_PROTOCOL);
    rig_queue_close(&rig.admin, 0);
    imp_hang_up();
    imp_run(NS_PER_MS);
    imp_try(false);
    assert_int_equal(rig.admin.queue.state, NVMF_QUEUE_OPEN);
}

static void response_that_is_long_ends_the_connection(void **state)
{
    struct nvme_cqe cqe = {0};

    (void)state;
    imp_try(false);
    imp_say(&cqe, 17, 0);
    imp_run(10 * NS_PER_MS);
    assert_int_equal(rig.admin.stuck_count, 1);
    assert_int_equal(rig.admin.fail, NVMF_FAIL_PROTOCOL);
    assert_int_equal(rig.admin.code, 1);
}

static uint32_t done_count;

static void count_done(struct nvmf_cmd *cmd)
{
    (void)cmd;
    done_count++;
}

/* Two commands under way, the answer to one invalidates the key of the other. */
static void response_that_invalidates_the_key_of_another_is_found_out(void **state)
{
    struct nvmf_cmd cmds[2];
    struct nvme_sqe sqes[2];

    (void)state;
    imp_try(false);
    done_count = 0;
    for (uint32_t i = 0; i < 2; i++) {
        cmds[i] = (struct nvmf_cmd){.sqe = {.opcode = NVME_ADMIN_IDENTIFY},
                                    .data = rig.data + i * 4096,
                                    .len_bytes = 4096,
                                    .dir = NVME_DIR_FROM_CONTROLLER,
                                    .done = count_done};
        nvmf_queue_exec(&rig.admin.queue, &cmds[i]);
        imp_run(NS_PER_MS);
        sqes[i] = imp.last;
        assert_int_equal(sqes[i].opcode, NVME_ADMIN_IDENTIFY);
    }
    struct nvme_cqe cqe = {.dw3 = sqes[0].cid, .sq_head = 3};
    imp_say(&cqe, sizeof(cqe), key_of(&sqes[1]));
    imp_run(10 * NS_PER_MS);
    assert_int_equal(done_count, 0);
    assert_int_equal(rig.admin.stuck_count, 1);
    assert_int_equal(rig.admin.fail, NVMF_FAIL_PROTOCOL);
    assert_int_equal(rig.admin.code, 4);
    rig_queue_close(&rig.admin, 0);
    assert_int_equal(done_count, 2);
    assert_true(cmds[0].is_path_error && cmds[1].is_path_error);
}

/* A controller that completes on many cores says older heads after newer ones: no error. */
static void sq_heads_out_of_order_are_borne(void **state)
{
    struct nvmf_cmd cmds[3];
    uint16_t cids[3];

    (void)state;
    imp_try(false);
    done_count = 0;
    for (uint32_t i = 0; i < 3; i++) {
        cmds[i] = (struct nvmf_cmd){.sqe = {.opcode = NVME_ADMIN_KEEP_ALIVE}, .done = count_done};
        nvmf_queue_exec(&rig.admin.queue, &cmds[i]);
        imp_run(NS_PER_MS);
        cids[i] = imp.last.cid;
    }
    static const uint16_t heads[3] = {4, 2, 3};
    for (uint32_t i = 0; i < 3; i++) {
        struct nvme_cqe cqe = {.dw3 = cids[i], .sq_head = heads[i]};
        imp_say(&cqe, sizeof(cqe), 0);
    }
    imp_run(NS_PER_MS);
    assert_int_equal(done_count, 3);
    assert_int_equal(rig.admin.queue.inner->sq_head, 4);
    assert_int_equal(rig.admin.queue.state, NVMF_QUEUE_OPEN);
}

/* The controller says that it has taken nothing: 31 commands, then no more, and in the end no
 * connection. */
static void sq_head_that_stands_still_holds_back(void **state)
{
    static struct nvmf_cmd cmds[40];

    (void)state;
    imp_try(false);
    done_count = 0;
    for (uint32_t i = 0; i < 40; i++) {
        cmds[i] = (struct nvmf_cmd){.sqe = {.opcode = NVME_ADMIN_KEEP_ALIVE}, .done = count_done};
        nvmf_queue_exec(&rig.admin.queue, &cmds[i]);
        imp_run(RIG_STEP_NS);
        struct nvme_cqe cqe = {.dw3 = imp.last.cid, .sq_head = 1};
        if (i < 31) {
            assert_int_equal(imp.count, i + 2);
            imp_say(&cqe, sizeof(cqe), 0);
            imp_run(RIG_STEP_NS);
            assert_int_equal(done_count, i + 1);
        } else {
            assert_int_equal(imp.count, 32);
        }
    }
    assert_int_equal(rig.admin.queue.in_flight, 0);
    assert_int_equal(rig.admin.queue.state, NVMF_QUEUE_OPEN);
    imp_run(rig.admin.queue.params.command_timeout_ns + 4 * NVMF_SCAN_NS);
    assert_int_equal(rig.admin.queue.state, NVMF_QUEUE_BROKEN);
    assert_int_equal(rig.admin.fail, NVMF_FAIL_PROTOCOL);
    rig_queue_close(&rig.admin, 0);
    assert_int_equal(done_count, 40);
}

#define T_IMP(name) cmocka_unit_test_setup_teardown(name, setup_imp, teardown_imp)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(response_that_comes_twice_is_found_out),
        T(response_of_another_command_is_found_out),
        T(response_of_a_free_tag_is_found_out),
        T(response_with_a_bad_sq_head_is_found_out),
        T(response_that_is_short_is_found_out),
        T(response_that_is_empty_is_found_out),
        T(response_that_invalidates_an_unknown_key_is_found_out),
        T(write_beyond_the_data_is_refused),
        T_IMP(answer_that_makes_no_sense_is_a_bad_reply),
        T_IMP(connect_answer_is_checked),
        T_IMP(connect_that_is_never_answered_ends_in_time),
        T_IMP(flood_of_responses_ends_the_connection_and_nothing_else),
        T_IMP(response_that_is_long_ends_the_connection),
        T_IMP(response_that_invalidates_the_key_of_another_is_found_out),
        T_IMP(sq_heads_out_of_order_are_borne),
        T_IMP(sq_head_that_stands_still_holds_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
