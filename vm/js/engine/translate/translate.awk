# SPDX-License-Identifier: MIT
#
# translate.awk - what wasm2c (wabt 1.0.32) wrote, made faster for x86-64 and gcc: the address of the linear memory is in a
# register, instead of being read again for each access. Whoever calls the module from outside goes through one of its
# exports, which set the register, and put back what the caller had in it: for C that is a register like any other
# which a call preserves. The memory never moves.
#
# Nor has each load to be made whose result nobody needs: that one of them would have trapped is seen by no program.
#
# Fails if the input is not as it was when this was written.

/^#define UNREACHABLE TRAP\(UNREACHABLE\)$/ {
	print "#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)"
	print "register u8 *memory_base __asm__(\"r14\");"
	print "#define MEMORY_BASE(memory) memory_base"
	print "#define ENTER u8 *const base_outside = memory_base; memory_base = instance->w2c_memory.data"
	print "#define LEAVE memory_base = base_outside"
	print "#define MUST_LOAD(result)"
	print "#else"
	print "#define MEMORY_BASE(memory) ((memory)->data)"
	print "#define ENTER"
	print "#define LEAVE"
	print "#define MUST_LOAD(result) wasm_asm(\"\" ::\"r\"(result))"
	print "#endif"
	places++
}

/&mem->data\[addr\]/ {
	sub(/&mem->data\[addr\]/, "MEMORY_BASE(mem) + addr")
	accesses++
}

/^    wasm_asm\("" ::"r"\(result\)\);/ {
	sub(/wasm_asm\("" ::"r"\(result\)\)/, "MUST_LOAD(result)")
	barriers++
}

/^(u32|u64|f32|f64|void) Z_quickjsZ_[A-Za-z0-9_]+\(.*\) \{$/ {
	type = $1
	print
	next
}

type != "" {
	if ($1 == "return") {
		sub(/^ *return /, "")
		print "  ENTER;"
		print "  " (type == "void" ? "" : type " result = ") $0
		print "  LEAVE;"
		if (type != "void")
			print "  return result;"
		exports++
		type = ""
		next
	}
	wrong = 1
}

{ print }

END {
	if (wrong || places != 1 || accesses != 2 || barriers != 2 || exports < 100) {
		print "translate.awk: this is not what wasm2c 1.0.32 writes" > "/dev/stderr"
		exit 1
	}
}
