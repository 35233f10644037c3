/* States of a queue pair and their attributes (IBA 10.3.1, 11.2.5.2, tables 91 and 92); creation
 * and destruction. */
#include "rdma/rig.h"

#define STATES 7 /* RESET to ERR */

/* --- which way leads where (10.3.1, figure 124) ----------------------------------------------- */

/* All that is needed and the state: right when the way is allowed at all. */
static uint32_t mask_to(enum rdma_qp_type type, enum rdma_qp_state from, enum rdma_qp_state to)
{
    bool is_rc = type == RDMA_QP_RC;

    if (from == RDMA_QP_RESET && to == RDMA_QP_INIT) {
        return RDMA_QP_STATE | (is_rc ? RDMA_QP_ACCESS : RDMA_QP_QKEY);
    }
    if (from == RDMA_QP_INIT && to == RDMA_QP_RTR) {
        return is_rc ? RTR_MASK : RDMA_QP_STATE;
    }
    if (from == RDMA_QP_RTR && to == RDMA_QP_RTS) {
        return is_rc ? RTS_MASK : RDMA_QP_STATE | RDMA_QP_SQ_PSN;
    }
    return RDMA_QP_STATE;
}

static struct rdma_qp *qp_in(enum rdma_qp_type type, enum rdma_qp_state state)
{
    static const enum rdma_qp_state way[] = {RDMA_QP_INIT, RDMA_QP_RTR, RDMA_QP_RTS};
    struct rdma_qp *qp = rig_qp_create(type, NULL);
    struct rdma_qp_attr attr = rig_qp_attr(NULL);
    enum rdma_qp_state from = RDMA_QP_RESET;

    for (uint32_t i = 0; i < 3 && from != state && state != RDMA_QP_RESET; i++) {
        attr.state = (uint8_t)way[i];
        assert_int_equal(rdma_qp_modify(qp, &attr, mask_to(type, from, way[i])), STATUS_OK);
        from = way[i];
    }
    if (qp->state != state) {
        assert_int_equal(rig_qp_to(qp, state), STATUS_OK);
    }
    assert_int_equal(qp->state, state);
    return qp;
}

/* Rows: from; columns: to. RESET, INIT, RTR, RTS, SQD, SQE, ERR. */
static const bool allowed[STATES][STATES] = {
    [RDMA_QP_RESET] = {true, true, false, false, false, false, false},
    [RDMA_QP_INIT] = {true, true, true, false, false, false, true},
    [RDMA_QP_RTR] = {true, false, false, true, false, false, true},
    [RDMA_QP_RTS] = {true, false, false, true, true, false, true},
    [RDMA_QP_SQD] = {true, false, false, true, true, false, true},
    [RDMA_QP_ERR] = {true, false, false, false, false, false, true},
};

static void check_all_ways(enum rdma_qp_type type)
{
    for (uint32_t from = 0; from < STATES; from++) {
        for (uint32_t to = 0; to < STATES && from != RDMA_QP_SQE; to++) {
            struct rdma_qp *qp = qp_in(type, (enum rdma_qp_state)from);
            struct rdma_qp_attr attr = rig_qp_attr(NULL);
            attr.state = (uint8_t)to;
            uint32_t mask = mask_to(type, (enum rdma_qp_state)from, (enum rdma_qp_state)to);
            enum status status = rdma_qp_modify(qp, &attr, mask);
            if (status != (allowed[from][to] ? STATUS_OK : STATUS_INVALID)) {
                fail_msg("%s to %s: %d", rdma_qp_state_name((enum rdma_qp_state)from),
                         rdma_qp_state_name((enum rdma_qp_state)to), (int)status);
            }
            assert_int_equal(qp->state, allowed[from][to] ? to : from);
            rig_turn();
            take_events();
            rig_qp_destroy(qp);
        }
    }
}

static void modify_rc_goes_the_ways_of_figure_124(void **state)
{
    (void)state;
    check_all_ways(RDMA_QP_RC);
}

static void modify_ud_goes_the_ways_of_figure_124(void **state)
{
    (void)state;
    check_all_ways(RDMA_QP_UD);
}

static void modify_to_no_state_is_refused(void **state)
{
    (void)state;
    struct rdma_qp *qp = qp_in(RDMA_QP_RC, RDMA_QP_RTS);
    struct rdma_qp_attr attr = {.state = 7};
    assert_int_equal(rdma_qp_modify(qp, &attr, RDMA_QP_STATE), STATUS_INVALID);
    attr.state = 255;
    assert_int_equal(rdma_qp_modify(qp, &attr, RDMA_QP_STATE), STATUS_INVALID);
    assert_int_equal(qp->state, RDMA_QP_RTS);
}

/* --- attributes (tables 91 and 92) ------------------------------------------------------------ */

/* Each one that is needed, left out; nothing changes. */
static void modify_without_a_needed_attribute_is_refused(void **state)
{
    (void)state;
    const struct {
        enum rdma_qp_type type;
        enum rdma_qp_state from;
        enum rdma_qp_state to;
    } ways[] = {{RDMA_QP_RC, RDMA_QP_RESET, RDMA_QP_INIT},
                {RDMA_QP_RC, RDMA_QP_INIT, RDMA_QP_RTR},
                {RDMA_QP_RC, RDMA_QP_RTR, RDMA_QP_RTS},
                {RDMA_QP_UD, RDMA_QP_RESET, RDMA_QP_INIT},
                {RDMA_QP_UD, RDMA_QP_RTR, RDMA_QP_RTS}};
    for (uint32_t i = 0; i < ARRAY_SIZE(ways); i++) {
        struct rdma_qp *qp = qp_in(ways[i].type, ways[i].from);
        struct rdma_qp_attr attr = rig_qp_attr(NULL);
        uint32_t mask = mask_to(ways[i].type, ways[i].from, ways[i].to);
        attr.state = (uint8_t)ways[i].to;
        for (uint32_t bit = 1; bit < 32; bit++) {
            if ((mask & 1u << bit) != 0) {
                assert_int_equal(rdma_qp_modify(qp, &attr, mask & ~(1u << bit)), STATUS_INVALID);
                assert_int_equal(qp->state, ways[i].from);
            }
        }
        assert_int_equal(rdma_qp_modify(qp, &attr, mask), STATUS_OK);
        rig_qp_destroy(qp);
    }
}

/* Each one that is not of this way, added. */
static void modify_with_an_attribute_too_many_is_refused(void **state)
{
    (void)state;
    const uint32_t may[STATES] = {
        [RDMA_QP_INIT] = 0,
        [RDMA_QP_RTR] = RDMA_QP_ACCESS,
        [RDMA_QP_RTS] = RDMA_QP_ACCESS | RDMA_QP_MIN_RNR_TIMER,
    };
    for (uint32_t to = RDMA_QP_INIT; to <= RDMA_QP_RTS; to++) {
        struct rdma_qp *qp = qp_in(RDMA_QP_RC, (enum rdma_qp_state)(to - 1));
        struct rdma_qp_attr attr = rig_qp_attr(NULL);
        uint32_t mask = mask_to(RDMA_QP_RC, (enum rdma_qp_state)(to - 1), (enum rdma_qp_state)to);
        attr.state = (uint8_t)to;
        for (uint32_t bit = 1; bit < 32; bit++) {
            if (((mask | may[to]) & 1u << bit) == 0) {
                assert_int_equal(rdma_qp_modify(qp, &attr, mask | 1u << bit), STATUS_INVALID);
                assert_int_equal(qp->state, to - 1);
            }
        }
        assert_int_equal(rdma_qp_modify(qp, &attr, mask | may[to]), STATUS_OK);
        rig_qp_destroy(qp);
    }
}

/* In these states some may be changed without another state. */
static void modify_in_a_state_takes_what_may_change_there(void **state)
{
    (void)state;
    const uint32_t all = (RDMA_QP_MIN_RNR_TIMER << 1) - 2; /* without STATE */
    const uint32_t may[STATES] = {
        [RDMA_QP_INIT] = RDMA_QP_ACCESS,
        [RDMA_QP_RTS] = RDMA_QP_ACCESS | RDMA_QP_MIN_RNR_TIMER,
        [RDMA_QP_SQD] = RDMA_QP_ACCESS | RDMA_QP_MIN_RNR_TIMER | RDMA_QP_TIMEOUT |
                        RDMA_QP_RETRY_CNT | RDMA_QP_RNR_RETRY | RDMA_QP_AV,
    };
    for (uint32_t s = 0; s < STATES; s++) {
        if (s == RDMA_QP_SQE) {
            continue;
        }
        struct rdma_qp *qp = qp_in(RDMA_QP_RC, (enum rdma_qp_state)s);
        struct rdma_qp_attr attr = rig_qp_attr(NULL);
        for (uint32_t bit = 1; bit <= 13; bit++) {
            uint32_t mask = 1u << bit & all;
            assert_int_equal(rdma_qp_modify(qp, &attr, mask),
                             (may[s] & mask) != 0 ? STATUS_OK : STATUS_INVALID);
        }
        rig_turn();
        take_events();
        rig_qp_destroy(qp);
    }
}

/* Values beyond what they may be, one at a time; the rest as it should be. */
static void modify_with_a_value_out_of_range_is_refused(void **state)
{
    (void)state;
    struct rdma_qp_attr good = rig_qp_attr(NULL);
    struct rdma_qp_attr bad[20];
    for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++) {
        bad[i] = good;
    }
    uint32_t n = 0;
    bad[n++].access = 8;
    bad[n++].access = 255;
    uint32_t init_end = n;
    bad[n++].path_mtu = 0;
    bad[n++].path_mtu = 6;
    bad[n++].dest_qpn = 0;
    bad[n++].dest_qpn = 1;
    bad[n++].dest_qpn = 0xffffff;
    bad[n++].dest_qpn = 0x1000000;
    bad[n++].rq_psn = 0x1000000;
    bad[n++].max_dest_rd_atomic = 17;
    bad[n++].min_rnr_timer = 32;
    uint32_t rtr_end = n;
    bad[n++].timeout = 32;
    bad[n++].retry_cnt = 8;
    bad[n++].rnr_retry = 8;
    bad[n++].sq_psn = 0x1000000;
    bad[n++].max_rd_atomic = 17;
    struct rdma_qp *qp = rig_qp_create(RDMA_QP_RC, NULL);
    for (uint32_t i = 0; i < n; i++) {
        enum rdma_qp_state to = i < init_end  ? RDMA_QP_INIT
                                : i < rtr_end ? RDMA_QP_RTR
                                              : RDMA_QP_RTS;
        enum rdma_qp_state from = (enum rdma_qp_state)(to - 1);
        if (qp->state != from) {
            good.state = (uint8_t)from;
            assert_int_equal(rdma_qp_modify(qp, &good, mask_to(RDMA_QP_RC, qp->state, from)),
                             STATUS_OK);
        }
        bad[i].state = (uint8_t)to;
        assert_int_equal(rdma_qp_modify(qp, &bad[i], mask_to(RDMA_QP_RC, from, to)),
                         STATUS_INVALID);
        assert_int_equal(qp->state, from);
    }
}

/* At their ends all are taken. */
static void modify_with_values_at_their_ends_is_taken(void **state)
{
    (void)state;
    for (uint32_t high = 0; high < 2; high++) {
        struct rdma_qp *qp = rig_qp_create(RDMA_QP_RC, NULL);
        struct rdma_qp_attr attr = rig_qp_attr(NULL);
        attr.access = high ? 7 : 0;
        attr.path_mtu = high ? RDMA_MTU_4096 : RDMA_MTU_256;
        attr.dest_qpn = high ? 0xfffffe : 2;
        attr.rq_psn = high ? 0xffffff : 0;
        attr.sq_psn = high ? 0xffffff : 0;
        attr.max_dest_rd_atomic = attr.max_rd_atomic = high ? 16 : 0;
        attr.min_rnr_timer = attr.timeout = high ? 31 : 0;
        attr.retry_cnt = attr.rnr_retry = high ? 7 : 0;
        for (uint32_t to = RDMA_QP_INIT; to <= RDMA_QP_RTS; to++) {
            attr.state = (uint8_t)to;
            assert_int_equal(rdma_qp_modify(qp, &attr,
                                            mask_to(RDMA_QP_RC, (enum rdma_qp_state)(to - 1),
                                                    (enum rdma_qp_state)to)),
                             STATUS_OK);
        }
        struct rdma_qp_info info = rig_info(qp);
        assert_int_equal(info.sq_next_psn, attr.sq_psn);
        assert_int_equal(info.rq_psn, attr.rq_psn);
        assert_int_equal(info.attr.path_mtu, attr.path_mtu);
        assert_int_equal(info.attr.state, RDMA_QP_RTS);
        rig_qp_destroy(qp);
    }
}

/* Where no packet can go. */
static void modify_to_rtr_without_a_way_is_not_found(void **state)
{
    (void)state;
    struct rdma_qp *qp = qp_in(RDMA_QP_RC, RDMA_QP_INIT);
    struct rdma_qp_attr attr = rig_qp_attr(NULL);
    attr.state = RDMA_QP_RTR;
    attr.av.sgid_index = 4; /* none */
    assert_int_equal(rdma_qp_modify(qp, &attr, RTR_MASK), STATUS_NOT_FOUND);
    attr.av.sgid_index = 2; /* of the other family */
    assert_int_equal(rdma_qp_modify(qp, &attr, RTR_MASK), STATUS_NOT_FOUND);
    attr.av.sgid_index = 1;
    assert_true(net_addr_parse("198.51.100.1", &attr.av.dgid)); /* no gateway */
    assert_int_equal(rdma_qp_modify(qp, &attr, RTR_MASK), STATUS_NOT_FOUND);
    assert_int_equal(qp->state, RDMA_QP_INIT);
    attr = rig_qp_attr(NULL);
    attr.state = RDMA_QP_RTR;
    assert_int_equal(rdma_qp_modify(qp, &attr, RTR_MASK), STATUS_OK);
}

/* --- what states mean ------------------------------------------------------------------------- */

/* Over RESET it is as new: other PSNs, empty queues, no old completions (10.3.1.1). */
static void reset_then_connected_anew_is_a_new_connection(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_SEND, 0, 4000);
    post(2, RDMA_WR_RDMA_READ, 0, 4000);
    post(3, RDMA_WR_SEND, 0, 8);
    post_recv(4, 0, 4096);
    post_recv(5, 0, 64);
    peer_drain();
    peer_ack(SQ_PSN + 3); /* 1 completes, nobody polls */
    peer_send(pkt(SEND_FIRST, RQ_PSN, 1024));
    peer_send(pkt(SEND_LAST, RQ_PSN + 5, 8)); /* a gap */
    assert_int_equal(rig.qp->state, RDMA_QP_RTS);
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_RESET), STATUS_OK);
    rig_turn();
    peer_drain();
    take_events();
    expect_no_wc();
    assert_int_equal(rig_info(rig.qp).send_posted, 0);
    assert_int_equal(rig_info(rig.qp).recv_posted, 0);
    rig_advance(10 * RTO_NS);
    expect_silence();

    struct rdma_qp_attr attr = rig_qp_attr(&(struct rig_qp_options){.sq_psn = 77, .rq_psn = 99});
    for (uint32_t to = RDMA_QP_INIT; to <= RDMA_QP_RTS; to++) {
        attr.state = (uint8_t)to;
        assert_int_equal(rdma_qp_modify(rig.qp, &attr,
                                        mask_to(RDMA_QP_RC, (enum rdma_qp_state)(to - 1),
                                                (enum rdma_qp_state)to)),
                         STATUS_OK);
    }
    post_recv(6, 0, 64);
    peer_send(pkt(SEND_ONLY, 99, 8));
    expect_ack(99, 1);
    expect_recv_wc(6, RDMA_WC_SUCCESS);
    post(7, RDMA_WR_RDMA_READ, 0, 8);
    expect(READ_REQUEST, 77);
    struct pkt *answer = pkt(READ_ONLY, 77, 8);
    answer->syndrome = ACK_SYNDROME;
    peer_send(answer);
    expect_wc(7, RDMA_WC_SUCCESS);
    rig_advance(10 * RTO_NS);
    expect_silence();
    expect_no_wc();
}

/* The peer of the new connection is told of anew. */
static void reset_then_the_first_packet_is_told_again(void **state)
{
    (void)state;
    struct rdma_qp *qp = rig_qp(&(struct rig_qp_options){.state = RDMA_QP_RTR});
    for (uint32_t i = 0; i < 3; i++) {
        peer_send(pkt_rdma(WRITE_ONLY, RQ_PSN, 0, 0, 0, 0));
        expect_ack(RQ_PSN, 1);
        expect_event(RDMA_EVENT_COMM_EST);
        struct rdma_qp_attr attr = rig_qp_attr(NULL);
        assert_int_equal(rig_qp_to(qp, RDMA_QP_RESET), STATUS_OK);
        attr.state = RDMA_QP_INIT;
        assert_int_equal(rdma_qp_modify(qp, &attr, RDMA_QP_STATE | RDMA_QP_ACCESS), STATUS_OK);
        attr.state = RDMA_QP_RTR;
        assert_int_equal(rdma_qp_modify(qp, &attr, RTR_MASK), STATUS_OK);
        rig_turn();
    }
}

static void reset_from_error_works(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_SEND, 0, 8);
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_ERR), STATUS_OK);
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_RESET), STATUS_OK);
    expect_no_wc();
    peer_drain();
}

/* Error twice flushes once. */
static void error_twice_flushes_once(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_SEND, 0, 8);
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_ERR), STATUS_OK);
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_ERR), STATUS_OK);
    expect_wc(1, RDMA_WC_WR_FLUSH_ERR);
    expect_no_wc();
}

/* From SQD with another address: packets go there (11.2.5.2). */
static void sqd_with_another_address_sends_there(void **state)
{
    (void)state;
    rig_qp(NULL);
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_SQD), STATUS_OK);
    rig_turn();
    struct rdma_qp_attr attr = rig_qp_attr(&(struct rig_qp_options){.is_ipv6 = true});
    assert_int_equal(rdma_qp_modify(rig.qp, &attr, RDMA_QP_AV), STATUS_OK);
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_RTS), STATUS_OK);
    post(1, RDMA_WR_SEND, 0, 8);
    assert_true(expect(SEND_ONLY, SQ_PSN)->is_ipv6);
    peer_ack(SQ_PSN); /* the old address is nobody's now */
    expect_no_wc();
    struct pkt *ack = pkt_ack(SQ_PSN, ACK_SYNDROME, 1);
    ack->is_ipv6 = true;
    peer_send(ack);
    expect_wc(1, RDMA_WC_SUCCESS);
}

/* No way to the new address: the old one stays good. */
static void sqd_with_an_address_without_a_way_keeps_the_old_one(void **state)
{
    (void)state;
    rig_qp(NULL);
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_SQD), STATUS_OK);
    struct rdma_qp_attr attr = rig_qp_attr(NULL);
    assert_true(net_addr_parse("198.51.100.1", &attr.av.dgid));
    assert_int_equal(rdma_qp_modify(rig.qp, &attr, RDMA_QP_AV), STATUS_NOT_FOUND);
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_RTS), STATUS_OK);
    rig_turn();
    take_events();
    post(1, RDMA_WR_SEND, 0, 8);
    expect(SEND_ONLY, SQ_PSN);
    peer_ack(SQ_PSN);
    expect_wc(1, RDMA_WC_SUCCESS);
}

/* --- creation and destruction ----------------------------------------------------------------- */

static void create_with_counts_out_of_range_is_refused(void **state)
{
    (void)state;
    static uint8_t memory[1 << 16] __attribute__((aligned(64)));
    struct rdma_qp_init_attr good = {.type = RDMA_QP_RC,
                                     .pd = rig.pd,
                                     .send_cq = rig.cq,
                                     .recv_cq = rig.recv_cq,
                                     .send_wr_count = 4,
                                     .recv_wr_count = 4,
                                     .send_sge_count = 1,
                                     .recv_sge_count = 1,
                                     .memory = memory};
    struct rdma_qp_init_attr bad[10];
    for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++) {
        bad[i] = good;
    }
    bad[0].send_wr_count = 0;
    bad[1].send_wr_count = rig.dev->attr.wr_count_max + 1;
    bad[2].recv_wr_count = rig.dev->attr.wr_count_max + 1;
    bad[3].send_sge_count = 0;
    bad[4].send_sge_count = 5;
    bad[5].recv_sge_count = 0;
    bad[6].recv_sge_count = 5;
    bad[7].memory = NULL;
    bad[8].send_cq = NULL;
    bad[9].recv_wr_count = 0;
    struct rdma_qp *qp = NULL;
    for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(rdma_qp_create(&bad[i], &qp), STATUS_INVALID);
    }
    struct rdma_qp_init_attr other = good;
    other.srq = rig_srq(4, 0);
    other.pd = rig_pd();
    assert_int_equal(rdma_qp_create(&other, &qp), STATUS_INVALID); /* SRQ of another domain */
}

static void create_beyond_the_pool_is_no_space(void **state)
{
    (void)state;
    struct rdma_qp *qps[RIG_QPS];
    static uint8_t memory[1 << 16] __attribute__((aligned(64)));
    for (uint32_t i = 0; i < RIG_QPS; i++) {
        qps[i] = rig_qp_create(RDMA_QP_RC, NULL);
        for (uint32_t j = 0; j < i; j++) {
            assert_int_not_equal(qps[i]->num, qps[j]->num);
        }
        assert_true(qps[i]->num > 1 && qps[i]->num < 0xffffff);
    }
    struct rdma_qp_init_attr attr = {.type = RDMA_QP_RC,
                                     .pd = rig.pd,
                                     .send_cq = rig.cq,
                                     .recv_cq = rig.recv_cq,
                                     .send_wr_count = 4,
                                     .recv_wr_count = 4,
                                     .send_sge_count = 1,
                                     .recv_sge_count = 1,
                                     .memory = memory};
    struct rdma_qp *none;
    assert_int_equal(rdma_qp_create(&attr, &none), STATUS_NO_SPACE);
    rig_qp_destroy(qps[3]);
    rig_qp_create(RDMA_QP_RC, NULL);
}

/* A number is not given away again at once, so late packets of the old connection reach nobody. */
static void create_after_destroy_has_another_number(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 20; i++) {
        struct rdma_qp *qp = rig_qp(NULL);
        uint32_t num = qp->num;
        rig_qp_destroy(qp);
        qp = rig_qp(NULL);
        assert_int_not_equal(qp->num, num);
        struct pkt *made = pkt_rdma(WRITE_ONLY, RQ_PSN, 4, addr_at(0), rig.mr->rkey, 4);
        made->qpn = num;
        peer_send(made);
        expect_silence();
        rig_qp_destroy(qp);
    }
}

static void destroy_in_use_says_again(void **state)
{
    (void)state;
    struct rdma_srq *srq = rig_srq(4, 0);
    rig_qp(&(struct rig_qp_options){.srq = srq});
    assert_int_equal(rdma_cq_destroy(rig.cq), STATUS_AGAIN);
    assert_int_equal(rdma_cq_destroy(rig.recv_cq), STATUS_AGAIN);
    assert_int_equal(rdma_srq_destroy(srq), STATUS_AGAIN);
    assert_int_equal(rdma_pd_free(rig.pd), STATUS_AGAIN);
}

/* In each state, with work in both queues and half a message received: nothing stays behind
 * (rig_teardown looks). */
static void destroy_in_every_state_leaves_nothing(void **state)
{
    (void)state;
    for (uint32_t s = 0; s < STATES; s++) {
        if (s == RDMA_QP_SQE) {
            continue;
        }
        struct rdma_qp *qp = s == RDMA_QP_RESET
                                 ? rig_qp_create(RDMA_QP_RC, NULL)
                                 : rig_qp(&(struct rig_qp_options){.state = (enum rdma_qp_state)s});
        if (s != RDMA_QP_RESET) {
            post_recv(1, 0, 4096);
        }
        enum status status = s >= RDMA_QP_RTS ? STATUS_OK : STATUS_INVALID;
        assert_int_equal(rdma_post_send(qp, &send_wr(2, RDMA_WR_SEND, 0, 2000)->wr, NULL), status);
        assert_int_equal(rdma_post_send(qp, &send_wr(3, RDMA_WR_RDMA_READ, 0, 2000)->wr, NULL),
                         status);
        peer_send(pkt(SEND_FIRST, RQ_PSN, 1024));
        peer_queue(pkt_rdma(READ_REQUEST, RQ_PSN + 1, 0, addr_at(0), rig.mr->rkey, 4000));
        rig_turn();
        take_events();
        peer_drain();
        rig_qp_destroy(qp);
        rig_advance(10 * RTO_NS);
        expect_silence();
        expect_no_wc();
        assert_int_equal(rig.event_count, 0);
    }
}

/* An acknowledgement that could not leave and an event that nobody was told of die with it: its
 * place may be another's at once. */
static void destroy_with_something_to_say_says_nothing(void **state)
{
    (void)state;
    struct rdma_srq *srq = rig_srq(4, 0);
    rig_qp(NULL);
    wire_hold_reap(rig.wire, true);
    for (uint32_t i = 0; i < 4; i++) { /* no buffer is left */
        struct rdma_qp *other = rig_qp(&(struct rig_qp_options){.timeout = 255});
        post_wr(other, &send_wr(i, RDMA_WR_SEND, 0, 64 * 1024)->wr);
    }
    struct rdma_qp *qp = rig_qp(&(struct rig_qp_options){.srq = srq});
    peer_drain();
    struct pkt *made = pkt_rdma(WRITE_ONLY, RQ_PSN, 0, 0, 0, 0);
    made->qpn = qp->num;
    peer_send(made);
    assert_int_equal(rig_info(qp).msn, 1);
    assert_int_equal(rig_qp_to(qp, RDMA_QP_ERR), STATUS_OK); /* last WQE reached: not told yet */
    rig_qp_destroy(qp);
    qp = rig_qp_create(RDMA_QP_RC, NULL);
    wire_hold_reap(rig.wire, false);
    rig_turn();
    expect_silence();
    assert_int_equal(rig.event_count, 0);
    assert_int_equal(rig_info(qp).stats.tx_packets, 0);
}

static uint32_t visited;
static void count_visit(struct rdma_qp *qp, void *ctx)
{
    assert_ptr_equal(ctx, &visited);
    assert_non_null(qp->pd);
    visited++;
}

static void visit_sees_each_queue_pair(void **state)
{
    (void)state;
    visited = 0;
    rdma_qp_visit(rig.dev, count_visit, &visited);
    assert_int_equal(visited, 0);
    rig_qp(NULL);
    rig_qp(NULL);
    rig_qp_create(RDMA_QP_GSI, NULL);
    rdma_qp_visit(rig.dev, count_visit, &visited);
    assert_int_equal(visited, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(modify_rc_goes_the_ways_of_figure_124),
        RIG_TEST(modify_ud_goes_the_ways_of_figure_124),
        RIG_TEST(modify_to_no_state_is_refused),
        RIG_TEST(modify_without_a_needed_attribute_is_refused),
        RIG_TEST(modify_with_an_attribute_too_many_is_refused),
        RIG_TEST(modify_in_a_state_takes_what_may_change_there),
        RIG_TEST(modify_with_a_value_out_of_range_is_refused),
        RIG_TEST(modify_with_values_at_their_ends_is_taken),
        RIG_TEST(modify_to_rtr_without_a_way_is_not_found),
        RIG_TEST(reset_then_connected_anew_is_a_new_connection),
        RIG_TEST(reset_then_the_first_packet_is_told_again),
        RIG_TEST(reset_from_error_works),
        RIG_TEST(error_twice_flushes_once),
        RIG_TEST(sqd_with_another_address_sends_there),
        RIG_TEST(sqd_with_an_address_without_a_way_keeps_the_old_one),
        RIG_TEST(create_with_counts_out_of_range_is_refused),
        RIG_TEST(create_beyond_the_pool_is_no_space),
        RIG_TEST(create_after_destroy_has_another_number),
        RIG_TEST(destroy_in_use_says_again),
        RIG_TEST(destroy_in_every_state_leaves_nothing),
        RIG_TEST(destroy_with_something_to_say_says_nothing),
        RIG_TEST(visit_sees_each_queue_pair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
