# shellcheck shell=bash
# freed - a program frees half of its memory (freed.js): is it given back, in memory and in the image?

freed()
{
	local version which

	for which in halves 'every other'; do
		{ echo "const which = '$which'"; cat "$root/tests/bench/freed.js"; } >"$work/${which% *}.js"
		for version in $versions; do
			job "${thaw[$version]}" - - "rm -f $work/$version.thaw" "${build_of[$version]}/tests/bench/script" \
				"$work/$version.thaw" 0 "$work/${which% *}.js"
		done
		! command -v node >/dev/null || job node - - '' node --experimental-default-type=module --expose-gc "$work/${which% *}.js"
	done
}

freed | measure $(((rounds + 1) / 3))
