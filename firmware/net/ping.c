/*
 * One echo request at a time, on a path of its own: only the way is taken from it, its UDP headers
 * are not used.
 */
#include "net/net_priv.h"

#define IDENTIFIER UINT16_C(0x534e) /* one pinger per address: it tells ours from nobody else's */

static uint8_t pattern(uint32_t i)
{
    return (uint8_t)(i * 7 + 1);
}

static void finish(struct net_if *nif, bool answered)
{
    struct net_pinger *pinger = &nif->pinger;
    net_ping_fn *fn = pinger->fn;

    net_path_close(&pinger->path);
    timer_cancel(&pinger->timer);
    pinger->fn = NULL; /* so that the callback may ping anew */
    fn(pinger->ctx, answered, answered ? clock_now_ns() - pinger->sent_ns : 0);
}

static void timed_out(struct timer *timer)
{
    struct net_pinger *pinger = CONTAINER_OF(timer, struct net_pinger, timer);
    finish(CONTAINER_OF(pinger, struct net_if, pinger), false);
}

static void echo_fill(struct icmp_echo *echo, const struct net_pinger *pinger, bool is_ipv6)
{
    *echo = (struct icmp_echo){
        .type = is_ipv6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO_REQUEST,
        .identifier = be16_make(IDENTIFIER),
        .sequence = be16_make(pinger->sequence),
    };
    uint8_t *data = (uint8_t *)(echo + 1);
    for (uint32_t i = 0; i < pinger->len_bytes; i++) {
        data[i] = pattern(i);
    }
}

static void path_changed(struct net_path *path)
{
    struct net_pinger *pinger = CONTAINER_OF(path, struct net_pinger, path);
    struct net_if *nif = path->nif;

    if (path->state != NET_PATH_READY) {
        return; /* the time-out says so */
    }
    struct net_buf *buf =
        net_frame_begin(nif, path->head + 2, path->is_ipv6 ? ETH_TYPE_IPV6 : ETH_TYPE_IPV4);
    if (buf == NULL) {
        return;
    }
    uint8_t *l3 = net_frame_l3(buf);
    uint32_t ip_bytes = path->is_ipv6 ? sizeof(struct ipv6_header) : sizeof(struct ipv4_header);
    uint32_t icmp_bytes = (uint32_t)sizeof(struct icmp_echo) + pinger->len_bytes;
    struct icmp_echo *echo = (struct icmp_echo *)(l3 + ip_bytes);
    uint16_t sum = 0;

    echo_fill(echo, pinger, path->is_ipv6);
    if (path->is_ipv6) {
        net_ipv6_header(l3, &path->config.src, &path->config.dst, IP_PROTOCOL_ICMPV6, 0,
                        NET_HOP_LIMIT, icmp_bytes);
        sum = net_sum_pseudo(l3, true, IP_PROTOCOL_ICMPV6, icmp_bytes);
    } else {
        net_ipv4_header(l3, &path->config.src, &path->config.dst, IP_PROTOCOL_ICMP, 0,
                        NET_HOP_LIMIT, ip_bytes + icmp_bytes);
    }
    echo->checksum = be16_make((uint16_t)~net_sum_add(sum, net_sum(echo, icmp_bytes)));
    pinger->is_sent = true;
    pinger->sent_ns = clock_now_ns();
    net_frame_send(nif, buf, ip_bytes + icmp_bytes);
}

void net_ping_init(struct net_if *nif)
{
    timer_init(&nif->pinger.timer, timed_out);
}

enum status net_ping(struct net_if *nif, const struct net_addr *dst, uint32_t len_bytes,
                     uint32_t timeout_ms, net_ping_fn *fn, void *ctx)
{
    struct net_pinger *pinger = &nif->pinger;

    if (pinger->fn != NULL) {
        return STATUS_AGAIN;
    }
    if (len_bytes > NET_BUF_INLINE_BYTES - sizeof(struct icmp_echo)) {
        return STATUS_INVALID;
    }
    pinger->fn = fn;
    pinger->ctx = ctx;
    pinger->len_bytes = len_bytes;
    pinger->sequence++;
    pinger->is_sent = false;
    enum status status =
        net_path_open(nif, &pinger->path, &(struct net_path_config){.dst = *dst}, path_changed);
    if (status != STATUS_OK) {
        pinger->fn = NULL;
        return status;
    }
    timer_arm(&pinger->timer, sched_now_ns() + timeout_ms * NS_PER_MS);
    return STATUS_OK;
}

static bool is_pattern(const uint8_t *data, uint32_t len_bytes)
{
    for (uint32_t i = 0; i < len_bytes; i++) {
        if (data[i] != pattern(i)) {
            return false;
        }
    }
    return true;
}

void net_ping_answered(struct net_if *nif, const struct net_addr *src, const struct icmp_echo *echo,
                       const uint8_t *data, uint32_t data_bytes)
{
    const struct net_pinger *pinger = &nif->pinger;

    if (pinger->fn == NULL || !pinger->is_sent || data_bytes != pinger->len_bytes ||
        be16_get(echo->identifier) != IDENTIFIER || be16_get(echo->sequence) != pinger->sequence ||
        !net_addr_equal(src, &pinger->path.config.dst) || !is_pattern(data, data_bytes)) {
        NET_COUNT(nif, rx_not_ours);
        return;
    }
    finish(nif, true);
}
