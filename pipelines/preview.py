"""Pictures for a scene's page, from what was published: input, labels, reference and confidence on the same cells."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.plan import ReferencePlan
from pipelines.predict import inside
from pipelines.seen import Seen
from segflow.errors import InputError
from segflow.io.opening import open_source
from segflow.io.raster import RasterSpec
from segflow.io.source import Source
from segflow.io.volume import VolumeSpec
from segflow.metrics import reference_codes
from segflow.report import ClassReport, Pictures
from segflow.report.codec import NOTHING
from tiling import Box

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenSeen:
    """A scene's files, open.

    Attributes:
        seen: how they were opened.
        classes: of the report.
        labels: the published label map.
        image: the input; None where it is not there any more.
        confidence: the published confidence.
        reference: what the labels are compared with.
    """

    seen: Seen
    classes: Sequence[ClassReport]
    labels: Source
    image: Source | None
    confidence: Source | None
    reference: Source | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells of the label map."""
        return self.labels.grid.shape

    @property
    def ids(self) -> NDArray[np.int32]:
        """(256,) ids by position, -1 for none."""
        table = np.full(256, -1, np.int32)
        for place, item in enumerate(self.classes[:NOTHING]):
            table[place] = item.id
        return table

    def moved(self, box: Box) -> Box:
        """Return where a box of the label map lies in the scene."""
        return box.shift(self.seen.start)

    def truth(self, box: Box) -> NDArray[np.uint8]:
        """Return the reference in a box of the label map: positions of classes, 255 where nothing is scored."""
        plan, reference = self.seen.reference, self.reference
        if plan is None or reference is None:
            raise ValueError("the scene has no reference")
        return _scored(self.seen.ids, plan, reference, self.moved(box))


def pictures(seen: Seen, classes: Sequence[ClassReport], labels: Path, confidence: Path | None) -> Pictures:
    """Return what a scene's page shows, in memory that does not grow with the scene.

    Args:
        seen: how the scene is opened.
        classes: of its report.
        labels: the published label map.
        confidence: the published confidence; None where it was not written.

    Raises:
        InputError: the label map cannot be read. (An input or a reference that is gone is told and left out.)
    """
    from pipelines.preview_raster import raster_pictures
    from pipelines.preview_volume import volume_pictures

    raster = isinstance(seen.spec, RasterSpec)

    def spec(path: Path) -> RasterSpec | VolumeSpec:
        return RasterSpec(str(path), (1,)) if raster else VolumeSpec(str(path), "RAS")

    with ExitStack() as stack:
        scene = OpenSeen(
            seen,
            classes,
            stack.enter_context(closing(open_source(spec(labels)))),
            _there(stack, seen.spec),
            None if confidence is None else stack.enter_context(closing(open_source(spec(confidence)))),
            None if seen.reference is None else _there(stack, seen.reference.spec),
        )
        return raster_pictures(scene) if raster else volume_pictures(scene)


def _there(stack: ExitStack, spec: Any) -> Source | None:
    """Open a file that may be gone since it was read."""
    try:
        return stack.enter_context(closing(open_source(spec)))
    except InputError as error:
        _LOG.warning("the page is made without it: %s", error.found)
        return None


def _scored(ids: tuple[int, ...], plan: ReferencePlan, reference: Source, box: Box) -> NDArray[np.uint8]:
    pixels = reference.read(box)
    rows = reference_codes(ids, plan.ignore, plan.map)(pixels.values[0].reshape(-1)).reshape(box.shape)
    known = pixels.valid & inside(plan, box) & (rows < min(len(ids), NOTHING))
    return np.where(known, rows, NOTHING).astype(np.uint8)
