"""The page on functionalize runs as it is printed."""

import doctest
import pathlib

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "functionalize.md"


def test_every_example_of_the_page():
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert tried > 30
    assert failed == 0
