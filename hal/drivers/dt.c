#include "hal/drivers/dt.h"

#include <libfdt.h>
#include <stdio.h>
#include <string.h>
#include "base/bits.h"

#define CELL_BYTES 4u

/* Device tree interrupt specifiers of a GIC: type, number, flags (Linux bindings, arm,gic) */
#define GIC_CELLS         3u
#define GIC_SHARED_FIRST  32u
#define GIC_PRIVATE_FIRST 16u
#define GIC_FLAG_EDGES    0x3u

/* PCI bus binding (IEEE 1275-1994 2.1.4.2), first cell of an address: space code */
#define PCI_SPACE_SHIFT   24
#define PCI_SPACE_BITS    2
#define PCI_SPACE_32      2u
#define PCI_SPACE_64      3u
#define PCI_ADDRESS_CELLS 3u

enum status dt_fail(struct dt *dt, int node, const char *property, const char *problem,
                    enum status status)
{
    if (node < 0 || fdt_get_path(dt->blob, node, dt->error.node, sizeof(dt->error.node)) != 0) {
        snprintf(dt->error.node, sizeof(dt->error.node), "%s",
                 node < 0 ? "device tree" : "(a node with a long path)");
    }
    dt->error.property = property;
    dt->error.problem = problem;
    return status;
}

static enum status not_found(struct dt *dt, const char *what)
{
    snprintf(dt->error.node, sizeof(dt->error.node), "%s", what);
    dt->error.property = NULL;
    dt->error.problem = "no such node";
    return STATUS_NOT_FOUND;
}

enum status dt_open(struct dt *dt, const void *blob, uint32_t max_bytes)
{
    dt->blob = blob;
    if (blob == NULL || fdt_check_header(blob) != 0) {
        return dt_fail(dt, -1, NULL, "there is none, or its header is damaged", STATUS_BAD_DATA);
    }
    if (fdt_totalsize(blob) > max_bytes) {
        return dt_fail(dt, -1, NULL, "it is too large", STATUS_BAD_DATA);
    }
    if (fdt_check_full(blob, fdt_totalsize(blob)) != 0) {
        return dt_fail(dt, -1, NULL, "its structure is damaged", STATUS_BAD_DATA);
    }
    return STATUS_OK;
}

/* --- nodes -------------------------------------------------------------------------------------
 */

static bool is_enabled(const struct dt *dt, int node)
{
    int len_bytes;
    const char *status = fdt_getprop(dt->blob, node, "status", &len_bytes);
    return status == NULL || (len_bytes == 5 && memcmp(status, "okay", 5) == 0) ||
           (len_bytes == 3 && memcmp(status, "ok", 3) == 0);
}

enum status dt_find(struct dt *dt, int previous, const char *compatible, int *node)
{
    int at = previous;
    do {
        at = fdt_node_offset_by_compatible(dt->blob, at, compatible);
    } while (at >= 0 && !is_enabled(dt, at));
    if (at < 0) {
        return not_found(dt, compatible);
    }
    *node = at;
    return STATUS_OK;
}

enum status dt_find_child(struct dt *dt, int parent, const char *compatible, int *node)
{
    int at;
    fdt_for_each_subnode(at, dt->blob, parent)
    {
        if (fdt_node_check_compatible(dt->blob, at, compatible) == 0 && is_enabled(dt, at)) {
            *node = at;
            return STATUS_OK;
        }
    }
    return not_found(dt, compatible);
}

enum status dt_find_path(struct dt *dt, const char *path, int *node)
{
    int at = fdt_path_offset(dt->blob, path);
    if (at < 0) {
        return not_found(dt, path);
    }
    *node = at;
    return STATUS_OK;
}

/* --- properties --------------------------------------------------------------------------------
 */

enum status dt_bytes(struct dt *dt, int node, const char *property, const void **bytes,
                     uint32_t *len_bytes)
{
    int length;
    const void *value = fdt_getprop(dt->blob, node, property, &length);
    if (value == NULL) {
        return dt_fail(dt, node, property, "is missing", STATUS_NOT_FOUND);
    }
    *bytes = value;
    *len_bytes = (uint32_t)length;
    return STATUS_OK;
}

enum status dt_string(struct dt *dt, int node, const char *property, const char **text)
{
    const void *bytes;
    uint32_t len_bytes;
    enum status status = dt_bytes(dt, node, property, &bytes, &len_bytes);
    if (status != STATUS_OK) {
        return status;
    }
    if (memchr(bytes, '\0', len_bytes) == NULL) {
        return dt_fail(dt, node, property, "is not a string", STATUS_BAD_DATA);
    }
    *text = bytes;
    return STATUS_OK;
}

static uint32_t cell(const void *bytes, uint32_t index)
{
    uint32_t value;
    memcpy(&value, (const char *)bytes + (size_t)index * CELL_BYTES, sizeof(value));
    return fdt32_to_cpu(value);
}

/* One number of 1 or 2 cells. */
static uint64_t cells(const void *bytes, uint32_t index, uint32_t count)
{
    uint64_t value = cell(bytes, index);
    return count == 1 ? value : value << 32 | cell(bytes, index + 1);
}

enum status dt_u32(struct dt *dt, int node, const char *property, uint32_t *value)
{
    const void *bytes;
    uint32_t len_bytes;
    enum status status = dt_bytes(dt, node, property, &bytes, &len_bytes);
    if (status != STATUS_OK) {
        return status;
    }
    if (len_bytes != CELL_BYTES) {
        return dt_fail(dt, node, property, "is not one cell", STATUS_BAD_DATA);
    }
    *value = cell(bytes, 0);
    return STATUS_OK;
}

/* How many cells the children of `node` use; the specification's defaults when it does not say. */
static enum status cell_counts(struct dt *dt, int node, uint32_t *address_cells,
                               uint32_t *size_cells)
{
    *address_cells = 2;
    *size_cells = 1;
    enum status status = dt_u32(dt, node, "#address-cells", address_cells);
    if (status == STATUS_OK || status == STATUS_NOT_FOUND) {
        status = dt_u32(dt, node, "#size-cells", size_cells);
    }
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

/* Addresses of a node are the cores' own when each bus above it translates nothing. */
static enum status check_untranslated(struct dt *dt, int node)
{
    for (int bus = fdt_parent_offset(dt->blob, node); bus > 0;
         bus = fdt_parent_offset(dt->blob, bus)) {
        int len_bytes;
        if (fdt_getprop(dt->blob, bus, "ranges", &len_bytes) == NULL || len_bytes != 0) {
            return dt_fail(dt, bus, "ranges", "translates addresses, which is not supported",
                           STATUS_UNSUPPORTED);
        }
    }
    return STATUS_OK;
}

enum status dt_reg(struct dt *dt, int node, uint32_t index, struct dt_range *range)
{
    uint32_t address_cells;
    uint32_t size_cells;
    int parent = fdt_parent_offset(dt->blob, node);
    if (parent < 0) {
        return dt_fail(dt, node, "reg", "has no bus", STATUS_BAD_DATA);
    }
    enum status status = cell_counts(dt, parent, &address_cells, &size_cells);
    if (status != STATUS_OK) {
        return status;
    }
    if (address_cells < 1 || address_cells > 2 || size_cells < 1 || size_cells > 2) {
        return dt_fail(dt, parent, "#address-cells", "or #size-cells is neither 1 nor 2",
                       STATUS_BAD_DATA);
    }
    const void *bytes;
    uint32_t len_bytes;
    status = dt_bytes(dt, node, "reg", &bytes, &len_bytes);
    if (status != STATUS_OK) {
        return status;
    }
    uint32_t entry_cells = address_cells + size_cells;
    if (len_bytes == 0 || len_bytes % (entry_cells * CELL_BYTES) != 0) {
        return dt_fail(dt, node, "reg", "is not a whole number of address and size pairs",
                       STATUS_BAD_DATA);
    }
    if (index >= len_bytes / (entry_cells * CELL_BYTES)) {
        return dt_fail(dt, node, "reg", "has too few ranges", STATUS_NOT_FOUND);
    }
    range->base = cells(bytes, index * entry_cells, address_cells);
    range->len_bytes = cells(bytes, index * entry_cells + address_cells, size_cells);
    if (range->base + range->len_bytes < range->base) {
        return dt_fail(dt, node, "reg", "wraps round the address space", STATUS_BAD_DATA);
    }
    return check_untranslated(dt, node);
}

enum status dt_interrupt(struct dt *dt, int node, uint32_t index, struct dt_irq *irq)
{
    const void *bytes;
    uint32_t len_bytes;
    enum status status = dt_bytes(dt, node, "interrupts", &bytes, &len_bytes);
    if (status != STATUS_OK) {
        return status;
    }
    if (len_bytes % (GIC_CELLS * CELL_BYTES) != 0 ||
        index >= len_bytes / (GIC_CELLS * CELL_BYTES)) {
        return dt_fail(dt, node, "interrupts", "has too few cells (three each for a GIC)",
                       STATUS_BAD_DATA);
    }
    uint32_t type = cell(bytes, index * GIC_CELLS);
    uint32_t number = cell(bytes, index * GIC_CELLS + 1);
    if (type > 1 || number >= (type == 0 ? 988u : 16u)) {
        return dt_fail(dt, node, "interrupts", "names an interrupt that no GIC has",
                       STATUS_BAD_DATA);
    }
    irq->irq = number + (type == 0 ? GIC_SHARED_FIRST : GIC_PRIVATE_FIRST);
    irq->is_edge = (cell(bytes, index * GIC_CELLS + 2) & GIC_FLAG_EDGES) != 0;
    return STATUS_OK;
}

/* --- things that every board has ----------------------------------------------------------------
 */

enum status dt_memory(struct dt *dt, struct dt_range *ranges, uint32_t max_count, uint32_t *count)
{
    int node = -1;

    *count = 0;
    while ((node = fdt_node_offset_by_prop_value(dt->blob, node, "device_type", "memory",
                                                 sizeof("memory"))) >= 0) {
        enum status status = STATUS_OK;
        struct dt_range range;
        for (uint32_t i = 0; (status = dt_reg(dt, node, i, &range)) == STATUS_OK; i++) {
            if (*count == max_count) {
                return dt_fail(dt, node, "reg", "is one memory range too many", STATUS_NO_SPACE);
            }
            ranges[(*count)++] = range;
        }
        if (status != STATUS_NOT_FOUND || fdt_getprop(dt->blob, node, "reg", NULL) == NULL) {
            return status == STATUS_NOT_FOUND ? STATUS_BAD_DATA : status;
        }
    }
    return *count > 0 ? STATUS_OK : not_found(dt, "/memory");
}

static enum status core_id(struct dt *dt, int node, uint32_t address_cells, uint64_t *id)
{
    const void *bytes;
    uint32_t len_bytes;
    enum status status = dt_bytes(dt, node, "reg", &bytes, &len_bytes);
    if (status != STATUS_OK) {
        return STATUS_BAD_DATA;
    }
    if (len_bytes != address_cells * CELL_BYTES) {
        return dt_fail(dt, node, "reg", "does not have the cells that /cpus says", STATUS_BAD_DATA);
    }
    *id = cells(bytes, 0, address_cells);
    return STATUS_OK;
}

enum status dt_cores(struct dt *dt, uint64_t *ids, uint32_t max_count, uint32_t *count)
{
    int cpus;
    uint32_t address_cells;
    enum status status = dt_find_path(dt, "/cpus", &cpus);
    if (status == STATUS_OK) {
        status = dt_u32(dt, cpus, "#address-cells", &address_cells);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (address_cells != 1 && address_cells != 2) {
        return dt_fail(dt, cpus, "#address-cells", "is neither 1 nor 2", STATUS_BAD_DATA);
    }
    *count = 0;
    int node;
    fdt_for_each_subnode(node, dt->blob, cpus)
    {
        const char *text;
        if (dt_string(dt, node, "device_type", &text) != STATUS_OK || strcmp(text, "cpu") != 0 ||
            !is_enabled(dt, node)) {
            continue;
        }
        uint64_t id;
        status = core_id(dt, node, address_cells, &id);
        if (status != STATUS_OK) {
            return status;
        }
        /* A single core needs nobody to start it, and its tree need not say how. */
        if (dt_string(dt, node, "enable-method", &text) == STATUS_OK && strcmp(text, "psci") != 0) {
            return dt_fail(dt, node, "enable-method", "is not psci", STATUS_UNSUPPORTED);
        }
        if (*count < max_count) {
            ids[*count] = id;
        }
        (*count)++;
    }
    return *count > 0 ? STATUS_OK : not_found(dt, "/cpus/cpu");
}

/* One entry of `ranges`: three cells of PCI address, two of ours, two of size. */
static enum status pcie_window(struct dt *dt, int node, const void *entry, struct dt_pcie *pcie)
{
    uint64_t space = FIELD_GET(PCI_SPACE, cell(entry, 0));
    uint64_t bus_addr = cells(entry, 1, 2);
    struct dt_range range = {cells(entry, 3, 2), cells(entry, 5, 2)};

    if (space != PCI_SPACE_32 && space != PCI_SPACE_64) {
        return STATUS_OK; /* I/O ports: not used */
    }
    if (bus_addr != range.base) {
        return dt_fail(dt, node, "ranges", "translates memory, which is not supported",
                       STATUS_UNSUPPORTED);
    }
    if (range.base + range.len_bytes < range.base ||
        (space == PCI_SPACE_32 && range.base + range.len_bytes > BIT64(32))) {
        return dt_fail(dt, node, "ranges", "has a window that wraps", STATUS_BAD_DATA);
    }
    *(space == PCI_SPACE_32 ? &pcie->memory32 : &pcie->memory64) = range;
    return STATUS_OK;
}

enum status dt_pcie(struct dt *dt, int node, struct dt_pcie *pcie)
{
    uint32_t address_cells;
    uint32_t size_cells;
    const void *bytes;
    uint32_t len_bytes;

    memset(pcie, 0, sizeof(*pcie));
    enum status status = dt_reg(dt, node, 0, &pcie->ecam);
    if (status == STATUS_OK) {
        status = cell_counts(dt, node, &address_cells, &size_cells);
    }
    if (status == STATUS_OK) {
        status = dt_bytes(dt, node, "ranges", &bytes, &len_bytes);
    }
    if (status != STATUS_OK) {
        return status;
    }
    uint32_t entry_bytes = (PCI_ADDRESS_CELLS + 2 + 2) * CELL_BYTES;
    if (address_cells != PCI_ADDRESS_CELLS || size_cells != 2 || len_bytes % entry_bytes != 0) {
        return dt_fail(dt, node, "ranges", "does not have seven cells per window", STATUS_BAD_DATA);
    }
    for (uint32_t at = 0; at < len_bytes && status == STATUS_OK; at += entry_bytes) {
        status = pcie_window(dt, node, (const char *)bytes + at, pcie);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (pcie->memory32.len_bytes == 0 && pcie->memory64.len_bytes == 0) {
        return dt_fail(dt, node, "ranges", "has no memory window", STATUS_BAD_DATA);
    }
    if (dt_bytes(dt, node, "bus-range", &bytes, &len_bytes) == STATUS_OK) {
        if (len_bytes != 2 * CELL_BYTES || cell(bytes, 0) > 255) {
            return dt_fail(dt, node, "bus-range", "is not two bus numbers", STATUS_BAD_DATA);
        }
        pcie->first_bus = (uint8_t)cell(bytes, 0);
    }
    return STATUS_OK;
}
