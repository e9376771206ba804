"""The small parts of nnU-Net's inference against nnU-Net's own code: patches, their weights, logits and labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from segflow.models.card import LOGIT_RANGE
from segflow.models.nnunet.card import card_of
from segflow.models.nnunet.network import Folds
from segflow.models.nnunet.plans import read_plans
from segflow.sweep import head_of
from tests.nnunet.planned import CHECKPOINT, write_plans
from tiling import axis_of, window


@given(st.integers(1, 90), st.integers(1, 25), st.sampled_from((0.25, 0.5, 0.7, 1.0)))
@settings(max_examples=80, deadline=None)
def test_even_starts_are_nnunets(size: int, patch: int, share: float) -> None:
    assume(patch * share >= 1)
    theirs = compute_steps_for_sliding_window((max(size, patch),), (patch,), share)[0]
    assert list(axis_of(size, patch, patch * share, rule="even").starts) == theirs


@pytest.mark.parametrize("patch", [2, 5, 64, 96])
def test_the_weights_of_a_patch_are_nnunets(patch: int) -> None:
    theirs = compute_gaussian((patch,), dtype=torch.float64, device=torch.device("cpu")).numpy()
    assert np.allclose(window("nnunet", patch), theirs, rtol=1e-6)


LABELS: dict[str, dict[str, Any]] = {
    "softmax": {"labels": {"background": 0, "liver": 1, "tumour": 2, "ignore": 3}},
    "regions": {
        "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4},
        "regions_class_order": [1, 2, 3],
    },
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_and_confidence_are_those_of_nnunets_logits(kind: str, tmp_path: Path) -> None:
    dataset = {**LABELS[kind], "channel_names": {"0": "CT"}}
    plans = read_plans(write_plans(tmp_path, dataset=dataset))
    card = card_of(plans, CHECKPOINT, ["0"])
    theirs = LabelManager(dataset["labels"], dataset.get("regions_class_order"))
    assert card.output_channels == theirs.num_segmentation_heads
    assert card.ids == tuple(theirs.all_labels)
    assert card.ignore == (theirs.ignore_label,)
    logits = torch.from_numpy(np.random.default_rng(1).normal(0, 6, (1, 3, 4, 5, 6)).astype(np.float32))
    folds = Folds([Given(logits), Given(logits * 3)], [()], (1, 1, 1), False, card.regions is not None)
    sums = folds(torch.zeros(1, 1, 4, 5, 6))[0].numpy() * np.float32(2**24)
    head = head_of(card)
    decision = head.decide(sums, 2**24)
    np.testing.assert_array_equal(decision.labels, theirs.convert_logits_to_segmentation(logits[0] * 2).numpy())
    probabilities = theirs.apply_inference_nonlin(logits[0] * 2).numpy()
    confidence = head.confidence(sums, decision, 2**24) / 2**24
    if kind == "softmax":
        np.testing.assert_allclose(confidence, probabilities.max(0), atol=1e-4)
    else:
        last = np.select(
            [probabilities[k] > 0.5 for k in (2, 1, 0)], list(probabilities[::-1]), 1 - probabilities.max(0)
        )
        np.testing.assert_allclose(confidence, last, atol=1e-4)


def test_a_threshold_of_regions_is_one_of_probabilities(tmp_path: Path) -> None:
    plans = read_plans(write_plans(tmp_path, dataset={**LABELS["regions"], "channel_names": {"0": "CT"}}))
    card = card_of(plans, CHECKPOINT, ["0"]).model_copy(update={"threshold": 0.9})
    logits = np.array([[2.1, 2.3], [-9, -9], [-9, -9]], np.float32).reshape(3, 2, 1, 1)  # sigmoid 0.891, 0.909
    scaled = (0.5 + logits / (2 * LOGIT_RANGE)) * 2**24
    assert head_of(card).decide(scaled, 2**24).labels.ravel().tolist() == [0, 1]


class Given(torch.nn.Module):
    """A network that puts out what it was given."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits


def test_mirrored_views_are_averaged_as_nnunet_does() -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv3d(2, 3, 3, padding=1).eval()
    x = torch.randn(1, 2, 6, 5, 4)
    axes = [(), (0,), (2,), (0, 2)]
    views = [torch.flip(network(torch.flip(x, [a + 2 for a in v])), [a + 2 for a in v]) for v in axes]
    wanted = 1 + torch.log_softmax(sum(views) / 4, 1) / LOGIT_RANGE  # type: ignore[arg-type]
    with torch.inference_mode():
        found = Folds([network], axes, (1, 1, 1), False, False)(x)
    assert torch.allclose(found, wanted, atol=1e-6)


def test_two_dimensional_networks_see_one_slice() -> None:
    network = torch.nn.Conv2d(1, 2, 3, padding=1).eval()
    folds = Folds([network], [(), (1,)], (4, 4), True, False)
    assert folds.trial_patch == (1, 8, 8)
    assert folds(torch.zeros(1, 1, 1, 9, 7)).shape == (1, 2, 1, 9, 7)
    assert json.dumps(folds.passes) == "2"
