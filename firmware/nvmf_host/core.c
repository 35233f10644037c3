/*
 * Cores: memory, start, and the domains of tenants, which are made when a tenant's first queue or
 * scratch memory comes and go with the last. The turns: queue_run.c.
 */
#include "base/log.h"
#include "hal/cpu.h"
#include "nvmf_host/queue_priv.h"

#define COMMANDS_MAX 1024
/* Completions that the queues of a core may leave at once: of each association an admin queue and
 * an I/O queue of the default size. */
#define QUEUE_CQES (LIMIT_NVMF_CTRLS * (2 * 32 + 2 * 128))

static struct nvmf_core *_Atomic cores[LIMIT_CORES];

/* --- memory ------------------------------------------------------------------------------------
 */

struct layout {
    uint64_t bytes;
    uint8_t *memory; /* NULL: it only counts */
    struct nvmf_core *core;
    void *wire;
    uint64_t wire_bytes;
    void *capsules;
    void *hellos;
    void *responses;
    void *stage;
    void *stage_map;
    void *slots;
    void *keys;
    void *cq;
    void *srqs;
    uint64_t srq_bytes;
};

static void *cut(struct layout *layout, uint64_t bytes)
{
    void *piece = layout->memory == NULL ? NULL : layout->memory + layout->bytes;

    layout->bytes += align_up(bytes, CACHE_LINE_BYTES);
    return piece;
}

static uint32_t slot_count(const struct nvmf_host_core_config *config)
{
    return config->command_count + NVMF_ADMIN_SLOTS;
}

/* As many as I/O commands, so that no response finds none; admin commands are rare. */
static uint32_t recv_count(const struct nvmf_host_core_config *config)
{
    uint32_t count = NVMF_RECVS_MIN;

    while (count < config->command_count) {
        count *= 2;
    }
    return count;
}

static uint32_t cqe_count(const struct nvmf_host_core_config *config)
{
    return min_u32(LIMIT_FUNCTIONS * recv_count(config) + QUEUE_CQES,
                   config->device->attr.cqe_count_max);
}

/* What domains register comes first and fills whole pages. */
static void lay_out(struct layout *l, const struct nvmf_host_core_config *config)
{
    uint64_t slots = slot_count(config);
    uint64_t recvs = (uint64_t)LIMIT_FUNCTIONS * recv_count(config);

    l->wire = cut(l, 0);
    l->capsules = cut(l, slots * sizeof(struct nvme_sqe));
    l->hellos = cut(l, (uint64_t)LIMIT_NVMF_QUEUES * sizeof(struct nvmf_connect_data));
    l->responses = cut(l, recvs * sizeof(struct nvme_cqe));
    l->bytes = align_up(l->bytes, NVMF_PAGE_BYTES);
    l->stage = cut(l, config->stage_bytes);
    l->wire_bytes = l->bytes;
    l->core = cut(l, sizeof(struct nvmf_core));
    l->stage_map = cut(l, nvmf_stage_map_bytes(config->stage_bytes));
    l->slots = cut(l, slots * sizeof(uint16_t));
    l->keys = cut(l, LIMIT_FUNCTIONS * slots * sizeof(struct rdma_key *));
    l->cq = cut(l, rdma_cq_memory_bytes(config->device, cqe_count(config)));
    l->srq_bytes =
        align_up(rdma_srq_memory_bytes(config->device, recv_count(config)), CACHE_LINE_BYTES);
    l->srqs = cut(l, LIMIT_FUNCTIONS * l->srq_bytes);
}

uint64_t nvmf_host_core_memory_bytes(const struct nvmf_host_core_config *config)
{
    struct layout layout = {0};

    lay_out(&layout, config);
    return layout.bytes;
}

/* --- start -------------------------------------------------------------------------------------
 */

static void init_domain(struct nvmf_core *core, const struct layout *l, uint32_t fn, uint32_t recvs)
{
    struct nvmf_domain *domain = &core->domains[fn];

    domain->core = core;
    domain->fn = (uint16_t)fn;
    domain->keys = (struct rdma_key **)l->keys + (uint64_t)fn * core->slot_count;
    domain->srq_memory = (uint8_t *)l->srqs + fn * l->srq_bytes;
    domain->rings.cq = core->cq;
    domain->rings.responses = (struct nvme_cqe *)l->responses + (uint64_t)fn * recvs;
    domain->rings.response_count = recvs;
}

static void init_core(struct nvmf_core *core, const struct layout *l,
                      const struct nvmf_host_core_config *config)
{
    core->device = config->device;
    core->id = config->device->core;
    core->takes_any_ref = config->device->attr.key_kind == RDMA_KEY_SCATTER;
    core->slot_count = slot_count(config);
    core->capsules = l->capsules;
    core->free_slots = l->slots;
    for (uint32_t i = 0; i < core->slot_count; i++) {
        core->free_slots[core->free_slot_count++] = (uint16_t)i;
    }
    core->wire = l->wire;
    core->wire_bytes = l->wire_bytes;
    list_init(&core->queues);
    list_init(&core->hungry);
    list_init(&core->settling);
    list_init(&core->work);
    timer_init(&core->timer, nvmf_core_scan);
    pool_init(&core->hellos, "nvmf hello", l->hellos, sizeof(struct nvmf_connect_data),
              LIMIT_NVMF_QUEUES);
    nvmf_stage_init(&core->stage, l->stage, l->stage_map, config->stage_bytes);
    for (uint32_t i = 0; i < LIMIT_FUNCTIONS; i++) {
        init_domain(core, l, i, recv_count(config));
    }
    for (uint32_t i = 0; i < LIMIT_CORES; i++) {
        core->cancels[i].core = core;
        core->cancels[i].msg.fn = nvmf_io_cancelled_far;
    }
}

enum status nvmf_host_core_start(void *memory, const struct nvmf_host_core_config *config)
{
    struct layout layout = {.memory = memory};

    if (memory == NULL || config->device == NULL || config->command_count == 0 ||
        config->command_count > COMMANDS_MAX || !is_aligned(config->stage_bytes, NVMF_PAGE_BYTES)) {
        return STATUS_INVALID;
    }
    ASSERT(config->device->core == cpu_self());
    lay_out(&layout, config);
    struct nvmf_core *core = layout.core;
    struct rdma_cq_attr attr = {.entry_count = cqe_count(config), .memory = layout.cq, .ctx = core};
    if (attr.entry_count <= LIMIT_FUNCTIONS * recv_count(config)) {
        return STATUS_NO_SPACE;
    }
    core->cqe_count = attr.entry_count - LIMIT_FUNCTIONS * recv_count(config);
    core->cqe_left = core->cqe_count;
    enum status status = rdma_cq_create(config->device, &attr, &core->cq);
    if (status != STATUS_OK) {
        return status;
    }
    init_core(core, &layout, config);
    core->poller = (struct poller){
        .name = "nvmf host", .run = nvmf_core_run, .arm = nvmf_core_arm, .ctx = core};
    sched_poller_add(&core->poller);
    atomic_store_explicit(&cores[core->id], core, memory_order_release);
    return STATUS_OK;
}

struct nvmf_core *nvmf_core_find(uint32_t core)
{
    return core < LIMIT_CORES ? atomic_load_explicit(&cores[core], memory_order_acquire) : NULL;
}

const struct rdma_device *nvmf_core_device(const struct nvmf_core *core)
{
    return core->device;
}

uint32_t nvmf_core_id(const struct nvmf_core *core)
{
    return core->id;
}

/* --- domains -----------------------------------------------------------------------------------
 */

static struct rdma_key *make_key(struct nvmf_domain *domain)
{
    struct rdma_key *key;

    if (domain->core->key_count == domain->core->slot_count ||
        rdma_key_alloc(domain->pd, &key) != STATUS_OK) {
        return NULL;
    }
    domain->key_count++;
    domain->core->key_count++;
    return key;
}

/* False: its free keys are not quiet, which cannot be but for a provider with a mind of its own. */
static bool drop_key(struct nvmf_domain *domain)
{
    struct rdma_key *key = domain->keys[domain->free_key_count - 1];

    if (rdma_key_free(key) != STATUS_OK) {
        return false;
    }
    domain->free_key_count--;
    domain->key_count--;
    domain->core->key_count--;
    return true;
}

struct rdma_key *nvmf_domain_more_keys(struct nvmf_domain *domain)
{
    struct rdma_key *key = make_key(domain);

    for (uint32_t i = 0; key == NULL && i < LIMIT_FUNCTIONS; i++) {
        struct nvmf_domain *other = &domain->core->domains[i];
        if (other != domain && other->free_key_count > 0 &&
            other->key_count > NVMF_DOMAIN_KEYS_MIN && drop_key(other)) {
            key = make_key(domain);
        }
    }
    return key;
}

/* How the device binds keys can only be found out by trying. */
static void try_bind(struct nvmf_domain *domain)
{
    struct nvmf_core *core = domain->core;
    struct mem_seg seg = {.bus_addr = (uintptr_t)core->capsules,
                          .len_bytes = sizeof(struct nvme_sqe)};
    struct mem_ref ref = {
        .segs = &seg, .len_bytes = seg.len_bytes, .seg_count = 1, .space = MEM_SPACE_NIC};
    struct rdma_key *key = domain->keys[0];

    core->is_bound_by_wr = rdma_key_bind(key, &ref, 0, 0) == STATUS_UNSUPPORTED;
    rdma_key_invalidate(key);
}

static enum status make_rings(struct nvmf_domain *domain)
{
    struct nvmf_rings *rings = &domain->rings;
    struct rdma_srq_attr attr = {
        .pd = domain->pd, .wr_count = rings->response_count, .memory = domain->srq_memory};

    enum status status = rdma_srq_create(&attr, &rings->srq);
    if (status != STATUS_OK) {
        rings->srq = NULL;
        return status;
    }
    rings->batch_count = 0;
    for (uint32_t i = 0; i < NVMF_RECV_BATCH; i++) {
        rings->batch[i].sges = &rings->sges[i];
        rings->batch[i].sge_count = 1;
        rings->sges[i].len_bytes = sizeof(struct nvme_cqe);
        rings->sges[i].lkey = domain->mr->lkey;
    }
    for (uint32_t i = 0; i < rings->response_count; i++) {
        nvmf_recv_put(rings, i);
    }
    nvmf_recv_post(rings);
    return STATUS_OK;
}

static enum status make_objects(struct nvmf_domain *domain)
{
    struct nvmf_core *core = domain->core;
    struct rdma_mr_attr attr = {.kind = RDMA_MR_NIC,
                                .access = RDMA_ACCESS_LOCAL_WRITE,
                                .memory = core->wire,
                                .len_bytes = core->wire_bytes};

    enum status status = rdma_pd_alloc(core->device, domain->fn, &domain->pd);
    if (status != STATUS_OK) {
        domain->pd = NULL;
        return status;
    }
    status = rdma_mr_reg(domain->pd, &attr, &domain->mr);
    if (status != STATUS_OK) {
        domain->mr = NULL;
        return status;
    }
    status = make_rings(domain);
    for (uint32_t i = 0; status == STATUS_OK && i < NVMF_DOMAIN_KEYS_MIN; i++) {
        struct rdma_key *key = nvmf_domain_more_keys(domain);
        if (key == NULL) {
            return STATUS_NO_SPACE;
        }
        nvmf_key_put(domain, key);
    }
    if (status == STATUS_OK) {
        try_bind(domain);
    }
    return status;
}

/* Objects in the order in which they depend on each other. False: the device still holds one. */
static bool release_objects(struct nvmf_domain *domain)
{
    while (domain->free_key_count > 0) {
        if (!drop_key(domain)) {
            return false;
        }
    }
    if (domain->rings.srq != NULL && rdma_srq_destroy(domain->rings.srq) != STATUS_OK) {
        return false;
    }
    domain->rings.srq = NULL;
    if (domain->mr != NULL && rdma_mr_dereg(domain->mr) != STATUS_OK) {
        return false;
    }
    domain->mr = NULL;
    if (domain->pd != NULL && rdma_pd_free(domain->pd) != STATUS_OK) {
        return false;
    }
    domain->pd = NULL;
    return true;
}

static void release(struct nvmf_domain *domain)
{
    domain->rings.batch_count = 0;
    if (domain->state == NVMF_DOMAIN_CLOSING && release_objects(domain)) {
        domain->state = NVMF_DOMAIN_CLOSED;
        domain->core->closing_count--;
    }
}

/* Each tenant that is here keeps some slots from the others. */
static void share_slots(struct nvmf_core *core)
{
    uint32_t open_count = 0;

    for (uint32_t i = 0; i < LIMIT_FUNCTIONS; i++) {
        open_count += core->domains[i].state == NVMF_DOMAIN_OPEN;
    }
    uint32_t others = open_count > 1 ? (open_count - 1) * NVMF_DOMAIN_SLOTS : 0;
    uint32_t io_count = core->slot_count - NVMF_ADMIN_SLOTS;
    core->slot_share = io_count - min_u32(others, io_count / 2);
}

static void begin_release(struct nvmf_domain *domain)
{
    domain->state = NVMF_DOMAIN_CLOSING;
    domain->core->closing_count++;
    share_slots(domain->core);
    release(domain);
}

void nvmf_domain_release_all(struct nvmf_core *core)
{
    for (uint32_t i = 0; i < LIMIT_FUNCTIONS; i++) {
        if (core->domains[i].state == NVMF_DOMAIN_CLOSING) {
            release(&core->domains[i]);
        }
    }
}

enum status nvmf_domain_get(struct nvmf_core *core, uint16_t fn, struct nvmf_domain **out)
{
    if (fn >= LIMIT_FUNCTIONS) {
        return STATUS_INVALID;
    }
    struct nvmf_domain *domain = &core->domains[fn];
    if (domain->state == NVMF_DOMAIN_CLOSING) {
        return STATUS_AGAIN;
    }
    if (domain->state == NVMF_DOMAIN_CLOSED) {
        if (make_objects(domain) != STATUS_OK) {
            begin_release(domain);
            return STATUS_NO_SPACE;
        }
        domain->state = NVMF_DOMAIN_OPEN;
        share_slots(core);
    }
    domain->user_count++;
    *out = domain;
    return STATUS_OK;
}

void nvmf_domain_put(struct nvmf_domain *domain)
{
    domain->user_count--;
    if (domain->user_count == 0) {
        begin_release(domain);
    }
}

/* --- scratch memory ----------------------------------------------------------------------------
 */

enum status nvmf_scratch_register(struct nvmf_core *core, uint16_t fn, struct nvmf_scratch *scratch)
{
    struct rdma_mr_attr attr = {.kind = RDMA_MR_NIC,
                                .access = RDMA_ACCESS_LOCAL_WRITE,
                                .memory = scratch->memory,
                                .len_bytes = scratch->len_bytes};
    struct nvmf_domain *domain;

    scratch->mr = NULL;
    if (nvmf_domain_get(core, fn, &domain) != STATUS_OK) {
        return STATUS_NO_SPACE;
    }
    if (rdma_mr_reg(domain->pd, &attr, &scratch->mr) != STATUS_OK) {
        scratch->mr = NULL;
        nvmf_domain_put(domain);
        return STATUS_NO_SPACE;
    }
    return STATUS_OK;
}

/* Commands reached this memory by keys of their own, which are quiet by now, so nothing holds the
 * region. */
void nvmf_scratch_release(struct nvmf_scratch *scratch)
{
    if (scratch->mr == NULL) {
        return;
    }
    const struct rdma_pd *pd = scratch->mr->pd;
    struct nvmf_domain *domain = &nvmf_core_find(pd->device->core)->domains[pd->fn];
    if (rdma_mr_dereg(scratch->mr) == STATUS_OK) {
        nvmf_domain_put(domain);
    } else {
        LOG_ERROR("nvmf: a region of tenant %u is not given back", pd->fn);
    }
    scratch->mr = NULL;
}
