/*
 * Opening: what can go wrong on the way to an open queue, and at every moment.
 */
#include "rig.h"

#include "rdma/cm_soft.h"

static int setup_idle(void **state)
{
    (void)state;
    rig_open(NULL);
    return 0;
}

static void fails_with(enum nvmf_fail fail, uint32_t code)
{
    rig_queue_open(&rig.admin, 0);
    assert_int_equal(rig.admin.queue.state, NVMF_QUEUE_BROKEN);
    assert_int_equal(rig.admin.fail, fail);
    assert_int_equal(rig.admin.code, code);
    rig_queue_close(&rig.admin, 0);
    rig_run(NS_PER_MS);
    assert_int_equal(rig.core->domains[0].state, NVMF_DOMAIN_CLOSED);
}

static void works(void)
{
    rig_connect();
    rig_queue_close(&rig.io, 0);
    rig_queue_close(&rig.admin, 0);
}

static void open_tells_what_was_agreed(void **state)
{
    struct target_ctrl_info info;

    (void)state;
    rig_connect();
    assert_true(target_ctrl_info(rig.target, 0, &info));
    assert_int_equal(rig.admin.queue.cntlid, info.cntlid);
    assert_int_equal(rig.io.queue.cntlid, info.cntlid);
    assert_string_equal(info.hostnqn, RIG_HOSTNQN);
    assert_memory_equal(info.hostid, rig.where.hostid, 16);
    assert_int_equal(info.io_queue_count, 1);
    assert_true(rig.admin.queue.sq_flow_off);
    assert_string_equal(nvmf_queue_state_name(rig.io.queue.state), "OPEN");
}

static void open_of_an_address_beyond_the_net_has_no_route(void **state)
{
    (void)state;
    rig.where.addr = net_addr_ipv4(10, 1, 2, 3);
    fails_with(NVMF_FAIL_NO_ROUTE, STATUS_NOT_FOUND);
    rig.where.addr = rig.peer.addr;
    works();
}

static void open_of_an_address_without_owner_has_no_answer(void **state)
{
    (void)state;
    rig.where.addr = net_addr_ipv4(192, 0, 2, 77);
    fails_with(NVMF_FAIL_NO_ANSWER, 0);
    rig.where.addr = rig.peer.addr;
    works();
}

static void open_of_a_port_without_listener_is_rejected_by_the_cm(void **state)
{
    (void)state;
    rig.where.port = 4999;
    fails_with(NVMF_FAIL_CM_REJECTED, RDMA_CM_REJ_INVALID_SERVICE_ID);
    rig.where.port = NVMF_RDMA_PORT;
    works();
}

static void open_that_the_target_rejects_says_why(void **state)
{
    (void)state;
    for (uint16_t sts = NVMF_RDMA_INVALID_PRIVATE_DATA_LENGTH; sts <= NVMF_RDMA_INVALID_CNTLID;
         sts++) {
        target_knobs(rig.target)->reject_count = 1;
        target_knobs(rig.target)->reject_status = sts;
        fails_with(NVMF_FAIL_RDMA_REJECTED, sts);
    }
    works();
}

static void open_that_is_never_answered_ends_in_time(void **state)
{
    (void)state;
    uint64_t begin_ns = clock_now_ns();
    target_knobs(rig.target)->ignore_count = 100;
    fails_with(NVMF_FAIL_NO_ANSWER, 0);
    assert_true(clock_now_ns() - begin_ns < 3100 * NS_PER_MS);
    target_knobs(rig.target)->ignore_count = 0;
    rig_run(20 * NS_PER_S);
    works();
}

static void open_with_wrong_names_says_which(void **state)
{
    (void)state;
    strcpy(rig.where.subnqn, "nqn.2026-01.test:other");
    rig_queue_open(&rig.admin, 0);
    assert_int_equal(rig.admin.fail, NVMF_FAIL_BAD_SUBNQN);
    rig_queue_close(&rig.admin, 0);
    strcpy(rig.where.subnqn, RIG_NQN);
    strcpy(rig.where.hostnqn, "nqn.2026-01.test:stranger");
    rig_queue_open(&rig.admin, 0);
    assert_int_equal(rig.admin.fail, NVMF_FAIL_BAD_HOSTNQN);
    rig_queue_close(&rig.admin, 0);
    strcpy(rig.where.hostnqn, RIG_HOSTNQN);
    works();
}

static void open_of_a_full_target_says_so(void **state)
{
    struct target_fault busy = {.kind = TARGET_FAULT_FAIL,
                                .qid = 0,
                                .opcode = NVMF_OPCODE,
                                .fctype = NVMF_CONNECT,
                                .cid = TARGET_ANY,
                                .count = 1,
                                .value = NVMF_SC_CONTROLLER_BUSY | NVME_STATUS_DNR};
    (void)state;
    target_fault_add(rig.target, &busy);
    fails_with(NVMF_FAIL_CTRL_FULL, NVMF_SC_CONTROLLER_BUSY | NVME_STATUS_DNR);
    target_faults_clear(rig.target);
    busy.value = NVMF_SC_AUTHENTICATION_REQUIRED;
    target_fault_add(rig.target, &busy);
    fails_with(NVMF_FAIL_AUTHENTICATION, NVMF_SC_AUTHENTICATION_REQUIRED);
    target_faults_clear(rig.target);
    busy.value = NVME_SC_INTERNAL_ERROR;
    target_fault_add(rig.target, &busy);
    fails_with(NVMF_FAIL_CONNECT_REFUSED, NVME_SC_INTERNAL_ERROR);
    works();
}

static void open_whose_connect_is_lost_ends_in_time(void **state)
{
    struct target_fault drop = {.kind = TARGET_FAULT_DROP,
                                .qid = 0,
                                .opcode = NVMF_OPCODE,
                                .fctype = NVMF_CONNECT,
                                .cid = TARGET_ANY,
                                .count = 1};
    (void)state;
    target_fault_add(rig.target, &drop);
    fails_with(NVMF_FAIL_NO_ANSWER, 0);
    target_faults_clear(rig.target);
    drop.kind = TARGET_FAULT_DIE;
    target_fault_add(rig.target, &drop);
    rig_queue_open(&rig.admin, 0);
    assert_int_equal(rig.admin.fail, NVMF_FAIL_DISCONNECTED);
    assert_int_equal(rig.admin.lost_count, 0);
    rig_queue_close(&rig.admin, 0);
    works();
}

static void open_keeps_sq_flow_control_where_the_target_does(void **state)
{
    struct rig_req r;

    (void)state;
    target_knobs(rig.target)->keep_sq_flow = true;
    rig_connect();
    assert_false(rig.admin.queue.sq_flow_off);
    assert_false(rig.io.queue.sq_flow_off);
    for (uint32_t i = 0; i < 100; i++) {
        rig_req(&r, NVME_IO_READ, i, 1, 0);
        assert_int_equal(rig_do(&r), 0);
    }
    assert_int_equal(target_knobs(rig.target)->keep_sq_flow, true);
}

/* Steps of 20 us from the order to open until it is long open. */
static void close_at_any_moment_gives_everything_back(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 60; i++) {
        rig.admin.closed_count = 0;
        rig.admin.opened_count = 0;
        rig.admin.queue.params = (struct nvmf_queue_params){.entries = 32,
                                                            .cntlid = NVMF_CNTLID_DYNAMIC,
                                                            .step_timeout_ns = 3 * NS_PER_S,
                                                            .command_timeout_ns = NS_PER_S};
        nvmf_queue_open(&rig.admin.queue);
        for (uint32_t turn = 0; turn < i; turn++) {
            native_clock_advance(20 * NS_PER_US);
            (void)sched_turn();
        }
        rig_queue_close(&rig.admin, 0);
        rig_run(10 * NS_PER_MS);
        assert_int_equal(rig.core->domains[0].state, NVMF_DOMAIN_CLOSED);
    }
    works();
}

/* --- objects of the device run out -------------------------------------------------------------
 */

#define KINDS 6

static struct rdma_pd *pds[64];
static struct rdma_mr *mrs[64];
static struct rdma_key *keys[64];
static struct rdma_qp *qps[64];
static struct rdma_srq *srqs[64];

/* Takes all objects of a kind but `left`. */
static uint32_t hoard(uint32_t kind, uint32_t left, struct rdma_pd *pd, struct rdma_cq *cq)
{
    static uint8_t memory[65536] ALIGNED(64);
    struct rdma_mr_attr mr = {.kind = RDMA_MR_NIC, .memory = memory, .len_bytes = 64};
    struct rdma_qp_init_attr qp = {.type = RDMA_QP_RC,
                                   .pd = pd,
                                   .send_cq = cq,
                                   .recv_cq = cq,
                                   .send_wr_count = 1,
                                   .recv_wr_count = 1,
                                   .send_sge_count = 1,
                                   .recv_sge_count = 1,
                                   .memory = memory};
    struct rdma_srq_attr srq = {.pd = pd, .wr_count = 1, .memory = memory};
    uint32_t count = 0;

    for (enum status status = STATUS_OK; status == STATUS_OK && count < 64; count++) {
        status = kind == 0   ? rdma_pd_alloc(rig.host.device, 0, &pds[count])
                 : kind == 1 ? rdma_mr_reg(pd, &mr, &mrs[count])
                 : kind == 2 ? rdma_key_alloc(pd, &keys[count])
                 : kind == 3 ? rdma_qp_create(&qp, &qps[count])
                             : rdma_srq_create(&srq, &srqs[count]);
        count -= status != STATUS_OK;
    }
    for (uint32_t i = 0; i < left && count > 0; i++) {
        count--;
        enum status status = kind == 0   ? rdma_pd_free(pds[count])
                             : kind == 1 ? rdma_mr_dereg(mrs[count])
                             : kind == 2 ? rdma_key_free(keys[count])
                             : kind == 3 ? rdma_qp_destroy(qps[count])
                                         : rdma_srq_destroy(srqs[count]);
        assert_int_equal(status, STATUS_OK);
    }
    return count;
}

static void let_go(uint32_t kind, uint32_t count)
{
    while (count-- > 0) {
        enum status status = kind == 0   ? rdma_pd_free(pds[count])
                             : kind == 1 ? rdma_mr_dereg(mrs[count])
                             : kind == 2 ? rdma_key_free(keys[count])
                             : kind == 3 ? rdma_qp_destroy(qps[count])
                                         : rdma_srq_destroy(srqs[count]);
        assert_int_equal(status, STATUS_OK);
    }
}

static void open_without_objects_fails_until_there_are_enough(void **state)
{
    (void)state;
    rig_open(&(struct rig_config){.counts = {.qps = 4, .srqs = 2, .pds = 4, .mrs = 4, .keys = 8}});
    for (uint32_t kind = 0; kind < 5; kind++) {
        struct rdma_pd *pd;
        assert_int_equal(rdma_pd_alloc(rig.host.device, 0, &pd), STATUS_OK);
        bool has_worked = false;
        for (uint32_t left = 0; left < 8 && !has_worked; left++) {
            uint32_t count = hoard(kind, left, pd, rig.core->cq);
            rig_queue_open(&rig.admin, 0);
            has_worked = rig.admin.fail == NVMF_FAIL_NONE;
            assert_true(has_worked || rig.admin.fail == NVMF_FAIL_NO_MEMORY);
            assert_true(!has_worked || left > 0);
            rig_queue_close(&rig.admin, 0);
            rig_run(NS_PER_MS);
            let_go(kind, count);
        }
        assert_true(has_worked);
        assert_int_equal(rdma_pd_free(pd), STATUS_OK);
    }
    rig_close();
}

static void open_without_room_for_completions_is_no_memory(void **state)
{
    (void)state;
    uint32_t left = rig.core->cqe_left;
    rig.core->cqe_left = 10;
    fails_with(NVMF_FAIL_NO_MEMORY, STATUS_NO_SPACE);
    rig.core->cqe_left = left;
    void *hellos[LIMIT_NVMF_QUEUES];
    for (uint32_t i = 0; i < LIMIT_NVMF_QUEUES; i++) {
        hellos[i] = pool_get(&rig.core->hellos);
    }
    fails_with(NVMF_FAIL_NO_MEMORY, STATUS_NO_SPACE);
    for (uint32_t i = 0; i < LIMIT_NVMF_QUEUES; i++) {
        pool_put(&rig.core->hellos, hellos[i]);
    }
    works();
}

/* --- tenants, scratch memory, keys ------------------------------------------------------------ */

static void scratch_keeps_the_domain_over_a_reconnect(void **state)
{
    static uint8_t memory[4096] ALIGNED(4096);
    struct nvmf_scratch scratch = {.memory = memory, .len_bytes = sizeof(memory)};

    (void)state;
    assert_int_equal(nvmf_scratch_register(rig.core, 0, &scratch), STATUS_OK);
    struct rdma_pd *pd = rig.core->domains[0].pd;
    works();
    works();
    assert_ptr_equal(rig.core->domains[0].pd, pd);
    nvmf_scratch_release(&scratch);
    nvmf_scratch_release(&scratch); /* harmless */
    assert_int_equal(rig.core->domains[0].state, NVMF_DOMAIN_CLOSED);
    assert_int_equal(nvmf_scratch_register(rig.core, LIMIT_FUNCTIONS, &scratch), STATUS_NO_SPACE);
}

static void tenants_have_domains_of_their_own_and_share_keys(void **state)
{
    struct nvmf_domain *a;
    struct nvmf_domain *b;
    struct rdma_key *held[400];
    uint32_t count = 0;

    (void)state;
    assert_int_equal(nvmf_domain_get(rig.core, 0, &a), STATUS_OK);
    assert_int_equal(nvmf_domain_get(rig.core, 1, &b), STATUS_OK);
    assert_ptr_not_equal(a->pd, b->pd);
    assert_int_equal(b->pd->fn, 1);
    while (count < 400 && (held[count] = nvmf_key_get(a)) != NULL) {
        count++;
    }
    assert_int_equal(count, rig.core->slot_count - NVMF_DOMAIN_KEYS_MIN);
    for (uint32_t i = 0; i < count; i++) {
        nvmf_key_put(a, held[i]);
    }
    for (uint32_t i = 0; i < 50; i++) { /* those that the other does not need */
        held[i] = nvmf_key_get(b);
        assert_non_null(held[i]);
        assert_ptr_equal(held[i]->pd, b->pd);
    }
    for (uint32_t i = 0; i < 50; i++) {
        nvmf_key_put(b, held[i]);
    }
    nvmf_domain_put(a);
    nvmf_domain_put(b);
    assert_int_equal(rig.core->key_count, 0);
}

/* --- commands of the admin queue ---------------------------------------------------------------
 */

static uint32_t done_count;

static void count_done(struct nvmf_cmd *cmd)
{
    (void)cmd;
    done_count++;
}

static void cmd_moves_data_by_a_key_of_its_own(void **state)
{
    struct nvme_identify_ctrl *id = (void *)rig.data;
    struct nvmf_cmd cmd = {.sqe = {.opcode = NVME_ADMIN_IDENTIFY, .cdw10 = 1},
                           .data = id,
                           .len_bytes = 4096,
                           .dir = NVME_DIR_FROM_CONTROLLER,
                           .timeout_ns = NS_PER_S,
                           .done = count_done};
    (void)state;
    done_count = 0;
    rig_connect();
    (void)nvmf_queue_had_traffic(&rig.admin.queue);
    assert_false(nvmf_queue_had_traffic(&rig.admin.queue));
    nvmf_queue_exec(&rig.admin.queue, &cmd);
    assert_int_equal(done_count, 0);
    rig_run(NS_PER_MS);
    assert_int_equal(done_count, 1);
    assert_int_equal(cmd.status, 0);
    assert_false(cmd.is_path_error);
    assert_int_equal(id->cntlid, rig.admin.queue.cntlid);
    assert_true(nvmf_queue_had_traffic(&rig.admin.queue));
}

static void run_late(struct nvmf_cmd *cmd)
{
    struct target_fault delay = {.kind = TARGET_FAULT_DELAY,
                                 .qid = 0,
                                 .opcode = cmd->sqe.opcode,
                                 .cid = TARGET_ANY,
                                 .delay_ns = 500 * NS_PER_MS};
    done_count = 0;
    rig_connect();
    target_fault_add(rig.target, &delay);
    nvmf_queue_exec(&rig.admin.queue, cmd);
    rig_run(200 * NS_PER_MS);
    assert_int_equal(done_count, 1);
    assert_true(cmd->is_path_error);
    assert_int_equal(rig.admin.queue.in_flight, 1);
    rig_fill(0, 4096, 1);
    memcpy(rig.data + 4096, rig.data, 4096);
    rig_run(500 * NS_PER_MS);
    assert_int_equal(done_count, 1);
}

/* Its owner gets it back; its late answer does no harm, and its tag is used again. */
static void cmd_that_is_late_is_given_up(void **state)
{
    struct nvmf_cmd cmd = {.sqe = {.opcode = NVME_ADMIN_GET_FEATURES, .cdw10 = 7},
                           .timeout_ns = 100 * NS_PER_MS,
                           .done = count_done};
    (void)state;
    run_late(&cmd);
    assert_int_equal(rig.admin.queue.in_flight, 0);
    assert_int_equal(rig.admin.queue.state, NVMF_QUEUE_OPEN);
}

/* With data: nothing is written any more, at the price of the connection. */
static void cmd_that_is_late_gets_no_data_any_more(void **state)
{
    struct nvmf_cmd cmd = {.sqe = {.opcode = NVME_ADMIN_IDENTIFY, .cdw10 = 1},
                           .data = rig.data,
                           .len_bytes = 4096,
                           .dir = NVME_DIR_FROM_CONTROLLER,
                           .timeout_ns = 100 * NS_PER_MS,
                           .done = count_done};
    (void)state;
    run_late(&cmd);
    assert_memory_equal(rig.data, rig.data + 4096, 4096);
    assert_int_equal(rig.admin.queue.state, NVMF_QUEUE_BROKEN);
    assert_int_equal(rig.admin.fail, NVMF_FAIL_DISCONNECTED);
}

static void cmds_beyond_the_queue_wait_and_end_by_close(void **state)
{
    static struct nvmf_cmd cmds[60];
    struct target_fault drop = {
        .kind = TARGET_FAULT_DROP, .qid = 0, .opcode = TARGET_ANY, .cid = TARGET_ANY};

    (void)state;
    done_count = 0;
    rig_connect();
    target_fault_add(rig.target, &drop);
    for (uint32_t i = 0; i < 60; i++) {
        cmds[i] = (struct nvmf_cmd){.sqe = {.opcode = NVME_ADMIN_KEEP_ALIVE},
                                    .timeout_ns = i == 59 ? 50 * NS_PER_MS : 0,
                                    .done = count_done};
        nvmf_queue_exec(&rig.admin.queue, &cmds[i]);
    }
    assert_int_equal(rig.admin.queue.in_flight, 31);
    rig_run(100 * NS_PER_MS);
    assert_int_equal(done_count, 1);
    assert_true(cmds[59].is_path_error);
    rig_queue_close(&rig.admin, 0);
    assert_int_equal(done_count, 60);
    for (uint32_t i = 0; i < 60; i++) {
        assert_true(cmds[i].is_path_error);
    }
    nvmf_queue_exec(&rig.admin.queue, &cmds[0]);
    assert_int_equal(done_count, 61);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup_idle, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(open_tells_what_was_agreed),
        T(open_of_an_address_beyond_the_net_has_no_route),
        T(open_of_an_address_without_owner_has_no_answer),
        T(open_of_a_port_without_listener_is_rejected_by_the_cm),
        T(open_that_the_target_rejects_says_why),
        T(open_that_is_never_answered_ends_in_time),
        T(open_with_wrong_names_says_which),
        T(open_of_a_full_target_says_so),
        T(open_whose_connect_is_lost_ends_in_time),
        T(open_keeps_sq_flow_control_where_the_target_does),
        T(close_at_any_moment_gives_everything_back),
        cmocka_unit_test(open_without_objects_fails_until_there_are_enough),
        T(open_without_room_for_completions_is_no_memory),
        T(scratch_keeps_the_domain_over_a_reconnect),
        T(tenants_have_domains_of_their_own_and_share_keys),
        T(cmd_moves_data_by_a_key_of_its_own),
        T(cmd_that_is_late_is_given_up),
        T(cmd_that_is_late_gets_no_data_any_more),
        T(cmds_beyond_the_queue_wait_and_end_by_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
