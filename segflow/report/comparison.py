"""What two runs' results of one scene have in common and what not: the typed model of `segflow compare --json`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from segflow.report.schema import GridReport


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ClassChange(_Part):
    """One class in both results."""

    id: int
    name: str
    colour: str
    cells_a: int = Field(description="Cells of this class in A.")
    cells_b: int
    kept: int = Field(description="Cells that have this class in both.")
    iou: float | None = Field(description="Agreement of A and B on this class; null where neither has it.")
    extent_a: float | None = Field(None, description="Area in m² or volume in mL; null where a cell's is not known.")
    extent_b: float | None = None
    score_a: float | None = Field(None, description="IoU of A with its reference.")
    score_b: float | None = None


class Difference(_Part):
    """A fact that is not the same in both runs."""

    name: str
    a: str
    b: str


class SceneComparison(_Part):
    """One scene of two runs."""

    scene: str
    grid: GridReport
    classes: tuple[ClassChange, ...]
    counts: tuple[tuple[int, ...], ...] = Field(
        description="Cells by class in A (rows) and B (columns); the last row and column are cells without a class."
    )
    cells: int = Field(description="Cells that have a class in at least one of both.")
    changed: int = Field(description="Cells of these whose class differs.")
    same_fingerprint: bool
    facts: tuple[Difference, ...] = Field(description="Settings, versions and scores that differ.")
    recipe: tuple[str, ...] = Field((), description="Difference of the recipes, as a unified diff.")


class LostScene(_Part):
    """A scene that cannot be compared."""

    scene: str
    why: str


class RunComparison(_Part):
    """Two runs."""

    a: str
    b: str
    scenes: tuple[SceneComparison, ...]
    lost: tuple[LostScene, ...] = ()

    @property
    def changed(self) -> int:
        """Cells that differ, over all scenes."""
        return sum(item.changed for item in self.scenes)
