/*
 * An NVMe drive in test memory: registers, queues, commands, blocks. Written from the specification
 * alone (nothing of firmware/nvme is in it), so that driver and model can disagree.
 *
 * It moves only in drive_model_step(). What a real drive must not see from a host (a doorbell out
 * of range or while disabled, a CID in use, a bad PRP, DMA with bus mastering off) is a violation:
 * counted, and printed. It can be told to misbehave in many ways.
 */
#ifndef TESTS_UNIT_NVME_DRV_DRIVE_MODEL_H
#define TESTS_UNIT_NVME_DRV_DRIVE_MODEL_H

#include <stdbool.h>
#include <stdint.h>
#include "hal/pcie_rc.h"
#include "spec/nvme.h"

#define MODEL_REGS_BYTES 0x2000
#define MODEL_QUEUES     5 /* admin and four */
#define MODEL_PENDING    2048
#define MODEL_NAMESPACES 20

struct model_ns {
    uint32_t nsid; /* 0: none */
    uint8_t lba_shift;
    uint8_t metadata_bytes;
    bool is_protected;
    uint8_t nsfeat;
    uint16_t limits[12]; /* NAWUN, NAWUPF, NACWU, NABSN, NABO, NABSPF, NOIOB; NPWG to NOWS */
    uint64_t lba_count;
    uint8_t *blocks;
};

struct model_pending {
    struct nvme_sqe cmd;
    uint16_t sq_id;
    uint64_t due_ns;
    uint32_t number; /* of the command since power-on */
};

/* What happens to the command of a given number instead of its execution. */
enum model_fault {
    MODEL_FAULT_NONE,
    MODEL_FAULT_STATUS,      /* ends with fault_status */
    MODEL_FAULT_LOSE,        /* is executed, no completion */
    MODEL_FAULT_STALL,       /* nothing happens before an Abort */
    MODEL_FAULT_UNKNOWN_CID, /* completion with a CID that nobody used */
    MODEL_FAULT_DUPLICATE,   /* two completions */
    MODEL_FAULT_WRONG_SQ,    /* completion names another queue */
    MODEL_FAULT_CFS,         /* the controller breaks down */
    MODEL_FAULT_REMOVE,      /* somebody pulls it */
};

struct drive_model {
    /* Configuration. */
    struct model_ns ns[MODEL_NAMESPACES];
    uint32_t io_queues; /* offered */
    uint32_t mqes;      /* entries minus 1 */
    uint32_t to_units;
    uint32_t dstrd;
    uint32_t mpsmin;
    uint8_t mdts;
    uint8_t sgls;
    uint8_t acl;
    uint32_t oncs;
    uint8_t vwc;
    uint16_t awun, awupf, acwu;

    /* Behaviour. */
    uint64_t ready_delay_ns;
    bool never_ready;
    bool never_idle; /* RDY stays 1 when EN goes to 0 */
    bool fails_enable;
    uint64_t delay_ns; /* of I/O commands */
    bool shuffles;     /* answers out of order */
    bool ignores_aborts;
    bool is_frozen; /* executes no I/O command */
    enum model_fault io_fault;
    uint32_t io_fault_number; /* counted from power-on, 1: the first */
    nvme_status_t fault_status;
    enum model_fault admin_fault;
    uint32_t admin_fault_number;
    uint32_t fault_repeats; /* 0: the fault stays for all later commands too */
    uint32_t event_dw0;     /* not 0: answer the next AER with it */
    uint8_t critical_warning;

    /* State. */
    uint8_t *regs; /* MODEL_REGS_BYTES */
    struct pcie_rc_device device;
    bool bus_master;
    bool is_removed;
    bool was_enabled;
    uint64_t enabled_at_ns;
    uint64_t sq_addr[MODEL_QUEUES];
    uint64_t cq_addr[MODEL_QUEUES];
    uint32_t sq_entries[MODEL_QUEUES];
    uint32_t cq_entries[MODEL_QUEUES];
    uint32_t sq_head[MODEL_QUEUES];
    uint32_t cq_tail[MODEL_QUEUES]; /* free running */
    struct model_pending pending[MODEL_PENDING];
    uint32_t pending_count;
    uint32_t random;

    /* What was seen. */
    uint32_t io_count;
    uint32_t admin_count;
    uint32_t abort_count;
    uint32_t enable_count;
    uint32_t violation_count;
    uint32_t prp_count;
    uint32_t sgl_count;
    uint64_t data_bytes;
    struct nvme_sqe last_io;
};

/* A healthy drive with one namespace (1, 8 MiB, blocks of 1 << lba_shift); becomes the only device
 * that pcie_rc_device() finds, or an additional one. */
void drive_model_init(struct drive_model *m, uint8_t lba_shift);
void drive_model_free(struct drive_model *m);
/* Forgets all devices. */
void drive_model_unplug_all(void);

/* Does everything that is due now. */
void drive_model_step(struct drive_model *m);

void drive_model_add_ns(struct drive_model *m, uint32_t nsid, uint8_t lba_shift,
                        uint64_t lba_count);
struct model_ns *drive_model_ns(struct drive_model *m, uint32_t nsid);

/* --- drive_model_cmd.c: for drive_model.c
 * ---------------------------------------------------------- */

struct model_result {
    nvme_status_t status;
    uint32_t dw0;
    bool is_silent; /* no completion (yet) */
};
struct model_result drive_model_execute(struct drive_model *m, const struct model_pending *p);
void drive_model_violation(struct drive_model *m, const char *what);

#endif
