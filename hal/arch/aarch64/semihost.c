#include "hal/arch/aarch64/semihost.h"

#include "hal/arch.h"

/* In assembly so that its address is known; x0 and x1 are already where they belong. */
__asm__(".section .text.semihost_call, \"ax\"\n"
        ".global semihost_call, semihost_instruction\n"
        ".type semihost_call, %function\n"
        "semihost_call:\n"
        "semihost_instruction:\n"
        "    hlt #0xf000\n"
        "    ret\n"
        ".previous\n");

void arch_semihost_exit(int code)
{
    const uint64_t block[2] = {SEMIHOST_APPLICATION_EXIT, (uint64_t)(unsigned)code};
    semihost_call(SEMIHOST_SYS_EXIT, block);
}

void arch_semihost_write(const char *text)
{
    semihost_call(SEMIHOST_SYS_WRITE0, text);
}
