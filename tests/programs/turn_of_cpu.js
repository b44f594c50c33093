// SPDX-License-Identifier: GPL-2.0-only
//
// turn_of_cpu.js - the computation of rounds.js as one turn that never ends.
//
// `env` is that of the present process: STOP=1 ends it after the round it is in, LIMIT=n after round n.
import { env } from 'thaw'
import { compute } from './rounds.js'

compute(n => env.STOP || String(n) === env.LIMIT).then(({ n, digest }) => console.log('result', n, digest))
