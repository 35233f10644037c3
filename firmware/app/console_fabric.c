/*
 * Console commands about the fabric. What they ask for belongs to the core of a port: the question
 * goes there as a message, the text comes back as one, port after port. One is under way at a time.
 */
#include "app/config_priv.h"
#include "app/console_priv.h"
#include "app/mgmt_priv.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/counter.h"
#include "hal/clock.h"

#define TEXT_BYTES       16384
#define QPS_SHOWN        64
#define CONNS_SHOWN      64
#define PING_BYTES       56
#define PING_TIMEOUT_MS  1000
#define RPING_COUNT      10
#define RPING_COUNT_MAX  1000000
#define RPING_CONNS_MAX  10000
#define RPING_BYTES      64
#define RPING_TIMEOUT_MS 10000

/* What is asked of the fabrics. Makes its text on the owner core; true: it is complete now, false:
 * answer() is called later. */
typedef bool ask_fn(struct app_fabric *fabric);

static struct {
    struct msg msg;
    ask_fn *ask;
    uint32_t fabric; /* which one is asked */
    bool is_over;    /* the fabrics behind it are not asked */
    uint32_t used;   /* of text */
    bool is_cut;
    uint32_t rows;
    struct net_addr addr; /* ping, rping */
    uint32_t count;
    uint32_t len_bytes;
    uint32_t connections; /* rping: one after the other; how many are still to come */
    struct {
        uint64_t pings;
        uint64_t mismatches;
        uint64_t low_ns;
        uint64_t high_ns;
        uint64_t sum_ns;
    } total; /* of all connections */
    char text[TEXT_BYTES];
} question;

static void put(const char *format, ...) PRINTF_LIKE(1, 2);

static void put(const char *format, ...)
{
    uint32_t room = TEXT_BYTES - question.used;
    va_list args;

    if (question.is_cut) {
        return;
    }
    va_start(args, format);
    int len = vsnprintf(question.text + question.used, room, format, args);
    va_end(args);
    if (len < 0 || (uint32_t)len >= room) {
        question.is_cut = true;
        while (question.used > 0 && question.text[question.used - 1] != '\n') {
            question.used--; /* whole lines only */
        }
    } else {
        question.used += (uint32_t)len;
    }
}

static void put_number(const char *group, unsigned index, const char *name, uint64_t value)
{
    put("%s%u.%s %llu\n", group, index, name, (unsigned long long)value);
}

/* All counters of a group's member: those that any core may read. */
static void put_stats(const char *group, uint32_t index)
{
    for (uint32_t i = 0; i < app_mgmt_stat_count(); i++) {
        struct mgmt_stat stat = {0};
        if (app_mgmt_stat(i, &stat) != 0 && stat.index == index && strcmp(stat.group, group) == 0) {
            put_number(group, index, stat.name, stat.value);
        }
    }
}

/* Names one behind the other, with ends; the values as an array. */
#define STAT_NAME(name, text) #name "\0"

static void put_values(const char *group, unsigned index, const char *names, const void *values)
{
    const _Atomic uint64_t *value = values;

    for (; *names != '\0'; names += strlen(names) + 1) {
        put_number(group, index, names, counter_get(value++));
    }
}

/* --- there and back ------------------------------------------------------------------------ */

static void ask_next(void);

/* Core 0. */
static void print_answer(struct msg *msg)
{
    (void)msg;
    console_out(question.text, question.used);
    if (question.is_cut) {
        console_say("(cut: too much to show)\n");
    }
    question.fabric++;
    if (question.is_over || question.fabric == app.fabric_count) {
        console_answered();
        return;
    }
    ask_next();
}

/* On the owner core: the text is complete. */
static void answer(void)
{
    question.msg.fn = print_answer;
    msg_send(0, &question.msg);
}

static void run_question(struct msg *msg)
{
    (void)msg;
    if (question.ask(&app.fabrics[question.fabric])) {
        answer();
    }
}

static void ask_next(void)
{
    question.used = 0;
    question.is_cut = false;
    question.rows = 0;
    question.msg.fn = run_question;
    msg_send(app.fabrics[question.fabric].core, &question.msg);
}

static void ask(ask_fn *fn)
{
    if (console_is_pending()) {
        console_say("the command before is still at work\n");
        return;
    }
    if (app.fabric_count == 0) {
        console_say("this board has no fabric\n");
        return;
    }
    question.ask = fn;
    question.fabric = 0;
    question.is_over = false;
    console_later();
    ask_next();
}

/* --- net ----------------------------------------------------------------------------------- */

static void put_mac(const uint8_t mac[ETH_ADDR_BYTES])
{
    put("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

static void put_neighbor(const struct net_neighbor_info *info, void *ctx)
{
    const struct app_fabric *fabric = ctx;
    char text[NET_ADDR_TEXT_BYTES];

    net_addr_text(&info->addr, text);
    put("net%u.neighbor %s ", (unsigned)fabric->index, text);
    if (info->is_known) {
        put_mac(info->mac);
    } else {
        put("?");
    }
    put(" paths %u age_ms %llu\n", (unsigned)info->path_count, (unsigned long long)info->age_ms);
}

static void put_port(uint32_t index, const struct eth_port *port)
{
    put("net%u.port %s\nnet%u.link %s\nnet%u.mac ", (unsigned)index, port->name, (unsigned)index,
        port->link_up ? "up" : "down", (unsigned)index);
    put_mac(port->addr);
    put("\n");
}

static bool net_text(struct app_fabric *fabric)
{
    uint32_t index = fabric->index;

    if (fabric->port == NULL) {
        put("net%u.port of the operating system\n", (unsigned)index);
        return true;
    }
    put_port(index, fabric->port);
    if (fabric->nif == NULL) {
        put("net%u.state not started\n", (unsigned)index);
        put_stats("net", index);
        return true;
    }
    put_number("net", index, "mtu", net_if_mtu(fabric->nif));
    put_number("net", index, "vlan", app.config.ports[index].vlan);
    for (uint32_t i = 0; net_if_addr(fabric->nif, i) != NULL; i++) {
        const struct net_if_addr *own = net_if_addr(fabric->nif, i);
        char text[NET_ADDR_TEXT_BYTES];
        net_addr_text(&own->addr, text);
        put("net%u.address%u %s/%u\n", (unsigned)index, (unsigned)i, text,
            (unsigned)own->prefix_bits);
    }
    net_neighbors_visit(fabric->nif, put_neighbor, fabric);
    put_stats("net", index);
    return true;
}

void console_net(void)
{
    ask(net_text);
}

/* --- rdma ---------------------------------------------------------------------------------- */

static void put_qp(struct rdma_qp *qp, void *ctx)
{
    const struct app_fabric *fabric = ctx;
    struct rdma_qp_info info;
    char peer[NET_ADDR_TEXT_BYTES];

    if (question.rows++ >= QPS_SHOWN) {
        return;
    }
    rdma_qp_query(qp, &info);
    net_addr_text(&info.attr.av.dgid, peer);
    put("rdma%u.qp 0x%06x %s peer %s 0x%06x sends %u recvs %u", (unsigned)fabric->index,
        (unsigned)qp->num, rdma_qp_state_name((enum rdma_qp_state)qp->state), peer,
        (unsigned)info.attr.dest_qpn, (unsigned)info.send_posted, (unsigned)info.recv_posted);
    put(" next_psn 0x%06x una_psn 0x%06x expected_psn 0x%06x msn %u", (unsigned)info.sq_next_psn,
        (unsigned)info.sq_una_psn, (unsigned)info.rq_psn, (unsigned)info.msn);
    put(" window %u rate_mbps %u retries %u rnr_retries %u reads_out %u reads_in %u",
        (unsigned)info.window_packets, (unsigned)info.rate_mbps, (unsigned)info.retries_left,
        (unsigned)info.rnr_retries_left, (unsigned)info.reads_out, (unsigned)info.reads_in);
    const uint64_t *value = (const uint64_t *)&info.stats;
    for (const char *name = RDMA_QP_STAT_LIST(STAT_NAME); *name != '\0';
         name += strlen(name) + 1, value++) {
        if (*value != 0) {
            put(" %s %llu", name, (unsigned long long)*value);
        }
    }
    put("\n");
}

static void count_qp(struct rdma_qp *qp, void *ctx)
{
    uint32_t *counts = ctx;

    counts[qp->state]++;
}

static void put_qp_counts(const struct app_fabric *fabric)
{
    uint32_t counts[RDMA_QP_ERR + 1] = {0};

    rdma_qp_visit(fabric->rdma, count_qp, counts);
    for (uint32_t i = 0; i < ARRAY_SIZE(counts); i++) {
        put("rdma%u.qps_%s %u\n", (unsigned)fabric->index,
            rdma_qp_state_name((enum rdma_qp_state)i), (unsigned)counts[i]);
    }
}

static void put_conn(const struct rdma_cm_id *id, void *ctx)
{
    const struct app_fabric *fabric = ctx;
    char local[NET_ADDR_TEXT_BYTES];
    char peer[NET_ADDR_TEXT_BYTES];

    if (question.rows++ >= CONNS_SHOWN) {
        return;
    }
    net_addr_text(&id->local, local);
    net_addr_text(&id->peer, peer);
    put("rdma%u.connection %s local %s %u peer %s %u qp 0x%06x\n", (unsigned)fabric->index,
        rdma_cm_state_name((enum rdma_cm_state)id->state), local, (unsigned)id->local_port, peer,
        (unsigned)id->peer_port, id->qp == NULL ? 0 : (unsigned)id->qp->num);
}

static void put_services(const struct app_fabric *fabric)
{
    if (fabric->rping != NULL) {
        put_values("rping", fabric->index, DIAG_RPING_STAT_LIST(STAT_NAME),
                   diag_rping_stats(fabric->rping));
    }
    if (fabric->perf != NULL) {
        put_values("perf", fabric->index, DIAG_PERF_STAT_LIST(STAT_NAME),
                   diag_perf_stats(fabric->perf));
    }
}

static bool rdma_text(struct app_fabric *fabric)
{
    uint32_t index = fabric->index;

    if (!fabric->is_up) {
        put("rdma%u.state not started\n", (unsigned)index);
        return true;
    }
    put("rdma%u.name %s\n", (unsigned)index, fabric->rdma->name);
    put_number("rdma", index, "core", fabric->core);
    put_number("rdma", index, "path_mtu",
               rdma_mtu_bytes((enum rdma_mtu)fabric->rdma->attr.path_mtu_max));
    if (fabric->nif != NULL) {
        put_stats("rdma", index);
        put_stats("cm", index);
    }
    put_qp_counts(fabric);
    rdma_qp_visit(fabric->rdma, put_qp, fabric);
    question.rows = 0;
    rdma_cm_visit(fabric->rdma, put_conn, fabric);
    put_services(fabric);
    return true;
}

void console_rdma(void)
{
    ask(rdma_text);
}

/* --- ping, rping --------------------------------------------------------------------------- */

/* A port that has no way to the address leaves it to the next one. */
static bool started(const struct app_fabric *fabric, enum status status)
{
    if (status == STATUS_OK) {
        return false; /* the callback answers */
    }
    question.is_over = status != STATUS_NOT_FOUND || fabric->index + 1 == app.fabric_count;
    if (question.is_over) {
        put("error %s\n",
            status == STATUS_NOT_FOUND ? "no port has a way to that address" : status_text(status));
    }
    return true;
}

static void pinged(void *ctx, bool answered, uint64_t round_trip_ns)
{
    (void)ctx;
    if (answered) {
        put("ping.round_trip_us %llu\n", (unsigned long long)(round_trip_ns / NS_PER_US));
    } else {
        put("error no answer in %u ms\n", PING_TIMEOUT_MS);
    }
    answer();
}

static bool ping_start(struct app_fabric *fabric)
{
    enum status status = STATUS_NOT_FOUND;

    question.is_over = true;
    if (fabric->nif != NULL) {
        status = net_ping(fabric->nif, &question.addr, PING_BYTES, PING_TIMEOUT_MS, pinged, NULL);
    }
    return started(fabric, status);
}

static void rpinged(void *ctx, const struct diag_rping_result *result);

static enum status rping_again(struct app_fabric *fabric)
{
    struct diag_rping_run run = {
        .addr = question.addr,
        .port = app.config.rping_port,
        .count = question.count,
        .len_bytes = question.len_bytes,
        .timeout_ms = RPING_TIMEOUT_MS,
        .done = rpinged,
        .ctx = fabric,
    };

    return diag_rping_client_start(fabric->rping_client, &run);
}

static void add_result(const struct diag_rping_result *result)
{
    if (result->pings == 0) {
        return;
    }
    bool is_first = question.total.pings == 0;
    question.total.low_ns =
        is_first ? result->low_ns : min_u64(question.total.low_ns, result->low_ns);
    question.total.high_ns = max_u64(question.total.high_ns, result->high_ns);
    question.total.sum_ns += result->sum_ns;
    question.total.pings += result->pings;
    question.total.mismatches += result->mismatches;
}

static void rpinged(void *ctx, const struct diag_rping_result *result)
{
    static const char *const ends[] = {
        [DIAG_RPING_DONE] = "done",           [DIAG_RPING_UNREACHABLE] = "unreachable",
        [DIAG_RPING_REJECTED] = "rejected",   [DIAG_RPING_DISCONNECTED] = "disconnected",
        [DIAG_RPING_TIMED_OUT] = "timed out", [DIAG_RPING_NO_RESOURCES] = "no resources",
    };
    const char *end = ends[result->end];

    add_result(result);
    if (result->end == DIAG_RPING_DONE && --question.connections > 0) {
        enum status status = rping_again(ctx);
        if (status == STATUS_OK) {
            return;
        }
        end = status_text(status);
    }
    put("rping.end %s\nrping.pings %llu\nrping.mismatches %llu\n", end,
        (unsigned long long)question.total.pings, (unsigned long long)question.total.mismatches);
    if (question.total.pings > 0) {
        put("rping.low_us %llu\nrping.average_us %llu\nrping.high_us %llu\n",
            (unsigned long long)(question.total.low_ns / NS_PER_US),
            (unsigned long long)(question.total.sum_ns / question.total.pings / NS_PER_US),
            (unsigned long long)(question.total.high_ns / NS_PER_US));
    }
    answer();
}

static bool rping_start(struct app_fabric *fabric)
{
    enum status status = STATUS_NOT_FOUND;

    question.is_over = true;
    memset(&question.total, 0, sizeof(question.total));
    if (fabric->rping_client != NULL) {
        status = rping_again(fabric);
    }
    return started(fabric, status);
}

/* A number of [low, high], or `otherwise` when the word is empty. */
static bool parse_number(const char *word, uint32_t low, uint32_t high, uint32_t otherwise,
                         uint32_t *out)
{
    uint64_t value = otherwise;

    if (word[0] != '\0' && !config_whole_number(word, low, high, &value)) {
        return false;
    }
    *out = (uint32_t)value;
    return true;
}

void console_ping(char *arguments)
{
    if (console_is_pending() || !net_addr_parse(console_take_word(&arguments), &question.addr)) {
        console_say("ping ADDRESS, an IPv4 or IPv6 address, one at a time\n");
        return;
    }
    ask(ping_start);
}

void console_rping(char *arguments)
{
    if (console_is_pending() || !net_addr_parse(console_take_word(&arguments), &question.addr) ||
        !parse_number(console_take_word(&arguments), 1, RPING_COUNT_MAX, RPING_COUNT,
                      &question.count) ||
        !parse_number(console_take_word(&arguments), DIAG_RPING_LOW_BYTES, DIAG_RPING_HIGH_BYTES,
                      RPING_BYTES, &question.len_bytes) ||
        !parse_number(console_take_word(&arguments), 1, RPING_CONNS_MAX, 1,
                      &question.connections)) {
        console_say("rping ADDRESS [COUNT] [SIZE] [CONNECTIONS], COUNT 1 to %u, SIZE %u to %u, "
                    "CONNECTIONS 1 to %u\n",
                    RPING_COUNT_MAX, DIAG_RPING_LOW_BYTES, DIAG_RPING_HIGH_BYTES, RPING_CONNS_MAX);
        return;
    }
    ask(rping_start);
}
