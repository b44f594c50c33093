/* SPDX-License-Identifier: MIT */
/*
 * upgrade.h - new code for a program's old state: what the files of this folder share, and what program/ and api/ call.
 *
 *	upgrade.c	the steps, in their order
 *	plan.c		which modules changed, which come and go, in which order
 *	hooks.c		who hands over what; running hooks and new modules, waiting for them
 *	heap_modules.c, module_state.c, relink.c: the modules in the heap, see heap_modules.h
 *
 * Between turns, on the owner's thread; one upgrade in the life of a process. What fails leaves a heap that is neither old nor
 * new: the owner makes no generation of it.
 */
#ifndef VM_JS_UPGRADE_H
#define VM_JS_UPGRADE_H

#include "guest.h"
#include "heap_modules.h"
#include "js/program/program.h"

/* The names of our own modules begin with this; they are gone at the end. */
#define UPGRADE_OWN "thaw:upgrade"
/* The name of a module that was replaced ends with this, and the generation until which it was there. */
#define UPGRADE_REPLACED " replaced after generation "
#define UPGRADE_FIRST \
	UPGRADE_OWN "/first" /* throws: what follows it is linked, and not evaluated */

struct upgrade_module {
	char *name;	   /* from now on */
	uint32_t old, new; /* modules in the heap; 0: there is none. The same: it stays */
	enum guest_change_kind change;
	bool main, code;
	bool own;	 /* of Thaw, not of the program: no file */
	bool reached;	 /* by imports of the main module as it was */
	uint32_t unused; /* loaded anew, and found to be removed */
	/* Of one that is replaced or removed. */
	char *hooks;   /* who has said what becomes of its state, for people; NULL: nobody */
	bool declines; /* ... that it must not be replaced */
	char *state;   /* what would be lost; NULL: nothing */
	unsigned timers, listeners;
};

struct upgrade {
	struct program *program;
	struct js_engine *engine;
	const struct guest_upgrade *options;
	struct thaw_error *error;

	struct upgrade_module *modules; /* all of them; the order of `order` */
	unsigned count;
	size_t room;
	unsigned *order; /* of those that are evaluated: indexes, in import order */
	unsigned order_count;
	char *main; /* the name of the main module; NULL: a shell's session */
	char *old_main;
	char *check; /* the name of the check, once it has run */

	/* What our own modules import: UPGRADE_OWN "/17" is the name with that index. */
	char **names;
	unsigned name_count;
	size_t name_room;
	struct relink *relink;
};

/* ---- upgrade.c: guest_type.upgrade, and what host.c asks while one is under way */

int upgrade_program(struct guest *guest, const struct guest_upgrade *options,
		    struct guest_changes *changes, struct thaw_error *error);
/* Why it must not go on (a signal, its time limit, or the engine has trapped), as a code, told; 0. */
int upgrade_over(struct upgrade *upgrade);
/* The name of one of our own modules, and the source of UPGRADE_FIRST; malloc'ed. NULL: no memory. */
char *upgrade_resolve(const struct upgrade *upgrade, const char *specifier);
char *upgrade_load(size_t *bytes);

/* ---- plan.c */

/* Which is the main module, and was. -ENOENT, told: its file cannot be read. */
int plan_main(struct upgrade *upgrade);
/* Which modules are in the heap, and which of their files changed. */
int plan_read(struct upgrade *upgrade);
/* The new ones are in the heap: what was added, what is not needed any more, and the order. */
int plan_order(struct upgrade *upgrade);
/* Is that the name of a module of our own, or of one that was replaced? */
bool plan_leaves_out(const char *name);
struct upgrade_module *plan_find(struct upgrade *upgrade, const char *name);
/* The list of files that the heap keeps, without those that are loaded anew. */
int plan_forget_sources(struct upgrade *upgrade);

/* ---- hooks.c */

/* Who has hooks, and what would be lost. */
int hooks_look(struct upgrade *upgrade);
/* The old modules hand over, and what they have registered ends. */
int hooks_dispose(struct upgrade *upgrade);
/* The new ones run, and take over; those that import them are told. */
int hooks_evaluate(struct upgrade *upgrade);
int hooks_accept(struct upgrade *upgrade);
/* A module that throws if something is wrong. */
int hooks_check(struct upgrade *upgrade, const char *path);
/* Say what was thrown; a code. Consumes the exception. */
int hooks_thrown(struct upgrade *upgrade, js_value exception, const char *what);
/* parts.upgrade of api/hot.js; 0: no memory. */
js_value hooks_ask(struct upgrade *upgrade, const char *operation, const char *name,
		   js_value other);

#endif
