"""A run over a DICOM series with everything that radiologists open, on real data where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipelines import run
from pipelines.runner import Outcome
from segflow.models.card import LabelClass
from segflow.recipe import parse_recipe
from tests.conftest import SHARED
from tests.dicoms import write_series
from tests.making import make_model, texture
from tests.segflow.io.exports.making import LIVER, REST, SPLEEN, oblique

WORDS = ("Rosalind", "Franklin", "SECRET-42", "19200725", "Avasarala", "Inevitable", "PGBM", "8701449723783444")
"""Of the patients, in made and in real series."""

EXPORTS = {"bids": True, "seg_nrrd": True, "itksnap": True, "dicom_seg": {"sr": True}}


def made_series(folder: Path) -> Path:
    """Write a series of an oblique volume."""
    values = texture((40, 44, 33), 1, 4)[0].astype(np.int16)
    write_series(folder / "made", values, oblique(15, (1.0, 1.1, 1.2), (5, 6, 7)) @ np.diag([-1.0, -1.0, 1.0, 1.0]))
    return folder / "made"


def made_model(folder: Path, classes: tuple[LabelClass, ...] = (REST, LIVER, SPLEEN)) -> str:
    """Write a small random model whose classes have codes."""
    return str(make_model(folder, kind="volume", classes=classes))


def segmented(folder: Path, inputs: Path, weights: str) -> Outcome:
    """Segment a series into `folder` with all exports."""
    recipe = parse_recipe(
        {
            "kind": "volume",
            "inputs": str(inputs),
            "model": {"weights": weights},
            "outputs": {"folder": str(folder), "name": "scene", **EXPORTS},
        },
        folder.parent,
    )
    return run(recipe)


def best_series(folder: Path) -> tuple[Path, str]:
    """Return a real series and the model that knows its kind; made ones where there is no shared data."""
    if SHARED.is_dir():
        return SHARED / "dicom-mr" / "study1", "builtin:hippocampus"
    return made_series(folder), made_model(folder / "model")
