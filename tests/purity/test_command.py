"""`fourbeat check package.module:function`: the table, the exit status, and its errors."""

import pytest

from fourbeat.purity.command import check

SOURCE = """\
import jax.numpy as jnp


class Counter:
    def __init__(self):
        self.n = 0

    def count(self):
        self.n += 1
        return self.n


counter = Counter()
shape = (3,)


def double(x, y=1.0):
    return 2 * x * y


def logged(x):
    print("traced")
    return x
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "checked_app.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")


def test_pure(capsys):
    assert check("checked_app:double", "jnp.ones(shape)") == 0
    assert check("checked_app:double", "(jnp.ones(shape), 2.0)") == 0
    assert capsys.readouterr().out == "double is pure: no findings\n" * 2


def test_impure(capsys):
    assert check("checked_app:counter.count") == 1
    out = capsys.readouterr().out
    assert out.startswith("Counter.count is impure")
    for cell in ("error", "WRITE", "self.n", "0 -> 1", "checked_app.py:9", "fb.functionalize(counter)"):
        assert cell in out


def test_repairs_stand_below_a_narrow_table(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert check("checked_app:counter.count") == 1
    *table, repair = capsys.readouterr().out.splitlines()
    assert repair == "self.n: F = fb.functionalize(counter); value, state = F.count(state)"
    assert max(map(len, table)) <= 60 and "repair" not in "".join(table)


def test_information_is_no_error(capsys):
    assert check("checked_app:logged", "1.0") == 0
    assert "logged is pure" in (out := capsys.readouterr().out) and "PRINT" in out


@pytest.mark.parametrize(
    ("target", "args", "text"),
    [
        ("checked_app", None, "cannot check 'checked_app': write it as package.module:function."),
        (
            "no_such_app:f",
            None,
            "cannot check 'no_such_app:f': importing no_such_app failed with No module named 'no_such_app'. "
            "Run the command from the folder that holds it, or install it.",
        ),
        ("checked_app:triple", None, "cannot check 'checked_app:triple': checked_app has no triple."),
        (
            "checked_app:double",
            "ones(3)",
            "cannot evaluate --args 'ones(3)' in checked_app: NameError: name 'ones' is not defined. Names "
            "are looked up in that module; write a tuple for several arguments.",
        ),
    ],
)
def test_errors(target, args, text):
    with pytest.raises(ValueError) as caught:
        check(target, args)
    assert str(caught.value) == text
