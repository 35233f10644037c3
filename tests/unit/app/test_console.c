/*
 * Console commands about the fabric: their answers, as who types them sees them.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "app/console_priv.h"
#include "app/rig.h"
#include "hal/native/native.h"
#include "tests/sim/wire.h"

static int console_fd;
static char said[65536];

/* What was said since the last look. */
static const char *look(void)
{
    ssize_t got = pread(console_fd, said, sizeof(said) - 1, 0);
    assert_true(got >= 0);
    said[got] = '\0';
    assert_int_equal(ftruncate(console_fd, 0), 0);
    assert_int_equal(lseek(console_fd, 0, SEEK_SET), 0);
    return said;
}

/* The answer to a command that was given, for which the clock goes on. */
static const char *answer(void)
{
    for (uint32_t i = 0; i < 60000 && console_is_pending(); i++) {
        rig_advance(NS_PER_MS);
    }
    assert_false(console_is_pending());
    return look();
}

static const char *rping(const char *words)
{
    char arguments[80];
    (void)look();
    snprintf(arguments, sizeof(arguments), "%s", words);
    console_rping(arguments);
    return answer();
}

static void assert_says(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        fail_msg("no \"%s\" in:\n%s", part, text);
    }
}

static int setup(void **state)
{
    (void)state;
    console_fd = memfd_create("console", 0);
    assert_true(console_fd >= 0);
    native_console_set_fd(console_fd);
    rig_start(2, 0, RIG_POOL_BYTES, "ip=192.0.2.1/24 ip.1=192.0.2.2/24 diag=rping");
    rig_advance(5 * NS_PER_S); /* addresses are probed first */
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_stop();
    native_console_set_fd(1);
    close(console_fd);
    return 0;
}

static void rping_tells_of_all_connections(void **state)
{
    (void)state;
    const char *text = rping("192.0.2.2 3 100 4");
    assert_says(text, "rping.end done\n");
    assert_says(text, "rping.pings 12\n");
    assert_says(text, "rping.mismatches 0\n");
    assert_says(text, "rping.average_us ");
}

static void ignore(struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    (void)id, (void)event;
}

/* While the first connection is at work, others take all that CM has. */
static void rping_that_cannot_go_on_says_why(void **state)
{
    (void)state;
    static struct rdma_cm_id *ids[LIMIT_RDMA_CM_IDS];
    struct net_addr nobody = net_addr_ipv4(192, 0, 2, 77);
    char arguments[] = "192.0.2.2 2000 64 2";
    uint32_t count = 0;

    console_rping(arguments);
    rig_advance(20 * NS_PER_MS);
    assert_true(console_is_pending());
    while (rdma_cm_resolve(app.fabrics[0].rdma, &nobody, 7174, ignore, NULL, &ids[count]) ==
           STATUS_OK) {
        count++;
    }
    const char *text = answer();
    assert_says(text, "rping.end a limit of base/limits.h is reached\n");
    assert_says(text, "rping.pings 2000\n");
    while (count > 0) {
        rdma_cm_destroy(ids[--count]);
    }
}

static void rping_cut_off_tells_of_what_was_before(void **state)
{
    (void)state;
    char arguments[] = "192.0.2.2 2000 64 1";
    console_rping(arguments);
    rig_advance(20 * NS_PER_MS);
    wire_cut(rig.wire, 1, true);
    const char *text = answer();
    assert_null(strstr(text, "rping.end done"));
    assert_says(text, "rping.average_us ");
}

static void rping_out_of_range_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "192.0.2.2 0",      "192.0.2.2 1000001",    "192.0.2.2 1 31",      "192.0.2.2 1 65537",
        "192.0.2.2 1 64 0", "192.0.2.2 1 64 10001", "192.0.2.2 4294967296"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_says(rping(bad[i]), "COUNT 1 to 1000000, SIZE 32 to 65535, CONNECTIONS 1 to 10000");
    }
}

static void rdma_shows_the_counters_of_cm(void **state)
{
    (void)state;
    (void)rping("192.0.2.2 1");
    console_rdma();
    const char *text = answer();
    assert_says(text, "cm0.established 1\n");
    assert_says(text, "cm1.established 1\n");
    assert_says(text, "cm0.tx_errors 0\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rping_tells_of_all_connections, setup, teardown),
        cmocka_unit_test_setup_teardown(rping_that_cannot_go_on_says_why, setup, teardown),
        cmocka_unit_test_setup_teardown(rping_cut_off_tells_of_what_was_before, setup, teardown),
        cmocka_unit_test_setup_teardown(rping_out_of_range_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(rdma_shows_the_counters_of_cm, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
