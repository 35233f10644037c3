#include "tests/model/node.h"

#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "rdma/soft.h"
#include "sched/sched.h"

#define TURNS_MAX   100000u
#define QUIET_TURNS 4u /* one after another: pollers hand work on */

void *model_memory(uint64_t bytes)
{
    void *memory = NULL;

    ASSERT(posix_memalign(&memory, 4096, bytes) == 0);
    memset(memory, 0, bytes);
    return memory;
}

void model_turn(void)
{
    for (uint32_t quiet = 0, turns = 0; quiet < QUIET_TURNS; turns++) {
        ASSERT(turns < TURNS_MAX);
        quiet = sched_turn() == 0 ? quiet + 1 : 0;
    }
}

static uint32_t count_or(uint32_t count, uint32_t value)
{
    return count != 0 ? count : value;
}

void model_node_open(struct model_node *node, struct wire *wire, uint32_t index, uint32_t seed,
                     const struct node_counts *counts)
{
    static const struct node_counts none;
    const struct node_counts *n = counts != NULL ? counts : &none;
    uint8_t bytes[RNG_SEED_BYTES] = {(uint8_t)seed, (uint8_t)(seed >> 8), (uint8_t)(seed >> 16),
                                     (uint8_t)(seed >> 24), (uint8_t)(index + 1)};

    memset(node, 0, sizeof(*node));
    node->addr = net_addr_ipv4(192, 0, 2, (uint8_t)(index + 1));
    if (n->ipv6) {
        node->addr = (struct net_addr){{0xfd, [15] = (uint8_t)(index + 1)}};
    }
    struct net_if_config net = {.port = wire_port(wire, index),
                                .addr_count = 1,
                                .buf_count = count_or(n->bufs, 512),
                                .big_buf_count = 64,
                                .neighbor_count = 16};
    net.addrs[0] = (struct net_if_addr){.addr = node->addr, .prefix_bits = n->ipv6 ? 64 : 24};
    node->nif_memory = model_memory(net_if_memory_bytes(&net));
    ASSERT(net_if_init(node->nif_memory, &net, &node->nif) == STATUS_OK);
    ASSERT(rng_seed(&node->rng, bytes, sizeof(bytes)) == STATUS_OK);
    struct rdma_soft_config config = {.nif = node->nif,
                                      .rng = &node->rng,
                                      .name = "soft",
                                      .qp_count = count_or(n->qps, 64),
                                      .cq_count = count_or(n->cqs, 64),
                                      .srq_count = count_or(n->srqs, 4),
                                      .pd_count = count_or(n->pds, 16),
                                      .mr_count = count_or(n->mrs, 64),
                                      .key_count = count_or(n->keys, 1024),
                                      .ah_count = 16,
                                      .cm_id_count = count_or(n->cm_ids, 128),
                                      .ecn = true};
    node->memory_bytes = net_if_memory_bytes(&net) + rdma_soft_memory_bytes(&config);
    node->device_memory = model_memory(rdma_soft_memory_bytes(&config));
    ASSERT(rdma_soft_init(node->device_memory, &config, &node->device) == STATUS_OK);
}

void model_node_close(struct model_node *node)
{
    free(node->nif_memory);
    free(node->device_memory);
}
