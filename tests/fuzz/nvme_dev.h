/*
 * A block device for the fuzzer of the controller core: it answers at once, late or badly, hears
 * cancels or does not, and aborts when it gets what its geometry does not allow, or anything while
 * it is not attached.
 */
#ifndef TESTS_FUZZ_NVME_DEV_H
#define TESTS_FUZZ_NVME_DEV_H

#include <stdbool.h>
#include <stdint.h>
#include "blk/blk.h"
#include "tests/fuzz/input.h"

struct fuzz_dev {
    struct blk_dev dev;
    struct list held;
    bool attached; /* until detached() */
    uint32_t nsid;
    bool hold;
    bool deaf; /* to cancels */
    uint8_t fail_every;
    uint32_t request_count;
};

void fuzz_dev_init(struct fuzz_dev *dev);
/* Ends what is held now; an end may start the next request. */
void fuzz_dev_release(struct fuzz_dev *dev, nvme_status_t status);
/* For nvme_ns_detach(): the device has been left. */
void fuzz_dev_detached(void *dev);
void fuzz_geometry_take(struct blk_geometry *geometry, struct input *in);

#endif
