"""Losses by name and weight. Cells without a label have no part in any of them: they are taken out before all else.

MONAI's Dice, generalised Dice and Tversky losses see the labelled cells alone, as one item (1, class, cell). Written
here:

- focal loss, since MONAI 1.6's has gradients that are not numbers where gamma is between 0 and 1 and a cell is sure;
- Lovász-softmax, which MONAI does not have.

A class that no cell of a batch is labelled with is left out of Dice, generalised Dice, Tversky and Lovász: its overlap
would be 0 whatever the network answers. The cells where it is wrongly seen still count, as cells that their own class
misses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from segflow.errors import ModelError, RecipeError
from segflow.recipe import Train
from segflow.training.sampling import IGNORED

_SMOOTH = 1.0
_CELLWISE = ("cross_entropy", "dice_ce")

Overlap = Callable[[Tensor, Tensor], Tensor]
"""From probabilities and one-hot truth, both (1, class, cell) float32, to a scalar."""


class SegmentationLoss(nn.Module):
    """A weighted sum of losses, each over all labelled cells of the batch at once.

    - cross_entropy: the mean, weighted by class as in `torch.nn.CrossEntropyLoss`; with a border map w(x) the weight of
      a cell is that of its class plus w(x) (Ronneberger et al., U-Net, MICCAI 2015), and the sum over cells is divided
      by the sum of their weights.
    - focal: -(1 - p)^gamma log p (Lin et al., ICCV 2017), weighted by class and averaged like cross_entropy.
    - dice: 1 - mean over classes of (2 overlap + 1) / (predicted + true + 1) (Milletari et al., V-Net, 3DV 2016, with
      plain sums below the line). It lies between 0 and 1.
    - dice_ce: dice + cross_entropy, as in nnU-Net (Isensee et al., Nature Methods 2021).
    - generalised_dice: classes weighted by 1 / true² (Sudre et al., DLMIA 2017), not smoothed.
    - tversky: as dice, with weights for false positives and false negatives (Salehi et al., MLMI 2017); 0.5 and 0.5 is
      dice.
    - lovasz: Lovász-softmax (Berman et al., CVPR 2018).

    Args:
        terms: name to weight.
        class_weights: (class) weights in cross-entropy and focal loss; all 1 when not given.
        focal_gamma: how much sure cells are discounted; 0 is cross_entropy.
        tversky: weights of false positives and of false negatives.

    Raises:
        ModelError: a term needs MONAI, and it is not installed.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        terms: Mapping[str, float],
        class_weights: Sequence[float] | None = None,
        focal_gamma: float = 2.0,
        tversky: tuple[float, float] = (0.3, 0.7),
    ) -> None:
        super().__init__()
        self.weights = dict(terms)
        self.focal_gamma = focal_gamma
        known = None if class_weights is None else torch.tensor(list(class_weights), dtype=torch.float32)
        self.register_buffer("class_weights", known, persistent=False)
        self._overlaps: dict[str, Overlap] = {
            name: _overlap(name, tversky) for name in self.weights if name not in ("cross_entropy", "focal")
        }

    def forward(self, logits: Tensor, labels: Tensor, border: Tensor | None = None) -> Tensor:
        """Return the loss, a float32 scalar; 0, with gradients of 0, for a batch without labels.

        Args:
            logits: (batch, class, *axes) float32.
            labels: (batch, *axes) int64, or `IGNORED`.
            border: (batch, *axes) float32, what cross-entropy adds to the weight of a cell.
        """
        parts = self.parts(logits, labels, border)
        return torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()

    def parts(self, logits: Tensor, labels: Tensor, border: Tensor | None = None) -> dict[str, Tensor]:
        """Return each term by itself, not yet weighted. See `forward`."""
        with torch.autocast(logits.device.type, enabled=False):
            known = labels != IGNORED
            flat, truth = logits.float().movedim(1, -1)[known], labels[known]
            if not len(truth):
                return {name: flat.sum() for name in self.weights}
            extra = None if border is None else border[known].float()
            return {name: self._term(name, flat, truth, extra) for name in self.weights}

    def _term(self, name: str, flat: Tensor, truth: Tensor, extra: Tensor | None) -> Tensor:
        if name == "cross_entropy":
            return self._entropy(flat, truth, extra)
        if name == "focal":
            surprise = functional.cross_entropy(flat, truth, reduction="none")
            # The root of 0 has no slope; a cell with p = 1 is held a hair's breadth off it.
            doubt = (-torch.expm1(-surprise)).clamp_min(1e-12)
            return _weighted_mean(doubt**self.focal_gamma * surprise, self._of_class(truth))
        overlap = self._overlaps[name](*_present(torch.softmax(flat, dim=1), truth))
        return overlap + self._entropy(flat, truth, extra) if name == "dice_ce" else overlap

    def _entropy(self, flat: Tensor, truth: Tensor, extra: Tensor | None) -> Tensor:
        if extra is None:
            return functional.cross_entropy(flat, truth, weight=self.class_weights)
        surprise = functional.cross_entropy(flat, truth, reduction="none")
        weights = self._of_class(truth)
        return _weighted_mean(surprise, extra + (1.0 if weights is None else weights))

    def _of_class(self, truth: Tensor) -> Tensor | None:
        return None if self.class_weights is None else self.class_weights[truth]


def loss_of(plan: Train, counts: NDArray[np.int64]) -> SegmentationLoss:
    """Return the loss that a recipe asks for.

    Args:
        plan: the recipe's `train`.
        counts: (scene, class) labelled cells of the training part.

    Raises:
        RecipeError: there are not as many class weights as classes, or a setting belongs to a term that is not there.
        ModelError: a term needs MONAI, and it is not installed.
    """
    weights: Sequence[float] | None
    if plan.class_weights == "median_frequency":
        weights = [float(weight) for weight in median_frequency(counts)]
    else:
        weights = plan.class_weights
    if weights is not None and len(weights) != len(plan.classes):
        raise RecipeError(
            f"train.class_weights has {len(weights)} numbers",
            f"one for each of the {len(plan.classes)} classes",
            "correct it, or write median_frequency",
        )
    if weights is not None and not {*_CELLWISE, "focal"} & set(plan.loss):
        raise RecipeError(
            f"train.class_weights is set, but the loss is {', '.join(plan.loss)}",
            "class weights beside cross_entropy, dice_ce or focal",
            "remove train.class_weights, or add cross_entropy to train.loss",
        )
    if plan.border is not None and not set(_CELLWISE) & set(plan.loss):
        raise RecipeError(
            f"train.border is set, but the loss is {', '.join(plan.loss)}",
            "a border map beside cross_entropy or dice_ce",
            "remove train.border, or add cross_entropy to train.loss",
        )
    terms = {str(name): weight for name, weight in plan.loss.items()}
    return SegmentationLoss(terms, weights, plan.focal_gamma, plan.tversky)


def median_frequency(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return class weights by median-frequency balancing (Eigen and Fergus, ICCV 2015; SegNet, PAMI 2017).

    The frequency of a class is its cells over all labelled cells of the scenes in which it occurs; its weight is the
    median of all frequencies over its own.

    Args:
        counts: (scene, class) labelled cells.

    Returns:
        (class) weights; 1 for a class that occurs nowhere, which no cell will ever ask for.
    """
    scene = counts.sum(axis=1, keepdims=True)
    own, all_of = counts.sum(axis=0), (scene * (counts > 0)).sum(axis=0)
    there = own > 0
    frequency = own[there] / all_of[there]
    weights = np.ones(counts.shape[1], np.float64)
    if there.any():
        weights[there] = np.median(frequency) / frequency
    return weights


def lovasz(probabilities: Tensor, truth: Tensor) -> Tensor:
    """Return the mean over classes of the Lovász extension of the Jaccard loss at the classes' errors.

    With errors sorted falling, a cell's slope is what it adds to 1 - Jaccard index when it joins the wrong cells before
    it: 1 / union for one of the class, and intersection / (union (union - 1)) for any other (Berman et al., 2018,
    algorithm 1, with the difference taken by hand, so that nothing cancels in float32).

    Args:
        probabilities: (1, class, cell) float32.
        truth: (1, class, cell) float32 of 0 and 1; every class occurs.
    """
    losses: list[Tensor] = []
    for chance, here in zip(probabilities[0], truth[0], strict=True):
        errors, order = torch.sort((here - chance).abs(), descending=True)
        inside = here[order] > 0.5
        hit = inside.cumsum(0)
        total = hit[-1]
        union = total + torch.arange(1, len(hit) + 1, device=hit.device) - hit
        slope = torch.where(inside, 1.0 / union, (total - hit) / (union * (union - 1)).clamp_min(1))
        losses.append(torch.dot(errors, slope.to(errors.dtype)))
    return torch.stack(losses).mean()


def _overlap(name: str, tversky: tuple[float, float]) -> Overlap:
    """Return the part of a term that is made of overlaps."""
    if name == "lovasz":
        return lovasz
    try:
        from monai.losses.dice import DiceLoss, GeneralizedDiceLoss
        from monai.losses.tversky import TverskyLoss
    except ImportError as error:
        raise ModelError(f"the loss {name} needs MONAI", "monai", "pip install 'segflow[train]'") from error
    if name == "generalised_dice":
        # Classes weigh 1 / cells²: MONAI's own smoothing of 1e-5 would outweigh them from 100,000 cells on.
        return partial(_call, GeneralizedDiceLoss(smooth_nr=0.0, smooth_dr=0.0))
    if name == "tversky":
        half = _SMOOTH / 2
        return partial(_call, TverskyLoss(alpha=tversky[0], beta=tversky[1], smooth_nr=half, smooth_dr=half))
    return partial(_call, DiceLoss(smooth_nr=_SMOOTH, smooth_dr=_SMOOTH))


def _call(module: nn.Module, probabilities: Tensor, truth: Tensor) -> Tensor:
    result: Tensor = module(probabilities, truth)
    return result


def _present(probabilities: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return probabilities and one-hot truth (1, class, cell) of the classes that occur."""
    count = probabilities.shape[1]
    there = torch.bincount(truth, minlength=count).nonzero()[:, 0]
    marks = functional.one_hot(truth, count).to(probabilities.dtype)
    if len(there) < count:
        probabilities, marks = probabilities[:, there], marks[:, there]
    return probabilities.T[None], marks.T[None]


def _weighted_mean(values: Tensor, weights: Tensor | None) -> Tensor:
    return values.mean() if weights is None else (values * weights).sum() / weights.sum()


def segmentation_loss(logits: Tensor, labels: Tensor, dice: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return cross-entropy plus `dice` times the Dice loss. See `SegmentationLoss`."""
    terms = {"cross_entropy": 1.0} | ({"dice": dice} if dice else {})
    return SegmentationLoss(terms, None if weights is None else weights.tolist()).forward(logits, labels)
