/*
 * See vfu_server.h: sockets, version, dispatch.
 */
#include "hal/native/vfu/vfu_server_priv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "hal/native/vfu/vfu_json.h"

#define MESSAGES_PER_TURN 64
#define LOG_LINES_PER_S   10
#define LISTEN_BACKLOG    4
#define NS_PER_S          UINT64_C(1000000000)
#define NS_PER_MS         UINT64_C(1000000)

static uint64_t now(const struct vfu_server *server)
{
    const struct vfu_link_config *link = &server->link->config;
    return link->ops->now_ns(link->ctx);
}

void vfu_server_log(struct vfu_server *server, const char *format, ...)
{
    const struct vfu_link_config *link = &server->link->config;
    uint64_t now_ns = now(server);
    char text[200];
    va_list args;

    if (now_ns - server->log_window_ns >= NS_PER_S) {
        server->log_window_ns = now_ns;
        server->log_count = 0;
    }
    if (++server->log_count > LOG_LINES_PER_S) {
        return;
    }
    int used = snprintf(text, sizeof(text), "fn %u: ", (unsigned)link->fn);
    va_start(args, format);
    vsnprintf(text + used, sizeof(text) - (size_t)used, format, args);
    va_end(args);
    link->ops->log(link->ctx, text);
}

/* --- client comes and goes ---------------------------------------------------------------------
 */

void vfu_server_drop(struct vfu_server *server)
{
    if (server->conn.fd < 0) {
        return;
    }
    if (server->negotiated) {
        /* The fence comes first: only then is the host's memory let go. */
        vfu_link_host_left(server->link);
        vfu_dma_unmap_all(&server->dma, false);
        vfu_server_irqs_clear(server);
        vfu_pci_reset(&server->pci);
        memset(server->msix_table, 0, sizeof(server->msix_table));
        vfu_server_log(server, "host gone");
    }
    server->negotiated = false;
    vfu_conn_close(&server->conn);
}

void vfu_server_adopt(struct vfu_server *server, int fd)
{
    vfu_server_drop(server);
    vfu_conn_open(&server->conn, fd);
    server->negotiated = false;
    server->drop = false;
    server->told_no_fd = false;
    server->version_due_ns = now(server) + server->config.version_timeout_ns;
    server->stats.client_count++;
}

/* Whole milliseconds until the client is late; -1: it never is. */
static int version_left_ms(const struct vfu_server *server)
{
    uint64_t now_ns = now(server);

    if (server->conn.fd < 0 || server->negotiated) {
        return -1;
    }
    return now_ns >= server->version_due_ns
               ? 0
               : (int)((server->version_due_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS);
}

static void accept_client(struct vfu_server *server)
{
    int fd = vfu_accept(&server->accept, server->listen_fd, now(server));
    if (fd >= 0) {
        vfu_server_adopt(server, fd);
    } else if (fd != -EAGAIN) {
        vfu_server_log(server, "no client is accepted for now: %s", strerror(-fd));
    }
}

/* --- messages ----------------------------------------------------------------------------------
 */

static int version(struct vfu_server *server, const struct vfu_message *message,
                   struct vfu_reply *reply)
{
    struct vfu_version theirs;
    struct vfu_caps caps = {.max_msg_fds = 1, .max_data_xfer_size = VFU_MAX_XFER_BYTES};

    if (server->negotiated || message->payload_bytes < sizeof(theirs)) {
        return -EINVAL;
    }
    memcpy(&theirs, message->payload, sizeof(theirs));
    if (theirs.major != VFU_VERSION_MAJOR ||
        !vfu_json_caps((const char *)message->payload + sizeof(theirs),
                       message->payload_bytes - sizeof(theirs), &caps)) {
        return -EINVAL;
    }
    struct vfu_version ours = {
        .major = VFU_VERSION_MAJOR,
        .minor = theirs.minor < VFU_VERSION_MINOR ? theirs.minor : (uint16_t)VFU_VERSION_MINOR,
    };
    int text_bytes = snprintf((char *)server->data, sizeof(server->data),
                              "{\"capabilities\":{\"max_msg_fds\":%u,\"max_data_xfer_size\":%u,"
                              "\"max_dma_maps\":%u}}",
                              VFU_MAX_FDS, VFU_MAX_XFER_BYTES, (unsigned)LIMIT_DMA_WINDOWS);
    memcpy(reply->head, &ours, sizeof(ours));
    reply->head_bytes = sizeof(ours);
    reply->body = server->data;
    reply->body_bytes = (uint32_t)text_bytes + 1;
    server->negotiated = true;
    vfu_link_host_came(server->link);
    vfu_server_log(server, "host connected, protocol %u.%u", ours.major, ours.minor);
    return 0;
}

static int dispatch(struct vfu_server *server, const struct vfu_message *message,
                    struct vfu_reply *reply)
{
    if (message->header.command == VFU_CMD_VERSION) {
        int result = version(server, message, reply);
        server->drop |= result != 0;
        return result;
    }
    if (!server->negotiated) {
        server->drop = true;
        return -EINVAL;
    }
    return vfu_server_command(server, message, reply);
}

static void handle(struct vfu_server *server, const struct vfu_message *message)
{
    struct vfu_reply reply = {.fd = -1};
    int result = dispatch(server, message, &reply);
    struct vfu_header header = {
        .id = message->header.id,
        .command = message->header.command,
        .flags = VFU_FLAG_REPLY,
    };

    server->stats.message_count++;
    if (result < 0) {
        server->stats.error_count++;
        header.flags |= VFU_FLAG_ERROR;
        header.error = (uint32_t)-result;
        reply = (struct vfu_reply){.fd = -1};
    }
    header.msg_bytes = (uint32_t)sizeof(header) + reply.head_bytes + reply.body_bytes;
    if ((message->header.flags & VFU_FLAG_NO_REPLY) == 0 &&
        !vfu_conn_send(&server->conn, &header, reply.head, reply.head_bytes, reply.body,
                       reply.body_bytes, reply.fd)) {
        server->drop = true;
    }
}

void vfu_server_turn(struct vfu_server *server)
{
    struct vfu_message message;

    if (server->conn.fd < 0) {
        accept_client(server);
        return;
    }
    if (version_left_ms(server) == 0) {
        vfu_server_log(server, "the client does not say its version and is dropped");
        server->stats.dropped_count++;
        vfu_server_drop(server);
        return;
    }
    for (uint32_t i = 0; i < MESSAGES_PER_TURN; i++) {
        enum vfu_conn_result result = vfu_conn_receive(&server->conn, &message);
        if (result == VFU_CONN_AGAIN) {
            return;
        }
        if (result == VFU_CONN_ENDED) {
            vfu_server_drop(server);
            return;
        }
        handle(server, &message);
        vfu_conn_release(&server->conn);
        if (server->drop) {
            vfu_server_log(server, "the client broke the protocol (command %u) and is dropped",
                           message.header.command);
            server->stats.dropped_count++;
            vfu_server_drop(server);
            return;
        }
    }
}

void vfu_server_reset(struct vfu_server *server)
{
    vfu_server_reset_function(server);
}

int vfu_server_poll_fd(const struct vfu_server *server)
{
    return server->conn.fd >= 0
               ? server->conn.fd
               : vfu_accept_poll_fd(&server->accept, server->listen_fd, now(server));
}

int vfu_server_wait_ms(const struct vfu_server *server)
{
    if (server->conn.fd < 0 && server->listen_fd >= 0 && vfu_server_poll_fd(server) < 0) {
        return VFU_ACCEPT_PAUSE_MS;
    }
    return version_left_ms(server);
}

bool vfu_server_has_client(const struct vfu_server *server)
{
    return server->conn.fd >= 0;
}

/* --- start and end -----------------------------------------------------------------------------
 */

/* True if a server answers at `address`. */
static bool is_served(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return false;
    }
    bool served =
        connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN;
    close(fd);
    return served;
}

int vfu_server_listen(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat info;

    if (strlen(path) >= sizeof(address.sun_path)) {
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (lstat(path, &info) == 0) {
        if (!S_ISSOCK(info.st_mode) || is_served(&address)) {
            return -EADDRINUSE;
        }
        unlink(path);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(fd, LISTEN_BACKLOG) != 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

int vfu_server_open(struct vfu_server *server, const struct vfu_server_config *config)
{
    memset(server, 0, sizeof(*server));
    server->config = *config;
    server->link = config->link;
    server->conn.fd = -1;
    server->listen_fd = -1;
    if (server->config.version_timeout_ns == 0) {
        server->config.version_timeout_ns = VFU_SERVER_VERSION_NS;
    }
    vfu_dma_init(&server->dma, config->link, config->dma_ops, config->ctx);
    vfu_pci_init(&server->pci, &(struct vfu_pci_config){
                                   .vendor_id = config->vendor_id,
                                   .device_id = config->device_id,
                                   .vector_count = config->link->config.vector_count,
                                   .bar_bytes = LINK_BAR_BYTES,
                                   .msix_table_offset = LINK_MSIX_TABLE_OFFSET,
                                   .msix_pba_offset = LINK_MSIX_PBA_OFFSET,
                               });
    if (config->path != NULL) {
        server->listen_fd = vfu_server_listen(config->path);
        return server->listen_fd < 0 ? server->listen_fd : 0;
    }
    return 0;
}

void vfu_server_close(struct vfu_server *server)
{
    vfu_server_drop(server);
    if (server->listen_fd >= 0) {
        close(server->listen_fd);
        server->listen_fd = -1;
        unlink(server->config.path);
    }
}
