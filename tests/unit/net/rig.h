/*
 * An interface on port 0 of a wire, and a peer that the test writes on port 1: frames are made by
 * hand, injected, taken and looked at. Shared by the tests of this folder.
 */
#ifndef TESTS_UNIT_NET_RIG_H
#define TESTS_UNIT_NET_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "hal/clock.h"
#include "hal/native/native.h"
#include "net/net.h"
#include "net/net_priv.h"
#include "tests/sim/wire.h"

#define RIG_START_NS    (UINT64_C(100) * NS_PER_S)
#define RIG_FRAME_BYTES 9300
#define PEER            1 /* port of the wire */

/* A frame in the making: layers are appended, lengths and checksums filled in by rig_done(). */
struct frame {
    uint32_t len;
    ALIGNED(16) uint8_t bytes[RIG_FRAME_BYTES];
    uint32_t l3; /* offset of the IP header, 0: none */
    uint32_t l4;
};

struct rig {
    struct wire *wire;
    struct net_if *nif;
    struct net_if_config config;
    uint8_t mac[ETH_ADDR_BYTES];      /* ours */
    uint8_t peer_mac[ETH_ADDR_BYTES]; /* 02:00:00:00:00:02 */
    struct net_addr addr4;            /* 192.0.2.1/24 */
    struct net_addr peer4;            /* 192.0.2.2 */
    struct net_addr addr6;            /* 2001:db8::1/64 */
    struct net_addr peer6;            /* 2001:db8::2 */
    struct net_addr link6;            /* ours, link-local */
};
extern struct rig rig;

/* Defaults: the port's MTU, no VLAN, the addresses above, gateways 192.0.2.254 and fe80::fe,
 * 32 buffers, 4 big ones, 8 neighbours. To be changed before rig_open(). */
struct net_if_config rig_config(void);
/* Port's MTU; announcements are over and drained when `is_settled`. */
void rig_open(const struct net_if_config *config, uint16_t mtu_bytes, bool is_settled);
int rig_setup(void **state);    /* rig_open() with defaults, settled */
int rig_teardown(void **state); /* everything must have come back */

/* Turns the reactor until nothing moves. */
void rig_turn(void);
/* Moves the clock on in steps that no timer is missed by, turning. */
void rig_advance(uint64_t duration_ns);

uint64_t rig_stat(const _Atomic uint64_t *stat);
#define STAT(name) rig_stat(&net_if_stats(rig.nif)->name)

struct net_addr addr(const char *text);

/* --- frames of the peer ----------------------------------------------------------------------- */

void frame_eth(struct frame *frame, const uint8_t *dst, const uint8_t *src, uint16_t type);
void frame_tag(struct frame *frame, uint16_t tci); /* into the Ethernet header that is there */
void frame_put(struct frame *frame, const void *bytes, uint32_t len);
/* From the peer to us. */
void frame_ipv4(struct frame *frame, uint8_t protocol);
void frame_ipv6(struct frame *frame, uint8_t next_header);
void frame_udp(struct frame *frame, uint16_t src_port, uint16_t dst_port, uint32_t len);
/* Fills in lengths and the IPv4 checksum; with `l4_sum` UDP's, ICMP's or ICMPv6's too. */
void frame_done(struct frame *frame, bool l4_sum);
void frame_ipv4_sum(struct frame *frame);
/* A whole datagram of `len` bytes (i + 1) to port `dst_port`. */
void frame_datagram(struct frame *frame, bool is_ipv6, uint16_t dst_port, uint32_t len);
void frame_arp(struct frame *frame, uint16_t operation, const uint8_t *sender_mac,
               const struct net_addr *sender, const struct net_addr *target);
/* `flags` of an advertisement; `mac`: the option of that type, NULL: none. */
void frame_nd(struct frame *frame, uint8_t type, const struct net_addr *src,
              const struct net_addr *dst, const struct net_addr *target, uint8_t flags,
              const uint8_t *mac);

void frame_inject(const struct frame *frame); /* and turns */
/* What arrived at the peer; false: nothing. */
bool frame_take(struct frame *frame);
uint32_t peer_drain(void); /* how many frames there were */

/* The peer answers: it is at peer_mac. */
void peer_says_arp(const struct net_addr *sender, const uint8_t *mac);
void peer_says_nd(const struct net_addr *target, const uint8_t *mac);

/* --- paths ------------------------------------------------------------------------------------ */

/* A path with what was told of it. */
struct told_path {
    struct net_path path;
    uint32_t ready_count;
    uint32_t failed_count;
};
enum status path_open(struct told_path *told, const struct net_addr *dst);
/* Opens it and has the peer answer; READY. */
void path_open_ready(struct told_path *told, const struct net_addr *dst);

#endif
