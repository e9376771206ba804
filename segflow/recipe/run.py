"""The parts of a recipe that say what runs on what, and where."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from segflow.part import Part, unwritten
from segflow.recipe.cluster import LOCAL, Cluster, most_of
from tiling import Profile, Store

AUTO = "auto"


class Inputs(Part):
    """What is segmented."""

    path: str | tuple[str, ...] = Field(
        description="A path, glob, list, folder, VRT, URL, or a folder or zip of DICOM; may hold {case}."
    )
    bands: tuple[int, ...] | None = Field(None, description="Rasters: bands to read, 1-based, in the model's order.")
    nodata: float | None = Field(None, description="Rasters: value that means no data; overrides the file's own.")
    collar: bool = Field(False, description="Rasters: nodata only where connected to the border.")
    mosaic: bool = Field(
        False,
        description="Rasters: inputs are sheets side by side on one grid; each takes its context from its neighbours.",
    )
    aoi: str | None = Field(None, description="Rasters: a vector file; only cells inside its polygons are segmented.")
    channels: dict[str, str] | None = Field(
        None, description="Volumes: channels kept in several files: channel name to a pattern with {case}."
    )
    series: dict[str, str] | None = Field(
        None,
        description="DICOM: which series, by tags: keyword to a pattern with `*` and `?`, such as "
        '`{SeriesDescription: "*T1*", Modality: MR}`. One of each study must match.',
    )
    resample_to: str | None = Field(None, description="Volumes: the channel whose grid the other channels are put on.")

    @field_validator("series", mode="before")
    @classmethod
    def _as_text(cls, series: Any) -> Any:
        """Take numbers too: SeriesNumber: 5."""
        if not isinstance(series, dict):
            return series
        return {key: str(value) if isinstance(value, int | float) else value for key, value in series.items()}

    @field_validator("bands")
    @classmethod
    def _one_based(cls, bands: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if bands is not None and (not bands or min(bands) < 1):
            raise ValueError("bands count from 1, as in GDAL")
        return bands


class References(Part):
    """What the result is compared with."""

    path: str = Field(description="A path or pattern with {stem}, {parent} or {case}.")
    map: dict[int, int] = Field(default_factory=dict, description="Ids in the reference to ids of the model.")
    ignore: tuple[int, ...] = Field((), description="Ids in the reference that are not scored.")
    region: tuple[int, int, int, int] | None = Field(
        None, description="Rasters: only this window (x, y, width, height in cells) is scored."
    )
    mask: str | None = Field(
        None, description="Rasters: a path or pattern as above; only cells where this raster is not 0 are scored."
    )


def _overlap(value: Any) -> Any:
    """Take 0.25, "64px" or auto."""
    if isinstance(value, str) and value != AUTO and not re.fullmatch(r"\d+px", value):
        try:
            return float(value)
        except ValueError:
            raise ValueError('overlap is a fraction such as 0.25, pixels such as "64px", or auto') from None
    if isinstance(value, int | float) and not 0 <= value < 1:
        raise ValueError('overlap is a fraction from 0 up to, but not including, 1, or pixels such as "64px"')
    return value


class Tiling(Part):
    """How the scene is cut and put together again."""

    patch: tuple[int, ...] | int | Literal["auto"] | None = Field(
        None,
        description="Patch in model cells (one number, or y, x or x, y, z); the card's when not given. auto: the size "
        "that memory holds and that repeats least.",
    )
    overlap: Annotated[float | str | None, BeforeValidator(_overlap)] = Field(
        None,
        description='Overlap of neighbours: a fraction of the patch, or "64px"; the card\'s when not given. auto: what '
        "the tolerance needs, measured on the network.",
    )
    tolerance: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="overlap: auto only. How much a probability may change because of a cut; 0: not at all.",
        json_schema_extra=unwritten,
    )
    blend: Profile = Field(
        "gaussian",
        description="Profile of a patch's weight; crop when not given and overlap is auto.",
        json_schema_extra=unwritten,
    )
    accumulator: Store = Field("int32", description="int16 halves the memory of many classes.")
    block: Literal["auto", "whole"] | int = Field("auto", description="Part of the scene that one worker owns, cells.")
    batch: int | Literal["auto"] = Field("auto", description="Patches in flight (CPU) or a batch (GPU).")

    @model_validator(mode="after")
    def _auto(self) -> Tiling:
        if self.patch == AUTO and isinstance(self.overlap, float):
            raise ValueError(
                f"patch is auto and overlap {self.overlap:g} of it, so that a larger patch would repeat as much; "
                'set overlap: auto, or cells such as "64px"'
            )
        measured = self.overlap == AUTO or (self.patch == AUTO and self.overlap is None)
        if self.patch == AUTO and measured and "blend" in self.model_fields_set and self.blend != "crop":
            raise ValueError(
                f"patch and overlap are auto and blend is {self.blend}, whose weights depend on the patch; "
                'remove blend, set it to crop, or set the overlap in cells such as "64px"'
            )
        if not measured and "tolerance" in self.model_fields_set:
            raise ValueError("tolerance is for overlap: auto; set that, or remove tolerance")
        return self

    @property
    def settled(self) -> bool:
        """Whether neither patch nor overlap is left to be measured."""
        return AUTO not in (self.patch, self.overlap)

    @field_validator("block", "batch")
    @classmethod
    def _positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("give a positive number")
        return value


class Compute(Part):
    """Where and with what it runs."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:0, ...")
    backend: Literal["auto", "torch", "openvino", "onnxruntime"] = Field(
        "auto", description="What runs the network; auto: what a short trial of the model finds fastest, remembered."
    )
    precision: Literal["f32", "f16", "bf16", "int8"] = Field(
        "f32", description="Arithmetic of the network; int8: calibrated on the first scene, openvino only."
    )
    compile: bool = Field(False, description="torch only: translate the network by torch.compile first (a minute).")
    workers: int = Field(1, ge=1, description="Processes that work; more than one are a Dask cluster.")
    cluster: Cluster = Field(
        LOCAL,
        description="local: workers on this machine. tcp://HOST:PORT (or tls://): those of a running scheduler. A "
        "mapping: class (such as dask_jobqueue.SLURMCluster), its arguments, and adapt: {minimum, maximum} for a "
        "number of workers that follows the work in place of `workers`.",
    )
    staging: str | None = Field(
        None,
        description="Where chunks are kept until a scene is whole: a folder or an object store (s3://BUCKET/PREFIX) "
        "that the driver and all workers reach; the output folder when not given.",
    )
    wait_seconds: int = Field(
        300, ge=1, description="How long to wait for a cluster's first worker, or for a scheduler that went away."
    )
    memory: str | None = Field(
        None, description="What a run may use, such as 8 GiB; what the machine has free when not given."
    )

    @property
    def remote(self) -> bool:
        """Whether workers run elsewhere: they share neither this machine's memory nor, maybe, its folders."""
        return self.cluster != LOCAL

    @property
    def most_workers(self) -> int:
        """How many workers a scene is cut for."""
        return most_of(self.cluster, self.workers)

    @property
    def workers_here(self) -> int:
        """How many workers share this machine."""
        return 1 if self.remote else self.workers

    @field_validator("memory")
    @classmethod
    def _size(cls, memory: str | None) -> str | None:
        if memory is not None and not re.fullmatch(r"\d+(\.\d+)?\s*[KMGT]i?B", memory):
            raise ValueError("a size such as 8 GiB or 500 MB")
        return memory
