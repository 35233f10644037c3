/*
 * A NIC in a process of its own: an ivshmem client as QEMU is one, with the real pcie_ep driver on
 * the link block. Controlled through shared memory by the test.
 */
#ifndef TESTS_PCIELINK_FAKE_NIC_H
#define TESTS_PCIELINK_FAKE_NIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define FAKE_NIC_PEERS 4096

struct fake_nic_shared {
    /* Orders, by the test. */
    _Atomic bool silent;    /* acknowledges and reads nothing */
    _Atomic bool deaf;      /* does not read its ivshmem socket: a QEMU that is stopped */
    _Atomic bool restart;   /* says hello again, once: a warm reset of the guest */
    _Atomic bool leave;     /* closes the socket but lives on */
    _Atomic uint32_t raise; /* vector + 1: raise it once; 0 again when done */
    _Atomic bool arm;       /* arm doorbells */
    /* Facts, by the NIC. */
    _Atomic bool ready;
    _Atomic uint32_t start_count;
    _Atomic uint32_t event_count[8]; /* by type */
    _Atomic uint64_t dma;            /* where host address 0x100000 is on the bus, or NO_ADDR */
    _Atomic uint32_t raise_lost;     /* raised at a peer that has no such vector */
    _Atomic uint32_t peer_now;       /* highest peer id announced */
    _Atomic uint32_t retired_count;
    _Atomic uint32_t reused_count; /* ids announced again after they were retired: must stay 0 */
    _Atomic uint32_t wake_count;   /* own vector 0 */
    _Atomic uint32_t doorbell;     /* first doorbell as seen */
};

struct fake_nic {
    pid_t pid;
    struct fake_nic_shared *shared;
};

/* Forks; the child never returns. The parent must not have threads yet that hold locks. */
void fake_nic_start(struct fake_nic *nic, const char *socket_path);
void fake_nic_kill(struct fake_nic *nic);  /* SIGKILL and wait */
bool fake_nic_ended(struct fake_nic *nic); /* it did, by itself or by others */

#endif
