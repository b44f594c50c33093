# SPDX-License-Identifier: MIT
#
# The tests with sanitizers and coverage, and libFuzzer. Each is a make of its own over another BUILD directory.
# Included by the Makefile at the root.

# The VM's handlers own SIGSEGV and SIGBUS (bounds checks, poisoned pages), and it runs on a stack that ASan did not make.
## asan: the tests under AddressSanitizer and UBSan, in build/asan
asan: deps
	$(Q)ASAN_OPTIONS=detect_stack_use_after_return=0:handle_segv=0:handle_sigbus=0:use_sigaltstack=0:abort_on_error=1 \
		UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 $(MAKE) sanitized BUILD=build/asan \
		SANITIZE=address,undefined CFLAGS="-O1 -g"

sanitized: all tests
	$(Q)scripts/run-tests --timeout 900 $(TESTS)

# Tests that never enter the VM: TSan does not know the stacks that the VM runs on, and the engine is not instrumented.
# Nor does TSan see in libthaw that a page's arrival orders its reader after the fault service (the kernel does
# that, and TSan has no shadow for what the kernel writes), or races between the two mappings of a memfd, which
# are different addresses to it. Poisoned pages need their SIGBUS, so TSan's handlers are off.
VM_TESTS := $(shell grep -lE '"((\.\./)+vm/|js/|cli/|inspect/|policy/|process/)|\bTHAW\b|THAW_BINARY' $(TEST_SOURCES) /dev/null)
# Without image_retention and crash_states: thousands of commits by one thread, for which TSan takes a quarter of
# an hour. The fuzz targets have the VM in them.
LIB_TESTS := $(basename $(filter-out $(VM_TESTS) tests/image/image_retention.c tests/image/crash_states.c tests/image/fuzz_regressions.c, \
	$(TEST_SOURCES)))

# TSan's shadow memory wants a fixed layout: setarch -R turns address randomisation off.
## tsan: libthaw's tests under ThreadSanitizer, in build/tsan
tsan: deps
	$(Q)$(MAKE) tsan-built BUILD=build/tsan SANITIZE=thread CFLAGS="-O1 -g"

tsan-built: $(patsubst %,$(BUILD)/tests/%,$(notdir $(LIB_TESTS)))
	$(Q)TSAN_OPTIONS=halt_on_error=1:handle_segv=0:handle_sigbus=0:suppressions=$(CURDIR)/tests/tsan.suppressions \
		setarch -R scripts/run-tests --timeout 900 $^

## coverage: the tests with gcov, and lines covered per file, in build/coverage
coverage: deps
	$(Q)$(MAKE) coverage-built BUILD=build/coverage COVERAGE=1 CFLAGS="-O0 -g"

coverage-built: all tests
	$(Q)find $(BUILD) -name '*.gcda' -delete
	$(Q)scripts/run-tests --timeout 900 $(TESTS) || true
	$(Q)scripts/coverage $(BUILD)

# ---- The fuzz targets for libFuzzer (as a test, with every input that found something: tests/image/fuzz_regressions.c)

FUZZ_TARGETS := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_PROGRAMS := $(FUZZ_TARGETS:%=$(BUILD)/fuzz_%)
FUZZ_SECONDS ?= 60

$(FUZZ_PROGRAMS): $(BUILD)/fuzz_%: tests/fuzz/driver.c tests/fuzz/fuzz.h $(FUZZ_OBJECTS) $(EMBED_OBJECTS) \
		$(BUILD)/libvm.a $(BUILD)/libthaw.a
	$(call say,LD,$@)
	$(Q)$(CC) $(BASE_CFLAGS) $(CFLAGS) $(VM_CFLAGS) $(VM_LDFLAGS) $(LDFLAGS) -fsanitize=fuzzer -Wl,--wrap=nanosleep -DFUZZ_TARGET=fuzz_$* \
		$< $(FUZZ_OBJECTS) $(EMBED_OBJECTS) $(filter %.a,$^) $(VM_LIBS) -o $@

# The engine's object is the one that is there: it is not instrumented.
## fuzz: libFuzzer on each target for FUZZ_SECONDS=60; findings and corpus stay in build/fuzz
fuzz:
	$(Q)scripts/install-deps fuzz
	$(Q)$(MAKE) fuzz-built BUILD=build/fuzz CC=clang ENGINE_CC=$(CC) SANITIZE=fuzzer-no-link,address,undefined \
		CFLAGS="-O1 -g -fno-sanitize-recover=all -fno-sanitize-coverage=trace-cmp" FUZZ_SECONDS=$(FUZZ_SECONDS)

fuzz-built: $(FUZZ_PROGRAMS)
	$(Q)scripts/fuzz $(FUZZ_SECONDS) $(FUZZ_PROGRAMS)
