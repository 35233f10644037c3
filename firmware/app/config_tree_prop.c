/*
 * Properties of the configuration's tree, by table; see config_tree_priv.h.
 */
#include <libfdt.h>
#include <stdio.h>
#include <string.h>
#include "app/config_priv.h"
#include "app/config_tree_priv.h"
#include "base/assert.h"

#define CELL_BYTES 4

/* --- errors ---------------------------------------------------------------------------------- */

uint32_t config_tree_fail_node(struct config_tree *tree, int node)
{
    char path[96];

    if (node < 0 || fdt_get_path(tree->blob, node, path, sizeof(path)) != 0) {
        snprintf(path, sizeof(path), node < 0 ? "/" : "(a node with a long path)");
    }
    int len = snprintf(tree->error, tree->error_bytes, "%s: ", path);
    return min_u32((uint32_t)len, tree->error_bytes - 1);
}

enum status config_tree_fail(struct config_tree *tree, int node, const char *property,
                             const char *text)
{
    uint32_t used = config_tree_fail_node(tree, node);

    snprintf(tree->error + used, tree->error_bytes - used, "%s%s%s",
             property == NULL ? "" : property, property == NULL ? "" : ": ", text);
    return STATUS_INVALID;
}

/* --- values ---------------------------------------------------------------------------------- */

/* The property under the reader's eyes. */
struct value {
    struct config_tree *tree;
    int node;
    const struct config_prop_row *row;
    const uint8_t *bytes;
    uint32_t len_bytes;
    void *to;
};

static enum status value_fail(const struct value *value, const char *text)
{
    return config_tree_fail(value->tree, value->node, value->row->name, text);
}

static uint32_t cell(const struct value *value, uint32_t index)
{
    return fdt32_ld((const fdt32_t *)(const void *)(value->bytes + index * CELL_BYTES));
}

/* One string and nothing behind it; NULL: it is not. */
static const char *string(const struct value *value)
{
    const char *text = (const char *)value->bytes;

    bool is_one =
        value->len_bytes > 0 && memchr(text, '\0', value->len_bytes) == text + value->len_bytes - 1;
    return is_one ? text : NULL;
}

static enum status read_number(const struct value *value)
{
    const struct config_prop_row *row = value->row;
    char text[64];

    if (value->len_bytes == CELL_BYTES && cell(value, 0) >= row->low &&
        cell(value, 0) <= row->high) {
        uint32_t number = cell(value, 0); /* little endian: the low bytes come first */
        memcpy(value->to, &number, row->bytes);
        return STATUS_OK;
    }
    snprintf(text, sizeof(text), "expected one cell, <%u> to <%u>", (unsigned)row->low,
             (unsigned)row->high);
    return value_fail(value, text);
}

static enum status read_pair(const struct value *value)
{
    uint32_t *to = value->to;

    if (value->len_bytes != 2 * CELL_BYTES || cell(value, 0) < value->row->low ||
        cell(value, 0) > cell(value, 1) || cell(value, 1) > value->row->high) {
        return value_fail(value, "expected two cells, the lower and the higher limit, in ms");
    }
    to[0] = cell(value, 0);
    to[1] = cell(value, 1);
    return STATUS_OK;
}

static enum status read_text(const struct value *value)
{
    const char *text = string(value);
    char expected[48];

    if (text != NULL && value->len_bytes - 1 >= value->row->low &&
        value->len_bytes - 1 <= value->row->high) {
        *(const char **)value->to = text;
        return STATUS_OK;
    }
    snprintf(expected, sizeof(expected), "expected a string of %u to %u characters",
             (unsigned)value->row->low, (unsigned)value->row->high);
    return value_fail(value, expected);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* 8-4-4-4-12 digits (RFC 9562 4). */
static bool parse_uuid(const char *text, uint8_t uuid[16])
{
    if (strlen(text) != 36) {
        return false;
    }
    for (uint32_t i = 0; i < 16; i++) {
        if ((i == 4 || i == 6 || i == 8 || i == 10) && *text++ != '-') {
            return false;
        }
        int high = hex_digit(text[0]);
        int low = hex_digit(text[1]);
        if (high < 0 || low < 0) {
            return false;
        }
        uuid[i] = (uint8_t)(high << 4 | low);
        text += 2;
    }
    return true;
}

static enum status read_uuid(const struct value *value)
{
    const char *text = string(value);

    return text != NULL && parse_uuid(text, value->to)
               ? STATUS_OK
               : value_fail(value, "expected \"xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx\"");
}

static enum status read_bytes(const struct value *value)
{
    static const uint8_t zero[16];
    char expected[40];

    if (value->len_bytes == value->row->bytes &&
        memcmp(value->bytes, zero, value->row->bytes) != 0) {
        memcpy(value->to, value->bytes, value->row->bytes);
        return STATUS_OK;
    }
    snprintf(expected, sizeof(expected), "expected [%u bytes], not all zero",
             (unsigned)value->row->bytes);
    return value_fail(value, expected);
}

/* Not the unspecified one, of either family. */
static enum status read_addr(const struct value *value)
{
    const char *text = string(value);
    struct net_addr *addr = value->to;

    return text != NULL && net_addr_parse(text, addr) && !net_addr_is_zero(addr) &&
                   !(net_addr_is_ipv4(addr) && addr->bytes[12] == 0)
               ? STATUS_OK
               : value_fail(value, "expected an IPv4 or IPv6 address, as a string");
}

static enum status read_size(const struct value *value)
{
    const char *text = string(value);

    return text != NULL && config_take_size(&text, value->to) && *text == '\0'
               ? STATUS_OK
               : value_fail(value, "expected a size with K, M or G, as a string");
}

static enum status read_block(const struct value *value)
{
    uint32_t bytes = value->len_bytes == CELL_BYTES ? cell(value, 0) : 0;

    *(uint32_t *)value->to = bytes;
    return bytes == 512 || bytes == 4096 ? STATUS_OK
                                         : value_fail(value, "expected <512> or <4096>");
}

static enum status read_status(const struct value *value)
{
    const char *text = string(value);

    if (text == NULL || (strcmp(text, "okay") != 0 && strcmp(text, "disabled") != 0)) {
        return value_fail(value, "expected \"okay\" or \"disabled\"");
    }
    *(bool *)value->to = text[0] == 'd';
    return STATUS_OK;
}

static enum status read_path(const struct value *value)
{
    static const char *const names[NVMF_PATH_COUNT] = {
        [NVMF_PATH_ZERO_COPY] = "zero-copy",
        [NVMF_PATH_TERMINATE] = "terminate",
        [NVMF_PATH_HOST_QUEUES] = "host-queues",
    };
    const char *text = string(value);

    for (uint32_t i = 0; text != NULL && i < NVMF_PATH_COUNT; i++) {
        if (strcmp(text, names[i]) == 0) {
            *(enum nvmf_path *)value->to = (enum nvmf_path)i;
            return STATUS_OK;
        }
    }
    return value_fail(value, "expected \"zero-copy\", \"terminate\" or \"host-queues\"");
}

static enum status read_ref(const struct value *value)
{
    uint32_t phandle = value->len_bytes == CELL_BYTES ? cell(value, 0) : 0;

    for (uint32_t i = 0; phandle != 0 && i < value->tree->subsystem_count; i++) {
        if (value->tree->subsystems[i].phandle == phandle) {
            *(uint32_t *)value->to = i;
            return STATUS_OK;
        }
    }
    return value_fail(value, "expected <&LABEL> of a node in /subsystems");
}

/* NULL: it is none. */
static const char *word_text(const struct value *value, char number[12])
{
    const char *text = string(value);

    if (value->len_bytes == 0) {
        return "on";
    }
    if (text != NULL && text[0] >= ' ') {
        return text;
    }
    if (value->len_bytes != CELL_BYTES) {
        return NULL;
    }
    snprintf(number, 12, "%u", (unsigned)cell(value, 0));
    return number;
}

static enum status read_word(const struct value *value)
{
    struct config_tree *tree = value->tree;
    char name[24];
    char number[12];
    const char *text = word_text(value, number);
    bool is_known;

    if (text == NULL) {
        return value_fail(value, "expected one cell or one string");
    }
    snprintf(name, sizeof(name), tree->index == CONFIG_EVERY ? "%s" : "%s.%u", value->row->key,
             (unsigned)tree->index);
    uint32_t used = config_tree_fail_node(tree, value->node); /* in case that it fails */
    struct config_word word = {.config = tree->config,
                               .key = value->row->name,
                               .value = text,
                               .error = tree->error + used,
                               .error_bytes = tree->error_bytes - used};
    enum status status = config_set(&word, name, &is_known);
    ASSERT(is_known);
    return status;
}

static enum status read_value(const struct value *value)
{
    switch ((enum config_prop)value->row->type) {
    case CONFIG_PROP_OTHER:
        return STATUS_OK;
    case CONFIG_PROP_NUMBER:
        return read_number(value);
    case CONFIG_PROP_PAIR:
        return read_pair(value);
    case CONFIG_PROP_FLAG:
        *(bool *)value->to = true;
        return value->len_bytes == 0 ? STATUS_OK
                                     : value_fail(value, "expected no value: there, or not there");
    case CONFIG_PROP_TEXT:
        return read_text(value);
    case CONFIG_PROP_UUID:
        return read_uuid(value);
    case CONFIG_PROP_BYTES:
        return read_bytes(value);
    case CONFIG_PROP_ADDR:
        return read_addr(value);
    case CONFIG_PROP_SIZE:
        return read_size(value);
    case CONFIG_PROP_BLOCK:
        return read_block(value);
    case CONFIG_PROP_STATUS:
        return read_status(value);
    case CONFIG_PROP_PATH:
        return read_path(value);
    case CONFIG_PROP_REF:
        return read_ref(value);
    case CONFIG_PROP_WORD:
        return read_word(value);
    }
    return STATUS_INVALID;
}

/* --- records --------------------------------------------------------------------------------- */

/* What the format of the tree itself brings in. */
static bool is_of_the_format(const char *name)
{
    return strcmp(name, "phandle") == 0 || strcmp(name, "linux,phandle") == 0 || name[0] == '#';
}

enum status config_tree_record(struct config_tree *tree, int node,
                               const struct config_prop_row *rows, uint32_t row_count, void *record,
                               uint32_t *seen)
{
    struct value value = {.tree = tree, .node = node};
    int at;

    *seen = 0;
    fdt_for_each_property_offset(at, tree->blob, node)
    {
        const char *name;
        int len_bytes;
        uint32_t i = 0;
        value.bytes = fdt_getprop_by_offset(tree->blob, at, &name, &len_bytes);
        if (value.bytes == NULL) {
            return config_tree_fail(tree, node, NULL, "is damaged");
        }
        while (i < row_count && strcmp(name, rows[i].name) != 0) {
            i++;
        }
        if (i == row_count) {
            if (is_of_the_format(name)) {
                continue;
            }
            return config_tree_fail(tree, node, name, "there is no such property here");
        }
        value.row = &rows[i];
        value.len_bytes = (uint32_t)len_bytes;
        value.to = (uint8_t *)record + rows[i].offset;
        *seen |= BIT32(i);
        enum status status = read_value(&value);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

enum status config_tree_leaf(struct config_tree *tree, int node, const struct config_prop_row *rows,
                             uint32_t row_count, void *record, uint32_t *seen)
{
    int child = fdt_first_subnode(tree->blob, node);

    return child < 0 ? config_tree_record(tree, node, rows, row_count, record, seen)
                     : config_tree_fail(tree, child, NULL, "there is no such node here");
}

enum status config_tree_bare(struct config_tree *tree, int node)
{
    uint32_t seen;

    return config_tree_record(tree, node, NULL, 0, NULL, &seen);
}

enum status config_tree_reg(struct config_tree *tree, int node, uint32_t high, uint32_t *reg)
{
    int len_bytes;
    struct config_prop_row row = {
        .name = "reg", .type = CONFIG_PROP_NUMBER, .bytes = sizeof(*reg), .high = high};
    struct value value = {.tree = tree,
                          .node = node,
                          .row = &row,
                          .bytes = fdt_getprop(tree->blob, node, "reg", &len_bytes),
                          .to = reg};

    if (value.bytes != NULL) {
        value.len_bytes = (uint32_t)len_bytes;
    }
    return read_number(&value);
}

int config_tree_part(const struct config_tree *tree, const char *name)
{
    return fdt_subnode_offset(tree->blob, 0, name);
}

enum status config_tree_each(struct config_tree *tree, const char *part,
                             enum status (*read)(struct config_tree *tree, int node))
{
    int parent = config_tree_part(tree, part);
    int node;

    if (parent < 0) {
        return STATUS_OK;
    }
    enum status status = config_tree_bare(tree, parent);
    if (status != STATUS_OK) {
        return status;
    }
    fdt_for_each_subnode(node, tree->blob, parent)
    {
        status = read(tree, node);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

bool config_tree_is_named(const struct config_tree *tree, int node, const char *name)
{
    int len_bytes;
    const char *is = fdt_get_name(tree->blob, node, &len_bytes);
    size_t want_bytes = strlen(name);

    return is != NULL && strncmp(is, name, want_bytes) == 0 &&
           (is[want_bytes] == '\0' || is[want_bytes] == '@');
}
