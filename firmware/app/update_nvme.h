/*
 * Updates that hosts send by NVMe, and the restart that starts a new image. Core 0.
 */
#ifndef APP_UPDATE_NVME_H
#define APP_UPDATE_NVME_H

#include <stdbool.h>
#include "nvme/nvme.h"

/* What a controller gets as its firmware_ops, with the struct app_function as context. NULL: the
 * board has no slots. After app_update_open(). */
const struct nvme_firmware_ops *app_update_nvme_ops(void);

/* One sender of pieces at a time: `who` is any address of the caller's. False: somebody else began,
 * and sent a piece in the last 30 s. Asked before each piece and each commit of what was sent; the
 * holder says when it is done. */
bool app_update_claim(const void *who);
void app_update_release(const void *who);

#endif
