/*
 * I/Os put together out of the trace of several cores.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "host_tools/snicctl/trace.h"
#include "tests/host_tools/fake.h"

static struct trace_set set;
static struct trace_ios ios;

static void add(uint32_t core, const void *records, uint32_t len_bytes)
{
    assert_true(trace_add(&set, core, records, len_bytes));
}

static void join(void)
{
    trace_sort(&set);
    assert_true(trace_find_ios(&set, &ios));
}

static int drop(void **state)
{
    (void)state;
    free(set.entries);
    free(ios.ios);
    memset(&set, 0, sizeof(set));
    memset(&ios, 0, sizeof(ios));
    return 0;
}

static void join_fake(void)
{
    uint32_t len = 0;

    for (uint32_t core = 2; core > 0; core--) { /* whichever comes first */
        const void *records = fake_trace(core - 1, &len);
        add(core - 1, records, len);
    }
    join();
}

static const struct trace_io *find(uint16_t sqid, uint16_t cid, uint32_t nth)
{
    for (uint32_t i = 0; i < ios.count; i++) {
        if (ios.ios[i].sqid == sqid && ios.ios[i].cid == cid && nth-- == 0) {
            return &ios.ios[i];
        }
    }
    return NULL;
}

static uint64_t span(const struct trace_io *io, enum trace_stage stage)
{
    uint64_t from_ns = 0;
    uint64_t to_ns = 0;

    return trace_stage(io, stage, &from_ns, &to_ns) ? to_ns - from_ns : UINT64_MAX;
}

static void ios_over_two_cores_have_all_stages(void **state)
{
    (void)state;
    join_fake();
    assert_int_equal(ios.count, 6);
    const struct trace_io *io = find(1, 10, 0);
    assert_int_equal(span(io, TRACE_STAGE_CONTROLLER), 4000);
    assert_int_equal(span(io, TRACE_STAGE_VOLUME), 6000);
    assert_int_equal(span(io, TRACE_STAGE_BACKEND), 160000);
    assert_int_equal(span(io, TRACE_STAGE_END), 10500);
    assert_int_equal(span(io, TRACE_STAGE_CQ), 500);
    assert_int_equal(span(io, TRACE_STAGE_IRQ), 2000);
    assert_string_equal(trace_stage_name(io, TRACE_STAGE_BACKEND), "fabric");
    assert_int_equal(io->send_count, 1);
    assert_int_equal(io->entry_count, 6);
}

static void ios_in_parts_over_another_path_count_requests(void **state)
{
    (void)state;
    join_fake();
    const struct trace_io *io = find(1, 11, 0);
    assert_int_equal(io->send_count, 3);
    assert_int_equal(io->wait_count, 1);
    assert_int_equal(io->fault_count, 1);
    assert_int_equal(span(io, TRACE_STAGE_BACKEND), 2590000 - 2012000);
    assert_int_equal(io->irq_ns, 2640000);
}

static void ios_cid_used_again_is_another(void **state)
{
    (void)state;
    join_fake();
    const struct trace_io *io = find(1, 10, 1);
    assert_int_equal(io->fetch_ns, 3000000);
    assert_int_equal(io->submit_ns, 0);
    assert_int_equal(io->send_count, 0);
    assert_int_equal(io->fault_count, 2);
    assert_int_equal(io->status, 0x4002);
    assert_int_equal(io->irq_ns, 3040000);
    assert_null(find(1, 10, 2));
}

static void ios_irq_is_that_of_the_vector(void **state)
{
    (void)state;
    join_fake();
    assert_int_equal(find(2, 5, 0)->irq_ns, 0); /* the host polls */
    assert_true(find(2, 5, 0)->is_drive);
    assert_int_equal(find(0, 3, 0)->irq_ns, 2212000);
    assert_false(find(1, 12, 0)->is_done);
    assert_int_equal(find(1, 12, 0)->send_ns, 3105000);
    assert_null(find(0, 0, 0)); /* of no host's command */
}

static void ios_of_an_old_firmware_are_found(void **state)
{
    uint32_t len = 0;
    const void *records = fake_old_trace(0, &len);

    (void)state;
    add(0, records, len);
    join();
    assert_int_equal(ios.count, 3);
    assert_false(ios.has_posts);
    const struct trace_io *io = find(1, 10, 0);
    assert_int_equal(span(io, TRACE_STAGE_BACKEND), 176500);
    assert_int_equal(span(io, TRACE_STAGE_IRQ), 500);
    assert_true(span(io, TRACE_STAGE_CQ) == UINT64_MAX);
    assert_string_equal(trace_stage_name(io, TRACE_STAGE_BACKEND), "backend");
    assert_true(find(1, 10, 1)->is_done);
}

/* A ring that has lost the beginning, and records that contradict each other. */
static void ios_without_beginning_do_no_harm(void **state)
{
    static const struct trace_record records[] = {
        {100, TRACE_IO_SUBMIT, 0, 0x10001, 512, 1},
        {200, TRACE_FABRIC_DONE, 0, 0x10001, 7, 0},
        {300, TRACE_IO_DONE, 0, 0x10001, 0, 999},
        {310, TRACE_IO_POST, 0, 0x10001, 1, 1},
        {320, TRACE_IO_POST, 0, 0x10001, 1, 1},
        {400, TRACE_IO_FETCH, 0, 0x10002, 0, 0},
        {390, TRACE_FABRIC_SEND, 0, 0x10002, 7, 0}, /* before its fetch */
        {410, TRACE_IO_FETCH, 0, 0x10002, 0, 0},
        {420, 65535, 65535, UINT32_MAX, UINT64_MAX, UINT64_MAX},
    };
    char text[160];

    (void)state;
    add(0, records, sizeof(records));
    join();
    assert_int_equal(ios.count, 3);
    assert_false(find(1, 1, 0)->is_fetched);
    assert_true(find(1, 1, 0)->is_posted);
    for (uint32_t i = 0; i < set.count; i++) {
        trace_arguments(&set.entries[i].record, text, sizeof(text));
        trace_arguments(&set.entries[i].record, text, 8);
        assert_true(strlen(text) < 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(ios_over_two_cores_have_all_stages, drop),
        cmocka_unit_test_teardown(ios_in_parts_over_another_path_count_requests, drop),
        cmocka_unit_test_teardown(ios_cid_used_again_is_another, drop),
        cmocka_unit_test_teardown(ios_irq_is_that_of_the_vector, drop),
        cmocka_unit_test_teardown(ios_of_an_old_firmware_are_found, drop),
        cmocka_unit_test_teardown(ios_without_beginning_do_no_harm, drop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
