"""The loss: cross-entropy, plus the soft Dice of the batch where it is asked for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from segflow.training.sampling import IGNORED


def segmentation_loss(logits: Tensor, labels: Tensor, dice: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy over labelled cells plus `dice` times (1 - mean soft Dice of the classes there).

    The soft Dice is that of Milletari et al. (V-Net, 3DV 2016) with plain sums in the denominator, over the whole
    batch; a class that the batch's labels lack is left out of its mean.

    Args:
        logits: (batch, class, *axes) float32.
        labels: (batch, *axes) int64, or `IGNORED`. A batch without labels has loss 0.
        dice: weight of the Dice term.
        weights: (class) float32, weight of each class in the cross-entropy.
    """
    known = labels != IGNORED
    if not bool(known.any()):
        return logits.sum() * 0.0
    entropy = functional.cross_entropy(logits, labels, weight=weights, ignore_index=IGNORED)
    if dice == 0.0:
        return entropy
    flat = torch.softmax(logits, dim=1).movedim(1, -1)[known]
    truth = functional.one_hot(labels[known], logits.shape[1]).to(flat.dtype)
    support = truth.sum(0)
    overlap = (2 * (flat * truth).sum(0) + 1.0) / (flat.sum(0) + support + 1.0)
    return entropy + dice * (1.0 - overlap[support > 0].mean())
