# SPDX-License-Identifier: MIT
# Threads, asyncio, decimals, sqlite3 in memory, regular expressions: prints 'started', then line after line a number and
# what all of it says of that, the same in every run.
import asyncio, decimal, hashlib, os, queue, re, sys, threading

try:
    import sqlite3
except ImportError:
    sqlite3 = None

last = int(sys.argv[1]) if len(sys.argv) > 1 else 1 << 60


def say(line):  # in one piece, whatever PYTHONUNBUFFERED makes of print(): what was written before a capture is not again
    os.write(1, f'{line}\n'.encode())


say('started')
table = {i: str(i) * 3 for i in range(50000)}
asked, answered = queue.Queue(), queue.Queue()
local = threading.local()
lock = threading.RLock()


def work():
    local.seen = 0
    while True:
        number = asked.get()
        with lock, lock:
            local.seen += 1
            answered.put((number * number, local.seen))


for _ in range(1):
    threading.Thread(target=work, daemon=True).start()
decimal.getcontext().prec = 40
database = sqlite3.connect(':memory:', check_same_thread=False) if sqlite3 else None
if database:
    database.execute('create table t(x)')


async def main():
    total = decimal.Decimal(0)
    for n in range(1, last + 1):
        table[n * 7919 % 50000] = f'{n}:{table[n * 31 % 50000]}'[:40]
        asked.put(n)
        square, seen = answered.get()
        total += decimal.Decimal(1) / n
        if database:
            database.execute('insert into t values(?)', (n,))
        rows = database.execute('select count(*), sum(x) from t').fetchone() if database else (n, n * (n + 1) // 2)
        words = re.sub(r'(\d)(\d)', r'\2\1', table[n * 7919 % 50000])
        text = f'{words} {square} {seen} {total} {rows[0]} {rows[1]}'
        say(f'{n} {hashlib.sha256(text.encode()).hexdigest()[:12]}')
        await asyncio.sleep(0.002)


asyncio.run(main())
