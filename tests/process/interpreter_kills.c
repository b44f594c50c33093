// SPDX-License-Identifier: GPL-2.0-only
/*
 * interpreter_kills.c - Lua goes on after SIGKILL at random moments (kills.h): a program that is small enough for emulated
 * kernels as well, which scripts/kernels brings it to. Others are in program_kills.c.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "kills.h"

static const struct victim lua = {"lua5.4", "lua.lua", NULL, "20ms", 200, NULL};

FIXTURE(interpreter)
{
	char *directory, *image;
};
FIXTURE_SETUP(interpreter)
{
	self->directory = support_directory();
	self->image = support_format("%s/program.thaw", self->directory);
}
FIXTURE_TEARDOWN(interpreter)
{
	free(self->image);
	support_remove(self->directory);
}

TEST_F_TIMEOUT(interpreter, lua_goes_on_where_it_was, 7200)
{
	if (!kills_have(lua.program))
		SKIP(return, "there is no %s here", lua.program);
	ASSERT_TRUE(kills_run(&lua, self->image, kills_wanted(6)));
}

TEST_HARNESS_MAIN
