/* SPDX-License-Identifier: MIT */
/*
 * branch.c - see branch.h. Owns nothing. Any thread. Must never let two lines have the same first half.
 */
#define _GNU_SOURCE
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "branch.h"

_Static_assert(BRANCH_BYTES == sizeof(XXH128_canonical_t), "a branch is one hash");

static void hash(const void *data, size_t bytes, uint8_t result[BRANCH_BYTES])
{
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, bytes));
	memcpy(result, canonical.digest, BRANCH_BYTES);
}

/* A clone has another uuid; a copy that somebody made of the file is another file, born at another time. */
static void home_of(const char *image, const struct thaw_history *history,
		    uint8_t home[BRANCH_BYTES])
{
	struct {
		uint8_t uuid[16];
		uint64_t inode, born_s, born_ns;
	} what = {0};
	struct statx status;

	memcpy(what.uuid, history->uuid, sizeof(what.uuid));
	if (!statx(AT_FDCWD, image, 0, STATX_INO | STATX_BTIME, &status)) {
		what.inode = status.stx_ino;
		if (status.stx_mask & STATX_BTIME) {
			what.born_s = (uint64_t)status.stx_btime.tv_sec;
			what.born_ns = status.stx_btime.tv_nsec;
		}
	}
	hash(&what, sizeof(what), home);
}

static void home_in_store(const char *replica, const struct thaw_history *history,
			  uint8_t home[BRANCH_BYTES])
{
	memset(home, 0, BRANCH_BYTES);
	branch_by(home, history->uuid, sizeof(history->uuid));
	branch_by(home, replica, strlen(replica));
}

bool branch_open(struct thaw *heap, const char *image, const char *replica, bool restored,
		 uint8_t branch[BRANCH_BYTES], uint8_t home[BRANCH_BYTES])
{
	struct thaw_history history;
	struct {
		uint8_t before[BRANCH_BYTES], home[BRANCH_BYTES];
		uint64_t opened, next;
	} point = {0};
	bool elsewhere;

	thaw_history(heap, &history);
	home_of(image, &history, point.home);
	elsewhere = memcmp(home, point.home, BRANCH_BYTES) != 0;
	if (replica) { /* what was at home in this file moves there with it */
		home_in_store(replica, &history, point.home);
		elsewhere = elsewhere && memcmp(home, point.home, BRANCH_BYTES) != 0;
	}
	if (restored && history.newest && thaw_opened(heap)->reason != THAW_REASON_ROLLBACK &&
	    !elsewhere) {
		memcpy(home, point.home, BRANCH_BYTES);
		return false;
	}
	memcpy(point.before, branch, sizeof(point.before));
	point.opened = restored ? thaw_opened(heap)->number : 0;
	point.next = history.next;
	hash(&point, sizeof(point), branch);
	memcpy(home, point.home, BRANCH_BYTES);
	return elsewhere;
}

void branch_again(uint8_t branch[BRANCH_BYTES])
{
	hash(branch, BRANCH_BYTES, branch);
}

void branch_by(uint8_t branch[BRANCH_BYTES], const void *data, size_t bytes)
{
	uint8_t both[2 * BRANCH_BYTES];

	memcpy(both, branch, BRANCH_BYTES);
	hash(data, bytes, both + BRANCH_BYTES);
	hash(both, sizeof(both), branch);
}
