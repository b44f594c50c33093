// SPDX-License-Identifier: GPL-2.0-only
/*
 * servers.c - servers go on after SIGKILL (clients.h), and a shell that is fed by a pipe. Those of npm's packages are in
 * tests/exec/web_servers.c.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "process/clients.h"

FIXTURE(server)
{
	char *directory, *image;
};
FIXTURE_VARIANT(server)
{
	struct server server;
};
FIXTURE_VARIANT_ADD(server, node){.server = {"node", "server.js", NULL, GET_COUNT}};
FIXTURE_VARIANT_ADD(server, redis){.server = {.program = "redis-server",
					      .request = "*2\r\n$4\r\nINCR\r\n$1\r\nx\r\n",
					      .until = "\r\n",
					      .before = ":"}};

FIXTURE_SETUP(server)
{
	self->directory = support_directory();
	self->image = support_format("%s/server.thaw", self->directory);
}
FIXTURE_TEARDOWN(server)
{
	free(self->image);
	support_remove(self->directory);
}

TEST_F_TIMEOUT(server, has_what_it_had, 7200)
{
	if (!kills_have(variant->server.program))
		SKIP(return, "there is no %s here", variant->server.program);
	ASSERT_TRUE(server_keeps(&variant->server, self->image, kills_wanted(5)));
}

TEST_F_TIMEOUT(server, answers_clients_that_dial_again, 7200)
{
	if (!kills_have(variant->server.program))
		SKIP(return, "there is no %s here", variant->server.program);
	ASSERT_TRUE(server_has_clients(&variant->server, self->image, kills_wanted(5)));
}

/* A statement, and the number in its answer. */
static long shell_says(struct program *shell, struct lives *lives)
{
	static const char statement[] =
		"insert into t select count(*) + 1, (count(*) + 1) * 7919 % 10007 from t; "
		"select char(60) || count(*) || char(58) || sum(y) || char(62) from t;\n";
	size_t from = shell->output_bytes;
	double end = support_deadline(20);
	const char *at = NULL, *close = NULL;
	long count;

	if (write(shell->in, statement, strlen(statement)) < 0)
		return -errno;
	while (!close && support_seconds() < end) {
		support_sleep(0.0005);
		program_wait_for(shell, NULL, 0);
		at = strstr(shell->output + from, "\n<"); /* it echoes */
		close = at ? strchr(at, '>') : NULL;
	}
	count = close ? atol(at + 2) : -ETIME;
	return count > 0 && kills_remember(&lives->answers, count, at, (size_t)(close - at)) ? count
											     : -1;
}

FIXTURE(shell)
{
	char *directory, *image;
};
FIXTURE_SETUP(shell)
{
	self->directory = support_directory();
	self->image = support_format("%s/shell.thaw", self->directory);
}
FIXTURE_TEARDOWN(shell)
{
	free(self->image);
	support_remove(self->directory);
}

TEST_F_TIMEOUT(shell, sqlite_answers_on_a_pipe, 7200)
{
	int kills = kills_wanted(5);
	struct lives lives = {0};

	if (!kills_have("sqlite3"))
		SKIP(return, "there is no sqlite3 here");
	kills_seed();
	for (int life = 0; life < kills; life++) {
		struct program shell =
			program_start(THAW("exec", "-v", "--every", "30ms", "--image", self->image,
					   "sqlite3", "-interactive", ":memory:"));
		double least = (double)(random() % 300) / 1000, begun = support_seconds();
		double end = support_deadline(60);

		/*
		 * It reads byte by byte, and what was in the pipe is gone with the life before: what a generation
		 * has of a line becomes an error first, behind what may be a whole statement.
		 */
		const char *first = life ? "))))))\n;\n" : "create table t(x, y);\n";
		long more = life ? 2 : 1;

		ASSERT_LT(0, write(shell.in, first, strlen(first)));
		/* It goes on being asked: where nothing changes, there is no generation. */
		while (support_seconds() < begun + least ||
		       kills_generations(&shell) < (life ? 1 : 2)) {
			long count = shell_says(&shell, &lives);

			ASSERT_TRUE(count > 0 && count <= lives.last + more &&
				    support_seconds() < end)
			{
				program_kill(&shell);
				kills_failed(life, &shell, "its answer is wrong");
			}
			lives.last = count > lives.last ? count : lives.last;
			more = 1;
		}
		program_kill(&shell);
		ASSERT_TRUE(kills_check_generation(&lives, shell.errors));
		program_free(&shell);
	}
	TH_LOG("%d kills, %ld answers, %llu generations", kills, lives.last, lives.generation);
	lives_free(&lives);
}

TEST_HARNESS_MAIN
