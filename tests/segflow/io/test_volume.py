"""Volumes: what is read equals nibabel's whole array, sliced; broken and odd headers are named."""

from __future__ import annotations

import gzip
import pickle
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from segflow.errors import GridMismatchError, InputError, OutputError
from segflow.io import volume_file
from segflow.io.orientation import ORIENTATIONS
from segflow.io.source import Source
from segflow.io.volume import VolumeSpec, compare_volumes, open_volume
from tiling.box import Box

DTYPES = ("u1", "i1", "<i2", ">i2", "<u2", "<i4", ">f4", "<f4", "<f8", "<u4")


def affine_of(orientation: str) -> np.ndarray:
    """An affine of a file stored in an orientation: unequal voxel sides, a small tilt, an origin."""
    tilt = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.1, -0.05, 0.08), (-12.5, 30.0, 7.25))
    return tilt @ np.diag([1.5, 2.0, 0.75, 1.0]) @ inv_ornt_aff(axcodes2ornt(tuple(orientation)), (5, 6, 7))


def save(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.Nifti1Image(values, np.diag([1.0, 1.0, 1.0, 1.0]) if affine is None else affine).to_filename(path)
    return path


def rewrite_header(path: Path, **fields: object) -> None:
    """Set raw header fields of an uncompressed NIfTI-1 file, as a careless tool would."""
    data = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(data[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + bytes(data[348:]))


@st.composite
def volumes(draw: st.DrawFn) -> tuple[np.ndarray, str, str]:
    shape = tuple(draw(st.integers(1, 7)) for _ in range(3))
    channels = draw(st.sampled_from([(), (1,), (3,)]))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 100, (*shape, *channels)).astype(dtype)
    return values, draw(st.sampled_from(ORIENTATIONS)), draw(st.sampled_from([".nii", ".nii.gz", ".mgz"]))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(volume=volumes(), wanted=st.sampled_from(ORIENTATIONS), run=st.sampled_from([1, 16, 4 << 20]), data=st.data())
def test_a_box_equals_nibabels_whole_array_sliced(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    volume: tuple[np.ndarray, str, str],
    wanted: str,
    run: int,
    data: st.DataObject,
) -> None:
    values, stored, suffix = volume
    monkeypatch.setattr(volume_file, "_RUN_BYTES", run)
    path = tmp_path / f"v{suffix}"
    if suffix == ".mgz":
        if values.dtype.str[1:] not in ("u1", "i4", "f4", "i2"):
            values = values.astype(np.int16)
        values = values[..., 0] if values.shape[3:] == (1,) else values
        image = nib.MGHImage(values.astype(values.dtype.newbyteorder(">")), affine_of(stored))
    else:
        image = nib.Nifti1Image(values, affine_of(stored), dtype=values.dtype)
    image.to_filename(path)
    loaded = nib.load(path)
    oracle = loaded.as_reoriented(ornt_transform(nib.io_orientation(loaded.affine), axcodes2ornt(tuple(wanted))))
    whole = np.asanyarray(oracle.dataobj)
    whole = whole[None] if whole.ndim == 3 else np.moveaxis(whole, -1, 0)

    source = open_volume(VolumeSpec(str(path), wanted))
    assert isinstance(source, Source)
    assert source.name == "v"
    assert (source.channels, *source.grid.shape) == whole.shape
    np.testing.assert_allclose(source.grid.affine, oracle.affine[:3].ravel(), rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(source.grid.spacing, np.linalg.norm(oracle.affine[:3, :3], axis=0), rtol=1e-5)
    start = tuple(data.draw(st.integers(0, n - 1)) for n in source.grid.shape)
    box = Box(start, tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, source.grid.shape, strict=True)))
    pixels = source.read(box)
    assert pixels.values.dtype == source.dtype == values.dtype.newbyteorder("=")
    assert pixels.values.dtype.isnative
    np.testing.assert_array_equal(pixels.values, whole[(slice(None), *box.slices)])
    assert pixels.valid.shape == box.shape
    assert pixels.valid.all()
    source.close()


def test_a_slope_gives_float32_values_as_nibabel_scales_them(tmp_path: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    image = nib.Nifti1Image(np.linspace(-3.0, 5.0, 60).reshape(3, 4, 5), np.eye(4), header)
    image.header.set_slope_inter(0.01, 2.5)
    image.to_filename(tmp_path / "s.nii")
    source = open_volume(VolumeSpec(str(tmp_path / "s.nii")))
    assert source.dtype == np.float32
    oracle = nib.load(tmp_path / "s.nii").get_fdata(dtype=np.float32)
    np.testing.assert_allclose(source.read(Box.whole((3, 4, 5))).values[0], oracle, rtol=1e-6)


def test_zeros_are_valid_and_what_is_not_finite_in_any_channel_is_not(tmp_path: Path) -> None:
    values = np.zeros((3, 3, 3, 2), np.float32)
    values[0, 0, 0, 1], values[1, 1, 1, 0] = np.nan, np.inf
    valid = open_volume(VolumeSpec(str(save(tmp_path / "n.nii", values)))).read(Box.whole((3, 3, 3))).valid
    assert not valid[0, 0, 0]
    assert not valid[1, 1, 1]
    assert valid.sum() == 25


def test_opening_reads_headers_only_and_the_spec_goes_to_workers(tmp_path: Path) -> None:
    path = save(tmp_path / "v.nii.gz", np.ones((4, 5, 6), np.uint8))
    spec = VolumeSpec(str(path), scratch=str(tmp_path / "scratch"))
    source = open_volume(pickle.loads(pickle.dumps(spec)))
    assert not (tmp_path / "scratch").exists()
    source.read(Box.whole((4, 5, 6)))
    assert len(list((tmp_path / "scratch").iterdir())) == 1
    source.close()
    assert len(list((tmp_path / "scratch").iterdir())) == 1, "the next block reads what this one unpacked"
    with pytest.raises(ValueError, match="closed"):
        source.read(Box.whole((4, 5, 6)))


def test_many_workers_share_one_unpacked_copy(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (40, 50, 60)).astype(np.uint8)
    spec = VolumeSpec(str(save(tmp_path / "v.nii.gz", values)), scratch=str(tmp_path / "scratch"))
    wrong: list[int] = []

    def work(number: int) -> None:
        source = open_volume(spec)
        for _ in range(3):
            wrong.append(int((source.read(Box.whole((40, 50, 60))).values[0] != values).sum()))
        source.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [0] * 24
    assert len(list((tmp_path / "scratch").iterdir())) == 1


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mgz"])
@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.98])
def test_a_file_that_is_cut_short_is_refused_by_name_and_leaves_no_scratch(
    tmp_path: Path, suffix: str, part: float
) -> None:
    values = np.random.default_rng(0).integers(0, 255, (20, 20, 20)).astype(np.uint8)
    whole = tmp_path / f"whole{suffix}"
    (nib.MGHImage if suffix == ".mgz" else nib.Nifti1Image)(values, np.eye(4)).to_filename(whole)
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * part)])
    with pytest.raises(InputError, match=f"cut{suffix}"):
        open_volume(VolumeSpec(str(cut), scratch=str(tmp_path / "s"))).read(Box.whole((20, 20, 20)))
    assert not (tmp_path / "s").exists() or list((tmp_path / "s").iterdir()) == []


def test_a_damaged_gzip_is_refused_even_if_the_damage_is_behind_the_voxels(tmp_path: Path) -> None:
    path = save(tmp_path / "v.nii.gz", np.ones((9, 9, 9), np.uint8))
    data = bytearray(path.read_bytes())
    data[-6] ^= 0xFF  # the checksum
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"v\.nii\.gz is broken"):
        open_volume(VolumeSpec(str(path))).read(Box.whole((9, 9, 9)))


def test_a_volume_that_is_cut_while_it_is_read_gives_an_error_and_no_signal(tmp_path: Path) -> None:
    path = save(tmp_path / "v.nii", np.ones((30, 30, 30), np.float32))
    source = open_volume(VolumeSpec(str(path)))
    source.read(Box((0, 0, 0), (30, 30, 1)))
    with path.open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(InputError, match="ends before"):
        source.read(Box((0, 0, 29), (30, 30, 30)))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((4, 4), np.uint8), "2 axes"),
        (np.zeros((4, 4, 4), np.complex64), "complex"),
        (np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "colours"),
        (np.zeros((4, 4, 4, 2, 3), np.uint8), "5 axes"),
    ],
)
def test_what_is_no_volume_of_numbers_is_refused_with_a_remedy(tmp_path: Path, values: np.ndarray, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        open_volume(VolumeSpec(str(save(tmp_path / "v.nii", values))))
    assert caught.value.remedy


def test_vectors_as_nifti_stores_them_are_channels(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((3, 4, 5, 1, 2)).astype(np.float32)
    source = open_volume(VolumeSpec(str(save(tmp_path / "v.nii", values))))
    np.testing.assert_array_equal(source.read(Box.whole((3, 4, 5))).values, np.moveaxis(values[:, :, :, 0], -1, 0))


def test_a_missing_file_and_a_foreign_suffix_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        open_volume(VolumeSpec(str(tmp_path / "no.nii.gz")))
    (tmp_path / "a.txt").write_bytes(b"x")
    with pytest.raises(InputError, match="no volume that can be read"):
        open_volume(VolumeSpec(str(tmp_path / "a.txt")))
    (tmp_path / "a.nii").write_bytes(b"plainly not a header" * 40)
    with pytest.raises(InputError, match=r"a\.nii is broken"):
        open_volume(VolumeSpec(str(tmp_path / "a.nii")))


def test_codes_that_disagree_are_reported_with_the_distance_and_the_one_used(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((10, 10, 10), np.uint8), np.eye(4))
    shifted = np.eye(4)
    shifted[:3, 3] = (3.0, 4.0, 0.0)
    image.set_sform(shifted, 2)
    image.set_qform(np.eye(4), 1)
    image.to_filename(tmp_path / "v.nii")
    source = open_volume(VolumeSpec(str(tmp_path / "v.nii")))
    (notice,) = source.notices
    assert "disagree by up to 5 " in notice
    assert "the sform is used" in notice
    assert source.grid.affine is not None
    assert source.grid.affine[3] == 3.0
    rewrite_header(tmp_path / "v.nii", sform_code=0)
    source = open_volume(VolumeSpec(str(tmp_path / "v.nii")))
    assert source.notices == ()
    assert source.grid.affine is not None
    assert source.grid.affine[3] == 0.0


def test_codes_that_agree_but_for_rounding_are_no_notice(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((200, 200, 200), np.uint8), affine_of("LIA"))
    image.set_sform(affine_of("LIA"), 1)
    image.set_qform(affine_of("LIA"), 1)
    image.to_filename(tmp_path / "v.nii")
    assert open_volume(VolumeSpec(str(tmp_path / "v.nii"))).notices == ()


def test_a_header_without_codes_is_read_with_a_notice(tmp_path: Path) -> None:
    path = save(tmp_path / "v.nii", np.zeros((3, 3, 3), np.uint8))
    rewrite_header(path, qform_code=0, sform_code=0)
    (notice,) = open_volume(VolumeSpec(str(path))).notices
    assert "left and right may be swapped" in notice


@pytest.mark.parametrize("row", [(0, 0, 0, 0), (0, 1, 0, 0), (np.nan, 0, 0, 0)])
def test_a_singular_affine_is_refused(tmp_path: Path, row: tuple[float, ...]) -> None:
    path = save(tmp_path / "v.nii", np.zeros((3, 3, 3), np.uint8))
    rewrite_header(path, srow_x=row)
    with pytest.raises(InputError, match=r"v\.nii.*singular"):
        open_volume(VolumeSpec(str(path)))


def test_a_bad_quaternion_is_refused_and_only_noticed_where_an_sform_stands(tmp_path: Path) -> None:
    path = save(tmp_path / "v.nii", np.zeros((3, 3, 3), np.uint8))
    rewrite_header(path, qform_code=1, quatern_b=0.9, quatern_c=0.9)
    (notice,) = open_volume(VolumeSpec(str(path))).notices
    assert "no rotation" in notice
    rewrite_header(path, sform_code=0)
    with pytest.raises(InputError, match=r"v\.nii"):
        open_volume(VolumeSpec(str(path)))


def test_micrometres_become_millimetres(tmp_path: Path) -> None:
    path = save(tmp_path / "v.nii", np.zeros((3, 3, 3), np.uint8), np.diag([5.0, 5.0, 20.0, 1.0]))
    rewrite_header(path, xyzt_units=3)
    source = open_volume(VolumeSpec(str(path)))
    assert source.grid.spacing == pytest.approx((0.005, 0.005, 0.02))
    assert "micrometres" in source.notices[0]


@pytest.mark.parametrize("stored", ["RAS", "LIA", "PSR"])
def test_the_slowest_axis_is_told_in_canonical_order(tmp_path: Path, stored: str) -> None:
    affine = affine_of(stored)
    source = open_volume(VolumeSpec(str(save(tmp_path / "v.nii", np.zeros((3, 4, 5), np.uint8), affine))))
    slowest, _, fastest = source.stored_order
    assert "RLAPSI".index("".join(nib.aff2axcodes(affine))[2]) // 2 == slowest
    assert "RLAPSI".index("".join(nib.aff2axcodes(affine))[0]) // 2 == fastest


def test_identity_follows_content_and_reading_and_not_the_place(tmp_path: Path) -> None:
    values = np.zeros((3, 3, 3), np.uint8)
    one = save(tmp_path / "one.nii", values)
    (tmp_path / "two.nii").write_bytes(one.read_bytes())
    three = save(tmp_path / "three.nii", values + 1)
    identity = [open_volume(VolumeSpec(str(p))).identity() for p in (one, tmp_path / "two.nii", three)]
    assert identity[0] == identity[1] != identity[2]
    assert open_volume(VolumeSpec(str(one), "LPS")).identity() != identity[0]


def test_places_agree_whatever_the_stored_orientation(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), affine_of("LIA"))
    image.to_filename(tmp_path / "a.nii")
    nib.as_closest_canonical(image).to_filename(tmp_path / "b.nii.gz")
    one = open_volume(VolumeSpec(str(tmp_path / "a.nii"), "LIA"))
    compare_volumes(one, open_volume(VolumeSpec(str(tmp_path / "b.nii.gz"), "PSR")))
    moved = affine_of("LIA")
    moved[0, 3] += 0.5
    other = open_volume(VolumeSpec(str(save(tmp_path / "c.nii", np.zeros((4, 5, 6), np.uint8), moved))))
    with pytest.raises(GridMismatchError, match=r"c\.nii lies elsewhere"):
        compare_volumes(one, other)


def test_channels_in_several_files_stand_in_their_order_whatever_their_orientation(tmp_path: Path) -> None:
    first = np.random.default_rng(0).integers(0, 99, (4, 5, 6)).astype(np.int16)
    image = nib.Nifti1Image(first * 2, affine_of("LIA"))
    save(tmp_path / "a.nii.gz", first, affine_of("LIA"))
    nib.as_closest_canonical(image).to_filename(tmp_path / "b.nii")
    source = open_volume(VolumeSpec((str(tmp_path / "a.nii.gz"), str(tmp_path / "b.nii"))))
    values = source.read(Box.whole(source.grid.shape)).values
    np.testing.assert_array_equal(values[0] * 2, values[1])
    assert values.dtype == np.int16


def test_channels_on_other_grids_are_refused_naming_both_files_and_resample_to(tmp_path: Path) -> None:
    one = save(tmp_path / "one.nii", np.zeros((4, 4, 4), np.uint8))
    two = save(tmp_path / "two.nii", np.zeros((4, 4, 5), np.uint8))
    with pytest.raises(GridMismatchError, match=r"inputs\.resample_to") as caught:
        open_volume(VolumeSpec((str(one), str(two))))
    assert "one.nii" in caught.value.found
    assert "two.nii" in caught.value.found
    four = save(tmp_path / "four.nii", np.zeros((4, 4, 4, 3), np.uint8))
    with pytest.raises(InputError, match="3 channels"):
        open_volume(VolumeSpec((str(one), str(four))))


@pytest.mark.parametrize("stored", ["RAS", "LIA"])
def test_resampling_agrees_with_nibabel_and_does_not_depend_on_the_box(tmp_path: Path, stored: str) -> None:
    from nibabel.processing import resample_from_to

    rng = np.random.default_rng(1)
    coarse = nib.Nifti1Image(rng.random((9, 10, 11)).astype(np.float32), affine_of(stored))
    coarse.to_filename(tmp_path / "coarse.nii.gz")
    turned = affine_of("RAS") @ nib.affines.from_matvec(np.diag([0.6, 0.5, 1.3]), (0.3, -1.0, 0.2))
    fine = nib.Nifti1Image(rng.random((12, 14, 8)).astype(np.float32), turned)
    fine.to_filename(tmp_path / "fine.nii")
    spec = VolumeSpec(
        (str(tmp_path / "coarse.nii.gz"), str(tmp_path / "fine.nii")), resample_to=1, scratch=str(tmp_path / "s")
    )
    source = open_volume(spec)
    whole = source.read(Box.whole((12, 14, 8)))
    ras = nib.as_closest_canonical(fine)
    np.testing.assert_array_equal(whole.values[1], np.asanyarray(ras.dataobj))
    oracle = resample_from_to(coarse, ras, order=1, cval=np.nan).get_fdata()
    inside = np.isfinite(oracle)
    assert inside.sum() > 200
    np.testing.assert_allclose(whole.values[0][inside], oracle[inside], rtol=1e-5, atol=1e-6)
    assert whole.valid[inside].all()
    assert not whole.valid.all()
    part = open_volume(spec).read(Box((3, 2, 1), (7, 9, 5)))
    np.testing.assert_array_equal(part.values, whole.values[:, 3:7, 2:9, 1:5])
    source.close()


def test_unpacking_keeps_memory_flat(tmp_path: Path) -> None:
    """64 MiB of voxels, read slab by slab: Python's own peak stays a few MiB."""
    import tracemalloc

    path = tmp_path / "big.nii.gz"
    header = nib.Nifti1Header()
    header.set_data_shape((256, 256, 512))
    header.set_data_dtype(np.int16)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.binaryblock + b"\0" * 4)
        for _ in range(512):
            file.write(b"\0" * (256 * 256 * 2))
    source = open_volume(VolumeSpec(str(path)))
    tracemalloc.start()
    for x in range(0, 256, 64):
        source.read(Box((x, 0, 0), (x + 4, 256, 512)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    source.close()
    assert peak < 24 << 20


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    spoilt=st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=4),
    packed=st.booleans(),
    version=st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]),
)
def test_a_damaged_header_is_read_or_refused_by_name_and_nothing_else(
    tmp_path: Path, spoilt: list[tuple[int, int]], packed: bool, version: type[nib.Nifti1Image]
) -> None:
    whole = version(np.zeros((4, 5, 6), np.int16), affine_of("LIA")).to_bytes()
    data = bytearray(whole)
    for place, value in spoilt:
        data[place] = value
    path = tmp_path / ("x.nii.gz" if packed else "x.nii")
    path.write_bytes(gzip.compress(bytes(data)) if packed else bytes(data))
    refused = ""
    try:
        source = open_volume(VolumeSpec(str(path)))
        pixels = source.read(Box((0, 0, 0), tuple(min(n, 4) for n in source.grid.shape)))
        assert pixels.valid.shape == pixels.values.shape[1:]
        source.close()
    except InputError as error:
        refused = error.found
    assert not refused or path.name in refused or "bytes free" in refused


def test_a_volume_that_scratch_has_no_room_for_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((30000, 30000, 30000))
    header.set_data_dtype(np.float64)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    (tmp_path / "huge.nii.gz").write_bytes(gzip.compress(header.binaryblock + b"\0" * 400))
    for scratch in (None, str(tmp_path / "s")):
        source = open_volume(VolumeSpec(str(tmp_path / "huge.nii.gz"), scratch=scratch))
        with pytest.raises(InputError, match="bytes free"):
            source.read(Box((0, 0, 0), (1, 1, 1)))


def test_a_scratch_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    path = save(tmp_path / "v.nii.gz", np.ones((3, 3, 3), np.uint8))
    source = open_volume(VolumeSpec(str(path), scratch=str(tmp_path / "file" / "scratch")))
    with pytest.raises(OutputError, match="scratch files cannot be written"):
        source.read(Box.whole((3, 3, 3)))
