/*
 * The model target: reservations (base specification 8.8), as much as it takes to see that they
 * pass: register, acquire, preempt, release, clear, report; hosts are told apart by HOSTID.
 */
#include "tests/model/target_priv.h"

#include <string.h>
#include "base/bits.h"

#define CONFLICT (NVME_SC_RESERVATION_CONFLICT | DNR)
#define INVALID  (NVME_SC_INVALID_FIELD | DNR)

enum {
    TYPE_WRITE_EXCLUSIVE = 1,
    TYPE_EXCLUSIVE_ACCESS = 2,
    TYPE_WRITE_EXCLUSIVE_REGISTRANTS = 3,
    TYPE_EXCLUSIVE_ACCESS_REGISTRANTS = 4,
    TYPE_WRITE_EXCLUSIVE_ALL = 5,
    TYPE_EXCLUSIVE_ACCESS_ALL = 6,
};

/* Reservation status, figure of 6.13; extended: 64 bytes and 64 a registrant. */
struct resv_status {
    uint32_t generation;
    uint8_t type;
    uint8_t count[2];
    uint8_t reserved7[2];
    uint8_t ptpl;
    uint8_t reserved10[14];
};
ASSERT_SIZE(struct resv_status, 24);

static int registrant_find(const struct target_op *op)
{
    for (int i = 0; i < TARGET_REGISTRANTS; i++) {
        const struct target_registrant *r = &op->ns->registrants[i];
        if (r->is_there && memcmp(r->hostid, op->hostid, sizeof(r->hostid)) == 0) {
            return i;
        }
    }
    return -1;
}

static bool is_all(uint8_t type)
{
    return type == TYPE_WRITE_EXCLUSIVE_ALL || type == TYPE_EXCLUSIVE_ACCESS_ALL;
}

bool target_resv_conflict(const struct target_op *op, bool is_write)
{
    const struct target_ns *ns = op->ns;
    bool is_read = op->sqe->opcode == NVME_IO_READ || op->sqe->opcode == NVME_IO_COMPARE ||
                   op->sqe->opcode == NVME_IO_VERIFY;
    int own = registrant_find(op);
    uint8_t type = ns->resv_type;

    if (ns->holder < 0 || own == ns->holder || (!is_write && !is_read)) {
        return false;
    }
    bool registrants_may = type >= TYPE_WRITE_EXCLUSIVE_REGISTRANTS;
    if (registrants_may && own >= 0) {
        return false;
    }
    bool reads_conflict = type == TYPE_EXCLUSIVE_ACCESS ||
                          type == TYPE_EXCLUSIVE_ACCESS_REGISTRANTS ||
                          type == TYPE_EXCLUSIVE_ACCESS_ALL;
    return is_write || reads_conflict;
}

static uint64_t key_at(const struct target_op *op, uint32_t offset)
{
    uint64_t key;

    memcpy(&key, op->data + offset, sizeof(key));
    return key;
}

static void gone(struct target_ns *ns, int index)
{
    ns->registrants[index].is_there = false;
    if (ns->holder == index) {
        ns->holder = -1;
    }
}

static void resv_register(struct target_op *op)
{
    struct target_ns *ns = op->ns;
    uint32_t action = op->sqe->cdw10 & 7;
    bool ignore_key = (op->sqe->cdw10 & BIT32(3)) != 0;
    int own = registrant_find(op);

    if (action == 0) {
        for (int i = 0; own < 0 && i < TARGET_REGISTRANTS; i++) {
            if (!ns->registrants[i].is_there) {
                own = i;
                ns->registrants[i].is_there = true;
                ns->registrants[i].cntlid = op->cntlid;
                ns->registrants[i].key = key_at(op, 8);
                memcpy(ns->registrants[i].hostid, op->hostid, sizeof(ns->registrants[i].hostid));
                ns->resv_generation++;
                return;
            }
        }
        op->status =
            own >= 0 && ns->registrants[own].key == key_at(op, 8) ? NVME_SC_SUCCESS : CONFLICT;
        return;
    }
    if (own < 0 || (!ignore_key && ns->registrants[own].key != key_at(op, 0))) {
        op->status = CONFLICT;
    } else if (action == 1) {
        gone(ns, own);
        ns->resv_generation++;
    } else if (action == 2) {
        ns->registrants[own].key = key_at(op, 8);
        ns->resv_generation++;
    } else {
        op->status = INVALID;
    }
}

static void resv_acquire(struct target_op *op)
{
    struct target_ns *ns = op->ns;
    uint32_t action = op->sqe->cdw10 & 7;
    uint8_t type = (uint8_t)(op->sqe->cdw10 >> 8);
    int own = registrant_find(op);

    if (type < TYPE_WRITE_EXCLUSIVE || type > TYPE_EXCLUSIVE_ACCESS_ALL || action > 2) {
        op->status = INVALID;
        return;
    }
    if (own < 0 || ns->registrants[own].key != key_at(op, 0)) {
        op->status = CONFLICT;
        return;
    }
    if (action == 0) {
        if (ns->holder >= 0 && (ns->holder != own || ns->resv_type != type)) {
            op->status = CONFLICT;
            return;
        }
    } else { /* preempt: everybody with this key goes */
        for (int i = 0; i < TARGET_REGISTRANTS; i++) {
            if (i != own && ns->registrants[i].is_there &&
                ns->registrants[i].key == key_at(op, 8)) {
                gone(ns, i);
            }
        }
        ns->resv_generation++;
        if (ns->holder >= 0 && ns->holder != own) {
            return;
        }
    }
    ns->holder = own;
    ns->resv_type = type;
}

static void resv_release(struct target_op *op)
{
    struct target_ns *ns = op->ns;
    uint32_t action = op->sqe->cdw10 & 7;
    uint8_t type = (uint8_t)(op->sqe->cdw10 >> 8);
    int own = registrant_find(op);

    if (own < 0 || ns->registrants[own].key != key_at(op, 0)) {
        op->status = CONFLICT;
    } else if (action == 0) {
        bool holds = ns->holder == own || (ns->holder >= 0 && is_all(ns->resv_type));
        if (holds && ns->resv_type != type) {
            op->status = INVALID;
        } else if (holds) {
            ns->holder = -1;
        }
    } else if (action == 1) {
        memset(ns->registrants, 0, sizeof(ns->registrants));
        ns->holder = -1;
        ns->resv_generation++;
    } else {
        op->status = INVALID;
    }
}

static void resv_report(struct target_op *op)
{
    bool is_extended = (op->sqe->cdw11 & 1) != 0;
    uint32_t head_bytes = is_extended ? 64 : 24;
    uint32_t each_bytes = is_extended ? 64 : 24;
    uint8_t page[64 + TARGET_REGISTRANTS * 64] = {0};
    struct target_ns *ns = op->ns;
    struct resv_status status = {.generation = ns->resv_generation,
                                 .type = ns->holder >= 0 ? ns->resv_type : 0};
    uint8_t count = 0;

    if (!is_extended) {
        op->status = NVME_SC_HOSTID_INCONSISTENT | DNR; /* hosts have 128-bit identifiers here */
        return;
    }
    for (int i = 0; i < TARGET_REGISTRANTS; i++) {
        const struct target_registrant *r = &ns->registrants[i];
        if (!r->is_there) {
            continue;
        }
        uint8_t *to = page + head_bytes + (uint32_t)count * each_bytes;
        memcpy(to, &r->cntlid, sizeof(r->cntlid));
        to[2] = ns->holder == i || (ns->holder >= 0 && is_all(ns->resv_type));
        memcpy(to + 8, &r->key, sizeof(r->key));
        memcpy(to + 16, r->hostid, sizeof(r->hostid));
        count++;
    }
    status.count[0] = count;
    memcpy(page, &status, sizeof(status));
    memset(op->data, 0, op->len_bytes);
    memcpy(op->data, page, min_u64(op->len_bytes, sizeof(page)));
}

void target_resv(struct target_op *op)
{
    switch (op->sqe->opcode) {
    case IO_RESV_REGISTER:
        resv_register(op);
        break;
    case IO_RESV_ACQUIRE:
        resv_acquire(op);
        break;
    case IO_RESV_RELEASE:
        resv_release(op);
        break;
    default:
        resv_report(op);
        break;
    }
}
