/*
 * What firmware and bootloader both know of QEMU's `virt` machine. Its functions end in boot_stop()
 * when the device tree lacks what must be there. Supplies console.h, and of boot.h the early
 * console and the clock. Core 0, at start.
 */
#ifndef QEMU_VIRT_MACHINE_H
#define QEMU_VIRT_MACHINE_H

#include <stdint.h>
#include "hal/drivers/cfi_flash.h"
#include "hal/drivers/dt.h"
#include "hal/drivers/pcie_ecam.h"
#include "hal/drivers/pl011.h"
#include "spec/boot.h"

#define MACHINE_FLASH_BANKS 2u

/* Where whoever starts the machine may put the configuration's device tree (docs/spec/config.md):
 * -device loader,file=X.dtb,addr=0x4f000000,force-raw=on */
#define MACHINE_CONFIG_TREE_BASE  0x4f000000u
#define MACHINE_CONFIG_TREE_BYTES (1u << 20)

/* At the end of the memory that a warm reset keeps: whether there was such a tree at power-on, and
 * what the bootloader tells. */
struct machine_warm_end {
    struct boot_handoff handoff;
    uint32_t reserved[11];
    uint32_t config_tree_note;
};
ASSERT_SIZE(struct machine_warm_end, 64);

extern struct dt machine_dt;
extern struct pl011 machine_uart;

void machine_open(const void *dtb);

/* Stops with what machine_dt says is wrong, unless `status` is OK. */
void machine_need(enum status status);
int machine_need_node(const char *compatible);
/* Maps the `index`-th register range of `node`; returns its base. */
uintptr_t machine_map_registers(int node, uint32_t index);

/* The early console becomes the real one: stays where it is, or moves to what the tree says.
 * Returns its node. */
int machine_console(void);

/* arch_reset() and cpu_start() work from here on. */
void machine_psci(void);

/* The console receives by interrupt, cores can be woken, cpu_idle() sleeps. `uart_node` is
 * machine_console()'s. */
void machine_interrupts(int uart_node);

/* Probes the banks; one that is not there, or is read only, has base.ops NULL. */
void machine_flash(struct cfi_flash flashes[MACHINE_FLASH_BANKS]);

/* Enumerates the devices. */
void machine_pcie(pcie_ecam_map_fn *map);

/* In the warm memory. */
struct machine_warm_end *machine_warm_end(void);

#endif
