# SPDX-License-Identifier: MIT
#
# arm64, and tests inside of stock Debian kernels, which QEMU emulates (some twenty times slower than this machine).
# Included by the Makefile at the root.

# Which kernels; arm64:6.1, arm64:6.12 and arm64:6.12-16k are more of them.
KERNELS ?= 6.1 6.12
KERNEL_SECONDS ?= 900
# Those that depend on the kernel most and need least time: some nine minutes. The others (a gibibyte of JavaScript,
# thousands of commits) are for check-kernels-full, which takes hours.
KERNEL_TESTS := ladder_choice heap_touch privileges install_classify write_tracking restore_lazy restore_damaged \
	heap_persists page_sizes heap_open_errors heap_address heap_faults sparse_region generation_kinds working_set checkpoint_failure \
	stack_switch turn_stopping turn_trust javascript_traps javascript_working_set image_travels netlink_answers task_delays \
	address_space check_exec exec_command interpreter_kills interrupted_calls kernel_facts output_held process_children process_faults thread_state

# A use after free, an overrun and a leak of the module are found by these kernels, too; of all memory, this would take
# 22 % more time instead of 7 %.
KERNEL_BOOT ?= slub_debug=FZPU,thaw_*,kmalloc-*

# These run again with the module loaded; then they use it, or fail.
KERNEL_MODULE_TESTS := $(notdir $(basename $(wildcard tests/kmod/*.c))) write_tracking restore_lazy restore_damaged \
	heap_persists working_set javascript_transcript

# Debian's cross compiler and arm64's packages. What was made runs in check-kernels (KERNELS=arm64:6.12).
ARM64_SYSROOT := $(CURDIR)/build/arm64-debian/root
ARM64_MAKE = $(MAKE) BUILD=build/arm64 CC=aarch64-linux-gnu-gcc AR=aarch64-linux-gnu-ar SYSROOT=$(ARM64_SYSROOT)

## arm64: thaw, libthaw and the tests for arm64, cross-compiled, in build/arm64
arm64: deps
	$(Q)scripts/install-deps arm64
	$(Q)scripts/arm64-sysroot
	+$(Q)$(ARM64_MAKE) all tests

## check-kernels: tests that depend on the kernel, and the module's, in Debian's KERNELS='6.1 6.12' under QEMU (arm64:6.12-16k: of arm64)
check-kernels: deps
	$(Q)scripts/install-deps kernels
	$(Q)$(MAKE) check-kernels-built

## check-kernels-full: all tests there, which takes hours
check-kernels-full: deps
	$(Q)scripts/install-deps kernels
	$(Q)$(MAKE) check-kernels-built KERNEL_TESTS='$(TESTS:$(BUILD)/tests/%=%)' KERNEL_SECONDS=7200

check-kernels-built: all $(sort $(KERNEL_TESTS:%=$(BUILD)/tests/%) $(KERNEL_MODULE_TESTS:%=$(BUILD)/tests/%)) kmod-guests \
		$(if $(filter arm64:%,$(KERNELS)),arm64-kernels)
	$(Q)scripts/kernels --kernels "$(KERNELS)" --timeout $(KERNEL_SECONDS) --boot "$(KERNEL_BOOT)" \
		--module "$(KERNEL_MODULE_TESTS:%=$(BUILD)/tests/%)" $(KERNEL_TESTS:%=$(BUILD)/tests/%)

## check-systemd: thaw@.service under a systemd that runs, with kills and a power cut, in a new Debian under QEMU (needs root)
check-systemd: deps
	$(Q)scripts/install-deps systemd
	$(Q)$(MAKE) all
	$(Q)scripts/check-systemd

arm64-kernels:
	$(Q)scripts/install-deps arm64-kernels
	$(Q)scripts/arm64-sysroot
	+$(Q)$(ARM64_MAKE) all $(KERNEL_TESTS:%=build/arm64/tests/%)
