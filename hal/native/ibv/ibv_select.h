/*
 * Which device, and which of its addresses.
 */
#ifndef NATIVE_IBV_IBV_SELECT_H
#define NATIVE_IBV_IBV_SELECT_H

#include "hal/native/ibv/ibv_priv.h"

/* Opens the device that the configuration names and picks its GID: fills in context, name, addr and
 * gid_index. As rdma_ibv_open(). */
enum status rdma_ibv_select(struct rdma_ibv_device *d, const struct rdma_ibv_config *config);

#endif
