/*
 * Ethernet ports of the qemu-virt board: `-device virtio-net-pci`. A device that cannot be used is
 * told and left out; the board runs without.
 */
#include "boards/qemu-virt/ethernet.h"

#include "base/bits.h"
#include "base/log.h"
#include "hal/drivers/virtio_net.h"

#define PAGE_BYTES 4096u

static struct virtio_net ports[LIMIT_ETH_PORTS];
static const char *const names[] = {"eth0", "eth1", "eth2", "eth3"};
_Static_assert(ARRAY_SIZE(names) == LIMIT_ETH_PORTS, "a name for each port");

/* From the end, so that the pool keeps its alignment; NULL: too much. */
static void *pool_take(struct board *board, uint64_t len_bytes)
{
    len_bytes = align_up(len_bytes, PAGE_BYTES);
    if (board->pool_bytes < len_bytes) {
        return NULL;
    }
    board->pool_bytes -= len_bytes;
    return (uint8_t *)board->pool_base + board->pool_bytes;
}

static enum status port_init(struct board *board, uint32_t index,
                             const struct pcie_rc_device *device)
{
    struct virtio_net *net = &ports[index];
    enum status status = virtio_net_open(net, device, names[index]);

    if (status != STATUS_OK) {
        return status;
    }
    void *memory = pool_take(board, virtio_net_memory_bytes(net));
    if (memory == NULL) {
        return STATUS_NO_SPACE;
    }
    return virtio_net_start(net, memory);
}

void qemu_virt_ethernet_init(struct board *board)
{
    const struct pcie_rc_device *device;

    for (uint32_t i = 0; (device = virtio_net_device(i)) != NULL; i++) {
        if (board->eth_count == LIMIT_ETH_PORTS) {
            LOG_WARN("board: more than %u Ethernet ports", LIMIT_ETH_PORTS);
            return;
        }
        uint32_t index = board->eth_count;
        enum status status = port_init(board, index, device);
        if (status != STATUS_OK) {
            LOG_ERROR("board: virtio-net at %02x:%02x.%u: %s", device->bus, device->device,
                      device->function, status_text(status));
            continue;
        }
        const struct eth_port *port = &ports[index].port;
        LOG_INFO("board: %s: %02x:%02x:%02x:%02x:%02x:%02x, MTU %u, link %s", port->name,
                 port->addr[0], port->addr[1], port->addr[2], port->addr[3], port->addr[4],
                 port->addr[5], port->mtu_bytes, port->link_up ? "up" : "down");
        board->eths[board->eth_count++] = &ports[index].port;
    }
}
