"""MetaImage files, attached (.mha) or with a header of their own (.mhd), as ITK and elastix write them.

Format: https://itk.org/Wiki/ITK/MetaIO/Documentation. The header is lines of `Key = value`; the last one names the
data. Voxels are not read here: raw ones are read in place, packed ones (zlib) unpacked to scratch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segflow.errors import InputError
from segflow.io.volume_header import VolumeHeader, require_invertible, require_whole, split_shape

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_MOST_HEADER_BYTES = 1 << 20


def read_metaimage_header(path: str) -> VolumeHeader:
    """Read the header of a MetaImage file. Positions are LPS, as ITK reads them.

    Raises:
        InputError: the file is missing, broken, too short, or holds what is no volume of numbers.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no file {path}", "a volume", "check the path")
    fields, end = _fields(path)
    try:
        sizes = tuple(int(word) for word in fields["DimSize"].split())
        matrix = _place(fields, len(sizes))
        dtype = np.dtype(_TYPES[fields["ElementType"]]).newbyteorder(">" if _big(fields) else "<")
        if int(fields.get("NDims", len(sizes))) != len(sizes):
            raise ValueError(f"NDims is {fields['NDims']}, DimSize {sizes}")
    except (KeyError, ValueError) as error:
        raise _broken(path, f"{type(error).__name__}: {error}") from error
    if int(fields.get("ElementNumberOfChannels", 1)) != 1:
        raise InputError(
            f"{path} holds {fields['ElementNumberOfChannels']} values a voxel",
            "one value a voxel",
            "save each channel as a volume of its own",
        )
    shape, channels = split_shape(path, sizes)
    require_invertible(path, matrix)
    voxels, start = _voxels(path, fields, end)
    packed = fields.get("CompressedData", "False").lower() in ("true", "1")
    header = VolumeHeader(
        path=path,
        file_shape=shape,
        channels=channels,
        dtype=dtype,
        slope=1.0,
        inter=0.0,
        offset_bytes=0 if packed else start,
        affine=tuple(float(value) for value in matrix[:3].ravel()),
        packing="zlib" if packed else "none",
        notices=(),
        voxels=voxels,
        packed_at=start,
    )
    if packed:
        return header
    if start < 0:  # the data are the file's end
        header = replace(header, offset_bytes=max(0, Path(header.data_path).stat().st_size - header.data_bytes))
    require_whole(header)
    return header


def _fields(path: str) -> tuple[dict[str, str], int]:
    """Return the header's fields, and where it ends in the file."""
    fields: dict[str, str] = {}
    with Path(path).open("rb") as file:
        while file.tell() < _MOST_HEADER_BYTES and (line := file.readline(_MOST_HEADER_BYTES)):
            key, sign, value = line.decode("latin-1").partition("=")
            if not sign:
                break
            fields[key.strip()] = value.strip()
            if key.strip() == "ElementDataFile":
                return fields, file.tell()
    raise _broken(path, "no line ElementDataFile")


def _place(fields: Mapping[str, str], axes: int) -> NDArray[np.float64]:
    """Return the (4, 4) affine in millimetres, RAS+; further axes than three are left out."""

    def numbers(count: int, *keys: str) -> NDArray[np.float64] | None:
        text = next((fields[key] for key in keys if key in fields), None)
        if text is None:
            return None
        found = np.array([float(word) for word in text.split()])
        if found.size != count:
            raise ValueError(f"{keys[0]} has {found.size} numbers, not {count}")
        return found

    spacing = numbers(axes, "ElementSpacing", "ElementSize")
    directions = numbers(axes * axes, "TransformMatrix", "Rotation", "Orientation")
    origin = numbers(axes, "Offset", "Position", "Origin")
    matrix = np.eye(4)
    size = min(axes, 3)
    if directions is not None:
        # A line holds one axis' direction after the other.
        matrix[:size, :size] = directions.reshape(axes, axes).T[:size, :size]
    if spacing is not None:
        matrix[:size, :size] *= spacing[:size]
    if origin is not None:
        matrix[:size, 3] = origin[:size]
    matrix[:3] = _TO_RAS @ matrix[:3]
    return matrix


def _big(fields: Mapping[str, str]) -> bool:
    text = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
    return text.lower() in ("true", "1")


def _voxels(path: str, fields: Mapping[str, str], end: int) -> tuple[str, int]:
    """Return the file of the voxels ("": this one) and where they begin in it; -1: they are its end."""
    name = fields["ElementDataFile"]
    if fields.get("BinaryData", "True").lower() not in ("true", "1"):
        raise InputError(f"{path} holds voxels as text", "binary voxels", "save it again with ITK or 3D Slicer")
    if name in ("LOCAL", "Local", "local"):
        return "", end
    if name.split()[0] == "LIST" or "%" in name:
        raise InputError(f"{path}: its voxels lie in several files", "one data file", "save it as one .mha file")
    voxels = Path(path).parent / name
    if not voxels.is_file():
        raise InputError(f"{path} names a data file that is not there: {voxels}", "both files", "put it beside")
    return str(voxels), int(fields.get("HeaderSize", 0))


def _broken(path: str, how: str) -> InputError:
    return InputError(
        f"{path} is broken: its header cannot be read ({how})", "a whole MetaImage file", "copy or download it again"
    )
