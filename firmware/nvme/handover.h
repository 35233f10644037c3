/*
 * The controller's state for another image that goes on (spec/handover.h). For transports.
 */
#ifndef NVME_HANDOVER_H
#define NVME_HANDOVER_H

#include <stdbool.h>
#include "nvme/nvme.h"
#include "spec/handover.h"

/* False: the host has set something that is not handed over. Control core. */
bool nvme_ctrl_can_save(const struct nvme_ctrl *ctrl);

/* From now on events wait: no event request ends, whatever happens; false: those that may be told
 * are told now. For the time in which nothing may be posted; a reset ends it. Control core. */
void nvme_ctrl_hold_events(struct nvme_ctrl *ctrl, bool holds);

/* Of an enabled controller without commands under way but event requests. Control core. */
void nvme_ctrl_save(const struct nvme_ctrl *ctrl, struct handover_ctrl *saved);

/* False: values that cannot be, or this image offers less than the host was told. Any core. */
bool nvme_ctrl_can_restore(const struct nvme_ctrl *ctrl, const struct handover_ctrl *saved);

/* In place of nvme_ctrl_enable(), when namespaces are attached: the host is not told of them. Event
 * requests are submitted again after it. What can_restore() has said true to. Control core. */
void nvme_ctrl_restore(struct nvme_ctrl *ctrl, const struct handover_ctrl *saved);

#endif
