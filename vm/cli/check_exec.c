/* SPDX-License-Identifier: MIT */
/*
 * check_exec.c - thaw check exec: what this kernel and these privileges allow for programs that are run with thaw exec,
 * and what is done instead where something is missing. Each thing is tried, most of it on a guest that is
 * started for that and never gets as far as its main(). One thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/failure.h"
#include "check_advice.h"
#include "check_exec.h"
#include "policy/key.h"
#include "process/process.h"
#include "thaw_process.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

#define FEATURE_EVENT_FORK 2u /* UFFD_FEATURE_EVENT_FORK */
#define CAPABILITY_SYS_ADMIN 21
#define CAPABILITY_CHECKPOINT_RESTORE 40

struct finding {
	const char *name;
	bool best; /* nothing is missing */
	char text[240];
};

struct findings {
	struct finding list[10];
	unsigned count;
	struct thaw_error error; /* why nothing can be run; code 0: it can */
	struct advice advice;
};

__attribute__((format(printf, 4, 5))) static void find(struct findings *found, const char *name,
						       bool best, const char *format, ...)
{
	struct finding *finding = &found->list[found->count++];
	va_list arguments;

	finding->name = name;
	finding->best = best;
	va_start(arguments, format);
	vsnprintf(finding->text, sizeof(finding->text), format, arguments);
	va_end(arguments);
}

long long check_number(const char *path, const char *field, int base)
{
	char text[4096], *at = text;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	if (got <= 0)
		return -1;
	text[got] = 0;
	if (field)
		at = strstr(text, field);
	return at ? strtoll(at + (field ? strlen(field) : 0), NULL, base) : -1;
}

/* ---- What is tried */

static void find_backends(struct findings *found, struct thaw *heap)
{
	struct thaw_status status;
	const char *why;
	int flags;
	uint64_t features;
	bool lazy, forks, tracked;

	thaw_status(heap, &status);
	why = status.delivery_why ? status.delivery_why : "";
	tracked = thaw_process_userfaultfd(heap, &flags, &features);
	forks = tracked && features & FEATURE_EVENT_FORK;
	lazy = forks || (tracked && thaw_process_must_not_fork(heap));
	find(found, "delivery", lazy, "%s%s",
	     forks  ? "a restored program runs at once, and its pages arrive when they are touched"
	     : lazy ? "a restored program runs at once, and who forks waits until all pages are "
		      "there: "
		    : "a restored program runs after all of its pages were read: ",
	     forks ? "" : why);
	find(found, "tracking", tracked, "%s%s",
	     tracked ? "a generation costs what was written since the one before"
		     : "all memory that is there is compared for each generation: ",
	     tracked ? "" : why);
}

/* The library chooses as it does for a program; the heap has an image in TMPDIR, and no program. */
static int find_memory(struct findings *found)
{
	const char *parent = getenv("TMPDIR");
	char directory[PATH_MAX - 32], image[PATH_MAX];
	const struct thaw_options options = {
		.image = image, .flags = THAW_PROCESS | THAW_CREATE, .engine = "check"};
	struct thaw *heap;
	int code;

	snprintf(directory, sizeof(directory), "%s/thaw-check-XXXXXX",
		 parent && *parent ? parent : "/tmp");
	if (!mkdtemp(directory))
		return failure(&found->error, -errno, "%s: %s; TMPDIR names another directory",
			       directory, strerror(errno));
	snprintf(image, sizeof(image), "%s/check.thaw", directory);
	code = thaw_open(&options, &heap, &found->error);
	if (!code) {
		find_backends(found, heap);
		thaw_close(heap);
	}
	unlink(image);
	rmdir(directory);
	return code;
}

/* 0; or why a child's clocks cannot be set, as -errno. */
static int try_clocks(void)
{
	int status = 0, fd, code;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (!pid) {
		static const char offsets[] = "monotonic 1 0\n";

		if (unshare(CLONE_NEWTIME))
			_exit(errno);
		fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
		code = fd < 0 || write(fd, offsets, sizeof(offsets) - 1) < 0 ? errno : 0;
		_exit(code);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EPERM;
}

static void find_clocks(struct findings *found)
{
	int code = try_clocks();

	if (!code)
		find(found, "clocks", true,
		     "after a reboot the monotonic clock goes on where it was");
	else
		find(found, "clocks", false,
		     "after a reboot a program goes on once the machine has been up for as long as it "
		     "was then: no time namespace (%s)",
		     code == -EINVAL ? "Linux 5.6 has them" : strerror(-code));
}

/* The guest is parked. What it is in is asked for while it is, as for one that runs. */
static void find_stop(struct findings *found, const struct process *process)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/syscall", (int)process->remote.pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
	find(found, "stop", fd >= 0, "%s",
	     fd >= 0 ? "system calls that a stop interrupts are made again"
		     : "system calls that a stop interrupts are made again where their number is in the "
		       "program's text: /proc/PID/syscall may not be read");
}

static void find_yama(struct findings *found, const struct process *process)
{
	long long scope = check_number("/proc/sys/kernel/yama/ptrace_scope", NULL, 10);
	bool memory = process->remote.memory >= 0;
	char yama[64];

	snprintf(yama, sizeof(yama), scope < 0 ? "no yama" : "yama's ptrace_scope is %lld", scope);
	find(found, "memory", memory, "%s (%s)",
	     memory ? "a program's memory is read and written from outside"
		    : "a program's memory is read and written by its own calls, which takes longer",
	     yama);
}

static void find_seccomp(struct findings *found)
{
	long long mode = check_number("/proc/self/status", "Seccomp:", 10);

	find(found, "seccomp", mode <= 0, "%s",
	     mode <= 0
		     ? "no filter of system calls is in force"
		     : "a filter of system calls is in force, as in a container: what it forbids is "
		       "missing above");
}

static void find_pid(struct findings *found)
{
	long long effective = check_number("/proc/self/status", "CapEff:", 16);
	bool may = effective > 0 && (effective >> CAPABILITY_SYS_ADMIN & 1 ||
				     effective >> CAPABILITY_CHECKPOINT_RESTORE & 1);

	find(found, "process id", may, "%s",
	     may ? "a restored program has its old process id, if nobody else has it"
		 : "a restored program has a new process id: the old one takes CAP_CHECKPOINT_RESTORE");
}

/* Without a key that can be used no image is made, nor gone on from. */
static int find_key(struct findings *found)
{
	struct key *key = key_new();
	struct thaw_error why = {0};
	int code = key ? key_load(false, key, &why) : -ENOMEM;

	key_free(key);
	if (code && code != -ENOKEY) {
		find(found, "key", false, "images cannot be authenticated: %.180s",
		     why.code ? why.text : strerror(-code));
		return failure(&found->error, code == -ENOMEM ? code : THAW_EKEY, "%s",
			       why.code ? why.text : strerror(-code));
	}
	find(found, "key", true, "%s",
	     code ? "images are authenticated to the last byte, with a key that is made then"
		  : "images are authenticated to the last byte, with your key");
	return 0;
}

/* This program itself, with the stub in it: it is ended before its main() begins. */
static int find_guest(struct findings *found)
{
	char *const arguments[] = {"/proc/self/exe", "--version", NULL};
	struct process process = {.quiet = true};
	int code = process_spawn(&process, arguments, environ, &found->error);

	if (!code) {
		find_stop(found, &process);
		find_yama(found, &process);
	}
	process_close(&process);
	return code;
}

/* What a privilege or a setting would bring of what was found missing. */
static void advise_privileges(struct findings *found)
{
	static const struct {
		const char *finding, *gains, *todo;
	} privileges[] = {
		{"process id", "a restored program has its old process id",
		 "give CAP_CHECKPOINT_RESTORE (systemd: AmbientCapabilities=; docker: --cap-add)"},
		{"clocks", "a program goes on at once after a reboot",
		 "give CAP_SYS_ADMIN and CAP_SYS_TIME, for a time namespace"},
		{"stop", "system calls that a stop interrupts are made again",
		 "mount /proc without hidepid= and allow /proc/PID/syscall"},
		{"memory", "a program's memory is reached from outside, which is faster",
		 "as root: sysctl kernel.yama.ptrace_scope=1"},
		{"seccomp", "nothing is missing because of the container's filter",
		 "docker run --security-opt seccomp=PROFILE that allows what is missing"},
		{"key", "images can be authenticated",
		 "set HOME, or THAW_KEY to a file of 64 hexadecimal digits that only you can read"},
	};

	for (unsigned i = 0; i < found->count; i++)
		for (size_t p = 0; p < sizeof(privileges) / sizeof(privileges[0]); p++)
			if (!found->list[i].best &&
			    !strcmp(found->list[i].name, privileges[p].finding))
				advice_add(&found->advice, privileges[p].finding,
					   privileges[p].gains, privileges[p].todo);
}

/* ---- What is said */

static void print_json(const struct findings *found)
{
	struct json json = {.to = stdout};

	json_open(&json, NULL, '{');
	json_bool(&json, "ok", !found->error.code);
	json_open(&json, "exec", '[');
	for (unsigned i = 0; i < found->count; i++) {
		json_open(&json, NULL, '{');
		json_text(&json, "name", found->list[i].name);
		json_bool(&json, "best", found->list[i].best);
		json_text(&json, "detail", found->list[i].text);
		json_close(&json, '}');
	}
	json_close(&json, ']');
	advice_json(&found->advice, &json);
	if (found->error.code)
		json_text(&json, "error", found->error.text);
	json_close(&json, '}');
	putchar('\n');
}

static void print_lines(const struct findings *found)
{
	struct table table;

	table_init(&table, "lll");
	table_cell(&table, "for thaw exec");
	table_cell(&table, "here");
	table_cell(&table, "so");
	for (unsigned i = 0; i < found->count; i++) {
		table_cell(&table, found->list[i].name);
		table_cell(&table, found->list[i].best ? "yes" : "no");
		table_cell(&table, found->list[i].text);
	}
	table_print(&table, stdout);
}

int check_exec(const struct cli_options *options)
{
	struct findings found = {0};
	int code = find_memory(&found);

	if (!code)
		code = find_guest(&found);
	if (!code)
		code = find_key(&found);
	find_clocks(&found);
	find_pid(&found);
	find_seccomp(&found);
	advise_exec(&found.advice);
	advise_privileges(&found);
	found.error.code = code;
	if (options->json)
		print_json(&found);
	else {
		print_lines(&found);
		advice_print(&found.advice);
	}
	if (code)
		return cli_fail(runtime_exit_code(code), "not ok: %s", found.error.text);
	if (!options->json)
		puts("\nok: thaw exec runs programs here");
	return 0;
}
