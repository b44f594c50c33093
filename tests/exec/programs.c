// SPDX-License-Identifier: GPL-2.0-only
/*
 * programs.c - programs of npm's and Debian's go on after SIGKILL at random moments (kills.h), as those in
 * tests/process/program_kills.c: 20 times each in make check-exec, 200 times in make crash-exec.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sched.h>
#include <sys/mount.h>

#include "process/kills.h"

#define PROGRAMS THAW_SOURCE "/build/programs"
#define NPM THAW_SOURCE "/build/npm-exec/node_modules"

FIXTURE(kills)
{
	char *directory, *image;
};
FIXTURE_VARIANT(kills)
{
	struct victim victim;
	const char *needs; /* what is there if it can be run; NULL: the program */
};
FIXTURE_VARIANT_ADD(kills, ruby){.victim = {"ruby", "ruby.rb", NULL, "50ms", 400, NULL}};
FIXTURE_VARIANT_ADD(kills, typescript){
	.victim = {"node", "typescript.js", NULL, "100ms", 1500, NULL}, .needs = NPM "/typescript"};
FIXTURE_VARIANT_ADD(kills, prettier){.victim = {"node", "prettier.js", NULL, "100ms", 800, NULL},
				     .needs = NPM "/prettier"};
FIXTURE_VARIANT_ADD(kills, esbuild){.victim = {"node", "esbuild.js", NULL, "100ms", 800, NULL},
				    .needs = NPM "/esbuild-wasm"};
FIXTURE_VARIANT_ADD(kills, better_sqlite3){
	.victim = {"node", "better_sqlite3.js", NULL, "100ms", 600, NULL},
	.needs = NPM "/better-sqlite3/build/Release/better_sqlite3.node"};
FIXTURE_VARIANT_ADD(kills, debian_node){
	.victim = {PROGRAMS "/bin/debian-node", "node.js", NULL, "100ms", 600, NULL},
	.needs = PROGRAMS "/bin/debian-node"};
FIXTURE_VARIANT_ADD(kills, debian_node_workers){
	.victim = {PROGRAMS "/bin/debian-node", "workers.js", NULL, "100ms", 600, NULL},
	.needs = PROGRAMS "/bin/debian-node"};

FIXTURE_SETUP(kills)
{
	self->directory = support_directory();
	self->image = support_format("%s/program.thaw", self->directory);
}
FIXTURE_TEARDOWN(kills)
{
	free(self->image);
	support_remove(self->directory);
}

/*
 * Debian's Node.js wants files of other packages below /usr/share: they are laid over it, for this process and its
 * children. False: that is not allowed here.
 */
static bool lay_over_share(void)
{
	setenv("LD_LIBRARY_PATH", PROGRAMS "/debian/usr/lib/x86_64-linux-gnu", 1);
	return !unshare(CLONE_NEWNS) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
	       !mount("overlay", "/usr/share", "overlay", MS_RDONLY,
		      "lowerdir=" PROGRAMS "/debian/usr/share:/usr/share");
}

TEST_F_TIMEOUT(kills, it_goes_on_where_it_was, 7200)
{
	if (variant->needs && access(variant->needs, F_OK))
		SKIP(return, "there is no %s", variant->needs);
	if (variant->victim.program[0] == '/' && !lay_over_share())
		SKIP(return, "nothing may be mounted here");
	if (!kills_have(variant->victim.program))
		SKIP(return, "there is no %s here", variant->victim.program);
	ASSERT_TRUE(kills_run(&variant->victim, self->image, kills_wanted(20)));
}

TEST_HARNESS_MAIN
