/*
 * Objects without a connection: attributes, creating and destroying, states of a queue pair,
 * address handles.
 */
#include <stdlib.h>
#include <string.h>
#include "tests/native/ibv_check.h"

#define ALL (RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE | RDMA_ACCESS_REMOTE_READ)

static const struct pair_options none;

static void test_attributes(void)
{
    const struct rdma_device_attr *attr = &check_device()->attr;
    struct net_addr self = rdma_ibv_addr(check_device());
    struct net_addr again;

    EXPECT(attr->qp_count > 0 && attr->cq_count > 0 && attr->mr_count > 0);
    EXPECT(attr->pd_count == 8);
    EXPECT(attr->key_kind == RDMA_KEY_CONTIGUOUS && attr->key_segs_max == 1);
    EXPECT(attr->sge_max >= 4);
    EXPECT(attr->inline_bytes_max == 64);
    EXPECT(attr->path_mtu_max >= RDMA_MTU_1024 && attr->path_mtu_max <= RDMA_MTU_4096);
    EXPECT(!net_addr_is_zero(&self));
    EXPECT(rdma_ibv_gid(check_device(), rdma_ibv_gid_index(check_device()), &again));
    EXPECT(net_addr_equal(&self, &again));
}

static void test_objects_hold_what_they_are_made_from(void)
{
    struct side side;
    struct rdma_key *key = NULL;

    EXPECT(side_open(&side, check_device(), &none, true));
    EXPECT(rdma_key_alloc(side.pd, &key) == STATUS_OK);
    EXPECT(rdma_pd_free(side.pd) == STATUS_AGAIN);
    EXPECT(rdma_cq_destroy(side.cq) == STATUS_AGAIN);
    EXPECT(rdma_srq_destroy(side.srq) == STATUS_AGAIN);
    EXPECT(rdma_key_free(key) == STATUS_OK);
    side_close(&side);
}

static void test_objects_many_times_leave_nothing(void)
{
    struct side side;

    for (uint32_t i = 0; i < 50; i++) {
        if (!EXPECT(side_open(&side, check_device(), &none, i % 2 == 0))) {
            return;
        }
        side_close(&side);
    }
}

static void test_pools_end(void)
{
    struct rdma_pd *pds[8];
    struct rdma_pd *one_more;

    for (uint32_t i = 0; i < 8; i++) {
        EXPECT(rdma_pd_alloc(check_device(), 0, &pds[i]) == STATUS_OK);
    }
    EXPECT(rdma_pd_alloc(check_device(), 0, &one_more) == STATUS_NO_SPACE);
    for (uint32_t i = 0; i < 8; i++) {
        EXPECT(rdma_pd_free(pds[i]) == STATUS_OK);
    }
}

static void test_wrong_arguments_are_refused(void)
{
    struct side side;
    struct rdma_mr *mr;
    struct rdma_cq *cq;
    struct rdma_qp *qp;
    uint8_t memory[64];

    EXPECT(side_open(&side, check_device(), &none, false));
    struct rdma_mr_attr region = {.kind = RDMA_MR_NIC,
                                  .access = RDMA_ACCESS_REMOTE_WRITE,
                                  .memory = side.buffer,
                                  .len_bytes = 4096};
    EXPECT(rdma_mr_reg(side.pd, &region, &mr) == STATUS_INVALID);
    region.access = ALL;
    region.len_bytes = 0;
    EXPECT(rdma_mr_reg(side.pd, &region, &mr) == STATUS_INVALID);
    region.len_bytes = UINT64_MAX - 4096;
    EXPECT(rdma_mr_reg(side.pd, &region, &mr) == STATUS_INVALID);
    struct rdma_cq_attr queue = {.entry_count = 0, .memory = memory};
    EXPECT(rdma_cq_create(check_device(), &queue, &cq) == STATUS_INVALID);
    struct rdma_qp_init_attr init = {.type = RDMA_QP_GSI,
                                     .pd = side.pd,
                                     .send_cq = side.cq,
                                     .recv_cq = side.cq,
                                     .send_wr_count = 1,
                                     .recv_wr_count = 1,
                                     .send_sge_count = 1,
                                     .recv_sge_count = 1,
                                     .memory = memory};
    EXPECT(rdma_qp_create(&init, &qp) == STATUS_UNSUPPORTED);
    init.type = RDMA_QP_RC;
    init.send_sge_count = (uint8_t)(check_device()->attr.sge_max + 1);
    EXPECT(rdma_qp_create(&init, &qp) == STATUS_INVALID);
    side_close(&side);
}

/* --- states (IBA 10.3.1) ---------------------------------------------------------------------- */

static enum status to_init(struct rdma_qp *qp)
{
    struct rdma_qp_attr attr = {.state = RDMA_QP_INIT,
                                .access = RDMA_ACCESS_REMOTE_WRITE | RDMA_ACCESS_REMOTE_READ};
    return rdma_qp_modify(qp, &attr, RDMA_QP_STATE | RDMA_QP_ACCESS);
}

static const uint32_t rtr_mask = RDMA_QP_STATE | RDMA_QP_AV | RDMA_QP_PATH_MTU | RDMA_QP_DEST_QPN |
                                 RDMA_QP_RQ_PSN | RDMA_QP_MAX_DEST_RD_ATOMIC |
                                 RDMA_QP_MIN_RNR_TIMER;

static enum status to_rtr(struct rdma_qp *qp, const struct rdma_qp *peer, uint32_t mask)
{
    struct rdma_qp_attr attr = {
        .state = RDMA_QP_RTR,
        .path_mtu = RDMA_MTU_1024,
        .dest_qpn = peer->num,
        .rq_psn = 0xfffffe, /* wraps soon */
        .max_dest_rd_atomic = 2,
        .min_rnr_timer = 12,
        .av = {.dgid = rdma_ibv_addr(check_device()),
               .sgid_index = rdma_ibv_gid_index(check_device())},
    };
    return rdma_qp_modify(qp, &attr, mask);
}

static enum status to_rts(struct rdma_qp *qp)
{
    struct rdma_qp_attr attr = {.state = RDMA_QP_RTS,
                                .timeout = 14,
                                .retry_cnt = 7,
                                .rnr_retry = 7,
                                .sq_psn = 0xfffffe,
                                .max_rd_atomic = 2};
    return rdma_qp_modify(qp, &attr,
                          RDMA_QP_STATE | RDMA_QP_TIMEOUT | RDMA_QP_RETRY_CNT | RDMA_QP_RNR_RETRY |
                              RDMA_QP_SQ_PSN | RDMA_QP_MAX_RD_ATOMIC);
}

static void test_states_by_hand(void)
{
    struct pair pair = {.device = check_device()};
    struct rdma_qp_info info;
    struct rdma_wc wc;

    EXPECT(side_open(&pair.a, check_device(), &none, false));
    EXPECT(side_open(&pair.b, check_device(), &none, false));
    struct rdma_qp *a = pair.a.qp;
    EXPECT(a->state == RDMA_QP_RESET);
    struct rdma_sge entry = sge(&pair.a, 0, 8);
    struct rdma_send_wr wr = {.opcode = RDMA_WR_SEND};
    EXPECT(!post_one(&pair.a, &wr, &entry));
    EXPECT(!post_recv(&pair.a, 1, 0, 64));
    EXPECT(to_rts(a) == STATUS_INVALID && a->state == RDMA_QP_RESET);
    EXPECT(to_init(a) == STATUS_OK && a->state == RDMA_QP_INIT);
    EXPECT(post_recv(&pair.a, 1, 0, 64));
    EXPECT(!post_one(&pair.a, &wr, &entry));
    EXPECT(to_rtr(a, pair.b.qp, rtr_mask & ~RDMA_QP_RQ_PSN) == STATUS_INVALID);
    EXPECT(a->state == RDMA_QP_INIT);
    EXPECT(to_rtr(a, pair.b.qp, rtr_mask) == STATUS_OK && a->state == RDMA_QP_RTR);
    EXPECT(!post_one(&pair.a, &wr, &entry));
    EXPECT(to_rts(a) == STATUS_OK && a->state == RDMA_QP_RTS);
    EXPECT(to_init(pair.b.qp) == STATUS_OK && to_rtr(pair.b.qp, a, rtr_mask) == STATUS_OK &&
           to_rts(pair.b.qp) == STATUS_OK);
    rdma_qp_query(a, &info);
    EXPECT(info.attr.state == RDMA_QP_RTS && info.attr.dest_qpn == pair.b.qp->num);
    EXPECT(info.attr.path_mtu == RDMA_MTU_1024 && info.recv_posted == 1);
    fill(pair.b.buffer, 5000, 1);
    EXPECT(post_recv(&pair.a, 2, 8192, 8192)); /* behind one of 64 bytes */
    entry = sge(&pair.b, 0, 64);
    EXPECT(post_one(&pair.b, &wr, &entry));
    entry = sge(&pair.b, 0, 5000);
    EXPECT(post_one(&pair.b, &wr, &entry));
    EXPECT(take_status(&pair, &pair.a, RDMA_WC_SUCCESS, &wc) && wc.wr_id == 1);
    EXPECT(take_status(&pair, &pair.a, RDMA_WC_SUCCESS, &wc) && wc.len_bytes == 5000);
    EXPECT(filled(pair.a.buffer + 8192, 5000, 1));
    side_close(&pair.a);
    side_close(&pair.b);
}

static void test_values_out_of_range_are_refused(void)
{
    struct side side;

    EXPECT(side_open(&side, check_device(), &none, false));
    EXPECT(to_init(side.qp) == STATUS_OK);
    struct rdma_qp_attr attr = {.min_rnr_timer = 32, .rq_psn = 0x1000000};
    EXPECT(rdma_qp_modify(side.qp, &attr, RDMA_QP_MIN_RNR_TIMER) == STATUS_INVALID);
    EXPECT(rdma_qp_modify(side.qp, &attr, RDMA_QP_RQ_PSN) == STATUS_INVALID);
    EXPECT(side.qp->state == RDMA_QP_INIT);
    side_close(&side);
}

static void test_reset_forgets_work(void)
{
    struct side side;
    struct rdma_qp_info info;

    EXPECT(side_open(&side, check_device(), &none, false));
    EXPECT(to_init(side.qp) == STATUS_OK);
    for (uint64_t i = 0; i < PAIR_WRS; i++) {
        EXPECT(post_recv(&side, i, 0, 64));
    }
    EXPECT(!post_recv(&side, 99, 0, 64)); /* full */
    struct rdma_qp_attr attr = {.state = RDMA_QP_RESET};
    EXPECT(rdma_qp_modify(side.qp, &attr, RDMA_QP_STATE) == STATUS_OK);
    rdma_qp_query(side.qp, &info);
    EXPECT(info.recv_posted == 0 && info.attr.state == RDMA_QP_RESET);
    turn(&side, NULL);
    EXPECT(side.wc_count == 0);
    EXPECT(to_init(side.qp) == STATUS_OK);
    EXPECT(post_recv(&side, 1, 0, 64));
    side_close(&side);
}

/* --- datagrams -------------------------------------------------------------------------------- */

#define QKEY 0x11111111u

static struct rdma_qp *make_ud(const struct side *side, void *memory)
{
    struct rdma_qp_init_attr init = {.type = RDMA_QP_UD,
                                     .pd = side->pd,
                                     .send_cq = side->cq,
                                     .recv_cq = side->cq,
                                     .send_wr_count = 8,
                                     .recv_wr_count = 8,
                                     .send_sge_count = 1,
                                     .recv_sge_count = 1,
                                     .memory = memory};
    struct rdma_qp_attr attr = {.state = RDMA_QP_INIT, .qkey = QKEY};
    struct rdma_qp *qp = NULL;

    EXPECT(rdma_qp_create(&init, &qp) == STATUS_OK);
    EXPECT(rdma_qp_modify(qp, &attr, RDMA_QP_STATE | RDMA_QP_QKEY) == STATUS_OK);
    attr.state = RDMA_QP_RTR;
    EXPECT(rdma_qp_modify(qp, &attr, RDMA_QP_STATE) == STATUS_OK);
    attr.state = RDMA_QP_RTS;
    EXPECT(rdma_qp_modify(qp, &attr, RDMA_QP_STATE | RDMA_QP_SQ_PSN) == STATUS_OK);
    return qp;
}

static void test_datagram_arrives_behind_its_header(void)
{
    struct pair pair = {.device = check_device()};
    struct side *side = &pair.a;
    static uint8_t memory[2][4096];
    struct rdma_av av = {.dgid = rdma_ibv_addr(check_device()),
                         .sgid_index = rdma_ibv_gid_index(check_device())};
    struct rdma_ah *ah = NULL;
    struct rdma_wc wc;

    EXPECT(side_open(side, check_device(), &none, false));
    struct rdma_qp *from = make_ud(side, memory[0]);
    struct rdma_qp *to = make_ud(side, memory[1]);
    EXPECT(rdma_ah_create(side->pd, &av, &ah) == STATUS_OK && ah->state == NET_PATH_READY);
    struct rdma_sge entry = sge(side, 4096, 512);
    struct rdma_recv_wr recv = {.wr_id = 5, .sges = &entry, .sge_count = 1};
    EXPECT(rdma_post_recv(to, &recv, NULL) == STATUS_OK);
    fill(side->buffer, 256, 3);
    struct rdma_sge data = sge(side, 0, 256);
    struct rdma_send_wr wr = {.wr_id = 4,
                              .sges = &data,
                              .sge_count = 1,
                              .opcode = RDMA_WR_SEND_WITH_IMM,
                              .flags = RDMA_SEND_SIGNALED,
                              .imm = 0x01020304,
                              .ud = {.ah = ah, .remote_qpn = to->num, .remote_qkey = QKEY}};
    EXPECT(rdma_post_send(from, &wr, NULL) == STATUS_OK);
    bool sent = false;
    bool received = false;
    for (uint32_t i = 0; i < 2 && take_status(&pair, side, RDMA_WC_SUCCESS, &wc); i++) {
        sent |= wc.qp == from && wc.opcode == RDMA_WC_SEND && wc.wr_id == 4;
        received |= wc.qp == to && wc.wr_id == 5 && wc.len_bytes == 296 &&
                    wc.flags == (RDMA_WC_GRH | RDMA_WC_WITH_IMM) && wc.imm == 0x01020304 &&
                    wc.src_qpn == from->num;
    }
    EXPECT(sent && received);
    EXPECT(filled(side->buffer + 4096 + 40, 256, 3));
    rdma_ah_destroy(ah);
    EXPECT(rdma_qp_destroy(from) == STATUS_OK);
    EXPECT(rdma_qp_destroy(to) == STATUS_OK);
    side_close(side);
}

static void test_nobody_has_the_address(void)
{
    struct side side;
    struct rdma_ah *ah;
    struct rdma_av av = {.dgid = net_addr_ipv4(203, 0, 113, 1),
                         .sgid_index = rdma_ibv_gid_index(check_device())};

    EXPECT(side_open(&side, check_device(), &none, false));
    EXPECT(rdma_ah_create(side.pd, &av, &ah) == STATUS_NOT_FOUND);
    side_close(&side);
}

const struct check_test check_object_tests[] = {
    {"attributes", test_attributes},
    {"objects_hold_what_they_are_made_from", test_objects_hold_what_they_are_made_from},
    {"objects_many_times_leave_nothing", test_objects_many_times_leave_nothing},
    {"pools_end", test_pools_end},
    {"wrong_arguments_are_refused", test_wrong_arguments_are_refused},
    {"states_by_hand", test_states_by_hand},
    {"values_out_of_range_are_refused", test_values_out_of_range_are_refused},
    {"reset_forgets_work", test_reset_forgets_work},
    {"datagram_arrives_behind_its_header", test_datagram_arrives_behind_its_header},
    {"nobody_has_the_address", test_nobody_has_the_address},
    {NULL, NULL},
};
