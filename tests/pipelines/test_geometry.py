"""The geometry contract: what files say of where they lie is read back and compared, and told in words."""

from __future__ import annotations

import html
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import Affine

from pipelines import run
from pipelines.evaluate import evaluate
from pipelines.publishing.geometry import contract
from segflow.grid import Grid
from segflow.io.geometry import Placement, apart, place_of_raster, place_of_volume
from segflow.io.orientation import ORIENTATIONS
from segflow.recipe import parse_recipe
from segflow.report import GeometryReport, from_json
from segflow.report.facts import geometry_section
from tests.dicoms import write_series
from tests.making import make_model, write_raster, write_volume
from tests.segflow.io.test_dicom_series import affine_of, volume

SHAPE = (5, 6, 7)


def save(path: Path, affine: np.ndarray, shape: tuple[int, int, int] = SHAPE, codes: tuple[int, int] = (1, 1)) -> str:
    image = nib.Nifti1Image(np.zeros(shape, np.uint8), affine)
    image.set_qform(affine, codes[0])
    image.set_sform(affine, codes[1])
    image.to_filename(path)
    return str(path)


def of(*paths: str) -> GeometryReport:
    places = [(path, place_of_volume(path)) for path in paths]
    return contract(places[0], places[1], places[2] if len(places) > 2 else None)


@pytest.mark.parametrize("orientation", ORIENTATIONS[::5])
def test_files_on_one_grid_agree_in_whatever_orientation_they_are_stored(tmp_path: Path, orientation: str) -> None:
    one = write_volume(tmp_path / "a.nii.gz", (5, 6, 7))
    two = write_volume(tmp_path / "b.nii.gz", (5, 6, 7), axes=orientation)
    found = of(str(one), str(two))
    assert found.agrees
    assert (found.files[0].orientation, found.files[1].orientation) == ("RAS", orientation)
    turned = "".join(nib.aff2axcodes(nib.load(two).affine))
    assert turned == orientation
    right = np.linalg.det(nib.load(two).affine[:3, :3]) > 0
    assert found.files[1].handedness == ("right" if right else "left")


@given(moved=st.tuples(*[st.floats(-5, 5)] * 3))
def test_the_distance_is_how_far_a_corner_moves(moved: tuple[float, float, float]) -> None:
    one = Grid("volume", SHAPE, tuple(affine_of()[:3].ravel()))
    shifted = affine_of()
    shifted[:3, 3] += moved
    first, second = Placement(one.shape, one.matrix), Placement(one.shape, shifted)
    assert apart(first, second) == pytest.approx(float(np.linalg.norm(moved)), abs=1e-9)


def test_a_reference_that_lies_elsewhere_is_told_with_its_distance(tmp_path: Path) -> None:
    one = save(tmp_path / "a.nii.gz", affine_of())
    moved = affine_of()
    moved[0, 3] += 1.5
    found = of(one, one, save(tmp_path / "c.nii.gz", moved))
    assert not found.agrees
    assert found.verdict == "Not on the input's voxels: the reference lies up to 1.5 mm off."
    other = of(one, save(tmp_path / "d.nii.gz", affine_of(), (5, 6, 8)))
    assert "the output has another grid (5 x 6 x 8)" in other.verdict
    assert "⚠" in geometry_section(other)


def test_two_label_maps_that_are_compared_tell_where_they_lie(tmp_path: Path) -> None:
    one = write_volume(tmp_path / "a.nii.gz", (5, 6, 7))
    two = write_volume(tmp_path / "b.nii.gz", (5, 6, 7), axes="LPS")
    for path in (one, two):
        image = nib.load(path)
        nib.Nifti1Image(np.ones(image.shape, np.uint8), image.affine).to_filename(path)
    found = evaluate(str(one), str(two)).geometry
    assert found is not None
    assert [item.role for item in found.files] == ["output", "reference"]
    assert found.verdict == (
        "Reference lies on the output's voxels exactly. The reference is stored LPS, the output RAS."
    )
    assert "From the output" in geometry_section(found)


def test_a_qform_that_disagrees_with_the_sform_is_told_in_mm(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", affine_of())
    image = nib.load(path)
    moved = affine_of()
    moved[2, 3] += 3.0
    image.set_qform(moved, 2)
    image.to_filename(tmp_path / "b.nii.gz")
    found = of(str(tmp_path / "b.nii.gz"), str(tmp_path / "b.nii.gz"))
    assert found.files[0].forms_apart_mm == pytest.approx(3.0, abs=1e-3)
    assert (found.files[0].qform_code, found.files[0].sform_code) == (2, 1)
    assert "up to 3 mm apart; the sform was used" in found.verdict


def test_rasters_are_compared_in_cells_and_by_their_crs() -> None:
    affine = (10.0, 0.0, 500000.0, 0.0, -10.0, 4000000.0)
    utm, state = (rasterio.crs.CRS.from_epsg(code).to_wkt() for code in (32633, 32119))
    one, same, moved = (
        place_of_raster(Grid("raster", (40, 30), values, crs))
        for values, crs in (
            (affine, utm),
            (affine, state),
            ((10.0, 0.0, 500005.0, 0.0, -10.0, 4000000.0), utm),
        )
    )
    assert (one.orientation, one.crs, one.spacing) == ("north up", "EPSG:32633", (10.0, 10.0))
    found = contract(("a", one), ("b", one), ("c", same))
    assert found.agrees
    assert "input EPSG:32633, output EPSG:32633, reference EPSG:32119" in found.verdict
    assert (
        contract(("a", one), ("b", moved), None).verdict
        == "Not on the input's cells: the output lies up to 0.5 cells off."
    )
    nowhere = place_of_raster(Grid("raster", (40, 30)))
    assert contract(("a", nowhere), ("b", nowhere), None).agrees


def test_a_run_on_a_volume_tells_where_its_files_lie(tmp_path: Path) -> None:
    write_series(tmp_path / "case", volume(shape=(20, 18, 16)), affine_of())
    weights = make_model(tmp_path, "volume")
    recipe = {"kind": "volume", "inputs": "case", "model": {"weights": str(weights)}, "outputs": {"folder": "out"}}
    assert run(parse_recipe(recipe, tmp_path)).exit_code == 0
    (written,) = (tmp_path / "out").glob("*_report.json")  # named by a hash, as folders may be called after patients
    report = from_json(written.read_text())
    assert report.geometry is not None
    assert report.geometry.agrees
    source, output = report.geometry.files
    assert (output.qform_code, output.sform_code, source.qform_code) == (1, 1, None)
    assert source.orientation == output.orientation
    assert "lies on the input's voxels" in html.unescape(written.with_suffix(".html").read_text())


def test_a_run_on_a_raster_tells_where_its_files_lie(tmp_path: Path) -> None:
    write_raster(tmp_path / "x.tif", (40, 50), transform=Affine(2, 0, 1000, 0, -2, 2000), crs="EPSG:32633")
    weights = make_model(tmp_path)
    recipe = {"kind": "raster", "inputs": "x.tif", "model": {"weights": str(weights)}, "outputs": {"folder": "out"}}
    assert run(parse_recipe(recipe, tmp_path)).exit_code == 0
    report = from_json((tmp_path / "out" / "x_report.json").read_text())
    assert report.geometry is not None
    assert report.geometry.verdict == "Output lies on the input's cells exactly."
    assert [item.crs for item in report.geometry.files] == ["EPSG:32633"] * 2
