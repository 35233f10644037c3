/* The neighbour cache under the standing clock: asking, silence, change, eviction, floods. */
#include "net/rig.h"

static const uint8_t OTHER_MAC[6] = {0x02, 0x99, 0x99, 0x99, 0x99, 0x01};

static struct told_path paths[10];

static struct net_addr host4(uint8_t last)
{
    return net_addr_ipv4(192, 0, 2, last);
}

/* The destination of the next frame at the peer is all stations or a group; fails without one. */
static bool taken_is_for_all(void)
{
    struct frame frame;
    assert_true(frame_take(&frame));
    return (frame.bytes[0] & 1) != 0;
}

static void resolving_asks_three_times_then_fails(void **state)
{
    (void)state;
    struct net_addr dsts[2] = {host4(9), addr("2001:db8::9")};
    for (uint32_t i = 0; i < 2; i++) {
        struct told_path told;
        uint64_t asked = STAT(arp_requests);
        assert_int_equal(path_open(&told, &dsts[i]), STATUS_OK);
        assert_int_equal(told.path.state, NET_PATH_RESOLVING);
        for (uint32_t try = 1; try <= 3; try++) {
            assert_int_equal(STAT(arp_requests), asked + try);
            assert_true(taken_is_for_all());
            assert_int_equal(peer_drain(), 0);
            rig_advance(990 * NS_PER_MS);
            assert_int_equal(told.path.state, NET_PATH_RESOLVING);
            rig_advance(11 * NS_PER_MS);
        }
        assert_int_equal(told.path.state, NET_PATH_FAILED);
        assert_int_equal(told.failed_count, 1);
        assert_int_equal(told.ready_count, 0);
        assert_int_equal(STAT(neighbor_failures), i + 1);
        assert_int_equal(peer_drain(), 0);
        /* An answer that is late changes nothing. */
        if (i == 0) {
            peer_says_arp(&dsts[i], rig.peer_mac);
        } else {
            peer_says_nd(&dsts[i], rig.peer_mac);
        }
        assert_int_equal(told.path.state, NET_PATH_FAILED);
        net_path_close(&told.path);
    }
}

static void failed_neighbour_is_asked_anew_by_a_new_path(void **state)
{
    (void)state;
    struct told_path told;
    assert_int_equal(path_open(&told, &rig.peer4), STATUS_OK);
    rig_advance(4 * NS_PER_S);
    assert_int_equal(told.path.state, NET_PATH_FAILED);
    net_path_close(&told.path);
    peer_drain();
    path_open_ready(&told, &rig.peer4);
    net_path_close(&told.path);
}

static void answer_to_the_third_request_is_in_time(void **state)
{
    (void)state;
    struct told_path told;
    assert_int_equal(path_open(&told, &rig.peer4), STATUS_OK);
    rig_advance(2900 * NS_PER_MS);
    peer_says_arp(&rig.peer4, rig.peer_mac);
    assert_int_equal(told.path.state, NET_PATH_READY);
    assert_int_equal(told.ready_count, 1);
    rig_advance(5 * NS_PER_S);
    assert_int_equal(told.failed_count, 0);
    net_path_close(&told.path);
}

static void paths_of_one_neighbour_become_ready_together(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(path_open(&paths[i], &rig.peer4), STATUS_OK);
    }
    assert_int_equal(peer_drain(), 1); /* asked once */
    peer_says_arp(&rig.peer4, rig.peer_mac);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(paths[i].path.state, NET_PATH_READY);
        assert_memory_equal(paths[i].path.head + 2, rig.peer_mac, 6);
    }
    assert_int_equal(path_open(&paths[5], &rig.peer4), STATUS_OK);
    assert_int_equal(paths[5].path.state, NET_PATH_READY); /* at once */
    assert_int_equal(paths[5].ready_count, 1);
    assert_int_equal(peer_drain(), 0);
    for (uint32_t i = 0; i < 6; i++) {
        net_path_close(&paths[i].path);
        net_path_close(&paths[i].path); /* harmless */
    }
}

/* RFC 826: any ARP packet of a neighbour says where it is, also one that asks us. */
static void request_of_the_neighbour_resolves_it(void **state)
{
    (void)state;
    struct told_path told;
    struct frame frame;
    assert_int_equal(path_open(&told, &rig.peer4), STATUS_OK);
    frame_arp(&frame, ARP_REQUEST, rig.peer_mac, &rig.peer4, &rig.addr4);
    frame_inject(&frame);
    assert_int_equal(told.path.state, NET_PATH_READY);
    net_path_close(&told.path);
}

/* --- READY ------------------------------------------------------------------------------------ */

static void ready_is_probed_by_unicast_every_30_seconds(void **state)
{
    (void)state;
    path_open_ready(&paths[0], &rig.peer4);
    path_open_ready(&paths[1], &rig.peer6);
    for (uint32_t round = 0; round < 3; round++) {
        rig_advance(29900 * NS_PER_MS);
        assert_int_equal(peer_drain(), 0);
        rig_advance(200 * NS_PER_MS);
        assert_false(taken_is_for_all());
        assert_false(taken_is_for_all());
        assert_int_equal(peer_drain(), 0);
        peer_says_arp(&rig.peer4, rig.peer_mac);
        peer_says_nd(&rig.peer6, NULL); /* the link address may be left out: RFC 4861 4.4 */
    }
    net_path_close(&paths[0].path);
    net_path_close(&paths[1].path);
    assert_int_equal(STAT(neighbor_failures), 0);
}

static void ready_stays_so_when_the_neighbour_falls_silent(void **state)
{
    (void)state;
    path_open_ready(&paths[0], &rig.peer4);
    rig_advance(30100 * NS_PER_MS);
    assert_false(taken_is_for_all());
    for (uint32_t i = 0; i < 2; i++) {
        rig_advance(NS_PER_S);
        assert_false(taken_is_for_all());
    }
    /* Then it may have got another MAC: everybody is asked. */
    for (uint32_t i = 0; i < 3; i++) {
        rig_advance(NS_PER_S);
        assert_true(taken_is_for_all());
    }
    assert_int_equal(STAT(neighbor_failures), 1);
    rig_advance(NS_PER_S);
    assert_int_equal(peer_drain(), 1);
    /* From then on every 30 s, for ever. */
    for (uint32_t i = 0; i < 20; i++) {
        rig_advance(30100 * NS_PER_MS);
        assert_int_equal(peer_drain(), 1);
    }
    assert_int_equal(paths[0].path.state, NET_PATH_READY);
    assert_memory_equal(paths[0].path.head + 2, rig.peer_mac, 6);
    assert_int_equal(paths[0].ready_count, 1);
    assert_int_equal(STAT(neighbor_failures), 1);
    /* It comes back, with another address. */
    peer_says_arp(&rig.peer4, OTHER_MAC);
    assert_memory_equal(paths[0].path.head + 2, OTHER_MAC, 6);
    rig_advance(29 * NS_PER_S);
    assert_true(peer_drain() <= 1); /* the timer of the silent time runs out */
    net_path_close(&paths[0].path);
}

static void unused_neighbour_is_not_probed(void **state)
{
    (void)state;
    path_open_ready(&paths[0], &rig.peer4);
    net_path_close(&paths[0].path);
    rig_advance(50 * NS_PER_S);
    assert_int_equal(peer_drain(), 0);
    /* Still believed; used again, so it is probed: it was not heard for 50 s. */
    assert_int_equal(path_open(&paths[0], &rig.peer4), STATUS_OK);
    assert_int_equal(paths[0].path.state, NET_PATH_READY);
    assert_false(taken_is_for_all());
    net_path_close(&paths[0].path);
    /* After a minute it is not. */
    rig_advance(60 * NS_PER_S);
    peer_drain();
    assert_int_equal(path_open(&paths[0], &rig.peer4), STATUS_OK);
    assert_int_equal(paths[0].path.state, NET_PATH_RESOLVING);
    assert_true(taken_is_for_all());
    net_path_close(&paths[0].path);
}

static void gratuitous_arp_updates_every_path(void **state)
{
    (void)state;
    struct frame frame;
    path_open_ready(&paths[0], &rig.peer4);
    for (uint32_t i = 1; i < 5; i++) {
        assert_int_equal(path_open(&paths[i], &rig.peer4), STATUS_OK);
    }
    frame_arp(&frame, ARP_REQUEST, OTHER_MAC, &rig.peer4, &rig.peer4);
    frame_inject(&frame);
    for (uint32_t i = 0; i < 5; i++) {
        assert_memory_equal(paths[i].path.head + 2, OTHER_MAC, 6);
        assert_int_equal(paths[i].path.state, NET_PATH_READY);
        assert_int_equal(paths[i].ready_count, 1);
    }
    assert_int_equal(STAT(neighbor_changes), 1);
    frame_inject(&frame); /* the same again is no change */
    assert_int_equal(STAT(neighbor_changes), 1);
    for (uint32_t i = 0; i < 5; i++) {
        net_path_close(&paths[i].path);
    }
}

/* --- the cache is full ------------------------------------------------------------------------ */

static void cache_full_of_paths_says_no_space(void **state)
{
    (void)state;
    for (uint8_t i = 0; i < 8; i++) {
        struct net_addr dst = host4(10 + i);
        assert_int_equal(path_open(&paths[i], &dst), STATUS_OK);
    }
    struct net_addr ninth = host4(20);
    assert_int_equal(path_open(&paths[8], &ninth), STATUS_NO_SPACE);
    assert_int_equal(paths[8].path.state, NET_PATH_CLOSED);
    net_path_close(&paths[8].path);
    net_path_close(&paths[3].path);
    assert_int_equal(path_open(&paths[8], &ninth), STATUS_OK); /* instead of the one unused */
    for (uint8_t i = 0; i < 9; i++) {
        net_path_close(&paths[i].path);
    }
}

static void eviction_takes_the_unused_heard_longest_ago(void **state)
{
    (void)state;
    for (uint8_t i = 0; i < 8; i++) {
        struct net_addr dst = host4(10 + i);
        path_open_ready(&paths[i], &dst);
        rig_advance(NS_PER_MS);
    }
    net_path_close(&paths[2].path);
    net_path_close(&paths[4].path);
    net_path_close(&paths[6].path);
    struct net_addr dst = host4(12);
    peer_says_arp(&dst, rig.peer_mac); /* heard again */
    dst = host4(16);
    peer_says_arp(&dst, rig.peer_mac);
    struct net_addr ninth = host4(20);
    assert_int_equal(path_open(&paths[8], &ninth), STATUS_OK);
    dst = host4(12);
    assert_int_equal(path_open(&paths[2], &dst), STATUS_OK);
    assert_int_equal(paths[2].path.state, NET_PATH_READY); /* was kept */
    dst = host4(16);
    assert_int_equal(path_open(&paths[6], &dst), STATUS_OK);
    assert_int_equal(paths[6].path.state, NET_PATH_READY);
    dst = host4(14);
    assert_int_equal(path_open(&paths[4], &dst), STATUS_NO_SPACE);
    for (uint8_t i = 0; i < 9; i++) {
        net_path_close(&paths[i].path);
    }
}

static void count_visit(const struct net_neighbor_info *info, void *ctx)
{
    (void)info;
    (*(uint32_t *)ctx)++;
}

static uint32_t entry_count(void)
{
    uint32_t count = 0;
    net_neighbors_visit(rig.nif, count_visit, &count);
    return count;
}

/* Packets make no entries and evict none, whatever they say. */
static void flood_makes_and_evicts_nothing(void **state)
{
    (void)state;
    struct frame frame;
    struct net_addr group = addr("ff02::1:ff00:1");
    for (uint8_t i = 0; i < 6; i++) {
        struct net_addr dst = host4(10 + i);
        path_open_ready(&paths[i], &dst);
    }
    path_open_ready(&paths[6], &rig.peer6);
    net_path_close(&paths[5].path); /* unused, and stays all the same */
    assert_int_equal(entry_count(), 7);
    for (uint32_t i = 0; i < 3000; i++) {
        struct net_addr src4 = net_addr_ipv4(192, 0, (uint8_t)(3 + i / 250), (uint8_t)i);
        struct net_addr src6 = addr("2001:db8::f:0");
        uint8_t mac[6] = {0x06, 0, 0, 0, (uint8_t)(i >> 8), (uint8_t)i};
        src6.bytes[14] = (uint8_t)(i >> 8);
        src6.bytes[15] = (uint8_t)i;
        switch (i % 5) {
        case 0:
            frame_arp(&frame, ARP_REQUEST, mac, &src4, &rig.addr4);
            break;
        case 1:
            frame_arp(&frame, ARP_REPLY, mac, &src4, &rig.addr4);
            break;
        case 2:
            frame_arp(&frame, ARP_REQUEST, mac, &src4, &src4);
            break;
        case 3:
            frame_nd(&frame, ICMPV6_NEIGHBOR_SOLICITATION, &src6, &group, &rig.addr6, 0, mac);
            break;
        default:
            frame_nd(&frame, ICMPV6_NEIGHBOR_ADVERTISEMENT, &src6, &net_all_nodes, &src6, 0x20,
                     mac);
            break;
        }
        frame_inject(&frame);
        assert_true(peer_drain() <= 1);
    }
    assert_int_equal(entry_count(), 7);
    for (uint8_t i = 0; i < 7; i++) {
        if (i != 5) {
            assert_int_equal(paths[i].path.state, NET_PATH_READY);
            assert_memory_equal(paths[i].path.head + 2, rig.peer_mac, 6);
            net_path_close(&paths[i].path);
        }
    }
    struct net_addr dst = host4(15);
    assert_int_equal(path_open(&paths[5], &dst), STATUS_OK);
    assert_int_equal(paths[5].path.state, NET_PATH_READY);
    net_path_close(&paths[5].path);
}

/* --- callbacks that do things ----------------------------------------------------------------- */

static struct net_path ring[4];
static uint32_t told_count;

/* Whoever is told first closes all the others, and opens one to somebody else. */
static void close_the_others(struct net_path *path)
{
    told_count++;
    for (uint32_t i = 0; i < 3; i++) {
        if (&ring[i] != path) {
            net_path_close(&ring[i]);
        }
    }
    struct net_path_config config = {.dst = host4(99)};
    assert_int_equal(net_path_open(rig.nif, &ring[3], &config, NULL), STATUS_OK);
    net_path_close(path);
}

static void open_ring(void)
{
    struct net_path_config config = {.dst = rig.peer4};
    told_count = 0;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(net_path_open(rig.nif, &ring[i], &config, close_the_others), STATUS_OK);
    }
}

static void callback_may_close_and_open_when_ready(void **state)
{
    (void)state;
    open_ring();
    peer_says_arp(&rig.peer4, rig.peer_mac);
    assert_int_equal(told_count, 1);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(ring[i].state, NET_PATH_CLOSED);
    }
    assert_int_equal(ring[3].state, NET_PATH_RESOLVING);
    net_path_close(&ring[3]);
}

static void callback_may_close_and_open_when_failed(void **state)
{
    (void)state;
    open_ring();
    rig_advance(3100 * NS_PER_MS);
    assert_int_equal(told_count, 1);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(ring[i].state, NET_PATH_CLOSED);
    }
    net_path_close(&ring[3]);
}

/* A whole cache of others may be opened while the paths of one are being told: it must not be taken
 * for unused meanwhile. */
static void open_eight(struct net_path *path)
{
    told_count++;
    net_path_close(path);
    uint32_t ok_count = 0;
    for (uint8_t i = 0; i < 8; i++) {
        struct net_addr dst = host4(30 + i);
        ok_count += path_open(&paths[i], &dst) == STATUS_OK;
    }
    assert_int_equal(ok_count, 7);
}

static void callback_cannot_evict_the_neighbour_that_is_told(void **state)
{
    (void)state;
    struct net_path_config config = {.dst = rig.peer4};
    told_count = 0;
    assert_int_equal(net_path_open(rig.nif, &ring[0], &config, open_eight), STATUS_OK);
    assert_int_equal(net_path_open(rig.nif, &ring[1], &config, NULL), STATUS_OK);
    net_neighbor_learn(rig.nif, &rig.peer4, rig.peer_mac, true);
    assert_int_equal(told_count, 1);
    assert_int_equal(ring[1].state, NET_PATH_READY);
    assert_memory_equal(ring[1].head + 2, rig.peer_mac, 6);
    net_path_close(&ring[1]);
    for (uint8_t i = 0; i < 8; i++) {
        net_path_close(&paths[i].path);
    }
}

static void retry_in_the_callback(struct net_path *path)
{
    told_count++;
    if (path->state == NET_PATH_FAILED && told_count < 3) {
        struct net_path_config config = {.dst = rig.peer4};
        net_path_close(path);
        assert_int_equal(net_path_open(rig.nif, path, &config, retry_in_the_callback), STATUS_OK);
    }
}

static void callback_may_open_the_failed_path_anew(void **state)
{
    (void)state;
    struct net_path_config config = {.dst = rig.peer4};
    told_count = 0;
    assert_int_equal(net_path_open(rig.nif, &ring[0], &config, retry_in_the_callback), STATUS_OK);
    rig_advance(3100 * NS_PER_MS);
    assert_int_equal(told_count, 1);
    assert_int_equal(ring[0].state, NET_PATH_RESOLVING);
    rig_advance(7 * NS_PER_S);
    assert_int_equal(told_count, 3);
    assert_int_equal(ring[0].state, NET_PATH_FAILED);
    net_path_close(&ring[0]);
}

/* --- report ----------------------------------------------------------------------------------- */

static void keep_info(const struct net_neighbor_info *info, void *ctx)
{
    *(struct net_neighbor_info *)ctx = *info;
}

static void visit_tells_what_is_known(void **state)
{
    (void)state;
    struct net_neighbor_info info;
    assert_int_equal(path_open(&paths[0], &rig.peer4), STATUS_OK);
    net_neighbors_visit(rig.nif, keep_info, &info);
    assert_false(info.is_known);
    assert_int_equal(info.path_count, 1);
    assert_int_equal(path_open(&paths[1], &rig.peer4), STATUS_OK);
    peer_says_arp(&rig.peer4, rig.peer_mac);
    rig_advance(1500 * NS_PER_MS);
    net_neighbors_visit(rig.nif, keep_info, &info);
    assert_true(info.is_known);
    assert_true(net_addr_equal(&info.addr, &rig.peer4));
    assert_memory_equal(info.mac, rig.peer_mac, 6);
    assert_int_equal(info.path_count, 2);
    assert_int_equal(info.age_ms, 1500);
    net_path_close(&paths[0].path);
    net_path_close(&paths[1].path);
}

#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(resolving_asks_three_times_then_fails),
        T(failed_neighbour_is_asked_anew_by_a_new_path),
        T(answer_to_the_third_request_is_in_time),
        T(paths_of_one_neighbour_become_ready_together),
        T(request_of_the_neighbour_resolves_it),
        T(ready_is_probed_by_unicast_every_30_seconds),
        T(ready_stays_so_when_the_neighbour_falls_silent),
        T(unused_neighbour_is_not_probed),
        T(gratuitous_arp_updates_every_path),
        T(cache_full_of_paths_says_no_space),
        T(eviction_takes_the_unused_heard_longest_ago),
        T(flood_makes_and_evicts_nothing),
        T(callback_may_close_and_open_when_ready),
        T(callback_may_close_and_open_when_failed),
        T(callback_cannot_evict_the_neighbour_that_is_told),
        T(callback_may_open_the_failed_path_anew),
        T(visit_tells_what_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
