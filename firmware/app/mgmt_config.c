/*
 * The configuration in flash by management messages: WRITE of CONFIG collects a tree in memory of
 * its own; COMMIT_CONFIG checks it as a start does and puts it into the flash.
 *
 * A commit says what it means by length and CRC, so it can be asked again: BUSY while that tree is
 * on its way, OK when it is there. Leaves out: using it before the next start.
 */
#include "app/mgmt_priv.h"

#include <stdio.h>
#include <string.h>
#include "app/update.h"
#include "base/crc.h"
#include "base/log.h"

static struct {
    struct store *store; /* NULL: no flash, or no memory */
    uint8_t *tree;       /* what was written; the flash's while one is on its way */
    uint32_t max_bytes;
    enum {
        NONE,
        WAITING, /* for the flash, which writes something else */
        WRITING,
        DONE,
        FAILED, /* until somebody has asked */
    } state;
    /* Which tree that is. */
    uint32_t tree_bytes;
    uint32_t crc;
} kept;

void app_mgmt_config_open(struct store *store)
{
    uint32_t block_bytes = store->flash->block_bytes;

    memset(&kept, 0, sizeof(kept));
    kept.tree = app_pool_take(block_bytes, 8);
    kept.max_bytes = block_bytes - (uint32_t)sizeof(struct boot_config_head);
    kept.store = kept.tree != NULL ? store : NULL;
}

bool app_mgmt_config_is_busy(void)
{
    return kept.state == WAITING || kept.state == WRITING;
}

uint32_t app_mgmt_config_poll(void)
{
    enum status status = STATUS_OK;

    if (!app_mgmt_config_is_busy()) {
        return 0;
    }
    if (kept.state == WAITING) {
        if (store_write_config(kept.store, kept.tree, kept.tree_bytes) == STATUS_OK) {
            kept.state = WRITING;
        }
        return 1;
    }
    status = store_poll(kept.store);
    if (status == STATUS_OK) {
        kept.state = DONE;
        LOG_INFO("app: a configuration of %u bytes is in flash, for the next start",
                 (unsigned)kept.tree_bytes);
    } else if (status != STATUS_AGAIN) {
        kept.state = FAILED;
        LOG_ERROR("app: the flash does not take the configuration: %s", status_text(status));
    }
    return 1;
}

enum mgmt_status app_mgmt_write_config(const struct mgmt_from *from, uint64_t offset,
                                       const uint8_t *data, uint32_t len_bytes)
{
    (void)from;
    if (kept.store == NULL) {
        return MGMT_UNSUPPORTED;
    }
    if (app_mgmt_config_is_busy()) {
        return MGMT_BUSY;
    }
    if (!range_fits(offset, len_bytes, kept.max_bytes)) {
        return MGMT_OUT_OF_RANGE;
    }
    memcpy(kept.tree + offset, data, len_bytes);
    return MGMT_OK;
}

/* As a start would read it, into structs that nobody uses. False: `text` says why not. */
static bool would_start(uint32_t tree_bytes, char *text, uint32_t room)
{
    static struct config config;
    static struct config_tree tree;
    uint32_t ignored;

    return config_parse(app.board->config, &config, &ignored, text, room) == STATUS_OK &&
           config_tree_open(&tree, kept.tree, tree_bytes, &config, text, room) == STATUS_OK;
}

/* Its bytes are what was meant, and the firmware takes them; or a text. */
static bool is_good(const struct mgmt_commit_config *commit, char *text, uint32_t room)
{
    if (crc32_update(0, kept.tree, commit->tree_bytes) != commit->crc) {
        snprintf(text, room, "the tree is damaged: its CRC is another one");
        return false;
    }
    return would_start(commit->tree_bytes, text, room);
}

/* What became of the one that went into flash; OK: it is there. */
static enum mgmt_status outcome(char *text, uint32_t room)
{
    if (kept.state == FAILED) {
        kept.state = NONE;
        snprintf(text, room, "the flash does not take it; what it had still counts");
        return MGMT_FAILED;
    }
    return kept.state == DONE ? MGMT_OK : MGMT_BUSY;
}

static enum mgmt_status commit(const struct mgmt_commit_config *asked, char *text, uint32_t room)
{
    struct mgmt_commit_config commit = *asked;

    if (commit.tree_bytes > kept.max_bytes) {
        return MGMT_OUT_OF_RANGE;
    }
    if (commit.tree_bytes == 0) {
        commit.crc = 0;
    }
    bool is_the_same = kept.tree_bytes == commit.tree_bytes && kept.crc == commit.crc;
    if (kept.state != NONE && is_the_same && commit.is_check == 0) {
        return outcome(text, room);
    }
    if (app_mgmt_config_is_busy() || !app_update_may_begin()) {
        return MGMT_BUSY;
    }
    if (commit.tree_bytes > 0 && !is_good(&commit, text, room)) {
        return MGMT_REFUSED;
    }
    if (commit.is_check != 0) {
        return MGMT_OK;
    }
    kept.state = WAITING;
    kept.tree_bytes = commit.tree_bytes;
    kept.crc = commit.crc;
    return MGMT_BUSY;
}

enum mgmt_status app_mgmt_commit_config(const struct mgmt_from *from, const uint8_t *arguments,
                                        uint32_t len_bytes, uint8_t *answer, uint32_t *answer_bytes)
{
    struct mgmt_commit_config asked;
    uint32_t room = *answer_bytes;

    (void)from;
    *answer_bytes = 0;
    if (kept.store == NULL) {
        return MGMT_UNSUPPORTED;
    }
    if (len_bytes < sizeof(asked)) {
        return MGMT_OUT_OF_RANGE;
    }
    memcpy(&asked, arguments, sizeof(asked));
    answer[0] = '\0';
    enum mgmt_status status = commit(&asked, (char *)answer, room);
    *answer_bytes = status == MGMT_OK ? 0 : (uint32_t)strlen((char *)answer);
    return status;
}
