"""From a model and an input to a recipe to start from: what is known is filled in, what is not is marked REQUIRED."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from pipelines.drafts.draft_text import Facts, draft_text
from pipelines.drafts.scaling import Sampled, scaling_warning
from segflow.errors import InputError, RecipeError
from segflow.grid import Kind
from segflow.io.discover import Scene, discover
from segflow.io.look import Band, bands_of, kind_of_path, sample_values
from segflow.io.names import is_remote
from segflow.io.opening import Spec, open_source
from segflow.io.raster import RasterSpec
from segflow.io.volume import VolumeSpec
from segflow.models.card import Card
from segflow.models.describe import describe
from segflow.models.formats.described import Described
from segflow.models.load import load_model
from segflow.recipe import Inputs, ModelChoice
from segflow.recipe.read import keys_to_fill

_NAMED = ("builtin:", "torchvision:")


@dataclass(frozen=True, slots=True)
class Draft:
    """A recipe to start from.

    Attributes:
        text: commented YAML.
        required: dotted keys that are still to be filled in.
        warnings: what is likely wrong between the model and the input.
    """

    text: str
    required: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())


def draft_recipe(weights: str, inputs: str, base: Path, trust: bool = False) -> Draft:
    """Write a recipe that runs a model on an input. Reads headers, and a sample of the first scene's values.

    Args:
        weights: builtin:NAME, or a path from the working directory.
        inputs: a path, glob, folder or URL, from the working directory.
        base: the folder that the recipe will lie in; paths in it are relative to that.
        trust: let the model's file run its code, where that is the only way to read it.

    Raises:
        ModelError: the model cannot be read.
        InputError: there is no input, or it has fewer bands than the model takes.
    """
    facts = _facts(weights, base, trust)
    kind: Kind = facts.kind or kind_of_path(inputs)
    scenes = discover(Inputs(path=inputs), kind, _from_cwd)
    facts = replace(facts, kind=kind, path=_relative(inputs, base), scenes=len(scenes), first=_shown(scenes[0]))
    facts = _with_raster(facts, scenes[0]) if kind == "raster" else _with_volume(facts, scenes[0], inputs)
    text = draft_text(facts)
    warnings = () if facts.warning is None else (f"{facts.first}: {facts.warning}",)
    return Draft(text, tuple(keys_to_fill(yaml.safe_load(text))), warnings)


def _facts(weights: str, base: Path, trust: bool) -> Facts:
    if weights.startswith(_NAMED):
        card = load_model(ModelChoice(weights=weights)).card
        return _of_card(Facts(weights=weights, name=card.name), card)
    path = _from_cwd(weights)
    found = describe(path, trust)
    facts = Facts(
        weights=_relative(weights, base),
        name=path.stem,
        notes=found.notes,
        needs_trust=found.needs_trust,
        fixed_patch=found.patch,
        fixed_batch=found.batch,
    )
    return _of_file(facts, found) if found.card is None else _of_card(facts, found.card)


def _of_card(facts: Facts, card: Card) -> Facts:
    return replace(
        facts,
        kind=card.kind,
        card=card,
        channels=card.channels,
        count=len(card.channels),
        normalisation=card.normalisation,
        gsd=card.gsd,
        spacing=card.spacing,
    )


def _of_file(facts: Facts, found: Described) -> Facts:
    return replace(
        facts,
        kind=found.kind,
        count=found.channels,
        outputs=found.outputs,
        class_names=found.class_names,
        activation=found.activation,
        normalisation=found.normalisation,
        gsd=found.gsd,
        wished_patch=found.wished_patch,
        stride=found.stride,
        overlap=found.overlap,
        threshold=found.threshold,
        architecture=found.architecture,
        arguments=dict(found.arguments),
        weights_only=found.format in ("safetensors", "checkpoint") and not found.needs_trust,
    )


def _with_raster(facts: Facts, scene: Scene) -> Facts:
    bands, nodata = bands_of(scene.paths[0])
    colours = tuple(band for band in bands if not band.alpha) or bands
    named = facts.card.bands if facts.card is not None else None
    chosen: tuple[int, ...] | None
    chosen = named if named is not None else _choose(facts, colours, scene.paths[0])
    with_bands = replace(facts, all_bands=bands, bands=chosen, nodata=nodata, bands_of_card=named is not None)
    if chosen is None:
        every = replace(with_bands, normalisation=None)
        seen = _looked(every, RasterSpec(scene.paths[0], tuple(band.number for band in colours)))
        return replace(seen, normalisation=facts.normalisation)
    names = {band.number: band.name for band in bands}
    if facts.channels is None:
        with_bands = replace(with_bands, channels=tuple(names.get(k) or f"band {k}" for k in chosen))
    return _looked(with_bands, RasterSpec(scene.paths[0], chosen))


def _choose(facts: Facts, bands: Sequence[Band], path: str) -> tuple[int, ...] | None:
    """Return the bands that the model's channels are; None where only a person can say.

    Raises:
        InputError: there are fewer bands than channels.
    """
    wanted = facts.count or len(bands)
    if len(bands) < wanted:
        channels = f" ({', '.join(facts.channels)})" if facts.channels else ""
        raise InputError(
            f"{path} has {len(bands)} bands",
            f"the model's {wanted} channels{channels}",
            "another input, or another model",
        )
    by_name = {band.name.lower(): band.number for band in reversed(bands) if band.name}
    asked = facts.channels or (("red", "green", "blue") if wanted == 3 and len(bands) > 3 else ())
    if asked and all(name.lower() in by_name for name in asked):
        return tuple(by_name[name.lower()] for name in asked)
    return tuple(band.number for band in bands) if len(bands) == wanted else None


def _with_volume(facts: Facts, scene: Scene, inputs: str) -> Facts:
    orientation = facts.card.orientation if facts.card is not None else "RAS"
    spec = VolumeSpec(scene.paths[0], orientation)
    source = open_source(spec)
    with closing(source):
        held = source.channels
    wanted = facts.count or held
    names = facts.channels or tuple(f"channel {k + 1}" for k in range(wanted))
    facts = replace(facts, channels=names)
    if held == wanted:
        return _looked(facts, spec)
    if held > wanted:
        raise InputError(
            f"{scene.paths[0]} holds {held} channels", f"the model's {wanted}", "take out those that it wants"
        )
    folder = is_remote(inputs) or _from_cwd(inputs).is_dir()
    return replace(facts, grouped=True, path=facts.path if folder else str(Path(facts.path).parent))


def _looked(facts: Facts, spec: Spec) -> Facts:
    """Add what the first scene's header and a sample of its values say."""
    source = open_source(spec)
    with closing(source):
        values = sample_values(source)
        grid, notices = source.grid, source.notices
    sampled = Sampled.of(values)
    warning = None if facts.normalisation is None else scaling_warning(facts.normalisation, sampled)
    return replace(facts, grid=grid, sampled=sampled, warning=warning, notices=notices)


def _from_cwd(path: str) -> Path:
    return Path(os.path.normpath(Path.cwd() / Path(path).expanduser()))


def _relative(path: str, base: Path) -> str:
    """Return a path as the recipe says it: relative to its folder unless that leads far up; URLs as they are."""
    if is_remote(path):
        return path
    whole = _from_cwd(path)
    near = os.path.relpath(whole, base.absolute())
    return str(whole) if Path(near).parts[:2] == ("..", "..") else Path(near).as_posix()


def _shown(scene: Scene) -> str:
    path = scene.paths[0]
    return path.rsplit("/", 1)[-1] if is_remote(path) else Path(path).name


def require_free(path: Path, force: bool) -> None:
    """Refuse to write over a recipe.

    Raises:
        RecipeError: there is a file.
    """
    if path.exists() and not force:
        raise RecipeError(
            f"{path} is there already", "a new file", "name another one with -o, or write over it with --force"
        )
