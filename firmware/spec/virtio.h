/*
 * Virtual I/O devices as far as a network device on PCI Express needs them: capabilities and common
 * configuration of the PCI transport, the split virtqueue, the network device's configuration and
 * packet header. Nothing but wire format; all fields are little endian.
 *
 * Leaves out: packed rings, indirect descriptors, queue reset, shared memory regions, the legacy
 * interface, offloads, the control queue.
 * Source: Virtual I/O Device (VIRTIO) Version 1.2, OASIS Committee Specification 01.
 */
#ifndef SPEC_VIRTIO_H
#define SPEC_VIRTIO_H

#include <stdint.h>
#include "base/bits.h"
#include "base/compiler.h"

/* --- PCI (4.1) ------------------------------------------------------------------------------ */

/* Identity (4.1.2): a modern device is 0x1040 + its type (5), a transitional network device, which
 * may have the modern interface beside the legacy one, is 0x1000. */
#define VIRTIO_PCI_VENDOR_ID           0x1af4u
#define VIRTIO_PCI_DEVICE_ID_MODERN    0x1040u
#define VIRTIO_PCI_DEVICE_ID_TRANS_NET 0x1000u
#define VIRTIO_TYPE_NET                1u

/* Vendor-specific capability (4.1.4), at `cap_next` of the chain in configuration space. */
#define VIRTIO_PCI_CAP_ID 0x09u

struct virtio_pci_cap {
    uint8_t id; /* VIRTIO_PCI_CAP_ID */
    uint8_t next;
    uint8_t len_bytes; /* of the capability */
    uint8_t type;      /* VIRTIO_PCI_CAP_* */
    uint8_t bar;       /* 0..5; another value: to be ignored */
    uint8_t instance;
    uint8_t padding[2];
    uint32_t offset; /* in the BAR */
    uint32_t length;
};
ASSERT_SIZE(struct virtio_pci_cap, 16);
ASSERT_OFFSET(struct virtio_pci_cap, bar, 4);
ASSERT_OFFSET(struct virtio_pci_cap, offset, 8);

#define VIRTIO_PCI_CAP_COMMON 1u
#define VIRTIO_PCI_CAP_NOTIFY 2u /* a dword notify_off_multiplier follows (4.1.4.4) */
#define VIRTIO_PCI_CAP_ISR    3u
#define VIRTIO_PCI_CAP_DEVICE 4u

/* Common configuration (4.1.4.3). Fields of 64 bits are accessed as two of 32 (4.1.3.1). */
struct virtio_pci_common {
    uint32_t device_feature_select; /* which 32 bits of the features */
    uint32_t device_feature;
    uint32_t driver_feature_select;
    uint32_t driver_feature;
    uint16_t config_msix_vector;
    uint16_t num_queues;
    uint8_t device_status; /* VIRTIO_STATUS_*; writing 0 resets */
    uint8_t config_generation;
    uint16_t queue_select; /* the fields from here on are of this queue */
    uint16_t queue_size;   /* entries; the driver may make it smaller; 0: no such queue */
    uint16_t queue_msix_vector;
    uint16_t queue_enable;
    uint16_t queue_notify_off; /* times notify_off_multiplier: where to notify */
    uint32_t queue_desc_low;
    uint32_t queue_desc_high;
    uint32_t queue_driver_low; /* the available ring */
    uint32_t queue_driver_high;
    uint32_t queue_device_low; /* the used ring */
    uint32_t queue_device_high;
};
ASSERT_SIZE(struct virtio_pci_common, 0x38);
ASSERT_OFFSET(struct virtio_pci_common, driver_feature, 0x0c);
ASSERT_OFFSET(struct virtio_pci_common, config_msix_vector, 0x10);
ASSERT_OFFSET(struct virtio_pci_common, device_status, 0x14);
ASSERT_OFFSET(struct virtio_pci_common, config_generation, 0x15);
ASSERT_OFFSET(struct virtio_pci_common, queue_select, 0x16);
ASSERT_OFFSET(struct virtio_pci_common, queue_msix_vector, 0x1a);
ASSERT_OFFSET(struct virtio_pci_common, queue_notify_off, 0x1e);
ASSERT_OFFSET(struct virtio_pci_common, queue_desc_low, 0x20);
ASSERT_OFFSET(struct virtio_pci_common, queue_driver_low, 0x28);
ASSERT_OFFSET(struct virtio_pci_common, queue_device_low, 0x30);

#define VIRTIO_NO_VECTOR 0xffffu /* 4.1.5.1.2: no interrupt; also the answer to a refused vector */

/* Device status (2.1) */
#define VIRTIO_STATUS_ACKNOWLEDGE 0x01u
#define VIRTIO_STATUS_DRIVER      0x02u
#define VIRTIO_STATUS_DRIVER_OK   0x04u
#define VIRTIO_STATUS_FEATURES_OK 0x08u
#define VIRTIO_STATUS_NEEDS_RESET 0x40u
#define VIRTIO_STATUS_FAILED      0x80u

/* --- features (2.2, 6, 5.1.3) --------------------------------------------------------------- */

#define VIRTIO_F_EVENT_IDX       BIT64(29)
#define VIRTIO_F_VERSION_1       BIT64(32) /* not a legacy device */
#define VIRTIO_F_ACCESS_PLATFORM BIT64(33) /* addresses are those of the bus, behind an IOMMU too */
#define VIRTIO_F_ORDER_PLATFORM  BIT64(36) /* a real device: barriers must reach it */

#define VIRTIO_NET_F_MTU    BIT64(3)
#define VIRTIO_NET_F_MAC    BIT64(5)
#define VIRTIO_NET_F_STATUS BIT64(16)

/* --- split virtqueue (2.7) ------------------------------------------------------------------ */

/* Descriptor (2.7.5); the table is aligned to 16. */
struct virtq_desc {
    uint64_t addr;
    uint32_t len_bytes;
    uint16_t flags;
    uint16_t next; /* index, with VIRTQ_DESC_NEXT */
};
ASSERT_SIZE(struct virtq_desc, 16);
ASSERT_OFFSET(struct virtq_desc, flags, 12);
ASSERT_OFFSET(struct virtq_desc, next, 14);

#define VIRTQ_DESC_NEXT  0x1u
#define VIRTQ_DESC_WRITE 0x2u /* the device writes; otherwise it reads */

/* Available ring (2.7.6), aligned to 2; behind the last entry a word used_event (2.7.7). */
struct virtq_avail {
    uint16_t flags;
    uint16_t idx; /* free running: where the next entry goes */
    uint16_t ring[];
};
ASSERT_OFFSET(struct virtq_avail, ring, 4);
#define VIRTQ_AVAIL_BYTES(size)  (6u + 2u * (size))
#define VIRTQ_AVAIL_NO_INTERRUPT 0x1u /* without EVENT_IDX */

/* Used ring (2.7.8), aligned to 4; behind the last entry a word avail_event (2.7.10). */
struct virtq_used_elem {
    uint32_t id;        /* index of the first descriptor of the chain */
    uint32_t len_bytes; /* written by the device */
};
ASSERT_SIZE(struct virtq_used_elem, 8);

struct virtq_used {
    uint16_t flags;
    uint16_t idx;
    struct virtq_used_elem ring[];
};
ASSERT_OFFSET(struct virtq_used, ring, 4);
#define VIRTQ_USED_BYTES(size) (6u + 8u * (size))
#define VIRTQ_USED_NO_NOTIFY   0x1u /* without EVENT_IDX */

/* The test of both suppressions with EVENT_IDX (2.7.7, 2.7.10): an index went from `old` to `new`;
 * did it pass the entry `event`? All modulo 2^16. */
ALWAYS_INLINE bool virtq_is_event(uint16_t event, uint16_t new_idx, uint16_t old_idx)
{
    return (uint16_t)(new_idx - event - 1) < (uint16_t)(new_idx - old_idx);
}

#define VIRTQ_SIZE_MAX 32768u /* a power of two (2.7) */

/* --- network device (5.1) ------------------------------------------------------------------- */

#define VIRTIO_NET_QUEUE_RX 0u /* 5.1.2 */
#define VIRTIO_NET_QUEUE_TX 1u

/* Configuration (5.1.4), as far as read. */
struct virtio_net_config {
    uint8_t mac[6];
    uint16_t status; /* with VIRTIO_NET_F_STATUS */
    uint16_t max_virtqueue_pairs;
    uint16_t mtu; /* with VIRTIO_NET_F_MTU */
};
ASSERT_SIZE(struct virtio_net_config, 12);
ASSERT_OFFSET(struct virtio_net_config, status, 6);
ASSERT_OFFSET(struct virtio_net_config, mtu, 10);

#define VIRTIO_NET_STATUS_LINK_UP 0x1u
#define VIRTIO_NET_MTU_MIN        68u /* 5.1.4.1 */

/* In front of each frame, both ways (5.1.6); with VERSION_1 always all of it. */
struct virtio_net_hdr {
    uint8_t flags;
    uint8_t gso_type; /* 0: none */
    uint16_t hdr_len;
    uint16_t gso_size;
    uint16_t csum_start;
    uint16_t csum_offset;
    uint16_t num_buffers; /* received: 1 without mergeable buffers; sent: 0 */
};
ASSERT_SIZE(struct virtio_net_hdr, 12);
ASSERT_OFFSET(struct virtio_net_hdr, num_buffers, 10);

#endif
