/*
 * Asynchronous Event Request (5.2): requests that wait for events, events that wait for requests.
 *
 * An event that was reported masks its type until its log page is read without RAE. Of events of
 * one type and information that wait, one is kept: its log page tells the rest.
 * Source: NVM Express Base Specification 1.4, sections 5.2, 5.21.1.11.
 */
#include <string.h>
#include "base/assert.h"
#include "nvme/handover.h"
#include "nvme/nvme_priv.h"

static void aer_complete(struct nvme_ctrl *ctrl, uint32_t type, uint32_t info)
{
    struct nvme_event_state *event = &ctrl->events[type];
    struct nvme_cmd *cmd = LIST_ENTRY(list_pop_front(&ctrl->aers), struct nvme_cmd, link);

    ctrl->aer_count--;
    event->pending &= ~BIT32(info);
    event->masked = true;
    event->masked_log_page = event->log_page[info];
    nvme_admin_end(cmd, NVME_SC_SUCCESS,
                   (uint32_t)(FIELD_PREP(NVME_EVENT_TYPE, type) |
                              FIELD_PREP(NVME_EVENT_INFO, info) |
                              FIELD_PREP(NVME_EVENT_LOG, event->log_page[info])));
}

/* Reports what can be reported: one event of each type at most. */
static void events_run(struct nvme_ctrl *ctrl)
{
    if (ctrl->is_shut_down || ctrl->holds_events) {
        return; /* 7.6.2: when it is complete the host may take the queues' memory back */
    }
    for (uint32_t type = 0; type < NVME_EVENT_TYPES && ctrl->aer_count != 0; type++) {
        struct nvme_event_state *event = &ctrl->events[type];
        if (event->pending != 0 && !event->masked) {
            aer_complete(ctrl, type, lowest_bit(event->pending));
        }
    }
}

void nvme_ctrl_hold_events(struct nvme_ctrl *ctrl, bool holds)
{
    ctrl->holds_events = holds;
    events_run(ctrl);
}

/* A type without a log page of its own would stay masked for ever: the host has nothing to read. */
static bool is_known_log(uint8_t log_page)
{
    return log_page >= NVME_LOG_ERROR && log_page <= NVME_LOG_EFFECTS;
}

void nvme_ctrl_event(struct nvme_ctrl *ctrl, uint8_t type, uint8_t info, uint8_t log_page)
{
    ASSERT(type < NVME_EVENT_TYPES && info < 32 && is_known_log(log_page));
    uint32_t aec = ctrl->features.value[NVME_FEATURE_ASYNC_EVENT];

    if (!ctrl->enabled) {
        return;
    }
    if (type == NVME_EVENT_NOTICE && info == NVME_EVENT_NOTICE_NS_ATTRIBUTE &&
        (aec & NVME_AEC_NS_ATTRIBUTE) == 0) {
        return;
    }
    if (type == NVME_EVENT_NOTICE && info == NVME_EVENT_NOTICE_FIRMWARE &&
        (aec & NVME_AEC_FIRMWARE) == 0) {
        return;
    }
    /* Critical warning bits 2, 1, 0 are the informations 0, 1, 2 (figures 149, 194). */
    if (type == NVME_EVENT_SMART &&
        (info > NVME_EVENT_SMART_SPARE || (aec & BIT32(NVME_EVENT_SMART_SPARE - info)) == 0)) {
        return;
    }
    ctrl->events[type].pending |= BIT32(info);
    ctrl->events[type].log_page[info] = log_page;
    events_run(ctrl);
}

void nvme_admin_async_event(struct nvme_cmd *cmd)
{
    struct nvme_ctrl *ctrl = cmd->ctrl;

    if (ctrl->aer_count >= LIMIT_AERS) {
        nvme_fail(cmd, NVME_SC_AER_LIMIT_EXCEEDED, NVME_ERROR_LOCATION_NONE);
        return;
    }
    cmd->step = NVME_STEP_EVENT;
    list_push_back(&ctrl->aers, &cmd->link);
    ctrl->aer_count++;
    events_run(ctrl);
}

void nvme_event_cancel(struct nvme_cmd *cmd)
{
    list_remove(&cmd->link);
    cmd->ctrl->aer_count--;
    nvme_admin_end(cmd, NVME_SC_ABORT_REQUESTED, 0);
}

/* 5.2: an event is cleared by reading its log page. What waits unreported is told there too. */
void nvme_events_log_read(struct nvme_ctrl *ctrl, uint8_t log_page)
{
    for (uint32_t type = 0; type < NVME_EVENT_TYPES; type++) {
        struct nvme_event_state *event = &ctrl->events[type];
        for (uint32_t waiting = event->pending; waiting != 0; waiting &= waiting - 1) {
            uint32_t info = lowest_bit(waiting);
            if (event->log_page[info] == log_page) {
                event->pending &= ~BIT32(info);
            }
        }
        if (event->masked && event->masked_log_page == log_page) {
            event->masked = false;
        }
    }
    events_run(ctrl);
}

void nvme_events_ns_changed(struct nvme_ctrl *ctrl, uint32_t nsid)
{
    if (!ctrl->enabled) {
        return;
    }
    ctrl->changed_ns[(nsid - 1) / 64] |= BIT64((nsid - 1) % 64);
    nvme_ctrl_event(ctrl, NVME_EVENT_NOTICE, NVME_EVENT_NOTICE_NS_ATTRIBUTE, NVME_LOG_CHANGED_NS);
}

/* Requests that wait are dropped, not completed: the transport knows that they are gone. */
void nvme_events_reset(struct nvme_ctrl *ctrl)
{
    struct list *node;

    while ((node = list_pop_front(&ctrl->aers)) != NULL) {
        LIST_ENTRY(node, struct nvme_cmd, link)->step = NVME_STEP_CORE;
    }
    ctrl->aer_count = 0;
    memset(ctrl->events, 0, sizeof(ctrl->events));
}

void nvme_events_init(struct nvme_ctrl *ctrl)
{
    list_init(&ctrl->aers);
}
