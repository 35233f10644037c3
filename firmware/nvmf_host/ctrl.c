/*
 * Associations with remote NVMe controllers: public calls, memory, reports. What one of them
 * does is in ctrl_state.c. Core 0.
 */
#include "base/assert.h"
#include "base/log.h"
#include "nvmf_host/ctrl_priv.h"

#define KEEP_ALIVE_MAX_MS 3600000u

static uint32_t ctrl_count;

/* --- names ---------------------------------------------------------------------------------- */

const char *nvmf_ctrl_state_name(enum nvmf_ctrl_state state)
{
    static const char *const names[] = {
#define NVMF_CTRL_STATE_TEXT(name, text) [NVMF_CTRL_##name] = #name,
        NVMF_CTRL_STATE_LIST(NVMF_CTRL_STATE_TEXT)
#undef NVMF_CTRL_STATE_TEXT
    };
    return (uint32_t)state < ARRAY_SIZE(names) ? names[state] : "?";
}

const char *nvmf_fail_text(enum nvmf_fail fail)
{
    static const char *const texts[] = {
#define NVMF_FAIL_TEXT(name, text) [NVMF_FAIL_##name] = text,
        NVMF_FAIL_LIST(NVMF_FAIL_TEXT)
#undef NVMF_FAIL_TEXT
    };
    return (uint32_t)fail < ARRAY_SIZE(texts) ? texts[fail] : "?";
}

const char *nvmf_path_name(enum nvmf_path path)
{
    static const char *const names[NVMF_PATH_COUNT] = {
        [NVMF_PATH_ZERO_COPY] = "zero-copy",
        [NVMF_PATH_TERMINATE] = "terminate",
        [NVMF_PATH_HOST_QUEUES] = "host-queues",
    };
    return (uint32_t)path < ARRAY_SIZE(names) ? names[path] : "?";
}

/* --- configuration and memory --------------------------------------------------------------- */

static uint32_t or_default(uint32_t value, uint32_t value_default)
{
    return value != 0 ? value : value_default;
}

static void fill_in(struct nvmf_ctrl_config *config)
{
    config->port = (uint16_t)or_default(config->port, NVMF_RDMA_PORT);
    config->queue_entries = (uint16_t)or_default(config->queue_entries, 128);
    config->keep_alive_ms = or_default(config->keep_alive_ms, 5000);
    config->connect_timeout_ms = or_default(config->connect_timeout_ms, 10000);
    config->command_timeout_ms = or_default(config->command_timeout_ms, 8000);
    config->backoff_low_ms = or_default(config->backoff_low_ms, 200);
    config->backoff_high_ms = or_default(config->backoff_high_ms, 5000);
    config->quiesce_ms = or_default(config->quiesce_ms, 1000);
}

bool nvmf_nqn_is_valid(const char *nqn)
{
    return nqn != NULL && nqn[0] != '\0' && strlen(nqn) <= NVMF_NQN_MAX_CHARS;
}

static bool is_valid(const struct nvmf_ctrl_config *config)
{
    return config->name != NULL && strlen(config->name) < NVMF_NAME_BYTES &&
           config->fn < LIMIT_FUNCTIONS && !net_addr_is_zero(&config->addr) &&
           nvmf_nqn_is_valid(config->subnqn) && nvmf_nqn_is_valid(config->hostnqn) &&
           config->queue_entries >= 2 && config->queue_entries <= LIMIT_NVMF_QUEUE_ENTRIES &&
           config->keep_alive_ms <= KEEP_ALIVE_MAX_MS &&
           config->backoff_low_ms <= config->backoff_high_ms && nvmf_core_find(0) != NULL;
}

static uint8_t *take(uint8_t **next, uint64_t len_bytes)
{
    uint8_t *memory = *next;

    *next += align_up(len_bytes, 4096);
    return memory;
}

static uint64_t queue_bytes(const struct nvmf_core *core, uint32_t entries)
{
    return align_up(nvmf_queue_memory_bytes(nvmf_core_device(core), entries), 4096);
}

uint64_t nvmf_ctrl_memory_bytes(const struct nvmf_ctrl_config *config)
{
    uint64_t bytes = align_up(sizeof(struct nvmf_ctrl), 4096) + 2 * NVMF_DATA_BYTES;
    uint32_t entries = or_default(config->queue_entries, 128);

    for (uint32_t i = 0; i < sched_core_count(); i++) {
        const struct nvmf_core *core = nvmf_core_find(i);
        if (core != NULL) {
            bytes +=
                queue_bytes(core, entries) + (i == 0 ? queue_bytes(core, NVMF_ADMIN_ENTRIES) : 0);
        }
    }
    return bytes;
}

static void init_links(struct nvmf_ctrl *ctrl, uint8_t **next)
{
    uint32_t entries = ctrl->config.queue_entries;

    for (uint32_t i = 0; i < sched_core_count(); i++) {
        struct nvmf_core *core = nvmf_core_find(i);
        if (core == NULL) {
            continue;
        }
        if (i == 0) {
            nvmf_link_init(&ctrl->admin_link, ctrl, core,
                           take(next, queue_bytes(core, NVMF_ADMIN_ENTRIES)), NVMF_ADMIN_ENTRIES);
        }
        nvmf_link_init(&ctrl->links[ctrl->link_count++], ctrl, core,
                       take(next, queue_bytes(core, entries)), entries);
    }
}

/* --- life ----------------------------------------------------------------------------------- */

static void on_wake(struct msg *msg)
{
    struct nvmf_ctrl *ctrl = CONTAINER_OF(msg, struct nvmf_ctrl, wake_msg);

    ctrl->is_waking = false;
    nvmf_ctrl_run(ctrl);
}

static void on_timer(struct timer *timer)
{
    nvmf_ctrl_run(CONTAINER_OF(timer, struct nvmf_ctrl, timer));
}

static void on_admin_wake(struct nvmf_admin *admin)
{
    nvmf_ctrl_wake(CONTAINER_OF(admin, struct nvmf_ctrl, admin));
}

static void on_host_memory(struct nvmf_host_user *user)
{
    nvmf_ctrl_move(CONTAINER_OF(user, struct nvmf_ctrl, host_user));
}

static void init(struct nvmf_ctrl *ctrl, const struct nvmf_ctrl_config *config, uint8_t *rest)
{
    ctrl->config = *config;
    ctrl->config.name = NULL; /* what they point at is copied */
    ctrl->config.subnqn = NULL;
    ctrl->config.hostnqn = NULL;
    memcpy(ctrl->name, config->name, strlen(config->name) + 1);
    ctrl->target.addr = config->addr;
    ctrl->target.port = config->port;
    ctrl->target.fn = config->fn;
    memcpy(ctrl->target.subnqn, config->subnqn, strlen(config->subnqn) + 1);
    memcpy(ctrl->target.hostnqn, config->hostnqn, strlen(config->hostnqn) + 1);
    memcpy(ctrl->target.hostid, config->hostid, sizeof(ctrl->target.hostid));
    ctrl->admin.scratch.memory = take(&rest, NVMF_DATA_BYTES);
    ctrl->admin.scratch.len_bytes = NVMF_DATA_BYTES;
    ctrl->admin.data = take(&rest, NVMF_DATA_BYTES);
    init_links(ctrl, &rest);
    ctrl->memory_bytes = (uint64_t)(rest - (uint8_t *)ctrl);
    ctrl->admin.queue = &ctrl->admin_link.queue;
    ctrl->admin.wake = on_admin_wake;
    ctrl->admin.timeout_ns = config->connect_timeout_ms * NS_PER_MS;
    timer_init(&ctrl->timer, on_timer);
    ctrl->wake_msg.fn = on_wake;
    list_init(&ctrl->aborts);
    list_init(&ctrl->host_user.link);
    ctrl->host_user.fn = config->fn;
    ctrl->host_user.changed = on_host_memory;
    nvmf_scan_init(ctrl);
}

enum status nvmf_ctrl_create(void *memory, const struct nvmf_ctrl_config *config,
                             struct nvmf_ctrl **out)
{
    struct nvmf_ctrl *ctrl = memory;
    struct nvmf_ctrl_config filled = *config;

    fill_in(&filled);
    if (!is_valid(&filled)) {
        return STATUS_INVALID;
    }
    if (ctrl_count == LIMIT_NVMF_CTRLS) {
        return STATUS_NO_SPACE;
    }
    init(ctrl, &filled, (uint8_t *)memory + align_up(sizeof(struct nvmf_ctrl), 4096));
    enum status status = nvmf_scratch_register(nvmf_core_find(0), filled.fn, &ctrl->admin.scratch);
    if (status != STATUS_OK) {
        return status;
    }
    ctrl_count++;
    if (ctrl->config.host_queues) {
        nvmf_host_user_add(&ctrl->host_user);
    }
    nvmf_ctrl_wake(ctrl);
    *out = ctrl;
    return STATUS_OK;
}

void nvmf_ctrl_close(struct nvmf_ctrl *ctrl, void (*done)(void *arg), void *arg)
{
    ASSERT(!ctrl->is_closing);
    ctrl->is_closing = true;
    ctrl->done = done;
    ctrl->done_arg = arg;
    nvmf_ctrl_wake(ctrl);
}

void nvmf_ctrl_finish(struct nvmf_ctrl *ctrl)
{
    timer_cancel(&ctrl->timer);
    nvmf_host_user_remove(&ctrl->host_user);
    nvmf_scratch_release(&ctrl->admin.scratch);
    ctrl_count--;
    LOG_INFO("nvmf: %s: closed", ctrl->name);
    if (ctrl->done != NULL) {
        ctrl->done(ctrl->done_arg);
    }
}

void nvmf_ctrl_reset(struct nvmf_ctrl *ctrl)
{
    if (ctrl->state >= NVMF_CTRL_CONNECT_ADMIN && ctrl->state <= NVMF_CTRL_LIVE) {
        nvmf_ctrl_fail(ctrl, NVMF_FAIL_ASKED, 0);
    }
}

struct nvmf_ctrl_shared *nvmf_ctrl_shared(struct nvmf_ctrl *ctrl)
{
    return &ctrl->shared;
}

/* --- reports -------------------------------------------------------------------------------- */

void nvmf_ctrl_info(const struct nvmf_ctrl *ctrl, struct nvmf_ctrl_info *info)
{
    *info = (struct nvmf_ctrl_info){.name = ctrl->name,
                                    .subnqn = ctrl->target.subnqn,
                                    .fn = ctrl->target.fn,
                                    .cntlid = ctrl->cntlid,
                                    .state = ctrl->state,
                                    .fail = ctrl->fail,
                                    .fail_code = ctrl->fail_code,
                                    .queue_entries = ctrl->caps.queue_entries,
                                    .in_flight = nvmf_links_in_flight(ctrl),
                                    .ns_count = ctrl->ns_count,
                                    .connect_count = ctrl->connect_count,
                                    .attempt_count = ctrl->attempt_count,
                                    .next_ns = ctrl->next_ns,
                                    .event_count = ctrl->event_count,
                                    .memory_bytes = ctrl->memory_bytes,
                                    .in_capsule_bytes = ctrl->caps.icd_bytes,
                                    .max_transfer_bytes = ctrl->caps.max_transfer_bytes,
                                    .keep_alive_ms = ctrl->caps.kato_ms,
                                    .quiesce_ms = ctrl->caps.quiesce_ms,
                                    .sq_flow_control = !ctrl->admin_link.queue.sq_flow_off};
    for (uint32_t i = 0; i < ctrl->link_count; i++) {
        bool is_open = ctrl->links[i].state == NVMF_LINK_OPEN;
        info->queue_count += is_open;
        info->host_queue_count += is_open && ctrl->links[i].queue.is_on_host;
    }
    for (uint32_t i = 0; i < LIMIT_CORES; i++) {
        info->timeout_count += counter_get(&ctrl->shared.core[i].timeouts);
        info->abort_count += counter_get(&ctrl->shared.core[i].aborts);
    }
    memcpy(info->model, ctrl->caps.model, sizeof(info->model));
    memcpy(info->serial, ctrl->caps.serial, sizeof(info->serial));
    memcpy(info->firmware, ctrl->caps.firmware, sizeof(info->firmware));
}

void nvmf_ctrl_stats(const struct nvmf_ctrl *ctrl, enum nvmf_path path,
                     struct nvmf_path_stats *stats)
{
    uint64_t *to = (uint64_t *)stats; /* both are this list of 64-bit numbers */

    *stats = (struct nvmf_path_stats){0};
    for (uint32_t i = 0; i < LIMIT_CORES; i++) {
        const _Atomic uint64_t *from = (const _Atomic uint64_t *)&ctrl->shared.core[i].path[path];
        for (uint32_t k = 0; k < sizeof(*stats) / sizeof(*to); k++) {
            to[k] += counter_get(&from[k]);
        }
    }
}
