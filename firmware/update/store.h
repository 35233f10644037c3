/*
 * Boot records, configurations and slots in flash: reads them, and writes them so that a power cut
 * at any operation leaves the old one or the new one. One operation at a time, in steps that never
 * wait: store_poll() does the next one. Core 0.
 */
#ifndef UPDATE_STORE_H
#define UPDATE_STORE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "hal/flash.h"
#include "spec/boot.h"

struct store {
    struct flash *flash;
    struct boot_record record; /* the one that counts; boot_state_init() when none is whole */
    bool has_record;           /* there was a whole one */
    uint32_t slot_bytes;       /* size of each slot */
    uint64_t slot_offset[BOOT_SLOT_COUNT];
    /* the operation's; not for others */
    uint8_t newest_record; /* copy that counts */
    uint8_t state;
    uint8_t config_copy;
    uint8_t kind;
    uint64_t erase_next, erase_end; /* flash offsets */
    uint64_t base;                  /* where the data goes */
    const uint8_t *data;
    uint32_t len_bytes;
    uint32_t position; /* in the data, of the step under way */
    uint32_t done_bytes;
    uint8_t tail[4]; /* what is left behind the last multiple of 4 */
    struct boot_record staged;
    struct boot_config_head config_head; /* of the newer whole one */
    struct boot_config_head staged_head;
};

/* Reads what is there. INVALID: the flash is too small for all parts. */
MUST_USE enum status store_open(struct store *store, struct flash *flash);

/* Copies `len_bytes` out of a slot or of the newer whole configuration. NOT_FOUND: there is none;
 * NO_SPACE: it has more than `max_bytes`. Not while an operation is under way. */
void store_read_slot(struct store *store, uint8_t slot, uint32_t offset, void *out,
                     uint32_t len_bytes);
MUST_USE enum status store_read_config(struct store *store, void *tree, uint32_t max_bytes,
                                       uint32_t *out_bytes);

/* The record that counts still reads as it did; else the flash cannot be read now, and what was
 * read of it says nothing. There is a record, and no operation under way. */
bool store_is_readable(const struct store *store);

/* Start an operation. AGAIN: one is under way. The record is copied and sealed; data stays until
 * the end. A slot's image is erased for, programmed and read back; the caller has put the record
 * into boot_state_begin_write() before, and into boot_state_end_write() after. NO_SPACE: too long.
 */
MUST_USE enum status store_write_record(struct store *store, const struct boot_record *record);
MUST_USE enum status store_write_slot(struct store *store, uint8_t slot, const void *image,
                                      uint32_t len_bytes);
MUST_USE enum status store_write_config(struct store *store, const void *tree, uint32_t len_bytes);

/* One step. AGAIN: there is more to do. OK: the operation is done (the record is the one that
 * counts), or none was. IO: the flash failed or reads back otherwise; what counted before still
 * counts. */
MUST_USE enum status store_poll(struct store *store);

/* Bytes of the image that lie in flash so far, for progress. */
uint32_t store_done_bytes(const struct store *store);

#endif
