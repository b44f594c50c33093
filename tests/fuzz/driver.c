/* SPDX-License-Identifier: MIT */
/*
 * driver.c - one fuzz target as libFuzzer wants it. Compiled once for each, with FUZZ_TARGET.
 *
 * Besides libFuzzer's own arguments:
 *	--seeds DIRECTORY		write the inputs to begin with
 *	--to-text INPUT TEXT		as it is kept in tests/fuzz/regressions/
 *	--from-text TEXT INPUT		and back
 */
#define _GNU_SOURCE
#include <limits.h>
#include <string.h>

#include "fuzz.h"

static const struct fuzz_target *const target = &FUZZ_TARGET;

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t size, size_t max, unsigned seed);

static _Noreturn void tool(char **arguments)
{
	uint8_t *bytes = malloc(target->max_bytes);
	size_t size;
	FILE *file;

	if (!strcmp(arguments[1], "--seeds")) {
		for (unsigned i = 0; (size = target->seed(i, bytes)); i++) {
			char path[PATH_MAX];

			snprintf(path, sizeof(path), "%s/seed-%u", arguments[2], i);
			fuzz_write_file(path, bytes, size);
		}
		exit(0);
	}
	file = fopen(arguments[!strcmp(arguments[1], "--to-text") ? 3 : 2],
		     !strcmp(arguments[1], "--to-text") ? "w" : "r");
	if (!file)
		fuzz_fail("%s, %s: cannot be opened", arguments[2], arguments[3]);
	if (!strcmp(arguments[1], "--to-text")) {
		size = fuzz_read_file(arguments[2], bytes, target->max_bytes);
		fuzz_text_write(file, bytes, size);
	} else {
		size = fuzz_text_read(file, bytes, target->max_bytes);
		fuzz_write_file(arguments[3], bytes, size);
	}
	fclose(file);
	exit(!size);
}

int LLVMFuzzerInitialize(int *count, char ***arguments)
{
	fuzz_limit(target);
	if (*count > 2 && !strncmp((*arguments)[1], "--", 2))
		tool(*arguments);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	if (size <= target->max_bytes)
		target->one(bytes, size);
	return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t size, size_t max, unsigned seed)
{
	return target->mutate(bytes, size, max, seed);
}
