/*
 * What newlib asks from the system: locks, errno per core, a bounded heap that can be closed,
 * output to the console. There are no files and no processes.
 *
 * Reference: newlib's libc/syscalls and sys/lock.h (--enable-newlib-retargetable-locking).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/lock.h>
#include <sys/stat.h>
#include "base/assert.h"
#include "hal/arch/aarch64/cpu_priv.h"
#include "hal/board.h"
#include "hal/console.h"
#include "hal/cpu.h"

struct _reent *__getreent(void)
{
    return &cpu_this()->reent;
}

/* newlib's macro casts away a const of its own. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wcast-qual"
void newlib_core_init(struct cpu *cpu)
{
    _REENT_INIT_PTR(&cpu->reent);
}
#pragma GCC diagnostic pop

/* --- locks: recursive, spinning; never taken in an interrupt handler ------------------------- */

struct __lock {
    _Atomic uint32_t owner; /* core index + 1, 0: free */
    uint32_t depth;         /* owner's */
};

struct __lock __lock___sinit_recursive_mutex;
struct __lock __lock___sfp_recursive_mutex;
struct __lock __lock___atexit_recursive_mutex;
struct __lock __lock___at_quick_exit_mutex;
struct __lock __lock___malloc_recursive_mutex;
struct __lock __lock___env_recursive_mutex;
struct __lock __lock___tz_mutex;
struct __lock __lock___dd_hash_mutex;
struct __lock __lock___arc4random_mutex;

static _Atomic bool heap_sealed;

void board_seal_heap(void)
{
    atomic_store(&heap_sealed, true);
}

static void lock_take(struct __lock *lock)
{
    uint32_t self = cpu_self() + 1;
    uint32_t expected = 0;

    /* Every malloc(), free() and realloc() takes this lock: the one place to stop them all. */
    if (lock == &__lock___malloc_recursive_mutex &&
        atomic_load_explicit(&heap_sealed, memory_order_relaxed)) {
        panic("heap: used after start-up");
    }
    if (atomic_load_explicit(&lock->owner, memory_order_relaxed) == self) {
        lock->depth++;
        return;
    }
    while (!atomic_compare_exchange_weak_explicit(&lock->owner, &expected, self,
                                                  memory_order_acquire, memory_order_relaxed)) {
        expected = 0;
        cpu_relax();
    }
    lock->depth = 1;
}

static void lock_give(struct __lock *lock)
{
    if (--lock->depth == 0) {
        atomic_store_explicit(&lock->owner, 0, memory_order_release);
    }
}

/* Locks of streams that somebody opens: there are no files to open. */
static struct __lock stream_lock;

void __retarget_lock_init(_LOCK_T *lock)
{
    *lock = &stream_lock;
}

void __retarget_lock_init_recursive(_LOCK_T *lock)
{
    *lock = &stream_lock;
}

void __retarget_lock_close(_LOCK_T lock)
{
    (void)lock;
}

void __retarget_lock_close_recursive(_LOCK_T lock)
{
    (void)lock;
}

void __retarget_lock_acquire(_LOCK_T lock)
{
    lock_take(lock);
}

void __retarget_lock_acquire_recursive(_LOCK_T lock)
{
    lock_take(lock);
}

void __retarget_lock_release(_LOCK_T lock)
{
    lock_give(lock);
}

void __retarget_lock_release_recursive(_LOCK_T lock)
{
    lock_give(lock);
}

/* --- system calls ---------------------------------------------------------------------------- */

extern char __heap_start[], __heap_end[];

void *_sbrk(ptrdiff_t increment_bytes);
int _write(int file, const char *bytes, int len_bytes);
int _read(int file, char *bytes, int len_bytes);
int _close(int file);
int _lseek(int file, int offset, int whence);
int _isatty(int file);
int _fstat(int file, struct stat *stat);
int _kill(int process, int signal);
int _getpid(void);
NORETURN void _exit(int code);
NORETURN void __assert_func(const char *file, int line, const char *function, const char *text);

/* Under malloc's lock. */
void *_sbrk(ptrdiff_t increment_bytes)
{
    static char *top = __heap_start;

    if (increment_bytes > __heap_end - top || increment_bytes < __heap_start - top) {
        errno = ENOMEM;
        return (void *)(intptr_t)-1;
    }
    char *old_top = top;
    top += increment_bytes;
    return old_top;
}

int _write(int file, const char *bytes, int len_bytes)
{
    (void)file;
    console_write(bytes, (size_t)len_bytes);
    return len_bytes;
}

int _read(int file, char *bytes, int len_bytes)
{
    (void)file, (void)bytes, (void)len_bytes;
    return 0;
}

int _close(int file)
{
    (void)file;
    return -1;
}

int _lseek(int file, int offset, int whence)
{
    (void)file, (void)offset, (void)whence;
    return 0;
}

int _isatty(int file)
{
    (void)file;
    return 1;
}

int _fstat(int file, struct stat *stat)
{
    (void)file;
    stat->st_mode = S_IFCHR;
    return 0;
}

/* abort() comes here. */
int _kill(int process, int signal)
{
    (void)process;
    panic("libc: signal %d", signal);
}

int _getpid(void)
{
    return 1;
}

void _exit(int code)
{
    board_exit(code);
}

/* For libraries whose objects were compiled with stack protectors (our own are not). */
void __stack_chk_fail(void);
extern uintptr_t __stack_chk_guard;
uintptr_t __stack_chk_guard = 0x595e9fbd94fda766;

void __stack_chk_fail(void)
{
    panic("a library function overran its stack frame");
}

void __assert_func(const char *file, int line, const char *function, const char *text)
{
    panic("%s:%d: %s: assertion failed: %s", file, line, function, text);
}
