"""safetensors: tensors by name, and nothing that could run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from segflow.errors import ModelError
from segflow.models.card import Card
from segflow.models.formats import is_pickle, missing
from segflow.models.formats.described import Described
from segflow.models.formats.states import as_float, kind_of, network_of

if TYPE_CHECKING:
    from torch import Tensor, nn


def files(path: Path) -> tuple[Path, ...]:
    """Return the file itself."""
    return (path,)


def describe(path: Path, trust: bool) -> Described:
    """Tell rasters from volumes by the tensors' ranks; which network it is only a card can say."""
    from safetensors import SafetensorError, safe_open

    _refuse_pickle(path)
    try:
        with safe_open(str(path), "numpy") as file:
            shapes = [tuple(file.get_slice(key).get_shape()) for key in file.keys()]  # noqa: SIM118
    except (SafetensorError, ValueError, OSError) as error:
        raise _broken(path, error) from error
    kind = kind_of(shapes)
    notes = (f"{len(shapes)} tensors" + ("" if kind is None else f", of a network for a {kind}"),)
    return Described("safetensors", path, kind=kind, notes=notes)


def network(path: Path, card: Card, trust: bool) -> nn.Module:
    """Return the network of the card's architecture with the file's weights."""
    return network_of(read_weights(path), path, card)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; floating-point tensors are cast to float32.

    Raises:
        ModelError: there is no such file, it is a pickle, or it is not safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _refuse_pickle(path)
    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise _broken(path, error) from error
    return {key: as_float(value) for key, value in tensors.items()}


def _refuse_pickle(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise missing(path) from error
    if is_pickle(head):
        raise ModelError(
            f"{path} is a pickle under a false name", "safetensors, as its name says", "rename it to NAME.pth"
        )


def _broken(path: Path, error: Exception) -> ModelError:
    return ModelError(
        f"{path} is not a safetensors file ({error})",
        "weights as safetensors",
        "check that it was downloaded whole; Git LFS leaves a small text file in its place",
    )
