"""The README's code runs, and its commands are what CI runs."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_loop_of_the_first_screen_runs_on_a_tiny_budget(capsys):
    code = "\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    budgets = {"fb.at(epochs=2)": "fb.at(steps=12)", "fb.every(steps=500)": "fb.every(steps=5)"}
    budgets["fb.every(epochs=1)"] = "fb.every(steps=10)"
    for whole, tiny in budgets.items():
        assert whole in code
        code = code.replace(whole, tiny)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    assert re.fullmatch(
        r"step 5: loss \d\.\d{4}\nstep 10: loss \d\.\d{4}\nepoch 0: train 0\.\d{4}, held out 0\.\d{4}\n",
        printed,
    )


def test_ci_runs_the_readmes_test_command():
    markers = re.findall(r"<!-- fresh:(\w+) -->\n```bash\n(.*?)\n```", README)
    assert [name for name, _ in markers] == ["run", "test"]
    assert all("\n" not in command for _, command in markers)
    assert "fresh:test" in (ROOT / ".ci" / "run").read_text()


def test_the_digests_of_the_same_bits_table_are_one():
    digests = re.findall(r"(?:written by hand|fourbeat|killed 5 times)\s+([0-9a-f]{64})", README)
    assert len(digests) == 3
    assert len(set(digests)) == 1


def test_the_same_bits_example_agrees_on_a_tiny_budget():
    command = [sys.executable, "examples/same_bits.py", "--steps", "3", "--kills", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = done.stdout.splitlines()
    assert rows[0] == "3 steps on MNIST        sha256 of the parameters"
    assert len(rows) == 4
    assert len({row.split()[-1] for row in rows[1:]}) == 1
