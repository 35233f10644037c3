#include "tests/unit/rdma_cm/pair.h"

uint32_t pair_random(struct pair *pair, uint32_t below)
{
    pair->seed ^= pair->seed << 13;
    pair->seed ^= pair->seed >> 17;
    pair->seed ^= pair->seed << 5;
    return pair->seed % below;
}

static bool happens(struct pair *pair, uint32_t of_thousand)
{
    return pair_random(pair, 1000) < of_thousand;
}

/* --- wire ---------------------------------------------------------------------------------- */

static void fly(struct pair *pair, uint8_t to, const struct fake_sent *sent)
{
    for (uint32_t i = 0; i < PAIR_FLIGHTS; i++) {
        if (!pair->flights[i].is_full) {
            pair->flights[i].mad = sent->mad;
            pair->flights[i].src = pair->sides[1 - to].us;
            pair->flights[i].to = to;
            pair->flights[i].is_full = true;
            pair->flights[i].due_ns =
                clock_now_ns() +
                (pair->delay_max_ns == 0
                     ? 0
                     : pair_random(pair, (uint32_t)(pair->delay_max_ns / 1000)) * 1000ull);
            return;
        }
    }
    fail_msg("the wire is full");
}

static void on_wire(struct fake *fake, const struct fake_sent *sent)
{
    struct pair *pair = fake->wire_ctx;
    uint8_t to = fake == &pair->sides[0].fake ? 1 : 0;

    assert_memory_equal(&sent->to, &pair->sides[to].us, sizeof(sent->to));
    if (!happens(pair, pair->loss)) {
        fly(pair, to, sent);
    }
    if (happens(pair, pair->duplicates)) {
        fly(pair, to, sent);
    }
}

static void land(struct pair *pair)
{
    for (uint32_t i = 0; i < PAIR_FLIGHTS; i++) {
        if (pair->flights[i].is_full && pair->flights[i].due_ns <= clock_now_ns()) {
            struct rig *rig = &pair->sides[pair->flights[i].to];
            pair->flights[i].is_full = false;
            fake_inject(&rig->fake, &pair->flights[i].src, &rig->us, &pair->flights[i].mad,
                        MAD_BYTES);
        }
    }
}

void pair_pass(struct pair *pair, uint64_t duration_ns)
{
    uint64_t end = clock_now_ns() + duration_ns;

    do {
        land(pair);
        for (uint32_t i = 0; i < 3; i++) {
            (void)sched_turn();
        }
        native_clock_advance(NS_PER_MS);
    } while (clock_now_ns() < end);
}

/* --- consumers ----------------------------------------------------------------------------- */

static struct pair_end *end_get(struct pair *pair, struct rig *rig)
{
    for (uint32_t i = 0; i < PAIR_ENDS; i++) {
        struct pair_end *end = &pair->ends[i];
        if (end->id == NULL) {
            memset(end, 0, sizeof(*end));
            end->pair = pair;
            end->rig = rig;
            fake_qp_init(&rig->fake, &end->qp, 0x100 + pair->next_qpn++);
            return end;
        }
    }
    return NULL;
}

void pair_destroy(struct pair_end *end)
{
    rdma_cm_destroy(end->id);
    end->id = NULL;
    memset(&end->qp, 0xee, sizeof(end->qp)); /* the QP goes, too */
}

/* Whose QP the other side believes to be connected to; NULL: it has gone. */
static struct pair_end *other_of(const struct pair_end *end)
{
    const struct rdma_qp_attr *rtr = &end->qp.moves[1].attr;

    for (uint32_t i = 0; i < PAIR_ENDS; i++) {
        struct pair_end *other = &end->pair->ends[i];
        if (other->id != NULL && other->rig != end->rig && other->qp.qp.num == rtr->dest_qpn) {
            return other;
        }
    }
    return NULL;
}

static void check_established(struct pair_end *end)
{
    struct pair_end *other = other_of(end);

    assert_int_equal(end->qp.qp.state, RDMA_QP_RTS);
    assert_int_equal(end->qp.move_count, 3);
    if (other == NULL || other->qp.move_count < 3) {
        return;
    }
    const struct rdma_qp_attr *rtr = &end->qp.moves[1].attr;
    const struct rdma_qp_attr *rts = &end->qp.moves[2].attr;
    assert_int_equal(other->qp.moves[1].attr.dest_qpn, end->qp.qp.num);
    assert_int_equal(other->qp.moves[1].attr.rq_psn, rts->sq_psn);
    assert_int_equal(other->qp.moves[2].attr.sq_psn, rtr->rq_psn);
    assert_int_equal(other->qp.moves[1].attr.path_mtu, rtr->path_mtu);
    assert_true(rts->max_rd_atomic <= other->qp.moves[1].attr.max_dest_rd_atomic);
}

static void on_request(struct pair *pair, struct rdma_cm_id *id, const struct rdma_cm_event *event);

static void on_end_event(struct pair_end *end, const struct rdma_cm_event *event)
{
    struct pair *pair = end->pair;
    struct rdma_cm_param param = rig_param(end->rig);

    assert_ptr_equal(end->rig->fake.device.cm_ops, end->id->device->cm_ops);
    param.qp = &end->qp.qp;
    switch (event->type) {
    case RDMA_CM_EVENT_RESOLVED:
        assert_false(end->was_resolved);
        end->was_resolved = true;
        assert_int_equal(rdma_cm_connect(end->id, &param), STATUS_OK);
        break;
    case RDMA_CM_EVENT_ESTABLISHED:
        assert_false(end->was_established || end->is_over);
        end->was_established = true;
        pair->established[end->is_active ? 0 : 1]++;
        if (end->id->state == RDMA_CM_ESTABLISHED) {
            check_established(end);
        }
        break;
    case RDMA_CM_EVENT_REJECTED:
    case RDMA_CM_EVENT_UNREACHABLE:
        assert_true(end->is_active && !end->was_established && !end->is_over);
        *(event->type == RDMA_CM_EVENT_REJECTED ? &pair->rejected : &pair->unreachable) += 1;
        end->is_over = true;
        break;
    case RDMA_CM_EVENT_DISCONNECTED:
        assert_true(!end->is_over && (end->was_established || !end->is_active));
        assert_true(end->qp.qp.state == RDMA_QP_ERR || end->qp.qp.state == RDMA_QP_RESET);
        pair->disconnected++;
        end->is_over = true;
        break;
    case RDMA_CM_EVENT_TIMEWAIT_EXIT:
        assert_true(end->is_over);
        pair_destroy(end);
        return;
    case RDMA_CM_EVENT_REQUEST:
    default:
        fail();
    }
    bool is_dead = end->id->state == RDMA_CM_DEAD;
    if ((is_dead && end->is_over) || happens(pair, pair->surprises)) {
        pair_destroy(end);
    }
}

static void on_event(struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    if (event->type == RDMA_CM_EVENT_REQUEST) {
        on_request(event->listener->ctx, id, event);
    } else {
        on_end_event(id->ctx, event);
    }
}

static void on_request(struct pair *pair, struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    struct rig *rig = CONTAINER_OF(id->device, struct rig, fake.device);
    struct pair_end *end = end_get(pair, rig);

    assert_memory_equal(event->private_data, "hello", 5);
    if (end == NULL || happens(pair, pair->rejects)) {
        assert_int_equal(rdma_cm_reject(id, "no", 2), STATUS_OK);
        rdma_cm_destroy(id);
        return;
    }
    end->id = id;
    id->ctx = end;
    if (happens(pair, pair->surprises)) {
        pair_destroy(end);
        return;
    }
    struct rdma_cm_param param = rig_param(rig);
    param.qp = &end->qp.qp;
    assert_int_equal(rdma_cm_accept(id, &param), STATUS_OK);
}

struct pair_end *pair_connect(struct pair *pair, uint32_t side)
{
    struct rig *rig = &pair->sides[side];
    struct pair_end *end = end_get(pair, rig);

    if (end == NULL) {
        return NULL;
    }
    end->is_active = true;
    enum status status = rdma_cm_resolve(&rig->fake.device, &pair->sides[1 - side].us, RIG_PORT,
                                         on_event, end, &end->id);
    assert_true(status == STATUS_OK || status == STATUS_NO_SPACE);
    if (status != STATUS_OK) {
        end->id = NULL;
        return NULL;
    }
    return end;
}

/* --- all ----------------------------------------------------------------------------------- */

void pair_init(struct pair *pair, uint32_t seed)
{
    struct net_addr any = {{0}};
    /* 67 ms to answer, 17 ms on the way: what takes minutes else takes seconds. */
    struct rdma_cm_soft_config config = {
        .response_timeout = 14, .packet_lifetime = 12, .ack_delay = 10, .max_retries = 8};

    memset(pair, 0, sizeof(*pair));
    pair->seed = seed * 2654435761u + 1;
    rig_start();
    for (uint32_t i = 0; i < 2; i++) {
        struct rig *rig = &pair->sides[i];
        rig_init(rig, (uint8_t)(i + 1), &config);
        rig->fake.random ^= seed * 7919;
        rig->fake.wire = on_wire;
        rig->fake.wire_ctx = pair;
        assert_int_equal(rdma_cm_listen(&rig->fake.device, &any, RIG_PORT, 16, on_event, pair,
                                        &pair->listeners[i]),
                         STATUS_OK);
    }
}

void pair_end(struct pair *pair)
{
    for (uint32_t i = 0; i < PAIR_ENDS; i++) {
        if (pair->ends[i].id != NULL) {
            pair_destroy(&pair->ends[i]);
        }
    }
    for (uint32_t i = 0; i < 2; i++) {
        rdma_cm_destroy(pair->listeners[i]);
    }
    for (uint32_t i = 0; i < 3000; i++) {
        if (rdma_cm_soft_is_quiet(&pair->sides[0].fake.device) &&
            rdma_cm_soft_is_quiet(&pair->sides[1].fake.device)) {
            break;
        }
        pair_pass(pair, 10 * NS_PER_MS);
    }
    /* What still flies lands; the answers to it, too. */
    pair_pass(pair, 200 * NS_PER_MS);
    for (uint32_t i = 0; i < 2; i++) {
        rig_end(&pair->sides[i]);
    }
}
