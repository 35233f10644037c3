#include "mgmt/rig.h"

#include <string.h>
#include "base/bits.h"
#include "base/crc.h"

struct rig rig;

static uint32_t function_count(void)
{
    return RIG_RECORDS;
}

static uint32_t function_fill(uint32_t index, void *record)
{
    struct rig_record *out = record;

    assert_int_equal(out->zero, 0);
    assert_true(index < RIG_RECORDS);
    out->index = index;
    return index % 4 == 3 ? 0 : MGMT_OWNER_FN(index % 3);
}

static uint32_t function_owners(uint32_t index)
{
    return index % 4 == 3 ? 0 : MGMT_OWNER_FN(index % 3);
}

static uint32_t stat_fill(uint32_t index, void *record)
{
    rig.fill_count++;
    return function_fill(index, record);
}

static uint32_t one(void)
{
    return 1;
}

static uint32_t public_fill(uint32_t index, void *record)
{
    (void)index;
    (void)record;
    return MGMT_OWNER_PUBLIC;
}

static uint32_t board_fill(uint32_t index, void *record)
{
    (void)index;
    (void)record;
    return MGMT_OWNER_BOARD;
}

static enum mgmt_status prepare(void)
{
    rig.prepare_count++;
    return rig.prepared;
}

static enum mgmt_status read_object(uint16_t part, struct mgmt_read *out, uint8_t *data)
{
    if (part > 1) {
        return MGMT_OUT_OF_RANGE;
    }
    memset(data, 'a', out->data_bytes); /* all that there is room for */
    out->end = 1u << 20;
    return MGMT_OK;
}

static enum mgmt_status write_object(const struct mgmt_from *from, uint64_t offset,
                                     const uint8_t *data, uint32_t len_bytes)
{
    (void)from;
    rig.written_at = offset;
    rig.written_bytes = len_bytes;
    memcpy(rig.written, data, min_u32(len_bytes, sizeof(rig.written)));
    return MGMT_OK;
}

static enum mgmt_status refuse(const struct mgmt_from *from, const uint8_t *arguments,
                               uint32_t len_bytes, uint8_t *answer, uint32_t *answer_bytes)
{
    (void)from;
    (void)arguments;
    rig.action_bytes = len_bytes;
    memcpy(answer, "because", 7);
    *answer_bytes = 7;
    return MGMT_REFUSED;
}

static void hello(struct mgmt_hello *out)
{
    out->core_count = 4;
}

static const struct mgmt_class_table classes[] = {
    {MGMT_CLASS_FUNCTION, sizeof(struct rig_record), true, false, function_count, function_fill,
     NULL, NULL},
    {MGMT_CLASS_SLOT, sizeof(struct rig_record), true, false, one, public_fill, NULL, NULL},
    {MGMT_CLASS_POLLER, sizeof(struct rig_record), false, true, one, board_fill, prepare, NULL},
    {MGMT_CLASS_STAT, sizeof(struct rig_record), false, false, function_count, stat_fill, NULL,
     function_owners},
};

static const struct mgmt_object_table objects[] = {
    {MGMT_OBJECT_LOG, true, read_object, NULL},
    {MGMT_OBJECT_CONFIG, false, read_object, write_object},
    {MGMT_OBJECT_IMAGE, false, NULL, write_object},
};

static const struct mgmt_action_table actions[] = {
    {MGMT_ACTION_RESET, refuse},
};

const struct mgmt_tables rig_tables = {.hello = hello,
                                       .classes = classes,
                                       .objects = objects,
                                       .actions = actions,
                                       .class_count = ARRAY_SIZE(classes),
                                       .object_count = ARRAY_SIZE(objects),
                                       .action_count = ARRAY_SIZE(actions)};

void rig_console(void)
{
    memset(&rig, 0, sizeof(rig));
    rig.action_bytes = UINT32_MAX;
    rig.from = (struct mgmt_from){.origin = MGMT_ORIGIN_CONSOLE,
                                  .may_see_all = true,
                                  .may_change = true,
                                  .message_max = MGMT_FRAME_BYTES};
}

void rig_host(uint16_t fn)
{
    rig_console();
    rig.from = (struct mgmt_from){.origin = fn, .message_max = MGMT_BAND_BYTES};
}

void rig_seal(void)
{
    struct mgmt_head *head = (struct mgmt_head *)(void *)rig.request;
    uint32_t crc = crc32_update(0, head, MGMT_HEAD_CRC_BYTES);

    head->crc = crc32_update(crc, rig.request + sizeof(*head), head->payload_bytes);
}

uint32_t rig_make(uint8_t op, const void *payload, uint32_t payload_bytes)
{
    struct mgmt_head head = {.magic = MGMT_MAGIC,
                             .version = MGMT_VERSION,
                             .op = op,
                             .tag = 0x12345678,
                             .payload_bytes = payload_bytes};

    memcpy(rig.request, &head, sizeof(head));
    if (payload_bytes > 0) {
        memcpy(rig.request + sizeof(head), payload, payload_bytes);
    }
    rig_seal();
    return (uint32_t)sizeof(head) + payload_bytes;
}

enum mgmt_status rig_send(uint32_t len_bytes)
{
    memset(rig.response, 0xee, sizeof(rig.response));
    uint32_t got = mgmt_serve(&rig_tables, &rig.from, rig.request, len_bytes, rig.response);

    assert_in_range(got, sizeof(rig.head), rig.from.message_max);
    for (uint32_t i = rig.from.message_max; i < sizeof(rig.response); i++) {
        assert_int_equal(rig.response[i], 0xee);
    }
    memcpy(&rig.head, rig.response, sizeof(rig.head));
    rig.payload = rig.response + sizeof(rig.head);
    assert_int_equal(rig.head.magic, MGMT_MAGIC);
    assert_int_equal(rig.head.version, MGMT_VERSION);
    assert_int_equal(rig.head.payload_bytes, got - sizeof(rig.head));
    assert_int_equal(rig.head.flags, MGMT_FLAG_RESPONSE | (rig.from.is_hung ? MGMT_FLAG_HUNG : 0));
    assert_int_equal(rig.head.crc, crc32_update(crc32_update(0, &rig.head, MGMT_HEAD_CRC_BYTES),
                                                rig.payload, rig.head.payload_bytes));
    return (enum mgmt_status)rig.head.status;
}

enum mgmt_status rig_ask(uint8_t op, const void *payload, uint32_t payload_bytes)
{
    enum mgmt_status status = rig_send(rig_make(op, payload, payload_bytes));

    assert_int_equal(rig.head.op, op);
    assert_int_equal(rig.head.tag, 0x12345678);
    return status;
}
