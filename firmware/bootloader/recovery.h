/*
 * When no slot holds an image that may start: says so on the console, stays there, and takes an
 * image from it.
 */
#ifndef BOOTLOADER_RECOVERY_H
#define BOOTLOADER_RECOVERY_H

#include "base/compiler.h"
#include "bootloader/bootloader.h"

NORETURN void recovery_run(const struct bootloader *bootloader);

#endif
