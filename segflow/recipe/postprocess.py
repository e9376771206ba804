"""The part of a recipe that says how labels are changed after the network, before anything is made of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from segflow.part import Part


class Postprocess(Part):
    """Changes of the label map as a whole: the same for every cut of the scene into blocks."""

    sieve: int | None = Field(
        None,
        ge=2,
        description="Rasters: connected regions of fewer cells, of any class, become part of their largest "
        "neighbour, as GDAL's sieve does; before all else.",
    )
    min_size: dict[int, int] = Field(
        default_factory=dict, description="Class id to cells: smaller connected regions of it become background."
    )
    keep_largest: tuple[int, ...] = Field(
        (), description="Class ids of which only the largest connected region is kept; the rest becomes background."
    )
    fill_holes: tuple[int, ...] = Field(
        (), description="Class ids: background that one of them encloses becomes that class, in the order given."
    )
    connectivity: Literal["faces", "corners"] = Field(
        "faces",
        description="faces: cells that share an edge (rasters) or a face (volumes) are one region; corners: those that "
        "share a corner, too. A hole is closed where its cells' faces do not reach the border.",
    )
    background: int = Field(0, ge=0, description="Class id that removed regions become, and that holes are made of.")

    @model_validator(mode="after")
    def _changes_something(self) -> Postprocess:
        if not (self.sieve or self.changed):
            raise ValueError(
                "postprocess changes nothing: give sieve, min_size, keep_largest or fill_holes, or remove it"
            )
        if self.background in self.changed:
            raise ValueError(f"{self.background} is the background: it is neither removed nor filled with itself")
        if any(size < 2 for size in self.min_size.values()):
            raise ValueError("min_size is a number of cells from 2 up: every region has at least 1")
        return self

    @property
    def changed(self) -> frozenset[int]:
        """The classes whose regions are changed in favour of the background, or the other way round."""
        return frozenset((*self.min_size, *self.keep_largest, *self.fill_holes))

    @property
    def named(self) -> frozenset[int]:
        """The classes that a model must have for it; the background only where something becomes it."""
        return self.changed | {self.background} if self.changed else frozenset()
