"""The typed model of report.json. Key order is the order of the fields, so equal reports are equal bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from segflow.grid import Grid, Kind
from segflow.metrics import Counts, Scores
from segflow.metrics.results import Bootstrap, Cases, Details
from segflow.models.card import LabelClass
from segflow.report.drift import DriftReport
from segflow.report.geometry import GeometryReport

State = Literal["done", "unchanged", "failed", "refused"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class GridReport(_Part):
    """Where the scene lies; the fields of `segflow.grid.Grid`."""

    kind: Kind
    axes: tuple[str, ...] = Field(description="Names of the axes, in array order.")
    shape: tuple[int, ...] = Field(description="Cells on each axis.")
    spacing: tuple[float, ...] | None = Field(None, description="A cell's extent: metres (raster) or mm (volume).")
    affine: tuple[float, ...] | None = Field(None, description="GDAL's six numbers, or the twelve of a 3 x 4 matrix.")
    crs: str | None = Field(None, description="Coordinate reference system as WKT.")

    @classmethod
    def of(cls, grid: Grid) -> GridReport:
        """Return the report of a grid."""
        return cls(
            kind=grid.kind,
            axes=grid.axes,
            shape=grid.shape,
            spacing=grid.spacing,
            affine=grid.affine,
            crs=grid.crs,
        )


class ClassReport(_Part):
    """One class. Fields that were never set (scores without a reference, area of a volume) are left out of the JSON."""

    id: int
    name: str
    colour: str = Field(pattern=r"^#[0-9A-Fa-f]{6}$", description="#RRGGBB, from the model card.")
    pixels: int = Field(description="Valid cells that were given this class.")
    area_m2: float | None = None
    volume_ml: float | None = None
    iou: float | None = Field(None, description="Null where the class is in neither reference nor prediction.")
    dice: float | None = None
    precision: float | None = None
    recall: float | None = None
    specificity: float | None = None
    support: int | None = Field(None, description="Scored cells that have this class in the reference.")

    @model_serializer(mode="wrap")
    def _only_what_was_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if key in self.model_fields_set}


class BinaryReport(_Part):
    """The second of two classes, the foreground."""

    id: int
    name: str
    recall: float | None
    precision: float | None
    f1: float | None


class OverallReport(_Part):
    """Scores over all classes; see `segflow.metrics.scores` for the definitions."""

    pixel_accuracy: float | None
    mean_class_accuracy: float | None
    mean_iou: float | None
    mean_dice: float | None
    frequency_weighted_iou: float | None
    kappa: float | None
    pixels_scored: int
    classes_scored: int = Field(description="Classes that mean IoU and mean Dice were divided by.")
    classes_in_reference: int = Field(description="Classes that mean class accuracy was divided by.")
    denominators: str = Field(description="The same in words.")
    binary: BinaryReport | None = None


class ConfusionReport(_Part):
    """Cells; rows are the reference, columns the prediction."""

    labels: tuple[int, ...]
    counts: tuple[tuple[int, ...], ...]


class AutoFacts(_Part):
    """What `auto` in the recipe's tiling came to."""

    asked: str = Field(description="Hash of model and wish; who asks for the same gets the same.")
    patch: tuple[int, ...]
    overlap: int = Field(description="Cells that neighbours share.")
    blend: str
    tolerance: float | None = Field(None, description="How much a cut may change a probability; null: not asked for.")
    reach: int | None = Field(None, description="Cells on either side of a cut that can depend on the other side.")
    effective: int | None = Field(None, description="Radius that holds 99.9 % of the input gradient of a cell.")
    change: float | None = Field(None, description="Largest change of a probability by a cut, measured on the scene.")


class TilingFacts(_Part):
    """How the scene was cut into patches."""

    patch: tuple[int, ...] = Field(description="Cells of a patch on each axis.")
    step: tuple[int, ...] = Field(description="Cells from one patch to the next.")
    blend: str
    overhead: float = Field(description="Patch area x patches / area, on the model's grid.")
    auto: AutoFacts | None = None


class RunFacts(_Part):
    """How it ran."""

    forwards: int = Field(description="Patches that were run.")
    forwards_minimum: int = Field(description="Patches of the lattice that are not blank.")
    seconds: dict[str, float] = Field(description="Busy wall clock by stage: read, forward, blend, write, ..., total.")
    peak_rss_bytes: int
    backend: str
    device: str
    fingerprint: str
    tiling: TilingFacts | None = None
    why: str = Field("", description="Why this backend: what the recipe says, or what a trial found.")
    calibration: str | None = Field(None, description="int8: key of the calibrated network; notices tell its quality.")
    versions: dict[str, str] = Field(default_factory=dict)
    recipe: str = Field("", description="What the recipe set, as YAML; passwords are left out.")


class ModelFacts(_Part):
    """What ran."""

    name: str
    weights_sha256: str
    architecture: str | None = None
    description: str | None = Field(None, description="What it is for, and what it wants to see.")
    licence: str | None = None


class FileFacts(_Part):
    """A file that was written."""

    name: str = Field(description="Name relative to the output folder.")
    sha256: str
    bytes: int | None = None


class ExportFacts(_Part):
    """What was made of the label map by one key of `outputs`, or why it was not."""

    name: str = Field(description="The key of `outputs`.")
    settings: str = Field(description="sha256 of what decides the files, other than the scene.")
    files: tuple[FileFacts, ...] = ()
    error: str | None = Field(None, description="Why there are none; the label map is whole all the same.")


class SceneReport(_Part):
    """One scene's report.json. `run` and `model` are null when two existing files were compared (`evaluate`)."""

    scene: str
    grid: GridReport
    classes: tuple[ClassReport, ...]
    overall: OverallReport | None = Field(None, description="Null without a reference.")
    confusion_matrix: ConfusionReport | None = Field(None, description="Null without a reference.")
    excluded: int = Field(description="Cells that left the matrix: no valid input, or nothing to compare with.")
    details: Details | None = Field(
        None, description="Distances, boundaries, objects, calibration, seams, regions; null without a reference."
    )
    run: RunFacts | None = None
    model: ModelFacts | None = None
    inputs: tuple[str, ...] = Field((), description="What was read, as named in the recipe.")
    references: tuple[str, ...] = Field((), description="What it was compared with.")
    outputs: tuple[FileFacts, ...] = Field((), description="What was written.")
    exports: tuple[ExportFacts, ...] = Field((), description="What was made of the label map in other formats.")
    geometry: GeometryReport | None = Field(None, description="Whether input, output and reference lie on one grid.")
    notices: tuple[str, ...] = Field((), description="What a reader must know before trusting the result.")
    seen: dict[str, Any] | None = Field(
        None, description="How input and reference are opened when pages are made anew."
    )

    @property
    def counts(self) -> Counts:
        """The counts that the scores follow from."""
        return Counts.from_json(
            {
                "labels": [item.id for item in self.classes],
                "matrix": None if self.confusion_matrix is None else self.confusion_matrix.counts,
                "excluded": self.excluded,
                "predicted": [item.pixels for item in self.classes],
            }
        )

    @property
    def scores(self) -> Scores:
        """The part that `segflow.metrics.scores` made, as plain data."""
        data = self.model_dump(mode="json", include={"classes", "overall", "confusion_matrix", "excluded"})
        return cast(Scores, data)

    @property
    def label_classes(self) -> tuple[LabelClass, ...]:
        """The classes as on the model card."""
        return tuple(LabelClass(id=item.id, name=item.name, colour=item.colour) for item in self.classes)


class SceneState(_Part):
    """One scene of a run: what became of it."""

    scene: str
    state: State
    error: str | None = Field(None, description="Why it failed or was refused; of a scene that is done, what lacks.")
    report: SceneReport | None = None


class PooledReport(_Part):
    """Scores of all scenes' cells together."""

    scenes: int = Field(description="Scenes that are in the sums.")
    scenes_with_reference: int
    classes: tuple[ClassReport, ...]
    overall: OverallReport | None
    confusion_matrix: ConfusionReport | None
    excluded: int
    bootstrap: Bootstrap | None = Field(None, description="Intervals of the scores; null without a reference.")
    cases: Cases | None = Field(None, description="Means over scenes; null where none has details.")


class RunReport(_Part):
    """The run's report.json."""

    name: str
    scenes: tuple[SceneState, ...]
    pooled: PooledReport | None = Field(None, description="Null when no scene has a report, or their classes differ.")
    drift: DriftReport | None = Field(None, description="Beside the runs before; null where no ledger knows one.")


def scene_report(scene: str, grid: Grid, result: Scores, **facts: Any) -> SceneReport:
    """Return a scene's report.

    Args:
        scene: its name.
        grid: where it lies.
        result: what `segflow.metrics.scores` gave.
        facts: the other fields of `SceneReport`: run, model, inputs, references, outputs, exports, notices.
    """
    return SceneReport.model_validate({"scene": scene, "grid": GridReport.of(grid), **result, **facts})


def to_json(report: SceneReport | RunReport) -> str:
    """Return a report as JSON text: keys in the order of the fields, never NaN, innermost lists on one line."""
    return _text(report.model_dump(mode="json"), "\n") + "\n"


def _text(value: Any, newline: str) -> str:
    """Write JSON two spaces deep, but a list or mapping of plain values on one line where it is short."""
    nested = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    flat = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if not nested or (not any(isinstance(item, dict | list) for item in nested) and len(flat) <= 100):
        return flat
    deeper = newline + "  "
    if isinstance(value, dict):
        items = [f"{json.dumps(key, ensure_ascii=False)}: {_text(item, deeper)}" for key, item in value.items()]
    else:
        items = [_text(item, deeper) for item in value]
    left, right = "{}" if isinstance(value, dict) else "[]"
    return left + deeper + f",{deeper}".join(items) + newline + right


def from_json(text: str) -> SceneReport:
    """Return the scene's report that `to_json` wrote.

    Raises:
        pydantic.ValidationError: the text is no such report.
    """
    return SceneReport.model_validate_json(text)


def run_from_json(text: str) -> RunReport:
    """Return the run's report that `to_json` wrote.

    Raises:
        pydantic.ValidationError: the text is no such report.
    """
    return RunReport.model_validate_json(text)


def report_schema() -> Mapping[str, Any]:
    """Return the JSON Schema of the run's report.json (the scene's is in its $defs)."""
    return RunReport.model_json_schema(mode="serialization")
