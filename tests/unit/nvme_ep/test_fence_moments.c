/*
 * Fences that come at every moment of a life with I/O, deletions and aborts, on one core and on
 * three: each is answered in time and leaves nothing over. What each does by itself: test_fence.c.
 */
#include "tests/unit/nvme_ep/rig_test.h"

/* One step of a life with I/O, deletion and abort; the same for the same seed. */
static void live(uint64_t *seed, struct rig_queue *queues, uint32_t count)
{
    uint32_t r = rig_random(seed);
    struct rig_queue *queue = &queues[r / 16 % count];
    struct nvme_sqe sqe;
    struct nvme_cqe cqe;

    switch (r % 8) {
    case 0:
        sqe = (struct nvme_sqe){.opcode = NVME_ADMIN_ABORT,
                                .cdw10 = (uint32_t)(queue->next_cid - 1) << 16 | queue->id};
        rig_push(&rig_admin_queue, &sqe);
        rig_ring(&rig_admin_queue);
        break;
    case 1:
        rig_slow_release(&rig.slow, 0);
        break;
    case 2:
        sqe = (struct nvme_sqe){.opcode = r % 3 == 0 ? NVME_ADMIN_DELETE_SQ : NVME_ADMIN_IDENTIFY,
                                .prp1 = RIG_HOST_BASE,
                                .cdw10 = r % 3 == 0 ? queue->id : 1};
        rig_push(&rig_admin_queue, &sqe);
        rig_ring(&rig_admin_queue);
        break;
    default:
        sqe = rig_rw(r % 2 != 0 ? NVME_IO_READ : NVME_IO_WRITE, 1 + r % 2, 0, 1,
                     RIG_HOST_BASE + (1 << 20), 0);
        rig_push(queue, &sqe);
        rig_ring(queue);
        break;
    }
    if (r % 3 == 0) {
        while (rig_pop(queue, &cqe)) {
            rig_ring_head(queue);
        }
        while (rig_pop(&rig_admin_queue, &cqe)) {
            rig_ring_head(&rig_admin_queue);
        }
    }
}

/* After `at` steps comes `event`; whatever is going on, it is answered, and nothing is left over.
 */
static void end_after(uint32_t at, enum pcie_ep_event_type event, uint32_t cores)
{
    struct rig_queue queues[4];
    uint64_t seed = at * 7919 + 1;

    rig_stop();
    rig_start(&(struct rig_config){.core_count = cores, .io_queue_count = 8});
    rig_alloc(2 << 20); /* data */
    rig_enable();
    for (uint16_t i = 0; i < 4; i++) {
        rig_create_pair(&queues[i], (uint16_t)(i + 1), 16);
    }
    for (uint32_t i = 0; i < at; i++) {
        live(&seed, queues, 4);
        if (rig_random(&seed) % 2 != 0) {
            rig_turn(1);
        }
    }
    uint32_t acks = rig.ack_count;
    if (event == PCIE_EP_EVENT_REG_WRITE) {
        rig_write32(NVME_REG_CC, 0);
    } else if (event == PCIE_EP_EVENT_WINDOWS) {
        rig_revoke_last_page();
    } else {
        rig_event(event, 0, true);
    }
    rig_advance_ms(520);
    if (event == PCIE_EP_EVENT_REG_WRITE) {
        assert_int_equal(rig_csts(), 0);
    } else {
        assert_int_equal(rig.ack_count, acks + 1);
    }
    if (event != PCIE_EP_EVENT_WINDOWS) {
        assert_true(rig_pools_are_full());
        assert_int_equal(rig.slow.held_count, 0);
    }
}

static void fence_at_every_moment_of_one_core(void **state)
{
    (void)state;
    for (uint32_t at = 0; at < 60; at++) {
        end_after(at, PCIE_EP_EVENT_RESET, 1);
        end_after(at, PCIE_EP_EVENT_REG_WRITE, 1);
        end_after(at, PCIE_EP_EVENT_WINDOWS, 1);
    }
}

static void fence_at_every_moment_of_three_cores(void **state)
{
    (void)state;
    for (uint32_t at = 0; at < 60; at++) {
        end_after(at, PCIE_EP_EVENT_RESET, 3);
        end_after(at, PCIE_EP_EVENT_REG_WRITE, 3);
        end_after(at, PCIE_EP_EVENT_LINK, 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
        T(fence_at_every_moment_of_one_core),
        T(fence_at_every_moment_of_three_cores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
