# SPDX-License-Identifier: MIT
#
# The wheel of the package thaw_vm for Python, which brings the library, and what `make install` puts beside that of the system.
# Included by the Makefile at the root, after vm/engine.mk.

PYTHON_ROOM := vm/embed/python
PYTHON_FILES := $(wildcard $(PYTHON_ROOM)/thaw_vm/*.py) $(PYTHON_ROOM)/thaw_vm/py.typed
PYTHON_OUT := $(BUILD)/python
# Whose code is in the library, and beside it.
PYTHON_LICENSES := $(INSIDE_LICENSES) /usr/share/doc/libuv1-dev/copyright

## wheel: the package for Python, build/python/thaw_vm-VERSION-py3-none-linux_x86_64.whl: pip install it, offline and without a compiler
.PHONY: wheel
wheel: $(BUILD)/standalone/libthawvm.so $(LIBRARY_LICENSES)
	$(call say,WHEEL,$(PYTHON_OUT))
	$(Q)rm -rf $(PYTHON_OUT)
	$(Q)mkdir -p $(PYTHON_OUT)/source/thaw_vm
	$(Q)cp -r $(addprefix $(PYTHON_ROOM)/,pyproject.toml setup.py MANIFEST.in README.md examples) $(PYTHON_OUT)/source/
	$(Q)cp $(PYTHON_FILES) $(PYTHON_OUT)/source/thaw_vm/
	$(Q)cat $(LIBRARY_LICENSES) $(PYTHON_LICENSES) >$(PYTHON_OUT)/source/LICENSES
	$(Q)THAW_VM_LIBRARY=$(abspath $<) /usr/bin/python3 -m pip wheel -q --no-index --no-build-isolation --no-deps \
		-w $(PYTHON_OUT) $(PYTHON_OUT)/source
