/* SPDX-License-Identifier: MIT */
/*
 * install_prelude.c - a fresh VM gets what programs see: the sources of this folder are evaluated one after the other,
 * those that are needed late are handed over as text. The owner's thread, once for each fresh heap.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "embedded.h"
#include "host.h"

/* {write, clock, ...}: the bindings without their "thaw.". */
static js_value bindings_object(struct js_engine *engine)
{
	js_value object = js_object(engine);

	for (const struct js_host_binding *binding = host_bindings; object && binding->name;
	     binding++) {
		js_value function = js_host_function_new(engine, binding->name);

		if (!function ||
		    !js_set(engine, object, strchr(binding->name, '.') + 1, function)) {
			js_free(engine, object);
			return 0;
		}
	}
	return object;
}

/* Call what an embedded source evaluates to. */
static js_value call_embedded(struct js_engine *engine, const char *start, const char *end,
			      const char *name, unsigned count, const js_value *arguments)
{
	js_value function = js_eval(engine, start, (size_t)(end - start), name, JS_EVAL_SCRIPT),
		 result;

	if (!function)
		return 0;
	result = js_call(engine, function, 0, count, arguments);
	js_free(engine, function);
	return result;
}

#define SOURCE(name)                                      \
	{                                                 \
		js_##name##_start, js_##name##_end, #name \
	}
struct source {
	const char *start, *end, *name;
};
/* Each leaves in `parts` what the later ones need; the last one returns what the host calls. */
static const struct source sources[] = {
	SOURCE(primordials), SOURCE(later), SOURCE(errors), SOURCE(console),
	SOURCE(timers),	     SOURCE(web),   SOURCE(hot),    SOURCE(prelude),
};
/* Given to later.js as text. */
static const struct source late_sources[] = {
	SOURCE(inspect), SOURCE(format),      SOURCE(table),	   SOURCE(structured_clone),
	SOURCE(events),	 SOURCE(messages),    SOURCE(blob),	   SOURCE(url),
	SOURCE(streams), SOURCE(compression), SOURCE(performance), SOURCE(navigator),
	SOURCE(files),	 SOURCE(der),	      SOURCE(crypto),	   SOURCE(crypto_algorithms),
	SOURCE(shell),
};

/* {sources: {inspect, format, ...}}; 0: an exception. */
static js_value new_parts(struct js_engine *engine)
{
	js_value parts = js_object(engine), texts = js_object(engine);
	bool good = parts && texts;

	for (unsigned i = 0; good && i < sizeof(late_sources) / sizeof(late_sources[0]); i++) {
		const struct source *source = &late_sources[i];

		good = js_set(
			engine, texts, source->name,
			js_string(engine, source->start, (size_t)(source->end - source->start)));
	}
	good = js_set(engine, parts, "sources", texts) && good;
	if (good)
		return parts;
	js_free(engine, parts);
	return 0;
}

js_value host_install_prelude(struct js_engine *engine)
{
	js_value arguments[2] = {bindings_object(engine), new_parts(engine)}, result = 0;
	const unsigned count = sizeof(sources) / sizeof(sources[0]);
	char name[64];

	for (unsigned i = 0; i < count && arguments[0] && arguments[1]; i++) {
		js_free(engine, result);
		snprintf(name, sizeof(name), "thaw:%s", sources[i].name);
		result =
			call_embedded(engine, sources[i].start, sources[i].end, name, 2, arguments);
		if (!result)
			break;
	}
	js_free(engine, arguments[0]);
	js_free(engine, arguments[1]);
	return result;
}

int host_new_context(struct js_engine *engine, const char *name)
{
	int index = js_context_new(engine, name);
	unsigned before;
	js_value entry;

	if (index < 0)
		return index;
	before = js_context_select(engine, (unsigned)index);
	entry = host_install_prelude(engine);
	js_context_set_entry(engine, (unsigned)index, entry);
	js_context_select(engine, before);
	return entry ? index : -EIO;
}
