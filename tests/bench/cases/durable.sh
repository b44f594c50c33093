# shellcheck shell=bash
# durable - small changes made durable, one after the other (stores.c), and of a Redis server, which redis-benchmark asks.

# of MIB SECONDS
of()
{
	local way version

	for way in sqlite lmdb; do
		$quickly "$build/tests/bench/stores" make $way "$work/$way.$1" "$1"
	done
	{ cat "$root/tests/bench/heap_builder.js"; echo "const mib = $1, seconds = $2"; cat "$root/tests/bench/changes.js"; } >"$work/changes.js"
	{
		for version in $versions; do
			job "${thaw[$version]}" - - "rm -f $work/$version" "${build_of[$version]}/tests/bench/script" "$work/$version" 0 "$work/changes.js"
		done
		for version in $versions; do
			job "${thaw[$version]}" - - "rm -f $work/$version" "${build_of[$version]}/tests/bench/stores" thaw "$work/$version" "$@"
		done
		job 'pwrite + fdatasync' - - "rm -f $work/pwrite" "$build/tests/bench/stores" pwrite "$work/pwrite" "$@"
		job 'SQLite, WAL, FULL' - - '' "$build/tests/bench/stores" sqlite "$work/sqlite.$1" "$@"
		job 'LMDB' - - '' "$build/tests/bench/stores" lmdb "$work/lmdb.$1" "$@"
		if command -v redis-benchmark redis-server >/dev/null; then
			job 'Redis, AOF always' - - '' "$root/tests/bench/redis" "$1" "$2"
		fi
	} | measure
	rm -rf "${work:?}"/*
}

command -v redis-benchmark redis-server >/dev/null || note "Redis: not installed"
if [ $quick ]; then
	of 10 1
elif [ "${MIB:-}" ]; then
	of "$MIB" "${SECONDS_EACH:-1.5}"
else
	of 10 1.5
	of 1024 1.5
fi
