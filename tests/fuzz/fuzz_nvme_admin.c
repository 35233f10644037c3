/*
 * Bytes -> a history of the NVMe controller core: admin and I/O commands, devices that answer late
 * or badly, namespaces that come and go, resets, shutdowns, time.
 *
 * Found here: crashes, sanitizer reports, a command that ends twice or never, a data pointer mapped
 * twice, a device that gets what its geometry does not allow, or anything after its detach.
 * Input: a row of steps, each one opcode byte and its arguments; see enum step.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/bits.h"
#include "hal/clock.h"
#include "hal/native/native.h"
#include "nvme/nvme.h"
#include "spec/nvme_log.h"
#include "tests/fuzz/nvme_dev.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum step {
    STEP_ADMIN,   /* an admin command */
    STEP_IO,      /* an I/O command */
    STEP_IO_RW,   /* one that is likely to be right */
    STEP_CANCEL,  /* which */
    STEP_RELEASE, /* device, status: it answers what it holds */
    STEP_DEVICE,  /* device, how it behaves from now on */
    STEP_ATTACH,  /* device, namespace, geometry */
    STEP_DETACH,  /* namespace */
    STEP_CHANGE,  /* device, its new geometry */
    STEP_MAP,     /* the n-th map fails */
    STEP_EVENT,   /* an asynchronous event */
    STEP_TIME,    /* passes */
    STEP_RESET,
    STEP_SHUTDOWN,
    STEP_FIRMWARE, /* a commit ends */
    STEP_COUNT,
};

#define STEPS_MAX 300
#define CMDS      64
#define DEVS      4
#define NSIDS     8

struct fuzz_cmd {
    struct nvme_cmd nvme;
    struct mem_seg segs[2];
    bool used;
    bool mapped;
    bool at_transport; /* a transport op has it */
    bool is_aer;
    bool is_commit; /* Firmware Commit */
};

static struct {
    struct nvme_ctrl_memory memory;
    struct nvme_ctrl *ctrl;
    struct fuzz_cmd cmds[CMDS];
    struct fuzz_dev devs[DEVS];
    uint8_t data[LIMIT_TRANSFER_BYTES];
    uint32_t map_fail_after;
    void (*commit_done)(void *arg, enum status status); /* NULL: none is under way */
    void *commit_arg;
    struct input in;
} t;

/* --- transport ------------------------------------------------------------------------------ */

static struct fuzz_cmd *of(struct nvme_cmd *nvme)
{
    return CONTAINER_OF(nvme, struct fuzz_cmd, nvme);
}

static nvme_status_t map(struct nvme_cmd *nvme, uint32_t len_bytes)
{
    struct fuzz_cmd *cmd = of(nvme);

    CHECK(cmd->used && !cmd->mapped);
    CHECK(len_bytes != 0 && len_bytes <= LIMIT_TRANSFER_BYTES);
    CHECK(nvme->blk.dir == NVME_DIR_TO_CONTROLLER || nvme->blk.dir == NVME_DIR_FROM_CONTROLLER);
    cmd->mapped = true;
    if (t.map_fail_after != 0 && --t.map_fail_after == 0) {
        return NVME_SC_INVALID_PRP_OFFSET | NVME_STATUS_DNR;
    }
    uint32_t first = len_bytes / 2;
    cmd->segs[0] = (struct mem_seg){.bus_addr = (uintptr_t)t.data, .len_bytes = first};
    cmd->segs[1] =
        (struct mem_seg){.bus_addr = (uintptr_t)t.data + first, .len_bytes = len_bytes - first};
    nvme->blk.data = (struct mem_ref){
        .segs = cmd->segs, .len_bytes = len_bytes, .seg_count = 2, .space = MEM_SPACE_HOST};
    return NVME_SC_SUCCESS;
}

static void complete(struct nvme_cmd *nvme)
{
    struct fuzz_cmd *cmd = of(nvme);

    CHECK(cmd->used);
    memset(cmd, 0x5a, sizeof(*cmd)); /* it is the transport's again */
    cmd->used = false;
}

static void transport_op(struct nvme_cmd *nvme)
{
    uint8_t how = take8(&t.in);

    if ((how & 1) != 0) {
        of(nvme)->at_transport = true;
        return;
    }
    nvme_admin_done(nvme, (how & 2) != 0 ? NVME_SC_INVALID_QUEUE_ID : NVME_SC_SUCCESS, how);
}

static void transport_abort(struct nvme_cmd *nvme, uint16_t sq_id, uint16_t cid)
{
    (void)sq_id;
    struct fuzz_cmd *target = &t.cmds[cid % CMDS];

    if (target->used && !target->at_transport && &target->nvme != nvme) {
        nvme_cancel(&target->nvme);
    }
    transport_op(nvme);
}

static void feature_changed(struct nvme_ctrl *ctrl, uint8_t fid, uint32_t cdw11)
{
    (void)nvme_ctrl_feature(ctrl, fid, cdw11);
}

static void fatal(struct nvme_ctrl *ctrl)
{
    CHECK(ctrl == t.ctrl);
}

static const struct nvme_transport_ops ops = {
    .map = map,
    .complete = complete,
    .create_cq = transport_op,
    .create_sq = transport_op,
    .delete_cq = transport_op,
    .delete_sq = transport_op,
    .doorbell_buffers = transport_op,
    .host_memory = transport_op,
    .abort = transport_abort,
    .feature_changed = feature_changed,
    .fatal = fatal,
};

/* --- firmware --------------------------------------------------------------------------------- */

static enum status firmware_receive(void *ctx, uint32_t offset_bytes, const struct mem_ref *data)
{
    uint8_t how = take8(&t.in);

    CHECK(ctx == &t && offset_bytes % 4096 == 0 && data->space == MEM_SPACE_HOST);
    CHECK(range_fits(offset_bytes, data->len_bytes, LIMIT_FIRMWARE_BYTES));
    return how < 240 ? STATUS_OK : (enum status)(how & 15);
}

static enum status firmware_commit(void *ctx, uint32_t what, uint8_t slot,
                                   void (*done)(void *arg, enum status status), void *arg)
{
    uint8_t how = take8(&t.in);

    CHECK(ctx == &t && what >= 1 && what <= 3 && slot <= 2);
    if (t.commit_done != NULL) {
        return STATUS_AGAIN;
    }
    if (how >= 192) {
        return (enum status)(1 + how % 11);
    }
    t.commit_done = done;
    t.commit_arg = arg;
    return STATUS_OK;
}

static void firmware_end(enum status status)
{
    void (*done)(void *arg, enum status status) = t.commit_done;

    t.commit_done = NULL;
    if (done != NULL) {
        done(t.commit_arg, status);
    }
}

static void firmware_report(void *ctx, struct nvme_firmware_report *report)
{
    CHECK(ctx == &t);
    report->active = 1 + (take8(&t.in) & 1);
    report->next = take8(&t.in) & 3;
    report->load_failed = (report->next & 1) != 0;
}

static void firmware_disabled(void *ctx)
{
    CHECK(ctx == &t);
}

static const struct nvme_firmware_ops firmware_ops = {
    .slot_count = 2,
    .receive = firmware_receive,
    .commit = firmware_commit,
    .report = firmware_report,
    .disabled = firmware_disabled,
};

/* --- steps ------------------------------------------------------------------------------------ */

static struct fuzz_cmd *cmd_new(void)
{
    for (uint32_t i = 0; i < CMDS; i++) {
        struct fuzz_cmd *cmd = &t.cmds[i];
        if (!cmd->used) {
            memset(cmd, 0xa5, sizeof(*cmd));
            cmd->used = true;
            cmd->mapped = false;
            cmd->at_transport = false;
            cmd->is_aer = false;
            cmd->is_commit = false;
            cmd->nvme.ctrl = t.ctrl;
            cmd->nvme.cid = (uint16_t)i;
            cmd->nvme.blk.owner_core = 0;
            cmd->nvme.blk.fn = 0;
            memset(&cmd->nvme.blk.cmd, 0, sizeof(cmd->nvme.blk.cmd));
            return cmd;
        }
    }
    return NULL;
}

static uint32_t take_nsid(void)
{
    static const uint32_t nsids[] = {0, 1, 2, 3, NSIDS, NSIDS + 1, 0xfffffffe, NVME_NSID_ALL};
    return nsids[take8(&t.in) % ARRAY_SIZE(nsids)];
}

static void step_command(bool admin, bool plain)
{
    struct fuzz_cmd *cmd = cmd_new();
    if (cmd == NULL) {
        return;
    }
    struct nvme_sqe *sqe = &cmd->nvme.blk.cmd;
    sqe->opcode = plain ? NVME_IO_WRITE + (take8(&t.in) & 1) : take8(&t.in);
    sqe->flags = plain ? 0 : take8(&t.in);
    sqe->nsid = take_nsid();
    sqe->cdw10 = plain ? take8(&t.in) : take32(&t.in);
    sqe->cdw11 = plain ? 0 : take32(&t.in);
    sqe->cdw12 = plain ? take8(&t.in) & 7 : take32(&t.in);
    sqe->cdw13 = plain ? 0 : take8(&t.in);
    cmd->nvme.sq_id = admin ? 0 : 1;
    cmd->is_aer = admin && sqe->opcode == NVME_ADMIN_ASYNC_EVENT;
    cmd->is_commit = admin && sqe->opcode == NVME_ADMIN_FIRMWARE_COMMIT;
    if (admin) {
        nvme_submit_admin(&cmd->nvme);
    } else {
        nvme_submit_io(&cmd->nvme);
    }
}

/* As the transport does it: everything but AERs has ended before. */
static void quiesce(void)
{
    for (uint32_t i = 0; i < DEVS; i++) {
        t.devs[i].hold = false;
    }
    for (uint32_t i = 0; i < CMDS; i++) {
        struct fuzz_cmd *cmd = &t.cmds[i];
        if (cmd->used && cmd->at_transport) {
            nvme_admin_done(&cmd->nvme, NVME_SC_ABORT_SQ_DELETION, 0);
        } else if (cmd->used && cmd->is_commit) {
            nvme_cancel(&cmd->nvme); /* what it asked for goes on */
        }
    }
    for (uint32_t i = 0; i < DEVS; i++) {
        fuzz_dev_release(&t.devs[i], NVME_SC_ABORT_REQUESTED);
    }
    for (uint32_t i = 0; i < CMDS; i++) {
        CHECK(!t.cmds[i].used || t.cmds[i].is_aer);
    }
}

static void step_reset(void)
{
    quiesce();
    nvme_ctrl_disable(t.ctrl);
    for (uint32_t i = 0; i < CMDS; i++) {
        t.cmds[i].used = false; /* AERs are dropped */
    }
    nvme_ctrl_enable(t.ctrl);
}

static void step_attach(void)
{
    struct fuzz_dev *dev = &t.devs[take8(&t.in) % DEVS];
    uint32_t nsid = take_nsid();

    if (!dev->attached) {
        fuzz_geometry_take(&dev->dev.geometry, &t.in);
        dev->attached = nvme_ns_attach(t.ctrl, nsid, &dev->dev) == STATUS_OK;
        dev->nsid = nsid;
    }
}

/* Under way already: EXISTS. */
static void dev_detach(struct fuzz_dev *dev)
{
    if (dev->attached) {
        enum status status = nvme_ns_detach(t.ctrl, dev->nsid, fuzz_dev_detached, dev);
        CHECK(status == STATUS_OK || status == STATUS_EXISTS);
    }
}

/* The contract: a device changes its geometry only when it has no request that relies on it. */
static void step_change(void)
{
    struct fuzz_dev *dev = &t.devs[take8(&t.in) % DEVS];

    if (!dev->attached || !list_is_empty(&dev->held)) {
        return;
    }
    fuzz_geometry_take(&dev->dev.geometry, &t.in);
    if (dev->dev.changed != NULL) {
        dev->dev.changed(&dev->dev, dev->dev.changed_ctx);
    }
}

static void step_cancel(void)
{
    struct fuzz_cmd *cmd = &t.cmds[take8(&t.in) % CMDS];

    if (!cmd->used) {
        return;
    }
    if (cmd->at_transport) {
        cmd->at_transport = false;
        nvme_admin_done(&cmd->nvme, NVME_SC_ABORT_REQUESTED, 0);
        return;
    }
    nvme_cancel(&cmd->nvme);
}

static void shutdown_done(void *arg)
{
    CHECK(arg == &t);
}

static void run_step(enum step step)
{
    struct fuzz_dev *dev = &t.devs[0];

    switch (step) {
    case STEP_ADMIN:
    case STEP_IO:
        step_command(step == STEP_ADMIN, false);
        break;
    case STEP_IO_RW:
        step_command(false, true);
        break;
    case STEP_CANCEL:
        step_cancel();
        break;
    case STEP_RELEASE:
        dev = &t.devs[take8(&t.in) % DEVS];
        fuzz_dev_release(dev, (take8(&t.in) & 1) != 0 ? NVME_SC_INTERNAL_ERROR : NVME_SC_SUCCESS);
        break;
    case STEP_DEVICE:
        dev = &t.devs[take8(&t.in) % DEVS];
        dev->hold = (take8(&t.in) & 1) != 0;
        dev->deaf = (take8(&t.in) & 1) != 0;
        dev->fail_every = take8(&t.in) % 4;
        break;
    case STEP_ATTACH:
        step_attach();
        break;
    case STEP_DETACH:
        dev_detach(&t.devs[take8(&t.in) % DEVS]);
        break;
    case STEP_CHANGE:
        step_change();
        break;
    case STEP_MAP:
        t.map_fail_after = take8(&t.in) % 4;
        break;
    case STEP_EVENT:
        nvme_ctrl_event(t.ctrl, take8(&t.in) % 3, take8(&t.in) % 3,
                        (uint8_t)(NVME_LOG_ERROR + take8(&t.in) % 5));
        break;
    case STEP_TIME:
        native_clock_advance((uint64_t)take8(&t.in) * 50 * NS_PER_MS);
        (void)sched_turn();
        break;
    case STEP_RESET:
        step_reset();
        break;
    case STEP_SHUTDOWN:
        nvme_ctrl_shutdown(t.ctrl, shutdown_done, &t);
        break;
    case STEP_FIRMWARE:
        firmware_end((enum status)(take8(&t.in) % 12));
        break;
    case STEP_COUNT:
        break;
    }
}

static void start(uint8_t how)
{
    struct nvme_ctrl_config config = {
        .ops = &ops,
        .transport = &t,
        .serial = "F",
        .model = "fuzz",
        .firmware = "1",
        .subnqn = "nqn.2026-11.org.snic:fuzz",
        .io_queue_count = 4,
        .vector_count = 5,
        .namespace_count = NSIDS,
        .mdts = (uint8_t)(1 + how % LIMIT_MDTS),
        .doorbell_buffers = (how & 0x10) != 0,
        .sgl = (how & 0x20) != 0,
        .keep_alive = (how & 0x40) != 0,
        .hmb_preferred_bytes = (how & 0x40) != 0 ? 65536 : 0,
        .host_id = {(how & 0x80) != 0},
        .firmware_ops = (how & 0x08) != 0 ? &firmware_ops : NULL,
        .firmware_ctx = &t,
    };
    native_clock_set(NS_PER_S);
    sched_init(1, SCHED_IDLE_POLL);
    memset(t.cmds, 0, sizeof(t.cmds));
    t.map_fail_after = 0;
    t.commit_done = NULL;
    for (uint32_t i = 0; i < DEVS; i++) {
        fuzz_dev_init(&t.devs[i]);
    }
    CHECK(nvme_ctrl_init(&t.memory, &config, &t.ctrl) == STATUS_OK);
    nvme_ctrl_enable(t.ctrl);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    t.in = (struct input){.at = data, .end = data + size};
    memset(t.data, 0, 4096);
    memcpy(t.data, data, min_u64(size, 4096)); /* what data pointers lead to */
    start(take8(&t.in));
    for (uint32_t i = 0; i < STEPS_MAX && t.in.at < t.in.end; i++) {
        run_step((enum step)(take8(&t.in) % STEP_COUNT));
        (void)sched_turn();
    }
    step_reset();
    firmware_end(STATUS_OK);
    for (uint32_t i = 0; i < DEVS; i++) {
        dev_detach(&t.devs[i]);
    }
    for (uint32_t i = 0; i < 8; i++) {
        native_clock_advance(2 * NS_PER_MS);
        (void)sched_turn();
    }
    for (uint32_t i = 0; i < DEVS; i++) {
        CHECK(!t.devs[i].attached);
        CHECK(list_is_empty(&t.devs[i].held));
    }
    return 0;
}
