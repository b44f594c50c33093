// SPDX-License-Identifier: MIT
// What old_data.js imports while its heap is young.
export default Object.freeze({ here: 'a module that was loaded long ago' });
export const shout = text => text.toUpperCase();
