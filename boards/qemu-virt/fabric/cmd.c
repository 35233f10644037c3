/*
 * The commands. PORT is a port's name (nic.eth) or `all`, DIR is in, out or both.
 *
 *   status                      lines "name value"; those of a port begin with its name
 *   seed N                      the generator starts anew
 *   fault PORT DIR KEY=VALUE... changes these settings, leaves the others
 *   fault PORT DIR none         no fault any more; frames on their way go on
 *       only=all|roce           which frames are concerned (roce: UDP port 4791)
 *       loss=CHANCE             lost
 *       lose_next=N             the next N are lost
 *       corrupt=CHANCE          bits flipped; the wire's FCS would not tell, as in a faulty switch
 *       corrupt_bits=N          how many (1)
 *       ecn=CHANCE              Congestion Experienced, if the sender is ECN-capable
 *       dup=CHANCE              delivered twice
 *       reorder=CHANCE          held until reorder_frames=N (3) later ones have passed, or for
 *                               reorder_us=N (10000)
 *       delay_us=N              each frame, in order
 *     CHANCE is a percentage (0.5%) or a count per million (5000ppm).
 *   cut PORT                    nothing comes from or goes to the station
 *   cut PORT PORT               nothing passes between the two
 *   join PORT [PORT]            undoes it; `join all` undoes all
 *   capture PORT FILE           records into RUN_DIR/FILE, which may be read while it grows
 *   capture PORT stop           closes it
 *   zero                        counters
 *   quit
 */
#include "boards/qemu-virt/fabric/fabric.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "base/bits.h"

#define MAX_WORDS 16
#define HELP      "status, seed, fault, cut, join, capture, zero, quit"

struct command {
    struct fabric *f;
    char *words[MAX_WORDS];
    uint32_t count;
    char *answer;
    uint32_t answer_bytes;
    uint32_t used;
};

static void say(struct command *c, const char *format, ...) PRINTF_LIKE(2, 3);

static void say(struct command *c, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int len = vsnprintf(c->answer + c->used, c->answer_bytes - c->used, format, args);
    va_end(args);
    c->used = min_u32(c->used + (uint32_t)(len > 0 ? len : 0), c->answer_bytes - 1);
}

/* --- words ------------------------------------------------------------------------------------ */

static bool parse_number(const char *text, uint64_t max, uint64_t *value)
{
    char *end;

    errno = 0;
    *value = strtoull(text, &end, 0);
    return errno == 0 && end != text && *end == 0 && text[0] != '-' && *value <= max;
}

static bool parse_chance(const char *text, uint32_t *ppm)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || !(value >= 0)) {
        return false;
    }
    if (strcmp(end, "%") == 0) {
        value *= FABRIC_PPM / 100;
    } else if (strcmp(end, "ppm") != 0) {
        return false;
    }
    if (value > FABRIC_PPM) {
        return false;
    }
    *ppm = (uint32_t)(value + 0.5);
    return true;
}

/* The ports that a word names, a bit each; 0: none. */
static uint32_t find_ports(struct command *c, uint32_t word)
{
    if (word < c->count && strcmp(c->words[word], "all") == 0) {
        return (uint32_t)(BIT64(c->f->port_count) - 1);
    }
    uint32_t port = word < c->count ? fabric_find_port(c->f, c->words[word]) : FABRIC_PORTS;
    return port < FABRIC_PORTS ? BIT32(port) : 0;
}

static uint32_t find_dirs(const char *word)
{
    static const struct {
        const char *word;
        uint32_t dirs;
    } known[] = {{"in", BIT32(FABRIC_IN)},
                 {"out", BIT32(FABRIC_OUT)},
                 {"both", BIT32(FABRIC_IN) | BIT32(FABRIC_OUT)}};

    for (uint32_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (strcmp(word, known[i].word) == 0) {
            return known[i].dirs;
        }
    }
    return 0;
}

/* --- faults ----------------------------------------------------------------------------------- */

struct setting {
    const char *name;
    size_t offset;
    bool is_chance;
    uint32_t min;
    uint32_t max;
};

#define CHANCE(name)                                                 \
    {                                                                \
#name, offsetof(struct fabric_fault, name##_ppm), true, 0, 0 \
    }
#define NUMBER(name, min, max)                                      \
    {                                                               \
#name, offsetof(struct fabric_fault, name), false, min, max \
    }

static const struct setting settings[] = {
    CHANCE(loss),
    NUMBER(lose_next, 0, UINT32_MAX),
    CHANCE(corrupt),
    NUMBER(corrupt_bits, 1, FABRIC_CORRUPT_BITS),
    CHANCE(ecn),
    CHANCE(dup),
    CHANCE(reorder),
    NUMBER(reorder_frames, 1, FABRIC_REORDER_MAX),
    NUMBER(reorder_us, 1, FABRIC_DELAY_MAX_US),
    NUMBER(delay_us, 0, FABRIC_DELAY_MAX_US),
};

static uint32_t *field_of(struct fabric_fault *fault, const struct setting *setting)
{
    return (uint32_t *)(void *)((char *)fault + setting->offset);
}

static bool set_only(struct fabric_fault *fault, const char *value)
{
    bool roce = strcmp(value, "roce") == 0;

    fault->only = roce ? FABRIC_ONLY_ROCE : FABRIC_ONLY_ALL;
    return roce || strcmp(value, "all") == 0;
}

/* `word`: KEY=VALUE. */
static bool set_one(struct fabric_fault *fault, const char *word)
{
    const char *equals = strchr(word, '=');
    uint64_t number;

    if (equals == NULL) {
        return false;
    }
    size_t len = (size_t)(equals - word);
    if (len == strlen("only") && memcmp(word, "only", len) == 0) {
        return set_only(fault, equals + 1);
    }
    for (uint32_t i = 0; i < ARRAY_SIZE(settings); i++) {
        const struct setting *s = &settings[i];
        if (strlen(s->name) != len || memcmp(word, s->name, len) != 0) {
            continue;
        }
        if (s->is_chance) {
            return parse_chance(equals + 1, field_of(fault, s));
        }
        if (!parse_number(equals + 1, s->max, &number) || number < s->min) {
            return false;
        }
        *field_of(fault, s) = (uint32_t)number;
        return true;
    }
    return false;
}

/* A whole command takes effect, or none of it. */
static const char *change_fault(struct command *c, struct fabric_fault *fault, bool apply)
{
    struct fabric_fault changed = *fault;

    for (uint32_t i = 3; i < c->count; i++) {
        if (strcmp(c->words[i], "none") == 0) {
            fabric_fault_clear(&changed);
        } else if (!set_one(&changed, c->words[i])) {
            return "a setting is not known or out of range";
        }
    }
    if (apply) {
        *fault = changed;
    }
    return NULL;
}

static const char *cmd_fault(struct command *c)
{
    uint32_t ports = find_ports(c, 1);
    uint32_t dirs = c->count > 2 ? find_dirs(c->words[2]) : 0;

    if (ports == 0 || dirs == 0 || c->count < 4) {
        return "fault PORT|all in|out|both KEY=VALUE... or none";
    }
    for (uint32_t apply = 0; apply < 2; apply++) {
        for (uint32_t i = 0; i < FABRIC_DIRS * c->f->port_count; i++) {
            uint32_t port = i / FABRIC_DIRS;
            uint32_t dir = i % FABRIC_DIRS;
            if ((ports & BIT32(port)) == 0 || (dirs & BIT32(dir)) == 0) {
                continue;
            }
            const char *error = change_fault(c, &c->f->ports[port].stages[dir].fault, apply == 1);
            if (error != NULL) {
                return error;
            }
        }
    }
    return NULL;
}

/* --- status ----------------------------------------------------------------------------------- */

static void say_fault(struct command *c, const char *name, struct fabric_fault *fault)
{
    say(c, "%s.fault only=%s", name, fault->only == FABRIC_ONLY_ROCE ? "roce" : "all");
    for (uint32_t i = 0; i < ARRAY_SIZE(settings); i++) {
        say(c, " %s=%u%s", settings[i].name, (unsigned)*field_of(fault, &settings[i]),
            settings[i].is_chance ? "ppm" : "");
    }
    say(c, "\n");
}

static void say_number(struct command *c, const char *place, const char *name, uint64_t value)
{
    say(c, "%s.%s %llu\n", place, name, (unsigned long long)value);
}

static void say_dir(struct command *c, struct fabric_port *port, enum fabric_dir dir)
{
    const struct fabric_fault_stats *stats = &port->stages[dir].stats;
    char place[FABRIC_NAME_BYTES + 8];

    snprintf(place, sizeof(place), "%s.%s", port->name, dir == FABRIC_IN ? "in" : "out");
    say_number(c, place, "frames", port->stats.frames[dir]);
    say_number(c, place, "bytes", port->stats.bytes[dir]);
    say_number(c, place, "lost", stats->lost);
    say_number(c, place, "corrupted", stats->corrupted);
    say_number(c, place, "marked", stats->marked);
    say_number(c, place, "duplicated", stats->duplicated);
    say_number(c, place, "reordered", stats->reordered);
    say_number(c, place, "delayed", stats->delayed);
    say_fault(c, place, &port->stages[dir].fault);
}

static void say_port(struct command *c, struct fabric_port *port)
{
    const struct fabric_port_stats *stats = &port->stats;

    say_dir(c, port, FABRIC_IN);
    say_dir(c, port, FABRIC_OUT);
    say_number(c, port->name, "runts", stats->runts);
    say_number(c, port->name, "giants", stats->giants);
    say_number(c, port->name, "no_buffer", stats->no_buffer);
    say_number(c, port->name, "cut", stats->cut);
    say_number(c, port->name, "full", stats->full);
    say_number(c, port->name, "absent", stats->absent);
    say_number(c, port->name, "queued", port->tx.count);
    say(c, "%s.state %s\n", port->name, port->cut ? "cut" : "joined");
    say(c, "%s.capture %s\n", port->name, port->capture != NULL ? "on" : "off");
}

static const char *cmd_status(struct command *c)
{
    struct fabric *f = c->f;

    say(c, "seed %llu\naddresses %u\nbuffers_free %u\nports %u\n", (unsigned long long)f->seed,
        (unsigned)f->fdb.count, (unsigned)f->pool.free.count, (unsigned)f->port_count);
    for (uint32_t i = 0; i < f->port_count; i++) {
        say_port(c, &f->ports[i]);
    }
    return NULL;
}

static const char *cmd_zero(struct command *c)
{
    for (uint32_t i = 0; i < c->f->port_count; i++) {
        struct fabric_port *port = &c->f->ports[i];
        port->stats = (struct fabric_port_stats){.runts = 0};
        for (uint32_t dir = 0; dir < FABRIC_DIRS; dir++) {
            port->stages[dir].stats = (struct fabric_fault_stats){.lost = 0};
        }
    }
    return NULL;
}

/* --- the others ------------------------------------------------------------------------------- */

static const char *cmd_seed(struct command *c)
{
    uint64_t seed;

    if (c->count != 2 || !parse_number(c->words[1], UINT64_MAX, &seed)) {
        return "seed N";
    }
    c->f->seed = seed;
    fabric_seed(&c->f->rng, seed);
    return NULL;
}

static const char *set_cut(struct command *c, bool cut)
{
    uint32_t first = find_ports(c, 1);
    uint32_t second = find_ports(c, 2);
    bool pair = c->count == 3;

    if (c->count < 2 || c->count > 3 || first == 0 || (pair && second == 0)) {
        return "cut|join PORT [PORT]";
    }
    for (uint32_t i = 0; i < c->f->port_count; i++) {
        struct fabric_port *port = &c->f->ports[i];
        uint32_t others = (first & BIT32(i)) != 0 ? second : 0;
        others |= (second & BIT32(i)) != 0 ? first : 0;
        if (pair) {
            port->cut_from = cut ? port->cut_from | others : port->cut_from & ~others;
        } else if ((first & BIT32(i)) != 0) {
            port->cut = cut;
        }
        if (!pair && !cut && strcmp(c->words[1], "all") == 0) {
            port->cut_from = 0;
        }
    }
    return NULL;
}

static const char *cmd_cut(struct command *c)
{
    return set_cut(c, true);
}

static const char *cmd_join(struct command *c)
{
    return set_cut(c, false);
}

static const char *cmd_capture(struct command *c)
{
    uint32_t index = c->count == 3 ? fabric_find_port(c->f, c->words[1]) : FABRIC_PORTS;
    char path[FABRIC_PATH_BYTES + CTL_LINE_BYTES];

    if (index == FABRIC_PORTS) {
        return "capture PORT FILE|stop";
    }
    struct fabric_port *port = &c->f->ports[index];
    if (port->capture != NULL) {
        fclose(port->capture);
        port->capture = NULL;
    }
    if (strcmp(c->words[2], "stop") == 0) {
        return NULL;
    }
    bool absolute = c->words[2][0] == '/';
    snprintf(path, sizeof(path), "%s%s%s", absolute ? "" : c->f->dir, absolute ? "" : "/",
             c->words[2]);
    port->capture = fabric_pcap_open(path);
    return port->capture == NULL ? strerror(errno) : NULL;
}

static const char *cmd_quit(struct command *c)
{
    c->f->quit = true;
    return NULL;
}

static const char *run(struct command *c)
{
    static const struct {
        const char *word;
        const char *(*run)(struct command *c); /* NULL: ok; else what is wrong */
    } commands[] = {
        {"status", cmd_status}, {"seed", cmd_seed},       {"fault", cmd_fault}, {"cut", cmd_cut},
        {"join", cmd_join},     {"capture", cmd_capture}, {"zero", cmd_zero},   {"quit", cmd_quit},
    };

    for (uint32_t i = 0; c->count > 0 && i < ARRAY_SIZE(commands); i++) {
        if (strcmp(c->words[0], commands[i].word) == 0) {
            return commands[i].run(c);
        }
    }
    return HELP;
}

void fabric_cmd(struct fabric *f, char *line, char *answer, uint32_t answer_bytes)
{
    struct command c = {.f = f, .answer = answer, .answer_bytes = answer_bytes};
    char *rest = line;
    char *word;

    answer[0] = 0;
    while ((word = strtok_r(rest, " \r\t", &rest)) != NULL) {
        if (c.count == MAX_WORDS) {
            say(&c, "error: too many words\n");
            return;
        }
        c.words[c.count++] = word;
    }
    const char *error = run(&c);
    if (error != NULL) {
        say(&c, "error: %s\n", error);
    } else {
        say(&c, "ok\n");
    }
}
