/*
 * Memory and queue pairs at scale, natively: 64 associations with a model target, and
 * up to 1,024 volumes over their namespaces, on 4 cores; the memory of the endpoints that 128 host
 * queue pairs take is counted in, they do not run. `scale [VOLUMES]`. Lines of "name: number" to
 * the standard output.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/bits.h"
#include "hal/clock.h"
#include "hal/native/native.h"
#include "nvme_ep/nvme_ep.h"
#include "nvmf_host/nvmf_host.h"
#include "rdma/verbs.h"
#include "sched/sched.h"
#include "tests/model/node.h"
#include "tests/model/target.h"
#include "vol/vol.h"

#define CORES       LIMIT_CORES
#define CTRLS       LIMIT_NVMF_CTRLS
#define NAMESPACES  (LIMIT_VOLUMES / CTRLS) /* of a controller, at most */
#define HOST_QUEUES 128u
#define TARGET_NODE CORES

static struct wire *wire;
static struct model_node nodes[CORES + 1];
static struct target_ns_config namespaces[CTRLS][NAMESPACES];
static struct target_subsystem_config subsystems[CTRLS];
static char nqns[CTRLS][32];
static struct nvmf_ctrl *ctrls[CTRLS];
static struct nvmf_ns remotes[LIMIT_VOLUMES];
static struct vol *vols[LIMIT_VOLUMES];
static uint32_t volume_count;
static uint64_t taken_bytes;
static struct target *target;

static void *take(uint64_t bytes)
{
    taken_bytes += bytes;
    return model_memory(bytes);
}

static uint64_t report(const char *name, uint64_t *from)
{
    uint64_t bytes = taken_bytes - *from;

    printf("scale %s: %llu bytes\n", name, (unsigned long long)bytes);
    *from = taken_bytes;
    return bytes;
}

static void turn(void)
{
    for (uint32_t core = 0; core < CORES; core++) {
        native_cpu_become(core);
        for (uint32_t i = 0; i < 4; i++) {
            sched_turn();
        }
    }
    native_cpu_become(0);
}

static void target_start(void)
{
    for (uint32_t c = 0; c < CTRLS; c++) {
        snprintf(nqns[c], sizeof(nqns[c]), "nqn.2024-01.scale:%u", (unsigned)c);
        subsystems[c] = (struct target_subsystem_config){
            .nqn = nqns[c], .namespaces = namespaces[c], .ns_count = NAMESPACES};
        for (uint32_t n = 0; n < NAMESPACES; n++) {
            namespaces[c][n] = (struct target_ns_config){.nsid = n + 1,
                                                         .lba_count = 8,
                                                         .lba_shift = 12,
                                                         .uuid = {1, (uint8_t)c, (uint8_t)n}};
        }
    }
    struct target_config config = {.device = nodes[TARGET_NODE].device,
                                   .addr = nodes[TARGET_NODE].addr,
                                   .subsystems = subsystems,
                                   .subsystem_count = CTRLS,
                                   .ctrl_count = CTRLS,
                                   .queue_count = CTRLS * (CORES + 1),
                                   .queue_entries = 128};
    uint64_t before = taken_bytes;
    target = target_open(take(target_memory_bytes(&config)), &config);
    taken_bytes = before; /* not the NIC's */
}

static void cores_start(void)
{
    struct node_counts counts = {.qps = LIMIT_RDMA_QPS,
                                 .cqs = LIMIT_RDMA_CQS,
                                 .srqs = LIMIT_RDMA_SRQS,
                                 .pds = LIMIT_RDMA_PDS,
                                 .mrs = LIMIT_RDMA_MRS,
                                 .keys = LIMIT_RDMA_KEYS,
                                 .cm_ids = LIMIT_RDMA_CM_IDS,
                                 .bufs = LIMIT_NET_BUFS};
    uint64_t from = taken_bytes;

    for (uint32_t core = 0; core < CORES; core++) {
        native_cpu_become(core);
        model_node_open(&nodes[core], wire, core, 1, &counts);
        taken_bytes += nodes[core].memory_bytes;
    }
    report("interfaces and RDMA devices", &from);
    for (uint32_t core = 0; core < CORES; core++) {
        native_cpu_become(core);
        struct nvmf_host_core_config config = {.device = nodes[core].device,
                                               .command_count = LIMIT_NVMF_COMMANDS,
                                               .stage_bytes = LIMIT_NVMF_STAGE_BYTES};
        ASSERT(nvmf_host_core_start(take(nvmf_host_core_memory_bytes(&config)), &config) ==
               STATUS_OK);
    }
    native_cpu_become(0);
    report("initiator, per core", &from);
    vol_init(take(vol_memory_bytes(CORES)), CORES);
}

static void volumes_start(void)
{
    uint64_t from = taken_bytes;

    for (uint32_t c = 0; c < CTRLS; c++) {
        struct nvmf_ctrl_config config = {.name = "scale",
                                          .addr = nodes[TARGET_NODE].addr,
                                          .subnqn = nqns[c],
                                          .hostnqn = "nqn.2024-01.scale:host",
                                          .hostid = {1},
                                          /* all at once: requests are lost, and come again */
                                          .connect_timeout_ms = 30000};
        ASSERT(nvmf_ctrl_create(take(nvmf_ctrl_memory_bytes(&config)), &config, &ctrls[c]) ==
               STATUS_OK);
    }
    report("associations", &from);
    for (uint32_t i = 0; i < volume_count; i++) {
        struct nvmf_ns_id id = {.uuid = {1, (uint8_t)(i % CTRLS), (uint8_t)(i / CTRLS)}};
        nvmf_ns_open(&remotes[i], ctrls[i % CTRLS], &id, NVMF_PATH_ZERO_COPY, "remote");
        struct vol_config config = {
            .name = "volume", .path_count = 1, .paths = {{.dev = &remotes[i].dev}}};
        ASSERT(vol_create(take(vol_bytes()), &config, &vols[i]) == STATUS_OK);
        taken_bytes += sizeof(struct nvmf_ns);
    }
    report("volumes and remote namespaces", &from);
}

static bool all_are_known(void)
{
    for (uint32_t i = 0; i < volume_count; i++) {
        if (!vol_blk(vols[i])->geometry.known) {
            return false;
        }
    }
    return true;
}

static void qp_count(struct rdma_qp *qp, void *ctx)
{
    (void)qp;
    ++*(uint32_t *)ctx;
}

int main(int argc, char **argv)
{
    struct wire_config config = {.seed = 1, .port_count = CORES + 1, .mtu_bytes = 4200};
    struct node_counts counts = {
        .qps = 512, .cqs = 512, .cm_ids = 1024, .bufs = 1024, .mrs = 8, .keys = 8};
    uint32_t functions = HOST_QUEUES / LIMIT_IO_QUEUES;
    uint32_t qps = 0;

    volume_count = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : LIMIT_VOLUMES;
    if (volume_count == 0 || volume_count > LIMIT_VOLUMES) {
        fprintf(stderr, "usage: scale [VOLUMES], 1 to %u\n", LIMIT_VOLUMES);
        return 2;
    }
    native_cpu_become(0);
    native_clock_set(100 * NS_PER_S);
    sched_init(CORES, SCHED_IDLE_POLL);
    wire = wire_open(&config);
    model_node_open(&nodes[TARGET_NODE], wire, TARGET_NODE, 1, &counts);
    target_start();
    taken_bytes = functions * sizeof(struct nvme_ep_memory);
    printf("scale endpoints of %u host queue pairs: %llu bytes\n", HOST_QUEUES,
           (unsigned long long)taken_bytes);
    cores_start();
    volumes_start();
    for (uint64_t end_ns = clock_now_ns() + 120 * NS_PER_S; !all_are_known();) {
        ASSERT(clock_now_ns() < end_ns);
        turn();
        native_clock_advance(100 * NS_PER_US);
    }
    for (uint32_t core = 0; core < CORES; core++) {
        rdma_qp_visit(nodes[core].device, qp_count, &qps);
    }
    uint32_t queues[CORES + 1] = {0};
    for (uint32_t c = 0; c < CTRLS; c++) {
        struct nvmf_ctrl_info info;
        nvmf_ctrl_info(ctrls[c], &info);
        queues[info.queue_count]++;
    }
    for (uint32_t i = 0; i <= CORES; i++) {
        printf("scale associations with %u I/O queues: %u\n", i, queues[i]);
    }
    printf("scale target: %u queues, %llu requests, %llu rejected\n", target_queue_count(target),
           (unsigned long long)target_stats(target)->requests,
           (unsigned long long)target_stats(target)->rejects);
    printf("scale memory: %llu bytes\n", (unsigned long long)taken_bytes);
    printf("scale queue pairs: %u (drives x cores: %u)\n", qps - CORES, volume_count * CORES);
    return 0;
}
