/*
 * RDMA ports of this machine against a NIC's configuration: can they reach each other?
 */
#ifndef SNICCTL_FABRIC_H
#define SNICCTL_FABRIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fabric_gid {
    char device[64];
    char netdev[32]; /* empty: not known */
    uint32_t port;
    uint32_t index;
    bool is_up;
    bool is_ethernet;
    bool is_roce_v2;
    uint32_t mtu; /* active, of RDMA: 256 to 4096 */
    uint8_t gid[16];
};

/* An address of the NIC, IPv4 as ::ffff:a.b.c.d. */
struct fabric_address {
    char name[48]; /* where it stands in the tree */
    uint8_t addr[16];
    uint32_t prefix; /* of 128 bits; 128: a target, no network */
    uint32_t mtu;    /* of IP; 0: not said */
};

/* "192.0.2.1/24", "fd00::1"; false: neither. */
bool fabric_parse(const char *text, struct fabric_address *address);
/* Text of a GID or address; IPv4 as such. Fits into 48 bytes. */
void fabric_text(const uint8_t *addr, char *out, size_t room_bytes);
/* Largest RDMA payload of packets in IP packets of that size. */
uint32_t fabric_path_mtu(uint32_t ip_mtu);

enum fabric_verdict {
    FABRIC_REACHED,
    FABRIC_SMALL_MTU, /* reached, but the two sides differ */
    FABRIC_DOWN,
    FABRIC_NOT_ROCE_V2,
    FABRIC_OTHER_NETWORK, /* no GID in that network */
};

/* Judges the address of a NIC port against the GIDs; *best: the one it is about (unset for the
 * last). `why` says it to people. */
enum fabric_verdict fabric_judge(const struct fabric_address *address,
                                 const struct fabric_gid *gids, uint32_t count, uint32_t *best,
                                 char *why, size_t room_bytes);

/* The addresses of ports (with networks) and of subsystems (prefix 128) in a device tree; at most
 * `max`. */
uint32_t fabric_read_tree(const void *tree, struct fabric_address *addresses, uint32_t max);

#endif
