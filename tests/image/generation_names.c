// SPDX-License-Identifier: GPL-2.0-only
/*
 * generation_names.c - generations are named, kept for their names, found by them, and made the newest
 * again; whatever is refused, or is killed on the way, costs nothing that there was.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <signal.h>
#include <time.h>

#include "named_image.h"

/* A new generation; the test says what is dropped by it. */
static int step(struct image *image)
{
	int code;

	for (unsigned i = 0; i < 40; i++)
		model.version[random_below(MODEL_PAGES)] = (uint32_t)random_next();
	model.state = (uint32_t)random_below(100000);
	model.kind = THAW_KIND_BOUND;
	code = model_commit(image, &model, &error);
	if (!code)
		history_add(&history, &model);
	return code;
}

static void forget(uint64_t number)
{
	unsigned stay = 0;

	for (unsigned i = 0; i < history.count; i++)
		if (history.kept[i].number != number)
			history.kept[stay++] = history.kept[i];
	history.count = stay;
}

static void reopen(struct image_options *options, struct image **image)
{
	image_close(*image);
	*image = NULL;
	if (image_open(options, image, &fallback, &error))
		fprintf(stderr, "# %s\n", error.text);
}

static int names_count(void)
{
	struct thaw_name *names;
	int count = path_names(model_path, &names, &error);

	free(names);
	return count;
}

static uint64_t found(const char *word)
{
	uint64_t number = 0;
	int code = path_find(model_path, word, &number, &error);

	return code == THAW_ENOGEN ? 0 : code ? UINT64_MAX : number;
}

static XXH128_hash_t file_hash(void)
{
	XXH128_hash_t hash;
	size_t bytes = model_file_bytes();
	char *data = malloc(bytes);
	FILE *file = fopen(model_path, "r");

	if (!bytes || !file || !data || fread(data, 1, bytes, file) != bytes)
		abort();
	hash = XXH3_128bits(data, bytes);
	fclose(file);
	free(data);
	return hash;
}

#define EXPECT_UNTOUCHED(before) EXPECT_TRUE(XXH128_isEqual(before, file_hash()))
#define EXPECT_LISTED(...)                                                      \
	do {                                                                    \
		const uint64_t listed_[] = {__VA_ARGS__};                       \
		ASSERT_EQ(sizeof(listed_) / sizeof(listed_[0]), history.count); \
		for (unsigned n_ = 0; n_ < history.count; n_++)                 \
			ASSERT_EQ(listed_[n_], history.kept[n_].number);        \
		ASSERT_EQ((int)history.count, history_compare(&history));       \
	} while (0)

/* ---- Giving, moving, finding, taking away */

TEST_F(named, generations_are_found_by_name)
{
	XXH128_hash_t before;

	for (int i = 0; i < 3; i++)
		ASSERT_EQ(0, step(self->image));
	image_close(self->image);
	self->image = NULL;
	EXPECT_STREQ("", names_now());
	ASSERT_EQ(0, thaw_image_tag(model_path, "a", 1, 0, &error)) TH_LOG("%s", error.text);
	ASSERT_EQ(0, thaw_image_tag(model_path, "b", 0, 0, &error));
	EXPECT_STREQ("a=1 b=3", names_now());
	EXPECT_EQ(1, found("a"));
	EXPECT_EQ(3, found("b"));
	EXPECT_EQ(2, found("2"));
	EXPECT_EQ(0, found("4"));
	EXPECT_EQ(0, found("c"));
	EXPECT_EQ(0, found(""));
	EXPECT_EQ(0, found("-1"));
	EXPECT_EQ(0, found(" 1"));
	EXPECT_EQ(0, found("1 "));
	EXPECT_EQ(0, found("18446744073709551617")); /* 2^64 + 1 */

	/* What is so already is not written again; what somebody else has is not taken from him. */
	before = file_hash();
	EXPECT_EQ(0, thaw_image_tag(model_path, "a", 1, 0, &error));
	EXPECT_EQ(-EEXIST, thaw_image_tag(model_path, "a", 2, 0, &error));
	EXPECT_NE(NULL, strstr(error.text, "generation 1 is named 'a' already"));
	EXPECT_EQ(THAW_ENOGEN, thaw_image_tag(model_path, "c", 99, 0, &error));
	EXPECT_EQ(THAW_ENOGEN, thaw_image_untag(model_path, "c", &error));
	EXPECT_EQ(THAW_ENOGEN, thaw_image_untag(model_path, "1", &error));
	EXPECT_EQ(THAW_ENOGEN, thaw_image_rollback(model_path, 99, NULL, &error));
	EXPECT_UNTOUCHED(before);
	EXPECT_STREQ("a=1 b=3", names_now());

	ASSERT_EQ(0, thaw_image_tag(model_path, "a", 2, THAW_TAG_MOVE, &error));
	ASSERT_EQ(0, thaw_image_tag(model_path, "c", 2, THAW_TAG_MOVE, &error));
	EXPECT_STREQ("a=2 b=3 c=2", names_now());
	ASSERT_EQ(0, thaw_image_untag(model_path, "a", &error));
	EXPECT_STREQ("b=3 c=2", names_now());
	EXPECT_LISTED(1, 2, 3);
	EXPECT_EQ(0, model_verify());
	reopen(&self->options, &self->image);
	ASSERT_NE(NULL, self->image);
	EXPECT_EQ(SAME, model_compare(self->image, &model, &error));
	EXPECT_TRUE(space_is_exact(self->image));
}

TEST_F(named, where_nothing_can_be_named)
{
	XXH128_hash_t before = file_hash();

	EXPECT_EQ(THAW_EINUSE, thaw_image_tag(model_path, "a", 1, 0, &error));
	EXPECT_EQ(THAW_EINUSE, thaw_image_untag(model_path, "a", &error));
	EXPECT_EQ(THAW_EINUSE, thaw_image_rollback(model_path, 1, NULL, &error));
	image_close(self->image);
	self->image = NULL;
	EXPECT_EQ(THAW_ENOGEN, thaw_image_tag(model_path, "a", 0, 0, &error));
	EXPECT_NE(NULL, strstr(error.text, "holds no generation yet"));
	EXPECT_EQ(THAW_ENOGEN, thaw_image_tag(model_path, "a", 1, 0, &error));
	EXPECT_EQ(THAW_ENOGEN, thaw_image_untag(model_path, "a", &error));
	EXPECT_EQ(THAW_ENOGEN, thaw_image_rollback(model_path, 0, NULL, &error));
	EXPECT_UNTOUCHED(before);
	EXPECT_EQ(0, names_count());
	unlink(model_path);
	EXPECT_EQ(-ENOENT, thaw_image_tag(model_path, "a", 1, 0, &error));
	EXPECT_EQ(-ENOENT, thaw_image_rollback(model_path, 1, NULL, &error));
	EXPECT_EQ(-ENOENT, names_count());
	EXPECT_EQ(-1, access(model_path, F_OK));
}

static const char *const good_names[] = {
	"a",
	"Z",
	"_",
	".",
	"/",
	":",
	"@",
	"+",
	"1-",
	"1.0",
	"v1",
	"a-b",
	"...",
	"../../etc",
	"release/2025-01-31",
	"a@b:c",
	"x+y_z",
	"0x1",
	"+1",
	"e-",
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde", /* 63 */
};

TEST_F(named, what_a_name_may_be)
{
	XXH128_hash_t before;

	ASSERT_EQ(0, step(self->image));
	image_close(self->image);
	self->image = NULL;
	before = file_hash();
	for (unsigned i = 0; i < sizeof(bad_names) / sizeof(bad_names[0]); i++) {
		EXPECT_FALSE(thaw_name_valid(bad_names[i])) TH_LOG("'%s'", bad_names[i]);
		EXPECT_EQ(-EINVAL, thaw_image_tag(model_path, bad_names[i], 1, 0, &error))
		TH_LOG("'%s'", bad_names[i]);
	}
	EXPECT_UNTOUCHED(before);
	for (unsigned i = 0; i < sizeof(good_names) / sizeof(good_names[0]); i++) {
		EXPECT_TRUE(thaw_name_valid(good_names[i]));
		EXPECT_EQ(0, thaw_image_tag(model_path, good_names[i], 1, 0, &error))
		TH_LOG("'%s': %s", good_names[i], error.text);
		EXPECT_EQ(1, found(good_names[i]));
		EXPECT_EQ(0, thaw_image_untag(model_path, good_names[i], &error));
	}
	EXPECT_EQ(0, model_verify());
}

/* ---- Keeping */

TEST_F(named, one_with_a_name_stays)
{
	struct thaw_image_info with, without;

	for (int i = 0; i < 3; i++)
		ASSERT_EQ(0, step(self->image));
	image_close(self->image);
	ASSERT_EQ(0, thaw_image_tag(model_path, "a", 1, 0, &error));
	ASSERT_EQ(0, thaw_image_tag(model_path, "b", 1, 0, &error));
	ASSERT_EQ(0, thaw_image_tag(model_path, "c", 3, 0, &error));
	self->image = NULL;
	reopen(&self->options, &self->image);
	ASSERT_NE(NULL, self->image);
	/* 1 to 6 are commits; 4, 5 and 6 made names only. */
	for (int i = 0; i < 30; i++) {
		ASSERT_EQ(0, step(self->image));
		if (i == 1)
			forget(2);
		if (i > 2)
			forget(history.kept[2].number);
		ASSERT_EQ((int)history.count, history_compare(&history)) TH_LOG("%d", i);
		ASSERT_TRUE(space_is_exact(self->image)) TH_LOG("%d", i);
	}
	EXPECT_LISTED(1, 3, 34, 35, 36);
	image_close(self->image);
	self->image = NULL;

	/* Two names: one of them will do. Without any, it goes with the next commit, not before. */
	ASSERT_EQ(0, thaw_image_untag(model_path, "a", &error));
	reopen(&self->options, &self->image);
	ASSERT_EQ(0, step(self->image));
	forget(34);
	EXPECT_LISTED(1, 3, 35, 36, 38);
	image_close(self->image);
	self->image = NULL;
	ASSERT_EQ(0, thaw_image_untag(model_path, "b", &error));
	EXPECT_LISTED(1, 3, 35, 36, 38);
	reopen(&self->options, &self->image);
	ASSERT_EQ(0, path_info(model_path, true, &with, &error));
	ASSERT_EQ(0, model_commit(self->image, &model, &error)); /* the same pages again */
	history_add(&history, &model);
	forget(1);
	forget(35);
	EXPECT_LISTED(3, 36, 38, 40);
	ASSERT_TRUE(space_is_exact(self->image));
	ASSERT_EQ(0, path_info(model_path, true, &without, &error));
	/* 1 and 35 held at least what 40 pages each time had been before. */
	EXPECT_LE(without.retained_bytes + 40 * PAGE, with.retained_bytes);
	EXPECT_STREQ("c=3", names_now());

	/* A name that moves on leaves the one before to what is retained. */
	image_close(self->image);
	self->image = NULL;
	ASSERT_EQ(0, thaw_image_tag(model_path, "c", 38, THAW_TAG_MOVE, &error));
	reopen(&self->options, &self->image);
	for (int i = 0; i < 4; i++)
		ASSERT_EQ(0, step(self->image));
	forget(3);
	forget(36);
	forget(40);
	forget(42);
	EXPECT_LISTED(38, 43, 44, 45);
	ASSERT_TRUE(space_is_exact(self->image));
	EXPECT_EQ(0, model_verify());
}

TEST_F(named, there_is_a_limit)
{
	struct thaw_generation *log;
	XXH128_hash_t before;
	struct commit *commit;
	char name[16];

	/* Two names for each of 400 generations, of which one would be retained, and 198 more. */
	self->options.retain = 1;
	reopen(&self->options, &self->image);
	for (unsigned i = 0; i < 400; i++) {
		ASSERT_EQ(0, commit_begin(self->image, &commit, &error));
		for (unsigned n = 0; n < 2; n++) {
			snprintf(name, sizeof(name), "%c%u", "ab"[n], i);
			ASSERT_EQ(0, commit_name(commit, name, &(uint64_t){COMMIT_ITSELF}, &error));
		}
		model.version[i] = i + 1;
		ASSERT_EQ(0, model_store(commit, &model, i, &error));
		ASSERT_EQ(0, model_finish(commit, &model, &error));
	}
	ASSERT_EQ(0, commit_begin(self->image, &commit, &error));
	for (unsigned i = 0; i < 199; i++) {
		snprintf(name, sizeof(name), "c%u", i);
		ASSERT_EQ(0, commit_name(commit, name, &(uint64_t){1}, &error));
	}
	ASSERT_EQ(0, commit_finish(commit, NULL, NULL, 0, &error));
	ASSERT_EQ(400, path_log(model_path, &log, &error));
	free(log);
	ASSERT_TRUE(space_is_exact(self->image));
	image_close(self->image);
	self->image = NULL;
	ASSERT_EQ(0, thaw_image_tag(model_path, "last", 0, 0, &error));
	ASSERT_EQ(THAW_NAMES_MAX, names_count());
	before = file_hash();
	EXPECT_EQ(-ENOSPC, thaw_image_tag(model_path, "more", 1, 0, &error));
	EXPECT_NE(NULL, strstr(error.text, "1000 names"));
	EXPECT_UNTOUCHED(before);
	EXPECT_EQ(0, thaw_image_tag(model_path, "c7", 2, THAW_TAG_MOVE, &error));
	EXPECT_EQ(0, thaw_image_untag(model_path, "c8", &error));
	EXPECT_EQ(0, thaw_image_tag(model_path, "more", 1, 0, &error));
	EXPECT_EQ(400, found("last"));
	EXPECT_EQ(2, found("c7"));
	EXPECT_EQ(1, found("more"));
	EXPECT_EQ(0, model_verify());

	/* All at once away with them, and with what they kept. */
	reopen(&self->options, &self->image);
	ASSERT_EQ(0, commit_begin(self->image, &commit, &error));
	for (unsigned i = 0; i < 400; i++)
		for (unsigned n = 0; n < 2; n++) {
			snprintf(name, sizeof(name), "%c%u", "ab"[n], i);
			ASSERT_EQ(0, commit_name(commit, name, NULL, &error));
		}
	ASSERT_EQ(0, model_finish(commit, &model, &error));
	ASSERT_EQ(4, path_log(model_path, &log, &error)); /* c*, c7, last and this one */
	EXPECT_EQ(1, log[0].number);
	EXPECT_EQ(2, log[1].number);
	EXPECT_EQ(400, log[2].number);
	EXPECT_EQ(400, log[3].ancestor);
	free(log);
	ASSERT_TRUE(space_is_exact(self->image));
	EXPECT_EQ(SAME, model_compare(self->image, &model, &error));
	EXPECT_EQ(0, model_verify());
}

/* ---- Going back */

TEST_F(named, an_old_one_becomes_the_newest)
{
	struct thaw_generation made, *log;
	struct model second;

	for (int i = 0; i < 3; i++)
		ASSERT_EQ(0, step(self->image));
	second = history.kept[1];
	image_close(self->image);
	self->image = NULL;
	ASSERT_EQ(0, thaw_image_tag(model_path, "a", 1, 0, &error)); /* commit 4 */
	ASSERT_EQ(0, thaw_image_rollback(model_path, 2, &made, &error)) TH_LOG("%s", error.text);
	EXPECT_EQ(5, made.number);
	EXPECT_EQ(2, made.parent);
	EXPECT_EQ(2, made.ancestor);
	EXPECT_EQ(THAW_REASON_ROLLBACK, made.reason);
	EXPECT_EQ(THAW_KIND_BOUND, made.kind);
	EXPECT_EQ(0, made.pages_stored);
	EXPECT_LT(made.bytes_written, 64u << 10);
	second.number = 5;
	history_add(&history, &second);
	EXPECT_LISTED(1, 2, 3, 5);
	EXPECT_STREQ("a=1", names_now());

	/* It is what is opened; what follows descends from it; now 2 and 3 are dropped. */
	model = second;
	reopen(&self->options, &self->image);
	ASSERT_NE(NULL, self->image);
	EXPECT_EQ(5, image_opened(self->image)->number);
	EXPECT_EQ(SAME, model_compare(self->image, &model, &error));
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, step(self->image));
	forget(2);
	forget(3);
	EXPECT_LISTED(1, 5, 6, 7);
	ASSERT_EQ(4, path_log(model_path, &log, &error));
	EXPECT_EQ(1, log[1].ancestor); /* 2 was, and is gone */
	EXPECT_EQ(2, log[1].parent);
	EXPECT_EQ(5, log[2].ancestor);
	free(log);
	EXPECT_TRUE(space_is_exact(self->image));

	/* And back again, over and over: nothing is lost, and nothing but the record grows. */
	image_close(self->image);
	self->image = NULL;
	for (int i = 0; i < 40; i++) {
		ASSERT_EQ(0, thaw_image_rollback(model_path, i % 2 ? 1 : 7, NULL, &error));
		ASSERT_EQ(i + 5, path_log(model_path, &log, &error));
		EXPECT_EQ(i % 2 ? 1 : 7, log[i + 4].ancestor);
		free(log);
	}
	EXPECT_EQ(0, model_verify());
	model = history.kept[0];
	reopen(&self->options, &self->image);
	EXPECT_EQ(SAME, model_compare(self->image, &model, &error));
	ASSERT_EQ(0, step(self->image));
	EXPECT_TRUE(space_is_exact(self->image));
	ASSERT_EQ(4, path_log(model_path, &log, &error)); /* 1 and the newest three */
	free(log);
}

/* A tool does not decide what a damaged image is worth. */
TEST_F(named, nothing_is_changed_where_the_newest_is_damaged)
{
	XXH128_hash_t before;
	uint64_t zero = 0;
	int fd;

	for (int i = 0; i < 3; i++)
		ASSERT_EQ(0, step(self->image));
	image_close(self->image);
	self->image = NULL;
	fd = open(model_path, O_RDWR);
	ASSERT_EQ(8, pwrite(fd, &zero, 8, 4096 + 96)); /* generation 3 is in slot 1 */
	close(fd);
	before = file_hash();
	EXPECT_EQ(THAW_EDAMAGED, thaw_image_tag(model_path, "a", 0, 0, &error));
	EXPECT_EQ(THAW_EDAMAGED, thaw_image_tag(model_path, "a", 1, 0, &error));
	EXPECT_EQ(THAW_EDAMAGED, thaw_image_rollback(model_path, 1, NULL, &error));
	EXPECT_UNTOUCHED(before);
}

/* ---- Killed on the way */

/* One change after the other, each reported when it is durable, until it is killed. */
static _Noreturn void change_for_ever(int report)
{
	for (uint64_t i = 1;; i++) {
		uint64_t one = 1 + i % 3;
		int code = i % 4 == 3 ? thaw_image_untag(model_path, "a", &error)
			   : i % 4 == 0
				   ? thaw_image_rollback(model_path, 1 + i % 2, NULL, &error)
				   : thaw_image_tag(model_path, "a", one, THAW_TAG_MOVE, &error);

		if (code || write(report, &i, sizeof(i)) != sizeof(i))
			_exit(code ? 1 : 0);
	}
}

static uint64_t name_after(uint64_t change)
{
	while (change && change % 4 == 0)
		change--;
	return !change || change % 4 == 3 ? 0 : 1 + change % 3;
}

TEST_F(named, what_was_reported_survives_a_kill)
{
	uint64_t total = 0;

	for (int i = 0; i < 3; i++)
		ASSERT_EQ(0, step(self->image));
	image_close(self->image);
	self->image = NULL;
	for (int round = 0; round < 25; round++) {
		struct thaw_generation *log;
		uint64_t last = 0, change;
		int report[2], count;
		pid_t child;

		ASSERT_EQ(0, pipe(report));
		thaw_image_untag(model_path, "a", &error);
		ASSERT_LE(3, path_log(model_path, &log, &error));
		free(log);
		child = fork();
		if (!child)
			change_for_ever(report[1]);
		close(report[1]);
		nanosleep(&(struct timespec){.tv_nsec = (long)random_below(40) * 1000000}, NULL);
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		while (read(report[0], &change, sizeof(change)) == sizeof(change))
			last = change;
		close(report[0]);
		total += last;
		/* The one that was under way may have become durable. */
		EXPECT_TRUE(found("a") == name_after(last) || found("a") == name_after(last + 1))
		TH_LOG("after %lu changes: %s", last, names_now());
		count = path_log(model_path, &log, &error);
		ASSERT_LE(3 + (int)(last / 4), count);
		free(log);
		ASSERT_EQ(0, model_verify());
		reopen(&self->options, &self->image);
		ASSERT_NE(NULL, self->image);
		ASSERT_EQ(0, fallback.code);
		image_close(self->image);
		self->image = NULL;
	}
	TH_LOG("%lu changes in 25 lives", total);
	EXPECT_GT(total, 25);
}

TEST_HARNESS_MAIN
