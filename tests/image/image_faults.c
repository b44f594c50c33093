// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_faults.c - whichever call fails, and whichever allocation: the error is told, nothing that was
 * reported durable is lost, nothing that was not is believed, the same thing succeeds the next
 * time, and no memory and no descriptor is left behind.
 *
 * One fixed history of an image (faulted_history.h) is run again and again; in run k of a kind of fault, the
 * k-th call of that kind fails, or that one and all after it until somebody has been told; until k is beyond
 * the last (faults.h).
 *
 * What a power cut makes of the same failures: crash_states.c. Whole heaps with THAW_INJECT:
 * checkpoint_failure.c.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <dirent.h>
#include <limits.h>

#include "faulted_history.h"
#include "image/poly1305.h"

/* ---- What has to hold */

static unsigned descriptors(void)
{
	DIR *all = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(all))
		count++;
	closedir(all);
	return count;
}

static bool same_numbers(const struct listing *a, const struct listing *b)
{
	bool same = a->count == b->count && a->name_count == b->name_count;

	for (int i = 0; same && i < a->count; i++)
		same = a->generation[i].number == b->generation[i].number;
	return same;
}

/* Generation `number` of the file is one of those that were attempted: which one; else NULL. */
static const struct contents *attempt_find(struct image *reader)
{
	for (unsigned i = 0; i < attempt_count; i++)
		if (!contents_compare(reader, &attempts[i], true, PAGE))
			return &attempts[i];
	return NULL;
}

/* NULL: that generation holds what it has to. One that was never reported is known from here on. */
static const char *generation_check(uint64_t number, bool newest)
{
	struct image_options options = {.path = path, .read_only = true, .generation = number};
	struct thaw_error problem, passed_over;
	const struct contents *found;
	const char *result = NULL;
	struct image *reader;

	if (image_open(&options, &reader, &passed_over, &problem))
		return wrong("%s", problem.text);
	if (was_committed[number]) {
		result = contents_compare(reader, &committed[number], true, PAGE);
	} else {
		found = newest ? attempt_find(reader) : NULL;
		if (found)
			committed[number] = *found;
		else
			result = wrong("generation %lu is nothing that was attempted", number);
	}
	image_close(reader);
	return result;
}

/*
 * What the file lists now is what was reported durable, or, if the writer was in the middle of a commit,
 * one generation more. Each one is whole. NULL: so it is.
 */
static const char *image_check(bool may_be_more)
{
	static struct listing found;
	struct thaw_error problem;

	if (listing_read(path, &found, &problem))
		return wrong("%s", problem.text);
	if (!same_numbers(&found, &durable) && !may_be_more)
		return wrong("it lists another set of generations");
	for (int i = 0; i < found.count; i++) {
		const char *result = generation_check(found.generation[i].number,
						      may_be_more && i + 1 == found.count);

		if (result)
			return result;
	}
	if (thaw_image_verify(path, NULL, NULL, &problem))
		return wrong("%s", problem.text);
	return NULL;
}

/* What is listed now has been reported, or found by somebody who opened the image. */
static void listing_learn(void)
{
	struct thaw_error problem;

	if (listing_read(path, &durable, &problem))
		durable.count = 0;
	for (int i = 0; i < durable.count; i++)
		was_committed[durable.generation[i].number] = true;
}

/* A file that is not shortened, or whose holes are not given back, is as good as any. */
static bool fault_matters(void)
{
	return fault.kind == FAULT_WRITE || fault.kind == FAULT_SYNC || fault.kind == FAULT_RENAME;
}

static const char *step_run(const struct step *step)
{
	const char *result;
	int code;

	for (unsigned tries = 0;; tries++) {
		int fired_before = fired;
		error = (struct thaw_error){0};
		again = tries > 0;
		no_log = false;
		code = step->run();
		if (!code && fired != fired_before && fault_matters() && !no_log)
			return wrong("a call fails, and nobody is told");
		if (!code)
			break;
		if (fired == fired_before)
			return wrong("it fails without a fault: %d, %s", code, error.text);
		if (code > 0 || error.code != code || !error.text[0] || strchr(error.text, '\n'))
			return wrong("its error is %d, and the text is of %d: %s", code, error.code,
				     error.text);
		if (!strstr(error.text, path))
			return wrong("its error does not say which image: %s", error.text);
		if (tries > 100)
			return wrong("it fails for ever: %s", error.text);
		if (fault.count == LONG_MAX && tries == 1)
			fault.kind =
				FAULT_NONE; /* somebody was told, twice: the disk is well again */
		if (access(path, F_OK))
			continue;
		result = image_check(step->flags & COMMITS);
		if (result)
			return wrong("after \"%s\": %s", error.text, result);
		if (image && !image->log.stale) { /* else its lookups fail, too */
			tracking = true;	  /* it reads what it needs */
			result = contents_compare(image, &now, false, PAGE);
			tracking = false;
			if (result)
				return wrong("the writer after \"%s\": %s", error.text, result);
		}
		if (!image) /* the next who opens it goes on from what is there */
			listing_learn();
	}
	attempt_count = 0;
	return NULL;
}

static const char *history_run(void)
{
	const char *result;

	for (unsigned i = 0; i < STEPS; i++) {
		if ((steps[i].flags & LONGER) && !longer_history)
			continue;
		result = step_run(&steps[i]);
		if (result)
			return wrong("step %u, %s: %s", i, steps[i].name, result);
		listing_learn();
	}
	fault.kind = FAULT_NONE;
	return image_check(false);
}

/* One history from an empty directory. NULL: all was right. */
static const char *history_new(struct fault wanted)
{
	unsigned descriptors_before = descriptors();
	const char *result;

	unlink(path);
	image = NULL;
	memset(was_committed, 0, sizeof(was_committed));
	memset(committed, 0, sizeof(committed));
	memset(&now, 0, sizeof(now));
	memset(&durable, 0, sizeof(durable));
	attempt_count = 0;
	memset(calls, 0, sizeof(calls));
	memset(pointers, 0, sizeof(pointers));
	outstanding = strangers = 0;
	fired = 0;
	keyed = wanted.at % 3 == 1;
	encrypted = wanted.at % 3 == 2;
	dice.state = 5;
	fault = wanted;
	result = history_run();
	fault.kind = FAULT_NONE;
	if (result)
		return result;
	if (outstanding)
		return wrong("%ld pieces of memory were not given back", (long)outstanding);
	if (strangers)
		return wrong("%ld pieces of memory were given back twice", (long)strangers);
	if (descriptors() != descriptors_before)
		return wrong("%u descriptors are open, %u were", descriptors(), descriptors_before);
	return NULL;
}

FIXTURE(faults)
{
	int unused;
};
static int give_key(void *arg, bool make, uint8_t key[THAW_KEY_BYTES], struct thaw_error *why)
{
	(void)arg, (void)make, (void)why;
	memset(key, 7, THAW_KEY_BYTES);
	return 0;
}

FIXTURE_SETUP(faults)
{
	uint8_t out[16];

	/* What a thread keeps of libcrypto for its life is there before any history. */
	poly1305_hurry();
	poly1305(out, out, 0, (const uint8_t[32]){0});
	thaw_use_key(&(struct thaw_key_source){.get = give_key});
	ASSERT_TRUE(directory_make());
}
FIXTURE_TEARDOWN(faults)
{
	EXPECT_TRUE(directory_remove()) TH_LOG("%s: %s", directory, strerror(errno));
}

static void every(struct __test_metadata *_metadata, struct fault wanted, long least)
{
	long runs = 0;

	for (wanted.at = 0;; wanted.at++, runs++) {
		const char *result = history_new(wanted);

		ASSERT_EQ(NULL, result) TH_LOG("call %ld: %s", wanted.at, result);
		if (!fired)
			break;
	}
	TH_LOG("%ld calls failed, one after the other", runs);
	ASSERT_LE(least, runs);
}

TEST_F(faults, without_any_nothing_fails)
{
	const char *result = history_new((struct fault){0});

	ASSERT_EQ(NULL, result) TH_LOG("%s", result);
	for (enum kind kind = FAULT_ALLOCATION; kind < FAULT_KINDS; kind++)
		TH_LOG("kind %d: %ld calls", kind, (long)calls[kind]);
}

TEST_F(faults, with_a_key_nothing_fails_without_any)
{
	const char *result = history_new((struct fault){.at = 1});

	ASSERT_TRUE(keyed);
	ASSERT_EQ(NULL, result) TH_LOG("%s", result);
}

TEST_F(faults, encrypted_nothing_fails_without_any)
{
	const char *result = history_new((struct fault){.at = 2});

	ASSERT_TRUE(encrypted);
	ASSERT_EQ(NULL, result) TH_LOG("%s", result);
}

TEST_F(faults, short_and_interrupted_transfers_are_finished)
{
	const char *result;

	short_transfers = true;
	result = history_new((struct fault){0});
	short_transfers = false;
	ASSERT_EQ(NULL, result) TH_LOG("%s", result);
}

/* So many that the longer history would take minutes. */
TEST_F(faults, every_allocation)
{
	longer_history = false;
	every(_metadata, (struct fault){FAULT_ALLOCATION, .count = 1, .error = ENOMEM}, 100);
}

TEST_F(faults, every_allocation_from_one_on)
{
	longer_history = false;
	every(_metadata, (struct fault){FAULT_ALLOCATION, .count = LONG_MAX, .error = ENOMEM}, 100);
}

TEST_F(faults, every_open)
{
	every(_metadata, (struct fault){FAULT_OPEN, .count = 1, .error = EMFILE}, 10);
}

TEST_F(faults, every_read)
{
	longer_history = false;
	every(_metadata, (struct fault){FAULT_READ, .count = 1, .error = EIO}, 100);
}

TEST_F(faults, every_write)
{
	every(_metadata, (struct fault){FAULT_WRITE, .count = 1, .error = EIO}, 30);
}

TEST_F(faults, every_write_from_one_on)
{
	every(_metadata, (struct fault){FAULT_WRITE, .count = LONG_MAX, .error = EIO}, 30);
}

TEST_F(faults, every_write_that_needs_room)
{
	every(_metadata,
	      (struct fault){FAULT_WRITE, .count = LONG_MAX, .error = ENOSPC, .on_full = true}, 10);
}

TEST_F(faults, every_sync)
{
	every(_metadata, (struct fault){FAULT_SYNC, .count = 1, .error = EIO}, 30);
}

TEST_F(faults, every_sync_from_one_on)
{
	every(_metadata, (struct fault){FAULT_SYNC, .count = LONG_MAX, .error = EIO}, 30);
}

/* Neither is needed: the file is longer for a while, or has no holes. */
TEST_F(faults, every_truncation)
{
	every(_metadata, (struct fault){FAULT_TRUNCATE, .count = 1, .error = EIO}, 1);
}

TEST_F(faults, every_hole)
{
	every(_metadata, (struct fault){FAULT_PUNCH, .count = LONG_MAX, .error = EOPNOTSUPP}, 1);
}

TEST_F(faults, every_rename)
{
	every(_metadata, (struct fault){FAULT_RENAME, .count = 1, .error = EIO}, 1);
}

TEST_HARNESS_MAIN
