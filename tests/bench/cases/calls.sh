# shellcheck shell=bash
# calls - what bounds a durable change and a restore, in system calls (the script calls). They do not scatter.

calls()
{
	local version way pattern

	for version in $versions; do
		job "${thaw[$version]}" - - '' "$root/tests/bench/calls" change "${build_of[$version]}/tests/bench/stores" thaw "$work/$version" 10
		for way in none all; do
			for pattern in first random10 order; do
				job "${thaw[$version]}" "system calls of a restore, $way, ${pattern/random10/10 % at random}" - '' "$root/tests/bench/calls" restore \
					"${build_of[$version]}/tests/bench/walk" $way $pattern "$work/$version.thaw"
			done
		done
	done
	job 'pwrite + fdatasync' - - '' "$root/tests/bench/calls" change "$build/tests/bench/stores" pwrite "$work/pwrite" 10
	job 'SQLite, WAL, FULL' - - '' "$root/tests/bench/calls" change "$build/tests/bench/stores" sqlite "$work/sqlite" 10
	job 'LMDB' - - '' "$root/tests/bench/calls" change "$build/tests/bench/stores" lmdb "$work/lmdb" 10
}

if ! command -v strace >/dev/null; then
	note "system calls: strace is not installed"
else
	for way in sqlite lmdb; do $quickly "$build/tests/bench/stores" make $way "$work/$way" 10; done
	for version in $versions; do $quickly "${build_of[$version]}/tests/bench/walk" make-thaw "$work/$version.thaw" $((64 << 20)); done
	calls | measure 1
fi
