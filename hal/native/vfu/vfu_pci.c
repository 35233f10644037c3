/*
 * See vfu_pci.h.
 */
#include "hal/native/vfu/vfu_pci.h"

#include <string.h>
#include "base/bits.h"

#define COMMAND_MEMORY     BIT32(1)
#define COMMAND_BUS_MASTER BIT32(2)
#define COMMAND_WRITABLE   0x0546u /* memory, bus master, parity, SERR, INTx disable */
#define STATUS_CAP_LIST    0x0010u
#define BAR_MEMORY_64      0x4u

#define CAP_ID_PM   0x01u
#define CAP_ID_PCIE 0x10u
#define CAP_ID_MSIX 0x11u

#define PMCSR             (VFU_PCI_OFFSET_PM + 4)
#define PMCSR_STATE       0x0003u
#define PMCSR_NO_SOFT_RST 0x0008u /* D3hot to D0 keeps the function's state */
#define MSIX_CONTROL      (VFU_PCI_OFFSET_MSIX + 2)
#define MSIX_WRITABLE     0xc000u /* enable, function mask */
#define PCIE_DEVCAP       (VFU_PCI_OFFSET_PCIE + 0x04)
#define PCIE_DEVCTL       (VFU_PCI_OFFSET_PCIE + 0x08)
#define PCIE_DEVCTL_FLR   BIT32(15)
#define PCIE_LNKCAP       (VFU_PCI_OFFSET_PCIE + 0x0c)
#define PCIE_LNKCTL       (VFU_PCI_OFFSET_PCIE + 0x10)
#define PCIE_LNKSTA       (VFU_PCI_OFFSET_PCIE + 0x12)
#define PCIE_DEVCTL2      (VFU_PCI_OFFSET_PCIE + 0x28)
#define PCIE_LNKCAP2      (VFU_PCI_OFFSET_PCIE + 0x2c)
#define PCIE_LNKCTL2      (VFU_PCI_OFFSET_PCIE + 0x30)

static void put8(struct vfu_pci *pci, uint32_t offset, uint32_t value, uint32_t writable)
{
    pci->bytes[offset] = (uint8_t)value;
    pci->writable[offset] = (uint8_t)writable;
}

static void put16(struct vfu_pci *pci, uint32_t offset, uint32_t value, uint32_t writable)
{
    put8(pci, offset, value, writable);
    put8(pci, offset + 1, value >> 8, writable >> 8);
}

static void put32(struct vfu_pci *pci, uint32_t offset, uint32_t value, uint32_t writable)
{
    put16(pci, offset, value, writable);
    put16(pci, offset + 2, value >> 16, writable >> 16);
}

static uint32_t get16(const struct vfu_pci *pci, uint32_t offset)
{
    return (uint32_t)pci->bytes[offset] | (uint32_t)pci->bytes[offset + 1] << 8;
}

static void put_header(struct vfu_pci *pci)
{
    const struct vfu_pci_config *config = &pci->config;

    put16(pci, 0x00, config->vendor_id, 0);
    put16(pci, 0x02, config->device_id, 0);
    put16(pci, VFU_PCI_OFFSET_COMMAND, 0, COMMAND_WRITABLE);
    put16(pci, 0x06, STATUS_CAP_LIST, 0);
    put8(pci, 0x08, 1, 0);       /* revision */
    put8(pci, 0x09, 0x02, 0);    /* NVM Express I/O controller (NVMe 1.4, 2.1.5) */
    put16(pci, 0x0a, 0x0108, 0); /* non-volatile memory, mass storage */
    put8(pci, 0x0c, 0, 0xff);    /* cache line size: kept, without effect */
    put32(pci, VFU_PCI_OFFSET_BAR0, BAR_MEMORY_64, ~(config->bar_bytes - 1));
    put32(pci, VFU_PCI_OFFSET_BAR0 + 4, 0, UINT32_MAX);
    put16(pci, 0x2c, config->vendor_id, 0);
    put16(pci, 0x2e, config->device_id, 0);
    put8(pci, 0x34, VFU_PCI_OFFSET_PM, 0);
    put8(pci, 0x3c, 0, 0xff); /* interrupt line; interrupt pin 0: MSI-X only */
}

static void put_capabilities(struct vfu_pci *pci)
{
    const struct vfu_pci_config *config = &pci->config;

    put16(pci, VFU_PCI_OFFSET_PM, CAP_ID_PM | VFU_PCI_OFFSET_MSIX << 8, 0);
    put16(pci, VFU_PCI_OFFSET_PM + 2, 0x0003, 0); /* version 3, no PME */
    put16(pci, PMCSR, PMCSR_NO_SOFT_RST, PMCSR_STATE);

    put16(pci, VFU_PCI_OFFSET_MSIX, CAP_ID_MSIX | VFU_PCI_OFFSET_PCIE << 8, 0);
    put16(pci, MSIX_CONTROL, config->vector_count - 1u, MSIX_WRITABLE);
    put32(pci, VFU_PCI_OFFSET_MSIX + 4, config->msix_table_offset, 0); /* BIR 0 */
    put32(pci, VFU_PCI_OFFSET_MSIX + 8, config->msix_pba_offset, 0);

    put16(pci, VFU_PCI_OFFSET_PCIE, CAP_ID_PCIE, 0);
    put16(pci, VFU_PCI_OFFSET_PCIE + 2, 0x0002, 0); /* version 2, endpoint */
    put32(pci, PCIE_DEVCAP, 0x10008001u, 0);        /* FLR, role-based errors, payload 256 */
    put16(pci, PCIE_DEVCTL, 0x2810, 0x7fff);        /* read requests of 512, relaxed order */
    put32(pci, PCIE_LNKCAP, 0x00000043, 0);         /* 8 GT/s, x4 */
    put16(pci, PCIE_LNKCTL, 0, 0x00c3);             /* ASPM, common clock, extended sync */
    put16(pci, PCIE_LNKSTA, 0x0043, 0);
    put16(pci, PCIE_DEVCTL2, 0, 0x001f);     /* completion timeout value and disable */
    put32(pci, PCIE_LNKCAP2, 0x0000000e, 0); /* 2.5, 5 and 8 GT/s */
    put16(pci, PCIE_LNKCTL2, 0x0003, 0x000f);
}

void vfu_pci_reset(struct vfu_pci *pci)
{
    memset(pci->bytes, 0, sizeof(pci->bytes));
    memset(pci->writable, 0, sizeof(pci->writable));
    put_header(pci);
    put_capabilities(pci);
}

void vfu_pci_init(struct vfu_pci *pci, const struct vfu_pci_config *config)
{
    pci->config = *config;
    vfu_pci_reset(pci);
}

bool vfu_pci_dma_allowed(const struct vfu_pci *pci)
{
    return (get16(pci, VFU_PCI_OFFSET_COMMAND) & COMMAND_BUS_MASTER) != 0 &&
           (get16(pci, PMCSR) & PMCSR_STATE) == 0;
}

void vfu_pci_read(const struct vfu_pci *pci, uint32_t offset, uint8_t *to, uint32_t len_bytes)
{
    memcpy(to, pci->bytes + offset, len_bytes);
}

struct vfu_pci_effect vfu_pci_write(struct vfu_pci *pci, uint32_t offset, const uint8_t *from,
                                    uint32_t len_bytes)
{
    struct vfu_pci_effect effect = {.dma_before = vfu_pci_dma_allowed(pci)};
    uint32_t flr_byte = PCIE_DEVCTL + 1;

    for (uint32_t i = 0; i < len_bytes; i++) {
        uint8_t writable = pci->writable[offset + i];
        uint8_t *byte = &pci->bytes[offset + i];
        *byte = (uint8_t)((*byte & ~writable) | (from[i] & writable));
    }
    if (offset <= flr_byte && flr_byte - offset < len_bytes) {
        effect.flr = (from[flr_byte - offset] & (PCIE_DEVCTL_FLR >> 8)) != 0; /* reads as 0 */
    }
    effect.dma_after = vfu_pci_dma_allowed(pci);
    return effect;
}
