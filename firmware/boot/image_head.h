/*
 * The head of an image (spec/boot.h), which the linker script puts behind the arm64 Image header:
 * what the bootloader believes when the signature is good. One per image.
 */
#ifndef BOOT_IMAGE_HEAD_H
#define BOOT_IMAGE_HEAD_H

#include "base/compiler.h"
#include "base/version.h"
#include "spec/boot.h"

/* Of the linker script; the last two are numbers, made from addresses. */
extern const char _start[], __image_load_bytes[], __image_bytes[];

/* In the board's only file that has it: BOOT_IMAGE_HEAD(head, "qemu-virt"); */
#define BOOT_IMAGE_HEAD(name, board_name)                        \
    const struct boot_image_head name SECTION(".image_head") = { \
        .magic = BOOT_IMAGE_HEAD_MAGIC,                          \
        .head_version = BOOT_IMAGE_HEAD_VERSION,                 \
        .load_addr = (uint64_t)(uintptr_t)_start,                \
        .load_bytes = (uint64_t)(uintptr_t)__image_load_bytes,   \
        .run_bytes = (uint64_t)(uintptr_t)__image_bytes,         \
        .security_version = SNIC_SECURITY_VERSION,               \
        .board = board_name,                                     \
        .version = SNIC_VERSION,                                 \
    }

#endif
