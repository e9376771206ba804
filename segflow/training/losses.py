"""Losses by name and weight. Cells without a label have no part in any of them, to the bit.

Their logits are put to 0 before all else; then their probabilities and their truth are 0, which adds nothing to any
overlap. MONAI's Dice, generalised Dice and Tversky losses are used so. Written here:

- focal loss, since MONAI 1.6's has gradients that are not numbers where gamma is between 0 and 1 and a cell is sure;
- Lovász-softmax, which MONAI does not have.

A class that no cell of a batch is labelled with is left out of Dice, generalised Dice, Tversky and Lovász: its overlap
would be 0 whatever the network answers. The cells where it is wrongly seen still count, as cells that their own class
misses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from segflow.errors import ModelError, RecipeError
from segflow.recipe import Train
from segflow.training.labelled import IGNORED

_SMOOTH = 1.0
_CELLWISE = ("cross_entropy", "dice_ce")

Overlap = Callable[[Tensor, Tensor], Tensor]
"""From probabilities and one-hot truth, both (batch, class, *axes) float32, to a scalar."""


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
            cells = _Cells.of(logits.float(), labels, border)
            if not bool(cells.known.any()):
                return {name: cells.logits.sum() for name in self.weights}
            return {name: self._term(name, cells) for name in self.weights}

    def _term(self, name: str, cells: _Cells) -> Tensor:
        if name == "cross_entropy":
            return self._entropy(cells)
        if name == "focal":
            surprise = functional.cross_entropy(cells.logits, cells.labels, reduction="none", ignore_index=IGNORED)
            # The root of 0 has no slope; a cell with p = 1 is held a hair's breadth off it.
            doubt = (-torch.expm1(-surprise)).clamp_min(1e-12)
            return _weighted_mean(doubt**self.focal_gamma * surprise, self._of_class(cells))
        overlap = self._overlaps[name](*_present(cells))
        return overlap + self._entropy(cells) if name == "dice_ce" else overlap

    def _entropy(self, cells: _Cells) -> Tensor:
        if cells.border is None:
            return functional.cross_entropy(cells.logits, cells.labels, self.class_weights, ignore_index=IGNORED)
        surprise = functional.cross_entropy(cells.logits, cells.labels, reduction="none", ignore_index=IGNORED)
        return _weighted_mean(surprise, self._of_class(cells) + cells.border * cells.known)

    def _of_class(self, cells: _Cells) -> Tensor:
        """Return the weight of each cell's class, (batch, *axes); 0 for ignored cells."""
        if self.class_weights is None:
            return cells.known.float()
        return self.class_weights[cells.labels.clamp_min(0)] * cells.known


@dataclass(frozen=True, slots=True)
class _Cells:
    """A batch whose ignored cells have logits of 0: whatever they were, they have no gradient."""

    logits: Tensor
    labels: Tensor
    known: Tensor
    border: Tensor | None

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor, border: Tensor | None) -> _Cells:
        known = labels != IGNORED
        if not bool(known.all()):
            logits = logits.masked_fill(~known[:, None], 0.0)
        return cls(logits, labels, known, border)


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
        probabilities: (batch, class, *axes) float32; 0 in ignored cells.
        truth: (batch, class, *axes) float32 of 0 and 1; 0 in ignored cells. Every class occurs.
    """
    losses: list[Tensor] = []
    for chance, here in zip(probabilities.unbind(1), truth.unbind(1), strict=True):
        here = here.reshape(-1)
        errors, order = torch.sort((here - chance.reshape(-1)).abs(), descending=True)
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
        return partial(_call, GeneralizedDiceLoss(smooth_nr=0.0, smooth_dr=0.0, batch=True))
    if name == "tversky":
        half = _SMOOTH / 2
        positives, negatives = tversky
        return partial(_call, TverskyLoss(alpha=positives, beta=negatives, smooth_nr=half, smooth_dr=half, batch=True))
    return partial(_call, DiceLoss(smooth_nr=_SMOOTH, smooth_dr=_SMOOTH, batch=True))


def _call(module: nn.Module, probabilities: Tensor, truth: Tensor) -> Tensor:
    result: Tensor = module(probabilities, truth)
    return result


def _present(cells: _Cells) -> tuple[Tensor, Tensor]:
    """Return probabilities and one-hot truth (batch, class, *axes) of the classes that occur; 0 in ignored cells."""
    known = cells.known[:, None]
    probabilities = torch.softmax(cells.logits, dim=1) * known
    labels = cells.labels.clamp_min(0)[:, None]
    truth = torch.zeros_like(probabilities).scatter_(1, labels, known.to(probabilities.dtype))
    there = truth.detach().flatten(2).amax(dim=(0, 2)).nonzero()[:, 0]
    if len(there) < truth.shape[1]:
        probabilities, truth = probabilities[:, there], truth[:, there]
    return probabilities, truth


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum()
