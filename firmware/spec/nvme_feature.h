/*
 * NVM Express: features and their fields. Nothing else.
 *
 * Source: NVM Express Base Specification, revision 1.4, sections 5.13 and 5.21.
 */
#ifndef SPEC_NVME_FEATURE_H
#define SPEC_NVME_FEATURE_H

#include <stdint.h>
#include "base/bits.h"
#include "base/compiler.h"

/* Feature identifiers, figure 275 */
enum nvme_feature {
    NVME_FEATURE_ARBITRATION = 0x01,
    NVME_FEATURE_POWER_MANAGEMENT = 0x02,
    NVME_FEATURE_TEMPERATURE_THRESHOLD = 0x04,
    NVME_FEATURE_ERROR_RECOVERY = 0x05,
    NVME_FEATURE_VOLATILE_WRITE_CACHE = 0x06,
    NVME_FEATURE_QUEUES = 0x07,
    NVME_FEATURE_INTERRUPT_COALESCING = 0x08,
    NVME_FEATURE_INTERRUPT_VECTOR = 0x09,
    NVME_FEATURE_WRITE_ATOMICITY = 0x0a,
    NVME_FEATURE_ASYNC_EVENT = 0x0b,
    NVME_FEATURE_HOST_MEMORY = 0x0d,
    NVME_FEATURE_TIMESTAMP = 0x0e,
    NVME_FEATURE_KEEP_ALIVE = 0x0f,
    NVME_FEATURE_HOST_BEHAVIOR = 0x16,
    NVME_FEATURE_HOST_ID = 0x81,
};

/* Set Features cdw10 (figure 273), Get Features cdw10 (figure 183) */
#define NVME_FEATURE_ID_SHIFT  0
#define NVME_FEATURE_ID_BITS   8
#define NVME_FEATURE_SEL_SHIFT 8
#define NVME_FEATURE_SEL_BITS  3
#define NVME_FEATURE_SAVE      BIT32(31)

enum nvme_feature_select {
    NVME_SELECT_CURRENT = 0,
    NVME_SELECT_DEFAULT = 1,
    NVME_SELECT_SAVED = 2,
    NVME_SELECT_CAPABILITIES = 3,
};

/* dw0 of Get Features with select 011b (figure 185) */
#define NVME_FEATURE_CAP_SAVEABLE    BIT32(0)
#define NVME_FEATURE_CAP_NS_SPECIFIC BIT32(1)
#define NVME_FEATURE_CAP_CHANGEABLE  BIT32(2)

/* 5.21.1.1 Arbitration */
#define NVME_ARBITRATION_BURST_SHIFT  0 /* 2^n commands; 7: no limit */
#define NVME_ARBITRATION_BURST_BITS   3
#define NVME_ARBITRATION_LOW_SHIFT    8 /* weights are zeroes based */
#define NVME_ARBITRATION_LOW_BITS     8
#define NVME_ARBITRATION_MEDIUM_SHIFT 16
#define NVME_ARBITRATION_MEDIUM_BITS  8
#define NVME_ARBITRATION_HIGH_SHIFT   24
#define NVME_ARBITRATION_HIGH_BITS    8

/* 5.21.1.2 Power Management */
#define NVME_POWER_STATE_SHIFT 0
#define NVME_POWER_STATE_BITS  5

/* 5.21.1.4 Temperature Threshold */
#define NVME_TEMPERATURE_THRESHOLD_SHIFT  0
#define NVME_TEMPERATURE_THRESHOLD_BITS   16
#define NVME_TEMPERATURE_SENSOR_SHIFT     16
#define NVME_TEMPERATURE_SENSOR_BITS      4
#define NVME_TEMPERATURE_TYPE_SHIFT       20
#define NVME_TEMPERATURE_TYPE_BITS        2
#define NVME_TEMPERATURE_SENSOR_COMPOSITE 0
#define NVME_TEMPERATURE_SENSOR_ALL       15
#define NVME_TEMPERATURE_TYPE_OVER        0
#define NVME_TEMPERATURE_TYPE_UNDER       1

/* 5.21.1.5 Error Recovery */
#define NVME_ERROR_RECOVERY_TLER_BITS  16 /* unit 100 ms */
#define NVME_ERROR_RECOVERY_TLER_SHIFT 0
#define NVME_ERROR_RECOVERY_DULBE      BIT32(16)

/* 5.21.1.6 Volatile Write Cache */
#define NVME_WRITE_CACHE_ENABLE BIT32(0)

/* 5.21.1.7 Number of Queues, zeroes based */
#define NVME_QUEUES_SQ_SHIFT 0
#define NVME_QUEUES_SQ_BITS  16
#define NVME_QUEUES_CQ_SHIFT 16
#define NVME_QUEUES_CQ_BITS  16

/* 5.21.1.8 Interrupt Coalescing */
#define NVME_COALESCING_THRESHOLD_SHIFT 0 /* zeroes based */
#define NVME_COALESCING_THRESHOLD_BITS  8
#define NVME_COALESCING_TIME_SHIFT      8 /* unit 100 us; 0: no delay */
#define NVME_COALESCING_TIME_BITS       8

/* 5.21.1.9 Interrupt Vector Configuration */
#define NVME_VECTOR_INDEX_SHIFT        0
#define NVME_VECTOR_INDEX_BITS         16
#define NVME_VECTOR_COALESCING_DISABLE BIT32(16)

/* 5.21.1.11 Asynchronous Event Configuration */
#define NVME_AEC_SMART_SHIFT  0
#define NVME_AEC_SMART_BITS   8
#define NVME_AEC_NS_ATTRIBUTE BIT32(8)
#define NVME_AEC_FIRMWARE     BIT32(9)

/* 5.21.1.13 Host Memory Buffer: cdw11; cdw12 is HSIZE in memory pages, cdw13 and cdw14 the address
 * of the descriptor list, cdw15 its count of entries. */
#define NVME_HOST_MEMORY_ENABLE BIT32(0)
#define NVME_HOST_MEMORY_RETURN BIT32(1)

/* An entry of the list, figure 298; 16-byte aligned */
struct nvme_host_memory_desc {
    uint64_t addr;       /* a multiple of the memory page size */
    uint32_t page_count; /* memory pages */
    uint32_t reserved;
};
ASSERT_SIZE(struct nvme_host_memory_desc, 16);
ASSERT_OFFSET(struct nvme_host_memory_desc, page_count, 8);

/* What Get Features returns, figure 299 */
struct nvme_host_memory_attributes {
    uint32_t page_count;
    uint32_t list_addr_low;
    uint32_t list_addr_high;
    uint32_t list_count;
    uint8_t reserved[4080];
};
ASSERT_SIZE(struct nvme_host_memory_attributes, 4096);

/* 5.21.1.14 Timestamp, figure 302 */
struct nvme_timestamp {
    uint8_t milliseconds[6];
    uint8_t attributes; /* SYNCH bit 0, origin 3:1 */
    uint8_t reserved;
};
ASSERT_SIZE(struct nvme_timestamp, 8);
#define NVME_TIMESTAMP_ORIGIN_SHIFT 1
#define NVME_TIMESTAMP_ORIGIN_BITS  3
#define NVME_TIMESTAMP_ORIGIN_RESET 0
#define NVME_TIMESTAMP_ORIGIN_SET   1

/* 5.21.1.26 Host Identifier: cdw11 */
#define NVME_HOST_ID_EXTENDED BIT32(0) /* EXHID: 128 bits, not 64 */
#define NVME_HOST_ID_BYTES    16

/* 5.21.1.22 Host Behavior Support, figure 311 */
struct nvme_host_behavior {
    uint8_t acre; /* Advanced Command Retry Enable */
    uint8_t reserved[511];
};
ASSERT_SIZE(struct nvme_host_behavior, 512);

#endif
