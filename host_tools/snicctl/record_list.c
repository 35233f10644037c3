/*
 * The description of each class of records (spec/mgmt_record.h).
 */
#include "record.h"

/* Read down its columns. */

#define SIZE(member) sizeof(((struct REC *)0)->member)
#define PUT(name, member, size, count, bit, kind, metric, title, help)                             \
    {                                                                                              \
        name, title, help, offsetof(struct REC, member), (uint16_t)(size), (uint16_t)(count), bit, \
            FIELD_##kind, METRIC_##metric                                                          \
    }
/* A field, its name in JSON being that in C; under another name; a bit; an array. */
#define F(member, kind, metric, title, help) \
    PUT(#member, member, SIZE(member), 1, 0, kind, metric, title, help)
#define N(name, member, kind, metric, title, help) \
    PUT(name, member, SIZE(member), 1, 0, kind, metric, title, help)
#define B(name, member, mask, metric, title, help) \
    PUT(name, member, SIZE(member), 1, (uint8_t)__builtin_ctz(mask), BIT, metric, title, help)
#define A(member, kind, title, help)                                                            \
    PUT(#member, member, SIZE(member[0]), SIZE(member) / SIZE(member[0]), 0, kind, NONE, title, \
        help)
/* One of the counters of a QP, in the order of RDMA_QP_STAT_LIST. */
#define Q(name, index, title, help) PUT(name, stats[index], 8, 1, 0, UINT, COUNTER, title, help)

#define REC mgmt_function
static const struct field functions[] = {
    F(fn, UINT, LABEL, "fn", "number of the PCIe function"),
    F(name, TEXT, NONE, "name", "name of the function"),
    F(state, STATE, NONE, "state", "state of the controller"),
    B("serving", flags, MGMT_FUNCTION_SERVING, GAUGE, "serving", "CC.EN may lead to CSTS.RDY"),
    B("bus_master", flags, MGMT_FUNCTION_BUS_MASTER, GAUGE, "master",
      "host memory is within reach"),
    B("hmb_used", flags, MGMT_FUNCTION_HMB_USED, GAUGE, NULL, "the Host Memory Buffer is in use"),
    F(cc, HEX, NONE, "cc", "register CC"),
    F(csts, HEX, NONE, "csts", "register CSTS"),
    F(aqa, HEX, NONE, NULL, "register AQA"),
    F(cap, HEX, NONE, NULL, "register CAP"),
    F(asq, HEX, NONE, NULL, "register ASQ"),
    F(acq, HEX, NONE, NULL, "register ACQ"),
    F(hmb_bytes, BYTES, GAUGE, NULL, "Host Memory Buffer as granted, bytes"),
    F(fence_left, UINT, GAUGE, NULL, "who still owes the running fence an answer"),
    F(view_generation, UINT, COUNTER, NULL, "changes of the windows to host memory"),
    F(sq_count, UINT, GAUGE, "sqs", "I/O submission queues"),
    F(cq_count, UINT, GAUGE, "cqs", "I/O completion queues"),
    A(in_flight, UINTS, "in flight", "commands, by core"),
    A(pool_low_water, UINTS, NULL, "fewest free commands ever, by core"),
    F(serial, TEXT, NONE, "serial", "serial number"),
    F(subnqn, TEXT, NONE, NULL, "name of the subsystem"),
    F(hostnqn, TEXT, NONE, NULL, "name that targets know this function by"),
};
#undef REC

#define REC mgmt_queue
static const struct field queues[] = {
    F(fn, UINT, LABEL, "fn", "number of the PCIe function"),
    F(qid, UINT, LABEL, "qid", "queue identifier; 0: admin"),
    F(core, UINT, NONE, "core", "core that serves it"),
    B("sq", flags, MGMT_QUEUE_SQ, NONE, NULL, "there is a submission queue of this number"),
    B("cq", flags, MGMT_QUEUE_CQ, NONE, NULL, "there is a completion queue of this number"),
    F(sq_base, HEX, NONE, "sq base", "host address of the SQ"),
    F(sq_size, UINT, NONE, "depth", "entries of the SQ"),
    F(sq_head, UINT, NONE, "head", "SQ: fetched up to here"),
    F(sq_doorbell, UINT, NONE, "tail db", "SQ: the host's tail as it stands in the doorbell"),
    F(cq_id, UINT, NONE, "cq", "completion queue of the SQ"),
    F(cq_base, HEX, NONE, "cq base", "host address of the CQ"),
    F(cq_size, UINT, NONE, "depth", "entries of the CQ"),
    F(cq_head, UINT, NONE, "head", "CQ: the host's head as last used"),
    F(cq_doorbell, UINT, NONE, "head db", "CQ: the host's head as it stands in the doorbell"),
    F(cq_tail, UINT, NONE, "tail", "CQ: posted up to here"),
    B("phase", flags, MGMT_QUEUE_PHASE, NONE, "phase", "the phase tag of the next completion is 1"),
    F(cq_held, UINT, GAUGE, "held", "completions that wait for room"),
    F(in_flight, UINT, GAUGE, "in flight", "commands of the SQ"),
    F(oldest_ns, NS, GAUGE, "oldest", "age of the oldest command, ns; 0: none"),
    F(vector, UINT, NONE, "vector", "MSI-X vector"),
    B("interrupts_enabled", flags, MGMT_QUEUE_IEN, NONE, "ien", "interrupts are enabled"),
    B("coalescing", flags, MGMT_QUEUE_COALESCING, NONE, "coal", "interrupts are coalesced"),
    F(coalesce_entries, UINT, NONE, NULL, "coalescing: threshold, entries"),
    F(coalesce_us, UINT, NONE, NULL, "coalescing: time, us"),
    F(irq_count, UINT, COUNTER, "irqs", "interrupts raised"),
    F(sqe_count, UINT, COUNTER, "sqes", "entries fetched"),
    F(cqe_count, UINT, COUNTER, "cqes", "completions posted"),
    F(priority, UINT, NONE, NULL, "0 urgent to 3 low"),
    B("shadow_doorbells", flags, MGMT_QUEUE_SHADOW, NONE, NULL, "the host rings shadow doorbells"),
    B("far", flags, MGMT_QUEUE_FAR, GAUGE, NULL, "its memory is out of reach now"),
    B("deleting", flags, MGMT_QUEUE_DELETING, NONE, NULL, "it is being deleted"),
};
#undef REC

#define REC mgmt_drive
static const struct field drives[] = {
    F(index, UINT, LABEL, "drive", "number of the drive"),
    F(name, TEXT, NONE, "name", "name of the drive"),
    F(state, STATE, NONE, "state", "state of its driver"),
};
#undef REC

#define REC mgmt_namespace
static const struct field namespaces[] = {
    F(fn, UINT, LABEL, "fn", "number of the PCIe function"),
    F(nsid, UINT, LABEL, "nsid", "namespace identifier"),
    F(name, TEXT, NONE, "name", "name of its volume or device"),
    F(lba_count, UINT, GAUGE, "blocks", "logical blocks; 0: not known yet"),
    F(block_bytes, BYTES, GAUGE, "block", "bytes of a logical block"),
};
#undef REC

#define REC mgmt_volume
static const struct field volumes[] = {
    F(index, UINT, LABEL, "volume", "number of the volume"),
    F(name, TEXT, LABEL, "name", "name in the configuration"),
    F(state, STATE, NONE, "state", "attached, detached, leaving"),
    B("ready", flags, MGMT_VOLUME_READY, GAUGE, "ready", "a path is usable"),
    B("known", flags, MGMT_VOLUME_KNOWN, NONE, NULL, "its geometry is known"),
    B("read_only", flags, MGMT_VOLUME_READ_ONLY, NONE, "ro", "the host may not write"),
    F(lba_count, UINT, GAUGE, "blocks", "logical blocks"),
    F(block_bytes, BYTES, GAUGE, "block", "bytes of a logical block"),
    F(path_count, UINT, GAUGE, "paths", "paths"),
    F(attached_count, UINT, GAUGE, "attached", "namespaces that show it"),
    F(waiting, UINT, GAUGE, "waiting", "requests that wait for a path, or for quiet"),
    F(quiet_in_ns, NS, GAUGE, "quiet in", "how long requests that change state still wait, ns"),
};
#undef REC

#define REC mgmt_path
static const struct field paths[] = {
    F(volume, UINT, LABEL, NULL, "number of the volume"),
    F(volume_name, TEXT, LABEL, "volume", "name of the volume"),
    F(index, UINT, LABEL, "path", "number of the path; the first that is usable is taken"),
    F(name, TEXT, NONE, "name", "where it leads"),
    N("usable", is_usable, BOOL, GAUGE, "usable", "it can be used"),
    F(state, STATE, NONE, "state", "what it is, or why it is not used"),
    F(association, INDEX, NONE, "assoc", "number of its association; none: a local path"),
    F(requests, UINT, COUNTER, "requests", "requests done or failed"),
    F(why, TEXT, NONE, "why", "why it is not used, and what to do"),
};
#undef REC

#define REC mgmt_association
static const struct field associations[] = {
    F(index, UINT, LABEL, "assoc", "number of the association"),
    F(fn, UINT, LABEL, "fn", "number of the PCIe function"),
    F(name, TEXT, LABEL, "name", "name of the subsystem in the configuration"),
    F(state, STATE, NONE, "state", "state of the association"),
    F(address, TEXT, NONE, "address", "address of the target"),
    F(port, UINT, NONE, "port", "port of the target"),
    F(cntlid, HEX, NONE, "cntlid", "controller identifier that the target gave"),
    F(queue_count, UINT, GAUGE, "queues", "I/O queues"),
    F(host_queue_count, UINT, GAUGE, NULL, "of those, with rings in host memory"),
    F(queue_entries, UINT, NONE, NULL, "entries of an I/O queue"),
    F(in_flight, UINT, GAUGE, "in flight", "commands at the target"),
    F(ns_count, UINT, GAUGE, "ns", "namespaces seen"),
    F(connect_count, UINT, COUNTER, "connects", "associations that were made"),
    F(attempt_count, UINT, GAUGE, "attempts", "attempts since the last was live"),
    F(next_in_ns, NS, GAUGE, "next in", "time until the next attempt, ns; 0: none is waited for"),
    F(fail_code, UINT, NONE, NULL, "code of the last failure"),
    F(timeout_count, UINT, COUNTER, NULL, "commands that took too long"),
    F(abort_count, UINT, COUNTER, NULL, "commands aborted"),
    F(event_count, UINT, COUNTER, NULL, "events that the target sent"),
    F(memory_bytes, BYTES, GAUGE, NULL, "memory of the NIC, bytes"),
    F(in_capsule_bytes, BYTES, NONE, NULL, "data that may go along in commands"),
    F(max_transfer_bytes, BYTES, NONE, NULL, "largest transfer"),
    F(keep_alive_ms, UINT, NONE, NULL, "keep alive time, ms"),
    F(quiesce_ms, UINT, NONE, NULL, "command quiesce time, ms"),
    F(sq_flow_control, BOOL, NONE, NULL, "SQ flow control is in use"),
    F(subnqn, TEXT, NONE, NULL, "name of the remote subsystem"),
    F(model, TEXT, NONE, NULL, "model that the target tells"),
    F(serial, TEXT, NONE, NULL, "serial number that the target tells"),
    F(firmware, TEXT, NONE, NULL, "firmware that the target tells"),
    F(why, TEXT, NONE, "last failure", "the last failure; it may be over"),
};
#undef REC

#define REC mgmt_connection
static const struct field connections[] = {
    F(port, UINT, LABEL, "port", "number of our Ethernet port"),
    F(local, TEXT, LABEL, "local", "our address"),
    F(local_port, UINT, LABEL, "lport", "our port"),
    F(peer, TEXT, LABEL, "peer", "address of the peer"),
    F(peer_port, UINT, LABEL, "pport", "port of the peer"),
    F(state, STATE, NONE, "state", "state of the connection"),
    F(qpn, HEX, NONE, "qpn", "its queue pair; 0: none"),
};
#undef REC

#define REC mgmt_qp
static const struct field qps[] = {
    F(port, UINT, LABEL, "port", "number of the Ethernet port"),
    F(fn, UINT, NONE, "fn", "tenant"),
    F(qpn, HEX, LABEL, "qpn", "number of the queue pair"),
    F(state, STATE, NONE, "state", "state of the queue pair"),
    F(peer, TEXT, LABEL, "peer", "address of the peer"),
    F(peer_qpn, HEX, NONE, "peer qpn", "the peer's queue pair"),
    F(next_psn, UINT, NONE, "next psn", "PSN of the next new packet"),
    F(una_psn, UINT, NONE, "una psn", "oldest PSN that is not acknowledged"),
    F(expected_psn, UINT, NONE, "exp psn", "PSN expected of the peer"),
    F(msn, UINT, NONE, NULL, "message sequence number"),
    F(window_packets, UINT, GAUGE, "window", "packets that may be under way"),
    F(rate_mbps, UINT, GAUGE, NULL, "limit, Mb/s; 0: none"),
    F(retries_left, UINT, GAUGE, "retry", "retries left"),
    F(rnr_retries_left, UINT, GAUGE, "rnr", "retries left after RNR NAKs"),
    F(send_posted, UINT, GAUGE, "sends", "work requests that are not completed"),
    F(recv_posted, UINT, GAUGE, "credits",
      "receives there are: what the peer may send without RNR"),
    F(reads_out, UINT, GAUGE, NULL, "READs under way, ours"),
    F(reads_in, UINT, GAUGE, NULL, "READs under way, the peer's"),
    Q("tx_packets", 0, "tx", "packets sent, acknowledgements included"),
    Q("rx_packets", 1, "rx", "packets accepted"),
    Q("tx_bytes", 2, NULL, "payload sent, bytes"),
    Q("rx_bytes", 3, NULL, "payload placed, bytes"),
    Q("retransmits", 4, "again", "request packets sent again"),
    Q("copies", 5, NULL, "payloads copied in order to be sent"),
    Q("timeouts", 6, NULL, "no acknowledgement in time"),
    Q("nak_seq_rx", 7, NULL, "PSN sequence error NAKs received"),
    Q("nak_seq_tx", 8, NULL, "PSN sequence error NAKs sent"),
    Q("rnr_rx", 9, "rnr rx", "RNR NAKs received"),
    Q("rnr_tx", 10, "rnr tx", "RNR NAKs sent"),
    Q("duplicates", 11, NULL, "requests that had been done"),
    Q("out_of_order", 12, NULL, "packets beyond the one expected"),
    Q("cnp_rx", 13, NULL, "congestion notifications received"),
    Q("cnp_tx", 14, NULL, "congestion notifications sent"),
    Q("window_full", 15, NULL, "turns in which the window held sending back"),
};
#undef REC

#define REC mgmt_port
static const struct field ports[] = {
    F(index, UINT, LABEL, "port", "number of the Ethernet port"),
    F(name, TEXT, NONE, "name", "name of the port"),
    F(core, UINT, NONE, "core", "core that serves it"),
    B("link_up", flags, MGMT_PORT_LINK_UP, GAUGE, "link", "the link is up"),
    B("up", flags, MGMT_PORT_UP, GAUGE, "up", "all that stands on it has started"),
    F(mac, MAC, NONE, "mac", "Ethernet address"),
    F(vlan, UINT, NONE, "vlan", "VLAN; 0: untagged"),
    F(mtu, UINT, GAUGE, "mtu", "MTU of IP, bytes"),
    F(path_mtu, UINT, GAUGE, "path mtu", "path MTU of RDMA, bytes; 0: none"),
    F(rdma, TEXT, NONE, "rdma", "RDMA device"),
    A(address, TEXTS, "addresses", "addresses with prefix lengths"),
};
#undef REC

#define REC mgmt_reactor
static const struct field reactors[] = {
    F(core, UINT, LABEL, "core", "number of the core"),
    F(poller_count, UINT, GAUGE, "pollers", "pollers"),
    F(turn_count, UINT, COUNTER, "turns", "turns"),
    F(busy_turn_count, UINT, COUNTER, "busy turns", "turns in which there was work"),
    F(msg_count, UINT, COUNTER, "messages", "messages of other cores"),
    F(sleep_count, UINT, COUNTER, "sleeps", "times that it slept"),
    N("sleep_ns", sleep_ns, NS, COUNTER, "slept", "time asleep, ns"),
    B("asleep", flags, MGMT_REACTOR_ASLEEP, GAUGE, "asleep", "it sleeps"),
    F(turn_age_ns, NS, GAUGE, "clock age",
      "time since it last read the clock, ns; large: it hangs"),
    F(running, TEXT, NONE, "running", "the poller whose turn it is"),
};
#undef REC

#define REC mgmt_poller
static const struct field pollers[] = {
    F(core, UINT, LABEL, "core", "number of the core"),
    F(name, TEXT, LABEL, "poller", "name of the poller"),
    N("running", is_running, BOOL, GAUGE, "running", "its turn it is"),
    F(run_count, UINT, COUNTER, "runs", "turns"),
    F(work_count, UINT, COUNTER, "work", "turns in which there was work"),
    F(busy_ns, NS, COUNTER, "busy", "time in turns with work, an estimate, ns"),
};
#undef REC

#define REC mgmt_stat
static const struct field stats[] = {
    F(group, TEXT, LABEL, "group", "what it counts at"),
    F(index, INDEX, LABEL, "index", "which one of these; none: there is but one"),
    F(name, TEXT, LABEL, "name", "what it counts"),
    F(value, UINT, COUNTER, "value", "the counter"),
};
#undef REC

#define REC mgmt_slot
static const struct field slots[] = {
    F(slot, UINT, LABEL, "slot", "number of the slot; NVMe counts from 1"),
    F(version, TEXT, NONE, "version", "version of its image"),
    F(image_bytes, BYTES, GAUGE, "image", "bytes of its image; 0: empty"),
    F(slot_bytes, BYTES, NONE, "room", "bytes that an image may have"),
    B("running", flags, MGMT_SLOT_RUNNING, GAUGE, "running", "it was started"),
    B("active", flags, MGMT_SLOT_ACTIVE, GAUGE, "active",
      "it is started, unless another is on trial"),
    B("trial", flags, MGMT_SLOT_TRIAL, GAUGE, "trial", "it starts next, or runs unconfirmed"),
    B("failed", flags, MGMT_SLOT_FAILED, GAUGE, "failed", "its trial ended without confirmation"),
    F(attempts_left, UINT, NONE, "attempts", "attempts left of its trial"),
    F(security_version, UINT, GAUGE, "security", "security version of its image"),
    F(min_security_version, UINT, GAUGE, "at least",
      "images below this security version are refused"),
};
#undef REC

#define REC mgmt_update
static const struct field updates[] = {
    F(state, STATE, NONE, "state", "what goes on"),
    F(received_bytes, BYTES, GAUGE, "received", "bytes received without a hole"),
    F(image_bytes, BYTES, GAUGE, "image", "bytes of the image while it is written"),
    F(done_bytes, BYTES, GAUGE, "done", "bytes done"),
    N("busy", is_busy, BOOL, GAUGE, "busy", "it is at work"),
    F(fault, TEXT, NONE, "fault", "of the last image that was checked"),
};
#undef REC

#define R(class, array, singular, help, none)                                      \
    {                                                                              \
        MGMT_CLASS_##class, #array, singular, help, none, array, ARRAY_SIZE(array) \
    }
static const struct record records[] = {
    R(FUNCTION, functions, "function", "PCIe functions: what hosts see", "no functions"),
    R(QUEUE, queues, "queue", "NVMe queues: where they are, what is in them",
      "no queues: no host drives the functions"),
    R(DRIVE, drives, "drive", "local drives behind the NIC", "no local drives"),
    R(NAMESPACE, namespaces, "namespace", "namespaces that hosts see", "no namespaces"),
    R(VOLUME, volumes, "volume", "volumes of the configuration",
      "no volumes: there is no device tree, or it has none"),
    R(PATH, paths, "path", "paths of the volumes, and why one is not used", "no paths"),
    R(ASSOCIATION, associations, "association", "associations with remote subsystems",
      "no associations: no volume lies on a remote subsystem"),
    R(CONNECTION, connections, "connection", "connections of RDMA", "no connections"),
    R(QP, qps, "qp", "queue pairs of RDMA", "no queue pairs"),
    R(PORT, ports, "port", "Ethernet ports and what stands on them", "no Ethernet ports"),
    R(REACTOR, reactors, "reactor", "cores: turns, work and sleep", "no reactors"),
    R(POLLER, pollers, "poller", "pollers of the cores", "no pollers"),
    R(STAT, stats, "stat", "counters", "no counters"),
    R(SLOT, slots, "slot", "images in flash", "no flash with slots for images"),
    R(UPDATE, updates, "update", "the update under way", "no update"),
};

const struct record *record_at(uint32_t index)
{
    return &records[index];
}

uint32_t record_count(void)
{
    return ARRAY_SIZE(records);
}
