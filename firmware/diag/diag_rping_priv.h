/*
 * What rping's server and client share: the message and the pattern of the data.
 */
#ifndef DIAG_DIAG_RPING_PRIV_H
#define DIAG_DIAG_RPING_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include "base/compiler.h"
#include "base/endian.h"

struct diag_rping_info {
    struct be64 addr;
    struct be32 rkey;
    struct be32 len_bytes;
};
ASSERT_SIZE(struct diag_rping_info, 16);

/* Number `ping` of a client: "rdma-ping-N: ", then letters that go on from one to the next, the
 * first one moved by N, then a zero byte. */
void diag_rping_pattern(uint8_t *data, uint32_t len_bytes, uint32_t ping);

/* Is it the pattern of any N? */
bool diag_rping_is_pattern(const uint8_t *data, uint32_t len_bytes);

#endif
