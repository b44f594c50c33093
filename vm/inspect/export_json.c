// SPDX-License-Identifier: MIT
/*
 * export_json.c - a generation as JSON for people: the globals and the variables of modules, as
 * values. Called by thaw export. One thread. Must never run the program's code.
 *
 * What JSON has a form for is written in that form. Everything else is an object with a "$type"; a
 * property of the program whose name begins with $ gets another $ in front. An object is written
 * where it is met first; where it is met again, {"$ref": "path"} stands for it, and the same goes
 * for a long text. What is left out is said: "$cut", "$more".
 *
 * Memory is taken for the objects on the way down with what they refer to (up to the limit each),
 * and for a record of every object that was met. This file writes the document,
 * export_json_object.c the objects, export_json_value.c single values, export_json_path.c the
 * paths.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/failure.h"
#include "export_json_state.h"

#define DEPTH_DEFAULT 64u
#define LIMIT_DEFAULT 100000u

/* The names that `edges` has, with their values, each on a line. */
static void put_names(struct exporter *exporter, const struct edges *edges, size_t indent)
{
	struct json *json = &exporter->json;

	for (size_t i = 0; i < edges->count && !exporter->failed; i++) {
		const struct graph_edge *edge = &edges->edge[i];

		json_line(json, indent);
		export_json_put_name(exporter, edge->name);
		if (edge->kind == GRAPH_GETTER || edge->kind == GRAPH_SETTER)
			export_json_put_accessor(exporter, edge->text);
		else
			export_json_put_tree(exporter, graph_follow(exporter->graph, edge->to),
					     edge);
	}
	if (edges->more) {
		json_line(json, indent);
		json_number(json, "$more", edges->more);
	}
	if (edges->count || edges->more)
		json_line(json, indent - 1);
}

struct variables {
	struct exporter *exporter;
	struct edges edges;
	bool declared; /* the module has variables of its own, and its exports are among them */
};

static int collect_variable(void *arg, const struct graph_edge *edge)
{
	struct variables *variables = arg;
	struct graph_edge variable = *edge;

	if (edge->kind == GRAPH_VARIABLE)
		variables->declared = true;
	else if (edge->kind == GRAPH_IMPORT && variables->exporter->options.all)
		variable.kind = GRAPH_VARIABLE;
	else if (edge->kind != GRAPH_PROPERTY || variables->declared)
		return 0;
	else
		variable.kind = GRAPH_VARIABLE;
	return export_json_keep(variables->exporter, &variables->edges, &variable);
}

static int put_module(void *arg, const struct graph_edge *edge)
{
	struct exporter *exporter = arg;
	struct variables variables = {.exporter = exporter};
	struct json *json = &exporter->json;
	struct graph_text name;
	const char *fallback;

	if (!exporter->options.all && !inspection_is_program_module(exporter->graph, edge->to))
		return 0;
	graph_edges(exporter->graph, edge->to, collect_variable, &variables);
	exporter->module = edge->name;
	name = graph_text(exporter->graph, graph_name(exporter->graph, edge->to, &fallback), 4096);
	json_line(json, 2);
	json_name_units(json, name.units, name.count);
	free(name.units);
	json_open(json, NULL, '{');
	json_line(json, 3);
	json_open(json, "variables", '{');
	put_names(exporter, &variables.edges, 4);
	json_close(json, '}');
	json_line(json, 2);
	json_close(json, '}');
	free(variables.edges.edge);
	return exporter->failed;
}

static int keep_frame(void *arg, const struct graph_edge *edge)
{
	struct variables *variables = arg;

	if (edge->kind != GRAPH_VARIABLE && edge->kind != GRAPH_INTERNAL)
		return 0;
	return export_json_keep(variables->exporter, &variables->edges, edge);
}

/* Of a generation taken in the middle of a turn: the functions that run, innermost first. */
static void put_running(struct exporter *exporter)
{
	struct variables variables = {.exporter = exporter};
	struct json *json = &exporter->json;
	size_t next;

	graph_edges(exporter->graph, (struct graph_value){GRAPH_ROOT, GRAPH_ROOT_STACK}, keep_frame,
		    &variables);
	if (!variables.edges.count)
		return;
	json_line(json, 1);
	json_open(json, "running", '[');
	for (size_t i = 0; i < variables.edges.count && !exporter->failed; i = next) {
		struct edges frame = {.edge = variables.edges.edge + i + 1};

		for (next = i + 1; next < variables.edges.count &&
				   variables.edges.edge[next].kind == GRAPH_VARIABLE;
		     next++)
			frame.count++;
		json_line(json, 2);
		json_open(json, NULL, '{');
		json_text(json, "$type", "call");
		export_json_put_function(exporter, variables.edges.edge[i].to);
		json_open(json, "variables", '{');
		exporter->frame++; /* EXPORT_NONE + 1 is 0: the number of the first one */
		put_names(exporter, &frame, 3);
		json_close(json, '}');
		json_close(json, '}');
	}
	json_line(json, 1);
	json_close(json, ']');
	free(variables.edges.edge);
}

static void put_document(struct exporter *exporter)
{
	struct json *json = &exporter->json;
	struct edges edges = {0};

	json_open(json, NULL, '{');
	json_line(json, 1);
	json_text(json, "image", exporter->inspection->path);
	json_line(json, 1);
	json_number(json, "generation", exporter->inspection->generation);
	exporter->module = exporter->frame = EXPORT_NONE;
	json_line(json, 1);
	json_open(json, "globals", '{');
	export_json_collect(exporter, graph_global(exporter->graph), true, &edges);
	/* A script's let, const and class variables are kept beside them. */
	export_json_collect(exporter, graph_global_variables(exporter->graph), true, &edges);
	put_names(exporter, &edges, 2);
	free(edges.edge);
	json_close(json, '}');
	json_line(json, 1);
	json_open(json, "modules", '{');
	graph_edges(exporter->graph, (struct graph_value){GRAPH_ROOT, GRAPH_ROOT_MODULES},
		    put_module, exporter);
	if (exporter->module != EXPORT_NONE)
		json_line(json, 1);
	json_close(json, '}');
	put_running(exporter);
	json_line(json, 0);
	json_close(json, '}');
	putc('\n', json->to);
}

int export_json_write(struct inspection *inspection, const struct export_json_options *options,
		      FILE *to, struct thaw_error *error)
{
	struct exporter exporter = {
		.inspection = inspection,
		.graph = inspection->graph,
		.json = {.to = to, .spaced = true},
		.options = *options,
	};
	int code;

	if (!exporter.options.depth)
		exporter.options.depth = DEPTH_DEFAULT;
	if (!exporter.options.limit)
		exporter.options.limit = LIMIT_DEFAULT;
	graph_begin(inspection->graph);
	put_document(&exporter);
	code = graph_failed(inspection->graph, error);
	if (!code && exporter.failed)
		code = failure(error, -ENOMEM, "%s: not enough memory to export it",
			       inspection->path);
	while (exporter.depth)
		free(exporter.levels[--exporter.depth].edges.edge);
	free(exporter.levels);
	free(exporter.met);
	number_map_free(&exporter.met_numbers);
	return code;
}
