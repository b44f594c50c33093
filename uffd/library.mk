# SPDX-License-Identifier: MIT
#
# libthaw: the static and the shared library. Included by the Makefile at the root.

LIB_SOURCES := $(wildcard uffd/*.c uffd/*/*.c)
LIB_OBJECTS := $(LIB_SOURCES:%.c=$(BUILD)/%.o)
LIB_CFLAGS := -fPIC -fvisibility=hidden

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
		-Wl,--version-script=uffd/libthaw.map $(LIB_OBJECTS) -luring -lxxhash -lsodium -llz4 -lzstd -o $@

-include $(LIB_OBJECTS:.o=.d)
