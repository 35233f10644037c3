/*  The memory of a packet is read twice: for its checksum and by the device. Host memory may change
 * between the two. The packet is then broken on the wire, the peer drops it, and it is sent again
 * as a copy; nobody else notices (IBA 9.7.6.1, 9.8). */
#include "rdma/rig.h"

#define DELAY_NS (5 * NS_PER_US)

/* From the flush until the device reads the segments. */
static void let_the_device_read(void)
{
    native_clock_advance(DELAY_NS);
    rig_turn();
}

static void take_broken(enum op opcode, uint32_t psn)
{
    static struct pkt got;
    assert_true(peer_take(&got));
    assert_int_equal(got.opcode, opcode);
    assert_int_equal(got.psn, PKT_PSN(psn));
    assert_true(got.is_icrc_wrong);
}

/* A SEND whose memory changes: the peer sees a wrong ICRC. What is sent again is good, whatever the
 * memory does meanwhile. */
static void send_changed_under_way_is_sent_again_as_a_copy(void **state)
{
    (void)state;
    rig_qp(NULL);
    wire_set_device(rig.wire, DELAY_NS, 0);
    fill(0, 1000, 1);
    post(1, RDMA_WR_SEND, 0, 1000);
    expect_silence();
    rig.memory[999] ^= 1;
    let_the_device_read();
    take_broken(SEND_ONLY, SQ_PSN);
    fill(0, 1000, 2);
    native_clock_advance(RTO_NS + RIG_TICK_NS);
    rig_turn();
    expect_silence();
    fill(0, 1000, 3); /* again, behind the checksum */
    let_the_device_read();
    expect_data(SEND_ONLY, SQ_PSN, 1000, 2, 0);
    assert_int_equal(rig_info(rig.qp).stats.copies, 1);
    peer_ack(SQ_PSN);
    expect_wc(1, RDMA_WC_SUCCESS);
}

/* In the middle of a message, told by a NAK: only from there on. */
static void write_changed_under_way_goes_back_to_that_packet(void **state)
{
    (void)state;
    rig_qp(NULL);
    wire_set_device(rig.wire, DELAY_NS, 0);
    fill(0, 3000, 1);
    post(1, RDMA_WR_RDMA_WRITE, 0, 3000);
    rig.memory[1500] ^= 0x80;
    let_the_device_read();
    expect_data(WRITE_FIRST, SQ_PSN, 1024, 1, 0);
    take_broken(WRITE_MIDDLE, SQ_PSN + 1);
    expect_data(WRITE_LAST, SQ_PSN + 2, 952, 1, 2048);
    rig.memory[1500] ^= 0x80;
    peer_nak(SQ_PSN + 1, NAK_SEQUENCE);
    let_the_device_read();
    expect_data(WRITE_MIDDLE, SQ_PSN + 1, 1024, 1, 1024);
    expect_data(WRITE_LAST, SQ_PSN + 2, 952, 1, 2048);
    peer_ack(SQ_PSN + 2);
    expect_wc(1, RDMA_WC_SUCCESS);
}

/* A response to a READ: the peer asks again, and the repetition is a copy. */
static void read_response_changed_under_way_is_repeated_as_a_copy(void **state)
{
    (void)state;
    rig_qp(NULL);
    wire_set_device(rig.wire, DELAY_NS, 0);
    fill(0, 2048, 1);
    peer_send(pkt_rdma(READ_REQUEST, RQ_PSN, 0, addr_at(0), rig.mr->rkey, 2048));
    rig.memory[5] ^= 1;
    let_the_device_read();
    take_broken(READ_FIRST, RQ_PSN);
    expect_data(READ_LAST, RQ_PSN + 1, 1024, 1, 1024);
    peer_send(pkt_rdma(READ_REQUEST, RQ_PSN, 0, addr_at(0), rig.mr->rkey, 2048));
    fill(0, 2048, 9);
    let_the_device_read();
    struct pkt got;
    assert_true(peer_take(&got));
    assert_false(got.is_icrc_wrong); /* with what was there when it was made */
    assert_int_equal(got.opcode, READ_FIRST);
    expect_data(READ_LAST, RQ_PSN + 1, 1024, 1, 1024);
    assert_int_equal(rig_info(rig.qp).stats.copies, 2);
}

/* Small payloads are copies from the start. */
static void small_payload_never_changes_under_way(void **state)
{
    (void)state;
    rig_qp(NULL);
    wire_set_device(rig.wire, DELAY_NS, 0);
    fill(0, 128, 1);
    post(1, RDMA_WR_SEND, 0, 128);
    fill(0, 128, 2);
    let_the_device_read();
    expect_data(SEND_ONLY, SQ_PSN, 128, 1, 0);
    peer_ack(SQ_PSN);
    expect_wc(1, RDMA_WC_SUCCESS);
}

/* A host that changes its memory without end harms its own I/O alone: others of the same device go
 * on, and its own ends well, since the second try is a copy. */
static void others_are_not_harmed(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_qp *other = rig_qp(NULL);
    wire_set_device(rig.wire, DELAY_NS, 0);
    fill(4096, 1000, 5);
    uint32_t broken = 0;
    for (uint32_t i = 0; i < 20; i++) {
        fill(0, 1000, i);
        post(i, RDMA_WR_SEND, 0, 1000);
        post_wr(other, &send_wr(100 + i, RDMA_WR_SEND, 4096, 1000)->wr);
        rig.memory[i] ^= 0xff;
        let_the_device_read();
        static struct pkt got;
        for (uint32_t j = 0; j < 2; j++) {
            assert_true(peer_take(&got));
            broken += got.is_icrc_wrong;
        }
        struct pkt *ack = pkt_ack(SQ_PSN + i, ACK_SYNDROME, 0);
        ack->qpn = other->num;
        peer_send(ack);
        expect_wc(100 + i, RDMA_WC_SUCCESS);
        native_clock_advance(RTO_NS + RIG_TICK_NS);
        rig_turn();
        rig.memory[i] ^= 0x55;
        let_the_device_read();
        expect(SEND_ONLY, SQ_PSN + i);
        peer_ack(SQ_PSN + i);
        expect_wc(i, RDMA_WC_SUCCESS);
    }
    assert_int_equal(broken, 20);
    assert_int_equal(rig_info(other).stats.retransmits, 0);
}

/* No large buffer for a copy is left: it is tried again until there is one, nothing is lost. */
static void copies_wait_for_buffers(void **state)
{
    (void)state;
    rig_qp(NULL);
    fill(0, 40 * 1024, 1);
    post(1, RDMA_WR_RDMA_WRITE, 0, 40 * 1024);
    assert_int_equal(peer_drain(), 40);
    wire_hold_reap(rig.wire, true);
    peer_nak(SQ_PSN, NAK_SEQUENCE);
    assert_int_equal(peer_drain(), 16); /* as many as there are */
    wire_hold_reap(rig.wire, false);
    rig_turn();
    for (uint32_t i = 16; i < 39; i++) {
        expect_data(WRITE_MIDDLE, SQ_PSN + i, 1024, 1, i * 1024);
    }
    expect_data(WRITE_LAST, SQ_PSN + 39, 1024, 1, 39 * 1024);
    peer_ack(SQ_PSN + 39);
    expect_wc(1, RDMA_WC_SUCCESS);
}

/* What is received goes to its place once; a READ's repeated response, after its completion, does
 * not write there again (test_read_requester); nor does a WRITE's. */
static void write_repeated_after_the_key_is_gone_writes_nothing(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_mr *mr =
        rig_mr(rig.pd, 0, 4096, RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE);
    struct pkt *made = pkt_rdma(WRITE_ONLY, RQ_PSN, 64, addr_at(0), mr->rkey, 64);
    peer_send(made);
    expect_ack(RQ_PSN, 1);
    rig_mr_dereg(mr);
    memset(rig.memory, 0x31, 64);
    peer_send(made);
    expect_ack(RQ_PSN, 1);
    assert_int_equal(rig.memory[0], 0x31);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(send_changed_under_way_is_sent_again_as_a_copy),
        RIG_TEST(write_changed_under_way_goes_back_to_that_packet),
        RIG_TEST(read_response_changed_under_way_is_repeated_as_a_copy),
        RIG_TEST(small_payload_never_changes_under_way),
        RIG_TEST(others_are_not_harmed),
        RIG_TEST(copies_wait_for_buffers),
        RIG_TEST(write_repeated_after_the_key_is_gone_writes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
