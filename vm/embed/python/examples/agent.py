# SPDX-License-Identifier: MIT
"""An agent that writes code: each piece runs in one VM with limits, is taken back where it fails, and the VM's memory goes on from one
run of this program to the next.

    python3 examples/agent.py memory.bin
"""
import asyncio
import os
import sys

import thaw_vm

STEPS = [
    'globalThis.notes ??= []; notes.push(`visit ${notes.length + 1}`); notes.length',
    'notes.length = 0; for (;;);',  # loops: its time ends, and the notes come back
    'notes.push(await lookup("weather")); notes.at(-1)',
    'notes = null; nothing.at.all',  # fails half-way
    'notes.join(", ")',
]


async def lookup(topic: str) -> str:
    await asyncio.sleep(0.01)
    return f'{topic}: sunny'


async def run(vm: thaw_vm.VM, code: str) -> object:
    """A step, or nothing of it."""
    before = vm.snapshot()
    try:
        *statements, value = code.split(';')
        return await vm.eval_async('(async () => { ' + ';'.join(statements) + f'; return {value.strip() or "undefined"} }})()')
    except thaw_vm.Error as error:
        vm.rollback(before)
        return f'failed: {error}'


def begin(path: str) -> thaw_vm.VM:
    """As the memory that is kept there, or anew."""
    snapshot = None
    if os.path.exists(path):
        with open(path, 'rb') as file:
            snapshot = thaw_vm.Snapshot.from_bytes(file.read())
    return thaw_vm.VM(snapshot=snapshot, functions={'lookup': lookup}, turn=0.2, max_bytes=64 << 20)


async def main(path: str) -> None:
    with begin(path) as vm:
        for code in STEPS:
            print(f'{code:75.75} ->', await run(vm, code))
        with open(path + '.new', 'wb') as file:
            file.write(vm.snapshot().to_bytes())
        os.replace(path + '.new', path)


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else 'memory.bin'))
