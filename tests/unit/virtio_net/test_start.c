/*
 * The start of a virtio network device (VIRTIO 1.2, 3.1.1 and 4.1), good and bad ones.
 */
#include "virtio_net/rig.h"

#include <stdlib.h>
#include <string.h>
#include "hal/clock.h"
#include "hal/native/native.h"

/* --- start ------------------------------------------------------------------------------------
 */

static void device_modern_and_transitional_found_in_order(void **state)
{
    (void)state;
    assert_ptr_equal(virtio_net_device(0), &rig_model.pci[1]);
    assert_ptr_equal(virtio_net_device(1), &rig_model.pci[2]);
    assert_null(virtio_net_device(2));
}

/* 3.1.1: the order of the steps; 2.2: only what was offered and is known. */
static void start_takes_the_steps_in_order(void **state)
{
    (void)state;
    static const uint8_t steps[] = {0x00, 0x01, 0x03, 0x0b, 0x0f};

    assert_int_equal(rig_open_port(), STATUS_OK);
    assert_int_equal(rig_model.accepted, OFFERED & ~(BIT_MRG | BIT64(0) | BIT64(28)));
    assert_int_equal(rig_port->mtu_bytes, MTU);
    assert_memory_equal(rig_port->addr, rig_model.config.mac, 6);
    assert_int_equal(rig_start_port(), STATUS_OK);
    assert_int_equal(rig_model.status_count, sizeof(steps));
    assert_memory_equal(rig_model.statuses, steps, sizeof(steps));
    assert_true(rig_model.bus_master);
    assert_true(rig_port->link_up);
    assert_int_equal(rig_port->tx_room_count, 2);
    assert_int_equal(rig_model.config_vector, 0);
    assert_int_equal(rig_rxq()->vector, 1);
    assert_int_equal(rig_txq()->vector, VIRTIO_NO_VECTOR);
    assert_int_equal(rig_rxq()->enable + rig_txq()->enable, 2);
    assert_int_equal(rig_avail_count(rig_rxq()), 32);
    assert_int_equal(rig_avail_count(rig_txq()), 0);
    assert_int_equal(rig_rxq()->kick_count, 1);
    assert_false(rig_model.was_kicked_early);
    assert_int_equal(
        rig_rxq()->address[0] % 16 + rig_rxq()->address[1] % 2 + rig_rxq()->address[2] % 4, 0);
}

static void open_without_modern_interface_unsupported(void **state)
{
    (void)state;
    rig_model.space[1] = 0;
    assert_int_equal(rig_open_port(), STATUS_UNSUPPORTED);
    rig_model.space[1] = BIT32(20);
    rig_model.space[0x7c / 4] = 0x11; /* some other capability */
    assert_int_equal(rig_open_port(), STATUS_UNSUPPORTED);
    assert_int_equal(rig_model.status_count, 0); /* it was not touched */
}

/* 6.1: a driver may refuse a device that does not offer VERSION_1. */
static void open_without_needed_feature_fails_the_device(void **state)
{
    (void)state;
    rig_model.offered = OFFERED & ~VIRTIO_F_VERSION_1;
    assert_int_equal(rig_open_port(), STATUS_UNSUPPORTED);
    assert_int_not_equal(rig_model.status & VIRTIO_STATUS_FAILED, 0);
    rig_model.offered = OFFERED & ~VIRTIO_NET_F_MAC;
    assert_int_equal(rig_open_port(), STATUS_UNSUPPORTED);
    rig_model.offered = OFFERED;
    rig_model.status_count = 0;
    rig_model.refuses_features = true; /* 3.1.1 step 6: FEATURES_OK does not stay */
    assert_int_equal(rig_open_port(), STATUS_UNSUPPORTED);
    assert_int_not_equal(rig_model.status & VIRTIO_STATUS_FAILED, 0);
    rig_model.refuses_features = false;
    rig_model.status_count = 0;
    rig_model.config.mac[0] = 1;
    assert_int_equal(rig_open_port(), STATUS_UNSUPPORTED);
}

static void open_bad_capability_bad_data(void **state)
{
    (void)state;
    static const uint32_t offsets[] = {0x3004, 0xfffffffc, 0x3002};

    for (uint32_t i = 0; i < ARRAY_SIZE(offsets); i++) {
        rig_add_cap(0x54, 0x68, VIRTIO_PCI_CAP_NOTIFY, 4, offsets[i], 0x1000);
        assert_int_equal(rig_open_port(), STATUS_BAD_DATA);
    }
    rig_add_cap(0x54, 0x68, VIRTIO_PCI_CAP_NOTIFY, 3, NOTIFY, 0x1000); /* an empty BAR */
    assert_int_equal(rig_open_port(), STATUS_BAD_DATA);
    rig_add_cap(0x54, 0x68, VIRTIO_PCI_CAP_NOTIFY, 4, NOTIFY, 0x1000);
    rig_add_cap(0x7c, 0, VIRTIO_PCI_CAP_COMMON, 4, 0, 0x37); /* too short */
    assert_int_equal(rig_open_port(), STATUS_BAD_DATA);
    assert_int_equal(rig_model.status_count, 0);
    /* 4.1.4.1: reserved BAR values are ignored; a loop ends. */
    rig_add_cap(0x7c, 0x40, VIRTIO_PCI_CAP_COMMON, 6, 0, 0x1000);
    assert_int_equal(rig_open_port(), STATUS_UNSUPPORTED);
    rig_add_cap(0x90, 0x40, VIRTIO_PCI_CAP_COMMON, 4, 0, 0x1000);
    rig_model.space[0x7c / 4] = (rig_model.space[0x7c / 4] & ~0xff00u) | 0x9000;
    assert_int_equal(rig_open_port(), STATUS_OK);
}

static void open_device_that_does_not_reset_timed_out(void **state)
{
    (void)state;
    rig_model.reset_reads = 50;
    assert_int_equal(rig_open_port(), STATUS_OK);
    rig_model.reset_reads = UINT32_MAX;
    assert_int_equal(rig_open_port(), STATUS_TIMED_OUT);
}

static void open_odd_queue_sizes_unsupported_or_cut(void **state)
{
    (void)state;
    static const uint16_t bad[] = {0, 8, 24, 0xffff};

    for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++) {
        rig_model.status_count = 0;
        rig_model.queue_sizes[1] = bad[i];
        assert_int_equal(rig_open_port(), STATUS_UNSUPPORTED);
    }
    rig_model.status_count = 0;
    rig_model.queue_sizes[1] = 16384;
    assert_int_equal(rig_open_port(), STATUS_OK);
    assert_int_equal(rig_start_port(), STATUS_OK);
    assert_int_equal(rig_txq()->size, VIRTIO_NET_RING_MAX);
    assert_int_equal(rig_port->tx_room_count, VIRTIO_NET_RING_MAX / ETH_TX_SEGS);
}

static void open_mtu_out_of_range_is_ethernets(void **state)
{
    (void)state;
    static const uint16_t bad[] = {67, 9217};

    for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++) {
        rig_model.config.mtu = bad[i];
        assert_int_equal(rig_open_port(), STATUS_OK);
        assert_int_equal(rig_port->mtu_bytes, 1500);
        assert_int_equal(rig_model.accepted & VIRTIO_NET_F_MTU, 0);
    }
    rig_model.config.mtu = 68;
    rig_model.status_count = 0;
    assert_int_equal(rig_open_port(), STATUS_OK);
    assert_int_equal(rig_port->mtu_bytes, 68);
    assert_true(rig_net.frame_max_bytes + HDR_BYTES >= 1526); /* 5.1.6.3.1 */
}

static void start_refused_vector_or_notify_fails_the_device(void **state)
{
    (void)state;
    assert_int_equal(rig_open_port(), STATUS_OK);
    rig_model.refuses_vectors = true;
    assert_int_equal(rig_start_port(), STATUS_UNSUPPORTED);
    assert_int_not_equal(rig_model.status & VIRTIO_STATUS_FAILED, 0);
    free(rig_net_memory);
    rig_net_memory = NULL;
    rig_model.refuses_vectors = false;
    rig_model.status_count = 0;
    rig_model.space[0x54 / 4 + 3] = 5; /* room for the notification of queue 0 alone */
    assert_int_equal(rig_open_port(), STATUS_OK);
    assert_int_equal(rig_start_port(), STATUS_BAD_DATA);
    free(rig_net_memory);
    rig_net_memory = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_PLAIN(device_modern_and_transitional_found_in_order),
        RIG_PLAIN(start_takes_the_steps_in_order),
        RIG_PLAIN(open_without_modern_interface_unsupported),
        RIG_PLAIN(open_without_needed_feature_fails_the_device),
        RIG_PLAIN(open_bad_capability_bad_data),
        RIG_PLAIN(open_device_that_does_not_reset_timed_out),
        RIG_PLAIN(open_odd_queue_sizes_unsupported_or_cut),
        RIG_PLAIN(open_mtu_out_of_range_is_ethernets),
        RIG_PLAIN(start_refused_vector_or_notify_fails_the_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
