/*
 * The client of snicctl against the fake board, over a socket pair.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include "host_tools/snicctl/client.h"
#include "host_tools/snicctl/record.h"
#include "tests/host_tools/fake.h"

static struct {
    int ends[2];
    enum fake_mode mode;
    pthread_t thread;
    struct transport transport;
    struct client client;
} rig;

static void *serve(void *arg)
{
    (void)arg;
    fake_serve(rig.ends[1], rig.mode);
    return NULL;
}

static enum fault start(enum fake_mode mode)
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, rig.ends), 0);
    rig.mode = mode;
    assert_int_equal(pthread_create(&rig.thread, NULL, serve, NULL), 0);
    transport_use_console(&rig.transport, rig.ends[0], "fake");
    fault_hold(true);
    return client_open(&rig.client, &rig.transport);
}

static void stop(void)
{
    transport_close(&rig.transport);
    pthread_join(rig.thread, NULL);
    close(rig.ends[1]);
}

static void open_versions_decide(void **state)
{
    static const struct {
        enum fake_mode mode;
        enum fault fault;
    } cases[] = {{FAKE_GOOD, FAULT_NONE},        {FAKE_OLD, FAULT_NONE},
                 {FAKE_NEW, FAULT_NONE},         {FAKE_TOO_NEW, FAULT_VERSION},
                 {FAKE_TOO_OLD, FAULT_VERSION},  {FAKE_HOSTILE_CRC, FAULT_NO_DEVICE},
                 {FAKE_HOSTILE_TEXT, FAULT_NONE}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(start(cases[i].mode), cases[i].fault);
        stop();
    }
}

static void list_all_classes_come_whole(void **state)
{
    struct client_rows rows;
    uint32_t count = 0;
    uint32_t bytes = 0;

    (void)state;
    assert_int_equal(start(FAKE_GOOD), FAULT_NONE);
    for (uint32_t i = 0; i < record_count(); i++) {
        enum mgmt_class class = record_at(i)->class;
        const void *records = fake_records(class, &count, &bytes);
        assert_int_equal(client_list(&rig.client, class, &rows), FAULT_NONE);
        assert_int_equal(rows.count, count);
        assert_int_equal(rows.record_bytes, bytes);
        assert_memory_equal(rows.bytes, records, (size_t)count * bytes);
        client_free(&rows);
    }
    assert_int_equal(rig.client.repeat_count, 0);
    stop();
}

static void list_hostile_ends(void **state)
{
    static const enum fake_mode modes[] = {FAKE_HOSTILE_SHORT, FAKE_HOSTILE_LOOP,
                                           FAKE_HOSTILE_ENDLESS};
    struct client_rows rows;

    (void)state;
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        assert_int_equal(start(modes[i]), FAULT_NONE);
        assert_int_equal(client_list(&rig.client, MGMT_CLASS_QUEUE, &rows), FAULT_FAILED);
        client_free(&rows);
        stop();
    }
}

static void list_lossy_line_is_repeated(void **state)
{
    struct client_rows rows;

    (void)state;
    assert_int_equal(start(FAKE_LOSSY), FAULT_NONE);
    assert_int_equal(client_list(&rig.client, MGMT_CLASS_PATH, &rows), FAULT_NONE);
    assert_int_equal(rows.count, 3);
    assert_true(rig.client.repeat_count > 0);
    client_free(&rows);
    stop();
}

static void list_hung_board_answers_after_empty_frame(void **state)
{
    struct client_rows rows;

    (void)state;
    assert_int_equal(start(FAKE_HUNG), FAULT_NONE);
    assert_int_equal(client_list(&rig.client, MGMT_CLASS_QUEUE, &rows), FAULT_NONE);
    assert_true(rig.client.is_hung);
    client_free(&rows);
    assert_int_equal(client_list(&rig.client, MGMT_CLASS_VOLUME, &rows), FAULT_FAILED);
    assert_int_equal(rig.client.status, MGMT_HUNG);
    client_free(&rows);
    stop();
}

static void fields_beyond_an_old_record_have_no_value(void **state)
{
    const struct record *record = record_of(MGMT_CLASS_QUEUE);
    struct client_rows rows;
    uint64_t value = 0;

    (void)state;
    assert_int_equal(start(FAKE_OLD), FAULT_NONE);
    assert_int_equal(client_list(&rig.client, MGMT_CLASS_QUEUE, &rows), FAULT_NONE);
    assert_int_equal(rows.record_bytes, sizeof(struct mgmt_queue) - 40);
    assert_true(
        field_uint(record_field(record, "sq_base"), rows.bytes, rows.record_bytes, 0, &value));
    assert_int_equal(value, 0x10180000);
    assert_false(
        field_uint(record_field(record, "sqe_count"), rows.bytes, rows.record_bytes, 0, &value));
    client_free(&rows);
    stop();
}

static void read_pieces_make_the_whole(void **state)
{
    uint8_t *bytes = NULL;
    size_t len = 0;
    uint32_t kept = 0;
    uint64_t offset = 9;

    (void)state;
    assert_int_equal(start(FAKE_NOISY), FAULT_NONE);
    const void *log = fake_object(MGMT_OBJECT_LOG, 0, &kept);
    assert_int_equal(client_read_all(&rig.client, MGMT_OBJECT_LOG, 0, 65536, &bytes, &len, &offset),
                     FAULT_NONE);
    assert_int_equal(len, kept);
    assert_int_equal(offset, 0);
    assert_memory_equal(bytes, log, len);
    free(bytes);
    assert_int_equal(client_read_all(&rig.client, MGMT_OBJECT_LOG, 0, 16, &bytes, &len, NULL),
                     FAULT_FAILED); /* more than is wanted */
    free(bytes);
    stop();
}

static void write_then_commit_is_what_was_written(void **state)
{
    static uint8_t tree[5000];
    struct mgmt_commit_config commit = {.tree_bytes = sizeof(tree)};
    uint8_t *bytes = NULL;
    size_t len = 0;

    (void)state;
    memset(tree, 0x5a, sizeof(tree));
    assert_int_equal(start(FAKE_BUSY), FAULT_NONE);
    assert_int_equal(client_write(&rig.client, MGMT_OBJECT_CONFIG, tree, sizeof(tree), NULL),
                     FAULT_NONE);
    commit.crc = 1;
    assert_int_equal(client_act(&rig.client, MGMT_ACTION_COMMIT_CONFIG, &commit, sizeof(commit)),
                     FAULT_FAILED);
    assert_string_equal(client_reason(&rig.client), "the tree is damaged");
    commit.crc = message_crc(0, tree, sizeof(tree));
    assert_int_equal(client_act(&rig.client, MGMT_ACTION_COMMIT_CONFIG, &commit, sizeof(commit)),
                     FAULT_NONE);
    assert_int_equal(client_read_all(&rig.client, MGMT_OBJECT_CONFIG, 0, 65536, &bytes, &len, NULL),
                     FAULT_NONE);
    assert_int_equal(len, sizeof(tree));
    assert_memory_equal(bytes, tree, len);
    free(bytes);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_versions_decide),
        cmocka_unit_test(list_all_classes_come_whole),
        cmocka_unit_test(list_hostile_ends),
        cmocka_unit_test(list_lossy_line_is_repeated),
        cmocka_unit_test(list_hung_board_answers_after_empty_frame),
        cmocka_unit_test(fields_beyond_an_old_record_have_no_value),
        cmocka_unit_test(read_pieces_make_the_whole),
        cmocka_unit_test(write_then_commit_is_what_was_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
