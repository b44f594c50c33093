// SPDX-License-Identifier: MIT
// web_servers.js express|fastify|hono PORT - the same server in each: it counts the requests, and each answer says what the
// count came to.
const path = require('path')
const modules = path.join(__dirname, '../../../build/npm-exec/node_modules')
const [kind, port] = process.argv.slice(2)
const need = name => require(path.join(modules, name))

const sums = [0]
const answer = () => {
	const count = sums.length
	sums.push(Math.imul(sums[count - 1] ^ count, 0x9e3779b1) + 1 | 0)
	return { count, sum: sums[count] }
}
const listening = () => console.log('listening on', port)
if (kind === 'express') {
	const app = need('express')()
	app.get('/count', (request, response) => response.json(answer()))
	app.listen(port, '127.0.0.1', listening)
} else if (kind === 'fastify') {
	const app = need('fastify')()
	app.get('/count', { schema: { response: { 200: { type: 'object', properties: { count: { type: 'integer' }, sum: { type: 'integer' } } } } } }, async () => answer())
	app.listen({ port: Number(port), host: '127.0.0.1' }).then(listening)
} else {
	const { Hono } = need('hono')
	const app = new Hono()
	app.get('/count', c => c.json(answer()))
	need('@hono/node-server').serve({ fetch: app.fetch, port: Number(port), hostname: '127.0.0.1' }, listening)
}
