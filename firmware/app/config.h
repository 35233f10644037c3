/*
 * What the firmware is told at start: blank-separated key=value words from the board (device tree
 * bootargs, or the command line of the native board), then a device tree of its own, if there is
 * one, for all that words cannot say (app/config_tree.h). Where both say something, the tree wins.
 *
 *   cores=N               cores that run reactors, 1..4; default and at most: what the board has
 *   idle=poll|adaptive    default adaptive
 *   ns=LIST               namespaces; comma-separated:
 *                           ram:SIZE[:LBA]    RAM, SIZE with K, M or G; LBA 512 (default) or 4096
 *                           null:SIZE[:LBA]   completes at once, keeps nothing: for measurements
 *                           drive:D[:NSID]    local drive D behind the NIC, its namespace (or 1)
 *                         or none; default ram:64M. With a tree: not used, the tree has them all
 *   serial=TEXT           1 to 12 letters and digits, unlike other boards in one host; default
 *                         SNIC. Function F is drive TEXT-F
 *   queues=N              I/O queue pairs offered, 1..64; default 64
 *   mdts=N                largest transfer 4 KiB << N, 1..8; default 8
 *   sgl=on|off            offer SGLs; default on
 *   dbbuf=auto|on|off     offer doorbell buffers; auto: where doorbells are trapped
 *   dstrd=N               doorbell stride 4 << N bytes, 0..4; default: 4 with mapped doorbells,
 *                         else 0
 *   room=N                namespace identifiers offered (NN), 1..1024; default 32, or what the
 *                         namespaces need
 * The words ns, queues, mdts, sgl, dbbuf, dstrd and room are every function's; as KEY.F=VALUE they
 * are function F's.
 *   wait=N                how long, in ms, CSTS.RDY waits for drives and volumes, 0..19000; default
 *                         5000
 *
 *   inband=own|all|off    what a host may do by management messages (docs/spec/mgmt.md): see what
 *                         is its own (default); all that the console may; or nothing
 *
 * Ethernet ports, where the board has some. KEY.P=VALUE is for port P = 0..3; without a number,
 * addresses are port 0's, the other words every port's:
 *   ip=A.B.C.D/N          IPv4 address and prefix; default none
 *   gw=A.B.C.D            router in that network; default none
 *   ip6=ADDRESS/N, gw6=ADDRESS
 *                         the same for IPv6, beside the link-local address that every port has
 *   vlan=N                every frame carries this VLAN tag, 1..4094; default 0: untagged
 *   mtu=N                 of IP packets, 1280..9000; default and at most: the port's
 *   ecn=on|off            RDMA packets are sent as ECN capable; default on
 *
 * Diagnostic services, for anybody who reaches the ports:
 *   diag=LIST             rping, perf, comma-separated, or none (default)
 *   rping.port=N          where rping clients are served; default 7174
 *   perf.port=N           where perftest clients (ib_write_bw -R ...) are served; default 18515
 *   perf.size=SIZE        largest message of perftest, 4K..64M, a multiple of 4K; default 8M.
 *                         Five times as much RAM is taken
 *
 * Source: ours. Namespace identifiers follow the order of the list, from 1.
 */
#ifndef APP_CONFIG_H
#define APP_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include "base/limits.h"
#include "base/status.h"
#include "net/net.h"
#include "sched/sched.h"

#define CONFIG_NS_MAX       64
#define CONFIG_SERIAL_BYTES 13 /* with the end */

enum config_ns_kind {
    CONFIG_NS_RAM,
    CONFIG_NS_NULL,
    CONFIG_NS_DRIVE,
};

struct config_ns {
    enum config_ns_kind kind;
    uint64_t size_bytes; /* RAM, NULL: a multiple of the block */
    uint8_t lba_shift;   /* RAM, NULL: 9 or 12 */
    uint8_t drive;       /* DRIVE: index, 0..LIMIT_DRIVES-1 */
    uint32_t drive_nsid; /* DRIVE */
};

enum config_choice {
    CONFIG_AUTO,
    CONFIG_ON,
    CONFIG_OFF,
};

enum config_in_band {
    CONFIG_IN_BAND_OWN,
    CONFIG_IN_BAND_ALL,
    CONFIG_IN_BAND_OFF,
};

#define CONFIG_DSTRD_AUTO 0xff

struct config_function {
    uint32_t ns_count; /* of words */
    struct config_ns ns[CONFIG_NS_MAX];
    uint16_t io_queues;
    uint16_t ns_room; /* 0: as many as are needed, or the default */
    uint8_t mdts;
    uint8_t dstrd;
    bool sgl;
    uint8_t doorbell_buffers; /* enum config_choice */
    /* Of the tree. */
    uint16_t ns_high;    /* highest namespace identifier */
    bool has_hostid;     /* else both are made from the serial number */
    uint8_t hostid[16];  /* as hosts of fabrics send it */
    const char *hostnqn; /* NULL: made from hostid */
};

#define CONFIG_SERVE_WAIT_HIGH_MS 19000 /* CAP.TO is 20 s */

#define CONFIG_PERF_LOW_BYTES  (UINT32_C(4) << 10)
#define CONFIG_PERF_HIGH_BYTES (UINT32_C(64) << 20)

/* One Ethernet port. */
struct config_port {
    struct net_if_addr ip4; /* prefix_bits 0: none */
    struct net_if_addr ip6;
    struct net_addr gateway4; /* zero: none; else in the network of the address */
    struct net_addr gateway6;
    uint16_t vlan;      /* 0: untagged */
    uint16_t mtu_bytes; /* 0: the port's */
    bool ecn;
};

struct config {
    uint32_t cores; /* 0: all */
    enum sched_idle idle;
    uint32_t serve_wait_ms;
    enum config_in_band in_band;
    char serial[CONFIG_SERIAL_BYTES];
    struct config_function functions[LIMIT_FUNCTIONS];
    struct config_port ports[LIMIT_ETH_PORTS];
    bool diag_rping;
    bool diag_perf;
    uint16_t rping_port;
    uint16_t perf_port;
    uint32_t perf_bytes;
};

/* Parses `words`. INVALID: `error` (of `error_bytes`) names the word and says what it may be. Words
 * whose key is not ours are counted in *ignored (boot loaders add theirs), and `error` holds the
 * first of them. Any context; no allocation. */
MUST_USE enum status config_parse(const char *words, struct config *config, uint32_t *ignored,
                                  char *error, uint32_t error_bytes);

#endif
