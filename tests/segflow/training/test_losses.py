"""Losses against torch, MONAI, segmentation-models-pytorch, scikit-learn and their definitions; and their promises."""

from __future__ import annotations

import sys
import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import fbeta_score, jaccard_score, log_loss
from torch import Tensor, nn
from torch.nn import functional

from segflow.errors import ModelError, RecipeError
from segflow.recipe import Train
from segflow.training.labelled import IGNORED
from segflow.training.losses import SegmentationLoss, loss_of, median_frequency

NAMES = ("cross_entropy", "focal", "dice", "generalised_dice", "tversky", "lovasz", "dice_ce")
every = pytest.mark.parametrize("name", NAMES)


def one(name: str, **arguments: Any) -> SegmentationLoss:
    return SegmentationLoss({name: 1.0}, **arguments)


def drawn(seed: int, shape: tuple[int, ...] = (2, 5, 7), classes: int = 3, holes: bool = True) -> tuple[Tensor, Tensor]:
    """Logits (batch, class, *axes), and labels of which about a third are ignored."""
    rng = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(shape[0], classes, *shape[1:], generator=rng)
    labels = torch.randint(0, classes, shape, generator=rng)
    if holes:
        labels[torch.rand(shape, generator=rng) < 0.3] = IGNORED
    return logits, labels


def theirs(name: str, **arguments: Any) -> nn.Module:
    """A loss of segmentation-models-pytorch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # timm's use of torch.jit, on import
        from segmentation_models_pytorch import losses
    made: nn.Module = getattr(losses, name)("multiclass", ignore_index=IGNORED, **arguments)
    return made


def sure(answers: Tensor, classes: int) -> Tensor:
    """Logits that are as good as certain."""
    return functional.one_hot(answers, classes).movedim(-1, 1).float() * 200


def gradient(loss: nn.Module, logits: Tensor, labels: Tensor, **more: Any) -> tuple[float, Tensor]:
    leaf = logits.clone().requires_grad_()
    value = loss(leaf, labels, **more)
    value.backward()
    assert leaf.grad is not None
    return value.item(), leaf.grad


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    name=st.sampled_from(NAMES),
    shape=st.sampled_from([(1, 3, 4), (2, 5, 7), (2, 3, 4, 2)]),
    classes=st.integers(2, 5),
    wild=st.sampled_from([0.0, 50.0, float("inf"), float("nan")]),
    border=st.booleans(),
)
def test_ignored_cells_change_neither_the_loss_nor_any_gradient(
    seed: int, name: str, shape: tuple[int, ...], classes: int, wild: float, border: bool
) -> None:
    logits, labels = drawn(seed, shape, classes)
    more = {"border": torch.rand(shape, generator=torch.Generator().manual_seed(seed))} if border else {}
    other = torch.where((labels == IGNORED)[:, None], torch.full_like(logits, wild), logits)
    loss = one(name, class_weights=list(range(1, classes + 1)))
    value, slopes = gradient(loss, logits, labels, **more)
    value2, slopes2 = gradient(loss, other, labels, **more)
    assert value2 == value
    assert torch.equal(slopes, slopes2)
    assert not slopes.movedim(1, -1)[labels == IGNORED].any()


@every
def test_a_batch_without_labels_has_no_loss_and_no_gradient(name: str) -> None:
    value, slopes = gradient(one(name), torch.randn(1, 2, 4, 4), torch.full((1, 4, 4), IGNORED))
    assert value == 0.0
    assert not slopes.any()


@settings(max_examples=60)
@given(
    name=st.sampled_from(NAMES),
    kind=st.sampled_from(["one class", "one cell", "right", "wrong"]),
    gamma=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    size=st.sampled_from([1.0, 30.0, 1e4]),
)
def test_loss_and_gradients_are_finite_in_every_corner(name: str, kind: str, gamma: float, size: float) -> None:
    """MONAI's focal loss has gradients that are not numbers for a sure cell and gamma 0.5."""
    logits, labels = drawn(3, classes=4, holes=False)
    if kind == "one class":
        labels[:] = 2
    elif kind == "one cell":
        labels[:] = IGNORED
        labels[0, 0, 0] = 1
    elif kind in ("right", "wrong"):
        logits = sure(labels if kind == "right" else (labels + 1) % 4, 4)
    value, slopes = gradient(one(name, focal_gamma=gamma), logits * size, labels)
    assert np.isfinite(value)
    assert torch.isfinite(slopes).all()


@every
def test_a_right_and_sure_answer_costs_nothing_and_a_wrong_one_much(name: str) -> None:
    _, labels = drawn(0, (2, 12, 12))
    known = labels.clamp_min(0)
    assert one(name)(sure(known, 3), labels).item() == pytest.approx(0, abs=1e-5)
    assert one(name)(sure((known + 1) % 3, 3), labels).item() > 0.9


@every
def test_a_tiny_network_learns_under_every_loss(name: str) -> None:
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (2, 8, 8), generator=rng).repeat_interleave(4, 1).repeat_interleave(4, 2)
    images = functional.one_hot(labels, 3).movedim(-1, 1) + 0.7 * torch.randn(2, 3, 32, 32, generator=rng)
    labels[:, :4] = IGNORED
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
    optimiser = torch.optim.Adam(network.parameters(), 0.02)
    found = []
    for _ in range(60):
        value = one(name)(network(images), labels)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        found.append(value.item())
    assert found[-1] < 0.5 * found[0]
    known = labels != IGNORED
    assert (network(images).argmax(1)[known] == labels[known]).float().mean() > 0.85


def test_terms_add_up_with_their_weights() -> None:
    logits, labels = drawn(1)
    terms = {"cross_entropy": 0.3, "dice": 2.0, "lovasz": 0.5}
    expected = sum(weight * one(name)(logits, labels) for name, weight in terms.items())
    assert SegmentationLoss(terms)(logits, labels).item() == pytest.approx(float(expected), rel=1e-6)
    assert set(SegmentationLoss(terms).parts(logits, labels)) == set(terms)


@pytest.mark.parametrize("weights", [None, (0.5, 1.0, 4.0)])
def test_cross_entropy_is_torchs_with_an_ignored_index(weights: tuple[float, ...] | None) -> None:
    logits, labels = drawn(1)
    expected = functional.cross_entropy(
        logits, labels, torch.tensor(weights) if weights else None, ignore_index=IGNORED
    )
    assert one("cross_entropy", class_weights=weights)(logits, labels).item() == pytest.approx(
        float(expected), rel=1e-6
    )


def test_cross_entropy_equals_scikit_learns_over_labelled_cells() -> None:
    logits, labels = drawn(2)
    known = labels != IGNORED
    probabilities = torch.softmax(logits.double(), 1).movedim(1, -1)[known].numpy()
    expected = log_loss(labels[known].numpy(), probabilities, labels=[0, 1, 2])
    assert one("cross_entropy")(logits, labels).item() == pytest.approx(expected, rel=1e-5)


def test_a_border_map_weighs_cells_by_class_plus_border() -> None:
    """Three cells by hand: two classes, weights 1 and 3, borders 0, 2 and 10; the third is ignored."""
    logits = torch.tensor([[[0.0, 1.0, 5.0], [0.0, 0.0, 0.0]]])
    labels = torch.tensor([[0, 1, IGNORED]])
    border = torch.tensor([[0.0, 2.0, 10.0]])
    expected = (1 * np.log(2) + (3 + 2) * np.log(1 + np.e)) / (1 + 5)
    found = one("cross_entropy", class_weights=(1.0, 3.0))(logits, labels, border)
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_an_empty_border_map_changes_nothing() -> None:
    logits, labels = drawn(4)
    loss = one("cross_entropy", class_weights=(0.5, 1.0, 4.0))
    assert loss(logits, labels, torch.zeros(labels.shape)).item() == pytest.approx(
        loss(logits, labels).item(), rel=1e-6
    )


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
def test_focal_loss_is_monais_a_cell(gamma: float) -> None:
    from monai.losses.focal_loss import FocalLoss

    logits, labels = drawn(5, holes=False)
    monai = FocalLoss(to_onehot_y=True, use_softmax=True, gamma=gamma, reduction="none")(logits, labels[:, None])
    assert one("focal", focal_gamma=gamma)(logits, labels).item() == pytest.approx(
        float(monai.sum() / labels.numel()), rel=1e-5
    )


def test_focal_loss_without_discount_is_cross_entropy() -> None:
    logits, labels = drawn(6)
    weights = (0.5, 1.0, 4.0)
    expected = one("cross_entropy", class_weights=weights)(logits, labels)
    found = one("focal", class_weights=weights, focal_gamma=0.0)(logits, labels)
    assert found.item() == pytest.approx(float(expected), rel=1e-6)


@every
def test_dice_ce_and_its_kin_agree_with_monai_where_monai_sees_all_cells(name: str) -> None:
    """On batches without ignored cells, as one item, the overlaps are MONAI's own from logits."""
    from monai.losses.dice import DiceCELoss, DiceLoss, GeneralizedDiceLoss
    from monai.losses.tversky import TverskyLoss

    both: dict[str, Any] = {"softmax": True, "to_onehot_y": True, "batch": True}
    oracle = {
        "dice": DiceLoss(smooth_nr=1, smooth_dr=1, **both),
        "dice_ce": DiceCELoss(smooth_nr=1, smooth_dr=1, **both),
        "generalised_dice": GeneralizedDiceLoss(smooth_nr=0, smooth_dr=0, **both),
        "tversky": TverskyLoss(alpha=0.3, beta=0.7, smooth_nr=0.5, smooth_dr=0.5, **both),
    }
    if name not in oracle:
        return
    logits, labels = drawn(7, holes=False)
    assert one(name)(logits, labels).item() == pytest.approx(float(oracle[name](logits, labels[:, None])), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "other", "arguments"),
    [
        ("dice", "DiceLoss", {"smooth": 0.5}),
        ("tversky", "TverskyLoss", {"smooth": 0.5, "alpha": 0.3, "beta": 0.7}),
        ("lovasz", "LovaszLoss", {}),
    ],
)
def test_overlaps_of_partly_labelled_batches_are_those_of_smp(name: str, other: str, arguments: dict[str, Any]) -> None:
    oracle = theirs(other, **arguments)
    for seed in range(5):
        logits, labels = drawn(seed, (2, 16, 16))
        assert one(name)(logits, labels).item() == pytest.approx(float(oracle(logits, labels)), rel=1e-4)


def test_overlaps_of_sure_answers_are_one_minus_scikit_learns_scores() -> None:
    _, labels = drawn(8, (2, 60, 60))
    answers = drawn(9, (2, 60, 60), holes=False)[1]
    known = labels != IGNORED
    truth, found = labels[known].numpy(), answers[known].numpy()
    logits = sure(answers, 3)
    dice, index = fbeta_score(truth, found, beta=1, average="macro"), jaccard_score(truth, found, average="macro")
    assert one("dice")(logits, labels).item() == pytest.approx(1 - dice, abs=2e-3)  # a cell of smoothing in thousands
    assert one("tversky", tversky=(0.5, 0.5))(logits, labels).item() == pytest.approx(1 - dice, abs=2e-3)
    assert one("lovasz")(logits, labels).item() == pytest.approx(1 - index, abs=1e-5)
    hits = np.array([((truth == c) & (found == c)).sum() for c in range(3)])
    true, said = np.bincount(truth), np.bincount(found)
    weight = 1 / true.astype(np.float64) ** 2
    expected = 1 - 2 * (weight * hits).sum() / (weight * (true + said)).sum()  # Sudre et al., section 2
    assert one("generalised_dice")(logits, labels).item() == pytest.approx(expected, rel=1e-5)


def test_tversky_with_halves_is_dice() -> None:
    logits, labels = drawn(10)
    assert one("tversky", tversky=(0.5, 0.5))(logits, labels).item() == pytest.approx(
        one("dice")(logits, labels).item(), rel=1e-6
    )


def test_generalised_dice_of_a_large_batch_is_that_of_a_small_one() -> None:
    """MONAI's own smoothing would make it 0.1 for 200,000 cells a class where it is 0.5."""
    labels = (torch.arange(400_000) % 2).view(1, 400, 1000)
    logits = torch.zeros(1, 2, 400, 1000)
    assert one("generalised_dice")(logits, labels).item() == pytest.approx(0.5, rel=1e-4)


def lovasz_by_definition(errors: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """The Lovász extension of the Jaccard loss as the integral over thresholds of the set function's value.

    f(m) = integral over t from 0 to 1 of Δ({cells whose error is at least t}), which is its definition for m in [0, 1]
    (Bach, Learning with Submodular Functions, 2013, section 3.1); no sort of cells and no slopes.
    """

    def delta(wrong: NDArray[np.bool_]) -> float:
        missed, added = wrong & truth, wrong & ~truth
        return 1 - (truth & ~missed).sum() / (truth | added).sum()

    steps = np.unique(np.concatenate(([0.0], errors, [1.0])))
    return float(sum((high - low) * delta(errors >= high) for low, high in pairwise(steps)))


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), cells=st.integers(1, 9), classes=st.integers(2, 4))
def test_lovasz_is_the_extension_of_the_jaccard_loss(seed: int, cells: int, classes: int) -> None:
    logits, labels = drawn(seed, (1, cells), classes, holes=False)
    probabilities = torch.softmax(logits.double(), 1)[0].numpy()
    truth = labels[0].numpy()
    expected = np.mean(
        [lovasz_by_definition(np.abs((truth == c) - probabilities[c]), truth == c) for c in np.unique(truth)]
    )
    assert one("lovasz")(logits, labels).item() == pytest.approx(expected, abs=1e-6)


def test_lovasz_gradients_are_those_of_smp() -> None:
    logits, labels = drawn(11)
    mine = gradient(one("lovasz"), logits, labels)[1]
    oracle = gradient(theirs("LovaszLoss"), logits, labels)[1]
    assert torch.allclose(mine, oracle, atol=1e-6)


@every
def test_bfloat16_logits_under_autocast_are_reckoned_in_float32(name: str) -> None:
    logits, labels = drawn(12, (2, 30, 30))
    coarse = logits.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = one(name)(coarse, labels)
    assert found.dtype == torch.float32
    assert found.item() == one(name)(coarse.float(), labels).item()


def plan(**changes: Any) -> Train:
    classes = [{"id": i, "name": f"class {i}", "colour": "#000000"} for i in range(3)]
    return Train.model_validate({"name": "x", "classes": classes, "channels": ["a"], "patch": [8, 8], **changes})


def test_median_frequency_is_that_of_segnet_worked_by_hand() -> None:
    """Class 2 occurs in the second scene only, so only that scene's 200 cells count for it.

    Frequencies 90/300, 160/300 and 50/200 have the median 0.3, by which each is divided.
    """
    counts = np.array([[40, 60, 0], [50, 100, 50]])
    assert median_frequency(counts) == pytest.approx([1.0, 0.3 / (160 / 300), 0.3 / 0.25])


def test_a_class_that_occurs_nowhere_does_not_spoil_the_others() -> None:
    assert median_frequency(np.array([[10, 30, 0]])) == pytest.approx([2.0, 2 / 3, 1.0])


def test_a_recipe_sets_terms_weights_and_their_arguments() -> None:
    counts = np.array([[40, 60, 0], [50, 100, 50]])
    made = loss_of(
        plan(
            loss={"focal": 2.0, "tversky": 1.0}, class_weights="median_frequency", focal_gamma=1.0, tversky=[0.2, 0.8]
        ),
        counts,
    )
    logits, labels = drawn(13)
    weights = [float(value) for value in median_frequency(counts)]
    expected = 2 * one("focal", class_weights=weights, focal_gamma=1.0)(logits, labels)
    expected = expected + one("tversky", tversky=(0.2, 0.8))(logits, labels)
    assert made(logits, labels).item() == pytest.approx(float(expected), rel=1e-6)
    assert not made.state_dict()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"class_weights": [1.0, 2.0]}, "class_weights has 2"),
        ({"class_weights": [1.0, 2.0, 1.0], "loss": {"dice": 1.0}}, "class_weights is set"),
        ({"border": {}, "loss": {"focal": 1.0}}, "border is set"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(changes: dict[str, Any], found: str) -> None:
    with pytest.raises(RecipeError, match=found):
        loss_of(plan(**changes), np.ones((1, 3), np.int64))


def test_without_monai_the_loss_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai.losses.dice", None)  # as Python sees a module that is not there
    with pytest.raises(ModelError, match="train"):
        one("dice")
    assert one("lovasz")(*drawn(0)).isfinite()
