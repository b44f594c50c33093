/* SPDX-License-Identifier: MIT */
/*
 * program.c - which program a command is, and whether it can be a guest.
 *
 * A guest is a dynamically linked program of this machine and of glibc's, started with the privileges of who starts
 * it: only such a one loads the stub. Everything else is refused here, before anything has run, with a line that
 * says why. Scripts are followed to the program that interprets them, as the kernel does it (fs/binfmt_script.c).
 *
 * The owner's thread; nothing of a guest is there yet.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/failure.h"
#include "process/identity/elf_file.h"
#include "process/process.h"

#define SCRIPT_LEVELS 5	       /* the kernel's most: a script's interpreter may be a script */
#define SCRIPT_LINE_BYTES 256u /* BINPRM_BUF_SIZE */

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#define LOADER "ld-linux-x86-64.so"
#else
#define MACHINE EM_AARCH64
#define LOADER "ld-linux-aarch64.so"
#endif

/* ---- Finding it */

/* 0: it can be executed, as execve(2) sees it; -errno. */
static int executable(const char *path)
{
	struct stat status;

	if (stat(path, &status))
		return -errno;
	if (!S_ISREG(status.st_mode))
		return -EACCES;
	return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) ? -errno : 0;
}

/* As execvp(3): what may not be executed is passed over, and told only if nothing else is found. */
static int search_path(const char *command, char **path)
{
	const char *directory = getenv("PATH");
	int code = -ENOENT;

	*path = NULL;
	for (directory = directory ? directory : "/bin:/usr/bin";; directory++) {
		size_t length = strcspn(directory, ":");
		int found;

		free(*path);
		if (asprintf(path, "%.*s%s%s", (int)length, directory, length ? "/" : "", command) <
		    0) {
			*path = NULL;
			return -ENOMEM;
		}
		found = executable(*path);
		if (!found)
			return 0;
		if (found == -EACCES)
			code = -EACCES;
		directory += length;
		if (!*directory)
			break;
	}
	free(*path);
	*path = NULL;
	return code;
}

static int find_file(const char *command, char **path, struct thaw_error *error)
{
	int code;

	*path = NULL;
	if (!*command)
		return failure(error, -ENOENT, "the command is empty: name a program to run");
	if (!strchr(command, '/')) {
		code = search_path(command, path);
	} else {
		code = executable(command);
		*path = code ? NULL : strdup(command);
		if (!code && !*path)
			code = -ENOMEM;
	}
	if (code == -ENOENT && !strchr(command, '/'))
		return failure(error, code, "%s: no such command in the directories of PATH",
			       command);
	if (code)
		return failure(error, code, "%s cannot be executed: %s", command, strerror(-code));
	return 0;
}

/* ---- Whether it can be a guest */

static int check_headers(const char *path, const struct elf_file *file, struct thaw_error *error)
{
	const char *loader = strrchr(file->interpreter, '/');

	loader = loader ? loader + 1 : file->interpreter;
	if (!file->wide || file->machine != MACHINE)
		return failure(error, PROCESS_EREFUSED,
			       "%s is a program of another kind of processor: install the one for "
			       "this machine",
			       path);
	if (!file->whole || (file->type != ET_EXEC && file->type != ET_DYN))
		return failure(error, PROCESS_EREFUSED,
			       "%s is no complete program: install it again", path);
	if (!*loader)
		return failure(error, PROCESS_EREFUSED,
			       "%s is statically linked, so nothing can be loaded into it that "
			       "saves it: use a build that is dynamically linked",
			       path);
	if (!strncmp(loader, "ld-musl", 7))
		return failure(error, PROCESS_EREFUSED,
			       "%s is linked with musl: only programs of glibc can be saved, use a "
			       "build for glibc",
			       path);
	if (strncmp(loader, LOADER, strlen(LOADER)))
		return failure(
			error, PROCESS_EREFUSED,
			"%s is loaded by %s: only programs of glibc (%s) can be saved, use a "
			"build for glibc",
			path, file->interpreter, LOADER);
	return 0;
}

/* The dynamic loader ignores LD_PRELOAD where a program gets privileges that its caller does not have (ld.so(8)). */
static int check_privileges(const char *path, int fd, struct thaw_error *error)
{
	struct statvfs filesystem;
	struct stat status;

	if (fstat(fd, &status))
		return failure(error, -errno, "%s: %s", path, strerror(errno));
	if (!fstatvfs(fd, &filesystem) && filesystem.f_flag & ST_NOSUID)
		return 0;
	if (status.st_mode & S_ISUID && status.st_uid != getuid())
		return failure(error, PROCESS_EREFUSED,
			       "%s is setuid: a program with other privileges than yours cannot be "
			       "saved; start it as its owner, or a copy without that bit",
			       path);
	if ((status.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) &&
	    status.st_gid != getgid())
		return failure(error, PROCESS_EREFUSED,
			       "%s is setgid: a program with other privileges than yours cannot be "
			       "saved; start it with its group, or a copy without that bit",
			       path);
	if (getuid() && fgetxattr(fd, "security.capability", NULL, 0) > 0)
		return failure(error, PROCESS_EREFUSED,
			       "%s has file capabilities: a program with other privileges than "
			       "yours cannot be saved; start a copy without them (setcap -r)",
			       path);
	return 0;
}

/* "#! /usr/bin/interpreter argument": both end in `line`; *argument may be NULL. False: it is no such line. */
static bool script_line(char *line, char **interpreter, char **argument)
{
	size_t end;

	if (line[0] != '#' || line[1] != '!')
		return false;
	line += 2;
	line[strcspn(line, "\n")] = 0;
	for (end = strlen(line); end && (line[end - 1] == ' ' || line[end - 1] == '\t'); end--)
		line[end - 1] = 0;
	*interpreter = line + strspn(line, " \t");
	*argument = *interpreter + strcspn(*interpreter, " \t");
	if (**argument) {
		*(*argument)++ = 0;
		*argument += strspn(*argument, " \t");
	}
	if (!**argument)
		*argument = NULL;
	return **interpreter;
}

/* What `path` is: a program that can be a guest, 0; a script, 1, with its line; or why neither. */
static int look(const char *path, char line[SCRIPT_LINE_BYTES + 1], struct thaw_error *error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY), code;
	struct elf_file file;
	ssize_t got;

	if (fd < 0)
		return failure(error, errno == EACCES ? PROCESS_EREFUSED : -errno,
			       "%s cannot be read (%s), so it cannot be saved: make it readable",
			       path, strerror(errno));
	got = pread(fd, line, SCRIPT_LINE_BYTES, 0);
	line[got < 0 ? 0 : got] = 0;
	code = elf_file_read(fd, &file);
	if (code)
		failure(error, code, "%s cannot be read: %s", path, strerror(-code));
	else if (file.elf)
		code = check_headers(path, &file, error);
	else if (line[0] == '#' && line[1] == '!')
		code = 1;
	else
		code = failure(error, PROCESS_EREFUSED,
			       "%s is neither a program nor a script with #! in its first line; if "
			       "it is a shell's: thaw exec sh %s",
			       path, path);
	if (!code)
		code = check_privileges(path, fd, error);
	close(fd);
	return code;
}

int program_find(const char *command, char **path, struct thaw_error *error)
{
	char line[SCRIPT_LINE_BYTES + 1], *at, *next;
	int code = find_file(command, path, error);

	if (code)
		return code;
	at = strdup(*path);
	for (int level = 0; at; level++) {
		char *interpreter, *argument;

		code = look(at, line, error);
		if (code <= 0)
			break;
		code = PROCESS_EREFUSED;
		if (!script_line(line, &interpreter, &argument) || level == SCRIPT_LEVELS) {
			failure(error, code, "%s: its first line (#!) names no program", at);
			break;
		}
		if (executable(interpreter)) {
			code = executable(interpreter);
			failure(error, code, "%s: its interpreter %s cannot be executed: %s", at,
				interpreter, strerror(-code));
			break;
		}
		next = strdup(interpreter);
		free(at);
		at = next;
	}
	if (!at)
		code = failure(error, -ENOMEM, "%s: no memory", command);
	free(at);
	if (code) {
		free(*path);
		*path = NULL;
	}
	return code;
}

/* ---- Scripts of env(1) */

void program_arguments_free(char **resolved)
{
	for (char **at = resolved; at && *at; at++)
		free(*at);
	free(resolved);
}

/* Is it a script whose interpreter is env with nothing but a program for it (-S with more)? Its words, in `line`. */
static unsigned env_words(const char *path, char line[SCRIPT_LINE_BYTES + 1], char *words[],
			  unsigned most)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	ssize_t got = fd < 0 ? -1 : pread(fd, line, SCRIPT_LINE_BYTES, 0);
	char *interpreter, *argument, *rest;
	unsigned count = 0;

	if (fd >= 0)
		close(fd);
	line[got < 0 ? 0 : got] = 0;
	if (!script_line(line, &interpreter, &argument) || !argument ||
	    strcmp(basename(interpreter), "env") != 0)
		return 0;
	if (strncmp(argument, "-S", 2) != 0) {
		words[0] = argument;
		return argument[0] != '-' && !strpbrk(argument, "= \t");
	}
	/* What is quoted, set or substituted stays env's business. */
	if (strpbrk(argument + 2, "'\"\\$=#"))
		return 0;
	for (char *word = strtok_r(argument + 2, " \t", &rest); word && count < most;
	     word = strtok_r(NULL, " \t", &rest))
		words[count++] = word;
	return count && words[0][0] != '-' ? count : 0;
}

/* [words..., script, arguments[1], ...] */
static char **join(char *const *words, unsigned count, const char *script, char *const *arguments)
{
	size_t given = 0, at = 0;
	char **resolved;
	bool failed = false;

	while (arguments[given])
		given++;
	resolved = calloc(count + given + 2, sizeof(*resolved));
	if (!resolved)
		return NULL;
	for (unsigned i = 0; i < count; i++)
		failed |= !(resolved[at++] = strdup(words[i]));
	if (script)
		failed |= !(resolved[at++] = strdup(script));
	for (size_t i = script ? 1 : 0; i < given; i++)
		failed |= !(resolved[at++] = strdup(arguments[i]));
	if (!failed)
		return resolved;
	for (size_t i = 0; i < at; i++)
		free(resolved[i]);
	free(resolved);
	return NULL;
}

int program_command(char *const *arguments, char **path, char ***resolved, struct thaw_error *error)
{
	char line[SCRIPT_LINE_BYTES + 1], *words[32];
	int code;

	*path = NULL;
	*resolved = join(NULL, 0, NULL, arguments);
	if (!*resolved)
		return failure(error, -ENOMEM, "%s: no memory", arguments[0]);
	for (int level = 0; level < SCRIPT_LEVELS; level++) {
		unsigned count;
		char **next;

		free(*path);
		code = program_find((*resolved)[0], path, error);
		if (code)
			break;
		count = env_words(*path, line, words, sizeof(words) / sizeof(*words));
		if (!count)
			return 0;
		next = join(words, count, *path, *resolved);
		program_arguments_free(*resolved);
		*resolved = next;
		code = -ENOMEM;
		if (!next)
			break;
	}
	if (code == -ENOMEM || !code)
		code = failure(error, -ENOMEM, "%s: no memory", arguments[0]);
	program_arguments_free(*resolved);
	*resolved = NULL;
	free(*path);
	*path = NULL;
	return code;
}

/* ---- Its image */

/* app.js -> app.thaw, as thaw run does it; malloc'ed. An image is not its own program's. */
static char *beside(const char *file)
{
	const char *slash = strrchr(file, '/'), *dot = strrchr(file, '.');
	size_t length = strlen(file);
	char *image;

	if (dot && dot > (slash ? slash + 1 : file) && strcmp(dot, ".thaw") != 0)
		length = (size_t)(dot - file);
	return asprintf(&image, "%.*s.thaw", (int)length, file) < 0 ? NULL : image;
}

static bool is_file(const char *path)
{
	struct stat status;

	return !stat(path, &status) && S_ISREG(status.st_mode);
}

char *program_default_image(int argument_count, char *const *arguments)
{
	const char *name;
	char *image;

	for (int i = 1; i < argument_count; i++) {
		if (!arguments[i][0] || arguments[i][0] == '-')
			continue;
		image = beside(arguments[i]);
		if (!image || is_file(arguments[i]) || is_file(image))
			return image;
		free(image);
	}
	name = argument_count ? strrchr(arguments[0], '/') : NULL;
	name = name ? name + 1 : argument_count ? arguments[0] : "";
	return asprintf(&image, "%s.thaw", *name ? name : "exec") < 0 ? NULL : image;
}
