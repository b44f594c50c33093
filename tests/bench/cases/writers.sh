# shellcheck shell=bash
# writers - a checkpoint of a program that goes on writing (writers.c), and programs of many objects with random updates
# (updates.js; UPDATES=2 millions): how long they take to that without an image, and the longest time between two updates.

# writers MIB WRITTEN...
writers()
{
	local version

	for version in $versions; do
		job "${thaw[$version]}" - - '' "${build_of[$version]}/tests/bench/writers" thaw "$work/$version.thaw" "$@"
	done
	job 'fork()' - - '' "$build/tests/bench/writers" fork "$work/copy" "$@"
}

# updates MIB MILLIONS
updates()
{
	local version every

	{ cat "$root/tests/bench/heap_builder.js"; echo "const mib = $1, updates = $2 * 1000000"; cat "$root/tests/bench/updates.js"; } \
		>"$work/updates.js"
	for version in $versions; do
		job "${thaw[$version]}, no image" - - '' "${build_of[$version]}/tests/bench/script" - 0 "$work/updates.js"
		for every in 0 1000 100; do
			job "${thaw[$version]}, every $every ms" - - "rm -f $work/$version.thaw" \
				"${build_of[$version]}/tests/bench/script" "$work/$version.thaw" $every "$work/updates.js"
		done
	done
}

if [ $quick ]; then
	writers 256 100 10000 46000 | measure
else
	writers "${MIB:-1024}" 100 2000 10000 46000 140000 236000 | measure
	[ "${UPDATES:-1}" = 0 ] || updates "${MIB:-1024}" "${UPDATES:-2}" | measure $(((rounds + 1) / 2))
fi
