#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include "hal/clock.h"
#include "hal/cpu.h"
#include "hal/native/native.h"
#include "sched/sched.h"

static void run_reactor(void *arg)
{
    (void)arg;
    sched_run();
}

/* Starts cores 1..count-1; core 0 is the test itself. */
static void start_cores(uint32_t count, enum sched_idle idle)
{
    native_cpu_set_count(count);
    sched_init(count, idle);
    for (uint32_t core = 1; core < count; core++) {
        assert_int_equal(cpu_start(core, run_reactor, NULL), STATUS_OK);
    }
}

static int teardown(void **state)
{
    (void)state;
    sched_stop();
    native_cpu_join();
    return 0;
}

/* --- one core -------------------------------------------------------------------------------- */

struct numbered {
    struct msg msg;
    uint32_t number;
};

static uint32_t received[64];
static uint32_t received_count;

static void receive(struct msg *msg)
{
    received[received_count++] = CONTAINER_OF(msg, struct numbered, msg)->number;
}

static void msg_send_to_own_core_runs_later_in_order(void **state)
{
    (void)state;
    static struct numbered msgs[10];
    sched_init(1, SCHED_IDLE_POLL);
    received_count = 0;
    for (uint32_t i = 0; i < 10; i++) {
        msgs[i] = (struct numbered){.msg.fn = receive, .number = i};
        msg_send(0, &msgs[i].msg);
    }
    assert_int_equal(received_count, 0);
    assert_int_equal(sched_turn(), 10);
    assert_int_equal(received_count, 10);
    for (uint32_t i = 0; i < 10; i++) {
        assert_int_equal(received[i], i);
    }
    assert_int_equal(sched_stats(0).msg_count, 10);
}

static void send_again(struct msg *msg)
{
    received_count++;
    msg_send(0, msg);
}

static void msg_send_from_its_own_callback_runs_next_turn(void **state)
{
    (void)state;
    struct msg msg = {.fn = send_again};
    sched_init(1, SCHED_IDLE_POLL);
    received_count = 0;
    msg_send(0, &msg);
    for (uint32_t turn = 1; turn <= 5; turn++) {
        assert_int_equal(sched_turn(), 1);
        assert_int_equal(received_count, turn);
    }
}

/* --- many senders ---------------------------------------------------------------------------- */

#define SENDERS         3
#define MSGS_PER_SENDER 64
#define ROUNDS          400

/* A message that its sender may use again once `free` is set by the receiver. */
struct letter {
    struct msg msg;
    _Atomic bool is_free;
    uint32_t sender;
    uint32_t serial;
    uint64_t payload; /* plain: seen through the message's own order */
};

static struct letter letters[SENDERS][MSGS_PER_SENDER];
static uint32_t next_serial[SENDERS];
static uint32_t out_of_order;
static uint32_t letters_received;

static void receive_letter(struct msg *msg)
{
    struct letter *letter = CONTAINER_OF(msg, struct letter, msg);

    if (letter->serial != next_serial[letter->sender] ||
        letter->payload != letter->serial * UINT64_C(3)) {
        out_of_order++;
    }
    next_serial[letter->sender] = letter->serial + 1;
    letters_received++;
    atomic_store_explicit(&letter->is_free, true, memory_order_release);
}

static void *send_letters(void *arg)
{
    uint32_t sender = *(uint32_t *)arg;
    uint32_t serial = 0;

    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < MSGS_PER_SENDER; i++) {
            struct letter *letter = &letters[sender][i];
            while (!atomic_load_explicit(&letter->is_free, memory_order_acquire)) {
                sched_yield();
            }
            atomic_store_explicit(&letter->is_free, false, memory_order_relaxed);
            letter->msg.fn = receive_letter;
            letter->sender = sender;
            letter->serial = serial;
            letter->payload = serial * UINT64_C(3);
            serial++;
            msg_send(0, &letter->msg);
        }
    }
    return NULL;
}

static void msg_send_many_senders_each_arrives_once_in_order(void **state)
{
    (void)state;
    static uint32_t numbers[SENDERS] = {0, 1, 2};
    pthread_t threads[SENDERS];
    uint64_t end_ns = clock_now_ns() + 60 * NS_PER_S;

    sched_init(1, SCHED_IDLE_POLL);
    for (uint32_t s = 0; s < SENDERS; s++) {
        next_serial[s] = 0;
        for (uint32_t i = 0; i < MSGS_PER_SENDER; i++) {
            atomic_store(&letters[s][i].is_free, true);
        }
    }
    for (uint32_t s = 0; s < SENDERS; s++) {
        assert_int_equal(pthread_create(&threads[s], NULL, send_letters, &numbers[s]), 0);
    }
    while (letters_received < SENDERS * MSGS_PER_SENDER * ROUNDS && clock_now_ns() < end_ns) {
        if (sched_turn() == 0) {
            sched_yield();
        }
    }
    assert_int_equal(letters_received, SENDERS * MSGS_PER_SENDER * ROUNDS);
    for (uint32_t s = 0; s < SENDERS; s++) {
        pthread_join(threads[s], NULL);
    }
    assert_int_equal(out_of_order, 0);
    assert_int_equal(sched_turn(), 0);
}

/* --- round trips over all cores, which sleep in between ----------------------------------------
 */

#define TRIPS 2000

static uint32_t trip_count;
static uint32_t trip_core;

static void hop(struct msg *msg)
{
    if (cpu_self() == 0 && ++trip_count == TRIPS) {
        sched_stop();
        return;
    }
    trip_core = (cpu_self() + 1) % sched_core_count();
    msg_send(trip_core, msg);
}

static void msg_round_trips_over(uint32_t cores, enum sched_idle idle)
{
    struct msg msg = {.fn = hop};
    trip_count = 0;
    start_cores(cores, idle);
    msg_send(cores - 1, &msg);
    sched_run();
    assert_int_equal(trip_count, TRIPS);
    native_cpu_join();
}

static void msg_round_trip_over_four_sleeping_cores_arrives(void **state)
{
    (void)state;
    msg_round_trips_over(4, SCHED_IDLE_ADAPTIVE);
}

static void msg_round_trip_over_two_polling_cores_arrives(void **state)
{
    (void)state;
    msg_round_trips_over(2, SCHED_IDLE_POLL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(msg_send_to_own_core_runs_later_in_order),
        cmocka_unit_test(msg_send_from_its_own_callback_runs_next_turn),
        cmocka_unit_test(msg_send_many_senders_each_arrives_once_in_order),
        cmocka_unit_test_teardown(msg_round_trip_over_four_sleeping_cores_arrives, teardown),
        cmocka_unit_test_teardown(msg_round_trip_over_two_polling_cores_arrives, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
