// SPDX-License-Identifier: GPL-2.0-only
/*
 * forks MIB RECORDS - VMs of libthawvm (thaw_vm.h) with a heap of some size and what snapshots of it cost. RECORDS is a file that
 * makes it: heap_builder.js. Prints samples as interleave.c reads them.
 */
#define _GNU_SOURCE
#include "bench.h"

#include "../../vm/embed/thaw_vm.h"

#define ROUNDS 41u
#define MANY 1000u

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
