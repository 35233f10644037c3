/*
 * Updates, as the running firmware does them: an image arrives in pieces in memory, is checked,
 * goes into a slot, is activated, and confirms itself once it works. Everything on core 0; nothing
 * waits: update_poll() goes on, a poller of app's.
 *
 * One image at a time, and one who sends it, by whatever way: who sent a piece in the last
 * UPDATE_HOLD_NS holds what was received. It ends with the commit, or update_release(); another one
 * begins with nothing. The console is the operator's, out of band: it does not wait for a tenant to
 * be done, but takes over with its first piece, unless that image goes into a slot already.
 *
 * Leaves out: who may do what (nvme, mgmt), starting the new image (app).
 */
#ifndef UPDATE_UPDATE_H
#define UPDATE_UPDATE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "update/image.h"
#include "update/store.h"

struct update;

/* Who sends: a function, or ... */
#define UPDATE_CONSOLE 0xffffu
#define UPDATE_NOBODY  0xfffeu
#define UPDATE_HOLD_NS (UINT64_C(30) * 1000000000)

struct update_config {
    uint64_t (*now_ns)(void);
    struct store *store;      /* opened */
    struct image_rules rules; /* min_security_version is the record's */
    uint8_t running;          /* slot; BOOT_SLOT_NONE: the image came from elsewhere */
    bool is_trial;            /* as the handoff says */
    void *buffer;             /* 8-byte aligned, where the image arrives */
    uint32_t buffer_bytes;
};

enum update_state {
    UPDATE_IDLE,
    UPDATE_RECEIVING, /* some of an image is there */
    UPDATE_WRITING,   /* into a slot */
    UPDATE_RECORDING, /* the record */
    UPDATE_CHECKING,  /* what was received, and that is all */
};
/* "idle" */
const char *update_state_text(enum update_state state);

struct update_report {
    enum update_state state;
    uint8_t running, active, trial;   /* slots, BOOT_SLOT_NONE */
    bool is_trial;                    /* the running one, not yet confirmed */
    uint32_t received_bytes;          /* without a hole, from the start */
    uint32_t done_bytes, image_bytes; /* while writing */
    enum image_fault last_fault;      /* of the last check */
    struct boot_record record;
};

uint64_t update_bytes(void); /* of struct update */
/* In `memory`, of update_bytes(), aligned to 8. */
void update_init(struct update *update, const struct update_config *config);

/* A piece of an image; pieces may come in any order, overlap, come twice. Offset 0 starts anew, if
 * it was there already and with other bytes. AGAIN: what was received is being checked or written,
 * or somebody else holds it. NO_SPACE: beyond the slot, or more than UPDATE_EXTENTS pieces with
 * holes between them. */
#define UPDATE_EXTENTS 32u
MUST_USE enum status update_receive(struct update *update, uint16_t who, uint32_t offset,
                                    const void *data, uint32_t len_bytes);
/* What it sent is gone, unless that is being checked or written. */
void update_release(struct update *update, uint16_t who);

enum update_action {
    UPDATE_REPLACE = 1,  /* what was received goes into the slot */
    UPDATE_ACTIVATE = 2, /* the slot starts next, on trial; after the replacement when both */
    UPDATE_CHECK = 4,    /* alone: as REPLACE, but ends before anything is written */
};

/* `slot`: BOOT_SLOT_NONE lets the update choose: of REPLACE the one that does not run and is not
 * active, of ACTIVATE the one that does not run. Calls done(ctx, status) later, exactly once, when
 * it returned OK; its status: OK; BAD_DATA: the image is refused, see last_fault; IO: flash. What
 * was received is gone then, except after IO or CHECK.
 * Else: AGAIN: one is under way, or of REPLACE and CHECK: somebody else holds what was received.
 * INVALID: slot, actions. NOT_FOUND: nothing was received from `who`, or no image is in the slot.
 * EXISTS: the slot runs or is active and cannot be replaced. BAD_DATA: too old. */
MUST_USE enum status update_commit(struct update *update, uint16_t who, uint32_t actions,
                                   uint8_t slot, void (*done)(void *ctx, enum status status),
                                   void *ctx);

/* The running image works. Done later, tried three times when the flash fails; the report's
 * is_trial says whether to ask again. */
void update_confirm(struct update *update);

/* Goes on. The amount of work that was done. */
uint32_t update_poll(struct update *update);
/* There is more to do: a commit or a confirmation is under way. */
bool update_is_busy(const struct update *update);

void update_report(const struct update *update, struct update_report *report);

#endif
