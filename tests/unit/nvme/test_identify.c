/* Identify: NVM Express 1.4, section 5.15. */
#include "tests/unit/nvme/rig.h"

static struct rig_cmd *identify(uint32_t cns, uint32_t nsid)
{
    memset(rig.data, 0xee, 4096 + 8);
    return rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_IDENTIFY, .nsid = nsid, .cdw10 = cns});
}

static const struct nvme_identify_ctrl *identify_ctrl(void)
{
    assert_ended(identify(NVME_CNS_CTRL, 0), NVME_SC_SUCCESS);
    return (const struct nvme_identify_ctrl *)(const void *)rig.data;
}

static const struct nvme_identify_ns *identify_ns(uint32_t cns, uint32_t nsid)
{
    assert_ended(identify(cns, nsid), NVME_SC_SUCCESS);
    return (const struct nvme_identify_ns *)(const void *)rig.data;
}

static const uint32_t *identify_list(uint32_t cns, uint32_t nsid)
{
    assert_ended(identify(cns, nsid), NVME_SC_SUCCESS);
    return (const uint32_t *)(const void *)rig.data;
}

static void assert_zeroes(void)
{
    for (uint32_t i = 0; i < 4096; i++) {
        assert_int_equal(rig.data[i], 0);
    }
}

/* --- 5.15.2.1 and figure 247: controller ---------------------------------------------------- */

static void identify_ctrl_names_are_space_padded(void **state)
{
    (void)state;
    const struct nvme_identify_ctrl *id = identify_ctrl();
    assert_memory_equal(id->sn, "S123                ", 20);
    assert_memory_equal(id->mn, "rig model                               ", 40);
    assert_memory_equal(id->fr, "1.0     ", 8);
    assert_string_equal((const char *)id->subnqn, "nqn.2026-11.org.snic:rig");
    for (uint32_t i = sizeof("nqn.2026-11.org.snic:rig"); i < sizeof(id->subnqn); i++) {
        assert_int_equal(id->subnqn[i], 0);
    }
}

static void identify_ctrl_fields_say_what_is_offered(void **state)
{
    (void)state;
    const struct nvme_identify_ctrl *id = identify_ctrl();
    assert_int_equal(id->vid, 0x1b36);
    assert_int_equal(id->ssvid, 0x1af4);
    assert_memory_equal(id->ieee, ((uint8_t[]){1, 2, 3}), 3);
    assert_int_equal(id->mdts, 5);
    assert_int_equal(id->cntlid, 7);
    assert_int_equal(id->ver, 0x00010400);
    assert_int_equal(id->cntrltype, 1);
    assert_int_equal(id->oaes, NVME_OAES_NS_ATTRIBUTE);
    assert_int_equal(id->oacs, NVME_OACS_DOORBELL_BUFFERS);
    assert_int_equal(id->acl, 3);
    assert_int_equal(id->aerl, LIMIT_AERS - 1);
    assert_int_equal(id->frmw, 0x03);
    assert_int_equal(id->lpa, 0x06);
    assert_int_equal(id->elpe, 63);
    assert_int_equal(id->npss, 0);
    assert_int_not_equal(id->wctemp_kelvin, 0); /* figure 247: nonzero since 1.2 */
    assert_true(id->cctemp_kelvin >= id->wctemp_kelvin);
    assert_int_equal(id->kas, 1);
    assert_int_equal(id->sqes, 0x66);
    assert_int_equal(id->cqes, 0x44);
    assert_int_equal(id->nn, LIMIT_NAMESPACES);
    assert_int_equal(id->fuses, 0);
    assert_int_equal(id->vwc, 0x07);
    assert_int_equal(id->sgls, 0);
    assert_int_equal(id->cmic, 0);
    assert_int_equal(id->sanicap, 0);
    assert_int_equal(id->hmpre, 0);
}

static void identify_ctrl_follows_the_configuration(void **state)
{
    (void)state;
    rig.config.doorbell_buffers = false;
    rig.config.keep_alive = false;
    rig.config.sgl = true;
    rig.config.sgls = BIT32(16);
    rig.config.namespace_count = 12;
    rig.config.mdts = 8;
    rig_restart();
    const struct nvme_identify_ctrl *id = identify_ctrl();
    assert_int_equal(id->oacs, 0);
    assert_int_equal(id->kas, 0);
    assert_int_equal(id->sgls, 0x10001);
    assert_int_equal(id->nn, 12);
    assert_int_equal(id->mdts, 8);
}

static void identify_ctrl_oncs_is_what_all_namespaces_can_do(void **state)
{
    (void)state;
    const uint16_t always = NVME_ONCS_DSM | NVME_ONCS_FEATURE_SELECT | NVME_ONCS_TIMESTAMP;
    const uint16_t all = always | NVME_ONCS_COMPARE | NVME_ONCS_WRITE_ZEROES | NVME_ONCS_VERIFY;
    assert_int_equal(identify_ctrl()->oncs, all);
    rig_attach(0, 1);
    assert_int_equal(identify_ctrl()->oncs, all);
    rig_attach_with(1, 2, BLK_FEATURE_COMPARE);
    assert_int_equal(identify_ctrl()->oncs, always | NVME_ONCS_COMPARE);
    rig_attach_with(2, 3, 0);
    assert_int_equal(identify_ctrl()->oncs, always);
}

static void identify_ctrl_oncs_has_reservations_for_a_host_with_an_identifier(void **state)
{
    (void)state;
    assert_int_equal(identify_ctrl()->oncs & NVME_ONCS_RESERVATIONS, 0);
    rig_attach_with(0, 1, BLK_FEATURE_RESERVATIONS);
    rig.devs[0].dev.geometry.reservation_types = 0x7f;
    assert_int_equal(identify_ctrl()->oncs & NVME_ONCS_RESERVATIONS, 0);
    assert_int_equal(identify_ns(NVME_CNS_NS, 1)->rescap, 0);
    rig.config.host_id[15] = 1;
    rig_restart();
    assert_int_equal(identify_ctrl()->oncs & NVME_ONCS_RESERVATIONS, NVME_ONCS_RESERVATIONS);
    rig_attach_with(0, 1, BLK_FEATURE_RESERVATIONS);
    rig.devs[0].dev.geometry.reservation_types = 0x7f;
    assert_int_equal(identify_ctrl()->oncs & NVME_ONCS_RESERVATIONS, NVME_ONCS_RESERVATIONS);
    assert_int_equal(identify_ns(NVME_CNS_NS, 1)->rescap, 0x7f);
    rig_attach(1, 2);
    rig.devs[1].dev.geometry.reservation_types = 0x7f; /* means nothing without the feature */
    assert_int_equal(identify_ctrl()->oncs & NVME_ONCS_RESERVATIONS, 0);
    assert_int_equal(identify_ns(NVME_CNS_NS, 2)->rescap, 0);
}

/* --- 5.15.2.2 and figure 245: namespace ----------------------------------------------------- */

static void identify_ns_active_has_size_and_format(void **state)
{
    (void)state;
    rig_attach(0, 3);
    const struct nvme_identify_ns *id = identify_ns(NVME_CNS_NS, 3);
    uint64_t bytes;
    memcpy(&bytes, id->nvmcap, sizeof(bytes));
    assert_int_equal(id->nsze, 1000);
    assert_int_equal(id->ncap, 1000);
    assert_int_equal(id->nuse, 1000);
    assert_int_equal(bytes, 512000);
    assert_int_equal(id->nlbaf, 0);
    assert_int_equal(id->flbas, 0);
    assert_int_equal(id->lbaf[0].lba_shift, 9);
    assert_int_equal(id->lbaf[0].metadata_bytes, 0);
    assert_int_equal(id->dps, 0);
    assert_int_equal(id->nsattr, 0);
}

static void identify_ns_of_4096_byte_blocks_says_so(void **state)
{
    (void)state;
    rig_dev_init(&rig.devs[0], BLK_FEATURE_READ_ONLY);
    rig.devs[0].dev.geometry.lba_shift = 12;
    assert_int_equal(nvme_ns_attach(rig.ctrl, 1, &rig.devs[0].dev), STATUS_OK);
    const struct nvme_identify_ns *id = identify_ns(NVME_CNS_NS, 1);
    assert_int_equal(id->lbaf[0].lba_shift, 12);
    assert_int_equal(id->nsattr, NVME_NSATTR_WRITE_PROTECTED);
}

/* Figure 244, CNS 00h: an inactive NSID gives zeroes. */
/* 6.4, 8.25: counts of blocks, most of them zeroes based. */
static void identify_ns_limits_are_those_of_the_device(void **state)
{
    (void)state;
    rig_attach(0, 1);
    rig.devs[0].dev.geometry.limits = (struct blk_limits){.atomic_write = 64,
                                                          .atomic_write_power_fail = 8,
                                                          .atomic_compare_write = 4,
                                                          .atomic_boundary = 128,
                                                          .atomic_boundary_power_fail = 16,
                                                          .optimal_boundary = 256,
                                                          .preferred_write = 8,
                                                          .preferred_write_align = 4,
                                                          .preferred_dealloc = 2048,
                                                          .preferred_dealloc_align = 2,
                                                          .optimal_write = 100000};
    const struct nvme_identify_ns *id = identify_ns(NVME_CNS_NS, 1);
    assert_int_equal(id->nsfeat, NVME_NSFEAT_ATOMICS | NVME_NSFEAT_PREFERRED);
    assert_int_equal(id->nawun, 63);
    assert_int_equal(id->nawupf, 7);
    assert_int_equal(id->nacwu, 0); /* FUSES is 0 */
    assert_int_equal(id->nabsn, 127);
    assert_int_equal(id->nabo, 0);
    assert_int_equal(id->nabspf, 15);
    assert_int_equal(id->noiob, 256);
    assert_int_equal(id->npwg, 7);
    assert_int_equal(id->npwa, 3);
    assert_int_equal(id->npdg, 2047);
    assert_int_equal(id->npda, 1);
    assert_int_equal(id->nows, 65535);
}

static void identify_ns_limits_that_are_not_reported_are_zero(void **state)
{
    (void)state;
    rig_attach(0, 1);
    const struct nvme_identify_ns *id = identify_ns(NVME_CNS_NS, 1);
    assert_int_equal(id->nsfeat, 0);
    assert_int_equal(id->nawun | id->nawupf | id->nacwu | id->nabsn | id->nabspf | id->noiob, 0);
    assert_int_equal(id->npwg | id->npwa | id->npdg | id->npda | id->nows, 0);
}

static void identify_ns_limits_that_do_not_go_together_are_cut(void **state)
{
    (void)state;
    rig_attach(0, 1);
    struct blk_limits *limits = &rig.devs[0].dev.geometry.limits;
    *limits = (struct blk_limits){
        .atomic_write = 64, .atomic_boundary = 16, .atomic_write_power_fail = 32};
    assert_int_equal(identify_ns(NVME_CNS_NS, 1)->nawun, 15);
    assert_int_equal(identify_ns(NVME_CNS_NS, 1)->nawupf, 15);
    *limits = (struct blk_limits){.optimal_boundary = 65536, .atomic_write_power_fail = 32};
    const struct nvme_identify_ns *id = identify_ns(NVME_CNS_NS, 1);
    assert_int_equal(id->noiob, 0); /* cannot be said in 16 bits */
    assert_int_equal(id->nawupf, 0);
    assert_int_equal(id->nsfeat, NVME_NSFEAT_ATOMICS);
}

static void identify_ns_inactive_is_zero_filled(void **state)
{
    (void)state;
    rig_attach(0, 1);
    identify_ns(NVME_CNS_NS, 2);
    assert_zeroes();
    identify_ns(NVME_CNS_NS, LIMIT_NAMESPACES);
    assert_zeroes();
    identify_ns(NVME_CNS_ALLOCATED_NS, 2);
    assert_zeroes();
}

static void identify_ns_invalid_nsid_is_refused(void **state)
{
    (void)state;
    const uint32_t bad[] = {0, LIMIT_NAMESPACES + 1, 0xfffffffe, NVME_NSID_ALL};
    for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_refused_at(identify(NVME_CNS_NS, bad[i]), NVME_SC_INVALID_NS_OR_FORMAT, 4);
        assert_refused(identify(NVME_CNS_ALLOCATED_NS, bad[i]), NVME_SC_INVALID_NS_OR_FORMAT);
        assert_refused(identify(NVME_CNS_NS_CTRL_LIST, bad[i]), bad[i] == NVME_NSID_ALL
                                                                    ? NVME_SC_INVALID_FIELD
                                                                    : NVME_SC_INVALID_NS_OR_FORMAT);
    }
}

/* A device that does not know its size yet: allocated, not active. */
static void identify_ns_of_unknown_geometry_is_allocated_and_inactive(void **state)
{
    (void)state;
    rig_dev_init(&rig.devs[0], 0);
    rig.devs[0].dev.geometry.known = false;
    assert_int_equal(nvme_ns_attach(rig.ctrl, 5, &rig.devs[0].dev), STATUS_OK);
    assert_int_equal(identify_list(NVME_CNS_ACTIVE_NS_LIST, 0)[0], 0);
    assert_int_equal(identify_list(NVME_CNS_ALLOCATED_NS_LIST, 0)[0], 5);
    identify_ns(NVME_CNS_NS, 5);
    assert_zeroes();
    identify_ns(NVME_CNS_ALLOCATED_NS, 5);
    assert_zeroes();
    assert_refused(identify(NVME_CNS_NS_DESCRIPTORS, 5), NVME_SC_INVALID_FIELD);
}

static void identify_ns_allocated_and_active_is_the_same(void **state)
{
    (void)state;
    rig_attach(0, 1);
    assert_int_equal(identify_ns(NVME_CNS_ALLOCATED_NS, 1)->nsze, 1000);
}

/* --- figure 244, CNS 02h and 10h: lists ----------------------------------------------------- */

static void identify_list_is_ascending_and_above_nsid(void **state)
{
    (void)state;
    rig_attach(0, 9);
    rig_attach(1, 2);
    rig_attach(2, LIMIT_NAMESPACES);
    const uint32_t *list = identify_list(NVME_CNS_ACTIVE_NS_LIST, 0);
    assert_int_equal(list[0], 2);
    assert_int_equal(list[1], 9);
    assert_int_equal(list[2], LIMIT_NAMESPACES);
    assert_int_equal(list[3], 0);
    list = identify_list(NVME_CNS_ALLOCATED_NS_LIST, 2);
    assert_int_equal(list[0], 9);
    assert_int_equal(list[1], LIMIT_NAMESPACES);
    identify_list(NVME_CNS_ACTIVE_NS_LIST, LIMIT_NAMESPACES);
    assert_zeroes();
    identify_list(NVME_CNS_ACTIVE_NS_LIST, 0xfffffffd);
    assert_zeroes();
}

/* Figure 244: FFFFFFFEh and FFFFFFFFh leave nothing above them. */
static void identify_list_of_the_last_two_nsids_is_refused(void **state)
{
    (void)state;
    assert_refused(identify(NVME_CNS_ACTIVE_NS_LIST, 0xfffffffe), NVME_SC_INVALID_NS_OR_FORMAT);
    assert_refused(identify(NVME_CNS_ACTIVE_NS_LIST, 0xffffffff), NVME_SC_INVALID_NS_OR_FORMAT);
    assert_refused(identify(NVME_CNS_ALLOCATED_NS_LIST, 0xffffffff), NVME_SC_INVALID_NS_OR_FORMAT);
}

/* --- 5.15.2.3 and figure 249: descriptors --------------------------------------------------- */

static void identify_descriptors_are_those_of_the_device(void **state)
{
    (void)state;
    rig_dev_init(&rig.devs[0], 0);
    memset(rig.devs[0].dev.geometry.eui64, 0x11, 8);
    memset(rig.devs[0].dev.geometry.nguid, 0x22, 16);
    memset(rig.devs[0].dev.geometry.uuid, 0x33, 16);
    assert_int_equal(nvme_ns_attach(rig.ctrl, 1, &rig.devs[0].dev), STATUS_OK);
    assert_ended(identify(NVME_CNS_NS_DESCRIPTORS, 1), NVME_SC_SUCCESS);
    assert_memory_equal(rig.data, ((uint8_t[]){1, 8, 0, 0, 0x11, 0x11}), 6);
    assert_memory_equal(rig.data + 12, ((uint8_t[]){2, 16, 0, 0, 0x22, 0x22}), 6);
    assert_memory_equal(rig.data + 32, ((uint8_t[]){3, 16, 0, 0, 0x33, 0x33}), 6);
    assert_memory_equal(rig.data + 52, ((uint8_t[]){0, 0, 0, 0}), 4);
    const struct nvme_identify_ns *id = identify_ns(NVME_CNS_NS, 1);
    assert_int_equal(id->nguid[15], 0x22);
    assert_int_equal(id->eui64[7], 0x11);
}

static void identify_descriptors_of_a_device_with_one_name_hold_that_alone(void **state)
{
    (void)state;
    for (uint32_t which = 0; which < 2; which++) {
        struct rig_dev *dev = &rig.devs[which];
        rig_dev_init(dev, 0);
        memset(which == 0 ? dev->dev.geometry.eui64 : dev->dev.geometry.uuid, 0x11, 8);
        assert_int_equal(nvme_ns_attach(rig.ctrl, which + 1, &dev->dev), STATUS_OK);
        assert_ended(identify(NVME_CNS_NS_DESCRIPTORS, which + 1), NVME_SC_SUCCESS);
        assert_int_equal(rig.data[0], which == 0 ? NVME_NIDT_EUI64 : NVME_NIDT_UUID);
        assert_int_equal(rig.data[4 + rig.data[1]], 0);
        assert_int_equal(identify_ns(NVME_CNS_NS, which + 1)->nguid[0], 0);
    }
}

/* "A controller shall return at least one descriptor", and it stays the same. */
static void identify_descriptors_of_a_nameless_device_are_made_up_once(void **state)
{
    (void)state;
    uint8_t first[20], second[20];
    rig_attach(0, 1);
    rig_attach(1, 2);
    assert_ended(identify(NVME_CNS_NS_DESCRIPTORS, 1), NVME_SC_SUCCESS);
    memcpy(first, rig.data, sizeof(first));
    assert_memory_equal(first, ((uint8_t[]){2, 16, 0, 0}), 4);
    assert_memory_equal(first + 4 + 8, ((uint8_t[]){3, 2, 1}), 3); /* OUI, big endian */
    assert_int_equal(rig.data[20], 0);
    assert_ended(identify(NVME_CNS_NS_DESCRIPTORS, 2), NVME_SC_SUCCESS);
    assert_memory_not_equal(first, rig.data, sizeof(first));
    nvme_ctrl_disable(rig.ctrl);
    rig_restart();
    rig_attach(0, 1);
    assert_ended(identify(NVME_CNS_NS_DESCRIPTORS, 1), NVME_SC_SUCCESS);
    memcpy(second, rig.data, sizeof(second));
    assert_memory_equal(first, second, sizeof(first));
    assert_memory_equal(identify_ns(NVME_CNS_NS, 1)->nguid, first + 4, 16);
}

static void identify_descriptors_without_namespace_are_refused(void **state)
{
    (void)state;
    assert_refused(identify(NVME_CNS_NS_DESCRIPTORS, 0), NVME_SC_INVALID_NS_OR_FORMAT);
    assert_refused(identify(NVME_CNS_NS_DESCRIPTORS, NVME_NSID_ALL), NVME_SC_INVALID_NS_OR_FORMAT);
    assert_refused(identify(NVME_CNS_NS_DESCRIPTORS, LIMIT_NAMESPACES + 1),
                   NVME_SC_INVALID_NS_OR_FORMAT);
    assert_refused(identify(NVME_CNS_NS_DESCRIPTORS, 1), NVME_SC_INVALID_FIELD);
}

/* --- 4.9, CNS 12h and 13h: controller lists ------------------------------------------------- */

static void identify_ctrl_list_starts_at_cntid(void **state)
{
    (void)state;
    rig_attach(0, 1);
    assert_ended(identify(NVME_CNS_CTRL_LIST, 0), NVME_SC_SUCCESS);
    assert_memory_equal(rig.data, ((uint8_t[]){1, 0, 7, 0, 0, 0}), 6);
    assert_ended(identify(NVME_CNS_CTRL_LIST | 7u << 16, 0), NVME_SC_SUCCESS);
    assert_int_equal(rig.data[0], 1);
    assert_ended(identify(NVME_CNS_CTRL_LIST | 8u << 16, 0), NVME_SC_SUCCESS);
    assert_zeroes();
    assert_ended(identify(NVME_CNS_NS_CTRL_LIST, 1), NVME_SC_SUCCESS);
    assert_memory_equal(rig.data, ((uint8_t[]){1, 0, 7, 0, 0, 0}), 6);
    assert_ended(identify(NVME_CNS_NS_CTRL_LIST, 2), NVME_SC_SUCCESS);
    assert_zeroes();
}

/* --- the command itself --------------------------------------------------------------------- */

/* Figure 244: 04h, 14h to 17h and reserved values are not offered. */
static void identify_other_cns_is_an_invalid_field(void **state)
{
    (void)state;
    for (uint32_t cns = 0; cns < 256; cns++) {
        if (cns <= 3 || (cns >= 0x10 && cns <= 0x13)) {
            continue;
        }
        assert_refused_at(identify(cns, 1), NVME_SC_INVALID_FIELD, 40);
        assert_int_equal(rig.map_len_bytes, 0);
    }
}

static void identify_writes_4096_bytes_and_no_more(void **state)
{
    (void)state;
    assert_ended(identify(NVME_CNS_CTRL, 0), NVME_SC_SUCCESS);
    assert_int_equal(rig.map_len_bytes, 4096);
    assert_int_equal(rig.map_dir, NVME_DIR_FROM_CONTROLLER);
    assert_int_equal(rig.data[4095], 0);
    assert_int_equal(rig.data[4096], 0xee);
}

static void identify_bad_data_pointer_ends_with_its_status(void **state)
{
    (void)state;
    rig.map_fail_after = 1;
    rig.map_status = NVME_SC_INVALID_PRP_OFFSET | NVME_STATUS_DNR;
    assert_refused(identify(NVME_CNS_CTRL, 0), NVME_SC_INVALID_PRP_OFFSET);
    assert_int_equal(rig.data[0], 0xee);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(identify_ctrl_names_are_space_padded),
        TEST(identify_ctrl_fields_say_what_is_offered),
        TEST(identify_ctrl_follows_the_configuration),
        TEST(identify_ctrl_oncs_is_what_all_namespaces_can_do),
        TEST(identify_ctrl_oncs_has_reservations_for_a_host_with_an_identifier),
        TEST(identify_ns_limits_are_those_of_the_device),
        TEST(identify_ns_limits_that_are_not_reported_are_zero),
        TEST(identify_ns_limits_that_do_not_go_together_are_cut),
        TEST(identify_ns_active_has_size_and_format),
        TEST(identify_ns_of_4096_byte_blocks_says_so),
        TEST(identify_ns_inactive_is_zero_filled),
        TEST(identify_ns_invalid_nsid_is_refused),
        TEST(identify_ns_of_unknown_geometry_is_allocated_and_inactive),
        TEST(identify_ns_allocated_and_active_is_the_same),
        TEST(identify_list_is_ascending_and_above_nsid),
        TEST(identify_list_of_the_last_two_nsids_is_refused),
        TEST(identify_descriptors_are_those_of_the_device),
        TEST(identify_descriptors_of_a_device_with_one_name_hold_that_alone),
        TEST(identify_descriptors_of_a_nameless_device_are_made_up_once),
        TEST(identify_descriptors_without_namespace_are_refused),
        TEST(identify_ctrl_list_starts_at_cntid),
        TEST(identify_other_cns_is_an_invalid_field),
        TEST(identify_writes_4096_bytes_and_no_more),
        TEST(identify_bad_data_pointer_ends_with_its_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
