# shellcheck shell=bash
# start - a JavaScript program with a table of objects (heap_builder.js) answers a question: ms from the exec to the answer.
# quickjs-wasi is the same engine as WebAssembly under node, which restores a snapshot of it (scripts/npm has its version).

start()
{
	local mib version quickjs_wasi="$root/tests/bench/quickjs_wasi.mjs"
	local builder
	builder=$(cat "$root/tests/bench/heap_builder.js")
	export THAW_NPM=$root/build/npm

	echo 'console.log(1 + 1)' >"$work/empty.js"
	for mib in "$@"; do
		for version in $versions; do
			$quickly "${build_of[$version]}/thaw" -e "$builder; build($mib * 1048576)" --image "$work/$version.$mib.thaw" --every 0
		done
		command -v node >/dev/null && [ "$mib" -le 1024 ] && $quickly node --max-old-space-size=8192 "$quickjs_wasi" build $((mib * 1048576)) \
			"$work/$mib.snapshot" "$root/tests/bench/heap_builder.js"
	done
	{
		for mib in "$@"; do
			for version in $versions; do
				job "${thaw[$version]}" 'start to first result' "$mib MiB" '' "${build_of[$version]}/thaw" -q --image "$work/$version.$mib.thaw" -p 'lookup(1234)'
			done
			[ ! -f "$work/$mib.snapshot" ] || job 'quickjs-wasi under node' 'start to first result' "$mib MiB" '' \
				node --max-old-space-size=8192 "$quickjs_wasi" restore "$work/$mib.snapshot" 1234
		done
		for version in $versions; do
			job "${thaw[$version]}" 'start to first result' 'a new image' "rm -f $work/empty.thaw" \
				"${build_of[$version]}/thaw" run -q --image "$work/empty.thaw" "$work/empty.js"
		done
		! command -v node >/dev/null || job node 'start to first result' 'a new image' '' node "$work/empty.js"
	} | WARM=1 measure
}

if [ $quick ]; then start 4 256; else start 4 256 1024 3072; fi
