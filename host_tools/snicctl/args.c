/*
 * Words of a command.
 */
#include "command.h"

#include <string.h>
#include "text.h"

static void take(struct call *call, uint32_t at, uint32_t count)
{
    for (uint32_t i = at; i + count <= call->word_count; i++) {
        call->words[i] = call->words[i + count];
    }
    call->word_count -= count;
}

bool args_flag(struct call *call, const char *name)
{
    for (uint32_t i = 0; i < call->word_count; i++) {
        if (strcmp(call->words[i], name) == 0) {
            take(call, i, 1);
            return true;
        }
    }
    return false;
}

const char *args_value(struct call *call, const char *name)
{
    size_t len = strlen(name);

    for (uint32_t i = 0; i < call->word_count; i++) {
        char *word = call->words[i];
        if (strncmp(word, name, len) == 0 && word[len] == '=') {
            take(call, i, 1);
            return word + len + 1;
        }
        if (strcmp(word, name) != 0) {
            continue;
        }
        if (i + 1 == call->word_count) {
            call->fault = fault_say(FAULT_USAGE, "%s: a value is missing", name);
            return NULL;
        }
        char *value = call->words[i + 1];
        take(call, i, 2);
        return value;
    }
    return NULL;
}

uint64_t args_number(struct call *call, const char *name, uint64_t max, uint64_t otherwise)
{
    const char *text = args_value(call, name);
    uint64_t value = otherwise;

    if (text != NULL && !text_number(text, max, &value)) {
        call->fault = fault_say(FAULT_USAGE, "%s %s: expected a number up to %llu", name, text,
                                (unsigned long long)max);
    }
    return value;
}

enum fault args_done(struct call *call, uint32_t min_words, uint32_t max_words)
{
    if (call->fault != FAULT_NONE) {
        return call->fault;
    }
    for (uint32_t i = 0; i < call->word_count; i++) {
        if (call->words[i][0] == '-' && call->words[i][1] != '\0') {
            return fault_say(FAULT_USAGE, "%s: %s has no such option; usage: snicctl %s%s%s",
                             call->words[i], call->command->name, call->command->name,
                             call->command->usage[0] != '\0' ? " " : "", call->command->usage);
        }
    }
    if (call->word_count < min_words || call->word_count > max_words) {
        return fault_say(FAULT_USAGE, "usage: snicctl %s%s%s", call->command->name,
                         call->command->usage[0] != '\0' ? " " : "", call->command->usage);
    }
    if (call->options->is_json && !call->command->has_json) {
        return fault_say(FAULT_USAGE, "%s has no --json", call->command->name);
    }
    return FAULT_NONE;
}

enum fault args_no_json(struct call *call, const char *what)
{
    return call->options->is_json ? fault_say(FAULT_USAGE, "%s prints no object: no --json", what)
                                  : FAULT_NONE;
}
