/*
 * Translation tables: one map for all cores, addresses one to one, 4 KiB granule, 48-bit addresses.
 * The public half is arch_map() of hal/arch.h.
 */
#ifndef AARCH64_MMU_H
#define AARCH64_MMU_H

#include <stdint.h>

/* Maps the image (text executable, constants read only, data never executable, guard pages of the
 * stacks left out) and the device tree at [dtb, dtb + dtb_bytes) when dtb_bytes is not 0.
 * With the MMU off: uses nothing of .bss or libc. */
void mmu_build(uint64_t dtb, uint64_t dtb_bytes);

/* Turns MMU and caches on, on the calling core. */
void mmu_enable(void);

#endif
