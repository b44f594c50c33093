// SPDX-License-Identifier: GPL-2.0-only
/*
 * structure.c - what bindings to other languages stand on: structured data as bytes, exceptions as values, promises whose tickets
 * know their calls.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "kselftest_harness.h"

#include "embedded.h"

/* Packed and unpacked, `value` is the same to the program's same(). */
static bool comes_back(struct thaw_vm *vm, const char *code)
{
	thaw_vm_value value = 0, copy = 0, same, self, pair[2], answer = 0;
	struct thaw_error error = {0};
	void *data = NULL;
	size_t bytes = 0;
	bool good;

	good = !thaw_vm_eval(vm, code, strlen(code), "a.js", 0, &value, &error) &&
	       !thaw_vm_pack(vm, 1, &value, &data, &bytes, &error) &&
	       !thaw_vm_unpack(vm, data, bytes, 1, &copy, &error) &&
	       !thaw_vm_lookup(vm, "same", &same, &self, &error);
	if (good) {
		char *text;

		pair[0] = value;
		pair[1] = copy;
		good = !thaw_vm_apply(vm, same, 0, 2, pair, &answer, &error);
		text = good ? thaw_vm_to_string(vm, answer, NULL) : NULL;
		if (!text || strcmp(text, "true"))
			good = false;
		free(text);
	}
	if (!good)
		printf("# %s: %s\n", code, error.text);
	/* Nothing that is cut off is taken for a value. */
	for (size_t cut = 0; good && cut < bytes; cut++)
		if (thaw_vm_unpack(vm, data, cut, 1, &copy, &error) != THAW_VM_EEXCEPTION || copy) {
			printf("# %s: %zu of %zu bytes are a value\n", code, cut, bytes);
			good = false;
		}
	free(data);
	return good;
}

static struct thaw_vm *vm_that_compares(void)
{
	struct thaw_vm *vm = vm_with((struct thaw_vm_options){.max_bytes = 64 << 20});
	const char *code =
		"const tag = v => Object.prototype.toString.call(v);"
		"function same(a, b) {"
		"	if (typeof a !== 'object' || !a) return Object.is(a, b);"
		"	if (tag(a) !== tag(b)) return false;"
		"	if (a instanceof Date) return Object.is(+a, +b);"
		"	if (a instanceof Error && (a.name !== b.name || a.message !== b.message"
		"		|| a.stack !== b.stack || Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)))"
		"		return false;"
		"	const keys = Object.keys(a);"
		"	return keys.length === Object.keys(b).length && a.length === b.length"
		"		&& keys.every(key => Object.hasOwn(b, key) && same(a[key], b[key])) }";

	return vm && !run(vm, code, NULL) ? vm : NULL;
}

TEST(structured_data_comes_back)
{
	static const char *const codes[] = {
		"undefined",
		"null",
		"true",
		"false",
		"-0",
		"0.1",
		"NaN",
		"-Infinity",
		"2147483647",
		"-2147483648",
		"2147483648",
		"''",
		"'a\\0b \\u00e9 \\u{1f600}'",
		"0n",
		"-7n",
		"123456789012345678901234567890n ** 9n",
		"'x'.repeat(70000)",
		"[]",
		"[1, 'a', [null, undefined], {}]",
		"({ a: 1, 'b c': [true], ['__proto__']: 7, length: 3 })",
		"new Uint8Array([0, 1, 255])",
		"new Uint8Array(0)",
		"new Float64Array([1.5, -0, NaN])",
		"new BigInt64Array([-1n])",
		"new Uint16Array([1, 2, 3, 4]).subarray(1, 3)",
		"new Date(86400000)",
		"new Date(NaN)",
		"new TypeError('wrong')",
		"new RangeError('a\\0b')",
		"Object.assign(new Error, { name: '', message: '' })",
		"Object.assign(new RangeError('far'), { code: 'E', list: [1n] })",
	};
	struct thaw_vm *vm = vm_that_compares();

	ASSERT_NE(NULL, vm);
	for (unsigned i = 0; i < ARRAY_SIZE(codes); i++)
		EXPECT_TRUE(comes_back(vm, codes[i]));
	/* A program's own prototypes have no part in it. */
	ASSERT_EQ(0, run(vm,
			 "for (const key of ['0', 'a', 'then']) for (const kind of [Object, Array])"
			 "	Object.defineProperty(kind.prototype, key, { set() { throw 1 },"
			 "		get() { return 'from the prototype' } })",
			 NULL));
	EXPECT_TRUE(comes_back(vm, "[1, { a: 2 }]"));
	thaw_vm_close(vm);
}

/* Other languages read and write these bytes, too (vm/embed/python, go, node). */
TEST(the_bytes_are_those_that_the_header_describes)
{
	static const struct {
		const char *code, *bytes;
		size_t count;
	} cases[] = {
#define CASE(code, bytes) {code, bytes, sizeof(bytes) - 1}
		CASE("undefined", "u"),
		CASE("null", "n"),
		CASE("true", "t"),
		CASE("false", "f"),
		CASE("-2", "i\xfe\xff\xff\xff"),
		CASE("1.5", "d\0\0\0\0\0\0\xf8\x3f"),
		CASE("-12n", "b\3\0\0\0-12"),
		CASE("'\\u00e9'", "s\2\0\0\0\xc3\xa9"),
		CASE("new Date(1)", "D\0\0\0\0\0\0\xf0\x3f"),
		CASE("[null, []]", "a\2\0\0\0na\0\0\0\0"),
		CASE("({ k: true })", "o\1\0\0\0\1\0\0\0kt"),
		CASE("const e = new RangeError('m'); e.stack = 's'; e.c = null; e",
		     "e\12\0\0\0RangeError\1\0\0\0m\1\0\0\0so\1\0\0\0\1\0\0\0cn"),
		CASE("new Uint8ClampedArray([1])", "y\0\1\0\0\0\1"),
		CASE("new Int8Array([-1])", "y\1\1\0\0\0\xff"),
		CASE("new Uint8Array([1])", "y\2\1\0\0\0\1"),
		CASE("new Int16Array([-2])", "y\3\2\0\0\0\xfe\xff"),
		CASE("new Uint16Array([1])", "y\4\2\0\0\0\1\0"),
		CASE("new Int32Array([-2])", "y\5\4\0\0\0\xfe\xff\xff\xff"),
		CASE("new Uint32Array([1])", "y\6\4\0\0\0\1\0\0\0"),
		CASE("new BigInt64Array([-2n])", "y\7\10\0\0\0\xfe\xff\xff\xff\xff\xff\xff\xff"),
		CASE("new BigUint64Array([1n])", "y\10\10\0\0\0\1\0\0\0\0\0\0\0"),
		CASE("new Float16Array([1])", "y\11\2\0\0\0\0\x3c"),
		CASE("new Float32Array([1])", "y\12\4\0\0\0\0\0\x80\x3f"),
		CASE("new Float64Array([1])", "y\13\10\0\0\0\0\0\0\0\0\0\xf0\x3f"),
#undef CASE
	};
	struct thaw_vm *vm = vm_that_compares();
	struct thaw_error error = {0};
	thaw_vm_value value;
	size_t bytes;
	void *data;

	ASSERT_NE(NULL, vm);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		ASSERT_EQ(0, thaw_vm_eval(vm, cases[i].code, strlen(cases[i].code), "a.js", 0,
					  &value, &error));
		ASSERT_EQ(0, thaw_vm_pack(vm, 1, &value, &data, &bytes, &error));
		EXPECT_TRUE(bytes == cases[i].count && !memcmp(data, cases[i].bytes, bytes))
		{
			TH_LOG("%s", cases[i].code);
		}
		free(data);
		EXPECT_TRUE(comes_back(vm, cases[i].code));
	}
	EXPECT_EQ(THAW_VM_EEXCEPTION, thaw_vm_unpack(vm, "y\14\0\0\0\0", 6, 1, &value, &error));
	thaw_vm_close(vm);
}

TEST(depth_has_a_limit_in_both_directions)
{
	struct thaw_vm *vm = vm_that_compares();
	struct thaw_error error = {0};
	thaw_vm_value value;
	char code[100], *packed;
	size_t bytes;
	void *data;

	ASSERT_NE(NULL, vm);
	for (unsigned depth = THAW_VM_PACK_DEPTH; depth <= THAW_VM_PACK_DEPTH + 1; depth++) {
		int wanted = depth > THAW_VM_PACK_DEPTH ? THAW_VM_EEXCEPTION : 0;

		snprintf(code, sizeof(code),
			 "{ let v = null; for (let i = 0; i < %u; i++) v = [v]; v }", depth);
		ASSERT_EQ(0, thaw_vm_eval(vm, code, SIZE_MAX, "a.js", 0, &value, &error));
		EXPECT_EQ(wanted, thaw_vm_pack(vm, 1, &value, &data, &bytes, &error));
		free(data);
		packed = malloc(depth * 5 + 1);
		ASSERT_NE(NULL, packed);
		for (unsigned i = 0; i < depth; i++)
			memcpy(packed + i * 5, "a\1\0\0", 5);
		packed[depth * 5] = 'n';
		EXPECT_EQ(wanted, thaw_vm_unpack(vm, packed, depth * 5 + 1, 1, &value, &error));
		free(packed);
	}
	thaw_vm_close(vm);
}

TEST(what_is_no_structured_data_is_refused)
{
	static const struct {
		const char *code, *says;
	} cases[] = {
		{"const o = {}; o.o = [o]; o", "circular"},
		{"new Map", "class Map"},
		{"[/a/]", "class RegExp"},
		{"new Proxy({}, {})", "class Object"},
		{"({ p: Promise.resolve() })", "class Promise"},
		{"let l = ['x'.repeat(1000)]; for (let i = 0; i < 40; i++) l = [l, l]; l",
		 "too large"},
		{"new Array(4e9)", "too large"},
		{"({ get a() { throw new Error('from a getter') } })", "from a getter"},
	};
	struct thaw_vm *vm = vm_that_compares();
	struct thaw_error error = {0};
	thaw_vm_value value;
	size_t bytes;
	void *data;

	ASSERT_NE(NULL, vm);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		ASSERT_EQ(0, thaw_vm_eval(vm, cases[i].code, strlen(cases[i].code), "a.js", 0,
					  &value, &error));
		EXPECT_EQ(THAW_VM_EEXCEPTION, thaw_vm_pack(vm, 1, &value, &data, &bytes, &error));
		EXPECT_NE(NULL, strstr(error.text, cases[i].says))
		{
			TH_LOG("%s: %s", cases[i].code, error.text);
		}
		EXPECT_EQ(NULL, data);
	}
	EXPECT_EQ(THAW_VM_EEXCEPTION,
		  thaw_vm_unpack(vm, "a\xff\xff\xff\xff", 5, 1, &value, &error));
	EXPECT_EQ(THAW_VM_EEXCEPTION, thaw_vm_unpack(vm, "nn", 2, 1, &value, &error));
	EXPECT_EQ(THAW_VM_EEXCEPTION, thaw_vm_unpack(vm, "b\x03\0\0\0(1)", 8, 1, &value, &error));
	EXPECT_TRUE(gives(vm, "String", "[1]", "\"1\""));
	thaw_vm_close(vm);
}

TEST(kinds_are_told_apart)
{
	static const struct {
		const char *code;
		enum thaw_vm_kind kind;
	} cases[] = {
		{"undefined", THAW_VM_UNDEFINED},
		{"null", THAW_VM_NULL},
		{"1 > 2", THAW_VM_BOOLEAN},
		{"1", THAW_VM_NUMBER},
		{"1.5", THAW_VM_NUMBER},
		{"NaN", THAW_VM_NUMBER},
		{"1n", THAW_VM_BIGINT},
		{"1n << 99n", THAW_VM_BIGINT},
		{"'a' + 'b'.repeat(9999)", THAW_VM_STRING},
		{"Symbol()", THAW_VM_SYMBOL},
		{"() => 1", THAW_VM_FUNCTION},
		{"new Proxy(() => 1, {})", THAW_VM_FUNCTION},
		{"[]", THAW_VM_ARRAY},
		{"new Int8Array", THAW_VM_BYTES},
		{"new Date", THAW_VM_DATE},
		{"new TypeError", THAW_VM_ERROR},
		{"(async () => 1)()", THAW_VM_A_PROMISE},
		{"({})", THAW_VM_OBJECT},
		{"new Set", THAW_VM_OTHER},
	};
	struct thaw_vm *vm = vm_that_compares();
	struct thaw_error error;
	thaw_vm_value value, copy;

	ASSERT_NE(NULL, vm);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		ASSERT_EQ(0, thaw_vm_eval(vm, cases[i].code, strlen(cases[i].code), "a.js", 0,
					  &value, &error));
		EXPECT_EQ(cases[i].kind, thaw_vm_kind(vm, value))
		{
			TH_LOG("%s", cases[i].code);
		}
		copy = thaw_vm_copy(vm, value);
		thaw_vm_free(vm, value);
		EXPECT_EQ(cases[i].kind, thaw_vm_kind(vm, copy));
		thaw_vm_free(vm, copy);
	}
	EXPECT_EQ(THAW_VM_NULL, thaw_vm_kind(vm, thaw_vm_null(vm)));
	EXPECT_EQ(THAW_VM_NONE, thaw_vm_kind(vm, 0));
	thaw_vm_close(vm);
}

static thaw_vm_value takes_long(struct thaw_vm *vm, void *arg, uint64_t ticket, unsigned count,
				const thaw_vm_value *values)
{
	double number = count ? thaw_vm_to_number(vm, values[0]) : 0;

	(void)ticket;
	if (number == 1)
		return thaw_vm_ticket(vm, arg);
	return number == 2 ? thaw_vm_throw_value(vm, values[1]) : thaw_vm_number(vm, number);
}

static thaw_vm_value starts(struct thaw_vm *vm, void *arg, uint64_t ticket, unsigned count,
			    const thaw_vm_value *values)
{
	(void)vm, (void)arg, (void)ticket, (void)count, (void)values;
	return 0;
}

TEST(a_ticket_knows_its_call)
{
	uint64_t given = 0, tickets[3] = {0};
	const struct thaw_vm_function functions[] = {{"takesLong", takes_long, &given, 0},
						     {"starts", starts, NULL, THAW_VM_PROMISE}};
	struct thaw_vm *vm =
		vm_with((struct thaw_vm_options){.functions = functions, .function_count = 2});
	struct thaw_vm_snapshot *snapshot;
	thaw_vm_value list, reason;
	struct thaw_error error = {0};
	char *name, *json;

	ASSERT_NE(NULL, vm);
	EXPECT_EQ(0, thaw_vm_ticket(vm, &given)); /* not in a host function */
	ASSERT_EQ(
		0,
		run(vm,
		    "Object.defineProperty(Object.prototype, 't1', { value: 1 });"
		    "const log = []; takesLong(1, { x: 'y' }).then(v => log.push(v), e => log.push(e));"
		    "starts('a', 2).catch(e => log.push(e)); const told = () => log;"
		    "try { takesLong(2, { thrown: true }) } catch (e) { log.push(e) }"
		    "log.push(takesLong(3))",
		    &error));
	ASSERT_EQ(2, thaw_vm_tickets(vm, tickets, 3, &error));
	EXPECT_EQ(given, tickets[0]);
	ASSERT_EQ(0, thaw_vm_ticket_call(vm, tickets[0], &name, &list, &error));
	EXPECT_STREQ("takesLong", name);
	free(name);
	ASSERT_EQ(0, thaw_vm_ticket_call(vm, tickets[1], &name, &list, &error));
	EXPECT_STREQ("starts", name);
	free(name);
	ASSERT_EQ(0, thaw_vm_to_json(vm, list, &json, &error));
	EXPECT_STREQ("[\"a\",2]", json);
	free(json);
	thaw_vm_free(vm, list);
	EXPECT_EQ(-ENOENT, thaw_vm_ticket_call(vm, 1, &name, &list, &error));
	EXPECT_EQ(NULL, name);
	EXPECT_EQ(-ENOENT, thaw_vm_settle(vm, 1, 0, NULL, &error));

	/* The one after a rollback is another one. */
	ASSERT_EQ(0, thaw_vm_snapshot(vm, &snapshot, &error));
	ASSERT_EQ(0, run(vm, "starts('b').catch(() => 0)", NULL));
	ASSERT_EQ(3, thaw_vm_tickets(vm, tickets, 3, &error));
	ASSERT_EQ(0, thaw_vm_rollback(vm, snapshot, &error));
	ASSERT_EQ(0, run(vm, "starts('c').catch(() => 0)", NULL));
	EXPECT_EQ(-ENOENT, thaw_vm_settle(vm, tickets[2], 0, NULL, &error));
	EXPECT_EQ(3, thaw_vm_tickets(vm, NULL, 0, &error));
	thaw_vm_snapshot_drop(snapshot);

	EXPECT_EQ(0, thaw_vm_settle(vm, tickets[0], thaw_vm_number(vm, 4), NULL, &error));
	ASSERT_EQ(0, thaw_vm_json(vm, "[5]", 3, &reason, &error));
	EXPECT_EQ(0, thaw_vm_reject(vm, tickets[1], reason, &error));
	EXPECT_TRUE(gives(vm, "told", NULL, "[{\"thrown\":true},3,4,[5]]"));
	thaw_vm_close(vm);
}

TEST(exceptions_and_promises_are_values)
{
	struct thaw_vm *vm = vm_that_compares();
	thaw_vm_value thrown, message, promise, result, function, self;
	struct thaw_error error = {0};
	char *text;

	ASSERT_NE(NULL, vm);
	ASSERT_EQ(0,
		  run(vm, "const tools = { count: 3, fail(m) { throw new RangeError(m) } }", NULL));
	EXPECT_EQ(0, thaw_vm_exception(vm));
	EXPECT_EQ(THAW_VM_EEXCEPTION, thaw_vm_call(vm, "tools.fail", "[\"far\"]", NULL, &error));
	thrown = thaw_vm_exception(vm);
	EXPECT_EQ(0, thaw_vm_exception(vm));
	ASSERT_EQ(THAW_VM_ERROR, thaw_vm_kind(vm, thrown));
	ASSERT_EQ(0, thaw_vm_get(vm, thrown, "message", &message, &error));
	text = thaw_vm_to_string(vm, message, NULL);
	EXPECT_STREQ("far", text);
	free(text);
	/* Another call forgets it. */
	EXPECT_EQ(THAW_VM_EEXCEPTION, run(vm, "throw 1", &error));
	EXPECT_EQ(0, run(vm, "1", &error));
	EXPECT_EQ(0, thaw_vm_exception(vm));

	EXPECT_EQ(THAW_VM_EEXCEPTION, thaw_vm_lookup(vm, "tools.count", &function, &self, &error));
	EXPECT_EQ(0, function);
	ASSERT_EQ(0, thaw_vm_lookup(vm, "tools.fail", &function, &self, &error));
	EXPECT_EQ(THAW_VM_NO_PROMISE, thaw_vm_promise(vm, function, &result));
	EXPECT_EQ(0, result);
	ASSERT_EQ(0, thaw_vm_eval(vm, "new Promise(r => setTimeout(r, 3600000))", SIZE_MAX, "a.js",
				  0, &promise, &error));
	EXPECT_EQ(THAW_VM_WAITS, thaw_vm_promise(vm, promise, &result));
	ASSERT_EQ(0,
		  thaw_vm_eval(vm, "Promise.reject('no')", SIZE_MAX, "a.js", 0, &promise, &error));
	EXPECT_EQ(THAW_VM_REJECTED, thaw_vm_promise(vm, promise, &result));
	text = thaw_vm_to_string(vm, result, NULL);
	EXPECT_STREQ("no", text);
	free(text);
	thaw_vm_close(vm);
}

TEST_HARNESS_MAIN
