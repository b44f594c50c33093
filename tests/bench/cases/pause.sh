# shellcheck shell=bash
# pause - a checkpoint of which some random pages were written before: how long the program stands still, and after how long
# the generation is durable (pause.c).

# pause MIB DIRTY...
pause()
{
	local version

	for version in $versions; do
		job "${thaw[$version]}" - - '' "${build_of[$version]}/tests/bench/pause" thaw "$work/$version.thaw" "$@"
	done
	job 'fork()' - - '' "$build/tests/bench/pause" fork "$work/copy" "$@"
}

# A snapshot of everything by a Redis server, which has no other: beside Thaw with all pages written.
all_pages()
{
	local version

	for version in $versions; do
		job "${thaw[$version]}" - - '' "${build_of[$version]}/tests/bench/pause" thaw "$work/$version.thaw" "$1" all
	done
	job 'fork()' - - '' "$build/tests/bench/pause" fork "$work/copy" "$1" all
	! command -v redis-benchmark redis-server >/dev/null || job 'Redis, BGSAVE' - - '' "$root/tests/bench/redis" "$1" bgsave
}

if [ $quick ]; then
	pause 256 100 655 6553 | measure
elif [ "${MIB:-}" ]; then
	pause "$MIB" ${DIRTY:-100 2621 26214} | measure
else
	pause 256 100 | measure
	pause 1024 100 2621 26214 | measure
	pause 1024 100/1 | measure
	all_pages 1024 | measure 3
	room_for 5000 10000 && pause 3072 100 | measure $(((rounds + 1) / 2))
	room_for 15000 30000 && pause 12288 100 100/1 | measure 3
fi
