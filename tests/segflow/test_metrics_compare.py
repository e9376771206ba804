"""Two label maps on one grid, compared band by band."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from segflow.errors import GridMismatchError, InputError
from segflow.grid import Grid, Kind
from segflow.io.array import ArraySource
from segflow.io.raster import open_labels
from segflow.io.source import Pixels
from segflow.metrics import count_confusion, evaluate
from segflow.metrics.compare import bands
from tiling.box import Box

LAWS = settings(max_examples=60, deadline=None, derandomize=True)


class Watched(ArraySource):
    """An array as a source that remembers what was read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reads: list[Box] = []

    def read(self, box: Box) -> Pixels:
        self.reads.append(box)
        return super().read(box)


def make(
    values: NDArray[Any],
    valid: NDArray[np.bool_] | None = None,
    kind: Kind = "raster",
    affine: tuple[float, ...] | None = None,
) -> Watched:
    return Watched(values[None], Grid(kind, values.shape, affine), valid, name="map")


@LAWS
@given(
    kind=st.sampled_from(["raster", "volume"]), band_cells=st.integers(1, 4000), seed=st.integers(0, 99), data=st.data()
)
def test_counts_do_not_depend_on_the_bands(kind, band_cells, seed, data):
    rng = np.random.default_rng(seed)
    shape = (1100, 3) if kind == "raster" else (7, 5, 11)
    reference, prediction = rng.integers(0, 4, (2, *shape))
    given_input, said = rng.random((2, *shape)) > 0.3
    region = None
    inside = np.ones(shape, bool)
    if data.draw(st.booleans()):
        start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
        region = Box(start, tuple(data.draw(st.integers(s + 1, n)) for s, n in zip(start, shape, strict=True)))
        inside = np.zeros(shape, bool)
        inside[region.slices] = True
    got = evaluate(
        make(prediction, given_input, kind=kind),
        make(reference, said, kind=kind),
        (1, 2, 3),
        ignore=(0,),
        region=region,
        band_cells=band_cells,
    )
    want = count_confusion(reference, prediction, (1, 2, 3), ignore=(0,), valid=given_input, scored=said & inside)
    assert got == want


@LAWS
@given(rows=st.integers(1, 3000), columns=st.integers(1, 40), cells=st.integers(1, 100_000))
def test_bands_cover_every_cell_once_and_begin_at_tile_rows(rows, columns, cells):
    source = make(np.zeros((rows, columns), np.uint8))
    got = list(bands(source, cells))
    assert [band.start[0] for band in got[1:]] == [band.stop[0] for band in got[:-1]]
    assert (got[0].start[0], got[-1].stop[0]) == (0, rows)
    assert all(band.start[0] % 512 == 0 for band in got)
    assert source.reads == []


def test_other_grids_are_refused_before_reading():
    prediction, reference = make(np.zeros((4, 5), int)), make(np.zeros((4, 6), int))
    with pytest.raises(GridMismatchError, match="y 4, x 6"):
        evaluate(prediction, reference, (0, 1))
    moved = make(np.zeros((4, 5), int), affine=(1.0, 0.0, 7.0, 0.0, -1.0, 0.0))
    placed = make(np.zeros((4, 5), int), affine=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0))
    with pytest.raises(GridMismatchError, match="lies elsewhere"):
        evaluate(placed, moved, (0, 1))
    assert prediction.reads == reference.reads == moved.reads == []


def test_an_image_is_not_taken_for_a_label_map():
    image = ArraySource(np.zeros((3, 4, 5)), Grid("raster", (4, 5)), name="photo")
    with pytest.raises(InputError, match="photo has 3 channels"):
        evaluate(image, make(np.zeros((4, 5))), (0, 1))


def test_a_region_beyond_the_grid_is_refused():
    with pytest.raises(InputError, match="reaches beyond"):
        evaluate(make(np.zeros((4, 5))), make(np.zeros((4, 5))), (0, 1), region=Box((0, 0), (5, 5)))


@pytest.mark.real
def test_a_real_label_map_agrees_with_itself_and_ignored_cells_are_excluded(shared_data: Path):
    path = str(shared_data / "aerial-dubai" / "mosaic" / "tile7_label.tif")
    counts = evaluate(open_labels(path), open_labels(path), (1, 2, 3, 4, 5), ignore=(0,))
    assert np.diag(counts.matrix).tolist() == [2984540, 24548611, 3123584, 2477255, 519804]
    assert counts.matrix.sum() == np.trace(counts.matrix)
    assert counts.excluded == 49006


@pytest.mark.real
def test_a_real_map_of_floats_with_unlisted_ids_is_refused_with_their_names(shared_data: Path):
    path = str(shared_data / "landsat-nc" / "landclass96_full_7class.tif")
    with pytest.raises(InputError, match=r"no class: 6 \(\d+ cells\), 7 \(\d+ cells\)"):
        evaluate(open_labels(path), open_labels(path), (1, 2, 3, 4, 5))
