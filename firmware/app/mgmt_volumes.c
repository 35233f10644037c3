/*
 * Management records of volumes, their paths, and associations with remote subsystems.
 */
#include "app/mgmt_priv.h"

#include "hal/clock.h"

#define NVMF_PORT 4420

static uint64_t until(uint64_t time_ns)
{
    uint64_t now_ns = clock_now_ns();

    return time_ns <= now_ns || time_ns == UINT64_MAX ? 0 : time_ns - now_ns;
}

/* --- volumes --------------------------------------------------------------------------------- */

uint32_t app_mgmt_volume_count(void)
{
    return app.volumes == NULL ? 0 : app.tree.volume_count;
}

static uint32_t volume_owners(const struct app_volume *volume)
{
    return volume->owners | MGMT_OWNER_BOARD;
}

const char *app_volume_state(const struct app_volume *volume)
{
    return volume->leaving_count > 0    ? "leaving"
           : volume->attached_count > 0 ? "attached"
                                        : "detached";
}

uint32_t app_mgmt_volume(uint32_t index, void *record)
{
    struct mgmt_volume *out = record;
    const struct app_volume *volume = &app.volumes[index];
    struct vol_info info;

    out->index = (uint16_t)index;
    out->attached_count = volume->attached_count;
    app_mgmt_text(out->name, sizeof(out->name), config_tree_volume_name(&app.tree, index));
    app_mgmt_text(out->state, sizeof(out->state), app_volume_state(volume));
    if (volume->vol == NULL) {
        return volume_owners(volume);
    }
    vol_info(volume->vol, &info);
    const struct blk_geometry *geometry = &vol_blk(volume->vol)->geometry;
    out->path_count = (uint16_t)info.path_count;
    out->flags =
        (info.is_ready ? MGMT_VOLUME_READY : 0) | (geometry->known ? MGMT_VOLUME_KNOWN : 0);
    out->waiting = info.waiting;
    out->quiet_in_ns = info.quiet_ns == 0 ? 0 : until(info.quiet_ns);
    if (geometry->known) {
        out->lba_count = geometry->lba_count;
        out->block_bytes = 1u << geometry->lba_shift;
    }
    return volume_owners(volume);
}

/* --- paths: LIMIT_VOLUME_PATHS of each volume ------------------------------------------------ */

uint32_t app_mgmt_path_count(void)
{
    return app_mgmt_volume_count() * LIMIT_VOLUME_PATHS;
}

uint32_t app_mgmt_path(uint32_t index, void *record)
{
    struct mgmt_path *out = record;
    const struct app_volume *volume = &app.volumes[index / LIMIT_VOLUME_PATHS];
    uint32_t i = index % LIMIT_VOLUME_PATHS;
    struct vol_info info;

    if (volume->vol == NULL) {
        return 0;
    }
    vol_info(volume->vol, &info);
    if (i >= info.path_count) {
        return 0;
    }
    const struct app_path *path = &volume->paths[i];
    enum vol_path_state state = info.paths[i].state;
    out->volume = (uint16_t)(index / LIMIT_VOLUME_PATHS);
    out->index = (uint16_t)i;
    out->association = path->owner == NULL ? MGMT_NONE16 : (uint16_t)(path->owner - app.ctrls);
    out->is_usable = state == VOL_PATH_USABLE;
    out->requests = info.paths[i].requests;
    app_mgmt_text(out->state, sizeof(out->state), vol_path_state_name(state));
    app_mgmt_text(out->name, sizeof(out->name), info.paths[i].name);
    app_mgmt_text(out->volume_name, sizeof(out->volume_name), info.name);
    if (!out->is_usable) {
        app_mgmt_text(out->why, sizeof(out->why), app_path_why(path, state));
    }
    return volume_owners(volume);
}

/* --- associations ---------------------------------------------------------------------------- */

uint32_t app_mgmt_association_count(void)
{
    return app.ctrl_count;
}

static void put_address(struct mgmt_association *out, uint32_t subsystem)
{
    struct config_subsystem words;
    char text[NET_ADDR_TEXT_BYTES];

    if (config_tree_subsystem(&app.tree, subsystem, &words) == STATUS_OK) {
        net_addr_text(&words.addr, text);
        app_mgmt_text(out->address, sizeof(out->address), text);
        out->port = words.port == 0 ? NVMF_PORT : words.port;
    }
}

uint32_t app_mgmt_association(uint32_t index, void *record)
{
    struct mgmt_association *out = record;
    struct nvmf_ctrl_info info;

    if (app.ctrls[index].ctrl == NULL) {
        return 0;
    }
    nvmf_ctrl_info(app.ctrls[index].ctrl, &info);
    out->index = (uint16_t)index;
    out->fn = info.fn;
    out->cntlid = info.cntlid;
    out->queue_count = info.queue_count;
    out->host_queue_count = info.host_queue_count;
    out->queue_entries = info.queue_entries;
    out->in_flight = info.in_flight;
    out->ns_count = info.ns_count;
    out->connect_count = info.connect_count;
    out->attempt_count = info.attempt_count;
    out->fail_code = info.fail_code;
    out->next_in_ns = info.state == NVMF_CTRL_BACKOFF ? until(info.next_ns) : 0;
    out->timeout_count = info.timeout_count;
    out->abort_count = info.abort_count;
    out->event_count = info.event_count;
    out->memory_bytes = info.memory_bytes;
    out->in_capsule_bytes = info.in_capsule_bytes;
    out->max_transfer_bytes = info.max_transfer_bytes;
    out->keep_alive_ms = info.keep_alive_ms;
    out->quiesce_ms = info.quiesce_ms;
    out->sq_flow_control = info.sq_flow_control;
    app_mgmt_text(out->state, sizeof(out->state), nvmf_ctrl_state_name(info.state));
    app_mgmt_text(out->name, sizeof(out->name), info.name);
    put_address(out, app.ctrls[index].subsystem);
    if (info.fail != NVMF_FAIL_NONE) {
        app_mgmt_text(out->why, sizeof(out->why), nvmf_fail_text(info.fail));
    }
    app_mgmt_text(out->subnqn, sizeof(out->subnqn), info.subnqn);
    app_mgmt_text(out->model, sizeof(out->model), info.model);
    app_mgmt_text(out->serial, sizeof(out->serial), info.serial);
    app_mgmt_text(out->firmware, sizeof(out->firmware), info.firmware);
    return MGMT_OWNER_FN(info.fn);
}
