"""A store in memory, in the hands of a program that is killed."""

import pytest

fsspec = pytest.importorskip("fsspec")
MemoryFileSystem = pytest.importorskip("fsspec.implementations.memory").MemoryFileSystem


class Killed(BaseException):
    """Stands for SIGKILL: what is in the store stays as it is, and nothing more is done."""


class Dying(MemoryFileSystem):
    """The store in memory, in the hands of a program that is killed before its n-th change."""

    protocol = "dying"
    cachable = False
    left = 0

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("dying://", "memory://"))

    def _change(self):
        Dying.left -= 1
        if Dying.left < 0:
            raise Killed

    def put_file(self, *args, **kwargs):
        self._change()
        return super().put_file(*args, **kwargs)

    def pipe_file(self, *args, **kwargs):
        self._change()
        return super().pipe_file(*args, **kwargs)

    def rm_file(self, *args, **kwargs):
        self._change()
        return super().rm_file(*args, **kwargs)

    def rm(self, *args, **kwargs):
        self._change()
        return super().rm(*args, **kwargs)

    def cat_file(self, *args, **kwargs):
        if Dying.left < 0:
            raise Killed
        return super().cat_file(*args, **kwargs)


fsspec.register_implementation("dying", Dying, clobber=True)


class Stopped(Dying):
    """The store in memory, in the hands of a program that stands still before its n-th request of some."""

    protocol = "stopped"
    left = 0
    meanwhile = staticmethod(lambda: None)  # what happens to the store before the program goes on

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("stopped://", "memory://"))

    def _change(self):
        pass

    def _stand_still(self):
        Stopped.left -= 1
        if Stopped.left == -1:
            Stopped.meanwhile()

    def cat_file(self, path, *args, **kwargs):
        if path.endswith("/lock"):
            self._stand_still()
        return MemoryFileSystem.cat_file(self, path, *args, **kwargs)

    def put_file(self, lpath, rpath, *args, **kwargs):
        if "/arrays/" in rpath:
            self._stand_still()
        return super().put_file(lpath, rpath, *args, **kwargs)


fsspec.register_implementation("stopped", Stopped, clobber=True)
