/*
 * Fuzzes the reader of the configuration: the bytes are words up to a zero byte, then a device tree
 * as it lies in memory, in a buffer of just its length.
 *
 * What must hold: no stray access, no failed assertion; an error says something; what was accepted
 * can be read out.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "app/config_tree.h"
#include "base/assert.h"

static struct config config;
static struct config_tree tree;
static char error[160];

static void read_out(void)
{
    struct config_subsystem subsystem;
    struct config_volume volume;

    for (uint32_t i = 0; i < tree.subsystem_count; i++) {
        ASSERT(config_tree_subsystem(&tree, i, &subsystem) == STATUS_OK);
    }
    for (uint32_t i = 0; i < tree.volume_count; i++) {
        ASSERT(config_tree_volume(&tree, i, &volume) == STATUS_OK);
        ASSERT(volume.path_count > 0 && strlen(volume.name) < CONFIG_NAME_BYTES);
        for (uint32_t p = 0; p < volume.path_count; p++) {
            ASSERT(volume.paths[p].kind != CONFIG_PATH_REMOTE ||
                   volume.paths[p].subsystem < tree.subsystem_count);
        }
    }
    for (uint32_t fn = 0; fn < LIMIT_FUNCTIONS; fn++) {
        struct config_tree_ns ns = {0};
        uint32_t before = 0;
        while (config_tree_next_ns(&tree, fn, &ns)) {
            ASSERT(ns.nsid > before && ns.volume < tree.volume_count);
            before = ns.nsid;
        }
        ASSERT(before == config.functions[fn].ns_high);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    char words[1024] = "";
    const uint8_t *end = memchr(bytes, 0, len);
    size_t words_len = end == NULL ? len : (size_t)(end - bytes);
    uint32_t ignored;

    if (len == 0 || words_len >= sizeof(words)) {
        return 0;
    }
    memcpy(words, bytes, words_len);
    error[0] = '\0';
    if (config_parse(words, &config, &ignored, error, sizeof(error)) != STATUS_OK) {
        ASSERT(error[0] != '\0');
        return 0;
    }
    if (end == NULL) {
        return 0;
    }
    size_t left = len - words_len - 1;
    uint8_t *blob = aligned_alloc(8, left / 8 * 8 + 8);
    ASSERT(blob != NULL);
    memset(blob, 0, left / 8 * 8 + 8);
    memcpy(blob, end + 1, left);
    error[0] = '\0';
    if (config_tree_open(&tree, blob, (uint32_t)left, &config, error, sizeof(error)) == STATUS_OK) {
        ASSERT(error[0] == '\0');
        read_out();
    } else {
        ASSERT(error[0] != '\0');
    }
    free(blob);
    return 0;
}
