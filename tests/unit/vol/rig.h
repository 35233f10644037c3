/*
 * Volumes over model devices, under a standing clock: two cores in one thread, each turned by hand.
 *
 * A model device is a small medium that several paths may share. It keeps each request until the
 * test lets it go: done, failed with its path (seen or not, quiet when), or refused.
 */
#ifndef TESTS_VOL_RIG_H
#define TESTS_VOL_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "hal/native/native.h"
#include "sched/sched.h"
#include "vol/vol.h"

#define RIG_CORES    2
#define RIG_PATHS    3
#define RIG_REQS     96
#define RIG_BLOCKS   4096u
#define RIG_WAIT_MS  1000
#define RIG_START_NS (UINT64_C(1) << 40)
#define MS           UINT64_C(1000000)

struct model {
    struct blk_dev dev; /* first */
    struct list held;
    uint32_t held_count;
    bool is_usable;
    bool is_prompt; /* ends what comes at once */
    uint32_t submits;
    uint32_t cancels;
};

struct rig_req {
    struct blk_req blk;
    bool is_done;
    struct mem_seg segs[300];
};

struct rig {
    struct model models[RIG_PATHS];
    uint8_t medium[RIG_BLOCKS * 512];
    struct vol_config config;
    struct vol *vol;
    struct blk_dev *dev;
    struct rig_req reqs[RIG_REQS];
    uint32_t req_count;
    uint32_t changed_count;
    void *home_memory;
    void *vol_memory;
    uint8_t data[1 << 20];
};

extern struct rig rig;

/* Models of 512-byte blocks, usable; then rig_make() after the test's changes. */
int rig_setup(void **state);
/* Every request has ended, every pool is full, no list holds anything. */
int rig_teardown(void **state);
void rig_make(uint32_t path_count);

/* Turns both cores until nothing moves. */
void rig_settle(void);
/* Moves the clock, in steps, turning. */
void rig_advance_ms(uint64_t ms);

/* Submits on core 0 or another; data in one segment of rig.data where the command has some. */
struct blk_req *rig_submit(uint8_t opcode, uint64_t slba, uint32_t lba_count);
struct blk_req *rig_submit_on(uint32_t core, uint8_t opcode, uint64_t slba, uint32_t lba_count);
struct blk_req *rig_prepare(uint32_t core, uint8_t opcode, uint64_t slba, uint32_t lba_count);
void rig_send(struct blk_req *req);
void rig_cancel(struct blk_req *req);
bool rig_is_done(const struct blk_req *req);

/* The first request that the model holds; NULL: none. */
struct blk_req *rig_held(uint32_t path);
/* Ends it: carried out; failed with the path; with a status. */
void rig_finish(uint32_t path);
void rig_lose(uint32_t path, bool is_sent, uint64_t quiet_ns);
void rig_refuse(uint32_t path, nvme_status_t status);

void rig_set_usable(uint32_t path, bool is_usable);
void rig_change(uint32_t path);

struct vol_info rig_info(void);

#endif
