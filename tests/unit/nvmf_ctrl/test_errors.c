/* What goes wrong: refusals, silence, hostile answers, losses and resets in every state. After each
 * the association is made anew, or says why not. */
#include "tests/unit/nvmf_ctrl/rig.h"

/* --- Connect is refused --------------------------------------------------------------------- */

static void connect_refused_says_why_and_goes_on(void **state)
{
    static const enum nvmf_fail fails[] = {
        NVMF_FAIL_NO_ROUTE,      NVMF_FAIL_NO_ANSWER,      NVMF_FAIL_CM_REJECTED,
        NVMF_FAIL_RDMA_REJECTED, NVMF_FAIL_CTRL_FULL,      NVMF_FAIL_BAD_SUBNQN,
        NVMF_FAIL_BAD_HOSTNQN,   NVMF_FAIL_AUTHENTICATION, NVMF_FAIL_CONNECT_REFUSED,
        NVMF_FAIL_NO_MEMORY,
    };
    (void)state;
    for (size_t i = 0; i < sizeof(fails) / sizeof(fails[0]); i++) {
        rig_init(2);
        rig.target->open_fail[0] = fails[i];
        rig.target->open_code = 0x182;
        rig_assert_fails(fails[i]);
        assert_int_equal(rig_info(rig.ctrl).fail_code, 0x182);
        rig.target->open_fail[0] = NVMF_FAIL_NONE;
        assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, 7 * NS_PER_S));
        rig_end();
    }
}

static void connect_nobody_there_is_no_answer(void **state)
{
    (void)state;
    rig_init(1);
    rig.config.port = 9;
    rig_assert_fails(NVMF_FAIL_NO_ANSWER);
    rig_end();
}

/* A wrong name needs a person: no hurry. */
static void connect_wrong_name_pauses_long(void **state)
{
    (void)state;
    rig_init(1);
    rig.target->open_fail[0] = NVMF_FAIL_BAD_SUBNQN;
    rig_assert_fails(NVMF_FAIL_BAD_SUBNQN);
    uint64_t pause_ns = rig_info(rig.ctrl).next_ns - clock_now_ns();
    assert_true(pause_ns >= 4900 * NS_PER_MS && pause_ns <= 6300 * NS_PER_MS);
    rig_end();
}

static void connect_all_io_queues_fail_is_a_failure(void **state)
{
    (void)state;
    rig_init(2);
    rig.target->open_fail[1] = NVMF_FAIL_RDMA_REJECTED;
    rig.target->open_fail[2] = NVMF_FAIL_CTRL_FULL;
    rig.target->open_code = 6;
    rig_assert_fails(NVMF_FAIL_RDMA_REJECTED);
    assert_int_equal(rig_info(rig.ctrl).fail_code, 6);
    assert_int_equal(fake_queue_state(rig.target, 0), NVMF_QUEUE_CLOSED);
    rig_end();
}

static void backoff_doubles_up_to_its_limit(void **state)
{
    uint64_t last_ns = 0;
    (void)state;
    rig_init(1);
    rig.step_ns = NS_PER_MS;
    rig.target->open_fail[0] = NVMF_FAIL_NO_ANSWER;
    rig.config.backoff_low_ms = 100;
    rig.config.backoff_high_ms = 1000;
    rig_start();
    for (uint32_t i = 1; i <= 6; i++) {
        assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_BACKOFF, NS_PER_S));
        assert_int_equal(rig_info(rig.ctrl).attempt_count, i);
        uint64_t pause_ns = rig_info(rig.ctrl).next_ns - clock_now_ns();
        uint64_t want_ns = i < 5 ? (100 * NS_PER_MS) << (i - 1) : 1000 * NS_PER_MS;
        assert_true(pause_ns + 3 * NS_PER_MS >= want_ns && pause_ns <= want_ns * 5 / 4);
        assert_true(pause_ns + 3 * NS_PER_MS >= last_ns);
        last_ns = pause_ns;
        rig_run(pause_ns + 2 * NS_PER_MS);
    }
    rig_end();
}

/* --- the bring-up fails --------------------------------------------------------------------- */

static void enable_never_ready_is_not_ready(void **state)
{
    (void)state;
    rig_init(1);
    rig.target->never_ready = true;
    rig_start();
    rig_run(900 * NS_PER_MS);
    assert_int_equal(rig_info(rig.ctrl).state, NVMF_CTRL_ENABLE); /* CAP.TO: 1 s */
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_BACKOFF, 200 * NS_PER_MS));
    assert_int_equal(rig_info(rig.ctrl).fail, NVMF_FAIL_NOT_READY);
    rig_end();
}

static void enable_fatal_status_is_fatal(void **state)
{
    (void)state;
    rig_init(1);
    rig.target->is_fatal = true;
    rig.target->never_ready = true;
    rig_assert_fails(NVMF_FAIL_FATAL);
    rig_end();
}

static void bring_up_silence_is_a_timeout(void **state)
{
    (void)state;
    rig_init(1);
    rig.config.connect_timeout_ms = 700;
    rig.target->fault_opcode = NVME_ADMIN_IDENTIFY;
    rig.target->fault = FAKE_SILENT;
    rig_assert_fails(NVMF_FAIL_COMMAND_TIMEOUT);
    assert_int_equal(rig_info(rig.ctrl).fail_code, NVME_ADMIN_IDENTIFY);
    assert_true(clock_now_ns() < NS_PER_S + 800 * NS_PER_MS);
    rig_end();
}

static void bring_up_error_status_is_kept(void **state)
{
    (void)state;
    rig_init(1);
    rig.target->fault_opcode = NVME_ADMIN_SET_FEATURES;
    rig.target->fault_cdw10 = NVME_FEATURE_QUEUES;
    rig.target->fault = FAKE_STATUS;
    rig.target->fault_status = NVME_SC_INVALID_FIELD | NVME_STATUS_DNR;
    rig_assert_fails(NVMF_FAIL_COMMAND_FAILED);
    assert_int_equal(rig_info(rig.ctrl).fail_code, NVME_SC_INVALID_FIELD);
    rig_end();
}

static void identify_unsuitable_controllers_are_refused(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 12; i++) {
        rig_init(1);
        struct fake_target *t = rig.target;
        switch (i) {
        case 0:
            t->id.sgls = NVME_SGLS_SUPPORTED;
            break; /* not keyed */
        case 1:
            t->id.sgls &= ~3u;
            break; /* none at all */
        case 2:
            t->id.cntrltype = 2;
            break; /* discovery */
        case 3:
            t->id.cntrltype = 3;
            break; /* administrative */
        case 4:
            t->id.sqes = 0x77;
            break;
        case 5:
            t->id.cqes = 0x33;
            break;
        case 6:
            t->id_fabrics.ioccsz = 3;
            break;
        case 7:
            t->id_fabrics.iorcsz = 0;
            break;
        case 8:
            t->id.kas = 0;
            break;
        case 9:
            t->cap &= ~((uint64_t)0xff << NVME_CAP_CSS_SHIFT);
            break;
        case 10:
            t->cap &= ~UINT64_C(0xffff);
            break; /* one entry */
        default:
            memset(&t->id, 0, sizeof(t->id));
            break;
        }
        rig_assert_fails(NVMF_FAIL_UNSUITABLE);
        rig_end();
    }
}

/* 3.3: the CNTLID of Connect and of Identify are one. */
static void identify_other_cntlid_is_refused(void **state)
{
    (void)state;
    rig_init(1);
    rig_start();
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_ENABLE, NS_PER_S));
    rig.target->id.cntlid++;
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_BACKOFF, NS_PER_S));
    assert_int_equal(rig_info(rig.ctrl).fail, NVMF_FAIL_UNSUITABLE);
    rig_end();
}

static void identify_hostile_text_is_made_printable(void **state)
{
    (void)state;
    rig_init(1);
    memset(rig.target->id.mn, '\x1b', sizeof(rig.target->id.mn));
    memset(rig.target->id.sn, 0xff, sizeof(rig.target->id.sn));
    memset(rig.target->id.fr, 0, sizeof(rig.target->id.fr));
    rig_up();
    assert_string_equal(rig_info(rig.ctrl).model, "????????????????????????????????????????");
    assert_string_equal(rig_info(rig.ctrl).serial, "????????????????????");
    assert_string_equal(rig_info(rig.ctrl).firmware, "");
    rig_end();
}

static void identify_all_ones_does_no_harm(void **state)
{
    (void)state;
    rig_init(1);
    memset(&rig.target->id, 0xff, sizeof(rig.target->id));
    memset(&rig.target->id_fabrics, 0xff, sizeof(rig.target->id_fabrics));
    rig.target->id.cntrltype = 1;
    rig.target->id.sqes = 0x66;
    rig.target->id.cqes = 0x44;
    rig_up();
    assert_int_equal(rig_info(rig.ctrl).max_transfer_bytes, LIMIT_TRANSFER_BYTES);
    assert_true(rig.target->aer_max <= LIMIT_AERS);
    rig_end();
}

/* --- every command of the bring-up fails in its turn ---------------------------------------- */

static void fault_loop(enum fake_fault fault, enum nvmf_fail fail)
{
    uint32_t n = 0;
    bool was_hit = true;

    while (was_hit) {
        n++;
        assert_in_range(n, 1, 100);
        rig_init(2);
        (void)fake_ns_add(rig.target, 1, 9, 64);
        rig.config.connect_timeout_ms = 50;
        rig.config.backoff_low_ms = 10;
        rig.target->fault_number = n;
        rig.target->fault = fault;
        rig.target->fault_status = NVME_SC_INTERNAL_ERROR;
        rig_start();
        (void)rig_use(0, 9, 1);
        assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, 2 * NS_PER_S));
        rig_run(20 * NS_PER_MS);
        was_hit = rig.target->command_count >= n;
        if (fault != FAKE_STATUS) {
            assert_int_equal(rig_info(rig.ctrl).fail, was_hit ? fail : NVMF_FAIL_NONE);
            assert_true(rig_is_usable(0));
        }
        rig_end();
    }
    assert_true(n > 10); /* CAP, VS, CC, CSTS, Identify, queues, events, list, namespace twice */
}

static void each_command_unanswered_is_made_good(void **state)
{
    (void)state;
    fault_loop(FAKE_SILENT, NVMF_FAIL_COMMAND_TIMEOUT);
}

static void each_command_refused_is_made_good(void **state)
{
    (void)state;
    fault_loop(FAKE_STATUS, NVMF_FAIL_COMMAND_FAILED);
}

static void each_command_with_the_connection_lost_is_made_good(void **state)
{
    (void)state;
    fault_loop(FAKE_LOSE, NVMF_FAIL_TRANSPORT);
}

/* A reset, and a lost I/O queue, after n turns for n = 1, 2, ... */
static void reset_at_every_turn_is_made_good(void **state)
{
    (void)state;
    for (uint32_t n = 1; n < 120; n++) {
        rig_init(2);
        (void)fake_ns_add(rig.target, 1, 9, 64);
        rig.config.backoff_low_ms = 1;
        rig.target->ready_delay_ns = NS_PER_MS;
        rig.target->close_delay_ns = NS_PER_MS;
        rig_start();
        (void)rig_use(0, 9, 1);
        for (uint32_t i = 0; i < n; i++) {
            rig_turn();
        }
        nvmf_ctrl_reset(rig.ctrl);
        rig_run(n % 3 * NS_PER_MS);
        nvmf_ctrl_reset(rig.ctrl);
        assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, 2 * NS_PER_S));
        rig_run(200 * NS_PER_MS);
        assert_int_equal(rig_info(rig.ctrl).state, NVMF_CTRL_LIVE);
        assert_true(rig_is_usable(0));
        rig_end();
    }
}

static void close_at_every_turn_ends(void **state)
{
    (void)state;
    for (uint32_t n = 0; n < 120; n++) {
        rig_init(2);
        rig.target->ready_delay_ns = NS_PER_MS;
        rig.target->close_delay_ns = NS_PER_MS;
        rig.target->open_fail[0] = n % 4 == 3 ? NVMF_FAIL_CTRL_FULL : NVMF_FAIL_NONE;
        rig_start();
        for (uint32_t i = 0; i < n; i++) {
            rig_turn();
        }
        if (n % 4 == 2) {
            nvmf_ctrl_reset(rig.ctrl);
        }
        rig_end();
    }
}

/* --- an association is lost ----------------------------------------------------------------- */

static void lost_io_queue_disables_in_order(void **state)
{
    (void)state;
    rig_init(2);
    (void)fake_ns_add(rig.target, 1, 9, 64);
    rig.target->ready_delay_ns = 5 * NS_PER_MS;
    rig_start();
    struct rig_user *user = rig_use(0, 9, 1);
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
    rig_turn();
    assert_true(rig_is_usable(0));
    uint32_t changed_count = user->changed_count;
    fake_lose(rig.target, 2, NVMF_FAIL_TRANSPORT);
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_DISABLE, 10 * NS_PER_MS));
    rig_turn();
    assert_false(rig_is_usable(0));
    assert_int_equal(user->changed_count, changed_count + 1);
    for (uint32_t core = 0; core < 2; core++) {
        assert_null(atomic_load(&nvmf_ctrl_shared(rig.ctrl)->route[core]));
    }
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_DRAIN, 100 * NS_PER_MS));
    assert_int_equal(rig.target->cc & NVME_CC_EN, 0);
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
    /* What it has begun has its quiesce time, no more: it was disabled in order. */
    assert_in_range(rig.target->last_quiet_ns, 1, clock_now_ns() + NS_PER_S);
    struct nvmf_ctrl_info info = rig_info(rig.ctrl);
    assert_int_equal(info.fail, NVMF_FAIL_TRANSPORT);
    assert_int_equal(info.fail_code, 12);
    assert_int_equal(info.connect_count, 2);
    rig_run(200 * NS_PER_MS);
    assert_true(rig_is_usable(0));
    assert_true(user->ns.dev.geometry.known);
    rig_end();
}

/* Whoever read a route before it was cleared may still be about to use it. */
static void lost_queue_waits_until_every_core_came_by(void **state)
{
    (void)state;
    for (uint32_t qid = 0; qid <= 1; qid++) { /* with and without the admin queue */
        rig_init(2);
        fake.has_device[1] = false;
        rig_up();
        rig.stopped_cores = BIT32(1);
        fake_lose(rig.target, qid, NVMF_FAIL_TRANSPORT);
        rig_run(100 * NS_PER_MS);
        assert_int_equal(rig_info(rig.ctrl).state, qid == 0 ? NVMF_CTRL_DRAIN : NVMF_CTRL_DISABLE);
        assert_null(atomic_load(&nvmf_ctrl_shared(rig.ctrl)->route[1]));
        assert_int_equal(rig.target->io_close_count, 0);
        assert_int_equal(rig.target->cc & NVME_CC_EN, NVME_CC_EN);
        rig.stopped_cores = 0;
        assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
        rig_end();
    }
}

static void assert_quiet_after(uint64_t from_ns, uint64_t want_ns)
{
    uint64_t quiet_ns = rig.target->last_quiet_ns;

    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_BACKOFF, 4 * NS_PER_S));
    quiet_ns = rig.target->last_quiet_ns;
    assert_true(quiet_ns >= from_ns + want_ns);
    assert_true(quiet_ns <= clock_now_ns() + want_ns);
}

/* 7.12: traffic based, the controller dies up to two periods after the last command. */
static void lost_admin_queue_says_when_it_is_quiet(void **state)
{
    (void)state;
    rig_init(1);
    rig_up();
    uint64_t from_ns = clock_now_ns();
    fake_lose(rig.target, 0, NVMF_FAIL_DISCONNECTED);
    assert_quiet_after(from_ns, 2 * 5 * NS_PER_S + NS_PER_S + 100 * NS_PER_MS);
    assert_int_equal(rig_info(rig.ctrl).fail, NVMF_FAIL_DISCONNECTED);
    rig_end();

    rig_init(1);
    rig.target->id.ctratt = 0;
    rig.config.quiesce_ms = 200;
    rig_up();
    from_ns = clock_now_ns();
    fake_lose(rig.target, 0, NVMF_FAIL_DISCONNECTED);
    assert_quiet_after(from_ns, 5 * NS_PER_S + 300 * NS_PER_MS);
    rig_end();
}

static void disable_without_effect_ends_in_time(void **state)
{
    (void)state;
    rig_init(1);
    rig.target->never_idle = true;
    rig.target->cap |= (uint64_t)0xff << NVME_CAP_TO_SHIFT;
    rig_up();
    uint64_t from_ns = clock_now_ns();
    fake_stuck(rig.target, 1);
    rig_run(200 * NS_PER_MS);
    assert_int_equal(rig_info(rig.ctrl).state, NVMF_CTRL_DISABLE);
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_BACKOFF, 2 * NS_PER_S)); /* not CAP.TO: 127 s */
    assert_int_equal(rig_info(rig.ctrl).fail, NVMF_FAIL_COMMAND_TIMEOUT);
    assert_true(rig.target->last_quiet_ns >= from_ns + 11 * NS_PER_S);
    rig_end();
}

static void disable_admin_queue_lost_meanwhile_drains(void **state)
{
    (void)state;
    rig_init(1);
    rig.target->never_idle = true;
    rig_up();
    fake_lose(rig.target, 1, NVMF_FAIL_TRANSPORT);
    rig_run(100 * NS_PER_MS);
    assert_int_equal(rig_info(rig.ctrl).state, NVMF_CTRL_DISABLE);
    fake_lose(rig.target, 0, NVMF_FAIL_DISCONNECTED);
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_BACKOFF, 10 * NS_PER_MS));
    assert_int_equal(rig_info(rig.ctrl).fail, NVMF_FAIL_TRANSPORT); /* the first reason */
    assert_true(rig.target->last_quiet_ns > clock_now_ns());
    rig_end();
}

static void steady_association_begins_with_short_pauses(void **state)
{
    (void)state;
    rig_init(1);
    rig.step_ns = NS_PER_MS;
    rig.target->open_fail[0] = NVMF_FAIL_NO_ANSWER;
    rig_start();
    rig_run(5 * NS_PER_S);
    rig.target->open_fail[0] = NVMF_FAIL_NONE;
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, 10 * NS_PER_S));
    rig_run(3 * NS_PER_S);
    nvmf_ctrl_reset(rig.ctrl);
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_BACKOFF, NS_PER_S));
    assert_true(rig_info(rig.ctrl).next_ns - clock_now_ns() <= 250 * NS_PER_MS);
    assert_int_equal(rig_info(rig.ctrl).fail, NVMF_FAIL_ASKED);
    rig_end();
}

/* --- aborts --------------------------------------------------------------------------------- */

static void abort_goes_to_the_controller_and_back(void **state)
{
    (void)state;
    rig_init(2);
    rig_up();
    fake_late(rig.target, 2, 0x1234);
    rig_run(5 * NS_PER_MS);
    assert_int_equal(rig.target->abort_count, 1);
    assert_int_equal(rig.target->abort_sqid, 2);
    assert_int_equal(rig.target->abort_cid, 0x1234);
    assert_int_equal(fake_abort_done_count(rig.target, 2, true), 1);
    rig.target->silent_abort = 2;
    fake_late(rig.target, 1, 7);
    rig_run(5 * NS_PER_MS);
    assert_int_equal(fake_abort_done_count(rig.target, 1, false), 1);
    assert_int_equal(rig_info(rig.ctrl).abort_count, 2);
    rig_end();
}

/* 5.1: no more than ACL + 1 at a time. */
static void abort_limit_of_the_controller_is_kept(void **state)
{
    (void)state;
    rig_init(3);
    rig.target->id.acl = 0;
    rig.target->silent_abort = 1;
    rig.config.connect_timeout_ms = 100;
    rig_up();
    for (uint32_t qid = 1; qid <= 3; qid++) {
        fake_late(rig.target, qid, (uint16_t)qid);
    }
    rig_run(20 * NS_PER_MS);
    assert_int_equal(rig.target->abort_count, 1);
    rig_run(100 * NS_PER_MS);
    assert_int_equal(rig.target->abort_count, 2);
    rig_run(200 * NS_PER_MS);
    assert_int_equal(rig.target->abort_count, 3);
    assert_int_equal(fake_abort_done_count(rig.target, 1, false) +
                         fake_abort_done_count(rig.target, 2, false) +
                         fake_abort_done_count(rig.target, 3, false),
                     3);
    rig_end();
}

static void abort_many_of_one_queue_all_get_their_turn(void **state)
{
    (void)state;
    rig_init(1);
    rig_up();
    for (uint16_t cid = 0; cid < 20; cid++) {
        fake_late(rig.target, 1, cid);
        rig_turn();
    }
    rig_run(20 * NS_PER_MS);
    assert_int_equal(rig.target->abort_count, 20);
    assert_int_equal(rig.target->abort_cid, 19);
    assert_int_equal(fake_abort_done_count(rig.target, 1, true), 20);
    rig_end();
}

static void abort_under_way_does_not_outlive_a_reset(void **state)
{
    (void)state;
    for (uint32_t n = 0; n < 12; n++) {
        rig_init(2);
        rig.target->silent_abort = 1;
        rig.target->id.acl = 0;
        rig.target->close_delay_ns = NS_PER_MS;
        rig_up();
        fake_late(rig.target, 1, 1);
        fake_late(rig.target, 2, 2);
        for (uint32_t i = 0; i < n; i++) {
            rig_turn();
        }
        fake_lose(rig.target, n % 2, NVMF_FAIL_TRANSPORT);
        rig_turn();
        assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_BACKOFF, 3 * NS_PER_S));
        assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, 3 * NS_PER_S));
        rig.target->silent_abort = 0;
        fake_late(rig.target, 1, 3);
        rig_run(5 * NS_PER_MS);
        assert_int_equal(fake_abort_done_count(rig.target, 1, true), 1);
        rig_end();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connect_refused_says_why_and_goes_on),
        cmocka_unit_test(connect_nobody_there_is_no_answer),
        cmocka_unit_test(connect_wrong_name_pauses_long),
        cmocka_unit_test(connect_all_io_queues_fail_is_a_failure),
        cmocka_unit_test(backoff_doubles_up_to_its_limit),
        cmocka_unit_test(enable_never_ready_is_not_ready),
        cmocka_unit_test(enable_fatal_status_is_fatal),
        cmocka_unit_test(bring_up_silence_is_a_timeout),
        cmocka_unit_test(bring_up_error_status_is_kept),
        cmocka_unit_test(identify_unsuitable_controllers_are_refused),
        cmocka_unit_test(identify_other_cntlid_is_refused),
        cmocka_unit_test(identify_hostile_text_is_made_printable),
        cmocka_unit_test(identify_all_ones_does_no_harm),
        cmocka_unit_test(each_command_unanswered_is_made_good),
        cmocka_unit_test(each_command_refused_is_made_good),
        cmocka_unit_test(each_command_with_the_connection_lost_is_made_good),
        cmocka_unit_test(reset_at_every_turn_is_made_good),
        cmocka_unit_test(close_at_every_turn_ends),
        cmocka_unit_test(lost_io_queue_disables_in_order),
        cmocka_unit_test(lost_queue_waits_until_every_core_came_by),
        cmocka_unit_test(lost_admin_queue_says_when_it_is_quiet),
        cmocka_unit_test(disable_without_effect_ends_in_time),
        cmocka_unit_test(disable_admin_queue_lost_meanwhile_drains),
        cmocka_unit_test(steady_association_begins_with_short_pauses),
        cmocka_unit_test(abort_goes_to_the_controller_and_back),
        cmocka_unit_test(abort_limit_of_the_controller_is_kept),
        cmocka_unit_test(abort_many_of_one_queue_all_get_their_turn),
        cmocka_unit_test(abort_under_way_does_not_outlive_a_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
