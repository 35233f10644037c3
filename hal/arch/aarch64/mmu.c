/*
 * Translation tables (Arm ARM D5, VMSAv8-64).
 *
 * Mappings are only added, never changed or taken away: no TLB maintenance is needed after start,
 * and no other core can see half of a change. Leaves out: user space, 16-bit ASIDs, larger
 * granules.
 */
#include "hal/arch/aarch64/mmu.h"

#include "base/bits.h"
#include "base/limits.h"
#include "hal/arch.h"
#include "hal/arch/aarch64/layout.h"
#include "hal/arch/aarch64/sysreg.h"

#define LEVELS        4u
#define ENTRIES       512u
#define ADDRESS_LIMIT BIT64(48)

/* One level-0 table, two for the low and high halves of the device space, and one for each further
 * 1 GiB or 2 MiB in which something smaller is mapped. 256 KiB in all. */
#define TABLE_COUNT 64u

/* Descriptor bits, D5.3 */
#define DESC_VALID      BIT64(0)
#define DESC_TABLE      BIT64(1) /* levels 0..2: next table; level 3: page */
#define DESC_KEPT_FREE  BIT64(2) /* not valid, but not to be mapped: ours (ignored by hardware) */
#define DESC_ATTR_SHIFT 2        /* index into MAIR */
#define DESC_RO         BIT64(7) /* AP[2] */
#define DESC_SH_INNER   (UINT64_C(3) << 8)
#define DESC_AF         BIT64(10)
#define DESC_PXN        BIT64(53)
#define DESC_UXN        BIT64(54)
#define DESC_ADDR       UINT64_C(0x0000fffffffff000)

/* MAIR_EL1, D13.2.97 */
#define ATTR_DEVICE 0u /* nGnRE */
#define ATTR_NORMAL 1u /* write-back, read and write allocate */
#define MAIR_VALUE  UINT64_C(0xff04)

#define NORMAL      ((uint64_t)ATTR_NORMAL << DESC_ATTR_SHIFT | DESC_SH_INNER | DESC_AF | DESC_UXN)
#define KIND_TEXT   (NORMAL | DESC_RO)
#define KIND_RODATA (NORMAL | DESC_RO | DESC_PXN)
#define KIND_DATA   (NORMAL | DESC_PXN)
#define KIND_DEVICE ((uint64_t)ATTR_DEVICE << DESC_ATTR_SHIFT | DESC_AF | DESC_UXN | DESC_PXN)

/* TCR_EL1, D13.2.120: T0SZ 16 (48 bits), walks cacheable and inner shareable, 4 KiB granule, no
 * TTBR1 */
#define TCR_T0SZ      UINT64_C(16)
#define TCR_IRGN0_WB  (UINT64_C(1) << 8)
#define TCR_ORGN0_WB  (UINT64_C(1) << 10)
#define TCR_SH0_INNER (UINT64_C(3) << 12)
#define TCR_EPD1      BIT64(23)
#define TCR_IPS_SHIFT 32

/* SCTLR_EL1, D13.2.118 */
#define SCTLR_RES1 UINT64_C(0x30d00800)
#define SCTLR_M    BIT64(0)
#define SCTLR_C    BIT64(2)
#define SCTLR_SA   BIT64(3) /* a misaligned SP faults */
#define SCTLR_I    BIT64(12)
#define SCTLR_WXN  BIT64(19) /* what can be written cannot be executed */

/* Linker symbols: page-aligned ends of the parts of the image. */
extern char __text_start[], __text_end[], __rodata_start[], __rodata_end[];
extern char __data_start[], __image_end[], __warm_start[], __warm_end[];

extern uint8_t cpu_stacks[LIMIT_CORES][STACKS_BYTES];

struct table {
    uint64_t entry[ENTRIES];
};

/* Written before .bss is zeroed. */
static struct table tables[TABLE_COUNT] ALIGNED(PAGE_BYTES) SECTION(".bss..early");
static uint32_t table_count SECTION(".bss..early");

static uint64_t address(const void *symbol)
{
    return (uint64_t)(uintptr_t)symbol;
}

static uint64_t level_bytes(uint32_t level)
{
    return UINT64_C(1) << (12 + 9 * (LEVELS - 1 - level));
}

static struct table *table_take(void)
{
    return table_count < TABLE_COUNT ? &tables[table_count++] : NULL;
}

static struct table *table_of(uint64_t descriptor)
{
    return (struct table *)(uintptr_t)(descriptor & DESC_ADDR);
}

/* Where arch_map_alias() puts things: above every address that hardware has (52 bits would need
 * another granule), at the same place within each block. */
#define ALIAS_OFFSET BIT64(47)

/* Writes or skips one entry at `at`, which stands for the address without ALIAS_OFFSET; returns the
 * bytes that are dealt with, 0 with *status set. */
static uint64_t map_step(uint64_t at, uint64_t len_bytes, uint64_t kind, bool skip_mapped,
                         enum status *status)
{
    struct table *table = &tables[0];

    for (uint32_t level = 0; level < LEVELS; level++) {
        uint64_t size = level_bytes(level);
        uint64_t *entry = &table->entry[at / size % ENTRIES];
        bool fits = level > 0 && is_aligned(at, size) && len_bytes >= size;

        if (*entry == 0 && fits) {
            *entry = kind == 0 ? DESC_KEPT_FREE
                               : (at & ~ALIAS_OFFSET) | kind | DESC_VALID |
                                     (level == LEVELS - 1 ? DESC_TABLE : 0);
            return size;
        }
        if (*entry == 0) {
            struct table *next = table_take();
            if (next == NULL) {
                *status = STATUS_NO_SPACE;
                return 0;
            }
            *entry = address(next) | DESC_TABLE | DESC_VALID;
            dsb_ishst(); /* the table is empty before a walk can reach it */
        }
        bool is_leaf = level == LEVELS - 1 || (*entry & DESC_TABLE) == 0;
        if (is_leaf && !skip_mapped) {
            *status = STATUS_EXISTS;
            return 0;
        }
        if (is_leaf) {
            return min_u64(len_bytes, size - at % size);
        }
        table = table_of(*entry);
    }
    return 0; /* not reached: the last level always returns */
}

/* `kind` 0: keep free. */
static enum status map_range(uint64_t base, uint64_t len_bytes, uint64_t kind, bool skip_mapped)
{
    enum status status = STATUS_OK;

    if (!is_aligned(base | len_bytes, PAGE_BYTES) || !range_fits(base, len_bytes, ADDRESS_LIMIT)) {
        return STATUS_INVALID;
    }
    while (len_bytes > 0 && status == STATUS_OK) {
        uint64_t done = map_step(base, len_bytes, kind, skip_mapped, &status);
        base += done;
        len_bytes -= done;
    }
    /* The walks of all cores see the entries before anything that follows uses them. */
    __asm__ volatile("dsb ishst\n isb" ::: "memory");
    return status;
}

static void map_part(const char *start, const char *end, uint64_t kind)
{
    if (map_range(address(start), address(end) - address(start), kind, true) != STATUS_OK) {
        arch_halt(); /* the linker script and TABLE_COUNT disagree: nobody can hear us yet */
    }
}

void mmu_build(uint64_t dtb, uint64_t dtb_bytes)
{
    table_count = 1; /* tables[0] is level 0 */
    for (uint32_t core = 0; core < LIMIT_CORES; core++) {
        const char *stacks = (const char *)cpu_stacks[core];
        map_part(stacks, stacks + PAGE_BYTES, 0);
        map_part(stacks + STACK_THREAD_TOP, stacks + STACK_THREAD_TOP + PAGE_BYTES, 0);
        map_part(stacks + STACK_EXCEPTION_TOP, stacks + STACK_EXCEPTION_TOP + PAGE_BYTES, 0);
    }
    map_part(__text_start, __text_end, KIND_TEXT);
    map_part(__rodata_start, __rodata_end, KIND_RODATA);
    map_part(__data_start, __image_end, KIND_DATA);
    map_part(__warm_start, __warm_end, KIND_DATA);
    if (dtb_bytes > 0) {
        uint64_t base = align_down(dtb, PAGE_BYTES);
        uint64_t end = align_up(dtb + dtb_bytes, PAGE_BYTES);
        /* Too large or too far away: start-up finds it unmapped and says so. */
        enum status status = map_range(base, end - base, KIND_RODATA, true);
        (void)status;
    }
}

void mmu_enable(void)
{
    uint64_t pa_range = SYSREG_READ(id_aa64mmfr0_el1) & 0xf;

    SYSREG_WRITE(mair_el1, MAIR_VALUE);
    SYSREG_WRITE(tcr_el1, TCR_T0SZ | TCR_IRGN0_WB | TCR_ORGN0_WB | TCR_SH0_INNER | TCR_EPD1 |
                              min_u64(pa_range, 5) << TCR_IPS_SHIFT);
    SYSREG_WRITE(ttbr0_el1, address(&tables[0]));
    dsb_sy();
    isb();
    __asm__ volatile("tlbi vmalle1\n dsb nsh\n ic iallu\n dsb nsh\n isb" ::: "memory");
    SYSREG_WRITE(sctlr_el1, SCTLR_RES1 | SCTLR_M | SCTLR_C | SCTLR_SA | SCTLR_I | SCTLR_WXN);
    isb();
}

static const uint64_t kinds[] = {
    [ARCH_MAP_MEMORY] = KIND_DATA,
    [ARCH_MAP_READ_ONLY] = KIND_RODATA,
    [ARCH_MAP_DEVICE] = KIND_DEVICE,
};

enum status arch_map(uint64_t base, uint64_t len_bytes, enum arch_map kind)
{
    if (base == 0 || !range_fits(base, len_bytes, ALIAS_OFFSET)) {
        return STATUS_INVALID;
    }
    return map_range(base, len_bytes, kinds[kind], false);
}

enum status arch_map_alias(uint64_t base, uint64_t len_bytes, enum arch_map kind, uintptr_t *alias)
{
    if (!range_fits(base, len_bytes, ALIAS_OFFSET)) {
        return STATUS_INVALID;
    }
    *alias = (uintptr_t)(base + ALIAS_OFFSET);
    return map_range(*alias, len_bytes, kinds[kind], false);
}

enum status arch_map_rest(uint64_t base, uint64_t len_bytes)
{
    return map_range(base, len_bytes, KIND_DATA, true);
}
