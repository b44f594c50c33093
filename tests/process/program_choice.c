// SPDX-License-Identifier: GPL-2.0-only
/*
 * program_choice - which program a command is, what is refused and why, and where its image is.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <sys/xattr.h>

#include "kselftest_harness.h"
#include "process/process.h"
#include "support.h"

/* An ELF file of headers alone, which is found and looked at, but never run. */
struct sample {
	Elf64_Ehdr header;
	Elf64_Phdr segments[1];
	char interpreter[64];
};

static struct sample sample(const char *interpreter)
{
	struct sample sample = {
		.header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB},
			   .e_type = ET_DYN,
#if defined(__x86_64__)
			   .e_machine = EM_X86_64,
#else
			   .e_machine = EM_AARCH64,
#endif
			   .e_phoff = offsetof(struct sample, segments),
			   .e_phentsize = sizeof(Elf64_Phdr),
			   .e_phnum = 1},
		.segments = {{.p_type = *interpreter ? PT_INTERP : PT_LOAD,
			      .p_offset = offsetof(struct sample, interpreter),
			      .p_filesz = strlen(interpreter) + 1}}};

	strcpy(sample.interpreter, interpreter);
	return sample;
}

#if defined(__x86_64__)
#define GLIBC "/lib64/ld-linux-x86-64.so.2"
#else
#define GLIBC "/lib/ld-linux-aarch64.so.1"
#endif

FIXTURE(program_choice)
{
	char *directory;
	struct thaw_error error;
};

FIXTURE_SETUP(program_choice)
{
	self->directory = support_directory();
	ASSERT_EQ(chdir(self->directory), 0);
	setenv("PATH", "first:second:/usr/bin:/bin", 1);
	ASSERT_EQ(mkdir("first", 0755), 0);
	ASSERT_EQ(mkdir("second", 0755), 0);
}

FIXTURE_TEARDOWN(program_choice)
{
	ASSERT_EQ(chdir("/"), 0);
	support_remove(self->directory);
}

static void make(const char *path, const void *data, size_t bytes, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);

	if (fd < 0 || write(fd, data, bytes) != (ssize_t)bytes || fchmod(fd, mode))
		support_die(path);
	close(fd);
}

static void make_script(const char *path, const char *text)
{
	make(path, text, strlen(text), 0755);
}

static void make_program(const char *path, const char *interpreter, mode_t mode)
{
	struct sample program = sample(interpreter);

	make(path, &program, sizeof(program), mode);
}

/* The code; the path in `found`. */
static int find(struct thaw_error *error, const char *command, char found[256])
{
	char *path;
	int code;

	*error = (struct thaw_error){0};
	code = program_find(command, &path, error);
	snprintf(found, 256, "%s", code ? "" : path);
	if (code && !error->text[0])
		strcpy(found, "no reason");
	if (!code)
		free(path);
	return code;
}

#define EXPECT_REFUSED(command, why)                                              \
	do {                                                                      \
		char found_[256];                                                 \
		EXPECT_EQ(find(&self->error, command, found_), PROCESS_EREFUSED); \
		EXPECT_NE(strstr(self->error.text, why), NULL)                    \
		{                                                                 \
			TH_LOG("%s: %s", command, self->error.text);              \
		}                                                                 \
	} while (0)

TEST_F(program_choice, path_is_searched_as_execvp_does)
{
	char found[256];

	make_program("second/tool", GLIBC, 0755);
	EXPECT_EQ(find(&self->error, "tool", found), 0);
	EXPECT_STREQ(found, "second/tool");
	make_program("first/tool", GLIBC, 0644); /* not executable: passed over */
	EXPECT_EQ(find(&self->error, "tool", found), 0);
	EXPECT_STREQ(found, "second/tool");
	ASSERT_EQ(chmod("first/tool", 0755), 0);
	EXPECT_EQ(find(&self->error, "tool", found), 0);
	EXPECT_STREQ(found, "first/tool");
	ASSERT_EQ(mkdir("first/other", 0755), 0); /* a directory is no program */
	make_program("second/other", GLIBC, 0755);
	EXPECT_EQ(find(&self->error, "other", found), 0);
	EXPECT_STREQ(found, "second/other");
	setenv("PATH", "first:", 1); /* an empty entry is the current directory */
	make_program("here", GLIBC, 0755);
	EXPECT_EQ(find(&self->error, "here", found), 0);
	EXPECT_STREQ(found, "here");
}

TEST_F(program_choice, what_is_not_there_or_not_executable_is_told)
{
	char found[256];

	EXPECT_EQ(find(&self->error, "no-such-command", found), -ENOENT);
	EXPECT_NE(strstr(self->error.text, "no-such-command"), NULL);
	EXPECT_EQ(find(&self->error, "./no-such-file", found), -ENOENT);
	make_program("second/plain", GLIBC, 0644);
	EXPECT_EQ(find(&self->error, "plain", found), -EACCES);
	EXPECT_EQ(find(&self->error, "./first", found), -EACCES);
	EXPECT_EQ(find(&self->error, "", found), -ENOENT);
}

TEST_F(program_choice, only_programs_that_load_the_stub)
{
	struct sample program = sample(GLIBC);

	make_program("static", "", 0755);
	EXPECT_REFUSED("./static", "statically linked");
	make_program("musl", "/lib/ld-musl-x86_64.so.1", 0755);
	EXPECT_REFUSED("./musl", "musl");
	make_program("bionic", "/system/bin/linker64", 0755);
	EXPECT_REFUSED("./bionic", "/system/bin/linker64");
	program.header.e_ident[EI_CLASS] = ELFCLASS32;
	make("narrow", &program, sizeof(program), 0755);
	EXPECT_REFUSED("./narrow", "another kind of processor");
	program = sample(GLIBC);
	program.header.e_machine = EM_S390;
	make("foreign", &program, sizeof(program), 0755);
	EXPECT_REFUSED("./foreign", "another kind of processor");
	program = sample(GLIBC);
	make("cut", &program, sizeof(program.header) + 3, 0755);
	EXPECT_REFUSED("./cut", "no complete program");
	make_script("nothing", "echo hello\n");
	EXPECT_REFUSED("./nothing", "thaw exec sh ./nothing");
	make("empty", "", 0, 0755);
	EXPECT_REFUSED("./empty", "neither a program nor a script");
}

TEST_F(program_choice, no_privileges_beyond_the_callers)
{
	char found[256];

	make_program("tool", GLIBC, 0755);
	if (getuid())
		SKIP(return, "only root can give files away");
	ASSERT_EQ(chown("tool", 65534, 65534), 0);
	ASSERT_EQ(chmod("tool", 04755), 0);
	EXPECT_REFUSED("./tool", "setuid");
	ASSERT_EQ(chmod("tool", 02755), 0);
	EXPECT_REFUSED("./tool", "setgid");
	ASSERT_EQ(chmod("tool", 02745), 0); /* mandatory locking, once */
	EXPECT_EQ(find(&self->error, "./tool", found), 0);
	ASSERT_EQ(chown("tool", 0, 0), 0);
	ASSERT_EQ(chmod("tool", 04755), 0); /* its own */
	EXPECT_EQ(find(&self->error, "./tool", found), 0);
}

TEST_F(program_choice, file_capabilities_are_refused)
{
	/* VFS_CAP_REVISION_2, cap_net_raw permitted */
	static const uint32_t capability[5] = {0x02000001, 1u << 13};
	char text[256] = "";
	int status;
	pid_t pid;

	make_program("tool", GLIBC, 0755);
	if (setxattr("tool", "security.capability", capability, sizeof(capability), 0))
		SKIP(return, "this file system or user has no file capabilities");
	ASSERT_EQ(chmod(self->directory, 0755), 0);
	pid = fork();
	if (!pid) {
		if (setgid(65534) || setuid(65534))
			_exit(2);
		_exit(find(&self->error, "./tool", text) != PROCESS_EREFUSED ||
		      !strstr(self->error.text, "file capabilities"));
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

TEST_F(program_choice, scripts_are_followed_to_their_interpreter)
{
	char found[256];

	make_program("tool", GLIBC, 0755);
	make_program("musl", "/lib/ld-musl-x86_64.so.1", 0755);
	make_script("good", "#!./tool -x\n");
	EXPECT_EQ(find(&self->error, "./good", found), 0);
	EXPECT_STREQ(found, "./good");
	make_script("nested", "#! ./good\n");
	EXPECT_EQ(find(&self->error, "./nested", found), 0);
	make_script("bad", "#!./musl\n");
	EXPECT_REFUSED("./bad", "musl");
	make_script("loop", "#!./loop\n");
	EXPECT_REFUSED("./loop", "names no program");
	make_script("none", "#!\n");
	EXPECT_REFUSED("./none", "names no program");
	make_script("gone", "#!./removed\n");
	EXPECT_EQ(find(&self->error, "./gone", found), -ENOENT);
	EXPECT_NE(strstr(self->error.text, "./removed"), NULL);
}

/* The command as one line; empty: refused. */
static void command(struct thaw_error *error, char line[1024], char *const *arguments)
{
	char **resolved, *path;

	line[0] = 0;
	if (program_command(arguments, &path, &resolved, error))
		return;
	snprintf(line, 1024, "%s:", path);
	for (unsigned i = 0; resolved[i]; i++)
		snprintf(line + strlen(line), 1024 - strlen(line), " %s", resolved[i]);
	program_arguments_free(resolved);
	free(path);
}

#define COMMAND(...) command(&self->error, line, (char *[]){__VA_ARGS__, NULL})

TEST_F(program_choice, env_is_not_executed_in_between)
{
	char line[1024];

	make_program("first/node", GLIBC, 0755);
	make_program("first/plain", GLIBC, 0755);
	make_script("second/tsc", "#!/usr/bin/env node\nrequire()\n");
	COMMAND("tsc", "-p", ".");
	EXPECT_STREQ(line, "first/node: node second/tsc -p .");
	make_script("second/many", "#!/usr/bin/env -S node --no-warnings  -x\n");
	COMMAND("many", "a b");
	EXPECT_STREQ(line, "first/node: node --no-warnings -x second/many a b");
	COMMAND("plain", "x");
	EXPECT_STREQ(line, "first/plain: plain x");
	make_script("second/shell", "#!./first/node -x\n");
	COMMAND("shell");
	EXPECT_STREQ(line, "second/shell: shell");
	make_script("second/absent", "#!/usr/bin/env no-such-interpreter\n");
	COMMAND("absent");
	EXPECT_STREQ(line, "");
	EXPECT_NE(strstr(self->error.text, "no-such-interpreter"), NULL);
}

static void expect_image(struct __test_metadata *_metadata, const char *image,
			 char *const *arguments)
{
	int count = 0;
	char *made;

	while (arguments[count])
		count++;
	made = program_default_image(count, arguments);
	EXPECT_STREQ(made, image);
	free(made);
}

#define EXPECT_IMAGE(image, ...) expect_image(_metadata, image, (char *[]){__VA_ARGS__, NULL})

TEST_F(program_choice, the_image_is_named_after_the_script)
{
	make_script("app.js", "");
	make_script("first/x.y.js", "");
	make_script("noextension", "");
	make_script(".profile", "");
	make_script("image.thaw", "");
	EXPECT_IMAGE("app.thaw", "node", "app.js");
	EXPECT_IMAGE("app.thaw", "/usr/bin/node", "--expose-gc", "4096", "app.js", "noextension");
	EXPECT_IMAGE("first/x.y.thaw", "node", "first/x.y.js");
	EXPECT_IMAGE("noextension.thaw", "lua", "noextension");
	EXPECT_IMAGE(".profile.thaw", "sh", ".profile");
	EXPECT_IMAGE("image.thaw.thaw", "wc", "image.thaw");
	EXPECT_IMAGE("node.thaw", "node", "first");	    /* a directory */
	EXPECT_IMAGE("node.thaw", "/opt/bin/node", "x.js"); /* no such file */
	EXPECT_IMAGE("python3.11.thaw", "python3.11");
}

/* A program that goes on needs its image only. */
TEST_F(program_choice, the_image_of_a_script_that_is_gone)
{
	make_script("app.thaw", "");
	EXPECT_IMAGE("app.thaw", "node", "app.js");
}

/* Those of this machine. */
TEST_F(program_choice, real_programs_are_accepted)
{
	char found[256];

	EXPECT_EQ(find(&self->error, "sh", found), 0)
	{
		TH_LOG("%s", self->error.text);
	}
	EXPECT_EQ(find(&self->error, "/usr/bin/env", found), 0);
}

TEST_HARNESS_MAIN
