/*
 * Updates: `flash`, `confirm`, `rollback`.
 */
#include "command.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "image.h"
#include "text.h"

#define WAIT_MS      100u
#define WRITE_MAX_MS 120000u
#define BAR_COLUMNS  40u
#define SLOT_ANY     0xffu

/* --- progress: on a terminal a bar, elsewhere nothing ------------------------------------- */

static const char *progress_what;

static void progress(size_t done, size_t all)
{
    static const char full[] = "########################################";
    uint32_t columns = all == 0 ? 0 : (uint32_t)(done * BAR_COLUMNS / all);

    if (isatty(2) == 0) {
        return;
    }
    fprintf(stderr, "\r%-10s [%.*s%*s] %3u %%%s", progress_what, (int)columns, full,
            (int)(BAR_COLUMNS - columns), "", all == 0 ? 0u : (unsigned)(done * 100 / all),
            done >= all ? "\n" : "");
    fflush(stderr);
}

/* --- what the board says of its update ---------------------------------------------------- */

static enum fault get_update(struct call *call, struct mgmt_update *update)
{
    struct client_rows rows;

    memset(update, 0, sizeof(*update));
    enum fault fault = list_class(call, MGMT_CLASS_UPDATE, &rows);
    if (fault == FAULT_NONE && rows.count > 0) {
        memcpy(update, rows.bytes,
               rows.record_bytes < sizeof(*update) ? rows.record_bytes : sizeof(*update));
        update->state[sizeof(update->state) - 1] = '\0';
        update->fault[sizeof(update->fault) - 1] = '\0';
    }
    client_free(&rows);
    return fault;
}

static enum fault wait_until_written(struct call *call)
{
    uint64_t deadline_ms = transport_now_ms() + WRITE_MAX_MS;
    struct mgmt_update update = {.is_busy = 1};

    progress_what = "writing";
    while (update.is_busy != 0) {
        enum fault fault = get_update(call, &update);
        if (fault != FAULT_NONE) {
            return fault;
        }
        if (update.image_bytes > 0) {
            uint32_t done =
                update.done_bytes < update.image_bytes ? update.done_bytes : update.image_bytes;
            progress(update.is_busy == 0 ? update.image_bytes : done, update.image_bytes);
        }
        if (update.is_busy != 0 && transport_now_ms() > deadline_ms) {
            return fault_say(FAULT_FAILED, "the board still writes after %u s: %s",
                             WRITE_MAX_MS / 1000, update.state);
        }
        struct timespec pause = {.tv_nsec = (long)WAIT_MS * 1000000};
        nanosleep(&pause, NULL);
    }
    if (update.fault[0] != '\0') {
        return fault_say(FAULT_FAILED, "the board refuses the image: it %s", update.fault);
    }
    return FAULT_NONE;
}

static enum fault commit(struct call *call, uint32_t slot, uint32_t actions)
{
    struct mgmt_commit arguments = {.slot = (uint8_t)slot, .actions = (uint8_t)actions};

    return client_act(call->client, MGMT_ACTION_COMMIT_IMAGE, &arguments, sizeof(arguments));
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

/* --- flash ----------------------------------------------------------------------------------- */

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

struct flash_choice {
    const char *path;
    uint32_t slot;
    bool is_activated;
    bool is_check;
    bool is_forced;
};

static enum fault flash(struct call *call, const struct flash_choice *choice, const uint8_t *bytes,
                        size_t len)
{
    struct image image = {0};
    uint32_t actions = choice->is_check       ? MGMT_COMMIT_CHECK
                       : choice->is_activated ? MGMT_COMMIT_REPLACE | MGMT_COMMIT_ACTIVATE
                                              : MGMT_COMMIT_REPLACE;

    enum fault fault = FAULT_NONE;
    if (!choice->is_forced) {
        fault = check_here(call, choice->path, bytes, len, &image);
    }
    if (fault == FAULT_NONE && image.has_head) {
        fprintf(call->out, "%s: version %s for %s, security version %u\n", choice->path,
                image.head.version, image.head.board, image.head.security_version);
    }
    progress_what = "sending";
    if (fault == FAULT_NONE) {
        fault = client_write(call->client, MGMT_OBJECT_IMAGE, bytes, len, progress);
    }
    if (fault == FAULT_NONE) {
        fault = commit(call, choice->slot, actions);
    }
    if (fault == FAULT_NONE && !choice->is_check) {
        fault = wait_until_written(call);
    }
    if (fault != FAULT_NONE) {
        return fault;
    }
    if (choice->is_check) {
        fprintf(call->out, "the board would take it\n");
        return FAULT_NONE;
    }
    fault = show_slots(call);
    if (fault == FAULT_NONE) {
        fprintf(call->out, choice->is_activated
                               ? "written and verified. It starts next, on trial: `snicctl reset`, "
                                 "then `snicctl confirm`;\nwithout a confirmation the board goes "
                                 "back by itself\n"
                               : "written and verified; not activated\n");
    }
    return fault;
}

enum fault cmd_flash(struct call *call)
{
    struct flash_choice choice = {
        .is_activated = !args_flag(call, "--no-activate"),
        .is_check = args_flag(call, "--check"),
        .is_forced = args_flag(call, "--force"),
        .slot = (uint32_t)args_number(call, "--slot", 1, SLOT_ANY),
    };
    uint8_t *bytes = NULL;
    size_t len = 0;

    enum fault fault = args_done(call, 1, 1);
    if (fault == FAULT_NONE && !client_has_action(call->client, MGMT_ACTION_COMMIT_IMAGE)) {
        fault = not_from_here(call, "updates of its image");
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

enum fault cmd_confirm(struct call *call)
{
    enum fault fault = args_done(call, 0, 0);

    if (fault == FAULT_NONE && !client_has_action(call->client, MGMT_ACTION_CONFIRM)) {
        fault = not_from_here(call, "images on trial");
    }
    if (fault == FAULT_NONE) {
        fault = client_act(call->client, MGMT_ACTION_CONFIRM, NULL, 0);
    }
    if (fault == FAULT_NONE) {
        fprintf(call->out, "firmware %s is confirmed: it stays\n", call->client->hello.firmware);
    }
    return fault;
}

/* The slot that has an image and does not run. */
static enum fault find_other(struct call *call, uint32_t *slot, char *version, size_t room)
{
    struct client_rows rows;
    struct mgmt_slot s;

    *slot = SLOT_ANY;
    enum fault fault = list_class(call, MGMT_CLASS_SLOT, &rows);
    for (uint32_t i = 0; i < rows.count && fault == FAULT_NONE; i++) {
        memset(&s, 0, sizeof(s));
        memcpy(&s, rows.bytes + (size_t)i * rows.record_bytes,
               rows.record_bytes < sizeof(s) ? rows.record_bytes : sizeof(s));
        if ((s.flags & MGMT_SLOT_RUNNING) == 0 && s.image_bytes > 0) {
            *slot = s.slot;
            snprintf(version, room, "%.16s", s.version);
        }
    }
    client_free(&rows);
    if (fault == FAULT_NONE && *slot == SLOT_ANY) {
        fault = fault_say(FAULT_FAILED, "there is no other image to go back to");
    }
    return fault;
}

enum fault cmd_rollback(struct call *call)
{
    char version[24] = "";
    uint32_t slot = SLOT_ANY;

    enum fault fault = args_done(call, 0, 0);
    if (fault == FAULT_NONE && !client_has_action(call->client, MGMT_ACTION_COMMIT_IMAGE)) {
        fault = not_from_here(call, "updates of its image");
    }
    if (fault == FAULT_NONE) {
        fault = find_other(call, &slot, version, sizeof(version));
    }
    if (fault == FAULT_NONE) {
        fault = commit(call, slot, MGMT_COMMIT_ACTIVATE);
    }
    if (fault == FAULT_NONE) {
        fprintf(call->out, "slot %u, version ", slot);
        text_put(call->out, version, strlen(version), false);
        fprintf(call->out, ", starts next: `snicctl reset`\n");
    }
    return fault;
}
