/*
 * Block requests over an I/O queue: each opcode, sizes, paths, cores, waiting.
 */
#include "blk/blk_cmd.h"
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

/* --- shapes -------------------------------------------------------------------------------- */

static void check_round(uint64_t slba, uint32_t lba_count, uint32_t segs, uint32_t seed)
{
    struct rig_req w;
    struct rig_req r;
    uint32_t len_bytes = lba_count * RIG_BLOCK;

    rig_fill(0, len_bytes, seed);
    rig_req(&w, NVME_IO_WRITE, slba, lba_count, 0);
    if (segs > 1) {
        rig_req_scatter(&w, segs);
    }
    assert_int_equal(rig_do(&w), 0);
    assert_true(rig_media_is(slba, lba_count, rig.data));
    rig_req(&r, NVME_IO_READ, slba, lba_count, 1u << 20);
    if (segs > 1) {
        rig_req_scatter(&r, segs);
    }
    assert_int_equal(rig_do(&r), 0);
    uint32_t done = 0;
    for (uint32_t i = 0; i < r.req.data.seg_count; i++) {
        assert_memory_equal(mem_seg_ptr(&r.segs[i]), rig.data + done, r.segs[i].len_bytes);
        done += r.segs[i].len_bytes;
    }
    assert_int_equal(done, len_bytes);
}

static void io_of_every_size_and_shape_is_exact(void **state)
{
    static const uint32_t counts[] = {1, 2, 7, 8, 9, 31, 256, 2048};

    (void)state;
    for (uint32_t i = 0; i < ARRAY_SIZE(counts); i++) {
        check_round(i * 5, counts[i], 1, i + 1);
        check_round(i * 5, counts[i], 2, i + 100);
        check_round(i * 5, counts[i], counts[i] < 4 ? 5 : RIG_SEGS, i + 200);
    }
    assert_int_equal(rig_count(&rig_counters(NVMF_PATH_ZERO_COPY)->staged_bytes), 0);
}

static void io_without_data_passes(void **state)
{
    struct rig_req r;

    (void)state;
    rig_req(&r, NVME_IO_FLUSH, 0, 1, 0);
    assert_int_equal(rig_do(&r), 0);
    rig_fill(0, RIG_BLOCK, 3);
    rig_req(&r, NVME_IO_WRITE, 5, 1, 0);
    assert_int_equal(rig_do(&r), 0);
    rig_req(&r, NVME_IO_WRITE_ZEROES, 5, 1, 0);
    assert_int_equal(rig_do(&r), 0);
    memset(rig.data, 0, RIG_BLOCK);
    assert_true(rig_media_is(5, 1, rig.data));
    assert_int_equal(rig_count(&rig_counters(NVMF_PATH_ZERO_COPY)->key_binds), 1);
}

static void io_status_of_the_controller_passes_with_dnr(void **state)
{
    struct rig_req r;

    (void)state;
    rig_fill(0, RIG_BLOCK, 3);
    rig_req(&r, NVME_IO_COMPARE, 5, 1, 0);
    assert_int_equal(NVME_STATUS_CODE(rig_do(&r)), NVME_SC_COMPARE_FAILURE);
    assert_false(r.req.is_path_error);
    struct target_fault fail = {.kind = TARGET_FAULT_FAIL,
                                .qid = TARGET_IO,
                                .opcode = TARGET_ANY,
                                .cid = TARGET_ANY,
                                .count = 1,
                                .value = NVME_SC_WRITE_FAULT | NVME_STATUS_DNR | NVME_STATUS_MORE,
                                .value2 = 0x1234};
    target_fault_add(rig.target, &fail);
    rig_req(&r, NVME_IO_WRITE, 5, 1, 0);
    assert_int_equal(rig_do(&r), NVME_SC_WRITE_FAULT | NVME_STATUS_DNR);
    assert_int_equal(r.req.dw0, 0x1234);
    assert_false(r.req.is_path_error);
    fail.value = NVME_SC_ASYMMETRIC_ACCESS_TRANSITION;
    target_faults_clear(rig.target);
    target_fault_add(rig.target, &fail);
    assert_int_equal(rig_do(&r), NVME_SC_ASYMMETRIC_ACCESS_TRANSITION);
    assert_true(r.req.is_path_error);
    assert_int_equal(r.req.quiet_ns, 0);
}

static void io_that_no_command_can_be_made_of_is_refused(void **state)
{
    struct mem_ref meta = {0};
    struct rig_req r;

    (void)state;
    rig_req(&r, NVME_IO_READ, 0, 1, 0);
    r.req.meta = &meta;
    assert_int_equal(rig_do(&r), NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
    rig_req(&r, NVME_IO_READ, 0, 1, 0);
    r.req.cmd.flags = 1; /* fused */
    assert_int_equal(rig_do(&r), NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
    rig_req(&r, NVMF_OPCODE, 0, 1, 0);
    assert_int_equal(rig_do(&r), NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
    rig_req(&r, NVME_IO_READ, 0, 1, 0);
    r.req.data.len_bytes = NVMF_KEYED_LEN_MAX + 1;
    assert_int_equal(rig_do(&r), NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
    rig_req(&r, NVME_IO_READ, 0, 1, 0);
    r.req.dir = NVME_DIR_NONE;
    assert_int_equal(rig_do(&r), NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
    assert_int_equal(target_stats(rig.target)->reads, 0);
}

static void io_without_a_way_ends_at_once(void **state)
{
    struct rig_req r;

    (void)state;
    rig_req(&r, NVME_IO_WRITE, 0, 1, 0);
    atomic_store(&rig.ns.is_usable, false);
    rig_submit(&r);
    assert_int_equal(r.done_count, 1);
    assert_int_equal(r.req.status, NVME_SC_HOST_PATH_ERROR);
    assert_true(r.req.is_path_error);
    assert_int_equal(r.req.quiet_ns, 0);
    atomic_store(&rig.ns.is_usable, true);
    atomic_store(&nvmf_ctrl_shared(rig.ns.ctrl)->route[0], NULL);
    rig_submit(&r);
    assert_int_equal(r.done_count, 1);
    assert_true(r.req.is_path_error);
}

/* --- in capsules (2.3.2, 7.3.5.2) ------------------------------------------------------------ */

static int setup_in_capsule(void **state)
{
    (void)state;
    rig_open(&(struct rig_config){.in_capsule_bytes = 4096});
    rig_connect();
    return 0;
}

static void io_data_that_fit_go_in_the_capsule(void **state)
{
    const struct nvmf_path_counters *c = rig_counters(NVMF_PATH_ZERO_COPY);
    uint32_t binds = 0;

    (void)state;
    check_round(0, 1, 1, 1);
    assert_int_equal(rig_count(&c->in_capsule_bytes), 512);
    check_round(0, 8, 9, 2); /* all that fits, from where it lies */
    assert_int_equal(rig_count(&c->in_capsule_bytes), 512 + 4096);
    assert_int_equal(target_stats(rig.target)->in_capsule, 2);
    check_round(0, 9, 9, 3);
    assert_int_equal(rig_count(&c->in_capsule_bytes), 512 + 4096);
    assert_int_equal(target_stats(rig.target)->in_capsule, 2);
    binds = 6;
    assert_int_equal(rig_count(&c->key_binds), binds);
    assert_int_equal(rig_count(&c->local_invalidates), 2); /* the target had no key of these */
    assert_int_equal(rig_count(&c->remote_invalidates), 4);
    assert_int_equal(rig_count(&c->staged_bytes), 0);
}

/* The filter below: acknowledgements towards the host are lost. */
static bool lose_acks(void *ctx, uint32_t from, uint8_t *frame, uint32_t len_bytes)
{
    const uint8_t *opcode = frame + 14 + 20 + 8;

    (void)ctx;
    return !(from == 1 && len_bytes > 60 && frame[23] == 17 && *opcode == 0x11);
}

static void io_in_capsule_ends_only_when_the_send_has_completed(void **state)
{
    struct rig_req w;

    (void)state;
    rig_fill(0, 4096, 9);
    rig_req(&w, NVME_IO_WRITE, 0, 8, 0);
    wire_set_filter(rig.wire, lose_acks, NULL);
    rig_submit(&w);
    rig_run(NS_PER_MS);
    assert_true(rig_media_is(0, 8, rig.data));
    assert_int_equal(w.done_count, 0); /* the response is there, but what if it is sent again */
    assert_int_equal(rig.io.queue.in_flight, 1);
    wire_set_filter(rig.wire, NULL, NULL);
    rig_run(5 * NS_PER_S);
    assert_int_equal(w.done_count, 1);
    assert_int_equal(w.req.status, 0);
    assert_int_equal(rig.io.queue.state, NVMF_QUEUE_OPEN);
}

/* The target answers and never acknowledges: the connection ends, not the request alone. */
static void io_in_capsule_whose_send_never_completes_ends_by_its_deadline(void **state)
{
    struct rig_req w;

    (void)state;
    rig_req(&w, NVME_IO_WRITE, 0, 8, 0);
    w.req.deadline_ns = clock_now_ns() + 20 * NS_PER_MS;
    wire_set_filter(rig.wire, lose_acks, NULL);
    rig_submit(&w);
    rig_run(NS_PER_MS);
    assert_int_equal(w.done_count, 0);
    rig_run(60 * NS_PER_MS);
    assert_int_equal(rig.io.queue.state, NVMF_QUEUE_BROKEN);
    assert_int_equal(rig.io.fail, NVMF_FAIL_TRANSPORT);
    wire_set_filter(rig.wire, NULL, NULL);
    rig_queue_close(&rig.io, 0);
    assert_int_equal(w.done_count, 1);
}

static void io_in_capsule_whose_send_never_completes_ends_by_a_cancel(void **state)
{
    struct rig_req w;

    (void)state;
    rig_req(&w, NVME_IO_WRITE, 0, 8, 0);
    wire_set_filter(rig.wire, lose_acks, NULL);
    rig_submit(&w);
    rig_run(NS_PER_MS);
    blk_cancel(&rig.ns.dev, &w.req);
    rig_run(NVMF_CANCEL_NS + 2 * NVMF_SCAN_NS);
    assert_int_equal(rig.io.queue.state, NVMF_QUEUE_BROKEN);
    wire_set_filter(rig.wire, NULL, NULL);
    rig_queue_close(&rig.io, 0);
    assert_int_equal(w.done_count, 1);
}

/* A provider that binds by work requests alone, as libibverbs does; the device can both. */
static void io_keys_can_be_bound_by_work_requests(void **state)
{
    (void)state;
    rig.core->is_bound_by_wr = true;
    check_round(0, 1, 1, 1);
    check_round(0, 8, 9, 2);
    check_round(0, 64, 9, 3);
    assert_int_equal(target_stats(rig.target)->in_capsule, 2);
    assert_int_equal(rig_count(&rig_counters(NVMF_PATH_ZERO_COPY)->key_binds), 6);
    rig.core->is_bound_by_wr = false;
}

/* --- many ---------------------------------------------------------------------------------- */

#define MANY 200

static struct rig_req many[MANY];

static void check_many(uint32_t limit)
{
    uint32_t high = 0;
    uint32_t done = 0;

    for (uint32_t i = 0; i < MANY; i++) {
        rig_fill(i * 1024, 1024, i);
        rig_req(&many[i], i % 3 == 2 ? NVME_IO_FLUSH : NVME_IO_WRITE, i * 2, 2, i * 1024);
        rig_submit(&many[i]);
        high = rig.io.queue.in_flight > high ? rig.io.queue.in_flight : high;
        assert_true(rig.io.queue.in_flight <= limit);
    }
    for (uint32_t i = 0; i < 2000 && done < MANY; i++) {
        rig_run(RIG_STEP_NS);
        assert_true(rig.io.queue.in_flight <= limit);
        done = 0;
        for (uint32_t k = 0; k < MANY; k++) {
            assert_true(many[k].done_count <= 1);
            done += many[k].done_count;
        }
    }
    assert_int_equal(done, MANY);
    assert_int_equal(high, limit);
    for (uint32_t i = 0; i < MANY; i++) {
        assert_int_equal(many[i].req.status, 0);
        assert_true(i % 3 == 2 || rig_media_is(i * 2, 2, rig.data + i * 1024));
    }
}

static void many_with(const struct rig_config *config, uint32_t limit)
{
    rig_open(config);
    rig_connect();
    assert_int_equal(rig.io.queue.sq_flow_off, !config->sq_flow);
    check_many(limit);
    check_many(limit);
    rig_close();
}

static void io_beyond_the_queue_waits_without_sq_flow_control(void **state)
{
    (void)state;
    many_with(&(struct rig_config){.entries = 8}, 7);
    many_with(&(struct rig_config){.entries = 2}, 1);
    many_with(&(struct rig_config){.entries = 5, .in_capsule_bytes = 1024}, 4);
}

static void io_beyond_the_queue_waits_with_sq_flow_control(void **state)
{
    (void)state;
    many_with(&(struct rig_config){.entries = 8, .sq_flow = true}, 7);
    many_with(&(struct rig_config){.entries = 5, .sq_flow = true}, 4);
    many_with(&(struct rig_config){.entries = 2, .sq_flow = true}, 1);
}

static void io_is_bounded_by_the_receives_of_the_controller(void **state)
{
    (void)state;
    many_with(&(struct rig_config){.entries = 32, .crqsize = 3}, 3);
}

static void io_is_bounded_by_the_commands_of_the_core(void **state)
{
    (void)state;
    many_with(&(struct rig_config){.entries = 32, .command_count = 5}, 5);
}

/* Another tenant that is here finds something left; when it goes, all of it may be had again. */
static void io_of_one_tenant_leaves_slots_to_others(void **state)
{
    struct nvmf_domain *other;

    (void)state;
    rig_open(&(struct rig_config){.entries = 128, .command_count = 80});
    rig_connect();
    assert_int_equal(nvmf_domain_get(rig.core, 1, &other), STATUS_OK);
    for (uint32_t i = 0; i < MANY; i++) {
        rig_req(&many[i], NVME_IO_READ, i * 2, 2, i * 1024);
        rig_submit(&many[i]);
    }
    assert_int_equal(rig.io.queue.in_flight, 80 - NVMF_DOMAIN_SLOTS);
    nvmf_domain_put(other);
    rig_run(100 * NS_PER_MS);
    for (uint32_t i = 0; i < MANY; i++) {
        assert_int_equal(many[i].done_count, 1);
        assert_int_equal(many[i].req.status, 0);
    }
    rig_close();
}

static void io_waits_for_keys_of_the_device(void **state)
{
    (void)state;
    rig_open(&(struct rig_config){.entries = 32, .counts = {.keys = 6}});
    rig_connect();
    for (uint32_t i = 0; i < MANY; i++) {
        rig_req(&many[i], NVME_IO_READ, i * 2, 2, i * 1024);
        rig_submit(&many[i]);
    }
    assert_int_equal(rig.io.queue.in_flight, 6);
    rig_run(100 * NS_PER_MS);
    for (uint32_t i = 0; i < MANY; i++) {
        assert_int_equal(many[i].done_count, 1);
        assert_int_equal(many[i].req.status, 0);
    }
    rig_close();
}

static void io_generations_of_a_tag_wrap(void **state)
{
    struct rig_req r;

    (void)state;
    for (uint32_t i = 0; i < 2200; i++) { /* 2^16 / 32 and some more */
        rig_req(&r, NVME_IO_FLUSH, 0, 1, 0);
        rig_submit(&r);
        rig_turn();
        assert_int_equal(r.done_count, 1);
        assert_int_equal(r.req.status, 0);
    }
}

static void io_submitted_from_a_completion_goes_on(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < MANY; i++) {
        rig_req(&many[i], NVME_IO_READ, i, 1, i * 512);
        many[i].next = i + 1 < MANY ? &many[i + 1] : NULL;
    }
    rig_submit(&many[0]);
    rig_run(100 * NS_PER_MS);
    assert_int_equal(many[MANY - 1].done_count, 1);
}

/* --- other cores --------------------------------------------------------------------------- */

static void io_of_a_core_without_device_is_sent_there_and_back(void **state)
{
    struct rig_req w;

    (void)state;
    rig_fill(0, 4096, 5);
    rig_req(&w, NVME_IO_WRITE, 3, 8, 0);
    w.req.owner_core = 1;
    assert_int_equal(rig_do(&w), 0);
    assert_true(rig_media_is(3, 8, rig.data));
    const struct nvmf_ctrl_shared *shared = nvmf_ctrl_shared(rig.ns.ctrl);
    assert_int_equal(rig_count(&shared->core[1].path[NVMF_PATH_ZERO_COPY].forwards), 1);
    assert_int_equal(rig_count(&shared->core[0].path[NVMF_PATH_ZERO_COPY].requests), 1);
    rig_req(&w, NVMF_OPCODE, 3, 8, 0);
    w.req.owner_core = 1;
    assert_int_equal(rig_do(&w), NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
}

/* --- paths --------------------------------------------------------------------------------- */

static void io_for_host_queues_goes_zero_copy_and_is_counted(void **state)
{
    (void)state;
    rig.ns.path = NVMF_PATH_HOST_QUEUES;
    check_round(0, 8, 3, 1);
    const struct nvmf_path_counters *c = rig_counters(NVMF_PATH_HOST_QUEUES);
    assert_int_equal(rig_count(&c->fallbacks), 2);
    assert_int_equal(rig_count(&c->requests), 2);
    assert_int_equal(rig_count(&c->staged_bytes), 0);
}

static void io_keys_that_the_target_leaves_are_invalidated_here(void **state)
{
    (void)state;
    target_knobs(rig.target)->no_invalidate = true;
    check_round(0, 8, 3, 1);
    const struct nvmf_path_counters *c = rig_counters(NVMF_PATH_ZERO_COPY);
    assert_int_equal(rig_count(&c->remote_invalidates), 0);
    assert_int_equal(rig_count(&c->local_invalidates), 2);
}

static void io_changes_state_unless_known_not_to(void **state)
{
    (void)state;
    for (uint32_t opcode = 0; opcode < 256; opcode++) {
        bool harmless = opcode == 0 || opcode == 2 || opcode == 5 || opcode == 0xc || opcode == 0xe;
        assert_int_equal(blk_changes_state((uint8_t)opcode), !harmless);
    }
}

#define T(name)         cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
#define T_CAPSULE(name) cmocka_unit_test_setup_teardown(name, setup_in_capsule, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(io_read_and_write_move_data_and_end_with_quiet_keys),
        T(io_of_every_size_and_shape_is_exact),
        T(io_without_data_passes),
        T(io_status_of_the_controller_passes_with_dnr),
        T(io_that_no_command_can_be_made_of_is_refused),
        T(io_without_a_way_ends_at_once),
        T_CAPSULE(io_data_that_fit_go_in_the_capsule),
        T_CAPSULE(io_in_capsule_ends_only_when_the_send_has_completed),
        T_CAPSULE(io_in_capsule_whose_send_never_completes_ends_by_its_deadline),
        T_CAPSULE(io_in_capsule_whose_send_never_completes_ends_by_a_cancel),
        T_CAPSULE(io_keys_can_be_bound_by_work_requests),
        cmocka_unit_test(io_beyond_the_queue_waits_without_sq_flow_control),
        cmocka_unit_test(io_beyond_the_queue_waits_with_sq_flow_control),
        cmocka_unit_test(io_is_bounded_by_the_receives_of_the_controller),
        cmocka_unit_test(io_is_bounded_by_the_commands_of_the_core),
        cmocka_unit_test(io_of_one_tenant_leaves_slots_to_others),
        cmocka_unit_test(io_waits_for_keys_of_the_device),
        T(io_generations_of_a_tag_wrap),
        T(io_submitted_from_a_completion_goes_on),
        T(io_of_a_core_without_device_is_sent_there_and_back),
        T(io_for_host_queues_goes_zero_copy_and_is_counted),
        T(io_keys_that_the_target_leaves_are_invalidated_here),
        cmocka_unit_test(io_changes_state_unless_known_not_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
