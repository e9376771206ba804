"""Rasters: anything GDAL opens, read box by box with its validity."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from segflow.errors import InputError
from segflow.grid import Grid
from segflow.io.aoi import Aoi, read_aoi
from segflow.io.collar import Runs, collar_runs
from segflow.io.gdalenv import environment, limit_cache, reason, scene_name, shown
from segflow.io.identity import raster_identity
from segflow.io.mask import Bools
from segflow.io.place import compare_rasters, grid_of
from segflow.io.raster_header import (
    RasterSpec,
    choose_bands,
    common_type,
    notices_of,
    open_file,
    rule_of,
)
from segflow.io.source import Pixels
from tiling.box import Box

__all__ = ["RasterSource", "RasterSpec", "open_labels", "open_raster"]

_STRIP_CELLS = 1 << 24


class RasterSource:
    """A raster as a `Source`. One GDAL handle; not for two threads at once."""

    def __init__(self, spec: RasterSpec) -> None:
        """Open the file and read its header; see `open_raster`."""
        self._spec = spec
        self._file = open_file(spec.path)
        try:
            self._bands = choose_bands(self._file, spec)
            self._dtype = common_type(self._file, self._bands, spec.path)
            self._rule = rule_of(self._file, self._bands, spec)
            self._grid = grid_of(self._file)
            self._aoi: Aoi | None = read_aoi(spec.aoi, self._grid, self.name) if spec.aoi else None
            if spec.collar and not self._rule.knows_nodata:
                raise InputError(
                    f"{shown(spec.path)} has no nodata value, so collar has nothing to look for",
                    "a nodata value in every band that is read, or inputs.nodata",
                    "set inputs.nodata to the collar's value, often 0",
                )
            self._mask = None if spec.mask is None else self._open_mask(spec.mask)
        except BaseException:
            self._file.close()
            raise
        limit_cache(self.storage_row_bytes)
        self._collar: Runs | None = None
        self.notices = notices_of(self._file, self._bands, spec)

    @property
    def spec(self) -> RasterSpec:
        """What this was opened by."""
        return self._spec

    @property
    def name(self) -> str:
        """The file's name without folders and extension."""
        return scene_name(self._spec.path)

    @property
    def grid(self) -> Grid:
        """The raster's grid, axes (y, x)."""
        return self._grid

    @property
    def bands(self) -> tuple[int, ...]:
        """The bands that are read, 1-based."""
        return self._bands

    @property
    def channels(self) -> int:
        """Number of bands that are read."""
        return len(self._bands)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values: the bands' common one."""
        return self._dtype

    @property
    def unit_shape(self) -> tuple[int, int]:
        """Storage block (rows, columns): what the file decodes at once."""
        rows, columns = self._file.block_shapes[self._bands[0] - 1]
        return int(rows), int(columns)

    @property
    def storage_row_bytes(self) -> int:
        """Bytes of a row of storage blocks, which neighbouring reads share."""
        return self.unit_shape[0] * self._grid.shape[1] * len(self._bands) * self._dtype.itemsize

    @property
    def slab_axis(self) -> int:
        """Rows: rasters are stored from the top down."""
        return 0

    @property
    def sweep_axis(self) -> int | None:
        """Rows where the file is stored in stripes: a narrow column would unpack all of each; else None."""
        return 0 if self.unit_shape[1] >= self._grid.shape[1] else None

    def read(self, box: Box) -> Pixels:
        """Read a box: values (band, y, x) in the file's type, valid (y, x) bool.

        Raises:
            InputError: the file is broken there; the place is named.
            ValueError: the box does not lie inside the grid.
        """
        values, hard, soft = self._judged(box)
        if self._spec.collar:
            if self._collar is None:
                self._collar = self._find_collar()
            soft &= self._collar.inside(box)
        hard |= soft
        if self._mask is not None:
            hard |= _closed(self._mask.read(box))
        return Pixels(values, np.logical_not(hard, out=hard))

    def decimated(self, box: Box, step: int) -> Pixels:
        """Read about every `step`-th cell of a box on both axes, for pictures; the file's overviews are used.

        Args:
            box: cells of the raster.
            step: 1 or more; a rest of less than a step at the far ends is left out.

        Returns:
            ``box.shape // step`` cells, at least one on each axis. With `collar`, the collar is looked for among them.
        """
        shape = tuple(max(1, n // step) for n in box.shape)
        spans = zip(box.start, shape, box.stop, strict=True)
        trimmed = Box(box.start, tuple(min(a + n * step, stop) for a, n, stop in spans))
        values, hard, soft = self._judged(trimmed, (shape[0], shape[1]))
        if self._spec.collar:
            soft &= collar_runs([hard | soft], shape[1]).inside(Box.whole(shape))
        if self._mask is not None:
            hard |= _closed(self._mask.decimated(box, step))
        return Pixels(values, ~(hard | soft))

    def wanted(self, box: Box) -> NDArray[np.bool_] | None:
        """Return which cells of a box lie in the area of interest, (y, x) bool; None where there is none."""
        return None if self._aoi is None else self._aoi.inside(box)

    def identity(self) -> str:
        """Return what stands for the content: see `segflow.io.identity`, plus bands, nodata, collar, AOI and mask."""
        with environment(self._spec.path):
            return raster_identity(self._file, self._spec.path, self._facts())

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        if self._mask is not None:
            self._mask.close()

    def __enter__(self) -> RasterSource:
        """Return the source; it closes at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def _facts(self) -> dict[str, Any]:
        grid = self._grid
        return {
            "grid": [list(grid.shape), list(grid.affine or ()), grid.crs],
            "dtype": str(self._dtype),
            "bands": list(self._bands),
            "rule": repr(self._rule),
            "collar": self._spec.collar,
            "aoi": None if self._aoi is None else self._aoi.identity(),
            **({} if self._mask is None else {"mask": self._mask.identity()}),
        }

    def _open_mask(self, path: str) -> RasterSource:
        mask = RasterSource(RasterSpec(path))
        try:
            if mask.channels != 1:
                raise InputError(
                    f"the mask {shown(path)} has {mask.channels} bands", "one band, 0 outside", "name another mask"
                )
            compare_rasters(self._grid, mask.grid, self.name, mask.name)
        except BaseException:
            mask.close()
            raise
        return mask

    def _judged(self, box: Box, shape: tuple[int, int] | None = None) -> tuple[NDArray[Any], Bools, Bools]:
        """Read a box (of nearest cells onto `shape`) and judge it: values, invalid for good, nodata."""
        if not Box.whole(self._grid.shape).contains(box):
            raise ValueError(f"box {box.start}..{box.stop} leaves the raster of {self._grid.named(self._grid.shape)}")
        rule, (rows, columns) = self._rule, shape or box.shape
        window = Window(box.start[1], box.start[0], box.shape[1], box.shape[0])
        masked = self._bands[: {"none": 0, "bands": self.channels}.get(rule.kind, 1)]

        def fetch(method: Any, bands: tuple[int, ...], **options: Any) -> NDArray[Any]:
            found: NDArray[Any] = method(list(bands), window=window, out_shape=(len(bands), rows, columns), **options)
            return found

        try:
            with environment(self._spec.path):
                values = fetch(self._file.read, self._bands, out_dtype=self._dtype)
                alpha = None if rule.alpha is None else fetch(self._file.read, (rule.alpha,))[0]
                masks = fetch(self._file.read_masks, masked) if masked else None
        except RasterioIOError as error:
            (top, left), (bottom, right) = box.start, box.stop
            raise InputError(
                f"{shown(self._spec.path)} cannot be read at rows {top}-{bottom - 1}, columns {left}-{right - 1}: "
                f"{reason(error)}",
                "a whole file",
                "fetch or make the file again; gdalinfo -checksum finds broken places",
            ) from error
        return (values, *rule.judge(values, alpha, masks))

    def _find_collar(self) -> Runs:
        """Find the collar: one pass over the whole raster, in storage rows and flat memory."""
        rows, columns = self._grid.shape
        tall = min(max(self.unit_shape[0], 64), 1024)
        wide = max(self.unit_shape[1], _STRIP_CELLS // tall // max(1, len(self._bands)))

        def strips() -> Any:
            for top in range(0, rows, tall):
                bottom = min(top + tall, rows)
                blank = np.empty((bottom - top, columns), dtype=np.bool_)
                for left in range(0, columns, wide):
                    right = min(left + wide, columns)
                    _, hard, soft = self._judged(Box((top, left), (bottom, right)))
                    np.logical_or(hard, soft, out=blank[:, left:right])
                yield from (blank[y : y + 64] for y in range(0, bottom - top, 64))

        return collar_runs(strips(), columns)


def _closed(mask: Pixels) -> Bools:
    """Return the cells that a mask takes away, (y, x) bool."""
    closed: Bools = ~mask.valid
    closed |= mask.values[0] == 0
    return closed


def open_raster(spec: RasterSpec) -> RasterSource:
    """Open a raster; reads its header (and the AOI's polygons) only.

    Raises:
        InputError: the file is missing, cut short or not a raster, has no bands or complex ones, lacks a band that
            is asked for, or the AOI cannot be used.
    """
    return RasterSource(spec)


def open_labels(path: str, band: int | None = None) -> RasterSource:
    """Open a raster of class ids.

    Args:
        path: the file.
        band: its band, 1-based; None = the only one.

    Raises:
        InputError: as `open_raster`; or the file has several bands and none was named.
    """
    source = open_raster(RasterSpec(path, None if band is None else (band,)))
    if source.channels != 1:
        found = source.channels
        source.close()
        raise InputError(
            f"{shown(path)} has {found} bands",
            "one band of class ids",
            "name the band that holds the ids; turn a coloured picture into ids first",
        )
    return source
