"""The fit: it learns, repeats, goes on where it was cut off, and its loss is the textbook's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, log_loss

from segflow.errors import OutputError
from segflow.grid import Grid
from segflow.io.array import ArraySource
from segflow.models.card import Normalisation
from segflow.models.registry import build
from segflow.training.batches import Batches
from segflow.training.fit import FitSettings, fit
from segflow.training.losses import segmentation_loss
from segflow.training.sampling import IGNORED, LabelIndex, Sampler, Scene, scene_statistics
from segflow.training.scoring import count_scene
from tiling.box import Box

PATCH = (16, 16)
INDEX = LabelIndex((0, 1))


def blobs(seed: int) -> Scene:
    """Noise in which bright 8 x 8 squares are class 1: single pixels do not tell, neighbourhoods do."""
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.random((10, 10)) < 0.4, np.ones((8, 8))).astype(np.uint8)[None]
    values = (100 + 40 * labels + rng.normal(0, 40, labels.shape)).clip(0, 255).astype(np.uint8)
    grid = Grid("raster", (80, 80))
    return Scene(ArraySource(values, grid), ArraySource(labels, grid))


def batches() -> Batches:
    scene = blobs(0)
    statistics = scene_statistics(scene, Normalisation(source="scene"), np.random.default_rng(0))
    return Batches(Sampler([scene], INDEX, 2, 0.5, 0), (statistics,), PATCH, 8, "aerial", (0.9, 1.1), 0)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build("unet", {"in_channels": 1, "out_channels": 2, "width": 4, "depth": 2})


def test_a_small_fit_learns_far_better_than_chance() -> None:
    made = network()
    fitted = fit(made, batches(), FitSettings(steps=90, learning_rate=1e-2, dice=0.5, average=0.9))
    assert np.mean(fitted.losses[-10:]) < 0.6 * np.mean(fitted.losses[:5])
    made.load_state_dict(fitted.state)
    unseen = blobs(1)
    statistics = scene_statistics(unseen, Normalisation(source="scene"), np.random.default_rng(0))
    counts = count_scene(made, unseen, (Box.whole((80, 80)),), statistics, INDEX, (32, 32), (0, 1))
    assert counts.matrix is not None
    assert counts.matrix.sum() == 80 * 80
    assert np.trace(counts.matrix) / counts.matrix.sum() > 0.8  # the larger class alone would give 0.63


def test_a_fit_that_is_cut_off_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    settings = FitSettings(steps=8, average=0.9, checkpoint_every=3)
    straight = fit(network(), batches(), settings)
    path = tmp_path / "fit.ckpt"
    first = fit(network(), batches(), settings, path, stop_after=5)
    assert len(first.losses) == 5
    second = fit(network(), batches(), settings, path)
    assert second.losses == straight.losses
    assert all(torch.equal(value, second.state[key]) for key, value in straight.state.items())


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fit.ckpt"
    fit(network(), batches(), FitSettings(steps=1), path)
    other = build("unet", {"in_channels": 1, "out_channels": 2, "width": 8, "depth": 2})
    with pytest.raises(OutputError, match="another training"):
        fit(other, batches(), FitSettings(steps=2), path)


def test_a_loss_that_is_not_finite_stops_the_fit_with_its_step() -> None:
    made = network()
    with torch.no_grad():
        next(iter(made.parameters())).fill_(float("nan"))
    with pytest.raises(OutputError, match="step 0"):
        fit(made, batches(), FitSettings(steps=2))


def test_the_rate_rises_then_falls_and_is_never_nothing() -> None:
    settings = FitSettings(steps=400, learning_rate=1.0)
    rates = [settings.rate(step) for step in range(400)]
    peak = int(np.argmax(rates))
    assert rates[peak] == 1.0
    assert all(np.diff(rates[: peak + 1]) > 0)
    assert all(np.diff(rates[peak + 1 :]) < 0)
    assert 0.01 <= rates[-1] < 0.02


def logits_and_labels() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, 7, generator=rng)
    labels = torch.randint(0, 3, (2, 5, 7), generator=rng)
    labels[0, :2] = IGNORED
    return logits, labels


def test_cross_entropy_equals_scikit_learns_over_labelled_cells() -> None:
    logits, labels = logits_and_labels()
    known = labels != IGNORED
    probabilities = torch.softmax(logits, 1).movedim(1, -1)[known].double().numpy()
    expected = log_loss(labels[known].numpy(), probabilities / probabilities.sum(1, keepdims=True), labels=[0, 1, 2])
    assert segmentation_loss(logits, labels).item() == pytest.approx(expected, rel=1e-5)


def test_the_dice_term_of_sure_answers_is_one_minus_scikit_learns_f1() -> None:
    logits, labels = logits_and_labels()
    sure = torch.nn.functional.one_hot(logits.argmax(1), 3).movedim(-1, 1).float() * 200
    known = labels != IGNORED
    f1 = f1_score(labels[known].numpy(), logits.argmax(1)[known].numpy(), average="macro")
    dice = segmentation_loss(sure, labels, dice=1.0) - segmentation_loss(sure, labels)
    assert dice.item() == pytest.approx(1 - f1, abs=0.03)  # one cell of smoothing


def test_a_batch_without_labels_has_no_loss_and_no_gradient() -> None:
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((1, 4, 4), IGNORED), dice=1.0)
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()
