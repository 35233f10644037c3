/*
 * The interface: memory, addresses, poller.
 */
#include "net/net_priv.h"

#define ALIGN_BYTES  64
#define MTU_MAX      9000
#define VLAN_MAX     4094
#define BUF_MIN      16
#define BUF_MAX      4096
#define NEIGHBOR_MIN 4
#define NEIGHBOR_MAX 1024
/* While frames are at the device: they are not told of, and somebody may wait for their memory. */
#define REAP_SLEEP_NS (50 * NS_PER_US)

/* --- configuration ---------------------------------------------------------------------------- */

static struct net_if_addr link_local(const struct eth_port *port)
{
    const uint8_t *mac = port->addr;
    /* RFC 4291 2.5.6 and appendix A: the universal/local bit is turned over. */
    return (struct net_if_addr){
        .addr = {.bytes = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 0x02, mac[1], mac[2], 0xff, 0xfe,
                           mac[3], mac[4], mac[5]}},
        .prefix_bits = 64,
    };
}

static bool is_addr_valid(const struct net_if_addr *own)
{
    return net_addr_is_host(&own->addr) &&
           own->prefix_bits <= (net_addr_is_ipv4(&own->addr) ? 32 : 128) &&
           !net_is_subnet_broadcast(own, &own->addr);
}

/* None, or a host on the link that is not ourselves. */
static bool is_gateway_valid(const struct net_if *nif, const struct net_addr *gateway, bool is_ipv4)
{
    return net_addr_is_zero(gateway) ||
           (net_addr_is_host(gateway) && net_addr_is_ipv4(gateway) == is_ipv4 &&
            net_if_addr_index(nif, gateway) == NET_IF_ADDRS &&
            net_if_addr_covering(nif, gateway) != NULL);
}

static bool is_config_valid(const struct net_if_config *config)
{
    const struct eth_port *port = config->port;
    return port != NULL && net_mac_is_station(port->addr) && port->mtu_bytes >= IPV6_MTU_MIN &&
           (config->mtu_bytes == 0 ||
            (config->mtu_bytes >= IPV6_MTU_MIN && config->mtu_bytes <= MTU_MAX &&
             config->mtu_bytes <= port->mtu_bytes)) &&
           config->vlan <= VLAN_MAX && config->addr_count <= NET_IF_ADDRS - 1 &&
           config->buf_count >= BUF_MIN && config->buf_count <= BUF_MAX &&
           config->big_buf_count >= 1 && config->big_buf_count <= config->buf_count &&
           config->neighbor_count >= NEIGHBOR_MIN && config->neighbor_count <= NEIGHBOR_MAX;
}

static void addr_add(struct net_if *nif, const struct net_if_addr *own)
{
    nif->addrs[nif->addr_count++] = *own;
    if (net_addr_is_ipv4(&own->addr)) {
        memcpy(&nif->addrs4[nif->addr4_count++], net_addr_4(&own->addr), 4);
    } else {
        memcpy(nif->addrs6[nif->addr6_count++], own->addr.bytes, 16);
    }
}

static enum status addrs_add(struct net_if *nif, const struct net_if_config *config)
{
    struct net_if_addr own = link_local(config->port);

    addr_add(nif, &own);
    for (uint32_t i = 0; i < config->addr_count; i++) {
        own = config->addrs[i];
        if (!is_addr_valid(&own) || net_if_addr_index(nif, &own.addr) != NET_IF_ADDRS) {
            return STATUS_INVALID;
        }
        addr_add(nif, &own);
    }
    if (!is_gateway_valid(nif, &config->gateway4, true) ||
        !is_gateway_valid(nif, &config->gateway6, false)) {
        return STATUS_INVALID;
    }
    nif->gateway4 = config->gateway4;
    nif->gateway6 = config->gateway6;
    return STATUS_OK;
}

/* --- memory ----------------------------------------------------------------------------------- */

#define BUF_BYTES ((sizeof(struct net_buf) + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES)

/* Where the parts lie: offsets, and the end of all. */
struct layout {
    uint64_t neighbors;
    uint64_t bufs;
    uint64_t bigs;
    uint64_t end;
};

static struct layout layout_of(const struct net_if_config *config)
{
    struct layout at;
    at.neighbors = align_up(sizeof(struct net_if), ALIGN_BYTES);
    at.bufs =
        at.neighbors + align_up(config->neighbor_count * sizeof(struct neighbor), ALIGN_BYTES);
    at.bigs = at.bufs + (uint64_t)config->buf_count * BUF_BYTES;
    at.end = at.bigs + (uint64_t)config->big_buf_count * NET_BIG_BYTES;
    return at;
}

uint64_t net_if_memory_bytes(const struct net_if_config *config)
{
    return layout_of(config).end;
}

/* --- poller ----------------------------------------------------------------------------------- */

static uint32_t run(void *ctx)
{
    struct net_if *nif = ctx;
    struct eth_rx frames[NET_RX_BURST];
    uint32_t reaped = net_reap(nif);
    uint32_t count = eth_rx(nif->port, frames, NET_RX_BURST);

    if (UNLIKELY(nif->port->link_up != nif->was_link_up)) {
        nif->was_link_up = nif->port->link_up;
        if (nif->was_link_up) {
            net_announce(nif);
        }
    }
    if (count != 0) {
        counter_add(&nif->stats.rx_frames, count);
        for (uint32_t i = 0; i < count; i++) {
            net_frame_rx(nif, frames[i].data, frames[i].len_bytes);
        }
        eth_rx_done(nif->port, count);
        if (nif->batch_hook != NULL) {
            nif->batch_hook(nif->batch_ctx);
        }
    }
    net_flush(nif);
    return reaped + count;
}

static uint64_t arm(void *ctx, bool armed)
{
    struct net_if *nif = ctx;
    if (eth_arm(nif->port, armed)) {
        return 0;
    }
    return nif->flying != NULL ? REAP_SLEEP_NS : UINT64_MAX;
}

/* --- interface -------------------------------------------------------------------------------- */

static void mac_cache(struct net_if *nif)
{
    memcpy(&nif->mac_high, nif->port->addr, sizeof(nif->mac_high));
    memcpy(&nif->mac_low, nif->port->addr + sizeof(nif->mac_high), sizeof(nif->mac_low));
}

enum status net_if_init(void *memory, const struct net_if_config *config, struct net_if **out)
{
    struct net_if *nif = memory;
    struct layout at = layout_of(config);

    if (!is_config_valid(config)) {
        return STATUS_INVALID;
    }
    memset(nif, 0, sizeof(*nif));
    nif->port = config->port;
    nif->vlan = config->vlan;
    nif->mtu_bytes = config->mtu_bytes != 0 ? config->mtu_bytes
                                            : (uint16_t)min_u32(config->port->mtu_bytes, MTU_MAX);
    mac_cache(nif);
    enum status status = addrs_add(nif, config);
    if (status != STATUS_OK) {
        return status;
    }
    nif->flying_end = &nif->flying;
    pool_init(&nif->bufs, "net_buf", (uint8_t *)memory + at.bufs, BUF_BYTES, config->buf_count);
    pool_init(&nif->bigs, "net_big", (uint8_t *)memory + at.bigs, NET_BIG_BYTES,
              config->big_buf_count);
    nif->neighbor_count = config->neighbor_count;
    nif->neighbors = (struct neighbor *)((uint8_t *)memory + at.neighbors);
    net_neighbors_init(nif);
    net_udp_init(nif);
    net_ping_init(nif);
    net_announce_init(nif);
    nif->poller = (struct poller){.name = "net", .run = run, .arm = arm, .ctx = nif};
    sched_poller_add(&nif->poller);
    nif->was_link_up = config->port->link_up;
    if (nif->was_link_up) {
        net_announce(nif);
    }
    *out = nif;
    return STATUS_OK;
}

struct eth_port *net_if_port(const struct net_if *nif)
{
    return nif->port;
}

uint16_t net_if_mtu(const struct net_if *nif)
{
    return nif->mtu_bytes;
}

const struct net_if_addr *net_if_addr(const struct net_if *nif, uint32_t index)
{
    return index < nif->addr_count ? &nif->addrs[index] : NULL;
}

void net_set_batch_hook(struct net_if *nif, void (*fn)(void *ctx), void *ctx)
{
    nif->batch_hook = fn;
    nif->batch_ctx = ctx;
}

const struct net_stats *net_if_stats(const struct net_if *nif)
{
    return &nif->stats;
}

bool net_if_is_quiet(const struct net_if *nif)
{
    return nif->flying == NULL && pool_is_full(&nif->bufs) && pool_is_full(&nif->bigs) &&
           net_neighbors_are_idle(nif) && nif->pinger.fn == NULL;
}
