"""`torch.export` (.pt2): a graph of ATen operations with its weights.

`torch.export.load` unpickles: constants and example inputs may be any Python object, and symbolic sizes are expressions
that are evaluated. So a .pt2 file is loaded with `--trust` only; ONNX is the same graph without that.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from segflow.errors import ModelError, first_line
from segflow.models.card import Card
from segflow.models.formats.described import Described

if TYPE_CHECKING:
    from torch.export import ExportedProgram

Shape = tuple[int | None, ...]


def files(path: Path) -> tuple[Path, ...]:
    """Return the file itself."""
    return (path,)


def describe(path: Path, trust: bool) -> Described:
    """Read shapes if the file is trusted; nothing else is safe to read.

    Raises:
        ModelError: it does not take one batch of rasters or volumes.
    """
    if not trust:
        note = "a torch.export program; it is read with --trust only, since reading it unpickles Python objects"
        return Described("export", path, graph=True, needs_trust=True, notes=(note,))
    inward, outward = _shapes(_load(path), path)
    patch = _fixed(inward)
    outputs = outward[1] if len(outward) == len(inward) else None
    return Described(
        "export",
        path,
        kind="raster" if len(inward) == 4 else "volume",
        channels=inward[1],
        outputs=outputs,
        patch=patch,
        batch=inward[0],
        wished_patch=patch,
        graph=True,
        needs_trust=True,
        notes=(f"input {_shown(inward)}, output {_shown(outward)}",),
    )


def network(path: Path, card: Card, trust: bool) -> nn.Module:
    """Return the program as a module.

    Raises:
        ModelError: it is not trusted, is broken, or takes other channels than the card says.
    """
    if not trust:
        raise ModelError(
            f"{path} is a torch.export file, which can run any code when it is read (it holds pickled Python objects)",
            "a file that you trust, or ONNX",
            "--trust, or model.trust: true, if you trust whoever made it; else ask for ONNX (torch.onnx.export)",
        )
    program = _load(path)
    inward, _ = _shapes(program, path)
    if len(inward) != (4 if card.kind == "raster" else 5) or inward[1] not in (None, len(card.channels)):
        raise ModelError(
            f"{path} takes {_shown(inward)}",
            f"{len(card.channels)} channels ({', '.join(card.channels)}) of a {card.kind}, as the card or recipe says",
            "correct channels and kind there; they cannot be changed in the file",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = program.module(check_guards=False)
    return ExportedNetwork(module, inward[0], _fixed(inward))


class ExportedNetwork(nn.Module):
    """A program of `torch.export`, also where it takes one batch size only.

    Args:
        program: the module.
        batch: the batch size that it takes; None: any.
        patch: the patch that it takes; None: any.
    """

    def __init__(self, program: nn.Module, batch: int | None, patch: tuple[int, ...] | None) -> None:
        super().__init__()
        self.program = program
        self.fixed_patch = patch
        self._batch = batch

    def eval(self) -> ExportedNetwork:
        """Do nothing: a program has the mode that it was exported in."""
        return self

    def train(self, mode: bool = True) -> ExportedNetwork:
        """Do nothing: a program has the mode that it was exported in."""
        return self

    def forward(self, x: Tensor) -> Any:
        """Run the program on parts of its batch size, the last one filled up."""
        size = self._batch or x.shape[0]
        parts = [self._run(x[start : start + size], size) for start in range(0, x.shape[0], size)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _run(self, x: Tensor, size: int) -> Any:
        rows = x.shape[0]
        if rows == size:
            return self.program(x)
        result = self.program(torch.cat((x, x[-1:].expand(size - rows, *x.shape[1:]))))
        if not isinstance(result, Tensor):
            raise ModelError(
                f"the program has several outputs and takes batches of {size}", "one of both", "export it with batch 1"
            )
        return result[:rows]


def _load(path: Path) -> ExportedProgram:
    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.ERROR)  # of a broken file it warns with whole tracebacks
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.load(str(path))
    except Exception as error:
        raise ModelError(
            f"{path} is not a torch.export file that can be read: {first_line(error)}",
            "what torch.export.save writes, of this PyTorch or an older one",
            "copy it again, or export it again with the PyTorch that is installed here",
        ) from error
    finally:
        log.setLevel(level)


def _shapes(program: ExportedProgram, path: Path) -> tuple[Shape, Shape]:
    names = program.graph_signature.user_inputs
    inputs = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    outputs = next(node for node in program.graph.nodes if node.op == "output").args[0]
    shapes = [_shape(node) for node in (*inputs, *outputs[:1])]
    if len(inputs) != 1 or len(shapes) != 2 or len(shapes[0]) not in (4, 5):
        raise ModelError(
            f"{path} takes {', '.join(_shown(shape) for shape in shapes[: len(inputs)]) or 'nothing'}",
            "one input of 4 axes (batch, channel, y, x) or 5",
            "export the network with one batch of patches as its example",
        )
    return shapes[0], shapes[1]


def _shape(node: Any) -> Shape:
    value = getattr(node, "meta", {}).get("val")
    sizes = getattr(value, "shape", ())
    return tuple(n if isinstance(n, int) else None for n in sizes)


def _fixed(shape: Shape) -> tuple[int, ...] | None:
    found = tuple(n for n in shape[2:] if n is not None)
    return found if len(found) == len(shape) - 2 else None


def _shown(shape: Shape) -> str:
    return "[" + ", ".join("?" if n is None else str(n) for n in shape) + "]"
