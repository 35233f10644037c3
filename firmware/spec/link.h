/*
 * The link block: our own shared memory between the model of the endpoint controller ("host side":
 * pcielink, or the vfio-user server in the same process) and the NIC's firmware ("NIC side").
 *
 * One block per PCIe function, LINK_BLOCK_BYTES long; function n lies at n * LINK_BLOCK_BYTES.
 * All fields are little endian. Each page has one writer, but for the register page (host stores
 * under the write mask, the NIC publishes). Both sides check what they read: the other one may be
 * wrong, and with mapped doorbells the host's VMM can write the whole block.
 *
 *   0x00000  struct link_host_page     host side writes
 *   0x01000  struct link_nic_page      NIC writes
 *   0x02000  write masks               NIC writes (straps by the host side): one u32 per register
 *   0x03000  struct link_window_table  host side writes; generation even
 *   0x04000  struct link_window_table  host side writes; generation odd
 *   0x05000  struct link_vector_table  host side writes
 *   0x08000  ring of struct link_event host side writes
 *   0x10000  BAR0 as far as it is memory: register page, then LINK_DOORBELL_BYTES of doorbells
 *
 * Life of a NIC: it stores `hello` + 1 and notifies; the host side ends what an earlier NIC left,
 * counts `epoch` up, empties the ring and answers in `hello_seen`. The NIC publishes registers,
 * stores `epoch` in `ready` and notifies; then the host side sends events that describe the
 * present: LINK, BUS_MASTER, WINDOWS, VECTORS and register writes that are still to be acted on.
 * Before `ready` nothing is queued and nothing waits for the NIC.
 *
 * Fences: an event that carries a generation is answered by `fence_ack` = generation once nothing
 * of the NIC uses what the event took away. The host side never starts a second fence before the
 * first is answered, so two window tables suffice: table (generation & 1) is valid from the event
 * on. VECTORS has its own counter, because its answer must not overtake or delay a fence.
 *
 * Barriers, by the names used in the code of both ends:
 *   EVENT     release store of event_head after the record | acquire load before reading records
 *   TAIL      release store of event_tail after reading    | acquire load before reusing a record
 *   FENCE     full system barrier, release of fence_ack    | acquire load before the host's answer
 *   ARM       armed = 1, full barrier, look at doorbells   | store doorbell, full barrier, armed?
 *   HELLO     release stores of hello, hello_seen, ready   | acquire loads of the same
 */
#ifndef SPEC_LINK_H
#define SPEC_LINK_H

#include <stdint.h>
#include "base/compiler.h"
#include "base/limits.h"

#define LINK_MAGIC   UINT64_C(0x4b4e494c43494e53) /* "SNICLINK" */
#define LINK_VERSION 1u

#define LINK_PAGE_BYTES 0x1000u

#define LINK_OFFSET_HOST    0x00000u
#define LINK_OFFSET_NIC     0x01000u
#define LINK_OFFSET_MASKS   0x02000u
#define LINK_OFFSET_WINDOWS 0x03000u /* table (generation & 1) is one page further */
#define LINK_OFFSET_VECTORS 0x05000u
#define LINK_OFFSET_EVENTS  0x08000u
#define LINK_OFFSET_BAR     0x10000u
#define LINK_BLOCK_BYTES    0x20000u

/* --- BAR0 as the host sees it ------------------------------------------------------------------
 */

#define LINK_BAR_BYTES         0x8000u
#define LINK_REG_BYTES         0x1000u /* trapped; reads are answered from the register page */
#define LINK_DOORBELL_OFFSET   0x1000u /* NVMe 1.4, 3.1.16: doorbells begin here */
#define LINK_DOORBELL_BYTES    0x3000u
#define LINK_MSIX_TABLE_OFFSET 0x4000u
#define LINK_MSIX_PBA_OFFSET   0x5000u

/* Largest CAP.DSTRD for which all doorbells fit: (LIMIT_IO_QUEUES + 1) pairs of 4 << DSTRD bytes.
 */
#define LINK_DSTRD_MAX 4u
_Static_assert((LIMIT_IO_QUEUES + 1) * 2 * (4u << LINK_DSTRD_MAX) <= LINK_DOORBELL_BYTES,
               "doorbells of all queues must fit at the largest stride");
_Static_assert(LINK_DOORBELL_OFFSET + LINK_DOORBELL_BYTES <= LINK_MSIX_TABLE_OFFSET,
               "doorbells and MSI-X table must not overlap");
_Static_assert(LIMIT_VECTORS * 16 <= LINK_MSIX_PBA_OFFSET - LINK_MSIX_TABLE_OFFSET,
               "the MSI-X table must fit");
_Static_assert(LINK_OFFSET_BAR + LINK_DOORBELL_OFFSET + LINK_DOORBELL_BYTES <= LINK_BLOCK_BYTES,
               "the memory part of BAR0 must fit");

/* PCI identity. 1af4:10f0-10ff is set aside by the owner of vendor id 1af4 for experiments, without
 * registration; NVMe drivers match by class. A product sets its own. */
#define LINK_PCI_VENDOR_ID 0x1af4u
#define LINK_PCI_DEVICE_ID 0x10f0u

/* --- pages -------------------------------------------------------------------------------------
 */

#define LINK_CORES 8u /* room in the format, not what a board has */
_Static_assert(LIMIT_CORES <= LINK_CORES, "each core needs an arm word");

/* link_host_page.flags. Trapped: a doorbell write wakes armed cores; else doorbells are plain
 * stores of the host. Cheap poll: polling host memory costs no bus round trip. */
#define LINK_FLAG_TRAPPED    (1u << 0)
#define LINK_FLAG_CHEAP_POLL (1u << 1)

struct link_host_page {
    uint64_t magic;
    uint32_t version;
    uint32_t block_bytes;
    uint16_t fn;             /* function id of this block */
    uint16_t function_count; /* blocks in this memory */
    uint32_t flags;          /* LINK_FLAG_* */
    uint32_t event_count;    /* records of the ring, a power of two */
    uint32_t doorbell_bytes;
    uint32_t vector_count; /* MSI-X vectors of the function */
    uint32_t epoch;        /* how many NICs said hello */
    uint32_t hello_seen;
    uint32_t link_up;        /* a host is there */
    uint64_t host_ram_bytes; /* size of the memory that windows point into; 0: no such limit */
    uint8_t reserved0[8];
    uint32_t event_head; /* free running */
    uint8_t reserved1[60];
    uint32_t window_generation;
    uint8_t reserved2[60];
    uint32_t vector_generation;
    uint8_t reserved3[60];
};
ASSERT_SIZE(struct link_host_page, 256);
ASSERT_OFFSET(struct link_host_page, event_head, 64);
ASSERT_OFFSET(struct link_host_page, window_generation, 128);
ASSERT_OFFSET(struct link_host_page, vector_generation, 192);

struct link_nic_core {
    uint32_t armed; /* not 0: a doorbell write must wake this core */
    uint8_t reserved[60];
};

struct link_nic_page {
    uint32_t hello;
    uint32_t ready; /* epoch whose NIC serves */
    uint8_t reserved0[56];
    uint32_t event_tail;
    uint8_t reserved1[60];
    uint32_t fence_ack;
    uint32_t vector_ack;
    uint8_t reserved2[56];
    struct link_nic_core core[LINK_CORES];
};
ASSERT_SIZE(struct link_nic_page, 192 + 64 * 8);
ASSERT_OFFSET(struct link_nic_page, event_tail, 64);
ASSERT_OFFSET(struct link_nic_page, fence_ack, 128);
ASSERT_OFFSET(struct link_nic_page, core, 192);

/* --- windows: empty while bus mastering is off, the link is down or no NIC is ready -------------
 */

#define LINK_WINDOW_READ  (1u << 0) /* the NIC may read host memory there */
#define LINK_WINDOW_WRITE (1u << 1)

/* In whole pages of LINK_PAGE_BYTES: what is aligned by host address is aligned for the NIC. */
struct link_window {
    uint64_t host_addr;
    uint64_t len_bytes;
    uint64_t target; /* offset from the NIC's bus address of host RAM (native: a pointer, base 0) */
    uint32_t flags;  /* LINK_WINDOW_* */
    uint32_t reserved;
};
ASSERT_SIZE(struct link_window, 32);

struct link_window_table {
    uint32_t generation;
    uint32_t window_count;
    uint8_t reserved[56];
    struct link_window windows[LIMIT_DMA_WINDOWS];
};
_Static_assert(sizeof(struct link_window_table) <= LINK_PAGE_BYTES, "a table is one page");

/* --- interrupt vectors -------------------------------------------------------------------------
 */

/* The NIC raises MSI-X vector v by signalling vector `first` + v of ivshmem peer `peer`. */
struct link_vector_table {
    uint32_t generation;
    uint32_t peer;
    uint32_t first;
    uint32_t count;   /* vectors that the peer has */
    uint32_t live[8]; /* bit v: the host listens to vector v */
};
ASSERT_SIZE(struct link_vector_table, 48);
_Static_assert(LIMIT_VECTORS <= 8 * 32, "a bit per vector");

/* ivshmem identities of the rack: NIC, host side, and from LINK_PEER_FIRST on tables of the host's
 * own eventfds, which the NIC signals without a detour. Vectors of the host side: 0 is the NIC's
 * notification; 1 + v is MSI-X vector v, which the host side passes on, used only once the last
 * peer id is spent (the host has changed its vectors 65,533 times in one life of the NIC). */
#define LINK_PEER_NIC        0u
#define LINK_PEER_HOST       1u
#define LINK_PEER_FIRST      2u
#define LINK_PEER_LAST       65534u
#define LINK_IVSHMEM_VECTORS 72u /* what the NIC's device must offer */
_Static_assert(LIMIT_VECTORS + 1 <= LINK_IVSHMEM_VECTORS, "a peer must fit");

/* --- events ------------------------------------------------------------------------------------
 */

#define LINK_EVENT_COUNT 1024u

enum link_event_type {
    LINK_EVENT_NONE = 0,
    LINK_EVENT_REG_WRITE =
        1,                  /* offset, len_bytes (4 or 8), value: stored already, under the mask */
    LINK_EVENT_WINDOWS = 2, /* generation; flags LINK_EVENT_REVOKES */
    LINK_EVENT_BUS_MASTER = 3, /* value 1: on; 0: off, with generation */
    LINK_EVENT_RESET = 4,      /* function reset; generation */
    LINK_EVENT_LINK = 5,       /* value 1: a host came; 0: it went, with generation */
    LINK_EVENT_VECTORS = 6,    /* generation of the vector table */
};

#define LINK_EVENT_REVOKES (1u << 0) /* an address that was reachable no longer is */

struct link_event {
    uint32_t index; /* free-running index of this record */
    uint16_t type;  /* enum link_event_type */
    uint16_t len_bytes;
    uint32_t offset;
    uint32_t generation; /* 0: nothing to acknowledge */
    uint64_t value;
    uint32_t flags;
    uint32_t reserved;
};
ASSERT_SIZE(struct link_event, 32);
_Static_assert(LINK_OFFSET_EVENTS + LINK_EVENT_COUNT * sizeof(struct link_event) <= LINK_OFFSET_BAR,
               "the ring must fit");

#endif
