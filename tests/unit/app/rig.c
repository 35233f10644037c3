#include "app/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/log.h"
#include "hal/cpu.h"
#include "hal/native/native.h"
#include "tests/sim/wire.h"

struct rig rig;

/* What a board has and these tests do not come to. */
void board_keep(const void *base, size_t len_bytes)
{
    (void)base;
    (void)len_bytes;
}

void board_reset(void)
{
    if (rig.on_reset != NULL) {
        longjmp(*rig.on_reset, 1);
    }
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
    if (len_bytes < sizeof(rig.log) - rig.log_bytes) {
        memcpy(rig.log + rig.log_bytes, bytes, len_bytes);
        rig.log_bytes += len_bytes;
    }
}

void rig_compile(const char *source, uint8_t *blob, size_t blob_bytes)
{
    char name[] = "/tmp/config_tree_XXXXXX";
    char command[100];
    int fd = mkstemp(name);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, source, strlen(source)), strlen(source));
    close(fd);
    snprintf(command, sizeof(command), "dtc -q -I dts -O dtb %s", name);
    FILE *dtc = popen(command, "r");
    assert_non_null(dtc);
    size_t bytes = fread(blob, 1, blob_bytes, dtc);
    assert_int_equal(pclose(dtc), 0);
    assert_true(bytes > 40);
    unlink(name);
}

void rig_tree(const char *source)
{
    static uint8_t blob[8192] __attribute__((aligned(8)));
    static char error[200];

    rig_compile(source, blob, sizeof(blob));
    if (config_tree_open(&app.tree, blob, sizeof(blob), &app.config, error, sizeof(error)) !=
        STATUS_OK) {
        fail_msg("%s", error);
    }
    app.has_tree = true;
}

static enum status open_none(uint32_t index, struct rdma_device **out)
{
    assert_true(index < 32);
    rig.opened |= 1u << index;
    *out = NULL;
    return STATUS_UNSUPPORTED;
}

void rig_turn(void)
{
    for (uint32_t i = 0; i < 100; i++) {
        (void)sched_turn();
    }
}

void rig_advance(uint64_t duration_ns)
{
    for (uint64_t passed = 0; passed < duration_ns; passed += NS_PER_MS) {
        native_clock_advance(NS_PER_MS);
        rig_turn();
    }
}

void rig_start(uint32_t ports, uint32_t rnics, uint64_t pool_bytes, const char *config)
{
    static const struct log_sink sink = {keep, clock_now_ns, cpu_self};
    struct wire_config wire = {.seed = 1, .port_count = ports == 0 ? 1 : ports};

    memset(&rig, 0, sizeof(rig));
    memset(&app, 0, sizeof(app));
    native_clock_set(100 * NS_PER_S);
    sched_init(1, SCHED_IDLE_POLL);
    log_set_sink(&sink);
    rig.wire = wire_open(&wire);
    rig.board = (struct board){.config = config,
                               .core_count = 1,
                               .eth_count = ports,
                               .rdma_count = rnics,
                               .rdma_open = open_none,
                               .pool_is_zero = true,
                               .pool_bytes = pool_bytes,
                               .rng_seed = rig.seed,
                               .rng_seed_bytes = sizeof(rig.seed)};
    for (uint32_t i = 0; i < ports; i++) {
        rig.board.eths[i] = wire_port(rig.wire, i);
    }
    rig.board.pool_base = mmap(NULL, RIG_POOL_BYTES, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(rig.board.pool_base, MAP_FAILED);
    app.board = &rig.board;
    app.pool_next = rig.board.pool_base;
    app.pool_left = pool_bytes;
    char error[160];
    uint32_t ignored;
    assert_int_equal(config_parse(config, &app.config, &ignored, error, sizeof(error)), STATUS_OK);
    app_fabric_start();
    rig_turn();
}

void rig_stop(void)
{
    log_set_sink(NULL);
    wire_close(rig.wire);
    munmap(rig.board.pool_base, RIG_POOL_BYTES);
    native_clock_use_real();
}
