/*
 * The fabric side's start: what of it there is when memory or places run out.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "app/app_priv.h"
#include "base/log.h"
#include "hal/clock.h"
#include "hal/cpu.h"
#include "hal/native/native.h"
#include "tests/sim/wire.h"

#define POOL_BYTES (UINT64_C(1) << 30)

static struct {
    struct board board;
    struct wire *wire;
    uint8_t seed[RNG_SEED_BYTES];
    uint32_t opened; /* RNICs that were asked for, one bit each */
    char log[4096];
    size_t log_bytes;
} t;

/* What a board has and these tests do not come to. */
void board_reset(void)
{
    abort();
}

void board_exit(int code)
{
    exit(code);
}

void board_seal_heap(void)
{
    abort();
}

static void keep(const char *bytes, size_t len_bytes)
{
    if (len_bytes < sizeof(t.log) - t.log_bytes) {
        memcpy(t.log + t.log_bytes, bytes, len_bytes);
        t.log_bytes += len_bytes;
    }
}

static enum status open_none(uint32_t index, struct rdma_device **out)
{
    assert_true(index < 32);
    t.opened |= 1u << index;
    *out = NULL;
    return STATUS_UNSUPPORTED;
}

static void turn(void)
{
    for (uint32_t i = 0; i < 100; i++) {
        (void)sched_turn();
    }
}

/* `ports` Ethernet ports, `rnics` RNICs, `pool_bytes` of memory. */
static void start(uint32_t ports, uint32_t rnics, uint64_t pool_bytes, const char *config)
{
    static const struct log_sink sink = {keep, clock_now_ns, cpu_self};
    struct wire_config wire = {.seed = 1, .port_count = ports == 0 ? 1 : ports};

    memset(&t, 0, sizeof(t));
    memset(&app, 0, sizeof(app));
    native_clock_set(100 * NS_PER_S);
    sched_init(1, SCHED_IDLE_POLL);
    log_set_sink(&sink);
    t.wire = wire_open(&wire);
    t.board = (struct board){.config = config,
                             .core_count = 1,
                             .eth_count = ports,
                             .rdma_count = rnics,
                             .rdma_open = open_none,
                             .pool_is_zero = true,
                             .pool_bytes = pool_bytes,
                             .rng_seed = t.seed,
                             .rng_seed_bytes = sizeof(t.seed)};
    for (uint32_t i = 0; i < ports; i++) {
        t.board.eths[i] = wire_port(t.wire, i);
    }
    t.board.pool_base = mmap(NULL, POOL_BYTES, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(t.board.pool_base, MAP_FAILED);
    app.board = &t.board;
    app.pool_next = t.board.pool_base;
    app.pool_left = pool_bytes;
    char error[160];
    uint32_t ignored;
    assert_int_equal(config_parse(config, &app.config, &ignored, error, sizeof(error)), STATUS_OK);
    app_fabric_start();
    turn();
}

static void stop(void)
{
    log_set_sink(NULL);
    wire_close(t.wire);
    munmap(t.board.pool_base, POOL_BYTES);
    native_clock_use_real();
}

#define CONFIG "ip=192.0.2.1/24 diag=rping,perf"

/* What one port with all its services takes. */
static uint64_t bytes_of_all(void)
{
    start(1, 0, POOL_BYTES, CONFIG);
    uint64_t used = POOL_BYTES - app.pool_left;
    assert_true(app.fabrics[0].is_up);
    assert_non_null(app.fabrics[0].rping_client);
    assert_non_null(app.fabrics[0].rping);
    assert_non_null(app.fabrics[0].perf);
    stop();
    return used;
}

static void service_without_memory_leaves_the_others(void **state)
{
    (void)state;
    uint64_t all = bytes_of_all();

    start(1, 0, all - 4096, CONFIG);
    assert_true(app.fabrics[0].is_up);
    assert_non_null(app.fabrics[0].rping_client);
    assert_non_null(app.fabrics[0].rping);
    assert_null(app.fabrics[0].perf);
    assert_non_null(strstr(t.log, "rdma0: perf: "));
    stop();
}

static void port_without_memory_for_any_service_is_up(void **state)
{
    (void)state;
    start(1, 0, POOL_BYTES, "ip=192.0.2.1/24");
    struct app_fabric *fabric = &app.fabrics[0];
    uint64_t used = POOL_BYTES - app.pool_left;
    uint64_t client = diag_rping_client_memory_bytes(fabric->rdma);
    stop();

    start(1, 0, used - client, CONFIG);
    assert_true(fabric->is_up);
    assert_non_null(fabric->rdma);
    assert_null(fabric->rping_client);
    assert_null(fabric->rping);
    assert_null(fabric->perf);
    stop();
}

static void rnics_beyond_the_places_are_told_of(void **state)
{
    (void)state;
    start(2, 3, POOL_BYTES, "ip=192.0.2.1/24");
    assert_int_equal(app.fabric_count, LIMIT_ETH_PORTS);
    assert_int_equal(t.opened, 3);
    assert_non_null(strstr(t.log, "RNIC 2 and those behind it are not used"));
    stop();
}

static void rnics_of_a_board_without_seed_are_opened(void **state)
{
    (void)state;
    start(0, 0, POOL_BYTES, "");
    t.board.eth_count = 1;
    t.board.rng_seed_bytes = 0;
    t.board.rdma_count = 1;
    app_fabric_start();
    assert_int_equal(app.fabric_count, 1);
    assert_int_equal(t.opened, 1);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(service_without_memory_leaves_the_others),
        cmocka_unit_test(port_without_memory_for_any_service_is_up),
        cmocka_unit_test(rnics_beyond_the_places_are_told_of),
        cmocka_unit_test(rnics_of_a_board_without_seed_are_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
