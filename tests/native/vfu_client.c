/*
 * vfio-user NVMe client for tests; see vfu_client.h.
 */
#include "tests/native/vfu_client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "base/shm.h"

enum {
    MSG_VERSION = 1,
    MSG_DMA_MAP = 2,
    MSG_DEVICE_GET_REGION_INFO = 5,
    MSG_REGION_READ = 9,
    MSG_REGION_WRITE = 10,
    MSG_DEVICE_RESET = 13,
};

#define FLAG_REPLY       0x1u
#define FLAG_ERROR       0x20u
#define REGION_BAR0      0
#define REGION_CONFIG    7
#define REGION_FLAG_MMAP 4u
#define MESSAGE_BYTES    4096
#define WAIT_S           30

struct header {
    uint16_t id;
    uint16_t command;
    uint32_t size;
    uint32_t flags;
    uint32_t error;
};

struct region_info {
    uint32_t argsz;
    uint32_t flags;
    uint32_t index;
    uint32_t cap_offset;
    uint64_t size;
    uint64_t offset;
};

NORETURN static void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("vfu_client: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --- messages ------------------------------------------------------------------------------ */

static void send_all(struct vfu_client *client, struct iovec *iov, size_t iov_count, int fd)
{
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = iov_count};
    size_t total = 0;
    for (size_t i = 0; i < iov_count; i++) {
        total += iov[i].iov_len;
    }
    if (fd >= 0) {
        msg.msg_control = control;
        msg.msg_controllen = sizeof(control);
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
    }
    ssize_t sent = sendmsg(client->socket, &msg, MSG_NOSIGNAL);
    if (sent != (ssize_t)total) {
        die("send: %s", sent < 0 ? strerror(errno) : "short");
    }
}

static void receive(struct vfu_client *client, void *to, size_t bytes, int *fd)
{
    uint8_t *p = to;
    while (bytes > 0) {
        char control[CMSG_SPACE(sizeof(int) * 8)];
        struct iovec iov = {p, bytes};
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
        ssize_t got = recvmsg(client->socket, &msg, 0);
        if (got <= 0) {
            die("receive: %s", got < 0 ? strerror(errno) : "the server closed the connection");
        }
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        if (cmsg != NULL && cmsg->cmsg_type == SCM_RIGHTS && fd != NULL) {
            memcpy(fd, CMSG_DATA(cmsg), sizeof(*fd));
        }
        p += got;
        bytes -= (size_t)got;
    }
}

/* Sends a request and waits for its reply; returns the bytes of the reply's payload. */
static size_t call(struct vfu_client *client, uint16_t command, const void *request,
                   size_t request_bytes, int fd, void *reply, size_t reply_bytes, int *reply_fd)
{
    struct header h = {.id = client->next_message++,
                       .command = command,
                       .size = (uint32_t)(sizeof(h) + request_bytes)};
    struct iovec iov[] = {{&h, sizeof(h)}, {(void *)(uintptr_t)request, request_bytes}};
    uint16_t id = h.id;

    send_all(client, iov, 2, fd);
    receive(client, &h, sizeof(h), reply_fd);
    size_t payload = h.size - sizeof(h);
    if (h.id != id || h.command != command || (h.flags & 0xf) != FLAG_REPLY || h.size < sizeof(h) ||
        payload > MESSAGE_BYTES) {
        die("command %u: reply does not fit the request", command);
    }
    uint8_t buffer[MESSAGE_BYTES];
    receive(client, buffer, payload, reply_fd);
    if ((h.flags & FLAG_ERROR) != 0) {
        die("command %u: the server answers %s", command, strerror((int)h.error));
    }
    memcpy(reply, buffer, payload < reply_bytes ? payload : reply_bytes);
    return payload;
}

static void negotiate(struct vfu_client *client)
{
    static const char json[] =
        "{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":1048576}}";
    uint8_t request[4 + sizeof(json)] = {0, 0, 1, 0};
    uint8_t reply[MESSAGE_BYTES];
    memcpy(request + 4, json, sizeof(json));
    size_t bytes =
        call(client, MSG_VERSION, request, sizeof(request), -1, reply, sizeof(reply), NULL);
    if (bytes < 4 || reply[0] != 0 || reply[1] != 0) {
        die("the server speaks another major version");
    }
}

static void region_read(struct vfu_client *client, uint32_t region, uint64_t offset, void *to,
                        uint32_t bytes)
{
    struct {
        uint64_t offset;
        uint32_t region;
        uint32_t count;
        uint8_t data[8];
    } m = {.offset = offset, .region = region, .count = bytes};
    if (call(client, MSG_REGION_READ, &m, 16, -1, &m, sizeof(m), NULL) < 16 + bytes) {
        die("short answer to a region read");
    }
    memcpy(to, m.data, bytes);
}

static void region_write(struct vfu_client *client, uint32_t region, uint64_t offset,
                         const void *from, uint32_t bytes)
{
    struct {
        uint64_t offset;
        uint32_t region;
        uint32_t count;
        uint8_t data[8];
    } m = {.offset = offset, .region = region, .count = bytes};
    memcpy(m.data, from, bytes);
    call(client, MSG_REGION_WRITE, &m, 16 + bytes, -1, &m, sizeof(m), NULL);
}

/* --- set-up -------------------------------------------------------------------------------- */

static void map_doorbells(struct vfu_client *client)
{
    uint8_t reply[MESSAGE_BYTES];
    struct region_info info = {.argsz = sizeof(reply), .index = REGION_BAR0};
    uint64_t area[2];
    int fd = -1;

    size_t bytes = call(client, MSG_DEVICE_GET_REGION_INFO, &info, sizeof(info), -1, reply,
                        sizeof(reply), &fd);
    if (bytes < sizeof(info)) {
        die("short region info");
    }
    memcpy(&info, reply, sizeof(info));
    if ((info.flags & REGION_FLAG_MMAP) == 0 || fd < 0) {
        return;
    }
    if (info.cap_offset < sizeof(info) || bytes < info.cap_offset + 32) {
        die("BAR0 can be mapped, but says not which part");
    }
    memcpy(area, reply + info.cap_offset + 16, sizeof(area));
    client->bar0 =
        mmap(NULL, area[1], PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)(info.offset + area[0]));
    if (client->bar0 == MAP_FAILED) {
        die("mmap of BAR0: %s", strerror(errno));
    }
    client->bar0_offset = area[0];
    client->bar0_bytes = area[1];
    close(fd);
}

static void map_memory(struct vfu_client *client, uint64_t bytes)
{
    struct {
        uint32_t argsz;
        uint32_t flags;
        uint64_t offset;
        uint64_t addr;
        uint64_t size;
    } m = {.argsz = sizeof(m), .flags = 3, .addr = UINT64_C(0x100000000), .size = bytes};
    int fd = memfd_create("host-memory", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0) {
        die("memfd: %s", strerror(errno));
    }
    client->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (client->memory == MAP_FAILED) {
        die("mmap: %s", strerror(errno));
    }
    client->memory_addr = m.addr;
    client->memory_bytes = bytes;
    call(client, MSG_DMA_MAP, &m, sizeof(m), fd, &m, sizeof(m), NULL);
    close(fd);
}

/* Memory space and bus master, which a reset clears. */
static void set_command(struct vfu_client *client)
{
    uint16_t command = 0x6;
    region_write(client, REGION_CONFIG, 4, &command, sizeof(command));
}

void vfu_client_open(struct vfu_client *client, const char *dir, uint64_t memory_bytes)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    *client = (struct vfu_client){0};
    if (snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/cntrl", dir) >=
        (int)sizeof(addr.sun_path)) {
        die("%s/cntrl: too long for a socket", dir);
    }
    client->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    double end = seconds_now() + 5;
    while (connect(client->socket, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
        if (seconds_now() > end) {
            die("%s: %s", addr.sun_path, strerror(errno));
        }
        usleep(1000);
    }
    negotiate(client);
    map_doorbells(client);
    map_memory(client, memory_bytes);
    set_command(client);
    uint64_t cap = vfu_client_read64(client, NVME_REG_CAP);
    client->doorbell_stride_bytes = 4u << FIELD_GET(NVME_CAP_DSTRD, cap);
    client->max_entries = (uint32_t)FIELD_GET(NVME_CAP_MQES, cap) + 1;
}

void vfu_client_close(struct vfu_client *client)
{
    close(client->socket);
    munmap(client->memory, client->memory_bytes);
    if (client->bar0 != NULL) {
        munmap(client->bar0, client->bar0_bytes);
    }
}

void *vfu_client_alloc(struct vfu_client *client, uint64_t bytes)
{
    bytes = align_up(bytes, 4096);
    if (bytes > client->memory_bytes - client->memory_used) {
        die("out of host memory");
    }
    void *p = client->memory + client->memory_used;
    client->memory_used += bytes;
    return p;
}

uint64_t vfu_client_addr(const struct vfu_client *client, const void *memory)
{
    return client->memory_addr + (uint64_t)((const uint8_t *)memory - client->memory);
}

uint32_t vfu_client_read32(struct vfu_client *client, uint32_t offset)
{
    uint32_t value;
    region_read(client, REGION_BAR0, offset, &value, sizeof(value));
    return value;
}

uint64_t vfu_client_read64(struct vfu_client *client, uint32_t offset)
{
    uint64_t value;
    region_read(client, REGION_BAR0, offset, &value, sizeof(value));
    return value;
}

void vfu_client_write32(struct vfu_client *client, uint32_t offset, uint32_t value)
{
    region_write(client, REGION_BAR0, offset, &value, sizeof(value));
}

void vfu_client_write64(struct vfu_client *client, uint32_t offset, uint64_t value)
{
    region_write(client, REGION_BAR0, offset, &value, sizeof(value));
}

void vfu_client_reset(struct vfu_client *client)
{
    uint8_t none[1];
    call(client, MSG_DEVICE_RESET, NULL, 0, -1, none, 0, NULL);
    set_command(client);
}

/* --- queues -------------------------------------------------------------------------------- */

static void queue_init(struct vfu_client *client, struct vfu_queue *queue, uint16_t id,
                       uint16_t entries)
{
    struct nvme_sqe *sq = queue->sq != NULL
                              ? queue->sq
                              : vfu_client_alloc(client, (uint64_t)entries * NVME_SQE_BYTES);
    struct nvme_cqe *cq = queue->cq != NULL
                              ? queue->cq
                              : vfu_client_alloc(client, (uint64_t)entries * NVME_CQE_BYTES);
    memset(cq, 0, (size_t)entries * NVME_CQE_BYTES);
    *queue = (struct vfu_queue){
        .id = id, .entries = entries, .phase = NVME_CQE_PHASE, .sq = sq, .cq = cq};
    if (client->bar0 != NULL) {
        uint64_t base = NVME_DOORBELLS_OFFSET - client->bar0_offset;
        uint8_t *sq_doorbell = client->bar0 + base + 2u * id * client->doorbell_stride_bytes;
        queue->sq_doorbell = (uint32_t *)(void *)sq_doorbell;
        queue->cq_doorbell = (uint32_t *)(void *)(sq_doorbell + client->doorbell_stride_bytes);
    }
}

static void wait_ready(struct vfu_client *client, uint32_t ready)
{
    double end = seconds_now() + WAIT_S;
    while ((vfu_client_read32(client, NVME_REG_CSTS) & NVME_CSTS_RDY) != ready) {
        if (seconds_now() > end) {
            die("CSTS.RDY does not become %u (CSTS 0x%x)", ready,
                vfu_client_read32(client, NVME_REG_CSTS));
        }
    }
}

void vfu_client_enable(struct vfu_client *client)
{
    const uint16_t entries = 32;
    vfu_client_write32(client, NVME_REG_CC, 0);
    wait_ready(client, 0);
    queue_init(client, &client->admin, 0, entries);
    vfu_client_write32(client, NVME_REG_AQA,
                       (uint32_t)(FIELD_PREP(NVME_AQA_ASQS, entries - 1u) |
                                  FIELD_PREP(NVME_AQA_ACQS, entries - 1u)));
    vfu_client_write64(client, NVME_REG_ASQ, vfu_client_addr(client, client->admin.sq));
    vfu_client_write64(client, NVME_REG_ACQ, vfu_client_addr(client, client->admin.cq));
    vfu_client_write32(client, NVME_REG_CC,
                       (uint32_t)(NVME_CC_EN | FIELD_PREP(NVME_CC_IOSQES, NVME_IOSQES) |
                                  FIELD_PREP(NVME_CC_IOCQES, NVME_IOCQES)));
    wait_ready(client, NVME_CSTS_RDY);
}

struct nvme_sqe *vfu_queue_next(struct vfu_queue *queue)
{
    struct nvme_sqe *sqe = &queue->sq[queue->sq_tail];
    queue->sq_tail = (uint16_t)(queue->sq_tail + 1 == queue->entries ? 0 : queue->sq_tail + 1);
    return sqe;
}

static void ring(struct vfu_client *client, uint32_t *doorbell, uint32_t index, uint16_t value)
{
    if (doorbell != NULL) {
        shm_store32_release(doorbell, value); /* partner: the endpoint's acquire load of the tail */
    } else {
        vfu_client_write32(client, NVME_DOORBELLS_OFFSET + index * client->doorbell_stride_bytes,
                           value);
    }
}

void vfu_queue_ring(struct vfu_client *client, struct vfu_queue *queue)
{
    ring(client, queue->sq_doorbell, 2u * queue->id, queue->sq_tail);
}

const struct nvme_cqe *vfu_queue_poll(struct vfu_queue *queue)
{
    const struct nvme_cqe *cqe = &queue->cq[queue->cq_head];
    /* Partner: the endpoint's release store of the entry's last word. */
    if ((shm_load32_acquire(&cqe->dw3) & NVME_CQE_PHASE) != queue->phase) {
        return NULL;
    }
    queue->cq_head++;
    if (queue->cq_head == queue->entries) {
        queue->cq_head = 0;
        queue->phase ^= NVME_CQE_PHASE;
    }
    return cqe;
}

void vfu_queue_ack(struct vfu_client *client, struct vfu_queue *queue)
{
    ring(client, queue->cq_doorbell, 2u * queue->id + 1, queue->cq_head);
}

static uint32_t run(struct vfu_client *client, struct vfu_queue *queue, const struct nvme_sqe *sqe,
                    uint32_t *dw0)
{
    static uint16_t next_cid;
    struct nvme_sqe *slot = vfu_queue_next(queue);
    const struct nvme_cqe *cqe;
    *slot = *sqe;
    slot->cid = next_cid++;
    vfu_queue_ring(client, queue);
    double end = seconds_now() + WAIT_S;
    while ((cqe = vfu_queue_poll(queue)) == NULL) {
        if (seconds_now() > end) {
            die("opcode 0x%x on queue %u: no completion", sqe->opcode, queue->id);
        }
    }
    if ((uint16_t)cqe->dw3 != slot->cid || cqe->sq_id != queue->id) {
        die("completion of another command");
    }
    uint32_t status = cqe->dw3 >> NVME_CQE_STATUS_SHIFT;
    if (dw0 != NULL) {
        *dw0 = cqe->dw0;
    }
    vfu_queue_ack(client, queue);
    return status;
}

nvme_status_t vfu_client_admin(struct vfu_client *client, struct nvme_sqe *sqe, const void *data,
                               uint32_t *dw0)
{
    if (data != NULL) {
        sqe->prp1 = vfu_client_addr(client, data);
    }
    return (nvme_status_t)run(client, &client->admin, sqe, dw0);
}

nvme_status_t vfu_queue_run(struct vfu_client *client, struct vfu_queue *queue,
                            const struct nvme_sqe *sqe)
{
    return (nvme_status_t)run(client, queue, sqe, NULL);
}

void vfu_client_create_queue(struct vfu_client *client, struct vfu_queue *queue, uint16_t id,
                             uint16_t entries)
{
    struct nvme_sqe create = {.opcode = NVME_ADMIN_CREATE_CQ,
                              .cdw10 = (uint32_t)(entries - 1) << 16 | id,
                              .cdw11 = 1}; /* contiguous, polled */
    queue_init(client, queue, id, entries);
    nvme_status_t status = vfu_client_admin(client, &create, queue->cq, NULL);
    if (status != 0) {
        die("create CQ %u: status 0x%x", id, status);
    }
    create.opcode = NVME_ADMIN_CREATE_SQ;
    create.cdw11 = (uint32_t)id << 16 | 1;
    status = vfu_client_admin(client, &create, queue->sq, NULL);
    if (status != 0) {
        die("create SQ %u: status 0x%x", id, status);
    }
}
