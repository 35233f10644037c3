/*
 * NVMe controller core: executes admin and I/O commands, knows nothing about how they arrive.
 *
 * A transport (nvme_ep over PCIe; later nvmf_tgt over RDMA) fetches commands, gives them to
 * nvme_submit_admin() or nvme_submit_io(), maps their data when the core asks, and sends the
 * completion when the core calls back.
 *
 * Who runs where: the controller's state belongs to its control core (core 0). Admin commands run
 * there. I/O commands run on the owner core of their queue and read only what nvme_ns publishes.
 * Source: NVM Express Base Specification 1.4.
 */
#ifndef NVME_NVME_H
#define NVME_NVME_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/bits.h"
#include "base/compiler.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/mem_ref.h"
#include "base/status.h"
#include "blk/blk.h"
#include "sched/sched.h"
#include "spec/nvme.h"
#include "spec/nvme_log.h"

struct nvme_ctrl;
struct nvme_cmd;

/* --- commands ------------------------------------------------------------------------------- */

/* One command from fetch to completion. Belongs to the transport, which embeds it in its own;
 * between nvme_submit_*() and ops->complete() the core works with it. */
struct nvme_cmd {
    struct blk_req blk; /* blk.cmd is the SQE as copied once; blk.status, dw0, dw1 the result */
    struct nvme_ctrl *ctrl;
    struct nvme_ns *ns; /* set by the core for commands that hold a namespace */
    struct list link;   /* the core's: outstanding AERs, commands waiting for something */
    uint64_t start_ns;  /* transport: when it was fetched */
    uint16_t sq_id;     /* as the error log names it; 0 is the admin queue */
    uint16_t cid;       /* the host's, for completion */
    uint8_t state;      /* transport's */
    bool aborted;       /* transport: an Abort, queue deletion or reset asked for its end */

    /* The core's. */
    uint8_t step;            /* enum nvme_step: who has it now */
    bool cancelled;          /* nvme_cancel() was called: start nothing more for it */
    uint16_t error_location; /* byte and bit of the offending field for the error log; 0xffff none.
                                map() may set it when it refuses */
    uint16_t chain_status;   /* commands of several device requests: the first failure */
    uint32_t cursor;         /* commands of several device requests: what comes next */
};

/* --- transport ------------------------------------------------------------------------------ */

/* What a transport does for the core. "Core x": the core that submitted the command. */
struct nvme_transport_ops {
    /* Resolves the command's DPTR into blk.data: `len_bytes` in direction blk.dir, every address
     * checked. Returns the NVMe status that names the fault (0: mapped). At most once per command.
     * The core may point blk.data elsewhere afterwards: what has to be undone at the end the
     * transport notes for itself. Core x. */
    nvme_status_t (*map)(struct nvme_cmd *cmd, uint32_t len_bytes);

    /* The command is done: blk.status, dw0, dw1 and error_location are set; NVME_STATUS_MORE says
     * that the error log has an entry for it. Core x, exactly once. */
    void (*complete)(struct nvme_cmd *cmd);

    /* Queue commands of the PCIe transport (5.3 - 5.6). May answer later: they end by
     * nvme_admin_done(). NULL: the command is an invalid opcode. Control core. */
    void (*create_cq)(struct nvme_cmd *cmd);
    void (*create_sq)(struct nvme_cmd *cmd);
    void (*delete_cq)(struct nvme_cmd *cmd);
    void (*delete_sq)(struct nvme_cmd *cmd);
    void (*doorbell_buffers)(
        struct nvme_cmd *cmd); /* 5.7; NULL or not offered: OACS bit 8 is clear */

    /* Set Features, Host Memory Buffer (5.21.1.13): takes the buffer that the command names into
     * use, or, with EHM 0, lets go of the one in use. The core sees to it that these alternate and
     * that there is one at a time. May answer later, by nvme_admin_done(); whatever is in use at a
     * disable the transport has let go of before. NULL: not offered. Control core. */
    void (*host_memory)(struct nvme_cmd *cmd);

    /* Abort (5.1): find sq_id/cid and ask for its end; ends `cmd` by nvme_admin_done() with dw0 bit
     * 0 telling whether it was not aborted. Control core. */
    void (*abort)(struct nvme_cmd *cmd, uint16_t sq_id, uint16_t cid);

    /* A feature that the transport acts on was set: number of queues, arbitration, interrupt
     * coalescing and vector configuration. The value is in nvme_ctrl_feature(). Control core. */
    void (*feature_changed)(struct nvme_ctrl *ctrl, uint8_t fid, uint32_t cdw11);

    /* The controller met a fatal internal error: CSTS.CFS. Control core. */
    void (*fatal)(struct nvme_ctrl *ctrl);
};

/* --- namespaces ----------------------------------------------------------------------------- */

/* What commands find: one load tells whether the short path is enough. */
enum nvme_ns_access {
    NVME_NS_NONE,    /* not there, geometry unknown, or being drained */
    NVME_NS_GENERAL, /* active; writes need a look: read-only, or a cache that has to be forced */
    NVME_NS_FAST,    /* active; Read and Write need no more than the range checks */
};

/* Written by the control core: while `access` is NVME_NS_NONE and no core has a command in flight,
 * but for lba_count and access. Commands count themselves on their own core: no shared counter. */
struct nvme_ns {
    struct blk_dev *dev;
    _Atomic uint64_t lba_count;
    uint32_t nsid;
    uint32_t max_lba_count; /* blocks that one command may transfer: MDTS */
    uint32_t features;      /* BLK_FEATURE_* */
    uint8_t lba_shift;
    _Atomic uint8_t access; /* enum nvme_ns_access */
    struct nvme_ns_core {
        CACHE_ALIGNED struct blk_stats stats;
        _Atomic uint64_t in_flight;
    } core[LIMIT_CORES]; /* each core writes its own: base/counter.h */
};

/* --- firmware (5.11, 5.12) ------------------------------------------------------------------- */

/* Slots are numbered from 1, as the host sees them; 0: none, or not known. */
struct nvme_firmware_report {
    uint8_t active;   /* slot that the running image came from */
    uint8_t next;     /* slot that the next Controller Level Reset activates; 0: no change */
    bool load_failed; /* an image that was activated did not prove itself: an older one runs */
    char revision[NVME_FIRMWARE_SLOTS][8]; /* space padded; zeroes: the slot is empty */
};

#define NVME_FIRMWARE_DO_REPLACE  BIT32(0) /* what was received goes into the slot */
#define NVME_FIRMWARE_DO_ACTIVATE BIT32(1) /* the slot is what the next reset starts */

/* Who keeps images; filled in by app. All on the control core. */
struct nvme_firmware_ops {
    uint32_t slot_count; /* 1..NVME_FIRMWARE_SLOTS; none is read only */
    /* Takes a piece of an image, which may be copied until the call returns. `offset_bytes` is a
     * multiple of 4 KiB, the end within LIMIT_FIRMWARE_BYTES; pieces come in any order, and overlap
     * only when a host begins again at offset 0. AGAIN: somebody else's update is under way.
     * NO_SPACE: beyond the largest image. */
    enum status (*receive)(void *ctx, uint32_t offset_bytes, const struct mem_ref *data);
    /* Does NVME_FIRMWARE_DO_*; with slot 0 it chooses one. Returns OK: done(arg, status) comes
     * later, once. Either of them says: AGAIN: another update is under way. INVALID: no such slot.
     * EXISTS: the slot is in use and may not be written. NOT_FOUND: no image there, or no whole
     * one was received. BAD_DATA: the image is refused. UNSUPPORTED: it is a good one, but older
     * than what is allowed. IO: the memory of the slots failed. */
    enum status (*commit)(void *ctx, uint32_t what, uint8_t slot,
                          void (*done)(void *arg, enum status status), void *arg);
    void (*report)(void *ctx, struct nvme_firmware_report *report);
    /* Starts the image that commit() has activated now, after this call's turn, and lets the host
     * notice nothing but a pause. UNSUPPORTED: it takes a reset. NULL: it always does. */
    enum status (*activate)(void *ctx);
    /* What Identify tells of it: false when activate() never can. NULL: it can. */
    bool (*can_activate)(void *ctx);
    /* The controller is disabled, by CC.EN or any reset, which its host has not been told yet: an
     * image that was received is forgotten, and what a reset activates may be started, when this
     * call has returned. */
    void (*disabled)(void *ctx);
};

/* --- vendor commands -------------------------------------------------------------------------- */

/* What answers the vendor commands C1h and C2h and the log page C0h (docs/spec/mgmt.md). Control
 * core. */
#define NVME_VENDOR_BYTES 4096u
struct nvme_vendor_ops {
    /* Answers `len_bytes` at `request`, which may be anything, into `response`, 8-byte aligned, of
     * NVME_VENDOR_BYTES; returns the answer's length. */
    uint32_t (*serve)(uint16_t fn, const void *request, uint32_t len_bytes, void *response);
    /* Fills the zeroed log page, NVME_VENDOR_BYTES, 8-byte aligned. */
    void (*log)(uint16_t fn, void *page);
};

/* --- controller ----------------------------------------------------------------------------- */

/* Fixed when the controller is made. Strings are space padded by the core. */
struct nvme_ctrl_config {
    const struct nvme_transport_ops *ops;
    void *transport;      /* for the ops */
    const char *serial;   /* up to 20 characters */
    const char *model;    /* up to 40 */
    const char *firmware; /* up to 8 */
    const char *subnqn;   /* up to 223 */
    uint16_t pci_vendor_id;
    uint16_t pci_subsystem_vendor_id;
    uint8_t ieee_oui[3]; /* least significant byte first, as Identify has it */
    uint16_t cntlid;
    uint16_t fn;             /* tenant */
    uint16_t io_queue_count; /* offered I/O queue pairs, 1..LIMIT_IO_QUEUES */
    uint16_t vector_count;
    uint16_t namespace_count; /* NN, 1..LIMIT_NAMESPACES; 0: LIMIT_NAMESPACES. Some host firmware
                                 identifies each of them in turn */
    uint8_t mdts;             /* as in Identify: 2^n pages of 4 KiB; 1..LIMIT_MDTS (0 would
                                 promise transfers without limit) */
    bool doorbell_buffers;    /* offer Doorbell Buffer Config */
    bool sgl;                 /* offer SGLs for I/O commands */
    bool admin_sgl;           /* admin commands use SGLs too (fabrics; never PCIe) */
    uint32_t sgls;            /* with sgl: bits of Identify's SGLS beyond bit 0 that map() can do */
    bool keep_alive;          /* offer Keep Alive (KAS not 0) */
    /* Host Memory Buffer (8.9), rounded up to 4 KiB: what is asked for, and the least of use; the
     * least is not above what is asked for. 0 preferred: not offered. */
    uint32_t hmb_preferred_bytes;
    uint32_t hmb_min_bytes;
    /* Who the host is to the subsystems behind (HOSTID of Connect): Host Identifier (81h) returns
     * it. All zero: none; then the feature is not there and reservations are not offered (8.8). */
    uint8_t host_id[16];
    /* Firmware commands; NULL: not offered. */
    const struct nvme_firmware_ops *firmware_ops;
    void *firmware_ctx;
    const struct nvme_vendor_ops *vendor; /* NULL: neither those commands nor that log page */
};

/* Size and alignment are public so that the app can place it; fields are in nvme/nvme_priv.h. */
#define NVME_CTRL_BYTES (528 * 1024)
struct nvme_ctrl_memory {
    _Alignas(64) uint8_t bytes[NVME_CTRL_BYTES];
};

/* Makes a controller in `memory`. Control core, at start. INVALID: a field is out of range. */
MUST_USE enum status nvme_ctrl_init(struct nvme_ctrl_memory *memory,
                                    const struct nvme_ctrl_config *config, struct nvme_ctrl **out);

void *nvme_ctrl_transport(struct nvme_ctrl *ctrl);

/* CC.EN went to 1 (features at their defaults, AERs none) or to 0 / reset (outstanding AERs are
 * dropped without completion, timers stopped). At disable the transport has already seen every
 * other command complete. Control core. */
void nvme_ctrl_enable(struct nvme_ctrl *ctrl);
void nvme_ctrl_disable(struct nvme_ctrl *ctrl);

/* CC.SHN: flushes every namespace; calls done(arg) when all is on its drive (or failed, or 5 s
 * passed). Control core. */
void nvme_ctrl_shutdown(struct nvme_ctrl *ctrl, void (*done)(void *arg), void *arg);

/* Executes a command: blk.cmd, ctrl, sq_id, cid, blk.owner_core, blk.fn, start_ns are set.
 * nvme_submit_admin: control core. nvme_submit_io: the queue's owner core. Ends in ops->complete().
 */
void nvme_submit_admin(struct nvme_cmd *cmd);
void nvme_submit_io(struct nvme_cmd *cmd);

/* Ends an admin command that a transport op took over. Control core. */
void nvme_admin_done(struct nvme_cmd *cmd, nvme_status_t status, uint32_t dw0);

/* Asks for the end of a command that is under way (Abort, queue deletion, reset, fence). It
 * completes exactly once all the same. The command's core. */
void nvme_cancel(struct nvme_cmd *cmd);

/* Current value of a feature (5.21.1); transport and tests. Control core. */
uint32_t nvme_ctrl_feature(const struct nvme_ctrl *ctrl, uint8_t fid, uint32_t cdw11);

/* Asynchronous event (5.2): queued, masked and answered as the specification says. Control core. */
void nvme_ctrl_event(struct nvme_ctrl *ctrl, uint8_t type, uint8_t info, uint8_t log_page);

/* An error that belongs in the error log (5.14.1.1) without a command ending by it (doorbells). */
void nvme_ctrl_log_error(struct nvme_ctrl *ctrl, uint16_t sq_id, uint16_t cid, nvme_status_t status,
                         uint16_t location, uint64_t lba, uint32_t nsid);

/* Namespaces. Control core. A change reaches the host as a namespace-changed event and log page.
 * attach: EXISTS, INVALID (nsid, or a geometry that does not fit: block size, size, a transfer
 * limit below MDTS). A device of unknown geometry makes an allocated, inactive namespace until it
 * calls changed(). detach is asynchronous: new commands are refused at once, done(arg) (may be
 * NULL) is called from a message or timer when the last one ended on every core. NOT_FOUND; EXISTS:
 * a detach is under way. */
MUST_USE enum status nvme_ns_attach(struct nvme_ctrl *ctrl, uint32_t nsid, struct blk_dev *dev);
MUST_USE enum status nvme_ns_detach(struct nvme_ctrl *ctrl, uint32_t nsid, void (*done)(void *arg),
                                    void *arg);
/* The attached namespace or NULL. Any core may read it during its turn. */
struct nvme_ns *nvme_ns_find(struct nvme_ctrl *ctrl, uint32_t nsid);

#endif
