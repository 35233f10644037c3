/*
 * vfio-user on the wire, as far as this server speaks it: bytes only. Version 0.1.
 * Source: the vfio-user protocol specification (qemu: docs/interop/vfio-user.rst) and, for the
 * structures it takes over, linux/vfio.h. Integers have the host's byte order: little endian here.
 */
#ifndef VFU_PROTO_H
#define VFU_PROTO_H

#include <stdint.h>
#include "base/compiler.h"

#define VFU_VERSION_MAJOR 0u
#define VFU_VERSION_MINOR 1u

enum vfu_command {
    VFU_CMD_VERSION = 1,
    VFU_CMD_DMA_MAP = 2,
    VFU_CMD_DMA_UNMAP = 3,
    VFU_CMD_DEVICE_GET_INFO = 4,
    VFU_CMD_REGION_GET_INFO = 5,
    VFU_CMD_REGION_GET_IO_FDS = 6,
    VFU_CMD_IRQ_GET_INFO = 7,
    VFU_CMD_IRQ_SET = 8,
    VFU_CMD_REGION_READ = 9,
    VFU_CMD_REGION_WRITE = 10,
    VFU_CMD_DMA_READ = 11,  /* from server to client only */
    VFU_CMD_DMA_WRITE = 12, /* from server to client only */
    VFU_CMD_DEVICE_RESET = 13,
    VFU_CMD_REGION_WRITE_MULTI = 15, /* not offered */
    VFU_CMD_DEVICE_FEATURE = 16,     /* not offered */
};

#define VFU_FLAG_TYPE_MASK 0xfu
#define VFU_FLAG_COMMAND   0x0u
#define VFU_FLAG_REPLY     0x1u
#define VFU_FLAG_NO_REPLY  0x10u
#define VFU_FLAG_ERROR     0x20u

struct vfu_header {
    uint16_t id;
    uint16_t command;
    uint32_t msg_bytes; /* header included */
    uint32_t flags;
    uint32_t error; /* errno, in replies with VFU_FLAG_ERROR */
};
ASSERT_SIZE(struct vfu_header, 16);

struct vfu_version {
    uint16_t major;
    uint16_t minor; /* JSON text follows, ended by a zero byte */
};
ASSERT_SIZE(struct vfu_version, 4);

#define VFU_DMA_READ  (1u << 0)
#define VFU_DMA_WRITE (1u << 1)
#define VFU_DMA_FLAGS \
    0xfu /* with mmap and file I/O hints of later versions, which change nothing */

struct vfu_dma_map {
    uint32_t argsz;
    uint32_t flags;
    uint64_t offset;
    uint64_t addr;
    uint64_t size;
};
ASSERT_SIZE(struct vfu_dma_map, 32);

#define VFU_UNMAP_GET_DIRTY (1u << 0)
#define VFU_UNMAP_ALL       (1u << 1)

struct vfu_dma_unmap {
    uint32_t argsz;
    uint32_t flags;
    uint64_t addr;
    uint64_t size;
};
ASSERT_SIZE(struct vfu_dma_unmap, 24);

#define VFU_DEVICE_RESETS (1u << 0)
#define VFU_DEVICE_PCI    (1u << 1)

struct vfu_device_info {
    uint32_t argsz;
    uint32_t flags;
    uint32_t region_count;
    uint32_t irq_count;
};
ASSERT_SIZE(struct vfu_device_info, 16);

#define VFU_REGION_BAR0   0u
#define VFU_REGION_CONFIG 7u
#define VFU_REGION_COUNT  9u

#define VFU_REGION_READ  (1u << 0)
#define VFU_REGION_WRITE (1u << 1)
#define VFU_REGION_MMAP  (1u << 2)
#define VFU_REGION_CAPS  (1u << 3)

struct vfu_region_info {
    uint32_t argsz;
    uint32_t flags;
    uint32_t index;
    uint32_t cap_offset;
    uint64_t size;
    uint64_t offset; /* of the region in the file whose descriptor comes along */
};
ASSERT_SIZE(struct vfu_region_info, 32);

#define VFU_REGION_CAP_SPARSE_MMAP 1u

struct vfu_region_sparse {
    uint16_t id;
    uint16_t version;
    uint32_t next;
    uint32_t area_count;
    uint32_t reserved;
    uint64_t offset; /* of the only area */
    uint64_t size;
};
ASSERT_SIZE(struct vfu_region_sparse, 32);

struct vfu_io_fds {
    uint32_t argsz;
    uint32_t flags;
    uint32_t index;
    uint32_t count;
};
ASSERT_SIZE(struct vfu_io_fds, 16);

#define VFU_IRQ_INTX  0u
#define VFU_IRQ_MSI   1u
#define VFU_IRQ_MSIX  2u
#define VFU_IRQ_COUNT 5u

#define VFU_IRQ_EVENTFD (1u << 0)

struct vfu_irq_info {
    uint32_t argsz;
    uint32_t flags;
    uint32_t index;
    uint32_t count;
};
ASSERT_SIZE(struct vfu_irq_info, 16);

#define VFU_IRQ_DATA_NONE      (1u << 0)
#define VFU_IRQ_DATA_BOOL      (1u << 1)
#define VFU_IRQ_DATA_EVENTFD   (1u << 2)
#define VFU_IRQ_DATA_MASK      0x07u
#define VFU_IRQ_ACTION_TRIGGER (1u << 5)
#define VFU_IRQ_ACTION_MASK    0x38u

struct vfu_irq_set {
    uint32_t argsz;
    uint32_t flags;
    uint32_t index;
    uint32_t start;
    uint32_t count;
};
ASSERT_SIZE(struct vfu_irq_set, 20);

struct vfu_region_access {
    uint64_t offset;
    uint32_t region;
    uint32_t count; /* bytes; they follow in a write and in the reply to a read */
};
ASSERT_SIZE(struct vfu_region_access, 16);

/* What we offer and accept. */
#define VFU_MAX_FDS        16u
#define VFU_MAX_XFER_BYTES 65536u
#define VFU_MAX_PAYLOAD    (VFU_MAX_XFER_BYTES + 256u)

#endif
