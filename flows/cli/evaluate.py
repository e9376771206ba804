"""`segflow evaluate`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from flows.cli.recipe import settings_of
from pipelines.evaluate import evaluate, is_volume
from segflow.errors import RecipeError
from segflow.models.card import Card
from segflow.recipe import Report, parse_recipe
from segflow.report import summary, to_json, write_scene_report


def main(options: argparse.Namespace) -> int:
    """Compare two label maps."""
    report = evaluate(
        options.prediction,
        options.reference,
        _card(options.model),
        _mapping(options.map),
        tuple(options.ignore),
        _measures(options.prediction, options.measure),
        options.confidence,
    )
    if options.output is not None:
        write_scene_report(Path(options.output), report.scene, report)
    sys.stdout.write((to_json(report) if options.json else summary(report)) + "\n")
    return 0


def _measures(prediction: str, pairs: list[str]) -> Report:
    """Return what `--measure KEY=VALUE` asks for."""
    settings = {f"report.{key}": value for key, value in settings_of(pairs, "--measure").items()}
    data = {"kind": "volume" if is_volume(prediction) else "raster", "inputs": prediction}
    return parse_recipe(data, Path.cwd(), settings, "the command line").report


def _card(weights: str | None) -> Card | None:
    if weights is None:
        return None
    from segflow.models.load import load_model
    from segflow.recipe import ModelChoice

    return load_model(ModelChoice(weights=weights), Path.cwd()).card


def _mapping(pairs: list[str]) -> dict[int, int]:
    mapping = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if not (key.isascii() and key.isdigit() and value.isascii() and value.isdigit()):
            raise RecipeError(f"--map {pair}", "two ids, such as --map 7=2", "correct it")
        mapping[int(key)] = int(value)
    return mapping
