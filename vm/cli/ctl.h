/* SPDX-License-Identifier: MIT */
/*
 * ctl.h - for commands that find their image in use: the same, asked of the program that runs from it (thaw ctl).
 */
#ifndef VM_CLI_CTL_H
#define VM_CLI_CTL_H

#include "cli.h"

/* A change has failed because the image is in use, by a program that can do it itself. */
bool ctl_takes_over(const char *image, int code);
/* After a change failed with `code`: `taken`: a program can do it. Else as cli_again(). */
bool ctl_again(const char *image, int code, unsigned *tries, bool *taken);
/* No exit code: nobody runs from it any more, and nothing was said. What has taken it over can be done without it. */
#define CTL_ENDED (-1)
/* What came of thaw tag, whoever has done it (tag.c). */
void tag_tell(const char *name, uint64_t generation, bool given);
/* `tries`, which may be NULL, are those of ctl_again(): CTL_ENDED is for who has some left. */
int ctl_tag(const struct cli_options *options, const char *image, const char *name,
	    const char *generation, unsigned *tries);
int ctl_untag(const struct cli_options *options, const char *image, const char *name,
	      unsigned *tries);
int ctl_rollback(const struct cli_options *options, const char *image, const char *generation,
		 unsigned *tries);
int ctl_compact(const struct cli_options *options, const char *image, unsigned *tries);
int ctl_checkpoint(const struct cli_options *options, const char *image, const char *name);
/* Lines of standard input, one after the other; with a prompt at a terminal. */
int ctl_shell(const struct cli_options *options, const char *image);
int ctl_eval(const struct cli_options *options, const char *image, const char *code);

#endif
