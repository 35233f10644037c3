/*
 * Paths: headers made once, copied into each frame, their lengths filled in.
 */
#include "net/net_priv.h"

#define ETH_BYTES sizeof(struct eth_header)
#define UDP_BYTES sizeof(struct udp_header)

/* All but the neighbour's MAC. */
static void headers_make(struct net_path *path)
{
    static const uint8_t UNKNOWN[ETH_ADDR_BYTES];
    const struct net_path_config *config = &path->config;
    const struct net_if *nif = path->nif;
    uint8_t *eth = path->head + 2;
    uint8_t hops = config->hop_limit == 0 ? NET_HOP_LIMIT : config->hop_limit;

    memset(path->head, 0, sizeof(path->head));
    path->is_ipv6 = !net_addr_is_ipv4(&config->dst);
    path->sum = 0;
    path->l3_offset =
        (uint8_t)net_eth_header(nif, eth, UNKNOWN, path->is_ipv6 ? ETH_TYPE_IPV6 : ETH_TYPE_IPV4);
    uint8_t *l3 = eth + path->l3_offset;
    uint8_t *udp;
    if (path->is_ipv6) {
        net_ipv6_header(l3, &config->src, &config->dst, IP_PROTOCOL_UDP, config->traffic_class,
                        hops, 0);
        udp = l3 + sizeof(struct ipv6_header);
    } else {
        net_ipv4_header(l3, &config->src, &config->dst, IP_PROTOCOL_UDP, config->traffic_class,
                        hops, 0);
        path->sum = (uint16_t)~be16_get(((struct ipv4_header *)l3)->checksum);
        udp = l3 + sizeof(struct ipv4_header);
    }
    *(struct udp_header *)udp = (struct udp_header){
        .src_port = be16_make(config->src_port),
        .dst_port = be16_make(config->dst_port),
    };
    path->headers_bytes = (uint8_t)(udp + UDP_BYTES - eth);
}

COLD enum status net_path_open(struct net_if *nif, struct net_path *path,
                               const struct net_path_config *config, net_path_fn *changed)
{
    struct net_addr hop;

    path->nif = nif;
    path->changed = changed;
    path->config = *config;
    path->state = NET_PATH_CLOSED;
    list_init(&path->link);
    enum status status = net_route(nif, &config->dst, &path->config.src, &hop);
    if (status != STATUS_OK) {
        return status;
    }
    struct neighbor *neighbor = net_neighbor_get(nif, &hop);
    if (neighbor == NULL) {
        return STATUS_NO_SPACE;
    }
    headers_make(path);
    net_neighbor_attach(neighbor, path);
    return STATUS_OK;
}

void net_path_close(struct net_path *path)
{
    if (path->state != NET_PATH_CLOSED) {
        path->state = NET_PATH_CLOSED;
        list_remove(&path->link);
    }
}

uint32_t net_path_payload_max(const struct net_path *path)
{
    uint32_t ip_and_udp = path->headers_bytes - path->l3_offset;
    return path->nif->mtu_bytes - ip_and_udp;
}

/* Whole words, inline: both are laid out alike. */
ALWAYS_INLINE void headers_copy(uint8_t *to, const uint8_t *from)
{
    struct head {
        word64 words[8];
        word32 last;
    };
    _Static_assert(offsetof(struct head, last) + sizeof(word32) == 2 + NET_HEADERS_BYTES,
                   "the headers are not all copied");
    const struct head *f = (const struct head *)from;
    struct head *t = (struct head *)to;

    t->words[0] = f->words[0];
    t->words[1] = f->words[1];
    t->words[2] = f->words[2];
    t->words[3] = f->words[3];
    t->words[4] = f->words[4];
    t->words[5] = f->words[5];
    t->words[6] = f->words[6];
    t->words[7] = f->words[7];
    t->last = f->last;
}

uint8_t *net_path_begin(const struct net_path *path, struct net_buf *buf)
{
    uint32_t headers_bytes = path->headers_bytes;

    headers_copy(buf->head, path->head);
    buf->segs[0].bus_addr = (uint64_t)(uintptr_t)(buf->head + 2);
    buf->segs[0].len_bytes = headers_bytes;
    buf->seg_count = 1;
    buf->len_bytes = headers_bytes;
    buf->l3_offset = (uint16_t)(2 + path->l3_offset);
    return buf->head + 2 + headers_bytes;
}

void net_path_finish(const struct net_path *path, struct net_buf *buf)
{
    uint8_t *l3 = ASSUME_ALIGNED(buf->head + buf->l3_offset, 4);
    struct udp_header *udp = ASSUME_ALIGNED(buf->head + 2 + path->headers_bytes - UDP_BYTES, 4);
    uint32_t l3_bytes = buf->len_bytes - path->l3_offset;
    uint32_t udp_bytes = buf->len_bytes - path->headers_bytes + (uint32_t)UDP_BYTES;

    udp->len_bytes = be16_make((uint16_t)udp_bytes);
    if (path->is_ipv6) {
        ((struct ipv6_header *)l3)->payload_bytes = be16_make((uint16_t)udp_bytes);
        return;
    }
    struct ipv4_header *ip = (struct ipv4_header *)l3;
    ip->total_bytes = be16_make((uint16_t)l3_bytes);
    ip->checksum = be16_make((uint16_t)~net_sum_add(path->sum, (uint16_t)l3_bytes));
}
