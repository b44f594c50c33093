/* SPDX-License-Identifier: MIT */
/*
 * generations.c - a VM's image: which generation it begins from, new ones that are made durable at once or while the VM goes on,
 * and what its program's own checkpoint() comes to, which waits for the next of them. And what an image has, without a VM.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/branch.h"
#include "base/failure.h"
#include "embed.h"

/* ---- Opening ---- */

int generation_find(const struct thaw_vm_options *options, uint64_t *number,
		    struct thaw_error *error)
{
	struct thaw_image *image;
	int code;

	*number = options->generation;
	if (!options->at)
		return 0;
	if (options->generation || !options->image)
		return failure(error, -EINVAL, "`at` names a generation of an image, by itself");
	code = thaw_image_open(options->image, &image, error);
	if (code)
		return code;
	code = thaw_image_find(image, options->at, number, error);
	thaw_image_close(image);
	return code;
}

void generation_notify(void *arg)
{
	struct thaw_vm *vm = arg;

	/* Not while it is only ready: the thread that began it waits for that. */
	if (atomic_load(&vm->generation.writing) && vm->options.notify)
		vm->options.notify(vm->options.arg);
}

/* ---- Making one ---- */

static int begin(struct thaw_vm *vm, const char *name, const void *state, size_t bytes,
		 struct thaw_error *error)
{
	int code = name ? thaw_checkpoint_name(vm->heap, name) : 0;

	for (unsigned i = 0; !code && i < vm->generation.name_count; i++)
		code = thaw_checkpoint_name(vm->heap, vm->generation.names[i]);
	generation_forget_names(vm);
	if (!code)
		code = thaw_checkpoint_begin(vm->heap, THAW_REASON_REQUEST);
	if (code)
		return failure(error, code, "%s", thaw_strerror(code));
	vm->generation.asked = vm->generation.waiter;
	vm->generation.under_way = true;
	if (thaw_checkpoint_wait(vm->heap) == THAW_READY) {
		atomic_store(&vm->generation.writing, true);
		/* If it fails, that is what the poll finds. */
		thaw_checkpoint_capture(vm->heap, THAW_KIND_PORTABLE, state, bytes);
	}
	return 0;
}

static int begin_now(struct thaw_vm *vm, const char *name, struct thaw_error *error)
{
	size_t bytes;
	void *state;
	int code = vm_state(vm, &state, &bytes, error);

	if (!code && !vm->options.image)
		code = failure(error, -EROFS, "the VM has no image");
	if (!code && vm->generation.under_way)
		code = failure(error, -EBUSY, "the checkpoint before is under way");
	if (!code)
		code = begin(vm, name, state, bytes, error);
	free(state);
	return code;
}

int thaw_vm_checkpoint_begin(struct thaw_vm *vm, const char *name, struct thaw_error *error)
{
	int code = vm_hold(vm, error);

	if (code)
		return code;
	code = begin_now(vm, name, error);
	vm_let(vm);
	return code;
}

/* It is over: who in the program waits for it is told when the VM runs next. */
static void note(struct thaw_vm *vm, const struct thaw_result *result)
{
	const unsigned room = sizeof(vm->generation.outcomes) / sizeof(vm->generation.outcomes[0]);

	if (vm->generation.waiter == vm->generation.asked)
		vm->generation.waiter = 0;
	if (!vm->generation.asked && !vm->guest->hears_checkpoints)
		return;
	if (vm->generation.untold == room) /* the last two in one: as the newer one is */
		vm->generation.untold--;
	vm->generation.outcomes[vm->generation.untold++] = (struct guest_outcome){
		.last = vm->generation.asked,
		.waited_for = vm->generation.asked != 0,
		.reason = THAW_REASON_REQUEST,
		.result = *result,
	};
}

static int over(struct thaw_vm *vm, const struct thaw_result *result, uint64_t *generation,
		struct thaw_error *error)
{
	atomic_store(&vm->generation.writing, false);
	vm->generation.under_way = false;
	note(vm, result);
	if (result->code)
		return failure(error, result->code, "%s",
			       result->error.code ? result->error.text
						  : thaw_strerror(result->code));
	if (generation)
		*generation = result->generation.number;
	return 1;
}

static int ask(struct thaw_vm *vm, bool wait, uint64_t *generation, struct thaw_error *error)
{
	struct thaw_result result = {0};

	if (!vm->generation.under_way)
		return failure(error, -ENOENT, "no checkpoint was begun");
	if (wait)
		thaw_checkpoint_wait(vm->heap);
	if (thaw_checkpoint_poll(vm->heap, &result) != THAW_DONE)
		return 0;
	return over(vm, &result, generation, error);
}

static int ask_held(struct thaw_vm *vm, bool wait, uint64_t *generation, struct thaw_error *error)
{
	int code = vm_hold(vm, error);

	if (generation)
		*generation = 0;
	if (code)
		return code;
	code = ask(vm, wait, generation, error);
	vm_let(vm);
	return code;
}

int thaw_vm_checkpoint_poll(struct thaw_vm *vm, uint64_t *generation, struct thaw_error *error)
{
	return ask_held(vm, false, generation, error);
}

int thaw_vm_checkpoint_wait(struct thaw_vm *vm, uint64_t *generation, struct thaw_error *error)
{
	return ask_held(vm, true, generation, error);
}

int thaw_vm_checkpoint(struct thaw_vm *vm, const char *name, uint64_t *generation,
		       struct thaw_error *error)
{
	int code = vm_hold(vm, error);

	if (generation)
		*generation = 0;
	if (code)
		return code;
	code = begin_now(vm, name, error);
	if (!code)
		code = ask(vm, true, generation, error);
	vm_let(vm);
	return code > 0 ? 0 : code;
}

/* ---- What the program asks for ---- */

/* One is being written, which has been captured without that name: it is for the next. */
static int keep_name(struct thaw_vm *vm, const char *name)
{
	char **names = vm->generation.names, *copy;

	if (vm->generation.name_count == THAW_NAMES_MAX)
		return -ENOSPC;
	copy = strdup(name);
	names = copy ? realloc(names, (vm->generation.name_count + 1) * sizeof(*names)) : NULL;
	if (!names) {
		free(copy);
		return -ENOMEM;
	}
	names[vm->generation.name_count++] = copy;
	vm->generation.names = names;
	return 0;
}

void generation_forget_names(struct thaw_vm *vm)
{
	for (unsigned i = 0; i < vm->generation.name_count; i++)
		free(vm->generation.names[i]);
	free(vm->generation.names);
	vm->generation.names = NULL;
	vm->generation.name_count = 0;
}

/* A name is for the next generation, and is given up if that fails. */
int owner_checkpoint(struct runtime *rt, uint64_t waiter, const char *name)
{
	struct thaw_vm *vm = (struct thaw_vm *)rt;
	int code = 0;

	if (!vm->options.image)
		return -EROFS;
	if (name)
		code = vm->generation.under_way ? keep_name(vm, name)
						: thaw_checkpoint_name(vm->heap, name);
	if (!code)
		vm->generation.waiter = waiter;
	return code;
}

bool owner_take_outcome(struct runtime *rt, struct guest_outcome *outcome)
{
	struct thaw_vm *vm = (struct thaw_vm *)rt;

	if (!vm->generation.untold)
		return false;
	*outcome = vm->generation.outcomes[0];
	memmove(vm->generation.outcomes, vm->generation.outcomes + 1,
		--vm->generation.untold * sizeof(*outcome));
	return true;
}

bool thaw_vm_wants_checkpoint(struct thaw_vm *vm)
{
	return vm_sound(vm) && vm->generation.waiter;
}

/* ---- Names ---- */

uint64_t thaw_vm_generation(struct thaw_vm *vm)
{
	struct thaw_status status;

	if (!vm->options.image || vm_mine(vm, NULL))
		return 0;
	thaw_status(vm->heap, &status);
	return status.generation ? status.generation : thaw_opened(vm->heap)->number;
}

/* 0: nobody else is in it until vm_let(). */
static int hold_image(struct thaw_vm *vm, struct thaw_error *error)
{
	int code = vm_hold(vm, error);

	if (code || vm->options.image)
		return code;
	vm_let(vm);
	return failure(error, -EROFS, "the VM has no image");
}

int thaw_vm_tag(struct thaw_vm *vm, const char *name, uint64_t generation, struct thaw_error *error)
{
	int code = hold_image(vm, error);

	if (code)
		return code;
	code = thaw_tag(vm->heap, name, &generation, THAW_TAG_MOVE, error);
	vm_let(vm);
	return code;
}

int thaw_vm_untag(struct thaw_vm *vm, const char *name, struct thaw_error *error)
{
	int code = hold_image(vm, error);

	if (code)
		return code;
	code = thaw_untag(vm->heap, name, error);
	vm_let(vm);
	return code;
}

/* ---- An image without a VM ---- */

/* One block: the list, and the names behind it. */
static int list_generations(const struct thaw_image *image, struct thaw_vm_generation **list,
			    struct thaw_error *error)
{
	const struct thaw_generation *generations;
	const struct thaw_name *names;
	unsigned count = thaw_image_log(image, &generations);
	unsigned named = thaw_image_names(image, &names);
	struct thaw_vm_generation *made =
		malloc((count + 1) * (sizeof(*made) + 1) + named * sizeof(names->name));
	char *text = (char *)(made + count + 1);

	if (!made)
		return failure(error, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < count; i++) {
		const struct thaw_generation *one = &generations[i];

		made[i] = (struct thaw_vm_generation){.number = one->number,
						      .parent = one->parent,
						      .time_ns = one->time_ns,
						      .heap_bytes = one->heap_bytes,
						      .bytes_written = one->bytes_written,
						      .names = text};
		*text = '\0';
		for (unsigned j = 0; j < named; j++)
			if (names[j].generation == one->number) {
				if (text > made[i].names)
					*text++ = ' ';
				text = stpcpy(text, names[j].name);
			}
		text++;
	}
	made[count] = (struct thaw_vm_generation){.names = NULL};
	*list = made;
	return (int)count;
}

int thaw_vm_generations(const char *path, struct thaw_vm_generation **list,
			struct thaw_error *error)
{
	struct thaw_image *image;
	int code = thaw_image_open(path, &image, error);

	*list = NULL;
	if (code)
		return code;
	code = list_generations(image, list, error);
	thaw_image_close(image);
	return code;
}

/* The state of what the options begin from: malloc'ed, NULL: of a fresh VM there is none. */
static int read_state(const struct thaw_vm_options *options, void **state, size_t *bytes,
		      struct thaw_error *error)
{
	struct thaw_image *image = NULL;
	struct thaw_view *view = NULL;
	const void *there = NULL;
	uint64_t number;
	int code = 0;

	*state = NULL;
	*bytes = 0;
	if (options->snapshot) {
		there = thaw_frozen_state(snapshot_frozen(options->snapshot), bytes);
	} else if (options->image) {
		code = thaw_image_open(options->image, &image, error);
		if (code == -ENOENT)
			return 0;
		if (!code)
			code = generation_find(options, &number, error);
		if (!code)
			code = thaw_view_open(image, number, &view, error);
		if (!code)
			there = thaw_view_state(view, bytes);
		else if (code == THAW_ENOGEN && !number && !options->at)
			code = 0; /* an image without a generation */
	}
	if (!code && there) {
		*state = malloc(*bytes + 1);
		if (*state)
			memcpy(*state, there, *bytes);
		else
			code = failure(error, -ENOMEM, "out of memory");
	}
	thaw_view_close(view);
	thaw_image_close(image);
	return code;
}

int thaw_vm_missing(const struct thaw_vm_options *given, char ***names, struct thaw_error *error)
{
	struct thaw_vm_options options;
	struct js_blob blob = {0};
	size_t bytes;
	void *state;
	int code = vm_options_copy(given, &options, error);

	*names = NULL;
	if (!code)
		code = read_state(&options, &state, &bytes, error);
	if (code)
		return code;
	if (state)
		code = js_blob_decode(state, bytes, &blob, error);
	if (!code)
		code = functions_missing(&options, &blob, names, error);
	js_blob_clear(&blob);
	free(state);
	return code;
}
