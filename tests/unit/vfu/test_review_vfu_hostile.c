/*
 * Clients that are nearly right: an access across the end of the doorbells, a reader that takes its
 * replies in small bites, memory that is cut short again and again.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/shm.h"
#include "hal/native/pcie_ep_native_mem.h"
#include "spec/link.h"
#include "vfu/rig.h"

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- region access -----------------------------------------------------------------------------
 */

static void region_write_across_end_of_doorbells_stores_nothing_beyond(void **state)
{
    struct fixture *f = *state;
    const uint8_t *beyond =
        (uint8_t *)f->block + LINK_OFFSET_BAR + LINK_DOORBELL_OFFSET + LINK_DOORBELL_BYTES;
    const uint8_t data[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

    client_region_write(&f->client, VFU_REGION_BAR0, LINK_MSIX_TABLE_OFFSET - 4, data,
                        sizeof(data));
    assert_int_equal(shm_load32(beyond), 0);
    assert_true(client_alive(&f->client));
}

/* Queues are aligned by host address; behind a crooked window they would not be where we load them
 * from, and atomic loads would fault. */
static void dma_map_not_in_whole_pages_invalid(void **state)
{
    struct fixture *f = *state;
    const uint32_t flags = VFU_DMA_READ | VFU_DMA_WRITE;

    assert_int_equal(client_dma_map(&f->client, 0x10001, 0x1000, 0, flags, f->ram_fd), EINVAL);
    assert_int_equal(client_dma_map(&f->client, 0x10000, 0x1000, 0x200, flags, f->ram_fd), EINVAL);
    assert_int_equal(client_dma_map(&f->client, 0x10000, 0x1004, 0, flags, f->ram_fd), EINVAL);
    assert_int_equal(f->map_count, 0);
    assert_int_equal(client_dma_map(&f->client, 0x10000, 0x1000, 0, flags, f->ram_fd), 0);
}

/* --- sending -----------------------------------------------------------------------------------
 */

struct dripper {
    int fd;
    _Atomic bool stop;
};

/* Reads a little, always just before the server would lose its patience. */
static void *drip(void *arg)
{
    struct dripper *d = arg;
    static uint8_t bite[8192];

    while (!atomic_load(&d->stop)) {
        usleep(VFU_CONN_SEND_MS * 1000 / 2);
        if (recv(d->fd, bite, sizeof(bite), MSG_DONTWAIT) == 0) {
            break;
        }
    }
    return NULL;
}

static void send_reader_in_small_bites_costs_no_more_than_the_limit(void **state)
{
    static struct vfu_conn conn;
    static uint8_t body[VFU_MAX_XFER_BYTES];
    struct vfu_header header = {.msg_bytes = sizeof(header) + sizeof(body)};
    struct dripper dripper = {.stop = false};
    const int small = 4096;
    pthread_t thread;
    int ends[2];
    (void)state;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    vfu_conn_open(&conn, ends[0]);
    dripper.fd = ends[1];
    assert_int_equal(pthread_create(&thread, NULL, drip, &dripper), 0);
    uint64_t start_ms = now_ms();
    bool sent = vfu_conn_send(&conn, &header, NULL, 0, body, sizeof(body), -1);
    uint64_t took_ms = now_ms() - start_ms;
    atomic_store(&dripper.stop, true);
    vfu_conn_close(&conn);
    pthread_join(thread, NULL);
    close(ends[1]);
    assert_false(sent);
    assert_true(took_ms < VFU_CONN_SEND_MS * 3 / 2);
}

/* --- memory ------------------------------------------------------------------------------------
 */

#define PIECE_BYTES 0x10000u

static bool is_mapped(uint64_t address)
{
    return msync((void *)(uintptr_t)address, 4096, MS_ASYNC) == 0 || errno != ENOMEM;
}

/* Whoever cuts and reconnects in a loop must not use up the addresses of the process. */
static void unmap_after_file_was_cut_gives_addresses_back(void **state)
{
    static struct native_mem mem;
    int notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int fd = memfd_create("ram", MFD_CLOEXEC);
    uint64_t target = 0;
    (void)state;

    assert_int_equal(native_mem_open(&mem, notify_fd), 0);
    assert_int_equal(native_mem_catch(), 0);
    assert_int_equal(ftruncate(fd, PIECE_BYTES), 0);
    assert_int_equal(native_mem_map(&mem, fd, 0, PIECE_BYTES, true, &target), 0);
    assert_int_equal(ftruncate(fd, 0), 0);
    shm_store64((void *)(uintptr_t)target, 1); /* SIGBUS, repaired */
    assert_true(native_mem_take_fault(&mem));
    native_mem_unmap(&mem, target);
    bool held = is_mapped(target);
    native_mem_close(&mem);
    close(fd);
    close(notify_fd);
    assert_false(held);
}

/* Whose firmware does not answer a fence may go on writing: nothing else may come to lie there. */
static void unmap_after_cut_all_keeps_addresses(void **state)
{
    static struct native_mem mem;
    int notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int fd = memfd_create("ram", MFD_CLOEXEC);
    uint64_t target = 0;
    (void)state;

    assert_int_equal(native_mem_open(&mem, notify_fd), 0);
    assert_int_equal(ftruncate(fd, PIECE_BYTES), 0);
    assert_int_equal(native_mem_map(&mem, fd, 0, PIECE_BYTES, true, &target), 0);
    native_mem_cut_all(&mem);
    native_mem_unmap(&mem, target);
    bool held = is_mapped(target);
    native_mem_close(&mem);
    munmap((void *)(uintptr_t)target, PIECE_BYTES);
    close(fd);
    close(notify_fd);
    assert_true(held);
}

/* VMMs split low memory into windows of some pages, also when these are parts of huge ones. */
#define HUGE_BYTES 0x200000u

static void map_part_of_huge_page_survives_its_end(void **state)
{
    static struct native_mem mem;
    int notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int fd = memfd_create("ram", MFD_CLOEXEC | MFD_HUGETLB);
    uint64_t target[2] = {0};
    void *other = MAP_FAILED;
    (void)state;

    if (fd >= 0 && ftruncate(fd, HUGE_BYTES) == 0) {
        other = mmap(NULL, HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (other == MAP_FAILED) {
        print_message("this machine has no huge pages to give\n");
        skip();
    }
    assert_int_equal(native_mem_open(&mem, notify_fd), 0);
    assert_int_equal(native_mem_catch(), 0);
    assert_int_equal(native_mem_map(&mem, fd, 0, 0xa0000, true, &target[0]), 0);
    assert_int_equal(native_mem_map(&mem, fd, 0x100000, 0x1000, true, &target[1]), 0);
    shm_store64((uint8_t *)other + 0x100000, 7);
    assert_int_equal(shm_load64((void *)(uintptr_t)target[1]), 7);
    munmap(other, HUGE_BYTES);
    assert_int_equal(ftruncate(fd, 0), 0);
    shm_store64((void *)(uintptr_t)target[0], 1); /* SIGBUS, repaired */
    assert_true(native_mem_take_fault(&mem));
    native_mem_unmap(&mem, target[0]);
    native_mem_unmap(&mem, target[1]);
    assert_false(is_mapped(target[0]));
    assert_false(is_mapped(target[1]));
    native_mem_close(&mem);
    close(fd);
    close(notify_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(region_write_across_end_of_doorbells_stores_nothing_beyond,
                                        rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(dma_map_not_in_whole_pages_invalid, rig_setup,
                                        rig_teardown),
        cmocka_unit_test(send_reader_in_small_bites_costs_no_more_than_the_limit),
        cmocka_unit_test(unmap_after_file_was_cut_gives_addresses_back),
        cmocka_unit_test(unmap_after_cut_all_keeps_addresses),
        cmocka_unit_test(map_part_of_huge_page_survives_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
