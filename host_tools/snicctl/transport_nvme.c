/*
 * An NVMe device of this host: admin commands with the vendor format by Linux' ioctl.
 */
#include "transport.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/nvme_ioctl.h>

/* Status code type 0 (NVMe base specification 1.4, figure 128). */
#define STATUS_MASK             0x7ffu
#define STATUS_INVALID_OPCODE   0x001u
#define STATUS_COMMAND_SEQUENCE 0x00cu
#define COMMAND_TIMEOUT_MS      5000u

static enum transport_result run(struct transport *t, uint8_t opcode, void *data, uint32_t bytes)
{
    struct nvme_admin_cmd command = {
        .opcode = opcode,
        .addr = (uint64_t)(uintptr_t)data,
        .data_len = bytes,
        .cdw10 = bytes / 4,
        .timeout_ms = COMMAND_TIMEOUT_MS,
    };
    int status = ioctl(t->fd, NVME_IOCTL_ADMIN_CMD, &command);

    if (status == 0) {
        return TRANSPORT_OK;
    }
    if (status < 0) {
        snprintf(t->why, sizeof(t->why), "%s",
                 errno == ENOTTY ? "this is no NVMe device" : strerror(errno));
        return errno == EACCES || errno == EPERM ? TRANSPORT_DENIED : TRANSPORT_LOST;
    }
    uint32_t code = (uint32_t)status & STATUS_MASK;
    if (code == STATUS_INVALID_OPCODE) {
        return TRANSPORT_UNKNOWN;
    }
    if (code == STATUS_COMMAND_SEQUENCE) { /* a reset came between */
        return TRANSPORT_SILENT;
    }
    snprintf(t->why, sizeof(t->why), "NVMe status 0x%03x for the vendor command 0x%02x", code,
             opcode);
    return TRANSPORT_LOST;
}

static enum transport_result nvme_send(struct transport *t, const uint8_t *message,
                                       uint32_t len_bytes)
{
    uint8_t data[MGMT_BAND_BYTES] = {0};

    memcpy(data, message, len_bytes);
    return run(t, MGMT_NVME_SEND, data, (len_bytes + 3) / 4 * 4);
}

static enum transport_result nvme_receive(struct transport *t, uint8_t *message,
                                          uint32_t room_bytes, uint32_t *len_bytes,
                                          uint32_t timeout_ms)
{
    uint8_t data[MGMT_BAND_BYTES];

    (void)timeout_ms; /* the answer is there when the request has completed */
    enum transport_result result = run(t, MGMT_NVME_RECEIVE, data, sizeof(data));
    *len_bytes = room_bytes < sizeof(data) ? room_bytes : (uint32_t)sizeof(data);
    memcpy(message, data, *len_bytes);
    return result;
}

static const struct transport_ops nvme_ops = {
    .send = nvme_send,
    .receive = nvme_receive,
};

enum fault transport_open_nvme(struct transport *t, const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd < 0 && (errno == EACCES || errno == EPERM)) {
        return fault_say(FAULT_PERMISSION,
                         "%s: permission denied; admin commands are for root: use sudo", path);
    }
    if (fd < 0) {
        return fault_say(FAULT_NO_DEVICE, "%s: %s", path, strerror(errno));
    }
    memset(t, 0, sizeof(*t));
    t->ops = &nvme_ops;
    t->fd = fd;
    t->message_max = MGMT_BAND_BYTES;
    snprintf(t->name, sizeof(t->name), "%s", path);
    return FAULT_NONE;
}
