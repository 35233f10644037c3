/*
 * A virtio network device that does what none may do, and the way back (VIRTIO 1.2, 2.1).
 */
#include "virtio_net/rig.h"

#include <string.h>
#include "hal/clock.h"
#include "hal/native/native.h"

/* --- hostile devices --------------------------------------------------------------------------
 */

static void rx_buffer_that_was_not_given_breaks_the_device(void **state)
{
    (void)state;
    static const uint32_t ids[] = {32, 33, 0xffff, 0x10000, 0xffffffff};
    struct eth_rx frames[4];

    for (uint32_t i = 0; i < ARRAY_SIZE(ids); i++) {
        (void)rig_deliver(60, 1);
        rig_put_used(rig_rxq(), ids[i], 72);
        rig_put_used(rig_rxq(), rig_take_avail(rig_rxq()), 72);
        assert_int_equal(eth_rx(rig_port, frames, 4), 1); /* the one before is good */
        rig_expect_broken(i + 1);
        assert_int_equal(frames[0].data[0], 1);
        eth_rx_done(rig_port, 1);
        rig_expect_up_again();
    }
    uint16_t id = rig_deliver(60, 1);
    assert_int_equal(eth_rx(rig_port, frames, 4), 1);
    rig_put_used(rig_rxq(), id, 72); /* lent to us now */
    eth_rx_done(rig_port, 1);
    rig_put_used(rig_rxq(), rig_take_avail(rig_rxq()), 72);
    assert_int_equal(eth_rx(rig_port, frames, 4), 2); /* by now it is the device's again: no harm */
    eth_rx_done(rig_port, 2);
    id = rig_deliver(60, 1);
    rig_put_used(rig_rxq(), id, 72); /* the same once more */
    assert_int_equal(eth_rx(rig_port, frames, 4), 1);
    eth_rx_done(rig_port, 1);
    rig_expect_broken(ARRAY_SIZE(ids) + 1);
    assert_int_equal(rig_rx_errors(), ARRAY_SIZE(ids) + 1);
    rig_expect_up_again();
}

static void used_index_that_jumps_breaks_the_device(void **state)
{
    (void)state;
    struct eth_rx frames[4];
    void *cookies[4];

    rig_used(rig_rxq())->idx = 33;
    assert_int_equal(eth_rx(rig_port, frames, 4), 0);
    rig_expect_broken(1);
    rig_expect_up_again();
    rig_used(rig_rxq())->idx = (uint16_t)(rig_used(rig_rxq())->idx - 1); /* backwards */
    assert_int_equal(eth_rx(rig_port, frames, 4), 0);
    rig_expect_broken(2);
    rig_expect_up_again();
    assert_int_equal(rig_send(0, 60, 1), STATUS_OK); /* not flushed: not given */
    rig_used(rig_txq())->idx = 1;
    assert_int_equal(eth_tx_reap(rig_port, cookies, 4), 0);
    rig_expect_broken(3);
    rig_expect_reaped(0);
    rig_expect_up_again();
}

static void tx_frame_that_was_not_given_breaks_the_device(void **state)
{
    (void)state;
    static const uint32_t ids[] = {16, 0xffffffff, 7, 1}; /* 7: free; 1: inside of a frame */
    void *cookies[4];

    for (uint32_t i = 0; i < ARRAY_SIZE(ids); i++) {
        assert_int_equal(rig_send(0, 60, 2), STATUS_OK);
        assert_int_equal(rig_send(1, 60, 2), STATUS_OK);
        eth_tx_flush(rig_port);
        rig_put_used(rig_txq(), ids[i], 0);
        assert_int_equal(eth_tx_reap(rig_port, cookies, 1), 0);
        rig_expect_broken(i + 1);
        assert_int_equal(eth_tx_reap(rig_port, cookies, 1), 1); /* one at a time */
        assert_int_equal(eth_tx_reap(rig_port, cookies, 4), 1);
        assert_int_equal(counter_get(&rig_port->stats.tx_drop_count), 2 * (i + 1));
        rig_expect_up_again();
    }
    assert_int_equal(rig_send(0, 60, 2), STATUS_OK);
    assert_int_equal(rig_send(1, 60, 2), STATUS_OK);
    eth_tx_flush(rig_port);
    uint16_t head = rig_expect_sent(0, 60, 2);
    rig_put_used(rig_txq(), head, 0);
    rig_put_used(rig_txq(), head, 0); /* twice */
    assert_int_equal(eth_tx_reap(rig_port, cookies, 4), 1);
    rig_expect_broken(ARRAY_SIZE(ids) + 1);
    rig_expect_reaped(1);
    rig_expect_up_again();
}

/* --- reset ------------------------------------------------------------------------------------
 */

/* 2.1.2: DEVICE_NEEDS_RESET, told by a configuration interrupt. */
static void needs_reset_frames_come_back_when_it_has_happened(void **state)
{
    (void)state;
    struct eth_rx frames[1];
    void *cookies[4];

    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(rig_send(i, 60, 3), STATUS_OK);
    }
    eth_tx_flush(rig_port);
    native_cpu_become(CORE);
    assert_false(eth_arm(rig_port, true));
    rig_model.reset_reads = 3;
    rig_model.status |= VIRTIO_STATUS_NEEDS_RESET;
    assert_int_equal(eth_rx(rig_port, frames, 1), 0);
    assert_int_equal(rig_net.state, VIRTIO_NET_UP); /* nobody has said so yet */
    rig_model.handlers[0](rig_model.args[0]);
    assert_int_equal(rig_model.woken, 1u << CORE);
    assert_int_equal(eth_rx(rig_port, frames, 1), 0);
    rig_expect_broken(1);
    assert_int_equal(rig_model.statuses[0], 0);
    assert_true(eth_arm(rig_port, true));                   /* turns are needed */
    assert_int_equal(eth_tx_reap(rig_port, cookies, 4), 0); /* the device may still read them */
    assert_int_equal(rig_send(2, 60, 3), STATUS_OK);        /* lost, as on a wire */
    eth_tx_flush(rig_port);
    assert_int_equal(eth_rx(rig_port, frames, 1), 0);
    assert_int_equal(eth_tx_reap(rig_port, cookies, 4), 3);
    assert_int_equal(counter_get(&rig_port->stats.tx_drop_count), 3);
    rig_model.reset_reads = 0;
    rig_expect_up_again();
    assert_int_equal(rig_send(3, 60, 1), STATUS_OK);
    eth_tx_flush(rig_port);
    rig_put_used(rig_txq(), rig_expect_sent(3, 60, 1), 0);
    rig_expect_reaped(3);
}

static void restart_waits_for_reaping_and_for_a_second(void **state)
{
    (void)state;
    struct eth_rx frames[1];

    assert_int_equal(rig_send(0, 60, 1), STATUS_OK);
    rig_used(rig_rxq())->idx = 100;
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(eth_rx(rig_port, frames, 1), 0);
    }
    assert_int_equal(rig_net.state, VIRTIO_NET_DOWN);
    rig_expect_reaped(0);
    assert_int_equal(eth_rx(rig_port, frames, 1), 0);
    assert_int_equal(rig_net.state, VIRTIO_NET_UP);
    rig_used(rig_rxq())->idx = 100;
    native_clock_advance(NS_PER_S - 1);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(eth_rx(rig_port, frames, 1), 0);
    }
    assert_int_equal(rig_net.state, VIRTIO_NET_DOWN);
    assert_true(eth_arm(rig_port, true));
    native_clock_advance(1);
    assert_int_equal(eth_rx(rig_port, frames, 1), 0);
    assert_int_equal(rig_net.state, VIRTIO_NET_UP);
}

static void restart_that_fails_leaves_a_dead_port_that_drops(void **state)
{
    (void)state;
    struct eth_rx frames[1];
    void *cookies[COOKIES];

    rig_used(rig_rxq())->idx = 100;
    rig_model.offered &= ~VIRTIO_NET_F_STATUS; /* the device is another one now */
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(eth_rx(rig_port, frames, 1), 0);
    }
    assert_int_equal(rig_net.state, VIRTIO_NET_DEAD);
    assert_int_not_equal(rig_model.status & VIRTIO_STATUS_FAILED, 0);
    assert_false(eth_arm(rig_port, true));
    for (uint32_t i = 0; i < 16; i++) {
        assert_int_equal(rig_send(i, 60, 8), STATUS_OK);
    }
    assert_int_equal(rig_send(16, 60, 8), STATUS_AGAIN);
    eth_tx_flush(rig_port);
    assert_int_equal(eth_tx_reap(rig_port, cookies, COOKIES), 16);
    assert_int_equal(counter_get(&rig_port->stats.tx_drop_count), 16);
}

static void link_changes_are_seen_after_the_interrupt(void **state)
{
    (void)state;
    struct eth_rx frames[1];

    rig_model.config.status = 0;
    rig_model.handlers[0](rig_model.args[0]);
    assert_true(eth_arm(rig_port, true));
    assert_int_equal(eth_rx(rig_port, frames, 1), 0);
    assert_false(rig_port->link_up);
    assert_false(eth_arm(rig_port, true));
    rig_model.config.status = VIRTIO_NET_STATUS_LINK_UP;
    rig_model.handlers[0](rig_model.args[0]);
    (void)rig_deliver(60, 1);
    assert_int_equal(eth_rx(rig_port, frames, 1), 1);
    eth_rx_done(rig_port, 1);
    assert_true(rig_port->link_up);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_UP(rx_buffer_that_was_not_given_breaks_the_device),
        RIG_UP(used_index_that_jumps_breaks_the_device),
        RIG_UP(tx_frame_that_was_not_given_breaks_the_device),
        RIG_UP(needs_reset_frames_come_back_when_it_has_happened),
        RIG_UP(restart_waits_for_reaping_and_for_a_second),
        RIG_UP(restart_that_fails_leaves_a_dead_port_that_drops),
        RIG_UP(link_changes_are_seen_after_the_interrupt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
