# SPDX-License-Identifier: MIT
#
# Thaw: libthaw (uffd/), the runtime (vm/) and their tests. Everything that is made goes below build/.
#
#	make check	installs what is missing, builds, runs every test
#	make help	all targets
#
# This file has the flags, and what is neither of the library, the engine, the tests nor the kernels; the included files
# have the rest. V=1 shows the commands, WERROR=1 makes warnings errors, CC=clang and CFLAGS=... do what they always do.
# asan, tsan and coverage are this same file over another BUILD directory with other flags (SANITIZE, COVERAGE);
# what is generated (the engine's C, the npm packages, the kernel's test harness) is shared.

ifeq ($(origin CC),default)
CC := gcc
endif
MAKEFLAGS += --no-builtin-rules --no-print-directory
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

VERSION := 0.1
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
ZSH_COMPLETIONS ?= $(PREFIX)/share/zsh/site-functions
BUILD ?= build
GENERATED := build/js
HARNESS := build/harness
NPM := build/npm
SANITIZE ?=
COVERAGE ?=
# Where another architecture's libraries and headers are; CC and AR are its own then (scripts/kernels.mk).
SYSROOT ?=

ifneq ($(V),1)
Q := @
say = @printf '  %-7s %s\n' $(1) $(2);
endif

.PHONY: all deps tests style format install install-built deb check-deb clean distclean help FORCE \
	check check-built check-user check-user-built check-seccomp check-seccomp-built \
	check-exec check-exec-built crash-exec crash-exec-built crash crash-built power-cuts power-cuts-built demo demo-built \
	bench bench-built bench-quick bench-quick-built bench-programs bench-exec \
	asan sanitized tsan tsan-built coverage coverage-built fuzz fuzz-built \
	arm64 arm64-kernels check-kernels check-kernels-full check-kernels-built check-systemd \
	kmod kmod-guests check-kmod-style check-kmod-debug bench-kmod bench-kmod-built

# ---- Flags

MACHINE := $(shell $(CC) -dumpmachine 2>/dev/null)
ARCHITECTURE := $(firstword $(subst -, ,$(MACHINE)))

ifneq ($(SYSROOT),)
PKG_CONFIG := PKG_CONFIG_LIBDIR=$(SYSROOT)/usr/lib/$(MACHINE)/pkgconfig PKG_CONFIG_SYSROOT_DIR=$(SYSROOT) pkg-config
else
PKG_CONFIG := pkg-config
endif
PACKAGES := liburing libuv libedit libxxhash libsodium liblz4 libzstd
PACKAGE_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PACKAGES) 2>/dev/null)
PACKAGE_LIBS := $(shell $(PKG_CONFIG) --libs $(PACKAGES) 2>/dev/null)

CFLAGS ?= -O2 -g
LDFLAGS ?=
WARNINGS := -Wall -Wextra
ifeq ($(WERROR),1)
WARNINGS_FATAL := -Werror
endif
BASE_CFLAGS := -std=gnu11 $(WARNINGS) -pthread -DTHAW_VERSION='"$(VERSION)"' $(PACKAGE_CFLAGS)

ifneq ($(SYSROOT),)
BASE_CFLAGS += --sysroot=$(SYSROOT)
LDFLAGS += --sysroot=$(SYSROOT)
endif
ifneq ($(SANITIZE),)
BASE_CFLAGS += -fsanitize=$(SANITIZE) -fno-omit-frame-pointer
LDFLAGS += -fsanitize=$(SANITIZE)
endif
ifneq ($(COVERAGE),)
BASE_CFLAGS += --coverage -fprofile-update=atomic
LDFLAGS += --coverage
endif

# The recipe of a file that changes only when what it says changes.
define write_if_changed
$(Q)mkdir -p $(@D)
$(Q)echo '$(subst ','\'',$(1))' | cmp -s - $@ || echo '$(subst ','\'',$(1))' > $@
endef

# ---- What is built. A line of `make help` is a comment that begins with '## TARGET:', beside its target.

## : build/thaw, build/libthaw.a, build/libthaw.so, build/libthawvm.so, the addon for Node.js (scripts/install-deps comes first)
all: $(BUILD)/thaw $(BUILD)/libthaw.a $(BUILD)/libthaw.so $(BUILD)/libthawvm.so $(BUILD)/vm/process/modules/node/thaw.node

## deps: install what is missing (scripts/install-deps)
deps:
	$(Q)scripts/install-deps

include uffd/library.mk
include vm/engine.mk
include vm/embed/node/package.mk
include vm/embed/python/package.mk
include vm/embed/go/package.mk
include tests/tests.mk
include tests/instrumented.mk
include scripts/kernels.mk
include scripts/kmod.mk

# The flags (and where this is, which the tests are told), and the list of sources.
$(BUILD)/flags: FORCE
	$(call write_if_changed,$(CC) $(BASE_CFLAGS) $(VM_CFLAGS) $(CFLAGS) $(LDFLAGS) $(CURDIR))

$(BUILD)/sources: FORCE
	$(call write_if_changed,$(LIB_SOURCES) $(VM_SOURCES) $(VM_ASSEMBLY) $(MANUAL))

# ---- Style

STYLED := $(wildcard uffd/*.[ch] uffd/*/*.[ch] vm/*.[ch] vm/*/*.[ch] vm/*/*/*.[ch] tests/*.[ch] tests/*/*.[ch])

## style: does every file follow .clang-format?
style:
	$(Q)if command -v clang-format >/dev/null; then clang-format --dry-run -Werror $(STYLED); \
		else echo "style: clang-format is not installed; nothing was checked"; fi

## format: make every file follow .clang-format
format:
	$(Q)clang-format -i $(STYLED)

# ---- Installing and cleaning

PC_FILLED = 's,@PREFIX@,$(PREFIX),; s,@LIBDIR@,$(LIBDIR:$(PREFIX)/%=$${prefix}/%),; s,@VERSION@,$(VERSION),'

## install: to PREFIX=/usr/local, below DESTDIR
install: all
	$(Q)$(MAKE) install-built

install-built: $(LIBRARY_LICENSES)
	install -Dm755 $(BUILD)/thaw $(DESTDIR)$(PREFIX)/bin/thaw
	install -Dm644 $(BUILD)/libthaw.a $(DESTDIR)$(LIBDIR)/libthaw.a
	install -Dm755 $(BUILD)/libthaw.so $(DESTDIR)$(LIBDIR)/libthaw.so.0
	ln -sf libthaw.so.0 $(DESTDIR)$(LIBDIR)/libthaw.so
	install -Dm644 uffd/thaw.h $(DESTDIR)$(PREFIX)/include/thaw.h
	install -Dm644 uffd/thaw_process.h $(DESTDIR)$(PREFIX)/include/thaw_process.h
	install -Dm644 uffd/thaw_frozen.h $(DESTDIR)$(PREFIX)/include/thaw_frozen.h
	install -Dm644 uffd/thaw_mirror.h $(DESTDIR)$(PREFIX)/include/thaw_mirror.h
	install -Dm644 uffd/thaw_fill.h $(DESTDIR)$(PREFIX)/include/thaw_fill.h
	install -Dm644 uffd/thaw_image.h $(DESTDIR)$(PREFIX)/include/thaw_image.h
	install -dm755 $(DESTDIR)$(LIBDIR)/pkgconfig
	sed $(PC_FILLED) uffd/thaw.pc.in >$(DESTDIR)$(LIBDIR)/pkgconfig/thaw.pc
	install -Dm755 $(BUILD)/libthawvm.so $(DESTDIR)$(LIBDIR)/libthawvm.so.0
	ln -sf libthawvm.so.0 $(DESTDIR)$(LIBDIR)/libthawvm.so
	install -Dm644 vm/embed/thaw_vm.h $(DESTDIR)$(PREFIX)/include/thaw_vm.h
	sed $(PC_FILLED) vm/embed/thawvm.pc.in >$(DESTDIR)$(LIBDIR)/pkgconfig/thawvm.pc
	install -dm755 $(DESTDIR)$(PREFIX)/share/doc/thaw/examples
	install -m644 $(wildcard vm/embed/examples/*.c) $(DESTDIR)$(PREFIX)/share/doc/thaw/examples/
	install -Dm644 $(LIBRARY_LICENSES) $(DESTDIR)$(PREFIX)/share/doc/thaw/LICENSES.npm
	install -Dm644 vm/js/api/thaw.d.ts $(DESTDIR)$(PREFIX)/share/thaw/thaw.d.ts
	install -Dm644 $(ENGINE_SHARED) $(DESTDIR)$(PREFIX)/lib/thaw/engines/$(ENGINE_HASH).so
	install -dm755 $(DESTDIR)$(PREFIX)/lib/thaw/node
	install -m644 $(addprefix vm/process/modules/node/,index.js index.d.ts package.json) $(BUILD)/vm/process/modules/node/thaw.node \
		$(DESTDIR)$(PREFIX)/lib/thaw/node/
	install -Dm644 $(NODE_VM_ADDON) $(DESTDIR)$(PREFIX)/lib/thaw/node-vm/$(NODE_PLATFORM)/thaw_vm.node
	install -m644 $(addprefix $(NODE_OUT)/package/,$(notdir $(NODE_FILES)) LICENSES) $(DESTDIR)$(PREFIX)/lib/thaw/node-vm/
	install -Dm644 vm/process/modules/python/thaw.py $(DESTDIR)$(PREFIX)/lib/thaw/python/thaw.py
	install -dm755 $(DESTDIR)$(PREFIX)/lib/thaw/python/thaw_vm
	install -m644 $(PYTHON_FILES) $(DESTDIR)$(PREFIX)/lib/thaw/python/thaw_vm/
	install -dm755 $(DESTDIR)$(PREFIX)/lib/thaw/go/thawvm
	install -m644 $(GO_FILES) $(DESTDIR)$(PREFIX)/lib/thaw/go/thawvm/
	install -dm755 $(DESTDIR)$(PREFIX)/share/man/man3
	awk -f uffd/manual.awk uffd/thaw.h uffd/thaw_image.h uffd/thaw_process.h uffd/thaw_frozen.h uffd/thaw_mirror.h uffd/thaw_fill.h \
		uffd/thaw.3 \
		>$(DESTDIR)$(PREFIX)/share/man/man3/thaw.3
	awk -f uffd/manual.awk vm/embed/thaw_vm.h vm/embed/thaw_vm.3 >$(DESTDIR)$(PREFIX)/share/man/man3/thaw_vm.3
	cd $(DESTDIR)$(PREFIX)/share/man/man3 && for page in thaw thaw_vm; do for function in \
		$$(sed -n 's/^\.It Ft "[^"]*" Fn \(thaw_[a-z_]*\).*/\1/p' $$page.3); do echo ".so man3/$$page.3" >$$function.3; done; done
	$(BUILD)/thaw help --write $(DESTDIR)$(PREFIX)/share/man
	install -dm755 $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's,@BINDIR@,$(PREFIX)/bin,' scripts/thaw@.service.in >'$(DESTDIR)$(PREFIX)/lib/systemd/system/thaw@.service'
	install -dm755 $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(ZSH_COMPLETIONS) \
		$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(BUILD)/thaw completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/thaw
	$(BUILD)/thaw completion zsh >$(DESTDIR)$(ZSH_COMPLETIONS)/_thaw
	$(BUILD)/thaw completion fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/thaw.fish

## deb: the Debian packages thaw, thaw-engine-HASH, libthaw0, libthawvm0 and their -dev, in build/deb
deb:
	$(Q)scripts/install-deps deb
	$(Q)$(MAKE) all
	$(Q)scripts/deb

## check-deb: build them twice, the same bytes, and try them in a new Debian (needs root, some minutes)
check-deb:
	$(Q)scripts/install-deps deb
	$(Q)$(MAKE) all
	$(Q)scripts/check-deb

## clean: remove what was built; the generated engine, npm packages and harness stay
clean:
	$(Q)scripts/ceph stop
	$(Q)rm -rf $(filter-out $(NPM) $(HARNESS) $(GENERATED) build/kernels build/arm64-debian build/install-deps.lock,$(wildcard build/*))

## distclean: remove all of build/
distclean:
	$(Q)scripts/ceph stop
	$(Q)rm -rf build

## help: this
help:
	@sed -n 's/^## //p' $(filter-out %.d,$(MAKEFILE_LIST)) | \
		awk -F': ' '{ printf "make %-20s %s\n", $$1, substr($$0, length($$1) + 3) }'
	@echo "variables: V=1 WERROR=1 CC=clang CFLAGS='-O3 -g' BUILD=directory"
