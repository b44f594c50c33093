# SPDX-License-Identifier: MIT
"""A VM in a process: signals, threads, children, other handlers of faults, and the end."""
import asyncio
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import unittest

import thaw_vm


def python(code, *options):
    return subprocess.run([sys.executable, *options, '-c', 'import thaw_vm, sys, os, threading, signal, time\n' + code],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=100)


class Signals(unittest.TestCase):
    """Each is sent once the program runs, by another thread, and the main one finds it."""

    def setUp(self):
        self.runs = threading.Event()

    def interrupted(self, code, number=signal.SIGINT, **options):
        runs = self.runs
        runs.clear()
        options['functions'] = {'runs': runs.set, 'f': lambda *_: 1, **options.get('functions', {})}
        with thaw_vm.VM(**options) as vm:
            thread = threading.Thread(target=lambda: runs.wait() and os.kill(os.getpid(), number))
            thread.start()
            try:
                vm.eval(code)
            finally:
                thread.join()
                self.assertEqual(vm.eval('1 + 1'), 2)

    def test_ctrl_c_ends_what_runs(self):
        async def never():
            self.runs.set()
            await asyncio.sleep(3600)

        for code in ('runs(); for (;;);', 'runs(); for (;;) try { f(1) } catch {}', 'runs(); for (;;) console.log(1)',
                     'runs(); new Promise(r => setTimeout(r, 1e7))', 'never()', 'runs(); inner()'):
            with self.subTest(code=code), self.assertRaises(KeyboardInterrupt):
                with thaw_vm.VM() as other:
                    self.interrupted(code, log=lambda fd, text: None,
                                     functions={'never': never, 'inner': lambda: other.eval('for (;;);')})

    def test_other_handlers_run_meanwhile(self):
        heard = threading.Event()
        before = signal.signal(signal.SIGUSR1, lambda *_: heard.set())
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        self.interrupted('runs(); while (!heard());', signal.SIGUSR1, functions={'heard': heard.is_set})
        self.assertTrue(heard.is_set())

    def test_what_a_handler_raises_comes_out(self):
        def handler(*_):
            raise TimeoutError('alarm')

        before = signal.signal(signal.SIGALRM, handler)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        with self.assertRaisesRegex(TimeoutError, 'alarm'):
            self.interrupted('runs(); for (;;) try { for (;;); } finally { continue }', signal.SIGALRM)

    def test_the_end_of_the_program_is_no_exception_of_javascript(self):
        with thaw_vm.VM(functions={'leave': lambda: sys.exit(7)}) as vm:
            with self.assertRaises(SystemExit):
                vm.eval('for (;;) try { leave() } catch {}')
            with self.assertRaises(SystemExit):
                vm.eval('leave(); globalThis.reached = true')
            self.assertIsNone(vm.eval('globalThis.reached'))

    def test_ctrl_c_in_a_finalizer(self):
        class Held:
            def __del__(self):
                signal.raise_signal(signal.SIGINT)
                self.used = True

        def f():
            Held()

        with thaw_vm.VM(functions={'f': f}) as vm:
            with self.assertRaises(KeyboardInterrupt):
                vm.eval('f(); for (;;);')

    def test_the_hook_for_other_exceptions_stays(self):
        before = sys.unraisablehook
        said = []
        sys.unraisablehook = said.append
        try:
            class Bad:
                def __del__(self):
                    raise ValueError('in a finalizer')

            def f():
                Bad()

            with thaw_vm.VM(functions={'f': f}) as vm:
                vm.eval('f()')
            self.assertEqual([str(one.exc_value) for one in said], ['in a finalizer'])
            self.assertEqual(sys.unraisablehook, said.append)
        finally:
            sys.unraisablehook = before


class Threads(unittest.TestCase):
    def test_one_at_a_time(self):
        busy, done = threading.Event(), threading.Event()
        with thaw_vm.VM(functions={'wait': lambda: (busy.set(), done.wait())[0]}) as vm:
            thread = threading.Thread(target=vm.eval, args=('var x = 1; wait()',))
            thread.start()
            busy.wait()
            for use in (lambda: vm.eval('1'), vm.close, vm.snapshot, vm.step):
                self.assertRaises(thaw_vm.Busy, use)
            done.set()
            thread.join()
            self.assertEqual(vm.eval('x'), 1)

    def test_any_of_them_ends_a_vm(self):
        vms = []

        def work():
            vm = thaw_vm.VM()
            vms.append(vm)
            vm.eval('var n = 5')

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        vm = vms.pop()
        self.assertEqual(vm.eval('n'), 5)
        core = vm._core
        del vm
        gc.collect()
        self.assertEqual(core.pointer, 0)

    def test_the_gil_is_free(self):
        with thaw_vm.VM() as vm:
            threading.Timer(0.01, vm.interrupt).start()
            with self.assertRaises(thaw_vm.Interrupted):
                vm.eval('for (;;);')

    def test_many_in_many(self):
        def work():
            try:
                with thaw_vm.VM(functions={'twice': lambda n: 2 * n}) as vm:
                    for n in range(200):
                        assert vm.eval(f'twice({n})') == 2 * n
                good.append(True)
            except BaseException as error:
                good.append(error)

        good = []
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(good, [True] * 4)


def in_a_child(pipe, vm, snapshot):
    try:
        try:
            vm.eval('1')
            pipe.send('the parent\'s VM ran')
        except thaw_vm.Error:
            with thaw_vm.VM() as own, snapshot.fork() as fork:
                pipe.send([own.eval('1 + 1'), fork.eval('n'), len(snapshot.to_bytes()) > 0])
    finally:
        pipe.close()


class Children(unittest.TestCase):
    def test_have_vms_of_their_own(self):
        with thaw_vm.VM() as vm:
            vm.eval('var n = 42')
            snapshot = vm.snapshot()
            context = multiprocessing.get_context('fork')
            mine, others = context.Pipe()
            child = context.Process(target=in_a_child, args=(others, vm, snapshot))
            child.start()
            others.close()
            self.assertEqual(mine.recv(), [2, 42, True])
            child.join()
            self.assertEqual(child.exitcode, 0)
            self.assertEqual(vm.eval('++n'), 43)

    def test_of_a_call(self):
        pids = []

        def fork():
            pid = os.fork()
            if not pid:
                try:
                    vm.eval('1')
                except thaw_vm.Error:
                    os._exit(3)
                os._exit(4)
            pids.append(pid)

        with thaw_vm.VM(functions={'fork': fork}) as vm:
            vm.eval('fork()')
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]), 3)
            self.assertEqual(vm.eval('2'), 2)


class Faults(unittest.TestCase):
    """Python's faulthandler, which catches SIGSEGV, too."""
    code = '''
def use(vm):
    vm.eval('var a = []; for (let i = 0; i < 1e5; i++) a.push({ i })')
    vm.eval('for (const t = Date.now(); Date.now() - t < 120;);')  # longer than from one look at signals to the next
    snapshot = vm.snapshot()
    vm.eval('a.length = 10; a.fill(1)')
    vm.rollback(snapshot)
    assert vm.eval('a.length') == 100000
'''

    def dies_with_a_traceback(self, ended):
        self.assertEqual(ended.returncode, -signal.SIGSEGV, ended.stderr)
        self.assertEqual(ended.stdout, 'used\n')
        self.assertEqual(ended.stderr.count('Fatal Python error: Segmentation fault'), 1)
        self.assertIn('in string_at', ended.stderr)

    def test_before(self):
        self.dies_with_a_traceback(python(self.code + '''
vm = thaw_vm.VM(); use(vm); print('used', flush=True)
import ctypes; ctypes.string_at(8)''', '-X', 'faulthandler'))

    def test_after(self):
        self.dies_with_a_traceback(python(self.code + '''
vm = thaw_vm.VM(); vm.eval('1')
import faulthandler, ctypes; faulthandler.enable()
use(vm); use(thaw_vm.VM()); print('used', flush=True)
ctypes.string_at(8)'''))


class Ends(unittest.TestCase):
    def test_with_vms_that_are_open(self):
        ended = python('''
import asyncio
async def later(): await asyncio.sleep(1000)
vm = thaw_vm.VM(functions={'later': later})
vm.eval('later()', wait=False)
kept = [vm.eval('x => x'), vm.snapshot(), vm.snapshot().fork()]
def work():
    own = thaw_vm.VM(functions={'begun': begun.set}); own.eval('begun(); for (;;);')
begun = threading.Event()
threading.Thread(target=work, daemon=True).start()
begun.wait()
print('end')''')
        self.assertEqual((ended.returncode, ended.stdout, ended.stderr), (0, 'end\n', ''))

    def test_by_ctrl_c(self):
        ended = python('''
vm = thaw_vm.VM(functions={'begun': lambda: threading.Thread(target=lambda: os.kill(os.getpid(), signal.SIGINT)).start()})
vm.eval('begun(); for (;;);')''')
        self.assertEqual(ended.returncode, -signal.SIGINT)
        self.assertEqual(ended.stderr.strip().splitlines()[-1], 'KeyboardInterrupt')


if __name__ == '__main__':
    unittest.main()
