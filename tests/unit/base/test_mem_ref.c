#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem_ref.h"

/* Data of DATA_BYTES bytes cut into segments in all ways, each segment at an unaligned address of
 * its own with guard bytes around it. */
#define DATA_BYTES 12
#define SEGS_MAX   6
#define GUARD      0xee

static uint8_t arena[SEGS_MAX][DATA_BYTES + 9];
static struct mem_seg segs[SEGS_MAX];
static struct mem_ref ref;

/* Segment i has bits of `cuts`: a set bit b ends a segment after byte b; `empty` adds an empty one.
 */
static void cut(uint32_t cuts, uint32_t empty)
{
    uint16_t count = 0;
    uint32_t start = 0;

    memset(arena, GUARD, sizeof(arena));
    for (uint32_t end = 1; end <= DATA_BYTES; end++) {
        bool here = end == DATA_BYTES || (cuts >> (end - 1) & 1) != 0;
        if (!here || (count >= SEGS_MAX - 2 && end != DATA_BYTES)) {
            continue;
        }
        if (count == empty) {
            segs[count] = (struct mem_seg){.bus_addr = (uintptr_t)arena[count]};
            count++;
        }
        segs[count].bus_addr = (uintptr_t)arena[count] + 1 + count;
        segs[count].len_bytes = end - start;
        for (uint32_t i = 0; i < end - start; i++) {
            arena[count][1 + count + i] = (uint8_t)(start + i);
        }
        start = end;
        count++;
    }
    ref = (struct mem_ref){
        .segs = segs, .len_bytes = DATA_BYTES, .seg_count = count, .space = MEM_SPACE_NIC};
}

/* What the segments hold now, one after the other. */
static void gather(uint8_t *out)
{
    for (uint16_t i = 0; i < ref.seg_count; i++) {
        memcpy(out, mem_seg_ptr(&segs[i]), segs[i].len_bytes);
        out += segs[i].len_bytes;
    }
}

static void assert_guards_untouched(void)
{
    uint32_t others = sizeof(arena);
    const uint8_t *bytes = &arena[0][0];
    uint32_t guards = 0;

    for (uint32_t i = 0; i < sizeof(arena); i++) {
        guards += bytes[i] == GUARD;
    }
    assert_int_equal(guards, others - DATA_BYTES);
}

/* Calls `check` for every cut, offset and length. */
static void for_all_cuts(void (*check)(uint32_t offset, uint32_t len))
{
    for (uint32_t cuts = 0; cuts < 1u << (DATA_BYTES - 1); cuts += 3) {
        for (uint32_t offset = 0; offset <= DATA_BYTES + 1; offset++) {
            for (uint32_t len = 0; len <= DATA_BYTES + 2; len += 1 + len / 4) {
                cut(cuts, (cuts + offset) % 5);
                check(offset, len);
            }
        }
    }
}

static uint32_t expected_bytes(uint32_t offset, uint32_t len)
{
    uint32_t rest = offset >= DATA_BYTES ? 0 : DATA_BYTES - offset;
    return len < rest ? len : rest;
}

static void check_read(uint32_t offset, uint32_t len)
{
    uint8_t out[DATA_BYTES + 4];
    memset(out, GUARD, sizeof(out));
    uint32_t want = expected_bytes(offset, len);

    assert_int_equal(mem_ref_read(&ref, offset, out, len), want);
    for (uint32_t i = 0; i < sizeof(out); i++) {
        assert_int_equal(out[i], i < want ? offset + i : GUARD);
    }
    assert_guards_untouched();
}

static void check_write(uint32_t offset, uint32_t len)
{
    uint8_t in[DATA_BYTES + 4];
    uint8_t now[DATA_BYTES];
    uint32_t want = expected_bytes(offset, len);

    for (uint32_t i = 0; i < sizeof(in); i++) {
        in[i] = (uint8_t)(0x40 + i);
    }
    assert_int_equal(mem_ref_write(&ref, offset, in, len), want);
    gather(now);
    for (uint32_t i = 0; i < DATA_BYTES; i++) {
        bool written = i >= offset && i < offset + want;
        assert_int_equal(now[i], written ? 0x40 + i - offset : i);
    }
    assert_guards_untouched();
}

static void check_zero(uint32_t offset, uint32_t len)
{
    uint8_t now[DATA_BYTES];
    uint32_t want = expected_bytes(offset, len);

    assert_int_equal(mem_ref_zero(&ref, offset, len), want);
    gather(now);
    for (uint32_t i = 0; i < DATA_BYTES; i++) {
        assert_int_equal(now[i], i >= offset && i < offset + want ? 0 : i);
    }
    assert_guards_untouched();
}

static void mem_ref_read_any_cut_gives_the_bytes(void **state)
{
    (void)state;
    for_all_cuts(check_read);
}

static void mem_ref_write_any_cut_changes_those_bytes_alone(void **state)
{
    (void)state;
    for_all_cuts(check_write);
}

static void mem_ref_zero_any_cut_clears_those_bytes_alone(void **state)
{
    (void)state;
    for_all_cuts(check_zero);
}

static void mem_ref_read_no_segments_gives_nothing(void **state)
{
    (void)state;
    struct mem_ref none = {.space = MEM_SPACE_NONE};
    uint8_t byte = GUARD;
    assert_int_equal(mem_ref_read(&none, 0, &byte, 1), 0);
    assert_int_equal(mem_ref_write(&none, 0, &byte, 1), 0);
    assert_int_equal(mem_ref_zero(&none, 0, 1), 0);
    assert_int_equal(byte, GUARD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mem_ref_read_any_cut_gives_the_bytes),
        cmocka_unit_test(mem_ref_write_any_cut_changes_those_bytes_alone),
        cmocka_unit_test(mem_ref_zero_any_cut_clears_those_bytes_alone),
        cmocka_unit_test(mem_ref_read_no_segments_gives_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
