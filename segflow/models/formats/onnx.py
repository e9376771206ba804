"""ONNX: a graph of standard operations. Reading one runs nothing of the file's; custom operations are not known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from segflow.errors import ModelError
from segflow.grid import Kind
from segflow.models.card import Card, Normalisation
from segflow.models.formats.described import Activation, Described
from segflow.models.formats.onnx_header import Header, Port, read_header
from segflow.models.formats.onnx_metadata import read_advice

if TYPE_CHECKING:
    from torch import nn

_INTEGERS = ("INT64", "INT32", "INT16", "INT8", "UINT8", "UINT16", "UINT32", "UINT64", "BOOL")


def files(path: Path) -> tuple[Path, ...]:
    """Return the file, and those beside it that hold its weights."""
    return (path, *read_header(path).external)


def describe(path: Path, trust: bool) -> Described:
    """Read shapes, ending and metadata.

    Raises:
        ModelError: it is no segmentation network: another rank, class numbers instead of probabilities, or an output
            that is smaller than the input.
    """
    header = read_header(path)
    advice = read_advice(header.metadata, header.channels, path)
    output = header.outputs[0]
    refuse_indices(header, 0, path)
    _refuse_smaller(header, output, path)
    kind: Kind = "raster" if len(header.input.shape) == 4 else "volume"
    outputs, ending = _output_channels(header, output), header.endings[0]
    activation: Activation | None = None
    if ending is not None:
        activation = "none"
    elif outputs is not None:
        activation = "sigmoid" if outputs == 1 else "softmax"
    raw = header.input.type in _INTEGERS
    axes = len(header.input.shape) - 2
    notes = [
        f"input {header.input.name}: {_shown(header.input)}{', channels last' if header.last else ''}",
        f"output {output.name}: {_shown(output)}" + (f", ends in {ending}" if ending else ""),
        *advice.notes,
    ]
    if raw:
        notes.append("it takes whole numbers, so raw values go in as they are")
    return Described(
        "onnx",
        path,
        kind=kind,
        channels=header.channels,
        outputs=outputs,
        patch=header.patch,
        batch=header.batch,
        stride=header.stride,
        activation=activation,
        normalisation=Normalisation() if raw else advice.normalisation,
        gsd=advice.gsd if kind == "raster" else None,
        class_names=_two(advice.class_names, outputs),
        wished_patch=header.patch or (None if advice.patch is None else (advice.patch,) * axes),
        overlap=advice.overlap,
        threshold=advice.threshold,
        graph=True,
        card=_own_card(header, path),
        notes=tuple(notes),
    )


def network(path: Path, card: Card, trust: bool) -> nn.Module:
    """Return a module that runs the file by ONNX Runtime with one thread."""
    from segflow.models.formats.onnx_network import OnnxNetwork

    header = read_header(path)
    if card.output >= len(header.outputs):
        raise ModelError(
            f"{path} has {len(header.outputs)} outputs", f"an output {card.output}, as the card says", "correct output"
        )
    refuse_indices(header, card.output, path)
    wanted = 4 if card.kind == "raster" else 5
    if len(header.input.shape) != wanted or header.channels not in (None, len(card.channels)):
        raise ModelError(
            f"{path} takes {_shown(header.input)}",
            f"{len(card.channels)} channels ({', '.join(card.channels)}) of a {card.kind}, as the card or recipe says",
            "correct channels and kind there; they cannot be changed in the file",
        )
    return OnnxNetwork(path, header, card.output)


def _own_card(header: Header, path: Path) -> Card | None:
    """Return the card that `segflow train` writes into its ONNX files."""
    text = header.metadata.get("segflow_card")
    if text is None:
        return None
    try:
        return Card.model_validate_json(text)
    except ValueError as error:
        raise ModelError(
            f"the card inside {path} cannot be read: {error}",
            "a card of this version",
            f"put {path.stem}.yaml beside it",
        ) from error


def refuse_indices(header: Header, number: int, path: Path) -> None:
    """Refuse an output that holds class numbers, which cannot be blended.

    Raises:
        ModelError: it is of a whole-number type, or made by ArgMax.
    """
    output = header.outputs[number]
    if output.type in _INTEGERS or header.endings[number] == "ArgMax":
        raise ModelError(
            f"the output {output.name} of {path} holds class numbers ({output.type}, argmax inside the graph)",
            "probabilities or logits, a channel a class, without which overlapping patches cannot be averaged",
            "export the network without its argmax",
        )


def _refuse_smaller(header: Header, output: Port, path: Path) -> None:
    """Refuse what is known to be smaller than the input."""
    axes = header.patch
    if axes is None or len(output.shape) != len(header.input.shape):
        return
    for found in (output.shape[2:], output.shape[1:-1]):
        if all(n is None or n == m for n, m in zip(found, axes, strict=True)):
            return
    raise ModelError(
        f"{path} puts out {_shown(output)} for {_shown(header.input)}",
        "an output as large as its input",
        "pad inside the network, or enlarge its output to the input's size, and export it again",
    )


def _output_channels(header: Header, output: Port) -> int | None:
    if len(output.shape) == len(header.input.shape) - 1:
        return 1
    if len(output.shape) != len(header.input.shape):
        return None
    patch = header.patch
    inner = output.shape[1:-1]
    if patch is not None and inner == patch and output.shape[2:] != patch:
        return output.shape[-1]
    if patch is None and output.shape[1] is None and output.shape[-1] is not None:
        return output.shape[-1]
    return output.shape[1]


def _two(names: tuple[str, ...] | None, outputs: int | None) -> tuple[str, ...] | None:
    """One output channel has two classes: what it shows, and the rest."""
    return ("background", *names) if names is not None and outputs == 1 and len(names) == 1 else names


def _shown(port: Port) -> str:
    return f"{port.type} [{', '.join('?' if n is None else str(n) for n in port.shape)}]"
