/*
 * Which board: the one that is named, or the rack that runs, or the NVMe device of this host that
 * says it is one.
 */
#include "command.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define MODEL         "snic SmartNIC drive"
#define RACK          "rack" /* boards/qemu-virt/rack/up.py calls it so */
#define DEVICES       "/dev"
#define DEVICE_MODELS "/sys/class/nvme"

/* --- racks ----------------------------------------------------------------------------------- */

/* A rack holds its lock while it runs; a file that a killed one left is not held. */
static bool is_running(const char *folder)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/lock", folder);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    bool is_held = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(fd);
    return is_held;
}

/* build/rack/NAME of the tree in which this program lies, or of the one around the current folder:
 * the n-th place to look; false: no more. */
static bool rack_folder(uint32_t n, const char *name, char *out, size_t room)
{
    char path[PATH_MAX - 64];

    if (strchr(name, '/') != NULL) { /* a folder */
        snprintf(out, room, "%s", name);
        return n == 0;
    }
    ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);
    char *slash = NULL;
    if (len > 0) {
        path[len] = '\0';
        slash = strrchr(path, '/'); /* .../build/host/snicctl */
        if (slash != NULL) {
            *slash = '\0';
            slash = strrchr(path, '/');
        }
    }
    if (n == 0 && slash != NULL) {
        *slash = '\0';
        snprintf(out, room, "%s/rack/%s", path, name);
        return true;
    }
    if (n <= 1 && getcwd(path, sizeof(path)) != NULL) {
        snprintf(out, room, "%s/build/rack/%s", path, name);
        return true;
    }
    return false;
}

static bool find_rack(const char *name, char *folder, size_t room)
{
    for (uint32_t n = 0; rack_folder(n, name, folder, room); n++) {
        if (is_running(folder)) {
            return true;
        }
    }
    rack_folder(0, name, folder, room);
    return false;
}

static enum fault open_rack(struct transport *transport, const char *folder)
{
    char path[PATH_MAX + 16];

    snprintf(path, sizeof(path), "%s/nic.console", folder);
    if (access(path, F_OK) != 0) {
        return fault_say(FAULT_NO_DEVICE,
                         "the rack in %s has no console: it runs the native board, or no NIC",
                         folder);
    }
    return transport_open_console(transport, path, 0);
}

/* --- devices --------------------------------------------------------------------------------- */

static bool is_ours(const char *name)
{
    char path[PATH_MAX];
    char model[64] = "";

    snprintf(path, sizeof(path), DEVICE_MODELS "/%s/model", name);
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        if (fgets(model, sizeof(model), file) == NULL) {
            model[0] = '\0';
        }
        fclose(file);
    }
    return strncmp(model, MODEL, sizeof(MODEL) - 1) == 0;
}

/* The first that is ours; *count: how many there are at all, *ours: of those, ours. */
static bool find_device(char *out, size_t room, uint32_t *count, uint32_t *ours)
{
    DIR *folder = opendir(DEVICE_MODELS);
    char best[64] = "";

    *count = *ours = 0;
    if (folder == NULL) {
        return false;
    }
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        if (entry->d_name[0] == '.' || strlen(entry->d_name) >= sizeof(best)) {
            continue;
        }
        (*count)++;
        if (is_ours(entry->d_name)) {
            (*ours)++;
            if (best[0] == '\0' || strcmp(entry->d_name, best) < 0) {
                snprintf(best, sizeof(best), "%.63s", entry->d_name);
            }
        }
    }
    closedir(folder);
    snprintf(out, room, DEVICES "/%s", best);
    return best[0] != '\0';
}

/* --- choice ---------------------------------------------------------------------------------- */

static enum fault open_default(struct transport *transport)
{
    char folder[PATH_MAX];
    char device[128];
    uint32_t count;
    uint32_t ours;

    if (find_rack(RACK, folder, sizeof(folder))) {
        return open_rack(transport, folder);
    }
    if (!find_device(device, sizeof(device), &count, &ours)) {
        return fault_say(FAULT_NO_DEVICE,
                         "no board found. Looked for: a running rack (%s; `make rack` starts one); "
                         "an NVMe device with the model \"" MODEL "\" (%u there, none of ours). "
                         "Name one by --device /dev/nvmeN, --console PATH or --rack",
                         folder, count);
    }
    if (ours > 1) {
        fault_note("%u devices are ours; this is %s. Others by --device", ours, device);
    }
    return transport_open_nvme(transport, device);
}

enum fault target_open(const struct options *options, struct transport *transport,
                       struct client *client)
{
    char folder[PATH_MAX];
    enum fault fault;

    if (options->device != NULL) {
        fault = transport_open_nvme(transport, options->device);
    } else if (options->console != NULL) {
        fault = transport_open_console(transport, options->console, options->baud);
    } else if (options->rack != NULL) {
        bool is_found =
            find_rack(options->rack[0] != '\0' ? options->rack : RACK, folder, sizeof(folder));
        fault = is_found ? open_rack(transport, folder)
                         : fault_say(FAULT_NO_DEVICE, "no rack runs in %s; `make rack` starts one",
                                     folder);
    } else {
        fault = open_default(transport);
    }
    if (fault != FAULT_NONE) {
        return fault;
    }
    fault = client_open(client, transport);
    if (fault != FAULT_NONE) {
        transport_close(transport);
        return fault;
    }
    record_set_cores(client->hello.core_count);
    return FAULT_NONE;
}
