/*
 * The fake board's parts: fake.c (messages, lists, objects), fake_act.c (what changes something).
 */
#ifndef TESTS_HOST_TOOLS_FAKE_PRIV_H
#define TESTS_HOST_TOOLS_FAKE_PRIV_H

#include "spec/mgmt.h"
#include "spec/mgmt_record.h"
#include "tests/host_tools/fake.h"

#define FAKE_OBJECT_ROOM (1u << 20)
#define FAKE_SLOTS       2u

struct fake {
    int fd;
    enum fake_mode mode;
    uint32_t request_count;
    uint32_t hello_count;
    bool is_started;
    bool is_kept; /* a request waits for an empty frame */
    uint8_t kept[MGMT_FRAME_BYTES];
    uint32_t kept_len;
    char console[4096]; /* what the last command has printed */
    uint32_t console_len;
    uint8_t written[FAKE_OBJECT_ROOM];
    uint32_t written_len;
    uint8_t config[FAKE_OBJECT_ROOM]; /* committed */
    uint32_t config_len;
    uint32_t config_busy; /* BUSY so often, until flash has it */
    struct mgmt_update update;
    struct mgmt_commit commit; /* under way */
    struct mgmt_slot slots[FAKE_SLOTS];
    bool is_restarted; /* since the caller came */
    uint64_t start_ms; /* when it has restarted; of a young board: started */
    bool is_doomed;    /* the next look at its slots kills it */
    uint32_t act_count;
    uint32_t log_count;
    uint32_t away;        /* requests that are not answered yet */
    uint32_t trial_looks; /* HELLOs until an image on trial has confirmed itself */
    uint32_t trace_classes;
    uint8_t answer[8192];
    uint32_t answer_len; /* of the payload */
    uint16_t status;
};

void fake_put(struct fake *f, const void *bytes, uint32_t len);
void fake_refuse(struct fake *f, enum mgmt_status status, const char *text);

void fake_write(struct fake *f, const struct mgmt_write_request *request, const uint8_t *bytes);
void fake_act(struct fake *f, const struct mgmt_action_request *request, const uint8_t *bytes);
/* The update goes on by a piece. */
void fake_update_step(struct fake *f);
/* The slot that runs. */
uint32_t fake_running(const struct fake *f);
/* A trial that runs has had its time. */
void fake_confirm(struct fake *f);
/* Is away for so many requests, its age begins again. */
void fake_restart(struct fake *f, uint32_t away);
uint64_t fake_now_ms(void);
/* The trial that runs has failed: back to the other slot. */
void fake_fall_back(struct fake *f);

#endif
