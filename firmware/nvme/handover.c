/*
 * What another image needs to go on with this controller: features, events, changed namespaces.
 *
 * Leaves out: entries of the error log, counters of SMART (they are of this run anyway), the
 * feature Error Recovery (05h) of namespaces: a host that has set one is not handed over.
 */
#include "nvme/handover.h"

#include <string.h>
#include "base/assert.h"
#include "base/counter.h"
#include "hal/clock.h"
#include "nvme/nvme_priv.h"

_Static_assert(HANDOVER_EVENTS == NVME_EVENT_TYPES, "all types are handed over");
_Static_assert(NVME_FEATURE_SLOTS <= HANDOVER_FEATURES, "all features are handed over");
_Static_assert(LIMIT_VECTORS <= 128, "no_coalescing has 128 bits");

bool nvme_ctrl_can_save(const struct nvme_ctrl *ctrl)
{
    for (uint32_t i = 0; i < LIMIT_NAMESPACES; i++) {
        if (ctrl->slots[i].error_recovery != 0) {
            return false;
        }
    }
    return true;
}

void nvme_ctrl_save(const struct nvme_ctrl *ctrl, struct handover_ctrl *saved)
{
    const struct nvme_feature_values *values = &ctrl->features;

    ASSERT(ctrl->enabled && !values->host_memory_busy);
    *saved = (struct handover_ctrl){.mdts = ctrl->config.mdts,
                                    .under_temperature_kelvin = values->temperature_under_kelvin,
                                    .timestamp_is_set = values->timestamp_is_set,
                                    .host_acre = values->host_acre,
                                    .io_queue_created = ctrl->io_queue_created,
                                    .error_count = counter_get(&ctrl->error_count),
                                    .media_error_count = counter_get(&ctrl->media_error_count)};
    memcpy(saved->features, values->value, sizeof(values->value));
    memcpy(saved->host_memory, values->host_memory, sizeof(values->host_memory));
    memcpy(saved->no_coalescing, values->vector_no_coalescing,
           sizeof(values->vector_no_coalescing));
    memcpy(saved->changed_ns, ctrl->changed_ns, sizeof(ctrl->changed_ns));
    saved->timestamp_ms =
        values->timestamp_ms + (clock_now_ns() - values->timestamp_set_ns) / NS_PER_MS;
    for (uint32_t type = 0; type < NVME_EVENT_TYPES; type++) {
        const struct nvme_event_state *event = &ctrl->events[type];
        struct handover_event *to = &saved->events[type];
        to->pending = event->pending;
        to->is_masked = event->masked;
        to->masked_log_page = event->masked_log_page;
        memcpy(to->log_page, event->log_page, sizeof(to->log_page));
    }
}

bool nvme_ctrl_can_restore(const struct nvme_ctrl *ctrl, const struct handover_ctrl *saved)
{
    uint32_t queues = saved->features[NVME_FEATURE_QUEUES];
    uint32_t count = ctrl->config.io_queue_count;

    return saved->mdts <= ctrl->config.mdts && FIELD_GET(NVME_QUEUES_SQ, queues) < count &&
           FIELD_GET(NVME_QUEUES_CQ, queues) < count;
}

void nvme_ctrl_restore(struct nvme_ctrl *ctrl, const struct handover_ctrl *saved)
{
    struct nvme_feature_values *values = &ctrl->features;

    counter_set(&ctrl->error_count, saved->error_count);
    counter_set(&ctrl->media_error_count, saved->media_error_count);
    nvme_ctrl_enable(ctrl); /* which may have news of its own: an image that failed */
    ctrl->io_queue_created = saved->io_queue_created != 0;
    memcpy(values->value, saved->features, sizeof(values->value));
    memcpy(values->host_memory, saved->host_memory, sizeof(values->host_memory));
    memcpy(values->vector_no_coalescing, saved->no_coalescing,
           sizeof(values->vector_no_coalescing));
    values->temperature_under_kelvin = saved->under_temperature_kelvin;
    values->timestamp_ms = saved->timestamp_ms;
    values->timestamp_is_set = saved->timestamp_is_set != 0;
    values->host_acre = saved->host_acre;
    nvme_features_write_cache_take(ctrl);
    memcpy(ctrl->changed_ns, saved->changed_ns, sizeof(ctrl->changed_ns));
    for (uint32_t type = 0; type < NVME_EVENT_TYPES; type++) {
        const struct handover_event *from = &saved->events[type];
        struct nvme_event_state *event = &ctrl->events[type];
        for (uint32_t waiting = from->pending; waiting != 0; waiting &= waiting - 1) {
            uint32_t info = lowest_bit(waiting);
            event->log_page[info] = from->log_page[info];
        }
        event->pending |= from->pending;
        event->masked = from->is_masked != 0;
        event->masked_log_page = from->masked_log_page;
    }
}
