/*
 * Host Memory Buffer: Set Features takes the host's pieces into use or lets go of them; what lies
 * in them is the business of a user above (struct nvme_ep_hmb_ops).
 *
 * The list of pieces is read from host memory once and checked against the windows. Revoking is
 * part of the fences (fence.c): the user's answer is waited for like a core's. Leaves out: doing
 * anything with memory that the host says it returns (MR): nothing is remembered over a reset.
 *
 * Source: NVM Express Base Specification 1.4, sections 5.21.1.13, 8.9.
 */
#include "base/log.h"
#include "hal/cpu.h"
#include "nvme_ep/nvme_ep_priv.h"

#define AT_HSIZE (48 | 0 << 8)
#define AT_LIST  (52 | 4 << 8) /* HMDLLA: bits 31:4 */
#define AT_COUNT (60 | 0 << 8)

/* --- pieces -------------------------------------------------------------------------------- */

/* Where a piece is under `view`; it may be read and written there. */
static uint64_t piece_map(struct pcie_ep_view *view, const struct nvme_ep_hmb_piece *piece)
{
    uint64_t read = pcie_ep_map(view, piece->host_addr, piece->len_bytes, false);

    return read == pcie_ep_map(view, piece->host_addr, piece->len_bytes, true) ? read
                                                                               : PCIE_EP_NO_ADDR;
}

/* Every piece is within reach under core 0's view: takes its bus address. */
static bool pieces_map(struct nvme_ep *ep)
{
    struct nvme_ep_hmb *memory = &ep->hmb.memory;

    for (uint32_t i = 0; i < memory->piece_count; i++) {
        struct nvme_ep_hmb_piece *piece = &memory->pieces[i];
        piece->bus_addr = piece_map(&ep->cores[0].view, piece);
        if (piece->bus_addr == PCIE_EP_NO_ADDR) {
            return false;
        }
    }
    return true;
}

/* Some piece is not where it was under the newest table of windows. */
static bool pieces_move(struct nvme_ep *ep)
{
    struct nvme_ep_hmb *memory = &ep->hmb.memory;

    pcie_ep_view_load(ep->pcie, &ep->hmb.next_view);
    for (uint32_t i = 0; i < memory->piece_count; i++) {
        if (piece_map(&ep->hmb.next_view, &memory->pieces[i]) != memory->pieces[i].bus_addr) {
            return true;
        }
    }
    return false;
}

/* --- the user ------------------------------------------------------------------------------ */

static void grant(struct nvme_ep *ep)
{
    struct nvme_ep_hmb_state *hmb = &ep->hmb;

    if (hmb->ops != NULL) {
        hmb->is_used = true;
        hmb->ops->granted(hmb->ctx, &hmb->memory);
    }
}

static void revoked(void *arg)
{
    struct nvme_ep *ep = arg;

    ASSERT(cpu_self() == 0 && ep->hmb.is_revoking && ep->fence_left > 0);
    ep->hmb.is_revoking = false;
    ep->hmb.is_used = false;
    ep->fence_left--;
    nvme_ep_control_wake(ep);
}

bool nvme_ep_hmb_must_revoke(struct nvme_ep *ep, enum nvme_ep_fence fence)
{
    switch (fence) {
    case NVME_EP_FENCE_DRAIN:
    case NVME_EP_FENCE_HMB:
    case NVME_EP_FENCE_HMB_LEND:
        return ep->hmb.is_used;
    case NVME_EP_FENCE_VIEW:
    case NVME_EP_FENCE_RELOAD: /* nothing is gone, but it may be somewhere else */
        return ep->hmb.is_used && pieces_move(ep);
    case NVME_EP_FENCE_NONE:
    case NVME_EP_FENCE_STOP: /* a shutdown: its HMB fence comes when all is flushed */
    case NVME_EP_FENCE_SETTINGS:
    case NVME_EP_FENCE_DBBUF:
    case NVME_EP_FENCE_SIGNAL:
    case NVME_EP_FENCE_HAND_OVER: /* HMB_LEND follows when no command needs it any more */
    case NVME_EP_FENCE_RESUME:
        break;
    }
    return false;
}

void nvme_ep_hmb_revoke(struct nvme_ep *ep)
{
    ep->hmb.is_revoking = true;
    ep->hmb.ops->revoke(ep->hmb.ctx, revoked, ep);
}

void nvme_ep_hmb_fence_ended(struct nvme_ep *ep, enum nvme_ep_fence fence)
{
    struct nvme_ep_hmb_state *hmb = &ep->hmb;
    struct nvme_ep_cmd *cmd = hmb->cmd;

    ASSERT(!hmb->is_revoking);
    if (fence == NVME_EP_FENCE_DRAIN || fence == NVME_EP_FENCE_HMB) {
        if (hmb->is_set) {
            LOG_LIMITED(INFO, "nvme_ep: function %u: the host has its memory back", ep->pcie->fn);
        }
        hmb->is_set = false;
    } else if (hmb->is_set && !hmb->is_used && fence != NVME_EP_FENCE_HMB_LEND && pieces_map(ep)) {
        grant(ep);
    }
    if (fence == NVME_EP_FENCE_HMB && cmd != NULL) {
        hmb->cmd = NULL;
        nvme_admin_done(&cmd->nvme, NVME_SC_SUCCESS, 0);
    }
}

/* --- Set Features (5.21.1.13) -------------------------------------------------------------- */

/* What the host writes there meanwhile changes nothing. */
static struct nvme_host_memory_desc descriptor_load(const uint8_t *from)
{
    struct nvme_host_memory_desc desc;
    uint64_t half[2] = {shm_load64(from), shm_load64(from + 8)};

    memcpy(&desc, half, sizeof(desc));
    return desc;
}

/* Takes `bytes` of the buffer from the entries at `list`. False: an entry cannot be, or they hold
 * less than that. */
static bool pieces_take(struct nvme_ep *ep, const uint8_t *list, uint32_t count, uint64_t bytes)
{
    struct nvme_ep_hmb *memory = &ep->hmb.memory;

    memory->piece_count = 0;
    memory->len_bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct nvme_host_memory_desc desc = descriptor_load(list + i * sizeof(desc));
        uint64_t desc_bytes = (uint64_t)desc.page_count * ep->page_bytes;

        if (desc_bytes == 0 || !is_aligned(desc.addr, ep->page_bytes)) {
            return false;
        }
        if (bytes == 0) {
            continue; /* beyond HSIZE: not part of the buffer */
        }
        desc_bytes = min_u64(desc_bytes, bytes);
        bytes -= desc_bytes;
        struct nvme_ep_hmb_piece *piece = &memory->pieces[memory->piece_count++];
        piece->host_addr = desc.addr;
        piece->len_bytes = (uint32_t)min_u64(desc_bytes, NVME_EP_HMB_PIECE_MAX);
        memory->len_bytes += piece->len_bytes;
    }
    return bytes == 0;
}

/* 0, or the status of what is wrong, and where it is. */
static nvme_status_t memory_take(struct nvme_ep_cmd *cmd, uint16_t *location)
{
    struct nvme_ep *ep = cmd->core->ep;
    const struct nvme_sqe *sqe = &cmd->nvme.blk.cmd;
    uint64_t list_addr = (uint64_t)sqe->cdw14 << 32 | sqe->cdw13;
    uint64_t bytes = (uint64_t)sqe->cdw12 * ep->page_bytes;
    uint32_t count = sqe->cdw15;

    *location = AT_HSIZE;
    if (bytes == 0 || bytes < ep->config.ctrl.hmb_min_bytes) {
        return NVME_SC_INVALID_FIELD;
    }
    *location = AT_COUNT;
    if (count == 0 || count > LIMIT_HMB_PIECES) {
        return NVME_SC_INVALID_FIELD; /* HMMAXD */
    }
    *location = AT_LIST;
    uint32_t list_bytes = count * (uint32_t)sizeof(struct nvme_host_memory_desc);
    uint64_t bus_addr = is_aligned(list_addr, sizeof(struct nvme_host_memory_desc))
                            ? pcie_ep_map(&cmd->core->view, list_addr, list_bytes, false)
                            : PCIE_EP_NO_ADDR;
    if (bus_addr == PCIE_EP_NO_ADDR) {
        (void)nvme_ep_bad_address(cmd, list_addr, list_bytes);
        return NVME_SC_INVALID_FIELD;
    }
    counter_add(&cmd->core->counters.list_reads, 1);
    counter_add(&cmd->core->counters.list_bytes, list_bytes);
    if (!pieces_take(ep, mem_bus_ptr(bus_addr), count, bytes)) {
        return NVME_SC_INVALID_FIELD;
    }
    if (!pieces_map(ep)) {
        (void)nvme_ep_bad_address(cmd, list_addr, list_bytes);
        return NVME_SC_INVALID_FIELD;
    }
    return NVME_SC_SUCCESS;
}

void nvme_ep_host_memory(struct nvme_cmd *nvme)
{
    struct nvme_ep_cmd *cmd = nvme_ep_cmd_of(nvme);
    struct nvme_ep *ep = cmd->core->ep;
    uint16_t location = NVME_ERROR_LOCATION_NONE;

    ASSERT(ep->hmb.cmd == NULL); /* the core lets one through at a time */
    if ((nvme->blk.cmd.cdw11 & NVME_HOST_MEMORY_ENABLE) == 0) {
        nvme->state |= NVME_EP_CMD_ERRAND;
        ep->hmb.cmd = cmd;
        nvme_ep_control_wake(ep); /* an HMB fence */
        return;
    }
    ASSERT(!ep->hmb.is_set && !ep->hmb.is_used);
    nvme_status_t status = memory_take(cmd, &location);
    if (status != NVME_SC_SUCCESS) {
        nvme->error_location = location;
        nvme_admin_done(nvme, (nvme_status_t)(status | NVME_STATUS_DNR), 0);
        return;
    }
    LOG_LIMITED(INFO, "nvme_ep: function %u: the host grants %u KiB of its memory in %u pieces",
                ep->pcie->fn, (unsigned)(ep->hmb.memory.len_bytes / 1024),
                (unsigned)ep->hmb.memory.piece_count);
    ep->hmb.is_set = true;
    grant(ep);
    nvme_admin_done(nvme, NVME_SC_SUCCESS, 0);
}
