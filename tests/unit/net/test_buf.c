/* Frames to send: pools, order of completion, big buffers, a ring that is full. */
#include "net/rig.h"

static struct told_path way;

static int setup(void **state)
{
    rig_setup(state);
    path_open_ready(&way, &rig.peer4);
    rig_advance(NS_PER_MS);
    return 0;
}

static int teardown(void **state)
{
    net_path_close(&way.path);
    return rig_teardown(state);
}

/* One datagram with `len` bytes; its sequence number. */
static uint64_t send(uint32_t len)
{
    struct net_buf *buf = net_buf_get(rig.nif);
    assert_non_null(buf);
    memset(net_path_begin(&way.path, buf), 0x11, len);
    buf->segs[0].len_bytes += len;
    buf->len_bytes += len;
    net_path_finish(&way.path, buf);
    return net_send(rig.nif, buf);
}

static void buf_pool_gives_what_was_configured(void **state)
{
    (void)state;
    struct net_buf *bufs[33];
    for (uint32_t i = 0; i < 32; i++) {
        bufs[i] = net_buf_get(rig.nif);
        assert_non_null(bufs[i]);
        assert_int_equal((uintptr_t)bufs[i]->head % 8, 0);
        assert_true(offsetof(struct net_buf, head) + 2 - offsetof(struct net_buf, headroom) >=
                    ETH_TX_HEADROOM_BYTES);
        memset(bufs[i]->head, 0xee, sizeof(bufs[i]->head)); /* no two overlap */
    }
    assert_null(net_buf_get(rig.nif));
    assert_false(net_if_is_quiet(rig.nif));
    for (uint32_t i = 0; i < 32; i++) {
        net_buf_put(rig.nif, bufs[i]);
    }
}

static void big_comes_with_a_buffer_and_goes_with_it(void **state)
{
    (void)state;
    struct net_buf *bufs[5];
    for (uint32_t i = 0; i < 5; i++) {
        bufs[i] = net_buf_get(rig.nif);
        uint8_t *big = net_big_get(rig.nif, bufs[i]);
        if (i < 4) {
            assert_non_null(big);
            memset(big, 0xee, NET_BIG_BYTES);
        } else {
            assert_null(big);
        }
    }
    for (uint32_t i = 0; i < 5; i++) {
        net_buf_put(rig.nif, bufs[i]);
    }
    bufs[0] = net_buf_get(rig.nif);
    assert_non_null(net_big_get(rig.nif, bufs[0]));
    net_buf_put(rig.nif, bufs[0]);
}

static void big_sent_is_on_the_wire_and_comes_back(void **state)
{
    (void)state;
    struct net_buf *buf = net_buf_get(rig.nif);
    uint8_t *big = net_big_get(rig.nif, buf);
    net_path_begin(&way.path, buf);
    memset(big, 0x42, 1000);
    buf->segs[1] = (struct mem_seg){.bus_addr = (uint64_t)(uintptr_t)big, .len_bytes = 1000};
    buf->seg_count = 2;
    buf->len_bytes += 1000;
    net_path_finish(&way.path, buf);
    net_send(rig.nif, buf);
    rig_turn();
    struct frame frame;
    assert_true(frame_take(&frame));
    assert_int_equal(frame.len, 42 + 1000);
    assert_int_equal(frame.bytes[42], 0x42);
    assert_int_equal(frame.bytes[1041], 0x42);
}

static void sent_frame_waits_for_the_flush_of_the_poller(void **state)
{
    (void)state;
    struct frame frame;
    send(10);
    assert_false(frame_take(&frame));
    rig_turn();
    assert_true(frame_take(&frame));
    send(10);
    net_flush(rig.nif);
    assert_true(frame_take(&frame));
    uint64_t kicks = counter_get(&rig.config.port->stats.tx_kick_count);
    net_flush(rig.nif); /* nothing new */
    rig_turn();
    assert_int_equal(counter_get(&rig.config.port->stats.tx_kick_count), kicks);
}

static void seq_counts_up_and_completes(void **state)
{
    (void)state;
    uint64_t first = send(10);
    assert_int_equal(send(10), first + 1);
    assert_int_equal(send(10), first + 2);
    assert_int_equal(net_tx_done_seq(rig.nif), first - 1);
    rig_turn();
    assert_int_equal(net_tx_done_seq(rig.nif), first + 2);
}

static void seq_reaped_out_of_order_completes_in_order(void **state)
{
    (void)state;
    wire_set_device(rig.wire, 0, 1000);
    uint64_t first = send(10);
    for (uint32_t i = 1; i < 32; i++) {
        send(10);
    }
    net_flush(rig.nif);
    uint64_t done = net_tx_done_seq(rig.nif);
    uint32_t out_of_order = 0;
    for (uint32_t step = 0; step < 1000; step++) {
        native_clock_advance(1);
        sched_turn();
        uint64_t now_done = net_tx_done_seq(rig.nif);
        /* What the device gave back, but an older one is still there. */
        uint32_t at_device = 256 - rig.config.port->tx_room_count;
        assert_true(now_done >= done && now_done < first + 32);
        assert_true(first + 31 - now_done >= at_device);
        out_of_order += first + 31 - now_done > at_device;
        done = now_done;
    }
    assert_true(out_of_order > 0);
    assert_int_equal(done, first + 31);
}

static void buf_is_not_given_again_while_the_device_reads_it(void **state)
{
    (void)state;
    wire_hold_reap(rig.wire, true);
    for (uint32_t i = 0; i < 32; i++) {
        send(10);
    }
    rig_turn();
    assert_null(net_buf_get(rig.nif));
    wire_hold_reap(rig.wire, false);
    rig_turn();
    struct net_buf *buf = net_buf_get(rig.nif);
    assert_non_null(buf);
    net_buf_put(rig.nif, buf);
}

/* The host changes its buffer under way: what is sent is what is there when the device reads. */
static void seg_is_read_late_from_where_it_points(void **state)
{
    (void)state;
    static uint8_t host[64];
    memset(host, 1, sizeof(host));
    wire_set_device(rig.wire, 1000, 0);
    struct net_buf *buf = net_buf_get(rig.nif);
    net_path_begin(&way.path, buf);
    buf->segs[1] = (struct mem_seg){.bus_addr = (uint64_t)(uintptr_t)host, .len_bytes = 64};
    buf->seg_count = 2;
    buf->len_bytes += 64;
    net_path_finish(&way.path, buf);
    uint64_t seq = net_send(rig.nif, buf);
    rig_turn();
    assert_int_equal(net_tx_done_seq(rig.nif), seq - 1);
    memset(host, 2, sizeof(host));
    rig_advance(1000);
    assert_int_equal(net_tx_done_seq(rig.nif), seq);
    memset(host, 3, sizeof(host));
    struct frame frame;
    assert_true(frame_take(&frame));
    assert_int_equal(frame.bytes[42], 2);
}

/* A device that says AGAIN in spite of the room that it promised: the frame is lost, its buffer and
 * sequence number are not. */
static void tx_refused_frame_is_lost_and_completes(void **state)
{
    (void)state;
    wire_hold_reap(rig.wire, true);
    uint64_t first = send(10);
    struct net_buf *buf = net_buf_get(rig.nif);
    net_path_begin(&way.path, buf);
    buf->segs[0].len_bytes = 9; /* no Ethernet header: INVALID */
    assert_int_equal(net_send(rig.nif, buf), first + 1);
    assert_int_equal(send(10), first + 2);
    assert_int_equal(STAT(tx_no_buf), 1);
    rig_turn();
    assert_int_equal(net_tx_done_seq(rig.nif), first - 1);
    wire_hold_reap(rig.wire, false);
    rig_turn();
    assert_int_equal(net_tx_done_seq(rig.nif), first + 2);
    buf = net_buf_get(rig.nif);
    net_path_begin(&way.path, buf);
    buf->len_bytes++; /* alone: completes at once */
    uint64_t seq = net_send(rig.nif, buf);
    assert_int_equal(net_tx_done_seq(rig.nif), seq);
}

static void tx_room_is_the_device_s(void **state)
{
    (void)state;
    wire_hold_reap(rig.wire, true);
    uint32_t room = net_tx_room(rig.nif);
    assert_int_equal(room, 256);
    send(10);
    assert_int_equal(net_tx_room(rig.nif), 255);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(buf_pool_gives_what_was_configured),
        T(big_comes_with_a_buffer_and_goes_with_it),
        T(big_sent_is_on_the_wire_and_comes_back),
        T(sent_frame_waits_for_the_flush_of_the_poller),
        T(seq_counts_up_and_completes),
        T(seq_reaped_out_of_order_completes_in_order),
        T(buf_is_not_given_again_while_the_device_reads_it),
        T(seg_is_read_late_from_where_it_points),
        T(tx_refused_frame_is_lost_and_completes),
        T(tx_room_is_the_device_s),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
