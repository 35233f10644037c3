/*
 * Every limit of the firmware, in one place: all pools and tables are sized from here.
 */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

/* Cores that run a reactor. */
#define LIMIT_CORES 4

/* PCIe functions (tenants) that one firmware serves. */
#define LIMIT_FUNCTIONS 4

/* I/O queue pairs of a controller, beside the admin queue; identifiers are 1..LIMIT_IO_QUEUES. */
#define LIMIT_IO_QUEUES 64

/* Entries of a queue, as a count (CAP.MQES is one less). */
#define LIMIT_QUEUE_ENTRIES 1024

/* Namespaces of a controller; identifiers are 1..LIMIT_NAMESPACES. */
#define LIMIT_NAMESPACES 1024

/* Host memory windows of a function. */
#define LIMIT_DMA_WINDOWS 64

/* Pieces of a Host Memory Buffer (HMMAXD). Linux makes them of 4 MiB as long as it can. */
#define LIMIT_HMB_PIECES 64

/* MSI-X vectors of a function: one for each queue pair. */
#define LIMIT_VECTORS (LIMIT_IO_QUEUES + 1)

/* Commands under way on one core, over all of its queues. */
#define LIMIT_COMMANDS_PER_CORE 1024

/* Largest data transfer of a command: 1 MiB is MDTS 8 with 4 KiB pages. */
#define LIMIT_TRANSFER_BYTES (1u << 20)
#define LIMIT_MDTS           8

/* Segments that a command carries inline: 128 KiB in single pages, unaligned. */
#define LIMIT_INLINE_SEGS 34

/* Segments of the largest transfer: one per page and one for an unaligned start. */
#define LIMIT_SEGS (LIMIT_TRANSFER_BYTES / 4096 + 1)

/* Commands per core that may hold a full segment list (transfers above the inline size). */
#define LIMIT_BIG_COMMANDS_PER_CORE 128

/* Firmware image that a host may download. */
#define LIMIT_FIRMWARE_BYTES (4u << 20)

/* Asynchronous Event Requests that a host may have outstanding (AERL is one less). */
#define LIMIT_AERS 4

/* Local NVMe drives behind the NIC's root complex. */
#define LIMIT_DRIVES 8

/* Ethernet ports: one for each core that speaks to the fabric. */
#define LIMIT_ETH_PORTS LIMIT_CORES

/* One port: frames under way, how many of them may carry a copied payload, neighbours known. */
#define LIMIT_NET_BUFS      1024
#define LIMIT_NET_BIG_BUFS  128
#define LIMIT_NET_NEIGHBORS 256

/* RDMA objects of one port. */
#define LIMIT_RDMA_QPS    256
#define LIMIT_RDMA_CQS    64
#define LIMIT_RDMA_SRQS   16
#define LIMIT_RDMA_PDS    16
#define LIMIT_RDMA_MRS    256
#define LIMIT_RDMA_KEYS   4096
#define LIMIT_RDMA_AHS    64
#define LIMIT_RDMA_CM_IDS 512 /* connections that are dying out included */

/* Clients that the diagnostic services of one port serve at once: rping; perftest, of which each
 * has a connection for control and others for data; and how many perftest clients have memory. */
#define LIMIT_RPING_CONNS   8
#define LIMIT_PERF_CONNS    16
#define LIMIT_PERF_SESSIONS 4

/* NVMe over Fabrics, as host: associations (a function with a subsystem); queues of one core, the
 * admin queues among them; entries of an I/O queue; remote namespaces in use. */
#define LIMIT_NVMF_CTRLS         64
#define LIMIT_NVMF_QUEUES        (LIMIT_NVMF_CTRLS * 2)
#define LIMIT_NVMF_QUEUE_ENTRIES 256
#define LIMIT_NVMF_NAMESPACES    1024

/* And of one core: I/O commands under way, NIC memory for what has to be staged. */
#define LIMIT_NVMF_COMMANDS    512
#define LIMIT_NVMF_STAGE_BYTES (4u << 20)

/* Volumes of all functions together, and ways to one. */
#define LIMIT_VOLUMES      1024
#define LIMIT_VOLUME_PATHS 4

/* Parts of split requests under way on one core; what is split beyond that waits. */
#define LIMIT_VOLUME_CHILDREN 64

/* Pollers of one reactor: all that there can be, for one core may have to do everything. One of
 * each function; two of the local drives, the console, the initiator's queues; of each Ethernet
 * port net, RDMA, CM, rping's client and, where the configuration wants them, the servers of rping
 * and perftest. */
#define LIMIT_POLLERS_PER_CORE (LIMIT_FUNCTIONS + 5 + 6 * LIMIT_ETH_PORTS)

/* Trace records kept per core, 32 bytes each; a power of two. */
#define LIMIT_TRACE_RECORDS 1024

#endif
