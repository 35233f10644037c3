/*
 * A RoCEv2 peer that is written in the test: it makes each byte of its packets itself and reads
 * each byte of ours. It shares no code with the firmware: neither the layout of headers nor the
 * checksum. Sources: IBA volume 1, chapter 9 and annex A17; RFC 768, 791, 826, 4861, 8200.
 */
#ifndef TESTS_UNIT_RDMA_PEER_H
#define TESTS_UNIT_RDMA_PEER_H

#include <stdbool.h>
#include <stdint.h>

/* Opcodes (table 38), in numbers of our own reading. */
enum op {
    SEND_FIRST = 0x00,
    SEND_MIDDLE = 0x01,
    SEND_LAST = 0x02,
    SEND_LAST_IMM = 0x03,
    SEND_ONLY = 0x04,
    SEND_ONLY_IMM = 0x05,
    WRITE_FIRST = 0x06,
    WRITE_MIDDLE = 0x07,
    WRITE_LAST = 0x08,
    WRITE_LAST_IMM = 0x09,
    WRITE_ONLY = 0x0a,
    WRITE_ONLY_IMM = 0x0b,
    READ_REQUEST = 0x0c,
    READ_FIRST = 0x0d,
    READ_MIDDLE = 0x0e,
    READ_LAST = 0x0f,
    READ_ONLY = 0x10,
    ACKNOWLEDGE = 0x11,
    SEND_LAST_INV = 0x16,
    SEND_ONLY_INV = 0x17,
    UD_SEND_ONLY = 0x64,
    UD_SEND_ONLY_IMM = 0x65,
    CNP = 0x81,
};

/* AETH syndromes (tables 43 to 46). */
#define ACK_SYNDROME     0x1fu
#define RNR_SYNDROME     0x20u /* | timer */
#define NAK_SEQUENCE     0x60u
#define NAK_INVALID      0x61u
#define NAK_ACCESS       0x62u
#define NAK_OPERATION    0x63u
#define PKT_PAYLOAD_MAX  4200u
#define PKT_FRAME_MAX    (14u + 40 + 8 + 12 + 16 + 4 + PKT_PAYLOAD_MAX + 3 + 4)
#define PKT_PAD_RIGHT    0xff
#define PKT_PSN(psn)     ((psn)&0xffffffu)
#define PKT_QPN_OF_NOONE 0xfffff0u

/* A packet in words. Only what its opcode has is written or read. */
struct pkt {
    struct pkt *next;
    bool is_ipv6;
    uint8_t src_host; /* last byte of the source address */
    uint8_t tos;      /* DSCP and ECN */
    uint8_t ttl;
    uint16_t src_port;

    uint8_t opcode;
    bool solicited;
    bool migrated;
    uint8_t pad; /* PKT_PAD_RIGHT: what the length needs */
    uint8_t version;
    uint16_t pkey;
    uint8_t congestion;
    uint32_t qpn;
    bool ack_req;
    uint32_t psn;

    uint64_t va; /* RETH */
    uint32_t rkey;
    uint32_t dma_len;
    uint8_t syndrome; /* AETH */
    uint32_t msn;
    uint32_t qkey; /* DETH */
    uint32_t src_qpn;
    uint32_t imm; /* ImmDt or IETH */

    bool is_icrc_wrong; /* write: spoil it; read: it was */
    uint32_t len;       /* of the payload */
    uint8_t payload[PKT_PAYLOAD_MAX];
};

bool op_has_reth(uint8_t opcode);
bool op_has_aeth(uint8_t opcode);
bool op_has_imm(uint8_t opcode); /* IETH too */
bool op_has_deth(uint8_t opcode);

/* CRC-32 of Ethernet, bit by bit, over `len` bytes more; starts at ffffffffh, ends inverted. */
uint32_t peer_crc(uint32_t crc, const uint8_t *bytes, uint32_t len);
/* The ICRC of the frame, whose last four bytes are its place. */
uint32_t peer_icrc(const uint8_t *frame, uint32_t len);

/* From the peer's MAC and address to the rig's; returns the length of the frame. */
uint32_t pkt_build(const struct pkt *pkt, uint8_t frame[PKT_FRAME_MAX]);
/* Puts the right checksums into a frame that was changed. */
void pkt_seal(uint8_t *frame, uint32_t len);
/* False: it is no RoCEv2 packet. What cannot be in it ends the test. */
bool pkt_parse(const uint8_t *frame, uint32_t len, struct pkt *pkt);

/* The answer to an ARP request or neighbour solicitation for the peer; 0: it is none. */
uint32_t peer_answer(const uint8_t *frame, uint32_t len, uint8_t answer[128]);

#endif
