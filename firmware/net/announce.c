/*
 * Our addresses, told to the link when it comes up: a probe each (RFC 5227 2.1, RFC 4862 5.4), then
 * two announcements (RFC 5227 2.3, RFC 4861 7.2.6). They are configured, so they are used at once
 * and kept in a conflict, which is counted and logged; but who answered the probe is not pushed out
 * of his neighbours' caches by an announcement.
 */
#include "net/net_priv.h"

#define PROBE_WAIT_NS        NS_PER_S       /* RFC 4862 5.4.2: RetransTimer */
#define ANNOUNCE_INTERVAL_NS (2 * NS_PER_S) /* RFC 5227 1.1 */

enum announce_step {
    STEP_PROBE,
    STEP_FIRST,
    STEP_SECOND,
    STEP_DONE
};

static void probe(struct net_if *nif, const struct net_addr *addr)
{
    static const struct net_addr UNSPECIFIED;
    if (net_addr_is_ipv4(addr)) {
        net_arp_request(nif, &UNSPECIFIED, addr, NULL);
    } else {
        net_nd_solicit(nif, &UNSPECIFIED, addr, NULL);
    }
}

static void announce(struct net_if *nif, const struct net_addr *addr)
{
    if (net_addr_is_ipv4(addr)) {
        net_arp_request(nif, addr, addr, NULL);
    } else {
        net_nd_announce(nif, addr);
    }
}

static void step(struct timer *timer)
{
    struct net_if *nif = CONTAINER_OF(timer, struct net_if, announce_timer);

    for (uint32_t i = 0; i < nif->addr_count; i++) {
        if (nif->announce_step == STEP_PROBE) {
            probe(nif, &nif->addrs[i].addr);
        } else if ((nif->conflict_mask & BIT32(i)) == 0) {
            announce(nif, &nif->addrs[i].addr);
        }
    }
    uint64_t wait_ns = nif->announce_step == STEP_PROBE ? PROBE_WAIT_NS : ANNOUNCE_INTERVAL_NS;
    nif->announce_step++;
    if (nif->announce_step != STEP_DONE) {
        timer_arm(timer, sched_now_ns() + wait_ns);
    }
}

void net_announce_init(struct net_if *nif)
{
    timer_init(&nif->announce_timer, step);
}

void net_announce(struct net_if *nif)
{
    nif->announce_step = STEP_PROBE;
    nif->conflict_mask = 0;
    step(&nif->announce_timer);
}

void net_conflict(struct net_if *nif, uint32_t index, const uint8_t *mac)
{
    char text[NET_ADDR_TEXT_BYTES];

    net_addr_text(&nif->addrs[index].addr, text);
    nif->conflict_mask |= BIT32(index);
    NET_COUNT(nif, addr_conflicts);
    LOG_LIMITED(WARN, "net: %02x:%02x:%02x:%02x:%02x:%02x claims our address %s", mac[0], mac[1],
                mac[2], mac[3], mac[4], mac[5], text);
}
