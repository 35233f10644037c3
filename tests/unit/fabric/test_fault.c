/*
 * The steps of a stage, one by one and together: how often, in which order, the same by the same
 * seed; no buffer is lost on any way.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "boards/qemu-virt/fabric/fabric.h"

#define FRAMES    1000u
#define FRAME_LEN 60u
#define US        UINT64_C(1000)

struct rig {
    struct fabric_pool pool;
    struct fabric_stage stage;
    struct fabric_stage_env env;
    uint64_t rng;
    uint32_t seen[4 * FRAMES]; /* numbers of the frames as they came out */
    uint32_t seen_count;
    uint64_t digest; /* of all bytes that came out, in their order */
    uint32_t changed_count;
};

static struct rig rig;

static uint32_t number_of(const struct fabric_frame *frame)
{
    uint32_t number;

    memcpy(&number, frame->bytes + 32, sizeof(number));
    return number;
}

static void on_deliver(void *ctx, struct fabric_frame *frame)
{
    struct rig *r = ctx;

    assert_true(r->seen_count < 4 * FRAMES);
    r->seen[r->seen_count++] = number_of(frame);
    for (uint32_t i = 0; i < frame->len_bytes; i++) {
        r->digest = (r->digest ^ frame->bytes[i]) * UINT64_C(0x100000001b3);
        r->changed_count += i < 32 && frame->bytes[i] != 0;
    }
    fabric_frame_put(&r->pool, frame);
}

static void start(uint64_t seed)
{
    memset(&rig.stage, 0, sizeof(rig.stage));
    fabric_pool_init(&rig.pool);
    fabric_fault_clear(&rig.stage.fault);
    fabric_seed(&rig.rng, seed);
    rig.env = (struct fabric_stage_env){
        .pool = &rig.pool, .rng = &rig.rng, .now_ns = 1000, .deliver = on_deliver, .ctx = &rig};
    rig.seen_count = rig.changed_count = 0;
    rig.digest = 1;
}

static void send(uint32_t number)
{
    struct fabric_frame *frame = fabric_frame_get(&rig.pool);

    assert_non_null(frame);
    memset(frame->bytes, 0, FRAME_LEN);
    memcpy(frame->bytes + 32, &number, sizeof(number));
    frame->len_bytes = FRAME_LEN;
    fabric_stage_pass(&rig.stage, &rig.env, frame);
}

static void send_all(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        send(i);
    }
}

static void pass_time(uint64_t ns)
{
    rig.env.now_ns += ns;
    fabric_stage_tick(&rig.stage, &rig.env);
}

/* Lets all that waits go, and looks that no buffer is missing. */
static void finish(void)
{
    pass_time((uint64_t)FABRIC_DELAY_MAX_US * 2 * US);
    assert_true(fabric_stage_due_ns(&rig.stage) == UINT64_MAX);
    assert_int_equal(rig.pool.free.count, FABRIC_FRAMES);
}

static void stage_without_faults_passes_all_in_order(void **state)
{
    (void)state;
    start(1);
    send_all(FRAMES);
    assert_int_equal(rig.seen_count, FRAMES);
    for (uint32_t i = 0; i < FRAMES; i++) {
        assert_int_equal(rig.seen[i], i);
    }
    assert_true(rig.rng == 1); /* nothing was drawn */
    finish();
}

static void stage_loss_loses_about_its_share(void **state)
{
    (void)state;
    start(1);
    rig.stage.fault.loss_ppm = 100000;
    send_all(FRAMES);
    finish();
    assert_in_range(rig.stage.stats.lost, 60, 140);
    assert_int_equal(rig.seen_count + rig.stage.stats.lost, FRAMES);
    start(1);
    rig.stage.fault.loss_ppm = FABRIC_PPM;
    send_all(FRAMES);
    finish();
    assert_int_equal(rig.seen_count, 0);
}

static void stage_lose_next_loses_just_these(void **state)
{
    (void)state;
    start(1);
    send(0);
    rig.stage.fault.lose_next = 2;
    send(1);
    send(2);
    send(3);
    finish();
    assert_int_equal(rig.seen_count, 2);
    assert_int_equal(rig.seen[1], 3);
    assert_int_equal(rig.stage.stats.lost, 2);
}

static void stage_duplication_delivers_twice(void **state)
{
    (void)state;
    start(1);
    rig.stage.fault.dup_ppm = FABRIC_PPM;
    send_all(10);
    finish();
    assert_int_equal(rig.seen_count, 20);
    for (uint32_t i = 0; i < 20; i++) {
        assert_int_equal(rig.seen[i], i / 2);
    }
    assert_int_equal(rig.stage.stats.duplicated, 10);
}

static void stage_duplication_without_buffers_delivers_once(void **state)
{
    (void)state;
    struct fabric_queue taken = {.first = NULL};

    start(1);
    rig.stage.fault.dup_ppm = FABRIC_PPM;
    while (rig.pool.free.count > 1) {
        fabric_queue_push(&taken, fabric_frame_get(&rig.pool));
    }
    send(0);
    assert_int_equal(rig.seen_count, 1);
    assert_int_equal(rig.stage.stats.duplicated, 0);
    while (taken.first != NULL) {
        fabric_frame_put(&rig.pool, fabric_queue_pop(&taken));
    }
    finish();
}

static void stage_corruption_changes_frames(void **state)
{
    (void)state;
    start(1);
    rig.stage.fault.corrupt_ppm = FABRIC_PPM;
    rig.stage.fault.corrupt_bits = 60; /* one in each byte */
    send_all(10);
    finish();
    assert_int_equal(rig.seen_count, 10);
    assert_int_equal(rig.changed_count, 320);
    assert_int_equal(rig.stage.stats.corrupted, 10);
}

static void stage_reorder_lets_as_many_pass_as_told(void **state)
{
    (void)state;
    start(1);
    rig.stage.fault.reorder_frames = 3;
    rig.stage.fault.reorder_ppm = FABRIC_PPM;
    send(0);
    rig.stage.fault.reorder_ppm = 0;
    send(1);
    send(2);
    assert_int_equal(rig.seen_count, 2);
    send(3);
    send(4);
    const uint32_t want[] = {1, 2, 3, 0, 4};
    assert_int_equal(rig.seen_count, 5);
    assert_memory_equal(rig.seen, want, sizeof(want));
    finish();
}

static void stage_reorder_without_later_frames_ends_by_time(void **state)
{
    (void)state;
    start(1);
    rig.stage.fault.reorder_us = 500;
    rig.stage.fault.reorder_ppm = FABRIC_PPM;
    send(0);
    assert_true(fabric_stage_due_ns(&rig.stage) == rig.env.now_ns + 500 * US);
    pass_time(500 * US - 1);
    assert_int_equal(rig.seen_count, 0);
    pass_time(1);
    assert_int_equal(rig.seen_count, 1);
    finish();
}

static void stage_delay_keeps_order_when_it_becomes_shorter(void **state)
{
    (void)state;
    start(1);
    rig.stage.fault.delay_us = 100;
    send(0);
    pass_time(10 * US);
    rig.stage.fault.delay_us = 5;
    send(1);
    rig.stage.fault.delay_us = 0;
    send(2);
    pass_time(90 * US - 1);
    assert_int_equal(rig.seen_count, 0);
    pass_time(1);
    const uint32_t want[] = {0, 1, 2};
    assert_int_equal(rig.seen_count, 3);
    assert_memory_equal(rig.seen, want, sizeof(want));
    send(3); /* nothing waits: at once */
    assert_int_equal(rig.seen_count, 4);
    finish();
}

static void stage_only_roce_leaves_others_alone(void **state)
{
    (void)state;
    start(1);
    rig.stage.fault.only = FABRIC_ONLY_ROCE;
    rig.stage.fault.loss_ppm = FABRIC_PPM;
    send_all(10);
    finish();
    assert_int_equal(rig.seen_count, 10);
    assert_true(rig.rng == 1);
}

static void run_all_faults(uint64_t seed)
{
    start(seed);
    rig.stage.fault = (struct fabric_fault){.loss_ppm = 50000,
                                            .corrupt_ppm = 50000,
                                            .corrupt_bits = 3,
                                            .ecn_ppm = 50000,
                                            .dup_ppm = 50000,
                                            .reorder_ppm = 50000,
                                            .reorder_frames = 4,
                                            .reorder_us = 1000,
                                            .delay_us = 7};
    for (uint32_t i = 0; i < FRAMES; i++) {
        send(i);
        pass_time(3 * US);
    }
    finish();
}

static void stage_same_seed_same_faults_other_seed_others(void **state)
{
    (void)state;
    run_all_faults(42);
    uint64_t first = rig.digest;
    struct fabric_fault_stats stats = rig.stage.stats;

    assert_true(stats.lost > 0 && stats.corrupted > 0 && stats.duplicated > 0);
    assert_true(stats.reordered > 0 && stats.delayed > 0);
    assert_int_equal(rig.seen_count, FRAMES - stats.lost + stats.duplicated);
    run_all_faults(42);
    assert_true(rig.digest == first);
    assert_memory_equal(&rig.stage.stats, &stats, sizeof(stats));
    run_all_faults(43);
    assert_false(rig.digest == first);
}

static void each_fault_alone_repeats_by_its_seed(void **state)
{
    (void)state;
    static const size_t chances[] = {
        offsetof(struct fabric_fault, loss_ppm), offsetof(struct fabric_fault, corrupt_ppm),
        offsetof(struct fabric_fault, dup_ppm), offsetof(struct fabric_fault, reorder_ppm)};
    const uint32_t ppm = 100000;

    for (uint32_t i = 0; i < ARRAY_SIZE(chances); i++) {
        uint64_t digests[3];
        for (uint32_t run = 0; run < 3; run++) {
            start(run == 2 ? 6 : 5);
            memcpy((uint8_t *)&rig.stage.fault + chances[i], &ppm, sizeof(ppm));
            send_all(FRAMES);
            finish();
            digests[run] = rig.digest;
        }
        assert_true(digests[0] == digests[1]);
        assert_false(digests[0] == digests[2]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stage_without_faults_passes_all_in_order),
        cmocka_unit_test(stage_loss_loses_about_its_share),
        cmocka_unit_test(stage_lose_next_loses_just_these),
        cmocka_unit_test(stage_duplication_delivers_twice),
        cmocka_unit_test(stage_duplication_without_buffers_delivers_once),
        cmocka_unit_test(stage_corruption_changes_frames),
        cmocka_unit_test(stage_reorder_lets_as_many_pass_as_told),
        cmocka_unit_test(stage_reorder_without_later_frames_ends_by_time),
        cmocka_unit_test(stage_delay_keeps_order_when_it_becomes_shorter),
        cmocka_unit_test(stage_only_roce_leaves_others_alone),
        cmocka_unit_test(stage_same_seed_same_faults_other_seed_others),
        cmocka_unit_test(each_fault_alone_repeats_by_its_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
