// SPDX-License-Identifier: GPL-2.0-only
/*
 * Everything a program can hold survives: closures, promises pending across the kill, Map, Set,
 * WeakMap, typed arrays, BigInt, Symbol, generators and async iterators in flight, timers, module
 * state, class instances with private fields, regexes with lastIndex. The program prints one line
 * a tick that depends on all of it; killed again and again, its lines and its end must be those
 * of a run that nobody disturbed.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"

#define TICKS 400

static const char counter_text[] = "export let count = 0\n"
				   "export function increment() { return ++count }\n"
				   "const secret = Symbol('module secret')\n"
				   "export { secret }\n";

static const char program_text[] =
	"import { count, increment, secret } from './counter.js'\n"
	"import settings from './settings.json' with { type: 'json' }\n"
	"\n"
	"const makeCounter = start => { let n = start; return { up: () => ++n, get: () => n } }\n"
	"const closure = makeCounter(10)\n"
	"const map = new Map([[NaN, 0]]), set = new Set(), weak = new WeakMap(), weakSet = new WeakSet()\n"
	"const keys = [{}, {}, {}]\n"
	"const typed = new Float64Array(64), shared = new Uint8Array(typed.buffer), view = new DataView(typed.buffer, 8)\n"
	"let big = 1n\n"
	"const symbol = Symbol('local'), registered = Symbol.for('thaw.test')\n"
	"const bySymbol = { [symbol]: 0, [registered]: 0, [secret]: 0 }\n"
	"function* fibonacci() { let [a, b] = [0, 1]; for (;;) { try { const jump = yield a; if (jump) a += jump } finally { closure.up() } [a, b] = [b, (a + b) % 1000003] } }\n"
	"const generator = fibonacci()\n"
	"class Account { #balance = 0; static #made = 0; constructor() { Account.#made++ } deposit(n) { this.#balance += n; return this.#balance } static made() { return Account.#made } get #double() { return this.#balance * 2 } double() { return this.#double } }\n"
	"class Savings extends Account { #rate = 3; deposit(n) { return super.deposit(n * this.#rate) } }\n"
	"const account = new Savings()\n"
	"const text = 'the cat sat on the mat with the bat '.repeat(20), regex = /(?<word>[cmb]at)\\b/gy, sticky = /\\w+\\s*/y, named = /(?<word>[cmbs]at)/g\n"
	"const words = []\n"
	"const date = new Date(1700000000000)\n"
	"const proxy = new Proxy({ hits: 0 }, { get(t, k) { if (k === 'hit') t.hits++; return t[k] } })\n"
	"const frozen = Object.freeze({ a: [1, 2, 3] })\n"
	"let resolvers = [], settled = []\n"
	"const arrival = () => new Promise(resolve => resolvers.push(resolve))\n"
	"// An async function that waits for a promise that is always pending when a tick ends.\n"
	"async function waiter(name) { for (;;) { try { const got = await arrival(); if (got % 7 === 3) throw new Error('seven ' + got); settled.push(name + got) } catch (e) { settled.push(e.message) } } }\n"
	"waiter('x'); waiter('y')\n"
	"async function* stream() { let i = 0; for (;;) { await arrival(); yield i++ } }\n"
	"let streamed = 0\n"
	";(async () => { for await (const item of stream()) streamed += item })()\n"
	"const everything = Promise.all([arrival(), arrival(), new Promise(resolve => setTimeout(resolve, 40, 'timer'))])\n"
	"let all = 'pending'\n"
	"everything.then(values => { all = values.length })\n"
	"let timeouts = 0, chained = 0\n"
	"setTimeout(function again() { timeouts++; if (timeouts < 10) setTimeout(again, 5) }, 5)\n"
	"const error = new RangeError('kept', { cause: new TypeError('why') })\n"
	"let tick = 0\n"
	"const hash = s => { let h = 5381; for (let i = 0; i < s.length; i++) h = (h * 33 ^ s.charCodeAt(i)) >>> 0; return h }\n"
	"\n"
	"function step() {\n"
	"	tick++\n"
	"	closure.up(); increment()\n"
	"	map.set('k' + tick, { tick }); map.set(NaN, map.get(NaN) + 1); if (tick > 50) map.delete('k' + (tick - 50))\n"
	"	set.add(tick % 17); weak.set(keys[tick % 3], (weak.get(keys[tick % 3]) ?? 0) + tick); weakSet.add(keys[tick % 3])\n"
	"	typed[tick % 64] += tick / 3; view.setInt16(tick % 32, tick); \n"
	"	big = big * 3n + BigInt(tick); if (big > 1n << 400n) big %= 1000000007n ** 3n\n"
	"	bySymbol[symbol] += 1; bySymbol[registered] += 2; bySymbol[secret] += 3\n"
	"	const next = generator.next(tick % 5 === 0 ? tick : 0).value\n"
	"	account.deposit(tick)\n"
	"	const found = named.exec(text); words.push(found ? found.groups.word : named.lastIndex); if (words.length > 8) words.shift()\n"
	"	sticky.exec(text); if (!sticky.lastIndex) words.push('wrap')\n"
	"	date.setUTCMinutes(date.getUTCMinutes() + 7); proxy.hit\n"
	"	for (const resolve of resolvers.splice(0)) resolve(tick)\n"
	"	if (settled.length > 12) settled.splice(0, 6)\n"
	"}\n"
	"const timer = setInterval(() => {\n"
	"	step()\n"
	"	const line = JSON.stringify([tick, closure.get(), count, [...map].length, map.get(NaN), [...set], keys.map(k => weak.get(k)), keys.map(k => weakSet.has(k)),\n"
	"		Array.from(typed), shared[9], String(big), bySymbol[symbol], bySymbol[registered], bySymbol[Symbol.for('thaw.test')], bySymbol[secret], account.double(), Account.made(),\n"
	"		words, named.lastIndex, sticky.lastIndex, date.toISOString(), proxy.hits, Object.isFrozen(frozen), settled, streamed, error.message, error.cause.message, error instanceof RangeError, settings.name])\n"
	"	console.log('tick', tick, hash(line))\n"
	"	if (tick === 400) { clearInterval(timer); setTimeout(() => console.log('end', tick, hash(line), all, timeouts), 200) }\n"
	"}, 3)\n";

FIXTURE(constructs)
{
	char *directory, *script;
	unsigned long expected[TICKS + 1];
	char *end;
};

/* Notes every complete 'tick N HASH' line; false if a line contradicts what was noted before. */
static bool note_ticks(const char *output, unsigned long *noted, unsigned *newest)
{
	for (const char *at = output; (at = strstr(at, "tick ")); at++) {
		unsigned tick;
		unsigned long hash;

		if (!strchr(at, '\n') || sscanf(at, "tick %u %lu", &tick, &hash) != 2 ||
		    tick > TICKS)
			continue;
		if (noted[tick] && noted[tick] != hash)
			return false;
		noted[tick] = hash;
		*newest = tick > *newest ? tick : *newest;
	}
	return true;
}

static char *end_line(const char *output)
{
	const char *at = strstr(output, "end ");

	return at && strchr(at, '\n') ? strndup(at, (size_t)(strchr(at, '\n') - at)) : NULL;
}

/* As the machine chooses, and each other way that pages can arrive and writes be found. */
FIXTURE_VARIANT(constructs)
{
	const char *tracker, *backing;
};
FIXTURE_VARIANT_ADD(constructs, by_default){.tracker = "", .backing = ""};
FIXTURE_VARIANT_ADD(constructs, wp_sync){.tracker = "wp-sync", .backing = "anonymous"};
FIXTURE_VARIANT_ADD(constructs, memfd){.tracker = "", .backing = "memfd"};

FIXTURE_SETUP(constructs)
{
	struct program program;
	unsigned newest = 0;
	char *path, *image, *lacking;

	setenv("THAW_TRACKER", variant->tracker, 1);
	setenv("THAW_BACKING", variant->backing, 1);
	self->directory = support_directory();
	lacking = support_kernel_lacks(self->directory);
	if (lacking) {
		support_remove(self->directory);
		SKIP(return, "%s", lacking);
	}
	self->script = support_format("%s/program.js", self->directory);
	support_write(self->script, program_text);
	path = support_format("%s/counter.js", self->directory);
	support_write(path, counter_text);
	free(path);
	path = support_format("%s/settings.json", self->directory);
	support_write(path, "{ \"name\": \"caf\\u00e9\" }\n");
	free(path);
	image = support_format("%s/undisturbed.thaw", self->directory);
	ASSERT_EQ(0, program_run(&program, NULL,
				 THAW("run", "--image", image, "--every", "0", self->script)))
	{
		TH_LOG("%s%s", program.output, program.errors);
	}
	ASSERT_TRUE(note_ticks(program.output, self->expected, &newest));
	ASSERT_EQ(TICKS, newest);
	self->end = end_line(program.output);
	ASSERT_NE(NULL, self->end);
	program_free(&program);
	free(image);
}
FIXTURE_TEARDOWN(constructs)
{
	free(self->end);
	free(self->script);
	support_remove(self->directory);
}

TEST_F_TIMEOUT(constructs, survive_being_killed, 300)
{
	unsigned seed = (unsigned)time(NULL), newest = 0, kills = 0, stuck = 0;
	char *end = NULL;

	TH_LOG("seed %u", seed);
	srandom(seed);
	while (!end) {
		struct program program =
			program_start(THAW("run", "--every", "10ms", self->script));
		double life = 0.03 + (double)(random() % 120) / 1000;
		unsigned before = newest;

		/* Longer after lives that got nowhere: the disk is slow. */
		if (!program_says_within(&program, "end ", life * (stuck + 1))) {
			program_kill(&program);
			kills++;
		} else {
			EXPECT_EQ(0, program_finish(&program, 60));
		}
		ASSERT_TRUE(note_ticks(program.output, self->expected, &newest))
		{
			TH_LOG("after %u kills: %s%s", kills, program.output, program.errors);
		}
		ASSERT_EQ(NULL, strstr(program.errors, "Error"))
		{
			TH_LOG("%s", program.errors);
		}
		end = end_line(program.output);
		program_free(&program);
		stuck = newest > before ? 0 : stuck + 1;
		ASSERT_TRUE(end || stuck < 30)
		{
			TH_LOG("tick %u still after %u kills", newest, kills);
		}
	}
	TH_LOG("%u kills; %s", kills, end);
	EXPECT_GT(kills, 5);
	EXPECT_EQ(TICKS, newest);
	EXPECT_STREQ(self->end, end);
	free(end);
}

TEST_HARNESS_MAIN
