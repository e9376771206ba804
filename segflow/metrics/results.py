"""What is told of a scene beside the scores that follow from its confusion counts: typed, and never NaN.

What cannot be measured is null, with the reason beside it: in `state` for a class, in `left_out` for a whole part.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Unit = Literal["mm", "m", "cells"]
State = Literal["measured", "missed", "invented", "absent"]


class Result(BaseModel):
    """A part of a report: frozen; unknown keys, NaN and infinity are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class VolumeScores(Result):
    """How much of a class there is, whatever its place. From the confusion matrix."""

    reference: float = Field(description="Extent in the reference, in `extent_unit`.")
    prediction: float
    similarity: float | None = Field(description="1 - |a - b| / (a + b): 1 for equal extents, wherever they lie.")
    difference: float = Field(description="Prediction less reference.")
    absolute_difference: float
    relative_difference: float | None = Field(description="Difference / reference; null for a class not in it.")


class SurfaceScores(Result):
    """Distances between the surfaces of a class in prediction and reference, in the `unit` of the summary."""

    state: State = Field(
        description="measured: on both sides. missed: not predicted. invented: not in the reference. absent: neither."
    )
    surface_cells_reference: int
    surface_cells_prediction: int
    hd: float | None = Field(None, description="Hausdorff distance: the largest distance to the other surface.")
    hd95_max: float | None = Field(None, description="The larger of both directions' 95th percentiles.")
    hd95_pooled: float | None = Field(None, description="95th percentile of both directions' distances together.")
    assd: float | None = Field(None, description="Mean of both directions' distances together.")
    masd: float | None = Field(None, description="Mean of both directions' means.")
    to_reference: float | None = Field(None, description="Mean distance from the predicted surface to the reference's.")
    to_prediction: float | None = Field(None, description="Mean distance from the reference's surface to the other.")
    nsd: float | None = Field(
        None, description="Share of both surfaces within the tolerance of the other. Missed or invented: 0."
    )


class BoundaryScores(Result):
    """Boundary IoU of a class."""

    iou: float | None = Field(description="Null for a class on neither side; 0 for a class on one.")
    cells_reference: int = Field(description="Cells of the class within the width of its contour.")
    cells_prediction: int
    cells_both: int


class ObjectScores(Result):
    """Connected regions of a class, matched one to one."""

    reference: int = Field(description="Objects in the reference.")
    prediction: int
    detected: int = Field(description="Matched pairs: true positives.")
    missed: int = Field(description="Objects of the reference without a partner: false negatives.")
    false: int = Field(description="Predicted objects without a partner: false positives.")
    touched: int = Field(description="Objects of the reference that share a cell with any predicted one.")
    precision: float | None
    recall: float | None
    f1: float | None = Field(description="2 detected / (2 detected + missed + false); the recognition quality.")
    mean_iou: float | None = Field(description="Mean IoU of the pairs; the segmentation quality.")
    panoptic_quality: float | None = Field(description="f1 x mean_iou.")


class ClassDetails(Result):
    """One class."""

    id: int
    name: str
    volume: VolumeScores
    surface: SurfaceScores | None = None
    boundary: BoundaryScores | None = None
    objects: ObjectScores | None = None


class SurfaceSummary(Result):
    """Means over classes. A missed or invented class is never simply left out: it is counted, and has a worst case."""

    unit: Unit
    tolerance: float = Field(description="Of the normalised surface Dice, in `unit`.")
    classes_measured: int = Field(description="What the plain means of distances were divided by.")
    classes_missed: int
    classes_invented: int
    classes_absent: int
    mean_hd: float | None
    mean_hd95_max: float | None
    mean_hd95_pooled: float | None
    mean_assd: float | None
    mean_nsd: float | None = Field(description="Missed and invented classes are 0 in it.")
    worst_case: float = Field(description="The scene's diagonal: the distance that a missed or invented class gets.")
    mean_hd95_max_worst: float | None = Field(description="Mean in which a missed or invented class is the diagonal.")
    mean_assd_worst: float | None
    denominators: str = Field(description="What the means were divided by, in words.")


class BoundarySummary(Result):
    """Boundary IoU over classes."""

    width_cells: int = Field(description="How far from the contour, in cells, a class' boundary region reaches.")
    mean_iou: float | None = Field(description="Missed and invented classes are 0 in it.")
    classes_scored: int


class ObjectsSummary(Result):
    """Objects over classes."""

    iou_over: float = Field(description="A pair is matched where its IoU is larger than this.")
    connectivity: Literal["faces", "corners"]
    min_cells: int = Field(description="Objects of fewer cells are no objects, on either side.")
    mean_f1: float | None
    mean_panoptic_quality: float | None
    classes_scored: int


class ReliabilityBin(Result):
    """Cells whose confidence lies over `low` and up to `high` (the first bin holds 0 as well)."""

    low: float
    high: float
    cells: int
    confidence: float | None = Field(description="Mean confidence of the cells; null where there is none.")
    accuracy: float | None = Field(description="Share of them that are right.")


class Calibration(Result):
    """Does a confidence of 0.8 mean that 8 of 10 cells are right?"""

    cells: int
    ece: float | None = Field(description="Expected calibration error: |accuracy - confidence| by bin, by its cells.")
    mce: float | None = Field(description="The largest such difference of a bin that holds cells.")
    mean_confidence: float | None
    accuracy: float | None
    bins: tuple[ReliabilityBin, ...]


class SeamBin(Result):
    """Cells, and pairs of neighbours, at one distance from the nearest border of a patch."""

    distance: int = Field(description="Whole cells; the last bin holds all that are farther.")
    cells: int = Field(description="Scored cells so far from the nearest border; 0: one side of them lies on it.")
    accuracy: float | None
    pairs: int = Field(description="Pairs of neighbours whose common side is so far from the nearest parallel border.")
    changes: int = Field(description="Of these, pairs with two labels.")
    reference_changes: int = Field(description="The same in the reference.")
    change_rate: float | None
    reference_change_rate: float | None


class Seam(Result):
    """Whether the borders of patches can be seen in the labels."""

    score: float | None = Field(
        description="Label changes across patch borders / those elsewhere; 1: borders are like any other place."
    )
    reference_score: float | None = Field(description="The same of the reference, which knows of no patches.")
    spread: float | None = Field(description="Standard deviation of the same ratio over lines that are no borders.")
    sigmas: float | None = Field(description="(score - 1) / spread: how far the borders stand out of that.")
    visible: bool | None = Field(description="Over 4 sigmas, 1.25 times the rate elsewhere, and more than any line.")
    accuracy_near: float | None = Field(description="Pixel accuracy of the cells beside a border.")
    accuracy_far: float | None = Field(description="Pixel accuracy of all other cells.")
    borders: tuple[int, ...] = Field(description="Lines of borders on each axis.")
    bins: tuple[SeamBin, ...]


class RegionClass(Result):
    """One class in one region."""

    id: int
    iou: float | None
    dice: float | None
    support: int


class RegionScores(Result):
    """Scores inside a region; its denominators are the classes that are there."""

    name: str
    cells: int = Field(description="Scored cells inside.")
    pixel_accuracy: float | None
    mean_iou: float | None
    mean_dice: float | None
    classes: tuple[RegionClass, ...]


class TileMap(Result):
    """Scores on a grid of tiles, row by row from the first; the last row and column may be smaller."""

    tile: int = Field(description="Cells of a tile on a side.")
    rows: int
    columns: int
    cells: tuple[tuple[int, ...], ...] = Field(description="Scored cells of each tile.")
    pixel_accuracy: tuple[tuple[float | None, ...], ...]
    mean_iou: tuple[tuple[float | None, ...], ...] = Field(description="Over the classes in the tile; null: no cell.")


class Details(Result):
    """What a second, windowed pass over label map and reference found."""

    settings: str = Field(description="sha256 of what was asked for; who asks for other details gets them made anew.")
    extent_unit: Literal["ml", "m2", "cells"] = Field(description="Of the classes' volumes (areas for rasters).")
    classes: tuple[ClassDetails, ...]
    surface: SurfaceSummary | None = None
    boundary: BoundarySummary | None = None
    objects: ObjectsSummary | None = None
    calibration: Calibration | None = None
    seam: Seam | None = None
    regions: tuple[RegionScores, ...] | None = None
    tiles: TileMap | None = None
    left_out: dict[str, str] = Field(default_factory=dict, description="Part that is null: why, and the remedy.")


class Interval(Result):
    """A score, and where it lies for 95 of 100 samples of scenes."""

    value: float | None
    low: float | None
    high: float | None
    resamples: int = Field(description="Resamples in which the score exists.")


class ClassIntervals(Result):
    """One class."""

    id: int
    iou: Interval
    dice: Interval


class Bootstrap(Result):
    """Percentile intervals of the pooled scores: scenes are drawn with replacement, their counts added up."""

    scenes: int = Field(description="Scenes with a reference.")
    resamples: int
    level: float = Field(0.95, description="Share of the resamples that lies between low and high.")
    seed: int
    why: str | None = Field(None, description="Why there are no intervals.")
    incomplete: int | None = Field(
        None, description="Resamples that lack a class which the scenes together have: their means are over the others."
    )
    overall: dict[str, Interval] = Field(default_factory=dict, description="By the keys of `overall`.")
    classes: tuple[ClassIntervals, ...] = ()


class CaseClass(Result):
    """One class over the scenes: every scene counts once, whatever its size."""

    id: int
    name: str
    scenes: int = Field(description="Scenes with the class in reference or prediction: the denominator.")
    missed: int = Field(description="Scenes whose reference has the class and whose prediction has not.")
    invented: int
    mean_dice: float | None = Field(description="Mean of the scenes' Dice; missed and invented are 0.")
    mean_volume_similarity: float | None
    mean_nsd: float | None = Field(description="Missed and invented are 0.")
    mean_hd95_max: float | None = Field(description="Over the scenes where it can be measured.")
    mean_hd95_max_worst: float | None = Field(description="Missed and invented count as their scene's diagonal.")
    mean_assd: float | None
    measured: int = Field(description="Scenes that the plain means of distances were divided by.")
    objects_detected: int | None
    objects_missed: int | None
    objects_false: int | None
    objects_f1: float | None = Field(description="Of the objects of all scenes together.")


class Cases(Result):
    """Means over scenes."""

    unit: Unit | None = Field(description="Of the distances; null where there are none, or in several units.")
    scenes: int | None = Field(None, description="Scenes that were measured; null in reports of older versions.")
    classes: tuple[CaseClass, ...]
