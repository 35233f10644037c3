/*
 * What unit tests of the diagnostic servers share: one core under a standing clock, and the device
 * of fake_rdma.h.
 */
#ifndef TESTS_UNIT_DIAG_RIG_H
#define TESTS_UNIT_DIAG_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/counter.h"
#include "base/endian.h"
#include "base/limits.h"
#include "tests/unit/diag/fake_rdma.h"

extern struct rdma_device *rig_device;

/* The clock at 1 s, a scheduler and a device, all fresh. */
void rig_start(void);

/* Turns, each 1 us after the other. */
void rig_turns(uint32_t count);

#endif
