/*
 * NVMe over Fabrics: capsules, Fabrics commands, Connect data, properties, the discovery log page,
 * and the private data of the RDMA transport's connection messages. All integers are little endian.
 * Leaves out: authentication, the TCP and FC transports.
 *
 * Source: NVM Express over Fabrics, revision 1.1. Sections in brackets; 7.3 is the RDMA transport.
 */
#ifndef SPEC_NVMF_H
#define SPEC_NVMF_H

#include "base/bits.h"
#include "spec/nvme.h"
#include "spec/nvme_identify.h"

/* --- capsules (2.1, 2.2) ------------------------------------------------------------------- */

/* A command capsule is the SQE and, behind it from ICDOFF * 16 bytes on, data or SGL descriptors; a
 * response capsule is the CQE, whose phase bit and SQ identifier mean nothing. */
#define NVMF_CMD_CAPSULE_BYTES  64
#define NVMF_RESP_CAPSULE_BYTES 16
#define NVMF_CAPSULE_UNIT_BYTES 16 /* of IOCCSZ, IORCSZ and ICDOFF */

/* Keyed SGL data block descriptor (7.3.5.1); type NVME_SGL_KEYED << 4 | sub type. */
struct nvmf_keyed_desc {
    uint64_t addr;
    uint8_t len_bytes[3];
    uint8_t key[4]; /* the rkey, little endian */
    uint8_t type;
};
ASSERT_SIZE(struct nvmf_keyed_desc, sizeof(struct nvme_sgl_desc));

#define NVMF_SGL_KEYED            (NVME_SGL_KEYED << 4 | NVME_SGL_SUB_ADDRESS)
#define NVMF_SGL_KEYED_INVALIDATE (NVME_SGL_KEYED << 4 | 0xf) /* the controller invalidates it */
#define NVMF_SGL_IN_CAPSULE       (NVME_SGL_DATA_BLOCK << 4 | NVME_SGL_SUB_OFFSET)
#define NVMF_KEYED_LEN_MAX        0xffffffu

/* --- Fabrics commands (3) ------------------------------------------------------------------ */

#define NVMF_OPCODE 0x7f

enum nvmf_fctype {
    NVMF_PROPERTY_SET = 0x00,
    NVMF_CONNECT = 0x01,
    NVMF_PROPERTY_GET = 0x04,
    NVMF_DISCONNECT = 0x08,
};

/* A Fabrics command keeps its FCTYPE in byte 4, where an SQE has the NSID; what follows byte 40 is
 * of the command. */
#define NVMF_SQE_FCTYPE(sqe) ((uint8_t)(sqe)->nsid)

/* Connect (3.3). */
struct nvmf_connect_sqe {
    uint8_t opcode;
    uint8_t flags;
    uint16_t cid;
    uint8_t fctype;
    uint8_t reserved5[19];
    struct nvme_sgl_desc sgl1;
    uint16_t recfmt; /* 0 */
    uint16_t qid;
    uint16_t sqsize; /* zeroes based */
    uint8_t cattr;   /* NVMF_CONNECT_* */
    uint8_t reserved47;
    uint32_t kato_ms; /* admin queue; 0: no keep alive */
    uint8_t reserved52[12];
};
ASSERT_SIZE(struct nvmf_connect_sqe, NVME_SQE_BYTES);
ASSERT_OFFSET(struct nvmf_connect_sqe, sgl1, 24);
ASSERT_OFFSET(struct nvmf_connect_sqe, cattr, 46);
ASSERT_OFFSET(struct nvmf_connect_sqe, kato_ms, 48);

#define NVMF_CONNECT_PRIORITY_SHIFT 0
#define NVMF_CONNECT_PRIORITY_BITS  2
#define NVMF_CONNECT_NO_SQ_FLOW     (1u << 2) /* SQ flow control is off */
#define NVMF_CONNECT_QUEUE_DELETION (1u << 3) /* single I/O queues may be deleted */

#define NVMF_NQN_BYTES     256 /* in messages */
#define NVMF_NQN_MAX_CHARS 223

/* Connect data (figure 21). */
struct nvmf_connect_data {
    uint8_t hostid[16];
    uint16_t cntlid; /* NVMF_CNTLID_DYNAMIC, or of the association's admin queue */
    uint8_t reserved18[238];
    char subnqn[NVMF_NQN_BYTES];
    char hostnqn[NVMF_NQN_BYTES];
    uint8_t reserved768[256];
};
ASSERT_SIZE(struct nvmf_connect_data, 1024);
ASSERT_OFFSET(struct nvmf_connect_data, subnqn, 256);

#define NVMF_CNTLID_DYNAMIC 0xffff
#define NVMF_CNTLID_STATIC  0xfffe

/* Connect response, dw0. On success: */
#define NVMF_CONNECT_CNTLID_SHIFT  0
#define NVMF_CONNECT_CNTLID_BITS   16
#define NVMF_CONNECT_AUTHREQ_SHIFT 16
#define NVMF_CONNECT_AUTHREQ_BITS  16
/* With Connect Invalid Parameters: offset of the bad field, in the data or in the SQE. */
#define NVMF_CONNECT_IPO_SHIFT  0
#define NVMF_CONNECT_IPO_BITS   16
#define NVMF_CONNECT_IATTR_DATA BIT32(16)

/* Property Get and Set (3.4, 3.5). Values of Get come in dw0 and dw1. */
struct nvmf_property_sqe {
    uint8_t opcode;
    uint8_t flags;
    uint16_t cid;
    uint8_t fctype;
    uint8_t reserved5[35];
    uint8_t attrib; /* NVMF_PROPERTY_* */
    uint8_t reserved41[3];
    uint32_t offset; /* as the register's of PCIe */
    uint64_t value;  /* Set */
    uint8_t reserved56[8];
};
ASSERT_SIZE(struct nvmf_property_sqe, NVME_SQE_BYTES);
ASSERT_OFFSET(struct nvmf_property_sqe, attrib, 40);
ASSERT_OFFSET(struct nvmf_property_sqe, value, 48);

#define NVMF_PROPERTY_4_BYTES 0
#define NVMF_PROPERTY_8_BYTES 1

/* Disconnect (3.2): ends an I/O queue, where OFCS says so. */
struct nvmf_disconnect_sqe {
    uint8_t opcode;
    uint8_t flags;
    uint16_t cid;
    uint8_t fctype;
    uint8_t reserved5[35];
    uint16_t recfmt; /* 0 */
    uint8_t reserved42[22];
};
ASSERT_SIZE(struct nvmf_disconnect_sqe, NVME_SQE_BYTES);
ASSERT_OFFSET(struct nvmf_disconnect_sqe, recfmt, 40);

/* Statuses of Fabrics commands (figure 16): status code type 1. */
enum nvmf_status_code {
    NVMF_SC_INCOMPATIBLE_FORMAT = 0x180,
    NVMF_SC_CONTROLLER_BUSY = 0x181,
    NVMF_SC_CONNECT_INVALID_PARAMETERS = 0x182,
    NVMF_SC_CONNECT_RESTART_DISCOVERY = 0x183,
    NVMF_SC_CONNECT_INVALID_HOST = 0x184,
    NVMF_SC_INVALID_QUEUE_TYPE = 0x185,
    NVMF_SC_DISCOVER_RESTART = 0x190,
    NVMF_SC_AUTHENTICATION_REQUIRED = 0x191,
};

/* --- Identify Controller, bytes 1792 to 2047 (4.1) ------------------------------------------- */

struct nvmf_identify_ctrl {
    uint32_t ioccsz; /* largest command capsule of I/O queues, units of 16 bytes; at least 4 */
    uint32_t iorcsz; /* response capsule, likewise; at least 1 */
    uint16_t icdoff; /* in-capsule data begin that many units behind the SQE */
    uint8_t fcatt;   /* NVMF_FCATT_* */
    uint8_t msdbd;   /* SGL data block descriptors in a capsule; 0: no limit */
    uint16_t ofcs;   /* NVMF_OFCS_* */
    uint8_t reserved1806[242];
};
ASSERT_SIZE(struct nvmf_identify_ctrl, 256);

#define NVMF_FCATT_STATIC    (1u << 0) /* else the dynamic controller model */
#define NVMF_OFCS_DISCONNECT (1u << 0)

/* Identify Controller's SGLS (4.1.2, figure 29) and CTRATT, as fabrics use them. */
#define NVMF_SGLS_SUPPORTED_BITS 2
#define NVMF_SGLS_KEYED          BIT32(2)
#define NVMF_SGLS_OFFSETS        BIT32(20) /* address field is an offset: in-capsule data */
#define NVMF_CTRATT_TBKAS        BIT32(6)  /* any command keeps the controller alive */

/* --- discovery (5) ------------------------------------------------------------------------- */

#define NVMF_DISCOVERY_NQN "nqn.2014-08.org.nvmexpress.discovery"
#define NVMF_LOG_DISCOVERY 0x70

enum nvmf_trtype {
    NVMF_TRTYPE_RDMA = 1,
    NVMF_TRTYPE_FC = 2,
    NVMF_TRTYPE_TCP = 3,
};

enum nvmf_adrfam {
    NVMF_ADRFAM_IPV4 = 1,
    NVMF_ADRFAM_IPV6 = 2,
    NVMF_ADRFAM_IB = 3,
    NVMF_ADRFAM_FC = 4,
};

enum nvmf_subtype {
    NVMF_SUBTYPE_REFERRAL = 1, /* another discovery service */
    NVMF_SUBTYPE_NVME = 2,
    NVMF_SUBTYPE_CURRENT = 3, /* this discovery service itself */
};

enum nvmf_rdma_cms {
    NVMF_RDMA_CMS_RDMA_CM = 1,
};

/* One entry (figure 38); TSAS as figure 40 has it for RDMA. Text is padded with spaces or zeroes.
 */
struct nvmf_discovery_entry {
    uint8_t trtype;
    uint8_t adrfam;
    uint8_t subtype;
    uint8_t treq;
    uint16_t portid;
    uint16_t cntlid;
    uint16_t asqsz;
    uint8_t reserved10[22];
    char trsvcid[32];
    uint8_t reserved64[192];
    char subnqn[NVMF_NQN_BYTES];
    char traddr[256];
    struct {
        uint8_t qptype;
        uint8_t prtype;
        uint8_t cms;
        uint8_t reserved3[5];
        uint16_t pkey;
        uint8_t reserved10[246];
    } tsas;
};
ASSERT_SIZE(struct nvmf_discovery_entry, 1024);
ASSERT_OFFSET(struct nvmf_discovery_entry, trsvcid, 32);
ASSERT_OFFSET(struct nvmf_discovery_entry, subnqn, 256);
ASSERT_OFFSET(struct nvmf_discovery_entry, traddr, 512);
ASSERT_OFFSET(struct nvmf_discovery_entry, tsas, 768);

#define NVMF_TREQ_SECURE_BITS 2
#define NVMF_TREQ_NO_SQ_FLOW  (1u << 2) /* able to do without SQ flow control */

struct nvmf_discovery_header {
    uint64_t genctr; /* changes with the log */
    uint64_t numrec;
    uint16_t recfmt; /* 0 */
    uint8_t reserved18[1006];
};
ASSERT_SIZE(struct nvmf_discovery_header, 1024);
ASSERT_OFFSET(struct nvmf_discovery_header, recfmt, 16);

/* --- RDMA transport: private data of the connection (7.3.6.4) ----------------------------------
 */

#define NVMF_RDMA_PORT   4420
#define NVMF_RDMA_RECFMT 0

struct nvmf_rdma_req {
    uint16_t recfmt;
    uint16_t qid;
    uint16_t hrqsize; /* receives of the host; not zeroes based */
    uint16_t hsqsize; /* zeroes based */
    uint16_t cntlid;  /* of I/O queues */
    uint8_t reserved[22];
};
ASSERT_SIZE(struct nvmf_rdma_req, 32);

struct nvmf_rdma_rep {
    uint16_t recfmt;
    uint16_t crqsize; /* receives of the controller: commands that may be under way; not zeroes
                         based */
    uint8_t reserved[28];
};
ASSERT_SIZE(struct nvmf_rdma_rep, 32);

struct nvmf_rdma_rej {
    uint16_t recfmt;
    uint16_t sts; /* enum nvmf_rdma_status */
};
ASSERT_SIZE(struct nvmf_rdma_rej, 4);

#define NVMF_RDMA_STATUS_LIST(X)                                     \
    X(INVALID_PRIVATE_DATA_LENGTH, 1, "invalid private data length") \
    X(INVALID_RECFMT, 2, "invalid record format")                    \
    X(INVALID_QID, 3, "invalid queue id")                            \
    X(INVALID_HSQSIZE, 4, "invalid host SQ size")                    \
    X(INVALID_HRQSIZE, 5, "invalid host receive queue size")         \
    X(NO_RESOURCES, 6, "the target has no resources")                \
    X(INVALID_IRD, 7, "invalid inbound RDMA READ depth")             \
    X(INVALID_ORD, 8, "invalid outbound RDMA READ depth")            \
    X(INVALID_CNTLID, 9, "invalid controller id")

enum nvmf_rdma_status {
#define NVMF_RDMA_STATUS_ENUM(name, value, text) NVMF_RDMA_##name = (value),
    NVMF_RDMA_STATUS_LIST(NVMF_RDMA_STATUS_ENUM)
#undef NVMF_RDMA_STATUS_ENUM
};

#endif
