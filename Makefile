# snic: one non-recursive makefile. `make` shows what there is; V=1 shows the commands.
# Objects go to build/<configuration>/; a changed flag rebuilds what it touches.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-builtin-variables --no-print-directory
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.SECONDARY:

B  := build
PY := /usr/bin/python3
V  ?= 0
Q  := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),@:,@printf '  %-7s %s\n' '$(1)' '$(2)')

# --- sources ---------------------------------------------------------------------------------

FW_SRCS     := $(filter-out firmware/app/% firmware/boot/% firmware/bootloader/%, \
                 $(wildcard firmware/*/*.c))
APP_SRCS    := $(wildcard firmware/app/*.c)
EP_SRCS     := $(wildcard hal/drivers/pcie_ep*.c)
NATIVE_HAL  := $(wildcard hal/native/*.c) $(wildcard hal/native/vfu/*.c)
NATIVE_SRCS := $(wildcard boards/native/*.c)
IBV_HAL     := $(wildcard hal/native/ibv/*.c)
# The wire that unit tests, fuzzers and simulations share.
WIRE_SRCS   := $(wildcard tests/sim/wire*.c)

# The key that signs images: every build with the portable sources has its public half in it.
DEVELOPMENT_KEY := boards/keys/development.key
KEY     ?= $(DEVELOPMENT_KEY)
RELEASE ?= 0
FW_SRCS += $(B)/key/image_key.c

# --- flags -----------------------------------------------------------------------------------

WARN := -Wall -Wextra -Wconversion -Wshadow -Wswitch-enum -Wvla -Wstrict-prototypes \
        -Wmissing-prototypes -Wpointer-arith -Wcast-qual -Wundef -Werror
BASE_CFLAGS := -std=c11 -g $(WARN) -Ifirmware -Ihal/include -I. -fno-common
HOST_CFLAGS := $(BASE_CFLAGS) -D_GNU_SOURCE -pthread -fno-omit-frame-pointer
SANITIZE    := -fsanitize=address,undefined -fno-sanitize-recover=undefined

GCC      := gcc
CLANG    := clang
ARM_GCC  := aarch64-linux-gnu-gcc

# --- configurations: NAME_CC, NAME_CFLAGS; objects in build/NAME/obj ---------------------------

unit_CC           := $(GCC)
unit_CFLAGS        = $(HOST_CFLAGS) -O1 $(SANITIZE) -Itests/unit
unit-clang_CC     := $(CLANG)
unit-clang_CFLAGS  = $(HOST_CFLAGS) -O2 -Itests/unit
unit-tsan_CC      := $(GCC)
unit-tsan_CFLAGS   = $(HOST_CFLAGS) -O1 -fsanitize=thread -Wno-tsan -Itests/unit
sim_CC            := $(GCC)
sim_CFLAGS         = $(HOST_CFLAGS) -O2 $(SANITIZE)
native_CC         := $(GCC)
native_CFLAGS      = $(HOST_CFLAGS) -O2
native-clang_CC   := $(CLANG)
native-clang_CFLAGS = $(HOST_CFLAGS) -O2
native-ibv_CC     := $(GCC)
native-ibv_CFLAGS  = $(HOST_CFLAGS) -O2 -DSNIC_IBV
fuzz_CC           := $(CLANG)
fuzz_CFLAGS        = $(HOST_CFLAGS) -O1 -Itests/unit -fsanitize=fuzzer-no-link,address,undefined \
                     -fno-sanitize-recover=undefined -DFUZZING
host_CC           := $(GCC)
host_CFLAGS        = $(HOST_CFLAGS) -O2

ARM_FLAGS := -ffreestanding -fno-pic -fno-pie -fno-stack-protector -ffunction-sections \
             -fdata-sections -mcpu=cortex-a72 -mstrict-align -mno-outline-atomics \
             -fno-omit-frame-pointer -D__DYNAMIC_REENT__ -U__linux__ -U__linux -Ulinux \
             -U__gnu_linux__ -U__unix__ -U__unix -Uunix -DASSERT_BRIEF
# gcc's own headers stand before newlib's, whose stdatomic.h breaks _Atomic.
ARM_INC_GCC    = -nostdinc -isystem $(shell $(ARM_GCC) -print-file-name=include) $(ARM_INC_LIBS)
ARM_INC_CLANG  = -nostdinc -isystem $(shell $(CLANG) -print-resource-dir)/include $(ARM_INC_LIBS)
ARM_INC_LIBS  := -isystem $(B)/deps/newlib/include -isystem $(B)/deps/libfdt/include \
                 -isystem $(B)/deps/libbearssl/include

# What the firmware's sources need beside a C library, on the host's side.
HOST_LIBS := -l:libbearssl.a -l:libfdt.a

# What runs at start, on administration and in reports is compiled for size: the text has a budget.
COLD_SRCS := $(wildcard firmware/app/*.c firmware/boot/*.c firmware/diag/*.c firmware/rdma/cm*.c \
               firmware/mgmt/*.c firmware/update/*.c firmware/bootloader/*.c) \
             $(addprefix firmware/base/,fmt.c log.c mem_ref.c rng.c status.c) \
             $(addprefix firmware/nvme/,admin.c aer.c ctrl.c errlog.c features.c firmware.c handover.c \
               identify.c logpages.c namespaces.c vendor.c) \
             $(addprefix firmware/nvme_drv/,nvme_drv.c nvme_drv_admin.c nvme_drv_identify.c \
               nvme_drv_state.c) \
             $(addprefix firmware/nvme_ep/,control.c fence.c handover.c hmb.c nvme_ep.c queue.c \
               registers.c) \
             $(addprefix firmware/net/,addr.c announce.c arp.c icmp.c if.c nd.c neighbor.c ping.c \
               route.c) \
             $(addprefix firmware/rdma/,soft_modify.c soft_qp.c soft_ud.c) \
             $(addprefix firmware/vol/,vol.c vol_path.c) $(wildcard firmware/nvmf_host/ctrl*.c) \
             $(addprefix firmware/nvmf_host/,core.c discovery.c event.c host_area.c \
               host_rings.c queue.c queue_close.c queue_cmd.c scan.c) \
             $(addprefix hal/drivers/,cfi_flash.c dt.c gicv2.c i6300esb.c ivshmem.c pcie_ecam.c pl011.c \
               virtio_net_start.c virtio_pci.c) \
             $(addprefix hal/arch/aarch64/,clock.c cpu.c exception.c mmu.c newlib.c printf.c \
               psci.c semihost.c) \
             $(wildcard boards/qemu-virt/*.c boards/qemu-virt/bootloader/*.c boards/template/*.c)
# What sees normal memory alone, in which unaligned accesses are allowed: integers of a wire are one
# load or store there. Not what runs without the MMU, nor what knows of devices.
# (update runs in the bootloader, too.)
UNALIGNED_SRCS := $(filter-out $(addprefix firmware/,boot/% bootloader/% update/%), \
                    $(wildcard firmware/*/*.c))
# $(1): configuration, $(2): source
file_cflags = $(if $(filter $(COLD_SRCS),$(2)),$($(1)_COLD)) \
              $(if $(filter $(UNALIGNED_SRCS),$(2)),$($(1)_UNALIGNED))
# What objects of a configuration depend on beside their sources.
stamp = $($(1)_CC) $($(1)_CFLAGS) $($(1)_UNALIGNED) $(if $($(1)_COLD),$($(1)_COLD) $(COLD_SRCS))

CONFIGS := unit unit-clang unit-tsan sim native native-clang native-ibv fuzz host

# Boards of the NIC add their configurations (gcc and clang) and images.
include $(wildcard boards/*/board.mk)

# --- rules of a configuration ----------------------------------------------------------------

define config_rules
$(B)/$(1)/obj/%.o: %.c $(B)/$(1)/flags $$($(1)_NEEDS)
	$$(call say,CC,$$< [$(1)])
	@mkdir -p $$(@D)
	$(Q)$$($(1)_CC) $$($(1)_CFLAGS) $$(call file_cflags,$(1),$$<) -MMD -MP -c $$< -o $$@

$(B)/$(1)/obj/%.o: %.S $(B)/$(1)/flags $$($(1)_NEEDS)
	$$(call say,AS,$$< [$(1)])
	@mkdir -p $$(@D)
	$(Q)$$($(1)_CC) $$($(1)_CFLAGS) -MMD -MP -c $$< -o $$@

$(B)/$(1)/flags: FORCE
	@mkdir -p $$(@D)
	@printf '%s\n' '$$(call stamp,$(1))' | cmp -s - $$@ || printf '%s\n' '$$(call stamp,$(1))' > $$@
endef
$(foreach c,$(CONFIGS),$(eval $(call config_rules,$(c))))

objects = $(patsubst %,$(B)/$(1)/obj/%.o,$(basename $(2)))

FORCE:
.PHONY: FORCE

-include $(shell find $(B) -name '*.d' 2>/dev/null)

# --- the key that signs images (boards/keys)

$(B)/key/image_key.c: $(wildcard $(KEY)) $(DEVELOPMENT_KEY) boards/keys/make_key.py $(B)/key/choice
	$(call say,KEY,$(KEY))
	$(Q)$(PY) boards/keys/make_key.py source $@ --key $(KEY) --development $(DEVELOPMENT_KEY) \
	    $(if $(filter 1,$(RELEASE)),--release)

$(B)/key/choice: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(KEY) $(RELEASE)' | cmp -s - $@ || printf '%s\n' '$(KEY) $(RELEASE)' > $@

.PHONY: keys
keys: ## Make a key of your own to sign images with: keys/image.key
	$(Q)$(PY) boards/keys/make_key.py new keys/image.key

# --- what comes out of the cache (boards/deps) ------------------------------------------------

# A link into the cache; gone or dangling, it is made anew.
$(B)/deps/%:
	@mkdir -p $(@D)
	$(Q)ln -sfn "$$($(PY) boards/deps/deps.py get $*)" $@

# --- native board ----------------------------------------------------------------------------

define native_rules
$(B)/$(1)/snic: $$(call objects,$(1),$(NATIVE_SRCS) $(APP_SRCS) $(FW_SRCS) $(NATIVE_HAL) $(EP_SRCS))
	$$(call say,LINK,$$@)
	$(Q)$$($(1)_CC) $$($(1)_CFLAGS) $$^ $(HOST_LIBS) -o $$@
endef
$(foreach c,native native-clang,$(eval $(call native_rules,$(c))))

# The same with rdma-core's libraries: an RNIC (or rxe) of this machine carries the fabric.
IBV_LIBS := -lrdmacm -libverbs

$(B)/native-ibv/snic: $(call objects,native-ibv,$(NATIVE_SRCS) $(APP_SRCS) $(FW_SRCS) \
                        $(NATIVE_HAL) $(IBV_HAL) $(EP_SRCS))
	$(call say,LINK,$@)
	$(Q)$(native-ibv_CC) $(native-ibv_CFLAGS) $^ $(HOST_LIBS) $(IBV_LIBS) -o $@

# Runs where there is an RDMA device: in a guest of the rack.
$(B)/host/ibv_check: $(call objects,native-ibv,$(wildcard tests/native/ibv_*.c) \
                       $(FW_SRCS) $(NATIVE_HAL) $(IBV_HAL) $(EP_SRCS))
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(native-ibv_CC) $(native-ibv_CFLAGS) $^ $(HOST_LIBS) $(IBV_LIBS) -o $@

# --- pcielink and other host programs -----------------------------------------------------------

CTL_SRCS      := $(wildcard boards/qemu-virt/ctl/*.c) $(wildcard hal/native/vfu/*.c)
PCIELINK_SRCS := $(wildcard boards/qemu-virt/pcielink/*.c) $(CTL_SRCS)
FABRIC_SRCS   := $(wildcard boards/qemu-virt/fabric/*.c) $(CTL_SRCS)

$(B)/host/pcielink: $(call objects,host,$(PCIELINK_SRCS))
	$(call say,LINK,$@)
	$(Q)$(host_CC) $(host_CFLAGS) $^ -o $@

# The rack's Ethernet switch.
$(B)/host/fabric: $(call objects,host,$(FABRIC_SRCS))
	$(call say,LINK,$@)
	$(Q)$(host_CC) $(host_CFLAGS) $^ -o $@

# What a person calls to look into a board (docs/SNICCTL.md).
SNICCTL_SRCS := $(wildcard host_tools/snicctl/*.c)
SNICCTL_LIBS := -lncursesw -ltinfo -libverbs $(HOST_LIBS)

$(B)/host/snicctl: $(call objects,host,$(SNICCTL_SRCS))
	$(call say,LINK,$@)
	$(Q)$(host_CC) $(host_CFLAGS) $^ $(SNICCTL_LIBS) -o $@

# The tool as it will be when messages have another version, for tests: today's boards are too old.
$(B)/host/next/spec/mgmt.h: firmware/spec/mgmt.h
	$(Q)mkdir -p $(@D)
	$(Q)sed -E 's/^(#define MGMT_(MIN_)?VERSION +)1u/\12u/' $< >$@

$(B)/host/snicctl-next: $(SNICCTL_SRCS) $(wildcard host_tools/snicctl/*.h) $(B)/host/next/spec/mgmt.h
	$(call say,CC,$@)
	$(Q)$(host_CC) -I$(B)/host/next $(host_CFLAGS) $(SNICCTL_SRCS) \
		$(SNICCTL_LIBS) -o $@

# A board that answers it, for tests.
$(B)/host/fake_board: $(call objects,host,$(wildcard tests/host_tools/*.c) \
                        host_tools/snicctl/message.c)
	$(call say,LINK,$@)
	$(Q)$(host_CC) $(host_CFLAGS) $^ -o $@

NATIVE_TESTS := $(B)/host/vfu_check $(B)/host/vfu_perf $(B)/host/step_count

$(NATIVE_TESTS): $(B)/host/%: $(call objects,host,tests/native/vfu_client.c) \
                 $(B)/host/obj/tests/native/%.o
	$(call say,LINK,$@)
	$(Q)$(host_CC) $(host_CFLAGS) $^ -o $@

# The endpoint's benchmark as a plain program, for tools that count instructions.
$(B)/native/bench_ep: $(call objects,native,tests/bench/native.c tests/bench/bench_ep.c $(FW_SRCS) \
                        $(NATIVE_HAL) $(EP_SRCS))
	$(call say,LINK,$@)
	$(Q)$(native_CC) $(native_CFLAGS) $^ $(HOST_LIBS) -o $@

# Memory and queue pairs with many volumes and associations.
$(B)/native/scale: $(call objects,native,tests/bench/scale.c $(WIRE_SRCS) $(wildcard tests/model/*.c) \
                     $(FW_SRCS) $(NATIVE_HAL) $(EP_SRCS))
	$(call say,LINK,$@)
	$(Q)$(native_CC) $(native_CFLAGS) $^ $(HOST_LIBS) -o $@

# --- unit tests: each tests/unit/<module>/test_<file>.c is one CMocka program --------------------

UNIT_TESTS := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/*/test_*.c))
UNIT_LIB_SRCS := $(FW_SRCS) $(filter-out %/main.c,$(APP_SRCS)) $(NATIVE_HAL) $(EP_SRCS) \
                 $(wildcard $(addprefix boards/qemu-virt/,ctl/*.c pcielink/*.c fabric/*.c))
UNIT_LIB_SRCS := $(filter-out boards/qemu-virt/%/main.c,$(UNIT_LIB_SRCS))
# What of the bootloader knows no hardware.
UNIT_LIB_SRCS += firmware/bootloader/choose.c firmware/bootloader/place.c
# What unit tests, fuzzers and simulations share.
UNIT_LIB_SRCS += $(WIRE_SRCS) $(wildcard tests/model/*.c) $(B)/test_images/images.c
unit_shared = $(filter-out tests/unit/$(1)/test_%,$(wildcard tests/unit/$(1)/*.c))

# Images, signed by mkimage.
$(B)/test_images/images.c: tests/model/make_images.py boards/keys/make_key.py $(DEVELOPMENT_KEY) \
                           tests/data/keys/other.key
	$(call say,IMAGES,$@)
	@mkdir -p $(@D)
	$(Q)$(PY) tests/model/make_images.py $@

# What the programs of one module need beside the library.
unit_more_host_tools := $(filter-out %/main.c %/target.c %/share.c %/args.c %/commands.c %/image_make.c \
                          %/slots.c %/program.c %/trace_view.c \
                          host_tools/snicctl/cmd_%,$(SNICCTL_SRCS)) \
                        tests/host_tools/fake.c tests/host_tools/fake_act.c \
                        tests/host_tools/fake_records.c tests/host_tools/fake_trace.c

define unit_rules
$(B)/$(1)/libsnic.a: $$(call objects,$(1),$(UNIT_LIB_SRCS))
	$$(call say,AR,$$@)
	$(Q)rm -f $$@ && ar rcs $$@ $$^
endef
$(foreach c,unit unit-clang unit-tsan sim fuzz,$(eval $(call unit_rules,$(c))))

# $(1) configuration, $(2) module/test_file, $(3) module
define unit_program
$(B)/$(1)/bin/$(2): $$(call objects,$(1),tests/unit/$(2).c $(call unit_shared,$(3)) $(unit_more_$(3))) $(B)/$(1)/libsnic.a
	$$(call say,LINK,$$@)
	@mkdir -p $$(@D)
	$(Q)$$($(1)_CC) $$($(1)_CFLAGS) $$(filter %.o,$$^) $(B)/$(1)/libsnic.a $(HOST_LIBS) -lcmocka -o $$@
endef
$(foreach c,unit unit-clang,$(foreach t,$(UNIT_TESTS), \
    $(eval $(call unit_program,$(c),$(t),$(firstword $(subst /, ,$(t)))))))

# Programs in which threads meet run under ThreadSanitizer too.
TSAN_TESTS := $(filter native/% sched/test_msg sched/test_idle nvme/test_parallel nvme_ep/test_threads vol/test_threads vfu/% pcie_ep_link/%,$(UNIT_TESTS))
$(foreach t,$(TSAN_TESTS), \
    $(eval $(call unit_program,unit-tsan,$(t),$(firstword $(subst /, ,$(t))))))

UNIT_PROGRAMS       := $(UNIT_TESTS:%=$(B)/unit/bin/%)
UNIT_CLANG_PROGRAMS := $(UNIT_TESTS:%=$(B)/unit-clang/bin/%)
UNIT_TSAN_PROGRAMS  := $(TSAN_TESTS:%=$(B)/unit-tsan/bin/%)

.PHONY: unit
unit: ## Run one unit test program: make unit T=module/test_file
	@test -n "$(T)" || { echo "usage: make unit T=module/test_file"; exit 2; }
	@$(MAKE) $(B)/unit/bin/$(T)
	$(Q)$(B)/unit/bin/$(T)

# --- fuzz targets ------------------------------------------------------------------------------

FUZZERS := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_SHARED := $(filter-out tests/fuzz/fuzz_%,$(wildcard tests/fuzz/*.c))
FUZZ_SECONDS ?= 600

define fuzz_program
$(B)/fuzz/bin/$(1): $$(call objects,fuzz,tests/fuzz/$(1).c $(FUZZ_SHARED)) $(B)/fuzz/libsnic.a
	$$(call say,LINK,$$@)
	@mkdir -p $$(@D)
	$(Q)$$(fuzz_CC) $$(fuzz_CFLAGS) -fsanitize=fuzzer $$^ $(HOST_LIBS) -o $$@
endef
$(foreach f,$(FUZZERS),$(eval $(call fuzz_program,$(f))))

.PHONY: fuzz
fuzz: deps ## Fuzz every target for FUZZ_SECONDS each (600)
	@$(MAKE) -j2 $(FUZZERS:%=$(B)/fuzz/bin/%)
	$(Q)$(PY) tests/run.py fuzz --seconds $(FUZZ_SECONDS) $(FUZZERS:%=$(B)/fuzz/bin/%)

# --- simulation, many seeds: two or three RoCEv2 devices over a wire that harms frames; the whole path
# from a host's queues to a target

SIM_SRCS := $(filter-out $(WIRE_SRCS),$(wildcard tests/sim/*.c))
SIM_PATH_SRCS := tests/sim/sim_main.c $(wildcard tests/sim/path/*.c)
SEEDS ?= 1..10000
PATH_SEEDS ?= 1..1000

$(B)/sim/sim_rdma: $(call objects,sim,$(SIM_SRCS)) $(B)/sim/libsnic.a
	$(call say,LINK,$@)
	$(Q)$(sim_CC) $(sim_CFLAGS) $^ $(HOST_LIBS) -o $@

$(B)/sim/sim_path: $(call objects,sim,$(SIM_PATH_SRCS)) $(B)/sim/libsnic.a
	$(call say,LINK,$@)
	$(Q)$(sim_CC) $(sim_CFLAGS) $^ $(HOST_LIBS) -o $@

.PHONY: sim
sim: deps ## Simulate RDMA, and the whole path: make sim SEEDS=1..10000 PATH_SEEDS=1..1000
	@$(MAKE) -j2 $(B)/sim/sim_rdma $(B)/sim/sim_path
	$(Q)$(B)/sim/sim_rdma --seeds $(SEEDS)
	$(Q)$(B)/sim/sim_path --seeds $(PATH_SEEDS)

RACK_NEEDS := $(B)/qemu-virt/snic.elf $(FLASH_IMAGES) $(B)/host/pcielink $(B)/host/fabric

# --- what a person calls -----------------------------------------------------------------------

FIRMWARE_IMAGES ?=

.PHONY: all deps check check-quick demo rack bench size format tidy clean help

all: deps ## Build the firmware (gcc and clang), the native board, host programs
	@$(MAKE) -j2 build-all

.PHONY: build-all
build-all: $(FIRMWARE_IMAGES) $(B)/native/snic $(B)/native-clang/snic $(B)/native-ibv/snic \
           $(B)/host/pcielink $(B)/host/fabric $(B)/host/snicctl $(B)/host/snicctl-next \
           $(B)/host/fake_board \
           $(B)/host/ibv_check $(B)/native/scale $(NATIVE_TESTS)

deps: ## Install or fetch what is missing (as root or by sudo), by package name
	$(Q)$(PY) boards/deps/deps.py install

check-quick: deps ## Unit tests with sanitizers, include rules, style: seconds
	@$(MAKE) -j2 $(UNIT_PROGRAMS) $(B)/sim/sim_rdma $(B)/sim/sim_path
	$(Q)$(PY) tests/run.py quick $(UNIT_PROGRAMS)

check: deps ## All tests: both compilers, both architectures, fuzzers, QEMU board, rack
	$(Q)$(PY) boards/deps/deps.py get newlib libfdt libbearssl qemu guest-6.12 guest-6.1 > /dev/null
	@$(MAKE) -j2 $(UNIT_PROGRAMS) $(UNIT_CLANG_PROGRAMS) $(UNIT_TSAN_PROGRAMS) \
	    $(FUZZERS:%=$(B)/fuzz/bin/%) $(B)/sim/sim_rdma $(B)/sim/sim_path build-all
	$(Q)$(PY) tests/run.py all --unit $(UNIT_PROGRAMS) --unit-clang $(UNIT_CLANG_PROGRAMS) \
	    --unit-tsan $(UNIT_TSAN_PROGRAMS) --fuzz $(FUZZERS:%=$(B)/fuzz/bin/%)

demo: deps ## The main job, shown: a Linux host uses remote drives through the SmartNIC
	@$(MAKE) -j2 $(RACK_NEEDS)
	$(Q)$(PY) boards/qemu-virt/rack/demo.py

BENCH_NEEDS := $(B)/qemu-virt/bench.elf $(B)/qemu-virt-stages/bench.elf $(B)/native/bench_ep

bench: deps ## Instructions per I/O against the budgets, sizes, rates
	@$(MAKE) -j2 $(BENCH_NEEDS) build-all
	$(Q)$(PY) tests/bench/run.py

size: deps ## Sizes of the firmware against the budgets
	@$(MAKE) -j2 $(FIRMWARE_IMAGES)
	$(Q)$(PY) tests/bench/run.py size

RACK ?=

rack: deps ## Start the rack and leave it running; RACK="--target": with an NVMe-oF target
	@$(MAKE) -j2 $(RACK_NEEDS)
	$(Q)$(PY) boards/qemu-virt/rack/up.py $(RACK)

format: ## Format the sources
	$(Q)git ls-files '*.c' '*.h' | xargs clang-format -i

tidy: ## Include rules, style, barriers
	$(Q)$(PY) tests/run.py tidy

clean: ## Remove build/ (the cache folder stays)
	rm -rf $(B)

help: ## This text
	@echo "snic: a SmartNIC that is an NVMe drive to its host. Start with: make demo"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | \
	    awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'
