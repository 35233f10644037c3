/*
 * CRC-32 (IEEE 802.3: reflected, polynomial 0x04c11db7) for records that must be recognised as
 * whole: crash record, images. Small, not fast: 4 bits per step. Not for packets.
 */
#ifndef BASE_CRC_H
#define BASE_CRC_H

#include <stddef.h>
#include <stdint.h>

/* Of `len_bytes` bytes. To go on over several pieces, pass the result so far as `crc`; 0 starts. */
uint32_t crc32_update(uint32_t crc, const void *bytes, size_t len_bytes);

#endif
