"""Objects: scikit-image finds the same, torchmetrics' idea of a panoptic match, windows, and what each count means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.measure import label

from segflow.metrics.objects import count_objects, summarise_objects
from segflow.metrics.results import ObjectScores
from tests.segflow.metrics.pairs import Maps, label_pairs, pair_of


def counted(prediction: NDArray[Any], reference: NDArray[Any], classes: int = 2, **rules: Any) -> ObjectScores:
    return count_objects(pair_of(prediction, reference, classes), [classes - 1], **rules)[0]


def squares(*boxes: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    found = np.zeros((40, 40), np.uint8)
    for top, left, bottom, right in boxes:
        found[top:bottom, left:right] = 1
    return found


@given(label_pairs(), st.sampled_from(("faces", "corners")))
def test_over_a_half_it_is_the_panoptic_match_on_scikit_image_s_regions(maps: tuple[Maps, int], how: Any) -> None:
    (prediction, reference), classes = maps
    found = counted(prediction, reference, classes, iou_over=0.5, connectivity=how)
    void = reference == classes
    rank = 1 if how == "faces" else reference.ndim
    ours, theirs = (label((side == classes - 1) & ~void, connectivity=rank) for side in (reference, prediction))
    quality = []
    for one in range(1, ours.max() + 1):
        for two in np.unique(theirs[ours == one]):
            union = ((ours == one) | (theirs == two)).sum()
            iou = ((ours == one) & (theirs == two)).sum() / union if two else 0
            if iou > 0.5:
                quality.append(iou)
    assert (found.reference, found.prediction, found.detected) == (ours.max(), theirs.max(), len(quality))
    assert (found.missed, found.false) == (ours.max() - len(quality), theirs.max() - len(quality))
    if quality:
        assert found.mean_iou == pytest.approx(np.mean(quality))
        whole = sum(quality) / (len(quality) + 0.5 * (found.missed + found.false))
        assert found.panoptic_quality == pytest.approx(whole)


@given(label_pairs(), st.integers(1, 60), st.sampled_from((0.0, 0.3, 0.6)), st.integers(1, 4))
def test_windows_give_what_the_whole_array_gives(maps: tuple[Maps, int], cells: int, over: float, least: int) -> None:
    (prediction, reference), classes = maps
    rules = {"iou_over": over, "min_cells": least}
    whole = counted(prediction, reference, classes, **rules)
    assert counted(prediction, reference, classes, slab_cells=cells, **rules) == whole


@given(label_pairs(), st.sampled_from((0.5, 0.8)))
def test_it_is_symmetric_where_matches_are_unique(maps: tuple[Maps, int], over: float) -> None:
    (prediction, reference), classes = maps
    here = counted(prediction, reference, classes, iou_over=over)
    there = counted(reference, prediction, classes, iou_over=over)
    assert (here.detected, here.missed, here.false) == (there.detected, there.false, there.missed)
    assert here.f1 == there.f1


@given(label_pairs())
def test_what_is_identical_has_all_objects_detected(maps: tuple[Maps, int]) -> None:
    (_, reference), classes = maps
    found = counted(reference, reference, classes)
    assert (found.missed, found.false) == (0, 0)
    assert found.f1 == (1 if found.reference else None)
    assert found.panoptic_quality == found.f1


def test_lesions_are_detected_missed_or_false() -> None:
    reference = squares((2, 2, 6, 6), (20, 20, 24, 24), (30, 2, 34, 6))
    prediction = squares((3, 3, 7, 7), (20, 21, 24, 25), (10, 30, 12, 32))
    found = counted(prediction, reference)
    assert (found.detected, found.missed, found.false) == (2, 1, 1)
    assert (found.precision, found.recall, found.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))


def test_one_region_over_two_lesions_detects_one_and_touches_two() -> None:
    found = counted(squares((2, 2, 6, 30)), squares((2, 2, 6, 6), (2, 20, 6, 30)))
    assert (found.detected, found.missed, found.false, found.touched) == (1, 1, 0, 2)


def test_a_higher_threshold_turns_a_faint_touch_into_a_miss_and_a_false_one() -> None:
    reference, prediction = squares((2, 2, 12, 12)), squares((10, 10, 20, 20))
    assert counted(prediction, reference).detected == 1
    strict = counted(prediction, reference, iou_over=0.1)
    assert (strict.detected, strict.missed, strict.false, strict.f1) == (0, 1, 1, 0)


def test_specks_are_no_objects_where_the_least_size_is_larger() -> None:
    reference, prediction = squares((2, 2, 8, 8)), squares((2, 2, 8, 8), (30, 30, 31, 31))
    assert counted(prediction, reference).false == 1
    assert counted(prediction, reference, min_cells=2).false == 0


def test_a_missed_class_is_0_in_the_mean_and_an_absent_one_is_out_of_it() -> None:
    empty, full = squares(), squares((2, 2, 8, 8))
    missed, good, absent = counted(empty, full), counted(full, full), counted(empty, empty)
    summary = summarise_objects([missed, good, absent], 0.0, "corners", 1)
    assert (summary.mean_f1, summary.classes_scored) == (0.5, 2)
