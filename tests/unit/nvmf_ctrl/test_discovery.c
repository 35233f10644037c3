/* Discovery: logs in pieces, logs that change meanwhile, referrals, and services that lie. */
#include <stdlib.h>
#include "tests/unit/nvmf_ctrl/rig.h"

#define FOUND_MAX 64

static struct {
    struct nvmf_discovery_entry entries[FOUND_MAX];
    uint32_t depths[FOUND_MAX];
    uint32_t count;
    uint32_t done_count;
    enum nvmf_fail fail;
    uint32_t code;
    void *memory;
} seen;

static void on_found(const struct nvmf_discovery_entry *entry, uint32_t depth, void *ctx)
{
    assert_ptr_equal(ctx, &seen);
    assert_true(seen.count < FOUND_MAX);
    assert_int_equal(seen.done_count, 0);
    seen.depths[seen.count] = depth;
    seen.entries[seen.count++] = *entry;
}

static void on_done(enum nvmf_fail fail, uint32_t code, void *ctx)
{
    assert_ptr_equal(ctx, &seen);
    seen.done_count++;
    seen.fail = fail;
    seen.code = code;
    free(seen.memory);
}

static struct nvmf_discovery_config config(void)
{
    return (struct nvmf_discovery_config){.fn = 1,
                                          .addr = net_addr_ipv4(192, 0, 2, 1),
                                          .hostnqn = "nqn.2014-08.org.example:host",
                                          .found = on_found,
                                          .done = on_done,
                                          .ctx = &seen};
}

static void start(void)
{
    struct nvmf_discovery_config c = config();
    uint64_t bytes = nvmf_discovery_memory_bytes();

    memset(&seen, 0, sizeof(seen));
    seen.memory = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    memset(seen.memory, 0, bytes);
    assert_int_equal(nvmf_discover(seen.memory, &c), STATUS_OK);
}

static void run(void)
{
    for (uint32_t i = 0; i < 200000 && seen.done_count == 0; i++) {
        rig_turn();
    }
    assert_int_equal(seen.done_count, 1);
}

static void discover(void)
{
    start();
    run();
}

static struct nvmf_discovery_entry *add(struct fake_target *t, const char *nqn)
{
    struct nvmf_discovery_header header;
    struct nvmf_discovery_entry entry;

    memcpy(&header, t->log[0], sizeof(header));
    header.numrec++;
    memcpy(t->log[0], &header, sizeof(header));
    memset(&entry, 0, sizeof(entry));
    entry.trtype = NVMF_TRTYPE_RDMA;
    entry.adrfam = NVMF_ADRFAM_IPV4;
    entry.subtype = NVMF_SUBTYPE_NVME;
    memset(entry.trsvcid, ' ', sizeof(entry.trsvcid));
    memcpy(entry.trsvcid, "4420", 4);
    memset(entry.traddr, ' ', sizeof(entry.traddr));
    memcpy(entry.traddr, "192.0.2.1", 9);
    memcpy(entry.subnqn, nqn, strlen(nqn));
    memcpy(t->log[header.numrec], &entry, sizeof(entry));
    return (struct nvmf_discovery_entry *)t->log[header.numrec];
}

static void refer(struct fake_target *t, const char *port)
{
    struct nvmf_discovery_entry *entry = add(t, NVMF_DISCOVERY_NQN);

    entry->subtype = NVMF_SUBTYPE_REFERRAL;
    memset(entry->trsvcid, 0, sizeof(entry->trsvcid));
    memcpy(entry->trsvcid, port, strlen(port));
}

static void discovery_tells_every_entry(void **state)
{
    char nqn[8] = "nqn.a";
    (void)state;
    rig_init(1);
    for (uint32_t i = 0; i < 10; i++) {
        nqn[4] = (char)('a' + i);
        (void)add(rig.target, nqn);
    }
    discover();
    assert_int_equal(seen.fail, NVMF_FAIL_NONE);
    assert_int_equal(seen.count, 10);
    for (uint32_t i = 0; i < 10; i++) {
        nqn[4] = (char)('a' + i);
        assert_string_equal(seen.entries[i].subnqn, nqn);
        assert_string_equal(seen.entries[i].traddr, "192.0.2.1"); /* stripped */
        assert_string_equal(seen.entries[i].trsvcid, "4420");
        assert_int_equal(seen.depths[i], 0);
    }
    assert_string_equal(rig.target->nqn, NVMF_DISCOVERY_NQN);
    assert_int_equal(rig.target->params[0].kato_ms, 0);
    assert_int_equal(rig.target->params[0].cntlid, NVMF_CNTLID_DYNAMIC);
    /* Header, three pieces of at most 4 KiB, header again. */
    assert_int_equal(rig.target->log_count[NVMF_LOG_DISCOVERY], 5);
    rig_end();
}

static void discovery_of_an_empty_log_is_done(void **state)
{
    (void)state;
    rig_init(1);
    discover();
    assert_int_equal(seen.fail, NVMF_FAIL_NONE);
    assert_int_equal(seen.count, 0);
    rig_end();
}

static void discovery_runs_beside_an_association(void **state)
{
    (void)state;
    rig_init(2);
    struct fake_target *service = fake_target_add(8009);
    (void)add(service, "nqn.a");
    rig_up();
    struct nvmf_discovery_config c = config();
    c.port = 8009;
    memset(&seen, 0, sizeof(seen));
    seen.memory = calloc(1, nvmf_discovery_memory_bytes() + 4096);
    void *whole = seen.memory;
    void *aligned = (void *)(((uintptr_t)whole + 4095) & ~(uintptr_t)4095);
    assert_int_equal(nvmf_discover(aligned, &c), STATUS_OK);
    assert_int_equal(nvmf_discover(aligned, &c), STATUS_AGAIN);
    run();
    assert_int_equal(seen.count, 1);
    assert_int_equal(rig_info(rig.ctrl).state, NVMF_CTRL_LIVE);
    rig_end();
}

/* 5.3: GENCTR tells that the log changed; nothing is told twice. */
static void discovery_of_a_changing_log_reads_again(void **state)
{
    (void)state;
    rig_init(1);
    (void)add(rig.target, "nqn.a");
    (void)add(rig.target, "nqn.b");
    rig.target->log_change_count = 2;
    discover();
    assert_int_equal(seen.fail, NVMF_FAIL_NONE);
    assert_int_equal(seen.count, 2);
    assert_int_equal(rig.target->log_count[NVMF_LOG_DISCOVERY], 9);

    rig_init(1);
    (void)add(rig.target, "nqn.a");
    rig.target->log_change_count = 1000;
    discover();
    assert_int_equal(seen.fail, NVMF_FAIL_PROTOCOL);
    assert_int_equal(seen.count, 1);
    rig_end();
}

static void referrals_are_followed_once_each(void **state)
{
    (void)state;
    rig_init(1);
    struct fake_target *b = fake_target_add(4421);
    struct fake_target *c = fake_target_add(4422);
    (void)add(rig.target, "nqn.a");
    refer(rig.target, "4421");
    refer(rig.target, "4420"); /* itself */
    (void)add(b, "nqn.b");
    refer(b, "4420"); /* back */
    refer(b, "4422");
    (void)add(c, "nqn.c");
    refer(c, "4421");
    discover();
    assert_int_equal(seen.fail, NVMF_FAIL_NONE);
    assert_int_equal(seen.count, 8);
    assert_string_equal(seen.entries[3].subnqn, "nqn.b");
    assert_int_equal(seen.depths[3], 1);
    assert_string_equal(seen.entries[6].subnqn, "nqn.c");
    assert_int_equal(seen.depths[6], 2);
    assert_int_equal(rig.target->connect_count, 1);
    assert_int_equal(b->connect_count, 1);
    assert_int_equal(c->connect_count, 1);
    rig_end();
}

static void referrals_to_nowhere_are_no_failure(void **state)
{
    (void)state;
    rig_init(1);
    refer(rig.target, "9");
    refer(rig.target, "99999");
    refer(rig.target, "http");
    refer(rig.target, "0");
    memcpy(rig.target->log[1 + 3] + offsetof(struct nvmf_discovery_entry, traddr), "elsewhere", 9);
    refer(rig.target, "4421");
    struct fake_target *b = fake_target_add(4421);
    b->open_fail[0] = NVMF_FAIL_BAD_HOSTNQN;
    discover();
    assert_int_equal(seen.fail, NVMF_FAIL_NONE);
    assert_int_equal(seen.count, 5);
    rig_end();
}

static void referrals_without_end_are_bounded(void **state)
{
    char port[6] = "44200";
    (void)state;
    rig_init(1);
    for (uint32_t i = 0; i < 10; i++) {
        port[4] = (char)('0' + i);
        refer(rig.target, port);
    }
    for (uint32_t i = 0; i < 10; i++) {
        (void)fake_target_add((uint16_t)(44200 + i));
    }
    discover();
    uint32_t asked = 0;
    for (uint32_t i = 0; i < fake.target_count; i++) {
        asked += fake.targets[i].connect_count;
    }
    assert_int_equal(asked, 8);
    rig_end();
}

static void hostile_logs_do_no_harm(void **state)
{
    struct nvmf_discovery_header header = {.numrec = 0, .recfmt = 1};
    (void)state;
    rig_init(1);
    memcpy(rig.target->log[0], &header, sizeof(header));
    discover();
    assert_int_equal(seen.fail, NVMF_FAIL_PROTOCOL);

    rig_init(1); /* text without end, and not printable */
    (void)add(rig.target, "nqn.a");
    uint8_t *entry = rig.target->log[1];
    memset(entry + offsetof(struct nvmf_discovery_entry, subnqn), 0x1b, 256);
    memset(entry + offsetof(struct nvmf_discovery_entry, traddr), '1', 256);
    memset(entry + offsetof(struct nvmf_discovery_entry, trsvcid), '9', 32);
    entry[offsetof(struct nvmf_discovery_entry, subtype)] = NVMF_SUBTYPE_REFERRAL;
    discover();
    assert_int_equal(seen.count, 1);
    assert_int_equal(strlen(seen.entries[0].subnqn), 255);
    assert_int_equal(seen.entries[0].subnqn[0], '?');
    assert_int_equal(strlen(seen.entries[0].trsvcid), 31);
    rig_end();
}

static void failures_of_the_service_are_told(void **state)
{
    (void)state;
    rig_init(1);
    rig.target->open_fail[0] = NVMF_FAIL_CM_REJECTED;
    rig.target->open_code = 28;
    discover();
    assert_int_equal(seen.fail, NVMF_FAIL_CM_REJECTED);
    assert_int_equal(seen.code, 28);

    rig_init(1);
    rig.target->never_ready = true;
    discover();
    assert_int_equal(seen.fail, NVMF_FAIL_NOT_READY);

    rig_init(1);
    rig.step_ns = NS_PER_MS;
    rig.target->opens_never[0] = true;
    uint64_t from_ns = clock_now_ns();
    discover();
    assert_int_equal(seen.fail, NVMF_FAIL_COMMAND_TIMEOUT);
    assert_true(clock_now_ns() - from_ns >= 10 * NS_PER_S);
    assert_true(clock_now_ns() - from_ns <= 10100 * NS_PER_MS);

    /* Every command in its turn. */
    static const enum fake_fault faults[] = {FAKE_STATUS, FAKE_SILENT, FAKE_LOSE};
    static const enum nvmf_fail fails[] = {NVMF_FAIL_COMMAND_FAILED, NVMF_FAIL_COMMAND_TIMEOUT,
                                           NVMF_FAIL_TRANSPORT};
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t n = 1; n <= 5; n++) { /* CC, CSTS, header, entries, header */
            rig_init(1);
            (void)add(rig.target, "nqn.a");
            rig.target->fault_number = n;
            rig.target->fault = faults[i];
            rig.target->fault_status = NVME_SC_INTERNAL_ERROR;
            discover();
            assert_int_equal(seen.fail, fails[i]);
            assert_int_equal(seen.count, n == 5);
            rig_end();
        }
    }
}

static void bad_configuration_is_invalid(void **state)
{
    static _Alignas(4096) uint8_t memory[65536];
    struct nvmf_discovery_config c = config();
    (void)state;
    rig_init(1);
    c.hostnqn = "";
    assert_int_equal(nvmf_discover(memory, &c), STATUS_INVALID);
    c = config();
    c.fn = LIMIT_FUNCTIONS;
    assert_int_equal(nvmf_discover(memory, &c), STATUS_INVALID);
    c = config();
    c.addr = (struct net_addr){{0}};
    assert_int_equal(nvmf_discover(memory, &c), STATUS_INVALID);
    c = config();
    fake.scratch_status = STATUS_NO_SPACE;
    assert_int_equal(nvmf_discover(memory, &c), STATUS_NO_SPACE);
    rig_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(discovery_tells_every_entry),
        cmocka_unit_test(discovery_of_an_empty_log_is_done),
        cmocka_unit_test(discovery_runs_beside_an_association),
        cmocka_unit_test(discovery_of_a_changing_log_reads_again),
        cmocka_unit_test(referrals_are_followed_once_each),
        cmocka_unit_test(referrals_to_nowhere_are_no_failure),
        cmocka_unit_test(referrals_without_end_are_bounded),
        cmocka_unit_test(hostile_logs_do_no_harm),
        cmocka_unit_test(failures_of_the_service_are_told),
        cmocka_unit_test(bad_configuration_is_invalid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
