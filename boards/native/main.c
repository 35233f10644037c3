/*
 * The native board: the firmware as a Linux process. Each folder named on the command line becomes
 * a vfio-user NVMe controller at FOLDER/cntrl, each --fabric an Ethernet port.
 */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <pthread.h>
#include "base/log.h"
#include "hal/board.h"
#include "hal/clock.h"
#include "hal/console.h"
#include "hal/cpu.h"
#include "hal/native/eth_dgram.h"
#ifdef SNIC_IBV
#include "hal/native/ibv/rdma_ibv.h"
#endif
#include "hal/native/native.h"
#include "hal/native/pcie_ep_native.h"
#include "sched/sched.h"

/* Reserved, not used: pages cost memory when a RAM disk is written. */
#define DEFAULT_POOL_BYTES (UINT64_C(64) << 30)
#define CONFIG_BYTES       4096
#define SERIAL_ROOM        32
#define TREE_BYTES         (1u << 20)
#define RNG_SEED_BYTES     64
#define HASH_START         UINT64_C(0xcbf29ce484222325)
#define FABRIC_MTU_BYTES   4200 /* RoCEv2 with 4096 bytes of payload */

struct options {
    const char *folders[LIMIT_FUNCTIONS];
    uint32_t folder_count;
    const char *sockets[LIMIT_ETH_PORTS];
    uint32_t socket_count;
    char config[CONFIG_BYTES];
    struct pcie_ep_native_options ep;
};

static char **arguments; /* for board_reset() */
static const char *rdma_names[LIMIT_ETH_PORTS];
static uint32_t rdma_count;

static const char usage[] =
    "usage: snic [--config \"WORD ...\"] [--config FILE.dtb] [--doorbells mapped|trapped]\n"
    "            [--fabric SOCKET] [--rdma DEVICE] FOLDER...\n"
    "\n"
    "Serves an NVMe controller to a vfio-user client (QEMU 10.1 or later) at FOLDER/cntrl, one\n"
    "controller for each folder, up to 4. Ends on SIGINT or SIGTERM.\n"
    "\n"
    "  --config FILE.dtb    a configuration as device tree (docs/spec/config.md), out of dtc\n"
    "  --doorbells mapped   the client stores doorbells in shared memory, we poll (default)\n"
    "  --doorbells trapped  each doorbell is a message: slower, but an idle process sleeps\n"
    "  --fabric SOCKET      an Ethernet port, MTU 4200: frames are datagrams, received at the\n"
    "                       unix socket SOCKET and sent to SOCKET.switch\n"
    "  --rdma DEVICE        an RNIC of this machine (rdma link), like rxe0. Only in the build\n"
    "                       with rdma-core: make build/native-ibv/snic\n"
    "                       --fabric and --rdma again for more, up to 4 together\n"
    "\n"
    "Configuration words:\n"
    "  cores=N              reactors, each a thread, 1..4 (default 1)\n"
    "  idle=adaptive|poll   sleep when there is no work (default), or always poll\n"
    "  ns=LIST, ns.F=LIST   namespaces of every controller, or of controller F = 0..3:\n"
    "                         ram:SIZE[:LBA]   RAM; SIZE like 64M, 2G; LBA 512 or 4096\n"
    "                         null:SIZE[:LBA]  completes at once, keeps nothing\n"
    "                       or none; default ram:64M; RAM disks: 64 GiB together\n"
    "  serial=TEXT          1 to 12 letters and digits (default: from the first folder's path)\n"
    "  queues=N             I/O queue pairs, 1..64 (default 64)\n"
    "  mdts=N               largest transfer 4 KiB << N, 1..8 (default 8)\n"
    "  sgl=on|off           offer SGLs (default on)\n"
    "  dbbuf=auto|on|off    offer doorbell buffers (default: with trapped doorbells)\n"
    "  dstrd=N              doorbell stride 4 << N bytes, 0..4 (default: mapped 4, trapped 0)\n"
    "  room=N               namespace identifiers offered, 1..1024 (default 32)\n"
    "these six and ns: KEY.F=VALUE for controller F alone\n"
    "  wait=N               how long RDY waits for volumes, in ms, up to 19000 (default 5000)\n"
    "Words about Ethernet ports; KEY.P=VALUE is for port P = 0..3, else addresses are port 0's "
    "and\n"
    "the rest every port's:\n"
    "  ip=A.B.C.D/N, gw=A.B.C.D     IPv4 address, router in its network (default none)\n"
    "  ip6=ADDRESS/N, gw6=ADDRESS   the same for IPv6, beside the link-local address\n"
    "  vlan=N               every frame is tagged so, 1..4094 (default 0: untagged)\n"
    "  mtu=N                of IP packets, 1280..9000 (default and at most: the port's)\n"
    "  ecn=on|off           RDMA packets say that they heed congestion marks (default on)\n"
    "  diag=LIST            services for anybody there: rping, perf (default none)\n"
    "  rping.port=N         where rping clients are served (default 7174)\n"
    "  perf.port=N          where perftest clients are, such as ib_write_bw -R (default 18515)\n"
    "  perf.size=SIZE       their largest message, 4K..64M (default 8M)\n"
    "\n"
    "example: snic --config \"ns=ram:1G,ram:64M:4096\" /tmp/nvme0\n";

/* --- board.h ------------------------------------------------------------------------------- */

void board_seal_heap(void)
{
    /* The heap is libc's, and the vfio-user threads use it. */
}

void board_exit(int code)
{
    exit(code);
}

void board_keep(const void *base, size_t len_bytes)
{
    (void)base; /* nothing outlives the process */
    (void)len_bytes;
}

void board_reset(void)
{
    execv("/proc/self/exe", arguments);
    fprintf(stderr, "snic: restart: %s\n", strerror(errno));
    exit(1);
}

/* --- RNICs --------------------------------------------------------------------------------- */

#ifdef SNIC_IBV
static const bool has_rdma_core = true;

static enum status open_rdma(uint32_t index, struct rdma_device **out)
{
    struct rdma_ibv_config config;

    rdma_ibv_config_default(&config);
    config.name = rdma_names[index];
    return rdma_ibv_open(&config, out);
}
#else
static const bool has_rdma_core = false;

static enum status open_rdma(uint32_t index, struct rdma_device **out)
{
    (void)index;
    (void)out;
    return STATUS_UNSUPPORTED;
}
#endif

/* --- main ---------------------------------------------------------------------------------- */

/* FNV-1a, 64 bits. */
static uint64_t hash_text(uint64_t hash, const char *text)
{
    for (const char *c = text; *c != '\0'; c++) {
        hash = (hash ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
    }
    return hash;
}

/* Two processes in one VM must not be one drive to it, and the same folder is the same drive again:
 * the serial number comes from the folder's path (a hash, of which 48 bits are shown). */
static void add_serial(struct options *options)
{
    char path[PATH_MAX];
    char word[32];
    const char *folder = options->folders[0];

    mkdir(folder, 0700); /* pcie_ep_native_start() tells when that fails */
    if (realpath(folder, path) != NULL) {
        folder = path;
    }
    uint64_t hash = hash_text(HASH_START, folder);
    snprintf(word, sizeof(word), "serial=%012llx ", (unsigned long long)(hash >> 16));
    size_t len = strlen(word);
    memmove(options->config + len, options->config, strlen(options->config) + 1);
    memcpy(options->config, word, len);
}

/* False, with what is wrong and where help is. */
static bool refuse(const char *word, const char *why)
{
    fprintf(stderr, "snic: %s: %s; see snic --help\n", word, why);
    return false;
}

_Static_assert(LIMIT_ETH_PORTS == 4, "the texts say 4");

/* Whether one more port or RNIC, which `value` names, may come. */
static bool may_add(const struct options *options, const char *word, const char *value)
{
    if (value == NULL) {
        return refuse(word, "a socket, or a device, must follow");
    }
    return options->socket_count + rdma_count < LIMIT_ETH_PORTS ||
           refuse(word, "one too many: at most 4 of --fabric and --rdma together");
}

static bool parse_fabric(struct options *options, const char *value)
{
    if (!may_add(options, "--fabric", value)) {
        return false;
    }
    options->sockets[options->socket_count++] = value;
    return true;
}

static bool parse_rdma(const struct options *options, const char *value)
{
    if (!has_rdma_core) {
        return refuse("--rdma", "this build is without rdma-core");
    }
    if (!may_add(options, "--rdma", value)) {
        return false;
    }
    rdma_names[rdma_count++] = value;
    return true;
}

/* The configuration's device tree, as the file has it. */
static uint8_t *tree;
static uint32_t tree_bytes;

static bool has_ending(const char *text, const char *ending)
{
    size_t len = strlen(text);
    size_t ending_len = strlen(ending);
    return len > ending_len && strcmp(text + len - ending_len, ending) == 0;
}

/* False, with what is wrong. */
static bool read_tree(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fprintf(stderr, "snic: %s: %s\n", path, strerror(errno));
        return false;
    }
    tree = aligned_alloc(8, TREE_BYTES);
    size_t bytes = tree == NULL ? 0 : fread(tree, 1, TREE_BYTES, file);
    bool is_whole = tree != NULL && feof(file) != 0;
    fclose(file);
    tree_bytes = (uint32_t)bytes;
    return is_whole || refuse(path, "it cannot be read, or has 1 MiB and more");
}

static bool parse_words(const char *value, struct options *options)
{
    size_t used = strlen(options->config);

    if (has_ending(value, ".dts")) {
        return refuse(value, "compile it with dtc -I dts -O dtb first");
    }
    if (has_ending(value, ".dtb")) {
        return read_tree(value);
    }
    if (used + 1 + strlen(value) + SERIAL_ROOM >= sizeof(options->config)) {
        return refuse("--config", "the configuration is too long");
    }
    snprintf(options->config + used, sizeof(options->config) - used, " %s", value);
    return true;
}

static bool parse(int argc, char **argv, struct options *options)
{
    /* Words that stand later win: one reactor unless somebody asks for more. */
    snprintf(options->config, sizeof(options->config), "cores=1");
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--config") == 0 && value != NULL) {
            if (!parse_words(value, options)) {
                return false;
            }
            i++;
        } else if (strcmp(argv[i], "--config") == 0) {
            return refuse(argv[i], "words or FILE.dtb must follow");
        } else if (strcmp(argv[i], "--doorbells") == 0) {
            if (value == NULL || (strcmp(value, "mapped") != 0 && strcmp(value, "trapped") != 0)) {
                return refuse(argv[i], "mapped or trapped must follow");
            }
            options->ep.trapped = strcmp(value, "trapped") == 0;
            i++;
        } else if (strcmp(argv[i], "--fabric") == 0) {
            if (!parse_fabric(options, value)) {
                return false;
            }
            i++;
        } else if (strcmp(argv[i], "--rdma") == 0) {
            if (!parse_rdma(options, value)) {
                return false;
            }
            i++;
        } else if (argv[i][0] == '-') {
            return refuse(argv[i], "no such option");
        } else if (options->folder_count == LIMIT_FUNCTIONS) {
            return refuse(argv[i], "one folder too many");
        } else {
            options->folders[options->folder_count++] = argv[i];
        }
    }
    return options->folder_count > 0 || refuse("FOLDER", "at least one is needed");
}

static uint32_t processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) != 0) {
        return 1;
    }
    return (uint32_t)CPU_COUNT(&set);
}

/* --- fabric ----------------------------------------------------------------------------------- */

static struct eth_dgram ports[LIMIT_ETH_PORTS];

/* Ports of one network must differ, and the same socket is the same port again: the address comes
 * from its path. Locally administered. */
static void make_addr(const char *path, uint8_t addr[ETH_ADDR_BYTES])
{
    char folder[PATH_MAX];
    uint64_t hash = HASH_START;

    if (path[0] != '/' && getcwd(folder, sizeof(folder)) != NULL) {
        hash = hash_text(hash_text(hash, folder), "/");
    }
    hash = hash_text(hash, path);
    addr[0] = 0x02;
    for (uint32_t i = 1; i < ETH_ADDR_BYTES; i++) {
        addr[i] = (uint8_t)(hash >> (8 * i));
    }
}

/* False, with what is wrong. */
static bool open_fabric(const struct options *options, struct board *board)
{
    static const char *const names[] = {"eth0", "eth1", "eth2", "eth3"};
    _Static_assert(sizeof(names) / sizeof(names[0]) == LIMIT_ETH_PORTS, "a name for each port");

    for (uint32_t i = 0; i < options->socket_count; i++) {
        struct eth_dgram_params params = {
            .name = names[i],
            .path = options->sockets[i],
            .mtu_bytes = FABRIC_MTU_BYTES,
        };
        make_addr(options->sockets[i], params.addr);
        int error = eth_dgram_open(&ports[i], &params);
        if (error != 0) {
            fprintf(stderr, "snic: %s: %s\n", options->sockets[i], strerror(error));
            return false;
        }
        board->eths[board->eth_count++] = &ports[i].port;
    }
    return true;
}

static void close_fabric(const struct board *board)
{
    for (uint32_t i = 0; i < board->eth_count; i++) {
        eth_dgram_close(&ports[i]);
    }
}

/* --- start ------------------------------------------------------------------------------------ */

/* Signals are taken by a thread of their own: nothing happens in a handler. */
static void *wait_for_signal(void *arg)
{
    const sigset_t *set = arg;
    int signal_number;
    sigwait(set, &signal_number);
    sched_stop();
    return NULL;
}

static void catch_signals(void)
{
    static sigset_t set;
    pthread_t thread;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (pthread_create(&thread, NULL, wait_for_signal, &set) == 0) {
        pthread_detach(thread);
    }
}

int main(int argc, char **argv)
{
    static struct options options;
    static struct board board;

    arguments = argv;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage, stdout);
            return 0;
        }
    }
    if (!parse(argc, argv, &options)) {
        return 2;
    }
    static const struct log_sink sink = {console_write, clock_now_ns, cpu_self};
    log_set_sink(&sink); /* before app_main() does: what cannot be served is said */
    add_serial(&options);
    catch_signals();
    uint32_t cores = processors();
    native_cpu_set_count(cores < LIMIT_CORES ? cores : LIMIT_CORES);

    board.name = "native";
    board.config = options.config;
    board.config_tree = tree;
    board.config_tree_bytes = tree_bytes;
    board.core_count = cores < LIMIT_CORES ? cores : LIMIT_CORES;
    board.reset_cause = "exec";
    board.pool_bytes = DEFAULT_POOL_BYTES;
    board.pool_is_zero = true;
    board.pool_base = mmap(NULL, board.pool_bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (board.pool_base == MAP_FAILED) {
        fprintf(stderr, "snic: address space for RAM disks: %s\n", strerror(errno));
        return 1;
    }
    static uint8_t rng_seed[RNG_SEED_BYTES];
    if (getrandom(rng_seed, sizeof(rng_seed), 0) != (ssize_t)sizeof(rng_seed)) {
        fprintf(stderr, "snic: random numbers: %s\n", strerror(errno));
        return 1;
    }
    board.rng_seed = rng_seed;
    board.rng_seed_bytes = sizeof(rng_seed);
    if (!open_fabric(&options, &board)) {
        close_fabric(&board);
        return 1;
    }
    board.ep_count = options.folder_count;
    board.rdma_count = rdma_count;
    board.rdma_open = open_rdma;
    int error = pcie_ep_native_start(options.folders, options.folder_count, &options.ep, board.eps);
    if (error != 0) {
        close_fabric(&board);
        return 1; /* the log says why */
    }
    app_main(&board);
    native_cpu_join();
    close_fabric(&board);
    pcie_ep_native_stop();
    return 0;
}
