// SPDX-License-Identifier: MIT
// votes.js PORT - counts votes, in a Map and a Set of a program: there is no database. Each vote has an id, so that a voter who
// got no answer can ask again, and is not counted twice.
const { Hono } = require('hono')
const { serve } = require('@hono/node-server')

const votes = new Map()
const voters = new Set()
const app = new Hono()

app.post('/vote/:candidate/:id', c => {
	const { candidate, id } = c.req.param()
	if (!voters.has(id)) {
		voters.add(id)
		votes.set(candidate, (votes.get(candidate) ?? 0) + 1)
	}
	return c.text('thank you\n')
})
app.get('/votes', c => c.json(Object.fromEntries(votes)))
app.get('/voters', c => c.json([...voters]))

serve({ fetch: app.fetch, port: Number(process.argv[2]), hostname: '127.0.0.1' })
