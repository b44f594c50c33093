// SPDX-License-Identifier: GPL-2.0-only
/*
 * forks MIB RECORDS - VMs of libthawvm (thaw_vm.h) with a heap of some size and what snapshots of it cost. RECORDS is a file that
 * makes it: heap_builder.js. Prints samples as interleave.c reads them. Begins itself again as  forks file|image|nothing PATH,
 * for what a process of its own takes.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#include "../../vm/embed/thaw_vm.h"

#define ROUNDS 41u
#define MANY 1000u
#define OPENED 7u

static const char *row;

static void tell(const char *what, double value, const char *unit)
{
	printf("forks: %s\t%s\t%.3f\t%s\n", what, row, value, unit);
}

static void check(int code, const struct thaw_error *error)
{
	if (code < 0)
		die(error->text);
}

static void run(struct thaw_vm *vm, const char *code)
{
	struct thaw_error error;

	check(thaw_vm_eval(vm, code, strlen(code), "forks.js", 0, NULL, &error), &error);
}

static struct thaw_vm *vm_from(struct thaw_vm_snapshot *snapshot)
{
	struct thaw_vm_options options = {.size = sizeof(options), .snapshot = snapshot};
	struct thaw_error error;
	struct thaw_vm *vm;

	check(thaw_vm_open(&options, &vm, &error), &error);
	return vm;
}

static struct thaw_vm_snapshot *snapshot_of(struct thaw_vm *vm)
{
	struct thaw_vm_snapshot *snapshot;
	struct thaw_error error;

	check(thaw_vm_snapshot(vm, &snapshot, &error), &error);
	return snapshot;
}

static double pss_mib(void)
{
	FILE *file = fopen("/proc/self/smaps_rollup", "r");
	char line[200];
	double kib = 0;

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, "Pss:", 4))
			kib = atof(line + 4);
	if (file)
		fclose(file);
	return kib / 1024;
}

static char *text_of(const char *path)
{
	FILE *file = fopen(path, "r");
	char *text = calloc(1, 1 << 20);

	if (!file || !text || !fread(text, 1, (1 << 20) - 1, file))
		die("cannot read the builder");
	fclose(file);
	return text;
}

static void fork_and_go_back(struct thaw_vm_snapshot *snapshot)
{
	double fork[ROUNDS], back[ROUNDS], again[ROUNDS], begun;
	struct thaw_error error;

	for (unsigned i = 0; i < ROUNDS; i++) {
		struct thaw_vm *vm;
		struct thaw_vm_snapshot *own;

		begun = now_us();
		vm = vm_from(snapshot);
		run(vm, "lookup(1)");
		fork[i] = now_us() - begun;
		run(vm, "for (let i = 0; i < 100; i++) lookup(i * 3)");
		begun = now_us();
		own = snapshot_of(vm);
		again[i] = now_us() - begun;
		begun = now_us();
		check(thaw_vm_rollback(vm, snapshot, &error), &error);
		back[i] = now_us() - begun;
		thaw_vm_snapshot_drop(own);
		thaw_vm_close(vm);
	}
	tell("a fork, and its first call", spread_of(fork, ROUNDS).median / 1e3, "ms");
	tell("a snapshot after 100 lookups", spread_of(again, ROUNDS).median / 1e3, "ms");
	tell("back to the one before", spread_of(back, ROUNDS).median / 1e3, "ms");
}

static void many(struct thaw_vm_snapshot *snapshot)
{
	static struct thaw_vm *forks[MANY];
	double before = pss_mib(), begun = now_us();

	for (unsigned i = 0; i < MANY; i++) {
		forks[i] = vm_from(snapshot);
		run(forks[i], "lookup(1)");
	}
	tell("forks a second", MANY / ((now_us() - begun) / 1e6), "/s");
	tell("memory of 1,000 forks", pss_mib() - before, "MiB");
	for (unsigned i = 0; i < MANY; i++)
		thaw_vm_close(forks[i]);
}

/* ---- Of files: in this process, and in one of its own ---- */

static struct thaw_vm *vm_of_image(const char *path)
{
	struct thaw_vm_options options = {.size = sizeof(options), .image = path};
	struct thaw_error error;
	struct thaw_vm *vm;

	check(thaw_vm_open(&options, &vm, &error), &error);
	return vm;
}

static struct thaw_vm *vm_of_file(const char *path)
{
	struct thaw_vm_snapshot *opened;
	struct thaw_error error;
	struct thaw_vm *vm;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	check(thaw_vm_snapshot_open_fd(fd, NULL, 0, &opened, &error), &error);
	close(fd);
	vm = vm_from(opened);
	thaw_vm_snapshot_drop(opened);
	return vm;
}

static double to_first_call(struct thaw_vm *(*open_it)(const char *path), const char *path)
{
	double taken[OPENED], begun;

	for (unsigned i = 0; i < OPENED; i++) {
		struct thaw_vm *vm;

		begun = now_us();
		vm = open_it(path);
		run(vm, "lookup(1)");
		taken[i] = now_us() - begun;
		thaw_vm_close(vm);
	}
	return spread_of(taken, OPENED).median / 1e3;
}

static double in_a_process(const char *how, const char *path)
{
	double taken[OPENED], begun;

	for (unsigned i = 0; i < OPENED; i++) {
		char *const arguments[] = {"forks", (char *)how, (char *)path, NULL};
		int status;
		pid_t child;

		begun = now_us();
		if (posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environ) ||
		    waitpid(child, &status, 0) != child || status)
			die("a process of its own has failed");
		taken[i] = now_us() - begun;
	}
	return spread_of(taken, OPENED).median / 1e3;
}

static void of_files(struct thaw_vm_snapshot *snapshot, const void *data, size_t bytes)
{
	char room[] = "/tmp/thaw-forks-XXXXXX", file[64], image[64];
	struct thaw_error error;
	struct stat status;
	double begun;
	int fd;

	if (!mkdtemp(room))
		die("no directory");
	snprintf(file, sizeof(file), "%s/bytes", room);
	snprintf(image, sizeof(image), "%s/an.thaw", room);
	fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	for (size_t at = 0; at < bytes;) {
		ssize_t wrote = write(fd, (const char *)data + at, bytes - at);

		if (wrote <= 0)
			die("the file cannot be written");
		at += (size_t)wrote;
	}
	close(fd);
	begun = now_us();
	check(thaw_vm_snapshot_write(snapshot, image, &error), &error);
	tell("written as an image, durable", (now_us() - begun) / 1e3, "ms");
	if (!stat(image, &status))
		tell("the image", (double)status.st_blocks / 2, "KiB");
	tell("a file's bytes to the first call", to_first_call(vm_of_file, file), "ms");
	tell("an image to the first call", to_first_call(vm_of_image, image), "ms");
	tell("a process that opens the file, to the first call", in_a_process("file", file), "ms");
	tell("a process that opens the image, to the first call", in_a_process("image", image),
	     "ms");
	tell("a process that does nothing", in_a_process("nothing", image), "ms");
	unlink(file);
	unlink(image);
	rmdir(room);
}

static int as_a_process(const char *how, const char *path)
{
	if (!strcmp(how, "file"))
		run(vm_of_file(path), "lookup(1)");
	else if (!strcmp(how, "image"))
		run(vm_of_image(path), "lookup(1)");
	return 0;
}

/* After each turn a snapshot, and what changed since the one before. */
static void turns(struct thaw_vm *vm)
{
	struct thaw_vm_snapshot *last, *next;
	double taken[ROUNDS], written[ROUNDS], size[ROUNDS], begun;
	struct thaw_error error;
	size_t bytes;
	void *data;

	run(vm, "var turns = 0");
	last = snapshot_of(vm);
	for (unsigned i = 0; i < ROUNDS; i++) {
		run(vm, "turns++; table[0][turns].name = 'turn ' + turns");
		begun = now_us();
		next = snapshot_of(vm);
		taken[i] = now_us() - begun;
		begun = now_us();
		check(thaw_vm_snapshot_bytes(next, last, &data, &bytes, &error), &error);
		written[i] = now_us() - begun;
		size[i] = (double)bytes;
		free(data);
		thaw_vm_snapshot_drop(last);
		last = next;
	}
	thaw_vm_snapshot_drop(last);
	tell("a snapshot after a turn", spread_of(taken, ROUNDS).median / 1e3, "ms");
	tell("what a turn changed, written", spread_of(written, ROUNDS).median / 1e3, "ms");
	tell("what a turn changed", spread_of(size, ROUNDS).median, "bytes");
}

static void as_bytes(struct thaw_vm_snapshot *snapshot)
{
	struct thaw_vm_snapshot *opened;
	struct thaw_error error;
	struct thaw_vm *vm;
	double begun = now_us();
	size_t bytes;
	void *data;

	check(thaw_vm_snapshot_bytes(snapshot, NULL, &data, &bytes, &error), &error);
	tell("written whole", (now_us() - begun) / 1e3, "ms");
	tell("bytes whole", (double)bytes / 1024, "KiB");
	of_files(snapshot, data, bytes);
	begun = now_us();
	check(thaw_vm_snapshot_open(data, bytes, NULL, 0, &opened, &error), &error);
	vm = vm_from(opened);
	run(vm, "lookup(1)");
	tell("from bytes to the first call", (now_us() - begun) / 1e3, "ms");
	free(data);
	thaw_vm_snapshot_drop(opened);
	turns(vm);
	thaw_vm_close(vm);
}

int main(int argc, char **argv)
{
	struct thaw_vm_snapshot *snapshot;
	struct thaw_vm *vm;
	char code[64], name[64];
	double begun;

	if (argc != 3)
		die("MIB RECORDS");
	if (!strtol(argv[1], NULL, 10))
		return as_a_process(argv[1], argv[2]);
	snprintf(name, sizeof(name), "%s MiB", argv[1]);
	row = name;
	vm = vm_from(NULL);
	run(vm, text_of(argv[2]));
	snprintf(code, sizeof(code), "build(%s * 1048576)", argv[1]);
	run(vm, code);
	begun = now_us();
	snapshot = snapshot_of(vm);
	tell("the first snapshot", (now_us() - begun) / 1e3, "ms");
	fork_and_go_back(snapshot);
	many(snapshot);
	as_bytes(snapshot);
	thaw_vm_snapshot_drop(snapshot);
	thaw_vm_close(vm);
	return 0;
}
