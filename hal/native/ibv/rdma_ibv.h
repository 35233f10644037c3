/*
 * The provider of the verbs over rdma-core (libibverbs, librdmacm): the firmware as a Linux process
 * drives an RNIC, or rxe. RoCEv2 ports only.
 *
 * What the libraries cannot give, and what happens instead:
 * - Keys are type 2 memory windows, bound by RDMA_WR_BIND alone, to one segment of NIC or host
 *   memory that one region of the same domain, made with LOCAL_WRITE, covers. Addresses under a key
 *   begin at 0, or are those of the region: no other iova. What is wrong with a bind is refused
 *   when it is posted (INVALID), not ended. Bound through a queue pair, a key is of use through
 *   this one alone. Its eight changing bits come back after 256 binds, unless
 *   rdma_key_invalidate() has taken a new window meanwhile. A key as lkey is translated when the
 *   work request is posted.
 * - rdma_key_invalidate() is a deallocation of the window by the kernel: at once, without a queue
 *   pair, and dear (two system calls). A RDMA_WR_BIND that was posted and has not begun then fails,
 *   and its queue pair with it. Who can wait uses RDMA_WR_LOCAL_INV, or has the peer invalidate.
 * - A host region lies in one DMA window, and is pinned while it is registered: register after the
 *   windows are known, deregister in the fence. What was forgotten there is deregistered in the
 *   next turn after its view has changed.
 * - These calls enter the kernel and may take long: registering (pins), creating and destroying,
 *   rdma_qp_modify() to RTR and rdma_ah_create(), which wait for the neighbour, up to a second.
 *   An address handle is READY or is not there. Nothing on the way of an I/O does.
 * - A receive of an SRQ that a queue pair has taken and not completed when it is destroyed is lost;
 *   take the queue pair to ERR first and wait for its completions.
 * - Rejections have reason CONSUMER, also where the contract says NO_RESOURCES. rdma_cm_resolve()
 *   finds out later that there is no route: UNREACHABLE. Timeouts and repetitions of the CM are
 *   Linux' own (about 4 s, 15 times).
 * - vendor_err and the counters of struct rdma_qp_stats are 0.
 *
 * Linux' rxe (6.1, 6.12), beside: a key reaches to the ends of its region, not to its own; a WRITE
 * of several packets whose first has passed goes on after an invalidation; a wrong lkey of a send
 * is WR_FLUSH_ERR. It is for trying things out, not for peers that are not trusted.
 */
#ifndef NATIVE_IBV_RDMA_IBV_H
#define NATIVE_IBV_RDMA_IBV_H

#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "net/net.h"
#include "rdma/types.h"

/* Counts are capped by what the device has; attr of the device says what came out. */
struct rdma_ibv_config {
    const char *name;     /* "rxe0"; NULL: the first that has a RoCEv2 port with a link */
    uint8_t port;         /* 1.. */
    struct net_addr addr; /* of the port; zero: its first IPv4 address, else IPv6 */
    uint32_t qp_count;
    uint32_t cq_count;
    uint32_t srq_count;
    uint32_t pd_count;
    uint32_t mr_count;
    uint32_t key_count;
    uint32_t ah_count;
    uint32_t cm_id_count;
    uint32_t inline_bytes; /* wanted of each send work request */
};

/* Enough for a whole firmware: what main() gives. */
void rdma_ibv_config_default(struct rdma_ibv_config *config);

/* Opens the device and adds its poller to the calling core, which owns it from then on. Memory is
 * taken from the heap here; later only what the libraries take for themselves. NOT_FOUND: no such
 * device, or none with a link. UNSUPPORTED: not RoCEv2, or the kernel lacks rdma_ucm. IO, NO_SPACE.
 * The log says why. */
MUST_USE enum status rdma_ibv_open(const struct rdma_ibv_config *config, struct rdma_device **out);

/* Once nothing that was made from it is left. The owner core, or any when its reactor has ended
 * (the poller's memory stays). */
void rdma_ibv_close(struct rdma_device *device);

/* Entry `index` of the port's GID table, which rdma_av.sgid_index counts. False: empty, or not
 * RoCEv2. */
bool rdma_ibv_gid(const struct rdma_device *device, uint8_t index, struct net_addr *addr);

/* The entry and the address that the device was opened with. */
uint8_t rdma_ibv_gid_index(const struct rdma_device *device);
struct net_addr rdma_ibv_addr(const struct rdma_device *device);

/* Nothing is left of what was made from it. For tests. */
bool rdma_ibv_is_quiet(const struct rdma_device *device);

#endif
