"""One door to the formats of volumes: NIfTI, MGH, NRRD, MetaImage, and series of DICOM slices.

Each gives the same `VolumeHeader`: where the voxels are, and where they lie in the patient, RAS+.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from segflow.errors import InputError
from segflow.io.content import file_identity
from segflow.io.dicom.place import is_dicom_path, name_of_place, split_path
from segflow.io.dicom.volume import dicom_content, dicom_files, dicom_header
from segflow.io.metaimage import read_metaimage_header
from segflow.io.names import stem_of
from segflow.io.nrrd_header import read_nrrd_header
from segflow.io.volume_header import VolumeHeader, read_volume_header


def read_header(path: str) -> VolumeHeader:
    """Read the header of a volume of any format; no voxel is touched.

    Args:
        path: a file, or `PLACE#KEY` of a DICOM series; or a folder or zip that holds one.

    Raises:
        InputError: it is missing, broken, too short, or no volume of numbers that lies somewhere.
    """
    lower = path.lower()
    if lower.endswith((".nrrd", ".nhdr")):
        return read_nrrd_header(path)
    if lower.endswith((".mha", ".mhd")):
        return read_metaimage_header(path)
    return dicom_header(path) if is_dicom_path(path) else read_volume_header(path)


def files_of_volume(path: str) -> list[Path]:
    """Return the local files that a volume is read from: its header and voxels, or the slices of a series.

    Raises:
        InputError: a file is missing or broken.
    """
    if is_dicom_path(path):
        return dicom_files(path)
    if not path.lower().endswith((".nhdr", ".mhd")):
        return [Path(path)]
    header = read_header(path)
    return [Path(path), *([Path(header.voxels)] if header.voxels else [])]


def content_of_volume(path: str) -> str:
    """Return a sum over a volume's bytes, which does not tell where it lies.

    Raises:
        InputError: a file cannot be read.
    """
    if is_dicom_path(path):
        return dicom_content(path)
    try:
        sums = [file_identity(file) for file in files_of_volume(path)]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "a readable file", "check the path") from error
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def stamp_of_volume(path: str) -> str:
    """Return a text that changes when a volume's files are written.

    Raises:
        InputError: a file is missing or broken.
    """
    states = [(file, file.stat()) for file in files_of_volume(path)]
    return "|".join(f"{file.absolute()} {state.st_size} {state.st_mtime_ns}" for file, state in states)


def name_of_volume(path: str) -> str:
    """Return a volume's name: the file's without its extensions, or that of the folder of a series."""
    return name_of_place(split_path(path)[0]) if is_dicom_path(path) else stem_of(path)
