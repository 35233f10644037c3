/* Devices behind PCIe, with QEMU's ivshmem-doorbell as the device: a large memory BAR, MSI-X. */
#include <stdatomic.h>
#include <string.h>
#include "base/bits.h"
#include "hal/barrier.h"
#include "hal/clock.h"
#include "hal/cpu.h"
#include "hal/pcie_rc.h"
#include "selftest.h"

/* QEMU docs/specs/ivshmem-spec: BAR0 registers */
#define IVSHMEM_ID      0x11101af4u
#define REG_IV_POSITION 8u
#define REG_DOORBELL    12u
#define VECTORS         3u

static _Atomic uint32_t irq_count[VECTORS];
static _Atomic uint32_t irq_core[VECTORS];

static void on_vector(void *arg)
{
    uint32_t vector = (uint32_t)(uintptr_t)arg;
    atomic_store(&irq_core[vector], cpu_self());
    atomic_fetch_add(&irq_count[vector], 1);
}

static const struct pcie_rc_device *find(void)
{
    const struct pcie_rc_device *device;
    for (uint32_t i = 0; (device = pcie_rc_device(i)) != NULL; i++) {
        if (device->vendor_id == (IVSHMEM_ID & 0xffff) && device->device_id == IVSHMEM_ID >> 16) {
            return device;
        }
    }
    return NULL;
}

static void check_memory(const struct pcie_rc_device *device)
{
    uint8_t *memory = (uint8_t *)(uintptr_t)device->bar[2].bus_addr;
    uint64_t len_bytes = device->bar[2].len_bytes;
    uint32_t value = 0x12345678;

    /* The runner wrote the first bytes and reads the last ones. */
    selftest_check(memcmp(memory, "from the runner", 15) == 0, "bar_memory_is_shared", "%llu MiB",
                   (unsigned long long)(len_bytes >> 20));
    memcpy(memory + 4097, &value, sizeof(value)); /* unaligned: mapped as memory, not as device */
    memcpy(&value, memory + 4097, sizeof(value));
    selftest_check(value == 0x12345678, "bar_memory_takes_unaligned_access", "0x%x",
                   (unsigned)value);
    memcpy(memory + len_bytes - 16, "from firmware", 14);
}

static void check_vectors(const struct pcie_rc_device *device)
{
    struct mmio regs = {(uintptr_t)device->bar[0].bus_addr};
    enum status status = STATUS_OK;

    for (uint16_t vector = 0; vector < VECTORS && status == STATUS_OK; vector++) {
        status = pcie_rc_msix(device, vector, 0, on_vector, (void *)(uintptr_t)vector);
    }
    selftest_check(status == STATUS_OK, "msix_vectors_attach", "%s", status_text(status));
    status = pcie_rc_msix(device, 2000, 0, on_vector, NULL);
    selftest_check(status == STATUS_UNSUPPORTED, "msix_vector_beyond_the_table_is_refused", "%s",
                   status_text(status));
    uint32_t self = mmio_read32(regs, REG_IV_POSITION);
    uint64_t start_ns = clock_now_ns();
    for (uint32_t vector = 0; vector < VECTORS; vector++) {
        mmio_write32(regs, REG_DOORBELL, self << 16 | vector);
        while (atomic_load(&irq_count[vector]) == 0 && clock_now_ns() - start_ns < NS_PER_S) {
            cpu_idle(start_ns + NS_PER_S); /* a device's interrupt ends it */
        }
    }
    bool all = true;
    for (uint32_t vector = 0; vector < VECTORS; vector++) {
        all = all && atomic_load(&irq_count[vector]) == 1 && atomic_load(&irq_core[vector]) == 0;
    }
    selftest_check(all, "msix_vectors_arrive_once_and_wake", "%u vectors as peer %u", VECTORS,
                   (unsigned)self);
}

void selftest_devices(const struct board *board)
{
    (void)board;
    const struct pcie_rc_device *device = find();

    selftest_check(device != NULL, "pcie_finds_the_device", "ivshmem");
    if (device == NULL) {
        return;
    }
    pcie_rc_enable(device, true, true);
    check_memory(device);
    check_vectors(device);
}
