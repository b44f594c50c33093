/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cli_words.c - what the command line reads and writes: durations and sizes, misspellings, JSON
 * strings, and whether a piece of JavaScript is finished or wants another line.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../vm/cli/repl.h"
#include "kselftest_harness.h"

TEST(bytes_keep_three_digits)
{
	EXPECT_STREQ(format_bytes(0).s, "0 B");
	EXPECT_STREQ(format_bytes(1023).s, "1023 B");
	EXPECT_STREQ(format_bytes(1024).s, "1.0 KiB");
	EXPECT_STREQ(format_bytes(1258291).s, "1.2 MiB");
	EXPECT_STREQ(format_bytes(1048575).s, "1.0 MiB");
	EXPECT_STREQ(format_bytes(120u << 20).s, "120 MiB");
	EXPECT_STREQ(format_bytes(UINT64_MAX).s, "16.0 EiB");
}

TEST(durations_choose_their_unit)
{
	EXPECT_STREQ(format_duration(0).s, "0");
	EXPECT_STREQ(format_duration(850).s, "850 ns");
	EXPECT_STREQ(format_duration(1500).s, "1.5 us");
	EXPECT_STREQ(format_duration(999999).s, "1.0 ms");
	EXPECT_STREQ(format_duration(12345678).s, "12.3 ms");
	EXPECT_STREQ(format_duration(1250000000).s, "1.25 s");
	EXPECT_STREQ(format_duration(59999000000).s, "1 min 0 s");
	EXPECT_STREQ(format_duration(125000000000).s, "2 min 5 s");
	EXPECT_STREQ(format_count(0).s, "0");
	EXPECT_STREQ(format_count(999).s, "999");
	EXPECT_STREQ(format_count(1234567).s, "1,234,567");
}

TEST(times_are_local)
{
	const uint64_t ns = 1738321200250000000u; /* 2025-01-31 11:00:00.250 UTC */

	setenv("TZ", "XYZ-5:30", 1);
	tzset();
	EXPECT_STREQ(format_time(ns).s, "2025-01-31 16:30:00");
	EXPECT_STREQ(format_iso_time(ns).s, "2025-01-31T16:30:00.250+05:30");
	setenv("TZ", "UTC", 1);
	tzset();
	EXPECT_STREQ(format_iso_time(ns + 749999999).s, "2025-01-31T11:00:00.999+00:00");
	unsetenv("TZ");
	tzset();
}

#define MINUTES(n) ((n)*60000000000u)

TEST(retention_is_read)
{
	static const struct {
		const char *word;
		struct cli_retention means;
	} good[] = {
		{"8", {.newest = 8}},
		{"2000", {.newest = 2000}},
		{"10/min", {0, 1, {{10, MINUTES(1)}}}},
		{"8,10/min,10/hour", {8, 2, {{10, MINUTES(1)}, {10, MINUTES(60)}}}},
		{"10/h,3,4/15min", {3, 2, {{10, MINUTES(60)}, {4, MINUTES(15)}}}},
		{"1/s,2/2sec", {0, 2, {{1, 1000000000}, {2, 2000000000}}}},
		{"7/day,4/week,1/3days",
		 {0, 3, {{7, MINUTES(1440)}, {4, MINUTES(10080)}, {1, MINUTES(4320)}}}},
		{"1000/9223372036s", {0, 1, {{1000, 0}}}},
	};
	static const char *const bad[][2] = {
		{"", "an empty rule"},
		{"8,", "an empty rule"},
		{",8", "an empty rule"},
		{"0", "a count of 0"},
		{"0/min", "a count of 0"},
		{"8,9", "a second number of newest ones in '9'"},
		{"2001", "too many generations"},
		{"99999999999999999999", "too many generations"},
		{"1001/min", "too many generations"},
		{"600/min,401/h", "too many generations"},
		{"many", "no count"},
		{"-3", "no count"},
		{"8 ", "more than a count"},
		{"1.5/min", "more than a count"},
		{"5/", "an unknown period"},
		{"5/fortnight", "an unknown period in '5/fortnight'"},
		{"5/min/2", "an unknown period"},
		{"5/-1min", "an unknown period"},
		{"5/0min", "a period of nothing"},
		{"5/99999999999999999999min", "a period that is too long"},
		{"5/9999999999999999h", "a period that is too long"},
		{"1/s,1/s,1/s,1/s,1/s,1/s,1/s,1/s,1/s", "one rule too many"},
		{"1/00000000000000000000000000000000000000000000000000000000000000min",
		 "more than"},
	};
	struct cli_retention retention;
	char why[160];

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		const struct cli_retention *means = &good[i].means;

		EXPECT_TRUE(parse_retention(good[i].word, &retention, why, sizeof(why)))
		TH_LOG("%s: %s", good[i].word, why);
		EXPECT_EQ(means->newest, retention.newest);
		EXPECT_EQ(means->rule_count, retention.rule_count);
		for (unsigned n = 0; n < means->rule_count; n++) {
			uint64_t period = means->rules[n].period_ns;

			EXPECT_EQ(means->rules[n].count, retention.rules[n].count);
			EXPECT_EQ(period ? period : 9223372036u * 1000000000u,
				  retention.rules[n].period_ns);
		}
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		EXPECT_FALSE(parse_retention(bad[i][0], &retention, why, sizeof(why)))
		TH_LOG("%s", bad[i][0]);
		EXPECT_NE(NULL, strstr(why, bad[i][1])) TH_LOG("%s: %s", bad[i][0], why);
	}
}

TEST(durations_are_read)
{
	static const struct {
		const char *word;
		uint64_t ns;
	} good[] = {{"0", 0},
		    {"1s", 1000000000},
		    {"250ms", 250000000},
		    {"1.5s", 1500000000},
		    {"2min", 120000000000},
		    {"10us", 10000},
		    {"0s", 0},
		    {"1h", 3600000000000}};
	static const char *const bad[] = {"",	 "5",	"s",   "-1s",	 "1x",
					  "1 s", "1ss", "nan", "1e300s", "0x10s "};
	uint64_t ns;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		ns = 1;
		EXPECT_TRUE(parse_duration(good[i].word, &ns));
		EXPECT_EQ(ns, good[i].ns);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		EXPECT_FALSE(parse_duration(bad[i], &ns))
		{
			TH_LOG("'%s' was taken for a duration", bad[i]);
		}
	}
}

TEST(misspellings_find_their_word)
{
	static const char *const words[] = {"run", "repl", "verify", "inspect", NULL};

	EXPECT_STREQ(cli_nearest("verfy", words), "verify");
	EXPECT_STREQ(cli_nearest("inspct", words), "inspect");
	EXPECT_EQ(cli_nearest("banana", words), NULL);
	EXPECT_EQ(cli_nearest("", words), NULL);
}

TEST(json_strings_are_escaped)
{
	char *out = NULL;
	size_t bytes;
	struct json json = {.to = open_memstream(&out, &bytes)};

	json_open(&json, NULL, '{');
	json_text(&json, "a\"b", "\\ \n \x01 \xc3\xa4");
	json_number(&json, "n", UINT64_MAX);
	json_text(&json, "path",
		  "a\xff\xff"
		  "b\xc3");
	json_open(&json, "list", '[');
	json_bool(&json, NULL, true);
	json_bool(&json, NULL, false);
	json_close(&json, ']');
	json_close(&json, '}');
	fclose(json.to);
	EXPECT_STREQ(
		out,
		"{\"a\\\"b\":\"\\\\ \\n \\u0001 \xc3\xa4\",\"n\":18446744073709551615,\"path\":\"a\\ufffd\\ufffdb\\ufffd\",\"list\":[true,false]}");
	free(out);
}

TEST(json_for_people_has_blanks_and_lines)
{
	static const uint16_t units[] = {'a', 0xd83d, 0xde00, 0xd800};
	char *out = NULL;
	size_t bytes;
	struct json json = {.to = open_memstream(&out, &bytes), .spaced = true};

	json_open(&json, NULL, '{');
	json_line(&json, 1);
	json_units(&json, "one", units, 4);
	json_line(&json, 1);
	json_name_units(&json, units, 1);
	json_open(&json, NULL, '[');
	json_raw(&json, NULL, "1.5");
	json_number(&json, NULL, 2);
	json_close(&json, ']');
	json_line(&json, 0);
	json_close(&json, '}');
	fclose(json.to);
	EXPECT_STREQ(out, "{\n  \"one\": \"a\xf0\x9f\x98\x80\\ud800\",\n  \"a\": [1.5, 2]\n}");
	free(out);
}

TEST(json_strings_are_cut_where_the_room_ends)
{
	char to[12];

	EXPECT_EQ(5, json_quote("abc", to, 12));
	EXPECT_STREQ("\"abc\"", to);
	EXPECT_EQ(2, json_quote("abc", to, 3));
	EXPECT_STREQ("\"\"", to);
	json_quote("a\x01", to, 12);
	EXPECT_STREQ("\"a\\u0001\"", to);
	json_quote("ab\x01\x01", to, 12);
	EXPECT_STREQ("\"ab\\u0001\"", to);
}

static bool unfinished(const char *code)
{
	struct repl_scan scan = {0};
	bool more = repl_scan_more(&scan, code, strlen(code));

	repl_scan_end(&scan);
	return more;
}

/* The same, as it comes: without the newlines. */
static bool unfinished_lines(const char *code)
{
	struct repl_scan scan = {0};
	bool more;

	for (const char *end;; code = end + 1) {
		end = strchr(code, '\n');
		more = repl_scan_more(&scan, code, end ? (size_t)(end - code) : strlen(code));
		if (!end || !end[1])
			break;
	}
	repl_scan_end(&scan);
	return more;
}

TEST(finished_and_unfinished_code)
{
	static const char *const finished[] = {
		"1",
		"a = {b: [1, 2]}",
		"'(' + \"[\" + `{`",
		"`${`${1}`}`",
		"/[(/]/.test('(')",
		"a / b / (c)",
		"return_ / 2",
		"x = 1 // (",
		"/* { */ 1",
		"f(`a${{b: '}'}.b}`)",
		"'it\\'s ('",
		")",
		"}{",
		"a\n/ (b)",
		"return /(/",
		"'unclosed (",
		"x.y[0] / 2 + '/('",
		"`\\`(`",
		"`a\nb`",
		"`a\\\n`",
		"/* a\n*\n/ ( */ 1",
		"'joined \\\n('",
		"x = {\n a: '}',\n b: `}`\n}",
		"a\n/ (b)\n/ '('.length",
		"",
	};
	static const char *const unfinished_code[] = {
		"function f() {",
		"[1,",
		"(",
		"`abc",
		"`${",
		"`${1",
		"/* comment",
		"f(`a`, ",
		"if (x) {\n y()",
		"a = {b: '}'",
		"`${`}`",
		"'joined \\\n",
		"'joined \\",
		"`a\\\nb",
		"/* a\n* / )",
		"x = [\n1,\n2,\n",
		"f(/[)]/",
		"class A {\n #x = 1;",
	};

	for (size_t i = 0; i < sizeof(finished) / sizeof(finished[0]); i++) {
		EXPECT_FALSE(unfinished(finished[i]) || unfinished_lines(finished[i]))
		{
			TH_LOG("taken for unfinished: %s", finished[i]);
		}
	}
	for (size_t i = 0; i < sizeof(unfinished_code) / sizeof(unfinished_code[0]); i++) {
		EXPECT_TRUE(unfinished(unfinished_code[i]) && unfinished_lines(unfinished_code[i]))
		{
			TH_LOG("taken for finished: %s", unfinished_code[i]);
		}
	}
}

/* A NUL is a character like others, and brackets may be as deep as they like. */
TEST(code_is_as_long_as_it_is)
{
	struct repl_scan scan = {0};
	char deep[2000];

	EXPECT_TRUE(repl_scan_more(&scan, "'\0', (\0", 7));
	EXPECT_FALSE(repl_scan_more(&scan, "\0)", 2));
	memset(deep, '(', 1000);
	memset(deep + 1000, ')', 1000);
	EXPECT_TRUE(repl_scan_more(&scan, deep, 1999));
	EXPECT_FALSE(repl_scan_more(&scan, ")", 1));
	EXPECT_FALSE(scan.broken);
	repl_scan_end(&scan);
	EXPECT_TRUE(repl_blank(" \t\r\n", 4));
	EXPECT_FALSE(repl_blank(" \0", 2));
}

TEST_HARNESS_MAIN
