/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * stopped_turn.h - the fixture of turn_stopping.c and turn_trust.c: a program whose turn does not end, its generations, and
 * how they are waited for.
 */
#ifndef TESTS_STOPPED_TURN_H
#define TESTS_STOPPED_TURN_H

#include "by_path.h"
#include "support.h"
#include "thaw.h"

/* One turn without end, that says now and then how far it is. `n` is checked by its own digest. */
SUPPORT const char endless[] = "import { env } from 'thaw'\n"
			       "let n = 0, digest = 0\n"
			       "console.log('started')\n"
			       "for (;;) {\n"
			       "	digest = (digest * 31 + n++) | 0\n"
			       "	if (n % 100000 === 0) {\n"
			       "		console.log('n', n, digest)\n"
			       "		if (env.STOP) break\n"
			       "	}\n"
			       "}\n"
			       "let check = 0\n"
			       "for (let i = 0; i < n; i++) check = (check * 31 + i) | 0\n"
			       "console.log(check === digest ? 'right' : 'wrong', n)\n";

/*
 * Between turns, then in one that never ends. Three times, for the turn that loads the program may
 * last longer than the interval on a slow machine, and the first one is in the middle of it then.
 */
SUPPORT const char later_endless[] = "import { checkpoint } from 'thaw'\n"
				     "let n = 0\n"
				     "for (let i = 0; i < 3; i++) await checkpoint()\n"
				     "setTimeout(() => {\n"
				     "	console.log('loop', n)\n"
				     "	for (;;) if (++n % 1000000 === 0) console.log('n', n)\n"
				     "}, 1)\n";

FIXTURE(stopping)
{
	char *directory, *script, *image, *key;
	struct program program;
};
FIXTURE_SETUP(stopping)
{
	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
	self->image = support_format("%s/app.thaw", self->directory);
	self->key = support_format("%s/key", self->directory);
	setenv("THAW_KEY", self->key, 1); /* a path: made on first use */
}
FIXTURE_TEARDOWN(stopping)
{
	program_free(&self->program);
	free(self->script);
	free(self->image);
	free(self->key);
	support_remove(self->directory);
}

/* The image's generations. The caller frees them. */
SUPPORT int generations(const char *image, struct thaw_generation **list)
{
	struct thaw_error error;
	int count = path_log(image, list, &error);

	if (count < 0)
		support_die(error.text);
	return count;
}

SUPPORT unsigned count_of_kind(const char *image, uint32_t kind)
{
	struct thaw_generation *list;
	int count = generations(image, &list);
	unsigned found = 0;

	for (int i = 0; i < count; i++)
		found += list[i].kind == kind;
	free(list);
	return found;
}

SUPPORT struct thaw_generation newest(const char *image)
{
	struct thaw_generation *list, last = {0};
	int count = generations(image, &list);

	if (count)
		last = list[count - 1];
	free(list);
	return last;
}

/* The listed one before the newest: of those that were made soon one after another not all are listed. */
SUPPORT uint64_t number_before_newest(const char *image)
{
	struct thaw_generation *list;
	int count = generations(image, &list);
	uint64_t number = count > 1 ? list[count - 2].number : 0;

	free(list);
	return number;
}

/* 0: none yet, or no image. */
SUPPORT uint64_t newest_number(const char *image)
{
	return access(image, F_OK) ? 0 : newest(image).number;
}

SUPPORT struct thaw_generation newest_of_kind(const char *image, uint32_t kind)
{
	struct thaw_generation *list, last = {0};
	int count = generations(image, &list);

	for (int i = 0; i < count; i++)
		if (list[i].kind == kind)
			last = list[i];
	free(list);
	return last;
}

/*
 * Wait until the image's newest generation is above `number` and of that kind, and listen to the
 * program meanwhile: a full pipe would stop it.
 */
SUPPORT bool wait_for_generation(struct program *program, const char *image, uint64_t number,
				 uint32_t kind, double seconds)
{
	double end = support_deadline(seconds);

	do {
		struct thaw_generation last = {0};

		if (!access(image, F_OK) && support_size(image))
			last = newest(image);
		if (last.number > number && last.kind == kind)
			return true;
		program_wait_for(program, NULL, 0.01);
	} while (support_seconds() < end);
	return false;
}

/*
 * Wait until it was stopped in what it is doing now: the next generation may have been captured
 * before this call, the one after it was begun when that was durable.
 */
SUPPORT bool wait_until_stopped(struct program *program, const char *image)
{
	return wait_for_generation(program, image, newest_number(image) + 1, THAW_KIND_BOUND, 60);
}

/* A reader sees what is listed: of a program that was killed, something may wait in the log of its image. */
SUPPORT void kill_and_settle(struct __test_metadata *_metadata, FIXTURE_DATA(stopping) * self)
{
	struct thaw_error error;

	program_kill(&self->program);
	program_free(&self->program);
	ASSERT_EQ(0, thaw_image_settle(self->image, &error)) TH_LOG("%s", error.text);
}

/* A program that was killed in the middle of a turn, with one generation between turns before. */
SUPPORT void leave_in_a_turn(struct __test_metadata *_metadata, FIXTURE_DATA(stopping) * self)
{
	support_write(self->script, later_endless);
	self->program = program_start(THAW("run", "--every", "10ms", self->script));
	ASSERT_TRUE(wait_for_generation(&self->program, self->image, 20, THAW_KIND_BOUND, 60));
	kill_and_settle(_metadata, self);
}

/* The last number behind `word` in what was said. */
SUPPORT long long last_number(const char *text, const char *word)
{
	long long number = -1;

	for (const char *at = text; (at = strstr(at, word)); at++)
		if (strchr(at, '\n'))
			number = atoll(at + strlen(word));
	return number;
}

#endif
