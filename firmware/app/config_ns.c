/*
 * The words ns and ns.F; see config.h.
 */
#include "app/config_priv.h"

#include <string.h>

/* SIZE[:LBA] */
static bool take_volume(const char **text, struct config_ns *ns)
{
    uint64_t lba_bytes = 512;
    if (!config_take_size(text, &ns->size_bytes)) {
        return false;
    }
    if (config_take_prefix(text, ":") && !config_take_number(text, &lba_bytes)) {
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
    if (!config_take_number(text, &drive) || drive >= LIMIT_DRIVES) {
        return false;
    }
    if (config_take_prefix(text, ":") &&
        (!config_take_number(text, &nsid) || nsid == 0 || nsid > UINT32_MAX - 2)) {
        return false;
    }
    ns->drive = (uint8_t)drive;
    ns->drive_nsid = (uint32_t)nsid;
    return true;
}

static bool take_ns(const char **text, struct config_ns *ns)
{
    *ns = (struct config_ns){0};
    if (config_take_prefix(text, "ram:")) {
        ns->kind = CONFIG_NS_RAM;
        return take_volume(text, ns);
    }
    if (config_take_prefix(text, "null:")) {
        ns->kind = CONFIG_NS_NULL;
        return take_volume(text, ns);
    }
    if (config_take_prefix(text, "drive:")) {
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
        if (!config_take_prefix(&value, ",")) {
            return false;
        }
    }
}

static const char ns_expected[] =
    "none or ram:SIZE[:LBA], null:SIZE[:LBA], drive:D[:NSID], comma-separated; "
    "SIZE with K, M or G and whole blocks; LBA 512 or 4096";

enum status config_set_ns(const struct config_word *word)
{
    uint32_t first = word->index == CONFIG_EVERY ? 0 : word->index;
    struct config_function *functions = word->config->functions;

    if (!parse_ns_list(word->value, &functions[first])) {
        return config_fail(word, ns_expected);
    }
    for (uint32_t i = 1; word->index == CONFIG_EVERY && i < LIMIT_FUNCTIONS; i++) {
        functions[i] = functions[0];
    }
    return STATUS_OK;
}
