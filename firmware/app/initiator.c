/*
 * The initiator's side: who a function is to targets, and its associations with subsystems of the
 * tree. An association belongs to one function; all of its volumes share it.
 */
#include <stdio.h>
#include <string.h>
#include "app/app_priv.h"
#include "base/log.h"

/* --- identity -------------------------------------------------------------------------------- */

/* FNV-1a, 64 bits. */
static uint64_t hash_text(const char *text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (; *text != '\0'; text++) {
        hash = (hash ^ (uint8_t)*text) * UINT64_C(0x100000001b3);
    }
    return hash;
}

/* "snic", function, version 8 of RFC 9562 ("custom") with the namespace in 12 bits, variant, hash
 * of the serial number. */
void app_make_uuid(uint8_t uuid[16], uint16_t fn, uint32_t nsid)
{
    uint64_t hash = hash_text(app.config.serial);

    _Static_assert(LIMIT_NAMESPACES < 1 << 12, "an NSID has 12 bits");
    memcpy(uuid, "snic", 4);
    uuid[4] = (uint8_t)(fn >> 8);
    uuid[5] = (uint8_t)fn;
    uuid[6] = (uint8_t)(0x80 | nsid >> 8);
    uuid[7] = (uint8_t)nsid;
    uuid[8] = 0x80;
    for (uint32_t i = 0; i < 7; i++) {
        uuid[9 + i] = (uint8_t)(hash >> (8 * i));
    }
}

void app_host_identity(struct app_function *function, const struct config_function *words,
                       uint16_t fn)
{
    uint8_t *id = function->hostid;

    if (words->has_hostid) {
        memcpy(id, words->hostid, sizeof(function->hostid));
    } else {
        app_make_uuid(id, fn, 0);
    }
    if (words->hostnqn != NULL) {
        snprintf(function->hostnqn, sizeof(function->hostnqn), "%s", words->hostnqn);
        return;
    }
    size_t used = (size_t)snprintf(function->hostnqn, sizeof(function->hostnqn),
                                   "nqn.2014-08.org.nvmexpress:uuid:");
    for (uint32_t i = 0; i < 16; i++) {
        bool is_group = i == 4 || i == 6 || i == 8 || i == 10;
        used += (size_t)snprintf(function->hostnqn + used, sizeof(function->hostnqn) - used,
                                 is_group ? "-%02x" : "%02x", id[i]);
    }
}

/* --- associations ---------------------------------------------------------------------------- */

bool app_is_initiator(void)
{
    return app.fabric_count > 0 && app.fabrics[0].is_initiator;
}

static const struct app_function *function_of(uint16_t fn)
{
    for (uint32_t i = 0; i < app.function_count; i++) {
        if (app.functions[i].pcie->fn == fn) {
            return &app.functions[i];
        }
    }
    return NULL;
}

static enum status ctrl_make(struct app_ctrl *owner, const struct config_subsystem *words)
{
    const struct app_function *function = function_of(owner->fn);
    struct nvmf_ctrl_config config = {
        .name = words->name,
        .fn = owner->fn,
        .addr = words->addr,
        .port = words->port,
        .subnqn = words->nqn,
        .hostnqn = function->hostnqn,
        .queue_entries = words->queue_entries,
        .keep_alive_ms = words->keep_alive_ms,
        .connect_timeout_ms = words->connect_timeout_ms,
        .command_timeout_ms = words->command_timeout_ms,
        .backoff_low_ms = words->backoff_ms[0],
        .backoff_high_ms = words->backoff_ms[1],
        .quiesce_ms = words->quiesce_ms,
        .sq_flow_control = words->sq_flow_control,
        .no_in_capsule = words->no_in_capsule,
        .host_queues = app_wants_host_queues(owner->fn, owner->subsystem),
    };
    memcpy(config.hostid, function->hostid, sizeof(config.hostid));
    void *memory = app_pool_take(nvmf_ctrl_memory_bytes(&config), 4096);
    if (memory == NULL) {
        return STATUS_NO_SPACE;
    }
    return nvmf_ctrl_create(memory, &config, &owner->ctrl);
}

struct app_ctrl *app_ctrl_get(uint16_t fn, uint32_t subsystem)
{
    struct config_subsystem words;

    for (uint32_t i = 0; i < app.ctrl_count; i++) {
        if (app.ctrls[i].fn == fn && app.ctrls[i].subsystem == subsystem) {
            return app.ctrls[i].ctrl != NULL ? &app.ctrls[i] : NULL;
        }
    }
    enum status status = config_tree_subsystem(&app.tree, subsystem, &words);
    if (status != STATUS_OK || !app_is_initiator()) {
        LOG_ERROR("app: function %u: no subsystem can be reached: %s", (unsigned)fn,
                  status != STATUS_OK ? "the tree has changed" : "core 0 has no RDMA device");
        return NULL;
    }
    if (app.ctrl_count == LIMIT_NVMF_CTRLS) {
        LOG_ERROR("app: subsystem %s: at most %u associations", words.name, LIMIT_NVMF_CTRLS);
        return NULL;
    }
    struct app_ctrl *owner = &app.ctrls[app.ctrl_count++];
    *owner = (struct app_ctrl){.fn = fn, .subsystem = (uint16_t)subsystem};
    status = ctrl_make(owner, &words);
    if (status != STATUS_OK) {
        LOG_ERROR("app: function %u, subsystem %s: %s", (unsigned)fn, words.name,
                  status_text(status));
        return NULL;
    }
    return owner;
}
