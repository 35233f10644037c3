/* Associations under random trouble: whatever happens in whatever order, once it ends they are LIVE
 * again, and nothing is left when they are closed. The seed of a failing run is printed. */
#include <stdlib.h>
#include "tests/unit/nvmf_ctrl/rig.h"

#define RUNS  60
#define STEPS 60

static uint32_t seed;
static uint32_t last_number;

static uint32_t any(uint32_t count)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % count;
}

static bool is_open(uint32_t qid)
{
    return fake_queue_state(rig.target, qid) == NVMF_QUEUE_OPEN;
}

static void heal(struct fake_target *t)
{
    memset(t->open_fail, 0, sizeof(t->open_fail));
    t->never_ready = false;
    t->never_idle = false;
    t->never_shut = false;
    t->is_fatal = false;
    t->no_keep_alive = false;
    t->silent_abort = 0;
    t->fault_opcode = -1;
    t->fault_number = 0;
}

static void break_target(struct fake_target *t)
{
    switch (any(10)) {
    case 0:
        t->open_fail[any(4)] = NVMF_FAIL_RDMA_REJECTED;
        break;
    case 1:
        t->never_ready = true;
        break;
    case 2:
        t->never_idle = true;
        break;
    case 3:
        t->is_fatal = true;
        break;
    case 4:
        t->no_keep_alive = true;
        break;
    case 5:
        t->silent_abort = 1 + (int)any(2);
        break;
    case 6:
        t->fault_opcode = NVME_ADMIN_IDENTIFY;
        break;
    case 7:
        t->fault_opcode = NVME_ADMIN_GET_LOG_PAGE;
        break;
    case 8:
        t->fault_opcode = NVMF_OPCODE;
        break;
    default:
        t->fault_number = t->command_count + 1 + any(5);
        break;
    }
    t->fault = FAKE_STATUS + any(3);
    t->fault_status = NVME_SC_INTERNAL_ERROR;
}

static void trouble(struct fake_target *t)
{
    uint32_t qid = any(4);
    uint32_t nsid = 1 + any(6);

    switch (any(12)) {
    case 0:
    case 1:
        break_target(t);
        break;
    case 2:
    case 3:
        heal(t);
        break;
    case 4:
        if (is_open(qid)) {
            fake_lose(t, qid, NVMF_FAIL_TRANSPORT);
        }
        break;
    case 5:
        if (is_open(qid)) {
            fake_stuck(t, qid);
        }
        break;
    case 6:
    case 7:
        if (qid != 0 && is_open(qid)) {
            fake_late(t, qid, (uint16_t)any(100));
        }
        break;
    case 8:
        nvmf_ctrl_reset(rig.ctrl);
        break;
    case 9:
        (void)fake_event(t, NVME_EVENT_NOTICE | NVME_LOG_CHANGED_NS << NVME_EVENT_LOG_SHIFT);
        break;
    case 10:
        for (uint32_t i = 0; i < t->ns_count; i++) {
            if (t->ns[i].nsid == nsid) {
                fake_ns_remove(t, nsid);
                return;
            }
        }
        (void)fake_ns_add(t, nsid, 1, 100 + any(10));
        break;
    default:
        rig_run(any(3000) * NS_PER_MS);
        break;
    }
}

static void one_run(uint32_t number)
{
    seed = number;
    rig_init(3);
    rig.step_ns = 500 * NS_PER_US;
    struct fake_target *t = rig.target;
    rig.config.connect_timeout_ms = 300;
    rig.config.keep_alive_ms = 1000;
    rig.config.backoff_low_ms = 1 + any(50);
    rig.config.backoff_high_ms = 500;
    t->ready_delay_ns = any(3) * NS_PER_MS;
    t->close_delay_ns = any(3) * NS_PER_MS;
    t->id.acl = (uint8_t)any(3);
    t->id.aerl = (uint8_t)any(4);
    t->id.ctratt = any(2) != 0 ? NVMF_CTRATT_TBKAS : 0;
    for (uint32_t nsid = 1; nsid <= 3; nsid++) {
        (void)fake_ns_add(t, nsid, 1, 100);
    }
    rig_start();
    for (uint32_t i = 0; i < 6; i++) {
        (void)rig_use(i, i % 2 != 0, i + 1);
    }
    for (uint32_t i = 0; i < STEPS; i++) {
        trouble(t);
        rig_run(any(20) * rig.step_ns);
    }
    if (number % 3 != 0) { /* else it is closed in the middle of it all */
        heal(t);
        rig_run(3 * NS_PER_S);
        assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, 5 * NS_PER_S));
        if (fake_event(t, NVME_EVENT_NOTICE | NVME_LOG_CHANGED_NS << NVME_EVENT_LOG_SHIFT)) {
            rig_run(1500 * NS_PER_MS);
        }
        assert_int_equal(rig_info(rig.ctrl).state, NVMF_CTRL_LIVE);
        assert_int_equal(t->aer_count, t->id.aerl + 1);
        for (uint32_t i = 0; i < 6; i++) {
            bool is_there = false;
            for (uint32_t k = 0; k < t->ns_count; k++) {
                is_there |= t->ns[k].nsid == i + 1;
            }
            assert_int_equal(rig_is_usable(i), is_there);
        }
    }
    rig_end();
}

static void random_trouble_is_made_good(void **state)
{
    const char *text = getenv("SEED");
    uint32_t first = text != NULL ? (uint32_t)atoi(text) : 1;
    uint32_t last = text != NULL ? first : RUNS;
    (void)state;
    for (uint32_t number = first; number <= last; number++) {
        last_number = number;
        one_run(number);
    }
}

static int tell_seed(void **state)
{
    (void)state;
    print_message("last seed: %u (SEED=%u replays it)\n", last_number, last_number);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(random_trouble_is_made_good, tell_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
