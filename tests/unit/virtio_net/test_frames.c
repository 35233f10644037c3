/*
 * Frames over the rings of a virtio network device and what tells of them (VIRTIO 1.2, 2.7, 5.1.6).
 */
#include "virtio_net/rig.h"

#include <string.h>
#include "hal/clock.h"
#include "hal/native/native.h"

/* --- sending ----------------------------------------------------------------------------------
 */

static void tx_frame_of_one_to_eight_segments_arrives_whole(void **state)
{
    (void)state;
    for (uint32_t count = 1; count <= ETH_TX_SEGS; count++) {
        uint8_t *data = rig_frame_data(count);
        for (uint32_t i = 0; i < 200; i++) {
            data[i] = (uint8_t)(i * 7 + count);
        }
        memset(data - ETH_TX_HEADROOM_BYTES, 0xee, ETH_TX_HEADROOM_BYTES);
        assert_int_equal(rig_send(count, 100 + count, count), STATUS_OK);
        assert_int_equal(rig_avail_count(rig_txq()), 0); /* not before the flush */
        eth_tx_flush(rig_port);
        assert_int_equal(rig_avail_count(rig_txq()), 1);
        uint16_t head = rig_expect_sent(count, 100 + count, count);
        assert_int_equal(data[-ETH_TX_HEADROOM_BYTES], 0xee); /* 12 of 16 bytes are rig_used */
        rig_put_used(rig_txq(), head, 0);
        rig_expect_reaped(count);
    }
    assert_int_equal(counter_get(&rig_port->stats.tx_count), ETH_TX_SEGS);
}

static void tx_headers_at_any_alignment_are_zero(void **state)
{
    (void)state;
    for (uint32_t shift = 0; shift < 8; shift++) {
        struct mem_seg seg = {.bus_addr = (uintptr_t)rig_frame_data(0) + shift, .len_bytes = 60};
        struct eth_tx frame = {&seg, 1, 60, &rig_names[0]};
        uint8_t bytes[128];
        uint16_t head;
        uint32_t desc_count;
        static const uint8_t zero[12];

        memset(rig_frame_data(0) - 16, 0xff, 100);
        assert_int_equal(eth_tx(rig_port, &frame), STATUS_OK);
        eth_tx_flush(rig_port);
        assert_int_equal(rig_fetch(&head, bytes, &desc_count), 72);
        assert_memory_equal(bytes, zero, 12);
        assert_int_equal(bytes[12], 0xff);
        rig_put_used(rig_txq(), head, 0);
        rig_expect_reaped(0);
    }
}

static void tx_wrong_frames_invalid_and_without_effect(void **state)
{
    (void)state;
    struct mem_seg segs[9];
    struct eth_tx frame = {segs, 2, 60, &rig_names[0]};

    for (uint32_t i = 0; i < 9; i++) {
        segs[i] = (struct mem_seg){.bus_addr = (uintptr_t)rig_frame_data(i), .len_bytes = 30};
    }
    static const uint32_t counts[] = {0, 9, UINT32_MAX};
    for (uint32_t i = 0; i < ARRAY_SIZE(counts); i++) {
        frame.seg_count = counts[i];
        assert_int_equal(eth_tx(rig_port, &frame), STATUS_INVALID);
    }
    frame.seg_count = 2;
    static const uint32_t lengths[] = {0, 13, 59, 61, MTU + 19};
    for (uint32_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        frame.len_bytes = lengths[i];
        assert_int_equal(eth_tx(rig_port, &frame), STATUS_INVALID);
    }
    frame.len_bytes = 30;
    segs[1].len_bytes = 0; /* a device may break over an empty descriptor */
    assert_int_equal(eth_tx(rig_port, &frame), STATUS_INVALID);
    segs[0].len_bytes = 13;
    segs[1].len_bytes = 17;
    assert_int_equal(eth_tx(rig_port, &frame), STATUS_INVALID);
    assert_int_equal(rig_net.free_count, 16);
    eth_tx_flush(rig_port);
    assert_int_equal(rig_avail_count(rig_txq()), 0);
    assert_int_equal(counter_get(&rig_port->stats.tx_full_count), 0);
}

static void tx_full_ring_again_until_reaped(void **state)
{
    (void)state;
    for (uint32_t segs = 1; segs <= ETH_TX_SEGS; segs++) {
        uint32_t fit = 16 / segs;
        uint16_t heads[16];
        for (uint32_t i = 0; i < fit; i++) {
            bool has_room = rig_port->tx_room_count > 0;
            enum status status = rig_send(i, 60, segs);
            assert_true(!has_room || status == STATUS_OK);
            assert_int_equal(status, STATUS_OK);
        }
        assert_int_equal(rig_port->tx_room_count, 0);
        assert_int_equal(rig_send(63, 60, segs), STATUS_AGAIN);
        eth_tx_flush(rig_port);
        assert_int_equal(rig_avail_count(rig_txq()), fit);
        for (uint32_t i = 0; i < fit; i++) {
            heads[i] = rig_expect_sent(i, 60, segs);
        }
        assert_int_equal(rig_send(63, 60, segs), STATUS_AGAIN);
        rig_put_used(rig_txq(), heads[fit - 1], 0); /* out of order */
        rig_expect_reaped(fit - 1);
        assert_int_equal(rig_send(40, 60, segs), STATUS_OK);
        eth_tx_flush(rig_port);
        rig_put_used(rig_txq(), rig_expect_sent(40, 60, segs), 0);
        for (uint32_t i = 0; i + 1 < fit; i++) {
            rig_put_used(rig_txq(), heads[i], 0);
        }
        void *cookies[COOKIES];
        assert_int_equal(eth_tx_reap(rig_port, cookies, COOKIES), fit);
        assert_int_equal(rig_port->tx_room_count, 2);
    }
    assert_int_equal(counter_get(&rig_port->stats.tx_full_count), 2 * ETH_TX_SEGS);
}

static void tx_flush_kicks_once_for_a_batch_and_only_if_asked(void **state)
{
    (void)state;
    for (uint32_t batch = 0; batch < 5; batch++) {
        /* 2.7.10: notify when the index passes avail_event; 0 is passed in the first batch. */
        uint16_t event = rig_avail(rig_txq())->idx;
        uint32_t kicks = rig_txq()->kick_count;
        rig_set_avail_event(rig_txq(),
                            batch % 2 == 0 ? (uint16_t)(event + 2) : (uint16_t)(event + 3));
        for (uint32_t i = 0; i < 3; i++) {
            assert_int_equal(rig_send(i, 60, 1), STATUS_OK);
        }
        eth_tx_flush(rig_port);
        eth_tx_flush(rig_port); /* nothing new: nothing said */
        assert_int_equal(rig_txq()->kick_count - kicks, batch % 2 == 0 ? 1 : 0);
        for (uint32_t i = 0; i < 3; i++) {
            rig_put_used(rig_txq(), rig_expect_sent(i, 60, 1), 0);
            rig_expect_reaped(i);
        }
    }
    assert_int_equal(counter_get(&rig_port->stats.tx_kick_count), 1 + 3); /* 1: buffers at start */
}

/* 2.7.10 and 2.7.7: comparisons modulo 2^16, at every place of the index and of the event. */
static void event_test_holds_at_the_wrap(void **state)
{
    (void)state;
    for (uint32_t old_idx = 0xfff0; old_idx < 0x10010; old_idx++) {
        for (uint32_t count = 1; count <= 16; count++) {
            for (int32_t at = -20; at < 40; at++) {
                bool passes = at >= 0 && at < (int32_t)count;
                uint16_t event = (uint16_t)(old_idx + (uint32_t)at);
                assert_int_equal(
                    virtq_is_event(event, (uint16_t)(old_idx + count), (uint16_t)old_idx), passes);
            }
        }
    }
}

/* More frames than a 16-bit index has values, in batches, completed out of order. */
static void both_rings_wrap_many_times(void **state)
{
    (void)state;
    uint32_t random = 1;
    for (uint32_t n = 0; n < 70000;) {
        random = random * 1664525 + 1013904223;
        uint32_t count = 1 + (random >> 28) % 4;
        uint32_t segs = 1 + (random >> 20) % 4;
        uint16_t heads[4];
        rig_set_avail_event(rig_txq(), rig_avail(rig_txq())->idx);
        uint32_t kicks = rig_txq()->kick_count;
        for (uint32_t i = 0; i < count; i++) {
            memcpy(rig_frame_data(n + i), &n, sizeof(n));
            assert_int_equal(rig_send(n + i, 60, segs), STATUS_OK);
        }
        eth_tx_flush(rig_port);
        assert_int_equal(rig_txq()->kick_count, kicks + 1);
        for (uint32_t i = 0; i < count; i++) {
            heads[i] = rig_expect_sent(n + i, 60, segs);
        }
        for (uint32_t i = count; i-- > 0;) {
            rig_put_used(rig_txq(), heads[i], 0);
        }
        for (uint32_t i = count; i-- > 0;) {
            rig_expect_reaped(n + i);
        }
        struct eth_rx frames[4];
        for (uint32_t i = 0; i < count; i++) {
            (void)rig_deliver(60 + i, (uint8_t)(n + i));
        }
        assert_int_equal(eth_rx(rig_port, frames, 4), count);
        for (uint32_t i = 0; i < count; i++) {
            assert_int_equal(frames[i].len_bytes, 60 + i);
            assert_int_equal(frames[i].data[0], (uint8_t)(n + i));
        }
        eth_rx_done(rig_port, count);
        n += count;
    }
    assert_int_equal(rig_net.state, VIRTIO_NET_UP);
}

/* --- receiving --------------------------------------------------------------------------------
 */

static void rx_frames_are_handed_up_aligned_and_in_order(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {14, 60, 1514, MTU + 14, MTU + 18};
    struct eth_rx frames[8];

    for (uint32_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        (void)rig_deliver(lengths[i], (uint8_t)(i + 1));
    }
    assert_int_equal(eth_rx(rig_port, frames, 2), 2);
    eth_rx_done(rig_port, 2);
    assert_int_equal(eth_rx(rig_port, frames + 2, 6), 3);
    for (uint32_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        assert_int_equal(frames[i].len_bytes, lengths[i]);
        assert_int_equal(((uintptr_t)frames[i].data + 14) % 8, 0);
        assert_int_equal(((uintptr_t)frames[i].data + 14 + 40) % 16, 0);
        assert_int_equal(frames[i].data[0], i + 1);
        assert_int_equal(frames[i].data[lengths[i] - 1], i + 1);
    }
    eth_rx_done(rig_port, 3);
    assert_int_equal(eth_rx(rig_port, frames, 8), 0);
    assert_int_equal(counter_get(&rig_port->stats.rx_count), 5);
    assert_int_equal(counter_get(&rig_port->stats.rx_bytes), 14 + 60 + 1514 + 2 * MTU + 32);
}

static void rx_all_buffers_used_then_given_back_with_one_kick(void **state)
{
    (void)state;
    struct eth_rx frames[64];

    for (uint32_t i = 0; i < 32; i++) {
        (void)rig_deliver(60, 1);
    }
    assert_int_equal(rig_avail_count(rig_rxq()), 0);
    rig_set_avail_event(rig_rxq(),
                        rig_avail(rig_rxq())->idx); /* 2.7.10: it wants to hear of the next one */
    uint32_t kicks = rig_rxq()->kick_count;
    assert_int_equal(eth_rx(rig_port, frames, 64), 32);
    assert_int_equal(rig_avail_count(rig_rxq()), 0); /* ours until rx_done() */
    eth_rx_done(rig_port, 32);
    assert_int_equal(rig_avail_count(rig_rxq()), 32);
    assert_int_equal(rig_rxq()->kick_count, kicks + 1);
    (void)rig_deliver(60, 1);
    assert_int_equal(eth_rx(rig_port, frames, 64), 1);
    eth_rx_done(rig_port, 1);
    assert_int_equal(rig_rxq()->kick_count, kicks + 1); /* not asked for */
}

static void rx_length_out_of_range_is_dropped_and_buffer_reused(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {0, 1, 11, 12, 25, MTU + 18 + 13, 0x10000, 0xffffffff};
    struct eth_rx frames[2];

    for (uint32_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        rig_put_used(rig_rxq(), rig_take_avail(rig_rxq()), lengths[i]);
        assert_int_equal(eth_rx(rig_port, frames, 2), 0);
        assert_int_equal(rig_rx_errors(), i + 1);
        assert_int_equal(rig_avail_count(rig_rxq()),
                         32); /* at once: nobody calls rx_done() for it */
    }
    rig_put_used(rig_rxq(), rig_take_avail(rig_rxq()), 3);
    (void)rig_deliver(60, 9);
    assert_int_equal(eth_rx(rig_port, frames, 2), 1);
    assert_int_equal(frames[0].data[0], 9);
    eth_rx_done(rig_port, 1);
    assert_int_equal(rig_net.state, VIRTIO_NET_UP);
}

/* --- interrupts -------------------------------------------------------------------------------
 */

/* 2.7.7: an interrupt when the rig_used index passes rig_used_event. */
static void arm_asks_for_the_next_frame_and_looks_again(void **state)
{
    (void)state;
    struct eth_rx frames[4];

    for (uint32_t round = 0; round < 3; round++) {
        uint16_t idx = rig_used(rig_rxq())->idx;
        assert_false(eth_arm(rig_port, true));
        assert_true(virtq_is_event(rig_used_event(rig_rxq()), (uint16_t)(idx + 1), idx));
        assert_false(eth_arm(rig_port, false));
        for (uint16_t n = 1; n < 1000; n++) {
            assert_false(virtq_is_event(rig_used_event(rig_rxq()), (uint16_t)(idx + n), idx));
        }
        (void)rig_deliver(60, 1);
        assert_true(eth_arm(rig_port, true));
        assert_false(eth_arm(rig_port, false));
        assert_int_equal(eth_rx(rig_port, frames, 4), 1);
        eth_rx_done(rig_port, 1);
    }
    assert_int_equal(rig_avail(rig_rxq())->flags, 0); /* 2.7.7.1: with EVENT_IDX always */
    assert_int_equal(rig_avail(rig_txq())->flags, 0);
}

/* The port was opened and started on core 0: its owner is who arms it. */
static void arm_on_a_core_makes_interrupts_wake_it(void **state)
{
    (void)state;
    static const uint32_t cores[] = {CORE, 1, 0};

    for (uint32_t i = 0; i < ARRAY_SIZE(cores); i++) {
        native_cpu_become(cores[i]);
        assert_false(eth_arm(rig_port, true));
        for (uint32_t vector = 0; vector < 2; vector++) {
            native_cpu_become(0); /* takes the interrupts */
            rig_model.woken = 0;
            rig_model.handlers[vector](rig_model.args[vector]);
            assert_int_equal(rig_model.woken, 1u << cores[i]);
        }
        native_cpu_become(cores[i]);
        assert_true(eth_arm(rig_port, true)); /* the configuration is to be looked at */
        assert_false(eth_arm(rig_port, false));
        assert_int_equal(eth_rx(rig_port, NULL, 0), 0);
        eth_rx_done(rig_port, 0);
    }
}

static void arm_without_interrupts_always_says_true(void **state)
{
    struct eth_rx frames[1];
    rig_setup(state);
    rig_model.msix_limit = 1;
    assert_int_equal(rig_open_port(), STATUS_OK);
    assert_int_equal(rig_start_port(), STATUS_OK);
    assert_int_equal(rig_rxq()->vector, VIRTIO_NO_VECTOR);
    assert_int_equal(rig_model.config_vector, VIRTIO_NO_VECTOR);
    assert_true(eth_arm(rig_port, true));
    assert_false(eth_arm(rig_port, false));
    rig_model.config.status = 0; /* no interrupt says so: looked at when idle */
    assert_int_equal(eth_rx(rig_port, frames, 1), 0);
    assert_false(rig_port->link_up);
}

static void without_event_idx_the_flags_suppress(void **state)
{
    struct eth_rx frames[1];
    rig_setup(state);
    rig_model.offered &= ~VIRTIO_F_EVENT_IDX;
    assert_int_equal(rig_open_port(), STATUS_OK);
    assert_int_equal(rig_start_port(), STATUS_OK);
    assert_int_equal(rig_avail(rig_rxq())->flags, VIRTQ_AVAIL_NO_INTERRUPT);
    assert_int_equal(rig_avail(rig_txq())->flags, VIRTQ_AVAIL_NO_INTERRUPT);
    assert_false(eth_arm(rig_port, true));
    assert_int_equal(rig_avail(rig_rxq())->flags, 0);
    (void)rig_deliver(60, 1);
    assert_true(eth_arm(rig_port, true));
    assert_false(eth_arm(rig_port, false));
    assert_int_equal(rig_avail(rig_rxq())->flags, VIRTQ_AVAIL_NO_INTERRUPT);
    assert_int_equal(eth_rx(rig_port, frames, 1), 1);
    eth_rx_done(rig_port, 1);
    for (uint16_t flags = 0; flags < 2; flags++) {
        uint32_t kicks = rig_txq()->kick_count;
        rig_used(rig_txq())->flags = flags;
        assert_int_equal(rig_send(0, 60, 1), STATUS_OK);
        eth_tx_flush(rig_port);
        assert_int_equal(rig_txq()->kick_count - kicks, 1 - flags);
        rig_put_used(rig_txq(), rig_expect_sent(0, 60, 1), 0);
        rig_expect_reaped(0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_UP(tx_frame_of_one_to_eight_segments_arrives_whole),
        RIG_UP(tx_headers_at_any_alignment_are_zero),
        RIG_UP(tx_wrong_frames_invalid_and_without_effect),
        RIG_UP(tx_full_ring_again_until_reaped),
        RIG_UP(tx_flush_kicks_once_for_a_batch_and_only_if_asked),
        RIG_PLAIN(event_test_holds_at_the_wrap),
        RIG_UP(both_rings_wrap_many_times),
        RIG_UP(rx_frames_are_handed_up_aligned_and_in_order),
        RIG_UP(rx_all_buffers_used_then_given_back_with_one_kick),
        RIG_UP(rx_length_out_of_range_is_dropped_and_buffer_reused),
        RIG_UP(arm_asks_for_the_next_frame_and_looks_again),
        RIG_UP(arm_on_a_core_makes_interrupts_wake_it),
        RIG_PLAIN(arm_without_interrupts_always_says_true),
        RIG_PLAIN(without_event_idx_the_flags_suppress),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
