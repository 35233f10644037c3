/*
 * The lower half of the initiator, made up: it stands where cores, queues and block requests are
 * (nvmf_host_priv.h), with a controller behind each admin queue that is written from the
 * specification alone and does what a test tells it.
 *
 * What the upper half must not do (a call in the wrong state, on the wrong core, the close of a
 * queue that a route names) fails the test at once.
 */
#ifndef TESTS_UNIT_NVMF_CTRL_FAKE_H
#define TESTS_UNIT_NVMF_CTRL_FAKE_H

#include "nvmf_host/nvmf_host_priv.h"
#include "spec/nvme_feature.h"
#include "spec/nvme_identify.h"
#include "spec/nvme_log.h"

#define FAKE_QUEUES  64
#define FAKE_TARGETS 12
#define FAKE_NS      1100
#define FAKE_LOG     40

/* What becomes of an admin command instead of its execution. */
enum fake_fault {
    FAKE_OK,
    FAKE_STATUS, /* answered with fault_status */
    FAKE_SILENT, /* never answered */
    FAKE_LOSE,   /* the connection breaks */
};

struct fake_ns {
    uint32_t nsid;
    struct nvme_identify_ns id;
    uint8_t nguid[16]; /* descriptors; all zero: none */
    uint8_t uuid[16];
    uint8_t eui64[8];
};

/* One subsystem, told apart by the port that is asked. All of it may be changed at any time. */
struct fake_target {
    uint16_t port;

    /* Connections. */
    enum nvmf_fail open_fail[LIMIT_CORES + 1]; /* by qid */
    uint32_t open_code;
    bool opens_never[LIMIT_CORES + 1];
    uint64_t close_delay_ns;

    /* The controller. */
    uint64_t cap;
    uint32_t vs;
    struct nvme_identify_ctrl id;
    struct nvmf_identify_ctrl id_fabrics;
    bool never_ready;
    bool never_idle;
    bool never_shut;
    bool is_fatal;
    uint64_t ready_delay_ns;
    uint32_t queues_granted;      /* as dw0 says it; zeroes based, both */
    bool no_keep_alive;           /* never answers it */
    uint32_t aer_limit;           /* more are answered with an error */
    uint8_t descriptor_list[256]; /* when not empty: instead of the true ones */
    bool has_descriptor_list;

    /* Namespaces, ascending. */
    struct fake_ns ns[FAKE_NS];
    uint32_t ns_count;

    /* Discovery log: a header, then entries. */
    uint8_t log[FAKE_LOG][1024];
    uint32_t log_change_count; /* so often it changes while it is read */

    /* Faults: of the n-th admin command (1: the first; Keep Alive and events do not count), or of
     * all of an opcode (byte 4 too, if Fabrics). */
    uint32_t fault_number;
    int fault_opcode; /* -1: none */
    int fault_fctype; /* -1: any */
    int fault_cdw10;  /* bits 7:0 of it; -1: any */
    enum fake_fault fault;
    nvme_status_t fault_status;
    int silent_abort; /* 1: Abort is never answered; 2: dw0 says "not aborted" */

    /* Seen. */
    uint32_t command_count;
    uint32_t keep_alive_count;
    uint32_t abort_count;
    uint16_t abort_cid;
    uint16_t abort_sqid;
    uint32_t connect_count; /* queues opened */
    uint32_t identify_count;
    uint32_t log_count[256];
    uint32_t aen_config;
    uint32_t cc;
    uint32_t csts;
    uint64_t csts_due_ns;
    uint16_t cntlid;
    uint32_t aer_count; /* outstanding */
    uint32_t aer_max;
    struct nvmf_cmd *aers[16];
    uint64_t last_quiet_ns; /* of the last I/O queue closed */
    uint32_t io_close_count;
    struct nvmf_queue_params params[LIMIT_CORES + 1];
    char nqn[NVMF_NQN_BYTES];
};

struct fake {
    uint32_t core_count;
    bool has_device[LIMIT_CORES];
    enum status scratch_status;
    uint32_t scratch_count; /* registered */
    struct fake_target targets[FAKE_TARGETS];
    uint32_t target_count;
    uint64_t queue_bytes; /* what nvmf_queue_memory_bytes() says */
};
extern struct fake fake;

/* Everything fresh; core 0 and `core_count` - 1 others have devices. */
void fake_init(uint32_t core_count);
/* A healthy controller behind `port`, without namespaces. */
struct fake_target *fake_target_add(uint16_t port);
/* 4096-byte blocks; nguid: its first byte is `mark`, the last two the NSID; uuid likewise. */
struct fake_ns *fake_ns_add(struct fake_target *t, uint32_t nsid, uint8_t mark, uint64_t lba_count);
void fake_ns_remove(struct fake_target *t, uint32_t nsid);

/* What is due on the calling core. */
void fake_step(uint32_t core);

/* The connection of queue `qid` breaks; ops->stuck(); a late command asks to be aborted. */
void fake_lose(struct fake_target *t, uint32_t qid, enum nvmf_fail fail);
void fake_stuck(struct fake_target *t, uint32_t qid);
void fake_late(struct fake_target *t, uint32_t qid, uint16_t cid);
void fake_set_traffic(struct fake_target *t, uint32_t qid, bool is_there);
void fake_set_in_flight(struct fake_target *t, uint32_t qid, uint32_t count);
bool fake_event(struct fake_target *t, uint32_t dw0); /* false: no request is outstanding */

/* Of queue `qid`: state; answers to aborts. */
enum nvmf_queue_state fake_queue_state(struct fake_target *t, uint32_t qid);
uint32_t fake_abort_done_count(struct fake_target *t, uint32_t qid, bool aborted);
/* Nothing of any queue is left, no memory is registered. */
bool fake_is_quiet(void);

#endif
