/*
 * See virtio_net.h: from a device behind the root complex to a port that is up, and once more after
 * the device broke.
 */
#include "hal/drivers/virtio_net_priv.h"

#include <string.h>
#include "base/assert.h"
#include "base/log.h"
#include "hal/clock.h"
#include "hal/cpu.h"

#define VECTOR_CONFIG 0u
#define VECTOR_RX     1u
#define MTU_ETHERNET  1500u
#define RESTART_NS    NS_PER_S

#define FEATURES_REQUIRED (VIRTIO_F_VERSION_1 | VIRTIO_NET_F_MAC)
#define FEATURES_WANTED                                                                            \
    (FEATURES_REQUIRED | VIRTIO_F_EVENT_IDX | VIRTIO_F_ACCESS_PLATFORM | VIRTIO_F_ORDER_PLATFORM | \
     VIRTIO_NET_F_STATUS)

/* --- queues ------------------------------------------------------------------------------------
 */

static void slots_init(struct virtio_net *net)
{
    for (uint32_t i = 0; i < net->tx_size; i++) {
        net->slots[i] = (struct virtio_net_slot){.next = (uint16_t)(i + 1)};
    }
    net->free_head = 0;
    net->free_count = net->tx_size;
    virtio_net_update_room(net);
}

/* All queues anew, on a device that has accepted its features. */
static enum status configure(struct virtio_net *net)
{
    bool has_event_idx = (net->dev.features & VIRTIO_F_EVENT_IDX) != 0;
    uint8_t *memory = net->memory;
    uint16_t vector = net->has_irq ? VECTOR_CONFIG : VIRTIO_NO_VECTOR;

    virtq_init(&net->rx, memory, net->rx_size, has_event_idx);
    virtq_init(&net->tx, memory + VIRTQ_MEMORY_BYTES(net->rx_size), net->tx_size, has_event_idx);
    slots_init(net);
    if (!virtio_set_config_vector(&net->dev, vector)) {
        return STATUS_UNSUPPORTED;
    }
    vector = net->has_irq ? VECTOR_RX : VIRTIO_NO_VECTOR;
    enum status status = virtio_queue_start(&net->dev, VIRTIO_NET_QUEUE_RX, &net->rx, vector);
    if (status == STATUS_OK) {
        /* Nobody waits for a frame to be sent. */
        status = virtio_queue_start(&net->dev, VIRTIO_NET_QUEUE_TX, &net->tx, VIRTIO_NO_VECTOR);
    }
    if (status != STATUS_OK) {
        return status;
    }
    for (uint32_t i = 0; i < net->rx_size; i++) {
        net->rx.desc[i] = (struct virtq_desc){
            .addr = (uintptr_t)virtio_net_buffer(net, i),
            .len_bytes = HDR_BYTES + net->frame_max_bytes,
            .flags = VIRTQ_DESC_WRITE,
        };
        virtio_net_post(net, i);
    }
    virtio_start(&net->dev);
    virtio_net_publish_posted(net); /* after DRIVER_OK: not notified before (3.1.1) */
    net->state = VIRTIO_NET_UP;
    virtio_net_look_at_config(net);
    return STATUS_OK;
}

void virtio_net_restart(struct virtio_net *net)
{
    uint64_t now_ns = clock_now_ns();

    if (net->free_count != net->tx_size || now_ns < net->restart_ns) {
        return;
    }
    net->restart_ns = now_ns + RESTART_NS;
    enum status status = virtio_negotiate(&net->dev, net->dev.features, net->dev.features);
    if (status == STATUS_OK) {
        status = configure(net);
    }
    if (status != STATUS_OK) {
        LOG_ERROR("virtio_net: %s: not started again: %s", net->port.name, status_text(status));
        virtio_fail(&net->dev);
        net->state = VIRTIO_NET_DEAD;
        return;
    }
    LOG_LIMITED(WARN, "virtio_net: %s: started again", net->port.name);
}

/* --- start -------------------------------------------------------------------------------------
 */

const struct pcie_rc_device *virtio_net_device(uint32_t nth)
{
    const struct pcie_rc_device *device;

    for (uint32_t i = 0; (device = pcie_rc_device(i)) != NULL; i++) {
        bool is_net = device->vendor_id == VIRTIO_PCI_VENDOR_ID &&
                      (device->device_id == VIRTIO_PCI_DEVICE_ID_MODERN + VIRTIO_TYPE_NET ||
                       device->device_id == VIRTIO_PCI_DEVICE_ID_TRANS_NET);
        if (is_net && nth-- == 0) {
            return device;
        }
    }
    return NULL;
}

/* An MTU that is out of our range is left to Ethernet's: without the feature nobody promised to use
 * it (5.1.4.2). */
static enum status read_config(struct virtio_net *net)
{
    uint64_t wanted = FEATURES_WANTED;
    uint16_t mtu_bytes = 0;

    if (net->dev.config_bytes < CONFIG(max_virtqueue_pairs)) {
        return STATUS_BAD_DATA;
    }
    if (net->dev.config_bytes >= sizeof(struct virtio_net_config)) {
        mtu_bytes = mmio_read16(net->dev.config, CONFIG(mtu));
    }
    if (mtu_bytes >= VIRTIO_NET_MTU_MIN && mtu_bytes <= VIRTIO_NET_MTU_MAX) {
        wanted |= VIRTIO_NET_F_MTU;
    }
    enum status status = virtio_negotiate(&net->dev, wanted, FEATURES_REQUIRED);
    if (status != STATUS_OK) {
        return status;
    }
    bool has_mtu = (net->dev.features & VIRTIO_NET_F_MTU) != 0;
    net->port.mtu_bytes = has_mtu ? mtu_bytes : MTU_ETHERNET;
    for (uint32_t i = 0; i < ETH_ADDR_BYTES; i++) {
        net->port.addr[i] = mmio_read8(net->dev.config, CONFIG(mac) + i);
    }
    if ((net->port.addr[0] & 1) != 0) { /* a group's */
        virtio_fail(&net->dev);
        return STATUS_UNSUPPORTED;
    }
    return STATUS_OK;
}

static uint32_t ring_size(const struct virtio_net *net, uint16_t queue)
{
    return min_u32(virtio_queue_size(&net->dev, queue), VIRTIO_NET_RING_MAX);
}

enum status virtio_net_open(struct virtio_net *net, const struct pcie_rc_device *device,
                            const char *name)
{
    memset(net, 0, sizeof(*net));
    net->port.ops = &virtio_net_ops;
    net->port.name = name;
    enum status status = virtio_open(&net->dev, device);
    if (status == STATUS_OK) {
        status = read_config(net);
    }
    if (status != STATUS_OK) {
        return status;
    }
    net->rx_size = ring_size(net, VIRTIO_NET_QUEUE_RX);
    net->tx_size = ring_size(net, VIRTIO_NET_QUEUE_TX);
    if (net->rx_size < VIRTIO_NET_RING_MIN || net->tx_size < VIRTIO_NET_RING_MIN) {
        virtio_fail(&net->dev);
        return STATUS_UNSUPPORTED;
    }
    net->frame_max_bytes =
        ETH_HDR_BYTES + VLAN_BYTES +
        (net->port.mtu_bytes > MTU_ETHERNET ? net->port.mtu_bytes : MTU_ETHERNET);
    net->buffer_bytes =
        (uint32_t)align_up(RX_PAD_BYTES + HDR_BYTES + net->frame_max_bytes, CACHE_LINE_BYTES);
    return STATUS_OK;
}

/* Cuts the memory up; returns what it needs. With NULL it is only counted. */
static uint64_t lay_out(struct virtio_net *net, uint8_t *memory)
{
    uint64_t at = VIRTQ_MEMORY_BYTES(net->rx_size) + VIRTQ_MEMORY_BYTES(net->tx_size);
    uint64_t slots = at;
    uint64_t is_posted = slots + VIRTQ_LINES(net->tx_size * sizeof(struct virtio_net_slot));
    uint64_t lent = is_posted + VIRTQ_LINES(net->rx_size * sizeof(bool));
    uint64_t buffers = lent + VIRTQ_LINES(net->rx_size * sizeof(uint16_t));

    if (memory != NULL) {
        net->memory = memory;
        net->slots = (void *)(memory + slots);
        net->is_posted = (void *)(memory + is_posted);
        net->lent = (void *)(memory + lent);
        net->buffers = memory + buffers;
        memset(net->lent, 0, net->rx_size * sizeof(uint16_t));
    }
    return buffers + (uint64_t)net->rx_size * net->buffer_bytes;
}

uint64_t virtio_net_memory_bytes(const struct virtio_net *net)
{
    struct virtio_net copy = *net;
    return lay_out(&copy, NULL);
}

static void on_config(void *arg)
{
    struct virtio_net *net = arg;

    /* VIRTIO-OWNER: say what is to do, then read whom to wake (both sequentially consistent);
     * partner: net_arm(). */
    atomic_store(&net->needs_look, true);
    cpu_wake(atomic_load(&net->core));
}

static void on_rx(void *arg)
{
    struct virtio_net *net = arg;

    /* The device stored the used index before this: a core that armed without seeing it had stored
     * its number before its full barrier (VIRTQ-ARM). */
    cpu_wake(atomic_load(&net->core));
}

enum status virtio_net_start(struct virtio_net *net, void *memory)
{
    ASSERT(is_aligned((uintptr_t)memory, CACHE_LINE_BYTES));
    (void)lay_out(net, memory);
    net->has_irq = pcie_rc_msix(net->dev.pci, VECTOR_CONFIG, 0, on_config, net) == STATUS_OK &&
                   pcie_rc_msix(net->dev.pci, VECTOR_RX, 0, on_rx, net) == STATUS_OK;
    if (!net->has_irq) {
        LOG_WARN("virtio_net: %s: no interrupts: its core never sleeps", net->port.name);
    }
    enum status status = configure(net);
    if (status != STATUS_OK) {
        virtio_fail(&net->dev);
    }
    return status;
}
