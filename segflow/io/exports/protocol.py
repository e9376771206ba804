"""What an exporter is given, and what it must do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from segflow.grid import Grid
from segflow.io.opening import Spec
from segflow.io.raster import RasterSpec
from segflow.models.card import Card
from tiling import Box


@dataclass(frozen=True, slots=True)
class Published:
    """A scene's label map, and what is known of it.

    Attributes:
        scene: the name of its outputs.
        folder: where they lie.
        files: what is published, by layer: `labels`, and `confidence` and the like where they were asked for. Before
            a run, where they will lie.
        grid: of the label map.
        card: of the model: its classes are those of the label map.
        inputs: the files that were segmented, as named.
        spec: how they are opened.
        nodata: the value of a raster's cells without valid input; 0 in volumes, where it means nothing.
        fingerprint: of the result.
        weights_sha256: hash of the model's weights.
        weights: the model's file, of several the first.
        part: the cells of the scene that the label map covers; None: all.
        scene_cells: of the scene, or of the mosaic that it is a sheet of; None: those of `grid`.
        margin: cells on each axis that a cell should have around it, as context.
        preview: whether it is a look at a part of what was asked for, which nobody elsewhere should take for the whole.
    """

    scene: str
    folder: Path
    files: Mapping[str, Path]
    grid: Grid
    card: Card
    inputs: tuple[str, ...]
    spec: Spec
    nodata: int
    fingerprint: str
    weights_sha256: str
    weights: Path | None = None
    part: Box | None = None
    scene_cells: tuple[int, ...] | None = None
    margin: tuple[int, ...] = ()
    preview: bool = False

    @property
    def scene_shape(self) -> tuple[int, ...]:
        """Cells of the scene."""
        return self.scene_cells or self.grid.shape

    @property
    def source(self) -> str:
        """The file on whose grid the label map lies."""
        if isinstance(self.spec, RasterSpec):
            return self.spec.path
        return self.spec.paths[self.spec.resample_to or 0]

    @property
    def region(self) -> Box:
        """The cells of the scene that the label map covers."""
        return self.part or Box.whole(self.grid.shape)

    @property
    def labels(self) -> Path:
        """The label map."""
        return self.files["labels"]


class Exporter(Protocol):
    """Makes files of one format from a published label map."""

    @property
    def name(self) -> str:
        """The key of `outputs` that asks for it."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Plain data that decides what is written, other than the scene: a change of it makes the files anew."""

    def files(self, scene: str, folder: Path) -> tuple[Path, ...]:
        """Return the files that it writes; none for what goes to a database."""

    def require(self, published: Published) -> None:
        """Refuse what the format cannot express; reads no pixels. Asked before a run, and again before writing.

        Raises:
            OutputError: it cannot be; the remedy says what can.
        """

    def write(self, published: Published) -> None:
        """Write the files, each whole or not at all.

        Raises:
            SegflowError: it could not be done; what was published before is as it was.
        """
