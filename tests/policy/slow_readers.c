// SPDX-License-Identifier: GPL-2.0-only
/*
 * slow_readers.c - whoever reads what a program prints may be slow, stopped, or gone: the program
 * waits, its checkpoints and its signals do not, and nothing that was printed is lost.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/resource.h>
#include <termios.h>

#include "../../vm/base/output_pieces.h"
#include "../../vm/js/state/blob.h"
#include "by_path.h"
#include "support.h"
#include "thaw.h"

FIXTURE(readers)
{
	char *directory, *script, *image;
	struct program program;
};
FIXTURE_SETUP(readers)
{
	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
	self->image = support_format("%s/app.thaw", self->directory);
	support_own_key(self->directory);
}
FIXTURE_TEARDOWN(readers)
{
	program_free(&self->program);
	free(self->script);
	free(self->image);
	support_remove(self->directory);
}

static bool wait_for_generation(const char *image, uint64_t number)
{
	double end = support_deadline(60);

	while (path_newest(image).number < number) {
		if (support_seconds() > end)
			return false;
		support_sleep(0.005);
	}
	return true;
}

/* Has somebody written until there was no room? Reads nothing. */
static bool wait_until_full(int pipe)
{
	char *path = support_format("/proc/self/fd/%d", pipe);
	double end = support_deadline(60);
	bool full = false;

	while (!full && support_seconds() < end) {
		struct pollfd room = {.events = POLLOUT};

		support_sleep(0.005);
		room.fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
		if (room.fd < 0)
			support_die(path);
		full = !poll(&room, 1, 0);
		close(room.fd);
	}
	free(path);
	return full;
}

/* It ends while nobody reads. */
static bool wait_for_end(const struct program *program)
{
	double end = support_deadline(60);

	for (;;) {
		siginfo_t gone = {0};

		if (!waitid(P_PID, (id_t)program->pid, &gone, WEXITED | WNOHANG | WNOWAIT) &&
		    gone.si_pid)
			return true;
		if (support_seconds() > end)
			return false;
		support_sleep(0.005);
	}
}

/*
 * Are these all of the lines from 1 on, or from where the text before ended? `again`: some of the ones
 * before may come once more. The last one may be incomplete. Returns the last number, or -1.
 */
static long follow(const char *text, const char *word, long last, bool again)
{
	size_t length = strlen(word);
	bool first = true;

	for (const char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
		long number;

		if (strncmp(line, word, length))
			return -1;
		number = atol(line + length);
		if (number != last + 1 && !(first && again && number <= last && number >= 1))
			return -1;
		last = number;
		first = false;
	}
	return last;
}

static const char in_turns[] =
	"let n = 0\n"
	"setInterval(() => { for (let i = 0; i < 500; i++) console.log('line', ++n) }, 1)\n";
static const char in_a_turn[] = "let n = 0\n"
				"for (;;) console.log('line', ++n)\n";

/* The bytes of the last, incomplete line are not where a line of the next process begins. */
static void cut(struct program *program)
{
	char *newline = strrchr(program->output, '\n');

	if (newline)
		newline[1] = '\0';
}

/* What is queued goes along: to its end in order exactly, after a kill at least once. */
static void stall(struct __test_metadata *_metadata, FIXTURE_DATA(readers) * self,
		  const char *source, const char *every, int signo)
{
	struct program before;
	const char *rest;
	char *text, *wanted;
	long last;
	int code;

	support_write(self->script, source);
	unlink(self->image);
	self->program = program_start(THAW("run", "--every", every, self->script));
	ASSERT_TRUE(wait_until_full(self->program.out));
	if (strcmp(every, "0"))
		ASSERT_TRUE(wait_for_generation(self->image, 1));
	kill(self->program.pid, signo);
	ASSERT_TRUE(wait_for_end(&self->program));
	code = program_finish(&self->program, 60);
	EXPECT_EQ(128 + signo, code) TH_LOG("%s", self->program.errors);
	last = follow(self->program.output, "line ", 0, false);
	ASSERT_GT(last, 0);
	/* The line that was cut is completed by the next process, or printed again. */
	before = self->program;
	rest = strrchr(before.output, '\n') + 1;
	wanted = support_format("line %ld\n", last + 60000);
	self->program = program_start(THAW("run", "--every", "0", self->script));
	ASSERT_TRUE(program_wait_for(&self->program, wanted, 60))
	{
		TH_LOG("%s", self->program.errors);
	}
	free(wanted);
	program_kill(&self->program);
	cut(&self->program);
	text = signo == SIGKILL ? strdup(self->program.output)
				: support_format("%s%s", rest, self->program.output);
	EXPECT_GT(follow(text, "line ", last, signo == SIGKILL), last + 50000)
	{
		TH_LOG("after %ld: %.60s", last, text);
	}
	free(text);
	program_free(&before);
	program_free(&self->program);
}

TEST_F(readers, who_stop_do_not_stop_the_end)
{
	stall(_metadata, self, in_turns, "20ms", SIGTERM);
	stall(_metadata, self, in_a_turn, "20ms", SIGTERM);
	stall(_metadata, self, in_turns, "0", SIGTERM);
	stall(_metadata, self, in_a_turn, "0", SIGTERM);
}

TEST_F(readers, who_stop_lose_nothing_by_a_kill)
{
	for (int i = 0; i < 3; i++) {
		stall(_metadata, self, in_turns, "10ms", SIGKILL);
		stall(_metadata, self, in_a_turn, "10ms", SIGKILL);
	}
}

TEST_F(readers, who_stop_do_not_stop_checkpoints)
{
	double end = support_deadline(60);

	support_write(self->script, in_a_turn);
	self->program = program_start(THAW("run", "--every", "0", self->script));
	ASSERT_TRUE(wait_until_full(self->program.out));
	EXPECT_EQ(0, path_newest(self->image).number);
	kill(self->program.pid, SIGUSR2);
	ASSERT_TRUE(wait_for_generation(self->image, 1));
	EXPECT_EQ(THAW_KIND_BOUND, path_newest(self->image).kind);
	program_kill(&self->program);
	program_free(&self->program);

	/*
	 * While it waits it does not change: one generation, and no more of the same. (Of those that
	 * come sooner one after another only one a second would be listed.)
	 */
	self->program = program_start(THAW("run", "--fresh", "--every", "200ms", self->script));
	ASSERT_TRUE(wait_until_full(self->program.out));
	for (uint64_t number = 0; number != path_newest(self->image).number; support_sleep(0.3)) {
		number = path_newest(self->image).number;
		ASSERT_LT(support_seconds(), end);
		support_sleep(0.3);
	}
	program_kill(&self->program);
}

TEST_F(readers, of_errors_are_no_different)
{
	support_write(
		self->script,
		"let n = 0\n"
		"setInterval(() => { for (let i = 0; i < 500; i++) console.error('line', ++n) }, 1)\n");
	self->program = program_start(THAW("run", self->script));
	ASSERT_TRUE(wait_until_full(self->program.err));
	kill(self->program.pid, SIGTERM);
	ASSERT_TRUE(wait_for_end(&self->program));
	EXPECT_EQ(143, program_finish(&self->program, 60));
	EXPECT_GT(path_newest(self->image).number, 0);
}

/* Where nothing is kept, the first signal ends it all the same. */
TEST_F(readers, end_a_program_without_an_image)
{
	static const char *const codes[] = {"for (;;) console.log('line')",
					    "setInterval(() => console.log('x'.repeat(9999)), 1)"};

	for (unsigned i = 0; i < 2; i++) {
		self->program = program_start(THAW("-e", codes[i]));
		ASSERT_TRUE(wait_until_full(self->program.out));
		kill(self->program.pid, SIGTERM);
		ASSERT_TRUE(wait_for_end(&self->program)) TH_LOG("%s", codes[i]);
		EXPECT_EQ(143, program_finish(&self->program, 60));
		program_free(&self->program);
	}
}

/* A program that has ended waits for its reader, as any does, and its image has nothing left then. */
TEST_F(readers, get_all_of_it_at_the_end)
{
	static const char *const ends[] = {"", "exit(0)"};

	for (unsigned i = 0; i < 2; i++) {
		char *text = support_format(
			"import { exit } from 'thaw'\n"
			"for (let n = 1; n <= 60000; n++) console.log('line', n)\n%s\n",
			ends[i]);
		long last;

		support_write(self->script, text);
		free(text);
		self->program = program_start(THAW("run", "--fresh", self->script));
		ASSERT_TRUE(wait_until_full(self->program.out));
		support_sleep(0.1);
		EXPECT_EQ(0, program_finish(&self->program, 60));
		EXPECT_EQ(60000, follow(self->program.output, "line ", 0, false));
		program_free(&self->program);
		EXPECT_EQ(0, program_run(&self->program, NULL, THAW("run", self->script)));
		EXPECT_STREQ("", self->program.output);
		EXPECT_NE(NULL, strstr(self->program.errors, "nothing is left to do"));
		program_free(&self->program);

		/* Killed while it waits, or ended: who comes next prints the rest. Once. */
		self->program = program_start(THAW("run", "--fresh", self->script));
		ASSERT_TRUE(wait_until_full(self->program.out));
		kill(self->program.pid, SIGTERM);
		ASSERT_TRUE(wait_for_end(&self->program));
		EXPECT_EQ(143, program_finish(&self->program, 60));
		last = follow(self->program.output, "line ", 0, false);
		text = strdup(strrchr(self->program.output, '\n') + 1);
		program_free(&self->program);
		EXPECT_EQ(0, program_run(&self->program, NULL, THAW("run", self->script)))
		TH_LOG("%s", self->program.errors);
		{
			char *all = support_format("%s%s", text, self->program.output);

			EXPECT_EQ(60000, follow(all, "line ", last, false));
			free(all);
		}
		free(text);
		program_free(&self->program);
		EXPECT_EQ(0, program_run(&self->program, NULL, THAW("run", self->script)));
		EXPECT_STREQ("", self->program.output);
		program_free(&self->program);
	}
}

/* Whoever asks the program something gets an answer, and not what was printed for somebody else. */
TEST_F(readers, of_an_answer_get_the_answer)
{
	double end = support_deadline(60);
	char *rest, *text;
	long last;

	/* More than the pipe holds, and less than what a turn waits for. */
	support_write(self->script, "for (let n = 1; n <= 10000; n++) console.log('line', n)\n");
	self->program = program_start(THAW("run", "--every", "10ms", self->script));
	ASSERT_TRUE(wait_until_full(self->program.out));
	while (path_newest(self->image).kind != THAW_KIND_PORTABLE ||
	       !path_newest(self->image).number) {
		ASSERT_LT(support_seconds(), end);
		support_sleep(0.005);
	}
	kill(self->program.pid, SIGTERM);
	ASSERT_TRUE(wait_for_end(&self->program));
	EXPECT_EQ(143, program_finish(&self->program, 60));
	last = follow(self->program.output, "line ", 0, false);
	EXPECT_GT(last, 0);
	EXPECT_LT(last, 10000);
	rest = strdup(strrchr(self->program.output, '\n') + 1);
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("-i", self->image, "-p", "'answer'")));
	EXPECT_EQ(NULL, strstr(self->program.output, "line "))
	TH_LOG("%.99s", self->program.output);
	program_free(&self->program);
	/* Who runs the program gets it. */
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("run", self->script)));
	text = support_format("%s%s", rest, self->program.output);
	EXPECT_EQ(10000, follow(text, "line ", last, false));
	free(rest);
	free(text);
}

/* What is said to one pipe comes in the order in which it was said. */
TEST_F(readers, of_both_streams_get_them_in_order)
{
	char *command = support_format("exec %s run %s 2>&1", THAW_BINARY, self->script), *end;

	support_write(self->script, "for (let n = 1; n <= 60000; n += 2) {\n"
				    "	console.log('line', n)\n"
				    "	console.error('line', n + 1)\n"
				    "}\n"
				    "throw new Error('the end')\n");
	self->program = program_start((const char *const[]){"sh", "-c", command, NULL});
	ASSERT_TRUE(wait_until_full(self->program.out));
	EXPECT_EQ(1, program_finish(&self->program, 60));
	EXPECT_NE(NULL, strstr(self->program.output, "Uncaught Error: the end"));
	end = strstr(self->program.output, self->script); /* the place, above it */
	ASSERT_NE(NULL, end);
	*end = '\0';
	EXPECT_EQ(60000, follow(self->program.output, "line ", 0, false));
	free(command);
}

/* A failure is told on stderr, whoever reads stdout. */
TEST_F(readers, who_stop_do_not_stop_warnings)
{
	double end = support_deadline(60);
	struct rlimit limit;

	support_write(self->script, in_a_turn);
	self->program = program_start(THAW("run", "--every", "10ms", self->script));
	ASSERT_TRUE(wait_until_full(self->program.out));
	ASSERT_TRUE(wait_for_generation(self->image, 1)); /* and the key is made */
	ASSERT_EQ(0, prlimit(self->program.pid, RLIMIT_FSIZE, NULL, &limit));
	limit.rlim_cur = 1;
	ASSERT_EQ(0, prlimit(self->program.pid, RLIMIT_FSIZE, &limit, NULL));
	kill(self->program.pid, SIGUSR2);
	while (!strstr(self->program.errors, "checkpoint failed") && support_seconds() < end) {
		program_drain(self->program.err, &self->program.errors,
			      &self->program.errors_bytes);
		support_sleep(0.005);
	}
	EXPECT_NE(NULL, strstr(self->program.errors, "checkpoint failed"));
	kill(self->program.pid, SIGTERM);
	ASSERT_TRUE(wait_for_end(&self->program));
	EXPECT_EQ(74, program_finish(&self->program, 60)) TH_LOG("%s", self->program.errors);
}

/* Ctrl-S */
TEST_F(readers, at_a_stopped_terminal)
{
	int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), other, status;
	double end = support_deadline(60);
	char text[4096];
	pid_t child;

	ASSERT_GE(terminal, 0);
	ASSERT_EQ(0, grantpt(terminal));
	ASSERT_EQ(0, unlockpt(terminal));
	other = open(ptsname(terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
	ASSERT_GE(other, 0);
	support_write(self->script, "import { checkpoint } from 'thaw'\n"
				    "let n = 0\n"
				    "setInterval(() => console.log('line', ++n), 1)\n");
	child = support_fork();
	if (!child) {
		dup2(other, 1);
		execl(THAW_BINARY, "thaw", "run", "--every", "10ms", self->script, NULL);
		_exit(127);
	}
	ASSERT_GT(read(terminal, text, sizeof(text)), 0);
	ASSERT_EQ(0, tcflow(other, TCOOFF));
	ASSERT_TRUE(wait_for_generation(self->image, path_newest(self->image).number + 5));
	kill(child, SIGTERM);
	while (!waitpid(child, &status, WNOHANG)) {
		if (support_seconds() > end)
			kill(child, SIGKILL);
		support_sleep(0.005);
	}
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(143, WEXITSTATUS(status));
	close(other);
	close(terminal);
}

/* Somebody else has set O_NONBLOCK for all who share the pipe. */
TEST_F(readers, behind_a_pipe_that_does_not_block)
{
	char *command = support_format("exec %s run %s", THAW_BINARY, self->script);
	int ends[2];

	ASSERT_EQ(0, pipe2(ends, O_CLOEXEC | O_NONBLOCK));
	support_write(self->script, "for (let n = 1; n <= 60000; n++) console.log('line', n)\n");
	self->program = (struct program){.pid = fork(), .in = -1, .out = ends[0]};
	if (!self->program.pid) {
		dup2(ends[1], 1);
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	close(ends[1]);
	self->program.output = calloc(1, 1);
	self->program.errors = calloc(1, 1);
	self->program.err = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ASSERT_TRUE(wait_until_full(ends[0]));
	EXPECT_EQ(0, program_finish(&self->program, 60));
	EXPECT_EQ(60000, follow(self->program.output, "line ", 0, false));
	free(command);
}

/* Output that did not arrive is a failure, whatever else went well. */
TEST_F(readers, that_cannot_take_it)
{
	char *command = support_format("exec %s run %s > /dev/full", THAW_BINARY, self->script);

	support_write(self->script,
		      "console.log('line')\nsetTimeout(() => console.log('line'), 1)\n");
	EXPECT_EQ(74, program_run(&self->program, NULL,
				  (const char *const[]){"sh", "-c", command, NULL}));
	EXPECT_STREQ("thaw: cannot write to stdout: No space left on device; the program goes on\n",
		     self->program.errors);
	free(command);
}

/* What an image says of it is checked before anything is printed. */
/* However it is printed: why it did not arrive, or nothing where nobody wanted it. */
TEST_F(readers, that_are_not_there)
{
	static const char full[] = "No space left on device";
	static const struct {
		int code;
		const char *said, *command;
	} cases[] = {
		{74, full, "echo 1+1 | $T repl -i $D/q.thaw > /dev/full"},
		{74, "Bad file descriptor", "echo 1+1 | $T repl -i $D/q.thaw >&-"},
		{74, full, "echo 'console.log(1)' | $T repl -i $D/q.thaw > /dev/full"},
		{0, "", "echo 'console.log(1)' | $T repl -i $D/q.thaw >&-"},
		{0, "", "$T -e 'console.log(1)' >&-"},
		{74, full, "$T -e 'console.log(1)' > /dev/full"},
		{74, full, "$T -p 1 > /dev/full"},
		{74, full, "$T log $D/q.thaw > /dev/full"},
		{74, full, "$T help run > /dev/full"},
		{74, full, "$T help > /dev/full"},
		{74, full, "$T map $D/q.thaw > /dev/full"},
		{74, full, "$T check > /dev/full"},
		{74, full, "$T eval -q $D/q.thaw 1 > /dev/full"},
		{74, full, "$T --version > /dev/full"},
		{0, "141\n", "(sleep 0.2; $T -p 1; echo $? >&2) | true"},
		{0, "141\n", "(sleep 0.2; $T -e 'console.log(1)'; echo $? >&2) | true"},
		{0, "141\n", "(sleep 0.2; echo 1 | $T repl -i $D/q.thaw; echo $? >&2) | true"},
		{0, "141\n", "(sleep 0.2; $T log $D/q.thaw; echo $? >&2) | true"},
		{0, "141\n", "(sleep 0.2; $T help run; echo $? >&2) | true"},
	};

	setenv("T", THAW_BINARY, 1);
	setenv("D", self->directory, 1);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *said = cases[i].said;

		program_free(&self->program);
		EXPECT_EQ(cases[i].code,
			  program_run(&self->program, NULL,
				      (const char *const[]){"sh", "-c", cases[i].command, NULL}))
		TH_LOG("%s: %s", cases[i].command, self->program.errors);
		EXPECT_TRUE(*said && *said > '9' ? strstr(self->program.errors, said) != NULL
						 : !strcmp(self->program.errors, said))
		TH_LOG("%s: %s", cases[i].command, self->program.errors);
	}
}

TEST(stored_output_is_checked)
{
	static const struct {
		unsigned at;
		uint8_t value;
	} changes[] = {
		{8, 0}, {8, 3}, {8, 255},	  /* no such stream */
		{9, 6}, {9, 4}, {12, 1},	  /* longer or shorter than what there is */
		{0, 0}, {0, 9}, {0, 16},  {7, 1}, /* all of it is */
	};
	uint8_t output[OUTPUT_HEAD_BYTES + 5], *end = output_piece_put(output, 2, "five\n", 5);
	struct js_blob blob = {.small = {1024, 1},
			       .enter = 8,
			       .flags = JS_BLOB_OUTPUT,
			       .output = output,
			       .output_bytes = sizeof(output)},
		       decoded;
	size_t bytes, start;
	uint8_t *data = js_blob_encode(&blob, &bytes);
	struct thaw_error error;
	const void *piece;
	uint32_t length;
	int stream;

	ASSERT_EQ(output + sizeof(output), end);
	ASSERT_NE(NULL, data);
	start = bytes - sizeof(output) - 8;
	ASSERT_EQ(0, js_blob_decode(data, bytes, &decoded, &error)) TH_LOG("%s", error.text);
	ASSERT_EQ(sizeof(output), decoded.output_bytes);
	EXPECT_EQ((const uint8_t *)decoded.output + sizeof(output),
		  output_piece_get(decoded.output, &stream, &piece, &length));
	EXPECT_EQ(2, stream);
	EXPECT_EQ(5, length);
	EXPECT_EQ(0, memcmp(piece, "five\n", 5));
	js_blob_clear(&decoded);
	for (unsigned i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		uint8_t before = data[start + changes[i].at];

		data[start + changes[i].at] = changes[i].value;
		EXPECT_EQ(THAW_EDAMAGED, js_blob_decode(data, bytes, &decoded, &error))
		TH_LOG("change %u", i);
		data[start + changes[i].at] = before;
	}
	for (size_t cut = start; cut < bytes; cut++) {
		uint8_t *copy = malloc(cut);

		memcpy(copy, data, cut);
		EXPECT_EQ(THAW_EDAMAGED, js_blob_decode(copy, cut, &decoded, &error));
		free(copy);
	}
	free(data);
}

TEST_HARNESS_MAIN
