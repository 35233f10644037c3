/*
 * The host side of a link block (spec/link.h): register page, events, fences, windows, vectors.
 *
 * Knows nothing of sockets or PCI configuration: vfu_server.h and pcielink call it. One thread
 * calls all functions of a link. What the NIC writes into the block is checked when it is read.
 * POSIX-free; needs base and spec only.
 */
#ifndef VFU_LINK_H
#define VFU_LINK_H

#include <stdbool.h>
#include <stdint.h>
#include "base/compiler.h"
#include "spec/link.h"

struct vfu_link;

struct vfu_link_ops {
    /* Wakes cores of the NIC: bit n is core n. */
    void (*wake)(void *ctx, uint32_t core_mask);

    /* Sleeps until the NIC notifies or `timeout_ns` passed; may return early. False: no NIC is
     * there any more, nothing of it can reach host memory. */
    bool (*wait)(void *ctx, uint64_t timeout_ns);

    /* Makes sure, before it returns, that nothing of the NIC reaches host memory any more. */
    void (*stop_nic)(void *ctx, const char *why);

    uint64_t (*now_ns)(void *ctx);
    void (*log)(void *ctx, const char *text);
};

struct vfu_link_config {
    const struct vfu_link_ops *ops;
    void *ctx;
    void *block;        /* LINK_BLOCK_BYTES, 4 KiB aligned, shared with the NIC */
    uint8_t *doorbells; /* LINK_DOORBELL_BYTES; NULL: those inside the block */
    uint16_t fn;
    uint16_t function_count;
    uint16_t vector_count;     /* 1..LIMIT_VECTORS */
    bool trapped;              /* doorbells */
    bool cheap_poll;           /* the NIC polls host memory at no cost */
    bool revive;               /* the NIC cannot restart: a late acknowledgement brings it back,
                                  once no host is there */
    uint8_t dstrd;             /* CAP.DSTRD of the straps, 0..LINK_DSTRD_MAX */
    uint64_t host_ram_bytes;   /* 0: windows are not offsets into one memory */
    uint64_t fence_timeout_ns; /* 0: VFU_LINK_FENCE_NS */
};

#define VFU_LINK_FENCE_NS UINT64_C(1000000000)

struct vfu_link_stats {
    uint64_t reg_write_count;
    uint64_t reg_bad_count;  /* accesses of a width or alignment that NVMe does not have */
    uint64_t doorbell_count; /* trapped ones */
    uint64_t fence_count;
    uint64_t fence_max_ns;
    uint64_t ring_full_count;
    uint64_t failure_count; /* times the NIC had to be stopped */
};

/* Fields are the library's; read-only for others, for reports. */
struct vfu_link {
    struct vfu_link_config config;
    struct link_host_page *host;
    struct link_nic_page *nic;
    uint8_t *regs;
    uint8_t *masks;
    uint8_t *doorbells;
    bool nic_attached; /* a NIC said hello */
    bool nic_ready;    /* and serves */
    bool host_present;
    bool bus_master;
    bool admin_down;   /* taken down by hand */
    bool failed;       /* down until a NIC is ready again */
    bool stale_enable; /* the host's controller was enabled by a NIC that is gone */
    uint32_t epoch;
    uint32_t hello_seen;
    uint32_t head;
    uint32_t window_generation;
    uint32_t fence_generation; /* of the last fence that a NIC was told of */
    uint32_t vector_generation;
    uint32_t window_count;
    struct link_window windows[LIMIT_DMA_WINDOWS]; /* as the host gave them */
    struct vfu_link_stats stats;
};

/* Makes an empty block: straps, no host, no NIC. 0 or -EINVAL. */
int vfu_link_init(struct vfu_link *link, const struct vfu_link_config *config);

/* The NIC notified (or may have): looks at hello and ready. */
void vfu_link_poll(struct vfu_link *link);

/* The NIC ended: nothing of it can reach host memory any more. */
void vfu_link_nic_gone(struct vfu_link *link);

/* True once the NIC acknowledged vector table `generation`, or when no NIC serves. */
bool vfu_link_vectors_acked(const struct vfu_link *link, uint32_t generation);

/* --- what the host does; each returns when the NIC acknowledged it or was stopped ----------------
 */

void vfu_link_host_came(struct vfu_link *link);
void vfu_link_host_left(struct vfu_link *link);
void vfu_link_reset(struct vfu_link *link);
void vfu_link_set_bus_master(struct vfu_link *link, bool on);

/* The new set of windows; at most LIMIT_DMA_WINDOWS. `revokes`: something of the old set is gone.
 */
void vfu_link_set_windows(struct vfu_link *link, const struct link_window *windows,
                          uint32_t window_count, bool revokes);

/* BAR0 without the MSI-X table and PBA: offset + len_bytes <= LINK_MSIX_TABLE_OFFSET. A write that
 * goes beyond, or is of a width that NVMe does not have, changes nothing. */
void vfu_link_read(struct vfu_link *link, uint32_t offset, uint8_t *to, uint32_t len_bytes);
void vfu_link_write(struct vfu_link *link, uint32_t offset, const uint8_t *from,
                    uint32_t len_bytes);

/* Publishes a vector table (generation is filled in) and tells the NIC. Returns the generation to
 * ask vfu_link_vectors_acked() for. Does not wait. */
uint32_t vfu_link_set_vectors(struct vfu_link *link, const struct link_vector_table *table);

/* Takes the link down by hand, as if the cable were pulled, or up again. */
void vfu_link_set_down(struct vfu_link *link, bool down);

#endif
