"""The networks by name. Listing them does not import torch; building one does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

from segflow.errors import ModelError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Architecture:
    """One row of the list of networks.

    Attributes:
        name: what recipes and cards call it.
        parameters: trainable numbers of the 2-D network at the paper's width and depth, with `paper_arguments`.
        parameters_3d: the same in three dimensions.
        paper: where it was published.
        paper_arguments: channels in and out that the counts are for.
        place: module and class.
    """

    name: str
    parameters: int
    parameters_3d: int
    paper: str
    paper_arguments: tuple[int, int]
    place: tuple[str, str]


_ARCHITECTURES = (
    Architecture(
        "unet",
        31_036_546,
        90_298_626,
        "Ronneberger, Fischer, Brox: U-Net, MICCAI 2015",
        (1, 2),
        ("segflow.models.unet", "UNet"),
    ),
    Architecture(
        "segnet",
        29_441_419,
        88_292_491,
        "Badrinarayanan, Kendall, Cipolla: SegNet, TPAMI 2017",
        (3, 11),
        ("segflow.models.segnet", "SegNet"),
    ),
)


def architectures() -> tuple[Architecture, ...]:
    """Return all networks, in order of their names in the list. Does not import torch."""
    return _ARCHITECTURES


def build(architecture: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Make a network with fresh weights, in training mode, float32.

    Args:
        architecture: a name from `architectures`.
        arguments: its arguments: in_channels, out_channels, dimensions, width, depth, norm.

    Raises:
        ModelError: no such architecture, or arguments that it does not take.
    """
    rows = {row.name: row for row in _ARCHITECTURES}
    if architecture not in rows:
        near = get_close_matches(architecture, rows, n=1, cutoff=0.4)
        raise ModelError(
            f"there is no architecture {architecture!r}",
            "one of " + ", ".join(rows),
            f"did you mean {near[0]}?" if near else "`segflow models --architectures` lists them",
        )
    module, name = rows[architecture].place
    maker = getattr(import_module(module), name)
    try:
        network: nn.Module = maker(**arguments)
    except TypeError as error:
        raise ModelError(
            f"{architecture} does not take {dict(arguments)}: {error}",
            "in_channels, out_channels, dimensions, width, depth, norm",
            "correct the arguments",
        ) from error
    return network
