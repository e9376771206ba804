"""What a plan says is what is done, and a scene that is cut off anywhere comes out the same: over random recipes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.journal import ChunkRecord, Totals
from pipelines.network.engine import Engine
from pipelines.network.settle import settle
from pipelines.planning.plan import ScenePlan
from pipelines.planning.prepare import plan_scene
from pipelines.planning.scenes import Selection, find_scenes
from pipelines.postprocess import postprocess
from pipelines.predict import InProcess, Workshop, predict
from pipelines.publishing.export import export
from segflow.models.card import ChannelScheme, Preparation
from segflow.recipe import Recipe, parse_recipe
from tests.making import make_model, write_raster, write_volume
from tests.pipelines.test_mosaic import cut


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Engine]]:
    """Networks for rasters, for rasters of another GSD, for volumes, and for volumes that are prepared as a whole."""
    folder = tmp_path_factory.mktemp("models")
    found = {}
    with ExitStack() as stack:
        for name, kind, changes in (
            ("plain", "raster", {}),
            ("coarse", "raster", {"gsd": 0.7}),
            ("volume", "volume", {}),
        ):
            weights = make_model(folder / name, kind, **changes)
            compute = {"backend": "torch", "device": "cpu"}
            recipe = {"kind": kind, "inputs": "none", "model": {"weights": str(weights)}, "compute": compute}
            found[name] = settle(parse_recipe(recipe, folder))
            stack.callback(found[name].close)
        model = found["volume"].model
        card = model.card.model_copy(update={"preparation": Preparation(schemes=(ChannelScheme(scheme="zscore"),))})
        found["prepared"] = replace(found["volume"], model=replace(model, card=card))
        yield found


@st.composite
def recipes(draw: st.DrawFn) -> tuple[str, dict[str, Any], tuple[int, ...]]:
    """A network's name, parts of a recipe, and the scene's shape."""
    name = draw(st.sampled_from(["plain", "coarse", "volume", "prepared"]))
    raster = name in ("plain", "coarse")
    shape = draw(st.tuples(*([st.integers(20, 190)] * 2 if raster else [st.integers(12, 70)] * 3)))
    tiling = {
        "block": draw(st.sampled_from(["auto", "whole", 17, 64, 100])),
        "overlap": draw(st.sampled_from([0.0, 0.25, "20px"])),
        "blend": draw(st.sampled_from(["gaussian", "hann", "constant"])),
        "accumulator": draw(st.sampled_from(["int32", "int16"])),
    }
    outputs = {"confidence": draw(st.booleans()), "probabilities": draw(st.booleans())}
    parts: dict[str, Any] = {"tiling": tiling, "outputs": outputs}
    if draw(st.booleans()):
        parts["postprocess"] = {"sieve": 9} if raster else {"keep_largest": [1], "fill_holes": [2]}
    parts["mosaic"] = raster and draw(st.booleans())
    return name, parts, shape


def written(folder: Path, engine: Engine, parts: dict[str, Any], shape: tuple[int, ...]) -> Recipe:
    """Write a scene, or sheets, and return the recipe."""
    parts = dict(parts)
    if len(shape) == 3:
        inputs: Any = {"path": str(write_volume(folder / "scene.nii.gz", shape))}
        parts.pop("mosaic")
    elif parts.pop("mosaic"):
        whole = write_raster(folder / "whole.tif", shape)
        sheets = cut(whole, folder / "sheets", (0, shape[0] // 2, shape[0]), (0, shape[1]))
        inputs = {"path": [str(path) for path in sheets], "mosaic": True}
    else:
        inputs = {"path": str(write_raster(folder / "scene.tif", shape))}
    weights = {"weights": str(engine.model.weights)}
    return parse_recipe({"kind": engine.model.card.kind, "inputs": inputs, "model": weights, **parts}, folder)


class KilledError(Exception):
    """The end of a process."""


def made(folder: Path, plan: ScenePlan, engine: Engine, after: int | None = None) -> tuple[int, Totals | None]:
    """Make a scene's chunks, up to so many; return how many were made, and the sums where it came to the end."""
    heard: list[ChunkRecord] = []

    def executor(*arguments: Any) -> Iterator[ChunkRecord]:
        records = InProcess(engine.forward)(*arguments)
        yield from islice(records, after)
        if after is not None:
            raise KilledError

    (folder / "work").mkdir(parents=True, exist_ok=True)
    workshop = Workshop(folder / "work")
    try:
        totals = predict(plan, workshop, executor, heard.append)
    except KilledError:
        return len(heard), None
    totals = postprocess(plan, workshop, totals)
    (folder / "out").mkdir(exist_ok=True)
    export(plan, workshop, folder / "out")
    return len(heard), totals


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(asked=recipes(), share=st.floats(0, 1))
def test_a_plan_says_what_is_done_and_a_scene_that_is_cut_off_anywhere_comes_out_the_same(
    engines: dict[str, Engine], asked: tuple[str, dict[str, Any], tuple[int, ...]], share: float
) -> None:
    name, parts, shape = asked
    engine = engines[name]
    with TemporaryDirectory() as place:
        folder = Path(place)
        recipe = written(folder, engine, parts, shape)
        item = find_scenes(recipe, engine.model.card)[0]
        plan = plan_scene(recipe, item, engine, Selection(), folder / "scratch")
        layout = plan.task.layout
        chunks = sum(len(layout.chunks(block)) for block in layout)
        whole, totals = made(folder / "whole", plan, engine)
        assert totals is not None
        assert whole == chunks
        assert (totals.forwards, totals.forwards_minimum) == (layout.forwards, layout.forwards_minimum)

        after = round(share * chunks)
        assert made(folder / "cut", plan, engine, after)[0] == after
        again, resumed = made(folder / "cut", plan, engine)
        assert again == chunks - after
        assert resumed is not None
        assert resumed.counts == totals.counts
        assert resumed.forwards_minimum == totals.forwards_minimum
        one, two = ({path.name: path.read_bytes() for path in (folder / k / "out").iterdir()} for k in ("whole", "cut"))
        assert one == two
        assert any(path.endswith(("_labels.tif", "_dseg.nii.gz")) for path in one)
