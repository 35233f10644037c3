/* What a host sees of a volume, and paths that do not fit. */
#include "tests/unit/vol/rig.h"

static struct blk_geometry *path_geometry(uint32_t path)
{
    return &rig.models[path].dev.geometry;
}

static void first_known_path_gives_the_geometry(void **state)
{
    (void)state;
    path_geometry(0)->known = false;
    path_geometry(1)->known = false;
    rig_make(2);
    assert_false(rig.dev->geometry.known);
    assert_int_equal(rig_info().paths[0].state, VOL_PATH_UNKNOWN);
    path_geometry(1)->known = true;
    path_geometry(1)->lba_count = 77;
    rig_change(1);
    assert_true(rig.dev->geometry.known);
    assert_int_equal(rig.dev->geometry.lba_count, 77);
    assert_int_equal(rig.dev->geometry.nguid[0], 7);
    assert_int_equal(rig.changed_count, 1);
    path_geometry(0)->known = true;
    rig_change(0);
    assert_int_equal(rig_info().paths[0].state, VOL_PATH_WRONG_SIZE);
    assert_int_equal(rig.changed_count, 1);
    rig_submit(NVME_IO_READ, 0, 1);
    rig_finish(1);
}

static void geometry_stays_when_all_paths_are_gone(void **state)
{
    (void)state;
    rig_make(1);
    struct blk_geometry before = rig.dev->geometry;
    rig_set_usable(0, false);
    path_geometry(0)->known = false;
    rig_change(0);
    assert_memory_equal(&before, &rig.dev->geometry, sizeof(before));
    assert_int_equal(rig.changed_count, 0);
    assert_false(rig_info().is_ready);
}

static void configured_geometry_is_known_at_once(void **state)
{
    (void)state;
    path_geometry(0)->known = false;
    path_geometry(1)->known = false;
    rig.config.lba_count = RIG_BLOCKS;
    rig.config.lba_shift = 9;
    rig.config.uuid[0] = 9;
    rig_make(2);
    assert_true(rig.dev->geometry.known);
    assert_int_equal(rig.dev->geometry.lba_count, RIG_BLOCKS);
    assert_int_equal(rig.dev->geometry.uuid[0], 9);
    path_geometry(0)->known = true;
    path_geometry(0)->lba_shift = 12;
    rig_change(0);
    assert_int_equal(rig_info().paths[0].state, VOL_PATH_WRONG_BLOCK_SIZE);
    path_geometry(1)->known = true;
    path_geometry(1)->lba_count = RIG_BLOCKS + 1;
    rig_change(1);
    assert_int_equal(rig_info().paths[1].state, VOL_PATH_WRONG_SIZE);
    path_geometry(1)->lba_count = RIG_BLOCKS;
    rig_change(1);
    assert_int_equal(rig_info().paths[1].state, VOL_PATH_USABLE);
    assert_int_equal(rig.dev->geometry.nguid[0], 0); /* the configured name is the only one */
    assert_int_equal(rig.dev->geometry.uuid[0], 9);
}

static void volume_follows_the_size_of_its_path(void **state)
{
    (void)state;
    rig_make(2);
    path_geometry(0)->lba_count *= 2;
    rig_change(0);
    assert_int_equal(rig.dev->geometry.lba_count, RIG_BLOCKS * 2);
    assert_int_equal(rig.changed_count, 1);
    assert_int_equal(rig_info().paths[1].state, VOL_PATH_WRONG_SIZE);
    path_geometry(1)->lba_count *= 2;
    rig_change(1);
    assert_int_equal(rig_info().paths[1].state, VOL_PATH_USABLE);
}

static void path_with_another_identity_is_not_used(void **state)
{
    (void)state;
    path_geometry(1)->nguid[0] = 8;
    path_geometry(2)->uuid[3] = 1; /* path 0 has none: nothing to compare */
    rig_make(3);
    assert_int_equal(rig_info().paths[1].state, VOL_PATH_WRONG_IDENTITY);
    assert_int_equal(rig_info().paths[2].state, VOL_PATH_USABLE);
    rig_set_usable(0, false);
    rig_submit(NVME_IO_READ, 0, 1);
    assert_non_null(rig_held(2));
    rig_finish(2);
}

/* Somebody gave the remote namespace to something else. */
static void path_that_becomes_somebody_else_is_not_used(void **state)
{
    (void)state;
    rig_make(1);
    path_geometry(0)->nguid[0] = 8;
    rig_change(0);
    assert_int_equal(rig_info().paths[0].state, VOL_PATH_WRONG_IDENTITY);
    struct blk_req *req = rig_submit(NVME_IO_READ, 0, 1);
    assert_null(rig_held(0));
    path_geometry(0)->nguid[0] = 7;
    rig_change(0);
    rig_settle();
    rig_finish(0);
    assert_int_equal(req->status, 0);
}

static void read_only_path_of_a_writable_volume_is_not_used(void **state)
{
    (void)state;
    path_geometry(1)->features |= BLK_FEATURE_READ_ONLY;
    rig_make(2);
    assert_int_equal(rig_info().paths[1].state, VOL_PATH_READ_ONLY);
    assert_true((rig.dev->geometry.features & BLK_FEATURE_READ_ONLY) == 0);
}

static void read_only_volume_takes_both(void **state)
{
    (void)state;
    path_geometry(1)->features |= BLK_FEATURE_READ_ONLY;
    rig.config.is_read_only = true;
    rig_make(2);
    assert_int_equal(rig_info().paths[0].state, VOL_PATH_USABLE);
    assert_int_equal(rig_info().paths[1].state, VOL_PATH_USABLE);
    assert_true((rig.dev->geometry.features & BLK_FEATURE_READ_ONLY) != 0);
}

static void features_are_what_all_paths_can(void **state)
{
    (void)state;
    path_geometry(0)->features = BLK_FEATURE_DSM | BLK_FEATURE_COMPARE | BLK_FEATURE_RESERVATIONS;
    path_geometry(0)->reservation_types = 0x7f;
    path_geometry(1)->features = BLK_FEATURE_DSM | BLK_FEATURE_VERIFY | BLK_FEATURE_RESERVATIONS;
    path_geometry(1)->reservation_types = 0x83;
    rig_make(2);
    assert_int_equal(rig.dev->geometry.features, BLK_FEATURE_DSM | BLK_FEATURE_RESERVATIONS);
    assert_int_equal(rig.dev->geometry.reservation_types, 0x03);
    /* known, though there is no way to it: it still counts */
    rig_set_usable(1, false);
    assert_int_equal(rig.dev->geometry.features, BLK_FEATURE_DSM | BLK_FEATURE_RESERVATIONS);
}

/* A cache of any path has to be flushed; FUA is there when each cache can be written through. */
static void caches_are_joined_safely(void **state)
{
    (void)state;
    static const uint32_t cases[][3] = {
        {BLK_FEATURE_FLUSH, 0, BLK_FEATURE_FLUSH},
        {BLK_FEATURE_FLUSH | BLK_FEATURE_FUA, 0, BLK_FEATURE_FLUSH | BLK_FEATURE_FUA},
        {BLK_FEATURE_FLUSH | BLK_FEATURE_FUA, BLK_FEATURE_FLUSH, BLK_FEATURE_FLUSH},
        {BLK_FEATURE_FLUSH, BLK_FEATURE_FUA, BLK_FEATURE_FLUSH},
        {BLK_FEATURE_FLUSH | BLK_FEATURE_FUA, BLK_FEATURE_FLUSH | BLK_FEATURE_FUA,
         BLK_FEATURE_FLUSH | BLK_FEATURE_FUA},
    };
    rig_make(2);
    for (uint32_t i = 0; i < ARRAY_SIZE(cases); i++) {
        for (uint32_t turned = 0; turned < 2; turned++) {
            path_geometry(turned)->features = cases[i][0];
            path_geometry(1 - turned)->features = cases[i][1];
            rig_change(0);
            assert_int_equal(rig.dev->geometry.features, cases[i][2]);
        }
    }
}

static void sizes_are_the_least_and_borders_hold_for_all(void **state)
{
    (void)state;
    path_geometry(0)->limits = (struct blk_limits){.atomic_write = 64,
                                                   .atomic_write_power_fail = 8,
                                                   .atomic_compare_write = 4,
                                                   .atomic_boundary = 48,
                                                   .optimal_boundary = 0,
                                                   .preferred_write = 8,
                                                   .optimal_write = 32};
    path_geometry(1)->limits = (struct blk_limits){.atomic_write = 32,
                                                   .atomic_write_power_fail = 16,
                                                   .atomic_boundary = 32,
                                                   .optimal_boundary = 256,
                                                   .preferred_write = 16,
                                                   .optimal_write = 64};
    rig_make(2);
    const struct blk_limits *limits = &rig.dev->geometry.limits;
    assert_int_equal(limits->atomic_write, 32);
    assert_int_equal(limits->atomic_write_power_fail, 8);
    assert_int_equal(limits->atomic_compare_write, 0); /* one does not say */
    assert_int_equal(limits->atomic_boundary, 16);
    assert_int_equal(limits->optimal_boundary, 256);
    assert_int_equal(limits->preferred_write, 8);
    assert_int_equal(limits->optimal_write, 32);
}

static void atomic_sizes_are_no_more_than_a_part(void **state)
{
    (void)state;
    path_geometry(0)->limits = (struct blk_limits){
        .atomic_write = 1024, .atomic_write_power_fail = 1024, .atomic_compare_write = 1024};
    path_geometry(0)->max_transfer_bytes = 64 * 512;
    rig_make(1);
    assert_int_equal(rig.dev->geometry.limits.atomic_write, 64);
    assert_int_equal(rig.dev->geometry.limits.atomic_write_power_fail, 64);
    assert_int_equal(rig.dev->geometry.limits.atomic_compare_write, 64);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(first_known_path_gives_the_geometry),
        TEST(geometry_stays_when_all_paths_are_gone),
        TEST(configured_geometry_is_known_at_once),
        TEST(volume_follows_the_size_of_its_path),
        TEST(path_with_another_identity_is_not_used),
        TEST(path_that_becomes_somebody_else_is_not_used),
        TEST(read_only_path_of_a_writable_volume_is_not_used),
        TEST(read_only_volume_takes_both),
        TEST(features_are_what_all_paths_can),
        TEST(caches_are_joined_safely),
        TEST(sizes_are_the_least_and_borders_hold_for_all),
        TEST(atomic_sizes_are_no_more_than_a_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
