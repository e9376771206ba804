"""A model: a card and its weights, or several of them. Importing this module does not import torch; a network does."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from segflow.errors import ModelError
from segflow.models.card import Card
from segflow.models.formats import format_of, missing
from segflow.models.formats.states import full_arguments as full_arguments

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Member:
    """A further network of an ensemble.

    Attributes:
        card: its own.
        weights: its file.
    """

    card: Card
    weights: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that hold its weights; of a folder, those in it.

        Raises:
            ModelError: one is missing.
        """
        return _files(self.weights)


@dataclass(frozen=True, slots=True)
class Model:
    """A network that can be run: one, or the mean of several or of several views. Plain data, so that a plan holds it.

    Attributes:
        card: what it eats and what its channels mean; of an ensemble what its members agree in.
        weights: the file, of any format in `segflow.models.formats` (the first member's).
        further: the other members of an ensemble.
        tta: symmetries over which its probabilities are averaged.
        trust: whether files may run code of their own when they are read.
    """

    card: Card
    weights: Path
    further: tuple[Member, ...] = ()
    tta: Literal["flips", "mirror", "d4"] | None = None
    trust: bool = False

    @property
    def members(self) -> tuple[Member, ...]:
        """All networks, the first included."""
        return (Member(self.card, self.weights), *self.further)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that it is read from, cards included where they are there.

        Raises:
            ModelError: one is missing.
        """
        weights = [file for member in self.members for file in member.files]
        return (*weights, *(member.weights.with_suffix(".yaml") for member in self.members))

    @property
    def passes(self) -> int:
        """How often a network is run for a patch."""
        axes = len(self.card.patch)
        each: int = {None: 1, "flips": 1 + axes, "mirror": 2**axes, "d4": 8}[self.tta]
        return each * len(self.members)

    @property
    def sha256(self) -> str:
        """Hash, in hexadecimal, of the weights: of the file, or of all files and the symmetries where there are more.

        The order of members does not matter.

        Raises:
            ModelError: a file cannot be read.
        """
        hashes = sorted(_sha256(member.weights) for member in self.members)
        if len(hashes) == 1 and self.tta is None:
            return hashes[0]
        return hashlib.sha256(" ".join([*hashes, str(self.tta)]).encode()).hexdigest()

    def absolute(self) -> Model:
        """Return the same model, its paths absolute."""
        further = tuple(replace(member, weights=member.weights.absolute()) for member in self.further)
        return replace(self, weights=self.weights.absolute(), further=further)

    def network(self) -> nn.Module:
        """Return the network with its weights, float32, in evaluation mode, on the CPU.

        One network puts out raw values, of which `segflow.models.probabilities.Probabilities` makes probabilities; an
        ensemble, or one with symmetries, puts out probabilities.

        Raises:
            ModelError: the weights are broken, of no known format, not trusted though they would run code, or not
                those of the card's architecture; or the card's stride does not fit the network.
        """
        if not self.further and self.tta is None:
            return self._network(self.members[0])
        from segflow.models.ensemble import Averaged, symmetries
        from segflow.models.probabilities import Probabilities

        # Sorted, so that the order in the recipe does not change a bit of the sum.
        ordered = sorted(self.members, key=lambda member: _sha256(member.weights))
        networks = [self._network(member) for member in ordered]
        sizes = {size for network in networks if (size := getattr(network, "fixed_patch", None)) is not None}
        if len(sizes) > 1:
            raise ModelError(
                f"the networks of the ensemble take patches of {' and '.join(str(list(s)) for s in sorted(sizes))}",
                "one size for all",
                "export them with open sizes",
            )
        whole = [Probabilities(one, member.card) for one, member in zip(networks, ordered, strict=True)]
        views = symmetries(self.tta, len(self.card.patch))
        return Averaged(whole, views, next(iter(sizes), None)).eval()

    def _network(self, member: Member) -> nn.Module:
        found = format_of(member.weights).reader().network(member.weights, member.card, self.trust)
        stride = int(getattr(found, "stride", 1))
        if member.card.stride % stride:
            raise ModelError(
                f"the card of {member.card.name} says stride {member.card.stride}",
                f"a multiple of the network's stride {stride}",
                f"set stride: {stride} in the card",
            )
        return found.float().eval()


def _files(weights: Path) -> tuple[Path, ...]:
    """Return all files that hold the weights."""
    return format_of(weights).reader().files(weights)


def _sha256(weights: Path) -> str:
    hashes = []
    for file in _files(weights):
        try:
            with file.open("rb") as opened:
                hashes.append(hashlib.file_digest(opened, "sha256").hexdigest())
        except OSError as error:
            raise missing(file) from error
    return hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()
