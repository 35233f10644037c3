/*
 * snicctl: looks into a SmartNIC that runs snic, changes its configuration, updates it.
 * docs/SNICCTL.md, docs/man/snicctl.1.
 */
#include "command.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include "text.h"

/* Takes the options of the whole tool, wherever they stand, off the words. */
static enum fault take_options(struct call *call, struct options *options)
{
    uint64_t baud;

    options->is_json = args_flag(call, "--json");
    options->is_all = args_flag(call, "--all");
    options->device = args_value(call, "--device");
    options->console = args_value(call, "--console");
    baud = args_number(call, "--baud", 4000000, 0);
    options->baud = (uint32_t)baud;
    for (uint32_t i = 0; i < call->word_count; i++) {
        if (strncmp(call->words[i], "--rack=", 7) == 0) {
            options->rack = args_value(call, "--rack");
        }
    }
    if (args_flag(call, "--rack")) {
        options->rack = "";
    }
    if ((options->device != NULL) + (options->console != NULL) + (options->rack != NULL) > 1) {
        return fault_say(FAULT_USAGE, "--device, --console and --rack exclude each other");
    }
    return call->fault;
}

static enum fault run_command(struct call *call)
{
    struct transport transport = {.fd = -1};
    static struct client client;

    if (call->command->needs == NEEDS_CLIENT) {
        enum fault fault = target_open(call->options, &transport, &client);
        if (fault != FAULT_NONE) {
            return fault;
        }
        call->client = &client;
    }
    enum fault fault = call->command->run(call);
    transport_close(&transport);
    return fault;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    struct call call = {.options = &options, .out = stdout};

    setlocale(LC_CTYPE, "");
    call.words = argv + 1;
    call.word_count = (uint32_t)argc - 1;
    enum fault fault = take_options(&call, &options);
    if (fault != FAULT_NONE) {
        return fault;
    }
    if (args_flag(&call, "--version")) {
        call.command = command_find("version");
    } else if (call.word_count == 0 || args_flag(&call, "--help") || args_flag(&call, "-h")) {
        call.command = command_find("help");
    } else {
        call.command = command_find(call.words[0]);
        if (call.command == NULL) {
            return fault_say(FAULT_USAGE, "%s: no such %s; `snicctl help` lists them",
                             call.words[0], call.words[0][0] == '-' ? "option" : "command");
        }
        call.words++;
        call.word_count--;
    }
    fault = run_command(&call);
    if (fflush(stdout) != 0 && fault == FAULT_NONE) {
        fault = FAULT_FAILED;
    }
    return fault;
}
