# shellcheck shell=bash
# forks - VMs of libthawvm that begin from a snapshot, go back to one, and travel as bytes (forks.c), beside quickjs-wasi under
# node, the same engine as WebAssembly, whose snapshot is a copy of its memory (a fork there is a restore from it); and beside
# node's own startup snapshot, which is V8's.

forks()
{
	local mib

	export THAW_NPM=$root/build/npm
	{
		for mib in "$@"; do
			job Thaw - - '' "$build/tests/bench/forks" "$mib" "$root/tests/bench/heap_builder.js"
			! command -v node >/dev/null || job 'quickjs-wasi under node' - - '' node --max-old-space-size=8192 \
				"$root/tests/bench/quickjs_wasi.mjs" forks "$mib" "$root/tests/bench/heap_builder.js"
			! command -v node >/dev/null || job "node's startup snapshot" - - '' node \
				"$root/tests/bench/node_snapshot.mjs" "$mib" "$root/tests/bench/heap_builder.js"
		done
	} | measure "${ROUNDS:-3}"
}

if [ $quick ]; then forks 1 16; else forks 1 16 256; fi
