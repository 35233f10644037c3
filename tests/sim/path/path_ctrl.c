/*
 * What a host does with its controller: enables it, makes and deletes queues, resets it in three
 * ways, aborts commands; all of it under load.
 */
#include "tests/sim/path/path.h"

#include <string.h>
#include "spec/nvme_queue.h"

#define READY_NS (15 * NS_PER_S)
#define ADMIN_NS (60 * NS_PER_S)

/* --- admin commands ------------------------------------------------------------------------- */

static struct {
    bool is_done;
    uint16_t cid;
    struct nvme_cqe cqe;
} admin;

static bool admin_is_done(void)
{
    struct nvme_cqe cqe;

    while (!admin.is_done && path_pop(&path.admin, &cqe)) {
        PATH_CHECK(rig_cid(&cqe) == admin.cid, "admin queue: a completion for cid %u, not %u",
                   rig_cid(&cqe), admin.cid);
        admin.cqe = cqe;
        admin.is_done = true;
    }
    return admin.is_done;
}

uint16_t path_admin(const struct nvme_sqe *sqe, uint32_t *dw0)
{
    admin.is_done = false;
    admin.cid = path_push(&path.admin, sqe);
    PATH_CHECK(path_wait(admin_is_done, ADMIN_NS), "admin command %02x never ended", sqe->opcode);
    if (dw0 != NULL) {
        *dw0 = admin.cqe.dw0;
    }
    return rig_status(&admin.cqe);
}

/* --- queues --------------------------------------------------------------------------------- */

static void queue_make(struct rig_queue *queue, uint16_t id)
{
    path_queue_open(queue, id, PATH_DEPTH);
    struct nvme_sqe cq = {.opcode = NVME_ADMIN_CREATE_CQ,
                          .prp1 = queue->cq_addr,
                          .cdw10 = (PATH_DEPTH - 1) << 16 | id,
                          .cdw11 = (uint32_t)id << 16 | NVME_CREATE_CQ_IEN | NVME_CREATE_CQ_PC};
    struct nvme_sqe sq = {.opcode = NVME_ADMIN_CREATE_SQ,
                          .prp1 = queue->sq_addr,
                          .cdw10 = (PATH_DEPTH - 1) << 16 | id,
                          .cdw11 = (uint32_t)id << 16 | NVME_CREATE_SQ_PC};
    PATH_CHECK(path_admin(&cq, NULL) == 0, "Create I/O CQ was refused");
    PATH_CHECK(path_admin(&sq, NULL) == 0, "Create I/O SQ was refused");
}

void path_queue_recreate(void)
{
    struct rig_queue *queue = &path.queues[path_below(path.plan.queue_count)];
    uint16_t id = queue->id;
    struct nvme_sqe sq = {.opcode = NVME_ADMIN_DELETE_SQ, .cdw10 = id};
    struct nvme_sqe cq = {.opcode = NVME_ADMIN_DELETE_CQ, .cdw10 = id};

    path_trace("host: deletes queue %u", id);
    path.delete_count++;
    for (uint32_t i = 0; i < PATH_IOS; i++) {
        path.ios[i].is_aborted |= path.ios[i].in_use && path.ios[i].queue == queue;
    }
    PATH_CHECK(path_admin(&sq, NULL) == 0, "Delete I/O SQ was refused");
    path_host_poll(); /* what was completed before */
    path_ios_end(queue);
    PATH_CHECK(path_admin(&cq, NULL) == 0, "Delete I/O CQ was refused");
    path_queue_close(queue);
    queue_make(queue, id);
}

void path_io_abort(void)
{
    struct path_io *io = path_io_any();

    if (io == NULL) {
        return;
    }
    io->is_aborted = true;
    path_trace("host: aborts queue %u cid %u", io->queue->id, io->cid);
    path.abort_count++;
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_ABORT,
                           .cdw10 = (uint32_t)io->cid << NVME_ABORT_CID_SHIFT | io->queue->id};
    uint16_t status = path_admin(&sqe, NULL);
    PATH_CHECK(status == 0, "Abort: status %x", status);
}

/* --- enable and reset ----------------------------------------------------------------------- */

static bool is_ready(void)
{
    return rig_csts() == NVME_CSTS_RDY;
}

static bool is_off(void)
{
    return (rig_csts() & NVME_CSTS_RDY) == 0;
}

static bool is_shut_down(void)
{
    return FIELD_GET(NVME_CSTS_SHST, rig_csts()) == NVME_SHST_COMPLETE;
}

static uint32_t acks_before;

static bool is_acked(void)
{
    return rig.ack_count != acks_before && rig.last_ack.type == PCIE_EP_EVENT_RESET;
}

void path_ctrl_enable(void)
{
    struct rig_queue *q = &path.admin;

    path_queue_open(q, 0, PATH_DEPTH);
    rig_write32(NVME_REG_AQA, (PATH_DEPTH - 1) << 16 | (PATH_DEPTH - 1));
    rig_write64(NVME_REG_ASQ, q->sq_addr);
    rig_write64(NVME_REG_ACQ, q->cq_addr);
    rig_write32(NVME_REG_CC, RIG_CC);
    PATH_CHECK(path_wait(is_ready, READY_NS), "CSTS.RDY never came: %x", rig_csts());
    for (uint16_t i = 0; i < path.plan.queue_count; i++) {
        queue_make(&path.queues[i], (uint16_t)(i + 1));
    }
    path.is_up = true;
}

static void function_reset(void)
{
    acks_before = rig.ack_count;
    rig_event(PCIE_EP_EVENT_RESET, 0, true);
    uint64_t start_ns = clock_now_ns();
    PATH_CHECK(path_wait(is_acked, 10 * NS_PER_S), "the function reset was never acknowledged");
    PATH_CHECK(clock_now_ns() - start_ns <= NS_PER_S, "the function reset took %llu ms",
               (unsigned long long)((clock_now_ns() - start_ns) / NS_PER_MS));
}

void path_ctrl_reset(void)
{
    uint64_t how = path_below(3);

    path_trace("host: resets its controller (%llu), %u commands under way", (unsigned long long)how,
               path.live_count);
    path.reset_count++;
    path.is_up = false;
    for (uint32_t i = 0; i < PATH_IOS; i++) {
        path.ios[i].is_aborted |= path.ios[i].in_use;
    }
    if (how == 2) {
        function_reset();
    } else {
        if (how == 1) {
            rig_write32(NVME_REG_CC, RIG_CC | 1u << NVME_CC_SHN_SHIFT);
            PATH_CHECK(path_wait(is_shut_down, 40 * NS_PER_S), "CSTS.SHST was never complete");
        }
        rig_write32(NVME_REG_CC, RIG_CC & ~NVME_CC_EN);
        PATH_CHECK(path_wait(is_off, READY_NS), "CSTS.RDY never went");
    }
    path_host_poll(); /* completions that had been posted */
    path_ios_end(NULL);
    for (uint32_t i = 0; i < path.plan.queue_count; i++) {
        path_queue_close(&path.queues[i]);
    }
    path_queue_close(&path.admin);
    path_ctrl_enable();
}
