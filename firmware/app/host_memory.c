/*
 * Host Memory Buffer of functions that have a volume with data path "host-queues": asked for in
 * Identify, handed to the initiator when the host's driver grants it, taken away before the host is
 * told that it has it back.
 */
#include "app/app_priv.h"
#include "base/assert.h"
#include "base/log.h"

static bool has_path(const struct config_volume *words, uint32_t subsystem)
{
    for (uint32_t i = 0; i < words->path_count; i++) {
        if (words->paths[i].kind == CONFIG_PATH_REMOTE &&
            (subsystem == APP_ANY_SUBSYSTEM || words->paths[i].subsystem == subsystem)) {
            return true;
        }
    }
    return false;
}

bool app_wants_host_queues(uint16_t fn, uint32_t subsystem)
{
    struct config_tree_ns ns = {0};
    struct config_volume words;

    while (app.has_tree && config_tree_next_ns(&app.tree, fn, &ns)) {
        if (config_tree_volume(&app.tree, ns.volume, &words) == STATUS_OK &&
            words.data_path == NVMF_PATH_HOST_QUEUES && has_path(&words, subsystem)) {
            return true;
        }
    }
    return false;
}

uint32_t app_host_memory_bytes(uint16_t fn)
{
    if (!app_wants_host_queues(fn, APP_ANY_SUBSYSTEM)) {
        return 0;
    }
    return sched_core_count() * (uint32_t)nvmf_host_memory_bytes(LIMIT_NVMF_COMMANDS);
}

static void granted(void *ctx, const struct nvme_ep_hmb *hmb)
{
    const struct app_function *function = ctx;
    struct nvmf_host_piece pieces[LIMIT_HMB_PIECES];

    for (uint32_t i = 0; i < hmb->piece_count; i++) {
        pieces[i] = (struct nvmf_host_piece){.bus_addr = hmb->pieces[i].bus_addr,
                                             .len_bytes = hmb->pieces[i].len_bytes};
    }
    LOG_LIMITED(INFO, "app: function %u: the host grants %u KiB for queues",
                (unsigned)function->pcie->fn, (unsigned)(hmb->len_bytes / 1024));
    enum status status = nvmf_host_memory_grant(function->pcie->fn, pieces, hmb->piece_count);
    ASSERT(status == STATUS_OK);
}

static void revoke(void *ctx, void (*done)(void *arg), void *arg)
{
    const struct app_function *function = ctx;

    nvmf_host_memory_revoke(function->pcie->fn, done, arg);
}

void app_host_memory_use(struct app_function *function)
{
    static const struct nvme_ep_hmb_ops ops = {.granted = granted, .revoke = revoke};

    if (app_wants_host_queues(function->pcie->fn, APP_ANY_SUBSYSTEM)) {
        nvme_ep_hmb_use(function->ep, &ops, function);
    }
}
