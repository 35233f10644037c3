#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include "base/log.h"
#include "hal/clock.h"

/* A sink that keeps the lines of one test. */
#define OUTPUT_BYTES 100000
static char output[OUTPUT_BYTES];
static size_t output_bytes;
static uint64_t now_ns;

static void sink_write(const char *bytes, size_t len_bytes)
{
    assert_true(output_bytes + len_bytes < OUTPUT_BYTES);
    memcpy(output + output_bytes, bytes, len_bytes);
    output_bytes += len_bytes;
    output[output_bytes] = '\0';
}

static uint64_t sink_now_ns(void)
{
    return now_ns;
}

static _Thread_local uint32_t self = 2;

static uint32_t sink_core(void)
{
    return self;
}

static int setup(void **state)
{
    (void)state;
    static const struct log_sink sink = {sink_write, sink_now_ns, sink_core};
    log_set_sink(&sink);
    log_set_level(LOG_LEVEL_INFO);
    output_bytes = 0;
    output[0] = '\0';
    now_ns += UINT64_C(100) * LOG_LIMIT_WINDOW_NS;
    return 0;
}

static uint32_t output_lines(void)
{
    uint32_t lines = 0;
    for (size_t i = 0; i < output_bytes; i++) {
        lines += output[i] == '\n';
    }
    return lines;
}

static void log_line_has_time_core_and_level(void **state)
{
    (void)state;
    now_ns = UINT64_C(12345678901);
    LOG_WARN("unit: value %d", 7);
    assert_string_equal(output, "[   12.345678] 2 W unit: value 7\n");
}

static void log_line_above_level_is_dropped(void **state)
{
    (void)state;
    LOG_DEBUG("unit: fine detail");
    assert_int_equal(output_bytes, 0);
    log_set_level(LOG_LEVEL_DEBUG);
    LOG_DEBUG("unit: fine detail");
    assert_int_equal(output_lines(), 1);
}

static void log_line_too_long_is_cut_and_marked(void **state)
{
    (void)state;
    char text[2 * LOG_LINE_BYTES];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';

    LOG_INFO("unit: %s", text);
    assert_int_equal(output_bytes, LOG_LINE_BYTES);
    assert_string_equal(output + LOG_LINE_BYTES - 5, "x...\n");
}

static void log_line_longest_uncut_length_is_not_marked(void **state)
{
    (void)state;
    char text[LOG_LINE_BYTES];
    size_t prefix = strlen("[  123.456789] 2 I ");
    size_t fits = LOG_LINE_BYTES - 1 - prefix;
    memset(text, 'x', sizeof(text));
    now_ns = UINT64_C(123456789000);

    text[fits] = '\0';
    LOG_INFO("%s", text);
    assert_int_equal(output_bytes, LOG_LINE_BYTES);
    assert_string_equal(output + LOG_LINE_BYTES - 5, "xxxx\n");
}

static void log_line_without_sink_is_counted(void **state)
{
    (void)state;
    uint64_t before = log_stats().dropped_count;
    log_set_sink(NULL);
    LOG_ERROR("unit: nobody hears");
    assert_int_equal(log_stats().dropped_count, before + 1);
    assert_int_equal(output_bytes, 0);
}

static void flood(uint32_t lines)
{
    for (uint32_t i = 0; i < lines; i++) {
        LOG_LIMITED(WARN, "unit: bad opcode %u", i);
    }
}

static void log_limited_flood_passes_a_burst_and_counts_the_rest(void **state)
{
    (void)state;
    uint64_t before = log_stats().suppressed_count;
    flood(1000);
    assert_int_equal(output_lines(), LOG_LIMIT_BURST);
    assert_int_equal(log_stats().suppressed_count - before, 1000 - LOG_LIMIT_BURST);
}

static void log_limited_next_window_tells_the_suppressed(void **state)
{
    (void)state;
    flood(LOG_LIMIT_BURST + 20);
    output_bytes = 0;
    now_ns += LOG_LIMIT_WINDOW_NS - 1;
    flood(1);
    assert_int_equal(output_bytes, 0);
    now_ns += 1;
    flood(2);
    assert_int_equal(output_lines(), 2);
    assert_non_null(strstr(output, "(21 like this suppressed) unit: bad opcode 0\n"));
    assert_null(strstr(strchr(output, '\n'), "suppressed"));
}

static void log_limited_places_do_not_share_a_limit(void **state)
{
    (void)state;
    flood(1000);
    LOG_LIMITED(ERROR, "unit: another place");
    assert_non_null(strstr(output, "another place"));
}

/* An interrupt handler that logs while its own core is in the middle of a line. */
static void sink_write_interrupted(const char *bytes, size_t len_bytes)
{
    static bool is_inside;
    if (!is_inside) {
        is_inside = true;
        LOG_ERROR("unit: from the handler");
        is_inside = false;
    }
    sink_write(bytes, len_bytes);
}

static void log_line_inside_a_line_of_the_same_core_does_not_wait(void **state)
{
    (void)state;
    static const struct log_sink sink = {sink_write_interrupted, sink_now_ns, sink_core};
    log_set_sink(&sink);
    uint64_t start_ns = clock_now_ns();
    for (int i = 0; i < 100; i++) {
        LOG_INFO("unit: interrupted");
    }
    assert_int_equal(output_lines(), 200);
    assert_true(clock_now_ns() - start_ns < NS_PER_S);
}

/* Several cores at once: lines stay whole. */
#define WRITERS      3
#define WRITER_LINES 300

static void *write_lines(void *arg)
{
    self = (uint32_t)(*(char *)arg - 'a');
    for (int i = 0; i < WRITER_LINES; i++) {
        LOG_INFO("unit: writer %c%c%c%c", *(char *)arg, *(char *)arg, *(char *)arg, *(char *)arg);
    }
    return NULL;
}

static void log_line_from_several_cores_stays_whole(void **state)
{
    (void)state;
    static char names[WRITERS] = {'a', 'b', 'c'};
    pthread_t threads[WRITERS];

    for (int i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &names[i]), 0);
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
    }
    uint32_t whole = 0;
    char *rest = NULL;
    for (char *line = strtok_r(output, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        whole += strstr(line, "writer aaaa") != NULL || strstr(line, "writer bbbb") != NULL ||
                 strstr(line, "writer cccc") != NULL;
    }
    assert_int_equal(whole, WRITERS * WRITER_LINES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(log_line_has_time_core_and_level, setup),
        cmocka_unit_test_setup(log_line_above_level_is_dropped, setup),
        cmocka_unit_test_setup(log_line_too_long_is_cut_and_marked, setup),
        cmocka_unit_test_setup(log_line_longest_uncut_length_is_not_marked, setup),
        cmocka_unit_test_setup(log_line_without_sink_is_counted, setup),
        cmocka_unit_test_setup(log_limited_flood_passes_a_burst_and_counts_the_rest, setup),
        cmocka_unit_test_setup(log_limited_next_window_tells_the_suppressed, setup),
        cmocka_unit_test_setup(log_limited_places_do_not_share_a_limit, setup),
        cmocka_unit_test_setup(log_line_inside_a_line_of_the_same_core_does_not_wait, setup),
        cmocka_unit_test_setup(log_line_from_several_cores_stays_whole, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
