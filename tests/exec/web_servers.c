// SPDX-License-Identifier: GPL-2.0-only
/*
 * web_servers.c - servers of npm's packages go on after SIGKILL, as those in tests/process/servers.c: 20 times each in make
 * check-exec, 200 times in make crash-exec.
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
FIXTURE_VARIANT_ADD(server, express){.server = {"node", "web_servers.js", "express", GET_COUNT}};
FIXTURE_VARIANT_ADD(server, fastify){.server = {"node", "web_servers.js", "fastify", GET_COUNT}};
FIXTURE_VARIANT_ADD(server, hono){.server = {"node", "web_servers.js", "hono", GET_COUNT}};

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
	ASSERT_TRUE(server_keeps(&variant->server, self->image, kills_wanted(20)));
}

TEST_F_TIMEOUT(server, answers_clients_that_dial_again, 7200)
{
	if (!kills_have(variant->server.program))
		SKIP(return, "there is no %s here", variant->server.program);
	ASSERT_TRUE(server_has_clients(&variant->server, self->image, kills_wanted(20)));
}

TEST_HARNESS_MAIN
