"""Lines and tables on a narrow terminal: they break at words, and nothing of them is lost."""

import re
import sys

import pytest
from rich.table import Table

from fourbeat.runs.printing import say, show_table

PARTS = (
    "900 pictures of 10 classes: 720 to train on, 180 to evaluate",
    "step    12",
    "written to /a/" + "b" * 70,
)


@pytest.mark.parametrize("width", [30, 60, 400])
def test_a_line_breaks_at_words_where_a_terminal_is_too_narrow(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    whole = "   ".join(PARTS)
    say(*PARTS)
    assert capsys.readouterr().out == f"{whole}\n"  # in a pipe a line is a line
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    say(*PARTS)
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(" ".join(lines).split()) == " ".join(whole.split())
    if width == 400:
        assert lines == [whole]
    else:  # a word alone may be wider than the terminal
        assert all(len(line) <= width or len(line.split()) == 1 for line in lines)
        assert "    step    12" in lines and [line for line in lines if not line.startswith(" ")] == lines[:1]


def test_a_table_breaks_in_its_cells_where_a_terminal_is_too_narrow(capsys, monkeypatch):
    rows = [("--classes", str(list("0123456789")), "-"), ("--file", "-", "/" + "c" * 70)]

    def drawn():
        table = Table("flag", "A", "B", box=None, pad_edge=False)
        for row in rows:
            table.add_row(*(cell.replace("[", r"\[") for cell in row))
        show_table(table)
        return re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)

    monkeypatch.setenv("COLUMNS", "60")
    lines = drawn().splitlines()
    assert len(lines) == 3 and lines == [line.rstrip() for line in lines]
    assert "".join(lines[2].split()) == "".join(rows[1])
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    narrow = drawn()
    assert max(map(len, narrow.splitlines())) <= 60
    assert narrow.count("c") == 70 + 1  # and that of --classes
    assert all(f"'{digit}'" in narrow for digit in range(10))
