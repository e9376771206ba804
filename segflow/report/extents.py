"""How large classes are, in the unit that suits all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from segflow.report import numbers
from segflow.report.schema import ClassReport


@dataclass(frozen=True, slots=True)
class Extents:
    """A column of areas or volumes.

    Attributes:
        what: "Area" or "Volume".
        unit: of the column.
        values: by class, m² or mL; None where the size of a cell is not known.
        write: writes one of them in the unit.
    """

    what: str
    unit: str
    values: tuple[float | None, ...]
    write: Callable[[float | None], str]

    @property
    def known(self) -> bool:
        """Whether any class has one."""
        return any(value is not None for value in self.values)

    @property
    def cells(self) -> str:
        """What a cell of the grid is called, in the plural."""
        return "voxels" if self.what == "Volume" else "pixels"


def extents_of(classes: Sequence[ClassReport]) -> Extents:
    """Return the areas or volumes of classes."""
    volume = "volume_ml" in classes[0].model_fields_set
    values = tuple(item.volume_ml if volume else item.area_m2 for item in classes)
    unit, write = (numbers.volume_column if volume else numbers.area_column)(values)
    return Extents("Volume" if volume else "Area", unit, values, write)
