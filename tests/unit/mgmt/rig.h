/* Tables with little in them, and requests as a tool makes them. */
#ifndef TESTS_MGMT_RIG_H
#define TESTS_MGMT_RIG_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "mgmt/mgmt.h"

#define RIG_RECORDS 700u

/* Record of the rig's classes: FUNCTION (owned by function index % 3, each fourth index a hole),
 * SLOT (public), POLLER (the board's, not hang safe, prepared), STAT (as FUNCTION, but its owners
 * are asked first; not hang safe). */
struct rig_record {
    uint64_t index;
    uint64_t zero;
};

struct rig {
    struct mgmt_from from;
    enum mgmt_status prepared; /* what prepare() says */
    uint32_t prepare_count;
    uint32_t fill_count; /* records of STAT that were filled */
    uint8_t written[64]; /* by WRITE of CONFIG */
    uint64_t written_at;
    uint32_t written_bytes;
    uint32_t action_bytes; /* arguments of the last action; UINT32_MAX: none */
    /* The last exchange. */
    _Alignas(8) uint8_t request[8192];
    _Alignas(8) uint8_t response[8192];
    struct mgmt_head head; /* of the response */
    const uint8_t *payload;
};
extern struct rig rig;
extern const struct mgmt_tables rig_tables;

/* The console's rights, or a host's own. */
void rig_console(void);
void rig_host(uint16_t fn);

/* Sends a request and checks the response's form: head, CRC, tag, length. Its status. */
enum mgmt_status rig_ask(uint8_t op, const void *payload, uint32_t payload_bytes);
/* Sends bytes as they are. */
enum mgmt_status rig_send(uint32_t len_bytes);
/* Makes a request in rig.request; its length. */
uint32_t rig_make(uint8_t op, const void *payload, uint32_t payload_bytes);
/* Of a request that was changed. */
void rig_seal(void);

#endif
