/*
 * Management records of what belongs to the cores of the Ethernet ports: ports, queue pairs,
 * connections. Each core is sent a message and puts its own records down; core 0 reads them when
 * all have answered, or when those that do not have had their time.
 */
#include "app/mgmt_priv.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include "hal/clock.h"
#include "hal/cpu.h"

#define RECORDS   128u /* of each kind and port; what is beyond is left out */
#define ANSWER_NS (UINT64_C(50) * NS_PER_MS)

/* Of one port. Its core's from the message until `is_there`, else core 0's to read. */
struct gathered {
    struct msg msg;
    struct app_fabric *fabric;
    _Atomic bool is_there;
    bool is_asked; /* the message is on its way, or has come back */
    uint32_t qp_count;
    uint32_t connection_count;
    struct mgmt_port port;
    struct mgmt_qp qps[RECORDS];
    struct mgmt_connection connections[RECORDS];
};

static struct {
    bool is_under_way;
    uint64_t asked_ns;
    struct gathered ports[LIMIT_ETH_PORTS];
} gather;

/* --- on the port's core ---------------------------------------------------------------------- */

static void put_addr(char *to, size_t to_bytes, const struct net_addr *addr)
{
    char text[NET_ADDR_TEXT_BYTES];

    net_addr_text(addr, text);
    app_mgmt_text(to, to_bytes, text);
}

static void put_qp(struct rdma_qp *qp, void *ctx)
{
    struct gathered *to = ctx;
    struct mgmt_qp *out = &to->qps[to->qp_count];
    struct rdma_qp_info info;

    if (to->qp_count == RECORDS) {
        return;
    }
    to->qp_count++;
    rdma_qp_query(qp, &info);
    *out = (struct mgmt_qp){
        .port = (uint16_t)to->fabric->index,
        .fn = qp->pd->fn,
        .qpn = qp->num,
        .peer_qpn = info.attr.dest_qpn,
        .send_posted = info.send_posted,
        .recv_posted = info.recv_posted,
        .next_psn = info.sq_next_psn,
        .una_psn = info.sq_una_psn,
        .expected_psn = info.rq_psn,
        .msn = info.msn,
        .window_packets = info.window_packets,
        .rate_mbps = info.rate_mbps,
        .retries_left = info.retries_left,
        .rnr_retries_left = info.rnr_retries_left,
        .reads_out = info.reads_out,
        .reads_in = info.reads_in,
    };
    _Static_assert(sizeof(out->stats) == sizeof(info.stats), "the counters are listed");
    memcpy(out->stats, &info.stats, sizeof(out->stats));
    app_mgmt_text(out->state, sizeof(out->state),
                  rdma_qp_state_name((enum rdma_qp_state)qp->state));
    put_addr(out->peer, sizeof(out->peer), &info.attr.av.dgid);
}

static void put_connection(const struct rdma_cm_id *id, void *ctx)
{
    struct gathered *to = ctx;
    struct mgmt_connection *out = &to->connections[to->connection_count];

    if (to->connection_count == RECORDS) {
        return;
    }
    to->connection_count++;
    *out = (struct mgmt_connection){.port = (uint16_t)to->fabric->index,
                                    .local_port = id->local_port,
                                    .peer_port = id->peer_port,
                                    .qpn = id->qp == NULL ? 0 : id->qp->num};
    app_mgmt_text(out->state, sizeof(out->state),
                  rdma_cm_state_name((enum rdma_cm_state)id->state));
    put_addr(out->local, sizeof(out->local), &id->local);
    put_addr(out->peer, sizeof(out->peer), &id->peer);
}

static void put_port(struct mgmt_port *out, const struct app_fabric *fabric)
{
    *out = (struct mgmt_port){.index = (uint16_t)fabric->index,
                              .core = (uint8_t)fabric->core,
                              .vlan = app.config.ports[fabric->index % LIMIT_ETH_PORTS].vlan,
                              .flags = fabric->is_up ? MGMT_PORT_UP : 0};
    if (fabric->port != NULL) {
        out->flags |= fabric->port->link_up ? MGMT_PORT_LINK_UP : 0;
        memcpy(out->mac, fabric->port->addr, sizeof(out->mac));
        app_mgmt_text(out->name, sizeof(out->name), fabric->port->name);
    }
    if (fabric->rdma != NULL) {
        out->path_mtu = rdma_mtu_bytes((enum rdma_mtu)fabric->rdma->attr.path_mtu_max);
        app_mgmt_text(out->rdma, sizeof(out->rdma), fabric->rdma->name);
    }
    if (fabric->nif == NULL) {
        return;
    }
    out->mtu = net_if_mtu(fabric->nif);
    for (uint32_t i = 0; i < ARRAY_SIZE(out->address); i++) {
        const struct net_if_addr *addr = net_if_addr(fabric->nif, i);
        char text[NET_ADDR_TEXT_BYTES];
        if (addr == NULL) {
            break;
        }
        net_addr_text(&addr->addr, text);
        snprintf(out->address[i], sizeof(out->address[i]), "%s/%u", text,
                 (unsigned)addr->prefix_bits);
    }
}

static void gather_run(struct msg *msg)
{
    struct gathered *to = CONTAINER_OF(msg, struct gathered, msg);

    to->qp_count = 0;
    to->connection_count = 0;
    put_port(&to->port, to->fabric);
    if (to->fabric->is_up && to->fabric->rdma != NULL) {
        rdma_qp_visit(to->fabric->rdma, put_qp, to);
        rdma_cm_visit(to->fabric->rdma, put_connection, to);
    }
    /* GATHERED (release): pairs with the acquire in is_there(). */
    atomic_store_explicit(&to->is_there, true, memory_order_release);
}

/* --- core 0 ---------------------------------------------------------------------------------- */

static bool is_there(const struct gathered *from)
{
    return atomic_load_explicit(&from->is_there, memory_order_acquire); /* GATHERED */
}

static bool all_are_there(void)
{
    for (uint32_t i = 0; i < app.fabric_count; i++) {
        if (!is_there(&gather.ports[i])) {
            return false;
        }
    }
    return true;
}

static void ask(uint32_t index)
{
    struct gathered *to = &gather.ports[index];

    if (to->is_asked && !is_there(to)) {
        return; /* its core still has the message of last time */
    }
    to->is_asked = true;
    to->fabric = &app.fabrics[index];
    to->msg.fn = gather_run;
    atomic_store_explicit(&to->is_there, false, memory_order_relaxed);
    if (to->fabric->core == cpu_self()) {
        gather_run(&to->msg);
    } else {
        msg_send(to->fabric->core, &to->msg);
    }
}

enum mgmt_status app_mgmt_fabric_prepare(void)
{
    if (!gather.is_under_way) {
        gather.is_under_way = true;
        gather.asked_ns = clock_now_ns();
        for (uint32_t i = 0; i < app.fabric_count; i++) {
            ask(i);
        }
    }
    if (!all_are_there() && clock_now_ns() - gather.asked_ns < ANSWER_NS) {
        return MGMT_BUSY;
    }
    gather.is_under_way = false;
    return MGMT_OK;
}

/* Records of one kind: RECORDS indices for each port. */
static uint32_t give(void *record, const void *from, uint32_t record_bytes)
{
    memcpy(record, from, record_bytes);
    return MGMT_OWNER_BOARD;
}

uint32_t app_mgmt_connection_count(void)
{
    return app.fabric_count * RECORDS;
}

uint32_t app_mgmt_connection(uint32_t index, void *record)
{
    const struct gathered *from = &gather.ports[index / RECORDS];
    uint32_t i = index % RECORDS;

    return is_there(from) && i < from->connection_count
               ? give(record, &from->connections[i], sizeof(from->connections[i]))
               : 0;
}

uint32_t app_mgmt_qp_count(void)
{
    return app.fabric_count * RECORDS;
}

uint32_t app_mgmt_qp(uint32_t index, void *record)
{
    const struct gathered *from = &gather.ports[index / RECORDS];
    uint32_t i = index % RECORDS;

    return is_there(from) && i < from->qp_count ? give(record, &from->qps[i], sizeof(from->qps[i]))
                                                : 0;
}

uint32_t app_mgmt_port_count(void)
{
    return app.fabric_count;
}

uint32_t app_mgmt_port(uint32_t index, void *record)
{
    const struct gathered *from = &gather.ports[index];

    return is_there(from) ? give(record, &from->port, sizeof(from->port)) : 0;
}
