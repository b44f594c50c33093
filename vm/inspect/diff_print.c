// SPDX-License-Identifier: MIT
/*
 * diff_print.c - prints the differences between two generations: lines for people, or JSON. Called
 * by heap_diff.c. One thread.
 */
#include <stdlib.h>

#include "heap_diff_state.h"
#include "base/format.h"

#define PATH_PARTS 100u

/* ---- Paths */

static void add_step(struct text_buffer *text, struct graph *graph, const struct step *step)
{
	switch ((enum step_kind)step->kind) {
	case STEP_GLOBAL:
		text_buffer_add(text, "globalThis");
		break;
	case STEP_MODULE:
		describe_module(text, graph, step->key);
		break;
	case STEP_PROPERTY:
		describe_property(text, graph, step->name);
		break;
	case STEP_ELEMENT:
		text_buffer_printf(text, "[%u]", step->name);
		break;
	case STEP_ENTRY:
	case STEP_MEMBER:
		text_buffer_add(text, step->kind == STEP_ENTRY ? ".get(" : ".has(");
		describe_value(text, graph, step->key);
		text_buffer_add(text, ")");
		break;
	case STEP_VARIABLE:
		text_buffer_add(text, ".(variables)");
		describe_property(text, graph, step->name);
		break;
	case STEP_ARGUMENT:
		text_buffer_printf(text, ".(arguments)[%u]", step->name);
		break;
	default:
		text_buffer_printf(text, ".%s", step->text);
		break;
	}
}

static void add_path(struct diff *diff, struct text_buffer *text, uint32_t from,
		     const struct step *last)
{
	uint32_t parts[PATH_PARTS];
	unsigned count = 0;

	while (from != NONE && count < PATH_PARTS) {
		parts[count++] = from;
		from = diff->steps[from].from;
	}
	if (from != NONE)
		text_buffer_add(text, "...");
	while (count) {
		const struct step *step = &diff->steps[parts[--count]];

		add_step(text, diff->sides[step->side].graph, step);
	}
	if (last)
		add_step(text, diff->sides[last->side].graph, last);
}

/* ---- Printing */

static void tell_side(struct diff *diff, const char *key, unsigned side, struct graph_value value)
{
	struct graph *graph = diff->sides[side].graph;
	struct text_buffer type = {0}, text = {0};

	describe_type(&type, graph, value);
	describe_value(&text, graph, value);
	json_open(&diff->json, key, '{');
	json_text(&diff->json, "type", type.s ? type.s : "");
	json_text(&diff->json, "value", text.s ? text.s : "");
	json_number(&diff->json, "bytes", graph_size(graph, value));
	json_close(&diff->json, '}');
	diff->failed = diff->failed || type.failed || text.failed;
	free(type.s);
	free(text.s);
}

static void print_side(struct diff *diff, unsigned side, struct graph_value value)
{
	struct graph *graph = diff->sides[side].graph;
	struct text_buffer text = {0};
	uint64_t bytes = graph_size(graph, value);

	describe_value(&text, graph, value);
	fprintf(diff->to, "%s", text.s ? text.s : "");
	if (bytes)
		fprintf(diff->to, " (%s)", format_bytes(bytes).s);
	diff->failed = diff->failed || text.failed;
	free(text.s);
}

void diff_print_change(struct diff *diff, enum change change, uint32_t from,
		       const struct step *last, struct graph_value older, struct graph_value newer,
		       const struct range *range)
{
	static const char *const words[] = {"appeared", "vanished", "changed"};
	static const char signs[] = "+-~";
	struct text_buffer path = {0};

	diff->found[change]++;
	if (diff->told == diff->limit)
		return;
	diff->told++;
	add_path(diff, &path, from, last);
	if (range)
		text_buffer_printf(&path, "[%u..%u]", range->first, range->last);
	diff->failed = diff->failed || path.failed;
	if (diff->as_json) {
		json_open(&diff->json, NULL, '{');
		json_text(&diff->json, "change", words[change]);
		json_text(&diff->json, "path", path.s ? path.s : "");
		if (range)
			json_number(&diff->json, "elements", range->last - range->first + 1ull);
		else if (change != APPEARED)
			tell_side(diff, "old", 0, older);
		if (!range && change != VANISHED)
			tell_side(diff, "new", 1, newer);
		json_close(&diff->json, '}');
	} else {
		fprintf(diff->to, "%c %s: ", signs[change], path.s ? path.s : "");
		if (range)
			fprintf(diff->to, "%s elements",
				format_count(range->last - range->first + 1ull).s);
		else if (change != APPEARED)
			print_side(diff, 0, older);
		if (!range && change == CHANGED)
			fprintf(diff->to, " -> ");
		if (!range && change != VANISHED)
			print_side(diff, 1, newer);
		putc('\n', diff->to);
	}
	free(path.s);
}

void diff_print_end(struct diff *diff)
{
	uint64_t all = diff->found[APPEARED] + diff->found[VANISHED] + diff->found[CHANGED];
	if (diff->as_json) {
		json_close(&diff->json, ']');
		json_number(&diff->json, "appeared", diff->found[APPEARED]);
		json_number(&diff->json, "vanished", diff->found[VANISHED]);
		json_number(&diff->json, "changed", diff->found[CHANGED]);
		json_number(&diff->json, "notShown", all - diff->told);
		json_bool(&diff->json, "deeperNotCompared", diff->cut);
		json_close(&diff->json, '}');
		putc('\n', diff->to);
	} else {
		if (all > diff->told)
			fprintf(diff->to, "... and %s more (see --limit)\n",
				format_count(all - diff->told).s);
		fprintf(diff->to, "%s appeared, %s vanished, %s changed",
			format_count(diff->found[APPEARED]).s,
			format_count(diff->found[VANISHED]).s,
			format_count(diff->found[CHANGED]).s);
		fprintf(diff->to, "%s\n",
			diff->cut ? "; deeper than --depth nothing was compared" : "");
	}
}

void diff_print_begin(struct diff *diff)
{
	const struct heap_diff_pages *pages = diff->pages;
	uint64_t differ = pages->changed + pages->appeared + pages->vanished;

	if (!diff->as_json) {
		fprintf(diff->to, "generation %llu -> %llu: %s pages differ (%s)",
			(unsigned long long)diff->sides[0].generation,
			(unsigned long long)diff->sides[1].generation, format_count(differ).s,
			format_bytes(differ * pages->bytes_each).s);
		if (pages->lost)
			fprintf(diff->to, ", %s are lost", format_count(pages->lost).s);
		putc('\n', diff->to);
		return;
	}
	json_open(&diff->json, NULL, '{');
	if (diff->sides[0].view) {
		json_text(&diff->json, "image", diff->sides[0].path);
		json_number(&diff->json, "from", diff->sides[0].generation);
		json_number(&diff->json, "to", diff->sides[1].generation);
	}
	json_number(&diff->json, "pageBytes", pages->bytes_each);
	json_open(&diff->json, "pages", '{');
	json_number(&diff->json, "appeared", pages->appeared);
	json_number(&diff->json, "vanished", pages->vanished);
	json_number(&diff->json, "changed", pages->changed);
	json_number(&diff->json, "lost", pages->lost);
	json_close(&diff->json, '}');
	json_open(&diff->json, "differences", '[');
}
