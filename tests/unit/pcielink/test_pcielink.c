/*
 * pcielink between a scripted host and a NIC process: attach and detach, fences against a NIC that
 * hangs, interrupt vectors through every kind of change, windows, doorbells, commands.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/shm.h"
#include "hal/pcie_ep.h"
#include "spec/nvme.h"
#include "tests/unit/pcielink/rig.h"

/* The NIC raises `vector`: true if the host's eventfd `fd` counts it. */
static bool raise_arrives(struct rig *f, uint32_t vector, int fd)
{
    uint64_t count;

    if (read(fd, &count, sizeof(count)) < 0) {
        assert_int_equal(errno, EAGAIN); /* nothing left from before */
    }
    atomic_store(&f->nic.shared->raise, vector + 1);
    for (uint32_t i = 0; i < 500; i++) {
        pcielink_turn(&f->p, 1);
        if (read(fd, &count, sizeof(count)) > 0) {
            return true;
        }
        if (atomic_load(&f->nic.shared->raise) == 0 && i > 20) {
            return false;
        }
    }
    return false;
}

static bool vectors_settled(const struct rig *f)
{
    return f->p.vectors.state == PCIELINK_VECTORS_IDLE && !f->p.vectors.dirty;
}

/* --- windows and fences ------------------------------------------------------------------------
 */

static void windows_reach_nic_as_offsets_in_ram_file(void **state)
{
    struct rig *f = *state;
    struct fake_nic_shared *nic;

    rig_nic_start(f);
    nic = f->nic.shared;
    rig_host_brings_up(f);
    assert_int_equal(atomic_load(&nic->dma), RIG_BUS_BASE + 0x200000); /* at once: no waiting */
    assert_int_equal(rig_host_unmap(f, 0x100000, 0x100000), 0);
    assert_true(atomic_load(&nic->dma) == PCIE_EP_NO_ADDR);
}

static void window_in_other_file_not_reachable(void **state)
{
    struct rig *f = *state;
    int other = memfd_create("other", MFD_CLOEXEC);

    rig_nic_start(f);
    rig_host_connect(f);
    rig_host_write(f, VFU_REGION_CONFIG, 4, 6);
    assert_int_equal(ftruncate(other, RIG_RAM_BYTES), 0);
    assert_int_equal(rig_host_map(f, 0x100000, 0x100000, 0, other), 0);
    assert_int_equal(f->p.server.dma.reachable_count, 0);
    assert_true(atomic_load(&f->nic.shared->dma) == PCIE_EP_NO_ADDR);
    assert_int_equal(rig_host_unmap(f, 0x100000, 0x100000), 0);
    assert_int_equal(rig_host_map(f, 0x100000, 0x100000, RIG_RAM_BYTES - 0x1000, f->ram_fd),
                     EINVAL);
    close(other);
}

static void fence_nic_hangs_is_killed_before_host_is_answered(void **state)
{
    struct rig *f = *state;

    rig_nic_start(f);
    rig_host_brings_up(f);
    atomic_store(&f->nic.shared->silent, true);
    uint64_t start_ns = pcielink_now_ns();
    assert_int_equal(rig_host_unmap(f, 0x100000, 0x100000), 0);
    assert_true(pcielink_now_ns() - start_ns >= VFU_LINK_FENCE_NS);
    assert_true(fake_nic_ended(&f->nic)); /* already, not some time */
    assert_int_equal(rig_host_read(f, VFU_REGION_BAR0, NVME_REG_CSTS), UINT32_MAX);
    assert_int_equal(f->p.nic.stop_count, 1);

    fake_nic_kill(&f->nic);
    rig_nic_start(f);
    assert_int_equal(rig_host_read(f, VFU_REGION_BAR0, NVME_REG_VS), 0x00010400);
}

static void nic_killed_while_host_waits_ends_fence_early(void **state)
{
    struct rig *f = *state;

    rig_nic_start(f);
    rig_host_brings_up(f);
    atomic_store(&f->nic.shared->silent, true);
    kill(f->nic.pid, SIGKILL);
    uint64_t start_ns = pcielink_now_ns();
    assert_int_equal(rig_host_unmap(f, 0x100000, 0x100000), 0);
    assert_true(pcielink_now_ns() - start_ns < VFU_LINK_FENCE_NS / 2);
    assert_int_equal(f->p.nic.stop_count, 0);
}

static void nic_restarts_while_host_stays(void **state)
{
    struct rig *f = *state;

    rig_nic_start(f);
    rig_host_brings_up(f);
    rig_host_write(f, VFU_REGION_BAR0, NVME_REG_AQA, 0x001f001f);
    fake_nic_kill(&f->nic);
    RIG_TURN_UNTIL(f, f->p.nic.conn_fd < 0);
    rig_host_write(f, VFU_REGION_BAR0, NVME_REG_CC, NVME_CC_EN); /* nobody serves: kept */
    rig_nic_start(f);
    RIG_TURN_UNTIL(f, atomic_load(&f->nic.shared->event_count[PCIE_EP_EVENT_REG_WRITE]) == 4);
    assert_int_equal(rig_host_read(f, VFU_REGION_BAR0, NVME_REG_AQA), 0x001f001f);
    assert_int_equal(atomic_load(&f->nic.shared->dma), RIG_BUS_BASE + 0x200000);
}

static void nic_guest_resets_itself_same_process(void **state)
{
    struct rig *f = *state;

    rig_nic_start(f);
    rig_host_brings_up(f);
    assert_int_equal(rig_host_irqs(f, 0, 1, f->vector), 0);
    RIG_TURN_UNTIL(f, vectors_settled(f));
    uint32_t epoch = f->p.link.epoch;
    uint32_t vectors_before = atomic_load(&f->nic.shared->event_count[PCIE_EP_EVENT_VECTORS]);
    atomic_store(&f->nic.shared->restart, true);
    RIG_TURN_UNTIL(f, f->p.link.epoch != epoch && f->p.link.nic_ready);
    RIG_TURN_UNTIL(f, atomic_load(&f->nic.shared->event_count[PCIE_EP_EVENT_VECTORS]) >
                          vectors_before);
    assert_int_equal(atomic_load(&f->nic.shared->dma), RIG_BUS_BASE + 0x200000);
    assert_true(raise_arrives(f, 0, f->vector[0]));
}

static void nic_leaves_block_but_lives_is_killed(void **state)
{
    struct rig *f = *state;

    rig_nic_start(f);
    rig_host_brings_up(f);
    atomic_store(&f->nic.shared->leave, true);
    RIG_TURN_UNTIL(f, f->p.nic.conn_fd < 0);
    assert_true(fake_nic_ended(&f->nic));
}

static void second_nic_turned_away(void **state)
{
    struct rig *f = *state;
    char byte;

    rig_nic_start(f);
    int fd = rig_connect_to(f->dir, "ivshmem.sock");
    rig_turns(f, 3);
    assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
    assert_true(f->p.link.nic_ready);
    close(fd);
}

static void host_silent_is_dropped_and_next_is_served(void **state)
{
    struct rig *f = *state;

    f->p.server.config.version_timeout_ns = 50000000;
    int silent = rig_connect_to(f->dir, "cntrl");
    rig_turns(f, 3);
    assert_true(vfu_server_has_client(&f->p.server));
    rig_host_connect(f); /* waits behind it, for at most 3 s */
    char byte;
    assert_int_equal(recv(silent, &byte, 1, MSG_DONTWAIT), 0);
    assert_int_equal(f->p.server.stats.dropped_count, 1);
    close(silent);
}

static void descriptors_used_up_pauses_listening_and_goes_on(void **state)
{
    struct rig *f = *state;
    struct rlimit limit;
    struct rlimit none = {.rlim_cur = 3};
    struct pollfd fds[CTL_FDS];

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none.rlim_max = limit.rlim_max;
    int host = rig_connect_to(f->dir, "cntrl");
    int ctl = rig_connect_to(f->dir, "ctl");
    /* poll() takes no more descriptors than the limit: the listeners are called as it would. */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    vfu_server_turn(&f->p.server);
    pcielink_nic_accept(&f->p);
    ctl_watch(&f->p.ctl, pcielink_now_ns(), fds);
    fds[0].revents = POLLIN;
    assert_int_equal(ctl_turn(&f->p.ctl, pcielink_now_ns(), fds), -EMFILE);
    assert_int_equal(ctl_turn(&f->p.ctl, pcielink_now_ns(), fds), 0); /* told once */
    ctl_watch(&f->p.ctl, pcielink_now_ns(), fds);
    assert_int_equal(fds[0].fd, -1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    uint64_t start_ns = pcielink_now_ns();
    pcielink_turn(&f->p, 100); /* nobody is ready: it sleeps */
    assert_true(pcielink_now_ns() - start_ns >= 90 * UINT64_C(1000000));
    assert_int_equal(vfu_server_poll_fd(&f->p.server), -1);
    RIG_TURN_UNTIL(f, vfu_server_has_client(&f->p.server) && f->p.ctl.clients[0].fd >= 0);
    close(host);
    close(ctl);
}

static void host_reconnects_after_disconnect(void **state)
{
    struct rig *f = *state;

    rig_nic_start(f);
    for (uint32_t i = 0; i < 3; i++) {
        rig_host_brings_up(f);
        assert_int_equal(atomic_load(&f->nic.shared->dma), RIG_BUS_BASE + 0x200000);
        close(f->host_fd);
        RIG_TURN_UNTIL(f, !f->p.link.host_present);
        assert_true(atomic_load(&f->nic.shared->dma) == PCIE_EP_NO_ADDR);
    }
    f->host_fd = -1;
}

/* --- interrupts --------------------------------------------------------------------------------
 */

static void vectors_set_before_nic_reach_it(void **state)
{
    struct rig *f = *state;

    rig_host_brings_up(f);
    assert_int_equal(rig_host_irqs(f, 0, 3, f->vector), 0);
    rig_nic_start(f);
    RIG_TURN_UNTIL(f, vectors_settled(f));
    assert_true(raise_arrives(f, 2, f->vector[2]));
}

static void vectors_grow_in_order_appends_to_one_peer(void **state)
{
    struct rig *f = *state;

    rig_nic_start(f);
    rig_host_brings_up(f);
    for (uint32_t v = 0; v < LIMIT_VECTORS; v++) {
        assert_int_equal(rig_host_irqs(f, v, 1, &f->vector[v]), 0);
        RIG_TURN_UNTIL(f, vectors_settled(f));
    }
    assert_int_equal(f->p.vectors.peer_total, 1);
    for (uint32_t v = 0; v < LIMIT_VECTORS; v += 8) {
        assert_true(raise_arrives(f, v, f->vector[v]));
    }
    assert_int_equal(atomic_load(&f->nic.shared->retired_count), 0);
}

static void vectors_burst_of_changes_needs_few_peers(void **state)
{
    struct rig *f = *state;

    rig_nic_start(f);
    rig_host_brings_up(f);
    for (uint32_t v = LIMIT_VECTORS; v-- > 0;) { /* downward: every one is a hole filled */
        assert_int_equal(rig_host_irqs(f, v, 1, &f->vector[v]), 0);
    }
    RIG_TURN_UNTIL(f, vectors_settled(f));
    assert_true(f->p.vectors.peer_total < LIMIT_VECTORS);
    assert_true(raise_arrives(f, 0, f->vector[0]));
    assert_true(raise_arrives(f, 64, f->vector[64]));
}

static void vectors_hole_replacement_and_removal(void **state)
{
    struct rig *f = *state;

    rig_nic_start(f);
    rig_host_brings_up(f);
    assert_int_equal(rig_host_irqs(f, 5, 1, &f->vector[5]), 0); /* 0-4 are holes */
    RIG_TURN_UNTIL(f, vectors_settled(f));
    assert_true(raise_arrives(f, 5, f->vector[5]));
    assert_false(raise_arrives(f, 3, f->vector[3]));
    assert_int_equal(atomic_load(&f->nic.shared->raise_lost), 0);

    assert_int_equal(rig_host_irqs(f, 5, 1, &f->vector[6]), 0); /* another eventfd */
    RIG_TURN_UNTIL(f, vectors_settled(f));
    RIG_TURN_UNTIL(f, atomic_load(&f->nic.shared->retired_count) == 1);
    assert_true(raise_arrives(f, 5, f->vector[6]));
    assert_false(raise_arrives(f, 5, f->vector[5]));

    assert_int_equal(rig_host_irqs(f, 5, 1, NULL), 0); /* nobody listens */
    RIG_TURN_UNTIL(f, vectors_settled(f));
    assert_false(raise_arrives(f, 5, f->vector[6]));
    RIG_TURN_UNTIL(f, atomic_load(&f->nic.shared->retired_count) == 2);
}

static void vectors_change_while_nic_qemu_is_stopped_waits_for_it(void **state)
{
    struct rig *f = *state;

    rig_nic_start(f);
    rig_host_brings_up(f);
    assert_int_equal(rig_host_irqs(f, 0, 1, &f->vector[0]), 0);
    RIG_TURN_UNTIL(f, vectors_settled(f));
    atomic_store(&f->nic.shared->deaf, true);
    rig_turns(f, 5);
    assert_int_equal(rig_host_irqs(f, 0, 1, &f->vector[1]), 0);
    rig_turns(f, 50);
    assert_false(vectors_settled(f)); /* the NIC still uses the old peer, which exists */
    assert_true(raise_arrives(f, 0, f->vector[0]));
    assert_int_equal(atomic_load(&f->nic.shared->raise_lost), 0);
    atomic_store(&f->nic.shared->deaf, false);
    RIG_TURN_UNTIL(f, vectors_settled(f));
    assert_true(raise_arrives(f, 0, f->vector[1]));
}

static void vectors_ids_used_up_are_relayed(void **state)
{
    struct rig *f = *state;

    rig_nic_start(f);
    rig_host_brings_up(f);
    RIG_TURN_UNTIL(f, vectors_settled(f));
    f->p.vectors.next_id = LINK_PEER_LAST + 1;
    assert_int_equal(rig_host_irqs(f, 0, 2, f->vector), 0);
    RIG_TURN_UNTIL(f, vectors_settled(f));
    assert_true(f->p.vectors.relay);
    assert_true(raise_arrives(f, 1, f->vector[1]));
    assert_int_equal(rig_host_irqs(f, 1, 1, &f->vector[7]), 0);
    RIG_TURN_UNTIL(f, vectors_settled(f));
    assert_true(raise_arrives(f, 1, f->vector[7]));
}

/* --- doorbells, registers ------------------------------------------------------------------------
 */

static void doorbell_trapped_wakes_armed_nic(void **state)
{
    struct rig *f = *state;

    rig_nic_start(f);
    rig_host_brings_up(f);
    rig_turns(f, 20);
    uint32_t before = atomic_load(&f->nic.shared->wake_count);
    rig_host_write(f, VFU_REGION_BAR0, LINK_DOORBELL_OFFSET, 5);
    rig_turns(f, 20);
    assert_int_equal(atomic_load(&f->nic.shared->wake_count), before);
    atomic_store(&f->nic.shared->arm, true);
    RIG_TURN_UNTIL(f, !atomic_load(&f->nic.shared->arm));
    rig_turns(f, 2);
    rig_host_write(f, VFU_REGION_BAR0, LINK_DOORBELL_OFFSET, 6);
    RIG_TURN_UNTIL(f, atomic_load(&f->nic.shared->wake_count) > before);
    assert_int_equal(atomic_load(&f->nic.shared->doorbell), 6);
}

static void doorbell_mapped_is_seen_without_message(void **state)
{
    struct rig *f = *state;

    rig_nic_start(f);
    rig_host_brings_up(f);
    uint8_t *page = mmap(NULL, LINK_DOORBELL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
                         f->p.block_fd, LINK_OFFSET_BAR + LINK_DOORBELL_OFFSET);
    assert_true(page != MAP_FAILED);
    shm_store32_release(page, 9);
    RIG_TURN_UNTIL(f, atomic_load(&f->nic.shared->doorbell) == 9);
    assert_int_equal(f->p.link.stats.doorbell_count, 0);
    munmap(page, LINK_DOORBELL_BYTES);
}

/* --- commands ----------------------------------------------------------------------------------
 */

static const char *command(struct rig *f, int fd, const char *line)
{
    static char answer[4096];
    size_t have = 0;

    assert_true(send(fd, line, strlen(line), MSG_NOSIGNAL) > 0);
    for (uint32_t i = 0; i < 50; i++) {
        pcielink_turn(&f->p, 1);
        ssize_t got = recv(fd, answer + have, sizeof(answer) - 1 - have, MSG_DONTWAIT);
        have += got > 0 ? (size_t)got : 0;
        answer[have] = 0;
        if (strstr(answer, "ok\n") != NULL || strstr(answer, "error") != NULL) {
            break;
        }
    }
    return answer;
}

static void commands_status_flr_link_quit(void **state)
{
    struct rig *f = *state;
    int fd = rig_connect_to(f->dir, "ctl");

    rig_nic_start(f);
    rig_host_brings_up(f);
    const char *status = command(f, fd, "status\n");
    assert_non_null(strstr(status, "link up\n"));
    assert_non_null(strstr(status, "nic ready\n"));
    assert_non_null(strstr(status, "windows 1\n"));
    assert_non_null(strstr(command(f, fd, "flr\n"), "ok"));
    assert_int_equal(atomic_load(&f->nic.shared->event_count[PCIE_EP_EVENT_RESET]), 1);
    assert_non_null(strstr(command(f, fd, "link down\n"), "ok"));
    assert_int_equal(rig_host_read(f, VFU_REGION_BAR0, NVME_REG_VS), UINT32_MAX);
    assert_non_null(strstr(command(f, fd, "status\n"), "link down\n"));
    assert_non_null(strstr(command(f, fd, "link up\n"), "ok"));
    assert_int_equal(rig_host_read(f, VFU_REGION_BAR0, NVME_REG_VS), 0x00010400);
    assert_non_null(strstr(command(f, fd, "nonsense\n"), "error"));
    assert_non_null(strstr(command(f, fd, "quit\n"), "ok"));
    assert_true(f->p.quit);
    close(fd);
}

static void commands_endless_line_and_many_clients_survived(void **state)
{
    struct rig *f = *state;
    char line[300];
    int fds[CTL_CLIENTS + 3];

    memset(line, 'x', sizeof(line));
    for (uint32_t i = 0; i < CTL_CLIENTS + 3; i++) {
        fds[i] = rig_connect_to(f->dir, "ctl");
        rig_turns(f, 2);
    }
    assert_true(send(fds[0], line, sizeof(line), MSG_NOSIGNAL) > 0);
    rig_turns(f, 5);
    assert_true(recv(fds[0], line, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET);
    assert_non_null(strstr(command(f, fds[CTL_CLIENTS], "status\n"), "ok\n")); /* the next */
    for (uint32_t i = 0; i < CTL_CLIENTS + 3; i++) {
        close(fds[i]);
    }
    rig_turns(f, 5);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        T(windows_reach_nic_as_offsets_in_ram_file),
        T(window_in_other_file_not_reachable),
        T(fence_nic_hangs_is_killed_before_host_is_answered),
        T(nic_killed_while_host_waits_ends_fence_early),
        T(nic_restarts_while_host_stays),
        T(nic_guest_resets_itself_same_process),
        T(nic_leaves_block_but_lives_is_killed),
        T(second_nic_turned_away),
        T(host_silent_is_dropped_and_next_is_served),
        T(descriptors_used_up_pauses_listening_and_goes_on),
        T(host_reconnects_after_disconnect),
        T(vectors_set_before_nic_reach_it),
        T(vectors_grow_in_order_appends_to_one_peer),
        T(vectors_burst_of_changes_needs_few_peers),
        T(vectors_hole_replacement_and_removal),
        T(vectors_change_while_nic_qemu_is_stopped_waits_for_it),
        T(vectors_ids_used_up_are_relayed),
        T(doorbell_trapped_wakes_armed_nic),
        cmocka_unit_test_setup_teardown(doorbell_mapped_is_seen_without_message, rig_setup_mapped,
                                        rig_teardown),
        T(commands_status_flr_link_quit),
        T(commands_endless_line_and_many_clients_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
