/* What the two files of the device in memory share: its objects. */
#ifndef TESTS_UNIT_DIAG_FAKE_RDMA_PRIV_H
#define TESTS_UNIT_DIAG_FAKE_RDMA_PRIV_H

#include "tests/unit/diag/fake_rdma.h"

#define FAKE_QPS           40
#define FAKE_IDS           64
#define FAKE_WRS           128
#define FAKE_EVENTS        128
#define FAKE_MESSAGE_BYTES (1u << 20)

struct fake_pd {
    struct rdma_pd base;
    bool is_used;
};

struct fake_mr {
    struct rdma_mr base;
    bool is_used;
    struct rdma_mr_attr attr;
};

struct fake_cq {
    struct rdma_cq base;
    bool is_used;
    struct rdma_wc *wcs;
    uint32_t room;
    uint32_t count;
};

struct fake_wr {
    uint64_t wr_id;
    struct rdma_sge sges[4];
    uint8_t sge_count;
    uint8_t opcode;
    uint8_t flags;
    uint64_t remote_addr;
    uint32_t rkey;
};

struct fake_qp {
    struct rdma_qp base;
    bool is_used;
    uint8_t access;
    struct rdma_qp_init_attr init;
    struct fake_qp *peer;
    uint32_t dest_qpn;
    uint64_t rx_packets;
    uint32_t send_count;
    uint32_t recv_count;
    struct fake_wr sends[FAKE_WRS]; /* [0] is the oldest */
    struct fake_wr recvs[FAKE_WRS];
};

struct fake_id {
    struct rdma_cm_id base;
    bool is_used;
    struct fake_id *peer;
    struct rdma_cm_param param;
};

struct fake_event {
    struct fake_id *id;
    struct rdma_cm_event event;
};

struct fake {
    struct rdma_device device;
    uint32_t next_key;
    uint32_t next_qpn;
    struct fake_pd pds[32];
    struct fake_mr mrs[32];
    struct fake_cq cqs[32];
    struct fake_qp qps[FAKE_QPS];
    struct fake_id ids[FAKE_IDS];
    struct fake_event events[FAKE_EVENTS];
    uint32_t event_count;
};

extern struct fake fake;
extern const struct rdma_cm_ops fake_cm_ops;

bool fake_fails(void);
void fake_qp_error(struct fake_qp *qp);
uint32_t fake_cm_run(void);

#endif
