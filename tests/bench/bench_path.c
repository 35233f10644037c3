#include "tests/bench/bench_path.h"

#include <stdio.h>
#include <string.h>
#include "base/assert.h"
#include "base/bits.h"
#include "nvme_ep/nvme_ep.h"
#include "nvmf_host/nvmf_host.h"
#include "rdma/soft.h"
#include "tests/bench/bench_counter.h"
#include "tests/bench/bench_ep.h"
#include "tests/bench/bench_port.h"
#include "tests/model/target.h"
#include "vol/vol.h"

#define RING_FRAMES 1024u
#define NODES       2u
#define POLLERS_MAX 5u
#define DEPTH       32u
#define WARM_COUNT  128u
#define RUN_BYTES   (16u << 20)
#define RUN_MAX     1024u
#define TURNS_MAX   1000000u
#define BLOCKS      256u
#define FIRST_NSID  3u
#define STAGE_BYTES (4u << 20)
#define COMMANDS    256u
#define IN_CAPSULE  4096u
#define SUBNQN      "nqn.2026-11.org.snic:bench"

/* Whose instructions they are. */
enum part {
    PART_ENDPOINT, /* nvme_ep, nvme */
    PART_HOST,     /* vol, nvmf_host */
    PART_ENGINE,   /* rdma, net */
    PART_OTHER,    /* target, ports, this file */
    PART_COUNT,
};

struct node {
    struct bench_port port;
    struct net_if *nif;
    struct rdma_device *device;
    struct rng rng;
    const struct poller *pollers[POLLERS_MAX];
    enum part parts[POLLERS_MAX];
    uint32_t poller_count;
};

/* Between endpoint and volume. */
struct shim {
    struct blk_dev dev;
    struct blk_dev *below;
    blk_done_fn *done; /* the endpoint's, of every request */
};

static struct {
    struct node nodes[NODES];
    uint8_t *memory;
    uint64_t used_bytes;
    void (*print)(const char *line);
    struct target *target;
    struct nvmf_ctrl *ctrl;
    struct nvmf_ns ns[NVMF_PATH_COUNT];
    struct vol *vols[NVMF_PATH_COUNT];
    struct shim shims[NVMF_PATH_COUNT];
    struct rdma_ops ops; /* with a look at the counter around each */
    const struct rdma_ops *real;
    /* counting */
    uint64_t sums[PART_COUNT];
    uint64_t start;
    uint64_t cost; /* of one look */
    enum part now;
    uint64_t icrc;
    uint64_t place;
} p;

static void *take(uint64_t bytes)
{
    p.used_bytes = align_up(p.used_bytes, 4096);
    void *memory = p.memory + p.used_bytes;
    p.used_bytes += bytes;
    ASSERT(p.used_bytes <= BENCH_PATH_MEMORY_BYTES);
    memset(memory, 0, bytes);
    return memory;
}

/* --- counting ------------------------------------------------------------------------------- */

NOINLINE static enum part enter(enum part part)
{
    enum part before = p.now;
    uint64_t spent = bench_count() - p.start;
    uint64_t not_ours = bench_port_excluded + p.cost;

    p.sums[before] += spent > not_ours ? spent - not_ours : 0;
    p.now = part;
    bench_port_excluded = 0;
    p.start = bench_count();
    return before;
}

static void counting_start(void)
{
    memset(p.sums, 0, sizeof(p.sums));
    p.cost = 0;
    enter(PART_OTHER);
    p.sums[PART_OTHER] = 0;
    enter(PART_OTHER);
    p.cost = p.sums[PART_OTHER];
    memset(p.sums, 0, sizeof(p.sums));
    p.icrc = 0;
    p.place = 0;
}

/* --- verbs, as the initiator calls them ----------------------------------------------------- */

static enum status bind(struct rdma_key *key, const struct mem_ref *ref, uint64_t iova,
                        uint32_t access)
{
    enum part before = enter(PART_ENGINE);
    enum status status = p.real->key_bind(key, ref, iova, access);
    enter(before);
    return status;
}

static void invalidate(struct rdma_key *key)
{
    enum part before = enter(PART_ENGINE);
    p.real->key_invalidate(key);
    enter(before);
}

static bool is_quiet(const struct rdma_key *key)
{
    enum part before = enter(PART_ENGINE);
    bool quiet = p.real->key_is_quiet(key);
    enter(before);
    return quiet;
}

static uint32_t poll(struct rdma_cq *cq, struct rdma_wc *wcs, uint32_t max)
{
    enum part before = enter(PART_ENGINE);
    uint32_t count = p.real->cq_poll(cq, wcs, max);
    enter(before);
    return count;
}

static enum status srq_post(struct rdma_srq *srq, const struct rdma_recv_wr *wr,
                            const struct rdma_recv_wr **bad)
{
    enum part before = enter(PART_ENGINE);
    enum status status = p.real->srq_post(srq, wr, bad);
    enter(before);
    return status;
}

static enum status post_send(struct rdma_qp *qp, const struct rdma_send_wr *wr,
                             const struct rdma_send_wr **bad)
{
    enum part before = enter(PART_ENGINE);
    enum status status = p.real->post_send(qp, wr, bad);
    enter(before);
    return status;
}

static void verbs_shim(struct rdma_device *device)
{
    p.real = device->ops;
    p.ops = *device->ops;
    p.ops.key_bind = bind;
    p.ops.key_invalidate = invalidate;
    p.ops.key_is_quiet = is_quiet;
    p.ops.cq_poll = poll;
    p.ops.srq_post = srq_post;
    p.ops.post_send = post_send;
    device->ops = &p.ops;
}

/* --- a device between endpoint and volume ---------------------------------------------------- */

static blk_done_fn *endpoint_done;

static void shim_done(struct blk_req *req)
{
    enum part before = enter(PART_ENDPOINT);
    req->done = endpoint_done;
    req->done(req);
    enter(before);
}

static void shim_submit(struct blk_dev *dev, struct blk_req *req)
{
    struct shim *shim = CONTAINER_OF(dev, struct shim, dev);
    enum part before = enter(PART_HOST);

    ASSERT(endpoint_done == NULL || endpoint_done == req->done);
    endpoint_done = req->done;
    req->done = shim_done;
    shim->below->ops->submit(shim->below, req);
    enter(before);
}

static const struct blk_ops shim_ops = {.submit = shim_submit};

/* --- the parts ------------------------------------------------------------------------------ */

static void poller_note(struct node *node, const struct poller *poller, enum part part)
{
    ASSERT(node->poller_count < POLLERS_MAX);
    node->parts[node->poller_count] = part;
    node->pollers[node->poller_count++] = poller;
}

/* The newest poller of this name. */
struct search {
    const char *name;
    const struct poller *found;
};

static void look(const struct poller *poller, void *ctx)
{
    struct search *search = ctx;

    if (strcmp(poller->name, search->name) == 0) {
        search->found = poller;
    }
}

static void poller_find(struct node *node, const char *name, enum part part)
{
    struct search search = {.name = name};

    sched_visit_pollers(0, look, &search);
    ASSERT(search.found != NULL);
    poller_note(node, search.found, part);
}

static void ports_open(void)
{
    for (uint32_t i = 0; i < NODES; i++) {
        struct bench_port *port = &p.nodes[i].port;
        port->peer = &p.nodes[1 - i].port;
        port->ring_frames = RING_FRAMES;
        port->slots = take(RING_FRAMES * sizeof(struct bench_rx_slot));
        port->cookies = take(RING_FRAMES * sizeof(void *));
        bench_port_open(port, i);
    }
}

static void node_open(uint32_t index)
{
    struct node *node = &p.nodes[index];
    uint8_t seed[RNG_SEED_BYTES] = {(uint8_t)(index + 7)};

    struct net_if_config net = {.port = &node->port.eth,
                                .addr_count = 1,
                                .buf_count = 512,
                                .big_buf_count = 16,
                                .neighbor_count = 8};
    net.addrs[0] = (struct net_if_addr){.addr = net_addr_ipv4(198, 51, 100, (uint8_t)(index + 1)),
                                        .prefix_bits = 24};
    ASSERT(net_if_init(take(net_if_memory_bytes(&net)), &net, &node->nif) == STATUS_OK);
    ASSERT(rng_seed(&node->rng, seed, sizeof(seed)) == STATUS_OK);
    struct rdma_soft_config config = {.nif = node->nif,
                                      .rng = &node->rng,
                                      .name = "path",
                                      .qp_count = 8,
                                      .cq_count = 8,
                                      .srq_count = 4,
                                      .pd_count = 8,
                                      .mr_count = 16,
                                      .key_count = 2048,
                                      .ah_count = 16,
                                      .cm_id_count = 16,
                                      .ecn = true};
    ASSERT(rdma_soft_init(take(rdma_soft_memory_bytes(&config)), &config, &node->device) ==
           STATUS_OK);
    enum part part = index == 0 ? PART_ENGINE : PART_OTHER;
    poller_find(node, "net", part);
    poller_find(node, "rdma", part);
    poller_find(node, "rdma cm", part);
}

static void target_start(void)
{
    static const struct target_ns_config namespaces[] = {
        {.nsid = 1, .lba_count = BLOCKS, .lba_shift = 12, .uuid = {1}},
    };
    static const struct target_subsystem_config subsystem = {
        .nqn = SUBNQN, .namespaces = namespaces, .ns_count = 1};
    struct target_config config = {.device = p.nodes[1].device,
                                   .addr = net_addr_ipv4(198, 51, 100, 2),
                                   .subsystems = &subsystem,
                                   .subsystem_count = 1,
                                   .ctrl_count = 2,
                                   .queue_count = 4,
                                   .in_capsule_bytes = IN_CAPSULE,
                                   .buf_count = 64};
    p.target = target_open(take(target_memory_bytes(&config)), &config);
    poller_find(&p.nodes[1], "target", PART_OTHER);
}

/* From here on the queues' rings lie in what stands for the host's memory. */
static void rings_move(void)
{
    uint64_t bytes = nvmf_host_memory_bytes(COMMANDS);
    struct nvmf_host_piece piece = {.bus_addr = (uintptr_t)take(bytes),
                                    .len_bytes = (uint32_t)bytes};
    struct nvmf_ctrl_info info = {0};

    ASSERT(nvmf_host_memory_grant(0, &piece, 1) == STATUS_OK);
    for (uint32_t i = 0; info.state != NVMF_CTRL_LIVE || info.host_queue_count == 0; i++) {
        ASSERT(i < TURNS_MAX);
        sched_turn();
        nvmf_ctrl_info(p.ctrl, &info);
    }
}

static bool ns_is_usable(const struct blk_dev *dev)
{
    return nvmf_ns_is_usable((const struct nvmf_ns *)(const void *)dev);
}

static void volume_start(enum nvmf_path path)
{
    struct nvmf_ns_id id = {.uuid = {1}};
    struct shim *shim = &p.shims[path];

    nvmf_ns_open(&p.ns[path], p.ctrl, &id, path, "remote");
    struct vol_config config = {.name = nvmf_path_name(path),
                                .path_count = 1,
                                .paths = {{.dev = &p.ns[path].dev, .is_usable = ns_is_usable}},
                                .wait_ms = 1000};
    ASSERT(vol_create(take(vol_bytes()), &config, &p.vols[path]) == STATUS_OK);
    for (uint32_t i = 0; !vol_blk(p.vols[path])->geometry.known; i++) {
        ASSERT(i < TURNS_MAX);
        sched_turn();
    }
    *shim = (struct shim){.dev = *vol_blk(p.vols[path]), .below = vol_blk(p.vols[path])};
    shim->dev.ops = &shim_ops;
    shim->dev.changed = NULL;
    ASSERT(nvme_ns_attach(nvme_ep_ctrl(bench_ep()), FIRST_NSID + path, &shim->dev) == STATUS_OK);
}

static void initiator_start(void)
{
    struct nvmf_host_core_config core = {
        .device = p.nodes[0].device, .command_count = COMMANDS, .stage_bytes = STAGE_BYTES};
    struct nvmf_ctrl_config config = {.name = "bench",
                                      .addr = net_addr_ipv4(198, 51, 100, 2),
                                      .subnqn = SUBNQN,
                                      .hostnqn = "nqn.2026-11.org.snic:host",
                                      .hostid = {1},
                                      .host_queues = true};

    verbs_shim(p.nodes[0].device);
    ASSERT(nvmf_host_core_start(take(nvmf_host_core_memory_bytes(&core)), &core) == STATUS_OK);
    vol_init(take(vol_memory_bytes(1)), 1);
    ASSERT(nvmf_ctrl_create(take(nvmf_ctrl_memory_bytes(&config)), &config, &p.ctrl) == STATUS_OK);
    poller_find(&p.nodes[0], "nvmf host", PART_HOST);
    poller_find(&p.nodes[0], "nvme_ep", PART_ENDPOINT);
    volume_start(NVMF_PATH_ZERO_COPY);
    volume_start(NVMF_PATH_TERMINATE);
}

/* --- counted work ---------------------------------------------------------------------------- */

static void node_turn(struct node *node)
{
    for (uint32_t i = 0; i < node->poller_count; i++) {
        enter(node->parts[i]);
        node->pollers[i]->run(node->pollers[i]->ctx);
        enter(PART_OTHER);
    }
}

static void round_run(uint8_t opcode, enum nvmf_path path, uint32_t bytes)
{
    bench_host_push(opcode, FIRST_NSID + path, bytes, DEPTH);
    for (uint32_t done = 0, i = 0; done < DEPTH; i++) {
        ASSERT(i < TURNS_MAX);
        uint64_t icrc = bench_stage_sum(STAGE_ICRC);
        uint64_t place = bench_stage_sum(STAGE_PLACE);
        node_turn(&p.nodes[0]);
        p.icrc += bench_stage_sum(STAGE_ICRC) - icrc;
        p.place += bench_stage_sum(STAGE_PLACE) - place;
        node_turn(&p.nodes[1]);
        done += bench_host_pop();
    }
    enter(PART_OTHER);
    sched_turn(); /* the clock; timers */
    enter(PART_OTHER);
}

/* --- report ---------------------------------------------------------------------------------- */

struct extras {
    uint64_t staged_bytes;
    uint64_t packets;
    /* of host memory, over PCIe */
    uint64_t reads;
    uint64_t read_bytes;
    uint64_t writes;
    uint64_t write_bytes;
};

static struct extras extras_now(enum nvmf_path path)
{
    const struct rdma_soft_stats *soft = rdma_soft_stats(p.nodes[0].device);
    struct nvme_ep_stats ep = nvme_ep_stats(bench_ep(), NVME_EP_ALL_CORES);
    struct nvmf_path_stats host;

    nvmf_ctrl_stats(p.ctrl, path, &host);
    return (struct extras){
        .staged_bytes = host.staged_bytes,
        .packets = counter_get(&soft->rx_packets) + counter_get(&soft->tx_packets),
        .reads = ep.sqe_reads.count + ep.list_reads.count + ep.data_from_host.count +
                 counter_get(&soft->host_ring_reads),
        .read_bytes = ep.sqe_reads.bytes + ep.list_reads.bytes + ep.data_from_host.bytes +
                      counter_get(&soft->host_ring_read_bytes),
        .writes =
            ep.cqe_writes.count + ep.data_to_host.count + counter_get(&soft->host_ring_writes),
        .write_bytes = ep.cqe_writes.bytes + ep.data_to_host.bytes +
                       counter_get(&soft->host_ring_write_bytes)};
}

static uint32_t queue_pairs(void)
{
    struct nvmf_ctrl_info info;

    nvmf_ctrl_info(p.ctrl, &info);
    return info.queue_count + 1;
}

static void case_report(uint8_t opcode, enum nvmf_path path, uint32_t bytes)
{
    char line[400];
    uint32_t count = min_u32(RUN_BYTES / bytes, RUN_MAX);

    for (uint32_t n = 0; n < WARM_COUNT; n += DEPTH) {
        round_run(opcode, path, bytes);
    }
    bench_stages_reset();
    struct extras before = extras_now(path);
    counting_start();
    for (uint32_t n = 0; n < count; n += DEPTH) {
        round_run(opcode, path, bytes);
    }
    struct extras after = extras_now(path);
    snprintf(line, sizeof(line),
             "path %-5s %-11s bytes %6u: endpoint %llu host %llu engine %llu icrc %llu place %llu "
             "staged %llu packets/100 %llu reads/100 %llu of %llu writes/100 %llu of %llu "
             "queue pairs %u",
             opcode == NVME_IO_READ ? "read" : "write", nvmf_path_name(path), (unsigned)bytes,
             (unsigned long long)(p.sums[PART_ENDPOINT] / count),
             (unsigned long long)(p.sums[PART_HOST] / count),
             (unsigned long long)(p.sums[PART_ENGINE] / count),
             (unsigned long long)(p.icrc / count), (unsigned long long)(p.place / count),
             (unsigned long long)((after.staged_bytes - before.staged_bytes) / count),
             (unsigned long long)((after.packets - before.packets) * 100 / count),
             (unsigned long long)((after.reads - before.reads) * 100 / count),
             (unsigned long long)((after.read_bytes - before.read_bytes) / count),
             (unsigned long long)((after.writes - before.writes) * 100 / count),
             (unsigned long long)((after.write_bytes - before.write_bytes) / count),
             (unsigned)queue_pairs());
    p.print(line);
}

static void cases_report(enum nvmf_path path)
{
    static const uint32_t sizes[] = {4096, 131072};

    for (uint32_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        case_report(NVME_IO_READ, path, sizes[i]);
        case_report(NVME_IO_WRITE, path, sizes[i]);
    }
}

void bench_path_report(void *memory, void (*print)(const char *line))
{
    memset(&p, 0, sizeof(p));
    p.memory = memory;
    p.print = print;
    p.now = PART_OTHER;
    ports_open();
    node_open(0);
    node_open(1);
    target_start();
    initiator_start();
    cases_report(NVMF_PATH_ZERO_COPY);
    cases_report(NVMF_PATH_TERMINATE);
    rings_move();
    volume_start(NVMF_PATH_HOST_QUEUES);
    cases_report(NVMF_PATH_HOST_QUEUES);
    ASSERT(target_stats(p.target)->violations == 0);
}
