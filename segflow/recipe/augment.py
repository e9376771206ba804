"""Random changes of training patches: what may be changed, by how much and how often."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from segflow.recipe.part import Part

Chance = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Preset = Literal["none", "aerial", "volume", "street"]


class Augment(Part):
    """What is changed at random. A preset sets the keys that are not given; `none` changes nothing."""

    preset: Preset = Field("none", description="Named set that the other keys are laid over.")
    flips: tuple[bool, ...] = Field((), description="Axes that may be mirrored, in array order: y, x or x, y, z.")
    quarter_turns: bool = Field(False, description="Rasters: turn by 90, 180 and 270 degrees.")
    rotate: Amount = Field(0.0, description="Largest rotation in degrees, about every axis.")
    rotate_chance: Chance = Field(1.0, description="How often a patch is rotated.")
    stretch: Amount = Field(0.0, description="Deviation of the logarithm of each axis' own magnification.")
    shear: Amount = Field(0.0, description="Deviation of the entries of a random shear.")
    elastic: Amount = Field(0.0, description="Deviation in cells of a smooth random displacement.")
    elastic_chance: Chance = Field(0.3, description="How often a patch is displaced.")
    colour: Amount = Field(0.0, description="Strength of random contrast, brightness and saturation, by band.")
    contrast_curve: bool = Field(False, description="Random monotone curve of values, followed by the statistics.")
    bias_field: Amount = Field(0.0, description="Largest deviation of the logarithm of a smooth field.")
    blur: tuple[Amount, Amount] = Field((0.0, 0.0), description="Range of sigma in cells.")
    blur_chance: Chance = Field(0.3, description="How often a patch is blurred.")
    blur_labels: bool = Field(False, description="Labels follow the blur, as those of a coarser image would.")
    noise: Amount = Field(0.0, description="Largest deviation of added noise, in deviations of the input.")
    noise_chance: Chance = Field(0.3, description="How often noise is added.")
    band_noise: Amount = Field(0.0, description="Deviation of a gain and an offset drawn for each band by itself.")
    drop_band: Chance = Field(0.0, description="How often one band is set to its mean (never a single band).")

    @model_validator(mode="before")
    @classmethod
    def _laid_over(cls, values: Any) -> Any:
        """Fill in the preset's values."""
        if isinstance(values, dict):
            return {**PRESETS.get(values.get("preset", "none"), {}), **values}
        return values


PRESETS: dict[str, dict[str, Any]] = {
    "aerial": {
        "flips": (True, True),
        "quarter_turns": True,
        "rotate": 45.0,
        "rotate_chance": 0.5,
        "stretch": 0.05,
        "colour": 1.0,
        "blur": (0.3, 1.2),
        "noise": 0.2,
    },
    "volume": {
        "flips": (True, False, False),
        "rotate": 15.0,
        "stretch": 0.06,
        "shear": 0.04,
        "contrast_curve": True,
        "bias_field": 0.15,
        "blur": (0.4, 3.0),
        "blur_chance": 0.6,
        "blur_labels": True,
        "noise": 0.2,
    },
    "street": {
        "flips": (False, True),
        "rotate": 5.0,
        "rotate_chance": 0.5,
        "stretch": 0.05,
        "colour": 1.0,
        "blur": (0.3, 1.0),
        "noise": 0.1,
    },
}


def _named(value: Any) -> Any:
    return {"preset": value} if isinstance(value, str) else value


AnyAugment = Annotated[Augment, BeforeValidator(_named)]
"""A preset's name, or a mapping."""
