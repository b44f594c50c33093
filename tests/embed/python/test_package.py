# SPDX-License-Identifier: MIT
"""What pip makes of the sources, with nothing of the network: a wheel with the library in it, which needs nothing else."""
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

here = os.path.dirname(os.path.abspath(__file__))
source = os.path.join(here, '..', '..', '..', 'vm', 'embed', 'python')
library = os.environ.get('THAW_VM_STANDALONE', '')


@unittest.skipUnless(os.path.exists(library), 'THAW_VM_STANDALONE names no library')
@unittest.skipUnless(all(map(importlib.util.find_spec, ('pip', 'setuptools', 'wheel'))), 'this Python has no pip, setuptools and wheel')
class Package(unittest.TestCase):
    def test_is_a_wheel_that_needs_nothing_else(self):
        with tempfile.TemporaryDirectory(prefix='thaw-test-python-') as directory:
            shutil.copytree(source, f'{directory}/source', ignore=shutil.ignore_patterns('__pycache__', 'build', '*.egg-info'))
            environment = {**os.environ, 'THAW_VM_LIBRARY': library, 'HOME': directory, 'PIP_DISABLE_PIP_VERSION_CHECK': '1',
                           'PIP_ROOT_USER_ACTION': 'ignore'}
            environment.pop('PYTHONPATH')
            subprocess.run([sys.executable, '-m', 'pip', 'wheel', '-q', '--no-index', '--no-build-isolation', '--no-deps', '-w', directory,
                            f'{directory}/source'], env=environment, check=True, timeout=200, stdout=2)
            wheel, = (name for name in os.listdir(directory) if name.endswith('.whl'))
            self.assertRegex(wheel, r'^thaw_vm-[0-9.]+-py3-none-linux_\w+\.whl$')
            with zipfile.ZipFile(f'{directory}/{wheel}') as file:
                names = file.namelist()
                file.extractall(f'{directory}/installed')  # all that an installer does with it
            self.assertIn('thaw_vm/py.typed', names)
            os.chmod(f'{directory}/installed/thaw_vm/libthawvm.so', 0o644)
            code = 'import thaw_vm, sys; vm = thaw_vm.VM(); print(vm.eval("6 * 7"), thaw_vm.__file__, open("/proc/self/maps").read())'
            environment.pop('THAW_VM_LIBRARY')
            said = subprocess.run([sys.executable, '-c', code], env={**environment, 'PYTHONPATH': f'{directory}/installed'}, check=True,
                                  timeout=100, stdout=subprocess.PIPE, text=True).stdout
            self.assertRegex(said, f'^42 {directory}/installed/thaw_vm/')
            self.assertNotIn('libthaw.so', said)
            self.assertIn(f'{directory}/installed/thaw_vm/libthawvm.so', said)
