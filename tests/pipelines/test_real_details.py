"""Measures of real labels: MONAI's and DeepMind's on hippocampi, scipy's on a land cover map."""

from __future__ import annotations

import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import rasterio
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import binary_dilation, binary_erosion, median_filter
from surface_distance import metrics as deepmind

from pipelines.evaluate import evaluate
from segflow.recipe import Report

pytestmark = pytest.mark.real


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # MONAI calls itself so
def test_hippocampi_have_the_distances_of_monai_and_nearly_deepmind_s(shared_data: Path, tmp_path: Path) -> None:
    """A reader who draws the anterior part a voxel too large, and cuts the posterior one short."""
    for path in sorted((shared_data / "hippocampus" / "labels").glob("*.nii.gz"))[:4]:
        image = nib.load(path)
        truth = np.asarray(image.dataobj).astype(np.uint8)
        drawn = truth.copy()
        drawn[binary_dilation(truth == 1) & (truth == 0)] = 1
        drawn[(truth == 2) & (np.arange(truth.shape[1]) < np.flatnonzero((truth == 2).any((0, 2)))[3])[:, None]] = 0
        nib.save(nib.Nifti1Image(drawn, image.affine), tmp_path / path.name)
        details = evaluate(str(tmp_path / path.name), str(path), measures=Report(tolerance_mm=2.0)).details
        assert details is not None
        spacing = tuple(map(float, image.header.get_zooms()))
        one, two = (
            torch.as_tensor(np.stack([labels == c for c in range(3)])[None].astype(np.float32))
            for labels in (drawn, truth)
        )
        far = compute_hausdorff_distance(one, two, percentile=95, spacing=spacing)[0]
        near = compute_surface_dice(one, two, class_thresholds=[2.0, 2.0], spacing=spacing)[0]
        for code in (1, 2):
            found = details.classes[code].surface
            assert found is not None
            assert found.hd95_max == pytest.approx(float(far[code - 1]), rel=1e-5)
            assert found.nsd == pytest.approx(float(near[code - 1]), rel=1e-5)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # it asks scipy for names that moved
                theirs = deepmind.compute_surface_distances(truth == code, drawn == code, spacing)
            assert found.hd95_max == pytest.approx(deepmind.compute_robust_hausdorff(theirs, 95), abs=1.8)
            assert found.nsd == pytest.approx(deepmind.compute_surface_dice_at_tolerance(theirs, 2.0), abs=0.05)


def test_a_land_cover_map_has_scipy_s_boundary_regions(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "landsat-nc" / "landclass96_full_7class.tif"
    with rasterio.open(path) as file:
        truth, profile, nodata = file.read(1), file.profile, file.nodata
    smooth = median_filter(truth, 5)
    with rasterio.open(tmp_path / "smooth.tif", "w", **profile) as file:
        file.write(smooth, 1)
    details = evaluate(str(tmp_path / "smooth.tif"), str(path), measures=Report(boundary_cells=3)).details
    assert details is not None
    void = (truth == nodata) | (smooth == nodata) if nodata is not None else np.zeros(truth.shape, bool)
    void |= np.isnan(truth) | np.isnan(smooth) if truth.dtype.kind == "f" else False
    for item in details.classes:
        regions = []
        for labels in (truth, smooth):
            mask = (labels == item.id) & ~void
            regions.append(mask & ~binary_erosion(mask, np.ones((3, 3)), iterations=3))
        assert item.boundary is not None
        assert item.boundary.iou == pytest.approx((regions[0] & regions[1]).sum() / (regions[0] | regions[1]).sum())
    assert details.surface is not None
    assert details.surface.unit == "m"
    assert details.surface.tolerance == pytest.approx(28.5)
    assert details.tiles is not None
    assert sum(map(sum, details.tiles.cells)) == (~void).sum()
