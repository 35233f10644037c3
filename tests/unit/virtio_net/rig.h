/*
 * The virtio network driver against a device in memory: registers behind mocked accesses, rings and
 * buffers where the driver put them. rig_model is the device, rig_net the driver's port.
 */
#ifndef VIRTIO_NET_RIG_H
#define VIRTIO_NET_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define MMIO_MOCK
/* The board's bus and cores, under names of our own: the library has others. */
#define pcie_rc_device  fake_rc_device
#define pcie_rc_enable  fake_rc_enable
#define pcie_rc_msix    fake_rc_msix
#define pcie_rc_read32  fake_rc_read32
#define pcie_rc_write32 fake_rc_write32
#define cpu_wake        fake_cpu_wake
struct fake_rc_device;
#include "hal/drivers/virtio_net_priv.h"

#define BAR       UINT64_C(0x80000000)
#define BAR_BYTES 0x4000u
#define NOTIFY    0x3000u
#define CONFIG_AT 0x2000u
#define CORE      2u /* that arms the port */
#define BIT_MRG   BIT64(15)
#define OFFERED                                                                      \
    (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_NET_F_MAC | VIRTIO_NET_F_MTU | \
     VIRTIO_NET_F_STATUS | BIT_MRG | BIT64(0) | BIT64(28))
#define MTU     4200u
#define COOKIES 64u

struct queue {
    uint16_t size;
    uint16_t vector;
    uint16_t enable;
    uint64_t address[3]; /* descriptors, available, used */
    uint16_t avail_seen; /* the device's own indices */
    uint16_t used_idx;
    uint32_t kick_count;
};

/* What a test may change before the driver looks, and what the driver did. */
struct rig_model {
    struct fake_rc_device pci[3];
    uint32_t pci_count;
    uint32_t space[64]; /* configuration space */
    uint64_t offered;
    uint64_t accepted;
    uint32_t device_select;
    uint32_t driver_select;
    uint16_t config_vector;
    uint8_t status;
    uint8_t statuses[16]; /* as written */
    uint32_t status_count;
    bool refuses_features;
    bool refuses_vectors;
    uint32_t reset_reads; /* reads of the status until a reset is done */
    uint32_t resetting;
    uint16_t queue_sizes[2];
    struct queue queues[2];
    uint16_t selected;
    bool was_kicked_early; /* before DRIVER_OK */
    struct virtio_net_config config;
    bool bus_master;
    uint32_t msix_limit;
    void (*handlers[2])(void *arg);
    void *args[2];
    uint32_t woken;
};

extern struct rig_model rig_model;
extern struct virtio_net rig_net;
extern struct eth_port *rig_port;
extern void *rig_net_memory;    /* NULL: the port was not started */
extern char rig_names[COOKIES]; /* frames' cookies point at these */

/* --- fixtures ---------------------------------------------------------------------------------
 */

/* A good device, in use by somebody before. */
int rig_setup(void **state);
/* The same, and the port is up. */
int rig_setup_up(void **state);
/* Nothing is under way, every buffer is where it belongs. */
int rig_teardown(void **state);

#define RIG_PLAIN(test) cmocka_unit_test_setup_teardown(test, rig_setup, rig_teardown)
#define RIG_UP(test)    cmocka_unit_test_setup_teardown(test, rig_setup_up, rig_teardown)

enum status rig_open_port(void);
enum status rig_start_port(void);

/* A capability of the device at `at` in configuration space. */
void rig_add_cap(uint32_t at, uint8_t next, uint8_t type, uint8_t bar, uint32_t offset,
                 uint32_t length);

/* --- the device's ends of the rings -----------------------------------------------------------
 */

struct queue *rig_rxq(void);
struct queue *rig_txq(void);
struct virtq_avail *rig_avail(const struct queue *q);
struct virtq_used *rig_used(const struct queue *q);

/* Published and not taken yet. */
uint32_t rig_avail_count(const struct queue *q);
uint16_t rig_take_avail(struct queue *q);
void rig_put_used(struct queue *q, uint32_t id, uint32_t len_bytes);
void rig_set_avail_event(const struct queue *q, uint16_t value);
uint16_t rig_used_event(const struct queue *q);

/* Takes a frame with its header off the ring without saying that it was used. */
uint32_t rig_fetch(uint16_t *head, uint8_t *bytes, uint32_t *desc_count);

/* Fills the next buffer with a frame of `len_bytes`, each byte `fill`; returns the buffer. */
uint16_t rig_deliver(uint32_t len_bytes, uint8_t fill);

/* --- frames -----------------------------------------------------------------------------------
 */

/* Memory `index` (modulo 64) for a frame to send, with headroom. */
uint8_t *rig_frame_data(uint32_t index);

/* Sends `len_bytes` of memory `index` cut into `seg_count` pieces. */
enum status rig_send(uint32_t index, uint32_t len_bytes, uint32_t seg_count);

/* The device takes the next frame, which must be memory `index` behind a header of zeroes. Returns
 * its head. */
uint16_t rig_expect_sent(uint32_t index, uint32_t len_bytes, uint32_t seg_count);
void rig_expect_reaped(uint32_t index);

uint64_t rig_rx_errors(void);

/* The driver found the device broken for the `count`-th time and asked for a reset. */
void rig_expect_broken(uint32_t count);

/* After two seconds the port is up and receives. */
void rig_expect_up_again(void);

#endif
