"""The table of metrics on the page of scores has a line for each, as the command writes it."""

import re

from tests.docs.blocks import ROOT
from tests.oracles.metrics_by_others import ROWS


def test_the_table_has_every_metric_and_no_difference_above_what_the_law_allows():
    page = (ROOT / "docs" / "scores.md").read_text()
    lines = re.findall(r"^\| `(.+)` \| (.+) \| (\S+) \|$", page, re.MULTILINE)
    assert [(metric, source) for metric, source, _ in lines] == [
        (repr(row.metric), row.source) for row in ROWS.values()
    ]
    assert all(float(each) <= row.rtol for (*_, each), row in zip(lines, ROWS.values(), strict=True))
