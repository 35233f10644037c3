/* Our own echo requests; and two interfaces that speak with each other over a bad wire. */
#include "net/rig.h"

static struct {
    uint32_t count;
    bool answered;
    uint64_t round_trip_ns;
} result;

static void pinged(void *ctx, bool answered, uint64_t round_trip_ns)
{
    assert_ptr_equal(ctx, &result);
    result.count++;
    result.answered = answered;
    result.round_trip_ns = round_trip_ns;
}

static enum status ping(const struct net_addr *dst, uint32_t len)
{
    memset(&result, 0, sizeof(result));
    enum status status = net_ping(rig.nif, dst, len, 2000, pinged, &result);
    rig_turn();
    return status;
}

/* The peer answers the request that it got. */
static void peer_answers(struct frame *request, bool is_ipv6)
{
    request->l3 = 14;
    request->l4 = is_ipv6 ? 54 : 34;
    struct frame answer = *request;
    uint32_t src = answer.l3 + (is_ipv6 ? 8 : 12);
    uint32_t bytes = is_ipv6 ? 16 : 4;
    memcpy(answer.bytes, rig.mac, 6);
    memcpy(answer.bytes + 6, rig.peer_mac, 6);
    memcpy(answer.bytes + src, request->bytes + src + bytes, bytes);
    memcpy(answer.bytes + src + bytes, request->bytes + src, bytes);
    answer.bytes[answer.l4] = is_ipv6 ? 129 : 0;
    frame_done(&answer, true);
    *request = answer;
}

static void ping_answered_is_told_with_its_time(void **state)
{
    (void)state;
    struct net_addr dsts[2] = {rig.peer4, rig.peer6};
    for (uint32_t i = 0; i < 2; i++) {
        struct frame frame;
        assert_int_equal(ping(&dsts[i], 56), STATUS_OK);
        assert_int_equal(peer_drain(), 1); /* the neighbour is asked */
        if (i == 0) {
            peer_says_arp(&dsts[i], rig.peer_mac);
        } else {
            peer_says_nd(&dsts[i], rig.peer_mac);
        }
        assert_true(frame_take(&frame));
        uint8_t sums[4];
        frame.l3 = 14;
        frame.l4 = i == 0 ? 34 : 54;
        memcpy(sums, frame.bytes + frame.l4 + 2, 2);
        memcpy(sums + 2, frame.bytes + frame.l3 + 10, 2);
        frame_done(&frame, true); /* the rig finds the same checksums */
        assert_memory_equal(sums, frame.bytes + frame.l4 + 2, 2);
        assert_memory_equal(sums + 2, frame.bytes + frame.l3 + 10, 2);
        assert_int_equal(frame.bytes[frame.l4], i == 0 ? 8 : 128);
        assert_int_equal(frame.len - frame.l4, 8 + 56);
        native_clock_advance(123456);
        peer_answers(&frame, i == 1);
        frame_inject(&frame);
        assert_int_equal(result.count, 1);
        assert_true(result.answered);
        assert_int_equal(result.round_trip_ns, 123456);
        rig_advance(3 * NS_PER_S);
        assert_int_equal(result.count, 1);
    }
}

static void ping_unanswered_is_told_after_its_time(void **state)
{
    (void)state;
    struct told_path told;
    path_open_ready(&told, &rig.peer4);
    assert_int_equal(ping(&rig.peer4, 0), STATUS_OK);
    assert_int_equal(ping(&rig.peer4, 0), STATUS_AGAIN);
    rig_advance(1990 * NS_PER_MS);
    assert_int_equal(result.count, 0);
    rig_advance(20 * NS_PER_MS);
    assert_int_equal(result.count, 1);
    assert_false(result.answered);
    net_path_close(&told.path);
}

static void ping_of_nobody_is_told_after_its_time(void **state)
{
    (void)state;
    assert_int_equal(net_ping(rig.nif, &rig.peer4, 8, 5000, pinged, &result), STATUS_OK);
    result.count = 0;
    rig_advance(4990 * NS_PER_MS); /* the path failed at 3 s */
    assert_int_equal(result.count, 0);
    rig_advance(20 * NS_PER_MS);
    assert_int_equal(result.count, 1);
    assert_false(result.answered);
}

static void ping_out_of_range_is_refused(void **state)
{
    (void)state;
    struct net_addr nowhere = addr("224.0.0.1");
    assert_int_equal(ping(&rig.peer4, NET_BUF_INLINE_BYTES - 7), STATUS_INVALID);
    assert_int_equal(ping(&nowhere, 8), STATUS_NOT_FOUND);
    assert_int_equal(ping(&rig.peer4, NET_BUF_INLINE_BYTES - 8), STATUS_OK);
    rig_advance(3 * NS_PER_S);
    assert_int_equal(result.count, 1);
}

/* Each a little wrong: none is taken; the right one then is. */
static void ping_takes_its_own_answer_alone(void **state)
{
    (void)state;
    struct told_path told;
    struct frame request;
    path_open_ready(&told, &rig.peer4);
    assert_int_equal(ping(&rig.peer4, 20), STATUS_OK);
    assert_true(frame_take(&request));
    peer_answers(&request, false);
    static const uint32_t OFFSETS[] = {4, 5, 6, 7, 8, 27}; /* identifier, sequence, data */
    for (uint32_t i = 0; i < ARRAY_SIZE(OFFSETS); i++) {
        struct frame wrong = request;
        wrong.bytes[wrong.l4 + OFFSETS[i]] ^= 1;
        frame_done(&wrong, true);
        frame_inject(&wrong);
    }
    struct frame wrong = request;
    wrong.bytes[wrong.l3 + 15]++; /* from another host */
    frame_done(&wrong, true);
    frame_inject(&wrong);
    wrong = request;
    wrong.len--;
    frame_done(&wrong, true);
    frame_inject(&wrong);
    assert_int_equal(result.count, 0);
    frame_inject(&request);
    assert_int_equal(result.count, 1);
    assert_true(result.answered);
    frame_inject(&request); /* once more: nobody waits */
    assert_int_equal(result.count, 1);
    net_path_close(&told.path);
}

static uint32_t chain_count;

static void ping_again(void *ctx, bool answered, uint64_t round_trip_ns)
{
    (void)round_trip_ns;
    assert_false(answered);
    if (++chain_count < 3) {
        assert_int_equal(net_ping(rig.nif, &rig.peer4, 8, 100, ping_again, ctx), STATUS_OK);
    }
}

static void ping_from_the_callback_is_taken(void **state)
{
    (void)state;
    chain_count = 0;
    assert_int_equal(net_ping(rig.nif, &rig.peer4, 8, 100, ping_again, NULL), STATUS_OK);
    rig_advance(NS_PER_S);
    assert_int_equal(chain_count, 3);
}

/* --- two interfaces --------------------------------------------------------------------------- */

static struct net_if *other_open(void)
{
    static ALIGNED(64) uint8_t memory[128 << 10];
    struct net_if *other;
    struct net_if_config config = rig_config();
    config.port = wire_port(rig.wire, PEER);
    config.addrs[0].addr = rig.peer4;
    config.addrs[1].addr = rig.peer6;
    assert_true(net_if_memory_bytes(&config) <= sizeof(memory));
    assert_int_equal(net_if_init(memory, &config, &other), STATUS_OK);
    return other;
}

static void ping_between_two_interfaces_is_answered(void **state)
{
    (void)state;
    struct net_if *other = other_open();
    static const char *const DSTS[] = {"192.0.2.2", "2001:db8::2", "fe80::ff:fe00:2"};
    rig_advance(4 * NS_PER_S);
    for (uint32_t i = 0; i < ARRAY_SIZE(DSTS); i++) {
        struct net_addr dst = addr(DSTS[i]);
        assert_int_equal(ping(&dst, 300), STATUS_OK);
        rig_advance(NS_PER_MS);
        assert_int_equal(result.count, 1);
        assert_true(result.answered);
    }
    assert_true(net_if_is_quiet(other));
    assert_int_equal(counter_get(&net_if_stats(other)->addr_conflicts), 0);
    assert_int_equal(STAT(addr_conflicts), 0);
}

static void ping_over_a_bad_wire_ends_and_leaks_nothing(void **state)
{
    (void)state;
    struct net_if *other = other_open();
    uint32_t answered = 0;
    wire_set_faults(rig.wire, WIRE_ALL_PORTS,
                    &(struct wire_faults){.loss_ppm = 100000,
                                          .duplicate_ppm = 100000,
                                          .corrupt_ppm = 100000,
                                          .reorder_ppm = 100000,
                                          .mark_ppm = 100000,
                                          .delay_ns = 10000,
                                          .jitter_ns = 10000,
                                          .reorder_ns = 100000});
    wire_set_device(rig.wire, 5000, 20000);
    for (uint32_t i = 0; i < 200; i++) {
        struct net_addr dst = i % 2 == 0 ? rig.peer4 : rig.peer6;
        assert_int_equal(ping(&dst, i), STATUS_OK);
        rig_advance(2100 * NS_PER_MS);
        assert_int_equal(result.count, 1);
        answered += result.answered;
    }
    assert_true(answered > 100);
    wire_set_faults(rig.wire, WIRE_ALL_PORTS, &(struct wire_faults){0});
    rig_advance(NS_PER_S);
    assert_true(net_if_is_quiet(other));
    assert_true(net_if_is_quiet(rig.nif));
}

#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(ping_answered_is_told_with_its_time),     T(ping_unanswered_is_told_after_its_time),
        T(ping_of_nobody_is_told_after_its_time),   T(ping_out_of_range_is_refused),
        T(ping_takes_its_own_answer_alone),         T(ping_from_the_callback_is_taken),
        T(ping_between_two_interfaces_is_answered), T(ping_over_a_bad_wire_ends_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
