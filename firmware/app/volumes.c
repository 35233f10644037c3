/*
 * Namespaces by words: the block devices that the words ns name, attached as namespaces 1, 2 ... of
 * each function. RAM and null devices are a function's own; a drive's namespace may be named by
 * several. Also the local drives, for words and tree. Volumes of the tree: volumes_tree.c.
 */
#include "app/app_priv.h"

#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "hal/pcie_rc.h"

#define NAME_BYTES 16

static struct blk_dev *make_ram(const struct config_ns *ns, uint16_t fn, uint32_t nsid, char *name)
{
    struct blk_ram *ram = app_pool_take(sizeof(*ram), _Alignof(struct blk_ram));
    struct blk_ram_config config = {.name = name,
                                    .memory = app_pool_take(ns->size_bytes, 4096),
                                    .size_bytes = ns->size_bytes,
                                    .lba_shift = ns->lba_shift};
    if (ram == NULL || config.memory == NULL) {
        LOG_ERROR("app: function %u: %u MiB for a RAM disk, %u MiB are left", (unsigned)fn,
                  (unsigned)(ns->size_bytes >> 20), (unsigned)(app.pool_left >> 20));
        return NULL;
    }
    snprintf(name, NAME_BYTES, "ram%u.%u", (unsigned)fn, (unsigned)nsid);
    app_make_uuid(config.uuid, fn, nsid);
    app.has_ram_disk = true;
    return blk_ram_init(ram, &config) == STATUS_OK ? &ram->dev : NULL;
}

static struct blk_dev *make_null(const struct config_ns *ns, uint16_t fn, uint32_t nsid, char *name)
{
    struct blk_null *null = app_pool_take(sizeof(*null), _Alignof(struct blk_null));
    if (null == NULL) {
        return NULL;
    }
    snprintf(name, NAME_BYTES, "null%u.%u", (unsigned)fn, (unsigned)nsid);
    return blk_null_init(null, name, ns->size_bytes, ns->lba_shift) == STATUS_OK ? &null->dev
                                                                                 : NULL;
}

static struct blk_dev *make_device(const struct config_ns *ns, uint16_t fn, uint32_t nsid)
{
    char *name = app_pool_take(NAME_BYTES, 8);
    if (name == NULL) {
        return NULL;
    }
    switch (ns->kind) {
    case CONFIG_NS_RAM:
        return make_ram(ns, fn, nsid, name);
    case CONFIG_NS_NULL:
        return make_null(ns, fn, nsid, name);
    case CONFIG_NS_DRIVE:
        if (ns->drive >= app.drive_count || app.drives[ns->drive] == NULL) {
            LOG_ERROR("app: drive:%u: this board has %u drive%s behind it", (unsigned)ns->drive,
                      (unsigned)app.drive_count, app.drive_count == 1 ? "" : "s");
            return NULL;
        }
        return nvme_drv_blk(app.drives[ns->drive], ns->drive_nsid);
    default:
        return NULL;
    }
}

enum status app_volumes_attach(void)
{
    for (uint32_t i = 0; i < app.function_count; i++) {
        uint16_t fn = app.functions[i].pcie->fn;
        const struct config_function *function = &app.config.functions[fn];
        for (uint32_t nsid = 1; nsid <= function->ns_count; nsid++) {
            struct blk_dev *dev = make_device(&function->ns[nsid - 1], fn, nsid);
            if (dev == NULL) {
                return STATUS_NO_SPACE;
            }
            enum status status = nvme_ns_attach(nvme_ep_ctrl(app.functions[i].ep), nsid, dev);
            if (status != STATUS_OK) {
                LOG_ERROR("app: function %u, namespace %u: %s", (unsigned)fn, (unsigned)nsid,
                          status_text(status));
                return status;
            }
            LOG_INFO("app: function %u, namespace %u: %s", (unsigned)fn, (unsigned)nsid, dev->name);
        }
    }
    return STATUS_OK;
}

/* --- drives -------------------------------------------------------------------------------- */

static bool drive_is_in_tree(uint32_t index)
{
    struct config_volume volume;

    for (uint32_t v = 0; app.has_tree && v < app.tree.volume_count; v++) {
        if (config_tree_volume(&app.tree, v, &volume) != STATUS_OK) {
            continue;
        }
        for (uint32_t p = 0; p < volume.path_count; p++) {
            if (volume.paths[p].kind == CONFIG_PATH_DRIVE && volume.paths[p].drive == index) {
                return true;
            }
        }
    }
    return false;
}

static bool drive_is_named(uint32_t index)
{
    if (drive_is_in_tree(index)) {
        return true;
    }
    for (uint32_t f = 0; f < app.function_count; f++) {
        const struct config_function *function = &app.config.functions[app.functions[f].pcie->fn];
        for (uint32_t n = 0; n < function->ns_count; n++) {
            if (function->ns[n].kind == CONFIG_NS_DRIVE && function->ns[n].drive == index) {
                return true;
            }
        }
    }
    return false;
}

void app_drives_start(void)
{
    nvme_drv_init();
    for (uint32_t i = 0; i < LIMIT_DRIVES; i++) {
        const struct pcie_rc_device *device = nvme_drv_device(i);
        if (device == NULL) {
            return;
        }
        app.drive_count = i + 1;
        if (!drive_is_named(i)) {
            LOG_INFO("app: drive %u is there, but no namespace uses it", (unsigned)i);
            continue;
        }
        enum status status = nvme_drv_attach(device, NULL, NULL, &app.drives[i]);
        if (status != STATUS_OK) {
            LOG_ERROR("app: drive %u: %s", (unsigned)i, status_text(status));
            app.drives[i] = NULL;
        }
    }
}

bool app_drives_settled(void)
{
    for (uint32_t i = 0; i < app.drive_count; i++) {
        if (app.drives[i] == NULL) {
            continue;
        }
        enum nvme_drv_state state = nvme_drv_state(app.drives[i]);
        if (state != NVME_DRV_READY && state != NVME_DRV_FAILED && state != NVME_DRV_REMOVED) {
            return false;
        }
    }
    return true;
}
