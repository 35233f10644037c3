/*
 * pcielink with a host and a NIC: the host is a client of vfio-user in the thread of the test,
 * which turns pcielink, too; the NIC is a process (fake_nic.h).
 */
#ifndef TESTS_UNIT_PCIELINK_RIG_H
#define TESTS_UNIT_PCIELINK_RIG_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "boards/qemu-virt/pcielink/pcielink.h"
#include "pcielink/fake_nic.h"

#define RIG_RAM_BYTES (16u << 20)
#define RIG_BUS_BASE  UINT64_C(0x8000000000)

struct rig {
    struct pcielink p;
    struct fake_nic nic;
    char dir[64];
    char ram_path[80];
    int host_fd;
    int ram_fd;
    uint16_t next_id;
    int vector[LIMIT_VECTORS];
};

/* Fixtures: the state is the rig, nobody there yet. With trapped doorbells, mapped ones. */
int rig_setup(void **state);
int rig_setup_mapped(void **state);
int rig_teardown(void **state);

void rig_turns(struct rig *f, uint32_t count);
/* Turns until the condition holds, up to ~3 s. */
#define RIG_TURN_UNTIL(f, condition)                                      \
    do {                                                                  \
        for (uint32_t turn_ = 0; turn_ < 3000 && !(condition); turn_++) { \
            pcielink_turn(&(f)->p, 1);                                    \
        }                                                                 \
        assert_true(condition);                                           \
    } while (0)

/* A message of the host and its answer: the error in it, 0 for none. */
int rig_call(struct rig *f, uint16_t command, const void *payload, uint32_t bytes, const int *fds,
             uint32_t fd_count, void *reply, uint32_t reply_bytes);
int rig_connect_to(const char *dir, const char *name);
void rig_host_connect(struct rig *f);
/* Connected, bus mastering on, 1 MiB mapped at 1 MiB. */
void rig_host_brings_up(struct rig *f);
int rig_host_irqs(struct rig *f, uint32_t start, uint32_t count, const int *fds);
int rig_host_map(struct rig *f, uint64_t addr, uint64_t size, uint64_t offset, int fd);
int rig_host_unmap(struct rig *f, uint64_t addr, uint64_t size);
void rig_host_write(struct rig *f, uint32_t region, uint64_t offset, uint32_t value);
uint32_t rig_host_read(struct rig *f, uint32_t region, uint64_t offset);

/* Starts the NIC and waits until it is ready. */
void rig_nic_start(struct rig *f);

#endif
