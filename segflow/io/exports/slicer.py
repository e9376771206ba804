"""A label volume for 3D Slicer: `<scene>.seg.nrrd` with its segments, and `<scene>.ctbl`, its colours as a table.

Format: NRRD0004 (http://teem.sourceforge.net/nrrd/format.html), in LPS, gzip, with the keys of Slicer's segmentation
storage node (https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html). All segments share
one layer, as classes do not overlap. The voxels are those of the label map, in its own order, and lie where Slicer
shows the input: of a NIfTI file whose qform and sform disagree, that may be the qform.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.errors import OutputError
from segflow.io.atomic import replacing, write_text
from segflow.io.exports.coding import Code, Coding, coding_of, foreground
from segflow.io.exports.label_slabs import Extent, label_extents, label_slabs
from segflow.io.exports.protocol import Published
from segflow.io.geometry import matrix_for_itk
from segflow.io.nifti import LEVEL
from segflow.io.volume_header import VolumeHeader, read_volume_header
from segflow.models.card import LabelClass

SHEAR = 1e-3
"""How far from a right angle (as a cosine) two axes may be: more is sheared, as by a tilted gantry."""

_EMPTY: Extent = (0, -1, 0, -1, 0, -1)
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


class SegNrrd:
    """The segmentation and its colour table. See `segflow.io.exports.Exporter`."""

    name = "seg_nrrd"
    settings: Mapping[str, Any] = {}

    def files(self, scene: str, folder: Path) -> tuple[Path, ...]:
        """Return the segmentation and the colour table."""
        return folder / f"{scene}.seg.nrrd", folder / f"{scene}.ctbl"

    def require(self, published: Published) -> None:
        """Refuse a sheared grid.

        Raises:
            InputError: the input's header cannot be read.
            OutputError: Slicer's segmentations, as those of ITK, have axes at right angles only.
        """
        require_right_angles(matrix_for_itk(published.source), "a segmentation for 3D Slicer")

    def write(self, published: Published) -> None:
        """Write both files; some planes are in memory.

        Raises:
            InputError: the label map is broken.
            OutputError: a file cannot be written.
        """
        segmentation, table = self.files(published.scene, published.folder)
        header = read_volume_header(str(published.labels))
        matrix = matrix_for_itk(str(published.labels))
        text = nrrd_header(header, matrix, foreground(published.card.classes), label_extents(header))
        with replacing(segmentation) as part, part.open("wb") as raw:
            raw.write(text.encode())
            with gzip.GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=raw, mtime=0) as file:
                for _, slab in label_slabs(header):
                    file.write(slab.tobytes(order="F"))
        write_text(table, colour_table(table.name, published.card.classes))


def require_right_angles(matrix: NDArray[np.float64], what: str) -> None:
    """Refuse a grid whose axes are not at right angles.

    Raises:
        OutputError: two of them are not.
    """
    sides = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    cosines = np.abs(sides.T @ sides - np.eye(3))
    if cosines.max() > SHEAR:
        degrees = float(np.degrees(np.arcsin(min(1.0, cosines.max()))))
        raise OutputError(
            f"the grid is sheared: two of its axes are {degrees:.1f} degrees off a right angle",
            f"axes at right angles, as {what} can have no others",
            "resample the volume to a grid without shear before the run, or use the NIfTI label map, which keeps it",
        )


def nrrd_header(
    header: VolumeHeader, matrix: NDArray[np.float64], classes: Sequence[LabelClass], extents: Mapping[int, Extent]
) -> str:
    """Return the head of the file, up to the empty line before the voxels.

    Args:
        header: of the label map.
        matrix: (4, 4) from its voxels to mm, RAS+.
        classes: the segments' classes.
        extents: bounding boxes by class id; a class that has none is empty.
    """
    matrix = _LPS @ matrix
    lines = [
        "NRRD0004",
        f"type: {'unsigned char' if header.dtype.itemsize == 1 else 'unsigned short'}",
        "dimension: 3",
        "space: left-posterior-superior",
        "sizes: " + " ".join(map(str, header.file_shape)),
        "space directions: " + " ".join(_vector(matrix[:3, axis]) for axis in range(3)),
        "kinds: domain domain domain",
        *(["endian: little"] if header.dtype.itemsize > 1 else []),
        "encoding: gzip",
        "space origin: " + _vector(matrix[:3, 3]),
        "Segmentation_ContainedRepresentationNames:=Binary labelmap|",
        "Segmentation_MasterRepresentation:=Binary labelmap",
        "Segmentation_SourceRepresentation:=Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset:=0 0 0",
    ]
    for number, item in enumerate(classes):
        lines += (f"Segment{number}_{key}:={value}" for key, value in _segment(item, extents.get(item.id, _EMPTY)))
    return "\n".join(lines) + "\n\n"


def _segment(item: LabelClass, extent: Extent) -> Iterator[tuple[str, str]]:
    yield "Color", " ".join(f"{value / 255:.6g}" for value in item.rgb)
    yield "ColorAutoGenerated", "0"
    yield "Extent", " ".join(map(str, extent))
    yield "ID", f"Segment_{item.id}"
    yield "LabelValue", str(item.id)
    yield "Layer", "0"
    yield "Name", " ".join(item.name.split()).replace("\\", "\\\\")
    yield "NameAutoGenerated", "0"
    coding = coding_of(item)
    yield "Tags", "|" if coding is None else f"TerminologyEntry:{_terminology(coding)}|"


def _terminology(coding: Coding) -> str:
    """Return a terminology entry: context, category, type, its modifier, region context, region, its modifier."""
    triples = (
        *(coding.category, coding.type, next(iter(coding.modifiers), None)),
        *(next(iter(coding.regions), None), next(iter(coding.region_modifiers), None)),
    )
    category, kind, modifier, region, region_modifier = map(_triple, triples)
    return (
        f"Segmentation category and type - DICOM master list~{category}~{kind}~{modifier}"
        f"~Anatomic codes - DICOM master list~{region}~{region_modifier}"
    )


def _triple(code: Code | None) -> str:
    plain = ("", "", "") if code is None else (code.scheme, code.value, code.meaning)
    return "^".join(part.translate({ord(sign): " " for sign in "~^|"}) for part in plain)


def _vector(values: NDArray[np.float64]) -> str:
    return "(" + ",".join(repr(float(value) + 0.0) for value in values) + ")"


def colour_table(name: str, classes: Sequence[LabelClass]) -> str:
    """Return Slicer's colour table: index, name without blanks, red, green, blue, opacity; 0 is not shown."""
    rows = [f"0 {_word('background')} 0 0 0 0"] if all(item.id for item in classes) else []
    for item in sorted(classes, key=lambda item: item.id):
        red, green, blue = item.rgb
        rows.append(f"{item.id} {_word(item.name)} {red} {green} {blue} {0 if item.id == 0 else 255}")
    return "\n".join([f"# Color table file {name}", f"# {len(rows)} values", *rows]) + "\n"


def _word(name: str) -> str:
    return "_".join(name.split())
