#include "client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ANSWER_WAIT_MS 800u /* the document says 500: emulated boards are slow */
#define TRIES          5u
#define BUSY_WAIT_MS   10u
#define HUNG_TRIES     3u /* a board that is only slow */
/* What a sane board has at most; a board that is not shall end. */
#define LIST_MAX_RECORDS  262144u
#define LIST_MAX_REQUESTS 4096u
/* An answer of a hung core may be due to a short stop: asked again before it is believed. */
#define HELLO_TRIES   3u
#define HELLO_WAIT_MS 100u
#define NS_PER_MILLI  1000000u

void client_pause_ms(uint32_t ms)
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

/* Keeps the answer to an action for client_act(). */
static void take_late(struct client *c, const struct mgmt_head *head, const uint8_t *message)
{
    if (c->late_tag != 0 && head->tag == c->late_tag && head->op == MGMT_OP_ACTION &&
        (head->flags & MGMT_FLAG_RESPONSE) != 0) {
        c->is_late = true;
        c->late_status = head->status;
        c->late_bytes = head->payload_bytes;
        memcpy(c->late, message + sizeof(*head), head->payload_bytes);
    }
}

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
        bool is_good = message_check(message, len, head) == MESSAGE_OK;
        bool is_ours = is_good && head->tag == c->tag && head->op == op &&
                       (head->flags & MGMT_FLAG_RESPONSE) != 0;
        if (is_ours) {
            c->answer_bytes = head->payload_bytes;
            memcpy(c->answer, message + sizeof(*head), head->payload_bytes);
            return TRANSPORT_OK;
        }
        if (is_good) {
            take_late(c, head, message);
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

/* Both versions, and what to do. */
static enum fault version_fault(const struct client *c, const char *what, const char *advice)
{
    return fault_say(
        FAULT_VERSION,
        "%s: %s (firmware %.16s speaks messages %u to %u, this tool, " CLIENT_TOOL_VERSION
        ", %u to %u): %s",
        c->transport->name, what, c->hello.firmware, c->hello.min_version, c->hello.version,
        MGMT_MIN_VERSION, MGMT_VERSION, advice);
}

/* What the firmware says it has, but does not have now. */
static bool is_known_here(const struct client *c)
{
    switch (c->op) {
    case MGMT_OP_LIST:
        return client_has_class(c, (enum mgmt_class)c->what);
    case MGMT_OP_READ:
    case MGMT_OP_WRITE:
        return client_has_object(c, (enum mgmt_object)c->what);
    case MGMT_OP_ACTION:
        return client_has_action(c, (enum mgmt_action)c->what);
    default:
        return false;
    }
}

static bool is_about(const struct client *c, enum mgmt_object object, enum mgmt_action action)
{
    return c->op == MGMT_OP_ACTION ? c->what == (uint16_t)action
                                   : (c->op == MGMT_OP_WRITE && c->what == (uint16_t)object);
}

/* A status that means the same for everything, or that its request explains. */
static const char *meaning(const struct client *c)
{
    bool is_image = is_about(c, MGMT_OBJECT_IMAGE, MGMT_ACTION_COMMIT_IMAGE) ||
                    is_about(c, MGMT_OBJECT_IMAGE, MGMT_ACTION_CONFIRM);
    bool is_config = is_about(c, MGMT_OBJECT_CONFIG, MGMT_ACTION_COMMIT_CONFIG);

    switch (c->status) {
    case MGMT_HUNG:
        return CLIENT_HUNG_TEXT;
    case MGMT_NOT_ALLOWED:
        return CLIENT_TENANT_TEXT;
    case MGMT_BUSY:
        return is_image || is_config ? "another update is at work: try again when it has ended"
                                     : "busy with another request: try again";
    case MGMT_UNSUPPORTED:
        return is_image ? "this board has no flash for images, or was started without it"
               : is_config
                   ? "this board has no flash for a configuration, or was started without it"
                   : status_text(c->status);
    case MGMT_NOT_FOUND:
        return is_image ? "no image is there: none was sent, or the slot is empty"
                        : "the firmware has it, but not now";
    case MGMT_OK:
    case MGMT_BAD_MESSAGE:
    case MGMT_UNKNOWN_OP:
    case MGMT_OUT_OF_RANGE:
    case MGMT_OLD_FIRMWARE:
    case MGMT_OLD_TOOL:
    case MGMT_REFUSED:
    case MGMT_FAILED:
        break;
    }
    return status_text(c->status);
}

enum fault client_refusal(const struct client *c)
{
    const char *reason = client_reason(c);

    if (c->status == MGMT_OLD_FIRMWARE) {
        return version_fault(c, status_text(c->status),
                             "update the firmware, or use an older snicctl");
    }
    if (c->status == MGMT_OLD_TOOL) {
        return version_fault(c, status_text(c->status), "use a newer snicctl");
    }
    if (c->status == MGMT_UNKNOWN_OP || (c->status == MGMT_NOT_FOUND && !is_known_here(c))) {
        return version_fault(c, status_text(c->status), "update the firmware");
    }
    if (c->status == MGMT_REFUSED && reason[0] != '\0') {
        return fault_say(FAULT_FAILED, "%s: the board refuses it: %s", c->transport->name, reason);
    }
    return fault_say(c->status == MGMT_NOT_ALLOWED ? FAULT_PERMISSION : FAULT_FAILED, "%s: %s%s%s",
                     c->transport->name, meaning(c), reason[0] != '\0' ? ": " : "", reason);
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
    uint64_t deadline_ms = transport_now_ms() + c->busy_ms;
    uint32_t bytes = 0;
    uint32_t hung_count = 0;

    memcpy(message, &head, sizeof(head));
    for (uint32_t i = 0; i < part_count; i++) {
        memcpy(message + sizeof(head) + bytes, parts[i].bytes, parts[i].len_bytes);
        bytes += parts[i].len_bytes;
    }
    c->op = (uint8_t)op;
    c->what = 0;
    if (op != MGMT_OP_HELLO && bytes >= sizeof(c->what)) {
        memcpy(&c->what, message + sizeof(head), sizeof(c->what));
    }
    c->is_silent = false;
    c->status = MGMT_OK;
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
        client_pause_ms(BUSY_WAIT_MS);
    }
    if (c->status == MGMT_OK) {
        return FAULT_NONE;
    }
    return c->is_quiet ? FAULT_FAILED : client_refusal(c);
}

enum fault client_nonsense(const struct client *c, const char *what)
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
        return version_fault(
            c, status_text(is_old ? MGMT_OLD_FIRMWARE : MGMT_OLD_TOOL),
            is_old ? "update the firmware (`nvme fw-download`, `nvme fw-commit`), or use an older "
                     "snicctl"
                   : "use a newer snicctl");
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

enum fault client_hello(struct client *c, struct mgmt_hello *hello)
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
        return client_nonsense(c, "HELLO is too short");
    }
    memset(hello, 0, sizeof(*hello));
    memcpy(hello, c->answer, c->answer_bytes < sizeof(*hello) ? c->answer_bytes : sizeof(*hello));
    clean_texts(hello);
    c->seen_ms = transport_now_ms();
    return FAULT_NONE;
}

void client_count_restart(struct client *c, uint64_t age_ns, uint64_t seen_ms, uint64_t asked_ms)
{
    uint64_t passed_ms = asked_ms > seen_ms ? asked_ms - seen_ms : 0;

    c->restart_count +=
        c->hello.uptime_ns < age_ns || c->hello.uptime_ns / NS_PER_MILLI < passed_ms;
}

enum fault client_open(struct client *c, struct transport *transport)
{
    struct timespec now;

    memset(c, 0, sizeof(*c));
    clock_gettime(CLOCK_REALTIME, &now);
    c->transport = transport;
    c->version = MGMT_VERSION;
    c->busy_ms = CLIENT_BUSY_MS;
    c->patience_ms = CLIENT_PATIENCE_MS;
    c->tag = (uint32_t)now.tv_nsec ^ (uint32_t)now.tv_sec << 16; /* not those of a tool before */
    enum fault fault = client_hello(c, &c->hello);
    for (uint32_t i = 1; i < HELLO_TRIES && fault == FAULT_NONE && c->is_hung; i++) {
        client_pause_ms(HELLO_WAIT_MS);
        fault = client_hello(c, &c->hello);
    }
    if (fault == FAULT_NONE) {
        fault = check_versions(c);
    }
    if (fault != FAULT_NONE) {
        return fault;
    }
    if (c->hello.message_max < 256) {
        return client_nonsense(c, "its messages are too small");
    }
    if (c->hello.message_max < transport->message_max) {
        transport->message_max = c->hello.message_max;
    }
    return FAULT_NONE;
}

enum fault client_refresh(struct client *c)
{
    uint64_t age_ns = c->hello.uptime_ns;
    uint64_t seen_ms = c->seen_ms;
    uint64_t asked_ms = transport_now_ms();

    enum fault fault = client_hello(c, &c->hello);
    if (fault == FAULT_NONE) {
        client_count_restart(c, age_ns, seen_ms, asked_ms);
    }
    return fault;
}

/* What a host may see of a board that keeps it to its own function. */
#define BIT(class) (UINT64_C(1) << MGMT_CLASS_##class)
#define TENANT_CLASSES                                                                          \
    (BIT(FUNCTION) | BIT(QUEUE) | BIT(NAMESPACE) | BIT(VOLUME) | BIT(PATH) | BIT(ASSOCIATION) | \
     BIT(STAT) | BIT(SLOT) | BIT(UPDATE))

bool client_has_class(const struct client *c, enum mgmt_class class)
{
    bool is_tenant = (c->hello.may & MGMT_MAY_SEE_ALL) == 0;
    uint64_t classes = c->hello.classes & (is_tenant ? TENANT_CLASSES : UINT64_MAX);

    return (classes >> class & 1) != 0;
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
        return client_nonsense(c, "a list without a head");
    }
    memcpy(list, c->answer, sizeof(*list));
    uint64_t bytes = (uint64_t)list->count * list->record_bytes;
    if (list->class != class || bytes > c->answer_bytes - sizeof(*list)) {
        return client_nonsense(c, "a list that is shorter than it says, or of another class");
    }
    if (list->count == 0) {
        return FAULT_NONE;
    }
    if (list->record_bytes == 0 ||
        (rows->record_bytes != 0 && list->record_bytes != rows->record_bytes)) {
        return client_nonsense(c, "records change their length");
    }
    rows->record_bytes = list->record_bytes;
    if (rows->count + list->count > LIST_MAX_RECORDS) {
        return client_nonsense(c, "a list without end");
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
    uint64_t deadline_ms = transport_now_ms() + c->patience_ms;

    memset(rows, 0, sizeof(*rows));
    for (uint32_t i = 0; i < LIST_MAX_REQUESTS && transport_now_ms() < deadline_ms; i++) {
        enum fault fault = client_ask(c, MGMT_OP_LIST, &part, 1);
        if (fault == FAULT_NONE) {
            fault = add_rows(c, class, rows, &list);
        }
        if (fault != FAULT_NONE || list.next == MGMT_LIST_END) {
            return fault;
        }
        if (list.next <= request.first) {
            return client_nonsense(c, "a list goes in circles");
        }
        request.first = list.next;
    }
    return client_nonsense(c, "a list without end");
}

void client_free(struct client_rows *rows)
{
    free(rows->bytes);
    memset(rows, 0, sizeof(*rows));
}
