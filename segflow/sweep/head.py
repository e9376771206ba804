"""What the channels of a network mean: the rule that turns blended sums into labels."""

from __future__ import annotations

from dataclasses import dataclass

from segflow.models.card import Card
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
    """

    channels: int
    ids: tuple[int, ...]
    threshold: float | None = None
    regions: tuple[tuple[int, int], ...] = ()

    def decide(self, sums: Sums, scale: int) -> Decision:
        """Return labels and confidence for sums (channel, *cells) in which `scale` stands for 1."""
        if self.threshold is None:
            return argmax(sums, self.ids)
        if self.regions:
            return write_regions(sums, self.regions, self.ids[0], self.threshold, scale)
        return over(sums, self.ids, self.threshold, scale)


def head_of(card: Card) -> Head:
    """Return the rule that a card states."""
    if card.regions is not None:
        regions = tuple((region.channel, region.id) for region in card.regions)
        return Head(card.output_channels, card.ids, card.threshold, regions)
    return Head(card.output_channels, card.ids, card.threshold if card.activation == "sigmoid" else None)
