// SPDX-License-Identifier: MIT
import thaw from './index.js'
export const { ThawVM, Snapshot, ThawError, interrupt } = thaw
export default ThawVM
