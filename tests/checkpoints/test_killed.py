"""However a process is killed, the newest whole checkpoint loads."""

import re
import subprocess
import sys
from pathlib import Path


def test_killed_at_random_moments_and_at_changes_of_the_disk(tmp_path):
    script = str(Path(__file__).with_name("killed_saves.py"))
    command = [sys.executable, script, str(tmp_path / "run"), "5", "24"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.fullmatch(r"29 kills, (\d+) in the middle of a save, .* nothing lost\n", done.stdout)
    assert found and int(found[1]) > 10, done.stdout
