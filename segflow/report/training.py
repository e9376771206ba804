"""What a training tells of itself: its curve, its scores, its worst patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.metrics import Scores
from segflow.models.card import Card
from tiling import Box


@dataclass(frozen=True, slots=True)
class Point:
    """One optimiser step.

    Attributes:
        step: from 1: how many steps were done.
        loss: mean loss of the step's patches; NaN or infinite is shown as a gap.
        rate: learning rate that the step was taken with.
        seconds: busy training time up to and with this step, all legs of a resumed training together.
    """

    step: int
    loss: float
    rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores on what was held back, while training.

    Attributes:
        step: after how many steps.
        overall: such as mean_iou, mean_dice, pixel_accuracy; None where there is none.
        iou: class name to IoU.
        dice: class name to Dice.
    """

    step: int
    overall: Mapping[str, float | None]
    iou: Mapping[str, float | None] = field(default_factory=dict)
    dice: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Worst:
    """A patch of what was held back on which the model did badly.

    Attributes:
        scene: the scene's name.
        box: where, in the scene's cells and array order; for a volume three axes, of which one may be a single slice.
        accuracy: share of the scored cells that are right, 0 to 1.
        image: (y, x, 3) uint8, the input as it is shown.
        reference: (y, x) class ids; ids that are no class = not scored.
        predicted: (y, x) class ids.
    """

    scene: str
    box: Box
    accuracy: float
    image: NDArray[np.uint8]
    reference: NDArray[Any]
    predicted: NDArray[Any]

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"an image is (y, x, 3) uint8, got {self.image.shape} {self.image.dtype}")
        for what in ("reference", "predicted"):
            shape = getattr(self, what).shape
            if shape != self.image.shape[:2]:
                raise ValueError(f"{what} has shape {shape}, the image {self.image.shape[:2]}")


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """Everything that the page of a training shows. What is not known is left empty, and its section left out.

    Attributes:
        card: the model that was made.
        points: the curve, by rising step.
        scored: scores while training, by rising step.
        final: scores of the final model on all that was held back; None where nothing was.
        worst: the worst first.
        recipe_text: the recipe as it ran, YAML.
        notices: what a reader must know before trusting the result.
        facts: name to value, shown as they are, in this order: machine, cores, versions, minutes, parameters, seed.
        kept: the step whose weights were kept; None: the last.
    """

    card: Card
    points: Sequence[Point] = ()
    scored: Sequence[Scored] = ()
    final: Scores | None = None
    worst: Sequence[Worst] = ()
    recipe_text: str = ""
    notices: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    kept: int | None = None
