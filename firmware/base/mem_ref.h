/*
 * A reference to data: an address space and a list of segments. Never a buffer of our own:
 * whoever copies has to write it down (and count it as staged).
 */
#ifndef BASE_MEM_REF_H
#define BASE_MEM_REF_H

#include <stdint.h>
#include "base/compiler.h"

enum mem_space {
    MEM_SPACE_NONE, /* no data */
    MEM_SPACE_NIC,  /* memory of the NIC itself */
    MEM_SPACE_HOST, /* memory of the host of a function, reached through its DMA windows */
};

/* One contiguous piece. `bus_addr` is an address on the NIC's own bus, already checked against the
 * windows of the function: devices of the NIC may be given it, and mem_seg_ptr() reads it. */
struct mem_seg {
    uint64_t bus_addr;
    uint32_t len_bytes;
    uint32_t reserved;
};
ASSERT_SIZE(struct mem_seg, 16);

struct mem_ref {
    const struct mem_seg *segs; /* owned by the command; stays until the command completes */
    uint32_t len_bytes;         /* sum of the segments */
    uint16_t seg_count;
    uint8_t space; /* enum mem_space */
    uint8_t reserved;
};

/* On every board so far the cores see the bus at the addresses at which devices see it. */
ALWAYS_INLINE void *mem_bus_ptr(uint64_t bus_addr)
{
    return (void *)(uintptr_t)bus_addr;
}

ALWAYS_INLINE void *mem_seg_ptr(const struct mem_seg *seg)
{
    return mem_bus_ptr(seg->bus_addr);
}

/* Copies between a reference, from `offset_bytes` on, and a plain buffer.
 * Returns the bytes copied: fewer than asked for when the reference ends. Any core. */
uint32_t mem_ref_read(const struct mem_ref *ref, uint32_t offset_bytes, void *to,
                      uint32_t len_bytes);
uint32_t mem_ref_write(const struct mem_ref *ref, uint32_t offset_bytes, const void *from,
                       uint32_t len_bytes);

/* Fills [offset, offset + len) with zero bytes; returns the bytes written. */
uint32_t mem_ref_zero(const struct mem_ref *ref, uint32_t offset_bytes, uint32_t len_bytes);

#endif
