/*
 * Opening and closing a device, its attributes, its poller and its asynchronous events.
 */
#include "hal/native/ibv/ibv_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include "base/bits.h"
#include "base/log.h"
#include "hal/clock.h"
#include "hal/cpu.h"
#include "hal/native/ibv/ibv_select.h"

/* How often the descriptors of rare events are looked at while the core is awake: two system calls,
 * together about 1 us. */
#define EVENTS_EVERY_NS (200 * NS_PER_US)
/* Asynchronous events of one look. */
#define EVENTS_AT_ONCE 16

/* READs under way: librdmacm keeps 255 for itself, and no device has so many. */
#define RD_ATOMIC_MAX 128

/* rxe, which has no vendor, hands the kernel's number of "with invalidate" to its user, for whom it
 * means a checked IP header: of no meaning for reliable connections. */
#define RXE_VENDOR_ID   0xffffff
#define RXE_WC_WITH_INV IBV_WC_IP_CSUM_OK

/* A poller's memory stays one for ever, so devices lie here. */
static struct rdma_ibv_device devices[LIMIT_ETH_PORTS];

static const struct rdma_ops ops = {
    .pd_alloc = rdma_ibv_pd_alloc,
    .pd_free = rdma_ibv_pd_free,
    .mr_reg = rdma_ibv_mr_reg,
    .mr_dereg = rdma_ibv_mr_dereg,
    .key_alloc = rdma_ibv_key_alloc,
    .key_free = rdma_ibv_key_free,
    .key_prepare = rdma_ibv_key_prepare,
    .key_bind = rdma_ibv_key_bind,
    .key_invalidate = rdma_ibv_key_invalidate,
    .key_is_quiet = rdma_ibv_key_is_quiet,
    .cq_memory_bytes = rdma_ibv_cq_memory_bytes,
    .cq_create = rdma_ibv_cq_create,
    .cq_destroy = rdma_ibv_cq_destroy,
    .cq_poll = rdma_ibv_cq_poll,
    .srq_memory_bytes = rdma_ibv_srq_memory_bytes,
    .srq_create = rdma_ibv_srq_create,
    .srq_destroy = rdma_ibv_srq_destroy,
    .srq_post = rdma_ibv_srq_post,
    .qp_memory_bytes = rdma_ibv_qp_memory_bytes,
    .qp_create = rdma_ibv_qp_create,
    .qp_destroy = rdma_ibv_qp_destroy,
    .qp_modify = rdma_ibv_qp_modify,
    .qp_query = rdma_ibv_qp_query,
    .post_send = rdma_ibv_post_send,
    .post_recv = rdma_ibv_post_recv,
    .ah_create = rdma_ibv_ah_create,
    .ah_destroy = rdma_ibv_ah_destroy,
    .qp_visit = rdma_ibv_qp_visit,
};

enum status rdma_ibv_status(int error)
{
    switch (error < 0 ? -error : error) {
    case 0:
        return STATUS_OK;
    case EINVAL:
        return STATUS_INVALID;
    case ENOMEM:
    case ENOSPC:
    case EMFILE:
        return STATUS_NO_SPACE;
    case EAGAIN:
    case EBUSY:
        return STATUS_AGAIN;
    case ENODEV:
    case ENOENT:
    case ENETUNREACH:
    case EHOSTUNREACH:
    case EADDRNOTAVAIL:
    case ETIMEDOUT:
    case ENODATA:
        return STATUS_NOT_FOUND;
    case EADDRINUSE:
        return STATUS_EXISTS;
    case EOPNOTSUPP:
    case ENOSYS:
    case EPROTONOSUPPORT:
        return STATUS_UNSUPPORTED;
    default:
        return STATUS_IO;
    }
}

/* --- tables ----------------------------------------------------------------------------------- */

void rdma_ibv_insert(struct rdma_ibv_table *table, struct rdma_ibv_node *node, uint32_t id)
{
    struct rdma_ibv_node **bucket = rdma_ibv_bucket(table, id);

    node->id = id;
    node->next = *bucket;
    *bucket = node;
}

void rdma_ibv_remove(struct rdma_ibv_table *table, struct rdma_ibv_node *node)
{
    struct rdma_ibv_node **at = rdma_ibv_bucket(table, node->id);

    while (*at != node) {
        ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = node->next;
}

/* --- memory ----------------------------------------------------------------------------------- */

/* Twice as many buckets as objects. */
static uint32_t table_bits(uint32_t count)
{
    uint32_t bits = 1;
    while (bits < 24 && UINT32_C(1) << bits < 2 * count) {
        bits++;
    }
    return bits;
}

static void table_init(struct rdma_ibv_table *table, uint8_t **next, uint32_t count)
{
    table->buckets = (struct rdma_ibv_node **)(void *)*next;
    table->shift = 32 - table_bits(count);
    *next += sizeof(struct rdma_ibv_node *) << table_bits(count);
}

static void take_pool(struct pool *pool, const char *name, uint8_t **next, size_t object_bytes,
                      uint32_t count)
{
    pool_init(pool, name, *next, (uint32_t)object_bytes, count);
    *next += object_bytes * count;
}

static enum status make_pools(struct rdma_ibv_device *d)
{
    const struct rdma_device_attr *attr = &d->base.attr;
    size_t bytes =
        sizeof(struct rdma_ibv_pd) * attr->pd_count + sizeof(struct rdma_ibv_mr) * attr->mr_count +
        sizeof(struct rdma_ibv_key) * attr->key_count +
        sizeof(struct rdma_ibv_cq) * attr->cq_count +
        sizeof(struct rdma_ibv_srq) * attr->srq_count +
        sizeof(struct rdma_ibv_qp) * attr->qp_count + sizeof(struct rdma_ibv_ah) * attr->ah_count +
        (sizeof(struct rdma_ibv_node *) << table_bits(attr->qp_count)) +
        (sizeof(struct rdma_ibv_node *) << table_bits(attr->key_count));

    d->memory = calloc(1, bytes);
    if (d->memory == NULL) {
        return STATUS_NO_SPACE;
    }
    uint8_t *next = d->memory;
    table_init(&d->qp_by_num, &next, attr->qp_count);
    table_init(&d->key_by_value, &next, attr->key_count);
    take_pool(&d->pds, "ibv pds", &next, sizeof(struct rdma_ibv_pd), attr->pd_count);
    take_pool(&d->mrs, "ibv mrs", &next, sizeof(struct rdma_ibv_mr), attr->mr_count);
    take_pool(&d->keys, "ibv keys", &next, sizeof(struct rdma_ibv_key), attr->key_count);
    take_pool(&d->cqs, "ibv cqs", &next, sizeof(struct rdma_ibv_cq), attr->cq_count);
    take_pool(&d->srqs, "ibv srqs", &next, sizeof(struct rdma_ibv_srq), attr->srq_count);
    take_pool(&d->qps, "ibv qps", &next, sizeof(struct rdma_ibv_qp), attr->qp_count);
    take_pool(&d->ahs, "ibv ahs", &next, sizeof(struct rdma_ibv_ah), attr->ah_count);
    return STATUS_OK;
}

/* --- attributes ------------------------------------------------------------------------------- */

/* Counts of the library are int. */
static uint32_t capped(uint32_t wanted, int has)
{
    return has <= 0 ? 0 : min_u32(wanted, (uint32_t)has);
}

static uint32_t power_below(uint32_t count)
{
    uint32_t power = 1;
    while (power <= count / 2) {
        power <<= 1;
    }
    return power;
}

static enum status query(struct rdma_ibv_device *d, const struct rdma_ibv_config *config)
{
    struct ibv_device_attr device;
    struct ibv_port_attr port;
    int error = ibv_query_device(d->context, &device);

    error = error == 0 ? ibv_query_port(d->context, d->port, &port) : error;
    if (error != 0) {
        LOG_ERROR("ibv: %s: attributes: %s", d->name, strerror(error));
        return STATUS_IO;
    }
    bool has_windows = (device.device_cap_flags &
                        (IBV_DEVICE_MEM_WINDOW_TYPE_2A | IBV_DEVICE_MEM_WINDOW_TYPE_2B)) != 0;
    d->window_type = has_windows ? IBV_MW_TYPE_2 : 0;
    d->inv_flags = IBV_WC_WITH_INV;
    if (device.vendor_id == RXE_VENDOR_ID) {
        d->inv_flags |= RXE_WC_WITH_INV;
    }
    uint32_t sges = min_u32(capped(RDMA_IBV_SGES, device.max_sge), RDMA_IBV_SGES);
    sges = config->srq_count > 0 ? capped(sges, device.max_srq_sge) : sges;
    d->base.attr = (struct rdma_device_attr){
        .qp_count = capped(config->qp_count, device.max_qp),
        .cq_count = capped(config->cq_count, device.max_cq),
        .srq_count = capped(config->srq_count, device.max_srq),
        .pd_count = capped(config->pd_count, device.max_pd),
        .mr_count = capped(config->mr_count, device.max_mr),
        .key_count = has_windows ? capped(config->key_count, device.max_mw) : 0,
        .ah_count = capped(config->ah_count, device.max_ah),
        .wr_count_max = power_below(capped(UINT32_C(1) << 20, device.max_qp_wr)),
        .cqe_count_max = power_below(capped(UINT32_C(1) << 22, device.max_cqe)),
        .key_segs_max = has_windows ? 1 : 0,
        .msg_bytes_max = port.max_msg_sz,
        .sge_max = (uint8_t)sges,
        .rd_atomic_max = (uint8_t)capped(RD_ATOMIC_MAX, device.max_qp_init_rd_atom),
        .dest_rd_atomic_max = (uint8_t)capped(RD_ATOMIC_MAX, device.max_qp_rd_atom),
        .path_mtu_max = (uint8_t)port.active_mtu,
        .key_kind = RDMA_KEY_CONTIGUOUS,
    };
    return STATUS_OK;
}

/* The library names no limit of inline data: a queue pair that is made for it and thrown away
 * shows whether what is wanted can be had. */
static uint32_t try_inline(struct rdma_ibv_device *d, uint32_t wanted)
{
    uint32_t got = 0;
    struct ibv_pd *pd = ibv_alloc_pd(d->context);
    struct ibv_cq *cq = ibv_create_cq(d->context, 2, NULL, NULL, 0);

    if (pd != NULL && cq != NULL && wanted > 0) {
        struct ibv_qp_init_attr init = {
            .send_cq = cq,
            .recv_cq = cq,
            .cap = {.max_send_wr = 1,
                    .max_recv_wr = 1,
                    .max_send_sge = d->base.attr.sge_max,
                    .max_recv_sge = 1,
                    .max_inline_data = wanted},
            .qp_type = IBV_QPT_RC,
        };
        struct ibv_qp *qp = ibv_create_qp(pd, &init);
        got = qp != NULL ? min_u32(init.cap.max_inline_data, wanted) : 0;
        if (qp != NULL) {
            ibv_destroy_qp(qp);
        }
    }
    if (cq != NULL) {
        ibv_destroy_cq(cq);
    }
    if (pd != NULL) {
        ibv_dealloc_pd(pd);
    }
    return got;
}

/* --- events ----------------------------------------------------------------------------------- */

static bool convert_type(enum ibv_event_type type, enum rdma_event_type *out)
{
    static const struct {
        enum ibv_event_type ibv;
        enum rdma_event_type ours;
    } types[] = {
        {IBV_EVENT_COMM_EST, RDMA_EVENT_COMM_EST},
        {IBV_EVENT_SQ_DRAINED, RDMA_EVENT_SQ_DRAINED},
        {IBV_EVENT_QP_LAST_WQE_REACHED, RDMA_EVENT_LAST_WQE_REACHED},
        {IBV_EVENT_SRQ_LIMIT_REACHED, RDMA_EVENT_SRQ_LIMIT},
        {IBV_EVENT_QP_FATAL, RDMA_EVENT_QP_FATAL},
        {IBV_EVENT_QP_REQ_ERR, RDMA_EVENT_QP_REQ_ERR},
        {IBV_EVENT_QP_ACCESS_ERR, RDMA_EVENT_QP_ACCESS_ERR},
        {IBV_EVENT_CQ_ERR, RDMA_EVENT_CQ_ERR},
        {IBV_EVENT_PORT_ACTIVE, RDMA_EVENT_PORT_ACTIVE},
        {IBV_EVENT_PORT_ERR, RDMA_EVENT_PORT_ERR},
        {IBV_EVENT_DEVICE_FATAL, RDMA_EVENT_DEVICE_FATAL},
        {IBV_EVENT_SRQ_ERR, RDMA_EVENT_DEVICE_FATAL},
    };
    for (uint32_t i = 0; i < ARRAY_SIZE(types); i++) {
        if (types[i].ibv == type) {
            *out = types[i].ours;
            return true;
        }
    }
    return false;
}

/* What the event is about; the library keeps our pointer as its context. False: not ours to tell
 * (another port). */
static bool convert_subject(struct rdma_ibv_device *d, const struct ibv_async_event *in,
                            struct rdma_event *out)
{
    switch (out->type) {
    case RDMA_EVENT_CQ_ERR:
        out->cq = &((struct rdma_ibv_cq *)in->element.cq->cq_context)->base;
        return true;
    case RDMA_EVENT_SRQ_LIMIT:
        out->srq = &((struct rdma_ibv_srq *)in->element.srq->srq_context)->base;
        return true;
    case RDMA_EVENT_PORT_ACTIVE:
    case RDMA_EVENT_PORT_ERR:
        return in->element.port_num == d->port;
    case RDMA_EVENT_DEVICE_FATAL:
        return true;
    case RDMA_EVENT_COMM_EST:
    case RDMA_EVENT_SQ_DRAINED:
    case RDMA_EVENT_LAST_WQE_REACHED:
    case RDMA_EVENT_QP_FATAL:
    case RDMA_EVENT_QP_REQ_ERR:
    case RDMA_EVENT_QP_ACCESS_ERR:
    default:
        out->qp = &((struct rdma_ibv_qp *)in->element.qp->qp_context)->base;
        return true;
    }
}

static void note(const struct rdma_event *event)
{
    if (event->qp == NULL) {
        return;
    }
    if (event->type == RDMA_EVENT_COMM_EST) {
        rdma_ibv_cm_first_packet(rdma_ibv_qp_of(event->qp));
    } else if (event->type == RDMA_EVENT_QP_FATAL || event->type == RDMA_EVENT_QP_REQ_ERR ||
               event->type == RDMA_EVENT_QP_ACCESS_ERR) {
        event->qp->state = RDMA_QP_ERR;
    }
}

static uint32_t poll_events(struct rdma_ibv_device *d)
{
    struct ibv_async_event in;
    uint32_t count = 0;

    while (count < EVENTS_AT_ONCE && ibv_get_async_event(d->context, &in) == 0) {
        struct rdma_event event = {0};
        bool is_told = convert_type(in.event_type, &event.type) && convert_subject(d, &in, &event);
        ibv_ack_async_event(&in); /* destroying waits for it; nobody destroys meanwhile */
        count++;
        if (!is_told) {
            continue;
        }
        d->event_count++;
        note(&event);
        if (d->base.event != NULL) {
            d->base.event(d->base.event_ctx, &event);
        }
    }
    return count;
}

/* --- poller ----------------------------------------------------------------------------------- */

static uint32_t run(void *ctx)
{
    struct rdma_ibv_device *d = ctx;
    uint32_t work = list_is_empty(&d->host_mrs) ? 0 : rdma_ibv_mr_sweep(d);
    uint64_t now_ns = sched_now_ns();

    if (LIKELY(now_ns < d->events_due_ns)) {
        return work;
    }
    d->events_due_ns = now_ns + EVENTS_EVERY_NS;
    return work + poll_events(d) + rdma_ibv_cm_poll(d);
}

/* Announcements of completions that were asked for before a sleep. */
static void drain_announcements(struct rdma_ibv_device *d)
{
    struct ibv_cq *cq;
    void *ctx;

    /* Each CQ announces once for each time it was asked. */
    for (uint32_t i = 0; i < d->base.attr.cq_count; i++) {
        if (ibv_get_cq_event(d->channel, &cq, &ctx) != 0) {
            return;
        }
        ibv_ack_cq_events(cq, 1);
    }
}

static uint64_t arm(void *ctx, bool armed)
{
    struct rdma_ibv_device *d = ctx;

    drain_announcements(d);
    if (!armed) {
        d->events_due_ns = 0;
        return 0;
    }
    LIST_FOR_EACH(node, next, &d->all_cqs)
    {
        if (!rdma_ibv_cq_arm(LIST_ENTRY(node, struct rdma_ibv_cq, link))) {
            return 0;
        }
    }
    rdma_ibv_wake_arm(&d->wake);
    return UINT64_MAX;
}

/* --- open, close ------------------------------------------------------------------------------ */

static bool make_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

static enum status open_parts(struct rdma_ibv_device *d, const struct rdma_ibv_config *config)
{
    enum status status = query(d, config);

    if (status == STATUS_OK) {
        d->base.attr.inline_bytes_max = try_inline(d, config->inline_bytes);
        status = make_pools(d);
    }
    if (status != STATUS_OK) {
        return status;
    }
    d->channel = ibv_create_comp_channel(d->context);
    if (d->channel == NULL || !make_nonblocking(d->channel->fd) ||
        !make_nonblocking(d->context->async_fd)) {
        LOG_ERROR("ibv: %s: event channels: %s", d->name, strerror(errno));
        return STATUS_IO;
    }
    status = rdma_ibv_cm_open(d, config->cm_id_count);
    if (status != STATUS_OK) {
        return status;
    }
    int fds[] = {d->context->async_fd, d->channel->fd, rdma_ibv_cm_fd(d)};
    return rdma_ibv_wake_start(&d->wake, d->base.core, fds, ARRAY_SIZE(fds));
}

static void close_parts(struct rdma_ibv_device *d)
{
    rdma_ibv_wake_stop(&d->wake);
    rdma_ibv_cm_close(d);
    if (d->channel != NULL) {
        ibv_destroy_comp_channel(d->channel);
        d->channel = NULL;
    }
    free(d->memory);
    d->memory = NULL;
    ibv_close_device(d->context);
    d->context = NULL;
}

void rdma_ibv_config_default(struct rdma_ibv_config *config)
{
    *config = (struct rdma_ibv_config){
        .port = 1,
        .qp_count = 1024,
        .cq_count = 256,
        .srq_count = 64,
        .pd_count = 64,
        .mr_count = 1024,
        .key_count = 4096,
        .ah_count = 64,
        .cm_id_count = 1024,
        .inline_bytes = 64,
    };
}

enum status rdma_ibv_open(const struct rdma_ibv_config *config, struct rdma_device **out)
{
    struct rdma_ibv_device *d = NULL;

    for (uint32_t i = 0; i < LIMIT_ETH_PORTS && d == NULL; i++) {
        d = devices[i].context == NULL ? &devices[i] : NULL;
    }
    if (d == NULL || config->port == 0) {
        return d == NULL ? STATUS_NO_SPACE : STATUS_INVALID;
    }
    *d = (struct rdma_ibv_device){.port = config->port};
    enum status status = rdma_ibv_select(d, config);
    if (status != STATUS_OK) {
        return status;
    }
    d->base.ops = &ops;
    d->base.cm_ops = &rdma_ibv_cm_ops;
    d->base.name = d->name;
    d->base.core = cpu_self();
    list_init(&d->all_cqs);
    list_init(&d->all_qps);
    list_init(&d->host_mrs);
    status = open_parts(d, config);
    if (status != STATUS_OK) {
        close_parts(d);
        return status;
    }
    d->poller = (struct poller){.name = "ibv", .run = run, .arm = arm, .ctx = d};
    sched_poller_add(&d->poller);
    char text[NET_ADDR_TEXT_BYTES];
    net_addr_text(&d->addr, text);
    LOG_INFO("ibv: %s port %u: %s (GID %u), MTU %u, keys by %s", d->name, (unsigned)d->port, text,
             (unsigned)d->gid_index,
             (unsigned)rdma_mtu_bytes((enum rdma_mtu)d->base.attr.path_mtu_max),
             d->window_type != 0 ? "memory windows" : "nothing: the device has no windows");
    *out = &d->base;
    return STATUS_OK;
}

void rdma_ibv_close(struct rdma_device *device)
{
    struct rdma_ibv_device *d = rdma_ibv_device_of(device);

    ASSERT(rdma_ibv_is_quiet(device));
    sched_poller_remove(&d->poller);
    close_parts(d);
}

uint8_t rdma_ibv_gid_index(const struct rdma_device *device)
{
    return rdma_ibv_device_of((struct rdma_device *)(uintptr_t)device)->gid_index;
}

struct net_addr rdma_ibv_addr(const struct rdma_device *device)
{
    return rdma_ibv_device_of((struct rdma_device *)(uintptr_t)device)->addr;
}

bool rdma_ibv_is_quiet(const struct rdma_device *device)
{
    const struct rdma_ibv_device *d = rdma_ibv_device_of((struct rdma_device *)(uintptr_t)device);

    return pool_is_full(&d->pds) && pool_is_full(&d->mrs) && pool_is_full(&d->keys) &&
           pool_is_full(&d->cqs) && pool_is_full(&d->srqs) && pool_is_full(&d->qps) &&
           pool_is_full(&d->ahs) && rdma_ibv_cm_is_quiet(d);
}
