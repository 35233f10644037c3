/*
 * RoCEv2 packets: what stands behind the UDP header. Wire format only.
 *
 * Source: InfiniBand Architecture, volume 1, release 1.4, chapter 9 (transport layer) and annex A17
 * (RoCEv2). Leaves out: atomics, RD, XRC.
 */
#ifndef SPEC_ROCE_H
#define SPEC_ROCE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/compiler.h"
#include "base/endian.h"

#define ROCE_UDP_PORT          4791
#define ROCE_UDP_SRC_PORT_BASE 0xc000 /* source ports lie here and above (A17.3.1, RFC 6335) */
#define ROCE_ICRC_BYTES        4
#define ROCE_PKEY_DEFAULT      0xffff
#define ROCE_PKEY_MASK         0x7fff /* the upper bit: full member (10.9.3) */

/* --- base transport header (9.2) -------------------------------------------------------------- */

struct roce_bth {
    uint8_t opcode;
    uint8_t flags; /* solicited event, migration, pad count, version */
    struct be16 pkey;
    uint8_t congestion; /* FECN, BECN (A17.9.2); not covered by the ICRC */
    struct be24 dest_qpn;
    uint8_t ack_req;
    struct be24 psn;
};
ASSERT_SIZE(struct roce_bth, 12);
ASSERT_OFFSET(struct roce_bth, dest_qpn, 5);
ASSERT_OFFSET(struct roce_bth, psn, 9);

#define ROCE_BTH_SOLICITED 0x80u
#define ROCE_BTH_MIGRATED  0x40u
#define ROCE_BTH_PAD_SHIFT 4
#define ROCE_BTH_PAD_BITS  2
#define ROCE_BTH_VERSION   0x0fu
#define ROCE_BTH_BECN      0x40u
#define ROCE_BTH_ACK_REQ   0x80u

/* --- extended headers (9.3) ------------------------------------------------------------------- */

struct roce_reth {
    struct be64 va;
    struct be32 rkey;
    struct be32 len_bytes;
};
ASSERT_SIZE(struct roce_reth, 16);

struct roce_aeth {
    uint8_t syndrome;
    struct be24 msn;
};
ASSERT_SIZE(struct roce_aeth, 4);

struct roce_deth {
    struct be32 qkey;
    uint8_t reserved;
    struct be24 src_qpn;
};
ASSERT_SIZE(struct roce_deth, 8);

/* Immediate data, and the key of an invalidation. */
struct roce_imm {
    struct be32 value;
};
ASSERT_SIZE(struct roce_imm, 4);

/* Reserved bytes of a congestion notification packet (A17.9.3). */
#define ROCE_CNP_BYTES 16

/* AETH syndrome (table 43): two bits tell what it is, five say more. */
#define ROCE_AETH_KIND(syndrome)  ((syndrome) >> 5 & 3u)
#define ROCE_AETH_VALUE(syndrome) ((syndrome)&0x1fu)
#define ROCE_AETH_KIND_ACK        0u
#define ROCE_AETH_KIND_RNR        1u
#define ROCE_AETH_KIND_NAK        3u
#define ROCE_AETH_ACK             0x1fu /* no credit count */
#define ROCE_AETH_RNR             0x20u /* | timer */
#define ROCE_AETH_NAK             0x60u /* | code */

/* NAK codes (table 46). */
#define ROCE_NAK_PSN_SEQUENCE 0u
#define ROCE_NAK_INVALID      1u
#define ROCE_NAK_ACCESS       2u
#define ROCE_NAK_OPERATION    3u

/* --- opcodes (table 38) ----------------------------------------------------------------------- */

#define ROCE_RC_SEND_FIRST       0x00
#define ROCE_RC_SEND_MIDDLE      0x01
#define ROCE_RC_SEND_LAST        0x02
#define ROCE_RC_SEND_LAST_IMM    0x03
#define ROCE_RC_SEND_ONLY        0x04
#define ROCE_RC_SEND_ONLY_IMM    0x05
#define ROCE_RC_WRITE_FIRST      0x06
#define ROCE_RC_WRITE_MIDDLE     0x07
#define ROCE_RC_WRITE_LAST       0x08
#define ROCE_RC_WRITE_LAST_IMM   0x09
#define ROCE_RC_WRITE_ONLY       0x0a
#define ROCE_RC_WRITE_ONLY_IMM   0x0b
#define ROCE_RC_READ_REQUEST     0x0c
#define ROCE_RC_READ_RESP_FIRST  0x0d
#define ROCE_RC_READ_RESP_MIDDLE 0x0e
#define ROCE_RC_READ_RESP_LAST   0x0f
#define ROCE_RC_READ_RESP_ONLY   0x10
#define ROCE_RC_ACK              0x11
#define ROCE_RC_SEND_LAST_INV    0x16
#define ROCE_RC_SEND_ONLY_INV    0x17
#define ROCE_RC_COMPARE_SWAP     0x13
#define ROCE_RC_FETCH_ADD        0x14
#define ROCE_UD_SEND_ONLY        0x64
#define ROCE_UD_SEND_ONLY_IMM    0x65
#define ROCE_CNP                 0x81

/* What an opcode means: not 0 for those above. */
#define ROCE_OP_REQUEST (1u << 1) /* to a responder; else to a requester */
#define ROCE_OP_SEND    (1u << 2)
#define ROCE_OP_WRITE   (1u << 3)
#define ROCE_OP_READ    (1u << 4)
#define ROCE_OP_FIRST   (1u << 5) /* begins a message: First and Only */
#define ROCE_OP_LAST    (1u << 6) /* ends one: Last and Only */
#define ROCE_OP_RETH    (1u << 7)
#define ROCE_OP_AETH    (1u << 8)
#define ROCE_OP_IMM     (1u << 9)
#define ROCE_OP_INV     (1u << 10)
#define ROCE_OP_DETH    (1u << 11)
#define ROCE_OP_ACK     (1u << 12)
#define ROCE_OP_CNP     (1u << 13)
#define ROCE_OP_REFUSED (1u << 15) /* a request that is known and not served */
#define ROCE_OP_PAYLOAD (1u << 14) /* carries data */

/* Bytes of BTH and extended headers. */
ALWAYS_INLINE uint32_t roce_op_header_bytes(uint32_t flags)
{
    return (uint32_t)sizeof(struct roce_bth) +
           ((flags & ROCE_OP_RETH) != 0 ? (uint32_t)sizeof(struct roce_reth) : 0) +
           ((flags & ROCE_OP_DETH) != 0 ? (uint32_t)sizeof(struct roce_deth) : 0) +
           ((flags & ROCE_OP_AETH) != 0 ? (uint32_t)sizeof(struct roce_aeth) : 0) +
           ((flags & (ROCE_OP_IMM | ROCE_OP_INV)) != 0 ? (uint32_t)sizeof(struct roce_imm) : 0);
}

/* --- packet sequence numbers: 24 bits, compared around half of the circle (9.7.1) ------------- */

#define ROCE_PSN_MASK 0xffffffu

ALWAYS_INLINE uint32_t roce_psn_add(uint32_t psn, uint32_t count)
{
    return (psn + count) & ROCE_PSN_MASK;
}

/* a - b: negative when a comes before b. */
ALWAYS_INLINE int32_t roce_psn_diff(uint32_t a, uint32_t b)
{
    return (int32_t)((a - b) << 8) >> 8;
}

#endif
