# What boards with aarch64 cores share; a board.mk includes this and calls the three macros at the end.

ifndef AARCH64_SRCS

AARCH64_SRCS := $(wildcard hal/arch/aarch64/*.S hal/arch/aarch64/*.c)
BOOT_SRCS    := $(wildcard firmware/boot/*.c)
# The bootloader has its own cold boot.
BOOTLOADER_SRCS := $(wildcard firmware/bootloader/*.c firmware/update/*.c firmware/mgmt/*.c) \
                   $(filter-out firmware/boot/cold.c,$(BOOT_SRCS)) \
                   $(addprefix firmware/base/,crc.c fmt.c log.c status.c)

AARCH64_CFLAGS  = $(BASE_CFLAGS) -O2 $(ARM_FLAGS)
# The one instruction for a frame record makes backtraces whole; leaf functions go without.
AARCH64_CFLAGS += -momit-leaf-frame-pointer
AARCH64_LDFLAGS = -nostdlib -static -Wl,--gc-sections,--build-id=none \
                  -Wl,-z,max-page-size=4096,-z,noexecstack
# Libraries out of the cache: build/deps/NAME with include/ and lib/.
AARCH64_DEPS    = $(B)/deps/newlib $(B)/deps/libfdt $(B)/deps/libbearssl
AARCH64_LIBS    = $(B)/deps/newlib/lib/libc.a $(B)/deps/libfdt/lib/libfdt.a \
                  $(B)/deps/libbearssl/lib/libbearssl.a
AARCH64_LIBGCC := $(shell $(ARM_GCC) -print-libgcc-file-name 2>/dev/null)

aarch64_objects = $(patsubst %,$(B)/$(1)/obj/%.o,$(basename $(2)))

# A configuration. $(1): its name, as folder under build/
define aarch64_gcc
$(1)_CC      := $(ARM_GCC)
$(1)_CFLAGS   = $$(AARCH64_CFLAGS) -falign-functions=4 -falign-loops=4 $$(ARM_INC_GCC)
# (gcc sees less of the flow then, and guesses: the -O2 builds of the same files warn)
$(1)_COLD     = -Os -Wno-maybe-uninitialized
$(1)_UNALIGNED = -mno-strict-align
$(1)_LDFLAGS  = $$(AARCH64_LDFLAGS) -no-pie
$(1)_NEEDS    = | $$(AARCH64_DEPS)
CONFIGS      += $(1)
endef

define aarch64_clang
$(1)_CC      := $(CLANG) --target=aarch64-none-elf
$(1)_CFLAGS   = $$(AARCH64_CFLAGS) -fno-unroll-loops -fno-vectorize -fno-slp-vectorize \
                $$(ARM_INC_CLANG)
$(1)_COLD     = -Oz
$(1)_UNALIGNED = -munaligned-access
$(1)_LDFLAGS  = $$(AARCH64_LDFLAGS) -fuse-ld=lld
$(1)_NEEDS    = | $$(AARCH64_DEPS)
CONFIGS      += $(1)
endef

# Its memory layout. $(2): -D words, see linker/aarch64.ld.in; $(3): what they come from; $(4): name,
# image when not given
define aarch64_layout
$(B)/$(1)/$(or $(4),image).ld: linker/aarch64.ld.in boards/aarch64.mk $(3)
	@mkdir -p $$(@D)
	$(Q)$(ARM_GCC) -E -P -x c -undef $(2) $$< -o $$@
endef

# One image of it. $(2): name, $(3): sources, $(4): layout, image when not given
define aarch64_image
$(B)/$(1)/$(2).elf: $(call aarch64_objects,$(1),$(3)) $(B)/$(1)/$(or $(4),image).ld
	$$(call say,LINK,$$@)
	$(Q)$$($(1)_CC) $$($(1)_LDFLAGS) -Wl,-T,$(B)/$(1)/$(or $(4),image).ld -o $$@ \
	    $$(filter %.o,$$^) -Wl,--start-group $$(AARCH64_LIBS) $$(AARCH64_LIBGCC) -Wl,--end-group

$(B)/$(1)/$(2).bin: $(B)/$(1)/$(2).elf
	$(Q)aarch64-linux-gnu-objcopy -O binary $$< $$@
endef

endif
