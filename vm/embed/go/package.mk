# SPDX-License-Identifier: MIT
#
# The package thawvm for Go, which is sources. Included by the Makefile at the root, after vm/engine.mk.

GO_ROOM := vm/embed/go
GO_FILES := $(filter-out %_test.go,$(wildcard $(GO_ROOM)/*.go)) $(wildcard $(GO_ROOM)/bridge.*) $(GO_ROOM)/go.mod $(GO_ROOM)/README.md

## check-go: the package for Go: vet and tests (installs Debian's golang-go, 470 MiB; not part of check)
.PHONY: check-go check-go-built
check-go:
	$(Q)scripts/install-deps go
	$(Q)$(MAKE) $@-built

# Of this build's library, and with nothing of the network.
check-go-built: $(BUILD)/libthawvm.so
	$(Q)mkdir -p $(BUILD)/go
	$(Q)printf '%s\n' 'Name: thawvm' 'Description: of this build' 'Version: $(VERSION)' 'Cflags: -I$(CURDIR)/vm/embed -I$(CURDIR)/uffd' \
		'Libs: -L$(abspath $(BUILD)) -lthawvm -Wl,-rpath,$(abspath $(BUILD))' >$(BUILD)/go/thawvm.pc
	$(Q)cd $(GO_ROOM) && export GOFLAGS=-mod=mod GOPROXY=off GOCACHE=$(abspath $(BUILD))/go/cache PKG_CONFIG_PATH=$(abspath $(BUILD))/go && \
		test -z "$$(gofmt -l .)" && go vet ./... && go test -count=1 -timeout 300s ./... && \
		go test -count=2 -cpu 1,4 -timeout 300s ./...
