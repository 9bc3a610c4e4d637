"""The objects below an address."""

import importlib.util

import pytest

from fourbeat.stores.store import Store
from tests.stores.dying import MemoryFileSystem, fsspec


class Refusing(MemoryFileSystem):
    """A store in memory that knows no conditional writes."""

    protocol = "refusing"
    cachable = False

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("refusing://", "memory://"))

    def pipe_file(self, path, value, mode="overwrite", **options):
        if mode == "create":
            raise NotImplementedError("A header you provided implies functionality that is not implemented")
        return super().pipe_file(path, value, mode, **options)


fsspec.register_implementation("refusing", Refusing, clobber=True)


@pytest.mark.parametrize("kind", ["memory", "refusing"])
def test_an_object_is_created_once(kind):
    MemoryFileSystem.store.clear()
    store = Store(f"{kind}://created/run")
    assert store.create("lock", b"first") and not store.create("lock", b"second")
    assert store.read("lock") == b"first"
    MemoryFileSystem.store.clear()


@pytest.mark.skipif(importlib.util.find_spec("adlfs") is not None, reason="adlfs is installed")
def test_a_store_whose_package_is_missing_names_it():
    with pytest.raises(ImportError) as caught:
        Store("az://container/run")
    assert str(caught.value).startswith("az://container/run needs a package that is not installed: ")
    assert "adlfs" in str(caught.value) and "fourbeat[storage]" not in str(caught.value)
