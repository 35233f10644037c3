/*
 * Objects and actions: READ and WRITE in pieces, ACTION once, commands of the console. Whatever the
 * board says, each of them ends: by its size or by its time.
 */
#include <stdlib.h>
#include <string.h>
#include "client.h"

#define RUN_WAIT_MS   10u
#define RUN_MAX_BYTES (1u << 20)
#define ACT_TRIES     5u
#define ACT_LATE_MS   5000u /* core 0 may be at work with the action itself */
#define ACT_PAUSE_MS  100u

/* --- READ, WRITE ----------------------------------------------------------------------------- */

enum fault client_read(struct client *c, enum mgmt_object object, uint16_t part, uint64_t offset,
                       struct client_piece *piece)
{
    struct mgmt_read_request request = {.object = (uint16_t)object, .part = part, .offset = offset};
    struct client_part body = {&request, sizeof(request)};
    struct mgmt_read head;

    enum fault fault = client_ask(c, MGMT_OP_READ, &body, 1);
    if (fault != FAULT_NONE) {
        return fault;
    }
    if (c->answer_bytes < sizeof(head)) {
        return client_nonsense(c, "READ without a head");
    }
    memcpy(&head, c->answer, sizeof(head));
    bool is_good = head.object == object && head.data_bytes <= c->answer_bytes - sizeof(head) &&
                   head.offset <= UINT64_MAX - head.data_bytes &&
                   head.end >= head.offset + head.data_bytes &&
                   (head.data_bytes == 0 || head.offset >= offset);
    if (!is_good) {
        return client_nonsense(c, "READ contradicts itself");
    }
    *piece = (struct client_piece){
        .bytes = c->answer + sizeof(head),
        .len_bytes = head.data_bytes,
        .offset = head.offset,
        .end = head.end,
        .may_grow = (head.flags & MGMT_READ_GROWS) != 0,
    };
    return FAULT_NONE;
}

enum fault client_read_all(struct client *c, enum mgmt_object object, uint16_t part, size_t max,
                           uint8_t **bytes, size_t *len_bytes, uint64_t *offset)
{
    struct client_piece piece;
    uint64_t next = 0;
    uint64_t end = UINT64_MAX;
    uint64_t deadline_ms = transport_now_ms() + c->patience_ms;
    size_t used = 0;

    *bytes = NULL;
    *len_bytes = 0;
    for (bool is_first = true; next < end; is_first = false) {
        enum fault fault = client_read(c, object, part, next, &piece);
        if (fault != FAULT_NONE) {
            return fault;
        }
        if (is_first) {
            end = piece.end;
        }
        if (piece.end < next) {
            return client_nonsense(c, "what is read has become shorter: did the board restart?");
        }
        if (piece.len_bytes == 0) {
            break;
        }
        if (transport_now_ms() > deadline_ms) {
            return client_nonsense(c, "reading takes longer than any board needs");
        }
        if (used == 0 || piece.offset != next) { /* a ring has overwritten what was read so far */
            used = 0;
            if (offset != NULL) {
                *offset = piece.offset;
            }
        }
        if (used + piece.len_bytes > max) {
            return client_nonsense(c, "an object without end");
        }
        uint8_t *bigger = realloc(*bytes, used + piece.len_bytes + 1);
        if (bigger == NULL) {
            return fault_say(FAULT_FAILED, "out of memory");
        }
        memcpy(bigger + used, piece.bytes, piece.len_bytes);
        *bytes = bigger;
        used += piece.len_bytes;
        *len_bytes = used;
        next = piece.offset + piece.len_bytes;
    }
    return FAULT_NONE;
}

enum fault client_write(struct client *c, enum mgmt_object object, const uint8_t *bytes,
                        size_t len_bytes, void (*progress)(size_t done, size_t all))
{
    struct mgmt_write_request request = {.object = (uint16_t)object};
    size_t room = c->transport->message_max - sizeof(struct mgmt_head) - sizeof(request);

    for (size_t done = 0; done < len_bytes;) {
        size_t count = len_bytes - done < room ? len_bytes - done : room;
        request.data_bytes = (uint32_t)count;
        request.offset = done;
        struct client_part parts[] = {{&request, sizeof(request)}, {bytes + done, (uint32_t)count}};
        enum fault fault = client_ask(c, MGMT_OP_WRITE, parts, 2);
        if (fault != FAULT_NONE) {
            return fault;
        }
        done += count;
        if (progress != NULL) {
            progress(done, len_bytes);
        }
    }
    return FAULT_NONE;
}

/* --- ACTION ---------------------------------------------------------------------------------- */

/* The answer that came while HELLO's was waited for. */
static enum fault take_late(struct client *c, enum mgmt_action action)
{
    c->op = MGMT_OP_ACTION;
    c->what = (uint16_t)action;
    c->status = c->late_status;
    c->answer_bytes = c->late_bytes;
    memcpy(c->answer, c->late, c->late_bytes);
    if (c->status == MGMT_OK) {
        return FAULT_NONE;
    }
    return c->is_quiet ? FAULT_FAILED : client_refusal(c);
}

/* Asks the board for its age until the action's answer has come, or cannot come any more: what it
 * answers behind it, it has got behind it, but for an interrupt handler that answers in between. */
static enum fault await_late(struct client *c)
{
    uint64_t deadline_ms = transport_now_ms() + ACT_LATE_MS;
    uint32_t restart_count = c->restart_count;

    for (;;) {
        fault_hold(true);
        enum fault fault = client_refresh(c);
        if (c->is_late) { /* whatever became of HELLO */
            fault_forget();
        }
        fault_hold(false);
        if (c->is_late) {
            c->is_silent = false;
            return FAULT_NONE;
        }
        if (fault != FAULT_NONE) {
            fault_note("the board did answer before: it may be at work with this request still");
            return fault;
        }
        if (c->restart_count != restart_count) {
            return fault_say(FAULT_FAILED, "%s: the board has restarted meanwhile, after %s",
                             c->transport->name, c->hello.reset_cause);
        }
        if (!c->is_hung || transport_now_ms() > deadline_ms) {
            return FAULT_NONE;
        }
        client_pause_ms(ACT_PAUSE_MS);
    }
}

/* What is done twice may harm, and an answer that does not come may be late, or due to what was
 * done: the board is asked for its age before a request is sent again. */
enum fault client_act(struct client *c, enum mgmt_action action, const void *arguments,
                      uint32_t len_bytes)
{
    struct mgmt_action_request request = {.action = (uint16_t)action, .argument_bytes = len_bytes};
    struct client_part parts[] = {{&request, sizeof(request)}, {arguments, len_bytes}};

    for (uint32_t i = 0; i < ACT_TRIES; i++) {
        c->is_once = true;
        enum fault fault = client_ask(c, MGMT_OP_ACTION, parts, len_bytes == 0 ? 1 : 2);
        c->is_once = false;
        if (!c->is_silent) {
            return fault;
        }
        c->is_late = false;
        c->late_tag = c->tag;
        fault = await_late(c);
        c->late_tag = 0;
        bool is_taken = c->is_late && c->late_status != MGMT_BUSY && c->late_status != MGMT_HUNG &&
                        c->late_status != MGMT_BAD_MESSAGE;
        if (fault != FAULT_NONE || is_taken) {
            return fault != FAULT_NONE ? fault : take_late(c, action);
        }
    }
    return fault_say(FAULT_NO_DEVICE, "%s: the board answers other requests, but not this one",
                     c->transport->name);
}

/* Shows what has been printed since `*next`. */
static enum fault show_more(struct client *c, uint64_t *next, struct client_piece *piece,
                            void (*show)(void *ctx, const char *text, size_t len), void *ctx)
{
    enum fault fault = client_read(c, MGMT_OBJECT_CONSOLE, 0, *next, piece);

    if (fault != FAULT_NONE || piece->len_bytes == 0) {
        return fault;
    }
    if (piece->offset > *next) {
        fault_note("%llu bytes of the output are lost",
                   (unsigned long long)(piece->offset - *next));
    }
    show(ctx, (const char *)piece->bytes, piece->len_bytes);
    *next = piece->offset + piece->len_bytes;
    return FAULT_NONE;
}

enum fault client_run(struct client *c, const char *line, uint32_t timeout_ms,
                      void (*show)(void *ctx, const char *text, size_t len), void *ctx)
{
    struct client_piece piece = {.may_grow = true};
    uint64_t deadline_ms = transport_now_ms() + timeout_ms;
    uint64_t next = 0;

    if (strlen(line) >= 128) {
        return fault_say(FAULT_USAGE, "a command line of the console has at most 127 characters");
    }
    enum fault fault = client_act(c, MGMT_ACTION_RUN, line, (uint32_t)strlen(line));
    while (fault == FAULT_NONE) {
        fault = show_more(c, &next, &piece, show, ctx);
        if (fault != FAULT_NONE ||
            (!piece.may_grow && (piece.len_bytes == 0 || next >= piece.end))) {
            break;
        }
        if (next > RUN_MAX_BYTES) {
            return client_nonsense(c, "a command that prints without end");
        }
        if (transport_now_ms() > deadline_ms) {
            return fault_say(FAULT_FAILED,
                             "%s: the command has not ended after %u s; it goes on there "
                             "(--timeout SECONDS waits longer)",
                             c->transport->name, timeout_ms / 1000);
        }
        if (piece.len_bytes == 0) {
            client_pause_ms(RUN_WAIT_MS);
        }
    }
    return fault;
}
