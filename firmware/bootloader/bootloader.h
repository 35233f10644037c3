/*
 * The bootloader: chooses a slot of the flash, verifies its image, and starts it. The board's part
 * fills in what there is; everything that decides is in choose.h and update/.
 *
 * Leaves out: networks, file systems, other images than update/image.h's. Core 0; the other cores
 * are off.
 */
#ifndef BOOTLOADER_BOOTLOADER_H
#define BOOTLOADER_BOOTLOADER_H

#include <stdint.h>
#include "base/compiler.h"
#include "bootloader/place.h"
#include "hal/arch.h"
#include "hal/flash.h"
#include "hal/watchdog.h"
#include "spec/boot.h"

/* A trial has so long to feed the watchdog for the first time, and each time after. */
#define BOOTLOADER_WATCHDOG_MS 10000u

struct bootloader {
    const char *board;            /* that images must name */
    struct flash *flash;          /* NULL: none */
    void *staging;                /* where a FIT is checked; 8-byte aligned */
    uint32_t staging_bytes;       /* a slot's at least */
    struct place place;           /* staging, this image and the handoff are taken */
    struct boot_handoff *handoff; /* for the image that is started */
    const void *dtb;              /* for it, too */
    /* Finds the watchdog, when it is needed; NULL: there is none. */
    struct watchdog *(*watchdog)(void);
    /* For the recovery: the console receives by interrupt from now on, and cpu_idle() sleeps. */
    void (*interrupts)(void);
};

/* The board supplies it: memory is mapped, the console works. Ends in boot_stop(). */
void bootloader_board_init(const struct arch_start *start, struct bootloader *bootloader);

#endif
