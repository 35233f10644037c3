/*
 * The host's memory, its queues and its I/O commands. A page that no command and no queue has is
 * poisoned: whoever touches it then ends the run.
 */
#include "tests/sim/path/path.h"

#include <sanitizer/asan_interface.h>
#include <string.h>

/* --- memory --------------------------------------------------------------------------------- */

static uint8_t *page_ptr(uint16_t page)
{
    return path.arena + (uint64_t)page * 4096;
}

uint64_t path_page_addr(uint16_t page)
{
    return PATH_ARENA_BASE + (uint64_t)page * 4096;
}

void path_host_start(void)
{
    ASAN_POISON_MEMORY_REGION(path.arena, PATH_PAGES * 4096);
    for (uint16_t i = 0; i < PATH_PAGES; i++) {
        path.free_pages[path.free_page_count++] = i;
    }
}

uint16_t path_page_get(void)
{
    PATH_CHECK(path.free_page_count > 0, "the host is out of memory");
    uint32_t at = (uint32_t)path_below(path.free_page_count);
    uint16_t page = path.free_pages[at];

    path.free_pages[at] = path.free_pages[--path.free_page_count];
    ASAN_UNPOISON_MEMORY_REGION(page_ptr(page), 4096);
    memset(page_ptr(page), 0, 4096);
    return page;
}

void path_page_put(uint16_t page)
{
    ASAN_POISON_MEMORY_REGION(page_ptr(page), 4096);
    path.free_pages[path.free_page_count++] = page;
}

/* --- queues: one page a ring ---------------------------------------------------------------- */

static void *ring_ptr(uint64_t addr)
{
    return path.arena + (addr - PATH_ARENA_BASE);
}

void path_queue_open(struct rig_queue *queue, uint16_t id, uint16_t size)
{
    *queue = (struct rig_queue){.id = id, .sq_size = size, .cq_size = size, .phase = 1};
    queue->sq_addr = path_page_addr(path_page_get());
    queue->cq_addr = path_page_addr(path_page_get());
}

void path_queue_close(struct rig_queue *queue)
{
    if (queue->sq_addr != 0) {
        path_page_put((uint16_t)((queue->sq_addr - PATH_ARENA_BASE) / 4096));
        path_page_put((uint16_t)((queue->cq_addr - PATH_ARENA_BASE) / 4096));
        queue->sq_addr = 0;
    }
}

uint16_t path_push(struct rig_queue *queue, const struct nvme_sqe *sqe)
{
    struct nvme_sqe copy = *sqe;

    copy.cid = queue->next_cid++;
    memcpy((uint8_t *)ring_ptr(queue->sq_addr) + queue->sq_tail * NVME_SQE_BYTES, &copy,
           sizeof(copy));
    queue->sq_tail = (queue->sq_tail + 1) % queue->sq_size;
    shm_store32_release(rig_sq_doorbell(queue->id), queue->sq_tail);
    return copy.cid;
}

bool path_pop(struct rig_queue *queue, struct nvme_cqe *cqe)
{
    memcpy(cqe, (uint8_t *)ring_ptr(queue->cq_addr) + queue->cq_head * NVME_CQE_BYTES,
           sizeof(*cqe));
    if (((cqe->dw3 & NVME_CQE_PHASE) != 0) != queue->phase) {
        return false;
    }
    queue->cq_head = (queue->cq_head + 1) % queue->cq_size;
    if (queue->cq_head == 0) {
        queue->phase ^= 1;
    }
    shm_store32_release(rig_cq_doorbell(queue->id), queue->cq_head);
    return true;
}

/* --- a command ------------------------------------------------------------------------------ */

static bool is_write(uint8_t opcode)
{
    return opcode == NVME_IO_WRITE || opcode == NVME_IO_WRITE_ZEROES || opcode == NVME_IO_DSM;
}

static uint32_t data_bytes(const struct path_io *io)
{
    switch (io->opcode) {
    case NVME_IO_READ:
    case NVME_IO_WRITE:
    case NVME_IO_COMPARE:
        return io->block_count << path.plan.lba_shift;
    case NVME_IO_DSM:
        return sizeof(struct nvme_dsm_range);
    default:
        return 0;
    }
}

static uint8_t draw_opcode(void)
{
    static const uint8_t others[] = {NVME_IO_FLUSH, NVME_IO_WRITE_ZEROES, NVME_IO_DSM,
                                     NVME_IO_COMPARE, NVME_IO_VERIFY};

    if (path_chance(10)) {
        return others[path_below(ARRAY_SIZE(others))];
    }
    return path_chance(path.plan.write_percent) ? NVME_IO_WRITE : NVME_IO_READ;
}

/* Pages for the data, and the PRP entries that name them (4.3 of the base specification). */
static void map(struct path_io *io, struct nvme_sqe *sqe, uint32_t bytes)
{
    io->offset = io->opcode == NVME_IO_DSM || path_chance(60) ? 0 : (uint32_t)path_below(512) * 8;
    uint32_t count = (io->offset + bytes + 4095) / 4096;
    for (uint32_t i = 0; i < count; i++) {
        io->pages[i] = path_page_get();
    }
    io->page_count = count;
    sqe->prp1 = path_page_addr(io->pages[0]) + io->offset;
    if (count == 2) {
        sqe->prp2 = path_page_addr(io->pages[1]);
    } else if (count > 2) {
        io->has_list = true;
        io->pages[count] = path_page_get();
        for (uint32_t i = 1; i < count; i++) {
            uint64_t addr = path_page_addr(io->pages[i]);
            memcpy(page_ptr(io->pages[count]) + (i - 1) * 8, &addr, 8);
        }
        sqe->prp2 = path_page_addr(io->pages[count]);
    }
}

static void unmap(struct path_io *io)
{
    for (uint32_t i = 0; i < io->page_count + io->has_list; i++) {
        path_page_put(io->pages[i]);
    }
}

static void draw_range(struct path_io *io)
{
    uint32_t most = PATH_IO_BYTES >> path.plan.lba_shift;
    bool is_small = path_chance(70);

    most = most < PATH_BLOCKS / 2 ? most : PATH_BLOCKS / 2;
    io->block_count = (uint32_t)path_range(1, is_small ? 8 : most);
    io->lba = path_below(PATH_BLOCKS - io->block_count + 1);
}

static void fill(struct path_io *io, struct nvme_sqe *sqe)
{
    struct nvme_dsm_range range = {.slba = io->lba, .lba_count = io->block_count};

    if (io->opcode == NVME_IO_DSM) {
        memcpy(page_ptr(io->pages[0]), &range, sizeof(range));
        sqe->cdw10 = 0;
        sqe->cdw11 = NVME_DSM_DEALLOCATE;
        sqe->cdw12 = 0;
    } else if (io->opcode == NVME_IO_WRITE) {
        io->value = ++path.next_value;
        path_fill(io);
    } else if (io->opcode == NVME_IO_COMPARE) {
        io->block_count = 1;
        sqe->cdw12 = 0;
        io->value = path_block_guess(io->volume, io->lba);
        path_fill(io);
    }
}

static struct path_io *io_get(void)
{
    for (uint32_t i = 0; i < PATH_IOS; i++) {
        if (!path.ios[i].in_use) {
            return &path.ios[i];
        }
    }
    return NULL;
}

static uint32_t queue_live(const struct rig_queue *queue)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < PATH_IOS; i++) {
        count += path.ios[i].in_use && path.ios[i].queue == queue;
    }
    return count;
}

bool path_io_begin(void)
{
    struct rig_queue *queue = &path.queues[path_below(path.plan.queue_count)];
    struct path_io *io = io_get();

    if (!path.is_up || io == NULL || queue_live(queue) >= path.plan.depth ||
        path.free_page_count < 2 * PATH_IO_BYTES / 4096) {
        return false;
    }
    *io = (struct path_io){.in_use = true, .opcode = draw_opcode(), .queue = queue};
    io->volume = (uint32_t)path_below(path.plan.volume_count);
    draw_range(io);
    if (io->opcode == NVME_IO_COMPARE) {
        io->block_count = 1;
    }
    struct nvme_sqe sqe = {.opcode = io->opcode,
                           .nsid = PATH_FIRST_NSID + io->volume,
                           .cdw10 = (uint32_t)io->lba,
                           .cdw12 = io->block_count - 1};
    uint32_t bytes = data_bytes(io);
    if (bytes > 0) {
        map(io, &sqe, bytes);
        fill(io, &sqe);
    }
    io->invoke = ++path.tick;
    io->start_ns = clock_now_ns();
    if (is_write(io->opcode)) {
        path_write_begin(io);
    }
    io->cid = path_push(queue, &sqe);
    path.io_count++;
    path.live_count++;
    path_trace("host: queue %u cid %u opcode %02x volume %u lba %llu +%u value %llx (tick %llu)",
               queue->id, io->cid, io->opcode, io->volume, (unsigned long long)io->lba,
               io->block_count, (unsigned long long)io->value, (unsigned long long)io->invoke);
    return true;
}

/* --- its end -------------------------------------------------------------------------------- */

static void io_free(struct path_io *io)
{
    unmap(io);
    io->in_use = false;
    path.live_count--;
    path.progress_ns = clock_now_ns();
}

/* Whether something that happened explains the status. */
static bool is_explained(const struct path_io *io, nvme_status_t status)
{
    uint16_t code = NVME_STATUS_CODE(status);
    bool is_retryable = (status & NVME_STATUS_DNR) == 0;

    if (io->opcode == NVME_IO_COMPARE && code == NVME_SC_COMPARE_FAILURE) {
        return true; /* its guess may be old */
    }
    if (io->is_aborted && (code == NVME_SC_ABORT_REQUESTED || code == NVME_SC_ABORT_SQ_DELETION)) {
        return true;
    }
    if (path.plan.class >= PATH_LOSSY && io->opcode == NVME_IO_COMPARE &&
        code == NVME_SC_COMMAND_INTERRUPTED) {
        return is_retryable;
    }
    if (path.plan.class == PATH_LOST && code == NVME_SC_NS_NOT_READY) {
        return is_retryable;
    }
    return false;
}

static void io_done(struct path_io *io, nvme_status_t status)
{
    bool is_ok = NVME_STATUS_CODE(status) == NVME_SC_SUCCESS;

    path.tick++;
    path_trace("host: queue %u cid %u ended: %x after %llu us (tick %llu)", io->queue->id, io->cid,
               status, (unsigned long long)((clock_now_ns() - io->start_ns) / 1000),
               (unsigned long long)path.tick);
    PATH_CHECK(is_ok || is_explained(io, status),
               "queue %u cid %u opcode %02x: status %x after %llu ms, which nothing explains",
               io->queue->id, io->cid, io->opcode, status,
               (unsigned long long)((clock_now_ns() - io->start_ns) / NS_PER_MS));
    if (is_write(io->opcode)) {
        path_write_end(io, is_ok);
    } else if (io->opcode == NVME_IO_READ && is_ok) {
        path_read_check(io);
    }
    path.ok_count += is_ok;
    path.error_count += !is_ok;
    io_free(io);
}

static void queue_poll(struct rig_queue *queue)
{
    struct nvme_cqe cqe;

    while (queue->sq_addr != 0 && path_pop(queue, &cqe)) {
        struct path_io *io = NULL;
        for (uint32_t i = 0; i < PATH_IOS && io == NULL; i++) {
            if (path.ios[i].in_use && path.ios[i].queue == queue &&
                path.ios[i].cid == rig_cid(&cqe)) {
                io = &path.ios[i];
            }
        }
        PATH_CHECK(io != NULL, "queue %u: a completion for cid %u, which is not under way",
                   queue->id, rig_cid(&cqe));
        io_done(io, rig_status(&cqe));
    }
}

void path_host_poll(void)
{
    for (uint32_t i = 0; i < path.plan.queue_count; i++) {
        queue_poll(&path.queues[i]);
    }
}

void path_ios_end(const struct rig_queue *queue)
{
    path.tick++;
    for (uint32_t i = 0; i < PATH_IOS; i++) {
        struct path_io *io = &path.ios[i];
        if (!io->in_use || (queue != NULL && io->queue != queue)) {
            continue;
        }
        path_trace("host: queue %u cid %u has ended with its queue", io->queue->id, io->cid);
        if (is_write(io->opcode)) {
            path_write_end(io, false);
        }
        io_free(io);
    }
}

struct path_io *path_io_any(void)
{
    uint32_t first = (uint32_t)path_below(PATH_IOS);

    for (uint32_t i = 0; i < PATH_IOS; i++) {
        struct path_io *io = &path.ios[(first + i) % PATH_IOS];
        if (io->in_use) {
            return io;
        }
    }
    return NULL;
}
