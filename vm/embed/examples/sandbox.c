/* SPDX-License-Identifier: MIT */
/*
 * sandbox.c - runs a script that somebody else wrote, with one function of ours, 64 MiB of memory and a tenth of a second
 * for each call; then calls the script's function main() with the rest of the command line.
 *
 *	cc sandbox.c -o sandbox $(pkg-config --cflags --libs thawvm)
 *	echo 'function main(a, b) { console.log(a, b); return [sum(1, 2), a + b] }' >script.js
 *	./sandbox script.js Ada Bob
 */
#include <stdio.h>
#include <stdlib.h>

#include <thaw_vm.h>

/* For the script: the sum of its arguments. */
static thaw_vm_value sum(struct thaw_vm *vm, void *arg, uint64_t ticket, unsigned count,
			 const thaw_vm_value *arguments)
{
	double total = 0;

	(void)arg, (void)ticket;
	if (!count)
		return thaw_vm_throw(vm, "TypeError", "sum() takes numbers");
	for (unsigned i = 0; i < count; i++)
		total += thaw_vm_to_number(vm, arguments[i]);
	return thaw_vm_number(vm, total);
}

static void print(void *arg, int fd, const char *text, size_t bytes)
{
	(void)arg;
	fwrite(text, 1, bytes, fd == 2 ? stderr : stdout);
}

/* Evaluates the file's text. */
static int run_file(struct thaw_vm *vm, const char *path, struct thaw_error *error)
{
	FILE *file = fopen(path, "r");
	char *text = NULL;
	size_t room = 0;
	ssize_t bytes = file ? getdelim(&text, &room, 0, file) : -1;
	int code = -1;

	if (bytes >= 0)
		code = thaw_vm_eval(vm, text, (size_t)bytes, path, 0, NULL, error);
	else
		snprintf(error->text, sizeof(error->text), "cannot read %s", path);
	if (file)
		fclose(file);
	free(text);
	return code;
}

/* Calls main() with texts, and prints what it gives, or what its promise comes to, as JSON. */
static int run_main(struct thaw_vm *vm, unsigned count, char **texts, struct thaw_error *error)
{
	thaw_vm_value arguments[16], global = thaw_vm_global(vm), function, given = 0, result = 0;
	char *json = NULL;
	int code;

	for (unsigned i = 0; i < count; i++)
		arguments[i] = thaw_vm_string(vm, texts[i], SIZE_MAX);
	code = thaw_vm_get(vm, global, "main", &function, error);
	if (!code)
		code = thaw_vm_apply(vm, function, 0, count, arguments, &given, error);
	if (!code)
		code = thaw_vm_await(vm, given, UINT64_MAX, &result, error);
	if (!code)
		code = thaw_vm_to_json(vm, result, &json, error);
	if (!code)
		puts(json);
	free(json);
	/* Before the VM is closed nobody has to: the handles go with it. But a VM that lives on keeps what has a handle. */
	thaw_vm_free(vm, result);
	thaw_vm_free(vm, given);
	thaw_vm_free(vm, function);
	thaw_vm_free(vm, global);
	for (unsigned i = 0; i < count; i++)
		thaw_vm_free(vm, arguments[i]);
	return code;
}

int main(int count, char **arguments)
{
	static const struct thaw_vm_function functions[] = {{"sum", sum, NULL, 0}};
	const struct thaw_vm_options options = {
		.size = sizeof(options),
		.max_bytes = 64 << 20,
		.turn_ns = 100000000,
		.functions = functions,
		.function_count = 1,
		.log = print,
	};
	struct thaw_error error = {0};
	struct thaw_vm *vm;
	int code;

	if (count < 2 || count > 18) {
		fputs("usage: sandbox FILE [TEXT...]\n", stderr);
		return 2;
	}
	code = thaw_vm_open(&options, &vm, &error);
	if (!code)
		code = run_file(vm, arguments[1], &error);
	if (!code)
		code = run_main(vm, (unsigned)count - 2, arguments + 2, &error);
	if (code)
		fprintf(stderr, "sandbox: %s\n", error.text);
	thaw_vm_close(vm);
	return code != 0;
}
