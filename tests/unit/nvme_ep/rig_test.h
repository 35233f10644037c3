/*
 * What unit tests around the rig share: fixtures, and steps that assert by CMocka. The fuzzer and
 * the simulated path do without it.
 */
#ifndef RIG_TEST_H
#define RIG_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "tests/unit/nvme_ep/rig.h"

/* Fixtures: an enabled controller with 8 I/O queues at the most; rig_stop(). */
int rig_setup(void **state);
int rig_teardown(void **state);

/* Starts, enables, and makes pair 1 of `size` entries. `config` NULL: defaults. */
void rig_start_pair(const struct rig_config *config, struct rig_queue *queue, uint16_t size);

/* Instead of what runs: the same with 16 entries, and 64 KiB at `memory` lent to rig.hmb. The
 * command that lent them. */
struct nvme_sqe rig_start_lent(struct rig_queue *queue, uint64_t *memory);

/* Takes all completions, each a success; does not ring the head. How many. */
uint32_t rig_pop_all(struct rig_queue *queue);

/* Reads a block of namespace 1 and compares it with what the disk has. */
void rig_read_block(struct rig_queue *queue, uint64_t slba);

/* The same RAM without its last page: something is revoked, but nothing that is in use. */
void rig_revoke_last_page(void);

#endif
