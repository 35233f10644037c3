/*
 * `help` and `version`.
 */
#include "command.h"

#include <stdlib.h>
#include <string.h>

enum fault cmd_help(struct call *call)
{
    const struct command *only = NULL;

    if (call->word_count > 0) {
        only = command_find(call->words[0]);
        if (only == NULL) {
            return fault_say(FAULT_USAGE, "%s: no such command", call->words[0]);
        }
        fprintf(call->out, "snicctl %s %s\n    %s\n", only->name, only->usage, only->text);
        return FAULT_NONE;
    }
    fprintf(call->out, "usage: snicctl [--device /dev/nvmeN | --console PATH | --rack[=NAME]] "
                       "[--json] COMMAND ...\n\n");
    for (const struct command *c = commands; c->name != NULL; c++) {
        fprintf(call->out, "  %-13s %s\n", c->name, c->text);
    }
    fprintf(call->out,
            "\n  --device /dev/nvmeN  in band: an NVMe device of this host\n"
            "  --console PATH       out of band: a serial line (--baud N) or a unix socket\n"
            "  --rack[=NAME]        the rack of `make rack`\n"
            "                       none of these: the rack if it runs, else our NVMe device\n"
            "  --json               for programs (docs/spec/snicctl.schema.json)\n"
            "  --all                all fields\n\n"
            "Exit: 0 done, 1 failed or refused, 2 usage, 3 no device or no answer, 4 not "
            "permitted,\n5 versions do not fit. `snicctl help COMMAND`, man snicctl, "
            "docs/SNICCTL.md.\n");
    return FAULT_NONE;
}

enum fault cmd_version(struct call *call)
{
    struct transport transport = {.fd = -1};
    struct json json;
    enum fault fault = args_done(call, 0, 0);
    bool is_named = call->options->device != NULL || call->options->console != NULL ||
                    call->options->rack != NULL;

    if (fault != FAULT_NONE) {
        return fault;
    }
    if (is_named) { /* only then: the tool's own version needs no board */
        static struct client client;
        fault = target_open(call->options, &transport, &client);
        call->client = fault == FAULT_NONE ? &client : NULL;
    }
    const struct mgmt_hello *h = call->client != NULL ? &call->client->hello : NULL;
    if (call->options->is_json) {
        reply_start(call, &json);
        json_open(&json, "tool", '{');
        json_text(&json, "version", CLIENT_TOOL_VERSION);
        json_uint(&json, "message_version", MGMT_VERSION);
        json_uint(&json, "message_min_version", MGMT_MIN_VERSION);
        json_close(&json, '}');
        reply_end(&json);
    } else {
        fprintf(call->out, "snicctl " CLIENT_TOOL_VERSION ", messages %u to %u\n", MGMT_MIN_VERSION,
                MGMT_VERSION);
        if (h != NULL) {
            fprintf(call->out, "firmware %s on %s, messages %u to %u\n", h->firmware, h->board,
                    h->min_version, h->version);
        }
    }
    transport_close(&transport);
    return fault;
}
