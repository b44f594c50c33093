// SPDX-License-Identifier: MIT
/*
 * top_set.c - thaw top --set: changes tunables of the kernel module, and says what they are then.
 * Called by top.c instead of everything else it does. One thread.
 */
#include <errno.h>
#include <stdio.h>

#include "top.h"
#include "top/kmod_regions.h"

static int set_failed(const struct thaw_error *error, int code)
{
	switch (code) {
	case -EINVAL: /* the module refuses the value */
	case -ERANGE:
		return cli_fail(EXIT_USAGE, "--set: %s", error->text);
	case -ENOENT:
	case -EPERM:
		return cli_fail(EXIT_NO_KERNEL, "--set: %s", error->text);
	default:
		return cli_fail_error(error, code);
	}
}

int top_set(const char *tunables)
{
	struct kmod_tunables wanted, now;
	struct thaw_error error;
	struct kmod *kmod = NULL;
	int code = kmod_tunables_parse(tunables, &wanted, &error);

	if (!code)
		code = kmod_open(&kmod, &error);
	if (!code)
		code = kmod_tunables_set(kmod, &wanted, &error);
	if (!code)
		code = kmod_tunables_read(kmod, &now, &error);
	kmod_close(kmod);
	if (code)
		return set_failed(&error, code);
	printf("cluster-bytes=%u\nring-entries=%u\n", now.cluster_bytes, now.ring_entries);
	return cli_output_end();
}
