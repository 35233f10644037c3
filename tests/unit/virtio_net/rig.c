/*
 * See rig.h.
 */
#include "virtio_net/rig.h"

#include <stdlib.h>
#include <string.h>
#include "hal/drivers/virtio_net.c"
#include "hal/drivers/virtio_net_start.c"
#include "hal/drivers/virtio_pci.c"
#include "hal/native/native.h"

struct rig_model rig_model;

struct virtio_net rig_net;
struct eth_port *rig_port = &rig_net.port;
void *rig_net_memory;
static uint8_t frame_memory[64][ETH_TX_HEADROOM_BYTES + 2 + MTU + 100] ALIGNED(64);
char rig_names[COOKIES];

/* --- the device: registers --------------------------------------------------------------------
 */

static void model_reset(void)
{
    rig_model.status = 0;
    rig_model.accepted = 0;
    memset(rig_model.queues, 0, sizeof(rig_model.queues));
    for (uint32_t i = 0; i < 2; i++) {
        rig_model.queues[i].size = rig_model.queue_sizes[i];
        rig_model.queues[i].vector = VIRTIO_NO_VECTOR;
    }
}

static void status_write(uint8_t value)
{
    assert_true(rig_model.status_count < ARRAY_SIZE(rig_model.statuses));
    rig_model.statuses[rig_model.status_count++] = value;
    if (value == 0) {
        rig_model.resetting = rig_model.reset_reads;
        if (rig_model.resetting == 0) {
            model_reset();
        }
        return;
    }
    if (rig_model.refuses_features) {
        value &= (uint8_t)~VIRTIO_STATUS_FEATURES_OK;
    }
    rig_model.status = value;
}

static uint8_t status_read(void)
{
    if (rig_model.resetting != 0 && rig_model.resetting != UINT32_MAX &&
        --rig_model.resetting == 0) {
        model_reset();
    }
    return rig_model.status;
}

static uint64_t common_read(uint32_t offset, unsigned bits)
{
    struct queue *q = &rig_model.queues[rig_model.selected & 1];
    switch (offset) {
    case 0x04:
        assert_int_equal(bits, 32);
        return rig_model.device_select > 1 ? 0
                                           : rig_model.offered >> (32 * rig_model.device_select);
    case 0x10:
        return rig_model.config_vector;
    case 0x12:
        return 2;
    case 0x14:
        assert_int_equal(bits, 8);
        return status_read();
    case 0x18:
        assert_int_equal(bits, 16);
        return q->size;
    case 0x1a:
        return q->vector;
    case 0x1e:
        return rig_model.selected;
    default:
        fail_msg("read of common register 0x%x", offset);
        return 0;
    }
}

static void common_write(uint32_t offset, unsigned bits, uint64_t value)
{
    struct queue *q = &rig_model.queues[rig_model.selected & 1];
    switch (offset) {
    case 0x00:
        rig_model.device_select = (uint32_t)value;
        break;
    case 0x08:
        rig_model.driver_select = (uint32_t)value;
        break;
    case 0x0c:
        assert_int_equal(rig_model.status & VIRTIO_STATUS_FEATURES_OK, 0);
        rig_model.accepted |= value << (32 * rig_model.driver_select);
        break;
    case 0x10:
        rig_model.config_vector = rig_model.refuses_vectors ? VIRTIO_NO_VECTOR : (uint16_t)value;
        break;
    case 0x14:
        assert_int_equal(bits, 8);
        status_write((uint8_t)value);
        break;
    case 0x16:
        assert_in_range(value, 0, 1);
        rig_model.selected = (uint16_t)value;
        break;
    case 0x18:
        assert_in_range(value, 1, q->size);
        q->size = (uint16_t)value;
        break;
    case 0x1a:
        q->vector = (uint16_t)value;
        break;
    case 0x1c:
        assert_int_equal(value, 1);
        assert_int_not_equal(rig_model.status & VIRTIO_STATUS_FEATURES_OK, 0);
        q->enable = 1;
        break;
    default: /* addresses, in halves (4.1.3.1) */
        assert_in_range(offset, 0x20, 0x34);
        assert_int_equal(bits, 32);
        q->address[(offset - 0x20) / 8] |= value << (offset % 8 * 8);
        break;
    }
}

uint64_t mmio_mock_read(uintptr_t address, unsigned bits)
{
    uint64_t value = 0;
    assert_in_range(address, BAR, BAR + BAR_BYTES - 1);
    uint32_t offset = (uint32_t)(address - BAR);
    if (offset < 0x1000) {
        return common_read(offset, bits);
    }
    assert_in_range(offset, CONFIG_AT, CONFIG_AT + sizeof(rig_model.config) - bits / 8);
    memcpy(&value, (const uint8_t *)&rig_model.config + (offset - CONFIG_AT), bits / 8);
    return value;
}

void mmio_mock_write(uintptr_t address, unsigned bits, uint64_t value)
{
    assert_in_range(address, BAR, BAR + BAR_BYTES - 1);
    uint32_t offset = (uint32_t)(address - BAR);
    if (offset < 0x1000) {
        common_write(offset, bits, value);
        return;
    }
    assert_int_equal(bits, 16); /* 4.1.5.2 */
    assert_in_range(value, 0, 1);
    assert_int_equal(offset, NOTIFY + 4 * value);
    rig_model.queues[value].kick_count++;
    if ((rig_model.status & VIRTIO_STATUS_DRIVER_OK) == 0) {
        rig_model.was_kicked_early = true;
    }
}

/* --- the bus ----------------------------------------------------------------------------------
 */

const struct fake_rc_device *fake_rc_device(uint32_t index)
{
    return index < rig_model.pci_count ? &rig_model.pci[index] : NULL;
}

uint32_t fake_rc_read32(const struct fake_rc_device *device, uint16_t offset)
{
    assert_non_null(device);
    assert_in_range(offset, 0, sizeof(rig_model.space) - 4);
    return rig_model.space[offset / 4];
}

void fake_rc_enable(const struct fake_rc_device *device, bool memory, bool bus_master)
{
    assert_non_null(device);
    assert_true(memory);
    rig_model.bus_master = bus_master;
}

enum status fake_rc_msix(const struct fake_rc_device *device, uint16_t vector, uint32_t core,
                         void (*handler)(void *arg), void *arg)
{
    assert_non_null(device);
    assert_int_equal(core, 0);
    if (vector >= rig_model.msix_limit) {
        return STATUS_UNSUPPORTED;
    }
    rig_model.handlers[vector] = handler;
    rig_model.args[vector] = arg;
    return STATUS_OK;
}

void fake_cpu_wake(uint32_t core)
{
    rig_model.woken |= 1u << core;
}

/* --- the device: rings ------------------------------------------------------------------------
 */

static struct virtq_desc *descs(const struct queue *q)
{
    return mem_bus_ptr(q->address[0]);
}

struct virtq_avail *rig_avail(const struct queue *q)
{
    return mem_bus_ptr(q->address[1]);
}

struct virtq_used *rig_used(const struct queue *q)
{
    return mem_bus_ptr(q->address[2]);
}

struct queue *rig_rxq(void)
{
    return &rig_model.queues[VIRTIO_NET_QUEUE_RX];
}

struct queue *rig_txq(void)
{
    return &rig_model.queues[VIRTIO_NET_QUEUE_TX];
}

uint32_t rig_avail_count(const struct queue *q)
{
    return (uint16_t)(rig_avail(q)->idx - q->avail_seen);
}

uint16_t rig_take_avail(struct queue *q)
{
    assert_int_not_equal(rig_avail_count(q), 0);
    uint16_t head = rig_avail(q)->ring[q->avail_seen++ & (q->size - 1)];
    assert_in_range(head, 0, q->size - 1);
    return head;
}

void rig_put_used(struct queue *q, uint32_t id, uint32_t len_bytes)
{
    rig_used(q)->ring[q->used_idx++ & (q->size - 1)] = (struct virtq_used_elem){id, len_bytes};
    rig_used(q)->idx = q->used_idx;
}

void rig_set_avail_event(const struct queue *q, uint16_t value)
{
    memcpy(&rig_used(q)->ring[q->size], &value, 2);
}

uint16_t rig_used_event(const struct queue *q)
{
    return rig_avail(q)->ring[q->size];
}

/* Takes a frame with its header off the ring without saying that it was rig_used. */
uint32_t rig_fetch(uint16_t *head, uint8_t *bytes, uint32_t *desc_count)
{
    struct queue *q = rig_txq();
    uint32_t len_bytes = 0;
    uint16_t id = rig_take_avail(q);

    *head = id;
    *desc_count = 0;
    for (;;) {
        const struct virtq_desc *d = &descs(q)[id];
        assert_int_equal(d->flags & VIRTQ_DESC_WRITE, 0);
        assert_int_not_equal(d->len_bytes, 0);
        memcpy(bytes + len_bytes, mem_bus_ptr(d->addr), d->len_bytes);
        len_bytes += d->len_bytes;
        assert_in_range(++*desc_count, 1, ETH_TX_SEGS);
        if ((d->flags & VIRTQ_DESC_NEXT) == 0) {
            return len_bytes;
        }
        id = d->next;
        assert_in_range(id, 0, q->size - 1);
    }
}

/* Fills the next buffer with a frame of `len_bytes`, each byte `fill`; returns the buffer. */
uint16_t rig_deliver(uint32_t len_bytes, uint8_t fill)
{
    struct queue *q = rig_rxq();
    uint16_t id = rig_take_avail(q);
    const struct virtq_desc *d = &descs(q)[id];
    uint8_t *to = mem_bus_ptr(d->addr);

    assert_int_equal(d->flags, VIRTQ_DESC_WRITE);
    assert_true(d->len_bytes >= HDR_BYTES + len_bytes);
    memset(to, 0, HDR_BYTES);
    to[10] = 1;
    memset(to + HDR_BYTES, fill, len_bytes);
    rig_put_used(q, id, HDR_BYTES + len_bytes);
    return id;
}

/* --- fixture ----------------------------------------------------------------------------------
 */

void rig_add_cap(uint32_t at, uint8_t next, uint8_t type, uint8_t bar, uint32_t offset,
                 uint32_t length)
{
    rig_model.space[at / 4] =
        VIRTIO_PCI_CAP_ID | (uint32_t)next << 8 | 20u << 16 | (uint32_t)type << 24;
    rig_model.space[at / 4 + 1] = bar;
    rig_model.space[at / 4 + 2] = offset;
    rig_model.space[at / 4 + 3] = length;
    rig_model.space[at / 4 + 4] = 4; /* notify_off_multiplier */
}

int rig_setup(void **state)
{
    (void)state;
    memset(&rig_model, 0, sizeof(rig_model));
    native_clock_set(NS_PER_S);
    rig_model.offered = OFFERED;
    rig_model.queue_sizes[0] = 32;
    rig_model.queue_sizes[1] = 16;
    rig_model.msix_limit = 2;
    rig_model.config = (struct virtio_net_config){
        .mac = {2, 0, 0, 0, 0, 7}, .status = VIRTIO_NET_STATUS_LINK_UP, .mtu = MTU};
    rig_model.status = 0x0f; /* somebody rig_used it before */
    rig_model.pci_count = 3;
    rig_model.pci[0] = (struct fake_rc_device){.vendor_id = 0x1af4, .device_id = 0x1042};
    rig_model.pci[1] = (struct fake_rc_device){.vendor_id = 0x1af4, .device_id = 0x1041};
    rig_model.pci[1].bar[4].bus_addr = BAR;
    rig_model.pci[1].bar[4].len_bytes = BAR_BYTES;
    rig_model.pci[2] = rig_model.pci[1];
    rig_model.pci[2].device_id = 0x1000;
    rig_model.space[1] = BIT32(20);
    rig_model.space[0x34 / 4] = 0x40;
    rig_add_cap(0x40, 0x54, 5, 0, 0, 0); /* configuration access: of no interest */
    rig_add_cap(0x54, 0x68, VIRTIO_PCI_CAP_NOTIFY, 4, NOTIFY, 0x1000);
    rig_add_cap(0x68, 0x7c, VIRTIO_PCI_CAP_DEVICE, 4, CONFIG_AT, 0x1000);
    rig_add_cap(0x7c, 0, VIRTIO_PCI_CAP_COMMON, 4, 0, 0x1000);
    rig_net_memory = NULL;
    return 0;
}

enum status rig_open_port(void)
{
    return virtio_net_open(&rig_net, &rig_model.pci[1], "eth0");
}

enum status rig_start_port(void)
{
    uint64_t bytes = virtio_net_memory_bytes(&rig_net);

    rig_net_memory = aligned_alloc(CACHE_LINE_BYTES, align_up(bytes, CACHE_LINE_BYTES));
    assert_non_null(rig_net_memory);
    memset(rig_net_memory, 0xa5, bytes); /* undefined */
    return virtio_net_start(&rig_net, rig_net_memory);
}

int rig_setup_up(void **state)
{
    rig_setup(state);
    assert_int_equal(rig_open_port(), STATUS_OK);
    assert_int_equal(rig_start_port(), STATUS_OK);
    rig_model.status_count = 0;
    return 0;
}

/* Nothing under way, everything where it belongs. */
int rig_teardown(void **state)
{
    void *cookies[COOKIES];
    (void)state;
    if (rig_net_memory != NULL) {
        (void)eth_tx_reap(rig_port, cookies, COOKIES);
        if (rig_net.state != VIRTIO_NET_RESETTING) {
            assert_int_equal(rig_net.free_count, rig_net.tx_size);
        }
        assert_int_equal(rig_net.lent_count, 0);
        if (rig_net.state == VIRTIO_NET_UP) {
            assert_int_equal(virtq_given(&rig_net.rx), rig_net.rx_size);
        }
        free(rig_net_memory);
    }
    native_cpu_become(0);
    native_clock_use_real();
    return 0;
}

/* --- helpers of the tests ---------------------------------------------------------------------
 */

uint8_t *rig_frame_data(uint32_t index)
{
    return frame_memory[index % 64] + ETH_TX_HEADROOM_BYTES + 2;
}

/* Sends `len_bytes` of memory `index` cut into `seg_count` pieces. */
enum status rig_send(uint32_t index, uint32_t len_bytes, uint32_t seg_count)
{
    struct mem_seg segs[ETH_TX_SEGS] = {0};
    uint8_t *at = rig_frame_data(index);
    uint32_t left_bytes = len_bytes;

    for (uint32_t i = 0; i < seg_count; i++) {
        uint32_t piece_bytes = i + 1 == seg_count ? left_bytes : i == 0 ? 14 : 3;
        segs[i] = (struct mem_seg){.bus_addr = (uintptr_t)at, .len_bytes = piece_bytes};
        at += piece_bytes;
        left_bytes -= piece_bytes;
    }
    struct eth_tx frame = {segs, seg_count, len_bytes, &rig_names[index % COOKIES]};
    return eth_tx(rig_port, &frame);
}

/* The device takes and uses the next frame, which must be memory `index`. */
uint16_t rig_expect_sent(uint32_t index, uint32_t len_bytes, uint32_t seg_count)
{
    static const uint8_t zero[12];
    uint8_t bytes[MTU + 100];
    uint16_t head;
    uint32_t desc_count;

    assert_int_equal(rig_fetch(&head, bytes, &desc_count), HDR_BYTES + len_bytes);
    assert_int_equal(desc_count, seg_count);
    assert_memory_equal(bytes, zero, sizeof(zero));
    assert_memory_equal(bytes + HDR_BYTES, rig_frame_data(index), len_bytes);
    return head;
}

void rig_expect_reaped(uint32_t index)
{
    void *cookie = NULL;
    assert_int_equal(eth_tx_reap(rig_port, &cookie, 1), 1);
    assert_ptr_equal(cookie, &rig_names[index % COOKIES]);
}

uint64_t rig_rx_errors(void)
{
    return counter_get(&rig_port->stats.rx_error_count);
}

void rig_expect_broken(uint32_t count)
{
    assert_int_equal(rig_net.state, VIRTIO_NET_RESETTING);
    assert_false(rig_port->link_up);
    assert_int_equal(counter_get(&rig_net.break_count), count);
}

void rig_expect_up_again(void)
{
    struct eth_rx frames[1];

    native_clock_advance(2 * NS_PER_S);
    rig_model.status_count = 0;
    for (uint32_t i = 0; i < 4 && rig_net.state != VIRTIO_NET_UP; i++) {
        assert_int_equal(eth_rx(rig_port, frames, 1), 0);
    }
    assert_int_equal(rig_net.state, VIRTIO_NET_UP);
    assert_true(rig_port->link_up);
    assert_int_equal(rig_avail_count(rig_rxq()), 32);
    (void)rig_deliver(77, 3);
    assert_int_equal(eth_rx(rig_port, frames, 1), 1);
    assert_int_equal(frames[0].len_bytes, 77);
    eth_rx_done(rig_port, 1);
}
