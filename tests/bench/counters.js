// SPDX-License-Identifier: MIT
// counters.js map|sqlite|sqlite-tick|redis MIB DIRECTORY PORT - a service of MIB * 1,000 counters with 1,000 bytes beside each,
// over plain HTTP: POST /count/KEY answers what the counter of KEY has now. They are
//	map		objects in a Map
//	sqlite		rows, better-sqlite3, journal_mode WAL, synchronous FULL, a transaction for each request
//	sqlite-tick	the same, a transaction for all requests that one turn of the event loop brought
//	redis		counters of a Redis server with appendfsync always
const http = require('http')
const path = require('path')
const [kind, mib, directory, port] = process.argv.slice(2)
const need = name => require(path.join(__dirname, '../../build/npm-exec/node_modules', name))
const entries = Number(mib) * 1000
const text = i => `entry ${i} `.padEnd(1000, 'x')

const stores = {
	map() {
		const map = new Map()
		for (let i = 0; i < entries; i++)
			map.set(String(i), { n: 0, text: Buffer.from(text(i)).toString('latin1') })
		return (key, answer) => answer(++map.get(key).n)
	},
	sqlite() {
		const { update } = open_sqlite()
		return (key, answer) => answer(update.get(Number(key)).n)
	},
	'sqlite-tick'() {
		const { db, update } = open_sqlite()
		let waiting = []
		const all = db.transaction(list => list.map(({ key }) => update.get(key).n))
		const commit = () => {
			const list = waiting
			waiting = []
			all(list).forEach((n, i) => list[i].answer(n))
		}
		return (key, answer) => {
			if (waiting.push({ key: Number(key), answer }) === 1)
				setImmediate(commit)
		}
	},
	async redis() {
		const socket = path.join(directory, 'redis.socket')
		const { spawn } = require('child_process')
		const server = spawn('setpriv', ['--pdeathsig', 'KILL', 'redis-server', '--port', '0', '--unixsocket', socket, '--dir', directory,
			'--save', '', '--appendonly', 'yes', '--appendfsync', 'always', '--enable-debug-command', 'yes'], { stdio: 'ignore' })
		server.on('exit', code => process.exit(code || 1))
		const Redis = need('ioredis')
		const client = new Redis(socket, { retryStrategy: () => 50 })
		client.on('error', () => {}) // it is not there yet; without it there are no answers
		await client.call('debug', 'populate', entries, 'value', 1000)
		return (key, answer) => client.incr(key).then(answer)
	},
}

function open_sqlite() {
	const db = new (need('better-sqlite3'))(path.join(directory, 'counters.db'))
	db.pragma('journal_mode = WAL')
	db.pragma('synchronous = FULL')
	db.exec('CREATE TABLE counters (id INTEGER PRIMARY KEY, n INTEGER, text TEXT)')
	const insert = db.prepare('INSERT INTO counters VALUES (?, 0, ?)')
	db.transaction(() => {
		for (let i = 0; i < entries; i++)
			insert.run(i, text(i))
	})()
	return { db, update: db.prepare('UPDATE counters SET n = n + 1 WHERE id = ? RETURNING n') }
}

Promise.resolve(stores[kind]()).then(count => {
	http.createServer((request, response) => {
		count(request.url.slice('/count/'.length), n => response.end(`${n}\n`))
	}).listen(Number(port), '127.0.0.1', () => console.log('listening on', port))
})
