"""From the command line to a recipe."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from segflow.errors import RecipeError
from segflow.recipe import Recipe, parse_recipe, read_recipe


def recipe_of(options: argparse.Namespace) -> Recipe:
    """Return the recipe that a command names, with what its flags lay over it.

    Raises:
        RecipeError: neither a recipe nor model and input are given, or they cannot be meant.
    """
    settings = settings_of(options.settings)
    if getattr(options, "output", None) is not None:
        settings["outputs.folder"] = options.output
    if getattr(options, "trust", False):
        settings["model.trust"] = True
    if options.recipe is not None:
        for flag, key in (("model", "model.weights"), ("input", "inputs.path")):
            if getattr(options, flag, None) is not None:
                settings[key] = getattr(options, flag)
        return read_recipe(Path(options.recipe), settings)
    if options.model is None or options.input is None:
        lacking = " nor ".join(f"--{flag}" for flag in ("model", "input") if getattr(options, flag) is None)
        raise RecipeError(
            f"there is no recipe, nor {lacking}",
            "segflow run RECIPE, or segflow run -m WEIGHTS -i INPUT -o FOLDER",
            "`segflow sample aerial FOLDER` makes a recipe to start from",
        )
    return _from_flags(options, settings)


def _from_flags(options: argparse.Namespace, settings: dict[str, Any]) -> Recipe:
    from segflow.models.load import load_model
    from segflow.recipe import ModelChoice

    data = {"kind": "raster", "inputs": {"path": options.input}, "model": {"weights": options.model}}
    try:
        choice = ModelChoice(**_model_keys(options.model, settings))
    except ValidationError:
        return parse_recipe(data, Path.cwd(), settings, "the command line")  # says what is wrong
    data["kind"] = load_model(choice, Path.cwd()).card.kind
    return parse_recipe(data, Path.cwd(), settings, "the command line")


def _model_keys(weights: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what the command line says of the model, whose file tells whether the recipe is of rasters or volumes."""
    parts = {key.split(".")[1]: value for key, value in settings.items() if re.fullmatch(r"model\.\w+", key)}
    return {"weights": weights, **parts}


_EXAMPLE = {"--set": "tiling.block=1024", "--measure": "tolerance_mm=2"}


def settings_of(pairs: list[str], flag: str = "--set") -> dict[str, Any]:
    """Return ``key.sub=value`` pairs as a mapping; values are YAML.

    Raises:
        RecipeError: one is no such pair.
    """
    settings = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise RecipeError(f"{flag} {pair}", "KEY=VALUE", f"such as {flag} {_EXAMPLE[flag]}")
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise RecipeError(f"{flag} {pair}: {error}", "a YAML value", "quote it") from error
    return settings
