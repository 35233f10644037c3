/*
 * Instructions per message of the RDMA engine: two nodes, each an interface and a device in
 * software, in one image on one core, over ports in memory. Each side's pollers and calls are
 * counted by themselves; what the ports do (copying frames, which a wire does) is not in the
 * numbers, and neither is a driver: hal/drivers/virtio_net.c is measured in tests/emu.
 */
#ifndef BENCH_BENCH_RDMA_H
#define BENCH_BENCH_RDMA_H

/* How much memory bench_rdma_report() wants. */
#define BENCH_RDMA_MEMORY_BYTES (8u << 20)

/* All cases as lines to `print`. `memory` is 4096-byte aligned; sched_init() was called for one
 * core and no other poller was added that must run meanwhile. */
void bench_rdma_report(void *memory, void (*print)(const char *line));

#endif
