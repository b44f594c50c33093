// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the claims of the benchmarks rest on: competitors run in turn, one as often as the other; a first round for the
 * page cache does not count; who fails is told, and left out; and tables have the medians, the ratios, and what lies
 * inside of the spread.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"

FIXTURE(benchmark_tools)
{
	char *directory;
	struct program program;
};
FIXTURE_SETUP(benchmark_tools)
{
	self->directory = support_directory();
	if (access("/bin/bash", X_OK))
		SKIP(return, "there is no bash");
}
FIXTURE_TEARDOWN(benchmark_tools)
{
	program_free(&self->program);
	support_remove(self->directory);
}

/* A line for the shell in the directory, where $I is interleave and $T tables. */
static int shell(struct program *program, const char *directory, const char *line)
{
	char *build = support_format("%s", THAW_BINARY), *all;
	int code;

	*strrchr(build, '/') = '\0';
	all = support_format(
		"cd '%s' && I='%s/tests/bench/interleave' T='%s/tests/bench/tables' && %s",
		directory, build, THAW_SOURCE, line);
	program_free(program);
	code = program_run(program, NULL, (const char *[]){"bash", "-c", all, NULL});
	free(all);
	free(build);
	return code;
}
#define SHELL(code, line)                                             \
	ASSERT_EQ(code, shell(&self->program, self->directory, line)) \
	TH_LOG("%s%s", self->program.output, self->program.errors)

/* Two that say when they run; each prints a line, which ends the measurement. */
#define TWO_JOBS                                                               \
	"printf '%s\\tspeed\\trow\\techo %s >>ran\\techo ready\\n' a a b b | " \
	"PRIORITY=0 "

TEST_F(benchmark_tools, competitors_run_in_turn)
{
	/* Round by round, a pair of both in either order. */
	SHELL(0, TWO_JOBS "$I 4 samples && paste - - <ran | grep -cE 'a.b|b.a'");
	EXPECT_STREQ("4\n", self->program.output);
	SHELL(0, "cut -f1,2,3,5 samples | sort | uniq -c");
	EXPECT_STREQ("      4 speed\trow\ta\tms\n      4 speed\trow\tb\tms\n",
		     self->program.output);
}

TEST_F(benchmark_tools, a_warm_up_does_not_count)
{
	SHELL(0, "export WARM=1; " TWO_JOBS "$I 2 samples && wc -l <ran && wc -l <samples");
	EXPECT_STREQ("6\n4\n", self->program.output);
}

TEST_F(benchmark_tools, a_program_can_measure_by_itself)
{
	SHELL(0,
	      "printf 'a\\tspeed\\trow\\t\\tprintf -\\\\t-\\\\t12\\\\tkm\\\\nlength\\\\tlong\\\\t3\\\\tm\\\\n\\n' |"
	      " $I 1 samples && cat samples");
	EXPECT_STREQ("speed\trow\ta\t12\tkm\nlength\tlong\ta\t3\tm\n", self->program.output);
}

TEST_F(benchmark_tools, who_fails_is_told_and_left_out)
{
	SHELL(1,
	      "printf '%s\\tspeed\\trow\\techo %s >>ran\\t%s\\n' bad bad false good good 'echo ready' silent silent true |"
	      " $I 3 samples; code=$?; sort ran | uniq -c; cut -f3 samples; exit $code");
	EXPECT_NE(NULL, strstr(self->program.output, "speed\trow\tbad\tfailed: false\n"));
	EXPECT_NE(NULL, strstr(self->program.output, "speed\trow\tsilent\tfailed: true\n"));
	EXPECT_NE(NULL, strstr(self->program.output, "      1 bad\n      3 good\n      1 silent\n"
						     "good\ngood\ngood\n"));
}

TEST_F(benchmark_tools, tables_compare_medians)
{
	SHELL(0, "command -v datamash gnuplot || true");
	if (!strstr(self->program.output, "gnuplot") || !strstr(self->program.output, "datamash"))
		SKIP(return, "datamash or gnuplot is missing (scripts/install-deps bench)");
	SHELL(0,
	      "for v in 1 2 30; do printf 'speed\\tnear\\tThaw\\t%s\\tms\\n' $v; done >samples.tsv;"
	      "for v in 9 4 3; do printf 'speed\\tnear\\tThaw before\\t%s\\tms\\n' $v; done >>samples.tsv;"
	      "for v in 3 3 3; do printf 'speed\\tfar\\tThaw\\t%s\\tms\\n' $v; done >>samples.tsv;"
	      "for v in 7 6 5; do printf 'speed\\tfar\\tThaw before\\t%s\\tms\\n' $v; done >>samples.tsv;"
	      "touch order.tsv && $T . && cat tables.md && test -s speed.svg");
	EXPECT_NE(NULL, strstr(self->program.output, "\n| ms | Thaw | Thaw before |\n"));
	EXPECT_NE(NULL, strstr(self->program.output, "\n| near | 2 ("));
	EXPECT_NE(NULL, strstr(self->program.output, "\n| far | 3 | 6 (5.20-6.80) x2.00 |\n"));
	EXPECT_NE(NULL, strstr(self->program.output, " 0.50 (within the spread) |\n"));
	EXPECT_NE(NULL, strstr(self->program.output,
			       "\n| speed: far, ms | 6 (5.20-6.80) | 3 | 0.50 |\n"));
}

TEST_HARNESS_MAIN
