/*
 * The list of trace events: append only, since host tools decode by number.
 *
 * X(number, NAME, CLASS, id, a, b): what the record's id and its two arguments mean, "-" for
 * unused.
 *
 * One I/O has the same fn and sqid_cid (the host's SQ << 16 | CID) from IO_FETCH to IO_POST:
 *  IO_SUBMIT: parsed, mapped, given to the volume or drive. VOL_WAIT: the volume lets it wait.
 *  FABRIC_SEND, FABRIC_DONE: capsule posted; response there, key invalid. Association: CNTLID << 32
 *  | QID << 16 | CID on the wire. DRIVE_SEND, DRIVE_DONE: likewise, with the drive's index.
 *  A request in parts, or sent again, has several of these; id 0: no host command is behind it.
 *  IO_DONE: ended. IO_POST: entry written, perhaps later (CQ full); the next IRQ_RAISE of its
 *  vector tells the host.
 */
#ifndef BASE_TRACE_EVENTS_H
#define BASE_TRACE_EVENTS_H

#define TRACE_EVENT_LIST(X)                                         \
    X(1, SCHED_SLEEP, SCHED, "-", "until_ns", "-")                  \
    X(2, SCHED_WAKE, SCHED, "-", "slept_ns", "-")                   \
    X(3, EP_EVENT, CONTROL, "type", "offset", "value")              \
    X(4, CTRL_STATE, CONTROL, "cntlid", "from", "to")               \
    X(5, QUEUE_STATE, CONTROL, "qid", "from", "to")                 \
    X(6, ADMIN_FETCH, CONTROL, "cid", "opcode", "cdw10")            \
    X(7, ADMIN_DONE, CONTROL, "cid", "status", "dw0")               \
    X(8, IO_FETCH, IO, "sqid_cid", "opcode_nsid", "slba")           \
    X(9, IO_SUBMIT, IO, "sqid_cid", "len_bytes", "seg_count")       \
    X(10, IO_DONE, IO, "sqid_cid", "status", "duration_ns")         \
    X(11, IRQ_RAISE, IO, "vector", "-", "-")                        \
    X(12, BAD_DOORBELL, FAULT, "qid", "value", "limit")             \
    X(13, BAD_ADDRESS, FAULT, "sqid_cid", "host_addr", "len_bytes") \
    X(14, BAD_COMMAND, FAULT, "sqid_cid", "opcode", "status")       \
    X(15, DRIVE_STATE, CONTROL, "drive", "from", "to")              \
    X(16, DRIVE_ERROR, FAULT, "drive", "cid", "status")             \
    X(17, CM_STATE, CONTROL, "comm_id", "from", "to")               \
    X(18, NVMF_CTRL, CONTROL, "cntlid", "from", "to")               \
    X(19, VOL_WAIT, IO, "sqid_cid", "is_quiet", "tries")            \
    X(20, FABRIC_SEND, IO, "sqid_cid", "association", "len_bytes")  \
    X(21, FABRIC_DONE, IO, "sqid_cid", "association", "status")     \
    X(22, DRIVE_SEND, IO, "sqid_cid", "drive", "len_bytes")         \
    X(23, DRIVE_DONE, IO, "sqid_cid", "drive", "status")            \
    X(24, IO_POST, IO, "sqid_cid", "cqid", "vector")

/* Classes are switched on and off at run time. */
#define TRACE_CLASS_LIST(X) \
    X(SCHED, 0)             \
    X(CONTROL, 1)           \
    X(IO, 2)                \
    X(FAULT, 3)

#endif
