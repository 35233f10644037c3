/* The Internet checksum: RFC 1071, and headers of packets that were on a wire. */
#include "net/rig.h"

/* RFC 1071 3, the numerical example: the sum is ddf2. */
static void sum_of_the_example_is_that_of_rfc_1071(void **state)
{
    (void)state;
    static const uint8_t DATA[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
    assert_int_equal(net_sum(DATA, sizeof(DATA)), 0xddf2);
}

/* An IPv4 header that is often shown: checksum b861. */
static void sum_over_a_right_header_is_all_ones(void **state)
{
    (void)state;
    uint8_t header[20] = {0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11,
                          0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7};
    assert_int_equal(net_sum(header, sizeof(header)), 0xffff);
    header[10] = 0;
    header[11] = 0;
    assert_int_equal((uint16_t)~net_sum(header, sizeof(header)), 0xb861);
}

static uint16_t slow_sum(const uint8_t *bytes, uint32_t len)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < len; i++) {
        sum += i % 2 == 0 ? (uint32_t)bytes[i] << 8 : bytes[i];
    }
    while (sum > 0xffff) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)sum;
}

static void sum_of_any_length_and_alignment_is_the_slow_one(void **state)
{
    (void)state;
    uint8_t data[72];
    for (uint32_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 89 + 200);
    }
    for (uint32_t start = 0; start < 8; start++) {
        for (uint32_t len = 0; len <= 64; len++) {
            assert_int_equal(net_sum(data + start, len), slow_sum(data + start, len));
        }
    }
}

static void sum_of_the_largest_values_keeps_every_carry(void **state)
{
    (void)state;
    static uint8_t data[9000];
    memset(data, 0xff, sizeof(data));
    assert_int_equal(net_sum(data, sizeof(data)), 0xffff);
    assert_int_equal(net_sum(data, sizeof(data) - 1), slow_sum(data, sizeof(data) - 1));
    assert_int_equal(net_sum_add(0xffff, 0xffff), 0xffff);
    assert_int_equal(net_sum_add(0xffff, 1), 1);
    assert_int_equal(net_sum_add(0x8000, 0x8000), 1);
}

/* RFC 8200 8.1 and RFC 768, added by hand. */
static void sum_of_pseudo_headers_is_right(void **state)
{
    (void)state;
    uint8_t ip4[20] = {[12] = 192, 0, 2, 1, 192, 0, 2, 2};
    uint32_t expected = 0xc000 + 0x0201 + 0xc000 + 0x0202 + 17 + 100;
    assert_int_equal(net_sum_pseudo(ip4, false, 17, 100), (expected & 0xffff) + (expected >> 16));
    uint8_t ip6[40] = {[8] = 0x20, 0x01, [23] = 1, [24] = 0x20, 0x01, [39] = 2};
    expected = 0x2001 + 1 + 0x2001 + 2 + 58 + 32;
    assert_int_equal(net_sum_pseudo(ip6, true, 58, 32), expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sum_of_the_example_is_that_of_rfc_1071),
        cmocka_unit_test(sum_over_a_right_header_is_all_ones),
        cmocka_unit_test(sum_of_any_length_and_alignment_is_the_slow_one),
        cmocka_unit_test(sum_of_the_largest_values_keeps_every_carry),
        cmocka_unit_test(sum_of_pseudo_headers_is_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
