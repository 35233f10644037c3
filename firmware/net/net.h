/*
 * net: one IP interface over one Ethernet port: who is where (ARP, neighbour discovery), IPv4, IPv6
 * and UDP headers, ICMP echo, one VLAN tag. Written for RDMA: a path holds its headers ready made,
 * a frame is built in place and may point into host memory, receive hands up pointers.
 *
 * Everything belongs to the core that called net_if_init(), the port's owner. Leaves out:
 * fragments (what is too long is refused, what arrives in fragments is dropped and counted), TCP,
 * routing beyond one gateway, DHCP, multicast but for what neighbour discovery needs.
 *
 * Sources: RFC 826 (ARP), 5227 2.1 (address probe), 791, 768, 792, 8200, 4291, 4443, 4861, 4862
 * 5.4, IEEE 802.1Q.
 */
#ifndef NET_NET_H
#define NET_NET_H

#include <stdbool.h>
#include <stdint.h>
#include "base/compiler.h"
#include "base/list.h"
#include "base/mem_ref.h"
#include "base/status.h"
#include "hal/eth.h"
#include "sched/sched.h"

/* --- addresses -------------------------------------------------------------------------------- */

/* An IPv6 address, or an IPv4 one as ::ffff:a.b.c.d (RFC 4291 2.5.5.2): what RoCEv2 calls a GID. */
struct net_addr {
    uint8_t bytes[16];
};

struct net_addr net_addr_ipv4(uint8_t a, uint8_t b, uint8_t c, uint8_t d);
bool net_addr_is_ipv4(const struct net_addr *addr);
bool net_addr_equal(const struct net_addr *a, const struct net_addr *b);
bool net_addr_is_zero(const struct net_addr *addr); /* all zero: none */
/* Of one host: not zero, group, broadcast, loopback. */
bool net_addr_is_host(const struct net_addr *addr);
bool net_addr_is_link_local6(const struct net_addr *addr); /* fe80::/10 */
/* Both are of one family and have its first `bits` alike, 0..32 or 0..128. */
bool net_addr_same_prefix(const struct net_addr *a, const struct net_addr *b, uint32_t bits);

/* "192.0.2.1" or an IPv6 address as RFC 4291 2.2 writes it. False: neither. Any context. */
MUST_USE bool net_addr_parse(const char *text, struct net_addr *addr);
/* Longest text with its end. */
#define NET_ADDR_TEXT_BYTES 40
/* As RFC 5952 recommends. Any context. */
void net_addr_text(const struct net_addr *addr, char text[NET_ADDR_TEXT_BYTES]);

/* --- interface -------------------------------------------------------------------------------- */

#define NET_IF_ADDRS 4 /* the link-local IPv6 address, which is made from the MAC, is one of them */

struct net_if_addr {
    struct net_addr addr;
    uint8_t prefix_bits; /* 0..32 for IPv4, 0..128 for IPv6 */
};

struct net_if_config {
    struct eth_port *port;
    uint16_t mtu_bytes; /* of an IP packet, 1280..9000; 0: the port's */
    uint16_t vlan;      /* 1..4094: every frame is tagged, others are dropped; 0: untagged */
    uint32_t addr_count;
    struct net_if_addr addrs[NET_IF_ADDRS - 1];
    struct net_addr gateway4; /* zero: none */
    struct net_addr gateway6;
    uint32_t buf_count;      /* frames that may be under way to the wire, 16..4096 */
    uint32_t big_buf_count;  /* of these, how many may carry a copied payload, 1.. */
    uint32_t neighbor_count; /* cache entries, 4..1024 */
};

struct net_if;

/* Bytes of memory that net_if_init() wants for this configuration. */
uint64_t net_if_memory_bytes(const struct net_if_config *config);

/* Makes the interface in `memory` (64-byte aligned, stays) and adds its poller to the calling
 * core. Probes its addresses and then announces them, whenever the link comes up (RFC 5227 2.1
 * and 2.3, RFC 4862 5.4, RFC 4861 7.2.6); it uses them at once. INVALID: a value is out of range,
 * an address is no host's, a gateway is on no link. */
MUST_USE enum status net_if_init(void *memory, const struct net_if_config *config,
                                 struct net_if **out);

struct eth_port *net_if_port(const struct net_if *nif);
uint16_t net_if_mtu(const struct net_if *nif); /* of an IP packet, bytes */
/* The `index`-th address; 0 is the link-local IPv6 address; NULL past the last. The index is the
 * GID index of RoCEv2. */
const struct net_if_addr *net_if_addr(const struct net_if *nif, uint32_t index);

/* --- receive ---------------------------------------------------------------------------------- */

/* A UDP datagram, valid until the handler returns. Lengths and checksums that are there are
 * checked: the IPv4 header's always, UDP's when it is not zero. IPv4 headers with options are
 * dropped as malformed, IPv6 extension headers as not ours: the UDP header always follows on a
 * header of 20 or 40 bytes. Both addresses are of the packet's family; the destination is one of
 * ours. */
struct net_rx {
    const uint8_t *l3;      /* IPv4 or IPv6 header, 4-byte aligned */
    const uint8_t *payload; /* behind the UDP header; 4-byte aligned */
    uint32_t payload_bytes;
    uint8_t ecn; /* 0..3; 3: congestion experienced (RFC 3168) */
    bool is_ipv6;
};

struct net_addr net_rx_src(const struct net_rx *rx);
struct net_addr net_rx_dst(const struct net_rx *rx);

typedef void net_udp_fn(void *ctx, const struct net_rx *rx);

/* Datagrams to `port` at any of our addresses go to fn(ctx). Four ports at most. EXISTS: taken.
 * NO_SPACE. */
MUST_USE enum status net_udp_bind(struct net_if *nif, uint16_t port, net_udp_fn *fn, void *ctx);
void net_udp_unbind(struct net_if *nif, uint16_t port);

/* Called after each batch of received frames, at most once a turn of the poller, before what was
 * sent is flushed: the place to send what a batch shares (acknowledgements). One; NULL: none. */
void net_set_batch_hook(struct net_if *nif, void (*fn)(void *ctx), void *ctx);

/* --- send: frames ----------------------------------------------------------------------------- */

/* Bytes that fit behind the UDP header in the buffer's own memory. */
#define NET_BUF_INLINE_BYTES 336
/* Longest headers: Ethernet with tag, IPv6, UDP. */
#define NET_HEADERS_BYTES 66
/* Room of a big buffer. */
#define NET_BIG_BYTES 4096

/* A frame under construction and under way. Out of the interface's pool. */
struct net_buf {
    uint64_t seq; /* net's */
    struct net_buf *next;
    uint8_t *big; /* net_big_get(); given back with the frame; NULL: none */
    uint32_t seg_count;
    uint32_t
        len_bytes; /* of the frame: net_path_begin() starts it, who adds a segment adds to it */
    uint16_t l3_offset; /* of the IP header in `head` */
    bool is_done;
    /* [0] is the head: headers and what is inline. */
    struct mem_seg segs[ETH_TX_SEGS];
    uint8_t headroom[ETH_TX_HEADROOM_BYTES - 2];
    /* The Ethernet header starts at head + 2, so that IP, UDP and payload are 4-byte aligned. */
    ALIGNED(8) uint8_t head[2 + NET_HEADERS_BYTES + NET_BUF_INLINE_BYTES];
};

/* NULL when all are under way: reaping (the poller's next turns) makes room. */
struct net_buf *net_buf_get(struct net_if *nif);
/* Gives back a buffer that was not sent, its big one too. */
void net_buf_put(struct net_if *nif, struct net_buf *buf);
/* Attaches NET_BIG_BYTES of NIC memory to `buf`; NULL: none left. */
uint8_t *net_big_get(struct net_if *nif, struct net_buf *buf);

/* How many frames net_send() takes now for sure. */
uint32_t net_tx_room(const struct net_if *nif);

/* Sends. The frame leaves with the next net_flush(). Returns its sequence number, 1 and up, one
 * more each time. Needs net_tx_room() > 0: what the device refuses is lost as on a wire, counted
 * (tx_no_buf), and completes. */
uint64_t net_send(struct net_if *nif, struct net_buf *buf);

/* Tells the device, if anything was sent since the last call. net's poller does it too. */
void net_flush(struct net_if *nif);

/* All frames up to this sequence number are no longer read by the device: memory that they pointed
 * at is free. */
uint64_t net_tx_done_seq(const struct net_if *nif);

/* --- send: paths ------------------------------------------------------------------------------ */

enum net_path_state {
    NET_PATH_CLOSED,
    NET_PATH_RESOLVING, /* the neighbour is being asked */
    NET_PATH_READY,
    NET_PATH_FAILED, /* nobody answered, or no route */
};

struct net_path_config {
    struct net_addr src; /* one of ours, of the family of dst; zero: chosen */
    struct net_addr dst;
    uint16_t src_port;
    uint16_t dst_port;
    uint8_t traffic_class; /* DSCP and ECN, as in the header */
    uint8_t hop_limit;     /* 0: 64 */
};

struct net_path;
typedef void net_path_fn(struct net_path *path);

/* The way to one UDP port. Memory is the caller's; contents are net's until closed. */
struct net_path {
    struct net_if *nif;
    struct list link; /* at its neighbour */
    net_path_fn *changed;
    struct net_path_config config; /* src filled in */
    uint8_t state;                 /* enum net_path_state */
    uint8_t l3_offset;             /* 14 or 18 */
    uint8_t headers_bytes;         /* Ethernet to UDP */
    bool is_ipv6;
    uint16_t sum; /* IPv4: of the header without its length */
    /* Laid out as net_buf's head is, so that whole words are copied. */
    ALIGNED(8) uint8_t head[2 + NET_HEADERS_BYTES];
};

/* Starts the way to config->dst: RESOLVING. `changed` is called when it becomes READY or FAILED,
 * once, also before this returns; it may close this path and others, and open new ones. READY can
 * follow on FAILED no more. A path that is READY stays so when its neighbour falls silent: it
 * keeps the last address known and asks again; who uses it has time-outs of his own. NOT_FOUND:
 * `src` is not ours, no address of that family, or no route (there is none to groups, broadcast
 * and ourselves). NO_SPACE: the neighbour cache is full of paths. After a failure the path is
 * closed. */
MUST_USE enum status net_path_open(struct net_if *nif, struct net_path *path,
                                   const struct net_path_config *config, net_path_fn *changed);
void net_path_close(struct net_path *path); /* harmless when closed */

/* Bytes of UDP payload that fit into one packet. */
uint32_t net_path_payload_max(const struct net_path *path);

/* Puts the headers into a fresh buffer; returns where the UDP payload begins, in buf->head. Segment
 * 0 then holds the headers alone: add to segs[0].len_bytes and len_bytes what is put behind them,
 * append further segments. The path is READY. */
uint8_t *net_path_begin(const struct net_path *path, struct net_buf *buf);

/* Completes lengths and the IPv4 checksum; the UDP checksum stays 0 (IPv6: RFC 6935). The payload
 * is what buf->len_bytes says. IPv4 identification is 0 with DF set (RFC 6864). */
void net_path_finish(const struct net_path *path, struct net_buf *buf);

/* --- echo ------------------------------------------------------------------------------------- */

typedef void net_ping_fn(void *ctx, bool answered, uint64_t round_trip_ns);

/* Sends one echo request with `len_bytes` of data (0..NET_BUF_INLINE_BYTES - 8) and calls back
 * once: when the answer came, or after `timeout_ms`. One at a time. AGAIN: one is under way.
 * INVALID: too long. As net_path_open() else. */
MUST_USE enum status net_ping(struct net_if *nif, const struct net_addr *dst, uint32_t len_bytes,
                              uint32_t timeout_ms, net_ping_fn *fn, void *ctx);

/* --- reports: any core ------------------------------------------------------------------------ */

#define NET_STAT_LIST(X)                                                      \
    X(rx_frames, "frames received")                                           \
    X(rx_udp, "datagrams handed up")                                          \
    X(rx_malformed, "lengths or versions that cannot be")                     \
    X(rx_checksum, "wrong checksum")                                          \
    X(rx_not_ours, "other address, VLAN or protocol")                         \
    X(rx_fragment, "fragments, which are not put together")                   \
    X(rx_no_port, "nobody listens at the port")                               \
    X(rx_ecn_ce, "congestion experienced")                                    \
    X(tx_frames, "frames sent")                                               \
    X(tx_no_buf, "no buffer, or no room at the device, for a frame of net's") \
    X(arp_requests, "ARP and neighbour requests sent")                        \
    X(arp_replies, "answered")                                                \
    X(echo_replies, "pings answered")                                         \
    X(neighbor_changes, "a neighbour's address that changed")                 \
    X(neighbor_failures, "neighbours that did not answer")                    \
    X(addr_conflicts, "somebody else claims our address")

struct net_stats {
#define NET_STAT_FIELD(name, text) _Atomic uint64_t name;
    NET_STAT_LIST(NET_STAT_FIELD)
#undef NET_STAT_FIELD
};

const struct net_stats *net_if_stats(const struct net_if *nif);

/* Calls `visit` for each neighbour known. Owner core. */
struct net_neighbor_info {
    struct net_addr addr;
    uint8_t mac[ETH_ADDR_BYTES];
    bool is_known; /* mac is valid */
    uint32_t path_count;
    uint64_t age_ms; /* since it was heard last */
};
void net_neighbors_visit(const struct net_if *nif,
                         void (*visit)(const struct net_neighbor_info *info, void *ctx), void *ctx);

/* Every frame is back and no path is open: what tests check. Owner core. */
bool net_if_is_quiet(const struct net_if *nif);

#endif
