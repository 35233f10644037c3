/* Bring-up, namespaces and geometry, events, faults at every step of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "nvme_drv/nvme_drv_priv.h"
#include "rig.h"

static struct rig rig;

static void bring_up_healthy_drive_geometry_is_known(void **state)
{
    (void)state;
    rig_init(&rig, 2, 12);
    rig_bring_up(&rig);
    const struct blk_geometry *g = &rig.dev->geometry;
    assert_int_equal(g->lba_count, 2048);
    assert_int_equal(g->lba_shift, 12);
    assert_int_equal(g->features, BLK_FEATURE_FLUSH | BLK_FEATURE_COMPARE | BLK_FEATURE_DSM |
                                      BLK_FEATURE_WRITE_ZEROES | BLK_FEATURE_VERIFY |
                                      BLK_FEATURE_FUA);
    assert_int_equal(g->nguid[3], 0xa1);
    assert_memory_equal(g->eui64, "EUIEUIEU", 8);
    assert_memory_equal(g->uuid, "UUIDUUIDUUIDUUID", 16);
    assert_int_equal(rig.changed_count, 1);
    assert_int_equal(rig.found_count, 1);
    assert_string_equal(rig.dev->name, "nvme0n1");
    assert_int_equal(nvme_drv_stats(rig.drv).reset_count, 0);
    rig_end(&rig);
}

/* 5.15.2.2, 6.4: the controller's sizes, where the namespace has none of its own. */
static void bring_up_limits_of_the_controller_hold_for_namespaces(void **state)
{
    (void)state;
    rig_init(&rig, 1, 9);
    rig.model.sgls = 1;
    rig.model.awun = 63;
    rig.model.awupf = 7;
    rig.model.acwu = 1;
    rig_bring_up(&rig);
    struct blk_limits expected = {
        .atomic_write = 64, .atomic_write_power_fail = 8, .atomic_compare_write = 2};
    assert_memory_equal(&rig.dev->geometry.limits, &expected, sizeof(expected));
    rig_end(&rig);
}

static void bring_up_limits_of_the_namespace_go_first(void **state)
{
    (void)state;
    rig_init(&rig, 1, 9);
    rig.model.sgls = 1;
    rig.model.awun = 63;
    rig.model.awupf = 7;
    const uint16_t limits[12] = {31, 0, 3, 127, 0, 15, 256, 8, 16, 32, 64, 128};
    rig.model.ns[0].nsfeat = 1u << 1 | 1u << 4;
    memcpy(rig.model.ns[0].limits, limits, sizeof(limits));
    rig_bring_up(&rig);
    struct blk_limits expected = {.atomic_write = 32,
                                  .atomic_write_power_fail = 8, /* 0: the controller's */
                                  .atomic_compare_write = 4,
                                  .atomic_boundary = 128,
                                  .atomic_boundary_power_fail = 16,
                                  .optimal_boundary = 256,
                                  .preferred_write = 9,
                                  .preferred_write_align = 17,
                                  .preferred_dealloc = 33,
                                  .preferred_dealloc_align = 65,
                                  .optimal_write = 129};
    assert_memory_equal(&rig.dev->geometry.limits, &expected, sizeof(expected));
    rig_end(&rig);
}

/* What is promised for one command of the drive is not promised for several. */
static void bring_up_atomic_sizes_end_where_requests_are_split(void **state)
{
    (void)state;
    rig_init(&rig, 1, 9);
    rig.model.sgls = 1;
    rig.model.mdts = 2; /* 16 KiB */
    rig.model.awun = 255;
    rig.model.awupf = 15;
    rig_bring_up(&rig);
    assert_int_equal(rig.dev->geometry.limits.atomic_write, 32);
    assert_int_equal(rig.dev->geometry.limits.atomic_write_power_fail, 16);
    rig_end(&rig);
}

static void bring_up_atomic_sizes_need_sgls_and_boundaries_without_offset(void **state)
{
    (void)state;
    const uint8_t sgls[] = {0, 2, 1};
    for (uint32_t i = 0; i < 3; i++) {
        rig_init(&rig, 1, 9);
        rig.model.sgls = sgls[i];
        rig.model.awun = 63;
        rig.model.ns[0].limits[3] = 127;
        rig.model.ns[0].limits[4] = i == 2 ? 5 : 0; /* NABO */
        rig.model.ns[0].limits[6] = 8;
        rig_bring_up(&rig);
        assert_int_equal(rig.dev->geometry.limits.atomic_write, 0);
        assert_int_equal(rig.dev->geometry.limits.atomic_boundary, 0);
        assert_int_equal(rig.dev->geometry.limits.optimal_boundary, 8);
        rig_end(&rig);
    }
}

/* The drive knows one host: us. */
static void bring_up_drive_with_reservations_offers_none(void **state)
{
    (void)state;
    rig_init(&rig, 1, 9);
    rig.model.oncs |= 1u << 5;
    rig_bring_up(&rig); /* the model's RESCAP is FFh */
    assert_int_equal(rig.dev->geometry.features & BLK_FEATURE_RESERVATIONS, 0);
    assert_int_equal(rig.dev->geometry.reservation_types, 0);
    rig_end(&rig);
}

static void bring_up_drive_that_is_enabled_is_reset_first(void **state)
{
    (void)state;
    rig_init(&rig, 1, 9);
    uint32_t cc = NVME_CC_EN | 0x460000;
    uint32_t csts = NVME_CSTS_RDY;
    memcpy(rig.model.regs + NVME_REG_CC, &cc, 4);
    memcpy(rig.model.regs + NVME_REG_CSTS, &csts, 4);
    rig_bring_up(&rig);
    assert_int_equal(rig.model.enable_count, 1);
    rig_end(&rig);
}

static void bring_up_slow_drive_is_waited_for(void **state)
{
    (void)state;
    rig_init(&rig, 1, 9);
    rig.model.ready_delay_ns = 1900 * RIG_MS; /* CAP.TO is 2 s */
    rig_bring_up(&rig);
    assert_int_equal(rig.model.enable_count, 1);
    rig_end(&rig);
}

static void bring_up_never_ready_is_tried_again_with_growing_pauses(void **state)
{
    (void)state;
    rig_init(&rig, 1, 9);
    rig.step_ns = RIG_MS;
    rig.model.never_ready = true;
    rig.model.to_units = 1;
    rig_attach(&rig);
    rig_run(&rig, 10 * RIG_S);
    assert_false(rig.dev->geometry.known);
    /* Tries of 0.5 s + 0.25 s to give up, pauses 0.1, 0.2, 0.4, 0.8, 1.6, 3.2 s. */
    assert_in_range(rig.model.enable_count, 5, 8);
    rig.model.never_ready = false;
    assert_true(rig_run_to(&rig, NVME_DRV_READY, 20 * RIG_S));
    assert_true(rig.dev->geometry.known);
    rig_end(&rig);
}

static void bring_up_request_before_ready_ends_at_once_and_may_be_retried(void **state)
{
    static struct rig_req r;
    static uint8_t data[512];
    (void)state;
    rig_init(&rig, 1, 9);
    rig_attach(&rig);
    rig_req_init(&rig, &r, NVME_IO_READ, 0, 1);
    rig_req_seg(&r, data, sizeof(data));
    rig_submit(&rig, &r);
    assert_int_equal(r.done_count, 1);
    assert_int_equal(r.req.status, NVME_SC_NS_NOT_READY);
    assert_true(rig_run_to(&rig, NVME_DRV_READY, RIG_S));
    rig_end(&rig);
}

static void bring_up_fatal_status_at_enable_is_tried_again(void **state)
{
    (void)state;
    rig_init(&rig, 1, 9);
    rig.model.fails_enable = true;
    rig_attach(&rig);
    rig_run(&rig, 500 * RIG_MS);
    assert_true(rig.model.enable_count > 1);
    rig.model.fails_enable = false;
    assert_true(rig_run_to(&rig, NVME_DRV_READY, 5 * RIG_S));
    rig_end(&rig);
}

/* Each admin command of the bring-up ends with an error, gets lost, breaks or removes the drive. */
static void bring_up_with_fault_at_every_command_recovers(void **state)
{
    static const enum model_fault faults[] = {
        MODEL_FAULT_STATUS, MODEL_FAULT_LOSE,     MODEL_FAULT_UNKNOWN_CID,
        MODEL_FAULT_CFS,    MODEL_FAULT_WRONG_SQ, MODEL_FAULT_DUPLICATE,
    };
    (void)state;
    for (uint32_t f = 0; f < ARRAY_SIZE(faults); f++) {
        for (uint32_t n = 1;; n++) {
            rig_init(&rig, 2, 9);
            rig.step_ns = RIG_MS / 2;
            rig.model.admin_fault = faults[f];
            rig.model.admin_fault_number = n;
            rig.model.fault_repeats = 1;
            rig.model.fault_status = NVME_SC_INTERNAL_ERROR;
            rig_attach(&rig);
            assert_true(rig_run_to(&rig, NVME_DRV_READY, 30 * RIG_S));
            bool is_over = rig.model.admin_count < n; /* the fault came too late to matter */
            rig_run(&rig, 10 * RIG_S);
            assert_true(rig_run_to(&rig, NVME_DRV_READY, 30 * RIG_S));
            rig_end(&rig);
            if (is_over) {
                assert_true(n > 10);
                break;
            }
        }
    }
}

static void bring_up_removed_at_every_command_ends_removed(void **state)
{
    (void)state;
    for (uint32_t n = 1; n < 12; n++) {
        rig_init(&rig, 2, 9);
        rig.step_ns = RIG_MS;
        rig.model.admin_fault = MODEL_FAULT_REMOVE;
        rig.model.admin_fault_number = n;
        rig_attach(&rig);
        assert_true(rig_run_to(&rig, NVME_DRV_REMOVED, 10 * RIG_S));
        assert_false(rig.dev->geometry.known);
        assert_false(rig.model.bus_master);
        rig_end(&rig);
    }
}

static void check_refused(void)
{
    rig_attach(&rig);
    assert_true(rig_run_to(&rig, NVME_DRV_FAILED, 10 * RIG_S));
    assert_false(rig.dev->geometry.known);
    rig_end(&rig);
}

static void bring_up_fewer_queues_than_cores_is_refused(void **state)
{
    (void)state;
    rig_init(&rig, 3, 9);
    rig.model.io_queues = 2;
    check_refused();
}

static void bring_up_large_pages_only_is_refused(void **state)
{
    (void)state;
    rig_init(&rig, 1, 9);
    rig.model.mpsmin = 1;
    check_refused();
}

static void bring_up_doorbells_outside_the_bar_is_refused(void **state)
{
    (void)state;
    rig_init(&rig, 1, 9);
    rig.model.dstrd = 15;
    check_refused();
}

static void bring_up_wide_doorbells_and_small_queues_serve(void **state)
{
    static struct rig_req reqs[20];
    static uint8_t data[20][512];
    (void)state;
    rig_init(&rig, 2, 9);
    rig.model.dstrd = 3;
    rig.model.mqes = 6; /* queues of 4: three commands at a time */
    rig.model.delay_ns = RIG_MS;
    rig_bring_up(&rig);
    for (uint32_t i = 0; i < 20; i++) {
        rig_req_init(&rig, &reqs[i], NVME_IO_READ, i, 1);
        rig_req_seg(&reqs[i], data[i], 512);
        rig_submit(&rig, &reqs[i]);
    }
    rig_turn(&rig);
    rig_turn(&rig);
    assert_int_equal(rig.model.pending_count - 1, 3); /* one is the AER */
    assert_true(rig_wait(&rig, reqs, 20, RIG_S));
    for (uint32_t i = 0; i < 20; i++) {
        assert_int_equal(reqs[i].req.status, 0);
    }
    rig_end(&rig);
}

/* --- namespaces ---------------------------------------------------------------------------------
 */

static void namespaces_with_metadata_or_odd_blocks_are_not_used(void **state)
{
    (void)state;
    rig_init(&rig, 1, 9);
    drive_model_add_ns(&rig.model, 2, 12, 16);
    drive_model_add_ns(&rig.model, 3, 12, 16);
    drive_model_add_ns(&rig.model, 7, 13, 16);
    drive_model_add_ns(&rig.model, 9, 9, 16);
    rig.model.ns[2].metadata_bytes = 8;
    rig.model.ns[4].is_protected = true;
    rig_bring_up(&rig);
    assert_int_equal(rig.found_count, 3);
    assert_true(nvme_drv_blk(rig.drv, 2)->geometry.known);
    assert_false(nvme_drv_blk(rig.drv, 3)->geometry.known);
    assert_false(nvme_drv_blk(rig.drv, 7)->geometry.known);
    assert_true(nvme_drv_blk(rig.drv, 9)->geometry.known);
    assert_true(nvme_drv_blk(rig.drv, 9)->geometry.features & BLK_FEATURE_READ_ONLY);
    assert_null(nvme_drv_blk(rig.drv, 0));
    assert_null(nvme_drv_blk(rig.drv, NVME_NSID_ALL));
    rig_end(&rig);
}

static void namespaces_more_than_the_table_holds_are_left_out(void **state)
{
    (void)state;
    rig_init(&rig, 1, 9);
    for (uint32_t nsid = 2; nsid <= MODEL_NAMESPACES; nsid++) {
        drive_model_add_ns(&rig.model, nsid, 9, 16);
    }
    rig_bring_up(&rig);
    assert_int_equal(rig.found_count, NVME_DRV_NAMESPACES);
    assert_null(nvme_drv_blk(rig.drv, 18));
    rig_end(&rig);
}

static void event_namespace_changed_geometry_is_read_again(void **state)
{
    (void)state;
    rig_init(&rig, 1, 9);
    rig_bring_up(&rig);
    rig.model.ns[0].lba_count = 100;
    rig.model.event_dw0 = 0x00040002; /* notice, log page 4 */
    rig_run(&rig, 300 * RIG_MS);
    assert_int_equal(rig.dev->geometry.lba_count, 100);
    assert_int_equal(rig.changed_count, 2);
    /* A second one is asked for and handled; and a namespace that is deleted is lost. */
    rig.model.ns[0].nsid = 0;
    rig.model.event_dw0 = 0x00040002;
    rig_run(&rig, 300 * RIG_MS);
    assert_false(rig.dev->geometry.known);
    assert_int_equal(rig.changed_count, 3);
    /* One that comes back under the same number is the same device. */
    rig.model.ns[0].nsid = 1;
    rig.model.event_dw0 = 0x00040002;
    rig_run(&rig, 300 * RIG_MS);
    assert_true(rig.dev->geometry.known);
    assert_int_equal(nvme_drv_stats(rig.drv).event_count, 3);
    assert_int_equal(nvme_drv_stats(rig.drv).reset_count, 0);
    rig_end(&rig);
}

static void event_smart_read_only_media_shows_in_the_features(void **state)
{
    (void)state;
    rig_init(&rig, 1, 9);
    rig_bring_up(&rig);
    rig.model.critical_warning = 0x08;
    rig.model.event_dw0 = 0x00020001;
    rig_run(&rig, 300 * RIG_MS);
    assert_true(rig.dev->geometry.features & BLK_FEATURE_READ_ONLY);
    assert_int_equal(nvme_drv_stats(rig.drv).critical_warning, 8);
    rig_end(&rig);
}

static void event_storm_does_not_keep_core_0_busy(void **state)
{
    (void)state;
    rig_init(&rig, 1, 9);
    rig_bring_up(&rig);
    for (uint32_t i = 0; i < 50000; i++) { /* 1 s */
        rig.model.event_dw0 = 0x00040002;
        rig_turn(&rig);
    }
    assert_in_range(nvme_drv_stats(rig.drv).event_count, 8, 12);
    rig.model.event_dw0 = 0;
    rig_run(&rig, 300 * RIG_MS);
    rig_end(&rig);
}

static void attach_of_what_is_no_nvme_drive_is_invalid(void **state)
{
    struct pcie_rc_device device;
    struct nvme_drv *drv;
    (void)state;
    rig_init(&rig, 1, 9);
    device = rig.model.device;
    device.class_code = 0x010601;
    assert_int_equal(nvme_drv_attach(&device, NULL, NULL, &drv), STATUS_INVALID);
    device = rig.model.device;
    device.bar[0].bus_addr = 0;
    assert_int_equal(nvme_drv_attach(&device, NULL, NULL, &drv), STATUS_INVALID);
    device = rig.model.device;
    device.bar[0].len_bytes = 0x1000;
    assert_int_equal(nvme_drv_attach(&device, NULL, NULL, &drv), STATUS_INVALID);
    for (uint32_t i = 0; i < LIMIT_DRIVES; i++) {
        assert_int_equal(nvme_drv_attach(&rig.model.device, NULL, NULL, &drv), STATUS_OK);
    }
    assert_int_equal(nvme_drv_attach(&rig.model.device, NULL, NULL, &drv), STATUS_NO_SPACE);
    assert_null(nvme_drv_device(1));
    drive_model_free(&rig.model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bring_up_healthy_drive_geometry_is_known),
        cmocka_unit_test(bring_up_limits_of_the_controller_hold_for_namespaces),
        cmocka_unit_test(bring_up_limits_of_the_namespace_go_first),
        cmocka_unit_test(bring_up_atomic_sizes_end_where_requests_are_split),
        cmocka_unit_test(bring_up_atomic_sizes_need_sgls_and_boundaries_without_offset),
        cmocka_unit_test(bring_up_drive_with_reservations_offers_none),
        cmocka_unit_test(bring_up_drive_that_is_enabled_is_reset_first),
        cmocka_unit_test(bring_up_slow_drive_is_waited_for),
        cmocka_unit_test(bring_up_never_ready_is_tried_again_with_growing_pauses),
        cmocka_unit_test(bring_up_request_before_ready_ends_at_once_and_may_be_retried),
        cmocka_unit_test(bring_up_fatal_status_at_enable_is_tried_again),
        cmocka_unit_test(bring_up_with_fault_at_every_command_recovers),
        cmocka_unit_test(bring_up_removed_at_every_command_ends_removed),
        cmocka_unit_test(bring_up_fewer_queues_than_cores_is_refused),
        cmocka_unit_test(bring_up_large_pages_only_is_refused),
        cmocka_unit_test(bring_up_doorbells_outside_the_bar_is_refused),
        cmocka_unit_test(bring_up_wide_doorbells_and_small_queues_serve),
        cmocka_unit_test(namespaces_with_metadata_or_odd_blocks_are_not_used),
        cmocka_unit_test(namespaces_more_than_the_table_holds_are_left_out),
        cmocka_unit_test(event_namespace_changed_geometry_is_read_again),
        cmocka_unit_test(event_smart_read_only_media_shows_in_the_features),
        cmocka_unit_test(event_storm_does_not_keep_core_0_busy),
        cmocka_unit_test(attach_of_what_is_no_nvme_drive_is_invalid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
