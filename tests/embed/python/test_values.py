# SPDX-License-Identifier: MIT
"""What goes into a VM and comes out of it, and what a call comes to."""
import array
import datetime
import math
import pickle
import sys
import unittest

import thaw_vm


class Values(unittest.TestCase):
    def setUp(self):
        self.vm = thaw_vm.VM(functions={'same': lambda *values: values[0] if len(values) == 1 else values})
        self.addCleanup(self.vm.close)
        self.vm.eval('const id = x => x, kind = x => Object.prototype.toString.call(x)')

    def test_come_back_as_they_were(self):
        day = datetime.datetime(2024, 2, 29, 12, 30, 1, 250000, datetime.timezone.utc)
        for value in (None, True, False, 0, 1, -2**31, 2**31, 2**53 - 1, 2**53 + 1, -2**80, 0.5, 1e300, math.inf, '', 'a\0é😀', b'',
                      b'\0\xff', [], [[1, [None]]], {}, {'a': {'é': [b'x', 2**70]}}, array.array('d', [1.5, -2]), array.array('h', [-3]), day,
                      *(array.array(code, b'\x91' * 16) for code in 'bhHiIqQfd')):
            with self.subTest(value=value):
                for back in (self.vm.call('id', value), self.vm.call('same', value)):
                    self.assertEqual(back, value)
                    self.assertIs(type(back), type(value))
        self.assertTrue(math.isnan(self.vm.call('id', math.nan)))

    def test_depth_has_a_limit(self):
        def nested(depth):
            value = None
            for _ in range(depth):
                value = [value]
            return value

        before = sys.getrecursionlimit()
        self.addCleanup(sys.setrecursionlimit, before)
        sys.setrecursionlimit(10000)
        for function in 'id', 'same':
            self.assertEqual(self.vm.call(function, nested(1000)), nested(1000))
            with self.assertRaises(thaw_vm.JavaScriptError):
                self.vm.call(function, nested(1001))

    def test_kinds_are_those_of_javascript(self):
        for value, kind in ((None, 'Null'), (1, 'Number'), (2**53 + 1, 'BigInt'), (bytearray(b'x'), 'Uint8Array'), ((1, 2), 'Array'),
                            (memoryview(b'ab'), 'Uint8Array'), (array.array('f', [1]), 'Float32Array'), ({1: 2}, 'Object'),
                            (datetime.datetime.now(), 'Date'), (KeyError('x'), 'Error'), ('x', 'String')):
            self.assertEqual(self.vm.call('kind', value), f'[object {kind}]')

    def test_kinds_are_those_of_python(self):
        for code, value in (('undefined', None), ('1.0', 1), ('2 ** 60', 2.0**60), ('10n', 10), ('new ArrayBuffer(2)', b'\0\0'),
                            ('[,1,undefined]', [None, 1, None]), ('({ a: 1, f() {} })', {'a': 1, 'f': None}),
                            ('new Float16Array([0.5])', array.array('f', [0.5]))):
            back = self.vm.eval(code)
            self.assertEqual((back, type(back)), (value, type(value)), code)
        error = self.vm.eval('Object.assign(new RangeError("far"), { code: 7 })')
        self.assertEqual((error.name, error.message, error.properties), ('RangeError', 'far', {'code': 7}))

    def test_what_neither_has_is_refused(self):
        circle = []
        circle.append(circle)
        for value, error in ((object(), TypeError), ({(1,): 2}, TypeError), (circle, ValueError), ([{1, 2}], TypeError)):
            with self.assertRaises(error):
                self.vm.call('id', value)
        for code in ('const circle = []; circle.push(circle); circle', '[new Map()]'):
            with self.assertRaises(thaw_vm.JavaScriptError):
                self.vm.eval(code)
        self.assertEqual(self.vm.call('id', 1), 1)

    def test_values_that_stay_in_the_vm(self):
        add = self.vm.eval('(a, b) => a + b')
        self.assertIsInstance(add, thaw_vm.Function)
        self.assertEqual(add(1, 2), 3)
        self.vm.eval('const apply = (f, ...rest) => f(...rest)')
        self.assertEqual(self.vm.call('apply', add, 'a', 'b'), 'ab')
        self.vm.set('table', self.vm.eval('new Map([[1, 2]])'))
        self.assertEqual(self.vm.eval('table.get(1)'), 2)
        self.assertEqual(self.vm.eval('same(table) === table && same(Symbol.iterator) === Symbol.iterator'), True)
        with thaw_vm.VM() as other, self.assertRaises(ValueError):
            other.set('add', add)

    def test_handles_are_given_back(self):
        self.vm.eval('const registry = []; const watch = () => { const o = () => 0; registry.push(new WeakRef(o)); return o }')
        for _ in range(300):
            self.vm.call('watch')
        before = len(self.vm._core.garbage)
        self.vm.eval('0')
        self.assertLessEqual(len(self.vm._core.garbage), min(before, 1))

    def test_names_find_functions(self):
        self.vm.eval('const tools = { base: 10, add(n) { return this.base + n } }; class C { static make() { return "made" } }')
        self.assertEqual(self.vm.call('tools.add', 5), 15)
        self.assertEqual(self.vm.call('C.make'), 'made')
        with self.assertRaisesRegex(thaw_vm.JavaScriptError, 'none is not a function'):
            self.vm.call('none')


class Errors(unittest.TestCase):
    def test_tell_where_they_come_from(self):
        with thaw_vm.VM() as vm:
            with self.assertRaises(thaw_vm.JavaScriptError) as caught:
                vm.eval('function deep() {\n\tnull.x\n}\ndeep()', 'deep.js')
            error = caught.exception
            self.assertEqual(error.name, 'TypeError')
            self.assertIn('deep.js:2', error.stack)
            again = pickle.loads(pickle.dumps(error))
            self.assertEqual((again.name, again.message, again.stack, str(again)), (error.name, error.message, error.stack, str(error)))
            with self.assertRaises(thaw_vm.JavaScriptError) as caught:
                vm.eval('throw { code: 3 }')
            self.assertEqual(caught.exception.value, {'code': 3})
            with self.assertRaises(thaw_vm.JavaScriptError) as caught:
                vm.eval('throw { get x() { throw 1 } }')
            with self.assertRaises(thaw_vm.JavaScriptError) as caught:
                vm.eval('((')
            self.assertEqual(caught.exception.name, 'SyntaxError')

    def test_of_functions_go_through_the_program(self):
        def fails(kind):
            raise {'key': KeyError('k'), 'type': TypeError('t'), 'index': IndexError('far')}[kind]

        with thaw_vm.VM(functions={'fails': fails, 'takes': lambda a: a}) as vm:
            names = vm.eval('["key", "type", "index"].map(kind => { try { fails(kind) } catch (e) { return `${e}` } })')
            self.assertEqual(names, ["Error: KeyError: 'k'", 'TypeError: t', 'RangeError: IndexError: far'])
            with self.assertRaises(thaw_vm.JavaScriptError) as caught:
                vm.eval('try { fails("key") } finally { 1 }')
            self.assertIsInstance(caught.exception.__cause__, KeyError)
            self.assertRegex(vm.eval('try { takes() } catch (e) { `${e}` }'), 'TypeError: .*missing 1 required')

    def test_calls_within_calls(self):
        def back(depth):
            if depth == 0:
                raise ValueError('the end')
            return vm.call('down', depth - 1)

        with thaw_vm.VM(functions={'back': back}) as vm:
            vm.eval('const down = depth => back(depth)')
            with self.assertRaises(thaw_vm.JavaScriptError) as caught:
                vm.call('down', 5)
            self.assertIn('the end', str(caught.exception))
            self.assertIsInstance(caught.exception.__cause__, thaw_vm.JavaScriptError)
            with self.assertRaises(thaw_vm.JavaScriptError):
                vm.call('down', 10000)  # deeper than either allows
            self.assertEqual(vm.eval('1'), 1)


class Limits(unittest.TestCase):
    def test_hold(self):
        with thaw_vm.VM(turn=0.25, max_bytes=32 << 20) as vm:
            with self.assertRaises(thaw_vm.TimeLimit):
                vm.eval('for (;;) try { for (;;); } catch {}')
            with self.assertRaisesRegex(thaw_vm.JavaScriptError, 'out of memory'):
                vm.eval('const all = []; for (;;) all.push(new Uint8Array(1e6).fill(1))')
            self.assertEqual(vm.eval('1 + 1'), 2)
        with self.assertRaisesRegex(thaw_vm.Error, 'max_bytes'):
            thaw_vm.VM(max_bytes=1)
        for turn in -1, 0, float('nan'), float('inf'):
            with self.assertRaisesRegex(ValueError, 'turn'):
                thaw_vm.VM(turn=turn)

    def test_what_would_name_another_thing_is_refused(self):
        with thaw_vm.VM() as vm:
            vm.eval('function id(x) { return x }')
            for wrong in (lambda: vm.call('id\0entity', 1), lambda: vm.context('a\0b'), lambda: vm.set('a\0b', 1),
                          lambda: thaw_vm.VM('/nowhere/a\0b'), lambda: thaw_vm.VM(functions={'a\0b': print}),
                          lambda: thaw_vm.generations('/nowhere/a\0b'), lambda: vm.snapshot().write('/nowhere/a\0b')):
                self.assertRaisesRegex(ValueError, 'null character', wrong)
            self.assertEqual(vm.eval('"a\0b"'), 'a\0b')
            self.assertRaises(TypeError, vm.call, 5)
        for options in {'log': 5}, {'load_module': 5}, {'resolve_module': 5}, {'snapshot': 5}, {'functions': {5: print}}:
            self.assertRaises(TypeError, lambda: thaw_vm.VM(**options))

    def test_the_end_is_told(self):
        with thaw_vm.VM() as vm:
            with self.assertRaises(thaw_vm.Ended) as caught:
                vm.eval('import { exit } from "thaw"; exit(3)', module=True)
            self.assertEqual(caught.exception.exit_code, 3)
            with self.assertRaises(thaw_vm.Ended):
                vm.eval('1')

    def test_a_closed_one_says_so(self):
        vm = thaw_vm.VM()
        add = vm.eval('() => 1')
        vm.close()
        vm.close()
        self.assertTrue(vm.closed)
        for use in (lambda: vm.eval('1'), lambda: add(), vm.snapshot, vm.step, vm.interrupt):
            if use == vm.interrupt:
                use()
            else:
                self.assertRaises(thaw_vm.Error, use)
        with thaw_vm.VM(functions={'close': lambda: inner.close()}) as inner:
            with self.assertRaisesRegex(thaw_vm.JavaScriptError, 'Busy'):
                inner.eval('close()')


class Programs(unittest.TestCase):
    def test_log_and_modules(self):
        said = []
        sources = {'a': 'export { two as default } from "b"', 'b': b'export const two = 2'}
        with thaw_vm.VM(log=lambda fd, text: said.append((fd, text)), load_module=sources.get) as vm:
            vm.eval('import two from "a"; globalThis.got = two; console.log("two is", two); console.error("é")', 'main.js', module=True)
            self.assertEqual(vm.eval('got'), 2)
            self.assertEqual(said, [(1, 'two is 2\n'), (2, 'é\n')])
            self.assertIsNone(vm.eval('await new Promise(r => setTimeout(r, 1))', module=True))
            with self.assertRaisesRegex(thaw_vm.JavaScriptError, 'none'):
                vm.eval('import "none"', module=True)

    def test_what_their_callbacks_raise_comes_out(self):
        def fails(*_):
            raise OSError('disk')

        with thaw_vm.VM(log=fails, load_module=fails) as vm:
            for code in ('console.log(1)', 'for (;;) try { console.log(1) } catch {}', 'import("x").catch(() => 1)'):
                with self.assertRaisesRegex(OSError, 'disk'):
                    vm.eval(code)
            self.assertEqual(vm.eval('1'), 1)

    def test_modules_are_found_where_the_host_says(self):
        asked = []

        def resolve(importer, name):
            asked.append((importer, name))
            return None if name == 'none' else 'lib:' + name

        with thaw_vm.VM(resolve_module=resolve, load_module={'lib:x': 'export default 3'}.get) as vm:
            vm.eval('import x from "x"; globalThis.x = x', 'main.js', module=True)
            self.assertEqual((vm.eval('x'), asked), (3, [('main.js', 'x')]))
            with self.assertRaises(thaw_vm.JavaScriptError):
                vm.eval('import "none"', 'main.js', module=True)

    def test_what_is_printed_has_a_limit(self):
        said = []
        with thaw_vm.VM(log=lambda fd, text: said.append(text), max_log_bytes=1000) as vm:
            with self.assertRaises(thaw_vm.Interrupted):
                vm.eval('for (;;) console.log("x".repeat(99))')
            self.assertLessEqual(len(''.join(said)), 1000)

    def test_memory_is_told(self):
        with thaw_vm.VM() as vm:
            vm.eval('let all = new Uint8Array(1e7)')
            before = vm.usage()
            vm.eval('all = null')
            vm.collect()
            self.assertLess(vm.usage().live_bytes, before.live_bytes - 9e6)

    def test_contexts_have_their_own_globals(self):
        with thaw_vm.VM(functions={'twice': lambda n: 2 * n, 'inside': lambda: vm.context('b').eval('n')}) as vm:
            vm.eval('var n = 1')
            b = vm.context('b')
            b.eval('var n = 2; function get() { return twice(n) }')
            self.assertEqual((vm.eval('n'), b.call('get'), vm.context('b').eval('n'), b.name), (1, 4, 2, 'b'))
            self.assertEqual(vm.eval('inside() + n'), 3)
            self.assertEqual(vm.contexts, ['', 'b'])


if __name__ == '__main__':
    unittest.main()
