// SPDX-License-Identifier: GPL-2.0-only
/*
 * guest_abi.c - what crosses the wall to an engine of another version lies where it lay when GUEST_ABI became what it is. Where
 * this fails, an engine that was installed before would read the wrong bytes: append to the tables, leave the other
 * structs as they are, or give GUEST_ABI another number, which leaves every image of an older engine behind.
 */
#include "kselftest_harness.h"

#include <stddef.h>

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
	EXPECT_EQ(128, sizeof(struct thaw_options));
	EXPECT_EQ(640, sizeof(struct thaw_result));
	EXPECT_EQ(1688, sizeof(struct thaw_status));
	EXPECT_EQ(112, sizeof(struct thaw_generation));
	EXPECT_EQ(72, sizeof(struct thaw_name));
	EXPECT_EQ(16, sizeof(struct thaw_thinning));
}

TEST_HARNESS_MAIN
