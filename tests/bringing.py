"""What tests of brought models share: one network, saved in every format by the library that the format is of."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from segflow.models.card import LabelClass, Normalisation
from segflow.models.registry import build
from segflow.recipe import ModelChoice

CLASSES = tuple(
    LabelClass(id=i, name=f"class {i}", colour=c) for i, c in ((1, "#FF0000"), (2, "#00FF00"), (3, "#0000FF"))
)
NORMALISATION = Normalisation(mean=(128.0,), deviation=(40.0,))
ARGUMENTS = {"in_channels": 3, "out_channels": 3, "width": 4, "depth": 2}


class Last(nn.Module):
    """A network that takes and gives its channels last."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Move the channels to and fro."""
        result: Tensor = self.inner(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return result


class Ended(nn.Module):
    """A network with something behind it."""

    def __init__(self, inner: nn.Module, end: str) -> None:
        super().__init__()
        self.inner, self.end = inner, end

    def forward(self, x: Tensor) -> Tensor:
        """Run both."""
        y: Tensor = self.inner(x)
        if self.end == "softmax":
            return y.softmax(1)
        if self.end == "sigmoid":
            return y[:, :1].sigmoid()
        if self.end == "argmax":
            return y.argmax(1)
        if self.end == "crop":
            return y[:, :, 4:-4, 4:-4]
        return y


class Plain(nn.Module):
    """A small network of plain layers, which TorchScript can compile."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 6, 3, padding=1)
        self.two = nn.Conv2d(6, 6, 3, padding=1, stride=2)
        self.up = nn.ConvTranspose2d(6, 3, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Return three channels as large as x."""
        return self.up(torch.relu(self.two(torch.relu(self.one(x)))))


class Writes(nn.Module):
    """A network that makes a file when it is run."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """Add what the file holds."""
        return x + torch.from_file(self.name, True, 1)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Leave out what exporters print and warn of."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def network(seed: int = 0) -> nn.Module:
    """A lively U-Net in evaluation mode."""
    torch.manual_seed(seed)
    made = build("unet", ARGUMENTS)
    with torch.no_grad():
        for name, value in made.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.2, 1.0)
            elif value.is_floating_point() and value.ndim > 1:
                value.mul_(2.0)
    return made.eval()


def save_state(module: nn.Module, path: Path, prefix: str = "") -> Path:
    """Save safetensors."""
    save_file({prefix + key: value.clone() for key, value in module.state_dict().items()}, path)
    return path


def to_onnx(module: nn.Module, path: Path, shape: tuple[int, ...] = (1, 3, 64, 64), **options: Any) -> Path:
    """Export by the older exporter, sizes as in the shape unless `dynamic_axes` opens them."""
    with quietly():
        torch.onnx.export(
            module, (torch.zeros(shape),), str(path), dynamo=False, input_names=["x"], output_names=["y"], **options
        )
    return path


OPEN = {"dynamic_axes": {"x": {0: "batch", 2: "height", 3: "width"}, "y": {0: "batch", 2: "height", 3: "width"}}}


def add_metadata(path: Path, values: Mapping[str, Any]) -> Path:
    """Write metadata as Deepness's documentation shows: each value as JSON."""
    model = onnx.load(path)
    for key, value in values.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, json.dumps(value)
    onnx.save(model, path)
    return path


def choose(path: Path | str | tuple[str, ...], **keys: Any) -> ModelChoice:
    """A choice with classes and normalisation, as a recipe for a file without a card says."""
    weights = path if isinstance(path, tuple) else str(path)
    return ModelChoice(weights=weights, **{"classes": CLASSES, "normalisation": NORMALISATION, **keys})


def states(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file."""
    return dict(load_file(path))
