/*
 * Addresses: kinds, prefixes, text (RFC 4291 2.2, RFC 5952 4). Leaves out: zones ("%eth0").
 */
#include "net/net_priv.h"

#define GROUPS 8 /* of 16 bits in an IPv6 address */

static const uint8_t MAPPED[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

const struct net_addr net_all_nodes = {.bytes = {0xff, 0x02, [15] = 0x01}};
const uint8_t net_mac_broadcast[ETH_ADDR_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

struct net_addr net_addr_from_4(const uint8_t bytes[4])
{
    struct net_addr addr;
    memcpy(addr.bytes, MAPPED, sizeof(MAPPED));
    memcpy(addr.bytes + sizeof(MAPPED), bytes, 4);
    return addr;
}

struct net_addr net_addr_from_6(const uint8_t bytes[16])
{
    struct net_addr addr;
    memcpy(addr.bytes, bytes, sizeof(addr.bytes));
    return addr;
}

struct net_addr net_addr_ipv4(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
    return net_addr_from_4((const uint8_t[4]){a, b, c, d});
}

bool net_addr_is_ipv4(const struct net_addr *addr)
{
    return memcmp(addr->bytes, MAPPED, sizeof(MAPPED)) == 0;
}

bool net_addr_equal(const struct net_addr *a, const struct net_addr *b)
{
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

bool net_addr_is_zero(const struct net_addr *addr)
{
    static const struct net_addr ZERO;
    return net_addr_equal(addr, &ZERO);
}

bool net_addr_same_prefix(const struct net_addr *a, const struct net_addr *b, uint32_t bits)
{
    if (net_addr_is_ipv4(a) != net_addr_is_ipv4(b)) {
        return false;
    }
    bits += net_addr_is_ipv4(a) ? 96 : 0;
    uint32_t rest = bits % 8;
    uint8_t mask = (uint8_t)(0xff00 >> rest);
    return memcmp(a->bytes, b->bytes, bits / 8) == 0 &&
           (rest == 0 || ((a->bytes[bits / 8] ^ b->bytes[bits / 8]) & mask) == 0);
}

bool net_addr_is_host(const struct net_addr *addr)
{
    static const struct net_addr LOOPBACK6 = {.bytes = {[15] = 1}};
    if (net_addr_is_ipv4(addr)) {
        uint8_t first = net_addr_4(addr)[0];
        return first != 0 && first != 127 && first < IPV4_GROUP_FIRST_BYTE;
    }
    return !net_addr_is_zero(addr) && !net_addr_equal(addr, &LOOPBACK6) &&
           addr->bytes[0] != IPV6_GROUP_FIRST_BYTE;
}

bool net_addr_is_link_local6(const struct net_addr *addr)
{
    return addr->bytes[0] == 0xfe && (addr->bytes[1] & 0xc0) == 0x80;
}

struct net_addr net_addr_solicited_node(const struct net_addr *addr)
{
    struct net_addr group = {.bytes = {0xff, 0x02, [11] = 0x01, [12] = 0xff}};
    memcpy(group.bytes + 13, addr->bytes + 13, 3);
    return group;
}

bool net_mac_is_station(const uint8_t *mac)
{
    static const uint8_t ZERO[ETH_ADDR_BYTES];
    return (mac[0] & ETH_GROUP_BIT) == 0 && !net_mac_equal(mac, ZERO);
}

/* --- from text -------------------------------------------------------------------------------- */

static int digit_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Digits up to `max_digits`, value up to `max`; behind them, or NULL: there is no such number. */
static const char *parse_number(const char *text, uint32_t base, uint32_t max_digits, uint32_t max,
                                uint32_t *value)
{
    uint32_t count = 0;
    *value = 0;
    for (; digit_value(text[count]) >= 0 && digit_value(text[count]) < (int)base; count++) {
        if (count == max_digits) {
            return NULL;
        }
        *value = *value * base + (uint32_t)digit_value(text[count]);
    }
    return count == 0 || *value > max ? NULL : text + count;
}

/* The whole of `text` is "a.b.c.d", decimal, no leading zeros (some read them as octal). */
static bool parse_ipv4(const char *text, uint8_t bytes[4])
{
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t value;
        const char *end = parse_number(text, 10, 3, 255, &value);
        if (end == NULL || (text[0] == '0' && end != text + 1) || *end != (i < 3 ? '.' : '\0')) {
            return false;
        }
        bytes[i] = (uint8_t)value;
        text = end + 1;
    }
    return true;
}

static void group_put(uint8_t bytes[16], uint32_t group, uint32_t value)
{
    bytes[2 * group] = (uint8_t)(value >> 8);
    bytes[2 * group + 1] = (uint8_t)value;
}

static bool parse_ipv6(const char *text, uint8_t bytes[16])
{
    uint32_t count = 0;
    uint32_t gap = GROUPS; /* "::" stands before this group; GROUPS: nowhere */

    memset(bytes, 0, 16);
    while (*text != '\0') {
        uint32_t value;
        if (text[0] == ':' && text[1] == ':') {
            if (gap != GROUPS || count == GROUPS) {
                return false;
            }
            gap = count;
            text += 2;
            continue; /* "::" ends an address, or a group follows; ":::" fails as a number */
        }
        if (count > 0 && count != gap) {
            if (*text++ != ':') {
                return false;
            }
        }
        if (count <= GROUPS - 2 && parse_ipv4(text, bytes + 2 * count)) {
            count += 2;
            break;
        }
        const char *end = count == GROUPS ? NULL : parse_number(text, 16, 4, 0xffff, &value);
        if (end == NULL) {
            return false;
        }
        group_put(bytes, count++, value);
        text = end;
    }
    if (gap == GROUPS) {
        return count == GROUPS;
    }
    uint32_t behind = count - gap;
    memmove(bytes + 16 - 2 * behind, bytes + 2 * gap, 2 * behind);
    memset(bytes + 2 * gap, 0, 2 * (GROUPS - count));
    return count < GROUPS;
}

bool net_addr_parse(const char *text, struct net_addr *addr)
{
    uint8_t bytes[16];
    if (parse_ipv4(text, bytes)) {
        *addr = net_addr_from_4(bytes);
        return true;
    }
    if (parse_ipv6(text, bytes)) {
        *addr = net_addr_from_6(bytes);
        return true;
    }
    return false;
}

/* --- to text ---------------------------------------------------------------------------------- */

/* Without leading zeros. */
static char *text_number(char *to, uint32_t value, uint32_t base)
{
    char digits[5];
    uint32_t count = 0;
    do {
        digits[count++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    while (count > 0) {
        *to++ = digits[--count];
    }
    return to;
}

static uint32_t group_get(const struct net_addr *addr, uint32_t group)
{
    return (uint32_t)(addr->bytes[2 * group] << 8 | addr->bytes[2 * group + 1]);
}

/* The first of the longest rows of zero groups, two at least (RFC 5952 4.2). */
static uint32_t longest_zero_row(const struct net_addr *addr, uint32_t *start)
{
    uint32_t longest = 1;
    uint32_t row = 0;
    *start = GROUPS;
    for (uint32_t i = 0; i < GROUPS; i++) {
        row = group_get(addr, i) == 0 ? row + 1 : 0;
        if (row > longest) {
            longest = row;
            *start = i + 1 - row;
        }
    }
    return longest;
}

void net_addr_text(const struct net_addr *addr, char text[NET_ADDR_TEXT_BYTES])
{
    char *to = text;
    if (net_addr_is_ipv4(addr)) {
        for (uint32_t i = 0; i < 4; i++) {
            to = text_number(to, net_addr_4(addr)[i], 10);
            *to++ = i < 3 ? '.' : '\0';
        }
        return;
    }
    uint32_t gap;
    uint32_t gap_groups = longest_zero_row(addr, &gap);
    for (uint32_t i = 0; i < GROUPS; i++) {
        if (i == gap) {
            *to++ = ':';
            *to++ = ':';
            i += gap_groups - 1;
            continue;
        }
        to = text_number(to, group_get(addr, i), 16);
        if (i + 1 < GROUPS && i + 1 != gap) {
            *to++ = ':';
        }
    }
    *to = '\0';
}
