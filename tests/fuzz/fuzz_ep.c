/*
 * Fuzzes the endpoint from the host's side: the bytes drive a host that writes registers and
 * doorbells, fills queues, PRP lists and SGLs with whatever, changes its memory between two turns,
 * and takes windows, bus mastering and itself away at any moment.
 *
 * What must hold: no access outside of the windows (the rig poisons it), no failed assertion, and
 * after a reset every command is back in its pool, whatever went on before. One rig serves all
 * inputs; each ends with a function reset.
 */
#define RIG_RAM_BYTES  (512u << 10)
#define RIG_DISK_BYTES (64u << 10)
#include "tests/unit/nvme_ep/rig.c"
#include "tests/unit/nvme_ep/rig_host.c"

#define QUEUES     5u /* identifiers that the host uses; 0 is the admin queue */
#define LIST_AREA  0x20000u
#define DATA_AREA  0x40000u
#define QUEUE_AREA 0x02000u

struct input {
    const uint8_t *bytes;
    size_t left;
};

static struct rig_queue queues[QUEUES];

static uint64_t take(struct input *in, uint32_t count)
{
    uint64_t value = 0;

    for (uint32_t i = 0; i < count && in->left > 0; i++) {
        value |= (uint64_t)*in->bytes++ << 8 * i;
        in->left--;
    }
    return value;
}

/* --- what the host does -------------------------------------------------------------------- */

/* An address that is often good. */
static uint64_t take_addr(struct input *in)
{
    uint32_t r = (uint32_t)take(in, 1);
    uint32_t offset = (uint32_t)take(in, 2);

    switch (r % 8) {
    case 0:
        return take(in, 8);
    case 1:
        return RIG_HOST_BASE + RIG_RAM_BYTES - 4096 + offset % 8192;
    case 2:
    case 3:
        return RIG_HOST_BASE + LIST_AREA + offset % 0x8000 / 8 * 8;
    case 4:
        return RIG_HOST_BASE + DATA_AREA + offset % 0x20000;
    default:
        return RIG_HOST_BASE + DATA_AREA + offset % 32 * 4096;
    }
}

static struct nvme_sgl_desc take_desc(struct input *in)
{
    struct nvme_sgl_desc desc = {.addr = take_addr(in)};
    uint32_t r = (uint32_t)take(in, 1);

    desc.len_bytes = r % 4 == 0 ? (uint32_t)take(in, 4) : (uint32_t)take(in, 1) * 16;
    desc.type = r % 16 == 15 ? (uint8_t)take(in, 1) : (uint8_t)(r / 4 % 4 << 4);
    return desc;
}

static uint32_t events_pending(void)
{
    return rig.event_head - rig.event_tail;
}

/* Lets everything that is pending come to its end, as the other end of the link does before it
 * starts another fence. */
static void settle(void)
{
    for (uint32_t i = 0; i < 100; i++) {
        rig_turn(1);
        if (events_pending() == 0 && rig.ep->fence == NVME_EP_FENCE_NONE) {
            return;
        }
        rig_slow_release_all(&rig.slow);
        if (rig.hmb.done != NULL) {
            rig_hmb_let_go();
        }
    }
    ASSERT(false);
}

static void enable(struct input *in)
{
    uint32_t size = 2 + (uint32_t)take(in, 1) % 31;

    rig.alloc_next = 0;
    if (events_pending() > RIG_EVENTS - 8) {
        settle();
    }
    rig_write32(NVME_REG_CC, 0);
    settle();
    rig_enable_sized(size, size, RIG_CC | (take(in, 1) % 4 == 0 ? NVME_CC_AMS_WRR << 11 : 0));
    queues[0] = rig_admin_queue;
}

static void write_register(struct input *in)
{
    static const uint8_t offsets[] = {0x14, 0x14, 0x14, 0x20, 0x24, 0x28, 0x2c, 0x30, 0x1c, 0x0c};
    uint32_t r = (uint32_t)take(in, 1);
    uint32_t offset = r < 16 ? r * 4 : offsets[r % sizeof(offsets)];

    if (events_pending() > RIG_EVENTS - 8) {
        settle();
    }
    if (take(in, 1) % 2 != 0 && offset % 8 == 0) {
        rig_write64(offset, take(in, 8));
    } else {
        rig_write32(offset, (uint32_t)take(in, 4));
    }
}

/* A queue as the host would create it, or nearly so. */
static void create_queue(struct input *in)
{
    uint32_t r = (uint32_t)take(in, 1);
    uint16_t id = (uint16_t)(r % 32 == 0 ? take(in, 2) : 1 + r % (QUEUES - 1));
    uint16_t size = (uint16_t)(take(in, 1) % 64);
    bool is_sq = r / 32 % 2 != 0;
    uint64_t addr = RIG_HOST_BASE + QUEUE_AREA + (id % QUEUES * 2u + is_sq) * 0x2000u;
    struct nvme_sqe sqe = {.opcode = is_sq ? NVME_ADMIN_CREATE_SQ : NVME_ADMIN_CREATE_CQ,
                           .prp1 = r >= 250 ? take_addr(in) : addr,
                           .cdw10 = (uint32_t)size << 16 | id,
                           .cdw11 = (uint32_t)(r == 249 ? take(in, 2) : id) << 16 |
                                    ((uint32_t)take(in, 1) % 8) | 1};

    if (id < QUEUES && id > 0) {
        queues[id].id = id;
        if (is_sq) {
            queues[id].sq_addr = addr;
            queues[id].sq_size = (uint16_t)(size + 1);
            queues[id].sq_tail = 0;
        } else {
            queues[id].cq_addr = addr;
            queues[id].cq_size = (uint16_t)(size + 1);
            queues[id].cq_head = 0;
            queues[id].phase = 1;
            memset(rig_ptr(addr), 0, 0x1000);
        }
    }
    rig_push(&queues[0], &sqe);
    rig_ring(&queues[0]);
}

static void admin_command(struct input *in)
{
    static const uint8_t opcodes[] = {
        NVME_ADMIN_DELETE_SQ,   NVME_ADMIN_DELETE_CQ,    NVME_ADMIN_IDENTIFY,
        NVME_ADMIN_ABORT,       NVME_ADMIN_SET_FEATURES, NVME_ADMIN_GET_FEATURES,
        NVME_ADMIN_ASYNC_EVENT, NVME_ADMIN_GET_LOG_PAGE, NVME_ADMIN_DOORBELL_BUFFER_CONFIG,
        NVME_ADMIN_KEEP_ALIVE};
    uint32_t r = (uint32_t)take(in, 1);
    struct nvme_sqe sqe = {.opcode = r >= 200 ? (uint8_t)take(in, 1) : opcodes[r % 10],
                           .flags = r == 199 ? (uint8_t)take(in, 1) : 0,
                           .prp1 = take_addr(in),
                           .prp2 = take_addr(in),
                           .cdw10 = (uint32_t)take(in, 3),
                           .cdw11 = (uint32_t)take(in, 3)};

    if (sqe.opcode == NVME_ADMIN_DELETE_SQ || sqe.opcode == NVME_ADMIN_DELETE_CQ) {
        sqe.cdw10 %= QUEUES + 1;
    }
    if (sqe.opcode == NVME_ADMIN_ABORT) {
        sqe.cdw10 = (sqe.cdw10 & 0x1f0000) | sqe.cdw10 % QUEUES;
    }
    rig_push(&queues[0], &sqe);
    rig_ring(&queues[0]);
}

/* Set Features of the Host Memory Buffer, with a list that is there, or nearly so. */
static void host_memory(struct input *in)
{
    uint32_t r = (uint32_t)take(in, 1);
    uint32_t offset = LIST_AREA + r / 4 % 4 * 64;
    uint64_t list_addr = r >= 250 ? take_addr(in) : RIG_HOST_BASE + offset;
    uint32_t count = 1 + r / 16 % 4;

    for (uint32_t i = 0; i < count; i++) {
        struct nvme_host_memory_desc desc = {.addr = take_addr(in), .page_count = 1 + r % 3};
        memcpy(rig.ram + offset + i * sizeof(desc), &desc, sizeof(desc));
    }
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_SET_FEATURES,
                           .cdw10 = NVME_FEATURE_HOST_MEMORY,
                           .cdw11 = r % 4 != 0,
                           .cdw12 = r / 64,
                           .cdw13 = (uint32_t)list_addr,
                           .cdw14 = (uint32_t)(list_addr >> 32),
                           .cdw15 = count};
    rig_push(&queues[0], &sqe);
    rig_ring(&queues[0]);
}

static void host_memory_user(uint32_t r)
{
    rig.hmb.holds_on = r % 2 != 0;
    if (rig.hmb.done != NULL) {
        rig_hmb_let_go();
    }
}

static void io_command(struct input *in)
{
    static const uint8_t opcodes[] = {NVME_IO_READ,         NVME_IO_WRITE, NVME_IO_FLUSH,
                                      NVME_IO_WRITE_ZEROES, NVME_IO_DSM,   NVME_IO_COMPARE,
                                      NVME_IO_VERIFY,       NVME_IO_READ};
    uint32_t r = (uint32_t)take(in, 1);
    struct rig_queue *queue = &queues[1 + r % (QUEUES - 1)];
    struct nvme_sqe sqe = {.opcode = r >= 240 ? (uint8_t)take(in, 1) : opcodes[r / 4 % 8],
                           .nsid = 1 + (uint32_t)take(in, 1) % 3,
                           .cdw10 = (uint32_t)take(in, 1),
                           .cdw12 = (uint32_t)take(in, 1)};

    if (take(in, 1) % 2 != 0) {
        sqe.flags = NVME_PSDT_SGL_MPTR << NVME_SQE_PSDT_SHIFT;
        sqe.sgl1 = take_desc(in);
    } else {
        sqe.prp1 = take_addr(in);
        sqe.prp2 = take_addr(in);
    }
    if (queue->sq_size < 2) {
        return;
    }
    rig_push(queue, &sqe);
    if (take(in, 1) % 4 != 0) {
        rig_ring(queue);
    }
}

static void change_memory(struct input *in)
{
    uint32_t r = (uint32_t)take(in, 1);
    uint32_t offset = LIST_AREA + (uint32_t)take(in, 2) % 0x8000 / 16 * 16;

    if (r % 4 == 0) { /* anywhere, queues as well */
        uint64_t value = take(in, 8);
        memcpy(rig.ram + (uint32_t)take(in, 3) % (RIG_RAM_BYTES - 8), &value, 8);
    } else if (r % 4 == 1) {
        struct nvme_sgl_desc desc = take_desc(in);
        memcpy(rig.ram + offset, &desc, sizeof(desc));
    } else {
        uint64_t addr = take_addr(in);
        memcpy(rig.ram + offset + r / 4 % 2 * 8, &addr, 8);
    }
}

static void ring_anything(struct input *in)
{
    uint32_t r = (uint32_t)take(in, 1);
    uint32_t value = r >= 250 ? (uint32_t)take(in, 4) : (uint32_t)take(in, 1);
    uint16_t id = (uint16_t)(r % 8);

    *(r / 8 % 2 != 0 ? rig_cq_doorbell(id) : rig_sq_doorbell(id)) = value;
}

static void consume(struct input *in)
{
    struct rig_queue *queue = &queues[take(in, 1) % QUEUES];
    struct nvme_cqe cqe;
    uint32_t count = 0;

    if (queue->cq_size < 2) {
        return;
    }
    while (count++ < 64 && rig_pop(queue, &cqe)) {
        rig_ring_head(queue);
    }
}

static void change_windows(struct input *in)
{
    uint32_t r = (uint32_t)take(in, 1);
    struct pcie_ep_window whole = {.host_addr = RIG_HOST_BASE,
                                   .len_bytes = RIG_RAM_BYTES,
                                   .bus_addr = (uintptr_t)rig.ram,
                                   .readable = true,
                                   .writable = true};
    struct pcie_ep_window parts[2] = {whole, whole};
    uint32_t split = (1 + (uint32_t)take(in, 1) % 100) * 4096;

    settle();
    if (r % 4 == 0) {
        rig_windows_set(&whole, 1, true);
        return;
    }
    parts[0].len_bytes = split;
    parts[1].host_addr += split;
    parts[1].bus_addr += split;
    parts[1].len_bytes -= split;
    if (r % 4 == 1) { /* a page is missing */
        parts[1].host_addr += 4096;
        parts[1].bus_addr += 4096;
        parts[1].len_bytes -= 4096;
    }
    parts[1].readable = r / 4 % 4 != 0;
    parts[1].writable = r / 4 % 4 != 1;
    rig_windows_set(parts, r % 4 == 3 ? 1 : 2, true);
}

static void event(struct input *in)
{
    uint32_t r = (uint32_t)take(in, 1);

    settle();
    switch (r % 6) {
    case 0:
        rig_event(PCIE_EP_EVENT_RESET, 0, true);
        break;
    case 1:
        rig_event(PCIE_EP_EVENT_LINK, 0, true);
        break;
    case 2:
        rig_event(PCIE_EP_EVENT_LINK, 1, false);
        break;
    case 3:
        rig_bus_master_set(false);
        break;
    case 4:
        rig_bus_master_set(true);
        break;
    default:
        rig_event(PCIE_EP_EVENT_VECTORS, 0, false);
        break;
    }
}

/* --- the loop ------------------------------------------------------------------------------ */

static void invariants(void)
{
    struct nvme_ep_snapshot s = nvme_ep_snapshot(rig.ep);

    if (s.state == NVME_EP_STATE_DISABLED) {
        ASSERT((rig_csts() & NVME_CSTS_RDY) == 0 && rig_pools_are_full());
        ASSERT(s.sq_count == 0 && s.cq_count == 0);
    }
    if (s.state == NVME_EP_STATE_READY) {
        ASSERT((rig_csts() & NVME_CSTS_RDY) != 0);
    }
}

static void step(struct input *in)
{
    uint32_t op = (uint32_t)take(in, 1);

    switch (op % 20) {
    case 0:
        enable(in);
        break;
    case 1:
        write_register(in);
        break;
    case 2:
    case 3:
    case 4:
        create_queue(in);
        break;
    case 5:
    case 6:
        admin_command(in);
        break;
    case 7:
    case 8:
    case 9:
    case 10:
        io_command(in);
        break;
    case 11:
    case 12:
        change_memory(in);
        break;
    case 13:
        ring_anything(in);
        break;
    case 14:
        consume(in);
        break;
    case 15:
        change_windows(in);
        break;
    case 16:
        event(in);
        break;
    case 17:
        rig.slow.obeys_cancel = op / 20 % 2 != 0;
        rig_slow_release(&rig.slow, op / 20 % 4 == 0 ? NVME_SC_WRITE_FAULT : 0);
        break;
    case 18:
        rig_advance_ms(1 + op / 20 * 20);
        break;
    default:
        if (op / 20 >= 6) {
            host_memory(in);
            break;
        }
        if (op / 20 >= 4) {
            host_memory_user(op / 20);
            break;
        }
        nvme_ep_arm(&rig.ep->cores[0], true);
        nvme_ep_arm(&rig.ep->cores[0], false);
        break;
    }
    rig_turn(op / 20 % 4);
    invariants();
}

/* The state that the next input finds. */
static void finish(void)
{
    settle();
    rig.bus_master = true;
    struct pcie_ep_window whole = {.host_addr = RIG_HOST_BASE,
                                   .len_bytes = RIG_RAM_BYTES,
                                   .bus_addr = (uintptr_t)rig.ram,
                                   .readable = true,
                                   .writable = true};
    rig_windows_set(&whole, 1, false);
    settle();
    rig_event(PCIE_EP_EVENT_RESET, 0, true);
    settle();
    rig_turn(4);
    ASSERT(rig_pools_are_full());
    ASSERT((rig_csts() & ~NVME_CSTS_NSSRO) == 0);
    memset(rig.ram, 0, RIG_RAM_BYTES);
    memset(rig.doorbells, 0, sizeof(rig.doorbells));
    memset(queues, 0, sizeof(queues));
    rig.alloc_next = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct input in = {.bytes = bytes, .left = len};

    if (rig.ep == NULL) {
        rig_start(&(struct rig_config){.doorbell_buffers = true,
                                       .weighted_round_robin = true,
                                       .subsystem_reset = true,
                                       .hmb_preferred_bytes = 32u << 10,
                                       .hmb_user = true,
                                       .io_queue_count = 8});
        finish();
    }
    rig_enable_sized(8, 8, RIG_CC);
    queues[0] = rig_admin_queue;
    for (uint32_t i = 0; i < 400 && in.left > 0; i++) {
        step(&in);
    }
    finish();
    return 0;
}
