# shellcheck shell=bash
# exec - what `thaw exec` costs, with Node.js as its program (exec.c): from a start to the first tick beside node that makes its
# data anew, run times, pauses. What node and the kernel do on other processors is in the numbers, so they scatter.

# exec_job VERSION WHAT...
exec_job()
{
	job "${names[$2]:-${thaw[$1]}}" - - '' "${build_of[$1]}/tests/bench/exec" "${build_of[$1]}/thaw" "$work/$1" "${@:2}"
}

starts()
{
	local version mib
	local -A names=([anew]='node makes its data anew')

	for mib in "$@"; do
		for version in $versions; do
			exec_job "$version" restored "$mib"
		done
		exec_job new anew "$mib"
	done
}

works()
{
	local kind every version

	for kind in cpu memory; do
		for version in $versions; do
			for every in 0 1s 100ms; do
				local -A names=([work]="${thaw[$version]}, every $every")
				exec_job "$version" work $kind $every
			done
		done
		local -A names=([work]='node alone')
		exec_job new work $kind none
	done
}

# pauses MIB PAGES [MIB PAGES]...
pauses()
{
	local version

	while [ $# -gt 0 ]; do
		for version in $versions; do
			exec_job "$version" pause "$1" "$2"
		done
		shift 2
	done
}

if ! command -v node >/dev/null; then
	note "thaw exec: node is not installed"
else
	declare -A names=()
	sizes=${MIB:-30 300 5000}
	[ -z "$quick" ] || sizes=300
	for version in $versions; do
		mkdir "$work/$version"
		cp "$root"/tests/bench/exec_*.js "$work/$version/"
		for mib in $sizes; do
			$quickly "${build_of[$version]}/tests/bench/exec" "${build_of[$version]}/thaw" "$work/$version" make "$mib"
		done
	done
	starts $sizes | measure
	if [ -z "$quick" ]; then
		works | measure
		pauses 100 200 300 200 1000 200 1000 2600 5000 200 300 0 5000 0 | measure 2
	else
		pauses 300 200 | measure 1
	fi
fi
