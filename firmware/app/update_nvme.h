/*
 * Updates that hosts send by NVMe, and the restart that starts a new image. Core 0.
 */
#ifndef APP_UPDATE_NVME_H
#define APP_UPDATE_NVME_H

#include "nvme/nvme.h"

/* What a controller gets as its firmware_ops, with the struct app_function as context. NULL: the
 * board has no slots. After app_update_open(). */
const struct nvme_firmware_ops *app_update_nvme_ops(void);

#endif
