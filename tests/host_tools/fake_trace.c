/*
 * What the fake board has traced: I/Os over the fabric, in parts and over another path; on a local
 * drive; one that is refused; a CID that is used again; an admin command; one under way; what no
 * host has asked for. Core 1 serves the queue pairs.
 */
#include "base/trace.h"
#include "tests/host_tools/fake.h"

#define IO(sqid, cid)          ((uint32_t)(sqid) << 16 | (cid))
#define WIRE(cntlid, qid, cid) ((uint64_t)(cntlid) << 32 | (uint64_t)(qid) << 16 | (cid))
#define COMMAND(opcode, nsid)  ((uint64_t)(opcode) << 32 | (nsid))
#define PATH_ERROR             0x371u

static const struct trace_record core0[] = {
    {1000000, TRACE_CTRL_STATE, 0, 1, 1, 2},
    {2000000, TRACE_IO_FETCH, 0, IO(1, 10), COMMAND(1, 2), 4096},
    {2004000, TRACE_IO_SUBMIT, 0, IO(1, 10), 4096, 1},
    {2005000, TRACE_IO_FETCH, 0, IO(1, 11), COMMAND(2, 1), 8192},
    {2007000, TRACE_IO_SUBMIT, 0, IO(1, 11), 8192, 2},
    {2100000, TRACE_IO_FETCH, 0, IO(2, 5), COMMAND(2, 2), 7},
    {2101000, TRACE_IO_SUBMIT, 0, IO(2, 5), 512, 1},
    {2101500, TRACE_DRIVE_SEND, 0, IO(2, 5), WIRE(0, 1, 9), 512},
    {2150000, TRACE_DRIVE_DONE, 0, IO(2, 5), WIRE(0, 1, 9), 0},
    {2151000, TRACE_IO_DONE, 0, IO(2, 5), 0, 51000},
    {2152000, TRACE_IO_POST, 0, IO(2, 5), 2, 2}, /* the host polls: no interrupt */
    {2180500, TRACE_IO_DONE, 0, IO(1, 10), 0, 180500},
    {2181000, TRACE_IO_POST, 0, IO(1, 10), 1, 1},
    {2183000, TRACE_IRQ_RAISE, 0, 1, 0, 0},
    {2200000, TRACE_IO_FETCH, 0, IO(0, 3), COMMAND(6, 1), 0},
    {2210000, TRACE_IO_DONE, 0, IO(0, 3), 0, 10000},
    {2211000, TRACE_IO_POST, 0, IO(0, 3), 0, 0},
    {2212000, TRACE_IRQ_RAISE, 0, 0, 0, 0},
    {2600000, TRACE_IO_DONE, 0, IO(1, 11), 0, 595000},
    {2601000, TRACE_IO_POST, 0, IO(1, 11), 1, 1},
    {2640000, TRACE_IRQ_RAISE, 0, 1, 0, 0},
    {3000000, TRACE_IO_FETCH, 0, IO(1, 10), COMMAND(1, 2), 12288},
    {3020000, TRACE_BAD_ADDRESS, 0, IO(1, 10), 0xdeadb000, 4096},
    {3030000, TRACE_BAD_COMMAND, 0, IO(1, 10), 1, 0x4002},
    {3030000, TRACE_IO_DONE, 0, IO(1, 10), 0x4002, 30000},
    {3031000, TRACE_IO_POST, 0, IO(1, 10), 1, 1},
    {3040000, TRACE_IRQ_RAISE, 0, 1, 0, 0},
    {3100000, TRACE_IO_FETCH, 0, IO(1, 12), COMMAND(2, 1), 64},
    {3101000, TRACE_IO_SUBMIT, 0, IO(1, 12), 4096, 1},
    {4000000, 999, 7, 1, 2, 3},
};

static const struct trace_record core1[] = {
    {1500000, TRACE_FABRIC_SEND, 0, 0, WIRE(1, 0, 4), 0}, /* a scan's */
    {1600000, TRACE_FABRIC_DONE, 0, 0, WIRE(1, 0, 4), 0},
    {2010000, TRACE_FABRIC_SEND, 0, IO(1, 10), WIRE(1, 1, 77), 4096},
    {2012000, TRACE_FABRIC_SEND, 0, IO(1, 11), WIRE(1, 1, 78), 4096},
    {2013000, TRACE_FABRIC_SEND, 0, IO(1, 11), WIRE(1, 1, 79), 4096},
    {2170000, TRACE_FABRIC_DONE, 0, IO(1, 10), WIRE(1, 1, 77), 0},
    {2190000, TRACE_FABRIC_DONE, 0, IO(1, 11), WIRE(1, 1, 78), PATH_ERROR},
    {2190000, TRACE_VOL_WAIT, 0, IO(1, 11), 1, 1},
    {2195000, TRACE_FABRIC_DONE, 0, IO(1, 11), WIRE(1, 1, 79), 0},
    {2400000, TRACE_FABRIC_SEND, 0, IO(1, 11), WIRE(2, 1, 5), 4096},
    {2590000, TRACE_FABRIC_DONE, 0, IO(1, 11), WIRE(2, 1, 5), 0},
    {3105000, TRACE_FABRIC_SEND, 0, IO(1, 12), WIRE(1, 1, 80), 4096},
};

/* Of a firmware that did not tell of requests and of entries in CQs. */
static const struct trace_record before[] = {
    {2000000, TRACE_IO_FETCH, 0, IO(1, 10), COMMAND(1, 2), 4096},
    {2004000, TRACE_IO_SUBMIT, 0, IO(1, 10), 4096, 1},
    {2005000, TRACE_IO_FETCH, 0, IO(1, 11), COMMAND(1, 1), 8192},
    {2180500, TRACE_IO_DONE, 0, IO(1, 10), 0, 180500},
    {2181000, TRACE_IRQ_RAISE, 0, 1, 0, 0},
    {3000000, TRACE_IO_FETCH, 0, IO(1, 10), COMMAND(1, 2), 12288},
    {3020000, TRACE_BAD_ADDRESS, 0, IO(1, 10), 0xdeadb000, 4096},
    {3030000, TRACE_IO_DONE, 0, IO(1, 10), 0x4002, 30000},
};

/* An I/O that has requests, and no IO_SUBMIT. */
static const struct trace_record bare[] = {
    {2000000, TRACE_IO_FETCH, 0, IO(1, 10), COMMAND(1, 2), 4096},
    {2010000, TRACE_FABRIC_SEND, 0, IO(1, 10), WIRE(1, 1, 77), 4096},
    {2170000, TRACE_FABRIC_DONE, 0, IO(1, 10), WIRE(1, 1, 77), 0},
};

const void *fake_bare_trace(uint32_t core, uint32_t *len_bytes)
{
    *len_bytes = core == 0 ? sizeof(bare) : 0;
    return bare;
}

const void *fake_trace(uint32_t core, uint32_t *len_bytes)
{
    *len_bytes = core == 0 ? sizeof(core0) : core == 1 ? sizeof(core1) : 0;
    return core == 0 ? core0 : core1;
}

const void *fake_old_trace(uint32_t core, uint32_t *len_bytes)
{
    *len_bytes = core == 0 ? sizeof(before) : 0;
    return before;
}
