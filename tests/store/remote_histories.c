// SPDX-License-Identifier: GPL-2.0-only
/*
 * remote_histories.c - whatever becomes of a program whose image is replicated, of its connections and of the server, the store alone
 * gives back what was acknowledged last, or something newer that is whole: judged as what a power cut leaves is (crash/check.c).
 *
 * A history is a number of programs, one after the other, on one image, killed at requests and between them, with answers
 * lost, errors, cut connections, a server that dies or is gone for a while; files that are changed in between, or lost, and
 * made anew from the store; and others that take the store over from one that runs, and may not notice for a while. A long run, and one history again:
 *
 *	remote_histories --histories N [--seed S]
 *	remote_histories --seed S --history N
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <errno.h>
#include <sys/mman.h>

#include "history/history.h"
#include "in_memory.h"
#include "store_server.h"
#include "store/epoch.h"
#include "store/sidefile.h"

#define SEED 3u /* all that can happen happens in four */
#define HISTORIES 4u

struct remote_tally {
	uint64_t histories, programs, kills_at_requests, kills, lost_answers, errors, cuts, deaths,
		gone;
	uint64_t points, acknowledged, judged, files_lost, offline, taken_over, fenced, wrong;
};

static struct history {
	struct store_server server;
	struct line *line, *other; /* of the file that continues the store, and of one to come */
	struct history_options options;
	struct dice dice;
	struct remote_tally *tally;
	char *directory, *pulled;
	uint64_t seed, number;
	bool over, tells;
} history;

static unsigned below(unsigned limit)
{
	return dice_below(&history.dice, limit);
}

/* What happens, and where the line is then: with --history alone. */
__attribute__((format(printf, 1, 2))) static void tell(const char *format, ...)
{
	const struct line *line = history.line;
	va_list arguments;

	if (!history.tells)
		return;
	fprintf(stderr, "# %u points (newest %lu), %u acknowledged (%lu): ", line->count,
		line->count ? line->points[line->count - 1].listing.opened : 0, line->acknowledged,
		line->acknowledged ? line->points[line->acknowledged - 1].listing.opened : 0);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
}

static void wrong_history(const char *what)
{
	fprintf(stderr, "# WRONG: %s\n#   again: remote_histories --seed %lu --history %lu\n", what,
		history.seed, history.number);
	history.tally->wrong++;
	history.over = true;
}

/* ---- The store is asked */

/* With `lost`, the file goes on as what comes back. */
static void judge_store(bool lost)
{
	struct line *line = history.line;
	/* Its own: how much it looks at depends on what came to the store in time. */
	struct dice dice = {dice_next(&history.dice)};
	unsigned found;
	const char *result;

	if (history.over)
		return;
	history.tally->judged++;
	tell("judged%s", lost ? ", the file is lost" : "");
	result = judge(line, &history.options, history.pulled, &dice, &found);
	if (result) {
		wrong_history(result);
		return;
	}
	if (!lost || found == UINT32_MAX)
		return;
	/* What was judged has been gone on from. */
	result = judge_pull(&history.options, line->path);
	if (result)
		wrong_history(result);
	line_cut(line, found);
	history.tally->files_lost++;
}

/* ---- Programs */

static pid_t life_start(const struct life *life)
{
	pid_t pid;

	history.line->steps = 0;
	pid = support_fork();
	if (!pid)
		life_run(history.line, &history.options, life);
	history.tally->programs++;
	return pid;
}

/* What its end says, of which `allowed` are right: 1 << enum program_end, or KILLED. */
#define KILLED (1u << 31)
static void life_ended(const struct line *line, int status, unsigned allowed)
{
	unsigned end = WIFEXITED(status) && WEXITSTATUS(status) < 31 ? 1u << WEXITSTATUS(status)
		       : WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? KILLED
									    : 0;
	char text[64];

	if (history.over || (end & allowed))
		return;
	snprintf(text, sizeof(text), "a program ended with status %x", status);
	wrong_history(line->problem[0] ? line->problem : text);
}

static int life_status(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		support_die("waitpid");
	return status;
}

static void life_wait(pid_t pid, bool killed)
{
	life_ended(history.line, life_status(pid), 1u << PROGRAM_ENDED | (killed ? KILLED : 0));
}

static bool life_is_over(pid_t pid)
{
	siginfo_t info = {0};

	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) || info.si_pid;
}

/* Until the server holds a request of it. False: it has ended. */
static bool life_is_held(pid_t pid)
{
	bool held = false;

	while (!held && !life_is_over(pid)) {
		char *text = store_server_ask(&history.server, "/held");

		held = strcmp(text, "0") != 0;
		free(text);
		support_sleep(0.002);
	}
	return held;
}

/* Until it is at that step, or has ended. */
static void life_at(pid_t pid, unsigned step)
{
	while (!life_is_over(pid) && history.line->steps < step)
		support_sleep(0.001);
}

static void line_begin(struct line *line, uint64_t number)
{
	line->count = line->acknowledged = 0;
	line->has_next = false;
	line->problem[0] = '\0';
	memset(line->known, 0, sizeof(line->known));
	snprintf(line->path, sizeof(line->path), "%s/%lu-%lu.thaw", history.directory,
		 history.number, number);
}

static void line_remove(const struct line *line)
{
	struct thaw_error error;

	unlink(line->path);
	sidefile_remove(line->path, &error);
}

static struct life life_choose(void)
{
	struct sidefile side;
	struct thaw_error error;
	/* Of a file that was made anew: nobody else continues the store. */
	bool anew = sidefile_read(history.line->path, &side, &error) == -ENOENT;

	return (struct life){.seed = dice_next(&history.dice),
			     .steps = 1 + below(25),
			     .flags = EPOCH_BEGIN | (anew ? EPOCH_REPLACE : 0),
			     .quiet = !below(4)};
}

/* ---- What happens to them */

static void undisturbed(void)
{
	struct life life = life_choose();

	life_wait(life_start(&life), false);
}

static void killed_by_itself(void)
{
	struct life life = life_choose();

	life.killed = true;
	life_wait(life_start(&life), true);
	history.tally->kills++;
}

/* Before the store has done that request, or after; the store may do it late, when others have asked already. */
static void killed_at_a_request(void)
{
	struct life life = life_choose();
	pid_t pid;

	store_server_order(&history.server, "/fault?kind=hold&skip=%u&count=1&after=%u", below(14),
			   below(2));
	pid = life_start(&life);
	if (life_is_held(pid)) {
		kill(pid, SIGKILL);
		history.tally->kills_at_requests++;
	} else {
		store_server_order(&history.server, "/clear");
	}
	life_wait(pid, true);
	if (below(2))
		judge_store(false);
	store_server_order(&history.server, "/clear");
}

static void answers_lost(void)
{
	struct life life = life_choose();

	life.killed = !below(3);
	for (unsigned i = 1 + below(3); i; i--)
		store_server_order(&history.server, "/fault?kind=lose&skip=%u&count=1", below(10));
	life_wait(life_start(&life), life.killed);
	history.tally->lost_answers++;
}

static void errors(void)
{
	struct life life = life_choose();

	store_server_order(&history.server,
			   "/fault?kind=answer&status=%u&code=%s&skip=%u&count=%u&after=%u",
			   below(2) ? 500 : 503, below(2) ? "InternalError" : "SlowDown", below(10),
			   1 + below(3), below(2));
	life_wait(life_start(&life), false);
	history.tally->errors++;
}

static void connections_cut(void)
{
	struct life life = life_choose();

	life.killed = !below(3);
	store_server_order(&history.server, "/wire?direction=%s&after=%u&action=cut&count=%u",
			   below(2) ? "request" : "response", below(below(2) ? 2000 : 400000),
			   1 + below(2));
	life_wait(life_start(&life), life.killed);
	history.tally->cuts++;
}

static void server_dies(void)
{
	struct life life = life_choose();
	pid_t pid = life_start(&life);

	life_at(pid, below(life.steps));
	store_server_restart(&history.server);
	life_wait(pid, false);
	history.tally->deaths++;
}

static void server_is_gone(void)
{
	struct life life = life_choose();
	pid_t pid;

	life.quiet = true;
	life.killed = !below(3);
	pid = life_start(&life);
	life_at(pid, 1 + below(life.steps));
	store_server_order(&history.server, "/gone");
	if (!life.killed)
		life_at(pid, life.steps);
	store_server_order(&history.server, "/back");
	life_wait(pid, life.killed);
	history.tally->gone++;
}

/* What another file continues is refused: nothing of it is acknowledged any more. */
static void go_on_from_the_old_file(struct line *old)
{
	unsigned before = old->acknowledged;
	struct life life = life_choose();
	pid_t pid;

	life.flags = EPOCH_BEGIN;
	history.line = old;
	pid = life_start(&life);
	life_ended(old, life_status(pid), 1u << PROGRAM_FENCED);
	if (old->acknowledged != before && !history.over)
		wrong_history("of a file that another one has overtaken more was acknowledged");
	history.tally->fenced++;
}

/* By another program, elsewhere, while one runs, which may stand at a request that the store does late. */
static void taken_over(void)
{
	struct life life = life_choose(), taking = life_choose();
	struct line *old = history.line, *new = history.other;
	pid_t pid, other;
	int status;
	bool held;

	if (!old->acknowledged || (life.flags & EPOCH_REPLACE))
		return;
	line_begin(new, history.tally->programs);
	life.steps += 10;
	held = below(2);
	if (held)
		store_server_order(&history.server, "/fault?kind=hold&skip=%u&count=1&after=%u",
				   below(14), below(2));
	pid = life_start(&life);
	if (!held)
		life_at(pid, below(life.steps));
	else if (!life_is_held(pid))
		store_server_order(&history.server, "/clear");
	taking.from = old;
	taking.whole = below(2);
	history.line = new;
	other = life_start(&taking);
	life_wait(other, false);
	store_server_order(&history.server, "/clear");
	status = life_status(pid);
	life_ended(old, status, 1u << PROGRAM_ENDED | 1u << PROGRAM_FENCED);
	history.tally->fenced += WIFEXITED(status) && WEXITSTATUS(status) == PROGRAM_FENCED;
	history.tally->taken_over++;
	if (!history.over && old->acknowledged > new->found + 1)
		wrong_history("more was acknowledged than was taken over");
	if (!history.over && !below(3))
		go_on_from_the_old_file(old);
	line_remove(old);
	history.other = old;
	history.line = new;
}

static void file_changed(void)
{
	if (!history.line->count)
		return;
	change_offline(history.line, &history.options, &history.dice);
	if (history.line->problem[0])
		wrong_history(history.line->problem);
	history.tally->offline++;
}

static const struct happening {
	const char *name;
	void (*run)(void);
} happenings[] = {
	{"a program", undisturbed},
	{"killed by itself", killed_by_itself},
	{"killed at a request", killed_at_a_request},
	{"killed at a request", killed_at_a_request},
	{"killed at a request", killed_at_a_request},
	{"answers lost", answers_lost},
	{"errors", errors},
	{"connections cut", connections_cut},
	{"the server dies", server_dies},
	{"the server is gone", server_is_gone},
	{"the file changed", file_changed},
	{"taken over", taken_over},
	{"taken over", taken_over},
};
#define HAPPENINGS (sizeof(happenings) / sizeof(happenings[0]))

/* ---- Histories */

static int give_key(void *arg, bool make, uint8_t key[THAW_KEY_BYTES], struct thaw_error *error)
{
	(void)arg, (void)make, (void)error;
	memset(key, 7, THAW_KEY_BYTES);
	return 0;
}

static void history_begin(void)
{
	struct history_options *options = &history.options;

	*options = (struct history_options){.page_bytes = below(4) ? 4096 : 65536,
					    .keyed = !below(3),
					    .retain = 1 + below(4),
					    .thinned = !below(3),
					    .log = below(3) ? (64u << 10) << below(4) : 0};
	options->encrypted = !options->keyed && below(2);
	store_server_place(&history.server, "s3://test");
	strcpy(options->place, history.server.place);
	line_begin(history.line, 0);
	thaw_use_key(&(struct thaw_key_source){.get = give_key});
}

static void history_run(uint64_t seed, uint64_t number)
{
	history.seed = seed;
	history.number = number;
	history.over = false;
	history.dice.state = mix(mix(seed) + number);
	history_begin();
	for (unsigned programs = 3 + below(6); programs && !history.over; programs--) {
		const struct happening *happening = &happenings[below(HAPPENINGS)];

		tell("%s", happening->name);
		happening->run();
		if (!history.over && !below(3))
			judge_store(!below(2));
	}
	judge_store(false);
	history.tally->histories++;
	history.tally->points += history.line->count;
	history.tally->acknowledged += history.line->acknowledged;
	line_remove(history.line);
	unlink(history.pulled);
}

static void tally_print(const struct remote_tally *tally)
{
	fprintf(stderr,
		"# %lu histories of %lu programs: killed at %lu requests and %lu times between them; answers lost in %lu, errors in "
		"%lu, connections cut in %lu, the server killed in %lu and gone in %lu; files changed %lu times, lost %lu "
		"times; stores taken over %lu times, %lu programs fenced\n"
		"# %lu points, %lu of them acknowledged at the ends; the store was judged %lu times: %lu wrong\n",
		tally->histories, tally->programs, tally->kills_at_requests, tally->kills,
		tally->lost_answers, tally->errors, tally->cuts, tally->deaths, tally->gone,
		tally->offline, tally->files_lost, tally->taken_over, tally->fenced, tally->points,
		tally->acknowledged, tally->judged, tally->wrong);
}

static void histories(uint64_t seed, uint64_t first, uint64_t count, struct remote_tally *tally)
{
	char name[] = "/thaw-histories-XXXXXX";
	struct line *lines;

	memset(tally, 0, sizeof(*tally));
	history.tally = tally;
	lines = mmap(NULL, 2 * sizeof(*lines), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (lines == MAP_FAILED)
		support_die("mmap");
	history.line = &lines[0];
	history.other = &lines[1];
	unsetenv("THAW_TEST_STORE"); /* faults are ordered of it */
	store_server_begin(&history.server);
	history.directory = support_format("%s%s", in_memory(), name);
	if (!mkdtemp(history.directory))
		support_die(history.directory);
	history.pulled = support_format("%s/pulled.thaw", history.directory);
	for (uint64_t number = first; number < first + count && !tally->wrong; number++)
		history_run(seed, number);
	store_server_end(&history.server);
	support_remove(history.directory);
	munmap(lines, 2 * sizeof(*lines));
}

TEST(what_was_acknowledged_comes_back)
{
	struct remote_tally tally;

	histories(SEED, 0, HISTORIES, &tally);
	tally_print(&tally);
	EXPECT_EQ(0, tally.wrong);
	EXPECT_EQ(HISTORIES, tally.histories);
}

int main(int argc, char **argv)
{
	uint64_t seed = SEED, first = 0, count = 0;
	struct remote_tally tally;

	for (int i = 1; i + 1 < argc; i += 2) {
		uint64_t value = strtoull(argv[i + 1], NULL, 10);

		if (!strcmp(argv[i], "--seed"))
			seed = value;
		if (!strcmp(argv[i], "--histories"))
			count = value;
		if (!strcmp(argv[i], "--history")) {
			first = value;
			count = 1;
			history.tells = true;
		}
	}
	if (!count)
		return test_harness_run(argc, argv);
	histories(seed, first, count, &tally);
	tally_print(&tally);
	return tally.wrong ? 1 : 0;
}
