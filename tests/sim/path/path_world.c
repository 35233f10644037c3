/* The parts of the world, its clock, a run from the beginning to the end. */
#include "tests/sim/path/path.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "hal/native/native.h"
#include "nvmf_host/queue_priv.h"
#include "rdma/soft.h"

#define STEP_MAX_NS    (2 * NS_PER_MS)
#define PACE_NS        (30 * NS_PER_MS)
#define AHEAD_PERMILLE 100 /* of events, when there was I/O enough for those there were */
#define STUCK_NS       (120 * NS_PER_S)
#define KEEP_ALIVE_MS  1000
#define QUIESCE_MS     200
#define SUBNQN         "nqn.2024-01.sim:one"

struct path_world path;
/* Cores stay started (nvmf_host_core_start()). */
const uint32_t sim_runs_max = 1;

/* --- saying and drawing --------------------------------------------------------------------- */

void sim_fail(const char *format, ...)
{
    va_list args;

    printf("seed %llu: at %llu us: ", (unsigned long long)path.seed,
           (unsigned long long)(clock_now_ns() / 1000));
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    fflush(stdout);
    _exit(1);
}

void path_trace(const char *format, ...)
{
    va_list args;

    if (!path.trace) {
        return;
    }
    printf("%10llu ", (unsigned long long)(clock_now_ns() / 1000));
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
}

static uint64_t draw(void)
{
    uint64_t z = path.random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t path_below(uint64_t limit)
{
    return draw() % limit;
}

uint64_t path_range(uint64_t low, uint64_t high)
{
    return low + path_below(high - low + 1);
}

bool path_chance(uint32_t percent)
{
    return path_below(100) < percent;
}

/* --- the clock ------------------------------------------------------------------------------ */

static uint32_t turn(void)
{
    uint32_t work = 0;

    if (path.plan.core_count == 1) { /* to become another one is a system call */
        return sched_turn();
    }
    for (uint32_t core = 0; core < path.plan.core_count; core++) {
        native_cpu_become(core);
        work += sched_turn();
    }
    native_cpu_become(0);
    return work;
}

static void settle(void)
{
    for (uint32_t quiet = 0, turns = 0; quiet < 2 && turns < 2000; turns++) {
        quiet = turn() == 0 ? quiet + 1 : 0;
    }
    path_host_poll();
}

/* Changes of the associations, for the trace. */
static void watch(void)
{
    static enum nvmf_ctrl_state states[PATH_CTRLS];
    struct nvmf_ctrl_info info;

    for (uint32_t i = 0; path.trace && i < path.plan.ctrl_count; i++) {
        if (path.ctrls[i] == NULL) {
            continue;
        }
        nvmf_ctrl_info(path.ctrls[i], &info);
        if (info.state != states[i]) {
            path_trace("association %u: %s (last: %s, %x)", i, nvmf_ctrl_state_name(info.state),
                       nvmf_fail_text(info.fail), info.fail_code);
            states[i] = info.state;
        }
    }
}

void path_step(void)
{
    settle();
    watch();
    path_event_tend();
    uint64_t now_ns = clock_now_ns();
    uint64_t next_ns = now_ns + STEP_MAX_NS;
    next_ns = min_u64(next_ns, wire_next_ns(path.wire));
    next_ns = min_u64(next_ns, target_next_ns(path.target));
    next_ns = min_u64(next_ns, path_event_next_ns());
    if (!path.is_ending && path.next_act_ns > now_ns) {
        next_ns = min_u64(next_ns, path.next_act_ns);
    }
    native_clock_set(max_u64(next_ns, now_ns + 500));
    settle();
}

bool path_wait(bool (*is_done)(void), uint64_t limit_ns)
{
    uint64_t end_ns = clock_now_ns() + limit_ns;

    while (!is_done()) {
        if (clock_now_ns() >= end_ns) {
            return false;
        }
        path_step();
    }
    return true;
}

/* --- the parts ------------------------------------------------------------------------------ */

static void host_open(void)
{
    struct rig_config config = {.core_count = path.plan.core_count};
    struct pcie_ep_window windows[2];

    rig_start(&config);
    path.arena = model_memory(PATH_PAGES * 4096);
    windows[0] = rig.windows[0];
    windows[1] = (struct pcie_ep_window){.host_addr = PATH_ARENA_BASE,
                                         .len_bytes = PATH_PAGES * 4096,
                                         .bus_addr = (uintptr_t)path.arena,
                                         .readable = true,
                                         .writable = true};
    rig_windows_set(windows, 2, false);
    path_host_start();
    path_model_start();
}

static struct target_ns_config ns_configs[PATH_VOLUMES];
static struct target_subsystem_config subsystem = {.nqn = SUBNQN, .namespaces = ns_configs};

static void target_start(void)
{
    for (uint32_t i = 0; i < PATH_VOLUMES; i++) {
        ns_configs[i] = (struct target_ns_config){.nsid = i + 1,
                                                  .lba_count = PATH_BLOCKS,
                                                  .lba_shift = path.plan.lba_shift,
                                                  .uuid = {(uint8_t)(i + 1), 1}};
    }
    subsystem.ns_count = path.plan.volume_count;
    struct target_config config = {.device = path.nodes[1].device,
                                   .addr = path.nodes[1].addr,
                                   .subsystems = &subsystem,
                                   .subsystem_count = 1,
                                   .ctrl_count = 8,
                                   .queue_count = 40,
                                   .in_capsule_bytes = path.plan.in_capsule_bytes,
                                   .queue_entries = path.plan.queue_entries,
                                   .buf_count = 48};
    path.target_memory = model_memory(target_memory_bytes(&config));
    path.target = target_open(path.target_memory, &config);
    target_seed(path.target, path.seed);
}

static void nic_start(void)
{
    for (uint32_t core = 0; core < path.plan.device_count; core++) {
        struct model_node *node = &path.nodes[core == 0 ? 0 : 2];
        native_cpu_become(core);
        model_node_open(node, path.wire, core == 0 ? 0 : 2, (uint32_t)path.seed, NULL);
        struct nvmf_host_core_config config = {
            .device = node->device, .command_count = 256, .stage_bytes = path.plan.stage_bytes};
        path.core_memory[core] = model_memory(nvmf_host_core_memory_bytes(&config));
        PATH_CHECK(nvmf_host_core_start(path.core_memory[core], &config) == STATUS_OK,
                   "nvmf_host_core_start");
    }
    native_cpu_become(0);
    path.vol_memory = model_memory(vol_memory_bytes(path.plan.core_count));
    vol_init(path.vol_memory, path.plan.core_count);
}

static void associations_start(void)
{
    for (uint32_t i = 0; i < path.plan.ctrl_count; i++) {
        struct nvmf_ctrl_config config = {.name = "one",
                                          .fn = 1,
                                          .addr = path.nodes[1].addr,
                                          .subnqn = SUBNQN,
                                          .hostnqn = "nqn.2024-01.sim:host",
                                          .hostid = {7},
                                          .queue_entries = path.plan.queue_entries,
                                          .keep_alive_ms = KEEP_ALIVE_MS,
                                          .connect_timeout_ms = 700,
                                          .command_timeout_ms = 500,
                                          .backoff_low_ms = 50,
                                          .backoff_high_ms = 400,
                                          .quiesce_ms = QUIESCE_MS,
                                          .sq_flow_control = path.plan.sq_flow_control,
                                          .no_in_capsule = path_chance(10)};
        path.ctrl_memory[i] = model_memory(nvmf_ctrl_memory_bytes(&config));
        PATH_CHECK(nvmf_ctrl_create(path.ctrl_memory[i], &config, &path.ctrls[i]) == STATUS_OK,
                   "nvmf_ctrl_create");
    }
}

static bool ns_is_usable(const struct blk_dev *dev)
{
    return nvmf_ns_is_usable((const struct nvmf_ns *)(const void *)dev);
}

static void volumes_start(void)
{
    for (uint32_t i = 0; i < path.plan.volume_count; i++) {
        struct path_volume *volume = &path.volumes[i];
        struct vol_config config = {
            .name = "volume", .path_count = path.plan.ctrl_count, .wait_ms = path.plan.wait_ms};
        struct nvmf_ns_id id = {.uuid = {(uint8_t)(i + 1), 1}};
        for (uint32_t c = 0; c < path.plan.ctrl_count; c++) {
            nvmf_ns_open(&volume->ns[c], path.ctrls[c], &id, (enum nvmf_path)path.plan.path[i],
                         "remote");
            config.paths[c] =
                (struct vol_path_config){.dev = &volume->ns[c].dev, .is_usable = ns_is_usable};
        }
        volume->memory = model_memory(vol_bytes());
        PATH_CHECK(vol_create(volume->memory, &config, &volume->vol) == STATUS_OK, "vol_create");
        PATH_CHECK(nvme_ns_attach(rig.ctrl, PATH_FIRST_NSID + i, vol_blk(volume->vol)) == STATUS_OK,
                   "nvme_ns_attach");
    }
}

static bool volumes_are_ready(void)
{
    for (uint32_t i = 0; i < path.plan.volume_count; i++) {
        if (!vol_blk(path.volumes[i].vol)->geometry.known) {
            return false;
        }
    }
    return true;
}

static void start(uint64_t seed, bool trace)
{
    struct wire_config wire = {.port_count = PATH_NODES};

    memset(&path, 0, sizeof(path));
    path.seed = seed;
    path.random = seed * 2654435761u + 1;
    path.trace = trace;
    path_plan_draw(&path.plan);
    host_open(); /* sched_init() too, and the clock */
    wire.seed = seed;
    wire.mtu_bytes = path.plan.mtu;
    path.wire = wire_open(&wire);
    model_node_open(&path.nodes[1], path.wire, 1, (uint32_t)seed, NULL);
    target_start();
    nic_start();
    associations_start();
    volumes_start();
    wire_set_faults(path.wire, WIRE_ALL_PORTS, &path.plan.faults);
    path.next_act_ns = UINT64_MAX;
    PATH_CHECK(path_wait(volumes_are_ready, 60 * NS_PER_S), "the volumes never came");
    path_ctrl_enable();
}

/* --- the end -------------------------------------------------------------------------------- */

static bool nothing_is_live(void)
{
    return path.live_count == 0;
}

static void closed(void *arg)
{
    (void)arg;
    path.closed_count++;
}

static bool all_are_closed(void)
{
    return path.closed_count == path.plan.ctrl_count;
}

static bool target_is_gone(void)
{
    return target_is_quiet(path.target);
}

static bool never(void)
{
    return false;
}

static void associations_end(void)
{
    for (uint32_t i = 0; i < path.plan.volume_count; i++) {
        vol_destroy(path.volumes[i].vol);
        for (uint32_t c = 0; c < path.plan.ctrl_count; c++) {
            nvmf_ns_close(&path.volumes[i].ns[c]);
        }
    }
    for (uint32_t i = 0; i < path.plan.ctrl_count; i++) {
        struct nvmf_ctrl_info info;
        nvmf_ctrl_info(path.ctrls[i], &info);
        PATH_CHECK(info.in_flight <= 8, "association %u: %u commands under way at the end", i,
                   info.in_flight);
        nvmf_ctrl_close(path.ctrls[i], closed, NULL);
    }
    PATH_CHECK(path_wait(all_are_closed, 30 * NS_PER_S), "an association was never closed");
}

static void pools_check(void)
{
    PATH_CHECK(rig_pools_are_full(), "the endpoint has lost commands");
    for (uint32_t core = 0; core < path.plan.device_count; core++) {
        struct nvmf_core *host = nvmf_core_find(core);
        PATH_CHECK(host->free_slot_count == host->slot_count, "slots of nvmf_host are lost");
        PATH_CHECK(host->stage.free_count == host->stage.page_count, "stage pages are lost");
        PATH_CHECK(rdma_cq_destroy(host->cq) == STATUS_OK, "a queue pair is left");
    }
    for (uint32_t i = 0; i < PATH_NODES; i++) {
        if (path.nodes[i].device != NULL) {
            PATH_CHECK(rdma_soft_is_quiet(path.nodes[i].device), "node %u: objects are lost", i);
            PATH_CHECK(net_if_is_quiet(path.nodes[i].nif), "node %u: frames are lost", i);
        }
    }
}

static void stop(void)
{
    path.is_ending = true;
    path_event_end();
    PATH_CHECK(path_wait(nothing_is_live, STUCK_NS), "%u commands never ended", path.live_count);
    path_trace("all commands have ended");
    path_ctrl_reset(); /* and once more without load */
    rig_event(PCIE_EP_EVENT_RESET, 0, true);
    path_wait(never, 2 * NS_PER_S); /* what is held is executed */
    path_media_check();
    path_sums_add();
    associations_end();
    target_close(path.target);
    PATH_CHECK(path_wait(target_is_gone, 30 * NS_PER_S), "the target never fell quiet");
    path_wait(never, 60 * NS_PER_S); /* time wait */
    target_free(path.target);
    pools_check();
    PATH_CHECK(target_stats(path.target)->violations == 0, "the target says: %s",
               target_violation(path.target));
}

static void give_back(void)
{
    for (uint32_t i = 0; i < PATH_NODES; i++) {
        if (path.nodes[i].device != NULL) {
            model_node_close(&path.nodes[i]);
        }
    }
    for (uint32_t i = 0; i < PATH_CTRLS; i++) {
        free(path.ctrl_memory[i]);
    }
    for (uint32_t i = 0; i < PATH_VOLUMES; i++) {
        free(path.volumes[i].memory);
    }
    for (uint32_t i = 0; i < LIMIT_CORES; i++) {
        free(path.core_memory[i]);
    }
    free(path.vol_memory);
    free(path.target_memory);
    free(path.arena);
    wire_close(path.wire);
}

/* --- a run ---------------------------------------------------------------------------------- */

static void act(void)
{
    /* not before what breaks connections has had its time */
    bool is_ahead = (uint64_t)path.io_count * path.plan.heavy_target >
                    (uint64_t)(path.heavy_count + 1) * path.plan.io_target;
    bool is_soon = path.break_ns != 0; /* something has to be under way then */
    uint64_t mean_ns = is_ahead && !is_soon ? PACE_NS : path.plan.act_ns;
    uint32_t permille = is_ahead ? AHEAD_PERMILLE : path.plan.event_permille;

    path.next_act_ns = clock_now_ns() + path_below(2 * mean_ns) + 1;
    if (path_below(1000) < permille) {
        path_event_act();
    } else {
        uint64_t count = path_range(1, 4);
        while (count-- > 0 && path_io_begin()) {
        }
    }
}

void sim_run(uint64_t seed, bool trace)
{
    start(seed, trace);
    path.next_act_ns = clock_now_ns();
    path.progress_ns = clock_now_ns();
    while (path.io_count < path.plan.io_target || path.heavy_count < path.plan.heavy_target) {
        if (clock_now_ns() >= path.next_act_ns) {
            act();
        }
        path_step();
        PATH_CHECK(clock_now_ns() - path.progress_ns < STUCK_NS || path.live_count == 0,
                   "no command has ended for %llu s", (unsigned long long)(STUCK_NS / NS_PER_S));
    }
    stop();
    path_trace("%llu succeeded, %llu failed, %llu aborts, %llu resets, %llu queues deleted, %llu "
               "events, %llu executed late, %llu connects",
               (unsigned long long)path.ok_count, (unsigned long long)path.error_count,
               (unsigned long long)path.abort_count, (unsigned long long)path.reset_count,
               (unsigned long long)path.delete_count, (unsigned long long)path.event_count,
               (unsigned long long)target_stats(path.target)->late,
               (unsigned long long)target_stats(path.target)->connects);
    give_back();
}
