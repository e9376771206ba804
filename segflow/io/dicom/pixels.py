"""From the slices of a series to one file of voxels in scratch: decoded one after another, in flat memory.

Values are those that are stored (PS3.3 C.7.6.3): bits beyond `BitsStored` are cut off, signs extended. Rescaling is
left to the reader where it is the same for all slices, and done here where slices differ. MONOCHROME1 shows small
values bright; such pictures are turned round as ITK does it, within the range of their bits, unless their values are
measurements (CT, PET, NM), whose meaning does not depend on how they are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from segflow.errors import InputError, SegflowError
from segflow.io.dicom.frames import NATIVE, Frame, Image, broken, library
from segflow.io.dicom.place import BROKEN
from segflow.io.dicom.series import Series

_DEFLATED = "1.2.840.10008.1.2.1.99"
"""The whole file is packed, header and all: it is read as a whole."""

_MEASURED = ("CT", "PT", "NM")


def scaling_of(series: Series) -> tuple[float, float] | None:
    """Return slope and intercept of all slices; None where slices differ."""
    found = {(frame.slope, frame.inter) for frame in series.frames}
    return found.pop() if len(found) == 1 else None


def stored_type(series: Series) -> np.dtype[Any]:
    """Return the type of the voxels in scratch: as stored, float32 where slices are scaled differently."""
    if scaling_of(series) is None:
        return np.dtype("<f4")
    return np.result_type(*{_type_of(image) for image in series.images}).newbyteorder("<")


def turned_round(image: Image) -> bool:
    """Tell whether an image's values are turned round: MONOCHROME1 that is no measurement."""
    return image.photometric == "MONOCHROME1" and image.tags["Modality"] not in _MEASURED


def write_voxels(series: Series) -> Callable[[BinaryIO], None]:
    """Return a writer of all slices, one after another, each row by row: columns run fastest.

    Raises (when called):
        InputError: a file is gone, cut short or damaged, or what decodes it is not installed.
    """

    def write(target: BinaryIO) -> None:
        dtype, scaling = stored_type(series), scaling_of(series)
        for frame, values in _decoded(series):
            if scaling is None:
                values = values * np.float64(frame.slope) + np.float64(frame.inter)
            target.write(np.ascontiguousarray(values, dtype=dtype).tobytes())

    return write


def _type_of(image: Image) -> np.dtype[Any]:
    return np.dtype(f"{'i' if image.signed else 'u'}{image.allocated // 8}")


def _decoded(series: Series) -> Iterator[tuple[Frame, NDArray[Any]]]:
    """Yield slices with their stored values (row, column), in the series' order; files are opened once a run."""
    with series.opened() as opened:
        for frames in _runs(series.frames):
            image = frames[0].image
            try:
                with opened(image.member) as file:
                    values = _native(image, frames, file) if image.native else _packed(image, frames, file)
                    for frame, plane in zip(frames, values, strict=True):
                        yield frame, _mended(image, plane)
            except SegflowError:
                raise
            except BROKEN as error:
                raise broken(image.member, str(error)) from error


def _runs(frames: tuple[Frame, ...]) -> Iterator[list[Frame]]:
    """Put neighbours that lie in one file together."""
    run: list[Frame] = []
    for frame in frames:
        if run and run[0].image is not frame.image:
            yield run
            run = []
        run.append(frame)
    if run:
        yield run


def _native(image: Image, frames: list[Frame], file: BinaryIO) -> Iterator[NDArray[Any]]:
    dtype = _type_of(image).newbyteorder(">" if image.syntax == NATIVE[2] else "<")
    for frame in frames:
        file.seek(image.pixels_at + frame.number * image.frame_bytes)
        content = file.read(image.frame_bytes)
        if len(content) != image.frame_bytes:
            raise broken(image.member, "it ends before its pixels do")
        yield np.frombuffer(content, dtype).reshape(image.rows, image.columns)


def _packed(image: Image, frames: list[Frame], file: BinaryIO) -> Iterator[NDArray[Any]]:
    """Decode with the packages that pydicom finds, a frame at a time."""
    from pydicom.pixels.utils import iter_pixels

    try:
        # A wrong guess of a decoder's is told by pydicom's exceptions, whatever they are.
        source = library().dcmread(file, force=True) if image.syntax == _DEFLATED else file
        for plane in iter_pixels(source, indices=[frame.number for frame in frames], raw=True):
            yield plane.reshape(image.rows, image.columns)
    except Exception as error:
        lacking = "missing dependencies" in str(error) or "install" in str(error).lower()
        if lacking or isinstance(error, NotImplementedError):
            raise InputError(
                f"{image.member.name} is packed in a way that nothing here decodes (transfer syntax {image.syntax})",
                "JPEG, JPEG-LS, JPEG 2000, RLE or no compression, and the packages that decode it",
                "pip install 'segflow[dicom]', or unpack the series first (dcmdjpeg, dcmdjpls, gdcmconv --raw)",
            ) from error
        raise broken(image.member, f"its pixels cannot be decoded ({type(error).__name__})") from error


def _mended(image: Image, values: NDArray[Any]) -> NDArray[Any]:
    """Cut off what is beyond the stored bits, extend the sign, and turn MONOCHROME1 round."""
    dtype = _type_of(image)
    shift = image.high_bit + 1 - image.stored
    if image.stored < image.allocated or shift:
        left = image.allocated - image.high_bit - 1
        # Shifted up, so that the sign's bit is on top, and down again, which extends it.
        raised = np.left_shift(values.astype(dtype), left)
        values = np.right_shift(raised, left + shift)
    values = values.astype(dtype, copy=False)
    if turned_round(image):
        bits = image.stored
        low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if image.signed else (0, (1 << bits) - 1)
        values = (low + high - values.astype(np.int64)).astype(dtype)
    return values
