"""The built-in models do what their cards say, on cases that they were not trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segflow.io.volume import VolumeSpec, open_volume
from segflow.models.load import builtin
from segflow.training.split import deal
from tiling import Box


@pytest.mark.real
def test_hippocampus_finds_both_parts_in_cases_of_the_fold_that_was_held_back(shared_data: Path) -> None:
    import segflow

    model = builtin("hippocampus")
    held = model.card.training["held_back"]
    files = sorted((shared_data / "hippocampus" / "images").glob("*.nii.gz"))
    folds = deal([f"images/{path.name.removesuffix('.nii.gz')}" for path in files], held["folds"], 0)
    unseen = [path for path, fold in zip(files, folds, strict=True) if fold == held["fold"]]
    assert len(unseen) == 52
    dice: list[list[float]] = []
    for path in unseen[::13]:
        image, label = (
            open_volume(VolumeSpec(str(place), model.card.orientation))
            for place in (path, path.parents[1] / "labels" / path.name)
        )
        whole = Box.whole(image.grid.shape)
        found = segflow.predict(image.read(whole).values, image.grid, model)
        truth = label.read(whole).values[0]
        dice.append(
            [2 * np.sum((found == k) & (truth == k)) / (np.sum(found == k) + np.sum(truth == k)) for k in (1, 2)]
        )
    assert np.mean(dice, axis=0) == pytest.approx([0.886, 0.873], abs=0.03)
