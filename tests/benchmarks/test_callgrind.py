import pytest

from benchmarks import callgrind
from tests.benchmarks import toy_counted

TOY = "tests.benchmarks.toy_counted"
pytestmark = pytest.mark.skipif(not callgrind.installed(), reason="valgrind is not installed")


@pytest.mark.parametrize(("all_threads", "later"), [(True, True), (False, False)])
def test_windows_count_the_threads_that_are_asked_for(all_threads, later):
    arguments = ["later"] * later
    _, short, long, copy = callgrind.totals(
        TOY, *arguments, num_windows=4, all_threads=all_threads, later=later
    )
    a_round = (long - short) / (toy_counted.ROUNDS[2] - toy_counted.ROUNDS[1])
    if all_threads:
        assert 5 < a_round < 1_000  # a turn of an empty loop: 194 in one build of CPython 3.11, 255 in 3.13
    else:
        assert abs(a_round) < 2
    assert copy < 2**20 / 4  # with vectors, not byte by byte


def test_a_failure_tells_valgrinds_last_lines():
    with pytest.raises(RuntimeError, match=r"(?s)^valgrind ended with 1: .*No module named no_such_module\n"):
        callgrind.totals("no_such_module", num_windows=1, all_threads=True, later=True)
