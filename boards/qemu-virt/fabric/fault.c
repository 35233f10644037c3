/*
 * The steps that a frame passes on one direction of a port: see fabric.h for their order. Chances
 * are drawn only for faults that are switched on, in the order of the steps.
 */
#include "boards/qemu-virt/fabric/fabric.h"

#define NS_PER_US UINT64_C(1000)

void fabric_fault_clear(struct fabric_fault *fault)
{
    *fault = (struct fabric_fault){
        .only = FABRIC_ONLY_ALL, .corrupt_bits = 1, .reorder_frames = 3, .reorder_us = 10000};
}

void fabric_seed(uint64_t *rng, uint64_t seed)
{
    *rng = seed;
}

uint64_t fabric_random(uint64_t *rng)
{
    uint64_t z = *rng += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static bool chance(uint64_t *rng, uint32_t ppm)
{
    return ppm != 0 && fabric_random(rng) % FABRIC_PPM < ppm;
}

static uint64_t due_ns(const struct fabric_stage_env *env, uint32_t after_us)
{
    return env->now_ns + after_us * NS_PER_US;
}

/* Those that waited for this one, oldest first. */
static void release_held(struct fabric_stage *stage, const struct fabric_stage_env *env)
{
    struct fabric_queue waiting = stage->held;
    struct fabric_frame *frame;

    stage->held = (struct fabric_queue){.first = NULL};
    while ((frame = fabric_queue_pop(&waiting)) != NULL) {
        if (frame->left > 0 && frame->due_ns > env->now_ns) {
            fabric_queue_push(&stage->held, frame);
        } else {
            env->deliver(env->ctx, frame);
        }
    }
}

static void pass_held(struct fabric_stage *stage, const struct fabric_stage_env *env)
{
    for (struct fabric_frame *held = stage->held.first; held != NULL; held = held->next) {
        held->left--;
    }
    if (stage->held.first != NULL) {
        release_held(stage, env);
    }
}

/* The frame has come through the delay, if there is any. */
static void leave(struct fabric_stage *stage, const struct fabric_stage_env *env,
                  struct fabric_frame *frame)
{
    env->deliver(env->ctx, frame);
    pass_held(stage, env);
}

static void delay(struct fabric_stage *stage, const struct fabric_stage_env *env,
                  struct fabric_frame *frame)
{
    const struct fabric_frame *last = stage->delayed.last;

    if (stage->fault.delay_us == 0 && last == NULL) {
        leave(stage, env, frame);
        return;
    }
    /* A delay that became shorter lets nobody overtake. */
    frame->due_ns = due_ns(env, stage->fault.delay_us);
    if (last != NULL && last->due_ns > frame->due_ns) {
        frame->due_ns = last->due_ns;
    }
    stage->stats.delayed++;
    fabric_queue_push(&stage->delayed, frame);
}

static void reorder(struct fabric_stage *stage, const struct fabric_stage_env *env,
                    struct fabric_frame *frame, bool affected)
{
    if (!affected || !chance(env->rng, stage->fault.reorder_ppm)) {
        delay(stage, env, frame);
        return;
    }
    stage->stats.reordered++;
    frame->left = stage->fault.reorder_frames;
    frame->due_ns = due_ns(env, stage->fault.delay_us + stage->fault.reorder_us);
    fabric_queue_push(&stage->held, frame);
}

static bool is_lost(struct fabric_stage *stage, const struct fabric_stage_env *env)
{
    bool lost = chance(env->rng, stage->fault.loss_ppm);

    if (stage->fault.lose_next > 0) {
        stage->fault.lose_next--;
        lost = true;
    }
    stage->stats.lost += lost;
    return lost;
}

static void alter(struct fabric_stage *stage, const struct fabric_stage_env *env,
                  struct fabric_frame *frame)
{
    if (chance(env->rng, stage->fault.corrupt_ppm)) {
        fabric_flip_bits(frame->bytes, frame->len_bytes, stage->fault.corrupt_bits, env->rng);
        stage->stats.corrupted++;
    }
    if (chance(env->rng, stage->fault.ecn_ppm)) {
        stage->stats.marked += fabric_mark_ce(frame->bytes, frame->len_bytes);
    }
}

void fabric_stage_pass(struct fabric_stage *stage, const struct fabric_stage_env *env,
                       struct fabric_frame *frame)
{
    bool affected =
        stage->fault.only == FABRIC_ONLY_ALL || fabric_is_roce(frame->bytes, frame->len_bytes);
    struct fabric_frame *copy = NULL;

    if (affected) {
        if (is_lost(stage, env)) {
            fabric_frame_put(env->pool, frame);
            return;
        }
        alter(stage, env, frame);
        if (chance(env->rng, stage->fault.dup_ppm)) {
            copy = fabric_frame_copy(env->pool, frame);
            stage->stats.duplicated += copy != NULL;
        }
    }
    reorder(stage, env, frame, affected);
    if (copy != NULL) {
        reorder(stage, env, copy, affected);
    }
}

void fabric_stage_tick(struct fabric_stage *stage, const struct fabric_stage_env *env)
{
    while (stage->delayed.first != NULL && stage->delayed.first->due_ns <= env->now_ns) {
        leave(stage, env, fabric_queue_pop(&stage->delayed));
    }
    if (stage->held.first != NULL) {
        release_held(stage, env);
    }
}

uint64_t fabric_stage_due_ns(const struct fabric_stage *stage)
{
    uint64_t due = stage->delayed.first != NULL ? stage->delayed.first->due_ns : UINT64_MAX;

    for (const struct fabric_frame *held = stage->held.first; held != NULL; held = held->next) {
        due = held->due_ns < due ? held->due_ns : due;
    }
    return due;
}
