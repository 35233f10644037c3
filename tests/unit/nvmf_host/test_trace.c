/*
 * What trace records tell of a request on its way to the target and back.
 */
#include "base/trace.h"
#include "rig.h"

static void trace_of_a_request_tells_when_it_was_sent_and_answered(void **state)
{
    struct trace_record records[4];
    struct rig_req r;
    uint64_t next = UINT64_MAX;

    (void)state;
    rig_req(&r, NVME_IO_READ, 16, 8, 0);
    r.req.trace_id = 0x70042;
    r.req.fn = 0;
    (void)trace_read(rig.io.queue.core->id, &next, records, 0, NULL); /* from now on */
    trace_enable(TRACE_CLASS_IO);
    assert_int_equal(rig_do(&r), 0);
    trace_enable(TRACE_CLASS_CONTROL | TRACE_CLASS_FAULT);
    assert_int_equal(trace_read(rig.io.queue.core->id, &next, records, 4, NULL), 2);
    assert_int_equal(records[0].event, TRACE_FABRIC_SEND);
    assert_int_equal(records[1].event, TRACE_FABRIC_DONE);
    assert_int_equal(records[0].id, 0x70042);
    assert_int_equal(records[1].id, 0x70042);
    assert_int_equal(records[0].a >> 32, rig.io.queue.params.cntlid);
    assert_int_equal(records[0].a >> 16 & 0xffff, 1);
    assert_int_equal(records[1].a, records[0].a);
    assert_int_equal(records[0].b, 8 * RIG_BLOCK);
    assert_int_equal(records[1].b, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(trace_of_a_request_tells_when_it_was_sent_and_answered,
                                        rig_setup, rig_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
