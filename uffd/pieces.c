/* SPDX-License-Identifier: MIT */
/* pieces.c - see pieces.h. */
#include "pieces.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void pieces_free(struct pieces *pieces)
{
	free(pieces->list);
	*pieces = (struct pieces){0};
}

static int reserve(struct pieces *pieces, size_t more)
{
	size_t room = pieces->room ? pieces->room : 16;
	struct piece *list;

	while (room < pieces->count + more)
		room *= 2;
	if (room == pieces->room)
		return 0;
	list = realloc(pieces->list, room * sizeof(*list));
	if (!list)
		return -ENOMEM;
	pieces->list = list;
	pieces->room = room;
	return 0;
}

size_t pieces_from(const struct pieces *pieces, uint64_t page)
{
	size_t low = 0, high = pieces->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (pieces->list[middle].end > page)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

const struct piece *pieces_at(const struct pieces *pieces, uint64_t page)
{
	size_t i = pieces_from(pieces, page);

	return i < pieces->count && pieces->list[i].first <= page ? &pieces->list[i] : NULL;
}

const struct piece *pieces_with(const struct pieces *pieces, uint64_t stored, uint64_t *page)
{
	const struct piece *piece = pieces_at(pieces, stored);
	size_t left = pieces->moved;

	if (piece && !piece_moved(piece)) {
		*page = stored;
		return piece;
	}
	for (piece = pieces->list; left; piece++) {
		if (!piece_moved(piece))
			continue;
		left--;
		if (stored < piece->stored || stored >= piece_stored_end(piece))
			continue;
		*page = piece->first + (stored - piece->stored);
		return piece;
	}
	return NULL;
}

int pieces_add(struct pieces *pieces, struct piece piece)
{
	size_t i = pieces_from(pieces, piece.first);

	if (piece.first == piece.end)
		return 0;
	if (reserve(pieces, 1))
		return -ENOMEM;
	memmove(&pieces->list[i + 1], &pieces->list[i], (pieces->count - i) * sizeof(piece));
	pieces->list[i] = piece;
	pieces->count++;
	pieces->moved += piece_moved(&piece);
	return 0;
}

static struct piece part_of(const struct piece *piece, uint64_t first, uint64_t end)
{
	return (struct piece){
		.first = first, .end = end, .stored = piece->stored + (first - piece->first)};
}

int pieces_cut(struct pieces *pieces, uint64_t first, uint64_t end, struct pieces *out)
{
	size_t from = pieces_from(pieces, first), to = from, kept = 0;
	struct piece keep[2];

	while (to < pieces->count && pieces->list[to].first < end)
		to++;
	/* Whoever is in the middle of one piece makes two of it. */
	if (from == to)
		return 0;
	if (reserve(pieces, 1) || (out && reserve(out, to - from)))
		return -ENOMEM;
	for (size_t i = from; i < to; i++) {
		const struct piece *piece = &pieces->list[i];
		uint64_t begin = piece->first > first ? piece->first : first;
		uint64_t until = piece->end < end ? piece->end : end;

		if (piece->first < begin)
			keep[kept++] = part_of(piece, piece->first, begin);
		if (until < piece->end)
			keep[kept++] = part_of(piece, until, piece->end);
		if (out)
			pieces_add(out, part_of(piece, begin, until));
		pieces->moved -= piece_moved(piece);
	}
	memmove(&pieces->list[from + kept], &pieces->list[to],
		(pieces->count - to) * sizeof(*pieces->list));
	pieces->count = pieces->count - (to - from) + kept;
	for (size_t i = 0; i < kept; i++) {
		pieces->list[from + i] = keep[i];
		pieces->moved += piece_moved(&keep[i]);
	}
	return 0;
}

int pieces_copy(struct pieces *to, const struct pieces *from)
{
	*to = (struct pieces){0};
	if (reserve(to, from->count))
		return -ENOMEM;
	if (from->count)
		memcpy(to->list, from->list, from->count * sizeof(*from->list));
	to->count = from->count;
	to->moved = from->moved;
	return 0;
}
