/*
 * The neighbour cache: who on the link has which MAC. Entries are made for paths alone, and for no
 * packet: a flood of ARP or solicitations changes nothing but what it says of those already here.
 *
 * Of RFC 4861 7.3 the states are drawn together: READY asks by itself while it is used, and keeps
 * the address when nobody answers, since who uses a path notices before we do.
 */
#include "net/net_priv.h"

#define ASK_INTERVAL_NS NS_PER_S        /* RFC 4861 10: RetransTimer */
#define ASK_COUNT       3               /* MAX_MULTICAST_SOLICIT and MAX_UNICAST_SOLICIT */
#define PROBE_NS        (30 * NS_PER_S) /* ReachableTime */
#define STALE_NS        (60 * NS_PER_S) /* unused for so long: not believed when used again */

static uint32_t bucket_of(const struct net_addr *addr)
{
    uint32_t hash = 0;
    for (uint32_t i = 12; i < sizeof(addr->bytes); i++) {
        hash = hash * 31 + addr->bytes[i];
    }
    return hash % NEIGHBOR_BUCKETS;
}

static struct neighbor *find(struct net_if *nif, const struct net_addr *addr)
{
    uint16_t index = nif->buckets[bucket_of(addr)];
    while (index != NEIGHBOR_NONE) {
        struct neighbor *neighbor = &nif->neighbors[index];
        if (net_addr_equal(&neighbor->addr, addr)) {
            return neighbor;
        }
        index = neighbor->next;
    }
    return NULL;
}

/* --- entries come and go ---------------------------------------------------------------------- */

static void bucket_remove(struct neighbor *neighbor)
{
    struct net_if *nif = neighbor->nif;
    uint16_t index = (uint16_t)(neighbor - nif->neighbors);
    uint16_t *at = &nif->buckets[bucket_of(&neighbor->addr)];

    while (*at != index) {
        at = &nif->neighbors[*at].next;
    }
    *at = neighbor->next;
}

static void entry_free(struct neighbor *neighbor)
{
    bucket_remove(neighbor);
    timer_cancel(&neighbor->timer);
    neighbor->state = NEIGHBOR_FREE;
}

static bool is_evictable(const struct neighbor *neighbor)
{
    return list_is_empty(&neighbor->paths) && !neighbor->is_pinned;
}

/* A free entry, or the one without paths that was heard longest ago; NULL: all have paths. */
static struct neighbor *entry_take(struct net_if *nif)
{
    struct neighbor *oldest = NULL;

    for (uint32_t i = 0; i < nif->neighbor_count; i++) {
        struct neighbor *neighbor = &nif->neighbors[i];
        if (neighbor->state == NEIGHBOR_FREE) {
            return neighbor;
        }
        if (is_evictable(neighbor) && (oldest == NULL || neighbor->heard_ns < oldest->heard_ns)) {
            oldest = neighbor;
        }
    }
    if (oldest != NULL) {
        entry_free(oldest);
    }
    return oldest;
}

/* --- asking ----------------------------------------------------------------------------------- */

/* `mac`: of whom alone; NULL: everybody. */
static void ask(struct neighbor *neighbor, const uint8_t *mac)
{
    struct net_if *nif = neighbor->nif;
    const struct net_addr *src = net_if_addr_asking(nif, &neighbor->addr);

    neighbor->asked++;
    if (src == NULL) {
        return; /* no path can be there: it would have no address of that family */
    }
    if (net_addr_is_ipv4(&neighbor->addr)) {
        net_arp_request(nif, src, &neighbor->addr, mac);
    } else {
        net_nd_solicit(nif, src, &neighbor->addr, mac);
    }
}

static void resolve(struct neighbor *neighbor)
{
    neighbor->state = NEIGHBOR_RESOLVING;
    neighbor->asked = 0;
    ask(neighbor, NULL);
    timer_arm(&neighbor->timer, sched_now_ns() + ASK_INTERVAL_NS);
}

static void paths_move(struct list *to, struct list *from)
{
    struct list *node;
    list_init(to);
    while ((node = list_pop_front(from)) != NULL) {
        list_push_back(to, node);
    }
}

static void path_tell(struct net_path *path, enum net_path_state state)
{
    path->state = (uint8_t)state;
    if (path->changed != NULL) {
        path->changed(path);
    }
}

/* The entry is free before anyone is told: whoever asks again starts anew. Callbacks may close
 * paths, so each is taken out before it is told. */
static void fail(struct neighbor *neighbor)
{
    struct list paths;
    struct list *node;

    if (!list_is_empty(&neighbor->paths)) {
        char text[NET_ADDR_TEXT_BYTES];
        net_addr_text(&neighbor->addr, text);
        NET_COUNT(neighbor->nif, neighbor_failures);
        LOG_LIMITED(WARN, "net: %s does not answer", text);
    }
    paths_move(&paths, &neighbor->paths);
    entry_free(neighbor);
    while ((node = list_pop_front(&paths)) != NULL) {
        path_tell(LIST_ENTRY(node, struct net_path, link), NET_PATH_FAILED);
    }
}

/* Unicast first, as RFC 4861 7.3.3 does; then everybody, for a neighbour whose MAC has changed. Who
 * stays silent is asked at the long interval from then on. */
static void probe(struct neighbor *neighbor)
{
    bool is_lost = neighbor->asked >= 2 * ASK_COUNT;

    if (neighbor->asked == ASK_COUNT) {
        NET_COUNT(neighbor->nif, neighbor_failures);
    }
    uint8_t asked = neighbor->asked;
    ask(neighbor, asked < ASK_COUNT ? neighbor->mac : NULL);
    if (is_lost) {
        neighbor->asked = asked; /* does not wrap */
    }
    timer_arm(&neighbor->timer, sched_now_ns() + (is_lost ? PROBE_NS : ASK_INTERVAL_NS));
}

static void timer_fired(struct timer *timer)
{
    struct neighbor *neighbor = CONTAINER_OF(timer, struct neighbor, timer);

    if (neighbor->state == NEIGHBOR_RESOLVING) {
        if (neighbor->asked == ASK_COUNT || list_is_empty(&neighbor->paths)) {
            fail(neighbor);
        } else {
            ask(neighbor, NULL);
            timer_arm(timer, sched_now_ns() + ASK_INTERVAL_NS);
        }
        return;
    }
    if (list_is_empty(&neighbor->paths)) {
        return; /* unused: net_neighbor_attach() starts it again */
    }
    uint64_t due_ns = neighbor->heard_ns + PROBE_NS;
    if (neighbor->asked == 0 && sched_now_ns() < due_ns) {
        timer_arm(timer, due_ns);
    } else {
        probe(neighbor);
    }
}

/* --- hearing ---------------------------------------------------------------------------------- */

static void mac_set(struct neighbor *neighbor, const uint8_t *mac)
{
    memcpy(neighbor->mac, mac, sizeof(neighbor->mac));
    LIST_FOR_EACH(node, temp, &neighbor->paths)
    {
        struct net_path *path = LIST_ENTRY(node, struct net_path, link);
        memcpy(path->head + 2, mac, ETH_ADDR_BYTES);
    }
}

static void heard(struct neighbor *neighbor)
{
    neighbor->heard_ns = sched_now_ns();
    neighbor->asked = 0;
}

/* As in fail(); the entry has no paths for a while, but must stay. */
static void become_ready(struct neighbor *neighbor)
{
    struct list paths;
    struct list *node;

    neighbor->state = NEIGHBOR_READY;
    timer_arm(&neighbor->timer, neighbor->heard_ns + PROBE_NS);
    neighbor->is_pinned = true;
    paths_move(&paths, &neighbor->paths);
    while ((node = list_pop_front(&paths)) != NULL) {
        list_push_back(&neighbor->paths, node);
        path_tell(LIST_ENTRY(node, struct net_path, link), NET_PATH_READY);
    }
    neighbor->is_pinned = false;
}

void net_neighbor_learn(struct net_if *nif, const struct net_addr *addr, const uint8_t *mac,
                        bool is_override)
{
    struct neighbor *neighbor = find(nif, addr);
    if (neighbor == NULL) {
        return;
    }
    if (neighbor->state == NEIGHBOR_RESOLVING) {
        mac_set(neighbor, mac);
        heard(neighbor);
        become_ready(neighbor);
        return;
    }
    if (!net_mac_equal(neighbor->mac, mac)) {
        if (!is_override) {
            return;
        }
        NET_COUNT(nif, neighbor_changes);
        mac_set(neighbor, mac);
    }
    heard(neighbor);
}

void net_neighbor_confirm(struct net_if *nif, const struct net_addr *addr)
{
    struct neighbor *neighbor = find(nif, addr);
    if (neighbor != NULL && neighbor->state == NEIGHBOR_READY) {
        heard(neighbor);
    }
}

/* --- paths ------------------------------------------------------------------------------------ */

struct neighbor *net_neighbor_get(struct net_if *nif, const struct net_addr *addr)
{
    struct neighbor *neighbor = find(nif, addr);
    if (neighbor == NULL) {
        neighbor = entry_take(nif);
        if (neighbor == NULL) {
            return NULL;
        }
        uint16_t *bucket = &nif->buckets[bucket_of(addr)];
        neighbor->addr = *addr;
        neighbor->next = *bucket;
        neighbor->heard_ns = sched_now_ns();
        *bucket = (uint16_t)(neighbor - nif->neighbors);
        resolve(neighbor);
    } else if (neighbor->state == NEIGHBOR_READY && is_evictable(neighbor) &&
               sched_now_ns() - neighbor->heard_ns >= STALE_NS) {
        resolve(neighbor);
    }
    return neighbor;
}

void net_neighbor_attach(struct neighbor *neighbor, struct net_path *path)
{
    list_push_back(&neighbor->paths, &path->link);
    path->state = NET_PATH_RESOLVING;
    if (neighbor->state != NEIGHBOR_READY) {
        return;
    }
    memcpy(path->head + 2, neighbor->mac, ETH_ADDR_BYTES);
    if (!timer_is_armed(&neighbor->timer)) {
        timer_arm(&neighbor->timer, neighbor->heard_ns + PROBE_NS);
    }
    path_tell(path, NET_PATH_READY);
}

/* --- the cache -------------------------------------------------------------------------------- */

void net_neighbors_init(struct net_if *nif)
{
    for (uint32_t i = 0; i < NEIGHBOR_BUCKETS; i++) {
        nif->buckets[i] = NEIGHBOR_NONE;
    }
    for (uint32_t i = 0; i < nif->neighbor_count; i++) {
        struct neighbor *neighbor = &nif->neighbors[i];
        memset(neighbor, 0, sizeof(*neighbor));
        neighbor->nif = nif;
        list_init(&neighbor->paths);
        timer_init(&neighbor->timer, timer_fired);
    }
}

bool net_neighbors_are_idle(const struct net_if *nif)
{
    for (uint32_t i = 0; i < nif->neighbor_count; i++) {
        if (!list_is_empty(&nif->neighbors[i].paths)) {
            return false;
        }
    }
    return true;
}

static uint32_t path_count(const struct neighbor *neighbor)
{
    uint32_t count = 0;
    for (const struct list *node = neighbor->paths.next; node != &neighbor->paths;
         node = node->next) {
        count++;
    }
    return count;
}

void net_neighbors_visit(const struct net_if *nif,
                         void (*visit)(const struct net_neighbor_info *info, void *ctx), void *ctx)
{
    for (uint32_t i = 0; i < nif->neighbor_count; i++) {
        const struct neighbor *neighbor = &nif->neighbors[i];
        if (neighbor->state == NEIGHBOR_FREE) {
            continue;
        }
        struct net_neighbor_info info = {
            .addr = neighbor->addr,
            .is_known = neighbor->state == NEIGHBOR_READY,
            .path_count = path_count(neighbor),
            .age_ms = (sched_now_ns() - neighbor->heard_ns) / NS_PER_MS,
        };
        if (info.is_known) {
            memcpy(info.mac, neighbor->mac, sizeof(info.mac));
        }
        visit(&info, ctx);
    }
}
