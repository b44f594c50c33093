/* SPDX-License-Identifier: MIT */
/*
 * branch.c - which line of a program's history this process goes on with: the first half of what thaw.effectId() gives.
 *
 * The second half is a number that is counted in the program's own memory. So a process that goes on after a crash counts as
 * the one before would have, and asks for the same effects under the same ids. But who goes back to an older generation,
 * or goes on with a copy of the image, begins another line, in which the same numbers stand for other effects: there
 * the first half is another one. It is computed from the line before and the point at which it was left, not drawn: if the
 * new line crashes before its first generation is durable, its next start is at the same point, and has the same.
 *
 * Owns nothing; the guest stores both in each generation (guest_common). Owner's thread. Must never let two lines have
 * the same first half: in doubt it is a new line.
 */
#define _GNU_SOURCE
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "internal.h"

_Static_assert(GUEST_BRANCH_BYTES == sizeof(XXH128_canonical_t), "a branch is one hash");

static void hash(const void *data, size_t bytes, uint8_t result[GUEST_BRANCH_BYTES])
{
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, bytes));
	memcpy(result, canonical.digest, GUEST_BRANCH_BYTES);
}

/* A clone has another uuid; a copy that somebody made of the file is another file, born at another time. */
static void home_of(const struct runtime *rt, const struct thaw_history *history,
		    uint8_t home[GUEST_BRANCH_BYTES])
{
	struct {
		uint8_t uuid[16];
		uint64_t inode, born_s, born_ns;
	} what = {0};
	struct statx status;

	memcpy(what.uuid, history->uuid, sizeof(what.uuid));
	if (!statx(AT_FDCWD, rt->options.image, 0, STATX_INO | STATX_BTIME, &status)) {
		what.inode = status.stx_ino;
		if (status.stx_mask & STATX_BTIME) {
			what.born_s = (uint64_t)status.stx_btime.tv_sec;
			what.born_ns = status.stx_btime.tv_nsec;
		}
	}
	hash(&what, sizeof(what), home);
}

static bool goes_on(const struct runtime *rt, const struct thaw_history *history,
		    const uint8_t home[GUEST_BRANCH_BYTES])
{
	return rt->restored && history->newest &&
	       thaw_opened(rt->heap)->reason != THAW_REASON_ROLLBACK &&
	       !memcmp(rt->guest->common.home, home, GUEST_BRANCH_BYTES);
}

void branch_open(struct runtime *rt)
{
	struct guest_common *common = &rt->guest->common;
	struct thaw_history history;
	struct {
		uint8_t before[GUEST_BRANCH_BYTES], home[GUEST_BRANCH_BYTES];
		uint64_t opened, next;
	} point = {0};

	common->forked = rt->options.fork_of != NULL;
	if (!rt->options.image) { /* nothing of it goes on */
		if (getrandom(common->branch, sizeof(common->branch), 0) < 0)
			memset(common->branch, 0, sizeof(common->branch));
		return;
	}
	thaw_history(rt->heap, &history);
	home_of(rt, &history, point.home);
	/* A clone that has no generation of its own yet has not begun, however often it was started. */
	common->forked &= memcmp(common->home, point.home, GUEST_BRANCH_BYTES) != 0;
	if (goes_on(rt, &history, point.home))
		return;
	memcpy(point.before, common->branch, sizeof(point.before));
	point.opened = rt->restored ? thaw_opened(rt->heap)->number : 0;
	point.next = history.next;
	hash(&point, sizeof(point), common->branch);
	memcpy(common->home, point.home, sizeof(common->home));
}

void owner_branches(struct runtime *rt)
{
	hash(rt->guest->common.branch, GUEST_BRANCH_BYTES, rt->guest->common.branch);
}

void owner_branches_by(struct runtime *rt, const void *data, size_t bytes)
{
	uint8_t both[2 * GUEST_BRANCH_BYTES];

	memcpy(both, rt->guest->common.branch, GUEST_BRANCH_BYTES);
	hash(data, bytes, both + GUEST_BRANCH_BYTES);
	hash(both, sizeof(both), rt->guest->common.branch);
}

void guest_branch_text(const struct guest *guest, char text[GUEST_BRANCH_TEXT])
{
	for (unsigned i = 0; i < GUEST_BRANCH_BYTES; i++)
		snprintf(text + 2 * i, 3, "%02x", guest->common.branch[i]);
}
