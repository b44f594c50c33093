# SPDX-License-Identifier: MIT
#
# The engine (C out of WebAssembly), the runtime around it, and the program `thaw`. Included by the Makefile at the root.

VM_SOURCES := $(filter-out vm/cli/main.c,$(wildcard vm/*.c vm/*/*.c vm/*/*/*.c))
VM_ASSEMBLY := $(wildcard vm/*/*/*.S)
VM_OBJECTS := $(VM_SOURCES:%.c=$(BUILD)/%.o) $(VM_ASSEMBLY:%.S=$(BUILD)/%.o)
MAIN_OBJECT := $(BUILD)/vm/cli/main.o
EMBEDDED := $(wildcard vm/js/api/*.js)
WASM := $(NPM)/node_modules/quickjs-wasi/quickjs.wasm
# Every build directory of this machine's architecture shares one.
ENGINE := $(GENERATED)$(if $(SYSROOT),/$(ARCHITECTURE))
ENGINE_OBJECT := $(ENGINE)/quickjs.o

# The VM's stack goes into images: its frames must not hold what differs from process to process. So the binary is
# linked at fixed addresses, without stack canaries, and without the shadow stack that a switch of stacks would
# violate, or return addresses that are signed with a key of the process (arm64). These come after CFLAGS, whatever a
# distribution puts there; vm/js/engine/stack.c does not compile without them.
VM_CFLAGS := -fno-pie -fno-stack-protector \
	$(if $(filter aarch64,$(ARCHITECTURE)),-mbranch-protection=none,-fcf-protection=none)
VM_LDFLAGS := -no-pie -pthread -Wl,--build-id=sha1 -Wl,-z,relro,-z,now,-z,noexecstack
VM_LIBS := $(PACKAGE_LIBS) -lm
# Only the headers of libmnl: the library is loaded when it is needed (vm/top/mnl.h).
VM_CFLAGS += $(shell $(PKG_CONFIG) --cflags libmnl 2>/dev/null)
INCLUDES := -Iuffd -Ivm -I$(GENERATED)

# The engine's arithmetic must be WebAssembly's: no contraction into fused multiply-add, no folding that changes NaNs or
# rounding (what wabt asks for). Nobody reads the warnings of generated code.
ENGINE_CC ?= $(CC)
ENGINE_CFLAGS := -std=gnu11 -O2 -w $(SYSROOT:%=--sysroot=%) $(VM_CFLAGS) -ffp-contract=off -frounding-math -fsignaling-nans \
	-fno-strict-aliasing -fno-math-errno

# ---- The engine, once for every build directory of an architecture

$(WASM):
	@echo "make: the npm packages are missing: run scripts/install-deps (make check and make demo do it)" >&2
	@false

$(GENERATED)/quickjs.c: $(WASM)
	$(call say,WASM2C,$@)
	$(Q)mkdir -p $(@D)
	$(Q)wasm2c -n quickjs $< -o $@

$(GENERATED)/quickjs.h: $(GENERATED)/quickjs.c ;

$(ENGINE)/flags: FORCE
	$(call write_if_changed,$(ENGINE_CC) $(ENGINE_CFLAGS))

$(ENGINE_OBJECT): $(GENERATED)/quickjs.c $(ENGINE)/flags
	$(call say,CC,"$< (takes most of a minute)")
	$(Q)$(ENGINE_CC) $(ENGINE_CFLAGS) -I$(GENERATED) -c $< -o $@.tmp
	$(Q)mv $@.tmp $@

# ---- The runtime and the program

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

-include $(VM_OBJECTS:.o=.d) $(MAIN_OBJECT:.o=.d)
