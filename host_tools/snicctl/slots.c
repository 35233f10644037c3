#include "slots.h"

#include <string.h>

#define LOOK_MS        250u
#define CONFIRM_MAX_MS 90000u /* an image confirms itself within 30 s of its start */

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

/* Makes the connection again, to the board that it went to: the first that is found by now may be
 * another one. */
static enum fault open_again(struct call *call)
{
    struct transport *transport = call->client->transport;
    struct options options = *call->options;
    char name[sizeof(transport->name)];

    if (options.device == NULL && options.console == NULL && options.rack == NULL) {
        memcpy(name, transport->name, sizeof(name));
        options.console = transport->is_console ? name : NULL;
        options.device = transport->is_console ? NULL : name;
    }
    transport_close(transport);
    return target_open(&options, transport, call->client);
}

/* Says HELLO; a connection that is gone is made again. What fails meanwhile is not said. */
static bool look(struct call *call)
{
    struct client *c = call->client;
    uint64_t age_ns = c->hello.uptime_ns;
    uint64_t seen_ms = c->seen_ms;
    uint32_t restart_count = c->restart_count;

    fault_hold(true);
    enum fault fault = client_refresh(c);
    if (fault != FAULT_NONE && !c->is_silent) {
        uint64_t asked_ms = transport_now_ms();
        fault = open_again(call);
        if (fault != FAULT_NONE) { /* forgets it all */
            c->hello.uptime_ns = age_ns;
            c->seen_ms = seen_ms;
        }
        c->restart_count = restart_count;
        if (fault == FAULT_NONE) {
            client_count_restart(c, age_ns, seen_ms, asked_ms);
        }
    }
    fault_forget();
    fault_hold(false);
    return fault == FAULT_NONE;
}

/* Until the board has restarted. *is_there: it answers at the end. */
static bool await_restart(struct call *call, uint32_t restart_count, uint32_t timeout_ms,
                          uint64_t *took_ms, bool *is_there)
{
    uint64_t start_ms = transport_now_ms();

    do {
        client_pause_ms(LOOK_MS);
        *is_there = look(call);
        *took_ms = transport_now_ms() - start_ms;
        if (*is_there && call->client->restart_count != restart_count) {
            return true;
        }
    } while (*took_ms <= timeout_ms);
    return false;
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
    if ((due->flags & MGMT_SLOT_TRIAL) == 0) {
        return fault_say(FAULT_FAILED,
                         "the board is back with slot %u, not with slot %u, version %s; "
                         "`snicctl slots` and `snicctl log` may say why",
                         h->boot_slot, due->slot, due->version);
    }
    return fault_say(FAULT_FAILED,
                     "the board is back with the old image, slot %u: the trial of slot %u, version "
                     "%s, has failed; `snicctl log` and `snicctl crash` may say why",
                     h->boot_slot, due->slot, due->version);
}

/* The board's record, read from the board that look() has seen, has the slot as confirmed. No
 * answer is no fault: it may restart. */
static enum fault read_confirmed(struct call *call, uint32_t slot, bool *is_confirmed)
{
    struct slots slots;

    fault_hold(true);
    enum fault fault = slots_read(call, &slots);
    if (fault == FAULT_NO_DEVICE) {
        fault_forget();
        fault = FAULT_NONE;
        slots.count = 0;
    }
    fault_hold(false);
    const struct mgmt_slot *now = slots_at(&slots, slot);
    *is_confirmed =
        now != NULL && (now->flags & MGMT_SLOT_RUNNING) != 0 && (now->flags & MGMT_SLOT_TRIAL) == 0;
    return fault;
}

static enum fault await_confirmation(struct call *call, const struct mgmt_slot *due)
{
    uint64_t deadline_ms = transport_now_ms() + CONFIRM_MAX_MS;
    bool is_confirmed = false;

    while (transport_now_ms() < deadline_ms) {
        if (look(call)) {
            enum fault fault = judge(call, due);
            if (fault == FAULT_NONE) {
                fault = read_confirmed(call, due->slot, &is_confirmed);
            }
            if (fault != FAULT_NONE) {
                return fault;
            }
            if (is_confirmed) {
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

/* No answer, or that of a board that has not restarted. */
static enum fault tell_no_restart(uint16_t action, bool is_there, uint32_t timeout_ms)
{
    if (is_there && action == MGMT_ACTION_HAND_OVER) {
        return fault_say(FAULT_FAILED,
                         "the board serves on with the old image: its functions have not come to "
                         "rest, a command may wait for a path; `snicctl activate` tries again, "
                         "`snicctl reset` does not ask the hosts");
    }
    if (is_there) {
        return fault_say(FAULT_FAILED,
                         "the board has not reset after %u s: it answers as before; "
                         "`snicctl log` may say why",
                         timeout_ms / 1000);
    }
    return fault_say(FAULT_NO_DEVICE,
                     "the board has not come back after %u s: its console and `snicctl status` say "
                     "more",
                     timeout_ms / 1000);
}

static void tell_back(struct call *call, uint64_t took_ms, bool is_waiting)
{
    const struct mgmt_hello *h = &call->client->hello;

    fprintf(call->out, "back after %.1f s: firmware %s, after %s%s\n", (double)took_ms / 1000,
            h->firmware, h->reset_cause,
            h->is_trial == 0 ? ""
            : is_waiting     ? ", on trial"
                             : ", on trial: it confirms itself once it serves and its volumes are "
                               "ready, `snicctl confirm` does it now");
    fflush(call->out);
}

enum fault slots_restart(struct call *call, uint16_t action, const struct mgmt_slot *due,
                         bool is_confirmed, uint32_t timeout_ms)
{
    struct slots slots;
    uint64_t took_ms = 0;
    bool is_there = false;

    enum fault fault = slots_read(call, &slots);
    due = due != NULL ? due : slots_find(&slots, MGMT_SLOT_TRIAL, MGMT_SLOT_RUNNING);
    if (fault == FAULT_NONE) {
        fault = client_act(call->client, action, NULL, 0);
    }
    if (fault != FAULT_NONE) {
        return fault;
    }
    fputs(action == MGMT_ACTION_RESET ? "the board resets\n"
                                      : "the board restarts, its hosts wait\n",
          call->out);
    fflush(call->out);
    uint32_t restart_count = call->client->restart_count;
    if (!await_restart(call, restart_count, timeout_ms, &took_ms, &is_there)) {
        return tell_no_restart(action, is_there, timeout_ms);
    }
    tell_back(call, took_ms, is_confirmed);
    fault = judge(call, due);
    if (fault == FAULT_NONE && is_confirmed && due != NULL) {
        fault = await_confirmation(call, due);
    }
    return fault;
}
