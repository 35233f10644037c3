/*
 * Images over management messages: the classes SLOT and UPDATE, the object IMAGE, the actions
 * COMMIT_IMAGE and CONFIRM, as functions for the tables of mgmt/mgmt.h. The firmware and the
 * bootloader's recovery share them. Core 0.
 */
#ifndef MGMT_MGMT_IMAGES_H
#define MGMT_MGMT_IMAGES_H

#include <stdint.h>
#include "mgmt/mgmt.h"
#include "update/update.h"

/* Before the first request; without it, or with NULL, there are no slots, and all else is
 * UNSUPPORTED. */
void mgmt_images_set(struct update *update, const struct store *store);

/* SLOT: one for each slot. */
uint32_t mgmt_slot_count(void);
uint32_t mgmt_slot_fill(uint32_t index, void *record);

/* UPDATE: one record. */
uint32_t mgmt_update_count(void);
uint32_t mgmt_update_fill(uint32_t index, void *record);

/* IMAGE. BUSY: one is being written, or sent by somebody else; OUT_OF_RANGE: beyond the slot, or
 * too many holes. */
enum mgmt_status mgmt_image_write(const struct mgmt_from *from, uint64_t offset,
                                  const uint8_t *data, uint32_t len_bytes);

/* COMMIT_IMAGE: begins; UPDATE tells how it goes, and its `fault` how it ended. With a text:
 * REFUSED: the slot is in use, or its image too old; NOT_FOUND. */
enum mgmt_status mgmt_image_commit(const struct mgmt_from *from, const uint8_t *arguments,
                                   uint32_t len_bytes, uint8_t *answer, uint32_t *answer_bytes);
enum mgmt_status mgmt_image_confirm(const struct mgmt_from *from, const uint8_t *arguments,
                                    uint32_t len_bytes, uint8_t *answer, uint32_t *answer_bytes);

#endif
