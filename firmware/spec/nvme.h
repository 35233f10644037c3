/*
 * NVM Express: registers, commands and data structures as they lie in memory. Nothing else.
 *
 * Source: NVM Express Base Specification, revision 1.4 (section numbers beside each item).
 * All integers are little endian; base/compiler.h asserts that so are we.
 */
#ifndef SPEC_NVME_H
#define SPEC_NVME_H

#include <stdint.h>
#include "base/bits.h"
#include "base/compiler.h"

#define NVME_VERSION_1_4 0x00010400u

/* --- controller registers, section 3.1 ----------------------------------------------------- */

#define NVME_REG_CAP    0x00 /* 64 bit, 3.1.1 */
#define NVME_REG_VS     0x08 /* 3.1.2 */
#define NVME_REG_INTMS  0x0c /* 3.1.3; not to be used with MSI-X */
#define NVME_REG_INTMC  0x10 /* 3.1.4 */
#define NVME_REG_CC     0x14 /* 3.1.5 */
#define NVME_REG_CSTS   0x1c /* 3.1.6 */
#define NVME_REG_NSSR   0x20 /* 3.1.7; CAP.NSSRS */
#define NVME_REG_AQA    0x24 /* 3.1.8 */
#define NVME_REG_ASQ    0x28 /* 64 bit, 3.1.9 */
#define NVME_REG_ACQ    0x30 /* 64 bit, 3.1.10 */
#define NVME_REG_CMBLOC 0x38
#define NVME_REG_CMBSZ  0x3c

#define NVME_DOORBELLS_OFFSET 0x1000 /* 3.1.24: SQyTDBL, CQyHDBL */

#define NVME_CAP_MQES_SHIFT   0
#define NVME_CAP_MQES_BITS    16
#define NVME_CAP_CQR          BIT64(16)
#define NVME_CAP_AMS_SHIFT    17
#define NVME_CAP_AMS_BITS     2
#define NVME_CAP_AMS_WRR      1
#define NVME_CAP_TO_SHIFT     24 /* unit 500 ms */
#define NVME_CAP_TO_BITS      8
#define NVME_CAP_DSTRD_SHIFT  32 /* stride is 4 << DSTRD bytes */
#define NVME_CAP_DSTRD_BITS   4
#define NVME_CAP_NSSRS        BIT64(36)
#define NVME_CAP_CSS_SHIFT    37
#define NVME_CAP_CSS_BITS     8
#define NVME_CAP_CSS_NVM      1
#define NVME_CAP_MPSMIN_SHIFT 48 /* page is 4096 << MPS bytes */
#define NVME_CAP_MPSMIN_BITS  4
#define NVME_CAP_MPSMAX_SHIFT 52
#define NVME_CAP_MPSMAX_BITS  4

#define NVME_CC_EN           BIT32(0)
#define NVME_CC_CSS_SHIFT    4
#define NVME_CC_CSS_BITS     3
#define NVME_CC_MPS_SHIFT    7
#define NVME_CC_MPS_BITS     4
#define NVME_CC_AMS_SHIFT    11
#define NVME_CC_AMS_BITS     3
#define NVME_CC_AMS_RR       0
#define NVME_CC_AMS_WRR      1
#define NVME_CC_SHN_SHIFT    14
#define NVME_CC_SHN_BITS     2
#define NVME_CC_IOSQES_SHIFT 16
#define NVME_CC_IOSQES_BITS  4
#define NVME_CC_IOCQES_SHIFT 20
#define NVME_CC_IOCQES_BITS  4
#define NVME_CC_WRITABLE     0x00fffff1u /* what a host can change */

#define NVME_CSTS_RDY        BIT32(0)
#define NVME_CSTS_CFS        BIT32(1)
#define NVME_CSTS_SHST_SHIFT 2
#define NVME_CSTS_SHST_BITS  2
#define NVME_CSTS_NSSRO      BIT32(4)
#define NVME_SHST_NORMAL     0
#define NVME_SHST_OCCURRING  1
#define NVME_SHST_COMPLETE   2

#define NVME_AQA_ASQS_SHIFT 0
#define NVME_AQA_ASQS_BITS  12
#define NVME_AQA_ACQS_SHIFT 16
#define NVME_AQA_ACQS_BITS  12

/* --- queue entries, section 4 -------------------------------------------------------------- */

#define NVME_SQE_BYTES 64
#define NVME_CQE_BYTES 16
#define NVME_IOSQES    6 /* log2 */
#define NVME_IOCQES    4

/* SGL descriptor, 4.4. `type` is type << 4 | sub type. */
struct nvme_sgl_desc {
    uint64_t addr;
    uint32_t len_bytes;
    uint8_t reserved[3];
    uint8_t type;
};
ASSERT_SIZE(struct nvme_sgl_desc, 16);

#define NVME_SGL_DATA_BLOCK   0x0
#define NVME_SGL_BIT_BUCKET   0x1
#define NVME_SGL_SEGMENT      0x2
#define NVME_SGL_LAST_SEGMENT 0x3
#define NVME_SGL_KEYED        0x4
#define NVME_SGL_TRANSPORT    0x5
#define NVME_SGL_SUB_ADDRESS  0x0
#define NVME_SGL_SUB_OFFSET   0x1

/* Submission queue entry, 4.2 */
struct nvme_sqe {
    uint8_t opcode;
    uint8_t flags; /* FUSE 1:0, PSDT 7:6 */
    uint16_t cid;
    uint32_t nsid;
    uint32_t cdw2;
    uint32_t cdw3;
    uint64_t mptr;
    union {
        struct {
            uint64_t prp1;
            uint64_t prp2;
        };
        struct nvme_sgl_desc sgl1;
    };
    uint32_t cdw10;
    uint32_t cdw11;
    uint32_t cdw12;
    uint32_t cdw13;
    uint32_t cdw14;
    uint32_t cdw15;
};
ASSERT_SIZE(struct nvme_sqe, NVME_SQE_BYTES);
ASSERT_OFFSET(struct nvme_sqe, prp1, 24);
ASSERT_OFFSET(struct nvme_sqe, cdw10, 40);

#define NVME_SQE_FUSE_SHIFT    0
#define NVME_SQE_FUSE_BITS     2
#define NVME_SQE_PSDT_SHIFT    6
#define NVME_SQE_PSDT_BITS     2
#define NVME_PSDT_PRP          0
#define NVME_PSDT_SGL_MPTR     1 /* SGL, MPTR is one contiguous buffer */
#define NVME_PSDT_SGL_MPTR_SGL 2 /* SGL, MPTR points at an SGL segment */

/* Completion queue entry, 4.6. dw3: CID 15:0, phase 16, status 31:17 */
struct nvme_cqe {
    uint32_t dw0;
    uint32_t dw1;
    uint16_t sq_head;
    uint16_t sq_id;
    uint32_t dw3;
};
ASSERT_SIZE(struct nvme_cqe, NVME_CQE_BYTES);

#define NVME_CQE_PHASE        BIT32(16)
#define NVME_CQE_STATUS_SHIFT 17

/* --- status field, 4.6.1: SC 7:0, SCT 10:8, CRD 12:11, M 13, DNR 14 ------------------------- */

typedef uint16_t nvme_status_t;

#define NVME_STATUS(sct, sc) ((nvme_status_t)((sct) << 8 | (sc)))
#define NVME_STATUS_MORE     0x2000
#define NVME_STATUS_DNR      0x4000
#define NVME_STATUS_CODE(s)  ((s)&0x7ff) /* type and code, without the flags */

enum {
    /* Generic, figure 126 and 127 */
    NVME_SC_SUCCESS = 0x000,
    NVME_SC_INVALID_OPCODE = 0x001,
    NVME_SC_INVALID_FIELD = 0x002,
    NVME_SC_CID_CONFLICT = 0x003,
    NVME_SC_DATA_TRANSFER_ERROR = 0x004,
    NVME_SC_POWER_LOSS_ABORT = 0x005,
    NVME_SC_INTERNAL_ERROR = 0x006,
    NVME_SC_ABORT_REQUESTED = 0x007,
    NVME_SC_ABORT_SQ_DELETION = 0x008,
    NVME_SC_ABORT_FAILED_FUSED = 0x009,
    NVME_SC_ABORT_MISSING_FUSED = 0x00a,
    NVME_SC_INVALID_NS_OR_FORMAT = 0x00b,
    NVME_SC_COMMAND_SEQUENCE_ERROR = 0x00c,
    NVME_SC_INVALID_SGL_SEGMENT = 0x00d,
    NVME_SC_INVALID_SGL_COUNT = 0x00e,
    NVME_SC_DATA_SGL_LENGTH_INVALID = 0x00f,
    NVME_SC_METADATA_SGL_LENGTH_INVALID = 0x010,
    NVME_SC_SGL_TYPE_INVALID = 0x011,
    NVME_SC_INVALID_CMB_USE = 0x012,
    NVME_SC_INVALID_PRP_OFFSET = 0x013,
    NVME_SC_ATOMIC_WRITE_UNIT_EXCEEDED = 0x014,
    NVME_SC_OPERATION_DENIED = 0x015,
    NVME_SC_INVALID_SGL_OFFSET = 0x016,
    NVME_SC_HOSTID_INCONSISTENT = 0x018,
    NVME_SC_KEEP_ALIVE_EXPIRED = 0x019,
    NVME_SC_KEEP_ALIVE_INVALID = 0x01a,
    NVME_SC_PREEMPT_ABORT = 0x01b,
    NVME_SC_SANITIZE_FAILED = 0x01c,
    NVME_SC_SANITIZE_IN_PROGRESS = 0x01d,
    NVME_SC_INVALID_SGL_GRANULARITY = 0x01e,
    NVME_SC_COMMAND_IN_CMB_UNSUPPORTED = 0x01f,
    NVME_SC_NS_WRITE_PROTECTED = 0x020,
    NVME_SC_COMMAND_INTERRUPTED = 0x021,
    NVME_SC_TRANSIENT_TRANSPORT_ERROR = 0x022,
    NVME_SC_LBA_OUT_OF_RANGE = 0x080,
    NVME_SC_CAPACITY_EXCEEDED = 0x081,
    NVME_SC_NS_NOT_READY = 0x082,
    NVME_SC_RESERVATION_CONFLICT = 0x083,

    /* Command specific, figure 128 */
    NVME_SC_CQ_INVALID = 0x100,
    NVME_SC_INVALID_QUEUE_ID = 0x101,
    NVME_SC_INVALID_QUEUE_SIZE = 0x102,
    NVME_SC_ABORT_LIMIT_EXCEEDED = 0x103,
    NVME_SC_AER_LIMIT_EXCEEDED = 0x105,
    NVME_SC_INVALID_FIRMWARE_SLOT = 0x106,
    NVME_SC_INVALID_FIRMWARE_IMAGE = 0x107,
    NVME_SC_INVALID_INTERRUPT_VECTOR = 0x108,
    NVME_SC_INVALID_LOG_PAGE = 0x109,
    NVME_SC_INVALID_FORMAT = 0x10a,
    NVME_SC_INVALID_QUEUE_DELETION = 0x10c,
    NVME_SC_FEATURE_NOT_SAVEABLE = 0x10d,
    NVME_SC_FEATURE_NOT_CHANGEABLE = 0x10e,
    NVME_SC_FEATURE_NOT_NS_SPECIFIC = 0x10f,
    NVME_SC_NS_NOT_ATTACHED = 0x11a,
    NVME_SC_CONFLICTING_ATTRIBUTES = 0x180,
    NVME_SC_WRITE_TO_READ_ONLY = 0x182,

    /* Media and data integrity, figure 130 */
    NVME_SC_WRITE_FAULT = 0x280,
    NVME_SC_UNRECOVERED_READ = 0x281,
    NVME_SC_COMPARE_FAILURE = 0x285,
    NVME_SC_DEALLOCATED_BLOCK = 0x287,

    /* Path related, figure 131 */
    NVME_SC_INTERNAL_PATH_ERROR = 0x300,
    NVME_SC_ASYMMETRIC_ACCESS_TRANSITION = 0x303,
    NVME_SC_HOST_PATH_ERROR = 0x370,
};

/* --- opcodes ------------------------------------------------------------------------------- */

enum nvme_admin_opcode { /* figure 139 */
    NVME_ADMIN_DELETE_SQ = 0x00,
    NVME_ADMIN_CREATE_SQ = 0x01,
    NVME_ADMIN_GET_LOG_PAGE = 0x02,
    NVME_ADMIN_DELETE_CQ = 0x04,
    NVME_ADMIN_CREATE_CQ = 0x05,
    NVME_ADMIN_IDENTIFY = 0x06,
    NVME_ADMIN_ABORT = 0x08,
    NVME_ADMIN_SET_FEATURES = 0x09,
    NVME_ADMIN_GET_FEATURES = 0x0a,
    NVME_ADMIN_ASYNC_EVENT = 0x0c,
    NVME_ADMIN_FIRMWARE_COMMIT = 0x10,
    NVME_ADMIN_FIRMWARE_DOWNLOAD = 0x11,
    NVME_ADMIN_KEEP_ALIVE = 0x18,
    NVME_ADMIN_DOORBELL_BUFFER_CONFIG = 0x7c,
    NVME_ADMIN_VENDOR_FIRST = 0xc0, /* from here on the vendor's; bits 1:0: direction of data */
    NVME_ADMIN_VENDOR_SEND = 0xc1,  /* ours: docs/spec/mgmt.md */
    NVME_ADMIN_VENDOR_RECEIVE = 0xc2,
};

enum nvme_io_opcode { /* figure 346 */
    NVME_IO_FLUSH = 0x00,
    NVME_IO_WRITE = 0x01,
    NVME_IO_READ = 0x02,
    NVME_IO_WRITE_UNCORRECTABLE = 0x04,
    NVME_IO_COMPARE = 0x05,
    NVME_IO_WRITE_ZEROES = 0x08,
    NVME_IO_DSM = 0x09,
    NVME_IO_VERIFY = 0x0c,
    NVME_IO_RESERVATION_REGISTER = 0x0d,
    NVME_IO_RESERVATION_REPORT = 0x0e,
    NVME_IO_RESERVATION_ACQUIRE = 0x11,
    NVME_IO_RESERVATION_RELEASE = 0x15,
};

/* Direction of the data as the opcode's low two bits say it (figure 138). */
enum nvme_dir {
    NVME_DIR_NONE = 0,
    NVME_DIR_TO_CONTROLLER = 1,
    NVME_DIR_FROM_CONTROLLER = 2,
};

/* Read and Write, cdw12 (6.9, 6.15) */
#define NVME_RW_NLB_SHIFT    0 /* zeroes based */
#define NVME_RW_NLB_BITS     16
#define NVME_RW_PRINFO_SHIFT 26
#define NVME_RW_PRINFO_BITS  4
#define NVME_RW_FUA          BIT32(30)
#define NVME_RW_LR           BIT32(31)
#define NVME_WZ_DEAC         BIT32(25)

/* Dataset Management, cdw10 and cdw11 (6.7), and one range of its list */
#define NVME_DSM_NR_SHIFT   0 /* zeroes based */
#define NVME_DSM_NR_BITS    8
#define NVME_DSM_DEALLOCATE BIT32(2)
#define NVME_DSM_RANGES     256

struct nvme_dsm_range {
    uint32_t attributes;
    uint32_t lba_count;
    uint64_t slba;
};
ASSERT_SIZE(struct nvme_dsm_range, 16);
ASSERT_OFFSET(struct nvme_dsm_range, slba, 8);

/* Reservation commands (6.10 - 6.13): bytes of their keys; Report has cdw10 + 1 dwords. */
#define NVME_RESERVATION_REGISTER_BYTES 16
#define NVME_RESERVATION_ACQUIRE_BYTES  16
#define NVME_RESERVATION_RELEASE_BYTES  8

/* Abort, cdw10 (5.1) */
#define NVME_ABORT_SQID_SHIFT 0
#define NVME_ABORT_SQID_BITS  16
#define NVME_ABORT_CID_SHIFT  16
#define NVME_ABORT_CID_BITS   16

ALWAYS_INLINE uint64_t nvme_rw_slba(const struct nvme_sqe *sqe)
{
    return (uint64_t)sqe->cdw11 << 32 | sqe->cdw10;
}

/* Count of blocks, 1..65536. */
ALWAYS_INLINE uint32_t nvme_rw_lba_count(const struct nvme_sqe *sqe)
{
    return (sqe->cdw12 & 0xffff) + 1;
}

#define NVME_NSID_ALL 0xffffffffu

#endif
