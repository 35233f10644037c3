/*
 * What the fake board is told to change: images, configuration, console, reset. Answers and texts
 * as firmware/mgmt/mgmt_images.c, firmware/app/console_*.c and docs/spec/mgmt.md have them.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "host_tools/snicctl/message.h"
#include "spec/boot.h"
#include "tests/host_tools/fake_priv.h"

#define CONFIG_BUSY_COUNT 2u
#define AWAY_REQUESTS     2u
#define TRIAL_LOOKS       3u
#define BOOT_MS           400u /* until its clock runs */
#define BOOTED_MS         5u   /* of one that answers at once */
#define LATE_US           1000000u

/* --- WRITE ----------------------------------------------------------------------------------- */

void fake_write(struct fake *f, const struct mgmt_write_request *request, const uint8_t *bytes)
{
    if (f->mode == FAKE_NO_FLASH || request->object < MGMT_OBJECT_CONFIG) {
        fake_refuse(f, MGMT_UNSUPPORTED, "");
        return;
    }
    if (request->offset + request->data_bytes > sizeof(f->written)) {
        fake_refuse(f, MGMT_OUT_OF_RANGE, "");
        return;
    }
    memcpy(f->written + request->offset, bytes, request->data_bytes);
    if (request->offset == 0) {
        f->written_len = 0;
    }
    uint32_t end = (uint32_t)request->offset + request->data_bytes;
    f->written_len = end > f->written_len ? end : f->written_len;
    f->update.received_bytes = f->written_len;
}

/* --- images ---------------------------------------------------------------------------------- */

uint32_t fake_running(const struct fake *f)
{
    return (f->slots[1].flags & MGMT_SLOT_RUNNING) != 0 ? 1 : 0;
}

static void commit_image(struct fake *f, struct mgmt_commit commit)
{
    bool is_replace = (commit.actions & MGMT_COMMIT_REPLACE) != 0;
    bool is_check = commit.actions == MGMT_COMMIT_CHECK;

    commit.slot = commit.slot == 0xff ? (uint8_t)(1 - fake_running(f)) : commit.slot;
    if (commit.slot > 1) {
        fake_refuse(f, MGMT_OUT_OF_RANGE, "");
    } else if (f->update.is_busy != 0) {
        fake_refuse(f, MGMT_BUSY, "");
    } else if (is_check && f->mode == FAKE_OLD) {
        fake_refuse(f, MGMT_UNSUPPORTED, "");
    } else if (is_replace &&
               (f->slots[commit.slot].flags & (MGMT_SLOT_RUNNING | MGMT_SLOT_ACTIVE)) != 0) {
        fake_refuse(f, MGMT_REFUSED, "the slot is in use");
    } else if (is_replace || is_check ? f->written_len == 0
                                      : f->slots[commit.slot].image_bytes == 0) {
        fake_refuse(f, MGMT_NOT_FOUND, "no image was received, or is in that slot");
    } else {
        f->commit = commit;
        f->update = (struct mgmt_update){
            .received_bytes = f->written_len, .image_bytes = f->written_len, .is_busy = 1};
        snprintf(f->update.state, sizeof(f->update.state), "%s", is_check ? "checking" : "writing");
    }
}

/* The head's, wherever in the FIT it lies. */
static void take_version(struct fake *f, struct mgmt_slot *slot)
{
    struct boot_image_head head;

    for (uint32_t i = 0; i + sizeof(head) <= f->written_len; i += 4) {
        memcpy(&head, f->written + i, sizeof(head));
        if (head.magic == BOOT_IMAGE_HEAD_MAGIC) {
            memcpy(slot->version, head.version, sizeof(slot->version));
        }
    }
}

static void end_update(struct fake *f)
{
    struct mgmt_slot *slot = &f->slots[f->commit.slot];
    bool is_replace = (f->commit.actions & MGMT_COMMIT_REPLACE) != 0;

    f->update.is_busy = 0;
    snprintf(f->update.state, sizeof(f->update.state), "idle");
    if (f->mode == FAKE_REFUSES && f->commit.actions != MGMT_COMMIT_ACTIVATE) {
        snprintf(f->update.fault, sizeof(f->update.fault), "the image is signed by another key");
        return;
    }
    if (f->mode == FAKE_WORN) { /* says nothing, and has nothing */
        return;
    }
    if (is_replace) {
        slot->image_bytes = f->mode == FAKE_CUTS ? f->written_len / 2 : f->written_len;
        slot->flags = 0;
        take_version(f, slot);
    }
    bool is_activated = (f->commit.actions & MGMT_COMMIT_ACTIVATE) != 0;
    if (is_activated && (slot->flags & MGMT_SLOT_ACTIVE) != 0) { /* ends the trial of the other */
        struct mgmt_slot *other = &f->slots[1 - f->commit.slot];
        other->attempts_left = f->mode == FAKE_TRIAL_KEPT ? other->attempts_left : 0;
        if ((other->flags & MGMT_SLOT_RUNNING) == 0) {
            other->flags &= (uint16_t)~MGMT_SLOT_TRIAL;
        }
    } else if (is_activated) {
        slot->flags = (uint16_t)((slot->flags | MGMT_SLOT_TRIAL) & ~MGMT_SLOT_FAILED);
        slot->attempts_left = 3;
    }
}

void fake_update_step(struct fake *f)
{
    if (f->update.is_busy == 0) {
        return;
    }
    f->update.done_bytes += f->update.image_bytes / 4 + 1;
    if (f->update.done_bytes >= f->update.image_bytes) {
        f->update.done_bytes = f->update.image_bytes;
        end_update(f);
    }
}

void fake_confirm(struct fake *f)
{
    uint32_t running = fake_running(f);

    f->slots[running].flags = MGMT_SLOT_RUNNING | MGMT_SLOT_ACTIVE;
    f->slots[running].attempts_left = 0;
    f->slots[1 - running].flags &= (uint16_t)~MGMT_SLOT_ACTIVE;
}

void fake_restart(struct fake *f, uint32_t away)
{
    f->is_restarted = true;
    f->start_ms = away > 0 ? fake_now_ms() + BOOT_MS : fake_now_ms() - BOOTED_MS;
    f->away = away;
}

void fake_fall_back(struct fake *f)
{
    uint32_t running = fake_running(f);

    f->slots[running].flags = MGMT_SLOT_FAILED;
    f->slots[running].attempts_left = 0;
    f->slots[1 - running].flags = MGMT_SLOT_RUNNING | MGMT_SLOT_ACTIVE;
}

static void reset(struct fake *f)
{
    uint32_t other = 1 - fake_running(f);
    struct mgmt_slot *trial = &f->slots[other];
    struct mgmt_slot *running = &f->slots[1 - other];

    if (f->mode == FAKE_NEVER_RESETS) {
        return;
    }
    fake_restart(f, AWAY_REQUESTS);
    f->hello_count = 1;
    bool is_on_trial = (running->flags & MGMT_SLOT_TRIAL) != 0;
    if (is_on_trial && running->attempts_left == 0 && f->mode != FAKE_TRIAL_STICKS) {
        running->flags = 0;
        trial->flags |= MGMT_SLOT_RUNNING;
        return;
    }
    if ((trial->flags & MGMT_SLOT_TRIAL) == 0) {
        return;
    }
    if (f->mode == FAKE_TRIAL_FAILS) {
        trial->flags = MGMT_SLOT_FAILED;
        return;
    }
    trial->flags |= MGMT_SLOT_RUNNING;
    trial->attempts_left = 2;
    running->flags &= (uint16_t)~MGMT_SLOT_RUNNING;
    f->is_doomed = f->mode == FAKE_DIES_CONFIRMING;
    f->trial_looks = f->is_doomed ? 0 : TRIAL_LOOKS;
}

/* --- configuration --------------------------------------------------------------------------- */

static void commit_config(struct fake *f, const struct mgmt_commit_config *config)
{
    if (f->mode == FAKE_REFUSES && config->tree_bytes > 0) {
        fake_refuse(f, MGMT_REFUSED,
                    "/volumes/v0/paths/path@0: subsystem: expected <&LABEL> of a node in "
                    "/subsystems");
    } else if (config->tree_bytes > f->written_len ||
               (config->tree_bytes > 0 &&
                config->crc != message_crc(0, f->written, config->tree_bytes))) {
        fake_refuse(f, MGMT_REFUSED, "the tree is damaged: its CRC is another one");
    } else if (config->is_check != 0) {
        return;
    } else if (f->mode == FAKE_WORN) {
        fake_refuse(f, MGMT_FAILED, "the flash has not taken the tree");
    } else if (f->config_busy++ < CONFIG_BUSY_COUNT) {
        fake_refuse(f, MGMT_BUSY, "");
    } else {
        f->config_busy = 0;
        memcpy(f->config, f->written, config->tree_bytes);
        f->config_len = config->tree_bytes;
    }
}

/* --- console --------------------------------------------------------------------------------- */

static void say(struct fake *f, const char *text)
{
    uint32_t len = (uint32_t)strlen(text);

    memcpy(f->console + f->console_len, text, len);
    f->console_len += len;
}

/* What each line prints; 192.0.2.250 is nobody. */
static const struct {
    const char *line;
    const char *text;
} answers[] = {
    {"ping 192.0.2.101", "ping.round_trip_us 412\n"},
    {"ping 192.0.2.250", "error no answer in 1000 ms\n"},
    {"ping 198.51.100.1", "error no port has a way to that address\n"},
    {"ping nobody", "ping ADDRESS, an IPv4 or IPv6 address, one at a time\n"},
    {"rping 192.0.2.101", "rping.end done\nrping.pings 10\nrping.mismatches 0\nrping.low_us 51\n"
                          "rping.average_us 60\nrping.high_us 99\n"},
    {"rping 192.0.2.102", "rping.end done\nrping.pings 10\nrping.mismatches 2\n"},
    {"rping 192.0.2.250", "rping.end unreachable\nrping.pings 0\nrping.mismatches 0\n"},
    {"discover 192.0.2.101",
     "entry.nqn nqn.2014-08.org.example:pool-a\n"
     "entry.address 192.0.2.101 port 4420 type 2 transport 1 depth 0\ndiscover.end done\n"},
    {"discover 192.0.2.250", "error nobody answers at this address and port (code 0x0)\n"},
    {"discover nobody", "discover ADDRESS [PORT], one at a time\n"},
    {"status", "uptime_ms 61250\nfn0.state READY\n"},
    {"volume attach data", "error it is attached\n"},
    {"volume detach scratch", "done\n"},
    {"volume sing data", "volume attach NAME, volume detach NAME\n"},
    {"hang", ""},
    {"net", "the command before is still at work\n"},
    {"mute", ""},
};

static void run_line(struct fake *f, const char *line)
{
    f->console_len = 0;
    line += strspn(line, " ");
    if (f->mode == FAKE_LATE && f->act_count > 1) {
        say(f, "error it is not attached, or no function has it\n");
        return;
    }
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        if (strcmp(line, answers[i].line) == 0) {
            say(f, answers[i].text);
            return;
        }
    }
    char text[160];
    snprintf(text, sizeof(text), "no command '%.*s'; try help\n", (int)strcspn(line, " "), line);
    say(f, text);
}

/* --- ACTION ---------------------------------------------------------------------------------- */

void fake_act(struct fake *f, const struct mgmt_action_request *request, const uint8_t *bytes)
{
    char line[256] = "";
    struct mgmt_commit commit = {0};
    struct mgmt_commit_config config = {0};
    bool is_flash = request->action >= MGMT_ACTION_COMMIT_IMAGE;

    if (f->mode == FAKE_NO_FLASH && is_flash) {
        fake_refuse(f, MGMT_UNSUPPORTED, "");
        return;
    }
    if (f->mode == FAKE_LATE && f->act_count++ == 0) {
        usleep(LATE_US);
    }
    switch (request->action) {
    case MGMT_ACTION_RUN:
        memcpy(line, bytes, request->argument_bytes);
        run_line(f, line);
        return;
    case MGMT_ACTION_TRACE:
        fake_put(f, &f->trace_classes, sizeof(f->trace_classes));
        memcpy(&f->trace_classes, bytes, sizeof(f->trace_classes));
        return;
    case MGMT_ACTION_COMMIT_IMAGE:
        memcpy(&commit, bytes, sizeof(commit));
        commit_image(f, commit);
        return;
    case MGMT_ACTION_COMMIT_CONFIG:
        memcpy(&config, bytes, sizeof(config));
        commit_config(f, &config);
        return;
    case MGMT_ACTION_CONFIRM:
        f->is_doomed = f->mode == FAKE_DIES_CONFIRMING;
        if (f->mode != FAKE_TRIAL && !f->is_doomed) {
            fake_confirm(f);
        }
        return;
    case MGMT_ACTION_HAND_OVER:
    case MGMT_ACTION_RESET:
        reset(f);
        return;
    case MGMT_ACTION_LOG_LEVEL:
        return;
    default:
        fake_refuse(f, MGMT_NOT_FOUND, "");
    }
}
