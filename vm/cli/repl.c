/* SPDX-License-Identifier: MIT */
/*
 * repl.c - thaw repl: a shell whose variables survive. Read a statement, evaluate it, print, make
 * it durable, again. The durable part comes before the next prompt: whatever the shell has
 * answered, a kill does not take back.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl.h"
#include "repl.h"

/* ---- Where its files are ---- */

static bool directories_make(const char *path)
{
	char part[PATH_MAX];

	snprintf(part, sizeof(part), "%s", path);
	for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(part, 0700) && errno != EEXIST)
			return false;
		*slash = '/';
	}
	return !mkdir(part, 0700) || errno == EEXIST;
}

/*
 * $XDG_STATE_HOME/thaw or ~/.local/state/thaw (XDG Base Directory Specification 0.8). False: there is none,
 * for the reason in errno; without a path, nothing says where.
 */
static bool state_directory(char *path, size_t room)
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	int length;

	if (state && state[0] == '/')
		length = snprintf(path, room, "%s/thaw", state);
	else if (home && home[0] == '/')
		length = snprintf(path, room, "%s/.local/state/thaw", home);
	else
		return false;
	errno = ENAMETOOLONG;
	return length < (int)room && directories_make(path);
}

static int fail_place(const char *path, int error)
{
	if (*path)
		return cli_fail(EXIT_IO,
				"no place for the default image: cannot make %s: %s (set HOME or "
				"XDG_STATE_HOME, or name an image)",
				path, strerror(error));
	return cli_fail(
		EXIT_IO,
		"no place for the default image (set HOME or XDG_STATE_HOME, or name an image)");
}

/* ---- What it says ---- */

static void banner(struct repl *repl)
{
	const struct thaw_generation *opened = thaw_opened(runtime_heap(repl->runtime));

	printf("thaw %s: ", THAW_VERSION);
	if (opened->number)
		printf("generation %s, %s old, %s heap", format_count(opened->number).s,
		       format_age(opened->time_ns).s, format_bytes(opened->heap_bytes).s);
	else
		printf("a new heap");
	printf(" (%s)\nEvery answered line survives kill -9. .help says what else there is.\n",
	       repl->image);
}

/* ---- Evaluating ---- */

static bool compiles(struct repl *repl, struct repl_text code, char **complaint)
{
	char *text = runtime_complaint(repl->runtime, code.data, code.bytes);
	bool compiles = !text;

	if (complaint)
		*complaint = text;
	else
		free(text);
	return compiles;
}

/*
 * Does the engine's complaint point behind the last thing in the code? Its trace says
 * "(repl:LINE:COLUMN)" or "at repl:LINE:COLUMN".
 */
static bool complains_about_end(const char *complaint, struct repl_text code)
{
	const char *place = strstr(complaint, "repl:"), *at = code.data;
	const char *end = code.data + code.bytes;
	unsigned line, column;

	if (strncmp(complaint, "SyntaxError", 11) || !place ||
	    sscanf(place + 5, "%u:%u", &line, &column) != 2)
		return false;
	while (--line > 0 && at) {
		at = memchr(at, '\n', (size_t)(end - at));
		at = at ? at + 1 : NULL;
	}
	if (!at || column < 1)
		return !at;
	if (column - 1 >= (size_t)(end - at))
		return true;
	at += column - 1;
	return repl_blank(at, (size_t)(end - at));
}

bool repl_needs_more(struct repl *repl, struct repl_scan *scan, struct repl_text line,
		     struct repl_text code)
{
	char *complaint = NULL;
	bool more = repl_scan_more(scan, line.data, line.bytes);

	if (!more && !compiles(repl, code, &complaint) && complaint)
		more = complains_about_end(complaint, code);
	free(complaint);
	return more;
}

/*
 * {a: 1} is a block to the language and an object to whoever types it. Malloc'ed code; none if there
 * is no need or no memory.
 */
static struct repl_text as_expression(struct repl *repl, struct repl_text code)
{
	const char *start = code.data + strspn(code.data, " \t\r\n");
	struct repl_text wrapped = {.bytes = code.bytes + 3};

	if (*start != '{' || code.data[code.bytes - 1] == ';')
		return (struct repl_text){0};
	wrapped.data = malloc(wrapped.bytes + 1);
	if (!wrapped.data)
		return wrapped;
	wrapped.data[0] = '(';
	memcpy(wrapped.data + 1, code.data, code.bytes);
	memcpy(wrapped.data + 1 + code.bytes, "\n)", 3);
	if (!compiles(repl, wrapped, NULL)) {
		free(wrapped.data);
		wrapped.data = NULL;
	}
	return wrapped;
}

/*
 * Nothing is said when all goes well; what is not durable is said of each answer. Where nothing has
 * run since, nothing is done.
 */
static void make_durable(struct repl *repl, enum thaw_reason reason)
{
	struct thaw_result result = {0};
	struct runtime_stats stats;
	int code;

	runtime_stats(repl->runtime, &stats);
	if (stats.turns == repl->saved_turns && !repl->unsaved)
		return;
	code = runtime_checkpoint(repl->runtime, reason, &result);
	if (!code)
		repl->saved_turns = stats.turns;
	if (code && reason != THAW_REASON_EXIT)
		cli_fail(0, "not durable: %s",
			 result.error.text[0] ? result.error.text : thaw_strerror(code));
	repl->unsaved = code != 0;
}

/* For .save; what is too much for one file of that kind is left out. */
static void remember(struct repl *repl, struct repl_text code)
{
	repl_append(&repl->session, code);
}

static bool is_undefined(const struct repl *repl, const char *answer)
{
	return !strcmp(answer, repl->colours ? "\033[90mundefined\033[39m" : "undefined");
}

bool repl_evaluate(struct repl *repl, struct repl_text code, bool shows)
{
	struct repl_text wrapped = as_expression(repl, code), typed = code;
	struct runtime_answer answer;
	int result;

	if (wrapped.data)
		code = wrapped;
	result = runtime_eval(repl->runtime, code.data, code.bytes, "repl", &answer);
	free(wrapped.data);
	/* No text: the program ended while it ran. */
	if (!answer.text || (result && result != EXIT_EXCEPTION)) {
		repl->leave = repl->told = true;
		repl->code = result;
	} else {
		/*
		 * Ken's rule: what the person saw is never lost, so the answer waits until it is
		 * durable.
		 */
		make_durable(repl, THAW_REASON_REQUEST);
	}
	repl->failed |= result == EXIT_EXCEPTION;
	if (!result && answer.text)
		remember(repl, typed);
	cli_tell_answer(&answer, result,
			answer.text && shows &&
				(repl->terminal || !is_undefined(repl, answer.text)));
	free(answer.text);
	return !result && !repl->leave;
}

/* ---- The loop ---- */

bool repl_append(struct repl_text *code, struct repl_text line)
{
	char *longer;

	if (code->bytes + line.bytes > GUEST_SOURCE_MAX_BYTES) {
		errno = EFBIG;
		return false;
	}
	longer = realloc(code->data, code->bytes + line.bytes + 2);
	if (!longer)
		return false;
	if (code->data)
		longer[code->bytes++] = '\n';
	memcpy(longer + code->bytes, line.data, line.bytes + 1);
	code->data = longer;
	code->bytes += line.bytes;
	return true;
}

static void fail_reading(struct repl *repl)
{
	if (errno == EFBIG)
		repl->code = cli_fail(
			EXIT_EXCEPTION,
			"a statement of standard input is longer than %llu MiB, the most that is evaluated at once",
			GUEST_SOURCE_MAX_BYTES >> 20);
	else
		repl->code = cli_fail(errno == ENOMEM ? EXIT_IO : EXIT_NO_INPUT,
				      "standard input cannot be read: %s", strerror(errno));
	repl->told = true;
}

/* No line. False: there is nothing to evaluate either. */
static bool no_line(struct repl *repl, enum repl_event event, struct repl_text code)
{
	bool refused = event == REPL_FAILED && (errno == EFBIG || errno == ENOMEM);

	/* At a terminal, something shorter can be typed. */
	repl->leave = event != REPL_INTERRUPTED && !(refused && repl->terminal);
	if (event == REPL_ENDED) {
		repl->code = runtime_run(repl->runtime);
		repl->told = true;
	} else if (event == REPL_FAILED) {
		fail_reading(repl);
	} else if (event == REPL_END) {
		if (repl->terminal)
			putchar('\n');
		/* The pipe ended in the middle: let the engine say what is missing. */
		return code.data != NULL;
	}
	return false;
}

static bool is_finished(struct repl *repl, struct repl_scan *scan, struct repl_text line,
			struct repl_text code)
{
	return code.data[strspn(code.data, " \t")] == '.' || repl_blank(code.data, code.bytes) ||
	       !repl_needs_more(repl, scan, line, code);
}

/* Collect lines until they make a statement. False: nothing to evaluate this time; see leave. */
static bool statement_read(struct repl *repl, struct repl_text *statement)
{
	struct repl_text code = {0}, line = {0};
	struct repl_scan scan = {0};
	bool ready = false;

	while (!ready) {
		enum repl_event event =
			repl_input_line(repl->input, code.data ? "... " : "> ", &line);

		if (event == REPL_LINE) {
			repl_input_remember(repl->input, line.data);
			if (!repl_append(&code, line))
				event = REPL_FAILED;
		}
		if (event != REPL_LINE) {
			ready = no_line(repl, event, code);
			break;
		}
		ready = is_finished(repl, &scan, line, code);
		free(line.data);
		line.data = NULL;
	}
	free(line.data);
	repl_scan_end(&scan);
	*statement = code;
	if (!ready)
		free(code.data);
	return ready;
}

static bool is_command(const char *statement)
{
	const char *start = statement + strspn(statement, " \t");

	return start[0] == '.' && start[1] >= 'a' && start[1] <= 'z';
}

static int session(struct repl *repl)
{
	struct repl_text statement;

	if (repl->terminal && !repl->options->quiet)
		banner(repl);
	while (!repl->leave && !runtime_trapped(repl->runtime)) {
		if (!statement_read(repl, &statement))
			continue;
		if (is_command(statement.data))
			repl_command_do(repl, statement.data);
		else if (!repl_blank(statement.data, statement.bytes))
			repl_evaluate(repl, statement, true);
		free(statement.data);
	}
	return repl->code;
}

/*
 * Nobody watches a pipe: its exit code has to say that a line failed, or that what was answered is not
 * durable.
 */
static int ending(const struct repl *repl, int code)
{
	if (repl->unsaved || (!code && runtime_output_lost(repl->runtime)))
		return EXIT_IO;
	if (!repl->terminal && !repl->told && !code &&
	    (repl->failed || runtime_uncaught(repl->runtime)))
		return EXIT_EXCEPTION;
	return code;
}

static int repl(const struct cli_options *options, int count, char **operands)
{
	struct runtime_options runtime_options = cli_runtime_options(options);
	struct repl repl = {.options = options,
			    .terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)};
	char state[PATH_MAX - 32] = "", image[PATH_MAX], history[PATH_MAX];
	bool has_state = state_directory(state, sizeof(state));
	struct thaw_error error = {0};
	int code;

	if (!count && !options->image && !has_state)
		return fail_place(state, errno);
	snprintf(image, sizeof(image), "%s/repl.thaw", state);
	snprintf(history, sizeof(history), "%s/history", state);
	repl.image = count ? operands[0] : options->image ? options->image : image;
	runtime_options.image = repl.image;
	runtime_options.own = repl.image == image && !options->trust;
	runtime_options.interactive = repl.terminal;
	code = cli_colours(options, repl.terminal, &repl.colours);
	if (!code)
		code = cli_compress(options->compress, &runtime_options.compress);
	if (code)
		return code;
	runtime_options.colours = repl.colours;
	runtime_options.around_output = repl.terminal ? repl_input_around_output : NULL;
	runtime_options.around_arg = &repl.input;
	runtime_options.keep_result = true;
	code = cli_at(options, &runtime_options);
	if (code)
		return code;
	code = cli_control(options, &runtime_options);
	if (code)
		return code;
	code = runtime_open(&runtime_options, &repl.runtime, &error);
	if (code) {
		control_close(runtime_options.control, code);
		return ctl_takes_over(repl.image, code) ? ctl_shell(options, repl.image)
							: cli_fail_error(&error, code);
	}
	repl.input = repl_input_open(repl.runtime, has_state ? history : NULL);
	if (repl.input) {
		code = session(&repl);
	} else {
		code = cli_fail(EXIT_IO, "the terminal cannot be used: %s", strerror(errno));
	}
	/* Timers may have run since the last line. */
	if (!runtime_trapped(repl.runtime))
		make_durable(&repl, THAW_REASON_EXIT);
	code = ending(&repl, code);
	repl_input_close(repl.input);
	repl.input = NULL;
	free(repl.session.data);
	cli_stats(repl.runtime, options);
	runtime_close(repl.runtime);
	control_close(runtime_options.control, code);
	return code;
}

static const struct cli_option repl_options[] = {
	CLI_RUN_FROM("the image, if it is not the operand",
		     "checkpoint this often while timers run (default 1s)", "start"),
	CLI_ENCRYPT,
	CLI_COMPRESS_RUN,
	CLI_COLOR,
	CLI_RUN_TELL("the same, and .stats, as JSON", "no banner, no notes"),
	{0},
};

const struct cli_command command_repl = {
	.name = "repl",
	.synopsis = "[options] [IMAGE]",
	.summary = "a shell whose variables survive",
	.description =
		"Evaluates what you type, over an image (default: $XDG_STATE_HOME/thaw/repl.thaw, which is\n"
		"~/.local/state/thaw/repl.thaw). Every line is durable before the next prompt appears: kill the shell\n"
		"whenever you like. Timers and promises go on while it waits, and the next time it is started.\n"
		"A name may be declared again: the later declaration wins, and functions see it.\n"
		"From a pipe it reads statements without a prompt, prints their results, and leaves at the end, with\n"
		"exit code 1 if one of them failed; those behind it are evaluated all the same.",
	.examples = "  thaw repl                              the shell of this user\n"
		    "  thaw repl notes.thaw                   another one\n"
		    "  echo 'a = 1' | thaw repl x.thaw        set ...\n"
		    "  echo 'a' | thaw repl x.thaw            ... and ask\n",
	.options = repl_options,
	.operands_max = 1,
	.run = repl,
};
