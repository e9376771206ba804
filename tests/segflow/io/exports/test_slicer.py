"""`.seg.nrrd` and `.ctbl`: read back by other libraries, at the same physical points."""

from __future__ import annotations

import itertools
import tracemalloc
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import slicerio
from hypothesis import given, settings
from hypothesis import strategies as st

from segflow.errors import OutputError
from segflow.io.exports.slicer import SegNrrd, colour_table
from segflow.models.card import LabelClass
from tests.segflow.io.exports.making import CODED, LIVER, oblique, publish


@settings(max_examples=30)
@given(
    shape=st.tuples(*(st.integers(1, 9),) * 3),
    degrees=st.floats(-180, 180),
    spacing=st.tuples(*(st.floats(0.2, 5),) * 3),
    origin=st.tuples(*(st.floats(-200, 200),) * 3),
    flip=st.booleans(),
    wide=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_voxel_lies_where_nibabel_and_simpleitk_put_it(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    degrees: float,
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
    flip: bool,
    wide: bool,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("scene")
    affine = oblique(degrees, spacing, origin) @ np.diag([-1.0 if flip else 1.0, 1.0, 1.0, 1.0])
    classes = (*CODED, LabelClass(id=300, name="far", colour="#123456")) if wide else CODED
    labels = np.random.default_rng(seed).choice([item.id for item in classes], shape).astype(np.uint16)
    published = publish(folder, labels, affine, classes)
    SegNrrd().write(published)
    path = folder / "scene.seg.nrrd"
    reference = nib.load(published.labels)
    values, header = nrrd.read(str(path))
    image = sitk.ReadImage(str(path))
    assert values.dtype == (np.uint16 if wide else np.uint8)
    np.testing.assert_array_equal(values, np.asarray(reference.dataobj))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, np.asarray(reference.dataobj))
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ reference.affine
    for corner in itertools.product(*((0, n - 1) for n in shape)):
        point = (lps @ (*corner, 1))[:3]
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(corner), point, atol=1e-3)
        np.testing.assert_allclose(
            header["space origin"] + np.array(corner) @ header["space directions"], point, atol=1e-4
        )


def test_slicerio_reads_names_colours_extents_and_codes(tmp_path: Path) -> None:
    labels = np.zeros((6, 5, 4), np.uint8)
    labels[1:4, 2, 3] = 1
    SegNrrd().write(publish(tmp_path, labels, oblique(20, (1, 2, 3), (4, 5, 6))))
    found = slicerio.read_segmentation(str(tmp_path / "scene.seg.nrrd"))
    liver, spleen = found["segments"]
    assert (liver["id"], liver["name"], liver["labelValue"], liver["layer"]) == ("Segment_1", "left liver", 1, 0)
    assert liver["extent"] == [1, 3, 2, 2, 3, 3]
    np.testing.assert_allclose(liver["color"], (1.0, 128 / 255, 0.0), atol=1e-5)
    assert liver["terminology"]["category"] == ["SCT", "91723000", "Anatomical Structure"]
    assert liver["terminology"]["type"] == ["SCT", "10200004", "Liver"]
    assert liver["terminology"]["typeModifier"] == ["SCT", "7771000", "Left"]
    assert liver["terminology"]["anatomicRegion"] == ["SCT", "818983003", "Abdomen"]
    assert (spleen["labelValue"], spleen["extent"]) == (7, [0, -1, 0, -1, 0, -1])
    assert found["containedRepresentationNames"] == ["Binary labelmap"]
    part = slicerio.extract_segments(found, [("left liver", 5)])
    assert int((part["voxels"] == 5).sum()) == 3


def test_the_same_label_map_gives_the_same_bytes(tmp_path: Path) -> None:
    labels = np.random.default_rng(1).choice([0, 1, 7], (9, 8, 7)).astype(np.uint8)
    for name in ("one", "two"):
        SegNrrd().write(publish(tmp_path / name, labels, np.eye(4)))
    for name in ("scene.seg.nrrd", "scene.ctbl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_sheared_grid_is_refused_with_the_remedy(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[1, 2] = 0.2
    published = publish(tmp_path, np.zeros((4, 4, 4), np.uint8), affine)
    with pytest.raises(OutputError, match=r"11\.3 degrees off a right angle") as refused:
        SegNrrd().require(published)
    assert "resample" in refused.value.remedy


def test_the_colour_table_has_no_blanks_in_names_and_hides_the_background() -> None:
    assert colour_table("a.ctbl", CODED).splitlines() == [
        "# Color table file a.ctbl",
        "# 3 values",
        "0 rest 0 0 0 0",
        "1 left_liver 255 128 0 255",
        "7 spleen 0 128 255 255",
    ]
    assert colour_table("a.ctbl", (LIVER,)).splitlines()[2] == "0 background 0 0 0 0"


def test_some_planes_are_in_memory_and_not_the_volume(tmp_path: Path) -> None:
    labels = np.zeros((300, 300, 400), np.uint8)
    labels[::50, ::50, ::50] = 1
    published = publish(tmp_path, labels, np.eye(4))
    tracemalloc.start()
    SegNrrd().write(published)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < labels.nbytes / 3
    assert nrrd.read(str(tmp_path / "scene.seg.nrrd"))[0].sum() == labels.sum()


@pytest.mark.parametrize("codes", [(0, 0), (1, 1), (1, 2), (2, 4), (1, 0), (0, 2)])
@pytest.mark.parametrize("unit", ["mm", "micron"])
def test_where_the_header_says_two_things_it_lies_where_slicer_shows_the_image(
    tmp_path: Path, codes: tuple[int, int], unit: str
) -> None:
    """Slicer, by ITK, takes the qform where nibabel takes the sform, and an image without codes it lays elsewhere."""
    image = nib.Nifti1Image(np.zeros((6, 7, 5), np.int16), None)
    image.header.set_zooms((1.0, 1.5, 2.5))
    image.set_qform(oblique(25, (1.0, 1.5, 2.5), (-20, 30, 11)) if codes[0] else None, codes[0], update_affine=False)
    image.set_sform(oblique(-10, (1.0, 1.5, 2.5), (7, 8, 9)) if codes[1] else None, codes[1], update_affine=False)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "source.nii.gz")
    labels = np.random.default_rng(1).choice([0, 1, 7], (6, 7, 5)).astype(np.uint8)
    published = publish(tmp_path, labels, np.eye(4), source=tmp_path / "source.nii.gz")
    SegNrrd().require(published)
    SegNrrd().write(published)
    shown, found = (sitk.ReadImage(str(tmp_path / name)) for name in ("source.nii.gz", "scene.seg.nrrd"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found).T, labels)
    for corner in itertools.product((0, 5), (0, 6), (0, 4)):
        point = shown.TransformIndexToPhysicalPoint(corner)
        np.testing.assert_allclose(found.TransformIndexToPhysicalPoint(corner), point, atol=1e-4)


def test_an_sform_that_is_sheared_is_no_matter_where_slicer_takes_the_qform(tmp_path: Path) -> None:
    sheared = np.diag([1.0, 1.0, 2.0, 1.0])
    sheared[0, 1] = 0.3
    labels = np.ones((4, 5, 6), np.uint8)
    for code, refused in ((4, False), (1, True)):
        image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), None)
        image.set_qform(oblique(25, (1.0, 1.5, 2.5), (-20, 30, 11)), 1)
        image.set_sform(sheared, code)
        nib.save(image, tmp_path / f"{code}.nii.gz")
        published = publish(tmp_path / str(code), labels, np.eye(4), source=tmp_path / f"{code}.nii.gz")
        if refused:
            with pytest.raises(OutputError, match="sheared"):
                SegNrrd().require(published)
        else:
            SegNrrd().require(published)
            SegNrrd().write(published)
            assert sitk.ReadImage(str(published.folder / "scene.seg.nrrd")).GetSize() == (4, 5, 6)
