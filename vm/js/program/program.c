/* SPDX-License-Identifier: MIT */
/*
 * program.c - begins, restores, saves and ends a JavaScript program, and is the guest's table of functions.
 *
 * Owns struct program. Called by the policy through javascript_guest, on the owner's thread. What it does on the way
 * to a restored program's first turn is what "process start to first result" measures: nothing that depends on the
 * heap's size, no file but the image, no page of the heap but those that the first turn itself touches.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "js/api/host.h"
#include "js/boot/boot.h"
#include "js/modules/commonjs.h"
#include "js/modules/resolve.h"
#include "js/modules/typescript.h"
#include "js/upgrade/upgrade.h"
#include "program.h"

bool program_trapped(struct program *program)
{
	const char *reason = js_trapped(program->engine);

	if (reason)
		owner_trapped(program->guest.owner, reason);
	return reason != NULL;
}

/* ---- Life ---- */

static struct guest *program_open(struct runtime *owner, const struct guest_options *options,
				  struct thaw *heap)
{
	struct program *program = calloc(1, sizeof(*program));

	if (!program)
		return NULL;
	program->guest.type = &javascript_guest;
	program->guest.owner = owner;
	program->options = *options;
	program->heap = heap;
	return &program->guest;
}

static void program_close(struct guest *guest)
{
	struct program *program = program_of(guest);

	guest->in_turn = false;
	if (program->engine)
		js_engine_free(program->engine);
	program->engine = NULL;
	loop_close(program);
	js_blob_clear(&program->blob);
	free(program->turn.rejections);
	free(program->main.text);
	free(program->loaded.path);
	free(program->evaluation.code);
	free(program->evaluation.name);
	if (!io_holds(program))
		free(program); /* an operation on libuv's threads still knows it */
}

/* What the state says that the owner looks at. */
static void tell_owner(struct program *program)
{
	struct guest *guest = &program->guest;
	struct js_blob *blob = &program->blob;

	guest->common = (struct guest_common){
		.finished = blob->flags & JS_BLOB_FINISHED,
		.exit_code = blob->exit_code,
		.restores = blob->restores,
		.output = blob->output,
		.output_bytes = blob->output_bytes,
	};
	memcpy(guest->common.branch, blob->branch, sizeof(blob->branch));
	memcpy(guest->common.home, blob->home, sizeof(blob->home));
	guest->mid_turn = blob->flags & JS_BLOB_MID_TURN;
	guest->hears_checkpoints = blob->listeners != 0;
	guest->hears_restores = blob->flags & JS_BLOB_AWAITS_RESTORE;
}

static int program_restore(struct guest *guest, const void *state, size_t bytes,
			   struct thaw_error *error)
{
	struct program *program = program_of(guest);
	struct js_host host = host_for(program);
	int code = js_blob_decode(state, bytes, &program->blob, error);

	program->restored = true;
	if (!code && (uint64_t)program->blob.small.memory_pages * 65536 != thaw_size(program->heap))
		code = failure(error, THAW_EDAMAGED,
			       "%s: the state of generation %llu does not fit its heap",
			       program->options.image ? program->options.image : "the image",
			       (unsigned long long)thaw_opened(program->heap)->number);
	if (!code)
		code = js_blob_check_bindings(&program->blob, host.bindings, error);
	if (!code)
		code = js_engine_restore(program->heap, &host, &program->blob.small,
					 &program->engine, error);
	if (!code)
		tell_owner(program);
	return code;
}

static const char *program_turn_refusal(struct guest *guest)
{
	struct program *program = program_of(guest);
	const uint8_t *build_id = js_build_id();

	if (build_id && !js_turn_restorable(program->engine))
		return "and the addresses it needs are taken in this process";
	if (!build_id ||
	    memcmp(program->blob.turn.build_id, build_id, sizeof(program->blob.turn.build_id)))
		return "and only the build that wrote it can go on there";
	return NULL;
}

static int program_restore_turn(struct guest *guest)
{
	struct program *program = program_of(guest);

	return js_turn_restore(program->engine, program->blob.turn.stack,
			       program->blob.turn.stack_bytes);
}

/* As the boot image has been made: what is this process's begins now. */
static int create_from_boot(struct program *program, const struct js_host *host,
			    struct thaw_error *error)
{
	int code = boot_engine(program->heap, host, &program->engine, &program->blob.enter, error);
	js_value result;

	if (code)
		return code;
	result = turn_ask(program, PRELUDE_BEGIN, 0, NULL);
	if (result)
		js_free(program->engine, result);
	return 0;
}

/* The VM and the prelude, evaluated now. */
static int create_anew(struct program *program, const struct js_host *host,
		       struct thaw_error *error)
{
	int code = js_engine_create(program->heap, host, &program->engine, error);
	char *text;

	if (code)
		return code;
	program->blob.enter = host_install_prelude(program->engine);
	if (program->blob.enter)
		return 0;
	if (js_trapped(program->engine))
		return failure(error, -EIO, "the engine trapped in its own prelude: %s",
			       js_trapped(program->engine));
	text = js_exception_text(program->engine, js_take_exception(program->engine));
	failure(error, -EIO, "cannot start JavaScript: %s", text);
	free(text);
	return -EIO;
}

static int create(struct program *program, struct thaw_error *error)
{
	struct js_host host = host_for(program);
	int code;

	if (js_blob_name_bindings(&program->blob, host.bindings))
		return failure(error, -ENOMEM, "out of memory");
	code = create_from_boot(program, &host, error);
	return code == -ENOENT ? create_anew(program, &host, error) : code;
}

static int program_prepare(struct guest *guest, struct thaw_error *error)
{
	struct program *program = program_of(guest);
	int code = program->restored && !program->hosting ? changed_sources_check(program, error)
							  : 0;

	if (!code) /* the clock continues the restored one, and the prelude reads it */
		code = loop_open(program, error);
	if (!code && !program->restored)
		code = create(program, error);
	return code;
}

static int program_load(struct guest *guest, struct thaw_error *error)
{
	struct program *program = program_of(guest);
	struct js_script *script = &program->blob.script;
	struct main_source *main = &program->main;
	struct stat status;
	int reason;

	script->path = realpath(program->options.script, NULL);
	main->text = script->path ? resolve_read_file(script->path, &main->bytes) : NULL;
	if (!main->text || stat(script->path, &status)) {
		reason = errno;
		return failure(error, -reason, "cannot read %s: %s", program->options.script,
			       resolve_strerror(reason));
	}
	script->bytes = main->bytes;
	script->mtime_ns = (int64_t)status.st_mtim.tv_sec * 1000000000 + status.st_mtim.tv_nsec;
	js_source_hash(main->text, main->bytes, script->hash);
	return 0;
}

static void program_start(struct guest *guest)
{
	struct program *program = program_of(guest);
	struct main_source main = program->main;
	struct thaw_error error = {0};

	program->main = (struct main_source){NULL, 0};
	if (commonjs_is(program->blob.script.path, main.text)) {
		free(main.text);
		main.text = commonjs_refuse(program->blob.script.path, &error);
	} else if (typescript_is(program->blob.script.path)) {
		main.text =
			typescript_strip(program->blob.script.path, main.text, &main.bytes, &error);
	}
	if (main.text)
		turn_main(program, main.text, main.bytes, program->blob.script.path);
	else
		turn_main_failed(program, &error);
	free(main.text);
}

static void program_resume_turn(struct guest *guest)
{
	turn_resume(program_of(guest));
}

static js_value number_of(struct program *program, uint64_t value)
{
	return js_number(program->engine, (double)value);
}

/* The names of the generation that was opened; none, if they cannot be read any more. */
static js_value opened_names(struct program *program)
{
	js_value list = js_array(program->engine);
	const struct thaw_name *names = NULL;
	struct thaw_image *image;
	unsigned count = 0;
	uint32_t index = 0;

	if (!thaw_image_of(program->heap, &image, NULL))
		count = thaw_image_names(image, &names);
	for (unsigned i = 0; i < count; i++)
		if (names[i].generation == thaw_opened(program->heap)->number)
			js_set_index(
				program->engine, list, index++,
				js_string(program->engine, names[i].name, strlen(names[i].name)));
	thaw_image_close(image);
	return list;
}

static void program_resume(struct guest *guest, uint64_t first_waiter)
{
	struct program *program = program_of(guest);
	const struct thaw_generation *opened = thaw_opened(program->heap);
	struct js_engine *engine = program->engine;
	uint64_t now_ns = clock_wall_ns();
	js_value info[3];

	info[0] = js_object(engine);
	js_set(engine, info[0], "generation", number_of(program, opened->number));
	js_set(engine, info[0], "ageMs",
	       js_number(engine, now_ns > opened->time_ns
					 ? (double)((now_ns - opened->time_ns) / 1000000)
					 : 0));
	js_set(engine, info[0], "restores", number_of(program, guest->common.restores));
	if (guest->common.forked)
		js_set(engine, info[0], "fork", js_bool(engine, true));
	info[1] = js_object(engine);
	js_set(engine, info[1], "generation", number_of(program, opened->number));
	js_set(engine, info[1], "pages", number_of(program, opened->pages_stored));
	js_set(engine, info[1], "bytes", number_of(program, opened->bytes_written));
	js_set(engine, info[1], "pauseNs", number_of(program, opened->pause_ns));
	js_set(engine, info[1], "durableNs", number_of(program, opened->durable_ns));
	js_set(engine, info[1], "names", opened_names(program));
	info[2] = js_object(engine);
	js_set(engine, info[2], "waiter", number_of(program, first_waiter));
	js_set(engine, info[2], "operation", js_number(engine, program->io.first_number));
	program->synced_generation = opened->number;
	turn_run(program, PRELUDE_RESTORED, 3, info);
}

static void program_tell_outcomes(struct guest *guest)
{
	turn_tell_outcomes(program_of(guest));
}

static bool program_has_work(struct guest *guest)
{
	return loop_has_work(program_of(guest));
}

/* A top-level await of the main module that nothing can settle any more. */
static bool program_unsettled(struct guest *guest)
{
	struct program *program = program_of(guest);
	js_value state;
	bool pending;
	char *text;

	if (!program->blob.script.path)
		return false;
	state = turn_ask(program, PRELUDE_MAIN_STATE, 0, NULL);
	text = state ? js_to_string(program->engine, state, NULL) : NULL;
	pending = text && !strcmp(text, "pending");
	free(text);
	if (state)
		js_free(program->engine, state);
	return pending;
}

static void program_settle(struct guest *guest)
{
	if (program_of(guest)->events.ready)
		io_settle(program_of(guest));
}

static const char *program_name(const struct guest *guest)
{
	return ((const struct program *)guest)->blob.script.path;
}

/* ---- Generations ---- */

static bool program_stoppable(struct guest *guest)
{
	struct program *program = program_of(guest);

	return guest->in_turn && program->turn.step != JS_TURN_NONE && !guest->exiting &&
	       js_turn_stoppable(program->engine);
}

static void note_turn(struct program *program, struct js_turn *turn)
{
	*turn = (struct js_turn){
		.step = program->turn.step,
		.argument_count = program->turn.argument_count,
		.main_failure = program->turn.main_failure,
		.collect = program->turn.collect,
		.rejection_count = program->turn.rejection_count,
		.rejections = program->turn.rejections,
	};
	memcpy(turn->arguments, program->turn.arguments, sizeof(turn->arguments));
	memcpy(turn->build_id, js_build_id(), sizeof(turn->build_id));
	turn->stack = js_turn_stack(program->engine, &turn->stack_bytes);
	program->guest.saved_stack_bytes = turn->stack_bytes;
}

static void *program_save(struct guest *guest, bool changed, size_t *bytes,
			  struct thaw_error *error)
{
	struct program *program = program_of(guest);
	const struct guest_common *common = &guest->common;
	struct js_blob blob;

	(void)error; /* all but memory is there */
	program->blob.small = js_engine_small(program->engine);
	/* A clock that went on while nothing ran is no reason for a generation. */
	if (changed)
		program->blob.clock_ms = loop_clock(program);
	blob = program->blob;
	blob.flags = (blob.flags & JS_BLOB_MODULE) | (common->finished ? JS_BLOB_FINISHED : 0) |
		     (guest->hears_restores ? JS_BLOB_AWAITS_RESTORE : 0) |
		     (common->output ? JS_BLOB_OUTPUT : 0) |
		     (guest->in_turn ? JS_BLOB_MID_TURN : 0);
	blob.exit_code = common->exit_code;
	blob.restores = common->restores;
	memcpy(blob.branch, common->branch, sizeof(blob.branch));
	memcpy(blob.home, common->home, sizeof(blob.home));
	blob.output = common->output;
	blob.output_bytes = common->output_bytes;
	if (guest->in_turn)
		note_turn(program, &blob.turn);
	return js_blob_encode(&blob, bytes);
}

static void program_captured(struct guest *guest, int code)
{
	if (!code)
		files_captured(program_of(guest));
}

static void program_output_settled(struct guest *guest, int code)
{
	files_settled(program_of(guest), code);
}

__attribute__((noreturn)) static void program_abandon(struct guest *guest, const char *why)
{
	js_turn_abandon(program_of(guest)->engine, why);
}

static void program_poll_soon(struct guest *guest)
{
	if (program_of(guest)->engine)
		js_poll_soon(program_of(guest)->engine);
}

static bool program_poll_here(struct guest *guest, void *context)
{
	struct js_engine *engine = program_of(guest)->engine;

	return engine && js_poll_here(engine, context);
}

static void program_poll_next(struct guest *guest)
{
	js_poll_next(program_of(guest)->engine);
}

static void program_hold_back(struct guest *guest, bool hold)
{
	js_hold_collections(program_of(guest)->engine, hold);
}

static const char *program_why_trapped(struct guest *guest)
{
	return js_trapped(program_of(guest)->engine);
}

static void program_numbers(struct guest *guest, struct guest_numbers *numbers)
{
	struct program *program = program_of(guest);

	numbers->heap_bytes = js_heap_bytes(program->engine);
	numbers->collections = program->turn.collections;
}

const struct guest_type javascript_guest = {
	.size = sizeof(struct guest_type),
	.abi = GUEST_ABI,
	.identity = js_engine_identity,
	.address = JS_HEAP_ADDRESS,
	.max_bytes = JS_HEAP_MAX_BYTES,
	.guard_bytes = JS_HEAP_GUARD_BYTES,
	.open = program_open,
	.close = program_close,
	.restore = program_restore,
	.turn_refusal = program_turn_refusal,
	.restore_turn = program_restore_turn,
	.prepare = program_prepare,
	.load = program_load,
	.start = program_start,
	.resume_turn = program_resume_turn,
	.resume = program_resume,
	.run = loop_run,
	.tell_outcomes = program_tell_outcomes,
	.has_work = program_has_work,
	.unsettled = program_unsettled,
	.settle = program_settle,
	.left_threads = io_left_behind,
	.name = program_name,
	.stoppable = program_stoppable,
	.save = program_save,
	.captured = program_captured,
	.output_settled = program_output_settled,
	.abandon = program_abandon,
	.poll_soon = program_poll_soon,
	.poll_next = program_poll_next,
	.wake = loop_wake,
	.hold_back = program_hold_back,
	.trapped = program_why_trapped,
	.evaluate = evaluate_begin,
	.evaluation = evaluate_state,
	.answer = evaluate_answer,
	.forget = evaluate_forget,
	.complaint = evaluate_complaint,
	.ask = evaluate_ask,
	.upgrade = upgrade_program,
	.numbers = program_numbers,
	.poll_here = program_poll_here,
};
