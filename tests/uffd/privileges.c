// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who has no privileges loses nothing but time: as an ordinary user, in what a container engine
 * leaves to root by default, and as an ordinary user in there, a program is checkpointed, killed and
 * continued as it is by root; and thaw check says what is used there instead.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sched.h>
#include <sys/mount.h>

#include "support.h"

/* Counts up for ever, with a heap of some size: most of it is missing after a restore. */
static const char counter_text[] =
	"import { on } from 'thaw'\n"
	"globalThis.ballast = Array.from({ length: 20000 }, (_, i) => ({ i, name: 'item ' + i }))\n"
	"let n = 0\n"
	"on('checkpoint', e => console.log('durable', e.generation))\n"
	"on('restore', () => console.log('restored at', n))\n"
	"setInterval(() => {\n"
	"	n++\n"
	"	ballast[n * 7 % 20000].i++\n"
	"	console.log('n', n)\n"
	"}, 5)\n";

/* One turn that never ends; what it has touched is all over the heap. */
static const char endless_text[] =
	"const all = Array.from({ length: 20000 }, (_, i) => ({ i, seen: 0 }))\n"
	"let n = 0\n"
	"for (;;) {\n"
	"	const one = all[n % 20000]\n"
	"	if (one.i !== n % 20000 || one.seen !== Math.floor(n / 20000)) throw new Error('wrong at ' + n)\n"
	"	one.seen++\n"
	"	if (++n % 20000 === 0) console.log('n', n)\n"
	"}\n";

/* Reads all of its heap once it is restored, and says what is in it. */
static const char sum_text[] =
	"import { on, checkpoint } from 'thaw'\n"
	"const all = Array.from({ length: 50000 }, (_, i) => ({ i, name: 'item ' + i }))\n"
	"const sum = () => all.reduce((sum, { i, name }) => sum + i + name.length, 0)\n"
	"on('restore', () => console.log('sum', sum()))\n"
	"await checkpoint()\n"
	"console.log('ready', sum())\n"
	"setInterval(() => {}, 1000)\n";

FIXTURE(confined)
{
	char *directory, *script, *image;
	struct program program;
};
FIXTURE_VARIANT(confined)
{
	bool user, seccomp;
	const char *delivery, *reader; /* what is used there */
};
FIXTURE_VARIANT_ADD(confined, ordinary_user){true, false, "user-mode", "io_uring"};
FIXTURE_VARIANT_ADD(confined, container){false, true, "sigsegv", "threads"};
FIXTURE_VARIANT_ADD(confined, ordinary_user_in_a_container){true, true, "sigsegv", "threads"};

FIXTURE_SETUP(confined)
{
	self->directory = support_directory();
	self->script = support_format("%s/program.js", self->directory);
	self->image = support_format("%s/program.thaw", self->directory);
	/* For whoever it will be. */
	if (chmod(self->directory, 0777))
		support_die(self->directory);
	support_own_key(self->directory);
	setenv("TMPDIR", self->directory, 1);
}
FIXTURE_TEARDOWN(confined)
{
	program_free(&self->program);
	free(self->image);
	free(self->script);
	support_remove(self->directory);
}

/* What is started is the command: its process id is that of the program, to be killed by. */
static struct program start(const FIXTURE_VARIANT(confined) * variant, const char *const command[])
{
	const char *arguments[24];
	int count = 0;

	arguments[count++] = CONFINE_BINARY;
	if (variant->user)
		arguments[count++] = "--user";
	if (variant->seccomp)
		arguments[count++] = "--seccomp";
	while (*command)
		arguments[count++] = *command++;
	arguments[count] = NULL;
	return program_start(arguments);
}

#define COMMAND(...) ((const char *const[]){__VA_ARGS__, NULL})

/* To its end, which is within a minute. */
static int run(FIXTURE_DATA(confined) * self, const FIXTURE_VARIANT(confined) * variant,
	       const char *const command[])
{
	program_free(&self->program);
	self->program = start(variant, command);
	return program_finish(&self->program, 60);
}

static long number_after(const char *output, const char *words)
{
	const char *found = strstr(output, words);

	return found ? atol(found + strlen(words)) : -1;
}

static long last_number_after(const char *output, const char *words)
{
	long number = -1;

	for (const char *at = output; (at = strstr(at, words)); at++)
		if (strchr(at, '\n'))
			number = atol(at + strlen(words));
	return number;
}

/* What the other tests rest on: that the privileges are gone. */
TEST_F(confined, nothing_is_left_to_use)
{
	ASSERT_EQ(0, run(self, variant, COMMAND("cat", "/proc/self/status")));
	EXPECT_NE(NULL, strstr(self->program.output, "NoNewPrivs:\t1\n"));
	if (variant->user) {
		EXPECT_NE(NULL, strstr(self->program.output, "CapPrm:\t0000000000000000\n"));
		EXPECT_EQ(NULL, strstr(self->program.output, "Uid:\t0"));
		EXPECT_NE(0, run(self, variant, COMMAND("test", "-r", "/dev/userfaultfd")));
	}
	if (variant->seccomp) {
		ASSERT_EQ(0, run(self, variant, COMMAND("cat", "/proc/self/status")));
		EXPECT_NE(NULL, strstr(self->program.output, "Seccomp:\t2\n"));
		EXPECT_NE(0, run(self, variant, COMMAND("test", "-r", "/dev/userfaultfd")));
		EXPECT_NE(0, run(self, variant, COMMAND("unshare", "-m", "true")));
	}
}

/*
 * In a process that is to become the command: its root is a directory that is no mount point, in which
 * all is found that was there. Nobody else sees any of it, least of all who removes the directory.
 */
static _Noreturn void run_in_a_chroot(const char *directory, const char *const command[])
{
	char root[128], from[512], to[512];
	struct dirent *entry;
	DIR *all;

	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		_exit(KSFT_SKIP);
	snprintf(root, sizeof(root), "%s/root", directory);
	snprintf(to, sizeof(to), "%s/all", root);
	if (mkdir(root, 0755) || mkdir(to, 0755) || mount("/", to, NULL, MS_BIND | MS_REC, NULL))
		support_die(to);
	all = opendir("/");
	while (all && (entry = readdir(all))) {
		snprintf(from, sizeof(from), "all/%s", entry->d_name);
		snprintf(to, sizeof(to), "%s/%s", root, entry->d_name);
		if (entry->d_name[0] != '.' && symlink(from, to))
			support_die(to);
	}
	if (chroot(root) || chdir("/"))
		support_die(root);
	execv(command[0], (char *const *)command);
	_exit(127);
}

TEST_F(confined, in_a_chroot_as_well)
{
	const char *command[8] = {CONFINE_BINARY};
	int count = 1, status;
	pid_t child;

	if (variant->user)
		command[count++] = "--user";
	if (variant->seccomp)
		command[count++] = "--seccomp";
	command[count++] = "sh";
	command[count++] = "-c";
	command[count++] = "! test -r /dev/userfaultfd && test -d /proc/self";
	child = fork();
	if (!child)
		run_in_a_chroot(self->directory, command);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	if (WIFEXITED(status) && WEXITSTATUS(status) == KSFT_SKIP)
		SKIP(return, "needs a mount namespace, and a root that is a mount point");
	EXPECT_EQ(0, status);
}

static bool is_used(const struct program *program, const char *kind, const char *name)
{
	char *object = support_format(
		"\"kind\":\"%s\",\"name\":\"%s\",\"present\":true,\"used\":true", kind, name);
	bool found = strstr(program->output, object);

	free(object);
	return found;
}

TEST_F(confined, check_says_what_is_used)
{
	ASSERT_EQ(0, run(self, variant, COMMAND(THAW_BINARY, "check", "--json")))
	{
		TH_LOG("%s%s", self->program.output, self->program.errors);
	}
	if (!variant->seccomp &&
	    (is_used(&self->program, "delivery", "userfaultfd") ||
	     strstr(self->program.output, "\"name\":\"user-mode\",\"present\":false") ||
	     strstr(self->program.output, "\"name\":\"io_uring\",\"present\":false")))
		SKIP(return, "users have more rights here, or fewer, than as the kernel comes");
	EXPECT_TRUE(is_used(&self->program, "delivery", variant->delivery))
	{
		TH_LOG("%s", self->program.output);
	}
	EXPECT_TRUE(is_used(&self->program, "reader", variant->reader));
}

TEST_F(confined, killed_and_continued)
{
	long reached = 0;

	support_write(self->script, counter_text);
	for (int i = 0; i < 4; i++) {
		char *text = support_format("n %ld\n", reached + 40);

		program_free(&self->program);
		self->program = start(variant, COMMAND(THAW_BINARY, "run", "--every", "20ms",
						       "--image", self->image, self->script));
		ASSERT_TRUE(program_wait_for(&self->program, text, 60))
		{
			TH_LOG("run %d: %s%s", i, self->program.output, self->program.errors);
		}
		/* Durable is what was reached before it. */
		ASSERT_TRUE(program_wait_for(&self->program, "durable ", 60));
		program_kill(&self->program);
		EXPECT_STREQ("", self->program.errors);
		if (i) {
			EXPECT_LT(0, number_after(self->program.output, "restored at "));
			EXPECT_GE(reached, number_after(self->program.output, "restored at "));
		}
		reached = last_number_after(self->program.output, "n ");
		free(text);
	}
	ASSERT_EQ(0, run(self, variant, COMMAND(THAW_BINARY, "verify", self->image)));
}

TEST_F(confined, killed_in_the_middle_of_a_turn_and_continued)
{
	long reached = 0;

	support_write(self->script, endless_text);
	for (int i = 0; i < 3; i++) {
		char *text = support_format("n %ld\n", reached + 200000);

		program_free(&self->program);
		self->program =
			start(variant, COMMAND(THAW_BINARY, "run", "--verbose", "--every", "50ms",
					       "--image", self->image, self->script));
		ASSERT_TRUE(program_wait_for(&self->program, text, 60))
		{
			TH_LOG("run %d: %s%s", i, self->program.output, self->program.errors);
		}
		ASSERT_TRUE(program_wait_for_complaint(&self->program, "thaw: generation ", 60));
		program_kill(&self->program);
		EXPECT_EQ(NULL, strstr(self->program.errors, "wrong at"));
		reached = last_number_after(self->program.output, "n ");
		free(text);
	}
	ASSERT_EQ(0, run(self, variant, COMMAND(THAW_BINARY, "log", self->image)));
	EXPECT_NE(NULL, strstr(self->program.output, "mid-turn"))
	{
		TH_LOG("%s", self->program.output);
	}
}

/* What was used when it was written is not in the image; in one between turns, nobody's key either. */
TEST_F(confined, an_image_goes_on_with_other_privileges_and_back)
{
	long sum;

	support_write(self->script, sum_text);
	self->program =
		program_start(THAW("run", "--every", "0", "--image", self->image, self->script));
	if (!program_wait_for(&self->program, "\n", 60) && program_finish(&self->program, 60) == 69)
		SKIP(return, "%.*s", (int)strcspn(self->program.errors, "\n"),
			   self->program.errors);
	sum = number_after(self->program.output, "ready ");
	program_kill(&self->program);
	ASSERT_LT(0, sum);
	/* Root's image is for root. */
	if (!geteuid() && variant->user)
		ASSERT_EQ(0, chmod(self->image, 0666));
	for (int i = 0; i < 2; i++) {
		program_free(&self->program);
		self->program = i ? program_start(THAW("run", "--every", "0", "--image",
						       self->image, self->script))
				  : start(variant, COMMAND(THAW_BINARY, "run", "--every", "0",
							   "--image", self->image, self->script));
		ASSERT_TRUE(program_wait_for(&self->program, "sum ", 60))
		{
			TH_LOG("%s%s", self->program.output, self->program.errors);
		}
		ASSERT_TRUE(program_wait_for(&self->program, "\n", 60));
		EXPECT_EQ(sum, number_after(self->program.output, "sum "));
		program_kill(&self->program);
		EXPECT_STREQ("", self->program.errors);
	}
}

TEST_HARNESS_MAIN
