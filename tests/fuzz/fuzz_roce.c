/*
 * Fuzzes the RoCEv2 engine from the wire: the bytes drive a peer that sends packets of every kind,
 * right and wrong, to queue pairs in every state, while work is posted, keys are bound and
 * invalidated, host windows go, time passes and the port has no room. The checksum is made right
 * again after each damage, mostly, so that what is wrong is looked at.
 *
 * What must hold: no access outside of registered memory (all else is poisoned), nothing written
 * where the peer may only read, every work request completes at most once, what we send is well
 * formed and bounded, and everything is back in its pool when the input is over.
 */
#include "tests/unit/rdma/peer.c"
#include "tests/unit/rdma/rig.c"
#include "tests/unit/rdma/rig_packets.c"

#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include "base/assert.h"

#define QPS          6u
#define QP_UD        3u
#define PACKETS_MAX  4000u /* that one step may make us send */
#define IDS_MAX      4096u
#define HOST_BASE    UINT64_C(0x100000)
#define KEY_IOVA     UINT64_C(0x7000)
#define REGION_BYTES 0x2000u

/* Areas of rig.memory. */
#define AREA_ALL    0x00000u /* every right */
#define AREA_READ   0x04000u /* the peer may read it */
#define AREA_LOCAL  0x08000u /* receives and READs of ours; no right of the peer's */
#define AREA_KEY    0x0c000u /* pieces under the key */
#define AREA_HOST   0x10000u /* behind the window */
#define AREA_OTHERS 0x14000u /* another tenant's */
#define AREAS       6u

static const uint32_t areas[AREAS] = {AREA_ALL, AREA_READ, AREA_LOCAL,
                                      AREA_KEY, AREA_HOST, AREA_OTHERS};

struct input {
    const uint8_t *bytes;
    size_t left;
};

static struct rdma_qp *world_qps[QPS];
static struct rdma_mr *all_mr;
static struct rdma_mr *read_mr;
static struct rdma_mr *local_mr;
static struct rdma_mr *host_mr;
static struct rdma_mr *others_mr;
static struct rdma_key *key;
static struct rdma_srq *srq;
static struct rdma_ah *ah;
static struct mem_seg key_segs[3];
static struct mem_ref key_ref;
static uint32_t old_key;
static struct pcie_ep_view view;
static bool is_pending[IDS_MAX];
static uint32_t next_id;

/* --- the rig's assertions, without CMocka ----------------------------------------------------- */

static void stop(const char *file, int line)
{
    fprintf(stderr, "%s:%d: the rig's assertion failed\n", file, line);
    ASSERT(false);
}

void _assert_true(const LargestIntegralType result, const char *const expression,
                  const char *const file, const int line)
{
    (void)expression;
    if (!result) {
        stop(file, line);
    }
}

void _assert_int_equal(const LargestIntegralType a, const LargestIntegralType b,
                       const char *const file, const int line)
{
    if (a != b) {
        stop(file, line);
    }
}

void _assert_memory_equal(const void *const a, const void *const b, const size_t size,
                          const char *const file, const int line)
{
    if (memcmp(a, b, size) != 0) {
        stop(file, line);
    }
}

void _fail(const char *const file, const int line)
{
    stop(file, line);
    abort();
}

void print_error(const char *const format, ...)
{
    (void)format;
}

/* --- input ------------------------------------------------------------------------------------ */

static uint32_t take(struct input *in, uint32_t count)
{
    uint32_t value = 0;

    for (uint32_t i = 0; i < count && in->left > 0; i++) {
        value |= (uint32_t)*in->bytes++ << 8 * i;
        in->left--;
    }
    return value;
}

/* --- the world -------------------------------------------------------------------------------- */

static void connect_qp(uint32_t i)
{
    struct rig_qp_options options = {.mtu = i % 2 == 0 ? RDMA_MTU_256 : RDMA_MTU_1024,
                                     .is_ipv6 = i == 4,
                                     .sq_psn = i == 1 ? 0xfffff0 : 0,
                                     .rq_psn = i == 1 ? 0xfffff8 : 0,
                                     .srq = i == 2 || i == 5 ? srq : NULL,
                                     .state = i == 5 ? RDMA_QP_RTR : RDMA_QP_RTS};

    if (i != QP_UD) {
        world_qps[i] = rig_qp(&options);
        return;
    }
    struct rdma_qp *qp = rig_qp_create(RDMA_QP_UD, NULL);
    struct rdma_qp_attr attr = rig_qp_attr(NULL);
    attr.state = RDMA_QP_INIT;
    ASSERT(rdma_qp_modify(qp, &attr, RDMA_QP_STATE | RDMA_QP_QKEY) == STATUS_OK);
    attr.state = RDMA_QP_RTR;
    ASSERT(rdma_qp_modify(qp, &attr, RDMA_QP_STATE) == STATUS_OK);
    attr.state = RDMA_QP_RTS;
    ASSERT(rdma_qp_modify(qp, &attr, RDMA_QP_STATE | RDMA_QP_SQ_PSN) == STATUS_OK);
    world_qps[i] = qp;
}

static void bind_key(void)
{
    if (!key->is_bound && rdma_key_is_quiet(key)) {
        old_key = key->value;
        ASSERT(rdma_key_bind(key, &key_ref, KEY_IOVA,
                             RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE |
                                 RDMA_ACCESS_REMOTE_READ) == STATUS_OK);
    }
}

static void make_memory(void)
{
    uint32_t all = RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE | RDMA_ACCESS_REMOTE_READ;

    all_mr = rig_mr(rig.pd, AREA_ALL, REGION_BYTES, all);
    read_mr = rig_mr(rig.pd, AREA_READ, REGION_BYTES, RDMA_ACCESS_REMOTE_READ);
    local_mr = rig_mr(rig.pd, AREA_LOCAL, REGION_BYTES, RDMA_ACCESS_LOCAL_WRITE);
    others_mr = rig_mr(rig_pd(), AREA_OTHERS, REGION_BYTES, all);
    view = (struct pcie_ep_view){.window_count = 1};
    view.windows[0] = (struct pcie_ep_window){.host_addr = HOST_BASE,
                                              .len_bytes = REGION_BYTES,
                                              .bus_addr = addr_at(AREA_HOST),
                                              .readable = true,
                                              .writable = true};
    host_mr = rig_mr_host(&view, 0, UINT64_C(1) << 40);
    key = rig_key(rig.pd);
    key_segs[0] = (struct mem_seg){.bus_addr = addr_at(AREA_KEY), .len_bytes = 33};
    key_segs[1] = (struct mem_seg){.bus_addr = addr_at(AREA_KEY + 0x100), .len_bytes = 2000};
    key_segs[2] = (struct mem_seg){.bus_addr = addr_at(AREA_KEY + 0x1000), .len_bytes = 1000};
    key_ref = (struct mem_ref){.segs = key_segs, .len_bytes = 3033, .seg_count = 3};
    bind_key();
}

static void poison(void)
{
    ASAN_POISON_MEMORY_REGION(rig.memory, RIG_MEMORY_BYTES);
    for (uint32_t i = 0; i < AREAS - 1; i++) { /* the other tenant's stays out of reach */
        if (areas[i] != AREA_KEY) {
            ASAN_UNPOISON_MEMORY_REGION(rig.memory + areas[i], REGION_BYTES);
        }
    }
    for (uint32_t i = 0; i < 3; i++) {
        ASAN_UNPOISON_MEMORY_REGION((void *)(uintptr_t)key_segs[i].bus_addr, key_segs[i].len_bytes);
    }
}

static void begin(void)
{
    rig.qp = NULL;
    rig.pd = rig_pd();
    rig.cq = rig_cq(RIG_CQES);
    rig.recv_cq = rig_cq(RIG_CQES);
    make_memory();
    rig.mr = all_mr;
    memset(rig.memory, 0xee, AREA_OTHERS + REGION_BYTES);
    poison();
    srq = rig_srq(16, 3);
    ah = rig_ah(false);
    for (uint32_t i = 0; i < QPS; i++) {
        connect_qp(i);
    }
    memset(is_pending, 0, sizeof(is_pending));
    next_id = 0;
}

static void drop_packets(void)
{
    static struct pkt got;
    uint32_t count = 0;

    while (peer_take(&got)) {
        ASSERT(!got.is_icrc_wrong);
        ASSERT(got.qpn == PEER_QPN || got.opcode == UD_SEND_ONLY || got.opcode == UD_SEND_ONLY_IMM);
        count++;
    }
    ASSERT(count <= PACKETS_MAX);
}

static void poll_cq(struct rdma_cq *cq)
{
    struct rdma_wc wc;

    while (rdma_cq_poll(cq, &wc, 1) != 0) {
        ASSERT(wc.wr_id < IDS_MAX && is_pending[wc.wr_id]);
        is_pending[wc.wr_id] = false;
    }
}

static void check(void)
{
    drop_packets();
    poll_cq(rig.cq);
    poll_cq(rig.recv_cq);
    rig.event_count = 0;
}

static void end(void)
{
    wire_hold_reap(rig.wire, false);
    rig_advance(NS_PER_MS);
    check();
    ASAN_UNPOISON_MEMORY_REGION(rig.memory, RIG_MEMORY_BYTES);
    for (uint32_t i = 0; i < REGION_BYTES; i++) {
        ASSERT(rig.memory[AREA_READ + i] == 0xee && rig.memory[AREA_OTHERS + i] == 0xee);
    }
    destroy_all();
    rig_advance(100 * NS_PER_US);
    peer_drain();
    ASSERT(rdma_soft_is_quiet(rig.dev) && net_if_is_quiet(rig.nif) && wire_is_quiet(rig.wire));
}

/* --- packets ---------------------------------------------------------------------------------- */

static uint32_t psn_near(struct input *in, uint32_t base)
{
    uint32_t r = take(in, 1);

    return r < 200 ? base : r < 250 ? base + r - 225 : take(in, 3);
}

static uint32_t a_key(struct input *in)
{
    const uint32_t values[] = {all_mr->rkey,   all_mr->rkey,    read_mr->rkey,
                               local_mr->rkey, others_mr->rkey, host_mr->rkey,
                               key->value,     key->value,      old_key};
    uint32_t r = take(in, 1);

    return r < 250 ? values[r % ARRAY_SIZE(values)] : take(in, 4);
}

static uint64_t an_addr(struct input *in)
{
    const uint64_t bases[] = {addr_at(AREA_ALL),    addr_at(AREA_READ), addr_at(AREA_LOCAL),
                              addr_at(AREA_OTHERS), HOST_BASE,          KEY_IOVA};
    uint32_t r = take(in, 1);
    uint32_t offset = r / 8 % 4 == 0 ? take(in, 2) : 0;

    return r < 250 ? bases[r % ARRAY_SIZE(bases)] + offset : take(in, 4) * UINT64_C(0x100010001);
}

/* The base of what the key or region is about, mostly. */
static void fill_reth(struct input *in, struct pkt *made)
{
    uint32_t r = take(in, 1);

    made->rkey = a_key(in);
    made->va = an_addr(in);
    if (r < 200) { /* a pair that fits */
        const uint32_t rkeys[] = {all_mr->rkey, read_mr->rkey, host_mr->rkey, key->value};
        const uint64_t vas[] = {addr_at(AREA_ALL), addr_at(AREA_READ), HOST_BASE, KEY_IOVA};
        made->rkey = rkeys[r % 4];
        made->va = vas[r % 4] + (r / 4 % 2 == 0 ? 0 : take(in, 1));
    }
    made->dma_len = r % 16 == 15 ? take(in, 4) : r % 2 == 0 ? made->len : take(in, 2) % 5000;
}

static const uint8_t opcodes[] = {
    SEND_FIRST,    SEND_MIDDLE,    SEND_LAST,     SEND_LAST_IMM, SEND_ONLY,
    SEND_ONLY_IMM, WRITE_FIRST,    WRITE_MIDDLE,  WRITE_LAST,    WRITE_LAST_IMM,
    WRITE_ONLY,    WRITE_ONLY_IMM, READ_REQUEST,  READ_REQUEST,  READ_FIRST,
    READ_MIDDLE,   READ_LAST,      READ_ONLY,     ACKNOWLEDGE,   ACKNOWLEDGE,
    CNP,           SEND_LAST_INV,  SEND_ONLY_INV, UD_SEND_ONLY,  UD_SEND_ONLY_IMM,
};

static bool is_response(uint8_t opcode)
{
    return opcode >= READ_FIRST && opcode <= ACKNOWLEDGE;
}

static uint32_t a_length(struct input *in, uint8_t opcode, uint32_t mtu)
{
    uint32_t r = take(in, 1);
    bool full = opcode == SEND_FIRST || opcode == SEND_MIDDLE || opcode == WRITE_FIRST ||
                opcode == WRITE_MIDDLE || opcode == READ_FIRST || opcode == READ_MIDDLE;

    if (opcode == READ_REQUEST || opcode == ACKNOWLEDGE) {
        return r == 255 ? 4 : 0;
    }
    return r < 200 ? (full ? mtu : r % (mtu + 1)) : take(in, 2) % 1200;
}

static void send_packet(struct input *in)
{
    static uint8_t frame[PKT_FRAME_MAX];
    struct rdma_qp *qp = world_qps[take(in, 1) % QPS];
    struct rdma_qp_info info = rig_info(qp);
    uint32_t mtu = qp->type != RDMA_QP_RC ? 1024 : 128u << info.attr.path_mtu;
    uint32_t r = take(in, 1);
    uint8_t opcode = r < 250 ? opcodes[r % sizeof(opcodes)] : (uint8_t)take(in, 1);
    bool response = is_response(opcode);
    struct pkt *made = pkt((enum op)opcode, 0, a_length(in, opcode, mtu));
    uint32_t how = take(in, 1);

    made->psn = PKT_PSN(psn_near(in, response ? info.sq_una_psn : info.rq_psn));
    made->is_ipv6 = qp == world_qps[4];
    made->qpn = qp->num;
    made->imm = a_key(in);
    made->syndrome = how % 4 == 0 ? (uint8_t)take(in, 1) : ACK_SYNDROME;
    made->msn = take(in, 1);
    made->qkey = how % 32 == 31 ? 1 : 0x11112222;
    made->src_qpn = 0x1234;
    made->tos = how % 8 == 7 ? 3 : 2;
    made->ack_req = how % 3 != 0;
    if (how >= 240) {
        made->pad = (uint8_t)(take(in, 1) % 4);
    }
    fill_reth(in, made);
    uint32_t len = pkt_build(made, frame);
    if (how % 16 == 3) { /* damage behind Ethernet and IP addresses */
        uint32_t damaged = 34 + take(in, 2) % (len - 34);
        frame[damaged] ^= (uint8_t)(1 + take(in, 1) % 255);
        if (how != 3) {
            pkt_seal(frame, len);
        }
    }
    wire_inject(rig.wire, 0, frame, len);
}

/* --- work ------------------------------------------------------------------------------------- */

static uint64_t an_id(void)
{
    ASSERT(next_id < IDS_MAX);
    is_pending[next_id] = true;
    return next_id++;
}

static struct rdma_sge a_sge(struct input *in)
{
    uint32_t r = take(in, 1);
    const struct rdma_sge sges[] = {
        {.addr = addr_at(AREA_LOCAL), .lkey = local_mr->lkey},
        {.addr = addr_at(AREA_ALL), .lkey = all_mr->lkey},
        {.addr = HOST_BASE, .lkey = host_mr->lkey},
        {.addr = KEY_IOVA, .lkey = key->value},
        {.addr = addr_at(AREA_READ), .lkey = read_mr->lkey},
        {.addr = addr_at(AREA_OTHERS), .lkey = others_mr->lkey},
    };
    struct rdma_sge sge = sges[r < 200 ? r % 4 : r % ARRAY_SIZE(sges)];

    sge.addr += r % 8 == 7 ? take(in, 2) : 0;
    sge.len_bytes = take(in, 2) % (r % 16 == 15 ? 0x10000 : 3000);
    return sge;
}

static void post_a_send(struct input *in)
{
    struct rdma_qp *qp = world_qps[take(in, 1) % QPS];
    uint32_t r = take(in, 1);
    struct rdma_sge sges[4];
    struct rdma_send_wr wr = {.wr_id = an_id(),
                              .sges = sges,
                              .sge_count = (uint8_t)(r / 8 % 5),
                              .opcode = (uint8_t)(r % 7), /* BIND: below */
                              .flags = (uint8_t)(take(in, 1) & 0x0f),
                              .imm = a_key(in)};

    for (uint32_t i = 0; i < 4; i++) {
        sges[i] = a_sge(in);
        if ((wr.flags & RDMA_SEND_INLINE) != 0) {
            sges[i].addr = addr_at(AREA_ALL);
            sges[i].len_bytes %= 20;
        }
    }
    if (qp->type == RDMA_QP_UD) {
        wr.ud.ah = ah;
        wr.ud.remote_qpn = 0x1234;
        wr.ud.remote_qkey = take(in, 4);
    } else if (r == 255) {
        wr.opcode = RDMA_WR_BIND;
        wr.sge_count = 0;
        wr.flags &= (uint8_t)~RDMA_SEND_INLINE;
        wr.bind.key = key;
        wr.bind.ref = &key_ref;
        wr.bind.iova = KEY_IOVA;
        wr.bind.access = RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE;
    } else {
        wr.rdma.remote_addr = REMOTE_VA;
        wr.rdma.rkey = REMOTE_RKEY;
    }
    if (rdma_post_send(qp, &wr, NULL) != STATUS_OK) {
        is_pending[wr.wr_id] = false;
    }
}

static void post_a_recv(struct input *in)
{
    struct rdma_qp *qp = world_qps[take(in, 1) % QPS];
    struct rdma_sge sges[4];
    struct rdma_recv_wr wr = {
        .wr_id = an_id(), .sges = sges, .sge_count = (uint8_t)(take(in, 1) % 5)};

    for (uint32_t i = 0; i < 4; i++) {
        sges[i] = a_sge(in);
    }
    enum status status =
        qp->srq != NULL ? rdma_srq_post(srq, &wr, NULL) : rdma_post_recv(qp, &wr, NULL);
    if (status != STATUS_OK) {
        is_pending[wr.wr_id] = false;
    }
}

static void change_state(struct input *in)
{
    uint32_t i = take(in, 1) % QPS;
    uint32_t r = take(in, 1);

    if (r < 100) { /* a new connection */
        wire_hold_reap(rig.wire, false);
        rig_qp_destroy(world_qps[i]);
        check();
        connect_qp(i);
    } else {
        struct rdma_qp_attr attr = rig_qp_attr(NULL);
        const uint32_t masks[] = {RDMA_QP_STATE,  RDMA_QP_STATE | RDMA_QP_ACCESS,
                                  RTR_MASK,       RTS_MASK,
                                  RDMA_QP_ACCESS, RDMA_QP_STATE | RDMA_QP_QKEY};
        attr.state = (uint8_t)(r % 7);
        attr.access = (uint8_t)(r % 8);
        (void)!rdma_qp_modify(world_qps[i], &attr, masks[r / 7 % ARRAY_SIZE(masks)]);
    }
}

static void change_memory(struct input *in)
{
    uint32_t r = take(in, 1);

    switch (r % 4) {
    case 0:
        rdma_key_invalidate(key);
        break;
    case 1:
        bind_key();
        break;
    case 2:
        view.window_count = r / 4 % 2;
        view.windows[0].len_bytes = r / 4 % 2 == 0 ? 0 : REGION_BYTES;
        break;
    default:
        view.windows[0].writable = r / 4 % 2 != 0;
        break;
    }
}

static void step(struct input *in)
{
    uint32_t op = take(in, 1);

    switch (op % 16) {
    case 0:
    case 1:
        post_a_send(in);
        break;
    case 2:
    case 3:
        post_a_recv(in);
        break;
    case 4:
        change_state(in);
        break;
    case 5:
        change_memory(in);
        break;
    case 6:
        wire_hold_reap(rig.wire, op / 16 % 2 != 0);
        break;
    case 7:
        rig_advance((uint64_t)(1 + op / 16) * 400 * NS_PER_US);
        break;
    default:
        send_packet(in);
        break;
    }
    if (op / 16 % 4 != 0) { /* else it waits for the next: batches */
        rig_turn();
        check();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct input in = {.bytes = bytes, .left = len};

    if (rig.dev == NULL) {
        open_all(true);
        destroy_all();
    }
    begin();
    for (uint32_t i = 0; i < 400 && in.left > 0; i++) {
        step(&in);
    }
    end();
    return 0;
}
