#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "hal/native/native.h"
#include "nvme_drv/nvme_drv_priv.h"
#include "sched/sched.h"

void rig_become(uint32_t core)
{
    native_cpu_become(core);
}

static void on_changed(struct blk_dev *dev, void *ctx)
{
    struct rig *rig = ctx;
    (void)dev;
    rig->changed_count++;
}

static void on_found(struct blk_dev *dev, uint32_t nsid, void *ctx)
{
    struct rig *rig = ctx;
    assert_non_null(dev);
    assert_int_not_equal(nsid, 0);
    rig->found_count++;
}

void rig_init(struct rig *rig, uint32_t core_count, uint8_t lba_shift)
{
    memset(rig, 0, sizeof(*rig));
    rig->core_count = core_count;
    rig->step_ns = 20000;
    native_clock_set(RIG_S);
    rig_become(0);
    sched_init(core_count, SCHED_IDLE_POLL);
    nvme_drv_init();
    drive_model_unplug_all();
    drive_model_init(&rig->model, lba_shift);
}

void rig_attach(struct rig *rig)
{
    assert_int_equal(nvme_drv_attach(nvme_drv_device(0), on_found, rig, &rig->drv), STATUS_OK);
    rig->dev = nvme_drv_blk(rig->drv, 1);
    rig->dev->changed = on_changed;
    rig->dev->changed_ctx = rig;
}

void rig_turn(struct rig *rig)
{
    for (uint32_t core = rig->core_count; core-- > 0;) {
        rig_become(core);
        (void)sched_turn();
    }
    drive_model_step(&rig->model);
    native_clock_advance(rig->step_ns);
}

void rig_run(struct rig *rig, uint64_t duration_ns)
{
    for (uint64_t ns = 0; ns < duration_ns; ns += rig->step_ns) {
        rig_turn(rig);
    }
}

bool rig_run_to(struct rig *rig, enum nvme_drv_state state, uint64_t limit_ns)
{
    for (uint64_t ns = 0; ns < limit_ns; ns += rig->step_ns) {
        if (nvme_drv_state(rig->drv) == state) {
            return true;
        }
        rig_turn(rig);
    }
    return nvme_drv_state(rig->drv) == state;
}

void rig_bring_up(struct rig *rig)
{
    rig_attach(rig);
    assert_true(rig_run_to(rig, NVME_DRV_READY, 20 * RIG_S));
    assert_true(rig->dev->geometry.known);
}

void rig_end(struct rig *rig)
{
    rig_run(rig, 100 * rig->step_ns);
    for (uint32_t core = 0; core < rig->core_count; core++) {
        const struct nvme_drv_queue *q = &rig->drv->queues[core];
        assert_true(nvme_drv_pools_are_full(core));
        assert_int_equal(q->in_flight, 0);
        assert_true(list_is_empty(&q->waiting));
    }
    assert_int_equal(rig->model.violation_count, 0);
    drive_model_free(&rig->model);
    rig_become(0);
    native_clock_use_real();
}

/* --- requests ----------------------------------------------------------------------------------
 */

static void on_done(struct blk_req *req)
{
    struct rig_req *r = CONTAINER_OF(req, struct rig_req, req);

    r->done_count++;
    if (r->resubmits && req->status != 0) {
        r->resubmits = false;
        r->done_count--;
        blk_submit(r->rig->dev, req);
    }
}

void rig_req_init(struct rig *rig, struct rig_req *r, uint8_t opcode, uint64_t slba,
                  uint32_t lba_count)
{
    memset(r, 0, sizeof(*r));
    r->rig = rig;
    r->req.cmd.opcode = opcode;
    r->req.cmd.nsid = 77; /* the tenant's number, not the drive's */
    r->req.cmd.mptr = 0x1234567890;
    r->req.cmd.prp1 = 0xdead0000; /* the host's */
    r->req.cmd.cdw10 = (uint32_t)slba;
    r->req.cmd.cdw11 = (uint32_t)(slba >> 32);
    r->req.cmd.cdw12 = (lba_count - 1) & 0xffff;
    r->req.data.segs = r->segs;
    r->req.done = on_done;
    r->req.status = 0xffff;
}

void rig_req_seg(struct rig_req *r, void *ptr, uint32_t len_bytes)
{
    r->segs[r->req.data.seg_count++] =
        (struct mem_seg){.bus_addr = (uintptr_t)ptr, .len_bytes = len_bytes};
    r->req.data.len_bytes += len_bytes;
    r->req.data.space = MEM_SPACE_HOST;
}

void rig_submit(struct rig *rig, struct rig_req *r)
{
    rig_become(r->req.owner_core);
    blk_submit(rig->dev, &r->req);
    rig_become(0);
}

bool rig_wait(struct rig *rig, struct rig_req *reqs, uint32_t count, uint64_t limit_ns)
{
    for (uint64_t ns = 0; ns < limit_ns; ns += rig->step_ns) {
        uint32_t done = 0;
        for (uint32_t i = 0; i < count; i++) {
            assert_in_range(reqs[i].done_count, 0, 1); /* exactly once */
            done += reqs[i].done_count;
        }
        if (done == count) {
            return true;
        }
        rig_turn(rig);
    }
    return false;
}

nvme_status_t rig_do(struct rig *rig, struct rig_req *r)
{
    rig_submit(rig, r);
    assert_true(rig_wait(rig, r, 1, 20 * RIG_S));
    return r->req.status;
}
