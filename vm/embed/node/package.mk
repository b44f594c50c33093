# SPDX-License-Identifier: MIT
#
# The package thaw-vm for Node.js: the addon with all of libthawvm inside of one file, which needs libc and libm only, and what is
# around it, as a tarball that npm installs offline. Included by the Makefile at the root, after vm/engine.mk.
#
# One file and not libthawvm.so beside it: nothing is found by a path, no two versions can meet in a process, and the symbols of the
# libraries inside are shown to nobody. libuv's are not inside: its archive is not position-independent, a VM of the library has
# no loop and never calls them, and every Node.js has them. Its handlers of signals outlive the worker that loaded it: so does it.

NODE_ROOM := vm/embed/node
NODE_HEADERS := $(NPM)/node_modules/node-api-headers/include
NODE_OUT := $(BUILD)/node
NODE_PLATFORM := linux-$(if $(filter aarch64,$(ARCHITECTURE)),arm64,x64)
NODE_VM_ADDON := $(NODE_OUT)/package/$(NODE_PLATFORM)/thaw_vm.node
NODE_PACKAGE := $(NODE_OUT)/thaw-vm-$(VERSION).0.tgz
NODE_SOURCES := $(wildcard $(NODE_ROOM)/*.c)
NODE_OBJECTS := $(NODE_SOURCES:%.c=$(BUILD)/pic/%.o)
NODE_FILES := $(addprefix $(NODE_ROOM)/,index.js index.mjs index.d.ts package.json README.md example.js)

$(NODE_HEADERS)/node_api.h:
	@echo "make: the npm packages are missing: run scripts/install-deps (make check and make demo do it)" >&2
	@false

$(NODE_OBJECTS): INCLUDES += -isystem $(NODE_HEADERS)
$(NODE_OBJECTS): | $(NODE_HEADERS)/node_api.h

$(NODE_VM_ADDON): $(NODE_OBJECTS) $(LIBVM_OBJECTS) $(ENGINE_PIC_OBJECT) $(NODE_ROOM)/addon.map $(BUILD)/libthaw.a $(BUILD)/sources
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -shared -pthread $(LDFLAGS) -Wl,-Bsymbolic,-z,relro,-z,now,-z,noexecstack,-z,nodelete,--gc-sections \
		-Wl,--version-script=$(NODE_ROOM)/addon.map -s $(filter %.o,$^) $(BUILD)/libthaw.a \
		$(INSIDE_LIBS) -lm -o $@
	$(Q)! nm -D --undefined-only $@ | grep -v ' [Uw] \(.*@GLIBC_\|napi_\|uv_\|_ITM_\|__gmon_start__\|ZSTD_trace_\)' || \
		{ echo "make: $@ lacks a library (INSIDE_LIBS, vm/engine.mk)" >&2; false; }

## node-package: the package for Node.js, build/node/thaw-vm-VERSION.tgz: npm install it anywhere, offline and without a compiler
.PHONY: node-package
node-package: $(NODE_PACKAGE)
# Node.js loads nothing that is instrumented, and runs no other architecture's.
NODE_TESTED := $(if $(SANITIZE)$(COVERAGE)$(SYSROOT),,$(NODE_PACKAGE))
all: $(NODE_TESTED)

# The same files give the same bytes.
$(NODE_PACKAGE): $(NODE_VM_ADDON) $(NODE_FILES) $(LIBRARY_LICENSES)
	$(call say,PACK,$@)
	$(Q)cp $(NODE_FILES) $(NODE_OUT)/package/
	$(Q){ cat LICENSE; for one in $(LIBRARY_LICENSES) $(INSIDE_LICENSES); do \
		printf '\n==== %s\n\n' "$$one"; cat "$$one"; done; } >$(NODE_OUT)/package/LICENSES
	$(Q)sed -i 's/@VERSION@/$(VERSION).0/' $(NODE_OUT)/package/package.json
	$(Q)tar -c --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=a+rX,u+w -C $(NODE_OUT) package | gzip -9n >$@.tmp
	$(Q)mv $@.tmp $@

-include $(NODE_OBJECTS:.o=.d)
