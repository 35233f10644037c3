/*
 * Console commands about volumes, remote subsystems and discovery.
 */
#include <string.h>
#include "app/config_priv.h"
#include "app/console_priv.h"
#include "hal/clock.h"

#define DISCOVERY_PORT 4420

/* --- volumes --------------------------------------------------------------------------------- */

static uint64_t ms_until(uint64_t time_ns)
{
    uint64_t now_ns = clock_now_ns();

    return time_ns <= now_ns || time_ns == UINT64_MAX ? 0 : (time_ns - now_ns) / NS_PER_MS;
}

static void say_path(const char *name, uint32_t index, const struct app_path *path,
                     const struct vol_info *info)
{
    enum vol_path_state state = info->paths[index].state;

    console_say("volume.%s.path%u %s %s, requests %llu%s%s\n", name, (unsigned)index,
                info->paths[index].name, vol_path_state_name(state),
                (unsigned long long)info->paths[index].requests,
                state == VOL_PATH_USABLE ? "" : ": ",
                state == VOL_PATH_USABLE ? "" : app_path_why(path, state));
}

static void say_volume(uint32_t index)
{
    const char *name = config_tree_volume_name(&app.tree, index);
    const struct app_volume *volume = &app.volumes[index];
    struct vol_info info;

    console_say("volume.%s.state %s\n", name, app_volume_state(volume));
    if (volume->vol == NULL) {
        return;
    }
    vol_info(volume->vol, &info);
    const struct blk_geometry *geometry = &vol_blk(volume->vol)->geometry;
    console_say("volume.%s.ready %s\n", name, info.is_ready ? "yes" : "no");
    if (geometry->known) {
        console_say("volume.%s.bytes %llu\nvolume.%s.block %u\n", name,
                    (unsigned long long)(geometry->lba_count << geometry->lba_shift), name,
                    1u << geometry->lba_shift);
    }
    console_say("volume.%s.waiting %u\n", name, (unsigned)info.waiting);
    if (info.quiet_ns != 0) {
        console_say("volume.%s.quiet_in_ms %llu\n", name,
                    (unsigned long long)ms_until(info.quiet_ns));
    }
    for (uint32_t i = 0; i < info.path_count; i++) {
        say_path(name, i, &volume->paths[i], &info);
    }
}

static void say_namespaces(void)
{
    for (uint32_t i = 0; i < app.function_count; i++) {
        struct config_tree_ns ns = {0};
        while (config_tree_next_ns(&app.tree, app.functions[i].pcie->fn, &ns)) {
            console_say("fn%u.namespace%u %s\n", (unsigned)i, (unsigned)ns.nsid,
                        config_tree_volume_name(&app.tree, ns.volume));
        }
    }
}

void console_volumes(void)
{
    if (app.volumes == NULL) {
        console_say("no volumes: this board was given no device tree with some\n");
        return;
    }
    say_namespaces();
    for (uint32_t i = 0; i < app.tree.volume_count; i++) {
        say_volume(i);
    }
}

static uint32_t volume_find(const char *name)
{
    uint32_t i = 0;

    while (app.volumes != NULL && i < app.tree.volume_count &&
           strcmp(config_tree_volume_name(&app.tree, i), name) != 0) {
        i++;
    }
    return app.volumes == NULL || i == app.tree.volume_count ? UINT32_MAX : i;
}

static void say_end(enum status status)
{
    static const char *const texts[] = {
        [STATUS_OK] = "done",
        [STATUS_AGAIN] = "error the command before is still at work",
        [STATUS_NOT_FOUND] = "error it is not attached, or no function has it",
        [STATUS_EXISTS] = "error it is attached",
    };
    bool is_named = status < ARRAY_SIZE(texts) && texts[status] != NULL;

    console_say("%s%s\n", is_named ? "" : "error ", is_named ? texts[status] : status_text(status));
}

static void volume_detached(void)
{
    say_end(STATUS_OK);
    console_answered();
}

void console_volume(char *arguments)
{
    const char *verb = console_take_word(&arguments);
    const char *name = console_take_word(&arguments);
    uint32_t index = volume_find(name);
    bool is_attach = strcmp(verb, "attach") == 0;

    if (console_is_pending()) {
        say_end(STATUS_AGAIN);
        return;
    }
    if (!is_attach && strcmp(verb, "detach") != 0) {
        console_say("volume attach NAME, volume detach NAME\n");
        return;
    }
    if (index == UINT32_MAX) {
        console_say("error no volume '%s'; try volumes\n", name);
        return;
    }
    if (is_attach) {
        say_end(app_tree_volume_attach(index));
        return;
    }
    enum status status = app_tree_volume_detach(index, volume_detached);
    if (status != STATUS_OK) {
        say_end(status);
        return;
    }
    console_later();
}

/* --- subsystems ------------------------------------------------------------------------------ */

static void say_fail(const char *group, unsigned index, enum nvmf_fail fail, uint32_t code)
{
    if (fail != NVMF_FAIL_NONE) {
        console_say("%s%u.fail %s\n%s%u.fail_code 0x%x\n", group, index, nvmf_fail_text(fail),
                    group, index, (unsigned)code);
    }
}

static void say_ctrl(unsigned i)
{
    struct config_subsystem words;
    struct nvmf_ctrl_info info;
    char addr[NET_ADDR_TEXT_BYTES];

    nvmf_ctrl_info(app.ctrls[i].ctrl, &info);
    console_say("subsystem%u.name %s\nsubsystem%u.fn %u\nsubsystem%u.nqn %s\n", i, info.name, i,
                (unsigned)info.fn, i, info.subnqn);
    if (config_tree_subsystem(&app.tree, app.ctrls[i].subsystem, &words) == STATUS_OK) {
        net_addr_text(&words.addr, addr);
        console_say("subsystem%u.address %s port %u\n", i, addr,
                    words.port == 0 ? DISCOVERY_PORT : words.port);
    }
    console_say("subsystem%u.state %s\n", i, nvmf_ctrl_state_name(info.state));
    say_fail("subsystem", i, info.fail, info.fail_code);
    if (info.state == NVMF_CTRL_BACKOFF) {
        console_say_number("subsystem", i, "next_in_ms", ms_until(info.next_ns));
    }
    if (info.state == NVMF_CTRL_LIVE) {
        console_say("subsystem%u.model %s\nsubsystem%u.serial %s\nsubsystem%u.firmware %s\n", i,
                    info.model, i, info.serial, i, info.firmware);
    }
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"cntlid", info.cntlid},
        {"queues", info.queue_count},
        {"host_queues", info.host_queue_count},
        {"queue_entries", info.queue_entries},
        {"in_flight", info.in_flight},
        {"namespaces", info.ns_count},
        {"connects", info.connect_count},
        {"attempts", info.attempt_count},
        {"timeouts", info.timeout_count},
        {"aborts", info.abort_count},
        {"events", info.event_count},
        {"memory_bytes", info.memory_bytes},
        {"in_capsule_bytes", info.in_capsule_bytes},
        {"max_transfer_bytes", info.max_transfer_bytes},
        {"keep_alive_ms", info.keep_alive_ms},
        {"quiesce_ms", info.quiesce_ms},
        {"sq_flow_control", info.sq_flow_control},
    };
    for (uint32_t row = 0; row < ARRAY_SIZE(rows); row++) {
        console_say_number("subsystem", i, rows[row].name, rows[row].value);
    }
}

void console_subsystems(void)
{
    if (app.ctrl_count == 0) {
        console_say("no subsystem is used\n");
    }
    for (uint32_t i = 0; i < app.ctrl_count; i++) {
        if (app.ctrls[i].ctrl != NULL) {
            say_ctrl(i);
        }
    }
}

/* --- discovery ------------------------------------------------------------------------------- */

static void *discovery_memory; /* taken once */

/* Text of somebody else on our console: only what can be printed. */
static const char *printable(char *text)
{
    for (char *c = text; *c != '\0'; c++) {
        if (*c < ' ' || *c > '~') {
            *c = '?';
        }
    }
    return text;
}

static void discovered(const struct nvmf_discovery_entry *entry, uint32_t depth, void *ctx)
{
    struct nvmf_discovery_entry copy = *entry;
    (void)ctx;

    console_say("entry.nqn %s\n", printable(copy.subnqn));
    console_say("entry.address %s ", printable(copy.traddr)); /* up to 256 characters: by itself */
    console_say("port %s type %u transport %u depth %u\n", printable(copy.trsvcid), copy.subtype,
                copy.trtype, (unsigned)depth);
}

static void discovery_done(enum nvmf_fail fail, uint32_t code, void *ctx)
{
    (void)ctx;
    if (fail != NVMF_FAIL_NONE) {
        console_say("error %s (code 0x%x)\n", nvmf_fail_text(fail), (unsigned)code);
    } else {
        console_say("discover.end done\n");
    }
    console_answered();
}

static enum status discover(const struct net_addr *addr, uint16_t port)
{
    const struct app_function *function = &app.functions[0];
    struct nvmf_discovery_config config = {.fn = function->pcie->fn,
                                           .addr = *addr,
                                           .port = port,
                                           .hostnqn = function->hostnqn,
                                           .found = discovered,
                                           .done = discovery_done};

    memcpy(config.hostid, function->hostid, sizeof(config.hostid));
    if (discovery_memory == NULL) {
        discovery_memory = app_pool_take(nvmf_discovery_memory_bytes(), 4096);
    } else {
        memset(discovery_memory, 0, nvmf_discovery_memory_bytes());
    }
    return discovery_memory == NULL ? STATUS_NO_SPACE : nvmf_discover(discovery_memory, &config);
}

void console_discover(char *arguments)
{
    struct net_addr addr;
    uint64_t port = DISCOVERY_PORT;
    bool is_good = net_addr_parse(console_take_word(&arguments), &addr);
    const char *word = console_take_word(&arguments);

    if (console_is_pending() || !is_good ||
        (word[0] != '\0' && !config_whole_number(word, 1, UINT16_MAX, &port))) {
        console_say("discover ADDRESS [PORT], one at a time\n");
        return;
    }
    if (!app_is_initiator() || app.function_count == 0) {
        console_say("error no function, or core 0 has no RDMA device\n");
        return;
    }
    console_later(); /* before: it may end at once */
    enum status status = discover(&addr, (uint16_t)port);
    if (status != STATUS_OK) {
        console_say("error %s\n", status_text(status));
        console_answered();
    }
}
