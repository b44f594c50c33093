// SPDX-License-Identifier: GPL-2.0-only
/*
 * netlink_spec.c - kmod-optional/thaw.yaml, which others' programs are made from, has the names and
 * numbers of uffd/kmod_netlink.h, which this project's are.
 *
 * Reads as much of YAML as that file needs: what is a name is told by its indentation.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <string.h>
#include <unistd.h>

#include "kmod_netlink.h"

#define SPEC THAW_SOURCE "/kmod-optional/thaw.yaml"

struct number {
	const char *of, *name;
	unsigned value;
};

#define REGION(name, text)                                 \
	{                                                  \
		"region", text, THAW_NETLINK_REGION_##name \
	}
#define COUNTER(name, text)                                   \
	{                                                     \
		"counters", text, THAW_NETLINK_COUNTER_##name \
	}
#define EVENT(name, text)                                \
	{                                                \
		"event", text, THAW_NETLINK_EVENT_##name \
	}

static const struct number numbers[] = {
	{"definitions", "cluster-bytes-min", THAW_NETLINK_CLUSTER_BYTES_MIN},
	{"definitions", "cluster-bytes-max", THAW_NETLINK_CLUSTER_BYTES_MAX},
	{"definitions", "ring-entries-min", THAW_NETLINK_RING_ENTRIES_MIN},
	{"definitions", "ring-entries-max", THAW_NETLINK_RING_ENTRIES_MAX},
	{"kind", "registered", THAW_NETLINK_KIND_REGISTERED},
	{"kind", "gone", THAW_NETLINK_KIND_GONE},
	{"kind", "overflow", THAW_NETLINK_KIND_OVERFLOW},
	{"kind", "read-error", THAW_NETLINK_KIND_READ_ERROR},
	{"kind", "poison", THAW_NETLINK_KIND_POISON},
	REGION(PAD, "pad"),
	REGION(ID, "id"),
	REGION(OWNER_PID, "owner-pid"),
	REGION(OWNER_UID, "owner-uid"),
	REGION(OWNER_COMM, "owner-comm"),
	REGION(IMAGE, "image"),
	REGION(PAGE_BYTES, "page-bytes"),
	REGION(MAX_BYTES, "max-bytes"),
	REGION(RESTORED_BYTES, "restored-bytes"),
	REGION(RESIDENT_BYTES, "resident-bytes"),
	REGION(COUNTERS, "counters"),
	COUNTER(PAD, "pad"),
	COUNTER(FAULTS_SERVED, "faults-served"),
	COUNTER(FAULTS_PASSED, "faults-passed"),
	COUNTER(PAGES_RESTORED, "pages-restored"),
	COUNTER(PAGES_POISONED, "pages-poisoned"),
	COUNTER(BYTES_READ, "bytes-read"),
	COUNTER(PAGES_DIRTIED, "pages-dirtied"),
	COUNTER(HARVESTS, "harvests"),
	COUNTER(PAGES_HARVESTED, "pages-harvested"),
	COUNTER(OVERFLOWS, "overflows"),
	COUNTER(READ_ERRORS, "read-errors"),
	COUNTER(RESIDENT_PAGES, "resident-pages"),
	{"tunables", "cluster-bytes", THAW_NETLINK_TUNABLE_CLUSTER_BYTES},
	{"tunables", "ring-entries", THAW_NETLINK_TUNABLE_RING_ENTRIES},
	EVENT(PAD, "pad"),
	EVENT(KIND, "kind"),
	EVENT(REGION_ID, "region-id"),
	EVENT(OWNER_PID, "owner-pid"),
	EVENT(PAGE, "page"),
	EVENT(ERROR, "error"),
	{"operations", "region-get", THAW_NETLINK_COMMAND_REGION_GET},
	{"operations", "tunables-get", THAW_NETLINK_COMMAND_TUNABLES_GET},
	{"operations", "tunables-set", THAW_NETLINK_COMMAND_TUNABLES_SET},
	{"operations", "event", THAW_NETLINK_COMMAND_EVENT},
};
#define COUNT (sizeof(numbers) / sizeof(numbers[0]))

/* Nothing was added to the header without the table above. */
_Static_assert(COUNT == 4 + THAW_NETLINK_KIND_END + THAW_NETLINK_REGION_END - 1 +
				THAW_NETLINK_COUNTER_END - 1 + THAW_NETLINK_TUNABLE_END - 1 +
				THAW_NETLINK_EVENT_END - 1 + THAW_NETLINK_COMMAND_END - 1,
	       "one row for each number of the header");

static struct number found[2 * COUNT];
static unsigned found_count;

static void add(const char *of, const char *name, unsigned value)
{
	if (found_count < 2 * COUNT)
		found[found_count++] = (struct number){strdup(of), strdup(name), value};
}

static void read_spec(FILE *file, char *family, char *group)
{
	char line[512], section[64] = "", of[64] = "";
	unsigned next = 0;

	while (fgets(line, sizeof(line), file)) {
		size_t indent = strspn(line, " ");
		char key[64], value[64];
		int words;

		line[strcspn(line, "#\n")] = '\0';
		words = sscanf(line + indent, "%63[a-z-]: %63[^|]", key, value);
		if (!indent && words >= 1) {
			snprintf(section, sizeof(section), "%s", key);
			snprintf(of, sizeof(of), "%s", key);
			next = 1;
			if (words == 2 && !strcmp(key, "name"))
				snprintf(family, 64, "%s", value);
		}
		if (words != 2)
			continue;
		if (!strcmp(section, "definitions") && indent == 4 && !strcmp(key, "name")) {
			snprintf(of, sizeof(of), "%s", value);
			next = 0;
		} else if (!strcmp(section, "definitions") && indent == 4 &&
			   !strcmp(key, "value")) {
			add("definitions", of, (unsigned)strtoul(value, NULL, 10));
		} else if (!strcmp(section, "attribute-sets") && indent == 4 &&
			   !strcmp(key, "name")) {
			snprintf(of, sizeof(of), "%s", value);
			next = 1;
		} else if (!strcmp(section, "mcast-groups") && indent == 6) {
			snprintf(group, 64, "%s", value);
		} else if (!strcmp(key, "name") &&
			   indent == (strcmp(section, "operations") ? 8u : 6u)) {
			add(of, value, next++);
		} else if (!strcmp(key, "value") &&
			   indent == (strcmp(section, "operations") ? 8u : 6u) && found_count) {
			next = (unsigned)strtoul(value, NULL, 10);
			found[found_count - 1].value = next++;
		}
	}
}

TEST(the_description_and_the_header_say_the_same)
{
	char family[64] = "", group[64] = "";
	FILE *file = fopen(SPEC, "r");

	if (!file)
		SKIP(return, "the sources are not on this machine");
	read_spec(file, family, group);
	fclose(file);
	EXPECT_STREQ(THAW_NETLINK_FAMILY, family);
	EXPECT_STREQ(THAW_NETLINK_GROUP_EVENTS, group);
	EXPECT_EQ(COUNT, found_count);
	for (unsigned i = 0; i < COUNT && i < found_count; i++) {
		EXPECT_STREQ(numbers[i].of, found[i].of);
		EXPECT_STREQ(numbers[i].name, found[i].name);
		EXPECT_EQ(numbers[i].value, found[i].value)
		{
			TH_LOG("%s of %s", numbers[i].name, numbers[i].of);
		}
	}
}

TEST_HARNESS_MAIN
