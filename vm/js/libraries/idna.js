// SPDX-License-Identifier: MIT
//
// idna.js - the library tr46, for url_idna.js.
export { toASCII } from 'tr46';
