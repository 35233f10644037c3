#include "vfu/rig.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static void on_wake(void *ctx, uint32_t core_mask)
{
    (void)ctx;
    (void)core_mask;
}

static bool on_wait(void *ctx, uint64_t timeout_ns)
{
    (void)ctx;
    (void)timeout_ns;
    return false;
}

static void on_stop(void *ctx, const char *why)
{
    (void)ctx;
    (void)why;
}

static uint64_t on_now(void *ctx)
{
    return ((struct fixture *)ctx)->now_ns;
}

static void on_log(void *ctx, const char *text)
{
    struct fixture *f = ctx;
    assert_true(strlen(text) > 0 && strlen(text) < sizeof(f->last_log));
    memcpy(f->last_log, text, strlen(text) + 1);
}

static int on_map(void *ctx, int fd, uint64_t offset, uint64_t len_bytes, bool writable,
                  uint64_t *target)
{
    struct fixture *f = ctx;
    (void)writable;
    (void)len_bytes;
    if (lseek(fd, 0, SEEK_END) == RIG_OTHER_BYTES) {
        return VFU_DMA_UNREACHABLE;
    }
    f->map_count++;
    *target = offset;
    return 0;
}

static void on_unmap(void *ctx, uint64_t target, uint64_t len_bytes)
{
    (void)target;
    (void)len_bytes;
    ((struct fixture *)ctx)->unmap_count++;
}

static void on_irq_set(void *ctx, uint32_t vector, int fd)
{
    struct fixture *f = ctx;
    if (f->vector_fd[vector] >= 0) {
        close(f->vector_fd[vector]);
    }
    f->vector_fd[vector] = fd;
}

static void on_irq_commit(void *ctx)
{
    ((struct fixture *)ctx)->commit_count++;
}

static void on_irq_trigger(void *ctx, uint32_t vector)
{
    struct fixture *f = ctx;
    (void)vector;
    f->trigger_count++;
}

void rig_serve(void *ctx)
{
    struct fixture *f = ctx;
    if (vfu_server_has_client(&f->server)) {
        vfu_server_turn(&f->server);
    }
}

void rig_adopt(struct fixture *f)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    vfu_server_adopt(&f->server, ends[0]);
    f->client = (struct client){.fd = ends[1], .serve = rig_serve, .ctx = f, .reply_fd = -1};
}

int rig_setup_silent(void **state)
{
    static const struct vfu_link_ops ops = {
        .wake = on_wake, .wait = on_wait, .stop_nic = on_stop, .now_ns = on_now, .log = on_log};
    static const struct vfu_dma_ops dma_ops = {.map = on_map, .unmap = on_unmap};
    static const struct vfu_irq_ops irq_ops = {
        .set = on_irq_set, .commit = on_irq_commit, .trigger = on_irq_trigger};
    struct fixture *f = calloc(1, sizeof(*f));

    f->fd_count_at_start = client_open_fd_count();
    f->block = aligned_alloc(LINK_PAGE_BYTES, LINK_BLOCK_BYTES);
    f->doorbell_fd = memfd_create("doorbells", MFD_CLOEXEC);
    assert_int_equal(ftruncate(f->doorbell_fd, 0x4000), 0);
    f->ram_fd = memfd_create("ram", MFD_CLOEXEC);
    assert_int_equal(ftruncate(f->ram_fd, 0x100000), 0);
    memset(f->vector_fd, 0xff, sizeof(f->vector_fd));
    struct vfu_link_config link_config = {.ops = &ops,
                                          .ctx = f,
                                          .block = f->block,
                                          .function_count = 1,
                                          .vector_count = 65,
                                          .dstrd = 4};
    assert_int_equal(vfu_link_init(&f->link, &link_config), 0);
    struct vfu_server_config config = {.link = &f->link,
                                       .dma_ops = &dma_ops,
                                       .irq_ops = &irq_ops,
                                       .ctx = f,
                                       .vendor_id = LINK_PCI_VENDOR_ID,
                                       .device_id = LINK_PCI_DEVICE_ID,
                                       .doorbell_fd = f->doorbell_fd,
                                       .doorbell_fd_offset = LINK_DOORBELL_OFFSET};
    assert_int_equal(vfu_server_open(&f->server, &config), 0);
    rig_adopt(f);
    *state = f;
    return 0;
}

int rig_setup(void **state)
{
    rig_setup_silent(state);
    struct fixture *f = *state;
    assert_int_equal(client_version(&f->client, "{\"capabilities\":{\"max_msg_fds\":8}}"), 0);
    return 0;
}

int rig_teardown(void **state)
{
    struct fixture *f = *state;

    if (f->client.reply_fd >= 0) {
        close(f->client.reply_fd);
    }
    close(f->client.fd);
    vfu_server_close(&f->server);
    close(f->doorbell_fd);
    close(f->ram_fd);
    assert_int_equal(client_open_fd_count(), f->fd_count_at_start);
    assert_int_equal(f->map_count, f->unmap_count);
    free(f->block);
    free(f);
    return 0;
}
