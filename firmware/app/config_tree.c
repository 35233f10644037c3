/*
 * The tree as a whole, and its options, ports and functions, whose properties are the words of
 * config.h in another spelling; see config_tree.h.
 */
#include "app/config_tree.h"

#include <libfdt.h>
#include <stdio.h>
#include <string.h>
#include "app/config_priv.h"
#include "app/config_tree_priv.h"
#include "base/assert.h"

/* --- properties that are words --------------------------------------------------------------- */

struct word_row {
    const char *property;
    const char *key;
};

static const struct word_row option_rows[] = {
    {"cores", "cores"},         {"idle", "idle"},           {"serial", "serial"},
    {"serve-wait-ms", "wait"},  {"diag", "diag"},           {"rping-port", "rping.port"},
    {"perf-port", "perf.port"}, {"perf-size", "perf.size"}, {NULL, NULL},
};

static const struct word_row port_rows[] = {
    {"ip", "ip"},     {"ip6", "ip6"}, {"gateway", "gw"}, {"gateway6", "gw6"},
    {"vlan", "vlan"}, {"mtu", "mtu"}, {"ecn", "ecn"},    {NULL, NULL},
};

static const struct word_row function_rows[] = {
    {"queues", "queues"}, {"mdts", "mdts"},           {"sgl", "sgl"}, {"doorbell-buffers", "dbbuf"},
    {"dstrd", "dstrd"},   {"namespace-room", "room"}, {NULL, NULL},
};

#define NO_INDEX UINT32_MAX

/* Of the flattened form: the one that dtc writes. */
#define TREE_VERSION 17

/* A cell, a string, or nothing for "on", as the text of a word; NULL: none of them. */
static const char *word_text(const void *bytes, int len_bytes, char number[12])
{
    const char *text = bytes;

    if (len_bytes == 0) {
        return "on";
    }
    if (text[0] >= ' ' && memchr(text, '\0', (size_t)len_bytes) == text + len_bytes - 1) {
        return text;
    }
    if (len_bytes != (int)sizeof(uint32_t)) {
        return NULL;
    }
    snprintf(number, 12, "%u", (unsigned)fdt32_ld(bytes));
    return number;
}

static enum status set_property(struct config_tree *tree, int node, const char *property,
                                const char *key, const char *value, uint32_t index)
{
    char name[24];
    bool is_known;

    if (value == NULL) {
        return config_tree_fail(tree, node, property, "expected one cell or one string");
    }
    snprintf(name, sizeof(name), index == NO_INDEX ? "%s" : "%s.%u", key, (unsigned)index);
    uint32_t used = config_tree_fail_node(tree, node); /* in case that it fails */
    struct config_word word = {.config = tree->config,
                               .key = property,
                               .value = value,
                               .error = tree->error + used,
                               .error_bytes = tree->error_bytes - used};
    enum status status = config_set(&word, name, &is_known);
    ASSERT(is_known);
    return status;
}

/* Sets every property that a row names; false in *is_other: one that is not, and not of `others`,
 * a list with ends. */
static enum status set_properties(struct config_tree *tree, int node, const struct word_row *rows,
                                  const char *others, uint32_t index)
{
    int at;

    fdt_for_each_property_offset(at, tree->blob, node)
    {
        const char *name;
        const char *other = others;
        const struct word_row *row = rows;
        char number[12];
        int len_bytes;
        const void *bytes = fdt_getprop_by_offset(tree->blob, at, &name, &len_bytes);
        if (bytes == NULL) {
            return config_tree_fail(tree, node, NULL, "is damaged");
        }
        while (row->property != NULL && strcmp(row->property, name) != 0) {
            row++;
        }
        while (*other != '\0' && strcmp(other, name) != 0) {
            other += strlen(other) + 1;
        }
        if (row->property == NULL) {
            if (*other != '\0' || name[0] == '#') {
                continue;
            }
            return config_tree_fail(tree, node, name, "there is no such property here");
        }
        enum status status =
            set_property(tree, node, name, row->key, word_text(bytes, len_bytes, number), index);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

/* --- options and ports ----------------------------------------------------------------------- */

static enum status read_options(struct config_tree *tree)
{
    int node = config_tree_part(tree, "options");

    return node < 0 ? STATUS_OK : set_properties(tree, node, option_rows, "", NO_INDEX);
}

static enum status read_port(struct config_tree *tree, int node)
{
    uint32_t index;

    if (!config_tree_is_named(tree, node, "port")) {
        return config_tree_fail(tree, node, NULL, "expected nodes port@0 ...");
    }
    enum status status = config_tree_reg(tree, node, LIMIT_ETH_PORTS - 1, &index);
    if (status == STATUS_OK) {
        status = set_properties(tree, node, port_rows, "reg\0", index);
    }
    if (status == STATUS_OK) {
        uint32_t family = config_bad_gateway(&tree->config->ports[index]);
        if (family != 0) {
            return config_tree_fail(tree, node, family == 4 ? "gateway" : "gateway6",
                                    "expected a router in the network of the port's address");
        }
    }
    return status;
}

static enum status read_ports(struct config_tree *tree)
{
    int ports = config_tree_part(tree, "ports");
    int node;

    if (ports < 0) {
        return STATUS_OK;
    }
    fdt_for_each_subnode(node, tree->blob, ports)
    {
        enum status status = read_port(tree, node);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

/* --- functions ------------------------------------------------------------------------------- */

static const struct config_prop_row identity_rows[] = {
    {"hostnqn", CONFIG_PROP_TEXT, 0, offsetof(struct config_function, hostnqn), 1,
     NVMF_NQN_MAX_CHARS},
    {"hostid", CONFIG_PROP_UUID, 0, offsetof(struct config_function, hostid), 0, 0},
    {"reg", CONFIG_PROP_OTHER, 0, 0, 0, 0},
    {"queues", CONFIG_PROP_OTHER, 0, 0, 0, 0},
    {"mdts", CONFIG_PROP_OTHER, 0, 0, 0, 0},
    {"sgl", CONFIG_PROP_OTHER, 0, 0, 0, 0},
    {"doorbell-buffers", CONFIG_PROP_OTHER, 0, 0, 0, 0},
    {"dstrd", CONFIG_PROP_OTHER, 0, 0, 0, 0},
    {"namespace-room", CONFIG_PROP_OTHER, 0, 0, 0, 0},
};

/* A namespace's volume; UINT32_MAX: it names none. */
static uint32_t ns_volume(const struct config_tree *tree, int node)
{
    int len_bytes;
    const fdt32_t *cell = fdt_getprop(tree->blob, node, "volume", &len_bytes);
    uint32_t phandle = cell != NULL && len_bytes == (int)sizeof(*cell) ? fdt32_ld(cell) : 0;

    for (uint32_t i = 0; phandle != 0 && i < tree->volume_count; i++) {
        if (tree->volumes[i].phandle == phandle) {
            return i;
        }
    }
    return UINT32_MAX;
}

static enum status read_ns(struct config_tree *tree, int node, uint8_t fn)
{
    static const struct config_prop_row rows[] = {
        {"reg", CONFIG_PROP_OTHER, 0, 0, 0, 0},
        {"volume", CONFIG_PROP_OTHER, 0, 0, 0, 0},
    };
    struct config_function *function = &tree->config->functions[fn];
    uint32_t nsid;
    uint32_t seen;

    if (!config_tree_is_named(tree, node, "namespace")) {
        return config_tree_fail(tree, node, NULL, "expected nodes namespace@1 ...");
    }
    enum status status = config_tree_reg(tree, node, LIMIT_NAMESPACES, &nsid);
    if (status == STATUS_OK) {
        status = config_tree_record(tree, node, rows, ARRAY_SIZE(rows), &nsid, &seen);
    }
    if (status != STATUS_OK) {
        return status;
    }
    /* Ascending, so that none is there twice. */
    if (nsid <= function->ns_high) {
        return config_tree_fail(tree, node, "reg", "expected identifiers in order, from <1>");
    }
    function->ns_high = (uint16_t)nsid;
    uint32_t volume = ns_volume(tree, node);
    if (volume == UINT32_MAX) {
        return config_tree_fail(tree, node, "volume", "expected <&LABEL> of a node in /volumes");
    }
    return config_tree_give_volume(tree, node, volume, fn);
}

static enum status read_function(struct config_tree *tree, int node)
{
    uint32_t fn;
    uint32_t seen = 0;
    int child;

    if (!config_tree_is_named(tree, node, "function")) {
        return config_tree_fail(tree, node, NULL, "expected nodes function@0 ...");
    }
    enum status status = config_tree_reg(tree, node, LIMIT_FUNCTIONS - 1, &fn);
    if (status == STATUS_OK && tree->functions[fn] != 0) {
        status = config_tree_fail(tree, node, "reg", "there is such a function already");
    }
    if (status == STATUS_OK) {
        tree->functions[fn] = node;
        status = config_tree_record(tree, node, identity_rows, ARRAY_SIZE(identity_rows),
                                    &tree->config->functions[fn], &seen);
    }
    if (status == STATUS_OK) {
        tree->config->functions[fn].has_hostid = (seen & BIT32(1)) != 0;
        status = set_properties(tree, node, function_rows, "reg\0hostnqn\0hostid\0phandle\0", fn);
    }
    if (status != STATUS_OK) {
        return status;
    }
    fdt_for_each_subnode(child, tree->blob, node)
    {
        status = read_ns(tree, child, (uint8_t)fn);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static enum status read_functions(struct config_tree *tree)
{
    int functions = config_tree_part(tree, "functions");
    int node;

    if (functions < 0) {
        return STATUS_OK;
    }
    fdt_for_each_subnode(node, tree->blob, functions)
    {
        enum status status = read_function(tree, node);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

bool config_tree_next_ns(const struct config_tree *tree, uint32_t fn, struct config_tree_ns *ns)
{
    int node = 0;
    int len_bytes;

    if (ns->node > 0) {
        node = fdt_next_subnode(tree->blob, ns->node);
    } else if (tree->functions[fn] != 0) {
        node = fdt_first_subnode(tree->blob, tree->functions[fn]);
    }
    if (node <= 0) {
        return false;
    }
    const fdt32_t *reg = fdt_getprop(tree->blob, node, "reg", &len_bytes);
    ns->node = node;
    ns->nsid = reg != NULL && len_bytes == (int)sizeof(*reg) ? fdt32_ld(reg) : 0;
    ns->volume = ns_volume(tree, node);
    return ns->volume != UINT32_MAX;
}

/* --- the whole ------------------------------------------------------------------------------- */

bool config_tree_is_there(const void *blob, uint32_t max_bytes)
{
    return max_bytes >= sizeof(struct fdt_header) && fdt_check_header(blob) == 0 &&
           fdt_totalsize(blob) <= max_bytes && fdt_check_full(blob, fdt_totalsize(blob)) == 0 &&
           fdt_node_check_compatible(blob, 0, "snic,config") == 0;
}

static enum status check_root(struct config_tree *tree)
{
    static const char *const parts[] = {"options", "ports", "subsystems", "volumes", "functions"};
    int node;

    if (fdt_node_check_compatible(tree->blob, 0, "snic,config") != 0) {
        return config_tree_fail(tree, 0, "compatible", "expected \"snic,config\"");
    }
    fdt_for_each_subnode(node, tree->blob, 0)
    {
        const char *name = fdt_get_name(tree->blob, node, NULL);
        uint32_t i = 0;
        while (name != NULL && i < ARRAY_SIZE(parts) && strcmp(name, parts[i]) != 0) {
            i++;
        }
        /* dtc -@ adds __symbols__ and the like. */
        if (name == NULL || (i == ARRAY_SIZE(parts) && strncmp(name, "__", 2) != 0)) {
            return config_tree_fail(tree, node, NULL,
                                    "expected options, ports, subsystems, volumes or functions");
        }
    }
    return STATUS_OK;
}

enum status config_tree_open(struct config_tree *tree, const void *blob, uint32_t max_bytes,
                             struct config *config, char *error, uint32_t error_bytes)
{
    static enum status (*const parts[])(struct config_tree *) = {
        check_root,
        read_options,
        read_ports,
        config_tree_find_subsystems,
        config_tree_find_volumes, /* after what they refer to */
        read_functions,
    };
    enum status status = STATUS_OK;

    memset(tree, 0, sizeof(*tree));
    tree->blob = blob;
    tree->config = config;
    tree->error = error;
    tree->error_bytes = error_bytes;
    /* Versions before 17 have names without an end in sight, on which libfdt's check stumbles. */
    if (max_bytes < sizeof(struct fdt_header) || fdt_check_header(blob) != 0 ||
        fdt_version(blob) < TREE_VERSION || fdt_totalsize(blob) > max_bytes ||
        fdt_check_full(blob, fdt_totalsize(blob)) != 0) {
        return config_tree_fail(tree, -1, NULL, "it is no device tree, or it is damaged");
    }
    for (uint32_t i = 0; i < LIMIT_FUNCTIONS; i++) {
        config->functions[i].ns_count = 0; /* the tree has them all */
    }
    for (uint32_t i = 0; status == STATUS_OK && i < ARRAY_SIZE(parts); i++) {
        status = parts[i](tree);
    }
    if (status == STATUS_OK) {
        error[0] = '\0';
    }
    return status;
}
