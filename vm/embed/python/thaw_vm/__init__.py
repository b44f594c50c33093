# SPDX-License-Identifier: MIT
"""JavaScript inside of a Python program, in VMs that can be kept, copied and taken back.

    import thaw_vm

    with thaw_vm.VM(functions={'log': print}, max_bytes=64 << 20, turn=0.1) as vm:
        vm.eval('function add(a, b) { log("adding"); return a + b }')
        vm.call('add', 1, 2)            # 3
        before = vm.snapshot()
        vm.eval('add = null')
        vm.rollback(before)             # add() is there again
        fork = before.fork()            # another VM, which shares the memory that neither writes

Values: see thaw_vm.VM.call and the table in the README. Everything is documented at VM, Context and Snapshot; exceptions are
subclasses of Error.
"""
from ._core import Function, Value
from ._errors import (Busy, Damaged, Ended, Error, Incompatible, Interrupted, JavaScriptError, Missing, OutOfMemory, Pending, TimeLimit,
                      Timeout, Trapped)
from ._snapshot import Difference, Snapshot
from ._vm import VM, Context, Generation, Ticket, Usage, generations

__all__ = ['VM', 'Busy', 'Context', 'Damaged', 'Difference', 'Ended', 'Error', 'Function', 'Generation', 'Incompatible', 'Interrupted',
           'JavaScriptError', 'Missing', 'OutOfMemory', 'Pending', 'Snapshot', 'Ticket', 'TimeLimit', 'Timeout', 'Trapped', 'Usage',
           'Value', 'generations']
__version__ = '0.1.0'
