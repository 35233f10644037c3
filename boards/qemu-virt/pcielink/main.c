/*
 * pcielink: options, signals, life.
 */
#include "boards/qemu-virt/pcielink/pcielink.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Atomic bool told_to_end; /* lock-free: fit for a signal handler */

static void on_signal(int number)
{
    (void)number;
    told_to_end = true;
}

static void usage(void)
{
    fprintf(
        stderr,
        "usage: pcielink --dir RUN_DIR --ram FILE --ram-size BYTES\n"
        "                [--doorbells mapped|trapped] [--dstrd 0..%u] [--host-poll cheap|dear]\n"
        "                [--fence-ms N]\n"
        "  The endpoint controller between a host's QEMU (vfio-user at RUN_DIR/cntrl) and a NIC's\n"
        "  (ivshmem-doorbell at RUN_DIR/ivshmem.sock, vectors=%u). FILE is the host's RAM, shared\n"
        "  by all three. --fence-ms: how long the NIC may take to let go of host memory before it "
        "is\n"
        "  killed (1000). Commands: RUN_DIR/ctl (status, flr, link down, link up, quit).\n",
        LINK_DSTRD_MAX, LINK_IVSHMEM_VECTORS);
    exit(2);
}

/* A natural number with an optional K, M or G; exits if it is none. */
static uint64_t parse_bytes(const char *text)
{
    static const char units[] = "KMG";
    char *end;

    errno = 0;
    uint64_t value = strtoull(text, &end, 0);
    if (errno != 0 || end == text || *text == '-') {
        usage();
    }
    const char *unit = *end != 0 ? strchr(units, *end) : NULL;
    if (*end != 0 && (unit == NULL || end[1] != 0)) {
        usage();
    }
    uint32_t shift = unit == NULL ? 0 : 10 * ((uint32_t)(unit - units) + 1);
    if (value > (UINT64_MAX >> shift)) {
        usage();
    }
    return value << shift;
}

/* True for `yes`, false for `no`; exits for anything else. */
static bool parse_choice(const char *text, const char *yes, const char *no)
{
    if (strcmp(text, yes) != 0 && strcmp(text, no) != 0) {
        usage();
    }
    return strcmp(text, yes) == 0;
}

static struct pcielink_options parse_options(int argc, char **argv)
{
    static const struct option known[] = {
        {"dir", required_argument, NULL, 'd'},      {"ram", required_argument, NULL, 'r'},
        {"ram-size", required_argument, NULL, 's'}, {"doorbells", required_argument, NULL, 'b'},
        {"dstrd", required_argument, NULL, 't'},    {"host-poll", required_argument, NULL, 'p'},
        {"fence-ms", required_argument, NULL, 'f'}, {NULL, 0, NULL, 0},
    };
    struct pcielink_options options = {.dstrd = LINK_DSTRD_MAX};
    int option;

    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (option) {
        case 'd':
            options.dir = optarg;
            break;
        case 'r':
            options.ram = optarg;
            break;
        case 's':
            options.ram_bytes = parse_bytes(optarg);
            break;
        case 'b':
            options.trapped = parse_choice(optarg, "trapped", "mapped");
            break;
        case 't':
            options.dstrd = (uint8_t)(parse_bytes(optarg) & 0xff);
            break;
        case 'p':
            options.cheap_poll = parse_choice(optarg, "cheap", "dear");
            break;
        case 'f':
            options.fence_ns = (parse_bytes(optarg) & UINT32_MAX) * 1000000;
            break;
        default:
            usage();
        }
    }
    if (options.dir == NULL || options.ram == NULL || options.ram_bytes == 0 || optind != argc ||
        options.dstrd > LINK_DSTRD_MAX) {
        usage();
    }
    return options;
}

int main(int argc, char **argv)
{
    static struct pcielink link;
    struct pcielink_options options = parse_options(argc, argv);
    struct sigaction action = {.sa_handler = on_signal};

    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    int result = pcielink_open(&link, &options);
    if (result != 0) {
        fprintf(stderr, "pcielink: cannot start in %s with %s: %s\n", options.dir, options.ram,
                strerror(-result));
        return 1;
    }
    printf("pcielink: ready\n");
    fflush(stdout);
    while (!link.quit && !told_to_end) {
        pcielink_turn(&link, 1000); /* a signal that comes just before poll() costs a second */
    }
    pcielink_close(&link);
    return 0;
}
