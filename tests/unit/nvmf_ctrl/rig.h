/*
 * Associations over the made-up lower half, under a standing clock: what every test of this folder
 * starts from. All cores turn in one thread, one after the other.
 */
#ifndef TESTS_UNIT_NVMF_CTRL_RIG_H
#define TESTS_UNIT_NVMF_CTRL_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "hal/clock.h"
#include "nvmf_host/ctrl_priv.h"
#include "tests/unit/nvmf_ctrl/fake.h"

#define RIG_NS 8

struct rig_user { /* of a namespace */
    struct nvmf_ns ns;
    uint32_t changed_count;
};

struct rig {
    uint64_t step_ns;
    uint32_t stopped_cores; /* a bit each: these do not turn */
    struct fake_target *target;
    struct nvmf_ctrl_config config;
    struct nvmf_ctrl *ctrl;
    struct rig_user users[RIG_NS];
    bool is_done;
};
extern struct rig rig;

/* `core_count` cores with devices and a healthy target; no association yet. */
void rig_init(uint32_t core_count);
struct nvmf_ctrl *rig_create(const struct nvmf_ctrl_config *config);
/* The association of rig.config. */
void rig_start(void);
/* User `index` of the namespace that fake_ns_add() made with `mark`; nsid alone when mark is 0. */
struct rig_user *rig_use(uint32_t index, uint8_t mark, uint32_t nsid);
void rig_turn(void);
void rig_run(uint64_t duration_ns);
bool rig_run_to(struct nvmf_ctrl *ctrl, enum nvmf_ctrl_state state, uint64_t limit_ns);
/* Starts, and is LIVE. */
void rig_up(void);
/* Closes `ctrl`, frees its memory, and nothing is left. */
void rig_close(struct nvmf_ctrl *ctrl);
void rig_end(void);

struct nvmf_ctrl_info rig_info(const struct nvmf_ctrl *ctrl);
/* The attempt failed so, and is to be repeated. */
void rig_assert_fails(enum nvmf_fail fail);
bool rig_is_usable(uint32_t index);

#endif
