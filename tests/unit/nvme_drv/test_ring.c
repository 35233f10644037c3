/* The pair of ring helpers: phases, wrap of the free-running indices, doorbell values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "nvme_drv/nvme_drv_ring.h"

#define ENTRIES 8

static struct nvme_sqe sqes[ENTRIES];
static struct nvme_cqe cqes[ENTRIES];
static _Alignas(8) uint8_t regs_memory[0x2000];
static const uint32_t stride_bytes = 8;
static struct nvme_drv_sq sq;
static struct nvme_drv_cq cq;
static struct mmio regs;

static uint32_t doorbell(uint32_t offset)
{
    uint32_t value;
    memcpy(&value, regs_memory + offset, 4);
    return value;
}

static int setup(void **state)
{
    (void)state;
    memset(regs_memory, 0xff, sizeof(regs_memory));
    memset(cqes, 0xff, sizeof(cqes)); /* what somebody left there */
    regs.base = (uintptr_t)regs_memory;
    sq.entries = sqes;
    cq.entries = cqes;
    nvme_drv_rings_init(&sq, &cq, 3, ENTRIES, stride_bytes);
    return 0;
}

/* As a drive does it; `pass` counts from 0. */
static void drive_posts(uint32_t index, uint32_t pass, uint16_t cid)
{
    cqes[index].dw0 = cid;
    cqes[index].dw3 = cid | (pass % 2 == 0 ? NVME_CQE_PHASE : 0);
}

static void sq_ring_tells_the_masked_tail_once(void **state)
{
    (void)state;
    assert_ptr_equal(nvme_drv_sq_push(&sq), &sqes[0]);
    assert_ptr_equal(nvme_drv_sq_push(&sq), &sqes[1]);
    assert_int_equal(doorbell(0x1000 + 6 * stride_bytes), 0xffffffff); /* not yet */
    nvme_drv_sq_ring(&sq, regs);
    assert_int_equal(doorbell(0x1000 + 6 * stride_bytes), 2);
    memset(regs_memory, 0xff, sizeof(regs_memory));
    nvme_drv_sq_ring(&sq, regs);
    assert_int_equal(doorbell(0x1000 + 6 * stride_bytes), 0xffffffff); /* nothing new */
    for (uint32_t i = 2; i < 9; i++) {
        assert_ptr_equal(nvme_drv_sq_push(&sq), &sqes[i % ENTRIES]);
    }
    nvme_drv_sq_ring(&sq, regs);
    assert_int_equal(doorbell(0x1000 + 6 * stride_bytes), 1);
}

static void cq_pop_of_an_empty_ring_is_false(void **state)
{
    struct nvme_cqe copy;
    (void)state;
    assert_false(nvme_drv_cq_pop(&cq, &copy));
    nvme_drv_cq_ring(&cq, regs);
    assert_int_equal(doorbell(0x1000 + 7 * stride_bytes), 0xffffffff);
}

/* Also over the wrap of the 32-bit index: it is a multiple of every ring. */
static void cq_pop_follows_the_phase_over_all_passes(void **state)
{
    struct nvme_cqe copy;
    (void)state;
    for (uint32_t start = 0; start < 2; start++) {
        setup(NULL);
        uint32_t n = start == 0 ? 0 : UINT32_MAX - 20;
        cq.head = cq.rung = n;
        for (uint32_t i = 0; start == 1 && i < ENTRIES; i++) {
            /* What the last pass left behind in this one. */
            drive_posts(i, n / ENTRIES - (i >= n % ENTRIES ? 1 : 0), 0);
        }
        for (uint32_t i = 0; i < 100; i++, n++) {
            assert_false(nvme_drv_cq_pop(&cq, &copy));
            drive_posts(n % ENTRIES, n / ENTRIES, (uint16_t)(i + 7));
            assert_true(nvme_drv_cq_pop(&cq, &copy));
            assert_int_equal(copy.dw3 & 0xffff, i + 7);
            assert_int_equal(copy.dw0, i + 7);
            nvme_drv_cq_ring(&cq, regs);
            assert_int_equal(doorbell(0x1000 + 7 * stride_bytes), (n + 1) % ENTRIES);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(sq_ring_tells_the_masked_tail_once, setup),
        cmocka_unit_test_setup(cq_pop_of_an_empty_ring_is_false, setup),
        cmocka_unit_test_setup(cq_pop_follows_the_phase_over_all_passes, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
