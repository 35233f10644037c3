/*
 * Inside of net: the interface's memory and what its files call of each other. All on the owner
 * core.
 */
#ifndef NET_NET_PRIV_H
#define NET_NET_PRIV_H

#include <string.h>
#include "base/assert.h"
#include "base/bits.h"
#include "base/counter.h"
#include "base/log.h"
#include "base/pool.h"
#include "hal/clock.h"
#include "net/net.h"
#include "spec/eth.h"
#include "spec/ip.h"

#define NET_RX_BURST     32
#define NET_REAP_BURST   64
#define NET_UDP_PORTS    4
#define NET_HOP_LIMIT    64
#define NET_TAG_BYTES    sizeof(struct eth_vlan_tag)
#define NEIGHBOR_NONE    UINT16_MAX
#define NEIGHBOR_BUCKETS 64

#define NET_COUNT(nif, name) counter_add(&(nif)->stats.name, 1)

/* --- neighbours ------------------------------------------------------------------------------- */

#define NEIGHBOR_STATE_LIST(X)                              \
    X(FREE, "nobody's entry")                               \
    X(RESOLVING, "asked up to three times, a second apart") \
    X(READY, "mac is the last one heard; asked now and then")

enum neighbor_state {
#define NEIGHBOR_STATE_ENUM(name, text) NEIGHBOR_##name,
    NEIGHBOR_STATE_LIST(NEIGHBOR_STATE_ENUM)
#undef NEIGHBOR_STATE_ENUM
};

struct neighbor {
    struct net_if *nif;
    struct net_addr addr; /* on the link: the peer's or the gateway's */
    uint8_t mac[ETH_ADDR_BYTES];
    uint8_t state;     /* enum neighbor_state */
    uint8_t asked;     /* times since it was heard */
    bool is_pinned;    /* its paths are being told: it must not be evicted */
    uint16_t next;     /* in its bucket: index, or NEIGHBOR_NONE */
    struct list paths; /* net_path.link */
    uint64_t heard_ns;
    struct timer timer;
};

/* --- interface -------------------------------------------------------------------------------- */

struct net_bind {
    uint32_t port; /* UINT32_MAX: free */
    net_udp_fn *fn;
    void *ctx;
};

struct net_pinger {
    struct net_path path;
    struct timer timer;
    net_ping_fn *fn; /* NULL: idle */
    void *ctx;
    uint32_t len_bytes;
    uint16_t sequence;
    bool is_sent;
    uint64_t sent_ns;
};

struct net_if {
    struct eth_port *port;

    /* Receive. Addresses once more in the form in which packets are compared. */
    uint32_t mac_low;  /* the last four bytes of our MAC, as a load gives them */
    uint16_t mac_high; /* the first two */
    uint16_t vlan;
    uint32_t addr4_count;
    uint32_t addr6_count;
    uint32_t addrs4[NET_IF_ADDRS];
    uint32_t addrs6[NET_IF_ADDRS][4];
    struct net_bind binds[NET_UDP_PORTS];
    void (*batch_hook)(void *ctx);
    void *batch_ctx;

    /* Send. */
    struct net_buf *flying; /* oldest first */
    struct net_buf **flying_end;
    uint64_t sent_seq;
    uint64_t done_seq;
    bool is_flush_due;
    bool was_link_up;
    uint16_t mtu_bytes;
    struct pool bufs;
    struct pool bigs;

    struct net_stats stats;
    struct poller poller;

    /* Who is who. */
    uint32_t addr_count;
    struct net_if_addr addrs[NET_IF_ADDRS];
    struct net_addr gateway4;
    struct net_addr gateway6;
    uint32_t neighbor_count;
    struct neighbor *neighbors;
    uint16_t buckets[NEIGHBOR_BUCKETS];

    struct timer announce_timer;
    uint32_t announce_step;
    uint32_t conflict_mask; /* bit i: somebody else has addrs[i], so it is not announced */

    uint64_t echo_window_ns;
    uint32_t echo_count; /* answered in this window */
    struct net_pinger pinger;
};

/* addr.c */

/* The four bytes of an IPv4 address. */
ALWAYS_INLINE const uint8_t *net_addr_4(const struct net_addr *addr)
{
    return addr->bytes + 12;
}
struct net_addr net_addr_from_4(const uint8_t bytes[4]);
struct net_addr net_addr_from_6(const uint8_t bytes[16]);
/* ff02::1:ffXX:XXXX, RFC 4291 2.7.1 */
struct net_addr net_addr_solicited_node(const struct net_addr *addr);
extern const struct net_addr net_all_nodes; /* ff02::1 */

ALWAYS_INLINE bool net_mac_equal(const uint8_t *a, const uint8_t *b)
{
    return memcmp(a, b, ETH_ADDR_BYTES) == 0;
}
/* Of one station: neither a group nor zero. */
bool net_mac_is_station(const uint8_t *mac);
extern const uint8_t net_mac_broadcast[ETH_ADDR_BYTES];

/* route.c */

/* The index of our address; NET_IF_ADDRS: it is not ours. */
uint32_t net_if_addr_index(const struct net_if *nif, const struct net_addr *addr);
/* Our address with the longest prefix that covers `dst`; NULL: none does. */
const struct net_if_addr *net_if_addr_covering(const struct net_if *nif,
                                               const struct net_addr *dst);
/* An address of ours to ask `neighbor` from; NULL: none of its family. */
const struct net_addr *net_if_addr_asking(const struct net_if *nif,
                                          const struct net_addr *neighbor);
/* `dst` is the last address of the IPv4 prefix of `own`, which covers it. */
bool net_is_subnet_broadcast(const struct net_if_addr *own, const struct net_addr *dst);
/* Who the frame goes to, and our address on the way (*src zero: to be chosen). NOT_FOUND. */
MUST_USE enum status net_route(const struct net_if *nif, const struct net_addr *dst,
                               struct net_addr *src, struct net_addr *hop);

/* checksum.c */

/* The ones' complement sum (RFC 1071) of 16-bit integers in network order, 0..ffffh; an odd last
 * byte counts as if a zero followed. */
uint16_t net_sum(const void *data, uint32_t len_bytes);
ALWAYS_INLINE uint16_t net_sum_add(uint16_t a, uint16_t b)
{
    uint32_t sum = (uint32_t)a + b;
    return (uint16_t)(sum + (sum >> 16));
}
/* Of the pseudo-header: RFC 768, RFC 8200 8.1; `l3` is an IPv4 or IPv6 header. */
uint16_t net_sum_pseudo(const uint8_t *l3, bool is_ipv6, uint8_t protocol, uint32_t len_bytes);

/* buf.c: frames of net's own. */

/* A buffer with Ethernet header and tag; NULL, counted: none, or no room at the device. */
struct net_buf *net_frame_begin(struct net_if *nif, const uint8_t *dst_mac, enum eth_type type);
ALWAYS_INLINE uint8_t *net_frame_l3(struct net_buf *buf)
{
    return buf->head + buf->l3_offset;
}
/* Sends it with `l3_bytes` behind the Ethernet header in `head`, and what further segments hold. */
void net_frame_send(struct net_if *nif, struct net_buf *buf, uint32_t l3_bytes);
/* Writes an Ethernet header at `to`; returns its length: 14, or 18 with the tag. */
uint32_t net_eth_header(const struct net_if *nif, uint8_t *to, const uint8_t *dst_mac,
                        enum eth_type type);
/* Returns how many frames came back. */
uint32_t net_reap(struct net_if *nif);

/* rx.c: `eth` is the Ethernet header, `bytes` what there is behind the pointer before it. */
void net_frame_rx(struct net_if *nif, const uint8_t *eth, uint32_t bytes);

/* ipv4.c, ipv6.c */

void net_ipv4_rx(struct net_if *nif, const uint8_t *eth, const uint8_t *l3, uint32_t bytes);
void net_ipv6_rx(struct net_if *nif, const uint8_t *eth, const uint8_t *l3, uint32_t bytes);
/* Fills a header; the addresses are of its family. Identification 0 with DF (RFC 6864 4.1). */
void net_ipv4_header(uint8_t *l3, const struct net_addr *src, const struct net_addr *dst,
                     uint8_t protocol, uint8_t tos, uint8_t ttl, uint32_t total_bytes);
void net_ipv6_header(uint8_t *l3, const struct net_addr *src, const struct net_addr *dst,
                     uint8_t next_header, uint8_t traffic_class, uint8_t hop_limit,
                     uint32_t payload_bytes);

/* udp.c */
void net_udp_init(struct net_if *nif);
void net_udp_rx(struct net_if *nif, const uint8_t *l3, const uint8_t *udp, uint32_t bytes,
                bool is_ipv6, uint8_t ecn);

/* icmp.c: `bytes` is the length of the ICMP message, as IP has it. */
void net_icmp4_rx(struct net_if *nif, const uint8_t *eth, const uint8_t *l3, const uint8_t *icmp,
                  uint32_t bytes);
/* Also to groups that we are in: `is_group`. */
void net_icmp6_rx(struct net_if *nif, const uint8_t *eth, const uint8_t *l3, const uint8_t *icmp,
                  uint32_t bytes, bool is_group);

/* ping.c */
void net_ping_init(struct net_if *nif);
/* An echo reply for us: `data` behind its header. */
void net_ping_answered(struct net_if *nif, const struct net_addr *src, const struct icmp_echo *echo,
                       const uint8_t *data, uint32_t data_bytes);

/* arp.c */
void net_arp_rx(struct net_if *nif, const uint8_t *l3, uint32_t bytes);
/* Asks for `target`: by broadcast, or of `mac` alone. `src` zero: a probe (RFC 5227 2.1.1). */
void net_arp_request(struct net_if *nif, const struct net_addr *src, const struct net_addr *target,
                     const uint8_t *mac);

/* nd.c */
void net_nd_rx(struct net_if *nif, const uint8_t *eth, const uint8_t *l3, const uint8_t *icmp,
               uint32_t bytes, bool is_group);
/* Asks for `target`: by its solicited-node group, or of `mac` alone. `src` zero: a probe (RFC 4862
 * 5.4.2). */
void net_nd_solicit(struct net_if *nif, const struct net_addr *src, const struct net_addr *target,
                    const uint8_t *mac);
/* Advertises our address `target` to all nodes (RFC 4861 7.2.6). */
void net_nd_announce(struct net_if *nif, const struct net_addr *target);

/* announce.c */
void net_announce_init(struct net_if *nif);
/* From the start: the link came up. */
void net_announce(struct net_if *nif);
/* `mac` claims our address `index`. */
void net_conflict(struct net_if *nif, uint32_t index, const uint8_t *mac);

/* neighbor.c */
void net_neighbors_init(struct net_if *nif);
/* The entry of `addr`, made and asked for if there is none; NULL: all have paths. */
struct neighbor *net_neighbor_get(struct net_if *nif, const struct net_addr *addr);
/* Adds a path, which becomes RESOLVING or READY. */
void net_neighbor_attach(struct neighbor *neighbor, struct net_path *path);
/* `addr` was heard to be at `mac`. Without `is_override` another address known stays (RFC 4861
 * 7.2.5). Unknown neighbours stay so. */
void net_neighbor_learn(struct net_if *nif, const struct net_addr *addr, const uint8_t *mac,
                        bool is_override);
/* `addr` was heard, at the address known. */
void net_neighbor_confirm(struct net_if *nif, const struct net_addr *addr);
bool net_neighbors_are_idle(const struct net_if *nif); /* no paths */

#endif
