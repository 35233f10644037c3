/*
 * Instructions per work request of the RoCEv2 provider: two devices in one image on one core, their
 * Ethernet ports joined by memory. Each side's turns are counted apart: the pollers of its
 * interface and its device, and the verbs that its caller calls. What the ports do is not in the
 * numbers; what reading the counter costs is subtracted.
 */
#ifndef BENCH_BENCH_RDMA_H
#define BENCH_BENCH_RDMA_H

#include <stdint.h>
#include "rdma/types.h"

/* How much memory bench_rdma() wants. */
#define BENCH_RDMA_MEMORY_BYTES (16u << 20)

struct bench_rdma_case {
    const char *name;
    uint8_t opcode; /* enum rdma_wr_opcode */
    uint32_t depth;
    uint32_t bytes;
    uint8_t mtu;
    bool with_keys;            /* remote memory is under a key bound to pieces, not a region */
    uint32_t budget_requester; /* instructions on aarch64; 0: none */
    uint32_t budget_responder;
    uint32_t budget_both;
};

/* All cases as a table; with stage marks compiled in, where they go instead. `memory` is 4096-byte
 * aligned; lines go to `print`. Afterwards the calling core's reactor has no pollers. */
void bench_rdma(void *memory, void (*print)(const char *line));

#endif
