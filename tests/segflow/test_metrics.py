"""Counts and scores: laws over random label maps, with scikit-learn as the oracle."""

from __future__ import annotations

import json
import math
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as oracle

from segflow.errors import InputError
from segflow.metrics import Counts, count_confusion, pool_scores, scores
from segflow.models.card import LabelClass

LAWS = settings(max_examples=60, deadline=None, derandomize=True)
COLOURS = ("#3C1098", "#8429F6", "#6EC1E4", "#FEDD3A", "#E2A929", "#228833")


def make_classes(ids: tuple[int, ...]) -> tuple[LabelClass, ...]:
    return tuple(
        LabelClass(id=value, name=f"class {value}", colour=COLOURS[i % len(COLOURS)]) for i, value in enumerate(ids)
    )


@st.composite
def label_maps(draw: st.DrawFn) -> tuple[tuple[int, ...], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Ids in any order, a reference and a prediction drawn from some of them, and a mask of valid cells."""
    ids = tuple(draw(st.lists(st.integers(0, 300).filter(lambda v: v != 255), min_size=1, max_size=6, unique=True)))
    shape = draw(st.sampled_from([(1, 1), (7,), (5, 9), (3, 4, 5)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    in_reference = draw(st.lists(st.sampled_from(ids), min_size=1, unique=True))
    in_prediction = draw(st.lists(st.sampled_from(ids), min_size=1, unique=True))
    valid = rng.random(shape) < draw(st.sampled_from([0.0, 0.6, 1.0]))
    return ids, rng.choice(in_reference, shape), rng.choice(in_prediction, shape), valid


@LAWS
@given(label_maps())
def test_matrix_is_scikit_learns_over_valid_cells(maps):
    ids, reference, prediction, valid = maps
    counts = count_confusion(reference, prediction, ids, valid=valid)
    if valid.any():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn warns of maps of one class
            expected = oracle.confusion_matrix(reference[valid], prediction[valid], labels=ids)
        np.testing.assert_array_equal(counts.matrix, expected)
    else:
        assert not counts.matrix.any()
    assert counts.matrix.sum() + counts.excluded == reference.size
    np.testing.assert_array_equal(counts.predicted, [(prediction[valid] == value).sum() for value in ids])


@LAWS
@given(label_maps())
def test_scores_are_scikit_learns(maps):
    ids, reference, prediction, valid = maps
    if not valid.any():
        return
    result = scores(count_confusion(reference, prediction, ids, valid=valid), make_classes(ids))
    truth, said = reference[valid], prediction[valid]
    present = [i for i, value in enumerate(ids) if (truth == value).any() or (said == value).any()]
    shown = [ids[i] for i in present]
    overall = result["overall"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of classes that it meets on one side only
        precision, recall, f1, support = oracle.precision_recall_fscore_support(
            truth, said, labels=shown, zero_division=0
        )
        iou = oracle.jaccard_score(truth, said, labels=shown, average=None, zero_division=0)
        balanced = oracle.balanced_accuracy_score(truth, said)
        kappa = oracle.cohen_kappa_score(truth, said)
    for place, i in enumerate(present):
        row = result["classes"][i]
        got = [row[key] for key in ("precision", "recall", "dice", "support", "iou")]
        want = [precision[place], recall[place], f1[place], support[place], iou[place]]
        np.testing.assert_allclose(got, want, rtol=1e-12)
        if support[place] < truth.size:
            specificity = oracle.recall_score(truth != row["id"], said != row["id"], zero_division=0)
            assert row["specificity"] == pytest.approx(specificity, rel=1e-12)
    assert overall["pixel_accuracy"] == pytest.approx(oracle.accuracy_score(truth, said), rel=1e-12)
    assert overall["mean_class_accuracy"] == pytest.approx(balanced, rel=1e-12)
    assert overall["mean_iou"] == pytest.approx(np.mean(iou), rel=1e-12)
    assert overall["mean_dice"] == pytest.approx(np.mean(f1), rel=1e-12)
    assert overall["frequency_weighted_iou"] == pytest.approx(np.average(iou, weights=support), rel=1e-12)
    assert overall["classes_scored"] == len(present)
    if len(present) > 1:
        assert overall["kappa"] == pytest.approx(kappa, rel=1e-9, abs=1e-12)
    else:
        assert overall["kappa"] is None


@LAWS
@given(label_maps(), st.data())
def test_counts_add_up_over_chunks_and_do_not_depend_on_order(maps, data):
    ids, reference, prediction, valid = maps
    whole = count_confusion(reference, prediction, ids, valid=valid)
    cut = data.draw(st.integers(0, len(reference)))
    parts = [
        count_confusion(reference[part], prediction[part], ids, valid=valid[part])
        for part in (slice(cut, None), slice(None, cut))
    ]
    assert parts[0] + parts[1] == whole == Counts.zero(ids) + parts[1] + parts[0]
    order = np.random.default_rng(cut).permutation(reference.size)
    shuffled = (array.reshape(-1)[order] for array in (reference, prediction, valid))
    reference, prediction, valid = shuffled
    assert count_confusion(reference, prediction, ids, valid=valid) == whole


@LAWS
@given(label_maps())
def test_scores_are_finite_json_in_every_case(maps):
    ids, reference, prediction, valid = maps
    result = scores(count_confusion(reference, prediction, ids, valid=valid), make_classes(ids), cell_area_m2=0.25)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.int64, np.float32, np.float64])
def test_counts_do_not_depend_on_the_dtype(dtype):
    rng = np.random.default_rng(1)
    reference, prediction = rng.integers(0, 4, (2, 50, 70))
    expected = count_confusion(reference, prediction, (1, 2, 3), ignore=(0,))
    assert count_confusion(reference.astype(dtype), prediction.astype(np.uint8), (1, 2, 3), ignore=(0,)) == expected
    assert count_confusion(reference.astype(dtype), prediction.astype(dtype), (1, 2, 3), ignore=(0,)) == expected


def test_counts_do_not_depend_on_memory_order():
    rng = np.random.default_rng(2)
    reference, prediction = rng.integers(0, 4, (2, 20, 30, 40))
    valid = rng.random(reference.shape) > 0.3
    expected = count_confusion(reference, prediction, (0, 1, 2, 3), valid=valid)
    turned = count_confusion(np.asfortranarray(reference), prediction, (0, 1, 2, 3), valid=np.asfortranarray(valid))
    assert turned == expected


def test_ids_beyond_sixteen_bits_can_be_mapped_and_ignored():
    reference = np.array([-1, 70000, 2**31 - 1, 1])
    counts = count_confusion(reference, np.ones(4, np.uint8), (0, 1), mapping={70000: 1, 2**31 - 1: 0}, ignore=(-1,))
    assert counts.matrix.tolist() == [[0, 1], [0, 2]]
    assert counts.excluded == 1


def test_many_ids_map_to_one_class():
    aseg = np.array([[2, 41, 3, 42, 0, 17]], np.int16)
    counts = count_confusion(aseg, np.array([[2, 2, 1, 2, 0, 1]]), (0, 1, 2), mapping={2: 2, 41: 2, 3: 1, 42: 1, 17: 1})
    assert counts.matrix.tolist() == [[1, 0, 0], [0, 2, 1], [0, 0, 2]]


def test_a_mapping_may_lead_to_an_ignored_id_and_comes_before_ignore():
    counts = count_confusion(np.array([0, 9, 1]), np.array([1, 1, 1]), (1, 2), ignore=(0,), mapping={9: 0, 0: 2})
    assert counts.matrix.tolist() == [[1, 0], [1, 0]]
    assert counts.excluded == 1


def test_a_mapping_to_an_id_that_the_model_lacks_is_refused():
    with pytest.raises(InputError, match=r"gives 9, which the model does not have"):
        count_confusion(np.zeros(3, int), np.zeros(3, int), (0, 1), mapping={4: 9})


def test_unknown_ids_are_named_with_their_counts_and_the_remedy():
    reference = np.array([0, 1, 7, 7, 12])
    with pytest.raises(InputError) as caught:
        count_confusion(reference, np.zeros(5, np.uint8), (0, 1))
    assert "7 (2 cells), 12 (1 cells)" in str(caught.value)
    assert "references.map" in caught.value.remedy
    assert "references.ignore" in caught.value.remedy


def test_unknown_ids_matter_only_where_a_cell_is_scored():
    reference = np.array([0, 7, 7, 1])
    valid = np.array([True, False, True, True])
    scored = np.array([True, True, False, True])
    counts = count_confusion(reference, np.zeros(4, np.uint8), (0, 1), valid=valid, scored=scored)
    assert counts.matrix.tolist() == [[1, 0], [1, 0]]
    assert counts.excluded == 2
    assert counts.predicted.tolist() == [3, 0]


def test_fractions_in_a_float_reference_are_refused_and_nan_is_no_reference():
    assert count_confusion(np.array([0.0, np.nan, 1.0]), np.zeros(3, np.uint8), (0, 1)).excluded == 1
    with pytest.raises(InputError, match=r"0\.5 \(1 cells\)"):
        count_confusion(np.array([0.0, 0.5]), np.zeros(2, np.uint8), (0, 1))
    with pytest.raises(InputError, match=r"inf \(1 cells\)"):
        count_confusion(np.array([0.0, np.inf]), np.zeros(2, np.uint8), (0, 1))


def test_cells_without_a_prediction_are_excluded_but_strange_predictions_are_refused():
    reference = np.array([0, 1, 1], np.uint8)
    counts = count_confusion(reference, np.array([0, 255, 1], np.uint8), (0, 1))
    assert (counts.matrix.tolist(), counts.excluded, counts.predicted.tolist()) == ([[1, 0], [0, 1]], 1, [1, 1])
    with pytest.raises(InputError, match=r"prediction holds ids that are no class: 6"):
        count_confusion(reference, np.array([0, 6, 1], np.uint8), (0, 1))
    assert count_confusion(np.array([255]), np.array([255]), (0, 255)).matrix.tolist() == [[0, 0], [0, 1]]


def test_without_a_reference_only_pixels_and_areas_are_told():
    valid = np.array([[True, True, False]])
    counts = count_confusion(None, np.array([[2, 2, 2]]), (1, 2), valid=valid)
    result = scores(counts, make_classes((1, 2)), cell_area_m2=812.25)
    assert result["overall"] is None
    assert result["confusion_matrix"] is None
    assert result["excluded"] == 1
    assert result["classes"][1] == {
        "id": 2,
        "name": "class 2",
        "colour": "#8429F6",
        "pixels": 2,
        "area_m2": 1624.5,
    }


def test_volumes_are_told_in_millilitres():
    counts = count_confusion(None, np.array([0, 1, 1]), (0, 1))
    rows = scores(counts, make_classes((0, 1)), cell_volume_ml=0.001)["classes"]
    assert rows[1]["volume_ml"] == 0.002
    assert "area_m2" not in rows[1]
    assert scores(counts, make_classes((0, 1)))["classes"][0]["area_m2"] is None


@LAWS
@given(label_maps())
def test_missing_an_organ_never_improves_a_mean(maps):
    """The defect of a mean over classes whose score became NaN: dropping the organ raised the mean."""
    ids, reference, prediction, _ = maps
    classes = make_classes(ids)
    organ = reference.reshape(-1)[0]
    others = [value for value in ids if value != organ]
    if not others:
        return
    missed = np.where(prediction == organ, others[0], prediction)
    missed = np.where(reference == organ, others[0], missed)
    found = np.where(reference == organ, organ, missed)
    with_organ = scores(count_confusion(reference, found, ids), classes)["overall"]
    without = scores(count_confusion(reference, missed, ids), classes)["overall"]
    for key in ("mean_iou", "mean_dice", "mean_class_accuracy", "pixel_accuracy", "frequency_weighted_iou"):
        assert without[key] < with_organ[key]


def test_a_missed_and_an_invented_class_count_as_zero_and_an_absent_one_not_at_all():
    reference = np.array([0, 0, 1, 1])
    prediction = np.array([0, 0, 0, 2])
    result = scores(count_confusion(reference, prediction, (0, 1, 2, 3)), make_classes((0, 1, 2, 3)))
    kept, missed, invented, absent = result["classes"]
    assert [missed[key] for key in ("iou", "dice", "precision", "recall")] == [0, 0, 0, 0]
    assert [invented[key] for key in ("iou", "dice", "precision", "recall")] == [0, 0, 0, 0]
    assert [absent[key] for key in ("iou", "dice", "precision", "recall", "specificity")] == [None] * 5
    overall = result["overall"]
    assert overall["mean_iou"] == pytest.approx(kept["iou"] / 3)
    assert overall["mean_class_accuracy"] == pytest.approx(0.5)
    assert (overall["classes_scored"], overall["classes_in_reference"]) == (3, 2)
    assert "3 of 4 classes" in overall["denominators"]
    assert "not scored: class 3" in overall["denominators"]
    assert "0 in the means: class 2" in overall["denominators"]


def test_two_classes_also_give_the_foregrounds_recall_precision_and_f1():
    rng = np.random.default_rng(3)
    reference, prediction = rng.integers(0, 2, (2, 500))
    binary = scores(count_confusion(reference, prediction, (0, 1)), make_classes((0, 1)))["overall"]["binary"]
    assert binary["name"] == "class 1"
    assert binary["recall"] == pytest.approx(oracle.recall_score(reference, prediction))
    assert binary["precision"] == pytest.approx(oracle.precision_score(reference, prediction))
    assert binary["f1"] == pytest.approx(oracle.f1_score(reference, prediction))
    three = scores(count_confusion(reference, prediction, (0, 1, 2)), make_classes((0, 1, 2)))
    assert three["overall"]["binary"] is None


def test_kappa_survives_counts_whose_products_overflow_64_bits():
    matrix = np.array([[8, 1], [2, 9]], np.int64) * 10**12
    counts = Counts((0, 1), matrix, 0, matrix.sum(axis=0))
    small = Counts((0, 1), matrix // 10**12, 0, matrix.sum(axis=0) // 10**12)
    huge = scores(counts, make_classes((0, 1)))["overall"]["kappa"]
    assert huge == pytest.approx(scores(small, make_classes((0, 1)))["overall"]["kappa"], rel=1e-12)


def test_pooled_scores_are_those_of_all_cells_with_each_scenes_own_cell_area():
    rng = np.random.default_rng(4)
    reference, prediction = rng.integers(0, 3, (2, 4, 100))
    classes = make_classes((0, 1, 2))
    counts = [count_confusion(reference[i], prediction[i], (0, 1, 2)) for i in range(4)]
    parts = [(part, scores(part, classes, cell_area_m2=i + 1.0)) for i, part in enumerate(counts)]
    pooled = pool_scores(parts, classes)
    whole = scores(count_confusion(reference, prediction, (0, 1, 2)), classes)
    assert pooled["overall"] == whole["overall"]
    for i, row in enumerate(pooled["classes"]):
        assert row["area_m2"] == pytest.approx(math.fsum(int((prediction[s] == i).sum()) * (s + 1) for s in range(4)))


def test_a_scene_without_reference_adds_pixels_but_no_scores_to_the_pool():
    classes = make_classes((0, 1))
    scored = count_confusion(np.array([0, 1]), np.array([0, 0]), (0, 1))
    bare = count_confusion(None, np.array([1, 1, 1]), (0, 1))
    pooled = pool_scores([(part, scores(part, classes)) for part in (bare, scored)], classes)
    assert [row["pixels"] for row in pooled["classes"]] == [2, 3]
    assert pooled["overall"]["pixels_scored"] == 2


def test_counts_survive_json():
    counts = count_confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), (0, 1))
    assert Counts.from_json(json.loads(json.dumps(counts.to_json()))) == counts
    bare = count_confusion(None, np.array([1]), (0, 1))
    assert Counts.from_json(json.loads(json.dumps(bare.to_json()))) == bare


def test_counts_of_other_labels_do_not_add_up():
    with pytest.raises(ValueError, match="cannot be added"):
        Counts.zero((0, 1)) + Counts.zero((1, 0))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_counting_keeps_up_with_reading(dtype):
    """A bound far below what it does (about 100 million cells a second), so that a busy machine passes too."""
    rng = np.random.default_rng(5)
    reference = rng.integers(0, 6, 2_000_000, dtype=np.uint8).astype(dtype)
    prediction = rng.integers(0, 6, 2_000_000, dtype=np.uint8)
    start = time.process_time()
    count_confusion(reference, prediction, tuple(range(6)), valid=prediction != 3)
    assert time.process_time() - start < 1.0
