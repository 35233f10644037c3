/*
 * CM: memory and start, the pool of ids, the tables in which connections are found, events,
 * reports. See cm_priv.h for the other files.
 */
#include "rdma/cm_priv.h"

#include "base/bits.h"

const char *rdma_cm_state_name(enum rdma_cm_state state)
{
    static const char *const names[] = {
#define STATE_NAME(name, text) [RDMA_CM_##name] = #name,
        RDMA_CM_STATE_LIST(STATE_NAME)
#undef STATE_NAME
    };

    return (uint32_t)state < ARRAY_SIZE(names) ? names[state] : "?";
}

uint32_t cm_random(struct cm *cm)
{
    return cm->config.random(cm->config.rng);
}

/* --- tables -------------------------------------------------------------------------------- */

uint32_t cm_hash(const struct cm *cm, uint32_t number, const struct net_addr *peer)
{
    uint64_t mix = (uint64_t)(number ^ cm->hash_key) * UINT64_C(0x9e3779b97f4a7c15);

    if (peer != NULL) {
        for (uint32_t i = 0; i < sizeof(peer->bytes); i++) {
            mix = (mix ^ peer->bytes[i]) * UINT64_C(0x100000001b3);
        }
    }
    return (uint32_t)(mix >> 32) & cm->bucket_mask;
}

static bool is_by_peer(enum cm_table table)
{
    return table == CM_BY_REMOTE_ID || table == CM_BY_REMOTE_QPN;
}

static uint32_t number_in(const struct cm_conn *c, enum cm_table table)
{
    switch (table) {
    case CM_BY_COMM_ID:
        return c->comm_id;
    case CM_BY_QPN:
        return c->local_qpn;
    case CM_BY_REMOTE_ID:
        return c->remote_id;
    case CM_BY_REMOTE_QPN:
        return c->remote_qpn;
    case CM_TABLES:
    default:
        return 0;
    }
}

void cm_table_add(struct cm_conn *c, enum cm_table table)
{
    const struct net_addr *peer = is_by_peer(table) ? &c->id.peer : NULL;
    uint32_t bucket = cm_hash(c->cm, number_in(c, table), peer);

    list_remove(&c->links[table]);
    list_push_back(&c->cm->heads[table][bucket], &c->links[table]);
}

void cm_table_remove(struct cm_conn *c, enum cm_table table)
{
    list_remove(&c->links[table]);
}

struct cm_conn *cm_table_find(const struct cm *cm, enum cm_table table, uint32_t number,
                              const struct net_addr *peer)
{
    struct list *head = &cm->heads[table][cm_hash(cm, number, is_by_peer(table) ? peer : NULL)];

    LIST_FOR_EACH(node, temp, head)
    {
        struct cm_conn *c = LIST_ENTRY(node - table, struct cm_conn, links);
        if (number_in(c, table) == number &&
            (!is_by_peer(table) || net_addr_equal(&c->id.peer, peer))) {
            return c;
        }
    }
    return NULL;
}

struct cm_conn *cm_listener_find(const struct cm *cm, const struct net_addr *local, uint16_t port)
{
    LIST_FOR_EACH(node, temp, &cm->listeners)
    {
        struct cm_conn *c = LIST_ENTRY(node, struct cm_conn, listen_link);
        if (c->id.local_port == port &&
            (net_addr_is_zero(&c->id.local) || net_addr_is_zero(local) ||
             net_addr_equal(&c->id.local, local))) {
            return c;
        }
    }
    return NULL;
}

/* --- ids ----------------------------------------------------------------------------------- */

static uint32_t fresh_comm_id(struct cm *cm)
{
    uint32_t comm_id = cm_random(cm);

    /* At most id_count numbers are taken, so this ends after as many steps at the latest. */
    while (comm_id == 0 || cm_table_find(cm, CM_BY_COMM_ID, comm_id, NULL) != NULL) {
        comm_id++;
    }
    return comm_id;
}

/* A rejected request that nobody owns is only kept in order to answer its repetition. */
static void evict(struct cm *cm)
{
    struct list *node = list_pop_front(&cm->lingering);

    if (node != NULL) {
        struct cm_conn *c = LIST_ENTRY(node, struct cm_conn, linger_link);
        c->owed = 0;
        cm_set_state(c, RDMA_CM_DEAD);
        cm_conn_settle(c);
    }
}

struct cm_conn *cm_conn_get(struct cm *cm)
{
    if (cm->conn_pool.free_count == 0) {
        evict(cm);
    }
    struct cm_conn *c = pool_get(&cm->conn_pool);
    if (c == NULL) {
        return NULL;
    }
    timer_fn *fn = c->timer.fn;
    memset(c, 0, sizeof(*c));
    timer_init(&c->timer, fn);
    c->id.device = cm->device;
    c->cm = cm;
    c->in_use = true;
    for (uint32_t table = 0; table < CM_TABLES; table++) {
        list_init(&c->links[table]);
    }
    list_init(&c->event_link);
    list_init(&c->sender_link);
    list_init(&c->path_link);
    list_init(&c->linger_link);
    list_init(&c->listen_link);
    c->comm_id = fresh_comm_id(cm);
    cm_table_add(c, CM_BY_COMM_ID);
    return c;
}

void cm_conn_settle(struct cm_conn *c)
{
    struct cm *cm = c->cm;

    if (c->is_owned || c->pending != 0) {
        return;
    }
    if (c->id.state == RDMA_CM_TIMEWAIT && c->is_rejected && list_is_empty(&c->linger_link)) {
        list_push_back(&cm->lingering, &c->linger_link);
    }
    if (c->id.state != RDMA_CM_DEAD || c->owed != 0) {
        return;
    }
    timer_cancel(&c->timer);
    for (uint32_t table = 0; table < CM_TABLES; table++) {
        list_remove(&c->links[table]);
    }
    list_remove(&c->sender_link);
    list_remove(&c->linger_link);
    list_remove(&c->listen_link);
    cm_wire_detach(c);
    c->in_use = false;
    pool_put(&cm->conn_pool, c);
}

void cm_decided(struct cm_conn *c)
{
    if (c->listener != NULL) {
        c->listener->undecided--;
        c->listener = NULL;
    }
}

/* --- our addresses ------------------------------------------------------------------------- */

bool cm_local_index(const struct cm *cm, const struct net_addr *addr, uint8_t *index)
{
    for (uint8_t i = 0; i < NET_IF_ADDRS; i++) {
        const struct net_if_addr *ours = cm->config.addr(cm->config.nif, i);
        if (ours == NULL) {
            break;
        }
        if (net_addr_equal(&ours->addr, addr)) {
            *index = i;
            return true;
        }
    }
    return false;
}

const struct net_addr *cm_local_for(const struct cm *cm, const struct net_addr *dst, uint8_t *index)
{
    const struct net_addr *found = NULL;

    for (uint8_t i = 0; i < NET_IF_ADDRS; i++) {
        const struct net_if_addr *ours = cm->config.addr(cm->config.nif, i);
        if (ours == NULL) {
            break;
        }
        if (net_addr_is_ipv4(&ours->addr) != net_addr_is_ipv4(dst) ||
            net_addr_is_link_local6(&ours->addr) != net_addr_is_link_local6(dst)) {
            continue;
        }
        bool is_near = net_addr_same_prefix(&ours->addr, dst, ours->prefix_bits);
        if (found == NULL || is_near) {
            found = &ours->addr;
            *index = i;
        }
        if (is_near) {
            break;
        }
    }
    return found;
}

/* --- events -------------------------------------------------------------------------------- */

void cm_event(struct cm_conn *c, enum cm_event_order event, const uint8_t *data,
              uint32_t data_bytes)
{
    if (!c->is_owned && event != CM_EV_REQUEST) {
        return;
    }
    if (data != NULL) {
        memset(c->private_data, 0, sizeof(c->private_data));
        memcpy(c->private_data, data, min_u32(data_bytes, sizeof(c->private_data)));
    }
    c->pending |= (uint8_t)(1u << event);
    if (list_is_empty(&c->event_link)) {
        list_push_back(&c->cm->events, &c->event_link);
    }
}

void cm_events_drop(struct cm_conn *c)
{
    c->pending = 0;
    list_remove(&c->event_link);
}

static void fill_event(const struct cm_conn *c, enum cm_event_order order,
                       struct rdma_cm_event *event)
{
    static const struct {
        uint8_t type;
        uint8_t data_bytes;
        bool has_depths;
    } kinds[] = {
        [CM_EV_RESOLVED] = {RDMA_CM_EVENT_RESOLVED, 0, false},
        [CM_EV_REQUEST] = {RDMA_CM_EVENT_REQUEST, RDMA_CM_REQ_PRIVATE_BYTES, true},
        [CM_EV_ESTABLISHED] = {RDMA_CM_EVENT_ESTABLISHED, RDMA_CM_REP_PRIVATE_BYTES, true},
        [CM_EV_REJECTED] = {RDMA_CM_EVENT_REJECTED, RDMA_CM_REJ_PRIVATE_BYTES, false},
        [CM_EV_UNREACHABLE] = {RDMA_CM_EVENT_UNREACHABLE, 0, false},
        [CM_EV_DISCONNECTED] = {RDMA_CM_EVENT_DISCONNECTED, 0, false},
        [CM_EV_TIMEWAIT_EXIT] = {RDMA_CM_EVENT_TIMEWAIT_EXIT, 0, false},
    };
    bool is_passive_done = order == CM_EV_ESTABLISHED && !c->is_active;

    *event = (struct rdma_cm_event){.type = (enum rdma_cm_event_type)kinds[order].type};
    if (kinds[order].data_bytes > 0 && !is_passive_done) {
        /* A copy: the callback may destroy the id, and make another one in its place. */
        memcpy(c->cm->event_data, c->private_data, kinds[order].data_bytes);
        event->private_data = c->cm->event_data;
        event->private_bytes = kinds[order].data_bytes;
    }
    if (kinds[order].has_depths) {
        event->responder_resources = c->responder_resources;
        event->initiator_depth = c->initiator_depth;
    }
    if (order == CM_EV_REQUEST) {
        event->listener = &c->listener->id;
    }
    if (order == CM_EV_REJECTED || order == CM_EV_DISCONNECTED) {
        event->reason = c->reason;
    }
}

static void deliver_one(struct cm_conn *c)
{
    uint32_t order = lowest_bit(c->pending);
    struct rdma_cm_event event;

    c->pending &= (uint8_t) ~(1u << order);
    if (c->pending != 0) {
        list_push_back(&c->cm->events, &c->event_link);
    }
    fill_event(c, (enum cm_event_order)order, &event);
    if (order == CM_EV_REQUEST) {
        c->is_owned = true;
    }
    c->id.event(&c->id, &event); /* `c` may be gone now */
}

uint32_t cm_events_deliver(struct cm *cm)
{
    uint32_t count = 0;

    while (count < CM_BATCH) {
        struct list *node = list_pop_front(&cm->events);
        if (node == NULL) {
            break;
        }
        deliver_one(LIST_ENTRY(node, struct cm_conn, event_link));
        count++;
    }
    return count;
}

/* --- start --------------------------------------------------------------------------------- */

static bool is_in(uint8_t value, uint8_t low, uint8_t high)
{
    return value >= low && value <= high;
}

/* The configuration with defaults; false: out of range. */
static bool fill_config(const struct rdma_cm_soft_config *given, struct rdma_cm_soft_config *config)
{
    *config = *given;
    config->packet_lifetime = given->packet_lifetime != 0 ? given->packet_lifetime : 16;
    config->ack_delay = given->ack_delay != 0 ? given->ack_delay : 15;
    config->response_timeout = given->response_timeout != 0 ? given->response_timeout : 20;
    config->max_retries = given->max_retries != 0 ? given->max_retries : 15;
    return config->id_count >= 2 && config->id_count <= 16384 && config->addr != NULL &&
           config->random != NULL && is_in(config->packet_lifetime, 1, 20) &&
           is_in(config->ack_delay, 1, 20) && is_in(config->response_timeout, 10, 24) &&
           is_in(config->max_retries, 1, 15);
}

/* Where things lie, one behind the other. */
struct layout {
    uint64_t conns;
    uint64_t heads; /* of all tables */
    uint64_t wire;
    uint64_t end;
};

static struct layout lay_out(const struct rdma_device *device,
                             const struct rdma_cm_soft_config *config)
{
    struct layout at;

    at.conns = align_up(sizeof(struct cm), 64);
    at.heads = at.conns + align_up(config->id_count * sizeof(struct cm_conn), 64);
    at.wire = at.heads +
              align_up(CM_TABLES * (uint64_t)cm_bucket_count(config) * sizeof(struct list), 64);
    at.end = at.wire + cm_wire_memory_bytes(device, config);
    return at;
}

uint64_t rdma_cm_soft_memory_bytes(const struct rdma_device *device,
                                   const struct rdma_cm_soft_config *config)
{
    return lay_out(device, config).end;
}

static void on_timeout(struct timer *timer)
{
    cm_fsm(CONTAINER_OF(timer, struct cm_conn, timer), CM_IN_TIMEOUT, NULL);
}

static void init_ids(struct cm *cm, uint8_t *memory, const struct layout *at)
{
    uint32_t buckets = cm_bucket_count(&cm->config);

    cm->conns = (struct cm_conn *)(void *)(memory + at->conns);
    for (uint32_t i = 0; i < cm->config.id_count; i++) {
        timer_init(&cm->conns[i].timer, on_timeout);
    }
    pool_init(&cm->conn_pool, "cm ids", cm->conns, sizeof(struct cm_conn), cm->config.id_count);
    for (uint32_t table = 0; table < CM_TABLES; table++) {
        cm->heads[table] = (struct list *)(void *)(memory + at->heads) + table * buckets;
        for (uint32_t i = 0; i < buckets; i++) {
            list_init(&cm->heads[table][i]);
        }
    }
    cm->bucket_mask = buckets - 1;
    cm->hash_key = cm_random(cm);
    list_init(&cm->listeners);
    list_init(&cm->events);
    list_init(&cm->senders);
    list_init(&cm->lingering);
}

enum status rdma_cm_soft_init(void *memory, struct rdma_device *device,
                              const struct rdma_cm_soft_config *given)
{
    struct rdma_cm_soft_config config;

    if (!fill_config(given, &config) || config.addr(config.nif, 0) == NULL) {
        return STATUS_INVALID;
    }
    struct layout at = lay_out(device, &config);
    struct cm *cm = memory;

    memset(memory, 0, at.end);
    cm->device = device;
    cm->config = config;
    init_ids(cm, memory, &at);
    /* The interface identifier of the link-local address is the port's EUI-64, as a GUID is. */
    memcpy(cm->guid.bytes, config.addr(config.nif, 0)->addr.bytes + 8, sizeof(cm->guid));
    cm_api_fill(&cm->ops);
    enum status status = cm_wire_init(cm, (uint8_t *)memory + at.wire);
    if (status != STATUS_OK) {
        return status;
    }
    device->cm_ops = &cm->ops;
    cm->poller = (struct poller){.name = "rdma cm", .run = cm_poll, .arm = cm_arm, .ctx = cm};
    sched_poller_add(&cm->poller);
    return STATUS_OK;
}

/* --- reports and up-calls ------------------------------------------------------------------ */

bool rdma_cm_soft_is_quiet(const struct rdma_device *device)
{
    const struct cm *cm = cm_of(device);

    return pool_is_full(&cm->conn_pool) && cm_wire_is_quiet(cm);
}

const struct rdma_cm_soft_stats *rdma_cm_soft_stats(const struct rdma_device *device)
{
    return &cm_of(device)->stats;
}

bool rdma_cm_soft_is_qpn_busy(const struct rdma_device *device, uint32_t qpn)
{
    return cm_table_find(cm_of(device), CM_BY_QPN, qpn, NULL) != NULL;
}

void rdma_cm_soft_comm_est(struct rdma_device *device, const struct rdma_qp *qp)
{
    struct cm_conn *c = cm_table_find(cm_of(device), CM_BY_QPN, qp->num, NULL);

    if (c != NULL && c->id.qp == qp) {
        cm_fsm(c, CM_IN_COMM_EST, NULL);
    }
}

void rdma_cm_soft_qp_gone(struct rdma_device *device, const struct rdma_qp *qp)
{
    struct cm_conn *c = cm_table_find(cm_of(device), CM_BY_QPN, qp->num, NULL);

    if (c != NULL && c->id.qp == qp) {
        c->id.qp = NULL;
    }
}
