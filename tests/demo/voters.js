// SPDX-License-Identifier: MIT
// voters.js PORT KILLS - 64 voters, who vote as fast as they are answered, and vote again with the same id where no answer came.
// They remember what was acknowledged. When the server has gone away KILLS times, and is there again, they stop, and ask it
// what it has. Exit code 1: a vote that was acknowledged is lost, or one was counted twice.
const http = require('http')
const [port, kills] = process.argv.slice(2).map(Number)
const candidates = ['tea', 'coffee', 'water']
const agent = new http.Agent({ keepAlive: true, maxSockets: 64 })
const acknowledged = new Map() // id: candidate
let again = 0, gone = 0, up = false, since = 0

const ask = (method, path) => new Promise((resolve, reject) => {
	http.request({ agent, host: '127.0.0.1', port, method, path }, response => {
		let text = ''
		response.setEncoding('utf8').on('data', part => text += part).on('error', reject)
		response.on('end', () => response.statusCode === 200 && response.complete ? resolve(text) : reject(new Error(`answer ${response.statusCode}`)))
	}).on('error', reject).end()
})

// A connection that was made in an earlier life of the server says nothing about this one.
const answered = life => {
	if (up || life !== gone)
		return
	up = true
	console.log(`${String(gone).padStart(2)} times killed: ${String(acknowledged.size).padStart(6)} votes acknowledged` +
		(gone ? `, the next answer ${Date.now() - since} ms after the kill` : ''))
}

const failed = life => {
	if (up && life === gone) {
		up = false
		gone++
		since = Date.now()
	}
	return new Promise(resolve => setTimeout(resolve, 5))
}

// Until it is answered.
const insist = async (method, path) => {
	for (let times = 0; ; times++) {
		const life = gone

		again += times > 0
		try {
			const text = await ask(method, path)
			answered(life)
			return text
		} catch {
			await failed(life)
		}
	}
}

const voter = async number => {
	for (let i = 0; gone < kills || !up; i++) {
		const id = `${number}-${i}`, candidate = candidates[(number * 7 + i) % candidates.length]
		await insist('POST', `/vote/${candidate}/${id}`)
		acknowledged.set(id, candidate)
	}
}

const audit = async () => {
	const found = new Set(JSON.parse(await insist('GET', '/voters'))), votes = JSON.parse(await insist('GET', '/votes'))
	const lost = [...acknowledged.keys()].filter(id => !found.has(id)).length
	const counted = Object.values(votes).reduce((sum, n) => sum + n, 0)
	console.log(`\nacknowledged:        ${acknowledged.size} votes, ${again} requests sent again`)
	console.log(`found:               ${counted} votes (${candidates.map(name => `${name} ${votes[name]}`).join(', ')}) of ${found.size} voters`)
	console.log(`lost:                ${lost}`)
	const doubled = counted - found.size
	console.log(`counted twice:       ${doubled}`)
	const wrong = candidates.some(name => votes[name] !== [...acknowledged.values()].filter(c => c === name).length)
	return lost || doubled || wrong || found.size !== acknowledged.size ? 1 : 0
}

Promise.all(Array.from({ length: 64 }, (_, number) => voter(number))).then(audit).then(code => process.exit(code))
