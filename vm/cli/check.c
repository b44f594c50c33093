/* SPDX-License-Identifier: MIT */
/*
 * check.c - thaw check: what this kernel and these privileges allow, what is used of it, and what it
 * costs to do without the rest. Last it does what thaw run does, in a process of its own: what forbids that,
 * a limit of the process say, is found by trying, not by knowing all of it. One thread.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"
#include "base/process_limits.h"
#include "check_advice.h"
#include "check_engines.h"
#include "check_exec.h"
#include "store.h"

#define SPACE_MARGIN (512u << 20)
#define DATA_MARGIN (64u << 20)

struct findings {
	const struct thaw_capability *capabilities;
	const struct thaw_backend *backends;
	unsigned capability_count, backend_count;
	struct thaw_error error; /* why nothing can be opened; code 0: it can */
	struct advice advice;
};

static void print_json(const struct findings *found)
{
	struct json json = {.to = stdout};

	json_open(&json, NULL, '{');
	json_bool(&json, "ok", !found->error.code);
	json_open(&json, "capabilities", '[');
	for (unsigned i = 0; i < found->capability_count; i++) {
		const struct thaw_capability *capability = &found->capabilities[i];

		json_open(&json, NULL, '{');
		json_text(&json, "name", capability->name);
		json_bool(&json, "present", capability->present);
		json_text(&json, "since", capability->since);
		json_text(&json, "detail", capability->detail);
		json_close(&json, '}');
	}
	json_close(&json, ']');
	json_open(&json, "backends", '[');
	for (unsigned i = 0; i < found->backend_count; i++) {
		const struct thaw_backend *backend = &found->backends[i];

		json_open(&json, NULL, '{');
		json_text(&json, "kind", backend->kind);
		json_text(&json, "name", backend->name);
		json_bool(&json, "present", backend->present);
		json_bool(&json, "used", backend->used);
		json_text(&json, "cost", backend->cost);
		json_close(&json, '}');
	}
	json_close(&json, ']');
	engines_json(&json);
	advice_json(&found->advice, &json);
	if (found->error.code)
		json_text(&json, "error", found->error.text);
	json_close(&json, '}');
	putchar('\n');
}

static void print_capabilities(const struct findings *found)
{
	struct table table;

	table_init(&table, "llrl");
	table_cell(&table, "capability");
	table_cell(&table, "here");
	table_cell(&table, "since");
	table_cell(&table, "why not");
	for (unsigned i = 0; i < found->capability_count; i++) {
		table_cell(&table, found->capabilities[i].name);
		table_cell(&table, found->capabilities[i].present ? "yes" : "no");
		table_cell(&table, found->capabilities[i].since);
		table_cell(&table, found->capabilities[i].detail);
	}
	table_print(&table, stdout);
}

/* What is used stands out; what is better and not here is seen above it. */
static void print_backends(const struct findings *found)
{
	struct table table;

	table_init(&table, "lllll");
	table_cell(&table, "kind");
	table_cell(&table, "backend");
	table_cell(&table, "here");
	table_cell(&table, "used");
	table_cell(&table, "what it costs");
	for (unsigned i = 0; i < found->backend_count; i++) {
		const struct thaw_backend *backend = &found->backends[i];
		bool first = !i || strcmp(backend->kind, backend[-1].kind);

		table_cell(&table, first ? backend->kind : "");
		table_cell(&table, backend->name);
		table_cell(&table, backend->present ? "yes" : "no");
		table_cell(&table, backend->used ? "used" : "");
		table_cell(&table, backend->cost);
	}
	putchar('\n');
	table_print(&table, stdout);
}

/* ---- Trying ---- */

static int make_generation(struct runtime *runtime, struct thaw_error *error)
{
	struct thaw_result result = {0};
	int code = runtime_checkpoint(runtime, THAW_REASON_EXIT, &result);

	*error = result.error;
	if (code && !error->text[0])
		snprintf(error->text, sizeof(error->text), "cannot make a generation: %s",
			 thaw_strerror(code));
	/* While the threads of both are there. */
	if (!code) {
		code = limits_want_pool();
		snprintf(error->text, sizeof(error->text),
			 "cannot start the threads that read and write files: %s",
			 thaw_strerror(code));
	}
	limits_explain(error, code);
	return code;
}

/*
 * What a start takes differs a little from one to the next: threads of the C library reserve 64 MiB each
 * where they come to allocate. So that what went well here goes well later, it has to with less.
 */
static int take_margin(struct thaw_error *error)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

	if (mmap(NULL, SPACE_MARGIN, PROT_NONE, flags, -1, 0) != MAP_FAILED &&
	    mmap(NULL, DATA_MARGIN, PROT_READ | PROT_WRITE, flags, -1, 0) != MAP_FAILED)
		return 0;
	snprintf(error->text, sizeof(error->text), "cannot reserve address space: %s",
		 thaw_strerror(-errno));
	limits_explain(error, -ENOMEM);
	return -ENOMEM;
}

/* A program that begins, becomes durable, and is continued. Returns an exit code, and has said why. */
static int start_twice(const char *image)
{
	struct runtime_options options = {.image = image, .quiet = true};
	struct runtime *runtime;
	struct thaw_error error;
	int code = take_margin(&error);

	if (!code && image) /* a thread and descriptors */
		code = control_open(&(struct control_options){.quiet = true}, &options.control,
				    &error);
	for (int start = 0; start < (image ? 2 : 1) && !code; start++) {
		code = runtime_open(&options, &runtime, &error);
		if (code)
			break;
		if (image)
			code = make_generation(runtime, &error);
		runtime_close(runtime);
	}
	control_close(options.control, code);
	if (!code)
		return 0;
	fputs(error.text, stderr);
	return code == -EAGAIN ? EXIT_NO_KERNEL : runtime_exit_code(code);
}

/* The last line that the process said, or what became of it. Returns an exit code. */
static int outcome_of(pid_t pid, int from, struct thaw_error *error)
{
	char *last;
	size_t length = 0;
	ssize_t got;
	int status = 0;

	while (length < sizeof(error->text) - 1) {
		got = read(from, error->text + length, sizeof(error->text) - 1 - length);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		length += (size_t)got;
	}
	error->text[length] = '\0';
	last = strrchr(error->text, '\n');
	if (last)
		memmove(error->text, last + 1, strlen(last + 1) + 1);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status)) {
		snprintf(error->text, sizeof(error->text), "a program is ended by signal %d (%s)",
			 WTERMSIG(status), strsignal(WTERMSIG(status)));
		return EXIT_NO_KERNEL;
	}
	return WEXITSTATUS(status);
}

/* It has as many descriptors as thaw run. */
static int try_start(const char *image, struct thaw_error *error)
{
	int line[2], code;
	pid_t pid;

	if (pipe(line))
		pid = -1;
	else
		pid = fork();
	if (pid < 0) {
		code = -errno;
		snprintf(error->text, sizeof(error->text), "cannot start a process: %s",
			 strerror(-code));
		limits_explain(error, code);
		return EXIT_NO_KERNEL;
	}
	if (!pid) {
		dup2(line[1], STDERR_FILENO);
		close(line[0]);
		close(line[1]);
		code = start_twice(image);
		_exit(code);
	}
	close(line[1]);
	code = outcome_of(pid, line[0], error);
	close(line[0]);
	return code;
}

static void remove_directory(const char *path)
{
	DIR *directory = opendir(path);

	for (struct dirent *entry; directory && (entry = readdir(directory));)
		unlinkat(dirfd(directory), entry->d_name, 0);
	if (directory)
		closedir(directory);
	rmdir(path);
}

/* Would thaw run succeed? Where no directory can be made, without an image. Returns an exit code. */
static int try_all(struct findings *found)
{
	const char *parent = getenv("TMPDIR");
	char directory[PATH_MAX - 32], image[PATH_MAX];
	bool made;
	int code;

	snprintf(directory, sizeof(directory), "%s/thaw-check-XXXXXX",
		 parent && *parent ? parent : "/tmp");
	made = mkdtemp(directory);
	snprintf(image, sizeof(image), "%s/check.thaw", directory);
	fflush(stdout); /* or the process would print it as well */
	code = try_start(made ? image : NULL, &found->error);
	if (made)
		remove_directory(directory);
	found->error.code = code;
	return code;
}

static int check(const struct cli_options *options, int operand_count, char **operands)
{
	struct findings found = {0};
	int code;

	if (operand_count && cli_is_place(operands[0]))
		return store_check(options, operands[0]);
	if (operand_count && strcmp(operands[0], "exec") != 0)
		return cli_fail(
			EXIT_USAGE,
			"'%s' cannot be checked: thaw check, thaw check exec, or thaw check s3://BUCKET/PREFIX",
			operands[0]);
	if (operand_count)
		return check_exec(options);
	code = thaw_capabilities(&found.capabilities);
	if (code < 0)
		return cli_fail(runtime_exit_code(code), "cannot probe the kernel: %s",
				thaw_strerror(code));
	found.capability_count = (unsigned)code;
	code = thaw_backends(&found.backends, &found.backend_count, &found.error);
	if (code)
		limits_explain(&found.error, code);
	code = code ? runtime_exit_code(code) : try_all(&found);
	advise_run(&found.advice);
	if (options->json) {
		print_json(&found);
	} else {
		print_capabilities(&found);
		print_backends(&found);
		engines_print();
		advice_print(&found.advice);
	}
	if (code)
		return cli_fail(code, "not ok: %s", found.error.text);
	if (!options->json)
		puts("\nok: thaw runs here");
	return 0;
}

static const struct cli_option check_options[] = {
	CLI_STORE_TIMEOUT("how long an object store is waited for (default 30s)"),
	CLI_JSON,
	CLI_HELP,
	{0},
};

const struct cli_command command_check = {
	.name = "check",
	.synopsis = "[options] [exec|PLACE]",
	.summary = "what this kernel and these privileges allow",
	.description =
		"Tries each thing Thaw can use of the kernel. None is needed: below it stands, best first, what is\n"
		"used where one is missing, and what that costs. THAW_DELIVERY, THAW_TRACKER, THAW_BACKING and\n"
		"THAW_READER force one; THAW_WITHOUT=wp-async,io_uring does as if these were not here.\n"
		"Then the engines of JavaScript that there are: images of one that is neither built in nor an object that can\n"
		"be used are not gone on with.\n"
		"Last it starts a program and continues it, over an image in TMPDIR, with the limits that this process has, and\n"
		"says what would make it better here: a package, a setting, a privilege, a newer kernel.\n"
		"thaw check exec tells the same of programs that thaw exec runs: one line for each thing. thaw check s3://BUCKET/PREFIX\n"
		"tells whether images can be in that object store: it stores, reads and deletes an object there.\n"
		"Exit code 0 if that went well; what thaw run would end with if not: 69 if a limit is too low, or what is\n"
		"forced is not here, 9 if it is no such thing.",
	.examples = "  thaw check\n"
		    "  thaw check exec\n"
		    "  thaw check s3://images/app\n"
		    "  THAW_DELIVERY=sigsegv thaw check\n"
		    "  thaw check --json | jq '.backends[] | select(.used) | .name'\n",
	.options = check_options,
	.operands_max = 1,
	.takes_places = true,
	.run = check,
};
