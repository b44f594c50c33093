// SPDX-License-Identifier: MIT
// better-sqlite3, an addon in C++, with a database in memory: rows, an index, transactions, a function of JavaScript's that
// SQLite calls, a query that stays open from one line to the next. A line a step, the same in every run.
const { createHash } = require('crypto')
const path = require('path')
const Database = require(path.join(__dirname, '../../../build/npm-exec/node_modules/better-sqlite3'))
const last = Number(process.argv[2] ?? Infinity)

console.log('started')
const hash = text => createHash('sha256').update(text).digest('hex').slice(0, 12)
const database = new Database(':memory:')
database.function('mixed', (a, b) => (Math.imul(a, 31) ^ b) >>> 0)
database.exec('create table t(k integer, v text, w integer); create index by_w on t(w)')
const add = database.prepare('insert into t values(?, ?, mixed(?, ?))'), some = database.prepare('select k, v, w from t where w > ? order by w limit 20')
const counted = database.prepare('select count(*) c, total(w) s from t'), thin = database.prepare('delete from t where k < ?')
const rows = database.transaction(number => { for (let i = 0; i < 50; i++) add.run(number, `row ${number} ${i}`.repeat(5), number, i * 7919) })
let n = 0
function step() {
	rows(++n)
	thin.run(n - 400)
	const { c, s } = counted.get()
	console.log(n, c, s, hash(JSON.stringify(some.all(n * 7919 % 100000))))
	if (n < last) setTimeout(step, 2)
}
step()
