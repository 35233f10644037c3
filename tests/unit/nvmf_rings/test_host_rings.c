/*
 * Queues in host memory, the whole initiator against a model target: they move there and back, what
 * is let go is not touched any more (the memory is freed: ASan sees it), and a host that writes
 * into it harms its own I/O alone.
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
#include "sched/sched.h"
#include "tests/model/node.h"
#include "tests/model/target.h"

#define SUBNQN   "nqn.2024-01.test:one"
#define HOSTNQN  "nqn.2024-01.test:host"
#define COMMANDS 128u
#define LBAS     1024u
#define BLOCK    512u
#define REQS     32u
#define STEP_NS  (20 * NS_PER_US)
#define LEAVE_NS (60 * NS_PER_MS) /* what a revoke may take, and a little */
#define STAGE    (256u << 10)
#define NO_BLOCK UINT64_MAX

struct io {
    struct blk_req req;
    struct mem_seg seg;
    uint8_t *data; /* one block */
    uint64_t lba;
    bool is_busy;
    uint32_t done_count;
};

struct tenant {
    struct nvmf_ctrl *ctrl;
    void *memory;
    struct nvmf_ns ns;
    struct io ios[REQS];
    bool is_closed;
};

static struct {
    struct wire *wire;
    struct model_node nodes[2];
    struct target *target;
    void *target_memory;
    void *core_memory;
    struct tenant tenants[2]; /* function 0 with host queues, function 1 without */
    uint8_t *hmb;             /* of function 0; NULL: not granted */
    uint64_t hmb_bytes;
    bool is_left; /* revoke has ended */
} w;

static const struct target_ns_config namespaces[] = {
    {.nsid = 1, .lba_count = LBAS, .lba_shift = 9, .nguid = {1}, .uuid = {1}},
};
static const struct target_subsystem_config subsystems[] = {
    {.nqn = SUBNQN, .namespaces = namespaces, .ns_count = 1},
};

/* --- world ------------------------------------------------------------------------------------ */

static void advance(uint64_t duration_ns)
{
    for (uint64_t end_ns = clock_now_ns() + duration_ns; clock_now_ns() < end_ns;) {
        native_clock_advance(STEP_NS);
        model_turn();
    }
}

static struct nvmf_ctrl_info info_of(const struct tenant *tenant)
{
    struct nvmf_ctrl_info info;
    nvmf_ctrl_info(tenant->ctrl, &info);
    return info;
}

static struct nvmf_path_stats stats_of(const struct tenant *tenant, enum nvmf_path path)
{
    struct nvmf_path_stats stats;
    nvmf_ctrl_stats(tenant->ctrl, path, &stats);
    return stats;
}

static void until_live(const struct tenant *tenant)
{
    for (uint32_t i = 0; i < 2000; i++) {
        if (info_of(tenant).state == NVMF_CTRL_LIVE && nvmf_ns_is_usable(&tenant->ns)) {
            return;
        }
        advance(5 * NS_PER_MS);
    }
    fail_msg("%s", nvmf_ctrl_state_name(info_of(tenant).state));
}

static void open_tenant(uint32_t index)
{
    struct tenant *tenant = &w.tenants[index];
    struct nvmf_ctrl_config config = {.name = index == 0 ? "hosted" : "other",
                                      .fn = (uint16_t)index,
                                      .addr = w.nodes[1].addr,
                                      .subnqn = SUBNQN,
                                      .hostnqn = HOSTNQN,
                                      .hostid = {(uint8_t)(index + 1)},
                                      .backoff_low_ms = 10,
                                      .backoff_high_ms = 20,
                                      .host_queues = index == 0};
    struct nvmf_ns_id id = {.nguid = {1}};

    tenant->memory = model_memory(nvmf_ctrl_memory_bytes(&config));
    assert_int_equal(nvmf_ctrl_create(tenant->memory, &config, &tenant->ctrl), STATUS_OK);
    nvmf_ns_open(&tenant->ns, tenant->ctrl, &id,
                 index == 0 ? NVMF_PATH_HOST_QUEUES : NVMF_PATH_ZERO_COPY, "ns");
    for (uint32_t i = 0; i < REQS; i++) {
        tenant->ios[i].data = malloc(BLOCK);
    }
    until_live(tenant);
}

static void note_closed(void *arg)
{
    *(bool *)arg = true;
}

static void close_tenant(struct tenant *tenant)
{
    nvmf_ns_close(&tenant->ns);
    nvmf_ctrl_close(tenant->ctrl, note_closed, &tenant->is_closed);
    for (uint32_t i = 0; i < 1000 && !tenant->is_closed; i++) {
        advance(5 * NS_PER_MS);
    }
    assert_true(tenant->is_closed);
    free(tenant->memory);
    for (uint32_t i = 0; i < REQS; i++) {
        assert_false(tenant->ios[i].is_busy);
        free(tenant->ios[i].data);
    }
    tenant->ctrl = NULL;
}

static int setup(void **state)
{
    struct wire_config wire = {.seed = 1, .port_count = 2, .mtu_bytes = 4200};

    (void)state;
    memset(&w, 0, sizeof(w));
    native_clock_set(100 * NS_PER_S);
    sched_init(1, SCHED_IDLE_POLL);
    w.wire = wire_open(&wire);
    model_node_open(&w.nodes[0], w.wire, 0, 1, NULL);
    model_node_open(&w.nodes[1], w.wire, 1, 1, NULL);
    struct target_config config = {.device = w.nodes[1].device,
                                   .addr = w.nodes[1].addr,
                                   .subsystems = subsystems,
                                   .subsystem_count = 1,
                                   .in_capsule_bytes = 4096};
    w.target_memory = model_memory(target_memory_bytes(&config));
    w.target = target_open(w.target_memory, &config);
    struct nvmf_host_core_config core = {
        .device = w.nodes[0].device, .command_count = COMMANDS, .stage_bytes = STAGE};
    w.core_memory = model_memory(nvmf_host_core_memory_bytes(&core));
    assert_int_equal(nvmf_host_core_start(w.core_memory, &core), STATUS_OK);
    open_tenant(0);
    open_tenant(1);
    return 0;
}

/* --- host memory ------------------------------------------------------------------------------ */

static void grant_bytes(uint64_t bytes)
{
    w.hmb_bytes = bytes;
    w.hmb = model_memory(bytes);
    struct nvmf_host_piece piece = {.bus_addr = (uintptr_t)w.hmb, .len_bytes = (uint32_t)bytes};
    assert_int_equal(nvmf_host_memory_grant(0, &piece, 1), STATUS_OK);
}

/* And waits until the queues have moved. */
static void grant(void)
{
    grant_bytes(nvmf_host_memory_bytes(COMMANDS));
    advance(NS_PER_MS);
    until_live(&w.tenants[0]);
    assert_int_equal(info_of(&w.tenants[0]).host_queue_count, 1);
}

static void note_left(void *arg)
{
    (void)arg;
    w.is_left = true;
    free(w.hmb);
    w.hmb = NULL;
}

static void begin_revoke(void)
{
    w.is_left = false;
    nvmf_host_memory_revoke(0, note_left, NULL);
}

static void revoke(void)
{
    uint64_t begin_ns = clock_now_ns();

    begin_revoke();
    while (!w.is_left && clock_now_ns() - begin_ns <= LEAVE_NS) {
        advance(STEP_NS);
    }
    assert_true(w.is_left);
}

/* What was taken has come back. */
static void devices_check(void)
{
    struct nvmf_core *core = nvmf_core_find(0);

    assert_true(list_is_empty(&core->queues));
    assert_int_equal(core->free_slot_count, core->slot_count);
    assert_int_equal(rdma_cq_destroy(core->cq), STATUS_OK);
    sched_poller_remove(&core->poller);
    assert_true(rdma_soft_is_quiet(w.nodes[0].device));
    assert_true(rdma_soft_is_quiet(w.nodes[1].device));
    assert_true(wire_is_quiet(w.wire));
}

static int teardown(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        if (w.tenants[i].ctrl != NULL) {
            close_tenant(&w.tenants[i]);
        }
    }
    if (w.hmb != NULL) {
        revoke();
    }
    advance(NS_PER_MS);
    target_close(w.target);
    for (uint32_t i = 0; i < 1000 && !target_is_quiet(w.target); i++) {
        advance(NS_PER_MS);
    }
    assert_true(target_is_quiet(w.target));
    assert_string_equal(target_violation(w.target), "");
    target_free(w.target);
    for (uint32_t i = 0; i < 700; i++) { /* time wait */
        native_clock_advance(100 * NS_PER_MS);
        model_turn();
    }
    devices_check();
    sched_init(1, SCHED_IDLE_POLL);
    model_node_close(&w.nodes[0]);
    model_node_close(&w.nodes[1]);
    wire_close(w.wire);
    free(w.target_memory);
    free(w.core_memory);
    native_clock_use_real();
    return 0;
}

/* --- requests --------------------------------------------------------------------------------- */

static void note_done(struct blk_req *req)
{
    struct io *io = CONTAINER_OF(req, struct io, req);

    assert_true(io->is_busy);
    io->is_busy = false;
    io->done_count++;
}

static struct io *submit(struct tenant *tenant, uint32_t index, uint8_t opcode, uint64_t lba)
{
    struct io *io = &tenant->ios[index];

    assert_false(io->is_busy);
    io->is_busy = true;
    io->lba = lba;
    io->seg = (struct mem_seg){.bus_addr = (uintptr_t)io->data, .len_bytes = BLOCK};
    io->req = (struct blk_req){
        .cmd = {.opcode = opcode, .cdw10 = (uint32_t)lba},
        .data = {.segs = &io->seg, .len_bytes = BLOCK, .seg_count = 1, .space = MEM_SPACE_HOST},
        .done = note_done,
        .fn = (uint16_t)(tenant - w.tenants),
        .dir = opcode == NVME_IO_READ ? NVME_DIR_FROM_CONTROLLER : NVME_DIR_TO_CONTROLLER};
    blk_submit(&tenant->ns.dev, &io->req);
    return io;
}

static void finish(struct io *io)
{
    for (uint32_t i = 0; i < 4000 && io->is_busy; i++) {
        advance(5 * NS_PER_MS);
    }
    assert_false(io->is_busy);
}

/* Writes blocks of a pattern, reads them back. */
static void check_io(struct tenant *tenant, uint8_t seed)
{
    for (uint32_t i = 0; i < REQS; i++) {
        memset(tenant->ios[i].data, (int)(seed + i), BLOCK);
        submit(tenant, i, NVME_IO_WRITE, i);
    }
    advance(NS_PER_MS);
    for (uint32_t i = 0; i < REQS; i++) {
        finish(&tenant->ios[i]);
        assert_int_equal(tenant->ios[i].req.status, 0);
        memset(tenant->ios[i].data, 0, BLOCK);
        submit(tenant, i, NVME_IO_READ, i);
    }
    for (uint32_t i = 0; i < REQS; i++) {
        finish(&tenant->ios[i]);
        assert_int_equal(tenant->ios[i].req.status, 0);
        for (uint32_t j = 0; j < BLOCK; j++) {
            assert_int_equal(tenant->ios[i].data[j], (uint8_t)(seed + i));
        }
    }
}

/* --- there and back --------------------------------------------------------------------------- */

static void io_without_host_memory_falls_back_and_is_counted(void **state)
{
    (void)state;
    check_io(&w.tenants[0], 1);
    struct nvmf_path_stats stats = stats_of(&w.tenants[0], NVMF_PATH_HOST_QUEUES);
    assert_int_equal(stats.requests, 2 * REQS);
    assert_int_equal(stats.fallbacks, 2 * REQS);
    assert_int_equal(stats.host_ring_reads, 0);
    assert_int_equal(info_of(&w.tenants[0]).host_queue_count, 0);
}

static void io_over_host_rings_works_and_stages_nothing(void **state)
{
    (void)state;
    grant();
    check_io(&w.tenants[0], 7);
    struct nvmf_path_stats stats = stats_of(&w.tenants[0], NVMF_PATH_HOST_QUEUES);
    assert_int_equal(stats.requests, 2 * REQS);
    assert_int_equal(stats.fallbacks, 0);
    assert_int_equal(stats.staged_bytes, 0);
    assert_int_equal(stats.host_ring_reads, 3 * 2 * REQS);
    assert_int_equal(stats.host_ring_writes, 3 * 2 * REQS);
    check_io(&w.tenants[1], 9);
    assert_int_equal(info_of(&w.tenants[1]).host_queue_count, 0);
    assert_int_equal(stats_of(&w.tenants[1], NVMF_PATH_ZERO_COPY).host_ring_reads, 0);
}

static void revoke_of_idle_queues_lets_go_and_io_goes_on(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        grant();
        check_io(&w.tenants[0], (uint8_t)i);
        revoke();
        until_live(&w.tenants[0]);
        assert_int_equal(info_of(&w.tenants[0]).host_queue_count, 0);
        check_io(&w.tenants[0], (uint8_t)(i + 100));
    }
    assert_int_equal(info_of(&w.tenants[1]).connect_count, 1); /* the other one did not notice */
}

/* A grant that is taken back before anybody has heard of it, and one while nobody is connected. */
static void revoke_at_any_moment_of_the_move_lets_go(void **state)
{
    (void)state;
    for (uint64_t wait_ns = 0; wait_ns < 30 * NS_PER_MS; wait_ns += 7 * STEP_NS) {
        grant_bytes(nvmf_host_memory_bytes(COMMANDS));
        advance(wait_ns);
        revoke();
        if (wait_ns % 3 == 0) {
            until_live(&w.tenants[0]);
        }
    }
    until_live(&w.tenants[0]);
    check_io(&w.tenants[0], 1);
}

static void revoke_without_a_grant_ends_at_once(void **state)
{
    (void)state;
    begin_revoke();
    assert_true(w.is_left);
}

static void grant_that_is_too_small_changes_nothing(void **state)
{
    (void)state;
    grant_bytes(nvmf_host_memory_bytes(COMMANDS) - 4096);
    advance(100 * NS_PER_MS);
    until_live(&w.tenants[0]);
    assert_int_equal(info_of(&w.tenants[0]).connect_count, 1);
    check_io(&w.tenants[0], 3);
}

static void grant_in_pieces_uses_the_one_that_is_large_enough(void **state)
{
    (void)state;
    uint64_t bytes = nvmf_host_memory_bytes(COMMANDS);
    w.hmb = model_memory(bytes + 4096);
    struct nvmf_host_piece pieces[] = {
        {.bus_addr = (uintptr_t)w.hmb, .len_bytes = 4096},
        {.bus_addr = (uintptr_t)w.hmb + 4096, .len_bytes = (uint32_t)bytes}};
    assert_int_equal(nvmf_host_memory_grant(0, pieces, 2), STATUS_OK);
    advance(NS_PER_MS);
    until_live(&w.tenants[0]);
    assert_int_equal(info_of(&w.tenants[0]).host_queue_count, 1);
    check_io(&w.tenants[0], 3);
    assert_int_equal(w.hmb[0], 0);
}

static void close_of_the_association_leaves_host_memory(void **state)
{
    (void)state;
    grant();
    close_tenant(&w.tenants[0]);
    revoke();
    check_io(&w.tenants[1], 3);
}

/* --- with commands under way ------------------------------------------------------------------ */

/* The controller answers its admin queue: it is disabled in order, and writes are quiet after its
 * quiesce time. */
static void revoke_under_load_ends_requests_that_are_quiet(void **state)
{
    (void)state;
    grant();
    target_fault_add(w.target, &(struct target_fault){.kind = TARGET_FAULT_DROP,
                                                      .qid = TARGET_IO,
                                                      .opcode = NVME_IO_WRITE,
                                                      .fctype = TARGET_ANY,
                                                      .cid = TARGET_ANY});
    for (uint32_t i = 0; i < 8; i++) {
        submit(&w.tenants[0], i, NVME_IO_WRITE, i);
    }
    advance(NS_PER_MS);
    revoke();
    for (uint32_t i = 0; i < 8; i++) {
        const struct io *io = &w.tenants[0].ios[i];
        assert_false(io->is_busy);
        assert_true(io->req.is_path_error);
        assert_in_range(io->req.quiet_ns, 1, clock_now_ns() + NS_PER_S);
        assert_int_equal(io->done_count, 1);
    }
    target_faults_clear(w.target);
    until_live(&w.tenants[0]);
    check_io(&w.tenants[0], 3);
}

/* Nobody answers: memory is let go all the same; what may still be executed says for how long. */
static void revoke_with_a_silent_target_does_not_wait(void **state)
{
    (void)state;
    grant();
    wire_cut(w.wire, 1, true);
    for (uint32_t i = 0; i < 8; i++) {
        submit(&w.tenants[0], i, i % 2 == 0 ? NVME_IO_WRITE : NVME_IO_READ, i);
    }
    advance(NS_PER_MS);
    revoke();
    for (uint32_t i = 0; i < 8; i++) {
        const struct io *io = &w.tenants[0].ios[i];
        assert_false(io->is_busy);
        assert_true(io->req.is_path_error);
        assert_true(i % 2 == 0 ? io->req.quiet_ns > clock_now_ns() : io->req.quiet_ns == 0);
    }
    wire_cut(w.wire, 1, false);
    until_live(&w.tenants[0]);
    check_io(&w.tenants[0], 3);
}

/* Answers that come when the memory is gone go nowhere (ASan; the teardown looks for leaks). */
static void late_answers_after_a_revoke_go_nowhere(void **state)
{
    (void)state;
    grant();
    target_fault_add(w.target, &(struct target_fault){.kind = TARGET_FAULT_HOLD,
                                                      .qid = TARGET_IO,
                                                      .opcode = TARGET_ANY,
                                                      .fctype = TARGET_ANY,
                                                      .cid = TARGET_ANY,
                                                      .delay_ns = 20 * NS_PER_MS,
                                                      .jitter_ns = 200 * NS_PER_MS});
    target_knobs(w.target)->disable_keeps_io = true;
    for (uint32_t i = 0; i < REQS; i++) {
        submit(&w.tenants[0], i, NVME_IO_READ, i);
    }
    advance(NS_PER_MS);
    revoke();
    assert_true(target_held_count(w.target) > 0); /* they are yet to come */
    target_faults_clear(w.target);
    advance(NS_PER_S);
    assert_int_equal(target_held_count(w.target), 0);
    for (uint32_t i = 0; i < REQS; i++) {
        assert_int_equal(w.tenants[0].ios[i].done_count, 1);
    }
    until_live(&w.tenants[0]);
}

/* --- a hostile host --------------------------------------------------------------------------- */

static uint64_t random_state;

static uint32_t draw(uint32_t below)
{
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (uint32_t)(random_state >> 33) % below;
}

static void scribble(void)
{
    for (uint32_t n = draw(40); n > 0; n--) {
        uint32_t at = draw((uint32_t)w.hmb_bytes);
        w.hmb[at] = (uint8_t)(draw(2) == 0 ? w.hmb[draw((uint32_t)w.hmb_bytes)] : draw(256));
    }
}

static void submit_some(struct tenant *tenant)
{
    for (uint32_t i = 0; i < REQS; i++) {
        if (!tenant->ios[i].is_busy && draw(4) == 0 && nvmf_ns_is_usable(&tenant->ns)) {
            submit(tenant, i, draw(2) == 0 ? NVME_IO_READ : NVME_IO_WRITE, 64 + i);
        }
    }
}

/* Quickly while there is nothing to spoil: it connects anew. */
static void pass_time(void)
{
    if (nvmf_ns_is_usable(&w.tenants[0].ns)) {
        advance(draw(100) == 0 ? NS_PER_MS : STEP_NS);
        return;
    }
    for (uint32_t i = 0; i < 10; i++) {
        native_clock_advance(NS_PER_MS);
        model_turn();
    }
}

static void host_that_scribbles_over_its_rings_harms_itself_alone(void **state)
{
    (void)state;
    struct tenant *other = &w.tenants[1];
    uint32_t others = 0;

    for (uint64_t seed = 1; seed <= 4; seed++) {
        random_state = seed;
        grant();
        for (uint32_t i = 0; i < 400; i++) {
            submit_some(&w.tenants[0]);
            if (!other->ios[0].is_busy) {
                memset(other->ios[0].data, (int)i, BLOCK);
                submit(other, 0, NVME_IO_WRITE, 8);
            }
            for (uint32_t turns = draw(6); turns > 0; turns--) {
                (void)sched_turn();
                scribble();
            }
            pass_time();
            if (!other->ios[0].is_busy) {
                assert_int_equal(other->ios[0].req.status, 0);
                others++;
            }
        }
        finish(&other->ios[0]);
        for (uint32_t i = 0; i < REQS; i++) {
            finish(&w.tenants[0].ios[i]);
        }
        revoke();
        until_live(&w.tenants[0]);
    }
    assert_true(info_of(&w.tenants[0]).connect_count > 20); /* it did harm itself */
    assert_true(rdma_soft_stats(w.nodes[0].device)->host_ring_faults > 20);
    assert_int_equal(info_of(other).connect_count, 1);
    assert_true(others > 400);
    check_io(&w.tenants[0], 1);
    check_io(other, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(io_without_host_memory_falls_back_and_is_counted),
        TEST(io_over_host_rings_works_and_stages_nothing),
        TEST(revoke_of_idle_queues_lets_go_and_io_goes_on),
        TEST(revoke_at_any_moment_of_the_move_lets_go),
        TEST(revoke_without_a_grant_ends_at_once),
        TEST(grant_that_is_too_small_changes_nothing),
        TEST(grant_in_pieces_uses_the_one_that_is_large_enough),
        TEST(close_of_the_association_leaves_host_memory),
        TEST(revoke_under_load_ends_requests_that_are_quiet),
        TEST(revoke_with_a_silent_target_does_not_wait),
        TEST(late_answers_after_a_revoke_go_nowhere),
        TEST(host_that_scribbles_over_its_rings_harms_itself_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
