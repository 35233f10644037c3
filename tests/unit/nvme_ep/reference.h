/*
 * What PRPs and SGLs mean, said a second time and as simply as possible: one byte at a time, no
 * merging, no speed. The tests compare the firmware with it.
 */
#ifndef REFERENCE_H
#define REFERENCE_H

#include <stdint.h>
#include "spec/nvme.h"

/* Resolves the DPTR of `sqe` for `len_bytes` into host addresses, one for each byte; UINT64_MAX for
 * a byte that a bit bucket takes. Host memory is rig_ptr(); addresses outside of the RAM of the rig
 * are outside of the windows. `to_host`: direction. Returns the status code, without DNR. */
nvme_status_t reference_map(const struct nvme_sqe *sqe, uint32_t len_bytes, int to_host,
                            uint64_t *addrs);

#endif
