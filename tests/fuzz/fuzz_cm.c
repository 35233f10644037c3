/*
 * Fuzzes CM: the bytes are a peer that sends whatever it likes from any address, answers what it
 * was sent with some bytes changed; a consumer that calls in any order, neighbours that come and
 * go, sends that fail, and time.
 *
 * What must hold: no failed assertion (the fake device has many), no stray access, events only in
 * an order that makes sense, and in the end nothing is left.
 */
#include "tests/unit/rdma_cm/fake.c"

#include <stdlib.h>
#include "hal/clock.h"
#include "hal/native/native.h"

#define IDS       12
#define ID_COUNT  16
#define STEPS_MAX 200

struct input {
    const uint8_t *bytes;
    size_t left;
};

struct holder {
    struct rdma_cm_id *id; /* NULL: free */
    struct fake_qp qp;
    uint32_t seen; /* events, 1 << type */
};

static struct fake fake;
static struct holder holders[IDS];
static struct input input;

static uint64_t take(uint32_t count)
{
    uint64_t value = 0;

    for (uint32_t i = 0; i < count && input.left > 0; i++) {
        value |= (uint64_t)*input.bytes++ << 8 * i;
        input.left--;
    }
    return value;
}

static struct holder *take_holder(void)
{
    return &holders[take(1) % IDS];
}

static void destroy_qp(struct holder *holder)
{
    if (holder->qp.qp.pd != NULL) {
        rdma_cm_soft_qp_gone(&fake.device, &holder->qp.qp);
        memset(&holder->qp, 0xee, sizeof(holder->qp));
    }
}

/* The QP goes before the id or after it. */
static void drop(struct holder *holder)
{
    if (take(1) % 2 == 0) {
        destroy_qp(holder);
    }
    rdma_cm_destroy(holder->id);
    holder->id = NULL;
    memset(&holder->qp, 0xee, sizeof(holder->qp));
}

/* --- events -------------------------------------------------------------------------------- */

static void on_event(struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    struct holder *holder = NULL;
    uint32_t before = UINT32_MAX;

    for (uint32_t i = 0; i < IDS; i++) {
        if (holders[i].id == (event->type == RDMA_CM_EVENT_REQUEST ? NULL : id)) {
            holder = &holders[i];
        }
    }
    if (event->type == RDMA_CM_EVENT_REQUEST) {
        ASSERT(event->private_bytes == RDMA_CM_REQ_PRIVATE_BYTES && event->listener != NULL);
        if (holder == NULL) {
            rdma_cm_destroy(id);
            return;
        }
        memset(holder, 0, sizeof(*holder));
        holder->id = id;
        before = 0;
    }
    ASSERT(holder != NULL); /* an id that was destroyed has no events */
    if (before == UINT32_MAX) {
        before = holder->seen;
    }
    ASSERT((before & 1u << event->type) == 0);
    holder->seen |= 1u << event->type;
    if (event->type == RDMA_CM_EVENT_ESTABLISHED) {
        ASSERT((before & (1u << RDMA_CM_EVENT_DISCONNECTED | 1u << RDMA_CM_EVENT_REJECTED)) == 0);
    }
    if (take(1) % 16 == 0) {
        drop(holder);
    }
}

/* --- the consumer -------------------------------------------------------------------------- */

static struct rdma_cm_param take_param(struct holder *holder)
{
    static const uint8_t data[256] = {1, 2, 3};
    uint32_t bytes = (uint32_t)take(1);

    return (struct rdma_cm_param){
        .qp = take(1) % 16 == 0 ? NULL : &holder->qp.qp,
        .private_data = data,
        .private_bytes = bytes,
        .responder_resources = (uint8_t)take(1),
        .initiator_depth = (uint8_t)take(1),
        .retry_count = (uint8_t)(take(1) % 9),
        .rnr_retry_count = 7,
    };
}

static void call(void)
{
    struct holder *holder = take_holder();
    uint8_t what = (uint8_t)(take(1) % 8);
    struct net_addr any = {{0}};
    struct net_addr peer = fake_ipv4((uint8_t)(take(1) % 4));
    enum status status = STATUS_OK;

    if (holder->id == NULL) {
        memset(holder, 0, sizeof(*holder));
        fake_qp_init(&fake, &holder->qp, 2 + (uint32_t)take(1) % 64);
        if (what < 3) {
            status = rdma_cm_listen(&fake.device, &any, (uint16_t)take(1), 4, on_event, NULL,
                                    &holder->id);
        } else {
            status = rdma_cm_resolve(&fake.device, &peer, (uint16_t)take(1), on_event, NULL,
                                     &holder->id);
        }
        holder->id = status == STATUS_OK ? holder->id : NULL;
        return;
    }
    if (holder->qp.qp.pd == NULL) {
        fake_qp_init(&fake, &holder->qp, 2 + (uint32_t)take(1) % 64);
    }
    struct rdma_cm_param param = take_param(holder);
    switch (what) {
    case 0:
        status = rdma_cm_qp_init(holder->id, &holder->qp.qp, 0);
        break;
    case 1:
    case 2:
        status = rdma_cm_connect(holder->id, &param);
        break;
    case 3:
    case 4:
        status = rdma_cm_accept(holder->id, &param);
        break;
    case 5:
        status = rdma_cm_reject(holder->id, param.private_data, param.private_bytes);
        break;
    case 6:
        status = rdma_cm_disconnect(holder->id);
        break;
    default:
        drop(holder);
        return;
    }
    /* A QP in a wrong state, or moved in vain, is not used again. */
    if (status != STATUS_OK && holder->id->qp == NULL) {
        fake_qp_init(&fake, &holder->qp, holder->qp.qp.num);
    }
}

/* --- the peer ------------------------------------------------------------------------------ */

static void plausible_req(struct cm_mad *mad, const struct net_addr *src)
{
    struct cm_ip_header ip = {.ip_version = 0x40};

    mad->req.service_id = be64_make(CM_IP_SERVICE_ID(take(1)));
    mad->req.local_comm_id = be32_make((uint32_t)take(1));
    mad->req.local_qpn = be24_make(2 + (uint32_t)take(1) % 16);
    mad->req.pkey = be16_make(0xffff);
    mad->req.mtu = 3 << 4;
    mad->req.max_retries = (uint8_t)(take(1) << 4);
    mad->req.local_response = (uint8_t)take(1);
    memcpy(mad->req.primary_local_gid, src, 16);
    memcpy(mad->req.primary_remote_gid, &fake.addrs[1].addr, 16);
    memcpy(ip.src_addr + 12, src->bytes + 12, 4);
    memcpy(ip.dst_addr + 12, fake.addrs[1].addr.bytes + 12, 4);
    memcpy(mad->req.private_data, &ip, sizeof(ip));
}

static void message(void)
{
    uint16_t attribute = (uint16_t)(CM_ATTR_REQ + take(1) % 8);
    struct net_addr src = fake_ipv4((uint8_t)(take(1) % 4));
    uint32_t recent = fake.sent_count < FAKE_SENT ? fake.sent_count : FAKE_SENT;
    struct cm_mad mad;

    memset(&mad, 0, sizeof(mad));
    mad.header = (struct mad_header){.base_version = 1,
                                     .mgmt_class = 7,
                                     .class_version = 2,
                                     .method = 3,
                                     .tid = be64_make(take(1)),
                                     .attribute_id = be16_make(attribute)};
    if (attribute == CM_ATTR_REQ) {
        plausible_req(&mad, &src);
    } else if (recent > 0) { /* an answer to something recent */
        const struct fake_sent *to =
            &fake.sent[(fake.sent_count - 1 - (uint32_t)take(1) % recent) % FAKE_SENT];
        src = to->to;
        mad.ids.remote_comm_id = to->mad.ids.local_comm_id;
        mad.ids.local_comm_id = to->mad.ids.remote_comm_id;
        if (attribute == CM_ATTR_REP) {
            mad.ids.local_comm_id = be32_make((uint32_t)take(1));
            mad.rep.local_qpn = be24_make(2 + (uint32_t)take(1) % 16);
        } else if (attribute == CM_ATTR_DREQ) {
            mad.dreq.remote_qpn = be24_make(2 + (uint32_t)take(1) % 64);
        }
    }
    for (uint32_t i = (uint32_t)take(1) % 4; i > 0; i--) {
        uint32_t at = (uint32_t)take(1);
        ((uint8_t *)&mad)[at] = (uint8_t)take(1);
    }
    uint32_t len = take(1) == 0 ? (uint32_t)take(2) % 512 : MAD_BYTES;
    fake_inject(&fake, &src, &fake.addrs[1].addr, &mad, len);
}

static void world(void)
{
    switch (take(1) % 6) {
    case 0:
        fake.ah_state = (uint8_t)(NET_PATH_RESOLVING + take(1) % 3);
        break;
    case 1:
        fake_ah_move(&fake, take(1) % 2 == 0 ? NET_PATH_READY : NET_PATH_FAILED);
        break;
    case 2:
        fake.ah_status = take(1) % 2 == 0 ? STATUS_OK : STATUS_NO_SPACE;
        break;
    case 3:
        fake.modify_status = take(1) % 2 == 0 ? STATUS_OK : STATUS_INVALID;
        fake.modify_state = (uint8_t)(RDMA_QP_INIT + take(1) % 3);
        break;
    case 4:
        fake.holds_sends = !fake.holds_sends;
        fake_release(&fake);
        break;
    default: {
        struct holder *holder = take_holder();
        if (holder->id != NULL && holder->qp.qp.pd != NULL) {
            rdma_cm_soft_comm_est(&fake.device, &holder->qp.qp);
        }
        break;
    }
    }
}

/* --- a run --------------------------------------------------------------------------------- */

static void turn(void)
{
    for (uint32_t i = 0; i < 3; i++) {
        (void)sched_turn();
    }
}

static void step(void)
{
    switch (take(1) % 8) {
    case 0:
    case 1:
    case 2:
        message();
        break;
    case 3:
    case 4:
        call();
        break;
    case 5:
        world();
        break;
    case 6:
        native_clock_advance(take(2) * NS_PER_MS / 4);
        turn();
        break;
    default:
        turn();
        break;
    }
}

static void finish(void)
{
    fake.holds_sends = false;
    fake_release(&fake);
    fake.ah_status = STATUS_OK;
    fake.ah_state = NET_PATH_READY;
    fake_ah_move(&fake, NET_PATH_FAILED);
    for (uint32_t i = 0; i < 1000 && !rdma_cm_soft_is_quiet(&fake.device); i++) {
        for (uint32_t j = 0; j < IDS; j++) {
            if (holders[j].id != NULL) {
                drop(&holders[j]);
            }
        }
        native_clock_advance(NS_PER_S);
        turn();
    }
    ASSERT(rdma_cm_soft_is_quiet(&fake.device));
    ASSERT(fake.ah_count == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input = (struct input){data, size};
    memset(holders, 0, sizeof(holders));
    native_clock_set(NS_PER_S);
    sched_init(1, SCHED_IDLE_POLL);
    (void)sched_turn();
    fake_init(&fake, 2);
    struct rdma_cm_soft_config config = fake_config(&fake, ID_COUNT);
    uint64_t bytes = rdma_cm_soft_memory_bytes(&fake.device, &config);
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    ASSERT(memory != NULL);
    ASSERT(rdma_cm_soft_init(memory, &fake.device, &config) == STATUS_OK);
    for (uint32_t i = 0; i < STEPS_MAX && input.left > 0; i++) {
        step();
    }
    finish();
    sched_poller_remove(&cm_of(&fake.device)->poller);
    free(memory);
    return 0;
}
