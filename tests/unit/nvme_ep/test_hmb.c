/*
 * Host Memory Buffer (NVM Express 1.4, 5.21.1.13 and 8.9): what the host may grant, and that it
 * gets everything back before it is told so. The rig's user writes the whole buffer when it gets it
 * and when it lets go; the rig poisons what must not be touched.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "spec/nvme_identify.h"
#include "tests/unit/nvme_ep/rig.h"

#define PREFERRED_BYTES (64u << 10)
#define MIN_BYTES       (16u << 10)
#define PAGE            4096u

static uint64_t list_addr;

static void start(bool has_user)
{
    rig_start(&(struct rig_config){.hmb_preferred_bytes = PREFERRED_BYTES,
                                   .hmb_min_bytes = MIN_BYTES,
                                   .hmb_user = has_user,
                                   .core_count = 2});
    rig_enable();
    list_addr = rig_alloc(PAGE);
}

static int setup(void **state)
{
    (void)state;
    start(true);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_stop();
    assert_null(rig.hmb.memory);
    assert_int_equal(rig.hmb.granted_count, rig.hmb.revoke_count);
    return 0;
}

static struct nvme_sqe set_memory(uint32_t cdw11, uint32_t page_count, uint32_t entry_count)
{
    return (struct nvme_sqe){.opcode = NVME_ADMIN_SET_FEATURES,
                             .cdw10 = NVME_FEATURE_HOST_MEMORY,
                             .cdw11 = cdw11,
                             .cdw12 = page_count,
                             .cdw13 = (uint32_t)list_addr,
                             .cdw14 = (uint32_t)(list_addr >> 32),
                             .cdw15 = entry_count};
}

static void entry_set(uint32_t index, uint64_t addr, uint32_t page_count)
{
    struct nvme_host_memory_desc desc = {.addr = addr, .page_count = page_count};

    memcpy((uint8_t *)rig_ptr(list_addr) + index * sizeof(desc), &desc, sizeof(desc));
}

/* Two pieces, 24 KiB; returns the address of the first. */
static uint64_t enable(uint32_t flags)
{
    uint64_t first = rig_alloc(2 * PAGE);
    rig_alloc(PAGE); /* not adjacent */
    uint64_t second = rig_alloc(4 * PAGE);

    entry_set(0, first, 2);
    entry_set(1, second, 4);
    struct nvme_sqe sqe = set_memory(NVME_HOST_MEMORY_ENABLE | flags, 6, 2);
    assert_int_equal(rig_admin(&sqe, NULL), 0);
    return first;
}

static uint16_t disable_memory(void)
{
    struct nvme_sqe sqe = set_memory(0, 0, 0);
    return rig_admin(&sqe, NULL);
}

static void assert_refused_at(const struct nvme_sqe *sqe)
{
    assert_int_equal(NVME_STATUS_CODE(rig_admin(sqe, NULL)), NVME_SC_INVALID_FIELD);
    assert_int_equal(rig.hmb.granted_count, 0);
}

/* --- offered and granted --------------------------------------------------------------------- */

static void hmb_identify_says_what_is_wanted(void **state)
{
    (void)state;
    uint64_t page = rig_alloc(PAGE);
    struct nvme_sqe sqe = rig_identify(page);
    assert_int_equal(rig_admin(&sqe, NULL), 0);
    struct nvme_identify_ctrl *id = rig_ptr(page);
    assert_int_equal(id->hmpre, PREFERRED_BYTES / 4096);
    assert_int_equal(id->hmmin, MIN_BYTES / 4096);
    assert_int_equal(id->hmminds, 0);
    assert_int_equal(id->hmmaxd, LIMIT_HMB_PIECES);
}

static void hmb_that_is_not_configured_is_not_offered(void **state)
{
    (void)state;
    rig_stop();
    rig_start(NULL);
    rig_enable();
    list_addr = rig_alloc(PAGE);
    struct nvme_sqe sqe = set_memory(0, 0, 0);
    assert_refused_at(&sqe);
    uint64_t page = rig_alloc(PAGE);
    sqe = rig_identify(page);
    assert_int_equal(rig_admin(&sqe, NULL), 0);
    struct nvme_identify_ctrl *id = rig_ptr(page);
    assert_int_equal(id->hmpre + id->hmmin + id->hmmaxd, 0);
}

static void hmb_granted_reaches_the_user_piece_by_piece(void **state)
{
    (void)state;
    uint64_t first = enable(NVME_HOST_MEMORY_RETURN);
    const struct nvme_ep_hmb *memory = rig.hmb.memory;
    assert_non_null(memory);
    struct nvme_ep_snapshot snapshot = nvme_ep_snapshot(rig.ep);
    assert_int_equal(snapshot.hmb_bytes, 6 * PAGE);
    assert_true(snapshot.hmb_is_used);
    assert_int_equal(memory->piece_count, 2);
    assert_int_equal(memory->len_bytes, 6 * PAGE);
    assert_int_equal(memory->pieces[0].host_addr, first);
    assert_int_equal(memory->pieces[0].len_bytes, 2 * PAGE);
    assert_ptr_equal(mem_bus_ptr(memory->pieces[0].bus_addr), rig_ptr(first));
    assert_int_equal(memory->pieces[1].host_addr, first + 3 * PAGE);
    assert_int_equal(memory->pieces[1].len_bytes, 4 * PAGE);
}

/* 5.21.1.13: the attributes, and the data structure. */
static void hmb_get_features_returns_the_attributes(void **state)
{
    (void)state;
    uint64_t page = rig_alloc(PAGE);
    struct nvme_sqe get = {
        .opcode = NVME_ADMIN_GET_FEATURES, .cdw10 = NVME_FEATURE_HOST_MEMORY, .prp1 = page};
    struct nvme_host_memory_attributes *attributes = rig_ptr(page);
    uint32_t dw0;

    memset(attributes, 0xee, sizeof(*attributes));
    assert_int_equal(rig_admin(&get, &dw0), 0);
    assert_int_equal(dw0, 0);
    assert_int_equal(attributes->page_count, 0);
    enable(0);
    assert_int_equal(rig_admin(&get, &dw0), 0);
    assert_int_equal(dw0, NVME_HOST_MEMORY_ENABLE);
    assert_int_equal(attributes->page_count, 6);
    assert_int_equal(attributes->list_addr_low, (uint32_t)list_addr);
    assert_int_equal(attributes->list_addr_high, list_addr >> 32);
    assert_int_equal(attributes->list_count, 2);
    assert_int_equal(disable_memory(), 0);
    assert_int_equal(rig_admin(&get, &dw0), 0);
    assert_int_equal(dw0 + attributes->page_count + attributes->list_count, 0);
}

static void hmb_enable_twice_is_a_sequence_error(void **state)
{
    (void)state;
    enable(0);
    struct nvme_sqe sqe = set_memory(NVME_HOST_MEMORY_ENABLE, 6, 2);
    assert_int_equal(NVME_STATUS_CODE(rig_admin(&sqe, NULL)), NVME_SC_COMMAND_SEQUENCE_ERROR);
    assert_int_equal(rig.hmb.granted_count, 1);
}

static void hmb_disable_of_nothing_succeeds(void **state)
{
    (void)state;
    assert_int_equal(disable_memory(), 0);
    assert_int_equal(rig.hmb.revoke_count, 0);
}

static void hmb_list_that_cannot_be_is_an_invalid_field(void **state)
{
    (void)state;
    uint64_t memory = rig_alloc(4 * PAGE);
    struct nvme_sqe good = set_memory(NVME_HOST_MEMORY_ENABLE, 4, 1);
    struct nvme_sqe sqe = good;

    entry_set(0, memory, 4);
    sqe.cdw12 = 3; /* less than HMMIN */
    assert_refused_at(&sqe);
    sqe = good;
    sqe.cdw15 = 0;
    assert_refused_at(&sqe);
    sqe.cdw15 = LIMIT_HMB_PIECES + 1;
    assert_refused_at(&sqe);
    sqe.cdw15 = UINT32_MAX;
    assert_refused_at(&sqe);
    sqe = good;
    sqe.cdw13 += 8; /* not 16-byte aligned */
    assert_refused_at(&sqe);
    sqe = good;
    sqe.cdw14 ^= 0x80; /* nowhere */
    assert_refused_at(&sqe);
    sqe = good;
    sqe.cdw12 = 5; /* the entries hold less */
    assert_refused_at(&sqe);
    entry_set(0, memory + 512, 4);
    assert_refused_at(&good);
    entry_set(0, memory, 0);
    assert_refused_at(&good);
    entry_set(0, UINT64_MAX - PAGE + 1, 4); /* wraps */
    assert_refused_at(&good);
    entry_set(0, RIG_HOST_BASE + RIG_RAM_BYTES - 2 * PAGE, 4); /* ends outside of host RAM */
    assert_refused_at(&good);
    entry_set(0, memory, 4);
    assert_int_equal(rig_admin(&good, NULL), 0); /* a refusal leaves no trace */
}

static void hmb_of_more_pieces_than_hmmaxd_is_an_invalid_field(void **state)
{
    (void)state;
    uint64_t memory = rig_alloc((LIMIT_HMB_PIECES + 1) * 2 * PAGE);
    for (uint32_t i = 0; i < LIMIT_HMB_PIECES + 1; i++) {
        entry_set(i, memory + (uint64_t)i * 2 * PAGE, 1);
    }
    struct nvme_sqe sqe =
        set_memory(NVME_HOST_MEMORY_ENABLE, LIMIT_HMB_PIECES + 1, LIMIT_HMB_PIECES + 1);
    assert_refused_at(&sqe);
    sqe = set_memory(NVME_HOST_MEMORY_ENABLE, LIMIT_HMB_PIECES, LIMIT_HMB_PIECES);
    assert_int_equal(rig_admin(&sqe, NULL), 0);
    assert_int_equal(rig.hmb.memory->piece_count, LIMIT_HMB_PIECES);
    assert_int_equal(rig.hmb.memory->len_bytes, LIMIT_HMB_PIECES * PAGE);
}

static void hmb_in_memory_that_may_not_be_written_is_an_invalid_field(void **state)
{
    (void)state;
    struct pcie_ep_window windows[2] = {rig.windows[0], rig.windows[0]};
    windows[1].host_addr = 0x5000000000;
    windows[1].len_bytes = 4 * PAGE;
    windows[1].writable = false;
    rig_windows_set(windows, 2, false);
    rig_turn(4);
    entry_set(0, 0x5000000000, 4);
    struct nvme_sqe sqe = set_memory(NVME_HOST_MEMORY_ENABLE, 4, 1);
    assert_refused_at(&sqe);
}

static void hmb_beyond_its_size_is_not_used(void **state)
{
    (void)state;
    uint64_t memory = rig_alloc(8 * PAGE);
    entry_set(0, memory, 3);
    entry_set(1, memory + 3 * PAGE, 3);
    entry_set(2, memory + 6 * PAGE, 2);
    struct nvme_sqe sqe = set_memory(NVME_HOST_MEMORY_ENABLE, 5, 3);
    assert_int_equal(rig_admin(&sqe, NULL), 0);
    assert_int_equal(rig.hmb.memory->len_bytes, 5 * PAGE);
    assert_int_equal(rig.hmb.memory->piece_count, 2);
    assert_int_equal(rig.hmb.memory->pieces[1].len_bytes, 2 * PAGE);
}

static void hmb_without_a_user_is_legal(void **state)
{
    (void)state;
    rig_stop();
    start(false);
    enable(0);
    assert_int_equal(disable_memory(), 0);
    enable(0);
    rig_bus_master_set(false);
    rig_turn(4);
    rig_bus_master_set(true);
    rig_turn(4);
    rig_disable();
    assert_int_equal(rig_csts(), 0);
    assert_int_equal(rig.hmb.granted_count, 0);
}

/* --- taken back ------------------------------------------------------------------------------ */

static void hmb_disable_waits_for_the_user(void **state)
{
    (void)state;
    struct nvme_cqe cqe;
    struct nvme_sqe identify = rig_identify(rig_alloc(PAGE));

    enable(0);
    rig.hmb.holds_on = true;
    struct nvme_sqe off = set_memory(0, 0, 0);
    rig_push(&rig_admin_queue, &off);
    rig_ring(&rig_admin_queue);
    rig_turn(5);
    assert_int_equal(rig.hmb.revoke_count, 1);
    assert_int_equal(rig_do(&rig_admin_queue, &identify, &cqe), 0); /* others go on */
    /* One at a time, whatever it wants. */
    assert_int_equal(NVME_STATUS_CODE(rig_do(&rig_admin_queue, &off, &cqe)),
                     NVME_SC_COMMAND_SEQUENCE_ERROR);
    rig_advance_ms(300);
    assert_false(rig_pop(&rig_admin_queue, &cqe));
    rig_hmb_let_go();
    rig_turn(3);
    assert_true(rig_pop(&rig_admin_queue, &cqe));
    rig_ring_head(&rig_admin_queue);
    assert_int_equal(rig_status(&cqe), 0);
    enable(0); /* and again */
    assert_int_equal(rig.hmb.granted_count, 2);
}

static void hmb_reset_waits_for_the_user(void **state)
{
    (void)state;
    enable(0);
    rig.hmb.holds_on = true;
    rig_disable();
    rig_turn(5);
    assert_int_equal(rig.hmb.revoke_count, 1);
    assert_int_equal(rig_csts(), NVME_CSTS_RDY);
    rig_hmb_let_go();
    rig_turn(5);
    assert_int_equal(rig_csts(), 0);
    rig_enable(); /* features are at their defaults: not granted */
    assert_int_equal(rig.hmb.granted_count, 1);
    rig.hmb.holds_on = false;
    list_addr = rig_alloc(PAGE);
    enable(NVME_HOST_MEMORY_RETURN);
    assert_int_equal(rig.hmb.granted_count, 2);
}

static void hmb_function_reset_waits_for_the_user(void **state)
{
    (void)state;
    enable(0);
    rig.hmb.holds_on = true;
    uint32_t acks = rig.ack_count;
    rig_event(PCIE_EP_EVENT_RESET, 0, true);
    rig_advance_ms(50);
    assert_int_equal(rig.ack_count, acks);
    rig_hmb_let_go();
    rig_turn(5);
    assert_int_equal(rig.ack_count, acks + 1);
}

static void hmb_reset_during_a_disable_waits_for_both(void **state)
{
    (void)state;
    enable(0);
    rig.hmb.holds_on = true;
    struct nvme_sqe off = set_memory(0, 0, 0);
    rig_push(&rig_admin_queue, &off);
    rig_ring(&rig_admin_queue);
    rig_turn(3);
    rig_disable();
    assert_int_equal(rig_csts(), NVME_CSTS_RDY);
    rig_hmb_let_go();
    rig_turn(8);
    assert_int_equal(rig_csts(), 0);
    assert_int_equal(rig.hmb.revoke_count, 1);
}

/* 8.9: the flush may go through the buffer, what follows SHST complete may not. */
static void hmb_shutdown_flushes_then_waits_for_the_user(void **state)
{
    (void)state;
    enable(0);
    rig.hmb.holds_on = true;
    rig_write32(NVME_REG_CC, RIG_CC | 1u << NVME_CC_SHN_SHIFT);
    rig_turn(8);
    assert_int_equal(rig.slow.held_count, 1); /* its flush */
    assert_int_equal(rig.hmb.revoke_count, 0);
    rig_slow_release(&rig.slow, 0);
    rig_turn(5);
    assert_int_equal(rig.hmb.revoke_count, 1);
    assert_int_equal(FIELD_GET(NVME_CSTS_SHST, rig_csts()), NVME_SHST_OCCURRING);
    rig_hmb_let_go();
    rig_turn(5);
    assert_int_equal(FIELD_GET(NVME_CSTS_SHST, rig_csts()), NVME_SHST_COMPLETE);
}

static void hmb_bus_master_off_revokes_and_on_grants_again(void **state)
{
    (void)state;
    enable(0);
    rig.hmb.holds_on = true;
    uint32_t acks = rig.ack_count;
    rig_bus_master_set(false);
    rig_advance_ms(20);
    assert_int_equal(rig.ack_count, acks);
    rig_hmb_let_go();
    rig_turn(5);
    assert_int_equal(rig.ack_count, acks + 1);
    assert_null(rig.hmb.memory);
    assert_int_equal(nvme_ep_snapshot(rig.ep).hmb_bytes, 6 * PAGE); /* still ours */
    assert_false(nvme_ep_snapshot(rig.ep).hmb_is_used);
    rig.hmb.holds_on = false;
    rig_bus_master_set(true);
    rig_turn(5);
    assert_int_equal(rig.hmb.granted_count, 2);
    assert_int_equal(rig.hmb.memory->len_bytes, 6 * PAGE);
}

static void hmb_unmap_of_other_memory_does_not_revoke(void **state)
{
    (void)state;
    enable(0);
    rig.hmb.holds_on = true;
    uint32_t acks = rig.ack_count;
    struct pcie_ep_window window = rig.windows[0];
    window.len_bytes -= PAGE;
    rig_windows_set(&window, 1, true);
    rig_turn(5);
    assert_int_equal(rig.ack_count, acks + 1);
    assert_int_equal(rig.hmb.revoke_count, 0);
}

static void hmb_unmap_of_a_piece_revokes_until_it_is_back(void **state)
{
    (void)state;
    uint64_t first = enable(0);
    struct pcie_ep_window whole = rig.windows[0];
    struct pcie_ep_window windows[2] = {whole, whole};
    uint64_t offset = first - whole.host_addr + PAGE; /* the first piece's second page */

    rig.hmb.holds_on = true;
    uint32_t acks = rig.ack_count;
    windows[0].len_bytes = offset;
    windows[1].host_addr += offset + PAGE;
    windows[1].bus_addr += offset + PAGE;
    windows[1].len_bytes -= offset + PAGE;
    rig_windows_set(windows, 2, true);
    rig_advance_ms(20);
    assert_int_equal(rig.ack_count, acks);
    assert_int_equal(rig.hmb.revoke_count, 1);
    rig_hmb_let_go();
    rig_turn(5);
    assert_int_equal(rig.ack_count, acks + 1);
    rig_turn(10);
    assert_int_equal(rig.hmb.granted_count, 1);
    rig.hmb.holds_on = false;
    rig_windows_set(&whole, 1, false);
    rig_turn(5);
    assert_int_equal(rig.hmb.granted_count, 2);
    assert_int_equal(disable_memory(), 0);
}

/* The host takes it back while a piece is away: nobody has it, nothing is waited for. */
static void hmb_disable_while_a_piece_is_away_succeeds(void **state)
{
    (void)state;
    uint64_t first = enable(0);
    struct pcie_ep_window window = rig.windows[0];
    struct pcie_ep_window windows[2] = {window, window};
    uint64_t offset = first - window.host_addr;

    windows[0].len_bytes = offset;
    windows[1].host_addr += offset + PAGE;
    windows[1].bus_addr += offset + PAGE;
    windows[1].len_bytes -= offset + PAGE;
    rig_windows_set(windows, 2, true);
    rig_turn(5);
    assert_null(rig.hmb.memory);
    assert_int_equal(disable_memory(), 0);
    rig_windows_set(&window, 1, false);
    rig_turn(5);
    assert_int_equal(rig.hmb.granted_count, 1);
}

static void hmb_fatal_error_takes_it_back(void **state)
{
    (void)state;
    enable(0);
    rig_write32(NVME_REG_CC, 0);
    rig_turn(8);
    assert_null(rig.hmb.memory);
    rig_enable();
    list_addr = rig_alloc(PAGE);
    enable(0);
    /* The queues lie outside of what is left: fatal after its time of grace. */
    struct pcie_ep_window window = rig.windows[0];
    window.len_bytes = PAGE;
    rig_windows_set(&window, 1, true);
    rig_advance_ms(2500);
    assert_int_equal(rig_csts() & NVME_CSTS_CFS, NVME_CSTS_CFS);
    assert_null(rig.hmb.memory);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(hmb_identify_says_what_is_wanted),
        TEST(hmb_that_is_not_configured_is_not_offered),
        TEST(hmb_granted_reaches_the_user_piece_by_piece),
        TEST(hmb_get_features_returns_the_attributes),
        TEST(hmb_enable_twice_is_a_sequence_error),
        TEST(hmb_disable_of_nothing_succeeds),
        TEST(hmb_list_that_cannot_be_is_an_invalid_field),
        TEST(hmb_of_more_pieces_than_hmmaxd_is_an_invalid_field),
        TEST(hmb_in_memory_that_may_not_be_written_is_an_invalid_field),
        TEST(hmb_beyond_its_size_is_not_used),
        TEST(hmb_without_a_user_is_legal),
        TEST(hmb_disable_waits_for_the_user),
        TEST(hmb_reset_waits_for_the_user),
        TEST(hmb_function_reset_waits_for_the_user),
        TEST(hmb_reset_during_a_disable_waits_for_both),
        TEST(hmb_shutdown_flushes_then_waits_for_the_user),
        TEST(hmb_bus_master_off_revokes_and_on_grants_again),
        TEST(hmb_unmap_of_other_memory_does_not_revoke),
        TEST(hmb_unmap_of_a_piece_revokes_until_it_is_back),
        TEST(hmb_disable_while_a_piece_is_away_succeeds),
        TEST(hmb_fatal_error_takes_it_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
