"""An nnU-Net results folder on the command line: what is refused, with exit code 2 and a remedy, and what runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from tests.nnunet.planned import write_fold, write_plans

NAME = "nnUNetTrainer__nnUNetPlans__3d_fullres"


def cut_plans(folder: Path) -> None:
    (folder / "plans.json").unlink()


def cut_folds(folder: Path) -> None:
    (folder / "fold_0" / "checkpoint_final.pth").unlink()


def cascade(folder: Path) -> None:
    path = folder / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(path, weights_only=False)
    torch.save({**checkpoint, "init_args": {"configuration": "3d_cascade_fullres"}}, path)


@pytest.fixture
def volume(making: Any) -> Any:
    """A recipe's surroundings: a volume with a margin of zeros, and a results folder of random weights."""
    write_fold(write_plans(making.folder / NAME))
    values = np.zeros((12, 20, 17), np.float32)
    values[2:, 3:-4, 1:-1] = np.random.default_rng(0).uniform(5, 200, (10, 13, 15))
    nib.save(nib.Nifti1Image(values, np.diag([-3.2, 0.9, 0.8, 1.0])), making.folder / "a.nii.gz")
    return making


@pytest.mark.parametrize(("spoil", "said"), [(cut_plans, "there is no plans.json"), (cut_folds, "fold_X"),
                                             (cascade, "second stage of a cascade")])  # fmt: skip
def test_what_cannot_be_run_exits_2_and_leaves_nothing(
    spoil: Callable[[Path], None], said: str, volume: Any, segflow: Any
) -> None:
    spoil(volume.folder / NAME)
    path = volume.recipe(kind="volume", inputs="a.nii.gz", model={"weights": NAME})
    result = segflow("run", path, "--trust")
    assert result.code == 2
    assert said in result.err
    assert "  remedy: " in result.err
    assert not (volume.folder / "out").exists()


@pytest.mark.parametrize("arguments", [{"folds": [3]}, {"mirror": [5]}])
def test_folds_and_mirror_axes_that_are_not_there_exit_2(arguments: dict[str, Any], volume: Any, segflow: Any) -> None:
    path = volume.recipe(kind="volume", inputs="a.nii.gz", model={"weights": NAME, "arguments": arguments})
    assert segflow("run", path, "--trust").code == 2


def test_without_trust_it_is_refused_and_with_it_it_runs(volume: Any, segflow: Any) -> None:
    path = volume.recipe(kind="volume", inputs="a.nii.gz", model={"weights": NAME})
    result = segflow("run", path)
    assert result.code == 2
    assert "can run any code" in result.err
    assert "--trust" in result.err
    assert not (volume.folder / "out").exists()
    result = segflow("run", path, "--trust")
    assert result.code == 0, result.err
    found = nib.load(volume.folder / "out" / "a_dseg.nii.gz")
    assert found.shape == (12, 20, 17)
    assert not np.asarray(found.dataobj)[:2].any()
    assert segflow("run", path, "--trust", "--json").json["scenes"][0]["state"] == "unchanged"


def test_overrides_that_would_not_be_heeded_are_refused(volume: Any, segflow: Any) -> None:
    for override in ({"scale": 2.0}, {"normalisation": {"source": "scene"}}):
        path = volume.recipe(kind="volume", inputs="a.nii.gz", model={"weights": NAME, "trust": True, **override})
        result = segflow("run", path)
        assert result.code == 2
        assert "prepared as a whole" in result.err


def test_mirroring_twice_is_refused(volume: Any, segflow: Any) -> None:
    path = volume.recipe(kind="volume", inputs="a.nii.gz", model={"weights": NAME, "trust": True, "tta": "mirror"})
    result = segflow("run", path)
    assert result.code == 2
    assert "model.arguments.mirror" in result.err
