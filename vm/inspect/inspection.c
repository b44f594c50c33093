// SPDX-License-Identifier: MIT
/*
 * inspection.c - opens one generation of an image as a graph of objects, and says which of them are
 * the program's own. Called by the commands that look into images. One thread. Must never run the
 * program's code.
 */
#include <stdlib.h>
#include <string.h>

#include "base/failure.h"
#include "inspection.h"
#include "js/engine/engine.h"

#define PIECE_BYTES 65536u /* of the heap, between two reports of progress */

/* ---- Opening */

static int view_read(void *arg, uint64_t offset, void *buffer, size_t bytes,
		     struct thaw_error *error)
{
	struct inspection *inspection = arg;
	uint64_t piece = offset / PIECE_BYTES, last = (offset + bytes - 1) / PIECE_BYTES;

	for (; inspection->touched && piece <= last; piece++) {
		uint8_t bit = (uint8_t)(1u << piece % 8), *byte = &inspection->touched[piece / 8];

		if (*byte & bit)
			continue;
		*byte |= bit;
		inspection->done += PIECE_BYTES;
		inspection->progress(inspection->progress_arg, inspection->done, inspection->total);
	}
	return thaw_view_read(inspection->view, offset, buffer, bytes, error);
}

void inspection_watch(struct inspection *inspection,
		      int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg)
{
	inspection->total = thaw_view_generation(inspection->view)->heap_bytes;
	inspection->progress = progress;
	inspection->progress_arg = arg;
	inspection->touched = calloc(inspection->total / PIECE_BYTES / 8 + 1, 1);
}

static int check_engine(const struct thaw_image *image, const char *path, struct thaw_error *error)
{
	struct thaw_image_info info;
	int code = thaw_image_info(image, false, &info, error);

	if (code < 0)
		return code;
	if (strcmp(info.engine, js_engine_identity))
		return failure(
			error, THAW_EENGINE,
			"%s: an image of engine '%s', inside of which only a thaw looks that it is "
			"built into, not this one ('%s'): use that one; thaw eval, and thaw diff --pages, "
			"work with this one, too",
			path, info.engine, js_engine_identity);
	return 0;
}

int inspection_open_heap(struct inspection *inspection, const struct graph_source *source,
			 const void *state, size_t bytes, struct thaw_error *error)
{
	int code = js_blob_decode(state, bytes, &inspection->blob, error);

	if (!code)
		code = graph_open(source, &inspection->blob, &inspection->graph, error);
	if (code)
		inspection_close(inspection);
	return code;
}

int inspection_open(struct inspection *inspection, struct thaw_image *image, const char *path,
		    uint64_t generation, struct thaw_error *error)
{
	struct graph_source source = {.read = view_read, .arg = inspection, .name = path};
	const void *state;
	size_t bytes;
	int code;

	*inspection = (struct inspection){.path = path};
	code = check_engine(image, path, error);
	if (!code)
		code = thaw_view_open(image, generation, &inspection->view, error);
	if (code)
		return code;
	inspection->generation = thaw_view_generation(inspection->view)->number;
	source.bytes = thaw_view_generation(inspection->view)->heap_bytes;
	state = thaw_view_state(inspection->view, &bytes);
	return inspection_open_heap(inspection, &source, state, bytes, error);
}

void inspection_close(struct inspection *inspection)
{
	graph_close(inspection->graph);
	js_blob_clear(&inspection->blob);
	thaw_view_close(inspection->view);
	free(inspection->touched);
	*inspection = (struct inspection){0};
}

/* ---- Is it the program's own? */

/* The names in globalThis when a program starts; sorted. */
static const char *const builtins[] = {
	"AbortController",
	"AbortSignal",
	"AggregateError",
	"Array",
	"ArrayBuffer",
	"AsyncDisposableStack",
	"BigInt",
	"BigInt64Array",
	"BigUint64Array",
	"Blob",
	"Boolean",
	"ByteLengthQueuingStrategy",
	"CompressionStream",
	"CountQueuingStrategy",
	"Crypto",
	"CryptoKey",
	"CustomEvent",
	"DOMException",
	"DataView",
	"Date",
	"DecompressionStream",
	"DisposableStack",
	"Error",
	"ErrorEvent",
	"EvalError",
	"Event",
	"EventTarget",
	"File",
	"FinalizationRegistry",
	"Float16Array",
	"Float32Array",
	"Float64Array",
	"Function",
	"Infinity",
	"Int16Array",
	"Int32Array",
	"Int8Array",
	"InternalError",
	"Iterator",
	"JSON",
	"Map",
	"Math",
	"MessageChannel",
	"MessageEvent",
	"MessagePort",
	"NaN",
	"Navigator",
	"Number",
	"Object",
	"Performance",
	"PerformanceEntry",
	"PerformanceMark",
	"PerformanceMeasure",
	"PerformanceObserver",
	"PerformanceObserverEntryList",
	"Promise",
	"PromiseRejectionEvent",
	"Proxy",
	"RangeError",
	"ReadableByteStreamController",
	"ReadableStream",
	"ReadableStreamBYOBReader",
	"ReadableStreamBYOBRequest",
	"ReadableStreamDefaultController",
	"ReadableStreamDefaultReader",
	"ReferenceError",
	"Reflect",
	"RegExp",
	"Set",
	"SharedArrayBuffer",
	"String",
	"SubtleCrypto",
	"SuppressedError",
	"Symbol",
	"Symbol.toStringTag",
	"SyntaxError",
	"TextDecoder",
	"TextDecoderStream",
	"TextEncoder",
	"TextEncoderStream",
	"TransformStream",
	"TransformStreamDefaultController",
	"TypeError",
	"URIError",
	"URL",
	"URLSearchParams",
	"Uint16Array",
	"Uint32Array",
	"Uint8Array",
	"Uint8ClampedArray",
	"WeakMap",
	"WeakRef",
	"WeakSet",
	"WritableStream",
	"WritableStreamDefaultController",
	"WritableStreamDefaultWriter",
	"addEventListener",
	"atob",
	"btoa",
	"clearImmediate",
	"clearInterval",
	"clearTimeout",
	"console",
	"crypto",
	"decodeURI",
	"decodeURIComponent",
	"dispatchEvent",
	"encodeURI",
	"encodeURIComponent",
	"escape",
	"eval",
	"globalThis",
	"isFinite",
	"isNaN",
	"navigator",
	"parseFloat",
	"parseInt",
	"performance",
	"queueMicrotask",
	"removeEventListener",
	"reportError",
	"self",
	"setImmediate",
	"setInterval",
	"setTimeout",
	"structuredClone",
	"thaw.internals",
	"undefined",
	"unescape",
};

static int compare_name(const void *key, const void *member)
{
	return strcmp(key, *(const char *const *)member);
}

bool inspection_is_builtin(struct graph *graph, uint32_t atom)
{
	struct graph_text text = graph_atom_text(graph, atom, 32);
	char name[33];

	for (size_t i = 0; i < text.count; i++)
		name[i] = (char)(text.units[i] < 128 ? text.units[i] : '?');
	name[text.count] = '\0';
	free(text.units);
	return text.total == text.count &&
	       bsearch(name, builtins, sizeof(builtins) / sizeof(builtins[0]), sizeof(builtins[0]),
		       compare_name);
}

bool inspection_is_program_module(struct graph *graph, struct graph_value module)
{
	const char *fallback;
	struct graph_text text = graph_text(graph, graph_name(graph, module, &fallback), 5);
	bool own = text.total == 4 && !memcmp(text.units, u"thaw", 8);

	free(text.units);
	return !own;
}
