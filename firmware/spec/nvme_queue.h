/*
 * NVM Express: commands that create and delete I/O queues, and the subsystem reset register.
 * Nothing else.
 *
 * Source: NVM Express Base Specification, revision 1.4, sections 3.1.7 and 5.3 - 5.7.
 */
#ifndef SPEC_NVME_QUEUE_H
#define SPEC_NVME_QUEUE_H

#include "base/bits.h"

/* NSSR (3.1.7): "NVMe" starts a subsystem reset. */
#define NVME_NSSR_MAGIC 0x4e564d65u

/* Create I/O CQ and SQ, cdw10 (figures 151 and 155); Delete has the identifier alone. */
#define NVME_QUEUE_ID_SHIFT   0
#define NVME_QUEUE_ID_BITS    16
#define NVME_QUEUE_SIZE_SHIFT 16 /* zeroes based */
#define NVME_QUEUE_SIZE_BITS  16

/* Create I/O CQ, cdw11 (figure 152) */
#define NVME_CREATE_CQ_PC       BIT32(0) /* physically contiguous */
#define NVME_CREATE_CQ_IEN      BIT32(1)
#define NVME_CREATE_CQ_IV_SHIFT 16
#define NVME_CREATE_CQ_IV_BITS  16

/* Create I/O SQ, cdw11 (figure 156) */
#define NVME_CREATE_SQ_PC         BIT32(0)
#define NVME_CREATE_SQ_PRIO_SHIFT 1 /* 0 urgent, 1 high, 2 medium, 3 low */
#define NVME_CREATE_SQ_PRIO_BITS  2
#define NVME_CREATE_SQ_CQID_SHIFT 16
#define NVME_CREATE_SQ_CQID_BITS  16

#endif
