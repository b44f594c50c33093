/* SPDX-License-Identifier: MIT */
/*
 * io.h - what the outside does for a program while it goes on: an operation is begun in a turn, goes on
 * without the VM, and is told in a turn of its own.
 *
 * Each has a number, counted in the heap, where what it is for is kept (prelude.js, operations): so a process
 * that is restored knows what the process before had begun and not told. What became of such a one is the
 * prelude's to decide by its kind: issue it again, or tell the program that nobody can know (EINTERRUPTED).
 * `first_number` is where this process's own begin.
 *
 * From io_hold() to its tell(), an operation holds the loop: a program that waits for it does not end.
 */
#ifndef VM_JS_IO_H
#define VM_JS_IO_H

#include <stdbool.h>

struct program;
struct io;

struct io_type { /* one kind of operation: files.c */
	/* It is done: tell the program, in a turn. Frees the operation. */
	void (*tell)(struct program *program, struct io *io);
	/* It is done, and nobody is told any more. */
	void (*drop)(struct io *io);
	/* The program ends: do not begin if it has not begun, do not wait for what can be left. */
	void (*cancel)(struct io *io);
	/* exit() did not wait for it: what it does, "the reading of PATH", into `text`. */
	void (*describe)(const struct io *io, char *text, unsigned room);
};

struct io { /* the first member of each operation's own struct */
	const struct io_type *type;
	struct program *program;
	double number;
	struct io *before, *after; /* in one of the two lists */
};

struct io_list {
	unsigned holds; /* begun, and not told yet */
	struct io *first_begun, *last_begun;
	struct io *first_done, *last_done;
	double first_number; /* lowest number begun by this process; 0: none yet */
};

/* It was begun. `io` has its type, program and number. */
void io_hold(struct io *io);
/* It has ended, well or not: told by io_tell(), or dropped if nothing is told any more. Owner's thread. */
void io_done(struct io *io);
/* Between turns: one that is done is told. False: there was none. */
bool io_tell(struct program *program);
/* At the end, when nothing is told any more: cancel all, and wait a moment for what is under way. */
void io_settle(struct program *program);
/* Is anything begun, and not told? It then still knows the program. */
bool io_holds(const struct program *program);
/* Is a thread still in an operation that io_settle() left behind? */
bool io_left_behind(void);

#endif
