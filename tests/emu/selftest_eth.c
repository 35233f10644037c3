/*
 * The first Ethernet port against the runner at the other end of its wire: each frame is sent back
 * with its addresses swapped, in as many segments as it says, on its word out of an ivshmem BAR, as
 * host memory is. The core sleeps when there is nothing to do. What a frame costs, with -icount.
 *
 * Byte 14 of a frame is the command, 15 the number of segments, 16 what the third and later
 * segments lie in (1: the BAR). On another command the driver sees a broken device.
 */
#include <string.h>
#include "base/bits.h"
#include "base/counter.h"
#include "hal/arch/aarch64/pmu.h"
#include "hal/clock.h"
#include "hal/cpu.h"
#include "hal/drivers/ivshmem.h"
#include "hal/drivers/virtio_net.h"
#include "selftest.h"

#define COMMAND_ECHO  'e'
#define COMMAND_END   'q'
#define COMMAND_BREAK 'b'
#define BATCH         32u
#define SLOTS         256u
#define SLOT_BYTES    8192u
#define DATA_OFFSET   (ETH_TX_HEADROOM_BYTES + 2u)
#define FRAME_MAX     4218u
#define SPIN_NS       (20 * NS_PER_US)
#define COST_FRAMES   32u
#define COST_TX_MAX   150u
#define COST_RX_MAX   75u

struct slot {
    struct mem_seg segs[ETH_TX_SEGS];
    uint8_t *memory; /* SLOT_BYTES of the NIC */
    uint8_t *bar;    /* SLOT_BYTES of the BAR, or NULL */
};

static struct slot slots[SLOTS];
static struct slot *free_slots[SLOTS];
static uint32_t free_count;
static uint32_t sleep_count;
static uint32_t refused_count;
static uint32_t bar_count;

static uint32_t slots_init(const struct board *board)
{
    struct ivshmem ivshmem;
    bool has_bar = ivshmem_find(0, false, &ivshmem) == STATUS_OK &&
                   ivshmem.memory_bytes >= (uint64_t)SLOTS * SLOT_BYTES;

    free_count = 0;
    for (uint32_t i = 0; i < SLOTS; i++) {
        slots[i].memory = (uint8_t *)board->pool_base + (uint64_t)i * SLOT_BYTES;
        slots[i].bar = NULL;
        if (has_bar) {
            slots[i].bar = mem_bus_ptr(ivshmem.memory_addr + (uint64_t)i * SLOT_BYTES);
        }
        free_slots[free_count++] = &slots[i];
    }
    return has_bar ? SLOTS : 0;
}

/* Copies the frame into the slot in `count` pieces, odd in length and scattered. */
static void scatter(struct slot *slot, const uint8_t *data, uint32_t len_bytes, uint32_t count,
                    bool in_bar)
{
    uint8_t *at = slot->memory + DATA_OFFSET;
    uint32_t left_bytes = len_bytes;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t piece_bytes = i + 1 == count ? left_bytes : i == 0 ? 14 : left_bytes / (count - i);
        if (i == 2 && in_bar && slot->bar != NULL) {
            at = slot->bar + 4096 - 100; /* over the end of a page */
            bar_count++;
        }
        memcpy(at, data, piece_bytes);
        slot->segs[i] = (struct mem_seg){.bus_addr = (uintptr_t)at, .len_bytes = piece_bytes};
        data += piece_bytes;
        left_bytes -= piece_bytes;
        at += piece_bytes + 5;
    }
}

static void reap(struct eth_port *port)
{
    void *cookies[BATCH];
    uint32_t count = eth_tx_reap(port, cookies, BATCH);

    for (uint32_t i = 0; i < count; i++) {
        free_slots[free_count++] = cookies[i];
    }
}

static void echo(struct eth_port *port, const struct eth_rx *frame)
{
    uint32_t count = frame->data[15];

    if (free_count == 0 || count == 0 || count > ETH_TX_SEGS || frame->len_bytes > FRAME_MAX) {
        refused_count++;
        return;
    }
    struct slot *slot = free_slots[--free_count];
    uint8_t addr[ETH_ADDR_BYTES];
    memcpy(addr, frame->data, ETH_ADDR_BYTES);
    memcpy(frame->data, frame->data + ETH_ADDR_BYTES, ETH_ADDR_BYTES);
    memcpy(frame->data + ETH_ADDR_BYTES, addr, ETH_ADDR_BYTES);
    scatter(slot, frame->data, frame->len_bytes, count, frame->data[16] == 1);
    struct eth_tx tx = {slot->segs, count, frame->len_bytes, slot};
    if (eth_tx(port, &tx) != STATUS_OK) {
        free_slots[free_count++] = slot;
        refused_count++;
    }
}

/* One batch; false when the runner has said that it is the end. */
static bool turn(struct eth_port *port, uint32_t *work)
{
    struct eth_rx frames[BATCH];
    bool goes_on = true;
    bool breaks = false;

    reap(port);
    uint32_t room = min_u32(port->tx_room_count, min_u32(free_count, BATCH));
    *work = eth_rx(port, frames, room);
    for (uint32_t i = 0; i < *work; i++) {
        if (frames[i].len_bytes >= 60 && frames[i].data[14] == COMMAND_ECHO) {
            echo(port, &frames[i]);
        } else if (frames[i].data[14] == COMMAND_END) {
            goes_on = false;
        } else if (frames[i].data[14] == COMMAND_BREAK) {
            breaks = true;
        }
    }
    eth_tx_flush(port);
    eth_rx_done(port, *work);
    if (breaks) {
        CONTAINER_OF(port, struct virtio_net, port)->rx.used->idx ^= 0x8000;
    }
    return goes_on;
}

static void serve(struct eth_port *port)
{
    uint64_t last_ns = clock_now_ns();
    uint32_t work;

    while (turn(port, &work)) {
        uint64_t now_ns = clock_now_ns();
        if (work != 0 || free_count != SLOTS) {
            last_ns = now_ns;
        } else if (now_ns - last_ns >= SPIN_NS) {
            if (!eth_arm(port, true)) {
                cpu_idle(UINT64_MAX); /* nothing but an interrupt of the port ends it */
                sleep_count++;
            }
            refused_count += eth_arm(port, false) ? 1 : 0; /* always false */
        }
    }
    while (free_count != SLOTS) {
        reap(port);
    }
}

/* --- cost --------------------------------------------------------------------------------------
 */

/* 0.1 s with -icount; reading the clock all the time would take many times as long. */
static void let_device_work(void)
{
    uint64_t turns = 50 * 1000 * 1000;
    __asm__ volatile("1: subs %0, %0, #1\n b.ne 1b" : "+r"(turns)::"cc");
}

static uint32_t cost_of_sending(struct eth_port *port, uint32_t segs)
{
    struct eth_tx frames[COST_FRAMES];
    void *cookies[COST_FRAMES];
    uint8_t zero[64] = {0};
    uint32_t reaped = 0;

    for (uint32_t i = 0; i < COST_FRAMES; i++) {
        scatter(&slots[i], zero, sizeof(zero), segs, false);
        frames[i] = (struct eth_tx){slots[i].segs, segs, sizeof(zero), &slots[i]};
    }
    uint32_t start = pmu_instructions();
    for (uint32_t i = 0; i < COST_FRAMES; i++) {
        if (eth_tx(port, &frames[i]) != STATUS_OK) {
            return UINT32_MAX;
        }
    }
    eth_tx_flush(port);
    uint32_t spent = pmu_instructions() - start;
    let_device_work();
    start = pmu_instructions();
    reaped = eth_tx_reap(port, cookies, COST_FRAMES);
    spent += pmu_instructions() - start;
    return reaped == COST_FRAMES ? spent / COST_FRAMES : UINT32_MAX;
}

/* The runner sends more than a batch; a look that finds nothing is the cheapest of many. */
static uint32_t cost_of_receiving(struct eth_port *port, uint32_t *empty)
{
    struct eth_rx frames[COST_FRAMES];

    let_device_work();
    uint32_t start = pmu_instructions();
    uint32_t count = eth_rx(port, frames, COST_FRAMES);
    eth_rx_done(port, count);
    uint32_t spent = pmu_instructions() - start;
    *empty = UINT32_MAX;
    for (uint32_t i = 0; i < 1000; i++) {
        start = pmu_instructions();
        uint32_t more = eth_rx(port, frames, COST_FRAMES);
        *empty = min_u32(*empty, pmu_instructions() - start);
        eth_rx_done(port, more);
    }
    return count == COST_FRAMES ? spent / COST_FRAMES : UINT32_MAX;
}

static void check_cost(struct eth_port *port)
{
    uint32_t empty = 0;

    pmu_start();
    uint32_t one = cost_of_sending(port, 1);
    uint32_t three = cost_of_sending(port, 3);
    uint32_t rx = cost_of_receiving(port, &empty);
    selftest_check(one <= COST_TX_MAX && rx <= COST_RX_MAX, "eth_instructions",
                   "in batches of %u: %u to send in one segment, %u in three; %u to receive; %u to "
                   "find nothing",
                   COST_FRAMES, (unsigned)one, (unsigned)three, (unsigned)rx, (unsigned)empty);
}

void selftest_eth(const struct board *board)
{
    selftest_check(board->eth_count == 1, "eth_port_is_found", "%u", (unsigned)board->eth_count);
    if (board->eth_count == 0) {
        return;
    }
    struct eth_port *port = board->eths[0];
    uint32_t bar_slots = slots_init(board);
    selftest_check(port->mtu_bytes == 4200 && port->link_up && port->addr[5] == 0x56,
                   "eth_port_says_what_it_is", "MTU %u", port->mtu_bytes);
    if (strstr(board->config, "icount") != NULL) {
        check_cost(port);
        return;
    }
    selftest_check(true, "eth_echo_begins", "%u slots in a BAR", (unsigned)bar_slots);
    serve(port);
    const struct eth_stats *stats = &port->stats;
    selftest_check(refused_count == 0 && counter_get(&stats->rx_error_count) == 0 &&
                       counter_get(&stats->tx_drop_count) == 0,
                   "eth_all_frames_were_good", "%llu received, %llu sent, %llu kicks",
                   (unsigned long long)counter_get(&stats->rx_count),
                   (unsigned long long)counter_get(&stats->tx_count),
                   (unsigned long long)counter_get(&stats->tx_kick_count));
    selftest_check(bar_count != 0, "eth_frames_left_out_of_the_bar", "%u", (unsigned)bar_count);
    selftest_check(sleep_count != 0, "eth_core_slept_and_was_woken", "%u times",
                   (unsigned)sleep_count);
}
