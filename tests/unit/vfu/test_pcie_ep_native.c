/*
 * A function of the native board with its threads: client, server thread, and a reactor played by
 * this test. Start, windows, interrupts, fences, order of events, reconnect, hostile memory.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "hal/native/native.h"
#include "hal/native/pcie_ep_native.h"
#include "hal/native/pcie_ep_native_mem.h"
#include "spec/link.h"
#include "spec/nvme.h"
#include "vfu/client.h"

#define RAM_BYTES 0x100000u

/* The reactor: pops and acknowledges events, keeps a view, until told to stop. */
struct nic {
    struct pcie_ep *ep;
    pthread_t thread;
    _Atomic bool stop;
    _Atomic bool silent; /* reads nothing, acknowledges nothing */
    _Atomic uint64_t turn_count;
    _Atomic uint32_t event_count[8]; /* by type */
    _Atomic uint64_t order_error_count;
    _Atomic uint64_t last_aqa;
    _Atomic uint64_t dma_now; /* where the view maps host address 0x10000, or NO_ADDR */
    _Atomic bool scribble;    /* store to it all the time */
};

struct fixture {
    char folder[64];
    struct pcie_ep *ep;
    struct nic nic;
    struct client client;
    int ram_fd;
    uint8_t *ram;
};

static void *nic_main(void *arg)
{
    struct nic *nic = arg;
    struct pcie_ep_view view;
    struct pcie_ep_event event;

    pcie_ep_view_load(nic->ep, &view);
    while (!atomic_load(&nic->stop)) {
        atomic_fetch_add(&nic->turn_count, 1);
        if (atomic_load(&nic->scribble)) {
            uint64_t addr = pcie_ep_map(&view, 0x10000, 8, true);
            if (addr != PCIE_EP_NO_ADDR) {
                shm_store64((void *)(uintptr_t)addr, 0x5555);
            }
        }
        if (atomic_load(&nic->silent) || !pcie_ep_event_waits(nic->ep)) {
            continue;
        }
        if (!pcie_ep_event_pop(nic->ep, &event)) {
            continue;
        }
        if (event.type == PCIE_EP_EVENT_REG_WRITE && event.offset == NVME_REG_AQA) {
            /* The test counts AQA up: events arrive in order, none missing. */
            if (event.value != atomic_load(&nic->last_aqa) + 1) {
                atomic_fetch_add(&nic->order_error_count, 1);
            }
            atomic_store(&nic->last_aqa, event.value);
        }
        pcie_ep_view_load(nic->ep, &view);
        atomic_store(&nic->dma_now, pcie_ep_map(&view, 0x10000, 8, true));
        atomic_fetch_add(&nic->event_count[event.type], 1);
        pcie_ep_event_ack(nic->ep, &event);
    }
    return NULL;
}

/* Returns when the NIC's thread has seen it: a turn that began before may still acknowledge. */
static void nic_hangs(struct nic *nic)
{
    atomic_store(&nic->silent, true);
    uint64_t begun = atomic_load(&nic->turn_count);
    while (atomic_load(&nic->turn_count) < begun + 2) {
        usleep(100);
    }
}

static int connect_client(struct fixture *f)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/cntrl", f->folder);
    f->client = (struct client){.reply_fd = -1};
    f->client.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return connect(f->client.fd, (struct sockaddr *)&address, sizeof(address));
}

static void disconnect_client(struct fixture *f)
{
    if (f->client.reply_fd >= 0) {
        close(f->client.reply_fd);
        f->client.reply_fd = -1;
    }
    close(f->client.fd);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    const struct pcie_ep_native_options options = {.dstrd = 4};

    native_console_set_fd(-1);
    snprintf(f->folder, sizeof(f->folder), "/tmp/snic-vfu-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    const char *folders[] = {f->folder};
    assert_int_equal(pcie_ep_native_start(folders, 1, &options, &f->ep), 0);
    f->nic.ep = f->ep;
    atomic_store(&f->nic.dma_now, PCIE_EP_NO_ADDR);
    pcie_ep_ready(f->ep);
    assert_int_equal(pthread_create(&f->nic.thread, NULL, nic_main, &f->nic), 0);

    f->ram_fd = memfd_create("ram", MFD_CLOEXEC);
    assert_int_equal(ftruncate(f->ram_fd, RAM_BYTES), 0);
    f->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, f->ram_fd, 0);
    assert_int_equal(connect_client(f), 0);
    assert_int_equal(client_version(&f->client, NULL), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char path[80];

    atomic_store(&f->nic.silent, false);
    disconnect_client(f);
    usleep(20000);
    atomic_store(&f->nic.stop, true);
    pthread_join(f->nic.thread, NULL);
    pcie_ep_native_stop();
    munmap(f->ram, RAM_BYTES);
    close(f->ram_fd);
    snprintf(path, sizeof(path), "%s/cntrl", f->folder);
    assert_int_not_equal(access(path, F_OK), 0); /* the socket is gone */
    rmdir(f->folder);
    free(f);
    return 0;
}

static void bus_master(struct fixture *f, bool on)
{
    uint16_t command = on ? 0x0406 : 0x0402;
    assert_int_equal(
        client_region_write(&f->client, VFU_REGION_CONFIG, 4, &command, sizeof(command)), 0);
}

static void map_ram(struct fixture *f)
{
    assert_int_equal(
        client_dma_map(&f->client, 0x10000, RAM_BYTES, 0, VFU_DMA_READ | VFU_DMA_WRITE, f->ram_fd),
        0);
}

static void map_reply_means_every_view_has_it(void **state)
{
    struct fixture *f = *state;

    bus_master(f, true);
    map_ram(f);
    uint64_t addr = atomic_load(&f->nic.dma_now);
    assert_true(addr != PCIE_EP_NO_ADDR);
    f->ram[3] = 77;
    assert_int_equal(((uint8_t *)(uintptr_t)addr)[3], 77);
    assert_int_equal(client_dma_unmap(&f->client, 0x10000, RAM_BYTES, 0), 0);
    assert_true(atomic_load(&f->nic.dma_now) == PCIE_EP_NO_ADDR);
}

static void bus_master_gates_windows(void **state)
{
    struct fixture *f = *state;

    map_ram(f);
    assert_true(atomic_load(&f->nic.dma_now) == PCIE_EP_NO_ADDR);
    bus_master(f, true);
    assert_true(atomic_load(&f->nic.dma_now) != PCIE_EP_NO_ADDR);
    bus_master(f, false);
    assert_true(atomic_load(&f->nic.dma_now) == PCIE_EP_NO_ADDR);
}

static void reg_writes_arrive_in_order_across_ring_wrap(void **state)
{
    struct fixture *f = *state;
    const uint32_t count = 2 * LINK_EVENT_COUNT + 100;

    for (uint32_t i = 1; i <= count; i++) {
        assert_int_equal(client_write32(&f->client, VFU_REGION_BAR0, NVME_REG_AQA, i), 0);
    }
    for (int i = 0; i < 1000 && atomic_load(&f->nic.last_aqa) != count; i++) {
        usleep(1000);
    }
    assert_int_equal(atomic_load(&f->nic.last_aqa), count);
    assert_int_equal(atomic_load(&f->nic.order_error_count), 0);
}

static bool signalled(int fd)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    return poll(&wait, 1, 500) > 0;
}

static void irq_raise_signals_clients_eventfd_also_after_change(void **state)
{
    struct fixture *f = *state;
    uint64_t value;
    int fds[2] = {eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC)};
    uint32_t set = VFU_IRQ_DATA_EVENTFD | VFU_IRQ_ACTION_TRIGGER;

    assert_int_equal(client_irq_set(&f->client, set, VFU_IRQ_MSIX, 3, 1, fds, 1), 0);
    for (int i = 0; i < 1000 && atomic_load(&f->nic.event_count[PCIE_EP_EVENT_VECTORS]) < 2; i++) {
        usleep(1000); /* the event of the start, and this one */
    }
    pcie_ep_irq_raise(f->ep, 3);
    assert_true(signalled(fds[0]));
    assert_int_equal(read(fds[0], &value, sizeof(value)), sizeof(value));

    assert_int_equal(client_irq_set(&f->client, set, VFU_IRQ_MSIX, 3, 1, &fds[1], 1), 0);
    pcie_ep_irq_raise(f->ep, 3);
    assert_true(signalled(fds[1]));
    assert_int_equal(client_irq_set(&f->client, set, VFU_IRQ_MSIX, 3, 1, NULL, 0), 0);
    assert_int_equal(read(fds[1], &value, sizeof(value)), sizeof(value));
    usleep(20000);
    pcie_ep_irq_raise(f->ep, 3);
    struct pollfd wait = {.fd = fds[1], .events = POLLIN};
    assert_int_equal(poll(&wait, 1, 20), 0);
    close(fds[0]);
    close(fds[1]);
}

static void irq_set_descriptor_that_is_no_eventfd_refused_and_never_written(void **state)
{
    struct fixture *f = *state;
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_int_equal(client_irq_set(&f->client, VFU_IRQ_DATA_EVENTFD | VFU_IRQ_ACTION_TRIGGER,
                                    VFU_IRQ_MSIX, 0, 1, &ends[0], 1),
                     EINVAL);
    usleep(20000);
    pcie_ep_irq_raise(f->ep, 0);
    char byte;
    assert_int_equal(recv(ends[1], &byte, 1, MSG_DONTWAIT), -1);
    close(ends[0]);
    close(ends[1]);
}

static void doorbell_page_is_shared_with_client(void **state)
{
    struct fixture *f = *state;
    struct vfu_region_info info = {.argsz = 64, .index = VFU_REGION_BAR0};

    assert_int_equal(client_call(&f->client, VFU_CMD_REGION_GET_INFO, &info, sizeof(info), NULL, 0),
                     0);
    memcpy(&info, f->client.payload, sizeof(info));
    assert_true(f->client.reply_fd >= 0);
    uint8_t *page = mmap(NULL, LINK_DOORBELL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
                         f->client.reply_fd, (off_t)(info.offset + LINK_DOORBELL_OFFSET));
    assert_true(page != MAP_FAILED);
    shm_store32_release(page + 64, 5);
    assert_int_equal(shm_load32_acquire(f->ep->doorbells + 64), 5);
    assert_int_not_equal(ftruncate(f->client.reply_fd, 0), 0); /* sealed */
    munmap(page, LINK_DOORBELL_BYTES);
}

static void disconnect_takes_memory_back_and_next_client_is_served(void **state)
{
    struct fixture *f = *state;

    bus_master(f, true);
    map_ram(f);
    atomic_store(&f->nic.scribble, true);
    disconnect_client(f);
    for (int i = 0; i < 1000 && atomic_load(&f->nic.dma_now) != PCIE_EP_NO_ADDR; i++) {
        usleep(1000);
    }
    assert_true(atomic_load(&f->nic.dma_now) == PCIE_EP_NO_ADDR);
    assert_int_equal(connect_client(f), 0);
    assert_int_equal(client_version(&f->client, NULL), 0);
    shm_store64(f->ram, 0);
    usleep(5000);
    assert_int_equal(shm_load64(f->ram), 0);
    assert_int_equal(client_read32(&f->client, VFU_REGION_BAR0, NVME_REG_VS), 0x00010400);
    bus_master(f, true);
    map_ram(f);
    assert_true(atomic_load(&f->nic.dma_now) != PCIE_EP_NO_ADDR);
}

static void fence_firmware_hangs_host_memory_is_out_of_reach(void **state)
{
    struct fixture *f = *state;

    bus_master(f, true);
    map_ram(f);
    nic_hangs(&f->nic);
    atomic_store(&f->nic.scribble, true); /* goes on writing, with the old view */
    assert_int_equal(client_dma_unmap(&f->client, 0x10000, RAM_BYTES, 0), 0);
    shm_store64(f->ram, 0);
    usleep(5000);
    assert_int_equal(shm_load64(f->ram), 0);
    assert_int_equal(client_read32(&f->client, VFU_REGION_BAR0, NVME_REG_CSTS), UINT32_MAX);

    /* It wakes up at last: the next host is served. */
    disconnect_client(f);
    usleep(20000);
    atomic_store(&f->nic.scribble, false);
    atomic_store(&f->nic.silent, false);
    for (int i = 0; i < 50; i++) {
        usleep(10000);
        assert_int_equal(connect_client(f), 0);
        assert_int_equal(client_version(&f->client, NULL), 0);
        if (client_read32(&f->client, VFU_REGION_BAR0, NVME_REG_VS) == 0x00010400) {
            return;
        }
        disconnect_client(f);
    }
    fail_msg("the function did not come back");
}

static void client_cuts_its_memory_short_and_is_dropped(void **state)
{
    struct fixture *f = *state;

    bus_master(f, true);
    map_ram(f);
    assert_int_equal(native_mem_catch(), 0); /* the test framework replaced it */
    assert_int_equal(ftruncate(f->ram_fd, 0), 0);
    atomic_store(&f->nic.scribble, true);
    for (int i = 0; i < 1000 && client_alive(&f->client); i++) {
        usleep(1000);
    }
    assert_false(client_alive(&f->client));
    atomic_store(&f->nic.scribble, false);
    assert_int_equal(ftruncate(f->ram_fd, RAM_BYTES), 0);
}

static void map_beyond_end_of_file_refused(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(client_dma_map(&f->client, 0, RAM_BYTES, 0x1000, 3, f->ram_fd), EINVAL);
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    assert_int_equal(client_dma_map(&f->client, 0, 0x1000, 0, 3, pipe_fds[0]), EINVAL);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void start_several_functions_each_has_its_id(void **state)
{
    char folders[2][64] = {"/tmp/snic-vfu-XXXXXX", "/tmp/snic-vfu-XXXXXX"};
    const struct pcie_ep_native_options options = {.trapped = true};
    struct pcie_ep *eps[2];
    (void)state;

    native_console_set_fd(-1);
    const char *names[] = {mkdtemp(folders[0]), mkdtemp(folders[1])};
    uint32_t fds_before = client_open_fd_count();
    assert_int_equal(pcie_ep_native_start(names, 2, &options, eps), 0);
    assert_int_equal(eps[0]->fn, 0);
    assert_int_equal(eps[1]->fn, 1);
    assert_int_equal(eps[1]->doorbell_mode, PCIE_EP_DOORBELLS_TRAPPED);
    pcie_ep_native_stop();
    assert_int_equal(client_open_fd_count(), fds_before);
    rmdir(folders[0]);
    rmdir(folders[1]);
}

static void start_folder_in_use_refused(void **state)
{
    struct fixture *f = *state;
    const char *names[] = {"/proc/no/such"};
    const struct pcie_ep_native_options options = {0};
    struct pcie_ep *ep;

    assert_int_not_equal(pcie_ep_native_start(names, 1, &options, &ep), 0); /* started already */
    assert_true(client_alive(&f->client));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(map_reply_means_every_view_has_it),
        T(bus_master_gates_windows),
        T(reg_writes_arrive_in_order_across_ring_wrap),
        T(irq_raise_signals_clients_eventfd_also_after_change),
        T(irq_set_descriptor_that_is_no_eventfd_refused_and_never_written),
        T(doorbell_page_is_shared_with_client),
        T(disconnect_takes_memory_back_and_next_client_is_served),
        T(fence_firmware_hangs_host_memory_is_out_of_reach),
        T(client_cuts_its_memory_short_and_is_dropped),
        T(map_beyond_end_of_file_refused),
        cmocka_unit_test(start_several_functions_each_has_its_id),
        T(start_folder_in_use_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
