#include "tests/bench/bench_ep.h"

#include <stdio.h>
#include <string.h>
#include "base/assert.h"
#include "base/shm.h"
#include "base/stage.h"
#include "blk/blk_null.h"
#include "blk/blk_ram.h"
#include "nvme_ep/nvme_ep.h"
#include "spec/nvme_queue.h"
#include "tests/bench/bench_counter.h"

#define HOST_BASE       UINT64_C(0x100000000)
#define HOST_BYTES      (4u << 20)
#define DISK_BYTES      (4u << 20)
#define QUEUE_ENTRIES   128u
#define ADMIN_ENTRIES   16u
#define DATA_OFFSET     0x100000u
#define LIST_OFFSET     0x80000u
#define DOORBELL_STRIDE 64u
#define WARM_COUNT      256u
#define RUN_COUNT       4096u

const struct bench_case bench_cases[] = {
    {"null read", BENCH_DEVICE_NULL, NVME_IO_READ, 1, 4096, 0},
    {"null read", BENCH_DEVICE_NULL, NVME_IO_READ, 32, 4096, 600},
    {"null write", BENCH_DEVICE_NULL, NVME_IO_WRITE, 1, 4096, 0},
    {"null write", BENCH_DEVICE_NULL, NVME_IO_WRITE, 32, 4096, 600},
    {"null read", BENCH_DEVICE_NULL, NVME_IO_READ, 32, 131072, 0},
    {"ram read", BENCH_DEVICE_RAM, NVME_IO_READ, 1, 4096, 0},
    {"ram read", BENCH_DEVICE_RAM, NVME_IO_READ, 32, 4096, 0},
    {"ram write", BENCH_DEVICE_RAM, NVME_IO_WRITE, 1, 4096, 0},
    {"ram write", BENCH_DEVICE_RAM, NVME_IO_WRITE, 32, 4096, 0},
};
const uint32_t bench_case_count = ARRAY_SIZE(bench_cases);

struct host_queue {
    uint8_t *sq;
    uint8_t *cq;
    uint32_t size;
    uint32_t tail;
    uint32_t head;
    uint32_t phase;
    uint32_t *sq_doorbell;
    uint32_t *cq_doorbell;
};

static struct {
    struct nvme_ep_memory ep_memory;
    _Alignas(4096) uint8_t host[HOST_BYTES];
    _Alignas(4096) uint8_t disk[DISK_BYTES];
    _Alignas(4096) uint8_t regs[4096];
    uint8_t doorbells[3 * 4096];
    struct pcie_ep pcie;
    struct blk_null null;
    struct blk_ram ram;
    struct nvme_ep *ep;
    uint32_t event_head;
    struct pcie_ep_event event;
    struct host_queue admin;
    struct host_queue io;
    void (*print)(const char *line);
    uint64_t overhead; /* of reading the counter twice */
} * b;

_Static_assert(sizeof(*b) <= BENCH_MEMORY_BYTES, "BENCH_MEMORY_BYTES is too small");

/* --- the function -------------------------------------------------------------------------- */

static bool event_pop(struct pcie_ep *ep, struct pcie_ep_event *event)
{
    if (ep->event_seen == b->event_head) {
        return false;
    }
    ep->event_seen = b->event_head;
    *event = b->event;
    return true;
}

static void event_ack(struct pcie_ep *ep, const struct pcie_ep_event *event)
{
    (void)ep;
    (void)event;
}

static void view_load(struct pcie_ep *ep, struct pcie_ep_view *view)
{
    (void)ep;
    memset(view, 0, sizeof(*view));
    view->window_count = 1;
    view->windows[0] = (struct pcie_ep_window){.host_addr = HOST_BASE,
                                               .len_bytes = HOST_BYTES,
                                               .bus_addr = (uintptr_t)b->host,
                                               .readable = true,
                                               .writable = true};
}

static void reg_protect(struct pcie_ep *ep, uint32_t offset, uint32_t mask)
{
    (void)ep;
    (void)offset;
    (void)mask;
}

static void irq_raise(struct pcie_ep *ep, uint16_t vector)
{
    (void)ep;
    (void)vector;
}

static void doorbells_arm(struct pcie_ep *ep, bool armed)
{
    (void)ep;
    (void)armed;
}

static void ready(struct pcie_ep *ep)
{
    (void)ep;
}

static const struct pcie_ep_ops ops = {.event_pop = event_pop,
                                       .event_ack = event_ack,
                                       .view_load = view_load,
                                       .reg_protect = reg_protect,
                                       .irq_raise = irq_raise,
                                       .doorbells_arm = doorbells_arm,
                                       .ready = ready};

static void reg_write(uint32_t offset, uint64_t value, uint32_t len_bytes)
{
    b->event = (struct pcie_ep_event){
        .type = PCIE_EP_EVENT_REG_WRITE, .offset = offset, .value = value, .len_bytes = len_bytes};
    b->event_head++;
    sched_turn();
}

/* --- the host ------------------------------------------------------------------------------ */

static uint64_t host_addr(const void *p)
{
    return HOST_BASE + (uint64_t)((const uint8_t *)p - b->host);
}

static void queue_init(struct host_queue *q, uint32_t id, uint32_t size, uint32_t offset)
{
    uint8_t *doorbell = b->doorbells + 2 * id * DOORBELL_STRIDE;

    *q = (struct host_queue){.sq = b->host + offset,
                             .cq = b->host + offset + 0x4000,
                             .size = size,
                             .phase = 1,
                             .sq_doorbell = (uint32_t *)(void *)doorbell,
                             .cq_doorbell = (uint32_t *)(void *)(doorbell + DOORBELL_STRIDE)};
}

static void push(struct host_queue *q, const struct nvme_sqe *sqe)
{
    memcpy(q->sq + q->tail * NVME_SQE_BYTES, sqe, sizeof(*sqe));
    if (++q->tail == q->size) {
        q->tail = 0;
    }
}

static bool pop(struct host_queue *q)
{
    uint32_t dw3 = shm_load32_acquire(q->cq + q->head * NVME_CQE_BYTES + 12);

    if ((dw3 >> 16 & 1) != q->phase) {
        return false;
    }
    ASSERT(dw3 >> NVME_CQE_STATUS_SHIFT == 0);
    if (++q->head == q->size) {
        q->head = 0;
        q->phase ^= 1;
    }
    return true;
}

static void admin(const struct nvme_sqe *sqe)
{
    push(&b->admin, sqe);
    shm_store32_release(b->admin.sq_doorbell, b->admin.tail);
    for (uint32_t i = 0; i < 10; i++) {
        sched_turn();
        if (pop(&b->admin)) {
            shm_store32_release(b->admin.cq_doorbell, b->admin.head);
            return;
        }
    }
    panic("bench: an admin command was not answered");
}

static void io_queue_create(bool interrupts)
{
    struct nvme_sqe cq = {.opcode = NVME_ADMIN_CREATE_CQ,
                          .prp1 = host_addr(b->io.cq),
                          .cdw10 = (QUEUE_ENTRIES - 1) << 16 | 1,
                          .cdw11 =
                              1u << 16 | (interrupts ? NVME_CREATE_CQ_IEN : 0) | NVME_CREATE_CQ_PC};
    struct nvme_sqe sq = {.opcode = NVME_ADMIN_CREATE_SQ,
                          .prp1 = host_addr(b->io.sq),
                          .cdw10 = (QUEUE_ENTRIES - 1) << 16 | 1,
                          .cdw11 = 1u << 16 | NVME_CREATE_SQ_PC};

    admin(&cq);
    admin(&sq);
}

static void controller_enable(void)
{
    queue_init(&b->admin, 0, ADMIN_ENTRIES, 0x10000);
    queue_init(&b->io, 1, QUEUE_ENTRIES, 0x20000);
    reg_write(NVME_REG_AQA, (ADMIN_ENTRIES - 1) << 16 | (ADMIN_ENTRIES - 1), 4);
    reg_write(NVME_REG_ASQ, host_addr(b->admin.sq), 8);
    reg_write(NVME_REG_ACQ, host_addr(b->admin.cq), 8);
    reg_write(NVME_REG_CC, NVME_CC_EN | 6u << NVME_CC_IOSQES_SHIFT | 4u << NVME_CC_IOCQES_SHIFT, 4);
    for (uint32_t i = 0; i < 10; i++) {
        sched_turn();
    }
    ASSERT(shm_load32(b->regs + NVME_REG_CSTS) == NVME_CSTS_RDY);
    io_queue_create(true);
}

void bench_ep_start(void *memory, void (*print)(const char *line))
{
    b = memory;
    memset(b->host, 0, HOST_BYTES);
    memset(b->doorbells, 0, sizeof(b->doorbells));
    memset(b->regs, 0, sizeof(b->regs));
    b->event_head = 0;
    b->print = print;
    b->pcie = (struct pcie_ep){.ops = &ops,
                               .name = "bench",
                               .regs = b->regs,
                               .doorbells = b->doorbells,
                               .doorbells_bytes = sizeof(b->doorbells),
                               .vector_count = 2,
                               .doorbell_mode = PCIE_EP_DOORBELLS_MAPPED,
                               .event_head = &b->event_head};
    struct blk_ram_config disk = {
        .name = "ram", .memory = b->disk, .size_bytes = DISK_BYTES, .lba_shift = 12};
    struct nvme_ep_config config = {.pcie = &b->pcie,
                                    .ctrl = {.serial = "1",
                                             .model = "bench",
                                             .firmware = "1",
                                             .subnqn = "nqn.2026-11.org.snic:bench",
                                             .cntlid = 1,
                                             .io_queue_count = 4,
                                             .namespace_count = 16,
                                             .mdts = 8,
                                             .sgl = true},
                                    .core_mask = 1,
                                    .dstrd = 4,
                                    .ready_timeout_500ms = 20,
                                    .fence_cancel_ms = 500};
    ASSERT(blk_null_init(&b->null, "null", DISK_BYTES, 12) == STATUS_OK);
    ASSERT(blk_ram_init(&b->ram, &disk) == STATUS_OK);
    ASSERT(nvme_ep_init(&b->ep_memory, &config, &b->ep) == STATUS_OK);
    ASSERT(nvme_ns_attach(nvme_ep_ctrl(b->ep), 1, &b->null.dev) == STATUS_OK);
    ASSERT(nvme_ns_attach(nvme_ep_ctrl(b->ep), 2, &b->ram.dev) == STATUS_OK);
    nvme_ep_start(b->ep);
    nvme_ep_serve(b->ep);
    controller_enable();
    uint64_t start = bench_count();
    b->overhead = bench_count() - start;
}

/* --- measuring ----------------------------------------------------------------------------- */

/* What is counted; by itself, so that a tool can count it where there is no counter. */
NOINLINE void bench_turn(void);
void bench_turn(void)
{
    sched_turn();
}

static uint64_t counted_turn(void)
{
    uint64_t start = bench_count();

    bench_turn();
    return bench_count() - start - b->overhead;
}

/* A command for slot `i` of a round; 128 KiB have a PRP list, pages that lie apart. */
static struct nvme_sqe command(uint8_t opcode, uint32_t nsid, uint32_t bytes, uint32_t i)
{
    uint32_t page_count = bytes / 4096;
    uint8_t *data = b->host + DATA_OFFSET + i * 8192;
    uint64_t *list = (uint64_t *)(void *)(b->host + LIST_OFFSET + i * 4096);

    for (uint32_t p = 1; p < page_count; p++) {
        list[p - 1] = host_addr(b->host + DATA_OFFSET + ((i + p) * 8192) % 0x200000);
    }
    return (struct nvme_sqe){.opcode = opcode,
                             .cid = (uint16_t)i,
                             .nsid = nsid,
                             .prp1 = host_addr(data),
                             .prp2 = page_count > 1 ? host_addr(list) : 0,
                             .cdw10 = i,
                             .cdw12 = page_count - 1};
}

void bench_host_push(uint8_t opcode, uint32_t nsid, uint32_t bytes, uint32_t depth)
{
    for (uint32_t i = 0; i < depth; i++) {
        struct nvme_sqe sqe = command(opcode, nsid, bytes, i);
        push(&b->io, &sqe);
    }
    shm_store32_release(b->io.sq_doorbell, b->io.tail);
}

uint32_t bench_host_pop(void)
{
    uint32_t count = 0;

    while (pop(&b->io)) {
        count++;
    }
    shm_store32_release(b->io.cq_doorbell, b->io.head);
    return count;
}

struct nvme_ep *bench_ep(void)
{
    return b->ep;
}

/* One round: `depth` commands, then turns until all have completed. */
static uint64_t round_run(const struct bench_case *c)
{
    uint64_t sum = 0;

    bench_host_push(c->opcode, c->device == BENCH_DEVICE_NULL ? 1 : 2, c->bytes, c->depth);
    for (uint32_t done = 0; done < c->depth;) {
        sum += counted_turn();
        done += bench_host_pop();
    }
    return sum;
}

uint64_t bench_ep_run(const struct bench_case *c, uint32_t io_count)
{
    uint64_t sum = 0;

    for (uint32_t n = 0; n < io_count; n += c->depth) {
        sum += round_run(c);
    }
    return sum;
}

uint64_t bench_ep_idle(uint32_t turn_count)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < turn_count; i++) {
        sum += counted_turn();
    }
    return sum;
}

/* --- stages -------------------------------------------------------------------------------- */

#ifdef STAGE_MARKS
static uint64_t stage_sum[STAGE_COUNT];
static uint64_t stage_start;
static uint64_t stage_cost; /* of one mark */
static enum stage stage_now = STAGE_OTHER;

enum stage stage_enter(enum stage stage)
{
    enum stage before = stage_now;
    uint64_t now = bench_count();
    uint64_t spent = now - stage_start;

    stage_sum[before] += spent > stage_cost ? spent - stage_cost : 0;
    stage_now = stage;
    stage_start = bench_count();
    return before;
}

static void stages_calibrate(void)
{
    stage_cost = 0;
    stage_enter(STAGE_OTHER);
    stage_sum[STAGE_OTHER] = 0;
    stage_enter(STAGE_OTHER);
    stage_cost = stage_sum[STAGE_OTHER];
}

void bench_stages_reset(void)
{
    stages_calibrate();
    memset(stage_sum, 0, sizeof(stage_sum));
}

uint64_t bench_stage_sum(enum stage stage)
{
    return stage_sum[stage];
}

static void stages_report(const struct bench_case *c, uint32_t io_count)
{
    static const char *const names[] = {
#define STAGE_NAME(name, text) #name,
        STAGE_LIST(STAGE_NAME)
#undef STAGE_NAME
    };
    char line[160];

    bench_stages_reset();
    bench_ep_run(c, io_count);
    for (uint32_t s = 0; s < STAGE_OTHER; s++) {
        snprintf(line, sizeof(line), "stage %-10s depth %2u bytes %6u %-8s %llu", c->name,
                 (unsigned)c->depth, (unsigned)c->bytes, names[s],
                 (unsigned long long)(stage_sum[s] / io_count));
        b->print(line);
    }
}
#else
void bench_stages_reset(void)
{
}

uint64_t bench_stage_sum(enum stage stage)
{
    (void)stage;
    return 0;
}

static void stages_report(const struct bench_case *c, uint32_t io_count)
{
    (void)c;
    (void)io_count;
}
#endif

void bench_ep_report(void)
{
    char line[160];

    snprintf(line, sizeof(line), "bench idle turn: %llu",
             (unsigned long long)(bench_ep_idle(1000) / 1000));
    b->print(line);
    for (uint32_t i = 0; i < bench_case_count; i++) {
        const struct bench_case *c = &bench_cases[i];
        bench_ep_run(c, WARM_COUNT);
        uint64_t sum = bench_ep_run(c, RUN_COUNT);
        snprintf(line, sizeof(line), "bench %-10s depth %2u bytes %6u: %llu (budget %u)", c->name,
                 (unsigned)c->depth, (unsigned)c->bytes, (unsigned long long)(sum / RUN_COUNT),
                 (unsigned)c->budget);
        b->print(line);
        stages_report(c, RUN_COUNT);
    }
}
