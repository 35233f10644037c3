#include "vfu/client.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REPLY_MS 3000

static void serve(struct client *client)
{
    if (client->serve != NULL) {
        client->serve(client->ctx);
    }
}

bool client_alive(struct client *client)
{
    char byte;
    serve(client);
    ssize_t got = recv(client->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got > 0 || (got < 0 && errno == EAGAIN);
}

void client_send(struct client *client, const void *bytes, size_t len, const int *fds,
                 size_t fd_count)
{
    char control[CMSG_SPACE(64 * sizeof(int))];
    struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd_count > 0) {
        memset(control, 0, sizeof(control));
        msg.msg_control = control;
        msg.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
    }
    if (sendmsg(client->fd, &msg, MSG_NOSIGNAL) < 0) {
        return; /* the reply will not come either */
    }
    serve(client);
}

static void keep_fd(struct client *client, struct msghdr *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            memcpy(&client->reply_fd, CMSG_DATA(c), sizeof(int));
        }
    }
}

static bool receive_all(struct client *client, void *to, size_t bytes)
{
    char control[CMSG_SPACE(4 * sizeof(int))];
    size_t have = 0;

    while (have < bytes) {
        struct iovec iov = {.iov_base = (uint8_t *)to + have, .iov_len = bytes - have};
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
        struct pollfd wait = {.fd = client->fd, .events = POLLIN};
        if (client->serve == NULL && poll(&wait, 1, REPLY_MS) <= 0) {
            return false;
        }
        ssize_t got = recvmsg(client->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (got <= 0) {
            return false;
        }
        keep_fd(client, &msg);
        have += (size_t)got;
    }
    return true;
}

bool client_receive(struct client *client)
{
    if (client->reply_fd >= 0) {
        close(client->reply_fd);
        client->reply_fd = -1;
    }
    if (!receive_all(client, &client->header, sizeof(client->header)) ||
        client->header.msg_bytes < sizeof(client->header)) {
        return false;
    }
    client->payload_bytes = client->header.msg_bytes - (uint32_t)sizeof(client->header);
    return client->payload_bytes <= sizeof(client->payload) &&
           receive_all(client, client->payload, client->payload_bytes);
}

int client_call(struct client *client, uint16_t command, const void *payload, uint32_t bytes,
                const int *fds, size_t fd_count)
{
    static uint8_t message[sizeof(struct vfu_header) + VFU_MAX_PAYLOAD + 64];
    struct vfu_header header = {
        .id = ++client->next_id, .command = command, .msg_bytes = (uint32_t)sizeof(header) + bytes};

    memcpy(message, &header, sizeof(header));
    if (bytes > 0) {
        memcpy(message + sizeof(header), payload, bytes);
    }
    client_send(client, message, header.msg_bytes, fds, fd_count);
    if (!client_receive(client) || client->header.id != header.id ||
        client->header.command != command) {
        return -1;
    }
    if ((client->header.flags & VFU_FLAG_ERROR) != 0) {
        return (int)client->header.error;
    }
    return 0;
}

int client_version(struct client *client, const char *json)
{
    uint8_t payload[512] = {0};
    size_t len = json == NULL ? 0 : strlen(json) + 1;

    payload[2] = 1; /* 0.1 */
    if (json != NULL) {
        memcpy(payload + 4, json, len);
    }
    return client_call(client, VFU_CMD_VERSION, payload, (uint32_t)(4 + len), NULL, 0);
}

int client_dma_map(struct client *client, uint64_t addr, uint64_t size, uint64_t offset,
                   uint32_t flags, int fd)
{
    struct vfu_dma_map map = {
        .argsz = sizeof(map), .flags = flags, .offset = offset, .addr = addr, .size = size};
    return client_call(client, VFU_CMD_DMA_MAP, &map, sizeof(map), &fd, fd >= 0 ? 1 : 0);
}

int client_dma_unmap(struct client *client, uint64_t addr, uint64_t size, uint32_t flags)
{
    struct vfu_dma_unmap unmap = {
        .argsz = sizeof(unmap), .flags = flags, .addr = addr, .size = size};
    return client_call(client, VFU_CMD_DMA_UNMAP, &unmap, sizeof(unmap), NULL, 0);
}

int client_region_read(struct client *client, uint32_t region, uint64_t offset, void *to,
                       uint32_t count)
{
    struct vfu_region_access access = {.offset = offset, .region = region, .count = count};
    int result = client_call(client, VFU_CMD_REGION_READ, &access, sizeof(access), NULL, 0);

    if (result == 0 && client->payload_bytes == sizeof(access) + count) {
        memcpy(to, client->payload + sizeof(access), count);
    }
    return result;
}

int client_region_write(struct client *client, uint32_t region, uint64_t offset, const void *from,
                        uint32_t count)
{
    uint8_t payload[sizeof(struct vfu_region_access) + 4096];
    struct vfu_region_access access = {.offset = offset, .region = region, .count = count};

    memcpy(payload, &access, sizeof(access));
    memcpy(payload + sizeof(access), from, count);
    return client_call(client, VFU_CMD_REGION_WRITE, payload, (uint32_t)sizeof(access) + count,
                       NULL, 0);
}

int client_irq_set(struct client *client, uint32_t flags, uint32_t index, uint32_t start,
                   uint32_t count, const int *fds, size_t fd_count)
{
    struct vfu_irq_set set = {
        .argsz = sizeof(set), .flags = flags, .index = index, .start = start, .count = count};
    return client_call(client, VFU_CMD_IRQ_SET, &set, sizeof(set), fds, fd_count);
}

uint32_t client_read32(struct client *client, uint32_t region, uint64_t offset)
{
    uint32_t value = 0xdeadbeef;
    client_region_read(client, region, offset, &value, sizeof(value));
    return value;
}

int client_write32(struct client *client, uint32_t region, uint64_t offset, uint32_t value)
{
    return client_region_write(client, region, offset, &value, sizeof(value));
}

uint32_t client_open_fd_count(void)
{
    DIR *dir = opendir("/proc/self/fd");
    uint32_t count = 0;

    while (dir != NULL && readdir(dir) != NULL) {
        count++;
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return count;
}
