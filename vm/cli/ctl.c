/* SPDX-License-Identifier: MIT */
/*
 * ctl.c - thaw ctl: talks to the program that runs from an image, over its socket (vm/control). And for tag, checkpoint, rollback, the
 * shell and eval, when the image is in use.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/client.h"
#include "ctl.h"

/* The program says itself when its time is over; it may have other things to do just then. */
#define LONGER_NS 5000000000ull
#define TIMEOUT_NS 10000000000ull
#define LONG_TIMEOUT_NS 60000000000ull
#define END_MS 10000

/* ---- Asking */

/* A request for a program, member by member. */
struct ctl {
	const struct cli_options *options;
	const char *image, *command;
	unsigned *tries; /* NULL: there is no other way than to ask */
	struct json json;
	char *members;
	size_t bytes;
};

static void begin(struct ctl *ctl, const struct cli_options *options, const char *image,
		  const char *command)
{
	*ctl = (struct ctl){.options = options, .image = image, .command = command};
	ctl->json.to = open_memstream(&ctl->members, &ctl->bytes);
	if (ctl->json.to)
		json_text(&ctl->json, "command", command);
}

/* NULL: nothing is added. */
static void add(struct ctl *ctl, const char *key, const char *value)
{
	if (ctl->json.to && value)
		json_text(&ctl->json, key, value);
}

static int exit_code_of(int code)
{
	return code == -ESRCH	    ? EXIT_NO_INPUT
	       : code == -ETIMEDOUT ? EXIT_IMAGE_IN_USE
				    : runtime_exit_code(code);
}

static uint64_t timeout_of(const struct ctl *ctl, uint64_t timeout_ns)
{
	return ctl->options->timeout_ns ? ctl->options->timeout_ns : timeout_ns;
}

/* Returns the answer, or NULL after saying why not; `code`. */
static json_t *ask(struct ctl *ctl, uint64_t timeout_ns, struct control_reply *reply, int *code)
{
	struct thaw_error error = {0};
	json_t *answer;

	timeout_ns = timeout_of(ctl, timeout_ns);
	if (ctl->json.to)
		json_number(&ctl->json, "timeoutMs", (timeout_ns + 999999) / 1000000);
	if (!ctl->json.to || fclose(ctl->json.to)) {
		*code = cli_fail(EXIT_IO, "out of memory");
		return NULL;
	}
	*code = control_ask(ctl->image, ctl->members, timeout_ns + LONGER_NS, reply, &error);
	free(ctl->members);
	if (*code == -ESRCH && ctl->tries && cli_again(THAW_EINUSE, ctl->tries)) {
		*code = CTL_ENDED;
		return NULL;
	}
	if (*code) {
		*code = cli_fail(exit_code_of(*code), "%s", error.text);
		return NULL;
	}
	answer = json_loadb(reply->text, reply->bytes, 0, NULL);
	if (json_is_boolean(json_object_get(answer, "ok")))
		return answer;
	json_decref(answer);
	free(reply->text);
	close(reply->pidfd);
	*code = cli_fail(EXIT_IMAGE_FOREIGN,
			 "%s: what listens there does not speak as this version of thaw does",
			 ctl->image);
	return NULL;
}

static uint64_t number(const json_t *answer, const char *key)
{
	json_int_t value = json_integer_value(json_object_get(answer, key));

	return value > 0 ? (uint64_t)value : 0;
}

/* NULL: there is none. */
static const char *text(const json_t *answer, const char *key)
{
	return json_string_value(json_object_get(answer, key));
}

static const char *word(const json_t *answer, const char *key)
{
	const char *found = text(answer, key);

	return found ? found : "?";
}

/* ---- What is printed */

static void replica_row(const json_t *replica, struct table *table)
{
	const char *place = text(replica, "place"), *error = text(replica, "error");
	char line[1024];

	if (!place)
		return;
	snprintf(line, sizeof(line), "%.300s: %s%s, generation %s, %s after the image%s%s%s%s",
		 place, word(replica, "state"),
		 !strcmp(word(replica, "durable"), "remote") ? " (what is durable)" : "",
		 format_number(number(replica, "generation")).s,
		 format_duration(number(replica, "lagNs")).s,
		 number(replica, "outageNs") ? "; no answer for " : "",
		 number(replica, "outageNs") ? format_duration(number(replica, "outageNs")).s : "",
		 error ? ": " : "", error ? error : "");
	table_cell(table, "replica");
	table_cell(table, line);
	snprintf(line, sizeof(line), "%s in %s requests, %s records; it has %s",
		 format_bytes(number(replica, "bytesSent")).s,
		 format_count(number(replica, "requests")).s,
		 format_count(number(replica, "records")).s,
		 format_bytes(number(replica, "bytesStored")).s);
	table_cell(table, "sent there");
	table_cell(table, line);
	if (!number(replica, "missingBytes"))
		return;
	snprintf(line, sizeof(line), "%s are not here yet; %s requests were waited for",
		 format_bytes(number(replica, "missingBytes")).s,
		 format_count(number(replica, "needed")).s);
	table_cell(table, "missing");
	table_cell(table, line);
}

static void print_status(const json_t *answer)
{
	struct table table;
	const char *error = text(answer, "checkpointError"), *program = text(answer, "program");
	char line[256];

#define ROW(name, ...)                                     \
	do {                                               \
		snprintf(line, sizeof(line), __VA_ARGS__); \
		table_cell(&table, name);                  \
		table_cell(&table, line);                  \
	} while (0)
	table_init(&table, "ll");
	ROW("program", "%s, thaw %s, process %s", program ? program : "a shell",
	    word(answer, "kind"), format_number(number(answer, "guestPid")).s);
	ROW("state", "%s%s%s, up %s", word(answer, "state"),
	    number(answer, "stateNs") ? " for " : "",
	    number(answer, "stateNs") ? format_duration(number(answer, "stateNs")).s : "",
	    format_duration(number(answer, "upNs")).s);
	ROW("generation", "%s, %s old", format_number(number(answer, "generation")).s,
	    format_duration(number(answer, "generationAgeNs")).s);
	ROW("checkpoints", "%s durable, %s failed, every %s",
	    format_count(number(answer, "checkpoints")).s,
	    format_count(number(answer, "checkpointsFailed")).s,
	    format_duration(number(answer, "everyNs")).s);
	if (error)
		ROW("failing", "%s in a row: %.200s",
		    format_count(number(answer, "checkpointsFailing")).s, error);
	ROW("pause", "%s the last, %s at most", format_duration(number(answer, "pauseNs")).s,
	    format_duration(number(answer, "pauseNsMax")).s);
	ROW("durable after", "%s the last, %s at most",
	    format_duration(number(answer, "durableNs")).s,
	    format_duration(number(answer, "durableNsMax")).s);
	ROW("written", "%s to the image; %s a second are dirty",
	    format_bytes(number(answer, "bytesWritten")).s,
	    format_bytes(number(answer, "dirtyBytesPerSecond")).s);
	ROW("faults", "%s, %s read of the image, %s pages unreadable",
	    format_count(number(answer, "faults")).s,
	    format_bytes(number(answer, "restoreBytes")).s,
	    format_count(number(answer, "pagesUnreadable")).s);
	if (json_is_true(json_object_get(answer, "commitsOutput")))
		ROW("held output", "%s, for %s", format_bytes(number(answer, "heldBytes")).s,
		    format_duration(number(answer, "heldNs")).s);
	replica_row(json_object_get(answer, "replica"), &table);
	ROW("restores", "%s in its life, %s restarts", format_count(number(answer, "restores")).s,
	    format_count(number(answer, "restarts")).s);
#undef ROW
	table_print(&table, stdout);
}

static void print_modules(const json_t *answer, const char *kind, const char **separator)
{
	const json_t *name;
	size_t i;

	json_array_foreach(json_object_get(answer, kind), i, name)
	{
		const char *given = json_string_value(name);
		char line[256];

		thaw_escape(given ? given : "?", line, sizeof(line));
		printf("%s%s", *separator, line);
		*separator = ", ";
	}
	if (i)
		printf(" %s", kind);
}

static void print_upgrade(const json_t *answer)
{
	const char *separator = "";

	if (number(answer, "generation") == number(answer, "from")) {
		printf("nothing has changed since generation %llu; the program goes on\n",
		       (unsigned long long)number(answer, "from"));
		return;
	}
	printf("generation %llu is upgraded: ", (unsigned long long)number(answer, "generation"));
	print_modules(answer, "changed", &separator);
	print_modules(answer, "added", &separator);
	print_modules(answer, "removed", &separator);
	printf("; the program goes on from it (%llu is named before-upgrade)\n",
	       (unsigned long long)number(answer, "from"));
}

static void print_answer(const char *command, const json_t *answer)
{
	if (!strcmp(command, "status"))
		print_status(answer);
	else if (!strcmp(command, "metrics"))
		fputs(text(answer, "metrics") ? text(answer, "metrics") : "", stdout);
	else if (!strcmp(command, "checkpoint"))
		printf("generation %llu is durable\n",
		       (unsigned long long)number(answer, "generation"));
	else if (!strcmp(command, "tag"))
		tag_tell(word(answer, "name"), number(answer, "generation"), true);
	else if (!strcmp(command, "untag"))
		tag_tell(word(answer, "deleted"), number(answer, "generation"), false);
	else if (!strcmp(command, "rollback"))
		printf("generation %llu is made, with the contents of %llu: the program goes on from it\n",
		       (unsigned long long)number(answer, "generation"),
		       (unsigned long long)number(answer, "from"));
	else if (!strcmp(command, "upgrade"))
		print_upgrade(answer);
	else if (!strcmp(command, "compact"))
		printf("%s before, %s after; the program goes on\n",
		       format_bytes(number(answer, "bytesBefore")).s,
		       format_bytes(number(answer, "bytesAfter")).s);
	else if (!strcmp(command, "eval") && text(answer, "value"))
		puts(text(answer, "value"));
}

/* With where it was thrown, and that nobody has caught it. */
static void print_exception(const json_t *answer)
{
	const char *shown = text(answer, "shown") ? text(answer, "shown")
						  : text(answer, "exception");
	size_t bytes = strlen(shown);

	cli_flush();
	fprintf(stderr, "%s%s", shown, bytes && shown[bytes - 1] == '\n' ? "" : "\n");
}

/* As it came, but for that all is well, which the exit code says. */
static void print_object(const struct control_reply *reply)
{
	static const char well[] = "{\"ok\":true,";
	size_t skipped = strncmp(reply->text, well, sizeof(well) - 1) ? 0 : sizeof(well) - 2;

	if (skipped)
		putchar('{');
	fwrite(reply->text + skipped + !!skipped, 1, reply->bytes - skipped - !!skipped, stdout);
	putchar('\n');
}

static int report(const struct ctl *ctl, const json_t *answer, const struct control_reply *reply)
{
	const char *exception = text(answer, "exception");

	if (!json_is_true(json_object_get(answer, "ok")))
		return cli_fail(number(answer, "code") ? (int)(number(answer, "code") & 0xff)
						       : EXIT_IO,
				"%s: %s", ctl->image, word(answer, "error"));
	if (ctl->options->json) {
		print_object(reply);
	} else if (exception) {
		print_exception(answer);
	} else {
		print_answer(ctl->command, answer);
	}
	return exception ? EXIT_EXCEPTION : 0;
}

/* Send it, and print what it has come to. An exit code, or CTL_ENDED. */
static int end(struct ctl *ctl, uint64_t timeout_ns)
{
	struct control_reply reply;
	int code;
	json_t *answer = ask(ctl, timeout_ns, &reply, &code);

	if (!answer)
		return code;
	code = report(ctl, answer, &reply);
	json_decref(answer);
	free(reply.text);
	if (reply.pidfd >= 0)
		close(reply.pidfd);
	return code;
}

/* ---- What other commands ask, too */

bool ctl_takes_over(const char *image, int code)
{
	return code == THAW_EINUSE && control_is_there(image);
}

bool ctl_again(const char *image, int code, unsigned *tries, bool *taken)
{
	*taken = ctl_takes_over(image, code);
	return !*taken && cli_again(code, tries);
}

int ctl_tag(const struct cli_options *options, const char *image, const char *name,
	    const char *generation, unsigned *tries)
{
	struct ctl ctl;

	begin(&ctl, options, image, "tag");
	ctl.tries = tries;
	add(&ctl, "name", name);
	add(&ctl, "generation", generation);
	if (ctl.json.to)
		json_bool(&ctl.json, "move", options->force);
	return end(&ctl, TIMEOUT_NS);
}

int ctl_untag(const struct cli_options *options, const char *image, const char *name,
	      unsigned *tries)
{
	struct ctl ctl;

	begin(&ctl, options, image, "untag");
	ctl.tries = tries;
	add(&ctl, "name", name);
	return end(&ctl, TIMEOUT_NS);
}

int ctl_rollback(const struct cli_options *options, const char *image, const char *generation,
		 unsigned *tries)
{
	struct ctl ctl;

	begin(&ctl, options, image, "rollback");
	ctl.tries = tries;
	add(&ctl, "generation", generation);
	return end(&ctl, TIMEOUT_NS);
}

int ctl_compact(const struct cli_options *options, const char *image, unsigned *tries)
{
	struct ctl ctl;

	begin(&ctl, options, image, "compact");
	ctl.tries = tries;
	return end(&ctl, LONG_TIMEOUT_NS); /* of gigabytes it takes that long */
}

int ctl_checkpoint(const struct cli_options *options, const char *image, const char *name)
{
	struct ctl ctl;

	begin(&ctl, options, image, "checkpoint");
	add(&ctl, "name", name);
	return end(&ctl, LONG_TIMEOUT_NS); /* a first one of gigabytes takes that long */
}

int ctl_eval(const struct cli_options *options, const char *image, const char *code)
{
	struct ctl ctl;

	begin(&ctl, options, image, "eval");
	add(&ctl, "code", code);
	return end(&ctl, TIMEOUT_NS);
}

int ctl_shell(const struct cli_options *options, const char *image)
{
	bool terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	int code = 0, failed = 0;
	char *line = NULL;
	size_t room = 0;
	ssize_t bytes;

	if (terminal && !options->quiet)
		printf("%s is in use: each line is evaluated by its program, between two turns.\n",
		       image);
	for (;;) {
		if (terminal)
			fputs("> ", stdout);
		cli_flush();
		bytes = getline(&line, &room, stdin);
		if (bytes < 0 || !strcmp(line, ".exit\n"))
			break;
		if (line[strspn(line, " \t\r\n")])
			code = ctl_eval(options, image, line);
		failed = code ? code : failed;
		if (code && code != EXIT_EXCEPTION && code != EXIT_IMAGE_IN_USE)
			break;
		code = 0;
	}
	if (terminal && bytes < 0)
		putchar('\n');
	free(line);
	return terminal ? code : failed;
}

/* ---- thaw ctl */

/* Its process, too: whoever comes next finds the image free. */
static void wait_for_end(int pidfd)
{
	struct pollfd end = {pidfd, POLLIN, 0};

	if (pidfd < 0)
		return;
	while (poll(&end, 1, END_MS) < 0 && errno == EINTR)
		;
	close(pidfd);
}

static int stop(const struct cli_options *options, const char *image)
{
	struct control_reply reply;
	struct ctl ctl;
	json_t *answer;
	int code;

	begin(&ctl, options, image, "stop");
	answer = ask(&ctl, LONG_TIMEOUT_NS, &reply, &code);
	if (!answer)
		return code;
	code = report(&ctl, answer, &reply);
	if (!code)
		wait_for_end(reply.pidfd);
	if (!code && !options->json)
		printf("it has ended with exit code %llu; generation %llu is its newest\n",
		       (unsigned long long)number(answer, "exitCode"),
		       (unsigned long long)number(answer, "generation"));
	json_decref(answer);
	free(reply.text);
	return code;
}

static int upgrade(const struct cli_options *options, const char *image)
{
	char path[PATH_MAX];
	struct ctl ctl;

	if (options->check && !realpath(options->check, path))
		return cli_fail(EXIT_NO_INPUT, "%s: %s", options->check, strerror(errno));
	begin(&ctl, options, image, "upgrade");
	add(&ctl, "check", options->check ? path : NULL);
	if (ctl.json.to)
		json_bool(&ctl.json, "force", options->force);
	return end(&ctl, LONG_TIMEOUT_NS);
}

static int plain(const struct cli_options *options, const char *image, const char *command)
{
	struct ctl ctl;

	begin(&ctl, options, image, command);
	return end(&ctl, TIMEOUT_NS);
}

static int unknown(const char *word)
{
	const char *names[CONTROL_COMMANDS + 1], *nearest;

	for (unsigned i = 0; i < CONTROL_COMMANDS; i++)
		names[i] = control_command_name(i);
	names[CONTROL_COMMANDS] = NULL;
	nearest = cli_nearest(word, names);
	return cli_fail(EXIT_USAGE, "thaw ctl: no command '%s'%s%s%s; see thaw ctl --help", word,
			nearest ? " (did you mean " : "", nearest ? nearest : "",
			nearest ? "?)" : "");
}

static int ctl(const struct cli_options *options, int count, char **operands)
{
	static const struct {
		const char *wants; /* asks for the first argument; NULL: there is none */
		int most;
	} arguments[CONTROL_COMMANDS] = {
		[CONTROL_TAG] = {"which name?", 2},
		[CONTROL_UNTAG] = {"which name?", 1},
		[CONTROL_EVAL] = {"which code?", 1},
		[CONTROL_ROLLBACK] = {"back to which generation?", 1},
	};
	const char *image = operands[0], *word = operands[1];
	const char *first = count > 2 ? operands[2] : NULL;
	enum control_command command = 0;

	while (command < CONTROL_COMMANDS && strcmp(control_command_name(command), word))
		command++;
	if (command == CONTROL_COMMANDS)
		return unknown(word);
	if (arguments[command].wants && !first)
		return cli_fail(EXIT_USAGE, "thaw ctl IMAGE %s: %s; see thaw ctl --help", word,
				arguments[command].wants);
	if (count - 2 > arguments[command].most)
		return cli_fail(EXIT_USAGE, "'%s' is one argument too many; see thaw ctl --help",
				operands[2 + arguments[command].most]);
	switch (command) {
	case CONTROL_CHECKPOINT:
		return ctl_checkpoint(options, image, options->name);
	case CONTROL_TAG:
		return ctl_tag(options, image, first, count > 3 ? operands[3] : NULL, NULL);
	case CONTROL_UNTAG:
		return ctl_untag(options, image, first, NULL);
	case CONTROL_EVAL:
		return ctl_eval(options, image, first);
	case CONTROL_ROLLBACK:
		return ctl_rollback(options, image, first, NULL);
	case CONTROL_UPGRADE:
		return upgrade(options, image);
	case CONTROL_COMPACT:
		return ctl_compact(options, image, NULL);
	case CONTROL_STOP:
		return stop(options, image);
	default:
		return plain(options, image, word);
	}
}

static const struct cli_option ctl_options[] = {
	{"timeout", 0, "TIME", CLI_DURATION, CLI_FIELD(timeout_ns),
	 "wait at most so long (default 10s; checkpoint, upgrade, compact and stop: 60s)"},
	{"name", 0, "NAME", CLI_TEXT, CLI_FIELD(name),
	 "checkpoint: what the generation is called, which keeps it"},
	{"force", 'f', NULL, CLI_FLAG, CLI_FIELD(force),
	 "tag: move the name, if another generation has it; upgrade: let go the state of modules that say nothing about it"},
	{"check", 0, "FILE.js", CLI_TEXT, CLI_FIELD(check),
	 "upgrade: run this module in the upgraded program; if it throws, nothing has happened"},
	CLI_JSON,
	CLI_HELP,
	{0},
};

const struct cli_command command_ctl = {
	.name = "ctl",
	.synopsis = "[options] IMAGE ACTION [arguments]",
	.summary = "talk to the program that runs from an image",
	.description =
		"Talks to the program that thaw run, exec or repl runs from IMAGE, over the socket IMAGE.ctl; for the user who runs it,\n"
		"and root. ACTION is one of:\n"
		"  status                  what it does, and what its checkpoints cost; at once, whatever it does\n"
		"  metrics                 the same for Prometheus (an option of thaw run and exec serves them over HTTP)\n"
		"  checkpoint              a generation now; returns once it is durable\n"
		"  tag NAME [GENERATION]   name a generation (default: the newest), which keeps it\n"
		"  untag NAME              take the name away\n"
		"  eval CODE               evaluate CODE in a program of thaw run, between two turns, and print the result once what\n"
		"                          it did is durable\n"
		"  rollback GENERATION     take a generation, make an old one the newest, and go on from that\n"
		"  upgrade                 take a generation, load the modules whose files have changed (thaw upgrade), and go on (thaw run)\n"
		"  compact                 take a generation, rewrite the image without its free space, and go on (thaw run)\n"
		"  stop                    as SIGTERM: a last generation, and the end, which is waited for\n"
		"What has to wait for the program waits for the end of its turn, and no longer than --timeout: then that is said,\n"
		"and the exit code is 75.",
	.examples =
		"  thaw ctl orders.thaw status                            what it does, what that costs\n"
		"  thaw ctl orders.thaw eval 'orders.size'                ask it something\n"
		"  thaw ctl orders.thaw checkpoint --name before-deploy   a generation now, that is kept\n"
		"  thaw ctl orders.thaw stop && thaw compact orders.thaw  ... and the image is free\n",
	.options = ctl_options,
	.operands_min = 2,
	.operands_max = 4,
	.run = ctl,
};
