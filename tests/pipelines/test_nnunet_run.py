"""A model that nnU-Net trained, run by us, against nnUNetv2_predict on the same volumes, folds and mirrored views."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines import run
from segflow.grid import Grid
from segflow.inmemory import predict
from segflow.models.load import load_model
from segflow.recipe import ModelChoice, parse_recipe
from tests.nnunet import making


@dataclass(frozen=True)
class Trained:
    """A trained model, and what nnU-Net makes of two volumes that it has not seen.

    One is larger than the training's, of several patches on each axis; the other has larger voxels.
    """

    folder: Path
    kind: str

    @property
    def results(self) -> Path:
        return making.results(self.folder, self.kind)

    def recipe(self, out: Path, **model: Any) -> dict[str, Any]:
        names = making.KINDS[self.kind]["dataset"]["channel_names"]
        channels = {name: f"{{case}}_{int(number):04d}.nii.gz" for number, name in names.items()}
        return {
            "kind": "volume",
            "inputs": {"path": str(self.folder / "test"), "channels": channels},
            "references": {"path": str(self.folder / "truth" / "{case}.nii.gz")},
            "model": {"weights": str(self.results), "trust": True, **model},
            "outputs": {"folder": str(out), "confidence": True},
        }


def trained(folder: Path, kind: str) -> Trained:
    made = Trained(folder, kind)
    making.train(folder, kind)
    for name, seed, unlike, larger in (("large", 100, 1.0, 1.4), ("coarse", 101, 1.4, 1.0)):
        channels, labels, affine = making.case(kind, seed, unlike, larger)
        making.write_case(folder / "test" / name, channels, affine)
        (folder / "truth").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(labels, affine), folder / "truth" / f"{name}.nii.gz")
    making.predict(folder, kind, folder / "test", folder / "theirs")
    return made


@pytest.fixture(scope="module")
def mr(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Thick slices, axes stored in an odd order, a margin of zeros: SimpleITK's reader, z-score in the mask."""
    return trained(tmp_path_factory.mktemp("nnunet"), "mr")


def labels_of(path: Path) -> NDArray[np.uint8]:
    return np.asarray(nib.load(path).dataobj)


def require_same(made: Trained, out: Path) -> None:
    """Ask for a Dice of 0.995 in every class of every volume; more is expected and all of it was measured."""
    for name in ("large", "coarse"):
        path = out / f"{name}_dseg.nii.gz"
        ours, theirs = labels_of(path), labels_of(made.folder / "theirs" / f"{name}.nii.gz")
        assert ours.shape == theirs.shape
        truth = labels_of(made.folder / "truth" / f"{name}.nii.gz")
        for label in (0, 1, 2):
            one, two = ours == label, theirs == label
            assert two.sum() > 100  # something was learned, so that there is something to compare
            assert 2 * (one & two).sum() / (one.sum() + two.sum()) >= 0.995, (name, label)
            assert 2 * (two & (truth == label)).sum() / (two.sum() + (truth == label).sum()) > 0.4
        affine = nib.load(made.folder / "test" / f"{name}_0000.nii.gz").affine
        np.testing.assert_array_equal(nib.load(path).affine, affine)


def sweep(made: Trained, out: Path, settings: dict[str, Any] | None = None, **model: Any) -> Path:
    recipe = parse_recipe({**made.recipe(out, **model), **(settings or {})}, made.folder)
    assert run(recipe).exit_code == 0
    return out


def test_labels_are_those_of_nnunet_however_the_volume_is_cut(mr: Trained, tmp_path: Path) -> None:
    whole = sweep(mr, tmp_path / "whole")
    require_same(mr, whole)
    cut = sweep(mr, tmp_path / "cut", {"tiling": {"block": 24}})
    for path in sorted(whole.glob("*.nii.gz")):
        assert path.read_bytes() == (cut / path.name).read_bytes()
    assert not list(tmp_path.glob("*/.segflow/scenes/*"))
    volume = nib.load(mr.folder / "test" / "coarse_0000.nii.gz")
    model = load_model(ModelChoice(weights=str(mr.results), trust=True))
    order = ["ijk".index(letter) for letter in model.card.orientation]
    zooms = tuple(float(volume.header.get_zooms()[axis]) for axis in order)
    array = np.asarray(volume.dataobj).transpose(order)
    found = predict(array, Grid("volume", array.shape, spacing=zooms), model)
    np.testing.assert_array_equal(found.transpose(np.argsort(order)), labels_of(whole / "coarse_dseg.nii.gz"))
    sure = nib.load(whole / "large_confidence.nii.gz").get_fdata()
    assert sure[0, 0, 0] == 255  # outside of the crop
    assert sure.min() > 60


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ct", "slices"])
def test_regions_other_readers_and_two_dimensional_networks_agree_too(
    kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = trained(tmp_path_factory.mktemp(kind), kind)
    require_same(made, sweep(made, made.folder / "out"))
