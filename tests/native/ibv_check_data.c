/*
 * Work requests over a connection: each kind, chains, shared receive queues, errors and flushes.
 */
#include <string.h>
#include "tests/native/ibv_check.h"

static struct pair pair;

static bool open_pair(const struct pair_options *options)
{
    return EXPECT(pair_open(&pair, check_device(), options));
}

static void test_send_arrives_with_immediate_in_host_order(void)
{
    struct rdma_wc wc;

    if (open_pair(NULL)) {
        fill(pair.a.buffer, 10000, 1);
        EXPECT(post_recv(&pair.b, 0xfedcba9876543210, 0, 16384));
        struct rdma_sge entry = sge(&pair.a, 0, 10000);
        struct rdma_send_wr wr = {
            .wr_id = UINT64_MAX, .opcode = RDMA_WR_SEND_WITH_IMM, .imm = 0x01020304};
        EXPECT(post_one(&pair.a, &wr, &entry));
        EXPECT(take_status(&pair, &pair.b, RDMA_WC_SUCCESS, &wc));
        EXPECT(wc.wr_id == 0xfedcba9876543210 && wc.qp == pair.b.qp);
        EXPECT(wc.opcode == RDMA_WC_RECV && wc.flags == RDMA_WC_WITH_IMM);
        EXPECT(wc.imm == 0x01020304 && wc.len_bytes == 10000);
        EXPECT(filled(pair.b.buffer, 10000, 1));
        EXPECT(take_status(&pair, &pair.a, RDMA_WC_SUCCESS, &wc));
        EXPECT(wc.wr_id == UINT64_MAX && wc.opcode == RDMA_WC_SEND && wc.qp == pair.a.qp);
    }
    pair_close(&pair);
}

static void test_send_gathers_and_scatters(void)
{
    struct rdma_wc wc;

    if (open_pair(NULL)) {
        fill(pair.a.buffer, 3000, 2);
        struct rdma_sge from[] = {sge(&pair.a, 0, 1), sge(&pair.a, 0, 0), sge(&pair.a, 1, 1999),
                                  sge(&pair.a, 2000, 1000)};
        struct rdma_sge to[] = {sge(&pair.b, 0, 700), sge(&pair.b, 700, 2300)};
        struct rdma_recv_wr recv = {.wr_id = 1, .sges = to, .sge_count = 2};
        struct rdma_send_wr wr = {
            .sges = from, .sge_count = 4, .opcode = RDMA_WR_SEND, .flags = RDMA_SEND_SIGNALED};
        EXPECT(rdma_post_recv(pair.b.qp, &recv, NULL) == STATUS_OK);
        EXPECT(rdma_post_send(pair.a.qp, &wr, NULL) == STATUS_OK);
        EXPECT(take_status(&pair, &pair.b, RDMA_WC_SUCCESS, &wc) && wc.len_bytes == 3000);
        EXPECT(filled(pair.b.buffer, 3000, 2));
        EXPECT(take_status(&pair, &pair.a, RDMA_WC_SUCCESS, &wc));
    }
    pair_close(&pair);
}

static void test_send_of_nothing(void)
{
    struct rdma_wc wc;

    if (open_pair(NULL)) {
        EXPECT(post_recv(&pair.b, 1, 0, 64));
        struct rdma_send_wr wr = {.opcode = RDMA_WR_SEND};
        EXPECT(post_one(&pair.a, &wr, NULL));
        EXPECT(take_status(&pair, &pair.b, RDMA_WC_SUCCESS, &wc) && wc.len_bytes == 0);
        EXPECT(take_status(&pair, &pair.a, RDMA_WC_SUCCESS, &wc));
    }
    pair_close(&pair);
}

static void test_inline_is_copied_at_once(void)
{
    struct rdma_wc wc;
    uint8_t bytes[65];

    if (open_pair(NULL)) {
        fill(bytes, 64, 4);
        EXPECT(post_recv(&pair.b, 1, 0, 128));
        struct rdma_sge entry = {(uint64_t)(uintptr_t)bytes, 64, 0xdead};
        struct rdma_send_wr wr = {.opcode = RDMA_WR_SEND, .flags = RDMA_SEND_INLINE};
        EXPECT(post_one(&pair.a, &wr, &entry));
        memset(bytes, 0, sizeof(bytes));
        EXPECT(take_status(&pair, &pair.b, RDMA_WC_SUCCESS, &wc) && wc.len_bytes == 64);
        EXPECT(filled(pair.b.buffer, 64, 4));
        entry.len_bytes = 65;
        EXPECT(!post_one(&pair.a, &wr, &entry));
        EXPECT(take_status(&pair, &pair.a, RDMA_WC_SUCCESS, &wc));
    }
    pair_close(&pair);
}

static void test_write_and_read(void)
{
    struct rdma_wc wc;
    const uint32_t bytes = 300000;

    if (open_pair(NULL)) {
        fill(pair.a.buffer, bytes, 5);
        struct rdma_sge entry = sge(&pair.a, 0, bytes);
        struct rdma_send_wr wr = {
            .wr_id = 1,
            .opcode = RDMA_WR_RDMA_WRITE,
            .rdma = {.remote_addr = sge(&pair.b, 100, 0).addr, .rkey = pair.b.mr->rkey}};
        EXPECT(post_one(&pair.a, &wr, &entry));
        EXPECT(take_status(&pair, &pair.a, RDMA_WC_SUCCESS, &wc));
        EXPECT(wc.opcode == RDMA_WC_RDMA_WRITE && wc.wr_id == 1);
        EXPECT(filled(pair.b.buffer + 100, bytes, 5) && pair.b.buffer[99] == 0);
        fill(pair.b.buffer, bytes, 6);
        wr.opcode = RDMA_WR_RDMA_READ;
        wr.rdma.remote_addr = sge(&pair.b, 0, 0).addr;
        entry = sge(&pair.a, 400000, bytes);
        EXPECT(post_one(&pair.a, &wr, &entry));
        EXPECT(take_status(&pair, &pair.a, RDMA_WC_SUCCESS, &wc));
        EXPECT(wc.opcode == RDMA_WC_RDMA_READ);
        EXPECT(filled(pair.a.buffer + 400000, bytes, 6));
    }
    pair_close(&pair);
}

static void test_write_with_immediate_takes_a_receive(void)
{
    struct rdma_wc wc;

    if (open_pair(NULL)) {
        fill(pair.a.buffer, 5000, 7);
        EXPECT(post_recv(&pair.b, 9, 0, 0));
        struct rdma_sge entry = sge(&pair.a, 0, 5000);
        struct rdma_send_wr wr = {
            .opcode = RDMA_WR_RDMA_WRITE_WITH_IMM,
            .imm = 77,
            .rdma = {.remote_addr = sge(&pair.b, 8192, 0).addr, .rkey = pair.b.mr->rkey}};
        EXPECT(post_one(&pair.a, &wr, &entry));
        EXPECT(take_status(&pair, &pair.b, RDMA_WC_SUCCESS, &wc));
        EXPECT(wc.opcode == RDMA_WC_RECV_RDMA_WITH_IMM && wc.imm == 77 && wc.wr_id == 9);
        EXPECT((wc.flags & RDMA_WC_WITH_IMM) != 0);
        EXPECT(filled(pair.b.buffer + 8192, 5000, 7));
        EXPECT(take_status(&pair, &pair.a, RDMA_WC_SUCCESS, &wc));
    }
    pair_close(&pair);
}

/* --- chains and full queues ------------------------------------------------------------------- */

#define CHAIN 40

static void test_chain_of_many_with_one_completion(void)
{
    struct rdma_wc wc;
    struct rdma_send_wr wrs[CHAIN];
    struct rdma_recv_wr recvs[CHAIN];
    struct rdma_sge from[CHAIN];
    struct rdma_sge to[CHAIN];
    const struct rdma_send_wr *bad = NULL;

    if (open_pair(NULL)) {
        fill(pair.a.buffer, CHAIN * 100, 8);
        for (uint32_t i = 0; i < CHAIN; i++) {
            from[i] = sge(&pair.a, i * 100, 100);
            to[i] = sge(&pair.b, i * 100, 100);
            recvs[i] = (struct rdma_recv_wr){.wr_id = 1000 + i,
                                             .next = i + 1 < CHAIN ? &recvs[i + 1] : NULL,
                                             .sges = &to[i],
                                             .sge_count = 1};
            wrs[i] = (struct rdma_send_wr){.wr_id = i,
                                           .next = i + 1 < CHAIN ? &wrs[i + 1] : NULL,
                                           .sges = &from[i],
                                           .sge_count = 1,
                                           .opcode = RDMA_WR_SEND};
        }
        wrs[CHAIN - 1].flags = RDMA_SEND_SIGNALED;
        EXPECT(rdma_post_recv(pair.b.qp, recvs, NULL) == STATUS_OK);
        EXPECT(rdma_post_send(pair.a.qp, wrs, &bad) == STATUS_OK && bad == NULL);
        for (uint32_t i = 0; i < CHAIN; i++) {
            EXPECT(take_status(&pair, &pair.b, RDMA_WC_SUCCESS, &wc) && wc.wr_id == 1000 + i);
        }
        EXPECT(filled(pair.b.buffer, CHAIN * 100, 8));
        EXPECT(take_status(&pair, &pair.a, RDMA_WC_SUCCESS, &wc) && wc.wr_id == CHAIN - 1);
        EXPECT(pair.a.wc_count == 0);
    }
    pair_close(&pair);
}

static void test_full_queue_says_again_and_where(void)
{
    static const struct pair_options small = {.wr_count = 4};
    struct rdma_wc wc;
    struct rdma_send_wr wrs[6];
    struct rdma_sge entry;
    const struct rdma_send_wr *bad = NULL;

    if (open_pair(&small)) {
        entry = sge(&pair.a, 0, 8);
        for (uint32_t i = 0; i < 6; i++) {
            wrs[i] = (struct rdma_send_wr){
                .wr_id = i,
                .next = i + 1 < 6 ? &wrs[i + 1] : NULL,
                .sges = &entry,
                .sge_count = 1,
                .flags = i == 3 ? RDMA_SEND_SIGNALED : 0,
                .opcode = RDMA_WR_RDMA_WRITE,
                .rdma = {.remote_addr = sge(&pair.b, 0, 0).addr, .rkey = pair.b.mr->rkey}};
        }
        EXPECT(rdma_post_send(pair.a.qp, wrs, &bad) == STATUS_AGAIN && bad == &wrs[4]);
        EXPECT(take_status(&pair, &pair.a, RDMA_WC_SUCCESS, &wc) && wc.wr_id == 3);
        wrs[5].flags = RDMA_SEND_SIGNALED;
        EXPECT(rdma_post_send(pair.a.qp, bad, NULL) == STATUS_OK);
        EXPECT(take_status(&pair, &pair.a, RDMA_WC_SUCCESS, &wc) && wc.wr_id == 5);
        wrs[0].opcode = 200;
        wrs[0].next = NULL;
        EXPECT(rdma_post_send(pair.a.qp, wrs, &bad) == STATUS_INVALID && bad == &wrs[0]);
    }
    pair_close(&pair);
}

/* --- shared receive queues -------------------------------------------------------------------- */

static void test_shared_receives_serve_and_tell_their_limit(void)
{
    static const struct pair_options options = {.srq = true, .srq_limit = 6};
    struct rdma_wc wc;

    if (open_pair(&options)) {
        EXPECT(rdma_post_recv(pair.b.qp, &(struct rdma_recv_wr){0}, NULL) == STATUS_INVALID);
        for (uint64_t i = 0; i < 8; i++) {
            EXPECT(post_recv(&pair.b, 50 + i, (uint32_t)i * 4096, 4096));
        }
        for (uint32_t i = 0; i < 4; i++) {
            fill(pair.a.buffer, 3000, i);
            struct rdma_sge entry = sge(&pair.a, 0, 3000);
            struct rdma_send_wr wr = {.wr_id = i, .opcode = RDMA_WR_SEND};
            EXPECT(post_one(&pair.a, &wr, &entry));
            EXPECT(take_status(&pair, &pair.a, RDMA_WC_SUCCESS, &wc));
            EXPECT(take_status(&pair, &pair.b, RDMA_WC_SUCCESS, &wc));
            EXPECT(wc.wr_id >= 50 && wc.wr_id < 58 && wc.qp == pair.b.qp);
            EXPECT(filled(pair.b.buffer + (wc.wr_id - 50) * 4096, 3000, i));
        }
        EXPECT(WAIT_MS(&pair.a, &pair.b, check_events(RDMA_EVENT_SRQ_LIMIT) > 0, 3000));
    }
    pair_close(&pair);
}

static void test_full_shared_queue_says_again(void)
{
    static const struct pair_options options = {.srq = true, .wr_count = 4};
    struct rdma_sge entry;

    if (open_pair(&options)) {
        entry = sge(&pair.b, 0, 64);
        struct rdma_recv_wr wr = {.sges = &entry, .sge_count = 1};
        for (uint64_t i = 0; i < 4; i++) {
            EXPECT(rdma_srq_post(pair.b.srq, &wr, NULL) == STATUS_OK);
        }
        EXPECT(rdma_srq_post(pair.b.srq, &wr, NULL) == STATUS_AGAIN);
    }
    pair_close(&pair);
}

/* --- errors ----------------------------------------------------------------------------------- */

static void test_error_state_flushes(void)
{
    struct rdma_wc wc;
    struct rdma_qp_attr attr = {.state = RDMA_QP_ERR};

    if (open_pair(NULL)) {
        for (uint64_t i = 0; i < 3; i++) {
            EXPECT(post_recv(&pair.a, 10 + i, 0, 64));
        }
        EXPECT(rdma_qp_modify(pair.a.qp, &attr, RDMA_QP_STATE) == STATUS_OK);
        EXPECT(pair.a.qp->state == RDMA_QP_ERR);
        for (uint64_t i = 0; i < 3; i++) {
            EXPECT(take_status(&pair, &pair.a, RDMA_WC_WR_FLUSH_ERR, &wc));
            EXPECT(wc.wr_id == 10 + i && wc.qp == pair.a.qp);
        }
        struct rdma_sge entry = sge(&pair.a, 0, 8);
        struct rdma_send_wr wr = {.wr_id = 20, .opcode = RDMA_WR_SEND};
        EXPECT(post_one(&pair.a, &wr, &entry));
        EXPECT(take_status(&pair, &pair.a, RDMA_WC_WR_FLUSH_ERR, &wc) && wc.wr_id == 20);
    }
    pair_close(&pair);
}

/* 9.7.4.1.3: a wrong R_Key is a remote access error, and ends the connection. */
static void test_wrong_key_ends_both_ends(void)
{
    struct rdma_wc wc;

    if (open_pair(NULL)) {
        EXPECT(post_recv(&pair.b, 1, 0, 64));
        struct rdma_sge entry = sge(&pair.a, 0, 8);
        struct rdma_send_wr wr = {
            .wr_id = 2,
            .opcode = RDMA_WR_RDMA_WRITE,
            .rdma = {.remote_addr = sge(&pair.b, 0, 0).addr, .rkey = pair.b.mr->rkey ^ 1}};
        EXPECT(post_one(&pair.a, &wr, &entry));
        EXPECT(take_status(&pair, &pair.a, RDMA_WC_REM_ACCESS_ERR, &wc) && wc.wr_id == 2);
        EXPECT(pair.a.qp->state == RDMA_QP_ERR);
        EXPECT(take_status(&pair, &pair.b, RDMA_WC_WR_FLUSH_ERR, &wc) && wc.wr_id == 1);
        EXPECT(pair.b.qp->state == RDMA_QP_ERR);
    }
    pair_close(&pair);
}

static void test_wrong_local_key_is_a_local_error(void)
{
    struct rdma_wc wc;

    if (open_pair(NULL)) {
        EXPECT(post_recv(&pair.b, 1, 0, 64));
        struct rdma_sge entry = sge(&pair.a, 0, 8);
        entry.lkey ^= 1;
        struct rdma_send_wr wr = {.wr_id = 2, .opcode = RDMA_WR_SEND};
        EXPECT(post_one(&pair.a, &wr, &entry));
        EXPECT(take(&pair, &pair.a, &wc) && wc.wr_id == 2);
        /* rxe is in the error state before it writes the completion, and calls it flushed. */
        bool is_rxe = strncmp(check_device()->name, "rxe", 3) == 0;
        EXPECT(wc.status == RDMA_WC_LOC_PROT_ERR || wc.status == RDMA_WC_LOC_QP_OP_ERR ||
               (is_rxe && wc.status == RDMA_WC_WR_FLUSH_ERR));
    }
    pair_close(&pair);
}

static void test_queue_pair_without_rights_refuses(void)
{
    static const struct pair_options options = {.access = RDMA_ACCESS_REMOTE_READ};
    struct rdma_wc wc;

    if (open_pair(&options)) {
        struct rdma_sge entry = sge(&pair.a, 0, 8);
        struct rdma_send_wr wr = {
            .opcode = RDMA_WR_RDMA_READ,
            .rdma = {.remote_addr = sge(&pair.b, 0, 0).addr, .rkey = pair.b.mr->rkey}};
        EXPECT(post_one(&pair.a, &wr, &entry));
        EXPECT(take_status(&pair, &pair.a, RDMA_WC_SUCCESS, &wc));
        wr.opcode = RDMA_WR_RDMA_WRITE;
        EXPECT(post_one(&pair.a, &wr, &entry));
        EXPECT(take(&pair, &pair.a, &wc));
        EXPECT(wc.status == RDMA_WC_REM_ACCESS_ERR || wc.status == RDMA_WC_REM_INV_REQ_ERR);
    }
    pair_close(&pair);
}

/* Completions of the one that goes are not seen, those of the one that stays are: both share a CQ
 * in their domain. */
static void test_destroying_takes_out_only_its_completions(void)
{
    struct rdma_cq *shared;
    static uint8_t memory[4096];
    struct rdma_wc wcs[16];

    if (open_pair(NULL)) {
        struct rdma_qp_init_attr init = {.type = RDMA_QP_RC,
                                         .pd = pair.b.pd,
                                         .send_cq = pair.b.cq,
                                         .recv_cq = pair.b.cq,
                                         .send_wr_count = 4,
                                         .recv_wr_count = 4,
                                         .send_sge_count = 1,
                                         .recv_sge_count = 1,
                                         .memory = memory};
        struct rdma_qp *other = NULL;
        struct rdma_qp_attr attr = {.state = RDMA_QP_INIT};
        EXPECT(rdma_qp_create(&init, &other) == STATUS_OK);
        EXPECT(rdma_qp_modify(other, &attr, RDMA_QP_STATE | RDMA_QP_ACCESS) == STATUS_OK);
        struct rdma_sge entry = sge(&pair.b, 0, 64);
        struct rdma_recv_wr recv = {.wr_id = 70, .sges = &entry, .sge_count = 1};
        EXPECT(rdma_post_recv(other, &recv, NULL) == STATUS_OK);
        EXPECT(post_recv(&pair.b, 71, 0, 64));
        /* Nobody polls the CQ of b from here on. */
        shared = pair.b.cq;
        pair.b.cq = NULL;
        attr.state = RDMA_QP_ERR;
        EXPECT(rdma_qp_modify(other, &attr, RDMA_QP_STATE) == STATUS_OK);
        struct rdma_sge data = sge(&pair.a, 0, 64);
        struct rdma_send_wr wr = {.opcode = RDMA_WR_SEND};
        EXPECT(post_one(&pair.a, &wr, &data));
        EXPECT(WAIT(&pair.a, NULL, pair.a.wc_count > 0));
        WAIT_MS(&pair.a, NULL, false, 300);
        pair.b.cq = shared;
        EXPECT(rdma_qp_destroy(other) == STATUS_OK);
        uint32_t count = rdma_cq_poll(shared, wcs, 16);
        EXPECT(count == 1 && wcs[0].wr_id == 71 && wcs[0].qp == pair.b.qp);
    }
    pair_close(&pair);
}

const struct check_test check_data_tests[] = {
    {"send_arrives_with_immediate_in_host_order", test_send_arrives_with_immediate_in_host_order},
    {"send_gathers_and_scatters", test_send_gathers_and_scatters},
    {"send_of_nothing", test_send_of_nothing},
    {"inline_is_copied_at_once", test_inline_is_copied_at_once},
    {"write_and_read", test_write_and_read},
    {"write_with_immediate_takes_a_receive", test_write_with_immediate_takes_a_receive},
    {"chain_of_many_with_one_completion", test_chain_of_many_with_one_completion},
    {"full_queue_says_again_and_where", test_full_queue_says_again_and_where},
    {"shared_receives_serve_and_tell_their_limit", test_shared_receives_serve_and_tell_their_limit},
    {"full_shared_queue_says_again", test_full_shared_queue_says_again},
    {"error_state_flushes", test_error_state_flushes},
    {"wrong_key_ends_both_ends", test_wrong_key_ends_both_ends},
    {"wrong_local_key_is_a_local_error", test_wrong_local_key_is_a_local_error},
    {"queue_pair_without_rights_refuses", test_queue_pair_without_rights_refuses},
    {"destroying_takes_out_only_its_completions", test_destroying_takes_out_only_its_completions},
    {NULL, NULL},
};
