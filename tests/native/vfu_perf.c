/*
 * Drives a vfio-user NVMe target with random I/O from one polled queue and prints the rate; with
 * --pid also the user instructions that the target spends per I/O, where the machine can count
 * them.
 *
 *   vfu_perf DIR [--depth N] [--bytes N] [--seconds S] [--write] [--pid TARGET]
 *
 * Rates swing with whatever else the machine does; instructions do not. It asks nothing of the
 * target that NVMe 1.4 and vfio-user do not promise, so other targets can be measured by it in the
 * same run.
 */
#include <dirent.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "tests/native/vfu_client.h"

#define QUEUE_ENTRIES 256
#define MAX_DEPTH     128
#define MAX_THREADS   64

struct options {
    const char *dir;
    uint32_t depth;
    uint32_t bytes;
    double seconds;
    bool write;
    pid_t pid;
};

struct slot {
    uint64_t prp1;
    uint64_t prp2;
};

struct perf {
    struct vfu_client client;
    struct vfu_queue queue;
    struct slot slots[MAX_DEPTH];
    uint64_t lba_count;
    uint32_t lba_shift;
    uint64_t seed;
    uint64_t done_count;
    uint64_t error_count;
};

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --- instructions of the target ------------------------------------------------------------ */

struct counter {
    int fds[MAX_THREADS];
    uint32_t count;
};

static void counter_open(struct counter *counter, pid_t pid)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_HARDWARE,
                                   .size = sizeof(attr),
                                   .config = PERF_COUNT_HW_INSTRUCTIONS,
                                   .exclude_kernel = 1,
                                   .exclude_hv = 1};
    char path[64];
    counter->count = 0;
    if (pid == 0) {
        return;
    }
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *dir = opendir(path);
    struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL && counter->count < MAX_THREADS) {
        int tid = atoi(entry->d_name);
        if (tid > 0) {
            int fd = (int)syscall(SYS_perf_event_open, &attr, tid, -1, -1, 0);
            if (fd < 0) {
                printf("no instruction counter here: %s\n", strerror(errno));
                break;
            }
            counter->fds[counter->count++] = fd;
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

static uint64_t counter_read(const struct counter *counter)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < counter->count; i++) {
        uint64_t value;
        if (read(counter->fds[i], &value, sizeof(value)) == sizeof(value)) {
            sum += value;
        }
    }
    return sum;
}

/* --- the load ------------------------------------------------------------------------------ */

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13; /* xorshift64, Marsaglia 2003 */
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void identify(struct perf *perf)
{
    uint8_t *data = vfu_client_alloc(&perf->client, 4096);
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_IDENTIFY, .nsid = 1, .cdw10 = 0};
    nvme_status_t status = vfu_client_admin(&perf->client, &sqe, data, NULL);
    memcpy(&perf->lba_count, data, sizeof(perf->lba_count));
    if (status != 0 || perf->lba_count == 0) {
        fprintf(stderr, "vfu_perf: namespace 1: status 0x%x, %llu blocks\n", status,
                (unsigned long long)perf->lba_count);
        exit(1);
    }
    perf->lba_shift = data[128 + 4 * (data[26] & 0xf) + 2]; /* LBADS of the format in use */
}

static void prepare_slots(struct perf *perf, const struct options *options)
{
    uint32_t pages = (options->bytes + 4095) / 4096;
    for (uint32_t i = 0; i < options->depth; i++) {
        uint8_t *buffer = vfu_client_alloc(&perf->client, (uint64_t)pages * 4096);
        struct slot *slot = &perf->slots[i];
        slot->prp1 = vfu_client_addr(&perf->client, buffer);
        slot->prp2 = pages == 2 ? slot->prp1 + 4096 : 0;
        if (pages > 2) {
            uint64_t *list = vfu_client_alloc(&perf->client, 4096);
            for (uint32_t p = 1; p < pages; p++) {
                list[p - 1] = slot->prp1 + (uint64_t)p * 4096;
            }
            slot->prp2 = vfu_client_addr(&perf->client, list);
        }
    }
}

static void submit(struct perf *perf, const struct options *options, uint16_t cid)
{
    uint32_t blocks = options->bytes >> perf->lba_shift;
    uint64_t lba = next_random(&perf->seed) % (perf->lba_count / blocks) * blocks;
    struct nvme_sqe *sqe = vfu_queue_next(&perf->queue);
    *sqe = (struct nvme_sqe){.opcode = options->write ? NVME_IO_WRITE : NVME_IO_READ,
                             .cid = cid,
                             .nsid = 1,
                             .prp1 = perf->slots[cid].prp1,
                             .prp2 = perf->slots[cid].prp2,
                             .cdw10 = (uint32_t)lba,
                             .cdw11 = (uint32_t)(lba >> 32),
                             .cdw12 = blocks - 1};
}

/* Takes what has completed and sends each slot out again; returns how many. */
static uint32_t turn(struct perf *perf, const struct options *options)
{
    const struct nvme_cqe *cqe;
    uint32_t count = 0;
    while ((cqe = vfu_queue_poll(&perf->queue)) != NULL) {
        perf->error_count += cqe->dw3 >> NVME_CQE_STATUS_SHIFT != 0;
        submit(perf, options, (uint16_t)cqe->dw3);
        count++;
    }
    if (count > 0) {
        vfu_queue_ack(&perf->client, &perf->queue);
        vfu_queue_ring(&perf->client, &perf->queue);
    }
    perf->done_count += count;
    return count;
}

static double run_for(struct perf *perf, const struct options *options, double seconds)
{
    double start = seconds_now();
    double last_work = start;
    double now = start;
    do {
        uint32_t work = 0;
        for (int i = 0; i < 1000; i++) {
            work += turn(perf, options);
        }
        now = seconds_now();
        if (work > 0) {
            last_work = now;
        } else if (now - last_work > 10) {
            fprintf(stderr, "vfu_perf: nothing completed for 10 s\n");
            exit(1);
        }
    } while (now - start < seconds);
    return now - start;
}

static bool parse(int argc, char **argv, struct options *options)
{
    *options = (struct options){.depth = 32, .bytes = 4096, .seconds = 2};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--write") == 0) {
            options->write = true;
            continue;
        }
        if (argv[i][0] != '-') {
            options->dir = argv[i];
            continue;
        }
        i++;
        if (strcmp(argv[i - 1], "--depth") == 0) {
            options->depth = (uint32_t)atoi(value);
        } else if (strcmp(argv[i - 1], "--bytes") == 0) {
            options->bytes = (uint32_t)atoi(value);
        } else if (strcmp(argv[i - 1], "--seconds") == 0) {
            options->seconds = atof(value);
        } else if (strcmp(argv[i - 1], "--pid") == 0) {
            options->pid = (pid_t)atoi(value);
        } else {
            return false;
        }
    }
    return options->dir != NULL && options->depth >= 1 && options->depth <= MAX_DEPTH &&
           options->bytes >= 4096 && options->bytes <= (1u << 20) && options->bytes % 4096 == 0 &&
           options->seconds > 0;
}

int main(int argc, char **argv)
{
    static struct perf perf;
    struct counter counter;
    struct options options;
    if (!parse(argc, argv, &options)) {
        fprintf(stderr, "usage: vfu_perf DIR [--depth 1-128] [--bytes 4096-1048576] [--seconds S] "
                        "[--write] [--pid TARGET]\n");
        return 2;
    }
    perf.seed = 0x9e3779b97f4a7c15u;
    vfu_client_open(&perf.client, options.dir, UINT64_C(256) << 20);
    vfu_client_enable(&perf.client);
    identify(&perf);
    vfu_client_create_queue(&perf.client, &perf.queue, 1, QUEUE_ENTRIES);
    prepare_slots(&perf, &options);
    counter_open(&counter, options.pid);

    for (uint16_t i = 0; i < options.depth; i++) {
        submit(&perf, &options, i);
    }
    vfu_queue_ring(&perf.client, &perf.queue);
    run_for(&perf, &options, 0.2); /* warm */
    perf.done_count = 0;
    uint64_t instructions = counter_read(&counter);
    double seconds = run_for(&perf, &options, options.seconds);
    instructions = counter_read(&counter) - instructions;

    printf("%s %u bytes, depth %u: %.3f M IOPS", options.write ? "write" : "read", options.bytes,
           options.depth, (double)perf.done_count / seconds * 1e-6);
    if (counter.count > 0) {
        printf(", %.0f instructions of the target per I/O",
               (double)instructions / (double)perf.done_count);
    }
    printf(", %llu errors\n", (unsigned long long)perf.error_count);
    vfu_client_close(&perf.client);
    return perf.error_count == 0 ? 0 : 1;
}
