/* SPDX-License-Identifier: MIT */
/*
 * host.c - what JavaScript may call, by name.
 *
 * Owns the table of host functions. Called by the engine inside a turn, on the owner's thread. A
 * function here must never run the loop, never call back into JavaScript that could run a
 * program's code, and never hand an address of VM memory to a system call (engine.h). Names are for
 * ever once an image remembers them: a function is added, never renamed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "crypto.h"
#include "host.h"
#include "js/libraries/libraries.h"
#include "base/text.h"
#include "js/program/excerpt.h"
#include "js/program/mapped_frames.h"
#include "js/program/program.h"

extern char **environ;

#define ARGUMENTS                                                           \
	struct js_engine *engine, void *arg, js_value self, unsigned count, \
		const js_value *arguments
#define UNUSED (void)engine, (void)arg, (void)self, (void)count, (void)arguments
#define RANDOM_BYTES_MAX 65536

static struct runtime *owner_of(struct program *program)
{
	return program->guest.owner;
}

/* A string argument, malloc'ed; NULL if it is not there. */
static char *text_argument(struct js_engine *engine, unsigned count, const js_value *arguments,
			   unsigned index, size_t *bytes)
{
	if (index >= count)
		return NULL;
	return js_to_string(engine, arguments[index], bytes);
}

static double number_argument(struct js_engine *engine, unsigned count, const js_value *arguments,
			      unsigned index)
{
	return index < count ? js_to_number(engine, arguments[index]) : NAN;
}

/* ---- Output ---- */

static js_value host_write(ARGUMENTS)
{
	int fd = number_argument(engine, count, arguments, 0) == 2 ? STDERR_FILENO : STDOUT_FILENO;
	size_t bytes, valid_bytes;
	char *text = text_argument(engine, count, arguments, 1, &bytes), *valid;

	UNUSED;
	if (!text)
		return js_throw_error(engine, "InternalError", "out of memory");
	valid = text_make_valid(text, bytes, &valid_bytes);
	if (valid)
		owner_write(owner_of(arg), fd, valid, valid_bytes);
	if (owner_output_full(owner_of(arg)))
		js_poll_next(engine); /* where the turn can wait, and be captured while it does */
	if (valid != text)
		free(valid);
	free(text);
	return js_undefined(engine);
}

/* ---- Time, randomness, text ---- */

static js_value host_clock(ARGUMENTS)
{
	UNUSED;
	return js_number(engine, loop_clock(arg));
}

static js_value host_random(ARGUMENTS)
{
	double wanted = number_argument(engine, count, arguments, 0);
	uint8_t bytes[RANDOM_BYTES_MAX];
	size_t done = 0, total;

	UNUSED;
	if (!(wanted >= 0 && wanted <= RANDOM_BYTES_MAX))
		return js_throw_error(engine, "RangeError", "at most %d random bytes at a time",
				      RANDOM_BYTES_MAX);
	total = (size_t)wanted;
	while (done < total) {
		ssize_t got = getrandom(bytes + done, total - done, 0);

		if (got < 0 && errno != EINTR)
			return js_throw_error(engine, "Error", "getrandom: %s", strerror(errno));
		done += got > 0 ? (size_t)got : 0;
	}
	return js_bytes(engine, bytes, total);
}

static js_value host_encode(ARGUMENTS)
{
	size_t bytes, valid_bytes;
	char *text = text_argument(engine, count, arguments, 0, &bytes), *valid;
	js_value result;

	UNUSED;
	valid = text ? text_make_valid(text, bytes, &valid_bytes) : NULL;
	if (!valid) {
		free(text);
		return js_throw_error(engine, "InternalError", "out of memory");
	}
	result = js_bytes(engine, valid, valid_bytes);
	if (valid != text)
		free(valid);
	free(text);
	return result;
}

static js_value host_decode(ARGUMENTS)
{
	size_t bytes = 0, valid_bytes;
	char *data = count ? js_to_bytes(engine, arguments[0], &bytes) : NULL, *valid;
	bool fatal = count > 1 && js_to_bool(engine, arguments[1]);
	js_value result;

	UNUSED;
	if (!data)
		return js_throw_error(engine, "TypeError",
				      "decode() takes an ArrayBuffer or a view of one");
	if (fatal && text_valid_prefix(data, bytes) != bytes) {
		free(data);
		return js_throw_error(engine, "TypeError", "the data is not valid utf-8");
	}
	/* What is not UTF-8 gets three times as long, in the host's memory, before it is found too long. */
	if (bytes > JS_TEXT_MAX_BYTES / 3 && text_valid_bytes(data, bytes) > JS_TEXT_MAX_BYTES) {
		free(data);
		return js_throw_error(
			engine, "RangeError",
			"the text would be larger than %llu MiB, the most that a string can be",
			(JS_TEXT_MAX_BYTES + 1) >> 20);
	}
	valid = text_make_valid(data, bytes, &valid_bytes);
	result = valid ? js_string(engine, valid, valid_bytes)
		       : js_throw_error(engine, "InternalError", "out of memory");
	if (valid != data)
		free(valid);
	free(data);
	return result;
}

/* (text) -> columns on a terminal */
static js_value host_width(ARGUMENTS)
{
	size_t bytes, columns;
	char *text = text_argument(engine, count, arguments, 0, &bytes);

	UNUSED;
	if (!text)
		return js_throw_error(engine, "InternalError", "out of memory");
	columns = text_width(text, bytes);
	free(text);
	return js_number(engine, (double)columns);
}

/* promise -> [state, result]; undefined if it is none. */
static js_value host_promise(ARGUMENTS)
{
	static const char *const names[] = {"pending", "fulfilled", "rejected"};
	enum js_promise_state state;
	js_value result;

	UNUSED;
	if (!count || !js_is_promise(engine, arguments[0]))
		return js_undefined(engine);
	state = js_promise_state(engine, arguments[0]);
	result = js_array(engine);
	js_set_index(engine, result, 0, js_string(engine, names[state], strlen(names[state])));
	if (state != JS_PROMISE_PENDING)
		js_set_index(engine, result, 1, js_promise_result(engine, arguments[0]));
	return result;
}

/* (text, name) -> what it evaluates to: a function of the runtime's own sources (later.js). */
static js_value host_compile(ARGUMENTS)
{
	size_t bytes;
	char *text = text_argument(engine, count, arguments, 0, &bytes);
	char *name = text_argument(engine, count, arguments, 1, NULL);
	js_value result;

	UNUSED;
	if (text && name)
		result = js_eval(engine, text, bytes, name, JS_EVAL_SCRIPT);
	else
		result = js_throw_error(engine, "InternalError", "out of memory");
	free(text);
	free(name);
	return result;
}

/* (name) -> what a library evaluates to (libraries.h). */
static js_value host_library(ARGUMENTS)
{
	static const struct {
		const char *name, *start, *end;
	} libraries[] = {
#define LIBRARY(name) {#name, library_##name##_start, library_##name##_end},
		LIBRARIES(LIBRARY)
#undef LIBRARY
	};
	char *name = text_argument(engine, count, arguments, 0, NULL);
	js_value result = 0;
	size_t i = 0;

	UNUSED;
	while (name && i < sizeof(libraries) / sizeof(libraries[0]) &&
	       strcmp(name, libraries[i].name))
		i++;
	if (name && i < sizeof(libraries) / sizeof(libraries[0])) {
		result = js_eval_compiled(engine, libraries[i].start,
					  (size_t)(libraries[i].end - libraries[i].start));
	} else {
		js_throw_error(engine, "Error", "this build of thaw lacks the library %s",
			       name ? name : "");
	}
	free(name);
	return result;
}

/* (operation, ...) -> what libcrypto computes (crypto.c) */
static js_value host_crypto(ARGUMENTS)
{
	UNUSED;
	return crypto_compute(engine, count, arguments);
}

/* (what) -> of this process: "userAgent", "processors", "platform" */
static js_value host_about(ARGUMENTS)
{
	static const char agent[] = "Thaw/" THAW_VERSION, platform[] = "Linux";
	char *what = text_argument(engine, count, arguments, 0, NULL);
	cpu_set_t set;
	js_value result;

	UNUSED;
	if (what && !strcmp(what, "userAgent"))
		result = js_string(engine, agent, sizeof(agent) - 1);
	else if (what && !strcmp(what, "platform"))
		result = js_string(engine, platform, sizeof(platform) - 1);
	else if (what && !strcmp(what, "processors"))
		result = js_number(engine,
				   sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set));
	else
		result = js_undefined(engine);
	free(what);
	return result;
}

/* object -> the engine's name of its class, whatever the program made of it: "Map", "Object", "Proxy". */
static js_value host_kind(ARGUMENTS)
{
	UNUSED;
	return count ? js_class_name(engine, arguments[0]) : js_undefined(engine);
}

/* A view of a buffer -> [offset, bytes, 1 if these are always what the buffer has]. */
static js_value host_view(ARGUMENTS)
{
	struct js_view view;
	js_value list;

	UNUSED;
	if (!count || !js_view(engine, arguments[0], &view))
		return js_throw_error(engine, "TypeError", "this is not a view of a buffer");
	list = js_array(engine);
	js_set_index(engine, list, 0, js_number(engine, view.offset));
	js_set_index(engine, list, 1, js_number(engine, view.bytes));
	js_set_index(engine, list, 2, js_number(engine, view.tracks));
	return list;
}

/* (a SharedArrayBuffer, its maximal length, 0: fixed) -> another one over the same memory. */
static js_value host_share(ARGUMENTS)
{
	UNUSED;
	return js_share(engine, count ? arguments[0] : 0,
			number_argument(engine, count, arguments, 1));
}

/* The module (its name) whose code has led here. */
static js_value host_owner(ARGUMENTS)
{
	UNUSED;
	return js_caller(engine);
}

/* ---- The process ---- */

/* Into the list; false: there is no room in the heap, an exception is pending, and the list is gone. */
static bool add_text(struct js_engine *engine, js_value list, uint32_t index, const char *text,
		     size_t length)
{
	if (list && js_set_index(engine, list, index, js_string(engine, text, length)))
		return true;
	js_free(engine, list);
	return false;
}

static js_value host_args(ARGUMENTS)
{
	struct program *program = arg;
	js_value list = js_array(engine);

	UNUSED;
	for (int i = 0; !program->hosting && i < program->options.argument_count; i++)
		if (!add_text(engine, list, (uint32_t)i, program->options.arguments[i],
			      strlen(program->options.arguments[i])))
			return 0;
	return list;
}

/* What reaches the heap reaches the image: the key that signs images must not (key.h). */
static bool is_secret(const char *name, size_t length)
{
	return length == 8 && !strncmp(name, "THAW_KEY", length);
}

static js_value host_environment(ARGUMENTS)
{
	char *name = text_argument(engine, count, arguments, 0, NULL);
	bool seen = !((struct program *)arg)->hosting && name && *name &&
		    !is_secret(name, strlen(name));
	const char *value = seen ? getenv(name) : NULL;

	UNUSED;
	free(name);
	return value ? js_string(engine, value, strlen(value)) : js_undefined(engine);
}

static js_value host_environment_names(ARGUMENTS)
{
	js_value list = js_array(engine);
	uint32_t index = 0;

	UNUSED;
	for (char **at = environ; !((struct program *)arg)->hosting && *at; at++) {
		const char *equals = strchr(*at, '=');
		size_t length = equals ? (size_t)(equals - *at) : 0;
		bool again = false;

		for (char **earlier = environ; earlier < at && !again;
		     earlier++) /* a proxy may not name a key twice */
			again = !strncmp(*earlier, *at, length + 1);
		if (length && !again && !is_secret(*at, length) &&
		    !add_text(engine, list, index++, *at, length))
			return 0;
	}
	return list;
}

static js_value host_exit(ARGUMENTS)
{
	struct program *program = arg;
	double code = number_argument(engine, count, arguments, 0);

	UNUSED;
	program->guest.exiting = true;
	owner_exit(owner_of(program), code);
	return js_undefined(engine);
}

/* The main module failed. It is reported when the turn is over. */
static js_value host_uncaught(ARGUMENTS)
{
	struct program *program = arg;

	UNUSED;
	if (count && !program->turn.main_failure)
		program->turn.main_failure = js_dup(engine, arguments[0]);
	return js_undefined(engine);
}

/* ---- What is shown of a program ---- */

/* (message, frames, statement or undefined) -> the message with what it is about, or undefined. */
static js_value host_explain(ARGUMENTS)
{
	char *message = text_argument(engine, count, arguments, 0, NULL);
	char *frames = text_argument(engine, count, arguments, 1, NULL);
	bool typed = count > 2 && js_is_string(engine, arguments[2]);
	char *statement = typed ? text_argument(engine, count, arguments, 2, NULL) : NULL;
	char *better = message && frames ? excerpt_message(arg, message, frames, statement) : NULL;
	js_value result = better ? js_string(engine, better, strlen(better)) : js_undefined(engine);

	UNUSED;
	free(better);
	free(statement);
	free(frames);
	free(message);
	return result;
}

/* (frames) -> the same by source maps, or undefined. */
static js_value host_mapped(ARGUMENTS)
{
	char *frames = text_argument(engine, count, arguments, 0, NULL);
	char *mapped = frames ? mapped_frames(arg, frames) : NULL;
	js_value result = mapped ? js_string(engine, mapped, strlen(mapped)) : js_undefined(engine);

	UNUSED;
	free(mapped);
	free(frames);
	return result;
}

static js_value host_lexical_names(ARGUMENTS)
{
	UNUSED;
	return js_variables(engine);
}

static js_value host_lexical(ARGUMENTS)
{
	char *name = text_argument(engine, count, arguments, 0, NULL);
	js_value result = name ? js_variable(engine, name) : js_undefined(engine);

	UNUSED;
	free(name);
	return result;
}

/* A function -> "FILE:LINE" */
static js_value host_place(ARGUMENTS)
{
	UNUSED;
	return count ? js_place(engine, arguments[0]) : js_undefined(engine);
}

/* ---- Persistence ---- */

/* (string): can it name a generation? */
static js_value host_nameable(ARGUMENTS)
{
	size_t bytes;
	char *name = text_argument(engine, count, arguments, 0, &bytes);
	bool nameable = name && bytes == strlen(name) && thaw_name_valid(name);

	UNUSED;
	free(name);
	return js_bool(engine, nameable);
}

/* (number, a name or undefined): is there an image? */
static js_value host_checkpoint(ARGUMENTS)
{
	double number = number_argument(engine, count, arguments, 0);
	bool named = count > 1 && !js_is_undefined(engine, arguments[1]);
	char *name = named ? text_argument(engine, count, arguments, 1, NULL) : NULL;
	int code;

	UNUSED;
	if (!(number >= 1 && number < 9e15))
		code = -ERANGE;
	else
		code = named && !name ? -ENOMEM
				      : owner_checkpoint(owner_of(arg), (uint64_t)number, name);
	free(name);
	if (code == -EROFS && ((struct program *)arg)->hosting)
		return js_throw_error(
			engine, "Error",
			"there is no image: the program that this one is inside of has to open it with one (thaw_vm_options.image)");
	if (!code || code == -EROFS)
		return js_bool(engine, !code);
	if (code == -ENOSPC)
		return js_throw_error(engine, "RangeError", "more than %u names at a time",
				      THAW_NAMES_MAX);
	return js_throw_error(engine, "RangeError", "no such checkpoint request: %s",
			      strerror(-code));
}

static js_value host_listening(ARGUMENTS)
{
	struct program *program = arg;
	double checkpoints = number_argument(engine, count, arguments, 0);

	UNUSED;
	program->blob.listeners = checkpoints > 0 && checkpoints < 4e9 ? (uint32_t)checkpoints : 0;
	program->guest.hears_checkpoints = program->blob.listeners != 0;
	program->guest.hears_restores = number_argument(engine, count, arguments, 1) > 0;
	return js_undefined(engine);
}

/* (name of a signal, does anybody listen to it?) */
static js_value host_hear(ARGUMENTS)
{
	char *name = text_argument(engine, count, arguments, 0, NULL);
	bool hear = count > 1 && js_to_bool(engine, arguments[1]);

	UNUSED;
	if (name)
		owner_hear(owner_of(arg), turn_signal_number(name), hear);
	free(name);
	return js_undefined(engine);
}

/* What the module "thaw" shows when it is first loaded: [generation, restores]. */
static js_value host_bound(ARGUMENTS)
{
	struct program *program = arg;
	struct thaw_status status;
	js_value pair = js_array(engine);

	UNUSED;
	thaw_status(program->heap, &status);
	program->blob.flags |= JS_BLOB_MODULE;
	program->synced_generation = program->options.image ? status.generation : 0;
	js_set_index(engine, pair, 0, js_number(engine, (double)program->synced_generation));
	js_set_index(engine, pair, 1, js_number(engine, (double)program->guest.common.restores));
	return pair;
}

static js_value host_stats(ARGUMENTS)
{
	js_value object = js_object(engine);
	struct runtime_stats stats;

	UNUSED;
	owner_stats(owner_of(arg), &stats);
	const struct {
		const char *name;
		uint64_t value;
	} fields[] = {
		{"generation", stats.heap.generation},
		{"checkpoints", stats.heap.checkpoints},
		{"checkpointsFailed", stats.heap.checkpoints_failed},
		{"checkpointsFailing", stats.failing},
		{"checkpointPages", stats.heap.checkpoint_pages},
		{"checkpointBytes", stats.heap.checkpoint_bytes},
		{"pauseNsMax", stats.heap.pause_ns_max},
		{"pauseNsTotal", stats.heap.pause_ns_total},
		{"faults", stats.heap.faults},
		{"pagesRestored", stats.heap.pages_restored},
		{"imageBytes", stats.heap.image_bytes},
		{"heapBytes", stats.heap_bytes},
		{"turns", stats.turns},
		{"collections", stats.collections},
		{"restores", stats.restores},
		{"restoreNs", stats.restore_ns},
		{"turnStops", stats.turn_stops},
		{"stackBytesMax", stats.stack_bytes_max},
		{"stackNsTotal", stats.stack_ns_total},
	};
	for (unsigned i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		js_set(engine, object, fields[i].name, js_number(engine, (double)fields[i].value));
	js_set(engine, object, "checkpointError",
	       stats.failure[0] ? js_string(engine, stats.failure, strlen(stats.failure))
				: js_null(engine));
	return object;
}

/* The first half of an effect's id. */
static js_value host_branch(ARGUMENTS)
{
	char text[GUEST_BRANCH_TEXT];

	UNUSED;
	guest_branch_text(&((struct program *)arg)->guest, text);
	return js_string(engine, text, strlen(text));
}

static js_value host_collect(ARGUMENTS)
{
	UNUSED;
	((struct program *)arg)->turn.collect =
		true; /* between turns, when no frame holds anything */
	return js_undefined(engine);
}

/* (number, "read" | "write" | "append" | "input" | one of paths.c, path, text?, data) */
static js_value host_file(ARGUMENTS)
{
	double number = number_argument(engine, count, arguments, 0);
	char *operation = text_argument(engine, count, arguments, 1, NULL);
	char *path = text_argument(engine, count, arguments, 2, NULL);
	bool text = count > 3 && js_to_bool(engine, arguments[3]);
	void *data = NULL;
	size_t bytes = 0;
	int code = -ENOMEM;

	UNUSED;
	if (((struct program *)arg)->hosting) {
		free(operation);
		free(path);
		return js_throw_error(engine, "Error",
				      "a program inside of another one has no files of its own");
	}
	if (count > 4 && js_is_string(engine, arguments[4])) {
		char *raw = js_to_string(engine, arguments[4], &bytes), *valid = NULL;

		if (raw)
			valid = text_make_valid(raw, bytes, &bytes);
		if (valid != raw)
			free(raw);
		data = valid;
	} else if (count > 4 && !js_is_undefined(engine, arguments[4])) {
		data = js_to_bytes(engine, arguments[4], &bytes);
	}
	if (operation && !strcmp(operation, "input")) {
		free(data);
		code = ((struct program *)arg)->options.keep_result
			       ? -EBUSY /* the shell reads it */
			       : input_begin(arg, number);
	} else if (operation && path)
		code = files_begin(arg, number, operation, path, text, data, bytes);
	else
		free(data);
	free(operation);
	free(path);
	if (code)
		return js_throw_error(engine, "Error", "cannot begin a file operation: %s",
				      strerror(-code));
	return js_undefined(engine);
}

const struct js_host_binding host_bindings[] = {
	{"thaw.write", host_write},
	{"thaw.clock", host_clock},
	{"thaw.random", host_random},
	{"thaw.encode", host_encode},
	{"thaw.decode", host_decode},
	{"thaw.promise", host_promise},
	{"thaw.compile", host_compile},
	{"thaw.library", host_library},
	{"thaw.crypto", host_crypto},
	{"thaw.about", host_about},
	{"thaw.kind", host_kind},
	{"thaw.view", host_view},
	{"thaw.share", host_share},
	{"thaw.width", host_width},
	{"thaw.args", host_args},
	{"thaw.environment", host_environment},
	{"thaw.environment_names", host_environment_names},
	{"thaw.exit", host_exit},
	{"thaw.uncaught", host_uncaught},
	{"thaw.checkpoint", host_checkpoint},
	{"thaw.nameable", host_nameable},
	{"thaw.listening", host_listening},
	{"thaw.hear", host_hear},
	{"thaw.bound", host_bound},
	{"thaw.stats", host_stats},
	{"thaw.collect", host_collect},
	{"thaw.branch", host_branch},
	{"thaw.file", host_file},
	{"thaw.explain", host_explain},
	{"thaw.mapped", host_mapped},
	{"thaw.lexical_names", host_lexical_names},
	{"thaw.lexical", host_lexical},
	{"thaw.place", host_place},
	{"thaw.owner", host_owner},
	{NULL, NULL},
};
