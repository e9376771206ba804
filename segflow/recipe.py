"""The recipe: the one schema of what runs on what. Frozen; unknown keys are refused; every field is described."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from segflow.errors import RecipeError
from segflow.grid import Kind
from segflow.models.card import LabelClass, Normalisation
from tiling import Profile, Store


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Inputs(_Part):
    """What is segmented."""

    path: str | tuple[str, ...] = Field(description="A path, glob, list, folder, VRT or URL; may hold {case}.")
    bands: tuple[int, ...] | None = Field(None, description="Rasters: bands to read, 1-based, in the model's order.")
    nodata: float | None = Field(None, description="Rasters: value that means no data; overrides the file's own.")
    collar: bool = Field(False, description="Rasters: nodata only where connected to the border.")
    aoi: str | None = Field(None, description="Rasters: a vector file; only cells inside its polygons are segmented.")
    channels: dict[str, str] | None = Field(
        None, description="Volumes: channels kept in several files: channel name to a pattern with {case}."
    )
    resample_to: str | None = Field(None, description="Volumes: the channel whose grid the other channels are put on.")

    @field_validator("bands")
    @classmethod
    def _one_based(cls, bands: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if bands is not None and (not bands or min(bands) < 1):
            raise ValueError("bands count from 1, as in GDAL")
        return bands


class References(_Part):
    """What the result is compared with."""

    path: str = Field(description="A path or pattern with {stem}, {parent} or {case}.")
    map: dict[int, int] = Field(default_factory=dict, description="Ids in the reference to ids of the model.")
    ignore: tuple[int, ...] = Field((), description="Ids in the reference that are not scored.")
    region: tuple[int, int, int, int] | None = Field(
        None, description="Rasters: only this window (x, y, width, height in cells) is scored."
    )


class ModelChoice(_Part):
    """Which network, and what of its card to override."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    weights: str = Field(description="builtin:NAME, or the path of a .safetensors file with its card beside it.")
    architecture: str | None = Field(None, description="For a bare state dict: unet, segnet, ...")
    arguments: dict[str, Any] = Field(default_factory=dict, description="For a bare state dict: its arguments.")
    classes: tuple[LabelClass, ...] | None = Field(None, description="Overrides the card's classes.")
    normalisation: Normalisation | None = Field(None, description="Overrides the card's normalisation.")
    threshold: float | None = Field(None, gt=0, lt=1, description="Overrides the card's threshold.")
    gsd: float | None = Field(None, gt=0, description="Overrides the card's ground sampling distance, in metres.")
    spacing: tuple[float, float, float] | None = Field(None, description="Overrides the card's spacing, mm (x, y, z).")
    scale: float = Field(
        1.0, gt=0, le=16, description="For inputs without a GSD: model cells per input cell (0.5 halves the size)."
    )


def _overlap(value: Any) -> Any:
    """Take 0.25 or "64px"."""
    if isinstance(value, str) and not re.fullmatch(r"\d+px", value):
        try:
            return float(value)
        except ValueError:
            raise ValueError('overlap is a fraction such as 0.25, or pixels such as "64px"') from None
    if isinstance(value, int | float) and not 0 <= value < 1:
        raise ValueError('overlap is a fraction from 0 up to, but not including, 1, or pixels such as "64px"')
    return value


class Tiling(_Part):
    """How the scene is cut and put together again."""

    patch: tuple[int, ...] | int | None = Field(
        None, description="Patch in model cells (one number, or y, x or x, y, z); the card's when not given."
    )
    overlap: Annotated[float | str | None, BeforeValidator(_overlap)] = Field(
        None, description='Overlap of neighbours: a fraction of the patch, or "64px"; the card\'s when not given.'
    )
    blend: Profile = Field("gaussian", description="Profile of a patch's weight.")
    accumulator: Store = Field("int32", description="int16 halves the memory of many classes.")
    block: Literal["auto", "whole"] | int = Field("auto", description="Part of the scene that one worker owns, cells.")
    batch: int | Literal["auto"] = Field("auto", description="Patches in flight (CPU) or a batch (GPU).")

    @field_validator("block", "batch")
    @classmethod
    def _positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("give a positive number")
        return value


class Compute(_Part):
    """Where and with what it runs."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:0, ...")
    backend: Literal["auto", "torch", "openvino"] = Field("auto", description="What runs the network.")
    precision: Literal["f32", "f16", "bf16"] = Field("f32", description="Arithmetic of the network.")
    workers: int = Field(1, ge=1, description="Processes; more than one run on a Dask cluster on this machine.")
    memory: str | None = Field(
        None, description="What a run may use, such as 8 GiB; what the machine has free when not given."
    )

    @field_validator("memory")
    @classmethod
    def _size(cls, memory: str | None) -> str | None:
        if memory is not None and not re.fullmatch(r"\d+(\.\d+)?\s*[KMGT]i?B", memory):
            raise ValueError("a size such as 8 GiB or 500 MB")
        return memory


class Outputs(_Part):
    """What is written, and where."""

    folder: str | None = Field(None, description="Folder of the results; ./out/<name> when not given.")
    name: str = Field("{stem}", description="Template of a scene's name: {stem}, {parent}, {case}.")
    confidence: bool = Field(False, description="Also write the largest probability x 255 as uint8.")
    nodata: int = Field(255, ge=0, le=255, description="Rasters: value of cells without valid input.")


class Validation(_Part):
    """Which part of the labelled scenes is held back from training to score on."""

    scenes: tuple[str, ...] = Field((), description="Names (stems) of scenes that are only scored on.")
    region: tuple[float, float, float, float] | None = Field(
        None, description="Part of every scene, as fractions x, y, width, height, that is only scored on."
    )


class Train(_Part):
    """How `segflow train` makes a model."""

    name: str = Field(description="Name of the model that is made.")
    architecture: str = Field("unet", description="unet, segnet, ...")
    arguments: dict[str, Any] = Field(default_factory=dict, description="Arguments of the architecture.")
    classes: tuple[LabelClass, ...] = Field(description="Classes, in the order of output channels.")
    channels: tuple[str, ...] = Field(description="Names of the input's bands or modalities.")
    normalisation: Normalisation = Field(default_factory=lambda: Normalisation())
    patch: tuple[int, ...] = Field(description="Training patch.")
    validation: Validation = Field(default_factory=lambda: Validation())
    steps: int = Field(1000, ge=1, description="Optimiser steps.")
    batch: int = Field(8, ge=1, description="Patches a step.")
    learning_rate: float = Field(3e-3, gt=0, description="Peak learning rate (AdamW, warm-up, cosine).")
    weight_decay: float = Field(1e-4, ge=0, description="Weight decay.")
    zoom: tuple[float, float] = Field((1.0, 1.0), description="Range of random magnification.")
    augment: Literal["none", "aerial", "volume"] = Field("none", description="Named set of augmentations.")
    colour: float = Field(
        1.0, ge=0, le=2, description="aerial: strength of the random changes of contrast, brightness and colour."
    )
    fineness: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="Scene's name to how many times finer its cells are than the other scenes'; zoom is relative to 1.",
    )
    balance: float = Field(
        0.5, ge=0, le=1, description="0: patches are drawn as classes occur; 1: from all classes equally often."
    )
    dice: float = Field(0.0, ge=0, description="Weight of a soft Dice term beside the cross-entropy.")
    class_weights: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        None, description="Weights of the classes in the cross-entropy."
    )
    average: float = Field(0.0, ge=0, lt=1, description="Decay of the moving average of weights that is kept; 0: none.")
    precision: Literal["f32", "bf16"] = Field("f32", description="Arithmetic of the convolutions while training.")
    seed: int = Field(0, description="Seed of sampling, augmentation and weights.")
    card: dict[str, Any] = Field(default_factory=dict, description="Further keys of the card: gsd, licence, ...")


# What only one kind has; the other would ignore it.
_ONLY: dict[Kind, tuple[str, ...]] = {
    "raster": (
        *("inputs.bands", "inputs.nodata", "inputs.collar", "inputs.aoi"),
        *("references.region", "model.gsd", "outputs.nodata"),
    ),
    "volume": ("inputs.channels", "inputs.resample_to", "model.spacing"),
}


def _as_mapping(value: Any) -> Any:
    return {"path": value} if isinstance(value, str | list | tuple) else value


class Recipe(_Part):
    """Everything that a run needs to know."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    kind: Kind = Field(description="raster: GeoTIFF and its kin. volume: NIfTI and its kin.")
    name: str = Field("segflow", pattern=r"^[\w.-]+$", description="Name of the run; names the default folder.")
    inputs: Annotated[Inputs, BeforeValidator(_as_mapping)] = Field(description="What is segmented.")
    references: Annotated[References | None, BeforeValidator(_as_mapping)] = Field(
        None, description="What the result is compared with."
    )
    model: ModelChoice | None = Field(None, description="The network; needed by run and plan.")
    train: Train | None = Field(None, description="How a model is made; needed by train.")
    tiling: Tiling = Field(default_factory=lambda: Tiling(), description="How the scene is cut and put together again.")
    compute: Compute = Field(default_factory=lambda: Compute(), description="Where and with what it runs.")
    outputs: Outputs = Field(default_factory=lambda: Outputs(), description="What is written, and where.")
    base: str = Field(".", exclude=True, description="Folder that relative paths start from; set by the reader.")

    @model_validator(mode="after")
    def _axes(self) -> Recipe:
        axes = 2 if self.kind == "raster" else 3
        if isinstance(self.tiling.patch, tuple) and len(self.tiling.patch) != axes:
            raise ValueError(f"tiling.patch of a {self.kind} has {axes} numbers, got {self.tiling.patch}")
        return self

    @model_validator(mode="after")
    def _of_this_kind(self) -> Recipe:
        """Refuse what would be ignored: a setting that only the other kind has."""
        other: Kind = "volume" if self.kind == "raster" else "raster"
        for key in _ONLY[other]:
            where, name = key.split(".")
            part = getattr(self, where)
            if part is not None and getattr(part, name) != type(part).model_fields[name].default:
                raise RecipeError(
                    f"{key} is set in a recipe of kind {self.kind}, where it has no meaning",
                    f"{key} in recipes of kind {other} only",
                    f"remove {key}, or correct kind",
                )
        return self

    @property
    def folder(self) -> Path:
        """The output folder, absolute."""
        return self.resolve(self.outputs.folder or f"./out/{self.name}")

    def resolve(self, path: str) -> Path:
        """Return a path of the recipe as an absolute one, without looking at it."""
        return Path(os.path.normpath(Path(self.base).absolute() / Path(path).expanduser()))


def read_recipe(path: Path, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Read a YAML recipe; relative paths in it start from its own folder.

    Args:
        path: the file.
        settings: dotted key to value, laid over the file's (``--set``); relative paths in them start from the
            working directory.

    Raises:
        RecipeError: the file is missing, is not YAML, or has a key or value that cannot be meant.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"cannot read the recipe {path}: {getattr(error, 'strerror', error)}",
            "a YAML file",
            "check the path; `segflow sample` writes recipes that run",
        ) from error
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {error}", "a YAML mapping", "correct the file") from error
    return parse_recipe(data, path.parent, settings, str(path))


def parse_recipe(
    data: Any, base: Path, settings: Mapping[str, Any] | None = None, origin: str = "the recipe"
) -> Recipe:
    """Make a recipe of plain data. See `read_recipe`."""
    if not isinstance(data, dict):
        raise RecipeError(
            f"{origin} holds {type(data).__name__}",
            "a mapping with kind, inputs and model",
            "see pipelines/aerial.yaml for a complete one",
        )
    data = _expand(data, origin)
    for key, value in (settings or {}).items():
        data = _lay_over(data, key.split("."), _from_cwd(key, value))
    try:
        return Recipe.model_validate({**data, "base": str(base.absolute())})
    except ValidationError as error:
        raise _explain(error, origin) from error


_PATH_KEYS = {"inputs", "inputs.path", "inputs.aoi", "references", "references.path", "outputs.folder", "model.weights"}


def _from_cwd(key: str, value: Any) -> Any:
    """Anchor relative paths given on the command line to the working directory, also those inside of a value."""
    if isinstance(value, dict):
        return {name: _from_cwd(f"{key}.{name}", item) for name, item in value.items()}
    if isinstance(value, list):
        return [_from_cwd(key, item) for item in value]
    if (
        key not in _PATH_KEYS
        or not isinstance(value, str)
        or "://" in value
        or value.startswith(("/", "~", "builtin:"))
    ):
        return value
    return str(Path.cwd() / value)


def _lay_over(data: dict[str, Any], keys: list[str], value: Any) -> dict[str, Any]:
    head, *rest = keys
    if not rest:
        return {**data, head: value}
    inner = data.get(head)
    if isinstance(inner, str | list) and head in ("inputs", "references"):
        inner = {"path": inner}
    return {**data, head: _lay_over(inner if isinstance(inner, dict) else {}, rest, value)}


def _expand(value: Any, origin: str) -> Any:
    """Replace ${VAR} by the environment's value, in every string."""
    if isinstance(value, dict):
        return {key: _expand(item, origin) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, origin) for item in value]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        try:
            return os.environ[match[1]]
        except KeyError:
            raise RecipeError(
                f"{origin} uses ${{{match[1]}}}, which is not set",
                "a variable of the environment",
                f"export {match[1]}=..., or write the value itself",
            ) from None

    return re.sub(r"\$\{(\w+)\}", fill, value)


def _explain(error: ValidationError, origin: str) -> RecipeError:
    """Turn pydantic's first complaint into found, expected, remedy, with the nearest name for a misspelt key."""
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    where = [str(part) for part in first["loc"] if not (isinstance(part, str) and part[:1].isupper())]
    key = ".".join(where)
    if first["type"] == "extra_forbidden":
        known = _known_keys(where[:-1])
        near = get_close_matches(where[-1], known, n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]}?" if near else "remove it; `segflow schema` lists all keys"
        return RecipeError(f"{origin} has an unknown key {key}", "one of " + ", ".join(known), remedy)
    if first["type"] == "missing":
        return RecipeError(f"{origin} lacks {key}", "kind, inputs and model.weights at least", f"add {key}")
    found = f"{origin}: {key} is {first['input']!r}" if key else f"{origin} cannot be meant"
    return RecipeError(found, first["msg"].removeprefix("Value error, "), "correct it; `segflow schema` describes it")


def _known_keys(path: list[str]) -> list[str]:
    """List the keys that are known at a place of the recipe."""
    node: Any = Recipe
    for part in path:
        field = getattr(node, "model_fields", {}).get(part)
        if field is None:
            break
        inner = [a for a in getattr(field.annotation, "__args__", (field.annotation,)) if hasattr(a, "model_fields")]
        node = inner[0] if inner else Recipe
    return sorted(name for name in node.model_fields if name != "base")
