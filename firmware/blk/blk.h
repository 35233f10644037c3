/*
 * blk: the narrow waist. Below: RAM, local drives, remote namespaces. Above: the NVMe controller
 * core.
 *
 * A request carries the NVMe command (so that everything passes through) and a reference to where
 * the data is, never a buffer of the NIC: zero copy is the natural case.
 *
 * Contract of a request:
 *
 *  - it is submitted on its owner core and completes exactly once, on that core, by blk_complete();
 *    possibly before blk_submit() returns;
 *
 *  - `cmd` is a copy whose NSID and DPTR the device must ignore; opcode, LBA fields and flags are
 *    checked against the geometry by the submitter;
 *
 *  - `data` stays valid until the completion, also after a cancel;
 *
 *  - status is an NVMe status with DNR as the device means it; is_path_error, is_sent and quiet_ns
 *    say what the status cannot: whether it may be tried again, and when.
 */
#ifndef BLK_BLK_H
#define BLK_BLK_H

#include <stdbool.h>
#include <stdint.h>
#include "base/compiler.h"
#include "base/counter.h"
#include "base/list.h"
#include "base/mem_ref.h"
#include "base/status.h"
#include "spec/nvme.h"

struct blk_req;
struct blk_dev;

typedef void blk_done_fn(struct blk_req *req);

struct blk_req {
    struct nvme_sqe cmd;
    struct mem_ref data;
    const struct mem_ref *meta; /* NULL: no separate metadata */
    blk_done_fn *done;
    uint64_t deadline_ns; /* 0: none */
    uint32_t trace_id;    /* what trace records name it by: the host's SQ << 16 | CID; 0: none */
    uint16_t fn;          /* tenant */
    uint8_t owner_core;
    uint8_t dir; /* enum nvme_dir: as seen from the host */

    /* Result, valid in done(). */
    nvme_status_t status;
    bool is_path_error; /* the way to the device failed, not the command: another way, or the same
                           later, may succeed. What was sent may have been executed all the same */
    bool is_sent; /* with is_path_error: the device may have seen it. False: nobody has, so it may
                     be sent again whatever it is */
    uint32_t dw0;
    uint32_t dw1;
    /* With is_path_error, or after a cancel: until then (clock_now_ns()) a command that changes
     * state may still take effect at the device. 0: it has no effect any more that its status does
     * not tell. UINT64_MAX: nobody can tell when. */
    uint64_t quiet_ns;

    /* The device's, from submit to completion. */
    struct list link;
    uint64_t priv[4];
    /* One layer between submitter and device (vol) keeps what it needs here, likewise. */
    blk_done_fn *outer_done;
    uint64_t outer_priv[3];
};

/* What a device can do; bits of blk_geometry.features. */
#define BLK_FEATURE_FLUSH        (1u << 0) /* has a volatile write cache: Flush means something */
#define BLK_FEATURE_WRITE_ZEROES (1u << 1)
#define BLK_FEATURE_DSM          (1u << 2)
#define BLK_FEATURE_COMPARE      (1u << 3)
#define BLK_FEATURE_VERIFY       (1u << 4)
#define BLK_FEATURE_FUA          (1u << 5)
#define BLK_FEATURE_READ_ONLY    (1u << 6)
#define BLK_FEATURE_RESERVATIONS (1u << 7)

/* Atomic and preferred sizes (NVMe 1.4, 5.15.2.2 and 6.4, 8.25), in blocks; 0: not reported. */
struct blk_limits {
    uint32_t atomic_write;            /* NAWUN, else AWUN */
    uint32_t atomic_write_power_fail; /* NAWUPF, else AWUPF */
    uint32_t atomic_compare_write;    /* NACWU, else ACWU */
    uint32_t atomic_boundary;         /* NABSN; NABO is 0 or there is none */
    uint32_t atomic_boundary_power_fail;
    uint32_t optimal_boundary;      /* NOIOB */
    uint32_t preferred_write;       /* NPWG */
    uint32_t preferred_write_align; /* NPWA */
    uint32_t preferred_dealloc;     /* NPDG */
    uint32_t preferred_dealloc_align;
    uint32_t optimal_write; /* NOWS */
};

struct blk_geometry {
    uint64_t lba_count;
    uint32_t features;           /* BLK_FEATURE_* */
    uint32_t max_transfer_bytes; /* 0: no limit of its own */
    struct blk_limits limits;
    uint8_t reservation_types; /* RESCAP (figure 245), with BLK_FEATURE_RESERVATIONS */
    uint8_t lba_shift;         /* 9 or 12 */
    bool known;                /* false: not connected yet; nothing else is valid */
    uint8_t nguid[16];         /* all zero: none */
    uint8_t eui64[8];          /* all zero: none */
    uint8_t uuid[16];          /* all zero: none */
};

struct blk_ops {
    /* Takes the request; see the contract above. Owner core of the request. */
    void (*submit)(struct blk_dev *dev, struct blk_req *req);
    /* Asks to end the request early; it still completes exactly once, later or now, with its own
     * result or with Command Abort Requested. Owner core. NULL: requests always complete at once.
     */
    void (*cancel)(struct blk_dev *dev, struct blk_req *req);
};

/* One core writes, any core reads: base/counter.h. */
struct blk_stats {
    _Atomic uint64_t read_count;
    _Atomic uint64_t write_count;
    _Atomic uint64_t other_count;
    _Atomic uint64_t error_count;
    _Atomic uint64_t read_bytes;
    _Atomic uint64_t write_bytes;
    _Atomic uint64_t staged_bytes; /* block data that was buffered in NIC memory */
};

struct blk_dev {
    const struct blk_ops *ops;
    const char *name; /* as configured, e.g. "ram0" */
    struct blk_geometry geometry;
    /* Called on core 0 after `geometry` changed (it is written by core 0 only). Set by the owner
     * above. */
    void (*changed)(struct blk_dev *dev, void *ctx);
    void *changed_ctx;
};

ALWAYS_INLINE void blk_submit(struct blk_dev *dev, struct blk_req *req)
{
    req->is_path_error = false;
    req->is_sent = false;
    req->quiet_ns = 0;
    dev->ops->submit(dev, req);
}

ALWAYS_INLINE void blk_cancel(struct blk_dev *dev, struct blk_req *req)
{
    if (dev->ops->cancel != NULL) {
        dev->ops->cancel(dev, req);
    }
}

/* Ends a request. Owner core; the request belongs to the submitter again when done() is called. */
ALWAYS_INLINE void blk_complete(struct blk_req *req, nvme_status_t status)
{
    req->status = status;
    req->done(req);
}

#endif
