"""NIfTI out: label maps and other bytes on the input's own grid, voxel for voxel, with its header's geometry untouched.

Format: NIfTI-1.1 (https://nifti.nimh.nih.gov/nifti-1), or NIfTI-2 where the input is. Equal voxels give equal bytes:
the gzip header has no time and no name.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from segflow.errors import InputError, OutputError
from segflow.io.atomic import replacing, write_text
from segflow.io.orientation import Turn, turn_of
from segflow.io.volume_formats import read_header
from segflow.io.volume_header import AGREE, furthest, nifti_header, read_errors
from segflow.models.card import LabelClass
from tiling.box import Box

LABEL_INTENT = 1002
"""NIFTI_INTENT_LABEL."""

_GEOMETRY = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z", "xyzt_units", "dim_info"),
)
LEVEL = 4
"""Of gzip: label maps pack twice as fast as with 6 and grow by a quarter (measured)."""

_SLAB_BYTES = 8 << 20
_CHUNK_BYTES = 4 << 20

BoxReader = Callable[[Box], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class _Target:
    """What is written: the header, how the file's axes lie to those that readers speak of, and how many volumes."""

    header: Any
    turn: Turn
    volumes: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the file."""
        return (*self.turn.file_shape, self.volumes) if self.volumes > 1 else self.turn.file_shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return cast("np.dtype[Any]", self.header.get_data_dtype())


def write_label_nifti(
    path: Path,
    read: BoxReader,
    source_path: str,
    orientation: str,
    classes: Sequence[LabelClass],
    *,
    description: str,
) -> None:
    """Write a label map on the grid of a volume: uint8, or uint16 if an id is over 255. One slab is in memory.

    Args:
        path: where to; ending in .nii or .nii.gz.
        read: gives the ids (x, y, z) of a box of the grid in `orientation`.
        source_path: the volume that was segmented; of NIfTI, shape, both matrices, both codes and units are
            taken; of others shape and affine, in both matrices with code 1 (scanner), in millimetres.
        orientation: the orientation that `read` speaks of.
        classes: the classes; voxels hold their ids, or 0.
        description: ASCII, of which 79 characters are kept.

    Raises:
        InputError: the source's header cannot be read.
        OutputError: the file cannot be written, is not as written when read back, or `read` gave an unknown id.
    """
    ids = {0, *(item.id for item in classes)}
    small = max(ids) <= 255
    dtype: np.dtype[Any] = np.dtype(np.uint8 if small else np.uint16)
    known = np.zeros(1 << (8 if small else 16), dtype=np.bool_)
    known[sorted(ids)] = True
    target = _target(source_path, orientation, dtype, description)
    target.header["intent_code"] = LABEL_INTENT
    target.header["cal_max"] = max(ids)
    _write(path, (read,), target, known)


def write_byte_nifti(path: Path, read: BoxReader, source_path: str, orientation: str, *, description: str) -> None:
    """Write bytes that are no labels, such as the confidence (largest probability x 255). See `write_label_nifti`."""
    target = _target(source_path, orientation, np.dtype(np.uint8), description)
    target.header["cal_max"] = 255
    _write(path, (read,), target, np.ones(256, dtype=np.bool_))


def packed_nifti(values: NDArray[np.uint8], matrix: NDArray[np.float64]) -> bytes:
    """Return a small volume as the bytes of a .nii.gz; the same voxels give the same bytes.

    Args:
        values: (x, y, z) uint8.
        matrix: (4, 4), voxels to millimetres, RAS+.
    """
    from nibabel import Nifti1Header

    header = Nifti1Header(endianness="<")
    header.set_data_dtype(np.uint8)
    header.set_data_shape(values.shape)
    header.set_sform(matrix, 1)
    header.set_qform(matrix, 1, strip_shears=True)
    header.set_xyzt_units("mm")
    header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    header["vox_offset"] = header.single_vox_offset
    header["magic"] = header.single_magic
    lead = header.binaryblock.ljust(header.single_vox_offset, b"\0")
    return gzip.compress(lead + values.tobytes(order="F"), LEVEL, mtime=0)


def write_probability_nifti(
    path: Path, reads: Sequence[BoxReader], source_path: str, orientation: str, names: Sequence[str], *, beside: Path
) -> None:
    """Write probabilities as a BIDS probseg: a volume a class along the fourth axis, named in a JSON file.

    Stored as uint8 with a slope of 1/255, so that readers see 0 to 1 (BIDS 1.10, derivatives, imaging: `LabelMap`).

    Args:
        path: where to; ending in .nii.gz.
        reads: for each class, what gives probability x 255 (x, y, z) uint8 of a box of the grid in `orientation`.
        source_path: as in `write_label_nifti`.
        orientation: the orientation that `reads` speak of.
        names: of the classes.
        beside: the JSON file.

    Raises:
        InputError, OutputError: as `write_label_nifti`.
    """
    target = _target(source_path, orientation, np.dtype(np.uint8), "segflow probability of each class", len(reads))
    target.header["cal_max"] = 1
    target.header["scl_slope"] = 1 / 255
    _write(path, reads, target, np.ones(256, dtype=np.bool_))
    write_text(beside, json.dumps({"LabelMap": list(names)}, indent=2, ensure_ascii=False) + "\n")


def _target(source_path: str, orientation: str, dtype: np.dtype[Any], description: str, volumes: int = 1) -> _Target:
    """Make the header of the output from the source's; its geometry fields are copied bit for bit."""
    from nibabel import Nifti1Header, Nifti2Header

    facts = read_header(source_path)
    source = _nifti_header(source_path)
    kind = Nifti2Header if isinstance(source, Nifti2Header) else Nifti1Header
    header = kind(endianness="<")
    header.set_data_dtype(dtype)
    header.set_data_shape(facts.file_shape)
    if isinstance(source, Nifti1Header):  # NIfTI-2's header is a subclass
        for field in _GEOMETRY:
            header[field] = source[field]
        header["pixdim"][:4] = source["pixdim"][:4]
    else:
        header.set_sform(facts.matrix, 1)
        header.set_qform(facts.matrix, 1)
        if furthest(header.get_qform(), facts.matrix, facts.file_shape) > AGREE * min(header.get_zooms()[:3]):
            header["qform_code"] = 0  # a sheared volume, which a qform cannot express
        header.set_xyzt_units("mm")
    header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    header["descrip"] = description.encode("ascii", "replace")[:79]
    header["vox_offset"] = header.single_vox_offset
    header["magic"] = header.single_magic
    target = _Target(header, turn_of(facts.matrix, facts.file_shape, orientation), volumes)
    header.set_data_shape(target.shape)
    return target


def _nifti_header(path: str) -> Any:
    """Return the header of a NIfTI file; None for a volume of another format."""
    if not path.lower().endswith((".nii", ".nii.gz")):
        return None
    try:
        return nifti_header(path)
    except read_errors() as error:
        raise InputError(f"{path} is broken: {error}", "the header that was there before", "copy it again") from error


def _write(path: Path, reads: Sequence[BoxReader], target: _Target, known: NDArray[np.bool_]) -> None:
    with replacing(path) as part:
        with part.open("wb") as raw, _packed(raw, path.suffix == ".gz") as file:
            file.write(target.header.binaryblock)
            file.write(b"\0" * (target.header.single_vox_offset - len(target.header.binaryblock)))
            total = 0
            for read in reads:
                for slab in _slabs(path, read, target, known):
                    total = zlib.crc32(slab, total)
                    file.write(slab)
        _require_same(path, part, target, total)


@contextmanager
def _packed(raw: BinaryIO, packed: bool) -> Iterator[BinaryIO]:
    if not packed:
        yield raw
        return
    with gzip.GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=raw, mtime=0) as file:
        yield cast("BinaryIO", file)


def _slabs(path: Path, read: BoxReader, target: _Target, known: NDArray[np.bool_]) -> Iterator[bytes]:
    """Yield the file's voxels in its own order, some planes of its slowest axis at a time."""
    nx, ny, nz = target.turn.file_shape
    depth = max(1, _SLAB_BYTES // (nx * ny * target.dtype.itemsize))
    for low in range(0, nz, depth):
        box = target.turn.to_canonical(Box((0, 0, low), (nx, ny, min(low + depth, nz))))
        values = read(box)
        if values.shape != box.shape:
            raise ValueError(f"the reader gave {values.shape} for a box of {box.shape}")
        _require_known(path, values, known)
        yield target.turn.array_to_file(values).astype(target.dtype, copy=False).tobytes(order="F")


def _require_known(path: Path, values: NDArray[Any], known: NDArray[np.bool_]) -> None:
    if values.dtype.kind not in "iu":
        raise ValueError(f"labels are integers, the reader gave {values.dtype}")
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= len(known) or not known[values].all():
        found = sorted({int(value) for value in np.unique(values) if not 0 <= value < len(known) or not known[value]})
        raise OutputError(
            f"{path} would hold the ids {found[:10]}",
            f"only ids of the model's classes, or 0: {np.flatnonzero(known)[:20].tolist()}",
            "report this: the labels do not belong to this model",
        )


def _require_same(path: Path, part: Path, target: _Target, total: int) -> None:
    """Open what was written with the library that others read it with, and compare."""
    import nibabel

    try:
        image = nibabel.load(part)
        found = image.header
        same = (
            image.shape == target.shape
            and found.get_data_dtype() == target.dtype
            and all(np.array_equal(found[field], target.header[field], equal_nan=True) for field in _GEOMETRY[2:])
            and all(int(found[field]) == int(target.header[field]) for field in ("qform_code", "sform_code"))
            and _sum_of_voxels(part, path.suffix == ".gz", int(target.header["vox_offset"])) == total
        )
    except read_errors() as error:
        raise _spoilt(path, f"cannot be read back ({error})") from error
    if not same:
        raise _spoilt(path, "is not what was written when it is read back")


def _sum_of_voxels(part: Path, packed: bool, offset: int) -> int:
    total = 0
    with gzip.open(part, "rb") if packed else part.open("rb") as file:
        file.read(offset)
        while chunk := file.read(_CHUNK_BYTES):
            total = zlib.crc32(chunk, total)
    return total


def _spoilt(path: Path, how: str) -> OutputError:
    return OutputError(
        f"{path} {how}", "the voxels and the geometry that were written", "check the disk, then run again"
    )
