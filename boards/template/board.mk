# A board to copy: no such machine exists, but it compiles and links in every build. docs/PORTING.md
# explains each step. Its image is build/template/snic.elf.
include boards/aarch64.mk

TEMPLATE_SRCS := $(wildcard boards/template/*.c) $(AARCH64_SRCS) $(BOOT_SRCS) \
                 hal/drivers/gicv2.c hal/drivers/pl011.c hal/drivers/pcie_ep.c

# Port: the machine's memory. See linker/aarch64.ld.in for what each word means.
TEMPLATE_LAYOUT := -DBOARD_RAM_BASE=0x80000000 -DBOARD_DTB_BASE=0x80000000 \
                   -DBOARD_WARM_BASE=0x80100000 -DBOARD_WARM_BYTES=0x10000 \
                   -DBOARD_IMAGE_BASE=0x80200000 -DBOARD_HEAP_BYTES=0x40000 \
                   -DBOARD_TEXT_BUDGET=0x58000

$(eval $(call aarch64_gcc,template))
$(eval $(call aarch64_layout,template,$(TEMPLATE_LAYOUT),boards/template/board.mk))
ifneq ($(APP_SRCS),)
$(eval $(call aarch64_image,template,snic,$(TEMPLATE_SRCS) $(FW_SRCS) $(APP_SRCS)))
FIRMWARE_IMAGES += $(B)/template/snic.elf
endif
