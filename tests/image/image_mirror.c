// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_mirror.c - a copy that is made of takes alone is, after each of them, the image at that instant: the newest generation,
 * all others that it listed, and the names, whatever was committed, failed, moved or given up meanwhile, and however late
 * the take was read. See image_copy.h.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <stdatomic.h>

#include "image_copy.h"

#define HISTORIES 12u
#define STEPS 90u
#define TAKES 50u

int __wrap_sys_injected(enum sys_call call);

/* The next but `skip` call of this kind fails. */
static struct failure {
	enum sys_call call;
	int error, skip;
} failure;

/* Of a thread that commits beside another one that takes: each call gives that one time to come in between. */
static _Thread_local bool hesitates;

int __wrap_sys_injected(enum sys_call call)
{
	if (hesitates)
		usleep(random_below(3) * 50);
	if (!failure.error || call != failure.call || failure.skip--)
		return 0;
	call = failure.error;
	failure.error = 0;
	return (int)call;
}

/* ---- a history */

FIXTURE(mirror)
{
	struct thaw_error error, fallback;
	struct image *image;
	struct thaw_mirror *mirror;
	struct model model;
	struct copy copy;
	unsigned compress;
	bool encrypted;
};

static int give(void *arg, bool make, uint8_t key[THAW_KEY_BYTES], struct thaw_error *why)
{
	(void)make, (void)why;
	memcpy(key, arg, THAW_KEY_BYTES);
	return 0;
}

FIXTURE_SETUP(mirror)
{
	static uint8_t key[THAW_KEY_BYTES] = "thirty-two bytes of a user's key";

	thaw_use_key(&(struct thaw_key_source){.get = give, .arg = key, .name = "a test"});
	setenv("THAW_INJECT", "",
	       1); /* what failed may leave blocks taken: tests/inject/checks.c */
	model_setup("mirror");
	copy_begin(&self->copy);
}
FIXTURE_TEARDOWN(mirror)
{
	failure.error = 0;
	copy_end(&self->copy);
	if (self->mirror)
		mirror_close(self->mirror);
	image_close(self->image);
	made_clear();
	model_teardown();
}

static int open_image(FIXTURE_DATA(mirror) * self)
{
	struct image_options options = model_options();
	int code;

	options.compress = self->compress;
	options.encrypted = self->encrypted;
	code = image_open(&options, &self->image, &self->fallback, &self->error);
	if (code)
		self->image = NULL;
	return code;
}

static void fail_somewhere(void)
{
	static const enum sys_call calls[] = {SYS_CALL_WRITE, SYS_CALL_FDATASYNC, SYS_CALL_READ};

	failure = (struct failure){.call = calls[random_below(3)],
				   .error = random_below(2) ? -EIO : -ENOSPC,
				   .skip = (int)random_below(5)};
}

static void change_names(FIXTURE_DATA(mirror) * self)
{
	static const char *const names[] = {"one", "two", "three"};
	uint64_t newest = 0;

	if (random_below(2))
		image_tag(self->image, names[random_below(3)], &newest, 0, &self->error);
	else
		image_untag(self->image, names[random_below(3)], &self->error);
}

/* One step: it may fail, and then the model stays as it is. */
static void step(FIXTURE_DATA(mirror) * self)
{
	unsigned first = random_below(400), dice = random_below(20);

	if (dice < 3)
		fail_somewhere();
	if (dice == 4)
		wants_log(self->image);
	if (dice == 5)
		model_abort_somewhere(&self->model, self->image);
	else if (dice == 6)
		change_names(self);
	else if (dice == 7)
		image_fold(self->image, &self->error);
	else if (dice == 8)
		image_failed(self->image, random_next() % 3);
	else if (dice == 9 && self->model.number)
		thaw_mirror_dirty(self->mirror, random_below(300), 1 + random_below(100));
	else if (dice < 13)
		commit_pages(self->image, &self->model, first, 1 + random_below(200), &self->error);
	else
		commit_pages(self->image, &self->model, first, 1 + random_below(4), &self->error);
	failure.error = 0;
}

/* A commit of which half is in the file. */
static int half_commit(FIXTURE_DATA(mirror) * self, struct commit **commit)
{
	struct model other = self->model;
	int code = commit_begin(self->image, commit, &self->error);

	for (unsigned i = 0; !code && i < MODEL_PAGES; i += 1 + random_below(8)) {
		other.version[i] += 1000;
		code = model_store(*commit, &other, i, &self->error);
	}
	return code;
}

/* From the take on: commits go on, then a part is read, and so on. -ESTALE: too late. */
static int read_slowly(FIXTURE_DATA(mirror) * self)
{
	int code;

	do {
		for (unsigned i = random_below(6); i--;)
			step(self);
		code = copy_read(&self->copy, 1 + random_below(300));
	} while (!code);
	return code < 0 ? code : thaw_mirror_check(self->copy.take);
}

static unsigned copies, stales;

/* One take, and what becomes of it. */
static bool one_take(FIXTURE_DATA(mirror) * self)
{
	struct copy *copy = &self->copy;
	struct commit *commit = NULL;
	uint64_t newest = self->model.number;
	bool lost;
	int code;

	if (random_below(6) == 0 && half_commit(self, &commit))
		return false;
	code = copy_take(copy, self->mirror, &self->error);
	if (code)
		say("take: %s", self->error.text);
	if (code)
		return false;
	copy_names(copy, self->image);
	if (thaw_mirror_info(copy->take)->news.generation != newest) {
		say("of generation %llu",
		    (unsigned long long)thaw_mirror_info(copy->take)->news.generation);
		return false;
	}
	if (commit)
		commit_abort(commit);
	code = read_slowly(self);
	if (code && code != -ESTALE)
		say("read: %d", code);
	if (code && code != -ESTALE)
		return false;
	stales += code == -ESTALE;
	/* What is not confirmed comes again, whether it has got into the copy or not. */
	lost = random_below(4) == 0;
	if (!code && (!lost || random_below(2))) {
		copy_put(copy);
		if (!copy_is(copy, newest, &self->error))
			return false;
		copies++;
	}
	copy_done(copy, !code && !lost);
	return true;
}

static bool history(FIXTURE_DATA(mirror) * self)
{
	while (self->model.number < STEPS) {
		for (unsigned i = random_below(8); i--;)
			step(self);
		if (random_below(12) == 0) { /* its program ends, and goes on */
			mirror_close(self->mirror);
			self->mirror = NULL;
			image_close(self->image);
			if (open_image(self))
				return false;
			if (random_below(2) && image_settle(self->image, &self->error))
				return false;
			if (mirror_open(self->image, 0, &self->mirror, &self->error))
				return false;
		}
		if (!one_take(self))
			return false;
	}
	return true;
}

TEST_F(mirror, a_copy_made_of_takes_is_the_image_at_each_of_them)
{
	copies = stales = 0;
	for (unsigned i = 0; i < HISTORIES; i++) {
		random_state = 88172645463325252ull + i * 0x9e3779b97f4a7c15ull;
		self->compress = i % 2 ? THAW_COMPRESS_LZ4 : 0;
		self->encrypted = i % 4 > 1;
		ASSERT_EQ(0, open_image(self));
		ASSERT_EQ(0, mirror_open(self->image, 0, &self->mirror, &self->error));
		if (i % 3)
			wants_log(self->image);
		ASSERT_TRUE(history(self)) TH_LOG("history %u: %s", i, self->error.text);
		copy_end(&self->copy);
		mirror_close(self->mirror);
		image_close(self->image);
		self->mirror = NULL;
		self->image = NULL;
		self->model = (struct model){0};
		made_clear();
		unlink(model_path);
		copy_begin(&self->copy);
	}
	TH_LOG("%u copies, %u stale", copies, stales);
	ASSERT_EQ(0, stales); /* there is room for so little */
	ASSERT_LT(HISTORIES * 5, copies);
}

/* ---- beside a thread that commits */

static _Atomic int budget; /* commits that it may make; negative: it ends */

static void *commit_always(void *arg)
{
	FIXTURE_DATA(mirror) *self = arg;

	hesitates = true;
	while (budget >= 0) {
		if (!budget) {
			usleep(50);
			continue;
		}
		if (commit_pages(self->image, &self->model, random_below(400),
				 1 + random_below(budget % 8 ? 3 : 150), &self->error))
			abort();
		budget--;
	}
	return NULL;
}

TEST_F(mirror, takes_come_at_any_moment_of_a_commit)
{
	struct thaw_error error;
	pthread_t thread;

	self->copy.name_count = UINT32_MAX;
	ASSERT_EQ(0, open_image(self));
	ASSERT_EQ(0, mirror_open(self->image, 64 << 20, &self->mirror, &self->error));
	wants_log(self->image);
	budget = 1;
	ASSERT_EQ(0, pthread_create(&thread, NULL, commit_always, self));
	for (unsigned i = 0; i < TAKES; i++) {
		uint64_t newest;

		budget += 12;
		usleep(random_below(2000));
		ASSERT_EQ(0, copy_take(&self->copy, self->mirror, &error)) TH_LOG("%s", error.text);
		newest = thaw_mirror_info(self->copy.take)->news.generation;
		while (!copy_read(&self->copy, 1 + random_below(200)))
			usleep(random_below(200));
		ASSERT_EQ(0, thaw_mirror_check(self->copy.take));
		copy_put(&self->copy);
		copy_done(&self->copy, true);
		ASSERT_TRUE(copy_is(&self->copy, newest, &error))
		TH_LOG("take %u: %s", i, error.text);
	}
	budget = -1;
	ASSERT_EQ(0, pthread_join(thread, NULL));
}

static int open_both(FIXTURE_DATA(mirror) * self, uint64_t hold_bytes)
{
	int code = open_image(self);

	return code ? code : mirror_open(self->image, hold_bytes, &self->mirror, &self->error);
}

/* A file that is too long for what is in it: pages are moved to its front, and its end is cut off. */
TEST_F(mirror, pages_that_move_are_taken)
{
	uint64_t longest = 0;

	model_page_bytes = PAGE_MOST;
	ASSERT_EQ(0, open_both(self, 256 << 20));
	for (unsigned i = 0; i < 2; i++)
		ASSERT_EQ(0, commit_pages(self->image, &self->model, 0, MODEL_PAGES, &self->error));
	self->image->retention.newest = 1;
	for (unsigned i = 0; i < 12; i++) {
		struct thaw_generation generation = {.heap_bytes = 65536};
		struct commit *commit;
		uint64_t newest;

		longest = model_file_bytes() > longest ? model_file_bytes() : longest;
		ASSERT_EQ(0, commit_begin(self->image, &commit, &self->error));
		for (unsigned n = i ? MODEL_PAGES : 4; n < MODEL_PAGES - 3; n++) {
			self->model.version[n] = 0;
			ASSERT_EQ(0, commit_drop(commit, model_page(n), 1, &self->error));
		}
		self->model.version[0]++;
		self->model.state = 3;
		ASSERT_EQ(0, model_store(commit, &self->model, 0, &self->error));
		ASSERT_EQ(0, commit_finish(commit, &generation, NULL, 0, &self->error));
		self->model.number = newest = generation.number;
		made_add(&self->model);
		if (i % 3)
			continue;
		ASSERT_EQ(0, copy_take(&self->copy, self->mirror, &self->error));
		ASSERT_EQ(0, commit_pages(self->image, &self->model, 1, 2, &self->error));
		ASSERT_EQ(1, copy_read(&self->copy, UINT64_MAX));
		copy_put(&self->copy);
		ASSERT_TRUE(copy_is(&self->copy, newest, &self->error));
		copy_done(&self->copy, true);
	}
	ASSERT_GT(longest / 2, model_file_bytes());
}

TEST_HARNESS_MAIN
