// SPDX-License-Identifier: GPL-2.0-only
/*
 * kills.h - a program goes on under `thaw exec` after SIGKILL at random moments, and what it prints in all its lives is
 * what an undisturbed run prints. It prints 'started' once, and then lines with a number, of which every one is the same in
 * every run (tests/programs/exec): whatever was printed after the newest generation is printed again, no number is ever
 * skipped, and none says anything else.
 */
#ifndef TESTS_KILLS_H
#define TESTS_KILLS_H

#include "support.h"

#define KILLS_LINES_MOST 1000000

/* A program, and how it is killed. */
struct victim {
	const char *program, *script; /* the script is of tests/programs/exec */
	const char *argument;	      /* NULL: none; else the script's first one */
	const char *every;	      /* between two generations */
	int at_most;		      /* ms to the kill, once it goes on */
	/* Called in each life, before the kill, while it goes on; may kill on its own. NULL: nothing. */
	void (*disturb)(struct program *program, int life);
};

struct answers { /* what each number is followed by; malloc'ed */
	char **texts;
	long count;
};

struct lives {
	struct answers answers;
	long last;		       /* the highest number of all */
	unsigned starts;	       /* so often it began anew */
	unsigned long long generation; /* the newest that a life told to be durable */
};

static inline void lives_free(struct lives *lives)
{
	for (long i = 0; i < lives->answers.count; i++)
		free(lives->answers.texts[i]);
	free(lives->answers.texts);
	*lives = (struct lives){0};
}

static inline bool kills_remember(struct answers *answers, long number, const char *text,
				  size_t bytes)
{
	char *copy = strndup(text, bytes);

	if (answers->count > number && answers->texts[number] &&
	    strcmp(answers->texts[number], copy)) {
		printf("# %ld is followed by '%s', and once was by '%s'\n", number, copy,
		       answers->texts[number]);
		free(copy);
		return false;
	}
	if (number >= answers->count) {
		answers->texts = realloc(answers->texts, (size_t)(number + 1) * sizeof(char *));
		while (answers->count <= number)
			answers->texts[answers->count++] = NULL;
	}
	free(answers->texts[number]);
	answers->texts[number] = copy;
	return true;
}

/* Adds the whole lines of one life. False, having said why: something is wrong with them. */
static inline bool kills_read(struct lives *lives, const char *output)
{
	long before = 0, seen = lives->last;

	for (const char *line = output, *end; (end = strchr(line, '\n')); line = end + 1) {
		char *after;
		long number = strtol(line, &after, 10);

		if (!strncmp(line, "started\n", 8)) {
			lives->starts++;
			before = 0;
			continue;
		}
		if (after == line || number < 1 || number > KILLS_LINES_MOST) {
			printf("# not a line of it: %.*s\n", (int)(end - line), line);
			return false;
		}
		/* Once more from an earlier generation, or the next. */
		if (before ? number != before + 1 : number > seen + 1) {
			printf("# %ld after %ld (%ld in all)\n", number, before, seen);
			return false;
		}
		before = number;
		if (!kills_remember(&lives->answers, number, after, (size_t)(end - after)))
			return false;
		lives->last = number > lives->last ? number : lives->last;
	}
	return true;
}

/* The number behind each such word of what it told, of the first or the last of them; 0: none. */
static inline unsigned long long kills_told(const char *errors, const char *word, bool newest)
{
	unsigned long long number = 0;

	for (const char *at = errors; (at = strstr(at, word)); at++) {
		number = strtoull(at + strlen(word), NULL, 10);
		if (!newest)
			break;
	}
	return number;
}

/* It has to go on from the newest generation that was told durable, or from one after it. */
static inline bool kills_check_generation(struct lives *lives, const char *errors)
{
	unsigned long long from = kills_told(errors, "thaw: restored generation ", false);
	unsigned long long newest = kills_told(errors, "thaw: generation ", true);

	if (from && from < lives->generation) {
		printf("# it went on from generation %llu, and %llu was durable\n", from,
		       lives->generation);
		return false;
	}
	if (newest > lives->generation)
		lives->generation = newest;
	return true;
}

/* Of how many generations this life has told up to now. */
static inline unsigned kills_generations(struct program *program)
{
	static const char word[] = "thaw: generation ";
	unsigned found = 0;

	program_wait_for(program, NULL, 0); /* takes what there is */
	for (const char *at = program->errors; (at = strstr(at, word)); at++)
		found++;
	return found;
}

/* Waits until so many more are durable. False: it ended, or it took too long. */
static inline bool kills_generations_later(struct program *program, unsigned count)
{
	unsigned from = kills_generations(program);
	siginfo_t ended = {0};
	double end = support_deadline(60);

	while (support_seconds() < end && !ended.si_pid) {
		waitid(P_PID, (id_t)program->pid, &ended, WEXITED | WNOHANG | WNOWAIT);
		if (kills_generations(program) >= from + count)
			return true;
		support_sleep(0.01);
	}
	return false;
}

static inline struct program kills_start(const struct victim *victim, const char *image)
{
	char *script = support_format("%s/tests/programs/exec/%s", THAW_SOURCE, victim->script);
	struct program program =
		program_start(THAW("exec", "-v", "--every", victim->every, "--image", image,
				   victim->program, script, victim->argument));

	free(script);
	return program;
}

static inline bool kills_failed(int life, const struct program *program, const char *what)
{
	printf("# life %d: %s\n# it printed, at its end: %s\n# and told: %.3000s\n", life, what,
	       program->output + (program->output_bytes > 500 ? program->output_bytes - 500 : 0),
	       program->errors);
	return false;
}

/* One life from its start to its death. */
static inline bool kills_live(const struct victim *victim, const char *image, int life,
			      struct lives *lives)
{
	struct program program = kills_start(victim, image);
	/* Every fourth dies wherever it may be; the others got on, and that is durable. */
	bool anywhere = life && random() % 4 == 0, fine = true;

	if (!anywhere && ((!life && !program_wait_for(&program, "started\n", 60)) ||
			  !kills_generations_later(&program, life ? 1 : 2)))
		fine = kills_failed(life, &program, "it did not get on");
	if (fine && victim->disturb && !anywhere)
		victim->disturb(&program, life);
	program_wait_for(&program, NULL, (double)(random() % victim->at_most) / 1000);
	program_kill(&program);
	if (fine && !kills_read(lives, program.output))
		fine = kills_failed(life, &program, "its lines are wrong");
	if (fine && !kills_check_generation(lives, program.errors))
		fine = kills_failed(life, &program, "a generation is lost");
	if (fine && lives->starts != 1)
		fine = kills_failed(life, &program, "it was started anew");
	program_free(&program);
	return fine;
}

/* The same lines as in a run that nobody disturbs? */
static inline bool kills_compare(const struct victim *victim, struct lives *lives)
{
	char *script = support_format("%s/tests/programs/exec/%s", THAW_SOURCE, victim->script);
	char *last = support_format("%ld", lives->last);
	struct program program = program_start((const char *const[]){
		victim->program, script, victim->argument ? victim->argument : last,
		victim->argument ? last : NULL, NULL});
	int code = program_finish(&program, 600);
	long before = lives->last;
	char *at = strstr(program.output, "started\n");
	bool fine = kills_read(lives, program.output);

	if (!fine || code || lives->last != before || !at)
		fine = kills_failed(-1, &program, "an undisturbed run printed something else");
	program_free(&program);
	free(script);
	free(last);
	return fine;
}

/* What is random is of this seed: THAW_SEED, or another one each time. */
static inline unsigned kills_seed(void)
{
	unsigned seed = getenv("THAW_SEED") ? (unsigned)atoi(getenv("THAW_SEED"))
					    : (unsigned)support_seconds() ^ (unsigned)getpid();

	srandom(seed);
	return seed;
}

/* Kills it so often. False, having said why. */
static inline bool kills_run(const struct victim *victim, const char *image, int kills)
{
	unsigned seed = kills_seed();
	struct lives lives = {0};
	bool fine = true;

	for (int life = 0; life < kills && fine; life++)
		fine = kills_live(victim, image, life, &lives);
	fine = fine && kills_compare(victim, &lives);
	printf("# %s: %d kills, %ld lines, %llu generations, seed %u\n", victim->script, kills,
	       lives.last, lives.generation, seed);
	lives_free(&lives);
	return fine;
}

/* How often: THAW_KILLS, or what is quick. */
static inline int kills_wanted(int quick)
{
	return getenv("THAW_KILLS") ? atoi(getenv("THAW_KILLS")) : quick;
}

/* Is it there, as a program of this machine? */
static inline bool kills_have(const char *name)
{
	struct program program;
	int code = program_run(&program, NULL, (const char *const[]){name, "--version", NULL});

	program_free(&program);
	if (code == 1) { /* Lua */
		code = program_run(&program, NULL, (const char *const[]){name, "-v", NULL});
		program_free(&program);
	}
	return !code;
}

#endif
