/*
 * The model target: knobs, rules, reports, looks at the media.
 */
#include "tests/model/target_priv.h"

#include <string.h>

struct target_knobs *target_knobs(struct target *t)
{
    return &t->knobs;
}

uint32_t target_fault_add(struct target *t, const struct target_fault *fault)
{
    ASSERT(t->rule_count < TARGET_FAULTS);
    t->rules[t->rule_count] = (struct target_rule){.fault = *fault};
    return t->rule_count++;
}

void target_faults_clear(struct target *t)
{
    t->rule_count = 0;
}

uint32_t target_fault_hits(const struct target *t, uint32_t index)
{
    return index < t->rule_count ? t->rules[index].hits : 0;
}

void target_seed(struct target *t, uint64_t seed)
{
    t->random_state = seed;
}

void target_on_exec(struct target *t, target_exec_fn *fn, void *ctx)
{
    t->exec = fn;
    t->exec_ctx = ctx;
}

const struct target_stats *target_stats(const struct target *t)
{
    return &t->stats;
}

const char *target_violation(const struct target *t)
{
    return t->violation;
}

/* --- media ---------------------------------------------------------------------------------- */

static const struct target_ns *ns_with(const struct target *t, uint32_t subsystem, uint32_t nsid,
                                       uint64_t lba)
{
    if (subsystem >= t->config.subsystem_count) {
        return NULL;
    }
    const struct target_subsystem *s = &t->subsystems[subsystem];
    for (uint32_t i = 0; i < s->config->ns_count; i++) {
        if (s->namespaces[i].config.nsid == nsid) {
            return lba < s->namespaces[i].lba_count ? &s->namespaces[i] : NULL;
        }
    }
    return NULL;
}

const uint8_t *target_block(const struct target *t, uint32_t subsystem, uint32_t nsid, uint64_t lba)
{
    const struct target_ns *ns = ns_with(t, subsystem, nsid, lba);

    return ns == NULL ? NULL : ns->media + (lba << ns->config.lba_shift);
}

uint32_t target_block_version(const struct target *t, uint32_t subsystem, uint32_t nsid,
                              uint64_t lba)
{
    const struct target_ns *ns = ns_with(t, subsystem, nsid, lba);

    return ns == NULL ? 0 : ns->versions[lba];
}

/* --- associations --------------------------------------------------------------------------- */

uint32_t target_ctrl_count(const struct target *t)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < t->config.ctrl_count; i++) {
        count += t->ctrls[i].in_use;
    }
    return count;
}

uint32_t target_queue_count(const struct target *t)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < t->config.queue_count; i++) {
        count += t->queues[i].ctrl != NULL;
    }
    return count;
}

uint32_t target_held_count(const struct target *t)
{
    uint32_t count = 0;

    for (const struct list *node = t->due.next; node != &t->due; node = node->next) {
        count++;
    }
    for (const struct list *node = t->orphans.next; node != &t->orphans; node = node->next) {
        count++;
    }
    return count;
}

static void ctrl_info(const struct target *t, const struct target_ctrl *ctrl,
                      struct target_ctrl_info *info)
{
    *info = (struct target_ctrl_info){.cntlid = ctrl->cntlid,
                                      .subsystem = ctrl->subsystem,
                                      .cc = ctrl->cc,
                                      .csts = ctrl->csts,
                                      .kato_ms = ctrl->kato_ms};
    memcpy(info->hostid, ctrl->hostid, sizeof(info->hostid));
    memcpy(info->hostnqn, ctrl->hostnqn, sizeof(info->hostnqn));
    for (uint32_t i = 0; i < t->config.queue_count; i++) {
        info->io_queue_count += t->queues[i].ctrl == ctrl && t->queues[i].qid != 0;
    }
    if (ctrl->admin == NULL) {
        return;
    }
    info->sq_flow_off = ctrl->admin->sq_flow_off;
    for (uint32_t i = 0; i < ctrl->admin->entries; i++) {
        info->aer_count += ctrl->admin->slots[i].state == SLOT_AER;
    }
}

bool target_ctrl_info(const struct target *t, uint32_t index, struct target_ctrl_info *info)
{
    for (uint32_t i = 0; i < t->config.ctrl_count; i++) {
        if (t->ctrls[i].in_use && index-- == 0) {
            ctrl_info(t, &t->ctrls[i], info);
            return true;
        }
    }
    return false;
}
