# SPDX-License-Identifier: MIT
# acknowledges.py PORT - the line service of tests/load/load.h, with asyncio; its state is a dictionary.
import asyncio
import sys

numbers = {}  # what each id was answered
counters = {}


def answer(line):
    word, _, key = line.partition(" ")
    if word == "add":
        return numbers.setdefault(key, len(numbers) + 1)
    if word == "get":
        return numbers.get(key, 0)
    if word == "count":
        counters[key] = counters.get(key, 0) + 1
        return counters[key]
    return len(numbers)


async def serve(reader, writer):
    try:
        while line := await reader.readline():
            writer.write(b"%d\n" % answer(line.decode().rstrip("\n")))
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    print("listening on", sys.argv[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
