/*
 * The vfio-user server with a link but no NIC, and a scripted client, all in one thread.
 */
#ifndef TESTS_VFU_RIG_H
#define TESTS_VFU_RIG_H

#include <stdint.h>
#include "hal/native/vfu/vfu_server.h"
#include "vfu/client.h"

#define RIG_OTHER_BYTES 4096 /* size of a file that is "not the host's RAM" */

struct fixture {
    struct vfu_link link;
    struct vfu_server server;
    struct client client;
    void *block;
    int doorbell_fd;
    int ram_fd;
    int vector_fd[LIMIT_VECTORS];
    uint32_t commit_count;
    uint32_t trigger_count;
    uint32_t map_count;
    uint32_t unmap_count;
    uint32_t fd_count_at_start;
    uint64_t now_ns;
    char last_log[200];
};

/* CMocka fixtures: connected and silent; or after VERSION. */
int rig_setup_silent(void **state);
int rig_setup(void **state);

/* Checks that every descriptor that came in was closed and every window let go. */
int rig_teardown(void **state);

/* Another client connects. */
void rig_adopt(struct fixture *f);

/* Lets the server work. */
void rig_serve(void *ctx);

#endif
