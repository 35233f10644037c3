# QEMU's aarch64 `virt` machine: configurations qemu-virt (gcc) and qemu-virt-clang. Images:
#   build/<configuration>/snic.elf       the firmware; snic.bin: the same as a flat arm64 Image
#   build/<configuration>/selftest.elf   tests/emu: the same start-up, its own app_main()
#   build/<configuration>/bench.elf      tests/bench: the same start-up, then bench_main()
#   build/<configuration>/bootloader.elf firmware/bootloader, for the first bank of the flash
# and of the first configuration what boots from flash: snic.fit, flash0.img, flash1.img (make image)
include boards/aarch64.mk

QEMU_VIRT_SRCS := $(wildcard boards/qemu-virt/*.c) $(AARCH64_SRCS) $(BOOT_SRCS) \
                  $(wildcard hal/drivers/*.c)

# RAM starts at 1 GiB; its first MiB is the device tree's (ELF boot), the second ours over resets.
QEMU_VIRT_LAYOUT := -DBOARD_RAM_BASE=0x40000000 -DBOARD_DTB_BASE=0x40000000 \
                    -DBOARD_WARM_BASE=0x40100000 -DBOARD_WARM_BYTES=0x10000 \
                    -DBOARD_IMAGE_BASE=0x40200000 -DBOARD_HEAP_BYTES=0x40000 \
                    -DBOARD_TEXT_BUDGET=0x58000

SELFTEST_SRCS := $(wildcard tests/emu/selftest*.c)
# bench_boot.c calls bench_main(): nothing to link before somebody has written it
BENCH_SRCS    := $(if $(wildcard tests/bench/bench_main.c),$(wildcard tests/bench/bench_*.c)) \
                 $(wildcard tests/model/target*.c)

# $(1): image, $(2): sources beside the board's and the portable ones; nothing when there are none yet
define qemu_virt_image
$(foreach c,qemu-virt qemu-virt-clang,$(if $(2), \
    $(eval $(call aarch64_image,$(c),$(1),$(QEMU_VIRT_SRCS) $(FW_SRCS) $(2))) \
    $(eval FIRMWARE_IMAGES += $(B)/$(c)/$(1).elf)))
endef

$(eval $(call aarch64_gcc,qemu-virt))
$(eval $(call aarch64_clang,qemu-virt-clang))
$(foreach c,qemu-virt qemu-virt-clang, \
    $(eval $(call aarch64_layout,$(c),$(QEMU_VIRT_LAYOUT),boards/qemu-virt/board.mk)))
$(call qemu_virt_image,snic,$(APP_SRCS))
$(call qemu_virt_image,selftest,$(SELFTEST_SRCS))
$(call qemu_virt_image,bench,$(BENCH_SRCS))

# The benchmark with stage marks (base/stage.h): where the instructions of an I/O go.
$(eval $(call aarch64_gcc,qemu-virt-stages))
qemu-virt-stages_CFLAGS += -DSTAGE_MARKS
$(eval $(call aarch64_layout,qemu-virt-stages,$(QEMU_VIRT_LAYOUT),boards/qemu-virt/board.mk))
$(if $(BENCH_SRCS),$(eval $(call aarch64_image,qemu-virt-stages,bench, \
    $(QEMU_VIRT_SRCS) $(FW_SRCS) $(BENCH_SRCS))))
FIRMWARE_IMAGES += $(B)/qemu-virt/snic.bin $(B)/qemu-virt/selftest.bin

# --- bootloader: in the first bank of the flash, from which it copies itself into RAM

QEMU_VIRT_LOADER_LAYOUT := -DBOARD_RAM_BASE=0x40000000 -DBOARD_DTB_BASE=0x40000000 \
                           -DBOARD_WARM_BASE=0x40100000 -DBOARD_WARM_BYTES=0x10000 \
                           -DBOARD_IMAGE_BASE=0x4e000000 -DBOARD_HEAP_BYTES=0x1000 \
                           -DBOARD_TEXT_BUDGET=0x10000
QEMU_VIRT_LOADER_SRCS := $(BOOTLOADER_SRCS) $(AARCH64_SRCS) $(B)/key/image_key.c \
                         $(wildcard boards/qemu-virt/bootloader/*.c) boards/qemu-virt/machine.c \
                         $(addprefix hal/drivers/,cfi_flash.c dt.c gicv2.c i6300esb.c pcie_ecam.c pl011.c)

$(foreach c,qemu-virt qemu-virt-clang, \
    $(eval $(call aarch64_layout,$(c),$(QEMU_VIRT_LOADER_LAYOUT),boards/qemu-virt/board.mk,loader)) \
    $(eval $(call aarch64_image,$(c),bootloader,$(QEMU_VIRT_LOADER_SRCS),loader)) \
    $(eval FIRMWARE_IMAGES += $(B)/$(c)/bootloader.elf))

FLASH_IMAGES := $(addprefix $(B)/qemu-virt/,snic.fit flash0.img flash1.img)
# (a KEY that is the public half alone signs nothing)
FIRMWARE_IMAGES += $(if $(shell grep -l 'PRIVATE KEY' $(KEY) 2>/dev/null),$(FLASH_IMAGES))
FLASH_TOOL := boards/qemu-virt/flash_image.py

$(B)/qemu-virt/%.fit: $(B)/qemu-virt/%.bin $(FLASH_TOOL) $(B)/key/image_key.c
	$(call say,SIGN,$@)
	$(Q)$(PY) $(FLASH_TOOL) fit $< $@ --key $(KEY)

$(B)/qemu-virt/flash0.img: $(B)/qemu-virt/bootloader.bin $(FLASH_TOOL)
	$(Q)$(PY) $(FLASH_TOOL) bank0 $< $@

$(B)/qemu-virt/flash1.img: $(B)/qemu-virt/snic.fit $(FLASH_TOOL)
	$(Q)$(PY) $(FLASH_TOOL) bank1 $< $@

.PHONY: image
image: deps ## Make and sign what boots from flash, with KEY=... (the development key)
	@$(MAKE) -j2 $(FLASH_IMAGES)
	@echo "  image for updates:   $(B)/qemu-virt/snic.fit, signed with $(KEY)"
	@echo "  flash of QEMU virt:  $(B)/qemu-virt/flash0.img, $(B)/qemu-virt/flash1.img"
