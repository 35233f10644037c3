/*
 * A controller on a bench: a transport that maps into test memory and keeps completions, and block
 * devices that answer at once, later, or with a failure.
 */
#ifndef TESTS_UNIT_NVME_RIG_H
#define TESTS_UNIT_NVME_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "hal/clock.h"
#include "hal/native/native.h"
#include "nvme/nvme.h"
#include "spec/nvme_feature.h"
#include "spec/nvme_identify.h"
#include "spec/nvme_log.h"

#define RIG_CMDS       16
#define RIG_DATA_BYTES (2u << 20)
#define RIG_DEVS       3

struct rig_cmd {
    struct nvme_cmd nvme;
    struct mem_seg segs[2];
    uint32_t map_count;
    uint32_t completions;
};

struct rig_dev {
    struct blk_dev dev;
    bool hold; /* keep requests until rig_dev_release() */
    bool ignores_cancel;
    uint32_t fail_after; /* the n-th request from now fails; 0: none */
    nvme_status_t fail_status;
    struct list held;
    uint32_t request_count; /* since rig_setup() */
    uint8_t opcodes[64];    /* of the first requests */
    struct nvme_sqe last;
    struct mem_ref last_data;
    uint8_t last_bytes[4096]; /* what the last request's data began with, read when it came */
};

struct rig {
    struct nvme_ctrl *ctrl;
    struct nvme_ctrl_config config;
    struct rig_cmd cmds[RIG_CMDS];
    uint32_t cmds_used;
    struct rig_dev devs[RIG_DEVS];
    uint8_t data[RIG_DATA_BYTES]; /* what commands' data pointers point at */
    uint32_t map_fail_after;      /* the n-th map from now fails; 0: none */
    nvme_status_t map_status;
    uint32_t map_len_bytes; /* of the last map */
    uint8_t map_dir;
    uint32_t transport_op_count; /* queue commands, doorbell buffers */
    bool ops_answer_later;       /* queue commands and Abort end by the test */
    nvme_status_t op_status;
    uint16_t abort_sq_id, abort_cid;
    uint32_t feature_changed_count;
    uint8_t feature_changed_fid;
    uint32_t fatal_count;
    uint32_t detached_count;
    uint32_t shutdown_count;
};
extern struct rig rig;
extern const struct nvme_transport_ops rig_ops;

/* For cmocka: an enabled controller without namespaces, one core, a standing clock. */
int rig_setup(void **state);
/* Checks that nothing is left under way. */
int rig_teardown(void **state);
/* The controller anew, by rig.config as it is now. */
void rig_restart(void);

/* Device `index` of 1,000 blocks, everything supported, attached as `nsid`. */
struct rig_dev *rig_attach(uint32_t index, uint32_t nsid);
struct rig_dev *rig_attach_with(uint32_t index, uint32_t nsid, uint32_t features);
void rig_dev_init(struct rig_dev *dev, uint32_t features);
/* Ends what the device holds, oldest first, with `status`. */
void rig_dev_release(struct rig_dev *dev, nvme_status_t status);
uint32_t rig_dev_held(const struct rig_dev *dev);

struct rig_cmd *rig_cmd_new(const struct nvme_sqe *sqe);
struct rig_cmd *rig_admin(struct nvme_sqe sqe);
struct rig_cmd *rig_io(struct nvme_sqe sqe);
struct nvme_sqe rig_rw(uint8_t opcode, uint32_t nsid, uint64_t slba, uint32_t lba_count);
/* Turns of the reactor: messages and due timers. */
void rig_turns(uint32_t count);
void rig_detached(void *arg);
void rig_shutdown_done(void *arg);
uint64_t rig_in_flight(uint32_t nsid);
uint32_t rig_dsm_buffers_free(uint32_t core);

/* Gets the log page; returns rig.data. */
void *rig_log_page(uint8_t lid, uint32_t len_bytes, bool rae);
/* The newest entry of the error log; zeroes if there is none. */
struct nvme_error_entry rig_last_error(void);

/* The command is done, once, with this code. */
#define assert_ended(command, code)                                          \
    do {                                                                     \
        const struct rig_cmd *ended_ = (command);                            \
        assert_int_equal(ended_->completions, 1);                            \
        assert_int_equal(NVME_STATUS_CODE(ended_->nvme.blk.status), (code)); \
    } while (0)
/* Not to be tried again, and the error log has an entry. */
#define assert_refused(command, code)                         \
    do {                                                      \
        const struct rig_cmd *refused_ = (command);           \
        assert_ended(refused_, code);                         \
        assert_int_equal(refused_->nvme.blk.status >> 13, 3); \
    } while (0)
#define assert_refused_at(command, code, location)              \
    do {                                                        \
        const struct rig_cmd *at_ = (command);                  \
        assert_refused(at_, code);                              \
        assert_int_equal(at_->nvme.error_location, (location)); \
    } while (0)
#define assert_pending(cmd) assert_int_equal((cmd)->completions, 0)

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

#endif
