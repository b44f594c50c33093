/* SPDX-License-Identifier: MIT */
/*
 * runtime.c - opens, starts, restores and ends a program: the policy; the mechanisms
 * are in the files that loop.h lists.
 *
 * Owns struct runtime. Called by the command line, on the owner's thread. What it does on the way
 * to a restored program's first turn is what "process start to first result" measures: nothing
 * that depends on the heap's size, no file but the image, no page of the heap but those that the
 * first turn itself touches.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "js/api/host.h"
#include "js/modules/resolve.h"
#include "base/process_limits.h"
#include "loop.h"

#define EXIT_UNSETTLED 13 /* as node: a top-level await that nothing will settle */

/*
 * The kernel knows a process's start in ticks of 10 ms; this is when the dynamic linker ran our
 * constructors, well below 1 ms later.
 */
static uint64_t process_start_ns;

__attribute__((constructor)) static void note_process_start(void)
{
	process_start_ns = clock_monotonic_ns();
}

int runtime_exit_code(int code)
{
	switch (code) {
	case 0:
		return 0;
	case THAW_EDAMAGED:
		return EXIT_IMAGE_DAMAGED;
	case THAW_EFOREIGN:
	case THAW_EFORMAT:
	case THAW_EENGINE:
	case THAW_EOWNER:
		return EXIT_IMAGE_FOREIGN;
	case THAW_EINUSE:
		return EXIT_IMAGE_IN_USE;
	case THAW_EKERNEL:
	case -ENOMEM: /* limits of the process, or of the machine */
	case -EMFILE:
	case -ENFILE:
		return EXIT_NO_KERNEL;
	case RUNTIME_EREPEATS:
		return EXIT_ENGINE_TRAP;
	case -EINVAL: /* of what the environment or the caller asked for */
		return EXIT_USAGE;
	case THAW_ENOGEN:
	case -ENOENT:
	case -EACCES:
	case -EPERM:
	case -EISDIR:
	case -ENOTDIR:
		return EXIT_NO_INPUT;
	default:
		return EXIT_IO;
	}
}

/*
 * The fault service cannot go on, so whoever touches the next page would wait for ever. Its
 * thread.
 */
static void on_fatal(void *arg, const struct thaw_error *error)
{
	(void)arg;
	/* Whoever does not read this does not keep the process. */
	if (poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, 1000) > 0)
		dprintf(STDERR_FILENO, "thaw: %s\n", error->text);
	_exit(EXIT_IO);
}

/* For people: the image may be a stranger's, and so the name. Valid until the next call. */
static const char *script_name(const struct runtime *rt)
{
	const char *path = rt->blob.script.path, *slash = path ? strrchr(path, '/') : NULL;
	static char name[256];

	thaw_escape(slash ? slash + 1 : path ? path : "the program", name, sizeof(name));
	return name;
}

/* ---- Opening ---- */

/* The VM out of the generation that the heap was opened from. */
static int restore(struct runtime *rt, struct thaw_error *error)
{
	struct js_host host = host_for(rt);
	size_t bytes;
	const void *state = thaw_state(rt->heap, &bytes);
	int code = js_blob_decode(state, bytes, &rt->blob, error);

	if (!code && (uint64_t)rt->blob.small.memory_pages * 65536 != thaw_size(rt->heap))
		code = failure(error, THAW_EDAMAGED,
			       "%s: the state of generation %llu does not fit its heap",
			       rt->options.image,
			       (unsigned long long)thaw_opened(rt->heap)->number);
	if (!code)
		code = js_blob_check_bindings(&rt->blob, host_bindings, error);
	if (!code)
		code = js_engine_restore(rt->heap, &host, &rt->blob.small, &rt->engine, error);
	return code;
}

/*
 * A generation in the middle of a turn: put its stack in place, or say why not. THAW_EENGINE: it
 * cannot be continued here, and `error` has the reason.
 */
static int restore_turn(struct runtime *rt, struct thaw_error *error)
{
	unsigned long long number = thaw_opened(rt->heap)->number;
	const char *refusal;
	size_t bytes;
	const void *state = thaw_state(rt->heap, &bytes);

	refusal = midturn_refusal(rt, state, bytes);
	if (refusal)
		return failure(error, THAW_EENGINE,
			       "%s: generation %llu stopped in the middle of a turn, %s",
			       rt->options.image, number, refusal);
	if (js_turn_restore(rt->engine, rt->blob.turn.stack, rt->blob.turn.stack_bytes))
		return failure(
			error, THAW_EDAMAGED,
			"%s: the stack in generation %llu cannot be one: thaw verify tells more",
			rt->options.image, number);
	return 0;
}

static int create(struct runtime *rt, struct thaw_error *error)
{
	struct js_host host = host_for(rt);
	int code = js_engine_create(rt->heap, &host, &rt->engine, error);
	char *text;

	if (code)
		return code;
	if (js_blob_name_bindings(&rt->blob, host_bindings))
		return failure(error, -ENOMEM, "out of memory");
	rt->blob.enter = host_install_prelude(rt->engine);
	if (rt->blob.enter)
		return 0;
	if (js_trapped(rt->engine))
		return failure(error, -EIO, "the engine trapped in its own prelude: %s",
			       js_trapped(rt->engine));
	text = js_exception_text(rt->engine, js_take_exception(rt->engine));
	failure(error, -EIO, "cannot start JavaScript: %s", text);
	free(text);
	return -EIO;
}

static int open_heap(struct runtime *rt, unsigned more_flags, struct thaw_error *error)
{
	const struct runtime_options *options = &rt->options;
	const struct thaw_options heap = {
		.image = options->image,
		.flags = (options->must_exist ? 0 : THAW_CREATE) |
			 (options->fresh ? THAW_FRESH : 0) | (options->own ? THAW_OWN : 0) |
			 options->prefetch | more_flags,
		.generation = options->generation,
		.address = JS_HEAP_ADDRESS,
		.max_bytes = JS_HEAP_MAX_BYTES,
		.guard_bytes = JS_HEAP_GUARD_BYTES,
		.retain = options->retain,
		.thinning = options->thinning,
		.thinning_count = options->thinning_count,
		.engine = js_engine_identity,
		.notify = checkpoints_notify,
		.notify_arg = rt,
		.fatal = on_fatal,
	};
	int code = thaw_open(&heap, &rt->heap, error);

	/*
	 * A process that was just killed holds its lock until the kernel has taken its memory
	 * apart: 'kill -9; thaw run' must work.
	 */
	for (int tries = 0; code == THAW_EINUSE && tries < 50; tries++) {
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
		code = thaw_open(&heap, &rt->heap, error);
	}
	if (code == THAW_EOWNER) {
		struct thaw_error why = *error;

		failure(error, code, "%s (--trust goes on from it, --image names another)",
			why.text);
	}
	return code;
}

/* Why an older generation was opened than was asked for, unless that was `told`. */
static void tell_fallback(struct runtime *rt, const char *told)
{
	struct thaw_status status;

	thaw_status(rt->heap, &status);
	if (status.fallback.code && strcmp(status.fallback.text, told))
		fprintf(stderr, "thaw: %s\n", status.fallback.text);
}

/* A start that took long, and why. */
static void tell_eager(struct runtime *rt)
{
	struct thaw_status status;

	thaw_status(rt->heap, &status);
	if (!rt->options.quiet && !strcmp(status.delivery, "eager"))
		fprintf(stderr, "thaw: %s: all %zu MiB were loaded first\n", status.delivery_why,
			(thaw_size(rt->heap) + (1u << 20) - 1) >> 20);
}

/* A heap, and if the image holds a program, its VM. */
static int open_program(struct runtime *rt, struct thaw_error *error)
{
	int code = open_heap(rt, 0, error);

	if (code || !rt->options.image)
		return code;
	tell_fallback(rt, "");
	rt->restored = thaw_opened(rt->heap)->number != 0;
	if (!rt->restored)
		return 0;
	tell_eager(rt);
	if (rt->options.script && thaw_failures(rt->heap) >= FAILURES_MAX &&
	    !rt->options.generation) {
		unsigned long long number = thaw_opened(rt->heap)->number;

		return failure(
			error, RUNTIME_EREPEATS,
			"%s: generation %llu was continued %u times, and each time the engine trapped before the next: %s",
			rt->options.image, number, thaw_failures(rt->heap),
			failures_way_back(rt, number).text);
	}
	return restore(rt, error);
}

/* The newest generation cannot be continued in its turn: one between turns in its line of descent can. */
static int open_portable(struct runtime *rt, const struct thaw_error *refusal,
			 struct thaw_error *error)
{
	struct thaw_generation left = *thaw_opened(rt->heap);
	struct thaw_status before;
	const struct thaw_generation *opened;
	int code;

	thaw_status(rt->heap, &before);
	js_engine_free(rt->engine);
	rt->engine = NULL;
	js_blob_clear(&rt->blob);
	thaw_close(rt->heap);
	rt->heap = NULL;
	code = open_heap(rt, THAW_OPEN_PORTABLE, error);
	if (code == THAW_ENOGEN)
		return failure(
			error, THAW_EENGINE,
			"%s; the image holds none between turns that it descends from: use that build and that key, or start anew with --fresh",
			refusal->text);
	if (code)
		return code;
	tell_fallback(rt, before.fallback.code ? before.fallback.text : "");
	code = restore(rt, error);
	if (code)
		return code;
	if (rt->blob.flags & JS_BLOB_MID_TURN)
		return failure(error, THAW_EDAMAGED, "%s: generation %llu is of two kinds",
			       rt->options.image,
			       (unsigned long long)thaw_opened(rt->heap)->number);
	opened = thaw_opened(rt->heap);
	fprintf(stderr, "thaw: %s; going on from generation %llu, %.1f s older\n", refusal->text,
		(unsigned long long)opened->number,
		left.time_ns > opened->time_ns ? (double)(left.time_ns - opened->time_ns) / 1e9
					       : 0.0);
	return 0;
}

static int open_turn(struct runtime *rt, struct thaw_error *error)
{
	struct thaw_error refusal;
	int code;

	if (!rt->restored || !(rt->blob.flags & JS_BLOB_MID_TURN))
		return 0;
	code = restore_turn(rt, &refusal);
	rt->blob.flags &= ~JS_BLOB_MID_TURN; /* of the next one, which need not be */
	if (!code)
		return 0;
	/*
	 * Going back gives up what the turn had done. That is for whoever runs the program, not for
	 * who asks it something.
	 */
	if (code == THAW_EENGINE && !rt->options.generation && rt->options.script)
		return open_portable(rt, &refusal, error);
	*error = refusal;
	return code;
}

/*
 * What the process before had printed, and nobody had read. Whoever only asks the program something
 * leaves it to who runs it.
 */
static int print_rest(struct runtime *rt, struct thaw_error *error)
{
	const void *output = rt->blob.output;
	size_t bytes = rt->blob.output_bytes;

	rt->output.durable = bytes;
	rt->blob.flags &= ~JS_BLOB_OUTPUT;
	rt->blob.output = NULL;
	rt->blob.output_bytes = 0;
	rt->output.held = output && rt->options.plain_result && rt->blob.script.path;
	if (output && streams_restore(rt, output, bytes, rt->output.held))
		return failure(error, -ENOMEM, "out of memory");
	return 0;
}

int runtime_open(const struct runtime_options *options, struct runtime **runtime,
		 struct thaw_error *error)
{
	struct runtime *rt = calloc(1, sizeof(*rt));
	int code;

	*runtime = NULL;
	if (!rt)
		return failure(error, -ENOMEM, "out of memory");
	rt->options = *options;
	if (streams_open(rt)) {
		free(rt);
		return failure(error, -ENOMEM, "out of memory");
	}
	code = open_program(rt, error);
	if (!code)
		code = open_turn(rt, error);
	/* Before anybody is told anything that a power cut could still take. */
	if (!code && rt->restored)
		code = thaw_settle(rt->heap, error);
	if (!code && rt->restored) {
		rt->blob.restores++;
		code = changed_sources_check(rt, error);
	}
	if (!code) /* the clock continues the restored one, and the prelude reads it */
		code = loop_open(rt, error);
	if (!code && !rt->restored)
		code = create(rt, error);
	if (!code)
		code = checkpoints_open(rt, error);
	if (!code)
		code = print_rest(rt, error);
	if (code) {
		runtime_close(rt);
		limits_explain(error, code);
		return code;
	}
	rt->restore_ns = clock_monotonic_ns();
	signals_open(rt);
	poll_timer_open(rt);
	if (rt->restored && options->verbose)
		fprintf(stderr,
			"thaw: restored generation %llu%s: %llu MiB of heap, restore %llu of this program\n",
			(unsigned long long)thaw_opened(rt->heap)->number,
			rt->blob.turn.step ? " in the middle of a turn" : "",
			(unsigned long long)(thaw_size(rt->heap) >> 20),
			(unsigned long long)rt->blob.restores);
	*runtime = rt;
	return 0;
}

void runtime_close(struct runtime *rt)
{
	if (!rt)
		return;
	rt->ending.ended = true; /* nothing is told any more */
	if (rt->events.ready) {
		streams_flush(rt, UINT64_MAX);
		files_settle(rt);
	}
	signals_close(rt);
	if (rt->engine)
		js_engine_free(rt->engine);
	/*
	 * A program that failed before its first generation leaves no image: it holds nothing, and would
	 * pass for a program that was started. The library's threads wake the loop up: they end first.
	 */
	thaw_discard(rt->heap);
	streams_close(rt);
	poll_timer_close(rt);
	loop_close(rt);
	checkpoints_close(rt);
	js_blob_clear(&rt->blob);
	key_free(rt->midturn.key);
	if (!rt->files.in_flight)
		free(rt); /* a job on libuv's threads still knows it */
}

bool runtime_restored(const struct runtime *rt)
{
	return rt->restored;
}

struct js_engine *runtime_engine(struct runtime *rt)
{
	return rt->engine;
}

struct thaw *runtime_heap(struct runtime *rt)
{
	return rt->heap;
}

/* ---- The first turn ---- */

bool runtime_ended_early(struct runtime *rt)
{
	if (!rt->turn.count && signals_stop())
		loop_end(rt, 128 + signals_stop(), false);
	return rt->ending.ended;
}

int runtime_start(struct runtime *rt)
{
	struct js_script *script = &rt->blob.script;
	struct stat status;
	size_t bytes;
	char *source;

	rt->ending.starting = true;
	if (runtime_ended_early(rt))
		return rt->ending.exit_code;
	script->path = realpath(rt->options.script, NULL);
	source = script->path ? resolve_read_file(script->path, &bytes) : NULL;
	rt->ending.starting = false;
	if (runtime_ended_early(rt)) {
		free(source);
		return rt->ending.exit_code;
	}
	if (!source || stat(script->path, &status)) {
		int reason = errno;

		fprintf(stderr, "thaw: cannot read %s: %s\n", rt->options.script,
			resolve_strerror(reason));
		free(source);
		return reason == EMFILE || reason == ENFILE || reason == ENOMEM ? EXIT_NO_KERNEL
										: EXIT_NO_INPUT;
	}
	script->bytes = bytes;
	script->mtime_ns = (int64_t)status.st_mtim.tv_sec * 1000000000 + status.st_mtim.tv_nsec;
	js_source_hash(source, bytes, script->hash);

	loop_turn_main(rt, source, bytes, script->path);
	free(source);
	return rt->ending.ended && !rt->ending.final ? rt->ending.exit_code : 0;
}

static js_value number_of(struct runtime *rt, uint64_t value)
{
	return js_number(rt->engine, (double)value);
}

/* The names of the generation that was opened; none, if they cannot be read any more. */
static js_value opened_names(struct runtime *rt)
{
	js_value list = js_array(rt->engine);
	const struct thaw_name *names = NULL;
	struct thaw_image *image;
	unsigned count = 0;
	uint32_t index = 0;

	if (!thaw_image_of(rt->heap, &image, NULL))
		count = thaw_image_names(image, &names);
	for (unsigned i = 0; i < count; i++)
		if (names[i].generation == thaw_opened(rt->heap)->number)
			js_set_index(rt->engine, list, index++,
				     js_string(rt->engine, names[i].name, strlen(names[i].name)));
	thaw_image_close(image);
	return list;
}

void runtime_tell_turn(struct runtime *rt)
{
	if (!rt->options.script && !rt->options.quiet)
		fprintf(stderr,
			"thaw: generation %llu stopped in the middle of a turn, which goes on first\n",
			(unsigned long long)thaw_opened(rt->heap)->number);
}

/* The rest of the turn that a restored program was stopped in. */
void runtime_resume_turn(struct runtime *rt)
{
	if (!rt->restored || rt->turn_resumed)
		return;
	rt->turn_resumed = true;
	if (!rt->blob.turn.step)
		return;
	if (!rt->evaluation.question)
		runtime_tell_turn(rt);
	loop_turn_resume(rt);
}

/*
 * Tell a restored program that it was. Once per process, before anything else runs in it, but for
 * the rest of the turn that it was stopped in: what that began and asked for in this process is not
 * among what the process before left behind.
 */
void runtime_resume(struct runtime *rt)
{
	const struct thaw_generation *opened = thaw_opened(rt->heap);
	struct js_engine *engine = rt->engine;
	js_value info[3];
	struct timespec now;
	uint64_t now_ns;

	if (!rt->restored || rt->resumed)
		return;
	rt->resumed = true;
	runtime_resume_turn(rt);
	if (rt->ending.ended)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	now_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;

	info[0] = js_object(engine);
	js_set(engine, info[0], "generation", number_of(rt, opened->number));
	js_set(engine, info[0], "ageMs",
	       js_number(engine, now_ns > opened->time_ns
					 ? (double)((now_ns - opened->time_ns) / 1000000)
					 : 0));
	js_set(engine, info[0], "restores", number_of(rt, rt->blob.restores));
	info[1] = js_object(engine);
	js_set(engine, info[1], "generation", number_of(rt, opened->number));
	js_set(engine, info[1], "pages", number_of(rt, opened->pages_stored));
	js_set(engine, info[1], "bytes", number_of(rt, opened->bytes_written));
	js_set(engine, info[1], "pauseNs", number_of(rt, opened->pause_ns));
	js_set(engine, info[1], "durableNs", number_of(rt, opened->durable_ns));
	js_set(engine, info[1], "names", opened_names(rt));
	info[2] = js_object(engine);
	js_set(engine, info[2], "waiter", number_of(rt, rt->checkpoints.first_waiter));
	js_set(engine, info[2], "operation", js_number(engine, rt->files.first_number));
	rt->synced_generation = opened->number;
	loop_turn(rt, PRELUDE_RESTORED, 3, info);
}

/* ---- The end ---- */

/* A top-level await of the main module that nothing can settle any more. */
static bool main_unsettled(struct runtime *rt)
{
	js_value state;
	bool pending;
	char *text;

	if (!rt->blob.script.path || rt->evaluation.used)
		return false;
	state = loop_ask(rt, PRELUDE_MAIN_STATE, 0, NULL);
	text = state ? js_to_string(rt->engine, state, NULL) : NULL;
	pending = text && !strcmp(text, "pending");
	free(text);
	if (state)
		js_free(rt->engine, state);
	return pending;
}

static int run_program(struct runtime *rt)
{
	const char *note = rt->restored && rt->options.script && !rt->options.quiet &&
					   !rt->evaluation.used
				   ? script_name(rt)
				   : NULL;
	unsigned long long number = rt->restored ? thaw_opened(rt->heap)->number : 0;
	uint64_t jobs_before;
	bool idle_before;

	if (rt->restored && runtime_ended_early(rt))
		return rt->ending.exit_code;
	if (rt->restored && rt->options.script && rt->blob.flags & JS_BLOB_FINISHED) {
		if (note)
			loop_tell(
				rt,
				"thaw: %s called exit(%d) in generation %llu; nothing is left to do "
				"(--fresh starts it again)\n",
				note, rt->blob.exit_code, number);
		return rt->blob.exit_code;
	}
	rt->blob.flags &= ~JS_BLOB_FINISHED; /* a shell over a finished program: it lives again */
	if (rt->turn.exiting && !rt->options.interactive)
		rt->blob.flags |= JS_BLOB_FINISHED;
	/* A program that waited for the generation it was restored from goes on in the first turn. */
	idle_before = rt->restored && !rt->resumed && !rt->blob.turn.step;
	jobs_before = rt->turn.jobs;
	runtime_resume(rt);
	if (idle_before && rt->turn.jobs == jobs_before && !rt->ending.ended &&
	    !loop_has_work(rt) && !rt->evaluation.used) {
		if (note)
			loop_tell(rt,
				  "thaw: %s finished in generation %llu; nothing is left to do "
				  "(--fresh starts it again)\n",
				  note, number);
		/*
		 * Asking a finished program again and again shall not make generations, unless
		 * its handlers did something.
		 */
		loop_end(rt, main_unsettled(rt) ? EXIT_UNSETTLED : 0,
			 rt->blob.flags & JS_BLOB_AWAITS_RESTORE);
	}
	loop_serve(rt, NULL, NULL, true);
	if (!rt->ending.ended) {
		bool unsettled = main_unsettled(rt);

		if (unsettled)
			loop_tell(rt,
				  "thaw: %s ended while its top-level await was still waiting\n",
				  script_name(rt));
		loop_end(rt, unsettled ? EXIT_UNSETTLED : 0, true);
	}
	return ending_finish(rt);
}

int runtime_run(struct runtime *rt)
{
	int code = run_program(rt);
	char how[32];

	/* Also one that says so of its own accord, start after start, without getting any further. */
	if (code && !rt->failures.noted && !rt->failures.failing && !signals_stop() &&
	    !rt->ending.stop_signal) {
		snprintf(how, sizeof(how), "exit code %d", code);
		failures_crashed(rt, how);
	}
	return ending_deliver(rt, code);
}

int runtime_leave(struct runtime *rt, int code)
{
	loop_end(rt, code, true);
	return ending_deliver(rt, ending_finish(rt));
}

int runtime_wait_input(struct runtime *rt, int fd)
{
	if (runtime_ended_early(rt))
		return 0;
	runtime_resume(rt);
	return loop_wait_readable(rt, fd);
}

int runtime_checkpoint_name(struct runtime *rt, const char *name)
{
	return checkpoints_name(rt, name);
}

int runtime_checkpoint(struct runtime *rt, enum thaw_reason reason, struct thaw_result *result)
{
	int code;

	/* What the one in flight came to is told first: the new one shall have it. */
	checkpoints_complete(rt);
	loop_tell_outcomes(rt);
	code = reason == THAW_REASON_EXIT ? checkpoints_last(rt, reason, result)
					  : checkpoints_now(rt, reason, result);
	loop_tell_outcomes(rt);
	streams_drain(rt); /* the caller may have something to say about it, too */
	return code;
}

/* ---- Numbers ---- */

void runtime_stats(struct runtime *rt, struct runtime_stats *stats)
{
	*stats = (struct runtime_stats){
		.heap_bytes = js_heap_bytes(rt->engine),
		.turns = rt->turn.count,
		.output_bytes = rt->output.bytes,
		.collections = rt->turn.collections,
		.restore_ns = rt->restored ? rt->restore_ns - process_start_ns : 0,
		.first_turn_ns = rt->first_turn_ns ? rt->first_turn_ns - process_start_ns : 0,
		.restores = rt->blob.restores,
		.turn_stops = rt->midturn.count,
		.stack_bytes_max = rt->midturn.stack_bytes_max,
		.stack_ns_total = rt->midturn.stack_ns_total,
		.failing = rt->failures.failing,
		.failing_ns = rt->failures.failing
				      ? clock_monotonic_ns() - rt->failures.failing_since_ns
				      : 0,
		.failure = rt->failures.text,
		.opened = *thaw_opened(rt->heap),
	};
	thaw_status(rt->heap, &stats->heap);
}
