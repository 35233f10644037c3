#include "slots.h"

#include <string.h>

#define LOOK_MS        250u
#define CONFIRM_MAX_MS 90000u /* an image confirms itself within 30 s of its start */
#define NS_PER_MILLI   1000000u

enum fault slots_read(struct call *call, struct slots *slots)
{
    struct client_rows rows;

    memset(slots, 0, sizeof(*slots));
    enum fault fault = list_if_there(call, MGMT_CLASS_SLOT, &rows);
    for (uint32_t i = 0; i < rows.count && i < SLOTS_MAX && fault == FAULT_NONE; i++) {
        struct mgmt_slot *slot = &slots->slots[slots->count++];
        memcpy(slot, rows.bytes + (size_t)i * rows.record_bytes,
               rows.record_bytes < sizeof(*slot) ? rows.record_bytes : sizeof(*slot));
        slot->version[sizeof(slot->version) - 1] = '\0';
    }
    client_free(&rows);
    return fault;
}

const struct mgmt_slot *slots_find(const struct slots *slots, uint32_t flags, uint32_t without)
{
    for (uint32_t i = 0; i < slots->count; i++) {
        const struct mgmt_slot *slot = &slots->slots[i];
        if ((slot->flags & flags) == flags && (slot->flags & without) == 0) {
            return slot;
        }
    }
    return NULL;
}

const struct mgmt_slot *slots_at(const struct slots *slots, uint32_t slot)
{
    for (uint32_t i = 0; i < slots->count; i++) {
        if (slots->slots[i].slot == slot) {
            return &slots->slots[i];
        }
    }
    return NULL;
}

/* --- restart --------------------------------------------------------------------------------- */

/* Says HELLO; a connection that is gone is made again. What fails meanwhile is not said. */
static bool look(struct call *call)
{
    struct transport *transport = call->client->transport;

    fault_hold(true);
    enum fault fault = client_refresh(call->client);
    if (fault != FAULT_NONE && !call->client->is_silent) {
        transport_close(transport);
        fault = target_open(call->options, transport, call->client);
    }
    fault_forget();
    fault_hold(false);
    return fault == FAULT_NONE;
}

/* Until the board is younger than the reset. */
static bool await_restart(struct call *call, uint64_t before_ns, uint32_t timeout_ms,
                          uint64_t *took_ms)
{
    uint64_t start_ms = transport_now_ms();

    for (;;) {
        client_pause_ms(LOOK_MS);
        bool is_there = look(call);
        *took_ms = transport_now_ms() - start_ms;
        uint64_t age_ns = call->client->hello.uptime_ns;
        if (is_there && (age_ns < before_ns || age_ns < *took_ms * NS_PER_MILLI)) {
            return true;
        }
        if (*took_ms > timeout_ms) {
            return false;
        }
    }
}

/* `due`: what was to start; NULL: nothing new. */
static enum fault judge(struct call *call, const struct mgmt_slot *due)
{
    const struct mgmt_hello *h = &call->client->hello;

    if (due == NULL || h->boot_slot == due->slot) {
        return FAULT_NONE;
    }
    if (h->boot_slot == SLOT_NONE) {
        return fault_say(FAULT_FAILED,
                         "the board was started without its bootloader: slot %u, version %s, is "
                         "still to be tried",
                         due->slot, due->version);
    }
    return fault_say(FAULT_FAILED,
                     "the board is back with the old image, slot %u: the trial of slot %u, version "
                     "%s, has failed; `snicctl log` and `snicctl crash` may say why",
                     h->boot_slot, due->slot, due->version);
}

static enum fault await_confirmation(struct call *call, const struct mgmt_slot *due)
{
    uint64_t deadline_ms = transport_now_ms() + CONFIRM_MAX_MS;
    uint64_t age_ns = call->client->hello.uptime_ns;
    struct slots slots = {0};

    while (transport_now_ms() < deadline_ms) {
        if (look(call)) {
            bool is_younger = call->client->hello.uptime_ns < age_ns;
            age_ns = call->client->hello.uptime_ns;
            enum fault fault = judge(call, due);
            if (fault == FAULT_NONE && !is_younger) {
                fault = slots_read(call, &slots);
            }
            if (fault != FAULT_NONE) {
                return fault;
            }
            if (slots_find(&slots, MGMT_SLOT_RUNNING, MGMT_SLOT_TRIAL) != NULL) {
                fprintf(call->out, "it works and is confirmed: it stays\n");
                return FAULT_NONE;
            }
        }
        client_pause_ms(LOOK_MS);
    }
    return fault_say(FAULT_FAILED,
                     "the image is not confirmed after %u s: it does not serve, or its volumes are "
                     "not ready; `snicctl doctor` says more",
                     CONFIRM_MAX_MS / 1000);
}

/* No answer, or another uptime than that of a restart. */
static enum fault tell_no_restart(struct call *call, uint16_t action, uint32_t timeout_ms)
{
    if (action == MGMT_ACTION_HAND_OVER && look(call)) {
        return fault_say(FAULT_FAILED,
                         "the board serves on with the old image: its functions have not come to "
                         "rest, a command may wait for a path; `snicctl activate` tries again, "
                         "`snicctl reset` does not ask the hosts");
    }
    return fault_say(FAULT_NO_DEVICE,
                     "the board has not come back after %u s: its console and `snicctl status` say "
                     "more",
                     timeout_ms / 1000);
}

enum fault slots_restart(struct call *call, uint16_t action, bool is_confirmed, uint32_t timeout_ms)
{
    struct client *c = call->client;
    struct slots slots;
    uint64_t took_ms = 0;

    enum fault fault = slots_read(call, &slots);
    const struct mgmt_slot *due = slots_find(&slots, MGMT_SLOT_TRIAL, MGMT_SLOT_RUNNING);
    if (fault == FAULT_NONE) {
        fault = client_act(c, action, NULL, 0);
    }
    if (fault != FAULT_NONE) {
        return fault;
    }
    fputs(action == MGMT_ACTION_RESET ? "the board resets\n"
                                      : "the board restarts, its hosts wait\n",
          call->out);
    fflush(call->out);
    if (!await_restart(call, c->hello.uptime_ns, timeout_ms, &took_ms)) {
        return tell_no_restart(call, action, timeout_ms);
    }
    fprintf(call->out, "back after %.1f s: firmware %s, after %s%s\n", (double)took_ms / 1000,
            c->hello.firmware, c->hello.reset_cause,
            c->hello.is_trial == 0 ? ""
            : is_confirmed         ? ", on trial"
                           : ", on trial: it confirms itself once it serves and its volumes "
                             "are ready, `snicctl confirm` does it now");
    fflush(call->out);
    fault = judge(call, due);
    if (fault == FAULT_NONE && is_confirmed && due != NULL) {
        fault = await_confirmation(call, due);
    }
    return fault;
}
