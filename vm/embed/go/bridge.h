/* SPDX-License-Identifier: MIT */
/* bridge.h - what cgo cannot say: callbacks of C that lead to exported functions of Go (callbacks.go). */
#ifndef THAWVM_GO_BRIDGE_H
#define THAWVM_GO_BRIDGE_H

#include <errno.h>
#include <stdlib.h>

#include <thaw_vm.h>

struct bridge_options {
	const char *image, *at;
	uint64_t max_bytes, turn_ns, max_log_bytes;
	char **names; /* of functions, and their flags */
	unsigned *flags;
	unsigned count;
	int log, load_module; /* are there such callbacks? */
	struct thaw_vm_snapshot *snapshot;
};

/* `handle` is a cgo.Handle, which the callbacks are given. */
int bridge_open(const struct bridge_options *options, uintptr_t handle, struct thaw_vm **vm,
		struct thaw_error *error);
/* What they lack, in one block for free(3). */
int bridge_missing(const struct bridge_options *options, char ***names, struct thaw_error *error);

#endif
