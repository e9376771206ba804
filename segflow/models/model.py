"""A model: a card, and the weights beside it. Importing this module does not import torch; making a network does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segflow.errors import ModelError
from segflow.grid import Kind
from segflow.models.card import Card, read_card
from segflow.models.registry import build
from segflow.recipe import ModelChoice

if TYPE_CHECKING:
    from torch import Tensor, nn

BUILTIN = "builtin:"
_FOLDER = Path(__file__).parent / "builtin"
_PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".bin", ".pickle")
_TO_SAFETENSORS = (
    "convert it once, where you trust it: "
    "safetensors.torch.save_file(torch.load(PATH, weights_only=True), 'NAME.safetensors')"
)


@dataclass(frozen=True, slots=True)
class Model:
    """A network that can be run.

    Attributes:
        card: what it eats and what its channels mean.
        weights: a safetensors file, float32 or narrower.
    """

    card: Card
    weights: Path

    @property
    def sha256(self) -> str:
        """Hash of the weights file, in hexadecimal.

        Raises:
            ModelError: the file cannot be read.
        """
        try:
            with self.weights.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _missing(self.weights) from error

    def network(self) -> nn.Module:
        """Return the network with its weights, float32, in evaluation mode, on the CPU. It puts out raw values.

        See `segflow.models.probabilities.Probabilities` for what makes probabilities of them.

        Raises:
            ModelError: the weights are not safetensors, are not those of the card's architecture, or the card's stride
                does not fit the network.
        """
        arguments = full_arguments(self.card)
        network = build(self.card.architecture, arguments)
        state = read_weights(self.weights)
        _require_same_keys(network.state_dict(), state, self.weights, self.card.architecture)
        network.load_state_dict(state, strict=True)
        stride = int(getattr(network, "stride", 1))
        if self.card.stride % stride:
            raise ModelError(
                f"the card of {self.card.name} says stride {self.card.stride}",
                f"a multiple of the network's stride {stride}",
                f"set stride: {stride} in the card",
            )
        return network.float().eval()


def full_arguments(card: Card) -> dict[str, Any]:
    """Return the architecture's arguments, with what the card says elsewhere filled in."""
    return {
        "in_channels": len(card.channels),
        "out_channels": card.output_channels,
        "dimensions": 2 if card.kind == "raster" else 3,
        **card.arguments,
    }


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; floating-point tensors are cast to float32.

    Raises:
        ModelError: there is no such file, it is a pickle (which could run code), or it is not safetensors.
    """
    refuse_pickle(path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError) as error:
        raise ModelError(
            f"{path} is not a safetensors file ({error})",
            "weights as safetensors",
            "check that it was downloaded whole; Git LFS leaves a small text file in its place",
        ) from error
    return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


def refuse_pickle(path: Path) -> None:
    """Raise ModelError unless the file is there and is no pickle, by its name or by its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(2)
    except OSError as error:
        raise _missing(path) from error
    if path.suffix.lower() in _PICKLES or head == b"PK" or (head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05"):
        raise ModelError(f"{path} is a pickle, which can run any code when read", "safetensors", _TO_SAFETENSORS)


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
    """Find the model that a recipe names, and apply what the recipe overrides. Reads the card, not the weights.

    Args:
        choice: the recipe's `model`.
        base: the folder that a relative path starts from, or a function that makes a path absolute
            (`Recipe.resolve`).
        kind: raster or volume; None takes either.

    Raises:
        ModelError: unknown name, missing file, a pickle, a bare state dict without architecture and classes, a model
            of the other kind, or overrides that do not fit the card.
    """
    weights = choice.weights if isinstance(choice.weights, str) else choice.weights[0]
    if weights.startswith(BUILTIN):
        model = builtin(weights.removeprefix(BUILTIN))
    else:
        path = base(weights) if callable(base) else base / Path(weights).expanduser()
        refuse_pickle(path)
        beside = path.with_suffix(".yaml")
        model = Model(read_card(beside) if beside.is_file() else _bare_card(choice, path, kind), path)
    if kind is not None and model.card.kind != kind:
        raise ModelError(
            f"{model.card.name} segments a {model.card.kind}",
            f"a model for a {kind}, as the recipe's kind says",
            "`segflow models` lists the built-in ones with their kind",
        )
    return Model(_overridden(model.card, choice), model.weights)


def _overridden(card: Card, choice: ModelChoice) -> Card:
    if choice.threshold is not None and card.regions is None and card.activation != "sigmoid":
        raise ModelError(
            f"model.threshold is {choice.threshold:g}, but {card.name} takes the largest of its channels",
            "a threshold only for a model with one sigmoid channel or with regions",
            "remove model.threshold",
        )
    names = ("classes", "normalisation", "threshold", "gsd", "spacing", "architecture")
    changes: dict[str, Any] = {name: value for name in names if (value := getattr(choice, name)) is not None}
    if choice.arguments:
        changes["arguments"] = {**card.arguments, **choice.arguments}
    return _checked({**dict(card), **changes}, f"the recipe's model does not fit the card of {card.name}")


def _bare_card(choice: ModelChoice, path: Path, kind: Kind | None) -> Card:
    """Make a card for a state dict that has none beside it."""
    if choice.architecture is None or not choice.classes:
        raise ModelError(
            f"there is no model card {path.with_suffix('.yaml').name} beside {path}",
            "a card, or model.architecture, model.arguments and model.classes in the recipe",
            "write the card (`segflow models` shows one), or name the architecture and its classes",
        )
    kind = kind or ("volume" if choice.arguments.get("dimensions") == 3 else "raster")
    axes = 2 if kind == "raster" else 3
    count = int(choice.arguments.get("in_channels", 3 if kind == "raster" else 1))
    outputs = int(choice.arguments.get("out_channels", len(choice.classes)))
    arguments = {"in_channels": count, "out_channels": outputs, "dimensions": axes, **choice.arguments}
    stride = _stride(choice.architecture, arguments)
    wanted = 512 if axes == 2 else 96
    return _checked(
        {
            "name": path.stem,
            "kind": kind,
            "architecture": choice.architecture,
            "arguments": arguments,
            "classes": choice.classes,
            "activation": "sigmoid" if outputs == 1 else "softmax",
            "stride": stride,
            "channels": tuple(f"channel {i + 1}" for i in range(count)),
            "normalisation": choice.normalisation or {"source": "scene"},
            "patch": (max(wanted // stride, 1) * stride,) * axes,
        },
        f"no card can be made for {path}",
    )


def _stride(architecture: str, arguments: Mapping[str, Any]) -> int:
    import torch

    with torch.device("meta"):
        return int(getattr(build(architecture, arguments), "stride", 1))


def _checked(values: dict[str, Any], what: str) -> Card:
    try:
        return Card.model_validate(values)
    except ValueError as error:
        raise ModelError(f"{what}: {error}", "values that a card takes", "correct the recipe's model") from error


def _require_same_keys(
    wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path, architecture: str
) -> None:
    lacking = sorted(set(wanted) - set(found))
    surplus = sorted(set(found) - set(wanted))
    shapes = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in sorted(set(wanted) & set(found))
        if found[key].shape != wanted[key].shape
    ]
    complaints = [
        f"{title}: {_some(items)}"
        for title, items in (("missing", lacking), ("unknown", surplus), ("of another shape", shapes))
        if items
    ]
    if complaints:
        raise ModelError(
            f"{path} does not hold the weights of {architecture}: " + "; ".join(complaints),
            "every tensor of the card's architecture with its arguments, and no other",
            "correct architecture and arguments in the card, or take the weights that belong to it",
        )


def _some(items: list[str], limit: int = 6) -> str:
    more = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {more} more" if more > 0 else "")


def _missing(path: Path) -> ModelError:
    return ModelError(f"cannot read weights at {path}", "a .safetensors file", "check model.weights in the recipe")
