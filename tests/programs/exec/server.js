// SPDX-License-Identifier: MIT
// Counts its requests on a port that is given, or any: 'listening on PORT', then an answer for each.
const http = require('http')
const data = Array.from({ length: Number(process.argv[3] ?? 1000) }, (_, i) => ({ id: i, name: `user ${i}`, tags: [i % 7, i % 11] }))
let count = 0
const server = http.createServer((request, response) => {
	count++
	response.end(JSON.stringify({ count, user: data[count % data.length].name }) + '\n')
})
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => console.log('listening on', server.address().port))
