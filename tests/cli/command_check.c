// SPDX-License-Identifier: GPL-2.0-only
/*
 * thaw check shows what is here, what is used, and what is used instead of what is not; and fails as a
 * start would.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>

#include "support.h"

FIXTURE(check)
{
	struct program program;
};
FIXTURE_SETUP(check)
{
	unsetenv("THAW_DELIVERY");
	unsetenv("THAW_TRACKER");
	unsetenv("THAW_BACKING");
	unsetenv("THAW_READER");
	unsetenv("THAW_WITHOUT");
}
FIXTURE_TEARDOWN(check)
{
	program_free(&self->program);
}

#define CHECK(...)                     \
	(program_free(&self->program), \
	 program_run(&self->program, NULL, THAW("check", ##__VA_ARGS__)))

static bool uses(const struct program *program, const char *kind, const char *backend)
{
	char *object = support_format(
		"\"kind\":\"%s\",\"name\":\"%s\",\"present\":true,\"used\":true", kind, backend);
	bool found = strstr(program->output, object);

	free(object);
	return found;
}

static unsigned count(const char *text, const char *word)
{
	unsigned found = 0;

	while ((text = strstr(text, word))) {
		found++;
		text += strlen(word);
	}
	return found;
}

TEST_F(check, one_backend_of_each_kind_is_used)
{
	ASSERT_EQ(0, CHECK("--json")) TH_LOG("%s", self->program.errors);
	EXPECT_EQ(5, count(self->program.output, "\"used\":true"));
	EXPECT_EQ(0, count(self->program.output, "\"present\":false,\"used\":true"));
	EXPECT_EQ(1, count(self->program.output, "\"ok\":true"));
}

TEST_F(check, what_is_forced_is_used)
{
	setenv("THAW_DELIVERY", "sigsegv", 1);
	ASSERT_EQ(0, CHECK("--json"));
	EXPECT_TRUE(uses(&self->program, "delivery", "sigsegv"));
	EXPECT_TRUE(uses(&self->program, "tracker", "mprotect"));
	EXPECT_TRUE(uses(&self->program, "backing", "memfd"));
	EXPECT_TRUE(uses(&self->program, "poison", "PROT_NONE"));
	setenv("THAW_DELIVERY", "eager", 1);
	ASSERT_EQ(0, CHECK("--json"));
	EXPECT_TRUE(uses(&self->program, "delivery", "eager"));
	EXPECT_TRUE(uses(&self->program, "backing", "anonymous"));
}

/* Each thing that is denied is not here, for that reason, and its backend neither. */
TEST_F(check, what_is_denied_is_not_here)
{
	setenv("THAW_WITHOUT", "userfaultfd,memfd,io_uring,kmod", 1);
	ASSERT_EQ(0, CHECK("--json"));
	EXPECT_EQ(6, count(self->program.output, "THAW_WITHOUT says so"));
	EXPECT_EQ(4, count(self->program.output, "there is no userfaultfd"));
	EXPECT_TRUE(uses(&self->program, "delivery", "eager"));
	EXPECT_EQ(1, count(self->program.output, "\"name\":\"wp-sync\",\"present\":false"));
	/* Itself, and what it would be: delivery, tracker and backing. */
	EXPECT_EQ(4, count(self->program.output, "\"name\":\"kmod\",\"present\":false"));
	ASSERT_EQ(0, CHECK());
	EXPECT_NE(NULL, strstr(self->program.output, "thaw runs here"));
}

TEST_F(check, what_is_forced_and_not_here_fails_and_the_tables_say_why)
{
	setenv("THAW_WITHOUT", "memfd", 1);
	setenv("THAW_DELIVERY", "sigsegv", 1);
	EXPECT_EQ(69, CHECK());
	EXPECT_NE(NULL, strstr(self->program.errors, "memfd_create"));
	EXPECT_NE(NULL, strstr(self->program.output, "ENOSYS: THAW_WITHOUT says so"));
	EXPECT_EQ(NULL, strstr(self->program.output, "thaw runs here"));
	EXPECT_EQ(69, CHECK("--json"));
	EXPECT_EQ(1, count(self->program.output, "\"ok\":false"));
	EXPECT_EQ(0, count(self->program.output, "\"used\":true"));
	setenv("THAW_DELIVERY", "magic", 1);
	EXPECT_EQ(9, CHECK());
}

/* What an ordinary user lacks can be given; what THAW_WITHOUT denies is nobody's to give. */
TEST_F(check, what_is_missing_comes_with_what_to_do)
{
	if (geteuid() || access(CONFINE_BINARY, X_OK))
		SKIP(return, "only root can become an ordinary user");
	unsetenv("THAW_KEY"); /* that of the suite is root's */
	unsetenv("HOME");
	for (unsigned exec = 0; exec < 2; exec++) {
		program_free(&self->program);
		ASSERT_EQ(0, program_run(&self->program, NULL,
					 (const char *[]){CONFINE_BINARY, "--user", THAW_BINARY,
							  "check", exec ? "exec" : "--json",
							  exec ? "--json" : NULL, NULL}))
		TH_LOG("%s", self->program.errors);
		/* Where this machine lets everybody use it, nothing is missing. */
		if (count(self->program.output, "it takes CAP_SYS_PTRACE") &&
		    count(self->program.output, "/dev/userfaultfd is not for this user")) {
			EXPECT_EQ(1, count(self->program.output,
					   "sysctl vm.unprivileged_userfaultfd=1, or give"))
			TH_LOG("%s", self->program.output);
		}
		if (exec) {
			EXPECT_EQ(1, count(self->program.output,
					   "\"do\":\"give CAP_CHECKPOINT_RESTORE"))
			TH_LOG("%s", self->program.output);
		}
	}
	setenv("THAW_WITHOUT", "userfaultfd,io_uring,wp-async,pagemap-scan,kmod", 1);
	ASSERT_EQ(0, CHECK("--json"));
	EXPECT_EQ(1, count(self->program.output, "\"advice\":["));
	EXPECT_EQ(0, count(self->program.output, "\"for\":\"userfaultfd\""));
	EXPECT_EQ(0, count(self->program.output, "\"for\":\"wp-async\""));
	EXPECT_EQ(0, count(self->program.output, "\"for\":\"io_uring\""));
	EXPECT_EQ(0, count(self->program.output, "\"for\":\"kmod\""));
}

/* The name may be anything's: nobody waits for it, and what is said of it is true. */
TEST_F(check, another_device_of_that_name_is_not_the_module)
{
	static const struct {
		const char *make, *why;
	} things[] = {
		{"echo > /dev/thaw", "is not the device of this version"},
		{"mkdir /dev/thaw", "is not the device of this version"},
		{"ln -s thaw /dev/thaw", "is not the device of this version"},
		{"ln -s nothing /dev/thaw", "there is no /dev/thaw"},
		{"mkfifo /dev/thaw", "is not the device of this version"},
		{"mknod /dev/thaw c 1 3", "is not the device of this version"}, /* null */
		{"mknod /dev/thaw c 240 1048575", "nothing is behind /dev/thaw"},
	};

	if (geteuid() || unshare(CLONE_NEWNS) ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", "/dev", "tmpfs", 0, NULL) || system("mknod -m 666 /dev/null c 1 3"))
		SKIP(return, "only root can have a /dev of its own");
	for (unsigned i = 0; i < sizeof(things) / sizeof(things[0]); i++) {
		ASSERT_EQ(0, system(things[i].make));
		ASSERT_EQ(0, CHECK("--json")) TH_LOG("%s", self->program.errors);
		EXPECT_EQ(1, count(self->program.output, things[i].why))
		TH_LOG("%s", things[i].make);
		setenv("THAW_BACKING", "kmod", 1);
		EXPECT_EQ(69, CHECK());
		EXPECT_EQ(1, count(self->program.errors, things[i].why));
		EXPECT_EQ(1, count(self->program.errors, "\n"));
		unsetenv("THAW_BACKING");
		ASSERT_EQ(0, system("rm -r /dev/thaw"));
	}
}

/* Whoever waits for a start is told why, once; and not who asked for quiet, or did not wait. */
TEST_F(check, a_start_that_loads_everything_first_says_so)
{
	char *directory = support_directory(), *script = support_format("%s/app.js", directory);

	support_write(script, "globalThis.data = new Uint8Array(1e6).fill(1)\n");
#define RUN(...)                       \
	(program_free(&self->program), \
	 program_run(&self->program, NULL, THAW("run", ##__VA_ARGS__, script)))
	setenv("THAW_DELIVERY", "eager", 1);
	ASSERT_EQ(0, RUN("--every", "0"));
	EXPECT_EQ(NULL, strstr(self->program.errors, "loaded first"));
	ASSERT_EQ(0, RUN("--every", "0"));
	EXPECT_EQ(1, count(self->program.errors, "thaw: THAW_DELIVERY=eager: all "));
	EXPECT_EQ(1, count(self->program.errors, " MiB were loaded first\n"));
	ASSERT_EQ(0, RUN("-q"));
	EXPECT_STREQ("", self->program.errors);
	setenv("THAW_DELIVERY", "", 1);
	setenv("THAW_WITHOUT", "userfaultfd,memfd,kmod", 1);
	ASSERT_EQ(0, RUN("--stats"));
	EXPECT_EQ(1, count(self->program.errors, "userfaultfd is not available (EPERM"));
	EXPECT_EQ(1, count(self->program.errors, "eager delivery"));
	setenv("THAW_WITHOUT", "userfaultfd,kmod", 1);
	ASSERT_EQ(0, RUN("--stats"));
	EXPECT_EQ(0, count(self->program.errors, "loaded first"));
	EXPECT_EQ(1, count(self->program.errors, "sigsegv delivery"));
	free(script);
	support_remove(directory);
}

/* Failures on purpose are for tests: what is installed does not know the word. */
TEST_F(check, what_is_installed_does_not_fail_on_purpose)
{
	char *directory = support_directory(), *script = support_format("%s/app.js", directory);
	const char *program[] = {THAW_BINARY, "run", "--fresh", "--every", "0", script, NULL};

	support_write(script, "globalThis.data = 1\n");
	setenv("THAW_INJECT", "write:ENOSPC:0:0", 1);
	EXPECT_EQ(0, program_run(&self->program, NULL, program)) TH_LOG("%s", self->program.errors);
	program_free(&self->program);
	program[0] = THAW_INJECTING; /* so it would have */
	EXPECT_NE(0, program_run(&self->program, NULL, program));
	EXPECT_NE(NULL, strstr(self->program.errors, "No space left"))
	TH_LOG("%s", self->program.errors);
	free(script);
	support_remove(directory);
}

/* Whoever starts a program that has other privileges than his own does not choose how it works. */
TEST_F(check, a_program_with_privileges_does_not_listen_to_the_environment)
{
	char *directory = support_directory(), *copy = support_format("%s/copy", directory);
	char *command = support_format("cp %s %s && chmod 4755 %s", THAW_BINARY, copy, copy);
	const char *run[] = {"setpriv", "--reuid=65534", "--clear-groups", copy, "check", "--json",
			     NULL};
	struct statvfs file_system;

	if (geteuid())
		SKIP(return, "only root can make a program that has root's privileges");
	ASSERT_EQ(0, statvfs(directory, &file_system));
	if (file_system.f_flag & ST_NOSUID || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0))
		SKIP(return, "programs get no privileges here");
	ASSERT_EQ(0, chmod(directory, 0755));
	setenv("THAW_WITHOUT", "memfd,io_uring", 1);
	ASSERT_EQ(0, system(command));
	EXPECT_EQ(0, program_run(&self->program, NULL, run)) TH_LOG("%s", self->program.errors);
	if (!strstr(self->program.output, "\"kind\""))
		SKIP(return, "setpriv is missing: %s", self->program.errors);
	EXPECT_EQ(0, count(self->program.output, "THAW_WITHOUT says so"));
	/* So it would have: the same program without the bit. */
	ASSERT_EQ(0, chmod(copy, 0755));
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, run));
	EXPECT_LT(0, count(self->program.output, "THAW_WITHOUT says so"));
	free(command);
	free(copy);
	support_remove(directory);
}

TEST_HARNESS_MAIN
