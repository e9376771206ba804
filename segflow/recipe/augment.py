"""Random changes of training patches: what may be changed, by how much and how often."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from segflow.part import Part

Chance = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Spacing = Annotated[float, Field(ge=1)]
Preset = Literal["none", "aerial", "volume", "street"]
_LEAST_BLUR = 0.1


class Augment(Part):
    """What is changed at random. A preset sets the keys that are not given; `none` changes nothing."""

    preset: Preset = Field(
        "none",
        description="Named set that the other keys are laid over: aerial (seen from above: no side is up), "
        "volume (MR), street (photographs with an up and a down) or none.",
    )
    flips: tuple[bool, ...] = Field(
        (), description="Which axes may be mirrored, in array order: y, x or x, y, z. Half of all patches are."
    )
    quarter_turns: bool = Field(
        False, description="Turn by any multiple of 90 degrees, in the plane or, for volumes, about every axis."
    )
    rotate: Amount = Field(0.0, description="Largest rotation in degrees; for volumes about every axis.")
    rotate_chance: Chance = Field(1.0, description="Share of patches that are rotated.")
    stretch: Amount = Field(
        0.0, description="How much each axis is stretched by itself: deviation of the logarithm (0.05: about 5 %)."
    )
    shear: Amount = Field(0.0, description="How much axes lean: deviation of each entry of a shear matrix.")
    elastic: Amount = Field(
        0.0, description="Elastic deformation: deviation, in cells, of a smooth displacement that never folds."
    )
    elastic_spacing: Spacing = Field(
        32.0, description="Cells between the control points of the displacement; it should be 4 times elastic or more."
    )
    elastic_chance: Chance = Field(0.3, description="Share of patches that are deformed.")
    colour: Amount = Field(
        0.0, description="Strength of random contrast, brightness and, of three bands, saturation; 1 is usual."
    )
    contrast_curve: bool = Field(
        False, description="Put values through a random curve, mostly rising, as if by another scanner or sequence."
    )
    bias_field: Amount = Field(
        0.0,
        description="Brightness that drifts across the patch, as from MR coils: largest deviation of its logarithm.",
    )
    intensity: Amount = Field(
        0.0, description="All bands together: deviation of the logarithm of a gain, and of an offset."
    )
    band_noise: Amount = Field(
        0.0, description="Each band by itself: deviation of the logarithm of a gain, and of an offset."
    )
    drop_band: Chance = Field(
        0.0, description="Share of patches in which one band is set to its mean; never done to a single band."
    )
    blur: tuple[Amount, Amount] = Field((0.0, 0.0), description="Gaussian blur: lowest and highest sigma, in cells.")
    blur_chance: Chance = Field(0.3, description="Share of patches that are blurred.")
    blur_labels: bool = Field(
        False, description="Labels follow the blur: each cell gets the class of which there is most around it."
    )
    noise: Amount = Field(
        0.0, description="Normal noise in each cell: its largest deviation, where 1 is that of the normalised input."
    )
    noise_chance: Chance = Field(0.3, description="Share of patches that get noise.")

    @field_validator("blur")
    @classmethod
    def _rising(cls, blur: tuple[float, float]) -> tuple[float, float]:
        if blur[0] > blur[1]:
            raise ValueError("blur is lowest, highest")
        if 0 < blur[1] < _LEAST_BLUR or 0 < blur[0] < _LEAST_BLUR:
            raise ValueError(f"a sigma below {_LEAST_BLUR} blurs nothing; blur: [0, 0] is none")
        return blur

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
        "intensity": 0.05,
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
        "intensity": 0.05,
    },
    "street": {
        "flips": (False, True),
        "rotate": 5.0,
        "rotate_chance": 0.5,
        "stretch": 0.05,
        "colour": 1.0,
        "blur": (0.3, 1.0),
        "noise": 0.1,
        "intensity": 0.05,
    },
}


def _named(value: Any) -> Any:
    return {"preset": value} if isinstance(value, str) else value


AnyAugment = Annotated[Augment, BeforeValidator(_named)]
"""A preset's name, or a mapping."""
