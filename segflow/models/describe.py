"""What a file of weights says about itself before it is run: for `segflow init`, and for models without a card."""

from __future__ import annotations

from pathlib import Path

from segflow.errors import ModelError
from segflow.models.card import Card, Region, read_card
from segflow.models.formats import card_beside, format_of, resolve
from segflow.models.formats.described import Described


def describe(path: Path, trust: bool = False) -> Described:
    """Read what a file or folder of weights says about itself. Runs no network, and no code of the file's.

    Args:
        path: a file of weights, or a folder that holds one (or an nnU-Net results folder).
        trust: let a format that cannot be read without running its code (.pt2, a pickled module) do so; otherwise
            little is known of such a file, and `needs_trust` is set.

    Raises:
        ModelError: there is no such file, it is of no known format, broken, or no segmentation network.
    """
    place = resolve(path)
    found = format_of(place).reader().describe(place, trust)
    beside = card_beside(place)
    if beside is not None:
        return _with_card(found, read_card(beside), f"the card {beside.name}")
    if found.card is not None and found.format == "onnx":
        return _with_card(found, found.card, "the card inside the file")
    return found


def _with_card(found: Described, card: Card, source: str) -> Described:
    """Fill in what the card says; the file's own word on shapes, and on where its graph ends, stays.

    Raises:
        ModelError: card and file contradict each other.
    """
    if found.activation == "none":
        card = _ended(card)
    told: tuple[tuple[str, object, object], ...] = (
        ("kind", card.kind, found.kind),
        ("channels", len(card.channels), found.channels),
        ("outputs", card.output_channels, found.outputs),
    )
    for what, says, has in told:
        if has is not None and says != has:
            raise ModelError(
                f"{found.path} has {what} {has}, and {source} says {says}",
                "a card that fits the file",
                "correct the card",
            )
    return Described(
        format=found.format,
        path=found.path,
        kind=card.kind,
        channels=len(card.channels),
        outputs=card.output_channels,
        patch=found.patch,
        batch=found.batch,
        stride=card.stride,
        activation=card.activation,
        normalisation=card.normalisation,
        gsd=card.gsd,
        class_names=tuple(item.name for item in card.classes),
        wished_patch=card.patch,
        overlap=card.overlap,
        threshold=card.threshold,
        architecture=card.architecture or None,
        arguments=card.arguments,
        graph=found.graph,
        needs_trust=found.needs_trust,
        card=card,
        notes=(*found.notes, f"the rest is from {source}"),
    )


def _ended(card: Card) -> Card:
    """Return the card of a network for its export with the activation inside, which must not be applied twice."""
    if card.activation == "none":
        return card
    regions = card.regions
    if card.activation == "sigmoid" and regions is None:
        regions = (Region(channel=0, id=card.classes[1].id),)
    return card.model_copy(update={"activation": "none", "regions": regions})
