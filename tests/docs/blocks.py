"""The code blocks of a page, and what it takes for one to hold."""

import ast
import contextlib
import doctest
import importlib.util
import io
import itertools
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
# a block with such a title is of that library
LIBRARIES = {
    "Keras": "keras",
    "PyTorch": "torch",
    "W&B": "wandb",
    "MLflow": "mlflow",
    "trackio": "trackio",
    "Grain": "grain",
    "Hugging Face": "datasets",
    "TensorFlow": "tensorflow",
    "torchdata": "torchdata",
    "Pillow": "PIL",
    "pyarrow": "pyarrow",
    "ArrayRecord": "array_record",
}
NOT_OURS = {"pip", "tensorboard", "cd", "export", "kill", "ls", "git", "sbatch", "kubectl"}
_FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: .+ -->\n\Z")
_NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?")
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """A fenced block.

    `shown` is the text block that follows directly, or None; `is_run` is False under `<!-- not run: why -->`.
    """

    language: str
    title: str
    code: str
    line: int
    shown: str | None
    is_run: bool


def blocks_of(text: str) -> list[Block]:
    """The fenced blocks of a page in order."""
    fences, blocks = [*_FENCE.finditer(text), None], []
    for fence, following in itertools.pairwise(fences):
        language, _, rest = fence["info"].partition(" ")
        title = re.search(r'title="(.*?)"', rest)
        shown = None
        is_next = following is not None and not text[fence.end() : following.start()].strip()
        if is_next and following["info"] == "text":
            shown = following["code"]
        line = text.count("\n", 0, fence.start()) + 1
        is_run = _NOT_RUN.search(text[: fence.start()]) is None
        blocks.append(Block(language, title[1] if title else "", fence["code"], line, shown, is_run))
    return blocks


def run_page(page: Path) -> None:
    """Runs the Python blocks of a page in order, in the current folder."""
    namespace, others = {"__name__": "__page__"}, {}
    for block in blocks_of(page.read_text()):
        if block.language == "python" and block.is_run:
            if block.title in LIBRARIES:
                run_python_of(block.title, block, others, page)
            else:
                run_python(block, namespace, page)


def run_python(block: Block, namespace: dict[str, Any], page: Path) -> None:
    """Runs a block of plain code or of doctests, and compares what it prints with what the page shows."""
    if block.code.startswith(">>>"):
        parsed = doctest.DocTestParser().get_doctest(block.code, namespace, page.name, str(page), block.line)
        said = io.StringIO()
        failed, _ = doctest.DocTestRunner(optionflags=_FLAGS).run(parsed, out=said.write, clear_globs=False)
        namespace.update(parsed.globs)
        assert failed == 0, said.getvalue()
        return
    program = compile("\n" * block.line + block.code, str(page), "exec")  # lines as in the page
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(program, namespace)
    assert_same_text(printed.getvalue(), block.shown or "", f"{page.name}:{block.line}")


def run_python_of(library: str, block: Block, namespaces: dict[str, Any], page: Path) -> None:
    """Runs another library's block where that is installed; elsewhere it must be Python at least."""
    if importlib.util.find_spec(LIBRARIES[library]) is None:
        ast.parse(block.code)
    else:
        run_python(block, namespaces.setdefault(library, {"__name__": library}), page)


def assert_same_text(printed: str, shown: str, where: str) -> None:
    """Equal texts, but rounding may move a number with a decimal point by 5 % or 0.01; zero stays zero."""
    assert _NUMBER.sub("#", printed).split() == _NUMBER.sub("#", shown).split(), f"{where} prints\n{printed}"
    for one, other in zip(_NUMBER.findall(printed), _NUMBER.findall(shown), strict=True):
        allowed = 0.01 + 0.05 * abs(float(other)) if float(other) else 0
        assert abs(float(one) - float(other)) <= allowed, f"{where} prints\n{printed}"


def check_commands(code: str) -> None:
    """Parses every `fourbeat` command; looks whether the files and modules given to Python are there."""
    for line in code.replace("\\\n", " ").splitlines():
        for command in line.removeprefix("$ ").split(" && "):
            words = shlex.split(command, comments=True)
            if words:
                _check_command(words)


def _check_command(words: list[str]) -> None:
    program, *arguments = words
    if program == "fourbeat":
        from tyro.extras import subcommand_cli_from_dict

        from fourbeat.cli.commands import commands

        resumes = "--resume" in arguments
        if resumes:  # it would look for that run
            place = arguments.index("--resume")
            arguments = arguments[:place] + arguments[place + 2 :]
        try:
            subcommand_cli_from_dict(commands(arguments), prog=program, args=arguments)
        except ValueError as error:  # the data that a recipe needs is named by the run
            if not (resumes and " is missing; give " in str(error)):
                raise
    elif program == "python":
        if arguments[0] == "-m":
            assert importlib.util.find_spec(arguments[1]) is not None, arguments[1]
        else:
            assert (ROOT / arguments[0]).exists(), arguments[0]
    else:
        assert program in NOT_OURS or program.startswith("./"), program
