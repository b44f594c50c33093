/* SPDX-License-Identifier: GPL-2.0-only */
/* embedded.h - VMs for the tests of libthawvm, which have nothing but its interface. */
#ifndef TESTS_EMBED_EMBEDDED_H
#define TESTS_EMBED_EMBEDDED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../vm/embed/thaw_vm.h"

/* NULL: it says why. */
static struct thaw_vm *vm_with(struct thaw_vm_options options)
{
	struct thaw_error error = {0};
	struct thaw_vm *vm;

	options.size = sizeof(options);
	if (thaw_vm_open(&options, &vm, &error))
		printf("# %s\n", error.text);
	return vm;
}

static int run(struct thaw_vm *vm, const char *code, struct thaw_error *error)
{
	return thaw_vm_eval(vm, code, strlen(code), "test.js", 0, NULL, error);
}

static bool gives(struct thaw_vm *vm, const char *name, const char *arguments, const char *wanted)
{
	struct thaw_error error = {0};
	char *json = NULL;
	int code = thaw_vm_call(vm, name, arguments, &json, &error);
	bool good = !code && !strcmp(json, wanted);

	if (!good)
		printf("# %s: %d %s %s\n", name, code, code ? error.text : json, wanted);
	free(json);
	return good;
}

#endif
