#include "tests/unit/nvme_ep/reference.h"

#include "tests/unit/nvme_ep/rig.h"

#define PAGE 4096u

static int is_ram(uint64_t addr, uint64_t len)
{
    return addr >= RIG_HOST_BASE && addr - RIG_HOST_BASE <= RIG_RAM_BYTES &&
           len <= RIG_RAM_BYTES - (addr - RIG_HOST_BASE);
}

static uint64_t load(uint64_t addr)
{
    uint64_t value;
    memcpy(&value, rig_ptr(addr), 8);
    return value;
}

/* Fills addresses of a run; false: outside. */
static int run(uint64_t *addrs, uint64_t addr, uint64_t len)
{
    if (!is_ram(addr, len)) {
        return 0;
    }
    for (uint64_t i = 0; i < len; i++) {
        addrs[i] = addr + i;
    }
    return 1;
}

static nvme_status_t prp(const struct nvme_sqe *sqe, uint32_t len, uint64_t *addrs)
{
    uint32_t done = PAGE - sqe->prp1 % PAGE;
    uint64_t list = sqe->prp2;

    if (sqe->prp1 % 4 != 0) {
        return NVME_SC_INVALID_PRP_OFFSET;
    }
    done = done > len ? len : done;
    if (!run(addrs, sqe->prp1, done)) {
        return NVME_SC_DATA_TRANSFER_ERROR;
    }
    if (len - done > PAGE && list % 8 != 0) {
        return NVME_SC_INVALID_PRP_OFFSET;
    }
    int is_list = len - done > PAGE;
    while (done < len) {
        uint64_t entry = list; /* PRP2 itself, when no list is needed */
        uint32_t left = len - done;
        uint32_t piece = left > PAGE ? PAGE : left;
        if (is_list) {
            if (!is_ram(list, 8)) {
                return NVME_SC_DATA_TRANSFER_ERROR;
            }
            entry = load(list);
            if (entry % PAGE != 0) {
                return NVME_SC_INVALID_PRP_OFFSET;
            }
            if (list % PAGE == PAGE - 8 && left > PAGE) { /* the last slot chains */
                list = entry;
                continue;
            }
            list += 8;
        }
        if (entry % PAGE != 0) {
            return NVME_SC_INVALID_PRP_OFFSET;
        }
        if (!run(addrs + done, entry, piece)) {
            return NVME_SC_DATA_TRANSFER_ERROR;
        }
        done += piece;
    }
    return 0;
}

static nvme_status_t sgl(const struct nvme_sqe *sqe, uint32_t len, int to_host, uint64_t *addrs)
{
    struct nvme_sgl_desc desc = sqe->sgl1;
    uint64_t next = 0;
    uint32_t count = 0;
    int is_last = 0;
    uint32_t done = 0;
    uint32_t looked = 0;

    for (;;) {
        uint32_t type = desc.type >> 4;
        if (++looked > NVME_EP_SGL_DESCRIPTORS) {
            return NVME_SC_INVALID_SGL_COUNT;
        }
        if (desc.type % 16 != 0 || type > 3) {
            return NVME_SC_SGL_TYPE_INVALID;
        }
        if (type >= 2) {
            if (count != 0) {
                return NVME_SC_INVALID_SGL_COUNT;
            }
            if (is_last || desc.len_bytes == 0 || desc.len_bytes % 16 != 0 || desc.addr % 8 != 0) {
                return NVME_SC_INVALID_SGL_SEGMENT;
            }
            if (desc.len_bytes / 16 > NVME_EP_SGL_DESCRIPTORS - looked) {
                return NVME_SC_INVALID_SGL_COUNT;
            }
            if (!is_ram(desc.addr, desc.len_bytes)) {
                return NVME_SC_DATA_TRANSFER_ERROR;
            }
            next = desc.addr;
            count = desc.len_bytes / 16;
            is_last = type == 3;
        } else if (type == 0 || to_host) {
            if (desc.len_bytes > len - done) {
                return NVME_SC_DATA_SGL_LENGTH_INVALID;
            }
            if (type == 1) {
                for (uint32_t i = 0; i < desc.len_bytes; i++) {
                    addrs[done + i] = UINT64_MAX;
                }
            } else if (desc.len_bytes != 0 && !run(addrs + done, desc.addr, desc.len_bytes)) {
                return NVME_SC_DATA_TRANSFER_ERROR;
            }
            done += desc.len_bytes;
        }
        if (count == 0) {
            return done == len ? 0 : NVME_SC_DATA_SGL_LENGTH_INVALID;
        }
        memcpy(&desc, rig_ptr(next), sizeof(desc));
        next += 16;
        count--;
    }
}

nvme_status_t reference_map(const struct nvme_sqe *sqe, uint32_t len_bytes, int to_host,
                            uint64_t *addrs)
{
    return sqe->flags >> 6 == 0 ? prp(sqe, len_bytes, addrs) : sgl(sqe, len_bytes, to_host, addrs);
}
