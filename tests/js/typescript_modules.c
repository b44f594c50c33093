// SPDX-License-Identifier: GPL-2.0-only
/*
 * thaw run app.ts: types vanish, and all else stays at its line and column; what is no type is refused by its place. A
 * program that was continued needs no file, and a changed one is told by what lies in the file.
 */
#define _GNU_SOURCE

#include "kselftest_harness.h"

#include "support.h"

FIXTURE(typescript)
{
	char *directory;
	struct program program;
};
FIXTURE_SETUP(typescript)
{
	self->directory = support_directory();
	ASSERT_EQ(0, chdir(self->directory));
}
FIXTURE_TEARDOWN(typescript)
{
	program_free(&self->program);
	support_remove(self->directory);
}

/* Run `app.ts` anew; its exit code. */
static int run(struct program *program, const char *source)
{
	support_write("app.ts", source);
	program_free(program);
	return program_run(program, NULL, THAW("run", "--fresh", "app.ts"));
}

TEST_F(typescript, types_are_erased)
{
	support_write("shapes.ts", "export interface Shape { area(): number }\n"
				   "export type Maybe<T> = T | null\n"
				   "export class Square implements Shape {\n"
				   "  private readonly side: number\n"
				   "  declare tag: string\n"
				   "  constructor(side: number) { this.side = side }\n"
				   "  area(): number { return this.side ** 2 }\n"
				   "}\n");
	support_write("more.mts", "export const twice = <T,>(x: T): [T, T] => [x, x]\n");
	EXPECT_EQ(0, run(&self->program,
			 "import type { Maybe } from './shapes.ts'\n"
			 "import { Square, type Shape } from './shapes.ts'\n"
			 "import { twice } from './more.mts'\n"
			 "abstract class Base<T> { abstract get(): T; x? = 1; y!: number }\n"
			 "class Made extends Base<string> { get(): string { return 'made' } }\n"
			 "function over(a: string): string\n"
			 "function over(a: any): any { return a! }\n"
			 "declare const nowhere: unknown\n"
			 "const s: Maybe<Shape> = new Square(3)\n"
			 "const o = { a: 1 } satisfies Record<string, number>\n"
			 "console.log(s!.area(), twice<number>(2).length, new Made().get(),\n"
			 "  over('x'), (o as any).a, Object.keys(new Made()).join())\n"));
	EXPECT_STREQ("9 2 made x 1 x,y\n", self->program.output);
}

/* Where leaving a line out would join its neighbours, or a line end would come where none may be. */
TEST_F(typescript, statements_stay_apart)
{
	EXPECT_EQ(0,
		  run(&self->program, "let log = ''\n"
				      "const a = 1\n"
				      "type A = string\n"
				      "(function () { log += 'called' })()\n"
				      "const b = 2\n"
				      "interface B { x: number }\n"
				      "[3].forEach((x) => { log += x })\n"
				      "const c = b as number\n"
				      "[4].forEach((x) => { log += x })\n"
				      "const f = (x: number): {\n"
				      "  y: number\n"
				      "} => ({ y: x })\n"
				      "const g = async <\n"
				      "  T\n"
				      ">(x: T) => x\n"
				      "class C {\n"
				      "  x = 1\n"
				      "  private ['y'] = 2\n"
				      "}\n"
				      "console.log(log, a, b, f(4).y, await g(5), new C().y)\n"));
	EXPECT_STREQ("called34 1 2 4 5 2\n", self->program.output);
}

TEST_F(typescript, places_are_those_of_the_file)
{
	EXPECT_EQ(1, run(&self->program,
			 "interface A { a: string; b: number }\n"
			 "type B = A | null; const x: B = null as B\n"
			 "function f<T extends A>(a: T | null): string { return a!.a }\n"
			 "f<A>(x as any)\n"));
	EXPECT_NE(NULL, strstr(self->program.errors, "app.ts:3:55"))
	{
		TH_LOG("%s", self->program.errors);
	}
	EXPECT_NE(NULL, strstr(self->program.errors, "app.ts:4:6"));
}

TEST_F(typescript, what_is_no_type_is_refused_by_its_place)
{
	static const struct {
		const char *source, *place, *what;
	} cases[] = {
		{"let a: number = 1\n  enum E { A }\n", "app.ts:2:3: ", "an enum"},
		{"const enum E { A }\n", "app.ts:1:7: ", "an enum"},
		{"\n\nnamespace N { export const x = 1 }\n", "app.ts:3:1: ", "a namespace"},
		{"class A {\n  constructor(private a: number) {}\n}\n",
		 "app.ts:2:15: ", "a parameter property"},
		{"import fs = require('fs')\n", "app.ts:1:1: ", "import ... ="},
		{"@sealed class A {}\n", "app.ts:1:1: ", "decorators"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		EXPECT_EQ(1, run(&self->program, cases[i].source));
		EXPECT_NE(NULL, strstr(self->program.errors, cases[i].place))
		{
			TH_LOG("%u: %s", i, self->program.errors);
		}
		EXPECT_NE(NULL, strstr(self->program.errors, cases[i].what));
		EXPECT_NE(NULL, strstr(self->program.errors, "erasableSyntaxOnly"));
		EXPECT_NE(NULL, strstr(self->program.errors, "esbuild"));
	}
	/* What has no value is only a type. */
	EXPECT_EQ(0, run(&self->program, "namespace N { export type A = string }\n"
					 "declare enum D { A }\n"
					 "declare namespace M { const x: number }\n"
					 "console.log('fine')\n"));
	EXPECT_STREQ("fine\n", self->program.output);
}

TEST_F(typescript, an_import_that_is_refused_can_be_caught)
{
	support_write("bad.ts", "export let a: = 1\n");
	support_write("good.ts", "export let a: number = 1\n");
	EXPECT_EQ(
		0,
		run(&self->program,
		    "for (const name of ['bad', 'good', 'bad'])\n"
		    "  await import(`./${name}.ts`).then((m: any) => console.log(m.a),\n"
		    "    (e: unknown) => console.log(e instanceof SyntaxError, `${e}`.includes('bad.ts:1:15')))\n"));
	EXPECT_STREQ("true true\n1\ntrue true\n", self->program.output);
}

/* As in node, a name that is imported has to be there: types are not told from values by how they are used. */
TEST_F(typescript, a_type_that_is_imported_as_a_value_is_named)
{
	support_write("shapes.ts", "export interface Shape { a: number }\n");
	EXPECT_EQ(1, run(&self->program, "import { Shape } from './shapes.ts'\n"));
	EXPECT_NE(NULL, strstr(self->program.errors, "'Shape'"));
	EXPECT_NE(NULL, strstr(self->program.errors, "import type"))
	{
		TH_LOG("%s", self->program.errors);
	}
}

TEST_F(typescript, a_change_is_that_of_the_file)
{
	support_write("lib.ts", "export const a: number = 1\n");
	support_write("app.ts", "import { a } from './lib.ts'\nconsole.log(a)\n"
				"setInterval(() => {}, 100000).unref()\n");
	ASSERT_EQ(0, program_run(&self->program, NULL, THAW("run", "app.ts")));
	program_free(&self->program);
	ASSERT_EQ(0, program_run(&self->program, NULL, THAW("run", "app.ts")));
	EXPECT_EQ(NULL, strstr(self->program.errors, "changed"));
	/* The same program, but not the same file. */
	support_write("lib.ts", "export const a: string = 1\n");
	program_free(&self->program);
	ASSERT_EQ(0, program_run(&self->program, NULL, THAW("run", "app.ts")));
	EXPECT_NE(NULL, strstr(self->program.errors, "lib.ts changed since generation"))
	{
		TH_LOG("%s", self->program.errors);
	}
}

/* Deeper than any stack: the library's engine says so, and nothing else is lost. */
TEST_F(typescript, what_nests_too_deeply_is_refused)
{
	const size_t deep = 20000;
	char *source = calloc(1, deep + 32);

	ASSERT_NE(NULL, source);
	strcpy(source, "let a = ");
	memset(source + 8, '(', deep);
	EXPECT_EQ(1, run(&self->program, source));
	EXPECT_NE(NULL, strstr(self->program.errors, "app.ts"))
	{
		TH_LOG("%s", self->program.errors);
	}
	free(source);
}

TEST_HARNESS_MAIN
