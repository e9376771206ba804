"""The laws on real scenes: a 34-megapixel aerial mosaic, a georeferenced Landsat scene, a brain."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from tests.making import make_model
from tests.pipelines.test_run import bits, recipe_of, report_of

pytestmark = pytest.mark.real
REPEATS = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return make_model(folder, arguments={"width": 2, "depth": 2}, patch=(256, 256), classes=_classes(), ignore=())


def _classes() -> Any:
    from tests.making import classes

    return classes((0, 1, 2, 3, 4))


def segflow(*words: str) -> dict[str, Any]:
    """Run the command line in a process of its own, so that its memory is its own."""
    command = [sys.executable, "-m", "flows.cli", *words, "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded: dict[str, Any] = json.loads(done.stdout)
    return loaded


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, model: Path, shared_data: Path) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("tile7") / "out"
    tile = shared_data / "aerial-dubai" / "mosaic" / "tile7.tif"
    told = segflow("run", "-m", str(model), "-i", str(tile), "-o", str(folder), "--set", "tiling.block=whole")
    return folder, told["scenes"][0]["report"]


def test_forwards_of_the_mosaic_are_the_lattice_minimum(whole: tuple[Path, dict[str, Any]]) -> None:
    facts = whole[1]["run"]
    assert facts["forwards"] == facts["forwards_minimum"] == 32 * 29


@pytest.mark.parametrize(
    "settings",
    [
        ("tiling.block=1024", "tiling.batch=1"),
        ("tiling.block=1500", "tiling.batch=2"),
        ("tiling.block=auto", "tiling.batch=4", "compute.workers=2"),
    ],
    ids=lambda settings: " ".join(settings),
)
def test_labels_of_the_mosaic_are_byte_identical_however_it_is_cut(
    tmp_path: Path, model: Path, shared_data: Path, whole: tuple[Path, dict[str, Any]], settings: tuple[str, ...]
) -> None:
    tile = shared_data / "aerial-dubai" / "mosaic" / "tile7.tif"
    flags = [word for setting in settings for word in ("--set", setting)]
    segflow("run", "-m", str(model), "-i", str(tile), "-o", str(tmp_path / "out"), *flags)
    assert bits(tmp_path / "out") == bits(whole[0])


def test_memory_does_not_grow_with_the_swept_axis(
    tmp_path: Path, model: Path, shared_data: Path, whole: tuple[Path, dict[str, Any]]
) -> None:
    tile = shared_data / "aerial-dubai" / "mosaic" / "tile7.tif"
    tall = repeated(tile, tmp_path / "tall.vrt")
    told = segflow("run", "-m", str(model), "-i", str(tall), "-o", str(tmp_path / "out"), "--set", "tiling.block=whole")
    ratio = told["scenes"][0]["report"]["run"]["peak_rss_bytes"] / whole[1]["run"]["peak_rss_bytes"]
    print(f"peak memory of {REPEATS} times the rows: {ratio:.3f} of the one")
    assert abs(ratio - 1) < 0.15
    assert told["scenes"][0]["report"]["run"]["forwards"] == told["scenes"][0]["report"]["run"]["forwards_minimum"]


def repeated(tile: Path, path: Path) -> Path:
    """Write a VRT that stacks a raster several times."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(tile) as file:
            width, height, count = file.width, file.height, file.count
    bands = []
    for band in range(1, count + 1):
        sources = "".join(
            f'<SimpleSource><SourceFilename relativeToVRT="0">{tile}</SourceFilename><SourceBand>{band}</SourceBand>'
            f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>'
            f'<DstRect xOff="0" yOff="{k * height}" xSize="{width}" ySize="{height}"/></SimpleSource>'
            for k in range(REPEATS)
        )
        bands.append(f'<VRTRasterBand dataType="Byte" band="{band}">{sources}</VRTRasterBand>')
    path.write_text(f'<VRTDataset rasterXSize="{width}" rasterYSize="{height * REPEATS}">{"".join(bands)}</VRTDataset>')
    return path


def test_the_landsat_scene_keeps_its_place_and_is_scored(tmp_path: Path, shared_data: Path) -> None:
    from pipelines import run

    scene = shared_data / "landsat-nc" / "landsat7_b12345_epsg32119.tif"
    model = make_model(
        tmp_path / "model",
        channels=("blue", "green", "red", "nir", "swir"),
        gsd=28.5,
        classes=_classes(),
        ignore=(5, 6, 7),
    )
    references = {"path": str(shared_data / "landsat-nc" / "landclass96_full_7class.tif")}
    outcome = run(recipe_of(tmp_path / "out", scene, model, references=references))
    assert outcome.exit_code == 0
    report = report_of(tmp_path / "out", scene.stem)
    assert any("EPSG" in notice or "CRS" in notice for notice in report["notices"])
    with rasterio.open(scene) as source, rasterio.open(tmp_path / "out" / f"{scene.stem}_labels.tif") as labels:
        assert labels.crs == source.crs
        assert labels.transform == source.transform
        valid = source.dataset_mask() > 0
        assert ((labels.read(1) == 255) == ~valid).all()
    assert report["overall"]["pixel_accuracy"] is not None
    assert report["classes"][1]["area_m2"] == pytest.approx(report["classes"][1]["pixels"] * 28.5**2, rel=1e-6)


def test_a_brain_in_lia_orientation_comes_back_voxel_for_voxel(tmp_path: Path, shared_data: Path) -> None:
    import nibabel as nib
    import SimpleITK as sitk  # noqa: N813

    from pipelines import run

    scene = shared_data / "brain-t1" / "subject01_t1.nii.gz"
    model = make_model(tmp_path / "model", "volume", arguments={"width": 2, "depth": 2}, patch=(64, 64, 64))
    assert run(recipe_of(tmp_path / "out", scene, model, kind="volume")).exit_code == 0
    source, made = nib.load(scene), nib.load(tmp_path / "out" / "subject01_t1_dseg.nii.gz")
    np.testing.assert_array_equal(source.affine, made.affine)
    assert made.shape == source.shape
    for code in ("qform_code", "sform_code"):
        assert made.header[code] == source.header[code]
    ours, theirs = (sitk.ReadImage(str(path)) for path in (tmp_path / "out" / "subject01_t1_dseg.nii.gz", scene))
    corner = [n - 1 for n in ours.GetSize()]
    np.testing.assert_allclose(
        ours.TransformIndexToPhysicalPoint(corner), theirs.TransformIndexToPhysicalPoint(corner), atol=1e-4
    )
