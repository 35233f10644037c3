/*
 * Whole associations on a wire with a model target: cores 0 and 1 have devices, core 2 sends its
 * requests to them; the target is on core 0. Nothing of the initiator is made up here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "hal/clock.h"
#include "hal/native/native.h"
#include "nvmf_host/queue_priv.h"
#include "rdma/soft.h"
#include "tests/model/node.h"
#include "tests/model/target.h"

#define CORES   3
#define DEVICES 2
#define NQN     "nqn.2014-08.org.example:disk"
#define HOSTNQN "nqn.2014-08.org.example:host"
#define STEP_NS (100 * NS_PER_US)
#define BLOCK   4096u
#define HOLD_NS (500 * NS_PER_MS) /* of a write that comes late: less than the quiesce time */

static struct {
    struct wire *wire;
    struct model_node nodes[DEVICES];
    struct model_node peer;
    void *core_memory[DEVICES];
    struct target *target;
    void *target_memory;
    struct nvmf_ctrl_config config;
    struct nvmf_ctrl *ctrl;
    struct nvmf_ns ns;
    uint32_t changed_count;
    uint32_t done_count;
    uint8_t data[16 * BLOCK];
} w;

static const struct target_ns_config namespaces[] = {
    {.nsid = 1, .lba_count = 256, .lba_shift = 12, .uuid = {1}, .nguid = {1}},
    {.nsid = 5, .lba_count = 64, .lba_count_max = 128, .lba_shift = 9, .uuid = {5}, .nguid = {5}},
};
static const struct target_subsystem_config subsystems[] = {
    {.nqn = NQN, .host_nqn = HOSTNQN, .namespaces = namespaces, .ns_count = 2},
    {.nqn = "nqn.2014-08.org.example:closed", .host_nqn = "nobody", .namespaces = namespaces},
};

/* --- world ---------------------------------------------------------------------------------- */

static void turn(void)
{
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t core = CORES; core-- > 0;) {
            native_cpu_become(core);
            (void)sched_turn();
        }
    }
}

static void run(uint64_t duration_ns)
{
    for (uint64_t ns = 0; ns < duration_ns; ns += STEP_NS) {
        turn();
        native_clock_advance(STEP_NS);
    }
}

/* In longer steps: for what only time can do. */
static void pass(uint64_t duration_ns)
{
    for (uint64_t ns = 0; ns < duration_ns; ns += 20 * STEP_NS) {
        turn();
        native_clock_advance(20 * STEP_NS);
    }
}

static void on_changed(struct blk_dev *dev, void *ctx)
{
    assert_ptr_equal(dev, &w.ns.dev);
    assert_ptr_equal(ctx, &w);
    w.changed_count++;
}

static void on_done(void *arg)
{
    assert_ptr_equal(arg, &w);
    w.done_count++;
}

static struct nvmf_ctrl_info info(void)
{
    struct nvmf_ctrl_info result;
    nvmf_ctrl_info(w.ctrl, &result);
    return result;
}

static bool run_to(enum nvmf_ctrl_state state, uint64_t limit_ns)
{
    for (uint64_t ns = 0; ns < limit_ns && info().state != state; ns += STEP_NS) {
        run(STEP_NS);
    }
    return info().state == state;
}

static void open_target(void)
{
    struct target_config config = {.device = w.peer.device,
                                   .addr = w.peer.addr,
                                   .subsystems = subsystems,
                                   .subsystem_count = 2,
                                   .in_capsule_bytes = 4096,
                                   .max_transfer_bytes = 1u << 17};

    w.target_memory = model_memory(target_memory_bytes(&config));
    w.target = target_open(w.target_memory, &config);
}

static int setup(void **state)
{
    struct wire_config wire = {.seed = 1, .port_count = DEVICES + 1, .mtu_bytes = 4200};

    (void)state;
    memset(&w, 0, sizeof(w));
    native_clock_set(100 * NS_PER_S);
    native_cpu_become(0);
    sched_init(CORES, SCHED_IDLE_POLL);
    w.wire = wire_open(&wire);
    for (uint32_t i = 0; i < DEVICES; i++) {
        native_cpu_become(i);
        model_node_open(&w.nodes[i], w.wire, i, i + 1, NULL);
        struct nvmf_host_core_config core = {
            .device = w.nodes[i].device, .command_count = 64, .stage_bytes = 64 * 4096};
        w.core_memory[i] = model_memory(nvmf_host_core_memory_bytes(&core));
        assert_int_equal(nvmf_host_core_start(w.core_memory[i], &core), STATUS_OK);
    }
    native_cpu_become(0);
    model_node_open(&w.peer, w.wire, DEVICES, 9, NULL);
    open_target();
    w.config = (struct nvmf_ctrl_config){.name = "remote",
                                         .fn = 1,
                                         .addr = w.peer.addr,
                                         .subnqn = NQN,
                                         .hostnqn = HOSTNQN,
                                         .hostid = {7},
                                         .queue_entries = 32};
    pass(2 * NS_PER_S); /* addresses are being probed */
    return 0;
}

static void create(void)
{
    const struct nvmf_ns_id id = {.nguid = {1}};

    native_cpu_become(0);
    assert_int_equal(
        nvmf_ctrl_create(model_memory(nvmf_ctrl_memory_bytes(&w.config)), &w.config, &w.ctrl),
        STATUS_OK);
    nvmf_ns_open(&w.ns, w.ctrl, &id, NVMF_PATH_ZERO_COPY, "disk");
    w.ns.dev.changed = on_changed;
    w.ns.dev.changed_ctx = &w;
}

static void up(void)
{
    create();
    assert_true(run_to(NVMF_CTRL_LIVE, NS_PER_S));
    run(NS_PER_MS);
    assert_true(nvmf_ns_is_usable(&w.ns));
}

static void close_ctrl(void)
{
    native_cpu_become(0);
    nvmf_ctrl_close(w.ctrl, on_done, &w);
    for (uint32_t i = 0; i < 40000 && w.done_count == 0; i++) {
        run(STEP_NS);
    }
    assert_int_equal(w.done_count, 1);
    free(w.ctrl);
    w.ctrl = NULL;
}

static int teardown(void **state)
{
    (void)state;
    if (w.ctrl != NULL) {
        close_ctrl();
    }
    native_cpu_become(0);
    target_close(w.target);
    for (uint32_t i = 0; i < 1000 && !target_is_quiet(w.target); i++) {
        run(NS_PER_MS);
    }
    assert_true(target_is_quiet(w.target));
    assert_string_equal(target_violation(w.target), "");
    native_cpu_become(0);
    target_free(w.target);
    pass(70 * NS_PER_S); /* time wait */
    for (uint32_t i = 0; i < DEVICES; i++) {
        struct nvmf_core *core = nvmf_core_find(i);
        native_cpu_become(i);
        assert_true(list_is_empty(&core->queues));
        assert_int_equal(core->free_slot_count, core->slot_count);
        assert_int_equal(rdma_cq_destroy(core->cq), STATUS_OK);
        sched_poller_remove(&core->poller);
        assert_true(rdma_soft_is_quiet(w.nodes[i].device));
    }
    native_cpu_become(0);
    assert_true(rdma_soft_is_quiet(w.peer.device));
    sched_init(CORES, SCHED_IDLE_POLL);
    for (uint32_t i = 0; i < DEVICES; i++) {
        model_node_close(&w.nodes[i]);
        free(w.core_memory[i]);
    }
    model_node_close(&w.peer);
    wire_close(w.wire);
    free(w.target_memory);
    native_clock_use_real();
    return 0;
}

/* --- requests ------------------------------------------------------------------------------- */

struct request {
    struct blk_req req; /* first */
    struct mem_seg seg;
    uint32_t done_count;
};

static void on_req_done(struct blk_req *req)
{
    CONTAINER_OF(req, struct request, req)->done_count++;
}

static void submit(struct request *r, uint32_t core, uint8_t opcode, uint64_t slba, uint8_t *data,
                   uint32_t lba_count)
{
    *r = (struct request){.seg = {.bus_addr = (uintptr_t)data, .len_bytes = lba_count * BLOCK}};
    r->req.cmd.opcode = opcode;
    r->req.cmd.cdw10 = (uint32_t)slba;
    r->req.cmd.cdw12 = lba_count - 1;
    r->req.dir = opcode & 3;
    r->req.fn = 1;
    r->req.owner_core = (uint8_t)core;
    r->req.done = on_req_done;
    r->req.data = (struct mem_ref){
        .segs = &r->seg, .len_bytes = lba_count * BLOCK, .seg_count = 1, .space = MEM_SPACE_NIC};
    native_cpu_become(core);
    blk_submit(&w.ns.dev, &r->req);
    native_cpu_become(0);
}

static void finish(struct request *r)
{
    for (uint32_t i = 0; i < 200000 && r->done_count == 0; i++) {
        run(STEP_NS);
    }
    assert_int_equal(r->done_count, 1);
}

static nvme_status_t do_io(uint32_t core, uint8_t opcode, uint64_t slba, uint8_t *data,
                           uint32_t lba_count)
{
    struct request r;

    submit(&r, core, opcode, slba, data, lba_count);
    finish(&r);
    assert_false(r.req.is_path_error);
    return r.req.status;
}

static void read_and_write(void)
{
    for (uint32_t core = 0; core < CORES; core++) {
        uint8_t *from = w.data;
        uint8_t *to = w.data + 8 * BLOCK;
        memset(from, (int)(0x11 * (core + 1)), 8 * BLOCK);
        memset(to, 0, 8 * BLOCK);
        for (uint32_t lba_count = 1; lba_count <= 8; lba_count *= 8) { /* in the capsule, or not */
            assert_int_equal(do_io(core, NVME_IO_WRITE, core * 20, from, lba_count), 0);
            assert_int_equal(do_io(core, NVME_IO_READ, core * 20, to, lba_count), 0);
            assert_memory_equal(from, to, lba_count * BLOCK);
            assert_memory_equal(target_block(w.target, 0, 1, core * 20), from, BLOCK);
        }
    }
}

/* --- tests ---------------------------------------------------------------------------------- */

static void association_reads_and_writes_from_every_core(void **state)
{
    struct target_ctrl_info peer;
    (void)state;
    up();
    assert_int_equal(info().queue_count, DEVICES);
    assert_int_equal(w.ns.dev.geometry.lba_count, 256);
    assert_int_equal(w.ns.dev.geometry.lba_shift, 12);
    assert_int_equal(info().ns_count, 2);
    assert_true(target_ctrl_info(w.target, 0, &peer));
    assert_int_equal(peer.cntlid, info().cntlid);
    assert_int_equal(peer.kato_ms, 5000);
    assert_int_equal(peer.io_queue_count, DEVICES);
    assert_true(peer.aer_count > 0);
    assert_true(peer.sq_flow_off);
    assert_string_equal(peer.hostnqn, HOSTNQN);
    assert_int_equal(peer.hostid[0], 7);
    read_and_write();
    struct nvmf_path_stats stats;
    nvmf_ctrl_stats(w.ctrl, NVMF_PATH_ZERO_COPY, &stats);
    assert_int_equal(stats.requests, 12);
    assert_int_equal(stats.staged_bytes, 0);
    assert_int_equal(stats.in_capsule_bytes, 3 * BLOCK);
    assert_int_equal(stats.forwards, 4);
    close_ctrl();
    assert_int_equal(target_ctrl_count(w.target), 0);
}

static void association_stays_for_minutes(void **state)
{
    (void)state;
    up();
    pass(60 * NS_PER_S);
    assert_int_equal(info().state, NVMF_CTRL_LIVE);
    assert_int_equal(info().connect_count, 1);
    assert_int_equal(target_stats(w.target)->keep_alive_expired, 0);
    assert_true(target_stats(w.target)->keep_alives > 20);
    target_knobs(w.target)->no_traffic_keep_alive = true;
    nvmf_ctrl_reset(w.ctrl);
    assert_true(run_to(NVMF_CTRL_BACKOFF, NS_PER_S));
    assert_true(run_to(NVMF_CTRL_LIVE, NS_PER_S));
    for (uint32_t i = 0; i < 60; i++) {
        assert_int_equal(do_io(1, NVME_IO_READ, 0, w.data, 1), 0);
        pass(NS_PER_S / 2);
    }
    assert_int_equal(info().connect_count, 2);
    assert_int_equal(target_stats(w.target)->keep_alive_expired, 0);
}

static void refusals_say_why(void **state)
{
    static const struct {
        const char *nqn;
        const char *hostnqn;
        enum nvmf_fail fail;
    } cases[] = {
        {"nqn.2014-08.org.example:other", HOSTNQN, NVMF_FAIL_BAD_SUBNQN},
        {NQN, "nqn.2014-08.org.example:stranger", NVMF_FAIL_BAD_HOSTNQN},
    };
    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        w.config.subnqn = cases[i].nqn;
        w.config.hostnqn = cases[i].hostnqn;
        create();
        assert_true(run_to(NVMF_CTRL_BACKOFF, NS_PER_S));
        assert_int_equal(info().fail, cases[i].fail);
        close_ctrl();
        w.done_count = 0;
    }
    w.config.subnqn = NQN;
    w.config.hostnqn = HOSTNQN;
    target_knobs(w.target)->reject_status = NVMF_RDMA_NO_RESOURCES;
    target_knobs(w.target)->reject_count = 1;
    create();
    assert_true(run_to(NVMF_CTRL_BACKOFF, NS_PER_S));
    assert_int_equal(info().fail, NVMF_FAIL_RDMA_REJECTED);
    assert_int_equal(info().fail_code, NVMF_RDMA_NO_RESOURCES);
    assert_true(run_to(NVMF_CTRL_LIVE, NS_PER_S));
    read_and_write();
}

static void fewer_queues_serve_all_cores(void **state)
{
    (void)state;
    target_knobs(w.target)->reject_qid_from = 2;
    up();
    assert_int_equal(info().queue_count, 1);
    read_and_write();
}

static void lost_queues_come_back(void **state)
{
    (void)state;
    up();
    for (int i = 0; i < 6; i++) {
        struct request r;
        uint64_t begin_ns = clock_now_ns();
        struct target_fault hold = {.kind = TARGET_FAULT_HOLD,
                                    .qid = TARGET_IO,
                                    .opcode = NVME_IO_WRITE,
                                    .fctype = TARGET_ANY,
                                    .cid = TARGET_ANY,
                                    .delay_ns = HOLD_NS};
        target_knobs(w.target)->lone_queues = i % 2 != 0;
        target_knobs(w.target)->disable_keeps_io = true; /* as Linux does */
        (void)target_fault_add(w.target, &hold);
        submit(&r, i < 4, NVME_IO_WRITE, 3, w.data, 1); /* core 0 has queue 1 */
        run(5 * NS_PER_MS);
        target_drop_queues(w.target, TARGET_ANY, i / 2 == 0 ? TARGET_ANY : i / 2 - 1,
                           i == 3 || i == 5);
        finish(&r);
        assert_true(r.req.is_path_error);
        assert_false(nvmf_ns_is_usable(&w.ns));
        /* Disabled in order or not, there is a time until which the write may come late. */
        assert_int_equal(target_held_count(w.target), 1);
        assert_true(r.req.quiet_ns > clock_now_ns());
        assert_in_range(r.req.quiet_ns, begin_ns + HOLD_NS, clock_now_ns() + 60 * NS_PER_S);
        target_faults_clear(w.target);
        assert_true(run_to(NVMF_CTRL_LIVE, 8 * NS_PER_S)); /* pauses grow with each early loss */
        run(HOLD_NS);                                      /* its write would come between */
        assert_true(nvmf_ns_is_usable(&w.ns));
        read_and_write();
        while (clock_now_ns() < r.req.quiet_ns) {
            pass(100 * NS_PER_MS);
        }
        assert_int_equal(target_held_count(w.target), 0);
    }
}

static void target_that_was_off_is_found_again(void **state)
{
    (void)state;
    up();
    read_and_write();
    target_power(w.target, false);
    pass(3 * NS_PER_S);
    assert_int_not_equal(info().state, NVMF_CTRL_LIVE);
    target_power(w.target, true);
    assert_true(run_to(NVMF_CTRL_LIVE, 20 * NS_PER_S));
    run(NS_PER_MS);
    read_and_write();
}

/* A command that never ends: aborted, or the association is made anew. */
static void unanswered_command_ends_all_the_same(void **state)
{
    struct target_fault drop = {.kind = TARGET_FAULT_DROP,
                                .qid = TARGET_IO,
                                .opcode = NVME_IO_READ,
                                .fctype = TARGET_ANY,
                                .cid = TARGET_ANY,
                                .count = 1};
    struct request r;
    (void)state;
    w.config.command_timeout_ms = 500;
    up();
    (void)target_fault_add(w.target, &drop);
    submit(&r, 2, NVME_IO_READ, 0, w.data, 1);
    finish(&r);
    assert_true(r.req.is_path_error || r.req.status != 0);
    assert_int_equal(info().timeout_count, 1);
    assert_int_equal(info().abort_count, 1);
    run(3 * NS_PER_S);
    assert_true(run_to(NVMF_CTRL_LIVE, 10 * NS_PER_S));
    run(NS_PER_MS);
    read_and_write();
}

static void namespaces_come_and_go(void **state)
{
    struct nvmf_ns other;
    const struct nvmf_ns_id id = {.uuid = {5}};
    (void)state;
    up();
    nvmf_ns_open(&other, w.ctrl, &id, NVMF_PATH_TERMINATE, "other");
    run(300 * NS_PER_MS);
    assert_true(nvmf_ns_is_usable(&other));
    assert_int_equal(other.dev.geometry.lba_count, 64);
    assert_int_equal(other.dev.geometry.lba_shift, 9);
    assert_true(target_ns_resize(w.target, 0, 5, 128));
    run(300 * NS_PER_MS);
    assert_int_equal(other.dev.geometry.lba_count, 128);
    assert_true(target_ns_resize(w.target, 0, 5, 0));
    run(300 * NS_PER_MS);
    assert_false(nvmf_ns_is_usable(&other));
    assert_true(nvmf_ns_is_usable(&w.ns));
    assert_true(info().event_count >= 2);
    nvmf_ns_close(&other);
    read_and_write();
}

/* 64 associations with queues of 128 entries: the firmware's budget is 64 MiB in all. */
static void memory_of_all_associations_is_bounded(void **state)
{
    (void)state;
    w.config.queue_entries = 0;
    up();
    assert_int_equal(info().queue_entries, 128);
    assert_int_equal(info().memory_bytes, nvmf_ctrl_memory_bytes(&w.config));
    print_message("%u KiB each, with %u I/O queues\n", (unsigned)(info().memory_bytes / 1024),
                  (unsigned)info().queue_count);
    assert_true(info().memory_bytes * LIMIT_NVMF_CTRLS <= 24u << 20);
}

static struct {
    uint32_t count;
    uint32_t done_count;
    enum nvmf_fail fail;
    char nqn[4][NVMF_NQN_BYTES];
} found;

static void on_found(const struct nvmf_discovery_entry *entry, uint32_t depth, void *ctx)
{
    (void)ctx;
    assert_int_equal(depth, 0);
    assert_true(found.count < 4);
    memcpy(found.nqn[found.count++], entry->subnqn, NVMF_NQN_BYTES);
}

static void on_discovered(enum nvmf_fail fail, uint32_t code, void *ctx)
{
    (void)code;
    (void)ctx;
    found.fail = fail;
    found.done_count++;
}

static void discovery_finds_the_subsystem(void **state)
{
    struct nvmf_discovery_config config = {
        .fn = 1, .addr = w.peer.addr, .hostnqn = HOSTNQN, .found = on_found, .done = on_discovered};
    bool is_there = false;
    (void)state;
    up();
    memset(&found, 0, sizeof(found));
    void *memory = model_memory(nvmf_discovery_memory_bytes());
    native_cpu_become(0);
    assert_int_equal(nvmf_discover(memory, &config), STATUS_OK);
    for (uint32_t i = 0; i < 20000 && found.done_count == 0; i++) {
        run(STEP_NS);
    }
    assert_int_equal(found.done_count, 1);
    assert_int_equal(found.fail, NVMF_FAIL_NONE);
    for (uint32_t i = 0; i < found.count; i++) {
        is_there |= strcmp(found.nqn[i], NQN) == 0;
    }
    assert_true(is_there);
    free(memory);
    read_and_write();
}

/* Every admin command of the bring-up is lost in its turn. */
static void each_admin_command_dropped_is_made_good(void **state)
{
    (void)state;
    w.config.connect_timeout_ms = 200;
    w.config.backoff_low_ms = 50;
    for (uint32_t skip = 0; skip < 14; skip++) {
        struct target_fault drop = {.kind = skip % 2 != 0 ? TARGET_FAULT_DIE : TARGET_FAULT_DROP,
                                    .qid = 0,
                                    .opcode = TARGET_ANY,
                                    .fctype = TARGET_ANY,
                                    .cid = TARGET_ANY,
                                    .skip = skip,
                                    .count = 1};
        (void)target_fault_add(w.target, &drop);
        create();
        assert_true(run_to(NVMF_CTRL_LIVE, 3 * NS_PER_S));
        run(100 * NS_PER_MS);
        assert_true(run_to(NVMF_CTRL_LIVE, 3 * NS_PER_S));
        run(NS_PER_MS);
        assert_int_equal(do_io(2, NVME_IO_READ, 0, w.data, 1), 0);
        close_ctrl();
        w.done_count = 0;
        target_faults_clear(w.target);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(association_reads_and_writes_from_every_core),
        TEST(association_stays_for_minutes),
        TEST(refusals_say_why),
        TEST(fewer_queues_serve_all_cores),
        TEST(lost_queues_come_back),
        TEST(target_that_was_off_is_found_again),
        TEST(unanswered_command_ends_all_the_same),
        TEST(namespaces_come_and_go),
        TEST(memory_of_all_associations_is_bounded),
        TEST(discovery_finds_the_subsystem),
        TEST(each_admin_command_dropped_is_made_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
