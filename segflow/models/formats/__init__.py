"""The formats of weights: one small module each, found by suffix and first bytes. Importing it imports no torch.

Every reader module has three functions:

- ``files(path) -> tuple[Path, ...]``: all files that the weights consist of; their hash is the model's.
- ``describe(path, trust) -> Described``: what the file says about itself, without running code of the file's unless
  `trust`. It may hold a whole `card`, which then stands for the one beside the file.
- ``network(path, card, trust) -> nn.Module``: the network in evaluation mode, float32, on the CPU, that takes
  (batch, channel, *axes) and puts out what `card.activation` makes probabilities of. An attribute `fixed_patch`, a
  tuple of cells, says that it takes patches of that size only.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import yaml

from segflow.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

    from segflow.models.card import Card
    from segflow.models.formats.described import Described


class Reader(Protocol):
    """What the module of a format offers."""

    def files(self, path: Path) -> tuple[Path, ...]:
        """See the module's docstring."""

    def describe(self, path: Path, trust: bool) -> Described:
        """See the module's docstring."""

    def network(self, path: Path, card: Card, trust: bool) -> nn.Module:
        """See the module's docstring."""


@dataclass(frozen=True, slots=True)
class Format:
    """One row of the table of formats.

    Attributes:
        name: what it is called in messages.
        suffixes: that files of it have.
        place: the module that reads it.
        graph: whether the file holds the network itself, not only its weights.
    """

    name: str
    suffixes: tuple[str, ...]
    place: str
    graph: bool

    def reader(self) -> Reader:
        """Import the module that reads it."""
        return cast(Reader, import_module(self.place))


_HERE = "segflow.models.formats"
SAFETENSORS = Format("safetensors", (".safetensors",), f"{_HERE}.safetensors", graph=False)
ONNX = Format("onnx", (".onnx",), f"{_HERE}.onnx", graph=True)
CHECKPOINT = Format("checkpoint", (".pth", ".pt", ".ckpt", ".bin", ".tar", ".pkl"), f"{_HERE}.checkpoint", graph=False)
TORCHSCRIPT = Format("torchscript", (".pt", ".ts", ".torchscript", ".jit", ".pth"), f"{_HERE}.torchscript", graph=True)
EXPORT = Format("export", (".pt2",), f"{_HERE}.export", graph=True)
NNUNET = Format("nnunet", (), "segflow.models.nnunet.folder", graph=True)
DAMAGED: tuple[type[Exception], ...] = (OSError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error, EOFError)
"""What the standard library raises of archives that are not whole."""

FORMATS = (SAFETENSORS, ONNX, CHECKPOINT, TORCHSCRIPT, EXPORT, NNUNET)

_SUFFIXES = tuple(dict.fromkeys(suffix for row in FORMATS for suffix in row.suffixes))
_MOST_UNPACKED, _MOST_TIMES = 256 * 2**20, 20
_EXPECTED = "a file of " + ", ".join(_SUFFIXES) + ", or a folder that holds one"


def resolve(path: Path) -> Path:
    """Return the file that a folder holds (its safetensors, or else its only model); anything else as it is.

    Raises:
        ModelError: nothing is there, or the folder holds no model or several.
    """
    if not path.exists():
        raise missing(path)
    if not path.is_dir() or is_nnunet_folder(path):
        return path
    inside = sorted(item for item in path.iterdir() if item.is_file() and item.suffix.lower() in _SUFFIXES)
    found = [item for item in inside if item.suffix.lower() in SAFETENSORS.suffixes] or inside
    if len(found) == 1:
        return found[0]
    listed = ", ".join(item.name for item in found[:6])
    raise ModelError(
        f"the folder {path} holds {f'{len(found)} models: {listed}' if found else 'no model'}",
        "one file of weights (" + ", ".join(_SUFFIXES) + ") with its card NAME.yaml, or an nnU-Net results folder",
        "name the file; several in a list `model.weights: [A, B]` are an ensemble" if found else "check model.weights",
    )


def format_of(path: Path) -> Format:
    """Tell the format of a file by its suffix, and where suffixes lie or are shared by its first bytes.

    Raises:
        ModelError: it cannot be read, is empty or cut short, or is of no known format.
    """
    if path.is_dir():
        return NNUNET
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise missing(path) from error
    suffix = path.suffix.lower()
    for row in (SAFETENSORS, ONNX):
        if suffix in row.suffixes:
            return row
    if head[:2] == b"PK":
        return _in_archive(path)
    if is_pickle(head):
        return CHECKPOINT
    if head[8:9] == b"{":
        return SAFETENSORS
    if suffix in _SUFFIXES:
        raise ModelError(
            f"{path} is no file of PyTorch's: it is neither a zip archive nor a pickle",
            _EXPECTED,
            "check that it was downloaded whole; Git LFS leaves a small text file in its place",
        )
    raise ModelError(f"{path} is of no format that is known here", _EXPECTED, "check model.weights in the recipe")


def is_pickle(head: bytes) -> bool:
    """Tell by its first bytes whether a file is a pickle, in an archive of PyTorch's or bare."""
    return head[:2] == b"PK" or (head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and len(head) > 1)


def is_nnunet_folder(path: Path) -> bool:
    """Tell whether a path is a results folder of nnU-Net, also one that lacks something."""
    return path.is_dir() and ((path / "plans.json").is_file() or any(item.is_dir() for item in path.glob("fold_*")))


def card_beside(path: Path) -> Path | None:
    """Return the card NAME.yaml beside NAME.suffix, where there is one; a recipe of that name is none."""
    beside = path.with_suffix(".yaml")
    return beside if path.is_file() and beside.is_file() and not _is_recipe(beside) else None


def _is_recipe(path: Path) -> bool:
    """Tell recipes from cards, which have no inputs; of what is not YAML the reader of cards says so."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return isinstance(content, dict) and {"inputs", "model"} <= content.keys()


def missing(path: Path) -> ModelError:
    """Return the error for weights that cannot be read."""
    return ModelError(f"cannot read weights at {path}", _EXPECTED, "check model.weights in the recipe")


def _in_archive(path: Path) -> Format:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
            packed, unpacked = path.stat().st_size, sum(item.file_size for item in archive.infolist())
    except DAMAGED as error:
        raise ModelError(
            f"{path} is an archive that was cut short ({error})",
            "a whole file",
            "copy or download it again",
        ) from error
    if unpacked > max(_MOST_UNPACKED, _MOST_TIMES * packed):
        raise ModelError(
            f"{path} is an archive of {packed} bytes that unpacks to {unpacked}",
            f"at most {_MOST_TIMES} times as much; PyTorch does not compress weights",
            "check where it is from, or save the weights as safetensors",
        )
    if "archive_format" in names or "serialized_exported_program.json" in names:
        return EXPORT
    if any(name.startswith("code/") for name in names):
        return TORCHSCRIPT
    if "data.pkl" in names:
        return CHECKPOINT
    raise ModelError(f"{path} is an archive, but none of PyTorch's", _EXPECTED, "unpack it, or name the right file")
