// SPDX-License-Identifier: GPL-2.0-only
/*
 * guest_abi.c - what crosses the wall to an engine of another version lies where it lay when GUEST_ABI became what it is. Where
 * this fails, an engine that was installed before would read the wrong bytes: append to the tables, leave the other
 * structs as they are, or give GUEST_ABI another number, which leaves every image of an older engine behind.
 */
#include "kselftest_harness.h"

#include <stddef.h>

#include "embed/embed.h"
#include "embed/table.h"
#include "engines/calls.h"

/* Tables may grow. */
TEST(tables_are_appended_to)
{
	EXPECT_EQ(1, GUEST_ABI);
	EXPECT_EQ(0, offsetof(struct guest_type, size));
	EXPECT_EQ(8, offsetof(struct guest_type, identity));
	EXPECT_EQ(48, offsetof(struct guest_type, open));
	EXPECT_EQ(336, offsetof(struct guest_type, upgrade));
	EXPECT_EQ(0, offsetof(struct engine_calls, size));
	EXPECT_EQ(16, offsetof(struct engine_calls, owner_ended));
	EXPECT_EQ(232, offsetof(struct engine_calls, thaw_strerror));
	EXPECT_EQ(360, offsetof(struct engine_calls, thaw_image_names));
	EXPECT_EQ(800, offsetof(struct engine_calls, thaw_image_rollback));
}

/* Of libthawvm: VMs of an engine from before are used by it. */
TEST(the_table_of_vms_is_appended_to)
{
	EXPECT_EQ(0, offsetof(struct vm_table, size));
	EXPECT_EQ(8, offsetof(struct vm_table, options_bytes));
	EXPECT_EQ(24, offsetof(struct vm_table, identity));
	EXPECT_EQ(32, offsetof(struct vm_table, thaw_vm_open));
	EXPECT_EQ(336, offsetof(struct vm_table, thaw_vm_snapshot_open));
	EXPECT_EQ(32, sizeof(struct thaw_vm_function));
	EXPECT_EQ(0, offsetof(struct thaw_vm, table));
	/* Options, too: one from before gets those that it knows, if the others are zero. */
	EXPECT_EQ(8, offsetof(struct thaw_vm_options, image));
	EXPECT_EQ(80, offsetof(struct thaw_vm_options, snapshot));
}

/* A function that the library shows, and that is not in the table, would be called with what another engine has made. */
TEST(the_table_of_vms_is_whole)
{
	static const char *const in_the_table[] = {
#define NAME(type, name, ...) #name,
		VM_TABLE(NAME, NAME, NAME)};
	static const char *const of_no_vm[] = {"thaw_vm_strerror", "thaw_vm_engine_name",
					       "thaw_vm_generations"};
	size_t table = sizeof(in_the_table) / sizeof(*in_the_table), shown = 0;
	FILE *list = popen("nm -D --defined-only '" LIBTHAWVM "'", "r");
	char line[256], name[200];

	ASSERT_NE(NULL, list);
	while (fgets(line, sizeof(line), list)) {
		bool known = false;

		if (sscanf(line, "%*s T %199s", name) != 1)
			continue;
		name[strcspn(name, "@")] = '\0';
		shown++;
		for (size_t i = 0; i < table; i++)
			known |= !strcmp(name, in_the_table[i]);
		for (size_t i = 0; i < sizeof(of_no_vm) / sizeof(*of_no_vm); i++)
			known |= !strcmp(name, of_no_vm[i]);
		EXPECT_TRUE(known) TH_LOG("%s is not in vm/embed/table.h", name);
	}
	EXPECT_EQ(0, pclose(list));
	EXPECT_EQ(table + sizeof(of_no_vm) / sizeof(*of_no_vm), shown);
}

TEST(structs_are_as_they_were)
{
	EXPECT_EQ(168, sizeof(struct guest));
	EXPECT_EQ(40, sizeof(struct guest_options));
	EXPECT_EQ(64, sizeof(struct guest_common));
	EXPECT_EQ(656, sizeof(struct guest_outcome));
	EXPECT_EQ(16, sizeof(struct guest_upgrade));
	EXPECT_EQ(40, sizeof(struct guest_change));
	EXPECT_EQ(16, sizeof(struct guest_changes));
	EXPECT_EQ(16, sizeof(struct guest_numbers));
	EXPECT_EQ(1984, sizeof(struct runtime_stats));
	EXPECT_EQ(508, sizeof(struct thaw_error));
	EXPECT_EQ(136, sizeof(struct thaw_options));
	EXPECT_EQ(640, sizeof(struct thaw_result));
	EXPECT_EQ(1688, sizeof(struct thaw_status));
	EXPECT_EQ(112, sizeof(struct thaw_generation));
	EXPECT_EQ(72, sizeof(struct thaw_name));
	EXPECT_EQ(16, sizeof(struct thaw_thinning));
}

TEST_HARNESS_MAIN
