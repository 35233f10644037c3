/*
 * The end of a queue: its queue pair goes to error, commands end once their keys are quiet, the
 * connection is taken down, the queue pair destroyed; in as many turns as the device needs.
 */
#include "nvmf_host/queue_priv.h"

void nvmf_queue_close(struct nvmf_queue *queue, uint64_t quiet_ns)
{
    ASSERT(queue->state != NVMF_QUEUE_CLOSED && queue->state != NVMF_QUEUE_CLOSING);
    queue->state = NVMF_QUEUE_CLOSING;
    queue->inner->quiet_ns = quiet_ns;
    queue->inner->event = NVMF_EVENT_NONE;
    nvmf_queue_work(queue);
}

/* From here on nothing is received, and what was posted is flushed. */
static void tear(struct nvmf_queue *queue)
{
    struct nvmf_queue_inner *inner = queue->inner;

    nvmf_queue_stop(queue);
    if (inner->id != NULL) {
        rdma_cm_destroy(inner->id);
        inner->id = NULL;
    }
    nvmf_io_end_waiting(queue);
}

static void end_cmd(struct nvmf_queue *queue, struct nvmf_tag *tag)
{
    if (tag->state == NVMF_TAG_SENT && tag->cmd != NULL) {
        tag->cmd->is_path_error = true;
    }
    nvmf_cmd_finish(queue, tag);
}

/* Commands whose response is there end with it, the others never got one. */
static void end_tags(struct nvmf_queue *queue)
{
    struct nvmf_queue_inner *inner = queue->inner;

    for (uint32_t i = 0; i < inner->tag_count && queue->in_flight > 0; i++) {
        struct nvmf_tag *tag = &inner->tags[i];
        if (tag->state == NVMF_TAG_FREE) {
            continue;
        }
        if (tag->key != NULL) {
            rdma_key_invalidate(tag->key);
            if (!rdma_key_is_quiet(tag->key)) {
                continue;
            }
        }
        list_remove(&inner->more[i].link);
        if ((tag->flags & NVMF_TAG_CMD) != 0) {
            end_cmd(queue, tag);
        } else if (tag->state == NVMF_TAG_DONE) {
            nvmf_io_finish(queue, tag);
        } else {
            nvmf_io_end_tag(queue, tag);
        }
    }
}

static bool destroy_qp(struct nvmf_queue *queue)
{
    struct nvmf_queue_inner *inner = queue->inner;

    if (inner->qp == NULL) {
        return true;
    }
    if (rdma_qp_destroy(inner->qp) != STATUS_OK) {
        return false;
    }
    inner->qp = NULL;
    queue->core->cqe_left += inner->cqe_count;
    return true;
}

bool nvmf_queue_close_step(struct nvmf_queue *queue)
{
    struct nvmf_queue_inner *inner = queue->inner;
    struct nvmf_core *core = queue->core;

    if (!inner->is_torn) {
        inner->is_torn = true;
        tear(queue);
        end_tags(queue);
        return true;
    }
    end_tags(queue);
    /* A receive that it took must have come back before its completions are thrown away. */
    if (queue->in_flight > 0 || !core->is_drained || !destroy_qp(queue)) {
        return true;
    }
    if (inner->hello != NULL) {
        pool_put(&core->hellos, inner->hello);
        inner->hello = NULL;
    }
    if (queue->is_on_host) {
        queue->is_on_host = false;
        nvmf_host_area_put(inner->domain);
    }
    if (inner->domain != NULL) {
        nvmf_domain_put(inner->domain);
        inner->domain = NULL;
    }
    if (core->stage_claim == queue) {
        core->stage_claim = NULL;
    }
    list_remove(&inner->hungry_link);
    list_remove(&inner->link);
    queue->state = NVMF_QUEUE_CLOSED;
    queue->ops->closed(queue);
    return false;
}
