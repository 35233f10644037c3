/*
 * When no slot holds an image that may start: says so on the console, stays there, and takes an
 * image from it by management messages (docs/spec/mgmt.md): HELLO, LIST of SLOT and UPDATE, WRITE of
 * IMAGE, COMMIT_IMAGE, RESET. The image goes into a slot as the firmware's updates do, and is
 * verified when it starts, like any.
 */
#ifndef BOOTLOADER_RECOVERY_H
#define BOOTLOADER_RECOVERY_H

#include "base/compiler.h"
#include "bootloader/bootloader.h"
#include "update/store.h"

/* `store` NULL: there is no flash that can be used; then it only tells. */
NORETURN void recovery_run(const struct bootloader *bootloader, struct store *store);

#endif
