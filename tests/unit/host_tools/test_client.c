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

static void ignore(void *ctx, const char *text, size_t len)
{
    (void)ctx;
    (void)text;
    (void)len;
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
    assert_string_equal(client_reason(&rig.client), "the tree is damaged: its CRC is another one");
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

/* A board that always gives a little and never ends: each loop has its time. */
static void crawling_board_ends_by_patience(void **state)
{
    struct client_rows rows;
    uint8_t *bytes = NULL;
    size_t len = 0;

    (void)state;
    assert_int_equal(start(FAKE_HOSTILE_CRAWL), FAULT_NONE);
    rig.client.patience_ms = 200;
    uint64_t start_ms = transport_now_ms();
    assert_int_equal(client_read_all(&rig.client, MGMT_OBJECT_LOG, 0, SIZE_MAX, &bytes, &len, NULL),
                     FAULT_FAILED);
    free(bytes);
    assert_int_equal(client_run(&rig.client, "status", 200, ignore, NULL), FAULT_FAILED);
    assert_true(transport_now_ms() - start_ms < 5000);
    stop();
    assert_int_equal(start(FAKE_HOSTILE_ENDLESS), FAULT_NONE);
    rig.client.patience_ms = 20;
    assert_int_equal(client_list(&rig.client, MGMT_CLASS_QUEUE, &rows), FAULT_FAILED);
    assert_true(rows.count < 10000);
    client_free(&rows);
    stop();
}

/* What each status means, by the command that it answers. */
static void refusals_are_told_apart(void **state)
{
    static const struct {
        enum fake_mode mode;
        enum mgmt_action action;
        enum mgmt_status status;
        enum fault fault;
    } cases[] = {
        {FAKE_HUNG, MGMT_ACTION_RESET, MGMT_HUNG, FAULT_FAILED},
        {FAKE_TENANT, MGMT_ACTION_RESET, MGMT_NOT_ALLOWED, FAULT_PERMISSION},
        {FAKE_NO_FLASH, MGMT_ACTION_CONFIRM, MGMT_UNSUPPORTED, FAULT_FAILED},
        {FAKE_GOOD, (enum mgmt_action)30, MGMT_NOT_FOUND, FAULT_VERSION},    /* not in HELLO */
        {FAKE_GOOD, MGMT_ACTION_COMMIT_IMAGE, MGMT_NOT_FOUND, FAULT_FAILED}, /* nothing was sent */
    };
    struct mgmt_commit commit = {.slot = 1, .actions = MGMT_COMMIT_REPLACE};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(start(cases[i].mode), FAULT_NONE);
        assert_int_equal(client_act(&rig.client, cases[i].action, &commit, sizeof(commit)),
                         cases[i].fault);
        assert_int_equal(rig.client.status, cases[i].status);
        stop();
    }
}

/* As firmware/mgmt/mgmt.c answers HELLO. */
static void hello_tells_what_is_to_be_had(void **state)
{
    (void)state;
    assert_int_equal(start(FAKE_HUNG), FAULT_NONE);
    assert_true(client_has_class(&rig.client, MGMT_CLASS_REACTOR));
    assert_false(client_has_class(&rig.client, MGMT_CLASS_VOLUME));
    assert_true(client_has_object(&rig.client, MGMT_OBJECT_CRASH));
    assert_false(client_has_object(&rig.client, MGMT_OBJECT_CONFIG));
    assert_false(client_has_action(&rig.client, MGMT_ACTION_RESET));
    stop();
    assert_int_equal(start(FAKE_TENANT), FAULT_NONE);
    assert_true(client_has_class(&rig.client, MGMT_CLASS_ASSOCIATION));
    rig.client.hello.classes = UINT64_MAX; /* a firmware that tells more than it shows */
    assert_false(client_has_class(&rig.client, MGMT_CLASS_PORT));
    assert_false(client_has_object(&rig.client, MGMT_OBJECT_LOG));
    stop();
}

/* After a restart the log is shorter than what was read. */
static void read_shorter_than_before_is_said(void **state)
{
    struct client_piece piece;

    (void)state;
    assert_int_equal(start(FAKE_GOOD), FAULT_NONE);
    assert_int_equal(client_read(&rig.client, MGMT_OBJECT_LOG, 0, 1u << 20, &piece), FAULT_NONE);
    assert_int_equal(piece.len_bytes, 0);
    assert_true(piece.end < 1u << 20);
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
        cmocka_unit_test(crawling_board_ends_by_patience),
        cmocka_unit_test(refusals_are_told_apart),
        cmocka_unit_test(hello_tells_what_is_to_be_had),
        cmocka_unit_test(read_shorter_than_before_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
