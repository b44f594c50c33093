// SPDX-License-Identifier: MIT
/*
 * script IMAGE EVERY-MS SCRIPT - runs a program as `thaw run --every` does; with IMAGE "-", which the command does not have,
 * without an image. An image that is there is removed first. The program prints its samples for interleave itself.
 */
#define _GNU_SOURCE
#include <unistd.h>

#include "bench.h"
#include "../../vm/policy/runtime.h"

int main(int argc, char **argv)
{
	struct runtime_options options = {0};
	struct thaw_error error = {0};
	struct runtime *runtime;
	int code;

	if (argc != 4) {
		fprintf(stderr, "usage: script IMAGE EVERY-MS SCRIPT\n");
		return 2;
	}
	options.script = argv[3];
	options.every_ns = strtoull(argv[2], NULL, 10) * 1000000;
	if (strcmp(argv[1], "-")) {
		options.image = argv[1];
		unlink(argv[1]);
	}
	code = runtime_open(&options, &runtime, &error);
	if (code)
		die(error.text);
	code = runtime_start(runtime);
	return code ? code : runtime_run(runtime);
}
