"""What a volume's header says: where the voxels lie in the file, and where they lie in the patient."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from segflow.errors import InputError
from segflow.io.names import VOLUME_SUFFIXES
from segflow.io.orientation import Triple, directions

AGREE = 0.1
"""sform and qform agree when no corner of the volume is further apart than this part of the smallest voxel side."""

_OWN = (".nii", ".nii.gz", ".mgz", ".mgh")

Packing = Literal["none", "gzip", "zlib", "bzip2", "slices"]

MILLIMETRES = {1: (1000.0, "metres"), 3: (0.001, "micrometres")}
"""What a unit of NIfTI's is in mm, and its name, by the lower three bits of `xyzt_units`; others are taken for mm."""


@dataclass(frozen=True, slots=True)
class VolumeHeader:
    """The header of one volume file.

    Attributes:
        path: the file.
        file_shape: voxels on each axis, in the file's order; the first axis is the fastest in the file.
        channels: volumes in the file, one after the other.
        dtype: as stored, with the file's byte order.
        slope, inter: value = stored * slope + inter; (1, 0) where the file does not scale.
        offset_bytes: where the voxels begin in the (unpacked) file.
        affine: twelve numbers of a 3 x 4 matrix, row by row, from the file's voxel indices to millimetres, RAS+.
        packing: how the voxels are packed; none: they lie in the file as they are. "slices": a DICOM series'.
        notices: what is odd in the header and how it was read.
        voxels: the file that holds the voxels where that is another one; "" where it is `path`.
        packed_at: where in that file the packed voxels begin, in bytes.
    """

    path: str
    file_shape: Triple
    channels: int
    dtype: np.dtype[Any]
    slope: float
    inter: float
    offset_bytes: int
    affine: tuple[float, ...]
    packing: Packing
    notices: tuple[str, ...]
    voxels: str = ""
    packed_at: int = 0

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The affine as (4, 4) float64."""
        return np.vstack([np.reshape(self.affine, (3, 4)), (0.0, 0.0, 0.0, 1.0)])

    @property
    def compressed(self) -> bool:
        """Whether the voxels have to be unpacked before they can be read in any order."""
        return self.packing != "none"

    @property
    def data_path(self) -> str:
        """The file that holds the voxels."""
        return self.voxels or self.path

    @property
    def scaled(self) -> bool:
        """Whether stored values are not the values themselves."""
        return (self.slope, self.inter) != (1.0, 0.0)

    @property
    def data_bytes(self) -> int:
        """Bytes of all voxels."""
        return prod(self.file_shape) * self.channels * self.dtype.itemsize


def read_errors() -> tuple[type[Exception], ...]:
    """Return what nibabel and gzip raise on files that are broken. A run of rasters does not load nibabel."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    return OSError, EOFError, zlib.error, ImageFileError, HeaderDataError, WrapStructError, ValueError


def nifti_header(path: str) -> Any:
    """Return the header of a file that nibabel reads, as nibabel gives it; raises what is in `read_errors`."""
    import nibabel

    return nibabel.load(path).header


def volume_suffix(path: str) -> str:
    """Return the suffix of a NIfTI or MGH file's path.

    Raises:
        InputError: it has another one.
    """
    for suffix in sorted(_OWN, key=len, reverse=True):
        if path.lower().endswith(suffix):
            return suffix
    raise InputError(
        f"{path} is no volume that can be read",
        "a local file ending in " + ", ".join(VOLUME_SUFFIXES) + ", or a folder or zip of DICOM series",
        "convert it to NIfTI first",
    )


def read_volume_header(path: str) -> VolumeHeader:
    """Read a volume's header; no voxel is touched.

    Raises:
        InputError: the file is missing, broken or too short, holds colours or complex numbers, is not 3-D or 4-D, or
            its affine is singular.
    """
    suffix = volume_suffix(path)
    if not Path(path).is_file():
        raise InputError(f"there is no file {path}", "a volume", "check the path")
    import nibabel

    try:
        image = nibabel.load(path)
        array = image.dataobj
        shape = tuple(int(n) for n in array.shape)
        matrix, notices = _place(image.header, image.affine, shape, path)
    except read_errors() as error:
        raise InputError(
            f"{path} is broken: its header cannot be read ({str(error) or type(error).__name__})",
            "a whole NIfTI or MGH file",
            "copy or download it again",
        ) from error
    file_shape, channels = split_shape(path, shape)
    header = VolumeHeader(
        path=path,
        file_shape=file_shape,
        channels=channels,
        dtype=require_numbers(path, array.dtype),
        slope=float(array.slope),
        inter=float(array.inter),
        offset_bytes=int(array.offset),
        affine=tuple(float(value) for value in matrix[:3].ravel()),
        packing="gzip" if suffix in (".nii.gz", ".mgz") else "none",
        notices=notices,
    )
    if not header.compressed:
        require_whole(header)
    return header


def split_shape(path: str, shape: tuple[int, ...]) -> tuple[Triple, int]:
    """Split a shape into three axes and channels; (x, y, z, 1, c) is how NIfTI stores vectors.

    Raises:
        InputError: it is no volume's.
    """
    if len(shape) < 3:
        raise InputError(
            f"{path} has {len(shape)} axes, shape {shape}",
            "a volume of 3 axes, or 4 with channels last",
            "save it as a raster (PNG, TIFF) and use `kind: raster`, or stack the slices into one volume",
        )
    if min(shape) < 1:
        raise InputError(f"{path} is empty: shape {shape}", "at least one voxel on every axis", "export it again")
    lead, rest = shape[:3], [n for n in shape[3:] if n > 1]
    if len(rest) > 1:
        raise InputError(
            f"{path} has {len(shape)} axes, shape {shape}",
            "a volume of 3 axes, or 4 with channels last",
            "split it into volumes of at most 4 axes (nib-split, fslsplit)",
        )
    return cast("Triple", lead), prod(rest)


def require_numbers(path: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a type of voxels if it can be read.

    Raises:
        InputError: it is none of numbers.
    """
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        what = {"c": "complex numbers", "V": "colours (RGB)"}.get(dtype.kind, str(dtype))
        raise InputError(
            f"{path} holds {what}",
            "integers or floating-point numbers of at most 64 bits, one value a voxel and channel",
            "convert it: the magnitude of complex images, one channel a colour (shape x, y, z, 3)",
        )
    return dtype


def require_whole(header: VolumeHeader) -> None:
    """Raise InputError where the file is shorter than its voxels, which are not packed."""
    found, needed = Path(header.data_path).stat().st_size, header.offset_bytes + header.data_bytes
    if found < needed:
        raise InputError(
            f"{header.data_path} is cut short: {found} bytes",
            f"{needed} bytes, as its header says",
            "copy or download it again",
        )


def _place(
    header: Any, best: NDArray[np.float64], shape: tuple[int, ...], path: str
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the (4, 4) affine in millimetres and the notices about it."""
    matrix = np.asarray(best, dtype=np.float64)
    require_invertible(path, matrix)
    notices: list[str] = []
    from nibabel.freesurfer.mghformat import MGHHeader

    if isinstance(header, MGHHeader):
        if not int(header["goodRASFlag"]):
            notices.append(f"{path}: the header gives no position (goodRASFlag 0); FreeSurfer's default is used")
    else:
        notices += _nifti_notices(header, matrix, shape, path)
        scale, unit = MILLIMETRES.get(int(header["xyzt_units"]) & 7, (1.0, ""))
        if unit:
            notices.append(f"{path}: positions are stored in {unit} and read as millimetres")
            matrix = np.diag([scale, scale, scale, 1.0]) @ matrix
    return matrix, tuple(notices)


def _nifti_notices(header: Any, matrix: NDArray[np.float64], shape: tuple[int, ...], path: str) -> list[str]:
    """Tell where the header contradicts itself. NIfTI-1 standard, methods 1 to 3."""
    qcode, scode = int(header["qform_code"]), int(header["sform_code"])
    if qcode == 0 and scode == 0:
        return [
            f"{path}: sform and qform both have code 0: the header does not say how the volume lies; read as Analyze "
            f"does, {directions(matrix)} by voxel sizes alone, so left and right may be swapped"
        ]
    if qcode == 0 or scode == 0:
        return []
    try:
        qform = np.asarray(header.get_qform(), dtype=np.float64)
    except ValueError:
        return [f"{path}: the qform (code {qcode}) is no rotation; the sform (code {scode}) is used"]
    apart, voxel = furthest(qform, matrix, shape[:3]), float(np.linalg.norm(matrix[:3, :3], axis=0).min())
    if apart <= AGREE * voxel:
        return []
    return [
        f"{path}: sform (code {scode}) and qform (code {qcode}) disagree by up to {apart:.3g} (in the header's units; "
        f"{apart / voxel if voxel else float('inf'):.3g} voxels); the sform is used"
    ]


def furthest(one: NDArray[np.float64], two: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    """Return how far two affines put the worst corner of a volume apart, in millimetres.

    Args:
        one: (4, 4), voxels to millimetres.
        two: the same.
        shape: of the volume, in voxels.
    """
    corners = np.array([(*corner, 1.0) for corner in product(*((0.0, n - 1.0) for n in shape))])
    return float(np.linalg.norm((corners @ (one - two).T)[:, :3], axis=1).max())


def require_invertible(path: str, matrix: NDArray[np.float64]) -> None:
    """Raise InputError where an affine (4, 4) puts different voxels in one place."""
    sides = np.linalg.norm(matrix[:3, :3], axis=0)
    whole = bool(np.isfinite(matrix).all()) and bool((sides > 0).all())
    if not whole or abs(float(np.linalg.det(matrix[:3, :3] / sides))) < 1e-4:
        raise InputError(
            f"{path}: the affine is singular: {np.array2string(matrix[:3], precision=4, separator=', ')}",
            "three independent axes of finite length",
            "correct the header (nibabel: image.set_sform, image.set_qform) or export the volume again",
        )
