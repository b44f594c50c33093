/* SPDX-License-Identifier: MIT */
/* passphrase.h - asking somebody at the terminal for a passphrase. See passphrase.c. */
#ifndef VM_PASSPHRASE_H
#define VM_PASSPHRASE_H

#include <stddef.h>

#include "thaw.h"

/*
 * Up to `room` bytes of a line that is typed at the terminal of this process, unseen, behind `prompt`: how many. -ENOTTY: there is
 * none; -ECANCELED: a signal came, which waits, or the line's end was typed without a line; -errno. With `error`.
 */
int passphrase_ask(const char *prompt, char *to, size_t room, struct thaw_error *error);

#endif
