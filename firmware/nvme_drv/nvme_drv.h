/*
 * Polled driver for NVMe drives behind the NIC's own root complex. Each namespace is a block device
 * (blk/blk.h); data goes straight between the drive and the memory that the request refers to.
 *
 * A drive is brought up, watched and reset by core 0 without ever blocking; each core has an I/O
 * queue pair of its own on every drive. What a request describes becomes
 *  - one command with a PRP list, or with an SGL where PRPs cannot express it and the drive has
 *    SGLs;
 *  - several commands, when the drive's largest transfer is smaller, or at places where a PRP list
 *    may not go on. The first error wins; the request ends when all of its commands ended;
 *  - as the last resort, block by block, a copy through NIC memory, counted as bounced_bytes.
 *
 * What a submitter sees:
 *  - status, DNR and dw0 are the drive's. "More" and the retry delay (M, CRD) are cleared: they
 *    speak of the drive's log and Identify data, which nobody above can see;
 *  - Invalid Field, DNR: metadata, a fused command, a length that is not that of the LBA range, or
 *    what cannot be expressed by any of the means above;
 *  - Namespace Not Ready without DNR: no such namespace now, or the drive does not come up;
 *  - Command Interrupted without DNR: a timeout or a reset of the drive ended it;
 *  - Abort Requested without DNR: it was cancelled.
 * While a drive that was ready is being reset, new requests wait for it, up to their deadline.
 * A request without a deadline gets NVME_DRV_TIMEOUT_NS. A cancelled or late command is aborted,
 * and if it does not end within NVME_DRV_ABORT_NS the drive is reset. No request ends by a reset
 * before the drive has stopped or its access to memory was cut off.
 *
 * Leaves out: reservations (a drive knows the NIC as its one host, whoever the tenants are),
 * interrupts, metadata and protection information, block sizes other than 512 and 4096,
 * drives with fewer I/O queues than cores (refused), hot plug (a drive that goes away stays away),
 * firmware download and format. Source: NVM Express Base Specification 1.4.
 */
#ifndef NVME_DRV_NVME_DRV_H
#define NVME_DRV_NVME_DRV_H

#include <stdint.h>
#include "base/status.h"
#include "blk/blk.h"
#include "hal/pcie_rc.h"

/* X(name, what it means) */
#define NVME_DRV_STATE_LIST(X)                                                              \
    X(STOPPING, "the cores are told to submit nothing more")                                \
    X(DISABLING, "CC.EN goes to 0; CSTS.RDY shall follow soon, since requests wait for it") \
    X(DRAINING, "the drive cannot reach memory; the cores end what was under way")          \
    X(BACKOFF, "pausing before the next attempt")                                           \
    X(SETTLING, "CSTS.RDY must be 0 before the next enable, within CAP.TO")                 \
    X(ENABLING, "CC.EN is 1; CSTS.RDY must follow within CAP.TO")                           \
    X(IDENTIFY_CTRL, "Identify Controller")                                                 \
    X(SET_EVENTS, "Set Features: which asynchronous events the drive reports")              \
    X(SET_QUEUES, "Set Features: a queue pair for each core")                               \
    X(CREATE_CQ, "Create I/O Completion Queue for one core")                                \
    X(CREATE_SQ, "Create I/O Submission Queue for one core")                                \
    X(STARTING, "the cores take their queues")                                              \
    X(READ_EVENT, "Get Log Page, which lets the drive report the event again")              \
    X(LIST_NS, "Identify: active namespaces")                                               \
    X(IDENTIFY_NS, "Identify Namespace")                                                    \
    X(DESCRIBE_NS, "Identify: namespace identification descriptors")                        \
    X(READY, "serving")                                                                     \
    X(FAILED, "this drive cannot be used; the log says why")                                \
    X(REMOVED, "the drive no longer answers on its bus")

enum nvme_drv_state {
#define NVME_DRV_STATE_ENUM(name, text) NVME_DRV_##name,
    NVME_DRV_STATE_LIST(NVME_DRV_STATE_ENUM)
#undef NVME_DRV_STATE_ENUM
};

#define NVME_DRV_TIMEOUT_NS (UINT64_C(8) * 1000 * 1000 * 1000)
#define NVME_DRV_ABORT_NS   (UINT64_C(500) * 1000 * 1000)

struct nvme_drv;

struct nvme_drv_stats {
    uint64_t command_count;        /* I/O commands given to the drive */
    uint64_t split_count;          /* requests that became more than one command */
    uint64_t bounced_bytes;        /* block data that went through NIC memory: staged */
    uint64_t error_count;          /* I/O commands that ended with an error status */
    uint64_t timeout_count;        /* I/O commands that passed their deadline */
    uint64_t abort_count;          /* Abort commands wanted */
    uint64_t bad_completion_count; /* completions for no command of ours */
    uint64_t event_count;          /* asynchronous events */
    uint64_t reset_count;          /* controller resets after the drive was up or coming up */
    uint8_t critical_warning;      /* as in the last SMART log that an event made us read */
};

/* Once, on core 0, after sched_init() and before the first attach; again only in tests. */
void nvme_drv_init(void);

/* The `index`-th NVMe drive behind the root complex (class 01 08 02), in bus order; NULL past the
 * last. Core 0. */
const struct pcie_rc_device *nvme_drv_device(uint32_t index);

/* Takes a drive and starts its bring-up; adds pollers to every core. Core 0, before the other cores
 * run. `found` may be NULL: called on core 0 when a namespace is seen for the first time.
 * INVALID: no NVMe function or no usable BAR 0. NO_SPACE: LIMIT_DRIVES. */
MUST_USE enum status nvme_drv_attach(const struct pcie_rc_device *device,
                                     void (*found)(struct blk_dev *dev, uint32_t nsid, void *ctx),
                                     void *ctx, struct nvme_drv **out);

/* The device of a namespace; its geometry is unknown until the drive says. Valid for ever.
 * NULL: nsid 0 or broadcast, or all NVME_DRV_NAMESPACES are taken. Core 0. */
struct blk_dev *nvme_drv_blk(struct nvme_drv *drv, uint32_t nsid);

/* Asks for a controller reset, as an unanswered command would. Core 0. */
void nvme_drv_reset(struct nvme_drv *drv);

/* For reports; numbers of other cores may be a moment old. Core 0. */
const char *nvme_drv_name(const struct nvme_drv *drv);
enum nvme_drv_state nvme_drv_state(const struct nvme_drv *drv);
const char *nvme_drv_state_name(enum nvme_drv_state state);
struct nvme_drv_stats nvme_drv_stats(const struct nvme_drv *drv);

#endif
