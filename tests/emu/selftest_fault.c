/* Faults and panics: one per start, a warm reset between; the runner reads dumps and records. */
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/log.h"
#include "boot/boot.h"
#include "boot/crash_record.h"
#include "hal/clock.h"
#include "hal/cpu.h"
#include "hal/irq.h"
#include "hal/mmio.h"
#include "selftest.h"

#define UART_BASE 0x09000000u

/* Faults must be made by the machine, not by what a compiler thinks of them. */
static void store32(uint64_t address, uint32_t value)
{
    __asm__ volatile("str %w1, [%0]" ::"r"(address), "r"(value) : "memory");
}

static void null_write(void)
{
    store32(0, 1);
}

static void null_read(void)
{
    uint32_t value;
    __asm__ volatile("ldr %w0, [%1]" : "=r"(value) : "r"(16ull) : "memory");
}

static void exec_data(void)
{
    static uint32_t code[4] = {0xd65f03c0}; /* ret */
    void (*function)(void);
    uintptr_t address = (uintptr_t)code;
    memcpy(&function, &address, sizeof(function));
    function();
}

static void text_write(void)
{
    store32((uint64_t)(uintptr_t)board_reset & ~UINT64_C(3), 0);
}

static void rodata_write(void)
{
    static const uint32_t constant[4] = {1};
    store32((uint64_t)(uintptr_t)constant, 0);
}

static void device_unaligned(void)
{
    uint32_t value;
    __asm__ volatile("ldr %w0, [%1]" : "=r"(value) : "r"((uint64_t)UART_BASE + 0x19) : "memory");
}

NOINLINE static uint32_t recurse(uint32_t depth)
{
    uint8_t room[1024];
    memset(room, (int)depth, sizeof(room));
    __asm__ volatile("" ::"r"(room) : "memory");
    return depth == 0 ? room[0] : recurse(depth - 1) + room[depth % sizeof(room)];
}

static void stack_overflow(void)
{
    LOG_INFO("selftest: %u", (unsigned)recurse(1000000));
}

static void undefined(void)
{
    __asm__ volatile("udf #7");
}

static void fault_in_handler(void *arg)
{
    (void)arg;
    store32(0x20, 1);
}

static void fault_in_interrupt(void)
{
    enum status status = irq_attach(5, IRQ_TRIGGER_EDGE, 0, fault_in_handler, NULL);
    ASSERT(status == STATUS_OK);
    irq_send(0, 5);
    clock_delay_ns(NS_PER_MS);
}

static void overflow_in_handler(void *arg)
{
    (void)arg;
    stack_overflow();
}

static void overflow_in_interrupt(void)
{
    enum status status = irq_attach(6, IRQ_TRIGGER_EDGE, 0, overflow_in_handler, NULL);
    ASSERT(status == STATUS_OK);
    irq_send(0, 6);
    clock_delay_ns(NS_PER_MS);
}

static void heap_after_seal(void)
{
    board_seal_heap();
    LOG_INFO("selftest: %p", malloc(16));
}

static void failed_assertion(void)
{
    ASSERT(cpu_count() == 99);
}

static void other_core(void *arg)
{
    (void)arg;
    null_write();
}

/* Dumped on core 1 while core 0 is in a loop: both must be seen. */
static void on_other_core(void)
{
    if (cpu_start(1, other_core, NULL) == STATUS_OK) {
        for (;;) {
            cpu_relax();
        }
    }
}

static void (*const faults[])(void) = {
    null_write,       null_read,        exec_data,      text_write,         rodata_write,
    device_unaligned, undefined,        stack_overflow, fault_in_interrupt, overflow_in_interrupt,
    heap_after_seal,  failed_assertion, on_other_core,
};

/* Odd starts make a fault; even ones come after it, and reset once more to end the row of panics.
 */
void selftest_faults(const struct board *board)
{
    uint32_t start = crash_record_start_count();
    uint32_t index = (start - 1) / 2;

    if (start % 2 == 0) {
        selftest_check(strcmp(board->reset_cause, "panic") == 0, "start_after_panic_knows_it", "%s",
                       board->reset_cause);
        board_reset();
    }
    selftest_check(start == 1 || strcmp(board->reset_cause, "warm reset") == 0,
                   "start_after_reset_knows_it", "%s", board->reset_cause);
    if (index < ARRAY_SIZE(faults)) {
        LOG_INFO("selftest: fault %u", (unsigned)index);
        faults[index]();
        selftest_check(false, "fault_ends_in_panic", "fault %u", (unsigned)index);
    }
}

void selftest_panic_once(void)
{
    panic("selftest: start %u", (unsigned)crash_record_start_count());
}

/* Interrupts off and asleep: only a watchdog helps. */
void selftest_hang(const struct board *board)
{
    (void)board;
    LOG_INFO("selftest: hangs");
    arch_halt();
}
