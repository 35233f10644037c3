/*
 * What happens besides: hosts reset and abort, wires are cut, targets break off, lose their power,
 * answer wrongly or late, execute late. What breaks connections leaves time to make them anew, so
 * that volumes need not give up, but in PATH_LOST.
 */
#include "tests/sim/path/path.h"

/* Less than keep-alive timeout and quiesce time together (path_world.c): so late may a controller
 * execute what it took. */
#define LATE_MAX_NS (1100 * NS_PER_MS)

/* --- the target does wrong ------------------------------------------------------------------ */

static const enum target_fault_kind kinds[] = {
    TARGET_FAULT_DROP,     TARGET_FAULT_MUTE,  TARGET_FAULT_DELAY,       TARGET_FAULT_HOLD,
    TARGET_FAULT_HOLD,     TARGET_FAULT_HOLD,  TARGET_FAULT_TWICE,       TARGET_FAULT_WRONG_CID,
    TARGET_FAULT_BAD_SQHD, TARGET_FAULT_SHORT, TARGET_FAULT_WRONG_KEY,   TARGET_FAULT_NO_INVALIDATE,
    TARGET_FAULT_OVERRUN,  TARGET_FAULT_DIE,   TARGET_FAULT_EXECUTE_DIE, TARGET_FAULT_EXECUTE_DIE,
};

static void fault_draw(struct target_fault *fault)
{
    *fault = (struct target_fault){.kind = kinds[path_below(ARRAY_SIZE(kinds))],
                                   .qid = path_chance(85) ? TARGET_IO : TARGET_ANY,
                                   .opcode = TARGET_ANY,
                                   .fctype = TARGET_ANY,
                                   .cid = TARGET_ANY,
                                   .count = (uint32_t)path_range(1, 6),
                                   .chance_ppm = (uint32_t)path_range(10000, 400000)};
    if (fault->qid == TARGET_IO && path_chance(60)) {
        fault->opcode = path_chance(75) ? NVME_IO_WRITE : NVME_IO_READ;
    }
    fault->delay_ns = path_range(1, 300) * NS_PER_MS;
    if (fault->kind == TARGET_FAULT_HOLD && path_chance(70)) {
        fault->delay_ns = path_range(1, LATE_MAX_NS / NS_PER_MS) * NS_PER_MS;
    }
    fault->value = (uint32_t)path_below(NVMF_RESP_CAPSULE_BYTES);
    if (fault->kind == TARGET_FAULT_WRONG_CID) {
        fault->value = 0x8000; /* never another command's */
    } else if (fault->kind == TARGET_FAULT_WRONG_KEY || fault->kind == TARGET_FAULT_OVERRUN) {
        fault->value = (uint32_t)path_range(1, 4096);
    } else if (fault->kind == TARGET_FAULT_BAD_SQHD) {
        fault->value = (uint32_t)path_below(65536);
    }
}

static uint64_t for_ns(uint64_t most_ms)
{
    return path_range(1, path.plan.class == PATH_LOST ? most_ms * 4 : most_ms) * NS_PER_MS;
}

static void target_misbehaves(void)
{
    uint64_t count = path_range(1, 3);

    target_faults_clear(path.target);
    for (uint64_t i = 0; i < count; i++) {
        struct target_fault fault;
        fault_draw(&fault);
        target_fault_add(path.target, &fault);
        path_trace("event: target does wrong: kind %d qid %d opcode %d after %llu ms",
                   (int)fault.kind, fault.qid, fault.opcode,
                   (unsigned long long)(fault.delay_ns / NS_PER_MS));
    }
    path.faults_until_ns = clock_now_ns() + for_ns(1500);
    path.calm_ns = path.faults_until_ns + path.plan.calm_ns;
    if (path_chance(50)) {
        path.break_ns = clock_now_ns() + path_below(800) * NS_PER_MS;
    }
    target_knobs(path.target)->no_abort = path_chance(60);
}

/* Old controllers execute writes after their association is gone, and after newer ones could have
 * been acknowledged. */
static void writes_are_late(void)
{
    struct target_fault hold = {.kind = TARGET_FAULT_HOLD,
                                .qid = TARGET_IO,
                                .opcode = NVME_IO_WRITE,
                                .fctype = TARGET_ANY,
                                .cid = TARGET_ANY,
                                .chance_ppm = (uint32_t)path_range(100000, 900000),
                                .delay_ns = path_range(100, LATE_MAX_NS / NS_PER_MS) * NS_PER_MS};

    path_trace("event: writes are held for %llu ms",
               (unsigned long long)(hold.delay_ns / NS_PER_MS));
    target_faults_clear(path.target);
    target_fault_add(path.target, &hold);
    target_knobs(path.target)->no_abort = path_chance(60);
    path.break_ns = clock_now_ns() + path_range(1, 300) * NS_PER_MS;
    path.faults_until_ns = path.break_ns + path_below(1000) * NS_PER_MS;
    path.calm_ns = path.faults_until_ns + path.plan.calm_ns;
}

static void target_refuses(void)
{
    struct target_knobs *knobs = target_knobs(path.target);

    knobs->reject_status = (uint16_t)path_range(1, 9);
    knobs->reject_count = (uint32_t)path_below(3);
    knobs->ignore_count = (uint32_t)path_below(2);
    knobs->never_ready = path_chance(20);
    knobs->fatal_at_enable = path_chance(20);
    knobs->ready_delay_ns = path_chance(50) ? for_ns(100) : 0;
    knobs->no_invalidate = path_chance(50);
    knobs->lone_queues = path_chance(50);
    knobs->keep_sq_flow = path_chance(30);
    path.faults_until_ns = clock_now_ns() + for_ns(1000);
    path.calm_ns = path.faults_until_ns + path.plan.calm_ns;
    target_drop_queues(path.target, TARGET_ANY, TARGET_ANY, path_chance(50));
}

/* --- connections break ---------------------------------------------------------------------- */

static void connections_break(void)
{
    path.break_ns = 0;
    int qid = path_chance(50) ? TARGET_ANY : (int)path_below(3);

    path_trace("event: target drops queues (%d), %u commands held", qid,
               target_held_count(path.target));
    target_drop_queues(path.target, TARGET_ANY, qid, path_chance(50));
    path.calm_ns = clock_now_ns() + path.plan.calm_ns;
}

static void wire_breaks(void)
{
    path.cut_until_ns = clock_now_ns() + for_ns(path_chance(50) ? 100 : 2000);
    path.calm_ns = path.cut_until_ns + path.plan.calm_ns;
    path_trace("event: the wire is cut for %llu ms",
               (unsigned long long)((path.cut_until_ns - clock_now_ns()) / NS_PER_MS));
    wire_cut(path.wire, 1, true);
}

static void power_goes(void)
{
    path.off_until_ns = clock_now_ns() + for_ns(1500);
    path.cut_until_ns = path.off_until_ns;
    path.calm_ns = path.off_until_ns + path.plan.calm_ns;
    path_trace("event: the target loses its power");
    wire_cut(path.wire, 1, true);
    target_power(path.target, false);
}

static void association_resets(void)
{
    path_trace("event: an association is reset");
    nvmf_ctrl_reset(path.ctrls[path_below(path.plan.ctrl_count)]);
    path.calm_ns = clock_now_ns() + path.plan.calm_ns;
}

static void controller_fails(void)
{
    path_trace("event: the target's controllers are in CFS");
    target_fatal(path.target, TARGET_ANY);
    target_drop_queues(path.target, TARGET_ANY, 0, false);
    path.calm_ns = clock_now_ns() + path.plan.calm_ns;
}

/* --- which, when ---------------------------------------------------------------------------- */

static void heavy(void)
{
    static void (*const all[])(void) = {writes_are_late,    writes_are_late,   target_misbehaves,
                                        target_misbehaves,  target_misbehaves, target_refuses,
                                        connections_break,  wire_breaks,       power_goes,
                                        association_resets, controller_fails};

    path.heavy_count++;
    all[path_below(ARRAY_SIZE(all))]();
}

void path_event_act(void)
{
    uint64_t what = path_below(100);

    path.event_count++;
    if (path.plan.class >= PATH_HARSH && what < 60) {
        if (clock_now_ns() >= path.calm_ns || (path.plan.class == PATH_LOST && path_chance(20))) {
            heavy();
        }
    } else if (what < 80) {
        path_io_abort();
    } else if (what < 88) {
        path_queue_recreate();
    } else if (what < 94) {
        path_ctrl_reset();
    } else {
        path_trace("event: a namespace is said to have changed");
        target_ns_resize(path.target, 0, (uint32_t)path_range(1, path.plan.volume_count),
                         PATH_BLOCKS);
    }
}

static void power_comes(void)
{
    path.off_until_ns = 0;
    path_trace("event: the target has power again");
    target_power(path.target, true);
}

static void wire_heals(void)
{
    path.cut_until_ns = 0;
    path_trace("event: the wire is whole");
    wire_cut(path.wire, 1, false);
}

static void target_behaves(void)
{
    struct target_knobs *knobs = target_knobs(path.target);

    path.faults_until_ns = 0;
    path_trace("event: the target behaves");
    target_faults_clear(path.target);
    knobs->reject_count = 0;
    knobs->ignore_count = 0;
    knobs->never_ready = false;
    knobs->fatal_at_enable = false;
}

void path_event_tend(void)
{
    uint64_t now_ns = clock_now_ns();

    if (path.off_until_ns != 0 && now_ns >= path.off_until_ns) {
        power_comes();
    }
    if (path.cut_until_ns != 0 && now_ns >= path.cut_until_ns) {
        wire_heals();
    }
    if (path.break_ns != 0 && now_ns >= path.break_ns) {
        connections_break();
    }
    if (path.faults_until_ns != 0 && now_ns >= path.faults_until_ns) {
        target_behaves();
    }
}

static uint64_t due_ns(uint64_t until_ns, uint64_t next_ns)
{
    return until_ns != 0 && until_ns < next_ns ? until_ns : next_ns;
}

uint64_t path_event_next_ns(void)
{
    return due_ns(
        path.off_until_ns,
        due_ns(path.cut_until_ns, due_ns(path.faults_until_ns, due_ns(path.break_ns, UINT64_MAX))));
}

void path_event_end(void)
{
    static const struct wire_faults none;

    path.break_ns = 0;
    if (path.off_until_ns != 0) {
        power_comes();
    }
    if (path.cut_until_ns != 0) {
        wire_heals();
    }
    target_behaves();
    wire_set_faults(path.wire, WIRE_ALL_PORTS, &none);
}
