/* SPDX-License-Identifier: MIT */
/*
 * fuzz_state.c - fuzz target: the small state of a restored VM. The input is a struct control and a
 * state blob, decoded, encoded again, and put beside a sound heap and opened by the runtime, which
 * runs a turn of it.
 *
 * The programs behind the blobs are made when the process starts: one between turns, one that was
 * stopped in the middle of a turn. Each input that decodes is committed to a copy of that image and
 * opened in a child process: a VM leaves threads, signal handlers and mappings behind, and what goes
 * on for ever in the VM is ended there without harm. Whatever the blob says, the VM returns, throws,
 * or is stopped by the sandbox; the child ends in no other way.
 *
 * A program that was stopped in the middle of a turn goes on by jumping to where its native stack
 * says. So whose blob it is decides, not what is in it: without a right MAC and without --trust it must
 * be refused. With either, the stack is the one that was made here, and everything beside it may be
 * anything.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../vm/js/state/blob.h"
#include "../../vm/js/engine/state.h"
#include "../../vm/policy/key.h"
#include "../../vm/policy/runtime.h"
#include "fuzz.h"
#include "image/image.h"

#define MAX_BYTES (64u << 10)
#define BLOB_FIXED 120u /* see blob.c */
#define TURN_FIXED 64u
#define TICK_MS 10
#define TICKS_VM 3
#define TICKS_MAX 3000 /* outside the VM: that is nowhere to be so long */

enum {
	KEEP = 1,   /* magic, version, lengths */
	TRUST = 2,  /* as --trust */
	SIGN = 4,   /* with the user's key */
	SCRIPT = 8, /* go on as thaw run does; else evaluate something, as thaw eval */
	POKE = 16,  /* and change a word of the heap */
};

struct control {
	uint8_t flags;
	uint8_t zero[3];
	uint32_t poke_at, poke[2];
};

struct base { /* an image made here, and the blob of its newest generation */
	char image[128];
	uint64_t generation;
	uint8_t *blob;
	size_t bytes;
};

static struct base between, middle;
static char script_path[128];

/* ---- What a child tells its parent */

/* Clang's counters of edges, which are what libFuzzer sees of an input: not there without it. */
extern uint8_t __start___sancov_cntrs[] __attribute__((weak));
extern uint8_t __stop___sancov_cntrs[] __attribute__((weak));

static struct shared {
	uint64_t decoded, opened, ended, endless; /* inputs that got so far */
	uint64_t edges;
	uint8_t counters[1 << 17];
} * shared;

static size_t counters_bytes(void)
{
	size_t bytes = __start___sancov_cntrs
			       ? (size_t)(__stop___sancov_cntrs - __start___sancov_cntrs)
			       : 0;

	return bytes < sizeof(shared->counters) ? bytes : sizeof(shared->counters);
}

static _Noreturn void child_exit(void)
{
	shared->edges = counters_bytes();
	if (shared->edges)
		memcpy(shared->counters, __start___sancov_cntrs, shared->edges);
	_exit(0);
}

static void shared_take(void)
{
	for (size_t i = 0; i < shared->edges; i++)
		__start___sancov_cntrs[i] |= shared->counters[i];
	shared->edges = 0;
}

static void shared_tell(void)
{
	if (shared->decoded)
		fprintf(stderr,
			"fuzz: state: %llu blobs decoded, %llu opened, of which %llu ended and "
			"%llu would not\n",
			(unsigned long long)shared->decoded, (unsigned long long)shared->opened,
			(unsigned long long)shared->ended, (unsigned long long)shared->endless);
}

/* ---- The programs */

static const char script[] = "import { on } from 'thaw';\n"
			     "globalThis.list = [1, { a: 'b' }, () => 2];\n"
			     "on('restore', () => { globalThis.restored = true; });\n"
			     "setTimeout(() => {}, 20);\n"
			     "let n = 0;\n"
			     "Promise.reject(1).catch(() => {});\n"
			     "if (list.length) for (;;) n = f(n);\n"
			     "function f(n) { return n + 1; }\n";

static struct runtime_options runtime_options(const char *image)
{
	return (struct runtime_options){.image = image, .quiet = true};
}

static void make_between(void)
{
	static const char made[] = "globalThis.list = [1, { a: 'b' }, () => 2]; list.length";
	struct runtime_options options = runtime_options(between.image);
	struct runtime *runtime;
	struct thaw_error error;
	struct runtime_answer answer;

	if (runtime_open(&options, &runtime, &error))
		fuzz_fail("%s", error.text);
	runtime_eval(runtime, made, strlen(made), "make", &answer);
	free(answer.text);
	if (runtime_checkpoint(runtime, THAW_REASON_REQUEST, NULL))
		fuzz_fail("no checkpoint of the program between turns");
	runtime_close(runtime);
}

/* Goes on until it is killed. */
static void make_middle(void)
{
	struct runtime_options options = runtime_options(middle.image);
	struct runtime *runtime;
	struct thaw_error error;

	options.script = script_path;
	options.every_ns = 20000000;
	if (runtime_open(&options, &runtime, &error))
		fuzz_fail("%s", error.text);
	runtime_start(runtime);
	fuzz_fail("the program that does not end has ended");
}

/* The newest generation's blob; false if there is none of that kind yet. */
static bool base_read(struct base *base, enum thaw_kind kind)
{
	const struct image_options options = {.path = base->image, .read_only = true};
	struct thaw_error error, fallback;
	struct image *image;
	void *blob = NULL;
	bool found;

	if (image_open(&options, &image, &fallback, &error))
		return false;
	base->generation = image_opened(image)->number;
	found = base->generation && image_opened(image)->kind == kind &&
		!image_read_state(image, &blob, &base->bytes, &error) && base->bytes >= BLOB_FIXED;
	image_close(image);
	base->blob = blob;
	return found;
}

static int child_wait(pid_t child)
{
	int status = -1;

	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

static void bases_make(void)
{
	const struct timespec pause = {.tv_nsec = 50000000};
	char key[128];
	pid_t child;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		fuzz_fail("no memory");
	atexit(shared_tell);
	snprintf(between.image, sizeof(between.image), "%s", fuzz_path("between"));
	snprintf(middle.image, sizeof(middle.image), "%s", fuzz_path("middle"));
	snprintf(script_path, sizeof(script_path), "%s", fuzz_path("program.mjs"));
	snprintf(key, sizeof(key), "%s", fuzz_path("key"));
	setenv("THAW_KEY", key, 1);
	fuzz_write_file(script_path, (const uint8_t *)script, sizeof(script) - 1);
	child = fork();
	if (!child) {
		make_between();
		_exit(0);
	}
	if (child_wait(child) || !base_read(&between, THAW_KIND_PORTABLE))
		fuzz_fail("no program between turns");
	child = fork();
	if (!child) {
		make_middle();
		_exit(1);
	}
	for (int tries = 0; !base_read(&middle, THAW_KIND_BOUND); tries++) {
		if (tries > 600)
			fuzz_fail("no program in the middle of a turn");
		clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	}
	kill(child, SIGKILL);
	child_wait(child);
	free(middle.blob); /* it may have gone on since */
	if (!base_read(&middle, THAW_KIND_BOUND))
		fuzz_fail("no program in the middle of a turn");
}

static void bases_need(void)
{
	if (!middle.blob)
		bases_make();
}

/* ---- One input */

static uint32_t get32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, 4);
	return value;
}

static void put32(uint8_t *at, uint32_t value)
{
	memcpy(at, &value, 4);
}

/* Where the turn's part begins, as far as the lengths can be believed; `bytes` if there is none. */
static size_t turn_at(const uint8_t *blob, size_t bytes)
{
	size_t at = BLOB_FIXED + (size_t)get32(blob + 80);

	if (!(get32(blob + 20) & JS_BLOB_MID_TURN))
		return bytes;
	for (uint32_t names = get32(blob + 84); names && at < bytes; names--)
		at += 1 + (size_t)blob[at];
	return at > bytes ? bytes : at;
}

/* What lies where in the turn's part, if it is whole. */
static bool turn_is_whole(const uint8_t *blob, size_t bytes, size_t at, size_t *stack,
			  size_t *stack_bytes)
{
	uint64_t words;

	if (at > bytes || bytes - at < TURN_FIXED + JS_BLOB_MAC_BYTES)
		return false;
	memcpy(&words, blob + at + 56, 8);
	*stack = at + TURN_FIXED + (size_t)get32(blob + at + 52) * 12;
	if (*stack > bytes || words > bytes - *stack)
		return false;
	*stack_bytes = words;
	return *stack + words + JS_BLOB_MAC_BYTES == bytes;
}

/*
 * `blob` has room for a stack of ours behind its bytes. Returns whether it may be continued in the
 * middle of a turn: it says so, the stack is ours, and the MAC is right or --trust was given.
 */
static bool blob_fix(uint8_t *blob, size_t *blob_bytes, const struct control *control)
{
	size_t bytes = *blob_bytes;
	size_t at, stack, stack_bytes, ours, ours_bytes;
	size_t our_turn = turn_at(middle.blob, middle.bytes);
	struct thaw_error error;
	struct key key;

	if (!(control->flags & KEEP)) {
		memcpy(blob, "TJSV", 4);
		put32(blob + 4, get32(middle.blob + 4));
	}
	at = turn_at(blob, bytes);
	if (at == bytes || !turn_is_whole(blob, bytes, at, &stack, &stack_bytes))
		return false;
	if (!turn_is_whole(middle.blob, middle.bytes, our_turn, &ours, &ours_bytes))
		fuzz_fail("this target does not know the blob's layout any more");
	memcpy(blob + at, middle.blob + our_turn, 20); /* the build */
	memmove(blob + stack + ours_bytes, blob + bytes - JS_BLOB_MAC_BYTES, JS_BLOB_MAC_BYTES);
	memcpy(blob + stack, middle.blob + ours, ours_bytes);
	memcpy(blob + at + 56, &(uint64_t){ours_bytes}, 8);
	bytes = *blob_bytes = stack + ours_bytes + JS_BLOB_MAC_BYTES;
	if (key_load(false, &key, &error))
		fuzz_fail("%s", error.text);
	bytes -= JS_BLOB_MAC_BYTES;
	if (control->flags & SIGN)
		key_mac(&key, blob, bytes, blob + bytes);
	return control->flags & TRUST || key_matches(&key, blob, bytes, blob + bytes);
}

/* What was decoded and is encoded again is the same, and so is that once more. */
static void blob_again(const struct js_blob *decoded)
{
	struct js_blob again;
	struct thaw_error error;
	size_t first_bytes, second_bytes;
	void *first = js_blob_encode(decoded, &first_bytes), *second;

	if (!first)
		fuzz_fail("no memory to encode a blob of %zu bytes of stack",
			  decoded->turn.stack_bytes);
	if (decoded->flags & JS_BLOB_MID_TURN)
		memset((uint8_t *)first + first_bytes - JS_BLOB_MAC_BYTES, 0, JS_BLOB_MAC_BYTES);
	if (js_blob_decode(first, first_bytes, &again, &error))
		fuzz_fail("what was encoded cannot be decoded: %s", error.text);
	second = js_blob_encode(&again, &second_bytes);
	if (second && (again.flags & JS_BLOB_MID_TURN))
		memset((uint8_t *)second + second_bytes - JS_BLOB_MAC_BYTES, 0, JS_BLOB_MAC_BYTES);
	if (!second || first_bytes != second_bytes || memcmp(first, second, first_bytes))
		fuzz_fail("a blob was decoded into another one");
	js_blob_clear(&again);
	free(first);
	free(second);
}

/* Into a new generation with the base's pages. */
static void base_commit(const struct base *base, const char *path, const uint8_t *blob,
			size_t bytes, bool turn)
{
	struct image_options options = {.path = path,
					.generation = base->generation,
					.retain = 2,
					.engine = js_engine_identity,
					.page_bytes = 4096};
	struct thaw_error error = {0}, fallback;
	struct thaw_generation generation;
	struct commit *commit;
	struct image *image;

	if (image_open(&options, &image, &fallback, &error))
		fuzz_fail("%s", error.text);
	generation = *image_opened(image);
	generation.kind = turn ? THAW_KIND_BOUND : THAW_KIND_PORTABLE;
	if (commit_begin(image, &commit, &error) ||
	    commit_finish(commit, &generation, blob, bytes, &error))
		fuzz_fail("%s", error.text);
	image_close(image);
}

static void file_copy(const char *from, const char *to)
{
	int in = open(from, O_RDONLY | O_CLOEXEC), out;
	struct stat stat;

	out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (in < 0 || out < 0 || fstat(in, &stat))
		fuzz_fail("%s, %s: %s", from, to, strerror(errno));
	for (off_t at = 0; at < stat.st_size;) {
		ssize_t moved = copy_file_range(in, &at, out, NULL, (size_t)(stat.st_size - at), 0);

		if (moved <= 0)
			fuzz_fail("%s: %s", to, strerror(errno));
	}
	close(in);
	close(out);
}

static unsigned ticks, ticks_in_vm;

/* A VM may go on for ever: that is its program's right. Nothing else may. */
static void on_tick(int signal)
{
	(void)signal;
	if (engine_current() && ++ticks_in_vm == TICKS_VM) {
		shared->endless++;
		child_exit();
	}
	if (!engine_current() && ++ticks == TICKS_MAX) {
		static const char text[] = "fuzz: opening or closing a restored VM does not end\n";

		if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
			_exit(2);
		abort();
	}
}

static void watch(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 3};
	const struct itimerspec when = {{0, TICK_MS * 1000000}, {0, TICK_MS * 1000000}};
	struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_ONSTACK | SA_RESTART};
	timer_t timer;

	event._sigev_un._tid = gettid();
	sigaction(SIGRTMIN + 3, &action, NULL);
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &when, NULL))
		fuzz_fail("no timer: %s", strerror(errno));
}

static _Noreturn void child_run(const struct control *control, const char *path, bool turn,
				bool may_continue)
{
	struct runtime_options options = runtime_options(path);
	struct runtime *runtime;
	struct thaw_error error;
	struct runtime_answer answer = {.text = NULL};

	watch();
	options.must_exist = true;
	options.trust = control->flags & TRUST;
	options.script = control->flags & SCRIPT ? script_path : NULL;
	if (runtime_open(&options, &runtime, &error))
		child_exit();
	shared->opened++;
	if (turn && !may_continue && !options.script)
		fuzz_fail("a turn of nobody knows whom was continued");
	if (control->flags & POKE) {
		uint8_t *heap = thaw_base(runtime_heap(runtime));
		size_t size = thaw_size(runtime_heap(runtime));

		memcpy(heap + control->poke_at % (size - 8) / 8 * 8, control->poke, 8);
	}
	if (options.script)
		runtime_run(runtime);
	else
		runtime_eval(runtime, "typeof list + list.length", 25, "fuzz", &answer);
	free(answer.text);
	runtime_close(runtime);
	shared->ended++;
	child_exit();
}

static void heap_run(const struct control *control, const uint8_t *blob, size_t bytes, bool turn,
		     bool may_continue)
{
	const struct base *base = turn ? &middle : &between;
	char path[128], said[128];
	uint8_t text[4096];
	int status;
	pid_t child;

	snprintf(path, sizeof(path), "%s", fuzz_path("image"));
	snprintf(said, sizeof(said), "%s", fuzz_path("said"));
	file_copy(base->image, path);
	base_commit(base, path, blob, bytes, turn);
	child = fork();
	if (!child) {
		int out = open(said, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

		dup2(out, STDOUT_FILENO);
		dup2(out, STDERR_FILENO);
		child_run(control, path, turn, may_continue);
	}
	status = child_wait(child);
	shared_take();
	if (status) {
		fprintf(stderr, "%.*s\n", (int)fuzz_read_file(said, text, sizeof(text)), text);
		fuzz_fail("a restored VM ended with status %#x", status);
	}
}

static void one(const uint8_t *input, size_t size)
{
	struct control control;
	struct js_blob decoded;
	struct thaw_error error;
	uint8_t *blob;
	bool may_continue, turn;
	size_t bytes = size - sizeof(control);

	if (size < sizeof(control) + BLOB_FIXED) {
		if (!js_blob_decode(input, size < BLOB_FIXED ? size : 0, &decoded, &error))
			fuzz_fail("%zu bytes were taken for a blob", size);
		return;
	}
	bases_need();
	memcpy(&control, input, sizeof(control));
	blob = malloc(bytes + middle.bytes);
	if (!blob)
		fuzz_fail("no memory");
	memcpy(blob, input + sizeof(control), bytes);
	may_continue = blob_fix(blob, &bytes, &control);
	blob = realloc(blob, bytes); /* what lies behind is to be found by who reads it */
	if (!blob)
		fuzz_fail("no memory");
	if (!js_blob_decode(blob, bytes, &decoded, &error)) {
		turn = decoded.flags & JS_BLOB_MID_TURN;
		shared->decoded++;
		blob_again(&decoded);
		js_blob_clear(&decoded);
		/* A stack that is not ours must not get as far as to be jumped into. */
		if (turn && !may_continue)
			control.flags &= (uint8_t)~TRUST;
		heap_run(&control, blob, bytes, turn, may_continue);
	}
	free(blob);
}

/* ---- The first inputs, and changes */

static size_t seed_put(uint8_t *bytes, const struct control *control, const void *blob,
		       size_t blob_bytes)
{
	if (blob_bytes > MAX_BYTES - sizeof(*control))
		fuzz_fail("a state of %zu bytes is too long for a seed", blob_bytes);
	memcpy(bytes, control, sizeof(*control));
	memcpy(bytes + sizeof(*control), blob, blob_bytes);
	return sizeof(*control) + blob_bytes;
}

static size_t seed(unsigned number, uint8_t *bytes)
{
	static const struct {
		const struct base *base;
		uint8_t flags;
	} seeds[] = {
		{&between, 0},	   {&between, SCRIPT},	     {&middle, 0},
		{&middle, SIGN},   {&middle, SIGN | SCRIPT}, {&middle, TRUST},
		{&middle, SCRIPT}, {&between, POKE},
	};
	struct control control = {0};

	bases_need();
	if (number >= sizeof(seeds) / sizeof(seeds[0]))
		return 0;
	control.flags = seeds[number].flags;
	return seed_put(bytes, &control, seeds[number].base->blob, seeds[number].base->bytes);
}

static uint64_t hurting_value(uint64_t *random, uint64_t old, size_t size)
{
	const uint64_t values[] = {0,
				   1,
				   2,
				   3,
				   old + 1,
				   old - 1,
				   old + 8,
				   old & ~7ull,
				   fuzz_below(random, 1 << 22) * 8, /* in the heap, perhaps */
				   fuzz_below(random, 1 << 20) * 8,
				   fuzz_below(random, 1 << 18) * 8,
				   fuzz_below(random, 1 << 13) * 8,
				   fuzz_below(random, 256),
				   old - 16,
				   old * 2,
				   old ^ 1ull << fuzz_below(random, 64),
				   size,
				   16,
				   65536,
				   65535,
				   0x7fffffff,
				   0x80000000,
				   0xfffffff0,
				   0x7ff0000000000000,
				   0x7fefffffffffffff,
				   1ull << fuzz_below(random, 64),
				   ~0ull << fuzz_below(random, 64),
				   fuzz_below(random, 32),
				   fuzz_below(random, 1 << 24) * 8,
				   fuzz_next(random)};

	return values[fuzz_below(random, sizeof(values) / sizeof(values[0]))];
}

/* Bytes more or fewer at `at`: what a length says may become true again. */
static size_t lengthen(uint8_t *bytes, size_t size, size_t max, size_t at, uint64_t *random)
{
	size_t count = 1 + fuzz_below(random, 24);

	if (fuzz_below(random, 2)) {
		if (size + count > max)
			return size;
		memmove(bytes + at + count, bytes + at, size - at);
		for (size_t i = 0; i < count; i++)
			bytes[at + i] = (uint8_t)fuzz_next(random);
		return size + count;
	}
	if (count > size - at)
		return size;
	memmove(bytes + at, bytes + at + count, size - at - count);
	return size - count;
}

__attribute__((weak)) size_t LLVMFuzzerMutate(uint8_t *bytes, size_t size, size_t max);

static size_t mutate(uint8_t *bytes, size_t size, size_t max, uint64_t random)
{
	const size_t head = sizeof(struct control);
	struct control *control = (void *)bytes;
	unsigned changes = 1 + !fuzz_below(&random, 3);

	if (size < head + BLOB_FIXED)
		return LLVMFuzzerMutate ? LLVMFuzzerMutate(bytes, size, max) : size;
	while (changes--) {
		size_t turn = turn_at(bytes + head, size - head), at, length, end = BLOB_FIXED;
		uint64_t old = 0, value;

		switch (fuzz_below(&random, 16)) {
		case 0:
			control->flags =
				(uint8_t)(fuzz_next(&random) & (SIGN | TRUST | SCRIPT | POKE));
			control->flags |= !fuzz_below(&random, 8);
			control->poke_at = (uint32_t)fuzz_next(&random);
			value = hurting_value(&random, 1ull << 32, size);
			memcpy(control->poke, &value, 8);
			break;
		case 1:
			size = lengthen(bytes, size, max,
					head + BLOB_FIXED +
						fuzz_below(&random, size - head - BLOB_FIXED),
					&random);
			break;
		case 2:
			if (LLVMFuzzerMutate && !fuzz_below(&random, 8))
				size = LLVMFuzzerMutate(bytes, size, max);
			if (size < head + BLOB_FIXED)
				return size;
			break;
		default: /* a field: of the head, or of the turn's part, before its stack */
			at = 0;
			if (size - head - turn >= TURN_FIXED && fuzz_below(&random, 2)) {
				at = turn;
				end = TURN_FIXED + 12 * (get32(bytes + head + turn + 52) & 7);
			}
			if (end > size - head - at)
				end = size - head - at;
			length = fuzz_below(&random, 4) ? 4 : 8;
			at += head + fuzz_below(&random, end / length) * length;
			memcpy(&old, bytes + at, length);
			value = hurting_value(&random, old, size - head);
			memcpy(bytes + at, &value, length);
		}
	}
	return size;
}

const struct fuzz_target fuzz_state = {
	.name = "state",
	.max_bytes = MAX_BYTES,
	.one = one,
	.mutate = mutate,
	.seed = seed,
};
