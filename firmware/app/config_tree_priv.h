/*
 * What the files of the tree's reader share: errors, and records that are filled from properties by
 * a table.
 */
#ifndef APP_CONFIG_TREE_PRIV_H
#define APP_CONFIG_TREE_PRIV_H

#include <stddef.h>
#include "app/config_tree.h"
#include "base/compiler.h"

/* INVALID, and the error is "NODE: PROPERTY: text"; `property` may be NULL. */
enum status config_tree_fail(struct config_tree *tree, int node, const char *property,
                             const char *text);
/* The same, begun: "NODE: ". Returns how much of the error that is. */
uint32_t config_tree_fail_node(struct config_tree *tree, int node);

enum config_prop {
    CONFIG_PROP_OTHER,  /* somebody else reads it */
    CONFIG_PROP_NUMBER, /* one cell, low..high, into `bytes` */
    CONFIG_PROP_PAIR,   /* two cells, first <= second */
    CONFIG_PROP_FLAG,   /* there or not: a bool */
    CONFIG_PROP_TEXT,   /* string of low..high characters: a pointer into the tree */
    CONFIG_PROP_UUID,   /* string: 16 bytes */
    CONFIG_PROP_BYTES,  /* just `bytes` of them, not all zero */
    CONFIG_PROP_ADDR,   /* string: struct net_addr */
    CONFIG_PROP_SIZE,   /* string such as "64M": uint64_t */
    CONFIG_PROP_BLOCK,  /* one cell, 512 or 4096: uint32_t */
    CONFIG_PROP_STATUS, /* string, "okay" or "disabled": a bool, true: disabled */
    CONFIG_PROP_PATH,   /* string: enum nvmf_path */
    CONFIG_PROP_REF,    /* one cell, phandle of a subsystem: uint32_t, its index */
    CONFIG_PROP_WORD,   /* one cell, a string, or nothing for "on": what `key` of config.h sets, of
                           port or function tree->index; the record has no part in it */
};

struct config_prop_row {
    const char *name;
    uint8_t type; /* enum config_prop */
    uint8_t bytes;
    uint16_t offset;
    uint32_t low;
    uint32_t high;
    const char *key; /* WORD */
};

/* Fills `record` from the properties of `node`, which may have nodes in it. *seen: bit i for
 * rows[i]. A property that no row names is an error. */
enum status config_tree_record(struct config_tree *tree, int node,
                               const struct config_prop_row *rows, uint32_t row_count, void *record,
                               uint32_t *seen);

/* The same of one that has no nodes in it. */
enum status config_tree_leaf(struct config_tree *tree, int node, const struct config_prop_row *rows,
                             uint32_t row_count, void *record, uint32_t *seen);

/* INVALID: it has properties, and is there for its nodes only. */
enum status config_tree_bare(struct config_tree *tree, int node);

/* Its number, from `reg`; at most `high`. */
enum status config_tree_reg(struct config_tree *tree, int node, uint32_t high, uint32_t *reg);

/* The child of the root; negative: there is none. */
int config_tree_part(const struct config_tree *tree, const char *name);

/* Calls read() for each node of that part of the tree until one fails. */
enum status config_tree_each(struct config_tree *tree, const char *part,
                             enum status (*read)(struct config_tree *tree, int node));

/* "port@3" is a "port". */
bool config_tree_is_named(const struct config_tree *tree, int node, const char *name);

/* config_tree_volume.c: notes where one is, and checks it. */
enum status config_tree_note_subsystem(struct config_tree *tree, int node);
enum status config_tree_note_volume(struct config_tree *tree, int node);
/* Function `fn` has a namespace that is volume `index`. */
enum status config_tree_give_volume(struct config_tree *tree, int ns_node, uint32_t index,
                                    uint8_t fn);

#endif
