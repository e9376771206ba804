"""The card of a model that has none beside it: made of what its file says and what the recipe says."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from segflow.errors import ModelError
from segflow.grid import Kind
from segflow.models.card import Card
from segflow.models.choice import ModelChoice
from segflow.models.formats.described import Described
from segflow.models.registry import build

_LOG = logging.getLogger(__name__)
_PATCH = {2: 512, 3: 96}


def bare_card(found: Described, choice: ModelChoice, kind: Kind | None) -> Card:
    """Make a card.

    Args:
        found: what the file says.
        choice: what the recipe says; it must name the classes.
        kind: the recipe's.

    Raises:
        ModelError: something is not said, or contradicts the file.
    """
    _require(found, choice)
    if kind is not None and found.kind not in (None, kind):
        raise ModelError(
            f"{found.path.name} segments a {found.kind}, as its shapes say",
            f"a model for a {kind}, as the recipe's kind says",
            "correct kind, or take another model",
        )
    arguments = dict(choice.arguments)
    if kind is None:
        kind = found.kind or ("volume" if arguments.get("dimensions") == 3 else "raster")
    axes = 2 if kind == "raster" else 3
    channels = _channels(found, choice, kind)
    classes = choice.classes or ()
    outputs = found.outputs or int(arguments.get("out_channels", len(classes)))
    if not found.graph:
        arguments = {"in_channels": len(channels), "out_channels": outputs, "dimensions": axes, **arguments}
    stride = choice.stride or found.stride or (1 if found.graph else _stride(str(choice.architecture), arguments))
    patch = found.patch or found.wished_patch or (_PATCH[axes],) * axes
    if found.patch is None:
        patch = tuple(max(round(n / stride), 1) * stride for n in patch)
    elif any(n % stride for n in patch):
        stride = 1
    if choice.normalisation is None and found.normalisation is None:
        _LOG.warning(
            "%s does not say how its input is normalised, and the recipe has no model.normalisation: "
            "each scene's own mean and deviation are taken",
            found.path.name,
        )
    values: dict[str, Any] = {
        "name": found.path.stem,
        "kind": kind,
        "architecture": choice.architecture or found.architecture or "",
        "arguments": arguments,
        "classes": classes,
        "stride": stride,
        "channels": channels,
        "normalisation": choice.normalisation or found.normalisation or {"source": "scene"},
        "patch": patch,
        **_head(found, choice, outputs),
    }
    values |= {key: value for key in ("overlap", "threshold", "gsd") if (value := getattr(found, key)) is not None}
    return checked(values, f"no card can be made for {found.path}")


def checked(values: dict[str, Any], what: str) -> Card:
    """Return a card of these values.

    Raises:
        ModelError: they make none.
    """
    try:
        return Card.model_validate(values)
    except ValueError as error:
        raise ModelError(f"{what}: {error}", "values that a card takes", "correct the recipe's model") from error


def _require(found: Described, choice: ModelChoice) -> None:
    path = found.path
    card = f"there is no model card {path.with_suffix('.yaml').name} beside {path}"
    if not found.graph and choice.architecture is None:
        raise ModelError(
            f"{card}, and it holds weights only",
            "a card, or model.architecture, model.arguments and model.classes in the recipe",
            "write the card (`segflow models` shows one), or name the architecture and its classes",
        )
    if not choice.classes:
        count = f"its {found.outputs} output channel(s)" if found.outputs else "its output channels"
        named = f" (the file calls them {', '.join(found.class_names)})" if found.class_names else ""
        raise ModelError(
            f"{card}, and nothing says what {count} mean{named}",
            "a card, or model.classes in the recipe: id, name and colour of each",
            "write the card, or add model.classes; `segflow init` makes a recipe to fill in",
        )
    if found.outputs is not None and choice.regions is None:
        wanted = 2 if found.outputs == 1 else found.outputs
        if len(choice.classes) != wanted:
            raise ModelError(
                f"the recipe names {len(choice.classes)} classes, and {path} puts out {found.outputs} channel(s)",
                f"{wanted} classes, in the order of the channels"
                + (" (background and foreground of one channel)" if found.outputs == 1 else ""),
                "correct model.classes",
            )


def _channels(found: Described, choice: ModelChoice, kind: Kind) -> tuple[str, ...]:
    said = choice.channels
    count = found.channels or choice.arguments.get("in_channels")
    if said is not None:
        if found.channels is not None and len(said) != found.channels:
            raise ModelError(
                f"model.channels names {len(said)} channels, and {found.path} takes {found.channels}",
                f"{found.channels} names, in the order of the input",
                "correct model.channels",
            )
        return said
    number = int(count) if count is not None else 3 if kind == "raster" else 1
    if number == 3 and kind == "raster":
        return ("red", "green", "blue")
    return tuple(f"channel {i + 1}" for i in range(number))


def _head(found: Described, choice: ModelChoice, outputs: int) -> dict[str, Any]:
    """Return activation and regions; one channel that is a probability already is a region of its own."""
    activation = choice.activation or found.activation or ("sigmoid" if outputs == 1 else "softmax")
    head: dict[str, Any] = {"activation": activation}
    if choice.output is not None:
        head["output"] = choice.output
    if choice.regions is not None:
        head["regions"] = choice.regions
    elif activation == "none" and outputs == 1 and choice.classes and len(choice.classes) == 2:
        head["regions"] = ({"channel": 0, "id": choice.classes[1].id},)
    return head


def _stride(architecture: str, arguments: Mapping[str, Any]) -> int:
    import torch

    with torch.device("meta"):
        return int(getattr(build(architecture, arguments), "stride", 1))
