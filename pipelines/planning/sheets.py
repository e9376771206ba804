"""A scene that is one sheet of a mosaic: planned on the mosaic's grid, so that it takes its context from neighbours."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache

from segflow.io.mosaic import Mosaic, mosaic_of, placed
from segflow.io.opening import Spec, files_of, open_source
from segflow.io.raster import RasterSpec
from segflow.io.stamp import Stamp
from segflow.models.card import Normalisation
from segflow.normalise import Standardiser, standardiser_of
from tiling import Box, Layout


@dataclass(frozen=True, slots=True)
class Sheet:
    """One sheet.

    Attributes:
        path: its file.
        mosaic: that it is a part of.
    """

    path: str
    mosaic: Mosaic

    @property
    def box(self) -> Box:
        """Its cells, on the mosaic's grid."""
        return self.mosaic.box_of(self.path)

    def spread(self, spec: Spec) -> Spec:
        """Return how the mosaic is opened in place of the sheet."""
        return replace(spec, path=self.mosaic.opened_by(self.path)) if isinstance(spec, RasterSpec) else spec

    def narrowed(self, spec: Spec, layout: Layout) -> Spec:
        """Return how that part of the mosaic is opened that the sheet's labels are made of.

        With a collar it is all of it: nodata counts by whether it hangs together with the mosaic's border.
        """
        if not isinstance(spec, RasterSpec) or spec.collar:
            return spec
        return replace(spec, path=self.mosaic.opened_by(self.path, read_by(layout)))

    def standardised(self, normalisation: Normalisation, spec: Spec, stamps: tuple[Stamp, ...]) -> Standardiser:
        """Return how the scene is standardised: by the mosaic's statistics, which are taken once for all its sheets."""
        first = replace(self, path=self.mosaic.headers[0].path)
        return _statistics(normalisation, first.spread(spec), stamps)

    def placed(self, spec: Spec) -> Spec:
        """Return how a raster that lies on the sheet, such as its reference, is opened on the mosaic's grid."""
        if not isinstance(spec, RasterSpec):
            return spec
        mask = None if spec.mask is None else placed(spec.mask, self.mosaic, self.box)
        return replace(spec, path=placed(spec.path, self.mosaic, self.box), mask=mask)


def sheet_of(path: str, sheets: tuple[str, ...]) -> Sheet | None:
    """Return the sheet that a scene is; None where it stands alone.

    Raises:
        InputError: the sheets do not lie side by side.
    """
    return Sheet(path, mosaic_of(sheets)) if sheets else None


def read_by(layout: Layout) -> Box:
    """Return the cells of the input that the patches of a region see."""
    lattice = layout.lattice
    patches = lattice.touching(layout.model_box(layout.region))
    first = lattice.box(tuple(indices.start for indices in patches))
    last = lattice.box(tuple(indices.stop - 1 for indices in patches))
    start, stop = [], []
    for low, high, cells, model in zip(first.start, last.stop, layout.shape, lattice.shape, strict=True):
        start.append(max(0, low * cells // model - 2 - cells // model))
        stop.append(min(cells, -(-high * cells // model) + 2 + cells // model))
    return Box(tuple(start), tuple(stop))


def stamps_in(spec: Spec, stamps: Iterable[Stamp]) -> tuple[Stamp, ...]:
    """Return those stamps that are of a spec's files."""
    files = set(map(str, files_of(spec)))
    return tuple(stamp for stamp in stamps if stamp.path in files)


def identity_of(spec: Spec) -> str:
    """Return the identity of what a spec opens."""
    with closing(open_source(spec)) as source:
        return source.identity()


@lru_cache(maxsize=1)
def _statistics(normalisation: Normalisation, spec: Spec, stamps: tuple[Stamp, ...]) -> Standardiser:
    """Return how a mosaic is standardised; `stamps` tell a cache that its files are those that there were."""
    with closing(open_source(spec)) as source:
        return standardiser_of(normalisation, source.channels, source)
