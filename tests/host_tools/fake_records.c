/*
 * What the fake board has.
 */
#include "tests/host_tools/fake.h"

#include <string.h>
#include "host_tools/snicctl/message.h"
#include "spec/crash.h"
#include "spec/mgmt.h"
#include "spec/mgmt_record.h"

static const struct mgmt_function functions[] = {
    {.fn = 0,
     .flags = MGMT_FUNCTION_SERVING | MGMT_FUNCTION_BUS_MASTER,
     .cc = 0x00460001,
     .csts = 1,
     .aqa = 0x001f001f,
     .cap = 0x203c033fff,
     .asq = 0x10180000,
     .acq = 0x10181000,
     .view_generation = 3,
     .sq_count = 2,
     .cq_count = 2,
     .in_flight = {5, 0},
     .pool_low_water = {97, 128},
     .state = "READY",
     .name = "pcie0",
     .serial = "RACK7-0",
     .subnqn = "nqn.2014-08.org.example:snic",
     .hostnqn = "nqn.2014-08.org.example:host-7"},
    {.fn = 1, .state = "DISABLED", .name = "pcie1", .cap = 0x203c033fff, .serial = "RACK7-1"},
};

static struct mgmt_queue queues[] = {
    {.fn = 0,
     .qid = 0,
     .flags = MGMT_QUEUE_SQ | MGMT_QUEUE_CQ | MGMT_QUEUE_IEN | MGMT_QUEUE_PHASE,
     .core = 0,
     .in_flight = 1,
     .sq_base = 0x10180000,
     .cq_base = 0x10181000,
     .sq_size = 32,
     .sq_head = 12,
     .sq_doorbell = 12,
     .cq_size = 32,
     .cq_tail = 11,
     .cq_head = 11,
     .cq_doorbell = 11,
     .oldest_ns = 12500000000,
     .sqe_count = 44,
     .cqe_count = 43,
     .irq_count = 43},
    {.fn = 0,
     .qid = 1,
     .flags = MGMT_QUEUE_SQ | MGMT_QUEUE_CQ | MGMT_QUEUE_IEN | MGMT_QUEUE_COALESCING,
     .core = 1,
     .cq_id = 1,
     .vector = 1,
     .in_flight = 4,
     .sq_base = 0x10190000,
     .cq_base = 0x101a0000,
     .sq_size = 1024,
     .sq_head = 517,
     .sq_doorbell = 519,
     .cq_size = 1024,
     .cq_tail = 513,
     .cq_head = 512,
     .cq_doorbell = 513,
     .oldest_ns = 180500,
     .sqe_count = 4242421,
     .cqe_count = 4242417,
     .irq_count = MGMT_UNKNOWN64,
     .coalesce_entries = 8,
     .coalesce_us = 100},
    {.fn = 0,
     .qid = 2,
     .flags = MGMT_QUEUE_SQ | MGMT_QUEUE_CQ | MGMT_QUEUE_SHADOW,
     .core = 0,
     .cq_id = 2,
     .vector = 2,
     .sq_base = 0x101b0000,
     .cq_base = 0x101c0000,
     .sq_size = 1024,
     .cq_size = 1024,
     .irq_count = MGMT_UNKNOWN64},
};

static const struct mgmt_drive drives[] = {
    {.index = 0, .state = "READY", .name = "nvme0000:00:02.0"},
};

static const struct mgmt_namespace namespaces[] = {
    {.fn = 0, .nsid = 1, .lba_count = 524288, .block_bytes = 512, .name = "data"},
    {.fn = 0, .nsid = 2, .lba_count = 131072, .block_bytes = 512, .name = "scratch"},
};

static const struct mgmt_volume volumes[] = {
    {.index = 0,
     .path_count = 2,
     .flags = MGMT_VOLUME_READY | MGMT_VOLUME_KNOWN,
     .lba_count = 524288,
     .block_bytes = 512,
     .attached_count = 1,
     .state = "attached",
     .name = "data"},
    {.index = 1,
     .path_count = 1,
     .flags = MGMT_VOLUME_KNOWN | MGMT_VOLUME_READ_ONLY,
     .lba_count = 131072,
     .block_bytes = 512,
     .waiting = 3,
     .quiet_in_ns = 1250000000,
     .attached_count = 1,
     .state = "attached",
     .name = "scratch"},
};

static const struct mgmt_path paths[] = {
    {.volume = 0,
     .index = 0,
     .association = 0,
     .is_usable = 1,
     .requests = 4242417,
     .state = "usable",
     .name = "first nsid 1",
     .volume_name = "data"},
    {.volume = 0,
     .index = 1,
     .association = 1,
     .state = "no association",
     .name = "second nsid 1",
     .volume_name = "data",
     .why = "192.0.2.102 does not answer: is the target up, is the port 4421 right?"},
    {.volume = 1,
     .index = 0,
     .association = MGMT_NONE16,
     .is_usable = 0,
     .requests = 7,
     .state = "wrong block size",
     .name = "ram",
     .volume_name = "scratch",
     .why = "the path has blocks of 4096 bytes, the volume 512: set block-size"},
};

static const struct mgmt_association associations[] = {
    {.index = 0,
     .fn = 0,
     .cntlid = 1,
     .port = 4420,
     .queue_count = 2,
     .queue_entries = 128,
     .in_flight = 4,
     .ns_count = 1,
     .connect_count = 1,
     .memory_bytes = 1310720,
     .in_capsule_bytes = 4096,
     .max_transfer_bytes = 1048576,
     .keep_alive_ms = 5000,
     .quiesce_ms = 1000,
     .state = "LIVE",
     .name = "first",
     .address = "192.0.2.101",
     .subnqn = "nqn.2014-08.org.example:pool-a",
     .model = "Linux",
     .serial = "1234",
     .firmware = "6.12"},
    {.index = 1,
     .fn = 0,
     .cntlid = 0xffff,
     .port = 4421,
     .queue_entries = 128,
     .attempt_count = 17,
     .next_in_ns = 3200000000,
     .keep_alive_ms = 5000,
     .quiesce_ms = 1000,
     .state = "BACKOFF",
     .name = "second",
     .address = "192.0.2.102",
     .why = "no answer",
     .subnqn = "nqn.2014-08.org.example:pool-b"},
};

static const struct mgmt_connection connections[] = {
    {.port = 0,
     .local_port = 49153,
     .peer_port = 4420,
     .qpn = 0x11,
     .state = "ESTABLISHED",
     .local = "192.0.2.1",
     .peer = "192.0.2.101"},
};

static struct mgmt_qp qps[] = {
    {.port = 0,
     .fn = 0,
     .qpn = 0x11,
     .peer_qpn = 0x52,
     .send_posted = 2,
     .recv_posted = 128,
     .next_psn = 8123456,
     .una_psn = 8123450,
     .expected_psn = 99,
     .msn = 411,
     .window_packets = 64,
     .retries_left = 7,
     .rnr_retries_left = 7,
     .state = "RTS",
     .peer = "192.0.2.101",
     .stats = {1000, 2000, 3000000, 4000000, 5, 0, 1, 2, 0, 3, 0, 0, 4, 0, 0, 6}},
};

static const struct mgmt_port ports[] = {
    {.index = 0,
     .core = 1,
     .flags = MGMT_PORT_LINK_UP | MGMT_PORT_UP,
     .mac = {0x52, 0x54, 0, 0, 0, 1},
     .mtu = 4200,
     .path_mtu = 4096,
     .name = "eth0",
     .rdma = "soft0",
     .address = {"192.0.2.1/24", "fd00::1/64"}},
};

static struct mgmt_reactor reactors[] = {
    {.core = 0,
     .poller_count = 2,
     .turn_count = 90001,
     .busy_turn_count = 410,
     .msg_count = 12,
     .sleep_count = 88,
     .sleep_ns = 59000000000,
     .turn_age_ns = 1200},
    {.core = 1,
     .poller_count = 1,
     .turn_count = 1200345,
     .busy_turn_count = 700001,
     .sleep_count = 3,
     .sleep_ns = 1500000,
     .flags = MGMT_REACTOR_ASLEEP,
     .turn_age_ns = 900},
};

static struct mgmt_poller pollers[] = {
    {.core = 0, .run_count = 90001, .work_count = 400, .busy_ns = 3100000, .name = "app"},
    {.core = 0, .run_count = 90001, .work_count = 10, .busy_ns = 90000, .name = "console"},
    {.core = 1,
     .run_count = 1200345,
     .work_count = 700001,
     .busy_ns = 41000000000,
     .name = "nvme_ep0"},
};

static struct mgmt_stat stats[] = {
    {.group = "fn", .index = 0, .name = "commands", .value = 4242465},
    {.group = "fn", .index = 0, .name = "completions", .value = 4242460},
    {.group = "fn", .index = 1, .name = "commands", .value = 0},
    {.group = "path.zero-copy", .index = MGMT_NONE16, .name = "requests", .value = 4242417},
    {.group = "drive", .index = 0, .name = "errors", .value = 18446744073709551614u},
};

static const struct mgmt_slot slots[] = {
    {.slot = 0,
     .flags = MGMT_SLOT_RUNNING | MGMT_SLOT_ACTIVE,
     .image_bytes = 310000,
     .security_version = 2,
     .min_security_version = 2,
     .slot_bytes = 4194304,
     .version = "0.1"},
    {.slot = 1,
     .flags = MGMT_SLOT_FAILED,
     .image_bytes = 309000,
     .security_version = 2,
     .min_security_version = 2,
     .slot_bytes = 4194304,
     .version = "0.2-rc1"},
};

static const struct mgmt_update updates[] = {
    {.state = "idle", .fault = ""},
};

const void *fake_records(uint32_t class, uint32_t *count, uint32_t *record_bytes)
{
#define RECORDS(class, array)                         \
    case MGMT_CLASS_##class:                          \
        *count = (uint32_t)ARRAY_SIZE(array);         \
        *record_bytes = (uint32_t)sizeof((array)[0]); \
        return array;
    switch (class) {
        RECORDS(FUNCTION, functions)
        RECORDS(QUEUE, queues)
        RECORDS(DRIVE, drives)
        RECORDS(NAMESPACE, namespaces)
        RECORDS(VOLUME, volumes)
        RECORDS(PATH, paths)
        RECORDS(ASSOCIATION, associations)
        RECORDS(CONNECTION, connections)
        RECORDS(QP, qps)
        RECORDS(PORT, ports)
        RECORDS(REACTOR, reactors)
        RECORDS(POLLER, pollers)
        RECORDS(STAT, stats)
        RECORDS(SLOT, slots)
        RECORDS(UPDATE, updates)
    default:
        return NULL;
    }
#undef RECORDS
}

void fake_advance(void)
{
    queues[1].sqe_count += 5000;
    queues[1].cqe_count += 5000;
    queues[2].sqe_count += 120;
    reactors[1].turn_count += 10000;
    pollers[2].run_count += 10000;
    pollers[2].work_count += 9000;
    pollers[2].busy_ns += 50000000;
    stats[0].value += 5120;
    qps[0].stats[0] += 5000;
}

/* --- objects --------------------------------------------------------------------------------- */

static const char log_text[] = "[    0.000012] boot: qemu-virt, power-on\n"
                               "[    0.104120] app: serving 2 functions\n"
                               "[    3.201000] \033[31mnvmf: second: no answer\033[0m\n"
                               "[   12.000500] app: warning: \"quoted\" and back\\slash\n";

static struct crash_record crash;

static const void *crash_object(uint32_t *len_bytes)
{
    memset(&crash, 0, sizeof(crash));
    crash.magic = CRASH_RECORD_MAGIC;
    crash.version = CRASH_RECORD_VERSION;
    crash.size_bytes = sizeof(crash);
    crash.start_count = 2;
    crash.panic_count = 1;
    crash.panicked = 1;
    crash.core = 1;
    crash.frame_count = 3;
    crash.time_ns = 61250000000;
    crash.regs.sp = 0x40200f00;
    crash.regs.pc = 0x40112344;
    crash.regs.x[0] = 0x1234;
    crash.regs.x[30] = 0x40112340;
    crash.regs.esr = 0x96000045;
    crash.regs.far = 0x10;
    crash.frames[0] = 0x40112340;
    crash.frames[1] = 0x40110010;
    crash.frames[2] = 0x40100100;
    strcpy(crash.text, "assertion failed: q->head < q->size (firmware/nvme_ep/poll.c:97)");
    crash.crc = message_crc(0, &crash.start_count, sizeof(crash) - 16);
    *len_bytes = sizeof(crash);
    return &crash;
}

const void *fake_object(uint32_t object, uint32_t part, uint32_t *len_bytes)
{
    switch (object) {
    case MGMT_OBJECT_LOG:
        *len_bytes = sizeof(log_text) - 1;
        return log_text;
    case MGMT_OBJECT_TRACE:
        return fake_trace(part, len_bytes);
    case MGMT_OBJECT_CRASH:
        return crash_object(len_bytes);
    default:
        return NULL;
    }
}
