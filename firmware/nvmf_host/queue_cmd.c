/*
 * Admin and Fabrics commands of a queue: whole SQEs with data in NIC memory, under a key for the
 * time of the command. The key is not the target's to invalidate: an answer to a command that was
 * given up would end the connection.
 */
#include "nvmf_host/queue_priv.h"

void nvmf_cmd_end(struct nvmf_cmd *cmd)
{
    cmd->is_path_error = true;
    cmd->done(cmd);
}

/* The tag goes back, unless only the owner's patience is over. */
void nvmf_cmd_finish(struct nvmf_queue *queue, struct nvmf_tag *tag)
{
    struct nvmf_cmd *cmd = tag->cmd;

    nvmf_tag_give(queue, tag);
    if (cmd != NULL) {
        cmd->done(cmd);
    }
}

static uint32_t access_of(const struct nvmf_cmd *cmd)
{
    return cmd->dir == NVME_DIR_TO_CONTROLLER ? RDMA_ACCESS_REMOTE_READ
                                              : RDMA_ACCESS_REMOTE_WRITE | RDMA_ACCESS_LOCAL_WRITE;
}

bool nvmf_cmd_issue(struct nvmf_queue *queue, struct nvmf_cmd *cmd)
{
    struct nvmf_queue_inner *inner = queue->inner;
    struct rdma_key *key = NULL;
    uint32_t len_bytes = cmd->data != NULL ? cmd->len_bytes : 0;
    uint32_t key_value = 0;

    if (!nvmf_queue_has_room(queue, false)) {
        return false;
    }
    if (len_bytes > 0) {
        struct nvmf_tag_more *more = &inner->more[inner->free_tag];
        key = nvmf_key_get(inner->domain);
        if (key == NULL) {
            return false;
        }
        more->seg = (struct mem_seg){.bus_addr = (uintptr_t)cmd->data, .len_bytes = len_bytes};
        more->ref = (struct mem_ref){
            .segs = &more->seg, .len_bytes = len_bytes, .seg_count = 1, .space = MEM_SPACE_NIC};
        if (!nvmf_key_bind(queue, key, &more->ref, access_of(cmd), &key_value)) {
            nvmf_key_put(inner->domain, key);
            nvmf_cmd_end(cmd);
            return true;
        }
    }
    struct nvmf_tag *tag = nvmf_tag_take(queue);
    tag->cmd = cmd;
    tag->key = key;
    tag->key_value = key_value;
    tag->flags = NVMF_TAG_CMD;
    nvmf_tag_deadline(inner, tag, cmd->deadline_ns);
    struct nvme_sqe *sqe = &queue->core->capsules[tag->slot];
    *sqe = cmd->sqe;
    sqe->cid = tag->cid;
    sqe->flags = FIELD_PREP(NVME_SQE_PSDT, NVME_PSDT_SGL_MPTR);
    sqe->prp1 = 0;
    sqe->prp2 = nvmf_sgl_desc(len_bytes, key_value, NVMF_SGL_KEYED);
    nvmf_tag_post(queue, tag);
    return true;
}

void nvmf_cmd_late(struct nvmf_queue *queue, struct nvmf_tag *tag)
{
    struct nvmf_cmd *cmd = tag->cmd;

    if (tag->key != NULL) {
        rdma_key_invalidate(tag->key);
        if (!rdma_key_is_quiet(tag->key)) {
            return; /* the next scan looks again */
        }
        nvmf_key_put(queue->inner->domain, tag->key);
        tag->key = NULL;
    }
    tag->cmd = NULL;
    tag->deadline_ns = UINT64_MAX;
    if (cmd != NULL) {
        nvmf_cmd_end(cmd);
    }
}

void nvmf_cmd_scan_waiting(struct nvmf_queue *queue, uint64_t now_ns)
{
    LIST_FOR_EACH(node, next, &queue->inner->waiting_cmd)
    {
        struct nvmf_cmd *cmd = LIST_ENTRY(node, struct nvmf_cmd, link);
        if (cmd->deadline_ns <= now_ns) {
            list_remove(node);
            nvmf_cmd_end(cmd);
            return; /* its owner may have changed the list: one for each scan */
        }
    }
}

void nvmf_queue_exec(struct nvmf_queue *queue, struct nvmf_cmd *cmd)
{
    struct nvmf_queue_inner *inner = queue->inner;

    cmd->is_path_error = false;
    cmd->status = 0;
    cmd->deadline_ns = cmd->timeout_ns == 0 ? UINT64_MAX : sched_now_ns() + cmd->timeout_ns;
    if (queue->state != NVMF_QUEUE_OPEN) {
        nvmf_cmd_end(cmd);
    } else if (!list_is_empty(&inner->waiting_cmd) || !nvmf_cmd_issue(queue, cmd)) {
        list_push_back(&inner->waiting_cmd, &cmd->link);
        nvmf_queue_hunger(queue);
    }
}

bool nvmf_queue_had_traffic(struct nvmf_queue *queue)
{
    struct nvmf_queue_inner *inner = queue->inner;
    bool had = inner->posted != inner->traffic_mark;

    inner->traffic_mark = inner->posted;
    return had;
}
