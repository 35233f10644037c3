/*
 * Management messages, wired: the tables of what there is, and the way of a host to them. A new
 * class, object or action is a row here and its function.
 */
#include "app/mgmt_priv.h"

#include <string.h>
#include "app/update.h"
#include "base/log.h"
#include "hal/clock.h"
#include "mgmt/mgmt_images.h"

#define HANG_SAFE true
#define FOR_HOSTS false
#define BOARDS    true

/* Hosts may wait for the restart: not for an erasure, too. */
static enum mgmt_status commit_image(const struct mgmt_from *from, const uint8_t *arguments,
                                     uint32_t len_bytes, uint8_t *answer, uint32_t *answer_bytes)
{
    if (!app_update_may_begin()) {
        *answer_bytes = 0;
        return MGMT_BUSY;
    }
    return mgmt_image_commit(from, arguments, len_bytes, answer, answer_bytes);
}

static enum mgmt_status confirm_image(const struct mgmt_from *from, const uint8_t *arguments,
                                      uint32_t len_bytes, uint8_t *answer, uint32_t *answer_bytes)
{
    if (!app_update_may_begin()) {
        *answer_bytes = 0;
        return MGMT_BUSY;
    }
    return mgmt_image_confirm(from, arguments, len_bytes, answer, answer_bytes);
}

/* clang-format off */
static const struct mgmt_class_table classes[] = {
#define CLASS(name, type, hang_safe, boards, count, fill, prepare, owners) \
    {MGMT_CLASS_##name, sizeof(struct type), hang_safe, boards, count, fill, prepare, owners}
#define ROW(name, type, hang_safe, boards) \
    CLASS(name, mgmt_##type, hang_safe, boards, app_mgmt_##type##_count, app_mgmt_##type, NULL, \
          NULL)
#define GATHERED(name, type) \
    CLASS(name, mgmt_##type, false, BOARDS, app_mgmt_##type##_count, app_mgmt_##type, \
          app_mgmt_fabric_prepare, NULL)
    ROW(FUNCTION, function, HANG_SAFE, FOR_HOSTS),
    ROW(QUEUE, queue, HANG_SAFE, FOR_HOSTS),
    ROW(DRIVE, drive, false, BOARDS),
    ROW(NAMESPACE, namespace, false, FOR_HOSTS),
    ROW(VOLUME, volume, false, FOR_HOSTS),
    ROW(PATH, path, false, FOR_HOSTS),
    ROW(ASSOCIATION, association, false, FOR_HOSTS),
    GATHERED(CONNECTION, connection),
    GATHERED(QP, qp),
    GATHERED(PORT, port),
    ROW(REACTOR, reactor, HANG_SAFE, BOARDS),
    ROW(POLLER, poller, HANG_SAFE, BOARDS),
    CLASS(STAT, mgmt_stat, HANG_SAFE, FOR_HOSTS, app_mgmt_stat_count, app_mgmt_stat, NULL,
          app_mgmt_stat_owners),
    CLASS(SLOT, mgmt_slot, false, FOR_HOSTS, mgmt_slot_count, mgmt_slot_fill, NULL, NULL),
    CLASS(UPDATE, mgmt_update, false, FOR_HOSTS, mgmt_update_count, mgmt_update_fill, NULL, NULL),
};

static const struct mgmt_object_table objects[] = {
    {MGMT_OBJECT_LOG, HANG_SAFE, app_mgmt_read_log, NULL},
    {MGMT_OBJECT_TRACE, HANG_SAFE, app_mgmt_read_trace, NULL},
    {MGMT_OBJECT_CRASH, HANG_SAFE, app_mgmt_read_crash, NULL},
    {MGMT_OBJECT_CONSOLE, false, app_mgmt_read_console, NULL},
    {MGMT_OBJECT_CONFIG, false, app_mgmt_read_config, app_mgmt_write_config},
    {MGMT_OBJECT_IMAGE, false, NULL, mgmt_image_write},
};

static const struct mgmt_action_table actions[] = {
    {MGMT_ACTION_RUN, app_mgmt_run},
    {MGMT_ACTION_RESET, app_mgmt_reset},
    {MGMT_ACTION_TRACE, app_mgmt_trace},
    {MGMT_ACTION_LOG_LEVEL, app_mgmt_log_level},
    {MGMT_ACTION_COMMIT_IMAGE, commit_image},
    {MGMT_ACTION_CONFIRM, confirm_image},
    {MGMT_ACTION_COMMIT_CONFIG, app_mgmt_commit_config},
    {MGMT_ACTION_HAND_OVER, app_mgmt_hand_over},
};
/* clang-format on */

void app_mgmt_text(char *to, size_t to_bytes, const char *text)
{
    for (size_t i = 0; i + 1 < to_bytes && text[i] != '\0'; i++) {
        to[i] = text[i];
    }
}

static void hello(struct mgmt_hello *out)
{
    out->core_count = sched_core_count();
    out->function_count = app.function_count;
    out->uptime_ns = clock_now_ns();
    const struct boot_handoff *handoff = &app.board->handoff;
    bool is_told = handoff->magic == BOOT_HANDOFF_MAGIC;
    out->boot_slot = is_told ? handoff->slot : BOOT_SLOT_NONE;
    out->is_trial = is_told ? handoff->is_trial : 0;
    app_mgmt_text(out->board, sizeof(out->board), app.board->name);
    app_mgmt_text(out->firmware, sizeof(out->firmware), app.version);
    app_mgmt_text(out->serial, sizeof(out->serial), app.config.serial);
    app_mgmt_text(out->reset_cause, sizeof(out->reset_cause), app.board->reset_cause);
}

const struct mgmt_tables app_mgmt_tables = {
    .hello = hello,
    .classes = classes,
    .objects = objects,
    .actions = actions,
    .class_count = ARRAY_SIZE(classes),
    .object_count = ARRAY_SIZE(objects),
    .action_count = ARRAY_SIZE(actions),
};

/* --- in band --------------------------------------------------------------------------------- */

static uint32_t serve_host(uint16_t fn, const void *request, uint32_t len_bytes, void *response,
                           uint32_t message_max)
{
    bool is_trusted = app.config.in_band == CONFIG_IN_BAND_ALL;
    struct mgmt_from from = {.origin = fn,
                             .may_see_all = is_trusted,
                             .may_change = is_trusted,
                             .message_max = message_max};

    return mgmt_serve(&app_mgmt_tables, &from, request, len_bytes, response);
}

static uint32_t vendor_serve(uint16_t fn, const void *request, uint32_t len_bytes, void *response)
{
    return serve_host(fn, request, len_bytes, response, MGMT_BAND_BYTES);
}

static void vendor_log(uint16_t fn, void *page)
{
    static const uint16_t listed[] = {0 /* HELLO */, MGMT_CLASS_FUNCTION, MGMT_CLASS_STAT};
    struct {
        struct mgmt_head head;
        struct mgmt_list_request list;
    } request;
    uint32_t used = 0;

    /* Behind HELLO and all functions is room for a message of counters. */
    _Static_assert(sizeof(struct mgmt_head) + sizeof(struct mgmt_hello) + sizeof(struct mgmt_head) +
                           sizeof(struct mgmt_list) +
                           LIMIT_FUNCTIONS * sizeof(struct mgmt_function) + 2 * 8 +
                           MGMT_FRAME_BYTES <=
                       NVME_VENDOR_BYTES,
                   "each gets the least room that a message may have");
    for (uint32_t i = 0; i < ARRAY_SIZE(listed); i++) {
        request.list = (struct mgmt_list_request){.class = listed[i]};
        uint32_t len_bytes = mgmt_seal(&request, i == 0 ? MGMT_OP_HELLO : MGMT_OP_LIST, 0,
                                       i == 0 ? 0 : sizeof(request.list));
        used += (uint32_t)align_up(
            serve_host(fn, &request, len_bytes, (uint8_t *)page + used, NVME_VENDOR_BYTES - used),
            8);
    }
}

const struct nvme_vendor_ops *app_mgmt_vendor_ops(void)
{
    static const struct nvme_vendor_ops ops = {vendor_serve, vendor_log};
    _Static_assert(NVME_VENDOR_BYTES == MGMT_BAND_BYTES, "the size of a message");

    return app.config.in_band == CONFIG_IN_BAND_OFF ? NULL : &ops;
}

void app_mgmt_start(void)
{
    app_mgmt_log_start();
    app_mgmt_frames_start();
}
