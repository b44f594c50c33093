/* SPDX-License-Identifier: MIT */
/*
 * store.h - object stores as several commands use them (store.c): a program's, from its options, and what is said where one
 * fails.
 */
#ifndef VM_CLI_STORE_H
#define VM_CLI_STORE_H

#include "cli.h"

struct place;

struct cli_store {
	struct runtime_store store;
	const struct cli_options *options;
	int count; /* thaw exec: the command */
	char **words;
	bool process;	     /* thaw exec */
	struct place *place; /* the image lives there; NULL: it does not */
};

/* s3://BUCKET/PREFIX, or the path of a file? */
bool cli_is_place(const char *word);
/*
 * What the options say of a store. `how` has --image, if it was given, and must_exist; it gets the image's file if it lives in a
 * store, and the store, which is in `store`. `program` is said to whoever loses it. 0, or an exit code after printing why.
 */
int cli_store_open(const struct cli_options *options, const char *program,
		   struct runtime_options *how, struct cli_store *store);
/* No runtime is open any more. Returns `code`. */
int cli_store_close(struct cli_store *store, int code);
/* As cli_fail_error(), of what vm/store says. */
int cli_fail_store(const struct thaw_error *error, int code);
/*
 * Does a command find all of the image in its file? Else an exit code after printing why. `changes`: a program that has it open
 * would do it itself (ctl.h).
 */
int cli_whole(const char *image, bool changes);

/* What a store holds (thaw log s3://...), and whether it can be used (thaw check s3://...). An exit code. */
int store_log(const struct cli_options *options, const char *place);
int store_check(const struct cli_options *options, const char *place);

#endif
