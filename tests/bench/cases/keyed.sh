# shellcheck shell=bash
# keyed - what it costs that an image is authenticated (keyed.c), to an image that is not.

keyed()
{
	job 'Thaw' - - '' "$build/tests/bench/keyed" plain "$work/plain.thaw"
	job 'Thaw, keyed' - - '' "$build/tests/bench/keyed" keyed "$work/keyed.thaw"
	job 'Thaw, encrypted' - - '' "$build/tests/bench/keyed" encrypted "$work/encrypted.thaw"
}

[ $quick ] || keyed | measure
