/*
 * The boot record: what may start, what is on trial. Rules alone: reading and writing records is
 * the flash's (update/store.h). Pure functions on one struct; any core.
 *
 * A slot's life: empty -> written -> on trial (attempts) -> active | failed. At most one is active
 * and one on trial; the one on trial is never the active one. The active slot is never written.
 */
#ifndef UPDATE_BOOT_STATE_H
#define UPDATE_BOOT_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "spec/boot.h"

/* "A", "B"; others: "none". */
const char *boot_slot_name(uint8_t slot);

/* A record without images, sequence 0. */
void boot_state_init(struct boot_record *record);

/* Whole, of this version, and its fields hold together. Anything may be in `record`. */
bool boot_state_is_valid(const struct boot_record *record);

/* The one of two that counts: NULL when neither is valid. */
const struct boot_record *boot_state_newer(const struct boot_record *a,
                                           const struct boot_record *b);

/* Next sequence, CRC: what is written. */
void boot_state_seal(struct boot_record *record);

/* What the bootloader starts: the trial if it has attempts, which are counted down here (so the
 * record must be written before the start), else the active one; a trial without attempts ends as
 * failed here. BOOT_SLOT_NONE: neither. *is_changed: the record must be written. */
uint8_t boot_state_choose(struct boot_record *record, bool *is_changed);

/* The chosen slot holds no image that may start: never again, until it is written. Was it the
 * active one, then the other is put on trial if it holds an image that has not failed. The caller
 * chooses again. */
void boot_state_reject(struct boot_record *record, uint8_t slot);

/* Before a slot's flash is touched. INVALID: no such slot. EXISTS: it is the active one. */
MUST_USE enum status boot_state_begin_write(struct boot_record *record, uint8_t slot);
/* After the last byte was verified. */
void boot_state_end_write(struct boot_record *record, uint8_t slot, uint32_t image_bytes,
                          const struct boot_image_head *head);

/* The slot starts next, on trial, even if it failed before; activating the active one takes a
 * trial back. INVALID; NOT_FOUND: it holds no image. BAD_DATA: its security version is below the
 * least. */
MUST_USE enum status boot_state_activate(struct boot_record *record, uint8_t slot);

/* The running slot works: it is the active one; the least security version rises to its own, which
 * ends a trial below. False: nothing changed: it was already, or its trial was taken back. */
bool boot_state_confirm(struct boot_record *record, uint8_t running);

#endif
