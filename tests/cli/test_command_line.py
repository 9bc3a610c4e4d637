"""The command line: every user's error is one clear line and exit status 2."""

import subprocess
import sys
from importlib import metadata

import pytest

from fourbeat.cli import main
from fourbeat.recipes import RECIPES
from tests.runs.written_runs import write_run

ALL = ", ".join(RECIPES)
ERRORS = {
    "no command": (
        [],
        "Expected one of {train, evaluate, predict, export, new, runs, compare, report, check}. "
        "(see fourbeat --help)",
    ),
    "unknown command": (
        ["trian"],
        "Unrecognized options: trian; available subcommands: train, evaluate, predict, export, new, runs, "
        "compare, report, check (see fourbeat --help)",
    ),
    "no recipe": (
        ["train"],
        f"Expected one of {{{ALL}}}. (see fourbeat train --help)",
    ),
    "unknown recipe": (
        ["train", "mnist"],
        f"Unrecognized options: mnist; available subcommands: {ALL} (see fourbeat train --help)",
    ),
    "unknown flag": (
        ["train", "mnist-cnn", "--stepps", "3"],
        "Unrecognized options: --stepps, 3; perhaps you meant --steps (see fourbeat train mnist-cnn --help)",
    ),
    "not a number": (
        ["train", "mnist-cnn", "--steps", "many"],
        "Error parsing --steps: invalid literal for int() with base 10: 'many' (see fourbeat train mnist-cnn "
        "--help)",
    ),
    "two unknown flags": (
        ["train", "images", "pictures", "--no-agment", "--wdith", "4", "--neither"],
        "Unrecognized options: --no-agment, --wdith, 4, --neither; perhaps you meant --augment or "
        "--no-augment or --width (see fourbeat train images --help)",
    ),
    "unknown flag of evaluate": (
        ["evaluate", "run", "--stp", "3"],
        "Unrecognized options: --stp, 3; perhaps you meant --step (see fourbeat evaluate --help)",
    ),
    "unknown flag of predict": (
        ["predict", "run", "file", "--jsn"],
        "Unrecognized options: --jsn; perhaps you meant --json (see fourbeat predict --help)",
    ),
    "unknown flag of export": (
        ["export", "run", "--to", "x", "--fromat", "onnx"],
        "Unrecognized options: --fromat, onnx; perhaps you meant --format (see fourbeat export --help)",
    ),
    "like no flag": (
        ["report", "run", "--xyz"],
        "Unrecognized options: --xyz (see fourbeat report --help)",
    ),
    "not a choice": (
        ["train", "mnist-cnn", "--optimizer", "lion"],
        "invalid choice 'lion' for argument '--optimizer'. Expected one of ('adamw', 'adam', 'momentum', "
        "'rmsprop', 'sgd'). (see fourbeat train mnist-cnn --help)",
    ),
    "batch larger than the data": (
        ["train", "mnist-cnn", "--batch-size", "60000"],
        "batch_size 60000 is larger than the 53600 examples, so remainder='drop' would leave no batch. Use "
        "batch_size <= 53600, or remainder='pad'.",
    ),
    "unwritable directory": (
        ["train", "linear-regression", "--out", "/dev/null/run"],
        "cannot write the run directory /dev/null/run: Not a directory. Choose another --out.",
    ),
    "no steps": (
        ["train", "linear-regression", "--steps", "0"],
        "--steps is 0; give a whole number of at least 1 and below 2147483648.",
    ),
    "nothing to resume": (
        ["train", "mnist-cnn", "--resume", "nowhere"],
        "--resume nowhere: there is no run of mnist-cnn in that directory.",
    ),
    "clip norm": (
        ["train", "mnist-cnn", "--clip-norm", "0"],
        "--clip-norm is 0.0; give a finite number above 0.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_a_users_error_is_one_line_and_status_2(case, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args, text = ERRORS[case]
    with pytest.raises(SystemExit) as stop:
        main(args)
    out, err = capsys.readouterr()
    assert (stop.value.code, out, err) == (2, "", f"fourbeat: {text}\n")
    assert not list(tmp_path.iterdir())  # nothing is left behind


def test_a_run_that_is_there_already_is_never_written_over(capsys, tmp_path):
    main(["train", "linear-regression", "--steps", "10", "--out", str(tmp_path)])
    before = (tmp_path / "metrics.jsonl").read_text()
    with pytest.raises(SystemExit):
        main(["train", "linear-regression", "--steps", "10", "--out", str(tmp_path)])
    assert (
        capsys.readouterr().err == f"fourbeat: {tmp_path} holds a run already. "
        "Choose another --out, or go on with --resume latest.\n"
    )
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_help_shows_every_flag_with_its_docstring(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "mnist-cnn", "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    for flag in ("--out", "--steps", "--batch-size", "--seed", "--optimizer", "--clip-norm", "--schedule"):
        assert flag in out
    assert "Stop after so many epochs without a better evaluation accuracy" in " ".join(out.split())


def test_check_prints_a_report_and_its_status_tells(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "class Counter:\n    n = 0\n    def count(self):\n        self.n += 1\n        return self.n\n"
    (tmp_path / "countermodule.py").write_text(
        code + "counter = Counter()\ndef double(x):\n    return 2 * x\n"
    )
    for target, args, status in (("counter.count", [], 1), ("double", ["--args", "1.0"], 0)):
        with pytest.raises(SystemExit) as stop:
            main(["check", f"countermodule:{target}", *args])
        assert stop.value.code == status
    assert "self.n" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["check", "countermodule"])
    assert stop.value.code == 2


def test_a_reader_that_has_enough_is_no_error():
    command = f"{sys.executable} -c 'from fourbeat.cli import main; main()' train mnist-cnn --help | head -1"
    done = subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, check=False
    )
    assert (done.stdout[:6], done.stderr) == ("usage:", "")
    assert done.returncode in (0, 141)  # 0 where all was written before the reader closed


def test_the_version_is_that_of_the_package(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"fourbeat {metadata.version('fourbeat')}\n"


LIGHT = {  # commands that need no JAX, and a part of what each says
    "--help": "train,evaluate,predict,export,new,runs,compare,report,check",
    "--version": "fourbeat ",
    "runs": "runs/a/run",
    "runs nowhere --json": '{"runs": []}',
    "compare latest best": "flags that differ: none",
    "report latest": "written to report.html",
    "evaluate --help": "RUN",
    "new linear-regression line.py": "written to line.py",
    "trian": "Unrecognized options",
}


def test_what_needs_no_jax_does_not_load_it(tmp_path):
    lines = [{"step": step, "eval_accuracy": step / 2} for step in (1, 2)]
    write_run(tmp_path / "runs" / "a" / "run", lines, flags={"steps": 2})
    code = """
import sys
from fourbeat.cli import main
for command in sys.argv[1:]:
    try:
        main(command.split())
    except SystemExit:
        pass
    heavy = {"jax", "jaxlib", "flax", "optax", "orbax", "matplotlib", "numpy", "PIL"}
    print("loaded", sorted(heavy & set(sys.modules)), flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *LIGHT],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    *said, rest = done.stdout.split("loaded []\n")
    assert rest == "" and len(said) == len(LIGHT), done.stdout
    for part, text in zip(LIGHT.values(), said, strict=True):
        assert part in text


@pytest.mark.parametrize(
    "command", ["runs runs", "check purity_of:double --args 1.0", "check purity_of:count"]
)
def test_a_reader_that_leaves_before_a_table_is_told_as_the_signal_would(command, tmp_path):
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "config.json").write_text("{}")
    code = "seen = []\ndef double(x):\n    return 2 * x\ndef count():\n    seen.append(1)\n"
    (tmp_path / "purity_of.py").write_text(code)
    python = f"{sys.executable} -c 'from fourbeat.cli import main; main()' {command}"
    line = f"exec {{gone}}> >(exit 0); wait $!; {python} >&$gone"  # whose reader is gone for certain
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("missing", ["tyro", "matplotlib"])
def test_without_the_extra_it_says_what_to_install(missing, tmp_path):
    code = f"import sys; sys.modules[{missing!r}] = None; from fourbeat.cli import main; main(['train'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"fourbeat: the command line needs {missing}: pip install 'fourbeat[cli]'\n"


def test_a_signal_sets_the_exit_status_of_a_shell(monkeypatch, capsys):
    import signal

    from fourbeat.recipes import linear_regression
    from fourbeat.runs import Interrupted

    def stopped(config):
        raise Interrupted(signal.SIGTERM, "stopped at step 3, as asked")

    monkeypatch.setattr(linear_regression, "train", stopped)
    with pytest.raises(SystemExit) as stop:
        main(["train", "linear-regression"])
    assert stop.value.code == 143
    assert capsys.readouterr().err == "stopped at step 3, as asked\n"
