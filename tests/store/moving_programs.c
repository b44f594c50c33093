// SPDX-License-Identifier: GPL-2.0-only
/*
 * moving_programs.c - programs of thaw run and thaw exec that go from machine to machine by way of an object store: what goes on
 * where, who is fenced, what --durable remote waits for, and what a store that does not answer does to them.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "store_server.h"
#include "machines.h"

FIXTURE(moving)
{
	struct machines on;
	const char *place;
};
FIXTURE_SETUP(moving)
{
	char *why;

	machines_begin(&self->on);
	self->place = self->on.store.place;
	why = support_kernel_lacks(self->on.homes[0]);
	if (why)
		SKIP(return, "%s", why);
}
FIXTURE_TEARDOWN(moving)
{
	machines_end(&self->on);
}

/* One more line with a number than it has said so far. */
static bool one_more(struct program *program)
{
	long last = machines_last(program->output, "n ");
	char *text = last < 0 ? support_format("\nn ") : support_format("\nn %ld\n", last + 1);
	bool said = program_wait_for(program, text, 60);

	free(text);
	return said;
}

TEST_F(moving, goes_on_elsewhere_and_the_old_one_is_fenced)
{
	struct machines *on = &self->on;
	long first, last;

	machines_go(on, 0);
	on->program =
		program_start(THAW("run", "--every", "20ms", "--image", self->place, "counter.js"));
	ASSERT_TRUE(program_wait_for(&on->program, "\nn 20\n", 60))
	TH_LOG("%s", on->program.errors);

	machines_go(on, 1);
	on->other =
		program_start(THAW("run", "--every", "20ms", "--image", self->place, "counter.js"));
	ASSERT_TRUE(program_wait_for(&on->other, "goes on at ", 60)) TH_LOG("%s", on->other.errors);
	ASSERT_TRUE(one_more(&on->other));
	first = machines_last(on->other.output, "goes on at ");
	EXPECT_LT(0, first);
	ASSERT_TRUE(program_wait_for_complaint(&on->program, "does not replicate any more", 60))
	TH_LOG("%s", on->program.errors);
	EXPECT_NE(NULL, strstr(on->program.errors, self->place));
	EXPECT_TRUE(one_more(&on->program)); /* here, it goes on */
	last = machines_last(on->program.output, "n ");
	EXPECT_LE(first, last);
	EXPECT_EQ(128 + SIGTERM, machines_terminate(&on->program));

	/* And back again, with what the other one has done meanwhile. */
	EXPECT_EQ(128 + SIGTERM, machines_terminate(&on->other)) TH_LOG("%s", on->other.errors);
	last = machines_last(on->other.output, "n ");
	machines_go(on, 0);
	program_free(&on->program);
	on->program =
		program_start(THAW("run", "--every", "20ms", "--image", self->place, "counter.js"));
	ASSERT_TRUE(program_wait_for(&on->program, "goes on at ", 60))
	TH_LOG("%s", on->program.errors);
	EXPECT_EQ(last, machines_last(on->program.output, "goes on at "));
}

TEST_F(moving, that_was_killed_with_its_machine_goes_on_elsewhere)
{
	struct machines *on = &self->on;
	long said, seen;

	machines_go(on, 0);
	on->program =
		program_start(THAW("run", "--every", "20ms", "--commit", "output", "--durable",
				   "remote", "--image", self->place, "counter.js"));
	ASSERT_TRUE(program_wait_for(&on->program, "\nn 15\n", 60))
	TH_LOG("%s", on->program.errors);
	program_kill(&on->program);
	said = machines_last(on->program.output, "n ");
	on->program.pid = 0;
	machines_lose(on, 0);

	machines_go(on, 1);
	on->other = program_start(THAW("run", "--every", "20ms", "--commit", "output", "--durable",
				       "remote", "--image", self->place, "counter.js"));
	ASSERT_TRUE(program_wait_for(&on->other, "goes on at ", 60)) TH_LOG("%s", on->other.errors);
	seen = machines_last(on->other.output, "goes on at ");
	EXPECT_LE(said, seen);
	ASSERT_TRUE(one_more(&on->other));
}

TEST_F(moving, an_old_image_is_refused_and_may_replace)
{
	struct machines *on = &self->on;
	long last;

	machines_go(on, 0);
	on->program = program_start(
		THAW("run", "--every", "20ms", "--replicate", self->place, "counter.js"));
	ASSERT_TRUE(program_wait_for(&on->program, "\nn 5\n", 60)) TH_LOG("%s", on->program.errors);
	EXPECT_EQ(128 + SIGTERM, machines_terminate(&on->program));
	last = machines_last(on->program.output, "n ");

	machines_go(on, 1);
	on->other =
		program_start(THAW("run", "--every", "20ms", "--image", self->place, "counter.js"));
	ASSERT_TRUE(program_wait_for(&on->other, "goes on at ", 60)) TH_LOG("%s", on->other.errors);
	EXPECT_EQ(last, machines_last(on->other.output, "goes on at "));
	ASSERT_TRUE(one_more(&on->other));

	machines_go(on, 0);
	program_free(&on->program);
	EXPECT_EQ(75, program_run(&on->program, NULL,
				  THAW("run", "--replicate", self->place, "counter.js")))
	TH_LOG("%s", on->program.errors);
	EXPECT_STREQ("", on->program.output);
	EXPECT_NE(NULL, strstr(on->program.errors, self->place));
	EXPECT_EQ(strlen(on->program.errors) - 1, strcspn(on->program.errors, "\n")); /* one line */
	EXPECT_NE(NULL, strstr(on->program.errors, "--image s3://")) /* what goes on with that */
	TH_LOG("%s", on->program.errors);
	program_free(&on->program);
	on->program = program_start(THAW("run", "--every", "20ms", "--replace", "--replicate",
					 self->place, "counter.js"));
	ASSERT_TRUE(program_wait_for(&on->program, "goes on at ", 60))
	TH_LOG("%s", on->program.errors);
	EXPECT_EQ(last, machines_last(on->program.output, "goes on at "));
	EXPECT_TRUE(program_wait_for_complaint(&on->other, "does not replicate any more", 60))
	TH_LOG("%s", on->other.errors);

	/* It replaces once: opened anew after it was fenced, it goes on here, and leaves the store to who has it. */
	machines_go(on, 2);
	on->third =
		program_start(THAW("run", "--every", "20ms", "--image", self->place, "counter.js"));
	ASSERT_TRUE(program_wait_for(&on->third, "goes on at ", 60)) TH_LOG("%s", on->third.errors);
	ASSERT_TRUE(program_wait_for_complaint(&on->program, "does not replicate any more", 60));
	machines_go(on, 0);
	machines_stop(&on->other);
	EXPECT_EQ(0, program_run(&on->other, NULL,
				 THAW("ctl", "counter.thaw", "checkpoint", "--name", "here")))
	TH_LOG("%s", on->other.errors);
	program_free(&on->other);
	EXPECT_EQ(0, program_run(&on->other, NULL, THAW("ctl", "counter.thaw", "rollback", "here")))
	TH_LOG("%s", on->other.errors);
	on->other.pid = 0;
	EXPECT_TRUE(one_more(&on->program));
	EXPECT_TRUE(one_more(&on->third));
	EXPECT_EQ(128 + SIGTERM, machines_terminate(&on->third));
	EXPECT_EQ(NULL, strstr(on->third.errors, "is continued by")) TH_LOG("%s", on->third.errors);
}

TEST_F(moving, that_loses_its_store_ends_with_durable_remote)
{
	struct machines *on = &self->on;
	long said, seen;

	machines_go(on, 0);
	on->program =
		program_start(THAW("run", "--every", "20ms", "--commit", "output", "--durable",
				   "remote", "--image", self->place, "counter.js"));
	ASSERT_TRUE(program_wait_for(&on->program, "\nn 5\n", 60)) TH_LOG("%s", on->program.errors);
	machines_go(on, 1);
	on->other =
		program_start(THAW("run", "--every", "20ms", "--image", self->place, "counter.js"));
	ASSERT_TRUE(program_wait_for(&on->other, "goes on at ", 60)) TH_LOG("%s", on->other.errors);
	EXPECT_EQ(75, program_finish(&on->program, 60)) TH_LOG("%s", on->program.errors);
	on->program.pid = 0;
	said = machines_last(on->program.output, "n ");
	seen = machines_last(on->other.output, "goes on at ");
	EXPECT_LE(said, seen); /* nothing that the other one does not know */
	EXPECT_NE(NULL, strstr(on->program.errors, "it ends here"));
}

/* Neither a promise nor output, while the store has not said that it has the record. */
TEST_F(moving, nothing_is_durable_before_the_store_has_it)
{
	struct machines *on = &self->on;
	char *held;

	STORE_SKIP_REAL(&on->store);
	machines_go(on, 0);
	machines_file(on, 0, "asks.js",
		      "import { checkpoint } from 'thaw'\n"
		      "console.log('begins')\n"
		      "await checkpoint()\n"
		      "await checkpoint(console.log('first'))\n"
		      "console.error('second')\n");
	store_server_order(&on->store, "/fault?kind=hold&verb=PUT&key=log/&skip=1");
	on->program = program_start(THAW("run", "--every", "0", "--commit", "output", "--durable",
					 "remote", "--replicate", self->place, "asks.js"));
	held = store_server_ask(&on->store, "/wait?held=1");
	free(held);
	program_wait_for(&on->program, NULL, 0.05);
	EXPECT_STREQ("", on->program.output);
	store_server_order(&on->store, "/fault?kind=hold&verb=PUT&key=log/");
	store_server_order(&on->store, "/release");
	EXPECT_TRUE(program_wait_for(&on->program, "begins\n", 60));
	free(store_server_ask(&on->store, "/wait?held=1"));
	program_wait_for(&on->program, NULL, 0.05);
	EXPECT_STREQ("begins\n", on->program.output);
	EXPECT_STREQ("", on->program.errors);
	store_server_order(&on->store, "/release");
	EXPECT_EQ(0, program_finish(&on->program, 60)) TH_LOG("%s", on->program.errors);
	EXPECT_STREQ("begins\nfirst\n", on->program.output);
	EXPECT_STREQ("second\n", on->program.errors);
	on->program.pid = 0;
}

/* One that goes on, and one that says nothing which the store has not, in one outage. */
TEST_F(moving, an_outage_is_told_and_caught_up)
{
	struct machines *on = &self->on;
	char *place = support_format("%s-remote", self->place);
	long said;

	STORE_SKIP_REAL(&on->store);
	machines_go(on, 0);
	on->program = program_start(
		THAW("run", "--every", "20ms", "--replicate", self->place, "counter.js"));
	machines_go(on, 1);
	on->other = program_start(THAW("run", "--every", "20ms", "--commit", "output", "--durable",
				       "remote", "--replicate", place, "counter.js"));
	ASSERT_TRUE(program_wait_for(&on->program, "\nn 5\n", 60)) TH_LOG("%s", on->program.errors);
	ASSERT_TRUE(program_wait_for(&on->other, "\nn 5\n", 60)) TH_LOG("%s", on->other.errors);
	store_server_order(&on->store, "/gone");
	ASSERT_TRUE(program_wait_for_complaint(&on->program, "the program goes on", 60));
	ASSERT_TRUE(program_wait_for_complaint(&on->other, "nothing is durable until", 60));
	/* What was acknowledged before has been said by now. */
	program_wait_for(&on->other, NULL, 0.1);
	said = machines_last(on->other.output, "n ");
	ASSERT_TRUE(one_more(&on->program));
	ASSERT_TRUE(one_more(&on->program));
	program_wait_for(&on->other, NULL, 0.1);
	EXPECT_EQ(said, machines_last(on->other.output, "n "));
	store_server_order(&on->store, "/back");
	ASSERT_TRUE(program_wait_for_complaint(&on->program, "answers again", 60))
	TH_LOG("%s", on->program.errors);
	EXPECT_TRUE(one_more(&on->other));
	EXPECT_EQ(128 + SIGTERM, machines_terminate(&on->program)) TH_LOG("%s", on->program.errors);
	EXPECT_EQ(128 + SIGTERM, machines_terminate(&on->other)) TH_LOG("%s", on->other.errors);
	/* It went on meanwhile: all of it has come, in order. */
	for (long n = 1; n <= machines_last(on->other.output, "n "); n++) {
		char *line = support_format("n %ld\n", n);

		ASSERT_NE(NULL, strstr(on->other.output, line));
		free(line);
	}
	machines_go(on, 2);
	on->third = program_start(THAW("run", "--image", self->place, "counter.js"));
	ASSERT_TRUE(program_wait_for(&on->third, "goes on at ", 60)) TH_LOG("%s", on->third.errors);
	EXPECT_EQ(machines_last(on->program.output, "n "),
		  machines_last(on->third.output, "goes on at "));
	free(place);
}

/* An end during an outage: what was said and held is in the image, and is said by the next start. */
TEST_F(moving, what_was_held_at_an_end_without_the_store_is_said_by_the_next)
{
	struct machines *on = &self->on;
	const char *const *command = THAW("run", "--every", "20ms", "--commit", "output",
					  "--durable", "remote", "--store-timeout", "1s", "--image",
					  self->place, "counter.js");
	long said;

	STORE_SKIP_REAL(&on->store);
	machines_go(on, 0);
	on->program = program_start(command);
	ASSERT_TRUE(program_wait_for(&on->program, "\nn 5\n", 60))
	TH_LOG("%s", on->program.errors);
	store_server_order(&on->store, "/gone");
	ASSERT_TRUE(program_wait_for_complaint(&on->program, "nothing is durable", 60))
	TH_LOG("%s", on->program.errors);
	support_sleep(0.2); /* for it to say more; it need not */
	EXPECT_EQ(74, machines_terminate(&on->program)) TH_LOG("%s", on->program.errors);
	said = machines_last(on->program.output, "n ");
	EXPECT_NE(NULL, strstr(on->program.errors, "are dropped"));
	store_server_order(&on->store, "/back");
	on->other = program_start(command);
	for (long n = said + 1; n < said + 20; n++) {
		char *text = support_format("n %ld\n", n);

		ASSERT_TRUE(program_wait_for(&on->other, text, 60))
		TH_LOG("%s: %s%s", text, on->other.output, on->other.errors);
		free(text);
	}
}

TEST_F(moving, that_has_waited_for_long_enough_ends)
{
	struct machines *on = &self->on;

	STORE_SKIP_REAL(&on->store);
	machines_go(on, 0);
	on->program =
		program_start(THAW("run", "--every", "20ms", "--commit", "output", "--durable",
				   "remote", "--durable-timeout", "3s", "--store-timeout", "1s",
				   "--replicate", self->place, "counter.js"));
	ASSERT_TRUE(program_wait_for(&on->program, "\nn 5\n", 60)) TH_LOG("%s", on->program.errors);
	store_server_order(&on->store, "/gone");
	EXPECT_EQ(74, program_finish(&on->program, 60)) TH_LOG("%s", on->program.errors);
	on->program.pid = 0;
	EXPECT_NE(NULL, strstr(on->program.errors, "--durable-timeout"));
	/* The image has what was not said. */
	store_server_order(&on->store, "/back");
	on->other = program_start(
		THAW("run", "--every", "20ms", "--replicate", self->place, "counter.js"));
	ASSERT_TRUE(program_wait_for(&on->other, "goes on at ", 60)) TH_LOG("%s", on->other.errors);
	EXPECT_LE(machines_last(on->program.output, "n "),
		  machines_last(on->other.output, "goes on at "));
}

TEST_F(moving, a_start_without_its_store)
{
	struct machines *on = &self->on;

	STORE_SKIP_REAL(&on->store);
	machines_go(on, 0);
	store_server_order(&on->store, "/gone");
	EXPECT_EQ(74, program_run(&on->program, NULL,
				  THAW("run", "--durable", "remote", "--store-timeout", "200ms",
				       "--replicate", self->place, "counter.js")))
	TH_LOG("%s", on->program.errors);
	EXPECT_STREQ("", on->program.output);
	program_free(&on->program);
	on->program = program_start(THAW("run", "--every", "20ms", "--store-timeout", "200ms",
					 "--replicate", self->place, "counter.js"));
	ASSERT_TRUE(program_wait_for(&on->program, "\nn 5\n", 60)) TH_LOG("%s", on->program.errors);
	EXPECT_NE(NULL, strstr(on->program.errors, "begins without its replica"));
	store_server_order(&on->store, "/back");
	ASSERT_TRUE(program_wait_for_complaint(&on->program, "answers again", 60));
	EXPECT_EQ(128 + SIGTERM, machines_terminate(&on->program)) TH_LOG("%s", on->program.errors);
	EXPECT_EQ(0, program_run(&on->other, NULL, THAW("log", self->place)))
	TH_LOG("%s", on->other.errors);

	/* One that has begun in a store that was empty. */
	strcat(on->store.place, "-new");
	program_free(&on->program);
	on->program = program_start(THAW("run", "--every", "20ms", "--store-timeout", "200ms",
					 "--image", self->place, "counter.js"));
	ASSERT_TRUE(program_wait_for(&on->program, "\nn 5\n", 60)) TH_LOG("%s", on->program.errors);
	store_server_order(&on->store, "/gone");
	EXPECT_TRUE(program_wait_for_complaint(&on->program, "once it answers", 60));
	store_server_order(&on->store, "/back");
	EXPECT_TRUE(program_wait_for_complaint(&on->program, "answers again", 60));
}

TEST_F(moving, that_has_finished_is_not_run_again)
{
	struct machines *on = &self->on;

	machines_go(on, 0);
	machines_file(on, 0, "ends.js",
		      "console.log('runs'); process_ends()\n"
		      "function process_ends() { thaw_exit() }\n");
	machines_file(on, 0, "ends.js",
		      "import { exit } from 'thaw'\nconsole.log('runs')\nexit(3)\n");
	machines_file(on, 1, "ends.js", "console.log('runs again')\n");
	EXPECT_EQ(3,
		  program_run(&on->program, NULL, THAW("run", "--image", self->place, "ends.js")))
	TH_LOG("%s", on->program.errors);
	EXPECT_STREQ("runs\n", on->program.output);
	machines_go(on, 1);
	EXPECT_EQ(3, program_run(&on->other, NULL, THAW("run", "--image", self->place, "ends.js")))
	TH_LOG("%s", on->other.errors);
	EXPECT_STREQ("", on->other.output);
	EXPECT_NE(NULL, strstr(on->other.errors, "nothing is left to do"));
}

/* An effect that a machine may have done before it was lost has the same id on the next one. */
TEST_F(moving, effects_keep_their_ids)
{
	static const char text[] = "import { effectId, checkpoint } from 'thaw'\n"
				   "await checkpoint()\n"
				   "console.error('id', effectId())\n"
				   "setInterval(() => {}, 1000)\n";
	struct machines *on = &self->on;
	char id[128] = "";

	machines_go(on, 0);
	machines_file(on, 0, "pays.js", text);
	machines_file(on, 1, "pays.js", text);
	on->program = program_start(THAW("run", "--every", "0", "--durable", "remote", "--image",
					 self->place, "pays.js"));
	ASSERT_TRUE(program_wait_for_complaint(&on->program, "id ", 60));
	ASSERT_TRUE(program_wait_for_complaint(&on->program, "\n", 60));
	ASSERT_EQ(1, sscanf(strstr(on->program.errors, "id "), "id %120[^\n]", id));
	program_kill(&on->program);
	on->program.pid = 0;
	machines_go(on, 1);
	on->other = program_start(THAW("run", "--every", "0", "--durable", "remote", "--image",
				       self->place, "pays.js"));
	EXPECT_TRUE(program_wait_for_complaint(&on->other, id, 60)) TH_LOG("%s", on->other.errors);
}

/* Nothing of it is even loaded where no store is named. */
TEST_F(moving, costs_nothing_without_a_store)
{
	struct machines *on = &self->on;
	char *maps, *text;
	size_t bytes = 0;
	int fd;

	machines_go(on, 0);
	on->program = program_start(THAW("run", "--every", "20ms", "counter.js"));
	ASSERT_TRUE(program_wait_for(&on->program, "\nn 5\n", 60)) TH_LOG("%s", on->program.errors);
	maps = support_format("/proc/%d/maps", (int)on->program.pid);
	fd = open(maps, O_RDONLY | O_CLOEXEC);
	text = calloc(1, 1);
	ASSERT_LE(0, fd);
	program_drain(fd, &text, &bytes);
	close(fd);
	EXPECT_NE(NULL, strstr(text, "libuv"));
	EXPECT_EQ(NULL, strstr(text, "libcurl"));
	EXPECT_EQ(NULL, strstr(text, "libexpat"));
	free(text);
	free(maps);
}

TEST_F(moving, a_process_goes_on_elsewhere)
{
	static const char text[] = "import time\n"
				   "n = 0\n"
				   "while True:\n"
				   "    n += 1\n"
				   "    print('n', n, flush=True)\n"
				   "    time.sleep(0.02)\n";
	struct machines *on = &self->on;
	long said;

	SKIP_SANITIZED();
	if (access("/usr/bin/python3", X_OK))
		SKIP(return, "there is no python3 here");
	/* Its script is a file that it has open no more: but its path is a part of its command. */
	machines_file(on, 0, "count.py", text);
	machines_file(on, 1, "count.py", text);
	machines_go(on, 0);
	on->program =
		program_start(THAW("exec", "--every", "20ms", "--commit", "output", "--durable",
				   "remote", "--image", self->place, "python3", "count.py"));
	ASSERT_TRUE(program_wait_for(&on->program, "\nn 10\n", 60))
	TH_LOG("%s", on->program.errors);
	program_kill(&on->program);
	on->program.pid = 0;
	said = machines_last(on->program.output, "n ");
	machines_go(on, 1);
	on->other = program_start(THAW("exec", "--every", "20ms", "--commit", "output", "--durable",
				       "remote", "--image", self->place, "python3", "count.py"));
	ASSERT_TRUE(program_wait_for(&on->other, "n ", 60)) TH_LOG("%s", on->other.errors);
	ASSERT_TRUE(one_more(&on->other));
	EXPECT_LE(atol(strstr(on->other.output, "n ") + 2), said + 1); /* nothing is left out */
	EXPECT_LT(1, atol(strstr(on->other.output, "n ") + 2));	       /* nor begun again */
}

TEST_HARNESS_MAIN
