/*
 * fabric: options, signals, life.
 */
#include "boards/qemu-virt/fabric/fabric.h"

#include <getopt.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static _Atomic bool told_to_end; /* lock-free: fit for a signal handler */

static void on_signal(int number)
{
    (void)number;
    told_to_end = true;
}

static void usage(void)
{
    fprintf(stderr,
            "usage: fabric --dir RUN_DIR [--seed N] PORT...\n"
            "  An Ethernet switch. Each PORT (at most %d) is the name of a station's datagram\n"
            "  socket below RUN_DIR, e.g. nic.eth; the station sends to nic.eth.switch there:\n"
            "    snic --fabric nic.eth\n"
            "    qemu -netdev dgram,id=net,local.type=unix,local.path=nic.eth,\n"
            "         remote.type=unix,remote.path=nic.eth.switch\n"
            "  --seed: of the faults (by default from the clock; status tells).\n"
            "  Commands: RUN_DIR/fabric.ctl (status, seed, fault, cut, join, capture, zero, quit;\n"
            "  described in boards/qemu-virt/fabric/cmd.c).\n",
            FABRIC_PORTS);
    exit(2);
}

static uint64_t seed_of_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

int main(int argc, char **argv)
{
    static struct fabric f;
    static const struct option known[] = {{"dir", required_argument, NULL, 'd'},
                                          {"seed", required_argument, NULL, 's'},
                                          {NULL, 0, NULL, 0}};
    struct sigaction action = {.sa_handler = on_signal};
    const char *dir = NULL;
    uint64_t seed = seed_of_clock();
    char *end;
    int option;

    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (option == 'd') {
            dir = optarg;
        } else if (option == 's') {
            seed = strtoull(optarg, &end, 0);
            if (*optarg == 0 || *end != 0) {
                usage();
            }
        } else {
            usage();
        }
    }
    if (dir == NULL || optind == argc) {
        usage();
    }
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    int result =
        fabric_open(&f, dir, seed, (const char *const *)(argv + optind), (uint32_t)(argc - optind));
    if (result != 0) {
        fprintf(stderr, "fabric: cannot start in %s: %s\n", dir, strerror(-result));
        fabric_close(&f);
        return 1;
    }
    printf("fabric: ready, seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    while (!f.quit && !told_to_end) {
        fabric_turn(&f, 1000); /* a signal that comes just before poll() costs a second */
    }
    fabric_close(&f);
    return 0;
}
