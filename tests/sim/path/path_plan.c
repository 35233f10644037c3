/* What a seed draws. */
#include "tests/sim/path/path.h"

static const uint32_t capsules[] = {0, 4096, 4096, 8192};
static const uint16_t entries[] = {4, 16, 32, 128};
static const uint32_t waits_ms[] = {20000, 30000};

static void draw_faults(struct path_plan *plan)
{
    struct wire_faults *f = &plan->faults;

    f->delay_ns = path_range(1, 30) * NS_PER_US;
    f->jitter_ns = path_below(10) * NS_PER_US;
    if (plan->class == PATH_CLEAN) {
        return;
    }
    f->loss_ppm = path_chance(60) ? (uint32_t)path_below(8000) : 0;
    f->duplicate_ppm = path_chance(30) ? (uint32_t)path_below(20000) : 0;
    f->corrupt_ppm = path_chance(30) ? (uint32_t)path_below(3000) : 0;
    f->reorder_ppm = path_chance(30) ? (uint32_t)path_below(20000) : 0;
    f->reorder_ns = path_range(1, 100) * NS_PER_US;
}

void path_plan_draw(struct path_plan *plan)
{
    uint64_t class = path_below(100);

    plan->class = class < 10   ? PATH_CLEAN
                  : class < 35 ? PATH_LOSSY
                  : class < 85 ? PATH_HARSH
                               : PATH_LOST;
    plan->core_count = path_chance(40) ? 2 : 1;
    plan->device_count = path_chance(50) ? plan->core_count : 1;
    plan->volume_count = (uint32_t)path_range(1, PATH_VOLUMES);
    plan->ctrl_count = path_chance(60) ? 1 : (uint32_t)path_range(2, PATH_CTRLS);
    plan->queue_count = (uint32_t)path_range(1, PATH_QUEUES);
    plan->depth = (uint32_t)path_range(2, PATH_DEPTH - 1);
    plan->io_target = (uint32_t)path_range(100, 900);
    plan->lba_shift = path_chance(50) ? 9 : 12;
    plan->in_capsule_bytes = capsules[path_below(ARRAY_SIZE(capsules))];
    plan->queue_entries = entries[path_below(ARRAY_SIZE(entries))];
    plan->sq_flow_control = path_chance(40);
    plan->wait_ms = waits_ms[path_below(ARRAY_SIZE(waits_ms))];
    if (plan->class == PATH_LOST) {
        plan->wait_ms = (uint32_t)path_below(3000);
    }
    plan->stage_bytes = path_chance(50) ? 128u << 10 : 1u << 20;
    for (uint32_t i = 0; i < PATH_VOLUMES; i++) {
        plan->path[i] = path_chance(70) ? NVMF_PATH_ZERO_COPY : NVMF_PATH_TERMINATE;
    }
    plan->mtu = path_chance(50) ? 4200 : 1500;
    plan->act_ns =
        path_chance(50) ? path_range(1, 20) * NS_PER_US : path_range(20, 2000) * NS_PER_US;
    plan->event_permille = plan->class == PATH_CLEAN ? 0 : (uint32_t)path_range(2, 60);
    plan->heavy_target = plan->class >= PATH_HARSH ? (uint32_t)path_range(2, 6) : 0;
    plan->calm_ns = path_range(3, 6) * NS_PER_S;
    plan->write_percent = (uint32_t)path_range(20, 70);
    draw_faults(plan);
}
