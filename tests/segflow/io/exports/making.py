"""Published label volumes of random geometry, as exporters are given them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from segflow.io.exports import Published
from segflow.io.nifti import write_label_nifti
from segflow.io.volume import VolumeSpec, open_volume
from segflow.models.card import Card, LabelClass

LIVER = LabelClass(
    id=1,
    name="left liver",
    colour="#FF8000",
    codes={
        "category": "SCT 91723000 Anatomical Structure",
        "type": "SCT 10200004 Liver",
        "laterality": "SCT 7771000 Left",
        "region": "SCT 818983003 Abdomen",
    },
)
SPLEEN = LabelClass(
    id=7,
    name="spleen",
    colour="#0080FF",
    codes={"category": "SCT 91723000 Anatomical Structure", "type": "SCT 78961009 Spleen"},
)
REST = LabelClass(id=0, name="rest", colour="#000000")
CODED = (REST, LIVER, SPLEEN)


def card_of(classes: tuple[LabelClass, ...], **changes: Any) -> Card:
    """A card of a volume model with these classes."""
    return Card(
        **{"name": "made-up", "kind": "volume", "classes": classes, "channels": ("t1",), "patch": (8, 8, 8)}, **changes
    )


def publish(
    folder: Path,
    labels: NDArray[Any],
    affine: NDArray[np.float64],
    classes: tuple[LabelClass, ...] = CODED,
    scene: str = "scene",
    source: Path | None = None,
) -> Published:
    """Write a label map as a run does, from a source volume of the same grid, and tell of it."""
    folder.mkdir(parents=True, exist_ok=True)
    if source is None:
        source = folder / f"{scene}_source.nii.gz"
        image = nib.Nifti1Image(np.zeros(labels.shape, np.int16), None)
        image.set_sform(affine, 1)
        image.set_qform(None, 0)
        nib.save(image, source)
    spec = VolumeSpec(str(source), "ijk")
    path = folder / f"{scene}_dseg.nii.gz"
    write_label_nifti(path, lambda box: labels[box.slices], str(source), "ijk", classes, description="segflow test")
    grid = open_volume(spec).grid
    return Published(
        scene=scene,
        folder=folder,
        files={"labels": path},
        grid=grid,
        card=card_of(classes),
        inputs=(str(source),),
        spec=spec,
        nodata=0,
        fingerprint="0" * 64,
        weights_sha256="1" * 64,
    )


def oblique(
    degrees: float, spacing: tuple[float, float, float], origin: tuple[float, float, float]
) -> NDArray[np.float64]:
    """An affine (RAS+) whose axes are turned about all three world axes."""
    angle = np.radians(degrees)
    c, s = np.cos(angle), np.sin(angle)
    turn = (
        np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


def validated(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The issues that the validator finds, and what it saw; it needs no network."""
    program = Path(sys.executable).with_name("bids-validator-deno")
    found = subprocess.run([program, "--format", "json", folder], capture_output=True, text=True, check=False)
    result = json.loads(found.stdout)
    return result["issues"]["issues"], result["summary"]
