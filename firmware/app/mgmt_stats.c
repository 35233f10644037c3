/*
 * Management records of reactors, pollers and counters: hang safe, all of them.
 */
#include "app/mgmt_priv.h"

#include <string.h>
#include "base/counter.h"
#include "hal/clock.h"
#include "rdma/cm_soft.h"

/* --- reactors -------------------------------------------------------------------------------- */

uint32_t app_mgmt_reactor_count(void)
{
    return sched_core_count();
}

static void count_poller(const struct poller *poller, void *ctx)
{
    (void)poller;
    (*(uint32_t *)ctx)++;
}

uint32_t app_mgmt_reactor(uint32_t index, void *record)
{
    struct mgmt_reactor *out = record;
    struct sched_stats s = sched_stats(index);
    uint64_t now_ns = clock_now_ns();

    out->core = (uint16_t)index;
    out->flags = s.is_asleep ? MGMT_REACTOR_ASLEEP : 0;
    out->turn_count = s.turn_count;
    out->busy_turn_count = s.busy_turn_count;
    out->msg_count = s.msg_count;
    out->sleep_count = s.sleep_count;
    out->sleep_ns = s.sleep_ns;
    out->turn_age_ns = now_ns > s.clock_ns ? now_ns - s.clock_ns : 0;
    if (s.running != NULL) {
        app_mgmt_text(out->running, sizeof(out->running), s.running->name);
    }
    sched_visit_pollers(index, count_poller, &out->poller_count);
    return MGMT_OWNER_BOARD;
}

/* --- pollers: LIMIT_POLLERS_PER_CORE of each core -------------------------------------------- */

struct poller_find {
    uint32_t left;
    const struct poller *found;
};

static void find_poller(const struct poller *poller, void *ctx)
{
    struct poller_find *find = ctx;

    if (find->left-- == 0) {
        find->found = poller;
    }
}

uint32_t app_mgmt_poller_count(void)
{
    return sched_core_count() * LIMIT_POLLERS_PER_CORE;
}

uint32_t app_mgmt_poller(uint32_t index, void *record)
{
    struct mgmt_poller *out = record;
    uint32_t core = index / LIMIT_POLLERS_PER_CORE;
    struct poller_find find = {.left = index % LIMIT_POLLERS_PER_CORE};

    sched_visit_pollers(core, find_poller, &find);
    if (find.found == NULL) {
        return 0;
    }
    out->core = (uint16_t)core;
    out->is_running = sched_stats(core).running == find.found;
    out->run_count = counter_get(&find.found->run_count);
    out->work_count = counter_get(&find.found->work_count);
    out->busy_ns = counter_get(&find.found->busy_ns);
    app_mgmt_text(out->name, sizeof(out->name), find.found->name);
    return MGMT_OWNER_BOARD;
}

/* --- counters -------------------------------------------------------------------------------- */

#define VALUES_MAX 32u

/* Names one behind the other, each with its end, in the order of the values. */
#define STAT_NAME(name, text) #name "\0"

/* A group: so many things that have the same counters. */
struct stat_group {
    const char *name;
    const char *names;
    uint32_t (*count)(void);
    /* Values in the order of the names; returns the owners, 0: this one has none. */
    uint32_t (*get)(uint32_t index, uint64_t *values);
    bool is_single; /* the group has no index */
};

static uint32_t function_owner(uint32_t index)
{
    return MGMT_OWNER_FN(app.functions[index].pcie->fn);
}

static uint32_t function_stats(uint32_t index, uint64_t *values)
{
    struct nvme_ep_stats s = nvme_ep_stats(app.functions[index].ep, NVME_EP_ALL_CORES);

    _Static_assert(sizeof(s) == 21 * sizeof(uint64_t), "as FUNCTION_NAMES has them");
    memcpy(values, &s, sizeof(s));
    return function_owner(index);
}

/* As struct nvme_ep_stats has them. */
#define FUNCTION_NAMES                                                                     \
    "commands\0completions\0interrupts\0sqe_reads\0sqe_read_bytes\0list_reads\0"           \
    "list_read_bytes\0cqe_writes\0cqe_write_bytes\0data_to_host\0data_to_host_bytes\0"     \
    "data_from_host\0data_from_host_bytes\0staged_bytes\0doorbell_errors\0bad_addresses\0" \
    "pool_empty\0cq_full\0dropped\0cancels\0fences\0"

static uint32_t drive_stats(uint32_t index, uint64_t *values)
{
    if (app.drives[index] == NULL) {
        return 0;
    }
    struct nvme_drv_stats s = nvme_drv_stats(app.drives[index]);
    const uint64_t all[] = {s.command_count, s.split_count,         s.bounced_bytes,
                            s.error_count,   s.timeout_count,       s.abort_count,
                            s.reset_count,   s.bad_completion_count};
    memcpy(values, all, sizeof(all));
    return MGMT_OWNER_BOARD;
}

#define DRIVE_NAMES \
    "commands\0splits\0staged_bytes\0errors\0timeouts\0aborts\0resets\0bad_completions\0"

/* Of all volumes. */
static uint32_t volume_count(void)
{
    return app.volumes != NULL ? 1 : 0;
}

static uint32_t volume_stats(uint32_t index, uint64_t *values)
{
    struct vol_info info;

    (void)index;
    for (uint32_t i = 0; i < app.tree.volume_count; i++) {
        if (app.volumes[i].vol != NULL) {
            vol_info(app.volumes[i].vol, &info);
            const uint64_t *from = (const uint64_t *)&info.stats;
            for (uint32_t k = 0; k < sizeof(info.stats) / sizeof(*from); k++) {
                values[k] += from[k];
            }
        }
    }
    return MGMT_OWNER_BOARD;
}

/* Of all associations, by data path. */
static uint32_t path_count(void)
{
    return app.ctrl_count > 0 ? 1 : 0;
}

static uint32_t path_stats(enum nvmf_path path, uint64_t *values)
{
    for (uint32_t i = 0; i < app.ctrl_count; i++) {
        struct nvmf_path_stats stats;
        if (app.ctrls[i].ctrl != NULL) {
            nvmf_ctrl_stats(app.ctrls[i].ctrl, path, &stats);
            const uint64_t *from = (const uint64_t *)&stats;
            for (uint32_t k = 0; k < sizeof(stats) / sizeof(*from); k++) {
                values[k] += from[k];
            }
        }
    }
    return MGMT_OWNER_BOARD;
}

static uint32_t zero_copy_stats(uint32_t index, uint64_t *values)
{
    (void)index;
    return path_stats(NVMF_PATH_ZERO_COPY, values);
}

static uint32_t terminate_stats(uint32_t index, uint64_t *values)
{
    (void)index;
    return path_stats(NVMF_PATH_TERMINATE, values);
}

static uint32_t host_queues_stats(uint32_t index, uint64_t *values)
{
    (void)index;
    return path_stats(NVMF_PATH_HOST_QUEUES, values);
}

/* Counters that the port's core writes and anybody reads; what they lie in is never freed. */
static uint32_t copy_counters(uint64_t *values, const void *from, uint32_t len_bytes)
{
    const _Atomic uint64_t *counters = from;

    for (uint32_t k = 0; k < len_bytes / sizeof(*values); k++) {
        values[k] = counter_get(&counters[k]);
    }
    return MGMT_OWNER_BOARD;
}

static uint32_t fabric_count(void)
{
    return app.fabric_count;
}

static uint32_t port_stats(uint32_t index, uint64_t *values)
{
    const struct eth_port *port = app.fabrics[index].port;

    return port == NULL ? 0 : copy_counters(values, &port->stats, sizeof(port->stats));
}

/* As struct eth_stats has them. */
ASSERT_OFFSET(struct eth_stats, rx_error_count, 7 * sizeof(uint64_t));
#define PORT_NAMES                                                                          \
    "port_tx_frames\0port_tx_bytes\0port_tx_full\0port_tx_dropped\0port_tx_kicks\0port_rx_" \
    "frames\0"                                                                              \
    "port_rx_bytes\0port_rx_errors\0"

/* is_up comes last, when all pointers are there. */
static bool is_up(const struct app_fabric *fabric)
{
    return __atomic_load_n(&fabric->is_up, __ATOMIC_ACQUIRE) && fabric->nif != NULL;
}

static uint32_t net_stats(uint32_t index, uint64_t *values)
{
    const struct app_fabric *fabric = &app.fabrics[index];

    return !is_up(fabric)
               ? 0
               : copy_counters(values, net_if_stats(fabric->nif), sizeof(struct net_stats));
}

static uint32_t rdma_stats(uint32_t index, uint64_t *values)
{
    const struct app_fabric *fabric = &app.fabrics[index];

    return !is_up(fabric) ? 0
                          : copy_counters(values, rdma_soft_stats(fabric->rdma),
                                          sizeof(struct rdma_soft_stats));
}

static uint32_t cm_stats(uint32_t index, uint64_t *values)
{
    const struct app_fabric *fabric = &app.fabrics[index];

    return !is_up(fabric) ? 0
                          : copy_counters(values, rdma_cm_soft_stats(fabric->rdma),
                                          sizeof(struct rdma_cm_soft_stats));
}

static const struct stat_group groups[] = {
    {"fn", FUNCTION_NAMES, app_mgmt_function_count, function_stats, false},
    {"drive", DRIVE_NAMES, app_mgmt_drive_count, drive_stats, false},
    {"vol", VOL_STAT_LIST(STAT_NAME), volume_count, volume_stats, true},
    {"path.zero-copy", NVMF_PATH_STAT_LIST(STAT_NAME), path_count, zero_copy_stats, true},
    {"path.terminate", NVMF_PATH_STAT_LIST(STAT_NAME), path_count, terminate_stats, true},
    {"path.host-queues", NVMF_PATH_STAT_LIST(STAT_NAME), path_count, host_queues_stats, true},
    {"net", PORT_NAMES, fabric_count, port_stats, false},
    {"net", NET_STAT_LIST(STAT_NAME), fabric_count, net_stats, false},
    {"rdma", RDMA_SOFT_STAT_LIST(STAT_NAME), fabric_count, rdma_stats, false},
    {"cm", RDMA_CM_SOFT_STAT_LIST(STAT_NAME), fabric_count, cm_stats, false},
};

_Static_assert(sizeof(struct nvmf_path_stats) <= VALUES_MAX * sizeof(uint64_t) &&
                   sizeof(struct net_stats) <= VALUES_MAX * sizeof(uint64_t) &&
                   sizeof(struct rdma_soft_stats) <= VALUES_MAX * sizeof(uint64_t) &&
                   sizeof(struct rdma_cm_soft_stats) <= VALUES_MAX * sizeof(uint64_t),
               "each fits");

static uint32_t names_count(const char *names)
{
    uint32_t count = 0;

    for (; *names != '\0'; names += strlen(names) + 1) {
        count++;
    }
    return count;
}

uint32_t app_mgmt_stat_count(void)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < ARRAY_SIZE(groups); i++) {
        count += groups[i].count() * names_count(groups[i].names);
    }
    return count;
}

static uint32_t put_stat(struct mgmt_stat *out, const struct stat_group *group, uint32_t index,
                         uint32_t number)
{
    uint64_t values[VALUES_MAX] = {0};
    const char *name = group->names;
    uint32_t owners = group->get(index, values);

    for (uint32_t i = 0; i < number; i++) {
        name += strlen(name) + 1;
    }
    app_mgmt_text(out->group, sizeof(out->group), group->name);
    app_mgmt_text(out->name, sizeof(out->name), name);
    out->index = group->is_single ? MGMT_NONE16 : (uint16_t)index;
    out->value = values[number];
    return owners;
}

/* Its group, and *index becomes the number in that; NULL: a group has shrunk meanwhile, which none
 * does. */
static const struct stat_group *find_group(uint32_t *index)
{
    for (uint32_t i = 0; i < ARRAY_SIZE(groups); i++) {
        uint32_t all = groups[i].count() * names_count(groups[i].names);
        if (*index < all) {
            return &groups[i];
        }
        *index -= all;
    }
    return NULL;
}

uint32_t app_mgmt_stat(uint32_t index, void *record)
{
    const struct stat_group *group = find_group(&index);

    if (group == NULL) {
        return 0;
    }
    uint32_t names = names_count(group->names);
    return put_stat(record, group, index / names, index % names);
}

uint32_t app_mgmt_stat_owners(uint32_t index)
{
    const struct stat_group *group = find_group(&index);

    return group == NULL                  ? 0
           : group->get == function_stats ? function_owner(index / names_count(group->names))
                                          : MGMT_OWNER_BOARD;
}
