/* SPDX-License-Identifier: MIT */
/*
 * page_changes.c - thaw diff --pages: which pages of the heap differ between two generations, for
 * images of any engine. Reads only; the image may be in use.
 */
#include "areas.h"
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
	FILE *to;
	struct json *json; /* NULL: for people */
	uint32_t page_bytes;
	uint64_t pages[KINDS];
	bool process; /* the place of a page is an address, not an offset */
};

static int tell_change(void *arg, const struct thaw_page_change *change)
{
	struct telling *telling = arg;

	telling->pages[change->kind] += change->pages;
	if (telling->json) {
		json_open(telling->json, NULL, '{');
		json_text(telling->json, "change", words[change->kind]);
		json_number(telling->json, "firstPage", change->first);
		json_number(telling->json, "pages", change->pages);
		json_close(telling->json, '}');
		return 0;
	}
	fprintf(telling->to, "%c page%s %llu", signs[change->kind], change->pages == 1 ? "" : "s",
		(unsigned long long)change->first);
	if (change->pages > 1)
		fprintf(telling->to, "-%llu",
			(unsigned long long)(change->first + change->pages - 1));
	fprintf(telling->to, ": %s at ", format_bytes(change->pages * telling->page_bytes).s);
	if (telling->process)
		fprintf(telling->to, "address %llx\n",
			(unsigned long long)change->first * telling->page_bytes);
	else
		fprintf(telling->to, "%s\n", format_bytes(change->first * telling->page_bytes).s);
	return 0;
}

static void tell_sums(const struct telling *telling)
{
	const uint64_t *pages = telling->pages;
	uint64_t all = 0;

	for (unsigned i = 0; i < KINDS; i++)
		all += pages[i];
	for (unsigned i = 0; telling->json && i < KINDS; i++)
		json_number(telling->json, words[i], pages[i]);
	if (telling->json)
		return;
	fprintf(telling->to, "pages: %s appeared, %s vanished, %s changed",
		format_count(pages[THAW_CHANGE_APPEARED]).s,
		format_count(pages[THAW_CHANGE_VANISHED]).s,
		format_count(pages[THAW_CHANGE_CHANGED]).s);
	if (pages[THAW_CHANGE_LOST])
		fprintf(telling->to, ", %s lost", format_count(pages[THAW_CHANGE_LOST]).s);
	fprintf(telling->to, " (%s)\n", format_bytes(all * telling->page_bytes).s);
}

int page_changes_list(struct thaw_image *image, const char *path, const uint64_t generations[2],
		      bool as_json, FILE *to, struct thaw_error *error)
{
	struct json json = {.to = to};
	struct telling telling = {.to = to, .json = as_json ? &json : NULL};
	struct thaw_image_info info;
	int code = thaw_image_info(image, false, &info, error);

	if (code < 0)
		return code;
	telling.page_bytes = info.page_bytes;
	telling.process = process_is_engine(info.engine);
	if (as_json) {
		json_open(&json, NULL, '{');
		json_text(&json, "image", path);
		json_number(&json, "from", generations[0]);
		json_number(&json, "to", generations[1]);
		json_number(&json, "pageBytes", info.page_bytes);
		json_open(&json, "runs", '[');
	}
	code = thaw_image_diff(image, generations[0], generations[1], tell_change, &telling, error);
	if (as_json)
		json_close(&json, ']');
	if (as_json || !code || telling.pages[THAW_CHANGE_LOST])
		tell_sums(&telling);
	if (as_json) {
		json_close(&json, '}');
		fputc('\n', to);
	}
	return code;
}
