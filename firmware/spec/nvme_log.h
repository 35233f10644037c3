/*
 * NVM Express: log pages and asynchronous events. Nothing else.
 *
 * Source: NVM Express Base Specification, revision 1.4, sections 5.2 and 5.14.
 */
#ifndef SPEC_NVME_LOG_H
#define SPEC_NVME_LOG_H

#include <stdint.h>
#include "base/bits.h"
#include "base/compiler.h"

/* Log page identifiers, figure 191 */
enum nvme_log_page {
    NVME_LOG_ERROR = 0x01,
    NVME_LOG_SMART = 0x02,
    NVME_LOG_FIRMWARE_SLOT = 0x03,
    NVME_LOG_CHANGED_NS = 0x04,
    NVME_LOG_EFFECTS = 0x05,
    NVME_LOG_VENDOR = 0xc0, /* ours: docs/spec/mgmt.md */
};

/* Get Log Page, cdw10 and cdw11 (figures 186 and 187); cdw12, cdw13 are the offset in bytes. */
#define NVME_LOG_LID_SHIFT   0
#define NVME_LOG_LID_BITS    8
#define NVME_LOG_RAE         BIT32(15)
#define NVME_LOG_NUMDL_SHIFT 16
#define NVME_LOG_NUMDL_BITS  16
#define NVME_LOG_NUMDU_SHIFT 0
#define NVME_LOG_NUMDU_BITS  16

/* Error Information entry, figure 193 */
struct nvme_error_entry {
    uint64_t error_count; /* 0: no entry */
    uint16_t sqid;
    uint16_t cid;
    uint16_t status;             /* 15:1 status field, bit 0 phase tag */
    uint16_t parameter_location; /* byte 7:0, bit 10:8; FFFFh: not of one parameter */
    uint64_t lba;
    uint32_t nsid;
    uint8_t vendor_info;
    uint8_t trtype;
    uint8_t reserved30[2];
    uint64_t command_specific;
    uint16_t transport_specific;
    uint8_t reserved42[22];
};
ASSERT_SIZE(struct nvme_error_entry, 64);
ASSERT_OFFSET(struct nvme_error_entry, lba, 16);
ASSERT_OFFSET(struct nvme_error_entry, trtype, 29);
ASSERT_OFFSET(struct nvme_error_entry, command_specific, 32);
ASSERT_OFFSET(struct nvme_error_entry, transport_specific, 40);

#define NVME_ERROR_LOCATION_NONE       0xffff
#define NVME_ERROR_LOCATION(byte, bit) ((uint16_t)((byte) | (bit) << 8))

/* SMART / Health Information, figure 194. 128-bit counters are little endian pairs. */
struct nvme_smart_log {
    uint8_t critical_warning;
    uint8_t composite_temperature_kelvin[2];
    uint8_t available_spare_percent;
    uint8_t available_spare_threshold_percent;
    uint8_t percentage_used;
    uint8_t endurance_group_warning;
    uint8_t reserved7[25];
    uint64_t data_units_read[2]; /* unit: 1,000 times 512 bytes, rounded up */
    uint64_t data_units_written[2];
    uint64_t host_read_commands[2];
    uint64_t host_write_commands[2];
    uint64_t controller_busy_minutes[2];
    uint64_t power_cycles[2];
    uint64_t power_on_hours[2];
    uint64_t unsafe_shutdowns[2];
    uint64_t media_errors[2];
    uint64_t error_entries[2];
    uint32_t warning_temperature_minutes;
    uint32_t critical_temperature_minutes;
    uint16_t temperature_sensor_kelvin[8];
    uint32_t thermal_transitions[2];
    uint32_t thermal_seconds[2];
    uint8_t reserved232[280];
};
ASSERT_SIZE(struct nvme_smart_log, 512);
ASSERT_OFFSET(struct nvme_smart_log, data_units_read, 32);
ASSERT_OFFSET(struct nvme_smart_log, host_read_commands, 64);
ASSERT_OFFSET(struct nvme_smart_log, power_on_hours, 128);
ASSERT_OFFSET(struct nvme_smart_log, error_entries, 176);
ASSERT_OFFSET(struct nvme_smart_log, temperature_sensor_kelvin, 200);
ASSERT_OFFSET(struct nvme_smart_log, thermal_transitions, 216);

/* Firmware Slot Information, figure 195 */
struct nvme_firmware_log {
    uint8_t afi; /* active slot 2:0, slot after the next reset 6:4 */
    uint8_t reserved1[7];
    uint8_t revision[7][8]; /* slots 1 to 7 */
    uint8_t reserved64[448];
};
ASSERT_SIZE(struct nvme_firmware_log, 512);
ASSERT_OFFSET(struct nvme_firmware_log, revision, 8);

/* Changed Namespace List, 5.14.1.4 */
struct nvme_changed_ns_log {
    uint32_t nsid[1024];
};
ASSERT_SIZE(struct nvme_changed_ns_log, 4096);

/* Commands Supported and Effects, figures 198 and 199 */
struct nvme_effects_log {
    uint32_t admin[256];
    uint32_t io[256];
    uint8_t reserved2048[2048];
};
ASSERT_SIZE(struct nvme_effects_log, 4096);
ASSERT_OFFSET(struct nvme_effects_log, io, 1024);

#define NVME_EFFECT_SUPPORTED       BIT32(0)
#define NVME_EFFECT_BLOCK_CONTENT   BIT32(1)
#define NVME_EFFECT_NS_CAPABILITY   BIT32(2)
#define NVME_EFFECT_NS_INVENTORY    BIT32(3)
#define NVME_EFFECT_CTRL_CAPABILITY BIT32(4)

/* Asynchronous events, dw0 of the completion (figures 147 to 151) */
#define NVME_EVENT_TYPE_SHIFT 0
#define NVME_EVENT_TYPE_BITS  3
#define NVME_EVENT_INFO_SHIFT 8
#define NVME_EVENT_INFO_BITS  8
#define NVME_EVENT_LOG_SHIFT  16
#define NVME_EVENT_LOG_BITS   8

enum nvme_event_type {
    NVME_EVENT_ERROR = 0,
    NVME_EVENT_SMART = 1,
    NVME_EVENT_NOTICE = 2,
    NVME_EVENT_IO = 6,
    NVME_EVENT_VENDOR = 7,
};
#define NVME_EVENT_TYPES 8

#define NVME_EVENT_ERROR_INVALID_DOORBELL       0
#define NVME_EVENT_ERROR_INVALID_DOORBELL_VALUE 1
#define NVME_EVENT_SMART_RELIABILITY            0
#define NVME_EVENT_SMART_TEMPERATURE            1
#define NVME_EVENT_SMART_SPARE                  2
#define NVME_EVENT_NOTICE_NS_ATTRIBUTE          0
#define NVME_EVENT_NOTICE_FIRMWARE              1

#endif
