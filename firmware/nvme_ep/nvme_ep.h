/*
 * NVMe over PCIe: the transport between a host's queues and the controller core (firmware/nvme).
 *
 * It serves the registers and the CSTS state machine, creates and deletes queues, fetches commands,
 * resolves PRPs and SGLs to bus addresses, posts completions, raises MSI-X, and fences: after
 * CSTS.RDY is 0, a function reset is acknowledged, or a queue is deleted, nothing of ours touches
 * host memory on its behalf.
 *
 * Who runs where: registers, events, the admin queue and all decisions belong to core 0. An I/O
 * completion queue is given to a core when it is created, and its submission queues live with it;
 * that core alone touches them. Cores speak by messages.
 *
 * Leaves out: queues that are not physically contiguous (CAP.CQR is 1), the controller memory
 * buffer, pin-based interrupts and INTMS/INTMC, memory pages other than 4 KiB.
 *
 * Source: NVM Express Base Specification 1.4, sections 3.1, 4.1 - 4.6, 4.13, 5.1, 5.3 - 5.7, 7.1
 * - 7.6.
 */
#ifndef NVME_EP_NVME_EP_H
#define NVME_EP_NVME_EP_H

#include <stdbool.h>
#include <stdint.h>
#include "base/compiler.h"
#include "base/limits.h"
#include "base/status.h"
#include "hal/pcie_ep.h"
#include "nvme/nvme.h"

struct handover_function; /* spec/handover.h */
struct nvme_ep;

struct nvme_ep_config {
    struct pcie_ep *pcie;
    /* The controller behind. The endpoint itself fills ops, transport, fn and vector_count, and
     * clears doorbell_buffers where polling host memory is dear or the doorbells of the offered
     * queues do not fit into one page. */
    struct nvme_ctrl_config ctrl;
    uint32_t core_mask;          /* cores that serve I/O queues; not empty, only running cores */
    uint8_t dstrd;               /* CAP.DSTRD: doorbells are 4 << dstrd bytes apart, 0..15 */
    uint8_t ready_timeout_500ms; /* CAP.TO, 1..255: how long RDY may wait for nvme_ep_serve() */
    bool weighted_round_robin;   /* offer WRR with urgent class (CAP.AMS) */
    bool subsystem_reset;        /* offer NSSR (CAP.NSSRS) */
    /* When the fence of an unmap, of bus mastering off or of a shutdown cancels commands that still
     * run, 1..900. The other end gives an unmap 1 s: what the slowest device takes to end a command
     * that was cancelled must fit in as well, or the link goes down. Resets, CC.EN=0 and deletions
     * of queues cancel at once. */
    uint16_t fence_cancel_ms;
};

/* --- Host Memory Buffer (8.9, 5.21.1.13) ---------------------------------------------------- */

/* Offered when ctrl.hmb_preferred_bytes is not 0. A host that grants memory hands over a list of
 * pieces; each was found inside one window that may be read and written. What lies in them is
 * hostile all the same: the host can write there whenever it likes, promise or not. */
struct nvme_ep_hmb_piece {
    uint64_t host_addr; /* a multiple of 4 KiB */
    uint64_t bus_addr;  /* the same on the NIC's bus, good until the user has let go */
    uint32_t len_bytes; /* a multiple of 4 KiB, not 0, at most NVME_EP_HMB_PIECE_MAX */
};
#define NVME_EP_HMB_PIECE_MAX (UINT32_C(1) << 30)

/* At least ctrl.hmb_min_bytes in all; the host may grant less or more than was preferred. */
struct nvme_ep_hmb {
    uint64_t len_bytes; /* sum of the pieces */
    uint32_t piece_count;
    struct nvme_ep_hmb_piece pieces[LIMIT_HMB_PIECES]; /* in the host's order */
};

/* Who uses the granted memory. One user for a function; both calls on core 0.
 *
 * The user is either without the buffer (at first, and after its answer to revoke) or has it (from
 * `granted` on). Calls alternate: granted, revoke, granted, ...
 *
 *  granted: the memory may be used from now on, by every core. `hmb` stays as it is until the
 *      answer to revoke. Its content is undefined: nothing that lay there before is relied on,
 *      although the host may say that it returns it (MR).
 *  revoke: nothing of ours may touch the memory any more once done(arg) is called: no core, no
 *      device, no packet under way that reads it or would be placed into it. Call it exactly once,
 *      on core 0, before revoke returns or later. What the host waits for (EHM=0, CC.EN=0, SHST,
 *      FLR, the loss of bus mastering, a DMA unmap) is not reported before, so be quick: the other
 *      end of the link gives 1 s for all of a fence, and commands of the host that go on over the
 *      fence may need their 900 ms of it. Aim at 100 ms: detach (queue pairs to the error state),
 *      do not wait for a remote side.
 *      In that time no other fence starts. Commands of the host go on if EHM=0 is the reason.
 *
 * Reasons to revoke: Set Features EHM=0; CC.EN=0; CC.SHN, after the namespaces are flushed; reset,
 * FLR, link down; fatal error (CFS); bus mastering off, or a change of the windows after which some
 * piece is not where it was. After the last two the buffer is still the controller's, and granted
 * comes again by itself (with new bus addresses) when all pieces are within reach again. After all
 * others only a new Set Features with EHM=1 grants. */
struct nvme_ep_hmb_ops {
    void (*granted)(void *ctx, const struct nvme_ep_hmb *hmb);
    void (*revoke)(void *ctx, void (*done)(void *arg), void *arg);
};

/* Size and alignment are public so that the app can place it; fields are in nvme_ep/nvme_ep_priv.h.
 */
#define NVME_EP_BYTES (7u * 1024 * 1024)
struct nvme_ep_memory {
    _Alignas(64) uint8_t bytes[NVME_EP_BYTES];
};

/* Makes an endpoint and its controller in `memory`; nothing of it is visible to the host yet. Core
 * 0, after sched_init(). INVALID: a field is out of range, or the doorbells do not fit into their
 * area. */
MUST_USE enum status nvme_ep_init(struct nvme_ep_memory *memory,
                                  const struct nvme_ep_config *config, struct nvme_ep **out);

/* Publishes the registers, adds the pollers and tells the other end that we answer. RDY is held
 * back until nvme_ep_serve(). Once, core 0, before sched_run() starts on the other cores of
 * core_mask. */
void nvme_ep_start(struct nvme_ep *ep);

/* Namespaces are attached: from now on CC.EN may lead to CSTS.RDY. Core 0. */
void nvme_ep_serve(struct nvme_ep *ep);

/* The firmware is about to go: CC.EN does not lead to CSTS.RDY any more until nvme_ep_serve(). A
 * controller that is ready stays so. Core 0. */
void nvme_ep_hold(struct nvme_ep *ep);

/* Names the user of the Host Memory Buffer. At most once, core 0, before nvme_ep_serve(). Without a
 * user the host may grant memory all the same, and nothing is in it. */
void nvme_ep_hmb_use(struct nvme_ep *ep, const struct nvme_ep_hmb_ops *ops, void *ctx);

/* The controller behind, to attach namespaces. */
struct nvme_ctrl *nvme_ep_ctrl(struct nvme_ep *ep);

/* --- the CSTS state machine ---------------------------------------------------------------- */

#define NVME_EP_STATE_LIST(X)                                                    \
    X(DISABLED, "CC.EN is 0, nothing is served, RDY is 0")                       \
    X(ENABLING, "CC.EN is 1, RDY waits for nvme_ep_serve()")                     \
    X(READY, "RDY is 1, queues are served")                                      \
    X(QUIESCING, "CC.SHN is set: nothing is fetched, commands under way end")    \
    X(FLUSHING, "the namespaces are flushed, SHST is occurring")                 \
    X(RELEASING, "flushed; the Host Memory Buffer's user lets go of it")         \
    X(SHUT_DOWN, "SHST is complete, nothing is served until CC.EN goes to 0")    \
    X(DRAINING, "CC.EN went to 0 or a reset came: every command must end first") \
    X(FAILING, "a fatal error: as DRAINING, then CFS")                           \
    X(FATAL, "CSTS.CFS is 1, only a reset leads out")                            \
    X(HANDING, "another image takes over: commands under way end")               \
    X(HANDED, "all is saved for the next image, nothing is touched any more")    \
    X(RESUMING, "taken over, RDY is 1: queues rest until nvme_ep_serve()")

enum nvme_ep_state {
#define NVME_EP_STATE_ENUM(name, text) NVME_EP_STATE_##name,
    NVME_EP_STATE_LIST(NVME_EP_STATE_ENUM)
#undef NVME_EP_STATE_ENUM
};

const char *nvme_ep_state_name(enum nvme_ep_state state);

/* --- another image goes on (spec/handover.h, docs/spec/handover.md) -------------------------- */

/* Stops serving in a way that the host does not notice, if it is for a short time: nothing is
 * fetched any more; every command under way ends by itself, none is cancelled, and its completion
 * is posted; the user of the Host Memory Buffer lets go. Then done(ctx) is called, and
 * until nvme_ep_hand_over_cancel() nothing of ours touches host memory or registers; what the host
 * does waits in its queues and events. One that is disabled, shut down or dead is done at once. An
 * event of the host on the way (a reset, an unmap: these have a deadline) is answered first, and
 * the way begins anew. A function with commands that do not end, or that never is without an event,
 * does not come so far: whoever asked gives it a time. Core 0, once until cancelled. */
void nvme_ep_hand_over(struct nvme_ep *ep, void (*done)(void *ctx), void *ctx);

/* Serves again as before, whether done() was called or not (it will not be). Core 0. */
void nvme_ep_hand_over_cancel(struct nvme_ep *ep);

/* After done(): true when the host has sent an event since. It serves again, answers it, and comes
 * to rest again; then done() is called again. For whoever waits for other functions. Core 0. */
MUST_USE bool nvme_ep_hand_over_again(struct nvme_ep *ep);

/* False: the way to done() does not begin, for the host has set what is not saved (Error Recovery),
 * or the function fails. Ask before the host is told that it will be handed over. Core 0. */
MUST_USE bool nvme_ep_can_hand_over(const struct nvme_ep *ep);

/* After done(): all that the next image needs. Core 0. */
void nvme_ep_save(const struct nvme_ep *ep, struct handover_function *saved);

/* Goes on where another image ended, in place of a first start: between nvme_ep_init() and
 * nvme_ep_start(), with a function that was attached to without a hello
 * (pcie_ep_link_params.resume). RDY stays 1; queues rest until nvme_ep_serve(), by when the same
 * namespaces should be attached; *saved stays until the state is READY. Core 0. BAD_DATA: what was
 * saved cannot be, or this image offers less than the host was told (CAP, MDTS, queues): nothing
 * has changed. */
MUST_USE enum status nvme_ep_restore(struct nvme_ep *ep, const struct handover_function *saved);

/* --- numbers ------------------------------------------------------------------------------- */

/* Accesses to host memory across PCIe. */
struct nvme_ep_traffic {
    uint64_t count;
    uint64_t bytes;
};

/* Of one core, or summed over the cores of the function. */
struct nvme_ep_stats {
    uint64_t sqe_count; /* commands fetched */
    uint64_t cqe_count; /* completions posted */
    uint64_t irq_count;
    struct nvme_ep_traffic sqe_reads;
    struct nvme_ep_traffic list_reads; /* PRP lists and SGL segments */
    struct nvme_ep_traffic cqe_writes;
    struct nvme_ep_traffic data_to_host; /* mapped for it: moved by a core or by a device's DMA */
    struct nvme_ep_traffic data_from_host;
    uint64_t staged_bytes;         /* block data buffered here on its way: always 0 */
    uint64_t doorbell_error_count; /* invalid values, and writes to queues that do not exist */
    uint64_t bad_address_count;    /* outside the windows */
    uint64_t pool_empty_count;     /* fetching stopped for want of a command or segment list */
    uint64_t cq_full_count;        /* a completion had to wait for the CQ head */
    uint64_t dropped_count;        /* completions whose queue was reset or deleted meanwhile */
    uint64_t cancel_count;         /* commands asked to end early */
    uint64_t fence_count;
};

/* `core` = NVME_EP_ALL_CORES: the sum. Any core; the numbers may be mid-turn. */
#define NVME_EP_ALL_CORES UINT32_MAX
struct nvme_ep_stats nvme_ep_stats(const struct nvme_ep *ep, uint32_t core);

/* One queue pair id as it is now; a queue that does not exist has size 0. */
struct nvme_ep_queue_info {
    uint16_t sq_size;
    uint16_t sq_head;
    uint16_t sq_tail; /* as the doorbell says */
    uint16_t sq_cq_id;
    uint16_t cq_size;
    uint16_t cq_head; /* as last read */
    uint16_t cq_tail;
    uint16_t cq_vector;
    uint16_t cq_held; /* completions that wait for the CQ head */
    uint8_t core;
    bool cq_ien;
    uint64_t sqe_count;
    uint64_t cqe_count;
    uint64_t irq_count;
    uint64_t sq_host_addr;
    uint64_t cq_host_addr;
    uint32_t sq_doorbell; /* as they stand; where the host rings shadows: as last used */
    uint32_t cq_doorbell;
    uint8_t priority; /* 0 urgent .. 3 low */
    bool phase;       /* of the next completion */
    bool is_coalescing;
    bool is_shadowed;
    bool is_far; /* its memory is out of reach */
    bool is_deleting;
};

/* Core 0, any context there (interrupt handlers too): takes no lock, the queue's core runs on.
 * `qid` 0..LIMIT_IO_QUEUES. */
struct nvme_ep_queue_info nvme_ep_queue_info(const struct nvme_ep *ep, uint16_t qid);

/* The commands of a submission queue that have not ended: how many, and when the oldest of them was
 * fetched (0: none). Looks at every command of the queue's core. Core 0, any context there. */
uint32_t nvme_ep_queue_commands(const struct nvme_ep *ep, uint16_t qid, uint64_t *oldest_ns);

/* What one wants to see when it hangs. Core 0, any context there. */
struct nvme_ep_snapshot {
    enum nvme_ep_state state;
    uint32_t cc;
    uint32_t csts;
    uint32_t aqa;
    uint64_t asq, acq, cap;
    uint32_t coalesce_entries; /* threshold and time of the feature */
    uint32_t coalesce_us;
    bool serving;
    bool bus_master; /* some window is reachable */
    uint32_t
        fence_left;     /* cores, and the user of the host's memory, that owe the fence an answer */
    uint64_t hmb_bytes; /* Host Memory Buffer as granted; 0: none */
    bool hmb_is_used;   /* its user has it */
    uint32_t view_generation;
    uint32_t sq_count; /* I/O queues */
    uint32_t cq_count;
    uint32_t in_flight[LIMIT_CORES];
    uint32_t pool_low_water[LIMIT_CORES]; /* fewest free commands ever */
};
struct nvme_ep_snapshot nvme_ep_snapshot(const struct nvme_ep *ep);

#endif
