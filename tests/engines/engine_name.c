// SPDX-License-Identifier: GPL-2.0-only
/*
 * engine_name.c - what images rely on, which name this engine, is there and means what it did. An image has the prelude in its
 * heap that it began with: it calls functions of the host by their names, and is called by numbers. Where this fails, what
 * changed needs another name in images (ENGINE_IDENTITY in vm/engine.mk), so that the shared object of the engine before goes on
 * with them, and a line here; or an older prelude has to be served as before.
 */
#include "kselftest_harness.h"

#include "js/api/host.h"
#include "js/program/program.h"

/* Names, and the version of the state beside the heap that belongs to each. A line is added, none is changed. */
static const struct {
	const char *identity;
	unsigned state;
} named[] = {{"js-1 quickjs-wasi 3.6.2", 3}};

TEST(another_state_is_another_engine)
{
	unsigned state = 0;

	for (size_t i = 0; i < sizeof(named) / sizeof(*named); i++)
		if (!strcmp(named[i].identity, js_engine_identity))
			state = named[i].state;
	EXPECT_EQ(ENGINE_STATE, state);
}

/* Of images since the first of this name; new ones may follow. */
TEST(functions_of_the_host_stay)
{
	static const char *const needed[] = {
		"thaw.write",
		"thaw.clock",
		"thaw.random",
		"thaw.encode",
		"thaw.decode",
		"thaw.promise",
		"thaw.compile",
		"thaw.library",
		"thaw.crypto",
		"thaw.about",
		"thaw.kind",
		"thaw.view",
		"thaw.share",
		"thaw.width",
		"thaw.args",
		"thaw.environment",
		"thaw.environment_names",
		"thaw.exit",
		"thaw.uncaught",
		"thaw.checkpoint",
		"thaw.nameable",
		"thaw.listening",
		"thaw.hear",
		"thaw.bound",
		"thaw.stats",
		"thaw.collect",
		"thaw.branch",
		"thaw.file",
		"thaw.explain",
		"thaw.mapped",
		"thaw.lexical_names",
		"thaw.lexical",
		"thaw.place",
		"thaw.owner",
	};

	for (size_t i = 0; i < sizeof(needed) / sizeof(*needed); i++) {
		const struct js_host_binding *binding = host_bindings;

		while (binding->name && strcmp(binding->name, needed[i]))
			binding++;
		EXPECT_NE(NULL, binding->name) TH_LOG("%s", needed[i]);
	}
}

TEST(what_the_prelude_is_asked_keeps_its_number)
{
	static const int operations[] = {
		PRELUDE_NEXT_DUE,   PRELUDE_RUN_ONE,   PRELUDE_DURABLE,	  PRELUDE_FAILED,
		PRELUDE_RESTORED,   PRELUDE_FILE_DONE, PRELUDE_MAIN,	  PRELUDE_WATCH,
		PRELUDE_INSPECT,    PRELUDE_DESCRIBE,  PRELUDE_UNHANDLED, PRELUDE_SYNC,
		PRELUDE_MAIN_STATE, PRELUDE_UNCAUGHT,  PRELUDE_SIGNAL,	  PRELUDE_BEGIN,
		PRELUDE_UPGRADE,
	};
	static const int others[] = {PRELUDE_STATEMENT, PRELUDE_REPORT, PRELUDE_COMPLETE,
				     PRELUDE_TIMERS};

	for (int i = 0; i < (int)(sizeof(operations) / sizeof(*operations)); i++)
		EXPECT_EQ(i, operations[i]);
	for (int i = 0; i < (int)(sizeof(others) / sizeof(*others)); i++)
		EXPECT_EQ(20 + i, others[i]);
}

TEST_HARNESS_MAIN
