/* SPDX-License-Identifier: MIT */
/*
 * agent.c - a program that an agent writes step by step: each step of standard input, a line of JavaScript, is tried in a fork,
 * and kept if it does not throw. What was kept becomes durable in an image while the next step is read; after a crash the same
 * command goes on from there.
 *
 *	cc agent.c -o agent $(pkg-config --cflags --libs thawvm)
 *	printf 'n = 20\nn += undefined_name\nn += 1\nn * 2\n' | ./agent work.thaw
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <thaw_vm.h>

static int fail(struct thaw_vm *vm, const char *what, const struct thaw_error *error)
{
	fprintf(stderr, "agent: %s: %s\n", what, error->text);
	thaw_vm_close(vm);
	return 1;
}

/* In a VM of its own that begins as this one, for at most a second: what would become of the step? */
static int try_step(struct thaw_vm *vm, const char *step, struct thaw_error *error)
{
	struct thaw_vm_options options = {.size = sizeof(options), .turn_ns = 1000000000};
	struct thaw_vm *fork = NULL;
	int code = thaw_vm_snapshot(vm, &options.snapshot, error);

	if (!code)
		code = thaw_vm_open(&options, &fork, error);
	if (!code)
		code = thaw_vm_eval(fork, step, SIZE_MAX, "step", 0, NULL, error);
	thaw_vm_close(fork);
	thaw_vm_snapshot_drop(options.snapshot);
	return code;
}

/* ... and then in the VM itself. Prints what it gives. */
static int keep_step(struct thaw_vm *vm, const char *step, struct thaw_error *error)
{
	thaw_vm_value result = 0;
	char *text = NULL;
	int code = thaw_vm_eval(vm, step, SIZE_MAX, "step", 0, &result, error);

	if (code)
		return code;
	text = thaw_vm_to_string(vm, result, NULL);
	printf("%s\n", text ? text : "?");
	free(text);
	thaw_vm_free(vm, result);
	return 0;
}

/* A checkpoint of this step, once that of the step before is done. */
static int make_durable(struct thaw_vm *vm, struct thaw_error *error)
{
	int code = thaw_vm_checkpoint_wait(vm, NULL, error);

	if (code < 0 && code != -ENOENT) /* none was begun */
		return code;
	return thaw_vm_checkpoint_begin(vm, NULL, error);
}

int main(int count, char **arguments)
{
	struct thaw_vm_options options = {.size = sizeof(options), .max_bytes = 256 << 20};
	struct thaw_error error = {0};
	struct thaw_vm *vm = NULL;
	char step[4096];

	if (count != 2) {
		fputs("usage: agent IMAGE\n", stderr);
		return 2;
	}
	options.image = arguments[1];
	if (thaw_vm_open(&options, &vm, &error))
		return fail(vm, options.image, &error);
	while (fgets(step, sizeof(step), stdin)) {
		step[strcspn(step, "\n")] = '\0';
		if (try_step(vm, step, &error)) {
			printf("not kept: %s\n", error.text);
			continue;
		}
		if (keep_step(vm, step, &error) || make_durable(vm, &error))
			return fail(vm, step, &error);
	}
	thaw_vm_close(vm); /* waits for the last checkpoint */
	return 0;
}
