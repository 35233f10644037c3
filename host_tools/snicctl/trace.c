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
        entry->io = TRACE_NO_IO;
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

static const struct {
    uint8_t opcode;
    const char *name;
} io_opcodes[] =
    {
        {NVME_IO_FLUSH, "flush"},
        {NVME_IO_WRITE, "write"},
        {NVME_IO_READ, "read"},
        {NVME_IO_WRITE_UNCORRECTABLE, "write-uncorrectable"},
        {NVME_IO_COMPARE, "compare"},
        {NVME_IO_WRITE_ZEROES, "write-zeroes"},
        {NVME_IO_DSM, "dataset-management"},
        {NVME_IO_VERIFY, "verify"},
},
  admin_opcodes[] = {
      {NVME_ADMIN_DELETE_SQ, "delete-sq"},
      {NVME_ADMIN_CREATE_SQ, "create-sq"},
      {NVME_ADMIN_GET_LOG_PAGE, "get-log-page"},
      {NVME_ADMIN_DELETE_CQ, "delete-cq"},
      {NVME_ADMIN_CREATE_CQ, "create-cq"},
      {NVME_ADMIN_IDENTIFY, "identify"},
      {NVME_ADMIN_ABORT, "abort"},
      {NVME_ADMIN_SET_FEATURES, "set-features"},
      {NVME_ADMIN_GET_FEATURES, "get-features"},
      {NVME_ADMIN_ASYNC_EVENT, "event-request"},
      {NVME_ADMIN_FIRMWARE_COMMIT, "firmware-commit"},
      {NVME_ADMIN_FIRMWARE_DOWNLOAD, "firmware-download"},
      {NVME_ADMIN_KEEP_ALIVE, "keep-alive"},
      {NVME_ADMIN_DOORBELL_BUFFER_CONFIG, "doorbell-buffer"},
      {NVME_ADMIN_VENDOR_SEND, "management-send"},
      {NVME_ADMIN_VENDOR_RECEIVE, "management-receive"},
};

const char *trace_opcode_name(uint16_t sqid, uint8_t opcode)
{
    size_t count = sqid == 0 ? ARRAY_SIZE(admin_opcodes) : ARRAY_SIZE(io_opcodes);

    for (size_t i = 0; i < count; i++) {
        if ((sqid == 0 ? admin_opcodes[i].opcode : io_opcodes[i].opcode) == opcode) {
            return sqid == 0 ? admin_opcodes[i].name : io_opcodes[i].name;
        }
    }
    return NULL;
}

/* An opcode by its name; "opcode 0x.." when it has none. */
static int put_opcode(char *out, size_t room_bytes, uint16_t sqid, uint8_t opcode)
{
    const char *name = trace_opcode_name(sqid, opcode);

    return name != NULL ? snprintf(out, room_bytes, "%s  ", name)
                        : snprintf(out, room_bytes, "opcode 0x%02x  ", opcode);
}

static bool is_hex(const char *name)
{
    return strcmp(name, "host_addr") == 0 || strcmp(name, "status") == 0 ||
           strcmp(name, "cdw10") == 0;
}

static size_t put_argument(char *out, size_t room_bytes, const char *name, uint64_t value,
                           const struct trace_record *record)
{
    bool is_admin = record->event == TRACE_ADMIN_FETCH;
    uint16_t sqid = is_admin ? 0 : (uint16_t)(record->id >> 16);
    unsigned high = (unsigned)(value >> 32);
    unsigned middle = (unsigned)(value >> 16 & 0xffff);
    unsigned low = (unsigned)(value & 0xffff);
    int len;

    if (strcmp(name, "-") == 0) {
        return 0;
    }
    if (strcmp(name, "sqid_cid") == 0) {
        len = snprintf(out, room_bytes, "sq %u cid %u  ", middle, low);
    } else if (strcmp(name, "opcode_nsid") == 0) {
        len = put_opcode(out, room_bytes, sqid, (uint8_t)high);
        len += snprintf(out + len, room_bytes - (size_t)len, "nsid %u  ", (unsigned)value);
    } else if (strcmp(name, "opcode") == 0) {
        len = put_opcode(out, room_bytes, sqid, (uint8_t)value);
    } else if (strcmp(name, "association") == 0) {
        len = snprintf(out, room_bytes, "cntlid %u qid %u wire cid %u  ", high, middle, low);
    } else if (strcmp(name, "drive") == 0 &&
               (record->event == TRACE_DRIVE_SEND || record->event == TRACE_DRIVE_DONE)) {
        len = snprintf(out, room_bytes, "drive %u qid %u cid %u  ", high, middle, low);
    } else if (strcmp(name, "is_quiet") == 0) {
        len = snprintf(out, room_bytes, "%s  ",
                       value != 0 ? "for quiet after a lost path" : "for a path");
    } else {
        len = snprintf(out, room_bytes, is_hex(name) ? "%s 0x%" PRIx64 "  " : "%s %" PRIu64 "  ",
                       name, value);
    }
    return (size_t)len < room_bytes ? (size_t)len : room_bytes - 1;
}

void trace_arguments(const struct trace_record *record, char *out, size_t room_bytes)
{
    bool is_named = is_known(record->event);
    const char *const names[] = {is_named ? events[record->event].id : "id",
                                 is_named ? events[record->event].a : "a",
                                 is_named ? events[record->event].b : "b"};
    const uint64_t values[] = {record->id, record->a, record->b};
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        used += put_argument(out + used, room_bytes - used, names[i], values[i], record);
    }
    while (used > 0 && out[used - 1] == ' ') {
        out[--used] = '\0';
    }
}
