#include "tests/unit/vol/rig.h"

#include <stdlib.h>
#include "base/assert.h"
#include "vol/vol_priv.h"

struct rig rig;

/* --- models ---------------------------------------------------------------------------------- */

static void carry_out(struct blk_req *req)
{
    uint64_t slba = nvme_rw_slba(&req->cmd);
    uint8_t *at = rig.medium + slba * 512;

    if (req->cmd.opcode != NVME_IO_READ && req->cmd.opcode != NVME_IO_WRITE) {
        return;
    }
    assert_true(slba + nvme_rw_lba_count(&req->cmd) <= RIG_BLOCKS);
    assert_int_equal(req->data.len_bytes, nvme_rw_lba_count(&req->cmd) * 512);
    if (req->cmd.opcode == NVME_IO_READ) {
        mem_ref_write(&req->data, 0, at, req->data.len_bytes);
    } else {
        mem_ref_read(&req->data, 0, at, req->data.len_bytes);
    }
}

static void model_submit(struct blk_dev *dev, struct blk_req *req)
{
    struct model *model = (struct model *)(void *)dev;

    assert_false(req->is_path_error);
    model->submits++;
    if (model->is_prompt) {
        carry_out(req);
        blk_complete(req, NVME_SC_SUCCESS);
        return;
    }
    list_push_back(&model->held, &req->link);
    model->held_count++;
}

static void model_cancel(struct blk_dev *dev, struct blk_req *req)
{
    (void)req;
    ((struct model *)(void *)dev)->cancels++;
}

static const struct blk_ops model_ops = {.submit = model_submit, .cancel = model_cancel};

static bool model_is_usable(const struct blk_dev *dev)
{
    return ((const struct model *)(const void *)dev)->is_usable;
}

struct blk_req *rig_held(uint32_t path)
{
    struct list *held = &rig.models[path].held;
    return list_is_empty(held) ? NULL : LIST_ENTRY(held->next, struct blk_req, link);
}

static struct blk_req *take(uint32_t path)
{
    struct blk_req *req = rig_held(path);

    assert_non_null(req);
    list_remove(&req->link);
    rig.models[path].held_count--;
    native_cpu_become(req->owner_core);
    return req;
}

void rig_finish(uint32_t path)
{
    struct blk_req *req = take(path);
    carry_out(req);
    blk_complete(req, NVME_SC_SUCCESS);
    native_cpu_become(0);
}

void rig_lose(uint32_t path, bool is_sent, uint64_t quiet_ns)
{
    struct blk_req *req = take(path);
    req->is_path_error = true;
    req->is_sent = is_sent;
    req->quiet_ns = quiet_ns;
    blk_complete(req, NVME_SC_HOST_PATH_ERROR);
    native_cpu_become(0);
}

void rig_refuse(uint32_t path, nvme_status_t status)
{
    blk_complete(take(path), status);
    native_cpu_become(0);
}

void rig_change(uint32_t path)
{
    struct blk_dev *dev = &rig.models[path].dev;
    dev->changed(dev, dev->changed_ctx);
}

void rig_set_usable(uint32_t path, bool is_usable)
{
    rig.models[path].is_usable = is_usable;
    rig_change(path);
}

/* --- requests -------------------------------------------------------------------------------- */

static void req_done(struct blk_req *req)
{
    struct rig_req *r = CONTAINER_OF(req, struct rig_req, blk);
    assert_false(r->is_done);
    r->is_done = true;
}

static bool has_data(uint8_t opcode)
{
    return opcode == NVME_IO_READ || opcode == NVME_IO_WRITE || opcode == NVME_IO_COMPARE;
}

struct blk_req *rig_prepare(uint32_t core, uint8_t opcode, uint64_t slba, uint32_t lba_count)
{
    assert_true(rig.req_count < RIG_REQS);
    struct rig_req *r = &rig.reqs[rig.req_count++];
    *r = (struct rig_req){.blk = {.cmd = {.opcode = opcode,
                                          .cdw10 = (uint32_t)slba,
                                          .cdw11 = (uint32_t)(slba >> 32),
                                          .cdw12 = lba_count - 1},
                                  .done = req_done,
                                  .fn = 3,
                                  .dir = opcode & 3,
                                  .owner_core = (uint8_t)core}};
    if (has_data(opcode)) {
        r->segs[0] =
            (struct mem_seg){.bus_addr = (uintptr_t)rig.data, .len_bytes = lba_count * 512};
        r->blk.data = (struct mem_ref){
            .segs = r->segs, .len_bytes = lba_count * 512, .seg_count = 1, .space = MEM_SPACE_HOST};
    }
    return &r->blk;
}

void rig_send(struct blk_req *req)
{
    native_cpu_become(req->owner_core);
    blk_submit(rig.dev, req);
    native_cpu_become(0);
}

struct blk_req *rig_submit_on(uint32_t core, uint8_t opcode, uint64_t slba, uint32_t lba_count)
{
    struct blk_req *req = rig_prepare(core, opcode, slba, lba_count);
    rig_send(req);
    return req;
}

struct blk_req *rig_submit(uint8_t opcode, uint64_t slba, uint32_t lba_count)
{
    return rig_submit_on(0, opcode, slba, lba_count);
}

void rig_cancel(struct blk_req *req)
{
    native_cpu_become(req->owner_core);
    blk_cancel(rig.dev, req);
    native_cpu_become(0);
}

bool rig_is_done(const struct blk_req *req)
{
    return ((const struct rig_req *)(const void *)req)->is_done; /* its first member */
}

/* --- time ------------------------------------------------------------------------------------ */

void rig_settle(void)
{
    for (uint32_t i = 0; i < 8; i++) {
        for (uint32_t core = 0; core < RIG_CORES; core++) {
            native_cpu_become(core);
            sched_turn();
        }
    }
    native_cpu_become(0);
}

void rig_advance_ms(uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i++) {
        native_clock_advance(MS);
        rig_settle();
    }
}

/* --- life ------------------------------------------------------------------------------------ */

static void vol_changed(struct blk_dev *dev, void *ctx)
{
    (void)ctx;
    assert_ptr_equal(dev, rig.dev);
    rig.changed_count++;
}

int rig_setup(void **state)
{
    (void)state;
    memset(&rig, 0, sizeof(rig));
    native_clock_set(RIG_START_NS);
    native_cpu_become(0);
    native_cpu_set_count(RIG_CORES);
    sched_init(RIG_CORES, SCHED_IDLE_POLL);
    rig.home_memory = aligned_alloc(64, vol_memory_bytes(RIG_CORES));
    memset(rig.home_memory, 0, vol_memory_bytes(RIG_CORES));
    vol_init(rig.home_memory, RIG_CORES);
    rig.vol_memory = aligned_alloc(64, align_up(vol_bytes(), 64));
    rig.config = (struct vol_config){.name = "v0", .wait_ms = RIG_WAIT_MS};
    for (uint32_t i = 0; i < RIG_PATHS; i++) {
        static const char *const names[RIG_PATHS] = {"a", "b", "c"};
        struct model *model = &rig.models[i];
        list_init(&model->held);
        model->is_usable = true;
        model->dev.ops = &model_ops;
        model->dev.name = names[i];
        model->dev.geometry = (struct blk_geometry){.lba_count = RIG_BLOCKS,
                                                    .lba_shift = 9,
                                                    .known = true,
                                                    .features = BLK_FEATURE_DSM,
                                                    .nguid = {7}};
        rig.config.paths[i] =
            (struct vol_path_config){.dev = &model->dev, .is_usable = model_is_usable};
    }
    for (uint32_t i = 0; i < sizeof(rig.data); i++) {
        rig.data[i] = (uint8_t)(i * 31 + i / 512);
    }
    rig_settle();
    return 0;
}

void rig_make(uint32_t path_count)
{
    rig.config.path_count = path_count;
    assert_int_equal(vol_create(rig.vol_memory, &rig.config, &rig.vol), STATUS_OK);
    rig.dev = vol_blk(rig.vol);
    rig.dev->changed = vol_changed;
    rig_settle();
}

int rig_teardown(void **state)
{
    (void)state;
    rig_settle();
    for (uint32_t i = 0; i < rig.req_count; i++) {
        assert_true(rig.reqs[i].is_done);
    }
    for (uint32_t i = 0; i < RIG_PATHS; i++) {
        assert_true(list_is_empty(&rig.models[i].held));
    }
    for (uint32_t core = 0; core < RIG_CORES; core++) {
        struct vol_home *home = vol_home(core);
        assert_true(pool_is_full(&home->children));
        assert_true(list_is_empty(&home->waiting));
        for (uint32_t fn = 0; fn < LIMIT_FUNCTIONS; fn++) {
            assert_true(list_is_empty(&home->hungry[fn]));
        }
    }
    if (rig.vol != NULL) {
        assert_int_equal(rig_info().waiting, 0);
        assert_int_equal(rig_info().stats.requests, rig.req_count);
        vol_destroy(rig.vol);
        assert_null(rig.models[0].dev.changed);
    }
    /* a timer may be left on a core: it finds nothing */
    rig_advance_ms(10);
    free(rig.vol_memory);
    free(rig.home_memory);
    native_clock_use_real();
    return 0;
}

struct vol_info rig_info(void)
{
    struct vol_info info;
    vol_info(rig.vol, &info);
    return info;
}
