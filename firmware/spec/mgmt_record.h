/*
 * Records of management messages (spec/mgmt.h, docs/spec/mgmt.md): little endian, text padded with
 * zeroes and ended by one. States are words, so that a tool need not know all of them.
 */
#ifndef SPEC_MGMT_RECORD_H
#define SPEC_MGMT_RECORD_H

#include <stdint.h>
#include "base/compiler.h"

#define MGMT_NONE16      0xffffu /* no function, path, ... */
#define MGMT_CORES       8u      /* room in records; cores beyond core_count are 0 */
#define MGMT_UNKNOWN64   UINT64_MAX
#define MGMT_NAME_BYTES  32
#define MGMT_STATE_BYTES 16
#define MGMT_ADDR_BYTES  48 /* "192.0.2.1", "2001:db8::1" */
#define MGMT_WHY_BYTES   112

#define MGMT_FUNCTION_SERVING    (1u << 0) /* CC.EN may lead to RDY */
#define MGMT_FUNCTION_BUS_MASTER (1u << 1) /* host memory is within reach */
#define MGMT_FUNCTION_HMB_USED   (1u << 2)

struct mgmt_function {
    uint16_t fn;
    uint16_t flags; /* MGMT_FUNCTION_* */
    uint32_t cc;
    uint32_t csts;
    uint32_t aqa;
    uint64_t cap;
    uint64_t asq;
    uint64_t acq;
    uint64_t hmb_bytes;  /* Host Memory Buffer as granted */
    uint32_t fence_left; /* who still owes the running fence an answer: cores, user of the HMB */
    uint32_t view_generation;
    uint16_t sq_count; /* I/O queues */
    uint16_t cq_count;
    uint32_t reserved;
    uint32_t in_flight[MGMT_CORES];      /* commands, by core; event requests count */
    uint32_t pool_low_water[MGMT_CORES]; /* fewest free commands ever */
    char state[MGMT_STATE_BYTES];        /* "READY" */
    char name[MGMT_NAME_BYTES];
    char serial[24];
    char subnqn[56];
    char hostnqn[224];
};
ASSERT_SIZE(struct mgmt_function, 480);

#define MGMT_QUEUE_SQ         (1u << 0) /* there is a submission queue of this number */
#define MGMT_QUEUE_CQ         (1u << 1)
#define MGMT_QUEUE_IEN        (1u << 2) /* interrupts enabled */
#define MGMT_QUEUE_COALESCING (1u << 3)
#define MGMT_QUEUE_PHASE      (1u << 4) /* the phase tag of the next completion is 1 */
#define MGMT_QUEUE_SHADOW     (1u << 5) /* the host rings shadow doorbells */
#define MGMT_QUEUE_FAR        (1u << 6) /* its memory is out of reach now */
#define MGMT_QUEUE_DELETING   (1u << 7)

/* Sizes, heads and tails in entries. */
struct mgmt_queue {
    uint16_t fn;
    uint16_t qid;  /* 0: admin */
    uint8_t flags; /* MGMT_QUEUE_* */
    uint8_t core;
    uint8_t priority; /* 0 urgent .. 3 low */
    uint8_t reserved;
    uint16_t cq_id; /* to which the SQ completes */
    uint16_t vector;
    uint32_t in_flight; /* commands of the SQ */
    uint64_t sq_base;   /* host address */
    uint64_t cq_base;
    uint32_t sq_size;
    uint32_t sq_head;     /* fetched up to here */
    uint32_t sq_doorbell; /* the host's tail as it stands */
    uint32_t cq_size;
    uint32_t cq_tail;     /* posted up to here */
    uint32_t cq_head;     /* the host's as last used */
    uint32_t cq_doorbell; /* and as it stands */
    uint32_t cq_held;     /* completions that wait for room */
    uint64_t oldest_ns;   /* age of the oldest command; 0: none; MGMT_UNKNOWN64 when core 0 hangs */
    uint64_t sqe_count;   /* fetched */
    uint64_t cqe_count;   /* posted */
    uint64_t irq_count;   /* MGMT_UNKNOWN64: not counted */
    uint32_t coalesce_entries; /* the function's setting */
    uint32_t coalesce_us;
};
ASSERT_SIZE(struct mgmt_queue, 104);

struct mgmt_drive {
    uint16_t index;
    uint16_t reserved[3];
    char state[MGMT_STATE_BYTES];
    char name[MGMT_NAME_BYTES];
};
ASSERT_SIZE(struct mgmt_drive, 56);

struct mgmt_namespace {
    uint16_t fn;
    uint16_t reserved;
    uint32_t nsid;
    uint64_t lba_count; /* 0: its device does not know its geometry yet */
    uint32_t block_bytes;
    uint32_t reserved1;
    char name[MGMT_NAME_BYTES]; /* of its device: a volume's name */
};
ASSERT_SIZE(struct mgmt_namespace, 56);

#define MGMT_VOLUME_READY     (1u << 0) /* a path is usable */
#define MGMT_VOLUME_KNOWN     (1u << 1) /* its geometry is */
#define MGMT_VOLUME_READ_ONLY (1u << 2)

struct mgmt_volume {
    uint16_t index;
    uint16_t path_count;
    uint32_t flags; /* MGMT_VOLUME_* */
    uint64_t lba_count;
    uint32_t block_bytes;
    uint32_t waiting;     /* requests that wait for a path, or for quiet */
    uint64_t quiet_in_ns; /* how long requests that change state still wait */
    uint32_t attached_count;
    uint32_t reserved;
    char state[MGMT_STATE_BYTES]; /* "attached", "detached", "leaving" */
    char name[MGMT_NAME_BYTES];
};
ASSERT_SIZE(struct mgmt_volume, 88);

struct mgmt_path {
    uint16_t volume;
    uint16_t index;
    uint16_t association; /* its index; MGMT_NONE16: a local path */
    uint8_t is_usable;
    uint8_t reserved;
    uint64_t requests; /* done or failed */
    char state[24];    /* "usable", "wrong block size" */
    char name[MGMT_NAME_BYTES];
    char volume_name[MGMT_NAME_BYTES];
    char why[MGMT_WHY_BYTES]; /* it is not used, and what to do */
};
ASSERT_SIZE(struct mgmt_path, 216);

struct mgmt_association {
    uint16_t index;
    uint16_t fn;
    uint16_t cntlid;
    uint16_t port; /* of the target */
    uint32_t queue_count;
    uint32_t host_queue_count; /* of those, with rings in host memory */
    uint32_t queue_entries;
    uint32_t in_flight;
    uint32_t ns_count;
    uint32_t connect_count; /* associations that were made */
    uint32_t attempt_count; /* since the last was live */
    uint32_t fail_code;
    uint64_t next_in_ns; /* until the next attempt; 0: none is waited for */
    uint64_t timeout_count;
    uint64_t abort_count;
    uint64_t event_count;
    uint64_t memory_bytes;
    uint32_t in_capsule_bytes;
    uint32_t max_transfer_bytes;
    uint32_t keep_alive_ms;
    uint32_t quiesce_ms;
    uint32_t sq_flow_control;
    uint32_t reserved;
    char state[MGMT_STATE_BYTES]; /* "LIVE" */
    char name[MGMT_NAME_BYTES];
    char address[MGMT_ADDR_BYTES];
    char why[MGMT_WHY_BYTES]; /* the last failure; empty: none */
    char subnqn[224];
    char model[48];
    char serial[24];
    char firmware[16];
};
ASSERT_SIZE(struct mgmt_association, 624);

struct mgmt_connection {
    uint16_t port; /* ours: an Ethernet port's index */
    uint16_t local_port;
    uint16_t peer_port;
    uint16_t reserved;
    uint32_t qpn; /* 0: none */
    uint32_t reserved1;
    char state[MGMT_STATE_BYTES]; /* "ESTABLISHED" */
    char local[MGMT_ADDR_BYTES];
    char peer[MGMT_ADDR_BYTES];
};
ASSERT_SIZE(struct mgmt_connection, 128);

#define MGMT_QP_STATS 16 /* as RDMA_QP_STAT_LIST has them (rdma/types.h) */

struct mgmt_qp {
    uint16_t port;
    uint16_t fn; /* tenant */
    uint32_t qpn;
    uint32_t peer_qpn;
    uint32_t send_posted;  /* work requests not completed */
    uint32_t recv_posted;  /* receives there are: what the peer may send without RNR */
    uint32_t next_psn;     /* of the next new packet */
    uint32_t una_psn;      /* oldest not acknowledged */
    uint32_t expected_psn; /* of the peer */
    uint32_t msn;
    uint32_t window_packets;
    uint32_t rate_mbps; /* 0: not limited */
    uint8_t retries_left;
    uint8_t rnr_retries_left;
    uint8_t reads_out; /* READs under way, ours */
    uint8_t reads_in;  /* and the peer's */
    char state[MGMT_STATE_BYTES];
    char peer[MGMT_ADDR_BYTES];
    uint64_t stats[MGMT_QP_STATS];
};
ASSERT_SIZE(struct mgmt_qp, 240);

#define MGMT_PORT_LINK_UP (1u << 0)
#define MGMT_PORT_UP      (1u << 1) /* all that stands on it has started */

struct mgmt_port {
    uint16_t index;
    uint16_t vlan; /* 0: untagged */
    uint8_t core;
    uint8_t flags; /* MGMT_PORT_* */
    uint8_t mac[6];
    uint32_t mtu;
    uint32_t path_mtu; /* of RDMA; 0: none */
    uint32_t reserved;
    char name[MGMT_STATE_BYTES];
    char rdma[MGMT_STATE_BYTES];
    char address[4][MGMT_ADDR_BYTES + 8]; /* with "/prefix" */
};
ASSERT_SIZE(struct mgmt_port, 280);

#define MGMT_REACTOR_ASLEEP (1u << 0)

struct mgmt_reactor {
    uint16_t core;
    uint16_t flags; /* MGMT_REACTOR_* */
    uint32_t poller_count;
    uint64_t turn_count;
    uint64_t busy_turn_count;
    uint64_t msg_count;
    uint64_t sleep_count;
    uint64_t sleep_ns;
    uint64_t turn_age_ns; /* since it last read the clock, once in few turns: large: it hangs */
    char running[MGMT_NAME_BYTES]; /* the poller whose turn it is; empty: none */
};
ASSERT_SIZE(struct mgmt_reactor, 88);

struct mgmt_poller {
    uint16_t core;
    uint16_t is_running;
    uint32_t reserved;
    uint64_t run_count;
    uint64_t work_count;
    uint64_t busy_ns; /* an estimate */
    char name[MGMT_NAME_BYTES];
};
ASSERT_SIZE(struct mgmt_poller, 64);

/* "fn0.commands": new counters need no new tool. */
struct mgmt_stat {
    char group[22]; /* "fn", "path.zero-copy" */
    uint16_t index; /* MGMT_NONE16: the group has but one */
    char name[24];
    uint64_t value;
};
ASSERT_SIZE(struct mgmt_stat, 56);

#define MGMT_SLOT_RUNNING (1u << 0)
#define MGMT_SLOT_ACTIVE  (1u << 1)
#define MGMT_SLOT_TRIAL   (1u << 2) /* starts next, or runs unconfirmed */
#define MGMT_SLOT_FAILED  (1u << 3)

struct mgmt_slot {
    uint16_t slot;
    uint16_t flags;       /* MGMT_SLOT_* */
    uint32_t image_bytes; /* 0: empty */
    uint32_t security_version;
    uint32_t min_security_version; /* images below are refused */
    uint32_t attempts_left;
    uint32_t slot_bytes;
    char version[16];
};
ASSERT_SIZE(struct mgmt_slot, 40);

struct mgmt_update {
    uint32_t received_bytes; /* without a hole, from the start */
    uint32_t image_bytes;    /* while writing */
    uint32_t done_bytes;
    uint32_t is_busy;
    char state[MGMT_STATE_BYTES];
    char fault[MGMT_WHY_BYTES]; /* of the last image that was checked; empty: none */
};
ASSERT_SIZE(struct mgmt_update, 144);

#endif
