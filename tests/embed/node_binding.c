// SPDX-License-Identifier: GPL-2.0-only
/*
 * node_binding.c - runs the tests of the package for Node.js (tests/embed/node), which are for Node's own runner, with the Node.js
 * of this machine: one process for each file. What they print comes here if one fails.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"

#define PACKAGE THAW_NODE "/package"

FIXTURE(node)
{
	char log[64];
};
FIXTURE_VARIANT(node)
{
	const char *file;
};
FIXTURE_VARIANT_ADD(node, values){.file = "values"};
FIXTURE_VARIANT_ADD(node, calls){.file = "calls"};
FIXTURE_VARIANT_ADD(node, time){.file = "time"};
FIXTURE_VARIANT_ADD(node, snapshots){.file = "snapshots"};
FIXTURE_VARIANT_ADD(node, threads){.file = "threads"};
FIXTURE_VARIANT_ADD(node, traps){.file = "traps"};
FIXTURE_VARIANT_ADD(node, package){.file = "package"};

FIXTURE_SETUP(node)
{
	snprintf(self->log, sizeof(self->log), "/tmp/thaw-test-node-%d.log", getpid());
}

FIXTURE_TEARDOWN(node)
{
	unlink(self->log);
}

static void show(const char *path)
{
	char line[512];
	FILE *file = fopen(path, "r");

	while (file && fgets(line, sizeof(line), file))
		printf("# %s", line);
	if (file)
		fclose(file);
}

TEST_F(node, tests_pass)
{
	char command[2048];
	int status;

	if (access(PACKAGE "/index.js", R_OK))
		SKIP(return, "this build has no package for Node.js");
	snprintf(command, sizeof(command), "command -v node >%s", self->log);
	if (system(command))
		SKIP(return, "there is no Node.js here");
	snprintf(command, sizeof(command),
		 "THAW_VM_PACKAGE='" PACKAGE "' THAW_VM_TARBALL='" THAW_NODE_PACKAGE
		 "' THAW_VM_NPM='" THAW_NPM "' node '" THAW_SOURCE
		 "/tests/embed/node/%s.test.js' >%s 2>&1",
		 variant->file, self->log);
	status = system(command);
	EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0)
	{
		show(self->log);
	}
}

TEST_HARNESS_MAIN
