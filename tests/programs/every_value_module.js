// SPDX-License-Identifier: GPL-2.0-only
// every_value_module.js - a module with variables that are exported, renamed and neither.
export let one = 1;
const inner = { two: 2 };
let hidden = 'not exported';
export { inner as renamed };
export default function standard() {
	return hidden;
}
