"""A model: a card and its weights, or several of them. Importing this module does not import torch; a network does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segflow.errors import ModelError
from segflow.grid import Kind
from segflow.models.bare import bare_card, checked
from segflow.models.card import Card, read_card
from segflow.models.choice import ModelChoice
from segflow.models.describe import describe
from segflow.models.formats import format_of, missing, resolve
from segflow.models.formats.described import Described
from segflow.models.formats.states import full_arguments as full_arguments

if TYPE_CHECKING:
    from torch import nn

BUILTIN = "builtin:"
TORCHVISION = "torchvision:"
_FOLDER = Path(__file__).parent / "builtin"
_SAME = (
    *("kind", "channels", "normalisation", "output_channels", "regions", "threshold", "gsd", "spacing"),
    *("ids", "ignore", "orientation", "bands", "padding", "preparation", "lattice", "averaged"),
)
"""What the cards of an ensemble must agree in."""


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


def builtins() -> list[Card]:
    """Return the cards of the built-in models, by name."""
    return [read_card(path) for path in sorted(_FOLDER.glob("*.yaml"))]


def builtin(name: str) -> Model:
    """Return a built-in model.

    Raises:
        ModelError: there is none of that name; the nearest is named.
    """
    names = [path.stem for path in sorted(_FOLDER.glob("*.yaml"))]
    if name not in names:
        near = get_close_matches(name, names, n=1, cutoff=0.4)
        raise ModelError(
            f"there is no built-in model {name!r}",
            "one of " + ", ".join(names),
            f"did you mean builtin:{near[0]}?" if near else "`segflow models` lists them",
        )
    return Model(read_card(_FOLDER / f"{name}.yaml"), _FOLDER / f"{name}.safetensors")


def load_model(choice: ModelChoice, base: Path | Callable[[str], Path] = Path(), kind: Kind | None = None) -> Model:
    """Find the model that a recipe names, and apply what the recipe overrides.

    Reads cards, and of files that hold their graph what they say of themselves; builds no network.

    Args:
        choice: the recipe's `model`.
        base: the folder that a relative path starts from, or a function that makes a path absolute
            (`Recipe.resolve`).
        kind: raster or volume; None takes either.

    Raises:
        ModelError: unknown name, missing or broken file, one that would run code and is not trusted, weights without
            architecture or classes, a model of the other kind, overrides that do not fit the card, members of an
            ensemble that do not go together.
    """
    names = (choice.weights,) if isinstance(choice.weights, str) else choice.weights
    if not names:
        raise ModelError("model.weights is an empty list", "builtin:NAME or a path", "name the weights")
    found = [_member(name, choice, base, kind) for name in names]
    members = [member for member, _ in found]
    card = _common(members, next((size for _, size in found if size is not None), None))
    if choice.tta == "d4" and card.kind != "raster":
        raise ModelError("model.tta is d4 for a volume", "d4 for rasters only", "set model.tta: mirror")
    if choice.tta is not None and card.architecture == "nnunet":
        raise ModelError(
            f"model.tta is {choice.tta} for an nnU-Net folder, which says itself over which axes it is mirrored",
            "one way of mirroring",
            "remove model.tta; model.arguments.mirror: [0, 1, 2] names axes, [] turns mirroring off",
        )
    return Model(card, members[0].weights, tuple(members[1:]), choice.tta, choice.trust)


def _member(
    name: str, choice: ModelChoice, base: Path | Callable[[str], Path], kind: Kind | None
) -> tuple[Member, tuple[int, ...] | None]:
    """Find one network, with the recipe's overrides in its card, and the one patch that its file takes."""
    own, fixed = True, None
    if name.startswith(BUILTIN):
        found = builtin(name.removeprefix(BUILTIN))
        member = Member(found.card, found.weights)
    elif name.startswith(TORCHVISION):
        from segflow.models.zoo import torchvision_card, torchvision_file

        member = Member(torchvision_card(name), torchvision_file(name))
    else:
        place = resolve(base(name) if callable(base) else base / Path(name).expanduser())
        said = describe(place, choice.trust)
        own, fixed = said.card is not None, said.patch
        member = _from_file(place, said, choice, kind)
    if kind is not None and member.card.kind != kind:
        raise ModelError(
            f"{member.card.name} segments a {member.card.kind}",
            f"a model for a {kind}, as the recipe's kind says",
            "`segflow models` lists the built-in ones with their kind",
        )
    if own and choice.architecture is not None and not isinstance(choice.weights, str):
        choice = choice.model_copy(update={"architecture": None, "arguments": {}})  # meant for members without a card
    return Member(_overridden(member.card, choice), member.weights), fixed


def _from_file(place: Path, found: Described, choice: ModelChoice, kind: Kind | None) -> Member:
    if found.needs_trust and not choice.trust:
        format_of(place).reader().network(place, found.card or _NO_CARD, False)  # says what it would run, and refuses
    if found.card is None:
        return Member(bare_card(found, choice, kind), place)
    card = found.card
    if found.patch is not None and card.patch != found.patch:
        stride = 1 if any(n % card.stride for n in found.patch) else card.stride
        values = {**dict(card), "patch": found.patch, "stride": stride}
        card = checked(values, f"the card of {card.name} does not fit {place}")
    return Member(card, place)


_NO_CARD = Card.model_validate(
    {
        "name": "unknown",
        "kind": "raster",
        "classes": ({"id": 0, "name": "unknown", "colour": "#000000"},),
        "channels": ("unknown",),
        "patch": (1, 1),
    }
)


def _overridden(card: Card, choice: ModelChoice) -> Card:
    if choice.threshold is not None and card.regions is None and (choice.activation or card.activation) != "sigmoid":
        raise ModelError(
            f"model.threshold is {choice.threshold:g}, but {card.name} takes the largest of its channels",
            "a threshold only for a model with one sigmoid channel or with regions",
            "remove model.threshold",
        )
    names = ("classes", "channels", "normalisation", "threshold", "gsd", "spacing", "architecture")
    changes: dict[str, Any] = {
        name: value
        for name in (*names, "activation", "output", "regions", "stride")
        if (value := getattr(choice, name)) is not None
    }
    if choice.arguments:
        changes["arguments"] = {**card.arguments, **choice.arguments}
    return checked({**dict(card), **changes}, f"the recipe's model does not fit the card of {card.name}")


def _common(members: Sequence[Member], fixed: tuple[int, ...] | None) -> Card:
    """Return the card of an ensemble.

    Args:
        members: its networks.
        fixed: the one patch that a member takes; None: any.

    Raises:
        ModelError: members differ in what they eat or in what their channels mean.
    """
    first = members[0].card
    if len(members) == 1:
        return first
    for other in (member.card for member in members[1:]):
        for what in _SAME:
            one, two = getattr(first, what), getattr(other, what)
            if one != two:
                what = "classes" if what == "ids" else what
                raise ModelError(
                    f"{first.name} and {other.name} differ in {what}: {_said(one)} and {_said(two)}",
                    f"an ensemble of models with the same {what}, since their probabilities are averaged",
                    f"leave one out, or say in the recipe what holds for both (model.{what})",
                )
    stride = lcm(*(member.card.stride for member in members))
    patch = fixed or tuple(-(-n // stride) * stride for n in first.patch)
    name = " + ".join(dict.fromkeys(member.card.name for member in members))
    return first.model_copy(update={"stride": stride, "patch": patch, "name": name})


def _said(value: object) -> str:
    text = str(value)
    return text if len(text) < 120 else text[:117] + "..."


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
