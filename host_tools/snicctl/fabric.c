#include "fabric.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <libfdt.h>

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool fabric_parse(const char *text, struct fabric_address *address)
{
    char copy[64];
    char *end;

    if (strlen(text) >= sizeof(copy)) {
        return false;
    }
    strncpy(copy, text, sizeof(copy));
    char *slash = strchr(copy, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    memcpy(address->addr, mapped, sizeof(mapped));
    bool is_v4 = inet_pton(AF_INET, copy, address->addr + 12) == 1;
    if (!is_v4 && inet_pton(AF_INET6, copy, address->addr) != 1) {
        return false;
    }
    address->prefix = 128;
    if (slash != NULL) {
        unsigned long bits = strtoul(slash + 1, &end, 10);
        if (*end != '\0' || end == slash + 1 || bits > (is_v4 ? 32u : 128u)) {
            return false;
        }
        address->prefix = (uint32_t)bits + (is_v4 ? 96 : 0);
    }
    return true;
}

void fabric_text(const uint8_t *addr, char *out, size_t room_bytes)
{
    bool is_v4 = memcmp(addr, mapped, sizeof(mapped)) == 0;

    if (inet_ntop(is_v4 ? AF_INET : AF_INET6, is_v4 ? addr + 12 : addr, out,
                  (socklen_t)room_bytes) == NULL) {
        out[0] = '\0';
    }
}

uint32_t fabric_path_mtu(uint32_t ip_mtu)
{
    uint32_t mtu = 4096;

    /* IPv6, UDP, BTH, the largest extension, ICRC: what kernel and firmware leave room for. */
    while (mtu > 256 && mtu + 40 + 8 + 12 + 28 + 4 > ip_mtu) {
        mtu /= 2;
    }
    return mtu;
}

static bool is_in_network(const struct fabric_address *address, const uint8_t *gid)
{
    uint32_t bytes = address->prefix / 8;
    uint32_t bits = address->prefix % 8;
    uint8_t mask = (uint8_t)(0xff00u >> bits);

    return memcmp(address->addr, gid, bytes) == 0 &&
           (bits == 0 || ((address->addr[bytes] ^ gid[bytes]) & mask) == 0);
}

static enum fabric_verdict judge_gid(const struct fabric_address *address,
                                     const struct fabric_gid *gid)
{
    if (!is_in_network(address, gid->gid)) {
        return FABRIC_OTHER_NETWORK;
    }
    if (!gid->is_roce_v2) {
        return FABRIC_NOT_ROCE_V2;
    }
    if (!gid->is_up) {
        return FABRIC_DOWN;
    }
    return address->mtu != 0 && fabric_path_mtu(address->mtu) != gid->mtu ? FABRIC_SMALL_MTU
                                                                          : FABRIC_REACHED;
}

enum fabric_verdict fabric_judge(const struct fabric_address *address,
                                 const struct fabric_gid *gids, uint32_t count, uint32_t *best,
                                 char *why, size_t room_bytes)
{
    enum fabric_verdict verdict = FABRIC_OTHER_NETWORK;

    for (uint32_t i = 0; i < count; i++) {
        enum fabric_verdict one = judge_gid(address, &gids[i]);
        if (one < verdict) {
            verdict = one;
            *best = i;
        }
    }
    const struct fabric_gid *gid = verdict == FABRIC_OTHER_NETWORK ? NULL : &gids[*best];
    switch (verdict) {
    case FABRIC_REACHED:
        snprintf(why, room_bytes, "same network, RoCEv2, path MTU %u", gid->mtu);
        break;
    case FABRIC_SMALL_MTU:
        snprintf(why, room_bytes,
                 "path MTU %u here, %u there: the smaller counts; give both sides the same mtu",
                 gid->mtu, fabric_path_mtu(address->mtu));
        break;
    case FABRIC_DOWN:
        snprintf(why, room_bytes, "%s port %u is down: ip link set %s up", gid->device, gid->port,
                 gid->netdev[0] != '\0' ? gid->netdev : "NETDEV");
        break;
    case FABRIC_NOT_ROCE_V2:
        snprintf(why, room_bytes, "%s has no RoCEv2 GID in this network, only another type",
                 gid->device);
        break;
    case FABRIC_OTHER_NETWORK:
        snprintf(why, room_bytes,
                 "no GID of this machine is in its network: give an RDMA port an address there");
        break;
    }
    return verdict;
}

/* --- device tree ----------------------------------------------------------------------------- */

static const char *text_of(const void *tree, int node, const char *name)
{
    int len = 0;
    const char *text = fdt_getprop(tree, node, name, &len);

    return text != NULL && len > 0 && text[len - 1] == '\0' ? text : NULL;
}

static uint32_t add(const void *tree, int node, const char *property, uint32_t mtu,
                    struct fabric_address *address)
{
    const char *text = text_of(tree, node, property);
    const char *name = fdt_get_name(tree, node, NULL);

    if (text == NULL || !fabric_parse(text, address)) {
        return 0;
    }
    address->mtu = mtu;
    snprintf(address->name, sizeof(address->name), "%s", name == NULL ? "?" : name);
    return 1;
}

uint32_t fabric_read_tree(const void *tree, struct fabric_address *addresses, uint32_t max)
{
    uint32_t count = 0;
    int node;
    int parent = fdt_path_offset(tree, "/ports");

    fdt_for_each_subnode(node, tree, parent)
    {
        int len = 0;
        const fdt32_t *mtu = fdt_getprop(tree, node, "mtu", &len);
        uint32_t bytes = mtu != NULL && len == 4 ? fdt32_to_cpu(*mtu) : 0;
        count += count < max ? add(tree, node, "ip", bytes, &addresses[count]) : 0;
        count += count < max ? add(tree, node, "ip6", bytes, &addresses[count]) : 0;
    }
    parent = fdt_path_offset(tree, "/subsystems");
    fdt_for_each_subnode(node, tree, parent)
    {
        count += count < max ? add(tree, node, "address", 0, &addresses[count]) : 0;
    }
    return count;
}
