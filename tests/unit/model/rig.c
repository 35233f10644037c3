#include "tests/unit/model/rig.h"

#include <stdlib.h>
#include <string.h>

#include "hal/native/native.h"
#include "rdma/soft.h"
#include "sched/sched.h"

#define DATA_BYTES (256u << 10)
#define HOSTNQN    "nqn.2024-01.test:host"

/* Where things lie in rig.data beside RIG_AT_DATA: capsules sent, answers. */
#define AT_CAPSULE 0u
#define AT_ANSWER  8192u

struct rig rig;

static const struct target_ns_config namespaces[] = {
    {.nsid = 1, .lba_count = 1024, .lba_shift = 9, .uuid = {1}, .nguid = {1}},
    {.nsid = 3, .lba_count = 64, .lba_count_max = 128, .lba_shift = 12, .uuid = {3}},
};
static const struct target_subsystem_config subsystems[] = {
    {.nqn = RIG_NQN, .namespaces = namespaces, .ns_count = 2},
    {.nqn = "nqn.2024-01.test:closed", .host_nqn = "nobody", .namespaces = namespaces},
};
static const struct target_referral referrals[] = {{.port = 4421, .nqn = NVMF_DISCOVERY_NQN}};

/* --- world ---------------------------------------------------------------------------------- */

void rig_advance(uint64_t duration_ns)
{
    uint64_t end_ns = clock_now_ns() + duration_ns;

    model_turn();
    while (clock_now_ns() < end_ns) {
        uint64_t left_ns = end_ns - clock_now_ns();
        native_clock_advance(left_ns < 20 * RIG_STEP_NS ? RIG_STEP_NS : left_ns / 20);
        model_turn();
    }
}

int rig_setup(void **state)
{
    struct wire_config wire = {.seed = 1, .port_count = 2, .mtu_bytes = 4200};

    (void)state;
    memset(&rig, 0, sizeof(rig));
    native_clock_set(100 * NS_PER_S);
    sched_init(1, SCHED_IDLE_POLL);
    rig.wire = wire_open(&wire);
    model_node_open(&rig.nodes[0], rig.wire, 0, 1, NULL);
    model_node_open(&rig.nodes[1], rig.wire, 1, 1, NULL);
    struct target_config config = {.device = rig.nodes[1].device,
                                   .addr = rig.nodes[1].addr,
                                   .subsystems = subsystems,
                                   .subsystem_count = 2,
                                   .referrals = referrals,
                                   .referral_count = 1,
                                   .in_capsule_bytes = RIG_IN_CAPSULE_BYTES,
                                   .buf_count = 4};
    rig.target_memory = model_memory(target_memory_bytes(&config));
    rig.target = target_open(rig.target_memory, &config);
    assert_int_equal(rdma_pd_alloc(rig.nodes[0].device, 0, &rig.pd), STATUS_OK);
    rig.data = model_memory(DATA_BYTES);
    struct rdma_mr_attr mr = {
        .access = RDMA_ACCESS_LOCAL_WRITE, .memory = rig.data, .len_bytes = DATA_BYTES};
    assert_int_equal(rdma_mr_reg(rig.pd, &mr, &rig.mr), STATUS_OK);
    assert_int_equal(rdma_key_alloc(rig.pd, &rig.key), STATUS_OK);
    rig_advance(5 * NS_PER_S);
    return 0;
}

void rig_queue_close(struct rig_queue *queue)
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

int rig_teardown(void **state)
{
    (void)state;
    rig_queue_close(&rig.io);
    rig_queue_close(&rig.admin);
    rdma_key_invalidate(rig.key);
    target_close(rig.target);
    rig_advance(60 * NS_PER_S);
    assert_true(target_is_quiet(rig.target));
    target_free(rig.target);
    assert_int_equal(rdma_key_free(rig.key), STATUS_OK);
    assert_int_equal(rdma_mr_dereg(rig.mr), STATUS_OK);
    assert_int_equal(rdma_pd_free(rig.pd), STATUS_OK);
    model_turn();
    for (uint32_t i = 0; i < 2; i++) {
        assert_true(rdma_soft_is_quiet(rig.nodes[i].device));
    }
    assert_true(wire_is_quiet(rig.wire));
    for (uint32_t i = 0; i < 2; i++) {
        model_node_close(&rig.nodes[i]);
    }
    free(rig.data);
    free(rig.target_memory);
    wire_close(rig.wire);
    native_clock_use_real();
    return 0;
}

/* --- an initiator in pieces ----------------------------------------------------------------- */

static void receive(struct rig_queue *queue, uint32_t index)
{
    struct rdma_sge sge = {.addr = (uintptr_t)rig.data + AT_ANSWER + index * 64u +
                                   (queue->qid == 0 ? 0 : 4096u),
                           .len_bytes = 64,
                           .lkey = rig.mr->lkey};
    struct rdma_recv_wr wr = {.wr_id = index, .sges = &sge, .sge_count = 1};

    assert_int_equal(rdma_post_recv(queue->qp, &wr, NULL), STATUS_OK);
}

static void connect_now(struct rig_queue *queue, struct rdma_cm_id *id)
{
    struct nvmf_rdma_req req = {.qid = queue->qid,
                                .hrqsize = RIG_ENTRIES,
                                .hsqsize = RIG_ENTRIES - 1,
                                .cntlid = queue->cntlid};
    struct rdma_cm_param param = {.qp = queue->qp,
                                  .private_data = &req,
                                  .private_bytes = sizeof(req),
                                  .responder_resources = 16,
                                  .retry_count = 7,
                                  .rnr_retry_count = 7,
                                  .access = RDMA_ACCESS_REMOTE_READ | RDMA_ACCESS_REMOTE_WRITE |
                                            RDMA_ACCESS_LOCAL_WRITE};

    assert_int_equal(rdma_cm_qp_init(id, queue->qp, param.access), STATUS_OK);
    for (uint32_t i = 0; i < RIG_ENTRIES; i++) {
        receive(queue, i);
    }
    assert_int_equal(rdma_cm_connect(id, &param), STATUS_OK);
}

static void on_event(struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    struct rig_queue *queue = id->ctx;

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

void rig_queue_open(struct rig_queue *queue, uint16_t qid, uint16_t cntlid)
{
    struct rdma_device *device = rig.nodes[0].device;

    queue->qid = qid;
    queue->cntlid = cntlid;
    queue->cq_memory = model_memory(rdma_cq_memory_bytes(device, 64));
    struct rdma_cq_attr cq = {.entry_count = 64, .memory = queue->cq_memory};
    assert_int_equal(rdma_cq_create(device, &cq, &queue->cq), STATUS_OK);
    struct rdma_qp_init_attr attr = {.pd = rig.pd,
                                     .send_cq = queue->cq,
                                     .recv_cq = queue->cq,
                                     .send_wr_count = RIG_ENTRIES,
                                     .recv_wr_count = RIG_ENTRIES,
                                     .send_sge_count = 2,
                                     .recv_sge_count = 1};
    queue->qp_memory = model_memory(rdma_qp_memory_bytes(&attr));
    attr.memory = queue->qp_memory;
    assert_int_equal(rdma_qp_create(&attr, &queue->qp), STATUS_OK);
    assert_int_equal(
        rdma_cm_resolve(device, &rig.nodes[1].addr, NVMF_RDMA_PORT, on_event, queue, &queue->id),
        STATUS_OK);
    rig_advance(2 * NS_PER_MS);
}

/* Sends a capsule: the SQE, and `in_capsule` bytes of rig.data + RIG_AT_DATA. */
void rig_send(struct rig_queue *queue, const void *sqe, uint32_t in_capsule)
{
    struct rdma_sge sges[2] = {
        {.addr = (uintptr_t)rig.data + AT_CAPSULE, .len_bytes = 64, .lkey = rig.mr->lkey},
        {.addr = (uintptr_t)rig.data + RIG_AT_DATA, .len_bytes = in_capsule, .lkey = rig.mr->lkey}};
    struct rdma_send_wr wr = {
        .wr_id = 1000, .sges = sges, .sge_count = in_capsule > 0 ? 2 : 1, .opcode = RDMA_WR_SEND};

    memcpy(rig.data + AT_CAPSULE, sqe, 64);
    assert_int_equal(rdma_post_send(queue->qp, &wr, NULL), STATUS_OK);
    rig_advance(RIG_STEP_NS);
}

/* Takes answers until that of `cid`; false: none within the time. */
bool rig_take(struct rig_queue *queue, uint16_t cid, struct nvme_cqe *cqe, uint64_t patience_ns)
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
            memcpy(cqe, rig.data + AT_ANSWER + wc.wr_id * 64u + (queue->qid == 0 ? 0 : 4096u),
                   sizeof(*cqe));
            queue->last_inv = (wc.flags & RDMA_WC_WITH_INV) != 0 ? wc.imm : 0;
            queue->last_bytes = wc.len_bytes;
            receive(queue, (uint32_t)wc.wr_id);
            if ((uint16_t)cqe->dw3 == cid) {
                return true;
            }
            assert_true(queue->other_count < RIG_ENTRIES);
            queue->others[queue->other_count++] = *cqe;
        }
        rig_advance(RIG_STEP_NS);
    } while (clock_now_ns() < end_ns);
    return false;
}

nvme_status_t rig_status(const struct nvme_cqe *cqe)
{
    return (nvme_status_t)(cqe->dw3 >> NVME_CQE_STATUS_SHIFT);
}

/* Binds the key to rig.data + RIG_AT_DATA and describes it in the SQE. */
void rig_keyed(struct nvme_sqe *sqe, uint32_t len_bytes)
{
    struct nvmf_keyed_desc desc = {
        .addr = 0x1000,
        .len_bytes = {(uint8_t)len_bytes, (uint8_t)(len_bytes >> 8), (uint8_t)(len_bytes >> 16)},
        .type = NVMF_SGL_KEYED_INVALIDATE};

    if (len_bytes > 0) {
        rdma_key_invalidate(rig.key);
    }
    rig.seg =
        (struct mem_seg){.bus_addr = (uintptr_t)rig.data + RIG_AT_DATA, .len_bytes = len_bytes};
    rig.ref = (struct mem_ref){
        .segs = &rig.seg, .len_bytes = len_bytes, .seg_count = 1, .space = MEM_SPACE_NIC};
    if (len_bytes > 0) {
        assert_int_equal(rdma_key_bind(rig.key, &rig.ref, 0x1000,
                                       RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE |
                                           RDMA_ACCESS_REMOTE_READ),
                         STATUS_OK);
        memcpy(desc.key, &rig.key->value, 4);
    }
    memcpy(&sqe->sgl1, &desc, sizeof(desc));
    sqe->flags = NVME_PSDT_SGL_MPTR << NVME_SQE_PSDT_SHIFT;
}

static uint16_t next_cid = 7;

struct nvme_cqe rig_run(struct rig_queue *queue, struct nvme_sqe *sqe, uint32_t len_bytes)
{
    struct nvme_cqe cqe = {.dw3 = 0};

    sqe->cid = next_cid++;
    rig_keyed(sqe, len_bytes);
    rig_send(queue, sqe, 0);
    assert_true(rig_take(queue, sqe->cid, &cqe, RIG_PATIENCE_NS));
    if (rig_status(&cqe) == NVME_SC_SUCCESS) {
        assert_int_equal(queue->last_inv, len_bytes > 0 ? rig.key->value : 0);
        assert_int_equal(queue->last_bytes, NVMF_RESP_CAPSULE_BYTES);
    }
    return cqe;
}

struct nvme_cqe rig_send_connect(struct rig_queue *queue, const char *subnqn, uint8_t cattr,
                                 uint32_t kato_ms)
{
    struct nvmf_connect_data data = {.hostid = {9}, .cntlid = queue->cntlid};
    struct nvmf_connect_sqe connect = {.opcode = NVMF_OPCODE,
                                       .fctype = NVMF_CONNECT,
                                       .qid = queue->qid,
                                       .sqsize = RIG_ENTRIES - 1,
                                       .cattr = cattr,
                                       .kato_ms = kato_ms};
    struct nvme_sqe sqe;

    strcpy(data.subnqn, subnqn);
    strcpy(data.hostnqn, HOSTNQN);
    memcpy(rig.data + RIG_AT_DATA, &data, sizeof(data));
    memcpy(&sqe, &connect, sizeof(sqe));
    return rig_run(queue, &sqe, sizeof(data));
}

uint64_t rig_property(uint32_t offset)
{
    struct nvmf_property_sqe get = {.opcode = NVMF_OPCODE,
                                    .fctype = NVMF_PROPERTY_GET,
                                    .attrib = offset == NVME_REG_CAP,
                                    .offset = offset};
    struct nvme_sqe sqe;

    memcpy(&sqe, &get, sizeof(sqe));
    struct nvme_cqe cqe = rig_run(&rig.admin, &sqe, 0);
    assert_int_equal(rig_status(&cqe), NVME_SC_SUCCESS);
    return (uint64_t)cqe.dw1 << 32 | cqe.dw0;
}

void rig_cc_set(uint32_t cc)
{
    struct nvmf_property_sqe set = {
        .opcode = NVMF_OPCODE, .fctype = NVMF_PROPERTY_SET, .offset = NVME_REG_CC, .value = cc};
    struct nvme_sqe sqe;

    memcpy(&sqe, &set, sizeof(sqe));
    struct nvme_cqe cqe = rig_run(&rig.admin, &sqe, 0);
    assert_int_equal(rig_status(&cqe), NVME_SC_SUCCESS);
}

void rig_admin_up(const char *subnqn, uint32_t kato_ms)
{
    rig_queue_open(&rig.admin, 0, NVMF_CNTLID_DYNAMIC);
    assert_true(rig.admin.is_up);
    struct nvme_cqe cqe = rig_send_connect(&rig.admin, subnqn, 0, kato_ms);
    assert_int_equal(rig_status(&cqe), NVME_SC_SUCCESS);
    rig_cc_set(RIG_CC_ON);
    assert_int_equal(rig_property(NVME_REG_CSTS), NVME_CSTS_RDY);
    rig.admin.cntlid = (uint16_t)cqe.dw0;
}

void rig_io_up(void)
{
    rig_admin_up(RIG_NQN, 0);
    rig_queue_open(&rig.io, 1, rig.admin.cntlid);
    assert_true(rig.io.is_up);
    struct nvme_cqe cqe = rig_send_connect(&rig.io, RIG_NQN, NVMF_CONNECT_NO_SQ_FLOW, 0);
    assert_int_equal(rig_status(&cqe), NVME_SC_SUCCESS);
    assert_int_equal(cqe.sq_head, 0xffff); /* 3.3: SQ flow control is off */
}

struct nvme_sqe rig_io_sqe(uint8_t opcode, uint32_t nsid, uint64_t lba, uint32_t count)
{
    return (struct nvme_sqe){
        .opcode = opcode, .nsid = nsid, .cdw10 = (uint32_t)lba, .cdw12 = count - 1};
}

void rig_fill(uint8_t seed, uint32_t len_bytes)
{
    for (uint32_t i = 0; i < len_bytes; i++) {
        rig.data[RIG_AT_DATA + i] = (uint8_t)(seed + i * 7);
    }
}
