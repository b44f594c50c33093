# shellcheck shell=bash
# backends - what the backends of each kind cost (backends.c): missing pages that arrive, and written pages that are found;
# and by which ways pages could arrive (arrive.c).

backends()
{
	local version delivery reader backing tracker what program

	for version in $versions; do
		program=${build_of[$version]}/tests/bench/backends
		$quickly "${build_of[$version]}/tests/bench/walk" make-thaw "$work/$version.thaw" $((256 << 20))
		for delivery in userfaultfd user-mode sigsegv eager; do
			backing=THAW_BACKING=anonymous
			case $delivery in sigsegv | eager) backing= ;; esac
			for reader in io_uring threads; do
				for what in random sequential start; do
					job "${thaw[$version]}, $delivery, $reader" 'backends that deliver pages' - '' env THAW_DELIVERY=$delivery \
						THAW_READER=$reader $backing "$program" $what "$work/$version.thaw"
				done
			done
		done
		for tracker in wp-async wp-sync mprotect; do
			job "${thaw[$version]}, $tracker" 'backends that track writes' - '' env THAW_TRACKER=$tracker THAW_BACKING=anonymous \
				"$program" writes -
		done
	done
}

arrivals()
{
	local way

	$quickly "$build/tests/bench/walk" make-raw "$work/raw" $((256 << 20))
	cat "$work/raw" >/dev/null
	for way in copy continue map map-checked; do job $way 'ways to arrive' - '' "$build/tests/bench/arrive" $way "$work/raw"; done
}

[ $quick ] || arrivals | WARM=1 measure
[ $quick ] || backends | WARM=1 measure
