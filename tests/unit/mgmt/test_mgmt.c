/*
 * Requests, good and hostile, against small tables: docs/spec/mgmt.md.
 */
#include "mgmt/rig.h"

#include <string.h>
#include "base/bits.h"

static int console(void **state)
{
    (void)state;
    rig_console();
    return 0;
}

static enum mgmt_status list(uint16_t class, uint16_t max, uint32_t first)
{
    struct mgmt_list_request request = {.class = class, .max = max, .first = first};

    return rig_ask(MGMT_OP_LIST, &request, sizeof(request));
}

static const struct mgmt_list *listed(void)
{
    return (const struct mgmt_list *)(const void *)rig.payload;
}

/* Goes through a class; how many records there are. */
static uint32_t count_all(uint16_t class)
{
    uint32_t count = 0;

    for (uint32_t next = 0; next != MGMT_LIST_END; next = listed()->next) {
        assert_int_equal(list(class, 0, next), MGMT_OK);
        assert_true(listed()->next > next);
        count += listed()->count;
    }
    return count;
}

/* --- messages -------------------------------------------------------------------------------- */

static void serve_hello_tells_what_is_there_and_allowed(void **state)
{
    (void)state;
    assert_int_equal(rig_ask(MGMT_OP_HELLO, NULL, 0), MGMT_OK);
    const struct mgmt_hello *hello = (const struct mgmt_hello *)(const void *)rig.payload;
    assert_int_equal(rig.head.payload_bytes, sizeof(*hello));
    assert_int_equal(hello->version, MGMT_VERSION);
    assert_int_equal(hello->origin, MGMT_ORIGIN_CONSOLE);
    assert_int_equal(hello->message_max, MGMT_FRAME_BYTES);
    assert_int_equal(hello->may, MGMT_MAY_SEE_ALL | MGMT_MAY_CHANGE);
    assert_int_equal(hello->classes, 1u << MGMT_CLASS_FUNCTION | 1u << MGMT_CLASS_SLOT |
                                         1u << MGMT_CLASS_POLLER | 1u << MGMT_CLASS_STAT);
    assert_int_equal(hello->objects,
                     1u << MGMT_OBJECT_LOG | 1u << MGMT_OBJECT_CONFIG | 1u << MGMT_OBJECT_IMAGE);
    assert_int_equal(hello->actions, 1u << MGMT_ACTION_RESET);
    assert_int_equal(hello->core_count, 4);

    rig_host(2);
    assert_int_equal(rig_ask(MGMT_OP_HELLO, NULL, 0), MGMT_OK);
    assert_int_equal(hello->origin, 2);
    assert_int_equal(hello->may, 0);
    assert_int_equal(hello->objects | hello->actions, 0);
    assert_int_equal(hello->classes, 1u << MGMT_CLASS_FUNCTION | 1u << MGMT_CLASS_SLOT |
                                         1u << MGMT_CLASS_STAT); /* POLLER is the board's */
}

static void serve_damaged_message_is_refused_and_does_nothing(void **state)
{
    (void)state;
    struct mgmt_list_request request = {.class = MGMT_CLASS_POLLER};
    uint32_t len_bytes = rig_make(MGMT_OP_LIST, &request, sizeof(request));

    for (uint32_t bit = 0; bit < len_bytes * 8; bit++) {
        rig.request[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(rig_send(len_bytes), MGMT_BAD_MESSAGE);
        assert_int_equal(rig.head.payload_bytes, 0);
        rig.request[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (uint32_t cut = 0; cut < len_bytes; cut++) {
        assert_int_equal(rig_send(cut), MGMT_BAD_MESSAGE);
    }
    assert_int_equal(rig.prepare_count, 0);
    assert_int_equal(rig_send(len_bytes), MGMT_OK);
    assert_int_equal(rig_send(len_bytes + 100), MGMT_OK); /* what is behind is not looked at */
}

static void serve_response_as_request_is_refused(void **state)
{
    (void)state;
    uint32_t len_bytes = rig_make(MGMT_OP_HELLO, NULL, 0);

    ((struct mgmt_head *)(void *)rig.request)->flags = MGMT_FLAG_RESPONSE;
    rig_seal();
    assert_int_equal(rig_send(len_bytes), MGMT_BAD_MESSAGE);
}

static enum mgmt_status of_version(uint8_t op, uint8_t version)
{
    struct mgmt_list_request request = {.class = MGMT_CLASS_SLOT};
    uint32_t len_bytes = rig_make(op, &request, sizeof(request));

    ((struct mgmt_head *)(void *)rig.request)->version = version;
    rig_seal();
    return rig_send(len_bytes);
}

static void serve_other_version_gets_hello_alone(void **state)
{
    (void)state;
    assert_int_equal(of_version(MGMT_OP_LIST, MGMT_VERSION + 1), MGMT_OLD_FIRMWARE);
    assert_int_equal(of_version(MGMT_OP_LIST, MGMT_MIN_VERSION - 1), MGMT_OLD_TOOL);
    assert_int_equal(of_version(MGMT_OP_LIST, MGMT_VERSION), MGMT_OK);
    assert_int_equal(of_version(MGMT_OP_HELLO, 255), MGMT_OK);
    assert_int_equal(of_version(MGMT_OP_HELLO, 0), MGMT_OK);
}

static void serve_unknown_operation_is_named(void **state)
{
    (void)state;
    for (uint32_t op = 0; op < 256; op++) {
        if (op == 0 || op > MGMT_OP_ACTION) {
            assert_int_equal(rig_ask((uint8_t)op, NULL, 0), MGMT_UNKNOWN_OP);
        }
    }
}

static void serve_short_request_is_out_of_range(void **state)
{
    (void)state;
    static const uint8_t zeroes[32];
    static const uint32_t whole[] = {[MGMT_OP_LIST] = sizeof(struct mgmt_list_request),
                                     [MGMT_OP_READ] = sizeof(struct mgmt_read_request),
                                     [MGMT_OP_WRITE] = sizeof(struct mgmt_write_request),
                                     [MGMT_OP_ACTION] = sizeof(struct mgmt_action_request)};

    for (uint8_t op = MGMT_OP_LIST; op <= MGMT_OP_ACTION; op++) {
        for (uint32_t bytes = 0; bytes < whole[op]; bytes++) {
            assert_int_equal(rig_ask(op, zeroes, bytes), MGMT_OUT_OF_RANGE);
        }
        assert_int_equal(rig_ask(op, zeroes, whole[op]), MGMT_NOT_FOUND);
    }
}

/* --- LIST ------------------------------------------------------------------------------------ */

static void list_pages_through_all_records_once(void **state)
{
    (void)state;
    uint32_t expected = 0;

    for (uint32_t next = 0; next != MGMT_LIST_END; next = listed()->next) {
        assert_int_equal(list(MGMT_CLASS_FUNCTION, 0, next), MGMT_OK);
        assert_int_equal(listed()->record_bytes, sizeof(struct rig_record));
        const struct rig_record *record = (const struct rig_record *)(const void *)(listed() + 1);
        for (uint32_t i = 0; i < listed()->count; i++) {
            expected += expected % 4 == 3;
            assert_int_equal(record[i].index, expected);
            expected++;
        }
    }
    assert_int_equal(expected, RIG_RECORDS - 1);
}

static void list_max_is_kept(void **state)
{
    (void)state;
    assert_int_equal(list(MGMT_CLASS_FUNCTION, 5, 0), MGMT_OK);
    assert_int_equal(listed()->count, 5);
    assert_int_equal(listed()->next, 6);
    assert_int_equal(rig.head.payload_bytes, sizeof(struct mgmt_list) + 5 * 16);
    assert_int_equal(list(MGMT_CLASS_FUNCTION, UINT16_MAX, 0), MGMT_OK);
    assert_true(listed()->count < 64);
}

static void list_index_beyond_the_end_is_the_end(void **state)
{
    (void)state;
    assert_int_equal(list(MGMT_CLASS_FUNCTION, 0, RIG_RECORDS), MGMT_OK);
    assert_int_equal(listed()->count, 0);
    assert_int_equal(listed()->next, MGMT_LIST_END);
    assert_int_equal(list(MGMT_CLASS_FUNCTION, 0, UINT32_MAX), MGMT_OK);
    assert_int_equal(listed()->next, MGMT_LIST_END);
}

static void list_unprepared_is_busy(void **state)
{
    (void)state;
    rig.prepared = MGMT_BUSY;
    assert_int_equal(list(MGMT_CLASS_POLLER, 0, 0), MGMT_BUSY);
    assert_int_equal(rig.head.payload_bytes, 0);
    rig.prepared = MGMT_OK;
    assert_int_equal(count_all(MGMT_CLASS_POLLER), 1);
    assert_int_equal(rig.prepare_count, 2);
}

static void list_host_sees_its_own_and_public_records_alone(void **state)
{
    (void)state;
    assert_int_equal(count_all(MGMT_CLASS_FUNCTION), RIG_RECORDS - RIG_RECORDS / 4);
    rig_host(1);
    for (uint32_t next = 0; next != MGMT_LIST_END; next = listed()->next) {
        assert_int_equal(list(MGMT_CLASS_FUNCTION, 0, next), MGMT_OK);
        const struct rig_record *record = (const struct rig_record *)(const void *)(listed() + 1);
        for (uint32_t i = 0; i < listed()->count; i++) {
            assert_int_equal(record[i].index % 3, 1);
        }
    }
    assert_int_equal(count_all(MGMT_CLASS_SLOT), 1);
    assert_int_equal(count_all(MGMT_CLASS_POLLER), 0);
    rig_host(31); /* the board's bit is nobody's */
    assert_int_equal(count_all(MGMT_CLASS_POLLER), 0);
    rig_host(7); /* has none: looks at so many indices at a time */
    assert_int_equal(list(MGMT_CLASS_FUNCTION, 0, 0), MGMT_OK);
    assert_int_equal(listed()->count, 0);
    assert_int_equal(listed()->next, MGMT_SCAN_MAX);
    assert_int_equal(count_all(MGMT_CLASS_FUNCTION), 0);
}

static void list_host_costs_nothing_for_what_it_may_not_see(void **state)
{
    (void)state;
    rig_host(1);
    rig.prepared = MGMT_BUSY;
    assert_int_equal(list(MGMT_CLASS_POLLER, 0, 0), MGMT_OK);
    assert_int_equal(listed()->next, MGMT_LIST_END);
    assert_int_equal(rig.prepare_count, 0);
    uint32_t seen = count_all(MGMT_CLASS_STAT);
    assert_int_equal(rig.fill_count, seen);
    assert_true(seen > 0);
    rig_console();
    assert_int_equal(list(MGMT_CLASS_POLLER, 0, 0), MGMT_OK);
    assert_int_equal(rig.prepare_count, 1);
}

/* What did not get out must not get out. */
static void list_foreign_records_leave_no_trace(void **state)
{
    (void)state;
    rig_host(7);
    assert_int_equal(list(MGMT_CLASS_FUNCTION, 0, 0), MGMT_OK);
    assert_int_equal(rig.head.payload_bytes, sizeof(struct mgmt_list));
    for (uint32_t i = 0; i < sizeof(struct rig_record); i++) { /* behind the message neither */
        assert_int_equal(((const uint8_t *)(listed() + 1))[i], 0);
    }
}

/* --- READ, WRITE, ACTION --------------------------------------------------------------------- */

static enum mgmt_status read(uint16_t object, uint16_t part, uint32_t max_bytes)
{
    struct mgmt_read_request request = {
        .object = object, .part = part, .max_bytes = max_bytes, .offset = 77};

    return rig_ask(MGMT_OP_READ, &request, sizeof(request));
}

static void read_gives_what_fits(void **state)
{
    (void)state;
    assert_int_equal(read(MGMT_OBJECT_LOG, 0, 0), MGMT_OK);
    const struct mgmt_read *got = (const struct mgmt_read *)(const void *)rig.payload;
    assert_int_equal(got->data_bytes, MGMT_FRAME_BYTES - sizeof(rig.head) - sizeof(*got));
    assert_int_equal(got->offset, 77);
    assert_int_equal(read(MGMT_OBJECT_LOG, 0, 3), MGMT_OK);
    assert_int_equal(got->data_bytes, 3);
    assert_int_equal(rig.head.payload_bytes, sizeof(*got) + 3);
    assert_int_equal(read(MGMT_OBJECT_LOG, 0, UINT32_MAX), MGMT_OK);
    assert_int_equal(read(MGMT_OBJECT_LOG, 2, 0), MGMT_OUT_OF_RANGE);
    assert_int_equal(rig.head.payload_bytes, 0);
    assert_int_equal(read(MGMT_OBJECT_IMAGE, 0, 0), MGMT_UNSUPPORTED);
    assert_int_equal(read(MGMT_OBJECT_TRACE, 0, 0), MGMT_NOT_FOUND);
}

static enum mgmt_status write(uint16_t object, uint32_t said_bytes, uint32_t sent_bytes)
{
    uint8_t bytes[64];
    struct mgmt_write_request request = {
        .object = object, .data_bytes = said_bytes, .offset = 1ull << 40};

    memcpy(bytes, &request, sizeof(request));
    memset(bytes + sizeof(request), 'w', sizeof(bytes) - sizeof(request));
    return rig_ask(MGMT_OP_WRITE, bytes, (uint32_t)sizeof(request) + sent_bytes);
}

static void write_hands_over_what_was_sent(void **state)
{
    (void)state;
    assert_int_equal(write(MGMT_OBJECT_CONFIG, 20, 20), MGMT_OK);
    assert_int_equal(rig.written_bytes, 20);
    assert_true(rig.written_at == 1ull << 40);
    assert_memory_equal(rig.written, "wwwwwwwwwwwwwwwwwwww\0", 21);
    assert_int_equal(write(MGMT_OBJECT_CONFIG, 21, 20), MGMT_OUT_OF_RANGE);
    assert_int_equal(write(MGMT_OBJECT_CONFIG, UINT32_MAX, 20), MGMT_OUT_OF_RANGE);
    assert_int_equal(write(MGMT_OBJECT_LOG, 1, 1), MGMT_UNSUPPORTED);
    assert_int_equal(write(MGMT_OBJECT_TRACE, 1, 1), MGMT_NOT_FOUND);
    assert_int_equal(rig.written_bytes, 20);
}

static enum mgmt_status act(uint16_t action, uint32_t said_bytes)
{
    struct {
        struct mgmt_action_request head;
        uint8_t arguments[4];
    } request = {.head = {.action = action, .argument_bytes = said_bytes}};

    return rig_ask(MGMT_OP_ACTION, &request, sizeof(request));
}

static void action_refusal_carries_its_text(void **state)
{
    (void)state;
    assert_int_equal(act(MGMT_ACTION_RESET, 4), MGMT_REFUSED);
    assert_int_equal(rig.action_bytes, 4);
    assert_int_equal(rig.head.payload_bytes, 7);
    assert_memory_equal(rig.payload, "because", 7);
    rig.action_bytes = UINT32_MAX;
    assert_int_equal(act(MGMT_ACTION_RESET, 5), MGMT_OUT_OF_RANGE);
    assert_int_equal(act(MGMT_ACTION_RUN, 0), MGMT_NOT_FOUND);
    assert_int_equal(rig.action_bytes, UINT32_MAX);
}

static void change_host_is_not_allowed_to(void **state)
{
    (void)state;
    rig_host(0);
    rig.action_bytes = UINT32_MAX;
    assert_int_equal(act(MGMT_ACTION_RESET, 4), MGMT_NOT_ALLOWED);
    assert_int_equal(act(99, 4), MGMT_NOT_ALLOWED);
    assert_int_equal(write(MGMT_OBJECT_IMAGE, 1, 1), MGMT_NOT_ALLOWED);
    assert_int_equal(read(MGMT_OBJECT_LOG, 0, 0), MGMT_NOT_ALLOWED);
    assert_int_equal(rig.action_bytes, UINT32_MAX);
    assert_int_equal(rig.written_bytes, 0);
}

/* --- hung ------------------------------------------------------------------------------------ */

static void hung_answers_what_is_safe_alone(void **state)
{
    (void)state;
    rig.from.is_hung = true;
    assert_int_equal(rig_ask(MGMT_OP_HELLO, NULL, 0), MGMT_OK);
    const struct mgmt_hello *hello = (const struct mgmt_hello *)(const void *)rig.payload;
    assert_int_equal(hello->classes, 1u << MGMT_CLASS_FUNCTION | 1u << MGMT_CLASS_SLOT);
    assert_int_equal(hello->objects, 1u << MGMT_OBJECT_LOG);
    assert_int_equal(hello->actions, 0);
    assert_int_equal(list(MGMT_CLASS_FUNCTION, 0, 0), MGMT_OK);
    assert_int_equal(list(MGMT_CLASS_POLLER, 0, 0), MGMT_HUNG);
    assert_int_equal(rig.prepare_count, 0);
    assert_int_equal(read(MGMT_OBJECT_LOG, 0, 0), MGMT_OK);
    assert_int_equal(read(MGMT_OBJECT_CONFIG, 0, 0), MGMT_HUNG);
    assert_int_equal(write(MGMT_OBJECT_CONFIG, 1, 1), MGMT_HUNG);
    assert_int_equal(act(MGMT_ACTION_RESET, 0), MGMT_HUNG);
    assert_int_equal(rig.action_bytes, UINT32_MAX);
}

static void seal_makes_a_request_that_is_taken(void **state)
{
    (void)state;
    uint32_t len_bytes = mgmt_seal(rig.request, MGMT_OP_HELLO, 5, 0);

    assert_int_equal(rig_send(len_bytes), MGMT_OK);
    assert_int_equal(rig.head.tag, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(serve_hello_tells_what_is_there_and_allowed, console),
        cmocka_unit_test_setup(serve_damaged_message_is_refused_and_does_nothing, console),
        cmocka_unit_test_setup(serve_response_as_request_is_refused, console),
        cmocka_unit_test_setup(serve_other_version_gets_hello_alone, console),
        cmocka_unit_test_setup(serve_unknown_operation_is_named, console),
        cmocka_unit_test_setup(serve_short_request_is_out_of_range, console),
        cmocka_unit_test_setup(list_pages_through_all_records_once, console),
        cmocka_unit_test_setup(list_max_is_kept, console),
        cmocka_unit_test_setup(list_index_beyond_the_end_is_the_end, console),
        cmocka_unit_test_setup(list_unprepared_is_busy, console),
        cmocka_unit_test_setup(list_host_sees_its_own_and_public_records_alone, console),
        cmocka_unit_test_setup(list_host_costs_nothing_for_what_it_may_not_see, console),
        cmocka_unit_test_setup(list_foreign_records_leave_no_trace, console),
        cmocka_unit_test_setup(read_gives_what_fits, console),
        cmocka_unit_test_setup(write_hands_over_what_was_sent, console),
        cmocka_unit_test_setup(action_refusal_carries_its_text, console),
        cmocka_unit_test_setup(change_host_is_not_allowed_to, console),
        cmocka_unit_test_setup(hung_answers_what_is_safe_alone, console),
        cmocka_unit_test_setup(seal_makes_a_request_that_is_taken, console),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
