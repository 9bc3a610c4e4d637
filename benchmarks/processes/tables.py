"""The tables of docs/processes.md, each between its two comments."""

import re
from collections.abc import Iterable, Sequence

from benchmarks.page import DOCS

PAGE = DOCS / "processes.md"


def write(name: str, table: str) -> None:
    """Puts a table into the page."""
    between = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    text, found = between.subn(lambda match: f"{match[1]}\n{table}\n\n{match[2]}", PAGE.read_text())
    assert found == 1, name
    PAGE.write_text(text)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
