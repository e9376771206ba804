"""NRRD files, attached (.nrrd) or with a header of their own (.nhdr), as 3D Slicer writes them.

The header is parsed by pynrrd; what its fields mean is said in https://teem.sourceforge.net/nrrd/format.html. Voxels
are not read here: raw ones are read in place, packed ones unpacked to scratch.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.errors import InputError
from segflow.io.volume_header import (
    Packing,
    VolumeHeader,
    require_invertible,
    require_numbers,
    require_whole,
    split_shape,
)

_PACKINGS: dict[str, Packing] = {"raw": "none", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
_SPACES = {
    "right-anterior-superior": (1.0, 1.0, 1.0),
    "ras": (1.0, 1.0, 1.0),
    "left-anterior-superior": (-1.0, 1.0, 1.0),
    "las": (-1.0, 1.0, 1.0),
    "left-posterior-superior": (-1.0, -1.0, 1.0),
    "lps": (-1.0, -1.0, 1.0),
}
"""What takes a space's axes to RAS."""

_UNITS = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001, "µm": 0.001, "millimeter": 1.0, "millimeters": 1.0}


def read_nrrd_header(path: str) -> VolumeHeader:
    """Read the header of an NRRD file.

    Raises:
        InputError: the file is missing, broken, too short, or holds what is no volume of numbers.
    """
    import nrrd

    if not Path(path).is_file():
        raise InputError(f"there is no file {path}", "a volume", "check the path")
    try:
        with Path(path).open("rb") as file:
            fields = nrrd.read_header(file)
            end = file.tell()
        sizes = tuple(int(n) for n in fields["sizes"])
        dtype = np.dtype(nrrd.reader._determine_datatype(fields))
        fields["encoding"] = str(fields["encoding"]).lower()
    except (OSError, ValueError, KeyError, StopIteration, nrrd.NRRDError) as error:
        raise InputError(
            f"{path} is broken: its header cannot be read ({str(error) or type(error).__name__})",
            "a whole NRRD file",
            "copy or download it again",
        ) from error
    packing = _packing_of(path, fields)
    _require_endian(path, fields, dtype)
    _require_space_first(path, fields, sizes)
    shape, channels = split_shape(path, sizes)
    matrix, notices = _place(path, fields)
    voxels, start, skip = _voxels(path, fields, end, packing)
    header = VolumeHeader(
        path=path,
        file_shape=shape,
        channels=channels,
        dtype=require_numbers(path, dtype),
        slope=1.0,
        inter=0.0,
        offset_bytes=start + skip if packing == "none" else skip,
        affine=tuple(float(value) for value in matrix[:3].ravel()),
        packing=packing,
        notices=notices,
        voxels=voxels,
        packed_at=start,
    )
    return _whole(header, skip)


def _require_endian(path: str, fields: Mapping[str, Any], dtype: np.dtype[Any]) -> None:
    if dtype.itemsize > 1 and fields.get("endian") not in ("little", "big"):
        raise InputError(
            f"{path}: `endian` is {fields.get('endian')}", f"little or big (this machine is {sys.byteorder})", "add it"
        )


def _packing_of(path: str, fields: Mapping[str, Any]) -> Packing:
    if fields["encoding"] not in _PACKINGS:
        raise InputError(
            f"{path}: its encoding is {fields['encoding']}", "raw, gzip or bzip2", "save it again (3D Slicer, pynrrd)"
        )
    return _PACKINGS[fields["encoding"]]


def _require_space_first(path: str, fields: Mapping[str, Any], sizes: tuple[int, ...]) -> None:
    """Refuse values that lie side by side, such as colours: the axes of space come first, channels last."""
    directions = fields.get("space directions")
    spatial = [True] * len(sizes)
    if directions is not None:
        spatial = [item is not None and not bool(np.isnan(np.asarray(item, float)).any()) for item in directions]
    if sum(spatial) not in (0, 3) or (sum(spatial) == 3 and not all(spatial[:3])):
        raise InputError(
            f"{path}: sizes {sizes} with directions of space for {sum(spatial)} axes, in the order "
            + ", ".join("space" if item else "values" for item in spatial),
            "three axes of space first, and channels, if any, last",
            "save each channel as a volume of its own",
        )


def _place(path: str, fields: Mapping[str, Any]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the (4, 4) affine in millimetres, RAS+, and the notices about it."""
    matrix = np.eye(4)
    directions, origin = fields.get("space directions"), fields.get("space origin")
    if directions is None:
        spacings = np.asarray(fields.get("spacings", [1.0] * 3), dtype=np.float64)[:3]
        spacings = np.where(np.isfinite(spacings) & (spacings > 0), spacings, 1.0)
        matrix[:3, :3] = np.diag(spacings)
        return matrix, (f"{path}: the header does not say how the volume lies: read as RAS, at the origin",)
    matrix[:3, :3] = np.asarray([list(item) for item in directions[:3]], dtype=np.float64).T
    if origin is not None:
        matrix[:3, 3] = np.asarray(origin, dtype=np.float64)
    notices = []
    space = str(fields.get("space", "")).lower()
    if space not in _SPACES:
        notices.append(f"{path}: its space is {space or 'not named'}: read as LPS, as ITK does")
    matrix[:3] = np.diag(_SPACES.get(space, (-1.0, -1.0, 1.0))) @ matrix[:3]
    units = {str(unit).strip('"').lower() for unit in fields.get("space units", ("mm",))} - {""}
    if len(units) != 1 or not units <= _UNITS.keys():
        notices.append(f"{path}: its space units are {', '.join(sorted(units)) or 'empty'}: read as millimetres")
    elif (scale := _UNITS[units.pop()]) != 1.0:
        notices.append(f"{path}: positions are read as millimetres, scaled by {scale:g}")
        matrix[:3] *= scale
    require_invertible(path, matrix)
    return matrix, tuple(notices)


def _voxels(path: str, fields: Mapping[str, Any], end: int, packing: Packing) -> tuple[str, int, int]:
    """Return the file of the voxels ("": this one), where they begin in it, and how many bytes are skipped then."""
    name = fields.get("data file", fields.get("datafile"))
    voxels, start = "", end
    if name is not None:
        if str(name).split()[0] == "LIST" or "%" in str(name):
            raise InputError(f"{path}: its voxels lie in several files", "one data file", "save it as one .nrrd file")
        voxels, start = str(Path(path).parent / str(name)), 0
        if not Path(voxels).is_file():
            raise InputError(f"{path} names a data file that is not there: {voxels}", "both files", "put it beside")
    lines = int(fields.get("line skip", fields.get("lineskip", 0)))
    skip = int(fields.get("byte skip", fields.get("byteskip", 0)))
    if skip < 0 and packing != "none":
        raise InputError(f"{path}: byte skip {skip} in packed voxels", "0 or more", "save it again")
    if lines:
        with Path(voxels or path).open("rb") as file:
            file.seek(start)
            for _ in range(lines):
                file.readline()
            start = file.tell()
    return voxels, start, skip


def _whole(header: VolumeHeader, skip: int) -> VolumeHeader:
    """Return a header whose raw voxels are all there; those that are counted from the file's end are placed."""
    if header.packing != "none":
        return header
    if skip < 0:
        size = Path(header.data_path).stat().st_size
        header = replace(header, offset_bytes=max(0, size - header.data_bytes))
    require_whole(header)
    return header
