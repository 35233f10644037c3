/*
 * What lies in flash, and at the head of an image: formats shared by bootloader, firmware and host
 * tools (docs/spec/boot.md). Integers are little endian.
 */
#ifndef SPEC_BOOT_H
#define SPEC_BOOT_H

#include <stdint.h>
#include "base/compiler.h"

/* --- flash ----------------------------------------------------------------------------------
 * In erase blocks from the start of the device: two boot records, two configurations, then the
 * slots, which have equal sizes: what is left, at most BOOT_SLOT_MAX_BYTES each. */
#define BOOT_RECORD_COPIES  2u
#define BOOT_CONFIG_COPIES  2u
#define BOOT_SLOT_COUNT     2u
#define BOOT_SLOT_MAX_BYTES (4u << 20)
#define BOOT_SLOT_NONE      0xffu
#define BOOT_TRIAL_ATTEMPTS 3u

/* --- boot record: the copy with the higher sequence of those that are whole counts ------------ */
#define BOOT_RECORD_MAGIC   0x52424e53u /* "SNBR" */
#define BOOT_RECORD_VERSION 1u

struct boot_record_slot {
    uint32_t image_bytes;      /* of the FIT in the slot; 0: nothing that may be started */
    uint32_t security_version; /* as its head says */
    char version[16];          /* as its head says, zero padded */
    uint8_t failed;            /* 1: its trial ended without confirmation */
    uint8_t reserved[7];
};

struct boot_record {
    uint32_t magic;
    uint16_t version;
    uint16_t size_bytes;
    uint32_t sequence;             /* of each write, from 1; compared modulo 2^32 */
    uint32_t min_security_version; /* images below are refused */
    uint8_t active;                /* slot that is confirmed; BOOT_SLOT_NONE: none yet */
    uint8_t trial;                 /* slot to try before it; BOOT_SLOT_NONE: none */
    uint8_t attempts_left;         /* of the trial, counted down before each */
    uint8_t reserved0;
    uint32_t reserved1;
    struct boot_record_slot slots[BOOT_SLOT_COUNT];
    uint32_t reserved2;
    uint32_t crc; /* CRC-32 of all before */
};
ASSERT_SIZE(struct boot_record_slot, 32);
ASSERT_SIZE(struct boot_record, 96);

/* --- configuration in flash: a head, then the device tree (docs/spec/config.md) --------------- */
#define BOOT_CONFIG_MAGIC 0x43464e53u /* "SNFC" */

struct boot_config_head {
    uint32_t magic;
    uint32_t tree_bytes; /* 0: no configuration */
    uint32_t sequence;   /* as in the boot record */
    uint32_t crc;        /* CRC-32 of magic, tree_bytes, sequence and tree */
};
ASSERT_SIZE(struct boot_config_head, 16);

/* --- head of an image: in the signed data, behind the arm64 Image header ---------------------- */
#define BOOT_IMAGE_HEAD_OFFSET  64u
#define BOOT_IMAGE_HEAD_MAGIC   0x48494e53u /* "SNIH" */
#define BOOT_IMAGE_HEAD_VERSION 1u

struct boot_image_head {
    uint32_t magic;
    uint32_t head_version;
    uint64_t load_addr;  /* where the image runs; its entry too */
    uint64_t load_bytes; /* of code and data, which is the length of the signed data */
    uint64_t run_bytes;  /* with .bss, stacks and heap: what the start needs there */
    uint32_t security_version;
    uint32_t reserved;
    char board[24];   /* zero padded: "qemu-virt" */
    char version[16]; /* zero padded: "0.1" */
    uint8_t reserved1[16];
};
ASSERT_SIZE(struct boot_image_head, 96);

/* --- what the bootloader tells the image that it starts: in memory that a reset keeps --------- */
#define BOOT_HANDOFF_MAGIC 0x48424e53u /* "SNBH" */

struct boot_handoff {
    uint32_t magic;
    uint8_t slot;          /* that was started; BOOT_SLOT_NONE: none, by the recovery */
    uint8_t is_trial;      /* 1: confirm, or the other one comes back */
    uint8_t attempts_left; /* of the trial */
    uint8_t watchdog;      /* 1: it runs, and must be fed */
    uint32_t start_us;     /* what the bootloader took */
    uint32_t crc;          /* CRC-32 of all before */
};
ASSERT_SIZE(struct boot_handoff, 16);

#endif
