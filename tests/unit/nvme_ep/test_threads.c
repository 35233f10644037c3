/*
 * Three cores as threads, the test as host beside them: for ThreadSanitizer, and for what turning
 * reactors by hand cannot show. Idle cores sleep.
 */
#include <string.h>
#include <unistd.h>
#include "hal/native/native.h"
#include "tests/unit/nvme_ep/rig_test.h"

#define CORES  3u
#define QUEUES 4u

static struct rig_queue queues[QUEUES];
static uint64_t buffers;
static uint64_t free_ram; /* behind the admin queue */

static void begin(bool trapped)
{
    rig_start(&(struct rig_config){
        .core_count = CORES, .io_queue_count = 8, .threads = true, .trapped = trapped});
}

static void create_queues(void)
{
    rig.alloc_next = free_ram;
    buffers = rig_alloc(64 * 4096);
    for (uint16_t i = 0; i < QUEUES; i++) {
        rig_create_pair(&queues[i], (uint16_t)(i + 1), 32);
    }
}

static void enable(void)
{
    rig.alloc_next = 0;
    rig_enable();
    free_ram = rig.alloc_next;
    create_queues();
}

static int setup(void **state)
{
    (void)state;
    begin(false);
    enable();
    return 0;
}

static int setup_trapped(void **state)
{
    (void)state;
    begin(true);
    enable();
    return 0;
}

static uint8_t *buffer(uint32_t index)
{
    return rig_ptr(buffers + index * 4096);
}

/* Writes, then reads back, on every queue at once; each queue has its own blocks. */
static void write_and_read_back(uint32_t round)
{
    for (uint32_t phase = 0; phase < 2; phase++) {
        for (uint32_t q = 0; q < QUEUES; q++) {
            for (uint32_t i = 0; i < 8; i++) {
                uint32_t slot = q * 8 + i;
                if (phase == 0) {
                    memset(buffer(slot), (int)(round + slot), 4096);
                } else {
                    memset(buffer(slot), 0xee, 4096);
                }
                struct nvme_sqe sqe = rig_rw(phase == 0 ? NVME_IO_WRITE : NVME_IO_READ, 1, slot * 8,
                                             8, buffers + slot * 4096, 0);
                rig_push(&queues[q], &sqe);
            }
            rig_ring(&queues[q]);
        }
        for (uint32_t q = 0; q < QUEUES; q++) {
            struct nvme_cqe cqe;
            for (uint32_t i = 0; i < 8; i++) {
                while (!rig_pop(&queues[q], &cqe)) {
                    rig_turn(1);
                }
                assert_int_equal(rig_status(&cqe), 0);
            }
            rig_ring_head(&queues[q]);
        }
    }
    for (uint32_t slot = 0; slot < QUEUES * 8; slot++) {
        assert_int_equal(buffer(slot)[0], (uint8_t)(round + slot));
        assert_int_equal(buffer(slot)[4095], (uint8_t)(round + slot));
    }
}

static void threads_data_comes_back_on_every_queue(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 60; round++) {
        write_and_read_back(round);
    }
}

static void threads_sleeping_cores_wake_for_doorbells(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 8; round++) {
        usleep(3000); /* long enough for all to sleep */
        write_and_read_back(round);
    }
}

/* Pushes and rings without waiting for anything. */
static void load(uint32_t round)
{
    for (uint32_t q = 0; q < QUEUES; q++) {
        for (uint32_t i = 0; i < 1 + (round * 7 + q) % 20; i++) {
            /* Each queue has blocks and pages of its own, as orderly hosts do. */
            struct nvme_sqe sqe = rig_rw(i % 2 != 0 ? NVME_IO_READ : NVME_IO_WRITE, 1, q * 8, 8,
                                         buffers + (q * 8 + i % 8) * 4096, 0);
            rig_push(&queues[q], &sqe);
        }
        rig_ring(&queues[q]);
    }
}

static uint64_t checksum(void)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < rig.alloc_next; i += 8) {
        sum = sum * 31 + shm_load64(rig.ram + i);
    }
    return sum;
}

static void threads_disabled_under_load_touches_nothing_after(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 25; round++) {
        load(round);
        usleep(round % 5 * 30);
        rig_disable();
        assert_int_equal(rig_csts(), 0);
        uint64_t before = checksum();
        usleep(500);
        assert_true(checksum() == before);
        enable();
    }
    write_and_read_back(1);
}

static void threads_function_reset_under_load_is_answered(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 25; round++) {
        uint32_t acks = shm_load32_acquire(&rig.ack_count);
        load(round);
        rig_event(PCIE_EP_EVENT_RESET, 0, true);
        while (shm_load32_acquire(&rig.ack_count) == acks) {
            rig_turn(1);
        }
        uint64_t before = checksum();
        usleep(500);
        assert_true(checksum() == before);
        enable();
    }
}

static void threads_queues_are_deleted_under_load(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 15; round++) {
        load(round);
        for (uint16_t q = 1; q <= QUEUES; q++) {
            assert_int_equal(rig_delete_sq(q), 0);
            assert_int_equal(rig_delete_cq(q), 0);
        }
        create_queues();
    }
    write_and_read_back(3);
}

/* While the other cores take over a setting, core 0 is at the next. */
static void threads_settings_change_while_cores_take_them(void **state)
{
    (void)state;
    struct nvme_cqe cqe;

    for (uint32_t round = 0; round < 100; round++) {
        for (uint32_t i = 0; i < 24; i++) {
            static const uint8_t fids[] = {NVME_FEATURE_ARBITRATION,
                                           NVME_FEATURE_INTERRUPT_COALESCING,
                                           NVME_FEATURE_INTERRUPT_VECTOR};
            struct nvme_sqe sqe = {.opcode = NVME_ADMIN_SET_FEATURES,
                                   .cdw10 = fids[i % 3],
                                   .cdw11 = i % 3 == 2 ? (round & 1) << 16 | 1 : i % 8};
            rig_push(&rig_admin_queue, &sqe);
            rig_ring(&rig_admin_queue);
        }
        for (uint32_t i = 0; i < 24; i++) {
            while (!rig_pop(&rig_admin_queue, &cqe)) {
                rig_turn(1);
            }
            assert_int_equal(rig_status(&cqe), 0);
        }
        rig_ring_head(&rig_admin_queue);
    }
    write_and_read_back(4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name, setup) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)
        T(threads_data_comes_back_on_every_queue, setup),
        T(threads_data_comes_back_on_every_queue, setup_trapped),
        T(threads_sleeping_cores_wake_for_doorbells, setup),
        T(threads_sleeping_cores_wake_for_doorbells, setup_trapped),
        T(threads_disabled_under_load_touches_nothing_after, setup),
        T(threads_function_reset_under_load_is_answered, setup),
        T(threads_queues_are_deleted_under_load, setup_trapped),
        T(threads_settings_change_while_cores_take_them, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
