#include "tests/unit/nvmf_ctrl/rig.h"

#include <stdlib.h>
#include "hal/native/native.h"
#include "sched/sched.h"

struct rig rig;

static void on_changed(struct blk_dev *dev, void *ctx)
{
    struct rig_user *user = ctx;
    assert_ptr_equal(dev, &user->ns.dev);
    user->changed_count++;
}

void rig_init(uint32_t core_count)
{
    memset(&rig, 0, sizeof(rig));
    rig.step_ns = 100 * NS_PER_US;
    native_clock_set(NS_PER_S);
    native_cpu_become(0);
    sched_init(core_count, SCHED_IDLE_POLL);
    fake_init(core_count);
    rig.target = fake_target_add(4420);
    rig.config = (struct nvmf_ctrl_config){.name = "remote",
                                           .fn = 1,
                                           .addr = net_addr_ipv4(192, 0, 2, 1),
                                           .subnqn = "nqn.2014-08.org.example:disk",
                                           .hostnqn = "nqn.2014-08.org.example:host"};
}

struct nvmf_ctrl *rig_create(const struct nvmf_ctrl_config *config)
{
    uint64_t bytes = nvmf_ctrl_memory_bytes(config);
    struct nvmf_ctrl *ctrl = NULL;
    void *memory = aligned_alloc(4096, bytes);

    assert_int_equal(bytes % 4096, 0);
    memset(memory, 0, bytes);
    assert_int_equal(nvmf_ctrl_create(memory, config, &ctrl), STATUS_OK);
    assert_ptr_equal(memory, ctrl);
    return ctrl;
}

void rig_start(void)
{
    rig.ctrl = rig_create(&rig.config);
}

struct rig_user *rig_use(uint32_t index, uint8_t mark, uint32_t nsid)
{
    struct rig_user *user = &rig.users[index];
    struct nvmf_ns_id id = {0};

    if (mark != 0) {
        id.nguid[0] = mark;
        id.nguid[14] = (uint8_t)(nsid >> 8);
        id.nguid[15] = (uint8_t)nsid;
    } else {
        id.nsid = nsid;
    }
    nvmf_ns_open(&user->ns, rig.ctrl, &id, NVMF_PATH_ZERO_COPY, "disk");
    user->ns.dev.changed = on_changed;
    user->ns.dev.changed_ctx = user;
    user->changed_count = 0;
    return user;
}

void rig_turn(void)
{
    for (uint32_t core = fake.core_count; core-- > 0;) {
        if ((rig.stopped_cores & BIT32(core)) == 0) {
            native_cpu_become(core);
            (void)sched_turn();
            fake_step(core);
        }
    }
    native_clock_advance(rig.step_ns);
}

void rig_run(uint64_t duration_ns)
{
    for (uint64_t ns = 0; ns < duration_ns; ns += rig.step_ns) {
        rig_turn();
    }
}

bool rig_run_to(struct nvmf_ctrl *ctrl, enum nvmf_ctrl_state state, uint64_t limit_ns)
{
    for (uint64_t ns = 0; ns < limit_ns; ns += rig.step_ns) {
        if (rig_info(ctrl).state == state) {
            return true;
        }
        rig_turn();
    }
    return rig_info(ctrl).state == state;
}

void rig_up(void)
{
    rig_start();
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
}

static void on_done(void *arg)
{
    bool *is_done = arg;
    *is_done = true;
}

void rig_close(struct nvmf_ctrl *ctrl)
{
    bool is_done = false;

    nvmf_ctrl_close(ctrl, on_done, &is_done);
    for (uint32_t i = 0; i < 200000 && !is_done; i++) {
        rig_turn();
    }
    assert_true(is_done);
    free(ctrl);
}

void rig_end(void)
{
    if (rig.ctrl != NULL) {
        rig_close(rig.ctrl);
    }
    rig_run(20 * rig.step_ns);
    assert_true(fake_is_quiet());
    native_clock_use_real();
}

struct nvmf_ctrl_info rig_info(const struct nvmf_ctrl *ctrl)
{
    struct nvmf_ctrl_info info;
    nvmf_ctrl_info(ctrl, &info);
    return info;
}

void rig_assert_fails(enum nvmf_fail fail)
{
    rig_start();
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_BACKOFF, 20 * NS_PER_S));
    assert_int_equal(rig_info(rig.ctrl).fail, fail);
    assert_int_equal(rig_info(rig.ctrl).connect_count, 0);
    assert_int_equal(rig_info(rig.ctrl).attempt_count, 1);
}

bool rig_is_usable(uint32_t index)
{
    return nvmf_ns_is_usable(&rig.users[index].ns);
}
