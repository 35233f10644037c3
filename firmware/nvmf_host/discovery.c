/*
 * Discovery: asks a discovery service for its log, and the services that it refers to for theirs;
 * one after the other, each over an admin queue of its own that lasts as long as the question.
 * Beside associations, on core 0.
 *
 * A log that changes while it is read is read again; entries that were told already are not told
 * twice. Leaves out: persistent discovery connections and their events, transports but RDMA.
 *
 * Source: NVMe over Fabrics 1.1, section 5; figures 37 and 38.
 */
#include "base/log.h"
#include "nvmf_host/ctrl_priv.h"

#define SERVICES      8
#define READS         3   /* of one log that changes meanwhile */
#define ENTRIES_MAX   512 /* of all logs together */
#define STEP_NS       (3 * NS_PER_S)
#define READY_NS      (4 * NS_PER_S)
#define ENTRY_BYTES   ((uint32_t)sizeof(struct nvmf_discovery_entry))
#define PIECE_ENTRIES (NVMF_DATA_BYTES / ENTRY_BYTES)
#define TIMEOUT_MS    10000u
#define CODE_RECFMT   1 /* of NVMF_FAIL_PROTOCOL */
#define CODE_RESTLESS 2

enum state {
    OPENING,
    ENABLE,
    HEADER,
    ENTRIES,
    CHECK, /* the header again */
    CLOSING,
    OVER,
};

struct service {
    struct net_addr addr;
    uint16_t port;
    uint8_t depth;
};

struct discovery {
    struct nvmf_discovery_config config;
    struct nvmf_target target;
    struct nvmf_queue queue;
    struct nvmf_admin admin;
    struct timer timer;
    struct msg wake_msg;
    bool is_waking;
    enum state state;
    enum nvmf_queue_state queue_state; /* CLOSED, OPEN, BROKEN as told; RESOLVE: not yet */
    uint64_t end_ns;
    uint64_t ready_end_ns;
    uint64_t timer_ns;
    enum nvmf_fail fail; /* of this service */
    uint32_t code;
    enum nvmf_fail first_fail; /* of the one that was asked for */
    uint32_t first_code;
    struct service services[SERVICES];
    uint32_t service_count;
    uint32_t service_index;
    uint64_t genctr;
    uint64_t entry_count;
    uint64_t entry_index;
    uint32_t read_count;
    uint64_t told[ENTRIES_MAX]; /* hashes */
    uint32_t told_count;
};

static struct discovery *current;

static void wake(struct discovery *d)
{
    if (!d->is_waking) {
        d->is_waking = true;
        msg_send(0, &d->wake_msg);
    }
}

static void wake_at(struct discovery *d, uint64_t at_ns)
{
    d->timer_ns = min_u64(d->timer_ns, at_ns);
}

static enum state give_up(struct discovery *d, enum nvmf_fail fail, uint32_t code)
{
    d->fail = fail;
    d->code = code;
    return CLOSING;
}

/* --- entries -------------------------------------------------------------------------------- */

static bool add_service(struct discovery *d, const struct net_addr *addr, uint16_t port,
                        uint8_t depth)
{
    for (uint32_t i = 0; i < d->service_count; i++) {
        if (net_addr_equal(&d->services[i].addr, addr) && d->services[i].port == port) {
            return true;
        }
    }
    if (d->service_count == SERVICES) {
        return false;
    }
    d->services[d->service_count++] = (struct service){.addr = *addr, .port = port, .depth = depth};
    return true;
}

/* 0: not a port. */
static uint16_t parse_port(const char *text)
{
    uint32_t port = 0;

    if (*text == '\0') {
        return NVMF_RDMA_PORT;
    }
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') {
            return 0;
        }
        port = port * 10 + (uint32_t)(*text - '0');
        if (port > 0xffff) {
            return 0;
        }
    }
    return (uint16_t)port;
}

static void follow(struct discovery *d, const struct nvmf_discovery_entry *entry)
{
    struct net_addr addr;
    uint16_t port = parse_port(entry->trsvcid);
    uint8_t depth = d->services[d->service_index].depth;

    if (entry->subtype != NVMF_SUBTYPE_REFERRAL || entry->trtype != NVMF_TRTYPE_RDMA) {
        return;
    }
    if (port == 0 || !net_addr_parse(entry->traddr, &addr)) {
        LOG_LIMITED(WARN, "nvmf: discovery: a referral to nowhere: %s port %s", entry->traddr,
                    entry->trsvcid);
    } else if (!add_service(d, &addr, port, (uint8_t)(depth + 1))) {
        LOG_LIMITED(WARN, "nvmf: discovery: the referral to %s is one too many", entry->traddr);
    }
}

/* False: it was told before, or there is no room to remember it. */
static bool remember(struct discovery *d, const struct nvmf_discovery_entry *entry)
{
    const uint8_t *bytes = (const uint8_t *)entry;
    uint64_t hash = UINT64_C(0xcbf29ce484222325) + d->service_index;

    for (uint32_t i = 0; i < ENTRY_BYTES; i++) {
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
    }
    for (uint32_t i = 0; i < d->told_count; i++) {
        if (d->told[i] == hash) {
            return false;
        }
    }
    if (d->told_count == ENTRIES_MAX) {
        LOG_LIMITED(WARN, "nvmf: discovery: more than %d entries", ENTRIES_MAX);
        return false;
    }
    d->told[d->told_count++] = hash;
    return true;
}

static void strip(char *text, uint32_t len_bytes)
{
    nvmf_text_copy(text, text, len_bytes - 1);
}

static void tell(struct discovery *d, struct nvmf_discovery_entry *entry)
{
    strip(entry->trsvcid, sizeof(entry->trsvcid));
    strip(entry->subnqn, sizeof(entry->subnqn));
    strip(entry->traddr, sizeof(entry->traddr));
    if (remember(d, entry)) {
        d->config.found(entry, d->services[d->service_index].depth, d->config.ctx);
        follow(d, entry);
    }
}

/* --- states --------------------------------------------------------------------------------- */

/* True when a step is OK; else *next is where it leads. */
static bool is_ok(struct discovery *d, enum nvmf_step step, const struct nvmf_call *call,
                  enum state *next)
{
    if (step == NVMF_STEP_ERROR) {
        *next = give_up(d, NVMF_FAIL_COMMAND_FAILED, NVME_STATUS_CODE(call->cmd.status));
    } else if (step == NVMF_STEP_LOST) {
        *next = give_up(d, NVMF_FAIL_COMMAND_TIMEOUT, call->cmd.sqe.opcode);
    }
    return step == NVMF_STEP_OK;
}

static void open_next(struct discovery *d)
{
    const struct service *service = &d->services[d->service_index];

    d->target.addr = service->addr;
    d->target.port = service->port;
    d->queue.params = (struct nvmf_queue_params){.entries = NVMF_ADMIN_ENTRIES,
                                                 .cntlid = NVMF_CNTLID_DYNAMIC,
                                                 .step_timeout_ns = STEP_NS,
                                                 .command_timeout_ns = STEP_NS};
    d->fail = NVMF_FAIL_NONE;
    d->code = 0;
    d->read_count = 0;
    d->state = OPENING;
    d->queue_state = NVMF_QUEUE_RESOLVE;
    nvmf_admin_reset(&d->admin);
    nvmf_queue_open(&d->queue);
}

static enum state enable(struct discovery *d, uint64_t now_ns)
{
    uint64_t look_ns;
    enum state next = ENABLE;
    enum nvmf_step step =
        nvmf_admin_set_cc(&d->admin, NVMF_CC_ENABLED, NVME_CSTS_RDY, NVME_CSTS_RDY, &look_ns);

    if (is_ok(d, step, &d->admin.property, &next)) {
        return HEADER;
    }
    if (now_ns >= d->ready_end_ns) {
        return give_up(d, NVMF_FAIL_NOT_READY, 0);
    }
    wake_at(d, min_u64(look_ns, d->ready_end_ns));
    return next;
}

static enum state header(struct discovery *d)
{
    enum state next = HEADER;

    if (!is_ok(d, nvmf_admin_get_log(&d->admin, NVMF_LOG_DISCOVERY, 0, ENTRY_BYTES), &d->admin.step,
               &next)) {
        return next;
    }
    const struct nvmf_discovery_header *log = (const struct nvmf_discovery_header *)d->admin.data;
    if (log->recfmt != 0) {
        return give_up(d, NVMF_FAIL_PROTOCOL, CODE_RECFMT);
    }
    d->genctr = log->genctr;
    d->entry_count = log->numrec;
    d->entry_index = 0;
    d->read_count++;
    return ENTRIES;
}

static enum state entries(struct discovery *d)
{
    enum state next = ENTRIES;

    if (d->entry_index >= d->entry_count || d->told_count == ENTRIES_MAX ||
        d->entry_index >= ENTRIES_MAX) {
        return CHECK;
    }
    uint32_t count = (uint32_t)min_u64(d->entry_count - d->entry_index, PIECE_ENTRIES);
    uint64_t offset_bytes = (d->entry_index + 1) * ENTRY_BYTES; /* behind the header */
    if (!is_ok(d,
               nvmf_admin_get_log(&d->admin, NVMF_LOG_DISCOVERY, offset_bytes, count * ENTRY_BYTES),
               &d->admin.step, &next)) {
        return next;
    }
    for (uint32_t i = 0; i < count; i++) {
        tell(d, (struct nvmf_discovery_entry *)d->admin.data + i);
    }
    d->entry_index += count;
    wake(d);
    return ENTRIES;
}

static enum state check(struct discovery *d)
{
    enum state next = CHECK;

    if (!is_ok(d, nvmf_admin_get_log(&d->admin, NVMF_LOG_DISCOVERY, 0, ENTRY_BYTES), &d->admin.step,
               &next)) {
        return next;
    }
    if (((const struct nvmf_discovery_header *)d->admin.data)->genctr == d->genctr) {
        return CLOSING;
    }
    return d->read_count < READS ? HEADER : give_up(d, NVMF_FAIL_PROTOCOL, CODE_RESTLESS);
}

/* The queue is CLOSED: what became of this service, and which one is next. */
static enum state closed(struct discovery *d)
{
    if (d->service_index == 0) {
        d->first_fail = d->fail;
        d->first_code = d->code;
    } else if (d->fail != NVMF_FAIL_NONE) {
        LOG_LIMITED(WARN, "nvmf: discovery: a service referred to: %s (code %u)",
                    nvmf_fail_text(d->fail), (unsigned)d->code);
    }
    if (++d->service_index >= d->service_count || sched_now_ns() >= d->end_ns) {
        return OVER;
    }
    open_next(d);
    return OPENING;
}

static enum state next_state(struct discovery *d, uint64_t now_ns)
{
    if (d->state < CLOSING) {
        if (d->queue_state == NVMF_QUEUE_BROKEN) {
            return CLOSING; /* fail was set with it */
        }
        if (now_ns >= d->end_ns) {
            return give_up(d, NVMF_FAIL_COMMAND_TIMEOUT, 0);
        }
    }
    switch (d->state) {
    case OPENING:
        d->ready_end_ns = now_ns + READY_NS;
        return d->queue_state == NVMF_QUEUE_OPEN ? ENABLE : OPENING;
    case ENABLE:
        return enable(d, now_ns);
    case HEADER:
        return header(d);
    case ENTRIES:
        return entries(d);
    case CHECK:
        return check(d);
    case CLOSING:
        return d->queue_state == NVMF_QUEUE_CLOSED ? closed(d) : CLOSING;
    case OVER:
        break;
    }
    return OVER;
}

static void finish(struct discovery *d)
{
    timer_cancel(&d->timer);
    nvmf_scratch_release(&d->admin.scratch);
    current = NULL;
    d->config.done(d->first_fail, d->first_code, d->config.ctx);
}

static void run(struct discovery *d)
{
    enum state next;

    d->timer_ns = d->end_ns;
    while ((next = next_state(d, sched_now_ns())) != d->state) { /* until it waits for something */
        d->state = next;
        if (next == CLOSING) {
            nvmf_queue_close(&d->queue, 0);
        }
    }
    if (d->state == OVER && !d->is_waking) {
        finish(d);
    } else if (d->state < CLOSING) {
        timer_arm(&d->timer, d->timer_ns);
    }
}

/* --- what wakes it -------------------------------------------------------------------------- */

static void on_wake(struct msg *msg)
{
    struct discovery *d = CONTAINER_OF(msg, struct discovery, wake_msg);

    d->is_waking = false;
    run(d);
}

static void on_timer(struct timer *timer)
{
    run(CONTAINER_OF(timer, struct discovery, timer));
}

static void on_admin_wake(struct nvmf_admin *admin)
{
    wake(CONTAINER_OF(admin, struct discovery, admin));
}

static void on_broken(struct nvmf_queue *queue, enum nvmf_fail fail, uint32_t code)
{
    struct discovery *d = queue->ctx;

    if (d->state < CLOSING) {
        d->queue_state = NVMF_QUEUE_BROKEN;
        d->fail = fail;
        d->code = code;
    }
    wake(d);
}

static void on_opened(struct nvmf_queue *queue, enum nvmf_fail fail, uint32_t code)
{
    struct discovery *d = queue->ctx;

    if (fail != NVMF_FAIL_NONE) {
        on_broken(queue, fail, code);
    } else if (d->state == OPENING) {
        d->queue_state = NVMF_QUEUE_OPEN;
    }
    wake(d);
}

static void on_closed(struct nvmf_queue *queue)
{
    struct discovery *d = queue->ctx;

    d->queue_state = NVMF_QUEUE_CLOSED;
    wake(d);
}

static void on_abort(struct nvmf_queue *queue, uint16_t cid)
{
    (void)queue; /* no block requests are here */
    (void)cid;
}

/* --- public --------------------------------------------------------------------------------- */

static uint64_t head_bytes(void)
{
    return align_up(sizeof(struct discovery), 4096);
}

uint64_t nvmf_discovery_memory_bytes(void)
{
    const struct nvmf_core *core = nvmf_core_find(0);

    return head_bytes() + 2 * NVMF_DATA_BYTES +
           nvmf_queue_memory_bytes(nvmf_core_device(core), NVMF_ADMIN_ENTRIES);
}

enum status nvmf_discover(void *memory, const struct nvmf_discovery_config *config)
{
    static const struct nvmf_queue_ops ops = {.opened = on_opened,
                                              .lost = on_broken,
                                              .closed = on_closed,
                                              .abort = on_abort,
                                              .stuck = on_broken};
    struct discovery *d = memory;
    uint8_t *rest = (uint8_t *)memory + head_bytes();
    struct nvmf_core *core = nvmf_core_find(0);
    uint64_t timeout_ms = config->timeout_ms != 0 ? config->timeout_ms : TIMEOUT_MS;

    if (current != NULL) {
        return STATUS_AGAIN;
    }
    if (core == NULL || config->fn >= LIMIT_FUNCTIONS || net_addr_is_zero(&config->addr) ||
        !nvmf_nqn_is_valid(config->hostnqn)) {
        return STATUS_INVALID;
    }
    d->config = *config;
    d->config.hostnqn = NULL; /* copied */
    d->target.fn = config->fn;
    memcpy(d->target.subnqn, NVMF_DISCOVERY_NQN, sizeof(NVMF_DISCOVERY_NQN));
    memcpy(d->target.hostnqn, config->hostnqn, strlen(config->hostnqn) + 1);
    memcpy(d->target.hostid, config->hostid, sizeof(d->target.hostid));
    d->admin = (struct nvmf_admin){.queue = &d->queue,
                                   .wake = on_admin_wake,
                                   .timeout_ns = STEP_NS,
                                   .scratch = {.memory = rest, .len_bytes = NVMF_DATA_BYTES},
                                   .data = rest + NVMF_DATA_BYTES};
    enum status status = nvmf_scratch_register(core, config->fn, &d->admin.scratch);
    if (status != STATUS_OK) {
        return status;
    }
    nvmf_queue_init(&d->queue, core, rest + 2 * NVMF_DATA_BYTES, NVMF_ADMIN_ENTRIES, &ops, d);
    d->queue.target = &d->target;
    timer_init(&d->timer, on_timer);
    d->wake_msg.fn = on_wake;
    d->end_ns = sched_now_ns() + timeout_ms * NS_PER_MS;
    (void)add_service(d, &config->addr, config->port != 0 ? config->port : NVMF_RDMA_PORT, 0);
    current = d;
    open_next(d);
    wake(d);
    return STATUS_OK;
}
