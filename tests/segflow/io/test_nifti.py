"""Label maps out: on the input's own grid voxel for voxel, with its codes; nibabel and SimpleITK read them alike."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from contextlib import closing
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st

from segflow.errors import InputError, OutputError
from segflow.io import nifti
from segflow.io.nifti import write_byte_nifti, write_label_nifti, write_probability_nifti
from segflow.io.orientation import ORIENTATIONS
from segflow.io.volume import VolumeSpec, compare_volumes, open_volume
from segflow.models.card import LabelClass
from tiling.box import Box

CLASSES = tuple(LabelClass(id=number, name=f"c{number}", colour="#102030") for number in range(4))


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    return np.asarray(nib.eulerangles.euler2mat(*angles))


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Any rotation, any voxel sides, mirrored or not: what a NIfTI header can say in both forms."""
    angle = st.floats(-3.1, 3.1)
    matrix = rotation((draw(angle), draw(angle), draw(angle))) @ np.diag(
        [draw(st.sampled_from([0.3, 1.0, 2.5])) for _ in range(3)]
    )
    if draw(st.booleans()):
        matrix[:, 0] *= -1
    return np.asarray(nib.affines.from_matvec(matrix, [draw(st.floats(-200, 200)) for _ in range(3)]))


def labels_of(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)


def write(path: Path, labels: np.ndarray, source: Path, orientation: str) -> None:
    write_label_nifti(path, lambda box: labels[box.slices], str(source), orientation, CLASSES, description="segflow")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    affine=affines(),
    shape=st.tuples(*[st.integers(2, 7)] * 3),
    codes=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    orientation=st.sampled_from(ORIENTATIONS),
    slab=st.sampled_from([1, 60, 8 << 20]),
    suffix=st.sampled_from([".nii", ".nii.gz"]),
    version=st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]),
)
def test_labels_lie_on_the_inputs_own_voxels_with_its_matrices_and_codes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    affine: np.ndarray,
    shape: tuple[int, int, int],
    codes: tuple[int, int],
    orientation: str,
    slab: int,
    suffix: str,
    version: type[nib.Nifti1Image],
) -> None:
    monkeypatch.setattr(nifti, "_SLAB_BYTES", slab)
    image = version(np.zeros(shape, np.int16), None)
    image.header.set_qform(affine, codes[0])
    image.header.set_sform(affine, codes[1])
    try:
        image.header.get_qform()
    except ValueError:  # half a turn, to the last bit: nibabel cannot read back what it wrote itself
        reject()
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(tmp_path / "in.nii.gz")
    given_header = nib.load(tmp_path / "in.nii.gz").header

    source = open_volume(VolumeSpec(str(tmp_path / "in.nii.gz"), orientation))
    labels = labels_of(source.grid.shape)
    out = tmp_path / f"out{suffix}"
    (tmp_path / "out.nii").unlink(missing_ok=True)  # niftilib reads it in the place of out.nii.gz
    write(out, labels, tmp_path / "in.nii.gz", orientation)

    written = nib.load(out)
    assert type(written.header) is type(given_header)
    assert written.shape == shape
    assert written.get_data_dtype() == np.uint8
    assert (int(written.header["qform_code"]), int(written.header["sform_code"])) == codes
    np.testing.assert_array_equal(written.affine, nib.load(tmp_path / "in.nii.gz").affine)
    np.testing.assert_array_equal(written.header.get_qform(), given_header.get_qform())
    np.testing.assert_array_equal(written.header.get_sform(), given_header.get_sform())
    assert written.header.get_xyzt_units() == ("mm", "sec")
    assert written.header.get_intent()[0] == "label"
    assert (written.dataobj.slope, written.dataobj.inter) == (1.0, 0.0)

    again = open_volume(VolumeSpec(str(out), orientation))
    np.testing.assert_array_equal(again.read(Box.whole(labels.shape)).values[0], labels)
    compare_volumes(source, again)
    if version is nib.Nifti1Image and codes != (0, 0):  # SimpleITK reads no NIfTI-2, and guesses without codes
        _same_for_simpleitk(tmp_path / "in.nii.gz", out, np.asanyarray(written.dataobj))
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def _same_for_simpleitk(source: Path, out: Path, values: np.ndarray) -> None:
    """SimpleITK gives every voxel of both files one physical point, and the labels that nibabel gives."""
    one, two = sitk.ReadImage(str(source)), sitk.ReadImage(str(out))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(two).T, values)
    far = tuple(n - 1 for n in one.GetSize())
    for index in ((0, 0, 0), far, (far[0], 0, 0), (0, far[1], 0), (0, 0, far[2])):
        assert one.TransformIndexToPhysicalPoint(index) == two.TransformIndexToPhysicalPoint(index)
        lps = np.array([-1, -1, 1]) * (nib.load(out).affine @ (*index, 1))[:3]
        np.testing.assert_allclose(two.TransformIndexToPhysicalPoint(index), lps, atol=2e-3)


def test_disagreeing_matrices_are_both_kept(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((3, 4, 5), np.uint8), np.eye(4))
    image.set_qform(np.diag([1.0, 1.0, 2.0, 1.0]), 1)
    image.set_sform(nib.affines.from_matvec(np.diag([1.0, 1.0, 2.0]), (5.0, 0.0, 0.0)), 4)
    image.to_filename(tmp_path / "in.nii")
    write(tmp_path / "out.nii.gz", labels_of((3, 4, 5)), tmp_path / "in.nii", "RAS")
    header = nib.load(tmp_path / "out.nii.gz").header
    np.testing.assert_array_equal(header.get_qform(), image.header.get_qform())
    np.testing.assert_array_equal(header.get_sform(), image.header.get_sform())


def test_equal_labels_give_equal_bytes_without_time_or_name(tmp_path: Path) -> None:
    nib.Nifti1Image(np.zeros((9, 9, 9), np.uint8), np.eye(4)).to_filename(tmp_path / "in.nii.gz")
    for name in ("a.nii.gz", "b.nii.gz"):
        write(tmp_path / name, labels_of((9, 9, 9)), tmp_path / "in.nii.gz", "RAS")
    data = (tmp_path / "a.nii.gz").read_bytes()
    assert data == (tmp_path / "b.nii.gz").read_bytes()
    assert data[3] == 0, "the gzip header has flags: a name or a comment"
    assert data[4:8] == b"\0\0\0\0", "the gzip header has a time"


def test_ids_over_255_are_written_as_uint16(tmp_path: Path) -> None:
    nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4)).to_filename(tmp_path / "in.nii")
    classes = (CLASSES[0], LabelClass(id=1035, name="insula", colour="#FFC020"))
    write_label_nifti(
        tmp_path / "o.nii.gz",
        lambda box: np.full(box.shape, 1035, np.uint16),
        str(tmp_path / "in.nii"),
        "LPS",
        classes,
        description="x" * 200,
    )
    image = nib.load(tmp_path / "o.nii.gz")
    assert image.get_data_dtype() == np.uint16
    assert (np.asanyarray(image.dataobj) == 1035).all()
    assert float(image.header["cal_max"]) == 1035


def test_an_id_of_no_class_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4)).to_filename(tmp_path / "in.nii")
    (tmp_path / "out.nii.gz").write_bytes(b"old")
    with pytest.raises(OutputError, match=r"\[7\]"):
        write(tmp_path / "out.nii.gz", np.full((3, 3, 3), 7, np.uint8), tmp_path / "in.nii", "RAS")
    assert (tmp_path / "out.nii.gz").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_disk_that_loses_bits_is_noticed_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read back is compared with what was meant, not with itself."""
    nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4)).to_filename(tmp_path / "in.nii")
    compare = nifti._require_same

    def spoil(path: Path, part: Path, *rest: object) -> None:
        data = bytearray(part.read_bytes())
        data[-1] ^= 1
        part.write_bytes(bytes(data))
        compare(path, part, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(nifti, "_require_same", spoil)
    with pytest.raises(OutputError, match="not what was written"):
        write(tmp_path / "out.nii", labels_of((3, 3, 3)), tmp_path / "in.nii", "RAS")
    assert not (tmp_path / "out.nii").exists()


def test_freesurfer_input_gets_a_nifti_with_both_codes(tmp_path: Path) -> None:
    affine = nib.affines.from_matvec([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]], (128.0, -127.0, 127.0))
    nib.MGHImage(np.zeros((4, 5, 6), np.uint8), affine).to_filename(tmp_path / "orig.mgz")
    source = open_volume(VolumeSpec(str(tmp_path / "orig.mgz")))
    labels = labels_of(source.grid.shape)
    write(tmp_path / "out.nii.gz", labels, tmp_path / "orig.mgz", "RAS")
    image = nib.load(tmp_path / "out.nii.gz")
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 1)
    np.testing.assert_allclose(image.affine, affine, atol=1e-5)
    np.testing.assert_allclose(image.get_qform(), affine, atol=1e-5)
    compare_volumes(source, open_volume(VolumeSpec(str(tmp_path / "out.nii.gz"))))


def test_channels_of_the_input_do_not_reach_the_output(tmp_path: Path) -> None:
    nib.Nifti1Image(np.zeros((3, 4, 5, 2), np.float32), np.eye(4)).to_filename(tmp_path / "in.nii")
    write_byte_nifti(
        tmp_path / "c.nii.gz",
        lambda box: np.full(box.shape, 255, np.uint8),
        str(tmp_path / "in.nii"),
        "RAS",
        description="confidence",
    )
    image = nib.load(tmp_path / "c.nii.gz")
    assert image.shape == (3, 4, 5)
    assert image.header.get_intent()[0] == "none"
    assert (np.asanyarray(image.dataobj) == 255).all()


def test_writing_holds_one_slab_in_memory(tmp_path: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((256, 256, 1024))
    header.set_data_dtype(np.uint8)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    with gzip.open(tmp_path / "in.nii.gz", "wb", compresslevel=1) as file:
        file.write(header.binaryblock + b"\0" * 4)
    tracemalloc.start()
    write_label_nifti(
        tmp_path / "out.nii.gz",
        lambda box: np.zeros(box.shape, np.uint8),
        str(tmp_path / "in.nii.gz"),
        "LPS",
        CLASSES,
        description="",
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 << 20, "64 MiB of labels were held at once"


REAL = (
    "brain-t1/subject01_t1.nii.gz",
    "brain-t1/brainchop_t1_crop.nii.gz",
    "brain-t1/ch2.nii.gz",
    "brain-t1/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
    "hippocampus/images/hippocampus_003.nii.gz",
)


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_real_volumes_come_back_on_their_own_grid(shared_data: Path, tmp_path: Path, name: str) -> None:
    path = shared_data / name
    image = nib.load(path)
    source = open_volume(VolumeSpec(str(path), "RAS", scratch=str(tmp_path / "scratch")))
    canonical = np.asanyarray(nib.as_closest_canonical(image).dataobj)
    box = Box(tuple(n // 3 for n in source.grid.shape), tuple(n // 2 + 1 for n in source.grid.shape))
    np.testing.assert_array_equal(source.read(box).values[0], canonical[box.slices])

    def threshold(part: Box) -> np.ndarray:
        return (source.read(part).values[0] > 60).astype(np.uint8)

    out = tmp_path / "x_dseg.nii.gz"
    write_label_nifti(out, threshold, str(path), "RAS", CLASSES, description="segflow")
    source.close()
    written = nib.load(out)
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), np.asanyarray(image.dataobj) > 60)
    for field in ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "pixdim"):
        count = 4 if field == "pixdim" else None
        np.testing.assert_array_equal(
            np.atleast_1d(written.header[field])[:count], np.atleast_1d(image.header[field])[:count]
        )
    one, two = sitk.ReadImage(str(path)), sitk.ReadImage(str(out))
    assert one.GetOrigin() == two.GetOrigin()
    assert one.GetDirection() == two.GetDirection()
    assert one.GetSpacing() == two.GetSpacing()


@pytest.mark.real
def test_a_real_reference_lies_where_its_image_does_in_any_reading(shared_data: Path) -> None:
    image = open_volume(VolumeSpec(str(shared_data / "brain-t1/subject01_t1.nii.gz"), "RAS"))
    aseg = open_volume(VolumeSpec(str(shared_data / "brain-t1/subject01_aseg.nii.gz"), "PIR"))
    compare_volumes(image, aseg)
    assert image.notices == ()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spoilt=st.lists(st.tuples(st.integers(40, 351), st.integers(0, 255)), min_size=1, max_size=4))
def test_an_odd_header_that_can_be_read_gets_its_labels_back_on_the_same_voxels(
    tmp_path: Path, spoilt: list[tuple[int, int]]
) -> None:
    """Fields that tools leave wild (codes, units, pixdim[0], calibration) do not spoil the output."""
    data = bytearray(nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag([1.0, 2.0, 3.0, 1.0])).to_bytes())
    for place, value in spoilt:
        data[place] = value
    path = tmp_path / "odd.nii"
    path.write_bytes(bytes(data))
    try:
        source = open_volume(VolumeSpec(str(path)))
    except InputError:
        return
    assume(source.grid.size <= 10_000)
    labels = labels_of(source.grid.shape)
    write(tmp_path / "out.nii.gz", labels, path, "RAS")
    again = open_volume(VolumeSpec(str(tmp_path / "out.nii.gz")))
    compare_volumes(source, again)
    np.testing.assert_array_equal(again.read(Box.whole(labels.shape)).values[0], labels)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    affine=affines(),
    shape=st.tuples(*[st.integers(2, 7)] * 3),
    orientation=st.sampled_from(ORIENTATIONS),
    slab=st.sampled_from([1, 60, 8 << 20]),
)
def test_probabilities_are_read_as_0_to_1_on_the_inputs_grid(
    tmp_path: Path, affine: np.ndarray, shape: tuple[int, int, int], orientation: str, slab: int
) -> None:
    source, path, beside = tmp_path / "in.nii.gz", tmp_path / "in_probseg.nii.gz", tmp_path / "in_probseg.json"
    nib.save(nib.Nifti1Image(np.zeros(shape, np.int16), affine), source)
    with closing(open_volume(VolumeSpec(str(source), orientation))) as volume:
        turned = volume.grid.shape
    values = np.random.default_rng(0).integers(0, 256, (3, *turned)).astype(np.uint8)
    reads = [lambda box, band=band: band[box.slices] for band in values]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nifti, "_SLAB_BYTES", slab)
        write_probability_nifti(path, reads, str(source), orientation, ("a", "b", "ä"), beside=beside)
    image, plain = nib.load(path), nib.load(source)
    assert image.shape == (*shape, 3)
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(image.affine, plain.affine)
    assert json.loads(beside.read_text()) == {"LabelMap": ["a", "b", "ä"]}
    read = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    for number in range(3):
        stored = image.dataobj[..., number]
        alone = tmp_path / "alone.nii.gz"
        write_byte_nifti(alone, reads[number], str(source), orientation, description="x")
        np.testing.assert_allclose(stored, nib.load(alone).get_fdata() / 255, atol=1e-7)
        np.testing.assert_allclose(read[number].transpose(2, 1, 0), stored, atol=1e-6)
