# shellcheck shell=bash
# engine - programs that compute (engine/*.js), each of them one long turn: ms of the work, without an image beside native
# QuickJS-NG (the program qjs, or what QJS says), and with an image and captures in between.

programs='recursion objects floats permutations text collections json trees hashing'
qjs=$(command -v "${QJS:-qjs}") || note "native QuickJS-NG: there is no qjs; QJS=/path/to/qjs"
node=$(command -v node) || note "node: not installed"

engine()
{
	local version program every script

	for program in $programs; do
		script=$root/tests/bench/engine/$program.js
		for version in $versions; do
			job "${thaw[$version]}" "engine" "$program" '' "${build_of[$version]}/tests/bench/script" - 0 "$script"
			for every in "$@"; do
				job "${thaw[$version]}, every $every ms" "engine" "$program" "rm -f $work/$version.thaw" \
					"${build_of[$version]}/tests/bench/script" "$work/$version.thaw" "$every" "$script"
			done
		done
		[ -z "$qjs" ] || job 'native QuickJS-NG' engine "$program" '' "$qjs" -m "$script"
		[ -z "$node" ] || job 'node --jitless' engine "$program" '' "$node" --experimental-default-type=module --jitless "$script"
	done
}

if [ $quick ]; then
	programs='recursion objects collections' engine | measure 1
else
	engine 0 1000 100 10 | measure
fi
