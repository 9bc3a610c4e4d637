"""Runs the small job of each library where it is installed, and writes what came out to a file.

    python -m benchmarks.comparison NAME=PYTHON [NAME=PYTHON ...] --out FILE [--beside FILE]

`PYTHON` is the interpreter of an environment that has the library, as in `Keras=envs/keras/bin/python`.
Several rounds are run in turn, and times are CPU seconds of the process: on a busy machine wall time says
more of the machine than of a library. With `--beside` the columns of an earlier run stay as they are, and
the new ones carry the times of the fourbeat that ran with them.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PROGRAMS = {
    "fourbeat": "with_fourbeat.py",
    "NNX": "plain_nnx.py",
    "substrax": "with_substrax.py",
    "reax": "with_reax.py",
    "Keras": "with_keras.py",
    "Lightning": "with_lightning.py",
    "dew": "with_dew.py",
    "kauldron": "with_kauldron.py",
}
PACKAGES = {
    "fourbeat": ("fourbeat", "jax", "flax"),
    "NNX": ("flax", "jax", "orbax-checkpoint"),
    "substrax": ("substrax", "jax", "flax"),
    "reax": ("reax", "jax"),
    "Keras": ("keras", "jax"),
    "Lightning": ("lightning", "torch"),
    "dew": ("dewml", "jax", "flax"),
    "kauldron": ("kauldron", "jax", "flax"),
}
TIMED_STEPS = 20 * 2000 // 32  # of an epoch of the timed run
_VERSIONS = (
    "import importlib.metadata as m, sys; print('\\n'.join(p + ' ' + m.version(p) for p in sys.argv[1:]))"
)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pythons", nargs="+", help="NAME=PYTHON")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--beside", type=Path, help="what an earlier run wrote, whose columns stay")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    pythons = dict(each.split("=", 1) for each in args.pythons)
    found = {name: facts_of(name, python) for name, python in pythons.items()}
    times: dict[str, list[list[float]]] = {name: [] for name in pythons}
    for _ in range(args.rounds):  # in turn: what else the machine does meets all of them
        for name, python in pythons.items():
            with tempfile.TemporaryDirectory() as folder:
                times[name].append(run(name, python, Path(folder) / "run", 3, TIMES="20")["clock"])
    for name, clocks in times.items():
        steps = [(clock[-1] - clock[0]) / (len(clock) - 1) / TIMED_STEPS for clock in clocks]
        begun = [clock[0] - step * TIMED_STEPS for clock, step in zip(clocks, steps, strict=True)]
        found[name]["start_cpu_s"] = statistics.median(begun)  # imports, compilation, the first save
        found[name]["step_cpu_us"] = 1e6 * statistics.median(steps)
        print(name, json.dumps(found[name]), flush=True)
    if args.beside:
        found = joined(json.loads(args.beside.read_text()), found)
    args.out.write_text(json.dumps(found, indent=1) + "\n")


def joined(earlier: dict, found: dict) -> dict:
    """The columns of an earlier run and those of this one, each with the fourbeat that ran beside it."""
    base = {key: found["fourbeat"][key] for key in ("versions", "start_cpu_s", "step_cpu_us")}
    added = {name: {**each, "beside": base} for name, each in found.items() if name != "fourbeat"}
    return {**earlier, **added}


def num_lines(name: str) -> int:
    """Lines of code between the marks of the program, less those of the clock."""
    text = (HERE / PROGRAMS[name]).read_text()
    lines = text.split("# begin\n")[1].split("# end\n")[0].splitlines()
    return sum(bool(line.strip()) and "end_of_epoch" not in line for line in lines)


def run(name: str, python: str, directory: Path, epochs: int, **environment: str) -> dict:
    """One process of a program; what it says at its end, or the last line of its error."""
    done = subprocess.run(
        [python, PROGRAMS[name], str(directory), str(epochs)],
        cwd=HERE,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0:
        return {**json.loads(lines[-1]), "warned": done.stderr}
    return {"error": _last(done.stderr)}


def facts_of(name: str, python: str) -> dict:
    """What does not depend on the machine: lines, resume, weights, bad numbers, damage."""
    versions = subprocess.run(
        [python, "-c", _VERSIONS, *PACKAGES[name]], capture_output=True, text=True, check=True
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        whole = run(name, python, root / "whole", 3)
        if "error" in whole:
            raise RuntimeError(f"{name}: {whole['error']}")
        run(name, python, root / "stopped", 2)
        shutil.copytree(root / "stopped", root / "damaged")
        flip_bits(root / "damaged")
        resumed = run(name, python, root / "stopped", 3)
        damaged = run(name, python, root / "damaged", 3)
        with_nan = run(name, python, root / "nan", 1, WITH_NAN="1")
    return {
        "versions": versions.stdout.split("\n")[:-1],
        "lines": num_lines(name),
        "resumes_exactly": resumed.get("digest") == whole["digest"],
        "score_error": abs(whole["score"] - whole["exact"]) / whole["exact"],
        "finite_after_nan": with_nan.get("finite"),
        "error_of_nan": with_nan.get("error", ""),
        "damaged": told(damaged, whole),
    }


def told(damaged: dict, whole: dict) -> str:
    """What became of a run whose newest checkpoint has one flipped bit."""
    if "error" in damaged:
        return f"an error: {damaged['error']}"
    ends = "the right parameters" if damaged["digest"] == whole["digest"] else "other parameters"
    return f"{ends}, with a warning" if "damaged" in damaged["warned"] else f"{ends}, no word"


def flip_bits(directory: Path) -> None:
    """Flips a bit in each large file of numbers in the newest checkpoint; some formats hold them twice."""
    files = [path for path in directory.rglob("*") if path.is_file() and not is_text(path)]
    files = [path for path in files if "tfevents" not in path.name]  # what TensorBoard shows
    least = max(path.stat().st_size for path in files) / 2
    large = [path for path in files if path.stat().st_size > least]
    root = os.path.commonpath([path.parent for path in large])  # some keep their checkpoints a folder down
    newest = max(large, key=lambda path: path.stat().st_mtime).relative_to(root).parts[0]
    for path in large:
        if path.relative_to(root).parts[0] == newest:
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 8
            path.write_bytes(bytes(content))


def is_text(path: Path) -> bool:
    """Whether a file is text, such as JSON beside the numbers."""
    try:
        path.read_text()
    except UnicodeDecodeError:
        return False
    return True


def _last(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


if __name__ == "__main__":
    main()
