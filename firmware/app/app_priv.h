/*
 * The parts of a running firmware, as app wires them. Core 0 owns all of it.
 */
#ifndef APP_APP_PRIV_H
#define APP_APP_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include "app/config.h"
#include "app/config_tree.h"
#include "base/limits.h"
#include "base/rng.h"
#include "blk/blk.h"
#include "blk/blk_null.h"
#include "blk/blk_ram.h"
#include "diag/diag_perf.h"
#include "diag/diag_rping.h"
#include "hal/board.h"
#include "nvme_drv/nvme_drv.h"
#include "net/net.h"
#include "nvme_ep/nvme_ep.h"
#include "nvmf_host/nvmf_host.h"
#include "rdma/cm.h"
#include "rdma/soft.h"
#include "rdma/verbs.h"
#include "sched/sched.h"
#include "vol/vol.h"

#define APP_VERSION "0.1"

/* One function: what a host sees. */
struct app_function {
    struct nvme_ep *ep;
    struct pcie_ep *pcie;
    bool serving;
    uint16_t ns_room;                     /* namespace identifiers 1..ns_room */
    char serial[CONFIG_SERIAL_BYTES + 6]; /* "-65535" at most */
    char subnqn[48];
    /* Who it is to targets. */
    uint8_t hostid[16];
    char hostnqn[NVMF_NQN_MAX_CHARS + 1];
};

/* One Ethernet port and what stands on it. What is made stays; it is the owner core's. */
struct app_fabric {
    uint32_t index;
    uint32_t core; /* the owner */
    char name[12];
    struct eth_port *port;                  /* NULL: an RNIC of the operating system, ... */
    uint32_t rnic;                          /* ... the board's so many-th */
    struct net_if *nif;                     /* NULL: it did not start, or there is no port */
    struct rdma_device *rdma;               /* NULL: likewise */
    struct diag_rping_client *rping_client; /* NULL: it did not start */
    struct diag_rping *rping;               /* NULL: not wanted, or it did not start */
    struct diag_perf *perf;                 /* likewise */
    bool is_initiator;                      /* its core carries queues to targets */
    bool is_up;                             /* all of the above that there will be is there */
    struct rng rng;
    /* While it starts. */
    struct msg msg;
    void (*step)(struct app_fabric *fabric);
    void *net_memory;
    void *rdma_memory;
    void *client_memory;
    void *rping_memory;
    void *perf_memory;
    void *nvmf_memory;
};

/* An association: a function with a subsystem of the tree. */
struct app_ctrl {
    struct nvmf_ctrl *ctrl; /* NULL: it could not be made, and is not tried again */
    uint16_t fn;
    uint16_t subsystem; /* its index in the tree */
};

struct app_path {
    struct blk_dev *dev;    /* NULL: it could not be made */
    struct app_ctrl *owner; /* NULL: it is a local one */
    union {
        struct nvmf_ns ns;
        struct blk_ram ram;
        struct blk_null null;
    };
};

/* A volume of the tree; made when a function first needs it, and never taken apart. */
struct app_volume {
    struct vol *vol;         /* NULL: not made */
    struct app_path *paths;  /* vol_info.path_count of them */
    uint32_t attached_count; /* namespaces that it is */
    uint32_t owners;         /* functions that have ever had it, a bit each */
    uint32_t leaving_count;  /* of them, those that are being detached */
};

struct app {
    const struct board *board;
    struct config config;
    struct app_function functions[LIMIT_FUNCTIONS];
    uint32_t function_count;
    struct nvme_drv *drives[LIMIT_DRIVES];
    uint32_t drive_count;
    struct app_fabric fabrics[LIMIT_ETH_PORTS];
    uint32_t fabric_count;
    uint32_t fabrics_due; /* which have not yet answered that they are up or never will be */
    bool has_tree;
    struct config_tree tree;
    struct app_ctrl ctrls[LIMIT_NVMF_CTRLS];
    uint32_t ctrl_count;
    struct app_volume *volumes; /* as the tree has them; NULL: not yet */
    struct rng rng;             /* of which each fabric has a fork */
    uint8_t *pool_next;         /* what is left of the board's pool */
    uint64_t pool_left;
    struct timer serve_timer;
    uint64_t serve_deadline_ns;
};

extern struct app app;

/* Zeroed memory out of the board's pool, aligned to `alignment` (a power of two), never given back.
 * NULL: none left. Core 0. */
void *app_pool_take(uint64_t bytes, uint64_t alignment);

/* Makes the block devices of every function's namespaces that words name and attaches them.
 * NO_SPACE, NOT_FOUND (no such drive); what is wrong is logged. */
MUST_USE enum status app_volumes_attach(void);

/* A UUID for a namespace of ours, or for the function itself (nsid 0). Stable over restarts, so
 * that a host finds it again; other boards, which have other serial numbers, make others. */
void app_make_uuid(uint8_t uuid[16], uint16_t fn, uint32_t nsid);

/* What the tree says: makes and attaches all volumes but those that are disabled. When the fabrics
 * have answered. What cannot be had is logged, and missing. */
void app_tree_volumes_start(void);
/* Each of them that is attached has a path. */
bool app_tree_volumes_ready(void);
/* Log lines about those that have none, and why. */
void app_tree_volumes_explain(void);
/* NOT_FOUND: no function has it; EXISTS; AGAIN: it is on its way; others as nvme_ns_attach(). */
MUST_USE enum status app_tree_volume_attach(uint32_t index);
/* done() is called when the last namespace is gone, later. NOT_FOUND; AGAIN: it is under way. */
MUST_USE enum status app_tree_volume_detach(uint32_t index, void (*done)(void));

/* The association of a function with a subsystem of the tree; connects when it is new. NULL: it
 * cannot be had, which is logged when it is tried: once for each pair. */
struct app_ctrl *app_ctrl_get(uint16_t fn, uint32_t subsystem);
/* Some volume of the function has a path there and the data path "host-queues": then the queues of
 * the whole association lie in host memory. */
#define APP_ANY_SUBSYSTEM UINT32_MAX
bool app_wants_host_queues(uint16_t fn, uint32_t subsystem);
/* What the function asks its host for; 0: nothing. */
uint32_t app_host_memory_bytes(uint16_t fn);
/* Before nvme_ep_serve(). */
void app_host_memory_use(struct app_function *function);
/* Whether core 0 can make any. */
bool app_is_initiator(void);
/* Fills in the function's host identifier and NQN. */
void app_host_identity(struct app_function *function, const struct config_function *words,
                       uint16_t fn);
/* "attached", "detached", "leaving". */
const char *app_volume_state(const struct app_volume *volume);
/* Why a path is not used, in a sentence; for a remote one, what became of its association. */
const char *app_path_why(const struct app_path *path, enum vol_path_state state);

/* Finds the drives that the configuration names and starts their bring-up. */
void app_drives_start(void);
/* Every drive that is used is ready or has failed. */
bool app_drives_settled(void);

/* Starts what stands on the board's Ethernet ports; other cores take part when they run. */
void app_fabric_start(void);

/* Management messages: what the log says is kept from now on; hosts may ask; the console too. */
void app_mgmt_start(void);
/* What a function's controller answers vendor commands with; NULL: it has none. */
const struct nvme_vendor_ops *app_mgmt_vendor_ops(void);

/* The console: a line editor and commands; a poller of core 0. */
void app_console_start(void);

#endif
