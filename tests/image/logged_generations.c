// SPDX-License-Identifier: GPL-2.0-only
/*
 * logged_generations.c - generations that are in the log of an image alone: whoever opens it goes on from the newest, and
 * every command that changes or copies the image has it, too; what is damaged in the log is told, and costs what came
 * after it; a reader beside a writer that logs keeps its generation; an image without room for a log does without.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <signal.h>
#include <sys/resource.h>

#include "image/format.h"
#include "image_model.h"

#define LOGGED 6u

static uint8_t right_key[THAW_KEY_BYTES] = "thirty-two bytes of a user's key";

static int give(void *arg, bool make, uint8_t key[THAW_KEY_BYTES], struct thaw_error *why)
{
	(void)arg, (void)make, (void)why;
	memcpy(key, right_key, THAW_KEY_BYTES);
	return 0;
}

FIXTURE(logged)
{
	struct thaw_error error, fallback;
	struct image *image;
	struct model models[LOGGED + 2]; /* after each: two that are listed first */
	unsigned count;
	uint64_t entries[LOGGED]; /* where they begin */
};
enum kind { PLAIN, KEYED, ENCRYPTED };
FIXTURE_VARIANT(logged)
{
	enum kind kind;
};
FIXTURE_VARIANT_ADD(logged, plain){.kind = PLAIN};
FIXTURE_VARIANT_ADD(logged, keyed){.kind = KEYED};
FIXTURE_VARIANT_ADD(logged, encrypted){.kind = ENCRYPTED};

static struct image_options options_of(enum kind kind)
{
	struct image_options options = model_options();

	options.keyed = kind == KEYED;
	options.encrypted = kind == ENCRYPTED;
	return options;
}

/* One generation more, of these pages. 1: it is not in the log. */
static int generation_commit(struct image *image, struct model *model, unsigned first,
			     unsigned count, struct thaw_error *error)
{
	struct thaw_generation generation = {.heap_bytes = 65536, .reason = THAW_REASON_REQUEST};
	static uint8_t state[9000];
	struct commit *commit;
	int code, logged;

	model->state += 3; /* as long as before */
	code = commit_begin(image, &commit, error);
	if (code)
		return code;
	for (unsigned i = first; !code && i < first + count; i++)
		code = model->version[i] || i % 8 ? model_store(commit, model, i, error)
						  : commit_drop(commit, model_page(i), 1, error);
	model_fill_state(state, model->state);
	logged = code;
	if (!code)
		logged = code = commit_log(commit, &generation, state,
					   model_state_bytes(model->state), error);
	if (code > 0)
		code = commit_finish(commit, &generation, state, model_state_bytes(model->state),
				     error);
	if (code) {
		commit_abort(commit);
		return code;
	}
	model->number = model->portable = generation.number;
	return logged;
}

/* ... in which some pages change a little, one becomes zero, one is given up, one appears. */
static int generation_make(struct image *image, struct model *model, struct thaw_error *error)
{
	unsigned first = 3 + model->state * 7 % 500;

	wants_log(image);
	for (unsigned i = first; i < first + 4; i++)
		model->version[i] = i % 4 ? model->version[i] + 1 : 0;
	return generation_commit(image, model, first, 4, error);
}

/* ... in which so many are new. */
static int large_make(struct image *image, struct model *model, unsigned count,
		      struct thaw_error *error)
{
	image_log_wanted(image);
	image->log.fold_ns = UINT64_MAX;
	for (unsigned i = 300; i < 300 + count; i++)
		model->version[i] += 1000;
	return generation_commit(image, model, 300, count, error);
}

/* The image as its killed owner has left it. */
FIXTURE_SETUP(logged)
{
	struct image_options options = options_of(variant->kind);
	struct model model = {.state = 1};

	thaw_use_key(&(struct thaw_key_source){.get = give, .arg = right_key, .name = "a test"});
	model_setup("logged");
	ASSERT_EQ(0, image_open(&options, &self->image, &self->fallback, &self->error));
	for (unsigned i = 0; i < 300; i++)
		model.version[i] = 1;
	ASSERT_EQ(0, model_commit(self->image, &model, &self->error));
	self->models[self->count++] = model;
	for (unsigned i = 0; i <= LOGGED; i++) {
		if (i)
			self->entries[i - 1] =
				self->image->record.log.offset + self->image->log.used;
		ASSERT_EQ(i == 0, generation_make(self->image, &model, &self->error))
		TH_LOG("%s", self->error.text);
		self->models[self->count++] = model;
	}
	image_close(self->image);
	self->image = NULL;
}
FIXTURE_TEARDOWN(logged)
{
	image_close(self->image);
	model_teardown();
}

static const struct model *newest(const FIXTURE_DATA(logged) * self)
{
	return &self->models[self->count - 1];
}

static uint64_t listed(struct thaw_error *error)
{
	struct thaw_generation *log;
	int count = path_log(model_path, &log, error);
	uint64_t number = count > 0 ? log[count - 1].number : 0;

	free(log);
	return number;
}

static void flip(uint64_t offset)
{
	int fd = open(model_path, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	if (pread(fd, &byte, 1, (off_t)offset) != 1)
		abort();
	byte ^= 16;
	if (pwrite(fd, &byte, 1, (off_t)offset) != 1)
		abort();
	close(fd);
}

static void closed(FIXTURE_DATA(logged) * self)
{
	image_close(self->image);
	self->image = NULL;
}

/* NULL: it is that generation, to the byte. */
static const char *opened_is(FIXTURE_DATA(logged) * self, enum kind kind, const struct model *model)
{
	struct image_options options = options_of(kind);

	closed(self);
	if (image_open(&options, &self->image, &self->fallback, &self->error))
		return self->error.text;
	if (image_opened(self->image)->number != model->number)
		return "another generation is opened";
	return model_compare(self->image, model, &self->error) == SAME ? NULL
								       : "its contents are others";
}

TEST_F(logged, the_newest_is_opened_and_listed_by_the_next)
{
	struct model model = *newest(self);
	const char *result = opened_is(self, variant->kind, &model);

	ASSERT_EQ(NULL, result) TH_LOG("%s", result);
	EXPECT_EQ(0, self->fallback.code);
	EXPECT_EQ(self->models[1].number, listed(&self->error));
	/* What was found is listed with the next; what lies between is nowhere. */
	ASSERT_EQ(1, generation_make(self->image, &model, &self->error));
	EXPECT_LT(newest(self)->number, model.number);
	EXPECT_EQ(model.number, listed(&self->error));
	EXPECT_EQ(0, thaw_image_verify(model_path, NULL, NULL, &self->error))
	TH_LOG("%s", self->error.text);
	result = opened_is(self, variant->kind, &model);
	EXPECT_EQ(NULL, result) TH_LOG("%s", result);
	closed(self);
	EXPECT_EQ(THAW_ENOGEN,
		  thaw_image_tag(model_path, "between", self->models[3].number, 0, &self->error));
}

/* The last entry is no damage: what a kill tore was never reported. */
TEST_F(logged, what_follows_a_damaged_entry_is_lost_and_told)
{
	for (unsigned entry = 0; entry < LOGGED; entry++) {
		uint64_t at = self->entries[entry] + 300;
		const struct model *before = &self->models[1 + entry];
		bool last = entry + 1 == LOGGED;
		const char *result;

		flip(at);
		result = opened_is(self, variant->kind, before);
		EXPECT_EQ(NULL, result) TH_LOG("entry %u: %s", entry, result);
		EXPECT_EQ(last ? 0 : THAW_EDAMAGED, self->fallback.code);
		closed(self);
		EXPECT_EQ(last ? 0 : THAW_EDAMAGED,
			  thaw_image_verify(model_path, NULL, NULL, &self->error));
		if (!last) { /* not for good, before its owner was told */
			EXPECT_EQ(THAW_EDAMAGED, thaw_image_settle(model_path, &self->error));
			EXPECT_EQ(self->models[1].number, listed(&self->error));
		}
		flip(at);
	}
	EXPECT_EQ(0, thaw_image_verify(model_path, NULL, NULL, &self->error));
}

TEST_F(logged, who_goes_on_behind_damage_takes_no_number_twice)
{
	struct model model = self->models[3];
	const char *result;

	flip(self->entries[2] + 2 * sizeof(uint64_t));
	result = opened_is(self, variant->kind, &model);
	ASSERT_EQ(NULL, result) TH_LOG("%s", result);
	ASSERT_EQ(1, generation_make(self->image, &model, &self->error));
	EXPECT_LT(newest(self)->number, model.number);
	EXPECT_EQ(0, thaw_image_verify(model_path, NULL, NULL, &self->error));
	result = opened_is(self, variant->kind, &model);
	EXPECT_EQ(NULL, result) TH_LOG("%s", result);
}

static int tag(const char *copy)
{
	(void)copy;
	return thaw_image_tag(model_path, "named", 0, 0, NULL);
}

static int compact(const char *copy)
{
	(void)copy;
	return thaw_image_compact(model_path, 0, NULL, NULL, NULL);
}

static int settle_and_clone(const char *copy)
{
	int code = thaw_image_settle(model_path, NULL);

	return code ? code : thaw_image_clone(model_path, copy, 0, NULL, NULL, NULL);
}

static int settle_and_repair(const char *copy)
{
	int code = thaw_image_settle(model_path, NULL);

	return code ? code : thaw_image_repair(model_path, copy, NULL, NULL, NULL);
}

static int copy_bytes(const char *copy)
{
	char command[512];

	snprintf(command, sizeof(command), "cp '%s' '%s'", model_path, copy);
	return system(command);
}

TEST_F(logged, commands_have_the_newest)
{
	int (*const commands[])(const char *copy) = {tag, compact, settle_and_clone,
						     settle_and_repair, copy_bytes};
	char saved[300], copy[300], own[sizeof(model_path)];

	snprintf(own, sizeof(own), "%s", model_path);
	snprintf(saved, sizeof(saved), "%s.saved", own);
	snprintf(copy, sizeof(copy), "%s.copy", own);
	ASSERT_EQ(0, rename(own, saved));
	for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		char command[700];
		const char *result;

		closed(self);
		snprintf(command, sizeof(command), "cp '%s' '%s'", saved, own);
		ASSERT_EQ(0, system(command));
		EXPECT_EQ(0, commands[i](copy)) TH_LOG("command %u", i);
		if (!access(copy, F_OK))
			ASSERT_EQ(0, rename(copy, own));
		result = opened_is(self, variant->kind, newest(self));
		EXPECT_EQ(NULL, result) TH_LOG("command %u: %s", i, result);
		EXPECT_EQ(0, thaw_image_verify(own, NULL, NULL, &self->error))
		TH_LOG("command %u: %s", i, self->error.text);
	}
}

TEST_F(logged, an_older_one_is_opened_and_the_newest_stays)
{
	struct image_options options = options_of(variant->kind);
	struct model model = self->models[0];

	options.generation = model.number;
	ASSERT_EQ(0, image_open(&options, &self->image, &self->fallback, &self->error));
	EXPECT_EQ(SAME, model_compare(self->image, &model, &self->error));
	EXPECT_EQ(newest(self)->number, listed(&self->error));
	ASSERT_EQ(1, generation_make(self->image, &model, &self->error));
	EXPECT_LT(newest(self)->number, model.number);
	image_close(self->image);
	options.generation = newest(self)->number;
	ASSERT_EQ(0, image_open(&options, &self->image, &self->fallback, &self->error));
	EXPECT_EQ(SAME, model_compare(self->image, newest(self), &self->error));
}

/* Its number was told when it was durable. Only those between are nowhere. */
TEST_F(logged, the_newest_is_opened_by_its_number)
{
	struct image_options options = options_of(variant->kind);
	const char *result;

	for (unsigned i = self->count; i-- > 2;) {
		bool last = i + 1 == self->count;

		options.generation = self->models[i].number;
		ASSERT_EQ(last ? 0 : THAW_ENOGEN,
			  image_open(&options, &self->image, &self->fallback, &self->error));
		EXPECT_EQ(newest(self)->number, listed(&self->error));
		if (last)
			EXPECT_EQ(SAME, model_compare(self->image, newest(self), &self->error));
		closed(self);
	}
	result = opened_is(self, variant->kind, newest(self));
	EXPECT_EQ(NULL, result) TH_LOG("%s", result);
	EXPECT_EQ(0, self->fallback.code);
	EXPECT_EQ(0, thaw_image_verify(model_path, NULL, NULL, &self->error));
}

/* Who is refused loses nothing, and the numbers are what they were. */
TEST_F(logged, a_refused_open_leaves_the_newest)
{
	struct image_options options = options_of(variant->kind);
	const char *result;

	options.generation = newest(self)->number + 1;
	for (unsigned i = 0; i < 2; i++) {
		EXPECT_EQ(THAW_ENOGEN,
			  image_open(&options, &self->image, &self->fallback, &self->error));
		EXPECT_NE(NULL, strstr(self->error.text, "no generation"))
		TH_LOG("%s", self->error.text);
		options.generation = self->models[3].number;
	}
	EXPECT_EQ(newest(self)->number, listed(&self->error));
	for (unsigned i = 0; i < 2; i++) {
		options.generation = self->models[i].number;
		closed(self);
		ASSERT_EQ(0, image_open(&options, &self->image, &self->fallback, &self->error));
		EXPECT_EQ(SAME, model_compare(self->image, &self->models[i], &self->error));
	}
	result = opened_is(self, variant->kind, newest(self));
	EXPECT_EQ(NULL, result) TH_LOG("%s", result);
}

TEST_F(logged, a_reader_keeps_its_generation_while_others_are_logged)
{
	const struct image_options only_read = {.path = model_path, .read_only = true};
	struct model model = *newest(self), read = self->models[1];
	struct image *reader;
	unsigned logged = 0;
	const char *result;

	ASSERT_EQ(0, image_open(&only_read, &reader, &self->fallback, &self->error));
	EXPECT_EQ(read.number, image_opened(reader)->number);
	result = opened_is(self, variant->kind, &model);
	ASSERT_EQ(NULL, result) TH_LOG("%s", result);
	for (unsigned i = 0; i < 300; i++) {
		int code = generation_make(self->image, &model, &self->error);

		ASSERT_LE(0, code) TH_LOG("%s", self->error.text);
		logged += !code;
		if (i % 60 == 59) {
			EXPECT_EQ(SAME, model_compare(reader, &read, &self->error));
			EXPECT_EQ(0, thaw_image_verify(model_path, NULL, NULL, &self->error))
			TH_LOG("%s", self->error.text);
		}
	}
	EXPECT_LT(250, logged);
	image_close(reader);
	result = opened_is(self, variant->kind, &model);
	EXPECT_EQ(NULL, result) TH_LOG("%s", result);
}

TEST_F(logged, where_they_are_large_the_log_becomes_longer)
{
	struct model model = *newest(self), kept[4];
	const char *result = opened_is(self, variant->kind, &model);

	ASSERT_EQ(NULL, result) TH_LOG("%s", result);
	/* The first after an open is in no log; the next one has no room in it; then it has. */
	ASSERT_EQ(1, large_make(self->image, &model, 200, &self->error));
	EXPECT_EQ(LOG_BYTES, self->image->record.log.bytes);
	ASSERT_EQ(1, large_make(self->image, &model, 200, &self->error));
	EXPECT_EQ(LOG_BYTES_LARGE, self->image->record.log.bytes);
	kept[0] = model;
	for (unsigned i = 1; i < 4; i++) {
		ASSERT_EQ(0, large_make(self->image, &model, 290, &self->error));
		kept[i] = model;
	}
	/* Killed: all is there, and its length stays. */
	result = opened_is(self, variant->kind, &kept[3]);
	ASSERT_EQ(NULL, result) TH_LOG("%s", result);
	ASSERT_EQ(1, large_make(self->image, &model, 200, &self->error));
	EXPECT_EQ(LOG_BYTES_LARGE, self->image->record.log.bytes);
	closed(self);
	EXPECT_EQ(0, thaw_image_verify(model_path, NULL, NULL, &self->error));
}

TEST_F(logged, a_large_one_that_is_damaged_is_told)
{
	struct model model = *newest(self), before;
	const char *result = opened_is(self, variant->kind, &model);
	uint64_t first;

	ASSERT_EQ(NULL, result) TH_LOG("%s", result);
	for (unsigned i = 0; i < 2; i++)
		ASSERT_EQ(1, large_make(self->image, &model, 200, &self->error));
	before = model;
	first = self->image->record.log.offset + self->image->log.used;
	for (unsigned i = 0; i < 3; i++)
		ASSERT_EQ(0, large_make(self->image, &model, 290, &self->error));
	closed(self);
	flip(first + (700u << 10));
	result = opened_is(self, variant->kind, &before);
	EXPECT_EQ(NULL, result) TH_LOG("%s", result);
	EXPECT_EQ(THAW_EDAMAGED, self->fallback.code);
}

/* As of a process with thousands of mappings. */
TEST_F(logged, a_large_state_is_logged_whole_and_as_what_changed)
{
	struct image_options options = options_of(variant->kind);
	struct thaw_generation generation = {.heap_bytes = 65536, .reason = THAW_REASON_REQUEST};
	static uint8_t state[700u << 10];
	const char *result = opened_is(self, variant->kind, newest(self));
	struct commit *commit;
	unsigned logged = 0;
	size_t bytes = 0, count = 0;
	void *read;

	ASSERT_EQ(NULL, result) TH_LOG("%s", result);
	for (unsigned i = 0; i < 12; i++) {
		int code;

		/* Of another length, and then a little changed. */
		bytes = sizeof(state) - 1 - i / 2 * 3000;
		for (size_t at = 0; at < bytes; at += i % 2 ? 5000 : 3)
			state[at] = (uint8_t)(state[at] * 5 + at / 7 + i);
		image_log_wanted(self->image);
		self->image->log.fold_ns = UINT64_MAX;
		ASSERT_EQ(0, commit_begin(self->image, &commit, &self->error));
		code = commit_log(commit, &generation, state, bytes, &self->error);
		logged += !code;
		if (code > 0)
			code = commit_finish(commit, &generation, state, bytes, &self->error);
		ASSERT_EQ(0, code) TH_LOG("%s", self->error.text);
	}
	EXPECT_LT(7, logged);
	closed(self); /* killed */
	ASSERT_EQ(0, image_open(&options, &self->image, &self->fallback, &self->error));
	EXPECT_EQ(generation.number, image_opened(self->image)->number);
	EXPECT_EQ(0, self->fallback.code);
	ASSERT_EQ(0, image_read_state(self->image, &read, &count, &self->error));
	ASSERT_EQ(bytes, count);
	EXPECT_EQ(0, memcmp(state, read, bytes));
	free(read);
}

/* A disk may have room for a generation, and none for a log. */
TEST_F(logged, where_there_is_no_room_for_a_log_there_is_none)
{
	struct image_options options = options_of(variant->kind);
	struct model model = {.state = 1};
	struct rlimit limit = {LOG, LOG};

	ASSERT_EQ(0, unlink(model_path));
	ASSERT_EQ(0, image_open(&options, &self->image, &self->fallback, &self->error));
	signal(SIGXFSZ, SIG_IGN);
	ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &limit));
	for (unsigned i = 0; i < 9; i++)
		ASSERT_EQ(1, generation_make(self->image, &model, &self->error))
	TH_LOG("%s", self->error.text);
	EXPECT_EQ(0, self->image->record.log.bytes);
	EXPECT_EQ(SAME, model_compare(self->image, &model, &self->error));
	closed(self);
	EXPECT_EQ(0, thaw_image_verify(model_path, NULL, NULL, &self->error));
}

/* ---- What changed of a page */

static bool patch_is_right(const uint64_t *before, const uint64_t *after, size_t words)
{
	uint64_t patch[1200], made[512];
	size_t bytes = patch_make(before, after, words * 8, patch, sizeof(patch));

	memcpy(made, before, words * 8);
	return patch_apply(patch, bytes, made, words * 8) && !memcmp(made, after, words * 8);
}

TEST(patches_make_of_one_page_the_other)
{
	uint64_t before[512], after[512];

	for (unsigned round = 0; round < 2000; round++) {
		size_t words = 1 + random_below(512);

		for (unsigned i = 0; i < words; i++)
			before[i] = random_below(3);
		memcpy(after, before, sizeof(after));
		for (unsigned n = random_below(4) ? random_below(20) : 600; n--;)
			after[random_below((unsigned)words)] = random_below(3);
		after[words - 1] ^= round & 1;
		after[0] ^= round >> 1 & 1;
		ASSERT_TRUE(patch_is_right(before, after, words))
		TH_LOG("round %u", round);
	}
}

/* Whatever it says, nothing is written outside, and nothing is read that is not there. */
TEST(a_patch_that_leads_outside_is_none)
{
	struct {
		struct disk_log_run run;
		uint64_t words[2];
	} patch = {{0, 2}, {1, 2}};
	uint64_t page[4] = {0};

	EXPECT_TRUE(patch_apply(&patch, 24, page, 16));
	EXPECT_FALSE(patch_apply(&patch, 24, page, 8));
	EXPECT_FALSE(patch_apply(&patch, 16, page, 16));
	EXPECT_FALSE(patch_apply(&patch, 4, page, 16));
	patch.run = (struct disk_log_run){1, 2};
	EXPECT_FALSE(patch_apply(&patch, 24, page, 16));
	patch.run = (struct disk_log_run){UINT32_MAX, 2};
	EXPECT_FALSE(patch_apply(&patch, 24, page, 16));
	patch.run = (struct disk_log_run){1, UINT32_MAX};
	EXPECT_FALSE(patch_apply(&patch, 24, page, 16));
	patch.run = (struct disk_log_run){0, 0};
	EXPECT_FALSE(patch_apply(&patch, 8, page, 16));
	EXPECT_EQ(0, page[2]);
	EXPECT_EQ(0, page[3]);
}

TEST_HARNESS_MAIN
