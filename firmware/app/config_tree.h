/*
 * Configuration by a device tree: docs/spec/config.md is its description for who writes one.
 *
 * The tree is checked in whole when it is opened: options, ports and functions go into struct
 * config; subsystems and volumes, which may be many, stay in the tree and are read out one by one.
 * It stays in memory. An error names node and property and says what is expected.
 *
 * Any context; no allocation. A tree may be anything: it never leads to more than an error.
 * Source: Devicetree Specification 0.4, chapter 5 (by libfdt).
 */
#ifndef APP_CONFIG_TREE_H
#define APP_CONFIG_TREE_H

#include "app/config.h"
#include "base/limits.h"
#include "base/status.h"
#include "nvmf_host/nvmf_host.h"

#define CONFIG_TREE_BYTES  (UINT32_C(1) << 20) /* at most */
#define CONFIG_SUBSYSTEMS  64
#define CONFIG_NAME_BYTES  32
#define CONFIG_NO_FUNCTION 0xff

struct config_tree_node {
    int offset;
    uint32_t phandle; /* 0: nobody refers to it */
    uint8_t fn;       /* volume: the function that has it, or the first; CONFIG_NO_FUNCTION: none */
};

struct config_tree {
    const void *blob;
    uint32_t subsystem_count;
    uint32_t volume_count;
    int functions[LIMIT_FUNCTIONS]; /* 0: not in the tree */
    struct config_tree_node subsystems[CONFIG_SUBSYSTEMS];
    struct config_tree_node volumes[LIMIT_VOLUMES];
    /* While it is opened. */
    struct config *config;
    uint32_t ports; /* bit N: port@N was there */
    uint32_t index; /* of the port or function whose properties are read; CONFIG_EVERY: options */
    char *error;
    uint32_t error_bytes;
};

/* Checks the tree at `blob` (8-byte aligned, at most `max_bytes`) and lets it rule *config, which
 * has the words. INVALID: `error`, which stays with the caller, says why; *config is of no use
 * then. */
MUST_USE enum status config_tree_open(struct config_tree *tree, const void *blob,
                                      uint32_t max_bytes, struct config *config, char *error,
                                      uint32_t error_bytes);

/* Whether a device tree of this kind lies there. */
bool config_tree_is_there(const void *blob, uint32_t max_bytes);

/* Times in ms; 0: nvmf_host's default. */
struct config_subsystem {
    const char *name; /* these three: in the tree */
    const char *nqn;
    struct net_addr addr;
    uint16_t port;
    uint16_t queue_entries;
    uint32_t keep_alive_ms;
    uint32_t connect_timeout_ms;
    uint32_t command_timeout_ms;
    uint32_t backoff_ms[2];
    uint32_t quiesce_ms;
    bool sq_flow_control;
    bool no_in_capsule;
};

enum config_path_kind {
    CONFIG_PATH_REMOTE,
    CONFIG_PATH_RAM,
    CONFIG_PATH_NULL,
    CONFIG_PATH_DRIVE,
};

struct config_path {
    enum config_path_kind kind;
    uint32_t subsystem; /* REMOTE: index */
    struct nvmf_ns_id id;
    uint64_t size_bytes; /* RAM, NULL */
    uint32_t block_bytes;
    uint8_t drive; /* DRIVE */
    uint32_t drive_nsid;
};

struct config_volume {
    const char *name; /* in the tree */
    uint32_t wait_ms;
    enum nvmf_path data_path;
    uint64_t size_bytes; /* 0: the path's */
    uint32_t block_bytes;
    uint8_t uuid[16]; /* zero: the path's */
    bool is_read_only;
    bool is_disabled; /* comes when somebody says so */
    uint32_t path_count;
    struct config_path paths[LIMIT_VOLUME_PATHS];
};

/* `index` below the count. INVALID: the tree has changed since it was opened. */
MUST_USE enum status config_tree_subsystem(struct config_tree *tree, uint32_t index,
                                           struct config_subsystem *out);
MUST_USE enum status config_tree_volume(struct config_tree *tree, uint32_t index,
                                        struct config_volume *out);
const char *config_tree_volume_name(const struct config_tree *tree, uint32_t index);

/* The namespaces of a function, one after the other: begin with node 0. False: no more. */
struct config_tree_ns {
    int node;
    uint32_t nsid;
    uint32_t volume; /* index */
};
bool config_tree_next_ns(const struct config_tree *tree, uint32_t fn, struct config_tree_ns *ns);

#endif
