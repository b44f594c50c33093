/* SPDX-License-Identifier: MIT */
/* The JavaScript that is part of the binary, byte for byte. Assembled from the repository's top. */
	.macro embed name, path
	.global js_\name\()_start
	.global js_\name\()_end
	.balign 16
js_\name\()_start:
	.incbin "\path"
js_\name\()_end:
	.byte 0
	.endm

	.section .rodata
	embed primordials, vm/js/primordials.js
	embed errors, vm/js/errors.js
	embed later, vm/js/later.js
	embed inspect, vm/js/inspect.js
	embed format, vm/js/format.js
	embed console, vm/js/console.js
	embed timers, vm/js/timers.js
	embed web, vm/js/web.js
	embed table, vm/js/table.js
	embed structured_clone, vm/js/structured_clone.js
	embed prelude, vm/js/prelude.js
	embed thaw_module, vm/js/thaw.js

	.section .note.GNU-stack, "", @progbits
