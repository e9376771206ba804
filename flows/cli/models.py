"""`segflow models`: what is built in, which networks there are, and a model's card."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any

from segflow.errors import RecipeError
from segflow.models.architectures import architectures, torchvision_architectures
from segflow.models.card import Card, read_card
from segflow.models.load import BUILTIN, builtin, builtins, load_model
from segflow.recipe import ModelChoice

_TORCHVISION = "torchvision:"
_METRICS = {"mean_dice": "mean Dice", "mean_iou": "mean IoU", "pixel_accuracy": "accuracy", "miou": "mean IoU"}
_BY_CLASS = {"mean_dice": "dice", "mean_iou": "iou", "miou": "iou"}
_WIDTH = 100


def main(options: argparse.Namespace) -> int:
    """List built-in models or architectures, or show a card.

    Raises:
        RecipeError: `show` without a name.
        ModelError: there is no such model.
    """
    if options.action == "show":
        return _show(options)
    rows = _architectures() if options.architectures else _builtins()
    if options.json:
        _say(json.dumps(rows, indent=2))
        return 0
    for line in _architecture_lines(rows) if options.architectures else _builtin_lines(rows):
        _say(line)
    return 0


def _show(options: argparse.Namespace) -> int:
    if options.name is None:
        raise RecipeError("`segflow models show` without a name", "a model", "`segflow models` lists the built-in ones")
    card = _card(options.name)
    if options.json:
        _say(json.dumps(card.model_dump(mode="json"), indent=2))
        return 0
    for line in _card_lines(card):
        _say(line)
    return 0


def _card(name: str) -> Card:
    """Find a card by a built-in's name, with or without prefix, by torchvision:NAME or by a path."""
    if name.startswith(_TORCHVISION):
        from segflow.models.zoo import torchvision_card

        return torchvision_card(name)
    path = Path(name).expanduser()
    if name.startswith(BUILTIN) or not (path.exists() or "/" in name or path.suffix):
        return builtin(name.removeprefix(BUILTIN)).card
    if path.suffix in (".yaml", ".yml"):
        return read_card(path)
    return load_model(ModelChoice(weights=name), Path.cwd()).card


def _builtins() -> list[dict[str, Any]]:
    return [
        {
            "name": card.name,
            "kind": card.kind,
            "description": card.description,
            "classes": [item.model_dump(mode="json") for item in card.classes],
            "channels": list(card.channels),
            "parameters": card.training.get("parameters"),
            "bytes": builtin(card.name).weights.stat().st_size,
            "scores": card.scores,
            "licence": card.licence,
        }
        for card in builtins()
    ]


def _builtin_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return a line a model: name, kind, size, first score and where, what it is for."""
    cells = [
        [
            BUILTIN + row["name"],
            row["kind"],
            f"{row['bytes'] / 1e6:.1f} MB",
            _headline(row),
            row["description"] or ", ".join(item["name"] for item in row["classes"]),
        ]
        for row in rows
    ]
    return [*_table(["MODEL", "KIND", "SIZE", "SCORE", "FOR"], cells), "", "segflow models show NAME prints the card."]


def _headline(row: Mapping[str, Any]) -> str:
    """Return the first score and where it was measured. What `segflow train` writes has it under `overall`.

    Where scores of single classes are there, class 0 is left out of the mean: a small structure's background is right
    nearly everywhere.
    """
    for place, found in row["scores"].items():
        if not isinstance(found, Mapping):
            continue
        where = f"{found['on']} held back" if isinstance(found.get("on"), str) else place.replace("_", " ")
        overall = found.get("overall", found)
        # Of volumes Dice is customary, of rasters IoU.
        for key, title in sorted(
            _METRICS.items(), key=lambda item: (item[0] == "mean_dice") is (row["kind"] == "raster")
        ):
            without, value = _of_structures(found.get(_BY_CLASS.get(key, "")), row["classes"])
            if value is None and isinstance(overall.get(key), int | float):
                without, value = "", overall[key]
            if value is not None:
                return f"{title} {value:.3f}{without} on {where}"
    return "-"


def _of_structures(by_class: Any, classes: list[dict[str, Any]]) -> tuple[str, float | None]:
    """Return the mean of the classes' scores but class 0's, and its name; None where they do not tell."""
    rest = next((item["name"] for item in classes if item["id"] == 0), None)
    if not isinstance(by_class, Mapping) or rest not in by_class:
        return "", None
    values = [value for name, value in by_class.items() if name != rest and isinstance(value, int | float)]
    return f" without {rest}", sum(values) / len(values) if values else None


def _architectures() -> list[dict[str, Any]]:
    """Return all networks whose size is known beforehand: ours, then torchvision's."""
    return [
        {
            "name": row.name,
            "parameters": row.parameters,
            "parameters_3d": row.parameters_3d,
            "channels": list(row.paper_arguments),
            "upsamplings": list(row.upsamplings),
            "paper": row.paper,
        }
        for row in (*architectures(), *torchvision_architectures())
    ]


def _architecture_lines(rows: list[dict[str, Any]]) -> list[str]:
    cells = [
        [
            row["name"],
            f"{row['parameters']:,}",
            "-" if row["parameters_3d"] is None else f"{row['parameters_3d']:,}",
            row["paper"],
        ]
        for row in rows
    ]
    return [
        *_table(["ARCHITECTURE", "PARAMETERS", "IN 3-D", "PAPER"], cells, right=(1, 2)),
        "",
        "smp:NAME is any network of segmentation-models-pytorch (smp:Unet, smp:DeepLabV3Plus, ...) with",
        "arguments such as encoder_name; it and torchvision:NAME need pip install 'segflow[zoo]'.",
    ]


def _table(head: list[str], rows: list[list[str]], right: tuple[int, ...] = ()) -> list[str]:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [head, *rows]
    ]


def _card_lines(card: Card) -> Iterator[str]:
    """Return the card as a page of text."""
    yield f"{card.name} ({card.kind})"
    yield from wrap(card.description, _WIDTH)
    yield ""
    for key, text in _facts(card).items():
        yield from wrap(text, _WIDTH, initial_indent=f"{key:<14}", subsequent_indent=" " * 14)
    yield ""
    yield "classes"
    width = max(len(str(item.id)) for item in card.classes)
    for item in card.classes:
        codes = "  ".join(f"{scheme} {code}" for scheme, code in item.codes.items())
        yield f"  {item.id:>{width}}  {item.colour}  {item.name}  {codes}".rstrip()
    for title, content in (("scores", card.scores), ("training", card.training)):
        if content:
            yield ""
            yield title
            yield from _nested(content, 2)


def _facts(card: Card) -> dict[str, str]:
    arguments = ", ".join(f"{key} {value}" for key, value in card.arguments.items())
    axes = "y, x" if card.kind == "raster" else "x, y, z"
    facts = {
        "network": f"{card.architecture} ({arguments})" if arguments else card.architecture,
        "input": ", ".join(card.channels) + (f" (bands {_numbers(card.bands)})" if card.bands else ""),
        "normalised": _normalisation(card),
        "patch": f"{' x '.join(str(n) for n in card.patch)} ({axes}), overlap {card.overlap:.0%}, stride {card.stride}",
        "output": card.activation + (f", threshold {card.threshold:g}" if card.activation == "sigmoid" else ""),
    }
    if card.gsd is not None:
        facts["cell size"] = f"{card.gsd:g} m"
    if card.kind == "volume":
        size = f"{' x '.join(f'{n:g}' for n in card.spacing)} mm, " if card.spacing else ""
        facts["voxels"] = f"{size}axes {card.orientation}"
    if card.ignore:
        facts["not scored"] = f"ids {_numbers(card.ignore)}"
    return facts | {"licence": card.licence or "not stated"}


def _normalisation(card: Card) -> str:
    plan = card.normalisation
    if plan.source == "scene":
        return "by the scene's own mean and deviation" + (" over non-zero cells" if plan.over == "nonzero" else "")
    return f"(value - mean) / deviation; mean {_numbers(plan.mean)}; deviation {_numbers(plan.deviation)}"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _nested(content: Mapping[str, Any], indent: int) -> Iterator[str]:
    flat = {key: value for key, value in content.items() if not isinstance(value, Mapping)}
    width = max((len(str(key)) for key in flat), default=0)
    for key, value in content.items():
        if isinstance(value, Mapping):
            if value:
                yield f"{' ' * indent}{key}"
                yield from _nested(value, indent + 2)
            continue
        text = ", ".join(str(item) for item in value) if isinstance(value, list | tuple) else str(value)
        start = f"{' ' * indent}{key!s:<{width}}  "
        yield from wrap(text, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start)) or [start.rstrip()]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
