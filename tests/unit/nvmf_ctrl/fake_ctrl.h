/* The controller behind a fake admin queue: for fake_queue.c. */
#ifndef TESTS_UNIT_NVMF_CTRL_FAKE_CTRL_H
#define TESTS_UNIT_NVMF_CTRL_FAKE_CTRL_H

#include "tests/unit/nvmf_ctrl/fake.h"

enum fake_result {
    FAKE_WAIT, /* not yet, or never */
    FAKE_DONE,
    FAKE_BREAK,
};

void fake_ctrl_connect(struct fake_target *t);
/* Called in each turn until it is done. */
enum fake_result fake_ctrl_execute(struct fake_target *t, struct nvmf_cmd *cmd);
void fake_ctrl_drop(struct fake_target *t, struct nvmf_cmd *cmd);
/* The admin queue is gone. */
void fake_ctrl_forget(struct fake_target *t);

#endif
