/*
 * Two CMs against each other: set up and taken down a thousand times; histories out of seeds with
 * loss, delay, repetition, rejections and ids that are destroyed at any moment.
 */
#include "tests/unit/rdma_cm/pair.h"

#include <stdlib.h>

#define SEEDS 60

static struct pair pair;

static void thousand_connections_leave_nothing(void **state)
{
    (void)state;
    pair_init(&pair, 1);
    for (uint32_t i = 0; i < 1000; i++) {
        struct pair_end *end = pair_connect(&pair, i % 2);
        assert_non_null(end);
        pair_pass(&pair, 10 * NS_PER_MS);
        assert_true(end->was_established);
        assert_int_equal(pair.established[0], i + 1);
        assert_int_equal(pair.established[1], i + 1);
        assert_int_equal(rdma_cm_disconnect(end->id), STATUS_OK);
        pair_pass(&pair, 50 * NS_PER_MS);
        assert_int_equal(pair.disconnected, 2 * (i + 1));
        for (uint32_t side = 0; side < 2; side++) { /* the listener is what is left */
            const struct cm *cm = cm_of(&pair.sides[side].fake.device);
            assert_int_equal(cm->conn_pool.free_count, RIG_IDS - 1);
        }
    }
    assert_int_equal(RIG_STAT(&pair.sides[0], retransmits), 0);
    pair_end(&pair);
}

static void both_sides_disconnect_at_once(void **state)
{
    (void)state;
    pair_init(&pair, 2);
    pair.delay_max_ns = 2 * NS_PER_MS;
    for (uint32_t i = 0; i < 50; i++) {
        assert_non_null(pair_connect(&pair, 0));
        pair_pass(&pair, 20 * NS_PER_MS);
        for (uint32_t j = 0; j < PAIR_ENDS; j++) {
            if (pair.ends[j].id != NULL) {
                assert_int_equal(rdma_cm_disconnect(pair.ends[j].id), STATUS_OK);
            }
        }
        pair_pass(&pair, 100 * NS_PER_MS);
        assert_int_equal(pair.disconnected, 2 * (i + 1));
    }
    assert_int_equal(RIG_STAT(&pair.sides[0], timeouts), 0);
    assert_int_equal(RIG_STAT(&pair.sides[0], rx_wrong_peer), 0);
    pair_end(&pair);
}

/* Lossy, but nobody destroys or rejects: with nine tries each, every connection comes about. */
static void loss_is_overcome(void **state)
{
    (void)state;
    pair_init(&pair, 3);
    pair.loss = 150;
    pair.duplicates = 100;
    pair.delay_max_ns = 10 * NS_PER_MS;
    for (uint32_t i = 0; i < 100; i++) {
        struct pair_end *end = pair_connect(&pair, i % 2);
        assert_non_null(end);
        for (uint32_t t = 0; t < 200 && pair.established[1] < i + 1; t++) {
            pair_pass(&pair, 10 * NS_PER_MS);
        }
        assert_true(end->was_established);
        assert_int_equal(pair.established[0], i + 1);
        assert_int_equal(pair.established[1], i + 1);
        pair_destroy(end);
        for (uint32_t t = 0; t < 200 && pair.disconnected < i + 1; t++) {
            pair_pass(&pair, 10 * NS_PER_MS);
        }
        assert_int_equal(pair.disconnected, i + 1);
    }
    assert_true(RIG_STAT(&pair.sides[0], retransmits) > 10);
    assert_int_equal(pair.unreachable + pair.rejected, 0);
    pair_end(&pair);
}

/* One step of a history. */
static void act(void)
{
    struct pair_end *end = &pair.ends[pair_random(&pair, 24)];

    switch (pair_random(&pair, 12)) {
    case 0:
    case 1:
    case 2:
        (void)pair_connect(&pair, pair_random(&pair, 2));
        break;
    case 3:
        if (end->id != NULL) {
            (void)!rdma_cm_disconnect(end->id);
        }
        break;
    case 4:
        if (end->id != NULL && pair_random(&pair, 3) == 0) {
            pair_destroy(end);
        }
        break;
    case 5: /* the first packet of the peer */
        if (end->id != NULL && end->qp.qp.state == RDMA_QP_RTS) {
            rdma_cm_soft_comm_est(&end->rig->fake.device, &end->qp.qp);
        }
        break;
    default:
        pair_pass(&pair, pair_random(&pair, 40) * NS_PER_MS);
        break;
    }
}

static void history(uint32_t seed)
{
    pair_init(&pair, seed);
    pair.loss = pair_random(&pair, 4) * 100;
    pair.duplicates = pair_random(&pair, 3) * 100;
    pair.rejects = pair_random(&pair, 3) * 150;
    pair.surprises = pair_random(&pair, 3) * 50;
    pair.delay_max_ns = pair_random(&pair, 2) * 16 * NS_PER_MS;
    for (uint32_t i = 0; i < 600; i++) {
        act();
    }
    pair_end(&pair);
}

static void histories_of_any_seed_leave_nothing(void **state)
{
    (void)state;
    const char *only = getenv("SEED");
    uint32_t established = 0;
    uint32_t rejected = 0;

    for (uint32_t seed = 1; seed <= SEEDS; seed++) {
        if (only != NULL && (uint32_t)strtoul(only, NULL, 0) != seed) {
            continue;
        }
        print_message("seed %u\n", seed); /* SEED=n replays it alone */
        history(seed);
        established += pair.established[0];
        rejected += pair.rejected;
    }
    assert_true(only != NULL || (established > 1000 && rejected > 100));
    print_message("%u established, %u rejected\n", established, rejected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thousand_connections_leave_nothing),
        cmocka_unit_test(both_sides_disconnect_at_once),
        cmocka_unit_test(loss_is_overcome),
        cmocka_unit_test(histories_of_any_seed_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
