/*
 * Two ports of the native board at the ends of one wire, and a bare socket in the place of one.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/bits.h"
#include "base/counter.h"
#include "hal/clock.h"
#include "hal/cpu.h"
#include "hal/native/eth_dgram.h"
#include "hal/native/native.h"

#define MTU     4200u
#define CORE    1u
#define BATCH   64u
#define SLOTS   ETH_DGRAM_TX_COUNT
#define A_SHORT (20 * NS_PER_MS)

static struct {
    char folder[64];
    char path_a[96];
    char path_b[96];
    struct eth_dgram a;
    struct eth_dgram b;
    bool has_a;
    bool has_b;
    uint8_t memory[SLOTS + 1][ETH_TX_HEADROOM_BYTES + MTU + 18];
} rig;

static struct eth_port *a = &rig.a.port;
static struct eth_port *b = &rig.b.port;

static int open_end(struct eth_dgram *eth, const char *path, const char *peer)
{
    const struct eth_dgram_params params = {
        .name = "eth0", .path = path, .peer = peer, .addr = {2, 0, 0, 0, 0, 1}, .mtu_bytes = MTU};
    return eth_dgram_open(eth, &params);
}

static void open_a(void)
{
    assert_int_equal(open_end(&rig.a, rig.path_a, rig.path_b), 0);
    rig.has_a = true;
}

static void open_b(void)
{
    assert_int_equal(open_end(&rig.b, rig.path_b, rig.path_a), 0);
    rig.has_b = true;
}

static void close_b(void)
{
    eth_dgram_close(&rig.b);
    rig.has_b = false;
}

static int setup(void **state)
{
    (void)state;
    rig.has_a = rig.has_b = false;
    snprintf(rig.folder, sizeof(rig.folder), "/tmp/snic-eth-XXXXXX");
    assert_non_null(mkdtemp(rig.folder));
    snprintf(rig.path_a, sizeof(rig.path_a), "%s/a", rig.folder);
    snprintf(rig.path_b, sizeof(rig.path_b), "%s/b", rig.folder);
    native_cpu_become(CORE);
    return 0;
}

/* Every frame was reaped and nothing was left lying about. */
static int teardown(void **state)
{
    (void)state;
    if (rig.has_a) {
        assert_int_equal(a->tx_room_count, SLOTS);
        eth_dgram_close(&rig.a);
    }
    if (rig.has_b) {
        assert_int_equal(b->tx_room_count, SLOTS);
        eth_dgram_close(&rig.b);
    }
    native_clock_use_real();
    assert_int_equal(rmdir(rig.folder), 0);
    return 0;
}

/* --- helpers ------------------------------------------------------------------------------------
 */

static uint8_t *data_of(uint32_t index)
{
    return rig.memory[index] + ETH_TX_HEADROOM_BYTES;
}

static enum status send_frame(struct eth_port *port, uint32_t index, uint32_t len_bytes,
                              uint32_t seg_count)
{
    struct mem_seg segs[ETH_TX_SEGS] = {0};
    uint8_t *at = data_of(index);
    uint32_t left_bytes = len_bytes;

    for (uint32_t i = 0; i < len_bytes; i++) {
        at[i] = (uint8_t)(index * 31 + i);
    }
    for (uint32_t i = 0; i < seg_count; i++) {
        uint32_t piece_bytes = i + 1 == seg_count ? left_bytes : i == 0 ? 14 : 3;
        segs[i] = (struct mem_seg){.bus_addr = (uintptr_t)at, .len_bytes = piece_bytes};
        at += piece_bytes;
        left_bytes -= piece_bytes;
    }
    const struct eth_tx frame = {segs, seg_count, len_bytes, data_of(index)};
    return eth_tx(port, &frame);
}

static void expect_frame(const struct eth_rx *frame, uint32_t index, uint32_t len_bytes)
{
    assert_int_equal(frame->len_bytes, len_bytes);
    assert_memory_equal(frame->data, data_of(index), len_bytes);
    assert_int_equal(((uintptr_t)frame->data + 14) % 4, 0);
    assert_int_equal(((uintptr_t)frame->data + 14 + 40) % 16, 0);
}

static void expect_reaped(struct eth_port *port, uint32_t first, uint32_t count)
{
    void *cookies[SLOTS];

    assert_int_equal(eth_tx_reap(port, cookies, SLOTS), count);
    for (uint32_t i = 0; i < count; i++) {
        assert_ptr_equal(cookies[i], data_of(first + i));
    }
}

static uint32_t at_least(uint32_t value, uint32_t least)
{
    return value < least ? least : value;
}

static uint64_t lost(const struct eth_port *port)
{
    return counter_get(&port->stats.tx_drop_count);
}

/* --- frames -------------------------------------------------------------------------------------
 */

static void frames_of_all_shapes_go_both_ways(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {14, 60, 1514, MTU + 14, MTU + 18};
    struct eth_rx frames[BATCH];

    open_a();
    open_b();
    for (uint32_t segs = 1; segs <= ETH_TX_SEGS; segs++) {
        for (uint32_t way = 0; way < 2; way++) {
            struct eth_port *from = way == 0 ? a : b;
            struct eth_port *to = way == 0 ? b : a;
            for (uint32_t i = 0; i < ARRAY_SIZE(lengths); i++) {
                assert_int_equal(send_frame(from, i, at_least(lengths[i], 14 + 4 * segs), segs),
                                 STATUS_OK);
            }
            assert_int_equal(eth_rx(to, frames, BATCH), 0); /* not before the flush */
            eth_rx_done(to, 0);
            expect_reaped(from, 0, 0);
            eth_tx_flush(from);
            expect_reaped(from, 0, ARRAY_SIZE(lengths));
            assert_int_equal(eth_rx(to, frames, BATCH), ARRAY_SIZE(lengths));
            for (uint32_t i = 0; i < ARRAY_SIZE(lengths); i++) {
                expect_frame(&frames[i], i, at_least(lengths[i], 14 + 4 * segs));
            }
            eth_rx_done(to, ARRAY_SIZE(lengths));
        }
    }
    assert_int_equal(counter_get(&a->stats.tx_count), 8 * ARRAY_SIZE(lengths));
    assert_int_equal(counter_get(&a->stats.tx_bytes), counter_get(&b->stats.rx_bytes));
    assert_int_equal(counter_get(&a->stats.tx_count), counter_get(&b->stats.rx_count));
    assert_int_equal(counter_get(&a->stats.tx_kick_count), 8); /* a batch is one system call */
}

static void tx_wrong_frames_invalid_and_without_effect(void **state)
{
    (void)state;
    struct mem_seg segs[2] = {{.bus_addr = (uintptr_t)data_of(0), .len_bytes = 30},
                              {.bus_addr = (uintptr_t)data_of(1), .len_bytes = 30}};
    const struct eth_tx bad[] = {
        {segs, 0, 60, &rig}, {segs, 9, 60, &rig}, {segs, 2, 59, &rig},       {segs, 2, 61, &rig},
        {segs, 1, 13, &rig}, {segs, 2, 60, NULL}, {segs, 2, MTU + 19, &rig},
    };
    open_a();
    for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(eth_tx(a, &bad[i]), STATUS_INVALID);
    }
    segs[1].len_bytes = 0;
    const struct eth_tx with_empty_seg = {segs, 2, 30, &rig};
    assert_int_equal(eth_tx(a, &with_empty_seg), STATUS_INVALID);
    segs[0].len_bytes = 13;
    segs[1].len_bytes = 47;
    const struct eth_tx with_short_seg = {segs, 2, 60, &rig};
    assert_int_equal(eth_tx(a, &with_short_seg), STATUS_INVALID);
    eth_tx_flush(a);
    assert_int_equal(counter_get(&a->stats.tx_kick_count), 0);
}

/* As on a wire: the other end may come, go, and come again. */
static void tx_without_peer_is_lost_until_one_comes(void **state)
{
    (void)state;
    struct eth_rx frames[BATCH];

    open_a();
    for (uint32_t round = 0; round < 2; round++) { /* 0: never there, 1: gone */
        for (uint32_t i = 0; i < 3; i++) {
            assert_int_equal(send_frame(a, i, 60, 2), STATUS_OK);
        }
        eth_tx_flush(a);
        expect_reaped(a, 0, 3);
        assert_int_equal(lost(a), 3 * (round + 1));
        open_b();
        assert_int_equal(send_frame(a, 7, 60, 2), STATUS_OK);
        eth_tx_flush(a);
        expect_reaped(a, 7, 1);
        assert_int_equal(eth_rx(b, frames, BATCH), 1);
        expect_frame(&frames[0], 7, 60);
        eth_rx_done(b, 1);
        close_b();
    }
    assert_true(a->link_up);
}

/* A socket file without a process behind it. */
static void tx_to_a_dead_peer_is_lost(void **state)
{
    (void)state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int other = socket(AF_UNIX, SOCK_DGRAM, 0);

    memcpy(address.sun_path, rig.path_b, strlen(rig.path_b));
    assert_int_equal(bind(other, (struct sockaddr *)&address, sizeof(address)), 0);
    close(other);
    open_a();
    assert_int_equal(send_frame(a, 0, 60, 1), STATUS_OK);
    eth_tx_flush(a);
    expect_reaped(a, 0, 1);
    assert_int_equal(lost(a), 1);
    open_b(); /* removes what the dead one left */
}

/* The kernel keeps a few datagrams for one who does not read: the others wait here, in order. */
static void tx_to_a_busy_peer_waits_in_order(void **state)
{
    (void)state;
    struct eth_rx frames[BATCH];
    uint32_t received = 0;

    native_clock_set(NS_PER_S);
    open_a();
    open_b();
    for (uint32_t i = 0; i < SLOTS; i++) {
        assert_int_equal(a->tx_room_count, SLOTS - i);
        assert_int_equal(send_frame(a, i, 100 + i, 3), STATUS_OK);
    }
    assert_int_equal(a->tx_room_count, 0);
    assert_int_equal(send_frame(a, SLOTS, 60, 1), STATUS_AGAIN);
    assert_int_equal(counter_get(&a->stats.tx_full_count), 1);
    eth_tx_flush(a);
    assert_true(counter_get(&a->stats.tx_count) < SLOTS);
    assert_true(eth_arm(a, true)); /* somebody must try again */
    assert_false(eth_arm(a, false));
    for (uint32_t turn = 0; turn < 2 * SLOTS && received < SLOTS; turn++) {
        void *cookies[SLOTS];
        uint32_t count = eth_rx(b, frames, 5);
        for (uint32_t i = 0; i < count; i++, received++) {
            expect_frame(&frames[i], received, 100 + received);
        }
        eth_rx_done(b, count);
        (void)eth_tx_reap(a, cookies, SLOTS); /* sends what waits */
    }
    assert_int_equal(received, SLOTS);
    assert_int_equal(lost(a), 0);
}

static void tx_to_a_stuck_peer_is_lost_in_time(void **state)
{
    (void)state;
    struct eth_rx frames[BATCH];
    void *cookies[SLOTS];

    native_clock_set(NS_PER_S);
    open_a();
    open_b();
    for (uint32_t i = 0; i < SLOTS; i++) {
        assert_int_equal(send_frame(a, i, 60, 1), STATUS_OK);
    }
    eth_tx_flush(a);
    uint32_t fit = eth_tx_reap(a, cookies, SLOTS);
    native_clock_advance(ETH_DGRAM_WAIT_NS - 1);
    assert_int_equal(eth_tx_reap(a, cookies, SLOTS), 0);
    native_clock_advance(1);
    assert_int_equal(eth_tx_reap(a, cookies, SLOTS), SLOTS - fit);
    assert_int_equal(lost(a), SLOTS - fit);
    assert_int_equal(eth_rx(b, frames, BATCH), fit);
    eth_rx_done(b, fit);
    assert_int_equal(send_frame(a, 0, 60, 1), STATUS_OK); /* and then it goes on */
    eth_tx_flush(a);
    expect_reaped(a, 0, 1);
    assert_int_equal(eth_rx(b, frames, BATCH), 1);
    eth_rx_done(b, 1);
}

static void rx_runts_and_giants_are_dropped(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {0, 13, MTU + 19, 9216, 40000};
    static uint8_t bytes[40000];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct eth_rx frames[BATCH];
    int other = socket(AF_UNIX, SOCK_DGRAM, 0); /* without a name, as the switch sends */

    memcpy(address.sun_path, rig.path_a, strlen(rig.path_a));
    open_a();
    for (uint32_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        assert_int_equal(
            sendto(other, bytes, lengths[i], 0, (struct sockaddr *)&address, sizeof(address)),
            lengths[i]);
        assert_int_equal(sendto(other, bytes, 14, 0, (struct sockaddr *)&address, sizeof(address)),
                         14);
        assert_int_equal(eth_rx(a, frames, BATCH), 1);
        assert_int_equal(frames[0].len_bytes, 14);
        eth_rx_done(a, 1);
        assert_int_equal(counter_get(&a->stats.rx_error_count), i + 1);
    }
    close(other);
}

static void open_bad_parameters_are_refused(void **state)
{
    (void)state;
    char path[200];

    memset(path, 'x', sizeof(path));
    path[101] = '\0'; /* fits alone, but not with ".switch" */
    assert_int_equal(open_end(&rig.a, path, NULL), ENAMETOOLONG);
    path[101] = 'x';
    path[150] = '\0';
    assert_int_equal(open_end(&rig.a, path, "b"), ENAMETOOLONG);
    snprintf(path, sizeof(path), "%s/none/a", rig.folder);
    assert_int_equal(open_end(&rig.a, path, NULL), ENOENT);
    struct eth_dgram_params params = {.name = "eth0", .path = rig.path_a, .mtu_bytes = 67};
    assert_int_equal(eth_dgram_open(&rig.a, &params), EINVAL);
    params.mtu_bytes = ETH_DGRAM_MTU_MAX + 1;
    assert_int_equal(eth_dgram_open(&rig.a, &params), EINVAL);
}

/* --- waking -------------------------------------------------------------------------------------
 */

static void *send_soon(void *arg)
{
    (void)arg;
    usleep(20000);
    assert_int_equal(send_frame(b, 0, 60, 1), STATUS_OK);
    eth_tx_flush(b);
    return NULL;
}

/* The core of `a` sleeps until a thread has sent; the deadline tells a lost wake-up. */
static void expect_frames_wake_this_core(void)
{
    struct eth_rx frames[BATCH];

    for (uint32_t round = 0; round < 5; round++) {
        pthread_t thread;
        uint32_t count;
        cpu_idle(0); /* takes a wake that is still remembered */
        assert_int_equal(pthread_create(&thread, NULL, send_soon, NULL), 0);
        uint64_t deadline_ns = clock_now_ns() + 10 * NS_PER_S;
        while ((count = eth_rx(a, frames, BATCH)) == 0) { /* a late wake of before may come */
            eth_rx_done(a, 0);
            if (!eth_arm(a, true)) {
                cpu_idle(deadline_ns);
            }
            assert_true(clock_now_ns() < deadline_ns);
            assert_false(eth_arm(a, false));
        }
        assert_int_equal(count, 1);
        eth_rx_done(a, 1);
        pthread_join(thread, NULL);
        expect_reaped(b, 0, 1);
    }
}

static void arm_a_frame_wakes_the_sleeping_core(void **state)
{
    (void)state;
    open_a();
    open_b();
    expect_frames_wake_this_core();
}

/* A port belongs to the core that arms it, wherever it was opened. */
static void arm_on_another_core_than_open_wakes_that_core(void **state)
{
    (void)state;
    open_a();
    open_b();
    native_cpu_become(0);
    expect_frames_wake_this_core();
}

/* Sent between the last look and the arming, or before the sleep: never lost. */
static void arm_with_a_frame_there_says_so_and_wakes(void **state)
{
    (void)state;
    struct eth_rx frames[BATCH];

    open_a();
    open_b();
    assert_false(eth_arm(a, true));
    assert_false(eth_arm(a, false));
    assert_int_equal(send_frame(b, 0, 60, 1), STATUS_OK);
    eth_tx_flush(b);
    expect_reaped(b, 0, 1);
    cpu_idle(0);
    uint64_t deadline_ns = clock_now_ns() + 10 * NS_PER_S;
    assert_true(eth_arm(a, true));
    cpu_idle(deadline_ns); /* a caller that would sleep all the same */
    assert_true(clock_now_ns() < deadline_ns);
    assert_false(eth_arm(a, false));
    assert_int_equal(eth_rx(a, frames, BATCH), 1);
    eth_rx_done(a, 1);
}

static void disarmed_frames_do_not_wake(void **state)
{
    (void)state;
    struct eth_rx frames[BATCH];

    open_a();
    open_b();
    assert_false(eth_arm(a, true));
    assert_false(eth_arm(a, false));
    cpu_idle(0);
    uint64_t deadline_ns = clock_now_ns() + A_SHORT;
    assert_int_equal(send_frame(b, 0, 60, 1), STATUS_OK);
    eth_tx_flush(b);
    expect_reaped(b, 0, 1);
    cpu_idle(deadline_ns);
    assert_true(clock_now_ns() >= deadline_ns);
    assert_int_equal(eth_rx(a, frames, BATCH), 1);
    eth_rx_done(a, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(frames_of_all_shapes_go_both_ways, setup, teardown),
        cmocka_unit_test_setup_teardown(tx_wrong_frames_invalid_and_without_effect, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(tx_without_peer_is_lost_until_one_comes, setup, teardown),
        cmocka_unit_test_setup_teardown(tx_to_a_dead_peer_is_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(tx_to_a_busy_peer_waits_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(tx_to_a_stuck_peer_is_lost_in_time, setup, teardown),
        cmocka_unit_test_setup_teardown(rx_runts_and_giants_are_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(open_bad_parameters_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(arm_a_frame_wakes_the_sleeping_core, setup, teardown),
        cmocka_unit_test_setup_teardown(arm_on_another_core_than_open_wakes_that_core, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(arm_with_a_frame_there_says_so_and_wakes, setup, teardown),
        cmocka_unit_test_setup_teardown(disarmed_frames_do_not_wake, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
