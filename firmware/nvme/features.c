/*
 * Get Features (5.13) and Set Features (5.21). None is saveable; all go back to their defaults when
 * the controller is enabled.
 *
 * Leaves out: LBA Range Type, APST, thermal management, reservation notifications and persistence
 * (of which a block device here knows nothing).
 * Source: NVM Express Base Specification 1.4.
 */
#include <string.h>
#include "base/assert.h"
#include "hal/clock.h"
#include "nvme/nvme_priv.h"

struct feature {
    uint32_t mask; /* of cdw11 */
    uint32_t initial;
    uint32_t flags;
    bool exists;
};

static const struct feature features[NVME_FEATURE_SLOTS] = {
#define FEATURE(name, bits, value, feature_flags) \
    [NVME_FEATURE_##                              \
        name] = {.mask = (bits), .initial = (value), .flags = (feature_flags), .exists = true},
    NVME_FEATURES(FEATURE)
#undef FEATURE
};

/* 5.21.1.26. A host that wants reservations sets this on a controller that is the drive itself.
 * Here the drive is another controller, to which we introduced the host by the identifier that its
 * tenant is configured with, before the host was there to be asked; a fabrics controller takes no
 * other one after Connect. So the feature is there, not changeable, and says which one it is. Far
 * beyond the other identifiers, hence not in the table. */
static const struct feature host_id_feature = {.flags = NVME_FEATURE_DATA | NVME_FEATURE_FIXED,
                                               .exists = true};

bool nvme_host_id_is_known(const struct nvme_ctrl *ctrl)
{
    uint8_t bits = 0;

    for (uint32_t i = 0; i < sizeof(ctrl->config.host_id); i++) {
        bits |= ctrl->config.host_id[i];
    }
    return bits != 0;
}

bool nvme_host_memory_is_offered(const struct nvme_ctrl *ctrl)
{
    return ctrl->config.hmb_preferred_bytes != 0 && ctrl->ops->host_memory != NULL;
}

/* NULL: not one of this controller's. */
static const struct feature *feature_find(const struct nvme_ctrl *ctrl, uint32_t fid)
{
    if (fid == NVME_FEATURE_HOST_ID) {
        return nvme_host_id_is_known(ctrl) ? &host_id_feature : NULL;
    }
    if (fid >= NVME_FEATURE_SLOTS || !features[fid].exists ||
        (fid == NVME_FEATURE_KEEP_ALIVE && !ctrl->config.keep_alive) ||
        (fid == NVME_FEATURE_HOST_MEMORY && !nvme_host_memory_is_offered(ctrl))) {
        return NULL;
    }
    return &features[fid];
}

/* --- values --------------------------------------------------------------------------------- */

static uint32_t initial_value(const struct nvme_ctrl *ctrl, uint32_t fid, uint32_t cdw11)
{
    uint32_t vector = (uint32_t)FIELD_GET(NVME_VECTOR_INDEX, cdw11);

    switch (fid) {
    case NVME_FEATURE_QUEUES:
        return (uint32_t)(ctrl->config.io_queue_count - 1) * 0x10001u;
    case NVME_FEATURE_INTERRUPT_VECTOR: /* 7.5: the admin queue's is not coalesced */
        return vector | (vector == 0 ? NVME_VECTOR_COALESCING_DISABLE : 0);
    case NVME_FEATURE_TEMPERATURE_THRESHOLD:
        return FIELD_GET(NVME_TEMPERATURE_TYPE, cdw11) == NVME_TEMPERATURE_TYPE_UNDER
                   ? 0
                   : features[fid].initial;
    default:
        return features[fid].initial;
    }
}

static uint32_t vector_value(const struct nvme_ctrl *ctrl, uint32_t vector)
{
    bool disabled = (ctrl->features.vector_no_coalescing[vector / 64] >> vector % 64 & 1) != 0;

    return vector | (disabled ? NVME_VECTOR_COALESCING_DISABLE : 0);
}

uint32_t nvme_ctrl_feature(const struct nvme_ctrl *ctrl, uint8_t fid, uint32_t cdw11)
{
    uint32_t vector = (uint32_t)FIELD_GET(NVME_VECTOR_INDEX, cdw11);

    ASSERT(fid < NVME_FEATURE_SLOTS);
    switch (fid) {
    case NVME_FEATURE_INTERRUPT_VECTOR:
        ASSERT(vector < ctrl->config.vector_count);
        return vector_value(ctrl, vector);
    case NVME_FEATURE_TEMPERATURE_THRESHOLD:
        return FIELD_GET(NVME_TEMPERATURE_TYPE, cdw11) == NVME_TEMPERATURE_TYPE_UNDER
                   ? ctrl->features.temperature_under_kelvin
                   : ctrl->features.value[fid];
    default:
        return ctrl->features.value[fid];
    }
}

static void vector_set(struct nvme_ctrl *ctrl, uint32_t cdw11)
{
    uint32_t vector = (uint32_t)FIELD_GET(NVME_VECTOR_INDEX, cdw11);
    uint64_t *word = &ctrl->features.vector_no_coalescing[vector / 64];

    if ((cdw11 & NVME_VECTOR_COALESCING_DISABLE) != 0) {
        *word |= BIT64(vector % 64);
    } else {
        *word &= ~BIT64(vector % 64);
    }
}

static void write_through_set(struct nvme_ctrl *ctrl, bool on)
{
    atomic_store_explicit(&ctrl->write_through, on, memory_order_relaxed);
    nvme_ns_update_access(ctrl);
}

void nvme_features_write_cache_take(struct nvme_ctrl *ctrl)
{
    write_through_set(ctrl, ctrl->features.value[NVME_FEATURE_VOLATILE_WRITE_CACHE] == 0);
}

void nvme_features_reset(struct nvme_ctrl *ctrl)
{
    memset(&ctrl->features, 0, sizeof(ctrl->features));
    for (uint32_t fid = 0; fid < NVME_FEATURE_SLOTS; fid++) {
        if (features[fid].exists) {
            ctrl->features.value[fid] = initial_value(ctrl, fid, 0);
        }
    }
    vector_set(ctrl, NVME_VECTOR_COALESCING_DISABLE);
    ctrl->features.timestamp_set_ns = clock_now_ns();
    for (uint32_t i = 0; i < LIMIT_NAMESPACES; i++) {
        ctrl->slots[i].error_recovery = 0;
    }
    write_through_set(ctrl, false);
}

/* --- checks that Get and Set share ---------------------------------------------------------- */

/* Selectors within cdw11 name something that exists. */
static bool selector_is_valid(const struct nvme_ctrl *ctrl, uint32_t fid, uint32_t cdw11, bool set)
{
    uint32_t sensor = (uint32_t)FIELD_GET(NVME_TEMPERATURE_SENSOR, cdw11);

    switch (fid) {
    case NVME_FEATURE_INTERRUPT_VECTOR:
        return FIELD_GET(NVME_VECTOR_INDEX, cdw11) < ctrl->config.vector_count;
    case NVME_FEATURE_TEMPERATURE_THRESHOLD:
        return FIELD_GET(NVME_TEMPERATURE_TYPE, cdw11) <= NVME_TEMPERATURE_TYPE_UNDER &&
               (sensor == NVME_TEMPERATURE_SENSOR_COMPOSITE ||
                (set && sensor == NVME_TEMPERATURE_SENSOR_ALL));
    case NVME_FEATURE_HOST_ID: /* ours has 128 bits (CTRATT bit 0); none of 64 goes with it */
        return (cdw11 & NVME_HOST_ID_EXTENDED) != 0;
    default:
        return true;
    }
}

/* --- Get Features --------------------------------------------------------------------------- */

static void timestamp_fill(struct nvme_ctrl *ctrl, bool current)
{
    struct nvme_feature_values *values = &ctrl->features;
    struct nvme_timestamp stamp = {.attributes = NVME_TIMESTAMP_ORIGIN_RESET};

    if (current) {
        uint64_t ms =
            values->timestamp_ms + (clock_now_ns() - values->timestamp_set_ns) / NS_PER_MS;
        memcpy(stamp.milliseconds, &ms, sizeof(stamp.milliseconds));
        if (values->timestamp_is_set) {
            stamp.attributes =
                (uint8_t)FIELD_PREP(NVME_TIMESTAMP_ORIGIN, NVME_TIMESTAMP_ORIGIN_SET);
        }
    }
    memcpy(ctrl->scratch, &stamp, sizeof(stamp));
}

static void get_data(struct nvme_cmd *cmd, uint32_t fid, bool current)
{
    struct nvme_ctrl *ctrl = cmd->ctrl;
    uint32_t len_bytes = sizeof(struct nvme_timestamp);
    uint32_t dw0 = 0;

    memset(ctrl->scratch, 0, sizeof(ctrl->scratch));
    switch (fid) {
    case NVME_FEATURE_HOST_BEHAVIOR:
        len_bytes = sizeof(struct nvme_host_behavior);
        ctrl->scratch[0] = current ? ctrl->features.host_acre : 0;
        break;
    case NVME_FEATURE_HOST_MEMORY:
        len_bytes = sizeof(struct nvme_host_memory_attributes);
        if (current) {
            dw0 = ctrl->features.value[fid];
            memcpy(ctrl->scratch, ctrl->features.host_memory, sizeof(ctrl->features.host_memory));
        }
        break;
    case NVME_FEATURE_HOST_ID: /* the default is the same */
        len_bytes = NVME_HOST_ID_BYTES;
        memcpy(ctrl->scratch, ctrl->config.host_id, NVME_HOST_ID_BYTES);
        break;
    default:
        timestamp_fill(ctrl, current);
        break;
    }
    if (nvme_admin_reply(cmd, 0, len_bytes, len_bytes)) {
        nvme_admin_end(cmd, NVME_SC_SUCCESS, dw0);
    }
}

/* 5.13: a namespace's feature is asked of one active namespace. */
static nvme_status_t get_nsid_check(struct nvme_ctrl *ctrl, uint32_t nsid)
{
    if (nsid == NVME_NSID_ALL) {
        return NVME_SC_INVALID_NS_OR_FORMAT | NVME_STATUS_DNR;
    }
    return nvme_ns_find(ctrl, nsid) == NULL ? nvme_ns_refusal(ctrl, nsid) : NVME_SC_SUCCESS;
}

void nvme_admin_get_features(struct nvme_cmd *cmd)
{
    struct nvme_ctrl *ctrl = cmd->ctrl;
    const struct nvme_sqe *sqe = &cmd->blk.cmd;
    uint32_t fid = (uint32_t)FIELD_GET(NVME_FEATURE_ID, sqe->cdw10);
    uint32_t select = (uint32_t)FIELD_GET(NVME_FEATURE_SEL, sqe->cdw10);
    const struct feature *feature = feature_find(ctrl, fid);

    if (feature == NULL) {
        nvme_fail(cmd, NVME_SC_INVALID_FIELD, NVME_AT_CDW10);
        return;
    }
    if (select > NVME_SELECT_CAPABILITIES) {
        nvme_fail(cmd, NVME_SC_INVALID_FIELD, NVME_ERROR_LOCATION(41, 0));
        return;
    }
    bool per_ns = (feature->flags & NVME_FEATURE_PER_NS) != 0;
    if (select == NVME_SELECT_CAPABILITIES) {
        nvme_admin_end(
            cmd, NVME_SC_SUCCESS,
            ((feature->flags & NVME_FEATURE_FIXED) != 0 ? 0 : NVME_FEATURE_CAP_CHANGEABLE) |
                (per_ns ? NVME_FEATURE_CAP_NS_SPECIFIC : 0));
        return;
    }
    nvme_status_t status = per_ns ? get_nsid_check(ctrl, sqe->nsid) : NVME_SC_SUCCESS;
    if (status != 0) {
        cmd->error_location = NVME_AT_NSID;
        nvme_end(cmd, status);
        return;
    }
    if (!selector_is_valid(ctrl, fid, sqe->cdw11, false)) {
        nvme_fail(cmd, NVME_SC_INVALID_FIELD, NVME_AT_CDW11);
        return;
    }
    /* Nothing is saved: the saved value is the default (5.13). */
    bool current = select == NVME_SELECT_CURRENT;
    if ((feature->flags & NVME_FEATURE_DATA) != 0) {
        get_data(cmd, fid, current);
    } else if (!current) {
        nvme_admin_end(cmd, NVME_SC_SUCCESS, initial_value(ctrl, fid, sqe->cdw11));
    } else if (per_ns) {
        nvme_admin_end(cmd, NVME_SC_SUCCESS, ctrl->slots[sqe->nsid - 1].error_recovery);
    } else {
        nvme_admin_end(cmd, NVME_SC_SUCCESS, nvme_ctrl_feature(ctrl, (uint8_t)fid, sqe->cdw11));
    }
}

/* --- Set Features --------------------------------------------------------------------------- */

/* What a setter found: the status and where it lies, or the dw0 of a success. */
struct outcome {
    nvme_status_t status;
    uint16_t location;
    uint32_t dw0;
};

static struct outcome bad_field(uint16_t location)
{
    return (struct outcome){.status = NVME_SC_INVALID_FIELD, .location = location};
}

/* 5.21.1.7 */
static struct outcome set_queues(struct nvme_ctrl *ctrl, uint32_t cdw11)
{
    uint32_t sqs = (uint32_t)FIELD_GET(NVME_QUEUES_SQ, cdw11);
    uint32_t cqs = (uint32_t)FIELD_GET(NVME_QUEUES_CQ, cdw11);
    uint32_t most = ctrl->config.io_queue_count - 1u;

    if (ctrl->io_queue_created) {
        return (struct outcome){.status = NVME_SC_COMMAND_SEQUENCE_ERROR,
                                .location = NVME_ERROR_LOCATION_NONE};
    }
    if (sqs == 0xffff) {
        return bad_field(NVME_AT_CDW11);
    }
    if (cqs == 0xffff) {
        return bad_field(NVME_ERROR_LOCATION(46, 0));
    }
    uint32_t value = (uint32_t)(FIELD_PREP(NVME_QUEUES_SQ, min_u32(sqs, most)) |
                                FIELD_PREP(NVME_QUEUES_CQ, min_u32(cqs, most)));
    ctrl->features.value[NVME_FEATURE_QUEUES] = value;
    return (struct outcome){.dw0 = value};
}

/* 5.21.1.4 */
static struct outcome set_temperature(struct nvme_ctrl *ctrl, uint32_t cdw11)
{
    uint16_t kelvin = (uint16_t)FIELD_GET(NVME_TEMPERATURE_THRESHOLD, cdw11);

    if (FIELD_GET(NVME_TEMPERATURE_TYPE, cdw11) == NVME_TEMPERATURE_TYPE_UNDER) {
        ctrl->features.temperature_under_kelvin = kelvin;
    } else {
        ctrl->features.value[NVME_FEATURE_TEMPERATURE_THRESHOLD] = kelvin;
    }
    return (struct outcome){0};
}

/* 5.21.1.5. DULBE needs NSFEAT bit 2, which no namespace has. */
static struct outcome set_error_recovery(struct nvme_ctrl *ctrl, uint32_t nsid, uint32_t cdw11)
{
    if ((cdw11 & NVME_ERROR_RECOVERY_DULBE) != 0) {
        return bad_field(NVME_ERROR_LOCATION(46, 0));
    }
    for (uint32_t i = 0; i < ctrl->ns_count; i++) {
        if (nsid == i + 1 || (nsid == NVME_NSID_ALL && nvme_ns_find(ctrl, i + 1) != NULL)) {
            ctrl->slots[i].error_recovery = cdw11;
        }
    }
    return (struct outcome){0};
}

/* 5.21.1.15: rounded up to the granularity that KAS tells. */
static struct outcome set_keep_alive(struct nvme_ctrl *ctrl, uint32_t kato_ms)
{
    const uint64_t unit_ms = NVME_KAS * NVME_KAS_UNIT_MS;
    uint64_t rounded_ms = (kato_ms + unit_ms - 1) / unit_ms * unit_ms;

    ctrl->features.value[NVME_FEATURE_KEEP_ALIVE] =
        (uint32_t)min_u64(rounded_ms, UINT32_MAX / unit_ms * unit_ms);
    nvme_keep_alive_restart(ctrl);
    return (struct outcome){0};
}

static struct outcome set_value(struct nvme_ctrl *ctrl, uint32_t fid, uint32_t nsid, uint32_t cdw11)
{
    switch (fid) {
    case NVME_FEATURE_ASYNC_EVENT:
        if ((cdw11 & NVME_AEC_FIRMWARE) != 0 && !nvme_firmware_is_offered(ctrl)) {
            return bad_field(NVME_AT_CDW11); /* OAES bit 9 is clear */
        }
        break;
    case NVME_FEATURE_POWER_MANAGEMENT:
        if (FIELD_GET(NVME_POWER_STATE, cdw11) != 0) {
            return bad_field(NVME_AT_CDW11); /* NPSS is 0 */
        }
        break;
    case NVME_FEATURE_TEMPERATURE_THRESHOLD:
        return set_temperature(ctrl, cdw11);
    case NVME_FEATURE_ERROR_RECOVERY:
        return set_error_recovery(ctrl, nsid, cdw11);
    case NVME_FEATURE_QUEUES:
        return set_queues(ctrl, cdw11);
    case NVME_FEATURE_INTERRUPT_VECTOR:
        vector_set(ctrl, cdw11);
        return (struct outcome){0};
    case NVME_FEATURE_KEEP_ALIVE:
        return set_keep_alive(ctrl, cdw11);
    default:
        break;
    }
    ctrl->features.value[fid] = cdw11;
    return (struct outcome){0};
}

/* Takes the data of a feature that has some. Complete or not, the command ends here. */
static void set_data(struct nvme_cmd *cmd, uint32_t fid)
{
    struct nvme_ctrl *ctrl = cmd->ctrl;
    uint32_t len_bytes = fid == NVME_FEATURE_TIMESTAMP
                             ? (uint32_t)sizeof(struct nvme_timestamp)
                             : (uint32_t)sizeof(struct nvme_host_behavior);

    cmd->blk.dir = NVME_DIR_TO_CONTROLLER;
    nvme_status_t status = ctrl->ops->map(cmd, len_bytes);
    if (status == 0 && mem_ref_read(&cmd->blk.data, 0, ctrl->scratch, len_bytes) != len_bytes) {
        status = NVME_SC_DATA_TRANSFER_ERROR;
    }
    if (status != 0) {
        nvme_admin_end(cmd, status, 0);
        return;
    }
    if (fid == NVME_FEATURE_HOST_BEHAVIOR) {
        if (ctrl->scratch[0] > 1) {
            nvme_fail(cmd, NVME_SC_INVALID_FIELD, NVME_ERROR_LOCATION_NONE);
            return;
        }
        ctrl->features.host_acre = ctrl->scratch[0];
    } else {
        uint64_t ms = 0;
        memcpy(&ms, ctrl->scratch, sizeof(((struct nvme_timestamp *)0)->milliseconds));
        ctrl->features.timestamp_ms = ms;
        ctrl->features.timestamp_set_ns = clock_now_ns();
        ctrl->features.timestamp_is_set = true;
    }
    nvme_admin_end(cmd, NVME_SC_SUCCESS, 0);
}

/* 5.21.1.13. Enabling and disabling alternate; the transport knows what a good buffer is. */
static void set_host_memory(struct nvme_cmd *cmd)
{
    struct nvme_feature_values *values = &cmd->ctrl->features;
    bool is_on = (values->value[NVME_FEATURE_HOST_MEMORY] & NVME_HOST_MEMORY_ENABLE) != 0;
    bool turn_on = (cmd->blk.cmd.cdw11 & NVME_HOST_MEMORY_ENABLE) != 0;

    if (values->host_memory_busy || (is_on && turn_on)) {
        nvme_fail(cmd, NVME_SC_COMMAND_SEQUENCE_ERROR, NVME_ERROR_LOCATION_NONE);
        return;
    }
    if (is_on == turn_on) {
        nvme_admin_end(cmd, NVME_SC_SUCCESS, 0); /* off already */
        return;
    }
    values->host_memory_busy = true;
    cmd->ctrl->ops->host_memory(cmd);
}

void nvme_features_host_memory_done(struct nvme_cmd *cmd, nvme_status_t status)
{
    struct nvme_feature_values *values = &cmd->ctrl->features;
    const struct nvme_sqe *sqe = &cmd->blk.cmd;
    uint32_t *value = &values->value[NVME_FEATURE_HOST_MEMORY];

    values->host_memory_busy = false;
    if (status != 0) {
        return;
    }
    *value = 0;
    memset(values->host_memory, 0, sizeof(values->host_memory));
    if ((sqe->cdw11 & NVME_HOST_MEMORY_ENABLE) != 0) {
        *value = sqe->cdw11 & features[NVME_FEATURE_HOST_MEMORY].mask;
        values->host_memory[0] = sqe->cdw12;
        values->host_memory[1] = sqe->cdw13;
        values->host_memory[2] = sqe->cdw14;
        values->host_memory[3] = sqe->cdw15;
    }
}

/* 5.21: FFFFFFFFh means all; a controller's feature is not set through a namespace. */
static nvme_status_t set_nsid_check(struct nvme_ctrl *ctrl, bool per_ns, uint32_t nsid)
{
    if (nsid == NVME_NSID_ALL || (nsid == 0 && !per_ns)) {
        return NVME_SC_SUCCESS;
    }
    if (per_ns) {
        return nvme_ns_find(ctrl, nsid) == NULL ? nvme_ns_refusal(ctrl, nsid) : NVME_SC_SUCCESS;
    }
    return nsid > ctrl->ns_count ? NVME_SC_INVALID_NS_OR_FORMAT | NVME_STATUS_DNR
                                 : NVME_SC_FEATURE_NOT_NS_SPECIFIC | NVME_STATUS_DNR;
}

/* 5.21.1.6. When the cache goes off, what is in it goes to the drives first. */
static void set_write_cache(struct nvme_cmd *cmd, uint32_t cdw11)
{
    struct nvme_ctrl *ctrl = cmd->ctrl;
    bool was_on = ctrl->features.value[NVME_FEATURE_VOLATILE_WRITE_CACHE] != 0;

    ctrl->features.value[NVME_FEATURE_VOLATILE_WRITE_CACHE] = cdw11;
    write_through_set(ctrl, cdw11 == 0);
    if (was_on && cdw11 == 0) {
        nvme_flush_all(cmd);
        return;
    }
    nvme_admin_end(cmd, NVME_SC_SUCCESS, 0);
}

static void set_plain(struct nvme_cmd *cmd, uint32_t fid, const struct feature *feature)
{
    struct nvme_ctrl *ctrl = cmd->ctrl;
    uint32_t cdw11 = cmd->blk.cmd.cdw11;

    if ((feature->flags & NVME_FEATURE_CHECKED) != 0 && (cdw11 & ~feature->mask) != 0) {
        nvme_fail(cmd, NVME_SC_INVALID_FIELD, NVME_AT_CDW11);
        return;
    }
    cdw11 &= feature->mask;
    if (fid == NVME_FEATURE_VOLATILE_WRITE_CACHE) {
        set_write_cache(cmd, cdw11);
        return;
    }
    struct outcome outcome = set_value(ctrl, fid, cmd->blk.cmd.nsid, cdw11);
    if (outcome.status != 0) {
        nvme_fail(cmd, outcome.status, outcome.location);
        return;
    }
    if ((feature->flags & NVME_FEATURE_TRANSPORT) != 0 && ctrl->ops->feature_changed != NULL) {
        ctrl->ops->feature_changed(ctrl, (uint8_t)fid, cdw11);
    }
    nvme_admin_end(cmd, NVME_SC_SUCCESS, outcome.dw0);
}

void nvme_admin_set_features(struct nvme_cmd *cmd)
{
    struct nvme_ctrl *ctrl = cmd->ctrl;
    const struct nvme_sqe *sqe = &cmd->blk.cmd;
    uint32_t fid = (uint32_t)FIELD_GET(NVME_FEATURE_ID, sqe->cdw10);
    const struct feature *feature = feature_find(ctrl, fid);

    if (feature == NULL) {
        nvme_fail(cmd, NVME_SC_INVALID_FIELD, NVME_AT_CDW10);
        return;
    }
    if ((sqe->cdw10 & NVME_FEATURE_SAVE) != 0) {
        nvme_fail(cmd, NVME_SC_FEATURE_NOT_SAVEABLE, NVME_ERROR_LOCATION(43, 7));
        return;
    }
    bool per_ns = (feature->flags & NVME_FEATURE_PER_NS) != 0;
    nvme_status_t status = set_nsid_check(ctrl, per_ns, sqe->nsid);
    if (status != 0) {
        cmd->error_location = NVME_AT_NSID;
        nvme_end(cmd, status);
        return;
    }
    if ((feature->flags & NVME_FEATURE_FIXED) != 0) {
        nvme_fail(cmd, NVME_SC_FEATURE_NOT_CHANGEABLE, NVME_AT_CDW10);
        return;
    }
    if (!selector_is_valid(ctrl, fid, sqe->cdw11, true)) {
        nvme_fail(cmd, NVME_SC_INVALID_FIELD, NVME_AT_CDW11);
        return;
    }
    if (fid == NVME_FEATURE_HOST_MEMORY) {
        set_host_memory(cmd);
    } else if ((feature->flags & NVME_FEATURE_DATA) != 0) {
        set_data(cmd, fid);
    } else {
        set_plain(cmd, fid, feature);
    }
}
