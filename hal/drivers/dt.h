/*
 * Reads a flattened device tree (Devicetree Specification 0.4) over libfdt, and says exactly what
 * is wrong with one: every failure leaves node, property and problem in dt->error.
 *
 * The blob comes from outside: it is checked as a whole by dt_open(), and each value where it is
 * used. Leaves out: address translation other than one to one, interrupt controllers other than the
 * GIC.
 */
#ifndef DRIVERS_DT_H
#define DRIVERS_DT_H

#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"

struct dt_error {
    char node[64];        /* path, or what was looked for */
    const char *property; /* NULL: the node itself */
    const char *problem;
};

struct dt {
    const void *blob;
    struct dt_error error;
};

struct dt_range {
    uint64_t base;
    uint64_t len_bytes;
};

struct dt_irq {
    uint32_t irq; /* GIC INTID */
    bool is_edge;
};

/* BAD_DATA: not a device tree, or damaged. `blob` stays valid as long as `dt` is used. */
MUST_USE enum status dt_open(struct dt *dt, const void *blob, uint32_t max_bytes);

/* First enabled node after `previous` (-1: from the start) that is compatible with `compatible`. In
 * *node. NOT_FOUND: none (with the error set; harmless for optional nodes). */
MUST_USE enum status dt_find(struct dt *dt, int previous, const char *compatible, int *node);
/* The direct child of `parent`. */
MUST_USE enum status dt_find_child(struct dt *dt, int parent, const char *compatible, int *node);
/* By absolute path. */
MUST_USE enum status dt_find_path(struct dt *dt, const char *path, int *node);

/* The `index`-th range of `reg`. NOT_FOUND: fewer. BAD_DATA: malformed. UNSUPPORTED: translated. */
MUST_USE enum status dt_reg(struct dt *dt, int node, uint32_t index, struct dt_range *range);

/* The `index`-th interrupt. BAD_DATA: missing or not a GIC's three cells. */
MUST_USE enum status dt_interrupt(struct dt *dt, int node, uint32_t index, struct dt_irq *irq);

/* One 32-bit cell. NOT_FOUND, BAD_DATA. */
MUST_USE enum status dt_u32(struct dt *dt, int node, const char *property, uint32_t *value);

/* A string that ends within the property. NOT_FOUND, BAD_DATA. */
MUST_USE enum status dt_string(struct dt *dt, int node, const char *property, const char **text);

/* Raw bytes. NOT_FOUND. */
MUST_USE enum status dt_bytes(struct dt *dt, int node, const char *property, const void **bytes,
                              uint32_t *len_bytes);

/* --- things that every board has ---------------------------------------------------------------
 */

/* Ranges of all memory nodes, at most `max_count`; *count of them. NOT_FOUND, BAD_DATA, NO_SPACE.
 */
MUST_USE enum status dt_memory(struct dt *dt, struct dt_range *ranges, uint32_t max_count,
                               uint32_t *count);

/* Hardware ids (`reg`) of all cores; more than max_count are counted but not stored.
 * BAD_DATA, NOT_FOUND; UNSUPPORTED: one is not started by PSCI. */
MUST_USE enum status dt_cores(struct dt *dt, uint64_t *ids, uint32_t max_count, uint32_t *count);

/* The windows of a PCIe host bridge node. */
struct dt_pcie {
    struct dt_range ecam;
    uint8_t first_bus;
    struct dt_range memory32; /* len_bytes 0: none */
    struct dt_range memory64;
};
MUST_USE enum status dt_pcie(struct dt *dt, int node, struct dt_pcie *pcie);

/* For modules that find something wrong with a node themselves: fills dt->error, returns `status`.
 */
enum status dt_fail(struct dt *dt, int node, const char *property, const char *problem,
                    enum status status);

#endif
