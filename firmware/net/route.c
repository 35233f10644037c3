/*
 * Which of our addresses, and who is next: on the link if a prefix covers it, else the gateway.
 * RFC 1122 3.3.1, RFC 4861 5.2; of RFC 6724 only scope and longest prefix.
 */
#include "net/net_priv.h"

uint32_t net_if_addr_index(const struct net_if *nif, const struct net_addr *addr)
{
    for (uint32_t i = 0; i < nif->addr_count; i++) {
        if (net_addr_equal(&nif->addrs[i].addr, addr)) {
            return i;
        }
    }
    return NET_IF_ADDRS;
}

const struct net_if_addr *net_if_addr_covering(const struct net_if *nif, const struct net_addr *dst)
{
    const struct net_if_addr *best = NULL;
    for (uint32_t i = 0; i < nif->addr_count; i++) {
        const struct net_if_addr *own = &nif->addrs[i];
        if (net_addr_same_prefix(&own->addr, dst, own->prefix_bits) &&
            (best == NULL || own->prefix_bits > best->prefix_bits)) {
            best = own;
        }
    }
    return best;
}

/* The first one of a family, for the world beyond the link. */
static const struct net_if_addr *addr_of_family(const struct net_if *nif, bool is_ipv4)
{
    for (uint32_t i = 1; i < nif->addr_count; i++) { /* 0 is link-local */
        const struct net_addr *own = &nif->addrs[i].addr;
        if (net_addr_is_ipv4(own) == is_ipv4 && !net_addr_is_link_local6(own)) {
            return &nif->addrs[i];
        }
    }
    return NULL;
}

const struct net_addr *net_if_addr_asking(const struct net_if *nif, const struct net_addr *neighbor)
{
    const struct net_if_addr *own = net_if_addr_covering(nif, neighbor);
    if (own == NULL && net_addr_is_ipv4(neighbor)) {
        own = addr_of_family(nif, true);
        return own == NULL ? NULL : &own->addr;
    }
    return own == NULL ? &nif->addrs[0].addr : &own->addr;
}

/* RFC 922 7; /31 and /32 have none (RFC 3021). */
bool net_is_subnet_broadcast(const struct net_if_addr *own, const struct net_addr *dst)
{
    if (!net_addr_is_ipv4(dst) || own->prefix_bits >= 31) {
        return false;
    }
    struct be32 address;
    memcpy(&address, net_addr_4(dst), sizeof(address));
    uint32_t host_mask = UINT32_MAX >> own->prefix_bits;
    return (be32_get(address) & host_mask) == host_mask;
}

enum status net_route(const struct net_if *nif, const struct net_addr *dst, struct net_addr *src,
                      struct net_addr *hop)
{
    bool is_ipv4 = net_addr_is_ipv4(dst);
    const struct net_if_addr *own = net_if_addr_covering(nif, dst);

    if (!net_addr_is_host(dst) || net_if_addr_index(nif, dst) != NET_IF_ADDRS ||
        (own != NULL && net_is_subnet_broadcast(own, dst))) {
        return STATUS_NOT_FOUND;
    }
    *hop = *dst;
    if (own == NULL) {
        *hop = is_ipv4 ? nif->gateway4 : nif->gateway6;
        if (net_addr_is_zero(hop) || net_addr_is_link_local6(dst)) {
            return STATUS_NOT_FOUND;
        }
        own = net_if_addr_covering(nif, hop);
        if (own == NULL || net_addr_is_link_local6(&own->addr)) {
            own = addr_of_family(nif, is_ipv4);
        }
    }
    if (!net_addr_is_zero(src)) {
        bool is_ours = net_if_addr_index(nif, src) != NET_IF_ADDRS;
        return is_ours && net_addr_is_ipv4(src) == is_ipv4 ? STATUS_OK : STATUS_NOT_FOUND;
    }
    if (own == NULL) {
        return STATUS_NOT_FOUND;
    }
    *src = own->addr;
    return STATUS_OK;
}
