#include "tests/unit/nvme/rig.h"

#include "base/bits.h"
#include "nvme/nvme_priv.h"

struct rig rig;
static struct nvme_ctrl_memory memory;

#define ALL_FEATURES                                                                        \
    (BLK_FEATURE_FLUSH | BLK_FEATURE_WRITE_ZEROES | BLK_FEATURE_DSM | BLK_FEATURE_COMPARE | \
     BLK_FEATURE_VERIFY | BLK_FEATURE_FUA)

static struct rig_cmd *of(struct nvme_cmd *cmd)
{
    return CONTAINER_OF(cmd, struct rig_cmd, nvme);
}

/* --- transport ------------------------------------------------------------------------------ */

/* Two segments, so that whoever copies meets a border. */
static nvme_status_t rig_map(struct nvme_cmd *nvme, uint32_t len_bytes)
{
    struct rig_cmd *cmd = of(nvme);
    uint32_t first = len_bytes / 3;

    assert_int_equal(cmd->map_count++, 0);
    assert_true(len_bytes > 0 && len_bytes <= LIMIT_TRANSFER_BYTES);
    rig.map_len_bytes = len_bytes;
    rig.map_dir = nvme->blk.dir;
    if (rig.map_fail_after != 0 && --rig.map_fail_after == 0) {
        return rig.map_status;
    }
    cmd->segs[0] = (struct mem_seg){.bus_addr = (uintptr_t)rig.data, .len_bytes = first};
    cmd->segs[1] =
        (struct mem_seg){.bus_addr = (uintptr_t)rig.data + first, .len_bytes = len_bytes - first};
    nvme->blk.data = (struct mem_ref){
        .segs = cmd->segs, .len_bytes = len_bytes, .seg_count = 2, .space = MEM_SPACE_HOST};
    return NVME_SC_SUCCESS;
}

static void rig_complete(struct nvme_cmd *nvme)
{
    of(nvme)->completions++;
}

static void rig_queue_op(struct nvme_cmd *nvme)
{
    rig.transport_op_count++;
    if (!rig.ops_answer_later) {
        nvme_admin_done(nvme, rig.op_status, 0);
    }
}

static void rig_abort(struct nvme_cmd *nvme, uint16_t sq_id, uint16_t cid)
{
    rig.abort_sq_id = sq_id;
    rig.abort_cid = cid;
    rig_queue_op(nvme);
}

static void rig_feature_changed(struct nvme_ctrl *ctrl, uint8_t fid, uint32_t cdw11)
{
    (void)ctrl;
    (void)cdw11;
    rig.feature_changed_count++;
    rig.feature_changed_fid = fid;
}

static void rig_fatal(struct nvme_ctrl *ctrl)
{
    assert_ptr_equal(ctrl, rig.ctrl);
    rig.fatal_count++;
}

const struct nvme_transport_ops rig_ops = {
    .map = rig_map,
    .complete = rig_complete,
    .create_cq = rig_queue_op,
    .create_sq = rig_queue_op,
    .delete_cq = rig_queue_op,
    .delete_sq = rig_queue_op,
    .doorbell_buffers = rig_queue_op,
    .abort = rig_abort,
    .feature_changed = rig_feature_changed,
    .fatal = rig_fatal,
};

/* --- devices -------------------------------------------------------------------------------- */

static struct rig_dev *dev_of(struct blk_dev *dev)
{
    return CONTAINER_OF(dev, struct rig_dev, dev);
}

static void dev_submit(struct blk_dev *blk, struct blk_req *req)
{
    struct rig_dev *dev = dev_of(blk);

    if (dev->request_count < sizeof(dev->opcodes)) {
        dev->opcodes[dev->request_count] = req->cmd.opcode;
    }
    dev->request_count++;
    dev->last = req->cmd;
    dev->last_data = req->data;
    if (req->data.space != MEM_SPACE_NONE) {
        mem_ref_read(&req->data, 0, dev->last_bytes, sizeof(dev->last_bytes));
    }
    if (dev->fail_after != 0 && --dev->fail_after == 0) {
        blk_complete(req, dev->fail_status);
        return;
    }
    if (dev->hold) {
        list_push_back(&dev->held, &req->link);
        return;
    }
    blk_complete(req, NVME_SC_SUCCESS);
}

static void dev_cancel(struct blk_dev *blk, struct blk_req *req)
{
    if (!dev_of(blk)->ignores_cancel) {
        list_remove(&req->link);
        blk_complete(req, NVME_SC_ABORT_REQUESTED);
    }
}

static const struct blk_ops dev_ops = {.submit = dev_submit, .cancel = dev_cancel};

void rig_dev_init(struct rig_dev *dev, uint32_t features)
{
    *dev = (struct rig_dev){
        .dev = {
            .ops = &dev_ops,
            .name = "rig",
            .geometry = {.lba_count = 1000, .features = features, .lba_shift = 9, .known = true}}};
    list_init(&dev->held);
}

struct rig_dev *rig_attach_with(uint32_t index, uint32_t nsid, uint32_t features)
{
    struct rig_dev *dev = &rig.devs[index];

    rig_dev_init(dev, features);
    assert_int_equal(nvme_ns_attach(rig.ctrl, nsid, &dev->dev), STATUS_OK);
    return dev;
}

struct rig_dev *rig_attach(uint32_t index, uint32_t nsid)
{
    return rig_attach_with(index, nsid, ALL_FEATURES);
}

void rig_dev_release(struct rig_dev *dev, nvme_status_t status)
{
    uint32_t count = rig_dev_held(dev);

    for (uint32_t i = 0; i < count; i++) {
        struct list *node = list_pop_front(&dev->held);
        blk_complete(LIST_ENTRY(node, struct blk_req, link), status);
    }
}

uint32_t rig_dev_held(const struct rig_dev *dev)
{
    uint32_t count = 0;

    for (const struct list *node = dev->held.next; node != &dev->held; node = node->next) {
        count++;
    }
    return count;
}

/* --- the bench ------------------------------------------------------------------------------ */

void rig_restart(void)
{
    assert_int_equal(nvme_ctrl_init(&memory, &rig.config, &rig.ctrl), STATUS_OK);
    nvme_ctrl_enable(rig.ctrl);
}

int rig_setup(void **state)
{
    (void)state;
    native_clock_set(1000 * NS_PER_S);
    native_cpu_become(0);
    sched_init(1, SCHED_IDLE_POLL);
    memset(&rig, 0, sizeof(rig));
    rig.config = (struct nvme_ctrl_config){
        .ops = &rig_ops,
        .transport = &rig,
        .serial = "S123",
        .model = "rig model",
        .firmware = "1.0",
        .subnqn = "nqn.2026-11.org.snic:rig",
        .pci_vendor_id = 0x1b36,
        .pci_subsystem_vendor_id = 0x1af4,
        .ieee_oui = {1, 2, 3},
        .cntlid = 7,
        .fn = 2,
        .io_queue_count = 8,
        .vector_count = 9,
        .mdts = 5,
        .doorbell_buffers = true,
        .keep_alive = true,
    };
    rig.map_status = NVME_SC_DATA_TRANSFER_ERROR;
    rig_restart();
    sched_turn();
    return 0;
}

int rig_teardown(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < rig.cmds_used; i++) {
        const struct rig_cmd *cmd = &rig.cmds[i];
        bool waits = cmd->nvme.step == NVME_STEP_EVENT;
        assert_int_equal(cmd->completions, waits ? 0 : 1);
    }
    for (uint32_t nsid = 1; nsid <= rig.ctrl->ns_count; nsid++) {
        assert_int_equal(rig_in_flight(nsid), 0);
    }
    for (uint32_t c = 0; c < LIMIT_CORES; c++) {
        assert_int_equal(rig_dsm_buffers_free(c), NVME_DSM_BUFFERS);
        assert_true(list_is_empty(&rig.ctrl->core[c].waiting));
    }
    nvme_ctrl_disable(rig.ctrl);
    rig_turns(4);
    return 0;
}

uint64_t rig_in_flight(uint32_t nsid)
{
    uint64_t sum = 0;

    for (uint32_t c = 0; c < LIMIT_CORES; c++) {
        sum += counter_get(&rig.ctrl->ns[nsid - 1].core[c].in_flight);
    }
    return sum;
}

uint32_t rig_dsm_buffers_free(uint32_t core)
{
    return (uint32_t)__builtin_popcount(rig.ctrl->core[core].dsm_free);
}

struct rig_cmd *rig_cmd_new(const struct nvme_sqe *sqe)
{
    struct rig_cmd *cmd = NULL;

    /* A free place: unused, or of a command that is done. */
    for (uint32_t i = 0; i < RIG_CMDS && cmd == NULL; i++) {
        if (i == rig.cmds_used) {
            rig.cmds_used++;
            cmd = &rig.cmds[i];
        }
    }
    for (uint32_t i = 0; i < RIG_CMDS && cmd == NULL; i++) {
        if (rig.cmds[i].completions == 1 && i % 4 == 3) {
            cmd = &rig.cmds[i]; /* every fourth is used again; tests look at results at once */
        }
    }
    assert_non_null(cmd);
    memset(cmd, 0xa5, sizeof(*cmd)); /* the core sets what it reads */
    cmd->map_count = 0;
    cmd->completions = 0;
    cmd->nvme.blk.cmd = *sqe;
    cmd->nvme.ctrl = rig.ctrl;
    cmd->nvme.cid = 0x1234;
    cmd->nvme.blk.owner_core = 0;
    cmd->nvme.blk.fn = rig.config.fn;
    cmd->nvme.start_ns = clock_now_ns();
    return cmd;
}

struct rig_cmd *rig_admin(struct nvme_sqe sqe)
{
    struct rig_cmd *cmd = rig_cmd_new(&sqe);

    cmd->nvme.sq_id = 0;
    nvme_submit_admin(&cmd->nvme);
    return cmd;
}

struct rig_cmd *rig_io(struct nvme_sqe sqe)
{
    struct rig_cmd *cmd = rig_cmd_new(&sqe);

    cmd->nvme.sq_id = 1;
    nvme_submit_io(&cmd->nvme);
    return cmd;
}

struct nvme_sqe rig_rw(uint8_t opcode, uint32_t nsid, uint64_t slba, uint32_t lba_count)
{
    return (struct nvme_sqe){.opcode = opcode,
                             .nsid = nsid,
                             .cdw10 = (uint32_t)slba,
                             .cdw11 = (uint32_t)(slba >> 32),
                             .cdw12 = (lba_count - 1) & 0xffff};
}

void rig_turns(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        sched_turn();
    }
}

void rig_detached(void *arg)
{
    assert_ptr_equal(arg, &rig);
    rig.detached_count++;
}

void rig_shutdown_done(void *arg)
{
    assert_ptr_equal(arg, &rig);
    rig.shutdown_count++;
}

void *rig_log_page(uint8_t lid, uint32_t len_bytes, bool rae)
{
    memset(rig.data, 0xee, len_bytes);
    struct rig_cmd *cmd = rig_admin((struct nvme_sqe){
        .opcode = NVME_ADMIN_GET_LOG_PAGE,
        .nsid = NVME_NSID_ALL,
        .cdw10 = lid | (rae ? NVME_LOG_RAE : 0) | (len_bytes / 4 - 1) << NVME_LOG_NUMDL_SHIFT});
    assert_ended(cmd, NVME_SC_SUCCESS);
    return rig.data;
}

struct nvme_error_entry rig_last_error(void)
{
    struct nvme_error_entry entry;

    memcpy(&entry, rig_log_page(NVME_LOG_ERROR, sizeof(entry), true), sizeof(entry));
    return entry;
}
