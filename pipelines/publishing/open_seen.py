"""A scene's files as pictures read them: its published label map, its input, its confidence and its reference, open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.planning.plan import ReferencePlan
from pipelines.predict import inside
from pipelines.publishing.seen import Seen
from segflow.io.source import Source
from segflow.metrics import reference_codes
from segflow.report import ClassReport
from segflow.report.codec import NOTHING
from tiling import Box


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


def _scored(ids: tuple[int, ...], plan: ReferencePlan, reference: Source, box: Box) -> NDArray[np.uint8]:
    pixels = reference.read(box)
    rows = reference_codes(ids, plan.ignore, plan.map)(pixels.values[0].reshape(-1)).reshape(box.shape)
    known = pixels.valid & inside(plan, box) & (rows < min(len(ids), NOTHING))
    return np.where(known, rows, NOTHING).astype(np.uint8)
