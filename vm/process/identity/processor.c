/* SPDX-License-Identifier: MIT */
/*
 * processor.c - what a processor offers to programs (processor.h): its features, and how it saves their registers.
 *
 * Programs and libraries choose code by these features once, and go on with it on whatever they are restored on. What
 * only a kernel uses does not matter. A feature without a name in the table matters, too: a program may know it.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "process/identity/processor.h"

#if defined(__x86_64__)
#include <cpuid.h>

enum output { EAX, EBX, ECX, EDX };

#define BIT(n) (1u << (n))

/* Words of features; `kernel`: the bits that are none of a program's business. */
static const struct word {
	uint32_t leaf, subleaf;
	enum output output;
	uint32_t kernel;
} words[PROCESSOR_WORDS] = {
	/* dtes64 to tm2, cid, sdbg, xtpr, pdcm, pcid, dca, x2apic, tsc_deadline_timer, hypervisor */
	{1, 0, ECX,
	 0x1fcu | BIT(10) | BIT(11) | BIT(14) | BIT(15) | BIT(17) | BIT(18) | BIT(21) | BIT(24) |
		 BIT(31)},
	/* all without a name below */
	{1, 0, EDX,
	 ~(BIT(0) | BIT(4) | BIT(8) | BIT(15) | BIT(19) | BIT(23) | BIT(24) | BIT(25) | BIT(26))},
	/*
	 * tsc_adjust, sgx, hle (hints), fdp_excptn_only, smep, invpcid, cqm, zero_fcs_fds, mpx (no kernel has it any
	 * more), rdt_a, smap, pcommit, intel_pt
	 */
	{7, 0, EBX,
	 BIT(1) | BIT(2) | BIT(4) | BIT(6) | BIT(7) | BIT(10) | BIT(12) | BIT(13) | BIT(14) |
		 BIT(15) | BIT(20) | BIT(22) | BIT(25)},
	/* umip, shstk (opt in), tme, la57 (identity.c), mawau, key locker, bus_lock_detect, sgx_lc, pks */
	{7, 0, ECX,
	 BIT(2) | BIT(7) | BIT(13) | BIT(16) | 0x1fu << 17 | BIT(23) | BIT(24) | BIT(30) | BIT(31)},
	/* what is said of flaws and their remedies, and sgx_keys, hybrid_cpu, pconfig, arch_lbr, ibt */
	{7, 0, EDX,
	 BIT(1) | BIT(9) | BIT(10) | BIT(11) | BIT(13) | BIT(15) | BIT(18) | BIT(19) | BIT(20) |
		 0x3fu << 26},
	/* lass, arch_perfmon_ext, fred, lkgs, wrmsrns, nmi_src, hreset, lam, msrlist, invd_disable */
	{7, 1, EAX,
	 BIT(6) | BIT(8) | BIT(17) | BIT(18) | BIT(19) | BIT(20) | BIT(22) | BIT(26) | BIT(27) |
		 BIT(30)},
	{7, 1, EDX, BIT(18)},		/* cet_sss */
	{0xd, 1, EAX, BIT(3) | BIT(4)}, /* xsaves, xfd */
	/* cmp_legacy to cr8_legacy, misalignsse (opt in), osvw, ibs, skinit, wdt, tce, nodeid_msr, topoext, perfctr ... */
	{0x80000001, 0, ECX,
	 0x1eu | BIT(7) | BIT(9) | BIT(10) | BIT(12) | BIT(13) | BIT(17) | BIT(19) | 0x7fu << 22 |
		 BIT(30)},
	{0x80000001, 0, EDX, ~(BIT(22) | BIT(27) | BIT(30) | BIT(31))},
	{0x80000008, 0, EBX, ~(BIT(0) | BIT(4))},
};

/* Names as /proc/cpuinfo has them. */
static const struct name {
	uint8_t word, bit;
	const char *name;
} names[] = {
	{0, 0, "sse3"},
	{0, 1, "pclmulqdq"},
	{0, 9, "ssse3"},
	{0, 12, "fma"},
	{0, 13, "cx16"},
	{0, 19, "sse4_1"},
	{0, 20, "sse4_2"},
	{0, 22, "movbe"},
	{0, 23, "popcnt"},
	{0, 25, "aes"},
	{0, 26, "xsave"},
	{0, 27, "osxsave"},
	{0, 28, "avx"},
	{0, 29, "f16c"},
	{0, 30, "rdrand"},
	{1, 0, "fpu"},
	{1, 4, "tsc"},
	{1, 8, "cx8"},
	{1, 15, "cmov"},
	{1, 19, "clflush"},
	{1, 23, "mmx"},
	{1, 24, "fxsr"},
	{1, 25, "sse"},
	{1, 26, "sse2"},
	{2, 0, "fsgsbase"},
	{2, 3, "bmi1"},
	{2, 5, "avx2"},
	{2, 8, "bmi2"},
	{2, 9, "erms"},
	{2, 11, "rtm"},
	{2, 16, "avx512f"},
	{2, 17, "avx512dq"},
	{2, 18, "rdseed"},
	{2, 19, "adx"},
	{2, 21, "avx512ifma"},
	{2, 23, "clflushopt"},
	{2, 24, "clwb"},
	{2, 26, "avx512pf"},
	{2, 27, "avx512er"},
	{2, 28, "avx512cd"},
	{2, 29, "sha_ni"},
	{2, 30, "avx512bw"},
	{2, 31, "avx512vl"},
	{3, 0, "prefetchwt1"},
	{3, 1, "avx512vbmi"},
	{3, 3, "pku"},
	{3, 4, "ospke"},
	{3, 5, "waitpkg"},
	{3, 6, "avx512_vbmi2"},
	{3, 8, "gfni"},
	{3, 9, "vaes"},
	{3, 10, "vpclmulqdq"},
	{3, 11, "avx512_vnni"},
	{3, 12, "avx512_bitalg"},
	{3, 14, "avx512_vpopcntdq"},
	{3, 22, "rdpid"},
	{3, 25, "cldemote"},
	{3, 27, "movdiri"},
	{3, 28, "movdir64b"},
	{3, 29, "enqcmd"},
	{4, 2, "avx512_4vnniw"},
	{4, 3, "avx512_4fmaps"},
	{4, 4, "fsrm"},
	{4, 5, "uintr"},
	{4, 8, "avx512_vp2intersect"},
	{4, 14, "serialize"},
	{4, 16, "tsxldtrk"},
	{4, 22, "amx_bf16"},
	{4, 23, "avx512_fp16"},
	{4, 24, "amx_tile"},
	{4, 25, "amx_int8"},
	{5, 0, "sha512"},
	{5, 1, "sm3"},
	{5, 2, "sm4"},
	{5, 3, "rao_int"},
	{5, 4, "avx_vnni"},
	{5, 5, "avx512_bf16"},
	{5, 7, "cmpccxadd"},
	{5, 10, "fzrm"},
	{5, 11, "fsrs"},
	{5, 12, "fsrc"},
	{5, 21, "amx_fp16"},
	{5, 23, "avx_ifma"},
	{5, 31, "movrs"},
	{6, 4, "avx_vnni_int8"},
	{6, 5, "avx_ne_convert"},
	{6, 8, "amx_complex"},
	{6, 10, "avx_vnni_int16"},
	{6, 14, "prefetchi"},
	{6, 19, "avx10"},
	{6, 21, "apx"},
	{7, 0, "xsaveopt"},
	{7, 1, "xsavec"},
	{7, 2, "xgetbv1"},
	{8, 0, "lahf_lm"},
	{8, 5, "lzcnt"},
	{8, 6, "sse4a"},
	{8, 8, "3dnowprefetch"},
	{8, 11, "xop"},
	{8, 15, "lwp"},
	{8, 16, "fma4"},
	{8, 21, "tbm"},
	{8, 29, "mwaitx"},
	{9, 22, "mmxext"},
	{9, 27, "rdtscp"},
	{9, 30, "3dnowext"},
	{9, 31, "3dnow"},
	{10, 0, "clzero"},
	{10, 4, "rdpru"},
};

/* In the half that this one is of. */
static uint32_t highest_leaf(uint32_t leaf)
{
	return (uint32_t)__get_cpuid_max(leaf & 0x80000000u, NULL);
}

void processor_read(struct processor *processor)
{
	uint32_t model[12] = {0}, low, high;

	memset(processor, 0, sizeof(*processor));
	for (unsigned i = 0; i < PROCESSOR_WORDS; i++) {
		uint32_t out[4] = {0};

		if (highest_leaf(words[i].leaf) < words[i].leaf)
			continue;
		__cpuid_count(words[i].leaf, words[i].subleaf, out[EAX], out[EBX], out[ECX],
			      out[EDX]);
		processor->words[i] = out[words[i].output] & ~words[i].kernel;
	}
	for (unsigned i = 0; i < 3 && highest_leaf(0x80000000u) >= 0x80000004u; i++)
		__cpuid(0x80000002u + i, model[4 * i], model[4 * i + 1], model[4 * i + 2],
			model[4 * i + 3]);
	memcpy(processor->model, model, sizeof(model));
	if (!(processor->words[0] & BIT(27)))
		return;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	processor->state_components = (uint64_t)high << 32 | low;
	for (unsigned i = 2; i < PROCESSOR_COMPONENTS; i++) {
		uint32_t unused, flags;

		if (processor->state_components >> i & 1)
			__cpuid_count(0xd, i, processor->components[i].bytes,
				      processor->components[i].offset, unused, flags);
	}
}

static const char *component_name(unsigned component)
{
	static const char *const known[] = {
		"x87",	    "sse", "avx",  "bndregs",	  "bndcsr",	  "opmask", "zmm_hi256",
		"hi16_zmm", "pt",  "pkru", "pasid",	  "cet_u",	  "cet_s",  "hdc",
		"uintr",    "lbr", "hwp",  "amx_tilecfg", "amx_tiledata", "apx"};

	return component < sizeof(known) / sizeof(*known) ? known[component] : "unknown";
}

#else /* other machines have no such guests yet */

enum output { NONE };
static const struct word {
	uint32_t leaf, subleaf;
	enum output output;
} words[PROCESSOR_WORDS];
static const struct name {
	uint8_t word, bit;
	const char *name;
} names[1] = {{PROCESSOR_WORDS, 0, ""}};

void processor_read(struct processor *processor)
{
	memset(processor, 0, sizeof(*processor));
}

static const char *component_name(unsigned component)
{
	(void)component;
	return "unknown";
}

#endif

/* ---- Comparing */

struct lacks {
	char *text;
	size_t room, bytes;
};

__attribute__((format(printf, 2, 3))) static void lacks(struct lacks *lacks, const char *format,
							...)
{
	char what[64];
	va_list arguments;
	int more;

	va_start(arguments, format);
	vsnprintf(what, sizeof(what), format, arguments);
	va_end(arguments);
	more = snprintf(lacks->text + lacks->bytes, lacks->room - lacks->bytes, "%s%s",
			lacks->bytes ? ", " : "", what);
	/* Those that have no room any more are not named. */
	if (more >= 0 && (size_t)more < lacks->room - lacks->bytes)
		lacks->bytes += (size_t)more;
	else
		lacks->text[lacks->bytes] = 0;
}

static void lacks_feature(struct lacks *to, unsigned word, unsigned bit)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (names[i].word == word && names[i].bit == bit) {
			lacks(to, "%s", names[i].name);
			return;
		}
	lacks(to, "cpuid 0x%x.%u %u bit %u", words[word].leaf, words[word].subleaf,
	      (unsigned)words[word].output, bit);
}

bool processor_lacks(const struct processor *now, const struct processor *then, char *text,
		     size_t room)
{
	struct lacks to = {.text = text, .room = room};

	text[0] = 0;
	for (unsigned word = 0; word < PROCESSOR_WORDS; word++)
		for (unsigned bit = 0; bit < 32; bit++)
			if (then->words[word] >> bit & ~now->words[word] >> bit & 1)
				lacks_feature(&to, word, bit);
	for (unsigned i = 0; i < PROCESSOR_COMPONENTS; i++) {
		if (!(then->state_components >> i & 1))
			continue;
		if (!(now->state_components >> i & 1))
			lacks(&to, "the state of %s", component_name(i));
		else if (now->components[i].offset != then->components[i].offset ||
			 now->components[i].bytes != then->components[i].bytes)
			lacks(&to, "the place of %s in saved registers", component_name(i));
	}
	return to.bytes;
}

/* ---- As bytes */

void processor_encode(const struct processor *processor, struct record_writer *writer)
{
	record_put(writer, PROCESSOR_WORDS);
	for (unsigned i = 0; i < PROCESSOR_WORDS; i++)
		record_put(writer, processor->words[i]);
	record_put(writer, processor->state_components);
	record_put(writer, PROCESSOR_COMPONENTS);
	for (unsigned i = 0; i < PROCESSOR_COMPONENTS; i++) {
		record_put(writer, processor->components[i].offset);
		record_put(writer, processor->components[i].bytes);
	}
	record_put_bytes(writer, processor->model,
			 strnlen(processor->model, sizeof(processor->model)));
}

bool processor_decode(struct processor *processor, struct record_reader *reader)
{
	const void *model;
	size_t bytes;

	memset(processor, 0, sizeof(*processor));
	/* Other numbers of words are another version's. */
	reader->failed |= record_take(reader) != PROCESSOR_WORDS;
	for (unsigned i = 0; i < PROCESSOR_WORDS; i++)
		processor->words[i] = (uint32_t)record_take_up_to(reader, UINT32_MAX);
	processor->state_components = record_take(reader);
	reader->failed |= record_take(reader) != PROCESSOR_COMPONENTS;
	for (unsigned i = 0; i < PROCESSOR_COMPONENTS; i++) {
		processor->components[i].offset = (uint32_t)record_take_up_to(reader, UINT32_MAX);
		processor->components[i].bytes = (uint32_t)record_take_up_to(reader, UINT32_MAX);
	}
	model = record_take_bytes(reader, &bytes);
	if (reader->failed || bytes >= sizeof(processor->model)) {
		reader->failed = true;
		return false;
	}
	if (bytes)
		memcpy(processor->model, model, bytes);
	return true;
}
