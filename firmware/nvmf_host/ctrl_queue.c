/*
 * Between an association (core 0) and its queues (each on its own core): orders go there by
 * message, reports come back by message, and each side touches only what is its own at that moment
 * (ctrl_priv.h says whose). The admin queue goes the same way, though its core is 0.
 *
 * Between the end of the routes and the close of a queue every core comes by once: whoever read a
 * route before has then submitted, or sent its request on, ahead of the order to close.
 */
#include "base/assert.h"
#include "base/shm.h"
#include "nvmf_host/ctrl_priv.h"

static struct nvmf_link *link_of(struct nvmf_queue *queue)
{
    return CONTAINER_OF(queue, struct nvmf_link, queue);
}

/* --- queue's core: what the queue says ------------------------------------------------------ */

static void on_opened(struct nvmf_queue *queue, enum nvmf_fail fail, uint32_t code)
{
    struct nvmf_link *link = link_of(queue);

    link->opened_fail = (uint8_t)fail;
    link->opened_code = code;
    msg_send(0, &link->opened_msg);
}

static void on_broken(struct nvmf_queue *queue, enum nvmf_fail fail, uint32_t code)
{
    struct nvmf_link *link = link_of(queue);

    if (link->is_broken || !link->is_up) {
        return;
    }
    link->is_broken = true;
    link->broken_fail = (uint8_t)fail;
    link->broken_code = code;
    msg_send(0, &link->broken_msg);
}

static void tell_closed(struct nvmf_link *link)
{
    if (link->is_over && !link->abort_is_away) {
        link->is_over = false;
        msg_send(0, &link->closed_msg);
    }
}

static void on_closed(struct nvmf_queue *queue)
{
    struct nvmf_link *link = link_of(queue);

    link->is_over = true;
    tell_closed(link);
}

/* --- aborts: there and back ----------------------------------------------------------------- */

static void send_abort(struct nvmf_link *link)
{
    if (link->abort_is_away || link->abort_head == link->abort_tail) {
        return;
    }
    link->abort_is_away = true;
    link->abort_cid = link->abort_cids[link->abort_head++ % LIMIT_NVMF_QUEUE_ENTRIES];
    msg_send(0, &link->abort_msg);
}

static void on_abort(struct nvmf_queue *queue, uint16_t cid)
{
    struct nvmf_link *link = link_of(queue);

    /* One for each entry is as many as there can be; what is too much ends by its deadline. */
    if (link->is_up && link->abort_tail - link->abort_head < LIMIT_NVMF_QUEUE_ENTRIES) {
        link->abort_cids[link->abort_tail++ % LIMIT_NVMF_QUEUE_ENTRIES] = cid;
        counter_add(&link->ctrl->shared.core[link->core].aborts, 1);
        send_abort(link);
    }
}

static void abort_leaves(struct msg *msg);

/* Queue's core. */
static void abort_comes_home(struct msg *msg)
{
    struct nvmf_link *link = CONTAINER_OF(msg, struct nvmf_link, abort_msg);

    link->abort_is_away = false;
    link->abort_msg.fn = abort_leaves;
    if (link->is_up) {
        nvmf_queue_abort_done(&link->queue, link->abort_cid, link->abort_helped);
        send_abort(link);
    }
    tell_closed(link);
}

static void send_abort_home(struct nvmf_link *link, bool helped)
{
    link->abort_helped = helped;
    link->abort_msg.fn = abort_comes_home;
    msg_send(link->core, &link->abort_msg);
}

static void on_abort_done(struct nvmf_cmd *cmd)
{
    struct nvmf_link *link = cmd->ctx;

    link->ctrl->abort_busy--;
    /* dw0 bit 0 (5.1): the command was not aborted. */
    send_abort_home(link, !cmd->is_path_error && NVME_STATUS_CODE(cmd->status) == 0 &&
                              (cmd->cqe.dw0 & 1) == 0);
    nvmf_ctrl_wake(link->ctrl);
}

/* Core 0. */
static void abort_leaves(struct msg *msg)
{
    struct nvmf_link *link = CONTAINER_OF(msg, struct nvmf_link, abort_msg);

    list_push_back(&link->ctrl->aborts, &link->abort_link);
    nvmf_ctrl_wake(link->ctrl);
}

void nvmf_aborts_drop(struct nvmf_ctrl *ctrl)
{
    struct list *node;

    while ((node = list_pop_front(&ctrl->aborts)) != NULL) {
        send_abort_home(LIST_ENTRY(node, struct nvmf_link, abort_link), false);
    }
}

void nvmf_aborts_run(struct nvmf_ctrl *ctrl)
{
    while (ctrl->abort_busy < ctrl->caps.abort_count && !list_is_empty(&ctrl->aborts)) {
        struct nvmf_link *link =
            LIST_ENTRY(list_pop_front(&ctrl->aborts), struct nvmf_link, abort_link);
        ctrl->abort_busy++;
        link->abort_cmd =
            (struct nvmf_cmd){.sqe = {.opcode = NVME_ADMIN_ABORT,
                                      .cdw10 = (uint32_t)link->abort_cid << NVME_ABORT_CID_SHIFT |
                                               link->queue.params.qid},
                              .timeout_ns = ctrl->admin.timeout_ns,
                              .done = on_abort_done,
                              .ctx = link};
        nvmf_queue_exec(ctrl->admin.queue, &link->abort_cmd);
    }
}

/* --- core 0: reports ------------------------------------------------------------------------ */

static void opened(struct msg *msg)
{
    struct nvmf_link *link = CONTAINER_OF(msg, struct nvmf_link, opened_msg);

    if (link->state == NVMF_LINK_OPENING) { /* else it is being closed already */
        link->state = link->opened_fail == NVMF_FAIL_NONE ? NVMF_LINK_OPEN : NVMF_LINK_BROKEN;
        nvmf_ctrl_wake(link->ctrl);
    }
}

static void broken(struct msg *msg)
{
    struct nvmf_link *link = CONTAINER_OF(msg, struct nvmf_link, broken_msg);

    if (link->state == NVMF_LINK_OPENING || link->state == NVMF_LINK_OPEN) {
        link->state = NVMF_LINK_BROKEN;
        nvmf_ctrl_fail(link->ctrl, link->broken_fail, link->broken_code);
    }
}

static void closed(struct msg *msg)
{
    struct nvmf_link *link = CONTAINER_OF(msg, struct nvmf_link, closed_msg);

    link->state = NVMF_LINK_CLOSED;
    nvmf_ctrl_wake(link->ctrl);
}

/* --- core 0: orders ------------------------------------------------------------------------- */

static void open_here(struct msg *msg)
{
    struct nvmf_link *link = CONTAINER_OF(msg, struct nvmf_link, open_msg);

    link->is_up = true;
    link->is_broken = false;
    link->abort_head = 0;
    link->abort_tail = 0;
    nvmf_queue_open(&link->queue);
}

static void close_here(struct msg *msg)
{
    struct nvmf_link *link = CONTAINER_OF(msg, struct nvmf_link, close_msg);

    link->is_up = false;
    nvmf_queue_close(&link->queue, link->quiet_ns);
}

void nvmf_link_open(struct nvmf_link *link)
{
    ASSERT(link->state == NVMF_LINK_CLOSED);
    link->state = NVMF_LINK_OPENING;
    msg_send(link->core, &link->open_msg);
}

void nvmf_link_close(struct nvmf_link *link, uint64_t quiet_ns)
{
    if (link->state == NVMF_LINK_CLOSED || link->state == NVMF_LINK_CLOSING) {
        return;
    }
    link->state = NVMF_LINK_CLOSING;
    link->quiet_ns = quiet_ns;
    msg_send(link->core, &link->close_msg);
}

void nvmf_link_init(struct nvmf_link *link, struct nvmf_ctrl *ctrl, struct nvmf_core *core,
                    void *memory, uint32_t entries_max)
{
    static const struct nvmf_queue_ops ops = {.opened = on_opened,
                                              .lost = on_broken,
                                              .closed = on_closed,
                                              .abort = on_abort,
                                              .stuck = on_broken};

    nvmf_queue_init(&link->queue, core, memory, entries_max, &ops, link);
    link->queue.ctrl = ctrl;
    link->queue.target = &ctrl->target;
    link->ctrl = ctrl;
    link->core = nvmf_core_id(core);
    link->open_msg.fn = open_here;
    link->close_msg.fn = close_here;
    link->opened_msg.fn = opened;
    link->broken_msg.fn = broken;
    link->closed_msg.fn = closed;
    link->abort_msg.fn = abort_leaves;
    list_init(&link->abort_link);
}

/* --- questions ------------------------------------------------------------------------------ */

static void ask_comes_home(struct msg *msg)
{
    struct nvmf_link *link = CONTAINER_OF(msg, struct nvmf_link, ask_msg);
    struct nvmf_ctrl *ctrl = link->ctrl;

    ctrl->had_traffic |= link->had_traffic;
    ctrl->away_count--;
    if (--ctrl->ask_count == 0) {
        nvmf_ctrl_wake(ctrl);
    }
}

/* Queue's core. */
static void ask_here(struct msg *msg)
{
    struct nvmf_link *link = CONTAINER_OF(msg, struct nvmf_link, ask_msg);

    link->had_traffic = link->is_up && nvmf_queue_had_traffic(&link->queue);
    link->ask_msg.fn = ask_comes_home;
    msg_send(0, &link->ask_msg);
}

static void ask(struct nvmf_link *link)
{
    if (link->state == NVMF_LINK_OPEN) {
        link->ctrl->ask_count++;
        link->ctrl->away_count++;
        link->ask_msg.fn = ask_here;
        msg_send(link->core, &link->ask_msg);
    }
}

void nvmf_links_ask(struct nvmf_ctrl *ctrl)
{
    ctrl->had_traffic = false;
    ask(&ctrl->admin_link);
    for (uint32_t i = 0; i < ctrl->link_count; i++) {
        ask(&ctrl->links[i]);
    }
}

uint32_t nvmf_links_in_flight(const struct nvmf_ctrl *ctrl)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < ctrl->link_count; i++) {
        count += shm_load32(&ctrl->links[i].queue.in_flight); /* another core's: a guess */
    }
    return count;
}

/* --- routes --------------------------------------------------------------------------------- */

static struct nvmf_link *open_link_of(struct nvmf_ctrl *ctrl, uint32_t core, uint32_t *turn)
{
    struct nvmf_link *open[LIMIT_CORES];
    uint32_t count = 0;

    for (uint32_t i = 0; i < ctrl->link_count; i++) {
        struct nvmf_link *link = &ctrl->links[i];
        if (link->state != NVMF_LINK_OPEN) {
            continue;
        }
        if (link->core == core) {
            return link;
        }
        open[count++] = link;
    }
    return count != 0 ? open[(*turn)++ % count] : NULL;
}

void nvmf_routes_publish(struct nvmf_ctrl *ctrl)
{
    uint32_t turn = 0;

    for (uint32_t core = 0; core < sched_core_count(); core++) {
        struct nvmf_link *link = open_link_of(ctrl, core, &turn);
        atomic_store_explicit(&ctrl->shared.route[core], link != NULL ? &link->queue : NULL,
                              memory_order_release);
    }
}

static void pass_comes_home(struct msg *msg)
{
    struct nvmf_ctrl *ctrl = CONTAINER_OF(msg, struct nvmf_pass, msg)->ctrl;

    if (--ctrl->away_count == 0) {
        nvmf_ctrl_wake(ctrl);
    }
}

/* Any core. */
static void pass_here(struct msg *msg)
{
    msg->fn = pass_comes_home;
    msg_send(0, msg);
}

void nvmf_routes_clear(struct nvmf_ctrl *ctrl)
{
    for (uint32_t core = 0; core < sched_core_count(); core++) {
        struct nvmf_pass *pass = &ctrl->passes[core];
        atomic_store_explicit(&ctrl->shared.route[core], NULL, memory_order_release);
        pass->ctrl = ctrl;
        pass->msg.fn = pass_here;
        ctrl->away_count++;
        msg_send(core, &pass->msg);
    }
}
