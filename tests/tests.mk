# SPDX-License-Identifier: MIT
#
# The tests, the crash simulator, the demo and the benchmarks. Included by the Makefile at the root.

# The rooms of the sources; the programs lie side by side in $(BUILD)/tests.
TEST_ROOMS := uffd image js policy inspect cli top kmod process embed engines store
TEST_SOURCES := $(wildcard $(TEST_ROOMS:%=tests/%/*.c))
TESTS := $(patsubst %.c,$(BUILD)/tests/%,$(notdir $(TEST_SOURCES)))
# Programs of npm's and Debian's that are killed, which make check-exec and make crash-exec bring and run.
EXEC_SOURCES := $(wildcard tests/exec/*.c)
EXEC_TESTS := $(patsubst %.c,$(BUILD)/tests/%,$(notdir $(EXEC_SOURCES)))
# An object store's daemons that are killed: make check-ceph, which also runs those of tests/store, against that store.
CEPH_TESTS := $(patsubst tests/ceph/%.c,$(BUILD)/tests/%,$(wildcard tests/ceph/*.c))
STORE_TESTS := $(patsubst tests/store/%.c,$(BUILD)/tests/%,$(wildcard tests/store/*.c))
vpath %.c $(TEST_ROOMS:%=tests/%) tests/exec tests/ceph
BENCH_SOURCES := $(wildcard tests/bench/*.c)
BENCHES := $(BENCH_SOURCES:%.c=$(BUILD)/%)
INJECT := $(BUILD)/tests/inject
INJECT_OBJECTS := $(INJECT)/inject.o $(INJECT)/checks.o
CRASH_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/crash/*.c))
STORE_SERVER := $(BUILD)/tests/store-server
STORE_SERVER_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/store/server/*.c))
CONFINE_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/confine/*.c))
# Whose disk loses its power; in need of root, and of packages of its own.
POWER_TEST := $(BUILD)/tests/power/power_cuts
LOAD_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/load/*.c))
FUZZ_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(filter-out tests/fuzz/driver.c,$(wildcard tests/fuzz/*.c)))

# ---- Test programs

$(HARNESS)/kselftest_harness.h: scripts/harness
	$(call say,HARNESS,"$(HARNESS) (reads the kernel's source archive: 15 s)")
	$(Q)scripts/harness $(HARNESS)

# The harness is a system header here: its macros are the kernel's to warn about. Its TEST() leaves a parameter unused,
# its EXPECT_EQ() compares what it is given.
define compile_test
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(BASE_CFLAGS) -Wno-unused-parameter -Wno-sign-compare $(WARNINGS_FATAL) $(CFLAGS) $(VM_CFLAGS) $(INCLUDES) \
		-Itests -isystem $(HARNESS) $(TEST_CFLAGS) -DTHAW_BINARY='"$(abspath $(BUILD))/thaw"' \
		-DTHAW_INJECTING='"$(abspath $(BUILD))/tests/inject/thaw"' -DTHAW_SOURCE='"$(CURDIR)"' -DTHAW_NPM='"$(CURDIR)/$(NPM)"' \
		-DCONFINE_BINARY='"$(abspath $(BUILD))/confine"' -DSTORE_SERVER='"$(abspath $(STORE_SERVER))"' -MMD -MP -c $< -o $@
endef
$(BUILD)/tests/%.o: tests/%.c $(BUILD)/flags | $(HARNESS)/kselftest_harness.h $(GENERATED)/quickjs.h
	$(compile_test)
$(TESTS:=.o) $(EXEC_TESTS:=.o) $(CEPH_TESTS:=.o): $(BUILD)/tests/%.o: %.c $(BUILD)/flags | $(HARNESS)/kselftest_harness.h $(GENERATED)/quickjs.h
	$(compile_test)

# See tests/timeout.h.
TEST_SECONDS := $(if $(SANITIZE),300,120)
$(TESTS:=.o) $(EXEC_TESTS:=.o) $(CEPH_TESTS:=.o): TEST_CFLAGS := -include tests/timeout.h -DTEST_SECONDS=$(TEST_SECONDS)
# Whose stack is unwound by pthread_cancel(3), as a C++ program's.
$(BUILD)/tests/output_ring.o: TEST_CFLAGS := -include tests/timeout.h -DTEST_SECONDS=$(TEST_SECONDS) -fexceptions
# One test of ten thousand states, which a busy machine takes two minutes for.
$(BUILD)/tests/crash_states.o: TEST_CFLAGS := -include tests/timeout.h -DTEST_SECONDS=600

# A test replaces calls from one object of the library to another without a hook in the library (TEST_WRAPS: ld's
# --wrap). And failures on purpose: an object that comes before the library, in place of the one in it that never fails.
TEST_WRAPS :=
# Of libthawvm: programs that have nothing but the two shared libraries.
LIBVM_TESTS := $(addprefix $(BUILD)/tests/,embedded_vm vm_snapshots structure vm_images vm_calls vm_damage libthawvm_engines)
LIBVM_TESTS += $(BUILD)/tests/snapshot_limits
LIBVM_TESTS += $(BUILD)/tests/hostile_scripts
LIBVM_BENCHES := $(BUILD)/tests/bench/forks
$(LIBVM_TESTS) $(LIBVM_BENCHES): %: %.o $(BUILD)/libthawvm.so $(BUILD)/libthaw.so
	$(call say,LD,$@)
	$(Q)$(CC) -no-pie -pthread $(LDFLAGS) $^ -Wl,--disable-new-dtags,-rpath,$(abspath $(BUILD)) -o $@
STATIC_TESTS := $(filter-out $(LIBVM_TESTS),$(TESTS)) $(EXEC_TESTS) $(CEPH_TESTS)
$(STATIC_TESTS): $(INJECT_OBJECTS)
$(STATIC_TESTS) $(filter-out $(LIBVM_BENCHES),$(BENCHES)): %: %.o $(BUILD)/libvm.a $(BUILD)/libthaw.a
	$(call say,LD,$@)
	$(Q)$(CC) $(VM_LDFLAGS) $(LDFLAGS) $(TEST_WRAPS:%=-Wl,--wrap=%) $(filter-out %.a,$^) $(filter %.a,$^) $(VM_LIBS) \
		$(BENCH_LIBS) -o $@
# What Thaw is compared with.
BENCH_LIBS :=
$(BUILD)/tests/bench/acknowledged: $(LOAD_OBJECTS)
$(BUILD)/tests/bench/stores $(BUILD)/tests/bench/lines: BENCH_LIBS := -llmdb -lsqlite3

# The program `thaw` with failures on purpose.
$(INJECT)/thaw: $(MAIN_OBJECT) $(INJECT_OBJECTS) $(BUILD)/libvm.a $(BUILD)/libthaw.a
	$(call say,LD,$@)
	$(Q)$(CC) $(VM_LDFLAGS) $(LDFLAGS) $^ $(VM_LIBS) -o $@

$(patsubst %.c,$(BUILD)/tests/%,$(notdir $(shell grep -l THAW_INJECT $(TEST_SOURCES) /dev/null))): | $(INJECT)/thaw

# Histories that a store gives back: what is told to the mirror is noted first.
HISTORY_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/store/history/*.c)) $(BUILD)/tests/crash/check.o $(BUILD)/tests/crash/contents.o
$(BUILD)/tests/remote_histories: $(HISTORY_OBJECTS)
$(BUILD)/tests/remote_histories: TEST_WRAPS := mirror_window_close mirror_logged
# An object store for those that include store_server.h.
$(STORE_SERVER): $(STORE_SERVER_OBJECTS)
	$(call say,LD,$@)
	$(Q)$(CC) $(VM_LDFLAGS) $(LDFLAGS) $^ $(SYSROOT:%=-Wl,--allow-shlib-undefined) -lmicrohttpd -lsodium -o $@

$(patsubst %.c,$(BUILD)/tests/%,$(notdir $(shell grep -lE "store_server.h|replica" $(TEST_SOURCES) /dev/null))): | $(STORE_SERVER)

# Runs a command with fewer privileges: what the tests and scripts/run-tests --under use.
$(BUILD)/confine: $(CONFINE_OBJECTS)
	$(call say,LD,$@)
	$(Q)$(CC) $(VM_LDFLAGS) $(LDFLAGS) $^ -lseccomp -o $@

$(BUILD)/tests/privileges: | $(BUILD)/confine
$(BUILD)/tests/benchmark_tools: | $(BUILD)/tests/bench/interleave

# What single tests need besides. The crash simulator is below the library's calls that change files (tests/crash/disk.c).
$(BUILD)/tests/crash_states: $(CRASH_OBJECTS)
$(BUILD)/tests/crash_states: TEST_WRAPS := sys_pwrite sys_fdatasync sys_truncate sys_punch sys_fsync_directory_of \
	renameat2 rename unlink linkat sys_open
$(BUILD)/tests/image_faults: $(BUILD)/tests/crash/contents.o
$(BUILD)/tests/image_faults $(BUILD)/tests/heap_faults: TEST_WRAPS := malloc calloc realloc aligned_alloc strdup \
	realpath free open pread pwrite fdatasync fsync ftruncate fallocate renameat2 linkat
$(BUILD)/tests/frozen_failures: TEST_WRAPS := malloc calloc realloc mmap sys_injected
$(BUILD)/tests/reads_complete: TEST_WRAPS := pthread_create
# See tests/reads_held.h.
$(BUILD)/tests/reads_ahead $(BUILD)/tests/process_ahead: TEST_WRAPS := sysconf sys_is_cached sys_pread_cached \
	extent_decode image_lookup pthread_join reader_open reader_read
$(BUILD)/tests/snapshot_bytes: $(EMBED_OBJECTS)
$(BUILD)/tests/image_mirror: TEST_WRAPS := sys_injected
$(BUILD)/tests/s3_memory: TEST_WRAPS := malloc calloc realloc reallocarray strdup strndup asprintf vasprintf __getdelim free
$(BUILD)/tests/heap_filled: TEST_WRAPS := sysconf
$(BUILD)/tests/replicate_faults: TEST_WRAPS := thaw_mirror_check thaw_mirror_read
$(BUILD)/tests/image_compact: TEST_WRAPS := renameat2
$(BUILD)/tests/key_slots: TEST_WRAPS := crypto_pwhash
$(BUILD)/tests/image_encoders: TEST_WRAPS := pthread_create extent_encode sys_pwrite
$(BUILD)/tests/checkpoint_failure: TEST_WRAPS := pthread_mutex_lock
$(BUILD)/tests/checkpoint_encode: TEST_WRAPS := js_blob_encode
$(BUILD)/tests/kmod_ring: TEST_WRAPS := sys_ioctl_once
$(BUILD)/tests/sparse_region: TEST_WRAPS := sys_ioctl sys_ioctl_once sys_mprotect madvise
$(BUILD)/tests/task_delays: TEST_WRAPS := open
$(BUILD)/tests/memory_given_back: TEST_WRAPS := ioctl
$(BUILD)/tests/output_kills $(BUILD)/tests/output_servers $(BUILD)/tests/lost_machines $(BUILD)/tests/outages: $(LOAD_OBJECTS)
$(BUILD)/tests/ends_in_a_capture: TEST_WRAPS := process_stop mappings_capture interrupted_restart threads_capture \
	kernel_facts_capture identity_capture descriptors_capture clocks_capture \
	thaw_checkpoint_capture process_vm_readv
$(BUILD)/tests/fuzz_regressions: $(FUZZ_OBJECTS) $(EMBED_OBJECTS)
$(BUILD)/tests/fuzz_regressions: TEST_WRAPS := nanosleep

# The engine before: another name, and the same objects otherwise; a program that has it built in, and the shared object. And such
# as are older, newer, and of another interface.
BEFORE_IDENTITY := js-1 before
BEFORE_HASH := $(call engine_hash,$(BEFORE_IDENTITY))
ENGINES_ROOM := $(BUILD)/tests/engines
$(ENGINES_ROOM)/identity.o: vm/js/engine/identity.c vm/engine.mk $(BUILD)/flags
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(BASE_CFLAGS) $(CFLAGS) $(VM_CFLAGS) $(INCLUDES) -DJS_ENGINE_IDENTITY='"$(BEFORE_IDENTITY)"' -c $< -o $@
$(ENGINES_ROOM)/identity-pic.o: vm/js/engine/identity.c vm/engine.mk $(BUILD)/flags
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(BASE_CFLAGS) $(CFLAGS) $(VM_CFLAGS) $(PIC_CFLAGS) $(INCLUDES) -DJS_ENGINE_IDENTITY='"$(BEFORE_IDENTITY)"' -c $< -o $@
$(ENGINES_ROOM)/older.o: tests/engines/objects/older.c vm/engines/object/entry.c vm/engines/calls.h vm/guest.h $(BUILD)/flags
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(BASE_CFLAGS) $(CFLAGS) $(VM_CFLAGS) $(PIC_CFLAGS) $(INCLUDES) -c $< -o $@
$(ENGINES_ROOM)/thaw: $(MAIN_OBJECT) $(ENGINES_ROOM)/identity.o $(BUILD)/libvm.a $(BUILD)/libthaw.a
	$(call say,LD,$@)
	$(Q)$(CC) $(VM_LDFLAGS) $(LDFLAGS) $^ $(VM_LIBS) -o $@
BEFORE_OBJECTS := $(ENGINES_ROOM)/identity-pic.o $(filter-out %/engine/identity.o,$(ENGINE_SHARED_OBJECTS)) $(ENGINE_PIC_OBJECT) vm/engine.mk
$(ENGINES_ROOM)/engines/$(BEFORE_HASH).so: $(BEFORE_OBJECTS) vm/engines/object/object.map
	$(link_engine)
$(ENGINES_ROOM)/older.so: $(ENGINES_ROOM)/older.o $(filter-out %/object/entry.o %/embed/table.o,$(BEFORE_OBJECTS)) vm/engines/object/object.map
	$(link_engine)
# The same name, and another layout of the state that goes into images: what must not happen (ENGINE_STATE).
$(ENGINES_ROOM)/blob.o: vm/js/state/blob.c $(BUILD)/flags
	$(Q)$(CC) $(BASE_CFLAGS) $(CFLAGS) $(VM_CFLAGS) $(PIC_CFLAGS) $(INCLUDES) -DENGINE_STATE=99u -c $< -o $@
$(ENGINES_ROOM)/other_state.so: $(ENGINES_ROOM)/blob.o $(filter-out %/state/blob.o,$(BEFORE_OBJECTS)) vm/engines/object/object.map
	$(link_engine)
$(ENGINES_ROOM)/newer.so: OTHER_ABI := 0
$(ENGINES_ROOM)/other_abi.so: OTHER_ABI := 1
$(ENGINES_ROOM)/newer.so $(ENGINES_ROOM)/other_abi.so: tests/engines/objects/misfit.c vm/engines/calls.h vm/guest.h $(BUILD)/flags vm/engine.mk
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(filter-out -fsanitize=%,$(BASE_CFLAGS)) $(INCLUDES) -DOTHER_ABI=$(OTHER_ABI) -fPIC -shared $< -o $@.tmp
	$(seal_engine)
$(BUILD)/tests/engines_side_by_side.o $(BUILD)/tests/libthawvm_engines.o: TEST_CFLAGS += -DENGINES_ROOM='"$(abspath $(ENGINES_ROOM))"' -DBEFORE_HASH='"$(BEFORE_HASH)"' \
	-Itests/cli -include tests/timeout.h -DTEST_SECONDS=$(TEST_SECONDS)
ENGINES_TESTED := $(ENGINES_ROOM)/thaw $(ENGINES_ROOM)/engines/$(BEFORE_HASH).so $(ENGINES_ROOM)/older.so $(ENGINES_ROOM)/newer.so \
	$(ENGINES_ROOM)/other_abi.so $(ENGINES_ROOM)/other_state.so
$(BUILD)/tests/engines_side_by_side $(BUILD)/tests/libthawvm_engines: | $(ENGINES_TESTED) $(ENGINE_SHARED)
$(BUILD)/tests/engine_name.o: TEST_CFLAGS += -DENGINE_STATE=$(ENGINE_STATE) -include tests/timeout.h -DTEST_SECONDS=$(TEST_SECONDS)
$(BUILD)/tests/engine_name.o: vm/engine.mk
$(BUILD)/tests/guest_abi.o: TEST_CFLAGS += -DLIBTHAWVM='"$(abspath $(BUILD))/libthawvm.so"' -include tests/timeout.h -DTEST_SECONDS=$(TEST_SECONDS)
$(BUILD)/tests/guest_abi: | $(BUILD)/libthawvm.so

$(BUILD)/tests/node_binding.o: TEST_CFLAGS += -DTHAW_NODE='"$(abspath $(NODE_OUT))"' -DTHAW_NODE_PACKAGE='"$(abspath $(NODE_PACKAGE))"'
$(BUILD)/tests/node_binding: | $(NODE_TESTED)

$(POWER_TEST): $(POWER_TEST).o $(BUILD)/tests/power/disk.o $(LOAD_OBJECTS) $(INJECT_OBJECTS) $(BUILD)/libvm.a $(BUILD)/libthaw.a
	$(call say,LD,$@)
	$(Q)$(CC) $(VM_LDFLAGS) $(LDFLAGS) $^ $(VM_LIBS) $(shell $(PKG_CONFIG) --libs fuse3) -o $@
$(BUILD)/tests/power/disk.o: TEST_CFLAGS := $(shell $(PKG_CONFIG) --cflags fuse3 2>/dev/null)
$(POWER_TEST).o: TEST_CFLAGS := -include tests/timeout.h -DTEST_SECONDS=120

# Of what is written in Python: programs that print TAP themselves. No Python loads what is instrumented.
PYTHON_TESTS := $(if $(SANITIZE)$(COVERAGE)$(SYSROOT),,$(BUILD)/tests/python_vm $(BUILD)/tests/python_vm_path)
$(BUILD)/tests/python_vm: PYTHON := /usr/bin/python3 tests/embed/python/run
$(BUILD)/tests/python_vm_path: PYTHON := python3 tests/embed/python/run --path
$(PYTHON_TESTS): tests/tests.mk | $(BUILD)/libthawvm.so $(BUILD)/standalone/libthawvm.so
	$(Q)mkdir -p $(@D)
	$(Q)printf '%s\n' '#!/bin/sh' 'cd $(CURDIR) && THAW_VM_LIBRARY=$(abspath $(BUILD))/libthawvm.so \' \
		'	THAW_VM_STANDALONE=$(abspath $(BUILD))/standalone/libthawvm.so exec $(PYTHON)' >$@
	$(Q)chmod +x $@

tests: $(TESTS) $(PYTHON_TESTS) $(ENGINES_TESTED) $(EXEC_TESTS) $(CEPH_TESTS) $(INJECT)/thaw $(BUILD)/confine $(STORE_SERVER)

# ---- Running them

## check: deps, build, every test; ends in 'N passed, N failed'
## check-user: the tests as an ordinary user without capabilities
## check-seccomp: the tests with what a container engine leaves by default
## demo: deps, build, and a program on real input that is killed at random moments
## bench: deps, build, Thaw beside its competitors: tables and pictures in build/bench (CASES="restore pause" ROUNDS=7 AGAINST=BUILD)
## bench-quick: the most telling rows of them in five minutes
# A second make, because the first read the flags and the file lists before the dependencies were there.
check check-user check-seccomp demo: deps
	$(Q)$(MAKE) $@-built

check-built: all tests
	$(Q)scripts/run-tests $(TESTS) $(PYTHON_TESTS)

check-user-built: all tests
	$(Q)scripts/run-tests --under "$(BUILD)/confine --user" $(TESTS) $(PYTHON_TESTS)

check-seccomp-built: all tests
	$(Q)scripts/run-tests --under "$(BUILD)/confine --seccomp" $(TESTS) $(PYTHON_TESTS)

demo-built: all
	$(Q)scripts/demo

bench bench-quick:
	$(Q)scripts/install-deps bench
	$(Q)scripts/exec-programs npm
	$(Q)$(MAKE) $@-built

bench-programs: all $(BENCHES)

bench-built: bench-programs
	$(Q)BUILD=$(BUILD) tests/bench/run $(AGAINST:%=--against %) $(CASES)

bench-quick-built: bench-programs
	$(Q)BUILD=$(BUILD) tests/bench/run --quick $(AGAINST:%=--against %) $(CASES)

## bench-exec: of these, what thaw exec costs, with Node.js as its program (MIB="30 300 5000")
bench-exec:
	$(Q)$(MAKE) bench CASES=exec

# Those of make check that kill programs, too, with as many kills.
KILLING_TESTS := $(addprefix $(BUILD)/tests/,program_kills interpreter_kills servers death_moments output_kills lost_machines) $(EXEC_TESTS)
KILLS := $(if $(filter crash-exec%,$(MAKECMDGOALS)),200,20)
## check-exec: real programs of npm's and Debian's under thaw exec, 20 kills of each; ends in 'N passed, N failed'
## crash-exec: the same with 200 kills of each
check-exec crash-exec: deps
	$(Q)scripts/exec-programs lua5.4 ruby redis-server sqlite3 nodejs npm
	$(Q)$(MAKE) $@-built

check-exec-built crash-exec-built: all $(KILLING_TESTS)
	$(Q)THAW_KILLS=$(KILLS) PATH="$$PATH:$(CURDIR)/build/programs/bin" \
		scripts/run-tests --timeout 7200 --jobs 1 $(KILLING_TESTS)

## check-ceph: the tests of the object store against Ceph's (radosgw), whose daemons are killed, too; ends in 'N passed, N failed'
.PHONY: check-ceph check-ceph-built
check-ceph: deps
	$(Q)scripts/install-deps ceph
	$(Q)$(MAKE) $@-built

check-ceph-built: all $(STORE_TESTS) $(CEPH_TESTS)
	$(Q)scripts/ceph run scripts/run-tests --jobs 1 $(STORE_TESTS) $(CEPH_TESTS)

## check-web: web-platform-tests of the interfaces of thaw run, the share that passes of each part (WPT=DIRECTORY with a checkout)
.PHONY: check-web
check-web: all
	$(Q)THAW=$(abspath $(BUILD))/thaw scripts/check-web $(or $(WPT),$(error WPT=DIRECTORY names a checkout of web-platform-tests))

POWER_CUTS ?= 200
## power-cuts: what thaw exec --commit output acknowledged, after POWER_CUTS=200 cuts of the power of an ext4's disk; needs root
power-cuts:
	$(Q)scripts/install-deps power
	$(Q)$(MAKE) $@-built

power-cuts-built: all $(POWER_TEST)
	$(Q)THAW_KILLS=$(POWER_CUTS) scripts/run-tests --timeout 7200 --jobs 1 $(POWER_TEST)

CRASH_SEED ?= 4
CRASH_STATES ?= 1000000
## crash: CRASH_STATES=1000000 states of an image after a power cut, of CRASH_SEED=4; goes on where it stopped
crash: deps
	$(Q)$(MAKE) crash-built

crash-built: $(BUILD)/tests/crash_states
	$(Q)mkdir -p $(BUILD)/crash
	$(Q)$(BUILD)/tests/crash_states --seed $(CRASH_SEED) --states $(CRASH_STATES) \
		--resume $(BUILD)/crash/seed-$(CRASH_SEED)

CRASH_HISTORIES ?= 1000
## crash-remote: what a store gives back after each of CRASH_HISTORIES=1000 histories of a replicated image, of CRASH_SEED=4
.PHONY: crash-remote crash-remote-built
crash-remote: deps
	$(Q)$(MAKE) crash-remote-built

crash-remote-built: $(BUILD)/tests/remote_histories
	$(Q)$(BUILD)/tests/remote_histories --seed $(CRASH_SEED) --histories $(CRASH_HISTORIES)

-include $(TESTS:=.d) $(EXEC_TESTS:=.d) $(CEPH_TESTS:=.d) $(BENCHES:=.d) $(INJECT_OBJECTS:.o=.d)
-include $(POWER_TEST).d $(BUILD)/tests/power/disk.d $(LOAD_OBJECTS:.o=.d) $(CRASH_OBJECTS:.o=.d) $(CONFINE_OBJECTS:.o=.d) $(STORE_SERVER_OBJECTS:.o=.d) $(HISTORY_OBJECTS:.o=.d) $(FUZZ_OBJECTS:.o=.d)
