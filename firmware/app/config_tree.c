/*
 * The tree as a whole, and its options, ports and functions, whose properties are the words of
 * config.h in another spelling; see config_tree.h.
 */
#include "app/config_tree.h"

#include <libfdt.h>
#include <string.h>
#include "app/config_priv.h"
#include "app/config_tree_priv.h"
#include "base/bits.h"

#define WORD(property, word)                                        \
    {                                                               \
        .name = (property), .type = CONFIG_PROP_WORD, .key = (word) \
    }
#define FUNCTION(property, kind, field, least, most)                                      \
    {                                                                                     \
        .name = (property), .type = CONFIG_PROP_##kind,                                   \
        .offset = offsetof(struct config_function, field), .low = (least), .high = (most) \
    }

static const struct config_prop_row option_rows[] = {
    WORD("cores", "cores"),         WORD("idle", "idle"),
    WORD("serial", "serial"),       WORD("serve-wait-ms", "wait"),
    WORD("diag", "diag"),           WORD("rping-port", "rping.port"),
    WORD("perf-port", "perf.port"), WORD("perf-size", "perf.size"),
    WORD("in-band", "inband"),
};

static const struct config_prop_row port_rows[] = {
    {.name = "reg"},         WORD("ip", "ip"),     WORD("ip6", "ip6"), WORD("gateway", "gw"),
    WORD("gateway6", "gw6"), WORD("vlan", "vlan"), WORD("mtu", "mtu"), WORD("ecn", "ecn"),
};

#define SEEN_HOSTID BIT32(0)

static const struct config_prop_row function_rows[] = {
    FUNCTION("hostid", UUID, hostid, 0, 0), /* SEEN_HOSTID */
    FUNCTION("hostnqn", TEXT, hostnqn, 1, NVMF_NQN_MAX_CHARS),
    {.name = "reg"},
    WORD("queues", "queues"),
    WORD("mdts", "mdts"),
    WORD("sgl", "sgl"),
    WORD("doorbell-buffers", "dbbuf"),
    WORD("dstrd", "dstrd"),
    WORD("namespace-room", "room"),
};

/* Of the flattened form: the one that dtc writes. */
#define TREE_VERSION 17

/* --- options and ports ----------------------------------------------------------------------- */

static enum status read_options(struct config_tree *tree)
{
    int node = config_tree_part(tree, "options");
    uint32_t seen;

    tree->index = CONFIG_EVERY;
    return node < 0 ? STATUS_OK
                    : config_tree_leaf(tree, node, option_rows, ARRAY_SIZE(option_rows),
                                       tree->config, &seen);
}

static enum status read_port(struct config_tree *tree, int node)
{
    uint32_t index;
    uint32_t seen;

    if (!config_tree_is_named(tree, node, "port")) {
        return config_tree_fail(tree, node, NULL, "expected nodes port@0 ...");
    }
    enum status status = config_tree_reg(tree, node, LIMIT_ETH_PORTS - 1, &index);
    if (status == STATUS_OK && (tree->ports & BIT32(index)) != 0) {
        status = config_tree_fail(tree, node, "reg", "there is such a port already");
    }
    if (status == STATUS_OK) {
        tree->ports |= BIT32(index);
        tree->index = index;
        status = config_tree_leaf(tree, node, port_rows, ARRAY_SIZE(port_rows),
                                  &tree->config->ports[index], &seen);
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

/* --- functions ------------------------------------------------------------------------------- */

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
    static const struct config_prop_row rows[] = {{.name = "reg"}, {.name = "volume"}};
    struct config_function *function = &tree->config->functions[fn];
    uint32_t nsid;
    uint32_t seen;

    if (!config_tree_is_named(tree, node, "namespace")) {
        return config_tree_fail(tree, node, NULL, "expected nodes namespace@1 ...");
    }
    enum status status = config_tree_reg(tree, node, LIMIT_NAMESPACES, &nsid);
    if (status == STATUS_OK) {
        status = config_tree_leaf(tree, node, rows, ARRAY_SIZE(rows), &nsid, &seen);
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
    uint32_t seen;
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
        tree->index = fn;
        status = config_tree_record(tree, node, function_rows, ARRAY_SIZE(function_rows),
                                    &tree->config->functions[fn], &seen);
    }
    if (status != STATUS_OK) {
        return status;
    }
    tree->config->functions[fn].has_hostid = (seen & SEEN_HOSTID) != 0;
    fdt_for_each_subnode(child, tree->blob, node)
    {
        status = read_ns(tree, child, (uint8_t)fn);
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

/* Whether the root may have this node: one of each part. dtc -@ adds __symbols__ and the like. */
static bool is_part(const struct config_tree *tree, int node)
{
    static const char *const parts[] = {"options", "ports", "subsystems", "volumes", "functions"};
    const char *name = fdt_get_name(tree->blob, node, NULL);

    for (uint32_t i = 0; name != NULL && i < ARRAY_SIZE(parts); i++) {
        if (strcmp(name, parts[i]) == 0) {
            return node == config_tree_part(tree, name);
        }
    }
    return name != NULL && strncmp(name, "__", 2) == 0;
}

static enum status check_root(struct config_tree *tree)
{
    static const struct config_prop_row rows[] = {{.name = "compatible"}};
    uint32_t seen;
    int node;

    if (fdt_node_check_compatible(tree->blob, 0, "snic,config") != 0) {
        return config_tree_fail(tree, 0, "compatible", "expected \"snic,config\"");
    }
    fdt_for_each_subnode(node, tree->blob, 0)
    {
        if (!is_part(tree, node)) {
            return config_tree_fail(
                tree, node, NULL,
                "expected options, ports, subsystems, volumes or functions, once each");
        }
    }
    return config_tree_record(tree, 0, rows, ARRAY_SIZE(rows), tree->config, &seen);
}

enum status config_tree_open(struct config_tree *tree, const void *blob, uint32_t max_bytes,
                             struct config *config, char *error, uint32_t error_bytes)
{
    static const struct {
        const char *name;
        enum status (*read)(struct config_tree *tree, int node);
    } parts[] = {
        {"ports", read_port},
        {"subsystems", config_tree_note_subsystem},
        {"volumes", config_tree_note_volume}, /* after what they refer to */
        {"functions", read_function},
    };

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
    enum status status = check_root(tree);
    if (status == STATUS_OK) {
        status = read_options(tree);
    }
    for (uint32_t i = 0; status == STATUS_OK && i < ARRAY_SIZE(parts); i++) {
        status = config_tree_each(tree, parts[i].name, parts[i].read);
    }
    if (status == STATUS_OK) {
        error[0] = '\0';
    }
    return status;
}
