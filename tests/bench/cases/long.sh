# shellcheck shell=bash
# long - an image after very many checkpoints (image_growth.c), built-ins that do not poll (poll_gaps.c), the stacks of turns that
# are stopped in their middle, and intervals asked for and achieved (turns).

long()
{
	local version

	for version in $versions; do
		job "${thaw[$version]}" - - '' "${build_of[$version]}/tests/bench/image_growth"
		job "${thaw[$version]}" - - '' "${build_of[$version]}/tests/bench/poll_gaps"
		job "${thaw[$version]}" - - '' "$root/tests/bench/turns" "${build_of[$version]}/thaw" "$work"
	done
}

[ $quick ] || long | measure 1
