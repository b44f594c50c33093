# shellcheck shell=bash
# node - the package thaw-vm inside of Node.js (node_vm.mjs): calls in both directions, structured data, new VMs and forks, beside
# quickjs-wasi, the same engine as WebAssembly; and what else THAW_BENCH_NODE has in node_modules: isolated-vm, quickjs-emscripten.

if command -v node >/dev/null; then
	export THAW_NPM=$root/build/npm THAW_VM_PACKAGE=$build/node/package
	{
		for kind in thaw-vm quickjs-wasi ${THAW_BENCH_NODE:+isolated-vm quickjs-emscripten}; do
			job "$kind" - - '' node "$root/tests/bench/node_vm.mjs" "$kind"
		done
	} | measure
else
	note "there is no Node.js"
fi
