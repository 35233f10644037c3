#include "tests/model/node.h"

#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "rdma/soft.h"

static void *aligned(uint64_t bytes)
{
    uint64_t rounded = (bytes + 63) / 64 * 64;
    void *memory = aligned_alloc(64, rounded);

    ASSERT(memory != NULL);
    memset(memory, 0, rounded);
    return memory;
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
    struct net_if_config net = {.port = wire_port(wire, index),
                                .addr_count = 1,
                                .buf_count = count_or(n->bufs, 512),
                                .big_buf_count = 64,
                                .neighbor_count = 16};
    net.addrs[0] = (struct net_if_addr){.addr = node->addr, .prefix_bits = 24};
    node->nif_memory = aligned(net_if_memory_bytes(&net));
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
    node->device_memory = aligned(rdma_soft_memory_bytes(&config));
    ASSERT(rdma_soft_init(node->device_memory, &config, &node->device) == STATUS_OK);
}

void model_node_close(struct model_node *node)
{
    free(node->nif_memory);
    free(node->device_memory);
}
