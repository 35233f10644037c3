/*
 * What ties the parts together: start, the way of a frame, one turn of the loop, end.
 */
#include "boards/qemu-virt/fabric/fabric.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include "base/bits.h"

#define NS_PER_S  UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

#define CTL_NAME     "fabric.ctl"
#define ANSWER_BYTES 65536

static uint64_t clock_ns(clockid_t id)
{
    struct timespec now;

    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* --- commands --------------------------------------------------------------------------------- */

static void run_line(void *ctx, int fd, char *line)
{
    static char answer[ANSWER_BYTES];

    fabric_cmd(ctx, line, answer, sizeof(answer));
    ctl_say(fd, answer);
}

/* --- start and end ---------------------------------------------------------------------------- */

int fabric_open(struct fabric *f, const char *dir, uint64_t seed, const char *const *names,
                uint32_t name_count)
{
    memset(f, 0, offsetof(struct fabric, pool)); /* buffers stay untouched until used */
    fabric_pool_init(&f->pool);
    f->dir = dir;
    ctl_init(&f->ctl);
    f->seed = seed;
    f->now_ns = clock_ns(CLOCK_MONOTONIC);
    fabric_seed(&f->rng, seed);
    if (name_count == 0 || name_count > FABRIC_PORTS) {
        return -EINVAL;
    }
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        return -errno;
    }
    for (uint32_t i = 0; i < name_count; i++) {
        if (fabric_find_port(f, names[i]) != FABRIC_PORTS) {
            return -EEXIST;
        }
        int result = fabric_port_open(&f->ports[i], dir, names[i]);
        f->port_count++;
        if (result != 0) {
            return result;
        }
    }
    return ctl_open(&f->ctl, dir, CTL_NAME, run_line, f);
}

static void drop_all(struct fabric *f, struct fabric_queue *queue)
{
    struct fabric_frame *frame;

    while ((frame = fabric_queue_pop(queue)) != NULL) {
        fabric_frame_put(&f->pool, frame);
    }
}

void fabric_close(struct fabric *f)
{
    ctl_close(&f->ctl);
    for (uint32_t i = 0; i < f->port_count; i++) {
        struct fabric_port *port = &f->ports[i];
        for (uint32_t dir = 0; dir < FABRIC_DIRS; dir++) {
            drop_all(f, &port->stages[dir].held);
            drop_all(f, &port->stages[dir].delayed);
        }
        drop_all(f, &port->tx);
        fabric_port_close(port, f->dir);
    }
    for (uint32_t i = 0; i < FABRIC_BATCH; i++) {
        if (f->batch[i] != NULL) {
            fabric_frame_put(&f->pool, f->batch[i]);
            f->batch[i] = NULL;
        }
    }
}

uint32_t fabric_find_port(const struct fabric *f, const char *name)
{
    for (uint32_t i = 0; i < f->port_count; i++) {
        if (strcmp(f->ports[i].name, name) == 0) {
            return i;
        }
    }
    return FABRIC_PORTS;
}

/* --- the way of a frame ----------------------------------------------------------------------- */

struct place {
    struct fabric *f;
    uint32_t port;
};

void fabric_capture(struct fabric_port *port, const struct fabric_frame *frame)
{
    if (port->capture == NULL) {
        return;
    }
    if (fabric_pcap_write(port->capture, clock_ns(CLOCK_REALTIME), frame->bytes,
                          frame->len_bytes) != 0) {
        fprintf(stderr, "fabric: the capture of %s ends: %s\n", port->name, strerror(errno));
        fclose(port->capture);
        port->capture = NULL;
    }
    port->capture_dirty = true;
}

static void deliver_out(void *ctx, struct fabric_frame *frame)
{
    const struct place *place = ctx;
    struct fabric_port *port = &place->f->ports[place->port];

    if (port->cut || port->tx.count == FABRIC_QUEUE_FRAMES) {
        port->stats.cut += port->cut;
        port->stats.full += !port->cut;
        fabric_frame_put(&place->f->pool, frame);
        return;
    }
    fabric_queue_push(&port->tx, frame);
}

static void pass(struct fabric *f, uint32_t port, enum fabric_dir dir,
                 void (*deliver)(void *ctx, struct fabric_frame *frame), struct fabric_frame *frame)
{
    struct place place = {.f = f, .port = port};
    struct fabric_stage_env env = {
        .pool = &f->pool, .rng = &f->rng, .now_ns = f->now_ns, .deliver = deliver, .ctx = &place};

    if (frame != NULL) {
        fabric_stage_pass(&f->ports[port].stages[dir], &env, frame);
    } else {
        fabric_stage_tick(&f->ports[port].stages[dir], &env);
    }
}

static bool may_pass(struct fabric *f, uint32_t from, uint32_t to)
{
    if ((f->ports[from].cut_from & BIT32(to)) != 0) {
        f->ports[to].stats.cut++;
        return false;
    }
    return true;
}

static void deliver_in(void *ctx, struct fabric_frame *frame)
{
    const struct place *place = ctx;
    struct fabric *f = place->f;
    uint32_t from = place->port;

    if (f->ports[from].cut) {
        f->ports[from].stats.cut++;
        fabric_frame_put(&f->pool, frame);
        return;
    }
    fabric_fdb_learn(&f->fdb, frame->bytes + 6, from);
    uint32_t to = fabric_fdb_find(&f->fdb, frame->bytes);
    for (uint32_t i = 0; to == FABRIC_FLOOD && i < f->port_count; i++) {
        struct fabric_frame *copy = NULL;
        if (i != from && may_pass(f, from, i)) {
            copy = fabric_frame_copy(&f->pool, frame);
        }
        if (copy != NULL) {
            pass(f, i, FABRIC_OUT, deliver_out, copy);
        }
    }
    if (to == FABRIC_FLOOD || to == from || !may_pass(f, from, to)) {
        fabric_frame_put(&f->pool, frame);
        return;
    }
    pass(f, to, FABRIC_OUT, deliver_out, frame);
}

void fabric_receive(struct fabric *f, uint32_t port, struct fabric_frame *frame)
{
    struct fabric_port *p = &f->ports[port];

    p->stats.frames[FABRIC_IN]++;
    p->stats.bytes[FABRIC_IN] += frame->len_bytes;
    fabric_capture(p, frame);
    pass(f, port, FABRIC_IN, deliver_in, frame);
}

/* --- loop ------------------------------------------------------------------------------------- */

struct polls {
    struct pollfd fds[2 * FABRIC_PORTS + CTL_FDS];
    uint32_t count;
};

static uint32_t watch(struct polls *polls, int fd, short events)
{
    polls->fds[polls->count] = (struct pollfd){.fd = fd, .events = events};
    return polls->count++;
}

/* When a stage has something to do; UINT64_MAX: none has. */
static uint64_t next_due_ns(const struct fabric *f)
{
    uint64_t due = UINT64_MAX;

    for (uint32_t i = 0; i < FABRIC_DIRS * f->port_count; i++) {
        due = min_u64(due, fabric_stage_due_ns(&f->ports[i / FABRIC_DIRS].stages[i % FABRIC_DIRS]));
    }
    return due;
}

static int wait(struct fabric *f, struct polls *polls, int timeout_ms)
{
    uint64_t due = next_due_ns(f);
    uint64_t now = clock_ns(CLOCK_MONOTONIC);
    uint64_t wait_ns = due == UINT64_MAX ? UINT64_MAX : due > now ? due - now : 0;

    if (timeout_ms >= 0) {
        wait_ns = min_u64(wait_ns, (uint64_t)timeout_ms * NS_PER_MS);
    }
    struct timespec timeout = {.tv_sec = (time_t)(wait_ns / NS_PER_S),
                               .tv_nsec = (long)(wait_ns % NS_PER_S)};
    int result = ppoll(polls->fds, polls->count, wait_ns == UINT64_MAX ? NULL : &timeout, NULL);
    f->now_ns = clock_ns(CLOCK_MONOTONIC);
    return result;
}

static void end_turn(struct fabric *f)
{
    for (uint32_t i = 0; i < f->port_count; i++) {
        pass(f, i, FABRIC_IN, deliver_in, NULL);
    }
    for (uint32_t i = 0; i < f->port_count; i++) {
        pass(f, i, FABRIC_OUT, deliver_out, NULL);
        if (f->ports[i].tx.first != NULL && !f->ports[i].blocked) {
            fabric_port_flush(f, i);
        }
        if (f->ports[i].capture_dirty && f->ports[i].capture != NULL) {
            fflush(f->ports[i].capture);
        }
        f->ports[i].capture_dirty = false;
    }
}

void fabric_turn(struct fabric *f, int timeout_ms)
{
    struct polls polls = {.count = 0};

    for (uint32_t i = 0; i < f->port_count; i++) {
        watch(&polls, f->ports[i].rx_fd, POLLIN);
        watch(&polls, f->ports[i].blocked ? f->ports[i].tx_fd : -1, POLLOUT);
    }
    uint32_t ctl = polls.count;
    ctl_watch(&f->ctl, f->now_ns, &polls.fds[ctl]);
    polls.count += CTL_FDS;
    int ready = wait(f, &polls, timeout_ms);
    for (uint32_t i = 0; ready > 0 && i < f->port_count; i++) {
        if (polls.fds[2 * i].revents != 0) {
            fabric_port_read(f, i);
        }
        if (polls.fds[2 * i + 1].revents != 0) {
            fabric_port_flush(f, i);
        }
    }
    end_turn(f);
    int result = ready > 0 ? ctl_turn(&f->ctl, f->now_ns, &polls.fds[ctl]) : 0;
    if (result != 0) {
        fprintf(stderr, "fabric: no command is accepted for now: %s\n", strerror(-result));
    }
}
