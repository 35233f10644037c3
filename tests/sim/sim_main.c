/*
 * Runs seeds of a simulation: sim_rdma (sim.h), sim_path (path/path.h).
 *
 *   sim_rdma SEED                     one run, with a trace of what happens
 *   sim_rdma --quiet SEED             without
 *   sim_rdma --seeds A..B [--jobs N]  many (2 jobs); the last line is "N passed, N failed"
 *
 * A job runs its seeds in a child process, which a failure ends; the next child goes on behind it.
 */
#include "tests/sim/sim_main.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/assert.h"
#include "hal/native/native.h"

#define JOBS_MAX  16
#define EXIT_MORE 3   /* of a child that has run as many seeds as it may */
#define PROGRESS  500 /* seeds of a job between two lines that tell how far it is */

/* Of what is freed a little is kept back; leaks are what the pools are looked at for. */
USED const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "quarantine_size_mb=1:malloc_context_size=4:detect_leaks=0:"
           "allocator_release_to_os_interval_ms=-1";
}

static const char *program;

struct job {
    uint64_t next; /* the seed that runs */
    uint64_t step;
    uint64_t end;
    uint64_t passed;
    uint64_t sums[SIM_SUMS];
    pid_t pid;
};

static struct job *own_job; /* of a child */

void sim_sum(uint32_t index, uint64_t count)
{
    ASSERT(index < SIM_SUMS);
    if (own_job != NULL) {
        own_job->sums[index] += count;
    }
}

static void panicked(const char *text)
{
    sim_fail("%s", text);
}

static void child(struct job *job)
{
    native_panic_hook = panicked;
    own_job = job;
    for (uint32_t count = 1; job->next < job->end; count++) {
        sim_run(job->next, false);
        job->passed++;
        job->next += job->step;
        if (count == sim_runs_max && job->next < job->end) {
            _exit(EXIT_MORE);
        }
        if (job->passed % PROGRESS == 0) {
            fprintf(stderr, "every %llu-th seed before %llu was run\n",
                    (unsigned long long)job->step, (unsigned long long)job->next);
        }
    }
    _exit(0);
}

static void start(struct job *job)
{
    fflush(stdout);
    fflush(stderr);
    pid_t pid = fork();
    if (pid < 0) { /* seeds that nobody runs must not pass */
        perror("fork");
        exit(2);
    }
    if (pid == 0) {
        child(job);
    }
    job->pid = pid;
}

/* One child has ended: by its failure, or all its seeds are done. */
static uint64_t ended(struct job *job, int status)
{
    job->pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return 0;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_MORE) {
        start(job);
        return 0;
    }
    fprintf(stderr, "seed %llu failed: %s %llu shows it\n", (unsigned long long)job->next, program,
            (unsigned long long)job->next);
    job->next += job->step;
    if (job->next < job->end) {
        start(job);
    }
    return 1;
}

/* False: something never happened, in seeds enough that it had to. */
static bool sums_report(const struct job *jobs, uint32_t job_count, uint64_t seed_count)
{
    bool is_good = true;

    for (uint32_t k = 0; k < SIM_SUMS && sim_sum_names[k] != NULL; k++) {
        uint64_t sum = 0;
        for (uint32_t i = 0; i < job_count; i++) {
            sum += jobs[i].sums[k];
        }
        printf("%10llu %s\n", (unsigned long long)sum, sim_sum_names[k]);
        if (sum == 0 && seed_count >= SIM_SUM_SEEDS) {
            fprintf(stderr, "no seed had any: %s\n", sim_sum_names[k]);
            is_good = false;
        }
    }
    return is_good;
}

static int run_many(uint64_t first, uint64_t last, uint32_t job_count)
{
    struct job *jobs = mmap(NULL, sizeof(struct job) * JOBS_MAX, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t passed = 0;
    uint64_t failed = 0;
    int status;
    pid_t pid;

    if (jobs == MAP_FAILED) {
        return 2;
    }
    for (uint32_t i = 0; i < job_count; i++) {
        jobs[i] = (struct job){.next = first + i, .step = job_count, .end = last + 1};
        start(&jobs[i]);
    }
    while ((pid = wait(&status)) > 0) {
        for (uint32_t i = 0; i < job_count; i++) {
            if (jobs[i].pid == pid) {
                failed += ended(&jobs[i], status);
                break;
            }
        }
    }
    for (uint32_t i = 0; i < job_count; i++) {
        passed += jobs[i].passed;
    }
    if (!sums_report(jobs, job_count, last - first + 1)) {
        failed++;
    }
    printf("%llu passed, %llu failed\n", (unsigned long long)passed, (unsigned long long)failed);
    return failed == 0 && passed == last - first + 1 ? 0 : 1;
}

static int usage(void)
{
    fprintf(stderr, "usage: %s [--quiet] SEED | %s --seeds A..B [--jobs N]\n", program, program);
    return 2;
}

int main(int argc, char **argv)
{
    unsigned long long first;
    unsigned long long last;
    uint32_t jobs = 2;

    program = argv[0];
    native_cpu_become(0);
    native_panic_hook = panicked;
    if (argc >= 3 && strcmp(argv[1], "--seeds") == 0) {
        if (sscanf(argv[2], "%llu..%llu", &first, &last) != 2 || last < first) {
            return usage();
        }
        if (argc == 5 && strcmp(argv[3], "--jobs") == 0) {
            jobs = (uint32_t)strtoul(argv[4], NULL, 0);
        }
        return jobs >= 1 && jobs <= JOBS_MAX ? run_many(first, last, jobs) : usage();
    }
    bool is_quiet = argc == 3 && strcmp(argv[1], "--quiet") == 0;
    if (argc != 2 && !is_quiet) {
        return usage();
    }
    sim_run(strtoull(argv[argc - 1], NULL, 0), !is_quiet);
    printf("seed %s: passed\n", argv[argc - 1]);
    return 0;
}
