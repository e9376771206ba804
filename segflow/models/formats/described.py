"""What a reader says of a file of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from segflow.grid import Kind
from segflow.models.card import Card, Normalisation

Activation = Literal["softmax", "sigmoid", "none"]


@dataclass(frozen=True, slots=True)
class Described:
    """What could be read. None: the file does not tell.

    Attributes:
        format: safetensors, checkpoint, onnx, torchscript, export or nnunet.
        path: the file itself, also where a folder was named.
        kind: raster or volume.
        channels: number of input channels.
        outputs: number of output channels.
        patch: the one size that the network takes, in array order.
        batch: the one batch size that the network takes.
        stride: total downsampling; a patch is a multiple of it.
        activation: what the network's output still needs; "none" where the graph ends in softmax or sigmoid itself.
        normalisation: what raw values become.
        gsd: ground sampling distance in metres.
        class_names: names of the output channels, or, where there is one output channel, of background and foreground.
        wished_patch: a patch size that the maker advises, where the network takes others too.
        overlap: fraction of the patch that the maker advises.
        threshold: for sigmoid channels.
        architecture: name of the network, where the file holds weights only and says which.
        arguments: of the architecture.
        graph: whether the file holds the network itself, so that no architecture is asked for.
        needs_trust: whether it cannot be loaded without `--trust`.
        card: the card beside it (or, for nnU-Net, made of its plans), which says the rest.
        notes: what was read and where, a sentence each.
    """

    format: str
    path: Path
    kind: Kind | None = None
    channels: int | None = None
    outputs: int | None = None
    patch: tuple[int, ...] | None = None
    batch: int | None = None
    stride: int | None = None
    activation: Activation | None = None
    normalisation: Normalisation | None = None
    gsd: float | None = None
    class_names: tuple[str, ...] | None = None
    wished_patch: tuple[int, ...] | None = None
    overlap: float | None = None
    threshold: float | None = None
    architecture: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    graph: bool = False
    needs_trust: bool = False
    card: Card | None = None
    notes: tuple[str, ...] = ()
