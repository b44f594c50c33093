// SPDX-License-Identifier: GPL-2.0-only
/*
 * control.c - thaw ctl does what it says, of a program in JavaScript: what it is told is true of the image afterwards, what must
 * wait for the program waits for it and says so, and what need not is answered in the middle of an endless turn.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"

FIXTURE(control)
{
	char *directory, *script, *image;
	struct program program, ctl;
};
FIXTURE_SETUP(control)
{
	char *why;

	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
	self->image = support_format("%s/app.thaw", self->directory);
	why = support_kernel_lacks(self->directory);
	if (why)
		SKIP(return, "%s", why);
}
FIXTURE_TEARDOWN(control)
{
	if (self->program.pid)
		program_kill(&self->program);
	program_free(&self->program);
	program_free(&self->ctl);
	free(self->script);
	free(self->image);
	support_remove(self->directory);
}

#define RUN(...)                                                                                 \
	do {                                                                                     \
		program_free(&self->program);                                                    \
		self->program =                                                                  \
			program_start(THAW("run", "--every", "0", ##__VA_ARGS__, self->script)); \
	} while (0)
#define SAYS(text)                                              \
	ASSERT_TRUE(program_wait_for(&self->program, text, 60)) \
	TH_LOG("%s%s", self->program.output, self->program.errors)
/* Its exit code; what it said is in self->ctl. */
#define THAW_CTL(...) \
	(program_free(&self->ctl), program_run(&self->ctl, NULL, THAW("ctl", ##__VA_ARGS__)))
#define CTL(...) THAW_CTL("--timeout", "1min", self->image, ##__VA_ARGS__)
#define OUTPUT(text)                                                \
	EXPECT_NE(NULL, strstr(self->ctl.output, text))             \
	{                                                           \
		TH_LOG("%s%s", self->ctl.output, self->ctl.errors); \
	}
#define COMPLAINT(text)                                             \
	EXPECT_NE(NULL, strstr(self->ctl.errors, text))             \
	{                                                           \
		TH_LOG("%s%s", self->ctl.output, self->ctl.errors); \
	}
#define ENDED(code)                                                  \
	do {                                                         \
		ASSERT_EQ(code, program_finish(&self->program, 60)); \
		self->program.pid = 0;                               \
	} while (0)

static const char counter[] = "globalThis.n = 0\n"
			      "setInterval(() => { n++ }, 5)\n"
			      "console.log('it runs')\n";

TEST_F(control, code_is_a_turn_that_is_durable_before_its_result_is_shown)
{
	support_write(self->script, "globalThis.n = 1\nsetInterval(() => {}, 1000000)\n"
				    "console.log('it runs')\n");
	RUN();
	SAYS("it runs");
	ASSERT_EQ(0, CTL("eval", "n = 41; ({ n, list: [1, 'two'] })"));
	EXPECT_STREQ("{ n: 41, list: [ 1, 'two' ] }\n", self->ctl.output);
	ASSERT_EQ(0, CTL("eval", "await new Promise(done => setTimeout(done, 20)); ++n"));
	EXPECT_STREQ("42\n", self->ctl.output);
	ASSERT_EQ(1, CTL("eval", "n = 43; throw new TypeError('no')"));
	EXPECT_EQ(self->ctl.errors, strstr(self->ctl.errors, "n = 43; throw new TypeError('no')\n"
							     "                  ^\n"
							     "Uncaught TypeError: no\n"))
	{
		TH_LOG("%s", self->ctl.errors);
	}
	program_kill(&self->program);
	self->program.pid = 0;
	/* No interval has made it durable: only the answers did. */
	program_free(&self->ctl);
	ASSERT_EQ(0, program_run(&self->ctl, NULL, THAW("-i", self->image, "-p", "n")));
	EXPECT_STREQ("43\n", self->ctl.output);
}

/* Where it was thrown is shown from the code as it was given: also long after that. */
TEST_F(control, what_is_thrown_after_an_await_is_shown_where_it_was)
{
	support_write(self->script, "setInterval(() => {}, 1000000)\nconsole.log('it runs')\n");
	RUN();
	SAYS("it runs");
	ASSERT_EQ(1, CTL("eval", "const nothing = null\n"
				 "await new Promise(done => setTimeout(done, 20))\n"
				 "nothing.at.all"));
	EXPECT_EQ(self->ctl.errors, strstr(self->ctl.errors, "nothing.at.all\n"
							     "^\n"
							     "Uncaught TypeError: "))
	{
		TH_LOG("%s", self->ctl.errors);
	}
	COMPLAINT("(nothing is null)\n");
}

TEST_F(control, code_that_does_not_end_is_ended_and_the_program_goes_on)
{
	support_write(self->script, counter);
	RUN();
	SAYS("it runs");
	EXPECT_EQ(75, THAW_CTL("--timeout", "200ms", self->image, "eval", "for (;;) n = -1"));
	EXPECT_EQ(75, THAW_CTL("--timeout", "200ms", self->image, "eval",
			       "await new Promise(() => {})"));
	COMPLAINT("no result after 0.2 s");
	/* Neither what it awaits nor what nobody catches is in the way of the next. */
	EXPECT_EQ(0, CTL("eval", "Promise.reject(new Error('nobody')); n = 0; 'still here'"));
	EXPECT_STREQ("'still here'\n", self->ctl.output);
	EXPECT_EQ(0, CTL("eval", "n < 1000000"));
	EXPECT_STREQ("true\n", self->ctl.output);
}

TEST_F(control, an_endless_turn_keeps_nobody_from_its_numbers_or_a_generation)
{
	support_write(self->script, "globalThis.n = 0\nconsole.log('it runs')\n"
				    "for (;;) n = (n + 1) % 1000\n");
	RUN();
	SAYS("it runs");
	ASSERT_EQ(0, CTL("status"));
	OUTPUT("in a turn for ");
	ASSERT_EQ(0, CTL("status", "--json"));
	OUTPUT("{\"protocol\":1,");
	OUTPUT("\"state\":\"in a turn\"");
	ASSERT_EQ(0, CTL("metrics"));
	OUTPUT("\nthaw_turn_seconds ");
	ASSERT_EQ(0, CTL("checkpoint", "--name", "inside"));
	OUTPUT("is durable");
	EXPECT_EQ(75, THAW_CTL("--timeout", "100ms", self->image, "eval", "n"));
	COMPLAINT("nothing was done within 0.1 s: the program is in a turn that has lasted for ");
	EXPECT_EQ(75, THAW_CTL("--timeout", "100ms", self->image, "rollback", "inside"));
	ASSERT_EQ(0, CTL("stop"));
	OUTPUT("it has ended with exit code 143");
	ENDED(143);
	program_free(&self->ctl);
	ASSERT_EQ(0, program_run(&self->ctl, NULL, THAW("tag", self->image)));
	OUTPUT("inside");
}

/* A promise that is the answer is the answer's when it is rejected: the program hears nothing of it, and goes on. */
TEST_F(control, a_rejected_promise_is_an_exception_of_who_asked)
{
	support_write(self->script, counter);
	RUN();
	SAYS("it runs");
	EXPECT_EQ(1, CTL("eval", "Promise.reject(5)"));
	EXPECT_STREQ("", self->ctl.output);
	COMPLAINT("Uncaught (in promise) 5\n");
	EXPECT_EQ(1, CTL("--json", "eval", "new Promise(() => { throw new TypeError('no') })"));
	OUTPUT("\"exception\":\"TypeError: no\\n");
	OUTPUT("\\nUncaught (in promise) TypeError: no\\n");
	EXPECT_EQ(1, CTL("--json", "eval", "throw 6"));
	OUTPUT("\"exception\":\"6\",");
	EXPECT_EQ(0, CTL("eval", "Promise.resolve(7)"));
	EXPECT_STREQ("Promise { 7 }\n", self->ctl.output);
	ASSERT_EQ(0, CTL("stop"));
	ENDED(143);
	EXPECT_STREQ("", self->program.errors);
}

/* Generations that follow each other quickly are in the image's log at first, and of a second one is kept. */
TEST_F(control, what_status_names_can_be_named_and_gone_back_to)
{
	support_write(self->script,
		      "import { checkpoint } from 'thaw'\n"
		      "globalThis.n = 0\nsetInterval(() => {}, 1000000)\n"
		      "globalThis.more = async () => {\n"
		      "\tfor (let i = 0; i < 40; i++) { n++; await checkpoint() }\n}\n"
		      "console.log('it runs')\n");
	RUN();
	SAYS("it runs");
	ASSERT_EQ(0, CTL("eval", "await more()"));
	ASSERT_EQ(0, CTL("--json", "eval", "n"));
	EXPECT_NE(NULL, strstr(self->ctl.output, "\"value\":\"40\""));
	char *newest = support_format("%lu", strtoul(strchr(self->ctl.output, ':') + 1, NULL, 10));

	EXPECT_EQ(0, CTL("tag", "named", newest));
	EXPECT_EQ(0, CTL("eval", "await more()"));
	ASSERT_EQ(0, CTL("--json", "eval", "n"));
	char *newer = support_format("%lu", strtoul(strchr(self->ctl.output, ':') + 1, NULL, 10));

	EXPECT_EQ(0, CTL("rollback", newer));
	EXPECT_EQ(0, CTL("eval", "n"));
	EXPECT_STREQ("80\n", self->ctl.output);
	EXPECT_EQ(0, CTL("rollback", "named"));
	EXPECT_EQ(0, CTL("eval", "n"));
	EXPECT_STREQ("40\n", self->ctl.output);
	EXPECT_EQ(66, CTL("tag", "gone", "3"));
	COMPLAINT(": generation 3 is not kept any more");
	free(newest);
	free(newer);
}

TEST_F(control, names_are_given_and_taken_while_it_runs)
{
	support_write(self->script, counter);
	RUN();
	SAYS("it runs");
	ASSERT_EQ(0, CTL("checkpoint"));
	ASSERT_EQ(0, CTL("tag", "first"));
	OUTPUT("generation 1 is named first");
	ASSERT_EQ(0, CTL("checkpoint"));
	EXPECT_EQ(9, CTL("tag", "first"));
	COMPLAINT("named 'first' already");
	ASSERT_EQ(0, CTL("tag", "-f", "first"));
	ASSERT_EQ(0, CTL("tag", "again", "1"));
	ASSERT_EQ(0, CTL("untag", "first"));
	EXPECT_EQ(66, CTL("untag", "first"));
	EXPECT_EQ(66, CTL("tag", "none", "4711"));
	EXPECT_EQ(9, CTL("tag", "0123"));
	program_kill(&self->program);
	self->program.pid = 0;
	program_free(&self->ctl);
	ASSERT_EQ(0, program_run(&self->ctl, NULL, THAW("tag", "--json", self->image)));
	EXPECT_STREQ("[{\"name\":\"again\",\"generation\":1}]\n", self->ctl.output);
}

/* The same process goes on, with what the old generation has; what came between is there, too. */
TEST_F(control, it_goes_back_and_its_image_is_rewritten_while_its_process_lives)
{
	support_write(self->script, "import { on } from 'thaw'\n"
				    "on('restore', e => console.log('restored', e.restores))\n"
				    "globalThis.n = 0\nsetInterval(() => {}, 1000000)\n"
				    "console.log('it runs')\n");
	RUN();
	SAYS("it runs");
	ASSERT_EQ(0, CTL("eval", "n = 1"));
	ASSERT_EQ(0, CTL("tag", "old"));
	ASSERT_EQ(0, CTL("eval", "n = 2"));
	ASSERT_EQ(0, CTL("tag", "new"));
	EXPECT_EQ(66, CTL("rollback", "never"));
	/* Whoever asks has named the image: once is enough. */
	COMPLAINT(".thaw: no generation is numbered or named 'never'");
	EXPECT_EQ(NULL, strstr(strstr(self->ctl.errors, ".thaw: ") + 1, ".thaw"));
	ASSERT_EQ(0, CTL("rollback", "old"));
	OUTPUT("the program goes on from it");
	SAYS("restored 1");
	ASSERT_EQ(0, CTL("eval", "n"));
	EXPECT_STREQ("1\n", self->ctl.output);
	ASSERT_EQ(0, CTL("compact"));
	OUTPUT("the program goes on");
	SAYS("restored 2");
	ASSERT_EQ(0, CTL("rollback", "new"));
	ASSERT_EQ(0, CTL("eval", "n"));
	EXPECT_STREQ("2\n", self->ctl.output);
	ASSERT_EQ(0, CTL("status", "--json"));
	OUTPUT("\"restarts\":3");
	ASSERT_EQ(0, CTL("stop"));
	ENDED(143);
}

/* New code for the state of the same process, or nothing has happened. */
TEST_F(control, it_is_upgraded_while_its_process_lives)
{
	char *check = support_format("%s/check.js", self->directory);

	support_write(self->script, "let n = 41\nglobalThis.show = () => 'old ' + n++\n"
				    "setInterval(() => {}, 1000000)\nconsole.log('it runs')\n");
	support_write(check, "throw new Error('not like this')\n");
	RUN();
	SAYS("it runs");
	ASSERT_EQ(0, CTL("eval", "show()"));
	ASSERT_EQ(0, CTL("upgrade"));
	OUTPUT("nothing has changed since generation ");
	support_write(self->script, "let n = 0\nglobalThis.show = () => 'new ' + n++\n"
				    "export function upgrade(old) { n = old.n }\n"
				    "setInterval(() => {}, 1000000)\nconsole.log('taken over')\n");
	EXPECT_EQ(78, CTL("upgrade", "--check", check));
	COMPLAINT("Error: not like this; the program goes on as it was\n");
	ASSERT_EQ(0, CTL("eval", "show()"));
	EXPECT_STREQ("'old 42'\n", self->ctl.output);
	ASSERT_EQ(0, CTL("upgrade"));
	OUTPUT("is upgraded: app.js changed; the program goes on from it");
	SAYS("taken over");
	ASSERT_EQ(0, CTL("eval", "show()"));
	EXPECT_STREQ("'new 43'\n", self->ctl.output);
	support_write(self->script, "let x = (");
	EXPECT_EQ(78, CTL("upgrade"));
	COMPLAINT("SyntaxError");
	ASSERT_EQ(0, CTL("rollback", "before-upgrade"));
	ASSERT_EQ(0, CTL("eval", "show()"));
	EXPECT_STREQ("'old 43'\n", self->ctl.output);
	program_free(&self->ctl);
	EXPECT_EQ(75, program_run(&self->ctl, NULL, THAW("upgrade", self->image)));
	COMPLAINT("thaw ctl IMAGE upgrade");
	ASSERT_EQ(0, CTL("stop"));
	ENDED(143);
	free(check);
}

/* Other commands find the image in use, and ask its program. */
TEST_F(control, the_shell_and_what_asks_an_image_go_through_its_program)
{
	support_write(self->script, counter);
	RUN();
	SAYS("it runs");
	program_free(&self->ctl);
	EXPECT_EQ(0, program_run(&self->ctl, NULL, THAW("-i", self->image, "-p", "typeof n")));
	EXPECT_STREQ("'number'\n", self->ctl.output);
	program_free(&self->ctl);
	EXPECT_EQ(1, program_run(&self->ctl, "m = n - n\n\nthrow 1\nm + 7\n",
				 THAW("repl", self->image)));
	EXPECT_STREQ("0\n7\n", self->ctl.output);
	COMPLAINT("Uncaught 1");
	program_free(&self->ctl);
	EXPECT_EQ(0, program_run(&self->ctl, NULL, THAW("compact", self->image)));
	OUTPUT("; the program goes on");
	program_free(&self->ctl);
	EXPECT_EQ(75, program_run(&self->ctl, NULL, THAW("compact", "--newest", self->image)));
	COMPLAINT("stop it first");
	/* Who only looks does not ask it, and is told who can. */
	program_free(&self->ctl);
	EXPECT_EQ(0, program_run(&self->ctl, NULL, THAW("eval", self->image, "typeof n")));
	EXPECT_STREQ("number\n", self->ctl.output);
	COMPLAINT(" is in use: this is generation ");
	program_free(&self->ctl);
	EXPECT_EQ(0, program_run(&self->ctl, NULL, THAW("eval", "-q", self->image, "1")));
	EXPECT_STREQ("", self->ctl.errors);
}

/* So is a shell itself. */
TEST_F(control, a_shell_is_talked_to_while_it_waits_for_a_line)
{
	double end = support_deadline(60);

	program_free(&self->program);
	self->program = program_start(THAW("repl", self->image));
	ASSERT_LT(0, write(self->program.in, "a = 6\n", 6));
	SAYS("6\n");
	while (CTL("eval", "a *= 7"))
		ASSERT_LT(support_seconds(), end);
	EXPECT_STREQ("42\n", self->ctl.output);
	ASSERT_LT(0, write(self->program.in, "a + 1\n", 6));
	SAYS("43\n");
	EXPECT_EQ(9, CTL("rollback", "1"));
	ASSERT_EQ(0, CTL("stop"));
	ENDED(143);
}

/* Whose answer it is: what waits is told that it has none, and what is typed has its own. */
TEST_F(control, what_is_typed_at_a_shell_is_not_mixed_up_with_what_is_asked)
{
	struct program waits;
	double end = support_deadline(60);

	program_free(&self->program);
	self->program = program_start(THAW("repl", self->image));
	ASSERT_LT(0, write(self->program.in, "a = 6\n", 6));
	SAYS("6\n");
	while (CTL("eval", "0"))
		ASSERT_LT(support_seconds(), end);
	waits = program_start(THAW("ctl", "--timeout", "1min", self->image, "eval",
				   "console.log('be' + 'gun'); await new Promise(done => { "
				   "settle = done }); 'what was asked'"));
	SAYS("begun\n");
	ASSERT_LT(0, write(self->program.in, "'what was ' + 'typed'\n", 22));
	SAYS("'what was typed'\n");
	EXPECT_EQ(75, program_finish(&waits, 60));
	EXPECT_STREQ("", waits.output);
	EXPECT_NE(NULL, strstr(waits.errors, "typed at the program's shell"))
	{
		TH_LOG("%s", waits.errors);
	}
	program_free(&waits);
	ASSERT_LT(0, write(self->program.in, "settle(), 'set' + 'tled'\n", 25));
	SAYS("'settled'\n");
	EXPECT_EQ(0, CTL("eval", "a"));
	EXPECT_STREQ("6\n", self->ctl.output);
	EXPECT_EQ(NULL, strstr(self->program.output, "what was asked"));
	EXPECT_EQ(NULL, strstr(self->program.errors, "Uncaught"));
	ASSERT_EQ(0, CTL("stop"));
	ENDED(143);
}

TEST_F(control, a_checkpoint_that_fails_is_told_as_such)
{
	char *away = support_format("%s/away.thaw", self->directory);

	support_write(self->script, counter);
	RUN();
	SAYS("it runs");
	ASSERT_EQ(0, CTL("checkpoint"));
	ASSERT_EQ(0, rename(self->image, away));
	/* It is reached under the new name, too, and says that nothing becomes durable there. */
	EXPECT_EQ(74, THAW_CTL(away, "checkpoint"));
	COMPLAINT("removed or renamed");
	EXPECT_EQ(74, THAW_CTL(away, "eval", "n"));
	EXPECT_STREQ("", self->ctl.output);
	ASSERT_EQ(0, THAW_CTL(away, "status"));
	OUTPUT("failing");
	ASSERT_EQ(0, rename(away, self->image));
	EXPECT_EQ(0, CTL("checkpoint"));
	free(away);
}

TEST_F(control, what_cannot_be_asked_is_said_in_one_line)
{
	EXPECT_EQ(66, CTL("status")); /* no image */
	support_write(self->script, "globalThis.n = 1\n");
	program_free(&self->ctl);
	ASSERT_EQ(0, program_run(&self->ctl, NULL, THAW("run", self->script)));
	EXPECT_EQ(66, CTL("status"));
	COMPLAINT("no program runs from it");
	EXPECT_EQ(9, CTL("statsu"));
	COMPLAINT("did you mean status?");
	EXPECT_EQ(9, CTL("eval"));
	EXPECT_EQ(9, CTL("status", "now"));
	EXPECT_EQ(9, CTL("tag", "a", "b", "c"));
}

TEST_HARNESS_MAIN
