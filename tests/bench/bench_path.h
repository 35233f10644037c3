/*
 * Instructions per I/O over the whole path: the host and endpoint of bench_ep.h, a volume, the
 * initiator, RDMA in software, and at the other end of two ports in memory a model target
 * (tests/model/target.h) on a device of its own. Each poller of the NIC is counted by itself; the
 * target's and the ports' instructions are not in the numbers.
 *
 * Parts are told apart where they call each other: a device between endpoint and volume, and a
 * table of verbs between initiator and engine, look at the counter on their way; what that costs is
 * measured first and subtracted.
 */
#ifndef BENCH_BENCH_PATH_H
#define BENCH_BENCH_PATH_H

/* How much memory bench_path_report() wants. */
#define BENCH_PATH_MEMORY_BYTES (64u << 20)

/* All cases as lines to `print`. `memory` is 4096-byte aligned; bench_ep_start() was called. */
void bench_path_report(void *memory, void (*print)(const char *line));

#endif
