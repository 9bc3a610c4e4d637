"""Every code block of the pages runs, in order, and prints what the page shows after it."""

import re

import pytest

from tests.docs import blocks
from tests.docs.blocks import ROOT, blocks_of

# Directives, and parts of files that have their own tests.
GENERATED = {"reference", "index.md", "changelog.md"}
ON_EIGHT_DEVICES = "docs/devices.md"  # tests/shard runs it
PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in (ROOT / "docs").rglob("*.md")
    if page.relative_to(ROOT / "docs").parts[0] not in GENERATED
)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata 0.11 on torch 2.13
@pytest.mark.parametrize("name", [name for name in PAGES if name != ON_EIGHT_DEVICES])
def test_the_code_of_a_page_runs_and_prints_what_it_shows(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks.run_page(ROOT / name)


@pytest.mark.parametrize("name", ["README.md", *PAGES])
def test_the_commands_of_a_page_are_commands(name):
    for block in blocks_of((ROOT / name).read_text()):
        if block.language in ("bash", "console") and block.is_run:
            blocks.check_commands(block.code)


@pytest.mark.parametrize("name", ["README.md", *PAGES])
def test_no_block_of_a_page_is_out_of_sight(name):
    text = (ROOT / name).read_text()
    fences = re.findall(r"^[ \t>]*```", text, re.MULTILINE)
    assert len(fences) == 2 * len(blocks_of(text)), "a fence stands at the start of its line"
    assert {block.language for block in blocks_of(text)} <= {
        "python",
        "bash",
        "console",
        "text",
        "toml",
        "json",
    }


def test_a_page_whose_code_prints_something_else_fails(tmp_path):
    (block,) = [
        b for b in blocks_of('```python\nprint("loss", 1 / 4)\n```\n\n```text\nloss 0.31\n```\n') if b.shown
    ]
    with pytest.raises(AssertionError, match=r"loss 0\.25"):
        blocks.run_python(block, {}, tmp_path / "page.md")
    with pytest.raises(SystemExit):
        blocks.check_commands("fourbeat train mnist-cnn --stepz 3")
    with pytest.raises(AssertionError, match="frobnicate"):
        blocks.check_commands("frobnicate --all")


def test_the_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
