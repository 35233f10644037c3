/*
 * A driver, a drive model and a standing clock: what every test of this folder starts from.
 * All cores turn in one thread, one after the other.
 */
#ifndef TESTS_UNIT_NVME_DRV_RIG_H
#define TESTS_UNIT_NVME_DRV_RIG_H

#include <stdbool.h>
#include <stdint.h>
#include "blk/blk.h"
#include "drive_model.h"
#include "nvme_drv/nvme_drv.h"

#define RIG_MS UINT64_C(1000000)
#define RIG_S  UINT64_C(1000000000)

struct rig {
    struct drive_model model;
    struct nvme_drv *drv;
    struct blk_dev *dev; /* namespace 1 */
    uint32_t core_count;
    uint64_t step_ns; /* how far the clock moves in a turn */
    uint32_t changed_count;
    uint32_t found_count;
};

/* A request with its own end. */
struct rig_req {
    struct blk_req req;
    struct mem_seg segs[1100];
    uint32_t done_count;
    bool resubmits; /* done() submits it once more when it failed */
    struct rig *rig;
};

/* A healthy model and a driver that knows of nothing yet; change the model, then rig_attach(). */
void rig_init(struct rig *rig, uint32_t core_count, uint8_t lba_shift);
void rig_attach(struct rig *rig);
/* Turns until the drive is ready; fails the test after 20 s of its time. */
void rig_bring_up(struct rig *rig);
/* Checks that nothing is left behind. */
void rig_end(struct rig *rig);

void rig_turn(struct rig *rig);
void rig_run(struct rig *rig, uint64_t duration_ns);
/* Turns until the drive is in `state`; false after limit_ns. */
bool rig_run_to(struct rig *rig, enum nvme_drv_state state, uint64_t limit_ns);
/* Turns until all requests are done; false after limit_ns. */
bool rig_wait(struct rig *rig, struct rig_req *reqs, uint32_t count, uint64_t limit_ns);

/* Fills a request for blocks; add its memory with rig_req_seg() before rig_submit(). */
void rig_req_init(struct rig *rig, struct rig_req *r, uint8_t opcode, uint64_t slba,
                  uint32_t lba_count);
void rig_req_seg(struct rig_req *r, void *ptr, uint32_t len_bytes);
void rig_submit(struct rig *rig, struct rig_req *r);
/* Submits, waits at most 20 s, returns the status. */
nvme_status_t rig_do(struct rig *rig, struct rig_req *r);

/* Makes the calling thread core `core`. */
void rig_become(uint32_t core);

#endif
