/* SPDX-License-Identifier: MIT */
/*
 * functions.c - what a host gives to a program: functions by name, and tickets for promises that it settles later. The heap
 * refers to a function by "host.NAME", and has the tickets.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/failure.h"
#include "embed.h"

#define PREFIX "host."

struct host_call { /* under way */
	const struct thaw_vm_function *function;
	unsigned count;
	const js_value *arguments;
};

static unsigned count_bindings(const struct js_host_binding *bindings)
{
	unsigned count = 0;

	while (bindings[count].name)
		count++;
	return count;
}

static int copy_function(struct thaw_vm *vm, unsigned index)
{
	const struct thaw_vm_function *function = &vm->options.functions[index];
	size_t bytes;

	if (!function->name || !*function->name || !function->call)
		return -EINVAL;
	for (unsigned i = 0; i < index; i++)
		if (!strcmp(vm->names[i] + strlen(PREFIX), function->name))
			return -EINVAL;
	bytes = strlen(PREFIX) + strlen(function->name) + 1;
	vm->names[index] = malloc(bytes);
	if (!vm->names[index])
		return -ENOMEM;
	snprintf(vm->names[index], bytes, PREFIX "%s", function->name);
	vm->functions[index] = *function;
	vm->functions[index].name = vm->names[index] + strlen(PREFIX);
	return 0;
}

int functions_open(struct thaw_vm *vm, const struct js_host_binding *guests)
{
	unsigned count = vm->options.function_count, own = count_bindings(guests);
	int code = 0;

	vm->functions = calloc(count + 1, sizeof(*vm->functions));
	vm->names = calloc(count + 1, sizeof(*vm->names));
	vm->bindings = calloc(own + count + 1, sizeof(*vm->bindings));
	if (!vm->functions || !vm->names || !vm->bindings)
		return -ENOMEM;
	memcpy(vm->bindings, guests, own * sizeof(*guests));
	for (unsigned i = 0; i < count && !code; i++) {
		code = copy_function(vm, i);
		vm->bindings[own + i].name = vm->names[i];
	}
	vm->hosting.bindings = vm->bindings;
	vm->hosting.call = functions_call;
	return code;
}

void functions_close(struct thaw_vm *vm)
{
	for (unsigned i = 0; vm->names && i < vm->options.function_count; i++)
		free(vm->names[i]);
	free(vm->names);
	free(vm->functions);
	free(vm->bindings);
}

static bool is_bound(const struct thaw_vm *vm, const char *name)
{
	for (const struct js_host_binding *binding = vm->bindings; binding->name; binding++)
		if (!strcmp(binding->name, name))
			return true;
	return false;
}

int functions_check(struct thaw_vm *vm, const struct js_blob *blob, struct thaw_error *error)
{
	char list[400] = "";
	size_t used = 0;

	for (unsigned i = 0; i < blob->name_count; i++) {
		const char *name = blob->names[i];

		if (strncmp(name, PREFIX, strlen(PREFIX)) || is_bound(vm, name))
			continue; /* the guest's own are its to check */
		used += (size_t)snprintf(list + used, used < sizeof(list) ? sizeof(list) - used : 0,
					 "%s%s", used ? ", " : "", name + strlen(PREFIX));
		if (used >= sizeof(list))
			break;
	}
	return used ? failure(error, THAW_VM_EMISSING,
			      "%s needs host functions that it was not given: %s", vm_origin(vm),
			      list)
		    : 0;
}

static bool is_given(const struct thaw_vm_options *options, const char *name)
{
	for (unsigned i = 0; i < options->function_count; i++)
		if (options->functions[i].name && !strcmp(options->functions[i].name, name))
			return true;
	return false;
}

int functions_missing(const struct thaw_vm_options *options, const struct js_blob *blob,
		      char ***names, struct thaw_error *error)
{
	size_t bytes = (blob->name_count + 1) * sizeof(char *);
	unsigned count = 0;
	char *text;

	for (unsigned i = 0; i < blob->name_count; i++)
		bytes += strlen(blob->names[i]) + 1;
	*names = malloc(bytes);
	if (!*names)
		return failure(error, -ENOMEM, "out of memory");
	text = (char *)(*names + blob->name_count + 1);
	for (unsigned i = 0; i < blob->name_count; i++) {
		const char *name = blob->names[i] + strlen(PREFIX);

		if (strncmp(blob->names[i], PREFIX, strlen(PREFIX)) || is_given(options, name))
			continue;
		(*names)[count++] = text;
		text = stpcpy(text, name) + 1;
	}
	(*names)[count] = NULL;
	return (int)count;
}

/* ---- In the heap ---- */

/* Made once for each heap, from then on found by a symbol that nobody can redefine. */
static const char tickets_found[] = "globalThis[Symbol.for('thaw.tickets')] ?? undefined";
static const char tickets_source[] =
	"(() => {\n"
	"	const waiting = { __proto__: null }, { keys } = Object, Promise = globalThis.Promise;\n"
	"	const tickets = { __proto__: null,\n"
	"		begin(number, name, ...list) {\n"
	"			return new Promise((resolve, reject) => {\n"
	"				waiting['t' + number] = { __proto__: null, resolve, reject, name, list };\n"
	"			});\n"
	"		},\n"
	"		settle(number, failed, value) {\n"
	"			const ticket = waiting['t' + number];\n"
	"			if (ticket === undefined) return false;\n"
	"			delete waiting['t' + number];\n"
	"			(failed ? ticket.reject : ticket.resolve)(value);\n"
	"			return true;\n"
	"		},\n"
	"		call: number => waiting['t' + number],\n"
	"		parse: JSON.parse, stringify: JSON.stringify,\n"
	"		keys, bigint: BigInt, construct: Reflect.construct, has: Reflect.has,\n"
	"		remove: Reflect.deleteProperty, same: (a, b) => a === b,\n"
	"		list: () => keys(waiting) };\n"
	"	Object.defineProperty(globalThis, Symbol.for('thaw.tickets'), { value: tickets });\n"
	"	return tickets;\n"
	"})()";

static bool install(struct thaw_vm *vm, const char *name)
{
	struct js_engine *engine = vm_engine(vm);
	js_value global = js_global(engine), function = js_host_function_new(engine, name);
	bool good = function && js_set(engine, global, name + strlen(PREFIX), function);

	js_free(engine, global);
	return good;
}

bool functions_install_all(struct thaw_vm *vm)
{
	for (unsigned i = 0; i < vm->options.function_count; i++)
		if (!install(vm, vm->names[i]))
			return false;
	return true;
}

/* One that no context has yet. */
static bool install_everywhere(struct thaw_vm *vm, const char *name)
{
	struct js_engine *engine = vm_engine(vm);
	unsigned before = js_context_current(engine);
	bool good = true;

	for (unsigned i = 0; good && i < js_context_count(engine); i++) {
		js_context_select(engine, i);
		good = install(vm, name);
	}
	js_context_select(engine, before);
	return good;
}

/* A heap that goes on has them: a fork, or a rollback, compiles no more than it takes to look. 0: an exception. */
static js_value find_tickets(struct js_engine *engine)
{
	js_value tickets = js_eval(engine, tickets_found, sizeof(tickets_found) - 1, "thaw:tickets",
				   JS_EVAL_SCRIPT);

	if (!tickets || !js_is_undefined(engine, tickets))
		return tickets;
	return js_eval(engine, tickets_source, sizeof(tickets_source) - 1, "thaw:tickets",
		       JS_EVAL_SCRIPT);
}

int functions_install(struct thaw_vm *vm, struct thaw_error *error)
{
	struct program *program = vm_program(vm);
	struct js_blob *blob = &program->blob;
	char **names = blob->names;
	unsigned count = blob->name_count;
	int code = vm_enter(vm, error);
	bool good;

	if (code)
		return code;
	vm->uncut = true;
	vm->tickets = find_tickets(program->engine);
	good = vm->tickets != 0;
	for (unsigned i = 0; good && i < vm->options.function_count; i++) {
		bool known = false;

		for (unsigned j = 0; program->restored && j < count && !known; j++)
			known = !strcmp(names[j], vm->names[i]);
		good = known || install_everywhere(vm, vm->names[i]);
	}
	vm->uncut = false;
	if (program->restored && good) { /* what the next generation needs */
		blob->names = NULL;
		blob->name_count = 0;
		if (js_blob_name_bindings(blob, vm->bindings)) {
			vm_leave(vm, false, NULL);
			return failure(error, -ENOMEM, "out of memory");
		}
		for (unsigned i = 0; i < count; i++)
			free(names[i]);
		free(names);
	}
	code = vm_leave(vm, !good, error);
	return code == THAW_VM_EINTERRUPTED && good && vm->going_back ? 0 : code;
}

js_value functions_method(struct thaw_vm *vm, const char *name, unsigned count,
			  const js_value *arguments)
{
	struct js_engine *engine = vm_engine(vm);
	js_value function = js_get(engine, vm->tickets, name), result;

	if (!function)
		return 0;
	result = js_call(engine, function, 0, count, arguments);
	js_free(engine, function);
	return result;
}

/* No rollback, and no other VM of the same image, gives a number again. */
static bool draw_number(uint64_t *number)
{
	do
		if (getrandom(number, sizeof(*number), 0) != sizeof(*number))
			return false;
	while (!(*number &= (1ull << 53) - 1));
	return true;
}

/* A promise; its number in `ticket`. 0: an exception. */
static js_value begin_ticket(struct thaw_vm *vm, uint64_t *ticket)
{
	struct js_engine *engine = vm_engine(vm);
	const struct host_call *call = vm->calling;
	js_value few[18], *parts = few, promise;
	unsigned count = call->count + 2;

	if (!draw_number(ticket))
		return js_throw_error(engine, "Error", "no randomness from the kernel");
	if (count > 18 && !(parts = malloc(count * sizeof(*parts))))
		return js_throw_error(engine, "InternalError", "out of memory in the host");
	parts[0] = js_number(engine, (double)*ticket);
	parts[1] = js_string(engine, call->function->name, strlen(call->function->name));
	for (unsigned i = 0; i < call->count; i++)
		parts[i + 2] = call->arguments[i];
	promise = parts[0] && parts[1] ? functions_method(vm, "begin", count, parts) : 0;
	js_free(engine, parts[0]);
	js_free(engine, parts[1]);
	if (parts != few)
		free(parts);
	return promise;
}

static js_value promised(struct thaw_vm *vm, const struct host_call *call)
{
	struct js_engine *engine = vm_engine(vm);
	uint64_t ticket;
	js_value promise = begin_ticket(vm, &ticket), given;

	if (!promise)
		return 0;
	vm->thrown = false;
	given = call->function->call(vm, call->function->arg, ticket, call->count, call->arguments);
	if (vm->thrown) { /* it did not begin: the ticket rejects */
		js_value parts[3] = {js_number(engine, (double)ticket), js_bool(engine, true),
				     js_take_exception(engine)};
		js_value done = functions_method(vm, "settle", 3, parts);

		vm->thrown = false;
		for (unsigned i = 0; i < 3; i++)
			js_free(engine, parts[i]);
		js_free(engine, done);
	}
	js_free(engine, given);
	return promise;
}

static js_value plain(struct thaw_vm *vm, const struct host_call *call)
{
	js_value result;

	vm->thrown = false;
	result = call->function->call(vm, call->function->arg, 0, call->count, call->arguments);
	if (vm->thrown) {
		vm->thrown = false;
		js_free(vm_engine(vm), result);
		return 0;
	}
	return result ? result : js_undefined(vm_engine(vm));
}

js_value functions_call(struct js_engine *engine, void *arg, const struct js_host_binding *binding,
			unsigned count, const js_value *arguments)
{
	struct thaw_vm *vm = (struct thaw_vm *)((struct program *)arg)->guest.owner;
	const struct host_call *outer = vm->calling;
	struct host_call call = {.count = count, .arguments = arguments};
	unsigned context = js_context_current(engine);
	js_value result;

	for (unsigned i = 0; i < vm->options.function_count; i++)
		if (!strcmp(vm->names[i], binding->name))
			call.function = &vm->functions[i];
	if (!call.function)
		return js_throw_error(engine, "Error", "there is no host function %s",
				      binding->name);
	vm->calling = &call;
	result = call.function->flags & THAW_VM_PROMISE ? promised(vm, &call) : plain(vm, &call);
	vm->calling = outer;
	if (js_trapped(engine))
		return 0;
	js_context_select(engine, context);
	if (!vm_interrupted(vm))
		return result;
	/* No code of the program's sees what it has returned. */
	js_free(engine, result);
	return js_throw_uncatchable(engine);
}

/* ---- For the host ---- */

thaw_vm_value thaw_vm_throw(struct thaw_vm *vm, const char *type, const char *message)
{
	if (!vm_sound(vm))
		return 0;
	vm->thrown = true;
	return js_throw_error(vm_engine(vm), type, "%s", message);
}

thaw_vm_value thaw_vm_ticket(struct thaw_vm *vm, uint64_t *ticket)
{
	js_value promise;

	*ticket = 0;
	if (!vm_sound(vm) || !vm->calling)
		return 0;
	promise = begin_ticket(vm, ticket);
	if (!promise && !js_trapped(vm_engine(vm)))
		js_free(vm_engine(vm), js_take_exception(vm_engine(vm)));
	return promise;
}

/* Consumes `value`. */
static int settle(struct thaw_vm *vm, uint64_t ticket, bool failed, js_value value,
		  struct thaw_error *error)
{
	struct js_engine *engine = vm_engine(vm);
	js_value parts[3] = {js_number(engine, (double)ticket), js_bool(engine, failed), value};
	js_value settled = functions_method(vm, "settle", 3, parts);
	bool there = settled && js_to_bool(engine, settled);
	int code;

	for (unsigned i = 0; i < 3; i++)
		js_free(engine, parts[i]);
	js_free(engine, settled);
	code = vm_leave(vm, !settled, error);
	return code || there ? code
			     : failure(error, -ENOENT, "no promise waits for ticket %llu",
				       (unsigned long long)ticket);
}

static js_value copy_of(struct js_engine *engine, js_value value)
{
	return value ? js_dup(engine, value) : js_undefined(engine);
}

int thaw_vm_settle(struct thaw_vm *vm, uint64_t ticket, thaw_vm_value value, const char *why,
		   struct thaw_error *error)
{
	int code = vm_enter(vm, error);
	struct js_engine *engine = vm_engine(vm);
	js_value given;

	if (code)
		return code;
	if (why) {
		js_throw_error(engine, "Error", "%s", why);
		given = js_take_exception(engine);
	} else {
		given = copy_of(engine, value);
	}
	return settle(vm, ticket, why != NULL, given, error);
}

int thaw_vm_reject(struct thaw_vm *vm, uint64_t ticket, thaw_vm_value reason,
		   struct thaw_error *error)
{
	int code = vm_enter(vm, error);

	return code ? code : settle(vm, ticket, true, copy_of(vm_engine(vm), reason), error);
}

int thaw_vm_ticket_call(struct thaw_vm *vm, uint64_t ticket, char **name, thaw_vm_value *arguments,
			struct thaw_error *error)
{
	int code = vm_enter(vm, error);
	struct js_engine *engine = vm_engine(vm);
	js_value number, entry, text = 0;
	bool there;

	*name = NULL;
	*arguments = 0;
	if (code)
		return code;
	number = js_number(engine, (double)ticket);
	entry = functions_method(vm, "call", 1, &number);
	there = entry && js_is_object(engine, entry);
	if (there) {
		text = js_get(engine, entry, "name");
		*arguments = js_get(engine, entry, "list");
		*name = js_to_string(engine, text, NULL);
	}
	js_free(engine, text);
	js_free(engine, number);
	js_free(engine, entry);
	code = vm_leave(vm, !entry || (there && (!text || !*arguments)), error);
	if (!code && there && *name)
		return 0;
	if (vm_sound(vm))
		js_free(engine, *arguments);
	free(*name);
	*name = NULL;
	*arguments = 0;
	return code    ? code
	       : there ? failure(error, -ENOMEM, "out of memory")
		       : failure(error, -ENOENT, "no promise waits for ticket %llu",
				 (unsigned long long)ticket);
}

int thaw_vm_tickets(struct thaw_vm *vm, uint64_t *tickets, unsigned room, struct thaw_error *error)
{
	int code = vm_enter(vm, error);
	struct js_engine *engine = vm_engine(vm);
	js_value list, length;
	unsigned count = 0;

	if (code)
		return code;
	list = functions_method(vm, "list", 0, NULL);
	if (list) {
		length = js_get(engine, list, "length");
		count = (unsigned)js_to_number(engine, length);
		js_free(engine, length);
	}
	for (unsigned i = 0; i < count && i < room; i++) {
		js_value item = js_get_index(engine, list, i);
		char *text = js_to_string(engine, item, NULL); /* "t17" */

		tickets[i] = text ? strtoull(text + 1, NULL, 10) : 0;
		free(text);
		js_free(engine, item);
	}
	js_free(engine, list);
	code = vm_leave(vm, !list, error);
	return code ? code : (int)count;
}
