# SPDX-License-Identifier: MIT
#
# Thaw: libthaw (uffd/), the runtime (vm/) and their tests. Everything that is made goes below build/.
#
#	make check	installs what is missing, builds, runs every test
#	make help	the other targets
#
# V=1 shows the commands, WERROR=1 makes warnings errors, CC=clang and CFLAGS=... do what they always do.
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
BUILD ?= build
GENERATED := build/js
HARNESS := build/harness
NPM := build/npm
SANITIZE ?=
COVERAGE ?=
# Where another architecture's libraries and headers are; CC and AR are its own then (see arm64).
SYSROOT ?=

ifneq ($(V),1)
Q := @
say = @printf '  %-7s %s\n' $(1) $(2);
endif

# ---- Flags

MACHINE := $(shell $(CC) -dumpmachine 2>/dev/null)
ARCHITECTURE := $(firstword $(subst -, ,$(MACHINE)))

ifneq ($(SYSROOT),)
PKG_CONFIG := PKG_CONFIG_LIBDIR=$(SYSROOT)/usr/lib/$(MACHINE)/pkgconfig PKG_CONFIG_SYSROOT_DIR=$(SYSROOT) pkg-config
else
PKG_CONFIG := pkg-config
endif
PACKAGES := liburing libuv libedit libxxhash libsodium
PACKAGE_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PACKAGES) 2>/dev/null)
PACKAGE_LIBS := $(shell $(PKG_CONFIG) --libs $(PACKAGES) 2>/dev/null)

CFLAGS ?= -O2 -g
WARNINGS := -Wall -Wextra
ifeq ($(WERROR),1)
WARNINGS_FATAL := -Werror
endif
BASE_CFLAGS := -std=gnu11 $(WARNINGS) -pthread -DTHAW_VERSION='"$(VERSION)"' $(PACKAGE_CFLAGS)
# The VM's stack goes into images: its frames must not hold what differs from process to process. So the binary is
# linked at fixed addresses, without stack canaries, and without the shadow stack that a switch of stacks would
# trip over, or return addresses that are signed with a key of the process (arm64). These come after CFLAGS, whatever a
# distribution puts there; vm/js/engine/stack.c checks that they took.
VM_CFLAGS := -fno-pie -fno-stack-protector \
	$(if $(filter aarch64,$(ARCHITECTURE)),-mbranch-protection=none,-fcf-protection=none)
LIB_CFLAGS := -fPIC -fvisibility=hidden
LDFLAGS ?=
VM_LDFLAGS := -no-pie -pthread -Wl,--build-id=sha1 -Wl,-z,relro,-z,now,-z,noexecstack
VM_LIBS := $(PACKAGE_LIBS) -lm
INCLUDES := -Iuffd -Ivm -I$(GENERATED)

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

# The engine: C out of WebAssembly. Its arithmetic must be WebAssembly's: no contraction into fused multiply-add, no
# folding that changes NaNs or rounding (what wabt asks for). Its warnings are nobody's business.
ENGINE_CC ?= $(CC)
ENGINE_CFLAGS := -std=gnu11 -O2 -w $(SYSROOT:%=--sysroot=%) $(VM_CFLAGS) -ffp-contract=off -frounding-math -fsignaling-nans \
	-fno-strict-aliasing -fno-math-errno

# ---- Sources

LIB_SOURCES := $(wildcard uffd/*.c uffd/*/*.c)
VM_SOURCES := $(filter-out vm/cli/main.c,$(wildcard vm/*/*.c vm/*/*/*.c))
VM_ASSEMBLY := $(wildcard vm/*/*/*.S)
EMBEDDED := $(wildcard vm/js/api/*.js)
TEST_SOURCES := $(wildcard tests/*.c)
BENCH_SOURCES := $(wildcard tests/bench/*.c)

LIB_OBJECTS := $(LIB_SOURCES:%.c=$(BUILD)/%.o)
VM_OBJECTS := $(VM_SOURCES:%.c=$(BUILD)/%.o) $(VM_ASSEMBLY:%.S=$(BUILD)/%.o)
MAIN_OBJECT := $(BUILD)/vm/cli/main.o
# Every build directory of this machine's architecture shares one.
ENGINE := $(GENERATED)$(if $(SYSROOT),/$(ARCHITECTURE))
ENGINE_OBJECT := $(ENGINE)/quickjs.o
TESTS := $(TEST_SOURCES:%.c=$(BUILD)/%)
BENCHES := $(BENCH_SOURCES:%.c=$(BUILD)/%)
WASM := $(NPM)/node_modules/quickjs-wasi/quickjs.wasm

.PHONY: all deps check check-built crash crash-built demo demo-built bench bench-built asan tsan sanitized coverage style format \
	install install-built clean distclean help tests FORCE

all: $(BUILD)/thaw $(BUILD)/libthaw.a $(BUILD)/libthaw.so

# ---- libthaw

$(LIB_OBJECTS): $(BUILD)/%.o: %.c $(BUILD)/flags
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(BASE_CFLAGS) $(LIB_CFLAGS) $(WARNINGS_FATAL) $(CFLAGS) -Iuffd -MMD -MP -c $< -o $@

$(BUILD)/libthaw.a: $(LIB_OBJECTS) $(BUILD)/sources
	$(call say,AR,$@)
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $(LIB_OBJECTS)

# Sanitizers leave symbols to be found at run time, so -z defs is for the plain library.
$(BUILD)/libthaw.so: $(LIB_OBJECTS) $(BUILD)/sources uffd/libthaw.map
	$(call say,LD,$@)
	$(Q)$(CC) -shared -pthread $(LDFLAGS) $(if $(SANITIZE),,-Wl,-z,defs) -Wl,-soname,libthaw.so.0 \
		-Wl,--version-script=uffd/libthaw.map $(LIB_OBJECTS) -luring -lxxhash -o $@

# ---- The engine, once for every build directory of an architecture

$(WASM):
	@echo "make: the npm packages are missing: run scripts/install-deps (make check and make demo do it)" >&2
	@false

$(GENERATED)/quickjs.c: $(WASM)
	$(call say,WASM2C,$@)
	$(Q)mkdir -p $(@D)
	$(Q)wasm2c -n quickjs $< -o $@

$(GENERATED)/quickjs.h: $(GENERATED)/quickjs.c ;

$(ENGINE_OBJECT): $(GENERATED)/quickjs.c $(ENGINE)/flags
	$(call say,CC,"$< (takes most of a minute)")
	$(Q)$(ENGINE_CC) $(ENGINE_CFLAGS) -I$(GENERATED) -c $< -o $@.tmp
	$(Q)mv $@.tmp $@

# ---- The runtime

$(BUILD)/vm/%.o: vm/%.c $(BUILD)/flags | $(GENERATED)/quickjs.h
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(BASE_CFLAGS) $(WARNINGS_FATAL) $(CFLAGS) $(VM_CFLAGS) $(INCLUDES) -MMD -MP -c $< -o $@

$(BUILD)/vm/%.o: vm/%.S $(EMBEDDED) $(BUILD)/flags
	$(call say,AS,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(INCLUDES) -I. -MMD -MP -c $< -o $@

# Everything but main(): what the tests link with. A thin archive: it names the objects, it does not copy them.
$(BUILD)/libvm.a: $(VM_OBJECTS) $(ENGINE_OBJECT) $(BUILD)/sources
	$(call say,AR,$@)
	$(Q)rm -f $@
	$(Q)$(AR) rcsT $@ $(VM_OBJECTS) $(ENGINE_OBJECT)

$(BUILD)/thaw: $(MAIN_OBJECT) $(BUILD)/libvm.a $(BUILD)/libthaw.a
	$(call say,LD,$@)
	$(Q)$(CC) $(VM_LDFLAGS) $(LDFLAGS) $^ $(VM_LIBS) -o $@

# ---- Tests and benchmarks

$(HARNESS)/kselftest_harness.h: scripts/harness
	$(call say,HARNESS,"$(HARNESS) (reads the kernel's source archive: 15 s)")
	$(Q)scripts/harness $(HARNESS)

# The harness is a system header here: its macros are the kernel's to warn about. Its TEST() leaves a parameter unused,
# its EXPECT_EQ() compares what it is given.
$(BUILD)/tests/%.o: tests/%.c $(BUILD)/flags | $(HARNESS)/kselftest_harness.h $(GENERATED)/quickjs.h
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(BASE_CFLAGS) -Wno-unused-parameter -Wno-sign-compare $(WARNINGS_FATAL) $(CFLAGS) $(VM_CFLAGS) $(INCLUDES) \
		-Itests -isystem $(HARNESS) $(TEST_CFLAGS) -DTHAW_BINARY='"$(abspath $(BUILD))/thaw"' \
		-DTHAW_INJECTING='"$(abspath $(BUILD))/tests/inject/thaw"' -DTHAW_SOURCE='"$(CURDIR)"' -DTHAW_NPM='"$(CURDIR)/$(NPM)"' \
		-DCONFINE_BINARY='"$(abspath $(BUILD))/confine"' -MMD -MP -c $< -o $@

# What a test takes over of the library, without a hook in it: calls from one object to another (ld's --wrap). And
# failures on purpose: an object that comes before the library, in place of the one in it that never fails.
INJECT := $(BUILD)/tests/inject
$(TESTS): $(INJECT)/inject.o
TEST_WRAPS :=
$(TESTS) $(BENCHES): %: %.o $(BUILD)/libvm.a $(BUILD)/libthaw.a
	$(call say,LD,$@)
	$(Q)$(CC) $(VM_LDFLAGS) $(LDFLAGS) $(TEST_WRAPS:%=-Wl,--wrap=%) $(filter-out %.a,$^) $(filter %.a,$^) $(VM_LIBS) -o $@

# The program, but for these.
$(INJECT)/thaw: $(MAIN_OBJECT) $(INJECT)/inject.o $(BUILD)/libvm.a $(BUILD)/libthaw.a
	$(call say,LD,$@)
	$(Q)$(CC) $(VM_LDFLAGS) $(LDFLAGS) $^ $(VM_LIBS) -o $@

# The crash simulator is below the library's calls that change files (tests/crash/disk.c).
CRASH_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/crash/*.c))
$(BUILD)/tests/crash_states: $(CRASH_OBJECTS)
$(BUILD)/tests/crash_states: TEST_WRAPS := sys_pwrite sys_fdatasync sys_truncate sys_punch sys_fsync_directory_of \
	renameat2 rename unlink linkat sys_open
$(BUILD)/tests/image_faults: $(BUILD)/tests/crash/contents.o
$(BUILD)/tests/image_faults $(BUILD)/tests/heap_faults: TEST_WRAPS := malloc calloc realloc aligned_alloc strdup \
	realpath free open pread pwrite fdatasync fsync ftruncate fallocate renameat2 linkat

$(BUILD)/tests/reads_complete: TEST_WRAPS := pthread_create
$(BUILD)/tests/image_compact: TEST_WRAPS := renameat2
$(BUILD)/tests/checkpoint_failure: TEST_WRAPS := pthread_mutex_lock
$(BUILD)/tests/checkpoint_encode: TEST_WRAPS := js_blob_encode
$(BUILD)/tests/sparse_region: TEST_WRAPS := sys_ioctl sys_mprotect madvise

# The fuzz targets, as a test (every input that found something, and some more) and for libFuzzer.
FUZZ_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(filter-out tests/fuzz/driver.c,$(wildcard tests/fuzz/*.c)))
FUZZ_TARGETS := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_PROGRAMS := $(FUZZ_TARGETS:%=$(BUILD)/fuzz_%)
$(BUILD)/tests/fuzz_regressions: $(FUZZ_OBJECTS)
$(BUILD)/tests/fuzz_regressions: TEST_WRAPS := nanosleep

$(FUZZ_PROGRAMS): $(BUILD)/fuzz_%: tests/fuzz/driver.c tests/fuzz/fuzz.h $(FUZZ_OBJECTS) $(BUILD)/libvm.a \
		$(BUILD)/libthaw.a
	$(call say,LD,$@)
	$(Q)$(CC) $(BASE_CFLAGS) $(CFLAGS) $(VM_CFLAGS) $(VM_LDFLAGS) $(LDFLAGS) -fsanitize=fuzzer -Wl,--wrap=nanosleep -DFUZZ_TARGET=fuzz_$* \
		$< $(FUZZ_OBJECTS) $(filter %.a,$^) $(VM_LIBS) -o $@

# Runs a command with fewer privileges: what the tests and scripts/run-tests --under use.
CONFINE_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/confine/*.c))
$(BUILD)/confine: $(CONFINE_OBJECTS)
	$(call say,LD,$@)
	$(Q)$(CC) $(VM_LDFLAGS) $(LDFLAGS) $^ -lseccomp -o $@

$(BUILD)/tests/privileges: | $(BUILD)/confine
$(patsubst %.c,$(BUILD)/%,$(shell grep -l THAW_INJECT $(TEST_SOURCES) /dev/null)): | $(INJECT)/thaw

# See tests/timeout.h.
TEST_SECONDS := $(if $(SANITIZE),300,120)
$(TESTS:=.o): TEST_CFLAGS := -include tests/timeout.h -DTEST_SECONDS=$(TEST_SECONDS)
# One test of ten thousand states, which a busy machine takes two minutes for.
$(BUILD)/tests/crash_states.o: TEST_CFLAGS := -include tests/timeout.h -DTEST_SECONDS=600

tests: $(TESTS) $(INJECT)/thaw $(BUILD)/confine

deps:
	$(Q)scripts/install-deps

# A second make, because the first read the flags and the file lists before the dependencies were there.
check check-user check-seccomp demo bench: deps
	$(Q)$(MAKE) $@-built

check-built: all tests
	$(Q)scripts/run-tests $(TESTS)

# The same tests as an ordinary user, and with what a container engine leaves by default.
check-user-built: all tests
	$(Q)scripts/run-tests --under "$(BUILD)/confine --user" $(TESTS)

check-seccomp-built: all tests
	$(Q)scripts/run-tests --under "$(BUILD)/confine --seccomp" $(TESTS)

.PHONY: check-user check-user-built check-seccomp check-seccomp-built

# A million states, or CRASH_STATES of them, of seed CRASH_SEED; run again, it goes on where it stopped.
CRASH_SEED ?= 4
CRASH_STATES ?= 1000000
crash: deps
	$(Q)$(MAKE) crash-built

crash-built: $(BUILD)/tests/crash_states
	$(Q)mkdir -p $(BUILD)/crash
	$(Q)$(BUILD)/tests/crash_states --seed $(CRASH_SEED) --states $(CRASH_STATES) \
		--resume $(BUILD)/crash/seed-$(CRASH_SEED)

demo-built: all
	$(Q)scripts/demo

bench-built: all $(BENCHES)
	$(Q)tests/bench/run $(BENCHES)

# Tests that never enter the VM: TSan knows nothing of a stack of ours, and the engine is not instrumented. What it
# cannot see in libthaw either: that a page's arrival orders its reader after the fault service (the kernel does
# that, and TSan has no shadow for what the kernel writes), and races between the two mappings of a memfd, which
# are different addresses to it. Poisoned pages need their SIGBUS, so its handlers stay out of the way.
VM_TESTS := $(shell grep -lE '"(\.\./vm/|js/|cli/|runtime\.h)|\bTHAW\b|THAW_BINARY' $(TEST_SOURCES) /dev/null)
# Nor image_retention and crash_states: thousands of commits by one thread, for which TSan takes a quarter of
# an hour. The fuzz targets have the VM in them.
LIB_TESTS := $(basename $(filter-out $(VM_TESTS) tests/image_retention.c tests/crash_states.c tests/fuzz_regressions.c, \
	$(TEST_SOURCES)))

# The VM's handlers own SIGSEGV and SIGBUS (bounds checks, poisoned pages), and it runs on a stack that ASan did not make.
asan: deps
	$(Q)ASAN_OPTIONS=detect_stack_use_after_return=0:handle_segv=0:handle_sigbus=0:use_sigaltstack=0:abort_on_error=1 \
		UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 $(MAKE) sanitized BUILD=build/asan \
		SANITIZE=address,undefined CFLAGS="-O1 -g"

sanitized: all tests
	$(Q)scripts/run-tests --timeout 900 $(TESTS)

# TSan's shadow memory wants a fixed layout: setarch -R turns address randomisation off.
tsan: deps
	$(Q)$(MAKE) tsan-built BUILD=build/tsan SANITIZE=thread CFLAGS="-O1 -g"

# Debian's cross compiler and arm64's packages, in build/arm64. What was made runs in check-kernels (KERNELS=arm64:6.12).
ARM64_SYSROOT := $(CURDIR)/build/arm64-debian/root
ARM64_MAKE = $(MAKE) BUILD=build/arm64 CC=aarch64-linux-gnu-gcc AR=aarch64-linux-gnu-ar SYSROOT=$(ARM64_SYSROOT)
arm64: deps
	$(Q)scripts/install-deps arm64
	$(Q)scripts/arm64-sysroot
	+$(Q)$(ARM64_MAKE) all tests

.PHONY: arm64

# Clang's fuzzer on each target, for so long; what it finds, and its corpus, stay in build/fuzz/. The engine's object
# is the one that is there: it is not instrumented.
FUZZ_SECONDS ?= 60
fuzz:
	$(Q)scripts/install-deps fuzz
	$(Q)$(MAKE) fuzz-built BUILD=build/fuzz CC=clang ENGINE_CC=$(CC) SANITIZE=fuzzer-no-link,address,undefined \
		CFLAGS="-O1 -g -fno-sanitize-recover=all -fno-sanitize-coverage=trace-cmp" FUZZ_SECONDS=$(FUZZ_SECONDS)

# Stock Debian kernels in an emulator, some twenty times slower than this machine: of the programs, those that depend on
# the kernel most and need least time, in seven to eight minutes. The others (a gibibyte of JavaScript, thousands of commits)
# are for check-kernels-full, which takes hours. KERNELS: which ones;
# arm64:6.1, arm64:6.12 and arm64:6.12-16k are more of them.
KERNELS ?= 6.1 6.12
KERNEL_TESTS := ladder_choice heap_touch privileges install_classify write_tracking restore_lazy restore_damaged \
	heap_persists page_sizes heap_open_errors heap_address heap_faults sparse_region generation_kinds working_set checkpoint_failure \
	stack_switch turn_stopping javascript_traps javascript_working_set image_travels
check-kernels: deps
	$(Q)scripts/install-deps kernels
	$(Q)$(MAKE) check-kernels-built

check-kernels-full: deps
	$(Q)scripts/install-deps kernels
	$(Q)$(MAKE) check-kernels-built KERNEL_TESTS='$(TESTS:$(BUILD)/tests/%=%)' KERNEL_SECONDS=7200

KERNEL_SECONDS ?= 900
check-kernels-built: all $(KERNEL_TESTS:%=$(BUILD)/tests/%) $(if $(filter arm64:%,$(KERNELS)),arm64-kernels)
	$(Q)scripts/kernels --kernels "$(KERNELS)" --timeout $(KERNEL_SECONDS) $(KERNEL_TESTS:%=$(BUILD)/tests/%)

arm64-kernels:
	$(Q)scripts/install-deps arm64-kernels
	$(Q)scripts/arm64-sysroot
	+$(Q)$(ARM64_MAKE) all $(KERNEL_TESTS:%=build/arm64/tests/%)

.PHONY: arm64-kernels check-kernels check-kernels-full check-kernels-built

fuzz-built: $(FUZZ_PROGRAMS)
	$(Q)scripts/fuzz $(FUZZ_SECONDS) $(FUZZ_PROGRAMS)

.PHONY: fuzz fuzz-built
.PHONY: tsan-built coverage-built
tsan-built: $(LIB_TESTS:%=$(BUILD)/%)
	$(Q)TSAN_OPTIONS=halt_on_error=1:handle_segv=0:handle_sigbus=0:suppressions=$(CURDIR)/tests/tsan.suppressions \
		setarch -R scripts/run-tests --timeout 900 $^

coverage: deps
	$(Q)$(MAKE) coverage-built BUILD=build/coverage COVERAGE=1 CFLAGS="-O0 -g"

coverage-built: all tests
	$(Q)find $(BUILD) -name '*.gcda' -delete
	$(Q)scripts/run-tests --timeout 900 $(TESTS) || true
	$(Q)scripts/coverage $(BUILD)

STYLED := $(wildcard uffd/*.[ch] uffd/*/*.[ch] vm/*.[ch] vm/*/*.[ch] vm/*/*/*.[ch] tests/*.[ch] tests/*/*.[ch])

style:
	$(Q)if command -v clang-format >/dev/null; then clang-format --dry-run -Werror $(STYLED); \
		else echo "style: clang-format is not installed; nothing was checked"; fi

format:
	$(Q)clang-format -i $(STYLED)

# ---- Installing and cleaning

install: all
	$(Q)$(MAKE) install-built

install-built:
	install -Dm755 $(BUILD)/thaw $(DESTDIR)$(PREFIX)/bin/thaw
	install -Dm644 $(BUILD)/libthaw.a $(DESTDIR)$(PREFIX)/lib/libthaw.a
	install -Dm755 $(BUILD)/libthaw.so $(DESTDIR)$(PREFIX)/lib/libthaw.so.0
	ln -sf libthaw.so.0 $(DESTDIR)$(PREFIX)/lib/libthaw.so
	install -Dm644 uffd/thaw.h $(DESTDIR)$(PREFIX)/include/thaw.h
	install -dm755 $(DESTDIR)$(PREFIX)/lib/pkgconfig
	sed 's,@PREFIX@,$(PREFIX),; s,@VERSION@,$(VERSION),' uffd/thaw.pc.in >$(DESTDIR)$(PREFIX)/lib/pkgconfig/thaw.pc
	install -Dm644 vm/js/api/thaw.d.ts $(DESTDIR)$(PREFIX)/share/thaw/thaw.d.ts

clean:
	$(Q)rm -rf $(filter-out $(NPM) $(HARNESS) $(GENERATED) build/kernels build/arm64-debian build/install-deps.lock,$(wildcard build/*))

distclean:
	$(Q)rm -rf build

help:
	@echo "make             build/thaw, build/libthaw.a, build/libthaw.so (scripts/install-deps comes first)"
	@echo "make deps        install what is missing (scripts/install-deps)"
	@echo "make check       deps, build, every test; ends in 'N passed, N failed'"
	@echo "make check-user  the tests as an ordinary user without capabilities"
	@echo "make check-seccomp  the tests with what a container engine leaves by default"
	@echo "make crash       a million states that a power cut may leave of an image; goes on where it stopped"
	@echo "make demo        deps, build, and the main job on real input"
	@echo "make bench       deps, build, the measured tables"
	@echo "make asan        the tests under AddressSanitizer and UBSan, in build/asan"
	@echo "make tsan        libthaw's tests under ThreadSanitizer, in build/tsan"
	@echo "make coverage    the tests with gcov, and lines covered per file, in build/coverage"
	@echo "make arm64       thaw, libthaw and the tests for arm64, cross-compiled, in build/arm64"
	@echo "make fuzz        libFuzzer on each target for FUZZ_SECONDS=60; findings and corpus in build/fuzz"
	@echo "make check-kernels  tests that depend on the kernel, in Debian's KERNELS='$(KERNELS)' under QEMU; -full: all tests"
	@echo "                 arm64 too: KERNELS='arm64:6.1 arm64:6.12 arm64:6.12-16k'"
	@echo "make style       does every file follow .clang-format?   make format: make it so"
	@echo "make install     to PREFIX=$(PREFIX), below DESTDIR"
	@echo "make clean       what was built; the generated engine, npm packages and harness stay"
	@echo "make distclean   all of build/"
	@echo "variables: V=1 WERROR=1 CC=clang CFLAGS='-O3 -g' BUILD=directory"

# ---- Files that change only when what they say changes: the flags (and where this is, which the tests are told), and the
# list of sources

$(BUILD)/flags: FORCE
	$(Q)mkdir -p $(@D)
	$(Q)echo '$(subst ','\'',$(CC) $(BASE_CFLAGS) $(VM_CFLAGS) $(CFLAGS) $(LDFLAGS) $(CURDIR))' | cmp -s - $@ || \
		echo '$(subst ','\'',$(CC) $(BASE_CFLAGS) $(VM_CFLAGS) $(CFLAGS) $(LDFLAGS) $(CURDIR))' > $@

$(ENGINE)/flags: FORCE
	$(Q)mkdir -p $(@D)
	$(Q)echo '$(ENGINE_CC) $(ENGINE_CFLAGS)' | cmp -s - $@ || echo '$(ENGINE_CC) $(ENGINE_CFLAGS)' > $@

$(BUILD)/sources: FORCE
	$(Q)mkdir -p $(@D)
	$(Q)echo '$(LIB_SOURCES) $(VM_SOURCES) $(VM_ASSEMBLY)' | cmp -s - $@ || \
		echo '$(LIB_SOURCES) $(VM_SOURCES) $(VM_ASSEMBLY)' > $@

-include $(LIB_OBJECTS:.o=.d) $(VM_OBJECTS:.o=.d) $(MAIN_OBJECT:.o=.d) $(TESTS:=.d) $(INJECT)/inject.d $(CRASH_OBJECTS:.o=.d) $(FUZZ_OBJECTS:.o=.d) $(CONFINE_OBJECTS:.o=.d) $(BENCHES:=.d)
