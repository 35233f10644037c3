/*
 * Block requests over an I/O queue: each opcode, sizes, paths, cores, waiting.
 */
#include "rig.h"

static void io_read_and_write_move_data_and_end_with_quiet_keys(void **state)
{
    struct rig_req w;
    struct rig_req r;

    (void)state;
    rig_fill(0, 4096, 7);
    rig_req(&w, NVME_IO_WRITE, 16, 8, 0);
    assert_int_equal(rig_do(&w), 0);
    assert_true(rig_media_is(16, 8, rig.data));
    rig_req(&r, NVME_IO_READ, 16, 8, 8192);
    assert_int_equal(rig_do(&r), 0);
    assert_memory_equal(rig.data, rig.data + 8192, 4096);
    const struct nvmf_path_counters *c = rig_counters(NVMF_PATH_ZERO_COPY);
    assert_int_equal(rig_count(&c->requests), 2);
    assert_int_equal(rig_count(&c->read_bytes), 4096);
    assert_int_equal(rig_count(&c->write_bytes), 4096);
    assert_int_equal(rig_count(&c->staged_bytes), 0);
    assert_int_equal(rig_count(&c->key_binds), 2);
    assert_int_equal(rig_count(&c->remote_invalidates), 2);
    assert_int_equal(rig_count(&c->local_invalidates), 0);
    assert_int_equal(rig.io.queue.in_flight, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(io_read_and_write_move_data_and_end_with_quiet_keys,
                                        rig_setup, rig_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
