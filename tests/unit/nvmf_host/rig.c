#include "rig.h"

#include <stdlib.h>

/* Stands in for an association: what queues read of one. */
struct nvmf_ctrl {
    struct nvmf_ctrl_shared shared;
};
static struct nvmf_ctrl ctrl;
struct rig rig;

#define DATA_BYTES (4u << 20)

struct nvmf_ctrl_shared *nvmf_ctrl_shared(struct nvmf_ctrl *c)
{
    return &c->shared;
}

/* --- turning ------------------------------------------------------------------------------- */

void rig_turn(void)
{
    for (uint32_t quiet = 0, turns = 0; quiet < 4; turns++) {
        assert_true(turns < 100000);
        native_cpu_become(1);
        uint32_t work = sched_turn();
        native_cpu_become(0);
        work += sched_turn();
        quiet = work == 0 ? quiet + 1 : 0;
        if (!list_is_empty(&rig.core->work) || !list_is_empty(&rig.core->settling)) {
            return; /* waits for the clock */
        }
    }
}

static void run_by(uint64_t step_ns, uint64_t duration_ns)
{
    uint64_t end_ns = clock_now_ns() + duration_ns;

    rig_turn();
    while (clock_now_ns() < end_ns) {
        native_clock_advance(step_ns);
        rig_turn();
    }
}

void rig_run(uint64_t duration_ns)
{
    run_by(duration_ns > 100 * NS_PER_MS ? NS_PER_MS : RIG_STEP_NS, duration_ns);
}

/* --- owner --------------------------------------------------------------------------------- */

static struct rig_queue *told(struct nvmf_queue *queue, enum nvmf_fail fail, uint32_t code)
{
    struct rig_queue *q = CONTAINER_OF(queue, struct rig_queue, queue);

    q->fail = fail;
    q->code = code;
    if (q->closes && fail != NVMF_FAIL_NONE && queue->state != NVMF_QUEUE_CLOSING) {
        nvmf_queue_close(queue, q->quiet_ns);
    }
    return q;
}

static void on_opened(struct nvmf_queue *queue, enum nvmf_fail fail, uint32_t code)
{
    told(queue, fail, code)->opened_count++;
}

static void on_lost(struct nvmf_queue *queue, enum nvmf_fail fail, uint32_t code)
{
    assert_int_equal(queue->state, NVMF_QUEUE_BROKEN);
    told(queue, fail, code)->lost_count++;
}

static void on_stuck(struct nvmf_queue *queue, enum nvmf_fail fail, uint32_t code)
{
    told(queue, fail, code)->stuck_count++;
}

static void on_closed(struct nvmf_queue *queue)
{
    CONTAINER_OF(queue, struct rig_queue, queue)->closed_count++;
}

static void on_abort(struct nvmf_queue *queue, uint16_t cid)
{
    struct rig_queue *q = CONTAINER_OF(queue, struct rig_queue, queue);

    q->abort_count++;
    q->abort_cid = cid;
}

static const struct nvmf_queue_ops ops = {.opened = on_opened,
                                          .lost = on_lost,
                                          .closed = on_closed,
                                          .abort = on_abort,
                                          .stuck = on_stuck};

static void make_queue(struct rig_queue *q, uint32_t entries)
{
    q->memory = model_memory(nvmf_queue_memory_bytes(rig.host.device, entries));
    nvmf_queue_init(&q->queue, rig.core, q->memory, entries, &ops, NULL);
    q->queue.ctrl = &ctrl;
    q->queue.target = &rig.where;
}

/* --- the whole ------------------------------------------------------------------------------ */

static void open_target(void)
{
    static struct target_ns_config ns = {.nsid = 1, .lba_count = RIG_BLOCKS, .lba_shift = 9};
    static struct target_subsystem_config subsystem = {
        .nqn = RIG_NQN, .host_nqn = RIG_HOSTNQN, .namespaces = &ns, .ns_count = 1};
    struct target_config config = {.device = rig.peer.device,
                                   .addr = rig.peer.addr,
                                   .subsystems = &subsystem,
                                   .subsystem_count = 1,
                                   .in_capsule_bytes = rig.config.in_capsule_bytes,
                                   .max_transfer_bytes = 1u << 20,
                                   .buf_count = 128};

    rig.target_memory = model_memory(target_memory_bytes(&config));
    rig.target = target_open(rig.target_memory, &config);
}

void rig_open(const struct rig_config *config)
{
    struct wire_config wire = {.seed = 1, .port_count = 2, .mtu_bytes = 4200};

    memset(&rig, 0, sizeof(rig));
    memset(&ctrl, 0, sizeof(ctrl));
    if (config != NULL) {
        rig.config = *config;
    }
    native_clock_set(100 * NS_PER_S);
    native_cpu_become(0);
    sched_init(2, SCHED_IDLE_POLL);
    rig.wire = wire_open(&wire);
    model_node_open(&rig.host, rig.wire, 0, 1, &rig.config.counts);
    model_node_open(&rig.peer, rig.wire, 1, 2, NULL);
    if (rig.config.limit_keys) {
        rig.host.device->attr.key_kind = rig.config.key_kind;
    }
    struct nvmf_host_core_config core = {
        .device = rig.host.device,
        .command_count = rig.config.command_count != 0 ? rig.config.command_count : 128,
        .stage_bytes = rig.config.stage_bytes};
    rig.core_memory = model_memory(nvmf_host_core_memory_bytes(&core));
    assert_int_equal(nvmf_host_core_start(rig.core_memory, &core), STATUS_OK);
    rig.core = nvmf_core_find(0);
    assert_null(nvmf_core_find(1));
    rig.where = (struct nvmf_target){.addr = rig.peer.addr,
                                     .port = NVMF_RDMA_PORT,
                                     .subnqn = RIG_NQN,
                                     .hostnqn = RIG_HOSTNQN,
                                     .hostid = {1, 2, 3}};
    make_queue(&rig.admin, 32);
    make_queue(&rig.io, rig.config.entries != 0 ? rig.config.entries : 32);
    rig.ns = (struct nvmf_ns){.dev = {.ops = &nvmf_io_ops}, .ctrl = &ctrl};
    atomic_store(&rig.ns.nsid, 1);
    rig.data = model_memory(DATA_BYTES);
    open_target();
    run_by(50 * NS_PER_MS, 2 * NS_PER_S); /* addresses are being probed */
}

static void close_target(void)
{
    target_close(rig.target);
    for (uint32_t i = 0; i < 1000 && !target_is_quiet(rig.target); i++) {
        rig_run(NS_PER_MS);
    }
    assert_true(target_is_quiet(rig.target));
    assert_string_equal(target_violation(rig.target), "");
    target_free(rig.target);
}

static void check_core(void)
{
    const struct nvmf_core *core = rig.core;

    assert_true(list_is_empty(&core->queues));
    assert_true(list_is_empty(&core->hungry));
    assert_true(list_is_empty(&core->settling));
    assert_true(list_is_empty(&core->work));
    assert_int_equal(core->free_slot_count, core->slot_count);
    assert_int_equal(core->stage.free_count, core->stage.page_count);
    assert_int_equal(core->cqe_left, core->cqe_count);
    assert_int_equal(core->key_count, 0);
    assert_int_equal(core->closing_count, 0);
    assert_null(core->stage_claim);
    assert_true(pool_is_full(&core->hellos));
}

void rig_close(void)
{
    for (uint32_t i = 0; i < LIMIT_CORES; i++) {
        atomic_store(&ctrl.shared.route[i], NULL);
    }
    rig_queue_close(&rig.io, 0);
    rig_queue_close(&rig.admin, 0);
    rig_run(100 * NS_PER_MS);
    check_core();
    close_target();
    run_by(50 * NS_PER_MS, 70 * NS_PER_S); /* time wait */
    assert_int_equal(rdma_cq_destroy(rig.core->cq), STATUS_OK);
    sched_poller_remove(&rig.core->poller);
    assert_true(rdma_soft_is_quiet(rig.host.device));
    assert_true(rdma_soft_is_quiet(rig.peer.device));
    assert_true(wire_is_quiet(rig.wire));
    sched_init(2, SCHED_IDLE_POLL);
    model_node_close(&rig.host);
    model_node_close(&rig.peer);
    wire_close(rig.wire);
    free(rig.admin.memory);
    free(rig.io.memory);
    free(rig.core_memory);
    free(rig.target_memory);
    free(rig.data);
    native_clock_use_real();
}

int rig_setup(void **state)
{
    (void)state;
    rig_open(NULL);
    rig_connect();
    return 0;
}

int rig_teardown(void **state)
{
    (void)state;
    rig_close();
    return 0;
}

/* --- queues --------------------------------------------------------------------------------- */

void rig_queue_open(struct rig_queue *q, uint16_t qid)
{
    q->opened_count = 0;
    q->lost_count = 0;
    q->closed_count = 0;
    q->stuck_count = 0;
    q->abort_count = 0;
    q->queue.params = (struct nvmf_queue_params){
        .qid = qid,
        .entries = qid == 0 ? 32 : q->queue.inner->entries_max,
        .cntlid = qid == 0 ? NVMF_CNTLID_DYNAMIC : rig.admin.queue.cntlid,
        .kato_ms = 0,
        .sq_flow_off = !rig.config.sq_flow,
        .sgl_offsets = true,
        .icd_bytes = qid == 0 ? 0 : rig.config.in_capsule_bytes,
        .step_timeout_ns = 3 * NS_PER_S,
        .command_timeout_ns = 8 * NS_PER_S};
    nvmf_queue_open(&q->queue);
    assert_int_equal(q->opened_count, 0);
    for (uint32_t i = 0; i < 100000 && q->opened_count == 0; i++) {
        rig_run(RIG_STEP_NS);
    }
    assert_int_equal(q->opened_count, 1);
}

void rig_queue_close(struct rig_queue *q, uint64_t quiet_ns)
{
    if (q->queue.state == NVMF_QUEUE_CLOSED) {
        return;
    }
    if (q->queue.state != NVMF_QUEUE_CLOSING) {
        nvmf_queue_close(&q->queue, quiet_ns);
        assert_int_equal(q->closed_count, 0);
    }
    for (uint32_t i = 0; i < 1000 && q->closed_count == 0; i++) {
        rig_run(RIG_STEP_NS);
    }
    assert_int_equal(q->closed_count, 1);
    assert_int_equal(q->queue.state, NVMF_QUEUE_CLOSED);
    assert_int_equal(q->queue.in_flight, 0);
}

struct admin_cmd {
    struct nvmf_cmd cmd;
    bool is_done;
};

static void admin_done(struct nvmf_cmd *cmd)
{
    CONTAINER_OF(cmd, struct admin_cmd, cmd)->is_done = true;
}

nvme_status_t rig_admin(struct nvme_sqe sqe, struct nvme_cqe *cqe)
{
    struct admin_cmd c = {.cmd = {.sqe = sqe, .timeout_ns = 3 * NS_PER_S, .done = admin_done}};

    nvmf_queue_exec(&rig.admin.queue, &c.cmd);
    for (uint32_t i = 0; i < 100000 && !c.is_done; i++) {
        rig_run(RIG_STEP_NS);
    }
    assert_true(c.is_done);
    assert_false(c.cmd.is_path_error);
    if (cqe != NULL) {
        *cqe = c.cmd.cqe;
    }
    return c.cmd.status;
}

void rig_connect_admin(void)
{
    struct nvme_sqe sqe = {0};
    struct nvmf_property_sqe *set = (struct nvmf_property_sqe *)(void *)&sqe;

    rig_queue_open(&rig.admin, 0);
    assert_int_equal(rig.admin.fail, NVMF_FAIL_NONE);
    assert_int_equal(rig.admin.queue.state, NVMF_QUEUE_OPEN);
    set->opcode = NVMF_OPCODE;
    set->fctype = NVMF_PROPERTY_SET;
    set->offset = NVME_REG_CC;
    set->value = NVME_CC_EN | FIELD_PREP(NVME_CC_IOSQES, NVME_IOSQES) |
                 FIELD_PREP(NVME_CC_IOCQES, NVME_IOCQES);
    assert_int_equal(rig_admin(sqe, NULL), 0);
}

void rig_connect_io(void)
{
    target_knobs(rig.target)->crqsize = rig.config.crqsize;
    rig_queue_open(&rig.io, 1);
    assert_int_equal(rig.io.fail, NVMF_FAIL_NONE);
    assert_int_equal(rig.io.queue.state, NVMF_QUEUE_OPEN);
    atomic_store(&ctrl.shared.route[0], &rig.io.queue);
    atomic_store(&ctrl.shared.route[1], &rig.io.queue);
    atomic_store(&rig.ns.is_usable, true);
}

void rig_connect(void)
{
    rig_connect_admin();
    rig_connect_io();
}

/* --- requests ------------------------------------------------------------------------------- */

static void on_done(struct blk_req *req)
{
    struct rig_req *r = CONTAINER_OF(req, struct rig_req, req);

    r->done_count++;
    if (r->next != NULL) {
        rig_submit(r->next);
    }
    if (r->kills != NULL && r->kills->done_count == 0) {
        blk_cancel(&rig.ns.dev, &r->kills->req);
    }
}

void rig_req(struct rig_req *r, uint8_t opcode, uint64_t slba, uint32_t lba_count,
             uint32_t data_offset)
{
    bool has_data = opcode == NVME_IO_READ || opcode == NVME_IO_WRITE || opcode == NVME_IO_COMPARE;

    *r = (struct rig_req){.data = rig.data + data_offset};
    r->req.cmd.opcode = opcode;
    r->req.cmd.flags = 0xc0; /* of another host: not ours to send on */
    r->req.cmd.nsid = 77;
    r->req.cmd.mptr = 0x1234;
    r->req.cmd.cdw10 = (uint32_t)slba;
    r->req.cmd.cdw12 = lba_count - 1;
    r->req.dir = opcode & 3;
    r->req.done = on_done;
    if (has_data) {
        r->segs[0] =
            (struct mem_seg){.bus_addr = (uintptr_t)r->data, .len_bytes = lba_count * RIG_BLOCK};
        r->req.data = (struct mem_ref){.segs = r->segs,
                                       .len_bytes = lba_count * RIG_BLOCK,
                                       .seg_count = 1,
                                       .space = MEM_SPACE_HOST};
    }
}

/* The data stay in order; their memory has gaps and goes backwards. */
void rig_req_scatter(struct rig_req *r, uint32_t count)
{
    uint32_t left = r->req.data.len_bytes;
    uint8_t *end = rig.data + DATA_BYTES;

    assert_true(count <= RIG_SEGS);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t len = i + 1 == count ? left : left / (count - i) - i % 3;
        end -= len + 16;
        memcpy(end, r->data + r->req.data.len_bytes - left, len);
        r->segs[i] = (struct mem_seg){.bus_addr = (uintptr_t)end, .len_bytes = len};
        left -= len;
    }
    r->req.data.seg_count = (uint16_t)count;
}

void rig_submit(struct rig_req *r)
{
    r->done_count = 0;
    blk_submit(&rig.ns.dev, &r->req);
}

nvme_status_t rig_do(struct rig_req *r)
{
    native_cpu_become(r->req.owner_core);
    rig_submit(r);
    native_cpu_become(0);
    for (uint32_t i = 0; i < 200000 && r->done_count == 0; i++) {
        rig_run(RIG_STEP_NS);
    }
    assert_int_equal(r->done_count, 1);
    return r->req.status;
}

void rig_fill(uint32_t offset, uint32_t len_bytes, uint32_t seed)
{
    for (uint32_t i = 0; i < len_bytes; i++) {
        seed = seed * 1664525u + 1013904223u;
        rig.data[offset + i] = (uint8_t)(seed >> 24);
    }
}

bool rig_media_is(uint64_t slba, uint32_t lba_count, const uint8_t *data)
{
    for (uint32_t i = 0; i < lba_count; i++) {
        const uint8_t *block = target_block(rig.target, 0, 1, slba + i);
        if (block == NULL || memcmp(block, data + i * RIG_BLOCK, RIG_BLOCK) != 0) {
            return false;
        }
    }
    return true;
}

struct nvmf_path_counters *rig_counters(enum nvmf_path path)
{
    return &ctrl.shared.core[0].path[path];
}

uint64_t rig_count(const _Atomic uint64_t *counter)
{
    return counter_get(counter);
}
