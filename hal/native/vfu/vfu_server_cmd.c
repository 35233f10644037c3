/*
 * What each vfio-user command does, for vfu_server.c.
 */
#include "hal/native/vfu/vfu_server_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/bits.h"

/* --- helpers -----------------------------------------------------------------------------------
 */

/* Copies the fixed part of a request; false if the message is shorter. */
static bool request_take(const struct vfu_message *message, void *to, uint32_t bytes)
{
    if (message->payload_bytes < bytes) {
        return false;
    }
    memcpy(to, message->payload, bytes);
    return true;
}

static void reply_put(struct vfu_reply *reply, const void *from, uint32_t bytes)
{
    memcpy(reply->head + reply->head_bytes, from, bytes);
    reply->head_bytes += bytes;
}

/* --- device, regions ---------------------------------------------------------------------------
 */

static int cmd_device_info(struct vfu_server *server, const struct vfu_message *message,
                           struct vfu_reply *reply)
{
    struct vfu_device_info info;
    (void)server;

    if (!request_take(message, &info, sizeof(info)) || info.argsz < sizeof(info)) {
        return -EINVAL;
    }
    info = (struct vfu_device_info){
        .argsz = sizeof(info),
        .flags = VFU_DEVICE_RESETS | VFU_DEVICE_PCI,
        .region_count = VFU_REGION_COUNT,
        .irq_count = VFU_IRQ_COUNT,
    };
    reply_put(reply, &info, sizeof(info));
    return 0;
}

static uint32_t region_bytes(uint32_t index)
{
    if (index == VFU_REGION_BAR0) {
        return LINK_BAR_BYTES;
    }
    return index == VFU_REGION_CONFIG ? VFU_PCI_CONFIG_BYTES : 0;
}

static int cmd_region_info(struct vfu_server *server, const struct vfu_message *message,
                           struct vfu_reply *reply)
{
    struct vfu_region_info info;
    struct vfu_region_sparse sparse = {
        .id = VFU_REGION_CAP_SPARSE_MMAP,
        .version = 1,
        .area_count = 1,
        .offset = LINK_DOORBELL_OFFSET,
        .size = LINK_DOORBELL_BYTES,
    };

    if (!request_take(message, &info, sizeof(info)) || info.argsz < sizeof(info) ||
        info.index >= VFU_REGION_COUNT) {
        return -EINVAL;
    }
    uint32_t argsz = info.argsz;
    info = (struct vfu_region_info){
        .argsz = sizeof(info), .index = info.index, .size = region_bytes(info.index)};
    info.flags = info.size == 0 ? 0 : VFU_REGION_READ | VFU_REGION_WRITE;
    bool mapped = info.index == VFU_REGION_BAR0 && server->config.doorbell_fd >= 0;
    if (mapped) {
        info.flags |= VFU_REGION_MMAP | VFU_REGION_CAPS;
        info.argsz = sizeof(info) + sizeof(sparse);
        info.cap_offset = sizeof(info); /* in the short answer, too: QEMU checks it there */
        info.offset = server->config.doorbell_fd_offset - LINK_DOORBELL_OFFSET;
    }
    reply_put(reply, &info, sizeof(info));
    if (mapped && argsz >= info.argsz) {
        reply_put(reply, &sparse, sizeof(sparse));
        reply->fd = server->config.doorbell_fd;
    }
    return 0;
}

static int cmd_io_fds(struct vfu_server *server, const struct vfu_message *message,
                      struct vfu_reply *reply)
{
    struct vfu_io_fds request;
    (void)server;

    if (!request_take(message, &request, sizeof(request)) || request.argsz < sizeof(request) ||
        request.flags != 0 || request.index >= VFU_REGION_COUNT) {
        return -EINVAL;
    }
    request.argsz = sizeof(request);
    request.count = 0; /* none: doorbells are mapped or trapped */
    reply_put(reply, &request, sizeof(request));
    return 0;
}

/* --- interrupts --------------------------------------------------------------------------------
 */

static uint32_t irq_vectors(const struct vfu_server *server, uint32_t index)
{
    return index == VFU_IRQ_MSIX ? server->link->config.vector_count : 0;
}

static int cmd_irq_info(struct vfu_server *server, const struct vfu_message *message,
                        struct vfu_reply *reply)
{
    struct vfu_irq_info info;

    if (!request_take(message, &info, sizeof(info)) || info.argsz < sizeof(info) ||
        info.index >= VFU_IRQ_COUNT) {
        return -EINVAL;
    }
    info.argsz = sizeof(info);
    info.count = irq_vectors(server, info.index);
    info.flags = info.count == 0 ? 0 : VFU_IRQ_EVENTFD;
    reply_put(reply, &info, sizeof(info));
    return 0;
}

void vfu_server_irqs_clear(struct vfu_server *server)
{
    for (uint32_t v = 0; v < server->link->config.vector_count; v++) {
        server->config.irq_ops->set(server->config.ctx, v, -1);
    }
    server->config.irq_ops->commit(server->config.ctx);
}

/* True if a write to `fd` counts an event and does nothing else. */
static bool is_eventfd(int fd)
{
    char path[32];
    char text[32];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ssize_t len = readlink(path, text, sizeof(text) - 1);
    if (len < 0) {
        return errno == ENOENT; /* no /proc: the client is believed */
    }
    text[len] = 0;
    return strcmp(text, "anon_inode:[eventfd]") == 0;
}

/* Whoever raises an interrupt must neither block nor write into something else. */
static bool fds_are_safe(const struct vfu_message *message)
{
    for (uint32_t i = 0; i < message->fd_count; i++) {
        int fd = message->fds[i];
        if (!is_eventfd(fd) || fcntl(fd, F_SETFL, O_NONBLOCK | fcntl(fd, F_GETFL)) != 0) {
            return false;
        }
    }
    return true;
}

/* One descriptor per vector, or none at all: then nobody listens to these vectors any more. */
static int irq_set_eventfds(struct vfu_server *server, const struct vfu_irq_set *set,
                            const struct vfu_message *message)
{
    if (set->count == 0 || (message->fd_count != 0 && message->fd_count != set->count) ||
        !fds_are_safe(message)) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < set->count; i++) {
        int fd = -1;
        if (message->fd_count != 0) {
            fd = message->fds[i];
            message->fds[i] = -1; /* taken */
        }
        server->config.irq_ops->set(server->config.ctx, set->start + i, fd);
    }
    server->config.irq_ops->commit(server->config.ctx);
    return 0;
}

static void irq_trigger(struct vfu_server *server, const struct vfu_irq_set *set,
                        const uint8_t *wanted)
{
    for (uint32_t i = 0; i < set->count; i++) {
        if (wanted == NULL || wanted[i] != 0) {
            server->config.irq_ops->trigger(server->config.ctx, set->start + i);
        }
    }
}

static int cmd_irq_set(struct vfu_server *server, const struct vfu_message *message,
                       struct vfu_reply *reply)
{
    struct vfu_irq_set set;
    (void)reply;

    if (!request_take(message, &set, sizeof(set)) || set.argsz < sizeof(set) ||
        set.index >= VFU_IRQ_COUNT ||
        (set.flags & ~(VFU_IRQ_DATA_MASK | VFU_IRQ_ACTION_MASK)) != 0 ||
        (set.flags & VFU_IRQ_ACTION_MASK) != VFU_IRQ_ACTION_TRIGGER || /* QEMU masks, not we */
        !range_fits(set.start, set.count, irq_vectors(server, set.index))) {
        return -EINVAL;
    }
    switch (set.flags & VFU_IRQ_DATA_MASK) {
    case VFU_IRQ_DATA_NONE:
        if (set.count == 0 && set.index == VFU_IRQ_MSIX) {
            vfu_server_irqs_clear(server); /* interrupts of this kind are off */
        }
        irq_trigger(server, &set, NULL);
        return 0;
    case VFU_IRQ_DATA_BOOL:
        if (message->payload_bytes - sizeof(set) < set.count) {
            return -EINVAL;
        }
        irq_trigger(server, &set, message->payload + sizeof(set));
        return 0;
    case VFU_IRQ_DATA_EVENTFD:
        return irq_set_eventfds(server, &set, message);
    default:
        return -EINVAL; /* none or several kinds of data */
    }
}

/* --- windows -----------------------------------------------------------------------------------
 */

static int cmd_dma_map(struct vfu_server *server, const struct vfu_message *message,
                       struct vfu_reply *reply)
{
    struct vfu_dma_map map;
    (void)reply;

    if (!request_take(message, &map, sizeof(map)) || message->fd_count > 1) {
        return -EINVAL;
    }
    int result = vfu_dma_map(&server->dma, &map, message->fd_count == 1 ? message->fds[0] : -1);
    if (result < 0) {
        vfu_server_log(server, "window %#llx+%#llx refused: %s", (unsigned long long)map.addr,
                       (unsigned long long)map.size,
                       result == -ENOSPC ? "the window table is full" : strerror(-result));
        return result;
    }
    if (result == VFU_DMA_UNREACHABLE && message->fd_count == 1) {
        vfu_server_log(server, "window %#llx+%#llx is not the host's RAM file: not reachable",
                       (unsigned long long)map.addr, (unsigned long long)map.size);
    } else if (result == VFU_DMA_UNREACHABLE && !server->told_no_fd) {
        server->told_no_fd = true; /* usual for ROMs and for our own BAR: once is enough */
        vfu_server_log(server,
                       "windows without a file descriptor, as %#llx+%#llx, are not reachable",
                       (unsigned long long)map.addr, (unsigned long long)map.size);
    }
    return 0;
}

static int cmd_dma_unmap(struct vfu_server *server, const struct vfu_message *message,
                         struct vfu_reply *reply)
{
    struct vfu_dma_unmap unmap;
    int result = 0;

    if (!request_take(message, &unmap, sizeof(unmap)) || unmap.argsz < sizeof(unmap) ||
        (unmap.flags & ~(VFU_UNMAP_ALL | VFU_UNMAP_GET_DIRTY)) != 0) {
        return -EINVAL;
    }
    if ((unmap.flags & VFU_UNMAP_GET_DIRTY) != 0) {
        return -ENOTSUP;
    }
    if ((unmap.flags & VFU_UNMAP_ALL) != 0) {
        if (unmap.addr != 0 || unmap.size != 0) {
            return -EINVAL;
        }
        unmap.size = vfu_dma_unmap_all(&server->dma, true);
    } else {
        result = vfu_dma_unmap(&server->dma, unmap.addr, unmap.size, &unmap.size);
    }
    unmap.argsz = sizeof(unmap);
    reply_put(reply, &unmap, sizeof(unmap));
    return result;
}

static int cmd_dma_message(struct vfu_server *server, const struct vfu_message *message,
                           struct vfu_reply *reply)
{
    (void)reply;
    vfu_server_log(server,
                   "command %u: memory by messages is not supported, share it by descriptor",
                   message->header.command);
    return -ENOTSUP;
}

/* --- region access -----------------------------------------------------------------------------
 */

/* Reads BAR0: registers and doorbells, MSI-X table, PBA (reads as 0: masking is the VMM's). */
static void bar_read(struct vfu_server *server, uint32_t offset, uint8_t *to, uint32_t bytes)
{
    memset(to, 0, bytes);
    if (offset < LINK_MSIX_TABLE_OFFSET) {
        vfu_link_read(server->link, offset, to, min_u32(bytes, LINK_MSIX_TABLE_OFFSET - offset));
        return;
    }
    uint32_t at = offset - LINK_MSIX_TABLE_OFFSET;
    if (at < sizeof(server->msix_table)) {
        memcpy(to, server->msix_table + at,
               min_u32(bytes, (uint32_t)sizeof(server->msix_table) - at));
    }
}

static void bar_write(struct vfu_server *server, uint32_t offset, const uint8_t *from,
                      uint32_t bytes)
{
    if (offset < LINK_MSIX_TABLE_OFFSET) {
        vfu_link_write(server->link, offset, from, bytes);
        return;
    }
    uint32_t at = offset - LINK_MSIX_TABLE_OFFSET;
    if (at < sizeof(server->msix_table)) {
        memcpy(server->msix_table + at, from,
               min_u32(bytes, (uint32_t)sizeof(server->msix_table) - at));
    }
}

void vfu_server_reset_function(struct vfu_server *server)
{
    vfu_pci_reset(&server->pci);
    memset(server->msix_table, 0, sizeof(server->msix_table));
    vfu_link_reset(server->link);
}

static void config_write(struct vfu_server *server, uint32_t offset, const uint8_t *from,
                         uint32_t bytes)
{
    struct vfu_pci_effect effect = vfu_pci_write(&server->pci, offset, from, bytes);

    if (effect.flr) {
        vfu_server_reset_function(server); /* PCIe 6.6.2 */
    } else if (effect.dma_before != effect.dma_after) {
        vfu_link_set_bus_master(server->link, effect.dma_after);
    }
}

static int access_check(const struct vfu_region_access *access)
{
    uint32_t bytes = access->region < VFU_REGION_COUNT ? region_bytes(access->region) : 0;

    if (bytes == 0 || access->count == 0 || access->count > VFU_MAX_XFER_BYTES ||
        !range_fits(access->offset, access->count, bytes)) {
        return -EINVAL;
    }
    return 0;
}

static int cmd_region_read(struct vfu_server *server, const struct vfu_message *message,
                           struct vfu_reply *reply)
{
    struct vfu_region_access access;

    if (!request_take(message, &access, sizeof(access)) || access_check(&access) != 0) {
        return -EINVAL;
    }
    if (access.region == VFU_REGION_CONFIG) {
        vfu_pci_read(&server->pci, (uint32_t)access.offset, server->data, access.count);
    } else {
        bar_read(server, (uint32_t)access.offset, server->data, access.count);
    }
    reply_put(reply, &access, sizeof(access));
    reply->body = server->data;
    reply->body_bytes = access.count;
    return 0;
}

static int cmd_region_write(struct vfu_server *server, const struct vfu_message *message,
                            struct vfu_reply *reply)
{
    struct vfu_region_access access;

    if (!request_take(message, &access, sizeof(access)) || access_check(&access) != 0 ||
        message->payload_bytes - sizeof(access) != access.count) {
        return -EINVAL;
    }
    const uint8_t *data = message->payload + sizeof(access);
    if (access.region == VFU_REGION_CONFIG) {
        config_write(server, (uint32_t)access.offset, data, access.count);
    } else {
        bar_write(server, (uint32_t)access.offset, data, access.count);
    }
    reply_put(reply, &access, sizeof(access));
    return 0;
}

static int cmd_reset(struct vfu_server *server, const struct vfu_message *message,
                     struct vfu_reply *reply)
{
    (void)message;
    (void)reply;
    vfu_server_reset_function(server);
    return 0;
}

/* --- table -------------------------------------------------------------------------------------
 */

typedef int command_fn(struct vfu_server *server, const struct vfu_message *message,
                       struct vfu_reply *reply);

int vfu_server_command(struct vfu_server *server, const struct vfu_message *message,
                       struct vfu_reply *reply)
{
    static command_fn *const table[] = {
        [VFU_CMD_DMA_MAP] = cmd_dma_map,
        [VFU_CMD_DMA_UNMAP] = cmd_dma_unmap,
        [VFU_CMD_DEVICE_GET_INFO] = cmd_device_info,
        [VFU_CMD_REGION_GET_INFO] = cmd_region_info,
        [VFU_CMD_REGION_GET_IO_FDS] = cmd_io_fds,
        [VFU_CMD_IRQ_GET_INFO] = cmd_irq_info,
        [VFU_CMD_IRQ_SET] = cmd_irq_set,
        [VFU_CMD_REGION_READ] = cmd_region_read,
        [VFU_CMD_REGION_WRITE] = cmd_region_write,
        [VFU_CMD_DMA_READ] = cmd_dma_message,
        [VFU_CMD_DMA_WRITE] = cmd_dma_message,
        [VFU_CMD_DEVICE_RESET] = cmd_reset,
    };
    uint32_t command = message->header.command;

    if (command >= ARRAY_SIZE(table) || table[command] == NULL) {
        return -ENOTSUP;
    }
    return table[command](server, message, reply);
}
