/*
 * Fuzzes management: requests as a host and as the console may send them, and what a console takes
 * for frames. The first byte chooses: whose request, or bytes for the console; whether its CRC is
 * made right, so that what is behind the check is reached too.
 *
 * What must hold: no stray access, no failed assertion; each request gets one whole response that
 * fits; a host gets no record that is not its own; a frame that was taken is of no more than the
 * largest message and is made again from its bytes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/bits.h"
#include "base/crc.h"
#include "mgmt/frame.h"
#include "mgmt/mgmt.h"

#define FN 2u

static uint32_t count(void)
{
    return 1000;
}

static uint32_t fill(uint32_t index, void *record)
{
    uint64_t *out = record;

    ASSERT(index < 1000 && out[0] == 0 && out[7] == 0);
    out[0] = index % 5;
    out[7] = UINT64_MAX;
    return index % 7 == 0 ? 0 : MGMT_OWNER_FN(index % 5);
}

static uint32_t owners(uint32_t index)
{
    return index % 7 == 0 ? 0 : MGMT_OWNER_FN(index % 5);
}

static enum mgmt_status read_some(uint16_t part, struct mgmt_read *out, uint8_t *data)
{
    memset(data, (int)part, out->data_bytes);
    return part == 0 ? MGMT_OK : MGMT_OUT_OF_RANGE;
}

static enum mgmt_status write_some(const struct mgmt_from *from, uint64_t offset,
                                   const uint8_t *data, uint32_t len_bytes)
{
    uint32_t sum = 0;

    (void)from;
    (void)offset;
    for (uint32_t i = 0; i < len_bytes; i++) {
        sum += data[i];
    }
    return sum % 2 == 0 ? MGMT_OK : MGMT_REFUSED;
}

static enum mgmt_status act(const struct mgmt_from *from, const uint8_t *arguments,
                            uint32_t len_bytes, uint8_t *answer, uint32_t *answer_bytes)
{
    (void)from;
    *answer_bytes = min_u32(*answer_bytes, len_bytes);
    memcpy(answer, arguments, *answer_bytes);
    return MGMT_OK;
}

static void hello(struct mgmt_hello *out)
{
    out->core_count = 1;
}

static const struct mgmt_class_table classes[] = {
    {MGMT_CLASS_QUEUE, 64, true, false, count, fill, NULL, NULL},
    {MGMT_CLASS_STAT, 64, true, false, count, fill, NULL, owners},
    {MGMT_CLASS_QP, 1000, false, true, count, fill, NULL, NULL},
};
static const struct mgmt_object_table objects[] = {
    {MGMT_OBJECT_LOG, true, read_some, NULL},
    {MGMT_OBJECT_IMAGE, false, NULL, write_some},
};
static const struct mgmt_action_table actions[] = {{MGMT_ACTION_RUN, act}};
static const struct mgmt_tables tables = {.hello = hello,
                                          .classes = classes,
                                          .objects = objects,
                                          .actions = actions,
                                          .class_count = ARRAY_SIZE(classes),
                                          .object_count = ARRAY_SIZE(objects),
                                          .action_count = ARRAY_SIZE(actions)};

static void check_records(const struct mgmt_head *head, const uint8_t *payload)
{
    const struct mgmt_list *list = (const struct mgmt_list *)(const void *)payload;

    ASSERT(head->payload_bytes == sizeof(*list) + list->count * list->record_bytes);
    for (uint32_t i = 0; i < list->count; i++) {
        uint64_t owner;
        memcpy(&owner, payload + sizeof(*list) + i * list->record_bytes, sizeof(owner));
        ASSERT(owner == FN);
    }
}

static void serve(uint8_t how, const uint8_t *bytes, uint32_t len_bytes)
{
    bool is_host = (how & 1) != 0;
    struct mgmt_from from = {.origin = is_host ? FN : MGMT_ORIGIN_CONSOLE,
                             .may_see_all = !is_host,
                             .may_change = !is_host,
                             .is_hung = (how & 2) != 0,
                             .message_max = is_host ? MGMT_BAND_BYTES : MGMT_FRAME_BYTES};
    uint8_t *request = malloc(len_bytes + 1); /* of just its length, and at no good address */
    uint8_t *response = aligned_alloc(8, from.message_max);
    struct mgmt_head head;

    ASSERT(request != NULL && response != NULL);
    memcpy(request, bytes, len_bytes);
    if ((how & 4) != 0 && len_bytes >= sizeof(head)) {
        memcpy(&head, request, sizeof(head));
        head.magic = MGMT_MAGIC;
        head.version = MGMT_VERSION;
        head.flags = 0;
        head.payload_bytes = len_bytes - (uint32_t)sizeof(head);
        head.crc = crc32_update(crc32_update(0, &head, MGMT_HEAD_CRC_BYTES), request + sizeof(head),
                                head.payload_bytes);
        memcpy(request, &head, sizeof(head));
    }
    uint32_t got = mgmt_serve(&tables, &from, request, len_bytes, response);
    memcpy(&head, response, sizeof(head));
    ASSERT(got >= sizeof(head) && got <= from.message_max);
    ASSERT(head.payload_bytes == got - sizeof(head) && (head.flags & MGMT_FLAG_RESPONSE) != 0);
    if (is_host && head.status == MGMT_OK) {
        ASSERT(head.op == MGMT_OP_HELLO || head.op == MGMT_OP_LIST);
        if (head.op == MGMT_OP_LIST) {
            check_records(&head, response + sizeof(head));
        }
    }
    free(request);
    free(response);
}

static void type(const uint8_t *bytes, uint32_t len_bytes)
{
    static struct mgmt_frame frame;
    static struct mgmt_frame again;
    char text[MGMT_FRAME_TEXT_BYTES];

    memset(&frame, 0, sizeof(frame));
    for (uint32_t i = 0; i < len_bytes; i++) {
        if (mgmt_frame_byte(&frame, bytes[i]) != MGMT_FRAME_END) {
            continue;
        }
        ASSERT(frame.len_bytes > 0 && frame.len_bytes <= MGMT_FRAME_BYTES);
        uint32_t chars = mgmt_frame_make(frame.bytes, frame.len_bytes, text);
        enum mgmt_frame_event event = MGMT_FRAME_TEXT;
        memset(&again, 0, sizeof(again));
        for (uint32_t k = 0; k < chars; k++) {
            event = mgmt_frame_byte(&again, (uint8_t)text[k]);
        }
        ASSERT(event == MGMT_FRAME_END && again.len_bytes == frame.len_bytes);
        ASSERT(memcmp(again.bytes, frame.bytes, frame.len_bytes) == 0);
        serve(0, frame.bytes, frame.len_bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len == 0 || len > 8192) {
        return 0;
    }
    if ((bytes[0] & 8) != 0) {
        type(bytes + 1, (uint32_t)len - 1);
    } else {
        serve(bytes[0], bytes + 1, (uint32_t)len - 1);
    }
    return 0;
}
