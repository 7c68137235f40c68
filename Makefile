# SPDX-License-Identifier: Apache-2.0
#
# Mayfly's one Makefile: no configure step, no recursion. `make help` lists what can be asked for.
# New files need no edit here: a folder's *.c belong to its program, tests/unit/test_*.c and tests/fuzz/fuzz_*.c are found.
#
#   V=1 show commands   WERROR=1 warnings are errors   DESTDIR=, prefix= for install   T=, S= one fuzz target, seconds

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:
MAKEFLAGS += --no-builtin-rules
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
endif

comma := ,
B := build
prefix ?= /usr/local
bindir ?= $(prefix)/bin
DEPS ?= build
S ?= 60

# ---- Debian packages: the one list (make deps; make deps DEPS=test) ------------------------------------------------
PACKAGES_build := gcc make pkg-config libc6-dev musl-dev linux-libc-dev libjansson-dev node-llhttp liburing-dev \
	libseccomp-dev libcap-dev libarchive-dev libext2fs-dev
PACKAGES_test := $(PACKAGES_build) git libcmocka-dev clang libclang-rt-14-dev qemu-system-x86 qemu-system-common \
	fio iperf3 passt iproute2 \
	busybox-static xz-utils zstd cpio kmod util-linux curl socat jq e2fsprogs dmsetup procps python3 \
	bc bison flex libelf-dev libssl-dev linux-source-6.12 rsync
PACKAGES := $(PACKAGES_$(DEPS))

# ---- Sources -------------------------------------------------------------------------------------------------------
VMM_SRC := $(sort $(wildcard vmm/*.c vmm/*/*.c virtio/*.c api-socket/*.c))
JAILER_SRC := $(sort $(wildcard jailer/*.c))
ROOTFS_SRC := $(sort $(wildcard rootfs-builder/*.c rootfs-builder/kernel/*.c rootfs-builder/image/*.c))
INIT_SRC := $(sort $(wildcard rootfs-builder/init/*.c))
CLI_SRC := $(sort $(wildcard cli/*.c cli/*/*.c cli/*/*.S))
BASE_SRC := $(sort $(wildcard vmm/base/*.c))
UNIT_SRC := $(sort $(wildcard tests/unit/test_*.c))
FUZZ_SRC := $(sort $(wildcard tests/fuzz/fuzz_*.c))

# What tests link with: everything but the main functions.
LIB_SRC := $(filter-out %/main.c,$(VMM_SRC) $(JAILER_SRC) $(ROOTFS_SRC) $(CLI_SRC) $(wildcard tests/lib/*.c))

# llhttp: a library from Debian 13 on, its C sources (package node-llhttp) on Debian 12.
LLHTTP_PC := $(shell pkg-config --exists libllhttp 2>/dev/null && echo yes)
ifeq ($(LLHTTP_PC),yes)
LLHTTP_CFLAGS := $(patsubst -I%,-isystem %,$(shell pkg-config --cflags libllhttp))
LLHTTP_LIBS := $(shell pkg-config --libs libllhttp)
else
LLHTTP_CFLAGS := -isystem /usr/share/include/llhttp
LLHTTP_OBJ := llhttp/api.o llhttp/http.o llhttp/llhttp.o
endif

# ---- Flags ---------------------------------------------------------------------------------------------------------
CC := gcc
CLANG ?= clang
OPT ?= -O2
CPPFLAGS := -D_GNU_SOURCE -I. $(LLHTTP_CFLAGS)
WARN := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wvla -Wstrict-prototypes -Wmissing-prototypes \
	-Wswitch-enum -Wimplicit-fallthrough -Wcast-qual -Wundef $(if $(WERROR),-Werror)
COMMON := -std=gnu11 -g -fno-strict-aliasing -fno-delete-null-pointer-checks -ffunction-sections -fdata-sections \
	-pthread -MMD -MP
HARDEN := -fstack-protector-strong -fstack-clash-protection -fcf-protection=full -D_FORTIFY_SOURCE=3 \
	-ftrivial-auto-var-init=zero -fPIE -fno-asynchronous-unwind-tables
LINK := -pthread -Wl,--gc-sections -Wl,-z,relro,-z,now,-z,noexecstack

# Variants: each source can be compiled in five ways, into build/obj/<variant>/. static: with musl, for the programs that
# are linked statically (a third of glibc's size, and half its time from exec to main). MAYFLY_CHECKED: slow checks in the code.
VARIANTS := static release asan tsan fuzz
MUSL := /usr/lib/x86_64-linux-musl
# Asked once, and quietly: `make deps` runs before there is a compiler.
gcc_file = $(shell $(CC) -print-file-name=$(1) 2>/dev/null)
GCC_INCLUDE := $(call gcc_file,include)
LIBGCC := $(shell $(CC) -print-libgcc-file-name 2>/dev/null)
LIBJANSSON := $(call gcc_file,libjansson.a)
LIBCAP := $(call gcc_file,libcap.a)
LIBURING := $(call gcc_file,liburing.a)
LIBLLHTTP := $(if $(LLHTTP_LIBS),$(call gcc_file,libllhttp.a))
static_CC := $(CC)
static_CFLAGS := $(OPT) $(filter-out -D_FORTIFY_SOURCE=%,$(HARDEN)) -nostdinc -isystem /usr/include/x86_64-linux-musl \
	-isystem $(GCC_INCLUDE) -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu
# No unwind tables (vmm/no-unwind.ld says why); libraries by their full names, because none of glibc's may slip in.
static_LINK := $(LINK) -static-pie -nostdlib -Wl,--no-eh-frame-hdr -Wl,-T,vmm/no-unwind.ld
static_LIBC := $(MUSL)/libc.a $(LIBGCC) $(MUSL)/crtn.o
release_CC := $(CC)
release_CFLAGS := $(OPT) $(HARDEN)
release_LINK := $(LINK) -pie
asan_CC := $(CC)
asan_CFLAGS := -O1 -fPIE -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all -DMAYFLY_CHECKED
asan_LINK := $(LINK) -pie -fsanitize=address,undefined
tsan_CC := $(CC)
tsan_CFLAGS := -O1 -fPIE -fno-omit-frame-pointer -fsanitize=thread -DMAYFLY_CHECKED
tsan_LINK := $(LINK) -pie -fsanitize=thread
fuzz_CC := $(CLANG)
fuzz_CFLAGS := -O1 -fPIE -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined \
	-fno-sanitize-recover=all -DMAYFLY_CHECKED
fuzz_LINK := -pthread -pie -fsanitize=fuzzer,address,undefined

# liburing's archive: Debian 12's shared library does not export all of its functions.
VMM_LIBS := -ljansson $(LIBURING) $(LLHTTP_LIBS)
ROOTFS_LIBS := -larchive -lext2fs -lcom_err -lz
TEST_LIBS := -Wl,--as-needed -lcmocka $(VMM_LIBS) $(ROOTFS_LIBS)

# ---- Rules ---------------------------------------------------------------------------------------------------------
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-7s %s\n' '$(1)' '$(2)')
obj = $(patsubst %,$(B)/obj/$(1)/%.o,$(basename $(2))) $(addprefix $(B)/obj/$(1)/,$(3))

define variant_rules
$(B)/obj/$(1)/%.o: %.c Makefile
	$$(call say,CC,$$< $(if $(filter release,$(1)),,[$(1)]))
	@mkdir -p $$(@D)
	$(Q)$$($(1)_CC) $(CPPFLAGS) $(COMMON) $(WARN) $$($(1)_CFLAGS) -c -o $$@ $$<

$(B)/obj/$(1)/%.o: %.S Makefile
	$$(call say,AS,$$<)
	@mkdir -p $$(@D)
	$(Q)$$($(1)_CC) -I. -MMD -MP -c -o $$@ $$<

# Third-party code, with the hardening but not the warnings.
$(B)/obj/$(1)/llhttp/%.o: /usr/share/llhttp/%.c Makefile
	$$(call say,CC,$$<)
	@mkdir -p $$(@D)
	$(Q)$$($(1)_CC) $(CPPFLAGS) $(COMMON) -w $$($(1)_CFLAGS) -c -o $$@ $$<

$(B)/obj/$(1)/libmayfly.a: $(call obj,$(1),$(LIB_SRC),$(LLHTTP_OBJ))
	$$(call say,AR,$$@)
	$(Q)rm -f $$@.new && ar rcs $$@.new $$^ && mv $$@.new $$@

# Unit tests: build/<variant>/test_<module>.
$(B)/$(1)/test_%: $(B)/obj/$(1)/tests/unit/test_%.o $(B)/obj/$(1)/libmayfly.a
	$$(call say,LINK,$$@)
	@mkdir -p $$(@D)
	$(Q)$$($(1)_CC) $$($(1)_LINK) -o $$@ $$^ $(TEST_LIBS)

# The monitor under a sanitizer: tests/guest/run takes it with VMM=build/asan/mayfly-vmm.
$(B)/$(1)/mayfly-vmm: $(call obj,$(1),$(VMM_SRC),$(LLHTTP_OBJ))
	$$(call say,LINK,$$@)
	@mkdir -p $$(@D)
	$(Q)$$($(1)_CC) $$($(1)_LINK) -o $$@ $$^ $(VMM_LIBS)
endef
$(foreach v,$(VARIANTS),$(eval $(call variant_rules,$(v))))

# What the assembler reads into these is unknown to -MMD.
EMBEDDED := $(wildcard rootfs-builder/*.config rootfs-builder/kernel/*.config rootfs-builder/kernel/*.sh)
$(foreach v,$(VARIANTS),$(B)/obj/$(v)/rootfs-builder/kernel/configs.o $(B)/obj/$(v)/rootfs-builder/kernel/distro.o): $(EMBEDDED)

# Static programs (monitor, jailer, the guest's init) and dynamic ones, from their objects: name, sources, objects, libraries.
define static_program
$(B)/$(1): $(call obj,static,$(2),$(3)) vmm/no-unwind.ld
	$$(call say,LINK,$$@)
	$(Q)$(CC) $(static_LINK) -o $$@ $(MUSL)/rcrt1.o $(MUSL)/crti.o $$(filter %.o,$$^) $(4) $(static_LIBC)
PROGRAMS += $(if $(strip $(2)),$(B)/$(1))
endef
define program
$(B)/$(1): $(call obj,release,$(2))
	$$(call say,LINK,$$@)
	$(Q)$(CC) $(LINK) -pie -o $$@ $$(filter %.o,$$^) $(3)
PROGRAMS += $(if $(strip $(2)),$(B)/$(1))
endef
$(eval $(call static_program,mayfly-vmm,$(VMM_SRC),$(LLHTTP_OBJ),$(LIBJANSSON) $(LIBURING) $(LIBLLHTTP)))
$(eval $(call static_program,mayfly-jailer,$(if $(JAILER_SRC),$(JAILER_SRC) $(BASE_SRC)),,$(LIBCAP)))
$(eval $(call static_program,mayfly-init,$(INIT_SRC),,))
$(eval $(call program,mayfly-rootfs,$(if $(ROOTFS_SRC),$(ROOTFS_SRC) $(BASE_SRC)),-Wl$(comma)--as-needed $(ROOTFS_LIBS)))
$(eval $(call program,mayfly,$(if $(CLI_SRC),$(CLI_SRC) $(BASE_SRC)),))

# Fuzz targets: with libFuzzer (clang), and as plain programs that replay inputs (gcc, ASan).
$(B)/fuzz/fuzz_%: $(B)/obj/fuzz/tests/fuzz/fuzz_%.o $(B)/obj/fuzz/libmayfly.a
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(fuzz_LINK) -o $@ $^ $(TEST_LIBS)

$(B)/asan/replay_%: $(B)/obj/asan/tests/fuzz/fuzz_%.o $(B)/obj/asan/tests/fuzz/standalone_main.o $(B)/obj/asan/libmayfly.a
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(asan_LINK) -o $@ $^ $(TEST_LIBS)

# Bare-metal guests: tests/guest/<name>/guest.c, each with the small runtime of tests/guest/lib.
GUESTS := $(patsubst tests/guest/%/guest.c,%,$(wildcard tests/guest/*/guest.c))
GUEST_LIB := $(addprefix $(B)/obj/guest/lib/,entry.o $(patsubst tests/guest/lib/%.c,%.o,$(wildcard tests/guest/lib/*.c)))
GUEST_CFLAGS := -std=gnu11 -Os -ffreestanding -fno-pic -mno-red-zone -mgeneral-regs-only -fno-stack-protector \
	-fcf-protection=none -fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns -ffunction-sections \
	-Itests/guest/lib -MMD -MP

$(B)/obj/guest/%.o: tests/guest/%.c Makefile
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(GUEST_CFLAGS) $(WARN) -Wno-cast-qual -c -o $@ $<

$(B)/obj/guest/%.o: tests/guest/%.S Makefile
	$(call say,AS,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) -c -o $@ $<

$(B)/guest/%: $(B)/obj/guest/%/guest.o $(GUEST_LIB) $(B)/obj/guest/lib/entry_pvh.o tests/guest/lib/guest.ld
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -nostdlib -static -no-pie -Wl,--gc-sections,--build-id=none,--no-warn-rwx-segments,-T,tests/guest/lib/guest.ld -o $@ \
		$< $(GUEST_LIB) $(if $(filter %_pvh,$*),$(B)/obj/guest/lib/entry_pvh.o)

UNIT := $(notdir $(UNIT_SRC:.c=))
FUZZ := $(patsubst fuzz_%,%,$(notdir $(FUZZ_SRC:.c=)))
unit_bins = $(addprefix $(B)/$(1)/,$(UNIT))
REPLAY := $(addprefix $(B)/asan/replay_,$(FUZZ))

# ---- What can be asked for -----------------------------------------------------------------------------------------
.PHONY: all deps install check test asan tsan fuzz lab-test bench demo clean help size \
	test-programs guest-programs unit-programs asan-programs tsan-programs replay-programs fuzz-programs

all: $(PROGRAMS) ## build every program into build/

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

deps: ## install the Debian packages that building needs (DEPS=test: that testing needs)
	@tests/tools/deps $(PACKAGES)

install: all ## install the programs below $(DESTDIR)$(prefix)
	install -d $(DESTDIR)$(bindir)
	install -s $(PROGRAMS) $(DESTDIR)$(bindir)

check: unit-programs replay-programs all ## no root, no KVM, under a minute: unit tests, fuzz regressions, style
	@tests/run check

asan: asan-programs replay-programs ## unit tests and fuzz regressions under ASan and UBSan
	@tests/run asan

tsan: tsan-programs ## unit tests under TSan
	@tests/run tsan

fuzz: $(if $(T),$(B)/fuzz/fuzz_$(T),fuzz-programs) ## fuzz T=name for S=seconds (no T: every target)
	@tests/run fuzz '$(T)' '$(S)'

lab-test: all ## guest tests and real guests, in the lab
	@tests/run lab

test: ## everything: packages, build, all tests; ends with "N passed, N failed, N skipped"
	@$(MAKE) --no-print-directory deps DEPS=test
	@tests/run all

bench: all ## the figures of SPEC.md, one JSON line each
	@tests/bench/run --qemu

demo: ## boot a Linux in a microVM, from nothing
	@tests/demo/demo.sh

clean: ## remove build/
	rm -rf $(B)

size: $(B)/mayfly-vmm ## size of the stripped monitor
	@strip -o $(B)/mayfly-vmm.stripped $< && stat -c '%s bytes  %n' $(B)/mayfly-vmm.stripped

unit-programs: $(call unit_bins,release)
asan-programs: $(call unit_bins,asan) $(B)/asan/mayfly-vmm
tsan-programs: $(call unit_bins,tsan) $(B)/tsan/mayfly-vmm
replay-programs: $(REPLAY)
fuzz-programs: $(addprefix $(B)/fuzz/fuzz_,$(FUZZ))
guest-programs: $(addprefix $(B)/guest/,$(GUESTS))
test-programs: all guest-programs unit-programs asan-programs tsan-programs replay-programs fuzz-programs

# Tests print what they want to know of this file with `make print-UNIT`.
print-%:
	@echo '$($*)'

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
