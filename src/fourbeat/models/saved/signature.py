"""The signature of a saved model: what goes in, what comes out, and the sha256 of each file."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, Self

from fourbeat.models.errors import ModelFileError
from fourbeat.types import Object

SIGNATURE, WEIGHTS, PROGRAM, README = (
    "signature.json",
    "weights.safetensors",
    "program.stablehlo",
    "README.md",
)
FILES = (WEIGHTS, PROGRAM, README)
_FORMAT, _VERSION = "fourbeat.models", 1
_MOST_BYTES = 2**26  # of a signature: it lists names, and no numbers


@dataclasses.dataclass(frozen=True)
class Array:
    """What one array of a signature is like.

    Attributes:
      shape: the lengths of its axes; "batch" for the number of examples.
      dtype: its name, such as "float32".
    """

    shape: tuple[int | str, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclasses.dataclass(frozen=True)
class Signature:
    """What a saved model is.

    Attributes:
      inputs: the columns that the program reads, by name.
      outputs: what it gives, by name: "outputs" alone, or the place in what `predict` returned.
      weights: the arrays in `weights.safetensors`, by name.
      averaged: whether these are the averaged parameters.
      step: of the training state; None for a bare model.
      classes: the names of the classes in their order; None where none were given.
      preprocessing: the names of the mapped functions that are part of the program, in their order.
      notes: what else it says, as JSON has it; None where nothing was given.
      platforms: what the program was lowered for.
      versions: of Python, JAX and the other libraries that wrote it.
      files: the sha256 and the size in bytes of each other file.
    """

    inputs: dict[str, Array]
    outputs: dict[str, Array]
    weights: dict[str, Array]
    averaged: bool
    step: int | None
    classes: tuple[str, ...] | None
    preprocessing: tuple[str, ...]
    notes: dict[str, Any] | None
    platforms: tuple[str, ...]
    versions: dict[str, str]
    files: dict[str, tuple[str, int]]

    def encode(self) -> bytes:
        """JSON, with a sha256 of all the rest."""
        content = {"format": _FORMAT, "version": _VERSION, **dataclasses.asdict(self)}
        content["files"] = {
            name: {"sha256": sha256, "size_bytes": size} for name, (sha256, size) in self.files.items()
        }
        return _text({**content, "sha256": _sha256_of(content)})

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The signature of the model in a folder.

        Raises:
          ModelFileError: there is no model, it is of a newer format, or damaged.
        """
        path = folder / SIGNATURE
        if not path.is_file() or path.is_symlink():
            raise ModelFileError(
                f"there is no saved model in {folder}: {SIGNATURE} is missing, or no plain file. Name the "
                "folder that fb.models.save wrote."
            )
        if path.stat().st_size > _MOST_BYTES:
            raise ModelFileError(f"{path} is no signature of a model: it has {path.stat().st_size} bytes.")
        data = path.read_bytes()
        try:
            content = json.loads(data)
            claimed = content.pop("sha256", None)
        except (ValueError, AttributeError, RecursionError):
            raise ModelFileError(f"{path} is damaged: it is no JSON object. Get the model anew.") from None
        if content.get("format") != _FORMAT and claimed is None:
            raise ModelFileError(f"{path} is no signature of a model that fb.models.save wrote.")
        if claimed != _sha256_of(content) or data != _text({**content, "sha256": claimed}):
            raise ModelFileError(
                f"{path} is damaged: it is not as it was written, its sha256 differs. Get the model anew."
            )
        if (content.get("format"), content.get("version")) != (_FORMAT, _VERSION):
            raise ModelFileError(
                f"{path} is of {content.get('format')} {content.get('version')}, and this fourbeat reads "
                f"{_FORMAT} {_VERSION}. Read it with the fourbeat that wrote it, or a newer one than this."
            )
        try:
            return cls._of(content)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ModelFileError(f"{path} is no signature of a model that fb.models.save wrote.") from None

    @classmethod
    def _of(cls, content: dict[str, Any]) -> Self:
        def arrays(part: str) -> dict[str, Array]:
            return {
                name: Array(tuple(each["shape"]), str(each["dtype"])) for name, each in content[part].items()
            }

        files = {name: (str(of["sha256"]), int(of["size_bytes"])) for name, of in content["files"].items()}
        if set(files) != set(FILES):  # no path of a signature is opened: it could lead anywhere
            raise ValueError
        classes = content["classes"]
        return cls(
            inputs=arrays("inputs"),
            outputs=arrays("outputs"),
            weights=arrays("weights"),
            averaged=bool(content["averaged"]),
            step=None if content["step"] is None else int(content["step"]),
            classes=None if classes is None else tuple(map(str, classes)),
            preprocessing=tuple(map(str, content["preprocessing"])),
            notes=content.get("notes"),  # those of an earlier fourbeat have none
            platforms=tuple(map(str, content["platforms"])),
            versions={str(name): str(version) for name, version in content["versions"].items()},
            files=files,
        )

    def check_files(self, folder: Path) -> None:
        """Compares the files in a folder with what was written.

        Raises:
          ModelFileError: one is missing, or is not as it was written.
        """
        for name in FILES:
            path, (sha256, size_bytes) = folder / name, self.files[name]
            if not path.is_file() or path.is_symlink():
                raise ModelFileError(f"{path} is missing, or no plain file. Get the model anew.")
            if path.stat().st_size != size_bytes:
                raise ModelFileError(
                    f"{path} is damaged: it has {path.stat().st_size} bytes and had {size_bytes}. Get the "
                    "model anew."
                )
            if sha256_of(path) != sha256:
                raise ModelFileError(
                    f"{path} is damaged: it is not as it was written, its sha256 differs. Get the model anew."
                )


def sha256_of(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text(content: Object) -> bytes:
    return json.dumps(content, indent=1).encode() + b"\n"


def _sha256_of(content: Object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
