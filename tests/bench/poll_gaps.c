// SPDX-License-Identifier: MIT
/*
 * poll_gaps - how long the engine runs between two polls, built-in by built-in: samples for interleave.
 *
 * A turn can be stopped where the engine polls, and nowhere else. An alarm each millisecond asks for
 * a poll where it has found the VM, as vm/policy/poll_timer.c does in the end (with an argument: only for one at the next loop
 * edge or call, as that does first); what is shown is the longest time that
 * one took to come, for one call of each built-in on about a million elements or ten megabytes, and
 * by how much that is more than for a quarter of it: 4 is what grows with its work, 16 with its square.
 *
 * The time is the thread's own: what other programs do on the same processors is not in it.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include "../../vm/js/engine/engine.h"

static struct js_engine *engine;
static uint64_t last_poll, longest;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void note_gap(void)
{
	uint64_t now = now_ns();

	if (now - last_poll > longest)
		longest = now - last_poll;
	last_poll = now;
}

static bool on_poll(void *arg)
{
	(void)arg;
	note_gap();
	return false;
}

static bool at_edges_only;

static void on_alarm(int signo, siginfo_t *info, void *context)
{
	(void)signo, (void)info;
	js_poll_soon(engine);
	if (!at_edges_only)
		js_poll_here(engine, context);
}

/* Made before the clock starts; S is 1, or what part of all that. */
static const char setup[] =
	"var N = 1e6 * S, numbers = Array.from({ length: N }, (_, i) => (i * 7919) % N), floats = new Float64Array(numbers)\n"
	"var text = 'the quick brown fox '.repeat(5e5 * S)\n"
	"var objects = Array.from({ length: 3e5 * S }, (_, i) => ({ id: i, name: 'n' + i, list: [i, i + 1] }))\n"
	"var json = JSON.stringify(objects), words = text.split(' ')\n"
	"var power = BigInt(200000 * S), big = 3n ** power, digits = big.toString()\n"
	"var source = 'x = 1;'.repeat(N), bytes = new Uint8Array((64 << 20) * S), holes = new Array(10 * N), x\n";

static const struct {
	const char *name, *code;
} builtins[] = {
	{"a loop of our own (for scale)", "for (let i = 0; i < 3e7 * S; i++);"},
	{"Array sort(comparator), 100,000", "numbers.slice(0, 1e5 * S).sort((a, b) => a - b)"},
	{"Array sort(), 1 M numbers", "numbers.slice().sort()"},
	{"Float64Array sort(), 1 M", "floats.slice().sort()"},
	{"Array join(), 1 M", "numbers.join()"},
	{"Array includes(), 1 M", "numbers.includes(-1)"},
	{"Array concat(), 1 M", "numbers.concat(numbers)"},
	{"indexOf in 10 M holes", "holes.indexOf(1)"},
	{"Array fill, 1 M", "new Array(N).fill(0)"},
	{"Array.from({length}), 1 M", "Array.from({ length: N })"},
	{"new Set(array), 1 M", "new Set(numbers)"},
	{"Math.max(...array), 60,000", "Math.max(...numbers.slice(0, 6e4 * S))"},
	{"Object.fromEntries, 300,000", "Object.fromEntries(objects.map(o => [o.name, o]))"},
	{"JSON.stringify, 300,000 objects", "JSON.stringify(objects)"},
	{"JSON.parse, 14 MB", "JSON.parse(json)"},
	{"split, 10 MB", "text.split(' ')"},
	{"match(/g), 10 MB", "text.match(/\\w+/g)"},
	{"regular expression, 10 MB, not there", "/zebra/.test(text)"},
	{"replaceAll(string), 10 MB", "text.replaceAll('quick', 'slow')"},
	{"replace(/g), 10 MB", "text.replace(/quick/g, 'slow')"},
	{"replace(/g, function), 10 MB", "text.replace(/quick/g, () => 'slow')"},
	{"indexOf, 10 MB, not there", "text.indexOf('zebra')"},
	{"toUpperCase, 10 MB", "text.toUpperCase()"},
	{"normalize('NFD'), 10 MB", "text.normalize('NFD')"},
	{"encodeURIComponent, 10 MB", "encodeURIComponent(text)"},
	{"backtracking (a+)+$, 26", "/^(a+)+$/.test('a'.repeat(S < 1 ? 24 : 26) + 'b')"},
	{"BigInt 3n ** 200000n", "3n ** power"},
	{"BigInt toString, 95,000 digits", "big.toString()"},
	{"BigInt(text), 95,000 digits", "BigInt(digits)"},
	{"compile 6 MB of source", "new Function(source)"},
	{"Uint8Array fill, 64 MiB", "bytes.fill(7)"},
	{"let go of 300,000 objects", "objects = null"},
};

#define BUILTINS (sizeof(builtins) / sizeof(builtins[0]))

static void evaluate(const char *code)
{
	js_value result = js_eval(engine, code, strlen(code), "poll_gaps", JS_EVAL_SCRIPT);

	if (result) {
		js_free(engine, result);
		return;
	}
	fprintf(stderr, "poll_gaps: %s: %s\n", code,
		js_exception_text(engine, js_take_exception(engine)));
	exit(1);
}

static double measure(const char *code)
{
	uint64_t best = UINT64_MAX;

	/* The last one can be done once only. */
	for (int round = 0; round < (strstr(code, "null") ? 1 : 3); round++) {
		longest = 0;
		last_poll = now_ns();
		evaluate(code);
		note_gap();
		if (longest < best)
			best = longest;
	}
	return (double)best / 1e6;
}

static void measure_all(const char *scale, double *times)
{
	evaluate(scale);
	evaluate(setup);
	for (unsigned i = 0; i < BUILTINS; i++)
		times[i] = measure(builtins[i].code);
}

int main(int argc, char **argv)
{
	const struct thaw_options options = {
		.address = JS_HEAP_ADDRESS,
		.max_bytes = JS_HEAP_MAX_BYTES,
		.guard_bytes = JS_HEAP_GUARD_BYTES,
	};
	const struct js_host host = {
		.bindings = (const struct js_host_binding[]){{NULL, NULL}},
		.interrupt = on_poll,
	};
	const struct sigaction action = {.sa_sigaction = on_alarm,
					 .sa_flags = SA_RESTART | SA_ONSTACK | SA_SIGINFO};
	const struct itimerval each_ms = {{0, 1000}, {0, 1000}};
	static double quarter[BUILTINS], whole[BUILTINS];
	struct thaw_error error;
	struct thaw *heap;

	(void)argv;
	at_edges_only = argc > 1;
	if (thaw_open(&options, &heap, &error) || js_engine_create(heap, &host, &engine, &error)) {
		fprintf(stderr, "poll_gaps: %s\n", error.text);
		return 1;
	}
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &each_ms, NULL);
	measure_all("var S = 0.25", quarter);
	measure_all("S = 1", whole);
	for (unsigned i = 0; i < BUILTINS; i++) {
		printf("longest time to a poll\t%s\t%.3f\tms\n", builtins[i].name, whole[i]);
		printf("to that of a quarter of it\t%s\t%.3f\ttimes\n", builtins[i].name,
		       whole[i] / quarter[i]);
	}
	return 0;
}
