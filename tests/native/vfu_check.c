/*
 * Checks a running vfio-user NVMe target from outside, as a VM would use it: set-up, data, resets,
 * disconnects. Prints a line for each test and "N passed, N failed".
 *
 *   vfu_check DIR        the target's folder; namespace 1 is overwritten
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "spec/mgmt.h"
#include "spec/mgmt_record.h"
#include "tests/native/vfu_client.h"

#define QUEUE_ENTRIES 64
#define AREA_BYTES    (1u << 20)

struct check {
    const char *dir;
    struct vfu_client client;
    struct vfu_queue queue;
    uint32_t lba_bytes;
    uint8_t *buffer; /* AREA_BYTES + one page, for offsets */
    uint8_t *list;   /* one page of PRP entries, two for chains */
};

static uint32_t failed_in_test;

static bool expect(bool condition, const char *what)
{
    if (!condition) {
        printf("     %s\n", what);
        failed_in_test++;
    }
    return condition;
}
#define EXPECT(condition) expect((condition), #condition)

static void start(struct check *check)
{
    vfu_client_open(&check->client, check->dir, UINT64_C(16) << 20);
    vfu_client_enable(&check->client);
    check->queue = (struct vfu_queue){0};
    vfu_client_create_queue(&check->client, &check->queue, 1, QUEUE_ENTRIES);
    check->buffer = vfu_client_alloc(&check->client, AREA_BYTES + 4096);
    check->list = vfu_client_alloc(&check->client, 4096);
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_IDENTIFY, .nsid = 1};
    EXPECT(vfu_client_admin(&check->client, &sqe, check->buffer, NULL) == NVME_SC_SUCCESS);
    check->lba_bytes = 1u << check->buffer[128 + 4 * (check->buffer[26] & 0xf) + 2];
}

static void stop(struct check *check)
{
    vfu_client_close(&check->client);
}

/* IEEE 802.3, bit by bit; goes on from `crc`. */
static uint32_t crc32(uint32_t crc, const void *bytes, size_t len_bytes)
{
    crc = ~crc;
    for (size_t i = 0; i < len_bytes * 8; i++) {
        uint32_t bit = (uint32_t)((const uint8_t *)bytes)[i / 8] >> i % 8 & 1;
        crc = ((crc ^ bit) & 1) != 0 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
    }
    return ~crc;
}

static void fill(uint8_t *p, uint32_t bytes, uint32_t seed)
{
    for (uint32_t i = 0; i < bytes; i++) {
        seed = seed * 1664525u + 1013904223u; /* Numerical Recipes' generator */
        p[i] = (uint8_t)(seed >> 24);
    }
}

static bool filled(const uint8_t *p, uint32_t bytes, uint32_t seed)
{
    for (uint32_t i = 0; i < bytes; i++) {
        seed = seed * 1664525u + 1013904223u;
        if (p[i] != (uint8_t)(seed >> 24)) {
            return false;
        }
    }
    return true;
}

/* One Read or Write of `bytes` at `data`, which may start anywhere dword-aligned in a page. */
static nvme_status_t transfer(struct check *check, uint8_t opcode, uint8_t *data, uint64_t lba,
                              uint32_t bytes)
{
    uint64_t addr = vfu_client_addr(&check->client, data);
    uint64_t first = 4096 - addr % 4096;
    uint64_t *list = (uint64_t *)(void *)check->list;
    struct nvme_sqe sqe = {.opcode = opcode,
                           .nsid = 1,
                           .prp1 = addr,
                           .cdw10 = (uint32_t)lba,
                           .cdw11 = (uint32_t)(lba >> 32),
                           .cdw12 = bytes / check->lba_bytes - 1};
    if (bytes > first) {
        uint64_t rest = bytes - first;
        sqe.prp2 = addr + first;
        if (rest > 4096) {
            for (uint64_t i = 0; i * 4096 < rest; i++) {
                list[i] = addr + first + i * 4096;
            }
            sqe.prp2 = vfu_client_addr(&check->client, list);
        }
    }
    return vfu_queue_run(&check->client, &check->queue, &sqe);
}

/* --- tests --------------------------------------------------------------------------------- */

static void data_of_every_size_survives(struct check *check)
{
    start(check);
    for (uint32_t bytes = check->lba_bytes; bytes <= AREA_BYTES; bytes *= 2) {
        for (uint32_t offset = 0; offset < 4096; offset += 1364) {
            uint32_t seed = bytes ^ offset;
            fill(check->buffer + offset, bytes, seed);
            EXPECT(transfer(check, NVME_IO_WRITE, check->buffer + offset, 7, bytes) == 0);
            memset(check->buffer, 0x5a, AREA_BYTES + 4096);
            EXPECT(transfer(check, NVME_IO_READ, check->buffer + offset, 7, bytes) == 0);
            EXPECT(filled(check->buffer + offset, bytes, seed));
            EXPECT(offset == 0 || check->buffer[offset - 1] == 0x5a);
            EXPECT(check->buffer[offset + bytes] == 0x5a);
        }
    }
    stop(check);
}

static void data_survives_reset_and_reconnect(struct check *check)
{
    start(check);
    fill(check->buffer, 65536, 1);
    EXPECT(transfer(check, NVME_IO_WRITE, check->buffer, 64, 65536) == 0);
    stop(check); /* without a shutdown, as a VM that is killed */
    start(check);
    memset(check->buffer, 0, 65536);
    EXPECT(transfer(check, NVME_IO_READ, check->buffer, 64, 65536) == 0);
    EXPECT(filled(check->buffer, 65536, 1));
    stop(check);
}

static void reset_under_load_leaves_memory_alone(struct check *check)
{
    start(check);
    uint64_t addr = vfu_client_addr(&check->client, check->buffer);
    for (uint32_t round = 0; round < 50; round++) {
        for (uint16_t i = 0; i < QUEUE_ENTRIES - 1; i++) {
            *vfu_queue_next(&check->queue) =
                (struct nvme_sqe){.opcode = NVME_IO_READ,
                                  .cid = i,
                                  .nsid = 1,
                                  .prp1 = addr + i * 4096u,
                                  .cdw12 = 4096 / check->lba_bytes - 1};
        }
        vfu_queue_ring(&check->client, &check->queue);
        if (round % 2 == 0) {
            vfu_client_reset(&check->client);
        } else {
            vfu_client_write32(&check->client, NVME_REG_CC, 0);
            while ((vfu_client_read32(&check->client, NVME_REG_CSTS) & NVME_CSTS_RDY) != 0) {
            }
        }
        /* From here on nothing of the old queue may arrive. */
        memset(check->buffer, 0xa5, AREA_BYTES);
        vfu_client_enable(&check->client);
        vfu_client_create_queue(&check->client, &check->queue, 1, QUEUE_ENTRIES);
        bool untouched = true;
        for (uint32_t i = 0; i < AREA_BYTES; i++) {
            untouched = untouched && check->buffer[i] == 0xa5;
        }
        EXPECT(untouched);
    }
    stop(check);
}

static void bad_commands_get_their_status(struct check *check)
{
    start(check);
    struct nvme_sqe bad_opcode = {.opcode = 0x7f, .nsid = 1};
    EXPECT(NVME_STATUS_CODE(vfu_queue_run(&check->client, &check->queue, &bad_opcode)) ==
           NVME_SC_INVALID_OPCODE);
    struct nvme_sqe bad_ns = {.opcode = NVME_IO_READ, .nsid = 0xfffffffe};
    EXPECT(NVME_STATUS_CODE(vfu_queue_run(&check->client, &check->queue, &bad_ns)) ==
           NVME_SC_INVALID_NS_OR_FORMAT);
    struct nvme_sqe bad_range = {.opcode = NVME_IO_READ,
                                 .nsid = 1,
                                 .prp1 = vfu_client_addr(&check->client, check->buffer),
                                 .cdw11 = 0xffffffff};
    EXPECT(NVME_STATUS_CODE(vfu_queue_run(&check->client, &check->queue, &bad_range)) ==
           NVME_SC_LBA_OUT_OF_RANGE);
    struct nvme_sqe bad_address = {.opcode = NVME_IO_READ, .nsid = 1, .prp1 = 0x1000};
    EXPECT(vfu_queue_run(&check->client, &check->queue, &bad_address) != 0);
    struct nvme_sqe good = {
        .opcode = NVME_IO_READ, .nsid = 1, .prp1 = vfu_client_addr(&check->client, check->buffer)};
    EXPECT(vfu_queue_run(&check->client, &check->queue, &good) == 0);
    stop(check);
}

/* A management message by the vendor commands; its response in check->buffer. */
static const struct mgmt_head *manage(struct check *check, uint8_t op, uint16_t class)
{
    struct mgmt_list_request list = {.class = class};
    struct mgmt_head head = {.magic = MGMT_MAGIC,
                             .version = MGMT_VERSION,
                             .op = op,
                             .tag = 77,
                             .payload_bytes = op == MGMT_OP_LIST ? sizeof(list) : 0};
    struct nvme_sqe send = {.opcode = MGMT_NVME_SEND, .cdw10 = 8};
    struct nvme_sqe receive = {.opcode = MGMT_NVME_RECEIVE, .cdw10 = 1024};
    const struct mgmt_head *answer = (const struct mgmt_head *)(const void *)check->buffer;
    uint32_t dw0 = 0;

    head.crc = crc32(crc32(0, &head, MGMT_HEAD_CRC_BYTES), &list, head.payload_bytes);
    memcpy(check->buffer, &head, sizeof(head));
    memcpy(check->buffer + sizeof(head), &list, sizeof(list));
    EXPECT(vfu_client_admin(&check->client, &send, check->buffer, NULL) == 0);
    memset(check->buffer, 0x5a, 4096);
    EXPECT(vfu_client_admin(&check->client, &receive, check->buffer, &dw0) == 0);
    EXPECT(answer->magic == MGMT_MAGIC && answer->tag == 77 && answer->status == MGMT_OK);
    EXPECT(dw0 == sizeof(*answer) + answer->payload_bytes);
    return answer;
}

static void host_asks_for_its_own_state(struct check *check)
{
    struct nvme_sqe receive = {.opcode = MGMT_NVME_RECEIVE, .cdw10 = 1024};
    struct nvme_sqe log = {.opcode = NVME_ADMIN_GET_LOG_PAGE,
                           .cdw10 = MGMT_NVME_LOG_PAGE | 1023u << 16};

    start(check);
    EXPECT(NVME_STATUS_CODE(vfu_client_admin(&check->client, &receive, check->buffer, NULL)) ==
           NVME_SC_COMMAND_SEQUENCE_ERROR);
    const struct mgmt_hello *hello =
        (const struct mgmt_hello *)(const void *)(manage(check, MGMT_OP_HELLO, 0) + 1);
    EXPECT(hello->origin != MGMT_ORIGIN_CONSOLE && hello->may == 0);
    uint16_t fn = hello->origin;

    const struct mgmt_list *list =
        (const struct mgmt_list *)(const void *)(manage(check, MGMT_OP_LIST, MGMT_CLASS_FUNCTION) +
                                                 1);
    const struct mgmt_function *function = (const struct mgmt_function *)(const void *)(list + 1);
    EXPECT(list->count == 1 && list->record_bytes == sizeof(*function) && function->fn == fn);
    EXPECT(strcmp(function->state, "READY") == 0);
    EXPECT(function->sq_count == 1 && function->asq == check->client.memory_addr);

    manage(check, MGMT_OP_LIST, MGMT_CLASS_QUEUE);
    const struct mgmt_queue *queues = (const struct mgmt_queue *)(const void *)(list + 1);
    EXPECT(list->count == 2 && queues[0].qid == 0 && queues[1].qid == 1);
    EXPECT(queues[0].in_flight == 1); /* the one that asks */
    EXPECT(queues[1].in_flight == 0 && queues[1].sq_size == QUEUE_ENTRIES);
    EXPECT(queues[1].sq_base == vfu_client_addr(&check->client, check->queue.sq));

    manage(check, MGMT_OP_LIST, MGMT_CLASS_REACTOR);
    EXPECT(list->count == 0);
    manage(check, MGMT_OP_LIST, MGMT_CLASS_STAT);
    const struct mgmt_stat *stat = (const struct mgmt_stat *)(const void *)(list + 1);
    EXPECT(list->count > 10 && strcmp(stat->name, "commands") == 0 && stat->value > 0);
    EXPECT(vfu_client_admin(&check->client, &log, check->buffer, NULL) == 0);
    EXPECT(memcmp(check->buffer, "SNMG", 4) == 0);
    stop(check);
}

/* The caller compares these between controllers. */
static void controller_has_a_name(struct check *check)
{
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_IDENTIFY, .cdw10 = 1};

    start(check);
    EXPECT(vfu_client_admin(&check->client, &sqe, check->buffer, NULL) == NVME_SC_SUCCESS);
    const char *serial = (const char *)check->buffer + 4; /* 20 characters, padded */
    const char *subnqn = (const char *)check->buffer + 768;
    EXPECT(serial[0] > ' ' && memcmp(subnqn, "nqn.", 4) == 0);
    printf("identity %.20s %.223s\n", serial, subnqn);
    stop(check);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(struct check *check);
    } tests[] = {
        {"the controller has a name", controller_has_a_name},
        {"data of every size survives", data_of_every_size_survives},
        {"data survives reset and reconnect", data_survives_reset_and_reconnect},
        {"reset under load leaves memory alone", reset_under_load_leaves_memory_alone},
        {"bad commands get their status", bad_commands_get_their_status},
        {"a host asks for its own state", host_asks_for_its_own_state},
    };
    static struct check check;
    uint32_t failed = 0;
    if (argc != 2) {
        fprintf(stderr, "usage: vfu_check DIR\n");
        return 2;
    }
    check.dir = argv[1];
    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        failed_in_test = 0;
        tests[i].run(&check);
        printf("%s %s\n", failed_in_test == 0 ? "ok  " : "FAIL", tests[i].name);
        fflush(stdout);
        failed += failed_in_test != 0;
    }
    printf("%u passed, %u failed\n", (unsigned)ARRAY_SIZE(tests) - failed, failed);
    return failed == 0 ? 0 : 1;
}
