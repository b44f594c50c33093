/* SPDX-License-Identifier: MIT */
/*
 * branch.c - which line of a program's history this process goes on with (base/branch.h); the guest stores it in each
 * generation (guest_common). Owns nothing. Owner's thread.
 */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/branch.h"
#include "internal.h"

_Static_assert(GUEST_BRANCH_BYTES == BRANCH_BYTES, "it is the same");

void branch_begin(struct runtime *rt)
{
	struct guest_common *common = &rt->guest->common;

	common->forked = rt->options.fork_of != NULL;
	/* A clone that has no generation of its own yet has not begun, however often it was started. */
	if (rt->options.image)
		common->forked &= branch_open(rt->heap, rt->options.image,
					      rt->options.store ? rt->options.store->place : NULL,
					      rt->restored, common->branch, common->home);
	else if (getrandom(common->branch, sizeof(common->branch), 0) < 0)
		memset(common->branch, 0, sizeof(common->branch)); /* nothing of it goes on */
}

void owner_branches(struct runtime *rt)
{
	branch_again(rt->guest->common.branch);
}

void owner_branches_by(struct runtime *rt, const void *data, size_t bytes)
{
	branch_by(rt->guest->common.branch, data, bytes);
}

void guest_branch_text(const struct guest *guest, char text[GUEST_BRANCH_TEXT])
{
	for (unsigned i = 0; i < GUEST_BRANCH_BYTES; i++)
		snprintf(text + 2 * i, 3, "%02x", guest->common.branch[i]);
}
