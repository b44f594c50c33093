# SPDX-License-Identifier: MIT
"""Snapshots, forks, going back; images, and promises that wait in them."""
import asyncio
import gc
import os
import tempfile
import threading
import time
import unittest
import weakref

import thaw_vm


async def twice(n):
    return 2 * n


class Snapshots(unittest.TestCase):
    def setUp(self):
        self.vm = thaw_vm.VM(functions={'add': lambda a, b: a + b})
        self.addCleanup(self.vm.close)
        self.vm.eval('let n = 1; const up = () => n = add(n, 1), get = () => n')
        self.one = self.vm.snapshot()

    def test_forks_go_their_own_ways(self):
        with self.one.fork() as a, self.one.fork(functions={'add': lambda a, b: a + 10 * b}) as b:
            self.assertEqual((a.call('up'), a.call('up'), b.call('up'), self.vm.call('get')), (2, 3, 11, 1))
            with a.snapshot().fork() as c:
                self.assertEqual(c.call('up'), 4)
            self.assertNotEqual(a.eval('Math.random()'), b.eval('Math.random()'))

    def test_bytes_and_deltas(self):
        self.vm.call('up')
        two = self.vm.snapshot()
        whole, delta = self.one.to_bytes(), two.to_bytes(since=self.one)
        self.assertLess(len(delta), len(whole) // 4)
        base = thaw_vm.Snapshot.from_bytes(whole)
        again = thaw_vm.Snapshot.from_bytes(bytearray(delta), base)
        self.assertEqual((again.id, base.id, len(base.id)), (two.id, self.one.id, 32))
        self.assertNotEqual(again.id, base.id)
        with again.fork(functions=self.vm._options['functions']) as vm:
            self.assertEqual(vm.call('up'), 3)
        with self.assertRaises(thaw_vm.Missing) as caught:
            again.fork()
        self.assertEqual(caught.exception.names, ('add',))
        with self.assertRaises(thaw_vm.Error):
            thaw_vm.Snapshot.from_bytes(delta)
        with self.assertRaises(thaw_vm.Incompatible):
            thaw_vm.Snapshot.from_bytes(b'something else')
        broken = bytearray(whole)
        broken[len(broken) // 2] ^= 1
        with self.assertRaises((thaw_vm.Damaged, thaw_vm.Incompatible)):
            thaw_vm.Snapshot.from_bytes(broken)

    def test_going_back(self):
        kept = self.vm.eval('up')
        for _ in range(3):
            self.assertEqual(self.vm.call('up'), 2)
            self.vm.rollback(self.one)
        with self.assertRaises(ValueError):
            kept()
        with self.assertRaises(thaw_vm.Ended):
            self.vm.eval('import { exit } from "thaw"; exit(0)', module=True)
        self.vm.rollback(self.one)
        self.assertEqual(self.vm.call('up'), 2)

    def test_what_was_asked_for_before_is_not_answered_after(self):
        async def slow():
            await asyncio.sleep(0)
            return 'old'

        with thaw_vm.VM(functions={'slow': slow}) as vm:
            empty = vm.snapshot()
            vm.eval('slow()', wait=False)
            vm.rollback(empty)
            vm.eval('let got; const again = new Promise(r => got = r); slow().then(got)', wait=False)
            self.assertEqual(vm.eval('again'), 'old')
            self.assertEqual(vm.tickets(), [])

    def test_the_transcript_of_two_contexts(self):
        with thaw_vm.VM() as vm:
            vm.eval('function run() { return 1 }')
            vm.context('second').eval('function run() { return 2 }')
            data = vm.snapshot().to_bytes()
        with thaw_vm.Snapshot.from_bytes(data).fork() as vm:
            self.assertEqual((vm.call('run'), vm.context('second').call('run')), (1, 2))

    def test_what_was_due_runs_while_it_is_opened(self):
        said = []

        def say(what, tell=None):
            said.append(what)
            if what == 'fails':
                raise ValueError(what)
            return [what]

        with thaw_vm.VM(functions={'say': say}, turn=0.2) as vm:
            with self.assertRaises(thaw_vm.TimeLimit):
                vm.eval('Promise.resolve().then(() => say("due")).then(v => globalThis.v = v).then(() => say("fails"))'
                        '.catch(e => globalThis.e = e.message); for (;;);')
            due = vm.snapshot()
        with due.fork() as fork:
            self.assertEqual(fork.eval('[v[0], e]'), ['due', 'ValueError: fails'])
        self.assertEqual(said, ['due', 'fails'])

    def test_snapshots_go_to_any_thread(self):
        got = []

        def work():
            with self.one.fork() as vm:
                got.append([vm.call('up') for _ in range(20)][-1])

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(got, [21] * 4)

    def test_nothing_stays_of_what_is_dropped(self):
        fork = self.one.fork()
        gone = weakref.ref(fork._core)
        fork.call('up')
        fork.eval('x => x')
        del fork
        gc.collect()
        self.assertIsNone(gone())


class Images(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix='thaw-test-python-')
        self.addCleanup(self.directory.cleanup)
        self.path = os.path.join(self.directory.name, 'a.thaw')

    def test_go_on(self):
        functions = {'add': lambda a, b: a + b}
        with thaw_vm.VM(self.path, functions=functions) as vm:
            vm.eval('let n = 1; const up = () => n = add(n, 1)')
            first = vm.checkpoint('first')
            vm.call('up')
            self.assertGreater(vm.checkpoint(), first)
            vm.call('up')
            with self.assertRaises(thaw_vm.Error):
                vm.rollback(vm.snapshot())
        with thaw_vm.VM(self.path, functions=functions) as vm:
            self.assertEqual(vm.call('up'), 3)
            with self.assertRaises(thaw_vm.Busy):
                thaw_vm.VM(self.path, functions=functions)
        with thaw_vm.VM(self.path, functions=functions, at=first) as vm:
            self.assertEqual((vm.call('up'), vm.generation), (2, first))
        with thaw_vm.VM(self.path, functions=functions, at='first') as vm:
            self.assertEqual(vm.call('up'), 2)
        with self.assertRaises(thaw_vm.Missing) as caught:
            thaw_vm.VM(self.path)
        self.assertEqual(caught.exception.names, ('add',))
        with thaw_vm.VM() as vm, self.assertRaises(thaw_vm.Error):
            vm.checkpoint()
        self.assertEqual([one.names for one in thaw_vm.generations(self.path) if one.number == first], [['first']])
        with open(self.path, 'wb') as file:
            file.write(b'no image' * 10000)
        with self.assertRaises(thaw_vm.Incompatible):
            thaw_vm.VM(self.path)

    def test_in_the_background(self):
        async def main():
            with thaw_vm.VM(self.path) as vm:
                vm.eval('var n = 1')
                made = asyncio.ensure_future(vm.checkpoint_async())
                await asyncio.sleep(0)
                vm.eval('n = 2')
                self.assertEqual(await made, vm.generation)

        asyncio.run(main())
        with thaw_vm.VM(self.path) as vm:
            self.assertEqual(vm.eval('n'), 1)

    def test_that_nobody_waits_for_is_followed_by_others(self):
        async def main():
            with thaw_vm.VM(self.path) as vm:
                vm.eval('var n = 1')
                made = asyncio.ensure_future(vm.checkpoint_async())
                await asyncio.sleep(0)
                made.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await made
                vm.eval('n = 2')
                end = time.monotonic() + 60
                while True:
                    try:
                        return vm.checkpoint('second')
                    except thaw_vm.Busy:
                        self.assertLess(time.monotonic(), end)
                        await asyncio.sleep(0.01)

        asyncio.run(main())
        with thaw_vm.VM(self.path, at='second') as vm:
            self.assertEqual(vm.eval('n'), 2)

    def test_of_a_snapshot(self):
        with thaw_vm.VM() as vm:
            vm.eval('var n = 5')
            one = vm.snapshot()
            vm.eval('n = 6')
            two = vm.snapshot()
        two.write(self.path)
        with thaw_vm.VM(self.path) as vm:
            self.assertEqual(vm.eval('n'), 6)
        self.assertGreater(one.diff(two).pages, 0)
        self.assertIn('n', str(one.diff(two).values))
        self.assertEqual(one.diff(one).bytes, 0)

    def test_promises_that_wait_in_them(self):
        async def never(*_):
            await asyncio.sleep(3600)

        functions = {'ask': never, 'twice': never}
        with thaw_vm.VM(self.path, functions=functions) as vm:
            vm.eval('const got = []; for (const what of ["a", "b", "c"]) ask(what, [1]).then(v => got.push(v), e => got.push(e.message));'
                    'twice(21).then(v => got.push(v)); 0')
            self.assertEqual(vm.tickets(), [])  # somebody works for them
            vm.checkpoint()
        functions['twice'] = twice
        with thaw_vm.VM(self.path, functions=functions) as vm:
            tickets = vm.tickets()
            self.assertEqual([(t.function, t.arguments) for t in tickets],
                             [('ask', ['a', [1]]), ('ask', ['b', [1]]), ('ask', ['c', [1]]), ('twice', [21])])
            vm.settle(tickets[0], {'x': 1})
            vm.reject(tickets[1], 'the process ended')
            vm.reject(tickets[2].number, KeyError('k'))
            vm.retry(tickets[3])
            vm.run()
            self.assertEqual(vm.eval('got'), [{'x': 1}, 'the process ended', "KeyError: 'k'", 42])
            with self.assertRaises(thaw_vm.Error):
                vm.settle(tickets[0], 1)
            self.assertEqual(vm.tickets(), [])


if __name__ == '__main__':
    unittest.main()
