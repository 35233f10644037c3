/*
 * Communication management: its messages as they lie in a MAD, and the header of the RDMA IP CM
 * service in a REQ's private data. Leaves out: SIDR, LAP and APR (alternate paths), values of
 * reliable datagrams and XRC.
 *
 * Sources: InfiniBand Architecture Specification, volume 1, release 1.4, section 12.6 (the messages
 * in 12.6.5 to 12.6.11, reject reasons in 12.6.7.2); annex A11 (RDMA IP CM service). "Local" is who
 * sent the message, "remote" is who gets it (12.6.1).
 */
#ifndef SPEC_RDMA_CM_H
#define SPEC_RDMA_CM_H

#include "base/bits.h"
#include "spec/mad.h"

/* Attributes of the class (12.6.2). */
#define CM_ATTR_REQ  0x0010
#define CM_ATTR_MRA  0x0011
#define CM_ATTR_REJ  0x0012
#define CM_ATTR_REP  0x0013
#define CM_ATTR_RTU  0x0014
#define CM_ATTR_DREQ 0x0015
#define CM_ATTR_DREP 0x0016

/* A time of 5 bits is 4.096 us * 2^value. */
#define CM_TIME_UNIT_NS UINT64_C(4096)

/* --- REQ (12.6.5) -------------------------------------------------------------------------- */

#define CM_REQ_PRIVATE_BYTES 92

struct cm_req {
    struct be32 local_comm_id;
    struct be32 reserved;
    struct be64 service_id;
    struct be64 local_ca_guid;
    struct be32 reserved2;
    struct be32 local_qkey;
    struct be24 local_qpn;
    uint8_t responder_resources; /* READs of the receiver that the sender serves at once */
    struct be24 local_eecn;
    uint8_t initiator_depth; /* READs that the sender wants to have under way */
    struct be24 remote_eecn;
    uint8_t remote_response;  /* CM_REQ_REMOTE_RESPONSE, _TRANSPORT; bit 0: flow control */
    struct be24 starting_psn; /* at which the receiver begins to send */
    uint8_t local_response;   /* CM_REQ_LOCAL_RESPONSE, _RETRY_COUNT */
    struct be16 pkey;
    uint8_t mtu;         /* CM_REQ_MTU, _RNR_RETRY; bit 3: RDC exists */
    uint8_t max_retries; /* CM_REQ_MAX_RETRIES, _SRQ, _EXTENDED_TRANSPORT */
    struct be16 primary_local_lid;
    struct be16 primary_remote_lid;
    uint8_t primary_local_gid[16];
    uint8_t primary_remote_gid[16];
    struct be32 primary_flow; /* bits 31:12 flow label, 5:0 rate */
    uint8_t primary_traffic_class;
    uint8_t primary_hop_limit;
    uint8_t primary_sl;          /* bits 7:4 SL, 3 subnet local */
    uint8_t primary_ack_timeout; /* CM_REQ_ACK_TIMEOUT */
    struct be16 alternate_local_lid;
    struct be16 alternate_remote_lid;
    uint8_t alternate_local_gid[16];
    uint8_t alternate_remote_gid[16];
    struct be32 alternate_flow;
    uint8_t alternate_traffic_class;
    uint8_t alternate_hop_limit;
    uint8_t alternate_sl;
    uint8_t alternate_ack_timeout;
    uint8_t private_data[CM_REQ_PRIVATE_BYTES];
};
ASSERT_SIZE(struct cm_req, 232);
ASSERT_OFFSET(struct cm_req, service_id, 8);
ASSERT_OFFSET(struct cm_req, local_ca_guid, 16);
ASSERT_OFFSET(struct cm_req, local_qkey, 28);
ASSERT_OFFSET(struct cm_req, local_qpn, 32);
ASSERT_OFFSET(struct cm_req, initiator_depth, 39);
ASSERT_OFFSET(struct cm_req, starting_psn, 44);
ASSERT_OFFSET(struct cm_req, pkey, 48);
ASSERT_OFFSET(struct cm_req, primary_local_lid, 52);
ASSERT_OFFSET(struct cm_req, primary_local_gid, 56);
ASSERT_OFFSET(struct cm_req, primary_flow, 88);
ASSERT_OFFSET(struct cm_req, primary_ack_timeout, 95);
ASSERT_OFFSET(struct cm_req, alternate_local_lid, 96);
ASSERT_OFFSET(struct cm_req, alternate_local_gid, 100);
ASSERT_OFFSET(struct cm_req, private_data, 140);

/* Fields inside of a byte; primary_flow: of 32 bits. */
#define CM_REQ_REMOTE_RESPONSE_SHIFT    3 /* in which the receiver has to answer */
#define CM_REQ_REMOTE_RESPONSE_BITS     5
#define CM_REQ_TRANSPORT_SHIFT          1 /* 0: RC */
#define CM_REQ_TRANSPORT_BITS           2
#define CM_REQ_LOCAL_RESPONSE_SHIFT     3 /* in which the sender will answer */
#define CM_REQ_LOCAL_RESPONSE_BITS      5
#define CM_REQ_RETRY_COUNT_SHIFT        0
#define CM_REQ_RETRY_COUNT_BITS         3
#define CM_REQ_MTU_SHIFT                4 /* 1: 256 ... 5: 4096 bytes */
#define CM_REQ_MTU_BITS                 4
#define CM_REQ_RNR_RETRY_SHIFT          0
#define CM_REQ_RNR_RETRY_BITS           3
#define CM_REQ_MAX_RETRIES_SHIFT        4 /* of CM messages */
#define CM_REQ_MAX_RETRIES_BITS         4
#define CM_REQ_SRQ_SHIFT                3
#define CM_REQ_SRQ_BITS                 1
#define CM_REQ_EXTENDED_TRANSPORT_SHIFT 0
#define CM_REQ_EXTENDED_TRANSPORT_BITS  3
#define CM_REQ_ACK_TIMEOUT_SHIFT        3
#define CM_REQ_ACK_TIMEOUT_BITS         5

#define CM_TRANSPORT_RC   0
#define CM_LID_PERMISSIVE 0xffffu /* what RoCE has instead of LIDs */

/* --- MRA (12.6.6) -------------------------------------------------------------------------- */

struct cm_mra {
    struct be32 local_comm_id;
    struct be32 remote_comm_id;
    uint8_t message; /* CM_MESSAGE: which one is acknowledged */
    uint8_t service; /* CM_MRA_SERVICE: the time that the sender wants */
    uint8_t private_data[222];
};
ASSERT_SIZE(struct cm_mra, 232);
ASSERT_OFFSET(struct cm_mra, private_data, 10);

#define CM_MESSAGE_SHIFT     6
#define CM_MESSAGE_BITS      2
#define CM_MRA_SERVICE_SHIFT 3
#define CM_MRA_SERVICE_BITS  5

#define CM_MESSAGE_REQ   0
#define CM_MESSAGE_REP   1
#define CM_MESSAGE_OTHER 2 /* MRA: LAP; REJ: none in particular */

/* --- REJ (12.6.7) -------------------------------------------------------------------------- */

#define CM_REJ_INFO_BYTES    72
#define CM_REJ_PRIVATE_BYTES 148

struct cm_rej {
    struct be32 local_comm_id;
    struct be32 remote_comm_id;
    uint8_t message;  /* CM_MESSAGE: which one is rejected */
    uint8_t info_len; /* CM_REJ_INFO_LEN */
    struct be16 reason;
    uint8_t info[CM_REJ_INFO_BYTES];
    uint8_t private_data[CM_REJ_PRIVATE_BYTES];
};
ASSERT_SIZE(struct cm_rej, 232);
ASSERT_OFFSET(struct cm_rej, reason, 10);
ASSERT_OFFSET(struct cm_rej, info, 12);
ASSERT_OFFSET(struct cm_rej, private_data, 84);

#define CM_REJ_INFO_LEN_SHIFT 1
#define CM_REJ_INFO_LEN_BITS  7

/* --- REP (12.6.8) -------------------------------------------------------------------------- */

#define CM_REP_PRIVATE_BYTES 196

struct cm_rep {
    struct be32 local_comm_id;
    struct be32 remote_comm_id;
    struct be32 local_qkey;
    struct be24 local_qpn;
    uint8_t reserved;
    struct be24 local_eecn;
    uint8_t reserved2;
    struct be24 starting_psn;
    uint8_t reserved3;
    uint8_t responder_resources;
    uint8_t initiator_depth;
    uint8_t ack_delay; /* CM_REP_ACK_DELAY, _FAILOVER; bit 0: flow control */
    uint8_t rnr_retry; /* CM_REP_RNR_RETRY, _SRQ */
    struct be64 local_ca_guid;
    uint8_t private_data[CM_REP_PRIVATE_BYTES];
};
ASSERT_SIZE(struct cm_rep, 232);
ASSERT_OFFSET(struct cm_rep, local_qpn, 12);
ASSERT_OFFSET(struct cm_rep, starting_psn, 20);
ASSERT_OFFSET(struct cm_rep, responder_resources, 24);
ASSERT_OFFSET(struct cm_rep, local_ca_guid, 28);
ASSERT_OFFSET(struct cm_rep, private_data, 36);

#define CM_REP_ACK_DELAY_SHIFT 3
#define CM_REP_ACK_DELAY_BITS  5
#define CM_REP_FAILOVER_SHIFT  1 /* 0: the alternate path, if any, is taken; 1: not supported */
#define CM_REP_FAILOVER_BITS   2
#define CM_REP_RNR_RETRY_SHIFT 5
#define CM_REP_RNR_RETRY_BITS  3
#define CM_REP_SRQ_SHIFT       4
#define CM_REP_SRQ_BITS        1

#define CM_FAILOVER_UNSUPPORTED 1

/* --- RTU, DREQ, DREP (12.6.9 - 12.6.11) ---------------------------------------------------- */

struct cm_rtu {
    struct be32 local_comm_id;
    struct be32 remote_comm_id;
    uint8_t private_data[224];
};
ASSERT_SIZE(struct cm_rtu, 232);

struct cm_dreq {
    struct be32 local_comm_id;
    struct be32 remote_comm_id;
    struct be24 remote_qpn;
    uint8_t reserved;
    uint8_t private_data[220];
};
ASSERT_SIZE(struct cm_dreq, 232);
ASSERT_OFFSET(struct cm_dreq, private_data, 12);

struct cm_drep {
    struct be32 local_comm_id;
    struct be32 remote_comm_id;
    uint8_t private_data[224];
};
ASSERT_SIZE(struct cm_drep, 232);

/* --- a MAD of the class -------------------------------------------------------------------- */

struct cm_mad {
    struct mad_header header;
    union {
        struct { /* what all but REQ begin with; a REQ's second word is zero */
            struct be32 local_comm_id;
            struct be32 remote_comm_id;
        } ids;
        struct cm_req req;
        struct cm_mra mra;
        struct cm_rej rej;
        struct cm_rep rep;
        struct cm_rtu rtu;
        struct cm_dreq dreq;
        struct cm_drep drep;
    };
};
ASSERT_SIZE(struct cm_mad, MAD_BYTES);
ASSERT_OFFSET(struct cm_mad, req, 24);

/* --- RDMA IP CM service (annex A11) -------------------------------------------------------- */

/* Service IDs (A11.2): this prefix, the IP protocol's number, the port. */
#define CM_IP_SERVICE_ID(port) (UINT64_C(0x0000000001060000) | (uint16_t)(port))
#define CM_IP_SERVICE_MASK     (~UINT64_C(0xffff))

/* In front of the private data of a REQ (A11.3). */
struct cm_ip_header {
    uint8_t version;    /* major and minor: 0 */
    uint8_t ip_version; /* CM_IP_VERSION */
    struct be16 src_port;
    uint8_t src_addr[16]; /* IPv4: 12 zero bytes and the address */
    uint8_t dst_addr[16];
};
ASSERT_SIZE(struct cm_ip_header, 36);
ASSERT_OFFSET(struct cm_ip_header, src_addr, 4);
ASSERT_OFFSET(struct cm_ip_header, dst_addr, 20);

#define CM_IP_VERSION_SHIFT 4 /* 4 or 6 */
#define CM_IP_VERSION_BITS  4
#define CM_IP_IPV4_OFFSET   12 /* in src_addr and dst_addr */

#define CM_IP_PRIVATE_BYTES (CM_REQ_PRIVATE_BYTES - 36)

#endif
