/*
 * Instructions per I/O of the endpoint: a host model, a PCIe function in plain memory and a device,
 * all in one image on one core. Only the reactor's turns are counted, so the host model's own
 * instructions are not in the numbers; what reading the counter costs is measured first and
 * subtracted.
 */
#ifndef BENCH_BENCH_EP_H
#define BENCH_BENCH_EP_H

#include <stdint.h>
#include "base/stage.h"

struct nvme_ep;

enum bench_device {
    BENCH_DEVICE_NULL,
    BENCH_DEVICE_RAM,
};

struct bench_case {
    const char *name;
    enum bench_device device;
    uint8_t opcode;
    uint32_t depth;
    uint32_t bytes;
    uint32_t budget; /* instructions per I/O on aarch64; 0: none */
};

extern const struct bench_case bench_cases[];
extern const uint32_t bench_case_count;

/* How much memory bench_ep_start() wants. */
#define BENCH_MEMORY_BYTES (16u << 20)

/* Makes controller, queues and namespaces in `memory`, 4096-byte aligned. sched_init() was called
 * for one core. Lines go to `print`. */
void bench_ep_start(void *memory, void (*print)(const char *line));
/* Runs `io_count` I/Os of a case; returns the instructions of the turns in which they were done, 0
 * where nothing counts them (the native build: a tool counts bench_turn()). */
uint64_t bench_ep_run(const struct bench_case *c, uint32_t io_count);
/* The same host for who turns the reactor's parts himself: `depth` commands for blocks of 4 KiB
 * into the queue, and rings; takes completions, all of success. */
void bench_host_push(uint8_t opcode, uint32_t nsid, uint32_t bytes, uint32_t depth);
uint32_t bench_host_pop(void);
struct nvme_ep *bench_ep(void);
/* Instructions of a turn that finds nothing. */
uint64_t bench_ep_idle(uint32_t turn_count);
/* Instructions of a stage since the reset, marks subtracted; 0 in builds without marks. */
void bench_stages_reset(void);
uint64_t bench_stage_sum(enum stage stage);
/* All cases as a table; with stage marks compiled in also where each spends. */
void bench_ep_report(void);

#endif
