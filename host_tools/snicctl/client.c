#include "client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ANSWER_WAIT_MS 800u /* the document says 500: emulated boards are slow */
#define TRIES          5u
#define BUSY_WAIT_MS   10u
#define BUSY_MAX_MS    5000u
#define HUNG_TRIES     3u /* a board that is only slow */
#define RUN_MAX_MS     60000u
/* What a sane board has at most; a board that is not shall end. */
#define LIST_MAX_RECORDS  262144u
#define LIST_MAX_REQUESTS 4096u

static void pause_ms(uint32_t ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&time, NULL);
}

static const char *status_text(uint32_t status)
{
    static const char *const texts[] = {
#define STATUS_TEXT(name, value, text) [value] = text,
        MGMT_STATUS_LIST(STATUS_TEXT)
#undef STATUS_TEXT
    };
    return status < ARRAY_SIZE(texts) ? texts[status] : "a status that this tool does not know";
}

static enum fault transport_fault(struct client *c, enum transport_result result)
{
    const struct transport *t = c->transport;

    c->is_silent = result == TRANSPORT_SILENT;
    if (c->is_silent && c->is_once) {
        return FAULT_NO_DEVICE; /* the caller says more */
    }
    switch (result) {
    case TRANSPORT_DENIED:
        return fault_say(FAULT_PERMISSION, "%s: %s; admin commands are for root: use sudo", t->name,
                         t->why);
    case TRANSPORT_UNKNOWN:
        return fault_say(
            FAULT_VERSION,
            "%s: the device does not know management messages: its firmware is too old, "
            "it is no snic, or its configuration has options/in-band = \"off\"",
            t->name);
    case TRANSPORT_LOST:
        return fault_say(FAULT_NO_DEVICE, "%s: %s", t->name, t->why);
    case TRANSPORT_OK:
    case TRANSPORT_SILENT:
        break;
    }
    return fault_say(FAULT_NO_DEVICE, "%s: no answer to %u requests%s", t->name, TRIES,
                     t->is_console
                         ? ": is this the console of a board whose firmware knows management "
                           "messages, and does nobody else hold it?"
                         : "");
}

/* --- one request ----------------------------------------------------------------------------- */

/* Takes answers until the one to `tag` is there. */
static enum transport_result await_answer(struct client *c, uint8_t op, struct mgmt_head *head)
{
    static uint8_t message[MGMT_BAND_BYTES];
    uint64_t deadline_ms = transport_now_ms() + ANSWER_WAIT_MS;

    for (;;) {
        uint64_t now_ms = transport_now_ms();
        uint32_t len = 0;
        if (now_ms >= deadline_ms) {
            return TRANSPORT_SILENT;
        }
        enum transport_result result = c->transport->ops->receive(
            c->transport, message, sizeof(message), &len, (uint32_t)(deadline_ms - now_ms));
        if (result != TRANSPORT_OK) {
            return result;
        }
        bool is_ours = message_check(message, len, head) == MESSAGE_OK && head->tag == c->tag &&
                       head->op == op && (head->flags & MGMT_FLAG_RESPONSE) != 0;
        if (is_ours) {
            c->answer_bytes = head->payload_bytes;
            memcpy(c->answer, message + sizeof(*head), head->payload_bytes);
            return TRANSPORT_OK;
        }
        if (!c->transport->is_console) { /* another tool has asked meanwhile */
            return TRANSPORT_SILENT;
        }
    }
}

/* Sends the request until it is answered. */
static enum transport_result exchange(struct client *c, uint8_t *message, uint32_t payload_bytes,
                                      struct mgmt_head *answer)
{
    enum transport_result result = TRANSPORT_SILENT;

    uint32_t tries = c->is_once ? 1 : TRIES;

    for (uint32_t i = 0; i < tries && result == TRANSPORT_SILENT; i++) {
        struct mgmt_head head;
        memcpy(&head, message, sizeof(head));
        head.tag = ++c->tag;
        memcpy(message, &head, sizeof(head));
        c->repeat_count += i > 0;
        uint32_t len = message_seal(message, payload_bytes);
        result = c->transport->ops->send(c->transport, message, len);
        if (result == TRANSPORT_OK) {
            result = await_answer(c, head.op, answer);
        }
    }
    return result;
}

static enum fault status_fault(struct client *c, uint16_t status)
{
    enum fault fault = status == MGMT_NOT_ALLOWED ? FAULT_PERMISSION
                       : status == MGMT_OLD_FIRMWARE || status == MGMT_OLD_TOOL ||
                               status == MGMT_UNKNOWN_OP || status == MGMT_NOT_FOUND
                           ? FAULT_VERSION
                           : FAULT_FAILED;
    const char *reason = client_reason(c);

    if (c->is_quiet) {
        return fault;
    }
    if (fault == FAULT_VERSION) {
        return fault_say(
            fault,
            "%s: %s%s%s (firmware %.16s, messages %u to %u; this tool " CLIENT_TOOL_VERSION
            ", messages %u to %u)",
            c->transport->name, status_text(status), reason[0] != '\0' ? ": " : "", reason,
            c->hello.firmware, c->hello.min_version, c->hello.version, MGMT_MIN_VERSION,
            MGMT_VERSION);
    }
    return fault_say(fault, "%s: %s%s%s", c->transport->name, status_text(status),
                     reason[0] != '\0' ? ": " : "", reason);
}

const char *client_reason(const struct client *c)
{
    static char reason[256];
    size_t len = c->answer_bytes < sizeof(reason) - 1 ? c->answer_bytes : sizeof(reason) - 1;

    memcpy(reason, c->answer, len);
    reason[len] = '\0';
    return c->status == MGMT_OK ? "" : reason;
}

enum fault client_ask(struct client *c, enum mgmt_op op, const struct client_part *parts,
                      uint32_t part_count)
{
    uint8_t message[MGMT_BAND_BYTES];
    struct mgmt_head head = {.version = c->version, .op = (uint8_t)op};
    uint64_t deadline_ms = transport_now_ms() + BUSY_MAX_MS;
    uint32_t bytes = 0;
    uint32_t hung_count = 0;

    memcpy(message, &head, sizeof(head));
    for (uint32_t i = 0; i < part_count; i++) {
        memcpy(message + sizeof(head) + bytes, parts[i].bytes, parts[i].len_bytes);
        bytes += parts[i].len_bytes;
    }
    c->is_silent = false;
    for (;;) {
        enum transport_result result = exchange(c, message, bytes, &head);
        if (result != TRANSPORT_OK) {
            return transport_fault(c, result);
        }
        c->is_hung = (head.flags & MGMT_FLAG_HUNG) != 0;
        c->status = head.status;
        bool is_again = head.status == MGMT_BUSY && transport_now_ms() < deadline_ms;
        is_again = is_again || (head.status == MGMT_HUNG && ++hung_count < HUNG_TRIES) ||
                   (head.status == MGMT_BAD_MESSAGE && ++hung_count < HUNG_TRIES);
        if (!is_again) {
            break;
        }
        pause_ms(BUSY_WAIT_MS);
    }
    return c->status == MGMT_OK ? FAULT_NONE : status_fault(c, (uint16_t)c->status);
}

/* The answer is shorter than it must be, or contradicts itself. */
static enum fault nonsense(struct client *c, const char *what)
{
    return fault_say(FAULT_FAILED, "%s: the firmware's answer makes no sense: %s",
                     c->transport->name, what);
}

/* --- HELLO ----------------------------------------------------------------------------------- */

static enum fault check_versions(struct client *c)
{
    const struct mgmt_hello *h = &c->hello;

    if (h->version < MGMT_MIN_VERSION || h->min_version > MGMT_VERSION) {
        bool is_old = h->version < MGMT_MIN_VERSION;
        return fault_say(
            FAULT_VERSION,
            "%s: firmware %.16s speaks messages %u to %u, this tool (" CLIENT_TOOL_VERSION
            ") %u to %u: %s",
            c->transport->name, h->firmware, h->min_version, h->version, MGMT_MIN_VERSION,
            MGMT_VERSION,
            is_old ? "update the firmware (by `nvme fw-download`), or use an older tool"
                   : "a newer snicctl is needed");
    }
    c->version = h->version < MGMT_VERSION ? h->version : MGMT_VERSION;
    return FAULT_NONE;
}

/* Whatever was sent: the text ends, and has nothing that drives a terminal. */
static void clean(char *text, size_t room_bytes)
{
    text[room_bytes - 1] = '\0';
    for (char *p = text; *p != '\0'; p++) {
        *p = *p < 0x20 || *p > 0x7e ? '?' : *p;
    }
}

static void clean_texts(struct mgmt_hello *h)
{
    clean(h->board, sizeof(h->board));
    clean(h->firmware, sizeof(h->firmware));
    clean(h->serial, sizeof(h->serial));
    clean(h->reset_cause, sizeof(h->reset_cause));
}

/* Puts the answer into *hello. */
static enum fault say_hello(struct client *c, struct mgmt_hello *hello)
{
    struct mgmt_hello_request request = {
        .version = MGMT_VERSION,
        .min_version = MGMT_MIN_VERSION,
        .tool = "snicctl " CLIENT_TOOL_VERSION,
    };
    struct client_part part = {&request, sizeof(request)};

    enum fault fault = client_ask(c, MGMT_OP_HELLO, &part, 1);
    if (fault != FAULT_NONE) {
        return fault;
    }
    if (c->answer_bytes < offsetof(struct mgmt_hello, origin)) {
        return nonsense(c, "HELLO is too short");
    }
    memset(hello, 0, sizeof(*hello));
    memcpy(hello, c->answer, c->answer_bytes < sizeof(*hello) ? c->answer_bytes : sizeof(*hello));
    clean_texts(hello);
    return FAULT_NONE;
}

enum fault client_open(struct client *c, struct transport *transport)
{
    struct timespec now;

    memset(c, 0, sizeof(*c));
    clock_gettime(CLOCK_REALTIME, &now);
    c->transport = transport;
    c->version = MGMT_VERSION;
    c->tag = (uint32_t)now.tv_nsec ^ (uint32_t)now.tv_sec << 16; /* not those of a tool before */
    enum fault fault = say_hello(c, &c->hello);
    if (fault == FAULT_NONE) {
        fault = check_versions(c);
    }
    if (fault != FAULT_NONE) {
        return fault;
    }
    if (c->hello.message_max < 256) {
        return nonsense(c, "its messages are too small");
    }
    if (c->hello.message_max < transport->message_max) {
        transport->message_max = c->hello.message_max;
    }
    return FAULT_NONE;
}

enum fault client_refresh(struct client *c)
{
    return say_hello(c, &c->hello);
}

bool client_has_class(const struct client *c, enum mgmt_class class)
{
    return (c->hello.classes >> class & 1) != 0;
}

bool client_has_object(const struct client *c, enum mgmt_object object)
{
    return (c->hello.objects >> object & 1) != 0;
}

bool client_has_action(const struct client *c, enum mgmt_action action)
{
    return (c->hello.actions >> action & 1) != 0;
}

/* --- LIST ------------------------------------------------------------------------------------ */

static enum fault add_rows(struct client *c, enum mgmt_class class, struct client_rows *rows,
                           struct mgmt_list *list)
{
    if (c->answer_bytes < sizeof(*list)) {
        return nonsense(c, "a list without a head");
    }
    memcpy(list, c->answer, sizeof(*list));
    uint64_t bytes = (uint64_t)list->count * list->record_bytes;
    if (list->class != class || bytes > c->answer_bytes - sizeof(*list)) {
        return nonsense(c, "a list that is shorter than it says, or of another class");
    }
    if (list->count == 0) {
        return FAULT_NONE;
    }
    if (list->record_bytes == 0 ||
        (rows->record_bytes != 0 && list->record_bytes != rows->record_bytes)) {
        return nonsense(c, "records change their length");
    }
    rows->record_bytes = list->record_bytes;
    if (rows->count + list->count > LIST_MAX_RECORDS) {
        return nonsense(c, "a list without end");
    }
    size_t old = (size_t)rows->count * rows->record_bytes;
    uint8_t *bigger = realloc(rows->bytes, old + bytes);
    if (bigger == NULL) {
        return fault_say(FAULT_FAILED, "out of memory");
    }
    memcpy(bigger + old, c->answer + sizeof(*list), bytes);
    rows->bytes = bigger;
    rows->count += list->count;
    return FAULT_NONE;
}

enum fault client_list(struct client *c, enum mgmt_class class, struct client_rows *rows)
{
    struct mgmt_list_request request = {.class = (uint16_t) class};
    struct client_part part = {&request, sizeof(request)};
    struct mgmt_list list;

    memset(rows, 0, sizeof(*rows));
    for (uint32_t i = 0; i < LIST_MAX_REQUESTS; i++) {
        enum fault fault = client_ask(c, MGMT_OP_LIST, &part, 1);
        if (fault == FAULT_NONE) {
            fault = add_rows(c, class, rows, &list);
        }
        if (fault != FAULT_NONE || list.next == MGMT_LIST_END) {
            return fault;
        }
        if (list.next <= request.first) {
            return nonsense(c, "a list goes in circles");
        }
        request.first = list.next;
    }
    return nonsense(c, "a list without end");
}

void client_free(struct client_rows *rows)
{
    free(rows->bytes);
    memset(rows, 0, sizeof(*rows));
}

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
        return nonsense(c, "READ without a head");
    }
    memcpy(&head, c->answer, sizeof(head));
    bool is_good = head.object == object && head.data_bytes <= c->answer_bytes - sizeof(head) &&
                   head.offset <= UINT64_MAX - head.data_bytes &&
                   head.end >= head.offset + head.data_bytes &&
                   (head.data_bytes == 0 || head.offset >= offset);
    if (!is_good) {
        return nonsense(c, "READ contradicts itself");
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
        if (piece.len_bytes == 0) {
            break;
        }
        if (used == 0 || piece.offset != next) { /* a ring has overwritten what was read so far */
            used = 0;
            if (offset != NULL) {
                *offset = piece.offset;
            }
        }
        if (used + piece.len_bytes > max) {
            return nonsense(c, "an object without end");
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

/* What is done twice may harm, and an answer that does not come may be due to what was done: the
 * board is asked for its age before a request is sent again. */
enum fault client_act(struct client *c, enum mgmt_action action, const void *arguments,
                      uint32_t len_bytes)
{
    struct mgmt_action_request request = {.action = (uint16_t)action, .argument_bytes = len_bytes};
    struct client_part parts[] = {{&request, sizeof(request)}, {arguments, len_bytes}};
    struct mgmt_hello hello;
    enum fault fault = FAULT_NONE;

    for (uint32_t i = 0; i < TRIES; i++) {
        c->is_once = true;
        fault = client_ask(c, MGMT_OP_ACTION, parts, len_bytes == 0 ? 1 : 2);
        c->is_once = false;
        if (!c->is_silent) {
            return fault;
        }
        uint64_t before_ns = c->hello.uptime_ns;
        fault = say_hello(c, &hello);
        if (fault != FAULT_NONE) {
            fault_note("the board did answer before: it may be at work with this request still");
            return fault;
        }
        if (hello.uptime_ns < before_ns) {
            return fault_say(FAULT_FAILED, "%s: the board has restarted meanwhile, after %s",
                             c->transport->name, hello.reset_cause);
        }
        c->hello.uptime_ns = hello.uptime_ns;
    }
    return fault_say(FAULT_NO_DEVICE, "%s: the board answers other requests, but not this one",
                     c->transport->name);
}

enum fault client_run(struct client *c, const char *line,
                      void (*show)(void *ctx, const char *text, size_t len), void *ctx)
{
    struct client_piece piece = {.may_grow = true};
    uint64_t deadline_ms = transport_now_ms() + RUN_MAX_MS;
    uint64_t next = 0;

    if (strlen(line) >= 128) {
        return fault_say(FAULT_USAGE, "a command line of the console has at most 127 characters");
    }
    enum fault fault = client_act(c, MGMT_ACTION_RUN, line, (uint32_t)strlen(line));
    while (fault == FAULT_NONE && (piece.may_grow || next < piece.end)) {
        fault = client_read(c, MGMT_OBJECT_CONSOLE, 0, next, &piece);
        if (fault != FAULT_NONE) {
            break;
        }
        if (piece.len_bytes > 0) {
            if (piece.offset > next) {
                fault_note("%llu bytes of the output are lost",
                           (unsigned long long)(piece.offset - next));
            }
            show(ctx, (const char *)piece.bytes, piece.len_bytes);
            next = piece.offset + piece.len_bytes;
        } else if (!piece.may_grow) {
            break;
        } else if (transport_now_ms() > deadline_ms) {
            return fault_say(FAULT_FAILED, "the command has not ended after %u s",
                             RUN_MAX_MS / 1000);
        } else {
            pause_ms(BUSY_WAIT_MS);
        }
    }
    return fault;
}
