"""The page of the laws names tests that exist and that pytest collects."""

import ast
import re

from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs" / "laws.md").read_text()
NAMED = re.findall(r"^- \[`([^`]+)::([^`]+)`\]\(\.\./([^)]+)\)$", PAGE, re.MULTILINE)


def test_each_of_the_eleven_laws_names_a_test():
    laws = re.split(r"^## (?=\d)", PAGE, flags=re.MULTILINE)[1:]
    assert [int(law.partition(".")[0]) for law in laws] == list(range(1, 12))
    assert all("::test_" in law for law in laws)
    assert len(NAMED) == PAGE.count("::")


def test_the_tests_that_hold_the_laws_are_collected():
    for file, function, link in NAMED:
        assert file == link
        assert re.fullmatch(r"tests/(?:\w+/)*test_\w+\.py", file)
        functions = {node.name: node for node in ast.parse((ROOT / file).read_text()).body if _is_test(node)}
        assert function in functions, f"{file}::{function}"
        marks = [ast.unparse(mark) for mark in functions[function].decorator_list]
        assert not any("skip" in mark or "xfail" in mark for mark in marks), f"{file}::{function}"


def _is_test(node):
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
