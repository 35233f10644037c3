/*
 * A client whose eventfd does not take signals must not hold up the core that raises it: that core
 * serves other functions, too.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "hal/native/native.h"
#include "hal/native/pcie_ep_native.h"
#include "vfu/client.h"

#define WAIT_MS 5000

/* A reactor that acknowledges what comes and raises vector 0 in every turn once told to. */
struct nic {
    struct pcie_ep *ep;
    pthread_t thread;
    _Atomic bool stop;
    _Atomic bool raise;
    _Atomic uint32_t turn_count;
};

static void *nic_main(void *arg)
{
    struct nic *nic = arg;
    struct pcie_ep_event event;

    while (!atomic_load(&nic->stop)) {
        while (pcie_ep_event_pop(nic->ep, &event)) {
            pcie_ep_event_ack(nic->ep, &event);
        }
        if (atomic_load(&nic->raise)) {
            pcie_ep_irq_raise(nic->ep, 0);
        }
        atomic_fetch_add(&nic->turn_count, 1);
        usleep(100);
    }
    return NULL;
}

static bool turns_within(struct nic *nic, uint32_t wait_ms)
{
    uint32_t before = atomic_load(&nic->turn_count);
    for (uint32_t ms = 0; ms < wait_ms; ms += 10) {
        usleep(10000);
        if (atomic_load(&nic->turn_count) - before > 2) {
            return true;
        }
    }
    return false;
}

static void raise_eventfd_full_and_blocking_core_goes_on_client_is_dropped(void **state)
{
    const struct pcie_ep_native_options options = {.dstrd = 4};
    static struct client client;
    static struct nic nic;
    char folder[64] = "/tmp/snic-vfu-XXXXXX";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = eventfd(0, EFD_CLOEXEC);
    const uint64_t full = UINT64_MAX - 1;
    (void)state;

    native_console_set_fd(-1);
    assert_non_null(mkdtemp(folder));
    const char *folders[] = {folder};
    assert_int_equal(pcie_ep_native_start(folders, 1, &options, &nic.ep), 0);
    pcie_ep_ready(nic.ep);
    assert_int_equal(pthread_create(&nic.thread, NULL, nic_main, &nic), 0);
    client = (struct client){.reply_fd = -1, .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/cntrl", folder);
    assert_int_equal(connect(client.fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(client_version(&client, NULL), 0);
    assert_int_equal(client_irq_set(&client, VFU_IRQ_DATA_EVENTFD | VFU_IRQ_ACTION_TRIGGER,
                                    VFU_IRQ_MSIX, 0, 1, &fd, 1),
                     0);
    /* Flags belong to the open file, which is the client's, too. */
    assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
    assert_int_equal(write(fd, &full, sizeof(full)), sizeof(full));
    atomic_store(&nic.raise, true);
    usleep(20000);

    bool goes_on = turns_within(&nic, WAIT_MS);
    bool is_dropped = !client_alive(&client);
    for (uint32_t ms = 0; !is_dropped && ms < WAIT_MS; ms += 10) {
        usleep(10000);
        is_dropped = !client_alive(&client);
    }
    uint64_t drained;
    if (!goes_on) {
        atomic_store(&nic.raise, false);
        assert_int_equal(read(fd, &drained, sizeof(drained)), sizeof(drained));
    }
    atomic_store(&nic.stop, true);
    close(client.fd);
    pthread_join(nic.thread, NULL);
    pcie_ep_native_stop();
    close(fd);
    rmdir(folder);
    assert_true(goes_on);
    assert_true(is_dropped);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(raise_eventfd_full_and_blocking_core_goes_on_client_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
