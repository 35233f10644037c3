/*
 * Management datagrams: the header that all of them begin with, and the well-known numbers of the
 * general services' queue pair. Nothing else.
 *
 * Source: InfiniBand Architecture Specification, volume 1, release 1.4, sections 13.4.2 and 13.4.3
 * (format and fields of a MAD), 10.9.1 (default P_Key); annex A17 (RoCEv2).
 */
#ifndef SPEC_MAD_H
#define SPEC_MAD_H

#include <stdint.h>
#include "base/compiler.h"
#include "base/endian.h"

/* Every MAD has this length. */
#define MAD_BYTES 256

/* Queue pair 1 takes the general services; all of them use one Q_Key. */
#define MAD_GSI_QPN  1u
#define MAD_GSI_QKEY 0x80010000u

/* The default partition: full member, and what both kinds of members share. */
#define MAD_PKEY_DEFAULT 0xffffu
#define MAD_PKEY_BASE    0x7fffu

#define MAD_BASE_VERSION 1
#define MAD_METHOD_SEND  0x03

#define MAD_CLASS_CM         0x07
#define MAD_CLASS_CM_VERSION 2

struct mad_header {
    uint8_t base_version;
    uint8_t mgmt_class;
    uint8_t class_version;
    uint8_t method; /* R bit and method */
    struct be16 status;
    struct be16 class_specific;
    struct be64 tid;
    struct be16 attribute_id;
    struct be16 reserved;
    struct be32 attribute_modifier;
};
ASSERT_SIZE(struct mad_header, 24);
ASSERT_OFFSET(struct mad_header, tid, 8);
ASSERT_OFFSET(struct mad_header, attribute_id, 16);
ASSERT_OFFSET(struct mad_header, attribute_modifier, 20);

/* In front of a received datagram: room for an IPv6 header (or GRH); an IPv4 header stands in its
 * last 20 bytes (annex A17). */
#define MAD_GRH_BYTES       40
#define MAD_GRH_IPV4_OFFSET 20

#endif
