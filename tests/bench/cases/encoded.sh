# shellcheck shell=bash
# encoded - what it costs that an image is compressed or encrypted (encoded.c): a Node.js process, a heap of Thaw's own engine, and
# random bytes. MIB is how much of each (300, and 1,024 random ones); each job needs as much memory and disk twice.

# source_run NAME COMMAND...: its image becomes $work/NAME.pages, once it says that it is ready
source_run()
{
	local name=$1 pid=
	shift
	"$@" >"$work/said" 2>&1 &
	pid=$!
	for ((i = 0; i < 600; i++)); do
		! grep -q ready "$work/said" || break
		sleep 0.1
	done
	"$build/thaw" ctl "$work/$name.thaw" stop >/dev/null || true
	wait $pid || true
	"$build/tests/bench/encoded" pages "$work/$name.thaw" "$work/$name.pages"
	rm -f "$work/$name.thaw"
}

encoded()
{
	local heap how

	for heap in "$@"; do
		for how in none lz4 zstd:1 zstd:3 encrypted; do
			job "$how" "$heap" - '' "$build/tests/bench/encoded" $how "$work/$how.thaw" \
				"$([ "$heap" = random ] && echo random || echo "$work/$heap.pages")" \
				"$([ "$heap" = random ] && echo "${MIB:-1024}" || echo "${MIB:-300}")"
		done
	done
}

cat >"$work/items.js" <<'END'
const items = []
for (let i = 0; i < 1_000_000; i++) items.push({ id: i, name: 'user ' + i, tags: [i & 7, i & 11], next: items[i >> 1] })
console.log('ready')
setInterval(() => {}, 1000)
END
if [ $quick ]; then
	note "encoded: not among the quick ones"
elif ! room_for $((2 * ${MIB:-1024} + 1024)) $((2 * ${MIB:-1024} + 1024)); then
	note "encoded: no room for it"
else
	heaps='engine random'
	source_run engine "$build/thaw" run --image "$work/engine.thaw" --every 0 "$work/items.js"
	if command -v node >/dev/null; then
		source_run node "$build/thaw" exec --image "$work/node.thaw" --every 0 node "$work/items.js"
		heaps="node $heaps"
	fi
	# shellcheck disable=SC2086
	encoded $heaps | measure
fi
