/*
 * Simulation of the whole path: a host with queues in its memory, the endpoint (nvme_ep, nvme),
 * volumes (vol), the initiator (nvmf_host), RDMA in software, a wire that harms frames, and model
 * targets that misbehave as they are told; all in one thread under the standing clock. A seed draws
 * everything, and replays the run.
 *
 * What must hold:
 *  - host memory that the host has back (completed, or after CSTS.RDY is 0, a function reset, the
 *    deletion of a queue) is neither read nor written: it is poisoned for AddressSanitizer;
 *  - each command completes once, with a status that something explains; none is lost;
 *  - a read gives, for each block, a write that may be the last one: acknowledged writes are there,
 *    what was overwritten by an acknowledged one never comes back, whoever repeats it;
 *  - at the end every pool is full.
 *
 * Files: path_world.c the parts and the clock, path_host.c commands and completions, path_ctrl.c
 * what a host does with its controller, path_model.c blocks, path_event.c what happens besides,
 * path_plan.c what a seed draws, path_sum.c what seeds must have had together.
 */
#ifndef TESTS_SIM_PATH_PATH_H
#define TESTS_SIM_PATH_PATH_H

#define RIG_RAM_BYTES  (1u << 20)
#define RIG_DISK_BYTES (64u << 10)
#include "tests/unit/nvme_ep/rig.h"

#include "nvmf_host/nvmf_host.h"
#include "tests/model/node.h"
#include "tests/model/target.h"
#include "tests/sim/sim_main.h"
#include "tests/sim/wire.h"
#include "vol/vol.h"

#define PATH_VOLUMES    4
#define PATH_CTRLS      3
#define PATH_QUEUES     3
#define PATH_DEPTH      32
#define PATH_IOS        (PATH_QUEUES * PATH_DEPTH)
#define PATH_BLOCKS     256 /* of a volume */
#define PATH_IO_BYTES   65536u
#define PATH_PAGES      640 /* of host memory for data and lists */
#define PATH_ARENA_BASE UINT64_C(0x3400000000)
#define PATH_WRITES     160 /* of one block, that reads may still give */
#define PATH_FIRST_NSID 3   /* the rig has 1 and 2 */
#define PATH_NODES      3   /* of the NIC, one a core: 0 and 2; of the targets: 1 */

/* --- what a seed draws ------------------------------------------------------------------------ */

enum path_class {
    PATH_CLEAN, /* nothing goes wrong: all succeeds */
    PATH_LOSSY, /* the wire harms frames, the host resets: all that the host waits for succeeds */
    PATH_HARSH, /* targets misbehave, connections break, but never for longer than volumes wait */
    PATH_LOST,  /* and for longer */
};

struct path_plan {
    enum path_class class;
    uint32_t core_count;   /* of the NIC */
    uint32_t device_count; /* cores that have a device */
    uint32_t volume_count;
    uint32_t ctrl_count; /* associations; each with the only subsystem */
    uint32_t queue_count;
    uint32_t depth;
    uint32_t io_target; /* commands in all */
    uint8_t lba_shift;
    uint32_t in_capsule_bytes;
    uint16_t queue_entries; /* over the fabric */
    bool sq_flow_control;
    uint32_t wait_ms;
    uint32_t stage_bytes;
    uint8_t path[PATH_VOLUMES]; /* enum nvmf_path */
    uint16_t mtu;
    struct wire_faults faults;
    uint64_t act_ns; /* mean time between two acts of the host */
    uint32_t event_permille;
    uint32_t heavy_target; /* events that break connections */
    uint64_t calm_ns;      /* at least, between two of them */
    uint32_t write_percent;
};
void path_plan_draw(struct path_plan *plan);

/* --- commands of the host --------------------------------------------------------------------- */

struct path_io {
    bool in_use;
    bool is_aborted; /* the host asked for its end */
    uint8_t opcode;
    uint16_t cid;
    struct rig_queue *queue;
    uint32_t volume;
    uint64_t lba;
    uint32_t block_count;
    uint64_t value;  /* of a write; 0: zeroes */
    uint64_t invoke; /* path.tick */
    uint64_t start_ns;
    uint32_t offset; /* of the data in the first page */
    uint32_t page_count;
    uint16_t pages[PATH_IO_BYTES / 4096 + 2]; /* data; the last one may be the PRP list */
    bool has_list;
};

/* A write of one block, as far as reads may give it. */
struct path_write {
    uint64_t value;
    uint64_t invoke;
    uint64_t response;  /* UINT64_MAX: not ended */
    uint64_t dead_from; /* reads that begin later must not give it; UINT64_MAX: they may */
    bool is_sure;       /* acknowledged, or seen by a read */
};

struct path_block {
    uint32_t count;
    struct path_write writes[PATH_WRITES];
};

struct path_volume {
    struct vol *vol;
    void *memory;
    struct nvmf_ns ns[PATH_CTRLS];
    struct path_block blocks[PATH_BLOCKS];
};

struct path_world {
    uint64_t seed;
    uint64_t random;
    bool trace;
    struct path_plan plan;
    struct wire *wire;
    struct model_node nodes[PATH_NODES];
    struct target *target;
    void *target_memory;
    void *core_memory[LIMIT_CORES];
    void *vol_memory;
    void *ctrl_memory[PATH_CTRLS];
    struct nvmf_ctrl *ctrls[PATH_CTRLS];
    uint32_t closed_count;
    struct path_volume volumes[PATH_VOLUMES];

    /* the host */
    bool is_up;
    uint8_t *arena;
    uint16_t free_pages[PATH_PAGES];
    uint32_t free_page_count;
    struct rig_queue queues[PATH_QUEUES];
    struct path_io ios[PATH_IOS];
    uint32_t io_count;   /* begun */
    uint32_t live_count; /* under way */
    uint64_t next_value;
    uint64_t tick;
    uint64_t next_act_ns;
    uint64_t progress_ns; /* when a command ended last */
    struct rig_queue admin;

    /* what goes on besides */
    bool is_ending;
    uint64_t cut_until_ns;
    uint64_t off_until_ns; /* the target's power */
    uint64_t faults_until_ns;
    uint64_t break_ns; /* connections break then; 0: not */
    uint32_t heavy_count;
    uint64_t calm_ns; /* nothing that breaks connections before */
    uint64_t ok_count;
    uint64_t error_count;
    uint64_t abort_count;
    uint64_t reset_count;
    uint64_t delete_count;
    uint64_t event_count;
};
extern struct path_world path;

PRINTF_LIKE(1, 2) void path_trace(const char *format, ...);
#define PATH_CHECK(condition, ...) \
    do {                           \
        if (!(condition)) {        \
            sim_fail(__VA_ARGS__); \
        }                          \
    } while (0)

uint64_t path_below(uint64_t limit);              /* 0..limit - 1 */
uint64_t path_range(uint64_t low, uint64_t high); /* both included */
bool path_chance(uint32_t percent);

/* --- the world (path_world.c) ----------------------------------------------------------------- */

/* Turns until nothing moves, then the clock goes to where something is due. */
void path_step(void);
/* Steps until the time, or `is_done` says so; false: it never did. */
bool path_wait(bool (*is_done)(void), uint64_t limit_ns);

/* --- the host's commands (path_host.c) -------------------------------------------------------- */

void path_host_start(void); /* memory */
bool path_io_begin(void);   /* one command, if there is room */
void path_host_poll(void);  /* takes completions */
/* All commands of the queue have ended, without completions that one could see; NULL: all. */
void path_ios_end(const struct rig_queue *queue);
struct path_io *path_io_any(void); /* one that is under way; NULL: none is */

uint16_t path_page_get(void); /* zeroed */
void path_page_put(uint16_t page);
uint64_t path_page_addr(uint16_t page);
void path_queue_open(struct rig_queue *queue, uint16_t id, uint16_t size); /* its memory */
void path_queue_close(struct rig_queue *queue);
uint16_t path_push(struct rig_queue *queue, const struct nvme_sqe *sqe); /* and rings; the CID */
bool path_pop(struct rig_queue *queue, struct nvme_cqe *cqe);            /* likewise */

/* --- the host's controller (path_ctrl.c) ------------------------------------------------------ */

void path_ctrl_enable(void);
uint16_t path_admin(const struct nvme_sqe *sqe, uint32_t *dw0); /* waits for it */
void path_ctrl_reset(void);     /* CC.EN, function reset, or shutdown first */
void path_queue_recreate(void); /* one, deleted under load */
void path_io_abort(void);

/* --- blocks (path_model.c) -------------------------------------------------------------------- */

void path_model_start(void);
void path_write_begin(struct path_io *io);
/* It ended: acknowledged, or nobody knows; `none`: it has surely had no effect. */
void path_write_end(const struct path_io *io, bool is_acked);
void path_fill(const struct path_io *io);
/* Looks at what a read gave. */
void path_read_check(const struct path_io *io);
/* What is on the medium at the very end. */
void path_media_check(void);
uint8_t *path_io_byte(const struct path_io *io, uint32_t offset);
void path_block_text(uint64_t value, uint64_t lba, uint32_t volume, uint8_t *to, uint32_t bytes);
/* A value that the block may have now. */
uint64_t path_block_guess(uint32_t volume, uint64_t lba);

/* --- events (path_event.c) -------------------------------------------------------------------- */

void path_event_act(void);
void path_event_tend(void); /* what lasts for a while ends */
uint64_t path_event_next_ns(void);
void path_event_end(void); /* all of it, now */

/* --- sums (path_sum.c) ------------------------------------------------------------------------ */

void path_sums_add(void); /* of this run: volumes and associations are still there */

#endif
