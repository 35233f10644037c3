/*
 * Management, wired: every class that there is, frames as the console gets them, a core 0 that
 * hangs.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "app/console_priv.h"
#include "app/mgmt_priv.h"
#include "app/rig.h"
#include "base/log.h"
#include "hal/console.h"
#include "hal/cpu.h"
#include "hal/native/native.h"
#include "mgmt/frame.h"

static int console_fd;
static int typed[2]; /* a pipe in the place of the keyboard */
static struct mgmt_from from;
static _Alignas(8) uint8_t request[4096];
static _Alignas(8) uint8_t response[4096];
static const struct mgmt_head *const head = (const struct mgmt_head *)(const void *)response;
static const uint8_t *const payload = response + sizeof(struct mgmt_head);

static int setup(void **state)
{
    (void)state;
    console_fd = memfd_create("console", 0);
    native_console_set_fd(console_fd);
    assert_int_equal(pipe(typed), 0);
    assert_int_equal(dup2(typed[0], STDIN_FILENO), STDIN_FILENO);
    rig_start(2, 0, RIG_POOL_BYTES, "ip=192.0.2.1/24 ip.1=192.0.2.2/24 diag=rping");
    rig.board.name = "test";
    rig.board.reset_cause = "power-on";
    rig_advance(5 * NS_PER_S);
    app_mgmt_start();
    from = (struct mgmt_from){.origin = MGMT_ORIGIN_CONSOLE,
                              .may_see_all = true,
                              .may_change = true,
                              .message_max = MGMT_FRAME_BYTES};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_stop();
    native_console_set_fd(1);
    close(console_fd);
    close(typed[0]);
    close(typed[1]);
    return 0;
}

static uint32_t make(uint8_t op, const void *bytes, uint32_t len_bytes)
{
    if (len_bytes > 0) {
        memcpy(request + sizeof(*head), bytes, len_bytes);
    }
    return mgmt_seal(request, op, 9, len_bytes);
}

static enum mgmt_status ask(uint8_t op, const void *bytes, uint32_t len_bytes)
{
    mgmt_serve(&app_mgmt_tables, &from, request, make(op, bytes, len_bytes), response);
    return (enum mgmt_status)head->status;
}

static enum mgmt_status list(uint16_t class, uint32_t first)
{
    struct mgmt_list_request words = {.class = class, .first = first};

    return ask(MGMT_OP_LIST, &words, sizeof(words));
}

static const struct mgmt_list *listed(void)
{
    return (const struct mgmt_list *)(const void *)payload;
}

static const void *record(uint32_t index)
{
    return payload + sizeof(struct mgmt_list) + (size_t)index * listed()->record_bytes;
}

/* --- records --------------------------------------------------------------------------------- */

static void records_of_every_class_can_be_listed(void **state)
{
    (void)state;
    assert_int_equal(ask(MGMT_OP_HELLO, NULL, 0), MGMT_OK);
    uint64_t classes = ((const struct mgmt_hello *)(const void *)payload)->classes;
    uint32_t count = 0;

    for (uint16_t class = 0; class < 64; class ++) {
        if ((classes >> class & 1) == 0) {
            assert_int_equal(list(class, 0), MGMT_NOT_FOUND);
            continue;
        }
        for (uint32_t next = 0; next != MGMT_LIST_END; next = listed()->next) {
            assert_int_equal(list(class, next), MGMT_OK);
        }
        count++;
    }
    assert_int_equal(count, app_mgmt_tables.class_count);
}

static void records_of_ports_tell_addresses(void **state)
{
    (void)state;
    assert_int_equal(list(MGMT_CLASS_PORT, 0), MGMT_OK);
    assert_int_equal(listed()->count, 2);
    const struct mgmt_port *port = record(1);
    assert_int_equal(port->index, 1);
    assert_int_equal(port->flags, MGMT_PORT_UP | MGMT_PORT_LINK_UP);
    assert_string_equal(port->address[1], "192.0.2.2/24"); /* behind the link-local one */
    assert_int_equal(list(MGMT_CLASS_CONNECTION, 0), MGMT_OK);
    assert_true(listed()->count >= 1); /* rping listens */
    assert_string_equal(((const struct mgmt_connection *)record(0))->state, "LISTEN");
    assert_int_equal(list(MGMT_CLASS_QP, 0), MGMT_OK);
    assert_true(listed()->count >= 1);
    assert_int_equal(((const struct mgmt_qp *)record(0))->qpn, 1); /* CM's */
}

static void records_of_reactor_name_the_poller(void **state)
{
    (void)state;
    assert_int_equal(list(MGMT_CLASS_REACTOR, 0), MGMT_OK);
    const struct mgmt_reactor *reactor = record(0);
    assert_int_equal(listed()->count, 1);
    assert_true(reactor->poller_count >= 4);
    assert_true(strlen(reactor->running) > 0);
    native_clock_advance(NS_PER_S);
    assert_int_equal(list(MGMT_CLASS_REACTOR, 0), MGMT_OK);
    assert_true(reactor->turn_age_ns >= NS_PER_S);
}

static uint64_t counter(const char *group, uint32_t index, const char *name)
{
    for (uint32_t next = 0; next != MGMT_LIST_END; next = listed()->next) {
        assert_int_equal(list(MGMT_CLASS_STAT, next), MGMT_OK);
        for (uint32_t i = 0; i < listed()->count; i++) {
            const struct mgmt_stat *s = record(i);
            if (strcmp(s->group, group) == 0 && s->index == index && strcmp(s->name, name) == 0) {
                return s->value;
            }
        }
    }
    fail_msg("no %s%u.%s", group, (unsigned)index, name);
    return 0;
}

static void counters_are_those_of_the_modules(void **state)
{
    (void)state;
    assert_true(counter("net", 0, "tx_frames") > 0);
    assert_int_equal(counter("net", 1, "tx_frames"),
                     counter_get(&net_if_stats(app.fabrics[1].nif)->tx_frames));
    assert_int_equal(counter("net", 1, "port_rx_errors"), 0);
    assert_int_equal(counter("cm", 1, "tx_mads"), 0);
}

static void host_sees_nothing_of_the_board(void **state)
{
    (void)state;
    from = (struct mgmt_from){.origin = 0, .message_max = MGMT_BAND_BYTES};
    for (uint32_t i = 0; i < app_mgmt_tables.class_count; i++) {
        uint16_t class = app_mgmt_tables.classes[i].id;
        for (uint32_t next = 0; next != MGMT_LIST_END; next = listed()->next) {
            assert_int_equal(list(class, next), MGMT_OK);
            assert_int_equal(listed()->count, 0); /* there is no function here */
        }
    }
}

static void log_page_is_a_row_of_messages(void **state)
{
    (void)state;
    static _Alignas(8) uint8_t page[NVME_VENDOR_BYTES];
    uint32_t at = 0;

    app_mgmt_vendor_ops()->log(0, page);
    for (uint8_t i = 0; i < 3; i++) {
        const struct mgmt_head *message = (const struct mgmt_head *)(const void *)(page + at);
        assert_int_equal(message->magic, MGMT_MAGIC);
        assert_int_equal(message->status, MGMT_OK);
        assert_int_equal(message->op, i == 0 ? MGMT_OP_HELLO : MGMT_OP_LIST);
        at += (uint32_t)align_up(sizeof(*message) + message->payload_bytes, 8);
    }
    assert_int_equal(page[at], 0);
    app.config.in_band = CONFIG_IN_BAND_OFF;
    assert_null(app_mgmt_vendor_ops());
}

/* --- objects and actions --------------------------------------------------------------------- */

static enum mgmt_status get(uint16_t object, uint64_t offset)
{
    struct mgmt_read_request words = {.object = object, .offset = offset};

    return ask(MGMT_OP_READ, &words, sizeof(words));
}

static const struct mgmt_read *piece(void)
{
    return (const struct mgmt_read *)(const void *)payload;
}

static void log_is_kept_as_far_as_it_fits(void **state)
{
    (void)state;
    assert_int_equal(get(MGMT_OBJECT_LOG, UINT64_MAX), MGMT_OK);
    uint64_t start = piece()->end;
    LOG_INFO("test: first");
    assert_int_equal(get(MGMT_OBJECT_LOG, start), MGMT_OK);
    assert_int_equal(piece()->offset, start);
    assert_non_null(strstr((const char *)(piece() + 1), "test: first\n"));
    for (uint32_t i = 0; i < 2000; i++) {
        LOG_INFO("test: line %u", (unsigned)i);
    }
    assert_int_equal(get(MGMT_OBJECT_LOG, start), MGMT_OK);
    assert_true(piece()->offset > start && piece()->end - piece()->offset < 16384);
    uint64_t at = piece()->offset;
    while (at != piece()->end) {
        assert_int_equal(get(MGMT_OBJECT_LOG, at), MGMT_OK);
        assert_int_equal(piece()->offset, at);
        at += piece()->data_bytes;
    }
    assert_int_equal(((const char *)(piece() + 1))[piece()->data_bytes - 1], '\n');
}

static enum mgmt_status act(uint16_t action, const void *arguments, uint32_t len_bytes)
{
    uint8_t words[300];
    struct mgmt_action_request fixed = {.action = action, .argument_bytes = len_bytes};

    memcpy(words, &fixed, sizeof(fixed));
    memcpy(words + sizeof(fixed), arguments, len_bytes);
    return ask(MGMT_OP_ACTION, words, (uint32_t)sizeof(fixed) + len_bytes);
}

static void run_keeps_what_the_command_prints(void **state)
{
    (void)state;
    assert_int_equal(act(MGMT_ACTION_RUN, "net", 3), MGMT_OK);
    assert_int_equal(act(MGMT_ACTION_RUN, "rdma", 4), MGMT_BUSY);
    assert_int_equal(get(MGMT_OBJECT_CONSOLE, 0), MGMT_OK);
    assert_int_equal(piece()->flags, MGMT_READ_GROWS);
    rig_turn();
    assert_int_equal(get(MGMT_OBJECT_CONSOLE, 0), MGMT_OK);
    assert_int_equal(piece()->flags, 0);
    assert_non_null(memmem(piece() + 1, piece()->data_bytes, "net0.port ", 10));
    assert_int_equal(get(MGMT_OBJECT_CONSOLE, piece()->end), MGMT_OK);
    assert_int_equal(piece()->data_bytes, 0);
    char long_line[200];
    memset(long_line, 'x', sizeof(long_line));
    assert_int_equal(act(MGMT_ACTION_RUN, long_line, sizeof(long_line)), MGMT_OUT_OF_RANGE);
    assert_int_equal(act(MGMT_ACTION_RUN, "a\nb", 3), MGMT_OUT_OF_RANGE);
}

static void trace_classes_are_set_and_told(void **state)
{
    (void)state;
    uint32_t classes = 0xff;
    uint32_t before;

    assert_int_equal(act(MGMT_ACTION_TRACE, &classes, 4), MGMT_OK);
    memcpy(&before, payload, sizeof(before));
    assert_int_equal(act(MGMT_ACTION_TRACE, &before, 4), MGMT_OK);
    assert_int_equal(*(const uint32_t *)(const void *)payload, 0xff);
    classes = 0x100;
    assert_int_equal(act(MGMT_ACTION_TRACE, &classes, 4), MGMT_OUT_OF_RANGE);
    assert_int_equal(act(MGMT_ACTION_TRACE, &classes, 3), MGMT_OUT_OF_RANGE);
}

/* --- frames ---------------------------------------------------------------------------------- */

/* What the console has said since the last look. */
static const char *said(void)
{
    static char text[65536];
    ssize_t got = pread(console_fd, text, sizeof(text) - 1, 0);

    assert_true(got >= 0);
    text[got] = '\0';
    assert_int_equal(ftruncate(console_fd, 0), 0);
    assert_int_equal(lseek(console_fd, 0, SEEK_SET), 0);
    return text;
}

/* The receive interrupt: nobody reads, take() sees the bytes. */
static void arrive(const char *bytes, size_t len_bytes)
{
    assert_int_equal(write(typed[1], bytes, len_bytes), len_bytes);
    assert_int_equal(console_read(), -1);
}

static void arrive_frame(uint8_t op)
{
    char text[MGMT_FRAME_TEXT_BYTES];

    arrive(text, mgmt_frame_make(request, make(op, NULL, 0), text));
}

/* The message in the only frame that was said; false: none was. */
static bool answered(void)
{
    struct mgmt_frame frame = {0};
    const char *text = said();

    for (; *text != '\0'; text++) {
        if (mgmt_frame_byte(&frame, (uint8_t)*text) == MGMT_FRAME_END) {
            memcpy(response, frame.bytes, frame.len_bytes);
            return true;
        }
    }
    return false;
}

#define LATE_NS (MGMT_FRAME_HANG_MS * NS_PER_MS)

static void frame_is_answered_in_a_turn(void **state)
{
    (void)state;
    (void)said();
    arrive_frame(MGMT_OP_HELLO);
    assert_false(answered());
    assert_int_equal(app_mgmt_frames_poll(), 1);
    assert_true(answered());
    assert_int_equal(head->flags, MGMT_FLAG_RESPONSE);
    assert_int_equal(app_mgmt_frames_poll(), 0);
}

static void frame_before_the_answer_is_dropped(void **state)
{
    (void)state;
    (void)said();
    arrive_frame(MGMT_OP_HELLO);
    arrive_frame(MGMT_OP_LIST);
    arrive("\001AAAA", 5); /* the end of this one comes after the answer */
    app_mgmt_frames_poll();
    assert_true(answered());
    assert_int_equal(head->op, MGMT_OP_HELLO);
    arrive("AAAA\n", 5);
    assert_int_equal(app_mgmt_frames_poll(), 0);
    arrive_frame(MGMT_OP_LIST);
    assert_int_equal(app_mgmt_frames_poll(), 1);
}

static void frame_of_hung_core_is_answered_by_the_next_start(void **state)
{
    (void)state;
    (void)said();
    arrive_frame(MGMT_OP_HELLO);
    native_clock_advance(LATE_NS - 1);
    arrive("\001\n", 2);
    assert_false(answered());
    native_clock_advance(1);
    arrive("x", 0);
    arrive("\001\n", 2);
    assert_true(answered());
    assert_int_equal(head->flags, MGMT_FLAG_RESPONSE | MGMT_FLAG_HUNG);
    assert_int_equal(app_mgmt_frames_poll(), 0);
    arrive_frame(MGMT_OP_ACTION);
    native_clock_advance(LATE_NS);
    arrive("\001\n", 2);
    assert_true(answered());
    assert_int_equal(head->status, MGMT_HUNG);
}

/* A turn that came to its end shows that the core lives, however late the poller is. */
static void frame_of_slow_core_waits(void **state)
{
    (void)state;
    (void)said();
    arrive_frame(MGMT_OP_HELLO);
    for (uint32_t i = 0; i < 10; i++) {
        native_clock_advance(LATE_NS);
        (void)sched_turn();
        arrive("\001\n", 2);
        assert_false(answered());
    }
    native_clock_advance(LATE_NS);
    arrive("\001\n", 2);
    assert_true(answered());
}

static void (*in_request)(void); /* called once, while one is served */

static void hook(const char *bytes, size_t len_bytes)
{
    void (*call)(void) = in_request;

    (void)bytes;
    (void)len_bytes;
    in_request = NULL;
    if (call != NULL) {
        call();
    }
}

static void ask_while_it_hangs(void)
{
    arrive_frame(MGMT_OP_HELLO);
    arrive("\001\n", 2);
    assert_false(answered());
    native_clock_advance(LATE_NS);
    arrive("\001\n", 2);
    assert_true(answered());
    assert_int_equal(head->op, MGMT_OP_HELLO);
    assert_int_equal(head->status, MGMT_OK);
    assert_int_equal(head->flags, MGMT_FLAG_RESPONSE | MGMT_FLAG_HUNG);
    arrive_frame(MGMT_OP_LIST); /* and again; the turn that comes answers it */
}

/* A request that does not end, of which RESET is none: but it says a line. */
static void frame_is_answered_while_another_request_hangs(void **state)
{
    (void)state;
    static const struct log_sink sink = {hook, clock_now_ns, cpu_self};
    const struct mgmt_action_request words = {.action = MGMT_ACTION_RESET};
    char text[MGMT_FRAME_TEXT_BYTES];

    (void)said();
    log_set_sink(&sink);
    in_request = ask_while_it_hangs;
    arrive(text, mgmt_frame_make(request, make(MGMT_OP_ACTION, &words, sizeof(words)), text));
    assert_int_equal(app_mgmt_frames_poll(), 1);
    assert_null(in_request);
    assert_true(answered());
    assert_int_equal(head->op, MGMT_OP_ACTION);
    assert_int_equal(head->status, MGMT_OK);
    assert_int_equal(head->flags, MGMT_FLAG_RESPONSE);
    assert_int_equal(app_mgmt_frames_poll(), 1);
    assert_true(answered());
    assert_int_equal(head->op, MGMT_OP_LIST);
    assert_int_equal(app_mgmt_frames_poll(), 0);
}

int main(void)
{
#define MGMT_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        MGMT_TEST(records_of_every_class_can_be_listed),
        MGMT_TEST(records_of_ports_tell_addresses),
        MGMT_TEST(records_of_reactor_name_the_poller),
        MGMT_TEST(counters_are_those_of_the_modules),
        MGMT_TEST(host_sees_nothing_of_the_board),
        MGMT_TEST(log_page_is_a_row_of_messages),
        MGMT_TEST(log_is_kept_as_far_as_it_fits),
        MGMT_TEST(run_keeps_what_the_command_prints),
        MGMT_TEST(trace_classes_are_set_and_told),
        MGMT_TEST(frame_is_answered_in_a_turn),
        MGMT_TEST(frame_before_the_answer_is_dropped),
        MGMT_TEST(frame_of_hung_core_is_answered_by_the_next_start),
        MGMT_TEST(frame_of_slow_core_waits),
        MGMT_TEST(frame_is_answered_while_another_request_hangs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
