/*
 * From a FIT in memory to an image where it runs.
 */
#ifndef BOOTLOADER_LOAD_H
#define BOOTLOADER_LOAD_H

#include <stdint.h>
#include "bootloader/bootloader.h"
#include "update/image.h"

/* Checks the FIT of `len_bytes` in the staging memory, and puts its image where it belongs:
 * *entry. IMAGE_BAD_HEAD also when the image wants to lie where it must not. */
enum image_fault load_staged(const struct bootloader *bootloader, uint32_t len_bytes,
                             uint32_t min_security_version, struct image_info *info,
                             uintptr_t *entry);

#endif
