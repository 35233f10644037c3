/*
 * Configuration space of the NVMe function: header, PM, MSI-X, PCI Express endpoint with FLR.
 * 4 KiB, no extended capabilities. Byte masks say what the host can change; what a change means is
 * told by the return value, so that the caller can fence before it answers.
 * Sources: PCI Express Base 4.0 (7.5), PCI PM 1.2, NVMe 1.4 section 2.
 */
#ifndef VFU_PCI_H
#define VFU_PCI_H

#include <stdbool.h>
#include <stdint.h>

#define VFU_PCI_CONFIG_BYTES 4096u

#define VFU_PCI_OFFSET_COMMAND 0x04u
#define VFU_PCI_OFFSET_BAR0    0x10u
#define VFU_PCI_OFFSET_PM      0x40u
#define VFU_PCI_OFFSET_MSIX    0x50u
#define VFU_PCI_OFFSET_PCIE    0x60u

struct vfu_pci_config {
    uint16_t vendor_id;
    uint16_t device_id;
    uint16_t vector_count;
    uint32_t bar_bytes;         /* BAR0, a power of two */
    uint32_t msix_table_offset; /* in BAR0 */
    uint32_t msix_pba_offset;
};

struct vfu_pci {
    struct vfu_pci_config config;
    uint8_t bytes[VFU_PCI_CONFIG_BYTES];
    uint8_t writable[VFU_PCI_CONFIG_BYTES];
};

/* What a write asked for. */
struct vfu_pci_effect {
    bool flr;        /* function-level reset; vfu_pci_reset() is the caller's to call */
    bool dma_before; /* the function could reach host memory before the write */
    bool dma_after;  /* and can after it: bus mastering on, in D0 */
};

void vfu_pci_init(struct vfu_pci *pci, const struct vfu_pci_config *config);

/* Back to power-on values. */
void vfu_pci_reset(struct vfu_pci *pci);

/* offset + len_bytes <= VFU_PCI_CONFIG_BYTES; any alignment. */
void vfu_pci_read(const struct vfu_pci *pci, uint32_t offset, uint8_t *to, uint32_t len_bytes);
struct vfu_pci_effect vfu_pci_write(struct vfu_pci *pci, uint32_t offset, const uint8_t *from,
                                    uint32_t len_bytes);

bool vfu_pci_dma_allowed(const struct vfu_pci *pci);

#endif
