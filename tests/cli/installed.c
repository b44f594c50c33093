// SPDX-License-Identifier: GPL-2.0-only
/*
 * What `make install` puts under a prefix is all that a C program needs to be built with pkg-config, against the
 * shared library and the static one, what an editor needs to know the module "thaw", and manual pages.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "shell_line.h"

static const char counter[] =
	"#include <stdio.h>\n"
	"#include <thaw.h>\n"
	"int main(int argc, char **argv)\n"
	"{\n"
	"	struct thaw_options options = {.image = argv[argc - 1], .flags = THAW_CREATE,\n"
	"				       .max_bytes = 1 << 20, .engine = \"counter\"};\n"
	"	struct thaw_error error;\n"
	"	struct thaw *heap;\n"
	"	if (thaw_open(&options, &heap, &error))\n"
	"		return puts(error.text), 1;\n"
	"	if (!thaw_size(heap))\n"
	"		thaw_resize(heap, 1 << 16);\n"
	"	printf(\"%d\\n\", ++*(int *)thaw_base(heap));\n"
	"	if (thaw_checkpoint(heap, THAW_REASON_EXIT, NULL, 0, NULL))\n"
	"		return 2;\n"
	"	thaw_close(heap);\n"
	"	return 0;\n"
	"}\n";

static const char typed[] =
	"import { checkpoint, on, readFile, args, generation, stats, exit } from 'thaw'\n"
	"const made: number = (await checkpoint({ name: 'x' })).generation\n"
	"on('restore', (event) => { const age: number = event.ageMs; exit(age > 0 ? made : generation) })\n"
	"const text: string = await readFile(args[0], 'utf8')\n"
	"const bytes: Uint8Array = await readFile(text)\n"
	"export default [bytes.length, stats().turns]\n";

FIXTURE(installed)
{
	char *directory;
	struct program program;
};
FIXTURE_SETUP(installed)
{
	self->directory = support_directory();
}
FIXTURE_TEARDOWN(installed)
{
	program_free(&self->program);
	support_remove(self->directory);
}

/* The libraries were built with what the tests were built with: a sanitizer has to be linked, too. */
#ifdef __SANITIZE_ADDRESS__
#define SANITIZERS "-fsanitize=address,undefined"
#else
#define SANITIZERS ""
#endif

static void make_install(struct program *program, const char *directory, int *code)
{
	char *build = support_format("%s", THAW_BINARY), *line;

	*strrchr(build, '/') = '\0';
	line = support_format(
		"cd '%s' && env -u MAKEFLAGS -u MAKELEVEL make -s install-built BUILD='%s' "
		"DESTDIR='%s/root' PREFIX=/opt/thaw",
		THAW_SOURCE, build, directory);
	*code = program_run(program, NULL, (const char *[]){"/bin/sh", "-c", line, NULL});
	free(line);
	free(build);
}

#define PKG_CONFIG                                                                           \
	"PKG_CONFIG_PATH='%s/root/opt/thaw/lib/pkgconfig' PKG_CONFIG_SYSROOT_DIR='%s/root' " \
	"pkg-config"

TEST_F(installed, programs_are_built_with_pkg_config)
{
	const char *at = self->directory;
	char *source = support_format("%s/counter.c", at);
	int code;

	make_install(&self->program, at, &code);
	ASSERT_EQ(0, code) TH_LOG("%s%s", self->program.output, self->program.errors);
	support_write(source, counter);
	SHELL(0, "cd '%s' && cc %s counter.c -o shared $(" PKG_CONFIG " --cflags --libs thaw)", at,
	      SANITIZERS, at, at);
	SHELL(0,
	      "cd '%s' && cc %s counter.c -o static $(" PKG_CONFIG
	      " --cflags --libs --static thaw | sed 's/-lthaw/-l:libthaw.a/')",
	      at, SANITIZERS, at, at);
	SHELL(0, "cd '%s' && LD_LIBRARY_PATH=root/opt/thaw/lib ./shared c.thaw && ./static c.thaw",
	      at);
	EXPECT_STREQ("1\n2\n", self->program.output);
	SHELL(1, "cd '%s' && ldd ./static | grep libthaw", at);
	SHELL(0, "'%s/root/opt/thaw/bin/thaw' -p '6 * 7'", at);
	EXPECT_STREQ("42\n", self->program.output);
	free(source);
}

/* The library of VMs, by a program that is installed as an example; and whatever a linker finds is its interface. */
TEST_F(installed, programs_embed_vms)
{
	const char *at = self->directory;
	int code;

	make_install(&self->program, at, &code);
	ASSERT_EQ(0, code) TH_LOG("%s%s", self->program.output, self->program.errors);
	SHELL(0,
	      "cd '%s' && for e in root/opt/thaw/share/doc/thaw/examples/*.c; do cc -std=gnu11 -Wall -Wextra -Werror %s "
	      "$e -o $(basename $e .c) $(" PKG_CONFIG " --cflags --libs thawvm) "
	      "-Wl,-rpath,$PWD/root/opt/thaw/lib || exit 1; done",
	      at, SANITIZERS, at, at);
	SHELL(0,
	      "cd '%s' && echo 'async function main(a, b) { console.log(a, b); return [sum(1, 2), a + b] }' >a.js && "
	      "./sandbox a.js Ada Bob",
	      at);
	EXPECT_STREQ("Ada Bob\n[3,\"AdaBob\"]\n", self->program.output);
	SHELL(1, "cd '%s' && echo 'for (;;);' >a.js && ./sandbox a.js", at);
	EXPECT_STREQ("sandbox: the call was cut short: its time is over\n", self->program.errors);
	SHELL(0,
	      "cd '%s' && printf 'n = 20\nn += undefined_name\nn += 1\n' | ./agent w.thaw && echo 'n * 2' | ./agent w.thaw",
	      at);
	EXPECT_STREQ("20\nnot kept: ReferenceError: undefined_name is not defined\n21\n42\n",
		     self->program.output);
	SHELL(0,
	      "cd '%s' && nm -D --defined-only root/opt/thaw/lib/libthawvm.so | sed 's/.* //; s/@.*//' | "
	      "grep -v '^THAWVM_0$' | sort >found && grep -o '^THAW_PUBLIC.*\\bthaw_vm_[a-z_]*(' "
	      "root/opt/thaw/include/thaw_vm.h | sed 's/.*\\b\\(thaw_vm_[a-z_]*\\)(/\\1/' | sort | diff - found",
	      at);
}

/* Each header by itself, in C and as the only one that a program of before includes. */
TEST_F(installed, headers_stand_alone)
{
	static const char *const headers[] = {"thaw.h",	       "thaw_image.h",	"thaw_process.h",
					      "thaw_frozen.h", "thaw_mirror.h", "thaw_fill.h"};
	const char *at = self->directory;
	int code;

	make_install(&self->program, at, &code);
	ASSERT_EQ(0, code);
	for (unsigned i = 0; i < sizeof(headers) / sizeof(*headers); i++)
		SHELL(0,
		      "cd '%s' && printf '#include <%s>\nint main(void) { return thaw_image_open(\"\", 0, 0) == 1; }\n' >h.c "
		      "&& cc -Wall -Wextra -Werror -Iroot/opt/thaw/include -c h.c",
		      at, headers[i]);
	SHELL(0,
	      "cd '%s' && printf '#include <thaw_vm.h>\nint main() { return thaw_vm_close(0); }\n' >h.cc && "
	      "cp h.cc h.c && cc -Wall -Wextra -Werror -Iroot/opt/thaw/include -c h.c && "
	      "c++ -Wall -Wextra -Werror -Iroot/opt/thaw/include -c h.cc",
	      at);
}

static void pages_match(FIXTURE_DATA(installed) * self, struct __test_metadata *_metadata,
			const char *page, const char *headers, const char *symbols,
			const char *version)
{
	const char *at = self->directory;

	SHELL(0,
	      "cd '%s/root/opt/thaw' && for f in $(sed -n 's/^[.]Fn \\(thaw_[a-z_]*\\).*/\\1/p' "
	      "share/man/man3/%s.3 | grep '^%s_'); do grep -q \"\\b$f(\" include/%s || echo \"$f\"; done",
	      at, page, page, headers);
	EXPECT_STREQ("", self->program.output);
	/* And each that a header declares is on the page, and has one of its name that leads there. */
	SHELL(0,
	      "cd '%s/root/opt/thaw' && for f in $(grep -ho 'thaw_[a-z_]*(.*[,;]$' include/%s | "
	      "sed 's/(.*//'); do grep -q \"^[.]It Ft .* Fn $f\\b\" share/man/man3/%s.3 && "
	      "grep -q 'man3/%s.3' share/man/man3/$f.3 || echo \"$f\"; done",
	      at, headers, page, page);
	EXPECT_STREQ("", self->program.output);
	/* The package of the library promises all of them. */
	SHELL(0,
	      "cd '%s/root/opt/thaw' && for f in $(grep -ho 'thaw_[a-z_]*(.*[,;]$' include/%s | "
	      "sed 's/(.*//'); do grep -q \"^ $f@%s \" '%s/scripts/debian/%s' || "
	      "echo \"$f\"; done",
	      at, headers, version, THAW_SOURCE, symbols);
	EXPECT_STREQ("", self->program.output);
}

/* Each command, and each function that the page of the library names, is there. */
TEST_F(installed, manual_pages_are_there)
{
	const char *at = self->directory;
	int code;

	make_install(&self->program, at, &code);
	ASSERT_EQ(0, code) TH_LOG("%s%s", self->program.output, self->program.errors);
	SHELL(0,
	      "cd '%s/root/opt/thaw' && for c in $(bin/thaw --help | sed -n '/ -e CODE/q; "
	      "s/^  \\([a-z]*\\)  *.*/\\1/p'); do [ -s share/man/man1/thaw-$c.1 ] || echo \"$c\"; done",
	      at);
	EXPECT_STREQ("", self->program.output);
	pages_match(self, _metadata, "thaw", "thaw.h include/thaw_[fimp]*.h", "libthaw0.symbols",
		    "THAW_0");
	pages_match(self, _metadata, "thaw_vm", "thaw_vm.h", "libthawvm0.symbols", "THAWVM_0");
	SHELL(0,
	      "command -v mandoc >/dev/null || exit 0; cd '%s/root/opt/thaw/share/man' && "
	      "mandoc -T lint -W warning man1/* man3/thaw.3 man3/thaw_vm.3 man7/*",
	      at);
}

TEST_F(installed, the_module_has_types)
{
	char *source = support_format("%s/app.ts", self->directory);

	support_write(source, typed);
	SHELL(0,
	      "cd '%s' && node '%s/node_modules/typescript/bin/tsc' --noEmit --strict --target es2022 "
	      "--module es2022 --moduleResolution bundler app.ts '%s/vm/js/api/thaw.d.ts'",
	      self->directory, THAW_NPM, THAW_SOURCE);
	support_write(source, "import { checkpoint } from 'thaw'\ncheckpoint('name')\n");
	SHELL(2,
	      "cd '%s' && node '%s/node_modules/typescript/bin/tsc' --noEmit --strict --target es2022 "
	      "--module es2022 --moduleResolution bundler app.ts '%s/vm/js/api/thaw.d.ts'",
	      self->directory, THAW_NPM, THAW_SOURCE);
	free(source);
}

TEST_HARNESS_MAIN
