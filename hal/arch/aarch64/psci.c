/*
 * Power State Coordination Interface, Arm DEN 0022, through hvc or smc as the device tree says.
 */
#include "hal/arch/aarch64/cpu_priv.h"

#define PSCI_CPU_ON       UINT64_C(0xc4000003)
#define PSCI_SYSTEM_OFF   UINT64_C(0x84000008)
#define PSCI_SYSTEM_RESET UINT64_C(0x84000009)
#define PSCI_UNSUPPORTED  (-1)

static enum arch_psci conduit;

void arch_psci_set(enum arch_psci new_conduit)
{
    conduit = new_conduit;
}

/* SMC Calling Convention (DEN 0028): arguments in x0..x3, result in x0, x4..x17 may be lost. */
static int64_t psci_call(uint64_t function, uint64_t a1, uint64_t a2, uint64_t a3)
{
    register uint64_t x0 __asm__("x0") = function;
    register uint64_t x1 __asm__("x1") = a1;
    register uint64_t x2 __asm__("x2") = a2;
    register uint64_t x3 __asm__("x3") = a3;

#define PSCI_CALL(instruction)                                                                \
    __asm__ volatile(instruction " #0"                                                        \
                     : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3)                                 \
                     :                                                                        \
                     : "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", \
                       "x15", "x16", "x17", "memory")
    switch (conduit) {
    case ARCH_PSCI_HVC:
        PSCI_CALL("hvc");
        break;
    case ARCH_PSCI_SMC:
        PSCI_CALL("smc");
        break;
    case ARCH_PSCI_NONE:
        return PSCI_UNSUPPORTED;
    }
#undef PSCI_CALL
    return (int64_t)x0;
}

int64_t psci_cpu_on(uint64_t hardware_id, uint64_t entry, uint64_t context)
{
    return psci_call(PSCI_CPU_ON, hardware_id, entry, context);
}

void arch_reset(void)
{
    psci_call(PSCI_SYSTEM_RESET, 0, 0, 0);
}

void arch_power_off(void)
{
    psci_call(PSCI_SYSTEM_OFF, 0, 0, 0);
}
