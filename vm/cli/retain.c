/* SPDX-License-Identifier: MIT */
/*
 * retain.c - reads the argument of --retain: how many of the newest generations are kept, and how
 * many older ones per period (thaw_options.retain, thinning). Pure functions.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define RETAIN_MAX 2000u  /* the limit of thaw_options */
#define THINNED_MAX 1000u /* of all rules together */

static const struct {
	const char *name;
	uint64_t seconds;
} units[] = {
	{"s", 1},	 {"sec", 1},	{"min", 60},	  {"h", 3600},
	{"hour", 3600},	 {"d", 86400},	{"day", 86400},	  {"days", 86400},
	{"hours", 3600}, {"w", 604800}, {"week", 604800}, {"weeks", 604800},
};

/* Read the digits at `at` and move past them. False: there are none, or too many. */
static bool number_read(const char **at, uint64_t *number)
{
	char *end;

	if (!isdigit((unsigned char)**at))
		return false;
	errno = 0;
	*number = strtoull(*at, &end, 10);
	*at = end;
	return !errno;
}

/* Read a period, such as "min" or "15min". Returns NULL, or what is wrong with it. */
static const char *period_read(const char *at, uint64_t *period_ns)
{
	uint64_t count = 1;

	if (isdigit((unsigned char)*at) && !number_read(&at, &count))
		return "a period that is too long";
	if (!count)
		return "a period of nothing";
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(at, units[i].name))
			continue;
		if (count > INT64_MAX / 1000000000u / units[i].seconds)
			return "a period that is too long";
		*period_ns = count * units[i].seconds * 1000000000u;
		return NULL;
	}
	return "an unknown period";
}

static const char *rule_read(const char *period, uint64_t count, struct cli_retention *retention)
{
	struct thaw_thinning *rule = &retention->rules[retention->rule_count];
	uint64_t thinned = count;

	if (retention->rule_count == THAW_THINNING_MAX)
		return "one rule too many (there may be 8)";
	for (unsigned i = 0; i < retention->rule_count; i++)
		thinned += retention->rules[i].count;
	if (count > THINNED_MAX || thinned > THINNED_MAX)
		return "too many generations (the rules may keep 1000)";
	rule->count = (unsigned)count;
	retention->rule_count++;
	return period_read(period, &rule->period_ns);
}

static const char *part_read(const char *part, struct cli_retention *retention)
{
	bool counts = isdigit((unsigned char)*part);
	uint64_t count;

	if (!*part)
		return "an empty rule";
	if (!number_read(&part, &count))
		return counts ? "too many generations" : "no count";
	if (!count)
		return "a count of 0";
	if (*part == '/')
		return rule_read(part + 1, count, retention);
	if (*part)
		return "more than a count";
	if (retention->newest)
		return "a second number of newest ones";
	if (count > RETAIN_MAX)
		return "too many generations (of the newest it may keep 2000)";
	retention->newest = (unsigned)count;
	return NULL;
}

bool parse_retention(const char *word, struct cli_retention *retention, char *why, size_t room)
{
	char part[64];

	*retention = (struct cli_retention){0};
	for (const char *at = word;;) {
		size_t length = strcspn(at, ",");
		const char *wrong = length < sizeof(part) ? NULL : "more than a rule can have";

		snprintf(part, sizeof(part), "%.*s", (int)(length < 64 ? length : 63), at);
		if (!wrong)
			wrong = part_read(part, retention);
		if (wrong) {
			snprintf(why, room, *part ? "%s in '%s'" : "%s", wrong, part);
			return false;
		}
		if (!at[length])
			return true;
		at += length + 1;
	}
}
