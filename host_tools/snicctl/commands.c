/*
 * The list of commands.
 */
#include "command.h"

#include <string.h>

#define FILTER "[--where FIELD=VALUE] [--all]"
#define RECORDS(name, text)                                 \
    {                                                       \
        name, FILTER, text, NEEDS_CLIENT, true, cmd_records \
    }

const struct command commands[] = {
    {"status", "", "the board, its functions, what is wrong: at a glance", NEEDS_CLIENT, true,
     cmd_status},
    RECORDS("functions", "PCIe functions: what hosts see"),
    RECORDS("queues", "NVMe queues: base, depth, head, tail, doorbells, in flight, interrupts"),
    RECORDS("namespaces", "namespaces that hosts see"),
    RECORDS("volumes", "volumes of the configuration"),
    RECORDS("paths", "paths of the volumes, and why one is not used"),
    RECORDS("associations", "associations with remote subsystems"),
    RECORDS("connections", "connections of RDMA"),
    RECORDS("qps", "queue pairs of RDMA: state, PSNs, window, retries, credits"),
    RECORDS("ports", "Ethernet ports and what stands on them"),
    RECORDS("drives", "local drives behind the NIC"),
    {"reactors", FILTER, "cores and their pollers: turns, work, time", NEEDS_CLIENT, true,
     cmd_reactors},
    RECORDS("slots", "images in flash"),
    {"stats", "[--prometheus] [--where FIELD=VALUE]", "counters", NEEDS_CLIENT, true, cmd_stats},
    {"top", "[--view NAME] [--interval-ms N] [--count N] [--lines]",
     "live, the busiest first: queues, qps, pollers, volumes, paths, reactors, stats", NEEDS_CLIENT,
     false, cmd_top},
    {"log", "[-f] [--level error|warning|info|debug]", "the firmware's log; --level: what it keeps",
     NEEDS_CLIENT, true, cmd_log},
    {"crash", "[--elf FILE]", "the panic of the run before, with function names by the ELF",
     NEEDS_CLIENT, true, cmd_crash},
    {"trace",
     "[--enable CLASS,...] [--record SECONDS] [--ios] [--io SQID.CID] [--event NAME] "
     "[--perfetto FILE]",
     "records of events; --ios: I/Os with the times of their stages", NEEDS_CLIENT, true,
     cmd_trace},
    {"config", "get [-o FILE.dtb] | check FILE | set FILE | forget",
     "the device tree of the configuration", NEEDS_CLIENT, true, cmd_config},
    {"flash", "IMAGE [--slot N] [--no-activate] [--check] [--force] [--reset]",
     "sends an image, has it verified and written, starts it next on trial", NEEDS_CLIENT, false,
     cmd_flash},
    {"activate", "[--timeout SECONDS]",
     "starts the image that waits, which goes on serving the hosts", NEEDS_CLIENT, false,
     cmd_activate},
    {"confirm", "", "the running image works and stays", NEEDS_CLIENT, false, cmd_confirm},
    {"rollback", "[--reset]", "the other image starts next", NEEDS_CLIENT, false, cmd_rollback},
    {"image", "show FILE [--key KEY] | build SNIC.bin FILE [--key KEY] | sign FILE OUT --key KEY",
     "images on this machine: what is in one, who signed it", NEEDS_NOTHING, true, cmd_image},
    {"run", "[--timeout SECONDS] COMMAND ...", "a command of the board's console", NEEDS_CLIENT,
     true, cmd_run},
    {"discover", "[--timeout SECONDS] ADDRESS [PORT]", "what a discovery service tells the NIC",
     NEEDS_CLIENT, true, cmd_discover},
    {"ping", "[--timeout SECONDS] ADDRESS | --rdma ADDRESS [COUNT] [SIZE] [CONNECTIONS]",
     "an ICMP echo from the NIC, or RDMA echoes", NEEDS_CLIENT, true, cmd_ping},
    {"reset", "[--no-wait] [--timeout SECONDS]", "warm reset of the board; waits until it is back",
     NEEDS_CLIENT, false, cmd_reset},
    {"doctor", "", "looks at everything, says what is wrong and what to do", NEEDS_CLIENT, true,
     cmd_doctor},
    {"fabric", "[--tree CONFIG.dtb]",
     "RDMA ports of this machine, and whether a NIC with that configuration reaches them",
     NEEDS_NOTHING, true, cmd_fabric},
    {"schema", "", "the JSON schema of --json (docs/spec/snicctl.schema.json)", NEEDS_NOTHING,
     false, cmd_schema},
    {"version", "", "of this tool and, with --device, --console or --rack, of the firmware",
     NEEDS_NOTHING, true, cmd_version},
    {"help", "[COMMAND]", "this text", NEEDS_NOTHING, false, cmd_help},
    {NULL, NULL, NULL, NEEDS_NOTHING, false, NULL},
};

const struct command *command_find(const char *name)
{
    for (const struct command *c = commands; c->name != NULL; c++) {
        if (strcmp(c->name, name) == 0) {
            return c;
        }
    }
    return NULL;
}
