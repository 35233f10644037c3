#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include "base/trace.h"
#include "hal/clock.h"

static uint64_t start; /* records before the test */

static int setup(void **state)
{
    (void)state;
    trace_enable(TRACE_CLASS_ALL);
    start = atomic_load(&trace_rings[0].head);
    return 0;
}

static void put(uint64_t number)
{
    trace_set_time(0, number * 10);
    TRACE(0, IO_FETCH, 3, number, number + 1, ~number);
}

static void assert_record(const struct trace_record *r, uint64_t number)
{
    assert_int_equal(r->time_ns, number * 10);
    assert_int_equal(r->event, TRACE_IO_FETCH);
    assert_int_equal(r->fn, 3);
    assert_int_equal(r->id, (uint32_t)number);
    assert_int_equal(r->a, number + 1);
    assert_int_equal(r->b, ~number);
}

static void trace_read_gives_what_was_put(void **state)
{
    (void)state;
    struct trace_record records[8];
    uint64_t next = start;
    uint64_t lost;

    put(1);
    put(2);
    assert_int_equal(trace_read(0, &next, records, 8, &lost), 2);
    assert_int_equal(lost, 0);
    assert_record(&records[0], 1);
    assert_record(&records[1], 2);
    assert_int_equal(trace_read(0, &next, records, 8, &lost), 0);
}

static void trace_class_off_records_nothing(void **state)
{
    (void)state;
    trace_enable(TRACE_CLASS_ALL & ~TRACE_CLASS_IO);
    put(1);
    assert_int_equal(atomic_load(&trace_rings[0].head), start);
    TRACE(0, BAD_COMMAND, 0, 1, 2, 3);
    assert_int_equal(atomic_load(&trace_rings[0].head), start + 1);
}

static void trace_read_after_wrap_tells_what_was_lost(void **state)
{
    (void)state;
    static struct trace_record records[2 * LIMIT_TRACE_RECORDS];
    uint64_t next = start;
    uint64_t lost;

    for (uint64_t i = 0; i < LIMIT_TRACE_RECORDS + 10; i++) {
        put(i);
    }
    /* One slot less than the ring has: the oldest might be under the pen. */
    uint32_t count = trace_read(0, &next, records, ARRAY_SIZE(records), &lost);
    assert_int_equal(count, LIMIT_TRACE_RECORDS - 1);
    assert_int_equal(lost, 11);
    for (uint32_t i = 0; i < count; i++) {
        assert_record(&records[i], 11 + i);
    }
}

static void trace_read_small_buffer_goes_on_where_it_stopped(void **state)
{
    (void)state;
    struct trace_record records[3];
    uint64_t next = start;

    for (uint64_t i = 0; i < 7; i++) {
        put(i);
    }
    for (uint64_t i = 0; i < 7; i += 3) {
        uint32_t want = i == 6 ? 1 : 3;
        assert_int_equal(trace_read(0, &next, records, 3, NULL), want);
        assert_record(&records[0], i);
    }
}

static void trace_read_position_from_the_future_gives_nothing(void **state)
{
    (void)state;
    struct trace_record record;
    uint64_t next = start + 1000000;
    assert_int_equal(trace_read(0, &next, &record, 1, NULL), 0);
    assert_int_equal(next, start);
}

static void trace_event_info_knows_the_list_alone(void **state)
{
    (void)state;
    assert_string_equal(trace_event_info(TRACE_IO_FETCH)->name, "IO_FETCH");
    assert_string_equal(trace_event_info(TRACE_IO_FETCH)->b, "slba");
    assert_null(trace_event_info(0));
    assert_null(trace_event_info(60000));
}

/* A reader beside a writer that laps it all the time must never see a record of two halves. */
#define ENOUGH_RECORDS 100000
#define ENOUGH_NS      (UINT64_C(20) * NS_PER_S)
static atomic_bool writer_ends;

static void *write_records(void *arg)
{
    (void)arg;
    for (uint64_t i = 0; !atomic_load_explicit(&writer_ends, memory_order_relaxed); i++) {
        put(i);
    }
    return NULL;
}

/* Then the next record to read is just in front of the pen. */
static void wait_for_lap(uint64_t next, uint64_t end_ns)
{
    while (atomic_load(&trace_rings[0].head) < next + LIMIT_TRACE_RECORDS &&
           clock_now_ns() < end_ns) {
        sched_yield();
    }
}

static void trace_read_beside_the_writer_sees_whole_records(void **state)
{
    (void)state;
    static struct trace_record records[LIMIT_TRACE_RECORDS];
    pthread_t writer;
    uint64_t next = start;
    uint64_t seen = 0;
    uint64_t all_lost = 0;

    atomic_store(&writer_ends, false);
    assert_int_equal(pthread_create(&writer, NULL, write_records, NULL), 0);
    uint64_t end_ns = clock_now_ns() + ENOUGH_NS;
    for (uint32_t round = 0; seen < ENOUGH_RECORDS && clock_now_ns() < end_ns; round++) {
        if (round % 2 == 0) {
            wait_for_lap(next, end_ns);
        }
        uint64_t before = next;
        uint64_t lost;
        uint32_t count = trace_read(0, &next, records, ARRAY_SIZE(records), &lost);
        assert_int_equal(next - before, count + lost);
        for (uint32_t i = 0; i < count; i++) {
            /* Comparisons first: CMocka's asserts are slow. */
            uint64_t number = next - count + i - start;
            if (records[i].a != number + 1 || records[i].time_ns != number * 10) {
                assert_record(&records[i], number);
            }
        }
        if (count == 0) {
            sched_yield();
        }
        seen += count;
        all_lost += lost;
    }
    atomic_store(&writer_ends, true);
    pthread_join(writer, NULL);
    assert_true(seen >= ENOUGH_RECORDS);
    assert_true(all_lost + seen <= atomic_load(&trace_rings[0].head) - start);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(trace_read_gives_what_was_put, setup),
        cmocka_unit_test_setup(trace_class_off_records_nothing, setup),
        cmocka_unit_test_setup(trace_read_after_wrap_tells_what_was_lost, setup),
        cmocka_unit_test_setup(trace_read_small_buffer_goes_on_where_it_stopped, setup),
        cmocka_unit_test_setup(trace_read_position_from_the_future_gives_nothing, setup),
        cmocka_unit_test_setup(trace_event_info_knows_the_list_alone, setup),
        cmocka_unit_test_setup(trace_read_beside_the_writer_sees_whole_records, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
