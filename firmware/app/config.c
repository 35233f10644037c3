/*
 * Configuration words; see config.h. Each word is a row of a table: numbers by their range, the
 * others by a function that reads the value.
 */
#include "app/config_priv.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include "base/assert.h"

#define WORD_BYTES 1024

/* --- what values are made of --------------------------------------------------------------- */

enum status config_fail(const struct config_word *word, const char *expected)
{
    snprintf(word->error, word->error_bytes, "%s: expected %s, not '%s'", word->key, expected,
             word->value);
    return STATUS_INVALID;
}

bool config_take_number(const char **text, uint64_t *out)
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

bool config_whole_number(const char *value, uint64_t low, uint64_t high, uint64_t *out)
{
    return config_take_number(&value, out) && *value == '\0' && *out >= low && *out <= high;
}

bool config_take_size(const char **text, uint64_t *out)
{
    uint64_t value;
    uint32_t shift = 0;
    if (!config_take_number(text, &value)) {
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

bool config_take_prefix(const char **text, const char *prefix)
{
    size_t len = strlen(prefix);
    if (strncmp(*text, prefix, len) != 0) {
        return false;
    }
    *text += len;
    return true;
}

/* --- single words -------------------------------------------------------------------------- */

static enum status set_idle(const struct config_word *word)
{
    if (strcmp(word->value, "poll") == 0) {
        word->config->idle = SCHED_IDLE_POLL;
    } else if (strcmp(word->value, "adaptive") == 0) {
        word->config->idle = SCHED_IDLE_ADAPTIVE;
    } else {
        return config_fail(word, "poll or adaptive");
    }
    return STATUS_OK;
}

static bool is_alphanumeric(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static enum status set_serial(const struct config_word *word)
{
    size_t len = strlen(word->value);
    bool is_good = len > 0 && len < CONFIG_SERIAL_BYTES;
    for (size_t i = 0; i < len; i++) {
        is_good = is_good && is_alphanumeric(word->value[i]);
    }
    if (!is_good) {
        return config_fail(word, "1 to 12 letters and digits");
    }
    memcpy(word->config->serial, word->value, len + 1);
    return STATUS_OK;
}

/* The functions that a word is about. */
#define FOR_EACH_FUNCTION(function, word)                                                   \
    for (struct config_function *function =                                                 \
             &(word)->config->functions[(word)->index == CONFIG_EVERY ? 0 : (word)->index]; \
         function < ((word)->index == CONFIG_EVERY                                          \
                         ? (word)->config->functions + LIMIT_FUNCTIONS                      \
                         : (word)->config->functions + (word)->index + 1);                  \
         function++)

static enum status set_in_band(const struct config_word *word)
{
    static const char *const words[] = {
        [CONFIG_IN_BAND_OWN] = "own",
        [CONFIG_IN_BAND_ALL] = "all",
        [CONFIG_IN_BAND_OFF] = "off",
    };
    for (uint32_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (strcmp(word->value, words[i]) == 0) {
            word->config->in_band = (enum config_in_band)i;
            return STATUS_OK;
        }
    }
    return config_fail(word, "own, all or off");
}

static enum status set_sgl(const struct config_word *word)
{
    bool on = strcmp(word->value, "on") == 0;
    if (!on && strcmp(word->value, "off") != 0) {
        return config_fail(word, "on or off");
    }
    FOR_EACH_FUNCTION(function, word)
    {
        function->sgl = on;
    }
    return STATUS_OK;
}

static enum status set_dbbuf(const struct config_word *word)
{
    static const char *const words[] = {
        [CONFIG_AUTO] = "auto",
        [CONFIG_ON] = "on",
        [CONFIG_OFF] = "off",
    };
    for (uint32_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (strcmp(word->value, words[i]) == 0) {
            FOR_EACH_FUNCTION(function, word)
            {
                function->doorbell_buffers = (uint8_t)i;
            }
            return STATUS_OK;
        }
    }
    return config_fail(word, "auto, on or off");
}

/* --- tables -------------------------------------------------------------------------------- */

struct number_row {
    const char *key;
    size_t offset; /* in struct config, or in each of its functions */
    uint8_t bytes;
    bool is_functions;
    uint32_t low;
    uint32_t high;
};

#define NUMBER(key, field, low, high)                                                              \
    {                                                                                              \
        key, offsetof(struct config, field), sizeof(((struct config *)0)->field), false, low, high \
    }
#define FUNCTION_NUMBER(key, field, low, high)                            \
    {                                                                     \
        key, offsetof(struct config_function, field),                     \
            sizeof(((struct config_function *)0)->field), true, low, high \
    }

static const struct number_row numbers[] = {
    NUMBER("cores", cores, 1, LIMIT_CORES),
    FUNCTION_NUMBER("queues", io_queues, 1, LIMIT_IO_QUEUES),
    FUNCTION_NUMBER("mdts", mdts, 1, LIMIT_MDTS),
    FUNCTION_NUMBER("dstrd", dstrd, 0, 4),
    FUNCTION_NUMBER("room", ns_room, 1, LIMIT_NAMESPACES),
    NUMBER("wait", serve_wait_ms, 0, CONFIG_SERVE_WAIT_HIGH_MS),
    NUMBER("rping.port", rping_port, 1, UINT16_MAX),
    NUMBER("perf.port", perf_port, 1, UINT16_MAX),
};

static enum status set_number(const struct config_word *word, const struct number_row *row)
{
    char expected[32];
    uint64_t value;

    if (!config_whole_number(word->value, row->low, row->high, &value)) {
        snprintf(expected, sizeof(expected), "%u to %u", (unsigned)row->low, (unsigned)row->high);
        return config_fail(word, expected);
    }
    /* The core is little endian (base/compiler.h): the low bytes come first. */
    ASSERT(row->bytes <= sizeof(value));
    if (!row->is_functions) {
        memcpy((uint8_t *)word->config + row->offset, &value, row->bytes);
        return STATUS_OK;
    }
    FOR_EACH_FUNCTION(function, word)
    {
        memcpy((uint8_t *)function + row->offset, &value, row->bytes);
    }
    return STATUS_OK;
}

static const struct {
    const char *key;
    uint32_t index_count; /* KEY.0 to KEY.(index_count - 1) are words too */
    enum status (*set)(const struct config_word *word);
} keys[] = {
    {"idle", 0, set_idle},
    {"serial", 0, set_serial},
    {"inband", 0, set_in_band},
    {"sgl", LIMIT_FUNCTIONS, set_sgl},
    {"dbbuf", LIMIT_FUNCTIONS, set_dbbuf},
    {"ns", LIMIT_FUNCTIONS, config_set_ns},
    {"ip", LIMIT_ETH_PORTS, config_set_ip},
    {"ip6", LIMIT_ETH_PORTS, config_set_ip6},
    {"gw", LIMIT_ETH_PORTS, config_set_gateway},
    {"gw6", LIMIT_ETH_PORTS, config_set_gateway6},
    {"vlan", LIMIT_ETH_PORTS, config_set_vlan},
    {"mtu", LIMIT_ETH_PORTS, config_set_mtu},
    {"ecn", LIMIT_ETH_PORTS, config_set_ecn},
    {"diag", 0, config_set_diag},
    {"perf.size", 0, config_set_perf_size},
};

/* KEY or KEY.INDEX of a row; false: another key. An index that cannot be is left as index_count. */
static bool is_row(const char *written, const char *key, uint32_t index_count, uint32_t *index)
{
    size_t len = strlen(key);
    uint64_t number;

    *index = CONFIG_EVERY;
    if (strcmp(written, key) == 0) {
        return true;
    }
    if (index_count == 0 || strncmp(written, key, len) != 0 || written[len] != '.') {
        return false;
    }
    bool is_good = config_whole_number(written + len + 1, 0, index_count - 1, &number);
    *index = is_good ? (uint32_t)number : index_count;
    return true;
}

static enum status index_fail(const struct config_word *word, uint32_t index_count)
{
    char expected[40];
    snprintf(expected, sizeof(expected), "0 to %u behind the point", (unsigned)index_count - 1);
    return config_fail(word, expected);
}

static enum status ignore(const struct config_word *word, const char *text, uint32_t *ignored)
{
    if ((*ignored)++ == 0) {
        snprintf(word->error, word->error_bytes, "%s", text);
    }
    return STATUS_OK;
}

enum status config_set(struct config_word *word, const char *name, bool *is_known)
{
    uint32_t index_count = 0;

    *is_known = true;
    for (uint32_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        index_count = numbers[i].is_functions ? LIMIT_FUNCTIONS : 0;
        if (is_row(name, numbers[i].key, index_count, &word->index)) {
            return word->index != CONFIG_EVERY && word->index >= index_count
                       ? index_fail(word, index_count)
                       : set_number(word, &numbers[i]);
        }
    }
    for (uint32_t i = 0; i < ARRAY_SIZE(keys); i++) {
        index_count = keys[i].index_count;
        if (is_row(name, keys[i].key, index_count, &word->index)) {
            return word->index != CONFIG_EVERY && word->index >= index_count
                       ? index_fail(word, index_count)
                       : keys[i].set(word);
        }
    }
    *is_known = false;
    return STATUS_OK;
}

/* `text` is cut at '=' in place. */
static enum status set_word(struct config_word *word, char *text, uint32_t *ignored)
{
    bool is_known = false;
    enum status status = STATUS_OK;
    char *equals = strchr(text, '=');

    if (equals != NULL) {
        *equals = '\0';
        word->key = text;
        word->value = equals + 1;
        status = config_set(word, text, &is_known);
    }
    return is_known ? status : ignore(word, text, ignored);
}

static void set_defaults(struct config *config)
{
    *config = (struct config){
        .idle = SCHED_IDLE_ADAPTIVE,
        .serve_wait_ms = 5000,
        .serial = "SNIC",
        .rping_port = 7174,
        .perf_port = 18515,
        .perf_bytes = UINT32_C(8) << 20,
    };
    for (uint32_t i = 0; i < LIMIT_FUNCTIONS; i++) {
        struct config_function *function = &config->functions[i];
        function->ns_count = 1;
        function->ns[0] = (struct config_ns){
            .kind = CONFIG_NS_RAM, .size_bytes = UINT64_C(64) << 20, .lba_shift = 9};
        function->io_queues = LIMIT_IO_QUEUES;
        function->mdts = LIMIT_MDTS;
        function->dstrd = CONFIG_DSTRD_AUTO;
        function->sgl = true;
    }
    for (uint32_t i = 0; i < LIMIT_ETH_PORTS; i++) {
        config->ports[i].ecn = true;
    }
}

enum status config_parse(const char *words, struct config *config, uint32_t *ignored, char *error,
                         uint32_t error_bytes)
{
    struct config_word word = {.config = config, .error = error, .error_bytes = error_bytes};
    char text[WORD_BYTES];

    set_defaults(config);
    *ignored = 0;
    while (*words != '\0') {
        size_t len = strcspn(words, " \t\n");
        if (len >= sizeof(text)) {
            snprintf(error, error_bytes, "a word of %u characters: at most %u", (unsigned)len,
                     (unsigned)sizeof(text) - 1);
            return STATUS_INVALID;
        }
        memcpy(text, words, len);
        text[len] = '\0';
        words += len;
        words += strspn(words, " \t\n");
        if (len > 0) {
            enum status status = set_word(&word, text, ignored);
            if (status != STATUS_OK) {
                return status;
            }
        }
    }
    return config_check_fabric(&word);
}
