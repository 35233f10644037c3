/*
 * The switch as a whole, on sockets: learning and flooding, stations that are away, restart or do
 * not read, frames of bad length, cuts, captures, the command socket.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "fabric/rig.h"

enum {
    A,
    B,
    C,
    ALL
};

static void switch_unknown_address_floods_known_does_not(void **state)
{
    (void)state;
    rig_send(A, B, 1, 60);
    assert_int_equal(rig_next(B, NULL), 1);
    assert_int_equal(rig_next(C, NULL), 1); /* B is not known yet */
    assert_int_equal(rig_next(A, NULL), -1);
    rig_send(B, A, 2, 60);
    assert_int_equal(rig_next(A, NULL), 2);
    assert_int_equal(rig_next(C, NULL), -1);
    rig_send(A, B, 3, 60);
    assert_int_equal(rig_next(B, NULL), 3);
    assert_int_equal(rig_next(C, NULL), -1);
}

static void switch_broadcast_reaches_all_others(void **state)
{
    (void)state;
    rig_send(A, ALL, 1, 60);
    assert_int_equal(rig_next(B, NULL), 1);
    assert_int_equal(rig_next(C, NULL), 1);
    assert_int_equal(rig_next(A, NULL), -1);
}

static void switch_frame_to_its_own_port_goes_nowhere(void **state)
{
    (void)state;
    rig_send(A, ALL, 1, 60);
    rig_send(A, A, 2, 60);
    for (uint32_t i = B; i <= C; i++) {
        assert_int_equal(rig_next(i, NULL), 1);
        assert_int_equal(rig_next(i, NULL), -1);
    }
    assert_int_equal(rig_next(A, NULL), -1);
}

static void switch_longest_frame_passes_whole(void **state)
{
    (void)state;
    uint32_t len = 0;

    rig_send(A, B, 0x05060709, FABRIC_FRAME_BYTES);
    assert_int_equal(rig_next(B, &len), 0x05060709);
    assert_int_equal(len, FABRIC_FRAME_BYTES);
    assert_int_equal(rig.got[FABRIC_FRAME_BYTES - 1], 9);
}

static void switch_runts_and_giants_are_dropped_and_counted(void **state)
{
    (void)state;
    static const uint8_t giant[65000];
    uint8_t byte[FABRIC_MIN_BYTES] = {0xff};

    for (uint32_t len = 0; len < FABRIC_MIN_BYTES; len++) {
        assert_true(rig_send_raw(A, byte, len));
        rig_turn(1);
    }
    assert_true(rig_send_raw(A, giant, FABRIC_FRAME_BYTES + 1));
    rig_turn(1);
    assert_true(rig_send_raw(A, giant, sizeof(giant)));
    rig_turn(2);
    assert_int_equal(rig_status("a.eth.runts"), FABRIC_MIN_BYTES);
    assert_int_equal(rig_status("a.eth.giants"), 2);
    assert_int_equal(rig_status("a.eth.in.frames"), 0);
    assert_int_equal(recv(rig.fd[B], byte, sizeof(byte), 0), -1);
    rig_send_raw(A, byte, FABRIC_MIN_BYTES); /* the shortest that is one */
    rig_turn(2);
    assert_int_equal(recv(rig.fd[B], byte, sizeof(byte), 0), FABRIC_MIN_BYTES);
}

static void switch_station_that_is_away_loses_its_frames(void **state)
{
    (void)state;
    rig_send(B, A, 1, 60);
    assert_int_equal(rig_next(A, NULL), 1);
    rig_station_go(B);
    rig_send(A, B, 2, 60);
    rig_send(A, B, 3, 60);
    assert_int_equal(rig_status("b.eth.absent"), 2);
    rig_station_come(B);
    rig_send(A, B, 4, 60);
    assert_int_equal(rig_next(B, NULL), 4);
}

static void switch_station_that_restarts_unseen_gets_the_next_frame(void **state)
{
    (void)state;
    rig_send(A, B, 1, 60);
    assert_int_equal(rig_next(B, NULL), 1);
    rig_station_go(B);
    rig_station_come(B);
    rig_send(B, A, 2, 60); /* it may send though the switch still holds the old socket */
    assert_int_equal(rig_next(A, NULL), 2);
    rig_send(A, B, 3, 60);
    assert_int_equal(rig_next(B, NULL), 3);
    assert_int_equal(rig_status("b.eth.absent"), 0);
}

static void switch_station_that_does_not_read_has_frames_kept_then_lost(void **state)
{
    (void)state;
    uint32_t sent = FABRIC_QUEUE_FRAMES + 500;
    uint32_t got = 0;
    int64_t number = -1;

    rig_send(B, A, 0, 60);
    for (uint32_t i = 0; i < sent; i++) {
        rig_send(A, B, i, 60);
    }
    uint64_t lost = rig_status("b.eth.full");
    assert_true(lost > 0 && lost < 500); /* the socket itself holds some */
    for (uint32_t i = 0; i < 2 * sent; i++) {
        int64_t next = rig_next(B, NULL);
        assert_true(next == -1 || next == number + 1); /* the newest were lost, none between */
        number = next == -1 ? number : next;
        got += next != -1;
        rig_turn(1);
    }
    assert_int_equal(got + lost, sent);
    assert_int_equal(rig_status("b.eth.queued"), 0);
}

static void switch_station_that_ends_without_reading_gives_buffers_back(void **state)
{
    (void)state;
    rig_send(B, A, 0, 60);
    for (uint32_t i = 0; i < 100; i++) {
        rig_send(A, B, i, 60);
    }
    assert_true(rig_status("b.eth.queued") > 0);
    rig_station_go(B);
    rig_turn(2);
    assert_int_equal(rig_status("b.eth.queued"), 0);
    assert_true(rig_status("b.eth.absent") > 0);
}

static void switch_without_buffers_loses_frames_and_goes_on(void **state)
{
    (void)state;
    struct fabric_queue taken = {.first = NULL};

    rig_send(B, A, 0, 60);
    while (fabric.pool.free.count > 0) {
        fabric_queue_push(&taken, fabric_frame_get(&fabric.pool));
    }
    for (uint32_t i = 0; i < FABRIC_BATCH - 1; i++) { /* those in the batch serve */
        rig_send(A, B, i, 60);
        assert_int_equal(rig_next(B, NULL), i);
        if (fabric.pool.free.count > 0) {
            fabric_queue_push(&taken, fabric_frame_get(&fabric.pool));
        }
    }
    rig_send(A, B, 99, 60);
    assert_int_equal(rig_next(B, NULL), -1);
    assert_int_equal(rig_status("a.eth.no_buffer") > 0, 1);
    while (taken.first != NULL) {
        fabric_frame_put(&fabric.pool, fabric_queue_pop(&taken));
    }
    rig_send(A, B, 100, 60);
    assert_int_equal(rig_next(B, NULL), 100);
}

static void switch_cut_port_is_deaf_and_dumb_until_joined(void **state)
{
    (void)state;
    assert_true(rig_command("cut b.eth"));
    rig_send(A, ALL, 1, 60);
    rig_send(B, ALL, 2, 60);
    assert_int_equal(rig_next(B, NULL), -1);
    assert_int_equal(rig_next(A, NULL), -1);
    assert_int_equal(rig_next(C, NULL), 1);
    assert_int_equal(rig_next(C, NULL), -1);
    assert_int_equal(rig_status("b.eth.cut"), 2);
    assert_true(rig_command("join b.eth"));
    rig_send(A, ALL, 3, 60);
    assert_int_equal(rig_next(B, NULL), 3);
}

static void switch_cut_pair_still_reaches_the_third(void **state)
{
    (void)state;
    assert_true(rig_command("cut a.eth b.eth"));
    rig_send(A, ALL, 1, 60);
    rig_send(B, ALL, 2, 60);
    assert_int_equal(rig_next(A, NULL), -1);
    assert_int_equal(rig_next(B, NULL), -1);
    assert_int_equal(rig_next(C, NULL), 1);
    assert_int_equal(rig_next(C, NULL), 2);
    rig_send(A, B, 3, 60); /* known by now */
    assert_int_equal(rig_next(B, NULL), -1);
    assert_true(rig_command("join b.eth a.eth"));
    rig_send(A, B, 4, 60);
    assert_int_equal(rig_next(B, NULL), 4);
    assert_true(rig_command("cut a.eth b.eth"));
    assert_true(rig_command("join all"));
    rig_send(A, B, 5, 60);
    assert_int_equal(rig_next(B, NULL), 5);
}

static void switch_faults_hold_for_their_direction(void **state)
{
    (void)state;
    assert_true(rig_command("fault b.eth out loss=100%"));
    rig_send(A, ALL, 1, 60);
    assert_int_equal(rig_next(B, NULL), -1);
    assert_int_equal(rig_next(C, NULL), 1);
    rig_send(B, ALL, 2, 60);
    assert_int_equal(rig_next(A, NULL), 2);
    assert_int_equal(rig_status("b.eth.out.lost"), 1);
    assert_true(rig_command("fault b.eth in loss=100%"));
    assert_true(rig_command("fault b.eth out none"));
    rig_send(A, ALL, 3, 60);
    assert_int_equal(rig_next(B, NULL), 3);
    rig_send(B, ALL, 4, 60);
    assert_int_equal(rig_next(A, NULL), -1);
    assert_int_equal(rig_status("b.eth.in.lost"), 1);
}

static void switch_delayed_frame_wakes_the_loop(void **state)
{
    (void)state;
    struct timespec start;
    struct timespec end;

    assert_true(rig_command("fault a.eth in delay_us=20000"));
    clock_gettime(CLOCK_MONOTONIC, &start);
    rig_send(A, ALL, 1, 60);
    assert_int_equal(rig_next(B, NULL), -1);
    fabric_turn(&fabric, 10000); /* no longer than the delay */
    fabric_turn(&fabric, 0);
    clock_gettime(CLOCK_MONOTONIC, &end);
    assert_int_equal(rig_next(B, NULL), 1);
    int64_t took_ns =
        (end.tv_sec - start.tv_sec) * INT64_C(1000000000) + end.tv_nsec - start.tv_nsec;
    assert_in_range(took_ns, 20000000, 5000000000);
}

static void replay(char *seen, uint32_t bytes)
{
    assert_true(rig_command("seed 77"));
    memset(seen, 0, bytes);
    for (uint32_t i = 0; i < bytes; i++) {
        rig_send(A, B, i, 60);
        while (rig_next(B, NULL) != -1) {
            seen[i]++;
        }
    }
}

static void switch_same_seed_and_frames_same_faults(void **state)
{
    (void)state;
    char first[200];
    char second[200];

    rig_send(B, A, 0, 60);
    assert_true(rig_command("fault b.eth out loss=20% dup=20%"));
    replay(first, sizeof(first));
    replay(second, sizeof(second));
    assert_memory_equal(first, second, sizeof(first));
    assert_non_null(memchr(first, 0, sizeof(first)));
    assert_non_null(memchr(first, 2, sizeof(first)));
}

static uint32_t read_file(const char *name, uint8_t *bytes, uint32_t max)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", rig.dir, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    uint32_t got = (uint32_t)fread(bytes, 1, max, file);
    fclose(file);
    return got;
}

static void switch_capture_holds_what_the_station_sent_and_got(void **state)
{
    (void)state;
    uint8_t bytes[4096];

    assert_true(rig_command("capture b.eth b.pcap"));
    assert_int_equal(read_file("b.pcap", bytes, sizeof(bytes)), 24);
    assert_true(rig_command("fault b.eth both loss=100%"));
    rig_send(A, ALL, 1, 60); /* lost on its way to B: not there */
    assert_true(rig_command("fault b.eth out none"));
    rig_send(A, ALL, 2, 70);
    rig_send(B, ALL, 3, 80);                                  /* lost behind B: there */
    uint32_t len = read_file("b.pcap", bytes, sizeof(bytes)); /* it still runs */
    assert_int_equal(len, 24 + 16 + 70 + 16 + 80);
    assert_int_equal(bytes[24 + 16 + 14], 2);
    assert_int_equal(bytes[24 + 16 + 70 + 16 + 14], 3);
    assert_true(rig_command("capture b.eth stop"));
    rig_send(A, ALL, 4, 60);
    assert_int_equal(read_file("b.pcap", bytes, sizeof(bytes)), len);
    assert_false(rig_command("capture b.eth no/such/folder"));
}

static void switch_command_socket_answers_and_ends(void **state)
{
    (void)state;
    struct sockaddr_un address;
    char text[65536] = "";
    size_t have = 0;

    assert_true(fabric_address(&address, rig.dir, "fabric.ctl"));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(send(fd, "seed 5\nsta", 10, 0), 10);
    rig_turn(2);
    assert_int_equal(send(fd, "tus\nnonsense\nquit\n", 18, 0), 18);
    rig_turn(2);
    ssize_t got;
    while ((got = recv(fd, text + have, sizeof(text) - 1 - have, 0)) > 0) {
        have += (size_t)got;
    }
    assert_memory_equal(text, "ok\nseed 5\n", 10);
    assert_non_null(strstr(text, "\nc.eth.capture off\nok\nerror: "));
    assert_memory_equal(text + have - 4, "\nok\n", 4);
    assert_true(fabric.quit);
    close(fd);
    rig_turn(1);
    assert_int_equal(fabric.ctl.clients[0].fd, -1);
}

static void switch_command_line_without_end_is_hung_up_on(void **state)
{
    (void)state;
    struct sockaddr_un address;
    char line[CTL_LINE_BYTES];
    char byte;

    memset(line, 'x', sizeof(line));
    assert_true(fabric_address(&address, rig.dir, "fabric.ctl"));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(send(fd, line, sizeof(line), 0), sizeof(line));
    rig_turn(3);
    ssize_t got = recv(fd, &byte, 1, 0);
    assert_true(got == 0 || (got < 0 && errno == ECONNRESET));
    close(fd);
}

static void switch_bad_start_is_refused(void **state)
{
    (void)state;
    static struct fabric second;
    static const char *const twice[] = {"x.eth", "x.eth"};
    static const char *const slash[] = {"x/y"};
    static const char *const empty[] = {""};
    char dir[200];

    assert_int_equal(fabric_open(&second, rig.dir, 1, twice, 2), -EEXIST);
    fabric_close(&second);
    assert_int_equal(fabric_open(&second, rig.dir, 1, slash, 1), -EINVAL);
    fabric_close(&second);
    assert_int_equal(fabric_open(&second, rig.dir, 1, empty, 1), -EINVAL);
    fabric_close(&second);
    assert_int_equal(fabric_open(&second, rig.dir, 1, NULL, 0), -EINVAL);
    fabric_close(&second);
    snprintf(dir, sizeof(dir), "%s/%090d", rig.dir, 0);
    assert_int_equal(fabric_open(&second, dir, 1, twice, 1), -ENAMETOOLONG);
    fabric_close(&second);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(switch_unknown_address_floods_known_does_not),
        TEST(switch_broadcast_reaches_all_others),
        TEST(switch_frame_to_its_own_port_goes_nowhere),
        TEST(switch_longest_frame_passes_whole),
        TEST(switch_runts_and_giants_are_dropped_and_counted),
        TEST(switch_station_that_is_away_loses_its_frames),
        TEST(switch_station_that_restarts_unseen_gets_the_next_frame),
        TEST(switch_station_that_does_not_read_has_frames_kept_then_lost),
        TEST(switch_station_that_ends_without_reading_gives_buffers_back),
        TEST(switch_without_buffers_loses_frames_and_goes_on),
        TEST(switch_cut_port_is_deaf_and_dumb_until_joined),
        TEST(switch_cut_pair_still_reaches_the_third),
        TEST(switch_faults_hold_for_their_direction),
        TEST(switch_delayed_frame_wakes_the_loop),
        TEST(switch_same_seed_and_frames_same_faults),
        TEST(switch_capture_holds_what_the_station_sent_and_got),
        TEST(switch_command_socket_answers_and_ends),
        TEST(switch_command_line_without_end_is_hung_up_on),
        TEST(switch_bad_start_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
