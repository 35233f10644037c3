/*
 * Counts the user instructions of a thread per pass through an address, by single steps: for
 * machines whose performance counters cannot be reached.
 *
 *   step_count TID STEPS ADDRESS     ADDRESS in hexadecimal, as in memory: once per I/O
 *
 * Prints "N instructions per pass, M passes". A repeated string instruction counts once. Time goes
 * on while the thread is slowed down a thousandfold: its peers look infinitely fast to it, so
 * queues are full when it looks, and what it does by the clock weighs more than it should.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>
#include <sys/wait.h>

#if defined(__x86_64__)
#include <stddef.h>

struct passes {
    uint64_t count;
    uint64_t first_step;
    uint64_t last_step;
};

/* Where the thread stands; 0: it cannot be asked. */
static uint64_t program_counter(pid_t tid)
{
    errno = 0;
    long value = ptrace(PTRACE_PEEKUSER, tid, offsetof(struct user_regs_struct, rip), 0);
    return errno == 0 ? (uint64_t)value : 0;
}

/* One step; false: the thread has ended. Signals of its own are passed on. */
static bool step(pid_t tid, int *signal_number)
{
    int status;

    if (ptrace(PTRACE_SINGLESTEP, tid, 0, (long)*signal_number) != 0 ||
        waitpid(tid, &status, __WALL) < 0 || !WIFSTOPPED(status)) {
        return false;
    }
    *signal_number = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
    return true;
}

static bool count(pid_t tid, uint64_t step_count, uint64_t address, struct passes *passes)
{
    uint64_t last = 0;
    int signal_number = 0;

    for (uint64_t steps = 0; steps < step_count;) {
        if (!step(tid, &signal_number)) {
            return false;
        }
        uint64_t now = program_counter(tid);
        if (now == last) {
            continue; /* another round of a string instruction */
        }
        last = now;
        steps++;
        if (now == address) {
            passes->first_step = passes->count == 0 ? steps : passes->first_step;
            passes->last_step = steps;
            passes->count++;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    struct passes passes = {0};
    int status;

    if (argc != 4) {
        fprintf(stderr, "usage: step_count TID STEPS ADDRESS\n");
        return 2;
    }
    pid_t tid = (pid_t)atoi(argv[1]);
    if (ptrace(PTRACE_SEIZE, tid, 0, 0) != 0 || ptrace(PTRACE_INTERRUPT, tid, 0, 0) != 0 ||
        waitpid(tid, &status, __WALL) < 0) {
        perror("step_count");
        return 1;
    }
    bool alive = count(tid, strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 16), &passes);
    ptrace(PTRACE_DETACH, tid, 0, 0);
    if (!alive || passes.count < 2) {
        fprintf(stderr, "step_count: %s\n", alive ? "the address is not passed" : "it has ended");
        return 1;
    }
    printf("%.0f instructions per pass, %llu passes\n",
           (double)(passes.last_step - passes.first_step) / (double)(passes.count - 1),
           (unsigned long long)passes.count);
    return 0;
}

#else

int main(void)
{
    fprintf(stderr, "step_count: not on this architecture\n");
    return 1;
}

#endif
