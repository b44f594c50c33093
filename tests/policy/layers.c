// SPDX-License-Identifier: GPL-2.0-only
/*
 * layers.c - arrows point down only: cli -> policy -> guest.h <- js, process; all -> uffd/thaw.h. No file includes a
 * header of a layer above it, nor one from behind the wall between policy and guests.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct rule {
	const char *folder;
	const char *forbidden[10]; /* starts of what stands between the quotes */
} rules[] = {
	{"vm/cli", {"js/"}},
	{"vm/control", {"js/", "process/", "policy/", "cli/", "inspect/", "top/", "guest.h"}},
	{"vm/policy", {"js/", "process/", "cli/", "inspect/", "top/", "uv.h"}},
	{"vm/inspect", {"policy/", "cli/", "top/"}},
	{"vm/engines", {"policy/", "process/", "cli/", "inspect/", "top/", "control/"}},
	{"vm/js", {"engines/", "policy/", "process/", "cli/", "inspect/", "top/"}},
	{"vm/process", {"js/", "policy/", "cli/", "inspect/", "top/"}},
	{"vm/top", {"js/", "policy/", "process/", "cli/", "inspect/", "guest.h"}},
	{"vm/store",
	 {"js/", "process/", "policy/", "cli/", "inspect/", "top/", "control/", "engines/",
	  "guest.h"}},
	{"vm/base", {"js/", "policy/", "process/", "cli/", "inspect/", "top/", "guest.h"}},
	{"uffd",
	 {"js/", "policy/", "process/", "cli/", "inspect/", "top/", "guest.h", "base/", "libmnl/"}},
};

static const struct rule *rule;
static unsigned files, includes, broken;

/* What an include names, without "../"s and "vm/"; NULL: the line is none. Changes the line. */
static char *included(char *line)
{
	char *at = line + strspn(line, " \t"), *end;

	if (*at != '#')
		return NULL;
	at++;
	at += strspn(at, " \t");
	if (strncmp(at, "include", 7))
		return NULL;
	at += 7 + strspn(at + 7, " \t");
	end = *at ? strpbrk(at + 1, "\">") : NULL;
	if (!end)
		return NULL;
	*end = '\0';
	at++;
	while (!strncmp(at, "../", 3))
		at += 3;
	return strncmp(at, "vm/", 3) ? at : at + 3;
}

static void look_at(const char *path, unsigned number, char *line)
{
	const char *name = included(line);

	if (!name)
		return;
	includes++;
	for (unsigned i = 0; i < 10 && rule->forbidden[i]; i++) {
		if (strncmp(name, rule->forbidden[i], strlen(rule->forbidden[i])))
			continue;
		printf("# %s:%u includes %s: not from %s\n", path, number, name, rule->folder);
		broken++;
	}
}

static int visit(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
	const char *dot = strrchr(path, '.');
	unsigned number = 0;
	char *line = NULL;
	size_t room = 0;
	FILE *file;

	(void)status, (void)ftw;
	if (type != FTW_F || !dot || (strcmp(dot, ".c") && strcmp(dot, ".h")))
		return 0;
	file = fopen(path, "r");
	if (!file)
		return -1;
	files++;
	while (getline(&line, &room, file) > 0)
		look_at(path, ++number, line);
	free(line);
	fclose(file);
	return 0;
}

TEST(no_file_includes_a_header_of_a_layer_above_it)
{
	char folder[4096];

	if (access(THAW_SOURCE "/vm", R_OK))
		SKIP(return, "the sources are not on this machine");
	for (unsigned i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		rule = &rules[i];
		snprintf(folder, sizeof(folder), "%s/%s", THAW_SOURCE, rule->folder);
		files = includes = 0;
		ASSERT_EQ(0, nftw(folder, visit, 16, FTW_PHYS));
		EXPECT_LT(1, files);
		EXPECT_LT(1, includes);
	}
	EXPECT_EQ(0, broken);
}

/* The rule itself is able to fail. */
TEST(what_is_forbidden_is_found)
{
	char above[] = "#include \"policy/internal.h\"\n",
	     relative[] = " # include \"../vm/js/engine/engine.h\"";
	char below[] = "#include \"guest.h\"", comment[] = "/* #include \"js/x.h\" */";

	rule = &rules[5]; /* vm/js */
	broken = 0;
	look_at("x.c", 1, above);
	EXPECT_EQ(1, broken);
	look_at("x.c", 2, below);
	look_at("x.c", 3, comment);
	EXPECT_EQ(1, broken);
	rule = &rules[0];
	look_at("x.c", 4, relative);
	EXPECT_EQ(2, broken);
	broken = 0;
}

TEST_HARNESS_MAIN
