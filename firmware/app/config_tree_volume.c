/*
 * The tree's subsystems and volumes; see config_tree.h.
 */
#include <libfdt.h>
#include <string.h>
#include "app/config_tree_priv.h"
#include "base/bits.h"

#define HOUR_MS UINT32_C(3600000)

#define ROW(property, kind, record, field, least, most)                          \
    {                                                                            \
        .name = (property), .type = CONFIG_PROP_##kind,                          \
        .bytes = (uint8_t)sizeof(((struct record *)0)->field),                   \
        .offset = offsetof(struct record, field), .low = (least), .high = (most) \
    }

/* --- subsystems ------------------------------------------------------------------------------ */

#define SUB(name, type, field, low, high) ROW(name, type, config_subsystem, field, low, high)

static const struct config_prop_row subsystem_rows[] = {
    SUB("nqn", TEXT, nqn, 1, NVMF_NQN_MAX_CHARS),
    SUB("address", ADDR, addr, 0, 0),
    SUB("port", NUMBER, port, 1, UINT16_MAX),
    SUB("queue-entries", NUMBER, queue_entries, 2, LIMIT_NVMF_QUEUE_ENTRIES),
    SUB("keep-alive-ms", NUMBER, keep_alive_ms, 1, HOUR_MS),
    SUB("connect-timeout-ms", NUMBER, connect_timeout_ms, 1, HOUR_MS),
    SUB("command-timeout-ms", NUMBER, command_timeout_ms, 1, HOUR_MS),
    SUB("backoff-ms", PAIR, backoff_ms, 1, HOUR_MS),
    SUB("quiesce-ms", NUMBER, quiesce_ms, 1, HOUR_MS),
    SUB("sq-flow-control", FLAG, sq_flow_control, 0, 0),
    SUB("no-in-capsule", FLAG, no_in_capsule, 0, 0),
};

static enum status read_subsystem(struct config_tree *tree, int node, struct config_subsystem *out)
{
    uint32_t seen;

    *out = (struct config_subsystem){.name = fdt_get_name(tree->blob, node, NULL)};
    enum status status =
        config_tree_leaf(tree, node, subsystem_rows, ARRAY_SIZE(subsystem_rows), out, &seen);
    if (status != STATUS_OK) {
        return status;
    }
    if (out->nqn == NULL) {
        return config_tree_fail(tree, node, "nqn", "is missing");
    }
    return (seen & BIT32(1)) != 0 ? STATUS_OK
                                  : config_tree_fail(tree, node, "address", "is missing");
}

/* --- paths ----------------------------------------------------------------------------------- */

#define PATH(name, type, field, low, high) ROW(name, type, config_path, field, low, high)

/* In this order: the kinds of enum config_path_kind, then the names of a remote namespace. */
static const struct config_prop_row path_rows[] = {
    PATH("subsystem", REF, subsystem, 0, 0),
    PATH("ram", SIZE, size_bytes, 0, 0),
    PATH("null", SIZE, size_bytes, 0, 0),
    PATH("drive", NUMBER, drive, 0, LIMIT_DRIVES - 1),
    PATH("nsid", NUMBER, id.nsid, 1, UINT32_MAX - 2),
    PATH("nguid", BYTES, id.nguid, 0, 0),
    PATH("uuid", UUID, id.uuid, 0, 0),
    PATH("eui64", BYTES, id.eui64, 0, 0),
    PATH("drive-nsid", NUMBER, drive_nsid, 1, UINT32_MAX - 2),
    PATH("block-size", BLOCK, block_bytes, 0, 0),
    {.name = "reg"},
};

#define SEEN_KINDS UINT32_C(0x00f)
#define SEEN_NAMES UINT32_C(0x0f0)
#define SEEN_NSID  UINT32_C(0x100)
#define SEEN_BLOCK UINT32_C(0x200)

static bool is_one(uint32_t bits)
{
    return bits != 0 && (bits & (bits - 1)) == 0;
}

static enum status check_path(struct config_tree *tree, int node, const struct config_path *path,
                              uint32_t seen)
{
    bool is_sized = path->kind == CONFIG_PATH_RAM || path->kind == CONFIG_PATH_NULL;

    if (path->kind == CONFIG_PATH_REMOTE ? !is_one(seen & SEEN_NAMES) : (seen & SEEN_NAMES) != 0) {
        return config_tree_fail(tree, node, NULL,
                                "expected one of nsid, nguid, uuid, eui64 with subsystem");
    }
    if ((seen & SEEN_NSID) != 0 && path->kind != CONFIG_PATH_DRIVE) {
        return config_tree_fail(tree, node, "drive-nsid", "expected with drive only");
    }
    if ((seen & SEEN_BLOCK) != 0 && !is_sized) {
        return config_tree_fail(tree, node, "block-size", "expected with ram or null only");
    }
    if (is_sized && path->size_bytes % path->block_bytes != 0) {
        return config_tree_fail(tree, node, "block-size", "expected whole blocks");
    }
    return STATUS_OK;
}

static enum status read_path(struct config_tree *tree, int node, struct config_path *out)
{
    uint32_t seen;

    *out = (struct config_path){.block_bytes = 512, .drive_nsid = 1};
    enum status status = config_tree_leaf(tree, node, path_rows, ARRAY_SIZE(path_rows), out, &seen);
    if (status != STATUS_OK) {
        return status;
    }
    if (!is_one(seen & SEEN_KINDS)) {
        return config_tree_fail(tree, node, NULL, "expected one of subsystem, ram, null, drive");
    }
    out->kind = (enum config_path_kind)lowest_bit(seen & SEEN_KINDS);
    return check_path(tree, node, out, seen);
}

/* In the order of their numbers, which is that of the nodes. */
static enum status read_paths(struct config_tree *tree, int paths, struct config_volume *out)
{
    int node;

    enum status status = config_tree_bare(tree, paths);
    if (status != STATUS_OK) {
        return status;
    }
    fdt_for_each_subnode(node, tree->blob, paths)
    {
        uint32_t reg = 0;
        if (!config_tree_is_named(tree, node, "path")) {
            return config_tree_fail(tree, node, NULL, "expected nodes path@0, path@1 ...");
        }
        status = config_tree_reg(tree, node, LIMIT_VOLUME_PATHS - 1, &reg);
        if (status == STATUS_OK && reg != out->path_count) {
            status = config_tree_fail(tree, node, "reg", "expected paths in order: <0>, <1> ...");
        }
        if (status == STATUS_OK) {
            status = read_path(tree, node, &out->paths[out->path_count++]);
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    return out->path_count > 0 ? STATUS_OK
                               : config_tree_fail(tree, paths, NULL, "expected a node path@0");
}

/* --- volumes --------------------------------------------------------------------------------- */

#define VOL(name, type, field, low, high) ROW(name, type, config_volume, field, low, high)

static const struct config_prop_row volume_rows[] = {
    VOL("size", SIZE, size_bytes, 0, 0),
    VOL("block-size", BLOCK, block_bytes, 0, 0),
    VOL("wait-ms", NUMBER, wait_ms, 0, HOUR_MS),
    VOL("data-path", PATH, data_path, 0, 0),
    VOL("uuid", UUID, uuid, 0, 0),
    VOL("read-only", FLAG, is_read_only, 0, 0),
    VOL("status", STATUS, is_disabled, 0, 0),
};

#define DEFAULT_WAIT_MS 25000 /* below the 30 s after which Linux gives up on a command */

static enum status read_volume(struct config_tree *tree, int node, struct config_volume *out)
{
    uint32_t seen;
    int child;
    int paths = -1;

    memset(out, 0, sizeof(*out));
    out->name = fdt_get_name(tree->blob, node, NULL);
    out->wait_ms = DEFAULT_WAIT_MS;
    out->block_bytes = 512;
    enum status status =
        config_tree_record(tree, node, volume_rows, ARRAY_SIZE(volume_rows), out, &seen);
    if (status != STATUS_OK) {
        return status;
    }
    if ((seen & (BIT32(0) | BIT32(1))) == BIT32(1)) {
        return config_tree_fail(tree, node, "block-size", "expected with size only");
    }
    if (out->size_bytes % out->block_bytes != 0) {
        return config_tree_fail(tree, node, "size", "expected whole blocks");
    }
    fdt_for_each_subnode(child, tree->blob, node)
    {
        const char *name = fdt_get_name(tree->blob, child, NULL);
        if (paths >= 0 || name == NULL || strcmp(name, "paths") != 0) {
            return config_tree_fail(tree, child, NULL, "there is no such node here");
        }
        paths = child;
    }
    return paths >= 0 ? read_paths(tree, paths, out)
                      : config_tree_fail(tree, node, NULL, "expected a node 'paths'");
}

/* --- all of them ----------------------------------------------------------------------------- */

enum status config_tree_subsystem(struct config_tree *tree, uint32_t index,
                                  struct config_subsystem *out)
{
    return read_subsystem(tree, tree->subsystems[index].offset, out);
}

enum status config_tree_volume(struct config_tree *tree, uint32_t index, struct config_volume *out)
{
    return read_volume(tree, tree->volumes[index].offset, out);
}

const char *config_tree_volume_name(const struct config_tree *tree, uint32_t index)
{
    return fdt_get_name(tree->blob, tree->volumes[index].offset, NULL);
}

static enum status note(struct config_tree *tree, struct config_tree_node *nodes, uint32_t *count,
                        uint32_t high, int node)
{
    int len_bytes;

    if (*count == high) {
        return config_tree_fail(tree, node, NULL, "is one too many");
    }
    if (fdt_get_name(tree->blob, node, &len_bytes) == NULL || len_bytes >= CONFIG_NAME_BYTES) {
        return config_tree_fail(tree, node, NULL, "expected a name of at most 31 characters");
    }
    nodes[(*count)++] = (struct config_tree_node){
        .offset = node, .phandle = fdt_get_phandle(tree->blob, node), .fn = CONFIG_NO_FUNCTION};
    return STATUS_OK;
}

enum status config_tree_note_subsystem(struct config_tree *tree, int node)
{
    struct config_subsystem record;
    enum status status =
        note(tree, tree->subsystems, &tree->subsystem_count, CONFIG_SUBSYSTEMS, node);

    return status == STATUS_OK ? read_subsystem(tree, node, &record) : status;
}

enum status config_tree_note_volume(struct config_tree *tree, int node)
{
    struct config_volume record;
    enum status status = note(tree, tree->volumes, &tree->volume_count, LIMIT_VOLUMES, node);

    return status == STATUS_OK ? read_volume(tree, node, &record) : status;
}

/* What lies behind an association is a tenant's: no two functions share it. */
static bool is_remote(const struct config_volume *volume)
{
    for (uint32_t i = 0; i < volume->path_count; i++) {
        if (volume->paths[i].kind == CONFIG_PATH_REMOTE) {
            return true;
        }
    }
    return false;
}

enum status config_tree_give_volume(struct config_tree *tree, int ns_node, uint32_t index,
                                    uint8_t fn)
{
    struct config_tree_node *volume = &tree->volumes[index];
    struct config_volume record;

    if (volume->fn == CONFIG_NO_FUNCTION) {
        volume->fn = fn;
        return STATUS_OK;
    }
    enum status status = read_volume(tree, volume->offset, &record);
    if (status == STATUS_OK && volume->fn != fn && is_remote(&record)) {
        return config_tree_fail(tree, ns_node, "volume",
                                "another function has it: expected one function per volume with "
                                "a subsystem");
    }
    return status;
}
