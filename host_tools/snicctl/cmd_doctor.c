/*
 * `doctor`: looks at everything and says what is wrong and what to do.
 */
#include "command.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "text.h"

#define STUCK_NS      UINT64_C(5000000000) /* a command that old is worth a word */
#define LOSS_PERCENT  1u
#define GOOD_PATH_MTU 4096u
#define CC_EN         (1u << 0)
#define CSTS_RDY      (1u << 0)
#define CSTS_CFS      (1u << 1)
#define CSTS_SHST     (3u << 2)

enum verdict {
    GOOD,
    NOTE,    /* worth knowing */
    WARNING, /* works, but not as it should */
    BAD,     /* somebody is not served */
};

struct finding {
    enum verdict verdict;
    char what[200];
    char advice[200];
};

struct doctor {
    struct call *call;
    struct finding *findings;
    uint32_t count;
};

/* Advice that only the console may follow: a host cannot. */
static bool needs_console(const char *advice)
{
    static const char *const ways[] = {"snicctl log",   "snicctl trace",   "snicctl crash",
                                       "snicctl run",   "snicctl ping",    "snicctl discover",
                                       "snicctl reset", "snicctl confirm", "snicctl flash",
                                       "snicctl qps",   "snicctl reactors"};

    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        if (strstr(advice, ways[i]) != NULL) {
            return true;
        }
    }
    return false;
}

PRINTF_LIKE(4, 5)
static void find(struct doctor *d, enum verdict verdict, const char *advice, const char *format,
                 ...)
{
    struct finding *bigger = realloc(d->findings, (d->count + 1) * sizeof(*bigger));
    va_list args;

    if (bigger == NULL) {
        return;
    }
    d->findings = bigger;
    struct finding *f = &bigger[d->count++];
    f->verdict = verdict;
    bool is_tenant = (d->call->client->hello.may & MGMT_MAY_SEE_ALL) == 0;
    snprintf(f->advice, sizeof(f->advice), "%s%s",
             is_tenant && needs_console(advice) ? "over the board's console: " : "", advice);
    va_start(args, format);
    vsnprintf(f->what, sizeof(f->what), format, args);
    va_end(args);
}

/* Copies record `index`; what the firmware does not have is 0. */
static void get(const struct client_rows *rows, uint32_t index, void *record, size_t bytes)
{
    memset(record, 0, bytes);
    memcpy(record, rows->bytes + (size_t)index * rows->record_bytes,
           rows->record_bytes < bytes ? rows->record_bytes : bytes);
}

/* Texts of records need not end: printed with their room. */
#define TEXT(field) (int)text_len(field, sizeof(field)), field

static void check_board(struct doctor *d)
{
    const struct mgmt_hello *h = &d->call->client->hello;

    find(d, GOOD, "", "firmware %s on %s answers, messages %u to %u", h->firmware, h->board,
         h->min_version, h->version);
    if (h->version > MGMT_VERSION) {
        find(d, NOTE, "a newer snicctl shows more",
             "the firmware speaks newer messages than this "
             "tool");
    }
    if (d->call->client->is_hung) {
        find(d, BAD,
             "`snicctl reactors`, `snicctl trace` and `snicctl log` show where; its watchdog or a "
             "power cycle restarts it, messages cannot",
             "core 0 hangs: an interrupt handler answers in its place");
        find(d, NOTE, "when it turns again, or after a restart",
             "volumes, paths, associations, ports and drives cannot be seen while it hangs");
    }
    if (strstr(h->reset_cause, "panic") != NULL) {
        find(d, WARNING, "`snicctl crash --elf FILE` shows where", "the run before ended by a %s",
             h->reset_cause);
    }
    if (h->is_trial != 0) {
        find(d, WARNING, "`snicctl confirm` keeps it; a reset brings the old one back",
             "the firmware runs on trial");
    }
    if ((h->may & MGMT_MAY_SEE_ALL) == 0) {
        find(d, NOTE,
             "--console sees everything; so does a host, when the board's configuration has "
             "options { in-band = \"all\"; }",
             "a host sees its own function alone");
    }
    if (d->call->client->repeat_count > 0) {
        find(d, NOTE, "a line without flow control, or another tool at work",
             "%u requests had to be repeated", d->call->client->repeat_count);
    }
}

static void check_functions(struct doctor *d, const struct client_rows *rows)
{
    struct mgmt_function f;

    if (rows->count == 0) {
        find(d, BAD, "is the link to the host up? See `snicctl log`",
             "the board has no function, or shows none from here");
    }
    for (uint32_t i = 0; i < rows->count; i++) {
        get(rows, i, &f, sizeof(f));
        if ((f.csts & CSTS_CFS) != 0) {
            find(d, BAD, "the host has to reset it: `nvme reset` on the host",
                 "function %u: controller fatal status", f.fn);
        } else if ((f.flags & MGMT_FUNCTION_SERVING) == 0 && (f.cc & CC_EN) != 0) {
            find(d, WARNING, "it waits for drives and volumes, see options/serve-wait-ms",
                 "function %u: enabled by the host, not serving yet", f.fn);
        } else if ((f.cc & CC_EN) != 0 && (f.csts & CSTS_RDY) == 0) {
            find(d, WARNING, "wait; if it stays so: `snicctl log`", "function %u: %.*s", f.fn,
                 TEXT(f.state));
        } else if ((f.csts & CSTS_SHST) != 0) {
            find(d, NOTE, "the host uses it again after a reset of its driver",
                 "function %u: the host has shut it down", f.fn);
        } else if ((f.cc & CC_EN) == 0) {
            find(d, NOTE, "load the nvme driver on the host", "function %u: no host drives it",
                 f.fn);
        } else {
            find(d, GOOD, "", "function %u: %.*s, %u queues", f.fn, TEXT(f.state), f.sq_count);
        }
    }
}

static void check_queues(struct doctor *d, const struct client_rows *rows)
{
    struct mgmt_queue q;

    for (uint32_t i = 0; i < rows->count; i++) {
        char age[24];
        get(rows, i, &q, sizeof(q));
        text_ns(age, sizeof(age), q.oldest_ns);
        /* Event requests of an admin queue wait for as long as there is no event. */
        if (q.qid != 0 && q.oldest_ns != MGMT_UNKNOWN64 && q.oldest_ns > STUCK_NS) {
            find(d, WARNING, "`snicctl paths`: does its volume wait for a path?",
                 "function %u queue %u: the oldest of %u commands is %s old", q.fn, q.qid,
                 q.in_flight, age);
        }
        if (q.cq_held > 0) {
            find(d, WARNING, "the host does not take completions: is its driver stuck?",
                 "function %u queue %u: %u completions wait for room", q.fn, q.qid, q.cq_held);
        }
        if ((q.flags & MGMT_QUEUE_FAR) != 0) {
            find(d, NOTE, "the host has taken its memory away: bus mastering off, or IOMMU",
                 "function %u queue %u: its memory is out of reach", q.fn, q.qid);
        }
    }
}

static void check_namespaces(struct doctor *d, const struct client_rows *rows)
{
    if (rows->count == 0 && d->call->client->hello.function_count > 0) {
        find(d, NOTE,
             "`snicctl config set FILE` gives it volumes (docs/spec/config.md), `snicctl reset` "
             "starts with them",
             "no namespace: hosts see no drive");
    }
}

static void check_volumes(struct doctor *d, const struct client_rows *rows)
{
    struct mgmt_volume v;

    for (uint32_t i = 0; i < rows->count; i++) {
        char name[MGMT_NAME_BYTES + 1];
        get(rows, i, &v, sizeof(v));
        snprintf(name, sizeof(name), "%.*s", TEXT(v.name));
        if (name[0] == '\0') { /* an old firmware does not tell */
            snprintf(name, sizeof(name), "%u", v.index);
        }
        if ((v.flags & MGMT_VOLUME_READY) != 0) {
            find(d, GOOD, "", "volume %s: ready", name);
        } else if (v.state[0] == '\0' || strncmp(v.state, "attached", sizeof(v.state)) == 0) {
            find(d, BAD, "its paths below say why", "volume %s: no usable path, %u requests wait",
                 name, v.waiting);
        } else {
            find(d, NOTE, "`snicctl run volume attach NAME` brings it", "volume %s: %.*s", name,
                 TEXT(v.state));
        }
    }
}

static void check_paths(struct doctor *d, const struct client_rows *rows)
{
    struct mgmt_path p;

    for (uint32_t i = 0; i < rows->count; i++) {
        char why[MGMT_WHY_BYTES + 1];
        get(rows, i, &p, sizeof(p));
        snprintf(why, sizeof(why), "%.*s", TEXT(p.why));
        if (p.is_usable == 0) {
            find(d, WARNING, why[0] != '\0' ? why : "`snicctl associations` and `snicctl log`",
                 "path %u of volume %.*s: %.*s", p.index, TEXT(p.volume_name), TEXT(p.state));
        }
    }
}

static void check_associations(struct doctor *d, const struct client_rows *rows)
{
    struct mgmt_association a;

    for (uint32_t i = 0; i < rows->count; i++) {
        get(rows, i, &a, sizeof(a));
        if (strncmp(a.state, "LIVE", sizeof(a.state)) != 0) {
            find(d, WARNING, "`snicctl ping ADDRESS`, `snicctl discover ADDRESS`: does it answer?",
                 "subsystem %.*s at %.*s: %.*s, %u attempts: %.*s", TEXT(a.name), TEXT(a.address),
                 TEXT(a.state), a.attempt_count, TEXT(a.why));
        }
        if (a.timeout_count > 0) {
            find(d, WARNING, "the target is slow, or the fabric loses: `snicctl qps`",
                 "subsystem %.*s: %" PRIu64 " commands took too long", TEXT(a.name),
                 a.timeout_count);
        }
    }
}

static void check_ports(struct doctor *d, const struct client_rows *rows)
{
    struct mgmt_port p;

    for (uint32_t i = 0; i < rows->count; i++) {
        get(rows, i, &p, sizeof(p));
        if ((p.flags & MGMT_PORT_LINK_UP) == 0) {
            find(d, BAD, "cable, switch", "port %u: no link", p.index);
        } else if ((p.flags & MGMT_PORT_UP) == 0) {
            find(d, WARNING, "`snicctl log` says why", "port %u: not all of it has started",
                 p.index);
        } else {
            find(d, GOOD, "", "port %u: up, MTU %u", p.index, p.mtu);
        }
        if (p.path_mtu > 0 && p.path_mtu < GOOD_PATH_MTU) {
            find(d, NOTE, "mtu = <4200> on both sides and the switch makes it 4096",
                 "port %u: RDMA packets carry %u bytes", p.index, p.path_mtu);
        }
    }
}

static void check_qps(struct doctor *d, const struct client_rows *rows)
{
    struct mgmt_qp q;

    for (uint32_t i = 0; i < rows->count; i++) {
        get(rows, i, &q, sizeof(q));
        uint64_t sent = q.stats[0];
        uint64_t again = q.stats[4];
        if (sent > 1000 && again * 100 > sent * LOSS_PERCENT) {
            find(d, WARNING, "the fabric loses packets: PFC or ECN on the switch, cables",
                 "queue pair 0x%x to %.*s: %" PRIu64 " of %" PRIu64 " packets were sent again",
                 q.qpn, TEXT(q.peer), again, sent);
        }
    }
}

static void check_drives(struct doctor *d, const struct client_rows *rows)
{
    struct mgmt_drive v;

    for (uint32_t i = 0; i < rows->count; i++) {
        get(rows, i, &v, sizeof(v));
        bool is_ready = strncmp(v.state, "READY", sizeof(v.state)) == 0;
        find(d, is_ready ? GOOD : WARNING, is_ready ? "" : "`snicctl log` says more",
             "drive %u: %.*s", v.index, TEXT(v.state));
    }
}

static void check_slots(struct doctor *d, const struct client_rows *rows)
{
    struct mgmt_slot s;
    uint32_t images = 0;

    for (uint32_t i = 0; i < rows->count; i++) {
        get(rows, i, &s, sizeof(s));
        images += s.image_bytes > 0;
        if ((s.flags & MGMT_SLOT_FAILED) != 0) {
            find(d, WARNING, "flash a good one there", "slot %u: the trial of version %.*s failed",
                 s.slot, TEXT(s.version));
        }
    }
    if (rows->count == 0) {
        find(d, NOTE, "without it images and configurations cannot be updated",
             "no flash with slots for images, or the board was started without it");
    }
    if (rows->count > 1 && images < 2) {
        find(d, NOTE, "`snicctl flash IMAGE --no-activate` puts one there",
             "there is no second image to fall back to");
    }
}

/* Counters that count what should not happen. */
static void check_stats(struct doctor *d, const struct client_rows *rows)
{
    static const char *const names[] = {"errors", "doorbell_errors", "bad_addresses", "dropped",
                                        "resets", "bad_completions", "timeouts"};
    struct mgmt_stat s;

    for (uint32_t i = 0; i < rows->count; i++) {
        char name[sizeof(s.name) + 1];
        get(rows, i, &s, sizeof(s));
        snprintf(name, sizeof(name), "%.*s", TEXT(s.name));
        if (strncmp(s.group, "fn", sizeof(s.group)) == 0 && strcmp(name, "dropped") == 0) {
            continue; /* each reset by the host drops the event requests that wait */
        }
        for (uint32_t k = 0; k < ARRAY_SIZE(names); k++) {
            if (s.value > 0 && strcmp(name, names[k]) == 0) {
                char index[8] = "";
                if (s.index != MGMT_NONE16) {
                    snprintf(index, sizeof(index), "%u", s.index);
                }
                find(d, WARNING, "`snicctl log`, `snicctl trace --event BAD_COMMAND`",
                     "%.*s%s.%s is %" PRIu64, TEXT(s.group), index, name, s.value);
            }
        }
    }
}

static const struct {
    enum mgmt_class class;
    void (*check)(struct doctor *d, const struct client_rows *rows);
} checks[] = {
    {MGMT_CLASS_FUNCTION, check_functions},   {MGMT_CLASS_QUEUE, check_queues},
    {MGMT_CLASS_PORT, check_ports},           {MGMT_CLASS_ASSOCIATION, check_associations},
    {MGMT_CLASS_NAMESPACE, check_namespaces}, {MGMT_CLASS_VOLUME, check_volumes},
    {MGMT_CLASS_PATH, check_paths},           {MGMT_CLASS_QP, check_qps},
    {MGMT_CLASS_DRIVE, check_drives},         {MGMT_CLASS_SLOT, check_slots},
    {MGMT_CLASS_STAT, check_stats},
};

static const char *const words[] = {
    [GOOD] = "ok", [NOTE] = "note", [WARNING] = "warning", [BAD] = "failed"};

static void show_text(struct doctor *d)
{
    FILE *out = d->call->out;

    for (uint32_t i = 0; i < d->count; i++) {
        const struct finding *f = &d->findings[i];
        fprintf(out, "%-8s ", words[f->verdict]);
        text_put(out, f->what, strlen(f->what), false);
        if (f->advice[0] != '\0') {
            fprintf(out, "\n%-8s   -> ", "");
            text_put(out, f->advice, strlen(f->advice), false);
        }
        fputc('\n', out);
    }
}

static void show_json(struct doctor *d)
{
    struct json json;

    reply_start(d->call, &json);
    json_open(&json, "findings", '[');
    for (uint32_t i = 0; i < d->count; i++) {
        const struct finding *f = &d->findings[i];
        json_open_flat(&json, NULL, '{');
        json_text(&json, "verdict", words[f->verdict]);
        json_text(&json, "what", f->what);
        json_text(&json, "advice", f->advice);
        json_close(&json, '}');
    }
    json_close(&json, ']');
    reply_end(&json);
}

enum fault cmd_doctor(struct call *call)
{
    struct doctor d = {.call = call};
    struct client_rows rows;
    uint32_t counts[BAD + 1] = {0};

    enum fault fault = args_done(call, 0, 0);
    if (fault == FAULT_NONE) {
        check_board(&d);
    }
    for (uint32_t i = 0; i < ARRAY_SIZE(checks) && fault == FAULT_NONE; i++) {
        fault = list_if_there(call, checks[i].class, &rows);
        if (fault == FAULT_NONE && client_has_class(call->client, checks[i].class) &&
            call->client->status == MGMT_OK) {
            checks[i].check(&d, &rows);
        }
        client_free(&rows);
    }
    if (fault == FAULT_NONE) {
        for (uint32_t i = 0; i < d.count; i++) {
            counts[d.findings[i].verdict]++;
        }
        if (call->options->is_json) {
            show_json(&d);
        } else {
            show_text(&d);
            fprintf(call->out, "\n%u failed, %u warnings, %u notes\n", counts[BAD], counts[WARNING],
                    counts[NOTE]);
        }
        fault = counts[BAD] > 0 ? FAULT_FAILED : FAULT_NONE;
    }
    free(d.findings);
    return fault;
}
