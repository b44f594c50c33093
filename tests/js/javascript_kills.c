// SPDX-License-Identifier: GPL-2.0-only
/*
 * 200 SIGKILLs at random moments against a program with an invariant over all its state. Each
 * restart must continue from the last generation that was reported durable, or a newer one, never
 * an older one; and the invariant holds in every one of them. Some more, against one whose image has
 * larger pages than the kernel.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"

/* One life in so many goes on until a generation of its own is durable: disks may be slow. */
#define PATIENT 4

/*
 * Money moves between accounts; the sum never changes. Every structure holds the same balances in
 * its own way.
 */
static const char program_text[] =
	"import { on, generation } from 'thaw'\n"
	"const N = 2000, map = new Map(), array = [], typed = new Int32Array(N), list = { head: null }\n"
	"for (let i = 0; i < N; i++) {\n"
	"	const account = { id: i, balance: 100, history: [] }\n"
	"	map.set('k' + i, account); array.push(account); typed[i] = 100\n"
	"	list.head = { account, next: list.head }\n"
	"}\n"
	"let moves = 0, seed = 12345\n"
	"const random = n => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) % n\n"
	"function check() {\n"
	"	let a = 0, b = 0, c = 0, d = 0, length = 0\n"
	"	for (const account of map.values()) { a += account.balance; length += account.history.length }\n"
	"	for (let i = 0; i < N; i++) { b += array[i].balance; c += typed[i]; if (array[i].balance !== typed[i]) throw new Error('typed ' + i) }\n"
	"	for (let node = list.head; node; node = node.next) d += node.account.balance\n"
	"	if (a !== N * 100 || b !== a || c !== a || d !== a) throw new Error(`sums ${a} ${b} ${c} ${d}`)\n"
	"	if (length !== Math.min(moves * 2, length)) throw new Error('history')\n"
	"}\n"
	"on('checkpoint', e => console.log(`durable ${e.generation}`))\n"
	"on('restore', e => { check(); console.log(`restored ${e.generation} moves ${moves}`) })\n"
	"console.log('started')\n"
	"setInterval(() => {\n"
	"	for (let i = 0; i < 200; i++) {\n"
	"		const from = array[random(N)], to = map.get('k' + random(N)), amount = random(10)\n"
	"		from.balance -= amount; typed[from.id] -= amount; to.balance += amount; typed[to.id] += amount\n"
	"		from.history.push(moves); to.history.push(moves); moves++\n"
	"		if (from.history.length > 50) from.history.splice(0, 25)\n"
	"		if (to.history.length > 50) to.history.splice(0, 25)\n"
	"	}\n"
	"	check()\n"
	"}, 1)\n";

/* The number after the last `word` in what the program said; -1 if it never did. */
static long long last_number(const char *text, const char *word)
{
	long long number = -1;
	size_t length = strlen(word);

	for (const char *at = text; (at = strstr(at, word)); at += length)
		/* A line that was cut by the kill is not a report. */
		if (strchr(at, '\n'))
			number = atoll(at + length);
	return number;
}

FIXTURE(kills)
{
	char *directory, *script;
};
FIXTURE_VARIANT(kills)
{
	int kills;
	const char *page_bytes; /* of the kernel that made the image; NULL: this one */
};
FIXTURE_VARIANT_ADD(kills, two_hundred){.kills = 200};
FIXTURE_VARIANT_ADD(kills, pages_of_64_kib){.kills = 40, .page_bytes = "65536"};
FIXTURE_SETUP(kills)
{
	self->directory = support_directory();
	self->script = support_format("%s/bank.js", self->directory);
	support_write(self->script, program_text);
	if (variant->page_bytes)
		setenv("THAW_PAGE_BYTES", variant->page_bytes, 1);
}
FIXTURE_TEARDOWN(kills)
{
	free(self->script);
	support_remove(self->directory);
}

TEST_F_TIMEOUT(kills, never_older_than_the_last_durable_generation, 280)
{
	long long durable = 0, restored = 0, newest = 0, moves = -1;
	unsigned seed = (unsigned)time(NULL);

	TH_LOG("seed %u", seed);
	srandom(seed);
	for (int kill_number = 0; kill_number < variant->kills; kill_number++) {
		struct program program =
			program_start(THAW("run", "-v", "--every", "10ms", self->script));

		/* Until it lives, then for up to a tenth of a second. */
		ASSERT_TRUE(program_wait_for(&program, durable ? "restored " : "durable ", 60))
		{
			TH_LOG("kill %d: %s%s", kill_number, program.output, program.errors);
		}
		if (kill_number % PATIENT == 0)
			ASSERT_TRUE(program_wait_for(&program, "durable ", 60))
			{
				TH_LOG("kill %d: %s", kill_number, program.errors);
			}
		program_wait_for(&program, NULL, (double)(random() % 100) / 1000);
		program_kill(&program);
		unsetenv("THAW_PAGE_BYTES"); /* the image is there, and goes on here */
		/* Not what the program says: a generation may be of the handler's own turn, which then tells of the one before. */
		restored = last_number(program.errors, "restored generation ");
		if (durable) {
			ASSERT_GE(restored, durable)
			{
				TH_LOG("kill %d: %s", kill_number, program.output);
			}
		}
		newest = last_number(program.output, "durable ");
		durable = newest > restored ? newest : restored > durable ? restored : durable;
		if (last_number(program.output, "moves ") >= 0) {
			ASSERT_GE(last_number(program.output, "moves "), moves);
			moves = last_number(program.output, "moves ");
		}
		ASSERT_EQ(NULL, strstr(program.errors, "Error"))
		{
			TH_LOG("%s", program.errors);
		}
		program_free(&program);
	}
	TH_LOG("%d kills, generation %lld, %lld moves", variant->kills, durable, moves);
	EXPECT_GE(durable, variant->kills / PATIENT);
	EXPECT_GT(moves, 0);
}

TEST_HARNESS_MAIN
