// SPDX-License-Identifier: MIT
// acknowledges.js http|express|hono PORT [MODULES] - a service of tests/load/load.h whose state is two maps and a number.
const path = require('path')
const [kind, port, modules = path.join(__dirname, '../../../build/npm-exec/node_modules')] = process.argv.slice(2)
const need = name => require(path.join(modules, name))

const numbers = new Map() // what each id was answered
const counters = new Map()
const add = id => {
	if (!numbers.has(id))
		numbers.set(id, numbers.size + 1)
	return numbers.get(id)
}
const get = id => numbers.get(id) ?? 0
const count = key => {
	counters.set(key, (counters.get(key) ?? 0) + 1)
	return counters.get(key)
}
const listening = () => console.log('listening on', port)

if (kind === 'express') {
	const app = need('express')()
	app.post('/add/:id', (request, response) => response.send(`${add(request.params.id)}\n`))
	app.get('/get/:id', (request, response) => response.send(`${get(request.params.id)}\n`))
	app.get('/total', (request, response) => response.send(`${numbers.size}\n`))
	app.post('/count/:key', (request, response) => response.send(`${count(request.params.key)}\n`))
	app.listen(port, '127.0.0.1', listening)
} else if (kind === 'hono') {
	const { Hono } = need('hono')
	const app = new Hono()
	const say = (c, n) => c.text(`${n}\n`, 200, { 'Content-Length': String(`${n}\n`.length) })
	app.post('/add/:id', c => say(c, add(c.req.param('id'))))
	app.get('/get/:id', c => say(c, get(c.req.param('id'))))
	app.get('/total', c => say(c, numbers.size))
	app.post('/count/:key', c => say(c, count(c.req.param('key'))))
	need('@hono/node-server').serve({ fetch: app.fetch, port: Number(port), hostname: '127.0.0.1' }, listening)
} else {
	const answers = { add, get, count, total: () => numbers.size }
	require('http').createServer((request, response) => {
		const [, what, key] = request.url.split('/')
		response.end(`${answers[what](key)}\n`)
	}).listen(Number(port), '127.0.0.1', listening)
}
