# SPDX-License-Identifier: MIT
#
# Bundles of libraries from npm (scripts/npm), which become part of the binary (libraries.S). Included by vm/engine.mk.
# url.js takes of tr46 and @exodus/bytes what lies beside it.

LIBRARY_SOURCES := vm/js/libraries
LIBRARY_NAMES := url idna streams encodings compression typescript
LIBRARY_BUNDLES := $(LIBRARY_NAMES:%=$(GENERATED)/libraries/%.js)
ESBUILD := $(NPM)/node_modules/esbuild/bin/esbuild
ESBUILD_FLAGS := --bundle --format=cjs --minify --keep-names --target=es2022 --platform=neutral --main-fields=module,main --conditions=import \
	--banner:js='(function (module, need) {' --footer:js='return module.exports;})' --log-level=warning

$(ESBUILD):
	@echo "make: the npm packages are missing, or older: run scripts/install-deps (make check and make demo do it)" >&2
	@false

$(LIBRARY_BUNDLES): $(GENERATED)/libraries/%.js: $(LIBRARY_SOURCES)/%.js scripts/npm/package-lock.json | $(ESBUILD)
	$(call say,BUNDLE,$@)
	$(Q)mkdir -p $(@D)
	$(Q)NODE_PATH=$(CURDIR)/$(NPM)/node_modules $(ESBUILD) $< $(ESBUILD_FLAGS) --outfile=$@
$(GENERATED)/libraries/url.js: $(LIBRARY_SOURCES)/url_idna.js $(LIBRARY_SOURCES)/url_encoding.js
$(GENERATED)/libraries/url.js: ESBUILD_FLAGS += --alias:tr46=./$(LIBRARY_SOURCES)/url_idna.js \
	--alias:@exodus/bytes/encoding.js=./$(LIBRARY_SOURCES)/url_encoding.js --alias:@exodus/bytes/whatwg.js=./$(LIBRARY_SOURCES)/url_encoding.js

# Compiled by the program that makes the boot image: no text in the heap, and no compiling when one is first used.
LIBRARY_CODE := $(if $(SYSROOT),build,$(BUILD))/$(LIBRARY_SOURCES)
ifeq ($(SYSROOT),)
$(LIBRARY_NAMES:%=$(LIBRARY_CODE)/%.code): $(LIBRARY_CODE)/%.code: $(GENERATED)/libraries/%.js $(BUILD)/boot-maker
	$(call say,COMPILE,$@)
	$(Q)mkdir -p $(@D)
	$(Q)THAW_WITHOUT= $(BUILD)/boot-maker $@.tmp $< thaw:library/$*
	$(Q)mv $@.tmp $@
else
$(LIBRARY_NAMES:%=$(LIBRARY_CODE)/%.code): $(LIBRARY_BUNDLES) $(ENGINE)/engine.c
	$(Q)$(MAKE) BUILD=build SYSROOT= CC=gcc AR=ar SANITIZE= COVERAGE= $@
endif
$(BUILD)/$(LIBRARY_SOURCES)/libraries.o: $(LIBRARY_SOURCES)/libraries.S $(LIBRARY_NAMES:%=$(LIBRARY_CODE)/%.code)
	$(call say,AS,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -Wa,-I$(LIBRARY_CODE) -c $< -o $@

# What their authors ask to be with every copy.
LIBRARY_LICENSES := $(GENERATED)/libraries/LICENSES
$(LIBRARY_LICENSES): scripts/npm/package-lock.json | $(ESBUILD)
	$(Q)mkdir -p $(@D)
	$(Q)for package in quickjs-wasi whatwg-url webidl-conversions tr46 punycode web-streams-polyfill @exodus/bytes pako sucrase; do \
		for file in $(NPM)/node_modules/$$package/LICENSE*; do \
			[ ! -f "$$file" ] || { printf '==== %s\n\n' $$package; cat "$$file"; echo; }; done; done > $@.tmp
	$(Q)mv $@.tmp $@
