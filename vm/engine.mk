# SPDX-License-Identifier: MIT
#
# The engine (C out of WebAssembly), the runtime around it, and the program `thaw`. Included by the Makefile at the root.

# What runs inside of a guest that is a process (vm/process/stub, vm/process/modules) is made in another way.
VM_SOURCES := $(filter-out vm/cli/main.c vm/js/boot/make.c vm/process/stub/% vm/process/modules/% vm/engines/object/% vm/embed/%,$(wildcard vm/*.c vm/*/*.c vm/*/*/*.c))
# The codec of snapshots, which the program does without.
EMBED_OBJECTS := $(patsubst %,$(BUILD)/vm/embed/snapshot_%.o,codec decode encode pages)
VM_ASSEMBLY := $(wildcard vm/*/*/*.S)
VM_OBJECTS := $(VM_SOURCES:%.c=$(BUILD)/%.o) $(VM_ASSEMBLY:%.S=$(BUILD)/%.o)
MAIN_OBJECT := $(BUILD)/vm/cli/main.o
# What is written by hand of the manual.
MANUAL := $(sort $(wildcard vm/cli/manual/*))
VM_OBJECTS += $(BUILD)/vm/cli/manual/pages.o
EMBEDDED := $(wildcard vm/js/api/*.js)
WASM := $(NPM)/node_modules/quickjs-wasi/quickjs.wasm
# What the engine is called in images, and the binary that it is made of: another binary, another meaning of what its heaps hold,
# or of a function of the host's, is another engine. Its shared object is called by a hash of its name (vm/engines).
ENGINE_IDENTITY := js-1 quickjs-wasi 3.6.2
# So is another layout of the state that goes into an image beside the heap (vm/js/state/blob.c), whose version this is. What images of a
# name rely on is in tests/engines/engine_name.c.
ENGINE_STATE := 3
ENGINE_WASM := d4c9375f2b1ca4dc95f72c8aa2982a7a9951ac8011490d79c6582df732b4bbd9
engine_hash = $(shell printf %s '$(1)' | sha256sum | cut -c1-16)
ENGINE_HASH := $(call engine_hash,$(ENGINE_IDENTITY))
.PHONY: engine-hash
engine-hash:
	@echo $(ENGINE_HASH)
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
# JSON is parsed where somebody talks to a program: statically, so that its start does not pay for one library more.
VM_LIBS := $(PACKAGE_LIBS) -l:libjansson.a -lm
# Only the headers of libmnl, of libmicrohttpd (vm/control/microhttpd.h), libcurl and expat (vm/store/libcurl.h): the libraries are loaded when they are needed
# (vm/top/mnl.h).
VM_CFLAGS += $(shell $(PKG_CONFIG) --cflags libmnl 2>/dev/null)
INCLUDES := -Iuffd -Ivm -I$(GENERATED)

# The engine's arithmetic must be WebAssembly's: no contraction into fused multiply-add, no folding that changes NaNs or
# rounding (what wabt asks for). Nobody reads the warnings of generated code.
ENGINE_CC ?= $(CC)
ENGINE_CFLAGS := -std=gnu11 -O2 -w $(SYSROOT:%=--sysroot=%) $(VM_CFLAGS) -ffp-contract=off -frounding-math -fsignaling-nans \
	-fno-strict-aliasing -fno-math-errno

# The generated code is in a section of its own, so that a signal handler can tell whether it has interrupted that
# (vm_stack_interrupt). By binutils of the compiler's machine.
ifeq ($(ARCHITECTURE),x86_64)
ENGINE_OBJCOPY ?= $(if $(filter %-gcc,$(ENGINE_CC)),$(ENGINE_CC:gcc=objcopy),objcopy)
name_sections = $(Q)$(ENGINE_OBJCOPY) --rename-section .text=engine_text $(1)
endif

TRANSLATE := vm/js/engine/translate
ifeq ($(SYSROOT)$(ARCHITECTURE)$(shell echo __clang__ | $(ENGINE_CC) -E -P - 2>/dev/null),x86_64__clang__)
ENGINE_PROFILE := $(ENGINE)/training
endif

# ---- The engine, once for every build directory of an architecture

$(WASM):
	@echo "make: the npm packages are missing: run scripts/install-deps (make check and make demo do it)" >&2
	@false

$(GENERATED)/quickjs.c: $(WASM)
	$(call say,WASM2C,$@)
	$(Q)echo '$(ENGINE_WASM)  $<' | sha256sum --check --quiet || \
		{ echo "make: $< is another binary: it needs another name in images (ENGINE_IDENTITY and ENGINE_WASM, vm/engine.mk)" >&2; false; }
	$(Q)mkdir -p $(@D)
	$(Q)wasm2c -n quickjs $< -o $@

$(GENERATED)/quickjs.h: $(GENERATED)/quickjs.c ;

$(ENGINE)/engine.c: $(GENERATED)/quickjs.c $(TRANSLATE)/translate.awk
	$(call say,AWK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)awk -f $(TRANSLATE)/translate.awk $< > $@

$(ENGINE)/flags: FORCE
	$(call write_if_changed,$(ENGINE_CC) $(ENGINE_CFLAGS) $(if $(name_sections),engine_text))

# The compiler lays the interpreter out by what it sees in a training run, which is the same in every build (trainer.c). With
# gcc 12 on x86-64 that is 8 % of the run time with the memory's base in a register, and without it a loss; elsewhere
# it was not measured.
$(ENGINE)/training: $(ENGINE)/engine.c $(TRANSLATE)/trainer.c $(TRANSLATE)/training.js $(ENGINE)/flags
	$(call say,CC,"$< (to be trained, takes a minute)")
	$(Q)rm -f $@.gcda
	$(Q)$(ENGINE_CC) $(ENGINE_CFLAGS) -fprofile-generate -fprofile-update=single -I$(GENERATED) -c $< -o $@.o
	$(Q)$(ENGINE_CC) $(ENGINE_CFLAGS) -I$(GENERATED) -c $(TRANSLATE)/trainer.c -o $@-host.o
	$(Q)$(ENGINE_CC) -no-pie -fprofile-generate $@-host.o $@.o -lm -o $@.tmp
	$(call say,TRAIN,$(TRANSLATE)/training.js)
	$(Q)$@.tmp $(TRANSLATE)/training.js
	$(Q)test -s $@.gcda
	$(Q)mv $@.tmp $@

$(ENGINE_OBJECT): $(ENGINE)/engine.c $(ENGINE)/flags $(ENGINE_PROFILE)
	$(call say,CC,"$< (takes most of a minute)")
	$(Q)$(ENGINE_CC) $(ENGINE_CFLAGS) $(ENGINE_PROFILE:%=-fprofile-use=$(CURDIR)/%.gcda) -I$(GENERATED) -c $< -o $@.tmp
	$(call name_sections,$@.tmp)
	$(Q)mv $@.tmp $@

# The same for shared objects, whose code may lie anywhere.
PIC_CFLAGS := -fno-pie -fPIC -fvisibility=hidden -ftls-model=initial-exec
ENGINE_PIC_OBJECT := $(ENGINE)/quickjs-pic.o
$(ENGINE_PIC_OBJECT): $(ENGINE)/engine.c $(ENGINE)/flags $(ENGINE_PROFILE)
	$(call say,CC,"$< (position-independent; takes most of a minute)")
	$(Q)$(ENGINE_CC) $(ENGINE_CFLAGS) $(PIC_CFLAGS) $(ENGINE_PROFILE:%=-fprofile-use=$(CURDIR)/%.gcda) -I$(GENERATED) -c $< -o $@.tmp
	$(call name_sections,$@.tmp)
	$(Q)mv $@.tmp $@

include vm/js/libraries/libraries.mk

# ---- The runtime and the program

$(BUILD)/vm/%.o: vm/%.c $(BUILD)/flags | $(GENERATED)/quickjs.h
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(BASE_CFLAGS) $(WARNINGS_FATAL) $(CFLAGS) $(VM_CFLAGS) $(INCLUDES) -MMD -MP -c $< -o $@

# Position-independent: what shared objects are made of.
$(BUILD)/pic/vm/%.o: vm/%.c $(BUILD)/flags | $(GENERATED)/quickjs.h
	$(call say,CC,"$< (position-independent)")
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(BASE_CFLAGS) $(WARNINGS_FATAL) $(CFLAGS) $(VM_CFLAGS) $(PIC_CFLAGS) $(INCLUDES) -MMD -MP -c $< -o $@

$(BUILD)/vm/js/engine/identity.o $(BUILD)/pic/vm/js/engine/identity.o: INCLUDES += -DJS_ENGINE_IDENTITY='"$(ENGINE_IDENTITY)"'
$(BUILD)/vm/js/engine/identity.o $(BUILD)/pic/vm/js/engine/identity.o: vm/engine.mk
$(BUILD)/vm/js/state/blob.o $(BUILD)/pic/vm/js/state/blob.o: INCLUDES += -DENGINE_STATE=$(ENGINE_STATE)u
$(BUILD)/vm/js/state/blob.o $(BUILD)/pic/vm/js/state/blob.o: vm/engine.mk

# The text of a function lies in the heap, and so in images: without comments and indentation it is half as long.
SHORTENED := $(EMBEDDED:%=$(GENERATED)/%)
$(SHORTENED) &: $(EMBEDDED) | $(ESBUILD)
	$(call say,SHORTEN,vm/js/api)
	$(Q)$(ESBUILD) $(EMBEDDED) --outdir=$(GENERATED)/vm/js/api --minify-whitespace --legal-comments=none --log-level=warning
	$(Q)touch $(SHORTENED)

$(BUILD)/vm/%.o: vm/%.S $(SHORTENED) $(BUILD)/flags
	$(call say,AS,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(INCLUDES) -I. -MMD -MP -c $< -o $@

# A name and a text, and so on, each with a zero behind it, and an empty name (vm/cli/manual.c).
$(BUILD)/vm/cli/manual/pages.o: $(MANUAL) $(BUILD)/sources
	$(call say,AS,$@)
	$(Q)mkdir -p $(@D)
	$(Q){ echo '.section .rodata; .global manual_pages; manual_pages:'; \
		for page in $(MANUAL); do printf '.asciz "%s"\n.incbin "%s"\n.byte 0\n' "$${page##*/}" "$$page"; done; \
		echo '.byte 0; .section .note.GNU-stack, "", @progbits'; } | $(CC) -x assembler -c - -o $@

# ---- What runs inside of a process guest: a shared object and a static program, both of which become part of the binary.
# Neither has anything of the flags for this build: no sanitizers, no coverage. The restorer has no libc either, and is
# linked where no guest has anything (LOCAL_START in control.h).

STUB := vm/process/stub
STUB_OUT := $(BUILD)/$(STUB)
STUB_SOURCES := $(filter-out $(STUB)/restorer.c,$(wildcard $(STUB)/*.c))
RESTORER_SOURCES := $(STUB)/restorer.c $(STUB)/executor.c
STUB_CFLAGS := -std=gnu11 -D_GNU_SOURCE -O2 $(WARNINGS) -fno-stack-protector -fcf-protection=none -fno-builtin -mno-red-zone \
	-U_FORTIFY_SOURCE -Ivm $(PACKAGE_CFLAGS)
RESTORER_CFLAGS := $(STUB_CFLAGS) -ffreestanding -fPIE -mgeneral-regs-only

ifeq ($(ARCHITECTURE),x86_64)
STUB_PROGRAMS := $(STUB_OUT)/stub.so $(STUB_OUT)/restorer
STUB_DEFINES := -DSTUB_PATH='"$(STUB_OUT)/stub.so"' -DRESTORER_PATH='"$(STUB_OUT)/restorer"'
endif

$(STUB_OUT)/stub.so: $(STUB_SOURCES:$(STUB)/%.c=$(STUB_OUT)/%.pic.o)
	$(call say,LD,$@)
	$(Q)$(CC) -shared -Wl,-z,now,-z,relro,-z,noexecstack,-z,defs -Wl,--build-id=sha1 -s $^ -o $@

$(STUB_OUT)/restorer: $(RESTORER_SOURCES:$(STUB)/%.c=$(STUB_OUT)/%.restorer.o)
	$(call say,LD,$@)
	$(Q)$(CC) -static -nostdlib -Wl,-Ttext-segment=0x600000000000 -Wl,-z,noexecstack -Wl,--build-id=none -s $^ -o $@

$(STUB_OUT)/%.pic.o: $(STUB)/%.c $(BUILD)/flags
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(STUB_CFLAGS) $(WARNINGS_FATAL) -fPIC -fvisibility=hidden -MMD -MP -c $< -o $@

$(STUB_OUT)/%.restorer.o: $(STUB)/%.c $(BUILD)/flags
	$(call say,CC,"$< (restorer)")
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(RESTORER_CFLAGS) $(WARNINGS_FATAL) -MMD -MP -c $< -o $@

$(STUB_OUT)/embedded.o: $(STUB)/embedded.S $(STUB_PROGRAMS)
	$(call say,AS,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(STUB_DEFINES) -c $< -o $@

-include $(STUB_SOURCES:$(STUB)/%.c=$(STUB_OUT)/%.pic.d) $(RESTORER_SOURCES:$(STUB)/%.c=$(STUB_OUT)/%.restorer.d)

# ---- The boot image: made by a program of the same objects. Another architecture's is made here, and is the same.

BOOT := vm/js/boot
BOOT_HEAP := $(BUILD)/$(BOOT)/heap
ifeq ($(SYSROOT),)
BOOT_OBJECTS := $(BUILD)/$(BOOT)/make.o $(filter-out $(BUILD)/$(BOOT)/heap.o $(BUILD)/$(LIBRARY_SOURCES)/libraries.o,$(VM_OBJECTS))
$(BUILD)/boot-maker: $(BOOT_OBJECTS) $(ENGINE_OBJECT) $(BUILD)/libthaw.a
	$(call say,LD,$@)
	$(Q)$(CC) $(VM_LDFLAGS) $(LDFLAGS) $^ $(VM_LIBS) -o $@
-include $(BUILD)/$(BOOT)/make.d

$(BOOT_HEAP): $(BUILD)/boot-maker
	$(call say,BOOT,$@)
	$(Q)THAW_WITHOUT= $< $@.tmp
	$(Q)mv $@.tmp $@
else
$(BOOT_HEAP): $(VM_SOURCES) $(EMBEDDED)
	$(Q)mkdir -p $(@D)
	$(Q)$(MAKE) BUILD=build SYSROOT= CC=gcc AR=ar SANITIZE= COVERAGE= build/$(BOOT)/heap
	$(Q)cp build/$(BOOT)/heap $@
endif
$(BUILD)/$(BOOT)/heap.o: $(BOOT)/heap.S $(BOOT_HEAP)
	$(call say,AS,$<)
	$(Q)$(CC) -DBOOT_HEAP='"$(BOOT_HEAP)"' -c $< -o $@

# Everything but main(): what the tests link with. A thin archive: it names the objects, it does not copy them.
$(BUILD)/libvm.a: $(VM_OBJECTS) $(ENGINE_OBJECT) $(BUILD)/sources
	$(call say,AR,$@)
	$(Q)rm -f $@
	$(Q)$(AR) rcsT $@ $(VM_OBJECTS) $(ENGINE_OBJECT)

$(BUILD)/thaw: $(MAIN_OBJECT) $(BUILD)/libvm.a $(BUILD)/libthaw.a
	$(call say,LD,$@)
	$(Q)$(CC) $(VM_LDFLAGS) $(LDFLAGS) $^ $(VM_LIBS) -o $@

-include $(VM_OBJECTS:.o=.d) $(EMBED_OBJECTS:.o=.d) $(MAIN_OBJECT:.o=.d)

# ---- libthawvm: the guest with another owner, as a shared object beside libthaw's, where it finds that also if neither is in
# a directory of the system's (a distribution's package needs no such help: LIBVM_RUNPATH=).
LIBVM_RUNPATH ?= $$ORIGIN
LIBVM_FINDS = -Wl,-rpath,'$(LIBVM_RUNPATH)'

# The functions of thaw_vm.h go by other names where they are made: what a program calls is in dispatch.c (vm/embed/table.h).
OWN_NAMES := $(BUILD)/pic/own_names.h
OWNER_NAMES := $(BUILD)/pic/owner_names.h
$(OWN_NAMES): vm/embed/table.h vm/engine.mk
	$(Q)mkdir -p $(@D)
	$(Q)sed -nE 's/^\t+((VM|SNAPSHOT|SPECIAL)\()?[a-z_0-9 ]+\**, (thaw_vm_[a-z_]+),.*/#define \3 own_\3/p' $< >$@
$(OWNER_NAMES): vm/engines/calls.h vm/engine.mk
	$(Q)mkdir -p $(@D)
	$(Q)sed -nE 's/^\t+(CALL\()?[a-z_0-9 ]+\**, (owner_[a-z_]+|guest_branch_text),.*/#define \2 vm_\2/p' $< >$@
	$(Q)echo '#define owner_tell vm_owner_tell' >>$@
# Nor are owner_*() what a guest calls, which is in guest_owner.c, or in the object of an engine.
RENAMED := $(filter-out $(patsubst %,vm/embed/%.c,dispatch table guest_owner snapshot_codec),$(wildcard vm/embed/*.c))
$(RENAMED:%.c=$(BUILD)/pic/%.o): INCLUDES += -include $(OWN_NAMES) -include $(OWNER_NAMES)
$(RENAMED:%.c=$(BUILD)/pic/%.o): $(OWN_NAMES) $(OWNER_NAMES)
# Of vm/inspect what compares two heaps.
LIBVM_PARTS := $(filter vm/js/% vm/base/%,$(VM_SOURCES)) $(wildcard vm/inspect/graph*.c) \
	$(patsubst %,vm/inspect/%.c,describe diff_print heap_diff heap_diff_values inspection number_map)
LIBVM_SOURCES := $(wildcard vm/embed/*.c) vm/engines/engines.c $(LIBVM_PARTS)
LIBVM_OBJECTS := $(LIBVM_SOURCES:%.c=$(BUILD)/pic/%.o) $(patsubst %.S,$(BUILD)/%.o,$(filter vm/js/%,$(VM_ASSEMBLY)))
$(BUILD)/libthawvm.so: $(LIBVM_OBJECTS) $(ENGINE_PIC_OBJECT) vm/embed/libthawvm.map $(BUILD)/libthaw.so $(BUILD)/sources
	$(call say,LD,$@)
	$(Q)ln -sf libthaw.so $(BUILD)/libthaw.so.0
	$(Q)$(CC) -shared -pthread $(LDFLAGS) $(if $(SANITIZE),,-Wl,-z,defs) -Wl,-Bsymbolic,-z,relro,-z,now,-z,noexecstack,-z,nodelete \
		$(if $(LIBVM_RUNPATH),$(LIBVM_FINDS)) -Wl,-soname,libthawvm.so.0 -Wl,--version-script=vm/embed/libthawvm.map $(filter %.o,$^) $(BUILD)/libthaw.so \
		$(VM_LIBS) -o $@
	$(Q)ln -sf libthawvm.so $(BUILD)/libthawvm.so.0
-include $(LIBVM_SOURCES:%.c=$(BUILD)/pic/%.d)

# The same in one file, for packages of other languages, which bring what they need: libthaw and the others are inside, and
# shown to nobody. But for libuv, whose archive is not position-independent: it may lie beside it.
INSIDE := jansson lz4 zstd uring xxhash sodium
INSIDE_LIBS := $(INSIDE:%=-l:lib%.a)
INSIDE_LICENSES := $(INSIDE:%=/usr/share/doc/lib%-dev/copyright)
$(BUILD)/standalone/libthawvm.so: $(LIBVM_OBJECTS) $(ENGINE_PIC_OBJECT) vm/embed/libthawvm.map $(BUILD)/libthaw.a $(BUILD)/sources
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -shared -pthread $(LDFLAGS) $(if $(SANITIZE),,-Wl,-z,defs) \
		-Wl,-Bsymbolic,-z,relro,-z,now,-z,noexecstack,-z,nodelete,--gc-sections,-rpath,'$$ORIGIN' -Wl,-soname,libthawvm.so.0 \
		-Wl,--version-script=vm/embed/libthawvm.map -s $(filter %.o,$^) $(BUILD)/libthaw.a $(INSIDE_LIBS) -luv -lm -o $@

# ---- This build's engine as a shared object, for the programs of later builds: the guest, with what it needs of base/, and
# what libthawvm is around it. It is not linked with what loads it, and calls that by a table (vm/engines/calls.h).

ENGINE_SHARED := $(BUILD)/engines/$(ENGINE_HASH).so
all: $(ENGINE_SHARED)
ENGINE_SHARED_SOURCES := $(LIBVM_PARTS) vm/engines/object/entry.c \
	$(filter-out %/dispatch.c %/guest_owner.c,$(wildcard vm/embed/*.c))
ENGINE_SHARED_OBJECTS := $(ENGINE_SHARED_SOURCES:%.c=$(BUILD)/pic/%.o) \
	$(patsubst %.S,$(BUILD)/%.o,$(filter vm/js/%,$(VM_ASSEMBLY)))
define link_engine
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -shared -pthread $(LDFLAGS) $(if $(SANITIZE),,-Wl,-z,defs) -Wl,-Bsymbolic,-z,relro,-z,now,-z,noexecstack -Wl,--build-id=sha1 \
		-Wl,-soname,$(@F) -Wl,--version-script=vm/engines/object/object.map -s $(filter %.o,$^) $(VM_LIBS) -o $@.tmp
	$(seal_engine)
endef
# It ends in a checksum of what it is (vm/engines/engines.c).
define seal_engine
	$(Q)printf 'thaw engine %s\n' "$$(b2sum -l 256 <$@.tmp | cut -c1-64)" >>$@.tmp
	$(Q)mv $@.tmp $@
endef
$(ENGINE_SHARED): $(ENGINE_SHARED_OBJECTS) $(ENGINE_PIC_OBJECT) vm/engines/object/object.map $(BUILD)/sources vm/engine.mk
	$(link_engine)

-include $(ENGINE_SHARED_SOURCES:%.c=$(BUILD)/pic/%.d)

# ---- What a program under `thaw exec` may import; Python's needs no compiler, and Node's none where it is installed. The
# functions of N-API are those of the program that loads it.

NODE_ADDON := $(BUILD)/vm/process/modules/node/thaw.node
$(NODE_ADDON): vm/process/modules/node/thaw.c $(BUILD)/flags
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(filter-out -fsanitize=% --coverage -fprofile-update=%,$(BASE_CFLAGS) $(WARNINGS_FATAL) $(CFLAGS)) -fPIC \
		-fvisibility=hidden -shared -Wl,-z,noexecstack $< -o $@
