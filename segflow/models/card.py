"""Model cards: what a network eats, what its channels mean, where it was trained and how well it did."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from segflow.errors import ModelError
from segflow.io.atomic import write_text
from segflow.part import Part

LOGIT_RANGE = 64.0
"""Where a card averages logits, 0 to 1 stands for log-probabilities from minus this to 0; of regions and other
independent channels, for logits from minus to plus this."""


class LabelClass(Part):
    """One class of the label map."""

    id: int = Field(ge=0, le=65535, description="Value in the label map.")
    name: str = Field(min_length=1, description="Name, as shown in legends and reports.")
    colour: str = Field(pattern=r"^#[0-9A-Fa-f]{6}$", description="Colour as #RRGGBB.")
    codes: dict[str, str] = Field(
        default_factory=dict,
        description="What it means. For DICOM: category, type, modifier, laterality, region, region_modifier, each as "
        "scheme, code and meaning (SCT 10200004 Liver); or codes by other schemes, such as CORINE.",
    )

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The colour as three bytes."""
        return int(self.colour[1:3], 16), int(self.colour[3:5], 16), int(self.colour[5:7], 16)


class Normalisation(Part):
    """How raw values become the network's input: ``(value - mean) / deviation``, channel by channel."""

    source: Literal["card", "scene"] = Field(
        "card", description="card: the numbers below. scene: mean and deviation of the whole scene, never of a patch."
    )
    mean: tuple[float, ...] = Field((0.0,), description="One a channel (or one for all), in raw units.")
    deviation: tuple[float, ...] = Field((1.0,), description="One a channel (or one for all), in raw units.")
    over: Literal["valid", "nonzero"] = Field(
        "valid", description="Which cells count for the scene's statistics; nonzero suits skull-stripped volumes."
    )

    @model_validator(mode="after")
    def _positive(self) -> Normalisation:
        if any(value <= 0 for value in self.deviation):
            raise ValueError("every deviation must be positive")
        return self


class ChannelScheme(Part):
    """How one channel of a volume that is prepared as a whole is standardised."""

    scheme: Literal["zscore", "rescale", "fixed"] = Field(
        description="zscore: by the volume's own mean and deviation. rescale: its range to 0..1. fixed: by the numbers "
        "below, as for CT."
    )
    masked: bool = Field(False, description="zscore: only over and of what is not 0, or is enclosed by such voxels.")
    lower: float | None = Field(None, description="fixed: smaller values become this, in raw units.")
    upper: float | None = Field(None, description="fixed: larger values become this, in raw units.")
    mean: float = Field(0.0, description="fixed: in raw units.")
    deviation: float = Field(1.0, gt=0, description="fixed: in raw units.")


class Preparation(Part):
    """What is done to a volume as a whole before it is cut into patches, and how labels come back: nnU-Net's way."""

    schemes: tuple[ChannelScheme, ...] = Field(min_length=1, description="One a channel; in place of normalisation.")
    crop: bool = Field(
        True, description="Cut to the box of voxels that are not 0 in some channel; the rest is of the first class."
    )
    order: int = Field(3, ge=0, le=5, description="Of the splines that resample the input to the card's spacing.")
    apart: bool | float = Field(
        3.0, description="Thick slices are resampled apart: where a voxel is so many times longer; always, or never."
    )
    order_apart: int = Field(0, ge=0, le=5, description="Order across thick slices; 0 takes the nearest.")
    order_back: Literal[0, 1] = Field(1, description="Of the interpolation back to the input's grid.")
    apart_back: bool | float = Field(3.0, description="As apart, on the way back.")
    order_apart_back: Literal[0, 1] = Field(0, description="As order_apart, on the way back.")
    keep: int | None = Field(None, ge=0, le=2, description="An axis that is never resampled: a 2-D network's slices.")


class Region(Part):
    """A label written where one sigmoid channel is over the threshold; later regions overwrite earlier ones."""

    channel: int = Field(ge=0, description="Channel of the network's output.")
    id: int = Field(ge=0, description="Class id that is written.")


class Card(Part):
    """The model card, `NAME.yaml` beside `NAME.safetensors`."""

    name: str = Field(min_length=1, description="Name of the model.")
    kind: Literal["raster", "volume"] = Field(description="What it segments.")
    description: str = Field("", description="One sentence on what it is for.")
    architecture: str = Field(
        "", description="Name of the network: unet, segnet, ...; not for files that hold their graph, such as ONNX."
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="Arguments of the architecture.")
    classes: tuple[LabelClass, ...] = Field(min_length=1, description="Classes, in the order of output channels.")
    ignore: tuple[int, ...] = Field((), description="Ids that references may hold and that are not scored.")
    activation: Literal["softmax", "sigmoid", "none"] = Field(
        "softmax", description="What turns the network's output into probabilities; none: it gives them itself."
    )
    averaged: Literal["probabilities", "logits"] = Field(
        "probabilities",
        description="What overlapping patches average. logits: as nnU-Net does; activation is then none, and the "
        "network puts them out on a scale from 0 to 1.",
    )
    threshold: float = Field(0.5, gt=0, lt=1, description="For one-channel sigmoid heads and regions.")
    regions: tuple[Region, ...] | None = Field(
        None, min_length=1, description="Overlapping sigmoid regions, in order of writing."
    )
    output: int = Field(0, ge=0, description="Which of the network's outputs, where it has several.")
    stride: int = Field(1, ge=1, description="Total downsampling; patches start at multiples of it.")
    channels: tuple[str, ...] = Field(min_length=1, description="Names of bands or modalities, in input order.")
    bands: tuple[int, ...] | None = Field(
        None, description="For rasters: the input's bands (1-based) to take when the recipe names none."
    )
    normalisation: Normalisation = Field(default_factory=lambda: Normalisation())
    padding: Literal["reflect", "edge", "constant"] = Field(
        "reflect", description="What lies beyond the scene's border."
    )
    gsd: float | None = Field(None, gt=0, description="Ground sampling distance in metres that it was trained at.")
    spacing: tuple[float, float, float] | None = Field(
        None, description="Voxel size in mm trained at, in the order of the orientation's axes (x, y, z)."
    )
    orientation: str = Field(
        "RAS",
        pattern=r"^([RLAPSI]{3}|[ijk]{3})$",
        description="For volumes: the axes' directions; or the file's own axes as stored, in the order of the model's.",
    )
    preparation: Preparation | None = Field(
        None, description="For volumes that are cropped, standardised and resampled as a whole, as nnU-Net does."
    )
    lattice: Literal["overhang", "even"] = Field(
        "overhang",
        description="overhang: patches start at multiples of the step. even: they are spread evenly, as nnU-Net does.",
    )
    patch: tuple[int, ...] = Field(min_length=2, max_length=3, description="Patch, in array order (y, x or x, y, z).")
    overlap: float = Field(0.25, ge=0, lt=1, description="Overlap of neighbouring patches as a fraction of the patch.")
    training: dict[str, Any] = Field(default_factory=dict, description="Data, split, recipe, minutes.")
    scores: dict[str, Any] = Field(default_factory=dict, description="Scores, with the place they were measured.")
    licence: str = Field("", description="Licence of the weights.")

    @property
    def output_channels(self) -> int:
        """Channels that the network puts out."""
        if self.regions is not None:
            return max(region.channel for region in self.regions) + 1
        return 1 if self.activation == "sigmoid" else len(self.classes)

    @property
    def ids(self) -> tuple[int, ...]:
        """Class ids, in the order of `classes`."""
        return tuple(item.id for item in self.classes)

    @model_validator(mode="after")
    def _coherent(self) -> Card:
        if len(set(self.ids)) != len(self.ids):
            raise ValueError(f"class ids {self.ids} repeat; give each class its own")
        if set(self.ids) & set(self.ignore):
            raise ValueError(f"ids {sorted(set(self.ids) & set(self.ignore))} are classes and ignored at once")
        if len(self.patch) != (2 if self.kind == "raster" else 3):
            raise ValueError(f"a {self.kind} model takes a patch of {2 if self.kind == 'raster' else 3} numbers")
        if any(n % self.stride for n in self.patch):
            raise ValueError(f"patch {self.patch} is no multiple of the stride {self.stride}")
        if self.regions is None and self.activation == "sigmoid" and len(self.classes) != 2:
            raise ValueError("a one-channel sigmoid head has two classes: background, foreground; else name regions")
        if self.regions is not None and {r.id for r in self.regions} - set(self.ids):
            raise ValueError("regions name ids that are not in classes")
        if self.regions is not None and (
            self.activation == "softmax" or self.classes[0].id in {r.id for r in self.regions}
        ):
            raise ValueError("regions go with activation sigmoid or none, and the first class is the background")
        if self.averaged == "logits" and self.activation != "none":
            raise ValueError("a network whose logits are averaged has activation none")
        if self.preparation is not None:
            if self.kind != "volume":
                raise ValueError("preparation is for volumes")
            if len(self.preparation.schemes) != len(self.channels):
                raise ValueError(f"preparation.schemes needs {len(self.channels)} entries, one a channel")
        for what in ("mean", "deviation"):
            if len(getattr(self.normalisation, what)) not in (1, len(self.channels)):
                raise ValueError(f"normalisation.{what} needs 1 or {len(self.channels)} numbers")
        return self


def read_card(path: Path) -> Card:
    """Read a model card.

    Raises:
        ModelError: the file is missing, not YAML, or not a card.
    """
    try:
        return Card.model_validate(yaml.safe_load(path.read_text()))
    except FileNotFoundError as error:
        raise ModelError(
            f"no model card at {path}", "a card NAME.yaml beside the weights", "write one, or run `segflow models`"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError) as error:
        raise ModelError(
            f"{path} is not a model card: {_first(error)}",
            "the keys listed in docs/reference/card.md",
            "correct the card",
        ) from error


def _first(error: Exception) -> str:
    """Return what is wrong in a line: the first complaint and its key."""
    if not isinstance(error, ValidationError):
        return " ".join(str(error).split())
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"the key {key} is unknown"
    return f"{key}: {first['msg'].removeprefix('Value error, ')}" if key else first["msg"].removeprefix("Value error, ")


def write_card(card: Card, path: Path) -> None:
    """Write a model card as YAML that `read_card` reads back equal."""
    write_text(path, yaml.safe_dump(card.model_dump(mode="json", exclude_defaults=True), sort_keys=False))
