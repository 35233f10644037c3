/*
 * Volumes of the tree: made when the fabrics have answered, attached as the namespaces that the
 * functions' nodes say; later attached and detached at the console. A volume that was made stays:
 * it follows its paths also while nobody has it.
 */
#include <stdio.h>
#include <string.h>
#include "app/app_priv.h"
#include "base/log.h"

#define SAID_MOST 8 /* volumes that log lines name */

/* --- paths ----------------------------------------------------------------------------------- */

static bool ns_is_usable(const struct blk_dev *dev)
{
    return nvmf_ns_is_usable((const struct nvmf_ns *)(const void *)dev);
}

static struct blk_dev *make_remote(struct app_path *path, const struct config_path *words,
                                   enum nvmf_path data_path, uint16_t fn)
{
    struct config_subsystem subsystem;

    path->owner = app_ctrl_get(fn, words->subsystem);
    if (path->owner == NULL ||
        config_tree_subsystem(&app.tree, words->subsystem, &subsystem) != STATUS_OK) {
        return NULL;
    }
    nvmf_ns_open(&path->ns, path->owner->ctrl, &words->id, data_path, subsystem.name);
    return &path->ns.dev;
}

static uint8_t shift_of(uint32_t block_bytes)
{
    return block_bytes == 512 ? 9 : 12;
}

static struct blk_dev *make_ram(struct app_path *path, const struct config_path *words,
                                const char *name)
{
    struct blk_ram_config config = {.name = "ram",
                                    .memory = app_pool_take(words->size_bytes, 4096),
                                    .size_bytes = words->size_bytes,
                                    .lba_shift = shift_of(words->block_bytes)};
    if (config.memory == NULL) {
        LOG_ERROR("app: volume %s: %u MiB for a RAM disk, %u MiB are left", name,
                  (unsigned)(words->size_bytes >> 20), (unsigned)(app.pool_left >> 20));
        return NULL;
    }
    return blk_ram_init(&path->ram, &config) == STATUS_OK ? &path->ram.dev : NULL;
}

static struct blk_dev *make_drive(const struct config_path *words, const char *name)
{
    if (words->drive >= app.drive_count || app.drives[words->drive] == NULL) {
        LOG_ERROR("app: volume %s: this board has %u drive%s behind it", name,
                  (unsigned)app.drive_count, app.drive_count == 1 ? "" : "s");
        return NULL;
    }
    struct blk_dev *dev = nvme_drv_blk(app.drives[words->drive], words->drive_nsid);
    if (dev != NULL && dev->changed != NULL) {
        LOG_ERROR("app: volume %s: another volume has this namespace of the drive", name);
        return NULL;
    }
    return dev;
}

static struct blk_dev *make_path(struct app_path *path, const struct config_path *words,
                                 const struct config_volume *volume, uint16_t fn)
{
    switch (words->kind) {
    case CONFIG_PATH_REMOTE:
        return make_remote(path, words, volume->data_path, fn);
    case CONFIG_PATH_RAM:
        return make_ram(path, words, volume->name);
    case CONFIG_PATH_NULL:
        return blk_null_init(&path->null, "null", words->size_bytes,
                             shift_of(words->block_bytes)) == STATUS_OK
                   ? &path->null.dev
                   : NULL;
    case CONFIG_PATH_DRIVE:
        return make_drive(words, volume->name);
    default:
        return NULL;
    }
}

/* --- making ---------------------------------------------------------------------------------- */

static bool is_zero(const uint8_t uuid[16])
{
    static const uint8_t zero[16];

    return memcmp(uuid, zero, sizeof(zero)) == 0;
}

/* What lies in the NIC alone has no name of its own. */
static bool is_nameless(const struct config_volume *words)
{
    for (uint32_t i = 0; i < words->path_count; i++) {
        if (words->paths[i].kind != CONFIG_PATH_RAM && words->paths[i].kind != CONFIG_PATH_NULL) {
            return false;
        }
    }
    return true;
}

/* What the host sees must not change when a path comes: Linux drops a namespace whose identifiers
 * do. So a volume that is there before its path has its UUID from the configuration. */
static void name_early(uint8_t uuid[16], const struct config_volume *words, uint16_t fn,
                       uint32_t nsid)
{
    const struct config_path *first = &words->paths[0];

    if (first->kind == CONFIG_PATH_REMOTE && !is_zero(first->id.uuid)) {
        memcpy(uuid, first->id.uuid, sizeof(first->id.uuid));
    } else {
        app_make_uuid(uuid, fn, nsid);
    }
}

static struct vol_config vol_config(const struct config_volume *words, uint16_t fn, uint32_t nsid)
{
    struct vol_config config = {
        .name = words->name,
        .wait_ms = words->wait_ms,
        .lba_shift = shift_of(words->block_bytes),
        .lba_count = words->size_bytes >> shift_of(words->block_bytes),
        .is_read_only = words->is_read_only,
    };

    memcpy(config.uuid, words->uuid, sizeof(config.uuid));
    if (is_zero(config.uuid) && (is_nameless(words) || words->size_bytes != 0)) {
        name_early(config.uuid, words, fn, nsid);
    }
    return config;
}

/* Paths that cannot be made are left out; at least one can. */
static enum status make_paths(struct app_volume *volume, const struct config_volume *words,
                              struct vol_config *config, uint16_t fn)
{
    for (uint32_t i = 0; i < words->path_count; i++) {
        struct app_path *path = &volume->paths[config->path_count];
        memset(path, 0, sizeof(*path));
        path->dev = make_path(path, &words->paths[i], words, fn);
        if (path->dev != NULL) {
            config->paths[config->path_count++] = (struct vol_path_config){
                .dev = path->dev, .is_usable = path->owner != NULL ? ns_is_usable : NULL};
        }
    }
    return config->path_count > 0 ? STATUS_OK : STATUS_NOT_FOUND;
}

static enum status volume_make(struct app_volume *volume, const struct config_volume *words,
                               uint16_t fn, uint32_t nsid)
{
    struct vol_config config = vol_config(words, fn, nsid);
    void *memory = app_pool_take(vol_bytes(), 64);

    volume->paths =
        app_pool_take(words->path_count * sizeof(struct app_path), _Alignof(struct app_path));
    if (memory == NULL || volume->paths == NULL) {
        return STATUS_NO_SPACE;
    }
    enum status status = make_paths(volume, words, &config, fn);
    if (status == STATUS_OK) {
        status = vol_create(memory, &config, &volume->vol);
    }
    return status;
}

/* --- attaching ------------------------------------------------------------------------------- */

static enum status ns_attach(struct app_function *function, const struct config_tree_ns *ns,
                             bool also_disabled)
{
    struct app_volume *volume = &app.volumes[ns->volume];
    struct config_volume words;
    uint16_t fn = function->pcie->fn;
    enum status status = config_tree_volume(&app.tree, ns->volume, &words);

    if (status == STATUS_OK && words.is_disabled && !also_disabled) {
        return STATUS_OK;
    }
    if (status == STATUS_OK && volume->vol == NULL) {
        status = volume_make(volume, &words, fn, ns->nsid);
    }
    if (status == STATUS_OK) {
        status = nvme_ns_attach(nvme_ep_ctrl(function->ep), ns->nsid, vol_blk(volume->vol));
    }
    if (status == STATUS_OK) {
        volume->attached_count++;
        volume->owners |= BIT32(fn);
        return STATUS_OK;
    }
    LOG_ERROR("app: function %u, namespace %u, volume %s: %s", (unsigned)fn, (unsigned)ns->nsid,
              words.name, status_text(status));
    return status;
}

void app_tree_volumes_start(void)
{
    uint32_t count = 0; /* of namespaces */

    if (!app.has_tree || app.tree.volume_count == 0) {
        return;
    }
    app.volumes = app_pool_take(app.tree.volume_count * sizeof(struct app_volume),
                                _Alignof(struct app_volume));
    if (app.volumes == NULL) {
        LOG_ERROR("app: no memory for %u volumes", (unsigned)app.tree.volume_count);
        return;
    }
    for (uint32_t i = 0; i < app.function_count; i++) {
        struct config_tree_ns ns = {0};
        while (config_tree_next_ns(&app.tree, app.functions[i].pcie->fn, &ns)) {
            (void)ns_attach(&app.functions[i], &ns, false); /* it has said what is wrong */
        }
    }
    for (uint32_t i = 0; i < app.tree.volume_count; i++) {
        count += app.volumes[i].attached_count;
    }
    LOG_INFO("app: %u namespaces are volumes of the tree", (unsigned)count);
}

/* --- readiness ------------------------------------------------------------------------------- */

static bool is_waited_for(uint32_t index, struct vol_info *info)
{
    const struct app_volume *volume = &app.volumes[index];

    if (volume->attached_count == 0) {
        return false;
    }
    vol_info(volume->vol, info);
    return !info->is_ready;
}

bool app_tree_volumes_ready(void)
{
    struct vol_info info;

    if (!app.has_tree || app.tree.volume_count == 0) {
        return true;
    }
    if (app.fabrics_due > 0) {
        return false;
    }
    for (uint32_t i = 0; app.volumes != NULL && i < app.tree.volume_count; i++) {
        if (is_waited_for(i, &info)) {
            return false;
        }
    }
    return true;
}

const char *app_path_why(const struct app_path *path, enum vol_path_state state)
{
    static const char *const texts[] = {
#define PATH_TEXT(name, text) text,
        VOL_PATH_STATE_LIST(PATH_TEXT)
#undef PATH_TEXT
    };
    struct nvmf_ctrl_info info;

    if (path->owner == NULL || (state != VOL_PATH_UNKNOWN && state != VOL_PATH_DOWN)) {
        return texts[state];
    }
    nvmf_ctrl_info(path->owner->ctrl, &info);
    if (info.state == NVMF_CTRL_LIVE) {
        return "the subsystem has no such namespace";
    }
    return info.fail != NVMF_FAIL_NONE ? nvmf_fail_text(info.fail) : "it is being connected";
}

void app_tree_volumes_explain(void)
{
    uint32_t said = 0;
    struct vol_info info;

    for (uint32_t i = 0; app.volumes != NULL && i < app.tree.volume_count; i++) {
        if (!is_waited_for(i, &info)) {
            continue;
        }
        if (said++ < SAID_MOST) {
            LOG_WARN("app: volume %s is not ready yet: path 0: %s", info.name,
                     app_path_why(&app.volumes[i].paths[0], info.paths[0].state));
        }
    }
    if (said > SAID_MOST) {
        LOG_WARN("app: nor are %u other volumes", (unsigned)(said - SAID_MOST));
    }
}

/* --- the console's calls --------------------------------------------------------------------- */

enum status app_tree_volume_attach(uint32_t index)
{
    enum status first = STATUS_OK; /* failure; others are in the log */
    bool is_found = false;

    if (app.volumes == NULL || app.volumes[index].leaving_count > 0) {
        return STATUS_AGAIN;
    }
    if (app.volumes[index].attached_count > 0) {
        return STATUS_EXISTS;
    }
    for (uint32_t i = 0; i < app.function_count; i++) {
        struct config_tree_ns ns = {0};
        while (config_tree_next_ns(&app.tree, app.functions[i].pcie->fn, &ns)) {
            if (ns.volume == index) {
                enum status status = ns_attach(&app.functions[i], &ns, true);
                first = first != STATUS_OK ? first : status;
                is_found = true;
            }
        }
    }
    return is_found ? first : STATUS_NOT_FOUND;
}

static void (*detach_done)(void);

static void detached(void *arg)
{
    struct app_volume *volume = arg;

    volume->attached_count--;
    if (--volume->leaving_count == 0) {
        detach_done();
    }
}

enum status app_tree_volume_detach(uint32_t index, void (*done)(void))
{
    struct app_volume *volume = app.volumes == NULL ? NULL : &app.volumes[index];

    if (volume == NULL || volume->attached_count == 0) {
        return STATUS_NOT_FOUND;
    }
    if (volume->leaving_count > 0) {
        return STATUS_AGAIN;
    }
    detach_done = done;
    for (uint32_t i = 0; i < app.function_count; i++) {
        struct config_tree_ns ns = {0};
        while (config_tree_next_ns(&app.tree, app.functions[i].pcie->fn, &ns)) {
            struct nvme_ctrl *ctrl = nvme_ep_ctrl(app.functions[i].ep);
            if (ns.volume == index &&
                nvme_ns_detach(ctrl, ns.nsid, detached, volume) == STATUS_OK) {
                volume->leaving_count++;
            }
        }
    }
    return volume->leaving_count > 0 ? STATUS_OK : STATUS_NOT_FOUND;
}
