/*
 * arch_jump(x0 = entry, x1 = device tree): leaves this image for another, as its loader leaves it
 * (Linux Documentation/arm64/booting): EL1, MMU and data cache off, x0 = device tree, x1..x3 = 0.
 *
 * The code runs from one-to-one mapped memory and touches none. Data that the caches still hold are
 * this image's own: the next one drops their lines (start.S) or reads them with caches on.
 */
    .text
    .global arch_jump
arch_jump:
    msr     daifset, #0xf
    mov     x19, x0
    mov     x20, x1
    ldr     x9, =0x30d00800         /* SCTLR_EL1: RES1 bits, MMU and caches off */
    dsb     sy
    msr     sctlr_el1, x9
    isb
    tlbi    vmalle1
    ic      iallu
    dsb     sy
    isb
    mov     x0, x20
    mov     x1, xzr
    mov     x2, xzr
    mov     x3, xzr
    br      x19

    .section .note.GNU-stack, "", %progbits
