/*
 * The native board: the firmware as a Linux process. Each folder named on the command line becomes
 * a vfio-user NVMe controller at FOLDER/cntrl.
 */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <pthread.h>
#include "base/log.h"
#include "hal/board.h"
#include "hal/clock.h"
#include "hal/console.h"
#include "hal/cpu.h"
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

struct options {
    const char *folders[LIMIT_FUNCTIONS];
    uint32_t folder_count;
    char config[CONFIG_BYTES];
    struct pcie_ep_native_options ep;
};

static char **arguments; /* for board_reset() */
static const char *rdma_names[LIMIT_ETH_PORTS];
static uint32_t rdma_count;

static const char usage[] =
    "usage: snic [--config \"WORD ...\"] [--doorbells mapped|trapped] [--rdma DEVICE] FOLDER...\n"
    "\n"
    "Serves an NVMe controller to a vfio-user client (QEMU 10.1 or later) at FOLDER/cntrl, one\n"
    "controller for each folder, up to 4. Ends on SIGINT or SIGTERM.\n"
    "\n"
    "  --doorbells mapped   the client stores doorbells in shared memory, we poll (default)\n"
    "  --doorbells trapped  each doorbell is a message: slower, but an idle process sleeps\n"
    "  --rdma DEVICE        the fabric is an RNIC of this machine (rdma link), like rxe0; again "
    "for\n"
    "                       more. Only in the build with rdma-core: make build/native-ibv/snic\n"
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

/* Two processes in one VM must not be one drive to it, and the same folder is the same drive again:
 * the serial number comes from the folder's path (FNV-1a, 64 bits, of which 48 are shown). */
static void add_serial(struct options *options)
{
    char path[PATH_MAX];
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    char word[32];
    const char *folder = options->folders[0];

    mkdir(folder, 0700); /* pcie_ep_native_start() tells when that fails */
    if (realpath(folder, path) != NULL) {
        folder = path;
    }
    for (const char *c = folder; *c != '\0'; c++) {
        hash = (hash ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
    }
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

static bool parse_rdma(const char *value)
{
    if (!has_rdma_core) {
        return refuse("--rdma", "this build is without rdma-core");
    }
    if (value == NULL || rdma_count == LIMIT_ETH_PORTS) {
        return refuse("--rdma", value == NULL ? "a device must follow" : "one device too many");
    }
    rdma_names[rdma_count++] = value;
    return true;
}

static bool parse(int argc, char **argv, struct options *options)
{
    /* Words that stand later win: one reactor unless somebody asks for more. */
    snprintf(options->config, sizeof(options->config), "cores=1");
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--config") == 0 && value != NULL) {
            size_t used = strlen(options->config);
            if (used + 1 + strlen(value) + SERIAL_ROOM >= sizeof(options->config)) {
                return refuse(argv[i], "the configuration is too long");
            }
            snprintf(options->config + used, sizeof(options->config) - used, " %s", value);
            i++;
        } else if (strcmp(argv[i], "--config") == 0) {
            return refuse(argv[i], "words must follow");
        } else if (strcmp(argv[i], "--doorbells") == 0) {
            if (value == NULL || (strcmp(value, "mapped") != 0 && strcmp(value, "trapped") != 0)) {
                return refuse(argv[i], "mapped or trapped must follow");
            }
            options->ep.trapped = strcmp(value, "trapped") == 0;
            i++;
        } else if (strcmp(argv[i], "--rdma") == 0) {
            if (!parse_rdma(value)) {
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
    board.ep_count = options.folder_count;
    board.rdma_count = rdma_count;
    board.rdma_open = open_rdma;
    int error = pcie_ep_native_start(options.folders, options.folder_count, &options.ep, board.eps);
    if (error != 0) {
        return 1; /* the log says why */
    }
    app_main(&board);
    native_cpu_join();
    pcie_ep_native_stop();
    return 0;
}
