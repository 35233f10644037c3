#include "rdma/peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static const uint8_t OUR_MAC[6] = {2, 0, 0, 0, 0, 1};
static const uint8_t PEER_MAC[6] = {2, 0, 0, 0, 0, 2};
static const uint8_t NET4[4] = {192, 0, 2, 0};
static const uint8_t NET6[16] = {0x20, 0x01, 0x0d, 0xb8};

/* --- opcodes ---------------------------------------------------------------------------------- */

bool op_has_reth(uint8_t opcode)
{
    return opcode == WRITE_FIRST || opcode == WRITE_ONLY || opcode == WRITE_ONLY_IMM ||
           opcode == READ_REQUEST;
}

bool op_has_aeth(uint8_t opcode)
{
    return opcode == READ_FIRST || opcode == READ_LAST || opcode == READ_ONLY ||
           opcode == ACKNOWLEDGE;
}

bool op_has_imm(uint8_t opcode)
{
    return opcode == SEND_LAST_IMM || opcode == SEND_ONLY_IMM || opcode == WRITE_LAST_IMM ||
           opcode == WRITE_ONLY_IMM || opcode == SEND_LAST_INV || opcode == SEND_ONLY_INV ||
           opcode == UD_SEND_ONLY_IMM;
}

bool op_has_deth(uint8_t opcode)
{
    return opcode == UD_SEND_ONLY || opcode == UD_SEND_ONLY_IMM;
}

/* --- bytes ------------------------------------------------------------------------------------ */

static void put(uint8_t *at, uint64_t value, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(value >> 8 * (bytes - 1 - i));
    }
}

static uint64_t get(const uint8_t *at, uint32_t bytes)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < bytes; i++) {
        value = value << 8 | at[i];
    }
    return value;
}

static uint32_t add_up(const uint8_t *bytes, uint32_t len)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < len; i++) {
        sum += i % 2 == 0 ? (uint32_t)bytes[i] << 8 : bytes[i];
    }
    return sum;
}

static uint16_t fold(uint32_t sum)
{
    while (sum > 0xffff) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)sum;
}

/* --- ICRC (IBA 9.8.1, A17.3.3) ---------------------------------------------------------------- */

uint32_t peer_crc(uint32_t crc, const uint8_t *bytes, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        for (uint32_t bit = 0; bit < 8; bit++) {
            uint32_t out = (crc ^ (uint32_t)bytes[i] >> bit) & 1;
            crc >>= 1;
            if (out != 0) {
                crc ^= 0xedb88320u;
            }
        }
    }
    return crc;
}

uint32_t peer_icrc(const uint8_t *frame, uint32_t len)
{
    static const uint8_t ones[8] = {255, 255, 255, 255, 255, 255, 255, 255};
    uint8_t copy[PKT_FRAME_MAX];
    uint32_t ip = 14;
    bool is_ipv6 = frame[ip] >> 4 == 6;
    uint32_t udp = ip + (is_ipv6 ? 40 : 20);

    memcpy(copy, frame, len);
    if (is_ipv6) {
        copy[ip] |= 0x0f;
        copy[ip + 1] = copy[ip + 2] = copy[ip + 3] = 0xff;
        copy[ip + 7] = 0xff;
    } else {
        copy[ip + 1] = 0xff;
        copy[ip + 8] = 0xff;
        copy[ip + 10] = copy[ip + 11] = 0xff;
    }
    copy[udp + 6] = copy[udp + 7] = 0xff;
    copy[udp + 8 + 4] = 0xff;
    return ~peer_crc(peer_crc(0xffffffff, ones, 8), copy + ip, len - ip - 4);
}

/* The ICRC goes out with its lowest byte first. */
static void icrc_put(uint8_t *frame, uint32_t len, uint32_t icrc)
{
    for (uint32_t i = 0; i < 4; i++) {
        frame[len - 4 + i] = (uint8_t)(icrc >> 8 * i);
    }
}

void pkt_seal(uint8_t *frame, uint32_t len)
{
    if (frame[14] >> 4 == 4) {
        put(frame + 24, 0, 2);
        put(frame + 24, (uint16_t)~fold(add_up(frame + 14, 20)), 2);
    }
    icrc_put(frame, len, peer_icrc(frame, len));
}

/* --- packets ---------------------------------------------------------------------------------- */

static uint32_t build_ip(const struct pkt *pkt, uint8_t *frame)
{
    memcpy(frame, OUR_MAC, 6);
    memcpy(frame + 6, PEER_MAC, 6);
    put(frame + 12, pkt->is_ipv6 ? 0x86dd : 0x0800, 2);
    uint8_t *ip = frame + 14;
    if (pkt->is_ipv6) {
        put(ip, UINT64_C(6) << 28 | (uint64_t)pkt->tos << 20, 4);
        ip[6] = 17;
        ip[7] = pkt->ttl;
        memcpy(ip + 8, NET6, 16);
        ip[23] = pkt->src_host;
        memcpy(ip + 24, NET6, 16);
        ip[39] = 1;
        return 14 + 40;
    }
    ip[0] = 0x45;
    ip[1] = pkt->tos;
    put(ip + 6, 0x4000, 2);
    ip[8] = pkt->ttl;
    ip[9] = 17;
    memcpy(ip + 12, NET4, 4);
    ip[15] = pkt->src_host;
    memcpy(ip + 16, NET4, 4);
    ip[19] = 1;
    return 14 + 20;
}

static uint32_t build_headers(const struct pkt *pkt, uint8_t *at)
{
    uint8_t *start = at;
    uint32_t pad = pkt->pad == PKT_PAD_RIGHT ? -pkt->len & 3 : pkt->pad;

    at[0] = pkt->opcode;
    at[1] = (uint8_t)((pkt->solicited ? 0x80 : 0) | (pkt->migrated ? 0x40 : 0) | (pad & 3) << 4 |
                      pkt->version);
    put(at + 2, pkt->pkey, 2);
    at[4] = pkt->congestion;
    put(at + 5, pkt->qpn, 3);
    at[8] = pkt->ack_req ? 0x80 : 0;
    put(at + 9, pkt->psn, 3);
    at += 12;
    if (op_has_deth(pkt->opcode)) {
        put(at, pkt->qkey, 4);
        put(at + 4, pkt->src_qpn, 4);
        at += 8;
    }
    if (op_has_reth(pkt->opcode)) {
        put(at, pkt->va, 8);
        put(at + 8, pkt->rkey, 4);
        put(at + 12, pkt->dma_len, 4);
        at += 16;
    }
    if (op_has_aeth(pkt->opcode)) {
        put(at, (uint32_t)pkt->syndrome << 24 | pkt->msn, 4);
        at += 4;
    }
    if (op_has_imm(pkt->opcode)) {
        put(at, pkt->imm, 4);
        at += 4;
    }
    return (uint32_t)(at - start);
}

uint32_t pkt_build(const struct pkt *pkt, uint8_t frame[PKT_FRAME_MAX])
{
    memset(frame, 0, 14 + 40 + 8);
    uint32_t udp = build_ip(pkt, frame);
    uint32_t at = udp + 8 + build_headers(pkt, frame + udp + 8);
    uint32_t pad = pkt->pad == PKT_PAD_RIGHT ? -pkt->len & 3 : pkt->pad;

    memcpy(frame + at, pkt->payload, pkt->len);
    memset(frame + at + pkt->len, 0, pad);
    uint32_t len = at + pkt->len + pad + 4;
    put(frame + udp, pkt->src_port, 2);
    put(frame + udp + 2, 4791, 2);
    put(frame + udp + 4, len - udp, 2);
    if (pkt->is_ipv6) {
        put(frame + 14 + 4, len - udp, 2);
    } else {
        put(frame + 14 + 2, len - 14, 2);
    }
    pkt_seal(frame, len);
    if (pkt->is_icrc_wrong) {
        frame[len - 1] ^= 0x10;
    }
    return len;
}

static uint32_t parse_ip(const uint8_t *frame, uint32_t len, struct pkt *pkt)
{
    const uint8_t *ip = frame + 14;

    pkt->is_ipv6 = get(frame + 12, 2) == 0x86dd;
    assert_memory_equal(frame, PEER_MAC, 6);
    assert_memory_equal(frame + 6, OUR_MAC, 6);
    if (pkt->is_ipv6) {
        assert_int_equal(ip[0] >> 4, 6);
        assert_int_equal(get(ip + 4, 2), len - 14 - 40);
        pkt->tos = (uint8_t)(get(ip, 4) >> 20);
        pkt->ttl = ip[7];
        pkt->src_host = ip[23];
        return 14 + 40;
    }
    assert_int_equal(ip[0], 0x45);
    assert_int_equal(get(ip + 2, 2), len - 14);
    assert_int_equal(get(ip + 6, 2), 0x4000);
    assert_int_equal(fold(add_up(ip, 20)), 0xffff);
    pkt->tos = ip[1];
    pkt->ttl = ip[8];
    pkt->src_host = ip[15];
    return 14 + 20;
}

static const uint8_t *parse_bth(const uint8_t *at, struct pkt *pkt)
{
    pkt->opcode = at[0];
    pkt->solicited = (at[1] & 0x80) != 0;
    pkt->migrated = (at[1] & 0x40) != 0;
    pkt->pad = at[1] >> 4 & 3;
    pkt->version = at[1] & 15;
    pkt->pkey = (uint16_t)get(at + 2, 2);
    pkt->congestion = at[4];
    pkt->qpn = (uint32_t)get(at + 5, 3);
    assert_int_equal(at[8] & 0x7f, 0);
    pkt->ack_req = at[8] != 0;
    pkt->psn = (uint32_t)get(at + 9, 3);
    return at + 12;
}

static const uint8_t *parse_headers(const uint8_t *at, struct pkt *pkt)
{
    if (op_has_deth(pkt->opcode)) {
        pkt->qkey = (uint32_t)get(at, 4);
        pkt->src_qpn = (uint32_t)get(at + 4, 4);
        at += 8;
    }
    if (op_has_reth(pkt->opcode)) {
        pkt->va = get(at, 8);
        pkt->rkey = (uint32_t)get(at + 8, 4);
        pkt->dma_len = (uint32_t)get(at + 12, 4);
        at += 16;
    }
    if (op_has_aeth(pkt->opcode)) {
        pkt->syndrome = at[0];
        pkt->msn = (uint32_t)get(at + 1, 3);
        at += 4;
    }
    if (op_has_imm(pkt->opcode)) {
        pkt->imm = (uint32_t)get(at, 4);
        at += 4;
    }
    return at;
}

bool pkt_parse(const uint8_t *frame, uint32_t len, struct pkt *pkt)
{
    uint64_t type = len < 14 ? 0 : get(frame + 12, 2);
    uint32_t udp = type == 0x0800 ? 34 : 54;

    if ((type != 0x0800 && type != 0x86dd) || len < udp + 8 ||
        frame[type == 0x0800 ? 23 : 20] != 17 || get(frame + udp + 2, 2) != 4791) {
        return false;
    }
    memset(pkt, 0, offsetof(struct pkt, payload));
    assert_int_equal(parse_ip(frame, len, pkt), udp);
    assert_true(len >= udp + 8 + 12 + 4);
    pkt->src_port = (uint16_t)get(frame + udp, 2);
    assert_int_equal(get(frame + udp + 4, 2), len - udp);
    assert_int_equal(get(frame + udp + 6, 2), 0);
    const uint8_t *at = parse_headers(parse_bth(frame + udp + 8, pkt), pkt);
    const uint8_t *end = frame + len - 4 - pkt->pad;
    assert_true(end >= at && (end - at) <= PKT_PAYLOAD_MAX);
    pkt->len = (uint32_t)(end - at);
    assert_int_equal((pkt->len + pkt->pad) % 4, 0);
    memcpy(pkt->payload, at, pkt->len);
    for (uint32_t i = 0; i < pkt->pad; i++) {
        assert_int_equal(end[i], 0);
    }
    uint8_t icrc[8] = {0};
    icrc_put(icrc, 8, peer_icrc(frame, len));
    pkt->is_icrc_wrong = memcmp(icrc + 4, frame + len - 4, 4) != 0;
    return true;
}

/* --- neighbours ------------------------------------------------------------------------------- */

static uint32_t answer_arp(const uint8_t *arp, uint8_t *answer)
{
    if (get(arp + 6, 2) != 1 || memcmp(arp + 24, NET4, 3) != 0 || arp[27] == 1) {
        return 0;
    }
    memcpy(answer, OUR_MAC, 6);
    memcpy(answer + 6, PEER_MAC, 6);
    put(answer + 12, 0x0806, 2);
    put(answer + 14, UINT64_C(0x0001080006040002), 8);
    memcpy(answer + 22, PEER_MAC, 6);
    memcpy(answer + 28, arp + 24, 4);
    memcpy(answer + 32, arp + 8, 10);
    return 42;
}

static uint32_t answer_solicitation(const uint8_t *ip, uint8_t *answer)
{
    const uint8_t *icmp = ip + 40;

    if (ip[6] != 58 || icmp[0] != 135 || memcmp(icmp + 8, NET6, 15) != 0 || icmp[23] == 1) {
        return 0;
    }
    memset(answer, 0, 14 + 40 + 32);
    memcpy(answer, OUR_MAC, 6);
    memcpy(answer + 6, PEER_MAC, 6);
    put(answer + 12, 0x86dd, 2);
    uint8_t *to = answer + 14;
    to[0] = 0x60;
    to[5] = 32;
    to[6] = 58;
    to[7] = 255;
    memcpy(to + 8, icmp + 8, 16);
    memcpy(to + 24, ip + 8, 16);
    to[40] = 136;
    to[44] = 0x60; /* solicited, override */
    memcpy(to + 48, icmp + 8, 16);
    to[64] = 2;
    to[65] = 1;
    memcpy(to + 66, PEER_MAC, 6);
    put(to + 42, (uint16_t)~fold(add_up(to + 8, 64) + 32 + 58), 2);
    return 14 + 40 + 32;
}

uint32_t peer_answer(const uint8_t *frame, uint32_t len, uint8_t answer[128])
{
    uint64_t type = len < 14 ? 0 : get(frame + 12, 2);

    if (type == 0x0806 && len >= 42) {
        return answer_arp(frame + 14, answer);
    }
    if (type == 0x86dd && len >= 14 + 40 + 24) {
        return answer_solicitation(frame + 14, answer);
    }
    return 0;
}
