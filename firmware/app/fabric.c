/*
 * The fabric side: each Ethernet port becomes an IP interface, a software RDMA device on it and the
 * diagnostic services that the configuration wants.
 *
 * Port i belongs to core i % cores: everything of it is made and called there. Memory is core 0's
 * to hand out, so the start goes back and forth: core 0 (memory of interface and device), owner
 * (makes both), core 0 (memory of the services, which the device can tell now), owner (services and
 * the initiator's part), core 0 (it has answered). A port that cannot start is left out: the host's
 * side does not depend on it. When all have answered, the volumes of the tree are made.
 *
 * Behind the ports come the RNICs of the board's operating system, which has their interfaces: only
 * the device and its services are ours then.
 */
#include "app/app_priv.h"

#include <stdio.h>
#include <string.h>
#include "base/assert.h"
#include "base/log.h"
#include "hal/cpu.h"

#define MEMORY_ALIGNMENT 64
#define PAGE_ALIGNMENT   4096

/* Of each core: NIC memory for commands of the data path "terminate" and for what keys cannot
 * express. */

/* --- from core to core --------------------------------------------------------------------- */

static void step_run(struct msg *msg)
{
    struct app_fabric *fabric = CONTAINER_OF(msg, struct app_fabric, msg);

    fabric->step(fabric);
}

/* Calls step(fabric) on `core`: now when it is this one. */
static void step_on(uint32_t core, struct app_fabric *fabric, void (*step)(struct app_fabric *))
{
    if (core == cpu_self()) {
        step(fabric);
        return;
    }
    fabric->step = step;
    fabric->msg.fn = step_run;
    msg_send(core, &fabric->msg);
}

static void fail(struct app_fabric *fabric, const char *what, enum status status)
{
    LOG_ERROR("app: %s: %s: %s", fabric->name, what, status_text(status));
}

/* Core 0: there will be no more of it. Volumes wait for the last. */
static void answered(struct app_fabric *fabric)
{
    (void)fabric;
    if (--app.fabrics_due == 0) {
        app_tree_volumes_start();
    }
}

static void give_up(struct app_fabric *fabric, const char *what, enum status status)
{
    fail(fabric, what, status);
    step_on(0, fabric, answered);
}

/* --- configuration ------------------------------------------------------------------------- */

static struct net_if_config net_config(const struct app_fabric *fabric)
{
    const struct config_port *words = &app.config.ports[fabric->index];
    struct net_if_config config = {
        .port = fabric->port,
        .mtu_bytes = words->mtu_bytes,
        .vlan = words->vlan,
        .gateway4 = words->gateway4,
        .gateway6 = words->gateway6,
        .buf_count = LIMIT_NET_BUFS,
        .big_buf_count = LIMIT_NET_BIG_BUFS,
        .neighbor_count = LIMIT_NET_NEIGHBORS,
    };
    if (words->ip4.prefix_bits != 0) {
        config.addrs[config.addr_count++] = words->ip4;
    }
    if (words->ip6.prefix_bits != 0) {
        config.addrs[config.addr_count++] = words->ip6;
    }
    return config;
}

static struct rdma_soft_config rdma_config(struct app_fabric *fabric)
{
    return (struct rdma_soft_config){
        .nif = fabric->nif,
        .rng = &fabric->rng,
        .name = fabric->name,
        .qp_count = LIMIT_RDMA_QPS,
        .cq_count = LIMIT_RDMA_CQS,
        .srq_count = LIMIT_RDMA_SRQS,
        .pd_count = LIMIT_RDMA_PDS,
        .mr_count = LIMIT_RDMA_MRS,
        .key_count = LIMIT_RDMA_KEYS,
        .ah_count = LIMIT_RDMA_AHS,
        .cm_id_count = LIMIT_RDMA_CM_IDS,
        .ecn = app.config.ports[fabric->index].ecn,
    };
}

/* --- services ------------------------------------------------------------------------------ */

static void say_service(const struct app_fabric *fabric, const char *what, uint16_t port)
{
    LOG_INFO("app: %s: %s at port %u, for anybody", fabric->name, what, (unsigned)port);
}

static struct diag_perf_config perf_config(const struct app_fabric *fabric)
{
    return (struct diag_perf_config){
        .device = fabric->rdma, .port = app.config.perf_port, .len_bytes = app.config.perf_bytes};
}

static void client_start(struct app_fabric *fabric)
{
    enum status status =
        diag_rping_client_init(fabric->client_memory, fabric->rdma, &fabric->rping_client);
    if (status != STATUS_OK) {
        fabric->rping_client = NULL;
        fail(fabric, "rping client", status);
    }
}

static void rping_start(struct app_fabric *fabric)
{
    enum status status =
        diag_rping_init(fabric->rping_memory, fabric->rdma, app.config.rping_port, &fabric->rping);
    if (status != STATUS_OK) {
        fabric->rping = NULL;
        fail(fabric, "rping", status);
        return;
    }
    say_service(fabric, "rping", app.config.rping_port);
}

static void perf_start(struct app_fabric *fabric)
{
    struct diag_perf_config config = perf_config(fabric);
    enum status status = diag_perf_init(fabric->perf_memory, &config, &fabric->perf);
    if (status != STATUS_OK) {
        fabric->perf = NULL;
        fail(fabric, "perf", status);
        return;
    }
    say_service(fabric, "perf", config.port);
}

static struct nvmf_host_core_config nvmf_config(const struct app_fabric *fabric)
{
    return (struct nvmf_host_core_config){.device = fabric->rdma,
                                          .command_count = LIMIT_NVMF_COMMANDS,
                                          .stage_bytes = LIMIT_NVMF_STAGE_BYTES};
}

static void initiator_start(struct app_fabric *fabric)
{
    struct nvmf_host_core_config config = nvmf_config(fabric);
    enum status status = nvmf_host_core_start(fabric->nvmf_memory, &config);
    if (status != STATUS_OK) {
        fail(fabric, "initiator", status);
    }
    fabric->is_initiator = status == STATUS_OK;
}

/* Each for itself: what of them has no memory is not there. */
static void services_init(struct app_fabric *fabric)
{
    if (fabric->client_memory != NULL) {
        client_start(fabric);
    }
    if (fabric->rping_memory != NULL) {
        rping_start(fabric);
    }
    if (fabric->perf_memory != NULL) {
        perf_start(fabric);
    }
    if (fabric->nvmf_memory != NULL) {
        initiator_start(fabric);
    }
    fabric->is_up = true;
    step_on(0, fabric, answered);
}

static void *service_memory(const struct app_fabric *fabric, const char *what, uint64_t bytes,
                            uint64_t alignment)
{
    void *memory = app_pool_take(bytes, alignment);
    if (memory == NULL) {
        LOG_ERROR("app: %s: %s: %llu KiB of RAM are left, %llu KiB are needed", fabric->name, what,
                  (unsigned long long)(app.pool_left >> 10), (unsigned long long)(bytes >> 10));
    }
    return memory;
}

/* Core 0. */
static void services_take_memory(struct app_fabric *fabric)
{
    struct rdma_device *device = fabric->rdma;
    struct diag_perf_config perf = perf_config(fabric);

    if (fabric->index < sched_core_count()) { /* a core's queues are on its first port */
        struct nvmf_host_core_config nvmf = nvmf_config(fabric);
        fabric->nvmf_memory =
            service_memory(fabric, "initiator", nvmf_host_core_memory_bytes(&nvmf), PAGE_ALIGNMENT);
    }
    fabric->client_memory = service_memory(
        fabric, "rping client", diag_rping_client_memory_bytes(device), MEMORY_ALIGNMENT);
    if (app.config.diag_rping) {
        fabric->rping_memory =
            service_memory(fabric, "rping", diag_rping_memory_bytes(device), MEMORY_ALIGNMENT);
    }
    if (app.config.diag_perf) {
        fabric->perf_memory =
            service_memory(fabric, "perf", diag_perf_memory_bytes(&perf), PAGE_ALIGNMENT);
    }
    step_on(fabric->core, fabric, services_init);
}

/* --- interface and device ------------------------------------------------------------------ */

/* What a device says by itself; the objects' owners see the rest in their completions. */
static void device_event(void *ctx, const struct rdma_event *event)
{
    static const char *const texts[] = {
#define EVENT_TEXT(name, text) text,
        RDMA_EVENT_LIST(EVENT_TEXT)
#undef EVENT_TEXT
    };
    const struct app_fabric *fabric = ctx;

    if (event->type == RDMA_EVENT_COMM_EST || event->type == RDMA_EVENT_SQ_DRAINED ||
        event->type == RDMA_EVENT_LAST_WQE_REACHED) {
        return;
    }
    LOG_LIMITED(WARN, "app: %s: %s (QP 0x%x)", fabric->name, texts[event->type],
                event->qp == NULL ? 0 : (unsigned)event->qp->num);
}

static void say_port(const struct app_fabric *fabric)
{
    const uint8_t *mac = fabric->port->addr;
    char addrs[NET_IF_ADDRS * (NET_ADDR_TEXT_BYTES + 8)];
    size_t used = 0;

    for (uint32_t i = 0; net_if_addr(fabric->nif, i) != NULL; i++) {
        const struct net_if_addr *own = net_if_addr(fabric->nif, i);
        char text[NET_ADDR_TEXT_BYTES];
        net_addr_text(&own->addr, text);
        int len = snprintf(addrs + used, sizeof(addrs) - used, " %s/%u", text,
                           (unsigned)own->prefix_bits);
        used += (size_t)len;
        ASSERT(used < sizeof(addrs));
    }
    LOG_INFO("app: %s on %s %02x:%02x:%02x:%02x:%02x:%02x, MTU %u, core %u:%s", fabric->name,
             fabric->port->name, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5],
             (unsigned)net_if_mtu(fabric->nif), (unsigned)fabric->core, addrs);
}

static void fabric_init(struct app_fabric *fabric)
{
    struct net_if_config net = net_config(fabric);
    enum status status = net_if_init(fabric->net_memory, &net, &fabric->nif);
    if (status != STATUS_OK) {
        fabric->nif = NULL;
        give_up(fabric, "ip, gateway, vlan and mtu do not suit the port", status);
        return;
    }
    struct rdma_soft_config rdma = rdma_config(fabric);
    status = rdma_soft_init(fabric->rdma_memory, &rdma, &fabric->rdma);
    if (status != STATUS_OK) {
        fabric->rdma = NULL;
        give_up(fabric, "RDMA", status);
        return;
    }
    fabric->rdma->event = device_event;
    fabric->rdma->event_ctx = fabric;
    say_port(fabric);
    step_on(0, fabric, services_take_memory);
}

static bool take_memory(struct app_fabric *fabric)
{
    struct net_if_config net = net_config(fabric);
    struct rdma_soft_config rdma = rdma_config(fabric);

    fabric->net_memory = app_pool_take(net_if_memory_bytes(&net), MEMORY_ALIGNMENT);
    fabric->rdma_memory = app_pool_take(rdma_soft_memory_bytes(&rdma), MEMORY_ALIGNMENT);
    return fabric->net_memory != NULL && fabric->rdma_memory != NULL;
}

/* --- RNICs --------------------------------------------------------------------------------- */

static void rnic_init(struct app_fabric *fabric)
{
    enum status status = app.board->rdma_open(fabric->rnic, &fabric->rdma);
    if (status != STATUS_OK) {
        fabric->rdma = NULL;
        give_up(fabric, "the RNIC", status);
        return;
    }
    fabric->rdma->event = device_event;
    fabric->rdma->event_ctx = fabric;
    step_on(0, fabric, services_take_memory);
}

/* --- start --------------------------------------------------------------------------------- */

static struct app_fabric *fabric_add(void)
{
    struct app_fabric *fabric = &app.fabrics[app.fabric_count];

    fabric->index = app.fabric_count++;
    app.fabrics_due++;
    fabric->core = fabric->index % sched_core_count();
    snprintf(fabric->name, sizeof(fabric->name), "rdma%u", (unsigned)fabric->index);
    return fabric;
}

static void ports_start(const struct board *board)
{
    if (board->eth_count == 0) {
        return;
    }
    if (rng_seed(&app.rng, board->rng_seed, board->rng_seed_bytes) != STATUS_OK) {
        LOG_ERROR("app: no fabric: this board has no random seed of %u bytes, and QP numbers and "
                  "keys would be guessed",
                  RNG_SEED_BYTES);
        return;
    }
    for (uint32_t i = 0; i < board->eth_count; i++) {
        struct app_fabric *fabric = fabric_add();
        fabric->port = board->eths[i];
        rng_fork(&app.rng, &fabric->rng);
        if (take_memory(fabric)) {
            step_on(fabric->core, fabric, fabric_init);
        } else {
            give_up(fabric, "memory", STATUS_NO_SPACE);
        }
    }
}

static void rnics_start(const struct board *board)
{
    for (uint32_t i = 0; i < board->rdma_count; i++) {
        if (app.fabric_count == LIMIT_ETH_PORTS) {
            LOG_ERROR("app: RNIC %u and those behind it are not used: at most %u ports and RNICs",
                      (unsigned)i, LIMIT_ETH_PORTS);
            return;
        }
        struct app_fabric *fabric = fabric_add();
        fabric->rnic = i;
        step_on(fabric->core, fabric, rnic_init);
    }
}

void app_fabric_start(void)
{
    app.fabrics_due = 1; /* this: the last one answers after all have begun */
    ports_start(app.board);
    rnics_start(app.board);
    answered(NULL);
}
