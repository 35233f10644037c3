/* Two cores: commands on one, namespaces that come and go on the other. */
#include "tests/unit/nvme/rig.h"

#include <sched.h>
#include "base/assert.h"
#include "hal/cpu.h"

#define DEPTH       8
#define DETACHES    200
#define ERROR_READS 400

/* A device that keeps a few requests and that must not be touched once it is detached. */
static struct {
    struct blk_dev dev;
    struct list held; /* core 1's */
    uint32_t held_count;
    _Atomic bool attached;
    _Atomic uint64_t request_count;
} gate;

/* Core 1's load. */
static struct {
    struct poller poller;
    struct nvme_cmd cmds[DEPTH];
    bool busy[DEPTH];
    _Atomic uint32_t busy_count;
    _Atomic uint64_t done_count;
    _Atomic uint64_t refused_count;
    _Atomic bool stop;
} load;

static struct mem_seg seg = {.bus_addr = 0x1000, .len_bytes = 512};
static uint8_t log_data[4096];
static struct mem_seg log_seg;

static nvme_status_t parallel_map(struct nvme_cmd *cmd, uint32_t len_bytes)
{
    bool io = cmd->sq_id != 0;

    log_seg = (struct mem_seg){.bus_addr = (uintptr_t)log_data, .len_bytes = len_bytes};
    cmd->blk.data = (struct mem_ref){.segs = io ? &seg : &log_seg,
                                     .len_bytes = len_bytes,
                                     .seg_count = 1,
                                     .space = MEM_SPACE_HOST};
    return NVME_SC_SUCCESS;
}

static void parallel_complete(struct nvme_cmd *cmd)
{
    if (cmd->sq_id == 0) {
        return; /* the control core's log page */
    }
    uint32_t index = (uint32_t)(cmd - load.cmds);
    ASSERT(cpu_self() == 1 && load.busy[index]);
    load.busy[index] = false;
    atomic_fetch_sub(&load.busy_count, 1);
    atomic_fetch_add(cmd->blk.status == 0 ? &load.done_count : &load.refused_count, 1);
}

static const struct nvme_transport_ops parallel_ops = {.map = parallel_map,
                                                       .complete = parallel_complete};

static void gate_submit(struct blk_dev *dev, struct blk_req *req)
{
    (void)dev;
    ASSERT(atomic_load(&gate.attached));
    atomic_fetch_add(&gate.request_count, 1);
    list_push_back(&gate.held, &req->link);
    gate.held_count++;
}

static const struct blk_ops gate_ops = {.submit = gate_submit};

static uint32_t load_run(void *ctx)
{
    (void)ctx;
    uint32_t held_before = gate.held_count;
    for (uint32_t i = 0; i < DEPTH && !atomic_load(&load.stop); i++) {
        if (!load.busy[i]) {
            load.busy[i] = true;
            atomic_fetch_add(&load.busy_count, 1);
            load.cmds[i] = (struct nvme_cmd){.ctrl = rig.ctrl, .sq_id = 1, .cid = (uint16_t)i};
            load.cmds[i].blk.cmd = rig_rw(NVME_IO_READ, 1, 0, 1);
            load.cmds[i].blk.owner_core = 1;
            nvme_submit_io(&load.cmds[i]);
        }
    }
    /* Some stay for the next turn as long as more come in. */
    uint32_t keep = gate.held_count > held_before ? 3 : 0;
    while (gate.held_count > keep) {
        struct list *node = list_pop_front(&gate.held);
        gate.held_count--;
        ASSERT(atomic_load(&gate.attached));
        blk_complete(LIST_ENTRY(node, struct blk_req, link), NVME_SC_SUCCESS);
    }
    return 1;
}

static void run_reactor(void *arg)
{
    (void)arg;
    sched_run();
}

static void gate_detached(void *arg)
{
    (void)arg;
    atomic_store(&gate.attached, false);
}

static int parallel_setup(void **state)
{
    (void)state;
    native_clock_use_real();
    native_cpu_become(0);
    native_cpu_set_count(2);
    sched_init(2, SCHED_IDLE_POLL);
    memset(&rig, 0, sizeof(rig));
    rig.config = (struct nvme_ctrl_config){.ops = &parallel_ops,
                                           .serial = "P",
                                           .model = "parallel",
                                           .firmware = "1",
                                           .subnqn = "nqn.2026-11.org.snic:parallel",
                                           .io_queue_count = 1,
                                           .vector_count = 2,
                                           .mdts = 8};
    rig_restart();
    gate.dev = (struct blk_dev){
        .ops = &gate_ops,
        .name = "gate",
        .geometry = {.lba_count = 8, .lba_shift = 9, .known = true, .features = 0}};
    list_init(&gate.held);
    load.poller = (struct poller){.name = "load", .run = load_run};
    sched_poller_add_to(1, &load.poller);
    assert_int_equal(cpu_start(1, run_reactor, NULL), STATUS_OK);
    return 0;
}

static int parallel_teardown(void **state)
{
    (void)state;
    atomic_store(&load.stop, true);
    while (atomic_load(&load.busy_count) != 0) {
        sched_turn();
        sched_yield();
    }
    sched_stop();
    native_cpu_join();
    return 0;
}

/* Waits until core 1 has done `count` more of something. */
static void wait_for(const _Atomic uint64_t *counter, uint64_t count)
{
    uint64_t until = atomic_load(counter) + count;

    while (atomic_load(counter) < until) {
        sched_turn();
        sched_yield();
    }
}

static void detach_under_load_never_touches_a_detached_device(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < DETACHES; i++) {
        atomic_store(&gate.attached, true);
        assert_int_equal(nvme_ns_attach(rig.ctrl, 1, &gate.dev), STATUS_OK);
        wait_for(&load.done_count, 20);
        if (i % 4 == 3) { /* another block size first: drains and opens again */
            gate.dev.geometry.lba_shift ^= 9 ^ 12;
            gate.dev.changed(&gate.dev, gate.dev.changed_ctx);
        }
        assert_int_equal(nvme_ns_detach(rig.ctrl, 1, gate_detached, NULL), STATUS_OK);
        while (atomic_load(&gate.attached)) {
            sched_turn();
            sched_yield();
        }
        assert_int_equal(rig_in_flight(1), 0);
        wait_for(&load.refused_count, 20);
    }
    assert_true(atomic_load(&gate.request_count) >= DETACHES * 20);
}

/* The error log is read while the other core writes it: entries are whole, newest first. */
static void error_log_read_under_load_has_whole_entries(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ERROR_READS; i++) {
        struct nvme_cmd cmd = {.ctrl = rig.ctrl};
        cmd.blk.cmd = (struct nvme_sqe){.opcode = NVME_ADMIN_GET_LOG_PAGE,
                                        .cdw10 = NVME_LOG_ERROR | 1023u << NVME_LOG_NUMDL_SHIFT};
        nvme_submit_admin(&cmd);
        assert_int_equal(cmd.blk.status, 0);
        struct nvme_error_entry entries[64];
        memcpy(entries, log_data, sizeof(entries));
        for (uint32_t k = 0; k < 64 && entries[k].error_count != 0; k++) {
            assert_int_equal(entries[k].sqid, 1);
            assert_int_equal(entries[k].nsid, 1);
            assert_true(entries[k].cid < DEPTH);
            assert_true(k == 0 || entries[k].error_count < entries[k - 1].error_count);
        }
        wait_for(&load.refused_count, 5);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(detach_under_load_never_touches_a_detached_device),
        cmocka_unit_test(error_log_read_under_load_has_whole_entries),
    };
    return cmocka_run_group_tests(tests, parallel_setup, parallel_teardown);
}
