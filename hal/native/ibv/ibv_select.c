/*
 * Finds the device and the GID that is used: of type RoCEv2, an IPv4 address before an IPv6 one
 * before a link-local one.
 */
#include "hal/native/ibv/ibv_select.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/log.h"

static bool read_gid(struct ibv_context *context, uint8_t port, uint32_t index,
                     struct net_addr *addr)
{
    struct ibv_gid_entry entry;

    if (ibv_query_gid_ex(context, port, index, &entry, 0) != 0 ||
        entry.gid_type != IBV_GID_TYPE_ROCE_V2) {
        return false;
    }
    memcpy(addr->bytes, entry.gid.raw, sizeof(addr->bytes));
    return !net_addr_is_zero(addr);
}

bool rdma_ibv_gid(const struct rdma_device *device, uint8_t index, struct net_addr *addr)
{
    const struct rdma_ibv_device *d = rdma_ibv_device_of((struct rdma_device *)(uintptr_t)device);
    return read_gid(d->context, d->port, index, addr);
}

/* The better address has the larger rank; 0: not wanted. */
static int rank(const struct net_addr *addr, const struct net_addr *wanted)
{
    if (!net_addr_is_zero(wanted)) {
        return net_addr_equal(addr, wanted) ? 3 : 0;
    }
    if (net_addr_is_ipv4(addr)) {
        return 3;
    }
    return net_addr_is_link_local6(addr) ? 1 : 2;
}

static bool pick_gid(struct rdma_ibv_device *d, const struct net_addr *wanted, int table_length)
{
    int best = 0;

    /* rdma_av.sgid_index has 8 bits. */
    for (int i = 0; i < table_length && i < 256; i++) {
        struct net_addr addr;
        if (!read_gid(d->context, d->port, (uint32_t)i, &addr) || rank(&addr, wanted) <= best) {
            continue;
        }
        best = rank(&addr, wanted);
        d->addr = addr;
        d->gid_index = (uint8_t)i;
    }
    return best > 0;
}

/* Whether the open device will do. `why` is for the log. */
static enum status examine(struct rdma_ibv_device *d, const struct rdma_ibv_config *config,
                           const char **why)
{
    struct ibv_port_attr port;

    if (ibv_query_port(d->context, d->port, &port) != 0) {
        *why = "no such port";
        return STATUS_NOT_FOUND;
    }
    if (port.link_layer != IBV_LINK_LAYER_ETHERNET ||
        d->context->device->transport_type != IBV_TRANSPORT_IB) {
        *why = "not RoCE";
        return STATUS_UNSUPPORTED;
    }
    if (config->name == NULL && port.state != IBV_PORT_ACTIVE) {
        *why = "no link";
        return STATUS_NOT_FOUND;
    }
    if (!pick_gid(d, &config->addr, port.gid_tbl_len)) {
        *why = net_addr_is_zero(&config->addr) ? "no RoCEv2 address: has its network interface one?"
                                               : "not its address";
        return STATUS_NOT_FOUND;
    }
    return STATUS_OK;
}

static enum status try_device(struct rdma_ibv_device *d, struct ibv_device *device,
                              const struct rdma_ibv_config *config)
{
    const char *why = "";

    d->context = ibv_open_device(device);
    if (d->context == NULL) {
        LOG_WARN("ibv: %s: %s", ibv_get_device_name(device), strerror(errno));
        return STATUS_IO;
    }
    enum status status = examine(d, config, &why);
    if (status != STATUS_OK) {
        LOG_WARN("ibv: %s port %u: %s", ibv_get_device_name(device), (unsigned)d->port, why);
        ibv_close_device(d->context);
        d->context = NULL;
        return status;
    }
    snprintf(d->name, sizeof(d->name), "%s", ibv_get_device_name(device));
    return STATUS_OK;
}

enum status rdma_ibv_select(struct rdma_ibv_device *d, const struct rdma_ibv_config *config)
{
    int count = 0;
    struct ibv_device **list = ibv_get_device_list(&count);
    enum status status = STATUS_NOT_FOUND;

    for (int i = 0; list != NULL && i < count; i++) {
        const char *name = ibv_get_device_name(list[i]);
        if (config->name != NULL && strcmp(config->name, name) != 0) {
            continue;
        }
        status = try_device(d, list[i], config);
        if (status == STATUS_OK) {
            break;
        }
    }
    if (list != NULL) {
        ibv_free_device_list(list);
    }
    if (status != STATUS_OK) {
        LOG_ERROR("ibv: %s: no such device, or none that serves (%d there)",
                  config->name != NULL ? config->name : "any", count);
    }
    return status;
}
