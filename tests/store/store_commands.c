// SPDX-License-Identifier: GPL-2.0-only
/*
 * store_commands.c - thaw push, pull, log and check with an object store, as they are typed: what they say, what they leave, and
 * what is said where they cannot.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "store_server.h"
#include "machines.h"

FIXTURE(stored)
{
	struct machines on;
	const char *place;
	struct program *program;
};
FIXTURE_SETUP(stored)
{
	char *why;

	machines_begin(&self->on);
	self->place = self->on.store.place;
	self->program = &self->on.program;
	machines_go(&self->on, 0);
	why = support_kernel_lacks(self->on.homes[0]);
	if (why)
		SKIP(return, "%s", why);
	machines_file(&self->on, 0, "state.js",
		      "import { checkpoint } from 'thaw'\n"
		      "globalThis.rows = []\n"
		      "for (let i = 0; i < 3; i++) {\n"
		      "	for (let j = 0; j < 5000; j++) rows.push({ i, j, name: 'row ' + i * j })\n"
		      "	await checkpoint({ name: 'step' + i })\n"
		      "}\n");
}
FIXTURE_TEARDOWN(stored)
{
	machines_end(&self->on);
}

#define RUN(wanted, ...)                                                                 \
	do {                                                                             \
		program_free(self->program);                                             \
		EXPECT_EQ((wanted), program_run(self->program, NULL, THAW(__VA_ARGS__))) \
		TH_LOG("%s", self->program->errors);                                     \
		self->program->pid = 0;                                                  \
	} while (0)
#define SAYS(text) \
	EXPECT_NE(NULL, strstr(self->program->output, text)) TH_LOG("%s", self->program->output)
#define COMPLAINS(text)                                      \
	EXPECT_NE(NULL, strstr(self->program->errors, text)) \
	TH_LOG("%s", self->program->errors)
#define COMPLAINS_IN_ONE_LINE(text)                                  \
	do {                                                         \
		COMPLAINS(text);                                     \
		EXPECT_EQ(strlen(self->program->errors),             \
			  strcspn(self->program->errors, "\n") + 1); \
	} while (0)

/* The number behind "key": in an object of JSON. */
static uint64_t member(const char *json, const char *key)
{
	char *name = support_format("\"%s\":", key);
	const char *found = strstr(json, name);
	uint64_t number = found ? strtoull(found + strlen(name), NULL, 10) : UINT64_MAX;

	free(name);
	return number;
}

TEST_F(stored, comes_back_as_it_was)
{
	RUN(0, "run", "--every", "0", "state.js");
	RUN(0, "push", "state.thaw", self->place);
	SAYS("has generation 4");
	RUN(0, "log", self->place);
	SAYS("generation 4 of engine");
	machines_go(&self->on, 1);
	RUN(0, "pull", self->place, "copy.thaw");
	SAYS("copy.thaw: generation 4");
	RUN(0, "verify", "copy.thaw");
	RUN(0, "log", "copy.thaw");
	SAYS("step0");
	SAYS("step2");
	RUN(0, "--image", "copy.thaw", "-p", "rows.length");
	EXPECT_STREQ("15000\n", self->program->output);
	RUN(0, "--image", "copy.thaw", "--at", "step0", "-p", "rows.length");
	EXPECT_STREQ("5000\n", self->program->output);
	/* It is a copy: it has no store. */
	EXPECT_NE(0, access("copy.thaw.store", F_OK));
}

TEST_F(stored, goes_on_from_an_older_generation)
{
	RUN(0, "run", "--every", "0", "state.js");
	RUN(0, "push", "state.thaw", self->place);
	machines_go(&self->on, 1);
	machines_file(&self->on, 1, "state.js", "");
	RUN(0, "run", "--at", "step0", "--json", "--image", self->place, "state.js");
	/* What is missing here comes when it is read: nobody need fetch it by hand. */
	EXPECT_EQ(NULL, strstr(self->program->errors, "thaw pull"))
	TH_LOG("%s", self->program->errors);
	/* What is stored there is known, whoever stored it. */
	EXPECT_LT(0, member(self->program->errors, "bytesStored"));
	EXPECT_NE(UINT64_MAX, member(self->program->errors, "bytesStored"))
	TH_LOG("%s", self->program->errors);
	RUN(66, "run", "--at", "nothing", "--image", self->place, "state.js");
	COMPLAINS_IN_ONE_LINE("nothing");
}

TEST_F(stored, is_not_sent_again)
{
	uint64_t first;

	RUN(0, "run", "--every", "0", "state.js");
	RUN(0, "push", "--json", "state.thaw", self->place);
	first = member(self->program->output, "bytesSent");
	EXPECT_LT(100000, first);
	EXPECT_NE(UINT64_MAX, first);
	RUN(0, "push", "--json", "state.thaw", self->place);
	EXPECT_GT(first / 4, member(self->program->output, "bytesSent"))
	TH_LOG("%s", self->program->output);
	/* A name is a small change. */
	RUN(0, "tag", "state.thaw", "kept", "2");
	RUN(0, "push", "--json", "state.thaw", self->place);
	EXPECT_GT(first / 2, member(self->program->output, "bytesSent"))
	TH_LOG("%s", self->program->output);
	machines_go(&self->on, 1);
	RUN(0, "pull", self->place, "copy.thaw");
	RUN(0, "log", "copy.thaw");
	SAYS("kept");
}

TEST_F(stored, goes_back_and_is_compacted)
{
	RUN(0, "run", "--every", "0", "state.js");
	RUN(0, "push", "state.thaw", self->place);
	RUN(0, "rollback", "state.thaw", "step0");
	RUN(0, "push", "state.thaw", self->place);
	machines_go(&self->on, 1);
	RUN(0, "pull", self->place, "copy.thaw");
	RUN(0, "--image", "copy.thaw", "-p", "rows.length");
	EXPECT_STREQ("5000\n", self->program->output);
	machines_go(&self->on, 0);
	RUN(0, "compact", "state.thaw");
	RUN(0, "push", "state.thaw", self->place);
	machines_go(&self->on, 1);
	RUN(0, "pull", "--force", self->place, "copy.thaw");
	RUN(0, "verify", "copy.thaw");
	RUN(0, "--image", "copy.thaw", "-p", "rows.length");
	EXPECT_STREQ("5000\n", self->program->output);
}

TEST_F(stored, a_file_that_is_there_stays)
{
	struct stat before, after;

	RUN(0, "run", "--every", "0", "state.js");
	RUN(0, "push", "state.thaw", self->place);
	ASSERT_EQ(0, stat("state.thaw", &before));
	RUN(9, "pull", self->place, "state.thaw");
	COMPLAINS_IN_ONE_LINE("state.thaw");
	ASSERT_EQ(0, stat("state.thaw", &after));
	EXPECT_EQ(before.st_ino, after.st_ino);
	RUN(0, "pull", "--force", self->place, "state.thaw");
	ASSERT_EQ(0, stat("state.thaw", &after));
	EXPECT_NE(before.st_ino, after.st_ino);
}

TEST_F(stored, another_image_is_refused)
{
	RUN(0, "run", "--every", "0", "state.js");
	RUN(0, "push", "state.thaw", self->place);
	RUN(0, "clone", "state.thaw", "other.thaw");
	RUN(76, "push", "other.thaw", self->place);
	COMPLAINS_IN_ONE_LINE(self->place);
	RUN(76, "push", "--replace", "other.thaw", self->place);
}

TEST_F(stored, that_went_on_elsewhere_is_refused)
{
	RUN(0, "run", "--every", "0", "state.js");
	RUN(0, "push", "state.thaw", self->place);
	machines_go(&self->on, 1);
	self->on.other = program_start(
		THAW("run", "--every", "20ms", "--fresh", "--image", self->place, "counter.js"));
	ASSERT_TRUE(program_wait_for(&self->on.other, "\nn 5\n", 60))
	TH_LOG("%s", self->on.other.errors);
	machines_go(&self->on, 0);
	RUN(75, "push", "state.thaw", self->place);
	COMPLAINS_IN_ONE_LINE(self->place);
	RUN(0, "push", "--replace", "state.thaw", self->place);
	EXPECT_TRUE(program_wait_for_complaint(&self->on.other, "does not replicate any more", 60));
}

/* As a start from the store leaves it that is killed: what is missing would be taken for damage. */
TEST_F(stored, a_file_that_is_not_whole_is_refused)
{
	FILE *side;

	RUN(0, "run", "--every", "0", "state.js");
	RUN(0, "push", "state.thaw", self->place);
	side = fopen("state.thaw.store", "a");
	ASSERT_NE(NULL, side);
	fputs("incomplete yes\n", side);
	fclose(side);
	RUN(66, "run", "state.js");
	COMPLAINS_IN_ONE_LINE("thaw pull");
	RUN(66, "run", "--replicate", self->place, "state.js");
	RUN(66, "verify", "state.thaw");
	COMPLAINS_IN_ONE_LINE("thaw pull");
	RUN(66, "compact", "state.thaw");
	RUN(66, "clone", "state.thaw", "copy.thaw");
	RUN(66, "rollback", "state.thaw", "step0");
	RUN(66, "tag", "state.thaw", "named");
	RUN(66, "run", "--fork-of", "state.thaw");
	RUN(0, "log", "state.thaw");
	COMPLAINS_IN_ONE_LINE("thaw pull");
}

/* Commands that want a file say what there is. */
TEST_F(stored, a_place_is_no_file)
{
	RUN(9, "inspect", self->place);
	COMPLAINS_IN_ONE_LINE("thaw pull");
	RUN(9, "--image", self->place, "-p", "1");
	COMPLAINS_IN_ONE_LINE("thaw pull");
	RUN(9, "tag", self->place, "name");
	RUN(9, "run", "--fork-of", self->place, "counter.js");
	COMPLAINS_IN_ONE_LINE("thaw pull");
	RUN(9, "run", "--image", "s3:/bucket/typo", "counter.js");
	COMPLAINS_IN_ONE_LINE("s3://BUCKET/PREFIX");
	RUN(9, "run", "--image", "S3://bucket/typo", "counter.js");
}

TEST_F(stored, another_command_leaves_it)
{
	SKIP_SANITIZED();
	self->on.other = program_start(
		THAW("exec", "--every", "20ms", "--image", self->place, "sleep", "1000"));
	do {
		program_free(self->program);
		program_run(self->program, NULL, THAW("log", self->place));
	} while (strstr(self->program->errors, "nothing is stored") ||
		 strstr(self->program->output, "generation 0 of"));
	self->program->pid = 0;
	machines_go(&self->on, 1);
	RUN(76, "exec", "--image", self->place, "sleep", "1001");
	COMPLAINS_IN_ONE_LINE("another command");
	EXPECT_NE(0, machines_terminate(&self->on.other));
	EXPECT_EQ(NULL, strstr(self->on.other.errors, "is continued by"))
	TH_LOG("%s", self->on.other.errors);
}

/* What is refused fences nobody. */
TEST_F(stored, a_start_that_is_refused_leaves_it)
{
	self->on.other =
		program_start(THAW("run", "--every", "20ms", "--image", self->place, "counter.js"));
	ASSERT_TRUE(program_wait_for(&self->on.other, "\nn 5\n", 60));
	machines_go(&self->on, 1);
	RUN(76, "exec", "--image", self->place, "true");
	COMPLAINS_IN_ONE_LINE("thaw run");
	RUN(66, "run", "--at", "never", "--image", self->place, "counter.js");
	COMPLAINS_IN_ONE_LINE("never");
	EXPECT_EQ(128 + SIGTERM, machines_terminate(&self->on.other));
	EXPECT_EQ(NULL, strstr(self->on.other.errors, "is continued by"))
	TH_LOG("%s", self->on.other.errors);
}

TEST_F(stored, in_use)
{
	self->on.other = program_start(THAW("run", "--every", "20ms", "counter.js"));
	ASSERT_TRUE(program_wait_for(&self->on.other, "\nn 5\n", 60));
	RUN(75, "push", "counter.thaw", self->place);
	COMPLAINS_IN_ONE_LINE("--replicate");
}

TEST_F(stored, what_is_told_of_a_program)
{
	self->on.other = program_start(
		THAW("run", "--every", "20ms", "--replicate", self->place, "counter.js"));
	ASSERT_TRUE(program_wait_for(&self->on.other, "\nn 5\n", 60));
	RUN(0, "ctl", "counter.thaw", "checkpoint");
	RUN(0, "ctl", "counter.thaw", "status");
	SAYS("replica");
	SAYS(self->place);
	RUN(0, "ctl", "--json", "counter.thaw", "status");
	SAYS("\"durable\":\"local\"");
	EXPECT_NE(UINT64_MAX, member(self->program->output, "bytesSent"));
	EXPECT_EQ(1, member(self->program->output, "epoch"));
	RUN(0, "ctl", "counter.thaw", "metrics");
	SAYS("thaw_replica_info{place=\"s3://");
	SAYS("thaw_replica_requests_total ");
	EXPECT_EQ(128 + SIGTERM, machines_terminate(&self->on.other));
	strcat(self->on.store.place, "-other");
	RUN(0, "run", "--every", "0", "--stats", "--replicate", self->place, "state.js");
	COMPLAINS("replica ");
	RUN(0, "run", "--json", "--replicate", self->place, "state.js");
	COMPLAINS("\"durable\":\"local\"");
}

TEST_F(stored, a_store_is_checked)
{
	RUN(0, "check", self->place);
	SAYS("can have images");
	RUN(0, "check", "--json", self->place);
	SAYS("\"ok\":true");
	STORE_SKIP_REAL(&self->on.store);
	store_server_order(
		&self->on.store,
		"/fault?kind=answer&verb=GET&key=/check/&status=403&code=AccessDenied&count=99");
	RUN(66, "check", self->place);
	SAYS("s3:GetObject");
	COMPLAINS("AccessDenied");
}

TEST_F(stored, what_is_wrong_is_said)
{
	STORE_SKIP_REAL(&self->on.store);
	RUN(0, "run", "--every", "0", "state.js");
	/* Somebody who may only read is told so, and not left to wait. */
	store_server_order(&self->on.store,
			   "/fault?kind=answer&verb=PUT&status=403&code=AccessDenied&count=1000");
	RUN(66, "push", "state.thaw", self->place);
	COMPLAINS_IN_ONE_LINE("AccessDenied");
	store_server_order(&self->on.store, "/clear");
	RUN(9, "push", "state.thaw", "elsewhere");
	RUN(9, "push", "state.thaw", "s3://");
	COMPLAINS_IN_ONE_LINE("s3://BUCKET/PREFIX");
	RUN(66, "push", "state.thaw", "s3://no-such-bucket/x");
	COMPLAINS_IN_ONE_LINE("no-such-bucket");
	RUN(66, "pull", self->place, "x.thaw");
	COMPLAINS_IN_ONE_LINE(self->place);
	EXPECT_NE(0, access("x.thaw", F_OK));
	RUN(66, "log", self->place);
	RUN(66, "push", "missing.thaw", self->place);
	RUN(66, "exec", "--image", self->place);
	RUN(9, "run", "--cache", "x.thaw", "state.js");
	RUN(9, "run", "--durable", "remote", "state.js");
	RUN(9, "run", "--durable", "never", "--replicate", self->place, "state.js");
	RUN(9, "run", "--replicate", "x.thaw", "state.js");
	RUN(9, "exec", "--replicate-every", "1s", "true");
	RUN(9, "run", "--fork-of", "state.thaw", "--image", self->place);
	RUN(9, "run", "--fork-of", "state.thaw", "--replicate", self->place);
	setenv("AWS_SECRET_ACCESS_KEY", "wrong", 1);
	RUN(66, "push", "state.thaw", self->place);
	COMPLAINS_IN_ONE_LINE("SignatureDoesNotMatch");
	RUN(66, "run", "--replicate", self->place, "state.js");
	EXPECT_STREQ("", self->program->output);
	unsetenv("AWS_ACCESS_KEY_ID");
	unsetenv("AWS_SECRET_ACCESS_KEY");
	RUN(66, "push", "state.thaw", self->place);
	COMPLAINS_IN_ONE_LINE("credentials");
	RUN(66, "run", "--replicate", self->place, "state.js");
}

TEST_HARNESS_MAIN
