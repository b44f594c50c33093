/* SPDX-License-Identifier: MIT */
/* top_frame.h - what is on the screen of `thaw top`: lines that fit into its width. One thread. */
#ifndef VM_CLI_TOP_FRAME_H
#define VM_CLI_TOP_FRAME_H

#include "top.h"

#define TOP_COLUMNS_MAX 32u

struct top_frame {
	unsigned columns, lines; /* of the screen */
	size_t first;		 /* the first row that is shown; drawing corrects it */
	/* Set by drawing. */
	size_t rows; /* how many there is room for */
	bool shown[TOP_COLUMNS_MAX];
};

/* As many lines as the screen has, at most, each of which clears what was in it. */
void top_frame_draw(struct top_frame *frame, const struct top *top, FILE *to);
void top_frame_help(struct top_frame *frame, FILE *to);
/* All rows, without control sequences. */
void top_frame_print(struct top_frame *frame, const struct top *top, FILE *to);

#endif
