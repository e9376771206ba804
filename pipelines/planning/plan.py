"""The resolved plan: everything that decides a scene's bits, settled once by the driver and followed by all workers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Tag, TypeAdapter

from pipelines.planning.sealing import Secrets
from segflow.auto import AutoTiling
from segflow.backends import ForwardSettings
from segflow.grid import Grid
from segflow.io.atomic import write_text
from segflow.io.raster import RasterSpec
from segflow.io.stamp import Stamp
from segflow.io.volume import VolumeSpec
from segflow.models.card import Card
from segflow.models.model import Model
from segflow.recipe import Postprocess, Report
from segflow.sweep import ENGINE, Task
from tiling import Box, Demand, Disk


def _kind_of(value: Any) -> str:
    volume = "orientation" in value if isinstance(value, dict) else isinstance(value, VolumeSpec)
    return "volume" if volume else "raster"


AnySpec = Annotated[
    Annotated[RasterSpec, Tag("raster")] | Annotated[VolumeSpec, Tag("volume")], Discriminator(_kind_of)
]


@dataclass(frozen=True)
class ReferencePlan:
    """What a scene is compared with.

    Attributes:
        path: the file, as named.
        spec: how to open it.
        identity: of its content.
        map: ids in the reference to ids of the model.
        ignore: ids that are not scored.
        region: the cells that are scored; all when None.
        stamps: of its files, taken before their content was looked at.
    """

    path: str
    spec: AnySpec
    identity: str
    map: dict[int, int]
    ignore: tuple[int, ...]
    region: Box | None
    stamps: tuple[Stamp, ...] = ()


@dataclass(frozen=True)
class ScenePlan:
    """One scene, with nothing left to decide.

    Attributes:
        scene: the name of its outputs.
        inputs: the files, as named.
        spec: how to open it.
        identity: of its content.
        grid: the scene's grid; outputs cover `task.layout.region` of it.
        model: cards, with the recipe's overrides, and paths of the weights.
        weights_sha256: hash of all weights, and of the symmetries that are averaged over.
        task: what decides the bits of a block.
        forward: how the network is run.
        facts: of the backend: version, device, instruction set, ...
        probe: hash of the network's output on a fixed patch; a worker must get the same.
        demand: projected memory of one worker.
        disk: projected disk.
        workers: how many there are.
        reference: what it is compared with.
        preview: whether only a part of the scene was asked for.
        notices: what a reader of the result must know.
        stamps: of the scene's files and its reference's, taken before their content was looked at.
        why: the network is run so, in words for the report.
        sheet: the cells of `grid` that are this scene, where that is one sheet of a mosaic.
        auto: what patch and overlap came to, where the recipe left them open.
        postprocess: how labels are changed once all are there.
        report: what is measured against the reference; paths are absolute.
        recipe: what was asked for, as YAML without passwords, for the report.
    """

    scene: str
    inputs: tuple[str, ...]
    spec: AnySpec
    identity: str
    grid: Grid
    model: Model
    weights_sha256: str
    task: Task
    forward: ForwardSettings
    facts: dict[str, str]
    probe: str
    demand: Demand
    disk: Disk
    workers: int = 1
    reference: ReferencePlan | None = None
    preview: bool = False
    notices: tuple[str, ...] = ()
    stamps: tuple[Stamp, ...] = ()
    why: str = ""
    auto: AutoTiling | None = None
    sheet: Box | None = None
    postprocess: Postprocess | None = None
    report: Report = Report()  # noqa: RUF009
    recipe: str = ""

    @property
    def card(self) -> Card:
        """What the model eats and means."""
        return self.model.card

    @property
    def whole(self) -> Box:
        """The cells of the grid that are the scene."""
        return self.sheet or Box.whole(self.grid.shape)

    @property
    def region(self) -> Box:
        """The cells that are made."""
        return self.task.layout.region

    @property
    def output_grid(self) -> Grid:
        """The grid of the outputs."""
        return self.grid.crop(self.region)

    @property
    def label_type(self) -> str:
        """The dtype of labels."""
        return "uint8" if max(self.card.ids) <= 255 else "uint16"

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that can change the result's bits or scores: not of how the work is cut, nor where it lies."""
        plain = to_data(self)
        layout = plain["task"].pop("layout")
        if not self.task.probabilities:  # as it was before there were any
            del plain["task"]["probabilities"]
        # What a calibrated network is, `facts` say; and requests in flight do not decide bits.
        place = {"quantised", "batch"} if self.forward.device == "cpu" else {"quantised"}
        settled = {
            "engine": ENGINE,
            "lattice": layout["lattice"],
            "shape": layout["shape"],
            "region": layout["region"],
            "task": plain["task"],
            "forward": {k: v for k, v in plain["forward"].items() if k not in place},
            "facts": self.facts,
            "probe": self.probe,
            "weights": self.weights_sha256,
            # What classes are called elsewhere decides no bit; exports look at it for themselves.
            "classes": [{**item, "codes": {}} for item in plain["model"]["card"]["classes"]],
            "identity": self.identity,
            "grid": plain["grid"],
        }
        if self.reference is not None:
            settled["reference"] = {k: v for k, v in plain["reference"].items() if k not in ("path", "spec", "stamps")}
        if self.postprocess is not None:
            settled["postprocess"] = plain["postprocess"]
        return hashlib.sha256(json.dumps(settled, sort_keys=True).encode()).hexdigest()

    @property
    def staging_key(self) -> str:
        """Hash of what staged chunks belong to: the fingerprint and how the work is cut."""
        layout = to_data(self)["task"]["layout"]
        return hashlib.sha256((self.fingerprint + json.dumps(layout, sort_keys=True)).encode()).hexdigest()


_ADAPTER: TypeAdapter[ScenePlan] = TypeAdapter(ScenePlan)


def to_data(plan: ScenePlan) -> dict[str, Any]:
    """Return the plan as plain data; NaN, as a nodata value may be, stays NaN."""
    data: dict[str, Any] = _ADAPTER.dump_python(plan, mode="json")
    return data


def write_plan(plan: ScenePlan, path: Path) -> Secrets:
    """Write the plan as JSON, and return what was left out of it: what gives access to an input, above all."""
    data = to_data(plan)
    secrets = Secrets.of(data)
    write_text(path, json.dumps(secrets.sealed(data), indent=1))
    return secrets


def read_plan(path: Path, secrets: Secrets = Secrets()) -> ScenePlan:  # noqa: B008 - frozen
    """Read the plan that `write_plan` wrote; without what that returned, it tells how the work is cut, and no more."""
    return plan_of(secrets.opened(json.loads(path.read_text())))


def plan_of(data: Any) -> ScenePlan:
    """Return the plan of which `to_data` made plain data."""
    return _ADAPTER.validate_python(data)
