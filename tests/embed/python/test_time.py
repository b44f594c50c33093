# SPDX-License-Identifier: MIT
"""Promises, timers, and coroutines of host functions: with an event loop, and without."""
import asyncio
import threading
import unittest

import thaw_vm


async def twice(n):
    await asyncio.sleep(0.001)
    return 2 * n


async def fails(text):
    await asyncio.sleep(0)
    raise LookupError(text)


class Plain(unittest.TestCase):
    """Without a loop of the caller's."""

    def setUp(self):
        self.vm = thaw_vm.VM(functions={'twice': twice, 'fails': fails, 'later': lambda n: twice(n)})
        self.addCleanup(self.vm.close)

    def test_calls_wait_for_promises(self):
        vm = self.vm
        vm.eval('const sum = async (...all) => { let s = 0; for (const n of all) s += await twice(n); return s };'
                'const wait = ms => new Promise(r => setTimeout(r, ms, ms))')
        self.assertEqual(vm.call('sum', 1, 2, 3), 12)
        self.assertEqual(vm.eval('later(4)'), 8)
        self.assertEqual(vm.call('wait', 5), 5)
        self.assertEqual(vm.eval('Promise.all([wait(1), twice(2)])'), [1, 4])
        with self.assertRaises(thaw_vm.JavaScriptError) as caught:
            vm.eval('fails("gone")')
        self.assertIn('LookupError: gone', str(caught.exception))
        self.assertEqual(vm.eval('fails("x").catch(e => e.message)'), 'LookupError: x')
        self.assertIsNone(vm.eval('globalThis.kept = twice(5)', wait=False))
        self.assertEqual(vm.eval('kept'), 10)

    def test_what_nothing_can_settle_is_told(self):
        with self.assertRaises(thaw_vm.Pending):
            self.vm.eval('new Promise(() => 0)')
        with self.assertRaises(TimeoutError):
            self.vm.eval('new Promise(r => setTimeout(r, 1e6))', timeout=0.001)
        with self.assertRaises(thaw_vm.Timeout):
            self.vm.run(0.001)
        self.assertGreater(self.vm.next_due(), 900)

    def test_run_goes_on_until_nothing_is_due(self):
        self.vm.eval('const said = []; setTimeout(() => said.push("timer"), 3); twice(1).then(n => said.push(n)); 0')
        self.vm.run()
        self.assertEqual(sorted(map(str, self.vm.eval('said'))), ['2', 'timer'])
        self.assertIsNone(self.vm.next_due())
        self.assertEqual(self.vm.step(), 0)

    def test_a_function_cannot_wait(self):
        with thaw_vm.VM(functions={'wait': lambda: vm.eval('new Promise(r => setTimeout(r, 1, 1))')}) as vm:
            with self.assertRaisesRegex(thaw_vm.JavaScriptError, 'Busy'):
                vm.eval('wait()')

    def test_a_wait_can_be_interrupted(self):
        waiting = threading.Event()
        with thaw_vm.VM(functions={'waiting': waiting.set, 'never': lambda: asyncio.sleep(3600)}) as vm:
            for code in ('waiting(); new Promise(r => setTimeout(r, 1e7))', 'waiting(); never()', 'waiting(); for (;;);'):
                waiting.clear()
                thread = threading.Thread(target=lambda: waiting.wait() and vm.interrupt())
                thread.start()
                with self.assertRaises(thaw_vm.Interrupted):
                    vm.eval(code)
                thread.join()
            self.assertEqual(vm.eval('1 + 1'), 2)

    def test_results_that_javascript_lacks(self):
        async def strange():
            return object()

        with thaw_vm.VM(functions={'strange': strange}) as vm:
            self.assertIn('TypeError', vm.eval('strange().catch(e => `${e}`)'))

    def test_closing_ends_coroutines(self):
        ended = []

        async def long():
            try:
                await asyncio.sleep(3600)
            finally:
                ended.append(True)

        with thaw_vm.VM(functions={'long': long}) as vm:
            with self.assertRaises(thaw_vm.Timeout):
                vm.eval('long()', timeout=0.001)
        self.assertEqual(ended, [True])


class Loop(unittest.IsolatedAsyncioTestCase):
    """In asyncio."""

    async def test_others_go_on_meanwhile(self):
        with thaw_vm.VM(functions={'twice': twice, 'fails': fails}) as vm:
            vm.eval('const wait = (ms, v) => new Promise(r => setTimeout(r, ms, v)); async function both(n) '
                    '{ return await twice(n) + await wait(1, 1) }')
            self.assertEqual(await asyncio.gather(*(vm.call_async('both', n) for n in range(8))), [2 * n + 1 for n in range(8)])
            with self.assertRaises(thaw_vm.JavaScriptError):
                await vm.eval_async('fails("x")')
            self.assertIsNone(await vm.eval_async('globalThis.n = await twice(4)', module=True))
            self.assertEqual(vm.eval('n'), 8)

    async def test_one_task_delivers_what_another_waits_for(self):
        with thaw_vm.VM() as vm:
            vm.eval('let deliver; const mail = () => new Promise(r => deliver = r)')
            waits = asyncio.ensure_future(vm.call_async('mail'))
            await asyncio.sleep(0)
            vm.call('deliver', {'from': 'here'})
            self.assertEqual(await asyncio.wait_for(waits, 30), {'from': 'here'})

    async def test_waiting_can_be_given_up(self):
        with thaw_vm.VM(functions={'twice': twice}) as vm:
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(vm.eval_async('new Promise(() => 0)'), 0.001)
            self.assertEqual(await vm.eval_async('twice(1)'), 2)

    async def test_blocking_where_it_cannot_end_is_refused(self):
        with thaw_vm.VM(functions={'twice': twice}) as vm:
            with self.assertRaises(thaw_vm.Pending):
                vm.eval('globalThis.p = twice(3)')
            self.assertEqual(await vm.eval_async('p'), 6)

    async def test_run_goes_on_until_nothing_is_due(self):
        with thaw_vm.VM(functions={'twice': twice}) as vm:
            vm.eval('let n = 0, got; const t = setInterval(() => { if (++n == 3) clearInterval(t) }, 1); twice(1).then(v => got = v); 0')
            await vm.run_async()
            self.assertEqual(vm.eval('[n, got]'), [3, 2])

    async def test_in_a_thread_of_its_own(self):
        with thaw_vm.VM() as vm:
            counts = 0
            work = asyncio.ensure_future(asyncio.to_thread(vm.eval, 'let n = 0; const end = Date.now() + 50; while (Date.now() < end) n++; n'))
            while not work.done():
                await asyncio.sleep(0)
                counts += 1
            self.assertGreater(await work, 0)
            self.assertGreater(counts, 1)  # the GIL was free


if __name__ == '__main__':
    unittest.main()
