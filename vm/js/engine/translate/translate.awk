# SPDX-License-Identifier: MIT
#
# translate.awk - what wasm2c (wabt 1.0.32) wrote, made faster for x86-64 and gcc: the address of the linear memory is in a
# register, instead of being read again for each access. Whoever calls the module from outside goes through one of its
# exports, which set the register, and put back what the caller had in it: for C that is a register like any other
# which a call preserves. The memory never moves.
#
# Nor has each load to be made whose result nobody needs: that one of them would have trapped is seen by no program.
#
# The engine polls in JavaScript's loops and calls. Built-ins over giant lengths have neither: they poll where they get, look
# for or delete a property, or take the next of an iterator, all of which may fail. The functions have no names, their
# numbers are those of this binary.
#
# Fails if the input is not as it was when this was written.

BEGIN {
	EXCEPTION = "25769803776ull"
	may_fail["w2c_JS_HasProperty"] = may_fail["w2c_JS_DeleteProperty"] = "4294967295u"
	may_fail["w2c_JS_GetPropertyInt64"] = EXCEPTION
	may_fail["w2c_f136"] = "(i32_store(&instance->w2c_memory, w2c_p5, 0), " EXCEPTION ")" # JS_IteratorNext
	may_fail["w2c_f498"] = "(i64_store(&instance->w2c_memory, w2c_p1, 0), 4294967295u)" # js_get_length64
	# JS_TryGetPropertyInt64
	may_fail["w2c_f826"] = "(i64_store(&instance->w2c_memory, w2c_p3, " EXCEPTION "), 4294967295u)"
}

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
	print "/* As js_poll_interrupts() of QuickJS, which is w2c_f93: `interrupt_counter` of the context. */"
	print "#define POLL(context, failure) do { \\"
	print "  u32 left = i32_load(&instance->w2c_memory, (u64)(context) + 292u); \\"
	print "  if (LIKELY((s32)left > 1)) i32_store(&instance->w2c_memory, (u64)(context) + 292u, left - 1); \\"
	print "  else if (w2c_f93(instance, context)) { FUNC_EPILOGUE; return failure; } \\"
	print "} while (0)"
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

/^static u(32|64) w2c_[A-Za-z0-9_]+\(.*\) \{$/ {
	name = $3
	sub(/\(.*/, "", name)
	failure = may_fail[name]
}

failure != "" && /^  FUNC_PROLOGUE;$/ {
	print
	print "  POLL(w2c_p0, " failure ");"
	failure = ""
	polls++
	next
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
	if (wrong || polls != 6 || places != 1 || accesses != 2 || barriers != 2 || exports < 100) {
		print "translate.awk: this is not what wasm2c 1.0.32 writes" > "/dev/stderr"
		exit 1
	}
}
