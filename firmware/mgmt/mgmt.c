/*
 * The check of a request, and its answer out of the tables.
 *
 * The request is the sender's: every length is checked against what arrived, fixed parts are copied
 * out before they are looked at.
 */
#include "mgmt/mgmt.h"

#include <string.h>
#include "base/assert.h"
#include "base/bits.h"
#include "base/crc.h"

/* A request under way. */
struct serving {
    const struct mgmt_tables *tables;
    const struct mgmt_from *from;
    const uint8_t *payload;
    uint32_t payload_bytes;
    uint8_t *answer; /* payload of the response, 8-byte aligned */
    uint32_t room;   /* bytes of it */
    uint32_t used;
};

/* The fixed part of a request; false: it is shorter. */
static bool take(const struct serving *s, void *fixed, uint32_t len_bytes)
{
    if (s->payload_bytes < len_bytes) {
        return false;
    }
    memcpy(fixed, s->payload, len_bytes);
    return true;
}

/* A row of a table, all of which begin with their number; NULL: there is none. */
static const void *row_find(const void *rows, uint32_t count, uint32_t row_bytes, uint16_t id)
{
    const uint8_t *row = rows;

    for (uint32_t i = 0; i < count; i++, row += row_bytes) {
        if (*(const uint16_t *)(const void *)row == id) {
            return row;
        }
    }
    return NULL;
}
ASSERT_OFFSET(struct mgmt_class_table, id, 0);
ASSERT_OFFSET(struct mgmt_object_table, id, 0);
ASSERT_OFFSET(struct mgmt_action_table, id, 0);

#define ROW_FIND(rows, count, id) row_find(rows, count, sizeof((rows)[0]), id)

/* --- HELLO ----------------------------------------------------------------------------------- */

/* Whether there is any record for them. */
static bool is_for(const struct mgmt_from *from, const struct mgmt_class_table *class)
{
    return from->may_see_all || !class->is_boards;
}

static bool may_list(const struct mgmt_from *from, const struct mgmt_class_table *class)
{
    return class->is_hang_safe || !from->is_hung;
}

static enum mgmt_status hello(struct serving *s)
{
    struct mgmt_hello *out = (struct mgmt_hello *)(void *)s->answer;

    memset(out, 0, sizeof(*out));
    out->version = MGMT_VERSION;
    out->min_version = MGMT_MIN_VERSION;
    out->origin = s->from->origin;
    out->message_max = s->from->message_max;
    out->may =
        (s->from->may_see_all ? MGMT_MAY_SEE_ALL : 0) | (s->from->may_change ? MGMT_MAY_CHANGE : 0);
    for (uint32_t i = 0; i < s->tables->class_count; i++) {
        const struct mgmt_class_table *class = &s->tables->classes[i];
        if (is_for(s->from, class) && may_list(s->from, class)) {
            out->classes |= UINT64_C(1) << class->id;
        }
    }
    for (uint32_t i = 0; s->from->may_change && i < s->tables->object_count; i++) {
        if (s->tables->objects[i].is_hang_safe || !s->from->is_hung) {
            out->objects |= 1u << s->tables->objects[i].id;
        }
    }
    for (uint32_t i = 0; s->from->may_change && !s->from->is_hung && i < s->tables->action_count;
         i++) {
        out->actions |= 1u << s->tables->actions[i].id;
    }
    s->tables->hello(out);
    s->used = sizeof(*out);
    return MGMT_OK;
}

/* --- LIST ------------------------------------------------------------------------------------ */

static bool may_see(const struct mgmt_from *from, uint32_t owners)
{
    return from->may_see_all ? owners != 0
                             : from->origin < 31 && (owners & MGMT_OWNER_FN(from->origin)) != 0;
}

static void list_records(struct serving *s, const struct mgmt_class_table *class, uint32_t first,
                         uint32_t max)
{
    struct mgmt_list *list = (struct mgmt_list *)(void *)s->answer;
    uint32_t count = is_for(s->from, class) ? class->count() : 0;
    uint32_t fit = (s->room - (uint32_t)sizeof(*list)) / class->record_bytes;
    uint32_t index = first;

    ASSERT(class->record_bytes % 8 == 0 && fit > 0);
    fit = max == 0 ? fit : min_u32(fit, max);
    *list = (struct mgmt_list){.class = class->id, .record_bytes = class->record_bytes};
    for (uint32_t looked = 0; index < count && looked < MGMT_SCAN_MAX && list->count < fit;
         looked++, index++) {
        uint8_t *record = s->answer + sizeof(*list) + (size_t)list->count * class->record_bytes;
        if (class->owners != NULL && !may_see(s->from, class->owners(index))) {
            continue;
        }
        memset(record, 0, class->record_bytes);
        if (may_see(s->from, class->fill(index, record))) {
            list->count++;
        } else {
            memset(record, 0,
                   class->record_bytes); /* it may be the last: nobody reads what it said */
        }
    }
    list->next = index < count ? index : MGMT_LIST_END;
    s->used = (uint32_t)sizeof(*list) + list->count * class->record_bytes;
}

static enum mgmt_status list(struct serving *s)
{
    struct mgmt_list_request request;

    if (!take(s, &request, sizeof(request))) {
        return MGMT_OUT_OF_RANGE;
    }
    const struct mgmt_class_table *class =
        ROW_FIND(s->tables->classes, s->tables->class_count, request.class);
    if (class == NULL) {
        return MGMT_NOT_FOUND;
    }
    if (!may_list(s->from, class)) {
        return MGMT_HUNG;
    }
    if (request.first == 0 && class->prepare != NULL && is_for(s->from, class)) {
        enum mgmt_status status = class->prepare();
        if (status != MGMT_OK) {
            return status;
        }
    }
    list_records(s, class, request.first, request.max);
    return MGMT_OK;
}

/* --- READ, WRITE ----------------------------------------------------------------------------- */

static enum mgmt_status read(struct serving *s)
{
    struct mgmt_read_request request;
    struct mgmt_read *out = (struct mgmt_read *)(void *)s->answer;
    uint32_t room = s->room - (uint32_t)sizeof(*out);

    if (!s->from->may_change) {
        return MGMT_NOT_ALLOWED;
    }
    if (!take(s, &request, sizeof(request))) {
        return MGMT_OUT_OF_RANGE;
    }
    const struct mgmt_object_table *object =
        ROW_FIND(s->tables->objects, s->tables->object_count, request.object);
    if (object == NULL) {
        return MGMT_NOT_FOUND;
    }
    if (object->read == NULL) {
        return MGMT_UNSUPPORTED;
    }
    if (s->from->is_hung && !object->is_hang_safe) {
        return MGMT_HUNG;
    }
    room = request.max_bytes == 0 ? room : min_u32(room, request.max_bytes);
    *out =
        (struct mgmt_read){.object = request.object, .data_bytes = room, .offset = request.offset};
    enum mgmt_status status = object->read(request.part, out, s->answer + sizeof(*out));
    ASSERT(status != MGMT_OK || out->data_bytes <= room);
    s->used = status == MGMT_OK ? (uint32_t)sizeof(*out) + out->data_bytes : 0;
    return status;
}

/* What may change something: the guards of WRITE and ACTION. */
static enum mgmt_status change_check(const struct serving *s)
{
    return !s->from->may_change ? MGMT_NOT_ALLOWED : s->from->is_hung ? MGMT_HUNG : MGMT_OK;
}

static enum mgmt_status write(struct serving *s)
{
    struct mgmt_write_request request;
    enum mgmt_status status = change_check(s);

    if (status != MGMT_OK) {
        return status;
    }
    if (!take(s, &request, sizeof(request)) ||
        request.data_bytes > s->payload_bytes - sizeof(request)) {
        return MGMT_OUT_OF_RANGE;
    }
    const struct mgmt_object_table *object =
        ROW_FIND(s->tables->objects, s->tables->object_count, request.object);
    if (object == NULL) {
        return MGMT_NOT_FOUND;
    }
    if (object->write == NULL) {
        return MGMT_UNSUPPORTED;
    }
    return object->write(s->from, request.offset, s->payload + sizeof(request), request.data_bytes);
}

/* --- ACTION ---------------------------------------------------------------------------------- */

static enum mgmt_status action(struct serving *s)
{
    struct mgmt_action_request request;
    enum mgmt_status status = change_check(s);

    if (status != MGMT_OK) {
        return status;
    }
    if (!take(s, &request, sizeof(request)) ||
        request.argument_bytes > s->payload_bytes - sizeof(request)) {
        return MGMT_OUT_OF_RANGE;
    }
    const struct mgmt_action_table *row =
        ROW_FIND(s->tables->actions, s->tables->action_count, request.action);
    if (row == NULL) {
        return MGMT_NOT_FOUND;
    }
    s->used = s->room;
    status = row->run(s->from, s->payload + sizeof(request), request.argument_bytes, s->answer,
                      &s->used);
    ASSERT(s->used <= s->room);
    return status;
}

/* --- messages -------------------------------------------------------------------------------- */

static enum mgmt_status run(struct serving *s, uint8_t op)
{
    switch (op) {
    case MGMT_OP_HELLO:
        return hello(s);
    case MGMT_OP_LIST:
        return list(s);
    case MGMT_OP_READ:
        return read(s);
    case MGMT_OP_WRITE:
        return write(s);
    case MGMT_OP_ACTION:
        return action(s);
    default:
        return MGMT_UNKNOWN_OP;
    }
}

static uint32_t crc_of(const struct mgmt_head *head, const uint8_t *payload)
{
    uint32_t crc = crc32_update(0, head, MGMT_HEAD_CRC_BYTES);

    return crc32_update(crc, payload, head->payload_bytes);
}

/* What is behind the message is not looked at. */
static enum mgmt_status message_check(const struct mgmt_head *head, const uint8_t *payload,
                                      uint32_t len_bytes)
{
    if (len_bytes < sizeof(*head) || head->magic != MGMT_MAGIC ||
        head->payload_bytes > len_bytes - sizeof(*head) ||
        (head->flags & MGMT_FLAG_RESPONSE) != 0 || head->crc != crc_of(head, payload)) {
        return MGMT_BAD_MESSAGE;
    }
    if (head->op == MGMT_OP_HELLO) {
        return MGMT_OK;
    }
    return head->version > MGMT_VERSION       ? MGMT_OLD_FIRMWARE
           : head->version < MGMT_MIN_VERSION ? MGMT_OLD_TOOL
                                              : MGMT_OK;
}

static uint32_t seal(struct mgmt_head *head, const uint8_t *payload)
{
    head->crc = crc_of(head, payload);
    return (uint32_t)sizeof(*head) + head->payload_bytes;
}

uint32_t mgmt_seal(void *message, uint8_t op, uint32_t tag, uint32_t payload_bytes)
{
    struct mgmt_head *head = message;

    *head = (struct mgmt_head){.magic = MGMT_MAGIC,
                               .version = MGMT_VERSION,
                               .op = op,
                               .tag = tag,
                               .payload_bytes = payload_bytes};
    return seal(head, (const uint8_t *)message + sizeof(*head));
}

uint32_t mgmt_serve(const struct mgmt_tables *tables, const struct mgmt_from *from,
                    const void *request, uint32_t len_bytes, void *response)
{
    struct mgmt_head asked = {0};
    struct mgmt_head *head = response;
    struct serving s = {.tables = tables,
                        .from = from,
                        .payload = (const uint8_t *)request + sizeof(asked),
                        .answer = (uint8_t *)response + sizeof(*head),
                        .room = from->message_max - (uint32_t)sizeof(*head)};

    ASSERT(from->message_max >= MGMT_FRAME_BYTES);
    memcpy(&asked, request, min_u32(len_bytes, sizeof(asked)));
    enum mgmt_status status = message_check(&asked, s.payload, len_bytes);
    if (status == MGMT_OK) {
        s.payload_bytes = asked.payload_bytes;
        status = run(&s, asked.op);
    }
    *head = (struct mgmt_head){.magic = MGMT_MAGIC,
                               .version = MGMT_VERSION,
                               .op = asked.op,
                               .status = (uint16_t)status,
                               .tag = asked.tag,
                               .flags = MGMT_FLAG_RESPONSE | (from->is_hung ? MGMT_FLAG_HUNG : 0),
                               .payload_bytes = s.used};
    return seal(head, s.answer);
}
