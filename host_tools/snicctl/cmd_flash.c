/*
 * Updates: `flash`, `activate`, `confirm`, `rollback`, `reset`. Nothing is said to be done before
 * the board's record has it.
 */
#include "command.h"

#include <stdlib.h>
#include <string.h>
#include "image.h"
#include "slots.h"
#include "text.h"

#define WAIT_MS       100u
#define WRITE_MAX_MS  120000u
#define RECORD_MAX_MS 10000u

/* --- what the board says of its update ---------------------------------------------------- */

static enum fault get_update(struct call *call, struct mgmt_update *update)
{
    struct client_rows rows;

    memset(update, 0, sizeof(*update));
    enum fault fault = list_class(call, MGMT_CLASS_UPDATE, &rows);
    if (fault == FAULT_NONE && rows.count == 0) {
        fault = client_nonsense(call->client, "it has an update at work, and no record of it");
    }
    if (fault == FAULT_NONE) {
        memcpy(update, rows.bytes,
               rows.record_bytes < sizeof(*update) ? rows.record_bytes : sizeof(*update));
        update->state[sizeof(update->state) - 1] = '\0';
        update->fault[sizeof(update->fault) - 1] = '\0';
    }
    client_free(&rows);
    return fault;
}

static void show_progress(const struct mgmt_update *update)
{
    if (update->image_bytes > 0) {
        uint32_t done =
            update->done_bytes < update->image_bytes ? update->done_bytes : update->image_bytes;
        progress(update->is_busy == 0 ? update->image_bytes : done, update->image_bytes);
    }
}

/* Until the update that was begun has ended; a board that has restarted since the client counted
 * `restart_count` has not ended it. */
static enum fault wait_until_done(struct call *call, uint32_t restart_count)
{
    uint64_t deadline_ms = transport_now_ms() + WRITE_MAX_MS;
    struct mgmt_update update = {.is_busy = 1};

    progress_start("writing");
    while (update.is_busy != 0) {
        client_pause_ms(WAIT_MS);
        enum fault fault = get_update(call, &update);
        if (fault != FAULT_NONE) {
            fault_note("the board may be at work still: `snicctl slots` tells how it ended");
            return fault;
        }
        show_progress(&update);
        if (update.is_busy != 0 && transport_now_ms() > deadline_ms) {
            return fault_say(FAULT_FAILED, "the board is still at work after %u s: %s",
                             WRITE_MAX_MS / 1000, update.state);
        }
    }
    if (update.fault[0] != '\0') {
        return fault_say(FAULT_FAILED, "the board refuses it: %s", update.fault);
    }
    enum fault fault = client_refresh(call->client);
    if (fault == FAULT_NONE && call->client->restart_count != restart_count) {
        fault = fault_say(FAULT_FAILED, "the board has restarted meanwhile, after %s",
                          call->client->hello.reset_cause);
    }
    return fault;
}

/* *restart_count: for wait_until_done(). The age is that of now: an image takes a while to send. */
static enum fault commit(struct call *call, uint32_t slot, uint32_t actions,
                         uint32_t *restart_count)
{
    struct mgmt_commit arguments = {.slot = (uint8_t)slot, .actions = (uint8_t)actions};
    uint32_t before = call->client->restart_count;

    enum fault fault = client_refresh(call->client);
    *restart_count = call->client->restart_count;
    if (fault == FAULT_NONE && *restart_count != before) {
        return fault_say(FAULT_FAILED, "the board has restarted meanwhile, after %s",
                         call->client->hello.reset_cause);
    }
    return fault != FAULT_NONE
               ? fault
               : client_act(call->client, MGMT_ACTION_COMMIT_IMAGE, &arguments, sizeof(arguments));
}

static enum fault show_slots(struct call *call)
{
    struct client_rows rows;

    enum fault fault = list_if_there(call, MGMT_CLASS_SLOT, &rows);
    if (fault == FAULT_NONE && rows.count > 0) {
        view_table(record_of(MGMT_CLASS_SLOT), &rows, call->out);
    }
    client_free(&rows);
    return fault;
}

/* Slots there must be before an image goes over a slow line. */
static enum fault need_slots(struct call *call, struct slots *slots)
{
    enum fault fault = slots_read(call, slots);

    if (fault == FAULT_NONE && slots->count == 0 &&
        client_has_class(call->client, MGMT_CLASS_SLOT)) {
        fault = fault_say(FAULT_FAILED,
                          "%s: this board has no flash for images, or was started without it",
                          call->client->transport->name);
    }
    return fault;
}

/* --- flash ----------------------------------------------------------------------------------- */

struct flash_choice {
    const char *path;
    uint32_t slot;
    bool is_activated;
    bool is_check;
    bool is_forced;
    bool is_reset;
};

/* What can be seen from here; the board checks all of it again, and the signature. */
static enum fault check_here(struct call *call, const char *path, const uint8_t *bytes, size_t len,
                             struct image *image)
{
    const char *why = "";

    if (!image_parse(bytes, len, image, &why)) {
        return fault_say(FAULT_FAILED, "%s: %s", path, why);
    }
    if (!image->is_hash_good) {
        return fault_say(FAULT_FAILED, "%s: its hash is wrong: the file is damaged", path);
    }
    if (!image->has_head) {
        return fault_say(FAULT_FAILED, "%s: no firmware of ours: no image head in its data", path);
    }
    if (image->algorithm == NULL) {
        return fault_say(FAULT_FAILED, "%s: not signed; `snicctl image sign` signs it", path);
    }
    if (strcmp(image->head.board, call->client->hello.board) != 0) {
        return fault_say(FAULT_FAILED, "%s: for the board %s, this one is %s", path,
                         image->head.board, call->client->hello.board);
    }
    return FAULT_NONE;
}

/* What the board takes of a file: the FIT at its beginning. */
static size_t fit_bytes(const uint8_t *bytes, size_t len)
{
    struct image image;
    const char *why;

    return image_parse(bytes, len, &image, &why) ? image.fit_bytes : len;
}

static void show_image(struct call *call, const char *path, const struct image *image)
{
    text_put(call->out, path, strlen(path), false);
    fputs(": version ", call->out);
    text_put(call->out, image->head.version, strlen(image->head.version), false);
    fputs(" for ", call->out);
    text_put(call->out, image->head.board, strlen(image->head.board), false);
    fprintf(call->out, ", security version %u\n", image->head.security_version);
    fflush(call->out);
}

static enum fault send_image(struct call *call, const struct flash_choice *choice,
                             const uint8_t *bytes, size_t len)
{
    uint32_t actions = choice->is_check       ? MGMT_COMMIT_CHECK
                       : choice->is_activated ? MGMT_COMMIT_REPLACE | MGMT_COMMIT_ACTIVATE
                                              : MGMT_COMMIT_REPLACE;

    uint32_t restart_count = 0;

    progress_start("sending");
    enum fault fault = client_write(call->client, MGMT_OBJECT_IMAGE, bytes, len, progress);
    if (fault != FAULT_NONE) {
        return fault;
    }
    call->client->is_quiet = true;
    fault = commit(call, choice->slot, actions, &restart_count);
    call->client->is_quiet = false;
    if (fault != FAULT_NONE && choice->is_check && call->client->status == MGMT_UNSUPPORTED) {
        return fault_say(FAULT_VERSION,
                         "firmware %s cannot check an image without writing it: `snicctl flash "
                         "--no-activate` writes it to the slot that is not in use",
                         call->client->hello.firmware);
    }
    if (fault != FAULT_NONE) {
        return call->client->status != MGMT_OK ? client_refusal(call->client) : fault;
    }
    return wait_until_done(call, restart_count);
}

/* The record must have it: a slot that is not in use holds the image, whole, and starts next. */
static enum fault check_record(struct call *call, const struct flash_choice *choice,
                               size_t image_bytes)
{
    struct slots slots;
    uint32_t wanted = choice->is_activated ? MGMT_SLOT_TRIAL : 0;

    enum fault fault = slots_read(call, &slots);
    if (fault != FAULT_NONE || !client_has_class(call->client, MGMT_CLASS_SLOT)) {
        return fault;
    }
    const struct mgmt_slot *slot =
        choice->slot != SLOT_NONE
            ? slots_at(&slots, choice->slot)
            : slots_find(&slots, wanted, MGMT_SLOT_RUNNING | MGMT_SLOT_FAILED);
    if (slot == NULL || slot->image_bytes != image_bytes || (slot->flags & wanted) != wanted ||
        (slot->flags & MGMT_SLOT_FAILED) != 0) {
        return fault_say(FAULT_FAILED,
                         "the board has ended the update, but its record does not have the image; "
                         "`snicctl log` may say why");
    }
    return FAULT_NONE;
}

static enum fault flash(struct call *call, const struct flash_choice *choice, const uint8_t *bytes,
                        size_t len)
{
    struct image image = {0};

    enum fault fault =
        choice->is_forced ? FAULT_NONE : check_here(call, choice->path, bytes, len, &image);
    if (fault == FAULT_NONE && image.has_head) {
        show_image(call, choice->path, &image);
    }
    if (fault == FAULT_NONE) {
        fault = send_image(call, choice, bytes, len);
    }
    if (fault == FAULT_NONE && choice->is_check) {
        fprintf(call->out, "the board would take it\n");
        return FAULT_NONE;
    }
    if (fault == FAULT_NONE) {
        fault = check_record(call, choice, fit_bytes(bytes, len));
    }
    if (fault == FAULT_NONE) {
        fault = show_slots(call);
    }
    if (fault != FAULT_NONE) {
        return fault;
    }
    if (!choice->is_activated) {
        fprintf(call->out, "written and verified; not activated\n");
    } else if (choice->is_reset) {
        fprintf(call->out, "written and verified\n");
        fault = slots_restart(call, MGMT_ACTION_RESET, NULL, true, SLOTS_RESTART_MS);
    } else {
        fprintf(
            call->out,
            "written and verified. It starts next, on trial: `snicctl activate` keeps its hosts, "
            "`snicctl reset`\ndoes not. There it confirms itself once it serves and its volumes "
            "are "
            "ready; else the board\ngoes back by itself\n");
    }
    return fault;
}

enum fault cmd_flash(struct call *call)
{
    struct flash_choice choice = {
        .is_activated = !args_flag(call, "--no-activate"),
        .is_check = args_flag(call, "--check"),
        .is_forced = args_flag(call, "--force"),
        .is_reset = args_flag(call, "--reset"),
        .slot = (uint32_t)args_number(call, "--slot", 1, SLOT_NONE),
    };
    struct slots slots;
    uint8_t *bytes = NULL;
    size_t len = 0;

    enum fault fault = args_done(call, 1, 1);
    if (fault == FAULT_NONE && choice.is_reset && (choice.is_check || !choice.is_activated)) {
        fault = fault_say(FAULT_USAGE, "--reset starts the image: not with --check, --no-activate");
    }
    if (fault == FAULT_NONE && !client_has_action(call->client, MGMT_ACTION_COMMIT_IMAGE)) {
        fault = not_from_here(call, "updates of its image");
    }
    if (fault == FAULT_NONE) {
        fault = need_slots(call, &slots);
    }
    if (fault == FAULT_NONE) {
        choice.path = call->words[0];
        fault = file_read(choice.path, IMAGE_MAX_BYTES, &bytes, &len);
    }
    if (fault == FAULT_NONE) {
        fault = flash(call, &choice, bytes, len);
    }
    free(bytes);
    return fault;
}

/* --- confirm --------------------------------------------------------------------------------- */

/* The slot that runs; all zero when it is not told. */
static enum fault find_running(struct call *call, struct mgmt_slot *running)
{
    struct slots slots;

    memset(running, 0, sizeof(*running));
    enum fault fault = need_slots(call, &slots);
    const struct mgmt_slot *found = slots_find(&slots, MGMT_SLOT_RUNNING, 0);
    if (fault == FAULT_NONE && slots.count > 0 && found == NULL) {
        return fault_say(FAULT_FAILED,
                         "the running firmware comes from no slot: there is nothing to confirm");
    }
    if (fault == FAULT_NONE && found != NULL) {
        *running = *found;
    }
    return fault;
}

/* Until the record has that slot, which was running, as the active one. */
static enum fault wait_until_confirmed(struct call *call, const struct mgmt_slot *running)
{
    uint64_t deadline_ms = transport_now_ms() + RECORD_MAX_MS;
    struct slots slots;

    for (;;) {
        enum fault fault = slots_read(call, &slots);
        if (fault != FAULT_NONE) {
            return fault;
        }
        const struct mgmt_slot *now = slots_at(&slots, running->slot);
        uint32_t flags = now == NULL ? 0 : now->flags;
        if ((flags & MGMT_SLOT_RUNNING) == 0) {
            return fault_say(FAULT_FAILED,
                             "slot %u, version %s, does not run any more: the board has restarted "
                             "with another image; `snicctl log` and `snicctl crash` may say why",
                             running->slot, running->version);
        }
        if ((flags & MGMT_SLOT_ACTIVE) != 0 && (flags & MGMT_SLOT_TRIAL) == 0) {
            return FAULT_NONE;
        }
        if (transport_now_ms() > deadline_ms) {
            return fault_say(FAULT_FAILED,
                             "the board has not confirmed the running image after %u s: was its "
                             "trial taken back, or does the flash fail? See `snicctl slots` and "
                             "`snicctl log`",
                             RECORD_MAX_MS / 1000);
        }
        client_pause_ms(WAIT_MS);
    }
}

enum fault cmd_confirm(struct call *call)
{
    struct mgmt_slot running;

    enum fault fault = args_done(call, 0, 0);
    if (fault == FAULT_NONE && !client_has_action(call->client, MGMT_ACTION_CONFIRM)) {
        fault = not_from_here(call, "confirmation of its image");
    }
    if (fault == FAULT_NONE) {
        fault = find_running(call, &running);
    }
    if (fault == FAULT_NONE) {
        fault = client_act(call->client, MGMT_ACTION_CONFIRM, NULL, 0);
    }
    if (fault == FAULT_NONE && running.flags != 0) {
        fault = wait_until_confirmed(call, &running);
    }
    if (fault == FAULT_NONE) {
        fprintf(call->out, "firmware %s is confirmed: it stays\n", call->client->hello.firmware);
    }
    return fault;
}

/* --- rollback -------------------------------------------------------------------------------- */

/* The slot that has an image and does not run, and the one that runs; flags 0: none does. */
static enum fault find_other(struct call *call, struct mgmt_slot *other, struct mgmt_slot *running)
{
    struct slots slots;

    memset(other, 0, sizeof(*other));
    memset(running, 0, sizeof(*running));
    enum fault fault = need_slots(call, &slots);
    for (uint32_t i = 0; i < slots.count && fault == FAULT_NONE; i++) {
        const struct mgmt_slot *slot = &slots.slots[i];
        bool is_running = (slot->flags & MGMT_SLOT_RUNNING) != 0;
        if (is_running) {
            *running = *slot;
        } else if (slot->image_bytes > 0 && other->image_bytes == 0) {
            *other = *slot;
        }
    }
    if (fault == FAULT_NONE && other->image_bytes == 0) {
        fault = fault_say(FAULT_FAILED, "there is no other image to go back to: the other slot is "
                                        "empty; `snicctl slots`");
    }
    return fault;
}

/* The record says that the other slot starts next. When the running one is on trial, that is the
 * active one all the time: the trial must have been taken back then, which its attempts tell. */
static enum fault check_rollback(struct call *call, const struct mgmt_slot *running,
                                 struct mgmt_slot *other)
{
    struct slots slots;

    enum fault fault = slots_read(call, &slots);
    if (fault != FAULT_NONE) {
        return fault;
    }
    const struct mgmt_slot *now = slots_at(&slots, other->slot);
    const struct mgmt_slot *runs = slots_at(&slots, running->slot);
    bool is_next = now != NULL && (now->flags & (MGMT_SLOT_TRIAL | MGMT_SLOT_ACTIVE)) != 0;
    if (is_next && (now->flags & MGMT_SLOT_TRIAL) == 0 && running->flags != 0) {
        is_next =
            runs != NULL && ((runs->flags & MGMT_SLOT_TRIAL) == 0 || runs->attempts_left == 0);
    }
    if (!is_next) {
        return fault_say(FAULT_FAILED, "the board's record does not say that slot %u starts next",
                         other->slot);
    }
    *other = *now;
    return FAULT_NONE;
}

static enum fault roll_back(struct call *call, struct mgmt_slot *other)
{
    struct mgmt_slot running;
    uint32_t restart_count = 0;

    enum fault fault = find_other(call, other, &running);
    if (fault == FAULT_NONE && (other->flags & MGMT_SLOT_FAILED) != 0) {
        fault_note("slot %u, version %s, has failed its trial before", other->slot, other->version);
    }
    if (fault == FAULT_NONE) {
        fault = commit(call, other->slot, MGMT_COMMIT_ACTIVATE, &restart_count);
    }
    if (fault == FAULT_NONE) {
        fault = wait_until_done(call, restart_count);
    }
    return fault == FAULT_NONE ? check_rollback(call, &running, other) : fault;
}

enum fault cmd_rollback(struct call *call)
{
    bool is_reset = args_flag(call, "--reset");
    struct mgmt_slot other;

    enum fault fault = args_done(call, 0, 0);
    if (fault == FAULT_NONE && !client_has_action(call->client, MGMT_ACTION_COMMIT_IMAGE)) {
        fault = not_from_here(call, "updates of its image");
    }
    if (fault == FAULT_NONE) {
        fault = roll_back(call, &other);
    }
    if (fault != FAULT_NONE) {
        return fault;
    }
    bool is_trial = (other.flags & MGMT_SLOT_TRIAL) != 0;
    fprintf(call->out, "slot %u, version ", other.slot);
    text_put(call->out, other.version, strlen(other.version), false);
    /* What is not on trial does not take the hosts over. */
    fprintf(call->out, ", starts next%s%s\n", is_trial ? ", on trial" : "",
            is_reset   ? ""
            : is_trial ? ": `snicctl activate`, or `snicctl reset`"
                       : ": `snicctl reset`");
    return is_reset ? slots_restart(call, MGMT_ACTION_RESET, &other, true, SLOTS_RESTART_MS)
                    : FAULT_NONE;
}

/* --- activate -------------------------------------------------------------------------------- */

enum fault cmd_activate(struct call *call)
{
    uint64_t timeout_s = args_number(call, "--timeout", 3600, SLOTS_RESTART_MS / 1000);
    struct slots slots = {0};

    enum fault fault = args_done(call, 0, 0);
    if (fault == FAULT_NONE && !client_has_action(call->client, MGMT_ACTION_HAND_OVER)) {
        fault = not_from_here(call, "restarts that keep its hosts");
    }
    if (fault == FAULT_NONE) {
        fault = need_slots(call, &slots);
    }
    if (fault == FAULT_NONE && slots_find(&slots, MGMT_SLOT_TRIAL, MGMT_SLOT_RUNNING) == NULL) {
        fault = fault_say(FAULT_FAILED,
                          "no image waits for its start: `snicctl flash IMAGE` brings one, "
                          "`snicctl rollback` takes the other one");
    }
    return fault != FAULT_NONE
               ? fault
               : slots_restart(call, MGMT_ACTION_HAND_OVER, NULL, true, (uint32_t)timeout_s * 1000);
}

/* --- reset ----------------------------------------------------------------------------------- */

enum fault cmd_reset(struct call *call)
{
    bool is_waiting = !args_flag(call, "--no-wait");
    uint64_t timeout_s = args_number(call, "--timeout", 3600, SLOTS_RESTART_MS / 1000);
    enum fault fault = args_done(call, 0, 0);

    if (fault == FAULT_NONE && !client_has_action(call->client, MGMT_ACTION_RESET)) {
        fault = not_from_here(call, "reset");
    }
    if (fault != FAULT_NONE || is_waiting) {
        return fault != FAULT_NONE ? fault
                                   : slots_restart(call, MGMT_ACTION_RESET, NULL, false,
                                                   (uint32_t)timeout_s * 1000);
    }
    fault = client_act(call->client, MGMT_ACTION_RESET, NULL, 0);
    if (fault == FAULT_NONE) {
        fprintf(call->out, "the board resets\n");
    }
    return fault;
}
