// SPDX-License-Identifier: MIT
/*
 * queue.c - the queue of an outlet: pieces in order, and from which capture on they can be sent.
 *
 * All with the output's lock. Only release.c takes a piece away, and it does so from the front, so that what it sends
 * without the lock stays where it is; small writes of one epoch share a piece.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "process/output/internal.h"

struct piece *piece_make(enum piece_kind kind, size_t room)
{
	struct piece *piece = malloc(sizeof(*piece) + room);

	if (piece)
		*piece = (struct piece){.kind = kind, .room = room};
	return piece;
}

void piece_free(struct piece *piece)
{
	if (!piece)
		return;
	for (unsigned i = 0; i < piece->fd_count; i++)
		close(piece->fds[i]);
	free(piece->fds);
	free(piece->control);
	free(piece->address);
	free(piece);
}

static void link_piece(struct outlet *outlet, struct piece *piece)
{
	if (outlet->last)
		outlet->last->next = piece;
	else
		outlet->first = piece;
	outlet->last = piece;
}

static void note_queued(struct output *output, struct outlet *outlet)
{
	if (outlet->is_queued)
		return;
	outlet->is_queued = true;
	outlet->queued = output->queued;
	output->queued = outlet;
}

struct piece *queue_room(struct output *output, struct outlet *outlet, size_t wanted, int flags)
{
	struct piece *last = outlet->last;

	if (last && last->kind == PIECE_BYTES_OF && last->epoch == output->epoch &&
	    last->flags == flags && !last->control && last->room - last->bytes >= wanted)
		return last;
	last = piece_make(PIECE_BYTES_OF, wanted < PIECE_BYTES ? PIECE_BYTES : wanted);
	if (last)
		last->flags = flags;
	return last;
}

/* Something of this epoch is held. */
static void note_held(struct output *output, size_t bytes)
{
	output->bytes += bytes;
	output->waits = true;
	if (output->owner.held)
		output->owner.held(output->owner.arg, bytes);
}

void queue_added(struct output *output, struct outlet *outlet, struct piece *piece, size_t bytes)
{
	if (piece != outlet->last) {
		piece->epoch = output->epoch;
		link_piece(outlet, piece);
	}
	piece->bytes += bytes;
	outlet->bytes += bytes;
	note_queued(output, outlet);
	note_held(output, bytes);
	outlet_refresh(output, outlet);
}

void queue_append(struct output *output, struct outlet *outlet, struct piece *piece)
{
	piece->epoch = output->epoch;
	link_piece(outlet, piece);
	outlet->bytes += piece->bytes;
	note_queued(output, outlet);
	note_held(output, piece->bytes);
}

void queue_pop(struct output *output, struct outlet *outlet)
{
	struct piece *piece = outlet->first;

	outlet->first = piece->next;
	if (!outlet->first)
		outlet->last = NULL;
	outlet->bytes -= piece->bytes - piece->done;
	output->bytes -= piece->bytes - piece->done;
	piece_free(piece);
}

void queue_drop(struct output *output, struct outlet *outlet)
{
	while (outlet->first)
		queue_pop(output, outlet);
}

bool queue_is_released(const struct output *output, const struct outlet *outlet)
{
	return outlet->first && outlet->first->epoch < output->released;
}
