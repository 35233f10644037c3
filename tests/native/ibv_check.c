/*
 * Checks the provider over libibverbs on a real device or on rxe: two ends of one device talk by
 * way of its network interface. Prints a line for each test and "N passed, N failed".
 *
 *   ibv_check [DEVICE [PATTERN]]     rxe0; default: the first that has a link, all tests
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "hal/clock.h"
#include "hal/console.h"
#include "hal/cpu.h"
#include "hal/native/native.h"
#include "sched/sched.h"
#include "tests/native/ibv_check.h"

static struct rdma_device *device;
static uint32_t failed_in_test;
static uint32_t events[RDMA_EVENT_DEVICE_FATAL + 1];

bool check_expect(bool condition, const char *what, int line)
{
    if (!condition) {
        printf("     line %d: %s\n", line, what);
        failed_in_test++;
    }
    return condition;
}

struct rdma_device *check_device(void)
{
    return device;
}

uint32_t check_events(enum rdma_event_type type)
{
    return events[type];
}

static void on_event(void *ctx, const struct rdma_event *event)
{
    (void)ctx;
    events[event->type]++;
}

static bool open_device(const char *name)
{
    struct rdma_ibv_config config;

    rdma_ibv_config_default(&config);
    config.name = name;
    config.pd_count = 8;
    config.srq_count = 4;
    if (rdma_ibv_open(&config, &device) != STATUS_OK) {
        return false;
    }
    device->event = on_event;
    return true;
}

static void run(const struct check_test *test, uint32_t *passed, uint32_t *failed)
{
    uint64_t start_ms = now_ms();

    failed_in_test = 0;
    memset(events, 0, sizeof(events));
    test->run();
    check_expect(rdma_ibv_is_quiet(device), "every object is given back", __LINE__);
    printf("%s %s (%llu ms)\n", failed_in_test == 0 ? "ok  " : "FAIL", test->name,
           (unsigned long long)(now_ms() - start_ms));
    fflush(stdout);
    *passed += failed_in_test == 0;
    *failed += failed_in_test != 0;
}

int main(int argc, char **argv)
{
    static const struct log_sink sink = {console_write, clock_now_ns, cpu_self};
    static const struct check_test *const lists[] = {check_object_tests, check_data_tests,
                                                     check_key_tests, check_cm_tests};
    uint32_t passed = 0;
    uint32_t failed = 0;

    log_set_sink(&sink);
    native_cpu_set_count(1);
    native_cpu_become(0);
    sched_init(1, SCHED_IDLE_ADAPTIVE);
    if (!open_device(argc > 1 ? argv[1] : NULL)) {
        return 1;
    }
    for (uint32_t i = 0; i < ARRAY_SIZE(lists); i++) {
        for (const struct check_test *test = lists[i]; test->name != NULL; test++) {
            if (argc <= 2 || strstr(test->name, argv[2]) != NULL) {
                run(test, &passed, &failed);
            }
        }
    }
    if (failed == 0) {
        rdma_ibv_close(device);
    }
    printf("%u passed, %u failed\n", (unsigned)passed, (unsigned)failed);
    return failed == 0 ? 0 : 1;
}
