"""Sheets are laid out by where they say that they lie, however their grid is turned, mirrored and named."""

from __future__ import annotations

from itertools import pairwise, product
from math import cos, radians, sin
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.transform import Affine

from segflow.io.mosaic import mosaic_of, placed
from segflow.io.raster import RasterSpec, open_raster
from tiling import Box


@st.composite
def cuts(draw: st.DrawFn, most: int) -> list[int]:
    return [0, *np.cumsum(draw(st.lists(st.integers(1, 9), min_size=1, max_size=most))).tolist()]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=cuts(3),
    columns=cuts(3),
    angle=st.sampled_from([0.0, 30.0, -117.0]),
    size=st.sampled_from([(0.3, -0.3), (10.0, -20.0), (0.1, 0.1)]),
    order=st.randoms(use_true_random=False),
)
def test_sheets_on_any_grid_give_the_raster_that_they_were_cut_from(
    tmp_path: Path, rows: list[int], columns: list[int], angle: float, size: tuple[float, float], order: object
) -> None:
    turn = radians(angle)
    a, b, d, e = size[0] * cos(turn), -size[1] * sin(turn), size[0] * sin(turn), size[1] * cos(turn)
    affine = Affine(a, b, 612_345.6, d, e, 5_432_109.8)
    values = np.random.default_rng(0).integers(0, 999, (2, rows[-1], columns[-1])).astype(np.uint16)
    paths = []
    for number, ((top, bottom), (left, right)) in enumerate(product(pairwise(rows), pairwise(columns))):
        place = Affine(a, b, a * left + b * top + affine.c, d, e, d * left + e * top + affine.f)
        profile = {"count": 2, "dtype": "uint16", "height": bottom - top, "width": right - left}
        path = tmp_path / f"{number}.tif"
        with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32633", transform=place, **profile) as file:
            file.write(values[:, top:bottom, left:right])
        paths.append(str(path))
    boxes = {
        path: Box((top, left), (bottom, right))
        for path, ((top, bottom), (left, right)) in zip(paths, product(pairwise(rows), pairwise(columns)), strict=True)
    }
    order.shuffle(paths)  # type: ignore[attr-defined]
    mosaic = mosaic_of(paths)
    assert {path: mosaic.box_of(path) for path in paths} == boxes
    with open_raster(RasterSpec(mosaic.opened_by(paths[0]))) as source:
        assert source.grid.affine == pytest.approx(tuple(affine[:6]), rel=1e-12)
        found = source.read(Box.whole(values.shape[1:]))
        np.testing.assert_array_equal(found.values, values)
        assert found.valid.all()
    box = boxes[paths[-1]]
    with open_raster(RasterSpec(placed(paths[-1], mosaic, box))) as source:
        assert source.grid.affine == pytest.approx(tuple(affine[:6]), rel=1e-12)
        np.testing.assert_array_equal(source.read(box).values, values[(slice(None), *box.slices)])
