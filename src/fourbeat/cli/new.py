"""`fourbeat new`: a recipe as a file of the user's own."""

import json
import shlex
from pathlib import Path

from fourbeat import recipes
from fourbeat.recipes import RECIPES
from fourbeat.runs.printing import printable
from fourbeat.runs.records import naming

_PLAIN = Path(recipes.__file__).parent / "plain"
_MNIST_FILES = Path(recipes.__file__).parents[1] / "data" / "mnist_files"
_TAIL = """

if __name__ == "__main__":
    from fourbeat.cli import run_file

    run_file("{recipe}", {config_type}, train)
"""


def write_file(recipe: str, file: Path, *, plain: bool, force: bool) -> None:
    """Writes the recipe to `file`, and says how to run it.

    Args:
      recipe: its name.
      file: where to.
      plain: the loop in plain JAX, Flax and Optax, with its data beside it, instead of the recipe.
      force: write over a file that is there.

    Raises:
      ValueError: the file is there already, is a folder, or cannot be written; or there is no plain form.
    """
    if file.is_dir():
        raise ValueError(f"{file} is a folder. Name the file to write, such as {file / 'train.py'}.")
    text = _plain(recipe) if plain else _own(recipe, file)
    try:
        with file.open("w" if force else "x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise ValueError(
            f"{file} is there already. Choose another file, or write over it with --force."
        ) from None
    except OSError as error:
        raise ValueError(f"cannot write {file}: {error.strerror}.") from None
    print(f"written to {printable(file)}; run it with: python {printable(shlex.quote(str(file)))}")
    if plain and "mnist" in recipe:
        _copy_mnist(file.parent / "mnist")


def _own(recipe: str, file: Path) -> str:
    """The recipe's own text, which runs as a file and says how to go on with that file."""
    place = RECIPES[recipe]
    text = place.file.read_text(encoding="utf-8")
    own_command = json.dumps(f"python {shlex.quote(file.name)}")
    text = text.replace(f'"fourbeat train {recipe}"', own_command)
    return text + _TAIL.format(recipe=recipe, config_type=place.config.rpartition(".")[2])


def _plain(recipe: str) -> str:
    source = _PLAIN / f"{recipe.replace('-', '_')}.py"
    if not source.exists():
        there = ", ".join(path.stem.replace("_", "-") for path in sorted(_PLAIN.glob("*.py")))
        raise ValueError(f"{recipe} has no plain form; {there} have one.")
    return source.read_text(encoding="utf-8")


def _copy_mnist(folder: Path) -> None:
    """The files of MNIST beside the user's file; those that are there stay."""
    folder.mkdir(exist_ok=True)
    for source in sorted(_MNIST_FILES.iterdir()):
        target = folder / source.name
        if not target.exists():
            with naming(target):
                target.write_bytes(source.read_bytes())
    print(f"its data, 11 MB: {folder}")
