"""Finding the model that a recipe names: a built-in one, torchvision's, or files, with what the recipe overrides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from math import lcm
from pathlib import Path
from typing import Any

from segflow.errors import ModelError
from segflow.grid import Kind
from segflow.models.bare import bare_card, checked
from segflow.models.card import Card, read_card
from segflow.models.choice import ModelChoice
from segflow.models.describe import describe
from segflow.models.formats import format_of, resolve
from segflow.models.formats.described import Described
from segflow.models.model import Member, Model

BUILTIN = "builtin:"
TORCHVISION = "torchvision:"
_FOLDER = Path(__file__).parent / "builtin"
_SAME = (
    *("kind", "channels", "normalisation", "output_channels", "regions", "threshold", "gsd", "spacing"),
    *("ids", "ignore", "orientation", "bands", "padding", "preparation", "lattice", "averaged"),
)
"""What the cards of an ensemble must agree in."""
_NO_CARD = Card.model_validate(
    {
        "name": "unknown",
        "kind": "raster",
        "classes": ({"id": 0, "name": "unknown", "colour": "#000000"},),
        "channels": ("unknown",),
        "patch": (1, 1),
    }
)


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
