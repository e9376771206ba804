"""What the channels of a network mean: the rule that turns blended sums into labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray

from segflow.models.card import LOGIT_RANGE, Card
from tiling import Decision, argmax, over, write_regions
from tiling.decide import Sums


@dataclass(frozen=True, slots=True)
class Head:
    """The rule of one network.

    Attributes:
        channels: channels of the network's output.
        ids: class ids, in the order of the card.
        threshold: probability from which a one-channel head or a region counts; None for the largest channel.
        regions: (channel, id) in the order of writing, for overlapping regions.
        logits: the sums are those of logits, on the scale of `segflow.models.card.LOGIT_RANGE`.
    """

    channels: int
    ids: tuple[int, ...]
    threshold: float | None = None
    regions: tuple[tuple[int, int], ...] = ()
    logits: bool = False

    def decide(self, sums: Sums, scale: int) -> Decision:
        """Return labels and confidence for sums (channel, *cells) in which `scale` stands for 1.

        The confidence is on that scale too; of logits it still is one, see `confidence`.
        """
        if self.threshold is None:
            return argmax(sums, self.ids)
        threshold = self._threshold
        if self.regions:
            return write_regions(sums, self.regions, self.ids[0], threshold, scale)
        return over(sums, self.ids, threshold, scale)

    def confidence(self, sums: Sums, decision: Decision, scale: int) -> NDArray[np.float32]:
        """Return the winning probability (*cells), in which `scale` stands for 1."""
        if not self.logits:
            return decision.confidence
        if self.threshold is not None:
            return self._alone(decision.confidence, scale)
        share: NDArray[np.float32] = np.float32(scale) / self._total(sums, decision.confidence, scale)
        return share

    def probabilities(self, sums: Sums, scale: int) -> Iterator[NDArray[np.float32]]:
        """Yield the probability (*cells) of each class, in the order of `ids`, in which `scale` stands for 1.

        They sum to `scale`, but for regions, which overlap: a class has that of its region (the largest of several,
        0 of none), and the background what the largest region leaves.
        """
        if self.threshold is not None:
            yield from self._independent(sums, scale)
        elif self.logits:
            largest = sums.max(axis=0).astype(np.float32)
            share = np.float32(scale) / self._total(sums, largest, scale)
            for channel in sums:
                yield np.exp((channel - largest) * np.float32(LOGIT_RANGE / scale)) * share
        else:
            for channel in sums:
                yield channel.astype(np.float32)

    def _independent(self, sums: Sums, scale: int) -> Iterator[NDArray[np.float32]]:
        """Yield what `probabilities` does, where channels do not sum to 1."""
        for number, label in enumerate(self.ids):
            largest = np.zeros(sums.shape[1:], np.float32)
            for channel, written in self._written:
                if number == 0 or written == label:
                    np.maximum(largest, self._alone(sums[channel].astype(np.float32), scale), out=largest)
            yield np.float32(scale) - largest if number == 0 else largest

    @property
    def _written(self) -> tuple[tuple[int, int], ...]:
        """Channel and id of each region; of a one-channel head, the foreground."""
        return self.regions or ((0, self.ids[1]),)

    def _alone(self, values: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
        """Return the probabilities of sums that are independent of other channels'."""
        if not self.logits:
            return values
        logit = (values / np.float32(scale) - np.float32(0.5)) * np.float32(2 * LOGIT_RANGE)
        sigmoid: NDArray[np.float32] = np.float32(scale) / (np.float32(1) + np.exp(-logit))
        return sigmoid

    @staticmethod
    def _total(sums: Sums, largest: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
        """Return what softmax divides by: the sum of exponents, the largest channel's being 1."""
        total = np.zeros(largest.shape, np.float32)
        for channel in sums:
            total += np.exp((channel - largest) * np.float32(LOGIT_RANGE / scale))
        return total

    @property
    def largest(self) -> bool:
        """Whether a label is the channel with the largest sum, and its confidence that sum."""
        return self.threshold is None and not self.logits

    @property
    def _threshold(self) -> float:
        """The threshold on the scale of the sums."""
        if self.threshold is None or not self.logits:
            return self.threshold or 0.0
        return 0.5 + log(self.threshold / (1 - self.threshold)) / (2 * LOGIT_RANGE)


def head_of(card: Card) -> Head:
    """Return the rule that a card states."""
    logits = card.averaged == "logits"
    if card.regions is not None:
        regions = tuple((region.channel, region.id) for region in card.regions)
        return Head(card.output_channels, card.ids, card.threshold, regions, logits)
    if logits:
        return Head(card.output_channels, card.ids, logits=True)
    return Head(card.output_channels, card.ids, card.threshold if card.activation == "sigmoid" else None)
