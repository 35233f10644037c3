/* Namespaces: found by each kind of name, their geometry, what a hostile target says of them, and
 * how they come and go. */
#include <stdlib.h>
#include "tests/unit/nvmf_ctrl/rig.h"

#define NS_CHANGED                                               \
    ((uint32_t)(FIELD_PREP(NVME_EVENT_TYPE, NVME_EVENT_NOTICE) | \
                FIELD_PREP(NVME_EVENT_LOG, NVME_LOG_CHANGED_NS)))

static const struct blk_geometry *geometry(uint32_t index)
{
    return &rig.users[index].ns.dev.geometry;
}

static uint32_t nsid_of(uint32_t index)
{
    return atomic_load(&rig.users[index].ns.nsid);
}

static void event(void)
{
    assert_true(fake_event(rig.target, NS_CHANGED));
    rig_run(250 * NS_PER_MS);
}

/* --- names ---------------------------------------------------------------------------------- */

static void scan_finds_by_each_kind_of_name(void **state)
{
    struct nvmf_ns_id id;
    (void)state;
    rig_init(1);
    struct fake_ns *ns = fake_ns_add(rig.target, 5, 3, 500);
    memcpy(ns->eui64, "\1\2\3\4\5\6\7\10", 8);
    (void)fake_ns_add(rig.target, 4, 4, 400);
    rig_start();
    (void)rig_use(0, 3, 5); /* NGUID */
    id = (struct nvmf_ns_id){.uuid = {3, 0xee, [15] = 5}};
    nvmf_ns_open(&rig.users[1].ns, rig.ctrl, &id, NVMF_PATH_TERMINATE, "by uuid");
    id = (struct nvmf_ns_id){.eui64 = {1, 2, 3, 4, 5, 6, 7, 8}};
    nvmf_ns_open(&rig.users[2].ns, rig.ctrl, &id, NVMF_PATH_TERMINATE, "by eui64");
    (void)rig_use(3, 0, 4); /* NSID */
    (void)rig_use(4, 9, 9); /* nobody */
    id = (struct nvmf_ns_id){.nsid = 0};
    nvmf_ns_open(&rig.users[5].ns, rig.ctrl, &id, NVMF_PATH_TERMINATE, "by nothing");
    /* The first name that there is counts alone: a wrong NGUID is not helped by a right NSID. */
    id = (struct nvmf_ns_id){.nguid = {7}, .nsid = 5};
    nvmf_ns_open(&rig.users[6].ns, rig.ctrl, &id, NVMF_PATH_TERMINATE, "by two");
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
    rig_turn();
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(rig_is_usable(i));
        assert_int_equal(nsid_of(i), 5);
        assert_int_equal(geometry(i)->lba_count, 500);
    }
    assert_true(rig_is_usable(3));
    assert_int_equal(geometry(3)->lba_count, 400);
    for (uint32_t i = 4; i < 7; i++) {
        assert_false(rig_is_usable(i));
        assert_int_equal(nsid_of(i), 0);
        assert_false(geometry(i)->known);
    }
    assert_int_equal(rig.users[1].ns.path, NVMF_PATH_TERMINATE);
    assert_ptr_equal(rig.users[1].ns.dev.ops, &nvmf_io_ops);
    rig_end();
}

/* Before NVMe 1.3 there are no descriptors: NGUID and EUI64 of Identify Namespace count. */
static void scan_without_descriptors_takes_identify(void **state)
{
    (void)state;
    rig_init(1);
    struct fake_ns *ns = fake_ns_add(rig.target, 1, 3, 500);
    memcpy(ns->id.nguid, ns->nguid, 16);
    rig.target->fault_opcode = NVME_ADMIN_IDENTIFY;
    rig.target->fault_cdw10 = NVME_CNS_NS_DESCRIPTORS;
    rig.target->fault = FAKE_STATUS;
    rig.target->fault_status = NVME_SC_INVALID_FIELD | NVME_STATUS_DNR;
    rig_start();
    (void)rig_use(0, 3, 1);
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
    rig_turn();
    assert_true(rig_is_usable(0));
    rig_end();
}

static void scan_asks_no_more_than_it_needs(void **state)
{
    (void)state;
    rig_init(1);
    for (uint32_t nsid = 1; nsid <= 50; nsid++) {
        (void)fake_ns_add(rig.target, nsid, 1, 100);
    }
    rig_up(); /* nobody named any */
    assert_int_equal(rig.target->identify_count, 2);
    assert_int_equal(rig_info(rig.ctrl).ns_count, 50);
    rig_run(150 * NS_PER_MS);
    rig.target->identify_count = 0;
    (void)rig_use(0, 0, 40); /* by NSID: that one */
    rig_run(150 * NS_PER_MS);
    assert_true(rig_is_usable(0));
    assert_int_equal(rig.target->identify_count, 3);
    rig.target->identify_count = 0;
    (void)rig_use(1, 1, 10); /* by NGUID: up to there, and NSID 40 */
    rig_run(150 * NS_PER_MS);
    assert_true(rig_is_usable(0) && rig_is_usable(1));
    assert_int_equal(rig.target->identify_count, 1 + 40 * 2);
    rig_end();
}

static void scan_of_1024_users_is_linear(void **state)
{
    enum {
        COUNT = 1024
    };
    struct nvmf_ns *users = calloc(COUNT, sizeof(*users));
    (void)state;
    rig_init(1);
    for (uint32_t nsid = 1; nsid <= COUNT + 2; nsid++) {
        (void)fake_ns_add(rig.target, nsid, 1, nsid);
    }
    rig_start();
    for (uint32_t i = 0; i < COUNT; i++) {
        struct nvmf_ns_id id = {.nguid = {1, [14] = (uint8_t)((i + 1) >> 8), (uint8_t)(i + 1)}};
        nvmf_ns_open(&users[i], rig.ctrl, &id, NVMF_PATH_ZERO_COPY, "many");
    }
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, 2 * NS_PER_S));
    rig_turn();
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_true(nvmf_ns_is_usable(&users[i]));
        assert_int_equal(users[i].dev.geometry.lba_count, i + 1);
    }
    assert_int_equal(rig.target->identify_count, 2 + 2 * COUNT);
    assert_int_equal(rig_info(rig.ctrl).ns_count, COUNT);
    rig_end();
    free(users);
}

/* --- geometry ------------------------------------------------------------------------------- */

static void geometry_has_features_and_limits(void **state)
{
    (void)state;
    rig_init(1);
    struct fake_ns *a = fake_ns_add(rig.target, 1, 1, 1000);
    struct fake_ns *b = fake_ns_add(rig.target, 2, 2, 1000);
    a = &rig.target->ns[0];
    rig.target->id.oncs = NVME_ONCS_COMPARE | NVME_ONCS_VERIFY | NVME_ONCS_RESERVATIONS;
    rig.target->id.awun = 15;
    rig.target->id.awupf = 7;
    rig.target->id.fuses = NVME_FUSES_COMPARE_WRITE;
    rig.target->id.acwu = 3;
    a->id.rescap = 0x7f;
    a->id.nsfeat = NVME_NSFEAT_ATOMICS | NVME_NSFEAT_PREFERRED;
    a->id.nawun = 31;
    a->id.nacwu = 1;
    a->id.nabsn = 63;
    a->id.noiob = 256;
    a->id.npwg = 7;
    a->id.npwa = 3;
    a->id.npdg = 15;
    a->id.npda = 1;
    a->id.nows = 127;
    b->id.flbas = 1;
    b->id.nlbaf = 1;
    b->id.lbaf[1].lba_shift = 9;
    b->id.nsattr = NVME_NSATTR_WRITE_PROTECTED;
    b->id.nawun = 99; /* NSFEAT does not say that it counts */
    b->id.nabsn = 7;
    b->id.nabo = 1;
    rig.target->id.vwc = 0;
    rig_start();
    (void)rig_use(0, 1, 1);
    (void)rig_use(1, 2, 2);
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
    const struct blk_geometry *g = geometry(0);
    assert_int_equal(g->features, BLK_FEATURE_COMPARE | BLK_FEATURE_VERIFY | BLK_FEATURE_FUA |
                                      BLK_FEATURE_RESERVATIONS);
    assert_int_equal(g->reservation_types, 0x7f);
    assert_int_equal(g->lba_shift, 12);
    assert_int_equal(g->limits.atomic_write, 32);
    assert_int_equal(g->limits.atomic_write_power_fail, 8); /* 0: the controller's */
    assert_int_equal(g->limits.atomic_compare_write, 2);
    assert_int_equal(g->limits.atomic_boundary, 64);
    assert_int_equal(g->limits.atomic_boundary_power_fail, 0);
    assert_int_equal(g->limits.optimal_boundary, 256);
    assert_int_equal(g->limits.preferred_write, 8);
    assert_int_equal(g->limits.preferred_write_align, 4);
    assert_int_equal(g->limits.preferred_dealloc, 16);
    assert_int_equal(g->limits.preferred_dealloc_align, 2);
    assert_int_equal(g->limits.optimal_write, 128);
    g = geometry(1);
    assert_int_equal(g->features, BLK_FEATURE_COMPARE | BLK_FEATURE_VERIFY | BLK_FEATURE_FUA |
                                      BLK_FEATURE_READ_ONLY);
    assert_int_equal(g->lba_shift, 9);
    assert_int_equal(g->limits.atomic_write, 0); /* a shifted boundary: nothing is promised */
    assert_int_equal(g->limits.atomic_boundary, 0);
    assert_int_equal(g->limits.preferred_write, 0);
    assert_memory_equal(g->uuid, b->uuid, 16);
    rig_end();
}

static void geometry_without_namespace_atomics_is_the_controllers(void **state)
{
    (void)state;
    rig_init(1);
    (void)fake_ns_add(rig.target, 1, 1, 1000);
    rig.target->id.awun = 0;
    rig_start();
    (void)rig_use(0, 1, 1);
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
    assert_int_equal(geometry(0)->limits.atomic_write, 1);
    assert_int_equal(geometry(0)->limits.atomic_compare_write, 0); /* no fused commands */
    assert_true((geometry(0)->features & BLK_FEATURE_FLUSH) != 0);
    rig_end();
}

/* --- hostile -------------------------------------------------------------------------------- */

static void hostile_namespaces_are_not_used(void **state)
{
    (void)state;
    rig_init(1);
    for (uint32_t nsid = 1; nsid <= 7; nsid++) {
        (void)fake_ns_add(rig.target, nsid, 1, 100);
    }
    rig.target->ns[0].id.lbaf[0].lba_shift = 13;
    rig.target->ns[1].id.lbaf[0].metadata_bytes = 8;
    rig.target->ns[2].id.dps = 1;
    rig.target->ns[3].id.nsze = UINT64_MAX;
    rig.target->ns[4].id.nsze = 0;
    rig.target->ns[5].id.flbas = 5; /* beyond NLBAF */
    rig.target->ns[5].id.lbaf[5].lba_shift = 12;
    rig_start();
    for (uint32_t i = 0; i < 7; i++) {
        (void)rig_use(i, 1, i + 1);
    }
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
    rig_turn();
    for (uint32_t i = 0; i < 6; i++) {
        assert_false(rig_is_usable(i));
        assert_false(geometry(i)->known);
    }
    assert_true(rig_is_usable(6));
    rig_end();
}

static void hostile_lists_end_where_they_break_their_form(void **state)
{
    (void)state;
    rig_init(1);
    (void)fake_ns_add(rig.target, 3, 1, 100);
    (void)fake_ns_add(rig.target, 5, 1, 100);
    (void)fake_ns_add(rig.target, 7, 1, 100);
    rig.target->ns[2].nsid = 4; /* not ascending */
    rig_start();
    (void)rig_use(0, 1, 3);
    (void)rig_use(1, 0, 4);
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
    rig_turn();
    assert_true(rig_is_usable(0));
    assert_false(rig_is_usable(1));
    assert_int_equal(rig_info(rig.ctrl).ns_count, 2);
    rig_end();

    rig_init(1);
    (void)fake_ns_add(rig.target, NVME_NSID_ALL, 1, 100);
    rig_up();
    assert_int_equal(rig_info(rig.ctrl).ns_count, 0);
    rig_end();
}

static void hostile_descriptors_do_no_harm(void **state)
{
    static const uint8_t lists[][24] = {
        {NVME_NIDT_NGUID, 255},                           /* too long */
        {NVME_NIDT_NGUID, 8, 0, 0, 1},                    /* a length that is not its own */
        {0, 16, 0, 0, 1},                                 /* no type */
        {NVME_NIDT_UUID, 0, 0, 0, 1},                     /* no length */
        {0xff, 4, 0, 0, 9, 9, 9, 9, NVME_NIDT_NGUID, 16}, /* unknown, then zeros */
    };
    (void)state;
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        rig_init(1);
        (void)fake_ns_add(rig.target, 1, 1, 100);
        rig.target->has_descriptor_list = true;
        memset(rig.target->descriptor_list, i == 0 ? 0xff : 0, 256);
        memcpy(rig.target->descriptor_list, lists[i], sizeof(lists[i]));
        rig_start();
        (void)rig_use(0, 1, 1);
        (void)rig_use(1, 0, 1);
        assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
        rig_turn();
        assert_false(rig_is_usable(0));
        assert_true(rig_is_usable(1)); /* its NSID is as good as ever */
        rig_end();
    }
}

/* --- they come and go ----------------------------------------------------------------------- */

static void namespace_goes_and_comes_back(void **state)
{
    (void)state;
    rig_init(1);
    (void)fake_ns_add(rig.target, 1, 1, 100);
    rig_start();
    struct rig_user *user = rig_use(0, 1, 1);
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
    rig_turn();
    uint32_t changed_count = user->changed_count;
    fake_ns_remove(rig.target, 1);
    event();
    assert_int_equal(rig.target->log_count[NVME_LOG_CHANGED_NS], 1);
    assert_false(rig_is_usable(0));
    assert_int_equal(nsid_of(0), 0);
    assert_int_equal(user->changed_count, changed_count + 1);
    assert_int_equal(geometry(0)->lba_count, 100); /* as it was */
    assert_int_equal(rig_info(rig.ctrl).state, NVMF_CTRL_LIVE);

    struct fake_ns *ns = fake_ns_add(rig.target, 6, 1, 100); /* the same one elsewhere */
    ns->nguid[15] = 1;
    event();
    assert_true(rig_is_usable(0));
    assert_int_equal(nsid_of(0), 6);
    assert_int_equal(user->changed_count, changed_count + 2);

    rig.target->ns[0].id.nsze = 300; /* grows */
    event();
    assert_int_equal(geometry(0)->lba_count, 300);
    assert_int_equal(user->changed_count, changed_count + 3);

    event(); /* nothing new */
    assert_int_equal(user->changed_count, changed_count + 3);
    rig_end();
}

static void namespace_replaced_under_its_nsid_is_another(void **state)
{
    (void)state;
    rig_init(1);
    (void)fake_ns_add(rig.target, 1, 1, 100);
    rig_start();
    (void)rig_use(0, 1, 1);
    (void)rig_use(1, 0, 1);
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
    rig_turn();
    rig.target->ns[0].nguid[0] = 2;
    event();
    assert_false(rig_is_usable(0));
    assert_true(rig_is_usable(1));
    assert_int_equal(geometry(1)->nguid[0], 2);
    rig_end();
}

static void user_of_a_live_association_is_served(void **state)
{
    (void)state;
    rig_init(1);
    (void)fake_ns_add(rig.target, 1, 1, 100);
    rig_up();
    struct rig_user *user = rig_use(0, 1, 1);
    rig_run(200 * NS_PER_MS);
    assert_true(rig_is_usable(0));
    assert_true(user->changed_count > 0);
    nvmf_ns_close(&user->ns);
    assert_false(rig_is_usable(0));
    rig_run(10 * NS_PER_MS);
    memset(user, 0xee, sizeof(*user)); /* nobody looks at it any more */
    event();
    nvmf_ctrl_reset(rig.ctrl);
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_BACKOFF, NS_PER_S));
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
    rig_end();
}

static void users_that_come_and_go_in_a_scan_are_no_matter(void **state)
{
    (void)state;
    for (uint32_t n = 0; n < 60; n++) {
        rig_init(1);
        for (uint32_t nsid = 1; nsid <= 6; nsid++) {
            (void)fake_ns_add(rig.target, nsid, 1, 100);
        }
        rig_up();
        for (uint32_t i = 0; i < 3; i++) {
            (void)rig_use(i, 1, i + 1);
        }
        for (uint32_t i = 0; i < n; i++) {
            rig_turn();
        }
        nvmf_ns_close(&rig.users[1].ns);
        memset(&rig.users[1], 0xee, sizeof(rig.users[1]));
        (void)rig_use(3, 1, 5);
        rig_run(300 * NS_PER_MS);
        assert_true(rig_is_usable(0) && rig_is_usable(2) && rig_is_usable(3));
        assert_int_equal(rig.ctrl->scan.unseen, 0);
        rig_end();
    }
}

/* The namespace that a scan asks for goes away between the list and Identify. */
static void scan_of_what_goes_meanwhile_goes_on(void **state)
{
    (void)state;
    rig_init(1);
    (void)fake_ns_add(rig.target, 1, 1, 100);
    (void)fake_ns_add(rig.target, 2, 1, 100);
    rig.target->fault_opcode = NVME_ADMIN_IDENTIFY;
    rig.target->fault_cdw10 = NVME_CNS_NS;
    rig.target->fault = FAKE_STATUS;
    rig.target->fault_status = NVME_SC_INVALID_NS_OR_FORMAT | NVME_STATUS_DNR;
    rig_start();
    (void)rig_use(0, 1, 2);
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
    rig_turn();
    assert_false(rig_is_usable(0));
    rig.target->fault_opcode = -1;
    event();
    assert_true(rig_is_usable(0));
    rig_end();
}

/* Live, a list that is refused is asked for again a second later. */
static void list_refused_while_live_is_asked_for_again(void **state)
{
    (void)state;
    rig_init(1);
    (void)fake_ns_add(rig.target, 1, 1, 100);
    rig_start();
    (void)rig_use(0, 1, 1);
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
    rig.target->fault_opcode = NVME_ADMIN_IDENTIFY;
    rig.target->fault_cdw10 = NVME_CNS_ACTIVE_NS_LIST;
    rig.target->fault = FAKE_STATUS;
    rig.target->fault_status = NVME_SC_INTERNAL_ERROR;
    fake_ns_remove(rig.target, 1);
    event();
    assert_int_equal(rig_info(rig.ctrl).state, NVMF_CTRL_LIVE);
    assert_true(rig_is_usable(0));
    rig.target->fault_opcode = -1;
    rig_run(1100 * NS_PER_MS);
    assert_false(rig_is_usable(0));
    assert_int_equal(rig_info(rig.ctrl).connect_count, 1);
    rig_end();
}

static void scan_unanswered_while_live_is_a_reset(void **state)
{
    (void)state;
    rig_init(1);
    rig.config.connect_timeout_ms = 200;
    rig_up();
    rig.target->fault_opcode = NVME_ADMIN_IDENTIFY;
    rig.target->fault = FAKE_SILENT;
    assert_true(fake_event(rig.target, NS_CHANGED));
    rig_run(100 * NS_PER_MS);
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_BACKOFF, NS_PER_S));
    assert_int_equal(rig_info(rig.ctrl).fail, NVMF_FAIL_COMMAND_TIMEOUT);
    rig.target->fault_opcode = -1;
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
    rig_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scan_finds_by_each_kind_of_name),
        cmocka_unit_test(scan_without_descriptors_takes_identify),
        cmocka_unit_test(scan_asks_no_more_than_it_needs),
        cmocka_unit_test(scan_of_1024_users_is_linear),
        cmocka_unit_test(geometry_has_features_and_limits),
        cmocka_unit_test(geometry_without_namespace_atomics_is_the_controllers),
        cmocka_unit_test(hostile_namespaces_are_not_used),
        cmocka_unit_test(hostile_lists_end_where_they_break_their_form),
        cmocka_unit_test(hostile_descriptors_do_no_harm),
        cmocka_unit_test(namespace_goes_and_comes_back),
        cmocka_unit_test(namespace_replaced_under_its_nsid_is_another),
        cmocka_unit_test(user_of_a_live_association_is_served),
        cmocka_unit_test(users_that_come_and_go_in_a_scan_are_no_matter),
        cmocka_unit_test(scan_of_what_goes_meanwhile_goes_on),
        cmocka_unit_test(list_refused_while_live_is_asked_for_again),
        cmocka_unit_test(scan_unanswered_while_live_is_a_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
