/*
 * Start of the application: the only place that wires parts together.
 *
 * Order, and why: configuration first (everything is sized by it); scheduler before anything that
 * adds a poller; endpoints answer the host's register reads before volumes are made, since the
 * host's firmware probes early; RDY is held back until every drive that is used is known or has
 * failed.
 */
#include "app/app_priv.h"
#include "app/handover.h"

#include <stdio.h>
#include <string.h>
#include "app/update.h"
#include "app/update_nvme.h"
#include "base/log.h"
#include "base/version.h"
#include "hal/clock.h"
#include "hal/cpu.h"

#define SERVE_LOOK_NS       NS_PER_MS
#define READY_TIMEOUT_500MS 40 /* CAP.TO: 20 s, also for hosts under emulation */
#define NAMESPACE_ROOM      32
/* A fence has 1 s in all; an association needs up to 0.9 s after a cancel to be rid of a command.
 */
#define FENCE_CANCEL_MS 100

struct app app;

void *app_pool_take(uint64_t bytes, uint64_t alignment)
{
    uint64_t start = align_up((uint64_t)(uintptr_t)app.pool_next, alignment);
    uint64_t skipped = start - (uint64_t)(uintptr_t)app.pool_next;
    if (!range_fits(skipped, bytes, app.pool_left)) {
        return NULL;
    }
    app.pool_next += skipped + bytes;
    app.pool_left -= skipped + bytes;
    void *memory = (void *)(uintptr_t)start;
    if (!app.board->pool_is_zero) {
        memset(memory, 0, bytes);
    }
    return memory;
}

/* --- functions ----------------------------------------------------------------------------- */

static uint8_t doorbell_stride(const struct pcie_ep *pcie)
{
    uint8_t dstrd = app.config.functions[pcie->fn].dstrd;
    if (dstrd != CONFIG_DSTRD_AUTO) {
        return dstrd;
    }
    /* Mapped doorbells are polled where the host stores them: a cache line each. Trapped ones may
     * be shadowed (5.7), and a shadow buffer is one page for all queues. */
    return pcie->doorbell_mode == PCIE_EP_DOORBELLS_MAPPED ? 4 : 0;
}

static bool doorbell_buffers(const struct pcie_ep *pcie)
{
    switch ((enum config_choice)app.config.functions[pcie->fn].doorbell_buffers) {
    case CONFIG_ON:
        return true;
    case CONFIG_OFF:
        return false;
    case CONFIG_AUTO:
    default:
        return pcie->doorbell_mode == PCIE_EP_DOORBELLS_TRAPPED;
    }
}

/* NN. Some hosts' firmware (SeaBIOS) identifies each possible namespace in turn, so not all of
 * LIMIT_NAMESPACES; room for those that come later. */
static uint16_t namespace_room(uint16_t fn)
{
    const struct config_function *config = &app.config.functions[fn];
    uint32_t room = config->ns_room != 0 ? config->ns_room : NAMESPACE_ROOM;
    return (uint16_t)max_u64(room, max_u64(config->ns_count, config->ns_high));
}

static enum status function_start(struct pcie_ep *pcie)
{
    struct app_function *function = &app.functions[app.function_count];
    struct nvme_ep_memory *memory = app_pool_take(sizeof(*memory), _Alignof(struct nvme_ep_memory));
    if (memory == NULL) {
        LOG_ERROR("app: %u MiB of RAM are left: not enough for function %u",
                  (unsigned)(app.pool_left >> 20), (unsigned)pcie->fn);
        return STATUS_NO_SPACE;
    }
    /* A subsystem each: a host with two functions takes two controllers of one subsystem only when
     * both say so (CMIC), and namespaces without a name of their own are named after it. */
    snprintf(function->serial, sizeof(function->serial), "%s-%u", app.config.serial,
             (unsigned)pcie->fn);
    snprintf(function->subnqn, sizeof(function->subnqn), "nqn.2026-11.org.snic:%s-%u",
             app.config.serial, (unsigned)pcie->fn);
    const struct config_function *words = &app.config.functions[pcie->fn];
    struct nvme_ep_config config = {
        .pcie = pcie,
        .ctrl =
            {
                .serial = function->serial,
                .model = "snic SmartNIC drive",
                .firmware = app.version,
                .subnqn = function->subnqn,
                .pci_vendor_id = 0x1af4,
                .pci_subsystem_vendor_id = 0x1af4,
                .cntlid = (uint16_t)(pcie->fn + 1),
                .fn = pcie->fn,
                .io_queue_count = words->io_queues,
                .namespace_count = namespace_room(pcie->fn),
                .mdts = words->mdts,
                .doorbell_buffers = doorbell_buffers(pcie),
                .sgl = words->sgl,
                .hmb_preferred_bytes = app_host_memory_bytes(pcie->fn),
                .hmb_min_bytes = app_host_memory_bytes(pcie->fn),
                .firmware_ops = app_update_nvme_ops(),
                .firmware_ctx = function,
                .vendor = app_mgmt_vendor_ops(),
            },
        .core_mask = (1u << sched_core_count()) - 1,
        .dstrd = doorbell_stride(pcie),
        .ready_timeout_500ms = READY_TIMEOUT_500MS,
        .weighted_round_robin = true,
        .fence_cancel_ms = FENCE_CANCEL_MS,
    };
    app_host_identity(function, words, pcie->fn);
    memcpy(config.ctrl.host_id, function->hostid, sizeof(config.ctrl.host_id));
    enum status status = nvme_ep_init(memory, &config, &function->ep);
    if (status != STATUS_OK) {
        LOG_ERROR("app: function %u: %s", (unsigned)pcie->fn, status_text(status));
        return status;
    }
    function->pcie = pcie;
    function->ns_room = config.ctrl.namespace_count;
    app.function_count++;
    app_host_memory_use(function);
    app_take_over(function);
    nvme_ep_start(function->ep);
    return STATUS_OK;
}

/* --- serve --------------------------------------------------------------------------------- */

static void serve(void)
{
    for (uint32_t i = 0; i < app.function_count; i++) {
        nvme_ep_serve(app.functions[i].ep);
        app.functions[i].serving = true;
    }
    app_update_serving();
    LOG_INFO("app: serving %u function%s on %u core%s, %u ms after the start",
             (unsigned)app.function_count, app.function_count == 1 ? "" : "s",
             (unsigned)sched_core_count(), sched_core_count() == 1 ? "" : "s",
             (unsigned)(clock_now_ns() / NS_PER_MS));
}

static void serve_when_settled(struct timer *timer)
{
    bool late = sched_now_ns() >= app.serve_deadline_ns;
    bool settled = app_drives_settled();

    if (app_is_restarting()) {
        return;
    }
    if (!late && !(settled && app_tree_volumes_ready())) {
        timer_arm(timer, sched_now_ns() + SERVE_LOOK_NS);
        return;
    }
    if (!settled) {
        LOG_WARN("app: a drive is still not ready: its namespaces follow when it is");
    }
    app_tree_volumes_explain();
    serve();
}

/* --- start --------------------------------------------------------------------------------- */

/* False: something is wrong with it, which was logged. */
static bool configure_by_tree(const void *tree, uint32_t tree_bytes)
{
    static char error[200]; /* the tree keeps it */

    if (config_tree_open(&app.tree, tree, tree_bytes, &app.config, error, sizeof(error)) !=
        STATUS_OK) {
        LOG_ERROR("app: configuration: %s", error);
        return false;
    }
    app.has_tree = true;
    LOG_INFO("app: configured by a device tree: %u volumes, %u subsystems",
             (unsigned)app.tree.volume_count, (unsigned)app.tree.subsystem_count);
    return true;
}

/* Who starts the board has the tree at hand, and hears at once that it is wrong. The one in flash
 * may be wrong for years: then the firmware starts without a namespace, so that it can be replaced.
 */
static void configure_by_trees(const struct board *board)
{
    const struct config words = app.config;
    uint32_t tree_bytes;

    if (board->config_tree != NULL) {
        if (!configure_by_tree(board->config_tree, board->config_tree_bytes)) {
            board_exit(1);
        }
        return;
    }
    const void *tree = app_update_config_tree(&tree_bytes);
    if (tree != NULL && !configure_by_tree(tree, tree_bytes)) {
        LOG_ERROR("app: the configuration in flash is not used: no namespaces");
        app.config = words;
        memset(&app.tree, 0, sizeof(app.tree));
        for (uint32_t i = 0; i < LIMIT_FUNCTIONS; i++) {
            app.config.functions[i].ns_count = 0;
        }
    }
}

static void configure(const struct board *board)
{
    char error[160];
    uint32_t ignored;
    if (config_parse(board->config, &app.config, &ignored, error, sizeof(error)) != STATUS_OK) {
        LOG_ERROR("app: configuration: %s", error);
        board_exit(1);
    }
    configure_by_trees(board);
    if (ignored > 0) {
        LOG_WARN("app: configuration: '%s' is not known here and does nothing%s", error,
                 ignored == 1 ? "" : ", like other words");
    }
    if (app.config.cores == 0 || app.config.cores > board->core_count) {
        app.config.cores = board->core_count;
    }
}

static void vol_start_up(void)
{
    uint32_t cores = sched_core_count();
    void *memory = app_pool_take(vol_memory_bytes(cores), 64);
    if (memory == NULL) {
        LOG_ERROR("app: no memory for volumes");
        board_exit(1);
    }
    vol_init(memory, cores);
}

static void core_run(void *arg)
{
    (void)arg;
    sched_run();
}

static void cores_start(void)
{
    for (uint32_t core = 1; core < sched_core_count(); core++) {
        enum status status = cpu_start(core, core_run, NULL);
        if (status != STATUS_OK) {
            LOG_ERROR("app: core %u does not start: %s; use cores=1", (unsigned)core,
                      status_text(status));
            board_exit(1);
        }
    }
}

void app_main(const struct board *board)
{
    app_mgmt_start();
    app.board = board;
    snprintf(app.version, sizeof(app.version), "%s",
             board->version != NULL ? board->version : SNIC_VERSION);
    LOG_INFO("snic %s on %s, %u core%s, start after %s", app.version, board->name,
             (unsigned)board->core_count, board->core_count == 1 ? "" : "s", board->reset_cause);
    app.pool_next = board->pool_base;
    app.pool_left = board->pool_bytes;
    app_update_open(board);
    configure(board);
    sched_init(app.config.cores, app.config.idle);

    for (uint32_t i = 0; i < board->ep_count; i++) {
        if (function_start(board->eps[i]) != STATUS_OK) {
            board_exit(1);
        }
    }
    vol_start_up();
    app_drives_start();
    if (app_volumes_attach() != STATUS_OK) {
        board_exit(1);
    }
    if (app.function_count == 0) {
        LOG_WARN("app: no host side: this board has no endpoint function");
    }
    app_fabric_start();
    app_console_start();
    app_update_start();
    cores_start();
    board_seal_heap();

    app.serve_deadline_ns = clock_now_ns() + app.config.serve_wait_ms * NS_PER_MS;
    timer_init(&app.serve_timer, serve_when_settled);
    timer_arm(&app.serve_timer, clock_now_ns());
    sched_run();
}
