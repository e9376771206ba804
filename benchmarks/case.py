"""What everyone is measured on: one input, one network with fixed random weights, one lattice of windows."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segflow.models.model import Model

MEAN, DEVIATION = 128.0, 64.0


@dataclass(frozen=True)
class Case:
    """A job: label this input with this network.

    Attributes:
        kind: "raster" (3 bands, uint8, tiled and deflated) or "volume" (one channel, int16, not compressed).
        side: cells along each axis.
        patch: cells of a window along each axis.
        width: channels of the U-Net's first level.
        depth: how often it halves the size.
        classes: channels that it puts out.
        folder: where input, weights and results lie.
    """

    kind: Literal["raster", "volume"]
    side: int
    patch: int
    width: int
    depth: int
    classes: int
    folder: str

    @property
    def axes(self) -> int:
        """2 or 3."""
        return 2 if self.kind == "raster" else 3

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return 3 if self.kind == "raster" else 1

    @property
    def step(self) -> int:
        """Cells from one window to the next: windows overlap by a quarter."""
        return self.patch * 3 // 4

    @property
    def starts(self) -> tuple[int, ...]:
        """Where windows begin along an axis. Sides of ``patch + k * step`` give everyone the same windows."""
        return tuple(range(0, max(1, self.side - self.patch + self.step), self.step))

    @property
    def windows(self) -> int:
        """The least number of windows that cover the input."""
        return len(self.starts) ** self.axes

    @property
    def megacells(self) -> float:
        """Millions of pixels or voxels."""
        return self.side**self.axes / 1e6

    @property
    def name(self) -> str:
        """Tells cases apart."""
        return f"{self.kind}-{self.side}-{self.patch}-{self.width}x{self.depth}"

    @property
    def input(self) -> Path:
        """The image."""
        return Path(self.folder) / (f"{self.kind}-{self.side}" + (".tif" if self.kind == "raster" else ".nii"))

    @property
    def weights(self) -> Path:
        """The weights, with their card beside them."""
        return Path(self.folder) / f"unet-{self.axes}d-{self.patch}-{self.width}x{self.depth}.safetensors"

    def save(self) -> Path:
        """Write the case, for a process of its own, and return where."""
        path = Path(self.folder) / f"{self.name}.json"
        path.write_text(json.dumps(asdict(self)))
        return path


def read_case(path: Path) -> Case:
    """Read what `Case.save` wrote."""
    return Case(**json.loads(path.read_text()))


def make(case: Case) -> None:
    """Make the input and the weights, where they are not there yet."""
    if not case.weights.exists():
        _make_weights(case)
    if not case.input.exists():
        _make_raster(case) if case.kind == "raster" else _make_volume(case)


def model_of(case: Case) -> Model:
    """Return the model, as segflow loads it."""
    from segflow.models.card import read_card

    return Model(read_card(case.weights.with_suffix(".yaml")), case.weights)


def recipe_of(case: Case, folder: Path, settings: dict[str, Any]) -> Any:
    """Return segflow's recipe of the case, with settings such as ``{"compute.precision": "int8"}`` over it."""
    from segflow.recipe import parse_recipe

    plain = {
        "kind": case.kind,
        "inputs": str(case.input),
        "model": {"weights": str(case.weights)},
        "outputs": {"folder": str(folder)},
    }
    return parse_recipe(plain, Path(case.folder), settings, "the benchmark")


def _make_weights(case: Case) -> None:
    import torch
    from safetensors.torch import save_file

    from segflow.models.card import Card, LabelClass, Normalisation, write_card
    from segflow.models.model import full_arguments
    from segflow.models.registry import build

    card = Card(
        name=case.weights.stem,
        kind=case.kind,
        architecture="unet",
        arguments={"width": case.width, "depth": case.depth},
        classes=tuple(LabelClass(id=i, name=f"class {i}", colour=f"#80{40 * i:02x}80") for i in range(case.classes)),
        channels=("red", "green", "blue")[: case.channels],
        normalisation=Normalisation(mean=(MEAN,), deviation=(DEVIATION,)),
        stride=2**case.depth,
        patch=(case.patch,) * case.axes,
        overlap=0.25,
    )
    torch.manual_seed(0)
    save_file(build("unet", full_arguments(card)).state_dict(), case.weights)
    write_card(card, case.weights.with_suffix(".yaml"))


def _slab(case: Case, random: np.random.Generator, rows: int) -> NDArray[np.int16]:
    """Return rows (channel, rows, ...) of blobs with a little noise: what is smooth at some scale, as images are."""
    shape = (rows,) + (case.side,) * (case.axes - 1)
    coarse = random.integers(0, 240, (case.channels, *(-(-n // 16) for n in shape)), np.int16)
    for axis in range(1, 1 + case.axes):
        coarse = np.repeat(coarse, 16, axis)
    blobs = coarse[(slice(None), *(slice(0, n) for n in shape))]
    blobs += random.integers(0, 8, blobs.shape, np.int16)
    return blobs


def _make_raster(case: Case) -> None:
    import rasterio

    random = np.random.default_rng(0)
    profile = {"driver": "GTiff", "width": case.side, "height": case.side, "count": 3, "dtype": "uint8"}
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 4e5, 0, -0.5, 5e6)}
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "photometric": "RGB"}
    with rasterio.open(case.input, "w", **profile, **place, **tiles) as file:
        for top in range(0, case.side, 512):
            rows = min(512, case.side - top)
            part = _slab(case, random, rows).astype(np.uint8)
            file.write(part, window=rasterio.windows.Window(0, top, case.side, rows))


def _make_volume(case: Case) -> None:
    import nibabel

    values = _slab(case, np.random.default_rng(0), case.side)[0]
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 1.0, 1.0, 1.0])), case.input)
