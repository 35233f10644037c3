#include "tests/host_tools/fake_priv.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "host_tools/snicctl/message.h"
#include "spec/crash.h"

static const char *const names[] = {
    [FAKE_GOOD] = "good",
    [FAKE_EMPTY] = "empty",
    [FAKE_OLD] = "old",
    [FAKE_NEW] = "new",
    [FAKE_TOO_NEW] = "too-new",
    [FAKE_TOO_OLD] = "too-old",
    [FAKE_HUNG] = "hung",
    [FAKE_TENANT] = "tenant",
    [FAKE_BUSY] = "busy",
    [FAKE_NOISY] = "noisy",
    [FAKE_LOSSY] = "lossy",
    [FAKE_NO_FLASH] = "no-flash",
    [FAKE_REFUSES] = "refuses",
    [FAKE_HOSTILE_SHORT] = "hostile-short",
    [FAKE_HOSTILE_CRC] = "hostile-crc",
    [FAKE_HOSTILE_LOOP] = "hostile-loop",
    [FAKE_HOSTILE_ENDLESS] = "hostile-endless",
    [FAKE_HOSTILE_TEXT] = "hostile-text",
    [FAKE_HOSTILE_READ] = "hostile-read",
    [FAKE_LIVE] = "live",
    [FAKE_SILENT] = "silent",
    [FAKE_WORN] = "worn",
    [FAKE_TRIAL] = "trial",
    [FAKE_TRIAL_KEPT] = "trial-kept",
    [FAKE_TRIAL_STICKS] = "trial-sticks",
    [FAKE_DIES_CONFIRMING] = "dies-confirming",
    [FAKE_DIES_CHECKING] = "dies-checking",
    [FAKE_NO_UPDATE] = "no-update",
    [FAKE_CUTS] = "cuts",
    [FAKE_LATE] = "late",
    [FAKE_NEVER_RESETS] = "never-resets",
    [FAKE_CRASH_LOOP] = "crash-loop",
    [FAKE_BARE_TRACE] = "bare-trace",
    [FAKE_TRIAL_FAILS] = "trial-fails",
    [FAKE_STAYS_AWAY] = "stays-away",
    [FAKE_RESTARTS] = "restarts",
    [FAKE_HOSTILE_CRAWL] = "hostile-crawl",
};

const char *fake_mode_name(enum fake_mode mode)
{
    return mode < FAKE_MODE_COUNT ? names[mode] : NULL;
}

void fake_put(struct fake *f, const void *bytes, uint32_t len)
{
    memcpy(f->answer + sizeof(struct mgmt_head) + f->answer_len, bytes, len);
    f->answer_len += len;
}

void fake_refuse(struct fake *f, enum mgmt_status status, const char *text)
{
    f->status = (uint16_t)status;
    fake_put(f, text, (uint32_t)strlen(text));
}

#define LOG_LOOKS 4u
#define LOOKS     8u /* at most, of who follows a board that ends */
#define YOUNG_MS  200u

/* --- HELLO ----------------------------------------------------------------------------------- */

#define CLASS_BIT(class)   (UINT64_C(1) << MGMT_CLASS_##class)
#define OBJECT_BIT(object) (1u << MGMT_OBJECT_##object)

/* As firmware/mgmt/mgmt.c and firmware/app/mgmt.c have them. */
#define HANG_SAFE_CLASSES                                                              \
    (CLASS_BIT(FUNCTION) | CLASS_BIT(QUEUE) | CLASS_BIT(REACTOR) | CLASS_BIT(POLLER) | \
     CLASS_BIT(STAT) | CLASS_BIT(SLOT))
#define HANG_SAFE_OBJECTS (OBJECT_BIT(LOG) | OBJECT_BIT(TRACE) | OBJECT_BIT(CRASH))
#define TENANT_CLASSES                                                                   \
    (CLASS_BIT(FUNCTION) | CLASS_BIT(QUEUE) | CLASS_BIT(NAMESPACE) | CLASS_BIT(VOLUME) | \
     CLASS_BIT(PATH) | CLASS_BIT(ASSOCIATION) | CLASS_BIT(STAT) | CLASS_BIT(SLOT) |      \
     CLASS_BIT(UPDATE))
#define ALL_CLASSES UINT64_C(0xfffe)

uint64_t fake_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t uptime(struct fake *f)
{
    if (f->mode == FAKE_LIVE) { /* a second for each look */
        fake_advance();
        return UINT64_C(61250000000) + UINT64_C(1000000000) * f->hello_count;
    }
    if (f->mode == FAKE_RESTARTS && f->hello_count >= 3 && !f->is_restarted) {
        fake_restart(f, 0);
    }
    uint64_t now_ms = fake_now_ms();
    uint64_t age_ms = now_ms > f->start_ms ? now_ms - f->start_ms : 0;
    return f->start_ms != 0 ? UINT64_C(1000000) * age_ms : UINT64_C(61250000000);
}

/* What is allowed from here, and now. */
static void hello_masks(const struct fake *f, struct mgmt_hello *h)
{
    bool is_tenant = f->mode == FAKE_TENANT;
    bool is_hung = f->mode == FAKE_HUNG;

    h->may = is_tenant ? 0 : MGMT_MAY_SEE_ALL | MGMT_MAY_CHANGE;
    h->classes = is_tenant ? TENANT_CLASSES : is_hung ? HANG_SAFE_CLASSES : ALL_CLASSES;
    h->objects = is_tenant ? 0 : is_hung ? HANG_SAFE_OBJECTS : 0x7e;
    h->actions = is_tenant || is_hung ? 0 : 0x1fe;
}

static void hello(struct fake *f)
{
    uint32_t running = fake_running(f);
    struct mgmt_hello h = {
        .version = MGMT_VERSION,
        .min_version = MGMT_MIN_VERSION,
        .origin = f->mode == FAKE_TENANT ? 0 : MGMT_ORIGIN_CONSOLE,
        .message_max = MGMT_FRAME_BYTES,
        .core_count = 2,
        .uptime_ns = uptime(f),
        .function_count = 2,
        .boot_slot = (uint8_t)running,
        .is_trial = (f->slots[running].flags & MGMT_SLOT_TRIAL) != 0,
        .board = "fake",
        .serial = "RACK7",
        .reset_cause = "power-on",
    };
    uint32_t len = sizeof(h);

    hello_masks(f, &h);
    memcpy(h.firmware, f->slots[running].version, sizeof(h.firmware));
    if (f->is_restarted) {
        memcpy(h.reset_cause, "warm reset", 11);
    }
    if (f->trial_looks > 0 && --f->trial_looks == 0) {
        fake_confirm(f);
    }
    f->hello_count++;
    if (f->mode == FAKE_NO_FLASH) {
        h.boot_slot = 0xff;
    } else if (f->mode == FAKE_OLD) {
        h.classes = 0x3fe; /* no ports, reactors, counters */
        h.actions = 0x7e;  /* no configuration */
        len = 136;
    } else if (f->mode == FAKE_NEW) {
        h.version = 9;
    } else if (f->mode == FAKE_TOO_NEW) {
        h.version = 9;
        h.min_version = 8;
        memcpy(h.firmware, "7.3", 4);
    } else if (f->mode == FAKE_TOO_OLD) {
        h.version = 0;
        h.min_version = 0;
    } else if (f->mode == FAKE_HOSTILE_TEXT) {
        memset(h.board, 0x1b, sizeof(h.board));
        memcpy(h.firmware, "\"\\\n\t</x>\xff\xc3", 10);
    }
    fake_put(f, &h, len);
    if (f->mode == FAKE_NEW) {
        fake_put(f, "more than this tool knows", 25);
    }
}

/* --- LIST ------------------------------------------------------------------------------------ */

/* Every text of the record becomes something that a terminal or a parser would mind. */
static void spoil(uint8_t *record, uint32_t class, uint32_t len)
{
    static const char evil[] = "\033]0;owned\007\033[2J\"\\\r\n<\xff\xe2\x80\xae&";
    static const uint32_t at[][2] = {/* offset and room of the first text */
                                     [MGMT_CLASS_DRIVE] = {8, 48},
                                     [MGMT_CLASS_VOLUME] = {40, 48},
                                     [MGMT_CLASS_PATH] = {16, 200},
                                     [MGMT_CLASS_STAT] = {0, 22},
                                     [MGMT_CLASS_FUNCTION] = {128, 352}};

    if (class < sizeof(at) / sizeof(at[0]) && at[class][1] != 0) {
        for (uint32_t i = 0; i < at[class][1] && at[class][0] + i < len; i++) {
            record[at[class][0] + i] = (uint8_t)evil[i % (sizeof(evil) - 1)];
        }
    }
}

static const void *records_of(struct fake *f, uint32_t class, uint32_t *count, uint32_t *bytes)
{
    const void *records = fake_records(class, count, bytes);

    if (class == MGMT_CLASS_UPDATE) {
        records = &f->update;
        *count = f->mode == FAKE_NO_UPDATE ? 0 : *count;
    } else if (class == MGMT_CLASS_SLOT) {
        records = f->slots;
    }
    bool is_base = class == MGMT_CLASS_FUNCTION || class == MGMT_CLASS_REACTOR ||
                   class == MGMT_CLASS_POLLER || class == MGMT_CLASS_STAT;
    bool is_of_flash = class == MGMT_CLASS_SLOT || class == MGMT_CLASS_UPDATE;
    bool is_hidden = f->mode == FAKE_TENANT && (TENANT_CLASSES >> class & 1) == 0;
    if ((f->mode == FAKE_EMPTY && !is_base) || (f->mode == FAKE_NO_FLASH && is_of_flash) ||
        is_hidden) {
        *count = 0;
    }
    if (f->mode == FAKE_TENANT && class == MGMT_CLASS_FUNCTION) { /* its own alone */
        *count = 1;
    } else if (f->mode == FAKE_TENANT && class == MGMT_CLASS_STAT) {
        *count = 2;
    }
    return records;
}

static void list(struct fake *f, const struct mgmt_list_request *request)
{
    uint32_t count = 0;
    uint32_t bytes = 0;
    const uint8_t *records = records_of(f, request->class, &count, &bytes);
    struct mgmt_list head = {.class = request->class, .next = MGMT_LIST_END};

    if (records == NULL) {
        fake_refuse(f, MGMT_NOT_FOUND, "");
        return;
    }
    uint32_t extra = f->mode == FAKE_NEW ? 24 : 0;
    uint32_t shown = f->mode == FAKE_OLD && bytes > 48 ? bytes - 40 : bytes;
    uint32_t room = (MGMT_FRAME_BYTES - 40) / (shown + extra);
    uint32_t index = request->first / 2; /* holes: only even indices have records */
    head.record_bytes = (uint16_t)(shown + extra);
    if (request->first % 2 == 0 && index < count) {
        head.count = count - index < room ? count - index : room;
        index += head.count;
        head.next = index < count ? index * 2 - 1 : MGMT_LIST_END; /* an empty page comes next */
    } else if (request->first % 2 == 1) {
        head.next = request->first + 1;
        index = count;
    }
    if (f->mode == FAKE_HOSTILE_LOOP) {
        head.next = request->first;
    } else if (f->mode == FAKE_HOSTILE_ENDLESS) {
        head.next = request->first + 2;
        head.count = head.count == 0 ? 1 : head.count;
        index = head.count;
    }
    uint32_t told = head.count;
    if (f->mode == FAKE_HOSTILE_SHORT) {
        head.count += 1000;
    }
    fake_put(f, &head, sizeof(head));
    for (uint32_t i = 0; i < told; i++) {
        uint8_t record[1024] = {0};
        memcpy(record, records + (size_t)(index - told + i) * bytes, bytes);
        memset(record + bytes, 0xee, extra);
        if (f->mode == FAKE_HOSTILE_TEXT) {
            spoil(record, request->class, bytes);
        }
        if (f->mode == FAKE_HUNG && request->class == MGMT_CLASS_REACTOR && i == 0) {
            struct mgmt_reactor *r = (struct mgmt_reactor *)(void *)record;
            r->turn_age_ns = 14500000000;
            memcpy(r->running, "console", 8);
        }
        fake_put(f, record, shown + extra);
    }
}

/* --- READ ------------------------------------------------------------------------------------ */

/* One byte at a time, for ever. */
static void crawl(struct fake *f, const struct mgmt_read_request *request)
{
    struct mgmt_read head = {.object = request->object,
                             .flags = MGMT_READ_GROWS,
                             .data_bytes = 1,
                             .offset = request->offset,
                             .end = UINT64_C(1) << 40};

    fake_put(f, &head, sizeof(head));
    fake_put(f, "x", 1);
}

/* A record whose text would drive the terminal and does not end; its checksum is wrong then. */
static const uint8_t *hostile_crash(uint32_t *len)
{
    static struct crash_record crash;

    memcpy(&crash, fake_object(MGMT_OBJECT_CRASH, 0, len), sizeof(crash));
    for (size_t i = 0; i < sizeof(crash.text); i++) {
        crash.text[i] = "\033]0;owned\007\033[2J"[i % 14];
    }
    crash.frame_count = UINT32_MAX;
    return (const uint8_t *)&crash;
}

static const uint8_t *object_of(const struct fake *f, const struct mgmt_read_request *request,
                                uint32_t *len)
{
    static const char after[] = "[    0.000010] boot: fake, warm reset\n";

    switch (request->object) {
    case MGMT_OBJECT_CONSOLE:
        *len = f->console_len;
        return (const uint8_t *)f->console;
    case MGMT_OBJECT_CONFIG:
        *len = f->config_len;
        return f->config;
    case MGMT_OBJECT_CRASH:
        if (f->mode == FAKE_HOSTILE_TEXT) {
            return hostile_crash(len);
        }
        break;
    case MGMT_OBJECT_TRACE:
        return f->mode == FAKE_OLD          ? fake_old_trace(request->part, len)
               : f->mode == FAKE_BARE_TRACE ? fake_bare_trace(request->part, len)
                                            : fake_trace(request->part, len);
    case MGMT_OBJECT_LOG:
        if (f->is_restarted) {
            *len = sizeof(after) - 1;
            return (const uint8_t *)after;
        }
        break;
    default:
        break;
    }
    return fake_object(request->object, request->part, len);
}

static void read_object(struct fake *f, const struct mgmt_read_request *request)
{
    uint32_t len = 0;
    const uint8_t *bytes = object_of(f, request, &len);

    if (request->object == MGMT_OBJECT_IMAGE) {
        fake_refuse(f, MGMT_UNSUPPORTED, "");
        return;
    }
    if (bytes == NULL) {
        fake_refuse(f, MGMT_NOT_FOUND, "");
        return;
    }
    if (f->mode == FAKE_HOSTILE_CRAWL) {
        crawl(f, request);
        return;
    }
    if (f->mode == FAKE_EMPTY) {
        len = 0;
    }
    bool is_ring = request->object == MGMT_OBJECT_LOG || request->object == MGMT_OBJECT_TRACE;
    struct mgmt_read head = {.object = request->object,
                             .flags = is_ring ? MGMT_READ_GROWS : 0,
                             .offset = request->offset < len ? request->offset : len,
                             .end = len};
    head.data_bytes = len - (uint32_t)head.offset < 900 ? len - (uint32_t)head.offset : 900;
    uint32_t told = head.data_bytes;
    if (f->mode == FAKE_HOSTILE_READ) {
        head.data_bytes = 0xfffffff0;
    }
    fake_put(f, &head, sizeof(head));
    fake_put(f, bytes + head.offset, told);
}

/* --- messages -------------------------------------------------------------------------------- */

/* MGMT_OK: it may be served. */
static enum mgmt_status guard(const struct fake *f, const struct mgmt_head *head,
                              const uint8_t *payload)
{
    bool is_list = head->op == MGMT_OP_LIST;
    uint16_t first;

    memcpy(&first, payload, sizeof(first));
    if (head->op == MGMT_OP_HELLO) {
        return MGMT_OK;
    }
    if (f->mode == FAKE_TENANT && !is_list) {
        return MGMT_NOT_ALLOWED;
    }
    if (f->mode != FAKE_HUNG) {
        return MGMT_OK;
    }
    bool is_safe = is_list ? (HANG_SAFE_CLASSES >> first & 1) != 0
                           : head->op == MGMT_OP_READ && (HANG_SAFE_OBJECTS >> first & 1) != 0;
    return is_safe ? MGMT_OK : MGMT_HUNG;
}

static void send_answer(struct fake *f, struct mgmt_head head)
{
    char frame[12288];

    head.version = MGMT_VERSION;
    head.status = f->status;
    head.flags = MGMT_FLAG_RESPONSE | (f->mode == FAKE_HUNG ? MGMT_FLAG_HUNG : 0);
    memcpy(f->answer, &head, sizeof(head));
    uint32_t len = message_seal(f->answer, f->answer_len);
    if (f->mode == FAKE_HOSTILE_CRC) {
        f->answer[20] ^= 1;
    }
    uint32_t chars = message_frame(f->answer, len, frame);
    if (f->mode ==
        FAKE_NOISY) { /* a frame cut by text, one of an older request, then the good one */
        char stale[12288];
        dprintf(f->fd, "[  1.0] app: a line\r\n\001AAAA\001%.40s\r\ntext \001!!!!\n", frame + 1);
        head.tag ^= 0x80;
        memcpy(f->answer, &head, sizeof(head));
        message_seal(f->answer, f->answer_len);
        uint32_t stale_chars = message_frame(f->answer, len, stale);
        chars += write(f->fd, stale, stale_chars) < 0 ? 0 : 0;
    }
    if (write(f->fd, frame, chars) < 0) {
        f->mode = FAKE_SILENT;
    }
}

static void answer(struct fake *f, const uint8_t *message, uint32_t len)
{
    uint8_t payload[MGMT_FRAME_BYTES + 64] = {0};
    struct mgmt_head head;

    f->answer_len = 0;
    f->status = MGMT_OK;
    if (message_check(message, len, &head) != MESSAGE_OK) {
        head.tag = 0;
        fake_refuse(f, MGMT_BAD_MESSAGE, "");
        send_answer(f, head);
        return;
    }
    memcpy(payload, message + sizeof(head), head.payload_bytes);
    enum mgmt_status status = guard(f, &head, payload);
    if (f->mode == FAKE_BUSY && f->request_count % 3 == 0) {
        fake_refuse(f, MGMT_BUSY, "");
    } else if (status != MGMT_OK) {
        fake_refuse(f, status, "");
    } else if (head.op == MGMT_OP_HELLO) {
        hello(f);
    } else if (head.op == MGMT_OP_LIST) {
        list(f, (const struct mgmt_list_request *)(const void *)payload);
    } else if (head.op == MGMT_OP_READ) {
        read_object(f, (const struct mgmt_read_request *)(const void *)payload);
    } else if (head.op == MGMT_OP_WRITE) {
        fake_write(f, (const struct mgmt_write_request *)(const void *)payload, payload + 16);
    } else if (head.op == MGMT_OP_ACTION) {
        fake_act(f, (const struct mgmt_action_request *)(const void *)payload, payload + 8);
    } else {
        fake_refuse(f, MGMT_UNKNOWN_OP, "");
    }
    send_answer(f, head);
}

/* This request is the last one of this run. */
static bool dies(struct fake *f, const uint8_t *message, uint32_t len)
{
    struct mgmt_head head;
    uint16_t what = 0;

    if (message_check(message, len, &head) != MESSAGE_OK || head.payload_bytes < sizeof(what)) {
        return false;
    }
    memcpy(&what, message + sizeof(head), sizeof(what));
    bool is_slots = head.op == MGMT_OP_LIST && what == MGMT_CLASS_SLOT;
    bool is_update = head.op == MGMT_OP_LIST && what == MGMT_CLASS_UPDATE;
    bool is_log = head.op == MGMT_OP_READ && what == MGMT_OBJECT_LOG;

    if (f->is_doomed && is_slots) {
        f->is_doomed = false;
        fake_fall_back(f);
        fake_restart(f, 1);
    } else if (f->mode == FAKE_DIES_CHECKING && is_update && f->update.is_busy != 0) {
        f->update = (struct mgmt_update){.state = "idle"};
        fake_restart(f, 1);
    } else if (f->mode == FAKE_CRASH_LOOP && is_log && ++f->log_count == LOG_LOOKS) {
        fake_restart(f, 4);
    } else {
        return false;
    }
    return true;
}

static void take(struct fake *f, const struct message_scan *scan)
{
    uint8_t message[MGMT_FRAME_BYTES + 8];
    size_t len = 0;

    fake_update_step(f);
    if (!message_base64(scan->text, scan->chars, message, sizeof(message), &len)) {
        return;
    }
    f->request_count++;
    if (f->away > 0) {
        f->away -= f->mode != FAKE_STAYS_AWAY;
        return;
    }
    if (f->mode == FAKE_SILENT || (f->mode == FAKE_LOSSY && f->request_count % 3 == 1)) {
        return;
    }
    if (dies(f, message, (uint32_t)len)) {
        return;
    }
    if (f->mode == FAKE_HUNG) {
        f->is_kept = true;
        f->kept_len = (uint32_t)len;
        memcpy(f->kept, message, len);
        return;
    }
    answer(f, message, (uint32_t)len);
}

/* Those of the mode, instead of the first that runs and the second that waits for nothing. */
static void prepare_slots(struct fake *f)
{
    if (f->mode == FAKE_TRIAL || f->mode == FAKE_TRIAL_KEPT || f->mode == FAKE_TRIAL_STICKS) {
        f->slots[0].flags = MGMT_SLOT_RUNNING | MGMT_SLOT_TRIAL;
        f->slots[0].attempts_left = 2;
        f->slots[1].flags = MGMT_SLOT_ACTIVE;
    } else if (f->mode == FAKE_HOSTILE_TEXT) {
        f->slots[1].flags = MGMT_SLOT_FAILED;
        memcpy(f->slots[1].version, "\nsnicctl: ok", 13);
    }
}

void fake_serve(int fd, enum fake_mode mode)
{
    static struct fake f;
    struct message_scan scan = {0};
    uint8_t input[4096];
    ssize_t len;
    uint32_t count;
    uint32_t bytes;

    f.fd = fd;
    if (!f.is_started || f.mode != mode) { /* what was written outlives the caller */
        memset(&f, 0, sizeof(f));
        f.fd = fd;
        f.mode = mode;
        f.is_started = true;
        memcpy(f.slots, fake_records(MGMT_CLASS_SLOT, &count, &bytes), sizeof(f.slots));
        memcpy(&f.update, fake_records(MGMT_CLASS_UPDATE, &count, &bytes), sizeof(f.update));
        prepare_slots(&f);
    }
    f.is_restarted = false;
    f.is_doomed = false;
    f.start_ms =
        mode == FAKE_DIES_CHECKING || mode == FAKE_CRASH_LOOP ? fake_now_ms() - YOUNG_MS : 0;
    f.log_count = 0;
    f.hello_count = 0;
    f.away = 0;
    while ((len = read(fd, input, sizeof(input))) > 0) {
        bool is_ending = mode == FAKE_RESTARTS || mode == FAKE_CRASH_LOOP;
        if (is_ending && f.hello_count > LOOKS) { /* that is enough */
            return;
        }
        for (ssize_t i = 0; i < len; i++) {
            bool was_open = scan.is_open;
            if (message_scan_byte(&scan, input[i])) {
                take(&f, &scan);
            } else if (was_open && !scan.is_open && f.is_kept) {
                f.is_kept = false;
                answer(&f, f.kept, f.kept_len);
            }
        }
    }
}
