# SPDX-License-Identifier: MIT
"""A wheel has libthawvm in it, with all that it needs but libc: `pip install` is all that its user does. So it is of one platform, but
of no version of Python. The library is built by `make build/standalone/libthawvm.so`, or is the one that THAW_VM_LIBRARY names; it
lies in thaw_vm/ already where this is an sdist.
"""
import os
import shutil
import sysconfig

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist
from setuptools.dist import Distribution

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:
    from wheel.bdist_wheel import bdist_wheel

HERE = os.path.dirname(os.path.abspath(__file__))


def library():
    """The paths of libthawvm, and of libuv beside it where it is not inside."""
    inside = os.path.join(HERE, 'thaw_vm', 'libthawvm.so')
    built = os.path.join(HERE, '..', '..', '..', 'build', 'standalone', 'libthawvm.so')
    for path in (os.environ.get('THAW_VM_LIBRARY'), inside, built):
        if path and os.path.exists(path):
            break
    else:
        raise SystemExit('thaw_vm: there is no libthawvm.so: run `make build/standalone/libthawvm.so`, or name it by THAW_VM_LIBRARY')
    yield path, 'libthawvm.so'
    with open(path, 'rb') as file:
        needs_uv = b'libuv.so.1\0' in file.read()
    places = (os.path.dirname(path), sysconfig.get_config_var('LIBDIR') or '', f'/usr/lib/{os.uname().machine}-linux-gnu', '/usr/lib64',
              '/usr/lib')
    for uv in (os.path.join(place, 'libuv.so.1') for place in places if needs_uv):
        if os.path.exists(uv):
            yield uv, 'libuv.so.1'
            break


def copy(directory):
    os.makedirs(directory, exist_ok=True)
    for path, name in library():
        to = os.path.join(directory, name)
        if os.path.realpath(path) != os.path.realpath(to):
            shutil.copyfile(path, to)
            os.chmod(to, 0o755)


class BuildPy(build_py):
    def run(self):
        super().run()
        copy(os.path.join(self.build_lib, 'thaw_vm'))


class Sdist(sdist):
    def make_release_tree(self, base, files):
        super().make_release_tree(base, files)
        copy(os.path.join(base, 'thaw_vm'))


class Wheel(bdist_wheel):
    def finalize_options(self):
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self):
        return 'py3', 'none', super().get_tag()[2]


class Binary(Distribution):
    def has_ext_modules(self):
        return True


setup(distclass=Binary, cmdclass={'build_py': BuildPy, 'sdist': Sdist, 'bdist_wheel': Wheel})
