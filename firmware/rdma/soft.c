/*
 * The device of the provider in software: its memory, its poller, its events.
 */
#include "rdma/soft_priv.h"

#include "hal/clock.h"
#include "hal/cpu.h"
#include "rdma/cm_soft.h"

#define REAP_LOOK_NS (50 * NS_PER_US)
#define MSG_BYTES_MAX \
    (UINT32_C(1) << 30) /* in packets of 256 bytes half of what PSNs can tell apart */
#define WR_COUNT_MAX     16384u
#define CQE_COUNT_MAX    65536u
#define QP_COUNT_MAX     16384u
#define REGION_COUNT_MAX 65535u
/* IPv6, UDP, BTH, RETH, immediate data and ICRC: what a packet holds beside its payload. */
#define OVERHEAD_BYTES (40u + 8 + 12 + 16 + 4 + 4)

/* --- names ------------------------------------------------------------------------------------ */

const char *rdma_wc_status_text(enum rdma_wc_status status)
{
    switch (status) {
#define WC_STATUS_TEXT(name, value, text) \
    case RDMA_WC_##name:                  \
        return text;
        RDMA_WC_STATUS_LIST(WC_STATUS_TEXT)
#undef WC_STATUS_TEXT
    default:
        return "unknown status";
    }
}

const char *rdma_qp_state_name(enum rdma_qp_state state)
{
    static const char *const names[] = {
#define QP_STATE_NAME(name, text) #name,
        RDMA_QP_STATE_LIST(QP_STATE_NAME)
#undef QP_STATE_NAME
    };
    return (uint32_t)state < ARRAY_SIZE(names) ? names[state] : "?";
}

/* --- work ------------------------------------------------------------------------------------- */

void soft_qp_activate(struct soft_qp *qp)
{
    if (list_is_empty(&qp->active_link) && !qp->is_dying) {
        list_push_back(&qp->dev->active, &qp->active_link);
    }
}

static bool has_work(const struct soft_qp *qp)
{
    if (qp->qp.type != RDMA_QP_RC) {
        return qp->qp.state == RDMA_QP_RTS && qp->req.next != qp->req.head;
    }
    return (soft_read_waits(qp) && qp->path.state == NET_PATH_READY && !qp->rate_waits) ||
           soft_request_waits(qp);
}

static uint32_t turn_of(struct soft_qp *qp)
{
    if (qp->qp.type != RDMA_QP_RC) {
        return soft_ud_send(qp, SOFT_PACKETS_TURN);
    }
    /* Each turn of a limited QP is about one packet: without taking turns the responses to a long
     * READ would hold back requests until their retries run out. */
    if (UNLIKELY(qp->rate.current_mbps != 0)) {
        qp->rate.requests_first = !qp->rate.requests_first;
        if (qp->rate.requests_first) {
            uint32_t requests = soft_request(qp, SOFT_PACKETS_TURN);
            return requests + soft_read_respond(qp, SOFT_PACKETS_TURN);
        }
    }
    uint32_t count = soft_read_respond(qp, SOFT_PACKETS_TURN);
    return count + soft_request(qp, SOFT_PACKETS_TURN);
}

/* Each QP that is active now has one turn. */
static uint32_t run_active(struct soft_device *dev)
{
    struct list *last = dev->active.prev;
    uint32_t count = 0;
    bool more = !list_is_empty(&dev->active);

    while (more) {
        struct list *node = list_pop_front(&dev->active);
        struct soft_qp *qp = LIST_ENTRY(node, struct soft_qp, active_link);
        more = node != last && !list_is_empty(&dev->active);
        count += turn_of(qp);
        if (has_work(qp)) {
            soft_qp_activate(qp);
        }
        if (net_tx_room(dev->nif) == 0) {
            break;
        }
    }
    return count;
}

/* Completions that waited for frames. One that goes on waiting is no work: the core may sleep. */
static uint32_t run_reaps(struct soft_device *dev)
{
    struct list waiting = {&waiting, &waiting};
    uint32_t count = 0;

    while (!list_is_empty(&dev->reaps)) {
        list_push_back(&waiting, list_pop_front(&dev->reaps));
    }
    while (!list_is_empty(&waiting)) {
        struct soft_qp *qp = LIST_ENTRY(list_pop_front(&waiting), struct soft_qp, reap_link);
        uint32_t before = qp->req.tail;
        soft_complete(qp);
        count += qp->req.tail - before;
    }
    return count;
}

/* --- events ----------------------------------------------------------------------------------- */

void soft_event_raise(struct soft_device *dev, struct soft_event *event, uint32_t type)
{
    event->bits |= 1u << type;
    if (list_is_empty(&event->link)) {
        list_push_back(&dev->events, &event->link);
    }
}

static void deliver(struct soft_device *dev, struct soft_event *event)
{
    struct rdma_event out = {.qp = event->qp, .cq = event->cq, .srq = event->srq};
    uint32_t bits = event->bits;

    event->bits = 0;
    if ((bits & SOFT_EVENT_CM) != 0 && dev->has_cm) {
        rdma_cm_soft_comm_est(&dev->device, event->qp);
    }
    for (bits &= ~SOFT_EVENT_CM; bits != 0; bits &= bits - 1) {
        out.type = (enum rdma_event_type)lowest_bit(bits);
        counter_add(&dev->stats.events, 1);
        if (dev->device.event != NULL) {
            dev->device.event(dev->device.event_ctx, &out);
        }
    }
}

static void look_at_link(struct soft_device *dev)
{
    bool link_up = net_if_port(dev->nif)->link_up;

    if (UNLIKELY(link_up != dev->link_up)) {
        dev->link_up = link_up;
        soft_event_raise(dev, &dev->event, link_up ? RDMA_EVENT_PORT_ACTIVE : RDMA_EVENT_PORT_ERR);
    }
}

static uint32_t run_events(struct soft_device *dev)
{
    uint32_t count = 0;

    look_at_link(dev);
    while (!list_is_empty(&dev->ah_changes)) {
        struct soft_ah *ah = LIST_ENTRY(list_pop_front(&dev->ah_changes), struct soft_ah, link);
        count++;
        if (ah->ah.changed != NULL) {
            ah->ah.changed(&ah->ah);
        }
    }
    /* Those that are raised meanwhile have their turn, too: each object is in the list once. */
    while (!list_is_empty(&dev->events)) {
        deliver(dev, LIST_ENTRY(list_pop_front(&dev->events), struct soft_event, link));
        count++;
    }
    return count;
}

/* --- poller ----------------------------------------------------------------------------------- */

static uint32_t soft_work(void *ctx)
{
    struct soft_device *dev = ctx;
    uint32_t count = run_events(dev);

    if (UNLIKELY(!list_is_empty(&dev->reaps))) {
        count += run_reaps(dev);
    }
    if (!list_is_empty(&dev->active)) {
        count += run_active(dev);
    }
    bool owes = !list_is_empty(&dev->acks);
    if (owes) {
        soft_respond_acks(dev);
    }
    if (count > 0 || owes) {
        net_flush(dev->nif);
    }
    return count;
}

static uint64_t soft_arm(void *ctx, bool armed)
{
    const struct soft_device *dev = ctx;

    (void)armed;
    if (!list_is_empty(&dev->active) || !list_is_empty(&dev->acks) ||
        !list_is_empty(&dev->events) || !list_is_empty(&dev->ah_changes)) {
        return 0;
    }
    return list_is_empty(&dev->reaps) ? UINT64_MAX : REAP_LOOK_NS;
}

static void batch_is_over(void *ctx)
{
    soft_respond_acks(ctx);
}

/* --- start ------------------------------------------------------------------------------------ */

static const struct rdma_ops ops = {
    .pd_alloc = soft_pd_alloc,
    .pd_free = soft_pd_free,
    .mr_reg = soft_mr_reg,
    .mr_dereg = soft_mr_dereg,
    .key_alloc = soft_key_alloc,
    .key_free = soft_key_free,
    .key_prepare = soft_key_prepare,
    .key_bind = soft_key_bind,
    .key_invalidate = soft_key_invalidate,
    .key_is_quiet = soft_key_is_quiet,
    .cq_memory_bytes = soft_cq_memory_bytes,
    .cq_create = soft_cq_create,
    .cq_destroy = soft_cq_destroy,
    .cq_poll = soft_cq_poll,
    .srq_memory_bytes = soft_srq_memory_bytes,
    .srq_create = soft_srq_create,
    .srq_destroy = soft_srq_destroy,
    .srq_post = soft_srq_post,
    .qp_memory_bytes = soft_qp_memory_bytes,
    .qp_create = soft_qp_create,
    .qp_destroy = soft_qp_destroy,
    .qp_modify = soft_qp_modify,
    .qp_query = soft_qp_query,
    .post_send = soft_post_send,
    .post_recv = soft_post_recv,
    .ah_create = soft_ah_create,
    .ah_destroy = soft_ah_destroy,
    .qp_visit = soft_qp_visit,
};

/* With a CM the device holds what that needs, beside what the caller asked for. */
static struct rdma_soft_config with_cm(const struct rdma_soft_config *config)
{
    struct rdma_soft_config all = *config;

    if (config->cm_id_count > 0) {
        all.pd_count++;
        all.cq_count++;
        all.mr_count++;
        all.ah_count += config->cm_id_count + RDMA_CM_SOFT_EXTRA_AHS;
    }
    return all;
}

static struct rdma_cm_soft_config cm_config(const struct rdma_soft_config *config)
{
    return (struct rdma_cm_soft_config){.id_count = config->cm_id_count,
                                        .nif = config->nif,
                                        .addr = net_if_addr,
                                        .rng = config->rng,
                                        .random = rng_u32};
}

/* The parts of the device's memory, one behind the other; counts when there is no memory. */
struct carve {
    uint8_t *memory; /* NULL: count only */
    uint64_t used_bytes;
};

static void *carve(struct carve *c, uint64_t count, uint64_t object_bytes)
{
    void *part = c->memory == NULL ? NULL : c->memory + c->used_bytes;

    c->used_bytes += align_up(count * object_bytes, CACHE_LINE_BYTES);
    return part;
}

static COLD void carve_all(struct carve *c, const struct rdma_soft_config *config,
                           struct soft_device **dev_out)
{
    struct soft_device *dev = carve(c, 1, sizeof(*dev));
    struct soft_qp *qps = carve(c, config->qp_count + 1, sizeof(*qps));
    struct soft_region *regions =
        carve(c, 1 + config->mr_count + config->key_count, sizeof(*regions));
    struct soft_cq *cqs = carve(c, config->cq_count, sizeof(*cqs));
    struct soft_srq *srqs = carve(c, config->srq_count, sizeof(*srqs));
    struct soft_pd *pds = carve(c, config->pd_count, sizeof(*pds));
    struct soft_ah *ahs = carve(c, config->ah_count, sizeof(*ahs));

    if (c->memory == NULL) {
        return;
    }
    dev->qps = qps;
    dev->regions = regions;
    dev->region_count = 1 + config->mr_count + config->key_count;
    pool_init(&dev->qp_pool, "qp", qps + 1, sizeof(*qps), config->qp_count);
    pool_init(&dev->region_pool, "mr", regions + 1, sizeof(*regions), config->mr_count);
    pool_init(&dev->key_pool, "key", regions + 1 + config->mr_count, sizeof(*regions),
              config->key_count);
    pool_init(&dev->cq_pool, "cq", cqs, sizeof(*cqs), config->cq_count);
    pool_init(&dev->srq_pool, "srq", srqs, sizeof(*srqs), config->srq_count);
    pool_init(&dev->pd_pool, "pd", pds, sizeof(*pds), config->pd_count);
    pool_init(&dev->ah_pool, "ah", ahs, sizeof(*ahs), config->ah_count);
    *dev_out = dev;
}

static bool config_is_valid(const struct rdma_soft_config *config)
{
    return config->nif != NULL && config->rng != NULL && config->rng->is_seeded &&
           config->qp_count >= 1 && config->qp_count <= QP_COUNT_MAX && config->cq_count >= 1 &&
           config->pd_count >= 1 && config->ah_count >= 1 && config->srq_count <= QP_COUNT_MAX &&
           config->cq_count <= QP_COUNT_MAX && config->pd_count <= QP_COUNT_MAX &&
           config->ah_count <= QP_COUNT_MAX && config->mr_count <= REGION_COUNT_MAX &&
           config->key_count <= REGION_COUNT_MAX &&
           config->mr_count + config->key_count <= REGION_COUNT_MAX;
}

static uint8_t largest_path_mtu(const struct net_if *nif)
{
    uint8_t mtu = RDMA_MTU_4096;

    while (mtu > RDMA_MTU_256 &&
           rdma_mtu_bytes((enum rdma_mtu)mtu) + OVERHEAD_BYTES > net_if_mtu(nif)) {
        mtu--;
    }
    return mtu;
}

static void fill_attr(struct rdma_device_attr *attr, const struct rdma_soft_config *config)
{
    *attr = (struct rdma_device_attr){
        .qp_count = config->qp_count,
        .cq_count = config->cq_count,
        .srq_count = config->srq_count,
        .pd_count = config->pd_count,
        .mr_count = config->mr_count,
        .key_count = config->key_count,
        .ah_count = config->ah_count,
        .wr_count_max = WR_COUNT_MAX,
        .cqe_count_max = CQE_COUNT_MAX,
        .inline_bytes_max = RDMA_SOFT_INLINE_BYTES,
        .key_segs_max = UINT16_MAX,
        .msg_bytes_max = MSG_BYTES_MAX,
        .sge_max = RDMA_SOFT_SGES,
        .rd_atomic_max = RDMA_SOFT_READS,
        .dest_rd_atomic_max = RDMA_SOFT_READS,
        .key_kind = RDMA_KEY_SCATTER,
        .host_rings = true,
    };
}

static uint64_t own_bytes(const struct rdma_soft_config *all)
{
    struct carve c = {0};
    struct soft_device *none;

    carve_all(&c, all, &none);
    return c.used_bytes;
}

COLD uint64_t rdma_soft_memory_bytes(const struct rdma_soft_config *config)
{
    struct rdma_soft_config all = with_cm(config);
    struct rdma_cm_soft_config cm = cm_config(config);
    struct rdma_device device = {.ops = &ops}; /* as it will be: that is all that CM looks at */

    if (config->cm_id_count == 0) {
        return own_bytes(&all);
    }
    fill_attr(&device.attr, &all);
    return own_bytes(&all) + rdma_cm_soft_memory_bytes(&device, &cm);
}

COLD enum status rdma_soft_init(void *memory, const struct rdma_soft_config *config,
                                struct rdma_device **out)
{
    struct rdma_soft_config all = with_cm(config);
    struct rdma_cm_soft_config cm = cm_config(config);
    struct carve c = {.memory = memory};
    struct soft_device *dev;

    if (!config_is_valid(&all)) {
        return STATUS_INVALID;
    }
    soft_icrc_init();
    memset(memory, 0, own_bytes(&all));
    carve_all(&c, &all, &dev);
    enum status status = net_udp_bind(config->nif, ROCE_UDP_PORT, soft_rx, dev);
    if (status != STATUS_OK) {
        return status;
    }
    dev->device.ops = &ops;
    dev->device.name = config->name;
    dev->device.core = cpu_self();
    fill_attr(&dev->device.attr, &all);
    dev->device.attr.path_mtu_max = largest_path_mtu(config->nif);
    dev->nif = config->nif;
    dev->rng = config->rng;
    dev->ecn = config->ecn;
    dev->link_up = net_if_port(config->nif)->link_up;
    dev->qp_index_bits = 32 - (uint32_t)__builtin_clz(config->qp_count);
    list_init(&dev->active);
    list_init(&dev->acks);
    list_init(&dev->reaps);
    list_init(&dev->events);
    list_init(&dev->ah_changes);
    list_init(&dev->event.link);
    net_set_batch_hook(config->nif, batch_is_over, dev);
    dev->poller = (struct poller){.name = "rdma", .run = soft_work, .arm = soft_arm, .ctx = dev};
    sched_poller_add(&dev->poller);
    *out = &dev->device;
    if (config->cm_id_count > 0) {
        status = rdma_cm_soft_init((uint8_t *)memory + c.used_bytes, &dev->device, &cm);
        dev->has_cm = status == STATUS_OK;
    }
    return status;
}

/* --- reports ---------------------------------------------------------------------------------- */

const struct rdma_soft_stats *rdma_soft_stats(const struct rdma_device *device)
{
    return &((const struct soft_device *)(const void *)device)->stats;
}

/* But for the one that the CM keeps. */
static bool is_full_but_cm(const struct pool *pool, bool has_cm)
{
    return pool->count - pool->free_count == (has_cm ? 1u : 0u);
}

bool rdma_soft_is_quiet(const struct rdma_device *device)
{
    const struct soft_device *dev = (const struct soft_device *)(const void *)device;

    return is_full_but_cm(&dev->pd_pool, dev->has_cm) &&
           is_full_but_cm(&dev->cq_pool, dev->has_cm) &&
           is_full_but_cm(&dev->region_pool, dev->has_cm) && pool_is_full(&dev->qp_pool) &&
           pool_is_full(&dev->key_pool) && pool_is_full(&dev->srq_pool) &&
           pool_is_full(&dev->ah_pool) && dev->qps[0].is_used == dev->has_cm &&
           (!dev->has_cm || rdma_cm_soft_is_quiet(device)) && list_is_empty(&dev->active) &&
           list_is_empty(&dev->acks) && list_is_empty(&dev->reaps) &&
           list_is_empty(&dev->ah_changes);
}
