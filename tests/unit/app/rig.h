/*
 * The fabric side of the application under the standing clock, one core: a board with so many ports
 * on one wire, so many RNICs, so much memory.
 */
#ifndef TESTS_APP_RIG_H
#define TESTS_APP_RIG_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "app/app_priv.h"
#include "hal/clock.h"

#define RIG_POOL_BYTES (UINT64_C(1) << 30)

struct rig {
    struct board board;
    struct wire *wire;
    uint8_t seed[RNG_SEED_BYTES];
    uint32_t opened; /* RNICs that were asked for, one bit each; none opens */
    char log[4096];
    size_t log_bytes;
    jmp_buf *on_reset; /* where a reset of the board goes; NULL: none may be */
};
extern struct rig rig;

/* `ports` Ethernet ports, `rnics` RNICs, `pool_bytes` of memory, RIG_POOL_BYTES at most. */
void rig_start(uint32_t ports, uint32_t rnics, uint64_t pool_bytes, const char *config);
void rig_stop(void);

/* dtc. */
void rig_compile(const char *source, uint8_t *blob, size_t blob_bytes);
/* After rig_start(): the tree that app has. */
void rig_tree(const char *source);

void rig_turn(void);
void rig_advance(uint64_t duration_ns);

#endif
