/*
 * `image`: show, build and sign images. Needs no board.
 */
#include "command.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "image.h"
#include "text.h"

static void put(FILE *out, const char *name, const char *text)
{
    fprintf(out, "%-12s", name);
    text_put(out, text, strlen(text), false);
    fputc('\n', out);
}

static void hex(const uint8_t *bytes, size_t len, char *out)
{
    for (size_t i = 0; i < len; i++) {
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    }
}

static void show_text(FILE *out, const struct image *image, const char *key, bool is_by_key)
{
    char text[256];
    char sum[65];

    if (image->description != NULL) {
        put(out, "description", image->description);
    }
    if (image->has_head) {
        put(out, "board", image->head.board);
        put(out, "version", image->head.version);
        snprintf(text, sizeof(text), "%u", image->head.security_version);
        put(out, "security", text);
        snprintf(text, sizeof(text), "0x%" PRIx64 ", %" PRIu64 " bytes (%" PRIu64 " with memory)",
                 image->head.load_addr, image->head.load_bytes, image->head.run_bytes);
        put(out, "load", text);
    } else {
        put(out, "board", "NO IMAGE HEAD: no firmware of ours");
    }
    snprintf(text, sizeof(text), "%zu bytes, data %zu bytes", image->fit_bytes, image->data_bytes);
    put(out, "size", text);
    hex(image->sha256, sizeof(image->sha256), sum);
    snprintf(text, sizeof(text), "sha256 %s: %s", sum,
             !image->has_hash      ? "NO HASH in the image"
             : image->is_hash_good ? "as the image says"
                                   : "NOT as the image says: it is damaged");
    put(out, "hash", text);
    if (image->algorithm == NULL) {
        put(out, "signature", "NOT SIGNED");
        return;
    }
    snprintf(text, sizeof(text), "%.40s, key \"%.60s\"%s%.80s", image->algorithm,
             image->key_name == NULL ? "" : image->key_name,
             key == NULL ? "; --key FILE checks it"
             : is_by_key ? ": good, by "
                         : ": NOT by ",
             key == NULL ? "" : key);
    put(out, "signature", text);
}

static void show_json(struct call *call, const struct image *image, const char *key, bool is_by_key)
{
    struct json json;
    char sum[65];

    hex(image->sha256, sizeof(image->sha256), sum);
    reply_start(call, &json);
    json_open(&json, "image", '{');
    json_uint(&json, "bytes", image->fit_bytes);
    json_uint(&json, "data_bytes", image->data_bytes);
    json_text(&json, "sha256", sum);
    json_bool(&json, "hash_good", image->is_hash_good);
    json_bool(&json, "signed", image->algorithm != NULL);
    json_text(&json, "algorithm", image->algorithm == NULL ? "" : image->algorithm);
    json_text(&json, "key_name", image->key_name == NULL ? "" : image->key_name);
    if (key == NULL) {
        json_null(&json, "signature_good");
    } else {
        json_bool(&json, "signature_good", is_by_key);
    }
    if (image->has_head) {
        json_open(&json, "head", '{');
        json_text(&json, "board", image->head.board);
        json_text(&json, "version", image->head.version);
        json_uint(&json, "security_version", image->head.security_version);
        json_hex(&json, "load_addr", image->head.load_addr, 1);
        json_uint(&json, "load_bytes", image->head.load_bytes);
        json_uint(&json, "run_bytes", image->head.run_bytes);
        json_close(&json, '}');
    } else {
        json_null(&json, "head");
    }
    json_close(&json, '}');
    reply_end(&json);
}

static enum fault show(struct call *call, const char *path, const char *key_path)
{
    struct image image;
    struct image_key key;
    uint8_t *bytes = NULL;
    size_t len = 0;
    bool is_by_key = false;
    const char *why = "";

    enum fault fault = file_read(path, 4 * IMAGE_MAX_BYTES, &bytes, &len);
    if (fault == FAULT_NONE && !image_parse(bytes, len, &image, &why)) {
        fault = fault_say(FAULT_FAILED, "%s: %s", path, why);
    }
    if (fault == FAULT_NONE && key_path != NULL) {
        fault = image_key_read(key_path, &key);
        is_by_key = fault == FAULT_NONE && image_is_signed_by(&image, &key);
    }
    if (fault == FAULT_NONE && call->options->is_json) {
        show_json(call, &image, key_path, is_by_key);
    } else if (fault == FAULT_NONE) {
        show_text(call->out, &image, key_path, is_by_key);
    }
    if (fault == FAULT_NONE && (!image.is_hash_good || (key_path != NULL && !is_by_key))) {
        fault = FAULT_FAILED;
    }
    free(bytes);
    return fault;
}

/* A flat image, or the data of a FIT, becomes a FIT. */
static enum fault build(struct call *call, const char *from, const char *to, const char *key)
{
    struct image image;
    uint8_t *bytes = NULL;
    size_t len = 0;
    const char *why = "";

    enum fault fault = file_read(from, 4 * IMAGE_MAX_BYTES, &bytes, &len);
    if (fault == FAULT_NONE) {
        bool is_fit = image_parse(bytes, len, &image, &why);
        fault = image_make(is_fit ? image.data : bytes, is_fit ? image.data_bytes : len, key, to);
    }
    free(bytes);
    if (fault == FAULT_NONE) {
        fault = show(call, to, key);
    }
    return fault;
}

enum fault cmd_image(struct call *call)
{
    const char *key = args_value(call, "--key");

    enum fault fault = args_done(call, 2, 3);
    if (fault != FAULT_NONE) {
        return fault;
    }
    const char *what = call->words[0];
    bool is_show = strcmp(what, "show") == 0;
    bool is_build = strcmp(what, "build") == 0 || strcmp(what, "sign") == 0;
    if (is_show && call->word_count == 2) {
        return show(call, call->words[1], key);
    }
    if (!is_build || call->word_count != 3) {
        return fault_say(FAULT_USAGE, "usage: snicctl image %s", call->command->usage);
    }
    if (strcmp(what, "sign") == 0 && key == NULL) {
        return fault_say(FAULT_USAGE, "image sign: --key FILE, the private key, is missing");
    }
    return build(call, call->words[1], call->words[2], key);
}
