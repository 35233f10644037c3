/*
 * `config`: the device tree of the board's configuration (docs/spec/config.md).
 */
#include "command.h"

#include <stdlib.h>
#include <string.h>
#include <libfdt.h>
#include "text.h"

#define TREE_MAX_BYTES (1u << 20)
/* The erase of a block of NOR flash may take 4 s, and an image may be on its way before. */
#define COMMIT_MAX_MS 30000u

static enum fault no_dtc(void)
{
    return fault_say(FAULT_FAILED, "dtc is not installed (Debian: device-tree-compiler)");
}

/* A tree out of source or as it is. The caller frees. */
static enum fault read_tree(const char *path, uint8_t **tree, size_t *len)
{
    /* A path that looks like an option is none. */
    const char *const words[] = {"dtc", "-q", "-I", "dts", "-O", "dtb", "--", path, NULL};
    char *compiled = NULL;

    enum fault fault = file_read(path, TREE_MAX_BYTES, tree, len);
    if (fault != FAULT_NONE) {
        return fault;
    }
    if (*len < sizeof(struct fdt_header) || fdt_magic(*tree) != FDT_MAGIC) {
        free(*tree);
        *tree = NULL;
        int code = program_run(words, NULL, 0, &compiled, len);
        if (code != 0) {
            free(compiled);
            return code == 127 ? no_dtc() : fault_say(FAULT_FAILED, "%s: dtc refuses it", path);
        }
        *tree = (uint8_t *)compiled;
    }
    if (*len < sizeof(struct fdt_header) || fdt_check_full(*tree, *len) != 0) {
        return fault_say(FAULT_FAILED, "%s: no device tree, or a damaged one", path);
    }
    *len = fdt_totalsize(*tree);
    return FAULT_NONE;
}

static enum fault show_source(struct call *call, const uint8_t *tree, size_t len)
{
    /* By force: the board uses it, whatever dtc has against it. */
    const char *const words[] = {"dtc", "-qq", "-f", "-I", "dtb", "-O", "dts", NULL};
    char *source = NULL;
    size_t source_len = 0;
    struct json json;

    int code = program_run(words, tree, len, &source, &source_len);
    enum fault fault = code == 0     ? FAULT_NONE
                       : code == 127 ? no_dtc()
                                     : fault_say(FAULT_FAILED, "dtc cannot read the board's tree; "
                                                               "-o FILE keeps it as it is");
    if (fault == FAULT_NONE && call->options->is_json) {
        reply_start(call, &json);
        json_open(&json, "config", '{');
        json_uint(&json, "bytes", len);
        json_hex(&json, "crc32", message_crc(0, tree, len), 8);
        json_text_len(&json, "source", source, source_len);
        json_close(&json, '}');
        reply_end(&json);
    } else if (fault == FAULT_NONE) {
        text_put(call->out, source, source_len, true);
    }
    free(source);
    return fault;
}

static enum fault get(struct call *call, const char *out)
{
    uint8_t *tree = NULL;
    size_t len = 0;
    struct json json;

    if (!client_has_object(call->client, MGMT_OBJECT_CONFIG)) {
        return not_from_here(call, "configuration");
    }
    enum fault fault =
        client_read_all(call->client, MGMT_OBJECT_CONFIG, 0, TREE_MAX_BYTES, &tree, &len, NULL);
    if (fault == FAULT_NONE && len == 0 && call->options->is_json) {
        reply_start(call, &json);
        json_null(&json, "config");
        reply_end(&json);
    } else if (fault == FAULT_NONE && len == 0 && out != NULL) {
        fault = fault_say(FAULT_FAILED,
                          "%s: not written: the board has no device tree, it was "
                          "started with words alone",
                          out);
    } else if (fault == FAULT_NONE && len == 0) {
        fprintf(call->out, "no device tree: the board was started with words alone\n");
    } else if (fault == FAULT_NONE && out != NULL) {
        fault = file_write(out, tree, len);
        if (fault == FAULT_NONE && strcmp(out, "-") != 0) {
            text_put(call->out, out, strlen(out), false);
            fprintf(call->out, ": %zu bytes\n", len);
        }
    } else if (fault == FAULT_NONE) {
        fault = show_source(call, tree, len);
    }
    free(tree);
    return fault;
}

static enum fault commit(struct call *call, const uint8_t *tree, size_t len, bool is_check)
{
    struct mgmt_commit_config arguments = {
        .tree_bytes = (uint32_t)len,
        .crc = message_crc(0, tree, len),
        .is_check = is_check,
    };

    enum fault fault =
        client_act(call->client, MGMT_ACTION_COMMIT_CONFIG, &arguments, sizeof(arguments));
    return fault;
}

static enum fault set(struct call *call, const char *path, bool is_check)
{
    uint8_t *tree = NULL;
    size_t len = 0;

    if (!client_has_action(call->client, MGMT_ACTION_COMMIT_CONFIG)) {
        return not_from_here(call, "changes of its configuration");
    }
    enum fault fault = read_tree(path, &tree, &len);
    if (fault == FAULT_NONE) {
        call->client->busy_ms = COMMIT_MAX_MS; /* of pieces, too: another tree may be on its way */
        progress_start("sending");
        fault = client_write(call->client, MGMT_OBJECT_CONFIG, tree, len, progress);
    }
    if (fault == FAULT_NONE) {
        fault = commit(call, tree, len, is_check);
    }
    free(tree);
    if (fault == FAULT_NONE) {
        text_put(call->out, path, strlen(path), false);
        if (is_check) {
            fprintf(call->out, ": the board would take it\n");
        } else {
            fprintf(call->out,
                    ": in flash, %zu bytes; used from the next start on (`snicctl reset`)\n", len);
        }
    }
    return fault;
}

static enum fault forget(struct call *call)
{
    if (!client_has_action(call->client, MGMT_ACTION_COMMIT_CONFIG)) {
        return not_from_here(call, "changes of its configuration");
    }
    call->client->busy_ms = COMMIT_MAX_MS;
    enum fault fault = commit(call, NULL, 0, false);
    if (fault == FAULT_NONE) {
        fprintf(call->out, "the configuration in flash is forgotten, from the next start on "
                           "(`snicctl reset`)\n");
    }
    return fault;
}

enum fault cmd_config(struct call *call)
{
    const char *out = args_value(call, "-o");

    enum fault fault = args_done(call, 1, 2);
    if (fault != FAULT_NONE) {
        return fault;
    }
    const char *what = call->words[0];
    bool is_get = strcmp(what, "get") == 0 && call->word_count == 1;
    if (!is_get || out != NULL) {
        fault = args_no_json(call, is_get ? "config get -o" : "config check, set and forget");
    }
    if (fault != FAULT_NONE) {
        return fault;
    }
    if (is_get) {
        return get(call, out);
    }
    if (strcmp(what, "forget") == 0 && call->word_count == 1 && out == NULL) {
        return forget(call);
    }
    bool is_check = strcmp(what, "check") == 0;
    if ((is_check || strcmp(what, "set") == 0) && call->word_count == 2 && out == NULL) {
        return set(call, call->words[1], is_check);
    }
    return fault_say(FAULT_USAGE, "usage: snicctl config %s", call->command->usage);
}
