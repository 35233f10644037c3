#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "hal/clock.h"
#include "hal/native/native.h"
#include "tests/sim/wire.h"

#define START_NS (UINT64_C(5) * NS_PER_S)

static struct wire *wire;
static uint8_t memory[16][128];

static void open_with(const struct wire_config *config)
{
    native_clock_set(START_NS);
    wire = wire_open(config);
}

static int teardown(void **state)
{
    (void)state;
    wire_close(wire);
    native_clock_use_real();
    return 0;
}

static struct mem_seg seg(void *at, uint32_t len_bytes)
{
    return (struct mem_seg){.bus_addr = (uint64_t)(uintptr_t)at, .len_bytes = len_bytes};
}

static uint8_t *frame_at(uint32_t i)
{
    return memory[i] + ETH_TX_HEADROOM_BYTES;
}

/* A frame of 64 bytes in slot `i` to port `to` (or nobody's address), numbered. */
static void frame_make(uint32_t i, uint32_t to)
{
    uint8_t *frame = frame_at(i);
    memset(frame, 0, 64);
    frame[0] = 0x02;
    frame[5] = (uint8_t)(to + 1);
    frame[14] = (uint8_t)i;
}

static enum status send(uint32_t from, uint32_t i)
{
    struct mem_seg segs[2] = {seg(frame_at(i), 20), seg(frame_at(i) + 20, 44)};
    struct eth_tx tx = {.segs = segs, .seg_count = 2, .len_bytes = 64, .cookie = memory[i]};
    return eth_tx(wire_port(wire, from), &tx);
}

static void send_flushed(uint32_t from, uint32_t i, uint32_t to)
{
    frame_make(i, to);
    assert_int_equal(send(from, i), STATUS_OK);
    eth_tx_flush(wire_port(wire, from));
}

/* The number of the next frame at `at`; -1: none. */
static int take(uint32_t at)
{
    uint8_t frame[64];
    return wire_take(wire, at, frame, sizeof(frame)) == 64 ? frame[14] : -1;
}

static void frames_unicast_goes_to_its_port_after_the_flush(void **state)
{
    (void)state;
    open_with(&(struct wire_config){.port_count = 3});
    frame_make(0, 2);
    assert_int_equal(send(0, 0), STATUS_OK);
    assert_int_equal(take(2), -1);
    eth_tx_flush(wire_port(wire, 0));
    assert_int_equal(take(1), -1);
    assert_int_equal(take(2), 0);
    assert_false(wire_is_quiet(wire));
    void *cookie = NULL;
    assert_int_equal(eth_tx_reap(wire_port(wire, 0), &cookie, 1), 1);
    assert_ptr_equal(cookie, memory[0]);
    assert_true(wire_is_quiet(wire));
}

static void frames_to_unknown_addresses_are_flooded(void **state)
{
    (void)state;
    open_with(&(struct wire_config){.port_count = 3});
    send_flushed(1, 0, 77);
    assert_int_equal(take(0), 0);
    assert_int_equal(take(1), -1);
    assert_int_equal(take(2), 0);
}

static void rx_data_is_aligned_behind_the_ethernet_header(void **state)
{
    (void)state;
    open_with(&(struct wire_config){.port_count = 2});
    send_flushed(0, 3, 1);
    struct eth_rx rx[4];
    assert_int_equal(eth_rx(wire_port(wire, 1), rx, 4), 1);
    assert_int_equal((uintptr_t)(rx[0].data + 14) % 4, 0);
    assert_int_equal(rx[0].len_bytes, 64);
    assert_memory_equal(rx[0].data, frame_at(3), 64);
    send_flushed(0, 4, 1); /* arrives while the other is out */
    eth_rx_done(wire_port(wire, 1), 1);
    assert_int_equal(take(1), 4);
}

static void tx_out_of_range_is_invalid(void **state)
{
    (void)state;
    open_with(&(struct wire_config){.port_count = 1, .mtu_bytes = 50});
    struct mem_seg segs[ETH_TX_SEGS + 1];
    for (uint32_t i = 0; i < ETH_TX_SEGS + 1; i++) {
        segs[i] = seg(frame_at(i), 14);
    }
    struct eth_tx tx = {.segs = segs, .seg_count = 0, .len_bytes = 14, .cookie = memory};
    struct eth_port *port = wire_port(wire, 0);
    assert_int_equal(eth_tx(port, &tx), STATUS_INVALID);
    tx.seg_count = ETH_TX_SEGS + 1;
    tx.len_bytes = (ETH_TX_SEGS + 1) * 14;
    assert_int_equal(eth_tx(port, &tx), STATUS_INVALID);
    tx.seg_count = 5; /* 70 bytes: 2 more than 50 + 18 */
    tx.len_bytes = 70;
    assert_int_equal(eth_tx(port, &tx), STATUS_INVALID);
    tx.seg_count = 2;
    assert_int_equal(eth_tx(port, &tx), STATUS_INVALID);
    tx.len_bytes = 28;
    assert_int_equal(eth_tx(port, &tx), STATUS_OK);
    segs[0].len_bytes = 13;
    tx.len_bytes = 27;
    assert_int_equal(eth_tx(port, &tx), STATUS_INVALID);
}

static void tx_ring_full_says_again_until_reaped(void **state)
{
    (void)state;
    open_with(&(struct wire_config){.port_count = 2, .tx_ring_count = 2, .reap_delay_ns = 1000});
    struct eth_port *port = wire_port(wire, 0);
    void *cookies[4];
    send_flushed(0, 0, 1);
    send_flushed(0, 1, 1);
    assert_int_equal(port->tx_room_count, 0);
    assert_int_equal(send(0, 2), STATUS_AGAIN);
    native_clock_advance(1000);
    assert_int_equal(eth_tx_reap(port, cookies, 4), 2);
    assert_int_equal(port->tx_room_count, 2);
    wire_hold_reap(wire, true);
    send_flushed(0, 2, 1);
    native_clock_advance(1000);
    assert_int_equal(eth_tx_reap(port, cookies, 4), 0);
    wire_hold_reap(wire, false);
    assert_int_equal(eth_tx_reap(port, cookies, 4), 1);
}

static void reap_with_a_delay_comes_out_of_order(void **state)
{
    (void)state;
    open_with(&(struct wire_config){.port_count = 2, .seed = 1, .reap_delay_ns = 1000});
    for (uint32_t i = 0; i < 16; i++) {
        send_flushed(0, i, 1);
    }
    native_clock_advance(1000);
    void *cookies[16];
    assert_int_equal(eth_tx_reap(wire_port(wire, 0), cookies, 16), 16);
    uint32_t backward = 0;
    for (uint32_t i = 1; i < 16; i++) {
        backward += cookies[i] < cookies[i - 1];
    }
    assert_true(backward > 0);
}

static void read_with_a_delay_sees_what_changed_meanwhile(void **state)
{
    (void)state;
    open_with(&(struct wire_config){.port_count = 2, .read_delay_ns = 500});
    send_flushed(0, 1, 1);
    frame_at(1)[14] = 99;
    assert_int_equal(take(1), -1);
    assert_int_equal(wire_next_ns(wire), START_NS + 500);
    native_clock_set(START_NS + 499);
    assert_int_equal(take(1), -1);
    native_clock_set(START_NS + 500);
    assert_int_equal(take(1), 99);
}

static void delay_and_jitter_keep_the_order(void **state)
{
    (void)state;
    open_with(&(struct wire_config){.port_count = 2, .seed = 7});
    wire_set_faults(wire, 0, &(struct wire_faults){.delay_ns = 100, .jitter_ns = 100});
    for (uint32_t i = 0; i < 16; i++) {
        send_flushed(0, i, 1);
    }
    native_clock_advance(99);
    assert_int_equal(take(1), -1);
    native_clock_advance(101);
    for (int i = 0; i < 16; i++) {
        assert_int_equal(take(1), i);
    }
}

static void reorder_lets_later_frames_pass(void **state)
{
    (void)state;
    open_with(&(struct wire_config){.port_count = 2});
    wire_set_faults(wire, 0, &(struct wire_faults){.reorder_ppm = 1000000, .reorder_ns = 50});
    send_flushed(0, 0, 1);
    wire_set_faults(wire, 0, &(struct wire_faults){0});
    send_flushed(0, 1, 1);
    assert_int_equal(take(1), 1);
    assert_int_equal(take(1), -1);
    native_clock_set(wire_next_ns(wire)); /* the reap is due first */
    native_clock_advance(50);
    assert_int_equal(take(1), 0);
    assert_int_equal(wire_counts(wire)->reordered, 1);
}

static void faults_certain_happen_and_are_counted(void **state)
{
    (void)state;
    open_with(&(struct wire_config){.port_count = 2, .seed = 3});
    wire_set_faults(wire, WIRE_ALL_PORTS, &(struct wire_faults){.duplicate_ppm = 1000000});
    send_flushed(0, 5, 1);
    assert_int_equal(take(1), 5);
    assert_int_equal(take(1), 5);
    assert_int_equal(take(1), -1);
    wire_set_faults(wire, 0, &(struct wire_faults){.loss_ppm = 1000000});
    send_flushed(0, 6, 1);
    assert_int_equal(take(1), -1);
    wire_set_faults(wire, 0, &(struct wire_faults){.corrupt_ppm = 1000000});
    send_flushed(0, 7, 1);
    uint8_t frame[64];
    assert_int_equal(wire_take(wire, 1, frame, sizeof(frame)), 64);
    uint32_t bits = 0;
    for (uint32_t i = 0; i < 64; i++) {
        bits += (uint32_t)__builtin_popcount((unsigned)(frame[i] ^ frame_at(7)[i]));
    }
    assert_int_equal(bits, 1);
    assert_memory_equal(frame, frame_at(7), 14);
    wire_set_faults(wire, 0, &(struct wire_faults){0});
    wire_cut(wire, 1, true);
    send_flushed(0, 8, 1);
    wire_cut(wire, 1, false);
    wire_port(wire, 0)->link_up = false;
    send_flushed(0, 9, 1);
    assert_int_equal(take(1), -1);
    const struct wire_counts *counts = wire_counts(wire);
    assert_int_equal(counts->sent, 5);
    assert_int_equal(counts->duplicated, 1);
    assert_int_equal(counts->lost, 1);
    assert_int_equal(counts->corrupted, 1);
    assert_int_equal(counts->cut, 2);
}

static void rx_ring_full_drops(void **state)
{
    (void)state;
    open_with(&(struct wire_config){.port_count = 2, .rx_ring_count = 2});
    for (uint32_t i = 0; i < 3; i++) {
        send_flushed(0, i, 1);
    }
    assert_int_equal(wire_counts(wire)->overflown, 1);
    assert_int_equal(wire_drain(wire, 1), 2);
}

/* RFC 3168 5: only an ECN-capable packet is marked; the header checksum stays right. */
static void mark_sets_ce_in_capable_packets_only(void **state)
{
    (void)state;
    static const uint8_t IPV4[20] = {0x45, 0x02, 0x00, 0x32, 0, 0, 0x40, 0,    0x40, 0x11,
                                     0x00, 0x00, 192,  0,    2, 1, 192,  0x00, 2,    2};
    open_with(&(struct wire_config){.port_count = 2});
    wire_set_faults(wire, 0, &(struct wire_faults){.mark_ppm = 1000000});
    frame_make(0, 1);
    memcpy(frame_at(0) + 14, IPV4, sizeof(IPV4));
    uint8_t frame[64];
    for (uint32_t ecn = 0; ecn < 4; ecn++) {
        uint8_t *ip = frame_at(0) + 14;
        ip[1] = (uint8_t)(0xb8 | ecn);
        ip[10] = 0;
        ip[11] = 0;
        uint32_t sum = 0;
        for (uint32_t i = 0; i < 20; i += 2) {
            sum += (uint32_t)(ip[i] << 8 | ip[i + 1]);
        }
        sum = (sum & 0xffff) + (sum >> 16);
        ip[10] = (uint8_t)(~sum >> 8);
        ip[11] = (uint8_t)~sum;
        assert_int_equal(send(0, 0), STATUS_OK);
        eth_tx_flush(wire_port(wire, 0));
        assert_int_equal(wire_take(wire, 1, frame, sizeof(frame)), 64);
        assert_int_equal(frame[15], ecn == 0 ? 0xb8 : 0xbb);
        sum = 0;
        for (uint32_t i = 14; i < 34; i += 2) {
            sum += (uint32_t)(frame[i] << 8 | frame[i + 1]);
        }
        assert_int_equal((sum & 0xffff) + (sum >> 16), 0xffff);
    }
    frame_at(0)[14] = 0x6b; /* IPv6, traffic class b9 */
    frame_at(0)[15] = 0x91;
    assert_int_equal(send(0, 0), STATUS_OK);
    eth_tx_flush(wire_port(wire, 0));
    assert_int_equal(wire_take(wire, 1, frame, sizeof(frame)), 64);
    assert_int_equal(frame[15], 0xb1);
}

static bool lose_number_2(void *ctx, uint32_t from, uint8_t *frame, uint32_t len_bytes)
{
    (*(uint32_t *)ctx)++;
    assert_int_equal(from, 0);
    assert_int_equal(len_bytes, 64);
    return frame[14] != 2;
}

static void filter_loses_the_frame_that_it_names(void **state)
{
    (void)state;
    open_with(&(struct wire_config){.port_count = 2});
    uint32_t calls = 0;
    wire_set_filter(wire, lose_number_2, &calls);
    for (uint32_t i = 1; i < 4; i++) {
        send_flushed(0, i, 1);
    }
    assert_int_equal(calls, 3);
    assert_int_equal(take(1), 1);
    assert_int_equal(take(1), 3);
    assert_int_equal(wire_counts(wire)->filtered, 1);
}

static void inject_arrives_and_arm_says_so(void **state)
{
    (void)state;
    open_with(&(struct wire_config){.port_count = 1});
    assert_false(eth_arm(wire_port(wire, 0), true));
    wire_inject(wire, 0, "x", 1);
    assert_true(eth_arm(wire_port(wire, 0), true));
    assert_false(eth_arm(wire_port(wire, 0), false));
    uint8_t frame[4];
    assert_int_equal(wire_take(wire, 0, frame, sizeof(frame)), 1);
}

/* What arrives in a run of 500 frames with every fault, as a number. */
static uint64_t digest(uint64_t seed)
{
    uint64_t sum = 0;
    void *cookies[16];
    open_with(&(struct wire_config){.port_count = 2, .seed = seed, .reap_delay_ns = 300});
    wire_set_faults(wire, 0,
                    &(struct wire_faults){.loss_ppm = 100000,
                                          .duplicate_ppm = 100000,
                                          .reorder_ppm = 100000,
                                          .corrupt_ppm = 100000,
                                          .delay_ns = 50,
                                          .jitter_ns = 100,
                                          .reorder_ns = 400});
    for (uint32_t i = 0; i < 500; i++) {
        uint8_t frame[64];
        send_flushed(0, i % 16, 1);
        native_clock_advance(200);
        eth_tx_reap(wire_port(wire, 0), cookies, 16);
        while (wire_take(wire, 1, frame, sizeof(frame)) != 0) {
            for (uint32_t k = 0; k < 64; k++) {
                sum = sum * 31 + frame[k];
            }
        }
    }
    return sum;
}

static void run_with_the_same_seed_repeats(void **state)
{
    (void)state;
    uint64_t first = digest(42);
    wire_close(wire);
    uint64_t second = digest(42);
    wire_close(wire);
    uint64_t other = digest(43);
    assert_true(first == second);
    assert_true(first != other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(frames_unicast_goes_to_its_port_after_the_flush, teardown),
        cmocka_unit_test_teardown(frames_to_unknown_addresses_are_flooded, teardown),
        cmocka_unit_test_teardown(rx_data_is_aligned_behind_the_ethernet_header, teardown),
        cmocka_unit_test_teardown(tx_out_of_range_is_invalid, teardown),
        cmocka_unit_test_teardown(tx_ring_full_says_again_until_reaped, teardown),
        cmocka_unit_test_teardown(reap_with_a_delay_comes_out_of_order, teardown),
        cmocka_unit_test_teardown(read_with_a_delay_sees_what_changed_meanwhile, teardown),
        cmocka_unit_test_teardown(delay_and_jitter_keep_the_order, teardown),
        cmocka_unit_test_teardown(reorder_lets_later_frames_pass, teardown),
        cmocka_unit_test_teardown(faults_certain_happen_and_are_counted, teardown),
        cmocka_unit_test_teardown(rx_ring_full_drops, teardown),
        cmocka_unit_test_teardown(mark_sets_ce_in_capable_packets_only, teardown),
        cmocka_unit_test_teardown(filter_loses_the_frame_that_it_names, teardown),
        cmocka_unit_test_teardown(inject_arrives_and_arm_says_so, teardown),
        cmocka_unit_test_teardown(run_with_the_same_seed_repeats, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
