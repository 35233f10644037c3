/*
 * The drive model's registers, queues and faults, and the root complex that it hangs on.
 */
#include "drive_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "hal/clock.h"

#define MODEL_DEVICES 9

static struct drive_model *devices[MODEL_DEVICES];
static uint32_t device_count;

/* --- root complex ---------------------------------------------------------------------------- */

const struct pcie_rc_device *pcie_rc_device(uint32_t index)
{
    return index < device_count ? &devices[index]->device : NULL;
}

static struct drive_model *model_of(const struct pcie_rc_device *device)
{
    for (uint32_t i = 0; i < device_count; i++) {
        if (&devices[i]->device == device) {
            return devices[i];
        }
    }
    abort();
}

uint32_t pcie_rc_read32(const struct pcie_rc_device *device, uint16_t offset)
{
    (void)offset;
    return model_of(device)->is_removed ? UINT32_MAX : 0x12345678;
}

void pcie_rc_write32(const struct pcie_rc_device *device, uint16_t offset, uint32_t value)
{
    (void)device;
    (void)offset;
    (void)value;
}

void pcie_rc_enable(const struct pcie_rc_device *device, bool memory, bool bus_master)
{
    model_of(device)->bus_master = memory && bus_master;
}

enum status pcie_rc_msix(const struct pcie_rc_device *device, uint16_t vector, uint32_t core,
                         void (*handler)(void *arg), void *arg)
{
    (void)device;
    (void)vector;
    (void)core;
    (void)handler;
    (void)arg;
    return STATUS_UNSUPPORTED;
}

/* --- registers ------------------------------------------------------------------------------- */

static uint32_t get32(const struct drive_model *m, uint32_t offset)
{
    uint32_t value;
    memcpy(&value, m->regs + offset, 4);
    return value;
}

static uint64_t get64(const struct drive_model *m, uint32_t offset)
{
    uint64_t value;
    memcpy(&value, m->regs + offset, 8);
    return value;
}

static void set32(struct drive_model *m, uint32_t offset, uint32_t value)
{
    memcpy(m->regs + offset, &value, 4);
}

static uint32_t *doorbell(struct drive_model *m, uint32_t qid, bool is_cq)
{
    return (uint32_t *)(void *)(m->regs + 0x1000 + (2 * qid + (is_cq ? 1 : 0)) * (4u << m->dstrd));
}

void drive_model_violation(struct drive_model *m, const char *what)
{
    m->violation_count++;
    printf("drive model: violation: %s\n", what);
}

static void publish_cap(struct drive_model *m)
{
    uint64_t cap = m->mqes | (uint64_t)1 << 16 | (uint64_t)m->to_units << 24 |
                   (uint64_t)m->dstrd << 32 | (uint64_t)1 << 37 | (uint64_t)m->mpsmin << 48;
    memcpy(m->regs + NVME_REG_CAP, &cap, 8);
    set32(m, NVME_REG_VS, NVME_VERSION_1_4);
}

void drive_model_init(struct drive_model *m, uint8_t lba_shift)
{
    memset(m, 0, sizeof(*m));
    m->io_queues = MODEL_QUEUES - 1;
    m->mqes = 1023;
    m->to_units = 4; /* 2 s */
    m->mdts = 7;
    m->sgls = 1;
    m->acl = 3;
    m->oncs = 0x8d;
    m->vwc = 1;
    m->random = 12345;
    m->regs = aligned_alloc(4096, MODEL_REGS_BYTES);
    memset(m->regs, 0, MODEL_REGS_BYTES);
    m->device.vendor_id = 0x1b36;
    m->device.class_code = 0x010802;
    m->device.bar[0].bus_addr = (uintptr_t)m->regs;
    m->device.bar[0].len_bytes = MODEL_REGS_BYTES;
    drive_model_add_ns(m, 1, lba_shift, (8u << 20) >> lba_shift);
    publish_cap(m);
    devices[device_count++] = m;
}

void drive_model_free(struct drive_model *m)
{
    for (uint32_t i = 0; i < MODEL_NAMESPACES; i++) {
        free(m->ns[i].blocks);
    }
    free(m->regs);
    m->regs = NULL;
}

void drive_model_unplug_all(void)
{
    device_count = 0;
}

void drive_model_add_ns(struct drive_model *m, uint32_t nsid, uint8_t lba_shift, uint64_t lba_count)
{
    for (uint32_t i = 0; i < MODEL_NAMESPACES; i++) {
        struct model_ns *ns = &m->ns[i];
        if (ns->nsid == 0) {
            free(ns->blocks);
            *ns = (struct model_ns){.nsid = nsid, .lba_shift = lba_shift, .lba_count = lba_count};
            ns->blocks = calloc(lba_count, (size_t)1 << lba_shift);
            return;
        }
    }
    abort();
}

struct model_ns *drive_model_ns(struct drive_model *m, uint32_t nsid)
{
    for (uint32_t i = 0; i < MODEL_NAMESPACES; i++) {
        if (m->ns[i].nsid == nsid && nsid != 0) {
            return &m->ns[i];
        }
    }
    return NULL;
}

/* --- queues ---------------------------------------------------------------------------------- */

static void fetch(struct drive_model *m, uint16_t qid)
{
    uint32_t tail = *doorbell(m, qid, false);

    if (m->sq_entries[qid] == 0) {
        if (tail != 0) {
            drive_model_violation(m, "doorbell of a queue that does not exist");
            *doorbell(m, qid, false) = 0;
        }
        return;
    }
    if (tail >= m->sq_entries[qid]) {
        drive_model_violation(m, "tail doorbell out of range");
        return;
    }
    while (m->sq_head[qid] != tail && m->pending_count < MODEL_PENDING) {
        struct model_pending *p = &m->pending[m->pending_count];
        if (!m->bus_master) {
            drive_model_violation(m, "fetch with bus mastering off");
            return;
        }
        memcpy(&p->cmd, (uint8_t *)(uintptr_t)m->sq_addr[qid] + m->sq_head[qid] * 64u, 64);
        p->sq_id = qid;
        p->due_ns = clock_now_ns();
        p->number = qid == 0 ? ++m->admin_count : ++m->io_count;
        if (qid != 0) {
            p->due_ns += m->delay_ns;
            m->last_io = p->cmd;
        }
        for (uint32_t i = 0; i < m->pending_count; i++) {
            if (m->pending[i].sq_id == qid && m->pending[i].cmd.cid == p->cmd.cid) {
                drive_model_violation(m, "CID is in use");
            }
        }
        m->pending_count++;
        m->sq_head[qid] = (m->sq_head[qid] + 1) % m->sq_entries[qid];
    }
}

static bool cq_has_room(struct drive_model *m, uint16_t qid)
{
    uint32_t entries = m->cq_entries[qid];
    return (m->cq_tail[qid] + 1) % entries != *doorbell(m, qid, true);
}

static void post(struct drive_model *m, const struct model_pending *p, uint16_t cid, uint16_t sq_id,
                 const struct model_result *result)
{
    uint16_t qid = p->sq_id;
    uint32_t entries = m->cq_entries[qid];
    struct nvme_cqe *cqe =
        (struct nvme_cqe *)(uintptr_t)m->cq_addr[qid] + m->cq_tail[qid] % entries;
    uint32_t phase = (m->cq_tail[qid] / entries) % 2 == 0 ? NVME_CQE_PHASE : 0;

    if (!m->bus_master) {
        drive_model_violation(m, "completion with bus mastering off");
        return;
    }
    if (!cq_has_room(m, qid)) {
        drive_model_violation(m, "completion queue is full");
    }
    cqe->dw0 = result->dw0;
    cqe->dw1 = 0xdd000001;
    cqe->sq_head = 0xffff; /* nobody should look at it */
    cqe->sq_id = sq_id;
    cqe->dw3 = cid | phase | (uint32_t)result->status << 17;
    m->cq_tail[qid]++;
}

static bool fault_hits(struct drive_model *m, const struct model_pending *p)
{
    bool is_io = p->sq_id != 0;
    enum model_fault fault = is_io ? m->io_fault : m->admin_fault;
    uint32_t number = is_io ? m->io_fault_number : m->admin_fault_number;

    if (fault == MODEL_FAULT_NONE || p->number < number) {
        return false;
    }
    return m->fault_repeats == 0 || p->number < number + m->fault_repeats;
}

/* Executes one command and answers it, well or badly. True: it is no longer pending. */
static bool run_one(struct drive_model *m, const struct model_pending *p)
{
    enum model_fault fault = MODEL_FAULT_NONE;
    struct model_result result = {0};

    if (fault_hits(m, p)) {
        fault = p->sq_id != 0 ? m->io_fault : m->admin_fault;
    }
    if (fault == MODEL_FAULT_STALL) {
        return false;
    }
    if (fault == MODEL_FAULT_STATUS) {
        result.status = m->fault_status;
        result.dw0 = 0xbad;
    } else {
        result = drive_model_execute(m, p);
    }
    if (result.is_silent) {
        return false;
    }
    if (fault == MODEL_FAULT_REMOVE) {
        m->is_removed = true;
    } else if (fault == MODEL_FAULT_CFS) {
        set32(m, NVME_REG_CSTS, get32(m, NVME_REG_CSTS) | NVME_CSTS_CFS);
    } else if (fault == MODEL_FAULT_UNKNOWN_CID) {
        post(m, p, (uint16_t)(p->cmd.cid ^ 0x5500), p->sq_id, &result);
    } else if (fault == MODEL_FAULT_WRONG_SQ) {
        post(m, p, p->cmd.cid, (uint16_t)(p->sq_id + 1), &result);
    } else if (fault != MODEL_FAULT_LOSE) {
        post(m, p, p->cmd.cid, p->sq_id, &result);
        if (fault == MODEL_FAULT_DUPLICATE) {
            post(m, p, p->cmd.cid, p->sq_id, &result);
        }
    }
    return true;
}

static void run_pending(struct drive_model *m)
{
    uint32_t todo = m->pending_count;
    uint32_t at = 0;

    while (todo-- > 0 && m->pending_count > 0 && !m->is_removed) {
        if (m->shuffles) {
            m->random = m->random * 1664525 + 1013904223;
            at = (m->random >> 8) % m->pending_count;
        }
        if (at >= m->pending_count) {
            break;
        }
        struct model_pending p = m->pending[at];
        bool is_held = p.sq_id != 0 && (m->is_frozen || p.due_ns > clock_now_ns());
        if (!is_held && cq_has_room(m, p.sq_id)) {
            /* Out of the list first: an Abort walks it. */
            memmove(&m->pending[at], &m->pending[at + 1],
                    (--m->pending_count - at) * sizeof(m->pending[0]));
            if (run_one(m, &p)) {
                continue;
            }
            m->pending[m->pending_count++] = p;
        } else {
            at++;
        }
    }
}

/* --- enable, disable ---------------------------------------------------------------------------
 */

static void disable(struct drive_model *m)
{
    if (!m->never_idle) {
        set32(m, NVME_REG_CSTS, 0);
        m->pending_count = 0;
        memset(m->sq_entries, 0, sizeof(m->sq_entries));
        memset(m->cq_entries, 0, sizeof(m->cq_entries));
        memset(m->regs + 0x1000, 0, MODEL_REGS_BYTES - 0x1000);
    }
    m->was_enabled = false;
}

static void enable(struct drive_model *m)
{
    uint32_t aqa = get32(m, NVME_REG_AQA);

    if (!m->was_enabled) {
        m->was_enabled = true;
        m->enable_count++;
        m->enabled_at_ns = clock_now_ns();
    }
    if (m->fails_enable) {
        set32(m, NVME_REG_CSTS, NVME_CSTS_CFS);
        return;
    }
    if (m->never_ready || clock_now_ns() - m->enabled_at_ns < m->ready_delay_ns) {
        return;
    }
    m->sq_addr[0] = get64(m, NVME_REG_ASQ);
    m->cq_addr[0] = get64(m, NVME_REG_ACQ);
    m->sq_entries[0] = (aqa & 0xfff) + 1;
    m->cq_entries[0] = (aqa >> 16 & 0xfff) + 1;
    memset(m->sq_head, 0, sizeof(m->sq_head));
    memset(m->cq_tail, 0, sizeof(m->cq_tail));
    set32(m, NVME_REG_CSTS, NVME_CSTS_RDY);
    if ((get32(m, NVME_REG_CC) >> 16 & 0xff) != 0x46) {
        drive_model_violation(m, "CC has other entry sizes than 64 and 16");
    }
}

void drive_model_step(struct drive_model *m)
{
    if (m->is_removed) {
        memset(m->regs, 0xff, MODEL_REGS_BYTES);
        m->pending_count = 0;
        return;
    }
    publish_cap(m);
    bool is_enabled = (get32(m, NVME_REG_CC) & NVME_CC_EN) != 0;
    uint32_t csts = get32(m, NVME_REG_CSTS);
    if (!is_enabled) {
        if (m->was_enabled || csts != 0) {
            disable(m);
        }
        return;
    }
    if ((csts & (NVME_CSTS_RDY | NVME_CSTS_CFS)) == 0) {
        enable(m);
        return;
    }
    if ((csts & NVME_CSTS_CFS) != 0) {
        return;
    }
    for (uint16_t qid = 0; qid < MODEL_QUEUES; qid++) {
        fetch(m, qid);
    }
    run_pending(m);
}
