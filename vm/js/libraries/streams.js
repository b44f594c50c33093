// SPDX-License-Identifier: MIT
//
// streams.js - the library web-streams-polyfill, for api/streams.js.
export * from 'web-streams-polyfill';
