"""Pictures: the colours of the card, nothing where nothing is, and the patient's right at the left."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segflow.report import Preview, bounds_of, stretch, thinning
from segflow.report.images import Panel, figures
from segflow.report.schema import ClassReport

from .conftest import CLASSES

LAWS = settings(max_examples=60, deadline=None, derandomize=True)
ROWS = tuple(ClassReport(id=item.id, name=item.name, colour=item.colour, pixels=0) for item in CLASSES)


def pixels(panel: Panel) -> np.ndarray:
    """(y, x, 4) uint8 of a panel."""
    data = base64.b64decode(panel.uri.split(",", 1)[1])
    return np.asarray(Image.open(BytesIO(data)).convert("RGBA"))


def test_label_maps_have_the_cards_colours_and_are_transparent_where_nothing_is(preview):
    panels = {panel.kind: panel for panel in figures([preview], ROWS)[0].panels}
    shown = pixels(panels["labels"])
    np.testing.assert_array_equal(shown[..., 3] == 255, preview.valid)
    for item in CLASSES:
        where = preview.valid & (preview.labels == item.id)
        assert (shown[where][:, :3] == item.rgb).all()
    assert (pixels(panels["reference"])[..., 3] == 255).all()


def test_difference_is_red_exactly_where_a_scored_cell_is_wrong(preview):
    panel = figures([preview], ROWS)[0].panels[3]
    shown = pixels(panel)
    wrong = preview.valid & (preview.labels != preview.reference)
    np.testing.assert_array_equal((shown[..., 0] > 200) & (shown[..., 3] == 255), wrong)
    np.testing.assert_array_equal(shown[..., 3] == 255, preview.valid)


def test_input_is_shown_as_it_is(preview):
    shown = pixels(figures([preview], ROWS)[0].panels[0])
    np.testing.assert_array_equal(shown[preview.valid][:, :3], preview.image[preview.valid])


def test_more_classes_than_a_palette_holds_keep_their_colours():
    rows = tuple(ClassReport(id=i, name=str(i), colour=f"#{i * 7:06X}", pixels=0) for i in range(300))
    labels = np.arange(300).reshape(15, 20)
    shown = pixels(figures([Preview("x", np.zeros((15, 20, 3), np.uint8), labels)], rows)[0].panels[1])
    assert (shown[14, 19] == [0, 299 * 7 >> 8, 299 * 7 & 255, 255]).all()


@LAWS
@given(st.integers(1, 5000), st.integers(1, 5000))
def test_thinning_gives_an_overview_of_at_most_1024_pixels(rows, columns):
    step = thinning((rows, columns))
    assert max(-(-rows // step), -(-columns // step)) <= 1024
    assert step == 1 or max(rows, columns) > 1024


def test_thinned_previews_keep_their_parts_aligned():
    labels = np.arange(300 * 200).reshape(300, 200)
    image = np.repeat((labels % 251).astype(np.uint8)[..., None], 3, axis=2)
    small = Preview("x", image, labels, labels % 2 == 0, labels).thinned(70)
    assert max(small.image.shape) <= 70
    np.testing.assert_array_equal(small.image[..., 0], small.labels % 251)
    np.testing.assert_array_equal(small.valid, small.labels % 2 == 0)


def test_parts_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="labels has shape"):
        Preview("x", np.zeros((2, 2, 3), np.uint8), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="uint8"):
        Preview("x", np.zeros((2, 2, 3)))


@LAWS
@given(
    st.sampled_from([np.uint8, np.uint16, np.int16, np.float32]),
    st.integers(1, 5),
    st.integers(0, 99),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_stretching_never_fails_and_shows_invalid_cells_grey(dtype, channels, seed, share):
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=(channels, 6, 7)) * 50 + 100).clip(0, 255).astype(dtype)
    valid = rng.random((6, 7)) < share
    if dtype == np.float32:
        values[0, 0, 0] = np.nan
    image = stretch(values, valid)
    assert image.shape == (6, 7, 3)
    assert (image[~valid] == 128).all()


def test_stretching_ignores_what_is_not_valid():
    values = np.linspace(10, 20, 100, dtype=np.float32).reshape(1, 10, 10)
    valid = np.ones((10, 10), bool)
    valid[0] = False
    spoilt = values.copy()
    spoilt[0, 0] = -9999
    np.testing.assert_array_equal(stretch(spoilt, valid), stretch(values, valid))
    assert (stretch(np.full((3, 4, 4), 9, np.uint8)) == 128).all()


@LAWS
@given(
    st.sampled_from(["u1", "i1", "<u2", ">i2"]),
    st.tuples(st.integers(1, 4), st.integers(1, 12), st.sampled_from([1, 7, 9000])),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_whole_numbers_are_shown_as_the_same_numbers_in_floating_point(
    kind: str, shape: tuple[int, ...], seed: int, masked: bool
) -> None:
    """Short numbers are looked up in a table; floating point is worked out cell by cell."""
    random = np.random.default_rng(seed)
    kinds = np.iinfo(kind)
    low, high = sorted(random.integers(kinds.min, kinds.max, 2, endpoint=True))
    values = random.integers(low, high, shape, endpoint=True).astype(kind)
    valid = random.random(shape[1:]) < 0.7 if masked else None
    worked_out = values.astype(np.float32)
    if len(values) < 3 and (valid is None or valid.any()):
        seen = worked_out[0] if valid is None else worked_out[0][valid]
        bottom, top = np.percentile(seen, (2, 98))
        found = bounds_of(values, valid)
        assert found == ((bottom, top) if bottom < top else (seen.min(), seen.max()),)
    assert bounds_of(values, valid) == bounds_of(worked_out, valid)
    np.testing.assert_array_equal(stretch(values, valid), stretch(worked_out, valid))
