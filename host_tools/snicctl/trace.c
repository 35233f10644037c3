#include "trace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "spec/nvme.h"

static const struct {
    const char *name;
    const char *class;
    const char *id;
    const char *a;
    const char *b;
} events[] = {
#define EVENT(number, name, class, id, a, b) [number] = {#name, #class, id, a, b},
    TRACE_EVENT_LIST(EVENT)
#undef EVENT
};

bool trace_add(struct trace_set *set, uint32_t core, const uint8_t *bytes, size_t len_bytes)
{
    uint32_t count = (uint32_t)(len_bytes / sizeof(struct trace_record));
    struct trace_entry *bigger = realloc(set->entries, (set->count + count + 1) * sizeof(*bigger));

    if (bigger == NULL) {
        return false;
    }
    set->entries = bigger;
    for (uint32_t i = 0; i < count; i++) {
        struct trace_entry *entry = &set->entries[set->count];
        entry->order = set->count++;
        memcpy(&entry->record, bytes + i * sizeof(entry->record), sizeof(entry->record));
        entry->core = core;
    }
    return true;
}

static int compare(const void *a, const void *b)
{
    const struct trace_entry *x = a;
    const struct trace_entry *y = b;

    if (x->record.time_ns != y->record.time_ns) {
        return x->record.time_ns < y->record.time_ns ? -1 : 1;
    }
    return x->order < y->order ? -1 : x->order > y->order; /* those of a core keep their order */
}

void trace_sort(struct trace_set *set)
{
    if (set->count > 0) {
        qsort(set->entries, set->count, sizeof(set->entries[0]), compare);
    }
}

/* --- names ----------------------------------------------------------------------------------- */

static bool is_known(uint16_t event)
{
    return event < ARRAY_SIZE(events) && events[event].name != NULL;
}

const char *trace_event_name(uint16_t event)
{
    return is_known(event) ? events[event].name : NULL;
}

const char *trace_class_name(uint16_t event)
{
    return is_known(event) ? events[event].class : "?";
}

const char *trace_opcode_name(uint8_t opcode)
{
    switch (opcode) {
    case NVME_IO_FLUSH:
        return "flush";
    case NVME_IO_WRITE:
        return "write";
    case NVME_IO_READ:
        return "read";
    case NVME_IO_WRITE_UNCORRECTABLE:
        return "write-uncorrectable";
    case NVME_IO_COMPARE:
        return "compare";
    case NVME_IO_WRITE_ZEROES:
        return "write-zeroes";
    case NVME_IO_DSM:
        return "dataset-management";
    case NVME_IO_VERIFY:
        return "verify";
    default:
        return NULL;
    }
}

static size_t put_argument(char *out, size_t room_bytes, const char *name, uint64_t value)
{
    int len;

    if (strcmp(name, "-") == 0) {
        return 0;
    }
    if (strcmp(name, "sqid_cid") == 0) {
        len = snprintf(out, room_bytes, "sq %u cid %u  ", (unsigned)(value >> 16),
                       (unsigned)(value & 0xffff));
    } else if (strcmp(name, "opcode_nsid") == 0) {
        const char *opcode = trace_opcode_name((uint8_t)(value >> 32));
        len = opcode != NULL ? snprintf(out, room_bytes, "%s nsid %u  ", opcode, (unsigned)value)
                             : snprintf(out, room_bytes, "opcode 0x%02x nsid %u  ",
                                        (unsigned)(value >> 32 & 0xff), (unsigned)value);
    } else if (strcmp(name, "host_addr") == 0 || strcmp(name, "status") == 0 ||
               strcmp(name, "cdw10") == 0 || strcmp(name, "opcode") == 0) {
        len = snprintf(out, room_bytes, "%s 0x%" PRIx64 "  ", name, value);
    } else {
        len = snprintf(out, room_bytes, "%s %" PRIu64 "  ", name, value);
    }
    return (size_t)len < room_bytes ? (size_t)len : room_bytes - 1;
}

void trace_arguments(const struct trace_record *record, char *out, size_t room_bytes)
{
    bool is_named = is_known(record->event);
    size_t used = 0;

    out[0] = '\0';
    used += put_argument(out, room_bytes, is_named ? events[record->event].id : "id", record->id);
    used += put_argument(out + used, room_bytes - used, is_named ? events[record->event].a : "a",
                         record->a);
    used += put_argument(out + used, room_bytes - used, is_named ? events[record->event].b : "b",
                         record->b);
    while (used > 0 && out[used - 1] == ' ') {
        out[--used] = '\0';
    }
}

/* --- I/Os ------------------------------------------------------------------------------------ */

/* The one that is open; NULL: none. */
static struct trace_io *find_open(struct trace_ios *ios, uint16_t fn, uint32_t id)
{
    for (uint32_t i = ios->count; i > 0 && ios->count - i < 4096; i--) {
        struct trace_io *io = &ios->ios[i - 1];
        if (io->fn == fn && io->sqid == id >> 16 && io->cid == (id & 0xffff)) {
            return io->is_done ? NULL : io;
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

static void take_irq(struct trace_ios *ios, const struct trace_entry *entry)
{
    for (uint32_t i = ios->count; i > 0 && ios->count - i < 256; i--) {
        struct trace_io *io = &ios->ios[i - 1];
        if (io->is_done && io->irq_ns == 0 && io->core == entry->core &&
            io->fn == entry->record.fn) {
            io->irq_ns = entry->record.time_ns;
        }
    }
}

static void take_event(struct trace_ios *ios, const struct trace_entry *entry)
{
    const struct trace_record *r = &entry->record;
    struct trace_io *io;

    switch (r->event) {
    case TRACE_IO_FETCH:
        io = new_io(ios, entry);
        io->is_fetched = true;
        io->fetch_ns = r->time_ns;
        io->opcode = (uint8_t)(r->a >> 32);
        io->nsid = (uint32_t)r->a;
        io->slba = r->b;
        break;
    case TRACE_IO_SUBMIT:
        io = find_open(ios, r->fn, r->id);
        if (io != NULL) {
            io->submit_ns = r->time_ns;
            io->len_bytes = (uint32_t)r->a;
        }
        break;
    case TRACE_BAD_ADDRESS:
    case TRACE_BAD_COMMAND:
        io = find_open(ios, r->fn, r->id);
        if (io != NULL) {
            io->fault_count++;
        }
        break;
    case TRACE_IO_DONE:
        io = find_open(ios, r->fn, r->id);
        io = io != NULL ? io : new_io(ios, entry);
        io->is_done = true;
        io->done_ns = r->time_ns;
        io->status = (uint16_t)r->a;
        io->duration_ns = r->b;
        break;
    case TRACE_IRQ_RAISE:
        take_irq(ios, entry);
        break;
    default:
        break;
    }
}

bool trace_find_ios(const struct trace_set *set, struct trace_ios *ios)
{
    ios->count = 0;
    ios->ios = calloc(set->count + 1, sizeof(*ios->ios));
    for (uint32_t i = 0; i < set->count && ios->ios != NULL; i++) {
        take_event(ios, &set->entries[i]);
    }
    return ios->ios != NULL;
}
