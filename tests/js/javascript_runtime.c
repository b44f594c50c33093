// SPDX-License-Identifier: GPL-2.0-only
/*
 * A program from its start to its end, and beyond: timers, modules, files, failures, checkpoints,
 * and what the command line says about them.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"

FIXTURE(runtime)
{
	char *directory, *script, *image;
	struct program program;
};
FIXTURE_SETUP(runtime)
{
	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
	self->image = support_format("%s/app.thaw", self->directory);
	setenv("APP_DIRECTORY", self->directory, 1);
}
FIXTURE_TEARDOWN(runtime)
{
	program_free(&self->program);
	free(self->image);
	free(self->script);
	support_remove(self->directory);
}

static void put(const char *directory, const char *name, const char *text)
{
	char *path = support_format("%s/%s", directory, name), *slash;

	for (slash = path + strlen(directory) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
		*slash = '\0';
		mkdir(path, 0700);
	}
	support_write(path, text);
	free(path);
}

static bool starts_with(const char *text, const char *start)
{
	return !strncmp(text, start, strlen(start));
}

#define RUN(code, output_expected, input, ...)                                          \
	do {                                                                            \
		program_free(&self->program);                                           \
		EXPECT_EQ(code, program_run(&self->program, input, THAW(__VA_ARGS__))); \
		EXPECT_STREQ(output_expected, self->program.output);                    \
		TH_LOG("%.300s", self->program.errors);                                 \
	} while (0)
#define START(...)                                                \
	do {                                                      \
		program_free(&self->program);                     \
		self->program = program_start(THAW(__VA_ARGS__)); \
	} while (0)
#define EXPECT_SAID(text) EXPECT_NE(NULL, strstr(self->program.errors, text))

TEST_F(runtime, timers_in_order)
{
	put(self->directory, "app.js",
	    /* Immediates against timers of 0 to 1 ms are a race, as in node: two lists. */
	    "const log = [], immediates = []\n"
	    "setTimeout(() => { log.push('a'); Promise.resolve().then(() => log.push('micro')) }, 0)\n"
	    "setTimeout(() => log.push('b'), 0)\n"
	    "setImmediate(() => { immediates.push('i1'); setImmediate(() => immediates.push('i3')) })\n"
	    "setImmediate(() => immediates.push('i2'))\n"
	    "const never = setTimeout(() => log.push('never'), 20); setTimeout(() => clearTimeout(never), 1)\n"
	    "let n = 0, done\n"
	    "const every = setInterval(() => { log.push(++n); if (n === 3) { clearInterval(every); setTimeout(done, 40) } }, 5)\n"
	    "setTimeout(() => log.push('unreferenced'), 100000).unref()\n"
	    "await new Promise(resolve => { done = resolve })\n"
	    "console.log(...immediates, ...log)\n");
	RUN(0, "i1 i2 i3 a micro b 1 2 3\n", NULL, "run", self->script);
	RUN(0, "", NULL, "run", self->script);
	EXPECT_SAID("app.js finished in generation");
	RUN(0, "", NULL, "run", "-q", self->script);
	EXPECT_STREQ("", self->program.errors);
	RUN(0, "i1 i2 i3 a micro b 1 2 3\n", NULL, "run", "--fresh", self->script);
}

/*
 * The loop looks at the clock several times before it waits. A timer that becomes due in between
 * must not be waited for: with --every 0 nothing else would ever wake the loop up.
 */
TEST_F(runtime, thousands_of_short_timers_are_not_missed)
{
	put(self->directory, "app.js",
	    "let n = 0\n"
	    "function next() {\n"
	    "	for (let i = 0; i < (n * 7919) % 500; i++);\n"
	    "	if (++n < 6000) setTimeout(next, n % 3); else console.log('all', n)\n"
	    "}\n"
	    "next()\n");
	RUN(0, "all 6000\n", NULL, "run", "--every", "0", self->script);
}

/*
 * Overdue by ten intervals, they fire once; a timer promised before the kill keeps its promise.
 * (Some may fire before the capture already, and again where the rest takes longer than they do.)
 */
TEST_F(runtime, overdue_timers_fire_once)
{
	put(self->directory, "app.js",
	    "import { checkpoint, exit, on } from 'thaw'\n"
	    "let fired = 0, late = 0, began\n"
	    "on('restore', () => { fired = 0; began = Date.now() })\n"
	    "setTimeout(() => late++, 200)\n"
	    "const promised = new Promise(resolve => setTimeout(resolve, 210, 'promised'))\n"
	    "setInterval(() => { fired++ }, 100)\n"
	    "const { restored } = await checkpoint()\n"
	    "if (!restored) { console.log('ready'); for (;;); }\n"
	    "console.log(await promised)\n"
	    "setTimeout(() => { console.log(fired > 0 && fired <= 1 + (Date.now() - began) / 100 || fired, late); exit(3) }, 20)\n");
	START("run", "--every", "0", self->script);
	ASSERT_TRUE(program_wait_for(&self->program, "ready", 60));
	program_kill(&self->program);
	support_sleep(1);
	RUN(3, "promised\ntrue 1\n", NULL, "run", self->script);
	RUN(3, "", NULL, "run", self->script);
	EXPECT_SAID("exit(3)");
}

TEST_F(runtime, failures_name_their_place)
{
	put(self->directory, "app.js",
	    "const p = Promise.reject(new Error('late')); queueMicrotask(() => p.catch(e => console.log('caught', e.message)))\n"
	    "setTimeout(() => { throw new TypeError('boom', { cause: new RangeError('why') }) }, 1)\n");
	RUN(1, "caught late\n", NULL, "run", "--every", "0", self->script);
	EXPECT_SAID("Uncaught TypeError: boom");
	EXPECT_SAID("app.js:2:");
	EXPECT_SAID("[cause]: RangeError: why");
	/* It never made a generation, so there is nothing to continue. */
	EXPECT_EQ(-1, access(self->image, F_OK));
	put(self->directory, "app.js", "let a = ;\n");
	RUN(1, "", NULL, "run", self->script);
	EXPECT_EQ(-1, access(self->image, F_OK));
	put(self->directory, "app.js", "\nthrow new Error('at once')\n");
	RUN(1, "", NULL, "run", self->script);
	EXPECT_SAID("app.js:2:");
	put(self->directory, "app.js", "Promise.resolve().then(() => { null.x })\n");
	RUN(1, "", NULL, "run", self->script);
	EXPECT_SAID("app.js:1:");
	put(self->directory, "app.js", "await new Promise(() => {})\n");
	RUN(13, "", NULL, "run", self->script);
}

/* Files that were there before are nobody's to remove. */
TEST_F(runtime, failed_starts_keep_older_images)
{
	put(self->directory, "app.js", "console.log('done')\n");
	RUN(0, "done\n", NULL, "run", self->script);
	put(self->directory, "app.js", "throw 1\n");
	RUN(1, "", NULL, "run", "--fresh", self->script);
	EXPECT_EQ(0, access(self->image, F_OK));
}

TEST_F(runtime, module_thaw)
{
	put(self->directory, "app.js",
	    "import { checkpoint, on, args, env, generation, restored, stats, gc } from 'thaw'\n"
	    "on('restore', e => console.log('restore', e.generation, typeof e.ageMs, e.restores))\n"
	    "const result = await checkpoint()\n"
	    "console.log(['generation', 'pages', 'bytes', 'pauseNs', 'durableNs'].map(key => typeof result[key]).join(), result.restored, args.join(), env.APP_WORD, restored)\n"
	    "gc(); console.log(typeof stats().heapBytes, Math.random() !== Math.random())\n"
	    "setInterval(() => {}, 1000)\n");
	setenv("APP_WORD", "one", 1);
	START("run", "--every", "0", self->script, "x", "y");
	EXPECT_TRUE(program_wait_for(&self->program, "true\n", 60));
	EXPECT_STREQ("number,number,number,number,number undefined x,y one 0\nnumber true\n",
		     self->program.output);
	program_kill(&self->program);
	setenv("APP_WORD", "two", 1);
	START("run", "--every", "0", self->script, "z");
	EXPECT_TRUE(program_wait_for(&self->program, "true\n", 60));
	EXPECT_STREQ(
		"restore 1 number 1\nnumber,number,number,number,number true z two 1\nnumber true\n",
		self->program.output);
	program_kill(&self->program);
}

TEST_F(runtime, files_and_their_errors)
{
	put(self->directory, "app.js",
	    "import { readFile, writeFile, appendFile, env } from 'thaw'\n"
	    "const path = env.APP_DIRECTORY + '/data'\n"
	    "await writeFile(path, 'a\\n'); await appendFile(path, new Uint8Array([98, 10]))\n"
	    "console.log(JSON.stringify(await readFile(path, 'utf8')), (await readFile(path)).length)\n"
	    "for (const act of [() => readFile(path + '/x'), () => readFile(path + 2), () => writeFile(env.APP_DIRECTORY, ''), () => readFile(1)])\n"
	    "	try { await act(); console.log('no error') } catch (e) { console.log(e.name, e.code, e.syscall, e.path?.startsWith(env.APP_DIRECTORY)) }\n");
	RUN(0,
	    "\"a\\nb\\n\" 4\nError ENOTDIR open true\nError ENOENT open true\nError EISDIR open true\nTypeError undefined undefined undefined\n",
	    NULL, "run", self->script);
}

/* A thread that waits for a pipe nobody opens is not waited for, nor are those that wait for a thread. */
TEST_F(runtime, blocked_files_do_not_hold_the_end)
{
	char *fifo = support_format("%s/fifo", self->directory), *package;
	int fd;

	ASSERT_EQ(0, mkfifo(fifo, 0600));
	put(self->directory, "app.js",
	    "import { readFile, env, exit, args } from 'thaw'\n"
	    "for (let i = 0; i < 6; i++) readFile(env.APP_DIRECTORY + '/fifo', 'utf8').then(text => { if (text) { console.log('got', text); exit(0) } })\n"
	    "if (args[0]) setTimeout(() => exit(5), 10)\n"
	    "console.log('waiting')\n");
	RUN(5, "waiting\n", NULL, "run", self->script, "exit");
	EXPECT_SAID("exit() did not wait for the reading of ");
	/* By a signal it ends as soon, without a word: the next run begins them again. Who opens late may find the end alone. */
	START("run", "--fresh", self->script);
	ASSERT_TRUE(program_wait_for(&self->program, "waiting", 60));
	kill(self->program.pid, SIGTERM);
	EXPECT_EQ(143, program_finish(&self->program, 60));
	EXPECT_STREQ("", self->program.errors);
	START("run", self->script);
	fd = open(fifo, O_WRONLY | O_CLOEXEC);
	ASSERT_EQ(5, write(fd, "hello", 5));
	close(fd);
	EXPECT_TRUE(program_wait_for(&self->program, "got hello\n", 60));
	EXPECT_EQ(0, program_finish(&self->program, 60));
	/* No turn waits for one in an import, where it could not be stopped. */
	put(self->directory, "app.js",
	    "try { await import('./fifo') } catch (e) { console.log(/is no regular file/.test(e.message)) }\n");
	RUN(0, "true\n", NULL, "run", "--fresh", self->script);
	/* Nor for one that is called package.json. */
	package = support_format("%s/node_modules/pipe", self->directory);
	free(fifo);
	fifo = support_format("%s/package.json", package);
	*strrchr(package, '/') = '\0';
	ASSERT_EQ(0, mkdir(package, 0700));
	package[strlen(package)] = '/';
	ASSERT_EQ(0, mkdir(package, 0700));
	ASSERT_EQ(0, mkfifo(fifo, 0600));
	put(self->directory, "app.js",
	    "try { await import('pipe') } catch (e) { console.log(e.code) }\n");
	RUN(0, "ERR_MODULE_NOT_FOUND\n", NULL, "run", "--fresh", self->script);
	free(package);
	free(fifo);
}

/* What was begun by code that threw is not told to anybody. */
TEST_F(runtime, files_outlive_an_evaluation)
{
	put(self->directory, "data", "data");
	for (int i = 0; i < 5; i++)
		RUN(1, "", NULL, "-e",
		    "const t = await import('thaw')\n"
		    "for (let i = 0; i < 8; i++) t.readFile(t.env.APP_DIRECTORY + '/data').then(() => console.log('told'))\n"
		    "throw 1");
}

/* An append on its way into a pipe that nobody reads, when the kill comes. */
TEST_F(runtime, interrupted_append)
{
	char *fifo = support_format("%s/fifo", self->directory);

	ASSERT_EQ(0, mkfifo(fifo, 0600));
	put(self->directory, "app.js",
	    "import { appendFile, checkpoint, exit, env } from 'thaw'\n"
	    "appendFile(env.APP_DIRECTORY + '/fifo', 'x').catch(e => { console.log(e.code, e.syscall); exit(0) })\n"
	    "await checkpoint(); console.log('ready')\n");
	START("run", "--every", "0", self->script);
	EXPECT_TRUE(program_wait_for(&self->program, "ready", 60));
	program_kill(&self->program);
	RUN(0, "ready\nEINTERRUPTED write\n", NULL, "run", self->script);
	free(fifo);
}

TEST_F(runtime, modules)
{
	put(self->directory, "a.js",
	    "import { b } from './b.js'\nexport function a() { return b }\n");
	put(self->directory, "b.js", "import { a } from './a.js'\nexport const b = typeof a\n");
	put(self->directory, "data.json", "{ \"n\": 7 }\n");
	put(self->directory, "later.js", "export default 'later'\n");
	put(self->directory, "node_modules/plain/package.json", "{ \"exports\": \"./in.js\" }");
	put(self->directory, "node_modules/plain/in.js", "export default 'plain'\n");
	put(self->directory, "node_modules/@s/rich/package.json",
	    "{ \"exports\": { \".\": { \"require\": \"./no.cjs\", \"import\": \"./m.js\" }, \"./f/*\": \"./lib/*.js\", \"./hidden\": null } }");
	put(self->directory, "node_modules/@s/rich/m.js", "export default 'rich'\n");
	put(self->directory, "node_modules/@s/rich/lib/x.js", "export default 'x'\n");
	put(self->directory, "app.js",
	    "import { a } from './a.js'\nimport data from './data.json' with { type: 'json' }\n"
	    "import plain from 'plain'\nimport rich from '@s/rich'\nimport x from '@s/rich/f/x'\nimport { checkpoint, exit, env } from 'thaw'\n"
	    "console.log(a(), data.n, plain, rich, x, import.meta.url === 'file://' + env.APP_DIRECTORY + '/app.js', import.meta.filename === import.meta.dirname + '/app.js')\n"
	    "for (const name of ['@s/rich/hidden', '@s/rich/none', 'absent', './absent.js', 'node:fs', '.'])\n"
	    "	await import(name).then(() => console.log('loaded', name), e => console.log(e.message.includes(name)))\n"
	    "console.log((await import('./later.js')).default)\n"
	    "const { restored } = await checkpoint()\n"
	    "if (!restored) { console.log('ready'); for (;;); }\n"
	    "console.log((await import('./later.js')).default)\n"
	    "await import('./other.js').catch(e => console.log(e.message.includes('other.js'))); exit(0)\n");
	START("run", "--every", "0", self->script);
	EXPECT_TRUE(program_wait_for(&self->program, "ready\n", 60));
	EXPECT_STREQ(
		"function 7 plain rich x true true\ntrue\ntrue\ntrue\ntrue\ntrue\ntrue\nlater\nready\n",
		self->program.output);
	program_kill(&self->program);
	support_remove(support_format("%s/later.js", self->directory));
	support_remove(support_format("%s/node_modules", self->directory));
	RUN(0, "later\ntrue\n", NULL, "run", self->script);
}

/* A query or fragment belongs to a module's identity, not to its file's name. */
TEST_F(runtime, modules_with_queries)
{
	put(self->directory, "c#/m.js",
	    "import './beside.js'\nglobalThis.count = (globalThis.count ?? 0) + 1\nexport const me = {}, meta = import.meta\n");
	put(self->directory, "c#/beside.js", "globalThis.beside = (globalThis.beside ?? 0) + 1\n");
	put(self->directory, "c#/data.json", "{ \"n\": 7 }\n");
	put(self->directory, "c#/what?.js", "export default 'its name'\n");
	put(self->directory, "node_modules/plain/package.json", "{ \"exports\": \"./in.js\" }");
	put(self->directory, "node_modules/plain/in.js", "export default {}\n");
	put(self->directory, "c#/app.js",
	    "import { checkpoint } from 'thaw'\n"
	    "const names = ['./m.js', './m.js?a', './m.js?a', './m.js?b', './m.js#a', './m.js?a#b', './m.js?', new URL_('?a').href]\n"
	    "function URL_(query) { this.href = import.meta.url.replace('app.js', 'm.js') + query }\n"
	    "const all = await Promise.all(names.map((name) => import(name)))\n"
	    "console.log(count, beside, new Set(all.map(({ me }) => me)).size, all[1].me === all[2].me, all[1].me === all[7].me)\n"
	    "console.log(all[1].meta.url === all[0].meta.url + '?a', all[1].meta.filename === all[0].meta.filename)\n"
	    "console.log((await import('./data.json?x', { with: { type: 'json' } })).default.n, (await import('./what?.js')).default)\n"
	    "console.log((await import('plain')).default === (await import('plain?x')).default)\n"
	    "await import('./absent.js?x').catch((error) => console.log(error.message.includes('absent.js')))\n"
	    "const { restored } = await checkpoint()\n"
	    "if (!restored) { console.log('ready'); for (;;); }\n"
	    "console.log((await import('./m.js?a')).me === all[1].me)\n"
	    "console.log((await import('./data.json?x', { with: { type: 'json' } })).default.n)\n");
	free(self->script);
	self->script = support_format("%s/c#/app.js", self->directory);
	START("run", "--every", "0", self->script);
	EXPECT_TRUE(program_wait_for(&self->program, "ready\n", 60));
	EXPECT_STREQ("6 1 6 true true\ntrue true\n7 its name\nfalse\ntrue\nready\n",
		     self->program.output);
	program_kill(&self->program);
	support_remove(support_format("%s/c#/m.js", self->directory));
	support_remove(support_format("%s/c#/data.json", self->directory));
	RUN(0, "true\n7\n", NULL, "run", self->script);
}

TEST_F(runtime, another_script)
{
	char *other = support_format("%s/other.js", self->directory);

	put(self->directory, "app.js", "globalThis.n = 1\n");
	RUN(0, "", NULL, "run", self->script);
	put(self->directory, "app.js", "globalThis.n = 22\n");
	RUN(0, "", NULL, "run", self->script);
	EXPECT_SAID("app.js changed since generation 1");
	support_write(other, "1\n");
	RUN(76, "", NULL, "run", "--image", self->image, other);
	EXPECT_SAID("other.js");
	RUN(0, "1\n", NULL, "-p", "n", "--image", self->image);
	RUN(0, "", NULL, "run", "--fresh", self->script);
	RUN(0, "22\n", NULL, "-p", "n", "--image", self->image);
	free(other);
}

TEST_F(runtime, evaluating)
{
	RUN(0, "plain\n", NULL, "-p", "'plain'");
	RUN(0, "[ 'quoted' ]\n", NULL, "-p", "['quoted']");
	RUN(0, "undefined\n", NULL, "-p", "undefined");
	RUN(0, "", NULL, "-e", "'quiet'");
	RUN(0, "3\n", NULL, "-p", "await new Promise(resolve => setTimeout(resolve, 1, 3))");
	RUN(1, "", NULL, "-e", "throw new Error('no')");
	EXPECT_TRUE(starts_with(self->program.errors,
				"throw new Error('no')\n          ^\nUncaught Error: no\n"));
	RUN(1, "", NULL, "-p", "setTimeout(() => { throw 5 }, 1); await new Promise(() => {})");
	EXPECT_STREQ("Uncaught 5\n", self->program.errors);
	RUN(0, "", NULL, "-e", "globalThis.k = 'kept'", "--image", self->image);
	RUN(0, "kept\n", NULL, "-p", "k", "--image", self->image);
}

TEST_F(runtime, piped_shell)
{
	RUN(1, "2\n3\n7\n's'\n",
	    "1+1\n_+1\nfunction f() {\nreturn 7\n}\nf()\nthrow 1\n's'\n.bogus\n.exit\n99\n", "repl",
	    self->image);
	EXPECT_SAID("Uncaught 1\n");
	EXPECT_SAID("no command .bogus");
	EXPECT_EQ(NULL, strstr(self->program.errors, "exception"));
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, ".help\nf()\n.checkpoint\n.log\n.stats\nf()\n",
				 THAW("repl", self->image)));
	/* The answered line is durable already, and a clock that went on is no change. */
	EXPECT_NE(NULL, strstr(self->program.output, "nothing has changed since\n"));
	EXPECT_NE(NULL, strstr(self->program.output, ".checkpoint [NAME]  make"));
	EXPECT_NE(NULL, strstr(self->program.output, "generation  age"));
	EXPECT_NE(NULL, strstr(self->program.output, "restored        generation"));
	EXPECT_NE(NULL, strstr(self->program.output, "\n7\n"));
}

TEST_F(runtime, stats_are_json)
{
	char *code;

	RUN(0, "", NULL, "-e", "1", "--stats", "--json");
	code = support_format("typeof JSON.parse(%c%s%c).turns", '`', self->program.errors, '`');
	RUN(0, "number\n", NULL, "-p", code);
	free(code);
}

/* One generation, two lives: nothing random is the same in both, and the clock is the real one. */
TEST_F(runtime, lives_differ)
{
	char first[64], now[64], *copy = support_format("%s/copy.thaw", self->directory);
	const char *const copying[] = {"cp", self->image, copy, NULL};

	RUN(0, "", NULL, "-e", "globalThis.seen = Math.random()", "--image", self->image);
	program_free(&self->program);
	ASSERT_EQ(0, program_run(&self->program, NULL, copying));
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL,
				 THAW("-p", "Math.random()", "--image", self->image)));
	snprintf(first, sizeof(first), "%s", self->program.output);
	program_free(&self->program);
	EXPECT_EQ(0,
		  program_run(&self->program, NULL, THAW("-p", "Math.random()", "--image", copy)));
	EXPECT_STRNE(first, self->program.output);
	snprintf(now, sizeof(now), "Math.abs(Date.now() / 1000 - %ld) < 100", (long)time(NULL));
	RUN(0, "true\n", NULL, "-p", now, "--image", copy);
	free(copy);
}

/* Is there a generation of which `thaw log --json` says so? */
static bool says_log(const char *image, const char *text)
{
	struct program program;
	bool said = !program_run(&program, NULL, THAW("log", "--json", image)) &&
		    strstr(program.output, text);

	program_free(&program);
	return said;
}

TEST_F(runtime, idle_programs_write_nothing)
{
	struct stat before, after;

	put(self->directory, "app.js", "setTimeout(() => {}, 100000); console.log('ready')\n");
	START("run", "--every", "50ms", self->script);
	EXPECT_TRUE(program_wait_for(&self->program, "ready", 60));
	/* What was captured after its only turn is its last generation. */
	for (int tenths = 0; tenths < 600 && !says_log(self->image, "\"between turns\""); tenths++)
		program_wait_for(&self->program, NULL, 0.1);
	ASSERT_TRUE(says_log(self->image, "\"between turns\""));
	ASSERT_EQ(0, stat(self->image, &before));
	program_wait_for(&self->program, NULL, 1);
	ASSERT_EQ(0, stat(self->image, &after));
	EXPECT_EQ(before.st_size, after.st_size);
	EXPECT_EQ(before.st_mtim.tv_sec, after.st_mtim.tv_sec);
	EXPECT_EQ(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
	program_kill(&self->program);
}

/*
 * A checkpoint that waited for the end of a turn does not take what the turn left behind when it
 * threw: the interval ends inside the turn, and the turn is too short to be stopped in its middle.
 * (Where it was stopped all the same, being off the CPU for too long, nothing is shown.)
 */
TEST_F(runtime, a_failed_turn_is_in_no_generation)
{
	int shown = 0;

	put(self->directory, "app.js",
	    "import { checkpoint } from 'thaw'\n"
	    "await checkpoint()\n"
	    "setTimeout(() => {\n"
	    "	globalThis.failed = true\n"
	    "	const end = Date.now() + 80\n"
	    "	while (Date.now() < end);\n"
	    "	throw new Error('fails')\n"
	    "}, 60)\n");
	for (int i = 0; i < 30 && shown < 5; i++) {
		unlink(self->image);
		RUN(1, "", NULL, "run", "--every", "100ms", self->script);
		if (says_log(self->image, "\"mid-turn\""))
			continue;
		shown++;
		/* The timer that threw will throw again; the question comes first. */
		program_free(&self->program);
		program_run(&self->program, NULL,
			    THAW("-q", "-i", self->image, "--every", "0", "-p",
				 "globalThis.failed === true"));
		EXPECT_TRUE(starts_with(self->program.output, "false\n"))
		TH_LOG("%s%s", self->program.output, self->program.errors);
	}
	EXPECT_GT(shown, 0);
}

/* Who waited for a generation goes on from it: that is no program that had finished. */
TEST_F(runtime, a_waiter_goes_on_from_its_generation)
{
	put(self->directory, "app.js",
	    "import { checkpoint } from 'thaw'\n"
	    "checkpoint().then(r => console.log('after', r.restored === true))\n");
	RUN(0, "after false\n", NULL, "run", "--every", "0", self->script);
	RUN(0, "after true\n", NULL, "run", "--every", "0", "--at", "1", self->script);
	EXPECT_STREQ("", self->program.errors);
	/* ... and what it did then is durable: */
	RUN(0, "", NULL, "run", self->script);
	EXPECT_SAID("finished");
}

/* Reference counts change and change back: pages that were written, and are not stored. */
TEST_F(runtime, readers_store_little)
{
	put(self->directory, "app.js",
	    "import { checkpoint } from 'thaw'\n"
	    "const all = Array.from({ length: 100000 }, (_, i) => ({ i }))\n"
	    "let last\n"
	    "for (let i = 0; i < 4; i++) { all.reduce((sum, item) => sum + item.i, 0); last = await checkpoint() }\n"
	    "console.log(last.pages < 200 || last)\n");
	RUN(0, "true\n", NULL, "run", "--every", "0", self->script);
}

/* A generation is named by its number; --retain says how many can be. */
TEST_F(runtime, generations_by_number)
{
	put(self->directory, "app.js",
	    "import { checkpoint, on } from 'thaw'\n"
	    "let n = 0\n"
	    "on('restore', () => console.log(n))\n"
	    "while (n < 6) { n++; await checkpoint() }\n");
	RUN(0, "", NULL, "run", "--every", "0", "--retain", "3", self->script);
	RUN(66, "", NULL, "run", "--at", "1", self->script);
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL,
				 THAW("run", "--every", "0", "--at", "5", self->script)));
	EXPECT_TRUE(starts_with(self->program.output, "5\n"));
	RUN(9, "", NULL, "run", "--fresh", "--at", "5", self->script);
}

TEST_HARNESS_MAIN
