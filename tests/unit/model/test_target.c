/*
 * The model target against an initiator that is written out here, message by message: it checks the
 * model, not our own initiator. NVMe-oF 1.1; numbers in brackets are its sections.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "hal/clock.h"
#include "hal/native/native.h"
#include "rdma/soft.h"
#include "rdma/verbs.h"
#include "sched/sched.h"
#include "spec/nvme_feature.h"
#include "spec/nvme_log.h"
#include "tests/model/node.h"
#include "tests/model/target.h"

#define STEP_NS     (50 * NS_PER_US)
#define DATA_BYTES  (256u << 10)
#define ENTRIES     16u
#define CAPSULE     4160u
#define SUBNQN      "nqn.2024-01.test:one"
#define HOSTNQN     "nqn.2024-01.test:host"
#define ICD         4096u
#define PATIENCE_NS (2 * NS_PER_S)

struct queue {
    struct rdma_cm_id *id;
    struct rdma_qp *qp;
    struct rdma_cq *cq;
    void *qp_memory;
    void *cq_memory;
    uint16_t qid;
    uint16_t cntlid;
    bool is_up;
    bool is_down;
    uint32_t reason;
    struct nvmf_rdma_rej rej;
    struct nvmf_rdma_rep rep;
    uint32_t last_inv; /* key invalidated with the last answer */
    uint32_t last_bytes;
    struct nvme_cqe others[ENTRIES]; /* answers that came while another one was waited for */
    uint32_t other_count;
};

static struct {
    struct wire *wire;
    struct model_node nodes[2];
    struct target *target;
    void *target_memory;
    struct rdma_pd *pd;
    struct rdma_mr *mr; /* of `data` and the queues' capsules */
    struct rdma_key *key;
    uint8_t *data;
    struct mem_seg seg;
    struct mem_ref ref;
    struct queue admin;
    struct queue io;
} w;

static const struct target_ns_config namespaces[] = {
    {.nsid = 1, .lba_count = 1024, .lba_shift = 9, .uuid = {1}, .nguid = {1}},
    {.nsid = 3, .lba_count = 64, .lba_count_max = 128, .lba_shift = 12, .uuid = {3}},
};
static const struct target_subsystem_config subsystems[] = {
    {.nqn = SUBNQN, .namespaces = namespaces, .ns_count = 2},
    {.nqn = "nqn.2024-01.test:closed", .host_nqn = "nobody", .namespaces = namespaces},
};
static const struct target_referral referrals[] = {{.port = 4421, .nqn = NVMF_DISCOVERY_NQN}};

/* --- world ---------------------------------------------------------------------------------- */

static void advance(uint64_t duration_ns)
{
    uint64_t end_ns = clock_now_ns() + duration_ns;

    model_turn();
    while (clock_now_ns() < end_ns) {
        uint64_t left_ns = end_ns - clock_now_ns();
        native_clock_advance(left_ns < 20 * STEP_NS ? STEP_NS : left_ns / 20);
        model_turn();
    }
}

static int setup(void **state)
{
    struct wire_config wire = {.seed = 1, .port_count = 2, .mtu_bytes = 4200};

    (void)state;
    memset(&w, 0, sizeof(w));
    native_clock_set(100 * NS_PER_S);
    sched_init(1, SCHED_IDLE_POLL);
    w.wire = wire_open(&wire);
    model_node_open(&w.nodes[0], w.wire, 0, 1, NULL);
    model_node_open(&w.nodes[1], w.wire, 1, 1, NULL);
    struct target_config config = {.device = w.nodes[1].device,
                                   .addr = w.nodes[1].addr,
                                   .subsystems = subsystems,
                                   .subsystem_count = 2,
                                   .referrals = referrals,
                                   .referral_count = 1,
                                   .in_capsule_bytes = ICD,
                                   .buf_count = 4};
    w.target_memory = model_memory(target_memory_bytes(&config));
    w.target = target_open(w.target_memory, &config);
    assert_int_equal(rdma_pd_alloc(w.nodes[0].device, 0, &w.pd), STATUS_OK);
    w.data = model_memory(DATA_BYTES);
    struct rdma_mr_attr mr = {
        .access = RDMA_ACCESS_LOCAL_WRITE, .memory = w.data, .len_bytes = DATA_BYTES};
    assert_int_equal(rdma_mr_reg(w.pd, &mr, &w.mr), STATUS_OK);
    assert_int_equal(rdma_key_alloc(w.pd, &w.key), STATUS_OK);
    advance(5 * NS_PER_S);
    return 0;
}

static void queue_close(struct queue *queue)
{
    if (queue->qp == NULL) {
        return;
    }
    rdma_cm_destroy(queue->id);
    while (rdma_qp_destroy(queue->qp) == STATUS_AGAIN) {
        model_turn();
    }
    assert_int_equal(rdma_cq_destroy(queue->cq), STATUS_OK);
    free(queue->qp_memory);
    free(queue->cq_memory);
    memset(queue, 0, sizeof(*queue));
}

static int teardown(void **state)
{
    (void)state;
    queue_close(&w.io);
    queue_close(&w.admin);
    rdma_key_invalidate(w.key);
    target_close(w.target);
    advance(60 * NS_PER_S);
    assert_true(target_is_quiet(w.target));
    target_free(w.target);
    assert_int_equal(rdma_key_free(w.key), STATUS_OK);
    assert_int_equal(rdma_mr_dereg(w.mr), STATUS_OK);
    assert_int_equal(rdma_pd_free(w.pd), STATUS_OK);
    model_turn();
    for (uint32_t i = 0; i < 2; i++) {
        assert_true(rdma_soft_is_quiet(w.nodes[i].device));
    }
    assert_true(wire_is_quiet(w.wire));
    for (uint32_t i = 0; i < 2; i++) {
        model_node_close(&w.nodes[i]);
    }
    free(w.data);
    free(w.target_memory);
    wire_close(w.wire);
    native_clock_use_real();
    return 0;
}

/* --- an initiator in pieces ----------------------------------------------------------------- */

/* Where things lie in w.data: capsules sent, answers, Connect data and admin data, I/O data. */
#define AT_CAPSULE 0u
#define AT_ANSWER  8192u
#define AT_DATA    65536u

static void receive(struct queue *queue, uint32_t index)
{
    struct rdma_sge sge = {.addr = (uintptr_t)w.data + AT_ANSWER + index * 64u +
                                   (queue->qid == 0 ? 0 : 4096u),
                           .len_bytes = 64,
                           .lkey = w.mr->lkey};
    struct rdma_recv_wr wr = {.wr_id = index, .sges = &sge, .sge_count = 1};

    assert_int_equal(rdma_post_recv(queue->qp, &wr, NULL), STATUS_OK);
}

static void connect_now(struct queue *queue, struct rdma_cm_id *id)
{
    struct nvmf_rdma_req req = {
        .qid = queue->qid, .hrqsize = ENTRIES, .hsqsize = ENTRIES - 1, .cntlid = queue->cntlid};
    struct rdma_cm_param param = {.qp = queue->qp,
                                  .private_data = &req,
                                  .private_bytes = sizeof(req),
                                  .responder_resources = 16,
                                  .retry_count = 7,
                                  .rnr_retry_count = 7,
                                  .access = RDMA_ACCESS_REMOTE_READ | RDMA_ACCESS_REMOTE_WRITE |
                                            RDMA_ACCESS_LOCAL_WRITE};

    assert_int_equal(rdma_cm_qp_init(id, queue->qp, param.access), STATUS_OK);
    for (uint32_t i = 0; i < ENTRIES; i++) {
        receive(queue, i);
    }
    assert_int_equal(rdma_cm_connect(id, &param), STATUS_OK);
}

static void on_event(struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    struct queue *queue = id->ctx;

    if (event->type == RDMA_CM_EVENT_RESOLVED) {
        connect_now(queue, id);
    } else if (event->type == RDMA_CM_EVENT_ESTABLISHED) {
        queue->is_up = true;
        memcpy(&queue->rep, event->private_data, sizeof(queue->rep));
    } else if (event->type == RDMA_CM_EVENT_REJECTED) {
        queue->reason = event->reason;
        memcpy(&queue->rej, event->private_data, sizeof(queue->rej));
    } else {
        queue->is_down = true;
    }
}

static void queue_open(struct queue *queue, uint16_t qid, uint16_t cntlid)
{
    struct rdma_device *device = w.nodes[0].device;

    queue->qid = qid;
    queue->cntlid = cntlid;
    queue->cq_memory = model_memory(rdma_cq_memory_bytes(device, 64));
    struct rdma_cq_attr cq = {.entry_count = 64, .memory = queue->cq_memory};
    assert_int_equal(rdma_cq_create(device, &cq, &queue->cq), STATUS_OK);
    struct rdma_qp_init_attr attr = {.pd = w.pd,
                                     .send_cq = queue->cq,
                                     .recv_cq = queue->cq,
                                     .send_wr_count = ENTRIES,
                                     .recv_wr_count = ENTRIES,
                                     .send_sge_count = 2,
                                     .recv_sge_count = 1};
    queue->qp_memory = model_memory(rdma_qp_memory_bytes(&attr));
    attr.memory = queue->qp_memory;
    assert_int_equal(rdma_qp_create(&attr, &queue->qp), STATUS_OK);
    assert_int_equal(
        rdma_cm_resolve(device, &w.nodes[1].addr, NVMF_RDMA_PORT, on_event, queue, &queue->id),
        STATUS_OK);
    advance(2 * NS_PER_MS);
}

/* Sends a capsule: the SQE, and `in_capsule` bytes of w.data + AT_DATA. */
static void send(struct queue *queue, const void *sqe, uint32_t in_capsule)
{
    struct rdma_sge sges[2] = {
        {.addr = (uintptr_t)w.data + AT_CAPSULE, .len_bytes = 64, .lkey = w.mr->lkey},
        {.addr = (uintptr_t)w.data + AT_DATA, .len_bytes = in_capsule, .lkey = w.mr->lkey}};
    struct rdma_send_wr wr = {
        .wr_id = 1000, .sges = sges, .sge_count = in_capsule > 0 ? 2 : 1, .opcode = RDMA_WR_SEND};

    memcpy(w.data + AT_CAPSULE, sqe, 64);
    assert_int_equal(rdma_post_send(queue->qp, &wr, NULL), STATUS_OK);
    advance(STEP_NS);
}

/* Takes answers until that of `cid`; false: none within the time. */
static bool take(struct queue *queue, uint16_t cid, struct nvme_cqe *cqe, uint64_t patience_ns)
{
    uint64_t end_ns = clock_now_ns() + patience_ns;

    for (uint32_t i = 0; i < queue->other_count; i++) {
        if ((uint16_t)queue->others[i].dw3 == cid) {
            *cqe = queue->others[i];
            queue->others[i] = queue->others[--queue->other_count];
            return true;
        }
    }
    do {
        struct rdma_wc wc;
        while (rdma_cq_poll(queue->cq, &wc, 1) == 1) {
            if (wc.status != RDMA_WC_SUCCESS || wc.opcode != RDMA_WC_RECV) {
                continue;
            }
            memcpy(cqe, w.data + AT_ANSWER + wc.wr_id * 64u + (queue->qid == 0 ? 0 : 4096u),
                   sizeof(*cqe));
            queue->last_inv = (wc.flags & RDMA_WC_WITH_INV) != 0 ? wc.imm : 0;
            queue->last_bytes = wc.len_bytes;
            receive(queue, (uint32_t)wc.wr_id);
            if ((uint16_t)cqe->dw3 == cid) {
                return true;
            }
            assert_true(queue->other_count < ENTRIES);
            queue->others[queue->other_count++] = *cqe;
        }
        advance(STEP_NS);
    } while (clock_now_ns() < end_ns);
    return false;
}

static nvme_status_t status_of(const struct nvme_cqe *cqe)
{
    return (nvme_status_t)(cqe->dw3 >> NVME_CQE_STATUS_SHIFT);
}

/* Binds the key to w.data + AT_DATA and describes it in the SQE. */
static void keyed(struct nvme_sqe *sqe, uint32_t len_bytes)
{
    struct nvmf_keyed_desc desc = {
        .addr = 0x1000,
        .len_bytes = {(uint8_t)len_bytes, (uint8_t)(len_bytes >> 8), (uint8_t)(len_bytes >> 16)},
        .type = NVMF_SGL_KEYED_INVALIDATE};

    if (len_bytes > 0) {
        rdma_key_invalidate(w.key);
    }
    w.seg = (struct mem_seg){.bus_addr = (uintptr_t)w.data + AT_DATA, .len_bytes = len_bytes};
    w.ref = (struct mem_ref){
        .segs = &w.seg, .len_bytes = len_bytes, .seg_count = 1, .space = MEM_SPACE_NIC};
    if (len_bytes > 0) {
        assert_int_equal(rdma_key_bind(w.key, &w.ref, 0x1000,
                                       RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE |
                                           RDMA_ACCESS_REMOTE_READ),
                         STATUS_OK);
        memcpy(desc.key, &w.key->value, 4);
    }
    memcpy(&sqe->sgl1, &desc, sizeof(desc));
    sqe->flags = NVME_PSDT_SGL_MPTR << NVME_SQE_PSDT_SHIFT;
}

static uint16_t next_cid = 7;

static struct nvme_cqe run(struct queue *queue, struct nvme_sqe *sqe, uint32_t len_bytes)
{
    struct nvme_cqe cqe = {.dw3 = 0};

    sqe->cid = next_cid++;
    keyed(sqe, len_bytes);
    send(queue, sqe, 0);
    assert_true(take(queue, sqe->cid, &cqe, PATIENCE_NS));
    if (status_of(&cqe) == NVME_SC_SUCCESS) {
        assert_int_equal(queue->last_inv, len_bytes > 0 ? w.key->value : 0);
        assert_int_equal(queue->last_bytes, NVMF_RESP_CAPSULE_BYTES);
    }
    return cqe;
}

static struct nvme_cqe send_connect(struct queue *queue, const char *subnqn, uint8_t cattr,
                                    uint32_t kato_ms)
{
    struct nvmf_connect_data data = {.hostid = {9}, .cntlid = queue->cntlid};
    struct nvmf_connect_sqe connect = {.opcode = NVMF_OPCODE,
                                       .fctype = NVMF_CONNECT,
                                       .qid = queue->qid,
                                       .sqsize = ENTRIES - 1,
                                       .cattr = cattr,
                                       .kato_ms = kato_ms};
    struct nvme_sqe sqe;

    strcpy(data.subnqn, subnqn);
    strcpy(data.hostnqn, HOSTNQN);
    memcpy(w.data + AT_DATA, &data, sizeof(data));
    memcpy(&sqe, &connect, sizeof(sqe));
    return run(queue, &sqe, sizeof(data));
}

static uint64_t property(uint32_t offset)
{
    struct nvmf_property_sqe get = {.opcode = NVMF_OPCODE,
                                    .fctype = NVMF_PROPERTY_GET,
                                    .attrib = offset == NVME_REG_CAP,
                                    .offset = offset};
    struct nvme_sqe sqe;

    memcpy(&sqe, &get, sizeof(sqe));
    struct nvme_cqe cqe = run(&w.admin, &sqe, 0);
    assert_int_equal(status_of(&cqe), NVME_SC_SUCCESS);
    return (uint64_t)cqe.dw1 << 32 | cqe.dw0;
}

static void cc_set(uint32_t cc)
{
    struct nvmf_property_sqe set = {
        .opcode = NVMF_OPCODE, .fctype = NVMF_PROPERTY_SET, .offset = NVME_REG_CC, .value = cc};
    struct nvme_sqe sqe;

    memcpy(&sqe, &set, sizeof(sqe));
    struct nvme_cqe cqe = run(&w.admin, &sqe, 0);
    assert_int_equal(status_of(&cqe), NVME_SC_SUCCESS);
}

#define CC_ON \
    (NVME_CC_EN | NVME_IOSQES << NVME_CC_IOSQES_SHIFT | NVME_IOCQES << NVME_CC_IOCQES_SHIFT)

static void admin_up(const char *subnqn, uint32_t kato_ms)
{
    queue_open(&w.admin, 0, NVMF_CNTLID_DYNAMIC);
    assert_true(w.admin.is_up);
    struct nvme_cqe cqe = send_connect(&w.admin, subnqn, 0, kato_ms);
    assert_int_equal(status_of(&cqe), NVME_SC_SUCCESS);
    cc_set(CC_ON);
    assert_int_equal(property(NVME_REG_CSTS), NVME_CSTS_RDY);
    w.admin.cntlid = (uint16_t)cqe.dw0;
}

static void io_up(void)
{
    admin_up(SUBNQN, 0);
    queue_open(&w.io, 1, w.admin.cntlid);
    assert_true(w.io.is_up);
    struct nvme_cqe cqe = send_connect(&w.io, SUBNQN, NVMF_CONNECT_NO_SQ_FLOW, 0);
    assert_int_equal(status_of(&cqe), NVME_SC_SUCCESS);
    assert_int_equal(cqe.sq_head, 0xffff); /* 3.3: SQ flow control is off */
}

static struct nvme_sqe io_sqe(uint8_t opcode, uint32_t nsid, uint64_t lba, uint32_t count)
{
    return (struct nvme_sqe){
        .opcode = opcode, .nsid = nsid, .cdw10 = (uint32_t)lba, .cdw12 = count - 1};
}

static void fill(uint8_t seed, uint32_t len_bytes)
{
    for (uint32_t i = 0; i < len_bytes; i++) {
        w.data[AT_DATA + i] = (uint8_t)(seed + i * 7);
    }
}

/* --- connections ---------------------------------------------------------------------------- */

/* 7.3.6.4: private data of request, reply and rejection */
static void request_with_bad_fields_is_rejected_with_its_status(void **state)
{
    (void)state;
    queue_open(&w.admin, 100, 1);
    assert_false(w.admin.is_up);
    assert_int_equal(w.admin.reason, RDMA_CM_REJ_CONSUMER);
    assert_int_equal(w.admin.rej.sts, NVMF_RDMA_INVALID_QID);
    queue_close(&w.admin);
    queue_open(&w.admin, 1, 77);
    assert_int_equal(w.admin.rej.sts, NVMF_RDMA_INVALID_CNTLID);
    queue_close(&w.admin);
    target_knobs(w.target)->reject_status = NVMF_RDMA_NO_RESOURCES;
    target_knobs(w.target)->reject_count = 1;
    queue_open(&w.admin, 0, NVMF_CNTLID_DYNAMIC);
    assert_int_equal(w.admin.rej.sts, NVMF_RDMA_NO_RESOURCES);
    queue_close(&w.admin);
    queue_open(&w.admin, 0, NVMF_CNTLID_DYNAMIC);
    assert_true(w.admin.is_up);
    assert_int_equal(w.admin.rep.crqsize, ENTRIES);
}

/* 3.3: Connect */
static void connect_names_the_field_that_is_wrong(void **state)
{
    (void)state;
    queue_open(&w.admin, 0, NVMF_CNTLID_DYNAMIC);
    struct nvme_cqe cqe = send_connect(&w.admin, "nqn.none", 0, 0);
    assert_int_equal(NVME_STATUS_CODE(status_of(&cqe)), NVMF_SC_CONNECT_INVALID_PARAMETERS);
    assert_int_equal(cqe.dw0, offsetof(struct nvmf_connect_data, subnqn) | NVMF_CONNECT_IATTR_DATA);
    cqe = send_connect(&w.admin, "nqn.2024-01.test:closed", 0, 0);
    assert_int_equal(NVME_STATUS_CODE(status_of(&cqe)), NVMF_SC_CONNECT_INVALID_HOST);
    w.admin.cntlid = 5;
    cqe = send_connect(&w.admin, SUBNQN, 0, 0);
    assert_int_equal(cqe.dw0, offsetof(struct nvmf_connect_data, cntlid) | NVMF_CONNECT_IATTR_DATA);
    w.admin.cntlid = NVMF_CNTLID_DYNAMIC;
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_KEEP_ALIVE};
    cqe = run(&w.admin, &sqe, 0);
    assert_int_equal(NVME_STATUS_CODE(status_of(&cqe)), NVME_SC_COMMAND_SEQUENCE_ERROR);
    cqe = send_connect(&w.admin, SUBNQN, 0, 0);
    assert_int_equal(status_of(&cqe), NVME_SC_SUCCESS);
    assert_int_equal(target_ctrl_count(w.target), 1);
    assert_int_equal(cqe.sq_head, 1);
}

/* 3.5, and 3.1.5 of the base specification */
static void controller_follows_cc(void **state)
{
    (void)state;
    admin_up(SUBNQN, 0);
    assert_int_equal(FIELD_GET(NVME_CAP_MQES, property(NVME_REG_CAP)), 127);
    assert_int_equal(property(NVME_REG_VS), NVME_VERSION_1_4);
    cc_set(CC_ON | 1u << NVME_CC_SHN_SHIFT);
    assert_int_equal(FIELD_GET(NVME_CSTS_SHST, property(NVME_REG_CSTS)), NVME_SHST_COMPLETE);
    cc_set(0);
    assert_int_equal(property(NVME_REG_CSTS), 0);
    target_knobs(w.target)->fatal_at_enable = true;
    cc_set(CC_ON);
    assert_int_equal(property(NVME_REG_CSTS), NVME_CSTS_CFS);
}

/* 7.11 of the base specification */
static void keep_alive_that_stays_away_kills_the_controller(void **state)
{
    (void)state;
    admin_up(SUBNQN, 1500); /* rounded up to 2 s */
    advance(1900 * NS_PER_MS);
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_KEEP_ALIVE};
    run(&w.admin, &sqe, 0);
    advance(1900 * NS_PER_MS);
    assert_false(w.admin.is_down);
    advance(200 * NS_PER_MS);
    assert_true(w.admin.is_down);
    assert_int_equal(target_ctrl_count(w.target), 0);
    assert_int_equal(target_stats(w.target)->keep_alive_expired, 1);
}

/* --- admin commands ------------------------------------------------------------------------- */

static void identify_tells_controller_and_namespaces(void **state)
{
    const struct nvme_identify_ctrl *ctrl = (void *)(w.data + AT_DATA);
    const struct nvme_identify_ns *ns = (void *)(w.data + AT_DATA);
    const struct nvmf_identify_ctrl *nvmf = (const void *)ctrl->reserved1792_fabrics;
    const uint32_t *list = (void *)(w.data + AT_DATA);

    (void)state;
    admin_up(SUBNQN, 0);
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_IDENTIFY, .cdw10 = NVME_CNS_CTRL};
    run(&w.admin, &sqe, NVME_IDENTIFY_BYTES);
    assert_int_equal(ctrl->nn, 3);
    assert_int_equal(ctrl->sgls, NVME_SGLS_SUPPORTED | NVMF_SGLS_KEYED | NVMF_SGLS_OFFSETS);
    assert_int_equal(nvmf->ioccsz, (64 + ICD) / 16);
    assert_string_equal((const char *)ctrl->subnqn, SUBNQN);
    sqe = (struct nvme_sqe){.opcode = NVME_ADMIN_IDENTIFY, .nsid = 1, .cdw10 = NVME_CNS_NS};
    run(&w.admin, &sqe, NVME_IDENTIFY_BYTES);
    assert_int_equal(ns->nsze, 1024);
    sqe = (struct nvme_sqe){.opcode = NVME_ADMIN_IDENTIFY, .cdw10 = NVME_CNS_ACTIVE_NS_LIST};
    run(&w.admin, &sqe, NVME_IDENTIFY_BYTES);
    assert_int_equal(list[0], 1);
    assert_int_equal(list[1], 3);
    assert_int_equal(list[2], 0);
    sqe = (struct nvme_sqe){
        .opcode = NVME_ADMIN_IDENTIFY, .nsid = 1, .cdw10 = NVME_CNS_NS_DESCRIPTORS};
    run(&w.admin, &sqe, NVME_IDENTIFY_BYTES);
    assert_int_equal(w.data[AT_DATA], NVME_NIDT_UUID);
    assert_int_equal(w.data[AT_DATA + 20], NVME_NIDT_NGUID);
    struct nvme_cqe cqe = run(&w.admin, &sqe, 512);
    assert_int_equal(NVME_STATUS_CODE(status_of(&cqe)), NVME_SC_DATA_SGL_LENGTH_INVALID);
}

static void namespace_change_is_told_once_until_the_log_is_read(void **state)
{
    struct nvme_sqe aer = {.opcode = NVME_ADMIN_ASYNC_EVENT, .cid = 900};
    struct nvme_cqe cqe;

    (void)state;
    admin_up(SUBNQN, 0);
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_SET_FEATURES,
                           .cdw10 = NVME_FEATURE_ASYNC_EVENT,
                           .cdw11 = NVME_AEC_NS_ATTRIBUTE};
    run(&w.admin, &sqe, 0);
    keyed(&aer, 0);
    send(&w.admin, &aer, 0);
    assert_true(target_ns_resize(w.target, 0, 3, 128));
    assert_false(target_ns_resize(w.target, 0, 3, 129));
    assert_true(take(&w.admin, 900, &cqe, PATIENCE_NS));
    assert_int_equal(cqe.dw0, NVME_EVENT_NOTICE | NVME_LOG_CHANGED_NS << NVME_EVENT_LOG_SHIFT);
    aer.cid = 901;
    send(&w.admin, &aer, 0);
    target_ns_resize(w.target, 0, 1, 0);
    assert_false(take(&w.admin, 901, &cqe, 10 * NS_PER_MS));
    sqe = (struct nvme_sqe){.opcode = NVME_ADMIN_GET_LOG_PAGE,
                            .cdw10 = NVME_LOG_CHANGED_NS | 1023u << NVME_LOG_NUMDL_SHIFT};
    run(&w.admin, &sqe, 4096);
    uint32_t list[3];
    memcpy(list, w.data + AT_DATA, sizeof(list));
    assert_int_equal(list[0], 3);
    assert_int_equal(list[1], 1);
    assert_int_equal(list[2], 0);
    assert_true(take(&w.admin, 901, &cqe, PATIENCE_NS));
}

/* 5: discovery */
static void discovery_lists_subsystems_and_referrals(void **state)
{
    struct nvmf_discovery_header header;
    struct nvmf_discovery_entry entries[3];

    (void)state;
    admin_up(NVMF_DISCOVERY_NQN, 0);
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_GET_LOG_PAGE,
                           .cdw10 = NVMF_LOG_DISCOVERY | 1023u << NVME_LOG_NUMDL_SHIFT};
    run(&w.admin, &sqe, 4096);
    memcpy(&header, w.data + AT_DATA, sizeof(header));
    memcpy(entries, w.data + AT_DATA + sizeof(header), sizeof(entries));
    assert_int_equal(header.numrec, 3);
    assert_int_equal(entries[0].subtype, NVMF_SUBTYPE_NVME);
    assert_string_equal(entries[0].subnqn, SUBNQN);
    assert_memory_equal(entries[0].traddr, "192.0.2.2 ", 10);
    assert_memory_equal(entries[0].trsvcid, "4420 ", 5);
    assert_int_equal(entries[2].subtype, NVMF_SUBTYPE_REFERRAL);
    sqe.cdw12 = 2048; /* a part of it */
    run(&w.admin, &sqe, 4096);
    assert_memory_equal(w.data + AT_DATA, &entries[1], sizeof(entries[1]));
}

/* --- I/O ------------------------------------------------------------------------------------ */

static void write_then_read_moves_the_blocks(void **state)
{
    (void)state;
    io_up();
    fill(1, 65536);
    struct nvme_sqe sqe = io_sqe(NVME_IO_WRITE, 1, 8, 128);
    struct nvme_cqe cqe = run(&w.io, &sqe, 65536);
    assert_int_equal(status_of(&cqe), NVME_SC_SUCCESS);
    assert_memory_equal(target_block(w.target, 0, 1, 9), w.data + AT_DATA + 512, 512);
    assert_int_equal(target_block_version(w.target, 0, 1, 8), 1);
    assert_int_equal(target_block_version(w.target, 0, 1, 7), 0);
    memset(w.data + AT_DATA, 0, 65536);
    sqe = io_sqe(NVME_IO_READ, 1, 8, 128);
    cqe = run(&w.io, &sqe, 65536);
    assert_int_equal(status_of(&cqe), NVME_SC_SUCCESS);
    assert_memory_equal(target_block(w.target, 0, 1, 8), w.data + AT_DATA, 65536);
    sqe = io_sqe(NVME_IO_READ, 1, 1020, 8);
    cqe = run(&w.io, &sqe, 4096);
    assert_int_equal(NVME_STATUS_CODE(status_of(&cqe)), NVME_SC_LBA_OUT_OF_RANGE);
    sqe = io_sqe(NVME_IO_READ, 2, 0, 8);
    cqe = run(&w.io, &sqe, 4096);
    assert_int_equal(NVME_STATUS_CODE(status_of(&cqe)), NVME_SC_INVALID_NS_OR_FORMAT);
}

static void write_in_the_capsule_needs_no_read(void **state)
{
    struct nvme_sqe sqe = io_sqe(NVME_IO_WRITE, 3, 5, 1);
    struct nvme_cqe cqe;

    (void)state;
    io_up();
    uint64_t reads = target_stats(w.target)->rdma_reads;
    fill(2, 4096);
    sqe.cid = 60;
    sqe.flags = NVME_PSDT_SGL_MPTR << NVME_SQE_PSDT_SHIFT;
    sqe.sgl1 = (struct nvme_sgl_desc){.addr = 0, .len_bytes = 4096, .type = NVMF_SGL_IN_CAPSULE};
    send(&w.io, &sqe, 4096);
    assert_true(take(&w.io, 60, &cqe, PATIENCE_NS));
    assert_int_equal(status_of(&cqe), NVME_SC_SUCCESS);
    assert_memory_equal(target_block(w.target, 0, 3, 5), w.data + AT_DATA, 4096);
    assert_int_equal(target_stats(w.target)->rdma_reads, reads);
    sqe.sgl1.addr = 16; /* beyond IOCCSZ */
    send(&w.io, &sqe, 4096);
    assert_true(take(&w.io, 60, &cqe, PATIENCE_NS));
    assert_int_equal(NVME_STATUS_CODE(status_of(&cqe)), NVME_SC_INVALID_SGL_OFFSET);
}

static void other_commands_do_what_they_say(void **state)
{
    struct nvme_dsm_range range = {.slba = 4, .lba_count = 2};
    uint64_t keys[2] = {0, 0x1234};

    (void)state;
    io_up();
    fill(3, 4096);
    struct nvme_sqe sqe = io_sqe(NVME_IO_WRITE, 1, 0, 8);
    run(&w.io, &sqe, 4096);
    sqe = io_sqe(NVME_IO_COMPARE, 1, 0, 8);
    struct nvme_cqe cqe = run(&w.io, &sqe, 4096);
    assert_int_equal(status_of(&cqe), NVME_SC_SUCCESS);
    w.data[AT_DATA + 4095] ^= 1;
    cqe = run(&w.io, &sqe, 4096);
    assert_int_equal(NVME_STATUS_CODE(status_of(&cqe)), NVME_SC_COMPARE_FAILURE);
    sqe = io_sqe(NVME_IO_WRITE_ZEROES, 1, 0, 2);
    run(&w.io, &sqe, 0);
    assert_int_equal(target_block(w.target, 0, 1, 1)[511], 0);
    memcpy(w.data + AT_DATA, &range, sizeof(range));
    sqe = (struct nvme_sqe){.opcode = NVME_IO_DSM, .nsid = 1, .cdw11 = NVME_DSM_DEALLOCATE};
    run(&w.io, &sqe, sizeof(range));
    assert_int_equal(target_block_version(w.target, 0, 1, 5), 2);
    assert_int_equal(target_block_version(w.target, 0, 1, 6), 1);
    memcpy(w.data + AT_DATA, keys, sizeof(keys));
    sqe = (struct nvme_sqe){.opcode = 0x0d, .nsid = 1};
    cqe = run(&w.io, &sqe, sizeof(keys));
    assert_int_equal(status_of(&cqe), NVME_SC_SUCCESS);
    sqe = (struct nvme_sqe){.opcode = 0x0e, .nsid = 1, .cdw10 = 31, .cdw11 = 1};
    run(&w.io, &sqe, 128);
    assert_int_equal(w.data[AT_DATA + 5], 1);         /* one registrant */
    assert_int_equal(w.data[AT_DATA + 64 + 8], 0x34); /* its key */
    sqe = io_sqe(NVME_IO_FLUSH, 1, 0, 1);
    cqe = run(&w.io, &sqe, 0);
    assert_int_equal(status_of(&cqe), NVME_SC_SUCCESS);
}

/* --- faults --------------------------------------------------------------------------------- */

/* The old controller may still execute: after the association is gone too. */
static void held_write_is_executed_after_the_association(void **state)
{
    struct target_fault hold = {.kind = TARGET_FAULT_HOLD,
                                .qid = TARGET_IO,
                                .opcode = NVME_IO_WRITE,
                                .fctype = TARGET_ANY,
                                .cid = TARGET_ANY,
                                .delay_ns = NS_PER_S};
    struct nvme_sqe sqe = io_sqe(NVME_IO_WRITE, 1, 0, 8);

    (void)state;
    io_up();
    target_fault_add(w.target, &hold);
    fill(4, 4096);
    sqe.cid = 50;
    keyed(&sqe, 4096);
    send(&w.io, &sqe, 0);
    advance(NS_PER_MS);
    assert_int_equal(target_held_count(w.target), 1);
    queue_close(&w.io);
    queue_close(&w.admin);
    advance(100 * NS_PER_MS);
    assert_int_equal(target_ctrl_count(w.target), 0);
    assert_int_equal(target_block_version(w.target, 0, 1, 0), 0);
    advance(NS_PER_S);
    assert_int_equal(target_block_version(w.target, 0, 1, 0), 1);
    assert_int_equal(target_stats(w.target)->late, 1);
}

/* A controller level reset ends commands before RDY is 0 (7.3.2 of the base specification). */
static void held_write_dies_with_a_disable_in_order(void **state)
{
    struct target_fault hold = {.kind = TARGET_FAULT_HOLD,
                                .qid = TARGET_IO,
                                .opcode = TARGET_ANY,
                                .fctype = TARGET_ANY,
                                .cid = TARGET_ANY,
                                .delay_ns = NS_PER_S};
    struct nvme_sqe sqe = io_sqe(NVME_IO_WRITE, 1, 0, 8);

    (void)state;
    io_up();
    target_fault_add(w.target, &hold);
    sqe.cid = 50;
    keyed(&sqe, 4096);
    send(&w.io, &sqe, 0);
    advance(NS_PER_MS);
    cc_set(0);
    assert_int_equal(property(NVME_REG_CSTS), 0);
    assert_true(w.io.is_down);
    advance(2 * NS_PER_S);
    assert_int_equal(target_block_version(w.target, 0, 1, 0), 0);
}

static void abort_ends_a_held_command(void **state)
{
    struct target_fault hold = {.kind = TARGET_FAULT_HOLD,
                                .qid = TARGET_IO,
                                .opcode = TARGET_ANY,
                                .fctype = TARGET_ANY,
                                .cid = TARGET_ANY,
                                .delay_ns = 100 * NS_PER_S};
    struct nvme_sqe read = io_sqe(NVME_IO_READ, 1, 0, 8);
    struct nvme_cqe cqe;

    (void)state;
    io_up();
    target_fault_add(w.target, &hold);
    read.cid = 51;
    keyed(&read, 4096);
    send(&w.io, &read, 0);
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_ABORT, .cdw10 = 1 | 51u << NVME_ABORT_CID_SHIFT};
    cqe = run(&w.admin, &sqe, 0);
    assert_int_equal(cqe.dw0, 0);
    assert_true(take(&w.io, 51, &cqe, PATIENCE_NS));
    assert_int_equal(NVME_STATUS_CODE(status_of(&cqe)), NVME_SC_ABORT_REQUESTED);
    cqe = run(&w.admin, &sqe, 0);
    assert_int_equal(cqe.dw0, 1); /* none left */
}

/* Each fault is seen by the peer as what it is. */
static void faults_of_the_answer_are_seen(void **state)
{
    struct target_fault fault = {.qid = TARGET_IO,
                                 .opcode = NVME_IO_READ,
                                 .fctype = TARGET_ANY,
                                 .cid = TARGET_ANY,
                                 .count = 1,
                                 .value = 3};
    struct nvme_sqe sqe = io_sqe(NVME_IO_READ, 1, 0, 8);
    struct nvme_cqe cqe;

    (void)state;
    io_up();
    sqe.cid = 64;
    fault.kind = TARGET_FAULT_WRONG_CID;
    target_fault_add(w.target, &fault);
    keyed(&sqe, 4096);
    send(&w.io, &sqe, 0);
    assert_true(take(&w.io, 67, &cqe, PATIENCE_NS));
    fault.kind = TARGET_FAULT_TWICE;
    target_fault_add(w.target, &fault);
    keyed(&sqe, 4096);
    send(&w.io, &sqe, 0);
    assert_true(take(&w.io, 64, &cqe, PATIENCE_NS));
    assert_true(take(&w.io, 64, &cqe, PATIENCE_NS));
    fault.kind = TARGET_FAULT_DROP;
    uint32_t drop = target_fault_add(w.target, &fault);
    keyed(&sqe, 4096);
    send(&w.io, &sqe, 0);
    assert_false(take(&w.io, 64, &cqe, 10 * NS_PER_MS));
    assert_int_equal(target_fault_hits(w.target, drop), 1);
    fault.kind = TARGET_FAULT_SHORT;
    target_fault_add(w.target, &fault);
    keyed(&sqe, 4096);
    send(&w.io, &sqe, 0);
    advance(NS_PER_MS);
    take(&w.io, 64, &cqe, NS_PER_MS);
    assert_int_equal(w.io.last_bytes, 3);
    target_faults_clear(w.target);
    fault.kind = TARGET_FAULT_DIE;
    target_fault_add(w.target, &fault);
    keyed(&sqe, 4096);
    send(&w.io, &sqe, 0);
    advance(NS_PER_S);
    assert_true(w.io.is_down);
    assert_true(w.admin.is_down); /* the association ends with one of its queues */
}

static void commands_that_want_buffers_wait_for_them(void **state)
{
    struct target_fault hold = {.kind = TARGET_FAULT_HOLD,
                                .qid = TARGET_IO,
                                .opcode = TARGET_ANY,
                                .fctype = TARGET_ANY,
                                .cid = TARGET_ANY,
                                .delay_ns = 10 * NS_PER_MS};
    struct nvme_sqe sqe = io_sqe(NVME_IO_FLUSH, 1, 0, 1);
    struct nvme_cqe cqe;

    (void)state;
    io_up();
    target_fault_add(w.target, &hold);
    keyed(&sqe, 0);
    for (uint16_t cid = 100; cid < 106; cid++) { /* there are 4 */
        sqe.cid = cid;
        send(&w.io, &sqe, 0);
    }
    for (uint16_t cid = 100; cid < 106; cid++) {
        assert_true(take(&w.io, cid, &cqe, PATIENCE_NS));
    }
}

static void power_loss_leaves_the_media(void **state)
{
    (void)state;
    io_up();
    fill(5, 4096);
    struct nvme_sqe sqe = io_sqe(NVME_IO_WRITE, 1, 0, 8);
    run(&w.io, &sqe, 4096);
    target_power(w.target, false);
    advance(NS_PER_S);
    assert_true(w.io.is_down && w.admin.is_down);
    queue_close(&w.io);
    queue_close(&w.admin);
    queue_open(&w.admin, 0, NVMF_CNTLID_DYNAMIC);
    assert_false(w.admin.is_up);
    queue_close(&w.admin);
    target_power(w.target, true);
    io_up();
    memset(w.data + AT_DATA, 0, 4096);
    sqe = io_sqe(NVME_IO_READ, 1, 0, 8);
    run(&w.io, &sqe, 4096);
    assert_int_equal(w.data[AT_DATA], 5);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(request_with_bad_fields_is_rejected_with_its_status),
        TEST(connect_names_the_field_that_is_wrong),
        TEST(controller_follows_cc),
        TEST(keep_alive_that_stays_away_kills_the_controller),
        TEST(identify_tells_controller_and_namespaces),
        TEST(namespace_change_is_told_once_until_the_log_is_read),
        TEST(discovery_lists_subsystems_and_referrals),
        TEST(write_then_read_moves_the_blocks),
        TEST(write_in_the_capsule_needs_no_read),
        TEST(other_commands_do_what_they_say),
        TEST(held_write_is_executed_after_the_association),
        TEST(held_write_dies_with_a_disable_in_order),
        TEST(abort_ends_a_held_command),
        TEST(faults_of_the_answer_are_seen),
        TEST(commands_that_want_buffers_wait_for_them),
        TEST(power_loss_leaves_the_media),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
