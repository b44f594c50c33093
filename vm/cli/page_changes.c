/* SPDX-License-Identifier: MIT */
/*
 * page_changes.c - thaw diff at the level of pages: in which of them the heaps of two generations
 * differ, whatever they hold. Reads only; the image may be in use.
 */
#include "page_changes.h"

static const char *const words[] = {
	[THAW_CHANGE_APPEARED] = "appeared",
	[THAW_CHANGE_VANISHED] = "vanished",
	[THAW_CHANGE_CHANGED] = "changed",
	[THAW_CHANGE_LOST] = "lost",
};
static const char signs[] = {
	[THAW_CHANGE_APPEARED] = '+',
	[THAW_CHANGE_VANISHED] = '-',
	[THAW_CHANGE_CHANGED] = '~',
	[THAW_CHANGE_LOST] = '?',
};
#define KINDS (sizeof(signs) / sizeof(signs[0]))

struct telling {
	const struct page_changes *changes;
	uint32_t page_bytes;
	uint64_t pages[KINDS];
};

static int tell_change(void *arg, const struct thaw_page_change *change)
{
	struct telling *telling = arg;
	struct json *json = telling->changes->json;

	telling->pages[change->kind] += change->pages;
	if (!telling->changes->list)
		return 0;
	if (json) {
		json_open(json, NULL, '{');
		json_text(json, "change", words[change->kind]);
		json_number(json, "firstPage", change->first);
		json_number(json, "pages", change->pages);
		json_close(json, '}');
		return 0;
	}
	fprintf(telling->changes->out, "%c page%s %llu", signs[change->kind],
		change->pages == 1 ? "" : "s", (unsigned long long)change->first);
	if (change->pages > 1)
		fprintf(telling->changes->out, "-%llu",
			(unsigned long long)(change->first + change->pages - 1));
	fprintf(telling->changes->out, ": %s at %s\n",
		format_bytes(change->pages * telling->page_bytes).s,
		format_bytes(change->first * telling->page_bytes).s);
	return 0;
}

static void tell_sums(const struct telling *telling)
{
	const uint64_t *pages = telling->pages;
	struct json *json = telling->changes->json;
	uint64_t all = 0;

	for (unsigned i = 0; i < KINDS; i++)
		all += pages[i];
	if (json) {
		for (unsigned i = 0; i < KINDS; i++)
			json_number(json, words[i], pages[i]);
		return;
	}
	fprintf(telling->changes->out, "pages: %s appeared, %s vanished, %s changed",
		format_count(pages[THAW_CHANGE_APPEARED]).s,
		format_count(pages[THAW_CHANGE_VANISHED]).s,
		format_count(pages[THAW_CHANGE_CHANGED]).s);
	if (pages[THAW_CHANGE_LOST])
		fprintf(telling->changes->out, ", %s lost",
			format_count(pages[THAW_CHANGE_LOST]).s);
	fprintf(telling->changes->out, " (%s)\n", format_bytes(all * telling->page_bytes).s);
}

int page_changes_tell(const struct page_changes *changes, struct thaw_error *error)
{
	struct telling telling = {.changes = changes};
	struct thaw_image_info info;
	int code = thaw_image_info(changes->path, false, &info, error);

	if (code < 0)
		return code;
	telling.page_bytes = info.page_bytes;
	if (changes->json) {
		json_open(changes->json, "pages", '{');
		if (changes->list)
			json_open(changes->json, "runs", '[');
	}
	code = thaw_image_diff(changes->path, changes->from, changes->to, tell_change, &telling,
			       error);
	if (changes->json && changes->list)
		json_close(changes->json, ']');
	if (!code || telling.pages[THAW_CHANGE_LOST] || changes->json)
		tell_sums(&telling);
	if (changes->json)
		json_close(changes->json, '}');
	return code;
}
