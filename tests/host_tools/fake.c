#include "tests/host_tools/fake.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "host_tools/snicctl/message.h"
#include "spec/mgmt.h"
#include "spec/mgmt_record.h"

#define OBJECT_ROOM (1u << 20)

struct fake {
    int fd;
    enum fake_mode mode;
    uint32_t request_count;
    uint32_t hello_count;
    bool is_started;
    bool is_kept; /* a request waits for an empty frame */
    uint8_t kept[MGMT_FRAME_BYTES];
    uint32_t kept_len;
    char console[4096]; /* what the last command has printed */
    uint32_t console_len;
    uint8_t written[OBJECT_ROOM];
    uint32_t written_len;
    uint8_t config[OBJECT_ROOM]; /* committed */
    uint32_t config_len;
    struct mgmt_update update;
    struct mgmt_slot slots[2];
    uint32_t trace_classes;
    uint8_t answer[8192];
    uint32_t answer_len; /* of the payload */
    uint16_t status;
};

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
};

const char *fake_mode_name(enum fake_mode mode)
{
    return mode < FAKE_MODE_COUNT ? names[mode] : NULL;
}

static void put(struct fake *f, const void *bytes, uint32_t len)
{
    memcpy(f->answer + sizeof(struct mgmt_head) + f->answer_len, bytes, len);
    f->answer_len += len;
}

static void refuse(struct fake *f, enum mgmt_status status, const char *text)
{
    f->status = (uint16_t)status;
    put(f, text, (uint32_t)strlen(text));
}

/* --- HELLO ----------------------------------------------------------------------------------- */

static void hello(struct fake *f)
{
    bool is_tenant = f->mode == FAKE_TENANT;
    struct mgmt_hello h = {
        .version = MGMT_VERSION,
        .min_version = MGMT_MIN_VERSION,
        .origin = is_tenant ? 0 : MGMT_ORIGIN_CONSOLE,
        .message_max = MGMT_FRAME_BYTES,
        .may = is_tenant ? 0 : MGMT_MAY_SEE_ALL | MGMT_MAY_CHANGE,
        .core_count = 2,
        .classes = is_tenant ? 0xe076 : 0xfffe,
        .objects = is_tenant ? 0 : 0x7e,
        .actions = is_tenant ? 0 : 0xfe,
        .uptime_ns = 61250000000,
        .function_count = 2,
        .boot_slot = 0,
        .board = "fake",
        .firmware = "0.1",
        .serial = "RACK7",
        .reset_cause = "power-on",
    };
    uint32_t len = sizeof(h);

    if (f->mode == FAKE_LIVE) { /* a second for each look */
        h.uptime_ns += UINT64_C(1000000000) * f->hello_count++;
        fake_advance();
    }
    if (f->mode == FAKE_NO_FLASH) {
        h.boot_slot = 0xff;
        h.classes &= ~(UINT64_C(1) << MGMT_CLASS_SLOT | UINT64_C(1) << MGMT_CLASS_UPDATE);
        h.actions = 0x1e;
        h.objects = 0x1e;
    } else if (f->mode == FAKE_OLD) {
        h.classes = 0x3fe; /* no ports, reactors, counters */
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
    put(f, &h, len);
    if (f->mode == FAKE_NEW) {
        put(f, "more than this tool knows", 25);
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
    } else if (class == MGMT_CLASS_SLOT) {
        records = f->slots;
    }
    bool is_base = class == MGMT_CLASS_FUNCTION || class == MGMT_CLASS_REACTOR ||
                   class == MGMT_CLASS_POLLER || class == MGMT_CLASS_STAT;
    if (f->mode == FAKE_EMPTY && !is_base) {
        *count = 0;
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
        refuse(f, MGMT_NOT_FOUND, "");
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
    put(f, &head, sizeof(head));
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
        put(f, record, shown + extra);
    }
}

/* --- READ, WRITE, ACTION --------------------------------------------------------------------- */

static void read_object(struct fake *f, const struct mgmt_read_request *request)
{
    uint32_t len = 0;
    const uint8_t *bytes = request->object == MGMT_OBJECT_CONSOLE ? (const uint8_t *)f->console
                           : request->object == MGMT_OBJECT_CONFIG
                               ? f->config
                               : fake_object(request->object, request->part, &len);
    len = request->object == MGMT_OBJECT_CONSOLE  ? f->console_len
          : request->object == MGMT_OBJECT_CONFIG ? f->config_len
                                                  : len;
    if (bytes == NULL) {
        refuse(f, MGMT_NOT_FOUND, "");
        return;
    }
    if (f->mode == FAKE_EMPTY) {
        len = 0;
    }
    struct mgmt_read head = {.object = request->object, .offset = request->offset, .end = len};
    if (request->offset < len) {
        head.data_bytes =
            len - (uint32_t)request->offset < 900 ? len - (uint32_t)request->offset : 900;
    }
    uint32_t told = head.data_bytes;
    if (f->mode == FAKE_HOSTILE_READ) {
        head.data_bytes = 0xfffffff0;
    }
    put(f, &head, sizeof(head));
    put(f, bytes + (told == 0 ? 0 : request->offset), told);
}

static void write_object(struct fake *f, const struct mgmt_write_request *request,
                         const uint8_t *bytes)
{
    if (request->offset + request->data_bytes > sizeof(f->written)) {
        refuse(f, MGMT_OUT_OF_RANGE, "");
        return;
    }
    memcpy(f->written + request->offset, bytes, request->data_bytes);
    if (request->offset == 0) {
        f->written_len = 0;
    }
    uint32_t end = (uint32_t)request->offset + request->data_bytes;
    f->written_len = end > f->written_len ? end : f->written_len;
    f->update.received_bytes = f->written_len;
}

static void commit_image(struct fake *f, const struct mgmt_commit *commit)
{
    uint32_t slot = commit->slot == 0xff ? 1 : commit->slot;

    if (f->mode == FAKE_REFUSES) {
        snprintf(f->update.fault, sizeof(f->update.fault), "is signed by another key");
        refuse(f, MGMT_REFUSED, "the image is signed by another key");
        return;
    }
    if (slot > 1) {
        refuse(f, MGMT_OUT_OF_RANGE, "slot");
        return;
    }
    if ((commit->actions & MGMT_COMMIT_REPLACE) != 0) {
        f->slots[slot].image_bytes = f->written_len;
        f->slots[slot].flags = 0;
        f->update = (struct mgmt_update){.received_bytes = f->written_len,
                                         .image_bytes = f->written_len,
                                         .done_bytes = 0,
                                         .is_busy = 1,
                                         .state = "writing"};
    }
    if ((commit->actions & MGMT_COMMIT_ACTIVATE) != 0) {
        f->slots[slot].flags |= MGMT_SLOT_TRIAL;
        f->slots[slot].attempts_left = 3;
    }
}

static void say(struct fake *f, const char *text)
{
    uint32_t len = (uint32_t)strlen(text);

    memcpy(f->console + f->console_len, text, len);
    f->console_len += len;
}

static void run_line(struct fake *f, const char *line)
{
    f->console_len = 0;
    if (strncmp(line, "ping ", 5) == 0) {
        say(f, "192.0.2.101: answered after 412 us\n");
    } else if (strncmp(line, "discover ", 9) == 0) {
        say(f, "nqn.2014-08.org.example:pool-a rdma 192.0.2.101 4420\n");
    } else if (strcmp(line, "status") == 0) {
        say(f, "uptime_ms 61250\nfn0.state READY\n");
    } else {
        say(f, "no command '");
        say(f, line);
        say(f, "'; try help\n");
    }
}

static void act(struct fake *f, const struct mgmt_action_request *request, const uint8_t *bytes)
{
    char line[256] = "";
    struct mgmt_commit commit = {0};
    struct mgmt_commit_config config = {0};

    switch (request->action) {
    case MGMT_ACTION_RUN:
        memcpy(line, bytes, request->argument_bytes);
        run_line(f, line);
        return;
    case MGMT_ACTION_TRACE:
        put(f, &f->trace_classes, sizeof(f->trace_classes));
        memcpy(&f->trace_classes, bytes, sizeof(f->trace_classes));
        return;
    case MGMT_ACTION_COMMIT_IMAGE:
        memcpy(&commit, bytes, sizeof(commit));
        commit_image(f, &commit);
        return;
    case MGMT_ACTION_COMMIT_CONFIG:
        memcpy(&config, bytes, sizeof(config));
        if (f->mode == FAKE_REFUSES) {
            refuse(f, MGMT_REFUSED,
                   "/volumes/v0/paths/path@0: subsystem: expected <&LABEL> of a "
                   "node in /subsystems");
        } else if (config.tree_bytes > f->written_len ||
                   config.crc != message_crc(0, f->written, config.tree_bytes)) {
            refuse(f, MGMT_REFUSED, "the tree is damaged");
        } else if (config.is_check == 0) {
            memcpy(f->config, f->written, config.tree_bytes);
            f->config_len = config.tree_bytes;
        }
        return;
    case MGMT_ACTION_CONFIRM:
    case MGMT_ACTION_RESET:
    case MGMT_ACTION_LOG_LEVEL:
        return;
    default:
        refuse(f, MGMT_NOT_FOUND, "");
    }
}

/* --- messages -------------------------------------------------------------------------------- */

static bool is_allowed(const struct fake *f, const struct mgmt_head *head, const uint8_t *payload)
{
    uint16_t first;

    memcpy(&first, payload, sizeof(first));
    if (f->mode != FAKE_HUNG || head->op == MGMT_OP_HELLO) {
        return true;
    }
    bool is_state =
        head->op == MGMT_OP_LIST &&
        (first <= MGMT_CLASS_QUEUE || (first >= MGMT_CLASS_REACTOR && first <= MGMT_CLASS_SLOT));
    return is_state || (head->op == MGMT_OP_READ && first <= MGMT_OBJECT_CRASH);
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
        refuse(f, MGMT_BAD_MESSAGE, "");
        send_answer(f, head);
        return;
    }
    memcpy(payload, message + sizeof(head), head.payload_bytes);
    if (f->mode == FAKE_BUSY && f->request_count % 3 == 0) {
        refuse(f, MGMT_BUSY, "");
    } else if (!is_allowed(f, &head, payload)) {
        refuse(f, MGMT_HUNG, "");
    } else if (head.op == MGMT_OP_HELLO) {
        hello(f);
    } else if (head.op == MGMT_OP_LIST) {
        list(f, (const struct mgmt_list_request *)(const void *)payload);
    } else if (head.op == MGMT_OP_READ) {
        read_object(f, (const struct mgmt_read_request *)(const void *)payload);
    } else if (head.op == MGMT_OP_WRITE) {
        write_object(f, (const struct mgmt_write_request *)(const void *)payload, payload + 16);
    } else if (head.op == MGMT_OP_ACTION) {
        act(f, (const struct mgmt_action_request *)(const void *)payload, payload + 8);
    } else {
        refuse(f, MGMT_UNKNOWN_OP, "");
    }
    send_answer(f, head);
}

static void take(struct fake *f, const struct message_scan *scan)
{
    uint8_t message[MGMT_FRAME_BYTES + 8];
    size_t len = 0;

    if (f->update.is_busy != 0) { /* a piece is written between two questions */
        f->update.done_bytes += f->update.image_bytes / 4 + 1;
        if (f->update.done_bytes >= f->update.image_bytes) {
            f->update.done_bytes = f->update.image_bytes;
            f->update.is_busy = 0;
            memcpy(f->update.state, "idle", 5);
        }
    }
    if (!message_base64(scan->text, scan->chars, message, sizeof(message), &len)) {
        return;
    }
    f->request_count++;
    if (f->mode == FAKE_SILENT || (f->mode == FAKE_LOSSY && f->request_count % 3 == 1)) {
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
    }
    while ((len = read(fd, input, sizeof(input))) > 0) {
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
