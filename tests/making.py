"""Inputs and models that tests make for themselves: small, seeded, and of the real formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.transform import Affine
from safetensors.torch import save_file

from segflow.models.card import Card, LabelClass, Normalisation, write_card
from segflow.models.model import Model, full_arguments
from segflow.models.registry import build

COLOURS = ("#222222", "#3C78B4", "#D8A030", "#4C9A50", "#B04848")


def classes(ids: tuple[int, ...]) -> tuple[LabelClass, ...]:
    """Classes of these ids."""
    return tuple(LabelClass(id=i, name=f"class {i}", colour=COLOURS[i]) for i in ids)


def make_model(folder: Path, kind: str = "raster", seed: int = 0, **changes: Any) -> Path:
    """Save a small random U-Net whose output varies from cell to cell, and its card; return the weights' path."""
    raster = kind == "raster"
    card = Card(
        **{
            "name": f"random-{kind}",
            "kind": kind,
            "architecture": "unet",
            "arguments": {"width": 4, "depth": 2},
            "classes": classes((1, 2, 3) if raster else (0, 1, 2)),
            "ignore": (0,) if raster else (),
            "channels": ("red", "green", "blue") if raster else ("t1",),
            "stride": 4,
            "patch": (64, 64) if raster else (32, 32, 32),
            "normalisation": Normalisation(mean=(128.0,), deviation=(40.0,)),
            **changes,
        }
    )
    torch.manual_seed(seed)
    network = build(card.architecture, full_arguments(card))
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.2, 1.0)
            elif value.is_floating_point() and value.ndim > 1:
                value.mul_(2.0)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{card.name}.safetensors"
    save_file(network.state_dict(), path)
    write_card(card, path.with_suffix(".yaml"))
    return path


def texture(shape: tuple[int, ...], channels: int, seed: int) -> NDArray[np.float64]:
    """Smooth blobs with noise, (channel, *shape), from 0 to 255."""
    random = np.random.default_rng(seed)
    out = random.normal(0, 12, (channels, *shape))
    axes = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    for _ in range(6):
        phase, waves = random.uniform(0, 6.3, channels), random.uniform(0.02, 0.2, len(shape))
        angle = sum(w * a for w, a in zip(waves, axes, strict=True))
        out += 25 * np.sin(angle + phase.reshape(-1, *(1,) * len(shape)))
    return np.clip(out + 128, 0, 255)


def write_raster(
    path: Path, shape: tuple[int, int] = (300, 260), seed: int = 1, channels: int = 3, **profile: Any
) -> Path:
    """Write a GeoTIFF in UTM with 0.5 m cells, bands uint8; `hole` in the profile cuts a block of nodata 0."""
    hole = profile.pop("hole", None)
    values = np.clip(texture(shape, channels, seed), 1, 255).astype(np.uint8)
    if hole is not None:
        values[(slice(None), *hole)] = 0
        profile["nodata"] = 0
    settings = {
        "driver": "GTiff",
        "height": shape[0],
        "width": shape[1],
        "count": channels,
        "dtype": "uint8",
        "crs": "EPSG:32633",
        "transform": Affine(0.5, 0, 500000.0, 0, -0.5, 5400000.0),
        "tiled": True,
        "blockxsize": 128,
        "blockysize": 128,
        **profile,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **settings) as file:
        file.write(values)
    return path


def write_labels(path: Path, labels: NDArray[Any], like: Path) -> Path:
    """Write a one-band label raster on the grid of another raster."""
    with rasterio.open(like) as other:
        profile = {"crs": other.crs, "transform": other.transform, "height": other.height, "width": other.width}
    with rasterio.open(path, "w", driver="GTiff", count=1, dtype=labels.dtype.name, **profile) as file:
        file.write(labels, 1)
    return path


def write_volume(path: Path, shape: tuple[int, int, int] = (40, 52, 36), seed: int = 2, axes: str = "RAS") -> Path:
    """Write a T1-like int16 NIfTI with 1 mm voxels in the given orientation."""
    values = texture(shape, 1, seed)[0].astype(np.int16)
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = (-20, -30, -10)
    image = nib.Nifti1Image(values, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image.as_reoriented(turn), path)
    return path


def load(weights: Path) -> Model:
    """The model that `make_model` saved."""
    from segflow.models.card import read_card

    return Model(read_card(weights.with_suffix(".yaml")), weights)
