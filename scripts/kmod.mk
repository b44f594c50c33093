# SPDX-License-Identifier: MIT
#
# The kernel module (kmod-optional/, Kbuild), which nothing else is built with or against: only these targets build it.
# Included by the Makefile at the root; the guests that it runs in are in scripts/kernels.mk.

# The headers of the kernel that it is for; those of the guests' are below build/kernels.
KDIR ?= /lib/modules/$(shell uname -r)/build

## kmod: the kernel module, for the running kernel or KDIR=/lib/modules/VERSION/build, in build/kmod/VERSION
kmod:
	+$(Q)scripts/kmod $(KDIR)

## bench-kmod: what the module is worth, as ratios, measured in Debian's KERNELS='6.1 6.12' under QEMU
bench-kmod: deps
	$(Q)scripts/install-deps kernels
	$(Q)$(MAKE) bench-kmod-built

# One after another: two emulators would be in each other's way.
bench-kmod-built: all $(BUILD)/tests/bench/kmod kmod-guests
	$(Q)for kernel in $(KERNELS); do \
		scripts/kernels --kernels $$kernel --timeout 7200 --measure $(BUILD)/tests/bench/kmod || exit; done

## kmod-guests: the kernel module for each of Debian's KERNELS='6.1 6.12' whose headers apt has
kmod-guests:
	+$(Q)for kdir in $$(scripts/kernel-headers $(KERNELS)); do scripts/kmod $$kdir || exit 1; done

## check-kmod-debug: the module's tests in a kernel with KASAN, lockdep and kmemleak (built first, in some minutes)
check-kmod-debug: deps
	$(Q)scripts/install-deps kmod-debug
	+$(Q)scripts/kernel-debug
	$(Q)$(MAKE) check-kernels-built KERNELS=debug KERNEL_TESTS= KERNEL_BOOT= KERNEL_SECONDS=7200

## check-kmod-style: checkpatch.pl --strict, and sparse with the headers of KERNELS, on the kernel module
check-kmod-style: deps
	$(Q)scripts/install-deps kernels
	+$(Q)scripts/kmod-style $$(scripts/kernel-headers $(KERNELS))
