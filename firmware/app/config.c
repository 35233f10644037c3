/*
 * Configuration words; see config.h.
 */
#include "app/config.h"

#include <stdio.h>
#include <string.h>

#define WORD_BYTES 1024

struct parser {
    struct config *config;
    char *error;
    uint32_t error_bytes;
};

static enum status fail(struct parser *p, const char *key, const char *value, const char *expected)
{
    snprintf(p->error, p->error_bytes, "%s: expected %s, not '%s'", key, expected, value);
    return STATUS_INVALID;
}

/* Decimal digits at *text; moves past them. False: none, or more than 64 bits. */
static bool take_number(const char **text, uint64_t *out)
{
    const char *s = *text;
    uint64_t value = 0;
    if (*s < '0' || *s > '9') {
        return false;
    }
    for (; *s >= '0' && *s <= '9'; s++) {
        uint64_t digit = (uint64_t)(*s - '0');
        if (value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *text = s;
    *out = value;
    return true;
}

/* A whole value that is a number of [low, high]. */
static bool whole_number(const char *value, uint64_t low, uint64_t high, uint64_t *out)
{
    return take_number(&value, out) && *value == '\0' && *out >= low && *out <= high;
}

static bool take_size(const char **text, uint64_t *out)
{
    uint64_t value;
    uint32_t shift = 0;
    if (!take_number(text, &value)) {
        return false;
    }
    switch (**text) {
    case 'K':
        shift = 10;
        break;
    case 'M':
        shift = 20;
        break;
    case 'G':
        shift = 30;
        break;
    default:
        break;
    }
    if (shift != 0) {
        (*text)++;
    }
    if (value == 0 || value > (UINT64_MAX >> shift)) {
        return false;
    }
    *out = value << shift;
    return true;
}

static bool take_prefix(const char **text, const char *prefix)
{
    size_t len = strlen(prefix);
    if (strncmp(*text, prefix, len) != 0) {
        return false;
    }
    *text += len;
    return true;
}

/* SIZE[:LBA] */
static bool take_volume(const char **text, struct config_ns *ns)
{
    uint64_t lba_bytes = 512;
    if (!take_size(text, &ns->size_bytes)) {
        return false;
    }
    if (take_prefix(text, ":") && !take_number(text, &lba_bytes)) {
        return false;
    }
    if (lba_bytes != 512 && lba_bytes != 4096) {
        return false;
    }
    ns->lba_shift = lba_bytes == 512 ? 9 : 12;
    return ns->size_bytes % lba_bytes == 0;
}

/* D[:NSID] */
static bool take_drive(const char **text, struct config_ns *ns)
{
    uint64_t drive;
    uint64_t nsid = 1;
    if (!take_number(text, &drive) || drive >= LIMIT_DRIVES) {
        return false;
    }
    if (take_prefix(text, ":") &&
        (!take_number(text, &nsid) || nsid == 0 || nsid > UINT32_MAX - 2)) {
        return false;
    }
    ns->drive = (uint8_t)drive;
    ns->drive_nsid = (uint32_t)nsid;
    return true;
}

static bool take_ns(const char **text, struct config_ns *ns)
{
    *ns = (struct config_ns){0};
    if (take_prefix(text, "ram:")) {
        ns->kind = CONFIG_NS_RAM;
        return take_volume(text, ns);
    }
    if (take_prefix(text, "null:")) {
        ns->kind = CONFIG_NS_NULL;
        return take_volume(text, ns);
    }
    if (take_prefix(text, "drive:")) {
        ns->kind = CONFIG_NS_DRIVE;
        return take_drive(text, ns);
    }
    return false;
}

static bool parse_ns_list(const char *value, struct config_function *function)
{
    function->ns_count = 0;
    if (strcmp(value, "none") == 0) {
        return true;
    }
    for (;;) {
        if (function->ns_count == CONFIG_NS_MAX ||
            !take_ns(&value, &function->ns[function->ns_count])) {
            return false;
        }
        function->ns_count++;
        if (*value == '\0') {
            return true;
        }
        if (!take_prefix(&value, ",")) {
            return false;
        }
    }
}

static const char ns_expected[] =
    "none or ram:SIZE[:LBA], null:SIZE[:LBA], drive:D[:NSID], comma-separated; "
    "SIZE with K, M or G and whole blocks; LBA 512 or 4096";

static enum status set_ns_all(struct parser *p, const char *key, const char *value)
{
    struct config_function *first = &p->config->functions[0];
    if (!parse_ns_list(value, first)) {
        return fail(p, key, value, ns_expected);
    }
    for (uint32_t i = 1; i < LIMIT_FUNCTIONS; i++) {
        p->config->functions[i] = *first;
    }
    return STATUS_OK;
}

static enum status set_ns_one(struct parser *p, const char *key, const char *value)
{
    uint64_t index;
    if (!whole_number(key + strlen("ns."), 0, LIMIT_FUNCTIONS - 1, &index)) {
        return fail(p, key, value, "a function number after ns.");
    }
    if (!parse_ns_list(value, &p->config->functions[index])) {
        return fail(p, key, value, ns_expected);
    }
    return STATUS_OK;
}

static enum status set_cores(struct parser *p, const char *key, const char *value)
{
    uint64_t n;
    if (!whole_number(value, 1, LIMIT_CORES, &n)) {
        return fail(p, key, value, "1 to 4");
    }
    p->config->cores = (uint32_t)n;
    return STATUS_OK;
}

static enum status set_idle(struct parser *p, const char *key, const char *value)
{
    if (strcmp(value, "poll") == 0) {
        p->config->idle = SCHED_IDLE_POLL;
    } else if (strcmp(value, "adaptive") == 0) {
        p->config->idle = SCHED_IDLE_ADAPTIVE;
    } else {
        return fail(p, key, value, "poll or adaptive");
    }
    return STATUS_OK;
}

static enum status set_queues(struct parser *p, const char *key, const char *value)
{
    uint64_t n;
    if (!whole_number(value, 1, LIMIT_IO_QUEUES, &n)) {
        return fail(p, key, value, "1 to 64");
    }
    p->config->io_queues = (uint16_t)n;
    return STATUS_OK;
}

static bool is_alphanumeric(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static enum status set_serial(struct parser *p, const char *key, const char *value)
{
    size_t len = strlen(value);
    bool is_good = len > 0 && len < CONFIG_SERIAL_BYTES;
    for (size_t i = 0; i < len; i++) {
        is_good = is_good && is_alphanumeric(value[i]);
    }
    if (!is_good) {
        return fail(p, key, value, "1 to 12 letters and digits");
    }
    memcpy(p->config->serial, value, len + 1);
    return STATUS_OK;
}

static enum status set_mdts(struct parser *p, const char *key, const char *value)
{
    uint64_t n;
    if (!whole_number(value, 1, LIMIT_MDTS, &n)) {
        return fail(p, key, value, "1 to 8");
    }
    p->config->mdts = (uint8_t)n;
    return STATUS_OK;
}

static enum status set_dstrd(struct parser *p, const char *key, const char *value)
{
    uint64_t n;
    if (!whole_number(value, 0, 4, &n)) {
        return fail(p, key, value, "0 to 4");
    }
    p->config->dstrd = (uint8_t)n;
    return STATUS_OK;
}

static enum status set_sgl(struct parser *p, const char *key, const char *value)
{
    bool on = strcmp(value, "on") == 0;
    if (!on && strcmp(value, "off") != 0) {
        return fail(p, key, value, "on or off");
    }
    p->config->sgl = on;
    return STATUS_OK;
}

static enum status set_dbbuf(struct parser *p, const char *key, const char *value)
{
    static const char *const words[] = {
        [CONFIG_AUTO] = "auto",
        [CONFIG_ON] = "on",
        [CONFIG_OFF] = "off",
    };
    for (uint32_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (strcmp(value, words[i]) == 0) {
            p->config->doorbell_buffers = (enum config_choice)i;
            return STATUS_OK;
        }
    }
    return fail(p, key, value, "auto, on or off");
}

static const struct {
    const char *key;
    enum status (*set)(struct parser *p, const char *key, const char *value);
} keys[] = {
    {"cores", set_cores},   {"idle", set_idle},   {"ns", set_ns_all},
    {"queues", set_queues}, {"mdts", set_mdts},   {"dstrd", set_dstrd},
    {"sgl", set_sgl},       {"dbbuf", set_dbbuf}, {"serial", set_serial},
};

static enum status ignore(struct parser *p, const char *word, uint32_t *ignored)
{
    if ((*ignored)++ == 0) {
        snprintf(p->error, p->error_bytes, "%s", word);
    }
    return STATUS_OK;
}

/* One word, cut at '=' in place. */
static enum status set_word(struct parser *p, char *word, uint32_t *ignored)
{
    char *equals = strchr(word, '=');
    if (equals == NULL) {
        return ignore(p, word, ignored);
    }
    *equals = '\0';
    const char *value = equals + 1;
    if (strncmp(word, "ns.", 3) == 0) {
        return set_ns_one(p, word, value);
    }
    for (uint32_t i = 0; i < ARRAY_SIZE(keys); i++) {
        if (strcmp(word, keys[i].key) == 0) {
            return keys[i].set(p, word, value);
        }
    }
    return ignore(p, word, ignored);
}

static void set_defaults(struct config *config)
{
    *config = (struct config){
        .idle = SCHED_IDLE_ADAPTIVE,
        .io_queues = LIMIT_IO_QUEUES,
        .mdts = LIMIT_MDTS,
        .dstrd = CONFIG_DSTRD_AUTO,
        .sgl = true,
        .serial = "SNIC",
    };
    for (uint32_t i = 0; i < LIMIT_FUNCTIONS; i++) {
        config->functions[i].ns_count = 1;
        config->functions[i].ns[0] = (struct config_ns){
            .kind = CONFIG_NS_RAM, .size_bytes = UINT64_C(64) << 20, .lba_shift = 9};
    }
}

enum status config_parse(const char *words, struct config *config, uint32_t *ignored, char *error,
                         uint32_t error_bytes)
{
    struct parser p = {.config = config, .error = error, .error_bytes = error_bytes};
    char word[WORD_BYTES];

    set_defaults(config);
    *ignored = 0;
    while (*words != '\0') {
        size_t len = strcspn(words, " \t\n");
        if (len >= sizeof(word)) {
            snprintf(error, error_bytes, "a word of %u characters: at most %u", (unsigned)len,
                     (unsigned)sizeof(word) - 1);
            return STATUS_INVALID;
        }
        memcpy(word, words, len);
        word[len] = '\0';
        words += len;
        words += strspn(words, " \t\n");
        if (len > 0) {
            enum status status = set_word(&p, word, ignored);
            if (status != STATUS_OK) {
                return status;
            }
        }
    }
    return STATUS_OK;
}
