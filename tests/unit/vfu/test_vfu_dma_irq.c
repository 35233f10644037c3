/*
 * SET_IRQS in all its forms, DMA windows: what a client can map, unmap and get wrong.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "spec/nvme.h"
#include "vfu/rig.h"

#define SET_FDS  (VFU_IRQ_DATA_EVENTFD | VFU_IRQ_ACTION_TRIGGER)
#define SET_NONE (VFU_IRQ_DATA_NONE | VFU_IRQ_ACTION_TRIGGER)

/* --- interrupts --------------------------------------------------------------------------------
 */

static void irq_info_only_msix_has_vectors(void **state)
{
    struct fixture *f = *state;

    for (uint32_t index = 0; index < 5; index++) {
        struct vfu_irq_info info = {.argsz = sizeof(info), .index = index};
        assert_int_equal(
            client_call(&f->client, VFU_CMD_IRQ_GET_INFO, &info, sizeof(info), NULL, 0), 0);
        memcpy(&info, f->client.payload, sizeof(info));
        assert_int_equal(info.count, index == VFU_IRQ_MSIX ? 65 : 0);
    }
    struct vfu_irq_info info = {.argsz = sizeof(info), .index = 5};
    assert_int_equal(client_call(&f->client, VFU_CMD_IRQ_GET_INFO, &info, sizeof(info), NULL, 0),
                     EINVAL);
}

static void irq_set_partial_range_set_and_cleared(void **state)
{
    struct fixture *f = *state;
    int fds[3];

    for (uint32_t i = 0; i < 3; i++) {
        fds[i] = eventfd(0, EFD_CLOEXEC);
    }
    assert_int_equal(client_irq_set(&f->client, SET_FDS, VFU_IRQ_MSIX, 62, 3, fds, 3), 0);
    assert_true(f->vector_fd[61] < 0 && f->vector_fd[62] >= 0 && f->vector_fd[64] >= 0);
    assert_int_equal(f->commit_count, 1);
    assert_int_equal(client_irq_set(&f->client, SET_FDS, VFU_IRQ_MSIX, 63, 1, NULL, 0), 0);
    assert_true(f->vector_fd[62] >= 0 && f->vector_fd[63] < 0 && f->vector_fd[64] >= 0);
    assert_int_equal(client_irq_set(&f->client, SET_NONE, VFU_IRQ_MSIX, 0, 0, NULL, 0), 0);
    assert_true(f->vector_fd[62] < 0 && f->vector_fd[64] < 0);
    for (uint32_t i = 0; i < 3; i++) {
        close(fds[i]);
    }
}

static void irq_set_wrong_combinations_invalid(void **state)
{
    struct fixture *f = *state;
    int fds[2] = {eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC)};
    static const struct {
        uint32_t flags;
        uint32_t index;
        uint32_t start;
        uint32_t count;
        uint32_t fd_count;
    } bad[] = {
        {SET_FDS, VFU_IRQ_MSIX, 0, 2, 1}, /* fewer descriptors than vectors */
        {SET_FDS, VFU_IRQ_MSIX, 0, 1, 2},
        {SET_FDS, VFU_IRQ_MSIX, 0, 0, 0},
        {SET_FDS, VFU_IRQ_MSIX, 65, 1, 1}, /* beyond the table */
        {SET_FDS, VFU_IRQ_MSIX, 64, 2, 2},
        {SET_FDS, VFU_IRQ_MSIX, UINT32_MAX, 1, 1},
        {SET_FDS, VFU_IRQ_MSIX, 1, UINT32_MAX, 0},
        {SET_FDS, VFU_IRQ_INTX, 0, 1, 1}, /* no such interrupts */
        {SET_FDS, VFU_IRQ_MSI, 0, 1, 1},
        {SET_FDS, 5, 0, 1, 1},
        {VFU_IRQ_ACTION_TRIGGER, VFU_IRQ_MSIX, 0, 1, 0}, /* no data */
        {SET_FDS | VFU_IRQ_DATA_NONE, VFU_IRQ_MSIX, 0, 1, 1},
        {VFU_IRQ_DATA_EVENTFD, VFU_IRQ_MSIX, 0, 1, 1},                       /* no action */
        {SET_FDS | BIT32(3), VFU_IRQ_MSIX, 0, 1, 1},                         /* two actions */
        {VFU_IRQ_DATA_NONE | BIT32(3), VFU_IRQ_MSIX, 0, 1, 0},               /* mask */
        {SET_FDS | BIT32(9), VFU_IRQ_MSIX, 0, 1, 1},                         /* unknown flag */
        {VFU_IRQ_DATA_BOOL | VFU_IRQ_ACTION_TRIGGER, VFU_IRQ_MSIX, 0, 2, 0}, /* data missing */
    };

    for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(client_irq_set(&f->client, bad[i].flags, bad[i].index, bad[i].start,
                                        bad[i].count, fds, bad[i].fd_count),
                         EINVAL);
    }
    assert_int_equal(client_irq_set(&f->client, SET_FDS, VFU_IRQ_MSIX, 0, 1, &f->ram_fd, 1),
                     EINVAL); /* not an eventfd */
    assert_int_equal(f->commit_count, 0);
    assert_int_equal(client_irq_set(&f->client, SET_NONE, VFU_IRQ_INTX, 0, 0, NULL, 0), 0);
    assert_int_equal(f->commit_count, 0);
    close(fds[0]);
    close(fds[1]);
}

static void irq_set_trigger_none_and_bool(void **state)
{
    struct fixture *f = *state;
    struct {
        struct vfu_irq_set set;
        uint8_t wanted[4];
    } request = {.set = {.argsz = 24,
                         .flags = VFU_IRQ_DATA_BOOL | VFU_IRQ_ACTION_TRIGGER,
                         .index = VFU_IRQ_MSIX,
                         .start = 5,
                         .count = 4},
                 .wanted = {1, 0, 1, 0}};

    assert_int_equal(client_call(&f->client, VFU_CMD_IRQ_SET, &request, sizeof(request), NULL, 0),
                     0);
    assert_int_equal(f->trigger_count, 2);
    assert_int_equal(client_irq_set(&f->client, SET_NONE, VFU_IRQ_MSIX, 0, 3, NULL, 0), 0);
    assert_int_equal(f->trigger_count, 5);
}

/* --- windows -----------------------------------------------------------------------------------
 */

static void dma_map_wrong_fields_refused(void **state)
{
    struct fixture *f = *state;
    static const struct {
        uint64_t addr;
        uint64_t size;
        uint64_t offset;
        uint32_t flags;
    } bad[] = {
        {0, 0, 0, 3},
        {UINT64_MAX - 0xfff, 0x2000, 0, 3},
        {0, 0x1000, UINT64_MAX, 3},
        {0, UINT64_MAX, 0, 3},
        {0, (uint64_t)INT64_MAX, 4096, 3},
        {0, 0x1000, 0, 0},    /* neither read nor write */
        {0, 0x1000, 0, 0x13}, /* unknown flag */
    };

    for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(client_dma_map(&f->client, bad[i].addr, bad[i].size, bad[i].offset,
                                        bad[i].flags, f->ram_fd),
                         EINVAL);
    }
    struct vfu_dma_map map = {.argsz = 31, .flags = 3, .size = 0x1000};
    assert_int_equal(client_call(&f->client, VFU_CMD_DMA_MAP, &map, sizeof(map), NULL, 0), EINVAL);
    int fds[2] = {f->ram_fd, f->ram_fd};
    map.argsz = 32;
    assert_int_equal(client_call(&f->client, VFU_CMD_DMA_MAP, &map, sizeof(map), fds, 2), EINVAL);
    assert_int_equal(f->server.dma.count, 0);
}

static void dma_map_overlap_refused(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(client_dma_map(&f->client, 0x10000, 0x10000, 0, 3, f->ram_fd), 0);
    assert_int_equal(client_dma_map(&f->client, 0x10000, 0x10000, 0, 3, f->ram_fd), EEXIST);
    assert_int_equal(client_dma_map(&f->client, 0xf000, 0x2000, 0, 3, f->ram_fd), EEXIST);
    assert_int_equal(client_dma_map(&f->client, 0x1f000, 0x1000, 0, 3, -1), EEXIST);
    assert_int_equal(client_dma_map(&f->client, 0, 0x100000, 0, 3, f->ram_fd), EEXIST);
    assert_int_equal(client_dma_map(&f->client, 0x20000, 0x1000, 0, 3, f->ram_fd), 0);
    assert_int_equal(client_dma_map(&f->client, 0xf000, 0x1000, 0, 3, f->ram_fd), 0);
}

static void dma_map_unreachable_recorded_but_not_for_nic(void **state)
{
    struct fixture *f = *state;
    int other = memfd_create("other", MFD_CLOEXEC);

    assert_int_equal(ftruncate(other, RIG_OTHER_BYTES), 0);
    assert_int_equal(client_dma_map(&f->client, 0xc0000, 0x1000, 0, 1, other), 0);
    assert_int_equal(client_dma_map(&f->client, 0xd0000, 0x1000, 0, 3, -1), 0);
    assert_int_equal(client_dma_map(&f->client, 0x0, 0x1000, 0x5000, 1, f->ram_fd), 0);
    assert_int_equal(f->link.window_count, 1);
    assert_int_equal(f->link.windows[0].target, 0x5000);
    assert_int_equal(f->link.windows[0].flags, LINK_WINDOW_READ);
    assert_int_equal(client_dma_unmap(&f->client, 0xc0000, 0x1000, 0), 0);
    assert_int_equal(client_dma_unmap(&f->client, 0xd0000, 0x1000, 0), 0);
    close(other);
}

static void dma_remap_low_memory_as_firmware_does(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(client_dma_map(&f->client, 0xc0000, 0x40000, 0xc0000, 1, f->ram_fd), 0);
    for (uint32_t round = 0; round < 8; round++) {
        assert_int_equal(client_dma_unmap(&f->client, 0xc0000, 0x40000, 0), 0);
        for (uint32_t i = 0; i < 16; i++) {
            assert_int_equal(client_dma_map(&f->client, 0xc0000 + i * 0x4000, 0x4000,
                                            0xc0000 + i * 0x4000, i % 2 ? 1 : 3, f->ram_fd),
                             0);
        }
        assert_int_equal(f->link.window_count, 16);
        assert_int_equal(client_dma_unmap(&f->client, 0xc0000, 0x40000, 0), 0);
        struct vfu_dma_unmap reply;
        memcpy(&reply, f->client.payload, sizeof(reply));
        assert_int_equal(reply.size, 0x40000);
        assert_int_equal(client_dma_map(&f->client, 0xc0000, 0x40000, 0xc0000, 1, f->ram_fd), 0);
    }
}

static void dma_map_table_full_refused_until_room(void **state)
{
    struct fixture *f = *state;

    for (uint32_t i = 0; i < LIMIT_DMA_WINDOWS; i++) {
        assert_int_equal(client_dma_map(&f->client, i * 0x2000, 0x1000, 0, 3, f->ram_fd), 0);
    }
    assert_int_equal(client_dma_map(&f->client, 0x900000, 0x1000, 0, 3, f->ram_fd), ENOSPC);
    assert_int_equal(client_dma_unmap(&f->client, 0, 0x1000, 0), 0);
    assert_int_equal(client_dma_map(&f->client, 0x900000, 0x1000, 0, 3, f->ram_fd), 0);
    for (uint32_t i = 0; i < VFU_DMA_WINDOWS_MAX - LIMIT_DMA_WINDOWS; i++) {
        assert_int_equal(client_dma_map(&f->client, 0x1000000 + i * 0x1000, 0x1000, 0, 3, -1), 0);
    }
    assert_int_equal(client_dma_map(&f->client, 0x8000000, 0x1000, 0, 3, -1), ENOSPC);
}

static void dma_unmap_wrong_ranges_refused(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(client_dma_map(&f->client, 0x10000, 0x10000, 0, 3, f->ram_fd), 0);
    assert_int_equal(client_dma_unmap(&f->client, 0x10000, 0x8000, 0), EINVAL); /* cuts it */
    assert_int_equal(client_dma_unmap(&f->client, 0x18000, 0x10000, 0), EINVAL);
    assert_int_equal(client_dma_unmap(&f->client, 0, 0x18000, 0), EINVAL);
    assert_int_equal(client_dma_unmap(&f->client, 0x20000, 0x1000, 0), ENOENT);
    assert_int_equal(client_dma_unmap(&f->client, 0, 0, 0), EINVAL);
    assert_int_equal(client_dma_unmap(&f->client, UINT64_MAX, 2, 0), EINVAL);
    assert_int_equal(client_dma_unmap(&f->client, 0x10000, 0x10000, VFU_UNMAP_GET_DIRTY), ENOTSUP);
    assert_int_equal(client_dma_unmap(&f->client, 0x10000, 0x10000, 8), EINVAL);
    assert_int_equal(f->server.dma.count, 1);
}

static void dma_unmap_all_removes_all(void **state)
{
    struct fixture *f = *state;

    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(
            client_dma_map(&f->client, i * 0x1000, 0x1000, 0, 3, i % 2 ? f->ram_fd : -1), 0);
    }
    assert_int_equal(client_dma_unmap(&f->client, 0, 0x1000, VFU_UNMAP_ALL), EINVAL);
    assert_int_equal(client_dma_unmap(&f->client, 0, 0, VFU_UNMAP_ALL), 0);
    assert_int_equal(f->server.dma.count, 0);
    assert_int_equal(f->link.window_count, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        T(irq_info_only_msix_has_vectors),
        T(irq_set_partial_range_set_and_cleared),
        T(irq_set_wrong_combinations_invalid),
        T(irq_set_trigger_none_and_bool),
        T(dma_map_wrong_fields_refused),
        T(dma_map_overlap_refused),
        T(dma_map_unreachable_recorded_but_not_for_nic),
        T(dma_remap_low_memory_as_firmware_does),
        T(dma_map_table_full_refused_until_room),
        T(dma_unmap_wrong_ranges_refused),
        T(dma_unmap_all_removes_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
