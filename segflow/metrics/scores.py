"""Scores that follow from confusion counts, in the shape of report.json.

With TP, FP, FN, TN of one class: IoU = TP / (TP + FP + FN); Dice = F1 = 2 TP / (2 TP + FP + FN);
precision = TP / (TP + FP); recall = TP / (TP + FN); specificity = TN / (TN + FP). Over all classes: pixel accuracy,
mean class accuracy (mean recall), mean IoU and frequency-weighted IoU as in Long, Shelhamer, Darrell, "Fully
Convolutional Networks for Semantic Segmentation" (CVPR 2015), and Cohen's kappa (1960).

One convention for what divides by nothing: a class in neither the reference nor the prediction has no scores (None)
and is out of every mean. A class in only one of them scores 0 (sklearn's ``zero_division=0``), so missing an organ, or
inventing one, never improves a mean. Mean class accuracy is over the classes in the reference, as sklearn's
``balanced_accuracy_score``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from segflow.metrics.counts import Counts
from segflow.metrics.means import mean_of_known, named
from segflow.models.card import LabelClass


class _Base(TypedDict):
    id: int
    name: str
    colour: str
    pixels: int


class ClassScores(_Base, total=False):
    """One class: cells and extent always, the scores (0 to 1) only where there is a reference."""

    area_m2: float | None
    volume_ml: float | None
    iou: float | None
    dice: float | None
    precision: float | None
    recall: float | None
    specificity: float | None
    support: int


class Binary(TypedDict):
    """The second of two classes, the foreground, on its own."""

    id: int
    name: str
    recall: float | None
    precision: float | None
    f1: float | None


class Overall(TypedDict):
    """Scores over all classes (0 to 1; kappa -1 to 1), with what they were divided by."""

    pixel_accuracy: float | None
    mean_class_accuracy: float | None
    mean_iou: float | None
    mean_dice: float | None
    frequency_weighted_iou: float | None
    kappa: float | None
    pixels_scored: int
    classes_scored: int
    classes_in_reference: int
    denominators: str
    binary: Binary | None


class ConfusionMatrix(TypedDict):
    """Cells; rows are the reference, columns the prediction, both in the order of `labels`."""

    labels: list[int]
    counts: list[list[int]]


class Scores(TypedDict):
    """The part of report.json that follows from counts."""

    classes: list[ClassScores]
    overall: Overall | None
    confusion_matrix: ConfusionMatrix | None
    excluded: int


def scores(
    counts: Counts,
    classes: Sequence[LabelClass],
    *,
    cell_area_m2: float | None = None,
    cell_volume_ml: float | None = None,
) -> Scores:
    """Return the scores of counts.

    Args:
        counts: cells by reference and prediction.
        classes: the classes, in the order of ``counts.labels``.
        cell_area_m2: area of a raster's cell in square metres, None where it is unknown.
        cell_volume_ml: volume of a voxel in millilitres; given, the classes have `volume_ml`, else `area_m2`.
    """
    if tuple(item.id for item in classes) != counts.labels:
        raise ValueError(f"classes {[item.id for item in classes]} are not the counts' labels {list(counts.labels)}")
    unit = cell_area_m2 if cell_volume_ml is None else cell_volume_ml
    extents = [None if unit is None else int(pixels) * unit for pixels in counts.predicted]
    return _scores(counts, classes, extents, "area_m2" if cell_volume_ml is None else "volume_ml")


def pool_scores(parts: Sequence[tuple[Counts, Scores]], classes: Sequence[LabelClass]) -> Scores:
    """Return the scores of the summed counts of several scenes; areas and volumes are sums of the scenes' own.

    Raises:
        ValueError: no parts, or scenes of other classes.
    """
    if not parts:
        raise ValueError("nothing to pool: no scene was given")
    total = Counts.zero(parts[0][0].labels, referenced=False)
    for counts, _ in parts:
        total += counts
    key = "volume_ml" if all("volume_ml" in item for _, part in parts for item in part["classes"]) else "area_m2"
    extents: list[float | None] = []
    for index in range(len(classes)):
        values = [_extent(part["classes"][index]) for _, part in parts]
        known = [value for value in values if value is not None]
        extents.append(sum(known) if len(known) == len(values) else None)
    return _scores(total, classes, extents, key)


def _extent(item: ClassScores) -> float | None:
    return item.get("volume_ml") if "volume_ml" in item else item.get("area_m2")


def _scores(counts: Counts, classes: Sequence[LabelClass], extents: Sequence[float | None], key: str) -> Scores:
    rows: list[ClassScores] = []
    measured = None if counts.matrix is None else _measure(counts.matrix)
    for index, (item, extent) in enumerate(zip(classes, extents, strict=True)):
        row = ClassScores(id=item.id, name=item.name, colour=item.colour, pixels=int(counts.predicted[index]))
        if key == "area_m2":
            row["area_m2"] = extent
        else:
            row["volume_ml"] = extent
        if measured is not None:
            row.update(measured[index])
        rows.append(row)
    if counts.matrix is None:
        return Scores(classes=rows, overall=None, confusion_matrix=None, excluded=counts.excluded)
    return Scores(
        classes=rows,
        overall=_overall(counts.matrix, rows),
        confusion_matrix=ConfusionMatrix(labels=list(counts.labels), counts=counts.matrix.tolist()),
        excluded=counts.excluded,
    )


def _measure(matrix: NDArray[np.int64]) -> list[ClassScores]:
    """Return the scores of each class from an (n, n) matrix."""
    total = int(matrix.sum())
    support = matrix.sum(axis=1)
    predicted = matrix.sum(axis=0)
    found: list[ClassScores] = []
    for i in range(len(matrix)):
        tp, here, said = int(matrix[i, i]), int(support[i]), int(predicted[i])
        absent = here + said == 0
        negatives = total - here
        found.append(
            {  # type: ignore[typeddict-item]  # the other keys are the caller's
                "iou": None if absent else tp / (here + said - tp),
                "dice": None if absent else 2 * tp / (here + said),
                "precision": None if absent else tp / said if said else 0.0,
                "recall": None if absent else tp / here if here else 0.0,
                "specificity": None if absent or not negatives else (negatives - (said - tp)) / negatives,
                "support": here,
            }
        )
    return found


def _overall(matrix: NDArray[np.int64], rows: Sequence[ClassScores]) -> Overall:
    total = int(matrix.sum())
    support = [int(value) for value in matrix.sum(axis=1)]
    predicted = [int(value) for value in matrix.sum(axis=0)]
    right = int(matrix.trace())
    present = [row for row in rows if row["iou"] is not None]
    held = [row for row in rows if row["support"]]
    weighted = sum((row["iou"] or 0.0) * row["support"] for row in rows)
    return Overall(
        pixel_accuracy=right / total if total else None,
        mean_class_accuracy=mean_of_known([row["recall"] for row in held]),
        mean_iou=mean_of_known([row["iou"] for row in present]),
        mean_dice=mean_of_known([row["dice"] for row in present]),
        frequency_weighted_iou=weighted / total if total else None,
        kappa=_kappa(right, total, sum(a * b for a, b in zip(support, predicted, strict=True))),
        pixels_scored=total,
        classes_scored=len(present),
        classes_in_reference=len(held),
        denominators=_denominators(rows, present, held, total),
        binary=_binary(rows),
    )


def _kappa(right: int, total: int, chance: int) -> float | None:
    """Cohen's kappa from whole numbers; None where chance alone is always right."""
    below = total * total - chance
    return (right * total - chance) / below if below else None


def _binary(rows: Sequence[ClassScores]) -> Binary | None:
    if len(rows) != 2:
        return None
    fore = rows[1]
    return Binary(id=fore["id"], name=fore["name"], recall=fore["recall"], precision=fore["precision"], f1=fore["dice"])


def _denominators(
    rows: Sequence[ClassScores], present: Sequence[ClassScores], held: Sequence[ClassScores], total: int
) -> str:
    """Say in words what every mean was divided by."""
    said = [
        f"pixel accuracy, frequency-weighted IoU and kappa over {total:,} cells",
        f"mean IoU and mean Dice over {len(present)} of {len(rows)} classes",
        f"mean class accuracy over the {len(held)} classes in the reference",
    ]
    absent = [row["name"] for row in rows if row["iou"] is None]
    invented = [row["name"] for row in present if not row["support"]]
    if absent:
        said.append(f"in neither the reference nor the prediction, so not scored: {named(absent)}")
    if invented:
        said.append(f"predicted but not in the reference, so 0 in the means: {named(invented)}")
    return "; ".join(said)
