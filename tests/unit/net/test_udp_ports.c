/* Who is told of a UDP datagram: ports bound and unbound. */
#include "net/rig.h"

static void count_up(void *ctx, const struct net_rx *rx)
{
    (void)rx;
    (*(uint32_t *)ctx)++;
}

static void bind_of_four_ports_and_no_more(void **state)
{
    (void)state;
    uint32_t counts[4] = {0};
    for (uint16_t i = 0; i < 4; i++) {
        assert_int_equal(net_udp_bind(rig.nif, i, count_up, &counts[i]), STATUS_OK);
        assert_int_equal(net_udp_bind(rig.nif, i, count_up, &counts[i]), STATUS_EXISTS);
    }
    assert_int_equal(net_udp_bind(rig.nif, 4, count_up, NULL), STATUS_NO_SPACE);
    struct frame frame;
    for (uint16_t i = 0; i < 5; i++) {
        for (uint16_t k = 0; k <= i; k++) {
            frame_datagram(&frame, k % 2, i, 10);
            frame_inject(&frame);
        }
    }
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(counts[i], i + 1);
    }
    assert_int_equal(STAT(rx_no_port), 5);
    net_udp_unbind(rig.nif, 2);
    net_udp_unbind(rig.nif, 99); /* harmless */
    frame_datagram(&frame, false, 2, 10);
    frame_inject(&frame);
    assert_int_equal(counts[2], 3);
    assert_int_equal(net_udp_bind(rig.nif, 0xffff, count_up, &counts[2]), STATUS_OK);
    frame_datagram(&frame, false, 0xffff, 10);
    frame_inject(&frame);
    assert_int_equal(counts[2], 4);
}

static void unbind_itself(void *ctx, const struct net_rx *rx)
{
    (void)rx;
    (*(uint32_t *)ctx)++;
    net_udp_unbind(rig.nif, 7);
}

static void unbind_from_the_handler_is_fine(void **state)
{
    (void)state;
    uint32_t count = 0;
    struct frame frame;
    assert_int_equal(net_udp_bind(rig.nif, 7, unbind_itself, &count), STATUS_OK);
    frame_datagram(&frame, false, 7, 1);
    frame_inject(&frame);
    frame_inject(&frame);
    assert_int_equal(count, 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(bind_of_four_ports_and_no_more),
        T(unbind_from_the_handler_is_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
