"""A DICOM series as a volume file: its header, its voxels unpacked to scratch, its files and their content."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

from segflow.io.content import file_identity
from segflow.io.dicom.choice import series_at
from segflow.io.dicom.frames import broken
from segflow.io.dicom.pixels import scaling_of, stored_type, turned_round, write_voxels
from segflow.io.dicom.place import BROKEN
from segflow.io.dicom.series import Series
from segflow.io.scratch import scratch_file
from segflow.io.volume_header import VolumeHeader

_CHUNK_BYTES = 1 << 20


def dicom_header(path: str) -> VolumeHeader:
    """Return what the slices of a series say together; no pixel is read.

    Raises:
        InputError: a file is missing or broken, or the slices are no regular volume.
    """
    series = series_at(path)
    matrix = series.affine()
    first = series.frames[0].image
    slope, inter = scaling_of(series) or (1.0, 0.0)
    return VolumeHeader(
        path=path,
        file_shape=(first.columns, first.rows, len(series.frames)),
        channels=1,
        dtype=stored_type(series),
        slope=slope,
        inter=inter,
        offset_bytes=0,
        affine=tuple(float(value) for value in matrix[:3].ravel()),
        packing="slices",
        notices=tuple(_notices(series)),
    )


def _notices(series: Series) -> list[str]:
    found = []
    if series.others:
        found.append(
            f"{series.path}: {series.others} more slices of the series are no part of this volume: they differ in "
            "size, direction, spacing, echo, time or kind"
        )
    if len(series.frames) == 1:
        found.append(f"{series.path}: one slice alone; its thickness is what the header says, or a guess")
    if any(turned_round(image) for image in series.images):
        found.append(f"{series.path}: MONOCHROME1, small values are bright: values are turned round")
    elif any(image.photometric == "MONOCHROME1" for image in series.images):
        found.append(f"{series.path}: MONOCHROME1, but the values are measurements: they are read as they are")
    if any("DERIVED" in image.tags["ImageType"] for image in series.images[:1]):
        found.append(f"{series.path}: a derived series ({series.tags['ImageType']}), not the scanner's own images")
    return found


def open_voxels(header: VolumeHeader, scratch: str | None) -> BinaryIO:
    """Open a series' voxels for reading in any order, decoded to scratch once.

    Raises:
        InputError: a file is gone or broken; or scratch has no room.
    """
    series = series_at(header.path)
    members = sorted((image.member for image in series.images), key=lambda member: member.name)
    key = "|".join([header.path, *(f"{item.name} {item.bytes} {item.changed_ns}" for item in members)])
    return scratch_file(key, header.data_bytes, scratch, write_voxels(series))


def dicom_files(path: str) -> list[Path]:
    """Return the local files that a series is read from: its own, or the zip that holds them.

    Raises:
        InputError: they are not there.
    """
    return sorted({Path(image.member.path) for image in series_at(path).images})


def dicom_content(path: str) -> str:
    """Return the sha256 that stands for a series' content: the bytes of its files, wherever they lie.

    Raises:
        InputError: a file cannot be read.
    """
    series = series_at(path)
    digest = hashlib.sha256(f"{[frame.number for frame in series.frames]}".encode())
    with series.opened() as opened:
        for image in series.images:
            try:
                if not image.member.inside:
                    digest.update(file_identity(Path(image.member.path)).encode())
                    continue
                own = hashlib.sha256()
                with opened(image.member) as file:
                    while piece := file.read(_CHUNK_BYTES):
                        own.update(piece)
                digest.update(own.hexdigest().encode())
            except BROKEN as error:
                raise broken(image.member, str(error)) from error
    return digest.hexdigest()
