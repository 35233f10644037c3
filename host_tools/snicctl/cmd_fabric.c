/*
 * `fabric`: RDMA ports of this machine (a host or a target with an RNIC, or rxe) by libibverbs, and
 * whether a NIC's configuration can reach them. Needs no board.
 */
#include "command.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <infiniband/verbs.h>
#include <libfdt.h>
#include <net/if.h>
#include "fabric.h"
#include "text.h"

#define GIDS_MAX      512u
#define ADDRESSES_MAX 256u

struct local {
    struct fabric_gid gids[GIDS_MAX];
    uint32_t gid_count;
    uint32_t device_count;
};

static void add_gids(struct local *local, struct ibv_context *device, const char *name,
                     uint32_t port, const struct ibv_port_attr *attr)
{
    struct ibv_gid_entry entries[256];
    ssize_t count = ibv_query_gid_table(device, entries, ARRAY_SIZE(entries), 0);

    for (ssize_t i = 0; i < count && local->gid_count < GIDS_MAX; i++) {
        const struct ibv_gid_entry *entry = &entries[i];
        if (entry->port_num != port) {
            continue;
        }
        struct fabric_gid *gid = &local->gids[local->gid_count++];
        char netdev[IF_NAMESIZE] = "";
        snprintf(gid->device, sizeof(gid->device), "%s", name);
        if (entry->ndev_ifindex != 0 && if_indextoname(entry->ndev_ifindex, netdev) != NULL) {
            snprintf(gid->netdev, sizeof(gid->netdev), "%s", netdev);
        }
        gid->port = port;
        gid->index = entry->gid_index;
        gid->is_up = attr->state == IBV_PORT_ACTIVE;
        gid->is_ethernet = attr->link_layer == IBV_LINK_LAYER_ETHERNET;
        gid->is_roce_v2 = entry->gid_type == IBV_GID_TYPE_ROCE_V2;
        gid->mtu = 128u << attr->active_mtu;
        memcpy(gid->gid, entry->gid.raw, sizeof(gid->gid));
    }
}

static enum fault read_local(struct local *local)
{
    int count = 0;
    struct ibv_device **devices = ibv_get_device_list(&count);

    for (int i = 0; devices != NULL && i < count; i++) {
        const char *name = ibv_get_device_name(devices[i]);
        struct ibv_context *device = ibv_open_device(devices[i]);
        struct ibv_device_attr attr;
        if (device == NULL || ibv_query_device(device, &attr) != 0) {
            fault_note("%s: cannot be opened: %s", name, strerror(errno));
        } else {
            local->device_count++;
            for (uint32_t port = 1; port <= attr.phys_port_cnt; port++) {
                struct ibv_port_attr port_attr;
                if (ibv_query_port(device, (uint8_t)port, &port_attr) == 0) {
                    add_gids(local, device, name, port, &port_attr);
                }
            }
        }
        if (device != NULL) {
            ibv_close_device(device);
        }
    }
    if (devices != NULL) {
        ibv_free_device_list(devices);
    }
    return FAULT_NONE;
}

/* --- shown ----------------------------------------------------------------------------------- */

static const char *type_of(const struct fabric_gid *gid)
{
    return !gid->is_ethernet ? "InfiniBand" : gid->is_roce_v2 ? "RoCEv2" : "RoCEv1";
}

static void show_gids(struct call *call, const struct local *local)
{
    static const char *const titles[] = {"device", "port", "netdev", "state",
                                         "mtu",    "gid",  "type",   "address"};
    struct table table;
    char text[64];

    table_start(&table, ARRAY_SIZE(titles));
    for (uint32_t i = 0; i < ARRAY_SIZE(titles); i++) {
        table_add(&table, titles[i], false);
    }
    for (uint32_t i = 0; i < local->gid_count; i++) {
        const struct fabric_gid *gid = &local->gids[i];
        table_add(&table, gid->device, false);
        snprintf(text, sizeof(text), "%u", gid->port);
        table_add(&table, text, false);
        table_add(&table, gid->netdev, false);
        table_add(&table, gid->is_up ? "up" : "down", false);
        snprintf(text, sizeof(text), "%u", gid->mtu);
        table_add(&table, text, false);
        snprintf(text, sizeof(text), "%u", gid->index);
        table_add(&table, text, false);
        table_add(&table, type_of(gid), false);
        fabric_text(gid->gid, text, sizeof(text));
        table_add(&table, text, false);
    }
    table_print(&table, call->out);
}

/* An address with a network is a port of the NIC; one without is a target's, perhaps ours. */
static bool show_address(struct call *call, const struct local *local,
                         const struct fabric_address *address, struct json *json)
{
    char text[64];
    char why[160];
    uint32_t best = 0;

    enum fabric_verdict verdict =
        fabric_judge(address, local->gids, local->gid_count, &best, why, sizeof(why));
    bool is_target = address->prefix == 128;
    bool is_reached = verdict <= FABRIC_SMALL_MTU;
    fabric_text(address->addr, text, sizeof(text));
    if (is_target && !is_reached && verdict == FABRIC_OTHER_NETWORK) {
        snprintf(why, sizeof(why), "no address of this machine");
    }
    if (json != NULL) {
        json_open_flat(json, NULL, '{');
        json_text(json, "node", address->name);
        json_text(json, "address", text);
        json_text(json, "kind", is_target ? "target" : "port");
        json_bool(json, "reached", is_reached);
        json_text(json, "why", why);
        json_close(json, '}');
    } else {
        fprintf(call->out, "%-14s %-8s ", is_target ? "target" : "NIC port",
                is_reached  ? "ok"
                : is_target ? "-"
                            : "NO");
        text_put(call->out, address->name, strlen(address->name), false);
        fprintf(call->out, " %s: %s\n", text, why);
    }
    return is_reached || is_target;
}

static enum fault show_tree(struct call *call, const struct local *local, const char *path,
                            struct json *json)
{
    struct fabric_address *addresses = calloc(ADDRESSES_MAX, sizeof(*addresses));
    uint8_t *tree = NULL;
    size_t len = 0;
    bool is_good = true;

    enum fault fault = file_read(path, 1u << 20, &tree, &len);
    if (fault == FAULT_NONE && (len < 40 || fdt_check_full(tree, len) != 0)) {
        fault = fault_say(FAULT_FAILED, "%s: no device tree; `dtc -O dtb` makes one", path);
    }
    if (fault == FAULT_NONE && addresses != NULL) {
        uint32_t count = fabric_read_tree(tree, addresses, ADDRESSES_MAX);
        if (count == 0) {
            fault_note("%s: no addresses in it", path);
        }
        for (uint32_t i = 0; i < count; i++) {
            is_good = show_address(call, local, &addresses[i], json) && is_good;
        }
    }
    free(tree);
    free(addresses);
    return fault != FAULT_NONE ? fault : is_good ? FAULT_NONE : FAULT_FAILED;
}

static void json_gids(struct json *json, const struct local *local)
{
    char text[64];

    json_open(json, "gids", '[');
    for (uint32_t i = 0; i < local->gid_count; i++) {
        const struct fabric_gid *gid = &local->gids[i];
        fabric_text(gid->gid, text, sizeof(text));
        json_open_flat(json, NULL, '{');
        json_text(json, "device", gid->device);
        json_uint(json, "port", gid->port);
        json_text(json, "netdev", gid->netdev);
        json_bool(json, "up", gid->is_up);
        json_uint(json, "mtu", gid->mtu);
        json_uint(json, "index", gid->index);
        json_text(json, "type", type_of(gid));
        json_text(json, "address", text);
        json_close(json, '}');
    }
    json_close(json, ']');
}

enum fault cmd_fabric(struct call *call)
{
    static struct local local;
    const char *tree = args_value(call, "--tree");
    struct json json;

    enum fault fault = args_done(call, 0, 0);
    if (fault == FAULT_NONE) {
        fault = read_local(&local);
    }
    if (fault != FAULT_NONE) {
        return fault;
    }
    if (call->options->is_json) {
        reply_start(call, &json);
        json_gids(&json, &local);
        json_open(&json, "addresses", '[');
        fault = tree == NULL ? FAULT_NONE : show_tree(call, &local, tree, &json);
        json_close(&json, ']');
        reply_end(&json);
    } else if (local.device_count > 0) {
        show_gids(call, &local);
        if (tree != NULL) {
            fputc('\n', call->out);
            fault = show_tree(call, &local, tree, NULL);
        }
    }
    if (local.device_count == 0) {
        return fault_say(FAULT_NO_DEVICE,
                         "this machine has no RDMA device. Software RDMA over an Ethernet port: "
                         "modprobe rdma_rxe; rdma link add rxe0 type rxe netdev NETDEV");
    }
    return fault;
}
