/*
 * The words about Ethernet ports and diagnostic services; see config.h.
 */
#include "app/config_priv.h"

#include <stdio.h>
#include <string.h>
#include "base/bits.h"

#define MTU_LOW      1280 /* IPv6's smallest (RFC 8200 5) */
#define MTU_HIGH     9000
#define VLAN_HIGH    4094
#define PREFIX4_HIGH 32
#define PREFIX6_HIGH 128

/* Addresses are one port's: without a number they are port 0's. */
static struct config_port *one_port(const struct config_word *word)
{
    return &word->config->ports[word->index == CONFIG_EVERY ? 0 : word->index];
}

/* What ports may share is every port's without a number. */
#define FOR_EACH_PORT(port, word)                                                        \
    for (struct config_port *port = one_port(word);                                      \
         port < ((word)->index == CONFIG_EVERY ? (word)->config->ports + LIMIT_ETH_PORTS \
                                               : one_port(word) + 1);                    \
         port++)

/* --- addresses ----------------------------------------------------------------------------- */

/* ADDRESS/N of one family that a port can have: not the unspecified one, not multicast. */
static bool parse_net(const char *value, bool ipv4, struct net_if_addr *out)
{
    char text[NET_ADDR_TEXT_BYTES];
    const char *slash = strchr(value, '/');
    uint64_t bits;

    if (slash == NULL || (size_t)(slash - value) >= sizeof(text)) {
        return false;
    }
    memcpy(text, value, (size_t)(slash - value));
    text[slash - value] = '\0';
    if (!net_addr_parse(text, &out->addr) || net_addr_is_ipv4(&out->addr) != ipv4 ||
        !config_whole_number(slash + 1, 1, ipv4 ? PREFIX4_HIGH : PREFIX6_HIGH, &bits)) {
        return false;
    }
    out->prefix_bits = (uint8_t)bits;
    const uint8_t *b = out->addr.bytes;
    if (ipv4) {
        return b[12] != 0 && b[12] != 127 && b[12] < 224;
    }
    return b[0] != 0xff && b[0] != 0; /* 0000::/8: unspecified, loopback, mapped (RFC 4291 2.4) */
}

static bool parse_host(const char *value, bool ipv4, struct net_addr *out)
{
    return net_addr_parse(value, out) && net_addr_is_ipv4(out) == ipv4 && out->bytes[0] != 0xff &&
           (!ipv4 || (out->bytes[12] != 0 && out->bytes[12] < 224));
}

enum status config_set_ip(const struct config_word *word)
{
    if (!parse_net(word->value, true, &one_port(word)->ip4)) {
        return config_fail(word, "A.B.C.D/N, an address of a host and its prefix 1..32");
    }
    return STATUS_OK;
}

enum status config_set_ip6(const struct config_word *word)
{
    if (!parse_net(word->value, false, &one_port(word)->ip6)) {
        return config_fail(word, "ADDRESS/N, an IPv6 address of a host and its prefix 1..128");
    }
    return STATUS_OK;
}

enum status config_set_gateway(const struct config_word *word)
{
    if (!parse_host(word->value, true, &one_port(word)->gateway4)) {
        return config_fail(word, "A.B.C.D, the address of a router");
    }
    return STATUS_OK;
}

enum status config_set_gateway6(const struct config_word *word)
{
    if (!parse_host(word->value, false, &one_port(word)->gateway6)) {
        return config_fail(word, "the IPv6 address of a router");
    }
    return STATUS_OK;
}

/* True if both have the same first `bits` of the family's address. */
static bool same_net(const struct net_addr *a, const struct net_addr *b, uint32_t bits)
{
    uint32_t whole = bits / 8;
    uint8_t mask = (uint8_t)(0xff00u >> bits % 8);

    return memcmp(a->bytes, b->bytes, whole) == 0 &&
           (bits % 8 == 0 || ((a->bytes[whole] ^ b->bytes[whole]) & mask) == 0);
}

static bool is_link_local6(const struct net_addr *addr)
{
    return addr->bytes[0] == 0xfe && (addr->bytes[1] & 0xc0) == 0x80;
}

static enum status gateway_fail(const struct config_word *word, uint32_t port, const char *key,
                                const struct net_addr *gateway)
{
    char name[16];
    char text[NET_ADDR_TEXT_BYTES];
    struct config_word named = *word;

    snprintf(name, sizeof(name), port == 0 ? "%s" : "%s.%u", key, (unsigned)port);
    net_addr_text(gateway, text);
    named.key = name;
    named.value = text;
    return config_fail(&named, "a router in the network of the port's address");
}

uint32_t config_bad_gateway(const struct config_port *port)
{
    uint32_t bits4 = port->ip4.prefix_bits;
    uint32_t bits6 = port->ip6.prefix_bits;

    if (!net_addr_is_zero(&port->gateway4) &&
        (bits4 == 0 || !same_net(&port->gateway4, &port->ip4.addr, 96 + bits4))) {
        return 4;
    }
    if (!net_addr_is_zero(&port->gateway6) && !is_link_local6(&port->gateway6) &&
        (bits6 == 0 || !same_net(&port->gateway6, &port->ip6.addr, bits6))) {
        return 6;
    }
    return 0;
}

enum status config_check_fabric(const struct config_word *word)
{
    for (uint32_t i = 0; i < LIMIT_ETH_PORTS; i++) {
        const struct config_port *port = &word->config->ports[i];
        uint32_t family = config_bad_gateway(port);
        if (family != 0) {
            return gateway_fail(word, i, family == 4 ? "gw" : "gw6",
                                family == 4 ? &port->gateway4 : &port->gateway6);
        }
    }
    return STATUS_OK;
}

/* --- the port ------------------------------------------------------------------------------ */

enum status config_set_vlan(const struct config_word *word)
{
    uint64_t vlan;
    if (!config_whole_number(word->value, 0, VLAN_HIGH, &vlan)) {
        return config_fail(word, "1 to 4094, or 0 for untagged");
    }
    FOR_EACH_PORT(port, word)
    {
        port->vlan = (uint16_t)vlan;
    }
    return STATUS_OK;
}

enum status config_set_mtu(const struct config_word *word)
{
    uint64_t mtu_bytes;
    if (!config_whole_number(word->value, MTU_LOW, MTU_HIGH, &mtu_bytes)) {
        return config_fail(word, "1280 to 9000");
    }
    FOR_EACH_PORT(port, word)
    {
        port->mtu_bytes = (uint16_t)mtu_bytes;
    }
    return STATUS_OK;
}

enum status config_set_ecn(const struct config_word *word)
{
    bool on = strcmp(word->value, "on") == 0;
    if (!on && strcmp(word->value, "off") != 0) {
        return config_fail(word, "on or off");
    }
    FOR_EACH_PORT(port, word)
    {
        port->ecn = on;
    }
    return STATUS_OK;
}

/* --- diagnostic services ------------------------------------------------------------------- */

static bool take_service(const char **text, struct config *config)
{
    if (config_take_prefix(text, "rping")) {
        config->diag_rping = true;
    } else if (config_take_prefix(text, "perf")) {
        config->diag_perf = true;
    } else {
        return false;
    }
    return true;
}

enum status config_set_diag(const struct config_word *word)
{
    const char *text = word->value;

    word->config->diag_rping = false;
    word->config->diag_perf = false;
    if (strcmp(text, "none") == 0) {
        return STATUS_OK;
    }
    do {
        if (!take_service(&text, word->config)) {
            return config_fail(word, "none, or rping and perf, comma-separated");
        }
    } while (config_take_prefix(&text, ","));
    if (*text != '\0') {
        return config_fail(word, "none, or rping and perf, comma-separated");
    }
    return STATUS_OK;
}

enum status config_set_perf_size(const struct config_word *word)
{
    const char *text = word->value;
    uint64_t bytes;

    if (!config_take_size(&text, &bytes) || *text != '\0' || bytes < CONFIG_PERF_LOW_BYTES ||
        bytes > CONFIG_PERF_HIGH_BYTES || !is_aligned(bytes, CONFIG_PERF_LOW_BYTES)) {
        return config_fail(word, "4K to 64M, a multiple of 4K");
    }
    word->config->perf_bytes = (uint32_t)bytes;
    return STATUS_OK;
}
