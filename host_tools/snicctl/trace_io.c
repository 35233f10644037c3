/*
 * I/Os out of trace records: joined by function, submission queue and CID, from the fetch to the
 * entry in the CQ (CIDs are used again). Records of an I/O may come from several cores.
 */
#include <stdlib.h>
#include "trace.h"

#define LOOK_BACK     4096u /* I/Os that may be open at once */
#define IRQ_LOOK_BACK 256u

static bool is_open(const struct trace_ios *ios, const struct trace_io *io)
{
    return ios->has_posts ? !io->is_posted : !io->is_done;
}

/* The one that is open; NULL: none. */
static struct trace_io *find_open(struct trace_ios *ios, uint16_t fn, uint32_t id)
{
    for (uint32_t i = ios->count; i > 0 && ios->count - i < LOOK_BACK; i--) {
        struct trace_io *io = &ios->ios[i - 1];
        if (io->fn == fn && io->sqid == id >> 16 && io->cid == (id & 0xffff)) {
            return is_open(ios, io) ? io : NULL;
        }
    }
    return NULL;
}

static struct trace_io *new_io(struct trace_ios *ios, const struct trace_entry *entry)
{
    struct trace_io *io = &ios->ios[ios->count++];

    io->fn = entry->record.fn;
    io->sqid = (uint16_t)(entry->record.id >> 16);
    io->cid = (uint16_t)entry->record.id;
    io->core = entry->core;
    return io;
}

/* The entry is the I/O's. */
static void link_entry(struct trace_set *set, struct trace_ios *ios, struct trace_io *io,
                       uint32_t index)
{
    struct trace_entry *entry = &set->entries[index];

    entry->io = (uint32_t)(io - ios->ios);
    entry->next = 0;
    if (io->entry_count++ == 0) {
        io->first = index;
    } else {
        set->entries[io->last].next = index;
    }
    io->last = index;
}

/* It tells of all that wait for it: those of its vector; before the firmware told of entries, all
 * that are done on that core. */
static void take_irq(const struct trace_set *set, struct trace_ios *ios, uint32_t index)
{
    const struct trace_entry *entry = &set->entries[index];
    const struct trace_record *r = &entry->record;

    for (uint32_t i = ios->count; i > 0 && ios->count - i < IRQ_LOOK_BACK; i--) {
        struct trace_io *io = &ios->ios[i - 1];
        bool is_told = ios->has_posts ? io->is_posted && io->vector == r->id
                                      : io->is_done && io->core == entry->core;
        if (is_told && io->irq_ns == 0 && io->fn == r->fn) {
            io->irq_ns = r->time_ns;
        }
    }
}

static void take_fetch(struct trace_io *io, const struct trace_record *r)
{
    io->is_fetched = true;
    io->fetch_ns = r->time_ns;
    io->opcode = (uint8_t)(r->a >> 32);
    io->nsid = (uint32_t)r->a;
    io->slba = r->b;
}

static void take_send(struct trace_io *io, const struct trace_record *r)
{
    io->send_ns = io->send_ns == 0 ? r->time_ns : io->send_ns;
    io->send_count++;
    io->is_drive = r->event == TRACE_DRIVE_SEND;
}

static void take_done(struct trace_io *io, const struct trace_record *r)
{
    io->is_done = true;
    io->done_ns = r->time_ns;
    io->status = (uint16_t)r->a;
    io->duration_ns = r->b;
}

static void take_stage(struct trace_io *io, const struct trace_record *r)
{
    switch (r->event) {
    case TRACE_IO_FETCH:
        take_fetch(io, r);
        break;
    case TRACE_IO_SUBMIT:
        if (io->submit_ns == 0) {
            io->submit_ns = r->time_ns;
            io->len_bytes = (uint32_t)r->a;
        }
        break;
    case TRACE_VOL_WAIT:
        io->wait_count++;
        break;
    case TRACE_FABRIC_SEND:
    case TRACE_DRIVE_SEND:
        take_send(io, r);
        break;
    case TRACE_FABRIC_DONE:
    case TRACE_DRIVE_DONE:
        io->back_ns = r->time_ns;
        io->fault_count += r->b != 0;
        break;
    case TRACE_BAD_ADDRESS:
    case TRACE_BAD_COMMAND:
        io->fault_count++;
        break;
    case TRACE_IO_DONE:
        take_done(io, r);
        break;
    case TRACE_IO_POST:
        io->is_posted = true;
        io->post_ns = r->time_ns;
        io->vector = (uint16_t)r->b;
        break;
    default:
        break;
    }
}

static bool is_of_io(uint16_t event)
{
    return event == TRACE_IO_FETCH || event == TRACE_IO_SUBMIT || event == TRACE_IO_DONE ||
           event == TRACE_BAD_ADDRESS || event == TRACE_BAD_COMMAND ||
           (event >= TRACE_VOL_WAIT && event <= TRACE_IO_POST);
}

static void take_entry(struct trace_set *set, struct trace_ios *ios, uint32_t index)
{
    const struct trace_entry *entry = &set->entries[index];
    const struct trace_record *r = &entry->record;

    if (r->event == TRACE_IRQ_RAISE) {
        take_irq(set, ios, index);
        return;
    }
    if (!is_of_io(r->event)) {
        return;
    }
    struct trace_io *io =
        r->event == TRACE_IO_FETCH ? new_io(ios, entry) : find_open(ios, r->fn, r->id);
    if (io == NULL && r->event == TRACE_IO_DONE && r->id != 0) { /* its beginning is lost */
        io = new_io(ios, entry);
    }
    if (io != NULL) { /* else of nothing that a host has asked for, or its beginning is lost */
        take_stage(io, r);
        link_entry(set, ios, io, index);
    }
}

bool trace_find_ios(struct trace_set *set, struct trace_ios *ios)
{
    ios->count = 0;
    ios->has_posts = false;
    ios->ios = calloc(set->count + 1, sizeof(*ios->ios));
    for (uint32_t i = 0; i < set->count; i++) {
        ios->has_posts = ios->has_posts || set->entries[i].record.event == TRACE_IO_POST;
    }
    for (uint32_t i = 0; i < set->count && ios->ios != NULL; i++) {
        take_entry(set, ios, i);
    }
    return ios->ios != NULL;
}

/* --- stages ---------------------------------------------------------------------------------- */

bool trace_stage(const struct trace_io *io, enum trace_stage stage, uint64_t *from_ns,
                 uint64_t *to_ns)
{
    /* A firmware that does not tell of requests leaves one stage between submit and end. */
    bool has_sends = io->send_ns != 0;
    const uint64_t times[TRACE_STAGE_COUNT][2] = {
        [TRACE_STAGE_CONTROLLER] = {io->fetch_ns, io->submit_ns},
        [TRACE_STAGE_VOLUME] = {io->submit_ns, io->send_ns},
        [TRACE_STAGE_BACKEND] = {has_sends ? io->send_ns : io->submit_ns,
                                 has_sends ? io->back_ns : io->done_ns},
        [TRACE_STAGE_END] = {io->back_ns, io->done_ns},
        [TRACE_STAGE_CQ] = {io->done_ns, io->post_ns},
        [TRACE_STAGE_IRQ] = {io->post_ns != 0 ? io->post_ns : io->done_ns, io->irq_ns},
    };

    *from_ns = times[stage][0];
    *to_ns = times[stage][1];
    return *from_ns != 0 && *to_ns >= *from_ns;
}

const char *trace_stage_name(const struct trace_io *io, enum trace_stage stage)
{
    static const char *const names[] = {
        [TRACE_STAGE_CONTROLLER] = "controller",
        [TRACE_STAGE_VOLUME] = "volume",
        [TRACE_STAGE_BACKEND] = "fabric",
        [TRACE_STAGE_END] = "end",
        [TRACE_STAGE_CQ] = "cq",
        [TRACE_STAGE_IRQ] = "irq",
    };

    if (stage == TRACE_STAGE_BACKEND && (io->is_drive || io->send_ns == 0)) {
        return io->is_drive ? "drive" : "backend";
    }
    return names[stage];
}
