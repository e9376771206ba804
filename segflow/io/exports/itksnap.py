"""Names and colours for ITK-SNAP: `<scene>_itksnap.txt`, a label description file (Segmentation, Import Label
Descriptions).

A row a label: index, red, green, blue, opacity (0 to 1), whether it is shown, whether in the mesh, and its name in
quotes (http://www.itksnap.org, ITK-SnAP Label Description File). The voxels are those of the NIfTI label map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segflow.io.atomic import write_text
from segflow.io.exports.coding import foreground
from segflow.io.exports.protocol import Published
from segflow.models.card import LabelClass

_HEAD = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
################################################
"""


class ItkSnap:
    """The label descriptions. See `segflow.io.exports.Exporter`."""

    name = "itksnap"
    settings: Mapping[str, Any] = {}

    def files(self, scene: str, folder: Path) -> tuple[Path, ...]:
        """Return the label description file."""
        return (folder / f"{scene}_itksnap.txt",)

    def require(self, published: Published) -> None:
        """Refuse nothing: ITK-SNAP takes 65,535 labels, and class ids go no further."""

    def write(self, published: Published) -> None:
        """Write the file.

        Raises:
            OutputError: it cannot be written.
        """
        write_text(self.files(published.scene, published.folder)[0], descriptions(published.card.classes))


def descriptions(classes: Sequence[LabelClass]) -> str:
    """Return the file's text. Label 0 is ITK-SNAP's own, which shows nothing."""
    rows = [_row(0, (0, 0, 0), 0, "Clear Label")]
    rows += (_row(item.id, item.rgb, 1, " ".join(item.name.split())) for item in foreground(classes))
    return _HEAD + "".join(rows)


def _row(index: int, rgb: tuple[int, int, int], shown: int, name: str) -> str:
    red, green, blue = rgb
    quoted = name.replace('"', "'")
    return f'{index:5d}   {red:3d}  {green:3d}  {blue:3d}  {shown:7d}  {shown}  {shown}    "{quoted}"\n'
